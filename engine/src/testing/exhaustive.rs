//! Small scope, all of it: every sequence of a few operations over two keys, the power going at every moment at which the
//! disk has got further, and of what is then not durable each single write lost or torn in turn.
//!
//! Most faults of storage engines need few operations and few keys to show (Mohan and others, «Finding Crash-Consistency
//! Bugs with Bounded Black-Box Crash Testing», OSDI 2018: three operations found nearly all that were known). What chance
//! draws in [`super::run`] goes further and leaves gaps; this goes less far and leaves none.

use super::{
    operation::{Body, Condition, GivesUp, Key, Operation},
    run::Run,
    world::WorldOptions,
};
use crate::{device::simulated::Loss, layout::Versioning};
use std::{cell::Cell, rc::Rc};

/// One operation of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// Puts an object of so many bytes under a key.
    Put(u8, u32),
    /// Puts a small object under a key if it has none.
    PutAbsent(u8),
    /// Puts a small object under a key if it has the tag that the client thinks it has.
    PutMatching(u8),
    /// Uploads an object in one part: begins that, puts the part, completes it.
    Upload(u8),
    /// Has the bucket keep no more versions.
    Suspend,
    /// Deletes a key.
    Delete(u8),
    /// Deletes a key's newest version for good.
    DeleteVersion(u8),
    /// Copies what the first key has to the second.
    Copy,
    /// Takes a checkpoint.
    Checkpoint,
}

/// Inline, packed into the log, in extents of its own.
const LENGTHS: [u32; 3] = [9, 5000, 70_000];
/// Steps of the world that are gone through after the last operation: seals and zones in the making fall in them.
const STEPS_AFTER: u32 = 40;
/// What may become of the one write that is not kept.
const LOSSES: [Loss; 4] = [Loss::Whole, Loss::AfterFront(1), Loss::AfterFront(8), Loss::OfFront(1)];

/// Every letter there is, in a bucket that keeps versions or one that does not.
pub fn letters(versioned: bool) -> Vec<Letter> {
    let of_key = |key| {
        // What is in extents of its own is tried where nothing is kept, and space comes back at once.
        let lengths = if versioned { &LENGTHS[..2] } else { &LENGTHS[..] };
        let puts = lengths.iter().map(move |length| Letter::Put(key, *length));
        puts.chain([Letter::Delete(key)]).chain(versioned.then_some(Letter::DeleteVersion(key)))
    };
    // Where nothing is kept a condition is judged by one version, and where versions are by the newest of several.
    let conditional = [Letter::PutAbsent(0), Letter::PutMatching(1)];
    let of_store = [Letter::Copy, Letter::Checkpoint, Letter::Upload(0)];
    let suspend = versioned.then_some(Letter::Suspend);
    of_key(0).chain(of_key(1)).chain(conditional).chain(of_store).chain(suspend).collect()
}

/// What is gone through: letters, in a bucket that keeps versions or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Whether the bucket keeps versions.
    pub versioned: bool,
    /// One after the other.
    pub letters: Vec<Letter>,
}

/// Every sequence of so many letters.
pub fn sequences(length: u32) -> impl Iterator<Item = Sequence> {
    [false, true].into_iter().flat_map(move |versioned| {
        let letters = letters(versioned);
        (0..letters.len().pow(length)).map(move |number| {
            let letter = |place| letters[number / letters.len().pow(place) % letters.len()];
            Sequence { versioned, letters: (0..length).map(letter).collect() }
        })
    })
}

/// What was gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sequences.
    pub sequences: u64,
    /// Moments at which the power went.
    pub moments: u64,
    /// Power cuts.
    pub crashes: u64,
}

impl Tally {
    /// Adds another's numbers.
    pub fn add(&mut self, other: Tally) {
        self.sequences += other.sequences;
        self.moments += other.moments;
        self.crashes += other.crashes;
    }
}

/// Goes through every crash of one sequence.
///
/// # Errors
/// The first crash after which something did not hold, and what.
pub fn exhaust(sequence: &Sequence) -> Result<Tally, String> {
    let mut tally = Tally { sequences: 1, ..Tally::default() };
    let undecided = moments_of(sequence)?;
    for (moment, count) in undecided {
        tally.moments += 1;
        // All is kept; then each write suffers each loss.
        crash(sequence, moment, usize::MAX, Loss::Whole)?;
        tally.crashes += 1;
        for victim in 0..count {
            for loss in LOSSES {
                crash(sequence, moment, victim, loss)?;
                tally.crashes += 1;
            }
        }
    }
    Ok(tally)
}

