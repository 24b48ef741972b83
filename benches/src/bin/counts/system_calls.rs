//! System calls of one operation: those that a core makes for it, on files and on a socket.
//!
//! ```text
//!   engine-…      an own core on this thread, one operation after the other
//!   http-…-1      a server of one core, one connection that is kept alive, one request after the other
//!   http-…-64     64 such connections
//! ```
//!
//! Those that enter the ring are counted apart, and writes by which a sleeping core is woken are among all.
//!
//! Of several rounds the least counts: what a machine does besides, as a timer that comes due, can only add. With many
//! connections it is chance how many requests are served by one call, so that those counts are shown and not compared.

use bytes::Bytes;
use crossdock::{Builder, CommitOptions, CoreEngine, Engine, Error, GetOptions, PutOptions};
use crossdock_s3::{
    protocol::{
        auth::{PayloadMode, Signer},
        http::{Method, RequestHead},
    },
    server::{Server, ServerLimits},
    service::{BucketDefaults, Policies, RemoteOptions, Secret, ServiceOptions},
};
use futures_lite::future::block_on;
use std::{
    collections::HashMap,
    future::Future,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

const ROUNDS: u64 = 12;
const EACH: u64 = 50;
pub(crate) const OBJECT_BYTES: usize = 4096;
const MEMORY_BYTES: usize = 64 << 20;
const CAPACITY_BYTES: u64 = 1 << 30;
const ACCESS_KEY: &str = "counts";
const SECRET: &str = "counted";
const REGION: &str = "us-east-1";

/// Where a store is opened: the server's, or one's own.
pub(crate) fn builder(directory: &Path) -> Builder {
    Engine::builder().path(directory).memory_bytes(MEMORY_BYTES).capacity_bytes(CAPACITY_BYTES)
}

/// A server of one core, whose one user may do everything.
pub(crate) fn server() -> Result<Arc<Server>, Box<dyn std::error::Error>> {
    let keys = HashMap::from([(ACCESS_KEY.to_owned(), Secret::new(SECRET))]);
    let service = ServiceOptions {
        credentials: Arc::new(keys),
        authorizer: Arc::new(Policies::default()),
        region: Some(REGION.into()),
        base_domains: Vec::new(),
        remote: Arc::new(RemoteOptions::default()),
        bucket_defaults: BucketDefaults::default(),
        lifecycle_interval: None,
    };
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(Arc::new(Server::bind(any, 1, service, ServerLimits::default())?))
}

type Made = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// An operation's name, and what one took.
pub(crate) type Count = (String, Calls);

/// System calls of an operation.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    /// `io_uring_enter`.
    pub(crate) enters: f64,
    /// All, those that woke a core included.
    pub(crate) all: f64,
}

/// All of them, in a directory that is made for it and removed. `connections` of the server at once, besides one.
pub(crate) fn count(directory: &Path, connections: &[usize]) -> Result<Vec<Count>, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory).map_err(|error| said(&error))?;
    let mut counts = of_the_engine(&directory.join("engine")).map_err(|error| said(&error))?;
    counts.extend(of_the_server(&directory.join("server"), connections).map_err(|error| said(&error))?);
    std::fs::remove_dir_all(directory).map_err(|error| said(&error))?;
    Ok(counts)
}

/// The least of several rounds, for one operation: of all calls, and of those that enter a ring.
fn least<E>(each: u64, mut round: impl FnMut() -> Result<(u64, u64), E>) -> Result<Calls, E> {
    let mut least = (u64::MAX, u64::MAX);
    for _ in 0..ROUNDS {
        let (enters, all) = round()?;
        least = (least.0.min(enters), least.1.min(all));
    }
    Ok(Calls { enters: least.0 as f64 / each as f64, all: least.1 as f64 / each as f64 })
}

fn of_the_engine(directory: &Path) -> Result<Vec<Count>, Box<dyn std::error::Error>> {
    let core = builder(directory).open_here()?;
    let engine = core.engine().clone();
    let making = engine.clone();
    core.block_on(async move { making.create_bucket("bench", Bytes::new()).await })?;
    let put = |engine: CoreEngine, number| -> Made { Box::pin(put(engine, number)) };
    let get = |engine: CoreEngine, number| -> Made { Box::pin(get(engine, number)) };
    let mut counts = Vec::new();
    for (name, operation) in [("engine-put-4k", put as fn(_, _) -> Made), ("engine-get-4k", get)] {
        let each = least(EACH, || {
            let (before, working) = (engine.core().system_calls(), engine.clone());
            core.block_on(async move {
                for number in 0..EACH {
                    operation(working.clone(), number).await?;
                }
                Ok::<(), Error>(())
            })?;
            let after = engine.core().system_calls();
            Ok::<_, Error>((after.enters - before.enters, after.total() - before.total()))
        });
        counts.push((name.to_owned(), each?));
    }
    drop(engine);
    core.close();
    Ok(counts)
}

