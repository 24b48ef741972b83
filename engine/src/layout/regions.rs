//! Where structures lie: offsets in the files of a directory, and in a raw block device.
//!
//! ```text
//!  files     superblock     copy 0 · 60 KiB · copy 1 · 60 KiB · copy 2 · 60 KiB · copy 3
//!            log of shard   anchors 64 KiB │ zone 0 │ zone 1 │ …
//!            data of shard  zone 0 │ zone 1 │ …         zones of either file are used for log or for data
//!
//!  device    superblocks 1 MiB │ window of the first shard │ window of the next │ … │ rest unused
//!            window         anchors 64 KiB │ zone 0 │ zone 1 │ …     each zone is used for log or for data
//! ```
//!
//! Copies lie apart so that one bad page, or one bad erase block of the usual sizes, can not take two of them.

use super::{COPIES, ZONE_BYTES_MAX};

/// Bytes from the start of one superblock copy to the next.
pub const SUPERBLOCK_STRIDE_BYTES: u64 = 64 * 1024;
/// Bytes that the superblock copies take, as a file or at the front of a raw device before the windows.
pub const SUPERBLOCK_FILE_BYTES: u64 = COPIES as u64 * SUPERBLOCK_STRIDE_BYTES;
/// Bytes at the front of a raw device before the first window.
pub const DEVICE_HEADER_BYTES: u64 = 1024 * 1024;

/// Bytes from the start of one anchor copy to the next.
pub const ANCHOR_STRIDE_BYTES: u64 = 16 * 1024;
/// Bytes at the front of a log file or of a window that hold the anchors; the zones follow.
pub const ANCHOR_REGION_BYTES: u64 = COPIES as u64 * ANCHOR_STRIDE_BYTES;

/// Set in the number of a zone that lies in a shard's other file: of a log zone in the data file, of a data zone in the log's. The
/// rest of the number is that of the zone there.
pub const LENT: u32 = 1 << 31;

const _: () = assert!(SUPERBLOCK_FILE_BYTES <= DEVICE_HEADER_BYTES);

/// Where a superblock copy lies, from the start of the `superblock` file or of the raw device.
pub fn superblock_offset(copy: usize) -> u64 {
    assert!(copy < COPIES, "there is no superblock copy {copy}");
    copy as u64 * SUPERBLOCK_STRIDE_BYTES
}

/// Where an anchor copy lies, from the start of the log file or of the window.
pub fn anchor_offset(copy: usize) -> u64 {
    assert!(copy < COPIES, "there is no anchor copy {copy}");
    copy as u64 * ANCHOR_STRIDE_BYTES
}

/// Where a shard's region lies in its file or device: anchors first, where there are any, then zones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Bytes from the start of the file or device to the first zone.
    zones_start: u64,
    /// Bytes from the start of the file or device to the anchors; `None` in a data file.
    anchors_start: Option<u64>,
    zone_bytes: u32,
}

impl Region {
    /// The log file of a shard: anchors at 0, zones behind them.
    pub fn log_file(zone_bytes: u32) -> Region {
        Region::new(ANCHOR_REGION_BYTES, Some(0), zone_bytes)
    }

    /// The data file of a shard: zones at 0, no anchors.
    pub fn data_file(zone_bytes: u32) -> Region {
        Region::new(0, None, zone_bytes)
    }

    /// A shard's window of a raw device, for the `index`-th of the `shards` that live on a device of `device_bytes`;
    /// with it the count of zones it has. `None` if not even one zone fits in each window, or `index` is none of them.
    ///
    /// Windows are equal: the rounding leaves less than `shards · zone_bytes` unused at the end of the device.
    pub fn window(device_bytes: u64, shards: u16, index: u16, zone_bytes: u32) -> Option<(Region, u32)> {
        if index >= shards {
            return None;
        }
        let each = device_bytes.checked_sub(DEVICE_HEADER_BYTES)? / u64::from(shards);
        let zones = each.checked_sub(ANCHOR_REGION_BYTES)? / u64::from(zone_bytes);
        let zones = u32::try_from(zones).unwrap_or(u32::MAX);
        if zones == 0 {
            return None;
        }
        let window_bytes = ANCHOR_REGION_BYTES + u64::from(zones) * u64::from(zone_bytes);
        let start = DEVICE_HEADER_BYTES + u64::from(index) * window_bytes;
        Some((Region::new(start + ANCHOR_REGION_BYTES, Some(start), zone_bytes), zones))
    }

