//! A client that blocks: one connection, one request at a time.

use super::{
    ClientError, Fallback, Policy, ReplyHead, Way,
    contract::{GetVerdict, PutVerdict, judge_get, judge_put},
    http::{Framing, HEAD_BYTES_MAX},
};
use crate::protocol::{
    auth::{EMPTY_SHA256_HEX, PayloadMode, Signer, encode_path},
    checksum::{Algorithm, Hasher},
    http::{ChunkedDecoder, Method, RequestHead},
    remote::{PARAMETER, REPLY, SESSION, TOKEN, format_session, parse_session},
};
use crossdock_transport::{
    exposure::{Buffer, Direction, ExposeError, Exposed, Link, Session},
    remote::{Answer, Offer, SessionId},
};
use std::{
    fmt,
    future::Future,
    io::{Read, Write},
    net::TcpStream,
    ops::Range,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// How long the server may keep silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the proof that a buffer is out of reach may take. A transfer has five seconds, and one more to be ended.
const PROOF: Duration = Duration::from_secs(30);
/// Times that a session is looked at within [`PROOF`].
const PROOF_LOOKS: u32 = 300;
/// The longest error document that is read.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    /// The access key.
    pub access_key: Box<str>,
    /// The secret access key.
    pub secret: Box<str>,
    /// The region that the server is in.
    pub region: Box<str>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// A client of one server. Stays on its thread; blocks.
pub struct Client {
    host: Box<str>,
    credentials: Credentials,
    policy: Policy,
    now: Box<dyn Fn() -> u64>,
    connection: Option<Connection>,
}

/// A GET that succeeded. The buffer begins with the bytes.
pub struct Got<L: Link> {
    /// The buffer, out of reach again.
    pub buffer: Buffer<L>,
    /// How many bytes came.
    pub bytes: usize,
    /// Which way.
    pub way: Way,
    /// The reply's head: the object's headers.
    pub head: ReplyHead,
}

/// A PUT that succeeded.
pub struct Stored<L: Link> {
    /// The buffer, out of reach again and unchanged.
    pub buffer: Buffer<L>,
    /// Which way.
    pub way: Way,
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

impl<L: Link> fmt::Debug for Failed<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failed").field("error", &self.error).field("buffer", &self.buffer).finish()
    }
}

impl<L: Link> fmt::Debug for Got<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Got").field("bytes", &self.bytes).field("way", &self.way).finish_non_exhaustive()
    }
}

