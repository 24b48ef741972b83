//! The client's side of a connection: a queue pair that posts windows and receives of nothing, and memory that the server reaches through them.
//!
//! Invariants
//! * What the server can reach is what is exposed, in one direction each: a window on just those bytes, or a registration of them. The
//!   region under the windows gives nobody any right.
//! * An exposure is proven to have ended by the completion of its invalidation, by its deregistration, or by the end of the queue pair,
//!   which is the only one of its protection domain.
//! * Memory that a device may still reach is leaked rather than unmapped.

#![allow(unsafe_code)]

use super::{
    MESSAGE_BYTES_MAX, SOFTWARE_VENDOR,
    device::open,
    error::RdmaError,
    inbox::RECEIVE,
    info::{Gid, GidEntry, GidKind, LinkLayer, PathMtu, PortInfo},
    library::library,
    messages::Messages,
    path::{READS_MAX, Side, Tie, nearest},
    verbs::{
        Completed, Completions, Domain, Path, QueuePair, QueuePairSize, Region, RegionAccess, WorkStatus,
    },
    window::{Window, next_key},
    work::{Batch, Way},
};
use crate::{
    mapping::Mapping,
    remote::{
        Access, Answer, ConnectError, MESSAGES, MESSAGES_SEND, NOTIFY, NOTIFY_IMMEDIATE, Offer, RemoteKey,
        RemoteSlice,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    ffi::c_int,
    fmt, io, mem,
    net::IpAddr,
    ops::Range,
    os::fd::BorrowedFd,
    sync::Arc,
};

/// Binds and invalidations that may be under way.
const DEPTH: usize = 128;

/// Receives that are posted, each for a notice that may come before the last one was taken: more than a server has credits by default.
/// A server with more credits may find no receive, and tries again for some milliseconds.
const RECEIVES: usize = 128;

/// How often a bind is waited for, 10 ms each, before the device is given up: it takes microseconds.
const ROUNDS_MAX: usize = 500;

/// From the number of one queue pair's first packet to that of the next's: an odd factor, so that numbers do not run together.
const SEQUENCE_STEP: u32 = 0x9e37_79b1;

/// A window's key comes back after so many binds, so then there is a new window.
const BINDS_MAX: u32 = 255;

/// How an exposure is ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// Each has a memory window of type 2, which the device itself takes away: no call to the kernel.
    Windows,
    /// Each is a registration of its own, which costs two calls to the kernel that grow with its bytes.
    Registrations,
}

/// What a client is made with.
#[derive(Clone, Debug)]
pub struct RdmaClientOptions {
    /// The device, as the kernel has it. None: the one that is nearest to the server.
    pub device: Option<String>,
    /// Where the server is, to choose a port and an address of this host by. None: the first there are.
    pub server: Option<IpAddr>,
    /// Bytes of memory.
    pub bytes: usize,
    /// How exposures are ended. None: by windows if the device has them and is not soft-RoCE, which lets the server reach all of the
    /// region through each window (Linux 6.12: it compares addresses with the region's bounds only).
    pub revocation: Option<Revocation>,
    /// The number of the first packet, which nobody should guess: 24 bits of it are used.
    pub sequence: u32,
    /// Send messages, and receive the server's ([`RdmaClient::send`], [`RdmaClient::take_message`]), if it does so, too.
    pub messages: bool,
    /// Ask the server to tell when bytes are there ([`RdmaClient::take_notice`]). One that can not, or does not know of it, does not.
    pub notices: bool,
}

