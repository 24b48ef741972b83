//! One connection: requests in, replies out, one after the other.

use super::{
    early::{Begun, STATUS, rest_of},
    exchange::{Announced, Asked, BodyLeft},
    listener::Shared,
    memory::PIECE_BYTES,
    source::Source,
    steering::{self, Handed, MOVES_MAX},
    stream::Stream,
    wire::{Ended, INPUT_BYTES, SEND_PIECE_BYTES, Wire, lease_of, unless},
};
use crate::{
    protocol::{
        error::{ErrorCode, S3Error},
        http::{HeadLimits, HeadParser, HeadStatus, Method, ParsedHead},
    },
    service::{Answer, Origin},
};
use crossdock::reactor::{Grant, Moment};
use crossdock_transport::{
    memory::{ScatterList, lease_bytes},
    tcp::TcpStream,
};
use std::{net::SocketAddr, rc::Rc, time::Duration};

/// How much, and how long, a peer may still send on a connection that is being closed, before it finds that out the
/// hard way: a reset may overtake the reply.
const LINGER_BYTES: usize = 16 << 20;
const LINGER: Duration = Duration::from_secs(2);
/// The least room for the rest of a head.
const HEAD_ROOM: usize = 1024;

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
    if let Some(connection) = Connection::greet(shared, stream, peer).await {
        connection.run().await;
    }
}

/// Serves a connection on that another core began with.
pub(super) async fn resume(shared: Rc<Shared>, handed: Handed) {
    if let Some(connection) = Connection::resumed(shared, handed).await {
        connection.run().await;
    }
}

/// Tells a client that there are too many, without waiting for what it wants.
pub(super) async fn turn_away(shared: Rc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let Some(mut connection) = Connection::greet(shared, stream, peer).await else { return };
    if let Next::Linger = connection.refuse(&ErrorCode::SlowDown.into()).await {
        connection.linger().await;
    }
}

struct Connection {
    shared: Rc<Shared>,
    wire: Wire,
    peer: SocketAddr,
    /// Held while the input is large: its room, and how many bytes that is.
    large: Option<(Grant, usize)>,
    /// The core of the session that the last request's bytes went over, if it is another one.
    session_core: Option<usize>,
    /// How often it may still go to another core.
    moves_left: u8,
}

impl Connection {
    async fn new(shared: Rc<Shared>, stream: Stream, peer: SocketAddr) -> Connection {
        let wire = Wire::new(shared.front.core.clone(), stream).await;
        Connection { shared, wire, peer, large: None, session_core: None, moves_left: MOVES_MAX }
    }

    /// One that comes from another core; none if that could not be.
    async fn resumed(shared: Rc<Shared>, handed: Handed) -> Option<Connection> {
        let Handed { stream, pending, received, moves_left } = handed;
        let peer = stream.peer_addr();
        let stream = match TcpStream::attach(&shared.ring, stream) {
            Ok(stream) => Stream::Plain(stream),
            Err(error) => {
                tracing::warn!(%error, %peer, "a connection was lost on its way to another core");
                return None;
            }
        };
        let wire = Wire::resumed(shared.front.core.clone(), stream, &pending, received).await;
        Some(Connection { shared, wire, peer, large: None, session_core: None, moves_left })
    }

    /// Requests, one after the other, to the end or until it goes on on another core.
    async fn run(mut self) {
        loop {
            let next = match self.head().await {
                Ok(Some((head, begun))) => self.request(head, begun).await,
                Ok(None) => Next::Close,
                Err(error) => self.refuse(&error).await,
            };
            match next {
                Next::Request if !self.shared.draining.get() => {
                    if let Some(core) = self.session_core.take() {
                        match self.hand_over(core).await {
                            Some(connection) => self = connection,
                            None => return,
                        }
                    }
                }
                Next::Request | Next::Close => return self.wire.close(LINGER).await,
                Next::Linger => return self.linger().await,
            }
        }
    }

    /// Sends the connection to the core of its session, with what was received of the next requests. It comes back if it has to stay.
    async fn hand_over(self, core: usize) -> Option<Connection> {
        let is_movable = self.moves_left > 0 && !self.wire.is_encrypted() && !self.wire.is_large();
        if !is_movable {
            return Some(self);
        }
        let (pending, received) = (self.wire.pending().to_vec(), self.wire.received());
        let Connection { shared, wire, peer, large, moves_left, .. } = self;
        let detached = match wire.into_stream() {
            Stream::Plain(stream) => stream.detach().map_err(Stream::Plain),
            #[cfg(feature = "tls")]
            stream @ Stream::Tls(_) => Err(stream),
        };
        let stream = match detached {
            Ok(stream) => stream,
            Err(stream) => {
                // Something of it is the network's still: perhaps after the next request.
                let wire = Wire::resumed(shared.front.core.clone(), stream, &pending, received).await;
                return Some(Connection { shared, wire, peer, large, session_core: None, moves_left });
            }
        };
        let handed = Handed { stream, pending, received, moves_left: moves_left - 1 };
        match steering::send(&shared, core, handed).await {
            Ok(()) => {
                shared.front.metrics.connections_moved.add(1);
                None
            }
            // Not again: each try costs two messages.
            Err(handed) => Connection::resumed(shared, Handed { moves_left: 0, ..handed? }).await,
        }
    }

