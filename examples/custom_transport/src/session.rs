//! One session: a stream, and the operations on their way through it.
//!
//! Invariants
//! * An operation is in the line exactly as long as it is in flight in the queue.
//! * Requests are sent in the order of the line, and answers belong to the first of it that was sent.
//! * Neither line nor socket is borrowed while an operation completes: that wakes somebody, who may come back here.

use crate::{
    CAPABILITIES,
    frame::{REQUEST_BYTES, Request, Status},
};
use crossdock_transport::{
    memory::{BufferLease, ScatterList},
    operation::{Memory, OperationId, Pending, Queue, Slot},
    remote::{Access, RemoteMemory, RemoteSlice, TransferError, assert_postable},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::IoSlice,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::{Rc, Weak},
};

/// Pieces of one system call.
const PIECES_MAX: usize = 64;

pub(crate) struct Session {
    credits: Queue,
    /// None once the session ended.
    socket: RefCell<Option<OwnedFd>>,
    /// In flight, oldest first.
    line: RefCell<VecDeque<Operation>>,
    /// Of the answer that comes in.
    answer: Cell<Answer>,
    used: Cell<bool>,
}

struct Operation {
    id: OperationId,
    request: Request,
    /// Of its request, and of its bytes if it is a write.
    sent: usize,
    cancelled: bool,
}

#[derive(Clone, Copy, Default)]
struct Answer {
    status: Option<Status>,
    /// Bytes of a read that have come.
    received: usize,
}

impl Operation {
    /// Bytes that go out for it.
    fn outbound(&self) -> usize {
        let payload =
            if self.request.access == Access::Write { self.request.slice.bytes() as usize } else { 0 };
        REQUEST_BYTES + payload
    }

    /// Once a part of a request was sent, all of it must be, or the stream is out of step.
    fn is_dropped(&self) -> bool {
        self.cancelled && self.sent == 0
    }
}

impl Session {
    pub(crate) fn new(socket: OwnedFd, credits: usize) -> Rc<Session> {
        let session = Rc::new(Session {
            credits: Queue::new(credits),
            socket: RefCell::new(Some(socket)),
            line: RefCell::default(),
            answer: Cell::default(),
            used: Cell::new(true),
        });
        let weak: Weak<Session> = Rc::downgrade(&session);
        session.credits.on_cancel(Rc::new(move |id| {
            let Some(session) = weak.upgrade() else { return };
            let mut line = session.line.borrow_mut();
            if let Some(operation) = line.iter_mut().find(|operation| operation.id == id) {
                operation.cancelled = true;
            }
        }));
        session
    }

