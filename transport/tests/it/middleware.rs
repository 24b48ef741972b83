//! Transports with something in front: still transports.

use crate::loopback::LoopbackSubject;
use crossdock_transport::{
    conformance::{Client, Subject},
    conformance_suite,
    loopback::{Loopback, LoopbackPeer},
    memory::{Arena, ArenaOptions, PagePolicy, Pool},
    middleware::{Fate, Faults, Middleware, Observed, Tracer, Wrapped},
    operation::Pending,
    remote::{
        Access, Endpoint, EndpointOptions, Principal, RemoteMemory, RemoteSlice, SessionId, SessionLimits,
        TransferError, Transport,
    },
};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// A wrapped transport; its clients are those of what is wrapped.
struct WrappedSubject {
    inner: LoopbackSubject,
    transport: Wrapped<Loopback>,
}

impl WrappedSubject {
    fn new(make: impl Fn() -> Rc<dyn Middleware> + Send + Sync + 'static) -> WrappedSubject {
        let inner = LoopbackSubject::default();
        let transport = Wrapped::new(inner.loopback().clone(), move |_core| make());
        WrappedSubject { inner, transport }
    }
}

impl Subject for WrappedSubject {
    fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    fn client(&self, bytes: usize) -> Box<dyn Client> {
        self.inner.client(bytes)
    }
}

fn late() -> Rc<dyn Middleware> {
    let mut faults = Faults::new(7);
    (faults.delay_per_1024, faults.delay_polls_max) = (700, 3);
    Rc::new(faults)
}

conformance_suite!(conforms_traced, WrappedSubject::new(|| Rc::new(Tracer::default())));
conformance_suite!(conforms_delayed, WrappedSubject::new(late));
conformance_suite!(conforms_kept_back, WrappedSubject::new(kept_back));

fn kept_back() -> Rc<dyn Middleware> {
    let mut faults = Faults::new(11);
    (faults.late_per_1024, faults.late_polls_max) = (700, 3);
    Rc::new(faults)
}

/// Operations of a session fare as its name is told to.
#[derive(Default)]
struct Fates(RefCell<Vec<(SessionId, Fate)>>);

impl Middleware for Fates {
    fn before(&self, operation: &Observed) -> Fate {
        let fates = self.0.borrow();
        fates.iter().find(|(session, _)| *session == operation.session).map_or(Fate::Pass, |(_, fate)| *fate)
    }

    fn after(&self, _: &Observed, _: Result<u32, TransferError>) {}
}

/// Two sessions behind a middleware that is told what becomes of the first one's operations.
struct Two {
    endpoint: Rc<dyn Endpoint>,
    pool: Pool,
    sessions: [(SessionId, Rc<dyn RemoteMemory>); 2],
    peer: LoopbackPeer,
    targets: [RemoteSlice; 2],
    principal: Principal,
}

impl Two {
    fn new(fate: Fate) -> Two {
        thread_local! {
            static FATES: Rc<Fates> = Rc::default();
        }
        let loopback = Loopback::new();
        let transport = Wrapped::new(loopback.clone(), |_core| {
            FATES.with(|fates| Rc::clone(fates) as Rc<dyn Middleware>)
        });
        let options = ArenaOptions { bytes: 8 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
        let arena = Arena::map(&options).unwrap();
        transport.register(&arena).unwrap();
        let counter = Cell::new(0);
        let entropy = Box::new(move |bytes: &mut [u8]| bytes.fill(counter.replace(counter.get() + 1)));
        let options = EndpointOptions { core: 0, limits: SessionLimits::default(), entropy };
        let endpoint = transport.open(options).unwrap();
        let (peer, principal) = (LoopbackPeer::new(8192), Principal::new("alice"));
        let targets = [0..4096, 4096..8192].map(|range| peer.expose(range, Access::Write));
        let sessions = [(); 2].map(|()| {
            let answer = endpoint.connect(&principal, loopback.offer(&peer)).unwrap();
            (answer.session, endpoint.session(answer.session, &principal).unwrap())
        });
        FATES.with(|fates| *fates.0.borrow_mut() = vec![(sessions[0].0, fate)]);
        Two { endpoint, pool: arena.pool(0), sessions, peer, targets, principal }
    }

    fn write(&self, session: usize) -> Pending {
        let mut lease = self.pool.try_acquire(4096).unwrap();
        lease.set_len(4096);
        lease.as_mut_slice().fill(1 + session as u8);
        let memory = &self.sessions[session].1;
        memory.write(memory.credits().try_slot().unwrap(), lease.freeze().into(), self.targets[session])
    }

    fn leases(&self) -> usize {
        self.pool.drain_returns();
        self.pool.leases()
    }
}

fn is_done(pending: &mut Pending) -> Option<Result<u32, TransferError>> {
    match Pin::new(pending).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(completion) => Some(completion.result.map_err(TransferError::from)),
        Poll::Pending => None,
    }
}

