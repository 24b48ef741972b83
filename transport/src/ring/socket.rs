//! A socket known to one ring.

use rustix::{fd::OwnedFd, net::SocketFlags};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd},
};

/// A socket. Closed when its last owner is gone; an operation in flight is one of them.
///
/// Sockets are not in the table of fixed files: entering and leaving it costs a system call each, more than a short
/// connection's lookups.
pub(crate) struct Socket {
    fd: OwnedFd,
    /// Connections accepted and not yet fetched. Here and not in the operation, so that an accept nobody waits for any
    /// more leaves its connection to the next.
    accepted: RefCell<VecDeque<OwnedFd>>,
    /// Whether zero-copy sends are worth trying: false once the kernel refused one or said that it copied anyway.
    zero_copy: Cell<bool>,
    /// Whether it is in the portable driver's epoll set.
    polled: Cell<bool>,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Socket {
        Socket { fd, accepted: RefCell::default(), zero_copy: Cell::new(true), polled: Cell::new(false) }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(super) fn push_accepted(&self, fd: OwnedFd) {
        self.accepted.borrow_mut().push_back(fd);
    }

    pub(crate) fn take_accepted(&self) -> Option<OwnedFd> {
        self.accepted.borrow_mut().pop_front()
    }

    pub(super) fn zero_copy(&self) -> bool {
        self.zero_copy.get()
    }

    pub(super) fn is_polled(&self) -> bool {
        self.polled.get()
    }

    pub(super) fn set_polled(&self) {
        self.polled.set(true);
    }

    pub(super) fn stop_zero_copy(&self) {
        self.zero_copy.set(false);
    }
}

/// Flags of a new socket. io_uring waits for a blocking one by itself and gives EAGAIN at once for one that is not; epoll
/// needs the opposite.
pub(super) fn socket_flags(blocking: bool) -> SocketFlags {
    if blocking { SocketFlags::CLOEXEC } else { SocketFlags::CLOEXEC | SocketFlags::NONBLOCK }
}
