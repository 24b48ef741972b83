//! The stages that are cargo's own: formatting, lints, documents, unit and integration tests.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::command::Line;
use crate::report::{Counts, Verdict, libtest_counts, nextest_counts};
use crate::tree::Tree;

/// Names the file to which a test that cannot run here appends one line, `test name: reason`. Such a test
/// returns as passed, because neither runner knows a third outcome; the line moves it to the skipped.
pub(crate) const SKIP_LOG: &str = "CROSSDOCK_SKIP_LOG";

pub(crate) fn cargo(tree: &Tree) -> Line {
    let program = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    // `cargo run` tells its child about xtask's own package; build scripts must not see that.
    Line::new(program, tree.root()).env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_MANIFEST_PATH")
}

fn check(tree: &Tree, arguments: &[&str]) -> Result<Verdict, String> {
    Ok(Verdict::check(cargo(tree).args(arguments).run()?.success))
}

pub(crate) fn formatting(tree: &Tree) -> Result<Verdict, String> {
    check(tree, &["fmt", "--all", "--check"])
}

pub(crate) fn lints(tree: &Tree) -> Result<Verdict, String> {
    let mut verdict =
        check(tree, &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // Targets that only run in the virtual machine are not among all targets.
    for (package, target) in crate::vm::elsewhere() {
        let which = ["clippy", "--quiet", "--package", package, "--test", target, "--", "-D", "warnings"];
        verdict.add(check(tree, &which)?);
    }
    Ok(verdict)
}

pub(crate) fn documents(tree: &Tree) -> Result<Verdict, String> {
    let line = cargo(tree).args(["doc", "--quiet", "--workspace", "--no-deps"]);
    Ok(Verdict::check(line.env("RUSTDOCFLAGS", "-D warnings").run()?.success))
}

/// Unit and integration tests of every package, the architecture test among them.
pub(crate) fn tests(tree: &Tree) -> Result<Verdict, String> {
    run_tests(tree, &["--workspace"], &[])
}

/// Examples in the documents of the libraries.
pub(crate) fn document_tests(tree: &Tree) -> Result<Verdict, String> {
    let done = cargo(tree).args(["test", "--quiet", "--workspace", "--doc"]).run()?;
    Ok(Verdict::of_runner(libtest_counts(&done.output), done.success))
}

/// The protocol alone, as an embedder builds it who brings his own server.
pub(crate) fn protocol_alone(tree: &Tree) -> Result<Verdict, String> {
    run_tests(tree, &["--package", "crossdock-s3", "--no-default-features"], &[])
}

#[derive(clap::Args)]
pub(crate) struct Coverage {
    /// Write the table instead of comparing it
    #[arg(long)]
    write: bool,
}

/// The table of S3 operations: made by the test that compares it.
pub(crate) fn coverage(tree: &Tree, options: &Coverage) -> Result<bool, String> {
    let line =
        cargo(tree).args(["test", "--quiet", "--package", "crossdock-s3", "--test", "it", "coverage::"]);
    let line = if options.write { line.env("CROSSDOCK_WRITE_TABLES", "1") } else { line };
    Ok(line.run()?.success)
}

/// What threads share without a lock, the arena's parts and the mailboxes of cores, under every interleaving of them, in a build of
/// its own.
pub(crate) fn thread_models(tree: &Tree) -> Result<Verdict, String> {
    let line = cargo(tree)
        .args([
            "test",
            "--quiet",
            "--release",
            "--package",
            "crossdock-transport",
            "--package",
            "crossdock",
            "--lib",
        ])
        .args(["--target-dir"])
        .args([tree.target().join("loom")])
        .args(["--", "loom"])
        .env("RUSTFLAGS", "--cfg loom");
    let done = line.run()?;
    Ok(Verdict::of_runner(libtest_counts(&done.output), done.success))
}

/// Runs the tests of one package in the build that all tests share, where there is a runner that can choose.
pub(crate) fn run_tests_of(
    tree: &Tree,
    package: &str,
    environment: &[(&str, &str)],
) -> Result<Verdict, String> {
    let filter = format!("package({package})");
    match has_nextest() {
        true => run_tests(tree, &["--workspace", "--filterset", &filter], environment),
        false => run_tests(tree, &["--package", package], environment),
    }
}

fn has_nextest() -> bool {
    Tree::program("cargo-nextest").is_some()
}

/// Runs the tests of the packages selected, with these environment variables.
pub(crate) fn run_tests(
    tree: &Tree,
    selection: &[&str],
    environment: &[(&str, &str)],
) -> Result<Verdict, String> {
    let log = tree.target().join("skipped-tests.log");
    if log.exists() {
        std::fs::remove_file(&log).map_err(|error| format!("cannot remove {}: {error}", log.display()))?;
    }
    let nextest = has_nextest();
    let line = if nextest {
        let quiet = ["--no-fail-fast", "--status-level", "slow", "--final-status-level", "slow"];
        cargo(tree).args(["nextest", "run"]).args(selection).args(quiet)
    } else {
        // Some tests look at counters of their process, and are to be alone in it: nextest gives each a process, here one runs at a
        // time.
        cargo(tree)
            .args(["test", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"])
            .args(selection)
            .args(["--", "--test-threads=1"])
    };
    let line = environment.iter().fold(line, |line, (name, value)| line.env(name, value));
    let done = line.env(SKIP_LOG, &log).run()?;
    let counts = if nextest { nextest_counts(&done.output) } else { libtest_counts(&done.output) };
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    Ok(with_skips(Verdict::of_runner(counts, done.success), &said))
}

/// Moves tests that said they could not run from the passed to the skipped.
fn with_skips(mut verdict: Verdict, log: &str) -> Verdict {
    let said: BTreeSet<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let count = u64::try_from(said.len()).expect("a count of lines fits").min(verdict.counts.passed);
    let Counts { passed, failed, skipped } = verdict.counts;
    verdict.counts = Counts { passed: passed - count, failed, skipped: skipped + count };
    verdict.notes.extend(said.into_iter().map(|line| format!("skipped: {line}")));
    verdict
}

/// Builds one test target, to be run elsewhere, and says where it is.
pub(crate) fn test_program(tree: &Tree, package: &str, target: &str) -> Result<PathBuf, String> {
    // With the whole workspace, as the other tests are built.
    let line = cargo(tree).args(["test", "--quiet", "--workspace", "--test", target, "--no-run"]);
    let done = line.args(["--message-format", "json"]).run_quiet()?;
    if !done.success {
        return Err(format!("the tests `{target}` of {package} do not build:\n{}", done.output));
    }
    // An artifact reads {"reason":"compiler-artifact",…,"target":{"kind":["test"],…,"name":"rdma",…},…,"executable":"/…",…}. A warning
    // about the same target reads alike, but for the reason and the program.
    let named = format!("\"name\":\"{target}\"");
    // "package_id":"path+file:///…/transport#crossdock-transport@0.1.0"
    let of_package = format!("#{package}@");
    let parts = ["\"reason\":\"compiler-artifact\"", "\"kind\":[\"test\"]", &named, &of_package];
    let artifact = |line: &&str| parts.iter().all(|part| line.contains(part));
    let path = done.output.lines().find(artifact).and_then(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(rest.split_once('"')?.0)
    });
    path.map(PathBuf::from).ok_or_else(|| format!("cargo names no program for the tests `{target}`"))
}

/// Which build of the programs is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// The one that people run.
    Release,
    /// The one that the tests share: it has assertions, and after the tests little of it is left to do.
    Tests,
}

impl Build {
    /// Builds these programs of a package.
    pub(crate) fn programs(self, tree: &Tree, package: &str, names: &[&str]) -> Result<bool, String> {
        let line = match self {
            Build::Release => {
                let line = cargo(tree).args(["build", "--quiet", "--release", "--package", package]);
                names.iter().fold(line, |line, name| line.args(["--bin", name]))
            }
            Build::Tests => of_tests(tree),
        };
        Ok(line.run()?.success)
    }

    /// Where a program lies then.
    pub(crate) fn program(self, tree: &Tree, name: &str) -> PathBuf {
        tree.target().join(self.directory()).join(name)
    }

    /// The same programs, as [`planted`] makes them.
    pub(crate) fn planted_programs(self, tree: &Tree, package: &str, names: &[&str]) -> Result<bool, String> {
        let line = cargo(tree).args(["build", "--quiet"]);
        let line = match self {
            Build::Release => line.args(["--release", "--package", package]),
            // Or the features of what they depend on would be others.
            Build::Tests => line.args(["--workspace"]),
        };
        let line = names.iter().fold(line, |line, name| line.args(["--bin", name]));
        Ok(planted(tree, line).run()?.success)
    }

    /// Where such a program lies.
    pub(crate) fn planted_program(self, tree: &Tree, name: &str) -> PathBuf {
        tree.planted_target().join(self.directory()).join(name)
    }

    fn directory(self) -> &'static str {
        match self {
            Build::Release => "release",
            Build::Tests => "debug",
        }
    }
}

