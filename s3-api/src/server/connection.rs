//! One connection: requests in, replies out, one after the other.

use super::{
    body::Body,
    listener::{Counted, Shared},
    metrics::Outcome,
    wire::{Ended, INPUT_BYTES, Wire, lease_of, unless},
};
use crate::{
    protocol::{
        body::{BodyDecoder, BodyVerifier, DigestPlan, Expectations},
        checksum::{RequestChecksum, request_checksum},
        error::{ErrorCode, S3Error},
        http::{BodyFraming, HeadLimits, HeadParser, HeadStatus, Headers, Method, ParsedHead},
        operation::OperationName,
        reply::{Reply, ReplyContext},
    },
    service::{Admission, Admitted, Answer, Declined, Origin},
};
use crossdock::reactor::Moment;
use crossdock_transport::{memory::ScatterList, tcp::TcpStream};
use std::{net::SocketAddr, rc::Rc, time::Duration};

/// How long a peer may take nothing of what is sent to it.
const SEND: Duration = Duration::from_secs(60);
/// A body that nobody wants is read to its end up to this size; beyond, the connection is closed instead.
const UNWANTED_BYTES: u64 = 256 * 1024;
/// How much, and how long, a peer may still send on a connection that is being closed, before it finds that out the
/// hard way: a reset may overtake the reply.
const LINGER_BYTES: usize = 16 << 20;
const LINGER: Duration = Duration::from_secs(2);
/// The least room for the rest of a head.
const HEAD_ROOM: usize = 1024;
/// Inputs of more than a page: this part of a core's memory, in all. A head needs no signature to be long, so what long
/// heads can hold must leave enough for everyone else.
const LARGE_INPUTS_DIVISOR: usize = 8;
const LARGE_INPUT_BYTES: usize = 64 * 1024;

const SERVER: &str = concat!("crossdock/", env!("CARGO_PKG_VERSION"));

/// What became of a request.
enum Next {
    /// The next one may come.
    Request,
    /// The reply was the last; the peer may not have read it yet.
    Linger,
    /// There is nobody to talk to.
    Close,
}

/// Serves a connection to its end.
pub(super) async fn serve(shared: Rc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let mut connection = Connection::new(shared, stream, peer).await;
    loop {
        let next = match connection.head().await {
            Ok(Some(head)) => connection.request(head).await,
            Ok(None) => Next::Close,
            Err(error) => connection.refuse(&error).await,
        };
        match next {
            Next::Request if !connection.shared.draining.get() => {}
            Next::Request | Next::Close => return,
            Next::Linger => return connection.linger().await,
        }
    }
}

/// Tells a client that there are too many, without waiting for what it wants.
pub(super) async fn turn_away(shared: Rc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let mut connection = Connection::new(shared, stream, peer).await;
    if let Next::Linger = connection.refuse(&ErrorCode::SlowDown.into()).await {
        connection.linger().await;
    }
}

struct Connection {
    shared: Rc<Shared>,
    wire: Wire,
    peer: SocketAddr,
    /// Held while the input is large.
    large: Option<Counted>,
}

/// What a reply needs to know of its request.
struct Asked {
    method: Method,
    operation: Option<OperationName>,
    request_id: String,
    begun: Moment,
    keep_alive: bool,
}

impl Connection {
    async fn new(shared: Rc<Shared>, stream: TcpStream, peer: SocketAddr) -> Connection {
        let wire = Wire::new(shared.core.clone(), stream).await;
        Connection { shared, wire, peer, large: None }
    }

    /// The next head; none when the peer has gone, is too slow, or the server closes.
    async fn head(&mut self) -> Result<Option<Box<ParsedHead>>, S3Error> {
        let mut parser = HeadParser::new(HeadLimits::default());
        if self.wire.pending().is_empty() && !self.first_bytes().await {
            return Ok(None);
        }
        let deadline = self.shared.core.now().after(self.shared.limits.head);
        loop {
            if let HeadStatus::Complete(head) = parser.parse(self.wire.pending())? {
                return Ok(Some(head));
            }
            let left = deadline.since(self.shared.core.now());
            self.make_head_room().await?;
            let engine = self.shared.engine.clone();
            let received = unless(engine.closing(), self.wire.receive(usize::MAX, left)).await;
            if left.is_zero() || !matches!(received, Some(Ok(_))) {
                return Ok(None);
            }
        }
    }