impl<L: Link> fmt::Debug for Stored<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("way", &self.way).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at `host`, an address and a port. `now` gives the seconds since 1970, which are signed.
    pub fn new(host: &str, credentials: Credentials, now: impl Fn() -> u64 + 'static) -> Client {
        let (host, now) = (host.into(), Box::new(now));
        Client { host, credentials, policy: Policy::default(), now, connection: None }
    }

    /// Which way bytes may go. Default: [`Policy::Prefer`].
    pub fn policy(mut self, policy: Policy) -> Client {
        self.policy = policy;
        self
    }

    /// Makes a session of shared memory this client's. That the server answers shows that it speaks the protocol.
    ///
    /// # Errors
    /// The server refused: it does not know the session, or does not speak of sessions.
    pub fn bind(&mut self, session: SessionId) -> Result<(), ClientError> {
        let session = format_session(session.to_bytes());
        let (head, body) =
            self.exchange(Method::Post, "/.crossdock-shm/bind", &[(SESSION, &session)], &[])?;
        match head.status {
            200 => Ok(()),
            _ => Err(refused(&head, &body)),
        }
    }

    /// Connects a queue pair of this client's, which `offer` describes, to one of the server's; what the client's side has to be connected to
    /// is the answer. The session is this client's from then on.
    ///
    /// # Errors
    /// The server refused: it has no such transport, no way to the client's address, or no room; or it answered something else.
    pub fn connect(&mut self, offer: &Offer) -> Result<Answer, ClientError> {
        let parameters: Vec<(String, &str)> =
            offer.parameters.iter().map(|(name, value)| (format!("{PARAMETER}{name}"), &**value)).collect();
        let mut headers = vec![(TOKEN, &*offer.token)];
        headers.extend(parameters.iter().map(|(name, value)| (&**name, *value)));
        let (head, body) = self.exchange(Method::Post, "/.s3rdma-rc/connect", &headers, &[])?;
        if head.status != 200 {
            return Err(refused(&head, &body));
        }
        let session =
            head.get(SESSION).and_then(parse_session).ok_or(ClientError::Malformed("no session"))?;
        let token = head.get(REPLY).and_then(|reply| reply.strip_prefix("200:"));
        let token = token.ok_or(ClientError::Malformed("no queue pair to connect to"))?.to_owned();
        let parameters = head.headers().filter_map(|(name, value)| {
            let name = name.strip_prefix(PARAMETER).filter(|_| name != SESSION && name != REPLY)?;
            Some((name.to_owned(), value.to_owned()))
        });
        Ok(Answer { session: SessionId::from_bytes(session), token, parameters: parameters.collect() })
    }

    /// Ends a session of this client's. What the server still has under way is ended first.
    ///
    /// # Errors
    /// No reply came, or the server refused: the session ends by itself when it has not been used for some minutes.
    pub fn disconnect(&mut self, session: SessionId) -> Result<(), ClientError> {
        let session = format_session(session.to_bytes());
        let (head, body) =
            self.exchange(Method::Post, "/.s3rdma-rc/disconnect", &[(SESSION, &session)], &[])?;
        match head.status {
            204 => Ok(()),
            _ => Err(refused(&head, &body)),
        }
    }

    /// Any request without a token; for what this client has no word for.
    ///
    /// # Errors
    /// No reply came. One that refuses is no error.
    pub fn exchange(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(ReplyHead, Vec<u8>), ClientError> {
        let head = self.call(method, path, headers, body)?;
        if method == Method::Head {
            // Its length is that of what GET would bring.
            return Ok((head, Vec::new()));
        }
        let document = self.document(&head)?;
        Ok((head, document))
    }

    /// Gets an object, or the bytes of it in `range`, to the front of `buffer`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get_into<L: Link>(
        &mut self,
        bucket: &str,
        key: &str,
        range: Option<Range<u64>>,
        buffer: Buffer<L>,
    ) -> Result<Got<L>, Failed<L>> {
        let path = object_path(bucket, key);
        let text =
            range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let headers: Vec<(&str, &str)> = text.as_deref().map(|range| ("range", range)).into_iter().collect();
        let (buffer, fallback) = match self.expose(buffer, Buffer::expose_target)? {
            Ok((exposed, token)) => {
                match self.get_over_transport(&path, (&headers, range.as_ref()), exposed, &token)? {
                    Ok(got) => return Ok(got),
                    Err((buffer, Some(head), fallback)) => {
                        // The bytes are in the body of the reply.
                        return self.fill(buffer, head, fallback);
                    }
                    Err((buffer, None, fallback)) => (buffer, fallback),
                }
            }
            Err((buffer, fallback)) => (buffer, fallback),
        };
        if self.policy == Policy::Require {
            return Err(Failed { error: ClientError::NotMoved(fallback), buffer: Some(buffer) });
        }
        match self.call(Method::Get, &path, &headers, &[]) {
            Ok(head) => self.fill(buffer, head, fallback),
            Err(error) => Err(Failed { error, buffer: Some(buffer) }),
        }
    }

    /// Stores the first `bytes` of the buffer as an object. `headers` go with it.
    ///
    /// # Errors
    /// See [`ClientError`]. What is in the store then is not known, but after [`ClientError::Refused`].
    pub fn put_from<L: Link>(
        &mut self,
        bucket: &str,
        key: &str,
        headers: &[(&str, &str)],
        buffer: Buffer<L>,
        bytes: usize,
    ) -> Result<Stored<L>, Failed<L>> {
        self.put(&object_path(bucket, key), headers, buffer, bytes)
    }

    /// Stores the first `bytes` of the buffer as part `number` of an upload.
    ///
    /// # Errors
    /// As [`Client::put_from`].
    pub fn put_part_from<L: Link>(
        &mut self,
        (bucket, key): (&str, &str),
        upload: &str,
        number: u16,
        buffer: Buffer<L>,
        bytes: usize,
    ) -> Result<Stored<L>, Failed<L>> {
        let upload = crate::protocol::auth::encode_query(upload);
        let path = format!("{}?partNumber={number}&uploadId={upload}", object_path(bucket, key));
        self.put(&path, &[], buffer, bytes)
    }

    fn put<L: Link>(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        buffer: Buffer<L>,
        bytes: usize,
    ) -> Result<Stored<L>, Failed<L>> {
        assert!(bytes <= buffer.len(), "{bytes} bytes of a buffer of {}", buffer.len());
        let (buffer, fallback) = match self.expose(buffer, Buffer::expose_source)? {
            Ok((exposed, _)) => match self.put_over_transport(path, headers, exposed, bytes)? {
                Ok(stored) => return Ok(stored),
                Err((buffer, fallback)) => (buffer, fallback),
            },
            Err((buffer, fallback)) => (buffer, fallback),
        };
        // A server that took no notice has stored an empty object; only a body undoes that. The caller who requires the
        // transport is told, and has to know.
        if self.policy == Policy::Require {
            return Err(Failed { error: ClientError::NotMoved(fallback), buffer: Some(buffer) });
        }
        let result = self.call(Method::Put, path, headers, &buffer[..bytes]).and_then(|head| {
            let document = self.document(&head)?;
            match head.status {
                200 => Ok(head),
                _ => Err(refused(&head, &document)),
            }
        });
        match result {
            Ok(head) => Ok(Stored { buffer, way: Way::Http(fallback), head }),
            Err(error) => Err(Failed { error, buffer: Some(buffer) }),
        }
    }

    /// Exposes the buffer and names it; the inner error gives it back where that can not be.
    #[allow(clippy::type_complexity)]
    fn expose<L: Link, D: Direction>(
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
            None => match proven(exposed) {
                Some(buffer) => Ok(Err((buffer, Fallback::NoSession))),
                None => Err(Failed { error: ClientError::Quarantined, buffer: None }),
            },
        }
    }

    /// The inner error falls back, with the head of the reply whose body has the bytes, or without.
    #[allow(clippy::type_complexity)]
    fn get_over_transport<L: Link>(
        &mut self,
        path: &str,
        (headers, wanted): (&[(&str, &str)], Option<&Range<u64>>),
        exposed: Exposed<L, crossdock_transport::exposure::Target>,
        token: &str,
    ) -> Result<Result<Got<L>, (Buffer<L>, Option<ReplyHead>, Fallback)>, Failed<L>> {
        let room = exposed.len();
        let session = exposed.session().clone();
        let key = exposed.slice(0..0).map(|slice| slice.key().0);
        let headers = [headers, &[(TOKEN, token)]].concat();
        let result = self.call(Method::Get, path, &headers, &[]);
        // Whatever the reply says: first nobody reaches the buffer any more.
        let Some(buffer) = proven(exposed) else {
            self.connection = None;
            return Err(Failed { error: ClientError::Quarantined, buffer: None });
        };
        let head = match result {
            Ok(head) => head,
            Err(error) => return Err(Failed { error, buffer: Some(buffer) }),
        };
        let fail = |error, buffer| Err(Failed { error, buffer: Some(buffer) });
        match judge_get(&head, room, wanted) {
            GetVerdict::Moved { bytes, checksum } => {
                if let Err(error) = self.document(&head) {
                    return fail(error, buffer);
                }
                let told =
                    bytes == 0 || !session.is_notified() || key.is_some_and(|key| noticed(&session, key));
                if !told {
                    return fail(ClientError::Unproven("no notice that the bytes are there"), buffer);
                }
                let bytes = bytes as usize;
                if checksum.is_some_and(|checksum| checksum != crc64(&buffer[..bytes])) {
                    return fail(ClientError::Damaged, buffer);
                }
                Ok(Ok(Got { buffer, bytes, way: Way::Transport, head }))
            }
            GetVerdict::Body | GetVerdict::Ignored if self.policy == Policy::Require => {
                // Its body is not wanted.
                self.connection = None;
                fail(ClientError::NotMoved(Fallback::Declined), buffer)
            }
            GetVerdict::Body => Ok(Err((buffer, Some(head), Fallback::Declined))),
            GetVerdict::Ignored => Ok(Err((buffer, Some(head), Fallback::Ignored))),
            GetVerdict::Again => match self.document(&head) {
                Ok(_) => Ok(Err((buffer, None, Fallback::Declined))),
                Err(error) => fail(error, buffer),
            },
            GetVerdict::Refused => {
                let error = self.document(&head).map(|document| refused(&head, &document));
                fail(error.unwrap_or_else(|error| error), buffer)
            }
            GetVerdict::Unproven(why) => {
                self.connection = None;
                fail(ClientError::Unproven(why), buffer)
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn put_over_transport<L: Link>(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        exposed: Exposed<L, crossdock_transport::exposure::Source>,
        bytes: usize,
    ) -> Result<Result<Stored<L>, (Buffer<L>, Fallback)>, Failed<L>> {
        let token = exposed.token(0..bytes as u64).unwrap_or_default();
        let headers = [headers, &[(TOKEN, &*token)]].concat();
        let result = self.call(Method::Put, path, &headers, &[]).and_then(|head| {
            let document = self.document(&head)?;
            Ok((head, document))
        });
        let Some(buffer) = proven(exposed) else {
            self.connection = None;
            return Err(Failed { error: ClientError::Quarantined, buffer: None });
        };
        let (head, document) = match result {
            Ok(reply) => reply,
            Err(error) => return Err(Failed { error, buffer: Some(buffer) }),
        };
        match judge_put(&head, bytes as u64, Some(&crc64(&buffer[..bytes]))) {
            PutVerdict::Stored => Ok(Ok(Stored { buffer, way: Way::Transport, head })),
            PutVerdict::Declined => Ok(Err((buffer, Fallback::Declined))),
            PutVerdict::Ignored => Ok(Err((buffer, Fallback::Ignored))),
            PutVerdict::Refused => Err(Failed { error: refused(&head, &document), buffer: Some(buffer) }),
            PutVerdict::Unproven(why) => {
                Err(Failed { error: ClientError::Unproven(why), buffer: Some(buffer) })
            }
        }
    }

    /// Takes the body of a reply to a GET into the buffer.
    fn fill<L: Link>(
        &mut self,
        mut buffer: Buffer<L>,
        head: ReplyHead,
        fallback: Fallback,
    ) -> Result<Got<L>, Failed<L>> {
        let result = match (head.status, head.framing()) {
            (200 | 206, Ok(Framing::Length(bytes))) if bytes > buffer.len() as u64 => {
                self.connection = None;
                Err(ClientError::TooLarge { bytes })
            }
            (200 | 206, Ok(Framing::Length(bytes))) => {
                self.body_into(&mut buffer[..bytes as usize]).map(|()| bytes as usize)
            }
            (200 | 206, Ok(_)) => {
                self.connection = None;
                Err(ClientError::Malformed("an object without a length"))
            }
            (_, Err(error)) => Err(error),
            _ => self.document(&head).and_then(|document| Err(refused(&head, &document))),
        };
        match result {
            Ok(bytes) => Ok(Got { buffer, bytes, way: Way::Http(fallback), head }),
            Err(error) => Err(Failed { error, buffer: Some(buffer) }),
        }
    }

    /// Sends a request, and reads the head of its reply. The body is to be read next.
    fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<ReplyHead, ClientError> {
        let request = self.request(method, path, headers, body);
        let connection = match self.connection.take() {
            Some(connection) if connection.is_quiet() => connection,
            _ => Connection::new(&self.host)?,
        };
        let (connection, head) = connection.call(&request, body)?;
        self.connection = Some(connection);
        Ok(head)
    }

    /// The head of a signed request, as bytes.
    fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut head = RequestHead::for_client(method, path, query, &self.host);
        headers.iter().for_each(|(name, value)| head.headers.push(name, value.as_bytes()));
        head.headers.push("content-length", body.len().to_string().as_bytes());
        let Credentials { access_key, secret, region } = &self.credentials;
        let signer = Signer { access_key, secret, region, session_token: None };
        signer.sign_header(&mut head, &PayloadMode::Unsigned, (self.now)());
        debug_assert_ne!(head.headers.text("x-amz-content-sha256"), Some(EMPTY_SHA256_HEX));
        let mut bytes = Vec::with_capacity(1024);
        let divider = if query.is_empty() { "" } else { "?" };
        bytes
            .extend_from_slice(format!("{} {path}{divider}{query} HTTP/1.1\r\n", method.as_str()).as_bytes());
        for (name, value) in head.headers.iter() {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// Reads a short body.
    fn document(&mut self, head: &ReplyHead) -> Result<Vec<u8>, ClientError> {
        let Some(connection) = self.connection.take() else {
            return Err(ClientError::Malformed("no reply"));
        };
        let (connection, document) = connection.document(head)?;
        self.connection = connection;
        Ok(document)
    }

    fn body_into(&mut self, target: &mut [u8]) -> Result<(), ClientError> {
        let Some(mut connection) = self.connection.take() else {
            return Err(ClientError::Malformed("no reply"));
        };
        connection.read_exact(target)?;
        self.connection = connection.keeps_alive.then_some(connection);
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

fn object_path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", encode_path(key))
}

fn crc64(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Crc64Nvme);
    hasher.update(bytes);
    hasher.finish().to_string()
}

/// The refusal in a document, as far as it is one.
fn refused(head: &ReplyHead, document: &[u8]) -> ClientError {
    let text = String::from_utf8_lossy(document);
    let element = |name: &str| {
        let rest = text.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
        let value = rest.and_then(|rest| rest.split_once(&format!("</{name}>"))).map(|(value, _)| value);
        value.unwrap_or_default().to_owned()
    };
    ClientError::Refused { status: head.status, code: element("Code"), message: element("Message") }
}

/// Waits for the notice of that number, which may come later than the reply to what it is about.
fn noticed<L: Link>(session: &Session<L>, notice: u32) -> bool {
    for _ in 0..PROOF_LOOKS {
        if session.take_notice(notice) {
            return true;
        }
        if !session.is_open() || session.wait(PROOF / PROOF_LOOKS).is_err() {
            break;
        }
    }
    false
}

/// Withdraws the exposure, and waits for the proof that it has ended.
fn proven<L: Link, D: Direction>(exposed: Exposed<L, D>) -> Option<Buffer<L>> {
    let session: Session<L> = exposed.session().clone();
    let mut withdrawal = pin!(exposed.withdraw());
    for _ in 0..PROOF_LOOKS {
        match withdrawal.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => return result.ok(),
            Poll::Pending => session.wait(PROOF / PROOF_LOOKS).ok()?,
        }
    }
    None
}

/// One connection to the server.
struct Connection {
    stream: TcpStream,
    /// Received and not used.
    pending: Vec<u8>,
    keeps_alive: bool,
}

impl Connection {
    fn new(host: &str) -> Result<Connection, ClientError> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Connection { stream, pending: Vec::new(), keeps_alive: true })
    }

    /// Whether nothing has come since the last reply: not even that the server closed it.
    fn is_quiet(&self) -> bool {
        let quiet = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        let result = quiet();
        self.pending.is_empty()
            && matches!(result, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn call(mut self, request: &[u8], body: &[u8]) -> Result<(Connection, ReplyHead), ClientError> {
        self.stream.write_all(request)?;
        self.stream.write_all(body)?;
        loop {
            match ReplyHead::parse(&self.pending)? {
                Some((head, length)) => {
                    self.pending.drain(..length);
                    // Interim replies may come before the reply.
                    if head.status >= 200 {
                        self.keeps_alive = head.keeps_alive();
                        return Ok((self, head));
                    }
                }
                None => self.receive()?,
            }
        }
    }

    fn receive(&mut self) -> Result<(), ClientError> {
        let held = self.pending.len();
        self.pending.resize(held + 4096.min(HEAD_BYTES_MAX), 0);
        let received = self.stream.read(&mut self.pending[held..]);
        self.pending.truncate(held + *received.as_ref().unwrap_or(&0));
        match received? {
            0 => Err(ClientError::Connection(std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    fn read_exact(&mut self, target: &mut [u8]) -> Result<(), ClientError> {
        let here = target.len().min(self.pending.len());
        let (front, rest) = target.split_at_mut(here);
        front.copy_from_slice(&self.pending[..here]);
        self.pending.drain(..here);
        Ok(self.stream.read_exact(rest)?)
    }

    /// Reads a short body to its end; the connection is given back if it goes on.
    fn document(mut self, head: &ReplyHead) -> Result<(Option<Connection>, Vec<u8>), ClientError> {
        let too_long = || ClientError::Malformed("the document is too long");
        let mut document = Vec::new();
        match head.framing()? {
            Framing::Length(bytes) => {
                let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= DOCUMENT_BYTES_MAX);
                document.resize(bytes.ok_or_else(too_long)?, 0);
                self.read_exact(&mut document)?;
            }
            Framing::Chunked => {
                let mut decoder = ChunkedDecoder::new();
                while !decoder.is_finished() {
                    let piece = decoder
                        .advance(&self.pending)
                        .map_err(|_| ClientError::Malformed("the chunks of a body"))?;
                    let used = piece.framing + piece.payload;
                    document.extend_from_slice(&self.pending[piece.framing..used]);
                    self.pending.drain(..used);
                    if document.len() > DOCUMENT_BYTES_MAX {
                        return Err(too_long());
                    }
                    if used == 0 && !decoder.is_finished() {
                        self.receive()?;
                    }
                }
            }
            Framing::Close => {
                self.keeps_alive = false;
                document.append(&mut self.pending);
                let limit = DOCUMENT_BYTES_MAX as u64;
                (&self.stream).take(limit + 1).read_to_end(&mut document)?;
                if document.len() > DOCUMENT_BYTES_MAX {
                    return Err(too_long());
                }
            }
        }
        let keeps_alive = self.keeps_alive;
        Ok((keeps_alive.then_some(self), document))
    }
}
