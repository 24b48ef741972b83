//! One client's session: its windows, and the operations on them, which polls run by copying.
//!
//! Invariants
//! * An operation is in the line exactly as long as it is in flight in the queue.
//! * A session with a line is in its endpoint's list of those that are due, or is about to be run by it.
//! * Neither line nor windows are borrowed while an operation completes: that wakes somebody, who may come back here.
//! * A session that ended has no windows: the memory is unmapped as soon as no device is given a part of it.

use super::{CAPABILITIES, endpoint::Inner, windows::Windows};
use crate::{
    memory::{BufferLease, CopyReason, PeerLease, ScatterList, count_copied},
    operation::{Memory, OperationId, Pending, Queue, Slot},
    remote::{Access, RemoteKey, RemoteMemory, RemoteSlice, SessionId, TransferError, assert_postable},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
};

/// What is no longer is moved when it is posted, of a request that has its exposure with it. Longer operations wait for the core's turn, so that others have theirs.
const AT_ONCE_BYTES: u64 = 64 << 10;

/// A session copies at most so many bytes in one turn of the core's loop before the others have theirs, and one operation at
/// least: about a millisecond.
const TURN_BYTES: u64 = 8 << 20;

pub(super) struct Session {
    id: SessionId,
    /// The connection's place in the endpoint.
    connection: usize,
    endpoint: Weak<Inner>,
    /// Itself, for the endpoint's list.
    own: Weak<Session>,
    credits: Queue,
    /// None once the session ended.
    windows: RefCell<Option<Windows>>,
    /// In flight, oldest first.
    line: RefCell<VecDeque<Operation>>,
    /// Whether it is in the endpoint's list.
    due: Cell<bool>,
    /// Whether it was used since somebody last asked.
    used: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Operation {
    id: OperationId,
    remote: RemoteSlice,
    cancelled: bool,
}

impl Session {
    pub(super) fn new(
        id: SessionId,
        connection: usize,
        endpoint: Weak<Inner>,
        credits: usize,
        windows: Windows,
    ) -> Rc<Session> {
        let session = Rc::new_cyclic(|own: &Weak<Session>| Session {
            id,
            connection,
            endpoint,
            own: Weak::clone(own),
            credits: Queue::new(credits),
            windows: RefCell::new(Some(windows)),
            line: RefCell::default(),
            due: Cell::new(false),
            used: Cell::new(true),
        });
        let weak = Rc::downgrade(&session);
        session.credits.on_cancel(Rc::new(move |id| {
            let Some(session) = weak.upgrade() else { return };
            let mut line = session.line.borrow_mut();
            let abandoned = line.iter_mut().find(|operation| operation.id == id);
            if let Some(operation) = abandoned {
                operation.cancelled = true;
            }
        }));
        session
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// Looks at or changes the windows; none if the session ended.
    pub(super) fn with_windows<R>(&self, look: impl FnOnce(&mut Windows) -> R) -> Option<R> {
        self.windows.borrow_mut().as_mut().map(look)
    }

    /// Ends the session, if it had not: nothing new moves, and the memory goes on to whoever takes it.
    pub(super) fn take_windows(&self) -> Option<Windows> {
        self.windows.borrow_mut().take()
    }

    /// Whether it was used since the last time this was asked, or has something in flight.
    pub(super) fn take_used(&self) -> bool {
        self.used.replace(false) || self.credits.in_flight() > 0
    }

    /// Runs what is in the line now, up to [`TURN_BYTES`]. What those who are woken post is for the next time, or one session
    /// would have the core for itself. Returns how many operations it completed.
    pub(super) fn run(&self) -> usize {
        self.due.set(false);
        let waiting = self.line.borrow().len();
        let (mut completed, mut bytes) = (0, 0);
        while completed < waiting && bytes < TURN_BYTES {
            let Some(operation) = self.line.borrow_mut().pop_front() else { break };
            bytes += operation.remote.bytes();
            let result = self.transfer(operation);
            self.credits.complete(operation.id, result.map_err(Into::into));
            completed += 1;
        }
        if !self.line.borrow().is_empty() {
            self.become_due();
        }
        completed
    }

    fn transfer(&self, operation: Operation) -> Result<u32, TransferError> {
        let windows = self.windows.borrow();
        let windows = windows.as_ref().ok_or(TransferError::Ended)?;
        if operation.cancelled {
            return Err(TransferError::Cancelled);
        }
        let remote = &operation.remote;
        // Nothing of nothing is exposed to everybody.
        if remote.bytes() > 0 {
            self.credits.with_memory(operation.id, |memory| copy(windows, memory, remote))?;
            count_copied(remote.bytes() as usize, CopyReason::Foreign);
        }
        // At most `operation_bytes_max`, asserted at the post.
        Ok(remote.bytes() as u32)
    }

    fn post(&self, slot: Slot, remote: RemoteSlice, memory: Memory) -> Pending {
        self.used.set(true);
        let (id, pending) = self.credits.post(slot, memory);
        let operation = Operation { id, remote, cancelled: false };
        // A turn of the core's loop costs more than to move so few bytes, and nothing is ahead of them. Of other exposures the
        // client may have said something that is heard with that turn.
        let alone = remote.key() != RemoteKey(0) && self.line.borrow().is_empty();
        if alone && remote.bytes() <= AT_ONCE_BYTES {
            let result = self.transfer(operation);
            self.credits.complete(id, result.map_err(Into::into));
            return pending;
        }
        self.line.borrow_mut().push_back(operation);
        self.become_due();
        pending
    }

    /// Hears what the client said before it sent its request: that counts, and what it withdrew above all.
    fn hear(&self) {
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.hear(self.connection, self.id);
        }
    }

