//! What was measured, beside what it must reach; as a table for people and as a document for the project.

use crate::ratio::{Ratio, median, quantile};
use std::fmt::Write as _;
use std::time::Duration;

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
    /// Nothing: it is told so that others can be understood.
    None,
}

/// A figure, with how single rounds differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What it must reach.
    pub target: Target,
    /// The figure.
    pub value: f64,
    /// The least of single rounds, the one that a quarter of them do not exceed, the one that three quarters do not, the most.
    pub spread: [f64; 4],
    /// Of what: "of fio", "keys a second".
    pub unit: String,
    /// What explains it.
    pub note: String,
}

impl Row {
    /// A row of a comparison.
    pub fn ratio(name: impl Into<String>, target: Target, ratio: &Ratio, against: &str) -> Row {
        Row {
            name: name.into(),
            target,
            value: ratio.value(),
            spread: spread(&ratio.rounds()),
            unit: format!("of {against}"),
            note: String::new(),
        }
    }

    /// A row of a figure that was taken several times; the median counts.
    pub fn figures(name: impl Into<String>, target: Target, figures: &[f64], unit: &str) -> Row {
        Row {
            name: name.into(),
            target,
            value: median(figures),
            spread: spread(figures),
            unit: unit.to_owned(),
            note: String::new(),
        }
    }

    /// The same with an explanation.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    /// Whether it misses its target by more than its rounds differ: if the median does not reach it, nor the quartile that is better than
    /// the median. More rounds make neither easier. What is no number was not measured, and is missed whatever the target.
    pub fn is_missed(&self) -> bool {
        let [_, lower, upper, _] = self.spread;
        if !self.value.is_finite() || self.spread.iter().any(|figure| !figure.is_finite()) {
            return true;
        }
        match self.target {
            Target::AtLeast(least) => self.value < least && upper < least,
            Target::AtMost(most) => self.value > most && lower > most,
            Target::None => false,
        }
    }

    fn verdict(&self) -> &'static str {
        let reached = match self.target {
            Target::AtLeast(least) => self.value >= least,
            Target::AtMost(most) => self.value <= most,
            Target::None if self.is_missed() => return "NOT MEASURED",
            Target::None => return "",
        };
        match (reached, self.is_missed()) {
            (_, true) => "MISSED",
            (true, false) => "met",
            (false, false) => "within its spread",
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::AtLeast(least) => format!("≥ {}", number(least)),
            Target::AtMost(most) => format!("≤ {}", number(most)),
            Target::None => String::new(),
        }
    }
}

fn spread(rounds: &[f64]) -> [f64; 4] {
    [0.0, 0.25, 0.75, 1.0].map(|part| quantile(rounds, part))
}

/// A number with as many digits as mean something.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1000.0 {
        let digits = format!("{value:.0}");
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(' ');
            }
            text.push(digit);
        }
        text
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 0.1 || value == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Report {
    sections: Vec<Section>,
    plots: Vec<(String, String)>,
    failed: Vec<String>,
    times: Vec<(String, Duration)>,
}

#[derive(Debug)]
struct Section {
    title: String,
    introduction: String,
    rows: Vec<Row>,
    /// What follows the rows, in Markdown.
    after: String,
}

impl Report {
    /// Begins a section: what it is about, and how it is measured.
    pub fn section(&mut self, title: &str, introduction: &str) {
        println!("\n== {title} ==");
        let (title, introduction) = (title.to_owned(), introduction.to_owned());
        self.sections.push(Section { title, introduction, rows: Vec::new(), after: String::new() });
    }

    /// Adds a row to the section that was begun last, and prints it.
    ///
    /// # Panics
    /// When no section was begun.
    pub fn push(&mut self, row: Row) {
        println!(
            "{:<58} {:>10} {:<22} ({}) {:>10} {}",
            row.name,
            number(row.value),
            row.unit,
            row.spread.map(number).join(" "),
            row.target_text(),
            row.verdict()
        );
        if !row.note.is_empty() {
            println!("    {}", row.note);
        }
        self.last().rows.push(row);
    }

    /// Adds Markdown behind the section's rows, and prints it.
    pub fn text(&mut self, text: &str) {
        println!("{text}");
        let after = &mut self.last().after;
        after.push_str(text);
        after.push('\n');
    }

    /// A part of the run came to no end: says so in a section of its own, behind what was measured of it.
    pub fn fail(&mut self, part: &str, error: &str) {
        self.section(&format!("Not measured to its end: {part}"), error);
        println!("{error}");
        self.failed.push(part.to_owned());
    }

    /// A part is done, and took so long.
    pub fn took(&mut self, part: &str, time: Duration) {
        println!("({part}: {:.0} s)", time.as_secs_f64());
        self.times.push((part.to_owned(), time));
    }

    /// How long each part took, in a sentence.
    pub fn times(&self) -> String {
        let total: Duration = self.times.iter().map(|(_, time)| *time).sum();
        let parts = self.times.iter().map(|(part, time)| format!("{part} {:.0}", time.as_secs_f64()));
        let parts: Vec<String> = parts.collect();
        format!("The run took {:.0} seconds: {}.", total.as_secs_f64(), parts.join(", "))
    }

    /// The parts that came to no end.
    pub fn failed(&self) -> &[String] {
        &self.failed
    }

    /// Adds a plot, to be shown behind the rows of the section.
    pub fn plot(&mut self, name: &str, title: &str, svg: String) {
        self.plots.push((name.to_owned(), svg));
        let after = &mut self.last().after;
        // Writing to a string does not fail.
        let _ = writeln!(after, "\n![{title}]({name})");
    }

