//! The benchmarks: every figure beside its yardstick, taken in turns, and compared with what it must reach.
//!
//! `cargo xtask bench` builds the programs and runs this. It prints a table as it goes, and writes
//! `benches/RESULTS.md` and the plots beside it when all is done. It fails if a target is missed by more than its rounds
//! differ.

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

use crossdock_benches::{fio::Yardstick, machine, report::Report};
use std::cell::OnceCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

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
    laid_out: OnceCell<Yardstick>,
}

/// What fio works on: as much as the large objects of a store take together.
const YARDSTICK_BYTES: u64 = 1 << 30;

impl Plan {
    /// The file that fio reads and overwrites, written to its end when the first part asks for it.
    pub(crate) fn yardstick(&self) -> Result<&Yardstick, String> {
        if let Some(yardstick) = self.laid_out.get() {
            return Ok(yardstick);
        }
        let yardstick = Yardstick::lay_out(&self.directory, YARDSTICK_BYTES)?;
        Ok(self.laid_out.get_or_init(|| yardstick))
    }

    /// What must be known of the yardstick, for the introduction of a section.
    pub(crate) fn yardstick_text(&self) -> Result<String, String> {
        let yardstick = self.yardstick()?;
        Ok(format!(
            "fio works on a file of {} MiB that was written to its end before, so that it reads and overwrites blocks that \
             exist{}.",
            yardstick.bytes() >> 20,
            if yardstick.is_watched() {
                "; what it reads is compared with what the device says that it read"
            } else {
                " (this file system has no device of its own whose counters could confirm that)"
            }
        ))
    }

    /// How often each side of a comparison is taken.
    pub(crate) fn rounds(&self) -> usize {
        if self.full { 7 } else { 3 }
    }

    /// How long one measurement takes.
    pub(crate) fn seconds(&self) -> u32 {
        if self.full { 5 } else { 2 }
    }

    /// Rounds of a part that takes what others let it: so many at most, and none is begun beyond `budget` once there are three.
    #[allow(clippy::disallowed_methods, reason = "a benchmark has no reactor to ask for the time")]
    pub(crate) fn rounds_within(&self, most: usize, budget: Duration) -> impl Iterator<Item = usize> + use<> {
        let begin = Instant::now();
        (0..most).take_while(move |round| *round < 3 || begin.elapsed() < budget)
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
    let mut plan = Plan {
        directory: std::env::temp_dir(),
        programs,
        peers: None,
        full: false,
        laid_out: OnceCell::new(),
    };
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
    println!("\n{}", report.times());
    let load = format!("\n{}\nLoad average at the end: {:.1}.\n", report.times(), machine::load_average());
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
    println!("\n{} rows missed{}", missed.len(), if missed.is_empty() { "" } else { ":" });
    missed.iter().for_each(|name| println!("  {name}"));
    Ok(missed.is_empty() && report.failed().is_empty())
}

#[allow(clippy::disallowed_methods, reason = "a benchmark has no reactor to ask for the time")]
fn parts(plan: &Plan, only: &[String], report: &mut Report) -> Result<(), String> {
    if let Some(unknown) = only.iter().find(|name| !PARTS.iter().any(|(part, _)| part == name)) {
        let known: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        return Err(format!("no part `{unknown}`: there are {}", known.join(", ")));
    }
    for (name, part) in
        PARTS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|only| only == name))
    {
        let begin = Instant::now();
        if let Err(error) = part(plan, report) {
            // Half an hour of the others is not to be lost.
            report.fail(name, &error);
        }
        report.took(name, begin.elapsed());
    }
    Ok(())
}

fn heading(plan: &Plan) -> String {
    let machine: Vec<String> =
        machine::describe(&plan.directory).into_iter().map(|line| format!("* {line}\n")).collect();
    let kind = match (plan.full, plan.peers.is_some()) {
        (true, true) => "`cargo xtask bench --full --peers`",
        (true, false) => "`cargo xtask bench --full`",
        (false, true) => "`cargo xtask bench --peers`",
        (false, false) => "`cargo xtask bench`",
    };
    format!(
        "# Results\n\nWritten by {kind}; run it to get your own. Times of one machine are no figures for another: what counts is \
         each figure beside its yardstick, both taken in turns (A B B A) in this run, or counted in processor time, which does \
         not count what others use. The figure is the median of the rounds; *quartiles* is what a quarter and three quarters of \
         the rounds do not exceed, *rounds* the least and the most of them. A target counts as *missed* if the median does not \
         reach it, nor the better quartile: so one lucky round of many does not help, nor one unlucky one hurt. Where the median \
         does not reach it and the better quartile does, it is *within its spread*. A figure that came to no number is missed. \
         Ratios to other servers are targets only where these were measured in the same run (`--peers`).\n\n{}* load average at the beginning: {:.1}: above 0.5 the machine was \
         shared, and what could not be taken in turns is worth less\n",
        machine.concat(),
        machine::load_average()
    )
}
