//! An embedded object-storage engine: objects in buckets, on NVMe through io_uring and `O_DIRECT`, in the process that serves them.
//!
//! ```text
//!   Engine, OwnCore, your front end ─► core: executor, ring, arena ─► shards: log, index, zones ─► files or block devices
//! ```
//!
//! A store is a directory or some block devices, divided into shards. Each core is a thread that owns its shards, so that nothing on the
//! data path takes a lock; bytes are received where they are written from, and sent from where they were read to.
//!
//! ```
//! use crossdock::{Engine, Error, ListItem, ListOptions};
//!
//! # let temporary = tempfile::tempdir()?;
//! # let directory = temporary.path();
//! // Opens the store, or makes one; `create(false)` demands one.
//! let engine = Engine::builder().path(directory).cores(1).open()?;
//! // The futures work on any runtime. Without one a thread just waits.
//! crossdock::block_on(async {
//!     engine.create_bucket("notes", bytes::Bytes::new()).await?;
//!     // Durable when it returns.
//!     engine.put_bytes("notes", b"2026/first", "What is durable, is.".into()).await?;
//!     assert_eq!(engine.get_bytes("notes", b"2026/first").await?, "What is durable, is.");
//!     let page = engine.list("notes", ListOptions::default()).await?;
//!     assert!(matches!(&page.items[..], [ListItem::Object { key, .. }] if key == b"2026/first"));
//!     Ok::<(), Error>(())
//! })?;
//! // Returns when the store is free to be opened again.
//! engine.close();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Ways in
//!
//! * [`Engine`]: a handle for any thread and any runtime.
//! * [`Builder::on_each_core`]: a front end on the engine's own threads, which sees [`CoreEngine`] and its memory.
//! * [`Builder::open_here`]: one core on a loop of the caller's, polled when a descriptor is readable ([`OwnCore`]).
//! * [`inspect`]: a store looked at without being changed, in use or not.
//!
//! # What is promised
//!
//! What was acknowledged survives any crash in which the device honours flush. A visible version is byte exact, never a mix. What was not
//! acknowledged is there whole or not at all. Every byte handed out was compared with a checksum, and damage is
//! [`Error::Corrupt`] with its place, never absence. There is no redundancy: damage is found and not undone.
//!
//! # Panics
//!
//! A panic in a front end, in a task of one or in work of [`Engine::on_core`] ends that, is logged and counted, and leaves the core as it
//! is. A core that panics in the midst of a change of its own ends: its shards answer [`Error::CoreFailed`] until the store is opened
//! again, the other cores go on, and [`Engine::core_failure`] tells.
//!
//! # Threads
//!
//! [`Engine`], [`PutStream`] and [`GetStream`] may be used on any thread, by futures of any runtime: each call is a message to a core and back. One
//! thread for each core is started, named `crossdock-0` and so on, and a few for opening and closing. What lives on a core stays on it:
//! [`CoreEngine`], [`Put`] and [`Get`] are not `Send`. Code on a core must not block, or its shards and all its clients wait; long
//! computations go elsewhere, and [`Engine::close`] on a core would wait for itself. A chunk that was read
//! ([`GetStream::next`]) is memory of the engine until it is dropped, on whatever thread.
//!
//! # Errors: what to do
//!
//! | error | was it done? | then |
//! |---|---|---|
//! | [`Error::Busy`] | no | ask again after a while: a bound, which it names, was reached |
//! | [`Error::ConditionFailed`], [`Error::Changed`] | no | look again, and decide anew |
//! | [`Error::OutcomeUnknown`], [`Error::Closed`], [`Error::CoreFailed`]: whatever [`Error::is_uncertain`] says so of | perhaps | look whether it was, when the store is there again |
//! | [`Error::Full`] | no | delete, or make room elsewhere; deletes and reads go on |
//! | [`Error::Corrupt`] | no | it names shard and place; others are not touched; `engine/docs/operating.md` says what can be done |
//! | [`Error::ReadOnly`], [`Error::ShardUnavailable`], [`Error::Device`] | no | the device needs an operator; other shards go on |
//! | any other | no | it will not work by being repeated |
//!
//! # Logs
//!
//! `tracing` events under the target `crossdock` and its modules: `error` is for what an operator has to do something about, `warn` for what is
//! worse than it should be and goes on, `info` for what happens once in a store's life.
//!
//! # Limits
//!
//! Linux 6.1 or newer. Memory and everything that waits are bounded, and refused with [`Error::Busy`] beyond: `engine/docs/limits.md` names
//! every bound, `engine/docs/recovery.md` argues for the promises, `engine/docs/disk_format.md` draws every byte, `ARCHITECTURE.md` says how
//! it fits together, `engine/docs/operating.md` how a store is run.
//!
//! # Features
//!
//! * `testing`: the simulator and the reference model, for tests of programs that embed the engine.

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
pub use handle::{
    Builder, CloseReport, Engine, GET_BYTES_MAX, GetStream, OpenReport, OwnCore, PutStream, Turn, block_on,
};
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
        ATTRIBUTES_BYTES_MAX, AttributesChange, BucketChange, BucketInfo, BucketOptions, BucketRevision,
        BucketUsage, CommitOptions, DOCUMENTS_BYTES_MAX, Delete, DeleteMarker, Deleted, ExpiredUploads,
        GetOptions, LIST_LIMIT_DEFAULT, ListItem, ListOptions, ListStart, Listing, NamedPart, ObjectInfo,
        PartInfo, PutOptions, Select, TagMatch, UploadInfo, UploadItem, UploadListing, UploadOptions,
        VersionItem, VersionKind, VersionListing, Which, WriteCondition,
    },
    until::{TransferProgress, Until},
};
pub use shard::{
    ShardStatistics, SpaceUse,
    open::RecoveryReport,
    scrub::{ScrubProgress, ScrubRate, ScrubSchedule},
};