/// Builds all tests and all programs. Together, because the features of a package are those of all that is built with it: a build of
/// one of them alone begins anew.
fn of_tests(tree: &Tree) -> Line {
    cargo(tree).args(["build", "--quiet", "--workspace", "--bins", "--tests"])
}

/// Makes of a build one in which rules of the engine can be broken, and that dies where it is told to. Only the
/// packages of this workspace are built for it; dependencies come from the ordinary build, through the directory for what
/// lies between (a cargo that does not know that setting builds everything anew, which only takes longer).
/// <https://doc.rust-lang.org/cargo/reference/environment-variables.html>
pub(crate) fn planted(tree: &Tree, line: Line) -> Line {
    line.args(["--target-dir"])
        .args([tree.planted_target()])
        .env("CARGO_BUILD_BUILD_DIR", tree.target())
        .env("RUSTC_WORKSPACE_WRAPPER", tree.path("xtask/planted-rustc"))
}

/// Builds the simulator and the program that counts, [`Build::Release`] both. Together, as [`of_tests`].
pub(crate) fn simulator_and_counts(tree: &Tree) -> Result<bool, String> {
    let line = cargo(tree).args(["build", "--quiet", "--release"]);
    let line = line.args(["--package", "crossdock", "--package", "crossdock-benches"]);
    let line = line.args(["--features", "crossdock/testing,crossdock-benches/counts"]);
    Ok(line.args(["--example", "simulate", "--bin", "counts"]).run()?.success)
}

