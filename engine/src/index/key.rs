//! The order of the index: bucket, then object key bytewise, then newest version first.
//!
//! ```text
//! bucket: u64 big endian ‖ key with 00 → 00 FF ‖ 00 00 ‖ !version: u64 big endian
//! ```
//!
//! The terminator 00 00 sorts before every continuation of the key, and an escaped zero (00 FF) before every byte
//! above zero, so that comparing encodings is comparing (bucket, key, newest first).

use crate::layout::{BucketId, Version};

/// Longest object key, in bytes (Amazon S3 User Guide, «Naming Amazon S3 objects»: 1,024 bytes of UTF-8).
pub const KEY_BYTES_MAX: usize = 1024;

/// The encoding of a key's first possible version: where a scan of its versions starts.
pub(crate) fn key_start(bucket: BucketId, key: &[u8]) -> Vec<u8> {
    let mut encoded = prefix_start(bucket, key);
    encoded.extend_from_slice(&[0, 0]);
    encoded
}

/// Where a key's versions are, encoded on the stack unless the key is long or has a zero in it: looking one up takes nothing
/// of the heap.
pub(crate) struct Place {
    /// The key's start, and room for a version; unless it is in `elsewhere`.
    here: [u8; PLACE_BYTES],
    elsewhere: Vec<u8>,
    start_bytes: usize,
}

/// Enough for keys of 108 bytes: more than S3's own examples have, and two lines of a cache.
const PLACE_BYTES: usize = 128 - size_of::<u16>();
const BUCKET_BYTES: usize = size_of::<u64>();
const END_BYTES: usize = 2;
const VERSION_BYTES: usize = size_of::<u64>();

impl Place {
    pub(crate) fn of(bucket: BucketId, key: &[u8]) -> Place {
        let start_bytes = BUCKET_BYTES + key.len() + END_BYTES;
        let mut place = Place { here: [0; PLACE_BYTES], elsewhere: Vec::new(), start_bytes };
        if start_bytes + VERSION_BYTES > PLACE_BYTES || key.contains(&0) {
            place.elsewhere = key_start(bucket, key);
            place.start_bytes = place.elsewhere.len();
            place.elsewhere.extend_from_slice(&[0; VERSION_BYTES]);
        } else {
            // The end, two zeros, is there already.
            let (front, behind) = place.here.split_at_mut(BUCKET_BYTES);
            front.copy_from_slice(&bucket.0.to_be_bytes());
            behind[..key.len()].copy_from_slice(key);
        }
        place
    }

    /// The encoding of the key's first possible version, without that: every version of the key starts with it, and nothing else.
    pub(crate) fn start(&self) -> &[u8] {
        let all = if self.elsewhere.is_empty() { &self.here[..] } else { &self.elsewhere };
        &all[..self.start_bytes]
    }

    /// The encoding of a version.
    pub(crate) fn version(&mut self, version: Version) -> &[u8] {
        let all = if self.elsewhere.is_empty() { &mut self.here[..] } else { &mut self.elsewhere };
        let encoded = &mut all[..self.start_bytes + VERSION_BYTES];
        set_version(encoded, version);
        encoded
    }
}

/// Makes an encoding that of another version of the same key.
pub(crate) fn set_version(encoded: &mut [u8], version: Version) {
    let (_, last) = encoded.split_last_chunk_mut().expect("an encoding ends with a version");
    *last = (!version.0).to_be_bytes();
}

/// The encoding at or before every key that starts with `prefix`.
pub(crate) fn prefix_start(bucket: BucketId, prefix: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(8 + prefix.len() + 10);
    start_prefix(&mut encoded, bucket, prefix);
    encoded
}

/// As [`prefix_start`], in memory that is there.
fn start_prefix(encoded: &mut Vec<u8>, bucket: BucketId, prefix: &[u8]) {
    encoded.clear();
    encoded.extend_from_slice(&bucket.0.to_be_bytes());
    // Hardly any key has a zero in it: what lies between them goes at once.
    let mut pieces = prefix.split(|byte| *byte == 0);
    encoded.extend_from_slice(pieces.next().unwrap_or_default());
    for piece in pieces {
        encoded.extend_from_slice(&[0, 0xFF]);
        encoded.extend_from_slice(piece);
    }
}

