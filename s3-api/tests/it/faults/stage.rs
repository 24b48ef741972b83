//! What the table of faults is tried on: a server with a card, simulated or not, and clients that see all of their memory.

use crate::bench::{ALICE, Bench, Client, Reply};
use crossdock_s3::{client, protocol::http::Method};
use crossdock_transport::{
    middleware::{Fate, Middleware, Observed, Wrapped},
    remote::{Access, RemoteSlice, SessionId, TransferError, Transport},
    shm::ShmClient,
    token::{RcToken, ShmToken},
};
use std::{
    ops::Range,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub(super) const POISON: u8 = 0xa5;
pub(super) const MARGIN: usize = 4096;
pub(crate) const TOKEN: &str = "x-amz-rdma-token";
pub(crate) const REPLY: &str = "x-amz-rdma-reply";
pub(crate) const SESSION: &str = "x-amz-rdma-session";
pub(super) const TIMEOUT: (&str, &str) = ("x-amz-rdma-timeout-ms", "60000");
/// How long something may take that happens at once on a machine at rest.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A kind of card, and clients of it.
pub(crate) trait Fabric {
    /// What the server has, behind `watch`.
    fn transport(&self, watch: &Arc<Watch>) -> Arc<dyn Transport>;

    /// A client with so many zeros, connected.
    fn connect(
        &self,
        client: &mut client::Client,
        bytes: usize,
    ) -> Result<(Box<dyn Memory>, SessionId), client::ClientError>;

    /// Bytes of an object that takes long enough to meddle with.
    fn body_bytes(&self) -> usize;
}

/// The memory of a client. Dropping it is the client's end: of its queue pair too, if it has one.
pub(crate) trait Memory {
    fn expose(&self, range: Range<usize>, access: Access) -> RemoteSlice;

    /// Returns when it is proven.
    fn revoke(&self, slice: &RemoteSlice);

    fn load(&self, range: Range<usize>) -> Vec<u8>;

    fn store(&self, at: usize, bytes: &[u8]);

    /// Nothing reaches it any more, and nobody is told. Only of cards that are simulated.
    #[allow(dead_code, reason = "not in the tests on cards of this host")]
    fn fall_silent(&self) {
        unreachable!("a card of this host's can not be told to lose packets")
    }
}

/// Counts operations, slows them down, and holds them for ever if it is told to.
#[derive(Default)]
pub(crate) struct Watch {
    begun: AtomicU64,
    hold: AtomicBool,
    lose: AtomicBool,
    /// Polls before each operation.
    polls: AtomicU64,
}

impl Watch {
    /// The transport, watched.
    pub(crate) fn over<T: Transport + 'static>(self: &Arc<Watch>, inner: T) -> Arc<dyn Transport> {
        let watch = self.clone();
        Arc::new(Wrapped::new(inner, move |_| Rc::new(Watching(watch.clone())) as _))
    }

    /// Operations that were begun.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    pub(crate) fn slow_down(&self, polls: u32) {
        self.polls.store(polls.into(), Ordering::SeqCst);
    }

    /// Of what is begun from now on nobody is told that it is done.
    #[allow(dead_code, reason = "not in the tests on cards of this host")]
    pub(crate) fn lose(&self, lose: bool) {
        self.lose.store(lose, Ordering::SeqCst);
    }

    pub(crate) fn hold(&self, hold: bool) {
        self.hold.store(hold, Ordering::SeqCst);
    }
}

struct Watching(Arc<Watch>);

impl Middleware for Watching {
    fn before(&self, _: &Observed) -> Fate {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        if self.0.lose.load(Ordering::SeqCst) {
            return Fate::Lost;
        }
        match (self.0.hold.load(Ordering::SeqCst), self.0.polls.load(Ordering::SeqCst)) {
            (true, _) => Fate::Delay(u32::MAX),
            (false, 0) => Fate::Pass,
            (false, polls) => Fate::Delay(u32::try_from(polls).unwrap_or(u32::MAX)),
        }
    }

    fn after(&self, _: &Observed, _: Result<u32, TransferError>) {}
}

/// A server with a card, and an object.
pub(crate) struct Stage {
    pub(super) bench: Bench,
    pub(super) watch: Arc<Watch>,
    /// Bytes of `/bucket/key`.
    pub(super) body: usize,
    fabric: Box<dyn Fabric>,
    /// Leases that are out when nobody is there.
    at_rest: Vec<usize>,
}

impl Stage {
    pub(crate) fn new(fabric: impl Fabric + 'static) -> Stage {
        Stage::patient(fabric, Duration::from_secs(1))
    }

    /// A server that lets what was begun take so long to end.
    pub(crate) fn patient(fabric: impl Fabric + 'static, grace: Duration) -> Stage {
        let watch = Arc::<Watch>::default();
        let bench = Bench::patient(fabric.transport(&watch), grace);
        let (at_rest, body) = (bench.leases(), fabric.body_bytes());
        let stage = Stage { bench, watch, body, fabric: Box::new(fabric), at_rest };
        assert_eq!(stage.http().call(Method::Put, "/bucket", &[], b"").status, 200);
        assert_eq!(stage.http().call(Method::Put, "/bucket/key", &[], &pattern(body, 1)).status, 200);
        stage
    }

    pub(super) fn http(&self) -> Client {
        self.bench.client(ALICE)
    }

    /// A client with memory, all of it poison, and a session.
    pub(super) fn peer(&self) -> Peer {
        self.try_peer(&mut library(&self.bench), self.body).unwrap()
    }