#[test]
fn what_is_kept_back_is_overtaken_by_other_sessions() {
    // Shows that its bytes are there at once, that another session's completes before it, one behind it on its own does not, and that the core
    // does not sleep over it.
    let two = Two::new(Fate::Late(5));
    let (mut first, mut behind, mut other) = (two.write(0), two.write(0), two.write(1));
    two.endpoint.poll();
    assert_eq!(is_done(&mut other), Some(Ok(4096)));
    assert_eq!(two.peer.with_bytes(|bytes| (bytes[0], bytes[4096])), (1, 2));
    let mut polls = 0;
    while is_done(&mut first).is_none() {
        assert!(is_done(&mut behind).is_none() && !two.endpoint.begin_wait());
        two.endpoint.poll();
        polls += 1;
    }
    assert!((4..=6).contains(&polls), "{polls}");
    while is_done(&mut behind).is_none() {
        two.endpoint.poll();
    }
    assert_eq!(two.leases(), 0);
}

#[test]
fn what_is_lost_comes_with_the_end_of_its_session() {
    // Shows that a completion which is lost has its memory for as long as the session lives, however often it is asked for, that other
    // sessions go on, that the core may sleep, and that the end brings all of it back.
    let two = Two::new(Fate::Lost);
    let (mut lost, mut behind, mut other) = (two.write(0), two.write(0), two.write(1));
    for _ in 0..1000 {
        two.endpoint.poll();
    }
    assert_eq!(is_done(&mut other), Some(Ok(4096)));
    assert_eq!(two.peer.with_bytes(|bytes| bytes[0]), 1, "the bytes were moved");
    assert_eq!((is_done(&mut lost), is_done(&mut behind)), (None, None));
    assert!(two.endpoint.begin_wait());
    // Whoever does not wait any more gets nothing back before the end either.
    drop(behind);
    two.endpoint.poll();
    assert_eq!(two.leases(), 2);
    assert!(two.endpoint.disconnect(two.sessions[0].0, &two.principal));
    two.endpoint.poll();
    assert_eq!(is_done(&mut lost), Some(Err(TransferError::Ended)));
    assert_eq!(two.leases(), 0);
}

/// Writes 200 times behind `middleware` and gives the results in order.
fn results(middleware: fn() -> Rc<dyn Middleware>) -> Vec<Result<u32, TransferError>> {
    let loopback = Loopback::new();
    let transport = Wrapped::new(loopback.clone(), move |_core| middleware());
    let options = ArenaOptions { bytes: 8 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    let arena = Arena::map(&options).unwrap();
    transport.register(&arena).unwrap();
    let pool = arena.pool(0);
    let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(1));
    let options = EndpointOptions { core: 0, limits: SessionLimits::default(), entropy };
    let endpoint = transport.open(options).unwrap();
    let (peer, principal) = (LoopbackPeer::new(4096), Principal::new("alice"));
    let target = peer.expose(0..4096, Access::Write);
    let answer = endpoint.connect(&principal, loopback.offer(&peer)).unwrap();
    let session = endpoint.session(answer.session, &principal).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let results = (0u8..200).map(|number| {
        let mut lease = pool.try_acquire(4096).unwrap();
        lease.set_len(4096);
        lease.as_mut_slice().fill(number);
        let before = peer.with_bytes(|bytes| bytes[0]);
        let slot = session.credits().try_slot().unwrap();
        let mut sent = pin!(session.write(slot, lease.freeze().into(), target));
        let completion = loop {
            endpoint.poll();
            if let Poll::Ready(completion) = sent.as_mut().poll(&mut context) {
                break completion;
            }
        };
        let written = peer.with_bytes(|bytes| bytes[0]);
        assert_eq!(written, if completion.result.is_ok() { number } else { before });
        completion.result.map_err(TransferError::from)
    });
    let results = results.collect();
    pool.drain_returns();
    assert_eq!(pool.leases(), 0);
    results
}

#[test]
fn faults_are_the_same_in_every_run() {
    // Shows that faults happen at about their rate, move no byte, keep no lease, and come again with their seed.
    let half: fn() -> Rc<dyn Middleware> = || {
        let mut faults = Faults::new(3);
        (faults.fail_per_1024, faults.delay_per_1024) = (512, 512);
        Rc::new(faults)
    };
    let first = results(half);
    assert_eq!(first, results(half));
    let failed = first.iter().filter(|result| **result == Err(TransferError::TimedOut)).count();
    assert!((60..140).contains(&failed), "{failed} of 200 failed");
    assert!(first.iter().all(|result| matches!(result, Ok(4096) | Err(TransferError::TimedOut))));
}

#[test]
fn a_tracer_counts() {
    // Shows that operations, failures and bytes are counted by direction.
    thread_local! {
        static TRACER: Rc<Tracer> = Rc::default();
    }
    let results = results(|| TRACER.with(|tracer| Rc::clone(tracer) as Rc<dyn Middleware>));
    assert_eq!(results, vec![Ok(4096); 200]);
    let counts = TRACER.with(|tracer| tracer.counts());
    assert_eq!(
        (counts.posted, counts.failed, counts.read_bytes, counts.written_bytes),
        (200, 0, 0, 200 * 4096)
    );
}
