//! The client: one call after the other, or many at a time, over any runtime.

use super::{
    ClientError, Credentials, Fallback, Pace, Policy, ReplyHead, Way,
    connection::Connection,
    contract::{GetVerdict, PutVerdict, judge_body, judge_get, judge_put},
    http::Framing,
    request::{element, object_path, part_path, signed_head},
    runtime::{Runtime, SILENCE, in_silence},
    sessions::Known,
    stream::Stream,
};
use crate::protocol::{
    checksum::{Algorithm, Hasher},
    http::Method,
    remote::{EXPOSURE, EXPOSURE_ENDED, NO_SESSION, PROTOCOL_STATUS, RAIL, TIMEOUT, TOKEN},
};
use crossdock_transport::exposure::{Buffer, Direction, ExposeError, Exposed, Link, Session, Target};
use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    ops::Range,
    pin::pin,
    task::Poll,
    time::Duration,
};

/// How long the proof that a buffer is out of reach may take. No transfer is under way any more then: the server has answered, or it has seen
/// its connection closed and ends the transfer, for which it has a second.
const PROOF: Duration = Duration::from_secs(30);
/// Connections that are kept for later requests.
const IDLE_MAX: usize = 64;

/// A client of one server, over a runtime of the caller's. Its futures stay on their thread, as the memory of sessions does; any
/// number of calls may be under way at a time, each on a connection of its own. [`Client`](super::Client) is the same for
/// callers without a runtime. How many of them one session takes is its server's to say ([`Link::requests_max`]): there are some that refuse a
/// second, so that calls at a time need a session each.
///
/// A session that the server does not know any more, or that this side found to be broken before it sent anything, is made anew once for a
/// call if its link can be ([`Link::renew`]), or bound again ([`Link::bindable`]), and the call goes on: nothing was stored and no byte moved then. After any other failure
/// nothing is repeated, because what became of the first request is not known.
///
/// # Cancellation
/// Dropping the future of a call closes its connection, which ends the transfer at a server that speaks this protocol, and puts its
/// buffer into quarantine until the session proves that nothing reaches it any more.
pub struct AsyncClient<R: Runtime> {
    runtime: R,
    host: Box<str>,
    credentials: Credentials,
    policy: Policy,
    pace: Pace,
    now: Box<dyn Fn() -> u64>,
    idle: RefCell<Vec<Connection<R::Stream>>>,
    #[cfg(feature = "tls")]
    tls: Option<super::TlsSettings>,
}

/// A GET that succeeded. The buffer begins with the bytes.
pub struct Got<L: Link> {
    /// The buffer, out of reach again.
    pub buffer: Buffer<L>,
    /// How many bytes came.
    pub bytes: usize,
    /// Which way.
    pub way: Way,
    /// Which of the server's rails, if it says so: see [`RAIL`](crate::protocol::remote::RAIL).
    pub rail: Option<Box<str>>,
    /// The reply's head: the object's headers.
    pub head: ReplyHead,
}

/// A PUT that succeeded.
pub struct Stored<L: Link> {
    /// The buffer, out of reach again and unchanged.
    pub buffer: Buffer<L>,
    /// Which way.
    pub way: Way,
    /// Which of the server's rails, if it says so: see [`RAIL`](crate::protocol::remote::RAIL).
    pub rail: Option<Box<str>>,
    /// The reply's head, with the ETag.
    pub head: ReplyHead,
}

/// A call that failed.
pub struct Failed<L: Link> {
    /// Why.
    pub error: ClientError,
    /// The buffer, unless it is in quarantine. After a GET its bytes are undefined.
    pub buffer: Option<Buffer<L>>,
}

impl<L: Link> Failed<L> {
    pub(super) fn with(error: ClientError, buffer: Buffer<L>) -> Failed<L> {
        Failed { error, buffer: Some(buffer) }
    }
}

