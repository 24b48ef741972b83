//! Superblocks and anchors, which lie at known places and are read before anything else.

use crossdock::layout::{Anchor, BLOCK_BYTES, Geometry, Superblock};

use super::KEY;

/// Tries one input as both.
pub fn run(bytes: &[u8]) {
    if let Ok(superblock) = Superblock::decode(bytes) {
        assert_eq!(bytes.get(..BLOCK_BYTES), Some(&superblock.encode()[..]), "a superblock has one encoding");
        assert!(superblock.geometry.is_well_formed(), "an accepted geometry is one");
    }
    if let Ok(anchor) = Anchor::decode(bytes, &KEY) {
        assert_eq!(bytes.get(..BLOCK_BYTES), Some(&anchor.encode(&KEY)[..]), "an anchor has one encoding");
    }
}

/// A superblock of a small store.
pub fn seeds() -> Vec<Vec<u8>> {
    let superblock = Superblock {
        store: 0x0123_4567_89ab_cdef,
        epoch: 4,
        device_index: 0,
        device_count: 1,
        shard_first: 0,
        geometry: Geometry {
            shard_count: 4,
            zone_bytes: 1 << 20,
            inline_bytes_max: 1024,
            packed_bytes_max: 64 << 10,
            zones_max: 256,
            mixed: true,
        },
        secret: KEY.0,
        features: 0,
        created_ms: 1_700_000_000_000,
    };
    vec![superblock.encode().to_vec()]
}
