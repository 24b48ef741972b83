//! What can go wrong, by family: asking, the devices, opening.

use crate::{layout::DecodeError, object::types::DeleteMarker};
use crossdock_transport::operation::OsError;
use std::{path::PathBuf, sync::Arc};

/// What a device was asked when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceOperation {
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Making writes durable.
    Sync,
    /// Making the device longer.
    Grow,
}

/// A file of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Region {
    /// The shard's log: commits and packed objects.
    Log,
    /// The shard's data zones.
    Data,
}

/// A device failed. The operation's memory is back with its owner; a read may be repeated, a failed write or sync
/// has stopped the shard's writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "shard {shard}: {operation:?} of {bytes} bytes at offset {offset} of its {region:?} failed: {source}"
)]
pub struct DeviceError {
    /// The shard it happened on.
    pub shard: u16,
    /// Which of its files.
    pub region: Region,
    /// What was asked.
    pub operation: DeviceOperation,
    /// Byte offset in the file.
    pub offset: u64,
    /// Bytes asked for.
    pub bytes: u64,
    /// What the operating system said.
    pub source: OsError,
}

/// Stored bytes are not what was written. Never answered as absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "corrupt: shard {shard}, {region:?} offset {offset}, {bytes} bytes: checksum expected {expected:016x}, found {found:016x}"
)]
pub struct Corruption {
    /// The shard.
    pub shard: u16,
    /// Which of its files.
    pub region: Region,
    /// Byte offset of the checksummed block in that file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u32,
    /// The CRC64NVME on record.
    pub expected: u64,
    /// The CRC64NVME of what was read.
    pub found: u64,
}

/// What is exhausted when the engine answers [`Error::Busy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resource {
    /// Operations in flight on this core.
    Operations,
    /// Writes in flight on this core: a part of its operations, so that writers who stall leave some for others.
    Writes,
    /// Memory for bodies being written on this core.
    WriteMemory,
    /// Memory for objects being read on this core.
    ReadMemory,
    /// Versions that listings of this core hold at once.
    Listings,
    /// Changes of the shard that wait for its log.
    Log,
    /// The shard's part of the memory for the index: see [`crate::Builder::memory_max`]. Deletes go on.
    Index,
}

impl Resource {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Resource; 7] = [
        Resource::Operations,
        Resource::Writes,
        Resource::WriteMemory,
        Resource::ReadMemory,
        Resource::Listings,
        Resource::Log,
        Resource::Index,
    ];
}

