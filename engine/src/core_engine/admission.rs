//! Admission: what operations of one core may use at once, and how long they wait for it.

use super::CoreEngine;
use crate::{
    error::{Error, Resource},
    memory::LISTED_MAX,
    object::list::LIST_LIMIT_MAX,
    reactor::{Budget, Grant},
};
use crossdock_transport::memory::BufferLease;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

/// What operations on one core may use at once.
pub(crate) struct CoreLimits {
    pub(crate) operations: Budget,
    /// Bodies being written: fewer than operations, so that writers who stall leave some for everybody else.
    pub(crate) writes: Budget,
    pub(crate) write_bytes: Classes,
    pub(crate) read_bytes: Classes,
    /// Versions that listings hold.
    pub(crate) listed: Budget,
    /// Shards whose metadata a scrub reads: one at a time, for it holds the largest leases while it does.
    pub(crate) metadata_scrubs: Budget,
    /// Leases that the cleaners of this core's shards have, but for the first of each.
    pub(crate) cleaning: Budget,
    /// How long an operation may wait for its share before it is told [`Error::Busy`].
    pub(crate) admission_wait: Duration,
}

/// Memory for transfers, that of small ones apart: some large ones that stall take all there is for large ones, and no more.
pub(crate) struct Classes {
    small: Budget,
    large: Budget,
}

/// Transfers whose leases take no more than this are small ones.
const SMALL_BYTES_MAX: usize = 512 * 1024;
/// Who may wait for one budget at a time; whoever comes then is told at once.
const WAITING_MAX: usize = 4096;
/// How long whoever was let in waits for a lease. The budgets leave memory for all who were, so that what has not come by then is kept by
/// somebody who takes more than that: perhaps by the caller, who would wait for himself.
const LEASE_WAIT: Duration = Duration::from_secs(5);

impl Classes {
    fn new(bytes: usize) -> Classes {
        Classes { small: Budget::new(bytes / 4), large: Budget::new(bytes - bytes / 4) }
    }

    pub(super) fn of(&self, bytes: usize) -> &Budget {
        if bytes <= SMALL_BYTES_MAX { &self.small } else { &self.large }
    }
}

impl CoreLimits {
    /// `operations` at once, and transfers in `spare` bytes of leases: half of them for bodies being written, a quarter for
    /// objects being read. What is left over serves checkpoints and the like, and the odd superpage that small leases keep apart.
    pub(crate) fn new(operations: usize, spare: usize, admission_wait: Duration) -> CoreLimits {
        CoreLimits {
            operations: Budget::new(operations),
            writes: Budget::new(operations / 2),
            write_bytes: Classes::new(spare / 2),
            read_bytes: Classes::new(spare / 4),
            listed: Budget::new(LISTED_MAX),
            metadata_scrubs: Budget::new(1),
            cleaning: Budget::new(spare / 16),
            admission_wait,
        }
    }
}

impl CoreEngine {
    pub(super) async fn admit(&self) -> Result<Grant, Error> {
        self.grant(&self.0.limits.operations, 1, Resource::Operations).await
    }

    pub(super) async fn grant(
        &self,
        budget: &Budget,
        amount: usize,
        resource: Resource,
    ) -> Result<Grant, Error> {
        if let Some(grant) = budget.try_take(amount) {
            return Ok(grant);
        }
        let longest = self.1.unwrap_or(self.0.limits.admission_wait);
        if longest.is_zero() || budget.waiting() >= WAITING_MAX {
            return Err(self.busy(resource));
        }
        self.within(longest, budget.take(amount), resource).await
    }

    /// A refusal, counted.
    pub(crate) fn busy(&self, resource: Resource) -> Error {
        self.0.metrics.count_refusal(resource);
        Error::Busy(resource)
    }

    /// For a page of so many lines.
    pub(super) async fn listed(&self, limit: usize) -> Result<Grant, Error> {
        // What shards give beyond their share comes to half as much again at most.
        let lines = limit.min(LIST_LIMIT_MAX);
        self.grant(&self.0.limits.listed, lines + lines / 2 + 1, Resource::Listings).await
    }

    /// A lease for an operation that was let in.
    ///
    /// # Errors
    /// [`Error::Busy`] with the name of the memory it is of, after [`LEASE_WAIT`].
    pub(crate) async fn lease(&self, bytes: usize, of: Resource) -> Result<BufferLease, Error> {
        let pool = self.core().pool();
        match pool.try_acquire(bytes) {
            Some(lease) => Ok(lease),
            None => self.within(LEASE_WAIT, pool.acquire(bytes), of).await,
        }
    }

    /// What `wait` resolves with, if it does in time.
    async fn within<T>(
        &self,
        longest: Duration,
        wait: impl Future<Output = T>,
        resource: Resource,
    ) -> Result<T, Error> {
        let (mut wait, mut limit) = (pin!(wait), pin!(self.core().sleep(longest)));
        poll_fn(|cx| {
            if let Poll::Ready(granted) = wait.as_mut().poll(cx) {
                return Poll::Ready(Ok(granted));
            }
            limit.as_mut().poll(cx).map(|()| Err(self.busy(resource)))
        })
        .await
    }
}
