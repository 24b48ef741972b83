//! Checksums of metadata, keyed with the store's secret.
//!
//! A log batch carries client bytes next to metadata. Without a key a client could upload bytes that look like a batch
//! header, and a recovery that reads the wrong block would believe them. SipHash-2-4 with 128 bits of output is a
//! pseudo-random function of its key: who does not know the secret can not make a header that verifies, and 128 bits
//! are enough to chain batches by.
//!
//! "SipHash: a fast short-input PRF", Aumasson and Bernstein, <https://www.aumasson.jp/siphash/siphash.pdf>, section 2;
//! the 128-bit variant is that of the reference implementation.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// The secret of a store: keys the checksums of metadata, so that client bytes can not imitate it.
#[derive(Clone, Copy)]
pub struct SecretKey(pub [u8; 16]);

// A key must not end in a log line.
impl std::fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretKey(..)")
    }
}

/// A keyed checksum of metadata.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MetaHash(pub [u8; 16]);

impl std::fmt::Debug for MetaHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "MetaHash({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What a checksum is of, hashed in front of the bytes: equal bytes in different roles have different checksums.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Anchor = 1,
    BatchHeader = 2,
    BatchEntries = 3,
    ChunkHeader = 4,
    ChunkPayload = 5,
}

/// The checksum of the bytes in a role.
pub(super) fn keyed(key: &SecretKey, role: Role, bytes: &[u8]) -> MetaHash {
    let mut hasher = SipHasher24::new_with_key(&key.0);
    hasher.write(&(role as u64).to_le_bytes());
    hasher.write(bytes);
    MetaHash(hasher.finish128().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_role_and_bytes_each_matter() {
        // Shows that a checksum is bound to its store and its role, and that it is stable (it lies on disks).
        let key = SecretKey(*b"0123456789abcdef");
        let hash = keyed(&key, Role::Anchor, b"bytes");
        assert_eq!(hash, keyed(&key, Role::Anchor, b"bytes"));
        assert_ne!(hash, keyed(&key, Role::BatchHeader, b"bytes"));
        assert_ne!(hash, keyed(&SecretKey(*b"0123456789abcdeg"), Role::Anchor, b"bytes"));
        assert_ne!(hash, keyed(&key, Role::Anchor, b"bytfs"));
    }

    #[test]
    fn the_function_is_siphash_2_4_128() {
        // Shows agreement with the reference implementation's vectors_sip128: key 00..0f, inputs of 8 bytes 00..07.
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let mut hasher = SipHasher24::new_with_key(&key);
        hasher.write(&[0, 1, 2, 3, 4, 5, 6, 7]);
        let expected =
            [0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61, 0x0f, 0x83, 0xe2, 0x64, 0xf3, 0x14, 0x97, 0xb4];
        assert_eq!(hasher.finish128().as_bytes(), expected);
    }

    #[test]
    fn a_key_is_not_printed() {
        // Shows that the secret does not reach a log line by way of Debug.
        assert_eq!(format!("{:?}", SecretKey([0x41; 16])), "SecretKey(..)");
    }
}
