//! Where a device is looked at before a store is made on it.
//!
//! A directory says by its names what is in it. A device says nothing, so the places are read where others leave their marks, and where
//! ours would lie; whatever is not zero there belongs to somebody.
//!
//! ```text
//!  head 4 MiB │ … │ anchors of a window │ … │ anchors of the next │ … │ tail 1 MiB
//! ```

use crate::layout::{
    BLOCK_BYTES, Geometry,
    regions::{ANCHOR_REGION_BYTES, DEVICE_HEADER_BYTES, Region},
};

/// At the front: superblocks of file systems, volumes and arrays, what an array holds (from 1 MiB on), and of a store of ours the
/// superblocks and, whatever its sizes, the anchors of its first shard.
const HEAD_BYTES: u64 = 4 << 20;
/// At the end: the second GPT, superblocks of md 0.90 and 1.0, two of the labels of ZFS (the last 512 KiB).
const TAIL_BYTES: u64 = 1 << 20;
/// What is read at a time.
pub(super) const PIECE_BYTES: usize = ANCHOR_REGION_BYTES as usize;

const _: () = assert!(HEAD_BYTES >= DEVICE_HEADER_BYTES + ANCHOR_REGION_BYTES);
const _: () = assert!(PIECE_BYTES.is_multiple_of(BLOCK_BYTES));

/// Offsets to read [`PIECE_BYTES`] at, on a device of `device_bytes` that is to have `shards`: aligned to blocks. The last of them may
/// reach past the end of the device.
pub(super) fn pieces(device_bytes: u64, geometry: &Geometry, shards: u16) -> Vec<u64> {
    let tail = device_bytes.saturating_sub(TAIL_BYTES);
    let tail = tail - tail % BLOCK_BYTES as u64;
    let windows = (0..shards).filter_map(|index| {
        let (window, _) = Region::window(device_bytes, shards, index, geometry.zone_bytes)?;
        Some(window.anchor_offset(0))
    });
    let mut offsets: Vec<u64> = (0..HEAD_BYTES.min(device_bytes))
        .step_by(PIECE_BYTES)
        .chain(windows)
        .chain((tail..device_bytes).step_by(PIECE_BYTES))
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::format;
    use proptest::prelude::*;

    proptest! {
        /// Head, tail and each shard's anchors are covered to the byte, on devices of any length; nothing past the end is asked for.
        #[test]
        fn every_place_is_read(units in (64u64 << 11)..(1 << 31), shards in 1..=4u16) {
            let device_bytes = units * 512;
            let geometry = format::geometry(shards, device_bytes / u64::from(shards)).unwrap();
            let offsets = pieces(device_bytes, &geometry, shards);
            let is_read = |byte: u64| {
                let at = offsets.partition_point(|offset| *offset <= byte);
                offsets[..at].last().is_some_and(|offset| byte - offset < PIECE_BYTES as u64)
            };
            for byte in [0, 4096, HEAD_BYTES - 1, device_bytes - TAIL_BYTES, device_bytes - 512, device_bytes - 1] {
                prop_assert!(is_read(byte), "{} of {}", byte, device_bytes);
            }
            for index in 0..shards {
                let (window, _) = Region::window(device_bytes, shards, index, geometry.zone_bytes).unwrap();
                prop_assert!(is_read(window.anchor_offset(0)) && is_read(window.anchor_offset(3) + 4095));
            }
            for offset in offsets {
                prop_assert!(offset.is_multiple_of(BLOCK_BYTES as u64) && offset < device_bytes);
            }
        }
    }
}
