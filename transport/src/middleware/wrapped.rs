//! A transport with a middleware in front.
//!
//! Invariants
//! * Operations of a session are forwarded in their order, and completed in it.
//! * Memory lies in the outer queue until it is forwarded, then in the inner one until that completes, then in the outer one for
//!   its own completion: there is always one owner, and never while a device may touch it is it ours.
//! * Nothing is borrowed while an operation completes.

use super::{Fate, Middleware, Observed};
use crate::{
    memory::{Arena, BufferLease, PeerLease, ScatterList},
    operation::{Completion, Memory, OperationId, Pending, Queue, Slot},
    remote::{
        Access, Answer, Capabilities, ConnectError, Endpoint, EndpointOptions, ForeignMemory, Offer,
        Principal, RemoteKey, RemoteMemory, RemoteSlice, SessionId, SessionLimits, TransferError, Transport,
        assert_postable, assert_sendable,
    },
};
use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    fmt,
    future::Future,
    io,
    os::fd::BorrowedFd,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Makes the middleware of a core.
type Make = Arc<dyn Fn(u16) -> Rc<dyn Middleware> + Send + Sync>;

/// A transport, and a middleware for each core that looks at its operations.
#[derive(Clone)]
pub struct Wrapped<T> {
    inner: T,
    make: Make,
}

impl<T: Transport> Wrapped<T> {
    /// Wraps `inner`. `make` is called by each [`open`](Transport::open), with its core and on its thread.
    pub fn new(inner: T, make: impl Fn(u16) -> Rc<dyn Middleware> + Send + Sync + 'static) -> Wrapped<T> {
        Wrapped { inner, make: Arc::new(make) }
    }

    /// What is wrapped.
    pub fn inner(&self) -> &T {
        &self.inner
    }
}

impl<T: Transport> Transport for Wrapped<T> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn register(&self, arena: &Arena) -> io::Result<()> {
        self.inner.register(arena)
    }

    fn register_foreign(&self, memory: ForeignMemory) -> io::Result<()> {
        self.inner.register_foreign(memory)
    }

    fn endpoint_bytes_max(&self, limits: &SessionLimits) -> u64 {
        // Each operation has a place here, too.
        self.inner.endpoint_bytes_max(limits).saturating_add(limits.bytes_max(0))
    }

    fn open(&self, options: EndpointOptions) -> io::Result<Rc<dyn Endpoint>> {
        let middleware = (self.make)(options.core);
        let inner = self.inner.open(options)?;
        let capabilities = self.inner.capabilities();
        Ok(Rc::new(WrappedEndpoint {
            inner: Some(inner),
            capabilities,
            middleware,
            sessions: RefCell::default(),
        }))
    }
}

impl<T: fmt::Debug> fmt::Debug for Wrapped<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Wrapped").field(&self.inner).finish()
    }
}

struct WrappedEndpoint {
    /// Taken by the drop only, which ends it first.
    inner: Option<Rc<dyn Endpoint>>,
    capabilities: Capabilities,
    middleware: Rc<dyn Middleware>,
    sessions: RefCell<Sessions>,
}

#[derive(Default)]
struct Sessions {
    connected: HashMap<SessionId, Rc<Session>>,
    /// Disconnected, with operations in flight or with somebody who may post more.
    draining: Vec<Rc<Session>>,
}

struct Session {
    id: SessionId,
    inner: Rc<dyn RemoteMemory>,
    credits: Queue,
    capabilities: Capabilities,
    middleware: Rc<dyn Middleware>,
    /// In flight, oldest first.
    line: RefCell<VecDeque<Operation>>,
}

struct Operation {
    id: OperationId,
    observed: Observed,
    remote: RemoteSlice,
    kind: Kind,
    state: State,
    told: Told,
}

/// What becomes of the memory of an operation; a lease is read into.
#[derive(Clone, Copy)]
enum Kind {
    Move,
    Notify(u32),
    Send,
}

enum State {
    Held(u32),
    Forwarded(Pending),
    /// The inner session is done with it, and its memory is back in the outer queue.
    Done(Result<u32, TransferError>),
    Failed(TransferError),
}

