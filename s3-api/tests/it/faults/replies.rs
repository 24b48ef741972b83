//! Replies that prove nothing, whatever the bytes would go over: rows of the table that need no server, only one that pretends.

use super::stage::library_at;
use crossdock_s3::client::{Client, ClientError, Fallback, Policy, Way};
use crossdock_transport::{
    exposure::{Link, Session},
    shm::{ShmClient, ShmLink, same_user_or_root},
};
use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::mpsc,
    thread,
};

fn client(host: &str, policy: Policy) -> Client {
    library_at(host).policy(policy)
}

/// A session over shared memory with the server at that socket, which knows whose it is.
pub(crate) fn shm_session(socket: &Path, client: &mut Client) -> Session<ShmLink> {
    let shared = ShmClient::connect(socket, 32 << 20, same_user_or_root).unwrap();
    client.bind_shm(shared).unwrap()
}

/// A server that answers each request with the next of these.
pub(crate) fn scripted(replies: Vec<&'static str>) -> String {
    heard(replies).0
}

/// The same, and the heads of the requests as they come, in lower case.
#[allow(clippy::disallowed_methods, reason = "a server beside the client that blocks")]
fn heard(replies: Vec<&'static str>) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (hear, heard) = mpsc::channel();
    thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut piece = [0; 4096];
                let received = stream.read(&mut piece).unwrap();
                seen.extend_from_slice(&piece[..received]);
            }
            hear.send(String::from_utf8_lossy(&seen).to_lowercase()).ok();
            stream.write_all(reply.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Whatever else comes is a body.
            std::io::copy(&mut stream, &mut std::io::sink()).ok();
        }
    });
    (address, heard)
}

/// Shows that a 200 without the server's word is no PUT, however good its ETag: the bytes are sent again in a body, or the call fails
/// where that is not allowed. And that claims without proof, and chunked replies of field servers, are judged right.
pub(super) fn a_server_that_knows_nothing_is_not_believed<L: Link>(session: &Session<L>) {
    let failed = "HTTP/1.1 500 No\r\nx-amz-rdma-reply: 500\r\nContent-Length: 0\r\n\r\n";
    let plain = "HTTP/1.1 200 OK\r\nETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let put = |replies: Vec<&'static str>, policy| {
        client(&scripted(replies), policy).put_from("b", "k", &[], session.buffer(10).unwrap(), 10)
    };
    assert_eq!(put(vec![plain, plain], Policy::Prefer).unwrap().way, Way::Http(Fallback::Ignored));
    let ignored = put(vec![plain], Policy::Require).unwrap_err();
    assert!(matches!(ignored.error, ClientError::NotMoved(Fallback::Ignored)), "{ignored:?}");
    let claims = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nx-amz-rdma-reply: 200\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(put(vec![claims], Policy::Prefer).unwrap_err().error, ClientError::Unproven(_)));
    assert!(matches!(put(vec![""], Policy::Prefer).unwrap_err().error, ClientError::Connection(_)));

    // One that failed is sent once: for a second there is no server any more.
    let once = put(vec![failed], Policy::Prefer).unwrap_err();
    assert!(matches!(once.error, ClientError::Refused { status: 500, .. }), "{once:?}");

    let get = |replies: Vec<&'static str>, range| {
        client(&scripted(replies), Policy::Prefer).get_into("b", "k", range, session.buffer(10).unwrap())
    };
    let named = "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 3\r\n\
        x-amz-rdma-object-size: 3\r\nx-amz-rdma-rail: mlx5_0/1\r\nContent-Length: 0\r\n\r\n";
    let got = get(vec![named], None).unwrap();
    assert_eq!((got.way, got.rail.as_deref()), (Way::Transport, Some("mlx5_0/1")));
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
        x-amz-rdma-object-size: 3\r\nx-amz-rdma-checksum-crc64nvme: AAAAAAAAAAA=\r\nContent-Length: 0\r\n\r\n";
    assert!(matches!(get(vec![lying], None).unwrap_err().error, ClientError::Damaged));
    assert_eq!(session.quarantined_bytes(), 0);
}

