//! Block devices: one trait, and the devices behind it.
//!
//! ```text
//!  slot + lease ──► read  ─┐
//!  slot + pieces ─► write ─┤                                     ┌─ file       io_uring or the portable driver
//!  slot ──────────► sync  ─┼─► Pending ──► result, lease back    ├─ memory     completes at once
//!  slot ──────────► grow  ─┘                                     └─ simulated  completes when and how the simulator says
//! ```
//!
//! Invariants of every device, checked by one suite that all three pass:
//! * Posting never fails and never blocks: what is wrong with an operation is in its completion.
//! * The memory of an operation belongs to the device from the post to the completion, and comes back with it whatever
//!   the result.
//! * A write that has completed is seen by every read posted after, through any handle of the device.
//! * Offsets and lengths are multiples of `block_bytes`, otherwise the completion is `EINVAL`; a write that would pass
//!   the end is `ENOSPC` and writes nothing. The device never grows but by `grow`.
//! * Bytes never written read as zeros.

mod bounds;
#[cfg(test)]
mod conformance;
pub mod file;
pub mod memory;
pub(crate) mod pair;
pub mod simulated;

use crossdock_transport::{
    memory::{BufferLease, ScatterList, TargetList},
    operation::{Memory, Pending, Queue, Slot},
};
use rustix::io::Errno;

pub use crossdock_transport::ring::Durability;

/// What a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceGeometry {
    /// Alignment of offsets, lengths and memory, bytes.
    pub block_bytes: u32,
    /// Bytes it has now.
    pub bytes: u64,
    /// Whether `grow` can make it longer: a file can grow, a block device can not.
    pub growable: bool,
    /// Whether what completed may be lost with the power until a `sync`. When unknown, it is taken to be so.
    pub volatile_cache: bool,
    /// Whether bytes go between device and lease without a page cache in between.
    pub direct: bool,
}

/// One core's handle of one device: a file, a block device, memory, or a simulated disk. `!Send`.
pub trait BlockDevice {
    /// What the device can do, now: `bytes` changes when it grows. May ask the operating system: not for a data path.
    fn geometry(&self) -> DeviceGeometry;

    /// Bytes that there are from an offset on, now. As [`geometry`](BlockDevice::geometry), not for a data path.
    fn bytes_from(&self, offset: u64) -> u64 {
        self.geometry().bytes.saturating_sub(offset)
    }

    /// The queue whose slots this handle takes.
    fn queue(&self) -> &Queue;

    /// Reads `bytes` at `offset` into `lease[at..at + bytes]`; the lease's `len` is left as it is. Completes with the
    /// count read, short only at the end of the device.
    ///
    /// `at` is a multiple of `block_bytes` too: a device that works on the memory itself needs it aligned.
    ///
    /// # Panics
    /// If `at + bytes` is past the lease's capacity.
    fn read(&self, slot: Slot, offset: u64, lease: BufferLease, at: usize, bytes: usize) -> Pending;

    /// Whether [`read_targets`](BlockDevice::read_targets) works: whether the device itself fills memory of clients.
    fn fills_targets(&self) -> bool {
        false
    }

    /// Reads whole blocks at `offset` into all places, one behind the other. Completes with the count read, short only at the end
    /// of the device; with `EOPNOTSUPP` unless [`fills_targets`](BlockDevice::fills_targets).
    fn read_targets(&self, slot: Slot, _offset: u64, targets: TargetList) -> Pending {
        let (id, pending) = self.queue().post(slot, Memory::Targets(targets));
        self.queue().complete(id, Err(Errno::OPNOTSUPP.into()));
        pending
    }

    /// Writes all pieces at `offset`. Completes with the count written, which is all of them.
    /// [`Durability::Durable`]: completes when the bytes are on stable storage.
    fn write(&self, slot: Slot, offset: u64, source: ScatterList, durability: Durability) -> Pending;

    /// Everything that completed before this was posted is on stable storage when it completes. After it failed once,
    /// nothing can be said about those bytes, and a later success does not say it either.
    fn sync(&self, slot: Slot) -> Pending;

    /// Makes the device at least `bytes` long; new bytes read as zeros. Durable after the next `sync`.
    /// Completes with `ENOSPC` when there is no room, `EOPNOTSUPP` when the device can not grow.
    fn grow(&self, slot: Slot, bytes: u64) -> Pending;
}