    /// Agrees with the peer on encryption, where there is any; none if that came to nothing.
    #[cfg(feature = "tls")]
    async fn greet(shared: Rc<Shared>, stream: TcpStream, peer: SocketAddr) -> Option<Connection> {
        use super::{
            tls::{Greeting, TlsStream},
            wire::within,
        };
        let Some(tls) = &shared.tls else {
            return Some(Connection::new(shared, Stream::Plain(stream), peer).await);
        };
        let core = shared.front.core.clone();
        let accept = TlsStream::accept(core.clone(), stream, tls);
        let greeting =
            within(&core, shared.front.limits.handshake, unless(shared.engine.closing(), accept)).await;
        let metrics = &shared.front.metrics;
        match greeting.map_or(Some(Err("too slow".to_owned())), |greeting| greeting)? {
            Ok(Greeting::Tls(stream)) => {
                metrics.tls_handshakes.add(1);
                Some(Connection::new(shared.clone(), Stream::Tls(stream), peer).await)
            }
            Ok(Greeting::Plain(stream)) => {
                metrics.tls_handshakes_failed.add(1);
                let mut connection = Connection::new(shared.clone(), Stream::Plain(stream), peer).await;
                let message =
                    "This port speaks HTTPS, and you spoke plain HTTP to it: write https:// in the address.";
                let error = S3Error::with_message(ErrorCode::InvalidRequest, message);
                if let Next::Linger = connection.refuse(&error).await {
                    connection.linger().await;
                }
                None
            }
            Err(reason) => {
                metrics.tls_handshakes_failed.add(1);
                tracing::debug!(%peer, reason, "no TLS");
                None
            }
        }
    }

    #[cfg(not(feature = "tls"))]
    async fn greet(shared: Rc<Shared>, stream: TcpStream, peer: SocketAddr) -> Option<Connection> {
        Some(Connection::new(shared, Stream::Plain(stream), peer).await)
    }

    fn origin(&self) -> Origin {
        let now_ms = self.shared.front.core.wall_clock_ms();
        Origin {
            peer: self.peer,
            secure: self.wire.is_encrypted(),
            tls_version: self.wire.tls_version(),
            now_ms,
        }
    }

    /// The next head, and when its first byte came; none when the peer has gone, has rested for too long, or the server closes.
    async fn head(&mut self) -> Result<Option<(Box<ParsedHead>, Moment)>, S3Error> {
        let mut parser = HeadParser::new(HeadLimits {
            head_bytes: self.shared.front.limits.head_bytes,
            ..HeadLimits::default()
        });
        if self.wire.pending().is_empty() && !self.first_bytes().await {
            return Ok(None);
        }
        // Of a request that came behind another this is when the last of it came: its first byte was no later.
        let begun = self.wire.received();
        let deadline = self.shared.front.core.now().after(self.shared.front.limits.head);
        loop {
            if let HeadStatus::Complete(head) = parser.parse(self.wire.pending())? {
                return Ok(Some((head, begun)));
            }
            let left = deadline.since(self.shared.front.core.now());
            self.make_head_room().await?;
            let engine = self.shared.engine.clone();
            let received = unless(engine.closing(), self.wire.receive(usize::MAX, left)).await;
            match received {
                Some(Ok(_)) if !left.is_zero() => {}
                // "Your socket connection to the server was not read from or written to within the timeout period."
                // (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>)
                Some(Ok(_) | Err(Ended::Late)) => return Err(ErrorCode::RequestTimeout.into()),
                Some(Err(Ended::Closed)) | None => return Ok(None),
            }
        }
    }

