//! The service behind another HTTP stack: a stack made of a test's own futures, which sees every piece go by.

use crate::{
    bench::{ALICE, Bench, CAROL, now, pause},
    long_work::{beside, take},
};
use crossdock_s3::{
    http::{HttpFront, Peer, ReplyBody},
    protocol::{
        auth::{PayloadMode, Signer},
        http::{Method, RequestHead},
        remote::format_session,
    },
    server::{ServerLimits, render},
};
use crossdock_transport::{
    remote::{Access, SessionId},
    token::ShmToken,
};
use futures_lite::future::{block_on, poll_once};
use http_body::{Body, Frame};
use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

pub(crate) const PEER: fn() -> Peer = || Peer { address: ([192, 0, 2, 1], 1).into(), secure: false };

/// A body that hands out its pieces when it is asked, and counts how often it was.
pub(crate) struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    asked: Arc<AtomicUsize>,
    /// Whether it comes to its end, or stands still there.
    ends: bool,
}

pub(crate) fn pieces(pieces: impl IntoIterator<Item = Vec<u8>>) -> Pieces {
    Pieces { pieces: pieces.into_iter().collect(), asked: Arc::default(), ends: true }
}

impl Body for Pieces {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, std::io::Error>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ends && self.pieces.is_empty()
    }
}

/// A signed request, as a stack hands it over.
pub(crate) fn request(
    (access_key, secret): (&str, &str),
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Pieces,
) -> http::Request<Pieces> {
    let (raw, query) = path.split_once('?').unwrap_or((path, ""));
    let mut head = RequestHead::for_client(method, raw, query, "front.test");
    headers.iter().for_each(|(name, value)| head.headers.push(name, value.as_bytes()));
    let signer = Signer { access_key, secret, region: "us-east-1", session_token: None };
    signer.sign_header(&mut head, &PayloadMode::Unsigned, now());
    let mut request = http::Request::builder().method(method.as_str()).uri(path);
    for (name, value) in head.headers.iter() {
        request = request.header(name, value);
    }
    request.body(body).unwrap()
}

/// The next bytes of a reply.
async fn next(body: &mut ReplyBody) -> Option<bytes::Bytes> {
    let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    frame.unwrap().into_data().ok()
}

struct Reply {
    status: u16,
    headers: http::HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"))
            .map_or("", |(code, _)| code)
            .into()
    }
}

fn call(front: &HttpFront, request: http::Request<Pieces>) -> Reply {
    block_on(async {
        let (parts, mut body) = front.call(request, PEER()).await.into_parts();
        let announced = body.size_hint().exact().unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = next(&mut body).await {
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(bytes.len() as u64, announced);
        Reply { status: parts.status.as_u16(), headers: parts.headers, body: bytes }
    })
}

pub(crate) fn front(bench: &Bench) -> HttpFront {
    HttpFront::new(bench.engine().clone(), bench.service(), ServerLimits::default())
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 11 + at / 97) as u8).collect()
}

#[test]
fn tokens_are_served_behind_another_stack() {
    // Shows that a session is bound, and bytes go both ways over it, by requests that another HTTP stack hands over.
    let bench = Bench::new();
    let front = front(&bench);
    let nothing = || pieces([]);
    assert_eq!(call(&front, request(ALICE, Method::Put, "/photos", &[], nothing())).status, 200);
    let (memory, session) = bench.memory(1 << 20);
    let (body, name) = (bytes(300_000), format_session(session));
    let bind = [("x-amz-rdma-session", &*name)];
    assert_eq!(
        call(&front, request(ALICE, Method::Post, "/.crossdock-shm/bind", &bind, nothing())).status,
        200
    );
    memory.store(0, &body);
    let token = |access| {
        let slice = memory.expose(0..body.len(), access).unwrap();
        ShmToken::new(SessionId::from_bytes(session), slice.address(), slice.bytes()).unwrap().to_string()
    };
    let source = token(Access::Read);
    let named = [("x-amz-rdma-token", &*source)];
    let put = call(&front, request(ALICE, Method::Put, "/photos/k", &named, nothing()));
    assert_eq!((put.status, put.headers["x-amz-rdma-reply"].to_str().unwrap()), (200, "200"));
    memory.store(0, &vec![0; body.len()]);
    let target = token(Access::Write);
    let named = [("x-amz-rdma-token", &*target)];
    let got = call(&front, request(ALICE, Method::Get, "/photos/k", &named, nothing()));
    assert_eq!((got.status, got.body.len()), (200, 0));
    assert_eq!(got.headers["x-amz-rdma-bytes-transferred"].to_str().unwrap(), "300000");
    let mut found = vec![0; body.len()];
    memory.load(0, &mut found);
    assert!(found == body);
}

