//! What was done to a store, shard by shard, and which answers that excuses.
//!
//! A device that fails excuses what the shard on it answers, and nothing that any other shard does: errors name a shard, and the
//! world knows what has struck the files of each. So an error is excused only if a fault that leads to just this one has struck
//! just that shard; that a fault was drawn for the history, or may yet come, excuses nothing.

use crate::{
    device::simulated::{Fault, FileId, SimulatedDisk},
    error::{DeviceError, DeviceOperation, Error, Resource},
};
use std::{collections::BTreeSet, rc::Rc};

/// What has befallen each shard in the life that is lived now, and what of older damage is still there. It is asked of the disk, and
/// thus always true. Cheap to clone.
#[derive(Clone)]
pub struct Harm(Rc<Files>);

struct Files {
    disk: SimulatedDisk,
    /// Each shard's files of data and log; of a raw device twice the same.
    files: Vec<[FileId; 2]>,
    /// Shards that miss something of their log.
    holes: BTreeSet<u16>,
}

/// After these a shard may write no more.
const STOPPING: [Fault; 4] = [Fault::WriteError, Fault::SyncError, Fault::ShortWrite, Fault::NoSpace];

impl Harm {
    /// Of shards with these files of data and log, of which some miss something of their log.
    pub fn new(disk: SimulatedDisk, files: Vec<[FileId; 2]>, holes: BTreeSet<u16>) -> Harm {
        Harm(Rc::new(Files { disk, files, holes }))
    }

    /// The same of shards of which these miss something of their log.
    pub(super) fn with_holes(&self, holes: BTreeSet<u16>) -> Harm {
        Harm::new(self.0.disk.clone(), self.0.files.clone(), holes)
    }

    /// Whether a shard misses something of its log.
    pub fn has_hole(&self) -> bool {
        !self.0.holes.is_empty()
    }

    /// The file of a shard's log or data, or its device.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn file(&self, shard: u16, log: bool) -> FileId {
        self.0.files[usize::from(shard)][usize::from(log)]
    }

    fn files(&self, shard: u16) -> &[FileId] {
        self.0.files.get(usize::from(shard)).map_or(&[], |files| &files[..])
    }

    fn has_struck(&self, shard: u16, faults: &[Fault]) -> bool {
        let struck = |file: &FileId| faults.iter().any(|fault| self.0.disk.has_struck(*file, *fault));
        self.files(shard).iter().any(struck)
    }

    /// Whether the shard may have stopped writing.
    pub fn may_have_stopped(&self, shard: u16) -> bool {
        self.0.holes.contains(&shard) || self.has_struck(shard, &STOPPING)
    }

    /// Whether any shard may have.
    pub fn any_may_have_stopped(&self) -> bool {
        self.shards().any(|shard| self.may_have_stopped(shard))
    }

    /// Whether any read came short, or something is damaged.
    pub fn any_is_damaged(&self) -> bool {
        self.shards().any(|shard| self.is_damaged(shard))
    }

    fn shards(&self) -> impl Iterator<Item = u16> {
        0..self.0.files.len() as u16
    }

    /// Whether some of what the shard reads may not be what was written.
    pub fn is_damaged(&self, shard: u16) -> bool {
        // A short read is too little of what was asked for: its checksum does not hold.
        self.has_struck(shard, &[Fault::ShortRead])
            || self.files(shard).iter().any(|file| self.0.disk.is_damaged(*file))
    }

    /// Whether the shard can not read some of what it has, or not as it was.
    pub fn is_unreadable(&self, shard: u16) -> bool {
        self.is_damaged(shard) || self.has_struck(shard, &[Fault::ReadError])
    }

    /// Whether a fault has left the shard without room.
    pub fn is_full(&self, shard: u16) -> bool {
        // A write that comes short, and says no more, is taken for one that found no room.
        self.has_struck(shard, &[Fault::NoSpace, Fault::ShortWrite])
    }

    /// Whether this is what came of a fault of the shard's device.
    pub fn explains(&self, error: &DeviceError) -> bool {
        let faults: &[Fault] = match error.operation {
            DeviceOperation::Read => &[Fault::ReadError, Fault::ShortRead],
            DeviceOperation::Write => &[Fault::WriteError, Fault::ShortWrite, Fault::NoSpace],
            DeviceOperation::Sync => &[Fault::SyncError],
            DeviceOperation::Grow => &[Fault::NoSpace],
        };
        self.has_struck(error.shard, faults)
    }
}

