//! A core's endpoint: the connections of its clients, and their sessions.
//!
//! ```text
//!   accepted ──► Greeting ── hello, memory file ──► Waiting ── connect(principal, offer) ──► Bound
//!                    │                                 │                                  ▲    │
//!                    │                                 │                                  │    └─ not used ──► Parked
//!                    │                                 │                                  └─── its principal ─────┘│
//!                    └──── End, a line that is none, too old ──► closed, session ended ◄─── disconnect, too many ──┘
//! ```
//!
//! Invariants
//! * A session lives no longer than its connection: a client that dies takes its session with it.
//! * Connections that are not bound are bounded, in all and for each user. A user who has too many loses the oldest of its own.
//! * A session that is not used for long ends, and its memory is parked under another name, to be bound when it is wanted. With
//!   those that are bound they are no more than there may be sessions, in all and of each principal: the oldest give way to whoever is bound, and
//!   to whoever has no room for its memory.
//! * A client that does not keep to the lines, or waits for more answers than it has windows, is hung up on.
//! * To a client whose socket is full nothing is said until there is room; what it waits for is kept in its windows.
//! * Nothing here waits, and nothing that a client had a hand in is closed here: see `closing`.

use super::{
    Admission, Shared,
    closing::ClientDescriptor,
    handover::{self, HandoverError},
    line::{ClientLine, LINE_BYTES_MAX, ServerLine},
    session::Session,
    socket::{self, PeerCredentials, Received},
    windows::{Charge, Region, Windows},
};
use crate::remote::{
    Answer, ConnectError, Endpoint, EndpointOptions, Entropy, Offer, Principal, RemoteKey, RemoteMemory,
    RemoteSlice, SessionId, SessionLimits, SessionTable,
};
use rustix::event::{Timespec, epoll};
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

/// The listener among the events; connections have their places.
const LISTENER: u64 = u64::MAX;

/// Lines of one connection in one turn, so that a client which talks without end keeps the core from nobody.
const TURN_LINES: usize = 64;

/// What connections are watched for.
const WATCHED: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::RDHUP);

/// Connections accepted in one turn.
const TURN_ACCEPTS: usize = 16;

pub(super) struct ShmEndpoint(Rc<Inner>);

pub(super) struct Inner {
    own: Weak<Inner>,
    shared: Arc<Shared>,
    core: u16,
    entropy: RefCell<Entropy>,
    open: Cell<bool>,
    epoll: OwnedFd,
    /// Whether the listener is not listened to, because clients could not be accepted. Each poll tries again.
    deaf: Cell<bool>,
    /// Those that are not bound are numbered by age.
    accepted: Cell<u64>,
    connections: RefCell<Slab<Connection>>,
    sessions: RefCell<SessionTable<Rc<Session>>>,
    /// Sessions with something in their line.
    due: RefCell<VecDeque<Rc<Session>>>,
    /// Connections whose client waits to be told of a withdrawal.
    withdrawing: RefCell<Vec<usize>>,
}

struct Connection {
    socket: Rc<ClientDescriptor>,
    user: u32,
    number: u64,
    /// When it was first seen by whoever looks for those that wait for too long.
    seen: Option<Duration>,
    /// Its socket had no room for what is to be said, and is watched for it.
    full: Cell<bool>,
    stage: Stage,
}

enum Stage {
    /// No hello yet. What becomes of it then.
    Greeting(Option<Principal>),
    Waiting(Rc<Session>),
    Bound(Rc<Session>, Principal),
    /// It has the memory of a session that was the principal's and was not used for long. It is nobody's until the principal binds it.
    Parked(Rc<Session>, Principal),
}

impl Stage {
    /// Whether it is nobody's, and never was anybody's.
    fn is_new(&self) -> bool {
        matches!(self, Stage::Greeting(_) | Stage::Waiting(_))
    }

    fn session(&self) -> Option<&Rc<Session>> {
        match self {
            Stage::Greeting(_) => None,
            Stage::Waiting(session) | Stage::Bound(session, _) | Stage::Parked(session, _) => Some(session),
        }
    }
}