/// Memory of this process that a server reaches by RDMA. Stays on its thread.
///
/// The bytes are copied in and out, so that there is nothing to be wrong about while the server writes.
/// [`RdmaLink`](super::RdmaLink) has buffers that are used in place.
///
/// # Drop
/// Ends the queue pair, so that nothing reaches the memory, and unmaps it.
pub struct RdmaClient {
    /// None once it ended. Ends before what it can reach: see `drop`.
    pair: RefCell<Option<QueuePair>>,
    connected: Cell<bool>,
    /// The queue pair could not be ended: nothing proves anything any more.
    unproven: Cell<bool>,
    completions: Completions,
    exposed: RefCell<HashMap<RemoteKey, Exposure>>,
    /// Exposures of no bytes, which need no device, have addresses that were never used instead of keys.
    nothings: Cell<u64>,
    free_windows: RefCell<Vec<BoundWindow>>,
    work: RefCell<HashMap<u64, Work>>,
    work_made: Cell<u64>,
    batch: RefCell<Batch>,
    /// The server tells when bytes are there.
    notified: Cell<bool>,
    /// Told, and not taken, with the receives that they came by.
    notices: RefCell<VecDeque<(u32, usize)>>,
    /// Memory for messages, if there are any.
    messages: Option<Messages>,
    /// The server sends messages and receives them.
    talks: Cell<bool>,
    /// Proven, and not told.
    ended: RefCell<VecDeque<RemoteSlice>>,
    revocation: Revocation,
    domain: Arc<Domain>,
    region: Arc<Region>,
    memory: Arc<Mapping>,
    side: Cell<Side>,
    size: QueuePairSize,
    asks_for_notices: bool,
    gid_index: u8,
    mtu: PathMtu,
}

enum Exposure {
    Window(BoundWindow),
    Registration(Region),
    /// The queue pair was given up, and the window with it.
    Over,
}

struct BoundWindow {
    window: Window,
    binds: u32,
}

/// What was posted.
enum Work {
    Bind,
    Invalidation(RemoteSlice, BoundWindow),
    /// From that buffer.
    Send(usize),
}

impl RdmaClient {
    /// Opens a device, and maps and registers memory. Takes milliseconds, and about a second per GiB.
    ///
    /// # Errors
    /// There is no RDMA here, or no port with a link; the device has no windows and they were asked for; the device or the kernel refused:
    /// a limit on locked memory for instance.
    pub fn new(options: &RdmaClientOptions) -> Result<RdmaClient, RdmaError> {
        let names: Vec<String> = options.device.iter().cloned().collect();
        let mut candidates = Vec::new();
        for context in open(library()?, &names)? {
            match context.info() {
                Ok(info) => candidates.push((context, info)),
                // One that is sick keeps nobody from the others.
                Err(error) if options.device.is_none() => {
                    tracing::warn!(%error, "an RDMA device cannot be used")
                }
                Err(error) => return Err(error),
            }
        }
        let ports: Vec<_> = candidates
            .iter()
            .enumerate()
            .flat_map(|(device, (_, info))| info.ports.iter().map(move |port| (device, port)))
            .filter(|(_, port)| port.active)
            .map(|(device, port)| ((device, port.number), port.clone()))
            .collect();
        let (place, entry) = choose(&ports, options.server)
            .ok_or_else(|| RdmaError::NoRail("no port has a link and an address".to_owned()))?;
        let port = ports.iter().find(|(known, _)| *known == place).map(|(_, port)| port.clone());
        let port = port.expect("chosen from among them");
        let (context, info) = candidates.swap_remove(place.0);
        let has_windows = info.limits.windows_max > 0 && info.limits.vendor.0 != SOFTWARE_VENDOR;
        let best = if has_windows { Revocation::Windows } else { Revocation::Registrations };
        let revocation = options.revocation.unwrap_or(best);
        let domain = Arc::new(Domain::new(Arc::new(context))?);
        let memory = Mapping::anonymous(options.bytes.max(1));
        let memory = Arc::new(memory.map_err(|source| RdmaError::Device { what: "mmap", source })?);
        let access = match revocation {
            Revocation::Windows => RegionAccess::Windows,
            Revocation::Registrations => RegionAccess::Local,
        };
        // SAFETY: the mapping has that many bytes, and exists as long as a handle of it, such as the one that is given.
        let region = unsafe {
            let held = Arc::clone(&memory);
            Region::new(Arc::clone(&domain), memory.at(0), memory.bytes(), access, held)
        };
        let region = Arc::new(region?);
        let receives = if options.notices || options.messages { RECEIVES } else { 0 };
        let completions = Completions::new(Arc::clone(domain.context()), DEPTH + 1 + receives)?;
        let size = QueuePairSize { depth: DEPTH as u32, receives: receives as u32, pieces: 1 };
        let pair = QueuePair::new(Arc::clone(&domain), Arc::clone(completions.shared()), size)?;
        let messages = options.messages.then(|| Messages::new(&domain, receives)).transpose()?;
        let side = Side {
            number: pair.number(),
            gid: entry.gid,
            port: port.number,
            lid: port.lid,
            sequence: (options.sequence & 0xff_ffff).max(1),
            mtu: Some(port.mtu),
            reads: info.limits.reads_answered_max.clamp(1, READS_MAX),
        };
        Ok(RdmaClient {
            pair: RefCell::new(Some(pair)),
            connected: Cell::new(false),
            unproven: Cell::new(false),
            completions,
            exposed: RefCell::default(),
            nothings: Cell::new(0),
            free_windows: RefCell::default(),
            work: RefCell::default(),
            work_made: Cell::new(0),
            batch: RefCell::default(),
            notified: Cell::new(false),
            notices: RefCell::default(),
            messages,
            talks: Cell::new(false),
            ended: RefCell::default(),
            revocation,
            domain,
            region,
            memory,
            side: Cell::new(side),
            size,
            asks_for_notices: options.notices,
            gid_index: entry.index,
            mtu: port.mtu,
        })
    }