    async fn make_head_room(&mut self) -> Result<(), S3Error> {
        let bytes = self.wire.pending().len() + HEAD_ROOM;
        if bytes > INPUT_BYTES && self.large.is_none() {
            let most = self.shared.core.pool().total_bytes() / LARGE_INPUTS_DIVISOR / LARGE_INPUT_BYTES;
            let large = Counted::below(&self.shared.large_inputs, most);
            self.large = Some(large.ok_or(ErrorCode::SlowDown)?);
        }
        self.wire.reserve(bytes).await;
        Ok(())
    }

    /// Gives back what a long head took.
    async fn shrink(&mut self) {
        self.wire.shrink().await;
        if !self.wire.is_large() {
            self.large = None;
        }
    }

    /// Waits for a request to begin.
    async fn first_bytes(&mut self) -> bool {
        self.shrink().await;
        self.wire.reserve(INPUT_BYTES).await;
        let (engine, idle) = (self.shared.engine.clone(), self.shared.limits.idle);
        let received = unless(engine.closing(), self.wire.receive(usize::MAX, idle)).await;
        matches!(received, Some(Ok(_)))
    }

    fn asked(&self, method: Method, keep_alive: bool) -> Asked {
        Asked {
            method,
            operation: None,
            request_id: format!("{:016X}", self.shared.core.random()),
            begun: self.shared.core.now(),
            keep_alive,
        }
    }

    /// What is no request, or more than the server can take: answered, and the end of the connection, because nobody knows
    /// where the next would begin.
    async fn refuse(&mut self, error: &S3Error) -> Next {
        let asked = self.asked(Method::Get, false);
        let answer = self.refusal(&asked, error);
        let sent = self.reply(&asked, answer).await;
        if sent.is_ok() { Next::Linger } else { Next::Close }
    }

    async fn request(&mut self, parsed: Box<ParsedHead>) -> Next {
        let ParsedHead { head, head_bytes, framing, keep_alive, expects_continue } = *parsed;
        self.wire.consume(head_bytes);
        self.shrink().await;
        let mut asked = self.asked(head.method, keep_alive);
        let is_old = head.version_minor == 0;
        let origin = Origin { peer: self.peer, now_ms: self.shared.core.wall_clock_ms() };
        let shared = self.shared.clone();
        let page = shared.service.page_of(&head);
        let admitted = shared.service.admit(head, framing, origin).await;
        let (answer, body) = match admitted {
            Err(error) => (Err(error), BodyLeft::unread(framing, expects_continue)),
            Ok(Admission::Answered(answer)) => (Ok(*answer), BodyLeft::unread(framing, expects_continue)),
            Ok(Admission::Control(control, headers, principal)) => {
                let answer = shared.service.control(control, &headers, &principal).await;
                (answer, BodyLeft::unread(framing, expects_continue))
            }
            Ok(Admission::Operation(admitted, verified)) => {
                asked.operation = Some(admitted.routed.operation);
                let closed = admitted.proposal.as_ref().map(|_| self.wire.closed());
                match body_of(&admitted, framing, &verified) {
                    Err(error) => (Err(error), BodyLeft::unread(framing, expects_continue)),
                    Ok((decoder, verifier)) => {
                        let mut body =
                            Body::new(&mut self.wire, decoder, verifier, framing, expects_continue);
                        let run = shared.service.run(&admitted, asked.begun, &mut body);
                        let answer = match closed {
                            None => run.await,
                            // Nobody waits for a transfer any more: it is to end.
                            Some(closed) => match unless(closed, run).await {
                                Some(answer) => answer,
                                None => {
                                    self.shared.metrics.count_declined(Declined::Cancelled.as_str());
                                    self.count(&asked, 499, 0);
                                    return Next::Close;
                                }
                            },
                        };
                        shared.metrics.received_bytes.add(body.received_bytes());
                        if answer.is_ok() && body.is_finished() {
                            // An empty body that the operation had no reason to ask for: the client waits all the same.
                            // Should it be gone, so it is for the reply.
                            body.permit().await.ok();
                        }
                        let left = BodyLeft::of(&body);
                        if answer.is_err() || left != BodyLeft::Small {
                            (answer, left)
                        } else {
                            // An operation that takes no body was sent one.
                            match body.discard().await {
                                Ok(()) => (answer, BodyLeft::Nothing),
                                Err(error) => (Err(error), BodyLeft::Unknown),
                            }
                        }
                    }
                }
            }
        };
        if body == BodyLeft::Gone {
            self.count(&asked, 499, 0);
            return Next::Close;
        }
        asked.keep_alive &= body == BodyLeft::Nothing && !self.shared.draining.get();
        let mut answer = answer.unwrap_or_else(|error| self.refusal(&asked, &error));
        if let Some(page) = &page
            && asked.method != Method::Options
        {
            answer.reply = self.shared.service.add_cors(page, answer.reply).await;
        }
        if is_old && asked.keep_alive {
            // An HTTP/1.0 client takes the connection for closed unless it is told otherwise (RFC 9112 §9.3).
            answer.reply = answer.reply.header("Connection", "keep-alive");
        }
        match self.reply(&asked, answer).await {
            Err(_) => Next::Close,
            Ok(()) if asked.keep_alive => Next::Request,
            Ok(()) => Next::Linger,
        }
    }

