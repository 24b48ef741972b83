//! The rows of the table that are tried on every kind of card.

use super::stage::{
    MARGIN, PATIENCE, Peer, REPLY, SESSION, Stage, TIMEOUT, TOKEN, library, pattern, pause, shm, wait_until,
};
use crate::bench::Reply;
use crossdock_s3::{client, protocol::http::Method, server::render};
use crossdock_transport::{
    exposure::{Link, Session},
    remote::{Access, RemoteSlice},
    shm::{ShmClient, same_user_or_root},
    token::ShmToken,
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

/// What the engine moves at a time, and how often at once.
const OPERATION_BYTES: u64 = 1 << 20;
const WINDOW: u64 = 4;

/// What each fault comes to: a PUT is refused and stores nothing, a GET has its body all the same.
pub(super) fn assert_failed(stage: &Stage, method: Method, reply: &Reply) {
    match method {
        Method::Put => {
            assert_eq!((reply.status, reply.header(REPLY)), (500, Some("500")));
            assert_eq!(reply.code(), "RDMATransferFailed");
            assert_eq!(reply.header("etag"), None);
        }
        _ => {
            assert_eq!((reply.status, reply.header(REPLY)), (200, Some("501")));
            assert!(reply.body == pattern(stage.body, 1));
        }
    }
}

pub(super) fn request(method: Method) -> (&'static str, Access) {
    match method {
        Method::Put => ("/bucket/new", Access::Read),
        _ => ("/bucket/key", Access::Write),
    }
}

/// The client is to connect again, and is told so.
pub(super) fn assert_session_is_over(stage: &Stage, method: Method, token: &str) {
    let reply = stage.call(method, request(method).0, token).join().unwrap();
    assert_eq!((reply.status, &*reply.code()), (404, "NoSuchRDMASession"));
    assert_eq!(reply.header("x-amz-rdma-protocol-status"), Some("no-session"));
}

/// Does something in the middle of a PUT and of a GET. Whether the peer's memory is there afterwards, to be looked at, `meddle` says.
fn in_the_middle(stage: impl Fn() -> Stage, meddle: impl Fn(&Stage, Peer, &RemoteSlice) -> Option<Peer>) {
    for method in [Method::Put, Method::Get] {
        let stage = stage();
        let peer = stage.peer();
        let (path, access) = request(method);
        let (slice, token) = peer.expose(access);
        let before = stage.begun();
        let call = stage.call(method, path, &token);
        stage.wait_for_middle(before, &peer, method);
        let peer = meddle(&stage, peer, &slice);
        assert_failed(&stage, method, &call.join().unwrap());
        if let Some(peer) = peer {
            peer.assert_untouched_outside(stage.body);
        }
        assert_session_is_over(&stage, method, &token);
        stage.assert_unharmed();
    }
}

/// Shows a client whose memory, and whose queue pair, are there no more under way.
pub(super) fn a_client_that_vanishes_in_the_middle(stage: impl Fn() -> Stage) {
    in_the_middle(stage, |_, peer, _| {
        drop(peer);
        None
    });
}

/// Shows a key that is withdrawn under way: from then on no byte moves.
pub(super) fn memory_that_is_revoked_in_the_middle(stage: impl Fn() -> Stage) {
    in_the_middle(stage, |stage, peer, slice| {
        peer.memory.revoke(slice);
        let all = 0..stage.body + 2 * MARGIN;
        let seen = peer.memory.load(all.clone());
        pause(Duration::from_millis(50));
        assert!(peer.memory.load(all) == seen, "a byte moved after the key was withdrawn");
        Some(peer)
    });
}

/// Shows a session that is ended from elsewhere under way.
pub(super) fn a_disconnect_in_the_middle(stage: impl Fn() -> Stage) {
    in_the_middle(stage, |stage, peer, _| {
        library(&stage.bench).disconnect(peer.session).unwrap();
        Some(peer)
    });
}

/// Shows that a client which closes its connection has its transfer ended before its time, and only that: its session goes on.
///
/// The stage is to be one that is patient: however slow the machine, what was posted drains before the session would be ended for it.
pub(super) fn a_connection_that_is_closed_cancels(stage: impl Fn(Duration) -> Stage) {
    for method in [Method::Put, Method::Get] {
        let stage = stage(PATIENCE);
        let peer = stage.peer();
        let (path, access) = request(method);
        let (_, token) = peer.expose(access);
        let head = stage.http().request(method, path, &[(TOKEN, &token), TIMEOUT], b"");
        let before = stage.begun();
        let mut connection = TcpStream::connect(stage.bench.host()).unwrap();
        connection.write_all(&head).unwrap();
        stage.wait_for_middle(before, &peer, method);
        connection.shutdown(Shutdown::Both).unwrap();
        wait_until("it is counted", || {
            render(stage.bench.server.metrics(), &[], &[]).contains("reason=\"cancelled\"} 1")
        });
        let last = MARGIN + stage.body - 1;
        let cut = peer.memory.load(last..last + 1) == [super::stage::POISON];
        assert!(method == Method::Put || cut || stage.begun() - before < 3);
        drop(connection);
        // What was posted is drained. What is more than a window at a time is never posted to its end, however many went while the
        // server did not know yet.
        pause(Duration::from_millis(100));
        let (posted, all) = (stage.begun() - before, (stage.body as u64).div_ceil(OPERATION_BYTES));
        assert!(all <= WINDOW || posted < all, "{posted} of {all}");
        if method == Method::Get {
            // Nobody asks for the rest any more, and the session is as good as before.
            let (_, token) = peer.expose_bytes(1000, Access::Write);
            let mut http = stage.http();
            http.call(Method::Put, "/bucket/small", &[], &[7; 1000]);
            let reply = http.call(Method::Get, "/bucket/small", &[(TOKEN, &token), TIMEOUT], b"");
            assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")));
        }
        peer.assert_untouched_outside(stage.body);
        stage.assert_unharmed();
    }
}

/// Shows that a transfer which does not end by itself holds a request up to its deadline and what the server is patient for, and that its
/// session is ended, so that its memory comes back. `hang` does what nothing completes after; a peer that it gives back is there still. The
/// deadline, in milliseconds, is long enough for something to begin: what has not is given up, and hangs nobody.
pub(super) fn a_transfer_that_hangs_is_ended(
    stage: impl Fn(Duration) -> Stage,
    deadline_ms: &str,
    hang: impl Fn(&Stage, Peer) -> Option<Peer>,
) {
    for method in [Method::Put, Method::Get] {
        // A card gives up by itself after half a second.
        let stage = stage(Duration::from_millis(100));
        let peer = stage.peer();
        let (path, access) = request(method);
        let (_, token) = peer.expose(access);
        let peer = hang(&stage, peer);
        let short = ("x-amz-rdma-timeout-ms", deadline_ms);
        let reply = stage.http().call(method, path, &[(TOKEN, &token), short], b"");
        assert_failed(&stage, method, &reply);
        let metrics = render(stage.bench.server.metrics(), &[], &[]);
        assert!(metrics.contains("crossdock_remote_declined_total{reason=\"late\"} 1"), "{metrics}");
        assert_session_is_over(&stage, method, &token);
        if let Some(peer) = peer {
            peer.assert_untouched_outside(stage.body);
        }
        stage.watch.lose(false);
        stage.assert_unharmed();
    }
}

/// Shows that what waits in a session's line at the deadline is answered as late then, that nothing of it is begun afterwards, when the session
/// could, and that the session goes on.
///
/// The stage is to be one that is patient: it is not patience that ends this.
pub(super) fn what_has_not_begun_in_time_is_given_up(stage: impl Fn(Duration) -> Stage) {
    for method in [Method::Put, Method::Get] {
        let stage = stage(PATIENCE);
        let peer = stage.peer();
        let (path, access) = request(method);
        let (_, token) = peer.expose(access);
        stage.watch.hold(true);
        let short = ("x-amz-rdma-timeout-ms", "100");
        let reply = stage.http().call(method, path, &[(TOKEN, &token), short], b"");
        assert_failed(&stage, method, &reply);
        let metrics = render(stage.bench.server.metrics(), &[], &[]);
        assert!(metrics.contains("crossdock_remote_declined_total{reason=\"late\"} 1"), "{metrics}");
        stage.watch.hold(false);
        let (_, other) = peer.expose_bytes(1000, Access::Write);
        let mut http = stage.http();
        http.call(Method::Put, "/bucket/small", &[], &[7; 1000]);
        let reply = http.call(Method::Get, "/bucket/small", &[(TOKEN, &other), TIMEOUT], b"");
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")));
        drop(http);
        // Of all its memory that alone.
        peer.assert_untouched_outside(1000);
        stage.assert_unharmed();
    }
}

/// Shows that a range behind the object's end is refused without touching memory, and one that reaches over it is cut there.
pub(super) fn ranges_beyond_the_object(stage: Stage) {
    let peer = stage.peer();
    let mut http = stage.http();
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
    assert_eq!(peer.memory.load(MARGIN..MARGIN + 10), [7; 10]);
    drop(http);
    stage.assert_unharmed();
}

/// Shows that a client which names the same memory twice at a time gets what it asked for: two PUTs store the same bytes, and two GETs
/// leave bytes of either, and none beside.
pub(super) fn two_requests_on_one_buffer(stage: Stage) {
    let peer = stage.peer();
    let other = pattern(stage.body, 9);
    peer.memory.store(MARGIN, &other);
    let (slice, token) = peer.expose(Access::Read);
    let calls = ["/bucket/one", "/bucket/two"].map(|path| stage.call(Method::Put, path, &token));
    calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap().header(REPLY), Some("200")));
    let mut http = stage.http();
    for path in ["/bucket/one", "/bucket/two"] {
        assert!(http.call(Method::Get, path, &[], b"").body == other);
    }
    peer.memory.revoke(&slice);
    let (_, token) = peer.expose(Access::Write);
    let calls = ["/bucket/key", "/bucket/one"].map(|path| stage.call(Method::Get, path, &token));
    calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap().header(REPLY), Some("200")));
    let found = peer.memory.load(MARGIN..MARGIN + stage.body);
    let mut either = found.iter().zip(pattern(stage.body, 1).into_iter().zip(other));
    assert!(either.all(|(byte, (one, other))| *byte == one || *byte == other));
    peer.assert_untouched_outside(stage.body);
    drop(http);
    stage.assert_unharmed();
}