/// The programs (`kind` is `bin` or `example`) that this version of the tree can build.
pub(crate) fn has_program(tree: &Tree, kind: &str, name: &str) -> Result<bool, String> {
    let done = cargo(tree).args(["metadata", "--no-deps", "--format-version", "1"]).run_quiet()?;
    if !done.success {
        return Err(format!("cargo metadata failed:\n{}", done.output));
    }
    // A target reads {"kind":["bin"],"crate_types":["bin"],"name":"s3-server",…
    let start = format!("{{\"kind\":[\"{kind}\"]");
    let named = format!("\"name\":\"{name}\"");
    Ok(done
        .output
        .split(&start)
        .skip(1)
        .any(|target| target.split_once('}').is_some_and(|(fields, _)| fields.contains(&named))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_could_not_run_is_not_a_passed_one() {
        // Two tests said they could not run, one of them twice: two move over, the failed stay.
        let counts = Counts { passed: 5, failed: 1, skipped: 0 };
        let verdict = with_skips(
            Verdict { counts, notes: Vec::new() },
            "rdma::write: no device\nrdma::write: no device\n\nraw: not root\n",
        );
        assert_eq!(verdict.counts, Counts { passed: 3, failed: 1, skipped: 2 });
        assert_eq!(verdict.notes.len(), 2);
    }
}