/// Why an operation did not do what was asked. Nothing was changed, and nothing will be, unless the variant says so: after
/// [`Error::OutcomeUnknown`] and [`Error::Closed`] a change may have been made ([`Error::is_uncertain`]); after [`Error::CoreFailed`], which
/// any call may be answered where it may be answered [`Error::Closed`], too.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no bucket of that name.
    #[error("no such bucket")]
    NoSuchBucket,
    /// A bucket of that name exists.
    #[error("the bucket exists")]
    BucketExists,
    /// The bucket holds objects.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// There is no such object.
    #[error("no such key")]
    NoSuchKey,
    /// The key has no such version.
    #[error("no such version")]
    NoSuchVersion,
    /// The version asked for holds nothing: it says that the key is deleted.
    #[error("the version is a delete marker")]
    DeleteMarker(DeleteMarker),
    /// There is no such upload, or it was completed or aborted.
    #[error("no such upload")]
    NoSuchUpload,
    /// A part named at completion is not there, or has another entity tag.
    #[error("part {0} is not there or is another")]
    InvalidPart(u16),
    /// Parts are not named in ascending order.
    #[error("parts are not in ascending order")]
    InvalidPartOrder,
    /// A condition of the request does not hold.
    #[error("a precondition failed")]
    ConditionFailed,
    /// What the caller judged by is not as it was: it may look again and repeat.
    #[error("changed since it was looked at")]
    Changed,
    /// The asked range starts at or past the end of the object.
    #[error("range starts past the object's {size} bytes")]
    RangeNotSatisfiable {
        /// The object's size in bytes.
        size: u64,
    },
    /// A key, tag, name or attribute longer than its bound, an empty key, or a body other than declared.
    #[error("invalid argument: {0}")]
    InvalidArgument(&'static str),
    /// Something bounded is used up; ask again later.
    #[error("busy: {0:?}")]
    Busy(Resource),
    /// No space left. Deletes and reads go on.
    #[error("no space left on shard {shard}")]
    Full {
        /// The full shard.
        shard: u16,
    },
    /// Stored bytes are damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// A device failed. What was to be changed is as it was.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The change was being made when this came in between. It is seen by nobody now, or not by everybody; when the store is opened
    /// again it is there, whole, or it is not.
    #[error("the change may have been made or not: {0}")]
    OutcomeUnknown(#[source] Box<Error>),
    /// An earlier failure stopped writing on this shard; reads go on.
    #[error("shard {shard} takes no writes since a failure")]
    ReadOnly {
        /// The shard.
        shard: u16,
    },
    /// The shard could not be opened or its device is gone. Other shards go on.
    #[error("shard {shard} is not available")]
    ShardUnavailable {
        /// The shard.
        shard: u16,
    },
    /// The engine is closed, or the core that served this has stopped. A write in flight may or may not be there.
    #[error("the engine is closed")]
    Closed,
    /// The core that served this, or was to, has ended by a failure of its own, and its shards with it, until the store is opened again.
    /// Other cores go on. A write in flight may or may not be there. See [`crate::Engine::failed_cores`].
    #[error("core {core} has failed")]
    CoreFailed {
        /// The core.
        core: usize,
    },
    /// What the caller gave to a core to do there has panicked. What it had done by then is done. The core goes on.
    #[error("the work that was given to the core panicked")]
    Panicked,
}

impl Error {
    /// Whether nobody can say if a change that was answered so was made: it may be there, or be there when the store is opened again.
    pub fn is_uncertain(&self) -> bool {
        matches!(self, Error::OutcomeUnknown(_) | Error::Closed | Error::CoreFailed { .. } | Error::Panicked)
    }

    /// This error, where something of the change was done before it.
    pub(crate) fn in_the_midst(self) -> Error {
        if self.is_uncertain() { self } else { Error::OutcomeUnknown(Box::new(self)) }
    }
}

/// Why a store could not be opened. Nothing was changed, but for a store that was to be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused something.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Its answer.
        source: std::io::Error,
    },
    /// The kernel gave no ring: io_uring was asked for by name and is not permitted, or there are no descriptors or no memory left.
    #[error(
        "no ring could be set up: {source}. Where io_uring is not permitted (a seccomp filter, `kernel.io_uring_disabled`) \
         `DriverChoice::Best` takes the portable driver"
    )]
    Ring {
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A thread for a core could not be started.
    #[error("no thread could be started for a core: {source}")]
    Thread {
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file could not be opened.
    #[error(transparent)]
    File(#[from] crate::device::file::OpenError),
    /// Another process has the store open, or this one has, or has dropped it just now and its cores still run: see
    /// [`crate::Engine::close`].
    #[error("{} is locked by another process, or by a store of this process that is still closing", path.display())]
    Locked {
        /// The directory or device that is locked.
        path: PathBuf,
    },
    /// There is no store and none was to be made.
    #[error("{} holds no store", path.display())]
    Missing {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// A device holds no store, but is not empty either, and no store is made over what somebody may need. It is free to take when all
    /// that is looked at is zero: see [`crate::Builder::path`].
    #[error(
        "{device} holds something other than a store, from byte {offset} on, and is not formatted. If that may be lost, zero the \
         device: blkdiscard --zeroout {device}",
        device = path.display()
    )]
    Occupied {
        /// The device.
        path: PathBuf,
        /// The first byte that is not zero, of those that were looked at.
        offset: u64,
    },
    /// A structure could not be read.
    #[error("{}: {what} is damaged or foreign: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The structure.
        what: &'static str,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// None of the store's shards could be opened, or not all of them where they had to be
    /// ([`crate::Builder::require_all_shards`]).
    #[error("{} of {shard_count} shards could not be opened; {}", unavailable.len(), first_reason(unavailable))]
    Shards {
        /// Those that could not be, in their order, and why.
        unavailable: Vec<(u16, Arc<OpenError>)>,
        /// Shards of the store.
        shard_count: u16,
    },
    /// The devices given do not make up one store.
    #[error("{0}")]
    Mismatch(String),
    /// The options contradict each other or the machine.
    #[error("{0}")]
    Options(String),
    /// A shard's index needs more memory than it may take: see [`crate::Builder::memory_max`].
    #[error("the index of shard {shard} takes {bytes} bytes of memory, and may take {bytes_max}")]
    Memory {
        /// The shard.
        shard: u16,
        /// Bytes that it takes at most.
        bytes: u64,
        /// Bytes that it may take.
        bytes_max: u64,
    },
    /// A shard's device failed while recovering.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A shard's metadata can not be understood.
    #[error("shard {shard}: {what} at offset {offset} of its {region:?}: {source}")]
    Recovery {
        /// The shard.
        shard: u16,
        /// What could not be read.
        what: &'static str,
        /// In which of its files.
        region: Region,
        /// Byte offset in that file.
        offset: u64,
        /// Why.
        source: DecodeError,
    },
}

fn first_reason(unavailable: &[(u16, Arc<OpenError>)]) -> String {
    unavailable.first().map_or_else(String::new, |(shard, error)| format!("shard {shard}: {error}"))
}
