//! Objects to and from a client's memory, over shared memory: on any machine, what a network card does on some.

use crate::bench::{ALICE, BOB, Bench, Client, Reply};
use crossdock_s3::protocol::{
    checksum::{Algorithm, Hasher},
    http::Method,
    remote::format_session,
};
use crossdock_s3::server::render;
use crossdock_transport::{
    memory::{CopyReason, copied_bytes},
    remote::{Access, SessionId},
    shm::ShmClient,
    token::ShmToken,
};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use std::ops::Range;

const MEMORY: u64 = 32 << 20;
const POISON: u8 = 0xa5;

/// A client with memory that is bound to its name.
pub(crate) struct Peer {
    pub(crate) http: Client,
    memory: ShmClient,
    pub(crate) session: [u8; 16],
}

impl Peer {
    pub(crate) fn new(bench: &Bench) -> Peer {
        let (memory, session) = bench.memory(MEMORY);
        let mut http = bench.client(ALICE);
        let bound =
            http.call(Method::Post, "/.crossdock-shm/bind", &[(SESSION, &format_session(session))], b"");
        assert_eq!((bound.status, bound.header(SESSION)), (200, Some(&*format_session(session))));
        Peer { http, memory, session }
    }

    /// A token for a part of the memory.
    fn token(&self, range: Range<usize>, access: Access) -> String {
        let slice = self.memory.expose(range, access).unwrap();
        let session = SessionId::from_bytes(self.session);
        ShmToken::new(session, slice.address(), slice.bytes()).unwrap().to_string()
    }

    /// GET into the middle of poisoned memory; gives the reply and what came, which nothing lies beside.
    fn get(&mut self, path: &str, room: usize, headers: &[(&str, &str)]) -> (Reply, Vec<u8>) {
        let margin = 4096;
        let place = margin..margin + room;
        self.memory.store(0, &vec![POISON; room + 2 * margin]);
        let token = self.token(place.clone(), Access::Write);
        let headers = [headers, &[(TOKEN, &token)]].concat();
        let reply = self.http.call(Method::Get, path, &headers, b"");
        let moved = reply.header(BYTES).map_or(0, |bytes| bytes.parse().unwrap());
        let mut found = vec![0; room + 2 * margin];
        self.memory.load(0, &mut found);
        let untouched = found[..margin].iter().chain(&found[margin + moved..]);
        if reply.header(REPLY) != Some("501") {
            assert!(untouched.copied().all(|byte| byte == POISON), "{path}: beside the bytes");
        } else {
            let outside = found[..margin].iter().chain(&found[margin + room..]);
            assert!(outside.copied().all(|byte| byte == POISON), "{path}: beside the room");
        }
        (reply, found[margin..margin + moved].to_vec())
    }

