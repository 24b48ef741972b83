//! What goes wrong under way, and what becomes of it: the client is told what it can rely on, nothing is stored by half, every lease
//! comes home, and the server goes on.
//!
//! | fault | here | on a card, in the virtual machine (`tests/rdma/faults.rs`) |
//! |---|---|---|
//! | queue pair killed in mid-GET and mid-PUT | `a_connection_that_breaks_in_the_middle` | `memory_that_is_not_there_is_a_typed_failure` |
//! | client process killed | `a_process_that_is_killed`, `a_client_that_vanishes_in_the_middle` | `a_client_that_goes_in_the_middle_harms_nobody` |
//! | rkey revoked under way | `memory_that_is_revoked_in_the_middle` | `memory_that_is_not_there_is_a_typed_failure` |
//! | range beyond the object | `ranges_beyond_the_object` | |
//! | token smaller than the object | `remote::what_can_not_be_served_is_declined` | `objects::objects_of_every_size_go_both_ways` |
//! | two requests on one buffer | `two_requests_on_one_buffer` | |
//! | connect storms | `a_storm_of_clients` | `a_session_is_its_principals_and_sessions_are_bounded` |
//! | disconnect with transfers in flight | `a_disconnect_in_the_middle` | `a_disconnect_ends_what_is_under_way` |
//! | HTTP connection closed in the middle | `a_connection_that_is_closed_cancels` | |
//! | server restart between connect and PUT | `a_server_that_restarts` | `bad_offers_and_false_sessions_are_answered` |
//! | a server that ignores the token | `client::a_server_that_knows_nothing_is_not_believed` | |
//! | replies lost, reordered, with a wrong count | `client::replies_that_are_lost_or_wrong_prove_nothing` | |
//! | a transfer that hangs | `a_transfer_that_hangs_is_ended` | |
//!
//! The card here is simulated: slow, so that there is a middle, and with the faults of a real one.

use crate::bench::{ALICE, Bench, Client, Reply};
use crossdock_s3::{client, protocol::http::Method, server::render};
use crossdock_transport::{
    loopback::LoopbackPeer,
    middleware::{Fate, Middleware, Observed, Wrapped},
    remote::{Access, RemoteSlice, SessionId, TransferError},
    shm::{ShmClient, same_user_or_root},
    simulated::{SimulatedFaults, SimulatedNic},
    token::{RcToken, ShmToken},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Command, Stdio},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const POISON: u8 = 0xa5;
const MARGIN: usize = 4096;
const BODY: usize = 3 << 20;
const TOKEN: &str = "x-amz-rdma-token";
const REPLY: &str = "x-amz-rdma-reply";
const SESSION: &str = "x-amz-rdma-session";
const TIMEOUT: (&str, &str) = ("x-amz-rdma-timeout-ms", "60000");
/// How long something may take that happens at once on a machine at rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts operations, and holds them for ever if it is told to.
#[derive(Default)]
struct Watch {
    begun: AtomicU64,
    hold: AtomicBool,
}

struct Watching(Arc<Watch>);

impl Middleware for Watching {
    fn before(&self, _: &Observed) -> Fate {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        if self.0.hold.load(Ordering::SeqCst) { Fate::Delay(u32::MAX) } else { Fate::Pass }
    }

    fn after(&self, _: &Observed, _: Result<u32, TransferError>) {}
}

/// A server with a simulated card.
struct Card {
    bench: Bench,
    nic: SimulatedNic,
    watch: Arc<Watch>,
    /// Leases that are out when nobody is there.
    at_rest: Vec<usize>,
}

impl Card {
    fn new(faults: SimulatedFaults) -> Card {
        Card::patient(faults, Duration::from_secs(1))
    }

    /// A server that lets what was begun take so long to end.
    fn patient(faults: SimulatedFaults, grace: Duration) -> Card {
        let nic = SimulatedNic::new(faults);
        let watch = Arc::<Watch>::default();
        let watching = watch.clone();
        let wrapped = Wrapped::new(nic.clone(), move |_| Rc::new(Watching(watching.clone())) as _);
        let bench = Bench::patient(Arc::new(wrapped), grace);
        let at_rest = bench.leases();
        let card = Card { bench, nic, watch, at_rest };
        assert_eq!(card.http().call(Method::Put, "/bucket", &[], b"").status, 200);
        assert_eq!(card.http().call(Method::Put, "/bucket/key", &[], &pattern(BODY, 1)).status, 200);
        card
    }

