//! Files and block devices through the ring of a core.
//!
//! [`OpenFile`] is the file, opened once and shared by all cores; [`FileDevice`] is one core's handle on its own ring.
//!
//! Reads and writes bypass the page cache (`O_DIRECT`), so that the device works on leases and nothing else. A file
//! system that refuses it (tmpfs before Linux 6.6, some network and overlay ones) is used through the page cache; that
//! is said in the log, and in [`DeviceGeometry::direct`].

mod open;

pub use open::{OpenError, OpenFile, StoreLock, sync_directory};

use super::{BlockDevice, DeviceGeometry, Durability, bounds};
use crossdock_transport::{
    memory::{BufferLease, ScatterList, TargetList},
    operation::{Memory, OsError, Pending, Queue, Slot},
    ring::{Ring, RingFile},
};
use rustix::io::Errno;
use std::io;

/// One core's handle of a file or block device.
pub struct FileDevice {
    file: OpenFile,
    ring: Ring,
    ring_file: RingFile,
}

impl OpenFile {
    /// A core's handle, on its ring.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn on(&self, ring: &Ring) -> io::Result<FileDevice> {
        let ring_file = ring.file(self.duplicate()?);
        Ok(FileDevice { file: self.clone(), ring: ring.clone(), ring_file })
    }
}

impl FileDevice {
    /// Completes without asking the ring.
    fn complete(&self, slot: Slot, memory: Memory, result: Result<u32, OsError>) -> Pending {
        let queue = self.ring.queue();
        let (id, pending) = queue.post(slot, memory);
        queue.complete(id, result);
        pending
    }
}

impl BlockDevice for FileDevice {
    fn geometry(&self) -> DeviceGeometry {
        self.file.geometry()
    }

    fn queue(&self) -> &Queue {
        self.ring.queue()
    }

    fn read(&self, slot: Slot, offset: u64, lease: BufferLease, at: usize, bytes: usize) -> Pending {
        assert!(at + bytes <= lease.capacity(), "the read fits in the lease");
        match bounds::check_read(offset, bytes, self.file.bytes_for(offset.saturating_add(bytes as u64))) {
            Ok(0) => self.complete(slot, Memory::Lease(lease), Ok(0)),
            Ok(count) => self.ring.read(slot, &self.ring_file, offset, lease, at, count),
            Err(error) => self.complete(slot, Memory::Lease(lease), Err(error)),
        }
    }

    fn fills_targets(&self) -> bool {
        true
    }

    fn read_targets(&self, slot: Slot, offset: u64, targets: TargetList) -> Pending {
        let bytes = targets.bytes();
        let end = self.file.bytes_for(offset.saturating_add(bytes as u64));
        match bounds::check_read(offset, bytes, end) {
            Ok(count) if count == bytes => self.ring.read_targets(slot, &self.ring_file, offset, targets),
            // The ring would read to the end only; nobody asks for more than there is.
            Ok(_) => self.complete(slot, Memory::Targets(targets), Err(Errno::INVAL.into())),
            Err(error) => self.complete(slot, Memory::Targets(targets), Err(error)),
        }
    }

    fn write(&self, slot: Slot, offset: u64, source: ScatterList, durability: Durability) -> Pending {
        let end = offset.saturating_add(source.bytes() as u64);
        // The kernel would make a file longer on its own; the layers above count on a length that only `grow` changes.
        match bounds::check_write(offset, source.bytes(), self.file.bytes_for(end)) {
            Ok(()) if source.bytes() == 0 => self.complete(slot, Memory::Scatter(source), Ok(0)),
            Ok(()) => self.ring.write(slot, &self.ring_file, offset, source, durability),
            Err(error) => self.complete(slot, Memory::Scatter(source), Err(error)),
        }
    }

    fn sync(&self, slot: Slot) -> Pending {
        self.ring.datasync(slot, &self.ring_file)
    }

    fn grow(&self, slot: Slot, bytes: u64) -> Pending {
        let from = self.file.bytes();
        if bytes <= from {
            return self.complete(slot, Memory::None, Ok(0));
        }
        let refused = if !self.file.is_growable() {
            Err(bounds::os_error(Errno::OPNOTSUPP))
        } else if self.file.allocates() {
            return self.ring.allocate(slot, &self.ring_file, from, bytes - from);
        } else {
            // No fallocate here: a longer file of holes. A write may find the file system full later on.
            self.file.truncate(bytes).map(|()| 0)
        };
        self.complete(slot, Memory::None, refused)
    }
}

#[cfg(test)]
mod tests;
