//! `cargo xtask test`: the fixed list of stages, cheap to dear.

use crate::report::{Table, Verdict};
use crate::tree::Tree;
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
    run: fn(&Tree) -> Result<Verdict, String>,
}

/// Builds are shared: all but the simulation and the counts, which are of the release build, use the one of the tests, and so do the programs
/// that real clients, the machine and crashes are let loose on.
const STAGES: &[Stage] = &[
    Stage { name: "formatting", run: cargo::formatting },
    Stage { name: "lints", run: cargo::lints },
    Stage { name: "tests", run: cargo::tests },
    Stage { name: "document tests", run: cargo::document_tests },
    Stage { name: "documents", run: cargo::documents },
    Stage { name: "protocol alone", run: cargo::protocol_alone },
    Stage { name: "thread models", run: cargo::thread_models },
    Stage { name: "address sanitizer", run: sanitize::stage },
    Stage { name: "fuzz targets", run: fuzz::stage },
    Stage { name: "verbs", run: verbs::stage },
    Stage { name: "simulation", run: simulate::stage },
    Stage { name: "counts", run: counts::stage },
    Stage { name: "soft-RoCE", run: vm::stage },
    Stage { name: "clients", run: clients::stage },
    Stage { name: "front ends", run: fronts::stage },
    Stage { name: "crashes", run: crash::stage },
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
    for stage in STAGES.iter().filter(wanted) {
        println!("\n=== {} ===", stage.name);
        let begin = clock::now();
        // A stage that cannot even start is a failure; the stages after it still run.
        let verdict = (stage.run)(tree).unwrap_or_else(|message| {
            let mut verdict = Verdict::check(false);
            verdict.notes.push(message);
            verdict
        });
        println!("{}: {}", stage.name, verdict.counts);
        table.push(stage.name, begin.elapsed(), verdict);
    }
    let totals = table.totals();
    if totals == crate::report::Counts::default() {
        return Err("no stage has that name; see --list".to_owned());
    }
    println!("\n=== summary ===\n{table}");
    Ok(totals.failed == 0)
}