impl ShmEndpoint {
    pub(super) fn new(shared: Arc<Shared>, options: EndpointOptions) -> io::Result<ShmEndpoint> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let inner = Rc::new_cyclic(|own: &Weak<Inner>| Inner {
            own: Weak::clone(own),
            shared,
            core: options.core,
            entropy: RefCell::new(options.entropy),
            open: Cell::new(true),
            epoll,
            deaf: Cell::new(true),
            accepted: Cell::new(0),
            connections: RefCell::default(),
            sessions: RefCell::new(SessionTable::new(options.limits)),
            due: RefCell::default(),
            withdrawing: RefCell::default(),
        });
        inner.listen()?;
        Ok(ShmEndpoint(inner))
    }
}

impl Inner {
    pub(super) fn is_open(&self) -> bool {
        self.open.get()
    }

    pub(super) fn run_later(&self, session: Rc<Session>) {
        self.due.borrow_mut().push_back(session);
    }

    fn listen(&self) -> io::Result<()> {
        let Some(listener) = self.shared.listener() else { return Ok(()) };
        if self.deaf.get() {
            // Of several cores that wait, one is woken (<https://man7.org/linux/man-pages/man2/epoll_ctl.2.html>).
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            epoll::add(&self.epoll, listener, epoll::EventData::new_u64(LISTENER), flags)?;
            self.deaf.set(false);
        }
        Ok(())
    }

    /// Hears whatever clients have to say.
    fn hear_all(&self) {
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = match epoll::wait(&self.epoll, &mut events, Some(&now)) {
            Ok(count) => count,
            Err(error) => {
                if error != rustix::io::Errno::INTR {
                    tracing::error!(%error, "shared memory: events could not be had");
                }
                return;
            }
        };
        let mut clients_wait = false;
        for event in events.iter().take(count) {
            let place = event.data.u64();
            clients_wait |= place == LISTENER;
            if let Ok(place) = usize::try_from(place)
                && place != LISTENER as usize
            {
                let flags = event.flags;
                if flags.contains(epoll::EventFlags::OUT) && !self.has_room(place) {
                    self.close(place);
                }
                self.hear_connection(place);
            }
        }
        // Last, so that nobody new is at a place for which there was an event.
        if clients_wait {
            self.accept();
        }
    }

    /// Hears all that was said at that place until now, if it is that session's: as much as the client's socket holds at most, which
    /// is some hundred lines.
    pub(super) fn hear(&self, place: usize, id: SessionId) {
        let of_session =
            |connection: &&Connection| connection.stage.session().is_some_and(|session| session.id() == id);
        let said = {
            let connections = self.connections.borrow();
            connections.get(place).filter(of_session).map(|connection| socket::unread(&connection.socket))
        };
        match said {
            // What is said from now on may be without end, and is not before the request.
            Some(Ok(mut bytes)) => {
                while bytes > 0 {
                    let Some(heard) = self.hear_line(place) else { return };
                    bytes = bytes.saturating_sub(heard as u64);
                }
            }
            Some(Err(_)) => self.close(place),
            None => {}
        }
    }

    fn hear_connection(&self, place: usize) {
        for _ in 0..TURN_LINES {
            if self.hear_line(place).is_none() {
                return;
            }
        }
    }

    /// Hears one line, and says of how many bytes it was. None if there is no line, or no connection any more.
    fn hear_line(&self, place: usize) -> Option<usize> {
        let mut line = [0; LINE_BYTES_MAX];
        let socket = self.connections.borrow().get(place).map(|connection| Rc::clone(&connection.socket))?;
        let heard = match socket::receive(socket.as_fd(), &mut line, |descriptor| {
            self.shared.closer.guard(descriptor)
        }) {
            Ok(Received::Nothing) => return None,
            Ok(Received::Packet { bytes, descriptor }) => {
                let said = line.get(..bytes).and_then(ClientLine::parse);
                said.filter(|said| self.answer(place, *said, descriptor)).map(|_| bytes)
            }
            Ok(Received::End | Received::Malformed) | Err(_) => None,
        };
        if heard.is_none() {
            self.close(place);
        }
        heard
    }

