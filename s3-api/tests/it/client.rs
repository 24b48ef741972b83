//! The client against the server: what it says happened is what happened.

use crate::bench::{ALICE, Bench};
use crossdock_s3::{
    client::{Client, ClientError, Credentials, Fallback, Policy, Way},
    protocol::http::Method,
};
use crossdock_transport::{
    exposure::Session,
    shm::{ShmClient, ShmLink, same_user_or_root},
};
use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

pub(crate) fn client(host: &str, policy: Policy) -> Client {
    let (key, secret) = ALICE;
    let credentials =
        Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    Client::new(host, credentials, crate::bench::now).policy(policy)
}

/// A session with the server, which knows whose it is.
pub(crate) fn session(bench: &Bench, client: &mut Client) -> Session<ShmLink> {
    let shared = ShmClient::connect(bench.socket(), 32 << 20, same_user_or_root).unwrap();
    let session = Session::new(ShmLink::new(shared));
    while session.link().session().is_none() {
        session.wait(Duration::from_secs(10)).unwrap();
        session.poll();
    }
    client.bind(session.link().session().unwrap()).unwrap();
    session
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
    // Bound by nobody: the server knows no such session.
    let mut stranger = client(&bench.host(), Policy::Prefer);
    let shared = ShmClient::connect(bench.socket(), 1 << 20, same_user_or_root).unwrap();
    let unbound = Session::new(ShmLink::new(shared));
    while unbound.link().session().is_none() {
        unbound.wait(Duration::from_secs(10)).unwrap();
        unbound.poll();
    }
    let got = stranger.get_into("bucket", "key", None, unbound.buffer(5000).unwrap()).unwrap();
    assert_eq!((got.way, got.bytes), (Way::Http(Fallback::SessionEnded), 5000));
    let stored = stranger.put_from("bucket", "new", &[], got.buffer, 5000).unwrap();
    assert_eq!(stored.way, Way::Http(Fallback::SessionEnded));
    let mut strict = client(&bench.host(), Policy::Require);
    let failed = strict.get_into("bucket", "key", None, stored.buffer).unwrap_err();
    assert!(matches!(failed.error, ClientError::NotMoved(Fallback::SessionEnded)), "{failed:?}");
}

/// A server that answers each request with the next of these.
#[allow(clippy::disallowed_methods, reason = "a server beside the client that blocks")]
fn scripted(replies: Vec<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut piece = [0; 4096];
                let received = stream.read(&mut piece).unwrap();
                seen.extend_from_slice(&piece[..received]);
            }
            stream.write_all(reply.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Whatever else comes is a body.
            std::io::copy(&mut stream, &mut std::io::sink()).ok();
        }
    });
    address
}

#[test]
fn a_server_that_knows_nothing_is_not_believed() {
    // Shows that a 200 without the server's word is no PUT, however good its ETag: the bytes are sent again in a body, or the call
    // fails where that is not allowed. And that claims without proof, and chunked replies of field servers, are judged right.
    let bench = Bench::new();
    let session = session(&bench, &mut client(&bench.host(), Policy::Require));
    let plain = "HTTP/1.1 200 OK\r\nETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let put = |replies: Vec<&'static str>, policy| {
        client(&scripted(replies), policy).put_from("b", "k", &[], session.buffer(10).unwrap(), 10)
    };
    assert_eq!(put(vec![plain, plain], Policy::Prefer).unwrap().way, Way::Http(Fallback::Ignored));
    let failed = put(vec![plain], Policy::Require).unwrap_err();
    assert!(matches!(failed.error, ClientError::NotMoved(Fallback::Ignored)), "{failed:?}");
    let claims = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nx-amz-rdma-reply: 200\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(put(vec![claims], Policy::Prefer).unwrap_err().error, ClientError::Unproven(_)));
    assert!(matches!(put(vec![""], Policy::Prefer).unwrap_err().error, ClientError::Connection(_)));

    let get = |replies: Vec<&'static str>, range| {
        client(&scripted(replies), Policy::Prefer).get_into("b", "k", range, session.buffer(10).unwrap())
    };
    let field = "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 206\r\nx-amz-rdma-bytes-transferred: 3\r\n\
        Content-Range: bytes 0-2/9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(get(vec![field], Some(0..3)).unwrap().bytes, 3);
    let short = "HTTP/1.1 206 OK\r\nx-amz-rdma-reply: 206\r\nx-amz-rdma-bytes-transferred: 2\r\n\
        Content-Range: bytes 0-2/9\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(get(vec![short], Some(0..3)).unwrap_err().error, ClientError::Unproven(_)));
    let again = "HTTP/1.1 501 No\r\nx-amz-rdma-reply: 501\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let body = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    let got = get(vec![again, body], None).unwrap();
    assert_eq!((got.way, &got.buffer[..got.bytes]), (Way::Http(Fallback::Declined), &b"abc"[..]));
    let lying = "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 3\r\n\
        x-amz-rdma-checksum-crc64nvme: AAAAAAAAAAA=\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(get(vec![lying], None).unwrap_err().error, ClientError::Damaged));
    assert_eq!(session.quarantined_bytes(), 0);
}

#[test]
fn replies_that_are_lost_or_wrong_prove_nothing() {
    // Shows that no reply, one that ends in its middle, one that belongs to another request, and one with a wrong count are failures of
    // a type, for both directions; and that the buffer comes back each time, because the server confirmed that it lets go of it.
    let bench = Bench::new();
    let session = session(&bench, &mut client(&bench.host(), Policy::Require));
    let get = |reply: &'static str, range| {
        let buffer = session.buffer(10).unwrap();
        client(&scripted(vec![reply]), Policy::Prefer).get_into("b", "k", range, buffer).unwrap_err()
    };
    let put = |reply: &'static str| {
        let buffer = session.buffer(10).unwrap();
        client(&scripted(vec![reply]), Policy::Prefer).put_from("b", "k", &[], buffer, 10).unwrap_err()
    };
    for lost in ["", "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 200\r\n", "HTTP/1.1 200"] {
        for failed in [get(lost, None), put(lost)] {
            assert!(matches!(failed.error, ClientError::Connection(_)), "{lost}: {failed:?}");
            assert!(failed.buffer.is_some());
        }
    }
    let reply = "HTTP/1.1 206 OK\r\nx-amz-rdma-reply: 206\r\nx-amz-rdma-bytes-transferred: 5\r\n\
        Content-Range: bytes 0-4/20\r\nContent-Length: 0\r\n\r\n";
    for wanted in [5..10, 0..4, 1..5, 0..10] {
        let failed = get(reply, Some(wanted.clone()));
        assert!(matches!(failed.error, ClientError::Unproven(_)), "{wanted:?}: {failed:?}");
        assert!(failed.buffer.is_some());
    }
    let more = "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 11\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(get(more, None).error, ClientError::Unproven(_)));
    let other = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 10\r\n\
        x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\nContent-Length: 0\r\n\r\n";
    let fewer = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 9\r\nContent-Length: 0\r\n\r\n";
    for wrong in [other, fewer] {
        let failed = put(wrong);
        assert!(matches!(failed.error, ClientError::Unproven(_)), "{failed:?}");
        assert!(failed.buffer.is_some());
    }
    assert_eq!(session.quarantined_bytes(), 0);
}
