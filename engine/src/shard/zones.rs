//! Zones are made before they are needed, and room is kept for what takes away.
//!
//! ```text
//!   log    ├ being written ┤ next ┤ ... kept for packed objects ... ┤
//!   nobody ├ ready: at least the log's reserve ┤ what data and the log gave up ... ┤ not made yet
//!   data   ├ objects, and a checkpoint in two copies ┤ free: room for the next checkpoint ┤
//! ```
//!
//! A device may be filled by others, and by data zones, at any time: a log that could not go on then could not even
//! log a delete, and a full store would stay full for ever. So the log only enters zones that exist; changes that
//! add something wait until a reserve of such zones is there, and are refused when it can not be made; and no data
//! zone is made before the reserve. Deletes and the cleaner use it, and a checkpoint gives it back. For that checkpoint
//! objects leave room in the data zones.
//!
//! Zones that exist and are nobody's serve both. The log takes those before it makes one, and in files those of its own file first:
//! they were filled with zeros. Data takes what its own file has, makes more as long as that goes, and then has from the log's
//! file what the reserve leaves. A zone that is free anywhere is thus never a reason to be full, beyond the reserve.

use super::{Shard, State, Tuning};
use crate::{
    error::{DeviceError, DeviceOperation, Error, Region, Resource},
    layout::{CHUNK_COPIES, Extent, Geometry},
    log::memory::ZERO_BYTES,
    planted::{Point, reach},
    shard::{checkpoint::CHUNK_BYTES, space::Reservation},
};
use crossdock_transport::{memory::ScatterList, ring::Durability};
use std::time::Duration;

/// How long until a zone that found no space is tried again.
const RETRY_FULL: Duration = Duration::from_millis(100);
/// How long after data found no zone the log is cleaned for it.
const WANTED_FOR: Duration = Duration::from_secs(10);
/// Pieces of zeros in one write.
const FILL_PIECES: usize = 16;
/// Log zones that are ready, at most, besides the one the log enters next: with them, and what a checkpoint
/// frees, deletes go on for as long as there is something to delete.
const READY_ZONES: usize = 2;
/// A small store has less: one in so many zones.
const ZONES_FOR_A_READY_ONE: usize = 4;

/// Numbers of log zones kept for deletes: one in eight, at least one, and never more than a few.
fn log_zones_reserved(zones_max: u32) -> usize {
    (zones_max as usize / 8).clamp(1, 4)
}

/// Bytes of a checkpoint's chunk, and of its extent.
fn checkpoint_chunk(geometry: &Geometry) -> u64 {
    (CHUNK_BYTES as u64).min(u64::from(geometry.zone_bytes))
}

impl State {
    /// Keeps room for the checkpoint after this one: for as much as this one, some more, and the two chunks that any takes.
    pub(super) fn keep_for_checkpoint(&mut self, geometry: &Geometry) {
        let now: u64 = self.checkpoint_extents.iter().map(|extent| extent.bytes()).sum();
        let chunk = checkpoint_chunk(geometry);
        self.space.keep(now + now / 4 + CHUNK_COPIES as u64 * chunk, chunk);
    }
}

impl Shard {
    /// A zone for the log to enter after the next one. It exists.
    pub(super) async fn claim_log_zone(&self) -> Result<u32, Error> {
        loop {
            if let Some(zone) = self.try_claim_log_zone() {
                self.make_log_zones_soon();
                return Ok(zone);
            }
            self.make_log_zones_soon();
            self.progress.wait(|| (!self.state.borrow().making_zones).then_some(())).await;
            let closing = self.closing.get();
            {
                let mut state = self.state.borrow_mut();
                if let Some(error) = state.failed {
                    return Err(Error::Device(error));
                }
                let could_be_made = state.space.can_make_zone(Region::Log) && state.zones_refused.is_none();
                if !state.space.has_ready_log_zones(1, |zone| state.catalog.packed_live(zone))
                    && !could_be_made
                {
                    state.log_full = true;
                }
                if !state.log_full {
                    continue;
                }
            }
            // Whoever closes the shard waits for this, or for the log to be written.
            self.progressed();
            self.free_log_zones();
            if closing {
                return Err(Error::Full { shard: self.id() });
            }
            self.core.sleep(RETRY_FULL).await;
        }
    }

