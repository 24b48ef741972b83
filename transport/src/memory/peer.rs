//! Memory of another process that is mapped here, for a device to write.

#![allow(unsafe_code)]

use crate::mapping::load_bytes;
use std::{any::Any, fmt, sync::Arc};

/// The right to let a device write a range of a client's memory: a disk reads straight into it, with no buffer in between.
///
/// It keeps the mapping alive, and the exposure it came from from being withdrawn, until it is dropped: it belongs to the operation
/// in flight, as leases do. There are no slices of the bytes, because the client may change
/// them at any time: whatever was checked could be something else a moment later. They can be copied out, to be looked at once. `Send`;
/// drops on any thread.
pub struct PeerLease {
    start: *mut u8,
    bytes: usize,
    small_pages: bool,
    holder: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the address is only handed to a device; what it points to is kept by the holder, which is `Send` and `Sync`.
unsafe impl Send for PeerLease {}

impl PeerLease {
    /// The right to `bytes` bytes from `start` on. For transports.
    ///
    /// # Safety
    /// * As long as `holder` or a clone of it exists, the range is mapped, writable, and backed by pages that can not go away
    ///   (a device or the kernel may write them at any time until then, without a fault that kills the process).
    /// * No reference into the range exists in this process meanwhile.
    pub unsafe fn new(start: *mut u8, bytes: usize, holder: Arc<dyn Any + Send + Sync>) -> PeerLease {
        PeerLease { start, bytes, small_pages: false, holder }
    }

    /// The same, on memory of small pages: devices can fill it, but each page is looked up, pinned and named to the device for itself, which
    /// may cost more than a copy.
    pub fn of_small_pages(self, small_pages: bool) -> PeerLease {
        PeerLease { small_pages, ..self }
    }

    /// Whether it is on small pages.
    pub fn has_small_pages(&self) -> bool {
        self.small_pages
    }

    /// How many bytes it is.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True if it is no byte.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The address of its first byte, for a device that writes. Valid for its length, as long as the lease or a part of it
    /// exists. Devices that want alignment want it of this address: with O_DIRECT, that of the file's logical blocks.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start
    }

    /// Bytes that are missing to the next multiple of `alignment` bytes of address, which is a power of two.
    pub fn misalignment(&self, alignment: usize) -> usize {
        self.start.addr().next_multiple_of(alignment) - self.start.addr()
    }

    /// Copies bytes out from byte `at` on, as they are when each of them is read: a checksum of the copy says what a device wrote only
    /// if the client left it alone.
    ///
    /// # Panics
    /// If they are not all in it.
    pub fn load(&self, at: usize, target: &mut [u8]) {
        let end = at.checked_add(target.len());
        assert!(end.is_some_and(|end| end <= self.bytes), "{} bytes at {at} of {}", target.len(), self.bytes);
        // SAFETY: the range is in this lease (asserted above), so it is mapped and writable as long as the holder, and has no
        // references: the promise of `new`.
        unsafe { load_bytes(self.start.wrapping_add(at), target) };
    }

    /// The first `at` bytes, and the others.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_at(self, at: usize) -> (PeerLease, PeerLease) {
        assert!(at <= self.bytes, "{at} of {} bytes", self.bytes);
        let behind = PeerLease {
            start: self.start.wrapping_add(at),
            bytes: self.bytes - at,
            small_pages: self.small_pages,
            holder: Arc::clone(&self.holder),
        };
        (PeerLease { bytes: at, ..self }, behind)
    }
}

impl fmt::Debug for PeerLease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PeerLease").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
