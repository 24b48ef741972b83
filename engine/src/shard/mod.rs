//! A shard: one log, one index, one set of zones, owned by one core.
//!
//! ```text
//!   requests ─► sequence (conditions judged) ─► queue ─► batch ─► data sync ─► log write ─► apply ─► acknowledge
//!                    │ overlay: sequenced, not applied                           │ catalog: applied
//! ```
//!
//! The fields are touched by the owning core alone, and never across an await: [`State`] is borrowed, looked at or
//! changed, and let go.

mod acknowledge;
pub(crate) mod buckets;
pub(crate) mod catalog;
pub(crate) mod checkpoint;
mod clean;
pub(crate) mod commit;
pub(crate) mod deletes;
mod gather;
pub(crate) mod listing;
pub(crate) mod open;
pub(crate) mod overlay;
pub(crate) mod reading;
mod replay;
pub(crate) mod requests;
pub(crate) mod scrub;
pub(crate) mod space;
mod sync;
pub(crate) mod uploads;
pub(crate) mod zones;

use crate::{
    core_engine::CoreEngine,
    device::{BlockDevice, pair::PairedDevice},
    error::{Corruption, DeviceError, Error, Region, Resource},
    layout::{
        Anchor, CheckpointRoot, Entry, Extent, Geometry, LogPosition, MetaHash, SecretKey, Version,
        regions::{self, LENT},
    },
    log::{Proposal, memory::LogShare, tail::Tail},
    reactor::{Core, Moment, Signal},
};
use acknowledge::Acknowledgements;
use catalog::Catalog;
use gather::Gathering;
use overlay::Overlay;
use space::Space;
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    rc::{Rc, Weak},
};
use sync::Syncs;

/// The files of a shard as its owner sees them.
#[derive(Clone)]
pub(crate) struct ShardFiles {
    pub(crate) log: Rc<dyn BlockDevice>,
    pub(crate) data: Rc<dyn BlockDevice>,
    /// Where the anchors' copies and zone 0 lie on each.
    pub(crate) log_base: u64,
    pub(crate) log_zones_at: u64,
    pub(crate) data_zones_at: u64,
    /// Log and data zones come from one window of a block device.
    pub(crate) shared: bool,
    zone_bytes: u32,
}

impl ShardFiles {
    /// The two files of a shard, each with the other's zones behind its own.
    pub(crate) fn of_files(
        log: Rc<dyn BlockDevice>,
        data: Rc<dyn BlockDevice>,
        zone_bytes: u32,
    ) -> ShardFiles {
        let (in_log, in_data) =
            (regions::Region::log_file(zone_bytes), regions::Region::data_file(zone_bytes));
        let (log_at, data_at) = (in_log.zone_offset(0), in_data.zone_offset(0));
        let pair = |own, other, border, other_at| Rc::new(PairedDevice::new(own, other, border, other_at));
        ShardFiles {
            log: pair(log.clone(), data.clone(), in_log.zone_offset(LENT), data_at),
            data: pair(data, log, in_data.zone_offset(LENT), log_at),
            log_base: in_log.anchor_offset(0),
            log_zones_at: log_at,
            data_zones_at: data_at,
            shared: false,
            zone_bytes,
        }
    }

    /// The window of a block device.
    pub(crate) fn of_window(
        device: Rc<dyn BlockDevice>,
        window: regions::Region,
        zone_bytes: u32,
    ) -> ShardFiles {
        ShardFiles {
            log: device.clone(),
            data: device,
            log_base: window.anchor_offset(0),
            log_zones_at: window.zone_offset(0),
            data_zones_at: window.zone_offset(0),
            shared: true,
            zone_bytes,
        }
    }

    /// In which file a place lies, and where there: that of a zone which the other file lends is said as if it lay behind all
    /// zones of its own.
    pub(crate) fn locate(&self, region: Region, offset: u64) -> (Region, u64) {
        let (own, other) = match region {
            Region::Log => (self.log_zones_at, (Region::Data, self.data_zones_at)),
            Region::Data => (self.data_zones_at, (Region::Log, self.log_zones_at)),
        };
        match offset.checked_sub(own + u64::from(LENT) * u64::from(self.zone_bytes)) {
            Some(behind) if !self.shared => (other.0, other.1 + behind),
            _ => (region, offset),
        }
    }
}

/// What a shard is made with.
#[derive(Clone, Copy)]
pub(crate) struct ShardIdentity {
    pub(crate) store: u128,
    pub(crate) shard: u16,
    pub(crate) geometry: Geometry,
    pub(crate) secret: SecretKey,
}

