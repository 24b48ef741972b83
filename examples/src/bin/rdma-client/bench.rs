//! PUT and GET by RDMA, over shared memory and over HTTP, in turns, so that all meet the same noise.

use crate::{
    options::{Bench, Options},
    plot::{self, Row},
    session::{self, Carrier},
};
use crossdock_s3::{
    client::{Client, Fallback, Policy, Way},
    protocol::http::Method,
};
use crossdock_transport::{
    exposure::{Buffer, Session},
    loopback::{LoopbackLink, LoopbackPeer},
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

/// One way of moving bytes.
trait Lane {
    fn name(&self) -> &'static str;

    /// A buffer for objects of so many bytes.
    fn prepare(&mut self, bytes: usize) -> Result<(), String>;

    /// One object; the buffer's first byte is changed before if `fresh` says so.
    fn put(&mut self, bucket: &str, key: &str, fresh: bool) -> Result<(), String>;

    fn get(&mut self, bucket: &str, key: &str) -> Result<(), String>;

    fn delete(&mut self, path: &str) -> Result<(), String>;

    fn finish(self: Box<Self>);
}

struct Over<L: Carrier> {
    client: Client,
    session: Session<L>,
    buffer: Option<Buffer<L>>,
    way: Way,
    finish: fn(&mut Client, Session<L>),
}

/// Buffers that nobody else reaches, for HTTP.
impl Carrier for LoopbackLink {
    const NAME: &'static str = "http";
    const SPOKEN: &'static str = "HTTP";
}

impl<L: Carrier> Over<L> {
    fn take(&mut self) -> Result<Buffer<L>, String> {
        self.buffer.take().ok_or_else(|| "the buffer is in quarantine".to_owned())
    }

    fn back(&mut self, key: &str, buffer: Buffer<L>, way: Way) -> Result<(), String> {
        self.buffer = Some(buffer);
        if way == self.way { Ok(()) } else { Err(format!("{key} went another way: {way:?}")) }
    }
}

impl<L: Carrier> Lane for Over<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn prepare(&mut self, bytes: usize) -> Result<(), String> {
        self.buffer = None;
        self.buffer = Some(self.session.buffer(bytes).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn put(&mut self, bucket: &str, key: &str, fresh: bool) -> Result<(), String> {
        let mut buffer = self.take()?;
        if let (true, Some(byte)) = (fresh, buffer.first_mut()) {
            *byte = byte.wrapping_add(1);
        }
        let bytes = buffer.len();
        match self.client.put_from(bucket, key, &[], buffer, bytes) {
            Ok(stored) => self.back(key, stored.buffer, stored.way),
            Err(failed) => Err(failed.error.to_string()),
        }
    }

    fn get(&mut self, bucket: &str, key: &str) -> Result<(), String> {
        let buffer = self.take()?;
        let wanted = buffer.len();
        match self.client.get_into(bucket, key, None, buffer) {
            Ok(got) if got.bytes == wanted => self.back(key, got.buffer, got.way),
            Ok(got) => Err(format!("{key}: {} bytes came", got.bytes)),
            Err(failed) => Err(failed.error.to_string()),
        }
    }

    fn delete(&mut self, path: &str) -> Result<(), String> {
        self.client.exchange(Method::Delete, path, &[], &[]).map(drop).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) {
        let Over { mut client, session, buffer, finish, .. } = *self;
        drop(buffer);
        finish(&mut client, session);
    }
}

/// What the options name, and HTTP.
fn lanes(options: &Options, memory: usize) -> Result<Vec<Box<dyn Lane>>, String> {
    let mut lanes: Vec<Box<dyn Lane>> = Vec::new();
    if let Some(wanted) = options.rdma() {
        let mut client = session::plain(options, Policy::Require);
        let session = session::over_rdma(&mut client, options, &wanted, memory)?;
        let finish = session::end_rdma;
        lanes.push(Box::new(Over { client, session, buffer: None, way: Way::Transport, finish }));
    }
    if let Some(path) = &options.shm {
        let mut client = session::plain(options, Policy::Require);
        let session = session::over_shm(&mut client, path, memory)?;
        let finish = |_: &mut Client, session| drop(session);
        lanes.push(Box::new(Over { client, session, buffer: None, way: Way::Transport, finish }));
    }
    let client = session::plain(options, Policy::Off);
    let session = Session::new(LoopbackLink::new(LoopbackPeer::new(0)));
    let finish = |_: &mut Client, session| drop(session);
    lanes.push(Box::new(Over { client, session, buffer: None, way: Way::Http(Fallback::Off), finish }));
    Ok(lanes)
}

pub(crate) fn run(options: &Options, wanted: &Bench, memory: usize) -> Result<(), String> {
    let mut lanes = lanes(options, memory)?;
    let mut plain = session::plain(options, Policy::Off);
    let bucket = format!("/{}", wanted.target.bucket);
    let (head, _) = plain.exchange(Method::Put, &bucket, &[], &[]).map_err(|error| error.to_string())?;
    if !matches!(head.status, 200 | 409) {
        return Err(format!("{bucket}: status {}", head.status));
    }
    println!(
        "      size  what  way        MiB/s      ops/s     p50 us     p99 us   p99.9 us   server s/GiB   client s/GiB"
    );
    let mut rows = Vec::new();
    for kib in &wanted.sizes {
        let bytes = kib.checked_mul(1024).filter(|bytes| *bytes <= memory);
        let bytes = bytes.ok_or_else(|| format!("{kib} KiB do not fit in --memory"))?;
        lanes.iter_mut().try_for_each(|lane| lane.prepare(bytes))?;
        for what in ["PUT", "GET"] {
            let mut measured: Vec<_> = lanes.iter().map(|_| Measured::default()).collect();
            for _ in 0..TURNS {
                for (lane, measured) in lanes.iter_mut().zip(&mut measured) {
                    Turn { wanted, bytes, what }.take(&mut **lane, measured)?;
                }
            }
            for (lane, measured) in lanes.iter().zip(&mut measured) {
                rows.push(measured.print(*kib, what, lane.name(), bytes, wanted.server_pid.is_some()));
            }
        }
        for lane in &mut lanes {
            for index in 0..OBJECTS {
                let key = key(&wanted.target.key, bytes, lane.name(), index);
                lane.delete(&format!("{bucket}/{key}"))?;
            }
        }
    }
    for lane in lanes {
        lane.finish();
    }
    if let Some(path) = &wanted.plot {
        std::fs::write(path, plot::svg(&rows)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn key(prefix: &str, bytes: usize, name: &str, index: usize) -> String {
    format!("{prefix}bench-{bytes}-{name}-{index}")
}

/// One stretch of one way.
struct Turn<'a> {
    wanted: &'a Bench,
    bytes: usize,
    what: &'static str,
}

impl Turn<'_> {
    #[allow(clippy::disallowed_methods, reason = "a benchmark has the system's clock")]
    fn take(&self, lane: &mut dyn Lane, measured: &mut Measured) -> Result<(), String> {
        let limit = Duration::from_secs_f64((self.wanted.seconds / f64::from(TURNS)).max(0.01));
        let (server, own) = (self.server_time(), own_time());
        let begin = Instant::now();
        let bucket = &self.wanted.target.bucket;
        let mut index = 0;
        // Each object at least once, so that there is something to get.
        while begin.elapsed() < limit || (self.what == "PUT" && index < OBJECTS) {
            let key = key(&self.wanted.target.key, self.bytes, lane.name(), index % OBJECTS);
            let one = Instant::now();
            match self.what {
                "PUT" => lane.put(bucket, &key, index % OBJECTS == 0)?,
                _ => lane.get(bucket, &key)?,
            }
            measured.latencies.push(one.elapsed());
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
    fn print(
        &mut self,
        kib: usize,
        what: &'static str,
        name: &'static str,
        bytes: usize,
        with_server: bool,
    ) -> Row {
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
            "{kib:>6} KiB  {what:4}  {name:4}  {:>10.1} {:>10.0} {:>10} {:>10} {:>10} {server:>14} {:>14.3}",
            moved / f64::from(1 << 20) / seconds,
            count as f64 / seconds,
            at(0.5),
            at(0.99),
            at(0.999),
            per_gib(self.own),
        );
        Row {
            kib,
            what,
            way: name,
            mib_per_second: moved / f64::from(1 << 20) / seconds,
            p50_us: at(0.5) as f64,
            server: with_server.then(|| per_gib(self.server)),
        }
    }
}
