//! A connection goes to the core of its session, and nothing that was sent on it is lost on the way.

use crate::bench::{ALICE, Bench, Client, Reply};
use crossdock_s3::{
    protocol::{http::Method, remote::format_session},
    server::{ServerLimits, render},
};
use crossdock_transport::{
    remote::{Access, SessionId},
    shm::ShmClient,
    token::ShmToken,
};

const TOKEN: &str = "x-amz-rdma-token";
const BYTES: usize = 5000;

struct World {
    bench: Bench,
    memory: ShmClient,
    session: SessionId,
}

impl World {
    fn new(limits: ServerLimits) -> World {
        let bench = Bench::limited(limits, None);
        let (memory, session) = bench.memory(1 << 20);
        let mut http = bench.client(ALICE);
        let name = format_session(session);
        let bound = http.call(Method::Post, "/.crossdock-shm/bind", &[("x-amz-rdma-session", &name)], b"");
        assert_eq!(bound.status, 200);
        assert_eq!(http.call(Method::Put, "/bucket", &[], b"").status, 200);
        assert_eq!(http.call(Method::Put, "/bucket/key", &[], &[7; BYTES]).status, 200);
        World { bench, memory, session: SessionId::from_bytes(session) }
    }

    fn token(&self) -> String {
        let slice = self.memory.expose(0..BYTES, Access::Write).unwrap();
        ShmToken::new(self.session, slice.address(), slice.bytes()).unwrap().to_string()
    }

    /// The session's core, as replies name it.
    fn home(&self) -> String {
        format!("core-{}", self.session.core())
    }

    /// A connection that is not on the session's core.
    fn away(&self) -> Client {
        let mut others = Vec::new();
        // The kernel deals them out by their ports.
        for _ in 0..200 {
            let mut client = self.bench.client(ALICE);
            let reply = client.call(Method::Head, "/bucket/key", &[], b"");
            if core_of(&reply) != self.home() {
                return client;
            }
            others.push(client);
        }
        panic!("every connection is on {}", self.home());
    }