pub(crate) struct Shard {
    pub(crate) identity: ShardIdentity,
    pub(crate) core: Core,
    pub(crate) files: ShardFiles,
    pub(crate) tuning: Tuning,
    pub(crate) memory: LogShare,
    state: RefCell<State>,
    /// Something to write, or room to write it.
    work: Signal,
    /// A batch became durable, a zone was made, a sync ended, or the shard failed.
    progress: Signal,
    /// Those who wait for a batch of their own.
    acknowledgements: Acknowledgements,
    log_syncs: Syncs,
    data_syncs: Syncs,
    closing: Cell<bool>,
    scrub: scrub::Scrub,
    me: Weak<Shard>,
}

/// What the simulator makes small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// A checkpoint is taken after so many bytes of log.
    pub(crate) checkpoint_log_bytes: u64,
    /// How long after the last acknowledgement an idle log is sealed, in microseconds.
    pub(crate) seal_us: u64,
    /// Bytes of the heap that its index may take; with more it is not opened.
    pub(crate) index_bytes_max: u64,
    /// Of these so many are left by what adds to it: for the last change that is let in, and for records of buckets, which all shards have.
    pub(crate) index_bytes_kept: u64,
    /// How often a scrub logs how far it is, in microseconds.
    pub(crate) scrub_note_us: u64,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            checkpoint_log_bytes: if cfg!(planted) { 2 << 20 } else { 64 << 20 },
            seal_us: 2000,
            index_bytes_max: u64::MAX,
            index_bytes_kept: 0,
            scrub_note_us: 30_000_000,
        }
    }
}

struct State {
    catalog: Catalog,
    overlay: Overlay,
    space: Space,
    /// Sequenced, not yet in a batch.
    queue: VecDeque<Proposal>,
    queue_bytes: usize,
    /// Bytes of the heap that entries take which are sequenced and not applied.
    pending_bytes: u64,
    /// Proposals so far: sequenced, and applied.
    sequenced: u64,
    applied: u64,
    in_flight: VecDeque<InFlight>,
    tail: Tail,
    epoch: u64,
    /// Batches up to this one are durable and applied.
    durable_upto: u64,
    /// The last of them that had entries: what the log must state before it may rest.
    acknowledged_upto: u64,
    /// The highest `durable_upto` that a header has stated.
    stated_upto: u64,
    gathering: Gathering,
    /// Entries are encoded here, to be counted and to be written.
    encoded: Vec<u8>,
    /// Since when nothing was to be written; somebody waits to seal the log then, and whether that is due.
    idle_since: Moment,
    sealing: bool,
    seal_due: bool,
    version_counter: u64,
    anchor: Anchor,
    checkpoint_extents: Vec<Extent>,
    replay: replay::ReplayLength,
    /// Bytes of log that the open replayed.
    #[cfg_attr(not(any(test, feature = "testing")), expect(dead_code, reason = "the simulator looks at it"))]
    replayed_bytes: u64,
    checkpointing: bool,
    /// Bytes of extents that the checkpoint being taken has so far.
    checkpoint_taking: u64,
    cleaning: bool,
    /// Log zones in which the cleaner had to leave something.
    stuck_zones: HashMap<u32, clean::Stuck>,
    /// Log zones from the one replay would start in to the one being written, with the first batch of each.
    log_order: VecDeque<ZoneStart>,
    zones_ready: HashSet<u32>,
    growing: bool,
    /// Log zones are being made; and when the device last refused to make one, if it did the last time.
    making_zones: bool,
    zones_refused: Option<Moment>,
    /// When data last wanted a zone and there was none, if there was none the last time.
    data_refused: Option<Moment>,
    log_full: bool,
    failed: Option<DeviceError>,
    /// Once no more is written: the last proposal that came into a batch.
    written_last: Option<u64>,
    hole: Option<Corruption>,
    counts: Counts,
}

/// A log zone and where the chain stood when the log entered it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZoneStart {
    pub(crate) zone: u32,
    pub(crate) sequence: u64,
}

struct InFlight {
    sequence: u64,
    position: LogPosition,
    previous: MetaHash,
    next_zone: u32,
    bytes: u64,
    entries: Vec<Entry>,
    result: Option<Result<(), DeviceError>>,
}

/// Counters of one shard since it was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) batches: u64,
    pub(crate) entries: u64,
    pub(crate) seals: u64,
    pub(crate) data_syncs: u64,
    pub(crate) log_bytes: u64,
    pub(crate) checkpoints: u64,
    pub(crate) zones_cleaned: u64,
    pub(crate) payloads_moved: u64,
}