    /// The plots: file name and contents.
    pub fn plots(&self) -> impl Iterator<Item = (&str, &str)> {
        self.plots.iter().map(|(name, svg)| (name.as_str(), svg.as_str()))
    }

    fn last(&mut self) -> &mut Section {
        self.sections.last_mut().expect("a section was begun")
    }

    /// The names of the rows that miss their target by more than their rounds differ, or are no numbers.
    pub fn missed(&self) -> Vec<&str> {
        let rows = self.sections.iter().flat_map(|section| &section.rows);
        rows.filter(|row| row.is_missed()).map(|row| row.name.as_str()).collect()
    }

    /// The document.
    pub fn markdown(&self, heading: &str) -> String {
        let mut text = heading.to_owned();
        for section in &self.sections {
            let _ = write!(text, "\n## {}\n\n{}\n\n", section.title, section.introduction);
            if !section.rows.is_empty() {
                text.push_str(
                    "| what | measured | | quartiles | rounds | target | |\n|---|---|---|---|---|---|---|\n",
                );
            }
            for row in &section.rows {
                let [least, lower, upper, most] = row.spread.map(number);
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {lower} … {upper} | {least} … {most} | {} | {} |",
                    row.name,
                    number(row.value),
                    row.unit,
                    row.target_text(),
                    row.verdict()
                );
            }
            let notes: Vec<&Row> = section.rows.iter().filter(|row| !row.note.is_empty()).collect();
            if !notes.is_empty() {
                text.push('\n');
            }
            for row in notes {
                let _ = writeln!(text, "* {}: {}", row.name, row.note);
            }
            if !section.after.is_empty() {
                let _ = write!(text, "\n{}", section.after);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64, spread: [f64; 4], target: Target) -> Row {
        Row { name: "x".into(), target, value, spread, unit: String::new(), note: String::new() }
    }

    #[test]
    fn a_target_is_missed_beyond_the_quartiles() {
        // Reached; not reached but by a quarter of the rounds; not reached but by the best round. Both ways round.
        let at_least = |value, spread| row(value, spread, Target::AtLeast(1.0));
        assert_eq!(at_least(1.0, [0.5, 0.9, 1.1, 1.5]).verdict(), "met");
        assert_eq!(at_least(0.9, [0.5, 0.8, 1.0, 1.5]).verdict(), "within its spread");
        assert_eq!(at_least(0.9, [0.5, 0.8, 0.95, 1.5]).verdict(), "MISSED");
        let at_most = |value, spread| row(value, spread, Target::AtMost(1.0));
        assert_eq!(at_most(1.0, [0.5, 0.9, 1.1, 1.5]).verdict(), "met");
        assert_eq!(at_most(1.1, [0.9, 1.0, 1.2, 1.5]).verdict(), "within its spread");
        assert!(at_most(1.1, [0.9, 1.05, 1.2, 1.5]).is_missed());
        assert!(!row(9.0, [9.0; 4], Target::None).is_missed());
    }

    #[test]
    fn one_lucky_round_of_many_does_not_help() {
        // However many rounds there are, one that reaches the target by chance does not turn the verdict.
        for rounds in [5, 7, 15, 101] {
            let mut figures = vec![0.9; rounds];
            figures[rounds / 2] = 1.2;
            assert!(Row::figures("x", Target::AtLeast(1.0), &figures, "").is_missed(), "{rounds}");
        }
    }

    #[test]
    fn what_was_not_measured_is_missed() {
        // No rounds, nothing over nothing, and something over nothing are no figures, whatever the target says.
        for target in [Target::AtLeast(1.0), Target::AtMost(1.0), Target::None] {
            for figures in [&[][..], &[f64::NAN], &[1.0, f64::INFINITY, 1.0]] {
                let row = Row::figures("x", target, figures, "");
                assert!(row.is_missed(), "{row:?}");
                assert_eq!(row.verdict(), if target == Target::None { "NOT MEASURED" } else { "MISSED" });
            }
            let nothing = Ratio::take(3, || Ok::<f64, ()>(0.0), || Ok(0.0)).unwrap();
            assert!(Row::ratio("x", target, &nothing, "").is_missed());
        }
    }

    #[test]
    fn numbers_are_readable() {
        // Thousands are grouped, small ones keep their digits.
        let texts = [1_234_567.0, 999.4, 12.34, 0.5, 0.0123, 0.0].map(number);
        assert_eq!(texts, ["1 234 567", "999.4", "12.3", "0.50", "0.0123", "0.00"]);
    }

    #[test]
    fn the_document_holds_every_row_and_note() {
        // Sections, rows with verdicts, explanations, and what is missed.
        let mut report = Report::default();
        report.section("One", "How.");
        report.push(row(0.5, [0.4, 0.45, 0.55, 0.6], Target::AtLeast(1.0)).note("because"));
        report.text("more");
        let text = report.markdown("# Results\n");
        for part in ["# Results", "## One", "How.", "| x | 0.50 |", "MISSED", "* x: because", "more"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(report.missed(), ["x"]);
        // What fails before it has begun a section has one, too.
        let mut report = Report::default();
        report.fail("disk", "no fio");
        report.took("disk", Duration::from_secs(3));
        assert_eq!(report.failed(), ["disk"]);
        let text = report.markdown("") + &report.times();
        for part in ["## Not measured to its end: disk", "no fio", "The run took 3 seconds: disk 3."] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