    async fn make_head_room(&mut self) -> Result<(), S3Error> {
        let bytes = self.wire.pending().len() + HEAD_ROOM;
        let takes = lease_bytes(bytes);
        if takes > self.large.as_ref().map_or(INPUT_BYTES, |(_, takes)| *takes) {
            // A head needs no signature to be long.
            let room = self.shared.front.memory.piece(takes).ok_or(ErrorCode::SlowDown)?;
            self.large = Some((room, takes));
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
        let (engine, idle) = (self.shared.engine.clone(), self.shared.front.limits.idle);
        let received = unless(engine.closing(), self.wire.receive(usize::MAX, idle)).await;
        matches!(received, Some(Ok(_)))
    }

    /// What is no request, or more than the server can take: answered, and the end of the connection, because nobody knows
    /// where the next would begin.
    async fn refuse(&mut self, error: &S3Error) -> Next {
        let shared = self.shared.clone();
        let mut asked = shared.front.asked(Method::Get, self.origin(), shared.front.core.now());
        let answer = shared.front.refusal(&mut asked, error);
        let sent = self.reply(asked, answer, false).await;
        if sent.is_ok() { Next::Linger } else { Next::Close }
    }

    async fn request(&mut self, parsed: Box<ParsedHead>, begun: Moment) -> Next {
        let ParsedHead { head, head_bytes, framing, keep_alive, expects_continue } = *parsed;
        self.wire.consume(head_bytes);
        self.shrink().await;
        let shared = self.shared.clone();
        let mut asked = shared.front.asked(head.method, self.origin(), begun);
        let is_old = head.version_minor == 0;
        let may_follow = keep_alive && !is_old;
        let announced = Announced { framing, held_back: expects_continue, is_old, keep_alive: may_follow };
        let (mut answer, left) =
            shared.front.answer(&mut asked, head, announced, Source::Wire(&mut self.wire)).await;
        self.wire.set_in_body(false);
        if left == BodyLeft::Gone {
            shared.front.count(&asked, 499, 0);
            return Next::Close;
        }
        let keep_alive = keep_alive && left == BodyLeft::Nothing && !shared.draining.get();
        if let Some(begun) = self.wire.take_begun() {
            return match self.end_reply(asked, answer, begun).await {
                Err(_) => Next::Close,
                Ok(()) if keep_alive && begun.keep_alive => Next::Request,
                Ok(()) => Next::Linger,
            };
        }
        if is_old && keep_alive {
            // An HTTP/1.0 client takes the connection for closed unless it is told otherwise (RFC 9112 §9.3).
            answer.reply = answer.reply.header("Connection", "keep-alive");
        }
        match self.reply(asked, answer, keep_alive).await {
            Err(_) => Next::Close,
            Ok(()) if keep_alive => Next::Request,
            Ok(()) => Next::Linger,
        }
    }

    /// Sends the reply. The head goes with the first bytes of the payload, which are read and verified before: what can not
    /// be read is still answered as an error then.
    async fn reply(&mut self, mut asked: Asked, mut answer: Answer, keep_alive: bool) -> Result<(), Ended> {
        let (shared, patience) = (self.shared.clone(), self.shared.front.limits.send);
        let front = &shared.front;
        let first = front.first_chunk(&mut asked, &mut answer).await;
        front.count_moved(&asked, &answer);
        self.session_core = asked.session_core().filter(|core| *core != front.core.index());
        let host_id = front.host_id();
        let mut head = Vec::with_capacity(1024);
        let payload_bytes = answer.reply.write(&front.context(&asked, &host_id, keep_alive), &mut head);
        // The room is held until the last byte is sent; the reply's document is in the head now, and not kept twice.
        let Answer { reply, payload, room, .. } = answer;
        let status = reply.status;
        drop(reply);
        let result = match (first, payload) {
            (Some(first), Some(mut get)) => {
                let mut sent = first.len() as u64;
                let mut pieces = ScatterList::new();
                for piece in head.chunks(INPUT_BYTES) {
                    pieces.push(lease_of(&front.core, piece).await.freeze());
                }
                pieces.push(first);
                let mut result = self.wire.send(pieces, patience).await;
                while result.is_ok() && sent < payload_bytes {
                    match get.next().await {
                        Some(Ok(chunk)) => {
                            sent += chunk.len() as u64;
                            result = self.wire.send(ScatterList::from(chunk), patience).await;
                        }
                        // The head promised more: the peer must see that this is not it.
                        Some(Err(error)) => {
                            tracing::error!(%error, request = asked.request_id, "an object can not be read on");
                            result = Err(Ended::Closed);
                        }
                        None => result = Err(Ended::Closed),
                    }
                }
                front.metrics.sent_bytes.add(sent);
                result
            }
            _ if room.is_some() => {
                let large = front.memory.piece(PIECE_BYTES);
                let piece_bytes = if large.is_some() { PIECE_BYTES } else { SEND_PIECE_BYTES };
                let rate = front.limits.body_bytes_per_second;
                self.wire.send_document(&head, piece_bytes, patience, rate).await
            }
            _ => self.wire.send_bytes(&head, patience).await,
        };
        front.count(&asked, status, payload_bytes);
        result
    }

    /// Ends a reply that was begun before this was known. Its head is sent, so of the answer only the document is.
    async fn end_reply(&mut self, asked: Asked, answer: Answer, begun: Begun) -> Result<(), Ended> {
        let (shared, patience) = (self.shared.clone(), self.shared.front.limits.send);
        let mut rest = Vec::with_capacity(1024);
        begun.frame(rest_of(&answer.reply), &mut rest);
        begun.end(&mut rest);
        let result = self.wire.send_bytes(&rest, patience).await;
        shared.front.count(&asked, STATUS, 0);
        result
    }

    /// Says that nothing more will come, and reads what the peer is still sending, so that it gets to read the reply.
    async fn linger(mut self) {
        self.wire.close(LINGER).await;
        let deadline = self.shared.front.core.now().after(LINGER);
        let mut left = LINGER_BYTES;
        while left > 0 {
            let pending = self.wire.pending().len();
            self.wire.consume(pending);
            self.wire.reserve(INPUT_BYTES).await;
            let time = deadline.since(self.shared.front.core.now());
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
