//! The same load for every server: signed requests over kept-alive connections, and every answer checked.
//!
//! An object's bytes are a stretch of one pool of random bytes, at a place that its key decides: what comes back is compared
//! byte by byte, and a server that sends another object's bytes, or its own idea of them, ends the run.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossdock_s3::protocol::http::Method;

use crate::server::Server;

const BUCKET: &str = "bench";
/// Bodies are compared in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Random bytes that bodies are cut from.
pub struct Pool(Vec<u8>);

impl Pool {
    /// A pool for bodies of up to `bytes`.
    pub fn new(bytes: usize) -> Pool {
        // As much again as objects may start within, and no period that they could share.
        let mut pool = vec![0; bytes + 65_536];
        fastrand::Rng::with_seed(7).fill(&mut pool);
        Pool(pool)
    }

    fn body(&self, number: u64, bytes: usize) -> &[u8] {
        // A place within the first 64 KiB, different for keys that follow each other.
        let at = (number.wrapping_mul(40_503) % 65_536) as usize;
        self.0.get(at..at + bytes).expect("the pool was made for bodies of this size")
    }
}

/// What is asked, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// An object is stored, each time under another key.
    Put,
    /// An object is read and compared.
    Get,
    /// An object is removed.
    Delete,
    /// A page of so many keys is listed.
    List(u32),
}

/// A load.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    /// Whom it falls on.
    pub server: &'a Server,
    /// What bodies are cut from.
    pub pool: &'a Pool,
    /// What is asked.
    pub operation: Operation,
    /// Bytes of each object.
    pub object_bytes: usize,
    /// Kept-alive connections, each with one request at a time.
    pub connections: usize,
    /// The first object, by number; the others follow.
    pub first: u64,
    /// How many requests all together.
    pub requests: u64,
    /// How many objects there are; requests beyond go round again.
    pub objects: u64,
    /// Requests a second on all connections together, at the times of a Poisson process, each to be sent at its time whatever
    /// became of those before; none: as fast as answers come.
    pub rate: Option<f64>,
    /// When it ends at the latest, whatever is still to be asked: what was begun is finished.
    pub time_max: Option<Duration>,
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Processor time the server used.
    pub server_seconds: f64,
    /// Requests answered.
    pub requests: u64,
    /// Bytes of bodies, in either direction.
    pub bytes: u64,
    /// Of each request, sorted: from when it was to be sent until its answer was whole.
    pub latencies: Vec<Duration>,
}

impl Outcome {
    /// The latency that so many of a hundred requests did not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        let place = (self.latencies.len() as f64 * percent / 100.0).ceil() as usize;
        self.latencies.get(place.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Processor seconds of the server for a GiB of bodies.
    pub fn seconds_per_gib(&self) -> f64 {
        self.server_seconds / (self.bytes as f64 / (1_u64 << 30) as f64)
    }

    /// Requests for a processor second of the server.
    pub fn requests_per_cpu_second(&self) -> f64 {
        self.requests as f64 / self.server_seconds.max(0.01)
    }
}

/// Makes the bucket the loads work in.
///
/// # Errors
/// A sentence.
pub fn create_bucket(server: &Server) -> Result<(), String> {
    let head = server.head(Method::Put, &format!("/{BUCKET}"), "", 0, now());
    let made = Connection::open(server).and_then(|mut connection| connection.call(&head, &[], None));
    made.map(drop).map_err(|error| format!("{}: PUT of the bucket: {error}", server.name()))
}

impl Load<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// A sentence: the first answer that is not what it must be.
    #[allow(clippy::disallowed_methods, reason = "a benchmark has no reactor to ask for the time")]
    pub fn run(&self) -> Result<Outcome, String> {
        let said = |error: io::Error| format!("{}: {:?}: {error}", self.server.name(), self.operation);
        let next = AtomicU64::new(0);
        let connections: io::Result<Vec<Connection>> =
            (0..self.connections).map(|_| Connection::open(self.server)).collect();
        let connections = connections.map_err(said)?;
        let before = self.server.cpu_seconds().map_err(said)?;
        let dues = self.rate.map(|rate| dues(rate, self.requests)).unwrap_or_default();
        let begin = Instant::now();
        let results: Vec<io::Result<(u64, Vec<Duration>)>> = std::thread::scope(|scope| {
            let (next, dues) = (&next, dues.as_slice());
            let clients: Vec<_> = connections
                .into_iter()
                .map(|connection| scope.spawn(move || self.client(connection, next, begin, dues)))
                .collect();
            let panicked = || Err(io::Error::other("a client panicked"));
            clients.into_iter().map(|client| client.join().unwrap_or_else(|_| panicked())).collect()
        });
        let mut outcome = Outcome {
            elapsed: begin.elapsed(),
            server_seconds: self.server.cpu_seconds().map_err(said)? - before,
            ..Outcome::default()
        };
        for result in results {
            let (bytes, latencies) = result.map_err(said)?;
            outcome.bytes += bytes;
            outcome.latencies.extend(latencies);
        }
        outcome.requests = outcome.latencies.len() as u64;
        outcome.latencies.sort_unstable();
        Ok(outcome)
    }

