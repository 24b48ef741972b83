//! Incremental computation of one checksum.

use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::algorithm::Algorithm;
use super::value::Checksum;

/// Computes a checksum over bytes that come in pieces. Does not allocate.
#[derive(Clone)]
pub struct Hasher {
    state: State,
}

#[derive(Clone)]
enum State {
    Crc(Algorithm, crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

/// crc-fast's name for a CRC; `None` for a hash.
pub(super) fn crc_algorithm(algorithm: Algorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        Algorithm::Sha1 | Algorithm::Sha256 => None,
    }
}

impl Hasher {
    /// A computation over no bytes yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match (algorithm, crc_algorithm(algorithm)) {
            (_, Some(crc)) => State::Crc(algorithm, crc_fast::Digest::new(crc)),
            (Algorithm::Sha1, None) => State::Sha1(Sha1::new()),
            (_, None) => State::Sha256(Sha256::new()),
        };
        Hasher { state }
    }

    /// The checksum of `bytes` in one call.
    pub fn checksum(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.state {
            State::Crc(algorithm, _) => algorithm,
            State::Sha1(_) => Algorithm::Sha1,
            State::Sha256(_) => Algorithm::Sha256,
        }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(_, digest) => digest.update(bytes),
            State::Sha1(digest) => digest.update(bytes),
            State::Sha256(digest) => digest.update(bytes),
        }
    }

    /// The checksum of all bytes taken in.
    pub fn finish(self) -> Checksum {
        match self.state {
            State::Crc(algorithm, digest) => Checksum::of_crc(algorithm, digest.finalize()),
            State::Sha1(digest) => Checksum::of_bytes(Algorithm::Sha1, &digest.finalize()),
            State::Sha256(digest) => Checksum::of_bytes(Algorithm::Sha256, &digest.finalize()),
        }
    }
}

impl core::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Hasher({})", self.algorithm().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_values_hold() {
        // The published check values over "123456789", as S3 writes them, and the empty object's.
        let table = [
            (Algorithm::Crc32, "cbf43926", "AAAAAA=="),
            (Algorithm::Crc32c, "e3069283", "AAAAAA=="),
            (Algorithm::Crc64Nvme, "ae8b14860a799888", "AAAAAAAAAAA="),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
            (
                Algorithm::Sha256,
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
                "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            ),
        ];
        for (algorithm, hex, empty) in table {
            let value = Hasher::checksum(algorithm, b"123456789");
            let found: String = value.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, hex, "{algorithm:?}");
            assert_eq!(Hasher::checksum(algorithm, b"").to_string(), empty);
        }
    }

    proptest! {
        #[test]
        fn pieces_make_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..600) {
            // Cut anywhere, the pieces give the checksum of the whole.
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            for algorithm in Algorithm::ALL {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(first);
                hasher.update(second);
                prop_assert_eq!(hasher.finish(), Hasher::checksum(algorithm, &bytes));
            }
        }
    }
}