/// Shows that clients which connect without end are told that there are too many, that those who are there go on, and that there is
/// room again when they leave; and the same for those who hand over memory and bind it never.
pub(super) fn a_storm_of_clients(stage: Stage) {
    let first = stage.peer();
    let mut client = library(&stage.bench);
    let mut peers = Vec::new();
    let refused = loop {
        match stage.try_peer(&mut client, 4096) {
            Ok(peer) => peers.push(peer),
            Err(error) => break error,
        }
        assert!(peers.len() <= 200, "nothing bounds them");
    };
    assert!(matches!(refused, client::ClientError::Refused { status: 503, .. }), "{refused}");
    let strangers: Vec<_> = (0..200)
        .filter_map(|_| ShmClient::connect(stage.bench.socket(), 4096, same_user_or_root).ok())
        .collect();
    let (_, token) = first.expose(Access::Write);
    let reply = stage.call(Method::Get, "/bucket/key", &token).join().unwrap();
    assert_eq!(reply.header(REPLY), Some("200"));
    assert!(first.memory.load(MARGIN..MARGIN + stage.body) == pattern(stage.body, 1));
    drop(strangers);
    for peer in peers {
        client.disconnect(peer.session).unwrap();
    }
    drop((client, first));
    stage.assert_unharmed();
}

