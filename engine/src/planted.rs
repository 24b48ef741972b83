//! Mistakes made on request, and places to die at: for builds that show whether the tests would notice.
//!
//! Such a build is made with `--cfg planted` in `RUSTFLAGS`: the simulator's mutations are (`cargo xtask simulate --long`). A
//! process of such a build can also be made to die at a named place; no test does so yet. In every other build [`planted`] is
//! the constant `false` and [`reach`] is empty: of neither is a branch, a name or a look at the environment left. It is no
//! feature, because whoever depends on the crate could switch that on.

#[cfg(planted)]
pub use build::{plant, replant};

/// A rule that is broken, each where it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A batch that points into a data file is written without syncing that file.
    SkipsDataSync,
    /// A batch is applied and acknowledged when its write begins.
    AcknowledgesEarly,
    /// What a reader reads is not held against reuse.
    ReusesExtents,
    /// Recovery takes no notice of what headers say is durable.
    IgnoresDurableUpto,
    /// One payload that the cleaner moved is still looked for where it was.
    DropsRelocation,
    /// Conditions are judged by what is applied, as if nothing were pending.
    JudgesLate,
    /// A log batch is written, but not durably.
    BuffersLog,
    /// Batches are applied and acknowledged as they come, not in order.
    TakesOutOfOrder,
    /// An open begins no new epoch.
    KeepsEpoch,
    /// The extents of a checkpoint are free before the anchor names the next one.
    FreesCheckpointEarly,
    /// Log zones below a checkpoint are given back before the anchor names it.
    FreesLogEarly,
    /// Bytes are handed out as they were read.
    TrustsReads,
}

/// A place at which a process can be made to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// An object's extents are written; nothing is logged.
    DataWritten,
    /// The data file is synced; the batch that points into it is not written.
    DataSynced,
    /// A batch is durable; nobody was told.
    LogWritten,
    /// A batch is applied; nobody was told.
    Applied,
    /// A log zone has room and zeros; nothing uses it.
    ZoneMade,
    /// Some chunks of a checkpoint are written.
    ChunkWritten,
    /// A checkpoint is durable; no anchor names it.
    CheckpointSynced,
    /// Some copies of an anchor are new.
    AnchorCopyWritten,
    /// A recovery has begun its epoch and taken no request.
    EpochBegun,
    /// The cleaner has sequenced moves.
    Relocating,
    /// A bucket's record is on some shards.
    BucketHalfMade,
    /// A bucket's record is gone from some shards.
    BucketHalfGone,
}

/// Whether this rule is to be broken.
#[cfg(not(planted))]
#[inline(always)]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

/// As [`planted`], the first time since it was planted.
#[cfg(not(planted))]
#[inline(always)]
pub(crate) const fn planted_once(_bug: Bug) -> bool {
    false
}

/// Dies here if asked to.
#[cfg(not(planted))]
#[inline(always)]
pub(crate) const fn reach(_point: Point) {}

#[cfg(planted)]
pub(crate) use build::{planted, planted_once, reach};

#[cfg(planted)]
mod build {
    use super::{Bug, Point};
    use std::{
        cell::Cell,
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
    };

    impl Bug {
        /// All of them, in the order in which they are tried.
        pub const ALL: [Bug; 12] = [
            Bug::SkipsDataSync,
            Bug::AcknowledgesEarly,
            Bug::ReusesExtents,
            Bug::IgnoresDurableUpto,
            Bug::DropsRelocation,
            Bug::JudgesLate,
            Bug::BuffersLog,
            Bug::TakesOutOfOrder,
            Bug::KeepsEpoch,
            Bug::FreesCheckpointEarly,
            Bug::FreesLogEarly,
            Bug::TrustsReads,
        ];
    }

    // Of the thread, since a run of the simulator is: several run side by side, and each repeats exactly.
    thread_local! {
        static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
        static MADE: Cell<bool> = const { Cell::new(false) };
    }

    /// Breaks this rule from now on, on this thread.
    pub fn plant(bug: Option<Bug>) {
        BUG.set(bug);
        replant();
    }

    /// What is broken only once is broken once more.
    pub fn replant() {
        MADE.set(false);
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }

    pub(crate) fn planted_once(bug: Bug) -> bool {
        planted(bug) && !MADE.replace(true)
    }

    /// Set to `POINT:N`, ends the process when it gets to the point for the N-th time, as `kill -9` does.
    const DIE_AT: &str = "CROSSDOCK_DIE_AT";

    pub(crate) fn reach(point: Point) {
        static WANTED: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
        let wanted = WANTED.get_or_init(|| {
            let text = std::env::var(DIE_AT).ok()?;
            let (name, count) = text.split_once(':')?;
            Some((name.to_owned(), AtomicU32::new(count.parse().ok()?)))
        });
        if let Some((name, left)) = wanted
            && *name == format!("{point:?}")
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
