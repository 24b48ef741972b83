//! What was done to a store, shard by shard, and which answers that excuses.
//!
//! A device that fails excuses what the shard on it answers, and nothing that any other shard does: errors name a shard, and the
//! world knows what has struck the files of each. So an error is excused only if a fault that leads to just this one has struck
//! just that shard; that a fault was drawn for the history, or may yet come, excuses nothing.

use crate::{
    device::simulated::{Fault, FileId, SimulatedDisk},
    error::{DeviceError, DeviceOperation, Error},
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
