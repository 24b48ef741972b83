//! Runs seeds of the simulator: `simulate [--seeds N] [--start S] [--operations M]`.
//!
//! Prints what was done, or the first seed that failed and why; `--seeds 1 --start SEED` replays it exactly.

use crossdock::testing::run::{RunReport, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let seeds = option("--seeds").unwrap_or(100);
    let start = option("--start").unwrap_or(0);
    let operations = option("--operations").unwrap_or(300);
    let mut total = RunReport::default();
    for seed in start..start.saturating_add(seeds) {
        match run(seed, operations) {
            Ok(report) => total.add(report),
            Err(error) => {
                println!("seed {seed} FAILED: {error}");
                println!("replay with: --seeds 1 --start {seed} --operations {operations}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!(
        "{seeds} seeds from {start}: {} operations, {} power cuts, {} writes lost or torn by them, {} steps, {:.1} simulated seconds",
        total.operations,
        total.crashes,
        total.lost_writes,
        total.steps,
        total.elapsed_ns as f64 / 1e9,
    );
    ExitCode::SUCCESS
}

fn option(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    arguments.next()?.parse().ok()
}
