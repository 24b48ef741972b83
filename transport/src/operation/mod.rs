//! Slot, lease, completion: the one idiom at every asynchronous edge.
//!
//! ```text
//!            slot()                     post(slot, memory)                 complete(id, result)
//!   room ───────────────► Slot ───────────────────────────► in flight ───────────────────────────► Completion
//!     ▲                    │ drop                            │    │                                     │
//!     └────────────────────┘       Pending dropped, or cancelled  │ memory stays in the table          ▼
//!     ▲                                         on_cancel(id) ────┘ until the device is done     result, memory
//!     └────────────────────────────────── room is back at `complete` ─────────────────────────────────┘
//! ```
//!
//! A [`Slot`] proves that there is room in a queue; a lease proves that there is memory. Posting consumes both and can
//! not fail. The [`Completion`] returns the memory with the result. Disks, sockets, network cards and the simulator use
//! the same three words; a driver is whoever calls [`Queue::post`] and [`Queue::complete`].
//!
//! Invariants
//! * At most `depth` slots and operations in flight exist at any time.
//! * Memory given to `post` belongs to the table until `complete`, whatever happens to the [`Pending`]: a device may
//!   still write it. A dropped future never frees it.
//! * An [`OperationId`] is never used twice for two operations that could be confused: it carries a generation, so a
//!   late completion or a late cancel cannot hit the next operation at the same place of the table.
//! * A completion nobody has taken yet keeps its entry but not its room. Otherwise a task that holds finished
//!   operations and waits for room would wait for itself.
//! * Wakers, hooks and drops of memory run with nothing borrowed.

mod queue;
mod table;

pub use queue::{OnCancel, Pending, Queue, Slot, SlotFuture};

use crate::memory::{BufferLease, ScatterList, TargetList};

/// An error number of the operating system (`errno`), as a completion carries it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OsError(pub i32);

impl std::fmt::Display for OsError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", std::io::Error::from_raw_os_error(self.0))
    }
}

impl std::error::Error for OsError {}

impl From<OsError> for std::io::Error {
    fn from(error: OsError) -> Self {
        Self::from_raw_os_error(error.0)
    }
}

impl From<rustix::io::Errno> for OsError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

/// Memory that belongs to the operation while it is in flight.
#[derive(Debug)]
pub enum Memory {
    /// The operation moves no payload (a flush, an accept).
    None,
    /// A buffer the device fills.
    Lease(BufferLease),
    /// Pieces the device reads.
    Scatter(ScatterList),
    /// Several places the device fills.
    Targets(TargetList),
}

/// Names an operation in flight on one [`Queue`]: its place in the table and the generation of that place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct OperationId(pub u64);

impl OperationId {
    fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    /// The place in the table.
    fn index(self) -> usize {
        // A u32 always fits: the crate builds for 64-bit targets only (see `memory`).
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What a posted operation came to: the memory comes back whatever the result.
#[derive(Debug)]
pub struct Completion {
    /// What the operation returned (a byte count, a descriptor, 0), or the error.
    pub result: Result<u32, OsError>,
    /// The memory given at the post.
    pub memory: Memory,
}

impl Completion {
    /// The result, and the lease given at the post.
    ///
    /// # Panics
    /// If the operation carried no lease.
    pub fn into_lease(self) -> (Result<u32, OsError>, BufferLease) {
        match self.memory {
            Memory::Lease(lease) => (self.result, lease),
            Memory::None | Memory::Scatter(_) | Memory::Targets(_) => {
                panic!("the operation carried no lease")
            }
        }
    }

    /// The result, and the pieces given at the post.
    ///
    /// # Panics
    /// If the operation carried no pieces.
    pub fn into_scatter(self) -> (Result<u32, OsError>, ScatterList) {
        match self.memory {
            Memory::Scatter(pieces) => (self.result, pieces),
            Memory::None | Memory::Lease(_) | Memory::Targets(_) => panic!("the operation carried no pieces"),
        }
    }

    /// The result, and the places given at the post.
    ///
    /// # Panics
    /// If the operation carried no places.
    pub fn into_targets(self) -> (Result<u32, OsError>, TargetList) {
        match self.memory {
            Memory::Targets(targets) => (self.result, targets),
            Memory::None | Memory::Lease(_) | Memory::Scatter(_) => panic!("the operation carried no places"),
        }
    }
}
