//! The free space of one shard's data zones: a buddy allocator.
//!
//! Each zone keeps two bits a unit: `used`, and `starts` for the first unit of an extent. They say exactly which extents
//! are in use, for 128 bytes a zone. What is free is kept by order in ordered sets, so that the lowest address of an
//! order is found in logarithmic time.
//!
//! Invariants:
//! * A free block is as long as it can be: if its buddy were free too, they would be one block of the next order.
//! * A unit is used, or in exactly one free block.
//!
//! Placement: the smallest free block that is large enough, and of these the lowest address. A block smaller than a zone
//! exists only in a zone already partly used, so partly used zones fill up before a whole one is broken; and extents
//! taken one after the other lie one behind the other, so that writes are nearly sequential.

use crate::layout::{Extent, UNIT_BYTES};
use std::collections::{BTreeMap, BTreeSet};

/// Units of the largest zone; the size of a zone's bitmaps.
const ZONE_UNITS_MAX: u32 = 1 << Extent::ORDER_MAX;

/// Extents of an allocation that are shorter than a zone, when space is not fragmented: past this the end is rounded up.
const TAIL_EXTENTS_MAX: u32 = 8;

/// The free space of one shard's data zones.
pub struct ExtentAllocator {
    zone_order: u8,
    zones: BTreeMap<u32, Zone>,
    /// Free blocks by order: (zone, first unit).
    free: Vec<BTreeSet<(u32, u16)>>,
    free_units: u64,
    used_units: u64,
}

/// The extent is not wholly free: it overlaps one in use, or lies in no zone of the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} overlaps space in use")]
pub struct Overlap(pub Extent);

impl ExtentAllocator {
    /// An allocator without zones.
    ///
    /// # Panics
    /// Unless `zone_units` is a power of two and at most 512.
    pub fn new(zone_units: u32) -> ExtentAllocator {
        assert!(
            zone_units.is_power_of_two() && zone_units <= ZONE_UNITS_MAX,
            "{zone_units} is no size of a zone"
        );
        let zone_order = zone_units.trailing_zeros() as u8;
        let free = (0..=zone_order).map(|_| BTreeSet::new()).collect();
        ExtentAllocator { zone_order, zones: BTreeMap::new(), free, free_units: 0, used_units: 0 }
    }

    /// Units of a zone.
    pub fn zone_units(&self) -> u32 {
        1 << self.zone_order
    }

    /// Adds a zone, wholly free.
    ///
    /// # Panics
    /// If it is there already.
    pub fn add_zone(&mut self, zone: u32) {
        let before = self.zones.insert(zone, Zone::default());
        assert!(before.is_none(), "zone {zone} is added twice");
        self.free[usize::from(self.zone_order)].insert((zone, 0));
        self.free_units += u64::from(self.zone_units());
    }

    /// Takes a wholly free zone out again, the highest: zones serve log and data. `None` if each zone is in use.
    pub fn take_free_zone(&mut self) -> Option<u32> {
        let (zone, _) = self.free[usize::from(self.zone_order)].pop_last()?;
        self.zones.remove(&zone);
        self.free_units -= u64::from(self.zone_units());
        Some(zone)
    }

    /// The zone of the highest number.
    pub fn last_zone(&self) -> Option<u32> {
        self.zones.last_key_value().map(|(zone, _)| *zone)
    }

    /// Count of zones.
    pub fn zones(&self) -> u32 {
        self.zones.len() as u32
    }

    /// Count of zones wholly free.
    pub fn free_zones(&self) -> u32 {
        self.free[usize::from(self.zone_order)].len() as u32
    }

    /// Marks an extent as used, during recovery.
    ///
    /// # Errors
    /// [`Overlap`] if any of it is used already or lies in no zone: two records claim the same space. Nothing is changed.
    pub fn claim(&mut self, extent: Extent) -> Result<(), Overlap> {
        if !extent.is_well_formed() || extent.order > self.zone_order {
            return Err(Overlap(extent));
        }
        // The free block that holds it, if any, starts at its start rounded down to some order.
        let holder = (extent.order..=self.zone_order)
            .map(|order| Extent { unit: extent.unit & !((1 << order) - 1), order, ..extent })
            .find(|block| self.free[usize::from(block.order)].contains(&(block.zone, block.unit)))
            .ok_or(Overlap(extent))?;
        self.take(holder, extent);
        Ok(())
    }

