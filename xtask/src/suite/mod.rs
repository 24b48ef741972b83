//! `cargo xtask suite`: the public suite that S3-compatible stores are compared by, ceph/s3-tests, against the server of this tree.
//!
//! Nothing of the suite is kept here. Which of its tests fail, and why, is in `s3-api/docs/s3-tests.md`: this runs the portable ones from
//! a checkout and compares. A test that fails and is not named there is a failure of this run, and so is one that is named and passes.

mod areas;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cargo::Build;
use crate::environments;
use crate::tree::Tree;
use areas::Areas;

/// Where the failures are explained that are expected.
const EXPLAINED: &str = "s3-api/docs/s3-tests.md";
/// Where a checkout of the suite is.
const CHECKOUT: &str = "S3TESTS_DIR";
/// The suite's files whose tests are run, of which the plugin takes the portable ones.
const FILES: [&str; 2] = ["s3tests/functional/test_s3.py", "s3tests/functional/test_headers.py"];
/// Longest that one test may take, in seconds.
const TEST_SECONDS: &str = "60";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A checkout of ceph/s3-tests [default: the variable S3TESTS_DIR]
    #[arg(long, value_name = "DIRECTORY")]
    checkout: Option<PathBuf>,
    /// The program to test [default: s3-server of this tree, built for release]
    #[arg(long, value_name = "PROGRAM")]
    server: Option<PathBuf>,
    /// Only tests whose name matches this regular expression
    #[arg(long, value_name = "EXPRESSION")]
    names: Option<String>,
    /// How many tests run at a time, each with a server of its own
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Write the table of areas into the document instead of comparing it
    #[arg(long, conflicts_with = "names")]
    write: bool,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    file: String,
    test: String,
    passed: bool,
    why: String,
}

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    let checkout = options.checkout.clone().or_else(|| std::env::var_os(CHECKOUT).map(PathBuf::from));
    let Some(checkout) = checkout.filter(|checkout| checkout.join(FILES[0]).is_file()) else {
        return Err(format!(
            "the public suite is not here: set {CHECKOUT}, or --checkout, to a checkout of ceph/s3-tests"
        ));
    };
    let checkout =
        std::path::absolute(&checkout).map_err(|error| format!("{}: {error}", checkout.display()))?;
    let build = Build::Release;
    if options.server.is_none() && !build.programs(tree, "crossdock-examples", &["s3-server"])? {
        return Ok(false);
    }
    let server = options.server.clone().unwrap_or_else(|| build.program(tree, "s3-server"));
    let server = std::path::absolute(&server).map_err(|error| format!("{}: {error}", server.display()))?;
    let python = environments::suite(tree, &checkout)?;
    let document = read(&tree.path(EXPLAINED))?;
    let expected = expected_failures(&document);
    let outcomes = run_all(tree, options, &checkout, &python, &server)?;
    if outcomes.is_empty() {
        return Err("no test was run".to_owned());
    }
    let areas = Areas::of(outcomes.iter().map(|outcome| (&*outcome.file, &*outcome.test, outcome.passed)));
    println!("\n{areas}");
    let surprises = surprises(&outcomes, &expected, options.names.is_some());
    surprises.iter().for_each(|surprise| println!("{surprise}"));
    let mut good = surprises.is_empty();
    if options.write {
        let written =
            areas.replaced(&document).ok_or_else(|| format!("{EXPLAINED} has no table of areas"))?;
        std::fs::write(tree.path(EXPLAINED), written).map_err(|error| format!("{EXPLAINED}: {error}"))?;
    } else if options.names.is_none() && areas.replaced(&document).is_none_or(|written| written != document) {
        println!("the table in {EXPLAINED} is another: run with --write");
        good = false;
    }
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    println!("{passed} of {} passed, {} are not as {EXPLAINED} says", outcomes.len(), surprises.len());
    Ok(good)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Tests that are to fail: every name in backticks of a document that is one of a test.
fn expected_failures(document: &str) -> BTreeSet<&str> {
    let quoted = document.split('`').skip(1).step_by(2);
    // Those of a test with parameters have them behind it, in brackets.
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || b"_-[]".contains(&byte);
    let is_name = |text: &&str| text.starts_with("test_") && text.bytes().all(belongs);
    quoted.filter(is_name).collect()
}

