//! The store tool: looks at a store, open or closed, and at this host's RDMA devices, and changes nothing.
//!
//! Invariants:
//! * Everything it knows comes from `crossdock::inspect`; here are arguments, words and exit codes.
//! * The exit code says what was found: 0 all is well, 1 something is wrong with the store, 2 it could not be done.
//! * What is asked for goes to standard output, in lines that a program can read with `--json`; the rest to standard error.

mod clock;
mod dump;
mod fsck;
mod ls;
mod progress;
mod rdma_info;
mod report;
mod scrub;
mod stat;
mod units;
mod words;

use clap::{Parser, Subcommand};
use crossdock::{
    OpenError,
    inspect::{Access, Store},
};
use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

#[derive(Parser)]
#[command(name = "crossdock", about = "Looks at a Crossdock store. Nothing is ever changed.", version)]
#[command(
    after_help = "Exit code: 0 all is well, 1 something is wrong with the store, 2 it could not be done.
stat, ls, scrub and dump also read a store that a server has open; fsck wants it closed.

  crossdock stat /srv/store
  crossdock ls /srv/store photos/2026/ --json
  crossdock fsck /srv/store --data
  crossdock scrub /srv/store --rate 50M --state /var/lib/crossdock/scrub.json
  crossdock dump /srv/store object photos/2026/1.jpg
  crossdock dump /srv/store at 3 data 1048576
  crossdock rdma-info"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Sizes, counts and space of a store and its shards
    Stat(stat::Options),
    /// List buckets, or the objects of a bucket
    Ls(ls::Options),
    /// Check a closed store: every structure, every claim of space, and with --data every byte
    Fsck(fsck::Options),
    /// Read and verify all data, of a store in use too
    Scrub(scrub::Options),
    /// Say which RDMA devices this host has, whether they can be used, and why not
    RdmaInfo(rdma_info::Options),
    /// Show a structure in words: superblock, anchor, log, checkpoint, an object, or what lies at an offset
    Dump(dump::Options),
}

/// Where the store lies.
#[derive(clap::Args)]
struct StorePath {
    /// The store's directory or block device
    path: PathBuf,
    /// The store's other directories or devices, in the order the store knows them
    #[arg(long = "device", value_name = "PATH")]
    others: Vec<PathBuf>,
}

impl StorePath {
    fn open(&self, access: Access) -> Result<Store, Failure> {
        let paths: Vec<&PathBuf> = std::iter::once(&self.path).chain(&self.others).collect();
        Store::open(&paths, access).map_err(Failure::Open)
    }
}

/// Why something could not be done.
#[derive(Debug)]
enum Failure {
    Open(OpenError),
    Output(io::Error),
    Said(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        Failure::Open(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Open(error) => {
                write!(formatter, "{error}")?;
                // What the operating system said is a cause of its own.
                let mut cause = std::error::Error::source(error);
                while let Some(inner) = cause {
                    let text = inner.to_string();
                    if !error.to_string().contains(&text) {
                        write!(formatter, ": {text}")?;
                    }
                    cause = inner.source();
                }
                Ok(())
            }
            Failure::Output(error) => write!(formatter, "cannot write: {error}"),
            Failure::Said(text) => formatter.write_str(text),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut output = io::BufWriter::new(io::stdout().lock());
    let done = run(&arguments.task, &mut output).and_then(|clean| {
        output.flush()?;
        Ok(clean)
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Whoever closed the pipe has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("crossdock: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Does what was asked; says whether nothing is wrong with the store.
fn run(task: &Task, output: &mut dyn Write) -> Result<bool, Failure> {
    match task {
        Task::Stat(options) => stat::run(options, output),
        Task::Ls(options) => ls::run(options, output),
        Task::Fsck(options) => fsck::run(options, output),
        Task::Scrub(options) => scrub::run(options, output),
        Task::RdmaInfo(options) => rdma_info::run(options, output),
        Task::Dump(options) => dump::run(options, output),
    }
}

#[cfg(test)]
mod tests;
