//! One operation in flight: what is asked, how far it has come, and what a result of the kernel means for it.
//!
//! Both drivers keep their operations as [`Request`]s, so that they give the same answers: short reads and writes are
//! continued, interruptions repeated, the end of a file and errors answered.
//!
//! ```text
//!   post ─► submit ─► result ─► progress ─┬─► Again: submit the rest ─► result ─► …
//!                                         ├─► Wait:  not ready yet (sockets of the portable driver)
//!                                         └─► Done:  answer the queue
//! ```

use super::{Durability, RingFile, socket::Socket};
use crate::{
    memory::{FrozenLease, ScatterList},
    operation::{Memory, OperationId, OsError, Queue},
};
use rustix::net::SocketAddrAny;
use std::{os::fd::BorrowedFd, rc::Rc};

/// Most pieces of one vectored system call (`UIO_MAXIOV`, <https://man7.org/linux/man-pages/man2/readv.2.html>).
pub(super) const PIECES_MAX: usize = 1024;

/// What is asked of the kernel.
pub(super) enum Action {
    /// Into the lease, from its byte `at`.
    Read {
        file: RingFile,
        offset: u64,
        at: usize,
    },
    /// Into the places.
    ReadTargets {
        file: RingFile,
        offset: u64,
    },
    /// From the scatter list.
    Write {
        file: RingFile,
        offset: u64,
        durability: Durability,
    },
    Datasync {
        file: RingFile,
    },
    /// Mode 0: bytes that exist stay as they are, the size grows.
    Allocate {
        file: RingFile,
        offset: u64,
        bytes: u64,
    },
    /// The connection goes to the listener's backlog, so that an abandoned accept loses none.
    Accept {
        listener: Rc<Socket>,
    },
    Connect {
        socket: Rc<Socket>,
        address: Box<SocketAddrAny>,
    },
    /// Into the lease, from its byte `at`; done with the first bytes that come.
    Receive {
        socket: Rc<Socket>,
        at: usize,
    },
    /// All of it. The pieces are kept here and not with the queue, because a zero-copy send is answered before the
    /// network has let go of them.
    Send {
        socket: Rc<Socket>,
        source: ScatterList,
    },
}

/// An operation in flight in a driver.
pub(super) struct Request {
    pub(super) queue: Queue,
    pub(super) id: OperationId,
    pub(super) action: Action,
    /// Bytes asked for.
    pub(super) total: usize,
    /// Bytes of them that the kernel has answered for.
    pub(super) done: usize,
    /// Nobody waits any more, or the ring closes: no part of it is submitted again.
    pub(super) cancelled: bool,
    /// The pieces of the last submission. They stay in place until its completion.
    pub(super) pieces: Vec<libc::iovec>,
    /// The same for a vectored send. Boxed because the kernel is given its address.
    pub(super) message: Option<Box<libc::msghdr>>,
}

/// What a result means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Submit what is left.
    Again,
    /// The descriptor is not ready (EAGAIN).
    Wait,
    /// Answer the queue.
    Done(Result<u32, OsError>),
}

impl Request {
    pub(super) fn new(queue: Queue, id: OperationId, action: Action, total: usize) -> Request {
        Request { queue, id, action, total, done: 0, cancelled: false, pieces: Vec::new(), message: None }
    }