/// When whoever waits is told that it is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// After so many polls.
    After(u32),
    /// When the session has ended.
    WithTheEnd,
}

impl WrappedEndpoint {
    fn inner(&self) -> &dyn Endpoint {
        self.inner.as_deref().expect("there until the drop")
    }

    fn all(&self) -> Vec<Rc<Session>> {
        let sessions = self.sessions.borrow();
        sessions.connected.values().chain(&sessions.draining).map(Rc::clone).collect()
    }

    /// The session in front of that one. Made here if there is none: some transports make sessions by themselves.
    fn wrap(&self, id: SessionId, inner: Rc<dyn RemoteMemory>) -> Rc<Session> {
        let mut sessions = self.sessions.borrow_mut();
        let made = || Session::new(id, inner, self.capabilities, Rc::clone(&self.middleware));
        Rc::clone(sessions.connected.entry(id).or_insert_with(made))
    }

    fn poll_by(&self, poll: impl FnOnce(&dyn Endpoint) -> usize) -> usize {
        self.all().iter().for_each(|session| session.count_down());
        let completed = self.advance_all();
        poll(self.inner());
        completed + self.advance_all()
    }

    fn advance_all(&self) -> usize {
        let completed = self.all().iter().map(|session| session.advance()).sum();
        self.let_go_of_ended();
        completed
    }

    /// Sessions end by themselves, too: idle, or with their client.
    fn let_go_of_ended(&self) {
        // Whoever has a session may still post on it, and only its polls end what is posted.
        let keeps =
            |session: &Rc<Session>| Rc::strong_count(session) > 1 || !session.line.borrow().is_empty();
        let mut sessions = self.sessions.borrow_mut();
        sessions.draining.retain(keeps);
        sessions.connected.retain(|_, session| session.inner.is_open() || keeps(session));
    }
}

impl Endpoint for WrappedEndpoint {
    fn connect(&self, principal: &Principal, offer: Offer) -> Result<Answer, ConnectError> {
        let answer = self.inner().connect(principal, offer)?;
        let inner = self.inner().session(answer.session, principal).expect("it was just made");
        self.wrap(answer.session, inner);
        Ok(answer)
    }

    fn session(&self, id: SessionId, principal: &Principal) -> Option<Rc<dyn RemoteMemory>> {
        let inner = self.inner().session(id, principal)?;
        Some(self.wrap(id, inner))
    }

    fn disconnect(&self, id: SessionId, principal: &Principal) -> bool {
        let ended = self.inner().disconnect(id, principal);
        if ended {
            let mut sessions = self.sessions.borrow_mut();
            let session = sessions.connected.remove(&id);
            sessions.draining.extend(session);
        }
        ended
    }

    fn expire_idle(&self, now: Duration) -> usize {
        let ended = self.inner().expire_idle(now);
        self.let_go_of_ended();
        ended
    }

    fn rails(&self) -> Vec<String> {
        self.inner().rails()
    }

    fn usable_rails(&self) -> Vec<bool> {
        self.inner().usable_rails()
    }

    fn session_count(&self) -> usize {
        self.inner().session_count()
    }

    fn limits(&self) -> SessionLimits {
        self.inner().limits()
    }

    fn poll(&self) -> usize {
        self.poll_by(|endpoint| endpoint.poll())
    }

    fn poll_quiet(&self) -> usize {
        self.poll_by(|endpoint| endpoint.poll_quiet())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner().descriptor()
    }

    fn begin_wait(&self) -> bool {
        // What is held counts polls.
        let completed = self.advance_all();
        completed == 0 && self.all().iter().all(|session| session.is_forwarded()) && self.inner().begin_wait()
    }
}

impl Drop for WrappedEndpoint {
    fn drop(&mut self) {
        // Completes what was forwarded; the rest completes when it is.
        self.inner = None;
        for session in self.all() {
            while session.advance() > 0 {}
        }
    }
}

