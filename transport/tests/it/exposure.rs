//! Buffers of a client: theirs, the server's, theirs again. Over every transport that is here.

use crossdock_transport::{
    exposure::{Buffer, Link, LinkError, Session, Unproven, Withdrawal},
    loopback::{Loopback, LoopbackLink, LoopbackPeer},
    memory::{Arena, ArenaOptions, PagePolicy, PeerLease, Pool},
    remote::{
        Access, Endpoint, EndpointOptions, NOTIFY, NOTIFY_IMMEDIATE, Offer, Principal, RemoteKey,
        RemoteMemory, RemoteSlice, SessionLimits, TransferError, Transport,
    },
    shm::{Shm, ShmClient, ShmLink, ShmOptions},
    token::Codecs,
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    os::fd::BorrowedFd,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// A client's session and the server at its other end.
struct Pair<L: Link> {
    session: Session<L>,
    remote: Rc<dyn RemoteMemory>,
    endpoint: Rc<dyn Endpoint>,
    pool: Pool,
    _arena: Arena,
}

/// Bytes of a client's memory where that is bounded.
const BYTES: usize = 1 << 20;

impl<L: Link> Pair<L> {
    fn new(transport: &dyn Transport, offer: Offer, link: L) -> Pair<L> {
        let options = ArenaOptions { bytes: 8 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
        let arena = Arena::map(&options).unwrap();
        transport.register(&arena).unwrap();
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(1));
        let endpoint =
            transport.open(EndpointOptions { core: 0, limits: SessionLimits::default(), entropy }).unwrap();
        let principal = Principal::new("alice");
        let answer = endpoint.connect(&principal, offer).unwrap();
        let remote = endpoint.session(answer.session, &principal).unwrap();
        let session = Session::new(link);
        session.poll();
        Pair { session, remote, endpoint, pool: arena.pool(0), _arena: arena }
    }

    /// The server writes `byte` all over the slice.
    fn write(&self, target: RemoteSlice, byte: u8) -> Result<u32, TransferError> {
        let mut lease = self.pool.try_acquire(target.bytes() as usize).unwrap();
        lease.set_len(target.bytes() as usize);
        lease.as_mut_slice().fill(byte);
        let sent =
            self.remote.write(self.remote.credits().try_slot().unwrap(), lease.freeze().into(), target);
        self.drive(sent).result.map_err(TransferError::from)
    }

    /// The server reads the slice.
    fn read(&self, source: RemoteSlice) -> Result<Vec<u8>, TransferError> {
        let lease = self.pool.try_acquire(source.bytes() as usize).unwrap();
        let received = self.remote.read(self.remote.credits().try_slot().unwrap(), source, lease);
        let (result, lease) = self.drive(received).into_lease();
        result.map(|_| lease.as_slice().to_vec()).map_err(TransferError::from)
    }

    /// Drives both sides until the future is ready.
    fn drive<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..1000 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            self.endpoint.poll();
        }
        panic!("never ready");
    }

    fn buffer(&self, bytes: usize, byte: u8) -> Buffer<L> {
        let mut buffer = self.session.buffer(bytes).unwrap();
        buffer.fill(byte);
        buffer
    }
}

fn loopback() -> Pair<LoopbackLink> {
    let (transport, peer) = (Loopback::new(), LoopbackPeer::new(0));
    Pair::new(&transport, transport.offer(&peer), LoopbackLink::new(peer))
}

fn shm() -> Pair<ShmLink> {
    let (client, offered) = ShmClient::pair(BYTES as u64).unwrap();
    let offer = Offer { descriptor: Some(offered), ..Offer::default() };
    Pair::new(&Shm::new(ShmOptions::default()), offer, ShmLink::new(client))
}

/// Counts how often it is woken.
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod over_loopback {
            $(#[test] fn $name() {
                // Shows what the function of this name says, within a process.
                super::$name(super::loopback());
            })*
        }
        mod over_shm {
            $(#[test] fn $name() {
                // Shows what the function of this name says, over shared memory.
                super::$name(super::shm());
            })*
        }
    };
}