    fn moved(&self) -> u64 {
        let text = render(self.bench.server.metrics(), &[], &[]);
        let line = text.lines().find(|line| line.starts_with("crossdock_connections_moved_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// The core that answered.
fn core_of(reply: &Reply) -> &str {
    reply.header("x-amz-id-2").unwrap()
}

fn assert_moved(reply: &Reply) {
    let words = ["x-amz-rdma-reply", "x-amz-rdma-bytes-transferred"].map(|name| reply.header(name));
    assert_eq!((reply.status, words), (200, [Some("200"), Some("5000")]));
}

#[test]
fn a_connection_follows_its_session() {
    // Shows that a connection whose request names a session of another core is served there from the next request on, that it stays
    // there, and that requests without a session, or with one of its own core, move nothing.
    let world = World::new(ServerLimits::default());
    let mut client = world.away();
    assert_eq!(client.call(Method::Get, "/bucket/key", &[], b"").body, [7; BYTES]);
    assert_eq!(world.moved(), 0);
    let reply = client.call(Method::Get, "/bucket/key", &[(TOKEN, &world.token())], b"");
    assert_moved(&reply);
    assert_ne!(core_of(&reply), world.home());
    for _ in 0..3 {
        let reply = client.call(Method::Get, "/bucket/key", &[(TOKEN, &world.token())], b"");
        assert_moved(&reply);
        assert_eq!(core_of(&reply), world.home());
        let reply = client.call(Method::Get, "/bucket/key", &[], b"");
        assert_eq!((core_of(&reply), &*reply.body), (&*world.home(), &[7; BYTES][..]));
    }
    assert_eq!(world.moved(), 1);
    // It counts where it is.
    let open =
        || -> u64 { world.bench.server.metrics().iter().map(|core| core.connections_open.get()).sum() };
    let before = open();
    drop(client);
    crate::faults::stage::wait_until("it is closed", || open() < before);
}

#[test]
fn what_was_sent_ahead_is_answered_in_order() {
    // Shows requests in a row on a connection that moves after the first: a body, a range, a HEAD and the last, sent with the first one up to
    // each of many places, and the rest behind. Every reply is the right one.
    let world = World::new(ServerLimits::default());
    let body = vec![9; 3000];
    // A token is good for a request that differs from those before in what is signed.
    let mut round = 0;
    let mut requests = |client: &Client| {
        round += 1;
        let number = round.to_string();
        let token = world.token();
        let headers = [(TOKEN, &*token), ("x-amz-meta-round", &*number)];
        [
            client.request(Method::Get, "/bucket/key", &headers, b""),
            client.request(Method::Put, "/bucket/ahead", &[], &body),
            client.request(Method::Get, "/bucket/ahead", &[("range", "bytes=10-19")], b""),
            client.request(Method::Head, "/bucket/ahead", &[], b""),
            client.request(Method::Get, "/bucket/key", &[("connection", "close")], b""),
        ]
    };
    let first = world.away();
    let lengths = requests(&first).map(|request| request.len());
    let whole: usize = lengths.iter().sum();
    let cuts = (lengths[0]..whole).step_by(97).chain([lengths[0], whole]);
    for cut in cuts {
        let mut client = world.away();
        let bytes = requests(&client).concat();
        // What is signed has the length of what was signed before, or nearly.
        let cut = cut.min(bytes.len());
        client.write(&bytes[..cut]);
        crate::bench::pause(if cut % 2 == 0 { 0 } else { 3 });
        client.write(&bytes[cut..]);
        let reply = client.read(false);
        assert_moved(&reply);
        assert_ne!(core_of(&reply), world.home(), "{cut}");
        let reply = client.read(false);
        assert_eq!((reply.status, core_of(&reply)), (200, &*world.home()), "{cut}");
        let reply = client.read(false);
        assert_eq!((reply.status, &*reply.body), (206, &[9; 10][..]), "{cut}");
        let reply = client.read(true);
        assert_eq!((reply.status, reply.header("content-length")), (200, Some("3000")), "{cut}");
        let reply = client.read(false);
        assert_eq!((reply.status, core_of(&reply)), (200, &*world.home()), "{cut}");
        assert!(reply.body == [7; BYTES]);
    }
}

#[test]
fn a_core_that_is_full_sends_it_back() {
    // Shows that a connection stays where it is when the other core has as many as it may have, and loses nothing.
    let mut limits = ServerLimits::default();
    limits.connections = 40;
    let world = World::new(limits);
    let mut client = world.away();
    let mut others = Vec::new();
    // More than both may have: some are turned away.
    let metrics = world.bench.server.metrics();
    let home = &metrics[usize::from(world.session.core())];
    while home.connections_open.get() < 40 {
        others.push(std::net::TcpStream::connect(world.bench.address()).unwrap());
        crate::bench::pause(1);
        assert!(others.len() < 2000, "{}", home.connections_open.get());
    }
    for _ in 0..3 {
        let reply = client.call(Method::Get, "/bucket/key", &[(TOKEN, &world.token())], b"");
        assert_moved(&reply);
        assert_ne!(core_of(&reply), world.home());
    }
    assert_eq!(client.call(Method::Get, "/bucket/key", &[], b"").body, [7; BYTES]);
    assert_eq!(world.moved(), 0);
}

#[test]
fn a_connection_does_not_go_for_ever() {
    // Shows that one which uses sessions of two cores in turn is moved a few times, and served to the end.
    let world = World::new(ServerLimits::default());
    let mut client = world.away();
    let mut sessions = vec![(world.memory, world.session)];
    // Shared memory lands on a core as connections do.
    for _ in 0..200 {
        let (memory, session) = world.bench.memory(1 << 20);
        let session = SessionId::from_bytes(session);
        if session.core() != sessions[0].1.core() {
            let name = format_session(session.to_bytes());
            let headers = [("x-amz-rdma-session", &*name)];
            let mut http = world.bench.client(ALICE);
            assert_eq!(http.call(Method::Post, "/.crossdock-shm/bind", &headers, b"").status, 200);
            sessions.push((memory, session));
            break;
        }
    }
    assert_eq!(sessions.len(), 2, "all memory is on one core");
    for round in 0..20 {
        let (memory, session) = &sessions[round % 2];
        let slice = memory.expose(0..BYTES, Access::Write).unwrap();
        let token = ShmToken::new(*session, slice.address(), slice.bytes()).unwrap().to_string();
        assert_moved(&client.call(Method::Get, "/bucket/key", &[(TOKEN, &token)], b""));
    }
    let text = render(world.bench.server.metrics(), &[], &[]);
    assert!(text.contains("crossdock_connections_moved_total 4\n"), "{text}");
}