    /// Whether exactly this extent is in use.
    pub fn is_used(&self, extent: Extent) -> bool {
        self.zones.get(&extent.zone).is_some_and(|zone| zone.holds(extent))
    }

    /// Extents for so many bytes, all or nothing: `None` when less is free. Every extent but the last is completely used.
    ///
    /// Whole zones first, then the binary representation of the rest, largest first: at most 8 extents, the last rounded
    /// up if there would be more. When space is too fragmented for that, a missing extent is replaced by the largest
    /// ones there are: nothing is refused while there is room, however scattered it is.
    ///
    /// # Panics
    /// If `bytes` is 0.
    pub fn allocate(&mut self, bytes: u64) -> Option<Vec<Extent>> {
        assert!(bytes > 0, "an allocation has at least one byte");
        let mut missing = bytes.div_ceil(UNIT_BYTES as u64);
        if missing > self.free_units {
            return None;
        }
        let mut extents = Vec::new();
        while missing > 0 {
            let wanted = self.wanted_order(missing);
            let extent = self.take_largest(wanted)?; // free_units is at least `missing`, so there is always one
            missing = missing.saturating_sub(u64::from(extent.units()));
            extents.push(extent);
        }
        Some(extents)
    }

    /// Frees an extent at once: for space that no durable record refers to and nobody reads.
    ///
    /// # Panics
    /// Unless exactly this extent is in use: a double free would hand the same space to two objects.
    pub fn release(&mut self, extent: Extent) {
        let zone = self.zones.get_mut(&extent.zone).filter(|zone| zone.holds(extent));
        zone.unwrap_or_else(|| panic!("{extent:?} is released but not in use")).clear(extent);
        self.used_units -= u64::from(extent.units());
        self.free_units += u64::from(extent.units());
        let mut block = extent;
        while block.order < self.zone_order {
            let buddy = block.unit ^ (1 << block.order);
            if !self.free[usize::from(block.order)].remove(&(block.zone, buddy)) {
                break;
            }
            block = Extent { unit: block.unit.min(buddy), order: block.order + 1, ..block };
        }
        self.free[usize::from(block.order)].insert((block.zone, block.unit));
    }

    /// Units that are free.
    pub fn free_units(&self) -> u64 {
        self.free_units
    }

    /// Units that are free in blocks of at least so many, a power of two.
    pub fn free_units_in_blocks_of(&self, units: u32) -> u64 {
        let from = units.trailing_zeros() as usize;
        let blocks = self.free.iter().enumerate().skip(from);
        blocks.map(|(order, blocks)| (blocks.len() as u64) << order).sum()
    }

    /// Units in use.
    pub fn used_units(&self) -> u64 {
        self.used_units
    }

    /// Every extent in use, in order: for the checker, which compares it with what is reachable.
    pub fn used(&self) -> Vec<Extent> {
        self.zones.iter().flat_map(|(zone, state)| state.extents(*zone, self.zone_units())).collect()
    }

    /// The order to ask for when so many units are missing.
    fn wanted_order(&self, missing: u64) -> u8 {
        let zone_units = u64::from(self.zone_units());
        if missing >= zone_units {
            return self.zone_order;
        }
        let floor = missing.ilog2() as u8;
        let rounds_up = missing.count_ones() > TAIL_EXTENTS_MAX && self.has_block(floor + 1);
        if rounds_up { floor + 1 } else { floor }
    }

    fn has_block(&self, order: u8) -> bool {
        self.free[usize::from(order)..].iter().any(|blocks| !blocks.is_empty())
    }

    /// Takes an extent of the order wanted, or of the greatest order below it that there is.
    fn take_largest(&mut self, wanted: u8) -> Option<Extent> {
        let fitting = (wanted..=self.zone_order).find_map(|order| self.lowest(order));
        let holder = fitting.or_else(|| (0..wanted).rev().find_map(|order| self.lowest(order)))?;
        let extent = Extent { order: wanted.min(holder.order), ..holder };
        self.take(holder, extent);
        Some(extent)
    }

    fn lowest(&self, order: u8) -> Option<Extent> {
        self.free[usize::from(order)].first().map(|(zone, unit)| Extent { zone: *zone, unit: *unit, order })
    }

