//! Incremental computation of one checksum.

use core::hash::Hasher as _;

use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use twox_hash::{XxHash3_64, XxHash3_128, XxHash64};

use super::super::md5::Md5;
use super::algorithm::Algorithm;
use super::value::Checksum;

/// Computes a checksum over bytes that come in pieces. Does not allocate while they do.
#[derive(Clone)]
pub struct Hasher {
    state: State,
}

#[derive(Clone)]
enum State {
    Crc(Algorithm, crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
    XxHash64(XxHash64),
    XxHash3(XxHash3_64),
    XxHash128(XxHash3_128),
}

/// crc-fast's name for a CRC; `None` for a hash.
pub(super) fn crc_algorithm(algorithm: Algorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        Algorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        Algorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        Algorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        Algorithm::Sha1
        | Algorithm::Sha256
        | Algorithm::Sha512
        | Algorithm::Md5
        | Algorithm::XxHash64
        | Algorithm::XxHash3
        | Algorithm::XxHash128 => None,
    }
}

impl Hasher {
    /// A computation over no bytes yet.
    pub fn new(algorithm: Algorithm) -> Self {
        let crc = |crc| State::Crc(algorithm, crc_fast::Digest::new(crc));
        let state = match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => State::Sha1(Sha1::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
            Algorithm::Md5 => State::Md5(Md5::new()),
            Algorithm::XxHash64 => State::XxHash64(XxHash64::with_seed(0)),
            Algorithm::XxHash3 => State::XxHash3(XxHash3_64::with_seed(0)),
            Algorithm::XxHash128 => State::XxHash128(XxHash3_128::with_seed(0)),
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
            State::Sha512(_) => Algorithm::Sha512,
            State::Md5(_) => Algorithm::Md5,
            State::XxHash64(_) => Algorithm::XxHash64,
            State::XxHash3(_) => Algorithm::XxHash3,
            State::XxHash128(_) => Algorithm::XxHash128,
        }
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(_, digest) => digest.update(bytes),
            State::Sha1(digest) => digest.update(bytes),
            State::Sha256(digest) => digest.update(bytes),
            State::Sha512(digest) => digest.update(bytes),
            State::Md5(digest) => digest.update(bytes),
            State::XxHash64(digest) => digest.write(bytes),
            State::XxHash3(digest) => digest.write(bytes),
            State::XxHash128(digest) => digest.write(bytes),
        }
    }

    /// The checksum of all bytes taken in. Those of the xxHash family are in their canonical form, which is big-endian
    /// (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>).
    pub fn finish(self) -> Checksum {
        match self.state {
            State::Crc(algorithm, digest) => Checksum::of_crc(algorithm, digest.finalize()),
            State::Sha1(digest) => Checksum::of_bytes(Algorithm::Sha1, &digest.finalize()),
            State::Sha256(digest) => Checksum::of_bytes(Algorithm::Sha256, &digest.finalize()),
            State::Sha512(digest) => Checksum::of_bytes(Algorithm::Sha512, &digest.finalize()),
            State::Md5(digest) => Checksum::of_bytes(Algorithm::Md5, &digest.finish()),
            State::XxHash64(digest) => {
                Checksum::of_bytes(Algorithm::XxHash64, &digest.finish().to_be_bytes())
            }
            State::XxHash3(digest) => Checksum::of_bytes(Algorithm::XxHash3, &digest.finish().to_be_bytes()),
            State::XxHash128(digest) => {
                Checksum::of_bytes(Algorithm::XxHash128, &digest.finish_128().to_be_bytes())
            }
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
            (
                Algorithm::Sha512,
                "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
                "z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
            ),
            (Algorithm::Md5, "25f9e794323b453885f5181f1b624d0b", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            (Algorithm::XxHash64, "8cb841db40e6ae83", "70bbN1HY6Zk="),
            (Algorithm::XxHash3, "72dcb18b67a17dff", "LQaABTjTlMI="),
            (Algorithm::XxHash128, "33119477ede5dcd5e9716427681d5860", "maoG0wFHmNhgAcMkRo1Jfw=="),
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