    /// Enters the list of those that the next poll runs. If no poll comes any more, what is in the line completes now.
    fn become_due(&self) {
        if self.due.replace(true) {
            return;
        }
        match (self.endpoint.upgrade(), self.own.upgrade()) {
            (Some(endpoint), Some(own)) if endpoint.is_open() => endpoint.run_later(own),
            _ => {
                drop(self.take_windows());
                self.run();
            }
        }
    }
}

/// Moves the bytes of one operation. The checks are made here, when it runs, and not when it was posted: what was withdrawn in
/// between is refused.
fn copy(windows: &Windows, memory: &mut Memory, remote: &RemoteSlice) -> Result<(), TransferError> {
    match memory {
        Memory::Lease(target) => {
            let (_, at) = windows.reach(remote, Access::Read)?;
            let start = target.len();
            let end = start + remote.bytes() as usize;
            // The one copy of a PUT: whoever checks the bytes, and the disk, use this lease, and no longer what the client may
            // still be changing.
            windows.memory().load(at, &mut target.full_mut()[start..end]);
            target.set_len(end);
        }
        Memory::Scatter(source) => {
            let (_, mut at) = windows.reach(remote, Access::Write)?;
            for piece in source.pieces() {
                windows.memory().store(at, piece);
                at += piece.len();
            }
        }
        Memory::None | Memory::Targets(_) => unreachable!("every operation here moves payload"),
    }
    Ok(())
}

impl RemoteMemory for Session {
    fn credits(&self) -> &Queue {
        &self.credits
    }

    fn read(&self, slot: Slot, source: RemoteSlice, target: BufferLease) -> Pending {
        let room = target.capacity() - target.len();
        assert_postable(&CAPABILITIES, source.bytes(), room as u64, 1);
        self.post(slot, source, Memory::Lease(target))
    }

    fn write(&self, slot: Slot, source: ScatterList, target: RemoteSlice) -> Pending {
        let bytes = source.bytes() as u64;
        assert_postable(&CAPABILITIES, bytes, target.bytes(), source.pieces().len());
        let target = target.slice(0..bytes).expect("asserted to fit");
        self.post(slot, target, Memory::Scatter(source))
    }

    fn peer_lease(&self, target: &RemoteSlice) -> Result<PeerLease, TransferError> {
        self.used.set(true);
        if target.key() == RemoteKey(0) {
            self.hear();
        }
        let windows = self.windows.borrow();
        let windows = windows.as_ref().ok_or(TransferError::Ended)?;
        windows.lease(target)
    }

    fn begin_request(&self, slice: &RemoteSlice, access: Access) -> Result<(), TransferError> {
        if slice.key() == RemoteKey(0) {
            self.hear();
            return if self.is_open() { Ok(()) } else { Err(TransferError::Ended) };
        }
        self.with_windows(|windows| windows.open_once(slice, access)).ok_or(TransferError::Ended)?
    }

    fn end_request(&self, slice: &RemoteSlice) -> bool {
        let RemoteKey(number) = slice.key();
        self.with_windows(|windows| windows.close(number)).unwrap_or(false)
    }

    fn flush(&self) {
        // There is no doorbell: polls look at the lines.
    }

    fn is_open(&self) -> bool {
        self.windows.borrow().is_some()
    }
}