    pub(crate) fn put(&mut self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Reply {
        self.memory.store(100, body);
        let token = self.token(100..100 + body.len(), Access::Read);
        let headers = [headers, &[(TOKEN, &token)]].concat();
        self.http.call(Method::Put, path, &headers, b"")
    }
}

const TOKEN: &str = "x-amz-rdma-token";
const SESSION: &str = "x-amz-rdma-session";
const REPLY: &str = "x-amz-rdma-reply";
const STATUS: &str = "x-amz-rdma-protocol-status";
const BYTES: &str = "x-amz-rdma-bytes-transferred";
const CHECKSUM: &str = "x-amz-rdma-checksum-crc64nvme";

pub(crate) fn pattern(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn crc64(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Crc64Nvme);
    hasher.update(bytes);
    hasher.finish().to_string()
}

pub(crate) fn bucket(bench: &Bench) -> Peer {
    let mut peer = Peer::new(bench);
    assert_eq!(peer.http.call(Method::Put, "/bucket", &[], b"").status, 200);
    peer
}

#[test]
fn objects_of_every_size_go_both_ways() {
    // Shows, for each way of storing an object, that what was put from memory is what HTTP gets, and the other way round, whole and in
    // ranges, byte exact, counted and with its checksum, and that no byte beside it is touched.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    let sizes =
        [0, 1, 1000, 1024, 1025, 4095, 4096, 65_537, 262_144, 262_145, 1 << 20, (1 << 20) + 1, (5 << 20) + 3];
    for (index, size) in sizes.into_iter().enumerate() {
        let body = pattern(size, index as u64 + 1);
        let reply = peer.put("/bucket/put", &body, &[("x-amz-meta-a", "b")]);
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")), "{size}");
        assert_eq!(reply.header(BYTES), Some(&*size.to_string()));
        assert!(reply.header("etag").unwrap().ends_with("-1\""), "no client takes it for an MD5");
        assert_eq!(reply.header("x-amz-checksum-crc64nvme"), Some(&*crc64(&body)));
        let reply = peer.http.call(Method::Get, "/bucket/put", &[], b"");
        assert_eq!((reply.status, reply.header("x-amz-meta-a")), (200, Some("b")));
        assert!(reply.body == body, "{size} bytes over HTTP");

        peer.http.call(Method::Put, "/bucket/http", &[], &body);
        let (reply, found) = peer.get("/bucket/http", size, &[]);
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")), "{size}");
        assert!(reply.body.is_empty() && found == body, "{size} bytes into memory");
        assert_eq!(reply.header(CHECKSUM), Some(&*crc64(&body)));
        assert_eq!(reply.header("x-amz-rdma-object-size"), Some(&*size.to_string()));
        for (first, last) in [(0, 0), (1, 70_000), (65_536, 131_071), (size / 2, size)] {
            if first >= size {
                continue;
            }
            let end = size.min(last + 1);
            let range = format!("bytes={first}-{last}");
            let (reply, found) = peer.get("/bucket/http", end - first, &[("range", &range)]);
            assert_eq!((reply.status, reply.header(REPLY)), (206, Some("206")), "{size} {range}");
            assert_eq!(reply.header("content-range"), Some(&*format!("bytes {first}-{}/{size}", end - 1)));
            assert!(found == body[first..end], "{range} of {size}");
            assert_eq!(reply.header(CHECKSUM), Some(&*crc64(&body[first..end])));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1))]
    /// Shows that any range of an object of several parts, each stored in its own way, comes exactly.
    #[test]
    fn ranges_of_parts_come_exactly(ranges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 60)) {
        let bench = Bench::new();
        let mut peer = bucket(&bench);
        let created = peer.http.call(Method::Post, "/bucket/parts?uploads=", &[], b"");
        let text = String::from_utf8(created.body).unwrap();
        let upload = text.split_once("<UploadId>").unwrap().1.split_once("</UploadId>").unwrap().0.to_owned();
        let sizes = [5 << 20, (5 << 20) + 4097, 200_000];
        let body = pattern(sizes.iter().sum(), 7);
        let (mut at, mut document) = (0, String::from("<CompleteMultipartUpload>"));
        for (index, size) in sizes.into_iter().enumerate() {
            let path = format!("/bucket/parts?partNumber={}&uploadId={upload}", index + 1);
            let part = &body[at..at + size];
            // Each part goes its own way.
            let reply = match index {
                1 => peer.http.call(Method::Put, &path, &[], part),
                _ => peer.put(&path, part, &[("x-amz-checksum-crc64nvme", &crc64(part))]),
            };
            assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
            let etag = reply.header("etag").unwrap().replace('"', "&quot;");
            document += &format!("<Part><PartNumber>{}</PartNumber><ETag>{etag}</ETag></Part>", index + 1);
            at += size;
        }
        document += "</CompleteMultipartUpload>";
        let path = format!("/bucket/parts?uploadId={upload}");
        let completed = peer.http.call(Method::Post, &path, &[], document.as_bytes());
        assert_eq!(completed.status, 200, "{}", String::from_utf8_lossy(&completed.body));
        for (one, other) in ranges {
            let (one, other) = (one.index(body.len()), other.index(body.len()));
            let (first, last) = (one.min(other), one.max(other));
            let (reply, found) = peer.get("/bucket/parts", last - first + 1, &[("range", &format!("bytes={first}-{last}"))]);
            assert_eq!(reply.header(REPLY), Some("206"));
            assert!(found == body[first..=last], "{first} to {last}");
            assert_eq!(reply.header(CHECKSUM), Some(&*crc64(&body[first..=last])));
        }
    }
}

