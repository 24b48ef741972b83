//! Mistakes made on request, and places to die at: for builds that show whether the tests would notice.
//!
//! Such a build is made with `--cfg planted`: the simulator's mutations are (`cargo xtask simulate --mutations`), and so is the
//! server that the crash tests have die at each named place (`cargo xtask crash`). In every other build [`planted`] is the
//! constant `false` and [`reach`] is empty: of neither is a branch, a name or a look at the environment left. It is no
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
    /// Extents are free when the record that removes their object is sequenced, and not when it is durable.
    FreesExtentsEarly,
    /// Bytes are handed out as they were read.
    TrustsReads,
    /// Where the log can not be read it ends.
    EndsAtBadBlocks,
    /// Of two files that a batch points into only one is synced before it is written.
    SyncsOneFile,
    /// No checkpoint is taken because of how much there would be to replay.
    PutsOffCheckpoints,
    /// With one shard all others stop taking changes.
    StopsOthers,
}

/// Names the places once, for the type and for the list of all.
macro_rules! points {
    ($($(#[$about:meta])* $name:ident,)*) => {
        /// A place at which a process can be made to die. `engine/docs/recovery.md` says of each what is then on the disk, and
        /// what the next open makes of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Point {
            $($(#[$about])* $name,)*
        }

        #[cfg(planted)]
        impl Point {
            const ALL: &[Point] = &[$(Point::$name,)*];
        }
    };
}

points! {
    /// Some shards of a new store are made; it has no superblock.
    ShardMade,
    /// The superblock of a new store is durable, but not under its name.
    SuperblockWritten,
    /// It is under its name; the mark of an unfinished store is there too.
    SuperblockNamed,
    /// An object's extents are written; nothing is logged.
    DataWritten,
    /// The data file is synced; the batch that points into it is not written.
    DataSynced,
    /// A batch is durable; nobody was told.
    LogWritten,
    /// A batch is applied; nobody was told.
    Applied,
    /// A log zone has room, and no zeros.
    ZoneGrown,
    /// A log zone has room and zeros; nothing uses it.
    ZoneMade,
    /// The log has gone on to the next zone, where nothing of it is yet.
    ZoneEntered,
    /// The data file has room for one more zone, which nothing uses.
    DataZoneMade,
    /// Some chunks of a checkpoint are written.
    ChunkWritten,
    /// A checkpoint is durable; no anchor names it.
    CheckpointSynced,
    /// Some copies of an anchor are new.
    AnchorCopyWritten,
    /// A recovery has read all that it needs and written nothing.
    Recovered,
    /// A recovery has made some copies of an anchor the same that a crash had left behind.
    AnchorCopyMended,
    /// A recovery has begun its epoch and taken no request.
    EpochBegun,
    /// A recovery has brought some shards in line about a bucket.
    BucketSettling,
    /// The cleaner has sequenced moves.
    Relocating,
    /// Moves of the cleaner are durable; the zone they came from is not used again.
    Relocated,
    /// The completion of an upload is sequenced.
    UploadCompleting,
    /// It is durable; nobody was told.
    UploadCompleted,
    /// A copy that shares its source's extents is durable; nobody was told.
    ExtentsShared,
    /// Of several records that point to an extent one is gone.
    ReferenceDropped,
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

/// Whether [`planted_once`] was answered yes for this rule.
#[cfg(not(planted))]
#[inline(always)]
pub(crate) const fn was_made(_bug: Bug) -> bool {
    false
}

/// Has [`planted_once`] answer yes for this rule once more.
#[cfg(not(planted))]
#[inline(always)]
pub(crate) const fn unmake(_bug: Bug) {}

/// Dies here if asked to.
#[cfg(not(planted))]
#[inline(always)]
pub(crate) const fn reach(_point: Point) {}

#[cfg(planted)]
pub(crate) use build::{planted, planted_once, reach, unmake, was_made};

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
        pub const ALL: [Bug; 17] = [
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
            Bug::FreesExtentsEarly,
            Bug::TrustsReads,
            Bug::EndsAtBadBlocks,
            Bug::SyncsOneFile,
            Bug::PutsOffCheckpoints,
            Bug::StopsOthers,
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

    pub(crate) fn was_made(bug: Bug) -> bool {
        planted(bug) && MADE.get()
    }

    pub(crate) fn unmake(bug: Bug) {
        if planted(bug) {
            MADE.set(false);
        }
    }

    /// Set to `POINT:N`, ends the process when it gets to the point for the N-th time, as `kill -9` does, with a line on
    /// standard error that says so. A build that is asked for a point that is none does not start: it would never get there.
    const DIE_AT: &str = "CROSSDOCK_DIE_AT";

    pub(crate) fn reach(point: Point) {
        static WANTED: OnceLock<Option<(Point, AtomicU32)>> = OnceLock::new();
        let wanted = WANTED.get_or_init(|| {
            let text = std::env::var(DIE_AT).ok()?;
            let parsed = text.split_once(':').and_then(|(name, count)| {
                let point = Point::ALL.iter().find(|point| format!("{point:?}") == name)?;
                Some((*point, AtomicU32::new(count.parse().ok()?)))
            });
            Some(parsed.unwrap_or_else(|| panic!("{DIE_AT}={text}: there are {:?}", Point::ALL)))
        });
        if let Some((_, left)) = wanted.as_ref().filter(|(wanted, _)| *wanted == point)
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            eprintln!("dies at {point:?}");
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
