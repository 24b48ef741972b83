//! Names of memory that belongs to somebody else.

use std::{fmt, ops::Range};

/// What the owner of the memory calls its registration (for verbs, the rkey). Whoever has it can reach the memory, so it is
/// never printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RemoteKey(pub u32);

impl fmt::Debug for RemoteKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RemoteKey(..)")
    }
}

/// What the owner of exposed memory lets the other side do with it. There is no "both": the target of a GET is never read,
/// the source of a PUT never written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// It may be read: the source of a PUT.
    Read,
    /// It may be written: the target of a GET.
    Write,
}

/// A range of somebody else's memory: where, how much, and the key. A name only: it proves nothing about what is there, and
/// whether a session may reach it is decided when an operation runs.
///
/// Invariant: `address + bytes` does not overflow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RemoteSlice {
    address: u64,
    bytes: u64,
    key: RemoteKey,
}

impl RemoteSlice {
    /// `bytes` bytes from `address` on: an address of the peer's, or an offset into what the session shares, as the
    /// transport has it. None if the end is past 2⁶⁴ − 1.
    pub fn new(address: u64, bytes: u64, key: RemoteKey) -> Option<RemoteSlice> {
        address.checked_add(bytes)?;
        Some(RemoteSlice { address, bytes, key })
    }

    /// The first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The key.
    pub fn key(&self) -> RemoteKey {
        self.key
    }

    /// A part of it, in bytes from its front. None if the range is not inside.
    pub fn slice(&self, range: Range<u64>) -> Option<RemoteSlice> {
        let inside = range.start <= range.end && range.end <= self.bytes;
        // Neither overflows: `range` is inside.
        inside.then(|| RemoteSlice {
            address: self.address + range.start,
            bytes: range.end - range.start,
            key: self.key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Shows that no slice, nor a part of one, ends past the last address, and that parts lie inside.
        #[test]
        fn parts_lie_inside(address: u64, bytes: u64, start: u64, end: u64) {
            let whole = RemoteSlice::new(address, bytes, RemoteKey(1));
            prop_assert_eq!(whole.is_some(), u128::from(address) + u128::from(bytes) < 1 << 64);
            let Some(whole) = whole else { return Ok(()) };
            let part = whole.slice(start..end);
            prop_assert_eq!(part.is_some(), start <= end && end <= bytes);
            if let Some(part) = part {
                prop_assert!(part.address() >= address);
                prop_assert!(part.address() + part.bytes() <= address + bytes);
            }
        }
    }

    #[test]
    fn a_key_is_not_printed() {
        // Shows that a log line with a slice in it gives nobody access.
        let slice = RemoteSlice::new(1, 2, RemoteKey(0xfeed)).unwrap();
        let text = format!("{slice:?}");
        assert!(!text.contains("65261") && !text.to_lowercase().contains("feed"), "{text}");
    }
}
