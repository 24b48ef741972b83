//! Checksum values, and the checksum of an object made of parts.
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>, "Full object and composite checksum
//! types", "Using part-level checksums for multipart upload".)
#![deny(clippy::indexing_slicing)]

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::algorithm::{Algorithm, ChecksumType, DIGEST_BYTES_MAX};
use super::hasher::{Hasher, crc_algorithm};

/// A checksum value with its algorithm. Displays as base64, as S3 carries it. CRCs are big-endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: Algorithm,
    /// The value, then zeros.
    bytes: [u8; DIGEST_BYTES_MAX],
}

impl Checksum {
    /// A value from its bytes; `None` unless there are exactly [`Algorithm::digest_bytes`].
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.digest_bytes()).then(|| Self::of_bytes(algorithm, bytes))
    }

    /// A CRC from its number; `None` if `algorithm` is no CRC, or narrower than `value`.
    pub fn from_crc(algorithm: Algorithm, value: u64) -> Option<Self> {
        let fits = algorithm == Algorithm::Crc64Nvme || u32::try_from(value).is_ok();
        (algorithm.is_crc() && fits).then(|| Self::of_crc(algorithm, value))
    }

    pub(super) fn of_bytes(algorithm: Algorithm, value: &[u8]) -> Self {
        let mut bytes = [0; DIGEST_BYTES_MAX];
        for (to, from) in bytes.iter_mut().zip(value).take(algorithm.digest_bytes()) {
            *to = *from;
        }
        Checksum { algorithm, bytes }
    }

    pub(super) fn of_crc(algorithm: Algorithm, value: u64) -> Self {
        let bytes = value.to_be_bytes();
        let width = algorithm.digest_bytes().min(8);
        Self::of_bytes(algorithm, bytes.get(8 - width..).unwrap_or(&bytes))
    }

    /// Reads base64 (standard alphabet, padded, no white space) of exactly the algorithm's length.
    pub fn parse(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        if text.len() != algorithm.digest_bytes().div_ceil(3) * 4 {
            return None;
        }
        // 88 characters at most, which decode to 66 bytes at most.
        let mut bytes = [0; DIGEST_BYTES_MAX + 2];
        let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
        Self::new(algorithm, bytes.get(..length)?)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value: [`Algorithm::digest_bytes`] bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.algorithm.digest_bytes()).unwrap_or(&self.bytes)
    }

    /// The value of a CRC as a number.
    pub fn crc(&self) -> Option<u64> {
        let number = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        self.algorithm.is_crc().then(|| self.bytes().iter().fold(0, number))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&base64::display::Base64Display::new(self.bytes(), &STANDARD), f)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.algorithm.name())
    }
}

/// The checksum of a stored object: a value, and for the composite type the number of parts it was made of.
/// Displays as S3 carries it: `base64`, or `base64-N` for a composite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectChecksum {
    /// The value.
    pub checksum: Checksum,
    /// The number of parts of a composite; `None` for a full-object checksum.
    pub part_count: Option<u32>,
}

impl ObjectChecksum {
    /// Reads `base64` or `base64-N`, N from 1 to 10,000.
    pub fn parse(algorithm: Algorithm, text: &[u8]) -> Option<Self> {
        let Some(dash) = text.iter().position(|&byte| byte == b'-') else {
            return Some(ObjectChecksum { checksum: Checksum::parse(algorithm, text)?, part_count: None });
        };
        let (value, count) = text.split_at_checked(dash)?;
        let count = super::super::http::parse_decimal(count.get(1..)?)?;
        let count = u32::try_from(count).ok().filter(|count| (1..=10_000).contains(count))?;
        Some(ObjectChecksum { checksum: Checksum::parse(algorithm, value)?, part_count: Some(count) })
    }

    /// What the value covers.
    pub fn kind(&self) -> ChecksumType {
        if self.part_count.is_some() { ChecksumType::Composite } else { ChecksumType::FullObject }
    }
}

impl From<Checksum> for ObjectChecksum {
    fn from(checksum: Checksum) -> Self {
        ObjectChecksum { checksum, part_count: None }
    }
}

impl fmt::Display for ObjectChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.checksum, f)?;
        self.part_count.map_or(Ok(()), |count| write!(f, "-{count}"))
    }
}

/// The composite checksum of a multipart object: the checksum of its parts' checksums, in order.
///
/// `None` if there is no part, a part's value is of another algorithm, or the algorithm makes no composites.
pub fn composite(algorithm: Algorithm, parts: impl IntoIterator<Item = Checksum>) -> Option<ObjectChecksum> {
    if !algorithm.allows(ChecksumType::Composite) {
        return None;
    }
    let mut hasher = Hasher::new(algorithm);
    let mut count = 0u32;
    for part in parts {
        if part.algorithm != algorithm {
            return None;
        }
        hasher.update(part.bytes());
        count = count.checked_add(1)?;
    }
    (count > 0).then(|| ObjectChecksum { checksum: hasher.finish(), part_count: Some(count) })
}