#[test]
fn objects_go_in_and_out_in_pieces_of_any_size() {
    // What one way stored the other reads, whole and in part; HEAD, deletes, errors with their identifiers.
    let bench = Bench::new();
    let front = front(&bench);
    let mut client = bench.client(ALICE);
    client.call(Method::Put, "/photos", &[], b"");
    for (size, piece) in [(0, 1), (1, 1), (5_000, 7), (70_000, 70_000), (3_000_001, 65_536)] {
        let body = bytes(size);
        let length = size.to_string();
        let put = request(
            ALICE,
            Method::Put,
            "/photos/k",
            &[("content-length", &length)],
            pieces(body.chunks(piece).map(<[u8]>::to_vec)),
        );
        assert_eq!(call(&front, put).status, 200, "{size}");
        assert!(client.call(Method::Get, "/photos/k", &[], b"").body == body, "{size}");
        let got = call(&front, request(ALICE, Method::Get, "/photos/k", &[], pieces([])));
        assert!(got.status == 200 && got.body == body, "{size}");
    }
    let range = [("range", "bytes=1000000-1999999")];
    let part = call(&front, request(ALICE, Method::Get, "/photos/k", &range, pieces([])));
    assert!(part.status == 206 && part.body == bytes(3_000_001)[1_000_000..2_000_000]);
    let head = call(&front, request(ALICE, Method::Head, "/photos/k", &[], pieces([])));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], "3000001");
    let absent = call(&front, request(ALICE, Method::Get, "/photos/absent", &[], pieces([])));
    assert_eq!((absent.status, &*absent.code()), (404, "NoSuchKey"));
    let id = absent.headers["x-amz-request-id"].to_str().unwrap();
    assert!(String::from_utf8(absent.body).unwrap().contains(&format!("<RequestId>{id}</RequestId>")));
    assert_eq!(call(&front, request(ALICE, Method::Delete, "/photos/k", &[], pieces([]))).status, 204);
    let text = render(front.metrics(), &[], &[]);
    assert!(text.contains("crossdock_requests_total{operation=\"GetObject\",status=\"4xx\"} 1\n"), "{text}");
}

