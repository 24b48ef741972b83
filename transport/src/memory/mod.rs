//! One arena: all payload memory of a process, leased in power-of-two buffers that disks and network cards know.
//!
//! ```text
//!   Arena   one anonymous mapping ────────────────────────────────────────────────────────────────
//!           │ superpage 4 MiB │ superpage │ superpage │ ...            │ superpage │ superpage │ ...
//!           └──── Pool 0: the free lists of core 0 ────────────────────┘└──── Pool 1 ─────────────
//!
//!   superpage, carved when a class needs room, whole again when its last lease is back:
//!           1024 × 4 KiB  or  64 × 64 KiB  or  16 × 256 KiB  or  4 × 1 MiB  or  1 × 4 MiB
//!
//!   BufferLease ── freeze ──► FrozenLease ── slice, clone ──► FrozenLease ── into_bytes ──► bytes::Bytes
//!        │ drop, any thread        │ last drop, any thread                                      │
//!        └─────────────► return stack of the owner pool ◄───────────────────────────────────────┘
//!                                  │ drain_returns, by the owner, once per loop
//!                                  └──► waiters in their order, or the free lists
//! ```
//!
//! Invariants
//! * Every byte of the mapping belongs to at most one [`BufferLease`] or to one family of [`FrozenLease`]s.
//! * The mapping lives as long as an [`Arena`], a [`Pool`] or a lease does. Pools may be dropped before their leases.
//! * Free lists are touched by their owner only. Every drop of a lease, whatever its thread, pushes it on the return
//!   stack of its pool: that can neither block nor fail, and allocates nothing.
//! * No lease straddles a 1 GiB boundary of the arena, because superpages are aligned and divide 1 GiB: the ring
//!   registers the arena in slices of 1 GiB and finds the slice by `offset >> 30`.
//! * Waiters are served in their order: while somebody waits, nobody gets memory past them.
//!
//! Deliberately not here: a fallback to the heap. An arena that is exhausted is back-pressure, and callers see it.

mod arena;
mod copies;
#[allow(unsafe_code)]
mod lease;
mod mapping;
mod numbers;
mod peer;
mod pool;
mod return_stack;
mod scatter;
mod superpage;
mod targets;

pub use arena::{Arena, ArenaError, ArenaOptions};
pub use copies::{CopyReason, copied_bytes, copied_bytes_here, copy_payload, count_copied};
pub use lease::{BufferLease, FrozenLease};
pub use mapping::{PageKind, PagePolicy};
pub use peer::PeerLease;
pub use pool::{Acquire, Pool};
pub use scatter::ScatterList;
pub use targets::{Target, TargetList};

/// The unit of the arena, in bytes: the smallest lease, and the alignment every lease has at least.
pub const PAGE_BYTES: usize = 4 << 10;

/// What pools are made of, in bytes: superpages are carved into leases of one size, and whole again when all are back.
pub const SUPERPAGE_BYTES: usize = 4 << 20;

/// The largest lease, in bytes: a whole superpage.
pub const LEASE_BYTES_MAX: usize = SUPERPAGE_BYTES;

/// What a lease of at least `bytes` takes of its pool, in bytes: the smallest class that holds it. Whoever shares a pool out by
/// budgets must count this, and not what was asked for: of 5 KiB a lease has 64.
///
/// Where a pool has no room of that class left, a lease takes more: see [`Pool::try_acquire`].
///
/// # Panics
/// If `bytes` is more than 4 MiB ([`LEASE_BYTES_MAX`]).
pub fn lease_bytes(bytes: usize) -> usize {
    superpage::Class::of(bytes).bytes()
}

// Offsets and file positions are u64, memory is addressed by usize, and one is cast to the other.
const _: () = assert!(usize::BITS == 64, "crossdock-transport is written for 64-bit targets");