impl<L: Link> fmt::Debug for Failed<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed").field("error", &self.error).field("buffer", &self.buffer).finish()
    }
}

impl<L: Link> fmt::Debug for Got<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Got")
            .field("bytes", &self.bytes)
            .field("way", &self.way)
            .field("rail", &self.rail)
            .finish_non_exhaustive()
    }
}

impl<L: Link> fmt::Debug for Stored<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("way", &self.way).field("rail", &self.rail).finish_non_exhaustive()
    }
}

/// A reply whose body has not been read, and the connection that brings it.
pub(super) struct Reply<S> {
    pub(super) head: ReplyHead,
    connection: Connection<S>,
}

/// What came of a proposal: done, or to be done another way.
type Proposed<T, L, S> = Result<T, (Buffer<L>, Option<Reply<S>>, Fallback)>;

impl<R: Runtime> AsyncClient<R> {
    /// A client of the server at `host`, an address and a port. `now` gives the seconds since 1970, which are signed.
    pub fn new(
        runtime: R,
        host: &str,
        credentials: Credentials,
        now: impl Fn() -> u64 + 'static,
    ) -> AsyncClient<R> {
        let (host, now) = (host.into(), Box::new(now));
        AsyncClient {
            runtime,
            host,
            credentials,
            policy: Policy::default(),
            pace: Pace::default(),
            now,
            idle: RefCell::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Which way bytes may go. Default: [`Policy::Prefer`].
    pub fn policy(mut self, policy: Policy) -> AsyncClient<R> {
        self.policy = policy;
        self
    }

    /// Speaks HTTPS, with a server that is who it says. Tokens, and what is said about sessions, are then nobody else's to read. Default: HTTP.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, settings: super::TlsSettings) -> AsyncClient<R> {
        self.tls = Some(settings);
        self
    }

    /// How long transfers may take: what the server is told, and how long its reply is waited for. Default: [`Pace::default`].
    pub fn pace(mut self, pace: Pace) -> AsyncClient<R> {
        self.pace = pace;
        self
    }

    pub(super) fn runtime(&self) -> &R {
        &self.runtime
    }

    pub(super) fn chosen_policy(&self) -> Policy {
        self.policy
    }

    // ── objects ──

    /// Any request without a token; for what this client has no word for.
    ///
    /// # Errors
    /// No reply came. One that refuses is no error.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(ReplyHead, Vec<u8>), ClientError> {
        let reply = self.call(method, path, headers, body).await?;
        if method == Method::Head {
            // Its length is that of what GET would bring.
            let head = reply.head.clone();
            self.keep(reply.connection);
            return Ok((head, Vec::new()));
        }
        self.document(reply).await
    }

    /// Gets an object, or the bytes of it in `range`, to the front of `buffer`. Fewer come where the object ends within the range.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::EmptyRange`] if there is nothing in the range, which HTTP can not ask for.
    pub async fn get_into<L: Link>(
        &self,
        bucket: &str,
        key: &str,
        range: Option<Range<u64>>,
        buffer: Buffer<L>,
    ) -> Result<Got<L>, Failed<L>> {
        if range.as_ref().is_some_and(Range::is_empty) {
            return Err(Failed::with(ClientError::EmptyRange, buffer));
        }
        let path = object_path(bucket, key);
        let text =
            range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let headers: Vec<(&str, &str)> = text.as_deref().map(|range| ("range", range)).into_iter().collect();
        let mut known = Known::of(&buffer);
        let mut buffer = buffer;
        let (buffer, reply, fallback) = loop {
            let (back, reply, fallback) = match self.exposed(buffer, Buffer::expose_target_once).await? {
                Ok((exposed, token)) => {
                    match self.get_over_transport(&path, (&headers, range.as_ref()), exposed, &token).await? {
                        Ok(got) => return Ok(got),
                        Err(other) => other,
                    }
                }
                Err((buffer, fallback)) => (buffer, None, fallback),
            };
            if !self.made_anew(&back, &mut known, fallback).await {
                break (back, reply, fallback);
            }
            buffer = back;
        };
        if self.policy == Policy::Require {
            // A body that is there is not wanted: its connection goes with it.
            return Err(Failed::with(ClientError::NotMoved(fallback), buffer));
        }
        let reply = match reply {
            // The bytes are in the body of the reply.
            Some(reply) => Ok(reply),
            None => self.call(Method::Get, &path, &headers, &[]).await,
        };
        match reply {
            Ok(reply) => self.fill(buffer, (reply, range.as_ref()), fallback).await,
            Err(error) => Err(Failed::with(error, buffer)),
        }
    }

