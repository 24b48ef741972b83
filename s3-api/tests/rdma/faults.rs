//! Things that go wrong under way: the client is told, nothing is stored by half, and the server goes on.

use crate::{
    bench::{ALICE, BOB, Bench},
    peer::{Peer, REPLY, SESSION, TOKEN, card, library_client, pattern, server},
};
use crossdock_s3::{
    client::{ClientError, Policy},
    protocol::http::Method,
};
use crossdock_transport::{
    remote::{Access, RemoteKey, RemoteSlice, SessionId},
    token::RcToken,
};

const BODY: usize = 6 << 20;

/// Another client is served as ever, and all of the store is.
fn assert_goes_on(bench: &Bench) {
    let mut peer = Peer::new(bench, 1 << 20);
    let body = pattern(300_000, 77);
    assert_eq!(peer.put("/bucket/after", &body, &[]).status, 200);
    let (reply, found) = peer.get("/bucket/after", body.len(), &[]);
    assert_eq!(reply.header(REPLY), Some("200"));
    assert!(found == body);
}

/// Nobody has stored anything under that key.
fn assert_not_stored(bench: &Bench, path: &str) {
    assert_eq!(bench.client(ALICE).call(Method::Head, path, &[], b"").status, 404);
}

#[test]
fn memory_that_is_not_there_is_a_typed_failure() {
    // Shows tokens with a false key, past the end of what is exposed, and for the other direction: a PUT is refused and stores
    // nothing, a GET has its body, and the session is over, which the next request is told.
    let bench = server();
    let mut peer = Peer::with_bucket(&bench, 16 << 20);
    let body = pattern(BODY, 1);
    peer.http.call(Method::Put, "/bucket/key", &[], &body);
    for kind in 0..3 {
        for method in [Method::Put, Method::Get] {
            let access = if method == Method::Put { Access::Read } else { Access::Write };
            let other = if method == Method::Put { Access::Write } else { Access::Read };
            let good = peer.memory.expose(0..BODY, if kind == 2 { other } else { access }).unwrap();
            let bad = match kind {
                0 => RemoteSlice::new(good.address(), good.bytes(), RemoteKey(good.key().0 ^ 0x0505_0500)),
                1 => RemoteSlice::new(good.address() + 4096, good.bytes(), good.key()),
                _ => Some(good),
            };
            let token = peer.token_of(bad.unwrap());
            let path = if method == Method::Put { "/bucket/new" } else { "/bucket/key" };
            let reply = peer.http.call(method, path, &[(TOKEN, &token)], b"");
            if method == Method::Put {
                assert_eq!((reply.status, &*reply.code()), (500, "RDMATransferFailed"), "kind {kind}");
                assert_not_stored(&bench, path);
            } else {
                assert_eq!((reply.status, reply.header(REPLY)), (200, Some("501")), "kind {kind}");
                assert!(reply.body == body);
            }
            let reply = peer.http.call(method, path, &[(TOKEN, &token)], b"");
            assert_eq!((reply.status, &*reply.code()), (404, "NoSuchRDMASession"), "kind {kind}");
            peer = Peer::new(&bench, 16 << 20);
        }
    }
    assert_goes_on(&bench);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a client that does two things at once")]
fn a_client_that_goes_in_the_middle_harms_nobody() {
    // Shows a PUT and a GET whose client's memory and queue pair vanish under way: no byte is stored, and the server goes on.
    let bench = server();
    let mut first = Peer::with_bucket(&bench, 1 << 20);
    first.http.call(Method::Put, "/bucket/key", &[], &pattern(BODY, 2));
    for method in [Method::Put, Method::Get] {
        let Peer { http, memory, session } = Peer::new(&bench, 16 << 20);
        let access = if method == Method::Put { Access::Read } else { Access::Write };
        let slice = memory.expose(0..BODY, access).unwrap();
        let token = RcToken { session, slice }.to_string();
        let path = if method == Method::Put { "/bucket/gone" } else { "/bucket/key" };
        let call = std::thread::spawn(move || {
            let mut http = http;
            http.call(method, path, &[(TOKEN, &token)], b"")
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(memory);
        let reply = call.join().unwrap();
        match method {
            // It may have been through already.
            Method::Put if reply.status == 200 => {}
            Method::Put => {
                assert_eq!((reply.status, &*reply.code()), (500, "RDMATransferFailed"));
                assert_not_stored(&bench, path);
            }
            _ => assert_eq!(reply.status, 200),
        }
    }
    assert_goes_on(&bench);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a client that does two things at once")]
fn a_disconnect_ends_what_is_under_way() {
    // Shows that a session which is disconnected from elsewhere in the middle of a PUT stores nothing, or was too late.
    let bench = server();
    Peer::with_bucket(&bench, 4096);
    for round in 0..4u64 {
        let Peer { http, memory, session } = Peer::new(&bench, 16 << 20);
        memory.store(0, &pattern(BODY, round));
        let slice = memory.expose(0..BODY, Access::Read).unwrap();
        let token = RcToken { session, slice }.to_string();
        let path = format!("/bucket/cut-{round}");
        let put = path.clone();
        let call = std::thread::spawn(move || {
            let mut http = http;
            http.call(Method::Put, &put, &[(TOKEN, &token)], b"")
        });
        std::thread::sleep(std::time::Duration::from_millis(5 * round));
        library_client(&bench, Policy::Off).disconnect(session).unwrap();
        let reply = call.join().unwrap();
        match reply.status {
            200 => {
                let got = bench.client(ALICE).call(Method::Get, &path, &[], b"");
                assert!(got.body == pattern(BODY, round));
            }
            404 => assert_not_stored(&bench, &path),
            500 => assert_not_stored(&bench, &path),
            other => panic!("{other} {}", reply.code()),
        }
        drop(memory);
    }
    assert_goes_on(&bench);
}

#[test]
fn a_session_is_its_principals_and_sessions_are_bounded() {
    // Shows that nobody else reaches through a session or ends it, that a principal's sessions have a bound, and that there is room
    // again when one ends.
    let bench = server();
    let mut alice = Peer::with_bucket(&bench, 8192);
    let (_, token) = alice.expose(0..4096, Access::Write);
    let mut bob = bench.client(BOB);
    let reply = bob.call(Method::Get, "/bucket/key", &[(TOKEN, &token)], b"");
    assert_eq!((reply.status, &*reply.code()), (404, "NoSuchRDMASession"));
    let name = u128::from_be_bytes(alice.session.to_bytes());
    let headers = [(SESSION, &*format!("{name:032x}"))];
    assert_eq!(bob.call(Method::Post, "/.s3rdma-rc/disconnect", &headers, b"").status, 204);
    assert_eq!(alice.put("/bucket/key", &[1; 4096], &[]).status, 200);

    let mut client = library_client(&bench, Policy::Require);
    let offer = alice.memory.offer();
    let mut sessions: Vec<SessionId> = Vec::new();
    let refused = loop {
        match client.connect(&offer) {
            Ok(answer) => sessions.push(answer.session),
            Err(error) => break error,
        }
        assert!(sessions.len() < 1000, "nothing bounds them");
    };
    assert!(
        matches!(&refused, ClientError::Refused { status: 503, code, .. } if code == "SlowDown"),
        "{refused}"
    );
    // Of one core alice's first is one.
    assert!(sessions.len() >= 62, "{}", sessions.len());
    for session in sessions {
        client.disconnect(session).unwrap();
    }
    assert_goes_on(&bench);
}

#[test]
fn bad_offers_and_false_sessions_are_answered() {
    // Shows what a server answers to offers that are none, and to tokens of sessions that never were, as after its restart.
    let bench = server();
    let mut peer = Peer::with_bucket(&bench, 8192);
    let offer = card(4096, false).offer();
    let connect = |headers: &[(&str, &str)]| {
        let reply = bench.client(ALICE).call(Method::Post, "/.s3rdma-rc/connect", headers, b"");
        (reply.status, reply.code())
    };
    let psn = ("x-amz-rdma-psn", "000001");
    assert_eq!(connect(&[]), (400, "InvalidRDMAToken".into()));
    assert_eq!(connect(&[(TOKEN, &offer.token)]), (400, "InvalidRDMAToken".into()));
    assert_eq!(connect(&[(TOKEN, "00"), psn]), (400, "InvalidRDMAToken".into()));
    assert_eq!(connect(&[(TOKEN, &offer.token), ("x-amz-rdma-psn", "0")]).0, 400);
    assert_eq!(connect(&[(TOKEN, &offer.token), psn, ("x-amz-rdma-mtu", "1500")]).0, 400);
    let foreign = format!("{}{}{}", &offer.token[..10], "fd".repeat(16), &offer.token[42..]);
    assert_eq!(connect(&[(TOKEN, &foreign), psn]), (501, "NotImplemented".into()));
    let slice = peer.memory.expose(0..4096, Access::Read).unwrap();
    for core in [0, 1, 99] {
        let session = SessionId::new(core, [9; 14]);
        let token = RcToken { session, slice }.to_string();
        let reply = peer.http.call(Method::Put, "/bucket/new", &[(TOKEN, &token)], b"");
        assert_eq!((reply.status, &*reply.code()), (404, "NoSuchRDMASession"));
    }
    assert_not_stored(&bench, "/bucket/new");
    assert_goes_on(&bench);
}