    /// A transfer of an object takes about a second.
    fn slow() -> SimulatedFaults {
        SimulatedFaults { delay_polls_max: 60, step_bytes_max: 1024, ..SimulatedFaults::none(1) }
    }

    fn http(&self) -> Client {
        self.bench.client(ALICE)
    }

    /// A client with memory, all of it poison, and a session.
    fn peer(&self) -> Peer {
        let memory = LoopbackPeer::new(BODY + 2 * MARGIN);
        memory.with_bytes(|bytes| bytes.fill(POISON));
        let answer = library(&self.bench).connect(&self.nic.offer(&memory)).unwrap();
        Peer { memory, session: answer.session }
    }

    /// Sends the request from a thread of its own.
    fn call(&self, method: Method, path: &'static str, token: &str) -> JoinHandle<Reply> {
        let (mut http, token) = (self.http(), token.to_owned());
        #[allow(clippy::disallowed_methods, reason = "a client that does two things at once")]
        thread::spawn(move || http.call(method, path, &[(TOKEN, &token), TIMEOUT], b""))
    }

    fn begun(&self) -> u64 {
        self.watch.begun.load(Ordering::SeqCst)
    }

    /// Waits until bytes move of a transfer that was begun after `before` was counted.
    fn wait_for_middle(&self, before: u64, peer: &Peer, method: Method) {
        let moving = || match method {
            Method::Get => peer.memory.with_bytes(|bytes| bytes[MARGIN..].iter().any(|byte| *byte != POISON)),
            _ => self.begun() > before,
        };
        wait_until("bytes move", moving);
        if method == Method::Put {
            // A lease of the window is under way now, and three more.
            pause(Duration::from_millis(20));
        }
    }