    /// What connects to this client: its queue pair's token and parameters.
    pub fn offer(&self) -> Offer {
        let side = self.side.get();
        let mut parameters = side.parameters();
        if self.asks_for_notices {
            parameters.push((NOTIFY.to_owned(), NOTIFY_IMMEDIATE.to_owned()));
        }
        if self.messages.is_some() {
            parameters.push((MESSAGES.to_owned(), MESSAGES_SEND.to_owned()));
        }
        Offer { token: side.token(), parameters, ..Offer::default() }
    }

    /// Begins anew with another queue pair, over the same memory, whatever became of the first one: that ends here, and every exposure by
    /// a window with it. To be connected to what answers the offer.
    ///
    /// # Errors
    /// The first one can not be ended, so that nothing proves anything any more; or the device refused. There is no queue pair then.
    pub fn renew(&self) -> Result<Offer, RdmaError> {
        self.give_up();
        if self.unproven.get() {
            return Err(RdmaError::NoRail("the last queue pair could not be ended".to_owned()));
        }
        // What the last one left there is about nothing any more, and its receives have the numbers of those to come.
        while self.completions.poll().is_ok_and(|entries| entries.count() > 0) {}
        let pair =
            QueuePair::new(Arc::clone(&self.domain), Arc::clone(self.completions.shared()), self.size)?;
        let side = self.side.get();
        // Packets of the last one that are still on their way must not fit.
        let sequence = (side.sequence.wrapping_mul(SEQUENCE_STEP) & 0xff_ffff).max(1);
        self.side.set(Side { number: pair.number(), sequence, ..side });
        self.connected.set(false);
        self.notified.set(false);
        self.talks.set(false);
        self.notices.borrow_mut().clear();
        self.messages.iter().for_each(Messages::reset);
        *self.pair.borrow_mut() = Some(pair);
        Ok(self.offer())
    }

