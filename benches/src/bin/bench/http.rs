//! What S3 over HTTP costs the server: processor seconds for a GiB, and requests for a processor second, beside peers.

use crate::Plan;
use crossdock_benches::{
    load::{self, Load, Operation, Outcome, Pool},
    peers::Peer,
    ratio::median,
    report::{Report, Row, Target, number},
    server::Server,
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

const LARGE_BYTES: usize = 64 << 20;
const SMALL_BYTES: usize = 4 << 10;
/// Large objects that are stored, and read again and again.
const LARGE_OBJECTS: u64 = 16;
/// Of all rounds.
const BUDGET: Duration = Duration::from_secs(11 * 60);

/// One of the figures that are taken of each server in each round.
struct Figure {
    name: &'static str,
    operation: Operation,
    object_bytes: usize,
    connections: usize,
    measure: fn(&Outcome) -> f64,
    unit: &'static str,
    /// What ours over the best peer's must reach.
    target: Target,
    /// The best peer, and what it reached in November 2026 under this load on two shared cores of the kind these were run on: shown where
    /// no peers are measured, and no target then.
    known: Option<(&'static str, f64)>,
}

const PER_GIB: &str = "CPU-s/GiB";
const PER_SECOND: &str = "requests for a CPU-second";

/// In the order they are taken: what is read was stored before.
const FIGURES: [Figure; 8] = [
    Figure {
        name: "PUT of 64 MiB, with MD5",
        operation: Operation::Put,
        object_bytes: LARGE_BYTES,
        connections: 8,
        measure: Outcome::seconds_per_gib,
        unit: PER_GIB,
        target: Target::AtMost(1.0 / 3.0),
        known: Some(("s3s-fs 0.14.1, which does not sync", 2.55)),
    },
    Figure {
        name: "GET of 64 MiB",
        operation: Operation::Get,
        object_bytes: LARGE_BYTES,
        connections: 8,
        measure: Outcome::seconds_per_gib,
        unit: PER_GIB,
        target: Target::AtMost(1.0 / 3.0),
        known: Some(("Garage 2.5.0", 1.60)),
    },
    small("PUT of 4 KiB", Operation::Put, 8, Target::AtLeast(3.0))
        .known("s3s-fs 0.14.1, which does not sync", 1936.0),
    small("GET of 4 KiB", Operation::Get, 8, Target::AtLeast(3.0)).known("Garage 2.5.0", 4735.0),
    small("GET of 4 KiB, 1 connection", Operation::Get, 1, Target::None),
    small("GET of 4 KiB, 64 connections", Operation::Get, 64, Target::None),
    small("LIST of 1000 keys", Operation::List(SMALL_OBJECTS_MIN as u32), 8, Target::None),
    small("DELETE of 4 KiB", Operation::Delete, 8, Target::None),
];
const LARGE_GET: usize = 1;
const SMALL_GET: usize = 3;

const fn small(name: &'static str, operation: Operation, connections: usize, target: Target) -> Figure {
    let measure: fn(&Outcome) -> f64 = Outcome::requests_per_cpu_second;
    let unit = PER_SECOND;
    Figure { name, operation, object_bytes: SMALL_BYTES, connections, measure, unit, target, known: None }
}

impl Figure {
    const fn known(self, peer: &'static str, value: f64) -> Figure {
        Figure { known: Some((peer, value)), ..self }
    }

    /// Whether `a` is better than `b`: less of a cost, more of a rate.
    fn is_better(&self, a: f64, b: f64) -> bool {
        (self.unit == PER_GIB) == (a < b)
    }
}

/// A server that was started anew, and what it holds.
struct Subject {
    server: Server,
    data: PathBuf,
    /// Small objects that were stored.
    small: u64,
}

impl Subject {
    fn ours(plan: &Plan, name: &str, options: &[String]) -> Result<Subject, String> {
        let data = plan.directory.join(name);
        let server = Server::start(&plan.programs.join("s3-server"), &data, options)?;
        load::create_bucket(&server)?;
        Ok(Subject { server, data, small: 0 })
    }

    fn peer(peer: Peer, program: &Path, data: PathBuf) -> Result<Subject, String> {
        let server = peer.start_with_bucket(program, &data)?;
        Ok(Subject { server, data, small: 0 })
    }

    /// Takes a figure. Requests for small objects end after a time: a peer that answers one in 40 ms would take minutes for what others do
    /// in a second, and processor time for each is known then.
    fn take(&mut self, figure: &Figure, pool: &Pool, full: bool) -> Result<f64, String> {
        let is_large = figure.object_bytes == LARGE_BYTES;
        let put_small = figure.operation == Operation::Put && !is_large;
        let (requests, objects) = match figure.operation {
            Operation::Put if is_large => (LARGE_OBJECTS, LARGE_OBJECTS),
            Operation::Get if is_large => (2 * LARGE_OBJECTS, LARGE_OBJECTS),
            Operation::Put => (SMALL_REQUESTS, SMALL_REQUESTS),
            // What is removed is not removed twice.
            Operation::Delete => (self.small, self.small),
            Operation::Get | Operation::List(_) => (2 * SMALL_REQUESTS, self.small),
        };
        let seconds = if full { 3 } else { 2 };
        let load = Load {
            server: &self.server,
            pool,
            operation: figure.operation,
            object_bytes: figure.object_bytes,
            connections: figure.connections,
            first: 0,
            requests,
            objects,
            rate: None,
            time_max: (!is_large).then_some(Duration::from_secs(seconds)),
        };
        if put_small {
            // However slow it is: there is to be enough to list.
            let (requests, objects) = (SMALL_OBJECTS_MIN, SMALL_OBJECTS_MIN);
            Load { requests, objects, time_max: None, ..load }.run()?;
        }
        let outcome = Load { first: if put_small { SMALL_OBJECTS_MIN } else { 0 }, ..load }.run()?;
        if put_small {
            self.small = SMALL_OBJECTS_MIN + outcome.requests;
        }
        Ok((figure.measure)(&outcome))
    }

    /// Ends the server, and removes what it stored.
    fn end(self) -> Result<(), String> {
        drop(self.server);
        std::fs::remove_dir_all(&self.data)
            .map_err(|error| format!("cannot remove {}: {error}", self.data.display()))
    }
}

/// Small objects that are stored before any is counted, and as many as a page lists.
const SMALL_OBJECTS_MIN: u64 = 1000;
/// Small objects that are stored at most, besides.
const SMALL_REQUESTS: u64 = 40_000;

/// The read cache in the measurement of hits: room for the objects on each core, of which each reader may take a quarter.
const CACHE: [&str; 4] = ["--memory", "1280MiB", "--read-cache", "1GiB"];
/// Objects that are read from the cache.
const CACHED_OBJECTS: [u64; 2] = [4, 4000];

/// Our server with a read cache that holds all that it is asked for.
struct Cached(Subject);

impl Cached {
    fn start(plan: &Plan, pool: &Pool) -> Result<Cached, String> {
        let cached = Cached(Subject::ours(plan, "http-cached", &CACHE.map(str::to_owned))?);
        let [large, small] = CACHED_OBJECTS;
        cached.load(pool, Operation::Put, LARGE_BYTES, large, large)?;
        cached.load(pool, Operation::Put, SMALL_BYTES, small, small)?;
        // Connections fall on cores as they do, and each core keeps what it read: twice, so that hardly one has not read them.
        for _ in 0..2 {
            cached.load(pool, Operation::Get, LARGE_BYTES, 32 * large, large)?;
            cached.load(pool, Operation::Get, SMALL_BYTES, 4 * small, small)?;
        }
        Ok(cached)
    }

    fn load(
        &self,
        pool: &Pool,
        operation: Operation,
        object_bytes: usize,
        requests: u64,
        objects: u64,
    ) -> Result<Outcome, String> {
        Load {
            server: &self.0.server,
            pool,
            operation,
            object_bytes,
            connections: 8,
            first: 0,
            requests,
            objects,
            rate: None,
            time_max: None,
        }
        .run()
    }

    fn take(&self, index: usize, pool: &Pool) -> Result<f64, String> {
        let [large, small] = CACHED_OBJECTS;
        if index == LARGE_GET {
            return Ok(self
                .load(pool, Operation::Get, LARGE_BYTES, 2 * LARGE_OBJECTS, large)?
                .seconds_per_gib());
        }
        Ok(self.load(pool, Operation::Get, SMALL_BYTES, 4 * small, small)?.requests_per_cpu_second())
    }
}

/// Of one server: rounds of each figure.
type Figures = [Vec<f64>; FIGURES.len()];

/// What was measured.
#[derive(Default)]
struct Measured {
    ours: Figures,
    peers: Vec<(Peer, Figures)>,
    cached: Figures,
    /// What a peer could not do.
    failures: Vec<(Peer, usize, String)>,
}

impl Measured {
    /// Takes a peer's figure, unless it has failed in one of that kind before. A peer that fails in one is compared in the others.
    fn take_peer(
        &mut self,
        (number, subject): (usize, &mut Subject),
        (index, figure): (usize, &Figure),
        pool: &Pool,
        full: bool,
    ) {
        let Some((peer, figures)) = self.peers.get_mut(number) else { return };
        let (peer, figures) = (*peer, figures.get_mut(index).expect("one for each figure"));
        if self.failures.iter().any(|(failed, at, _)| (*failed, *at) == (peer, index)) {
            return;
        }
        match subject.take(figure, pool, full) {
            Ok(value) => figures.push(value),
            Err(error) => {
                figures.clear();
                self.failures.push((peer, index, error));
            }
        }
    }
}

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "S3 over HTTP, beside peers",
        "Processor time of the server process, user and system, under signed requests on 8 kept-alive connections (or as many as \
         it says); every body is compared with what was stored. Ours answers a PUT when it is durable, with MD5 as ETag and \
         CRC-64/NVME stored. In each round every server, ours and peers, is started anew on an empty directory; each figure is \
         taken of all of them in turns, forwards and backwards. Small requests end after some seconds, so that a server that is \
         slow has stored less, lists less and is asked for less. Only our server with the read cache, which is to answer from \
         memory alone, goes on from round to round.",
    );
    let pool = Pool::new(LARGE_BYTES);
    let programs = installed(plan, report);
    let cached = Cached::start(plan, &pool)?;
    let mut measured = Measured {
        peers: programs.iter().map(|(peer, _)| (*peer, Figures::default())).collect(),
        ..Measured::default()
    };
    let most = if plan.full { 5 } else { 3 };
    for round in plan.rounds_within(most, BUDGET) {
        let mut ours = Subject::ours(plan, &format!("http-{round}"), &[])?;
        let started = programs.iter().enumerate().map(|(index, (peer, program))| {
            Subject::peer(*peer, program, plan.directory.join(format!("peer-{round}-{index}")))
        });
        let mut peers = started.collect::<Result<Vec<Subject>, String>>()?;
        for (index, figure) in FIGURES.iter().enumerate() {
            let forwards = round % 2 == 0;
            let of = |figures: &mut Figures, value: f64| {
                figures.get_mut(index).expect("one for each figure").push(value);
            };
            let own = |measured: &mut Measured, ours: &mut Subject| -> Result<(), String> {
                of(&mut measured.ours, ours.take(figure, &pool, plan.full)?);
                if index == LARGE_GET || index == SMALL_GET {
                    of(&mut measured.cached, cached.take(index, &pool)?);
                }
                Ok(())
            };
            if forwards {
                own(&mut measured, &mut ours)?;
            }
            for peer in peers.iter_mut().enumerate() {
                measured.take_peer(peer, (index, figure), &pool, plan.full);
            }
            if !forwards {
                own(&mut measured, &mut ours)?;
            }
        }
        ours.end()?;
        peers.into_iter().try_for_each(Subject::end)?;
    }
    cached.0.end()?;
    rows(&measured, report);
    for (peer, index, error) in &measured.failures {
        let figure = FIGURES.get(*index).map_or("", |figure| figure.name);
        report.text(&format!("{} is not compared in {figure}: {error}.", peer.name()));
    }
    if !measured.peers.is_empty() {
        report.text(&table(&measured));
    }
    Ok(())
}

