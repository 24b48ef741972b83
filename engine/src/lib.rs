//! An embedded object-storage engine.

mod cache;
mod core_engine;
pub mod device;
pub mod error;
mod events;
pub mod extent;
mod handle;
mod index;
pub mod inspect;
pub mod layout;
mod log;
mod memory;
mod metrics;
mod object;
#[cfg(not(planted))]
#[allow(unreachable_pub, reason = "public in the builds that it is for")]
mod planted;
#[cfg(planted)]
pub mod planted;
pub mod reactor;
mod shard;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verify;

pub use core_engine::{
    Caller, CompleteOptions, CoreEngine, DELETES_MAX,
    repair::{PieceExport, REPAIR_BYTES_MAX, Repaired, VersionExport},
};
pub use error::{Corruption, DeviceError, Error, OpenError, Resource};
pub use events::{CorruptionEvent, CorruptionEvents, FoundBy};
pub use handle::{Builder, Engine, GetStream, OpenReport, OwnCore, PutStream, Turn, block_on};
pub use index::KEY_BYTES_MAX;
pub use layout::{BucketId, Documents, EntityTag, UploadId, Version, Versioning};
pub use memory::{MemoryPlan, MemoryTerm};
pub use metrics::{CoreMetrics, Counter, Gauge};
pub use object::{
    get::Get,
    list::LIST_LIMIT_MAX,
    put::Put,
    remote::{Delivered, RemoteError},
    types::{
        ATTRIBUTES_BYTES_MAX, BucketChange, BucketInfo, BucketOptions, BucketUsage, CommitOptions,
        DOCUMENTS_BYTES_MAX, Delete, DeleteMarker, Deleted, ExpiredUploads, GetOptions, LIST_LIMIT_DEFAULT,
        ListItem, ListOptions, ListStart, Listing, NamedPart, ObjectInfo, PartInfo, PutOptions, Select,
        TagMatch, UploadInfo, VersionItem, VersionKind, VersionListing, Which, WriteCondition,
    },
    until::Until,
};
pub use shard::{
    ShardStatistics,
    open::RecoveryReport,
    scrub::{ScrubProgress, ScrubRate, ScrubSchedule},
};
