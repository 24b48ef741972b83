//! Clients that do not sign, as one of the field's does not: served where everybody is let in, and nowhere else.

use crate::bench::{ALICE, Bench, Client, Reply};
use crossdock_s3::protocol::{http::Method, remote::format_session};
use crossdock_transport::{
    loopback::LoopbackPeer,
    remote::{Access, SessionId},
    shm::ShmClient,
    simulated::{SimulatedFaults, SimulatedNic},
    token::{RcToken, ShmToken},
};
use std::sync::Arc;

const TOKEN: &str = "x-amz-rdma-token";
const SESSION: &str = "x-amz-rdma-session";
const REPLY: &str = "x-amz-rdma-reply";
const BYTES: &str = "x-amz-rdma-bytes-transferred";

/// What that client says besides: that its payload is not signed, without a date, and that it takes no encoding.
const SAID: [(&str, &str); 2] = [("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), ("accept-encoding", "")];

fn call(http: &mut Client, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
    let request = http.unsigned(method, path, &[&SAID[..], headers].concat(), b"");
    http.send(&request)
}

/// A token for a part of the memory, which is of a session that may be somebody's.
fn token(memory: &ShmClient, session: [u8; 16], bytes: usize, access: Access) -> String {
    let slice = memory.expose(0..bytes, access).unwrap();
    ShmToken::new(SessionId::from_bytes(session), slice.address(), slice.bytes()).unwrap().to_string()
}

#[test]
fn who_does_not_sign_is_served_where_everybody_is() {
    // Shows a whole exchange without a signature: bind, PUT judged by its status and tag, GET of a range that is all there is; and that the
    // session is no signer's.
    let bench = Bench::open_to_all(None);
    let mut http = bench.client(ALICE);
    assert_eq!(http.call(Method::Put, "/bucket", &[], b"").status, 200);
    let (memory, session) = bench.memory(1 << 20);
    let name = format_session(session);
    let bound = call(&mut http, Method::Post, "/.crossdock-shm/bind", &[(SESSION, &name)]);
    assert_eq!((bound.status, bound.header(SESSION)), (200, Some(&*name)));
    let body: Vec<u8> = (0..300_000u32).map(|at| (at * 7 + 1 + (at >> 8)) as u8).collect();
    memory.store(0, &body);
    let source = token(&memory, session, body.len(), Access::Read);
    let stored = call(&mut http, Method::Put, "/bucket/key", &[(TOKEN, &source)]);
    assert_eq!(
        (stored.status, stored.header(REPLY), stored.header(BYTES)),
        (200, Some("200"), Some("300000"))
    );
    assert!(stored.header("etag").is_some());

    memory.store(0, &vec![0; body.len()]);
    let target = token(&memory, session, body.len(), Access::Write);
    // Twice: there is no signature that could have been used before.
    for _ in 0..2 {
        let range = [(TOKEN, &*target), ("range", "bytes=0-299999")];
        let got = call(&mut http, Method::Get, "/bucket/key", &range);
        assert_eq!((got.status, got.header(REPLY), got.header(BYTES)), (206, Some("206"), Some("300000")));
        assert_eq!(got.header("content-range"), Some("bytes 0-299999/300000"));
    }
    let mut found = vec![0; body.len()];
    memory.load(0, &mut found);
    assert!(found == body);

    let signed = http.call(Method::Get, "/bucket/key", &[(TOKEN, &target)], b"");
    assert_eq!((signed.status, &*signed.code()), (404, "NoSuchRDMASession"));
    assert_eq!(call(&mut http, Method::Post, "/.s3rdma-rc/disconnect", &[(SESSION, &name)]).status, 204);
    let gone = call(&mut http, Method::Get, "/bucket/key", &[(TOKEN, &target)]);
    assert_eq!((gone.status, &*gone.code()), (404, "NoSuchRDMASession"));
}

#[test]
fn who_does_not_sign_connects_where_everybody_may() {
    // Shows the same over a queue pair.
    let nic = SimulatedNic::new(SimulatedFaults::none(1));
    let bench = Bench::open_to_all(Some(Arc::new(nic.clone())));
    let mut http = bench.client(ALICE);
    assert_eq!(http.call(Method::Put, "/bucket", &[], b"").status, 200);
    let memory = LoopbackPeer::new(5000);
    let connected = connect(&mut http, &nic, &memory);
    assert_eq!(connected.status, 200);
    let session = connected.header(SESSION).unwrap();
    let session = SessionId::from_bytes(u128::from_str_radix(session, 16).unwrap().to_be_bytes());
    memory.with_bytes(|bytes| bytes.fill(7));
    let slice = memory.expose(0..5000, Access::Read);
    let token = RcToken { session, slice }.to_string();
    let stored = call(&mut http, Method::Put, "/bucket/key", &[(TOKEN, &token)]);
    assert_eq!((stored.status, stored.header(REPLY)), (200, Some("200")));
    assert!(http.call(Method::Get, "/bucket/key", &[], b"").body == [7; 5000]);
}

fn connect(http: &mut Client, nic: &SimulatedNic, memory: &LoopbackPeer) -> Reply {
    let offer = nic.offer(memory);
    let parameters = offer.parameters.iter().map(|(name, value)| (format!("x-amz-rdma-{name}"), &**value));
    let parameters: Vec<(String, &str)> = parameters.collect();
    let mut headers = vec![(TOKEN, &*offer.token)];
    headers.extend(parameters.iter().map(|(name, value)| (&**name, *value)));
    call(http, Method::Post, "/.s3rdma-rc/connect", &headers)
}

#[test]
fn who_does_not_sign_has_no_session_elsewhere() {
    // Shows that nobody who did not sign binds, connects or looks at transports unless everybody may, and that a PUT stores nothing.
    let nic = SimulatedNic::new(SimulatedFaults::none(1));
    let bench = Bench::with(Some(Arc::new(nic.clone())));
    let mut http = bench.client(ALICE);
    assert_eq!(http.call(Method::Put, "/bucket", &[], b"").status, 200);
    let (memory, session) = bench.memory(1 << 20);
    let name = format_session(session);
    let source = token(&memory, session, 10, Access::Read);
    let refused = [
        call(&mut http, Method::Post, "/.crossdock-shm/bind", &[(SESSION, &name)]),
        call(&mut http, Method::Post, "/.s3rdma-rc/disconnect", &[(SESSION, &name)]),
        call(&mut http, Method::Get, "/.crossdock/transports", &[]),
        connect(&mut http, &nic, &LoopbackPeer::new(10)),
        call(&mut http, Method::Put, "/bucket/key", &[(TOKEN, &source)]),
    ];
    for reply in refused {
        assert_eq!((reply.status, &*reply.code()), (403, "AccessDenied"));
        assert_eq!((reply.header(SESSION), reply.header(REPLY)), (None, None));
    }
    assert_eq!(http.call(Method::Head, "/bucket/key", &[], b"").status, 404);
    // The session is there still, for who signs.
    assert_eq!(http.call(Method::Post, "/.crossdock-shm/bind", &[(SESSION, &name)], b"").status, 200);
}

#[test]
fn a_wrong_signature_is_no_missing_one() {
    // Shows that letting everybody in does not make a wrong signature good.
    let bench = Bench::open_to_all(None);
    let mut http = bench.client((ALICE.0, "another secret"));
    let refused = http.call(Method::Put, "/bucket", &[], b"");
    assert_eq!((refused.status, &*refused.code()), (403, "SignatureDoesNotMatch"));
}
