//! The space of a shard: extents in data zones, and the zones of its log.
//!
//! Nothing here is on disk. At open it is rebuilt from what the catalog reaches; while running, space comes back
//! only when the record that freed it is durable and no reader holds it.

use super::catalog::{Freed, extents_of, packed_of};
use crate::{
    extent::{DeferredFree, ExtentAllocator, Overlap, PinId},
    layout::{Content, Extent, UNIT_BYTES},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A pass of the cleaner must give back so many zones, or it is not worth its own batches.
const GAIN_ZONES: u64 = 2;

/// Payload bytes packed in a log zone.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Packed {
    /// Those that something in the catalog points to.
    pub(crate) live: u64,
    /// All that were ever put there since the zone was last begun, as far as is known: at open, those that live.
    pub(crate) written: u64,
}

/// What makes a zone worth cleaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worth {
    /// So many percent of the payload bytes that it was written with are dead, at least.
    pub(crate) dead_percent: u64,
    /// An open found it, so that this is not known, and so many percent of the zone live, at most.
    pub(crate) found_percent: u64,
}

/// Holds the space of one content against reuse while it is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pin(u64);

/// Space set aside for an object that is being written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Reservation(u64);

struct Pinned {
    extents: Option<PinId>,
    /// Log zones: hardly ever more than one.
    zone: Option<u32>,
    more_zones: Vec<u32>,
}

pub(crate) struct Space {
    extents: ExtentAllocator,
    deferred: DeferredFree,
    reservations: HashMap<Reservation, Vec<Extent>>,
    pins: HashMap<Pin, Pinned>,
    next_ticket: u64,
    /// Zones nobody has claimed. In a window of a block device both kinds come from `log_pool`.
    log_pool: ZonePool,
    data_pool: Option<ZonePool>,
    log_zones: u32,
    /// Log zones wholly below the checkpoint, kept for the packed objects in them, with the sequence of their first
    /// batch; 0 for those that an open found.
    log_covered: BTreeMap<u32, u64>,
    log_pins: HashMap<u32, u32>,
    /// Extents that a planted bug gave back before what frees them was durable.
    #[cfg(planted)]
    freed_early: BTreeSet<Extent>,
}

