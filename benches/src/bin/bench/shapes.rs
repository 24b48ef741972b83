//! Throughput, latency and processor time over the size of objects: a line for each way, as plots.

use crate::Plan;
use crossdock_benches::{
    fio::{Fio, Pattern},
    load::{self, Load, Operation, Pool},
    peers::Peer,
    plot::{self, Line},
    report::{Report, Row, Target},
    server::{self, Server},
};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

const CONNECTIONS: usize = 8;
/// What one measurement over HTTP moves at most: in bytes, quickly and in full, and in requests.
const BYTES_MAX: [u64; 2] = [128 << 20, 512 << 20];
const REQUESTS_MAX: u64 = 4000;
/// A server that is slow is measured for so long.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Of the rounds in which shared memory is compared with HTTP.
const BUDGET: Duration = Duration::from_secs(150);

/// What was measured of one way at one size.
#[derive(Clone, Copy, Default)]
struct Point {
    mib_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// 0 where there is no server.
    cpu_seconds_per_gib: f64,
}

/// By operation and way: points by size.
type Lines = BTreeMap<(&'static str, String), Vec<(u64, Point)>>;

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "Over sizes",
        &format!(
            "Signed requests on 8 connections over HTTP (ours and, where they were asked for, peers, each of a store of its own that \
             was empty before the smallest size); one client over shared memory and over HTTP, by `rdma-client bench`, in turns; and \
             fio at the same block size (at most 1 MiB), 8 in flight. {} The lines are single runs, one after the other: they show \
             shapes, and what counts is in the rows. RDMA needs a card, or the virtual machine of `cargo xtask vm`, where figures mean \
             nothing: it has no line here.",
            plan.yardstick_text()?
        ),
    );
    let sizes: &[u64] = if plan.full {
        &[1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20]
    } else {
        &[4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20]
    };
    let mut lines = Lines::new();
    let socket = plan.directory.join("shapes.socket");
    let shm = ["--shm".to_owned(), socket.to_string_lossy().into_owned()];
    let server = Server::start(&plan.programs.join("s3-server"), &plan.directory.join("shapes"), &shm)?;
    load::create_bucket(&server)?;
    let pool = Pool::new(64 << 20);
    let bytes_max = BYTES_MAX[usize::from(plan.full)];
    over_http(&server, "http, 8 connections", &pool, (sizes, bytes_max), &mut lines)?;
    let costs = over_transports(plan, &server, &socket, sizes, &mut lines)?;
    drop(server);
    for (what, costs) in ["GET", "PUT"].iter().zip(&costs) {
        let ratios: Vec<f64> = costs.iter().map(|(shm, http)| shm / http).collect();
        let name = format!("{what} of 64 MiB over shared memory: server processor time for a GiB");
        report.push(Row::figures(name, Target::AtMost(1.0 / 3.0), &ratios, "of our own HTTP path"));
        let of = |cost: fn(&(f64, f64)) -> f64| costs.iter().map(cost).collect::<Vec<f64>>();
        report.push(Row::figures("— over shared memory", Target::None, &of(|cost| cost.0), "CPU-s/GiB"));
        report.push(Row::figures("— over HTTP", Target::None, &of(|cost| cost.1), "CPU-s/GiB"));
    }
    if let Some(installed) = &plan.peers {
        for peer in Peer::ALL {
            let Some(program) = peer.program(installed) else { continue };
            let data = plan.directory.join("shapes-peer");
            let measured = peer
                .start_with_bucket(&program, &data)
                .and_then(|server| over_http(&server, peer.name(), &pool, (sizes, bytes_max), &mut lines));
            if let Err(error) = measured {
                report.text(&format!("{} was not measured to its end: {error}", peer.name()));
            }
            std::fs::remove_dir_all(&data).map_err(|error| error.to_string())?;
        }
    }
    device(plan, sizes, &mut lines)?;
    for operation in ["GET", "PUT"] {
        let draw = |title: &str, unit: &str, value: &dyn Fn(&Point) -> f64| {
            let of = |((what, way), points): (&(&str, String), &Vec<(u64, Point)>)| {
                let points = points.iter().map(|(size, point)| (*size as f64, value(point)));
                (*what == operation)
                    .then(|| Line { name: way.clone(), points: points.filter(|(_, y)| *y > 0.0).collect() })
            };
            plot::svg(
                &format!("{operation}: {title}"),
                unit,
                &lines.iter().filter_map(of).collect::<Vec<_>>(),
            )
        };
        let plots = [
            ("throughput", draw("throughput", "MiB/s", &|point| point.mib_per_second)),
            ("latency-p50", draw("latency, median", "µs", &|point| point.p50_us)),
            ("latency-p99", draw("latency, 99th percentile", "µs", &|point| point.p99_us)),
            ("cpu", draw("server processor time", "CPU-s/GiB", &|point| point.cpu_seconds_per_gib)),
        ];
        for (name, svg) in plots {
            if let Some(svg) = svg {
                let file = format!("{}-{name}.svg", operation.to_lowercase());
                report.plot(&file, &format!("{operation}, {name}"), svg);
            }
        }
    }
    report.text(&table(&lines));
    Ok(())
}

