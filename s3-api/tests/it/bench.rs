//! A server with a store of its own, and a client that says exactly what a test wants it to say.

use crossdock::Engine;
use crossdock_s3::{
    protocol::policy::{Policy, PolicyPlace},
    protocol::{
        auth::{PayloadMode, Signer},
        body::AwsChunkedEncoder,
        checksum::{Algorithm, Hasher},
        http::{Method, RequestHead},
    },
    server::{Server, ServerLimits, TlsSettings},
    service::{
        Account, Authorizer, BucketDefaults, Credential, Credentials, Identity, Policies, RemoteOptions,
        Secret, ServiceOptions,
    },
};
use crossdock_transport::{
    remote::Transport,
    shm::{Event, Shm, ShmClient, ShmOptions, same_user_or_root},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(crate) const ALICE: (&str, &str) = ("alice", "secret of alice");
pub(crate) const BOB: (&str, &str) = ("bob", "secret of bob");
pub(crate) const CAROL: (&str, &str) = ("carol", "secret of carol");

/// Several large requests at a time share little memory.
const WAIT: Duration = Duration::from_secs(5);

/// See [`Bench::of_strangers`].
pub(crate) struct Strangers;

impl Credentials for Strangers {
    fn lookup(&self, access_key: &str) -> Option<Credential> {
        const READ: &[u8] = br#"{"Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}}"#;
        let (secret, identity) = match access_key {
            "alice" => (ALICE.1, Identity::root("alice", self.account("account-a")?)),
            "bob" => (BOB.1, Identity::root("bob", self.account("account-b")?)),
            "carol" => {
                let read = vec![Policy::parse(READ, PolicyPlace::User).unwrap()];
                (CAROL.1, Identity::user("carol", self.account("account-a")?, "carol", read))
            }
            _ => return None,
        };
        Some(Credential { secret: Secret::new(secret), identity: Arc::new(identity) })
    }

    fn account(&self, id: &str) -> Option<Arc<Account>> {
        let known = matches!(id, "account-a" | "account-b");
        known.then(|| Arc::new(Account { id: id.into(), display_name: id.into(), email: None }))
    }
}

/// Who there is, and how it is decided what they may do.
fn by_policies(credentials: Arc<dyn Credentials>) -> (Arc<dyn Credentials>, Arc<dyn Authorizer>) {
    (credentials, Arc::new(Policies::default()))
}

/// Alice and Bob.
fn accounts() -> Arc<dyn Credentials> {
    let secret = |(key, secret): (&str, &str)| (key.to_owned(), Secret::new(secret));
    Arc::new(HashMap::from([secret(ALICE), secret(BOB)]))
}

/// What a core's pool has given out.
#[derive(Debug)]
pub(crate) struct PoolUse {
    pub(crate) leases: usize,
    pub(crate) leased_bytes: usize,
    pub(crate) total_bytes: usize,
    pub(crate) waiters: usize,
}

/// A server, and the directory of its store.
pub(crate) struct Bench {
    address: SocketAddr,
    socket: PathBuf,
    pub(crate) server: Arc<Server>,
    service: ServiceOptions,
    engine: Option<Engine>,
    directory: tempfile::TempDir,
}

impl Bench {
    /// Alice and Bob are of one account; buckets are as AWS makes them.
    pub(crate) fn new() -> Bench {
        Bench::with(None)
    }

    /// One with another transport, besides shared memory. Where it is not RDMA, it takes RDMA's place.
    pub(crate) fn with(transport: Option<Arc<dyn Transport>>) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        Bench::of(
            directory,
            by_policies(accounts()),
            BucketDefaults::default(),
            transport,
            |_| {},
            |server| server,
            WAIT,
        )
    }

    /// As [`Bench::with`], where everybody may do everything, whether they sign or not.
    pub(crate) fn open_to_all(transport: Option<Arc<dyn Transport>>) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let identities: (Arc<dyn Credentials>, Arc<dyn Authorizer>) =
            (accounts(), Arc::new(Policies { anonymous: true }));
        let defaults = BucketDefaults::default();
        Bench::of(directory, identities, defaults, transport, |_| {}, |server| server, WAIT)
    }

    /// As [`Bench::with`], where what was begun may take so long to end.
    pub(crate) fn patient(transport: Arc<dyn Transport>, grace: Duration) -> Bench {
        Bench::remote(transport, |remote| remote.grace = grace)
    }

    /// As [`Bench::patient`], by HTTPS.
    pub(crate) fn secure(
        transport: Arc<dyn Transport>,
        grace: Duration,
        settings: Arc<TlsSettings>,
    ) -> Bench {
        Bench::of(
            tempfile::tempdir().unwrap(),
            by_policies(accounts()),
            BucketDefaults::default(),
            Some(transport),
            |remote| remote.grace = grace,
            |server| server.with_tls(settings),
            WAIT,
        )
    }

    /// As [`Bench::with`], with terms of a test's own for what goes over transports.
    pub(crate) fn remote(
        transport: Arc<dyn Transport>,
        set_remote: impl FnOnce(&mut RemoteOptions),
    ) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        Bench::of(
            directory,
            by_policies(accounts()),
            BucketDefaults::default(),
            Some(transport),
            set_remote,
            |server| server,
            WAIT,
        )
    }

    /// The same store, served by a new process of which nobody remembers anything, with that transport besides shared memory.
    pub(crate) fn restart(mut self, transport: Option<Arc<dyn Transport>>) -> Bench {
        if let Some(engine) = self.engine.take() {
            engine.close();
        }
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        std::fs::remove_file(directory.path().join("shm")).ok();
        Bench::of(
            directory,
            by_policies(accounts()),
            BucketDefaults::default(),
            transport,
            |_| {},
            |server| server,
            WAIT,
        )
    }

    /// Alice and Bob are accounts of their own, and Carol is a user of Alice's who may only read. Buckets are as AWS made them once.
    pub(crate) fn of_strangers() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let defaults = BucketDefaults::BEFORE_2023;
        Bench::of(directory, by_policies(Arc::new(Strangers)), defaults, None, |_| {}, |server| server, WAIT)
    }

    /// Where this decides what they may do. Buckets are as AWS made them once.
    pub(crate) fn decided_by(credentials: Arc<dyn Credentials>, authorizer: Arc<dyn Authorizer>) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let defaults = BucketDefaults::BEFORE_2023;
        Bench::of(directory, (credentials, authorizer), defaults, None, |_| {}, |server| server, WAIT)
    }

    /// As [`Bench::new`], with limits of a test's own and, if there are settings, HTTPS.
    pub(crate) fn limited(limits: ServerLimits, tls: Option<Arc<TlsSettings>>) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        Bench::of(
            directory,
            by_policies(accounts()),
            BucketDefaults::default(),
            None,
            |_| {},
            |server| {
                let server = server.with_limits(limits);
                match tls {
                    Some(settings) => server.with_tls(settings),
                    None => server,
                }
            },
            WAIT,
        )
    }

    /// As [`Bench::limited`], where whoever finds no memory waits for it as long as a test may take.
    pub(crate) fn waiting(limits: ServerLimits) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let set_up = |server: Server| server.with_limits(limits);
        Bench::of(
            directory,
            by_policies(accounts()),
            BucketDefaults::default(),
            None,
            |_| {},
            set_up,
            REPLY_MAX,
        )
    }

    /// As [`Bench::new`], with limits of a test's own, where nobody waits for what others hold.
    pub(crate) fn impatient(limits: ServerLimits) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let set_up = |server: Server| server.with_limits(limits);
        Bench::of(
            directory,
            by_policies(accounts()),
            BucketDefaults::default(),
            None,
            |_| {},
            set_up,
            Duration::ZERO,
        )
    }

    fn of(
        directory: tempfile::TempDir,
        (credentials, authorizer): (Arc<dyn Credentials>, Arc<dyn Authorizer>),
        bucket_defaults: BucketDefaults,
        transport: Option<Arc<dyn Transport>>,
        set_remote: impl FnOnce(&mut RemoteOptions),
        set_up: impl FnOnce(Server) -> Server,
        admission_wait: Duration,
    ) -> Bench {
        let mut remote = RemoteOptions::default();
        set_remote(&mut remote);
        if let Some(transport) = transport.as_ref().filter(|transport| transport.name() != "rdma") {
            remote.transports.retain(|(codec, _)| **codec != *"rc");
            remote.transports.push(("rc".into(), transport.name().into()));
        }
        let service = ServiceOptions {
            credentials,
            authorizer,
            region: None,
            base_domains: Vec::new(),
            remote: Arc::new(remote),
            bucket_defaults,
            lifecycle_interval: None,
        };
        Bench::serve(directory, service, transport, set_up, admission_wait)
    }

    /// As [`Bench::new`], where the service is as the test sets it.
    pub(crate) fn set(set_service: impl FnOnce(&mut ServiceOptions)) -> Bench {
        let (credentials, authorizer) = by_policies(accounts());
        let mut service = ServiceOptions {
            credentials,
            authorizer,
            region: None,
            base_domains: Vec::new(),
            remote: Arc::default(),
            bucket_defaults: BucketDefaults::default(),
            lifecycle_interval: None,
        };
        set_service(&mut service);
        Bench::serve(tempfile::tempdir().unwrap(), service, None, |server| server, WAIT)
    }

    fn serve(
        directory: tempfile::TempDir,
        service: ServiceOptions,
        transport: Option<Arc<dyn Transport>>,
        set_up: impl FnOnce(Server) -> Server,
        admission_wait: Duration,
    ) -> Bench {
        let cores = 2;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(any, cores, service.clone(), ServerLimits::default()).unwrap();
        let server = Arc::new(set_up(server));
        let socket = directory.path().join("shm");
        let run = server.clone();
        // Or no test would take that way: few machines have huge pages to spare.
        let options = ShmOptions { lend_small_pages: true, ..ShmOptions::default() };
        let builder = match transport {
            Some(transport) => Engine::builder().transport(transport),
            None => Engine::builder(),
        };
        let engine = builder
            .path(directory.path().join("data"))
            .cores(cores)
            .memory_bytes(64 << 20)
            .admission_wait(admission_wait)
            .capacity_bytes(1 << 30)
            .transport(Arc::new(Shm::listen(&socket, options).unwrap()))
            .on_each_core(move |engine, driver| {
                let server = run.clone();
                async move { server.run(engine, driver).await }
            })
            .open()
            .unwrap();
        server.wait_until_listening().unwrap();
        let address = server.local_addr();
        Bench { address, socket, server, service, engine: Some(engine), directory }
    }

    pub(crate) fn client(&self, (key, secret): (&'static str, &'static str)) -> Client {
        let address = self.address;
        self.client_over((key, secret), move || Box::new(connect(address)))
    }

    /// A client whose bytes go through what `connect` gives.
    pub(crate) fn client_over(
        &self,
        (key, secret): (&'static str, &'static str),
        connect: impl Fn() -> Box<dyn Stream> + Send + Sync + 'static,
    ) -> Client {
        let (host, stream) = (self.address.to_string(), BufReader::new(connect()));
        Client { key, secret, region: "us-east-1", host, stream, connect: Arc::new(connect) }
    }

    /// How the server's service is set up, for another front end.
    pub(crate) fn service(&self) -> ServiceOptions {
        self.service.clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    /// Leases that are out, on each core.
    pub(crate) fn leases(&self) -> Vec<usize> {
        self.pools().into_iter().map(|pool| pool.leases).collect()
    }

    /// What of its memory each core has given out.
    pub(crate) fn pools(&self) -> Vec<PoolUse> {
        let look = |core| {
            let pool = self.engine().on_core(core, |engine| async move {
                let pool = engine.core().pool();
                let (leased_bytes, total_bytes) = (pool.leased_bytes(), pool.total_bytes());
                PoolUse { leases: pool.leases(), leased_bytes, total_bytes, waiters: pool.waiters() }
            });
            futures_lite::future::block_on(pool).unwrap()
        };
        (0..2).map(look).collect()
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Where clients hand memory over.
    pub(crate) fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// Memory that the server has mapped, and its session, which nobody has yet.
    pub(crate) fn memory(&self, bytes: u64) -> (ShmClient, [u8; 16]) {
        let client = ShmClient::connect(&self.socket, bytes, same_user_or_root).unwrap();
        match hear(&client) {
            Event::Session(session) => (client, session.to_bytes()),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.close();
        }
    }
}

/// What the client hears within ten seconds.
pub(crate) fn hear(client: &ShmClient) -> Event {
    for _ in 0..10 {
        if let Some(event) = client.poll() {
            return event;
        }
        let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::new(&client.descriptor(), PollFlags::IN)], Some(&limit)).unwrap();
    }
    panic!("nothing was heard");
}

