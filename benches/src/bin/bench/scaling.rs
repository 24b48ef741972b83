//! Where cost grows: with cores, connections and objects.

use crate::{
    Plan,
    engine::{Counts, Operation, SMALL_BYTES, SMALL_OBJECTS, Store, Work, get_small, put_small},
};
use crossdock_benches::{
    load::{self, Load, Operation as Request, Pool},
    machine,
    ratio::{Ratio, median},
    report::{Report, Row, Target, number},
    server::Server,
};
use futures_lite::future::block_on;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    cores(plan, report)?;
    connections(plan, report)?;
    objects(plan, report)
}

/// Of each of the two operations.
const CORES_BUDGET: u32 = 60;

fn cores(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "Scaling with cores",
        "4 KiB operations, 64 in flight, on a store with one core and, in turns with it, on one with all: processor time for each \
         operation, which the device does not bound, and operations a second, which it does. System calls are those of the cores, \
         the writes by which one core wakes another included.",
    );
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let stores = [1, all].map(|cores| {
        let store = Store::open(&plan.directory.join(format!("cores-{cores}")), Some(cores))?;
        store.fill(SMALL_OBJECTS, SMALL_BYTES, 64)?;
        Ok::<Store, String>(store)
    });
    let [one, many] = stores;
    let (one, many) = (one?, many?);
    let mut text = String::from(
        "| cores | | operations a second | µs of processor time each | system calls each | wakes of other cores each |\n\
         |---|---|---|---|---|---|\n",
    );
    for (what, run) in [("GET", get_small as Operation), ("PUT", put_small as Operation)] {
        let work = Work { depth: 64, run };
        let (mut of_one, mut of_many) = (Counts::default(), Counts::default());
        let take = |store: &Store, sum: &mut Counts| {
            let counts = store.run(work, plan.seconds().min(CORES_BUDGET / (2 * plan.rounds() as u32)))?;
            sum.add(counts);
            Ok::<f64, String>(counts.processor_us())
        };
        let ratio = Ratio::take(plan.rounds(), || take(&one, &mut of_one), || take(&many, &mut of_many))?;
        for (cores, counts) in [(1, &of_one), (all, &of_many)] {
            let each = |count: u64| count as f64 / counts.operations.max(1) as f64;
            let _ = writeln!(
                text,
                "| {cores} | {what} of 4 KiB | {} | {} | {:.2} | {:.2} |",
                number(counts.rate()),
                number(counts.processor_us()),
                each(counts.system_calls),
                each(counts.wakes)
            );
        }
        let name = format!("processor time of a {what} of 4 KiB with {all} cores, over one core's");
        report.push(Row::ratio(name, Target::None, &ratio, "one core's"));
        if all > 1 {
            model(report, what, all as f64, &ratio);
        }
    }
    one.engine.close();
    many.engine.close();
    report.text(&text);
    report.text(
        "What a second core adds is the way to a shard that another core owns: of N cores a fraction (N − 1)/N of operations go \
         there and back. That is two messages, whatever N is: a mailbox each, one queue per receiver, and a wake-up only if the \
         receiver sleeps. So the cost of an operation is c₁ + (N − 1)/N · m, with c₁ that of one core and m that of the hop, and for 64 \
         cores c₁ + 63/64 · m. The rows of 64 cores are that sum: an extrapolation by this model from the two counts of cores that were \
         measured, and no measurement; nobody has run it on 64 cores. No lock and no line of memory is written by all cores; what is \
         shared (the arena's map, the placement of shards) is only read. What ends this is the device's queue and the memory's \
         bandwidth, and what the model leaves out: caches that cores share, memory that is nearer to some of them.",
    );
    Ok(())
}

/// What the model of the section says: c₁, m, and their sum for 64 cores, round by round.
fn model(report: &mut Report, what: &str, all: f64, ratio: &Ratio) {
    let (many, one) = ratio.sides();
    let hops: Vec<f64> = many.iter().zip(one).map(|(many, one)| (many - one) * all / (all - 1.0)).collect();
    let far: Vec<f64> = hops.iter().zip(one).map(|(hop, one)| one + hop * 63.0 / 64.0).collect();
    let unit = "µs of processor time";
    report.push(Row::figures(format!("— c₁, a {what} with one core"), Target::None, one, unit));
    report.push(Row::figures("— m, a hop to another core and back", Target::None, &hops, unit));
    report.push(Row::figures("— with 64 cores, extrapolated", Target::None, &far, unit));
}