/// Where outcomes differ from what is expected. Of a selection nobody expects that all that is named was run.
fn surprises(outcomes: &[Outcome], expected: &BTreeSet<&str>, is_selection: bool) -> Vec<String> {
    let mut found = Vec::new();
    for Outcome { test, passed, why, .. } in outcomes {
        match (*passed, expected.contains(&**test)) {
            (false, false) => found.push(format!("failed, and is not explained: {test}: {why}")),
            (true, true) => found.push(format!("passed, and is said to fail: {test}")),
            _ => {}
        }
    }
    let run: BTreeSet<&str> = outcomes.iter().map(|outcome| &*outcome.test).collect();
    if !is_selection {
        let gone = expected.difference(&run);
        found.extend(gone.map(|test| format!("is said to fail, and is no portable test: {test}")));
    }
    found
}

/// Runs the suite in shares, side by side.
fn run_all(
    tree: &Tree,
    options: &Options,
    checkout: &Path,
    python: &Path,
    server: &Path,
) -> Result<Vec<Outcome>, String> {
    let directory = tree.target().join("suite");
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let jobs = options.jobs.max(1);
    let results = |index: usize| directory.join(format!("results-{index}.txt"));
    let mut begun: Vec<(usize, Child)> = Vec::new();
    for index in 0..jobs {
        let _ = std::fs::remove_file(results(index));
        let log = directory.join(format!("pytest-{index}.log"));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let second = file.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(python);
        command
            .current_dir(checkout)
            .args(["-m", "pytest", "-p", "plugin", "-p", "no:cacheprovider", "-q", "--tb=line"])
            .args(["--timeout", TEST_SECONDS])
            .args(FILES)
            .env("PYTHONPATH", tree.path("xtask/src/suite"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CROSSDOCK_SERVER", server)
            .env("SUITE_RESULTS", results(index))
            .env("SUITE_SHARE", format!("{index}/{jobs}"))
            .env("SUITE_NAMES", options.names.as_deref().unwrap_or_default())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(second);
        let child = command.spawn().map_err(|error| format!("cannot start pytest: {error}"))?;
        println!("share {index} of {jobs} runs; what it says goes to {}", log.display());
        begun.push((index, child));
    }
    let mut outcomes = Vec::new();
    let mut failed = None;
    // All of them are waited for, also where one did not come to its end.
    for (index, mut child) in begun {
        let waited = child.wait().map_err(|error| format!("cannot wait for pytest: {error}"));
        match waited.and_then(|_| read(&results(index))) {
            Ok(text) => outcomes.extend(text.lines().filter_map(outcome)),
            Err(error) => failed = Some(format!("share {index} came to no end: {error}")),
        }
    }
    outcomes.sort_by(|one, other| one.test.cmp(&other.test));
    failed.map_or(Ok(outcomes), Err)
}

/// A line that the plugin wrote.
fn outcome(line: &str) -> Option<Outcome> {
    let mut fields = line.splitn(4, '\t').map(str::to_owned);
    let (file, test, outcome) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Outcome { file, test, passed: outcome == "passed", why: fields.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(test: &str, passed: bool) -> Outcome {
        outcome(&format!("test_s3.py\t{test}\t{}\tsaid\tso", if passed { "passed" } else { "failed" }))
            .unwrap()
    }

    #[test]
    fn what_is_not_as_it_is_told_is_found() {
        // An unexplained failure, a failure that is none, and one that is not among the tests any more; and nothing else.
        let document = "`test_a[x-1]` and `test_gone`, `test_b`; `test_c_…` is no name, nor is `s3-tests`.";
        let expected = expected_failures(document);
        assert_eq!(Vec::from_iter(&expected), [&"test_a[x-1]", &"test_b", &"test_gone"]);
        let outcomes =
            [made("test_a[x-1]", false), made("test_b", true), made("test_c", true), made("test_d", false)];
        let found = surprises(&outcomes, &expected, false);
        assert_eq!(
            found,
            [
                "passed, and is said to fail: test_b",
                "failed, and is not explained: test_d: said\tso",
                "is said to fail, and is no portable test: test_gone",
            ]
        );
        assert_eq!(surprises(&outcomes, &expected, true).len(), 2);
        assert!(surprises(&outcomes[..1], &expected, true).is_empty());
    }
}