impl Space {
    pub(crate) fn new(zone_bytes: u32, zones_max: u32, shared: bool) -> Space {
        Space {
            extents: ExtentAllocator::new(zone_bytes / UNIT_BYTES as u32),
            deferred: DeferredFree::new(),
            reservations: HashMap::new(),
            pins: HashMap::new(),
            next_ticket: 0,
            log_pool: ZonePool::new(zones_max),
            data_pool: (!shared).then(|| ZonePool::new(zones_max)),
            log_zones: 0,
            log_covered: BTreeMap::new(),
            log_pins: HashMap::new(),
            #[cfg(planted)]
            freed_early: BTreeSet::new(),
        }
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    // ── data zones ──

    /// Zones there are, of both kinds.
    pub(crate) fn zone_count(&self) -> usize {
        let data = self.data_pool.as_ref().map_or(0, |pool| pool.fresh - pool.freed.len() as u32);
        data as usize + self.log_pool.fresh as usize
    }

    /// Whether both kinds come from one pool.
    pub(crate) fn is_shared(&self) -> bool {
        self.data_pool.is_none()
    }

    /// Bytes free in zones there are, in extents of at least `bytes`, a power of two.
    pub(crate) fn free_in_extents_of(&self, bytes: u64) -> u64 {
        let units = (bytes / UNIT_BYTES as u64).max(1) as u32;
        self.extents.free_units_in_blocks_of(units) * UNIT_BYTES as u64
    }

    /// The number of the next data zone; it is not taken until [`Space::add_data_zone`].
    pub(crate) fn next_data_zone(&self) -> Option<u32> {
        self.data_pool.as_ref().unwrap_or(&self.log_pool).peek()
    }

    /// Takes the zone for data.
    pub(crate) fn add_data_zone(&mut self, zone: u32) {
        self.data_pool.as_mut().unwrap_or(&mut self.log_pool).take(zone);
        self.extents.add_zone(zone);
    }

    /// At most `extents_max` extents for `bytes`, or none if more zones are needed.
    pub(crate) fn reserve(&mut self, bytes: u64, extents_max: usize) -> Option<(Reservation, Vec<Extent>)> {
        let extents = self.extents.allocate(bytes)?;
        if extents.len() > extents_max {
            extents.into_iter().for_each(|extent| self.extents.release(extent));
            return None;
        }
        let reservation = Reservation(self.ticket());
        self.reservations.insert(reservation, extents.clone());
        Some((reservation, extents))
    }

    /// One extent of at least `bytes`.
    pub(crate) fn reserve_one(&mut self, bytes: u64) -> Option<(Reservation, Extent)> {
        let rounded = bytes.max(UNIT_BYTES as u64).next_power_of_two();
        let extents = self.extents.allocate(rounded)?;
        match extents[..] {
            [extent] => {
                let reservation = Reservation(self.ticket());
                self.reservations.insert(reservation, extents);
                Some((reservation, extent))
            }
            _ => {
                extents.into_iter().for_each(|extent| self.extents.release(extent));
                None
            }
        }
    }

    /// The reserved extents now belong to a sequenced record, but for those not among `used`.
    pub(crate) fn consume(&mut self, reservation: Reservation, used: &[Extent]) {
        let reserved = self.reservations.remove(&reservation).unwrap_or_default();
        reserved.into_iter().filter(|e| !used.contains(e)).for_each(|e| self.extents.release(e));
    }

    /// Gives a reservation back. No device may still write there.
    pub(crate) fn release(&mut self, reservation: Reservation) {
        self.consume(reservation, &[]);
    }

    /// What a durable record at `sequence` freed.
    pub(crate) fn free(&mut self, freed: Freed, sequence: u64) {
        for extent in freed.extents {
            #[cfg(planted)]
            if self.freed_early.remove(&extent) {
                continue;
            }
            self.deferred.free(extent, sequence);
        }
        self.deferred.advance_durable(sequence);
        self.reuse();
    }

    /// What [`Bug::FreesExtentsEarly`](crate::planted::Bug::FreesExtentsEarly) does with a content that a record is to remove, which is not durable:
    /// nobody waits for that.
    #[cfg(planted)]
    pub(crate) fn free_early(&mut self, content: &Content) {
        extents_of(content, &mut |extent| {
            // What a copy shares has two records, each of which frees it once.
            if self.deferred.references(extent) == 1 && self.freed_early.insert(extent) {
                self.deferred.free(extent, 0);
            }
        });
        self.reuse();
    }

    /// Nothing of that is in any other build.
    #[cfg(not(planted))]
    pub(crate) fn free_early(&mut self, _content: &Content) {}

    /// Gives back an extent that no durable record points to any more.
    pub(crate) fn release_extent(&mut self, extent: Extent) {
        self.extents.release(extent);
    }

    fn reuse(&mut self) {
        self.deferred.take_reusable().into_iter().for_each(|extent| self.extents.release(extent));
    }

    /// Another record points to the extents of a content, from the moment it is sequenced.
    pub(crate) fn share(&mut self, content: &Content) {
        extents_of(content, &mut |extent| self.deferred.share(extent));
    }

    // ── pins ──

    pub(crate) fn pin(&mut self, content: &Content) -> Pin {
        let mut extents = Vec::new();
        extents_of(content, &mut |extent| extents.push(extent));
        let extents = (!extents.is_empty()).then(|| self.deferred.pin(&extents));
        let mut pinned = Pinned { extents, zone: None, more_zones: Vec::new() };
        packed_of(content, &mut |place, _| {
            *self.log_pins.entry(place.zone).or_default() += 1;
            if pinned.zone.is_none() {
                pinned.zone = Some(place.zone);
            } else {
                pinned.more_zones.push(place.zone);
            }
        });
        let pin = Pin(self.ticket());
        self.pins.insert(pin, pinned);
        pin
    }

    pub(crate) fn unpin(&mut self, pin: Pin) {
        let Some(pinned) = self.pins.remove(&pin) else { return };
        for zone in pinned.zone.into_iter().chain(pinned.more_zones) {
            if let Some(count) = self.log_pins.get_mut(&zone) {
                *count -= 1;
                if *count == 0 {
                    self.log_pins.remove(&zone);
                }
            }
        }
        if let Some(id) = pinned.extents {
            self.deferred.unpin(id);
            self.reuse();
        }
    }

    pub(crate) fn pin_count(&self) -> usize {
        self.pins.len()
    }

    // ── log zones ──

    /// A zone for the log to go on in, which exists. `live` tells a zone's live packed bytes.
    pub(crate) fn claim_log_zone(&mut self, live: impl Fn(u32) -> u64) -> Option<u32> {
        self.reclaim_log_zones(live);
        let zone = self.log_pool.freed.first().copied()?;
        self.log_pool.take(zone);
        self.log_zones += 1;
        Some(zone)
    }

    /// The number of a log zone that could be made.
    pub(crate) fn next_new_log_zone(&self) -> Option<u32> {
        self.log_pool.next_fresh()
    }

    /// The zone was made: it exists, and is free.
    pub(crate) fn add_log_zone(&mut self, zone: u32) {
        self.log_pool.take(zone);
        self.log_pool.give_back(zone);
    }

    /// Whether at least so many zones can be claimed, or made and then claimed.
    pub(crate) fn has_log_zones(&self, wanted: usize, live: impl Fn(u32) -> u64) -> bool {
        self.has_empty(wanted, self.log_pool.free_count(), live)
    }

    /// Whether at least so many zones exist and can be claimed.
    pub(crate) fn has_ready_log_zones(&self, wanted: usize, live: impl Fn(u32) -> u64) -> bool {
        self.has_empty(wanted, self.log_pool.freed.len(), live)
    }

    /// Whether so many are free, counting those that claiming would reclaim.
    fn has_empty(&self, wanted: usize, free: usize, live: impl Fn(u32) -> u64) -> bool {
        let empty = |zone: &&u32| live(**zone) == 0 && !self.log_pins.contains_key(*zone);
        free >= wanted || free + self.log_covered.keys().filter(empty).take(wanted - free).count() >= wanted
    }

    /// The zone lies wholly below the durable checkpoint: its entries are not needed any more.
    pub(crate) fn cover_log_zone(&mut self, zone: u32, sequence: u64) {
        self.log_covered.insert(zone, sequence);
    }

    /// Covered zones of which enough is dead, and in which some payloads still live: the best to clean, at most `max`, if together
    /// they give back more than whole zones for their trouble.
    ///
    /// Best is by benefit for cost, as in log-structured file systems: the bytes that come free times the time that
    /// what is left has already lasted, for reading and writing what is left. Dead is what was there and is no more, and
    /// not whatever is not payload: a zone of small payloads is never full of them, and cleaning it would go on for ever.
    pub(crate) fn victims(
        &self,
        max: usize,
        worth: Worth,
        zone_bytes: u64,
        now: u64,
        packed: impl Fn(u32) -> Packed,
    ) -> Vec<u32> {
        let mut victims: Vec<(f64, u32, Packed)> = Vec::new();
        for (zone, sequence) in &self.log_covered {
            let packed = packed(*zone);
            // What died before an open is not known after it: then little that lives says it.
            let sparse = *sequence == 0 && packed.live * 100 <= zone_bytes * worth.found_percent;
            let dead = packed.written.saturating_sub(packed.live);
            if packed.live > 0 && (sparse || dead * 100 >= packed.written * worth.dead_percent) {
                let used = packed.live as f64 / zone_bytes as f64;
                let age = now.saturating_sub(*sequence).saturating_add(1) as f64;
                victims.push(((1.0 - used) * age / (1.0 + used), *zone, packed));
            }
        }
        victims.sort_by(|(one, ..), (other, ..)| other.total_cmp(one));
        victims.truncate(max);
        let live: u64 = victims.iter().map(|(.., packed)| packed.live).sum();
        let whole = victims.len() as u64 * zone_bytes;
        if whole < live + GAIN_ZONES * zone_bytes {
            return Vec::new();
        }
        victims.into_iter().map(|(_, zone, _)| zone).collect()
    }

    fn reclaim_log_zones(&mut self, live: impl Fn(u32) -> u64) {
        let pins = &self.log_pins;
        let empty = |zone: &u32| live(*zone) == 0 && !pins.contains_key(zone);
        let freed: Vec<u32> = self.log_covered.keys().copied().filter(empty).collect();
        for zone in freed {
            self.log_covered.remove(&zone);
            self.log_pool.give_back(zone);
            self.log_zones -= 1;
        }
    }

    // ── recovery ──

    /// Rebuilds from what is reachable: `data_zones` and `log_zones` exist on the device, `log_in_use` hold entries
    /// from the checkpoint on.
    pub(crate) fn rebuild<'a>(
        &mut self,
        zones: Zones,
        contents: impl Iterator<Item = &'a Content>,
        others: &[Extent],
        live: &BTreeMap<u32, u64>,
    ) -> Result<(), Overlap> {
        let mut extents: Vec<Extent> = Vec::new();
        contents.for_each(|content| extents_of(content, &mut |extent| extents.push(extent)));
        // What several records point to is one extent with several references: of copies within the shard.
        extents.sort_unstable();
        let shared = extents.windows(2).filter(|pair| pair.first() == pair.last());
        shared.filter_map(|pair| pair.first()).for_each(|extent| self.deferred.share(*extent));
        extents.dedup();
        extents.extend(others);
        if self.data_pool.is_some() {
            (0..zones.existing_data).for_each(|zone| self.add_data_zone(zone));
        } else {
            let data: BTreeSet<u32> = extents.iter().map(|extent| extent.zone).collect();
            data.into_iter().for_each(|zone| self.add_data_zone(zone));
        }
        // What exists and is not in use is the pool's, as existing; the log's own zones are taken.
        self.log_pool.exist(zones.existing_log);
        for zone in zones.log_in_use {
            self.log_pool.take(zone);
            self.log_zones += 1;
        }
        for zone in live.keys().copied() {
            if self.log_pool.is_free(zone) {
                self.log_pool.take(zone);
                self.log_zones += 1;
                self.log_covered.insert(zone, 0);
            }
        }
        extents.into_iter().try_for_each(|extent| self.extents.claim(extent))
    }

