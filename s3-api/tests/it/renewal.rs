//! Sessions that were lost and are made anew, once for a call, where nothing can have come of the first try.

use crate::{
    bench::{ALICE, Bench},
    many_at_once::Asking,
};
use crossdock_s3::{
    client::{Client, ClientError, Fallback, Parallel, Policy, Way},
    protocol::http::Method,
};
use crossdock_transport::{
    exposure::{Link, LinkError, Session},
    loopback::{LoopbackLink, LoopbackPeer},
    remote::{Access, Answer, ConnectError, Offer, RemoteSlice, SessionId},
    simulated::{SimulatedFaults, SimulatedNic},
    token::RcToken,
};
use futures_lite::future::{block_on, zip};
use std::{
    cell::{Cell, RefCell},
    os::fd::BorrowedFd,
    sync::Arc,
    time::Duration,
};

/// A client of a simulated card. Its memory is good for any of its queue pairs.
pub(crate) struct SimulatedLink {
    nic: SimulatedNic,
    peer: RefCell<LoopbackPeer>,
    link: RefCell<LoopbackLink>,
    session: Cell<Option<SessionId>>,
    renewals: Cell<usize>,
    /// What it offers is nothing that anybody can connect to.
    is_hopeless: Cell<bool>,
    /// It finds no way to what answers.
    is_lost: Cell<bool>,
    /// What the server is taken to say of requests at a time.
    requests_max: Cell<usize>,
}

impl SimulatedLink {
    fn new(nic: &SimulatedNic) -> SimulatedLink {
        let peer = LoopbackPeer::new(0);
        let link = RefCell::new(LoopbackLink::new(peer.clone()));
        let (session, renewals, is_hopeless, is_lost) = Default::default();
        SimulatedLink {
            nic: nic.clone(),
            peer: RefCell::new(peer),
            link,
            session,
            renewals,
            is_hopeless,
            is_lost,
            requests_max: Cell::new(usize::MAX),
        }
    }
}

impl Link for SimulatedLink {
    type Memory = Box<[u8]>;

    fn allocate(&self, bytes: usize) -> Result<Box<[u8]>, LinkError> {
        Ok(vec![0; bytes].into())
    }

    fn expose(&self, memory: Box<[u8]>, access: Access) -> Result<RemoteSlice, (LinkError, Box<[u8]>)> {
        if self.is_open() {
            self.link.borrow().expose(memory, access)
        } else {
            Err((LinkError::Ended, memory))
        }
    }

    fn withdraw(&self, slice: &RemoteSlice) {
        self.link.borrow().withdraw(slice);
    }

    fn poll(&self) -> Option<(RemoteSlice, Box<[u8]>)> {
        self.link.borrow().poll()
    }

    fn is_open(&self) -> bool {
        self.session.get().is_some() && self.link.borrow().is_open()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn token(&self, slice: &RemoteSlice) -> Option<String> {
        Some(RcToken { session: self.session.get()?, slice: *slice }.to_string())
    }

    fn session(&self) -> Option<SessionId> {
        self.session.get()
    }

    fn requests_max(&self) -> usize {
        self.requests_max.get()
    }

    fn renew(&self) -> Option<Offer> {
        self.renewals.set(self.renewals.get() + 1);
        self.session.set(None);
        if !self.link.borrow().is_open() {
            let peer = LoopbackPeer::new(0);
            self.link.replace(LoopbackLink::new(peer.clone()));
            self.peer.replace(peer);
        }
        let mut offer = self.nic.offer(&self.peer.borrow());
        if self.is_hopeless.get() {
            offer.token = "nothing of the kind".to_owned();
        }
        Some(offer)
    }

    fn renewed(&self, answer: &Answer) -> Result<(), ConnectError> {
        if self.is_lost.get() {
            return Err(ConnectError::Unsupported("no way there"));
        }
        self.session.set(Some(answer.session));
        Ok(())
    }
}

/// A session of the client's with the server that has the card.
pub(crate) fn connected(nic: &SimulatedNic, client: &mut Client) -> Session<SimulatedLink> {
    let link = SimulatedLink::new(nic);
    let offer = nic.offer(&link.peer.borrow());
    link.renewed(&client.connect(&offer).unwrap()).unwrap();
    Session::new(link)
}

struct World {
    bench: Bench,
    nic: SimulatedNic,
}

impl World {
    fn new() -> World {
        let nic = SimulatedNic::new(SimulatedFaults::none(1));
        let bench = Bench::with(Some(Arc::new(nic.clone())));
        assert_eq!(bench.client(ALICE).call(Method::Put, "/bucket", &[], b"").status, 200);
        World { bench, nic }
    }