/// Numbers of one shard, for metrics and tools.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ShardStatistics {
    /// The shard.
    pub shard: u16,
    /// Versions it holds.
    pub versions: u64,
    /// Batches written, seals among them.
    pub batches: u64,
    /// Entries committed.
    pub entries: u64,
    /// Empty batches that only state the watermark.
    pub seals: u64,
    /// Syncs of the data zones before a batch.
    pub data_syncs: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Log zones that the cleaner went through.
    pub zones_cleaned: u64,
    /// Packed payloads that it moved.
    pub payloads_moved: u64,
    /// Bytes of extents in use.
    pub extent_bytes_used: u64,
    /// Bytes free in zones in which extents lie, or that are kept for a checkpoint.
    pub extent_bytes_free: u64,
    /// Zones of the log, with payloads in them or being written.
    pub log_zones: u32,
    /// Zones that exist and are free, for the log or for data.
    pub zones_free: u32,
    /// Bytes of the heap that its index takes at most.
    pub index_bytes: u64,
    /// How far its scrub is.
    pub scrub: scrub::ScrubProgress,
    /// Whether a failure stopped its writing.
    pub read_only: bool,
}

/// How full a store is: see [`crate::Engine::space`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceUse {
    /// Bytes that its zones may come to. Fixed when the store is made; in a directory the file system may be full before.
    pub capacity_bytes: u64,
    /// Bytes in use: of large objects, and of the zones in which the log and small objects lie, with what is dead in those and not cleaned
    /// yet.
    pub used_bytes: u64,
    /// The others. Not all of them can be filled: each shard keeps some for deletes and for its next checkpoint, and one may be
    /// full before another.
    pub free_bytes: u64,
    /// Shards that this is the sum of: fewer than there are if some could not be reached.
    pub shards: u16,
}

impl SpaceUse {
    pub(crate) fn add(&mut self, other: &SpaceUse) {
        self.capacity_bytes += other.capacity_bytes;
        self.used_bytes += other.used_bytes;
        self.free_bytes += other.free_bytes;
        self.shards += other.shards;
    }
}

impl Shard {
    pub(crate) fn id(&self) -> u16 {
        self.identity.shard
    }

    /// A refusal, counted by the core.
    fn busy(&self, resource: Resource) -> Error {
        let engine = CoreEngine::of(&self.core);
        engine.map_or(Error::Busy(resource), |engine| engine.busy(resource))
    }

    /// Itself, to be kept by a task.
    fn strong(&self) -> Option<Rc<Shard>> {
        self.me.upgrade()
    }

    /// Reads this shard's structures as one that is not running is read.
    fn reading(&self, gate: Option<Rc<dyn reading::Gate>>) -> reading::Reading {
        let (identity, core, files) = (self.identity, self.core.clone(), self.files.clone());
        reading::Reading { identity, core, files, gate }
    }

    fn zone_bytes(&self) -> u64 {
        u64::from(self.identity.geometry.zone_bytes)
    }

    /// Where a place in a log zone lies on the log's device.
    pub(crate) fn log_offset(&self, place: LogPosition) -> u64 {
        self.files.log_zones_at + u64::from(place.zone) * self.zone_bytes() + u64::from(place.offset)
    }

    /// Where an extent lies on the data device.
    pub(crate) fn data_offset(&self, extent: Extent) -> u64 {
        self.files.data_zones_at + u64::from(extent.zone) * self.zone_bytes() + extent.offset()
    }

    /// A version newer than every one before it: the epoch grows with each open, the counter within it.
    fn next_version(state: &mut State) -> Version {
        state.version_counter += 1;
        Version(state.epoch << 40 | state.version_counter)
    }

