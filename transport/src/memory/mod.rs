//! One arena of memory, handed out in leases that disks and networks read and write in place.
//!
//! ```text
//!   Arena (one mapping) ─► Pool of a core ─► BufferLease (exclusive, writable)
//!                               ▲                 │ freeze
//!                               │                 ▼
//!                               └── any thread ── FrozenLease (shared, read only) ─► bytes::Bytes
//! ```
//!
//! Invariants:
//! * Each pool belongs to one core, which alone takes from its free lists: no locks. Any thread may drop a lease; the
//!   buffer goes back over a stack that every thread can push on and the owner empties (see `return_stack`), so that a
//!   drop neither blocks nor fails.
//! * A buffer is in exactly one place: free, leased, or on its way back. Types see to it: a [`BufferLease`] can not be
//!   cloned, a [`FrozenLease`] is counted, and both give back once.
//! * No buffer straddles a gibibyte of the arena, because a registered buffer of io_uring is at most that long.
//! * The bytes are always initialised memory; what they hold after an acquire is what the last user left. Whoever shows
//!   them to a disk or a wire writes or zeroes them first.
//! * The mapping lives as long as any lease, frozen lease or pool.

mod arena;
mod copies;
mod lease;
mod pool;
mod return_stack;

pub use arena::{Arena, ArenaError, ArenaOptions, PageKind, PagePolicy};
pub use copies::{CopyReason, copied_bytes, copy_payload};
pub use lease::{BufferLease, FrozenLease, ScatterList};
pub use pool::{Acquire, LEASE_BYTES_MAX, Pool};

/// The unit of the arena: the smallest buffer, and what buffers are aligned to.
pub const PAGE_BYTES: usize = 4096;
/// What pools are made of: superpages are carved into buffers of one class, and come back when all of them have.
pub const SUPERPAGE_BYTES: usize = 4 << 20;