    /// The descriptor it works on.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.action {
            Action::Read { file, .. }
            | Action::ReadTargets { file, .. }
            | Action::Write { file, .. }
            | Action::Datasync { file }
            | Action::Allocate { file, .. } => file.fd(),
            Action::Accept { listener: socket }
            | Action::Connect { socket, .. }
            | Action::Receive { socket, .. }
            | Action::Send { socket, .. } => socket.fd(),
        }
    }

    /// The socket it works on, if it is one.
    pub(super) fn socket(&self) -> Option<&Rc<Socket>> {
        match &self.action {
            Action::Accept { listener: socket }
            | Action::Connect { socket, .. }
            | Action::Receive { socket, .. }
            | Action::Send { socket, .. } => Some(socket),
            _ => None,
        }
    }

    /// Whether it works on a file.
    pub(super) fn is_on_file(&self) -> bool {
        self.socket().is_none()
    }

    /// Fills `pieces` with what is left to transfer, as far as one system call can take it.
    pub(super) fn gather(&mut self) {
        let Request { queue, id, action, total, done, pieces, message, .. } = self;
        pieces.clear();
        match action {
            Action::Read { at, .. } | Action::Receive { at, .. } => queue.with_memory(*id, |memory| {
                let Memory::Lease(lease) = memory else { unreachable!("reads are posted with a lease") };
                assert!(*at + *total <= lease.capacity(), "checked at the post");
                let start = lease.as_mut_ptr().wrapping_add(*at + *done);
                pieces.push(libc::iovec { iov_base: start.cast(), iov_len: *total - *done });
            }),
            Action::ReadTargets { .. } => queue.with_memory(*id, |memory| {
                let Memory::Targets(targets) = memory else { unreachable!("posted with places") };
                gather(targets.addresses(), *done, pieces);
            }),
            Action::Write { .. } => queue.with_memory(*id, |memory| {
                let Memory::Scatter(source) = memory else { unreachable!("writes are posted with pieces") };
                gather(source.pieces().iter().map(address), *done, pieces);
            }),
            Action::Send { source, .. } => {
                gather(source.pieces().iter().map(address), *done, pieces);
                let message = message.get_or_insert_with(empty_message);
                message.msg_iov = pieces.as_mut_ptr();
                message.msg_iovlen = pieces.len() as _;
            }
            _ => {}
        }
    }

    /// Takes the kernel's `result` (a count, or a negative errno).
    pub(super) fn progress(&mut self, result: i32) -> Step {
        let Ok(count) = usize::try_from(result) else { return self.fail(result.saturating_neg()) };
        match &self.action {
            Action::Read { .. } | Action::ReadTargets { .. } | Action::Write { .. } => {
                self.done += count;
                assert!(self.done <= self.total, "the kernel moved more than was asked");
                // Zero is the end of the file; for a write it is a device that takes no more, which the count tells.
                if count == 0 || self.done == self.total { Step::Done(self.count()) } else { self.again() }
            }
            Action::Send { .. } => {
                self.done += count;
                assert!(self.done <= self.total, "the kernel sent more than was asked");
                match (self.done == self.total, count) {
                    (true, _) => Step::Done(self.count()),
                    (false, 0) => Step::Done(Err(OsError(libc::EPIPE))),
                    (false, _) => self.again(),
                }
            }
            Action::Receive { .. } => {
                assert!(count <= self.total, "the kernel received more than was asked");
                self.done = count;
                Step::Done(self.count())
            }
            Action::Datasync { .. }
            | Action::Allocate { .. }
            | Action::Accept { .. }
            | Action::Connect { .. } => Step::Done(Ok(0)),
        }
    }

    fn fail(&mut self, errno: i32) -> Step {
        match (errno, &self.action) {
            (libc::EINTR | libc::EAGAIN, _) if self.cancelled => Step::Done(Err(OsError(libc::ECANCELED))),
            // The connection goes on while the call is interrupted; asking again tells how it ended.
            (libc::EINTR, _) => Step::Again,
            (libc::EAGAIN, _) => Step::Wait,
            (libc::EISCONN, Action::Connect { .. }) => Step::Done(Ok(0)),
            // With O_DIRECT the rest after an unaligned short count (the end of the file) can not be asked for. What
            // was moved is the answer.
            (libc::EINVAL, Action::Read { .. } | Action::ReadTargets { .. } | Action::Write { .. })
                if self.done > 0 =>
            {
                Step::Done(self.count())
            }
            _ => Step::Done(Err(OsError(errno))),
        }
    }

    fn again(&self) -> Step {
        if self.cancelled { Step::Done(Err(OsError(libc::ECANCELED))) } else { Step::Again }
    }

    fn count(&self) -> Result<u32, OsError> {
        Ok(u32::try_from(self.done).expect("checked at the post"))
    }
}

/// An operation's place in its queue: small, and its own while it is in flight.
pub(super) fn queue_index(id: OperationId) -> usize {
    (id.0 & u64::from(u32::MAX)) as usize
}

#[allow(unsafe_code)]
fn empty_message() -> Box<libc::msghdr> {
    // SAFETY: all fields of a msghdr are integers and pointers, for which zeroes are valid; there is no other way to
    // make one, because some C libraries pad it with private fields.
    Box::new(unsafe { std::mem::zeroed() })
}

/// What is left of `source` after its first `skip` bytes, as far as one call takes it.
fn gather(source: impl Iterator<Item = (*mut u8, usize)>, mut skip: usize, pieces: &mut Vec<libc::iovec>) {
    for (start, bytes) in source {
        if skip >= bytes {
            skip -= bytes;
            continue;
        }
        if pieces.len() == PIECES_MAX {
            return;
        }
        pieces.push(libc::iovec { iov_base: start.wrapping_add(skip).cast(), iov_len: bytes - skip });
        skip = 0;
    }
}

/// Where a piece is. The kernel only reads there.
fn address(piece: &FrozenLease) -> (*mut u8, usize) {
    (piece.as_ptr().cast_mut(), piece.len())
}

#[cfg(all(test, not(loom)))]
#[path = "request_tests.rs"]
mod tests;
