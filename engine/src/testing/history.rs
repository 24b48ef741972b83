//! A history: what clients ask and what befalls the store, in one list drawn from a seed.
//!
//! The list is cut into lives. In each, the clients do their operations side by side, and at the end the power goes, or the
//! store is closed. Any sub-list is a history too: that is what makes a failing one small.

use super::{
    operation::{CLIENTS, Kinds, Operation},
    world::{INDEX_BYTES_KEPT, Weather, WorldOptions},
};
use crate::device::simulated::{FaultPlan, Lie};
use std::fmt;

/// A step of a history.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A client does something, on a core. The nonce is the operation's own, whatever stands around it.
    Do {
        /// Which client.
        client: usize,
        /// On which core; and the next core after it, if it needs two.
        core: usize,
        /// Different for every operation.
        nonce: u64,
        /// What it does.
        operation: Operation,
    },
    /// The disk fails in this way until the end of the life.
    Trouble(Trouble),
    /// The life ends.
    End(End),
}

/// How a disk fails during a life.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// So often, in ways that say so.
    Errors(FaultPlan),
    /// Writes of the data files land elsewhere, so many of them.
    MisdirectedWrites(u8),
    /// The next write of a shard's anchor, or the next batch of its log, lands elsewhere.
    MisdirectedLog {
        /// Which shard.
        shard: u8,
        /// The anchor, or a batch.
        anchor: bool,
    },
    /// This befalls the device of one shard, and no other.
    Hurts {
        /// Which shard.
        shard: u8,
        /// The device of its log, or that of its data.
        log: bool,
        /// What befalls it.
        hurt: Hurt,
        /// Steps of the life before that.
        after: u32,
    },
}

/// What befalls a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hurt {
    /// It answers nothing but errors from then on.
    Vanishes,
    /// The next write fails.
    WriteFails,
    /// The next sync fails.
    SyncFails,
}

/// How a life ends.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The power goes after so many steps of the world, or when the clients are done and so many more have passed; and
    /// again in the recoveries that follow, after so many steps of each.
    Power {
        /// Whether the clients finish first.
        drained: bool,
        /// Steps.
        after: u32,
        /// Recoveries that are cut short, each after so many steps.
        recoveries: Vec<u32>,
        /// Whether the disk still fails in the first recovery.
        troubled_recovery: bool,
    },
    /// The power goes while a shard is at this work, so many steps after it was first seen to be; or when the clients are done.
    PowerDuring {
        /// What the shard does.
        work: Work,
        /// Steps.
        after: u32,
    },
    /// The process is killed after so many steps; the machine goes on.
    Kill {
        /// Steps.
        after: u32,
    },
    /// The store is closed in good order: when the clients are done, or after so many steps, in the midst of it.
    Close {
        /// Steps after which it is closed whatever the clients do; none: they finish.
        after: Option<u32>,
    },
    /// It is closed in good order, and one bit flips.
    Rot {
        /// Draws which.
        seed: u64,
    },
    /// The power goes when the clients are done and every log says so, and one bit flips in what recovery must read.
    RotAndPower {
        /// Draws which.
        seed: u64,
    },
    /// The power goes, and one bit flips in a copy of an anchor.
    RotOfAnchor {
        /// While a shard writes its anchor; or when the clients are done and every log says so.
        during: bool,
        /// Draws which.
        seed: u64,
    },
    /// The power goes, and blocks of a log can not be read from then on.
    BadBlocks {
        /// Steps after which the power goes, and up to three blocks with it; none: when the clients are done and every log says so, with one.
        after: Option<u32>,
        /// Draws which.
        seed: u64,
    },
}

/// What a shard does beside its clients, for a moment now and then: a power cut at random rarely meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It writes a checkpoint, and the anchor that names it.
    Checkpoint,
    /// It moves payloads out of log zones.
    Cleaning,
    /// It makes a log zone.
    Zone,
    /// It writes a copy of its anchor.
    Anchor,
}

/// All that makes a run.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Decides who goes on at each step of the world, and the fates of writes.
    pub seed: u64,
    /// The world.
    pub options: WorldOptions,
    /// What happens in it.
    pub steps: Vec<Step>,
}

/// How many operations a life has, about, where nobody counts them.
const OPERATIONS_A_LIFE: u32 = 16;

/// Which faults a seed has in it.
struct Faults {
    read_errors: bool,
    write_errors: bool,
    stalls: bool,
    misdirected: bool,
    rot: bool,
    power: bool,
    little_room: bool,
    card: bool,
    vanishing: bool,
    misdirected_log: bool,
    little_index: bool,
}