    fn client(&self, policy: Policy) -> Client {
        crate::client::client(&self.bench.host(), policy)
    }

    fn session(&self) -> Session<SimulatedLink> {
        connected(&self.nic, &mut self.client(Policy::Require))
    }

    /// The server forgets the session, as one that was not used for long.
    fn forget(&self, session: &Session<SimulatedLink>) {
        let name = session.link().session().unwrap();
        self.client(Policy::Require).disconnect(name).unwrap();
    }
}

#[test]
fn a_session_that_the_server_forgot_is_made_anew() {
    // Shows that a PUT and a GET which are told that there is no such session go on over a new one, also where nothing else is allowed,
    // and that what was stored is stored once.
    let world = World::new();
    let mut client = world.client(Policy::Require);
    let session = world.session();
    let mut buffer = session.buffer(300_000).unwrap();
    buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at * 7 + 1) as u8);
    let expected = buffer.to_vec();
    world.forget(&session);
    let stored = client.put_from("bucket", "key", &[("if-none-match", "*")], buffer, 300_000).unwrap();
    assert_eq!((stored.way, session.link().renewals.get()), (Way::Transport, 1));
    let mut buffer = stored.buffer;
    buffer.fill(0);
    world.forget(&session);
    let got = client.get_into("bucket", "key", None, buffer).unwrap();
    assert_eq!((got.way, got.bytes, session.link().renewals.get()), (Way::Transport, 300_000, 2));
    assert!(got.buffer[..] == expected[..]);
    // And nothing is made anew that is good.
    client.get_into("bucket", "key", None, got.buffer).unwrap();
    assert_eq!((session.link().renewals.get(), session.quarantined_bytes()), (2, 0));
}

#[test]
fn a_session_that_is_known_to_be_broken_is_made_anew_before_anything_is_sent() {
    // Shows a link that ended by itself, and that the server is told to let go of what it still has of it: far more in a row than one
    // principal may have at a time.
    let world = World::new();
    let mut client = world.client(Policy::Require);
    let session = world.session();
    let mut buffer = session.buffer(5000).unwrap();
    for round in 1..=200 {
        session.link().peer.borrow().vanish();
        let stored = client.put_from("bucket", "key", &[], buffer, 5000).unwrap();
        assert_eq!((stored.way, session.link().renewals.get()), (Way::Transport, round));
        buffer = stored.buffer;
    }
}

#[test]
fn a_session_that_can_not_be_made_anew_is_tried_once() {
    // Shows that a call which finds no new session falls back as before, or fails where it may not, after one try; and that the next
    // call tries again.
    let world = World::new();
    let session = world.session();
    let link = session.link();
    link.is_hopeless.set(true);
    world.forget(&session);
    let mut prefers = world.client(Policy::Prefer);
    let stored = prefers.put_from("bucket", "key", &[], session.buffer(10).unwrap(), 10).unwrap();
    assert_eq!((stored.way, link.renewals.get()), (Way::Http(Fallback::SessionEnded), 1));
    let mut insists = world.client(Policy::Require);
    let failed = insists.get_into("bucket", "key", None, stored.buffer).unwrap_err();
    assert!(matches!(failed.error, ClientError::NotMoved(Fallback::NotExposed)), "{failed:?}");
    assert_eq!(link.renewals.get(), 2);
    link.is_hopeless.set(false);
    let got = insists.get_into("bucket", "key", None, failed.buffer.unwrap()).unwrap();
    assert_eq!((got.way, got.bytes, link.renewals.get()), (Way::Transport, 10, 3));
}