    /// Connects to what answered the offer.
    ///
    /// # Errors
    /// The answer is none, or there is no way to its queue pair.
    pub fn connect(&self, answer: &Answer) -> Result<(), ConnectError> {
        let parameter = |name: &str| answer.parameter(name).map(str::to_owned);
        let server = Side::parse(&answer.token, parameter)?;
        let side = self.side.get();
        let path = Path {
            port: side.port,
            gid_index: self.gid_index,
            mtu: server.mtu.map_or(self.mtu, |mtu| mtu.min(self.mtu)),
            peer_gid: server.gid.0,
            peer_lid: server.lid,
            peer_number: server.number,
            sequence: side.sequence,
            peer_sequence: server.sequence,
            // This side reads nothing.
            reads_asked: 1,
            reads_answered: side.reads,
        };
        let pair = self.pair.borrow();
        let pair = pair.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        pair.connect(&path, true).map_err(io::Error::from)?;
        self.connected.set(true);
        let notified = self.asks_for_notices && answer.grants_notices();
        let talks = self.messages.is_some() && answer.grants_messages();
        if notified || talks {
            (0..RECEIVES)
                .try_for_each(|receive| self.receive_by(pair, receive))
                .map_err(io::Error::from_raw_os_error)?;
        }
        self.notified.set(notified);
        self.talks.set(talks);
        Ok(())
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// How exposures are ended.
    pub fn revocation(&self) -> Revocation {
        self.revocation
    }

    /// Whether the queue pair is connected, and no error was noticed.
    pub fn is_open(&self) -> bool {
        self.connected.get() && self.pair.borrow().is_some()
    }

    /// Exposes a range of the memory, for one direction; in force when this returns, which takes microseconds. Ranges may overlap.
    ///
    /// # Errors
    /// The connection is not made, or ended (`NotConnected`); the device refused.
    ///
    /// # Panics
    /// If the range is not inside the memory.
    pub fn expose(&self, range: Range<usize>, access: Access) -> io::Result<RemoteSlice> {
        assert!(range.start <= range.end && range.end <= self.bytes(), "{range:?} is not in the memory");
        if !self.is_open() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if range.is_empty() {
            let number = self.nothings.get() + 1;
            self.nothings.set(number);
            return Ok(RemoteSlice::new(number, 0, RemoteKey(0)).expect("no bytes end where they begin"));
        }
        let address = self.memory.at(range.start);
        let (start, bytes) = (address.addr() as u64, range.len() as u64);
        let (key, exposure) = match self.revocation {
            Revocation::Windows => {
                let window = self.bind((start, bytes), access)?;
                (window.window.remote_key(), Exposure::Window(window))
            }
            Revocation::Registrations => {
                let access = match access {
                    Access::Read => RegionAccess::RemoteRead,
                    Access::Write => RegionAccess::RemoteWrite,
                };
                let (domain, held) = (Arc::clone(&self.domain), Arc::clone(&self.memory));
                // SAFETY: the range is in the mapping (asserted above), which exists as long as a handle of it.
                let region = unsafe { Region::new(domain, address, range.len(), access, held)? };
                (region.remote_key(), Exposure::Registration(region))
            }
        };
        self.exposed.borrow_mut().insert(RemoteKey(key), exposure);
        Ok(RemoteSlice::new(start, bytes, RemoteKey(key)).expect("memory ends somewhere"))
    }

    /// Begins to end an exposure. Once nothing reaches through it, [`poll`](RdmaClient::poll) says so.
    pub fn withdraw(&self, slice: &RemoteSlice) {
        if slice.bytes() == 0 {
            self.ended.borrow_mut().push_back(*slice);
            return;
        }
        let exposure = self.exposed.borrow_mut().remove(&slice.key());
        match exposure {
            None => {}
            Some(Exposure::Over) if self.unproven.get() => {}
            Some(Exposure::Over) => self.ended.borrow_mut().push_back(*slice),
            Some(Exposure::Registration(region)) => match region.deregister() {
                Ok(()) => self.ended.borrow_mut().push_back(*slice),
                Err(error) => {
                    tracing::error!(%error, "an exposure could not be ended, and its memory is leaked")
                }
            },
            Some(Exposure::Window(window)) => {
                let key = window.window.remote_key();
                let work = Work::Invalidation(*slice, window);
                if let Err(refused) = self.post(work, |id, batch| batch.push_invalidate(id, key)) {
                    self.give_up();
                    // Unbound, if the queue pair did not do it.
                    drop(refused);
                    if !self.unproven.get() {
                        self.ended.borrow_mut().push_back(*slice);
                    }
                }
            }
        }
    }

    /// The next exposure that is proven to have ended, if there is one. Its bytes are the caller's again.
    pub fn poll(&self) -> Option<RemoteSlice> {
        self.hear();
        self.ended.borrow_mut().pop_front()
    }

    /// Whether the server tells when bytes are there.
    pub fn is_notified(&self) -> bool {
        self.notified.get()
    }

    /// The next notice, if one has come: the bytes that it speaks of are in the memory. Its number is what the server gave it. They
    /// are to be taken before 128 more come, or the server finds nobody to tell, and ends the session.
    pub fn take_notice(&self) -> Option<u32> {
        self.hear();
        self.heard_notice()
    }

    /// The next notice, if one had come when this side last looked.
    pub(super) fn heard_notice(&self) -> Option<u32> {
        let (notice, receive) = self.notices.borrow_mut().pop_front()?;
        self.receive_again(receive);
        Some(notice)
    }

    /// Whether the server sends messages and receives them.
    pub fn talks(&self) -> bool {
        self.talks.get()
    }

    /// Sends a message, which ends one of the server's receives. What becomes of it is not told; if the server has no receive for some
    /// milliseconds, the connection ends.
    ///
    /// # Errors
    /// The server does not receive any (`Unsupported`); as many as can be are on their way (`WouldBlock`); the connection ended
    /// (`NotConnected`).
    ///
    /// # Panics
    /// If it is longer than [`Capabilities::message_bytes_max`](crate::remote::Capabilities::message_bytes_max).
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        assert!(message.len() <= MESSAGE_BYTES_MAX as usize, "{} bytes are no message", message.len());
        let messages = self.messages.as_ref().filter(|_| self.talks()).ok_or(io::ErrorKind::Unsupported)?;
        self.hear();
        if !self.is_open() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let (buffer, piece) = messages.fill(message).ok_or(io::ErrorKind::WouldBlock)?;
        let posted = self.post(Work::Send(buffer), |id, batch| {
            batch.begin_transfer(id, Way::Send, (0, 0));
            batch.add_piece(piece);
            batch.finish_transfer(true);
        });
        posted.map(drop).map_err(|_| {
            self.give_up();
            io::ErrorKind::NotConnected.into()
        })
    }

