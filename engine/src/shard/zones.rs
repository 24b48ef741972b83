//! Zones are made before they are needed, and room is kept for what takes away.
//!
//! ```text
//!   log    ├ being written ┤ next ┤ ready: at least the reserve ┤ ... kept for packed objects ... ┤ not made yet
//!   data   ├ objects, and a checkpoint in two copies ┤ free: room for the next checkpoint ┤ not made yet
//! ```
//!
//! A device may be filled by others, and by data zones, at any time: a log that could not go on then could not even
//! log a delete, and a full store would stay full for ever. So the log only enters zones that exist; changes that
//! add something wait until a reserve of such zones is there, and are refused when it can not be made; and no data
//! zone is made before the reserve. Deletes and the cleaner use it, and a checkpoint gives it back. For that checkpoint
//! objects leave room in the data zones.

use super::{Shard, State};
use crate::{
    error::{DeviceError, DeviceOperation, Error, Region, Resource},
    layout::{CHUNK_COPIES, Extent},
    log::memory::ZERO_BYTES,
    planted::{Point, reach},
    shard::{checkpoint::CHUNK_BYTES, space::Reservation},
};
use crossdock_transport::{memory::ScatterList, ring::Durability};
use std::time::Duration;

/// How long until a zone that found no space is tried again.
const RETRY_FULL: Duration = Duration::from_millis(100);
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
                let could_be_made =
                    state.space.next_new_log_zone().is_some() && state.zones_refused.is_none();
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
        if state.catalog.memory_bytes() + state.pending_bytes > self.tuning.index_bytes_max {
            return Err(Error::Busy(Resource::Index));
        }
        let reserved = log_zones_reserved(self.identity.geometry.zones_max);
        let live = |zone| state.catalog.packed_live(zone);
        let refused = state.zones_refused.is_some() && !self.is_ready(state);
        let checkpoint = self.leaves_checkpoint(state, 0);
        if state.log_full || refused || !checkpoint || !state.space.has_log_zones(reserved, live) {
            return Err(Error::Full { shard: self.id() });
        }
        Ok(())
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
                state.space.next_data_zone()
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
                if stopped || self.is_ready(&state) || state.space.next_new_log_zone().is_none() {
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

    /// Whether the log is about to run out of zones: of numbers for them, or of room on the device.
    pub(super) fn is_short(&self, state: &State) -> bool {
        let wanted = log_zones_reserved(self.identity.geometry.zones_max) + 1;
        state.zones_refused.is_some() && !self.is_ready(state)
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
            if ready || state.making_zones || state.space.next_new_log_zone().is_none() {
                return;
            }
            state.making_zones = true;
        }
        let Some(shard) = self.strong() else { return };
        self.core
            .spawn(async move {
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
                let state = self.state.borrow();
                // What is sequenced when the shard is closed is still written: one zone may be needed for that.
                let wanted = if self.closing.get() { 1 } else { self.ready_wanted(&state).max(1) };
                let ready = state.space.has_ready_log_zones(wanted, |zone| state.catalog.packed_live(zone));
                match state.space.next_new_log_zone() {
                    Some(zone) if !ready => zone,
                    _ => return Ok(()),
                }
            };
            self.make_log_zone(zone).await?;
            let mut state = self.state.borrow_mut();
            // In a shared window data may have taken this number meanwhile; it is then not the log's.
            if state.space.next_new_log_zone() == Some(zone) {
                state.space.add_log_zone(zone);
            }
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
                state.space.next_data_zone()
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
                state.space.next_data_zone()
            };
            self.add_data_zone(seen).await?;
        }
    }

    /// Whether so many bytes of extents leave room for the next checkpoint: for as much as this one, some more, and the
    /// two chunks that any takes.
    fn leaves_checkpoint(&self, state: &State, bytes: u64) -> bool {
        let now: u64 = state.checkpoint_extents.iter().map(|extent| extent.bytes()).sum();
        let chunk = (CHUNK_BYTES as u64).min(self.zone_bytes());
        let kept = now + now / 4 + CHUNK_COPIES as u64 * chunk;
        state.space.free_in_extents_of(chunk) + state.checkpoint_taking >= bytes + kept
    }

    /// Makes one more data zone, unless somebody else made one since the caller saw `seen` as the next.
    async fn add_data_zone(&self, seen: Option<u32>) -> Result<(), Error> {
        let full = Error::Full { shard: self.id() };
        let seen = seen.ok_or(full.clone())?;
        // The log's reserve comes first.
        self.log_zones_made().await;
        {
            let state = self.state.borrow();
            self.check_running(&state)?;
            if !self.leaves_log_zones(&state) {
                return Err(full);
            }
        }
        self.progress.wait(|| (!self.state.borrow().growing).then_some(())).await;
        if self.state.borrow().space.next_data_zone() != Some(seen) {
            return Ok(());
        }
        self.state.borrow_mut().growing = true;
        let end = self.files.data_zones_at + u64::from(seen + 1) * self.zone_bytes();
        let result = self.grow(Region::Data, end).await;
        {
            let mut state = self.state.borrow_mut();
            state.growing = false;
            // In a shared window the log may have taken this number meanwhile; it is then not ours.
            if result.is_ok() && state.space.next_data_zone() == Some(seen) {
                state.space.add_data_zone(seen);
                reach(Point::DataZoneMade);
            }
        }
        self.progressed();
        match result {
            Err(error) if is_full(&error) => Err(full),
            other => other.map_err(Error::Device),
        }
    }

    /// Whether data may take one more zone.
    fn leaves_log_zones(&self, state: &State) -> bool {
        let reserved = log_zones_reserved(self.identity.geometry.zones_max);
        let live = |zone| state.catalog.packed_live(zone);
        match state.space.is_shared() {
            true => state.space.has_log_zones(reserved + 1, live),
            false => self.is_ready(state),
        }
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
