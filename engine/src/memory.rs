//! What the engine takes of memory: a sum of named terms, printed when a store is opened, and never exceeded.
//!
//! ```text
//!   most = arena + rings + stacks + mailboxes + operations + checksum tables + listings + log queues + checkpoints + read cache + program + index
//! ```
//!
//! Every term but the last is fixed by how the store is opened. Each is the most that its queue or budget lets in (`engine/docs/limits.md`
//! has their names), so that the sum is held by refusing what would exceed it ([`crate::Error::Busy`]), not by hoping. The index grows with
//! the store; with [`crate::Builder::memory_max`] it gets what the others leave.
//!
//! What sessions of transports take is told beside the sum ([`MemoryPlan::beside`]) and is none of it: it is there only when clients come, and is the
//! most when all of them have all that they may, for which no index should be smaller.

use crate::{
    cache::table_bytes,
    error::OpenError,
    log::{BATCH_BUFFER_BYTES, memory::buffers_of_core},
    object::OPERATION_BYTES_MAX,
};
use crossdock_transport::{
    memory::LEASE_BYTES_MAX,
    remote::{SessionLimits, Transport},
};
use std::{fmt, sync::Arc};

/// Messages that a mailbox holds before senders keep them back, and what one takes: its slot, and the work that it carries.
pub(crate) const MAILBOX_MESSAGES: usize = 4096;
const MESSAGE_BYTES: u64 = 512;
/// What an operation of a ring takes: entries for submission and completion, the slot that keeps its memory.
const RING_OPERATION_BYTES: u64 = 512;
/// The stack of a core's thread.
pub(crate) const STACK_BYTES: usize = 2 << 20;
/// What an operation of the engine takes beside leases: its task, names, attributes, a record in flight.
const OPERATION_BYTES: u64 = 16 << 10;
/// Versions that listings of one core hold at once, and what one takes: a key of the greatest length, what is known of it.
pub(crate) const LISTED_MAX: usize = 32 << 10;
const LISTED_BYTES: u64 = 1536;
/// Changes of one shard that are sequenced and not yet applied: entries, what conditions see of them, encoded once.
pub(crate) const LOG_PENDING_BYTES_MAX: u64 = 8 << 20;
/// Records that a checkpoint or the cleaner copies at a time, and the one that is encoded.
pub(crate) const WALK_BYTES: u64 = 1 << 20;
const WALKERS: u64 = 4;
/// Code, tables, what the allocator keeps for each thread; buckets and uploads are counted with the index.
const PROGRAM_BYTES: u64 = 32 << 20;
const ALLOCATOR_CORE_BYTES: u64 = 4 << 20;
/// Less than this is no index to work with.
const INDEX_BYTES_MIN: u64 = 4 << 20;

/// One term of the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryTerm {
    /// What it is.
    pub name: &'static str,
    /// The most that it takes, bytes.
    pub bytes: u64,
    /// How that comes about, in words and numbers.
    pub formula: String,
}

/// What an open store takes of memory at most. Its `Display` is a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryPlan {
    /// The terms that do not depend on what is stored.
    pub terms: Vec<MemoryTerm>,
    /// Bytes that the index takes now, at most: it grows with every version.
    pub index_bytes: u64,
    /// Bytes that it may take before what adds to it is [`Busy`](crate::Error::Busy); none: no bound.
    pub index_bytes_max: Option<u64>,
    /// What may come beside the sum: for each transport the most that its sessions take, when there are as many as there may be.
    pub beside: Vec<MemoryTerm>,
}

/// What the terms are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) cores: usize,
    pub(crate) shards: u16,
    pub(crate) arena_bytes: usize,
    pub(crate) ring_depth: usize,
    pub(crate) operations_max: usize,
    /// Of all cores; it lies in the arena.
    pub(crate) read_cache_bytes: usize,
}

