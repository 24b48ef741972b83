//! A history: what clients ask and what befalls the store, in one list drawn from a seed.
//!
//! The list is cut into lives. In each, the clients do their operations side by side, and at the end the power goes, or the
//! store is closed. Any sub-list is a history too: that is what makes a failing one small.

use super::{
    operation::{CLIENTS, Kinds, Operation},
    world::WorldOptions,
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

/// Which faults a seed has in it.
struct Faults {
    read_errors: bool,
    write_errors: bool,
    stalls: bool,
    misdirected: bool,
    rot: bool,
    power: bool,
    little_room: bool,
}

impl Faults {
    /// Half of the seeds have only crashes and delays: what faults excuse can then not hide what nothing excuses.
    fn draw(rng: &mut fastrand::Rng) -> Faults {
        let any = rng.bool();
        let mut one = |of: u8| any && rng.u8(..of) == 0;
        Faults {
            read_errors: one(2),
            write_errors: one(2),
            misdirected: one(6),
            rot: one(3),
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
            match rng.u8(0..3) {
                0 => plan.write_error = rare(rng),
                1 => plan.sync_error = rare(rng),
                _ => plan.no_space = rare(rng),
            }
        }
        if self.misdirected && rng.u8(0..4) == 0 {
            return Some(Trouble::MisdirectedWrites(rng.u8(1..3)));
        }
        (plan != FaultPlan::default()).then_some(Trouble::Errors(plan))
    }

    fn end(&self, operations: u32, rng: &mut fastrand::Rng) -> End {
        match rng.u8(0..8) {
            0 if self.rot => End::Rot { seed: rng.u64(..) },
            0 | 1 => End::Close { after: None },
            2 if rng.bool() => End::Kill { after: rng.u32(0..operations * 12 + 10) },
            2 => End::Close { after: Some(rng.u32(0..operations * 12 + 10)) },
            _ if !self.power => End::Close { after: None },
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
        let options = WorldOptions {
            cores: rng.usize(1..4),
            shards: rng.u16(1..5),
            zone_bytes: *rng.choice([&(256 << 10), &(512 << 10), &(1 << 20)]).unwrap_or(&(512 << 10)),
            volatile_cache: rng.bool(),
            core_stall_every: if rng.u8(0..3) == 0 { rng.u32(100..2000) } else { 0 },
            zones_max: if faults.little_room { rng.u32(4..12) } else { 64 },
            checkpoint_log_bytes: *rng.choice([&(64 << 10), &(256 << 10), &(1 << 20)]).unwrap_or(&(1 << 20)),
            ..WorldOptions::default()
        };
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

    /// The same history on a disk that breaks a promise.
    pub fn on_a_disk_that(self, lie: Lie) -> History {
        History { options: WorldOptions { lie: Some(lie), ..self.options }, ..self }
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