    /// That nothing is stored by half, that other clients are served, and that every lease comes home.
    fn assert_unharmed(self) {
        assert_eq!(self.http().call(Method::Head, "/bucket/new", &[], b"").status, 404);
        let mut http = self.http();
        assert!(http.call(Method::Get, "/bucket/key", &[], b"").body == pattern(BODY, 1));
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

struct Peer {
    memory: LoopbackPeer,
    session: SessionId,
}

impl Peer {
    fn expose(&self, access: Access) -> (RemoteSlice, String) {
        self.expose_bytes(BODY, access)
    }

    fn expose_bytes(&self, bytes: usize, access: Access) -> (RemoteSlice, String) {
        let slice = self.memory.expose(MARGIN..MARGIN + bytes, access);
        (slice, RcToken { session: self.session, slice }.to_string())
    }

    /// Bytes beside the room that are no poison any more.
    fn assert_untouched_outside(&self, room: usize) {
        self.memory.with_bytes(|bytes| {
            let outside = bytes[..MARGIN].iter().chain(&bytes[MARGIN + room..]);
            assert!(outside.copied().all(|byte| byte == POISON), "beside the room");
        });
    }
}

fn pattern(bytes: usize, seed: u32) -> Vec<u8> {
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
fn pause(duration: Duration) {
    thread::sleep(duration);
}

fn library(bench: &Bench) -> client::Client {
    let (key, secret) = ALICE;
    let credentials =
        client::Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    client::Client::new(&bench.host(), credentials, crate::bench::now)
}

/// Shared memory that is alice's.
fn shm(bench: &Bench) -> (ShmClient, SessionId) {
    let (memory, session) = bench.memory(1 << 20);
    let session = SessionId::from_bytes(session);
    library(bench).bind(session).unwrap();
    (memory, session)
}

/// What each fault comes to: a PUT is refused and stores nothing, a GET has its body all the same.
fn assert_failed(method: Method, reply: &Reply) {
    match method {
        Method::Put => {
            assert_eq!((reply.status, reply.header(REPLY)), (500, Some("500")));
            assert_eq!(reply.code(), "RDMATransferFailed");
            assert_eq!(reply.header("etag"), None);
        }
        _ => {
            assert_eq!((reply.status, reply.header(REPLY)), (200, Some("501")));
            assert!(reply.body == pattern(BODY, 1));
        }
    }
}

fn request(method: Method) -> (&'static str, Access) {
    match method {
        Method::Put => ("/bucket/new", Access::Read),
        _ => ("/bucket/key", Access::Write),
    }
}

/// Does something in the middle of a PUT and of a GET.
fn in_the_middle(meddle: impl Fn(&Card, &Peer, &RemoteSlice)) {
    for method in [Method::Put, Method::Get] {
        let card = Card::new(Card::slow());
        let peer = card.peer();
        let (path, access) = request(method);
        let (slice, token) = peer.expose(access);
        let before = card.begun();
        let call = card.call(method, path, &token);
        card.wait_for_middle(before, &peer, method);
        meddle(&card, &peer, &slice);
        assert_failed(method, &call.join().unwrap());
        peer.assert_untouched_outside(BODY);
        card.assert_unharmed();
    }
}

#[test]
fn a_connection_that_breaks_in_the_middle() {
    // Shows a queue pair that goes to its error state under way, after some of the bytes.
    for method in [Method::Put, Method::Get] {
        let card = Card::new(SimulatedFaults {
            seed: 11,
            step_bytes_max: 4096,
            disconnect_per_1024: 8,
            ..SimulatedFaults::none(11)
        });
        let peer = card.peer();
        let (path, access) = request(method);
        let (_, token) = peer.expose(access);
        assert_failed(method, &card.call(method, path, &token).join().unwrap());
        peer.assert_untouched_outside(BODY);
        // The client is to connect again, and is told so.
        let reply = card.call(method, path, &token).join().unwrap();
        assert_eq!((reply.status, &*reply.code()), (404, "NoSuchRDMASession"));
        card.assert_unharmed();
    }
}

#[test]
fn a_client_that_vanishes_in_the_middle() {
    // Shows a client whose memory is there no more under way.
    in_the_middle(|_, peer, _| peer.memory.vanish());
}

#[test]
fn memory_that_is_revoked_in_the_middle() {
    // Shows a key that is withdrawn under way: from then on no byte moves.
    in_the_middle(|_, peer, slice| {
        peer.memory.revoke(slice);
        let seen = peer.memory.with_bytes(|bytes| bytes.to_vec());
        pause(Duration::from_millis(50));
        assert!(peer.memory.with_bytes(|bytes| bytes == seen), "a byte moved after the key was withdrawn");
    });
}

#[test]
fn a_disconnect_in_the_middle() {
    // Shows a session that is ended from elsewhere under way.
    in_the_middle(|card, peer, _| library(&card.bench).disconnect(peer.session).unwrap());
}

#[test]
fn a_connection_that_is_closed_cancels() {
    // Shows that a client which closes its connection has its transfer ended before its time, and only that: its session goes on.
    for method in [Method::Put, Method::Get] {
        // However slow the machine, what was posted drains before the session would be ended for it.
        let card = Card::patient(Card::slow(), PATIENCE);
        let peer = card.peer();
        let (path, access) = request(method);
        let (_, token) = peer.expose(access);
        let head = card.http().request(method, path, &[(TOKEN, &token), TIMEOUT], b"");
        let before = card.begun();
        let mut connection = TcpStream::connect(card.bench.host()).unwrap();
        connection.write_all(&head).unwrap();
        card.wait_for_middle(before, &peer, method);
        connection.shutdown(Shutdown::Both).unwrap();
        wait_until("it is counted", || {
            render(card.bench.server.metrics(), &[], &[]).contains("reason=\"cancelled\"} 1")
        });
        // What had been posted is drained; of the window nothing more was posted.
        let posted = card.begun();
        assert!(posted - before <= 4, "{posted}");
        let cut = peer.memory.with_bytes(|bytes| bytes[MARGIN + BODY - 1] == POISON);
        assert!(method == Method::Put || cut || posted - before < 3);
        drop(connection);
        if method == Method::Get {
            // Nobody asks for the rest any more, and the session is as good as before.
            let (_, token) = peer.expose_bytes(1000, Access::Write);
            let mut http = card.http();
            http.call(Method::Put, "/bucket/small", &[], &[7; 1000]);
            let reply = http.call(Method::Get, "/bucket/small", &[(TOKEN, &token), TIMEOUT], b"");
            assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")));
        }
        card.assert_unharmed();
    }
}

#[test]
fn a_transfer_that_hangs_is_ended() {
    // Shows that a card which never completes anything holds a request up to its deadline and a second more, and that its session
    // is ended, so that its memory comes back.
    for method in [Method::Put, Method::Get] {
        let card = Card::new(SimulatedFaults::none(3));
        let peer = card.peer();
        let (path, access) = request(method);
        let (_, token) = peer.expose(access);
        card.watch.hold.store(true, Ordering::SeqCst);
        let short = ("x-amz-rdma-timeout-ms", "200");
        let reply = card.http().call(method, path, &[(TOKEN, &token), short], b"");
        assert_failed(method, &reply);
        let reply = card.http().call(method, path, &[(TOKEN, &token)], b"");
        assert_eq!((reply.status, &*reply.code()), (404, "NoSuchRDMASession"));
        card.watch.hold.store(false, Ordering::SeqCst);
        card.assert_unharmed();
    }
}

#[test]
fn ranges_beyond_the_object() {
    // Shows that a range behind the object's end is refused without touching memory, and one that reaches over it is cut there.
    let card = Card::new(SimulatedFaults::none(2));
    let peer = card.peer();
    let mut http = card.http();
    http.call(Method::Put, "/bucket/small", &[], &[7; 1000]);
    let (_, token) = peer.expose(Access::Write);
    let reply = http.call(Method::Get, "/bucket/small", &[(TOKEN, &token), ("range", "bytes=1000-")], b"");
    assert_eq!((reply.status, reply.header(REPLY), &*reply.code()), (416, None, "InvalidRange"));
    peer.assert_untouched_outside(0);
    let reply = http.call(Method::Get, "/bucket/small", &[(TOKEN, &token), ("range", "bytes=990-5000")], b"");
    assert_eq!((reply.status, reply.header(REPLY)), (206, Some("206")));
    assert_eq!(reply.header("x-amz-rdma-bytes-transferred"), Some("10"));
    assert_eq!(reply.header("content-range"), Some("bytes 990-999/1000"));
    peer.assert_untouched_outside(10);
    peer.memory.with_bytes(|bytes| assert_eq!(bytes[MARGIN..MARGIN + 10], [7; 10]));
    drop(http);
    card.assert_unharmed();
}

#[test]
fn two_requests_on_one_buffer() {
    // Shows that a client which names the same memory twice at a time gets what it asked for: two PUTs store the same bytes, and two
    // GETs leave bytes of either, and none beside.
    let card = Card::new(SimulatedFaults { step_bytes_max: 4096, ..SimulatedFaults::none(4) });
    let peer = card.peer();
    peer.memory.with_bytes(|bytes| bytes[MARGIN..MARGIN + BODY].copy_from_slice(&pattern(BODY, 9)));
    let (_, token) = peer.expose(Access::Read);
    let calls = ["/bucket/one", "/bucket/two"].map(|path| card.call(Method::Put, path, &token));
    calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap().header(REPLY), Some("200")));
    let mut http = card.http();
    for path in ["/bucket/one", "/bucket/two"] {
        assert!(http.call(Method::Get, path, &[], b"").body == pattern(BODY, 9));
    }
    let (_, token) = peer.expose(Access::Write);
    let calls = ["/bucket/key", "/bucket/one"].map(|path| card.call(Method::Get, path, &token));
    calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap().header(REPLY), Some("200")));
    peer.memory.with_bytes(|bytes| {
        let mut either =
            bytes[MARGIN..MARGIN + BODY].iter().zip(pattern(BODY, 1).into_iter().zip(pattern(BODY, 9)));
        assert!(either.all(|(byte, (one, other))| *byte == one || *byte == other));
    });
    peer.assert_untouched_outside(BODY);
    drop(http);
    card.assert_unharmed();
}

