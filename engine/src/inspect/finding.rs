//! What a check has to say, as values: which shard, which file, which byte, which object.

use crate::{
    error::Region,
    layout::{DecodeError, Extent, LogPosition, Version},
};
use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What an interrupted write leaves behind; the next open puts it right. Not damage.
    Note,
    /// One of four copies does not hold, as if its write had been cut off. After a crash the next open mends it; on a
    /// store that was closed in order, something harmed it since.
    Torn,
    /// One of several copies does not hold. Nothing is lost while another does.
    Degraded,
    /// Something that was acknowledged can not be read, or the store contradicts itself.
    Damage,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Severity::Note => "note",
            Severity::Torn => "torn",
            Severity::Degraded => "degraded",
            Severity::Damage => "damage",
        })
    }
}

/// The object, or the part of an upload, that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// Its bucket; `#` and the number of the bucket when no record of it is there.
    pub bucket: String,
    /// Its key.
    pub key: Vec<u8>,
    /// Its version; none for a part of an upload under way.
    pub version: Option<Version>,
    /// The number of the part, when it is in parts.
    pub part: Option<u16>,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.key) {
            Ok(key) => write!(formatter, "{}/{}", self.bucket, key.escape_debug())?,
            Err(_) => write!(formatter, "{}/{}", self.bucket, self.key.escape_ascii())?,
        }
        match self.version {
            Some(version) => write!(formatter, " (version {:x})", version.0)?,
            None => write!(formatter, " (upload)")?,
        }
        self.part.map_or(Ok(()), |part| write!(formatter, " part {part}"))
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The shard; none for a superblock.
    pub shard: Option<u16>,
    /// Which of the shard's files; none for a superblock.
    pub region: Option<Region>,
    /// Byte offset in that file, if there is one place.
    pub offset: Option<u64>,
    /// The object it is about, if it is about one.
    pub object: Option<ObjectName>,
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A copy of a superblock or anchor does not read, or is not what the others are.
    #[error("copy {copy} of the {structure} {}", match error { Some(e) => e.to_string(), None => "is older or newer than the one that counts".into() })]
    Copy {
        /// "superblock" or "anchor".
        structure: &'static str,
        /// Which of the four, from 0.
        copy: usize,
        /// What is wrong with it; none if it reads well but differs.
        error: Option<DecodeError>,
    },
    /// The shard's files can not be opened, or nothing of them can be believed.
    #[error("the shard can not be read: {0}")]
    Unreadable(String),
    /// A copy of a log batch's header and entries does not hold.
    #[error("{} copy of log batch {sequence}: {error}", if *back { "back" } else { "front" })]
    BatchCopy {
        /// The batch.
        sequence: u64,
        /// Whether it is the one at the end of the batch.
        back: bool,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// An acknowledged batch can not be read; what came after it is unknown.
    #[error("the log breaks off at batch {sequence}, which was acknowledged")]
    Hole {
        /// The first batch that can not be read.
        sequence: u64,
    },
    /// A record's numbers contradict each other.
    #[error("the record contradicts itself: {0}")]
    Record(&'static str),
    /// An object lies on a shard that its key does not belong to.
    #[error("the key belongs to shard {belongs}")]
    WrongShard {
        /// Where it would be looked for.
        belongs: u16,
    },
    /// An object's bucket is not known to its shard.
    #[error("the bucket has no record on this shard")]
    UnknownBucket,
    /// An extent is not inside a zone that exists.
    #[error("extent zone {} unit {} order {} is not inside a data zone", .0.zone, .0.unit, .0.order)]
    ExtentOutside(Extent),
    /// Two claim the same bytes of a data zone.
    #[error("extent zone {} unit {} order {} is claimed by {other} too", .extent.zone, .extent.unit, .extent.order)]
    ExtentShared {
        /// The extent.
        extent: Extent,
        /// Who else claims it.
        other: String,
    },
    /// Packed bytes are not inside a log zone that exists.
    #[error("packed bytes at zone {} offset {} are not inside a log zone", .0.zone, .0.offset)]
    PackedOutside(LogPosition),
    /// Two claim the same bytes of a log zone.
    #[error("packed bytes at zone {} offset {} are claimed by {other} too", .place.zone, .place.offset)]
    PackedShared {
        /// Where they start.
        place: LogPosition,
        /// Who else claims them.
        other: String,
    },
    /// A zone of a window is used both for log and for data.
    #[error("zone {0} holds log and data")]
    ZoneShared(u32),
    /// What is in use and what is reachable are not the same.
    #[error("space: {0}")]
    Space(String),
    /// A bucket's count of versions or bytes on a shard is not that of its records.
    #[error("bucket {bucket}: {what} is {kept}, counted {counted}")]
    Count {
        /// Its name.
        bucket: String,
        /// What is counted.
        what: &'static str,
        /// The number kept.
        kept: u64,
        /// The number found.
        counted: u64,
    },
    /// A bucket exists, but this shard does not know it.
    #[error("bucket {bucket} exists but is not known to this shard")]
    BucketMissing {
        /// Its name.
        bucket: String,
    },
    /// A shard knows a bucket that does not exist: its making or removal was interrupted.
    #[error("bucket {bucket} does not exist, but is known to this shard, with {versions} versions")]
    BucketLeftOver {
        /// Its name.
        bucket: String,
        /// Versions it has here.
        versions: u64,
    },
    /// Two shards have different records of a bucket: a change of it was interrupted.
    #[error("the record of bucket {bucket} differs from that of shard {home}")]
    BucketDiffers {
        /// Its name.
        bucket: String,
        /// The shard that decides whether the bucket exists.
        home: u16,
    },
    /// Stored bytes are not what was written.
    #[error("{bytes} bytes: checksum expected {expected:016x}, found {found:016x}")]
    Bytes {
        /// Length of the checksummed block, bytes.
        bytes: u32,
        /// The CRC64NVME on record.
        expected: u64,
        /// The CRC64NVME of what was read.
        found: u64,
    },
    /// The checksums of the blocks do not make up that of the whole.
    #[error("the whole's checksum is {expected:016x} on record, that of its blocks is {found:016x}")]
    Whole {
        /// The CRC64NVME on record.
        expected: u64,
        /// That of the blocks together.
        found: u64,
    },
    /// A device did not give the bytes.
    #[error("the device failed: {0}")]
    Device(String),
}