over_both!(
    bytes_go_both_ways,
    each_exposure_has_one_direction,
    nothing_reaches_a_buffer_that_is_back,
    a_buffer_of_nothing_comes_back_too,
    a_dropped_exposure_is_freed_by_its_proof,
    a_dropped_withdrawal_is_freed_by_its_proof,
    a_leaked_exposure_is_never_used_again,
    the_session_outlives_its_handle,
);

/// A target is filled, a source is read, part by part, and the buffers come back with what is in them.
fn bytes_go_both_ways<L: Link>(pair: Pair<L>) {
    let target = pair.buffer(10_000, 1).expose_target().unwrap();
    assert_eq!((target.len(), target.is_empty()), (10_000, false));
    assert_eq!(pair.write(target.slice(100..200).unwrap(), 2), Ok(100));
    assert!(target.slice(9_999..10_001).is_none() && target.token(9_999..10_001).is_none());
    let buffer = pair.drive(target.withdraw()).unwrap();
    assert!(buffer.iter().enumerate().all(|(at, byte)| *byte == 1 + u8::from((100..200).contains(&at))));
    let source = buffer.expose_source().unwrap();
    assert_eq!(pair.read(source.slice(99..101).unwrap()), Ok(vec![1, 2]));
    assert_eq!(pair.drive(source.withdraw()).unwrap().len(), 10_000);
}

/// The least that is needed is exposed: a target is not read, a source not written.
fn each_exposure_has_one_direction<L: Link>(pair: Pair<L>) {
    let (target, source) =
        (pair.buffer(100, 1).expose_target().unwrap(), pair.buffer(100, 1).expose_source().unwrap());
    assert_eq!(pair.read(target.slice(0..100).unwrap()), Err(TransferError::Refused));
    assert_eq!(pair.write(source.slice(0..100).unwrap(), 9), Err(TransferError::Refused));
    assert!(pair.drive(source.withdraw()).unwrap().iter().all(|byte| *byte == 1));
}

/// Once the proof is there the old name reaches nothing, also when the same memory is exposed again.
fn nothing_reaches_a_buffer_that_is_back<L: Link>(pair: Pair<L>) {
    let first = pair.buffer(100, 1).expose_target().unwrap();
    let old = first.slice(0..100).unwrap();
    let buffer = pair.drive(first.withdraw()).unwrap();
    assert_eq!(pair.write(old, 9), Err(TransferError::Refused));
    let second = buffer.expose_target().unwrap();
    assert_eq!(pair.write(old, 9), Err(TransferError::Refused));
    assert_eq!(pair.write(second.slice(0..1).unwrap(), 5), Ok(1));
    assert_eq!(pair.drive(second.withdraw()).unwrap()[..2], [5, 1]);
}

/// No bytes are a buffer like any other.
fn a_buffer_of_nothing_comes_back_too<L: Link>(pair: Pair<L>) {
    let nothing = pair.buffer(0, 1).expose_source().unwrap();
    assert_eq!(pair.read(nothing.slice(0..0).unwrap()), Ok(vec![]));
    assert!(pair.drive(nothing.withdraw()).unwrap().is_empty());
    assert_eq!(pair.session.quarantined_bytes(), 0);
}

/// A future that gives up on a request drops its exposure: the name is dead, and the memory is used again after the proof.
fn a_dropped_exposure_is_freed_by_its_proof<L: Link>(pair: Pair<L>) {
    let exposed = pair.buffer(5_000, 1).expose_target().unwrap();
    let slice = exposed.slice(0..5_000).unwrap();
    drop(exposed);
    assert_eq!(pair.session.quarantined_bytes(), 5_000);
    assert_eq!(pair.write(slice, 9), Err(TransferError::Refused));
    pair.session.poll();
    assert_eq!(pair.session.quarantined_bytes(), 0);
}

/// The same for one who does not wait for the proof, before and after it is there.
fn a_dropped_withdrawal_is_freed_by_its_proof<L: Link>(pair: Pair<L>) {
    for polls in 0..3 {
        let mut withdrawal = pair.buffer(5_000, 1).expose_target().unwrap().withdraw();
        for _ in 0..polls {
            pair.endpoint.poll();
            pair.session.poll();
        }
        if polls == 2 {
            let polled = Pin::new(&mut withdrawal).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Ready(Ok(_))));
        }
        drop(withdrawal);
        pair.endpoint.poll();
        pair.session.poll();
        assert_eq!(pair.session.quarantined_bytes(), 0);
    }
}