/// Runs the sequence undisturbed: the moments of the disk, and how many writes a crash at each would decide about.
fn moments_of(sequence: &Sequence) -> Result<Vec<(u64, usize)>, String> {
    let (mut run, busy) = start(sequence)?;
    let mut moments: Vec<(u64, usize)> = Vec::new();
    let mut left = STEPS_AFTER;
    while left > 0 {
        let (moment, undecided) = (run.world.disk.moments(), run.world.disk.undecided());
        if moments.last().is_none_or(|(last, _)| *last != moment) {
            moments.push((moment, undecided));
        }
        left -= u32::from(busy.get() == 0);
        if !run.world.step() {
            break;
        }
    }
    run.wrong().map(|()| moments)
}

fn crash(sequence: &Sequence, moment: u64, victim: usize, loss: Loss) -> Result<(), String> {
    let checked = || -> Result<(), String> {
        let (mut run, _busy) = start(sequence)?;
        while run.world.disk.moments() < moment {
            run.world.step();
        }
        run.wrong()?;
        run.world.crash_losing(victim, loss);
        run.world.open().map_err(|failure| format!("recovery failed: {failure}"))?;
        run.verify()
    };
    checked()
        .map_err(|wrong| format!("{sequence:?}, crash at moment {moment}, write {victim} {loss:?}: {wrong}"))
}

/// One core, one shard, one client; and where versions are kept a bucket of its own that does.
fn start(sequence: &Sequence) -> Result<(Run, Rc<Cell<usize>>), String> {
    let options = WorldOptions { cores: 1, shards: 1, zone_bytes: 256 << 10, ..WorldOptions::default() };
    let mut run = Run::start(1, options)?;
    let busy = Rc::new(Cell::new(1));
    if sequence.versioned {
        let versioning = Versioning::Enabled;
        let before = [Operation::CreateBucket, Operation::SetVersioning { versioning }];
        let before = before.into_iter().zip(100..).map(|(operation, nonce)| (0, nonce, operation));
        run.start_client(0, before.collect(), busy.clone());
        run.drain(&busy)?;
        busy.set(1);
    }
    let letters = sequence.letters.iter().zip(1..);
    let operations = letters.flat_map(|(letter, nonce)| {
        let operations = operations(*letter, sequence.versioned, nonce);
        operations.into_iter().map(move |operation| (0, nonce, operation))
    });
    run.start_client(0, operations.collect(), busy.clone());
    Ok((run, busy))
}

/// What the client does for a letter, one after the other.
fn operations(letter: Letter, own_bucket: bool, seed: u64) -> Vec<Operation> {
    let key = |name| Key { own_bucket, name };
    let put = |name, length, condition| Operation::Put {
        key: key(name),
        body: Body { seed, length },
        declared: true,
        condition,
        gives_up: GivesUp::No,
    };
    let operation = match letter {
        Letter::DeleteVersion(name) => {
            Operation::DeleteVersion { key: key(name), nth: 0, condition: Condition::None }
        }
        Letter::Copy => Operation::Copy { from: key(0), to: key(1), condition: Condition::None },
        Letter::Put(name, length) => put(name, length, Condition::None),
        Letter::PutAbsent(name) => put(name, LENGTHS[0], Condition::Absent),
        Letter::PutMatching(name) => put(name, LENGTHS[0], Condition::Matches),
        Letter::Delete(name) => Operation::Delete { key: key(name), condition: Condition::None },
        Letter::Checkpoint => Operation::Checkpoint,
        Letter::Suspend => Operation::SetVersioning { versioning: Versioning::Suspended },
        Letter::Upload(name) => return upload(key(name), seed),
    };
    vec![operation]
}

fn upload(key: Key, seed: u64) -> Vec<Operation> {
    let (slot, gives_up) = (0, GivesUp::No);
    let body = Body { seed, length: LENGTHS[1] };
    let complete = Operation::Complete {
        slot,
        leave_out: 0,
        again: false,
        at_once: false,
        etag_seed: seed,
        condition: Condition::None,
    };
    vec![
        Operation::CreateUpload { slot, key },
        Operation::PutPart { slot, number: 1, body, gives_up },
        complete,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every crash of every single operation, and of one in 35 pairs of operations; `simulate --exhaustive` goes through
    /// the rest and all triples.
    #[test]
    fn short_sequences_survive_every_crash() {
        let mut tally = Tally::default();
        for sequence in sequences(1).chain(sequences(2).step_by(35)) {
            tally.add(exhaust(&sequence).unwrap());
        }
        assert!(tally.crashes > 500, "{tally:?}");
    }
}
