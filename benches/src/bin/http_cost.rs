//! What S3 over HTTP costs the server: processor seconds for a GiB, and requests for a processor second.
//!
//! Processor time is what a shared machine leaves comparable: it does not count the time others had. Each figure stands
//! beside that of the best Rust peer, measured on the same kind of machine with the same sizes and connections.
//!
//! ```text
//! cargo build --release --bin s3-server && cargo run --release --bin http_cost
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crossdock_benches::server::Server;
use crossdock_s3::protocol::http::Method;

const CONNECTIONS: u64 = 8;
const LARGE_BYTES: u64 = 64 << 20;
const SMALL_BYTES: u64 = 4 << 10;
const GIB: f64 = (1_u64 << 30) as f64;

/// Peers, November 2026, two shared cores: Garage 2.5.0 for reading large objects, s3s-fs 0.14.1 (which does not
/// sync) for the others.
const PEER_LARGE_GET_CPU_SECONDS_PER_GIB: f64 = 1.60;
const PEER_LARGE_PUT_CPU_SECONDS_PER_GIB: f64 = 2.55;
const PEER_SMALL_GETS_PER_CPU_SECOND: f64 = 4735.0;
const PEER_SMALL_PUTS_PER_CPU_SECOND: f64 = 1936.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("http_cost: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("s3-server");
    let mut arguments = std::env::args().skip(1);
    let data =
        arguments.next().map_or_else(|| std::env::temp_dir().join("crossdock-http-cost"), PathBuf::from);
    let extra: Vec<String> = arguments.collect();
    if data.exists() {
        return Err(format!("{} exists; name a directory that does not", data.display()));
    }
    let server = Server::start(&program, &data, &extra)?;
    let result = measure(&server);
    drop(server);
    std::fs::remove_dir_all(&data).map_err(|error| format!("cannot remove {}: {error}", data.display()))?;
    result
}

fn measure(server: &Server) -> Result<(), String> {
    let head = server.head(Method::Put, "/bench", 0, now());
    server
        .connect()
        .and_then(|mut connection| connection.call(&head, &[]))
        .map_err(|error| error.to_string())?;
    let body: Vec<u8> = (0..LARGE_BYTES).map(|index| (index.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    let large = |index: u64| format!("/bench/large-{}", index % (2 * CONNECTIONS));
    let small = |index: u64| format!("/bench/small-{index}");

    let (cpu, _) = load(server, 2 * CONNECTIONS, &|index| (Method::Put, large(index), body.as_slice()))?;
    let gib = (2 * CONNECTIONS * LARGE_BYTES) as f64 / GIB;
    cost("PUT of 64 MiB", cpu / gib, PEER_LARGE_PUT_CPU_SECONDS_PER_GIB);

    let (cpu, bytes) = load(server, 8 * CONNECTIONS, &|index| (Method::Get, large(index), &[]))?;
    cost("GET of 64 MiB", cpu / (bytes as f64 / GIB), PEER_LARGE_GET_CPU_SECONDS_PER_GIB);

    let tiny = body.get(..SMALL_BYTES as usize).unwrap_or_default();
    let (cpu, _) = load(server, 8000, &|index| (Method::Put, small(index), tiny))?;
    rate("PUT of 4 KiB", 8000.0 / cpu, PEER_SMALL_PUTS_PER_CPU_SECOND);

    let (cpu, _) = load(server, 24_000, &|index| (Method::Get, small(index % 8000), &[]))?;
    rate("GET of 4 KiB", 24_000.0 / cpu, PEER_SMALL_GETS_PER_CPU_SECOND);
    Ok(())
}

fn cost(what: &str, value: f64, peer: f64) {
    println!("{what}: {value:.2} CPU-s/GiB, {:.2} of the best peer's {peer:.2}", value / peer);
}

fn rate(what: &str, value: f64, peer: f64) {
    println!("{what}: {value:.0} per CPU-second, {:.1} times the best peer's {peer:.0}", value / peer);
}

type Request<'a> = dyn Fn(u64) -> (Method, String, &'a [u8]) + Sync + 'a;

/// Sends `count` requests over all connections; returns the processor seconds they took the server, and the bytes
/// of its replies.
fn load(server: &Server, count: u64, request: &Request<'_>) -> Result<(f64, u64), String> {
    let (next, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let (next, received) = (&next, &received);
    let client = move || -> std::io::Result<()> {
        let mut connection = server.connect()?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            let (method, path, body) = request(index);
            let head = server.head(method, &path, body.len() as u64, now());
            received.fetch_add(connection.call(&head, body)?, Ordering::Relaxed);
        }
    };
    let before = server.cpu_seconds().map_err(|error| error.to_string())?;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| match client.join() {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err("a client panicked".to_owned()),
        })
    })?;
    let after = server.cpu_seconds().map_err(|error| error.to_string())?;
    Ok((after - before, received.load(Ordering::Relaxed)))
}

#[allow(clippy::disallowed_methods)] // a benchmark has no reactor to ask for the time
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