async fn put(engine: CoreEngine, number: u64) -> Result<(), Error> {
    let options = PutOptions { size: Some(OBJECT_BYTES as u64) };
    let mut put = engine.put("bench", &number.to_le_bytes(), options).await?;
    let mut lease = put.buffer().await?;
    lease.set_len(OBJECT_BYTES);
    put.push(lease).await?;
    put.finish(CommitOptions::default()).await.map(drop)
}

async fn get(engine: CoreEngine, number: u64) -> Result<(), Error> {
    let mut get = engine.get("bench", &number.to_le_bytes(), GetOptions::default()).await?;
    while let Some(chunk) = get.next().await {
        drop(chunk?);
    }
    Ok(())
}

fn of_the_server(directory: &Path, many: &[usize]) -> Result<Vec<Count>, Box<dyn std::error::Error>> {
    let server = server()?;
    let run = server.clone();
    let engine = builder(directory)
        .cores(1)
        .on_each_core(move |engine, driver| {
            let server = run.clone();
            async move { server.run(engine, driver).await }
        })
        .open()?;
    server.wait_until_listening()?;
    let address = server.local_addr();
    Client::connect(address)?.call(Method::Put, "/bench", &[])?;
    let calls = || {
        let calls = engine.on_core(0, |engine| async move { engine.core().system_calls() });
        block_on(calls).map_err(|error| error.to_string())
    };
    let asking = calls()?;
    // The question itself takes some.
    let asked = calls()?;
    let asking = (asked.enters - asking.enters, asked.total() - asking.total());
    let mut counts = Vec::new();
    for connections in std::iter::once(1).chain(many.iter().copied()) {
        let clients: Result<Vec<Client>, _> = (0..connections).map(|_| Client::connect(address)).collect();
        let mut clients = clients?;
        for (verb, method) in [("put", Method::Put), ("get", Method::Get)] {
            let each = least(EACH * connections as u64, || {
                let before = calls()?;
                together(&mut clients, method)?;
                let after = calls()?;
                let enters = after.enters.saturating_sub(before.enters + asking.0);
                Ok::<_, String>((enters, after.total().saturating_sub(before.total() + asking.1)))
            });
            counts.push((format!("http-{verb}-4k-{connections}"), each?));
        }
    }
    engine.close();
    Ok(counts)
}

/// So many requests on each connection, on all of them at once.
fn together(clients: &mut [Client], method: Method) -> Result<(), String> {
    let work = |client: &mut Client| -> Result<(), String> {
        let body = [7; OBJECT_BYTES];
        let body = if method == Method::Put { &body[..] } else { &[] };
        (0..EACH).try_for_each(|number| client.call(method, &format!("/bench/{number}"), body))
    };
    if let [client] = clients {
        return work(client);
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| work(client))).collect();
        let panicked = || Err("a client panicked".to_owned());
        running.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| panicked()))
    })
}

/// One connection that is kept alive.
pub(crate) struct Client {
    stream: TcpStream,
    host: String,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client, String> {
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Client { stream, host: address.to_string(), answer: vec![0; 2 * OBJECT_BYTES] })
    }

    /// Sends a request, in one piece, and takes its answer, which is no longer than an object and a head.
    pub(crate) fn call(&mut self, method: Method, path: &str, body: &[u8]) -> Result<(), String> {
        let mut head = RequestHead::for_client(method, path, "", &self.host);
        head.headers.push("content-length", body.len().to_string().as_bytes());
        let signer = Signer { access_key: ACCESS_KEY, secret: SECRET, region: REGION, session_token: None };
        signer.sign_header(&mut head, &PayloadMode::Unsigned, now_seconds());
        let mut request = format!("{} {path} HTTP/1.1\r\n", method.as_str()).into_bytes();
        for (name, value) in head.headers.iter() {
            request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        request.extend(b"\r\n");
        request.extend(body);
        self.stream.write_all(&request).map_err(|error| error.to_string())?;
        let (mut received, mut whole) = (0, usize::MAX);
        while received < whole {
            let count = self.stream.read(&mut self.answer[received..]).map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("the server closed the connection".to_owned());
            }
            received += count;
            let text = String::from_utf8_lossy(&self.answer[..received]);
            if let Some(end) = text.find("\r\n\r\n").filter(|_| whole == usize::MAX) {
                if !text.starts_with("HTTP/1.1 2") {
                    return Err(format!("the server answered {text}"));
                }
                let length = text[..end].lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
                });
                whole = end + 4 + length.unwrap_or(0);
            }
        }
        Ok(())
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a client signs with the time, and has no reactor to ask for it"
)]
fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