/// The peers that are installed and start; the others are named.
fn installed(plan: &Plan, report: &mut Report) -> Vec<(Peer, PathBuf)> {
    let mut programs = Vec::new();
    let Some(installed) = &plan.peers else { return programs };
    for peer in Peer::ALL {
        let Some(program) = peer.program(installed) else {
            report.text(&format!("{} is not installed: not measured.", peer.name()));
            continue;
        };
        let tried = Subject::peer(peer, &program, plan.directory.join("peer-tried")).and_then(Subject::end);
        match tried {
            Ok(()) => programs.push((peer, program)),
            Err(error) => {
                report.text(&format!("{} does not start, and is not measured: {error}", peer.name()));
            }
        }
    }
    programs
}

fn rows(measured: &Measured, report: &mut Report) {
    let cached = FIGURES.iter().zip(&measured.cached).enumerate();
    for ((index, figure), own) in FIGURES.iter().enumerate().zip(&measured.ours) {
        report.push(Row::figures(figure.name, Target::None, own, figure.unit));
        compare(measured, report, (index, figure), (figure.name, own, figure.target));
    }
    for (index, (figure, own)) in cached.filter(|(_, (_, own))| !own.is_empty()) {
        let name = format!("{} from the read cache", figure.name);
        report.push(Row::figures(&name, Target::None, own, figure.unit));
        let target = if index == LARGE_GET { Target::AtMost(0.25) } else { Target::None };
        compare(measured, report, (index, figure), (&name, own, target));
    }
}

