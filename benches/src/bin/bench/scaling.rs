//! Where cost grows: with cores, connections and objects.

use crate::{
    Plan,
    engine::{Operation, SMALL_BYTES, Store, Work, get_small, put_small},
};
use crossdock_benches::{
    load::{self, Load, Operation as Request, Pool},
    machine,
    report::{Report, Row, Target, number},
    server::Server,
};
use futures_lite::future::block_on;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    cores(plan, report)?;
    connections(plan, report)?;
    objects(plan, report)
}

fn cores(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "Scaling with cores",
        "4 KiB operations, 64 in flight, on a store with one core and on one with all: processor time for each operation, which \
         the device does not bound, and operations a second, which it does.",
    );
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = String::from(
        "| cores | | operations a second | µs of processor time each | system calls each |\n|---|---|---|---|---|\n",
    );
    let mut costs = Vec::new();
    for cores in [1, all] {
        let store = Store::open(&plan.directory.join(format!("cores-{cores}")), Some(cores))?;
        store.fill(50_000, SMALL_BYTES, 64)?;
        for (what, run) in [("GET", get_small as Operation), ("PUT", put_small as Operation)] {
            let work = Work { depth: 64, run };
            let counts = store.run(work, 2 * plan.seconds())?;
            let _ = writeln!(
                text,
                "| {cores} | {what} of 4 KiB | {} | {} | {:.2} |",
                number(counts.rate()),
                number(counts.processor_us()),
                counts.system_calls as f64 / counts.operations as f64
            );
            costs.push(counts.processor_us());
        }
        store.engine.close();
    }
    if let [get_one, put_one, get_all, put_all] = costs.as_slice() {
        let name = |what| format!("processor time of a {what} of 4 KiB with {all} cores, over one core's");
        report.push(Row::figures(name("GET"), Target::None, &[get_all / get_one], "of one core's"));
        report.push(Row::figures(name("PUT"), Target::None, &[put_all / put_one], "of one core's"));
    }
    report.text(&text);
    report.text(
        "What a second core adds is the way to a shard that another core owns: of N cores a fraction (N − 1)/N of operations go \
         there and back. That is two messages, whatever N is: a mailbox each, one queue per receiver, and a wake-up only if the \
         receiver sleeps. So the cost of an operation is c₁ + (N − 1)/N · m, with c₁ that of one core and m that of the hop: of the \
         two rows above, m is twice the difference. For 64 cores it is c₁ + 0.98 m, that is hardly more than for two. No lock and no \
         line of memory is written by all cores; what is shared (the arena's map, the placement of shards) is only read. What \
         ends this is the device's queue and the memory's bandwidth, not the engine's structure; nobody has measured it on 64 cores.",
    );
    Ok(())
}

fn connections(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "Scaling with connections",
        "GET of 4 KiB through S3, as fast as answers come; on one machine with the client, which takes its share of the cores.",
    );
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)
        .map_err(|error| error.to_string())?;
    let server = Server::start(&plan.programs.join("s3-server"), &plan.directory.join("connections"), &[])?;
    load::create_bucket(&server)?;
    let pool = Pool::new(SMALL_BYTES as usize);
    let objects = 5_000;
    let load = |operation, connections, requests| Load {
        server: &server,
        pool: &pool,
        operation,
        object_bytes: SMALL_BYTES as usize,
        connections,
        first: 0,
        requests,
        objects,
        rate: None,
    };
    load(Request::Put, 32, objects).run()?;
    let mut text = String::from(
        "| connections | requests a second | for a server CPU-second | p50 ms | p99 ms |\n|---|---|---|---|---|\n",
    );
    for connections in [1, 8, 64, 256, 1000] {
        let requests = if plan.full { 60_000 } else { 15_000 };
        let outcome = load(Request::Get, connections, requests).run()?;
        let _ = writeln!(
            text,
            "| {connections} | {} | {} | {:.2} | {:.2} |",
            number(outcome.requests as f64 / outcome.elapsed.as_secs_f64()),
            number(outcome.requests_per_cpu_second()),
            outcome.percentile(50.0).as_secs_f64() * 1e3,
            outcome.percentile(99.0).as_secs_f64() * 1e3,
        );
    }
    report.text(&text);
    Ok(())
}