#[test]
fn what_can_not_be_served_is_declined() {
    // Shows that a declined GET answers with the object in its body, and a declined PUT stores nothing and says so where clients look.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    let body = pattern(300_000, 3);
    peer.http.call(Method::Put, "/bucket/key", &[], &body);
    let dc = format!(
        "{}:{}:{}:{}:{}:1:{}",
        "0".repeat(16),
        "0".repeat(8),
        "0".repeat(8),
        "0".repeat(4),
        "0".repeat(6),
        "0".repeat(32)
    );
    // A queue pair, which is good for a connect and no object's bytes.
    let hip = "0".repeat(88);
    let rc = format!("rc:{}:{}:{}:{}", "0".repeat(32), "0".repeat(16), "0".repeat(8), "0".repeat(8));
    for token in ["something else", &dc, &rc, &hip] {
        let unsupported = (token != "something else").then_some("unsupported");
        let reply = peer.http.call(Method::Get, "/bucket/key", &[(TOKEN, token)], b"");
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("501")), "{token}");
        assert!(reply.body == body);
        assert_eq!(reply.header(STATUS), unsupported, "{token}");
        let reply = peer.http.call(Method::Put, "/bucket/new", &[(TOKEN, token)], b"");
        assert_eq!(reply.header(STATUS), unsupported, "{token}");
        assert_eq!(
            (reply.status, reply.header(REPLY), &*reply.code()),
            (200, Some("501"), "RDMANotSupported")
        );
        assert_eq!((reply.header("etag"), reply.header(BYTES)), (None, None));
    }
    let (reply, _) = peer.get("/bucket/key", body.len() - 1, &[]);
    assert_eq!((reply.status, reply.header(REPLY)), (200, Some("501")), "one byte too small");
    assert!(reply.body == body);
    assert_eq!(peer.http.call(Method::Head, "/bucket/new", &[], b"").status, 404);
    // Refusals of the object itself are what they are without a token.
    let token = peer.token(0..10, Access::Write);
    let reply = peer.http.call(Method::Get, "/bucket/nothing", &[(TOKEN, &token)], b"");
    assert_eq!((reply.status, &*reply.code()), (404, "NoSuchKey"));
    let text = render(bench.server.metrics(), &[], &[]);
    for line in [
        "connects_total{result=\"made\"} 1",
        "reason=\"unknown_token\"} 2",
        "reason=\"not_served\"} 6",
        "reason=\"too_small\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn parts_and_ranges_are_declined_and_fail_as_objects_do() {
    // Shows that of a part which is declined, or whose memory refuses it, nothing is stored, and that a range comes in the body then; and
    // that the upload and the session go on.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    let body = pattern(300_000, 5);
    peer.http.call(Method::Put, "/bucket/key", &[], &body);
    let created = peer.http.call(Method::Post, "/bucket/parts?uploads=", &[], b"");
    let text = String::from_utf8(created.body).unwrap();
    let upload = text.split_once("<UploadId>").unwrap().1.split_once("</UploadId>").unwrap().0.to_owned();
    let part = format!("/bucket/parts?partNumber=1&uploadId={upload}");
    // Each for the direction that the request has no use for.
    let (target, source) = (peer.token(0..1000, Access::Write), peer.token(8192..9192, Access::Read));
    for (token, status, word, code) in
        [("of nobody", 200, "501", "RDMANotSupported"), (&target, 500, "500", "RDMATransferFailed")]
    {
        let reply = peer.http.call(Method::Put, &part, &[(TOKEN, token)], b"");
        assert_eq!((reply.status, reply.header(REPLY), &*reply.code()), (status, Some(word), code));
        assert_eq!((reply.header("etag"), reply.header(BYTES)), (None, None));
    }
    let listed = peer.http.call(Method::Get, &format!("/bucket/parts?uploadId={upload}"), &[], b"");
    assert_eq!((listed.status, String::from_utf8_lossy(&listed.body).contains("<Part>")), (200, false));
    for token in ["of nobody", &source] {
        let headers = [(TOKEN, token), ("range", "bytes=1000-1999")];
        let reply = peer.http.call(Method::Get, "/bucket/key", &headers, b"");
        assert_eq!((reply.status, reply.header(REPLY)), (206, Some("501")), "{token}");
        assert_eq!(reply.header("content-range"), Some("bytes 1000-1999/300000"));
        assert!(reply.body == body[1000..2000]);
    }
    let (reply, _) = peer.get("/bucket/key", 999, &[("range", "bytes=1000-1999")]);
    assert_eq!((reply.status, reply.header(REPLY)), (206, Some("501")), "one byte too small");
    assert!(reply.body == body[1000..2000]);
    assert_eq!(peer.put(&part, &body, &[]).header(REPLY), Some("200"));
    let (_, found) = peer.get("/bucket/key", 1000, &[("range", "bytes=1000-1999")]);
    assert!(found == body[1000..2000]);
}

