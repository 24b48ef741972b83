//! Runs seeds of the simulator: `simulate [--seeds N] [--start S] [--operations M] [--threads T] [--whole]`.
//!
//! Prints what was done, or the first seed that failed, why, and the shortest history found that still fails.
//! `--seeds 1 --start SEED` replays a seed exactly; `--whole` prints its whole history.

use crossdock::testing::{
    history::History,
    run::{RunReport, run_history},
    shrink::shrink,
};
use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

/// Histories tried at most to make a failing one small.
const SHRINK_TRIES: usize = 1500;

fn main() -> ExitCode {
    let seeds = option("--seeds").unwrap_or(100);
    let start = option("--start").unwrap_or(0);
    let operations = option("--operations").unwrap_or(300);
    let threads = option("--threads")
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u64));
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
            match outcome(&History::draw(seed, operations)) {
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
    let error = outcome(&history).err().unwrap_or_default();
    println!("seed {seed} FAILED: {error}");
    if !std::env::args().any(|argument| argument == "--whole") {
        let small = shrink(&history, SHRINK_TRIES, &mut |history| outcome(history).is_err());
        println!("the shortest history found: {small}");
        println!("which fails with: {}", outcome(&small).err().unwrap_or_default());
    } else {
        println!("{history}");
    }
    println!("replay with: --seeds 1 --start {seed} --operations {operations}");
    ExitCode::FAILURE
}

/// A run's outcome; a panic of the engine is a failure like any other.
fn outcome(history: &History) -> Result<RunReport, String> {
    let run = std::panic::AssertUnwindSafe(|| run_history(history));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn option(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    arguments.next()?.parse().ok()
}
