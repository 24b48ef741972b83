//! Extents: space in data zones, by powers of two, and when freed space may be used again.
//!
//! Nothing of this lies on a disk. [`ExtentAllocator`] says what is free and is rebuilt at open from what is reachable;
//! [`DeferredFree`] stands between the record that frees an extent and the allocator, until nobody can read the old
//! bytes any more: neither a reader that began before, nor a recovery that does not see the freeing record.
//!
//! ```text
//!  allocate ─► written ─► referenced by a durable record ─► free(sequence) ─► durable, unpinned ─► release ─► allocate
//!              ExtentAllocator                              DeferredFree                            ExtentAllocator
//! ```

mod allocator;
mod deferred;

pub use allocator::{ExtentAllocator, Overlap};
pub use deferred::{DeferredFree, PinId};
