//! Objects go both ways, byte exact, and are not copied.

use crate::{
    bench::Bench,
    log::{access_line, keep},
    peer::{BYTES, Peer, REPLY, card, library_client, pattern, server},
};
use crossdock_s3::{
    client::{ClientError, Policy, Way},
    protocol::{
        checksum::{Algorithm, Hasher},
        http::Method,
    },
};
use crossdock_transport::{
    exposure::Session,
    memory::{CopyReason, copied_bytes},
    rdma::RdmaLink,
};

fn crc64(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Crc64Nvme);
    hasher.update(bytes);
    hasher.finish().to_string()
}

#[test]
fn objects_of_every_size_go_both_ways() {
    // Shows, for each way of storing an object, that what was put from memory is what HTTP gets, and the other way round, whole and in
    // ranges, byte exact, counted and with its checksum, and that no byte beside it is touched.
    let bench = server();
    let mut peer = Peer::with_bucket(&bench, 16 << 20);
    let sizes = [0, 1, 1024, 1025, 4096, 65_537, 262_144, 262_145, (1 << 20) + 1, (5 << 20) + 3];
    for (index, size) in sizes.into_iter().enumerate() {
        let body = pattern(size, index as u64 + 1);
        let reply = peer.put("/bucket/put", &body, &[("x-amz-meta-a", "b")]);
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")), "{size}");
        assert_eq!(reply.header(BYTES), Some(&*size.to_string()));
        assert_eq!(reply.header("x-amz-checksum-crc64nvme"), Some(&*crc64(&body)));
        let reply = peer.http.call(Method::Get, "/bucket/put", &[], b"");
        assert_eq!((reply.status, reply.header("x-amz-meta-a")), (200, Some("b")));
        assert!(reply.body == body, "{size} bytes over HTTP");

        peer.http.call(Method::Put, "/bucket/http", &[], &body);
        let (reply, found) = peer.get("/bucket/http", size, &[]);
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")), "{size}");
        assert!(reply.body.is_empty() && found == body, "{size} bytes into memory");
        for (first, last) in [(0, 0), (1, 70_000), (65_536, 131_071), (size / 2, size)] {
            if first >= size {
                continue;
            }
            let expected = &body[first..(last + 1).min(size)];
            let range = format!("bytes={first}-{last}");
            let (reply, found) = peer.get("/bucket/http", expected.len() + 100, &[("range", &range)]);
            assert_eq!((reply.status, reply.header(REPLY)), (206, Some("206")), "{size} {range}");
            assert!(found == expected, "{size} {range}");
        }
    }
    // Memory that is too small is not written past, and the object comes in a body.
    let (reply, found) = peer.get("/bucket/http", 1000, &[]);
    assert_eq!((reply.status, reply.header(REPLY), found.len()), (200, Some("501"), 0));
    assert_eq!(reply.body.len(), (5 << 20) + 3);
}

/// A session of the library's client.
fn session(bench: &Bench, bytes: usize) -> (crossdock_s3::client::Client, Session<RdmaLink>) {
    let mut client = library_client(bench, Policy::Require);
    let session = client.connect_rdma(card(bytes, true)).unwrap();
    assert!(session.is_notified(), "what was asked for is granted");
    (client, session)
}

#[test]
fn nothing_is_copied_on_the_way() {
    // Shows that large objects go from memory to disk and back without one byte copied by the server, which is this process; and
    // that the library's client says which way they went, whole and in parts.
    let bench = server();
    let (mut client, session) = session(&bench, 32 << 20);
    assert_eq!(client.exchange(Method::Put, "/bucket", &[], b"").unwrap().0.status, 200);
    let bytes = 6 << 20;
    let mut buffer = session.buffer(bytes).unwrap();
    buffer.copy_from_slice(&pattern(bytes, 3));
    let expected = buffer.to_vec();
    let reasons =
        [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge, CopyReason::Foreign];
    let copied = || reasons.map(copied_bytes);

    let before = copied();
    let stored = client.put_from("bucket", "key", &[], buffer, bytes).unwrap();
    assert_eq!((stored.way, stored.rail.as_deref()), (Way::Transport, Some("rxe0/1")));
    let mut buffer = stored.buffer;
    buffer.fill(0);
    let got = client.get_into("bucket", "key", None, buffer).unwrap();
    assert_eq!((got.way, got.bytes, got.rail.as_deref()), (Way::Transport, bytes, Some("rxe0/1")));
    assert!(got.buffer[..] == expected[..]);
    assert_eq!(copied(), before, "payload was copied");

    let (_, document) = client.exchange(Method::Post, "/bucket/parts?uploads=", &[], b"").unwrap();
    let document = String::from_utf8(document).unwrap();
    let upload = document.split_once("<UploadId>").unwrap().1.split_once("</UploadId>").unwrap().0.to_owned();
    let mut buffer = got.buffer;
    let mut parts = String::new();
    for number in 1..=2u16 {
        let stored = client.put_part_from(("bucket", "parts"), &upload, number, buffer, bytes).unwrap();
        assert_eq!(stored.way, Way::Transport);
        let tag = stored.head.get("etag").unwrap().replace('"', "&quot;");
        parts += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>");
        buffer = stored.buffer;
    }
    assert_eq!(copied()[..3], before[..3], "payload was copied");
    let path = format!("/bucket/parts?uploadId={upload}");
    let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let (head, _) = client.exchange(Method::Post, &path, &[], document.as_bytes()).unwrap();
    assert_eq!(head.status, 200);
    drop(buffer);
    // The document of the completion was one.
    let before = copied();
    let got = client.get_into("bucket", "parts", None, session.buffer(2 * bytes).unwrap()).unwrap();
    assert_eq!((got.way, got.bytes), (Way::Transport, 2 * bytes));
    assert!(got.buffer[..bytes] == expected[..] && got.buffer[bytes..] == expected[..]);
    assert_eq!(copied(), before, "payload was copied");

    assert_eq!(session.quarantined_bytes(), 0);
}

