//! A core's endpoint: its queues on every rail, and its sessions.
//!
//! Invariants
//! * A session is in `all` for as long as the device may say something about it, and at most one is at a place: work requests are
//!   named by the place.
//! * Neither `all` nor the desk is borrowed while an operation completes: that wakes somebody, who may come back here.

use super::{
    inbox::{INBOX_DEPTH, RECEIVE},
    mailbox::{Letter, Mailbox},
    path::{READS_MAX, Side, Tie, nearest},
    rail::Rail,
    session::{Desk, Session, Terms},
    verbs::{Completed, Completions, Path, QueuePair, QueuePairSize},
    watch::Watched,
};
use crate::remote::{
    Answer, Capabilities, ConnectError, Endpoint, EndpointOptions, Entropy, IN_FLIGHT, MESSAGE_PIECES_MAX,
    MESSAGES, MESSAGES_SEND, NOTIFY, NOTIFY_IMMEDIATE, Offer, Principal, RemoteMemory, SessionId,
    SessionLimits, SessionTable,
};
use rustix::event::{Timespec, epoll};
use slab::Slab;
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{HashMap, VecDeque},
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Work requests of one session that may be in the device.
const DEPTH_MAX: usize = 128;
/// What a driver keeps of a queue pair at most: its work requests, with [`PIECES_MAX`] pieces each, and receives.
pub(super) const PAIR_BYTES_MAX: u64 = 72 << 10;
/// What it keeps of a completion.
const COMPLETION_BYTES: u64 = 64;

/// What a rail's queue of completions takes at most, of an endpoint with those limits.
pub(super) fn completions_bytes_max(limits: &SessionLimits) -> u64 {
    let depth = limits.credits.saturating_mul(2).clamp(8, DEPTH_MAX);
    let entries = limits.sessions_max.saturating_mul(depth + 1 + INBOX_DEPTH);
    (entries as u64).saturating_mul(COMPLETION_BYTES)
}

/// Pieces of one work request; what a device has less of counts.
const PIECES_MAX: usize = 16;

/// Batches of completions that one poll takes from one rail before the others have theirs.
const TURN_BATCHES: usize = 16;

pub(super) struct RdmaEndpoint(Rc<Inner>);

pub(super) struct Inner {
    own: Weak<Inner>,
    rails: Arc<Watched>,
    mailbox: Arc<Mailbox>,
    capabilities: Capabilities,
    core: u16,
    entropy: RefCell<Entropy>,
    queues: Vec<Queues>,
    sessions: RefCell<SessionTable<Rc<Session>>>,
    /// Those the device may say something about. A place whose queue pair could not be emptied is used no more, and has nobody.
    all: RefCell<Slab<Option<Rc<Session>>>>,
    /// Sessions that have something to post or to complete.
    due: RefCell<VecDeque<Rc<Session>>>,
    desk: RefCell<Desk>,
    epoll: OwnedFd,
    open: Cell<bool>,
    /// Queue pairs that are being connected and are nobody's any more.
    renounced: Cell<usize>,
    /// How many queue pairs of each principal are being connected, also those that are nobody's any more; no entry is 0.
    connecting: RefCell<HashMap<Principal, usize>>,
    /// Whether somebody slept on the descriptor since the last poll.
    slept: Cell<bool>,
    /// Completions that were found when the core was about to sleep.
    early: RefCell<Vec<(usize, Completed)>>,
}

/// The queues of one rail.
struct Queues {
    name: Rc<str>,
    /// Made when the first session needs it: it has room for all there may be.
    completions: OnceCell<Completions>,
    pairs: Pairs,
    /// What of the device's events was noticed.
    events: Cell<u64>,
    /// Its completions can not be had any more: there are no sessions on it.
    failed: Cell<bool>,
}

/// How many queue pairs this core has on a rail, which the rail counts in.
struct Pairs {
    here: Cell<usize>,
    of_all: Arc<AtomicUsize>,
}

