//! Things that go wrong under way: the client is told, nothing is stored by half, and the server goes on. The table, which says what is
//! tried where, is in `tests/it/faults/mod.rs`; its rows are the same functions here, on a card of this host.

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../it/faults/replies.rs"]
mod replies;
#[path = "../it/faults/stage.rs"]
mod stage;
#[path = "../it/faults/table.rs"]
mod table;

use crate::{
    bench::{ALICE, BOB, Bench},
    peer::{Peer, REPLY, SESSION, TOKEN, card, library_client, pattern, server},
};
use crossdock_s3::{
    client::{Client, ClientError, Policy},
    protocol::http::Method,
};
use crossdock_transport::{
    exposure::Session,
    rdma::{Rdma, RdmaClient, RdmaLink, RdmaOptions},
    remote::{Access, RemoteKey, RemoteSlice, SessionId, Transport},
    token::RcToken,
};
use stage::{Fabric, Memory, Stage, Watch};
use std::{ops::Range, sync::Arc};

/// The cards of this host. The server's operations wait for so many polls each, so that there is a middle.
struct Cards {
    polls: u32,
}

impl Cards {
    fn slow() -> Cards {
        Cards { polls: 2000 }
    }

    fn fast() -> Cards {
        Cards { polls: 0 }
    }
}

impl Fabric for Cards {
    fn transport(&self, watch: &Arc<Watch>) -> Arc<dyn Transport> {
        watch.slow_down(self.polls);
        watch.over(Rdma::open(&RdmaOptions::default()).expect("this host has a card"))
    }

    fn connect(
        &self,
        client: &mut Client,
        bytes: usize,
    ) -> Result<(Box<dyn Memory>, SessionId), ClientError> {
        let memory = card(bytes, false);
        let answer = client.connect(&memory.offer())?;
        memory.connect(&answer).expect("the answer is good");
        Ok((Box::new(memory), answer.session))
    }

    fn body_bytes(&self) -> usize {
        TABLE_BODY
    }
}

/// Of more operations than are in flight at a time.
const TABLE_BODY: usize = 12 << 20;

impl Memory for RdmaClient {
    fn expose(&self, range: Range<usize>, access: Access) -> RemoteSlice {
        self.expose(range, access).expect("the connection is open")
    }

    fn revoke(&self, slice: &RemoteSlice) {
        self.withdraw(slice);
        while self.poll() != Some(*slice) {}
    }

    fn load(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        self.load(range.start, &mut bytes);
        bytes
    }

    fn store(&self, at: usize, bytes: &[u8]) {
        self.store(at, bytes);
    }
}

#[test]
fn a_client_that_vanishes_in_the_middle() {
    table::a_client_that_vanishes_in_the_middle(|| Stage::new(Cards::slow()));
}

#[test]
fn memory_that_is_revoked_in_the_middle() {
    table::memory_that_is_revoked_in_the_middle(|| Stage::new(Cards::slow()));
}

#[test]
fn a_disconnect_in_the_middle() {
    table::a_disconnect_in_the_middle(|| Stage::new(Cards::slow()));
}

#[test]
fn a_connection_that_is_closed_cancels() {
    table::a_connection_that_is_closed_cancels(|grace| Stage::patient(Cards::slow(), grace));
}

#[test]
fn a_transfer_that_hangs_is_ended() {
    // The client's queue pair is gone, and nobody says so: the card sends again and again, for half a second.
    table::a_transfer_that_hangs_is_ended(
        |grace| Stage::patient(Cards::fast(), grace),
        "100",
        |_, peer| {
            drop(peer);
            None
        },
    );
}

#[test]
fn what_has_not_begun_in_time_is_given_up() {
    table::what_has_not_begun_in_time_is_given_up(|grace| Stage::patient(Cards::fast(), grace));
}

#[test]
fn ranges_beyond_the_object() {
    table::ranges_beyond_the_object(Stage::new(Cards::fast()));
}

#[test]
fn two_requests_on_one_buffer() {
    table::two_requests_on_one_buffer(Stage::new(Cards::fast()));
}

#[test]
fn a_storm_of_clients() {
    table::a_storm_of_clients(Stage::new(Cards::fast()));
}

#[test]
fn a_server_that_restarts() {
    table::a_server_that_restarts(Stage::new(Cards::fast()));
}

/// A session from its client's side. Without notices, as a server that pretends gives none.
fn session(client: &mut Client, bytes: usize) -> Session<RdmaLink> {
    client.connect_rdma(card(bytes, false)).unwrap()
}

#[test]
fn the_process_that_is_killed() {
    // Does nothing unless it is the other process.
    table::the_process_that_is_killed(TABLE_BODY, |_, client| session(client, TABLE_BODY));
}

#[test]
fn a_process_that_is_killed() {
    // The kernel ends its queue pair with it.
    table::a_process_that_is_killed(Stage::new(Cards::fast()), "faults::the_process_that_is_killed");
}

#[test]
fn a_server_that_knows_nothing_is_not_believed() {
    let bench = server();
    let session = session(&mut library_client(&bench, Policy::Require), 1 << 20);
    replies::a_server_that_knows_nothing_is_not_believed(&session);
}

#[test]
fn replies_that_are_lost_or_wrong_prove_nothing() {
    let bench = server();
    let session = session(&mut library_client(&bench, Policy::Require), 1 << 20);
    replies::replies_that_are_lost_or_wrong_prove_nothing(&session);
}

#[test]
fn an_object_that_was_cut_is_not_taken_for_whole() {
    let bench = server();
    let session = session(&mut library_client(&bench, Policy::Require), 1 << 20);
    replies::an_object_that_was_cut_is_not_taken_for_whole(&session);
}

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