#[test]
fn calls_that_lose_their_session_together_share_the_new_one() {
    // Shows calls at a time that all are told that there is no such session: one of them makes another, and the others wait for it, also where
    // nothing but the transport is allowed.
    let world = World::new();
    let session = world.session();
    let stored =
        world.client(Policy::Require).put_from("bucket", "key", &[], session.buffer(5000).unwrap(), 5000);
    drop(stored.unwrap());
    let client = crate::many_at_once::client(&world.bench, &Asking::default(), Policy::Require);
    for round in 1..=5 {
        world.forget(&session);
        let get = || async {
            let got = client.get_into("bucket", "key", None, session.buffer(5000).unwrap()).await.unwrap();
            assert_eq!((got.way, got.bytes), (Way::Transport, 5000));
        };
        block_on(zip(zip(get(), get()), zip(get(), get())));
        assert_eq!(session.link().renewals.get(), round);
    }
}

#[test]
fn a_session_that_can_not_be_reached_is_left_with_nobody() {
    // Shows that where this side finds no way to what the server answered, the server is told to let go of it.
    let world = World::new();
    let session = world.session();
    let buffer = session.buffer(10).unwrap();
    world.forget(&session);
    session.link().is_lost.set(true);
    let failed = world.client(Policy::Require).put_from("bucket", "key", &[], buffer, 10).unwrap_err();
    assert!(matches!(failed.error, ClientError::NotMoved(Fallback::SessionEnded)), "{failed:?}");
    assert_eq!(session.link().renewals.get(), 1);
    let sessions = (0..2).map(|core| {
        let count = world.bench.engine().on_core(core, |engine| async move {
            engine.core().endpoint("simulated").unwrap().session_count()
        });
        block_on(count).unwrap()
    });
    assert_eq!(sessions.sum::<usize>(), 0);
}

#[test]
fn parts_and_ranges_go_over_the_new_session() {
    // Shows that all parts of an upload, and all ranges of a download, which lost their session go over one new one.
    let world = World::new();
    let mut client = world.client(Policy::Require);
    let session = world.session();
    let parallel = Parallel { part_bytes: 5 << 20, in_flight: 3 };
    let bytes = 11 << 20;
    let mut buffer = session.buffer(bytes).unwrap();
    buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at.wrapping_mul(2_654_435_761) >> 11) as u8);
    let expected = buffer.to_vec();
    world.forget(&session);
    let uploaded = client.upload_from(("bucket", "key"), &[], buffer, bytes, parallel).unwrap();
    assert_eq!((uploaded.ways.over_transport, uploaded.ways.over_http), (3, 0));
    assert_eq!((uploaded.ways.fallback, session.link().renewals.get()), (None, 1));
    let mut buffer = uploaded.buffer;
    buffer.fill(0);
    world.forget(&session);
    let gathered = client.gather_into("bucket", "key", buffer, parallel).unwrap();
    assert_eq!((gathered.ways.over_transport, gathered.ways.over_http), (3, 0));
    assert_eq!((gathered.bytes, session.link().renewals.get()), (bytes, 2));
    assert!(gathered.buffer[..] == expected[..]);
}

/// What is not used ends, as if it had not been for long.
fn let_idle(bench: &Bench) {
    for core in 0..2 {
        let look = bench.engine().on_core(core, |engine| async move {
            let endpoint = engine.core().endpoint("shm").unwrap();
            let begin = Duration::from_nanos(engine.core().now().0);
            endpoint.expire_idle(begin);
            endpoint.expire_idle(begin + endpoint.limits().idle_max);
        });
        block_on(look).unwrap();
    }
}

