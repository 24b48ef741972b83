//! Leases: memory of the arena in somebody's hands.
#![allow(unsafe_code)]

use super::{PAGE_BYTES, arena::Shared, return_stack::Header};
use bytes::Bytes;
use std::{
    fmt,
    ops::{Deref, Range},
    slice,
    sync::Arc,
};

/// A buffer in one pair of hands: may be written, and handed to a device. Gives itself back when dropped.
///
/// Its [`len`](BufferLease::len) says how many bytes from the front are in use; a fresh lease has none.
pub struct BufferLease {
    /// None only once the buffer has gone on into a frozen lease.
    buffer: Option<Buffer>,
    len: usize,
}

/// A buffer's place. Whoever holds one is responsible for giving it back; it does not do so itself.
struct Buffer {
    shared: Arc<Shared>,
    page: u32,
    capacity: usize,
}

impl Buffer {
    fn address(&self) -> *mut u8 {
        self.shared.address(self.page)
    }

    fn header(&self) -> &Header {
        &self.shared.headers[self.page as usize]
    }
}

impl BufferLease {
    /// Hands out a buffer that is in no other hands: `page` starts one of `capacity` bytes that the pool has just taken
    /// off its free list.
    pub(super) fn new(shared: Arc<Shared>, page: u32, capacity: usize) -> BufferLease {
        debug_assert!(page as usize * PAGE_BYTES + capacity <= shared.headers.len() * PAGE_BYTES);
        BufferLease { buffer: Some(Buffer { shared, page, capacity }), len: 0 }
    }

    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("a lease has its buffer until it is frozen")
    }

    /// Bytes there is room for.
    pub fn capacity(&self) -> usize {
        self.buffer().capacity
    }

    /// Bytes in use, from the front.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Says how many bytes are in use. Bytes that were not are whatever the buffer held before.
    ///
    /// # Panics
    /// Past the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "a lease of {} bytes can not hold {len}", self.capacity());
        self.len = len;
    }

    /// The bytes in use.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the buffer is `capacity >= len` bytes of the mapping, which `shared` keeps alive; they are always
        // initialised; this lease is the only one of the buffer, and no device has it, because a lease that a device
        // may touch has been moved into that operation; so nobody writes while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// The bytes in use, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.len;
        &mut self.full_mut()[..len]
    }

    /// All bytes there is room for.
    pub fn full_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, for all `capacity` bytes; `self` is borrowed exclusively, so nobody reads either.
        unsafe { slice::from_raw_parts_mut(self.as_ptr().cast_mut(), self.capacity()) }
    }

    /// Zeroes from the bytes in use up to `end`, so that what the buffer held before reaches no disk and no wire.
    ///
    /// # Panics
    /// Past the capacity.
    pub fn zero_tail(&mut self, end: usize) {
        let len = self.len.min(end);
        self.full_mut()[len..end].fill(0);
    }

    /// Makes the bytes in use shared and read only.
    pub fn freeze(self) -> FrozenLease {
        let mut this = self;
        let len = this.len;
        let buffer = this.buffer.take().expect("a lease has its buffer until it is frozen");
        buffer.shared.headers[buffer.page as usize].set_references(1);
        FrozenLease { buffer: Some(buffer), offset: 0, len }
    }

    /// Bytes from the start of the arena: its place in what is registered with devices.
    pub fn arena_offset(&self) -> usize {
        self.buffer().page as usize * PAGE_BYTES
    }

    /// The buffer's address, for a device. Reading or writing through it is up to the rules of the operation that owns
    /// the lease.
    pub fn as_ptr(&self) -> *const u8 {
        self.buffer().address()
    }

    /// As [`BufferLease::as_ptr`], to be written.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.buffer().address()
    }
}

impl Drop for BufferLease {
    fn drop(&mut self) {
        if let Some(buffer) = &self.buffer {
            buffer.shared.give_back(buffer.page);
        }
    }
}

impl fmt::Debug for BufferLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferLease({} of {} bytes)", self.len, self.capacity())
    }
}

/// A view of bytes that nobody changes any more. Cheap to clone and to slice; the buffer goes back with the last view.
pub struct FrozenLease {
    /// None only once the buffer has gone back into a lease for writing.
    buffer: Option<Buffer>,
    offset: usize,
    len: usize,
}

impl FrozenLease {
    /// A view of part of this view.
    ///
    /// # Panics
    /// If the range is not within it.
    pub fn slice(&self, range: Range<usize>) -> FrozenLease {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {} bytes", self.len);
        let mut part = self.clone();
        part.offset += range.start;
        part.len = range.end - range.start;
        part
    }

    /// The bytes as `Bytes`, without a copy.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// The buffer for writing again, if this is its only view and starts at its front.
    ///
    /// # Errors
    /// The view itself, if it is not.
    pub fn thaw(self) -> Result<BufferLease, FrozenLease> {
        if self.offset != 0 || !self.header().is_unique() {
            return Err(self);
        }
        let mut this = self;
        let buffer = this.buffer.take();
        let len = this.len;
        Ok(BufferLease { buffer, len })
    }

    /// Bytes from the start of the arena to the view's first.
    pub fn arena_offset(&self) -> usize {
        self.buffer().page as usize * PAGE_BYTES + self.offset
    }

    /// The address of its first byte, for a device that reads.
    pub fn as_ptr(&self) -> *const u8 {
        self.buffer().address().wrapping_add(self.offset)
    }

    fn header(&self) -> &Header {
        self.buffer().header()
    }

    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("a view has its buffer until it is thawed")
    }
}

impl Clone for FrozenLease {
    fn clone(&self) -> FrozenLease {
        self.header().add_reference();
        let Buffer { shared, page, capacity } = self.buffer();
        let buffer = Buffer { shared: shared.clone(), page: *page, capacity: *capacity };
        FrozenLease { buffer: Some(buffer), offset: self.offset, len: self.len }
    }
}

impl Drop for FrozenLease {
    fn drop(&mut self) {
        let Some(buffer) = &self.buffer else { return };
        if buffer.header().drop_reference() {
            buffer.shared.give_back(buffer.page);
        }
    }
}

impl Deref for FrozenLease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `offset + len` lies within the buffer (it did when the lease was frozen, and slices only shrink it),
        // which is initialised memory of the mapping that `shared` keeps alive; the buffer is not given back while this
        // view counts, and nobody writes to a frozen buffer.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for FrozenLease {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for FrozenLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrozenLease({} bytes)", self.len)
    }
}

/// Pieces that are sent or written as if they were one.
#[derive(Clone, Default, Debug)]
pub struct ScatterList {
    pieces: Vec<FrozenLease>,
    bytes: usize,
}

impl ScatterList {
    /// No pieces.
    pub fn new() -> ScatterList {
        ScatterList::default()
    }

    /// Adds a piece at the end. An empty one is left out.
    pub fn push(&mut self, piece: FrozenLease) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Bytes of all pieces together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[FrozenLease] {
        &self.pieces
    }

    /// Leaves out the first `bytes`.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "{bytes} of {}", self.bytes);
        self.bytes -= bytes;
        let mut left = bytes;
        let whole = self.pieces.iter().take_while(|piece| {
            let goes = piece.len() <= left;
            left -= if goes { piece.len() } else { 0 };
            goes
        });
        let whole = whole.count();
        self.pieces.drain(..whole);
        if left > 0 {
            let first = &mut self.pieces[0];
            *first = first.slice(left..first.len());
        }
    }
}

impl From<FrozenLease> for ScatterList {
    fn from(piece: FrozenLease) -> ScatterList {
        let mut list = ScatterList::new();
        list.push(piece);
        list
    }
}