    /// Whether the space in use is just what is reachable or held.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn check_space(&self) -> Result<(), String> {
        use std::collections::BTreeSet;
        let state = self.state.borrow();
        let mut reachable: Vec<Extent> = state.checkpoint_extents.clone();
        state.catalog.contents().for_each(|c| catalog::extents_of(c, &mut |extent| reachable.push(extent)));
        reachable.sort_unstable();
        for same in reachable.chunk_by(|one, other| one == other) {
            let (extent, records) = (same[0], same.len() as u32);
            let counted = state.space.references(extent);
            if counted != records {
                return Err(format!("{extent:?} is reached by {records} records, {counted} are counted"));
            }
        }
        let distinct: BTreeSet<Extent> = reachable.iter().copied().collect();
        let held: BTreeSet<Extent> = state.space.held_extents().into_iter().collect();
        let used: BTreeSet<Extent> = state.space.used_extents().into_iter().collect();
        let accounted: BTreeSet<Extent> = distinct.union(&held).copied().collect();
        if used != accounted {
            let leaked: Vec<_> = used.difference(&accounted).collect();
            let missing: Vec<_> = accounted.difference(&used).collect();
            return Err(format!("leaked {leaked:?}, used but free {missing:?}"));
        }
        if state.space.lost_zones() != 0 {
            return Err(format!("{} zones are neither free nor in use", state.space.lost_zones()));
        }
        if !held.is_empty() || state.space.pin_count() > 0 {
            return Err(format!("{held:?} and {} pins are held at rest", state.space.pin_count()));
        }
        Ok(())
    }

    /// Whether it misses something of its log.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn has_hole(&self) -> bool {
        self.state.borrow().hole.is_some()
    }

    /// Whether it is at this work.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_at(&self, work: crate::testing::history::Work) -> bool {
        use crate::testing::history::Work;
        let state = self.state.borrow();
        match work {
            Work::Checkpoint => state.checkpointing,
            Work::Cleaning => state.cleaning,
            Work::Zone => state.making_zones,
            // What is on its way to the device is known there.
            Work::Anchor => false,
        }
    }

    /// Bytes of log that its open replayed, and the most that an open now would have to; none where checkpoints can not be taken.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn replay_bytes(&self) -> (u64, Option<u64>) {
        let state = self.state.borrow();
        (state.replayed_bytes, state.replay.bytes_max())
    }

    /// Whether its log says that all that was acknowledged is durable.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_sealed(&self) -> bool {
        let state = self.state.borrow();
        state.queue.is_empty() && state.in_flight.is_empty() && state.stated_upto >= state.acknowledged_upto
    }

    /// What of its log device a recovery would replay now.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn replayed_log(&self) -> Vec<std::ops::Range<u64>> {
        let state = self.state.borrow();
        let (start, tail) = (state.anchor.log_start, state.tail.position);
        let in_zone = |begun: &ZoneStart| {
            let zone = begun.zone;
            let from = if zone == start.zone { start.offset } else { 0 };
            let to = if zone == tail.zone { u64::from(tail.offset) } else { self.zone_bytes() };
            let place = |offset: u64| self.log_offset(LogPosition { zone, offset: 0 }) + offset;
            place(from.into())..place(to)
        };
        state.log_order.iter().map(in_zone).filter(|range| range.start < range.end).collect()
    }

    /// Where its log stands, in words: for whoever finds that nothing goes on.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn scene(&self) -> String {
        let state = self.state.borrow();
        format!(
            "{} sequenced, {} applied, {} queued, {} in flight, full {}, failed {}, checkpointing {}",
            state.sequenced,
            state.applied,
            state.queue.len(),
            state.in_flight.len(),
            state.log_full,
            state.failed.is_some(),
            state.checkpointing,
        )
    }

    pub(crate) fn space_use(&self) -> SpaceUse {
        let state = self.state.borrow();
        let zone_bytes = self.zone_bytes();
        let capacity_bytes = u64::from(state.space.zones_max()) * zone_bytes;
        let used_bytes = state.space.usage().0 + u64::from(state.space.log_zone_count().0) * zone_bytes;
        let free_bytes = capacity_bytes.saturating_sub(used_bytes);
        SpaceUse { capacity_bytes, used_bytes, free_bytes, shards: 1 }
    }

    pub(crate) fn statistics(&self) -> ShardStatistics {
        use crate::index::Index;
        let state = self.state.borrow();
        let (used, free) = state.space.usage();
        let (log_zones, zones_free) = state.space.log_zone_count();
        ShardStatistics {
            shard: self.id(),
            versions: state.catalog.index.len() as u64,
            batches: state.counts.batches,
            entries: state.counts.entries,
            seals: state.counts.seals,
            data_syncs: state.counts.data_syncs,
            log_bytes: state.counts.log_bytes,
            checkpoints: state.counts.checkpoints,
            zones_cleaned: state.counts.zones_cleaned,
            payloads_moved: state.counts.payloads_moved,
            extent_bytes_used: used,
            extent_bytes_free: free,
            log_zones,
            zones_free,
            index_bytes: state.catalog.memory_bytes(),
            scrub: self.scrub_progress(),
            read_only: state.failed.is_some() || state.hole.is_some(),
        }
    }
}

/// Where the newest checkpoint is, or that there is none yet.
fn checkpoint_id(root: Option<CheckpointRoot>) -> u64 {
    root.map_or(0, |root| root.id)
}