#[test]
fn shared_memory_that_was_not_used_for_long_is_bound_again() {
    // Shows that a client which rested goes on over its memory, also where nothing else is allowed, one call or many at a time, parts and
    // ranges too; and that what moved bytes under the old name moves none under the new one.
    let bench = Bench::new();
    let mut client = crate::client::client(&bench.host(), Policy::Require);
    client.exchange(Method::Put, "/bucket", &[], b"").unwrap();
    let session = crate::client::session(&bench, &mut client);
    let mut buffer = session.buffer(300_000).unwrap();
    buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at * 7 + 1) as u8);
    let expected = buffer.to_vec();
    let first = session.link().session();
    let_idle(&bench);
    let stored = client.put_from("bucket", "key", &[], buffer, 300_000).unwrap();
    assert_eq!(stored.way, Way::Transport);
    assert_ne!(session.link().session(), first);
    let mut buffer = stored.buffer;
    buffer.fill(0);
    let_idle(&bench);
    let got = client.get_into("bucket", "key", None, buffer).unwrap();
    assert_eq!((got.way, got.bytes), (Way::Transport, 300_000));
    assert!(got.buffer[..] == expected[..]);
    let parallel = Parallel { part_bytes: 100_000, in_flight: 3 };
    let many = crate::many_at_once::client(&bench, &Asking::default(), Policy::Require);
    for _ in 0..3 {
        let_idle(&bench);
        let get = || async {
            let got = many.get_into("bucket", "key", None, session.buffer(5000 * 60).unwrap()).await.unwrap();
            assert_eq!((got.way, got.bytes), (Way::Transport, 300_000));
        };
        block_on(zip(get(), get()));
        let_idle(&bench);
        let gathered =
            block_on(many.gather_into("bucket", "key", session.buffer(300_000).unwrap(), parallel));
        assert_eq!(gathered.unwrap().ways.over_transport, 3);
    }
    assert_eq!(session.quarantined_bytes(), 0);
}

#[test]
fn a_session_has_no_more_requests_than_its_server_takes() {
    // Shows that parts and ranges go one at a time over a session whose server does not say that it takes more.
    let world = World::new();
    let session = world.session();
    let parallel = Parallel { part_bytes: 5 << 20, in_flight: 3 };
    let mut buffer = session.buffer(11 << 20).unwrap();
    for (requests_max, at_a_time) in [(1, 1), (2, 2), (64, 3)] {
        session.link().requests_max.set(requests_max);
        let runtime = Asking::default();
        let client = crate::many_at_once::client(&world.bench, &runtime, Policy::Require);
        let uploaded = client.upload_from(("bucket", "key"), &[], buffer, 11 << 20, parallel);
        let uploaded = block_on(uploaded).unwrap();
        let gathered = block_on(client.gather_into("bucket", "key", uploaded.buffer, parallel)).unwrap();
        assert_eq!((gathered.ways.over_transport, runtime.open.get().1), (3, at_a_time));
        buffer = gathered.buffer;
    }
}

#[test]
fn nothing_is_repeated_that_may_have_been_done() {
    // Shows that a PUT which failed under way is told as it is, and sent once: the caller decides.
    let world = World::new();
    let mut client = world.client(Policy::Prefer);
    let session = world.session();
    let memory = session.buffer(3 << 20).unwrap();
    // Exposed for one thing and named for the other: the server is refused.
    let exposed = memory.expose_target().unwrap();
    let token = exposed.token(0..3 << 20).unwrap();
    let mut http = world.bench.client(ALICE);
    let reply = http.call(Method::Put, "/bucket/other", &[("x-amz-rdma-token", &token)], b"");
    assert_eq!(reply.status, 500);
    drop(exposed);
    assert_eq!(session.link().renewals.get(), 0);
    // That broke the session; who asks next is told that there is none, and goes on over a new one.
    let stored = client.put_from("bucket", "key", &[], session.buffer(10).unwrap(), 10).unwrap();
    assert_eq!((stored.way, session.link().renewals.get()), (Way::Transport, 1));
}