#[test]
fn large_objects_are_read_straight_into_memory() {
    // Shows that a disk fills the client's pages itself: no byte of a whole object, or of a range of whole blocks, is copied; of an
    // odd range only its edges are.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    let body = pattern((5 << 20) + 3 * 65536, 9);
    peer.http.call(Method::Put, "/bucket/key", &[], &body);
    let mut copied = |room: usize, range: Option<(usize, usize)>| {
        // Of several tries the least: other tests of this process may copy meanwhile.
        let once = |_| {
            let before = copied_bytes(CopyReason::Foreign);
            let text = range.map(|(first, last)| format!("bytes={first}-{last}"));
            let headers: Vec<_> = text.iter().map(|text| ("range", &**text)).collect();
            let (reply, found) = peer.get("/bucket/key", room, &headers);
            assert!(matches!(reply.status, 200 | 206));
            let (first, last) = range.unwrap_or((0, body.len() - 1));
            assert!(found == body[first..=last], "{range:?}");
            assert_eq!(reply.header(CHECKSUM), Some(&*crc64(&body[first..=last])), "{range:?}");
            copied_bytes(CopyReason::Foreign) - before
        };
        (0..5).map(once).min()
    };
    assert_eq!(copied(body.len(), None), Some(0));
    assert_eq!(copied(2 << 20, Some((65536, 65536 + (1 << 20) - 1))), Some(0));
    let edges = copied(body.len(), Some((512, (4 << 20) + 99))).unwrap();
    assert!((1..=2 * 65536).contains(&edges), "{edges}");
    // Memory that is not aligned as disks want it.
    assert_eq!(copied(body.len(), Some((1, 3 << 20))), Some(3 << 20));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a client that does two things at once")]
fn a_client_that_scribbles_is_no_corruption() {
    // Shows that bytes which a client changes while they come are its own affair: the object is not called corrupt, and comes whole
    // when the client holds still.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    let body = pattern(4 << 20, 5);
    peer.http.call(Method::Put, "/bucket/key", &[], &body);
    for _ in 0..10 {
        let token = peer.token(0..body.len(), Access::Write);
        let request = peer.http.request(Method::Get, "/bucket/key", &[(TOKEN, &token)], b"");
        let (done, finished) = std::sync::mpsc::channel();
        let mut http = bench.client(ALICE);
        let call = std::thread::spawn(move || {
            let reply = http.send(&request);
            done.send(()).unwrap();
            reply
        });
        let mut at = 0;
        while finished.try_recv().is_err() {
            peer.memory.store(at % body.len(), &[0; 64]);
            at += 4096;
        }
        let reply = call.join().unwrap();
        assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")));
        assert_eq!(reply.header(BYTES), Some(&*body.len().to_string()));
    }
    let (reply, found) = peer.get("/bucket/key", body.len(), &[]);
    assert_eq!(reply.header(REPLY), Some("200"));
    assert!(found == body);
}

#[test]
fn sessions_are_their_owners() {
    // Shows that a session that is unknown, not bound, gone or another's is the same nothing, and that nothing moves.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    peer.http.call(Method::Put, "/bucket/key", &[], b"0123456789");
    let token = peer.token(0..10, Access::Write);
    let mut other = bench.client(BOB);
    let refused = |reply: Reply| assert_eq!((reply.status, &*reply.code()), (404, "NoSuchRDMASession"));
    refused(other.call(Method::Get, "/bucket/key", &[(TOKEN, &token)], b""));
    let name = format_session(peer.session);
    refused(other.call(Method::Post, "/.crossdock-shm/bind", &[(SESSION, &name)], b""));
    assert_eq!(other.call(Method::Post, "/.s3rdma-rc/disconnect", &[(SESSION, &name)], b"").status, 204);
    let (unbound, session) = bench.memory(4096);
    let slice = unbound.expose(0..10, Access::Write).unwrap();
    let unbound_token =
        ShmToken::new(SessionId::from_bytes(session), slice.address(), slice.bytes()).unwrap().to_string();
    refused(peer.http.call(Method::Get, "/bucket/key", &[(TOKEN, &unbound_token)], b""));
    for core in [0, 1, 7, u16::MAX] {
        let nobody = ShmToken::new(SessionId::new(core, [1; 14]), 0, 10).unwrap().to_string();
        refused(peer.http.call(Method::Get, "/bucket/key", &[(TOKEN, &nobody)], b""));
        refused(peer.http.call(Method::Put, "/bucket/new", &[(TOKEN, &nobody)], b""));
    }
    // It still is its owner's, until that one ends it.
    let reply = peer.http.call(Method::Get, "/bucket/key", &[(TOKEN, &token)], b"");
    assert_eq!(reply.header(REPLY), Some("200"));
    assert_eq!(peer.http.call(Method::Post, "/.s3rdma-rc/disconnect", &[(SESSION, &name)], b"").status, 204);
    refused(peer.http.call(Method::Get, "/bucket/key", &[(TOKEN, &token)], b""));
    assert_eq!(peer.http.call(Method::Head, "/bucket/new", &[], b"").status, 404);
}

#[test]
fn a_request_moves_bytes_once() {
    // Shows that a request sent again, by whomever caught it, does not write into memory that may be in another use.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    peer.http.call(Method::Put, "/bucket/key", &[], b"0123456789");
    let token = peer.token(0..10, Access::Write);
    let request = peer.http.request(Method::Get, "/bucket/key", &[(TOKEN, &token)], b"");
    assert_eq!(peer.http.send(&request).header(REPLY), Some("200"));
    peer.memory.store(0, &[POISON; 10]);
    let mut thief = bench.client(ALICE);
    let reply = thief.send(&request);
    assert_eq!((reply.header(REPLY), &*reply.body), (Some("501"), &b"0123456789"[..]));
    let mut found = [0; 10];
    peer.memory.load(0, &mut found);
    assert_eq!(found, [POISON; 10]);
}

#[test]
fn a_token_exposes_memory_for_one_request() {
    // Shows a token with a number: it needs no word before, moves bytes of one request, for its direction, and says with the reply that it
    // has ended; the number is good for nothing after that, nor when it was given up before the request came.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    let session = SessionId::from_bytes(peer.session);
    let once = |range: Range<usize>| {
        let slice = peer.memory.expose_once(range).unwrap();
        ShmToken::once(session, slice.address(), slice.bytes(), slice.key().0).unwrap().to_string()
    };
    let (put, get, given_up, beyond) = (once(0..5000), once(8192..8192 + 5000), once(0..5000), once(0..10));
    peer.memory.store(0, &pattern(5000, 2));
    let ended = "x-amz-rdma-exposure";
    let reply = peer.http.call(Method::Put, "/bucket/key", &[(TOKEN, &put)], b"");
    assert_eq!((reply.status, reply.header(REPLY), reply.header(ended)), (200, Some("200"), Some("ended")));
    peer.memory.store(0, &[POISON; 20_000]);
    let reply = peer.http.call(Method::Get, "/bucket/key", &[(TOKEN, &get)], b"");
    assert_eq!((reply.status, reply.header(REPLY), reply.header(ended)), (200, Some("200"), Some("ended")));
    let mut found = vec![0; 20_000];
    peer.memory.load(0, &mut found);
    assert!(found[8192..][..5000] == pattern(5000, 2));
    assert!(found[..8192].iter().chain(&found[8192 + 5000..]).all(|byte| *byte == POISON));

    peer.memory.store(0, &[POISON; 20_000]);
    for used in [&put, &get] {
        // Another signature, since the second before.
        let reply = peer.http.call(Method::Put, "/bucket/new", &[(TOKEN, used), ("x-amz-meta-a", "b")], b"");
        assert_eq!((reply.status, &*reply.code(), reply.header(ended)), (500, "RDMATransferFailed", None));
        let reply = peer.http.call(Method::Get, "/bucket/key", &[(TOKEN, used), ("x-amz-meta-a", "b")], b"");
        assert_eq!((reply.status, reply.header(REPLY), reply.header(ended)), (200, Some("501"), None));
    }
    let slice: ShmToken = given_up.parse().unwrap();
    peer.memory.abandon(&slice.slice()).unwrap();
    assert_eq!(crate::bench::hear(&peer.memory), crossdock_transport::shm::Event::Abandoned(3));
    let reply = peer.http.call(Method::Get, "/bucket/key", &[(TOKEN, &given_up)], b"");
    assert_eq!(reply.header(REPLY), Some("501"));
    // What the token does not say is not exposed.
    let parsed: ShmToken = beyond.parse().unwrap();
    let far = ShmToken::once(session, MEMORY - 9, 10, parsed.slice().key().0).unwrap().to_string();
    let reply = peer.http.call(Method::Put, "/bucket/new", &[(TOKEN, &far)], b"");
    assert_eq!((reply.status, &*reply.code()), (500, "RDMATransferFailed"));
    peer.memory.load(0, &mut found);
    assert!(found.iter().all(|byte| *byte == POISON));
    assert_eq!(peer.http.call(Method::Head, "/bucket/new", &[], b"").status, 404);
}

#[test]
fn bad_requests_are_refused() {
    // Shows what is an error of the request, and that the connection goes on behind it.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    let token = peer.token(0..10, Access::Read);
    let http = &mut peer.http;
    let mut refused = |method, headers: &[(&str, &str)], code: &str| {
        let reply = http.call(method, "/bucket/key", headers, b"");
        assert_eq!((reply.status / 100, &*reply.code()), (4, code), "{headers:?}");
        assert_eq!(reply.header(REPLY), None);
    };
    for malformed in ["shm:", "rc:1:2:3:4", &format!("{token}0")] {
        refused(Method::Put, &[(TOKEN, malformed)], "InvalidRDMAToken");
    }
    refused(Method::Put, &[(TOKEN, &token), (TOKEN, &token)], "InvalidRDMAToken");
    refused(Method::Put, &[(TOKEN, &token), ("x-amz-rdma-timeout-ms", "0")], "InvalidArgument");
    refused(Method::Put, &[(TOKEN, &token), ("x-amz-trailer", "x-amz-checksum-crc32")], "InvalidRequest");
    refused(Method::Put, &[(TOKEN, &token), ("x-amz-checksum-crc32", "AAAAAA==")], "BadDigest");
    refused(Method::Put, &[(TOKEN, &token), ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")], "BadDigest");
    let reply = peer.http.call(Method::Put, "/bucket/key", &[(TOKEN, &token)], b"body");
    assert_eq!((reply.status, &*reply.code()), (400, "InvalidRequest"));
    // A token by the name that another server gives it, which would leave an empty object.
    let reply = peer.http.call(Method::Put, "/bucket/key", &[("x-rdma-info", &token)], b"");
    assert_eq!((reply.status, &*reply.code()), (400, "InvalidRequest"));
    let mut http = bench.client(ALICE);
    assert_eq!(http.call(Method::Head, "/bucket/key", &[], b"").status, 404, "nothing was stored");
    // The direction is the client's to say: what it offers to be written is not read.
    let token = peer.token(0..10, Access::Write);
    let reply = http.call(Method::Put, "/bucket/key", &[(TOKEN, &token)], b"");
    assert_eq!((reply.status, reply.header(REPLY), &*reply.code()), (500, Some("500"), "RDMATransferFailed"));
    assert_eq!(http.call(Method::Head, "/bucket/key", &[], b"").status, 404);
}

#[test]
fn a_named_md5_becomes_the_tag() {
    // Shows that Content-MD5 is about the bytes in memory, and is the ETag then.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    // MD5 of 123456789 is 25f9e794323b453885f5181f1b624d0b.
    let reply = peer.put("/bucket/key", b"123456789", &[("content-md5", "JfnnlDI7RTiF9RgfG2JNCw==")]);
    assert_eq!((reply.status, reply.header("etag")), (200, Some("\"25f9e794323b453885f5181f1b624d0b\"")));
}

#[test]
fn a_server_says_what_it_speaks() {
    // Shows the list of transports, and what is answered to those who ask for others.
    let bench = Bench::new();
    let mut http = bench.client(ALICE);
    let reply = http.call(Method::Get, "/.crossdock/transports", &[], b"");
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.contains("\"transport\":\"shm\"") && !text.contains("rdma-rc"), "{text}");
    let limits = r#""sessions":{"max":1024,"principal_max":64,"in_flight":64,"idle_ms":300000}"#;
    assert!(text.contains(limits) && text.contains("\"cores\":2,"), "{text}");
    assert_eq!(http.call(Method::Post, "/.s3rdma-rc/connect", &[(TOKEN, "x")], b"").status, 405);
    // Its clients sign for another service, and say nothing of a body; some do not sign.
    let signed = http.request(Method::Post, "/.hipobj-rc/prepare", &[], b"");
    let as_they_sign =
        String::from_utf8(signed.clone()).unwrap().replacen("/s3/aws4_request", "/hipobj/aws4_request", 1);
    let as_they_sign = as_they_sign.replacen("x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n", "", 1);
    assert!(as_they_sign.len() < signed.len(), "{as_they_sign}");
    let unsigned = http.unsigned(Method::Post, "/.hipobj-rc/prepare", &[], b"");
    for request in [&*signed, as_they_sign.as_bytes(), &*unsigned] {
        let reply = http.send(request);
        assert_eq!((reply.status, reply.header(STATUS)), (501, Some("unsupported")));
    }
    assert_eq!(http.call(Method::Get, "/.crossdock-shm/bind", &[], b"").status, 405);
}

#[test]
fn a_client_that_is_gone_harms_nobody() {
    // Shows that memory which went with its process is no session any more, whatever its tokens said.
    let bench = Bench::new();
    let peer = bucket(&bench);
    let token = peer.token(0..10, Access::Write);
    let Peer { mut http, memory, .. } = peer;
    http.call(Method::Put, "/bucket/key", &[], b"0123456789");
    drop(memory);
    let reply = http.call(Method::Get, "/bucket/key", &[(TOKEN, &token)], b"");
    // The hang-up may be heard with the request or before it.
    match reply.header(REPLY) {
        Some(reply) => assert_eq!(reply, "501"),
        None => assert_eq!((reply.status, &*reply.code()), (404, "NoSuchRDMASession")),
    }
}

#[test]
fn a_deadline_counts_from_the_first_byte() {
    // Shows that a head which comes slowly leaves no more time than one that comes at once.
    let bench = Bench::new();
    let mut peer = bucket(&bench);
    peer.http.call(Method::Put, "/bucket/key", &[], b"0123456789");
    let token = peer.token(0..10, Access::Write);
    let request = peer.http.request(
        Method::Get,
        "/bucket/key",
        &[(TOKEN, &token), ("x-amz-rdma-timeout-ms", "300")],
        b"",
    );
    let (front, back) = request.split_at(request.len() / 2);
    peer.http.write(front);
    crate::bench::pause(1000);
    peer.http.write(back);
    let reply = peer.http.read(false);
    assert_eq!((reply.status, reply.header(REPLY)), (200, Some("501")));
}
