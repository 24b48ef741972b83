//! The space of a shard: extents in data zones, and the zones of its log.
//!
//! Nothing here is on disk. At open it is rebuilt from what the catalog reaches; while running, space comes back
//! only when the record that freed it is durable and no reader holds it.
//!
//! A zone in which nothing lies is nobody's ([`ZonePool`]), and whoever comes next has it, the log or data: what was taken by large
//! objects that are gone serves small ones, and the other way round. Data gives a zone up when its last extent is freed, but for what
//! the next checkpoint wants; the log when a checkpoint covers it and nothing points into it.

use super::catalog::{Freed, extents_of, packed_of};
use crate::{
    error::Region,
    extent::{DeferredFree, ExtentAllocator, Overlap, PinId},
    layout::{Content, Extent, Geometry, UNIT_BYTES, regions::LENT},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A pass of the cleaner must give back so many zones, or it is not worth its own batches.
const GAIN_ZONES: u64 = 2;

/// Where a shard has its zones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Zoning {
    /// In a window of a block device, each for log or for data. A zone has one number, whatever it is used for.
    Window,
    /// In two files, each zone of either for log or for data. In the file of the other use its number has [`LENT`] set.
    Mixed,
    /// In two files, one for log and one for data: in stores that were made by builds which knew nothing else.
    Apart,
}

impl Zoning {
    pub(crate) fn of(geometry: &Geometry, shared: bool) -> Zoning {
        match (shared, geometry.mixed) {
            (true, _) => Zoning::Window,
            (false, true) => Zoning::Mixed,
            (false, false) => Zoning::Apart,
        }
    }

