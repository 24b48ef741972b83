//! PUT and GET over shared memory and over HTTP, in turns, so that both meet the same noise.

use crate::{
    connect,
    options::{Bench, Options},
    plain,
};
use crossdock_s3::{
    client::{Client, Policy, Way},
    protocol::http::Method,
};
use crossdock_transport::{
    exposure::{Buffer, Session},
    shm::ShmLink,
};
use std::time::{Duration, Instant};

/// Objects of one size that are written and read in turn.
const OBJECTS: usize = 16;
/// Turns that the time of one size and way is divided into.
const TURNS: u32 = 4;

/// What was measured of one size, operation and way.
#[derive(Default)]
struct Measured {
    latencies: Vec<Duration>,
    elapsed: Duration,
    server: Duration,
    own: Duration,
}

pub(crate) fn run(options: &Options, wanted: &Bench, memory: usize) -> Result<(), String> {
    let (shm, session) = connect(options, memory)?;
    let mut ways = [
        ("shm", shm.policy(Policy::Require), Way::Transport),
        ("http", plain(options, Policy::Off), Way::Http(crossdock_s3::client::Fallback::Off)),
    ];
    let bucket = format!("/{}", wanted.target.bucket);
    let [(_, first, _), _] = &mut ways;
    let (head, _) = first.exchange(Method::Put, &bucket, &[], &[]).map_err(|error| error.to_string())?;
    if !matches!(head.status, 200 | 409) {
        return Err(format!("{bucket}: status {}", head.status));
    }
    println!(
        "      size  what  way        MiB/s      ops/s     p50 us     p99 us   server s/GiB   client s/GiB"
    );
    for kib in &wanted.sizes {
        let bytes = kib.checked_mul(1024).filter(|bytes| *bytes <= memory);
        let bytes = bytes.ok_or_else(|| format!("{kib} KiB do not fit in --memory"))?;
        let mut buffer = Some(session.buffer(bytes).map_err(|error| error.to_string())?);
        for what in ["PUT", "GET"] {
            let mut measured = [Measured::default(), Measured::default()];
            for _ in 0..TURNS {
                for ((name, client, way), measured) in ways.iter_mut().zip(&mut measured) {
                    let turn = Turn { wanted, bytes, what, name, way: *way };
                    turn.take(client, &mut buffer, measured)?;
                }
            }
            for ((name, ..), measured) in ways.iter().zip(&mut measured) {
                measured.print(*kib, what, name, bytes, wanted.server_pid.is_some());
            }
        }
        for name in ["shm", "http"] {
            for index in 0..OBJECTS {
                let path = format!("{bucket}/{}", key(&wanted.target.key, bytes, name, index));
                let [(_, client, _), _] = &mut ways;
                client.exchange(Method::Delete, &path, &[], &[]).map_err(|error| error.to_string())?;
            }
        }
    }
    drop_session(session);
    Ok(())
}

/// The session ends with its last clone.
fn drop_session(session: Session<ShmLink>) {
    drop(session);
}

fn key(prefix: &str, bytes: usize, name: &str, index: usize) -> String {
    format!("{prefix}bench-{bytes}-{name}-{index}")
}

/// One stretch of one way.
struct Turn<'a> {
    wanted: &'a Bench,
    bytes: usize,
    what: &'static str,
    name: &'static str,
    way: Way,
}

impl Turn<'_> {
    #[allow(clippy::disallowed_methods, reason = "a benchmark has the system's clock")]
    fn take(
        &self,
        client: &mut Client,
        buffer: &mut Option<Buffer<ShmLink>>,
        measured: &mut Measured,
    ) -> Result<(), String> {
        let limit = Duration::from_secs_f64((self.wanted.seconds / f64::from(TURNS)).max(0.01));
        let (server, own) = (self.server_time(), own_time());
        let begin = Instant::now();
        let mut index = 0;
        // Each object at least once, so that there is something to get.
        while begin.elapsed() < limit || (self.what == "PUT" && index < OBJECTS) {
            let Some(mut mine) = buffer.take() else { return Err("the buffer is in quarantine".into()) };
            let key = key(&self.wanted.target.key, self.bytes, self.name, index % OBJECTS);
            let bucket = &self.wanted.target.bucket;
            if let (0, Some(byte)) = (index % OBJECTS, mine.first_mut()) {
                *byte = byte.wrapping_add(1);
            }
            let one = Instant::now();
            let (back, way) = match self.what {
                "PUT" => match client.put_from(bucket, &key, &[], mine, self.bytes) {
                    Ok(stored) => (stored.buffer, stored.way),
                    Err(failed) => return Err(failed.error.to_string()),
                },
                _ => match client.get_into(bucket, &key, None, mine) {
                    Ok(got) if got.bytes == self.bytes => (got.buffer, got.way),
                    Ok(got) => return Err(format!("{key}: {} bytes came", got.bytes)),
                    Err(failed) => return Err(failed.error.to_string()),
                },
            };
            measured.latencies.push(one.elapsed());
            if way != self.way {
                return Err(format!("{key} went another way: {way:?}"));
            }
            *buffer = Some(back);
            index += 1;
        }
        measured.elapsed += begin.elapsed();
        measured.server += self.server_time().saturating_sub(server);
        measured.own += own_time().saturating_sub(own);
        Ok(())
    }

    fn server_time(&self) -> Duration {
        self.wanted
            .server_pid
            .and_then(|pid| processor_time(&format!("/proc/{pid}/stat")))
            .unwrap_or_default()
    }
}

fn own_time() -> Duration {
    processor_time("/proc/self/stat").unwrap_or_default()
}

/// User and system time of a process, from its `stat` file: the 14th and 15th field, in ticks of 10 ms
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>).
fn processor_time(path: &str) -> Option<Duration> {
    let text = std::fs::read_to_string(path).ok()?;
    // The name may hold anything but ends with the last parenthesis.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Duration::from_millis((user + system) * 10))
}

impl Measured {
    fn print(&mut self, kib: usize, what: &str, name: &str, bytes: usize, with_server: bool) {
        self.latencies.sort_unstable();
        let count = self.latencies.len();
        let at = |share: f64| {
            let place = ((count as f64 * share) as usize).min(count.saturating_sub(1));
            self.latencies.get(place).copied().unwrap_or_default().as_micros()
        };
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        let moved = count as f64 * bytes as f64;
        let per_gib = |time: Duration| time.as_secs_f64() / (moved / f64::from(1 << 30)).max(1e-9);
        let server = if with_server { format!("{:.3}", per_gib(self.server)) } else { "-".into() };
        println!(
            "{kib:>6} KiB  {what:4}  {name:4}  {:>10.1} {:>10.0} {:>10} {:>10} {server:>14} {:>14.3}",
            moved / f64::from(1 << 20) / seconds,
            count as f64 / seconds,
            at(0.5),
            at(0.99),
            per_gib(self.own),
        );
    }
}