    fn try_claim_log_zone(&self) -> Option<u32> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let catalog = &state.catalog;
        let zone = state.space.claim_log_zone(|zone| catalog.packed_live(zone))?;
        state.catalog.begin_zone(zone);
        state.stuck_zones.remove(&zone);
        state.zones_ready.insert(zone);
        state.log_full = false;
        Some(zone)
    }

    /// How many log zones must be ready before something is added. The larger the store, the more; a block device has
    /// all its zones.
    fn ready_wanted(&self, state: &State) -> usize {
        let reserved = log_zones_reserved(self.identity.geometry.zones_max);
        (state.space.zone_count() / ZONES_FOR_A_READY_ONE).min(READY_ZONES).min(reserved)
    }

    fn is_ready(&self, state: &State) -> bool {
        state.space.has_ready_log_zones(self.ready_wanted(state), |zone| state.catalog.packed_live(zone))
    }

    /// Whether changes that add something may be sequenced. The last zones of the log are kept for those that take
    /// something away: a full store that could not log a delete would stay full.
    pub(super) fn check_room(&self, state: &State) -> Result<(), Error> {
        self.check_index(state)?;
        let reserved = log_zones_reserved(self.identity.geometry.zones_max);
        let live = |zone| state.catalog.packed_live(zone);
        let refused = state.zones_refused.is_some() && !self.is_ready(state);
        let checkpoint = self.leaves_checkpoint(state, 0);
        if state.log_full || refused || !checkpoint || !state.space.has_log_zones(reserved, live) {
            return Err(Error::Full { shard: self.id() });
        }
        Ok(())
    }

    /// Whether the index may become larger. It is refused before it has all that it may take: nothing that is let in then, and nothing that is
    /// not asked, makes it so large that the store could not be opened again.
    fn check_index(&self, state: &State) -> Result<(), Error> {
        let Tuning { index_bytes_max, index_bytes_kept, .. } = self.tuning;
        let bytes = state.catalog.memory_bytes() + state.pending_bytes;
        match bytes > index_bytes_max.saturating_sub(index_bytes_kept) {
            true => Err(Error::Busy(Resource::Index)),
            false => Ok(()),
        }
    }

    /// Whether a delete marker may be sequenced. It is a delete to whoever asks for it, and has the zones that are kept for those: it
    /// adds a record and no bytes of an object, and a checkpoint gives the log back what its entry took. So it is refused only
    /// where there is no room for that checkpoint, with the record in it.
    pub(super) fn check_room_for_marker(&self, state: &State) -> Result<(), Error> {
        self.check_index(state)?;
        match state.log_full || !self.leaves_checkpoint(state, 0) {
            true => Err(Error::Full { shard: self.id() }),
            false => Ok(()),
        }
    }

    /// Resolves once a change that adds something to the bucket may be sequenced, at once: the bucket is not about to go
    /// ([`Shard::bucket_decided`]), and there is room, or it is known that there is not. [`Shard::check_room`]
    /// says which.
    pub(super) async fn ready_to_add(&self, bucket: &str) {
        let mut refused = false;
        loop {
            self.bucket_decided(bucket).await;
            // While room is being made, another bucket's fate may come to be decided, and the other way round.
            if refused || !self.room_can_be_made(&self.state.borrow()) {
                return;
            }
            refused = !self.make_room().await;
        }
    }

    /// Whether [`Shard::ready_to_add`] has nothing to wait for, whatever the bucket.
    pub(crate) fn is_ready_to_add(&self) -> bool {
        let state = self.state.borrow();
        state.overlay.deciding.is_empty() && !self.room_can_be_made(&state)
    }

    /// Whether there is no room, and making some has not been given up.
    pub(super) fn room_can_be_made(&self, state: &State) -> bool {
        let stopped = self.check_writable(state).is_err() || state.log_full || self.closing.get();
        let is_there = self.is_ready(state) && self.leaves_checkpoint(state, 0);
        !stopped && !is_there
    }

    /// Makes room for the log and for a checkpoint. Says whether that worked.
    pub(super) async fn make_room(&self) -> bool {
        loop {
            // With each data zone the reserve may grow.
            self.log_zones_made().await;
            let seen = {
                let state = self.state.borrow();
                if self.check_writable(&state).is_err() || !self.is_ready(&state) {
                    return false;
                }
                if self.leaves_checkpoint(&state, 0) {
                    return true;
                }
                state.space.data_zones_added()
            };
            if self.add_data_zone(seen).await.is_err() {
                return false;
            }
        }
    }

    async fn log_zones_made(&self) {
        loop {
            {
                let state = self.state.borrow();
                let stopped = state.failed.is_some() || state.log_full || self.closing.get();
                if stopped || self.is_ready(&state) || !state.space.can_make_zone(Region::Log) {
                    return;
                }
                if state.zones_refused.is_some_and(|at| self.core.now().since(at) < RETRY_FULL) {
                    return;
                }
            }
            self.make_log_zones_soon();
            self.progress.wait(|| (!self.state.borrow().making_zones).then_some(())).await;
            if self.state.borrow().zones_refused.is_some() {
                self.free_log_zones();
            }
        }
    }

    /// Begins what gives log zones back, where there is something to be had.
    fn free_log_zones(&self) {
        if self.state.borrow().log_order.len() > 1 {
            self.checkpoint_soon();
        }
        self.clean_soon();
    }

    /// Whether the log is about to run out of zones, of numbers for them, or of room on the device; or data wants one, and the
    /// log has more than it needs if it is cleaned.
    pub(super) fn is_short(&self, state: &State) -> bool {
        let wanted = log_zones_reserved(self.identity.geometry.zones_max) + 1;
        state.zones_refused.is_some() && !self.is_ready(state)
            || state.data_refused.is_some_and(|at| self.core.now().since(at) < WANTED_FOR)
            || !state.space.has_log_zones(wanted, |zone| state.catalog.packed_live(zone))
    }

    /// Resolves once the zone can be written.
    pub(super) async fn zone_ready(&self, zone: u32) -> Result<(), Error> {
        self.progress
            .wait(|| {
                let state = self.state.borrow();
                if state.zones_ready.contains(&zone) {
                    return Some(Ok(()));
                }
                if self.closing.get() && state.log_full {
                    return Some(Err(Error::Full { shard: self.id() }));
                }
                state.failed.map(|error| Err(Error::Device(error)))
            })
            .await
    }

    /// Makes log zones in the background until one more than the reserve is ready, or the device refuses.
    fn make_log_zones_soon(&self) {
        {
            let mut state = self.state.borrow_mut();
            let wanted = self.ready_wanted(&state).max(1);
            let ready = state.space.has_ready_log_zones(wanted, |zone| state.catalog.packed_live(zone));
            if ready || state.making_zones || !state.space.can_make_zone(Region::Log) {
                return;
            }
            state.making_zones = true;
        }
        let Some(shard) = self.strong() else { return };
        self.core
            .spawn_own(async move {
                let result = shard.make_log_zones().await;
                {
                    let mut state = shard.state.borrow_mut();
                    state.making_zones = false;
                    state.zones_refused = None;
                    match result {
                        Ok(()) => {}
                        Err(error) if is_full(&error) => state.zones_refused = Some(shard.core.now()),
                        Err(error) => {
                            tracing::error!(%error, "shard stops writing");
                            state.failed.get_or_insert(error);
                        }
                    }
                }
                shard.progressed();
                shard.work.notify();
            })
            .detach();
    }

    async fn make_log_zones(&self) -> Result<(), DeviceError> {
        loop {
            let zone = {
                let mut state = self.state.borrow_mut();
                // What is sequenced when the shard is closed is still written: one zone may be needed for that.
                let wanted = if self.closing.get() { 1 } else { self.ready_wanted(&state).max(1) };
                let ready = state.space.has_ready_log_zones(wanted, |zone| state.catalog.packed_live(zone));
                match (!ready).then(|| state.space.begin_making(Region::Log)).flatten() {
                    Some(zone) => zone,
                    None => return Ok(()),
                }
            };
            let made = self.make_log_zone(zone).await;
            self.state.borrow_mut().space.end_making(Region::Log, zone, made.is_ok());
            made?;
        }
    }

    /// Allocates a log zone and fills it with zeros, so that commits overwrite blocks that exist: a durable write
    /// into unwritten extents makes the file system commit its journal each time.
    pub(super) async fn make_log_zone(&self, zone: u32) -> Result<(), DeviceError> {
        let zone_bytes = self.zone_bytes();
        let start = self.files.log_zones_at + u64::from(zone) * zone_bytes;
        self.grow(Region::Log, start + zone_bytes).await?;
        reach(Point::ZoneGrown);
        let zeros = self.memory.zeros();
        let mut offset = start;
        while offset < start + zone_bytes {
            let mut scatter = ScatterList::new();
            let mut left = (start + zone_bytes - offset).min((ZERO_BYTES * FILL_PIECES) as u64);
            while left > 0 {
                let bytes = left.min(ZERO_BYTES as u64);
                scatter.push(zeros.slice(0..bytes as usize));
                left -= bytes;
            }
            let bytes = scatter.bytes() as u64;
            self.write(Region::Log, offset, scatter, Durability::Buffered, bytes).await?;
            offset += bytes;
        }
        self.sync(Region::Log).await?;
        reach(Point::ZoneMade);
        Ok(())
    }

    /// Space for an object of `bytes`, in so many extents at most.
    ///
    /// # Errors
    /// [`Error::Full`] if the device has no more, or only in smaller pieces.
    pub(crate) async fn reserve(
        &self,
        bytes: u64,
        extents_max: usize,
    ) -> Result<(Reservation, Vec<Extent>), Error> {
        loop {
            let seen = {
                let mut state = self.state.borrow_mut();
                self.check_running(&state)?;
                if self.leaves_checkpoint(&state, bytes)
                    && let Some(reserved) = state.space.reserve(bytes, extents_max)
                {
                    return Ok(reserved);
                }
                state.space.data_zones_added()
            };
            self.add_data_zone(seen).await?;
        }
    }

    /// One extent of at least `bytes`, which may be at most a zone.
    pub(crate) async fn reserve_one(&self, bytes: u64) -> Result<(Reservation, Extent), Error> {
        debug_assert!(bytes <= self.zone_bytes());
        loop {
            let seen = {
                let mut state = self.state.borrow_mut();
                self.check_running(&state)?;
                if let Some(reserved) = state.space.reserve_one(bytes) {
                    return Ok(reserved);
                }
                state.space.data_zones_added()
            };
            self.add_data_zone(seen).await?;
        }
    }

    /// Whether so many bytes of extents leave room for the next checkpoint.
    fn leaves_checkpoint(&self, state: &State, bytes: u64) -> bool {
        let free = state.space.free_in_extents_of(checkpoint_chunk(&self.identity.geometry));
        free + state.checkpoint_taking >= bytes + state.space.kept_bytes()
    }

    /// Gives data one more zone, unless somebody else did since the caller saw that it was given one `seen` times.
    async fn add_data_zone(&self, seen: u64) -> Result<(), Error> {
        // The log's reserve comes first.
        self.log_zones_made().await;
        self.progress.wait(|| (!self.state.borrow().growing).then_some(())).await;
        let zone = {
            let mut state = self.state.borrow_mut();
            self.check_running(&state)?;
            if state.space.data_zones_added() != seen {
                return Ok(());
            }
            if self.leaves_log_zones(&state, 1) && state.space.add_data_zone(false) {
                state.data_refused = None;
                return Ok(());
            }
            let makes = self.leaves_log_zones(&state, 0);
            let zone = makes.then(|| state.space.begin_making(Region::Data)).flatten();
            state.growing = zone.is_some();
            zone
        };
        let Some(zone) = zone else { return self.lend_to_data(seen) };
        let made = match self.strong() {
            // Whoever wants the zone may go away, and others wait for it.
            Some(shard) => self.core.run_through(async move { shard.make_data_zone(zone).await }).await,
            None => self.make_data_zone(zone).await,
        };
        match made {
            Err(error) if is_full(&error) => self.lend_to_data(seen),
            other => other.map_err(Error::Device),
        }
    }

    async fn make_data_zone(&self, zone: u32) -> Result<(), DeviceError> {
        let end = self.files.data_zones_at + u64::from(zone + 1) * self.zone_bytes();
        let mut made = self.grow(Region::Data, end).await;
        if made.is_ok() && self.identity.geometry.mixed {
            // The log may have it once data gives it up, and only enters zones that exist durably.
            made = self.sync(Region::Data).await;
        }
        {
            let mut state = self.state.borrow_mut();
            state.growing = false;
            state.space.end_making(Region::Data, zone, made.is_ok());
            if made.is_ok() {
                state.data_refused = None;
                reach(Point::DataZoneMade);
            }
        }
        self.progressed();
        made
    }

    /// No zone can be made for data: it is given one that the log does not need. If there is none now, there may be once
    /// the log was cleaned.
    fn lend_to_data(&self, seen: u64) -> Result<(), Error> {
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            if state.space.data_zones_added() != seen {
                return Ok(());
            }
            let catalog = &state.catalog;
            state.space.reclaim_log_zones(|zone| catalog.packed_live(zone));
            let leaves = self.leaves_log_zones(state, 1);
            if leaves && (state.space.add_data_zone(false) || state.space.add_data_zone(true)) {
                state.data_refused = None;
                return Ok(());
            }
            state.data_refused = (!state.space.is_apart()).then(|| self.core.now());
        }
        self.free_log_zones();
        Err(Error::Full { shard: self.id() })
    }

    /// Whether data may have one more zone: of those that exist so many, or else a new one.
    fn leaves_log_zones(&self, state: &State, taken: usize) -> bool {
        let reserved = log_zones_reserved(self.identity.geometry.zones_max);
        let live = |zone| state.catalog.packed_live(zone);
        if state.space.is_apart() {
            return self.is_ready(state);
        }
        state.space.has_ready_log_zones(self.ready_wanted(state) + taken, live)
            && state.space.has_log_zones(reserved + 1, live)
    }

    async fn grow(&self, region: Region, bytes: u64) -> Result<(), DeviceError> {
        let device = self.device(region);
        let geometry = device.geometry();
        if geometry.bytes >= bytes {
            return Ok(());
        }
        let fail = |source| self.device_error(region, DeviceOperation::Grow, bytes, 0, source);
        if !geometry.growable {
            return Err(fail(crossdock_transport::operation::OsError(
                rustix::io::Errno::NOSPC.raw_os_error(),
            )));
        }
        let slot = device.queue().slot().await;
        device.grow(slot, bytes).await.result.map(|_| ()).map_err(fail)
    }
}

pub(super) fn is_full(error: &DeviceError) -> bool {
    let full = [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT, rustix::io::Errno::FBIG];
    full.iter().any(|errno| errno.raw_os_error() == error.source.0)
}
