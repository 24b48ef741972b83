//! The client against the server: what it says happened is what happened.

use crate::{
    bench::{ALICE, BOB, Bench},
    faults::replies::scripted,
};
use crossdock_s3::{
    client::{Client, ClientError, Credentials, Fallback, Policy, Way},
    protocol::http::Method,
};
use crossdock_transport::{
    exposure::Session,
    shm::{ShmClient, ShmLink, same_user_or_root},
};

pub(crate) fn client(host: &str, policy: Policy) -> Client {
    let (key, secret) = ALICE;
    let credentials =
        Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    Client::new(host, credentials, crate::bench::now).policy(policy)
}

/// A session with the server, which knows whose it is.
pub(crate) fn session(bench: &Bench, client: &mut Client) -> Session<ShmLink> {
    crate::faults::replies::shm_session(bench.socket(), client)
}

#[test]
fn what_was_put_is_got_and_the_way_is_told() {
    // Shows whole objects, ranges and parts over the transport, and the same over HTTP when that is wanted, from one buffer that
    // comes back each time.
    let bench = Bench::new();
    let mut over = client(&bench.host(), Policy::Require);
    let mut plain = client(&bench.host(), Policy::Off);
    let session = session(&bench, &mut over);
    assert_eq!(over.exchange(Method::Put, "/bucket", &[], b"").unwrap().0.status, 200);
    for bytes in [0, 1, 4096, 300_000, (3 << 20) + 1] {
        let mut buffer = session.buffer(4 << 20).unwrap();
        buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at * 7 + 1) as u8);
        let expected = buffer[..bytes].to_vec();
        let stored = over.put_from("bucket", "a key/ü", &[("x-amz-meta-a", "b")], buffer, bytes).unwrap();
        assert_eq!(stored.way, Way::Transport);
        let mut buffer = stored.buffer;
        buffer.fill(0);
        let got = over.get_into("bucket", "a key/ü", None, buffer).unwrap();
        assert_eq!((got.way, got.bytes, got.head.get("x-amz-meta-a")), (Way::Transport, bytes, Some("b")));
        assert!(got.buffer[..bytes] == expected);
        let got = plain.get_into("bucket", "a key/ü", None, got.buffer).unwrap();
        assert_eq!((got.way, got.bytes), (Way::Http(Fallback::Off), bytes));
        assert!(got.buffer[..bytes] == expected);
        if bytes > 1 {
            let range = 1..bytes as u64 - 1;
            let got = over.get_into("bucket", "a key/ü", Some(range), got.buffer).unwrap();
            assert!(got.buffer[..got.bytes] == expected[1..bytes - 1]);
        }
    }
    assert_eq!(session.quarantined_bytes(), 0);
}

#[test]
fn failures_are_told_and_the_buffer_comes_back() {
    // Shows what becomes of an object that is not there, one that is too large, and a session that the server does not know.
    let bench = Bench::new();
    let mut over = client(&bench.host(), Policy::Prefer);
    let session = session(&bench, &mut over);
    over.exchange(Method::Put, "/bucket", &[], b"").unwrap();
    over.exchange(Method::Put, "/bucket/key", &[], &[7; 5000]).unwrap();
    // A HEAD has a length and no body, and the connection goes on.
    let (head, _) = over.exchange(Method::Head, "/bucket/key", &[], &[]).unwrap();
    assert_eq!(head.get("content-length"), Some("5000"));
    let failed = over.get_into("bucket", "nothing", None, session.buffer(100).unwrap()).unwrap_err();
    assert!(matches!(failed.error, ClientError::Refused { status: 404, .. }), "{failed:?}");
    let failed = over.get_into("bucket", "key", None, failed.buffer.unwrap()).unwrap_err();
    assert!(matches!(failed.error, ClientError::TooLarge { bytes: 5000 }), "{failed:?}");
    assert!(failed.buffer.is_some());
    // The connection was closed over it, and a new one is made.
    let got = over.get_into("bucket", "key", None, session.buffer(5000).unwrap()).unwrap();
    assert_eq!((got.way, got.bytes), (Way::Transport, 5000));
    // One byte too little for the whole, and enough for the range.
    let buffer = session.buffer(10).unwrap();
    assert_eq!(over.get_into("bucket", "key", Some(0..10), buffer).unwrap().way, Way::Transport);
    // Bound by somebody else: to this one the server knows no such session.
    let mut stranger = client(&bench.host(), Policy::Prefer);
    let shared = ShmClient::connect(bench.socket(), 1 << 20, same_user_or_root).unwrap();
    let unbound = stranger.open_shm(shared).unwrap();
    let (key, secret) = BOB;
    let bob = Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    let mut bob = Client::new(&bench.host(), bob, crate::bench::now);
    bob.bind(unbound.link().session().unwrap()).unwrap();
    let got = stranger.get_into("bucket", "key", None, unbound.buffer(5000).unwrap()).unwrap();
    assert_eq!((got.way, got.bytes), (Way::Http(Fallback::SessionEnded), 5000));
    let stored = stranger.put_from("bucket", "new", &[], got.buffer, 5000).unwrap();
    assert_eq!(stored.way, Way::Http(Fallback::SessionEnded));
    let mut strict = client(&bench.host(), Policy::Require);
    let failed = strict.get_into("bucket", "key", None, stored.buffer).unwrap_err();
    assert!(matches!(failed.error, ClientError::NotMoved(Fallback::SessionEnded)), "{failed:?}");
}

