//! What S3 over HTTP costs the server: processor seconds for a GiB, and requests for a processor second, beside peers.

use crate::Plan;
use crossdock_benches::{
    load::{self, Load, Operation, Outcome, Pool},
    peers::Peer,
    report::{Report, Row, Target, number},
    server::Server,
};
use std::fmt::Write as _;

const CONNECTIONS: usize = 8;
const LARGE_BYTES: usize = 64 << 20;
const SMALL_BYTES: usize = 4 << 10;
/// Large objects that are stored, and read again and again.
const LARGE_OBJECTS: u64 = 16;

/// A figure of the best peer, as it was measured in November 2026 on two shared cores of the kind these were run on, by this
/// load. With `--peers` it is measured again.
struct Known {
    name: &'static str,
    peer: &'static str,
    value: f64,
    /// What our figure over the peer's must reach.
    target: Target,
    measure: fn(&Outcome) -> f64,
    unit: &'static str,
}

/// In the order they are measured: what is read was stored before.
const KNOWN: [Known; 4] = [
    Known {
        name: "PUT of 64 MiB, with MD5",
        peer: "s3s-fs 0.14.1, which does not sync",
        value: 2.55,
        target: Target::AtMost(1.0 / 3.0),
        measure: Outcome::seconds_per_gib,
        unit: "CPU-s/GiB",
    },
    Known {
        name: "GET of 64 MiB",
        peer: "Garage 2.5.0",
        value: 1.60,
        target: Target::AtMost(1.0 / 3.0),
        measure: Outcome::seconds_per_gib,
        unit: "CPU-s/GiB",
    },
    Known {
        name: "PUT of 4 KiB",
        peer: "s3s-fs 0.14.1, which does not sync",
        value: 1936.0,
        target: Target::AtLeast(3.0),
        measure: Outcome::requests_per_cpu_second,
        unit: "requests for a CPU-second",
    },
    Known {
        name: "GET of 4 KiB",
        peer: "Garage 2.5.0",
        value: 4735.0,
        target: Target::AtLeast(3.0),
        measure: Outcome::requests_per_cpu_second,
        unit: "requests for a CPU-second",
    },
];

/// A server, and how much of the load it has had.
struct Subject {
    server: Server,
    small: u64,
}

impl Subject {
    fn take(&mut self, index: usize, pool: &Pool, full: bool) -> Result<Outcome, String> {
        let small_requests = if full { 20_000 } else { 6_000 };
        let large_gets = if full { 64 } else { 32 };
        let load = |operation, object_bytes, first, requests, objects| Load {
            server: &self.server,
            pool,
            operation,
            object_bytes,
            connections: CONNECTIONS,
            first,
            requests,
            objects,
            rate: None,
        };
        let load = match index {
            0 => load(Operation::Put, LARGE_BYTES, 0, LARGE_OBJECTS, LARGE_OBJECTS),
            1 => load(Operation::Get, LARGE_BYTES, 0, large_gets, LARGE_OBJECTS),
            2 => {
                let first = self.small;
                self.small += small_requests;
                load(Operation::Put, SMALL_BYTES, first, small_requests, small_requests)
            }
            _ => load(Operation::Get, SMALL_BYTES, 0, 2 * small_requests, self.small),
        };
        load.run()
    }
}

/// The read cache in the measurement of hits: room for the objects on each core, of which each reader may take a quarter.
const CACHE: [&str; 4] = ["--memory", "1280MiB", "--read-cache", "1GiB"];
/// Large objects that are read from the cache.
const CACHED_OBJECTS: u64 = 4;