impl Pairs {
    fn add(&self) {
        self.here.set(self.here.get() + 1);
        self.of_all.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self) {
        self.here.set(self.here.get() - 1);
        self.of_all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.here.get(), Ordering::Relaxed);
    }
}

impl Queues {
    /// Where completions come from, if some may.
    fn completions(&self) -> Option<&Completions> {
        self.completions.get().filter(|_| !self.failed.get())
    }
}

impl RdmaEndpoint {
    pub(super) fn new(
        rails: Arc<Watched>,
        capabilities: Capabilities,
        options: EndpointOptions,
    ) -> io::Result<RdmaEndpoint> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mailbox = Arc::new(Mailbox::new()?);
        let bell = epoll::EventData::new_u64(u64::MAX);
        epoll::add(&epoll, mailbox.descriptor(), bell, epoll::EventFlags::IN)?;
        rails.tell(&mailbox);
        let queues = rails.rails.iter().map(|rail| Queues {
            name: rail.to_string().into(),
            completions: OnceCell::new(),
            pairs: Pairs { here: Cell::new(0), of_all: Arc::clone(rail.pairs()) },
            events: Cell::new(rail.device().events()),
            failed: Cell::new(false),
        });
        let queues = queues.collect();
        Ok(RdmaEndpoint(Rc::new_cyclic(|own: &Weak<Inner>| Inner {
            own: Weak::clone(own),
            rails,
            mailbox,
            capabilities,
            core: options.core,
            entropy: RefCell::new(options.entropy),
            queues,
            sessions: RefCell::new(SessionTable::new(options.limits)),
            all: RefCell::default(),
            due: RefCell::default(),
            desk: RefCell::default(),
            epoll,
            open: Cell::new(true),
            renounced: Cell::new(0),
            connecting: RefCell::default(),
            slept: Cell::new(true),
            early: RefCell::default(),
        })))
    }
}

impl Inner {
    pub(super) fn is_open(&self) -> bool {
        self.open.get()
    }

    pub(super) fn run_later(&self, session: Rc<Session>) {
        self.due.borrow_mut().push_back(session);
    }

    /// For posts, which wake nobody.
    pub(super) fn with_desk<R>(&self, post: impl FnOnce(&mut Desk) -> R) -> R {
        post(&mut self.desk.borrow_mut())
    }

    /// A queue pair of that rail is gone.
    pub(super) fn forget_pair(&self, rail: usize, number: u32) {
        self.queues[rail].pairs.remove();
        self.rails.rails[rail].device().take_failed(number);
    }

    /// A queue pair of that rail, in which nothing was posted, is nobody's when it comes back.
    pub(super) fn renounce_pair(&self, rail: usize) {
        self.queues[rail].pairs.remove();
        self.renounced.set(self.renounced.get() + 1);
    }

    fn depth(&self, rail: &Rail) -> usize {
        let credits = self.sessions.borrow().limits().credits;
        // One more is for the end.
        let device = rail.device().info().limits.queue_depth_max.saturating_sub(1);
        (2 * credits).clamp(8, DEPTH_MAX).min(device.max(1))
    }

    /// How many completions a rail's queue has room for.
    fn entries(&self, rail: &Rail) -> usize {
        let wanted =
            self.sessions.borrow().limits().sessions_max.saturating_mul(self.depth(rail) + 1 + INBOX_DEPTH);
        wanted.min(rail.device().info().limits.completions_max)
    }

    /// How many queue pairs of this core's the rail has room for.
    fn pairs_max(&self, rail: &Rail) -> usize {
        (self.entries(rail) / (self.depth(rail) + 1 + INBOX_DEPTH)).max(1)
    }