#[test]
fn a_body_that_is_another_range_is_not_taken_for_it() {
    // Shows that a range which comes in a body is the one that was asked for, or no success: of a server that does not know ranges, of one
    // that sends another, and of an empty one.
    let bench = Bench::new();
    let mut over = client(&bench.host(), Policy::Require);
    let session = session(&bench, &mut over);
    let get = |reply: &'static str, range| {
        client(&scripted(vec![reply]), Policy::Off).get_into("b", "k", range, session.buffer(10).unwrap())
    };
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabcdefghi";
    let other =
        "HTTP/1.1 206 OK\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    for reply in [whole, other] {
        let got = get(reply, Some(3..6));
        assert!(matches!(got.unwrap_err().error, ClientError::Unproven(_)), "{reply}");
    }
    let right =
        "HTTP/1.1 206 OK\r\nContent-Range: bytes 3-5/9\r\nContent-Length: 3\r\nConnection: close\r\n\r\ndef";
    let got = get(right, Some(3..6)).unwrap();
    assert_eq!(&got.buffer[..got.bytes], b"def");
    over.exchange(Method::Put, "/bucket", &[], b"").unwrap();
    over.exchange(Method::Put, "/bucket/key", &[], b"abcdefghi").unwrap();
    let mut plain = client(&bench.host(), Policy::Off);
    for range in [0..0, 5..5] {
        let empty = plain.get_into("bucket", "key", Some(range), session.buffer(10).unwrap());
        assert!(matches!(empty.unwrap_err().error, ClientError::EmptyRange));
    }
    let got = plain.get_into("bucket", "key", Some(7..20), session.buffer(10).unwrap()).unwrap();
    assert_eq!(&got.buffer[..got.bytes], b"hi");
}

#[test]
fn a_server_that_takes_no_memory_says_why() {
    // Shows that whoever offers memory is told what the server has against it, or that it says nothing; and that a session which it does
    // not know is none of this client's.
    let bench = Bench::new();
    let mut over = client(&bench.host(), Policy::Require);
    let memory = ShmClient::connect(bench.socket(), 4096, same_user_or_root).unwrap();
    assert!(over.bind_shm(memory).unwrap().is_open());
    for (said, heard) in [("refused too many clients", "too many clients"), ("", "it hung up")] {
        let (memory, server) = ShmClient::pair(4096).unwrap();
        if !said.is_empty() {
            rustix::net::send(&server, said.as_bytes(), rustix::net::SendFlags::empty()).unwrap();
        }
        drop(server);
        let failed = over.bind_shm(memory).unwrap_err();
        assert!(matches!(&failed, ClientError::NotTaken(why) if why == heard), "{failed:?}");
    }
    // A name that another server gave.
    let (memory, server) = ShmClient::pair(4096).unwrap();
    let name = format!("session {}", "0".repeat(32));
    rustix::net::send(&server, name.as_bytes(), rustix::net::SendFlags::empty()).unwrap();
    let unknown = over.bind_shm(memory).unwrap_err();
    assert!(matches!(unknown, ClientError::Refused { status: 404, .. }), "{unknown:?}");
}