    /// Does what the client says. False if that ends the connection.
    fn answer(&self, place: usize, said: ClientLine, descriptor: Option<ClientDescriptor>) -> bool {
        let greeting =
            match self.connections.borrow_mut().get_mut(place).map(|connection| &mut connection.stage) {
                Some(Stage::Greeting(principal)) => Some(principal.take()),
                _ => None,
            };
        match (greeting, said, descriptor) {
            (Some(principal), ClientLine::Hello { bytes }, Some(file)) => {
                match self.greet(place, &file, bytes, principal) {
                    Ok(()) => {
                        // A memory file, which is closed at once.
                        drop(file.into_trusted());
                        true
                    }
                    Err(error) => {
                        tracing::debug!(%error, "shared memory: a client was refused");
                        self.say(place, ServerLine::Refused(&reason(&error)));
                        false
                    }
                }
            }
            (None, ClientLine::Expose { slice, offset, access }, None) => {
                self.with_windows(place, |windows| windows.expose(slice, offset, access)).flatten().is_some()
            }
            (None, ClientLine::Withdraw { address }, None) => {
                let known = self.with_windows(place, |windows| windows.withdraw(address)).flatten();
                known.is_some() && self.tell_withdrawn(place)
            }
            (None, ClientLine::Abandon { number }, None) => {
                let taken = self.with_windows(place, |windows| windows.abandon(number)).flatten();
                taken.is_some() && self.tell_withdrawn(place)
            }
            _ => false,
        }
    }

    /// Takes the memory of a client.
    fn greet(
        &self,
        place: usize,
        file: &ClientDescriptor,
        bytes: u64,
        principal: Option<Principal>,
    ) -> Result<(), ConnectError> {
        let limits = &self.shared.options;
        if let Some(principal) = &principal {
            self.sessions.borrow().admit(principal)?;
        }
        // What can never be taken is no matter of how many others there are.
        if bytes > limits.session_bytes_max.min(limits.mapped_bytes_max) {
            return Err(refusal(HandoverError::TooLarge));
        }
        let charge = self.charge(bytes).ok_or(ConnectError::TooMany)?;
        let mapping = handover::take(file.as_fd(), bytes, limits.session_bytes_max).map_err(refusal)?;
        let small_pages = !limits.lend_small_pages && !handover::has_huge_pages(file.as_fd());
        let windows = Windows::new(Region { mapping, small_pages, _charge: charge });
        let id = self.name_session();
        let credits = self.sessions.borrow().limits().credits;
        let session = Session::new(id, place, Weak::clone(&self.own), credits, windows);
        if let Some(connection) = self.connections.borrow_mut().get_mut(place) {
            connection.stage = Stage::Waiting(session);
        }
        if let Some(principal) = principal {
            self.bind(place, &principal);
        }
        if self.say(place, ServerLine::Session(id)) {
            Ok(())
        } else {
            Err(ConnectError::Malformed("it hung up"))
        }
    }

    fn name_session(&self) -> SessionId {
        let mut entropy = [0; 14];
        (self.entropy.borrow_mut())(&mut entropy);
        SessionId::new(self.core, entropy)
    }

    /// Makes the session that waits at `place`, or is parked there, the principal's, which was admitted. What is parked gives way to it.
    fn bind(&self, place: usize, principal: &Principal) {
        self.bind_only(place, principal);
        let SessionLimits { sessions_max, principal_sessions_max, .. } = self.limits();
        let is_own = |owner: &Principal| owner == principal;
        let count = |own| self.sessions.borrow().count_of(principal) + self.parked(own).len();
        while count(is_own) > principal_sessions_max && self.close_oldest_parked(is_own) {}
        let count = || self.sessions.borrow().len() + self.parked(|_| true).len();
        while count() > sessions_max && self.close_oldest_parked(|_| true) {}
    }

    fn bind_only(&self, place: usize, principal: &Principal) {
        let mut connections = self.connections.borrow_mut();
        let Some(connection) = connections.get_mut(place) else { return };
        if let Stage::Waiting(session) | Stage::Parked(session, _) = &connection.stage {
            let session = Rc::clone(session);
            self.sessions.borrow_mut().insert(session.id(), principal, Rc::clone(&session));
            connection.stage = Stage::Bound(session, principal.clone());
        }
    }

    /// A charge for so many bytes; sessions that are parked here make room for it.
    fn charge(&self, bytes: u64) -> Option<Charge> {
        let max = self.shared.options.mapped_bytes_max;
        loop {
            match Charge::new(&self.shared.mapped_bytes, bytes, max) {
                None if bytes <= max && self.close_oldest_parked(|_| true) => {}
                charge => return charge,
            }
        }
    }

