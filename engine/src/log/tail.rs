//! Where the next batch goes.

use crate::layout::{BLOCK_BYTES, LogPosition, MetaHash};

/// The end of a shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where the next batch goes if it fits the zone.
    pub(crate) position: LogPosition,
    /// Its sequence number.
    pub(crate) sequence: u64,
    /// The hash of the batch before it.
    pub(crate) previous: MetaHash,
    /// The zone after this one.
    pub(crate) next_zone: u32,
}

impl Tail {
    /// Whether a batch of `blocks` fits what is left of the zone.
    pub(crate) fn fits(&self, blocks: u32, zone_bytes: u32) -> bool {
        let bytes = blocks as u64 * BLOCK_BYTES as u64;
        self.position.offset as u64 + bytes <= zone_bytes as u64
    }

    /// Goes on in the next zone, naming the one after it.
    pub(crate) fn enter_next_zone(&mut self, next_zone: u32) {
        self.position = LogPosition { zone: self.next_zone, offset: 0 };
        self.next_zone = next_zone;
    }

    /// Moves past a batch of `blocks` with this hash.
    pub(crate) fn advance(&mut self, blocks: u32, hash: MetaHash) {
        self.position.offset += blocks * BLOCK_BYTES as u32;
        self.sequence += 1;
        self.previous = hash;
    }
}
