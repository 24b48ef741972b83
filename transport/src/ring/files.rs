//! Files known to one ring.
//!
//! The kernel keeps a table of fixed files for each io_uring; an operation on one of them saves taking and giving back a
//! reference to the file, which all cores would contend for. A file enters the table when it is handed to the ring and
//! leaves it when its last owner is gone. When the table is full, or there is none, the plain descriptor serves.

use super::Shared;
use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::{Rc, Weak},
};

/// Entries of the table: more than a core has segments open at once.
pub(super) const FIXED_FILES: u32 = 1024;

/// A file known to one ring (registered when the kernel allows). Closed when the last clone and the last operation are
/// gone. Not `Send`, cheap to clone.
#[derive(Clone)]
pub struct RingFile(Rc<Known>);

struct Known {
    fd: OwnedFd,
    /// Its place in the table of fixed files.
    index: Option<u32>,
    /// Weak: an operation in flight owns its file, and must not keep the ring that it is in.
    ring: Weak<Shared>,
}

impl RingFile {
    pub(super) fn new(fd: OwnedFd, index: Option<u32>, ring: Weak<Shared>) -> RingFile {
        RingFile(Rc::new(Known { fd, index, ring }))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    pub(super) fn index(&self) -> Option<u32> {
        self.0.index
    }

    /// Whether it is a file of this ring. A fixed index means nothing to another.
    pub(super) fn is_of(&self, ring: &Rc<Shared>) -> bool {
        std::ptr::eq(self.0.ring.as_ptr(), Rc::as_ptr(ring))
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let (Some(index), Some(ring)) = (self.index, self.ring.upgrade()) {
            ring.forget_file(index);
        }
    }
}

impl fmt::Debug for RingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingFile({:?})", self.0.fd)
    }
}