    /// Records that point to an extent.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn references(&self, extent: Extent) -> u32 {
        self.deferred.references(extent)
    }

    /// For the checker: extents in use that no reservation, pin or deferred free accounts for must be reachable.
    pub(crate) fn used_extents(&self) -> Vec<Extent> {
        self.extents.used()
    }

    /// Extents held although no record points to them: reserved, or freed and waiting.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn held_extents(&self) -> Vec<Extent> {
        let mut held: Vec<Extent> = self.reservations.values().flatten().copied().collect();
        held.extend(self.deferred.waiting());
        held
    }

    pub(crate) fn usage(&self) -> (u64, u64) {
        let unit = UNIT_BYTES as u64;
        (self.extents.used_units() * unit, self.extents.free_units() * unit)
    }

    /// Zones that exist and are neither free nor in use: of these there are none.
    pub(crate) fn lost_zones(&self) -> i64 {
        let there = self.zone_count() as i64;
        there - i64::from(self.extents.zones()) - i64::from(self.log_zones) - self.log_pool.freed.len() as i64
    }

    pub(crate) fn log_zone_count(&self) -> (u32, u32) {
        (self.log_zones, self.log_pool.freed.len() as u32)
    }
}

/// Which zones there are at open.
#[derive(Clone)]
pub(crate) struct Zones {
    pub(crate) existing_data: u32,
    pub(crate) existing_log: u32,
    pub(crate) log_in_use: Vec<u32>,
}