    /// The next message, if one has come. They are to be taken before 128 more come, notices among them, or the server finds no room for
    /// another and ends the session.
    pub fn take_message(&self) -> Option<Vec<u8>> {
        self.hear();
        let (message, receive) = self.messages.as_ref()?.take()?;
        self.receive_again(receive);
        Some(message)
    }

    /// A descriptor that becomes readable when there may be something to [`poll`](RdmaClient::poll).
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.completions.descriptor()
    }

    /// Copies bytes of the memory out, as they are now.
    ///
    /// # Panics
    /// If they are not all in the memory.
    pub fn load(&self, at: usize, target: &mut [u8]) {
        self.memory.load(at, target);
    }

    /// Copies bytes into the memory.
    ///
    /// # Panics
    /// If they are not all in the memory.
    pub fn store(&self, at: usize, source: &[u8]) {
        self.memory.store(at, source);
    }

    pub(super) fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// A window on the memory, bound.
    fn bind(&self, place: (u64, u64), access: Access) -> io::Result<BoundWindow> {
        let free = self.free_windows.borrow_mut().pop();
        let mut bound = match free {
            Some(bound) if bound.binds < BINDS_MAX => bound,
            _ => BoundWindow { window: Window::new(Arc::clone(&self.region))?, binds: 0 },
        };
        let way = match access {
            Access::Read => Way::Read,
            Access::Write => Way::Write,
        };
        let posted = self.post(Work::Bind, |id, batch| batch.push_bind(id, &bound.window, place, way));
        let Ok(number) = posted else {
            // Before the queue pair that it may be bound to.
            drop(bound);
            self.give_up();
            return Err(io::ErrorKind::NotConnected.into());
        };
        bound.window.bound();
        bound.binds += 1;
        // Whoever gets the key may use it at once, so it has to be good.
        for _ in 0..ROUNDS_MAX {
            self.hear();
            if !self.work.borrow().contains_key(&number) {
                return if self.is_open() { Ok(bound) } else { Err(io::ErrorKind::NotConnected.into()) };
            }
            self.sleep();
        }
        self.give_up();
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Until there may be a completion, or 10 ms.
    fn sleep(&self) {
        let limit = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        // Interrupted or not, the caller looks.
        let _ = poll(&mut [PollFd::new(&self.descriptor(), PollFlags::IN)], Some(&limit));
    }

    /// Posts one request, and gives its number.
    ///
    /// # Errors
    /// The work, if it could not be posted.
    fn post(&self, work: Work, request: impl FnOnce(u64, &mut Batch)) -> Result<u64, Work> {
        for _ in 0..ROUNDS_MAX {
            if self.work.borrow().len() < DEPTH {
                break;
            }
            self.hear();
            self.sleep();
        }
        let id = self.work_made.get();
        self.work_made.set(id + 1);
        let taken = {
            let (mut batch, pair) = (self.batch.borrow_mut(), self.pair.borrow());
            batch.clear();
            request(id, &mut batch);
            // SAFETY: a message's piece is its buffer's, which is not used again before the completion; other requests have no pieces. A
            // window is in `work` from here on, or waited for by `bind`, and regions and windows
            // outlive the queue pair: see `drop`.
            pair.as_ref().is_some_and(|pair| unsafe { pair.post(&mut batch) }.0 == 1)
        };
        if !taken {
            return Err(work);
        }
        self.work.borrow_mut().insert(id, work);
        Ok(id)
    }

    /// Takes notice of what is done, and has the descriptor tell of what comes.
    fn hear(&self) {
        if self.pair.borrow().is_none() {
            return;
        }
        self.completions.take_event();
        // Armed before it is looked at, or what comes in between would tell nobody.
        let mut failed = self.completions.arm().is_err();
        loop {
            let Ok(entries) = self.completions.poll() else {
                failed = true;
                break;
            };
            let mut any = false;
            for entry in entries {
                any = true;
                if entry.id & RECEIVE != 0 {
                    failed |= !self.received(entry);
                    continue;
                }
                let work = self.work.borrow_mut().remove(&entry.id);
                match work {
                    Some(Work::Invalidation(slice, window)) if entry.status == WorkStatus::Done => {
                        self.free_windows.borrow_mut().push(window);
                        self.ended.borrow_mut().push_back(slice);
                    }
                    Some(Work::Send(buffer)) if entry.status == WorkStatus::Done => {
                        self.messages.iter().for_each(|messages| messages.sent(buffer));
                    }
                    Some(work @ Work::Invalidation(..)) => {
                        self.work.borrow_mut().insert(entry.id, work);
                        failed = true;
                    }
                    _ => failed |= entry.status != WorkStatus::Done,
                }
            }
            if !any {
                break;
            }
        }
        if failed {
            self.give_up();
        }
    }

    /// Takes notice of a notice. False if the queue pair is of no use any more.
    fn received(&self, entry: Completed) -> bool {
        if entry.status != WorkStatus::Done {
            return false;
        }
        let receive = (entry.id & !RECEIVE) as usize;
        match (entry.immediate, &self.messages) {
            (Some(notice), _) => self.notices.borrow_mut().push_back((notice, receive)),
            (None, Some(messages)) => messages.received(receive, entry.bytes),
            // A message of nothing, which nobody asked for: no room for another.
            (None, None) => {}
        }
        true
    }

    /// Posts a receive again, once what came by it is taken and not before: so a server cannot make this side remember more.
    fn receive_again(&self, receive: usize) {
        let posted = self.pair.borrow().as_ref().is_none_or(|pair| self.receive_by(pair, receive).is_ok());
        if !posted {
            self.give_up();
        }
    }

    fn receive_by(&self, pair: &QueuePair, receive: usize) -> Result<(), c_int> {
        let room = self.messages.as_ref().map(|messages| messages.room(receive));
        // SAFETY: the buffer is read only when its receive has completed, before it is posted again; buffers outlive the queue pair: see
        // `drop`, and `give_up` for one that can not be ended.
        unsafe { pair.post_receive(RECEIVE | receive as u64, room) }
    }

    /// Ends the queue pair, which proves that every exposure by a window has ended.
    fn give_up(&self) {
        let Some(pair) = self.pair.borrow_mut().take() else { return };
        if self.connected.get()
            && let Err(error) = pair.fail()
        {
            tracing::debug!(%error, "a queue pair could not be moved to its error state");
        }
        // Windows before the queue pair they are bound to: soft-RoCE waits 50 s for them otherwise (Linux 6.12).
        let withdrawn: Vec<_> = self.work.borrow_mut().drain().collect();
        let withdrawn = withdrawn.into_iter().filter_map(|(_, work)| match work {
            Work::Invalidation(slice, _) => Some(slice),
            Work::Bind | Work::Send(_) => None,
        });
        let withdrawn: Vec<_> = withdrawn.collect();
        for exposure in self.exposed.borrow_mut().values_mut() {
            if matches!(exposure, Exposure::Window(_)) {
                *exposure = Exposure::Over;
            }
        }
        self.free_windows.borrow_mut().clear();
        match pair.destroy() {
            Ok(()) => self.ended.borrow_mut().extend(withdrawn),
            Err(error) => {
                tracing::error!(%error, "a queue pair is leaked, and the memory that it can reach");
                self.unproven.set(true);
                mem::forget((Arc::clone(&self.region), Arc::clone(&self.memory)));
                self.messages.iter().for_each(Messages::leak);
            }
        }
    }
}