/// To forget an exposure is safe: the server may go on, in memory that is nobody's.
fn a_leaked_exposure_is_never_used_again<L: Link>(pair: Pair<L>) {
    let exposed = pair.buffer(4096, 1).expose_target().unwrap();
    let slice = exposed.slice(0..4096).unwrap();
    std::mem::forget(exposed);
    // All that is left: at most as much as a client has.
    let others: Vec<_> = (0..BYTES / 4096).map_while(|_| pair.session.buffer(4096).ok()).collect();
    assert_eq!(pair.write(slice, 9), Ok(4096));
    assert!(others.iter().all(|buffer| buffer.iter().all(|byte| *byte != 9)));
}

/// Buffers and exposures keep their session, in whatever order things are dropped.
fn the_session_outlives_its_handle<L: Link>(pair: Pair<L>) {
    let (buffer, exposed) = (pair.buffer(10, 3), pair.buffer(10, 4).expose_source().unwrap());
    let Pair { session, remote, endpoint, pool, _arena } = pair;
    drop(session);
    assert!(remote.is_open());
    let session = buffer.session().clone();
    let pair = Pair { session, remote, endpoint, pool, _arena };
    assert_eq!(pair.read(exposed.slice(0..10).unwrap()), Ok(vec![4; 10]));
    assert_eq!(*pair.drive(exposed.withdraw()).unwrap(), [4; 10]);
    assert!(buffer.iter().all(|byte| *byte == 3));
}

#[test]
fn a_proof_waits_for_the_servers_devices() {
    // Shows that a buffer which a disk of the server's may still write is not handed back, and that whoever waits is woken.
    let pair = shm();
    let exposed = pair.buffer(4096, 1).expose_target().unwrap();
    let device: PeerLease = pair.remote.peer_lease(&exposed.slice(0..4096).unwrap()).unwrap();
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut withdrawal: Withdrawal<ShmLink> = exposed.withdraw();
    for _ in 0..3 {
        assert!(Pin::new(&mut withdrawal).poll(&mut Context::from_waker(&waker)).is_pending());
        pair.endpoint.poll();
        pair.session.poll();
    }
    drop(device);
    pair.endpoint.poll();
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    pair.session.wait(std::time::Duration::from_secs(5)).unwrap();
    pair.session.poll();
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    let polled = Pin::new(&mut withdrawal).poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Ready(Ok(buffer)) if buffer.len() == 4096));
}

#[test]
fn without_a_proof_memory_stays_in_quarantine() {
    // Shows that when the server is gone, which proves nothing about its devices, those who wait are told so, and nobody gets
    // the memory again.
    let pair = shm();
    let (first, second) =
        (pair.buffer(4096, 1).expose_target().unwrap(), pair.buffer(8192, 1).expose_target().unwrap());
    let kept = pair.buffer(4096, 7);
    let device = pair.remote.peer_lease(&first.slice(0..4096).unwrap()).unwrap();
    let waiting = first.withdraw();
    let Pair { session, endpoint, remote, .. } = pair;
    drop((endpoint, remote));
    let mut waiting = pin!(waiting);
    let polled = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(Unproven { bytes: 4096 }))));
    drop(second);
    assert_eq!(session.quarantined_bytes(), 4096 + 8192);
    assert!(!session.is_open());
    assert!(matches!(session.buffer(1), Err(LinkError::Ended)));
    // What is still one's own can be read, and not be exposed.
    let error = kept.expose_source().unwrap_err();
    assert!(matches!(error.error, LinkError::Ended) && error.buffer.iter().all(|byte| *byte == 7));
    drop((error, device));
}

