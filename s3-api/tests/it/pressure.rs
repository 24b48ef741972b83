//! Clients who stall, by the hundred: each kind holds its budget of a core's memory and no more, whoever comes beyond it is told so at
//! once, and the others do not notice.
//!
//! Sockets of both ends are in this process: where it may not have descriptors enough, there are fewer clients, and it says so.

#![allow(clippy::disallowed_methods, reason = "clients have threads and clocks of their own")]

use crate::bench::{ALICE, Bench, Client};
use crossdock_s3::{
    protocol::http::Method::{self, Delete, Get, Post, Put},
    server::ServerLimits,
};
use futures_lite::future::block_on;
use rustix::{
    net::{AddressFamily, SocketAddrAny, SocketType, connect, socket, sockopt},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a client is given to be told something.
const SOON: Duration = Duration::from_secs(5);
/// How long it takes for what is over to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many clients at a time, or as many as there are descriptors for.
fn clients(wanted: usize) -> usize {
    const OTHERS: usize = 256;
    let limit = getrlimit(Resource::Nofile);
    let needed = (2 * wanted + OTHERS) as u64;
    let most = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    if limit.current.is_some_and(|current| current < most) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }).unwrap();
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(needed);
    let possible = (current.min(needed) as usize - OTHERS) / 2;
    if possible < wanted {
        println!("descriptors for {possible} clients instead of {wanted}");
    }
    possible
}

/// One of many: a socket that takes little of what is sent to it, and is never waited for.
fn stalled(bench: &Bench, request: &[u8]) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    connect(&socket, &SocketAddrAny::from(bench.address())).unwrap();
    let mut stream = TcpStream::from(socket);
    // It may be refused before all of it is sent.
    let _ = stream.write_all(request);
    stream.set_nonblocking(true).unwrap();
    stream
}

/// What became of a crowd of clients, once it is known.
struct Crowd {
    /// Those who hold something: they were told nothing, or that it is on its way.
    held: Vec<TcpStream>,
    refused: usize,
}

impl Crowd {
    /// Waits until those who hold something are as few as they should be, and nobody more is told anything.
    fn settle(streams: Vec<TcpStream>) -> Crowd {
        let began = Instant::now();
        let mut crowd = Crowd { held: streams, refused: 0 };
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(700) && began.elapsed() < SOON {
            let before = crowd.held.len();
            let mut refused = 0;
            crowd.held.retain_mut(|stream| {
                let refusal = refusal(stream);
                refused += usize::from(refusal);
                !refusal
            });
            crowd.refused += refused;
            if crowd.held.len() < before {
                last = Instant::now();
            }
            thread::sleep(Duration::from_millis(20));
        }
        crowd
    }
}

/// Whether a client was told to slow down; nothing else is an answer to those who stall, but the beginning of what they asked for.
fn refusal(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 2048];
    let count = match stream.peek(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
        told => told.unwrap(),
    };
    let text = String::from_utf8_lossy(&bytes[..count]);
    if text.starts_with("HTTP/1.1 200 ") {
        return false;
    }
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("<Code>SlowDown</Code>"), "{text}");
    true
}

/// A whole request, of which the body is cut after `sent` bytes.
fn cut(request: &[u8], body_bytes: usize, sent: usize) -> &[u8] {
    &request[..request.len() - body_bytes + sent]
}

/// What a core may have given out while everybody stalls: an eighth is left for those who come now.
fn assert_room(bench: &Bench, what: &str) {
    for pool in bench.pools() {
        println!("{what}: {pool:?}");
        assert_eq!(pool.waiters, 0, "{what}: somebody waits for memory");
        assert!(pool.leased_bytes <= pool.total_bytes / 8 * 7, "{what}: {pool:?}");
    }
}

/// Until all that the clients held is there again.
fn wait_for_leases(bench: &Bench, at_rest: &[usize]) {
    let began = Instant::now();
    while bench.leases().iter().zip(at_rest).any(|(now, before)| now > before) {
        assert!(began.elapsed() < PATIENCE, "{:?} leases are out, {at_rest:?} were before", bench.leases());
        thread::sleep(Duration::from_millis(20));
    }
}