impl Faults {
    /// Half of the seeds have only crashes and delays: what faults excuse can then not hide what nothing excuses.
    fn draw(rng: &mut fastrand::Rng) -> Faults {
        let any = rng.bool();
        // Drawn aside, so that older seeds stay much as they were.
        let mut aside = rng.clone();
        let (misdirected_log, little_index) = (any && aside.u8(0..8) == 0, aside.u8(0..12) == 0);
        let mut one = |of: u8| any && rng.u8(..of) == 0;
        Faults {
            read_errors: one(2),
            write_errors: one(2),
            misdirected: one(6),
            rot: one(3),
            card: one(2),
            vanishing: one(6),
            misdirected_log,
            little_index,
            stalls: rng.u8(0..3) == 0,
            power: rng.u8(0..8) > 0,
            little_room: rng.u8(0..8) == 0,
        }
    }

    fn trouble(&self, rng: &mut fastrand::Rng) -> Option<Trouble> {
        let rare = |rng: &mut fastrand::Rng| 10u32.pow(rng.u32(3..6));
        let mut plan = FaultPlan::default();
        if self.stalls && rng.bool() {
            plan.stall = rng.u32(1000..100_000);
        }
        if self.read_errors && rng.bool() {
            (plan.read_error, plan.short_read) = (rare(rng), rare(rng));
        }
        if self.write_errors && rng.bool() {
            match rng.u8(0..4) {
                0 => plan.write_error = rare(rng),
                1 => plan.sync_error = rare(rng),
                2 => plan.short_write = rare(rng),
                _ => plan.no_space = rare(rng),
            }
        }
        if self.vanishing && rng.u8(0..4) == 0 {
            let (shard, log) = (rng.u8(..), rng.bool());
            // Drawn aside, so that older seeds stay much as they were.
            let mut aside = rng.clone();
            let hurt = [Hurt::Vanishes, Hurt::Vanishes, Hurt::WriteFails, Hurt::SyncFails][aside.usize(0..4)];
            let after = if aside.u8(0..3) == 0 { 0 } else { aside.u32(0..1500) };
            return Some(Trouble::Hurts { shard, log, hurt, after });
        }
        if self.misdirected && rng.u8(0..4) == 0 {
            return Some(Trouble::MisdirectedWrites(rng.u8(1..3)));
        }
        if self.misdirected_log && rng.u8(0..4) == 0 {
            return Some(Trouble::MisdirectedLog { shard: rng.u8(..), anchor: rng.bool() });
        }
        (plan != FaultPlan::default()).then_some(Trouble::Errors(plan))
    }

    fn end(&self, operations: u32, rng: &mut fastrand::Rng) -> End {
        match rng.u8(0..8) {
            0 | 1 if self.rot => match rng.u8(0..6) {
                0 => End::Rot { seed: rng.u64(..) },
                1 | 2 => {
                    let after = (rng.u8(0..4) > 0).then(|| rng.u32(0..operations * 12 + 10));
                    End::BadBlocks { after, seed: rng.u64(..) }
                }
                _ => {
                    let mut aside = rng.clone();
                    let seed = rng.u64(..);
                    match aside.u8(0..3) {
                        0 => End::RotOfAnchor { during: aside.bool(), seed },
                        _ => End::RotAndPower { seed },
                    }
                }
            },
            0 | 1 => End::Close { after: None },
            2 if rng.bool() => End::Kill { after: rng.u32(0..operations * 12 + 10) },
            2 => End::Close { after: Some(rng.u32(0..operations * 12 + 10)) },
            _ if !self.power => End::Close { after: None },
            3 => End::PowerDuring {
                work: [Work::Checkpoint, Work::Cleaning, Work::Zone, Work::Anchor][rng.usize(0..4)],
                after: rng.u32(0..60),
            },
            _ => {
                let drained = rng.u8(0..3) == 0;
                let steps = if drained { 200 } else { operations * 12 + 10 };
                let mut recoveries = Vec::new();
                while rng.u8(0..4) == 0 {
                    recoveries.push(rng.u32(0..300));
                }
                End::Power {
                    drained,
                    after: rng.u32(0..steps),
                    recoveries,
                    troubled_recovery: rng.u8(0..4) == 0,
                }
            }
        }
    }
}

impl History {
    /// Draws a history of so many operations.
    pub fn draw(seed: u64, operations: u64) -> History {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let faults = Faults::draw(&mut rng);
        let kinds = Kinds::draw(&mut rng);
        let options = WorldOptions { anchor_slowness: anchor_slowness(seed), ..options(&faults, &mut rng) };
        let mut steps = Vec::new();
        let mut left = u32::try_from(operations).unwrap_or(u32::MAX);
        while left > 0 {
            let now = rng.u32(1..120).min(left);
            left -= now;
            steps.extend(faults.trouble(&mut rng).map(Step::Trouble));
            for _ in 0..now {
                steps.push(Step::Do {
                    client: rng.usize(..CLIENTS),
                    core: rng.usize(..options.cores),
                    nonce: rng.u64(..) >> 16,
                    operation: kinds.operation(&mut rng),
                });
            }
            steps.push(Step::End(faults.end(now, &mut rng)));
        }
        History { seed, options, steps }
    }