/// What hits in the read cache cost; `peer` is what the best peer's GET of 64 MiB does.
fn cached(plan: &Plan, report: &mut Report, pool: &Pool, peer: f64) -> Result<(), String> {
    let options = CACHE.map(str::to_owned);
    let server =
        Server::start(&plan.programs.join("s3-server"), &plan.directory.join("http-cached"), &options)?;
    load::create_bucket(&server)?;
    let load = |operation, object_bytes, requests, objects| {
        let connections = CONNECTIONS;
        Load {
            server: &server,
            pool,
            operation,
            object_bytes,
            connections,
            first: 0,
            requests,
            objects,
            rate: None,
        }
        .run()
    };
    let small = 4000;
    load(Operation::Put, LARGE_BYTES, CACHED_OBJECTS, CACHED_OBJECTS)?;
    load(Operation::Put, SMALL_BYTES, small, small)?;
    // Connections fall on cores as they do, and each core keeps what it read: twice, so that hardly one has not read them.
    for _ in 0..2 {
        load(Operation::Get, LARGE_BYTES, 4 * CACHED_OBJECTS * CONNECTIONS as u64, CACHED_OBJECTS)?;
        load(Operation::Get, SMALL_BYTES, 4 * small, small)?;
    }
    let (mut large_costs, mut small_rates) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds() {
        let requests = if plan.full { 64 } else { 32 };
        large_costs.push(load(Operation::Get, LARGE_BYTES, requests, CACHED_OBJECTS)?.seconds_per_gib());
        small_rates.push(load(Operation::Get, SMALL_BYTES, 4 * small, small)?.requests_per_cpu_second());
    }
    report.push(Row::figures("GET of 64 MiB from the read cache", Target::None, &large_costs, "CPU-s/GiB"));
    let ratios: Vec<f64> = large_costs.iter().map(|cost| cost / peer).collect();
    let name = "GET of 64 MiB from the read cache, over the best peer";
    report.push(Row::figures(name, Target::AtMost(0.25), &ratios, "of the peer"));
    let unit = "requests for a CPU-second";
    report.push(Row::figures("GET of 4 KiB from the read cache", Target::None, &small_rates, unit));
    Ok(())
}

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "S3 over HTTP, beside peers",
        "Processor time of the server process, user and system, under signed requests on 8 kept-alive connections; every body \
         is compared with what was stored. Ours answers a PUT when it is durable, with MD5 as ETag and CRC-64/NVME stored. \
         Each round is a server just started on an empty directory, or goes on with one in turns with the peers.",
    );
    let pool = Pool::new(LARGE_BYTES);
    let start = |name: &str| -> Result<Subject, String> {
        let data = plan.directory.join(name);
        let server = Server::start(&plan.programs.join("s3-server"), &data, &[])?;
        load::create_bucket(&server)?;
        Ok(Subject { server, small: 0 })
    };
    let mut peers = Vec::new();
    if let Some(installed) = &plan.peers {
        for peer in Peer::ALL {
            let Some(program) = peer.program(installed) else {
                report.text(&format!("{} is not installed: not measured.", peer.name()));
                continue;
            };
            let started = peer.start(&program, &plan.directory.join(format!("peer-{}", peers.len())));
            match started.and_then(|server| load::create_bucket(&server).map(|()| server)) {
                Ok(server) => peers.push((peer, Subject { server, small: 0 })),
                Err(error) => {
                    report.text(&format!("{} does not start, and is not measured: {error}", peer.name()))
                }
            }
        }
    }
    let rounds = plan.rounds();
    let mut ours: [Vec<f64>; 4] = Default::default();
    let mut theirs: Vec<[Vec<f64>; 4]> = peers.iter().map(|_| Default::default()).collect();
    let mut subject = start("http-0")?;
    for round in 0..rounds {
        // How connections fall on cores is chance, and stays as it fell: each round is to have its own.
        if round > 0 {
            let old = plan.directory.join(format!("http-{}", round - 1));
            subject = start(&format!("http-{round}"))?;
            std::fs::remove_dir_all(&old).map_err(|error| error.to_string())?;
        }
        for (index, known) in KNOWN.iter().enumerate() {
            let forwards = round % 2 == 0;
            let mut own = |ours: &mut [Vec<f64>; 4]| -> Result<(), String> {
                let figure = (known.measure)(&subject.take(index, &pool, plan.full)?);
                ours.get_mut(index).expect("one for each figure").push(figure);
                Ok(())
            };
            if forwards {
                own(&mut ours)?;
            }
            for ((_, peer), figures) in peers.iter_mut().zip(&mut theirs) {
                let figure = (known.measure)(&peer.take(index, &pool, plan.full)?);
                figures.get_mut(index).expect("one for each figure").push(figure);
            }
            if !forwards {
                own(&mut ours)?;
            }
        }
    }
    for (index, known) in KNOWN.iter().enumerate() {
        let own = ours.get(index).expect("one for each figure");
        report.push(Row::figures(known.name, Target::None, own, known.unit));
        // Less is better of costs, more of rates; only peers that promise as little as they come with are the best ones.
        let measured = theirs.iter().zip(&peers).filter_map(|(figures, (peer, _))| {
            let figures = figures.get(index).filter(|_| *peer != Peer::GarageDurable)?;
            Some((peer.name(), figures))
        });
        let better = |a: f64, b: f64| matches!(known.target, Target::AtMost(_)) == (a < b);
        let best =
            measured.reduce(|best, next| if better(median(next.1), median(best.1)) { next } else { best });
        let name = format!("{}, over the best peer", known.name);
        match best {
            Some((peer, figures)) => {
                let ratios: Vec<f64> = own.iter().zip(figures).map(|(own, peer)| own / peer).collect();
                let note = format!("the best is {peer} with {} {}", number(median(figures)), known.unit);
                report.push(Row::figures(name, known.target, &ratios, "of the peer").note(note));
            }
            None => {
                let ratios: Vec<f64> = own.iter().map(|own| own / known.value).collect();
                let note =
                    format!("the peer is {}, measured earlier with {}", known.peer, number(known.value));
                report.push(Row::figures(name, known.target, &ratios, "of the peer").note(note));
            }
        }
    }
    let best_get = theirs.iter().filter_map(|figures| figures.get(1)).map(|figures| median(figures));
    let best_get = best_get.reduce(f64::min).unwrap_or(KNOWN[1].value);
    cached(plan, report, &pool, best_get)?;
    if !peers.is_empty() {
        let mut text = String::from("| server |");
        KNOWN.iter().for_each(|known| _ = write!(text, " {}, {} |", known.name, known.unit));
        text.push_str("\n|---|---|---|---|---|\n");
        let mut line = |name: &str, figures: &[Vec<f64>; 4]| {
            let _ = write!(text, "| {name} |");
            figures.iter().for_each(|figures| _ = write!(text, " {} |", number(median(figures))));
            text.push('\n');
        };
        line("Crossdock, durable", &ours);
        peers.iter().zip(&theirs).for_each(|((peer, _), figures)| line(peer.name(), figures));
        text.push('\n');
        peers.iter().for_each(|(peer, _)| _ = writeln!(text, "* {}: {}.", peer.name(), peer.caveat()));
        report.text(&text);
    }
    Ok(())
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