    /// The same with room for so many bytes, unless the server has none for another.
    pub(super) fn try_peer(
        &self,
        client: &mut client::Client,
        room: usize,
    ) -> Result<Peer, client::ClientError> {
        let bytes = room + 2 * MARGIN;
        let (memory, session) = self.fabric.connect(client, bytes)?;
        memory.store(0, &vec![POISON; bytes]);
        Ok(Peer { memory, session, bytes })
    }

    /// The same store, served by a new process of which nobody remembers anything, over the same kind of card.
    pub(super) fn restart(self) -> Stage {
        let Stage { bench, watch, body, fabric, at_rest } = self;
        let bench = bench.restart(Some(fabric.transport(&watch)));
        Stage { bench, watch, body, fabric, at_rest }
    }

    /// Sends the request from a thread of its own.
    pub(super) fn call(&self, method: Method, path: &'static str, token: &str) -> JoinHandle<Reply> {
        let (mut http, token) = (self.http(), token.to_owned());
        #[allow(clippy::disallowed_methods, reason = "a client that does two things at once")]
        thread::spawn(move || http.call(method, path, &[(TOKEN, &token), TIMEOUT], b""))
    }

    pub(super) fn begun(&self) -> u64 {
        self.watch.begun()
    }

    /// Waits until bytes move of a transfer that was begun after `before` was counted.
    pub(super) fn wait_for_middle(&self, before: u64, peer: &Peer, method: Method) {
        let first = MARGIN..MARGIN + 4096;
        let moving = || match method {
            Method::Get => peer.memory.load(first.clone()).iter().any(|byte| *byte != POISON),
            _ => self.begun() > before,
        };
        wait_until("bytes move", moving);
        if method == Method::Put {
            // A lease of the window is under way now, and three more.
            pause(Duration::from_millis(20));
        }
    }

    /// That nothing is stored by half, that other clients are served, over the card and beside it, and that every lease comes home.
    pub(super) fn assert_unharmed(self) {
        self.watch.slow_down(0);
        let another = self.peer();
        let (_, token) = another.expose(Access::Write);
        let reply = self.http().call(Method::Get, "/bucket/key", &[(TOKEN, &token), TIMEOUT], b"");
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")));
        assert!(another.memory.load(MARGIN..MARGIN + self.body) == pattern(self.body, 1));
        another.assert_untouched_outside(self.body);
        drop(another);
        self.assert_others_unharmed();
    }

    /// The same without the card.
    pub(super) fn assert_others_unharmed(self) {
        assert_eq!(self.http().call(Method::Head, "/bucket/new", &[], b"").status, 404);
        let mut http = self.http();
        assert!(http.call(Method::Get, "/bucket/key", &[], b"").body == pattern(self.body, 1));
        let (memory, session) = shm(&self.bench);
        memory.store(0, &pattern(300_000, 5));
        let slice = memory.expose(0..300_000, Access::Read).unwrap();
        let token = ShmToken::new(session, slice.address(), slice.bytes()).unwrap().to_string();
        let reply = http.call(Method::Put, "/bucket/after", &[(TOKEN, &token)], b"");
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")));
        assert!(http.call(Method::Get, "/bucket/after", &[], b"").body == pattern(300_000, 5));
        drop((http, memory));
        wait_until("every lease is home", || {
            self.bench.leases().iter().zip(&self.at_rest).all(|(now, rest)| now <= rest)
        });
    }
}

pub(super) struct Peer {
    pub(super) memory: Box<dyn Memory>,
    pub(super) session: SessionId,
    bytes: usize,
}

impl Peer {
    /// All but the margins.
    pub(super) fn expose(&self, access: Access) -> (RemoteSlice, String) {
        self.expose_bytes(self.bytes - 2 * MARGIN, access)
    }

    pub(super) fn expose_bytes(&self, bytes: usize, access: Access) -> (RemoteSlice, String) {
        let slice = self.memory.expose(MARGIN..MARGIN + bytes, access);
        (slice, RcToken { session: self.session, slice }.to_string())
    }

    /// Bytes beside the room are poison, as before.
    pub(super) fn assert_untouched_outside(&self, room: usize) {
        let bytes = self.memory.load(0..self.bytes);
        let mut outside = bytes[..MARGIN].iter().chain(&bytes[MARGIN + room..]);
        assert!(outside.all(|byte| *byte == POISON), "beside the room");
    }
}

pub(crate) fn pattern(bytes: usize, seed: u32) -> Vec<u8> {
    // Never the poison, so that what moved is seen.
    let byte = |at: u32| match (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8 {
        POISON => 0,
        byte => byte,
    };
    (0..bytes as u32).map(byte).collect()
}

#[allow(clippy::disallowed_methods, reason = "a test has the system's clock")]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        pause(Duration::from_millis(2));
    }
}

#[allow(clippy::disallowed_methods, reason = "a test has the system's clock")]
pub(super) fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// A client of the library, which signs as alice.
pub(super) fn library(bench: &Bench) -> client::Client {
    library_at(&bench.host())
}

pub(super) fn library_at(host: &str) -> client::Client {
    let (key, secret) = ALICE;
    let credentials =
        client::Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    client::Client::new(host, credentials, crate::bench::now)
}

/// Shared memory that is alice's.
pub(super) fn shm(bench: &Bench) -> (ShmClient, SessionId) {
    let (memory, session) = bench.memory(1 << 20);
    let session = SessionId::from_bytes(session);
    library(bench).bind(session).unwrap();
    (memory, session)
}