#[test]
fn a_body_of_unknown_length_ends_when_the_stack_says_so() {
    // A document is taken to its end, aws-chunked to the end that it has of its own; an object without a length is refused.
    let bench = Bench::new();
    let front = front(&bench);
    bench.client(ALICE).call(Method::Put, "/photos", &[], b"");
    let document = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let body = pieces(document.chunks(9).map(<[u8]>::to_vec));
    assert_eq!(call(&front, request(ALICE, Method::Put, "/photos?tagging", &[], body)).status, 200);
    let body = pieces([b"x".to_vec()]);
    assert_eq!(
        call(&front, request(ALICE, Method::Put, "/photos/k", &[], body)).code(),
        "MissingContentLength"
    );
    let chunked = [("x-amz-decoded-content-length", "5"), ("x-amz-trailer", "x-amz-checksum-crc32")];
    let whole: &[u8] = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    for (sent, status) in [(whole, 200), (&whole[..whole.len() - 6], 400), (b"5\r\nhel", 400)] {
        let body = pieces(sent.chunks(4).map(<[u8]>::to_vec));
        let mut put = request(ALICE, Method::Put, "/photos/c", &chunked, body);
        resign(&mut put, &chunked);
        assert_eq!(call(&front, put).status, status, "{sent:?}");
    }
    let got = call(&front, request(ALICE, Method::Get, "/photos/c", &[], pieces([])));
    assert_eq!(got.body, b"hello");

    /// With the payload that those who send trailers sign.
    fn resign(request: &mut http::Request<Pieces>, headers: &[(&str, &str)]) {
        let mut head = RequestHead::for_client(Method::Put, "/photos/c", "", "front.test");
        headers.iter().for_each(|(name, value)| head.headers.push(name, value.as_bytes()));
        let (access_key, secret) = ALICE;
        let signer = Signer { access_key, secret, region: "us-east-1", session_token: None };
        signer.sign_header(&mut head, &PayloadMode::UnsignedTrailer, now());
        request.headers_mut().clear();
        for (name, value) in head.headers.iter() {
            let name = http::HeaderName::try_from(name).unwrap();
            request.headers_mut().append(name, value.try_into().unwrap());
        }
    }
}

#[test]
fn a_body_is_taken_no_faster_than_it_is_stored() {
    // One that is refused is not asked for at all; one that stands still is not asked again and again; one whose sender goes
    // away leaves nothing.
    let bench = Bench::new();
    let front = front(&bench);
    bench.client(ALICE).call(Method::Put, "/photos", &[], b"");
    let refused = pieces([bytes(100_000), bytes(100_000), bytes(100_000)]);
    let asked = refused.asked.clone();
    let put = request(ALICE, Method::Put, "/absent/k", &[("content-length", "300000")], refused);
    assert_eq!(call(&front, put).code(), "NoSuchBucket");
    assert!(asked.load(Ordering::SeqCst) <= 2, "no more than waits for the core");
    let mut stuck = pieces([bytes(1000)]);
    stuck.ends = false;
    let asked = stuck.asked.clone();
    let put = request(ALICE, Method::Put, "/photos/k", &[("content-length", "5000")], stuck);
    {
        let mut waiting = pin!(front.call(put, PEER()));
        for _ in 0..100 {
            assert!(block_on(poll_once(waiting.as_mut())).is_none());
            pause(2);
        }
        assert!(asked.load(Ordering::SeqCst) <= 102);
    }
    let got = call(&front, request(ALICE, Method::Get, "/photos/k", &[], pieces([])));
    assert_eq!(got.code(), "NoSuchKey");
    let short = request(ALICE, Method::Put, "/photos/k", &[("content-length", "5000")], pieces([bytes(10)]));
    assert_eq!(call(&front, short).code(), "IncompleteBody");
}

#[test]
fn a_reply_is_read_no_faster_than_it_is_taken() {
    // Who takes a chunk and stops holds a few, and who goes away gives them back: others are served meanwhile, however often.
    let bench = Bench::new();
    let front = front(&bench);
    let mut client = bench.client(ALICE);
    client.call(Method::Put, "/photos", &[], b"");
    client.call(Method::Put, "/photos/k", &[], &bytes(24 << 20));
    for _ in 0..10 {
        let mut stopped = Vec::new();
        for _ in 0..2 {
            let get = request(ALICE, Method::Get, "/photos/k", &[], pieces([]));
            let mut body = block_on(front.call(get, PEER())).into_body();
            assert!(block_on(next(&mut body)).unwrap().len() < 24 << 20);
            stopped.push(body);
        }
        assert_eq!(
            call(
                &front,
                request(ALICE, Method::Put, "/photos/x", &[("content-length", "1")], pieces([vec![1]]))
            )
            .status,
            200
        );
    }
    assert!(call(&front, request(ALICE, Method::Get, "/photos/k", &[], pieces([]))).body == bytes(24 << 20));
}

