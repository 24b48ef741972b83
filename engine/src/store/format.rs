//! Sizes of a new store.

use crate::layout::{Geometry, SHARDS_MAX, ZONE_BYTES_MAX, regions::LENT};

/// The smallest zone of a store on a device: several of the largest batches fit.
const ZONE_BYTES_MIN: u64 = 1 << 20;
/// Zones a shard should have at least: for the log to turn over, and for objects of several sizes.
const ZONES_MIN: u64 = 16;
/// Objects up to this size lie in the index.
pub(crate) const INLINE_BYTES_MAX: u32 = 1024;
/// Objects up to this size are packed into log batches.
pub(crate) const PACKED_BYTES_MAX: u32 = 256 * 1024;

/// Shards for so many cores and devices, when nobody says otherwise: two for each core, so that a core can be added
/// without shards being few, and at least one for each device.
pub(crate) fn default_shard_count(core_count: usize, device_count: usize) -> u16 {
    let wanted = (2 * core_count).max(device_count).next_power_of_two();
    u16::try_from(wanted).unwrap_or(SHARDS_MAX).min(SHARDS_MAX)
}

/// The sizes of a store whose shards have so many bytes each; none if that is too little.
pub(crate) fn geometry(shard_count: u16, shard_bytes: u64) -> Option<Geometry> {
    if shard_bytes < ZONES_MIN * ZONE_BYTES_MIN {
        return None;
    }
    // A power of two, so that a shard has a few dozen zones to a few thousand.
    let wanted = (shard_bytes / 64).max(1);
    let zone_bytes = (1u64 << wanted.ilog2()).clamp(ZONE_BYTES_MIN, u64::from(ZONE_BYTES_MAX));
    let zones_max = u32::try_from(shard_bytes / zone_bytes).unwrap_or(u32::MAX).min(LENT - 1);
    Some(Geometry {
        shard_count,
        zone_bytes: zone_bytes as u32,
        inline_bytes_max: INLINE_BYTES_MAX,
        packed_bytes_max: PACKED_BYTES_MAX,
        zones_max,
        mixed: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store of 256 MiB works, one of many terabytes has the largest zones, and less than the least is refused.
    #[test]
    fn sizes_follow_the_capacity() {
        assert_eq!(geometry(4, 64 << 20).map(|g| (g.zone_bytes, g.zones_max)), Some((1 << 20, 64)));
        assert_eq!(geometry(4, 10 << 40).map(|g| g.zone_bytes), Some(ZONE_BYTES_MAX));
        assert_eq!(geometry(4, 8 << 20), None);
        assert!(geometry(4, 64 << 20).is_some_and(|g| g.is_well_formed()));
    }

    /// Shard counts are powers of two within the format's bound.
    #[test]
    fn shard_counts() {
        assert_eq!(default_shard_count(1, 1), 2);
        assert_eq!(default_shard_count(2, 1), 4);
        assert_eq!(default_shard_count(1000, 1), SHARDS_MAX);
    }
}