impl Session {
    fn new(
        id: SessionId,
        inner: Rc<dyn RemoteMemory>,
        capabilities: Capabilities,
        middleware: Rc<dyn Middleware>,
    ) -> Rc<Session> {
        let credits = Queue::new(inner.credits().depth());
        let line = RefCell::default();
        let session = Rc::new(Session { id, inner, credits, capabilities, middleware, line });
        let weak = Rc::downgrade(&session);
        session.credits.on_cancel(Rc::new(move |id| {
            let Some(session) = weak.upgrade() else { return };
            let mut line = session.line.borrow_mut();
            let Some(operation) = line.iter_mut().find(|operation| operation.id == id) else { return };
            match &operation.state {
                State::Held(_) => operation.state = State::Failed(TransferError::Cancelled),
                // Its end is found by a poll, as ever.
                State::Forwarded(pending) => pending.cancel(),
                State::Done(_) | State::Failed(_) => {}
            }
        }));
        session
    }

    fn post(&self, slot: Slot, access: Access, remote: RemoteSlice, memory: Memory, kind: Kind) -> Pending {
        let observed = Observed { session: self.id, access, bytes: remote.bytes() };
        let (state, told) = match self.middleware.before(&observed) {
            Fate::Pass => (State::Held(0), Told::After(0)),
            Fate::Delay(polls) => (State::Held(polls), Told::After(0)),
            Fate::Fail(error) => (State::Failed(error), Told::After(0)),
            Fate::Late(polls) => (State::Held(0), Told::After(polls)),
            Fate::Lost => (State::Held(0), Told::WithTheEnd),
        };
        let (id, pending) = self.credits.post(slot, memory);
        self.line.borrow_mut().push_back(Operation { id, observed, remote, kind, state, told });
        self.forward();
        if !self.inner.is_open() {
            // Perhaps no poll gets here any more.
            self.advance();
        }
        pending
    }

    /// Whoever is first of those held has waited one poll more, and so has whoever is done and not told.
    fn count_down(&self) {
        let mut line = self.line.borrow_mut();
        if let Some(Operation { state: State::Done(_), told: Told::After(polls), .. }) = line.front_mut() {
            *polls = polls.saturating_sub(1);
        }
        let first = line.iter_mut().find_map(|operation| match &mut operation.state {
            State::Held(polls) => Some(polls),
            State::Forwarded(_) | State::Done(_) | State::Failed(_) => None,
        });
        if let Some(polls) = first {
            *polls = polls.saturating_sub(1);
        }
    }

    /// Whether nothing here counts polls: what is not told before the end needs none.
    fn is_forwarded(&self) -> bool {
        self.line.borrow().iter().all(|operation| match operation.state {
            State::Forwarded(_) => true,
            State::Done(_) => operation.told == Told::WithTheEnd,
            State::Held(_) | State::Failed(_) => false,
        })
    }

    /// Gives the inner session what is due, in order. A session that ended makes nobody wait.
    fn forward(&self) {
        let open = self.inner.is_open();
        let mut line = self.line.borrow_mut();
        for operation in line.iter_mut() {
            match operation.state {
                State::Held(polls) if polls > 0 && open => return,
                State::Held(_) => {
                    let Some(slot) = self.inner.credits().try_slot() else { return };
                    let take = |memory: &mut Memory| std::mem::replace(memory, Memory::None);
                    let pending = match self.credits.with_memory(operation.id, take) {
                        Memory::Lease(target) => self.inner.read(slot, operation.remote, target),
                        Memory::Scatter(source) => match operation.kind {
                            Kind::Move => self.inner.write(slot, source, operation.remote),
                            Kind::Send => self.inner.send(slot, source),
                            Kind::Notify(notice) => {
                                self.inner.write_notify(slot, source, operation.remote, notice)
                            }
                        },
                        Memory::None | Memory::Targets(_) => {
                            unreachable!("every operation here moves payload")
                        }
                    };
                    operation.state = State::Forwarded(pending);
                }
                State::Forwarded(_) | State::Done(_) | State::Failed(_) => {}
            }
        }
    }