    /// Stores the first `bytes` of the buffer as an object. `headers` go with it.
    ///
    /// # Errors
    /// See [`ClientError`]. What is in the store then is not known, but after [`ClientError::Refused`], which leaves it as it was, and
    /// [`ClientError::EmptyStored`].
    ///
    /// # Panics
    /// If the buffer is not so long.
    pub async fn put_from<L: Link>(
        &self,
        bucket: &str,
        key: &str,
        headers: &[(&str, &str)],
        buffer: Buffer<L>,
        bytes: usize,
    ) -> Result<Stored<L>, Failed<L>> {
        self.put(&object_path(bucket, key), headers, buffer, bytes).await
    }

    /// Stores the first `bytes` of the buffer as part `number` of an upload.
    ///
    /// # Errors
    /// As [`AsyncClient::put_from`].
    ///
    /// # Panics
    /// If the buffer is not so long.
    pub async fn put_part_from<L: Link>(
        &self,
        (bucket, key): (&str, &str),
        upload: &str,
        number: u16,
        buffer: Buffer<L>,
        bytes: usize,
    ) -> Result<Stored<L>, Failed<L>> {
        self.put(&part_path(&object_path(bucket, key), upload, number), &[], buffer, bytes).await
    }

    async fn put<L: Link>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        buffer: Buffer<L>,
        bytes: usize,
    ) -> Result<Stored<L>, Failed<L>> {
        assert!(bytes <= buffer.len(), "{bytes} bytes of a buffer of {}", buffer.len());
        // Before: its bytes can not be looked at while the server may read them.
        let checksum = (self.policy != Policy::Off).then(|| crc64(buffer.get(..bytes).unwrap_or_default()));
        let mut known = Known::of(&buffer);
        let mut buffer = buffer;
        let (buffer, fallback, empty) = loop {
            let (back, fallback, empty) = match self.exposed(buffer, Buffer::expose_source_once).await? {
                Ok((exposed, _)) => {
                    let token = exposed.token(0..bytes as u64).unwrap_or_default();
                    let result =
                        self.put_token(path, headers, &token, (bytes as u64, 0), checksum.as_deref()).await;
                    let ended = result.as_ref().is_ok_and(|(head, _)| is_ended(head));
                    let Some(buffer) = self.proven(exposed, ended).await else {
                        return Err(Failed { error: ClientError::Quarantined, buffer: None });
                    };
                    match result {
                        Ok((head, None)) => {
                            return Ok(Stored { buffer, way: Way::Transport, rail: rail_of(&head), head });
                        }
                        Ok((head, Some(fallback))) => (buffer, fallback, Some(head)),
                        Err(error) => return Err(Failed::with(error, buffer)),
                    }
                }
                Err((buffer, fallback)) => (buffer, fallback, None),
            };
            if !self.made_anew(&back, &mut known, fallback).await {
                break (back, fallback, empty.filter(|_| fallback == Fallback::Ignored));
            }
            buffer = back;
        };
        // A server that took no notice has stored an empty object; only a body undoes that. The caller who requires the
        // transport is told, and has to know.
        if self.policy == Policy::Require {
            return Err(Failed::with(ClientError::NotMoved(fallback), buffer));
        }
        let body = buffer.get(..bytes).unwrap_or_default();
        let stored = match empty {
            None => self.put_body(path, headers, body).await,
            Some(empty) => self.replace_empty(path, headers, &empty, body).await,
        };
        match stored {
            Ok(head) => Ok(Stored { buffer, way: Way::Http(fallback), rail: None, head }),
            Err(error) => Err(Failed::with(error, buffer)),
        }
    }

    /// Puts the bytes in the place of the empty object that the first request has stored, as the head of its reply says. The conditions among
    /// `headers` were held against what was there before, and were met; from here on there is one: that the empty object is there still.
    ///
    /// # Errors
    /// [`ClientError::EmptyStored`].
    async fn replace_empty(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        empty: &ReplyHead,
        bytes: &[u8],
    ) -> Result<ReplyHead, ClientError> {
        let is_condition =
            |(name, _): &(&str, &str)| name.get(..3).is_some_and(|front| front.eq_ignore_ascii_case("if-"));
        let mut headers = headers.to_vec();
        // Who named no condition wants the bytes there whatever comes between.
        if headers.iter().any(is_condition) {
            headers.retain(|header| !is_condition(header));
            let tag = empty.get("etag").ok_or(ClientError::Malformed("an object without an ETag"));
            headers.push(("if-match", tag.map_err(|error| ClientError::EmptyStored(Box::new(error)))?));
        }
        let stored = self.put_body(path, &headers, bytes).await;
        stored.map_err(|error| ClientError::EmptyStored(Box::new(error)))
    }

    /// A PUT whose `bytes` are named by a token: stored, or why not so. With it `beside` bytes are under way.
    pub(super) async fn put_token(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        token: &str,
        (bytes, beside): (u64, u64),
        checksum: Option<&str>,
    ) -> Result<(ReplyHead, Option<Fallback>), ClientError> {
        let reply = self.propose((Method::Put, path), headers, token, bytes.saturating_add(beside)).await?;
        let (head, document) = self.document(reply).await?;
        let fallback = match judge_put(&head, bytes, checksum) {
            PutVerdict::Stored => None,
            PutVerdict::Declined => Some(Fallback::Declined),
            PutVerdict::Ignored => Some(Fallback::Ignored),
            PutVerdict::Refused if has_no_session(&head) => Some(Fallback::SessionEnded),
            PutVerdict::Refused => return Err(refused(&head, &document)),
            PutVerdict::Unproven(why) => return Err(ClientError::Unproven(why)),
        };
        Ok((head, fallback))
    }

    /// A PUT whose bytes are in its body.
    pub(super) async fn put_body(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        bytes: &[u8],
    ) -> Result<ReplyHead, ClientError> {
        let (head, document) = self.exchange(Method::Put, path, headers, bytes).await?;
        match head.status {
            200 => Ok(head),
            _ => Err(refused(&head, &document)),
        }
    }

    // ── what calls are made of ──

    /// Exposes the buffer and names it; the inner error gives it back where that can not be.
    #[allow(clippy::type_complexity)]
    pub(super) async fn exposed<L: Link, D: Direction>(
        &self,
        buffer: Buffer<L>,
        expose: impl FnOnce(Buffer<L>) -> Result<Exposed<L, D>, ExposeError<L>>,
    ) -> Result<Result<(Exposed<L, D>, String), (Buffer<L>, Fallback)>, Failed<L>> {
        if self.policy == Policy::Off {
            return Ok(Err((buffer, Fallback::Off)));
        }
        let exposed = match expose(buffer) {
            Ok(exposed) => exposed,
            Err(error) => return Ok(Err((error.buffer, Fallback::NotExposed))),
        };
        let length = exposed.len();
        match exposed.token(0..length) {
            Some(token) => Ok(Ok((exposed, token))),
            None => match self.proven(exposed, false).await {
                Some(buffer) => Ok(Err((buffer, Fallback::NoSession))),
                None => Err(Failed { error: ClientError::Quarantined, buffer: None }),
            },
        }
    }

    /// The inner error falls back, with the reply whose body has the bytes, or without.
    async fn get_over_transport<L: Link>(
        &self,
        path: &str,
        (headers, wanted): (&[(&str, &str)], Option<&Range<u64>>),
        exposed: Exposed<L, Target>,
        token: &str,
    ) -> Result<Proposed<Got<L>, L, R::Stream>, Failed<L>> {
        let room = exposed.len();
        let session = exposed.session().clone();
        let key = exposed.slice(0..0).map(|slice| slice.key().0);
        let result = self.propose((Method::Get, path), headers, token, room).await;
        let ended = result.as_ref().is_ok_and(|reply| is_ended(&reply.head));
        // Whatever the reply says: first nobody reaches the buffer any more.
        let Some(buffer) = self.proven(exposed, ended).await else {
            return Err(Failed { error: ClientError::Quarantined, buffer: None });
        };
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => return Err(Failed::with(error, buffer)),
        };
        match self.judged(path, reply, room, wanted).await {
            Ok(Ok((head, bytes, checksum))) => {
                // Before anybody looks at them: the reply may have overtaken them.
                let told = bytes == 0 || self.noticed(&session, key.into_iter().collect()).await;
                if !told {
                    let error = ClientError::Unproven("no notice that the bytes are there");
                    return Err(Failed::with(error, buffer));
                }
                let came = buffer.get(..bytes as usize).unwrap_or_default();
                if checksum.is_some_and(|checksum| checksum != crc64(came)) {
                    return Err(Failed::with(ClientError::Damaged, buffer));
                }
                let rail = rail_of(&head);
                Ok(Ok(Got { buffer, bytes: bytes as usize, way: Way::Transport, rail, head }))
            }
            Ok(Err((reply, fallback))) => Ok(Err((buffer, reply, fallback))),
            Err(error) => Err(Failed::with(error, buffer)),
        }
    }

    /// Sends a request that names memory, and reads the head of its reply, which may take as long as `bytes` do: its own, and those that are
    /// under way beside it.
    pub(super) async fn propose(
        &self,
        (method, path): (Method, &str),
        headers: &[(&str, &str)],
        token: &str,
        bytes: u64,
    ) -> Result<Reply<R::Stream>, ClientError> {
        let time = self.pace.time(bytes);
        let told = Pace::told(time);
        let mut headers = [headers, &[(TOKEN, token)]].concat();
        headers.extend(told.as_deref().map(|told| (TIMEOUT, told)));
        self.call_for(time, (method, path), &headers, &[]).await
    }

    /// What a reply to a GET with a token says: bytes that moved and their checksum; or why not, and the reply if its body has them.
    #[allow(clippy::type_complexity)]
    pub(super) async fn judged(
        &self,
        path: &str,
        reply: Reply<R::Stream>,
        room: u64,
        wanted: Option<&Range<u64>>,
    ) -> Result<Result<(ReplyHead, u64, Option<String>), (Option<Reply<R::Stream>>, Fallback)>, ClientError>
    {
        match judge_get(&reply.head, room, wanted) {
            GetVerdict::Moved { bytes, checksum } => {
                let (head, _) = self.document(reply).await?;
                Ok(Ok((head, bytes, checksum)))
            }
            GetVerdict::Unsized { bytes, checksum } => {
                let (head, _) = self.document(reply).await?;
                self.check_size(path, &head, bytes).await?;
                Ok(Ok((head, bytes, checksum)))
            }
            GetVerdict::Body => Ok(Err((Some(reply), Fallback::Declined))),
            GetVerdict::Ignored => Ok(Err((Some(reply), Fallback::Ignored))),
            GetVerdict::Again => {
                self.document(reply).await?;
                Ok(Err((None, Fallback::Declined)))
            }
            GetVerdict::Refused => {
                let (head, document) = self.document(reply).await?;
                if has_no_session(&head) {
                    return Ok(Err((None, Fallback::SessionEnded)));
                }
                Err(refused(&head, &document))
            }
            GetVerdict::Unproven(why) => Err(ClientError::Unproven(why)),
        }
    }

    /// Asks for the size of an object of which so many bytes came, because the reply that says so, `head`, does not tell it.
    async fn check_size(&self, path: &str, head: &ReplyHead, bytes: u64) -> Result<(), ClientError> {
        let unproven = |why| Err(ClientError::Unproven(why));
        let Some(tag) = head.get("etag") else { return unproven("neither a size nor an ETag to ask for it") };
        let (now, document) = self.exchange(Method::Head, path, &[("if-match", tag)], &[]).await?;
        let size = now.get("content-length").and_then(|length| length.parse::<u64>().ok());
        match now.status {
            // Of a server that takes no notice of the condition.
            200 if now.get("etag") != Some(tag) => unproven("the object was replaced"),
            200 if size != Some(bytes) => unproven("not all of the object"),
            200 => Ok(()),
            412 => unproven("the object was replaced"),
            _ => Err(refused(&now, &document)),
        }
    }

    /// Takes the body of a reply to a GET into the buffer.
    async fn fill<L: Link>(
        &self,
        mut buffer: Buffer<L>,
        (reply, wanted): (Reply<R::Stream>, Option<&Range<u64>>),
        fallback: Fallback,
    ) -> Result<Got<L>, Failed<L>> {
        match self.body_into(reply, wanted, &mut buffer).await {
            Ok((head, bytes)) => Ok(Got { buffer, bytes, way: Way::Http(fallback), rail: None, head }),
            Err(error) => Err(Failed::with(error, buffer)),
        }
    }

    /// Takes the body of a reply to a GET, of a range if one was wanted, to the front of `target`. How long it is.
    pub(super) async fn body_into(
        &self,
        mut reply: Reply<R::Stream>,
        wanted: Option<&Range<u64>>,
        target: &mut [u8],
    ) -> Result<(ReplyHead, usize), ClientError> {
        if !matches!(reply.head.status, 200 | 206) {
            let (head, document) = self.document(reply).await?;
            return Err(refused(&head, &document));
        }
        let Framing::Length(bytes) = reply.head.framing()? else {
            return Err(ClientError::Malformed("an object without a length"));
        };
        judge_body(&reply.head, bytes, wanted).map_err(ClientError::Unproven)?;
        let room = usize::try_from(bytes).ok().and_then(|bytes| target.get_mut(..bytes));
        let target = room.ok_or(ClientError::TooLarge { bytes })?;
        reply.connection.fill(&self.runtime, target).await?;
        self.keep(reply.connection);
        Ok((reply.head, bytes as usize))
    }

    /// Sends a request, and reads the head of its reply.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply<R::Stream>, ClientError> {
        self.call_for(Duration::ZERO, (method, path), headers, body).await
    }

    /// The same of what the server may work on for `time` before it answers.
    async fn call_for(
        &self,
        time: Duration,
        (method, path): (Method, &str),
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply<R::Stream>, ClientError> {
        let request =
            signed_head(&self.credentials, &self.host, (self.now)(), (method, path), headers, body.len());
        let mut connection = match self.idle_connection() {
            Some(connection) => connection,
            None => Connection::new(self.stream().await?),
        };
        let head = connection.call(&self.runtime, &request, body, time).await?;
        Ok(Reply { head, connection })
    }

    /// A socket, and keys agreed upon if that is wanted.
    async fn stream(&self) -> Result<Stream<R::Stream>, ClientError> {
        let socket = in_silence(&self.runtime, SILENCE, self.runtime.connect(&self.host)).await?;
        #[cfg(feature = "tls")]
        if let Some(settings) = &self.tls {
            let mut stream = Box::new(settings.over(socket)?);
            in_silence(&self.runtime, SILENCE, poll_fn(|cx| stream.poll_agreed(cx))).await?;
            return Ok(Stream::Secure(stream));
        }
        Ok(Stream::Plain(socket))
    }

    fn idle_connection(&self) -> Option<Connection<R::Stream>> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            if connection.is_good(&self.runtime) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose reply was read to its end.
    fn keep(&self, connection: Connection<R::Stream>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    /// Reads a short body.
    pub(super) async fn document(
        &self,
        mut reply: Reply<R::Stream>,
    ) -> Result<(ReplyHead, Vec<u8>), ClientError> {
        let document = reply.connection.document(&self.runtime, &reply.head).await?;
        self.keep(reply.connection);
        Ok((reply.head, document))
    }

    /// Ends the exposure, and waits for the proof that it has ended: it is there already if the server said so.
    pub(super) async fn proven<L: Link, D: Direction>(
        &self,
        exposed: Exposed<L, D>,
        ended: bool,
    ) -> Option<Buffer<L>> {
        let session: Session<L> = exposed.session().clone();
        let mut withdrawal = pin!(if ended { exposed.confirmed() } else { exposed.withdraw() });
        let mut limit = pin!(self.runtime.sleep(PROOF));
        loop {
            let mut wait = pin!(self.wait(&session));
            let found = poll_fn(|cx| {
                if let Poll::Ready(result) = withdrawal.as_mut().poll(cx) {
                    return Poll::Ready(Some(result.ok()));
                }
                if limit.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(None));
                }
                wait.as_mut().poll(cx).map(|()| None)
            });
            if let Some(found) = found.await {
                return found;
            }
        }
    }

    /// Waits for the notices of those numbers, which may come later than the replies to what they are about.
    pub(super) async fn noticed<L: Link>(&self, session: &Session<L>, mut notices: Vec<u32>) -> bool {
        if !session.is_notified() {
            return true;
        }
        let (name, mut limit) = (session.link().session(), pin!(self.runtime.sleep(PROOF)));
        loop {
            let mut wait = pin!(self.wait(session));
            // Looked for also when it is too late: the notice may have come since the last look.
            let done = poll_fn(|cx| {
                notices.retain(|notice| session.poll_notice(*notice, cx).is_pending());
                // One that was made anew meanwhile has none of them.
                let is_over = !session.is_open() || session.link().session() != name;
                if notices.is_empty() || is_over || limit.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(true);
                }
                wait.as_mut().poll(cx).map(|()| false)
            });
            if done.await {
                return notices.is_empty();
            }
        }
    }
}

/// Which of the server's rails the bytes went over, if it says so.
pub(super) fn rail_of(head: &ReplyHead) -> Option<Box<str>> {
    head.get(RAIL).map(Into::into)
}

/// Whether the server says that the exposure which the request named has ended with it.
pub(super) fn is_ended(head: &ReplyHead) -> bool {
    head.get(EXPOSURE) == Some(EXPOSURE_ENDED)
}

/// Whether the server says that there is no such session: it restarted, or the session was not used for long.
fn has_no_session(head: &ReplyHead) -> bool {
    head.status == 404 && head.get(PROTOCOL_STATUS) == Some(NO_SESSION)
}

impl<R: Runtime> fmt::Debug for AsyncClient<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncClient")
            .field("host", &self.host)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

pub(super) fn crc64(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Crc64Nvme);
    hasher.update(bytes);
    hasher.finish().to_string()
}

/// The refusal in a document, as far as it is one.
pub(super) fn refused(head: &ReplyHead, document: &[u8]) -> ClientError {
    let text = |name| element(document, name).unwrap_or_default();
    ClientError::Refused { status: head.status, code: text("Code"), message: text("Message") }
}