#[test]
fn memory_is_used_again_and_again() {
    // Shows that pieces of all sizes given back in any order become one again, and that there is never more than there is.
    let pair = shm();
    for round in 0..50usize {
        let sizes: Vec<usize> =
            (0..20).map(|number| 1 + (number * 7919 + round * 104_729) % 40_000).collect();
        let mut buffers: Vec<_> = sizes.iter().map(|bytes| pair.buffer(*bytes, 1)).collect();
        for number in 0..20 {
            let buffer = buffers.swap_remove((number * 31 + round) % buffers.len());
            if number % 3 == 0 {
                drop(pair.drive(buffer.expose_source().unwrap().withdraw()).unwrap());
            }
        }
        let whole = pair.session.buffer(BYTES).unwrap();
        assert!(matches!(pair.session.buffer(1), Err(LinkError::Exhausted)));
        assert!(whole.as_ptr().addr().is_multiple_of(4096));
    }
    assert!(matches!(pair.session.buffer(usize::MAX), Err(LinkError::Exhausted)));
}

#[test]
fn a_token_names_what_is_exposed() {
    // Shows that the text a client sends is read by the server's codecs as the very slice, of the very session.
    let pair = shm();
    let exposed = pair.buffer(4096, 1).expose_target().unwrap();
    let text = exposed.token(10..30).unwrap();
    let named = Codecs::standard().parse(&text).unwrap();
    assert_eq!((named.codec, Some(named.slice)), ("shm", exposed.slice(10..30)));
    assert_eq!(named.session, pair.session.link().session());
    assert_eq!(pair.write(named.slice, 3), Ok(20));
}

#[test]
fn a_server_that_speaks_out_of_turn_harms_nobody() {
    // Shows that a server's word about an exposure that nobody withdrew is no reason to panic, and gives nothing back.
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let session = Session::new(ShmLink::new(ShmClient::over(ours, BYTES as u64).unwrap()));
    recv(&theirs, &mut [0; 128][..], RecvFlags::empty()).unwrap();
    send(&theirs, format!("session {:032x}", 7).as_bytes(), SendFlags::empty()).unwrap();
    session.poll();
    let exposed = session.buffer(4096).unwrap().expose_target().unwrap();
    let address = exposed.slice(0..1).unwrap().address();
    send(&theirs, format!("withdrawn {address:016x}").as_bytes(), SendFlags::empty()).unwrap();
    session.poll();
    // Its word is worth nothing from here on.
    assert!(!session.is_open());
    drop(exposed);
    session.poll();
    assert_eq!(session.quarantined_bytes(), 4096);
}

