//! The real S3 clients against the server.

use crate::cargo::{self, Build};
use crate::command::Line;
use crate::environments;
use crate::install;
use crate::report::{Verdict, pytest_counts};
use crate::tree::Tree;

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Only tests with these marks, as pytest's -m takes them: "basic", "multipart or copy", …
    #[arg(long, short = 'm')]
    marks: Option<String>,
    /// Test the server at this address instead of starting the one of this tree
    #[arg(long)]
    endpoint: Option<String>,
    /// Keep the requests of every client in this directory: s3-api/tests/captures
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "endpoint")]
    record: Option<std::path::PathBuf>,
    /// Passed on to pytest as they are
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    for line in install::packages(tree) {
        println!("missing: {line}");
    }
    let verdict = pytest(tree, options, Build::Release)?;
    for note in &verdict.notes {
        println!("{note}");
    }
    println!("{}", verdict.counts);
    Ok(verdict.counts.failed == 0)
}

/// The stage of `cargo xtask test`.
pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    pytest(tree, &Options::default(), Build::Tests)
}

fn pytest(tree: &Tree, options: &Options, build: Build) -> Result<Verdict, String> {
    if options.endpoint.is_none() {
        if !cargo::has_program(tree, "bin", "s3-server")? {
            return Ok(Verdict::skipped(
                1,
                "client tests: this version of the tree has no s3-server program",
            ));
        }
        if !build.programs(tree, "crossdock-examples", &["s3-server", "rdma-client"])? {
            return Ok(Verdict::check(false));
        }
    }
    let python = match environments::python(tree) {
        Ok(python) => python,
        Err(reason) => return Ok(Verdict::skipped(1, format!("client tests: {reason}"))),
    };
    let directory = tree.path("examples/tests/clients");
    // -rs prints the reason of every skip: a client that is not there is said aloud.
    let mut line = Line::new(python, &directory)
        .args(["-m", "pytest", "-rsfE", "--tb=short", "-q", "-p", "no:cacheprovider"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("CROSSDOCK_SERVER", build.program(tree, "s3-server"));
    for (name, value) in environments::apart(tree) {
        line = line.env(&name, value);
    }
    if let Some(record) = &options.record {
        let record = std::path::absolute(record).map_err(|error| format!("{}: {error}", record.display()))?;
        line = line.env("CROSSDOCK_RECORD", record);
    }
    if let Some(endpoint) = &options.endpoint {
        line = line.env("CROSSDOCK_ENDPOINT", endpoint);
    }
    if let Some(marks) = &options.marks {
        line = line.args(["-m", marks]);
    }
    let done = line.args(&options.rest).run()?;
    Ok(Verdict::of_runner(pytest_counts(&done.output), done.success))
}
