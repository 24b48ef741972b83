//! PUT and GET by RDMA, over shared memory and over HTTP, in turns, so that all meet the same noise.

use crate::{
    crew::Crew,
    options::{Bench, Options},
    plot::{self, Row},
    session::{self, Means, Worker},
};
use crossdock_s3::{
    client::{Policy, Way},
    protocol::http::Method,
};
use std::time::{Duration, Instant};

/// Objects of one size that are written and read in turn, by each worker.
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

/// What the options name, and HTTP.
fn lanes(options: &Options, depth: usize, memory: usize) -> Result<Vec<Crew>, String> {
    let rdma = options.rdma().map(Means::Rdma);
    let shm = options.shm.clone().map(Means::Shm);
    let lane = |means: Means| {
        let crew = Crew::hire(options, &means, Policy::Require, depth, memory / depth)?;
        match crew.len() == depth {
            true => Ok(crew),
            false => Err(format!("{} has no room for {depth} at a time", means.spoken())),
        }
    };
    rdma.into_iter().chain(shm).chain([Means::Http]).map(lane).collect()
}

pub(crate) fn run(options: &Options, wanted: &Bench, memory: usize) -> Result<(), String> {
    let depth = wanted.depth.max(1);
    let lanes = lanes(options, depth, memory)?;
    let mut plain = session::plain(options, Policy::Off)?;
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
        let bytes = kib.checked_mul(1024).filter(|bytes| *bytes <= memory / depth);
        let bytes = bytes.ok_or_else(|| format!("{depth} times {kib} KiB do not fit in --memory"))?;
        for lane in &lanes {
            all(lane.each(depth, move |_, worker| worker.prepare(bytes)))?;
        }
        for what in ["PUT", "GET"] {
            let mut measured: Vec<_> = lanes.iter().map(|_| Measured::default()).collect();
            for _ in 0..TURNS {
                for (lane, measured) in lanes.iter().zip(&mut measured) {
                    Turn { wanted, bytes, what }.take(lane, measured)?;
                }
            }
            for (lane, measured) in lanes.iter().zip(&mut measured) {
                rows.push(measured.print(
                    *kib,
                    what,
                    lane.means().name(),
                    bytes,
                    wanted.server_pid.is_some(),
                ));
            }
        }
        for lane in &lanes {
            let (bucket, objects) = (bucket.clone(), Objects::of(lane, wanted, bytes));
            all(lane.each(depth, move |number, worker| {
                (0..OBJECTS).try_for_each(|index| {
                    let path = format!("{bucket}/{}", objects.key(number, index));
                    let deleted = worker.client().exchange(Method::Delete, &path, &[], &[]);
                    deleted.map(drop).map_err(|error| error.to_string())
                })
            }))?;
        }
    }
    drop(lanes);
    if let Some(path) = &wanted.plot {
        std::fs::write(path, plot::svg(&rows)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// What all of them said.
fn all<T>(said: Vec<Result<T, String>>) -> Result<Vec<T>, String> {
    said.into_iter().collect()
}

/// Names of the objects of one size that go one way.
#[derive(Clone)]
struct Objects {
    front: String,
}

impl Objects {
    fn of(lane: &Crew, wanted: &Bench, bytes: usize) -> Objects {
        Objects { front: format!("{}bench-{bytes}-{}", wanted.target.key, lane.means().name()) }
    }

    fn key(&self, worker: usize, index: usize) -> String {
        format!("{}-{worker}-{index}", self.front)
    }
}

/// One stretch of one way.
struct Turn<'a> {
    wanted: &'a Bench,
    bytes: usize,
    what: &'static str,
}

impl Turn<'_> {
    #[allow(clippy::disallowed_methods, reason = "a benchmark has the system's clock")]
    fn take(&self, lane: &Crew, measured: &mut Measured) -> Result<(), String> {
        let limit = Duration::from_secs_f64((self.wanted.seconds / f64::from(TURNS)).max(0.01));
        let (server, own) = (self.server_time(), own_time());
        let (bucket, objects) =
            (self.wanted.target.bucket.clone(), Objects::of(lane, self.wanted, self.bytes));
        let (what, bytes, over_http) = (self.what, self.bytes, matches!(lane.means(), Means::Http));
        let begin = Instant::now();
        let latencies = lane.each(lane.len(), move |number, worker| {
            let (mut index, mut latencies) = (0, Vec::new());
            // Each object at least once, so that there is something to get.
            while begin.elapsed() < limit || (what == "PUT" && index < OBJECTS) {
                let key = objects.key(number, index % OBJECTS);
                let one = Instant::now();
                let way = match what {
                    "PUT" => put(worker, (&bucket, &key), bytes, index % OBJECTS == 0)?,
                    _ => get(worker, (&bucket, &key), bytes)?,
                };
                latencies.push(one.elapsed());
                if (way == Way::Transport) == over_http {
                    return Err(format!("{key} went another way: {way:?}"));
                }
                index += 1;
            }
            Ok(latencies)
        });
        measured.latencies.extend(all(latencies)?.into_iter().flatten());
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

/// One object; the buffer's first byte is changed before if `fresh` says so.
fn put(worker: &mut dyn Worker, object: (&str, &str), bytes: usize, fresh: bool) -> Result<Way, String> {
    if let (true, Some(byte)) = (fresh, worker.bytes()?.first_mut()) {
        *byte = byte.wrapping_add(1);
    }
    worker.put(object, bytes).map(|done| done.way)
}

fn get(worker: &mut dyn Worker, object: (&str, &str), bytes: usize) -> Result<Way, String> {
    let done = worker.get(object, None)?;
    match done.bytes == bytes {
        true => Ok(done.way),
        false => Err(format!("{}: {} bytes came", object.1, done.bytes)),
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
            p99_us: at(0.99) as f64,
            own: per_gib(self.own),
            server: with_server.then(|| per_gib(self.server)),
        }
    }
}