/// The encoding after every version of `key`, and before the next key.
pub(crate) fn key_end(bucket: BucketId, key: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(8 + key.len() + 10);
    end_key(&mut encoded, bucket, key);
    encoded
}

/// As [`key_end`], in memory that is there.
pub(crate) fn end_key(encoded: &mut Vec<u8>, bucket: BucketId, key: &[u8]) {
    start_prefix(encoded, bucket, key);
    encoded.extend_from_slice(&[0, 1]);
}

/// The encoding after every key of the bucket.
pub(crate) fn bucket_end(bucket: BucketId) -> Vec<u8> {
    bucket.0.saturating_add(1).to_be_bytes().to_vec()
}

pub(crate) fn encode(bucket: BucketId, key: &[u8], version: Version) -> Box<[u8]> {
    let mut encoded = key_start(bucket, key);
    encoded.extend_from_slice(&(!version.0).to_be_bytes());
    encoded.into_boxed_slice()
}

/// The parts of an encoding made by [`encode`].
pub(crate) fn decode(encoded: &[u8]) -> (BucketId, Vec<u8>, Version) {
    let malformed = "an index key is made by encode alone";
    let (bucket, rest) = encoded.split_first_chunk().expect(malformed);
    let (escaped, version) = rest.split_last_chunk().expect(malformed);
    let escaped = escaped.strip_suffix(&[0, 0]).expect(malformed);
    let mut key = Vec::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        let (piece, behind) = rest.split_at(zero + 1);
        key.extend_from_slice(piece);
        rest = behind.split_first().expect(malformed).1;
    }
    key.extend_from_slice(rest);
    (BucketId(u64::from_be_bytes(*bucket)), key, Version(!u64::from_be_bytes(*version)))
}

/// The least key above every key that starts with `prefix`; none when there is no such key.
pub(crate) fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != 0xFF)?;
    let mut next = prefix.get(..=kept)?.to_vec();
    *next.last_mut()? += 1;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The encodings sort as (bucket, key, newest version first), and come back unchanged.
        #[test]
        fn order_and_round_trip(
            a in (0u64..3, proptest::collection::vec(0u8..4, 0..5), 0u64..4),
            b in (0u64..3, proptest::collection::vec(0u8..4, 0..5), 0u64..4),
        ) {
            let of = |x: &(u64, Vec<u8>, u64)| encode(BucketId(x.0), &x.1, Version(x.2));
            let order = (a.0, &a.1, !a.2).cmp(&(b.0, &b.1, !b.2));
            prop_assert_eq!(of(&a).cmp(&of(&b)), order);
            let (bucket, key, version) = decode(&of(&a));
            prop_assert_eq!((bucket.0, key, version.0), a);
        }

        /// A place says what the encoding says, wherever it is kept: on both sides of what fits, with zeros and without.
        #[test]
        fn places_are_encodings(length in 90usize..130, zero in 0usize..200, versions in (0u64..9, 0u64..9)) {
            let mut key = vec![7; length];
            if let Some(byte) = key.get_mut(zero) {
                *byte = 0;
            }
            let (bucket, mut place) = (BucketId(3), Place::of(BucketId(3), &key));
            prop_assert_eq!(place.start(), &*key_start(bucket, &key));
            for version in [Version(versions.0), Version(versions.1)] {
                prop_assert_eq!(place.version(version), &*encode(bucket, &key, version));
            }
            prop_assert_eq!(place.start(), &*key_start(bucket, &key));
        }

        /// The successor of a prefix lies above all that starts with it and not above anything else that is greater.
        #[test]
        fn successor_is_tight(
            prefix in proptest::collection::vec(250u8..=255, 0..4),
            other in proptest::collection::vec(250u8..=255, 0..6),
        ) {
            match successor(&prefix) {
                None => prop_assert!(prefix.iter().all(|&b| b == 0xFF)),
                Some(next) => {
                    prop_assert_eq!(other >= next, other > prefix && !other.starts_with(&prefix));
                }
            }
        }
    }
}
