//! The project's own commands: `cargo xtask test` and the pieces it is made of.
//!
//! Invariants:
//! * `cargo xtask test` runs everything that continuous integration runs, in one fixed order, cheap to dear.
//! * Nothing is skipped in silence: what cannot run here is named, with its reason, and counted as skipped.
//! * The last line of `test` is `N passed, N failed, N skipped`, and the exit code says the same.

mod bench;
mod cargo;
mod clients;
mod clock;
mod command;
mod counts;
mod crash;
mod environments;
mod fronts;
mod fuzz;
mod install;
mod report;
mod sanitize;
mod simulate;
mod stages;
mod suite;
mod tree;
mod verbs;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test stage, cheap to dear, and print the totals
    Test(stages::Options),
    /// Install what the stages need (Debian packages, a Python environment under target/) and say what is missing
    Install,
    /// Run the real S3 clients against the server
    Clients(clients::Options),
    /// Run the public suite ceph/s3-tests against the server, and compare with what is said of it
    Suite(suite::Options),
    /// Compare the table of S3 operations with what is done and with the tests that show it
    Coverage(cargo::Coverage),
    /// Kill the server, and cut the power of its disk, under load
    Crash(crash::Options),
    /// Run the engine's simulator over a range of seeds
    Simulate(simulate::Options),
    /// Run the unit tests of what has unsafe code, and of the engine on it, under AddressSanitizer
    Sanitize,
    /// Fuzz one target with libFuzzer
    Fuzz(fuzz::Options),
    /// Run the RDMA tests, or a command, in a virtual machine with a card made of software
    Vm(vm::Options),
    /// Count what one operation costs, and compare with the counts under version control
    Counts(counts::Options),
    /// Run the benchmarks, each a ratio against a yardstick of the same run
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let tree = tree::Tree::find();
    let result = match arguments.task {
        Task::Test(options) => stages::run(&tree, &options),
        Task::Install => Ok(install::run(&tree)),
        Task::Clients(options) => clients::run(&tree, &options),
        Task::Suite(options) => suite::run(&tree, &options),
        Task::Coverage(options) => cargo::coverage(&tree, &options),
        Task::Crash(options) => crash::run(&tree, &options),
        Task::Simulate(options) => simulate::run(&tree, &options),
        Task::Sanitize => sanitize::run(&tree),
        Task::Fuzz(options) => fuzz::run(&tree, &options),
        Task::Vm(options) => {
            install::packages(&tree).iter().for_each(|line| println!("missing: {line}"));
            vm::run(&tree, &options)
        }
        Task::Counts(options) => {
            install::packages(&tree).iter().for_each(|line| println!("missing: {line}"));
            counts::run(&tree, &options)
        }
        Task::Bench(options) => bench::run(&tree, &options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::from(2)
        }
    }
}