fn over_http(
    server: &Server,
    way: &str,
    pool: &Pool,
    (sizes, bytes_max): (&[u64], u64),
    lines: &mut Lines,
) -> Result<(), String> {
    for &size in sizes {
        let mut objects = (bytes_max / size).clamp(CONNECTIONS as u64, REQUESTS_MAX);
        for (what, operation) in
            [("PUT", Operation::Put), ("GET", Operation::Get), ("DELETE", Operation::Delete)]
        {
            let outcome = Load {
                server,
                pool,
                operation,
                object_bytes: size as usize,
                connections: CONNECTIONS,
                first: 0,
                requests: objects,
                objects,
                rate: None,
                time_max: Some(TIME_MAX),
            }
            .run()?;
            if operation == Operation::Put {
                // What it had no time to store is not there.
                objects = outcome.requests;
            }
            let point = Point {
                mib_per_second: outcome.bytes as f64 / f64::from(1 << 20) / outcome.elapsed.as_secs_f64(),
                p50_us: outcome.percentile(50.0).as_secs_f64() * 1e6,
                p99_us: outcome.percentile(99.0).as_secs_f64() * 1e6,
                cpu_seconds_per_gib: if outcome.bytes > 0 { outcome.seconds_per_gib() } else { 0.0 },
            };
            lines.entry((what, way.to_owned())).or_default().push((size, point));
        }
    }
    Ok(())
}

/// Rounds of what a GiB costs the server over shared memory, and over HTTP.
type Costs = Vec<(f64, f64)>;