    #[allow(clippy::disallowed_methods, reason = "a benchmark has no reactor to ask for the time")]
    fn client(
        &self,
        mut connection: Connection,
        next: &AtomicU64,
        begin: Instant,
        dues: &[Duration],
    ) -> io::Result<(u64, Vec<Duration>)> {
        let (mut bytes, mut latencies) = (0, Vec::new());
        loop {
            // Looked at before a number is taken: each number that is taken is asked for.
            if self.time_max.is_some_and(|most| begin.elapsed() >= most) {
                return Ok((bytes, latencies));
            }
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= self.requests {
                return Ok((bytes, latencies));
            }
            let due = match dues.get(index as usize) {
                None => Instant::now(),
                Some(due) => {
                    // A request that is late because others were slow has waited since it was due.
                    let due = begin + *due;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    due
                }
            };
            bytes += self.request(&mut connection, self.first + index % self.objects)?;
            latencies.push(due.elapsed());
        }
    }

    fn request(&self, connection: &mut Connection, number: u64) -> io::Result<u64> {
        let path = format!("/{BUCKET}/{}/{number:09}", self.object_bytes);
        let body = self.pool.body(number, self.object_bytes);
        let head = |method, query: &str, bytes| self.server.head(method, &path, query, bytes, now());
        match self.operation {
            Operation::Put => {
                connection.call(&head(Method::Put, "", body.len() as u64), body, None)?;
                Ok(body.len() as u64)
            }
            Operation::Get => connection.call(&head(Method::Get, "", 0), &[], Some(body)),
            Operation::Delete => connection.call(&head(Method::Delete, "", 0), &[], None),
            Operation::List(keys) => {
                let query = format!("list-type=2&max-keys={keys}&prefix={}%2F", self.object_bytes);
                let path = format!("/{BUCKET}");
                let head = self.server.head(Method::Get, &path, &query, 0, now());
                let mut document = Vec::new();
                connection.exchange(&head, &[], |piece| {
                    document.extend_from_slice(piece);
                    true
                })?;
                let text = String::from_utf8_lossy(&document);
                let found = text.matches("<Key>").count();
                if found != keys as usize {
                    return Err(io::Error::other(format!("{found} keys were listed instead of {keys}")));
                }
                Ok(document.len() as u64)
            }
        }
    }
}

/// When each of so many requests is due: gaps are exponential, with the mean of `rate` a second, and the same in every run.
fn dues(rate: f64, requests: u64) -> Vec<Duration> {
    let mut random = fastrand::Rng::with_seed(11);
    let mut due = 0.0;
    (0..requests)
        .map(|_| {
            due -= (1.0 - random.f64()).ln() / rate;
            Duration::from_secs_f64(due)
        })
        .collect()
}