    /// Parks a session that was not used for long: to whoever knows its name it has ended. Its memory, and what is exposed of it, is from here on
    /// another session's, whose name the client is told: a name never comes again, or what was asked under it could be asked twice.
    fn park(&self, id: SessionId, principal: &Principal) -> bool {
        let Some(place) = self.place_of(id) else { return false };
        if self.sessions.borrow_mut().remove(id, principal).is_none() {
            return false;
        }
        let (name, credits) = (self.name_session(), self.limits().credits);
        {
            let mut connections = self.connections.borrow_mut();
            let Some(connection) = connections.get_mut(place) else { return false };
            let Some(session) = connection.stage.session() else { return false };
            let Some(windows) = session.take_windows() else { return false };
            let parked = Session::new(name, place, Weak::clone(&self.own), credits, windows);
            connection.stage = Stage::Parked(parked, principal.clone());
            // Of those that are parked the age counts since then.
            connection.number = self.accepted.get();
            self.accepted.set(connection.number + 1);
        }
        if !self.say(place, ServerLine::Session(name)) {
            self.close(place);
        }
        true
    }

    /// Age and place of each connection whose session is parked and was of one of these.
    fn parked(&self, of: impl Fn(&Principal) -> bool) -> Vec<(u64, usize)> {
        let connections = self.connections.borrow();
        let parked = connections.iter().filter(
            |(_, connection)| matches!(&connection.stage, Stage::Parked(_, principal) if of(principal)),
        );
        parked.map(|(place, connection)| (connection.number, place)).collect()
    }

    /// False if there is none.
    fn close_oldest_parked(&self, of: impl Fn(&Principal) -> bool) -> bool {
        let oldest = self.parked(of).into_iter().min();
        oldest.inspect(|(_, place)| self.close(*place)).is_some()
    }

    fn limits(&self) -> SessionLimits {
        *self.sessions.borrow().limits()
    }

    fn with_windows<R>(&self, place: usize, look: impl FnOnce(&mut Windows) -> R) -> Option<R> {
        let connections = self.connections.borrow();
        connections.get(place)?.stage.session()?.with_windows(look)
    }

