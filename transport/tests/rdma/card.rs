//! A card, with clients of it for the conformance suite, and what tests of one session stand on.

use crossdock_transport::{
    conformance::{Client, Subject},
    memory::{Arena, BufferLease, Pool},
    operation::{Completion, Pending},
    rdma::{Rdma, RdmaClient, RdmaClientOptions, RdmaOptions, Revocation},
    remote::{
        Access, Answer, Endpoint, EndpointOptions, Offer, Principal, RemoteMemory, RemoteSlice, SessionId,
        SessionLimits, Transport,
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    cell::Cell,
    future::Future,
    ops::Range,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

pub(crate) struct Card {
    pub(crate) transport: Rdma,
    revocation: Revocation,
    clients: Cell<u32>,
}

impl Card {
    pub(crate) fn with_windows() -> Card {
        Card::new(Revocation::Windows)
    }

    pub(crate) fn with_registrations() -> Card {
        Card::new(Revocation::Registrations)
    }

    fn new(revocation: Revocation) -> Card {
        let transport = Rdma::open(&RdmaOptions::default()).expect("this host has a card");
        Card { transport, revocation, clients: Cell::new(0) }
    }

    pub(crate) fn client(&self, bytes: usize) -> RdmaClient {
        let options = RdmaClientOptions { revocation: Some(self.revocation), ..self.default_options(bytes) };
        RdmaClient::new(&options).expect("a client of this host's card")
    }

    pub(crate) fn default_options(&self, bytes: usize) -> RdmaClientOptions {
        let number = self.clients.get() + 1;
        self.clients.set(number);
        RdmaClientOptions {
            device: None,
            server: None,
            bytes,
            revocation: None,
            sequence: number * 1000,
            messages: true,
            notices: true,
        }
    }
}

impl Subject for Card {
    fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    fn client(&self, bytes: usize) -> Box<dyn Client> {
        Box::new(Peer(Some(Card::client(self, bytes))))
    }
}

/// None once it vanished.
struct Peer(Option<RdmaClient>);

impl Peer {
    fn client(&self) -> &RdmaClient {
        self.0.as_ref().expect("it did not vanish")
    }
}

impl Client for Peer {
    fn offer(&mut self) -> Offer {
        self.client().offer()
    }

    fn answered(&mut self, answer: &Answer) {
        self.client().connect(answer).expect("the answer is good");
    }

    fn expose(&mut self, range: Range<usize>, access: Access) -> RemoteSlice {
        self.client().expose(range, access).expect("the connection is open")
    }

    fn revoke(&mut self, slice: &RemoteSlice) {
        self.client().withdraw(slice);
        while self.client().poll() != Some(*slice) {}
    }

    fn load(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        self.client().load(range.start, &mut bytes);
        bytes
    }

    fn store(&mut self, at: usize, source: &[u8]) {
        self.client().store(at, source);
    }

    fn send(&mut self, message: &[u8]) -> bool {
        self.client().send(message).is_ok()
    }

    fn take_message(&mut self) -> Option<Vec<u8>> {
        self.client().take_message()
    }

    fn take_notice(&mut self) -> Option<u32> {
        self.client().take_notice()
    }

    fn vanish(&mut self) {
        self.0 = None;
    }
}

/// Options of an endpoint whose sessions have so many credits.
pub(crate) fn endpoint_options(credits: usize) -> EndpointOptions {
    let mut number = 0u64;
    let entropy = move |bytes: &mut [u8]| {
        number += 1;
        bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, entropy)| *byte = entropy);
    };
    let idle_max = Duration::from_secs(300);
    let limits = SessionLimits { sessions_max: 16, principal_sessions_max: 16, credits, idle_max };
    EndpointOptions { core: 0, limits, entropy: Box::new(entropy) }
}

/// A server's side: an endpoint on a card, and an arena.
pub(crate) struct Side {
    pub(crate) card: Card,
    pub(crate) pool: Pool,
    pub(crate) endpoint: Rc<dyn Endpoint>,
    pub(crate) principal: Principal,
}

/// Rounds of 10 ms that a test waits at most.
const ROUNDS_MAX: usize = 3000;

impl Side {
    pub(crate) fn new(card: Card) -> Side {
        let arena = crate::drive::arena(64 << 20);
        let pool = arena.pool(0);
        Side::with_arena_and_pool(card, arena, pool)
    }

    pub(crate) fn with_arena_and_pool(card: Card, arena: Arena, pool: Pool) -> Side {
        Side::with_credits(card, arena, pool, 16)
    }

    pub(crate) fn with_credits(card: Card, arena: Arena, pool: Pool, credits: usize) -> Side {
        card.transport.register(&arena).expect("the card takes the arena");
        let endpoint = card.transport.open(endpoint_options(credits)).expect("the endpoint opens");
        Side { pool, card, endpoint, principal: Principal::new("alice") }
    }

    /// A client, connected.
    pub(crate) fn connect(&self, bytes: usize) -> Connected {
        let client = self.card.client(bytes);
        let answer = self.endpoint.connect(&self.principal, client.offer()).expect("the offer is good");
        client.connect(&answer).expect("the answer is good");
        let session = self.endpoint.session(answer.session, &self.principal).expect("it was just made");
        Connected { id: answer.session, session, client }
    }

    pub(crate) fn filled(&self, bytes: usize, seed: u8) -> BufferLease {
        self.pool.drain_returns();
        let mut lease = self.pool.try_acquire(bytes).expect("the arena has room");
        lease.set_len(bytes);
        crate::drive::fill(lease.as_mut_slice(), seed);
        lease
    }

    /// Drives the endpoint until `done`.
    pub(crate) fn drive(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..ROUNDS_MAX {
            self.endpoint.poll();
            if done() {
                return;
            }
            if self.endpoint.begin_wait() {
                let limit = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
                let descriptor = self.endpoint.descriptor().expect("it has one");
                let _ = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit));
            }
        }
        panic!("never: {what}");
    }

    pub(crate) fn finish(&self, pending: Pending) -> Completion {
        let mut pending = pin!(pending);
        let mut completion = None;
        self.drive("an operation completes", || {
            let polled = pending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(done) = polled else { return false };
            completion = Some(done);
            true
        });
        completion.expect("it was driven until there is one")
    }
}

pub(crate) struct Connected {
    pub(crate) id: SessionId,
    pub(crate) session: Rc<dyn RemoteMemory>,
    pub(crate) client: RdmaClient,
}

impl Connected {
    pub(crate) fn write(&self, lease: BufferLease, target: RemoteSlice) -> Pending {
        let slot = self.session.credits().try_slot().expect("the test keeps within the credits");
        self.session.write(slot, lease.freeze().into(), target)
    }

    pub(crate) fn read(&self, source: RemoteSlice, lease: BufferLease) -> Pending {
        let slot = self.session.credits().try_slot().expect("the test keeps within the credits");
        self.session.read(slot, source, lease)
    }

    pub(crate) fn load(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        self.client.load(range.start, &mut bytes);
        bytes
    }
}