#[test]
fn a_storm_of_clients() {
    // Shows that clients which connect without end are told that there are too many, that those who are there go on, and that there
    // is room again when they leave; and the same for those who hand over memory and bind it never.
    let card = Card::new(SimulatedFaults::none(5));
    let first = card.peer();
    let mut client = library(&card.bench);
    let mut sessions = Vec::new();
    let memory = LoopbackPeer::new(4096);
    let refused = loop {
        match client.connect(&card.nic.offer(&memory)) {
            Ok(answer) => sessions.push(answer.session),
            Err(error) => break error,
        }
        assert!(sessions.len() <= 200, "nothing bounds them");
    };
    assert!(matches!(refused, client::ClientError::Refused { status: 503, .. }), "{refused}");
    let strangers: Vec<_> = (0..200)
        .filter_map(|_| ShmClient::connect(card.bench.socket(), 4096, same_user_or_root).ok())
        .collect();
    let (_, token) = first.expose(Access::Write);
    let reply = card.call(Method::Get, "/bucket/key", &token).join().unwrap();
    assert_eq!(reply.header(REPLY), Some("200"));
    first.memory.with_bytes(|bytes| assert!(bytes[MARGIN..MARGIN + BODY] == pattern(BODY, 1)));
    drop(strangers);
    for session in sessions {
        client.disconnect(session).unwrap();
    }
    card.peer();
    drop(client);
    card.assert_unharmed();
}