    pub(crate) fn with_socket(&self, look: impl FnOnce(BorrowedFd<'_>)) {
        if let Some(socket) = &*self.socket.borrow() {
            look(socket.as_fd());
        }
    }

    /// Hangs up. What is in flight completes in the next [`run`](Session::run).
    pub(crate) fn end(&self) {
        let socket = self.socket.borrow_mut().take();
        drop(socket);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.line.borrow().is_empty()
    }

    pub(crate) fn take_used(&self) -> bool {
        self.used.replace(false) || self.credits.in_flight() > 0
    }

    /// Sends and receives what can be, and completes what is done. Returns how many operations that were.
    pub(crate) fn run(&self) -> usize {
        if self.send().is_err() {
            self.end();
        }
        // What those who are woken post is for the next time, or one session would have the core for itself.
        let count = self.line.borrow().len();
        let mut completed = 0;
        while completed < count {
            let result = match self.receive() {
                Ok(None) => break,
                Ok(Some(result)) => result,
                Err(_) => {
                    self.end();
                    Err(TransferError::Ended)
                }
            };
            let operation = self.line.borrow_mut().pop_front();
            let Some(operation) = operation else { break };
            self.answer.take();
            self.credits.complete(operation.id, result.map_err(Into::into));
            completed += 1;
        }
        completed
    }

    /// Sends requests, as far as the stream takes them.
    fn send(&self) -> Result<(), Errno> {
        let socket = self.socket.borrow();
        let Some(socket) = &*socket else { return Ok(()) };
        let mut line = self.line.borrow_mut();
        for operation in line.iter_mut().filter(|operation| !operation.is_dropped()) {
            while operation.sent < operation.outbound() {
                let request = operation.request.to_bytes();
                let sent = self.credits.with_memory(operation.id, |memory| {
                    let pieces = unsent(&request, memory, operation.sent);
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    sendmsg(socket, &pieces, &mut SendAncillaryBuffer::default(), flags)
                });
                match sent {
                    Ok(bytes) => operation.sent += bytes,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// How the first operation went, once it is known. An error is the end of the session.
    fn receive(&self) -> Result<Option<Result<u32, TransferError>>, Errno> {
        let socket = self.socket.borrow();
        let line = self.line.borrow();
        let Some(operation) = line.front() else { return Ok(None) };
        if operation.is_dropped() {
            return Ok(Some(Err(TransferError::Cancelled)));
        }
        let Some(socket) = &*socket else { return Err(Errno::NOTCONN) };
        if operation.sent < operation.outbound() {
            return Ok(None);
        }
        let mut answer = self.answer.get();
        if answer.status.is_none() {
            let mut byte = [0];
            if receive_some(socket, &mut byte)?.is_none() {
                return Ok(None);
            }
            answer.status = Some(Status::parse(byte[0]).ok_or(Errno::PROTO)?);
            self.answer.set(answer);
        }
        // At most `operation_bytes_max`, asserted at the post.
        let bytes = operation.request.slice.bytes() as usize;
        match (answer.status, operation.request.access) {
            (Some(Status::Refused), _) => return Ok(Some(Err(TransferError::Refused))),
            (_, Access::Write) => return Ok(Some(Ok(bytes as u32))),
            (_, Access::Read) => {}
        }
        while answer.received < bytes {
            let received = self.credits.with_memory(operation.id, |memory| {
                let Memory::Lease(target) = memory else { unreachable!("reads are posted with a lease") };
                let start = target.len();
                let rest = &mut target.full_mut()[start + answer.received..start + bytes];
                receive_some(socket, rest)
            })?;
            let Some(received) = received else { return Ok(None) };
            answer.received += received;
            self.answer.set(answer);
        }
        self.credits.with_memory(operation.id, |memory| {
            if let Memory::Lease(target) = memory {
                target.set_len(target.len() + bytes);
            }
        });
        Ok(Some(Ok(bytes as u32)))
    }

    fn post(&self, slot: Slot, access: Access, slice: RemoteSlice, memory: Memory) -> Pending {
        self.used.set(true);
        let (id, pending) = self.credits.post(slot, memory);
        let ended = !self.is_open();
        if ended && self.line.borrow().is_empty() {
            // Perhaps no poll gets here any more.
            self.credits.complete(id, Err(TransferError::Ended.into()));
        } else {
            let operation = Operation { id, request: Request { access, slice }, sent: 0, cancelled: false };
            self.line.borrow_mut().push_back(operation);
        }
        pending
    }
}

/// What is left of a request and its payload after the first `sent` bytes, as far as one call takes it.
fn unsent<'a>(request: &'a [u8], memory: &'a Memory, sent: usize) -> Vec<IoSlice<'a>> {
    let payload = match memory {
        Memory::Scatter(source) => source.pieces(),
        _ => &[],
    };
    let mut skip = sent;
    let all = std::iter::once(request).chain(payload.iter().map(|piece| &piece[..]));
    let rest = all.filter_map(|piece| {
        let skipped = skip.min(piece.len());
        skip -= skipped;
        piece.get(skipped..).filter(|rest| !rest.is_empty()).map(IoSlice::new)
    });
    rest.take(PIECES_MAX).collect()
}

/// None if there is nothing yet.
fn receive_some(socket: &OwnedFd, target: &mut [u8]) -> Result<Option<usize>, Errno> {
    loop {
        match recv(socket, &mut *target, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(Errno::NOTCONN),
            Ok((bytes, _)) => return Ok(Some(bytes)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

impl RemoteMemory for Session {
    fn credits(&self) -> &Queue {
        &self.credits
    }

    fn read(&self, slot: Slot, source: RemoteSlice, target: BufferLease) -> Pending {
        let room = target.capacity() - target.len();
        assert_postable(&CAPABILITIES, source.bytes(), room as u64, 1);
        self.post(slot, Access::Read, source, Memory::Lease(target))
    }

    fn write(&self, slot: Slot, source: ScatterList, target: RemoteSlice) -> Pending {
        let bytes = source.bytes() as u64;
        assert_postable(&CAPABILITIES, bytes, target.bytes(), source.pieces().len());
        let target = target.slice(0..bytes).expect("asserted to fit");
        self.post(slot, Access::Write, target, Memory::Scatter(source))
    }

    fn flush(&self) {
        // Errors are found again by the next poll, which may complete operations.
        let _ = self.send();
    }

    fn is_open(&self) -> bool {
        self.socket.borrow().is_some()
    }
}
