//! Runs seeds of the simulator: `simulate [--seeds N] [--start S] [--operations M] [--threads T] [--whole]`.
//!
//! Or goes through all short histories and all their crashes: `simulate --exhaustive [--length L] [--threads T]`.
//!
//! Prints what was done, or the first seed that failed, why, and the shortest history found that still fails.
//! `--seeds 1 --start SEED` replays a seed exactly; `--whole` prints its whole history.

use crossdock::testing::{
    exhaustive::{Tally, exhaust, sequences},
    history::History,
    run::{RunReport, run_caught},
    shrink::shrink,
};
use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Histories tried at most to make a failing one small.
const SHRINK_TRIES: usize = 1500;

fn main() -> ExitCode {
    let seeds = option("--seeds").unwrap_or(100);
    let start = option("--start").unwrap_or(0);
    let operations = option("--operations").unwrap_or(300);
    let threads = option("--threads")
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u64));
    if std::env::args().any(|argument| argument == "--exhaustive") {
        return exhaustively(option("--length").unwrap_or(3) as u32, threads);
    }
    let next = AtomicU64::new(start);
    let end = start.saturating_add(seeds);
    let failure = AtomicU64::new(u64::MAX);
    let work = || {
        let mut total = RunReport::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            // A smaller seed that failed is the one to report.
            if seed >= end || seed > failure.load(Ordering::Relaxed) {
                return total;
            }
            match run_caught(&History::draw(seed, operations)) {
                Ok(report) => total.add(report),
                Err(_) => drop(failure.fetch_min(seed, Ordering::Relaxed)),
            }
        }
    };
    let mut total = RunReport::default();
    // A failing run that panics says so where it is reported.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| total.add(worker.join().expect("a run's panic is caught")));
    });
    let seed = failure.into_inner();
    if seed == u64::MAX {
        println!("{seeds} seeds from {start}: {total:?}");
        return ExitCode::SUCCESS;
    }
    let history = History::draw(seed, operations);
    let error = run_caught(&history).err().unwrap_or_default();
    println!("seed {seed} FAILED: {error}");
    if !std::env::args().any(|argument| argument == "--whole") {
        let small = shrink(&history, SHRINK_TRIES, &mut |history| run_caught(history).is_err());
        println!("the shortest history found: {small}");
        println!("which fails with: {}", run_caught(&small).err().unwrap_or_default());
    } else {
        println!("{history}");
    }
    println!("replay with: --seeds 1 --start {seed} --operations {operations}");
    ExitCode::FAILURE
}

/// Every sequence of up to `length` operations, every crash of each.
fn exhaustively(length: u32, threads: u64) -> ExitCode {
    let all = Mutex::new((1..=length).flat_map(sequences));
    let failure = Mutex::new(None);
    let work = || {
        let mut tally = Tally::default();
        loop {
            let next = all.lock().ok().and_then(|mut all| all.next());
            let Some(sequence) = next.filter(|_| failure.lock().is_ok_and(|failure| failure.is_none()))
            else {
                return tally;
            };
            match exhaust(&sequence) {
                Ok(more) => tally.add(more),
                Err(error) => drop(failure.lock().map(|mut failure| failure.get_or_insert(error).len())),
            }
        }
    };
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| tally.add(worker.join().expect("no run panics")));
    });
    println!("up to {length} operations: {tally:?}");
    match failure.into_inner() {
        Ok(None) => ExitCode::SUCCESS,
        other => {
            println!("FAILED: {other:?}");
            ExitCode::FAILURE
        }
    }
}

fn option(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    arguments.next()?.parse().ok()
}
