//! `cargo xtask simulate`: the engine's simulator over a range of seeds, and what shows that it would notice.
//!
//! The simulator is an example of the engine package, built with the release profile. It gets `--seeds` and
//! `--start`, prints the first seed that failed and the shortest history that still does, and fails if there was one.
//!
//! The long mode is what can be said of the engine at all, in one command: many seeds, every crash of every short history,
//! and the engine with each of its rules broken in turn (a build of its own, `--cfg planted`: nothing of that is in any
//! other).

use crate::cargo::{self, Build};
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
    #[arg(long, conflicts_with_all = ["seeds", "start", "long", "mutations"])]
    exhaustive: bool,
    /// Instead of seeds: break each rule of the engine in turn, and find a seed that notices
    #[arg(long, conflicts_with_all = ["seeds", "start", "long"])]
    mutations: bool,
    /// 10 000 seeds, then all of the above
    #[arg(long, conflicts_with_all = ["seeds", "start"])]
    long: bool,
    /// Passed on to the simulator as they are
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Seeds of the long mode.
const LONG_SEEDS: &str = "10000";
/// In so many seeds each planted mistake must be noticed.
const MUTATION_SEEDS: &str = "1000";

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    if !cargo::has_program(tree, "example", "simulate")? {
        return Err(
            "this version of the engine has no simulator (examples/simulate of the crossdock package)".into(),
        );
    }
    if options.long {
        return long(tree, &options.rest);
    }
    if options.mutations {
        return mutations(tree, &options.rest);
    }
    let (seeds, start) = (options.seeds.to_string(), options.start.to_string());
    let what: &[&str] =
        if options.exhaustive { &["--exhaustive"] } else { &["--seeds", &seeds, "--start", &start] };
    simulator(tree, what, &options.rest)
}

/// Everything, to its end, whatever fails.
fn long(tree: &Tree, rest: &[String]) -> Result<bool, String> {
    let outcomes = [
        ("seeds", simulator(tree, &["--seeds", LONG_SEEDS], rest)?),
        ("every crash of every short history", simulator(tree, &["--exhaustive"], &[])?),
        ("mutations", mutations(tree, rest)?),
    ];
    for (name, held) in outcomes {
        println!("{} {name}", if held { "PASS" } else { "FAIL" });
    }
    Ok(outcomes.iter().all(|(_, held)| *held))
}

fn mutations(tree: &Tree, rest: &[String]) -> Result<bool, String> {
    let line = Line::new("cargo", tree.root())
        .args(["run", "--quiet", "--release", "--package", "crossdock", "--features", "testing"])
        .args(["--example", "simulate"]);
    let line = cargo::planted(tree, line);
    let line = line.args(["--", "--mutations", "--seeds", MUTATION_SEEDS]).args(rest);
    Ok(line.run()?.success)
}

fn simulator(tree: &Tree, what: &[&str], rest: &[String]) -> Result<bool, String> {
    if !cargo::simulator_and_counts(tree)? {
        return Err("the simulator does not build".to_owned());
    }
    let program = Build::Release.program(tree, "examples/simulate");
    Ok(Line::new(program, tree.root()).args(what).args(rest).run()?.success)
}

/// How many seeds the stage runs: about a minute, with its build.
const STAGE_SEEDS: u64 = 1000;

/// The stage of `cargo xtask test`: always the same seeds, so that a failure is one of the change under test.
pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    if !cargo::has_program(tree, "example", "simulate")? {
        return Ok(Verdict::skipped(1, "simulation: this version of the engine has no simulator"));
    }
    let seeds = STAGE_SEEDS.to_string();
    Ok(Verdict::check(simulator(tree, &["--seeds", &seeds], &[])?))
}
