//! `cargo xtask simulate`: the engine's simulator over a range of seeds.
//!
//! The simulator is an example of the engine package, built with the release profile. It gets `--seeds` and
//! `--start`, prints the first seed that failed and the shortest history that still does, and fails if there was one.

use crate::cargo;
use crate::command::Line;
use crate::report::Verdict;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Instead of seeds: every sequence of up to three operations, and every crash of each (some minutes)
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    exhaustive: bool,
    /// Passed on to the simulator as they are
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    if !cargo::has_program(tree, "example", "simulate")? {
        return Err(
            "this version of the engine has no simulator (examples/simulate of the crossdock package)".into(),
        );
    }
    let (seeds, start) = (options.seeds.to_string(), options.start.to_string());
    let what: &[&str] =
        if options.exhaustive { &["--exhaustive"] } else { &["--seeds", &seeds, "--start", &start] };
    let line = Line::new("cargo", tree.root())
        .args(["run", "--quiet", "--release", "--package", "crossdock", "--features", "testing"])
        .args(["--example", "simulate", "--"])
        .args(what)
        .args(&options.rest);
    Ok(line.run()?.success)
}

/// How many seeds the stage runs: about a minute, with its build.
const STAGE_SEEDS: u64 = 1000;

/// The stage of `cargo xtask test`: always the same seeds, so that a failure is one of the change under test.
pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    if !cargo::has_program(tree, "example", "simulate")? {
        return Ok(Verdict::skipped(1, "simulation: this version of the engine has no simulator"));
    }
    let options = Options { seeds: STAGE_SEEDS, start: 0, exhaustive: false, rest: Vec::new() };
    Ok(Verdict::check(run(tree, &options)?))
}