/// Runs `rdma-client bench`; gives what a GiB of the largest objects costs, of GET and of PUT.
fn over_transports(
    plan: &Plan,
    server: &Server,
    socket: &std::path::Path,
    sizes: &[u64],
    lines: &mut Lines,
) -> Result<[Costs; 2], String> {
    let client = plan.programs.join("rdma-client");
    let kib: Vec<String> = sizes.iter().map(|size| (size >> 10).to_string()).collect();
    let largest = kib.last().cloned().unwrap_or_default();
    let run = |sizes: &str, seconds: u32| {
        let done = Command::new(&client)
            .args(["--server", &server.address().to_string(), "--memory", "128", "--shm"])
            .arg(socket)
            .args(["bench", "s3://bench/transports/", "--sizes", sizes])
            .args(["--seconds", &seconds.to_string(), "--server-pid", &server.process().to_string()])
            .env("AWS_ACCESS_KEY_ID", server::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", server::SECRET_KEY)
            .output()
            .map_err(|error| format!("cannot start {}: {error}", client.display()))?;
        if !done.status.success() {
            return Err(format!("rdma-client bench: {}", String::from_utf8_lossy(&done.stderr)));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    };
    for line in run(&kib.join(","), if plan.full { 3 } else { 2 })?.lines() {
        if let Some((size, what, way, point)) = parse(line) {
            let name = if way == "http" { "http, 1 client".to_owned() } else { format!("{way}, 1 client") };
            lines.entry((what, name)).or_default().push((size, point));
        }
    }
    let mut costs = [Costs::new(), Costs::new()];
    for _ in plan.rounds_within(plan.rounds(), BUDGET) {
        let text = run(&largest, plan.seconds())?;
        for (what, costs) in ["GET", "PUT"].into_iter().zip(&mut costs) {
            costs.push((cost(&text, what, "shm")?, cost(&text, what, "http")?));
        }
    }
    Ok(costs)
}

/// What a GiB costs the server by a table of `rdma-client bench`, which must have one such line.
fn cost(text: &str, what: &str, way: &str) -> Result<f64, String> {
    let mut found = text.lines().filter_map(parse).filter(|line| (line.1, line.2) == (what, way));
    match (found.next(), found.next()) {
        (Some((.., point)), None) => Ok(point.cpu_seconds_per_gib),
        _ => Err(format!("rdma-client bench printed not one line of {what} over {way}: {text}")),
    }
}

/// A line of `rdma-client bench`: size, "KiB", operation, way, MiB/s, operations a second, p50, p99, p99.9, and processor
/// seconds of server and client for a GiB.
fn parse(line: &str) -> Option<(u64, &'static str, &str, Point)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [kib, "KiB", what, way, mib, _, p50, p99, _, server, _] = fields.as_slice() else { return None };
    let what = ["GET", "PUT"].into_iter().find(|known| known == what)?;
    let point = Point {
        mib_per_second: mib.parse().ok()?,
        p50_us: p50.parse().ok()?,
        p99_us: p99.parse().ok()?,
        cpu_seconds_per_gib: server.parse().ok()?,
    };
    Some((kib.parse::<u64>().ok()? << 10, what, way, point))
}

fn device(plan: &Plan, sizes: &[u64], lines: &mut Lines) -> Result<(), String> {
    for &size in sizes.iter().filter(|size| **size >= 4096) {
        let block_bytes = size.min(1 << 20) as u32;
        for (what, pattern) in [
            ("PUT", Pattern::Write { sync_blocks: (size / u64::from(block_bytes)) as u32 }),
            ("GET", Pattern::RandomRead),
        ] {
            let depth = CONNECTIONS as u32;
            let yardstick = plan.yardstick()?;
            let fio = Fio { yardstick, pattern, block_bytes, depth, seconds: 1, rate: None };
            let rates = fio.run()?;
            let whole = size <= 1 << 20;
            let point = Point {
                mib_per_second: rates.bytes / f64::from(1 << 20),
                p50_us: if whole { rates.latencies_us[0] } else { 0.0 },
                p99_us: if whole { rates.latencies_us[1] } else { 0.0 },
                cpu_seconds_per_gib: 0.0,
            };
            lines.entry((what, "fio, the device".to_owned())).or_default().push((size, point));
        }
    }
    Ok(())
}

fn table(lines: &Lines) -> String {
    let mut text = String::from(
        "\n| | way | size | MiB/s | p50 µs | p99 µs | server CPU-s/GiB |\n|---|---|---|---|---|---|---|\n",
    );
    for ((what, way), points) in lines {
        for (size, point) in points {
            let cpu = match point.cpu_seconds_per_gib {
                0.0 => String::new(),
                cost => format!("{cost:.2}"),
            };
            text += &format!(
                "| {what} | {way} | {} | {:.0} | {:.0} | {:.0} | {cpu} |\n",
                plot::size_text(*size),
                point.mib_per_second,
                point.p50_us,
                point.p99_us
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_the_client_are_read() {
        // A column more, as when a percentile was added, is no line of these: nothing is measured rather than something else.
        let line = "  65536 KiB  GET   shm     2065.1       32.3    30908.0    32767.0    32999.0           0.25           0.11";
        let (size, what, way, point) = parse(line).unwrap();
        assert_eq!((size, what, way), (64 << 20, "GET", "shm"));
        assert_eq!((point.mib_per_second, point.p50_us, point.p99_us), (2065.1, 30908.0, 32767.0));
        assert_eq!(point.cpu_seconds_per_gib, 0.25);
        assert!(parse(&format!("{line} 1.0")).is_none());
    }

    #[test]
    fn a_line_that_is_not_there_is_no_cost_of_nothing() {
        // Of a table with a GET over shared memory and none over HTTP, one is a figure and the other an error; so is one that stands twice.
        let line = "  65536 KiB  GET   shm     2065.1       32.3    30908.0    32767.0    32999.0           0.25           0.11\n";
        assert_eq!(cost(line, "GET", "shm"), Ok(0.25));
        for (text, what, way) in
            [(line, "GET", "http"), (line, "PUT", "shm"), (&line.repeat(2), "GET", "shm")]
        {
            assert!(cost(text, what, way).is_err(), "{what} {way}");
        }
    }
}