#[test]
fn a_session_that_was_lost_is_made_anew() {
    // Shows that a client whose session the server does not know any more, or whose own queue pair broke, goes on with another queue pair
    // over the same memory, with notices as before; and that one which finds no server any more says so.
    let bench = server();
    let (mut client, session) = session(&bench, 16 << 20);
    assert_eq!(client.exchange(Method::Put, "/bucket", &[], b"").unwrap().0.status, 200);
    let bytes = 3 << 20;
    let mut buffer = session.buffer(bytes).unwrap();
    let mut names = Vec::new();
    for round in 0..4u64 {
        let name = session.link().session().unwrap();
        names.push(name);
        if round % 2 == 0 {
            library_client(&bench, Policy::Off).disconnect(name).unwrap();
        } else {
            // The server is refused, and its error state is seen by the client with the next request at the latest.
            let exposed = buffer.expose_target().unwrap();
            let token = exposed.token(0..100).unwrap();
            let mut http = bench.client(crate::bench::ALICE);
            let reply = http.call(Method::Put, "/bucket/refused", &[(crate::peer::TOKEN, &token)], b"");
            assert_eq!(reply.status, 500);
            drop(exposed);
            while session.quarantined_bytes() > 0 {
                session.poll();
            }
            buffer = session.buffer(bytes).unwrap();
        }
        let body = pattern(bytes, round + 1);
        buffer.copy_from_slice(&body);
        let stored = client.put_from("bucket", "key", &[], buffer, bytes).unwrap();
        assert_eq!(stored.way, Way::Transport, "round {round}");
        buffer = stored.buffer;
        buffer.fill(0);
        let got = client.get_into("bucket", "key", None, buffer).unwrap();
        assert_eq!((got.way, got.bytes), (Way::Transport, bytes), "round {round}");
        assert!(got.buffer[..] == body[..] && session.is_notified());
        buffer = got.buffer;
        assert!(!names.contains(&session.link().session().unwrap()), "another session");
    }
    assert_eq!(session.quarantined_bytes(), 0);
    drop(bench);
    let failed = client.get_into("bucket", "key", None, buffer).unwrap_err();
    assert!(matches!(failed.error, ClientError::Connection(_)), "{failed:?}");
}

#[test]
fn the_access_log_names_the_rail() {
    // Shows that the line of a request whose bytes went over a card says so, over which of its rails, and how many; and that the list of
    // transports has that rail at that place.
    keep();
    let bench = server();
    let mut peer = Peer::with_bucket(&bench, 1 << 20);
    let replies = [peer.put("/bucket/key", &[7; 5000], &[]), peer.get("/bucket/key", 5000, &[]).0];
    for reply in replies {
        assert_eq!(reply.header("x-amz-rdma-rail"), Some("rxe0/1"));
        let request = reply.header("x-amz-request-id").unwrap();
        let line = access_line(request, |line| line.get("request") == request);
        let way = ["over", "rail", "moved", "fallback"].map(|name| line.get(name));
        assert_eq!(way, ["rdma", "0", "5000", "-"]);
    }
}

#[test]
fn the_server_says_what_it_speaks() {
    // Shows that a client learns of RDMA before it sends a PUT that somebody else would store as an empty object.
    let bench = server();
    let mut client = bench.client(crate::bench::ALICE);
    let reply = client.call(Method::Get, "/.crossdock/transports", &[], b"");
    let text = String::from_utf8(reply.body).unwrap();
    assert!(
        text.contains(
            r#"{"transport":"rdma","token":"rc","connect":"POST /.s3rdma-rc/connect","rails":["rxe0/1""#
        ),
        "{text}"
    );
}