impl MemoryPlan {
    /// The plan of a store before its index is read.
    ///
    /// # Errors
    /// The bound leaves nothing for an index.
    pub(crate) fn new(sizes: Sizes, bytes_max: Option<u64>) -> Result<MemoryPlan, OpenError> {
        let Sizes { cores, shards, arena_bytes, ring_depth, operations_max, read_cache_bytes } = sizes;
        let (per_core, per_shard) = (cores as u64, u64::from(shards));
        let whole = arena_bytes as u64;
        let mib = |bytes: u64| bytes >> 20;
        // Whoever holds a table of checksums also holds leases, of which the arena has no more.
        let tables = (whole / OPERATION_BYTES_MAX as u64).max(1);
        let table = LEASE_BYTES_MAX as u64;
        let walks = WALK_BYTES * WALKERS;
        let terms = vec![
            MemoryTerm {
                name: "arena",
                bytes: whole,
                formula: format!(
                    "leases of {cores} cores: transfers, checkpoints, {} log buffers of {} KiB each",
                    buffers_of_core(usize::from(shards).div_ceil(cores)),
                    BATCH_BUFFER_BYTES >> 10
                ),
            },
            MemoryTerm {
                name: "rings",
                bytes: per_core * ring_depth as u64 * RING_OPERATION_BYTES,
                formula: format!("{cores} cores x {ring_depth} operations x {RING_OPERATION_BYTES} B"),
            },
            MemoryTerm {
                name: "stacks",
                bytes: per_core * STACK_BYTES as u64,
                formula: format!("{cores} cores x {} MiB", mib(STACK_BYTES as u64)),
            },
            MemoryTerm {
                name: "mailboxes",
                bytes: per_core * MAILBOX_MESSAGES as u64 * MESSAGE_BYTES,
                formula: format!("{cores} cores x {MAILBOX_MESSAGES} messages x {MESSAGE_BYTES} B"),
            },
            MemoryTerm {
                name: "operations",
                bytes: per_core * operations_max as u64 * OPERATION_BYTES,
                formula: format!("{cores} cores x {operations_max} x {} KiB", OPERATION_BYTES >> 10),
            },
            MemoryTerm {
                name: "checksum tables",
                bytes: tables * table,
                formula: format!("{tables} large transfers x {} MiB", mib(table)),
            },
            MemoryTerm {
                name: "listings",
                bytes: per_core * LISTED_MAX as u64 * LISTED_BYTES,
                formula: format!("{cores} cores x {LISTED_MAX} versions x {LISTED_BYTES} B"),
            },
            MemoryTerm {
                name: "log queues",
                bytes: per_shard * LOG_PENDING_BYTES_MAX,
                formula: format!("{shards} shards x {} MiB", mib(LOG_PENDING_BYTES_MAX)),
            },
            MemoryTerm {
                name: "checkpoints",
                bytes: per_shard * walks,
                formula: format!("{shards} shards x {} MiB of records being written", mib(walks)),
            },
            MemoryTerm {
                name: "read cache",
                bytes: table_bytes(read_cache_bytes as u64),
                formula: format!("tables for {} MiB that lie in the arena", mib(read_cache_bytes as u64)),
            },
            MemoryTerm {
                name: "program",
                bytes: PROGRAM_BYTES + per_core * ALLOCATOR_CORE_BYTES,
                formula: format!(
                    "{} MiB + {cores} cores x {} MiB",
                    mib(PROGRAM_BYTES),
                    mib(ALLOCATOR_CORE_BYTES)
                ),
            },
        ];
        let mut plan = MemoryPlan { terms, index_bytes: 0, index_bytes_max: None, beside: Vec::new() };
        if let Some(bytes_max) = bytes_max {
            let (fixed, least) = (plan.fixed_bytes(), plan.fixed_bytes() + INDEX_BYTES_MIN * per_shard);
            if bytes_max < least {
                return Err(OpenError::Options(format!(
                    "{} MiB of memory are too little: {cores} cores and {shards} shards take {} MiB, and their index at least {} MiB",
                    mib(bytes_max),
                    mib(fixed),
                    mib(least - fixed),
                )));
            }
            plan.index_bytes_max = Some(bytes_max - fixed);
        }
        Ok(plan)
    }