/// The port and the address of it to be reached at.
fn choose<P: Copy>(ports: &[(P, PortInfo)], server: Option<IpAddr>) -> Option<(P, GidEntry)> {
    let all = || ports.iter().map(|(place, port)| (*place, port));
    let by_server =
        server.and_then(|server| nearest(all(), &Gid::from_address(server), 0, |_, _| true, &Tie::default()));
    // Without the server's address, one that most servers have one of the kind of.
    let v4 =
        || nearest(all(), &Gid::from_address(IpAddr::from([0, 0, 0, 0])), 0, |_, _| true, &Tie::default());
    let any = || {
        all().find_map(|(place, port)| {
            let kind = match port.link_layer {
                LinkLayer::InfiniBand => GidKind::InfiniBand,
                _ => GidKind::RoceV2,
            };
            port.gids.iter().find(|entry| entry.kind == kind).map(|entry| (place, *entry))
        })
    };
    by_server.or_else(v4).or_else(any)
}

impl Drop for RdmaClient {
    fn drop(&mut self) {
        // First of all: then nothing reaches regions and memory, which go in that order behind this.
        self.give_up();
    }
}

impl fmt::Debug for RdmaClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RdmaClient")
            .field("bytes", &self.bytes())
            .field("revocation", &self.revocation)
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

// The low 8 bits of a key are counted through once before a window is given up.
const _: () = assert!(BINDS_MAX < 256);
const _: fn(u32) -> u32 = next_key;
