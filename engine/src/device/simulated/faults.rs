//! What goes wrong on a simulated disk: how often by the plan, when by injection, and how often it did.

use super::FileId;
use std::{collections::BTreeSet, fmt};

/// One way to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A read completes with `EIO`.
    ReadError,
    /// A write completes with `EIO`, having written any front of itself.
    WriteError,
    /// A sync completes with `EIO`; what it was for is never durable by a later sync.
    SyncError,
    /// A read gives fewer blocks than there are, perhaps none.
    ShortRead,
    /// A write completes with a count that is less than all, having written so much.
    ShortWrite,
    /// A write lands on other blocks of the same file, and says that all went well.
    MisdirectedWrite,
    /// A write or a growth completes with `ENOSPC`.
    NoSpace,
    /// An operation hangs until the simulator lets it go on.
    Stall,
}

/// How often an injected fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The next operation it can strike.
    Once,
    /// Each, until [`super::SimulatedDisk::heal`].
    Sticky,
}

/// How often each fault strikes the operations it can strike: per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// [`Fault::ReadError`] per million reads.
    pub read_error: u32,
    /// [`Fault::WriteError`] per million writes.
    pub write_error: u32,
    /// [`Fault::SyncError`] per million syncs.
    pub sync_error: u32,
    /// [`Fault::ShortRead`] per million reads.
    pub short_read: u32,
    /// [`Fault::ShortWrite`] per million writes.
    pub short_write: u32,
    /// [`Fault::MisdirectedWrite`] per million writes.
    pub misdirected_write: u32,
    /// [`Fault::NoSpace`] per million writes and growths.
    pub no_space: u32,
    /// [`Fault::Stall`] per million times that an operation is chosen to complete.
    pub stall: u32,
}

/// What has gone wrong so far. The first eight are faults by the name of [`Fault`], two befall what is at rest; the last six are fates at a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Reads that failed.
    pub read_errors: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Syncs that failed.
    pub sync_errors: u64,
    /// Reads that gave too little.
    pub short_reads: u64,
    /// Writes that wrote too little.
    pub short_writes: u64,
    /// Writes that landed elsewhere.
    pub misdirected_writes: u64,
    /// Writes and growths that found no room by a fault.
    pub no_space: u64,
    /// Operations that hung.
    pub stalls: u64,
    /// Bits flipped at rest.
    pub bit_flips: u64,
    /// Blocks that could not be read any more.
    pub bad_blocks: u64,
    /// Crashes, counted once for each file.
    pub crashes: u64,
    /// Writes not durable that a crash kept whole.
    pub kept_writes: u64,
    /// Writes not durable that a crash lost whole.
    pub lost_writes: u64,
    /// Writes not durable that a crash tore.
    pub torn_writes: u64,
    /// Blocks of kept or torn writes that read as zeros because their conversion was lost.
    pub lost_conversions: u64,
    /// Growths that a crash took back.
    pub lost_growths: u64,
}

impl FaultCounts {
    fn kinds(&mut self) -> [(&'static str, &mut u64); 16] {
        [
            ("reads failed", &mut self.read_errors),
            ("writes failed", &mut self.write_errors),
            ("syncs failed", &mut self.sync_errors),
            ("reads were short", &mut self.short_reads),
            ("writes were short", &mut self.short_writes),
            ("writes went elsewhere", &mut self.misdirected_writes),
            ("writes and growths found no room", &mut self.no_space),
            ("operations hung", &mut self.stalls),
            ("bits flipped", &mut self.bit_flips),
            ("blocks went bad", &mut self.bad_blocks),
            ("crashes of a file", &mut self.crashes),
            ("unflushed writes were kept", &mut self.kept_writes),
            ("were lost", &mut self.lost_writes),
            ("were torn", &mut self.torn_writes),
            ("blocks lost their conversion", &mut self.lost_conversions),
            ("growths were taken back", &mut self.lost_growths),
        ]
    }

    /// Adds another disk's numbers.
    pub fn add(&mut self, mut other: FaultCounts) {
        self.kinds().into_iter().zip(other.kinds()).for_each(|((_, sum), (_, count))| *sum += *count);
    }
}

impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = *self;
        let kinds = counts.kinds().map(|(name, count)| format!("{count} {name}"));
        f.write_str(&kinds.join(", "))
    }
}

#[derive(Default)]
pub(super) struct Faults {
    pub(super) plan: FaultPlan,
    pub(super) counts: FaultCounts,
    injected: Vec<(FileId, Fault, Times)>,
    /// What has struck each file since that was last forgotten.
    pub(super) struck: BTreeSet<(FileId, Fault)>,
}

impl Faults {
    pub(super) fn inject(&mut self, file: FileId, fault: Fault, times: Times) {
        self.injected.push((file, fault, times));
    }

    pub(super) fn clear_injected(&mut self) {
        self.injected.clear();
    }

    /// Whether the fault strikes an operation that it can strike; counts it.
    pub(super) fn strikes(&mut self, file: FileId, fault: Fault, rng: &mut fastrand::Rng) -> bool {
        let injected = self.injected.iter().position(|(at, what, _)| *at == file && *what == fault);
        if let Some(index) = injected
            && self.injected[index].2 == Times::Once
        {
            self.injected.remove(index);
        }
        let (rate, count) = match fault {
            Fault::ReadError => (self.plan.read_error, &mut self.counts.read_errors),
            Fault::WriteError => (self.plan.write_error, &mut self.counts.write_errors),
            Fault::SyncError => (self.plan.sync_error, &mut self.counts.sync_errors),
            Fault::ShortRead => (self.plan.short_read, &mut self.counts.short_reads),
            Fault::ShortWrite => (self.plan.short_write, &mut self.counts.short_writes),
            Fault::MisdirectedWrite => (self.plan.misdirected_write, &mut self.counts.misdirected_writes),
            Fault::NoSpace => (self.plan.no_space, &mut self.counts.no_space),
            Fault::Stall => (self.plan.stall, &mut self.counts.stalls),
        };
        // The generator turns whether or not there is a rate, so that a plan changes what fails and not what follows.
        let strikes = rng.u32(0..1_000_000) < rate || injected.is_some();
        *count += u64::from(strikes);
        if strikes {
            self.struck.insert((file, fault));
        }
        strikes
    }
}
