//! Which shard holds a key, and which core owns a shard.

use crate::layout::Geometry;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Fixed once the store is open; the same on every core.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) geometry: Geometry,
    /// The store's identity keys the hash: nobody outside can choose keys that crowd one shard.
    store: u128,
    core_count: usize,
}

impl Placement {
    pub(crate) fn new(geometry: Geometry, store: u128, core_count: usize) -> Placement {
        assert!(geometry.shard_count > 0 && core_count > 0);
        Placement { geometry, store, core_count }
    }

    pub(crate) fn shard_of(&self, bucket: &str, key: &[u8]) -> u16 {
        self.hash(&[bucket.as_bytes(), &[0], key])
    }

    /// The shard whose record of a bucket decides whether it exists.
    pub(crate) fn home_of(&self, bucket: &str) -> u16 {
        self.hash(&[bucket.as_bytes()])
    }

    pub(crate) fn core_of(&self, shard: u16) -> usize {
        usize::from(shard) % self.core_count
    }

    /// Shards of the core that has most.
    pub(crate) fn shards_of_core_max(&self) -> usize {
        usize::from(self.geometry.shard_count).div_ceil(self.core_count)
    }

    fn hash(&self, parts: &[&[u8]]) -> u16 {
        let mut hasher = SipHasher13::new_with_keys(self.store as u64, (self.store >> 64) as u64);
        parts.iter().for_each(|part| hasher.write(part));
        // Multiply and shift: even for any count, without a division.
        let count = u128::from(self.geometry.shard_count);
        ((u128::from(hasher.finish()) * count) >> 64) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(shard_count: u16) -> Placement {
        let geometry = Geometry {
            shard_count,
            zone_bytes: 1 << 20,
            inline_bytes_max: 1024,
            packed_bytes_max: 1 << 18,
            zones_max: 9,
            mixed: true,
        };
        Placement::new(geometry, 7, 2)
    }

    /// Keys spread over the shards within a few standard deviations of evenly.
    #[test]
    fn spreads_evenly() {
        let placement = placement(16);
        let mut counts = [0u32; 16];
        for index in 0..16_000u32 {
            counts[usize::from(placement.shard_of("bucket", &index.to_le_bytes()))] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    /// A bucket and key are told apart from another split of the same bytes.
    #[test]
    fn bucket_and_key_do_not_run_together() {
        let placement = placement(251);
        let same = (0..200u32).filter(|n| {
            let text = n.to_string();
            placement.shard_of(&format!("b{text}"), b"k")
                == placement.shard_of("b", format!("{text}k").as_bytes())
        });
        assert!(same.count() < 10);
    }
}
