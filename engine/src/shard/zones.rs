//! Zones are made before they are needed: the log always has its next one, data zones come one at a time.

use super::{Shard, State};
use crate::{
    error::{DeviceError, DeviceOperation, Error, Region},
    layout::Extent,
    log::memory::ZERO_BYTES,
    shard::space::Reservation,
};
use crossdock_transport::{memory::ScatterList, ring::Durability};
use std::time::Duration;

/// How long until a zone that found no space is tried again.
const RETRY_FULL: Duration = Duration::from_millis(100);
/// Pieces of zeros in one write.
const FILL_PIECES: usize = 16;

/// Log zones kept for deletes: one in eight, at least one, and never more than a few.
fn log_zones_reserved(zones_max: u32) -> usize {
    (zones_max as usize / 8).clamp(1, 4)
}

impl Shard {
    /// A zone for the log to enter after the next one; makes it in the background if it does not exist yet.
    pub(super) async fn claim_log_zone(&self) -> Result<u32, Error> {
        loop {
            let claimed = {
                let mut state = self.state.borrow_mut();
                let state = &mut *state;
                let catalog = &state.catalog;
                let claimed = state.space.claim_log_zone(|zone| catalog.packed_live(zone));
                if let Some((zone, _)) = claimed {
                    state.catalog.begin_zone(zone);
                }
                claimed
            };
            if let Some((zone, is_new)) = claimed {
                if is_new {
                    self.make_log_zone_soon(zone);
                } else {
                    let mut state = self.state.borrow_mut();
                    state.zones_ready.insert(zone);
                    state.log_full = false;
                }
                return Ok(zone);
            }
            self.state.borrow_mut().log_full = true;
            // Whoever closes the shard waits for this, or for the log to be written.
            self.progress.notify();
            self.checkpoint_soon();
            self.clean_soon();
            self.wait_for_space().await?;
        }
    }

    /// Whether changes that add something may be sequenced. The last zones of the log are kept for those that take
    /// something away: a full store that could not log a delete would stay full.
    pub(super) fn check_room(&self, state: &State) -> Result<(), Error> {
        let reserved = log_zones_reserved(self.identity.geometry.zones_max);
        if state.log_full || !state.space.has_log_zones(reserved, |zone| state.catalog.packed_live(zone)) {
            return Err(Error::Full { shard: self.id() });
        }
        Ok(())
    }

    /// Whether the log is about to run out of zones.
    pub(super) fn is_short(&self, state: &State) -> bool {
        let wanted = log_zones_reserved(self.identity.geometry.zones_max) + 1;
        !state.space.has_log_zones(wanted, |zone| state.catalog.packed_live(zone))
    }

    async fn wait_for_space(&self) -> Result<(), Error> {
        if self.closing.get() {
            return Err(Error::Full { shard: self.id() });
        }
        self.core.sleep(RETRY_FULL).await;
        Ok(())
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

    /// Makes the zone after the tail's, after an open that found it missing.
    pub(super) fn make_next_log_zone(&self) {
        let zone = self.state.borrow().tail.next_zone;
        self.make_log_zone_soon(zone);
    }

    fn make_log_zone_soon(&self, zone: u32) {
        let Some(shard) = self.strong() else { return };
        self.core
            .spawn(async move {
                loop {
                    match shard.make_log_zone(zone).await {
                        Ok(()) => {
                            let mut state = shard.state.borrow_mut();
                            state.zones_ready.insert(zone);
                            state.log_full = false;
                            break;
                        }
                        Err(error) if is_full(&error) && !shard.closing.get() => {
                            shard.state.borrow_mut().log_full = true;
                            shard.progress.notify();
                            shard.core.sleep(RETRY_FULL).await;
                        }
                        Err(error) => {
                            let mut state = shard.state.borrow_mut();
                            if is_full(&error) {
                                state.log_full = true;
                            } else {
                                tracing::error!(%error, "shard stops writing");
                                state.failed.get_or_insert(error);
                            }
                            break;
                        }
                    }
                }
                shard.progress.notify();
                shard.work.notify();
            })
            .detach();
    }

    /// Allocates a log zone and fills it with zeros, so that commits overwrite blocks that exist: a durable write
    /// into unwritten extents makes the file system commit its journal each time.
    pub(super) async fn make_log_zone(&self, zone: u32) -> Result<(), DeviceError> {
        let zone_bytes = self.zone_bytes();
        let start = self.files.log_zones_at + u64::from(zone) * zone_bytes;
        self.grow(Region::Log, start + zone_bytes).await?;
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
        self.sync(Region::Log).await
    }

    /// Space for an object of `bytes`.
    ///
    /// # Errors
    /// [`Error::Full`] if the device has no more.
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<(Reservation, Vec<Extent>), Error> {
        loop {
            let seen = {
                let mut state = self.state.borrow_mut();
                self.check_writable(&state)?;
                if let Some(reserved) = state.space.reserve(bytes) {
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
                self.check_writable(&state)?;
                if let Some(reserved) = state.space.reserve_one(bytes) {
                    return Ok(reserved);
                }
                state.space.next_data_zone()
            };
            self.add_data_zone(seen).await?;
        }
    }

    /// Makes one more data zone, unless somebody else made one since the caller saw `seen` as the next.
    async fn add_data_zone(&self, seen: Option<u32>) -> Result<(), Error> {
        let full = Error::Full { shard: self.id() };
        let seen = seen.ok_or(full.clone())?;
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
            }
        }
        self.progress.notify();
        match result {
            Err(error) if is_full(&error) => Err(full),
            other => other.map_err(Error::Device),
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