fn connections(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "Scaling with connections",
        "GET of 4 KiB through S3, as fast as answers come; on one machine with the client, which takes its share of the cores. One run \
         for each count. Of 1, 8 and 64 connections, peers stand beside it in *S3 over HTTP*.",
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
        time_max: None,
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
        "A process stores objects of 100 bytes with keys of 15, and ends as by kill -9, without closing. Others open the store one after \
         the other, list it, and end in the same way, so that each of them finds what the first left. Memory is what the process has in \
         use when the store is open, over what it has with the smallest store; and, for the row, the most that it ever had in use over \
         what it had before it opened the store, beside the sum that the engine prints. An open reads a checkpoint and the log behind \
         it: its time grows with the objects, and an index that does not lie in memory, for which it would not, is not there.",
    );
    let counts: &[u64] =
        if plan.full { &[1_000, 100_000, 1_000_000, 5_000_000] } else { &[1_000, 50_000, 200_000] };
    let mut text = String::from(
        "| objects | open, s | for a million | resident, MiB | bytes an object | most in use, MiB | the printed sum, MiB | keys listed \
         a CPU-second |\n|---|---|---|---|---|---|---|---|\n",
    );
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut base = None;
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
        let mut opens = Vec::new();
        for _ in plan.rounds_within(OPENS, OPENS_BUDGET) {
            let opened = child("open")?;
            let words = String::from_utf8_lossy(&opened.stdout).into_owned();
            let said = Opened::parse(&words).ok_or_else(|| {
                format!("the opening process failed: {}", String::from_utf8_lossy(&opened.stderr))
            })?;
            opens.push(said);
        }
        let of = |figure: fn(&Opened) -> f64| opens.iter().map(figure).collect::<Vec<f64>>();
        let seconds = of(|opened| opened.seconds);
        let resident = median(&of(|opened| opened.resident_bytes));
        let base = *base.get_or_insert(resident);
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let _ = writeln!(
            text,
            "| {} | {:.3} | {:.3} | {:.0} | {:.0} | {:.0} | {:.0} | {} |",
            number(count as f64),
            median(&seconds),
            median(&seconds) / count as f64 * 1e6,
            mib(resident),
            (resident - base) / count as f64,
            mib(median(&of(|opened| opened.most_bytes))),
            mib(median(&of(|opened| opened.formula_bytes))),
            number(median(&of(|opened| opened.keys_per_cpu_second)))
        );
        // Of fewer it is the store's own files that take the time.
        if count >= 100_000 {
            let seconds: Vec<f64> = seconds.iter().map(|seconds| seconds / count as f64 * 1e6).collect();
            let name =
                format!("open of {} objects after the end of a process, for a million", number(count as f64));
            report.push(Row::figures(name, Target::AtMost(1.0), &seconds, "s"));
        }
        let name = format!("memory with {} objects: the most in use", number(count as f64));
        let ratios = of(|opened| opened.most_bytes / opened.formula_bytes);
        report.push(Row::figures(name, Target::AtMost(1.0), &ratios, "of the printed sum"));
        std::fs::remove_dir_all(&directory).map_err(|error| error.to_string())?;
    }
    report.text(&text);
    Ok(())
}

/// How often a store is opened.
const OPENS: usize = 5;
/// Of the opens of one store.
const OPENS_BUDGET: Duration = Duration::from_secs(60);

/// What an opening process says of itself, in one line.
struct Opened {
    seconds: f64,
    /// In use when the store is open.
    resident_bytes: f64,
    /// The most that was ever in use, over what was before the open.
    most_bytes: f64,
    /// [`MemoryPlan::bytes`](crossdock::MemoryPlan::bytes).
    formula_bytes: f64,
    keys_per_cpu_second: f64,
}

impl Opened {
    fn parse(line: &str) -> Option<Opened> {
        let figures: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seconds, resident_bytes, most_bytes, formula_bytes, keys_per_cpu_second] = *figures.as_slice()
        else {
            return None;
        };
        Some(Opened { seconds, resident_bytes, most_bytes, formula_bytes, keys_per_cpu_second })
    }
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
    let (before, _) = machine::resident_bytes();
    let begin = Instant::now();
    let store = Store::open(directory, None)?;
    let seconds = begin.elapsed().as_secs_f64();
    let (resident, _) = machine::resident_bytes();
    let processor = machine::processor_time();
    let listing = store.on_core(0, move |engine| async move { crate::listing::list_all(engine).await });
    let keys = block_on(listing).map_err(|error| error.to_string())?;
    if keys != count {
        return Err(format!("{keys} of {count} objects are there"));
    }
    let rate = keys as f64 / (machine::processor_time() - processor).as_secs_f64();
    let (_, most) = machine::resident_bytes();
    let formula = store.engine.report().memory.bytes();
    println!("{seconds} {resident} {} {formula} {rate}", most - before);
    // The next one is to find what this one found, and not what closing leaves.
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_opening_process_says_is_read() {
        // Five figures, and nothing instead of fewer.
        let opened = Opened::parse("0.5 100 80 90 700000\n").unwrap();
        assert_eq!((opened.seconds, opened.most_bytes, opened.formula_bytes), (0.5, 80.0, 90.0));
        assert!(Opened::parse("0.5 100 80 90").is_none());
    }

    #[test]
    fn the_model_adds_a_hop_to_what_one_core_takes() {
        // With two cores half of the operations hop: 10 µs alone and 12 together are a hop of 4, and 64 cores take nearly all of it.
        let ratio = Ratio::take(1, || Ok::<f64, ()>(10.0), || Ok(12.0)).unwrap();
        let mut report = Report::default();
        report.section("s", "i");
        model(&mut report, "GET", 2.0, &ratio);
        let text = report.markdown("");
        assert!(text.contains("| 4.00 |") && text.contains("| 13.9 |"), "{text}");
    }
}