    /// Tells the client of each withdrawal that is complete; of the others in a later poll, and of those for which its socket has
    /// no room when it has. False if it is gone.
    fn tell_withdrawn(&self, place: usize) -> bool {
        let connections = self.connections.borrow();
        // Somebody else may have the place by now, who said nothing yet.
        let Some(connection) = connections.get(place) else { return true };
        let Some(session) = connection.stage.session() else { return true };
        let tell = |slice: &RemoteSlice| {
            let line = match slice.key() {
                RemoteKey(0) => ServerLine::Withdrawn { address: slice.address() },
                RemoteKey(number) => ServerLine::Abandoned { number },
            };
            socket::send_line(&*connection.socket, &line.to_string(), None)
        };
        let told = session.with_windows(|windows| {
            let told = if connection.full.get() { Ok(()) } else { windows.tell_released(tell) };
            (told, windows.is_withdrawing())
        });
        let Some((told, more)) = told else { return true };
        let goes_on = match told {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.watch(place, connection, true).is_ok()
            }
            told => told.is_ok(),
        };
        let mut withdrawing = self.withdrawing.borrow_mut();
        if more && !withdrawing.contains(&place) {
            withdrawing.push(place);
        }
        goes_on
    }

    /// What of a connection that is watched already makes the endpoint's descriptor readable: also that there is room in its
    /// socket, if that is full.
    fn watch(&self, place: usize, connection: &Connection, full: bool) -> io::Result<()> {
        let more = if full { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let data = epoll::EventData::new_u64(place as u64);
        epoll::modify(&self.epoll, &*connection.socket, data, WATCHED | more)?;
        connection.full.set(full);
        Ok(())
    }

    /// There is room in the socket of the connection again, so what waits for it is told in this poll. False if it can not be
    /// watched.
    fn has_room(&self, place: usize) -> bool {
        let connections = self.connections.borrow();
        connections.get(place).is_none_or(|connection| self.watch(place, connection, false).is_ok())
    }

    /// False if the client does not listen.
    fn say(&self, place: usize, line: ServerLine<'_>) -> bool {
        let socket = self.connections.borrow().get(place).map(|connection| Rc::clone(&connection.socket));
        socket.is_some_and(|socket| socket::send_line(&*socket, &line.to_string(), None).is_ok())
    }

    fn accept(&self) {
        let Some(listener) = self.shared.listener() else { return };
        for _ in 0..TURN_ACCEPTS {
            if self.shared.closer.is_full() {
                return self.stop_listening(
                    listener,
                    &io::Error::other("too much of former clients is being closed"),
                );
            }
            match socket::accept(listener) {
                Ok(Some(socket)) => self.welcome(self.shared.closer.guard(socket)),
                Ok(None) => break,
                Err(error) => return self.stop_listening(listener, &error),
            }
        }
        if let Err(error) = self.listen() {
            tracing::debug!(%error, "shared memory: clients are accepted with polls only");
        }
    }

    /// No descriptors left, most likely. The listener stays readable, and would keep the core awake for nothing; it is listened to
    /// again once a poll has accepted whoever waits, or when a connection is closed. A core that sleeps polls at the latest when it looks
    /// for idle sessions.
    fn stop_listening(&self, listener: BorrowedFd<'_>, error: &io::Error) {
        if self.deaf.get() {
            return;
        }
        tracing::warn!(%error, "shared memory: a client could not be accepted");
        match epoll::delete(&self.epoll, listener) {
            Ok(()) => self.deaf.set(true),
            Err(error) => tracing::error!(%error, "shared memory: the listener keeps the core awake"),
        }
    }

    fn welcome(&self, socket: ClientDescriptor) {
        let credentials = match PeerCredentials::of(&socket) {
            Ok(credentials) => credentials,
            Err(error) => {
                tracing::warn!(%error, "shared memory: the kernel does not say who a client is");
                return;
            }
        };
        let refused = |why| {
            // It may not be listening, which is its own affair.
            let _ = socket::send_line(&socket, &ServerLine::Refused(why).to_string(), None);
            socket::hang_up(&socket);
        };
        let principal = match (self.shared.options.admit)(&credentials) {
            Admission::Refuse => return refused("not for this user"),
            Admission::Bind(principal) => Some(principal),
            Admission::Wait => None,
        };
        let limits = &self.shared.options;
        let waiting = self.unbound();
        let own: Vec<_> = waiting.iter().filter(|(_, user, _)| *user == credentials.user).collect();
        let has_own_place = own.len() >= limits.user_handovers_max;
        if !has_own_place && waiting.len() >= limits.handovers_max {
            return refused("too many clients");
        }
        if has_own_place {
            let Some((_, _, place)) = own.iter().min_by_key(|(number, ..)| *number) else {
                return refused("too many clients");
            };
            self.close(*place);
        }
        if let Err(error) = self.enter(socket, credentials.user, principal) {
            tracing::warn!(%error, "shared memory: a client could not be watched");
        }
    }

    /// Age, user and place of each connection that was not bound yet.
    fn unbound(&self) -> Vec<(u64, u32, usize)> {
        let connections = self.connections.borrow();
        let unbound = connections.iter().filter(|(_, connection)| connection.stage.is_new());
        unbound.map(|(place, connection)| (connection.number, connection.user, place)).collect()
    }

    fn enter(&self, socket: ClientDescriptor, user: u32, principal: Option<Principal>) -> io::Result<usize> {
        let socket = Rc::new(socket);
        let number = self.accepted.get();
        self.accepted.set(number + 1);
        let stage = Stage::Greeting(principal);
        let connection = Connection {
            socket: Rc::clone(&socket),
            user,
            number,
            seen: None,
            full: Cell::new(false),
            stage,
        };
        let place = self.connections.borrow_mut().insert(connection);
        let data = epoll::EventData::new_u64(place as u64);
        if let Err(error) = epoll::add(&self.epoll, &*socket, data, WATCHED) {
            self.close(place);
            return Err(error.into());
        }
        Ok(place)
    }

    /// Hangs up: the session ends, and what it has in flight completes in the next poll.
    fn close(&self, place: usize) {
        let Some(connection) = self.connections.borrow_mut().try_remove(place) else { return };
        if let Stage::Bound(session, principal) = &connection.stage {
            self.sessions.borrow_mut().remove(session.id(), principal);
        }
        if let Some(windows) = connection.stage.session().and_then(|session| session.take_windows()) {
            self.shared.closer.unmap(windows.into_memory());
        }
        // The set of events would keep a socket that somebody has a copy of.
        if let Err(error) = epoll::delete(&self.epoll, &*connection.socket) {
            tracing::debug!(%error, "shared memory: a client was not watched");
        }
        socket::hang_up(&*connection.socket);
        drop(connection);
        if let Err(error) = self.listen() {
            tracing::warn!(%error, "shared memory: clients can not be accepted");
        }
    }

    fn place_of(&self, id: SessionId) -> Option<usize> {
        let connections = self.connections.borrow();
        let of_session =
            |connection: &Connection| connection.stage.session().is_some_and(|session| session.id() == id);
        connections.iter().find(|(_, connection)| of_session(connection)).map(|(place, _)| place)
    }

    /// Connections that have not been bound for as long as a session may be idle.
    fn overdue(&self, now: Duration) -> Vec<usize> {
        let idle_max = self.sessions.borrow().limits().idle_max;
        let mut connections = self.connections.borrow_mut();
        let waiting = connections.iter_mut().filter(|(_, connection)| connection.stage.is_new());
        let overdue = waiting.filter_map(|(place, connection)| {
            let since = *connection.seen.get_or_insert(now);
            (now.saturating_sub(since) >= idle_max).then_some(place)
        });
        overdue.collect()
    }

    /// Runs the sessions that are due now.
    fn run_due(&self) -> usize {
        let due = mem::take(&mut *self.due.borrow_mut());
        due.iter().map(|session| session.run()).sum()
    }

    fn tell_all_withdrawn(&self) {
        let withdrawing = mem::take(&mut *self.withdrawing.borrow_mut());
        for place in withdrawing {
            if !self.tell_withdrawn(place) {
                self.close(place);
            }
        }
    }

    /// A session for a client whose connection somebody else accepted.
    fn connect_directly(
        &self,
        socket: ClientDescriptor,
        principal: &Principal,
    ) -> Result<SessionId, ConnectError> {
        if !socket::is_seqpacket(&socket) {
            return Err(ConnectError::Malformed("the descriptor is no packet socket"));
        }
        let credentials = PeerCredentials::of(&socket)?;
        let mut line = [0; LINE_BYTES_MAX];
        let Received::Packet { bytes, descriptor: Some(file) } =
            socket::receive(socket.as_fd(), &mut line, |descriptor| self.shared.closer.guard(descriptor))?
        else {
            return Err(ConnectError::Malformed("no memory was sent"));
        };
        let Some(ClientLine::Hello { bytes }) = line.get(..bytes).and_then(ClientLine::parse) else {
            return Err(ConnectError::Malformed("no hello was sent"));
        };
        let place = self.enter(socket, credentials.user, None)?;
        let greeted = self.greet(place, &file, bytes, Some(principal.clone()));
        if let Err(error) = &greeted {
            self.say(place, ServerLine::Refused(&reason(error)));
            self.close(place);
        }
        greeted?;
        let connections = self.connections.borrow();
        let session = connections.get(place).and_then(|connection| connection.stage.session());
        session.map(|session| session.id()).ok_or(ConnectError::Malformed("it hung up"))
    }

    /// The session that waits under that name becomes the principal's, as does one that is parked for it. It may be
    /// already: who asks twice, because a reply was lost or two requests found the session parked, is told the same.
    fn connect_waiting(&self, token: &str, principal: &Principal) -> Result<SessionId, ConnectError> {
        let named = || {
            let Some(ServerLine::Session(id)) = ServerLine::parse(format!("session {token}").as_bytes())
            else {
                return None;
            };
            let place = self.place_of(id)?;
            let connections = self.connections.borrow();
            let is_bound = match &connections.get(place)?.stage {
                Stage::Waiting(_) => false,
                Stage::Parked(_, owner) if owner == principal => false,
                Stage::Bound(_, owner) if owner == principal => true,
                _ => return None,
            };
            Some((place, id, is_bound))
        };
        // One answer for names that are none, unknown, and somebody else's already.
        let (place, id, is_bound) =
            named().ok_or(ConnectError::Malformed("no client waits under that name"))?;
        if !is_bound {
            self.sessions.borrow().admit(principal)?;
            self.bind(place, principal);
        }
        Ok(id)
    }
}

