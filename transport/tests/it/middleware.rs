//! Transports with something in front: still transports.

use crate::loopback::LoopbackSubject;
use crossdock_transport::{
    conformance::{Client, Subject},
    conformance_suite,
    loopback::{Loopback, LoopbackPeer},
    memory::{Arena, ArenaOptions, PagePolicy},
    middleware::{Faults, Middleware, Tracer, Wrapped},
    remote::{Access, EndpointOptions, Principal, SessionLimits, TransferError, Transport},
};
use std::{
    future::Future,
    pin::pin,
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
