//! A core's endpoint, and its sessions.
//!
//! Invariants
//! * An operation is in its session's line exactly as long as it is in flight in the session's queue.
//! * A session with a line is known to its endpoint, in the table or among those that drain, so a poll gets to it.
//! * No line, table or list is borrowed while an operation completes: that wakes somebody, who may come back here.

use super::{CAPABILITIES, Loopback, LoopbackPeer};
use crate::{
    memory::{BufferLease, ScatterList},
    operation::{Memory, OperationId, Pending, Queue, Slot},
    remote::{
        Answer, ConnectError, Endpoint, EndpointOptions, Entropy, NOTIFY, NOTIFY_IMMEDIATE, Offer, Principal,
        RemoteMemory, RemoteSlice, SessionId, SessionLimits, SessionTable, TransferError, assert_postable,
        unsupported,
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    os::fd::BorrowedFd,
    rc::Rc,
    time::Duration,
};

pub(super) struct LoopbackEndpoint {
    transport: Loopback,
    core: u16,
    entropy: RefCell<Entropy>,
    sessions: RefCell<SessionTable<Rc<Session>>>,
    /// Disconnected with operations in flight.
    draining: RefCell<Vec<Rc<Session>>>,
}

struct Session {
    credits: Queue,
    peer: LoopbackPeer,
    notifies: bool,
    /// In flight, oldest first.
    line: RefCell<VecDeque<Operation>>,
    open: Cell<bool>,
    /// Whether something was posted since somebody last asked.
    used: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Operation {
    id: OperationId,
    remote: RemoteSlice,
    /// What the peer is told behind it.
    notice: Option<u32>,
    cancelled: bool,
}

impl LoopbackEndpoint {
    pub(super) fn new(transport: Loopback, options: EndpointOptions) -> LoopbackEndpoint {
        LoopbackEndpoint {
            transport,
            core: options.core,
            entropy: RefCell::new(options.entropy),
            sessions: RefCell::new(SessionTable::new(options.limits)),
            draining: RefCell::new(Vec::new()),
        }
    }

    /// Everything that may have a line.
    fn all(&self) -> Vec<Rc<Session>> {
        let mut all: Vec<_> = self.sessions.borrow().iter().map(Rc::clone).collect();
        all.extend(self.draining.borrow().iter().map(Rc::clone));
        all
    }
}

impl Endpoint for LoopbackEndpoint {
    fn connect(&self, principal: &Principal, offer: Offer) -> Result<Answer, ConnectError> {
        self.sessions.borrow().admit(principal)?;
        let peer = self.transport.accept(&offer)?;
        let mut entropy = [0; 14];
        (self.entropy.borrow_mut())(&mut entropy);
        let id = SessionId::new(self.core, entropy);
        let credits = self.sessions.borrow().limits().credits;
        let notifies = offer.asks_for_notices();
        if notifies {
            peer.set_notified();
        }
        self.sessions.borrow_mut().insert(id, principal, Session::new(peer, notifies, credits));
        let granted = notifies.then(|| (NOTIFY.to_owned(), NOTIFY_IMMEDIATE.to_owned()));
        Ok(Answer { session: id, token: String::new(), parameters: granted.into_iter().collect() })
    }

    fn session(&self, id: SessionId, principal: &Principal) -> Option<Rc<dyn RemoteMemory>> {
        let session = Rc::clone(self.sessions.borrow().find(id, principal)?);
        Some(session)
    }

    fn disconnect(&self, id: SessionId, principal: &Principal) -> bool {
        let Some(session) = self.sessions.borrow_mut().remove(id, principal) else { return false };
        session.open.set(false);
        if !session.line.borrow().is_empty() {
            self.draining.borrow_mut().push(session);
        }
        true
    }

    fn expire_idle(&self, now: Duration) -> usize {
        let expired = self.sessions.borrow_mut().expired(now, |session| session.take_used());
        expired.iter().filter(|(id, principal)| self.disconnect(*id, principal)).count()
    }

    fn session_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    fn limits(&self) -> SessionLimits {
        *self.sessions.borrow().limits()
    }

    fn poll(&self) -> usize {
        let completed = self.all().iter().map(|session| session.run()).sum();
        self.draining.borrow_mut().retain(|session| !session.line.borrow().is_empty());
        completed
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn begin_wait(&self) -> bool {
        self.all().iter().all(|session| session.line.borrow().is_empty())
    }
}

impl Drop for LoopbackEndpoint {
    fn drop(&mut self) {
        for session in self.all() {
            session.open.set(false);
            // Those who are woken may post once more, which completes at once when the line is empty.
            while session.run() > 0 {}
        }
    }
}

impl Session {
    fn new(peer: LoopbackPeer, notifies: bool, credits: usize) -> Rc<Session> {
        let session = Rc::new(Session {
            credits: Queue::new(credits),
            peer,
            notifies,
            line: RefCell::new(VecDeque::new()),
            open: Cell::new(true),
            used: Cell::new(true),
        });
        let weak = Rc::downgrade(&session);
        session.credits.on_cancel(Rc::new(move |id| {
            let Some(session) = weak.upgrade() else { return };
            let mut line = session.line.borrow_mut();
            line.iter_mut()
                .filter(|operation| operation.id == id)
                .for_each(|operation| operation.cancelled = true);
        }));
        session
    }

    fn take_used(&self) -> bool {
        self.used.replace(false) || self.credits.in_flight() > 0
    }

    /// Runs what is in the line now. What those who are woken post is for the next time, or one session would have the
    /// core for itself.
    fn run(&self) -> usize {
        let count = self.line.borrow().len();
        for _ in 0..count {
            let Some(operation) = self.line.borrow_mut().pop_front() else { break };
            let result = self.transfer(operation);
            if result == Err(TransferError::Ended) {
                self.open.set(false);
            }
            self.credits.complete(operation.id, result.map_err(Into::into));
        }
        count
    }

    fn transfer(&self, operation: Operation) -> Result<u32, TransferError> {
        if !self.open.get() {
            return Err(TransferError::Ended);
        }
        if operation.cancelled {
            return Err(TransferError::Cancelled);
        }
        let remote = &operation.remote;
        self.credits.with_memory(operation.id, |memory| match memory {
            Memory::Lease(target) => {
                let start = target.len();
                let end = start + remote.bytes() as usize;
                self.peer.read(remote, &mut target.full_mut()[start..end])?;
                target.set_len(end);
                Ok(())
            }
            Memory::Scatter(source) => {
                self.peer.write(source.pieces().iter().map(|piece| &piece[..]), remote)
            }
            Memory::None | Memory::Targets(_) => unreachable!("every operation here moves payload"),
        })?;
        operation.notice.map_or(Ok(()), |notice| self.peer.notify(notice))?;
        // At most `operation_bytes_max`, asserted at the post.
        Ok(remote.bytes() as u32)
    }

    fn post(&self, slot: Slot, remote: RemoteSlice, memory: Memory, notice: Option<u32>) -> Pending {
        self.used.set(true);
        let (id, pending) = self.credits.post(slot, memory);
        let ended = !self.open.get() || self.peer.is_gone();
        if ended && self.line.borrow().is_empty() {
            // Perhaps no poll gets here any more.
            self.open.set(false);
            self.credits.complete(id, Err(TransferError::Ended.into()));
        } else {
            self.line.borrow_mut().push_back(Operation { id, remote, notice, cancelled: false });
        }
        pending
    }

    fn post_write(
        &self,
        slot: Slot,
        source: ScatterList,
        target: RemoteSlice,
        notice: Option<u32>,
    ) -> Pending {
        let bytes = source.bytes() as u64;
        assert_postable(&CAPABILITIES, bytes, target.bytes(), source.pieces().len());
        let target = target.slice(0..bytes).expect("asserted to fit");
        self.post(slot, target, Memory::Scatter(source), notice)
    }
}

impl RemoteMemory for Session {
    fn credits(&self) -> &Queue {
        &self.credits
    }

    fn read(&self, slot: Slot, source: RemoteSlice, target: BufferLease) -> Pending {
        let room = target.capacity() - target.len();
        assert_postable(&CAPABILITIES, source.bytes(), room as u64, 1);
        self.post(slot, source, Memory::Lease(target), None)
    }

    fn write(&self, slot: Slot, source: ScatterList, target: RemoteSlice) -> Pending {
        self.post_write(slot, source, target, None)
    }

    fn notifies(&self) -> bool {
        self.notifies
    }

    fn write_notify(&self, slot: Slot, source: ScatterList, target: RemoteSlice, notice: u32) -> Pending {
        if !self.notifies {
            return unsupported(&self.credits, slot, Memory::Scatter(source));
        }
        self.post_write(slot, source, target, Some(notice))
    }

    fn flush(&self) {
        // There is no doorbell: polls look at the lines.
    }

    fn is_open(&self) -> bool {
        self.open.get() && !self.peer.is_gone()
    }
}