    fn new(zones_start: u64, anchors_start: Option<u64>, zone_bytes: u32) -> Region {
        assert!(
            zone_bytes.is_power_of_two() && zone_bytes <= ZONE_BYTES_MAX,
            "{zone_bytes} is no size of a zone"
        );
        Region { zones_start, anchors_start, zone_bytes }
    }

    /// Where an anchor copy lies.
    ///
    /// # Panics
    /// If the region has no anchors, or there is no such copy.
    pub fn anchor_offset(&self, copy: usize) -> u64 {
        self.anchors_start.expect("a data file has no anchors") + anchor_offset(copy)
    }

    /// Where a zone starts.
    pub fn zone_offset(&self, zone: u32) -> u64 {
        self.zones_start + u64::from(zone) * u64::from(self.zone_bytes)
    }

    /// Where the region ends when it has this many zones: how long the file or device must be.
    pub fn end(&self, zones: u32) -> u64 {
        self.zone_offset(zones)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::BLOCK_BYTES;
    use proptest::prelude::*;

    #[test]
    fn the_offsets_are_those_of_the_format() {
        // Shows the numbers that the format document gives.
        assert_eq!((0..4).map(superblock_offset).collect::<Vec<_>>(), [0, 65_536, 131_072, 196_608]);
        let log = Region::log_file(1 << 20);
        assert_eq!(
            (0..4).map(|copy| log.anchor_offset(copy)).collect::<Vec<_>>(),
            [0, 16_384, 32_768, 49_152]
        );
        assert_eq!(log.zone_offset(0), 65_536);
        assert_eq!(log.zone_offset(3), 65_536 + 3 * (1 << 20));
        assert_eq!(Region::data_file(1 << 20).zone_offset(3), 3 * (1 << 20));
        assert_eq!(Region::data_file(1 << 20).end(2), 2 << 20);
    }

    #[test]
    fn a_device_too_small_has_no_window() {
        // Shows that the smallest device is header, anchors and one zone, to the byte.
        let least = DEVICE_HEADER_BYTES + ANCHOR_REGION_BYTES + 65_536;
        assert!(Region::window(least, 1, 0, 65_536).is_some());
        assert!(Region::window(least - 1, 1, 0, 65_536).is_none());
        assert!(Region::window(0, 1, 0, 65_536).is_none());
        assert!(Region::window(least, 1, 1, 65_536).is_none());
    }

    proptest! {
        #[test]
        fn windows_do_not_overlap(device_bytes in 0..1u64 << 44, shards in 1..=256u16, zone_order in 16..=25u32) {
            // Shows that windows lie behind one another, inside the device, aligned to blocks, with little left over.
            let zone_bytes = 1 << zone_order;
            let mut end = DEVICE_HEADER_BYTES;
            for index in 0..shards {
                let Some((window, zones)) = Region::window(device_bytes, shards, index, zone_bytes) else {
                    prop_assert_eq!(index, 0);
                    return Ok(());
                };
                prop_assert_eq!(window.anchor_offset(0), end);
                prop_assert_eq!(window.zone_offset(0), end + ANCHOR_REGION_BYTES);
                prop_assert!(window.zone_offset(0).is_multiple_of(BLOCK_BYTES as u64));
                end = window.end(zones);
            }
            prop_assert!(end <= device_bytes);
            prop_assert!(device_bytes - end < u64::from(shards) * (u64::from(zone_bytes) + 1));
        }
    }
}