/// Lets the server have some time.
#[allow(clippy::disallowed_methods, reason = "a client has a thread of its own")]
pub(crate) fn pause(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

/// Seconds since 1970.
#[allow(clippy::disallowed_methods, reason = "a client has a clock of its own")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// One connection, kept alive.
pub(crate) struct Client {
    key: &'static str,
    secret: &'static str,
    /// What its signatures name.
    pub(crate) region: &'static str,
    host: String,
    stream: BufReader<Box<dyn Stream>>,
    /// Makes the next connection, when a reply was the last of one.
    connect: Arc<dyn Fn() -> Box<dyn Stream> + Send + Sync>,
}

/// What goes there and back.
pub(crate) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The code of an error document.
    pub(crate) fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map(|(code, _)| code.to_owned()).unwrap_or_default()
    }
}

impl Client {
    fn signer(&self) -> Signer<'_> {
        let &Client { key: access_key, secret, region, .. } = self;
        Signer { access_key, secret, region, session_token: None }
    }

    /// The bytes of a signed request. `path` is encoded, and may have a query.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        self.signed(&PayloadMode::Unsigned, method, path, headers, body)
    }

    /// As [`Client::request`], where `payload` is what the signature says of the body.
    pub(crate) fn signed(
        &self,
        payload: &PayloadMode,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut head = RequestHead::for_client(method, path, query, &self.host);
        headers.iter().for_each(|(name, value)| head.headers.push(name, value.as_bytes()));
        if !head.headers.contains("transfer-encoding") {
            head.headers.push("content-length", body.len().to_string().as_bytes());
        }
        let signer = self.signer();
        signer.sign_header(&mut head, payload, now());
        wire(&head, body)
    }

    /// A PUT of `chunks` in the coding `aws-chunked`, with their CRC32 behind them: each with its signature, or none.
    pub(crate) fn streamed(&self, path: &str, signed: bool, chunks: &[&[u8]]) -> Streamed {
        let mut head = RequestHead::for_client(Method::Put, path, "", &self.host);
        let payload = chunks.concat();
        let checksum = Hasher::checksum(Algorithm::Crc32, &payload);
        head.headers.push("content-encoding", b"aws-chunked");
        head.headers.push("x-amz-trailer", b"x-amz-checksum-crc32");
        head.headers.push("x-amz-decoded-content-length", payload.len().to_string().as_bytes());
        let mode = if signed { PayloadMode::SignedChunksTrailer } else { PayloadMode::UnsignedTrailer };
        let signer = self.signer();
        let chain = signer.sign_header(&mut head, &mode, now());
        let mut encoder = AwsChunkedEncoder::new(signed.then_some(chain));
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        for chunk in chunks {
            let mut piece = Vec::new();
            encoder.chunk_line(chunk, &mut piece);
            piece.extend_from_slice(chunk);
            piece.extend_from_slice(b"\r\n");
            pieces.push(piece);
        }
        let mut end = Vec::new();
        encoder.finish(Some(&checksum), &mut end);
        pieces.push(end);
        Streamed { head, pieces }
    }

    /// The bytes of a request that nobody signed.
    pub(crate) fn unsigned(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut head = RequestHead::for_client(method, path, query, &self.host);
        headers.iter().for_each(|(name, value)| head.headers.push(name, value.as_bytes()));
        head.headers.push("content-length", body.len().to_string().as_bytes());
        wire(&head, body)
    }

    /// The bytes of a presigned request, signed `age` seconds ago for a minute.
    pub(crate) fn presigned(&self, method: Method, path: &str, age: u64) -> Vec<u8> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut head = RequestHead::for_client(method, path, query, &self.host);
        let signer = self.signer();
        signer.presign(&mut head, 60, now() - age);
        wire(&head, b"")
    }

    pub(crate) fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let request = self.request(method, path, headers, body);
        self.send(&request)
    }

    pub(crate) fn send(&mut self, request: &[u8]) -> Reply {
        self.write(request);
        self.read(request.starts_with(b"HEAD "))
    }

    /// Sends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
        self.stream.get_mut().flush().unwrap();
    }

    /// Takes one reply in.
    pub(crate) fn read(&mut self, to_head: bool) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_owned(), value.to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        // A reply to HEAD tells the length of what it leaves away.
        if !to_head && reply.header("transfer-encoding") == Some("chunked") {
            reply.body = self.chunks();
        } else if !to_head {
            reply.body = vec![0; length];
            self.stream.read_exact(&mut reply.body).unwrap();
        }
        if reply.header("connection") == Some("close") {
            self.stream = BufReader::new((self.connect)());
        }
        reply
    }
}

