//! Looking at a store without changing it: for tools, and for tests that want to know what really lies there.
//!
//! ```text
//!   Store::open ─► ShardImage (anchor, checkpoint and log, read by the code that recovers them) ─► buckets, objects, usage
//!        │                │
//!        │                └─► check: every structure and every claim of space; verify: every byte of every object
//!        └─► dump: any structure in words
//! ```
//!
//! Invariants:
//! * Nothing is written: files are opened for reading alone, and no engine runs.
//! * There is one implementation of every rule: what an entry means is the engine's catalog, where the log ends is its
//!   recovery, what space is free is its space. This module compares, and words what does not fit.
//! * A store that is open in another process can be looked at too. It changes meanwhile: an image is of one moment, and
//!   what seems wrong is looked at again before it is reported.

mod check;
mod claims;
mod finding;
mod image;
mod raw;
mod scrub;
mod store;
mod verify;

pub(crate) use check::{check_structures, name_in};
pub use finding::{Finding, ObjectName, Problem, Severity};
pub use image::{BucketEntry, ObjectEntry, ShardImage, ShardUsage, UploadEntry};
pub use raw::{AnchorCopy, Holder};
#[cfg(any(test, feature = "testing"))]
pub(crate) use scrub::check_store;
pub use scrub::{ScrubOptions, unreadable};
pub use store::{Access, Store};
pub use verify::Progress;