    /// Takes the extent out of the free block that holds it; what is left of the block stays free.
    fn take(&mut self, holder: Extent, extent: Extent) {
        let was_free = self.free[usize::from(holder.order)].remove(&(holder.zone, holder.unit));
        assert!(was_free, "{holder:?} is a free block");
        let mut block = holder;
        while block.order > extent.order {
            // Halve: the half without the extent stays free.
            let order = block.order - 1;
            let upper = block.unit + (1 << order);
            let (kept, rest) = if extent.unit >= upper { (upper, block.unit) } else { (block.unit, upper) };
            self.free[usize::from(order)].insert((block.zone, rest));
            block = Extent { unit: kept, order, ..block };
        }
        assert_eq!(block, extent, "halving ends at the extent");
        self.zones.get_mut(&extent.zone).expect("a free block lies in a zone").set(extent);
        self.free_units -= u64::from(extent.units());
        self.used_units += u64::from(extent.units());
    }
}

/// Two bits for each unit of a zone.
#[derive(Default)]
struct Zone {
    used: Bits,
    starts: Bits,
}

impl Zone {
    fn set(&mut self, extent: Extent) {
        self.used.fill(extent, true);
        self.starts.fill(Extent { order: 0, ..extent }, true);
    }

    fn clear(&mut self, extent: Extent) {
        self.used.fill(extent, false);
        self.starts.fill(Extent { order: 0, ..extent }, false);
    }

    /// Whether exactly this extent is in use: it starts here, and the next one or free space starts where it ends.
    fn holds(&self, extent: Extent) -> bool {
        extent.is_well_formed()
            && self.used.get(extent.unit)
            && self.starts.get(extent.unit)
            && u32::from(extent.unit) + extent.units() == self.end(extent.unit)
    }

    /// Where the extent that starts at `unit` ends: at the next unit that is free or starts another.
    fn end(&self, unit: u16) -> u32 {
        let after = u32::from(unit) + 1;
        let first = after as usize / 64;
        for index in first..self.used.0.len() {
            let behind = if index == first { u64::MAX << (after % 64) } else { u64::MAX };
            let stops = (!self.used.0[index] | self.starts.0[index]) & behind;
            if stops != 0 {
                return index as u32 * 64 + stops.trailing_zeros();
            }
        }
        ZONE_UNITS_MAX
    }

    fn extents(&self, zone: u32, zone_units: u32) -> Vec<Extent> {
        let mut extents = Vec::new();
        let mut unit = 0;
        while unit < zone_units {
            if !self.used.get(unit as u16) {
                unit += 1;
                continue;
            }
            let end = self.end(unit as u16);
            let units = end - unit;
            assert!(units.is_power_of_two(), "an extent in use is a power of two");
            extents.push(Extent { zone, unit: unit as u16, order: units.trailing_zeros() as u8 });
            unit = end;
        }
        extents
    }
}

#[derive(Default)]
struct Bits([u64; ZONE_UNITS_MAX as usize / 64]);

impl Bits {
    fn get(&self, unit: u16) -> bool {
        self.0[usize::from(unit / 64)] >> (unit % 64) & 1 == 1
    }