/// Shows that a session of an earlier process is none: a PUT stores nothing, a GET moves nothing, and a new session serves.
pub(super) fn a_server_that_restarts(stage: Stage) {
    let peer = stage.peer();
    let (_, source) = peer.expose(Access::Read);
    let (memory, session) = shm(&stage.bench);
    let slice = memory.expose(0..1000, Access::Read).unwrap();
    let shared = ShmToken::new(session, slice.address(), slice.bytes()).unwrap().to_string();
    let stage = stage.restart();
    let mut http = stage.http();
    for token in [&shared, &source] {
        let reply = http.call(Method::Put, "/bucket/new", &[(TOKEN, token)], b"");
        assert_eq!((reply.status, &*reply.code(), reply.header(REPLY)), (404, "NoSuchRDMASession", None));
        assert_eq!(http.call(Method::Head, "/bucket/new", &[], b"").status, 404);
    }
    let name = crossdock_s3::protocol::remote::format_session(session.to_bytes());
    assert_eq!(http.call(Method::Post, "/.crossdock-shm/bind", &[(SESSION, &name)], b"").status, 404);
    drop((http, memory, peer));
    stage.assert_unharmed();
}

/// What the process of [`a_process_that_is_killed`] is told by: the server's address and its socket for shared memory.
const CHILD: &str = "CROSSDOCK_FAULTS_CHILD";

/// Does nothing unless it is the other process: then it moves objects to and from the memory of the session that `open` makes, until it is
/// killed.
pub(super) fn the_process_that_is_killed<L: Link>(
    body: usize,
    open: impl FnOnce(&str, &mut client::Client) -> Session<L>,
) {
    let Ok(place) = std::env::var(CHILD) else { return };
    let (host, _) = place.split_once(' ').unwrap();
    let mut over = super::stage::library_at(host).policy(client::Policy::Require);
    let session = open(&place, &mut over);
    let mut buffer = session.buffer(body).unwrap();
    for round in 0u64.. {
        buffer.copy_from_slice(&pattern(body, 1));
        buffer = over.put_from("bucket", &format!("killed-{}", round % 3), &[], buffer, body).unwrap().buffer;
        buffer = over.get_into("bucket", "key", None, buffer).unwrap().buffer;
        if round == 0 {
            println!("at work");
        }
    }
}

/// Shows processes that are killed while bytes move between their memory and the store: what they stored is there whole or not at all,
/// and the server goes on. `test` is the name of the test that is [`the_process_that_is_killed`].
pub(super) fn a_process_that_is_killed(stage: Stage, test: &str) {
    for round in 0..4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, format!("{} {}", stage.bench.host(), stage.bench.socket().display()))
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
    let mut http = stage.http();
    for number in 0..3 {
        let reply = http.call(Method::Get, &format!("/bucket/killed-{number}"), &[], b"");
        assert!(reply.status == 404 || reply.body == pattern(stage.body, 1), "stored by half");
    }
    drop(http);
    stage.assert_unharmed();
}
