//! A device in memory: for tests, for caches, and for measuring everything but the disk.
//!
//! [`MemoryDisk`] is the storage, shared by all cores; [`MemoryDevice`] is one core's handle. Operations complete while
//! they are posted. Nothing survives the process, so every write is as durable as it will ever be.
//!
//! The storage is cut into pieces of 1 MiB with a lock each. The engine never reads and writes the same bytes at once,
//! so the locks are there for the compiler, not for contention: two cores meet in one only when they work within the
//! same MiB.

use super::{BlockDevice, DeviceGeometry, Durability, bounds};
use crate::layout::BLOCK_BYTES;
use crossdock_transport::{
    memory::{BufferLease, ScatterList},
    operation::{Memory, OsError, Pending, Queue, Slot},
};
use rustix::io::Errno;
use std::{
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

const PIECE_BYTES: usize = 1 << 20;

/// The storage of a device in memory. `Send + Sync`, cheap to clone.
#[derive(Clone)]
pub struct MemoryDisk(Arc<Storage>);

struct Storage {
    bytes_max: u64,
    contents: RwLock<Contents>,
}

struct Contents {
    bytes: u64,
    pieces: Vec<Piece>,
}

/// One MiB; empty until it is written, and then all zeros but for what was.
type Piece = RwLock<Box<[u8]>>;

impl MemoryDisk {
    /// A disk of `bytes` that can grow to `bytes_max`. Memory is taken as it is written.
    pub fn new(bytes: u64, bytes_max: u64) -> MemoryDisk {
        let disk = MemoryDisk(Arc::new(Storage {
            bytes_max,
            contents: RwLock::new(Contents { bytes: 0, pieces: Vec::new() }),
        }));
        disk.grow(bytes).expect("a disk is not longer than it may become");
        disk
    }

    /// A core's handle; completions are those of the queue.
    pub fn open(&self, queue: &Queue) -> MemoryDevice {
        MemoryDevice { disk: self.clone(), queue: queue.clone() }
    }

    fn bytes(&self) -> u64 {
        // A panic elsewhere can not leave these half changed: lengths and bytes are always valid.
        self.0.contents.read().unwrap_or_else(PoisonError::into_inner).bytes
    }

    fn grow(&self, bytes: u64) -> Result<u32, OsError> {
        if bytes > self.0.bytes_max {
            return Err(bounds::os_error(Errno::NOSPC));
        }
        let mut contents = self.0.contents.write().unwrap_or_else(PoisonError::into_inner);
        contents.bytes = contents.bytes.max(bytes);
        let pieces = usize::try_from(contents.bytes.div_ceil(PIECE_BYTES as u64));
        contents.pieces.resize_with(pieces.map_err(|_| bounds::os_error(Errno::NOSPC))?, Piece::default);
        Ok(0)
    }

    /// Visits the pieces that a range touches: each, the start within it, and where in the range that lies.
    fn pieces(&self, offset: u64, bytes: usize, mut visit: impl FnMut(&Piece, usize, Range<usize>)) {
        let contents = self.0.contents.read().unwrap_or_else(PoisonError::into_inner);
        let (offset, mut at) = (offset as usize, 0);
        while at < bytes {
            let (piece, within) = ((offset + at) / PIECE_BYTES, (offset + at) % PIECE_BYTES);
            let length = (PIECE_BYTES - within).min(bytes - at);
            visit(&contents.pieces[piece], within, at..at + length);
            at += length;
        }
    }

    /// Takes the memory of its first `bytes` now: for whoever counts what comes after.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn populate(&self, bytes: u64) {
        let contents = self.0.contents.read().unwrap_or_else(PoisonError::into_inner);
        for piece in contents.pieces.iter().take(bytes.div_ceil(PIECE_BYTES as u64) as usize) {
            make(&mut piece.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn read(&self, offset: u64, target: &mut [u8]) {
        self.pieces(offset, target.len(), |piece, within, range| {
            let piece = piece.read().unwrap_or_else(PoisonError::into_inner);
            let target = &mut target[range];
            match piece.get(within..within + target.len()) {
                Some(source) => target.copy_from_slice(source),
                None => target.fill(0),
            }
        });
    }

    fn write(&self, offset: u64, source: &[u8]) {
        self.pieces(offset, source.len(), |piece, within, range| {
            let mut piece = piece.write().unwrap_or_else(PoisonError::into_inner);
            make(&mut piece);
            piece[within..within + range.len()].copy_from_slice(&source[range]);
        });
    }
}

/// Takes the memory of a piece.
fn make(piece: &mut Box<[u8]>) {
    if piece.is_empty() {
        *piece = vec![0; PIECE_BYTES].into();
    }
}

/// One core's handle of a disk in memory.
pub struct MemoryDevice {
    disk: MemoryDisk,
    queue: Queue,
}

impl MemoryDevice {
    fn complete(
        &self,
        slot: Slot,
        memory: Memory,
        act: impl FnOnce(&mut Memory) -> Result<u32, OsError>,
    ) -> Pending {
        let (id, pending) = self.queue.post(slot, memory);
        let result = self.queue.with_memory(id, act);
        self.queue.complete(id, result);
        pending
    }
}

impl BlockDevice for MemoryDevice {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            block_bytes: BLOCK_BYTES as u32,
            bytes: self.disk.bytes(),
            growable: true,
            volatile_cache: false,
            direct: true,
        }
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn read(&self, slot: Slot, offset: u64, lease: BufferLease, at: usize, bytes: usize) -> Pending {
        self.complete(slot, Memory::Lease(lease), |memory| {
            let Memory::Lease(lease) = memory else { unreachable!("a read carries a lease") };
            let target = &mut lease.full_mut()[at..at + bytes];
            let count = bounds::check_read(offset, bytes, self.disk.bytes())?;
            self.disk.read(offset, &mut target[..count]);
            Ok(count as u32)
        })
    }

    fn write(&self, slot: Slot, offset: u64, source: ScatterList, _: Durability) -> Pending {
        self.complete(slot, Memory::Scatter(source), |memory| {
            let Memory::Scatter(source) = memory else { unreachable!("a write carries pieces") };
            bounds::check_write(offset, source.bytes(), self.disk.bytes())?;
            let mut at = offset;
            for piece in source.pieces() {
                self.disk.write(at, piece);
                at += piece.len() as u64;
            }
            Ok(source.bytes() as u32)
        })
    }

    fn sync(&self, slot: Slot) -> Pending {
        self.complete(slot, Memory::None, |_| Ok(0))
    }

    fn grow(&self, slot: Slot, bytes: u64) -> Pending {
        self.complete(slot, Memory::None, |_| self.disk.grow(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::conformance, *};

    #[test]
    fn it_conforms() {
        // Shows that the suite of all devices holds for memory.
        let disk = MemoryDisk::new(conformance::BYTES, conformance::BYTES_MAX);
        conformance::check(&disk.open(&Queue::new(16)), &mut || {}, true);
    }

    #[test]
    fn handles_share_one_storage() {
        // Shows that what one core's handle wrote another's reads, across the border of two pieces.
        let disk = MemoryDisk::new(4 << 20, 4 << 20);
        let bytes: Vec<u8> = (0..8192).map(|i| i as u8).collect();
        disk.write(PIECE_BYTES as u64 - 4096, &bytes);
        let mut read = vec![0xff; 3 * 4096];
        disk.clone().read(PIECE_BYTES as u64 - 8192, &mut read);
        assert_eq!(&read[..4096], [0; 4096]);
        assert_eq!(&read[4096..], bytes);
    }
}
