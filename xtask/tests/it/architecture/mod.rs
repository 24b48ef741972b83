//! The rules of ARCHITECTURE.md that a program can check, checked on the sources as they lie in the tree.
//!
//! A rule is a function from sources to [`Finding`]s. It is run twice: on the tree, where it must find nothing,
//! and on a small bad sample, where it must find the fault: a rule that cannot fail proves nothing.

mod chain;
mod documents;
mod scan;
mod sources;

use std::fmt;
use std::path::Path;

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `path:line`, or a path alone.
    pub(crate) place: String,
    /// What is wrong, and what to do instead.
    pub(crate) message: String,
}

impl Finding {
    pub(crate) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.place, self.message)
    }
}

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies one level below the root")
}

/// Fails with every finding, one a line.
#[track_caller]
fn assert_clean(rule: &str, findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(|finding| format!("  {finding}")).collect();
    assert!(findings.is_empty(), "{rule}\n{}", lines.join("\n"));
}

/// Fails unless the rule found faults in exactly these places of its bad sample.
#[track_caller]
fn assert_found(findings: &[Finding], places: &[&str]) {
    let found: Vec<&str> = findings.iter().map(|finding| finding.place.as_str()).collect();
    assert_eq!(found, places, "the rule does not see what it must: {findings:?}");
}