/// What a client is told, which is no more than it needs to know.
fn reason(error: &ConnectError) -> String {
    match error {
        ConnectError::Malformed(why) | ConnectError::Unsupported(why) => (*why).to_owned(),
        ConnectError::TooMany => "too many clients".to_owned(),
        ConnectError::Device(_) => "the memory could not be mapped".to_owned(),
    }
}

fn refusal(error: HandoverError) -> ConnectError {
    match error {
        HandoverError::NoMemoryFile => ConnectError::Malformed("no memory file that can be sealed"),
        HandoverError::WrongSize => ConnectError::Malformed("not the size that was stated"),
        HandoverError::Holes => ConnectError::Malformed("the memory has holes"),
        HandoverError::TooLarge => ConnectError::Unsupported("more memory than this server takes"),
        HandoverError::Kernel(error) => ConnectError::Device(error),
    }
}

impl Endpoint for ShmEndpoint {
    fn connect(&self, principal: &Principal, offer: Offer) -> Result<Answer, ConnectError> {
        let session = match offer.descriptor {
            Some(socket) => {
                self.0.sessions.borrow().admit(principal)?;
                self.0.connect_directly(self.0.shared.closer.guard(socket), principal)?
            }
            None => self.0.connect_waiting(&offer.token, principal)?,
        };
        Ok(Answer { session, token: String::new(), parameters: Vec::new() })
    }

