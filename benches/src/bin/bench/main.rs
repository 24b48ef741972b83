//! The benchmarks: every figure beside its yardstick, taken in turns, and compared with what it must reach.
//!
//! `cargo xtask bench` builds the programs and runs this. It prints a table as it goes, and writes
//! `benches/RESULTS.md` and the plots beside it when all is done. It fails if a target is missed by more than the spread of
//! its rounds.

mod cpu;
mod digests;
mod disk;
mod engine;
mod http;
mod latency;
mod listing;
mod scaling;
mod shapes;
mod shared;

use crossdock_benches::{machine, report::Report};
use std::path::PathBuf;
use std::process::ExitCode;

/// How it is to be done.
pub(crate) struct Plan {
    /// Where stores and yardsticks lie.
    pub(crate) directory: PathBuf,
    /// Where our programs are.
    pub(crate) programs: PathBuf,
    /// Where the peers are installed; none: they are not asked, and what they reached once is the yardstick.
    pub(crate) peers: Option<PathBuf>,
    /// Many rounds, all sizes and five million objects, instead of a few minutes.
    pub(crate) full: bool,
}

impl Plan {
    /// How often each side of a comparison is taken.
    pub(crate) fn rounds(&self) -> usize {
        if self.full { 7 } else { 3 }
    }

    /// How long one measurement takes.
    pub(crate) fn seconds(&self) -> u32 {
        if self.full { 5 } else { 2 }
    }
}

type Part = fn(&Plan, &mut Report) -> Result<(), String>;

/// The parts, in the order of the document.
const PARTS: &[(&str, Part)] = &[
    ("digests", digests::measure),
    ("cpu", cpu::measure),
    ("disk", disk::measure),
    ("shared", shared::measure),
    ("http", http::measure),
    ("shapes", shapes::measure),
    ("listing", listing::measure),
    ("latency", latency::measure),
    ("scaling", scaling::measure),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    // One of the processes that a part starts.
    if let Some(name) = arguments.next().filter(|name| name == "fill" || name == "open") {
        return scaling::child(&name, &arguments.collect::<Vec<_>>());
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let programs = program.parent().expect("a program lies in a directory").to_path_buf();
    let mut plan = Plan { directory: std::env::temp_dir(), programs, peers: None, full: false };
    let (mut only, mut results) = (Vec::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--directory" => plan.directory = value()?.into(),
            "--peers" => plan.peers = Some(value()?.into()),
            "--results" => results = Some(PathBuf::from(value()?)),
            "--only" => only = value()?.split(',').map(str::to_owned).collect(),
            "--full" => plan.full = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    plan.directory = plan.directory.join(format!("crossdock-bench-{}", std::process::id()));
    std::fs::create_dir_all(&plan.directory).map_err(|error| error.to_string())?;
    let heading = heading(&plan);
    let mut report = Report::default();
    let done = parts(&plan, &only, &mut report);
    if let Err(error) = std::fs::remove_dir_all(&plan.directory) {
        eprintln!("bench: {} stays behind: {error}", plan.directory.display());
    }
    done?;
    let load = format!("\nLoad average at the end: {:.1}.\n", machine::load_average());
    if let Some(results) = &results {
        let write = |name: &str, text: &str| {
            let path = results.join(name);
            std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
        };
        for (name, text) in report.plots() {
            write(name, text)?;
        }
        write("RESULTS.md", &(report.markdown(&heading) + &load))?;
    }
    let missed = report.missed();
    println!(
        "\n{} targets missed by more than their spread{}",
        missed.len(),
        if missed.is_empty() { "" } else { ":" }
    );
    missed.iter().for_each(|name| println!("  {name}"));
    Ok(missed.is_empty() && report.failed().is_empty())
}

fn parts(plan: &Plan, only: &[String], report: &mut Report) -> Result<(), String> {
    if let Some(unknown) = only.iter().find(|name| !PARTS.iter().any(|(part, _)| part == name)) {
        let known: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        return Err(format!("no part `{unknown}`: there are {}", known.join(", ")));
    }
    for (name, part) in
        PARTS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|only| only == name))
    {
        if let Err(error) = part(plan, report) {
            // Half an hour of the others is not to be lost.
            report.fail(name, &error);
        }
    }
    Ok(())
}

fn heading(plan: &Plan) -> String {
    let machine: Vec<String> =
        machine::describe(&plan.directory).into_iter().map(|line| format!("* {line}\n")).collect();
    let kind = if plan.full { "`cargo xtask bench --full`" } else { "`cargo xtask bench`" };
    format!(
        "# Results\n\nWritten by {kind}; run it to get your own. Times of one machine are no figures for another: what counts is \
         each figure beside its yardstick, both taken in turns (A B B A) in this run, or counted in processor time, which does \
         not count what others use. The figure is the median of the rounds, *rounds* the least and the most of them. A target \
         counts as missed if no round reached it.\n\n{}* load average at the beginning: {:.1}: above 0.5 the machine was \
         shared, and what could not be taken in turns is worth less\n",
        machine.concat(),
        machine::load_average()
    )
}