    /// An extent is aligned to its length, so it is part of one word or some whole words.
    fn fill(&mut self, extent: Extent, value: bool) {
        let units = extent.units();
        let mask = (u64::MAX >> (64 - units.min(64))) << (extent.unit % 64);
        let first = usize::from(extent.unit / 64);
        for word in &mut self.0[first..first + units.div_ceil(64) as usize] {
            *word = if value { *word | mask } else { *word & !mask };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extent(zone: u32, unit: u16, order: u8) -> Extent {
        Extent { zone, unit, order }
    }

    fn allocator(zone_units: u32, zones: u32) -> ExtentAllocator {
        let mut allocator = ExtentAllocator::new(zone_units);
        (0..zones).for_each(|zone| allocator.add_zone(zone));
        allocator
    }

    fn units(count: u64) -> u64 {
        count * UNIT_BYTES as u64
    }

    #[test]
    fn an_allocation_is_the_binary_representation() {
        // Shows the split of 5 MiB + 1 byte in 64 KiB units (81 = 64 + 16 + 1), one behind the other.
        let mut allocator = allocator(512, 2);
        let extents = allocator.allocate(5 * 1024 * 1024 + 1).unwrap();
        assert_eq!(extents, [extent(0, 0, 6), extent(0, 64, 4), extent(0, 80, 0)]);
        assert_eq!(allocator.used_units(), 81);
        assert_eq!(allocator.used(), extents);
    }

    #[test]
    fn at_most_eight_extents_are_shorter_than_a_zone() {
        // Shows that 511 units, nine bits, are rounded up to a zone, and that longer ones take whole zones first.
        let mut allocator = allocator(512, 8);
        assert_eq!(allocator.allocate(units(511)), Some(vec![extent(0, 0, 9)]));
        assert_eq!(allocator.allocate(units(512 + 255)).unwrap().len(), 9);
        assert_eq!(allocator.allocate(units(1024)), Some(vec![extent(3, 0, 9), extent(4, 0, 9)]));
    }

    #[test]
    fn rounding_up_is_given_up_when_no_zone_is_whole() {
        // Shows that the last 511 units are handed out exactly.
        let mut allocator = allocator(512, 1);
        allocator.claim(extent(0, 511, 0)).unwrap();
        assert_eq!(allocator.allocate(units(511)).unwrap().len(), 9);
        assert_eq!(allocator.free_units(), 0);
    }

    #[test]
    fn partly_used_zones_fill_first() {
        // Shows that a whole zone is not broken while a smaller free block fits.
        let mut allocator = allocator(16, 3);
        allocator.claim(extent(1, 0, 3)).unwrap();
        assert_eq!(allocator.allocate(units(4)), Some(vec![extent(1, 8, 2)]));
        assert_eq!(allocator.allocate(units(2)), Some(vec![extent(1, 12, 1)]));
        assert_eq!(allocator.free_zones(), 2);
        assert_eq!(allocator.allocate(units(4)), Some(vec![extent(0, 0, 2)]));
    }

    #[test]
    fn scattered_space_is_still_handed_out() {
        // Shows that 4 units come as single ones when every other unit is in use, and that 5 are refused untouched.
        let mut allocator = allocator(8, 1);
        for unit in [0, 2, 4, 6] {
            allocator.claim(extent(0, unit, 0)).unwrap();
        }
        assert_eq!(allocator.allocate(units(5)), None);
        assert_eq!(allocator.free_units(), 4);
        let extents = allocator.allocate(units(4)).unwrap();
        assert_eq!(extents, [extent(0, 1, 0), extent(0, 3, 0), extent(0, 5, 0), extent(0, 7, 0)]);
    }

    #[test]
    fn a_claim_that_overlaps_is_refused() {
        // Shows the four ways to overlap, and extents that lie in no zone.
        let mut allocator = allocator(16, 1);
        allocator.claim(extent(0, 4, 2)).unwrap();
        for bad in [extent(0, 4, 2), extent(0, 4, 0), extent(0, 0, 3), extent(0, 6, 1), extent(1, 0, 0)] {
            assert_eq!(allocator.claim(bad), Err(Overlap(bad)));
        }
        for bad in
            [extent(0, 16, 0), extent(0, 0, 5), extent(0, 1, 1), extent(0, 0, 200), extent(0, 65_535, 3)]
        {
            assert_eq!(allocator.claim(bad), Err(Overlap(bad)));
        }
        assert_eq!(allocator.used(), [extent(0, 4, 2)]);
    }

    #[test]
    #[should_panic(expected = "released but not in use")]
    fn half_an_extent_is_not_released() {
        // Shows that a release of something else than was taken stops at once.
        let mut allocator = allocator(16, 1);
        allocator.claim(extent(0, 4, 2)).unwrap();
        allocator.release(extent(0, 4, 1));
    }

    #[test]
    fn neighbours_are_told_apart() {
        // Shows that two extents side by side are not taken for one of twice the length.
        let mut allocator = allocator(512, 1);
        allocator.claim(extent(0, 64, 6)).unwrap();
        allocator.claim(extent(0, 128, 7)).unwrap();
        allocator.claim(extent(0, 256, 8)).unwrap();
        assert!(!allocator.is_used(extent(0, 64, 7)));
        assert!(allocator.is_used(extent(0, 64, 6)));
        assert!(allocator.is_used(extent(0, 256, 8)));
        assert_eq!(allocator.used(), [extent(0, 64, 6), extent(0, 128, 7), extent(0, 256, 8)]);
    }

    #[test]
    fn a_zone_wholly_free_can_be_taken_back() {
        // Shows that only whole free zones leave, and that their space leaves with them.
        let mut allocator = allocator(16, 2);
        let extents = allocator.allocate(units(1)).unwrap();
        assert_eq!(allocator.take_free_zone(), Some(1));
        assert_eq!(allocator.take_free_zone(), None);
        assert_eq!((allocator.zones(), allocator.free_units(), allocator.used_units()), (1, 15, 1));
        allocator.release(extents[0]);
        assert_eq!(allocator.take_free_zone(), Some(0));
        assert_eq!((allocator.zones(), allocator.free_units()), (0, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Allocate(u64),
        Claim(Extent),
        Release(prop::sample::Index),
        AddZone,
        TakeZone,
    }

    fn step() -> impl Strategy<Value = Step> {
        let some_extent =
            (0..4u32, 0..=5u8, 0..32u16).prop_map(|(zone, order, unit)| extent(zone, unit, order));
        prop_oneof![
            4 => (1..units(90)).prop_map(Step::Allocate),
            2 => some_extent.prop_map(Step::Claim),
            6 => any::<prop::sample::Index>().prop_map(Step::Release),
            1 => Just(Step::AddZone),
            1 => Just(Step::TakeZone),
        ]
    }

    const ZONE_UNITS: u32 = 32;

    /// The same by brute force: one bool for each unit, and the extents in use.
    #[derive(Default)]
    struct Model {
        zones: BTreeMap<u32, [bool; ZONE_UNITS as usize]>,
        used: BTreeSet<Extent>,
    }

    impl Model {
        fn free_units(&self) -> u64 {
            self.zones.values().flatten().filter(|used| !**used).count() as u64
        }

        fn fill(&mut self, extent: Extent, value: bool) -> bool {
            let Some(zone) = self.zones.get_mut(&extent.zone) else { return false };
            if !extent.is_well_formed() || u32::from(extent.unit) + extent.units() > ZONE_UNITS {
                return false;
            }
            let units = &mut zone[usize::from(extent.unit)..][..extent.units() as usize];
            if units.contains(&value) {
                return false;
            }
            units.fill(value);
            if value { self.used.insert(extent) } else { self.used.remove(&extent) }
        }

        /// Whether an aligned run of this order is free.
        fn has_run(&self, order: u8) -> bool {
            self.zones.values().any(|zone| zone.chunks(1 << order).any(|run| !run.contains(&true)))
        }
    }

    proptest! {
        #[test]
        fn the_allocator_agrees_with_a_bitmap(steps in proptest::collection::vec(step(), 1..120)) {
            // Shows that no unit is handed out twice or lost, that allocation fails only when space is missing, that
            // extents come as whole as the bitmap allows, and that freed neighbours merge.
            let mut allocator = ExtentAllocator::new(ZONE_UNITS);
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Allocate(bytes) => {
                        let wanted = bytes.div_ceil(UNIT_BYTES as u64);
                        let fits = wanted <= model.free_units();
                        let largest = (0..=5).rev().find(|order| model.has_run(*order));
                        let extents = allocator.allocate(bytes);
                        prop_assert_eq!(extents.is_some(), fits);
                        let extents = extents.unwrap_or_default();
                        for extent in &extents {
                            prop_assert!(model.fill(*extent, true), "{:?} was not free", extent);
                        }
                        if let Some(first) = extents.first() {
                            let whole = (wanted.ilog2() as u8).min(5);
                            prop_assert_eq!(first.order, whole.min(largest.unwrap()));
                            prop_assert_eq!(extents.iter().map(|e| u64::from(e.units())).sum::<u64>(), wanted);
                            prop_assert!(extents.is_sorted_by(|a, b| a.order >= b.order));
                        }
                    }
                    Step::Claim(extent) => prop_assert_eq!(allocator.claim(extent).is_ok(), model.fill(extent, true)),
                    Step::Release(which) => {
                        let used: Vec<_> = model.used.iter().copied().collect();
                        if !used.is_empty() {
                            let extent = *which.get(&used);
                            prop_assert!(allocator.is_used(extent));
                            allocator.release(extent);
                            prop_assert!(model.fill(extent, false));
                        }
                    }
                    Step::AddZone => {
                        let zone = (0..4).find(|zone| !model.zones.contains_key(zone));
                        if let Some(zone) = zone {
                            allocator.add_zone(zone);
                            model.zones.insert(zone, Default::default());
                        }
                    }
                    Step::TakeZone => {
                        let whole = model.zones.iter().rev().find(|(_, zone)| !zone.contains(&true));
                        let whole = whole.map(|(zone, _)| *zone);
                        prop_assert_eq!(allocator.take_free_zone(), whole);
                        whole.map(|zone| model.zones.remove(&zone));
                    }
                }
                prop_assert_eq!(allocator.free_units(), model.free_units());
                prop_assert_eq!(allocator.used(), model.used.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(allocator.zones() as usize, model.zones.len());
            }
        }
    }
}
