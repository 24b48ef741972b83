//! What cases stand on: an arena, an endpoint, and a loop that drives it.

use super::{Client, Subject};
use crate::{
    memory::{Arena, ArenaOptions, BufferLease, PagePolicy, Pool, ScatterList},
    operation::{Completion, Pending, Slot},
    remote::{
        Access, Endpoint, EndpointOptions, Offer, Principal, RemoteMemory, RemoteSlice, SessionId,
        SessionLimits,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    future::Future,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Bytes of a client's memory: more than the largest lease.
pub(super) const CLIENT_BYTES: usize = 6 << 20;

/// What memory holds that nobody should touch.
pub(super) const POISON: u8 = 0xa5;

/// Longest a case waits without a completion: rounds of 10 ms.
const ROUNDS_MAX: usize = 3000;

pub(super) struct World<'a> {
    pub(super) subject: &'a dyn Subject,
    pub(super) pool: Pool,
    pub(super) endpoint: Rc<dyn Endpoint>,
    pub(super) principal: Principal,
}

/// A session with its client.
pub(super) struct Connected {
    pub(super) id: SessionId,
    pub(super) session: Rc<dyn RemoteMemory>,
    pub(super) client: Box<dyn Client>,
}

pub(super) fn limits() -> SessionLimits {
    let idle_max = Duration::from_secs(300);
    SessionLimits { sessions_max: 6, principal_sessions_max: 4, credits: 8, idle_max }
}

pub(super) fn arena() -> Arena {
    let options = ArenaOptions { bytes: 32 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    Arena::map(&options).expect("32 MiB can be mapped")
}

pub(super) fn endpoint_options() -> EndpointOptions {
    let mut number = 0u64;
    let entropy = move |bytes: &mut [u8]| {
        number += 1;
        bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, entropy)| *byte = entropy);
    };
    EndpointOptions { core: 3, limits: limits(), entropy: Box::new(entropy) }
}

impl<'a> World<'a> {
    pub(super) fn new(subject: &'a dyn Subject) -> World<'a> {
        let arena = arena();
        subject.transport().register(&arena).expect("the first arena is taken");
        let endpoint = subject.transport().open(endpoint_options()).expect("the endpoint opens");
        World { subject, pool: arena.pool(0), endpoint, principal: Principal::new("alice") }
    }

    /// A session of the world's principal, its client's memory full of poison.
    pub(super) fn connect(&self) -> Connected {
        self.connect_by(|offer| offer)
    }

    /// As [`connect`](World::connect), by an offer that was changed.
    pub(super) fn connect_by(&self, change: impl FnOnce(Offer) -> Offer) -> Connected {
        let mut client = self.subject.client(CLIENT_BYTES);
        client.store(0, &vec![POISON; CLIENT_BYTES]);
        let offer = change(client.offer());
        let answer = self.endpoint.connect(&self.principal, offer).expect("the offer is good");
        client.answered(&answer);
        let id = answer.session;
        let session = self.endpoint.session(id, &self.principal).expect("it was just made");
        assert!(session.is_open());
        Connected { id, session, client }
    }

    /// An empty lease of at least `bytes`, full of poison.
    pub(super) fn lease(&self, bytes: usize) -> BufferLease {
        let mut lease = self.pool.try_acquire(bytes).expect("the arena is large enough for every case");
        lease.full_mut().fill(POISON);
        lease
    }

    /// A lease that holds a pattern.
    pub(super) fn filled(&self, bytes: usize, seed: u64) -> BufferLease {
        let mut lease = self.lease(bytes);
        lease.set_len(bytes);
        lease.as_mut_slice().iter_mut().zip(pattern(seed)).for_each(|(byte, pattern)| *byte = pattern);
        lease
    }

    /// Drives the endpoint until the operation is done, sleeping as a core does.
    pub(super) fn finish(&self, pending: Pending) -> Completion {
        let mut pending = pin!(pending);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..ROUNDS_MAX {
            if let Poll::Ready(completion) = pending.as_mut().poll(&mut context) {
                return completion;
            }
            self.endpoint.poll();
            if self.endpoint.begin_wait() {
                self.sleep();
            }
        }
        panic!("an operation was never completed");
    }

    /// Drives the endpoint until `done`.
    pub(super) fn drive(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..ROUNDS_MAX {
            self.endpoint.poll();
            self.pool.drain_returns();
            if done() {
                return;
            }
            if self.endpoint.begin_wait() {
                self.sleep();
            }
        }
        panic!("never: {what}");
    }

    /// Turns as a core does until it may sleep, and looks whether anything wakes it.
    pub(super) fn assert_sleeps(&self, when: &str) {
        for _ in 0..100 {
            self.endpoint.poll();
            if !self.endpoint.begin_wait() {
                continue;
            }
            let Some(descriptor) = self.endpoint.descriptor() else { return };
            let limit = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            if poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)) == Ok(0) {
                return;
            }
        }
        panic!("the core never sleeps {when}");
    }

    fn sleep(&self) {
        let Some(descriptor) = self.endpoint.descriptor() else { return };
        let limit = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
        // A signal ends it early, which is a round like any other.
        let _ = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit));
    }

    /// Every lease came back.
    pub(super) fn assert_balanced(&self) {
        self.pool.drain_returns();
        assert_eq!(self.pool.leases(), 0, "leases that did not come back");
    }
}

impl Connected {
    pub(super) fn slot(&self) -> Slot {
        self.session.credits().try_slot().expect("the case keeps within the credits")
    }

    pub(super) fn write(&self, source: impl Into<ScatterList>, target: RemoteSlice) -> Pending {
        self.session.write(self.slot(), source.into(), target)
    }

    pub(super) fn read(&self, source: RemoteSlice, target: BufferLease) -> Pending {
        self.session.read(self.slot(), source, target)
    }

    /// The session still moves bytes.
    pub(super) fn assert_works(&mut self, world: &World<'_>) {
        let target = self.client.expose(0..4096, Access::Write);
        let lease = world.filled(4096, 77);
        let completion = world.finish(self.write(lease.freeze(), target));
        assert_eq!(completion.result, Ok(4096));
        assert_pattern(&self.client.load(0..4096), 77);
    }
}

/// Bytes that tell their place and their seed.
pub(super) fn pattern(seed: u64) -> impl Iterator<Item = u8> {
    (0u64..).map(move |place| {
        let mixed = (place ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 32) as u8
    })
}

/// # Panics
/// At the first byte that differs.
pub(super) fn assert_pattern(bytes: &[u8], seed: u64) {
    let wrong = bytes.iter().zip(pattern(seed)).position(|(byte, expected)| *byte != expected);
    assert_eq!(wrong, None, "the first wrong byte of {}", bytes.len());
}

/// # Panics
/// At the first byte that is not poison.
pub(super) fn assert_untouched(bytes: &[u8]) {
    assert_eq!(bytes.iter().position(|byte| *byte != POISON), None, "a byte that was touched");
}
