//! An S3 client whose bytes go past HTTP: by RDMA, or over memory shared with a server on this host.
//!
//! ```text
//! rdma-client --rdma put holiday.jpg s3://photos/holiday.jpg
//! rdma-client --shm /run/crossdock.shm get s3://photos/holiday.jpg holiday.jpg
//! rdma-client --rdma --shm /run/crossdock.shm bench s3://photos/
//! ```

mod bench;
mod crew;
#[path = "../s3-server/local_users.rs"]
mod local_users;
mod options;
mod plot;
mod server;
mod session;
mod transfer;
mod upload;

use clap::Parser;
use options::{Command, Options};
use session::Means;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("rdma-client: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let memory = options.memory_bytes()?;
    let means = match (options.rdma(), options.shm.clone()) {
        _ if matches!(options.command, Command::Bench(_)) => None,
        (Some(wanted), None) => Some(Means::Rdma(wanted)),
        (None, Some(path)) => Some(Means::Shm(path)),
        _ => None,
    };
    let means = means.ok_or_else(|| "say how the bytes go: --rdma, or --shm PATH".to_owned());
    match &options.command {
        Command::Put { file, target } => {
            transfer::put(options, &means?, memory, file, &target.for_file(file)?)
        }
        Command::Get { source, file } => transfer::get(options, &means?, memory, source, file),
        Command::Bench(wanted) => bench::run(options, wanted, memory),
    }
}
