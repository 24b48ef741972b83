//! Memory that the kernel does not let be pinned.

use crate::card::{Card, Side};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy},
    rdma::{Rdma, RdmaClient, RdmaClientOptions, RdmaError, RdmaOptions, Revocation},
    remote::{Access, Transport},
};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities},
};
use std::io;

/// Runs something in a thread that is limited in what it locks, as one without privileges is. A device serves only whoever is as
/// privileged as when it was opened, so all of a case is in there.
fn unprivileged<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let limited = scope.spawn(|| {
            let CapabilitySets { effective, permitted, inheritable } = capabilities(None).unwrap();
            let effective = effective.difference(CapabilitySet::IPC_LOCK);
            set_capabilities(None, CapabilitySets { effective, permitted, inheritable }).unwrap();
            run()
        });
        limited.join().expect("what ran did not panic")
    })
}

/// Runs something while so many bytes may be locked. The limit is the process's; tests take turns.
fn limited<R>(bytes: u64, run: impl FnOnce() -> R) -> R {
    let before = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum: before.maximum }).unwrap();
    let result = run();
    setrlimit(Resource::Memlock, before).unwrap();
    result
}

fn arena(bytes: usize) -> Arena {
    let options = ArenaOptions { bytes, pools: 1, pages: PagePolicy::Plain, prefault: false };
    Arena::map(&options).unwrap()
}

#[test]
fn an_arena_that_can_not_be_pinned_is_a_typed_error() {
    // Shows that the refusal is told with its verb, that a transport which need not be there goes on without, and that nothing is left
    // behind: the same arena is taken when the limit is gone.
    unprivileged(|| {
        let arena = arena(64 << 20);
        let (error, optional) = limited(1 << 20, || {
            let refused = Rdma::open(&RdmaOptions::default()).unwrap().register(&arena).unwrap_err();
            let optional = Rdma::open(&RdmaOptions { optional: true, ..RdmaOptions::default() }).unwrap();
            (refused, optional.register(&arena).map(|()| optional.rails()))
        });
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
        assert!(error.to_string().contains("ibv_reg_mr"), "{error}");
        assert!(optional.unwrap().iter().all(|(_, usable)| !usable));
        Rdma::open(&RdmaOptions::default()).unwrap().register(&arena).unwrap();
    });
}

#[test]
fn a_client_that_can_not_pin_its_memory_is_told_so() {
    // Shows the same for a client: its whole memory where that has windows, or one exposure, and that the session goes on.
    unprivileged(|| {
        let card = Card::with_windows();
        let options =
            RdmaClientOptions { revocation: Some(Revocation::Windows), ..card.default_options(16 << 20) };
        let refused = limited(64 << 10, || RdmaClient::new(&options).map(drop));
        let Err(RdmaError::Device { what, source }) = refused else { panic!("{refused:?}") };
        assert_eq!((what, source.kind()), ("ibv_reg_mr", io::ErrorKind::OutOfMemory));

        let side = Side::new(Card::with_registrations());
        let pair = side.connect(8 << 20);
        let refused = limited(64 << 10, || pair.client.expose(0..8 << 20, Access::Write));
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::OutOfMemory));
        let target = pair.client.expose(0..1 << 20, Access::Write).unwrap();
        assert_eq!(side.finish(pair.write(side.filled(1 << 20, 3), target)).result, Ok(1 << 20));
    });
}