/// Two wait for notices of one session, and one of them looks when both have come: the other is woken, although nothing new will make
/// the session readable.
#[test]
fn who_looks_first_wakes_the_others() {
    let (transport, peer) = (Loopback::new(), LoopbackPeer::new(0));
    let mut offer = transport.offer(&peer);
    offer.parameters.push((NOTIFY.to_owned(), NOTIFY_IMMEDIATE.to_owned()));
    let pair = Pair::new(&transport, offer, LoopbackLink::new(peer));
    let [first, second] = [1, 2].map(|byte| pair.buffer(4096, byte).expose_target().unwrap());
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let other = &mut Context::from_waker(&waker);
    assert!(pair.session.poll_notice(2, other).is_pending());
    for (exposed, notice) in [(&first, 1), (&second, 2)] {
        let target = exposed.slice(0..4096).unwrap();
        let mut lease = pair.pool.try_acquire(4096).unwrap();
        lease.set_len(4096);
        let slot = pair.remote.credits().try_slot().unwrap();
        pair.drive(pair.remote.write_notify(slot, lease.freeze().into(), target, notice)).result.unwrap();
    }
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    assert!(pair.session.poll_notice(1, &mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(pair.session.poll_notice(2, other).is_ready());
}

/// A link whose every look finds what has come of all kinds, as that of a card does, and whose exposures all have one name.
#[derive(Default)]
struct Shared {
    /// What is on its way: notices, and whether the exposure has ended.
    coming: RefCell<VecDeque<u32>>,
    ending: Cell<bool>,
    /// What was found, and not taken.
    notices: RefCell<VecDeque<u32>>,
    ended: Cell<bool>,
    exposed: RefCell<Option<Box<[u8]>>>,
}

const KEY: u32 = 7;

impl Shared {
    fn hear(&self) {
        self.notices.borrow_mut().append(&mut self.coming.borrow_mut());
        if self.ending.take() {
            self.ended.set(true);
        }
    }

    fn slice(bytes: usize) -> RemoteSlice {
        RemoteSlice::new(4096, bytes as u64, RemoteKey(KEY)).unwrap()
    }
}

impl Link for Shared {
    type Memory = Box<[u8]>;

    fn allocate(&self, bytes: usize) -> Result<Box<[u8]>, LinkError> {
        Ok(vec![0; bytes].into())
    }

    fn expose(&self, memory: Box<[u8]>, _: Access) -> Result<RemoteSlice, (LinkError, Box<[u8]>)> {
        // Waits for its own, and finds all there is.
        self.hear();
        if self.exposed.borrow().is_some() {
            return Err((LinkError::Busy, memory));
        }
        let slice = Shared::slice(memory.len());
        *self.exposed.borrow_mut() = Some(memory);
        Ok(slice)
    }

    fn withdraw(&self, _: &RemoteSlice) {}

    fn poll(&self) -> Option<(RemoteSlice, Box<[u8]>)> {
        self.hear();
        let memory = self.ended.take().then(|| self.exposed.take())??;
        Some((Shared::slice(memory.len()), memory))
    }

    fn is_open(&self) -> bool {
        true
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_notified(&self) -> bool {
        true
    }

    fn take_notice(&self) -> Option<u32> {
        self.notices.borrow_mut().pop_front()
    }

    fn token(&self, _: &RemoteSlice) -> Option<String> {
        None
    }

    fn renew(&self) -> Option<Offer> {
        Some(Offer::default())
    }
}

/// One waits for a notice and one for a proof, and somebody else looks, for whatever reason: both are woken, since the look took what
/// would have told them.
#[test]
fn whoever_looks_for_whatever_wakes_all() {
    type Look = dyn Fn(&Session<Shared>, Buffer<Shared>);
    let looks: [(&str, &Look); 3] = [
        ("a poll", &|session, _| session.poll()),
        ("an exposure", &|_, buffer| drop(buffer.expose_target().unwrap_err())),
        ("a notice", &|session, _| assert!(!session.take_notice(1))),
    ];
    for (what, look) in looks {
        let session = Session::new(Shared::default());
        let woken = [0, 1].map(|_| Arc::new(Woken(AtomicUsize::new(0))));
        let wakers = woken.each_ref().map(|woken| Waker::from(Arc::clone(woken)));
        let mut withdrawal = session.buffer(4096).unwrap().expose_target().unwrap().withdraw();
        assert!(session.poll_notice(2, &mut Context::from_waker(&wakers[0])).is_pending());
        assert!(Pin::new(&mut withdrawal).poll(&mut Context::from_waker(&wakers[1])).is_pending());
        let another = session.buffer(10).unwrap();
        session.link().coming.borrow_mut().push_back(2);
        session.link().ending.set(true);
        look(&session, another);
        let woken = woken.map(|woken| woken.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 1], "{what}");
        assert!(session.take_notice(2));
        let polled = Pin::new(&mut withdrawal).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(_))));
    }
}

/// A notice that nobody took is of the exposure that it came for, and not of a later one that a card gives the same key, nor of one in a
/// session that was made anew.
#[test]
fn a_notice_is_not_taken_for_a_later_one() {
    let session = Session::new(Shared::default());
    let first = session.buffer(4096).unwrap().expose_target().unwrap();
    session.link().coming.borrow_mut().extend([KEY, 9]);
    session.poll();
    let mut withdrawal = first.withdraw();
    session.link().ending.set(true);
    let polled = Pin::new(&mut withdrawal).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(buffer)) = polled else { panic!("it has ended") };
    let second = buffer.expose_target().unwrap();
    assert!(!session.take_notice(KEY));
    assert!(session.take_notice(9), "somebody else's");
    session.link().coming.borrow_mut().push_back(KEY);
    session.poll();
    drop(session.renew().unwrap());
    assert!(!session.take_notice(KEY));
    drop(second);
}