    fn refusal(&self, asked: &Asked, error: &S3Error) -> Answer {
        tracing::debug!(
            peer = %self.peer,
            request = asked.request_id,
            operation = asked.operation.map_or("?", OperationName::as_str),
            code = error.code.as_str(),
            message = %error.message,
            "refused"
        );
        if matches!(error.code, ErrorCode::RdmaNotSupported | ErrorCode::RdmaTransferFailed) {
            let reason = error.fields.iter().find(|(name, _)| *name == "Reason");
            self.shared.metrics.count_declined(reason.map_or("", |(_, reason)| reason));
        }
        Reply::error(error, &asked.request_id, &self.host_id()).into()
    }

    fn host_id(&self) -> String {
        format!("core-{}", self.shared.core.index())
    }

    /// Sends the reply. The head goes with the first bytes of the payload, which are read and verified before: what can not
    /// be read is still answered as an error then.
    async fn reply(&mut self, asked: &Asked, mut answer: Answer) -> Result<(), Ended> {
        let mut first = None;
        if let Some(get) = answer.payload.as_mut().filter(|_| asked.method != Method::Head) {
            match get.next().await {
                None => {}
                Some(Ok(chunk)) => first = Some(chunk),
                Some(Err(error)) => {
                    tracing::error!(%error, request = asked.request_id, "an object can not be read");
                    answer = self.refusal(asked, &ErrorCode::InternalError.into());
                }
            }
        }
        let context = ReplyContext {
            method: asked.method,
            request_id: &asked.request_id,
            host_id: &self.host_id(),
            server: SERVER,
            date_seconds: self.shared.core.wall_clock_ms() / 1_000,
            keep_alive: asked.keep_alive,
        };
        if let Some(moved) = &answer.moved {
            self.shared.metrics.count_moved(moved);
            tracing::debug!(request = asked.request_id, ?moved, "over a transport");
        }
        let mut head = Vec::with_capacity(1024);
        let payload_bytes = answer.reply.write(&context, &mut head);
        let status = answer.reply.status;
        let result = match (first, answer.payload) {
            (Some(first), Some(mut get)) => {
                let lease = lease_of(&self.shared.core, &[&head]).await;
                let mut sent = first.len() as u64;
                let mut pieces = ScatterList::from(lease.freeze());
                pieces.push(first);
                let mut result = self.wire.send(pieces, SEND).await;
                while result.is_ok() && sent < payload_bytes {
                    match get.next().await {
                        Some(Ok(chunk)) => {
                            sent += chunk.len() as u64;
                            result = self.wire.send(ScatterList::from(chunk), SEND).await;
                        }
                        // The head promised more: the peer must see that this is not it.
                        Some(Err(error)) => {
                            tracing::error!(%error, request = asked.request_id, "an object can not be read on");
                            result = Err(Ended::Closed);
                        }
                        None => result = Err(Ended::Closed),
                    }
                }
                self.shared.metrics.sent_bytes.add(sent);
                result
            }
            _ => self.wire.send_bytes(&head, SEND).await,
        };
        self.count(asked, status, payload_bytes);
        result
    }