    fn completions(&self, index: usize) -> Result<&Completions, ConnectError> {
        let (rail, queues) = (&self.rails.rails[index], &self.queues[index]);
        if let Some(completions) = queues.completions.get() {
            return Ok(completions);
        }
        let completions = Completions::new(Arc::clone(rail.device().context()), self.entries(rail));
        let completions = completions.map_err(io::Error::from)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, completions.descriptor(), data, epoll::EventFlags::IN)
            .map_err(io::Error::from)?;
        Ok(queues.completions.get_or_init(|| completions))
    }

    fn connect(&self, principal: &Principal, offer: &Offer) -> Result<Answer, ConnectError> {
        let peer = Side::of_offer(offer)?;
        if self.sessions.borrow().admit(principal).is_err() {
            // Those that an error ended have waited for their disconnect for long enough.
            self.sessions.borrow_mut().retain(|session| session.is_open());
        }
        self.sessions.borrow().admit(principal)?;
        let ports: Vec<_> = self.rails.rails.iter().map(|rail| (rail, rail.port())).collect();
        let usable = ports.iter().enumerate().filter(|(index, _)| self.is_usable(*index));
        let usable = usable.map(|(index, (_, port))| (index, &**port));
        let allowed = |index: usize, entry: &_| self.rails.rails[index].allows(entry);
        // Behind the addresses this is what keeps sessions of one network from crowding on the first of its rails.
        let load = |index: usize| self.rails.rails[index].pairs().load(Ordering::Relaxed);
        let tie = Tie { came_to: offer.came_to.map(|address| address.to_canonical()), load: Some(&load) };
        let ours = nearest(usable, &peer.gid, peer.lid, allowed, &tie);
        let Some((index, entry)) = ours else { return Err(ConnectError::Unsupported(self.why_no_way())) };
        let (rail, port) = &ports[index];
        let depth = self.depth(rail);
        // Whoever connects and goes again leaves queue pairs with the kernel, for up to a second each.
        let limits = *self.sessions.borrow().limits();
        let connecting = self.connecting.borrow().get(principal).copied().unwrap_or(0);
        // At least so many of them are nobody's: the others have a session that waits for them.
        let unwanted = connecting.saturating_sub(self.sessions.borrow().count_of(principal));
        if unwanted >= limits.principal_sessions_max
            || self.renounced.get() >= limits.sessions_max
            || self.queues[index].pairs.here.get() >= self.pairs_max(rail)
        {
            return Err(ConnectError::TooMany);
        }
        let limits = &rail.device().info().limits;
        let pieces_max = limits.pieces_max.clamp(1, PIECES_MAX);
        // A message is one work request.
        let messages = offer.asks_for_messages() && pieces_max >= MESSAGE_PIECES_MAX;
        let receives = if messages { INBOX_DEPTH as u32 } else { 0 };
        let size = QueuePairSize { depth: depth as u32 + 1, receives, pieces: pieces_max as u32 };
        let completions = Arc::clone(self.completions(index)?.shared());
        let domain = Arc::clone(rail.device().domain());
        let pair = QueuePair::new(domain, completions, size).map_err(io::Error::from)?;
        // Whatever was said of an earlier one of that number.
        rail.device().take_failed(pair.number());
        let mtu = peer.mtu.map_or(port.mtu, |mtu| mtu.min(port.mtu));
        let side = Side {
            number: pair.number(),
            gid: entry.gid,
            port: port.number,
            lid: port.lid,
            sequence: self.sequence(),
            mtu: Some(mtu),
            // Nobody reads from a server.
            reads: 1,
        };
        let path = Path {
            port: port.number,
            gid_index: entry.index,
            mtu,
            peer_gid: peer.gid.0,
            peer_lid: peer.lid,
            peer_number: peer.number,
            sequence: side.sequence,
            peer_sequence: peer.sequence,
            reads_asked: peer.reads.min(limits.reads_asked_max).clamp(1, READS_MAX),
            reads_answered: 1,
        };
        let terms = Terms {
            rail: index,
            depth: depth as u32,
            pieces_max,
            message_bytes_max: port.message_bytes_max,
            arena_key: rail.device().arena_key().expect("a usable rail has it"),
            notifies: offer.asks_for_notices(),
            messages,
        };
        let id = self.enter(principal, terms, pair, path)?;
        let credits = self.sessions.borrow().limits().credits;
        let mut parameters = side.parameters();
        parameters.push((IN_FLIGHT.to_owned(), credits.to_string()));
        if terms.notifies {
            parameters.push((NOTIFY.to_owned(), NOTIFY_IMMEDIATE.to_owned()));
        }
        if terms.messages {
            parameters.push((MESSAGES.to_owned(), MESSAGES_SEND.to_owned()));
        }
        Ok(Answer { session: id, token: side.token(), parameters })
    }

    /// Whether sessions can be made on the rail of that number.
    fn is_usable(&self, index: usize) -> bool {
        self.rails.rails[index].is_usable() && !self.queues[index].failed.get()
    }

    /// Why a client found no rail: none can be used, or none of those that can is for it.
    fn why_no_way(&self) -> &'static str {
        if (0..self.queues.len()).any(|index| self.is_usable(index)) {
            return "no port of this server's is of the client's kind of address";
        }
        let reason = self.rails.rails.iter().find_map(Rail::why_not);
        reason.unwrap_or("the server's device says nothing of what it completed")
    }

    /// Enters a session, and has its queue pair connected.
    fn enter(
        &self,
        principal: &Principal,
        terms: Terms,
        pair: QueuePair,
        path: Path,
    ) -> io::Result<SessionId> {
        let mut entropy = [0; 14];
        (self.entropy.borrow_mut())(&mut entropy);
        let id = SessionId::new(self.core, entropy);
        let rail_name = Rc::clone(&self.queues[terms.rail].name);
        let credits = self.sessions.borrow().limits().credits;
        let session =
            Session::new(terms, rail_name, self.capabilities, Weak::clone(&self.own), pair.number(), credits);
        let place = self.all.borrow_mut().insert(Some(Rc::clone(&session)));
        // Bounded by the completions that a device has room for.
        let number = u32::try_from(place).expect("fewer than 2^32 sessions");
        let mailbox = Arc::downgrade(&self.mailbox);
        let (rail, owner) = (terms.rail, principal.clone());
        let done = move |pair, result| {
            // Without an endpoint nobody wants it.
            if let Some(mailbox) = mailbox.upgrade() {
                mailbox.send(Letter { place: number, rail, owner, pair, result });
            }
        };
        if let Err(error) = self.rails.connector.connect(principal, pair, path, Box::new(done)) {
            self.all.borrow_mut().remove(place);
            return Err(error);
        }
        *self.connecting.borrow_mut().entry(principal.clone()).or_default() += 1;
        self.queues[terms.rail].pairs.add();
        session.set_place(number);
        self.sessions.borrow_mut().insert(id, principal, session);
        Ok(id)
    }

    /// One queue pair less of the principal's is being connected.
    fn connected(&self, principal: &Principal) {
        let mut connecting = self.connecting.borrow_mut();
        if let Some(count) = connecting.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                // Or principals that come and go would stay for ever.
                connecting.remove(principal);
            }
        }
    }

    /// Gives sessions their queue pairs, which are connected now.
    fn take_letters(&self) {
        for Letter { place, rail, owner, pair, result } in self.mailbox.take_letters() {
            self.connected(&owner);
            let number = pair.number();
            let session = self.all.borrow().get(place as usize).and_then(Option::clone);
            // Somebody else may have the place by now, and a pair of that number on another device.
            let awaits = |session: &Rc<Session>| session.rail() == rail && session.number() == number;
            let unwanted = match session.filter(awaits) {
                Some(session) => {
                    let unwanted = session.connected(pair, result).err();
                    self.retire(&session);
                    unwanted
                }
                None => Some(pair),
            };
            if unwanted.is_some() {
                self.renounced.set(self.renounced.get() - 1);
            }
        }
    }

    /// A number for a first packet: 24 bits that an outsider does not guess, and not 0.
    fn sequence(&self) -> u32 {
        let mut bytes = [0; 3];
        (self.entropy.borrow_mut())(&mut bytes);
        let [a, b, c] = bytes.map(u32::from);
        (a << 16 | b << 8 | c).max(1)
    }

    /// Takes notice of one completion, and completes what that ends.
    fn completed(&self, entry: Completed) -> usize {
        let (place, number) = (((entry.id & !RECEIVE) >> 32) as usize, entry.id as u32);
        let session = self.all.borrow().get(place).and_then(Option::clone);
        let Some(session) = session else { return 0 };
        self.with_desk(|desk| match entry.id & RECEIVE {
            0 => session.completed(number, entry.status, desk),
            _ => session.received(&entry, desk),
        });
        self.retire(&session);
        let completed = session.settle();
        // There may be room for more now.
        session.become_due();
        completed
    }

    /// Completions of all rails, and whatever is due.
    fn run(&self) -> usize {
        let mut completed = 0;
        let early = mem::take(&mut *self.early.borrow_mut());
        for (_, entry) in early {
            completed += self.completed(entry);
        }
        for (index, queues) in self.queues.iter().enumerate() {
            let Some(completions) = queues.completions() else { continue };
            for _ in 0..TURN_BATCHES {
                let count = match completions.poll() {
                    Ok(entries) => entries.map(|entry| completed += self.completed(entry)).count(),
                    Err(error) => {
                        tracing::error!(rail = %self.rails.rails[index], %error, "an RDMA port can not be used");
                        queues.failed.set(true);
                        self.end_rail(index);
                        0
                    }
                };
                if count == 0 {
                    break;
                }
            }
        }
        // What those who are woken make due is for the next time.
        let due = mem::take(&mut *self.due.borrow_mut());
        for session in due {
            self.with_desk(|desk| session.ring(desk));
            self.retire(&session);
            completed += session.run_due();
        }
        completed
    }

    /// Gives up the place of a session of which nothing is in the device any more. If completions of it may still come, nobody gets the
    /// place, or they would be taken for those of somebody else.
    fn retire(&self, session: &Rc<Session>) {
        if !session.is_over() {
            return;
        }
        let (mut all, place) = (self.all.borrow_mut(), session.place() as usize);
        let Some(entry) = all.get_mut(place) else { return };
        if !entry.as_ref().is_some_and(|known| Rc::ptr_eq(known, session)) {
            return;
        }
        *entry = None;
        if !session.is_stale() {
            all.remove(place);
        }
    }

    /// The device says nothing more of these sessions.
    fn end_rail(&self, index: usize) {
        for session in self.of_rail(index) {
            session.destroy();
            self.retire(&session);
            session.become_due();
        }
    }

    fn of_rail(&self, index: usize) -> Vec<Rc<Session>> {
        let all = self.all.borrow();
        all.iter()
            .filter_map(|(_, session)| session.clone())
            .filter(|session| session.rail() == index)
            .collect()
    }

    /// Ends the sessions whose queue pairs or devices failed, if there was an event since this was last done.
    fn notice_events(&self) {
        for (index, (rail, queues)) in self.rails.rails.iter().zip(&self.queues).enumerate() {
            let events = rail.device().events();
            if queues.events.replace(events) == events {
                continue;
            }
            if rail.device().is_fatal() {
                self.end_rail(index);
                continue;
            }
            for session in self.of_rail(index) {
                if rail.device().take_failed(session.number()) {
                    self.end(&session);
                }
            }
        }
    }

    fn end(&self, session: &Rc<Session>) {
        self.with_desk(|desk| session.end(desk));
        self.retire(session);
    }

    /// After a sleep: what it was ended by.
    fn wake_up(&self) {
        let nothing = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [nothing; 16];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = epoll::wait(&self.epoll, &mut events, Some(&now)).unwrap_or(0);
        for event in events.iter().take(count) {
            let queues = usize::try_from(event.data.u64()).ok().and_then(|index| self.queues.get(index));
            match queues.and_then(|queues| queues.completions.get()) {
                Some(completions) => completions.take_event(),
                None => self.mailbox.silence(),
            }
        }
    }
}