/// Zones by number: those that exist and are free, and those never taken so far.
struct ZonePool {
    freed: BTreeSet<u32>,
    /// Zones from here on were never taken, and need not exist.
    fresh: u32,
    max: u32,
}

impl ZonePool {
    fn new(max: u32) -> ZonePool {
        ZonePool { freed: BTreeSet::new(), fresh: 0, max }
    }

    fn peek(&self) -> Option<u32> {
        self.freed.first().copied().or(self.next_fresh())
    }

    fn next_fresh(&self) -> Option<u32> {
        (self.fresh < self.max).then_some(self.fresh)
    }

    fn free_count(&self) -> usize {
        self.freed.len() + (self.max - self.fresh.min(self.max)) as usize
    }

    fn is_free(&self, zone: u32) -> bool {
        self.freed.contains(&zone) || (self.fresh..self.max).contains(&zone)
    }

    /// Takes a zone; says whether it is taken for the first time.
    fn take(&mut self, zone: u32) -> bool {
        if self.freed.remove(&zone) {
            return false;
        }
        let is_new = zone >= self.fresh;
        if is_new {
            self.freed.extend(self.fresh..zone);
            self.fresh = zone + 1;
        }
        is_new
    }

    fn give_back(&mut self, zone: u32) {
        self.freed.insert(zone);
    }