    fn count(&self, asked: &Asked, status: u16, bytes: u64) {
        let elapsed = self.shared.core.now().since(asked.begun);
        self.shared.metrics.count(asked.operation, &Outcome { status, elapsed });
        tracing::debug!(
            peer = %self.peer,
            request = asked.request_id,
            operation = asked.operation.map_or("?", OperationName::as_str),
            status,
            bytes,
            micros = elapsed.as_micros() as u64,
            "request"
        );
    }

    /// Says that nothing more will come, and reads what the peer is still sending, so that it gets to read the reply.
    async fn linger(mut self) {
        self.wire.shutdown();
        let deadline = self.shared.core.now().after(LINGER);
        let mut left = LINGER_BYTES;
        while left > 0 {
            let pending = self.wire.pending().len();
            self.wire.consume(pending);
            self.wire.reserve(INPUT_BYTES).await;
            let time = deadline.since(self.shared.core.now());
            if time.is_zero() {
                return;
            }
            match self.wire.receive(INPUT_BYTES, time).await {
                Ok(bytes) => left = left.saturating_sub(bytes),
                Err(_) => return,
            }
        }
    }
}

/// What is left of a request's body when its answer is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyLeft {
    /// Nothing: the next request follows.
    Nothing,
    /// So little that it is read and thrown away.
    Small,
    /// Too much, or nobody knows how much, or whether the client will send it.
    Unknown,
    /// The peer is gone.
    Gone,
}

impl BodyLeft {
    fn unread(framing: BodyFraming, held_back: bool) -> BodyLeft {
        match framing {
            BodyFraming::None | BodyFraming::Length(0) if !held_back => BodyLeft::Nothing,
            _ => BodyLeft::Unknown,
        }
    }

    fn of(body: &Body<'_>) -> BodyLeft {
        if body.ended() == Some(Ended::Closed) {
            return BodyLeft::Gone;
        }
        if body.is_finished() && !body.is_held_back() {
            return BodyLeft::Nothing;
        }
        let small = body.remaining_bytes().is_some_and(|bytes| bytes <= UNWANTED_BYTES);
        if small && !body.is_held_back() && body.ended().is_none() {
            BodyLeft::Small
        } else {
            BodyLeft::Unknown
        }
    }
}

/// How the body is taken apart and what is computed over it.
fn body_of(
    admitted: &Admitted,
    framing: BodyFraming,
    verified: &crate::protocol::auth::Verified,
) -> Result<(BodyDecoder, BodyVerifier), S3Error> {
    let (operation, headers): (OperationName, &Headers) = (admitted.routed.operation, &admitted.headers);
    // CompleteMultipartUpload names the checksum of the object in the headers that elsewhere name that of the body, and a
    // request whose bytes go another way that of those.
    let has_body = operation.takes_object_body() && admitted.proposal.is_none();
    let names_body = has_body || operation == OperationName::DeleteObjects;
    let checksum = if names_body { request_checksum(headers)? } else { RequestChecksum::None };
    let decoder = BodyDecoder::new(headers, framing, verified, &checksum)?;
    let expected = match admitted.proposal {
        None => Expectations::new(headers, &verified.payload, checksum)?,
        Some(_) => Expectations::default(),
    };
    let plan = DigestPlan { md5: has_body, default_checksum: None, supplied: None };
    Ok((decoder, BodyVerifier::new(expected, plan)))
}