/// Shows that the conditions of a PUT are not held against the empty object that a server which knows nothing has stored by it: the bytes
/// replace just that, and where they do not the caller is told what is there.
pub(super) fn conditions_are_of_what_was_there_before<L: Link>(session: &Session<L>) {
    let empty = "HTTP/1.1 200 OK\r\nETag: \"of nothing\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let nameless = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let stored = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let other = "HTTP/1.1 412 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for condition in [("If-None-Match", "*"), ("if-match", "\"before\"")] {
        let put = |replies: Vec<&'static str>| {
            let (host, heads) = heard(replies);
            let headers = [condition, ("x-amz-meta-a", "b")];
            let buffer = session.buffer(10).unwrap();
            (client(&host, Policy::Prefer).put_from("b", "k", &headers, buffer, 10), heads)
        };
        let (done, heads) = put(vec![empty, stored]);
        assert_eq!(done.unwrap().way, Way::Http(Fallback::Ignored));
        let line = format!("\r\n{}: {}\r\n", condition.0, condition.1).to_lowercase();
        let [first, second] = [heads.recv().unwrap(), heads.recv().unwrap()];
        assert!(first.contains(&line) && !second.contains(&line), "{second}");
        assert!(second.contains("\r\nif-match: \"of nothing\"\r\n"), "{second}");
        assert!(second.contains("\r\nx-amz-meta-a: b\r\n"), "{second}");
        for replies in [vec![empty, other], vec![empty, ""], vec![nameless, stored]] {
            let failed = put(replies.clone()).0.unwrap_err();
            assert!(matches!(failed.error, ClientError::EmptyStored(_)), "{replies:?}: {failed:?}");
            assert!(failed.buffer.is_some());
        }
    }
}

/// Shows that an object which a server cut to the length of the token is no success, whether it says the object's size or has to be asked
/// for it; and that one which it moved whole is, though it does not say so by itself.
pub(super) fn an_object_that_was_cut_is_not_taken_for_whole<L: Link>(session: &Session<L>) {
    let get = |replies: Vec<&'static str>| {
        let buffer = session.buffer(10).unwrap();
        client(&scripted(replies), Policy::Prefer).get_into("b", "k", None, buffer)
    };
    let cut_and_said = "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 10\r\n\
        x-amz-rdma-object-size: 11\r\nContent-Length: 0\r\n\r\n";
    let cut_to_a_range = "HTTP/1.1 206 OK\r\nx-amz-rdma-reply: 206\r\nx-amz-rdma-bytes-transferred: 10\r\n\
        Content-Range: bytes 0-9/11\r\nContent-Length: 0\r\n\r\n";
    for cut in [cut_and_said, cut_to_a_range] {
        let failed = get(vec![cut]).unwrap_err();
        assert!(matches!(failed.error, ClientError::Unproven(_)), "{failed:?}");
        assert!(failed.buffer.is_some());
    }
    let unsaid = "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 10\r\n\
        ETag: \"e\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let nameless = "HTTP/1.1 200 OK\r\nx-amz-rdma-reply: 200\r\nx-amz-rdma-bytes-transferred: 10\r\n\
        Content-Length: 0\r\nConnection: close\r\n\r\n";
    let whole = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\n";
    let longer = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 11\r\n\r\n";
    let replaced = "HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n";
    let not_heeded = "HTTP/1.1 200 OK\r\nETag: \"f\"\r\nContent-Length: 10\r\n\r\n";
    let got = get(vec![unsaid, whole]).unwrap();
    assert_eq!((got.way, got.bytes), (Way::Transport, 10));
    for replies in [[unsaid, longer], [unsaid, replaced], [unsaid, not_heeded], [nameless, whole]] {
        let failed = get(replies.to_vec()).unwrap_err();
        assert!(matches!(failed.error, ClientError::Unproven(_)), "{replies:?}: {failed:?}");
        assert!(failed.buffer.is_some());
    }
    assert_eq!(session.quarantined_bytes(), 0);
}

/// Shows that no reply, one that ends in its middle, one that belongs to another request, and one with a wrong count are failures of a
/// type, for both directions; and that the buffer comes back each time, because it is proven that nobody reaches it.
pub(super) fn replies_that_are_lost_or_wrong_prove_nothing<L: Link>(session: &Session<L>) {
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