/// The checksum of two adjoining pieces, from their checksums and the size of the second, in O(log size).
///
/// `None` if the algorithms differ or are no CRC.
pub fn combine(first: &Checksum, second: &Checksum, second_bytes: u64) -> Option<Checksum> {
    if first.algorithm != second.algorithm {
        return None;
    }
    let crc = crc_algorithm(first.algorithm)?;
    let value = crc_fast::checksum_combine(crc, first.crc()?, second.crc()?, second_bytes);
    Some(Checksum::of_crc(first.algorithm, value))
}

/// The full-object checksum of pieces with the sizes given, in order.
///
/// `None` if `algorithm` is no CRC or a piece's is another.
pub fn full_object(
    algorithm: Algorithm,
    pieces: impl IntoIterator<Item = (Checksum, u64)>,
) -> Option<Checksum> {
    let mut whole = Checksum::from_crc(algorithm, 0)?;
    for (piece, bytes) in pieces {
        whole = combine(&whole, &piece, bytes)?;
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_must_be_exact() {
        // Length, alphabet, padding and unused bits are all checked.
        assert_eq!(Checksum::parse(Algorithm::Crc32, b"AAAAAQ==").and_then(|c| c.crc()), Some(1));
        for bad in
            ["", "AAAA", "AAAAAQ", "AAAAAR==", "AAAAAQ=A", " AAAAQ==", "AAAAAAAA", "AAAA-Q==", "AAAAAAAAAAA="]
        {
            assert_eq!(Checksum::parse(Algorithm::Crc32, bad.as_bytes()), None, "{bad}");
        }
        let composite = ObjectChecksum::parse(Algorithm::Crc32, b"AAAAAQ==-12").unwrap();
        assert_eq!((composite.part_count, composite.kind()), (Some(12), ChecksumType::Composite));
        for bad in ["AAAAAQ==-", "AAAAAQ==-0", "AAAAAQ==-10001", "AAAAAQ==-+1", "-1", "AAAAAQ==-1-1"] {
            assert_eq!(ObjectChecksum::parse(Algorithm::Crc32, bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_composite_covers_the_parts_values() {
        // SHA-256 over the two parts' raw hashes with the suffix -2; CRC64NVME makes no composite.
        let parts = [b"a", b"b"].map(|part| Hasher::checksum(Algorithm::Sha256, part));
        let expected = Hasher::checksum(Algorithm::Sha256, &[parts[0].bytes(), parts[1].bytes()].concat());
        let found = composite(Algorithm::Sha256, parts).unwrap();
        assert_eq!(found.to_string(), format!("{expected}-2"));
        assert_eq!(composite(Algorithm::Sha1, parts), None);
        assert_eq!(composite(Algorithm::Sha1, []), None);
        assert_eq!(composite(Algorithm::Crc64Nvme, [Hasher::checksum(Algorithm::Crc64Nvme, b"a")]), None);
    }

    #[test]
    fn hashes_do_not_combine() {
        // Only CRCs of the same kind combine.
        let sha = Hasher::checksum(Algorithm::Sha1, b"a");
        let crc = Hasher::checksum(Algorithm::Crc32, b"a");
        assert_eq!(combine(&sha, &sha, 1), None);
        assert_eq!(combine(&crc, &Hasher::checksum(Algorithm::Crc32c, b"a"), 1), None);
        assert_eq!(full_object(Algorithm::Sha1, []), None);
        assert_eq!(full_object(Algorithm::Crc32, [(sha, 1)]), None);
    }

    proptest! {
        #[test]
        fn combined_pieces_are_the_whole(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6)) {
            // For each CRC, pieces of any size (empty ones too) combine to the checksum of the whole.
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let parts = pieces.iter().map(|p| (Hasher::checksum(algorithm, p), p.len() as u64));
                prop_assert_eq!(full_object(algorithm, parts), Some(Hasher::checksum(algorithm, &pieces.concat())));
            }
        }

        #[test]
        fn parse_inverts_display(bytes in proptest::collection::vec(any::<u8>(), DIGEST_BYTES_MAX), count in 1u32..=10_000) {
            // Every value survives the round trip, with and without a part count.
            for algorithm in Algorithm::ALL {
                let checksum = Checksum::new(algorithm, &bytes[..algorithm.digest_bytes()]).unwrap();
                prop_assert_eq!(Checksum::parse(algorithm, checksum.to_string().as_bytes()), Some(checksum));
                let composite = ObjectChecksum { checksum, part_count: Some(count) };
                prop_assert_eq!(ObjectChecksum::parse(algorithm, composite.to_string().as_bytes()), Some(composite));
                prop_assert_eq!(checksum.crc().and_then(|crc| Checksum::from_crc(algorithm, crc)), algorithm.is_crc().then_some(checksum));
            }
        }

        #[test]
        fn no_bytes_panic(text in proptest::collection::vec(any::<u8>(), 0..100)) {
            // Any bytes are a value or are not.
            for algorithm in Algorithm::ALL {
                let _ = ObjectChecksum::parse(algorithm, &text);
            }
        }
    }
}