/// A row of our figure over the best peer's; where none was measured, over what the best one reached once, and no target.
fn compare(
    measured: &Measured,
    report: &mut Report,
    (index, figure): (usize, &Figure),
    (name, own, target): (&str, &[f64], Target),
) {
    // Only peers that promise as little as they come with are the best ones: what a sync costs is no fault of a server's.
    let theirs = measured.peers.iter().filter(|(peer, _)| *peer != Peer::GarageDurable);
    let theirs = theirs.filter_map(|(peer, figures)| Some((peer.name(), figures.get(index)?)));
    let theirs = theirs.filter(|(_, figures)| !figures.is_empty());
    let best = theirs.reduce(
        |best, next| {
            if figure.is_better(median(next.1), median(best.1)) { next } else { best }
        },
    );
    match (best, figure.known) {
        (Some((peer, figures)), _) => {
            let ratios: Vec<f64> = own.iter().zip(figures).map(|(own, peer)| own / peer).collect();
            let note = format!("the best is {peer} with {} {}", number(median(figures)), figure.unit);
            let name = format!("{name}, over the best peer");
            report.push(Row::figures(name, target, &ratios, "of the peer").note(note));
        }
        // Peers were to be measured, and none could be.
        (None, _) if !measured.peers.is_empty() => {
            report.push(Row::figures(format!("{name}, over the best peer"), target, &[], "of the peer"));
        }
        (None, Some((peer, value))) => {
            let ratios: Vec<f64> = own.iter().map(|own| own / value).collect();
            let note = format!(
                "{peer} reached {} {} once, on another day: no target without `--peers`",
                number(value),
                figure.unit
            );
            let name = format!("{name}, over what the best peer reached once");
            report.push(Row::figures(name, Target::None, &ratios, "of the peer").note(note));
        }
        (None, None) => {}
    }
}

fn table(measured: &Measured) -> String {
    let mut text = String::from("| server |");
    FIGURES.iter().for_each(|figure| _ = write!(text, " {}, {} |", figure.name, figure.unit));
    text.push_str("\n|---|");
    FIGURES.iter().for_each(|_| text.push_str("---|"));
    text.push('\n');
    let mut line = |name: &str, figures: &Figures| {
        let _ = write!(text, "| {name} |");
        for figures in figures {
            let value = if figures.is_empty() { "–".to_owned() } else { number(median(figures)) };
            let _ = write!(text, " {value} |");
        }
        text.push('\n');
    };
    line("Crossdock, durable", &measured.ours);
    measured.peers.iter().for_each(|(peer, figures)| line(peer.name(), figures));
    text.push('\n');
    measured.peers.iter().for_each(|(peer, _)| _ = writeln!(text, "* {}: {}.", peer.name(), peer.caveat()));
    text
}
