//! An answer on its way from a core to the stack.

use crate::{
    protocol::{
        error::ErrorCode,
        reply::{Reply, ReplyBody as Content, ReplyContext},
    },
    server::{Front, within},
};
use bytes::Bytes;
use crossdock::Get;
use crossdock_transport::memory::FrozenLease;
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Chunks that may wait for the stack besides the one that a channel always has room for.
const WAITING: usize = 0;

/// Resolves, with an error, once a document is gone.
type Gone = oneshot::Receiver<Infallible>;

/// A document that others must leave room for.
struct Counted {
    document: Vec<u8>,
    _there: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.document
    }
}

/// An answer before it is one of the `http` crate.
pub(super) struct Made {
    status: u16,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: ReplyBody,
}

impl Made {
    /// What `reply` says in its context, and where its payload goes if there is one to be sent. If its document takes room, what
    /// resolves when that is dropped.
    pub(super) fn of(
        reply: Reply,
        context: &ReplyContext<'_>,
        has_payload: bool,
        takes_room: bool,
    ) -> (Made, Option<mpsc::Sender<Bytes>>, Option<Gone>) {
        let (mut payload, mut gone) = (None, None);
        let fields = fields_of(&reply, context);
        let content = match reply.body {
            _ if !reply.sends_body(context.method) => Inner::Whole(Bytes::new()),
            Content::Empty => Inner::Whole(Bytes::new()),
            Content::Bytes(document) if takes_room => {
                let (there, receiver) = oneshot::channel();
                gone = Some(receiver);
                Inner::Whole(Bytes::from_owner(Counted { document, _there: there }))
            }
            Content::Bytes(document) => Inner::Whole(document.into()),
            Content::Payload { bytes } if has_payload => {
                let (sender, chunks) = mpsc::channel(WAITING);
                payload = Some(sender);
                Inner::Chunks { chunks, left: bytes }
            }
            Content::Payload { .. } | Content::Later { .. } => Inner::Whole(Bytes::new()),
        };
        (Made { status: reply.status, fields, body: ReplyBody(content) }, payload, gone)
    }

    /// What `reply` says in its context, without a document, and where that goes as it comes to be known.
    pub(super) fn later(reply: Reply, context: &ReplyContext<'_>) -> (Made, Rest) {
        let fields = fields_of(&reply, context);
        let (sender, pieces) = mpsc::channel(WAITING);
        let body = ReplyBody(Inner::Later { pieces, is_over: false });
        (Made { status: reply.status, fields, body }, Rest(sender))
    }

    /// What is said when the engine is closed: by nobody, at no time, about no request.
    pub(super) fn closed() -> Made {
        let error = ErrorCode::ServiceUnavailable.into();
        let reply = Reply::error(&error, "", "");
        let mut fields = Vec::new();
        for (name, value) in &reply.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(&**name), HeaderValue::from_bytes(value)) {
                fields.push((name, value));
            }
        }
        let document = match reply.body {
            Content::Bytes(document) => document.into(),
            Content::Empty | Content::Payload { .. } | Content::Later { .. } => Bytes::new(),
        };
        Made { status: reply.status, fields, body: ReplyBody(Inner::Whole(document)) }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn payload_bytes(&self) -> u64 {
        match &self.body.0 {
            Inner::Whole(_) | Inner::Later { .. } => 0,
            Inner::Chunks { left, .. } => *left,
        }
    }

    pub(super) fn into_response(self) -> Response<ReplyBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.fields {
            response.headers_mut().append(name, value);
        }
        response
    }
}

/// The fields of a head.
fn fields_of(reply: &Reply, context: &ReplyContext<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::with_capacity(reply.headers.len() + 5);
    reply.each_field(context, |name, value| {
        // What can not stand in a head is left out, as our own writer does.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
            fields.push((name, value));
        }
    });
    fields
}

/// Where the pieces of a document go that is not known yet. One that is dropped without [`Rest::end`] is broken off.
pub(super) struct Rest(mpsc::Sender<Option<Bytes>>);

impl Rest {
    /// Hands over a piece once the stack has taken the one before. Whether anybody takes it.
    pub(super) async fn send(&mut self, piece: Bytes) -> bool {
        poll_fn(|cx| self.0.poll_ready(cx)).await.is_ok() && self.0.start_send(Some(piece)).is_ok()
    }

    /// Hands over the last piece, and says so.
    pub(super) async fn end(mut self, piece: Bytes) {
        if self.send(piece).await && poll_fn(|cx| self.0.poll_ready(cx)).await.is_ok() {
            // Who does not wait for it any more needs no end either.
            let _ = self.0.start_send(None);
        }
    }
}

/// Hands over the payload of an answer, no further ahead than it is taken. Who takes nothing for as long as a client of our
/// own server may, is gone.
pub(super) async fn send(
    front: &Front,
    mut sender: mpsc::Sender<Bytes>,
    first: FrozenLease,
    mut get: Box<Get>,
) {
    let mut first = Some(first);
    loop {
        // Room first: a chunk that waited for it would be one more than there is memory for.
        let room = within(&front.core, front.limits.send, poll_fn(|cx| sender.poll_ready(cx))).await;
        if !matches!(room, Some(Ok(()))) {
            return;
        }
        let chunk = match first.take() {
            Some(chunk) => chunk,
            None => match get.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => {
                    tracing::error!(%error, "an object can not be read on");
                    return;
                }
                None => return,
            },
        };
        let bytes = chunk.len() as u64;
        if sender.start_send(chunk.into_bytes()).is_err() {
            return;
        }
        front.metrics.sent_bytes.add(bytes);
    }
}

/// The body of an answer.
///
/// # Errors
/// [`BrokenOff`], for which a stack must end the connection, or the stream of HTTP/2: the client was promised more.
#[derive(Debug)]
pub struct ReplyBody(Inner);

#[derive(Debug)]
enum Inner {
    Whole(Bytes),
    Chunks {
        chunks: mpsc::Receiver<Bytes>,
        left: u64,
    },
    /// A document that comes to be known, to nothing, which is its end.
    Later {
        pieces: mpsc::Receiver<Option<Bytes>>,
        is_over: bool,
    },
}

/// The rest of an object can not be read, or the engine closes: nothing wrong is sent instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rest of the reply can not be had")
    }
}

impl std::error::Error for BrokenOff {}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Chunks { left: 0, .. } | Inner::Later { is_over: true, .. } => Poll::Ready(None),
            Inner::Later { pieces, is_over } => {
                let piece = ready!(Pin::new(pieces).poll_next(cx));
                *is_over = !matches!(piece, Some(Some(_)));
                Poll::Ready(match piece {
                    Some(Some(bytes)) => Some(Ok(Frame::data(bytes))),
                    Some(None) => None,
                    None => Some(Err(BrokenOff)),
                })
            }
            Inner::Chunks { chunks, left } => match ready!(Pin::new(chunks).poll_next(cx)) {
                Some(bytes) => {
                    *left = left.saturating_sub(bytes.len() as u64);
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                None => {
                    *left = 0;
                    Poll::Ready(Some(Err(BrokenOff)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Later { is_over, .. } => *is_over,
            Inner::Whole(_) | Inner::Chunks { .. } => self.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Later { is_over: false, .. } => SizeHint::default(),
            _ => SizeHint::with_exact(self.left()),
        }
    }
}

impl ReplyBody {
    /// Bytes that are still to come, as far as that is known.
    fn left(&self) -> u64 {
        match &self.0 {
            Inner::Whole(bytes) => bytes.len() as u64,
            Inner::Chunks { left, .. } => *left,
            Inner::Later { .. } => 0,
        }
    }
}
