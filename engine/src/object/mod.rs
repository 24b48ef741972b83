//! Operations on objects, as they run on the core that serves the caller.
//!
//! The shard's core owns metadata; this core owns the bytes. A read fetches descriptor and pin in one hop, then reads,
//! verifies and hands out from leases of its own; a write sets space aside in one hop, writes the bytes itself, and
//! commits in another. Only small payloads, which the log carries, cross cores, as leases and not as copies.

pub(crate) mod copy;
pub(crate) mod footprint;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod piece;
pub(crate) mod put;
pub(crate) mod remote;
mod straight;
#[cfg(test)]
mod tests;
pub(crate) mod types;
pub(crate) mod until;

/// Bytes read or written at a time: enough to keep a device busy with [`WINDOW`] of them, little enough to stay warm
/// for the checksum pass.
pub(crate) const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks in flight for one operation.
pub(crate) const WINDOW: usize = 4;
/// Most bytes of leases one operation holds.
pub(crate) const OPERATION_BYTES_MAX: usize = WINDOW * CHUNK_BYTES;
