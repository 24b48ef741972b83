//! What a stage says when it is done, how runners' own totals are read, and the closing table.

use std::fmt;
use std::time::Duration;

/// How many tests passed, failed, and could not run here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// The result of one stage.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) counts: Counts,
    /// Lines for the closing table: why something was skipped or failed.
    pub(crate) notes: Vec<String>,
}

impl Verdict {
    /// One check that either holds or does not.
    pub(crate) fn check(holds: bool) -> Self {
        let counts = Counts { passed: u64::from(holds), failed: u64::from(!holds), skipped: 0 };
        Self { counts, notes: Vec::new() }
    }

    /// `count` tests that cannot run here.
    pub(crate) fn skipped(count: u64, reason: impl Into<String>) -> Self {
        Self { counts: Counts { skipped: count, ..Counts::default() }, notes: vec![reason.into()] }
    }

    /// A runner's own totals beside its exit code: a runner that failed without counting a failure (it did
    /// not compile, it crashed) is one failure.
    pub(crate) fn of_runner(mut counts: Counts, success: bool) -> Self {
        let mut notes = Vec::new();
        if !success && counts.failed == 0 {
            counts.failed = 1;
            notes.push("the runner failed before it counted a failure".to_owned());
        }
        if success && counts == Counts::default() {
            notes.push("the runner found no tests".to_owned());
        }
        Self { counts, notes }
    }

    pub(crate) fn add(&mut self, other: Verdict) {
        self.counts.add(other.counts);
        self.notes.extend(other.notes);
    }
}

/// Reads the totals of `cargo nextest run`: `Summary [ 1.2s] 5 tests run: 4 passed, 1 failed, 2 skipped`.
pub(crate) fn nextest_counts(output: &str) -> Counts {
    let Some((_, totals)) = output
        .lines()
        .rev()
        .find_map(|line| line.split_once(" tests run: ").or_else(|| line.split_once(" test run: ")))
    else {
        return Counts::default();
    };
    let mut counts = Counts::default();
    for (number, word) in numbered_words(totals) {
        match word {
            "passed" => counts.passed = number,
            "failed" | "exec" | "timed" => counts.failed += number,
            "skipped" => counts.skipped = number,
            _ => {}
        }
    }
    counts
}

/// Reads the totals of every `test result:` line of `cargo test`. Ignored tests are skipped tests.
pub(crate) fn libtest_counts(output: &str) -> Counts {
    let mut counts = Counts::default();
    for line in output.lines().filter(|line| line.starts_with("test result: ")) {
        for (number, word) in numbered_words(line) {
            match word {
                "passed" => counts.passed += number,
                "failed" => counts.failed += number,
                "ignored" => counts.skipped += number,
                _ => {}
            }
        }
    }
    counts
}

/// Reads the closing line of pytest: `== 3 passed, 1 skipped, 2 errors in 0.10s ==`.
pub(crate) fn pytest_counts(output: &str) -> Counts {
    let Some(line) = output.lines().rev().find(|line| {
        line.contains(" in ") && ["passed", "failed", "skipped", "error"].iter().any(|w| line.contains(w))
    }) else {
        return Counts::default();
    };
    let mut counts = Counts::default();
    for (number, word) in numbered_words(line) {
        match word {
            "passed" => counts.passed += number,
            // An expected failure that passed means the list of known failures is out of date.
            "failed" | "error" | "errors" | "xpassed" => counts.failed += number,
            "skipped" | "xfailed" => counts.skipped += number,
            _ => {}
        }
    }
    counts
}

/// Each number of `line` with the word after it.
fn numbered_words(line: &str) -> impl Iterator<Item = (u64, &str)> {
    let separators = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '=' | '(' | ')' | ':' | '.');
    let words: Vec<&str> = line.split(separators).filter(|word| !word.is_empty()).collect();
    let pairs: Vec<(u64, &str)> = words
        .windows(2)
        .filter_map(|pair| match pair {
            [number, word] => Some((number.parse().ok()?, *word)),
            _ => None,
        })
        .collect();
    pairs.into_iter()
}

/// The closing table: a row per stage.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(&'static str, Duration, Verdict)>,
}

impl Table {
    pub(crate) fn push(&mut self, stage: &'static str, elapsed: Duration, verdict: Verdict) {
        self.rows.push((stage, elapsed, verdict));
    }

    pub(crate) fn totals(&self) -> Counts {
        let mut totals = Counts::default();
        for (_, _, verdict) in &self.rows {
            totals.add(verdict.counts);
        }
        totals
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (stage, elapsed, verdict) in &self.rows {
            let seconds = elapsed.as_secs_f64();
            writeln!(formatter, "{stage:<28} {seconds:>8.1} s   {}", verdict.counts)?;
            for note in &verdict.notes {
                writeln!(formatter, "{:<28}              {note}", "")?;
            }
        }
        // Alone on the last line, so that a program can read it.
        write!(formatter, "{}", self.totals())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    #[test]
    fn nextest_totals_are_read() {
        // Every ending nextest can print, with its slow and leaky remarks, lands in the right column.
        let read = nextest_counts;
        assert_eq!(
            read("     Summary [   0.015s] 5 tests run: 5 passed (1 slow), 2 skipped\n"),
            counts(5, 0, 2)
        );
        assert_eq!(read("Summary [ 0.1s] 1 test run: 1 passed, 0 skipped"), counts(1, 0, 0));
        let all = "Summary [ 9.0s] 9 tests run: 4 passed (1 leaky), 2 failed, 1 exec failed, 2 timed out, 3 skipped";
        assert_eq!(read(all), counts(4, 5, 3));
        assert_eq!(read("error: could not compile `x`"), counts(0, 0, 0));
    }

    #[test]
    fn libtest_totals_are_summed() {
        // `cargo test` prints one total per binary; all of them count.
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(libtest_counts(output), counts(5, 4, 1));
    }

    #[test]
    fn pytest_totals_are_read() {
        // Errors in fixtures are failures; deselected tests are nobody's business.
        let output =
            "x\n=== 1 failed, 12 passed, 3 skipped, 7 deselected, 2 errors in 61.20s (0:01:01) ===\n";
        assert_eq!(pytest_counts(output), counts(12, 3, 3));
        assert_eq!(pytest_counts("2 passed in 0.10s\n"), counts(2, 0, 0));
    }

    #[test]
    fn a_runner_that_dies_is_a_failure() {
        // A runner that does not compile counts nothing, and must still fail the run.
        assert_eq!(Verdict::of_runner(Counts::default(), false).counts, counts(0, 1, 0));
        assert_eq!(Verdict::of_runner(counts(3, 0, 0), true).counts, counts(3, 0, 0));
        assert!(!Verdict::of_runner(Counts::default(), true).notes.is_empty());
    }

    #[test]
    fn the_closing_line_stands_alone() {
        // The last line holds the totals and nothing else.
        let mut table = Table::default();
        table.push("formatting", Duration::from_secs(1), Verdict::check(true));
        table.push("clients", Duration::from_secs(2), Verdict::skipped(4, "rclone is missing"));
        table.push("lints", Duration::from_secs(2), Verdict::check(false));
        assert_eq!(table.to_string().lines().last(), Some("1 passed, 1 failed, 4 skipped"));
    }
}