impl Endpoint for RdmaEndpoint {
    fn connect(&self, principal: &Principal, offer: Offer) -> Result<Answer, ConnectError> {
        self.0.connect(principal, &offer)
    }

    fn session(&self, id: SessionId, principal: &Principal) -> Option<Rc<dyn RemoteMemory>> {
        let session = Rc::clone(self.0.sessions.borrow().find(id, principal)?);
        Some(session)
    }

    fn disconnect(&self, id: SessionId, principal: &Principal) -> bool {
        let Some(session) = self.0.sessions.borrow_mut().remove(id, principal) else { return false };
        self.0.end(&session);
        true
    }

    fn expire_idle(&self, now: Duration) -> usize {
        let all: Vec<_> = self.0.all.borrow().iter().filter_map(|(_, session)| session.clone()).collect();
        all.iter().filter(|session| session.end_drain(now)).for_each(|session| self.0.retire(session));
        let expired = self.0.sessions.borrow_mut().expired(now, |session| session.take_used());
        expired.iter().filter(|(id, principal)| self.disconnect(*id, principal)).count()
    }

    fn rails(&self) -> Vec<String> {
        self.0.rails.rails.iter().map(ToString::to_string).collect()
    }

    fn usable_rails(&self) -> Vec<bool> {
        (0..self.0.queues.len()).map(|index| self.0.is_usable(index)).collect()
    }

