//! Leases: the right to use a buffer of the arena, exclusive or shared.
//!
//! The unsafe operations here rest on two facts.
//! * *Place.* A lease's granule and capacity come from [`Superpages::take`](super::superpage::Superpages), which hands
//!   out ranges inside the arena that do not overlap, and hands one out again only after it came back through the
//!   return stack, that is after its last holder was dropped. The lease keeps the mapping alive, and the mapping does
//!   not move; anonymous memory is initialised, with zeros until somebody writes.
//! * *Aliasing.* A `BufferLease` is the only holder of its range, so `&self` and `&mut self` of the lease stand for the
//!   bytes. A `FrozenLease` only reads. While a device may touch a buffer, its lease lies in the table of operations,
//!   where nobody borrows from it.

use super::arena::{PoolShared, offset_of};
use std::{
    fmt,
    ops::{Deref, Range},
    sync::Arc,
};

/// An exclusive, writable buffer of the arena. `Send`; dropping it, on any thread, brings it back to its pool.
///
/// The first [`len`](BufferLease::len) bytes are in use. The others hold whatever the buffer held before: zero them
/// ([`zero_tail`](BufferLease::zero_tail)) before a disk or a wire sees them.
pub struct BufferLease {
    shared: Arc<PoolShared>,
    granule: u32,
    capacity: u32,
    len: u32,
}

impl BufferLease {
    /// The caller took the granule from the free list; its header counts one holder.
    pub(super) fn new(shared: Arc<PoolShared>, granule: u32, capacity: usize) -> Self {
        // At most 4 MiB.
        Self { shared, granule, capacity: capacity as u32, len: 0 }
    }

    /// Bytes the buffer holds: 4 KiB, 64 KiB, 256 KiB, 1 MiB or 4 MiB.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Bytes in use, from the front.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// True if no bytes are in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets how many bytes are in use. Bytes that come into use are whatever the buffer held.
    ///
    /// # Panics
    /// Past the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "{len} bytes do not fit in {}", self.capacity);
        self.len = len as u32;
    }

    /// The bytes in use.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping, which this lease keeps alive, and is initialised (module, place);
        // len ≤ capacity ≤ 4 MiB; no `&mut` exists, as it would borrow this lease mutably (module, aliasing).
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The bytes in use, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.len();
        &mut self.full_mut()[..len]
    }

    /// The whole capacity, in use or not.
    pub fn full_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range lies in the mapping, which this lease keeps alive, and is initialised (module, place);
        // this lease is the range's only holder and is borrowed mutably (module, aliasing).
        unsafe { std::slice::from_raw_parts_mut(self.address(), self.capacity()) }
    }

    /// Zeroes from [`len`](BufferLease::len) up to `end`, so that no stale byte leaves. Does not move `len`.
    ///
    /// # Panics
    /// If `end` is past the capacity.
    pub fn zero_tail(&mut self, end: usize) {
        let len = self.len();
        if len < end {
            self.full_mut()[len..end].fill(0);
        } else {
            assert!(end <= self.capacity());
        }
    }

    /// Makes the bytes in use shared and read only. Copies nothing, allocates nothing.
    pub fn freeze(self) -> FrozenLease {
        let parts = std::mem::ManuallyDrop::new(self);
        // SAFETY: `parts` is never dropped, so the Arc is moved out of it exactly once.
        let shared = unsafe { std::ptr::read(&parts.shared) };
        FrozenLease { shared, granule: parts.granule, capacity: parts.capacity, at: 0, len: parts.len }
    }

    /// Bytes from the start of the arena to the buffer: what a device's key of the arena is used with.
    pub fn arena_offset(&self) -> usize {
        offset_of(self.granule)
    }

    /// The buffer's address, for a device that reads. Valid for the capacity, for as long as the lease exists.
    pub fn as_ptr(&self) -> *const u8 {
        self.address()
    }

    /// As [`as_ptr`](BufferLease::as_ptr), to be written.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.address()
    }

    fn address(&self) -> *mut u8 {
        self.shared.address(self.granule)
    }
}