    /// Completes those at the head that are done.
    fn advance(&self) -> usize {
        self.forward();
        let mut completed = 0;
        while let Some((operation, result)) = self.take_done() {
            self.middleware.after(&operation.observed, result);
            self.credits.complete(operation.id, result.map_err(Into::into));
            completed += 1;
        }
        completed
    }

    fn take_done(&self) -> Option<(Operation, Result<u32, TransferError>)> {
        let mut line = self.line.borrow_mut();
        let head = line.front_mut()?;
        if let State::Forwarded(pending) = &mut head.state {
            // Whoever waits is woken by the outer completion; this is looked at in polls.
            let mut context = Context::from_waker(Waker::noop());
            let Poll::Ready(Completion { result, memory }) = Pin::new(pending).poll(&mut context) else {
                return None;
            };
            self.credits.with_memory(head.id, |home| *home = memory);
            head.state = State::Done(result.map_err(TransferError::from));
        }
        let is_open = self.inner.is_open();
        let result = match (&head.state, head.told) {
            (State::Held(_) | State::Forwarded(_), _) => return None,
            (State::Failed(error), _) => Err(*error),
            (State::Done(_), Told::After(1..) | Told::WithTheEnd) if is_open => return None,
            (State::Done(_), Told::WithTheEnd) => Err(TransferError::Ended),
            (State::Done(result), Told::After(_)) => *result,
        };
        line.pop_front().map(|operation| (operation, result))
    }
}

impl RemoteMemory for Session {
    fn credits(&self) -> &Queue {
        &self.credits
    }

    fn read(&self, slot: Slot, source: RemoteSlice, target: BufferLease) -> Pending {
        let room = target.capacity() - target.len();
        assert_postable(&self.capabilities, source.bytes(), room as u64, 1);
        self.post(slot, Access::Read, source, Memory::Lease(target), Kind::Move)
    }

    fn write(&self, slot: Slot, source: ScatterList, target: RemoteSlice) -> Pending {
        let bytes = source.bytes() as u64;
        assert_postable(&self.capabilities, bytes, target.bytes(), source.pieces().len());
        let target = target.slice(0..bytes).expect("asserted to fit");
        self.post(slot, Access::Write, target, Memory::Scatter(source), Kind::Move)
    }

    fn notifies(&self) -> bool {
        self.inner.notifies()
    }

    fn write_notify(&self, slot: Slot, source: ScatterList, target: RemoteSlice, notice: u32) -> Pending {
        let bytes = source.bytes() as u64;
        assert_postable(&self.capabilities, bytes, target.bytes(), source.pieces().len());
        let target = target.slice(0..bytes).expect("asserted to fit");
        self.post(slot, Access::Write, target, Memory::Scatter(source), Kind::Notify(notice))
    }

    fn inbox(&self) -> Option<&Queue> {
        self.inner.inbox()
    }

    fn send(&self, slot: Slot, message: ScatterList) -> Pending {
        assert_sendable(&self.capabilities, &message);
        let nowhere =
            RemoteSlice::new(0, message.bytes() as u64, RemoteKey(0)).expect("a lease ends somewhere");
        self.post(slot, Access::Write, nowhere, Memory::Scatter(message), Kind::Send)
    }

    fn receive(&self, slot: Slot, target: BufferLease) -> Pending {
        // Its slots are the inner session's: what comes is not looked at.
        self.inner.receive(slot, target)
    }

    fn peer_lease(&self, target: &RemoteSlice) -> Result<PeerLease, TransferError> {
        self.inner.peer_lease(target)
    }

    fn rail(&self) -> Option<Rc<str>> {
        self.inner.rail()
    }

    fn begin_request(&self, slice: &RemoteSlice, access: Access) -> Result<(), TransferError> {
        self.inner.begin_request(slice, access)
    }

    fn end_request(&self, slice: &RemoteSlice) -> bool {
        self.inner.end_request(slice)
    }

    fn flush(&self) {
        self.forward();
        self.inner.flush();
    }

    fn is_open(&self) -> bool {
        self.inner.is_open()
    }
}