    fn session(&self, id: SessionId, principal: &Principal) -> Option<Rc<dyn RemoteMemory>> {
        let session = Rc::clone(self.0.sessions.borrow().find(id, principal)?);
        Some(session)
    }

    fn disconnect(&self, id: SessionId, principal: &Principal) -> bool {
        let Some(place) = self.0.place_of(id) else { return false };
        let (is_bound, is_own) = match self.0.connections.borrow().get(place).map(|found| &found.stage) {
            Some(Stage::Bound(_, owner)) => (true, owner == principal),
            Some(Stage::Parked(_, owner)) => (false, owner == principal),
            _ => (false, false),
        };
        if is_own {
            self.0.close(place);
        }
        is_bound && is_own
    }

    fn expire_idle(&self, now: Duration) -> usize {
        let expired = self.0.sessions.borrow_mut().expired(now, |session| session.take_used());
        let ended = expired.iter().filter(|(id, principal)| self.0.park(*id, principal)).count();
        for place in self.0.overdue(now) {
            self.0.close(place);
        }
        ended
    }

    fn session_count(&self) -> usize {
        self.0.sessions.borrow().len()
    }

    fn limits(&self) -> SessionLimits {
        self.0.limits()
    }

    fn poll(&self) -> usize {
        self.0.hear_all();
        self.poll_quiet()
    }

    fn poll_quiet(&self) -> usize {
        if self.0.deaf.get() {
            // The listener is not among what the descriptor tells of.
            self.0.accept();
        }
        let completed = self.0.run_due();
        self.0.tell_all_withdrawn();
        completed
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.epoll.as_fd())
    }

    fn begin_wait(&self) -> bool {
        let connections = self.0.connections.borrow();
        let tellable = |place: &usize| {
            let connection = connections.get(*place).filter(|connection| !connection.full.get());
            let session = connection.and_then(|connection| connection.stage.session());
            session
                .and_then(|session| session.with_windows(|windows| windows.has_released()))
                .unwrap_or(false)
        };
        // Everything else makes the descriptor readable, and keeps it so until a poll has dealt with it.
        self.0.due.borrow().is_empty() && !self.0.withdrawing.borrow().iter().any(tellable)
    }
}

impl Drop for ShmEndpoint {
    fn drop(&mut self) {
        self.0.open.set(false);
        let places: Vec<_> = self.0.connections.borrow().iter().map(|(place, _)| place).collect();
        for place in places {
            self.0.close(place);
        }
        // Those who are woken may post once more, which completes at once when the session ended.
        while self.0.run_due() > 0 {}
    }
}