/// One kept-alive connection.
struct Connection {
    stream: BufReader<TcpStream>,
    piece: Vec<u8>,
}

impl Connection {
    fn open(server: &Server) -> io::Result<Connection> {
        let stream = TcpStream::connect(server.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Connection { stream: BufReader::with_capacity(64 << 10, stream), piece: vec![0; PIECE_BYTES] })
    }

    /// Sends a request and takes its answer in; gives how many bytes its body had. It must be `expected`, if that is given.
    fn call(&mut self, head: &[u8], body: &[u8], expected: Option<&[u8]>) -> io::Result<u64> {
        let mut at = 0;
        let length = self.exchange(head, body, |piece| {
            let right = expected.is_none_or(|expected| expected.get(at..at + piece.len()) == Some(piece));
            at += piece.len();
            right
        })?;
        match expected {
            Some(expected) if expected.len() as u64 != length => {
                Err(io::Error::other(format!("{length} bytes came instead of {}", expected.len())))
            }
            _ => Ok(length),
        }
    }

    /// Sends a request and hands the pieces of its answer's body to `take`, which says whether they are right.
    fn exchange(&mut self, head: &[u8], body: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> io::Result<u64> {
        let stream = self.stream.get_mut();
        if body.is_empty() || body.len() > 64 << 10 {
            stream.write_all(head)?;
            stream.write_all(body)?;
        } else {
            stream.write_all(&[head, body].concat())?;
        }
        let status_line = self.line()?;
        let (mut length, mut chunked) = (None, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<u64>().map_err(io::Error::other)?);
            }
            chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.contains("chunked");
        }
        let mut total = 0;
        if chunked {
            loop {
                let size = self.line()?;
                let bytes = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
                let bytes = bytes.map_err(io::Error::other)?;
                self.take(bytes, &mut take)?;
                total += bytes;
                self.line()?;
                if bytes == 0 {
                    break;
                }
            }
        } else {
            total = length.unwrap_or(0);
            self.take(total, &mut take)?;
        }
        if !status_line.starts_with("HTTP/1.1 2") {
            return Err(io::Error::other(format!("the server answered {status_line}")));
        }
        Ok(total)
    }

    fn take(&mut self, bytes: u64, take: &mut impl FnMut(&[u8]) -> bool) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let most = self.piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (piece, _) = self.piece.split_at_mut(most);
            let count = self.stream.read(piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !take(piece.get(..count).unwrap_or_default()) {
                return Err(io::Error::other("the answer's bytes are not those of the object"));
            }
            left -= count as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark has no reactor to ask for the time")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_requests() {
        // Of a hundred requests the ninety-ninth counts, and of one the one.
        let outcome = |count: u64| Outcome {
            latencies: (1..=count).map(Duration::from_millis).collect(),
            ..Outcome::default()
        };
        assert_eq!(outcome(100).percentile(99.0), Duration::from_millis(99));
        assert_eq!(outcome(100).percentile(50.0), Duration::from_millis(50));
        assert_eq!(outcome(1).percentile(99.9), Duration::from_millis(1));
        assert_eq!(outcome(0).percentile(50.0), Duration::ZERO);
    }

    #[test]
    fn times_are_those_of_a_poisson_process() {
        // In order, with the rate's mean, and gaps that differ as those of such a process: their deviation is their mean.
        let dues = dues(200.0, 20_000);
        assert!(dues.is_sorted());
        let gaps: Vec<f64> = dues.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 200.0 - 1.0).abs() < 0.05, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn keys_have_bodies_of_their_own() {
        // Neighbours differ, and the same key has the same bytes again.
        let pool = Pool::new(100);
        assert_eq!(pool.body(5, 100), pool.body(5, 100));
        assert_ne!(pool.body(5, 100), pool.body(6, 100));
    }
}
