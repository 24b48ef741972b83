//! `cargo xtask test`: the fixed list of stages, cheap to dear.

use std::time::Instant;

use crate::report::{Table, Verdict};
use crate::tree::Tree;
use crate::vm::Beside;
use crate::{cargo, clients, clock, counts, crash, fronts, fuzz, install, sanitize, simulate, verbs, vm};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the stages whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Print the stages and stop
    #[arg(long)]
    list: bool,
}

/// A stage: a name and what runs.
struct Stage {
    name: &'static str,
    run: Run,
}

/// How a stage goes.
enum Run {
    /// Others may go on beside it.
    Here(fn(&Tree) -> Result<Verdict, String>),
    /// It begins in its turn, and goes on beside those that follow.
    Beside(fn(&Tree) -> Result<Beside, String>),
    /// Nothing goes on beside it: it looks at times.
    Alone(fn(&Tree) -> Result<Verdict, String>),
}

/// Builds are shared: all but the simulation and the counts, which are of the release build, use the one of the tests, and so do the programs
/// that real clients, the machine and crashes are let loose on.
const STAGES: &[Stage] = &[
    Stage { name: "formatting", run: Run::Here(cargo::formatting) },
    Stage { name: "lints", run: Run::Here(cargo::lints) },
    Stage { name: "tests", run: Run::Here(cargo::tests) },
    Stage { name: "document tests", run: Run::Here(cargo::document_tests) },
    Stage { name: "documents", run: Run::Here(cargo::documents) },
    Stage { name: "protocol alone", run: Run::Here(cargo::protocol_alone) },
    Stage { name: "thread models", run: Run::Here(cargo::thread_models) },
    Stage { name: "address sanitizer", run: Run::Here(sanitize::stage) },
    Stage { name: "fuzz targets", run: Run::Here(fuzz::stage) },
    Stage { name: "verbs", run: Run::Here(verbs::stage) },
    Stage { name: "simulation", run: Run::Here(simulate::stage) },
    Stage { name: "counts", run: Run::Here(counts::stage) },
    Stage { name: "soft-RoCE", run: Run::Beside(vm::begin) },
    Stage { name: "clients", run: Run::Here(clients::stage) },
    Stage { name: "front ends", run: Run::Here(fronts::stage) },
    Stage { name: "crashes", run: Run::Alone(crash::stage) },
];

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    let wanted = |stage: &&Stage| options.only.as_ref().is_none_or(|only| stage.name.contains(only.as_str()));
    if options.list {
        STAGES.iter().filter(wanted).for_each(|stage| println!("{}", stage.name));
        return Ok(true);
    }
    for line in install::packages(tree) {
        println!("missing: {line}");
    }
    let mut table = Table::default();
    let mut begun: Vec<(&'static str, Instant, Beside)> = Vec::new();
    let end_all = |begun: &mut Vec<_>, table: &mut Table| {
        for (name, begin, beside) in begun.drain(..) {
            println!("\n=== {name}, beside the others ===");
            conclude(table, name, begin, Beside::end(beside));
        }
    };
    for stage in STAGES.iter().filter(wanted) {
        if matches!(stage.run, Run::Alone(_)) {
            end_all(&mut begun, &mut table);
        }
        println!("\n=== {} ===", stage.name);
        let begin = clock::now();
        match stage.run {
            Run::Here(run) | Run::Alone(run) => conclude(&mut table, stage.name, begin, run(tree)),
            Run::Beside(run) => match run(tree) {
                Ok(beside) => begun.push((stage.name, begin, beside)),
                Err(message) => conclude(&mut table, stage.name, begin, Err(message)),
            },
        }
    }
    end_all(&mut begun, &mut table);
    let totals = table.totals();
    if totals == crate::report::Counts::default() {
        return Err("no stage has that name; see --list".to_owned());
    }
    println!("\n=== summary ===\n{table}");
    Ok(totals.failed == 0)
}

/// Notes how a stage ended. One that can not even start is a failure; the stages after it still run.
fn conclude(table: &mut Table, name: &'static str, begin: Instant, verdict: Result<Verdict, String>) {
    let verdict = verdict.unwrap_or_else(|message| {
        let mut verdict = Verdict::check(false);
        verdict.notes.push(message);
        verdict
    });
    println!("{name}: {}", verdict.counts);
    table.push(name, begin.elapsed(), verdict);
}
