//! Syncs of a shard's files: one at a time each, for all that asked before it began.
//!
//! Two at once on one file would not be safe. A sync that fails may take written blocks with it that never reach the
//! device; one that runs beside it then finds nothing left to do, succeeds, and vouches for blocks that are lost. Here the
//! next sync begins only when the result of the one before is known, and after a failure none begins any more.

use super::Shard;
use crate::{
    error::{DeviceError, DeviceOperation, Region},
    planted::{Bug, planted, planted_once},
};
use std::cell::Cell;

/// Syncs of one file, counted.
#[derive(Default)]
pub(super) struct Syncs {
    begun: Cell<u64>,
    ended: Cell<u64>,
}

impl Shard {
    /// Makes durable what was written to data zones before the call, whichever file they lie in.
    ///
    /// # Errors
    /// As [`Shard::sync`].
    pub(super) async fn sync_data(&self) -> Result<(), DeviceError> {
        let lent = self.state.borrow().space.has_lent_data();
        self.sync(Region::Data).await?;
        if lent && !planted(Bug::SyncsOneFile) {
            self.sync(Region::Log).await?;
        }
        Ok(())
    }

    /// Makes durable what was written to a file before the call.
    ///
    /// # Errors
    /// A sync failed: this one, or one before, whoever asked for it. What it did not make durable is unknown, so the shard
    /// has stopped writing.
    ///
    /// # Cancellation
    /// A sync that began goes on, and its failure stops the shard.
    pub(super) async fn sync(&self, region: Region) -> Result<(), DeviceError> {
        let syncs = self.syncs(region);
        let wanted = syncs.begun.get() + 1;
        loop {
            let begins = self.progress.wait(|| self.next_sync(region, wanted)).await?;
            if !begins {
                return Ok(());
            }
            syncs.begun.set(syncs.begun.get() + 1);
            match self.strong() {
                Some(shard) => self.core.run_through(async move { shard.sync_alone(region).await }).await,
                None => self.sync_alone(region).await,
            }
        }
    }

    /// Whether the caller, who waits for sync number `wanted`, is to begin the next (true), or has it (false).
    fn next_sync(&self, region: Region, wanted: u64) -> Option<Result<bool, DeviceError>> {
        if let Some(error) = self.state.borrow().failed {
            return Some(Err(error));
        }
        let syncs = self.syncs(region);
        if syncs.ended.get() >= wanted {
            return Some(Ok(false));
        }
        (syncs.begun.get() == syncs.ended.get()).then_some(Ok(true))
    }

    async fn sync_alone(&self, region: Region) {
        let device = self.device(region);
        let slot = device.queue().slot().await;
        if let Err(source) = device.sync(slot).await.result {
            let error = self.device_error(region, DeviceOperation::Sync, 0, 0, source);
            tracing::error!(%error, "shard stops writing");
            self.state.borrow_mut().failed.get_or_insert(error);
            let _ = planted_once(Bug::StopsOthers);
            self.work.notify();
        }
        let syncs = self.syncs(region);
        syncs.ended.set(syncs.begun.get());
        self.progressed();
    }

    fn syncs(&self, region: Region) -> &Syncs {
        match region {
            // A window of a block device is one file.
            _ if self.files.shared => &self.data_syncs,
            Region::Data => &self.data_syncs,
            Region::Log => &self.log_syncs,
        }
    }
}