/// The 99th percentile of small writes and reads of each, asked in turns.
fn slowest_of(clients: &mut [Client; 2]) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..200u32 {
        for (client, times) in clients.iter_mut().zip(&mut times) {
            let body = round.to_le_bytes().repeat(1024);
            let began = Instant::now();
            assert_eq!(client.call(Put, "/crowd/mine", &[], &body).status, 200);
            assert_eq!(client.call(Get, "/crowd/small", &[], b"").body.len(), 4096);
            times.push(began.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort();
        times[times.len() * 99 / 100]
    })
}

#[test]
fn a_thousand_uploads_that_stall_and_readers_of_a_byte_a_second() {
    // Beside a server that nobody burdens: small requests take at most twice as long. And when the clients are gone, so is what
    // they held.
    let benches = [Bench::impatient(ServerLimits::default()), Bench::impatient(ServerLimits::default())];
    let mut others = benches.each_ref().map(|bench| bench.client(ALICE));
    for client in &mut others {
        assert_eq!(client.call(Put, "/crowd", &[], b"").status, 200);
        assert_eq!(client.call(Put, "/crowd/small", &[], &[1; 4096]).status, 200);
        assert_eq!(client.call(Put, "/crowd/large", &[], &vec![2; 24 << 20]).status, 200);
    }
    let [burdened, _] = &benches;
    let at_rest = burdened.leases();
    let [client, _] = &others;

    let began = Instant::now();
    let body = vec![3; 8 << 20];
    let put = client.request(Put, "/crowd/stalled", &[], &body);
    let uploads = clients(1100) - 100;
    let put = cut(&put, body.len(), 1000);
    let uploads = Crowd::settle((0..uploads).map(|_| stalled(burdened, put)).collect());
    let get = client.request(Get, "/crowd/large", &[], b"");
    let mut downloads = Crowd::settle((0..100).map(|_| stalled(burdened, &get)).collect());
    println!(
        "{} uploads hold memory, {} were refused; {} downloads, {}; all told within {:?}",
        uploads.held.len(),
        uploads.refused,
        downloads.held.len(),
        downloads.refused,
        began.elapsed()
    );
    // Of each core's 28 MiB behind the log three eighths are for large uploads, three sixteenths for large downloads, 4 MiB each.
    assert!((1..=4).contains(&uploads.held.len()), "{} uploads", uploads.held.len());
    assert!((1..=2).contains(&downloads.held.len()), "{} downloads", downloads.held.len());
    assert_room(burdened, "uploads and downloads");

    let stop = AtomicBool::new(false);
    let mut best = f64::MAX;
    thread::scope(|scope| {
        let (stop, readers) = (&stop, &mut downloads.held);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for reader in readers.iter_mut() {
                    let _ = reader.read(&mut [0]);
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        // A noisy machine makes one round wrong, a server that is held up all of them.
        for _ in 0..5 {
            let [with, without] = slowest_of(&mut others);
            best = best.min(with.as_secs_f64() / without.as_secs_f64());
            println!("p99 of small writes and reads: {with:?} with stalled clients, {without:?} without");
            if best <= 2.0 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(best <= 2.0, "others are slowed down {best:.1} times");

    drop((uploads, downloads));
    wait_for_leases(burdened, &at_rest);
    let [client, _] = &mut others;
    assert_eq!(client.call(Put, "/crowd/stalled", &[], &body).status, 200);
    assert_eq!(client.call(Get, "/crowd/large", &[], b"").body.len(), 24 << 20);
}

/// A crowd that does one thing: how many of them hold something, while somebody else is served as ever.
fn burden(bench: &Bench, what: &str, count: usize, request: &[u8]) -> usize {
    let mut other = bench.client(ALICE);
    assert_eq!(other.call(Get, "/crowd/small", &[], b"").status, 200);
    let at_rest = bench.leases();
    let crowd = Crowd::settle((0..clients(count)).map(|_| stalled(bench, request)).collect());
    println!("{what}: {} hold something, {} were refused", crowd.held.len(), crowd.refused);
    assert_room(bench, what);
    assert_eq!(other.call(Get, "/crowd/small", &[], b"").body, [1; 1000], "{what}");
    assert_eq!(other.call(Put, "/crowd/large", &[], &vec![1; 2 << 20]).status, 200, "{what}");
    assert_eq!(other.call(Get, "/crowd/large", &[], b"").body.len(), 2 << 20, "{what}");
    assert_eq!(other.call(Delete, "/crowd/large", &[], b"").status, 204, "{what}");
    assert_eq!(other.call(Get, "/crowd?list-type=2&max-keys=1", &[], b"").status, 200, "{what}");
    let held = crowd.held.len();
    drop(crowd);
    wait_for_leases(bench, &at_rest);
    held
}

fn bench(limits: ServerLimits) -> (Bench, Client) {
    let bench = Bench::impatient(limits);
    let mut client = bench.client(ALICE);
    assert_eq!(client.call(Put, "/crowd", &[], b"").status, 200);
    assert_eq!(client.call(Put, "/crowd/small", &[], &[1; 1000]).status, 200);
    (bench, client)
}

#[test]
fn small_uploads_that_stall() {
    // They count by the memory they have, which is sixteen times their bytes.
    let (bench, client) = bench(ServerLimits::default());
    let request = client.request(Put, "/crowd/stalled", &[], &[3; 5000]);
    let held = burden(&bench, "small uploads", 600, cut(&request, 5000, 100));
    // An eighth of each core's 28 MiB behind the log, 64 KiB each.
    assert!((1..=112).contains(&held), "{held} small uploads");
}

#[test]
fn forms_that_stall() {
    // Nobody knows who sends a form before its fields are there: each has a page, and nobody is kept out.
    let (bench, client) = bench(ServerLimits::default());
    let field = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\n";
    let body = format!("{field}{}", "x".repeat(100_000));
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let request = client.unsigned(Post, "/crowd", &headers, body.as_bytes());
    let held = burden(&bench, "forms", 600, cut(&request, body.len(), 1000));
    assert_eq!(held, clients(600));
}

#[test]
fn documents_that_do_not_end() {
    // What is there of a request's document takes room; who sends more than there is room for is told so.
    let mut limits = ServerLimits::default();
    limits.documents_bytes = 4 << 20;
    let (bench, client) = bench(limits);
    let body = vec![b' '; 1 << 20];
    let request = client.request(Post, "/crowd/k?uploadId=1", &[], &body);
    let held = burden(&bench, "documents", 100, cut(&request, body.len(), 900_000));
    // 1 MiB each, on two cores.
    assert!((1..=8).contains(&held), "{held} documents");
}

#[test]
fn lists_that_nobody_takes() {
    // A list is kept until it is sent, and so are those of others, as far as there is room. It is longer than what a socket takes, 4 MiB at most:
    // a list that is with the kernel the server holds no more.
    let mut limits = ServerLimits::default();
    limits.documents_bytes = 16 << 20;
    let (bench, mut client) = bench(limits);
    thread::scope(|scope| {
        for writer in 0..8 {
            let engine = bench.engine().clone();
            scope.spawn(move || {
                for number in 0..125 {
                    let key = format!("{writer}/{number:03}/{}", "&".repeat(900));
                    block_on(engine.put_bytes("crowd", key.as_bytes(), bytes::Bytes::new())).unwrap();
                }
            });
        }
    });
    let list = |method: Method| client.request(method, "/crowd?list-type=2", &[], b"");
    let request = list(Get);
    let whole = client.send(&request).body;
    assert!(whole.len() > 4_500_000, "{} B", whole.len());
    let held = burden(&bench, "lists", 100, &request);
    assert!((1..=6).contains(&held), "{held} lists of {} B", whole.len());
    // Who takes it gets all of it.
    assert!(client.send(&request).body == whole);
}