fn objects(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "Scaling with objects",
        "A process stores objects of 100 bytes with keys of 15, and ends as by kill -9, without closing. Another opens the store, \
         and lists it. Memory is what the process has in use when the store is open, without the arena's own, over what it has \
         with the smallest store.",
    );
    let counts: &[u64] =
        if plan.full { &[1_000, 100_000, 1_000_000, 5_000_000] } else { &[1_000, 50_000, 200_000] };
    let mut text = String::from(
        "| objects | open, s | for a million | resident, MiB | bytes an object | keys listed a CPU-second |\n|---|---|---|---|---|---|\n",
    );
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (mut base, mut open_rates) = (None, Vec::new());
    for &count in counts {
        let directory = plan.directory.join(format!("objects-{count}"));
        let child = |name: &str| {
            let run = Command::new(&program).arg(name).arg(&directory).arg(count.to_string()).output();
            run.map_err(|error| error.to_string())
        };
        let filled = child("fill")?;
        // It aborts, when it has said that it is done.
        if !String::from_utf8_lossy(&filled.stdout).contains("filled") {
            return Err(format!("the filling process failed: {}", String::from_utf8_lossy(&filled.stderr)));
        }
        let opened = child("open")?;
        let words = String::from_utf8_lossy(&opened.stdout).into_owned();
        let fields: Vec<f64> = words.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seconds, resident, rate] = fields.as_slice() else {
            return Err(format!("the opening process failed: {}", String::from_utf8_lossy(&opened.stderr)));
        };
        let base = *base.get_or_insert(*resident);
        let _ = writeln!(
            text,
            "| {} | {seconds:.3} | {:.3} | {:.0} | {:.0} | {} |",
            number(count as f64),
            seconds / count as f64 * 1e6,
            resident / f64::from(1 << 20),
            (resident - base) / count as f64,
            number(*rate)
        );
        if count >= 100_000 {
            open_rates.push(seconds / count as f64 * 1e6);
        }
        std::fs::remove_dir_all(&directory).map_err(|error| error.to_string())?;
    }
    report.push(Row::figures(
        "open after the end of a process, for a million objects",
        Target::AtMost(1.0),
        &open_rates,
        "s",
    ));
    report.text(&text);
    Ok(())
}

/// One of the two processes of [`objects`].
pub(crate) fn child(name: &str, arguments: &[String]) -> ExitCode {
    let result = match arguments {
        [directory, count] => count.parse().map_err(|_| format!("{count} is no number")).and_then(|count| {
            if name == "fill" { fill(Path::new(directory), count) } else { open(Path::new(directory), count) }
        }),
        _ => Err(format!("usage: bench {name} DIRECTORY OBJECTS")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench {name}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn fill(directory: &Path, count: u64) -> Result<(), String> {
    let store = Store::open(directory, None)?;
    store.fill(count, 100, 1024)?;
    println!("filled");
    // No destructor, no closing: what is on the disk is what was acknowledged.
    std::process::abort();
}

#[allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn open(directory: &Path, count: u64) -> Result<(), String> {
    let begin = Instant::now();
    let store = Store::open(directory, None)?;
    let seconds = begin.elapsed().as_secs_f64();
    let resident = machine::resident_bytes();
    let before = machine::processor_time();
    let listing =
        store.engine.on_core(0, move |engine| async move { crate::listing::list_all(engine).await });
    let keys = block_on(listing).map_err(|error| error.to_string())?;
    if keys != count {
        return Err(format!("{keys} of {count} objects are there"));
    }
    let rate = keys as f64 / (machine::processor_time() - before).as_secs_f64();
    println!("{seconds} {resident} {rate}");
    store.engine.close();
    Ok(())
}
