//! `cargo xtask counts`: what one operation costs, in counts that a busy machine does not change, compared with the ones
//! under version control.
//!
//! Instructions come from callgrind, as the difference of two runs of one program that differ in how often they do the
//! operation. Allocations, copied bytes and system calls are counted by the program itself. A count that rose by more than
//! [`RISE_PERCENT`] fails the stage; whoever wants the rise writes the new count and the reason into `benches/counts.tsv`,
//! in the change that causes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cargo::{self, Build};
use crate::command::Line;
use crate::report::Verdict;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the counts that differ into benches/counts.tsv, with this reason
    #[arg(long, value_name = "REASON")]
    accept: Option<String>,
}

/// Counts may rise by so much without a word: another compiler inlines otherwise.
const RISE_PERCENT: f64 = 2.0;
/// A timer that comes due or a zone that is made adds a call to a round of many operations, and a busy machine brings completions one by
/// one that come together on a quiet one; what an operation does itself adds one to each.
const SYSTEM_CALLS_SPREAD: f64 = 0.5;
/// The units of what is called of the kernel.
const CALLS: [&str; 2] = ["system-calls", "ring-enters"];
const FILE: &str = "benches/counts.tsv";
/// The C library copies what is long by one instruction, whose every byte callgrind counts as one: here it is not to.
const TUNABLES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000";
/// How often an operation is done in the shorter and the longer of two runs.
const TIMES: (u64, u64) = (100, 400);

/// A line of the file: how many of a unit an operation costs, and why that changed last.
#[derive(Clone, Debug, PartialEq)]
struct Count {
    value: f64,
    reason: String,
}

/// By operation and unit.
type ByUnit<T> = BTreeMap<(String, String), T>;
type Counts = ByUnit<Count>;

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    let known = read(tree)?;
    let Some(measured) = measure(tree)? else {
        return Err("no valgrind here: cargo xtask install".to_owned());
    };
    let complaints = compare(&known, &measured, true);
    if let Some(reason) = &options.accept {
        write(tree, &known, &measured, reason)?;
        return Ok(true);
    }
    Ok(complaints.is_empty())
}

/// The stage of `cargo xtask test`: one check for each count.
pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    let known = read(tree)?;
    if known.is_empty() {
        return Ok(Verdict::skipped(
            1,
            "counts: none were taken yet: cargo xtask counts --accept 'the first'",
        ));
    }
    let Some(measured) = measure(tree)? else {
        return Ok(Verdict::skipped(1, "counts: no valgrind"));
    };
    let complaints = compare(&known, &measured, true);
    let mut verdict = Verdict::check(complaints.is_empty());
    verdict.counts.passed = (measured.len().saturating_sub(complaints.len())) as u64;
    verdict.counts.failed = complaints.len() as u64;
    verdict.notes.extend(complaints);
    Ok(verdict)
}

/// Says of each count how it differs; gives those that are no longer what the file says.
fn compare(known: &Counts, measured: &ByUnit<f64>, print: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for ((operation, unit), &value) in measured {
        let before = known.get(&(operation.clone(), unit.clone())).map(|count| count.value);
        let (verdict, bad) = match before {
            None => ("is not in the file".to_owned(), true),
            Some(before) => {
                let change = value - before;
                // Of few things one more is more than the percentage, and still within what is spread over a run.
                let spread = if CALLS.contains(&&**unit) { SYSTEM_CALLS_SPREAD } else { 0.05 };
                let allowed = (before * RISE_PERCENT / 100.0).max(spread);
                let percent = if before > 0.0 { change / before * 100.0 } else { 0.0 };
                if change > allowed {
                    (format!("rose by {percent:.1} % from {before}"), true)
                } else if change < -allowed {
                    (format!("fell by {:.1} % from {before}: say so in the file", -percent), false)
                } else {
                    (format!("{percent:+.1} %"), false)
                }
            }
        };
        if print {
            println!("{operation:<26} {unit:<16} {value:>12.2}   {verdict}");
        }
        if bad {
            complaints.push(format!("{operation}: {value:.2} {unit}, {verdict}"));
        }
    }
    for (operation, unit) in known.keys().filter(|key| !measured.contains_key(*key)) {
        complaints.push(format!("{operation}: {unit} stand in {FILE}, and nothing counts them"));
    }
    complaints
}

/// None if there is no valgrind.
fn measure(tree: &Tree) -> Result<Option<ByUnit<f64>>, String> {
    let Some(valgrind) = Tree::program("valgrind") else { return Ok(None) };
    if !cargo::simulator_and_counts(tree)? {
        return Err("benches/src/bin/counts does not build".to_owned());
    }
    let program = Build::Release.program(tree, "counts");
    let own = Line::new(&program, tree.root()).run_quiet()?;
    if !own.success {
        return Err(format!("counts failed: {}", own.output));
    }
    let mut measured = BTreeMap::new();
    for line in own.output.lines() {
        let (key, value) = counted(line).ok_or_else(|| format!("counts printed `{line}`"))?;
        measured.insert(key, value);
    }
    // What is counted in memory alone, without a kernel, is what callgrind can count.
    let calls = |name: &String| measured.contains_key(&(name.clone(), "system-calls".to_owned()));
    let in_memory = measured.keys().filter(|(name, unit)| unit == "allocations" && !calls(name));
    let in_memory: Vec<String> = in_memory.map(|(name, _)| name.clone()).collect();
    for operation in in_memory {
        let instructions = |times: u64| {
            let line = Line::new(&valgrind, tree.root())
                .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
                .args([&program])
                .args([&operation, &times.to_string()])
                .env("GLIBC_TUNABLES", TUNABLES);
            let done = line.run_quiet()?;
            collected(&done.output).ok_or_else(|| format!("callgrind said no total: {}", done.output))
        };
        let (short, long) = (instructions(TIMES.0)?, instructions(TIMES.1)?);
        let each = (long as f64 - short as f64) / (TIMES.1 - TIMES.0) as f64;
        measured.insert((operation, "instructions".to_owned()), each.round());
    }
    Ok(Some(measured))
}