#[test]
fn a_server_that_restarts() {
    // Shows that a session of an earlier process is none: a PUT stores nothing, a GET moves nothing, and a new session serves.
    let card = Card::new(SimulatedFaults::none(6));
    let peer = card.peer();
    let (_, source) = peer.expose(Access::Read);
    let (memory, session) = shm(&card.bench);
    let slice = memory.expose(0..1000, Access::Read).unwrap();
    let shared = ShmToken::new(session, slice.address(), slice.bytes()).unwrap().to_string();
    let Card { bench, .. } = card;
    let bench = bench.restart();
    let mut http = bench.client(ALICE);
    let reply = http.call(Method::Put, "/bucket/new", &[(TOKEN, &shared)], b"");
    assert_eq!((reply.status, &*reply.code(), reply.header(REPLY)), (404, "NoSuchRDMASession", None));
    // Without a card there is nothing to serve such a token with: nothing is stored either.
    let reply = http.call(Method::Put, "/bucket/new", &[(TOKEN, &source)], b"");
    assert_eq!((reply.status, reply.header(REPLY), reply.header("etag")), (200, Some("501"), None));
    assert_eq!(http.call(Method::Head, "/bucket/new", &[], b"").status, 404);
    let name = crossdock_s3::protocol::remote::format_session(session.to_bytes());
    assert_eq!(http.call(Method::Post, "/.crossdock-shm/bind", &[(SESSION, &name)], b"").status, 404);
    let (memory, session) = shm(&bench);
    let slice = memory.expose(0..1000, Access::Read).unwrap();
    let token = ShmToken::new(session, slice.address(), slice.bytes()).unwrap().to_string();
    assert_eq!(http.call(Method::Put, "/bucket/new", &[(TOKEN, &token)], b"").status, 200);
    assert!(http.call(Method::Get, "/bucket/key", &[], b"").body == pattern(BODY, 1));
}

/// What the process of [`a_process_that_is_killed`] is told by.
const CHILD: &str = "CROSSDOCK_FAULTS_CHILD";

#[test]
fn the_process_that_is_killed() {
    // Does nothing unless it is the other process: then it moves objects to and from its memory until it is killed.
    let Ok(place) = std::env::var(CHILD) else { return };
    let (host, socket) = place.split_once(' ').unwrap();
    let (key, secret) = ALICE;
    let credentials =
        client::Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    let mut over = client::Client::new(host, credentials, crate::bench::now).policy(client::Policy::Require);
    let shared = ShmClient::connect(socket, 8 << 20, same_user_or_root).unwrap();
    let link = crossdock_transport::shm::ShmLink::new(shared);
    let session = crossdock_transport::exposure::Session::new(link);
    while session.link().session().is_none() {
        session.wait(Duration::from_secs(10)).unwrap();
        session.poll();
    }
    over.bind(session.link().session().unwrap()).unwrap();
    let mut buffer = session.buffer(BODY).unwrap();
    for round in 0u64.. {
        buffer.copy_from_slice(&pattern(BODY, 1));
        buffer = over.put_from("bucket", &format!("killed-{}", round % 3), &[], buffer, BODY).unwrap().buffer;
        buffer = over.get_into("bucket", "key", None, buffer).unwrap().buffer;
        if round == 0 {
            println!("at work");
        }
    }
}

#[test]
fn a_process_that_is_killed() {
    // Shows processes that are killed while bytes move between their memory and the store: what they stored is there whole or not at
    // all, and the server goes on.
    let card = Card::new(SimulatedFaults::none(7));
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "faults::the_process_that_is_killed", "--nocapture"])
            .env(CHILD, format!("{} {}", card.bench.host(), card.bench.socket().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("at work") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the process ended by itself");
        }
        pause(Duration::from_millis(7 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.read_to_string(&mut line).ok();
    }
    let mut http = card.http();
    for number in 0..3 {
        let reply = http.call(Method::Get, &format!("/bucket/killed-{number}"), &[], b"");
        assert!(reply.status == 404 || reply.body == pattern(BODY, 1), "stored by half");
    }
    drop(http);
    card.assert_unharmed();
}