impl Client {
    /// A body in chunks, to its end.
    fn chunks(&mut self) -> Vec<u8> {
        let (mut body, mut line) = (Vec::new(), String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let bytes = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("{line:?}"));
            let start = body.len();
            body.resize(start + bytes, 0);
            self.stream.read_exact(&mut body[start..]).unwrap();
            let mut end = [0; 2];
            self.stream.read_exact(&mut end).unwrap();
            assert_eq!(&end, b"\r\n");
            if bytes == 0 {
                return body;
            }
        }
    }

    /// All that comes until the server ends the connection.
    pub(crate) fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).unwrap();
        self.stream = BufReader::new((self.connect)());
        String::from_utf8(bytes).unwrap()
    }
}

/// The base64 of a CRC32, as `x-amz-checksum-crc32` has it.
pub(crate) fn crc32(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(Hasher::checksum(Algorithm::Crc32, bytes).bytes())
}

/// As [`Client::call`], with a checksum over the body.
pub(crate) fn checked(client: &mut Client, method: Method, path: &str, body: &[u8]) -> Reply {
    client.call(method, path, &[("x-amz-checksum-crc32", &*crc32(body))], body)
}

/// A request whose body is in signed pieces: see [`Client::streamed`].
pub(crate) struct Streamed {
    head: RequestHead,
    /// The chunks with their lines, and what ends the body.
    pub(crate) pieces: Vec<Vec<u8>>,
}

impl Streamed {
    /// The request with this body, which has `missing` bytes less than the head says.
    pub(crate) fn with(&self, body: &[u8], missing: usize) -> Vec<u8> {
        let mut head = self.head.clone();
        // Nobody signs a length that proxies may change.
        head.headers.push("content-length", (body.len() + missing).to_string().as_bytes());
        wire(&head, body)
    }
}

/// Longest that a test waits for bytes of a server: more than any deadline it gives one.
const REPLY_MAX: Duration = Duration::from_secs(150);

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    // A reply that never comes is a failure with a name and not a test that never ends.
    stream.set_read_timeout(Some(REPLY_MAX)).unwrap();
    stream
}

fn wire(head: &RequestHead, body: &[u8]) -> Vec<u8> {
    let mark = if head.query.is_empty() { "" } else { "?" };
    let mut text = format!("{} {}{mark}{} HTTP/1.1\r\n", head.method.as_str(), head.path, head.query);
    for (name, value) in head.headers.iter() {
        write!(text, "{name}: {}\r\n", String::from_utf8_lossy(value)).unwrap();
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}