    /// The same with what the sessions of these transports take.
    pub(crate) fn beside(
        mut self,
        transports: &[Arc<dyn Transport>],
        limits: &SessionLimits,
        cores: usize,
    ) -> MemoryPlan {
        let term = |transport: &Arc<dyn Transport>| MemoryTerm {
            name: transport.name(),
            bytes: (cores as u64).saturating_mul(transport.endpoint_bytes_max(limits)),
            formula: format!(
                "beside, if clients come: {cores} cores x {} sessions x {} operations",
                limits.sessions_max, limits.credits
            ),
        };
        self.beside = transports.iter().map(term).collect();
        self
    }

    /// Bytes of all terms that do not depend on what is stored.
    pub fn fixed_bytes(&self) -> u64 {
        self.terms.iter().map(|term| term.bytes).sum()
    }

    /// The most that all of it takes, with the index as it is now.
    pub fn bytes(&self) -> u64 {
        self.fixed_bytes() + self.index_bytes
    }
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        for term in &self.terms {
            writeln!(formatter, "{:<16} {:>9.1} MiB  {}", term.name, mib(term.bytes), term.formula)?;
        }
        let most = match self.index_bytes_max {
            Some(most) => format!("now, at most {:.1} MiB", mib(most)),
            None => "now; it grows by some 600 B and the key for each version".to_owned(),
        };
        writeln!(formatter, "{:<16} {:>9.1} MiB  {most}", "index", mib(self.index_bytes))?;
        let sum = match self.index_bytes_max {
            Some(most) => self.fixed_bytes() + most,
            None => self.bytes(),
        };
        write!(formatter, "{:<16} {:>9.1} MiB", "most", mib(sum))?;
        for term in &self.beside {
            write!(formatter, "\n{:<16} {:>9.1} MiB  {}", term.name, mib(term.bytes), term.formula)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        cores: 2,
        shards: 4,
        arena_bytes: 64 << 20,
        ring_depth: 1024,
        operations_max: 1024,
        read_cache_bytes: 0,
    };

    /// The bound is what the sum says, or the store is not opened.
    #[test]
    fn the_index_gets_what_is_left() {
        let free = MemoryPlan::new(SIZES, None).unwrap();
        assert_eq!(free.index_bytes_max, None);
        let bound = free.fixed_bytes() + (100 << 20);
        let plan = MemoryPlan::new(SIZES, Some(bound)).unwrap();
        assert_eq!(plan.index_bytes_max, Some(100 << 20));
        let text = plan.to_string();
        for term in &plan.terms {
            assert!(text.contains(term.name), "{text}");
        }
        assert!(text.contains(&format!("{:.1} MiB", bound as f64 / 1_048_576.0)), "{text}");
        assert!(MemoryPlan::new(SIZES, Some(free.fixed_bytes())).is_err());
    }

    /// What sessions may take is told, and is no part of the sum; it follows from how many there may be.
    #[test]
    fn sessions_of_transports_are_beside_the_sum() {
        use crossdock_transport::loopback::Loopback;
        let transports: [Arc<dyn Transport>; 1] = [Arc::new(Loopback::new())];
        let limits = SessionLimits { sessions_max: 100, credits: 8, ..SessionLimits::default() };
        let free = MemoryPlan::new(SIZES, None).unwrap();
        let plan = free.clone().beside(&transports, &limits, 2);
        assert_eq!((plan.fixed_bytes(), plan.bytes()), (free.fixed_bytes(), free.bytes()));
        let [term] = &plan.beside[..] else { panic!("{:?}", plan.beside) };
        assert_eq!((term.name, term.bytes), ("loopback", 2 * 100 * (4096 + 8 * 512)));
        assert_eq!(plan.to_string().strip_prefix(&free.to_string()).unwrap().lines().count(), 2);
        assert!(plan.to_string().ends_with("2 cores x 100 sessions x 8 operations"));
    }
}