/// Reads a line of the program: operation, unit and count.
fn counted(line: &str) -> Option<((String, String), f64)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [operation, unit, value] = fields.as_slice() else { return None };
    Some((((*operation).to_owned(), (*unit).to_owned()), value.parse().ok()?))
}

/// Reads callgrind's total: `==123== Collected : 4567`.
fn collected(output: &str) -> Option<u64> {
    let line = output.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

fn read(tree: &Tree) -> Result<Counts, String> {
    let text =
        std::fs::read_to_string(tree.path(FILE)).map_err(|error| format!("cannot read {FILE}: {error}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [operation, unit, value, reason] = fields.as_slice() else {
            return Err(format!("{FILE}: no four columns in `{line}`"));
        };
        let value = value.parse().map_err(|_| format!("{FILE}: `{value}` is no number"))?;
        // What has changed was changed by somebody, for a reason.
        if reason.trim().is_empty() {
            return Err(format!("{FILE}: no reason in `{line}`"));
        }
        let count = Count { value, reason: (*reason).to_owned() };
        if counts.insert(((*operation).to_owned(), (*unit).to_owned()), count).is_some() {
            return Err(format!("{FILE}: {operation} {unit} stands there twice"));
        }
    }
    Ok(counts)
}

const HEADING: &str = "\
# What one operation costs. `cargo xtask counts` compares, and fails where a count rose by more than 2 %. Whoever wants a rise
# writes it here, with the reason, in the change that causes it: `cargo xtask counts --accept 'REASON'`.
# Instructions are callgrind's, whose processor has no AVX-512 and no SHA extensions: they compare with each other only.
# System calls are those of a core, one operation after the other, those that wake it included: the least of several rounds. Those that
# enter the ring (io_uring_enter) are among them, and counted apart.
# What begins with http is a whole S3 request over a socket, which has no count of instructions.
# operation\tunit\tcount\twhy it is that
";

fn write(tree: &Tree, known: &Counts, measured: &ByUnit<f64>, reason: &str) -> Result<(), String> {
    let mut text = HEADING.to_owned();
    for ((operation, unit), &value) in measured {
        let before = known.get(&(operation.clone(), unit.clone()));
        // What did not change keeps its count and its reason, so that small steps can not add up unseen.
        let same = before.filter(|count| (count.value - value).abs() <= (count.value * 0.02).max(0.05));
        let (value, reason) = same.map_or((value, reason), |count| (count.value, count.reason.as_str()));
        // Writing to a string does not fail.
        let _ = writeln!(text, "{operation}\t{unit}\t{value}\t{reason}");
    }
    std::fs::write(tree.path(FILE), text).map_err(|error| format!("cannot write {FILE}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(operation: &str) -> (String, String) {
        (operation.to_owned(), "instructions".to_owned())
    }

    #[test]
    fn a_rise_fails_and_a_fall_does_not() {
        // 2 % more passes, 3 % more does not; a fall passes; what only one side knows does not.
        let known = parse("a\tinstructions\t1000\tfirst\nb\tinstructions\t0\tfirst\n").unwrap();
        let complaints =
            |a: f64, b: f64| compare(&known, &BTreeMap::from([(key("a"), a), (key("b"), b)]), false);
        assert!(complaints(1020.0, 0.0).is_empty());
        assert!(complaints(500.0, 0.0).is_empty());
        assert_eq!(complaints(1030.0, 1.0).len(), 2);
        let more = BTreeMap::from([(key("a"), 1.0), (key("c"), 1.0)]);
        assert_eq!(compare(&known, &more, false).len(), 2);
    }

    #[test]
    fn the_file_wants_reasons() {
        // Four columns, a number, a reason, and each count once.
        for bad in [
            "a\tinstructions\t1",
            "a\tinstructions\tx\twhy",
            "a\tinstructions\t1\t ",
            "a\tu\t1\tw\na\tu\t2\tw",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_of_the_program_are_read() {
        // Three columns, the last a number.
        assert_eq!(counted("get\tallocations\t1.50"), Some((("get".into(), "allocations".into()), 1.5)));
        assert_eq!(counted("get\tallocations"), None);
        assert_eq!(counted("get\tallocations\tmany"), None);
    }

    #[test]
    fn callgrind_s_total_is_read() {
        // The line with the total stands among others.
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 123456\n"), Some(123_456));
        assert_eq!(collected("valgrind: no such tool"), None);
    }
}
