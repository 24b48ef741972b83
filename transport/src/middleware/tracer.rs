//! Operations in the log, and counted.

use super::{Fate, Middleware, Observed};
use crate::remote::{Access, TransferError};
use std::cell::Cell;

/// What a [`Tracer`] has seen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Operations posted.
    pub posted: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// Bytes that came from clients.
    pub read_bytes: u64,
    /// Bytes that went to clients.
    pub written_bytes: u64,
}

/// Writes every operation to the log, at trace level (failures at debug level), and counts.
#[derive(Default, Debug)]
pub struct Tracer {
    counts: Cell<Counts>,
}

impl Tracer {
    /// What it has seen so far.
    pub fn counts(&self) -> Counts {
        self.counts.get()
    }
}

impl Middleware for Tracer {
    fn before(&self, operation: &Observed) -> Fate {
        tracing::trace!(?operation, "posted");
        let mut counts = self.counts.get();
        counts.posted += 1;
        self.counts.set(counts);
        Fate::Pass
    }

    fn after(&self, operation: &Observed, result: Result<u32, TransferError>) {
        let mut counts = self.counts.get();
        match (result, operation.access) {
            (Ok(bytes), Access::Read) => counts.read_bytes += u64::from(bytes),
            (Ok(bytes), Access::Write) => counts.written_bytes += u64::from(bytes),
            (Err(_), _) => counts.failed += 1,
        }
        self.counts.set(counts);
        match result {
            Ok(bytes) => tracing::trace!(?operation, bytes, "done"),
            Err(error) => tracing::debug!(?operation, %error, "failed"),
        }
    }
}
