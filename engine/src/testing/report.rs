//! What a run of the simulator did, in numbers: how often what happened, that one can see that it did.

use crate::device::simulated::FaultCounts;
use std::fmt;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// Operations that were answered.
    pub operations: u64,
    /// Operations that failed for a fault's sake.
    pub failed: u64,
    /// Power cuts.
    pub crashes: u64,
    /// Steps of the world.
    pub steps: u64,
    /// Simulated nanoseconds.
    pub elapsed_ns: u64,
    /// What went wrong on the disks, by kind.
    pub disk: FaultCounts,
    /// Keys found corrupt, as they should be.
    pub corrupt_keys: u64,
    /// Anchors of which a copy rotted while the power was cut.
    pub rotten_anchors: u64,
    /// Changes that the memory of an index had no room for.
    pub index_full: u64,
    /// Objects that went over a card.
    pub transfers: u64,
    /// Transfers that ended before they were done.
    pub transfers_failed: u64,
    /// Checkpoints taken, log zones cleaned, and payloads moved by that.
    pub care: [u64; 3],
    /// Stretches of objects that were in a read cache, and that somebody else was just reading.
    pub cached: [u64; 2],
}

impl RunReport {
    /// Adds another run's numbers.
    pub fn add(&mut self, other: RunReport) {
        self.operations += other.operations;
        self.failed += other.failed;
        self.crashes += other.crashes;
        self.steps += other.steps;
        self.elapsed_ns += other.elapsed_ns;
        self.disk.add(other.disk);
        self.corrupt_keys += other.corrupt_keys;
        self.rotten_anchors += other.rotten_anchors;
        self.index_full += other.index_full;
        self.transfers += other.transfers;
        self.transfers_failed += other.transfers_failed;
        self.care.iter_mut().zip(other.care).for_each(|(sum, more)| *sum += more);
        self.cached.iter_mut().zip(other.cached).for_each(|(sum, more)| *sum += more);
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunReport { operations, failed, crashes, steps, corrupt_keys, .. } = *self;
        let seconds = self.elapsed_ns / 1_000_000_000;
        writeln!(
            f,
            "{operations} operations in {steps} steps and {seconds} simulated seconds, {crashes} power cuts"
        )?;
        writeln!(f, "{failed} operations failed for a fault's sake, {corrupt_keys} keys were found corrupt")?;
        writeln!(
            f,
            "{} anchors rotted as the power went, {} changes found no room in an index",
            self.rotten_anchors, self.index_full
        )?;
        writeln!(
            f,
            "{} objects went over a card, {} transfers were ended",
            self.transfers, self.transfers_failed
        )?;
        let [kept, shared] = self.cached;
        writeln!(f, "{kept} reads found what was kept, {shared} shared another's read")?;
        let [checkpoints, zones, payloads] = self.care;
        writeln!(f, "{checkpoints} checkpoints, {zones} log zones cleaned of {payloads} payloads")?;
        write!(f, "disks: {}", self.disk)
    }
}
