//! An S3 client whose bytes go past HTTP: by RDMA, or over memory shared with a server on this host.
//!
//! ```text
//! rdma-client --rdma put holiday.jpg s3://photos/holiday.jpg
//! rdma-client --shm /run/crossdock.shm get s3://photos/holiday.jpg holiday.jpg
//! rdma-client --rdma --shm /run/crossdock.shm bench s3://photos/
//! ```

mod bench;
mod options;
mod plot;
mod session;
mod transfer;
mod upload;

use clap::Parser;
use crossdock_s3::client::Client;
use crossdock_transport::exposure::Session;
use options::{Command, Options};
use session::Carrier;
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
    if let Command::Bench(wanted) = &options.command {
        return bench::run(options, wanted, memory);
    }
    let mut client = session::plain(options, options.policy());
    match (options.rdma(), &options.shm) {
        (Some(wanted), None) => {
            let session = session::over_rdma(&mut client, options, &wanted, memory)?;
            let result = transfer(options, &mut client, &session, memory);
            session::end_rdma(&mut client, session);
            result
        }
        (None, Some(path)) => {
            let session = session::over_shm(&mut client, path, memory)?;
            transfer(options, &mut client, &session, memory)
        }
        _ => Err("say how the bytes go: --rdma, or --shm PATH".to_owned()),
    }
}

fn transfer<L: Carrier>(
    options: &Options,
    client: &mut Client,
    session: &Session<L>,
    memory: usize,
) -> Result<(), String> {
    match &options.command {
        Command::Put { file, target } => {
            transfer::put(client, session, memory, file, &target.for_file(file)?)
        }
        Command::Get { source, file } => transfer::get(client, session, memory, source, file),
        Command::Bench(_) => unreachable!("it has sessions of its own"),
    }
}
