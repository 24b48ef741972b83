//! Every structure that lies on a disk, and nothing else: bytes in, values out.
//!
//! Pure: no I/O, clock or randomness. `engine/docs/disk_format.md` draws each structure byte by byte.
//!
//! ```text
//!  superblock ×4     what never changes after format, and the secret that keys every other checksum
//!  anchor ×4         per shard: where the log and the newest checkpoint start
//!  log batch         header ‖ entries ‖ payload ‖ header ‖ entries, chained by hash
//!  checkpoint chunk  header ‖ entries, chained backwards by place and hash
//!  entry             what happened; the same bytes in batches and chunks
//! ```
//!
//! Invariants:
//! * Little endian. A block is 4096 bytes, a unit of extent allocation 64 KiB, a zone [`Geometry::zone_bytes`].
//! * Decoding arbitrary bytes never panics and allocates no more than a small multiple of the bytes it was given:
//!   every count is checked against the bytes that remain before anything is reserved.
//! * What [`encode`](Entry::encode) writes, decode gives back; and a value has one encoding only, so a decoded value
//!   encodes to the bytes it came from.
//! * Encoding asserts what decoding checks: a value that could not be read again is a programmer's error and never
//!   reaches a disk.
//! * Magic, version and checksum of each structure stay where they are in every version, so that an older build can
//!   tell a newer format from damage.

// Tests may index; what ships may not.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

mod anchor;
mod batch;
mod checkpoint;
mod checksum;
mod codec;
mod copies;
#[cfg(test)]
mod document;
mod entry;
mod hash;
mod names;
mod record;
pub mod regions;
mod scrub;
mod superblock;
#[cfg(test)]
mod testing;

pub use anchor::{Anchor, CheckpointRoot};
pub use batch::BatchHeader;
pub use checkpoint::{CHUNK_COPIES, ChunkHeader, ChunkPlace};
pub(crate) use checksum::RunningChecksum;
pub use checksum::{checksum, checksum_combine};
pub use copies::disagreeing;
pub use entry::{Entry, PackedOwner};
pub use hash::{MetaHash, SecretKey};
pub use names::{BucketId, EntityTag, Extent, LogPosition, UploadId, Version, Versioning};
pub use record::{BucketRecord, ChecksumTable, Content, Documents, Part, Record, UploadRecord};
pub use regions::{anchor_offset, superblock_offset};
pub use scrub::{ScrubPosition, ScrubRecord};
pub use superblock::{Geometry, Superblock};

/// The unit of every device access: offsets, lengths and memory are multiples of it.
pub const BLOCK_BYTES: usize = 4096;

/// The unit of extent allocation.
pub const UNIT_BYTES: usize = 64 * 1024;

/// The greatest zone of log or data.
pub const ZONE_BYTES_MAX: u32 = 32 * 1024 * 1024;

/// Copies of a superblock and of an anchor.
pub const COPIES: usize = 4;

/// The greatest count of shards in a store.
pub const SHARDS_MAX: u16 = 256;

/// Bytes of an extent that one checksum covers.
pub const EXTENT_CHECKSUM_BYTES: usize = 64 * 1024;

/// Bytes of a packed payload that one checksum covers.
pub const PACKED_CHECKSUM_BYTES: usize = 16 * 1024;

/// The greatest count of parts of one object.
pub const PARTS_MAX: usize = 10_000;

/// The longest key, bytes.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// The longest attributes of a record, part, bucket or upload, bytes.
pub const ATTRIBUTES_BYTES_MAX: usize = 1 << 20;

/// The most documents of a bucket.
pub const DOCUMENTS_MAX: usize = 64;

/// The longest entry, with its prefix, bytes.
pub const ENTRY_BYTES_MAX: usize = 64 << 20;

/// The most that all parts of an object take encoded ([`Part::encoded_bytes`]), so that the object's entry is not too long whatever its key
/// and attributes are or become. A kibibyte is for all that is of a fixed length, and the tag.
pub const PARTS_BYTES_MAX: usize = ENTRY_BYTES_MAX - KEY_BYTES_MAX - ATTRIBUTES_BYTES_MAX - 1024;

/// Version of every structure this build writes; it reads this one and none above.
pub(crate) const FORMAT_VERSION: u16 = 1;

/// Why bytes could not be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the structure does.
    #[error("truncated")]
    Truncated,
    /// Something else lies here, or nothing.
    #[error("wrong magic")]
    Magic,
    /// The bytes are not those that were written.
    #[error("checksum mismatch")]
    Checksum,
    /// Written by a newer build; the checksum holds.
    #[error("version {0} is newer than this build")]
    NewerVersion(u16),
    /// Written by a build with features this one does not know; the checksum holds.
    #[error("unknown features {0:#x}")]
    UnknownFeatures(u64),
    /// A number that no build writes.
    #[error("value out of bounds")]
    Bounds,
    /// A kind of entry or content that this build does not know.
    #[error("unknown tag {0}")]
    Tag(u8),
    /// A sound structure, but of another store, shard or place.
    #[error("identity mismatch")]
    Identity,
    /// The device could not read it.
    #[error("the device could not read it")]
    Unreadable,
    /// There are sound copies, but no two of them agree.
    #[error("no two copies agree")]
    Disagreement,
}