    /// The number that a zone of the log has for data, or one of data for the log.
    pub(crate) fn other_use(self, zone: u32) -> u32 {
        if self == Zoning::Window { zone } else { zone ^ LENT }
    }
}

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
    pool: ZonePool,
    /// Zones that data was given so far: tells whether it was since somebody looked.
    data_zones_added: u64,
    /// Bytes of extents that are kept for the next checkpoint, in blocks of at least so many units.
    kept_bytes: u64,
    kept_units: u32,
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
    pub(crate) fn new(geometry: &Geometry, shared: bool) -> Space {
        Space {
            extents: ExtentAllocator::new(geometry.zone_units()),
            deferred: DeferredFree::new(),
            reservations: HashMap::new(),
            pins: HashMap::new(),
            next_ticket: 0,
            pool: ZonePool::new(Zoning::of(geometry, shared), geometry.zones_max),
            data_zones_added: 0,
            kept_bytes: 0,
            kept_units: 1,
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

    // ── zones ──

    /// Zones there are, whatever they are used for.
    pub(crate) fn zone_count(&self) -> usize {
        self.pool.there.iter().map(|count| *count as usize).sum()
    }

    /// Whether zones of log and data are kept apart.
    pub(crate) fn is_apart(&self) -> bool {
        self.pool.zoning == Zoning::Apart
    }

    /// Whether a file may have one more zone.
    pub(crate) fn can_make_zone(&self, region: Region) -> bool {
        self.pool.can_make(region)
    }

    /// The number of a zone that is being made in a file from now on, until [`Space::end_making`]; one at a time in each.
    pub(crate) fn begin_making(&mut self, region: Region) -> Option<u32> {
        self.pool.begin_making(region)
    }

    /// The zone was made, and exists, or it was not. For data it is given at once, for the log it is free.
    pub(crate) fn end_making(&mut self, region: Region, zone: u32, made: bool) {
        self.pool.end_making(region, zone, made);
        if made && region == Region::Data {
            self.give_to_data(self.pool.zoning.other_use(zone));
        }
    }

    // ── data zones ──

    /// How often data was given a zone.
    pub(crate) fn data_zones_added(&self) -> u64 {
        self.data_zones_added
    }

    /// Gives data a zone that exists and is free: of its own file, or if `lent` of the log's. False if there is none.
    pub(crate) fn add_data_zone(&mut self, lent: bool) -> bool {
        let zone = self.pool.free_for_data(lent);
        zone.inspect(|zone| self.give_to_data(*zone)).is_some()
    }

    fn give_to_data(&mut self, zone: u32) {
        self.pool.take(zone);
        self.data_zones_added += 1;
        self.extents.add_zone(self.pool.zoning.other_use(zone));
    }

    /// Whether data has zones of the log's file.
    pub(crate) fn has_lent_data(&self) -> bool {
        self.pool.zoning == Zoning::Mixed && self.extents.last_zone().is_some_and(|zone| zone & LENT != 0)
    }

    /// Bytes of extents that are kept for the next checkpoint.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Keeps so many bytes for the next checkpoint, in blocks of at least `block_bytes`, a power of two.
    pub(crate) fn keep(&mut self, bytes: u64, block_bytes: u64) {
        self.kept_bytes = bytes;
        self.kept_units = (block_bytes / UNIT_BYTES as u64).max(1) as u32;
        self.give_up_zones();
    }

    /// Data gives up zones in which nothing lies.
    fn give_up_zones(&mut self) {
        let zone_units = u64::from(self.extents.zone_units());
        let kept = self.kept_bytes.div_ceil(UNIT_BYTES as u64);
        while !self.is_apart()
            && self.extents.free_units_in_blocks_of(self.kept_units) >= kept + zone_units
            && let Some(zone) = self.extents.take_free_zone()
        {
            self.pool.free.insert(self.pool.zoning.other_use(zone));
        }
    }

    /// Bytes free in data zones, in extents of at least `bytes`, a power of two.
    pub(crate) fn free_in_extents_of(&self, bytes: u64) -> u64 {
        let units = (bytes / UNIT_BYTES as u64).max(1) as u32;
        self.extents.free_units_in_blocks_of(units) * UNIT_BYTES as u64
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
        self.give_up_zones();
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
        self.give_up_zones();
    }

    fn reuse(&mut self) {
        let reusable = self.deferred.take_reusable();
        if !reusable.is_empty() {
            reusable.into_iter().for_each(|extent| self.extents.release(extent));
            self.give_up_zones();
        }
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
        // Those of its own file come first.
        let zone = self.pool.free.first().copied()?;
        self.pool.take(zone);
        self.log_zones += 1;
        Some(zone)
    }

    /// Whether at least so many zones can be claimed, or made and then claimed.
    pub(crate) fn has_log_zones(&self, wanted: usize, live: impl Fn(u32) -> u64) -> bool {
        self.has_empty(wanted, self.pool.free.len() + self.pool.unmade(), live)
    }

    /// Whether at least so many zones exist and can be claimed.
    pub(crate) fn has_ready_log_zones(&self, wanted: usize, live: impl Fn(u32) -> u64) -> bool {
        self.has_empty(wanted, self.pool.free.len(), live)
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

    /// Log zones wholly below the checkpoint in which nothing lives and nobody reads are nobody's from now on.
    pub(crate) fn reclaim_log_zones(&mut self, live: impl Fn(u32) -> u64) {
        let pins = &self.log_pins;
        let empty = |zone: &u32| live(*zone) == 0 && !pins.contains_key(zone);
        let freed: Vec<u32> = self.log_covered.keys().copied().filter(empty).collect();
        for zone in freed {
            self.log_covered.remove(&zone);
            self.pool.free.insert(zone);
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
        self.pool.exist(&zones);
        if self.is_apart() {
            (0..zones.existing_data).for_each(|zone| self.give_to_data(zone | LENT));
        } else {
            let data: BTreeSet<u32> = extents.iter().map(|extent| extent.zone).collect();
            // An extent in one that does not exist is claimed below, and refused.
            let there = data.into_iter().map(|zone| self.pool.zoning.other_use(zone));
            let there: Vec<u32> = there.filter(|zone| self.pool.free.contains(zone)).collect();
            there.into_iter().for_each(|zone| self.give_to_data(zone));
        }
        for zone in zones.log_in_use {
            if self.pool.take(zone) {
                self.log_zones += 1;
            }
        }
        for zone in live.keys().copied() {
            if self.pool.take(zone) {
                self.log_zones += 1;
                self.log_covered.insert(zone, 0);
            }
        }
        extents.into_iter().try_for_each(|extent| self.extents.claim(extent))?;
        Ok(())
    }

    /// Takes the zones that are kept for the next checkpoint, before anybody else has them: it gives log zones back.
    pub(crate) fn take_kept(&mut self) {
        let kept = self.kept_bytes.div_ceil(UNIT_BYTES as u64);
        while self.extents.free_units_in_blocks_of(self.kept_units) < kept
            && (self.add_data_zone(false) || self.add_data_zone(true))
        {}
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
        there - i64::from(self.extents.zones()) - i64::from(self.log_zones) - self.pool.free.len() as i64
    }

    /// Zones that there may be, whatever they are used for.
    pub(crate) fn zones_max(&self) -> u32 {
        match self.pool.zoning {
            Zoning::Window | Zoning::Mixed => self.pool.max,
            Zoning::Apart => self.pool.max.saturating_mul(2),
        }
    }

    /// Zones of the log, and zones that exist and are free for it.
    pub(crate) fn log_zone_count(&self) -> (u32, u32) {
        (self.log_zones, self.pool.free.len() as u32)
    }
}

/// Which zones there are at open.
#[derive(Clone)]
pub(crate) struct Zones {
    pub(crate) existing_data: u32,
    pub(crate) existing_log: u32,
    pub(crate) log_in_use: Vec<u32>,
}

impl Zones {
    /// Whether the file or window has the zone of this number, for the log or for data.
    pub(crate) fn has(&self, zoning: Zoning, region: Region, zone: u32) -> bool {
        let own = match region {
            Region::Log => self.existing_log,
            Region::Data => self.existing_data,
        };
        let other = match (zoning, region) {
            (Zoning::Window | Zoning::Apart, _) => 0,
            (Zoning::Mixed, Region::Log) => self.existing_data,
            (Zoning::Mixed, Region::Data) => self.existing_log,
        };
        if zone & LENT == 0 { zone < own } else { (zone & !LENT) < other }
    }
}

/// Zones that exist and are nobody's, by the number that the log has for them, and how many there are in all.
struct ZonePool {
    zoning: Zoning,
    /// Where zones are kept apart these are the log's: those of data are always data's.
    free: BTreeSet<u32>,
    /// Zones that exist: in the log's file or the window, and in the data file. Those behind them need not.
    there: [u32; 2],
    /// Whether one is being made in each.
    making: [bool; 2],
    /// How many there may be: in all, or where they are kept apart in each file.
    max: u32,
}

fn index_of(region: Region) -> usize {
    usize::from(region == Region::Data)
}

impl ZonePool {
    fn new(zoning: Zoning, max: u32) -> ZonePool {
        ZonePool { zoning, free: BTreeSet::new(), there: [0; 2], making: [false; 2], max }
    }

    /// At open: these exist, and are free until somebody takes them.
    fn exist(&mut self, zones: &Zones) {
        let data = if self.zoning == Zoning::Window { 0 } else { zones.existing_data };
        self.there = [zones.existing_log, data];
        self.free = (0..zones.existing_log).chain((0..data).map(|zone| zone | LENT)).collect();
    }

    /// A free zone that data may have: the lowest of its own file or of the window, or if `lent` the highest of the log's.
    fn free_for_data(&self, lent: bool) -> Option<u32> {
        match (self.zoning, lent) {
            (Zoning::Window, false) => self.free.first().copied(),
            (Zoning::Mixed, false) => self.free.range(LENT..).next().copied(),
            (Zoning::Mixed, true) => self.free.range(..LENT).next_back().copied(),
            (Zoning::Window, true) | (Zoning::Apart, _) => None,
        }
    }

    /// Takes a zone; false if it is not free.
    fn take(&mut self, zone: u32) -> bool {
        self.free.remove(&zone)
    }

    /// Zones that do not exist, and may be made for the log.
    fn unmade(&self) -> usize {
        let [log, data] = self.there;
        match self.zoning {
            Zoning::Window => 0,
            Zoning::Mixed => self.max.saturating_sub(log.saturating_add(data)) as usize,
            Zoning::Apart => self.max.saturating_sub(log) as usize,
        }
    }

    fn can_make(&self, region: Region) -> bool {
        let count = |index: usize| self.there[index].saturating_add(u32::from(self.making[index]));
        match self.zoning {
            Zoning::Window => false,
            Zoning::Mixed => count(0).saturating_add(count(1)) < self.max,
            Zoning::Apart => count(index_of(region)) < self.max,
        }
    }

    fn begin_making(&mut self, region: Region) -> Option<u32> {
        let index = index_of(region);
        let begins = !self.making[index] && self.can_make(region);
        self.making[index] |= begins;
        begins.then_some(self.there[index])
    }

    fn end_making(&mut self, region: Region, zone: u32, made: bool) {
        let index = index_of(region);
        self.making[index] = false;
        if made {
            self.there[index] = zone + 1;
            self.free.insert(if region == Region::Data { zone | LENT } else { zone });
        }
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

    fn geometry(zones_max: u32) -> Geometry {
        let (inline_bytes_max, packed_bytes_max) = (1024, 65_536);
        Geometry {
            shard_count: 1,
            zone_bytes: ZONE_BYTES,
            inline_bytes_max,
            packed_bytes_max,
            zones_max,
            mixed: true,
        }
    }

    #[test]
    fn an_open_of_a_window_has_every_zone() {
        // Shows that zones below one with data, which nothing reaches, are free, and that none belongs to nobody.
        let mut space = Space::new(&geometry(16), true);
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
        let sizes = Geometry { zone_bytes: 16 * UNIT_BYTES as u32, ..geometry(4) };
        let mut space = Space::new(&sizes, false);
        let zones = Zones { existing_data: 4, existing_log: 0, log_in_use: Vec::new() };
        space.rebuild(zones, std::iter::empty(), &[], &BTreeMap::new()).unwrap();
        assert!(space.add_data_zone(false));
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
        assert!(space.add_data_zone(false));
        let (_, extents) = space.reserve(5 * UNIT, 4).unwrap();
        assert_eq!(extents.len(), 2, "{extents:?}");
    }
}