    /// So many zones exist: those that nobody took are free.
    fn exist(&mut self, count: u32) {
        self.freed.extend(self.fresh..count);
        self.fresh = self.fresh.max(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::ChecksumTable;

    const ZONE_BYTES: u32 = 1 << 20;
    const UNIT: u64 = UNIT_BYTES as u64;

    fn in_extents(extents: &[Extent]) -> Content {
        let bytes = extents.iter().map(|extent| extent.bytes()).sum();
        Content::Extents { extents: extents.into(), bytes, checksums: ChecksumTable::Here([].into()) }
    }

    #[test]
    fn an_open_of_a_window_has_every_zone() {
        // Shows that zones below one with data, which nothing reaches, are free, and that none belongs to nobody.
        let mut space = Space::new(ZONE_BYTES, 16, true);
        let zones = Zones { existing_data: 16, existing_log: 16, log_in_use: vec![3, 4] };
        let content = in_extents(&[Extent { zone: 9, unit: 0, order: 2 }]);
        let live = BTreeMap::from([(1, 5000)]);
        space.rebuild(zones, std::iter::once(&content), &[], &live).unwrap();
        assert_eq!(space.log_zone_count(), (3, 12));
        assert_eq!(space.lost_zones(), 0);
        assert!(space.log_covered.contains_key(&1));
    }

    /// Free space in more pieces than an object may have is none for it: nothing of it is taken, and one more zone is what helps. For an
    /// object that may have as many it is.
    #[test]
    fn space_in_too_many_pieces_is_passed_over() {
        let mut space = Space::new(16 * UNIT_BYTES as u32, 4, false);
        let zone = space.next_data_zone().unwrap();
        space.add_data_zone(zone);
        let units: Vec<Reservation> = (0..16).map(|_| space.reserve_one(UNIT).unwrap().0).collect();
        // Every other one comes back: eight pieces, no two of which make one.
        units.iter().skip(1).step_by(2).for_each(|unit| space.release(*unit));
        let (used, free) = space.usage();
        assert_eq!((used, free), (8 * UNIT, 8 * UNIT));
        assert!(space.reserve(5 * UNIT, 4).is_none());
        assert!(space.reserve_one(2 * UNIT).is_none());
        assert_eq!((space.usage(), space.held_extents().len()), ((used, free), 8));
        let (reserved, extents) = space.reserve(5 * UNIT, 5).unwrap();
        assert_eq!((extents.len(), space.usage()), (5, (13 * UNIT, 3 * UNIT)));
        space.release(reserved);
        space.add_data_zone(space.next_data_zone().unwrap());
        let (_, extents) = space.reserve(5 * UNIT, 4).unwrap();
        assert_eq!(extents.len(), 2, "{extents:?}");
    }
}
