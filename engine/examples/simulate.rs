//! Runs seeds of the simulator: `simulate [--seeds N] [--start S] [--operations M] [--threads T] [--whole]`.
//!
//! Or goes through all short histories and all their crashes: `simulate --exhaustive [--length L] [--threads T]`.
//!
//! Prints what was done, or the first seed that failed, why, and the shortest history found that still fails.
//! `--seeds 1 --start SEED` replays a seed exactly; `--whole` prints its whole history.
//!
//! Built with `--cfg planted`, `simulate --mutations [--seeds N]` breaks each rule of the engine in turn and says which seed
//! noticed; it fails if one was not noticed in so many seeds. `--plant BUG` breaks one and goes on as above.
#![allow(
    clippy::disallowed_methods,
    reason = "says how long a run took; the engine in it has a clock of its own"
)]

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
    time::Instant,
};

/// Histories tried at most to make a failing one small.
const SHRINK_TRIES: usize = 1500;

fn main() -> ExitCode {
    let threads = option("--threads")
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |count| count.get() as u64));
    // A failing run that panics says so where it is reported.
    std::panic::set_hook(Box::new(|_| {}));
    if flag("--exhaustive") {
        return exhaustively(option("--length").unwrap_or(3) as u32, threads);
    }
    let seeds = Seeds {
        start: option("--start").unwrap_or(0),
        count: option("--seeds").unwrap_or(100),
        operations: option("--operations").unwrap_or(300),
        threads,
    };
    if flag("--mutations") {
        return mutations(&seeds);
    }
    let Ok(planted) = planted() else { return ExitCode::FAILURE };
    let begin = Instant::now();
    match seeds.run(planted) {
        Ok(report) => {
            println!(
                "{} seeds from {}, all as they must be, in {:.0?}",
                seeds.count,
                seeds.start,
                begin.elapsed()
            );
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(seed) => {
            seeds.tell_of(seed, planted);
            ExitCode::FAILURE
        }
    }
}

/// Seeds to be run.
struct Seeds {
    start: u64,
    count: u64,
    operations: u64,
    threads: u64,
}

impl Seeds {
    /// Runs them all, or says the smallest that failed.
    fn run(&self, planted: Planted) -> Result<RunReport, u64> {
        let next = AtomicU64::new(self.start);
        let end = self.start.saturating_add(self.count);
        let failure = AtomicU64::new(u64::MAX);
        let work = || {
            let mut total = RunReport::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                // A smaller seed that failed is the one to report.
                if seed >= end || seed > failure.load(Ordering::Relaxed) {
                    return total;
                }
                match run_with(&History::draw(seed, self.operations), planted) {
                    Ok(report) => total.add(report),
                    Err(_) => drop(failure.fetch_min(seed, Ordering::Relaxed)),
                }
            }
        };
        let mut total = RunReport::default();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(work)).collect();
            workers.into_iter().for_each(|worker| total.add(worker.join().expect("a run's panic is caught")));
        });
        match failure.into_inner() {
            u64::MAX => Ok(total),
            seed => Err(seed),
        }
    }

    fn tell_of(&self, seed: u64, planted: Planted) {
        let history = History::draw(seed, self.operations);
        let error = run_with(&history, planted).err().unwrap_or_default();
        println!("seed {seed} FAILED: {error}");
        if flag("--whole") {
            println!("{history}");
        } else {
            let small = shrink(&history, SHRINK_TRIES, &mut |history| run_with(history, planted).is_err());
            println!("the shortest history found: {small}");
            println!("which fails with: {}", run_with(&small, planted).err().unwrap_or_default());
        }
        println!("replay with: --seeds 1 --start {seed} --operations {}", self.operations);
    }
}

#[cfg(planted)]
type Planted = Option<crossdock::planted::Bug>;
/// Nothing can be planted in this build.
#[cfg(not(planted))]
type Planted = ();

#[cfg(planted)]
fn run_with(history: &History, planted: Planted) -> Result<RunReport, String> {
    crossdock::planted::plant(planted);
    run_caught(history)
}

#[cfg(not(planted))]
fn run_with(history: &History, (): Planted) -> Result<RunReport, String> {
    run_caught(history)
}

/// The bug that the arguments name.
#[cfg(planted)]
fn planted() -> Result<Planted, ()> {
    let Some(name) = std::env::args().skip_while(|argument| argument != "--plant").nth(1) else {
        return Ok(None);
    };
    let all = crossdock::planted::Bug::ALL;
    let bug = all.into_iter().find(|bug| format!("{bug:?}") == name);
    bug.map(Some).ok_or_else(|| println!("there is no bug {name}; there are {all:?}"))
}

#[cfg(not(planted))]
fn planted() -> Result<Planted, ()> {
    match flag("--plant") {
        true => {
            println!("built without `--cfg planted`: nothing can be planted");
            Err(())
        }
        false => Ok(()),
    }
}

/// Plants each bug in turn, and looks for a seed that notices.
#[cfg(planted)]
fn mutations(seeds: &Seeds) -> ExitCode {
    let mut unnoticed = Vec::new();
    for bug in crossdock::planted::Bug::ALL {
        let begin = Instant::now();
        match seeds.run(Some(bug)) {
            Err(seed) => {
                let error =
                    run_with(&History::draw(seed, seeds.operations), Some(bug)).err().unwrap_or_default();
                let error: String = error.chars().take(160).collect();
                println!("{bug:?}: noticed by seed {seed} in {:.1?}: {error}", begin.elapsed());
            }
            Ok(_) => {
                println!("{bug:?}: NOT NOTICED by {} seeds from {}", seeds.count, seeds.start);
                unnoticed.push(bug);
            }
        }
    }
    if unnoticed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(planted))]
fn mutations(_: &Seeds) -> ExitCode {
    println!("built without `--cfg planted`: there are no mutations in it");
    ExitCode::FAILURE
}

/// Every sequence of up to `length` operations, every crash of each.
fn exhaustively(length: u32, threads: u64) -> ExitCode {
    let all = Mutex::new((1..=length).flat_map(sequences));
    let failure = Mutex::new(None);
    let begin = Instant::now();
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
    println!("up to {length} operations: {tally:?} in {:.0?}", begin.elapsed());
    match failure.into_inner() {
        Ok(None) => ExitCode::SUCCESS,
        other => {
            println!("FAILED: {other:?}");
            ExitCode::FAILURE
        }
    }
}

fn flag(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}

fn option(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    arguments.next()?.parse().ok()
}