    fn session_count(&self) -> usize {
        self.0.sessions.borrow().len()
    }

    fn limits(&self) -> SessionLimits {
        let limits = *self.0.sessions.borrow().limits();
        // A device may have room for the completions of fewer, on software by far.
        let room = self.0.rails.rails.iter().map(|rail| self.0.pairs_max(rail)).sum();
        SessionLimits { sessions_max: limits.sessions_max.min(room), ..limits }
    }

    fn poll(&self) -> usize {
        if self.0.slept.replace(false) {
            self.0.wake_up();
        }
        if self.0.mailbox.take_news() {
            self.0.take_letters();
            self.0.notice_events();
        }
        self.0.run()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.epoll.as_fd())
    }

    fn begin_wait(&self) -> bool {
        let inner = &self.0;
        let due: Vec<_> = inner.due.borrow().iter().cloned().collect();
        inner.with_desk(|desk| due.iter().for_each(|session| session.ring(desk)));
        if due.iter().any(|session| session.has_settled()) {
            return false;
        }
        inner.slept.set(true);
        for (index, queues) in inner.queues.iter().enumerate() {
            let Some(completions) = queues.completions() else { continue };
            // What came before it was armed tells nobody, so it is looked for; an error is the next poll's to find.
            let found = completions.arm().and_then(|()| completions.poll());
            match found {
                Ok(entries) => inner.early.borrow_mut().extend(entries.map(|entry| (index, entry))),
                Err(_) => return false,
            }
        }
        inner.early.borrow().is_empty() && !inner.mailbox.has_news()
    }
}

impl Drop for RdmaEndpoint {
    fn drop(&mut self) {
        let inner = &self.0;
        inner.open.set(false);
        let mut all: Vec<_> = inner.all.borrow().iter().filter_map(|(_, session)| session.clone()).collect();
        all.extend(inner.due.borrow_mut().drain(..));
        for session in all {
            session.destroy();
            session.run_due();
        }
        inner.all.borrow_mut().clear();
    }
}