/// Which errors are excused.
#[derive(Clone)]
pub struct Tolerance {
    /// By what was done to which shard.
    pub harm: Harm,
    /// There is little room.
    pub full: bool,
    /// Indexes may take little memory.
    pub index: bool,
    /// The store is being closed.
    pub closed: bool,
    /// The network loses packets and connections.
    pub card: bool,
}

impl Tolerance {
    /// Whether something excuses the error.
    pub fn excuses(&self, error: &Error) -> bool {
        match error {
            Error::Device(error) => self.harm.explains(error),
            Error::OutcomeUnknown(cause) => self.excuses(cause),
            Error::ReadOnly { shard } => self.harm.may_have_stopped(*shard),
            Error::Corrupt(at) => self.harm.is_damaged(at.shard),
            Error::Full { shard } => self.full || self.harm.is_full(*shard),
            Error::Busy(Resource::Index) => self.index,
            Error::Closed => self.closed,
            _ => false,
        }
    }
}

/// The shard that an error is about.
pub fn shard_of(error: &Error) -> Option<u16> {
    match error {
        Error::Device(error) => Some(error.shard),
        Error::OutcomeUnknown(cause) => shard_of(cause),
        Error::ReadOnly { shard } | Error::Full { shard } | Error::ShardUnavailable { shard } => Some(*shard),
        Error::Corrupt(at) => Some(at.shard),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        device::{BlockDevice, simulated::DiskOptions, simulated::Times},
        error::Region,
    };
    use crossdock_transport::operation::{OsError, Queue};

    /// A fault excuses what comes of it, of its own shard, once it has struck: no other error, no other shard, and nothing before.
    #[test]
    fn only_the_shard_that_was_struck_is_excused() {
        let disk = SimulatedDisk::new(DiskOptions { bytes_max: 1 << 30, volatile_cache: true, lie: None });
        let create =
            |shard| ["data", "log"].map(|kind| disk.create_file(&format!("{kind}-{shard}"), 1 << 20));
        let files: Vec<[FileId; 2]> = (0..2).map(create).collect();
        let log = files[1][1];
        let tolerance = Tolerance {
            harm: Harm::new(disk.clone(), files, BTreeSet::new()),
            full: false,
            index: false,
            closed: false,
            card: false,
        };
        let failed = |shard, operation| {
            let (region, offset, bytes, source) = (Region::Log, 0, 0, OsError(5));
            Error::Device(DeviceError { shard, region, operation, offset, bytes, source })
        };
        let answers = [
            Error::ReadOnly { shard: 1 },
            failed(1, DeviceOperation::Sync),
            Error::OutcomeUnknown(Box::new(failed(1, DeviceOperation::Sync))),
        ];
        let others = [
            Error::ReadOnly { shard: 0 },
            failed(0, DeviceOperation::Sync),
            failed(1, DeviceOperation::Write),
            failed(1, DeviceOperation::Read),
            Error::Full { shard: 1 },
            Error::Closed,
        ];
        disk.inject(log, Fault::SyncError, Times::Once);
        let none = |errors: &[Error]| !errors.iter().any(|error| tolerance.excuses(error));
        assert!(none(&answers) && none(&others), "it has not struck yet");
        let queue = Queue::new(1);
        let slot = queue.try_slot().expect("nobody has it");
        let synced = disk.open(log, &queue).sync(slot);
        disk.step(&mut fastrand::Rng::with_seed(1));
        assert_eq!(futures_lite::future::block_on(synced).result, Err(OsError(5)));
        assert!(answers.iter().all(|error| tolerance.excuses(error)));
        assert!(none(&others));
        assert!(answers.iter().all(|error| shard_of(error) == Some(1)));
        disk.forget_struck();
        assert!(none(&answers), "that was another life");
    }
}