impl Drop for BufferLease {
    fn drop(&mut self) {
        self.shared.header(self.granule).release_exclusive();
        self.shared.bring_back(self.granule);
    }
}

impl fmt::Debug for BufferLease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BufferLease")
            .field("arena_offset", &self.arena_offset())
            .field("capacity", &self.capacity)
            .field("len", &self.len)
            .finish()
    }
}

/// A shared, read-only view of a range of one buffer. `Send + Sync`; the last one to be dropped, on any thread, brings
/// the buffer back to its pool.
pub struct FrozenLease {
    shared: Arc<PoolShared>,
    granule: u32,
    capacity: u32,
    at: u32,
    len: u32,
}

impl FrozenLease {
    /// A view of a part of this one. Copies nothing.
    ///
    /// # Panics
    /// If the range is not inside this view.
    pub fn slice(&self, range: Range<usize>) -> FrozenLease {
        let mut part = self.clone();
        part.narrow(range);
        part
    }

    /// Makes this view a part of itself.
    pub(super) fn narrow(&mut self, range: Range<usize>) {
        assert!(
            range.start <= range.end && range.end <= self.len as usize,
            "{range:?} is not in {}",
            self.len
        );
        self.at += range.start as u32;
        self.len = (range.end - range.start) as u32;
    }

    /// Bytes of the arena that this view keeps from others: those of the whole buffer.
    pub fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// The view as `Bytes`, without a copy. Allocates a few words.
    ///
    /// They are bytes of the arena still: the buffer is back in its pool when the last of their clones and slices is dropped, and nobody
    /// else has it before. For what is kept longer than it takes to send it there is [`bytes::Bytes::copy_from_slice`].
    pub fn into_bytes(self) -> bytes::Bytes {
        bytes::Bytes::from_owner(self)
    }

    /// The whole buffer again, exclusive and writable, its `len` at the end of this view, if this is the only view of it
    /// and starts at its front.
    ///
    /// # Errors
    /// This view, if it is not.
    pub fn thaw(self) -> Result<BufferLease, FrozenLease> {
        if self.at != 0 || !self.shared.header(self.granule).is_exclusive() {
            return Err(self);
        }
        let parts = std::mem::ManuallyDrop::new(self);
        // SAFETY: `parts` is never dropped, so the Arc is moved out of it exactly once.
        let shared = unsafe { std::ptr::read(&parts.shared) };
        // One holder was counted, and only that holder could have made it more.
        Ok(BufferLease {
            shared,
            granule: parts.granule,
            capacity: parts.capacity,
            len: parts.at + parts.len,
        })
    }

    /// Bytes from the start of the arena to the first byte of the view.
    pub fn arena_offset(&self) -> usize {
        offset_of(self.granule) + self.at as usize
    }

    /// The address of its first byte, for a device that reads. Valid for its length, for as long as the view exists.
    pub fn as_ptr(&self) -> *const u8 {
        self.shared.address(self.granule).wrapping_add(self.at as usize)
    }
}

impl Deref for FrozenLease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping, which this view keeps alive, and is initialised (module, place);
        // at + len ≤ capacity; nobody writes while a view exists (module, aliasing).
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len as usize) }
    }
}

impl AsRef<[u8]> for FrozenLease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for FrozenLease {
    fn clone(&self) -> Self {
        self.shared.header(self.granule).share();
        Self {
            shared: Arc::clone(&self.shared),
            granule: self.granule,
            capacity: self.capacity,
            at: self.at,
            len: self.len,
        }
    }
}

impl Drop for FrozenLease {
    fn drop(&mut self) {
        if self.shared.header(self.granule).release() {
            self.shared.bring_back(self.granule);
        }
    }
}

impl fmt::Debug for FrozenLease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FrozenLease")
            .field("arena_offset", &self.arena_offset())
            .field("len", &self.len)
            .finish()
    }
}