    /// The history of so many words: the first decides the world, which operations and which faults there are, each that follows
    /// one step, whatever stands around it. Any words are a history, and fewer of them a part of it: for whoever has a
    /// source of words of his own, as fuzzers and property tests do.
    pub fn of_words(words: &[u32]) -> History {
        let (first, rest) = words.split_first().unwrap_or((&0, &[]));
        let mut rng = fastrand::Rng::with_seed(u64::from(*first));
        let faults = Faults::draw(&mut rng);
        let kinds = Kinds::draw(&mut rng);
        let anchor_slowness = anchor_slowness(u64::from(*first));
        let options = WorldOptions { anchor_slowness, ..options(&faults, &mut rng) };
        let step = |(place, word): (usize, &u32)| {
            let mut rng = fastrand::Rng::with_seed(u64::from(*word));
            let trouble = faults.trouble(&mut rng).map(Step::Trouble);
            match (rng.u8(0..16), trouble) {
                (0, _) => Step::End(faults.end(OPERATIONS_A_LIFE, &mut rng)),
                (1, Some(trouble)) => trouble,
                _ => Step::Do {
                    client: rng.usize(..CLIENTS),
                    core: rng.usize(..options.cores),
                    // Bodies and uploads are told apart by it, also where a word stands twice.
                    nonce: u64::from(*word) << 16 | place as u64 & 0xffff,
                    operation: kinds.operation(&mut rng),
                },
            }
        };
        History { seed: u64::from(*first), options, steps: rest.iter().enumerate().map(step).collect() }
    }

    /// The same history on a disk that breaks a promise.
    pub fn on_a_disk_that(self, lie: Lie) -> History {
        History { options: WorldOptions { lie: Some(lie), ..self.options }, ..self }
    }
}

/// How slow anchors are: in every other seed no slower than anything else. Drawn by itself, so that those seeds are what they
/// would be without it.
fn anchor_slowness(seed: u64) -> u32 {
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xa_4c_40_25);
    if rng.u8(0..4) < 2 { rng.u32(20..500) } else { 0 }
}

/// What world these faults are tried in.
fn options(faults: &Faults, rng: &mut fastrand::Rng) -> WorldOptions {
    // Small ones are filled, covered, cleaned and used again every few operations.
    let zone_bytes: u32 = 64 << 10 << rng.u32(0..5);
    let packed_bytes_max = (zone_bytes / 4).min(4 << 10 << rng.u32(0..5));
    // Drawn aside, so that older seeds stay what they were.
    let mut aside = rng.clone();
    // As many bytes, whatever the zones.
    let zones_of = |bytes: u32| (bytes / zone_bytes).max(8);
    WorldOptions {
        cores: rng.usize(1..4),
        shards: rng.u16(1..5),
        zone_bytes,
        packed_bytes_max,
        volatile_cache: rng.bool(),
        core_stall_every: if rng.u8(0..3) == 0 { rng.u32(100..2000) } else { 0 },
        zones_max: zones_of(if faults.little_room { 2 * rng.u32(2 << 20..6 << 20) } else { 128 << 20 }),
        checkpoint_log_bytes: 32 << 10 << rng.u32(0..6),
        card: Weather {
            delay_polls_max: rng.u32(0..6),
            drop_per_1024: if faults.card { rng.u32(0..200) } else { 0 },
            disconnect_per_1024: if faults.card { rng.u32(0..30) } else { 0 },
        },
        read_cache_bytes: if aside.bool() { 64 << 10 << aside.u32(0..6) } else { 0 },
        index_bytes_max: match faults.little_index {
            true => INDEX_BYTES_KEPT + (4 << 10 << aside.u32(0..4)),
            false => u64::MAX,
        },
        raw: aside.u8(0..3) == 0,
        // A batch of the log that goes elsewhere leaves no trace at its end: where writes to data files do, these hold data only.
        apart: aside.u8(0..8) == 0 || faults.misdirected,
        ..WorldOptions::default()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} in {:?}", self.seed, self.options)?;
        for (index, step) in self.steps.iter().enumerate() {
            match step {
                Step::Do { client, core, operation, .. } => {
                    writeln!(f, "{index:5}  client {client} on core {core}: {operation:?}")?;
                }
                Step::Trouble(trouble) => writeln!(f, "{index:5}  the disk: {trouble:?}")?,
                Step::End(end) => writeln!(f, "{index:5}  the life ends: {end:?}")?,
            }
        }
        Ok(())
    }
}