#[test]
fn whoever_may_not_is_refused_as_elsewhere() {
    // The same decision, and the same words; and what no S3 client sends.
    let bench = Bench::of_strangers();
    let front = front(&bench);
    let mut carol = bench.client(CAROL);
    bench.client(ALICE).call(Method::Put, "/photos", &[], b"");
    let put = || request(CAROL, Method::Put, "/photos/k", &[("content-length", "1")], pieces([vec![1]]));
    let here = call(&front, put());
    let there = carol.call(Method::Put, "/photos/k", &[], b"x");
    assert_eq!((here.status, here.code()), (there.status, there.code()));
    assert_eq!(here.code(), "AccessDenied");
    let unsigned = http::Request::get("/photos").header("host", "front.test").body(pieces([])).unwrap();
    assert_eq!(call(&front, unsigned).code(), "AccessDenied");
    let mut forged = request(ALICE, Method::Get, "/photos", &[], pieces([]));
    forged.headers_mut().insert("host", http::HeaderValue::from_static("other.test"));
    assert_eq!(call(&front, forged).code(), "SignatureDoesNotMatch");
    let patch = http::Request::builder().method("PATCH").uri("/photos").body(pieces([])).unwrap();
    assert_eq!(call(&front, patch).status, 405);
}

#[test]
fn a_long_copy_is_answered_before_it_is_done() {
    // The stack gets a head at once, then a document of unknown length in pieces; an error comes within it.
    let bench = Bench::waiting(ServerLimits::default());
    let mut limits = ServerLimits::default();
    limits.quiet = std::time::Duration::from_millis(1);
    let front = HttpFront::new(bench.engine().clone(), bench.service(), limits);
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Method::Put, "/photos", &[], b"").status, 200);
    assert_eq!(alice.call(Method::Put, "/photos/source", &[], &bytes(3 << 20)).status, 200);
    let path = beside(&bench, "photos");
    let copy = |headers: &[(&str, &str)]| {
        let headers = [&[("x-amz-copy-source", "photos/source")], headers].concat();
        let request = request(ALICE, Method::Put, &path, &headers, pieces([]));
        let held = take(&bench);
        block_on(async {
            let (parts, mut body) = front.call(request, PEER()).await.into_parts();
            drop(held);
            assert_eq!((parts.status.as_u16(), body.size_hint().exact()), (200, None));
            assert!(!body.is_end_stream() && !parts.headers.contains_key("content-length"));
            assert_eq!(parts.headers["content-type"], "application/xml");
            let mut text = Vec::new();
            while let Some(piece) = next(&mut body).await {
                text.extend_from_slice(&piece);
            }
            assert!(body.is_end_stream());
            String::from_utf8(text).unwrap()
        })
    };
    let made = copy(&[]);
    assert!(made.starts_with("<?xml ") && made.ends_with("</CopyObjectResult>"), "{made}");
    let refused = copy(&[("if-none-match", "*")]);
    assert!(
        refused.ends_with("</Error>") && refused.contains("<Code>PreconditionFailed</Code>"),
        "{refused}"
    );
    assert!(alice.call(Method::Get, &path, &[], b"").body == bytes(3 << 20));
    let text = render(front.metrics(), &[], &[]);
    assert!(text.contains("crossdock_requests_total{operation=\"CopyObject\",status=\"2xx\"} 2\n"), "{text}");
}

#[test]
fn a_closed_engine_is_said_to_be_unavailable() {
    // An answer, and no wait.
    let bench = Bench::new();
    let front = front(&bench);
    bench.engine().clone().close();
    let get = call(&front, request(ALICE, Method::Get, "/photos", &[], pieces([])));
    assert_eq!((get.status, &*get.code()), (503, "ServiceUnavailable"));
}
