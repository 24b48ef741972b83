//! Sessions with a server: how they are made and ended.

use crate::options::{Options, RdmaOption};
use crossdock_s3::client::{Client, Credentials, Policy};
use crossdock_transport::{
    exposure::{Link, Session},
    rdma::{RdmaClient, RdmaClientOptions, RdmaLink},
    shm::{ShmClient, ShmLink, same_user_or_root},
};
use std::{path::Path, time::SystemTime};

/// What carries the bytes.
pub(crate) trait Carrier: Link {
    /// As in a table.
    const NAME: &'static str;
    /// As in a sentence.
    const SPOKEN: &'static str;
}

impl Carrier for ShmLink {
    const NAME: &'static str = "shm";
    const SPOKEN: &'static str = "shared memory";
}

impl Carrier for RdmaLink {
    const NAME: &'static str = "rdma";
    const SPOKEN: &'static str = "RDMA";
}

#[allow(clippy::disallowed_methods, reason = "a command has the system's clock")]
fn now() -> u64 {
    // Before 1970 no signature is good anyway.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A client without a session: its bytes go over HTTP.
pub(crate) fn plain(options: &Options, policy: Policy) -> Client {
    let credentials = Credentials {
        access_key: options.access_key.as_str().into(),
        secret: options.secret_key.as_str().into(),
        region: options.region.as_str().into(),
    };
    Client::new(&options.server.to_string(), credentials, now).policy(policy)
}

/// A session of shared memory, with `memory` bytes.
pub(crate) fn over_shm(client: &mut Client, path: &Path, memory: usize) -> Result<Session<ShmLink>, String> {
    let path_shown = path.display();
    let shared = ShmClient::connect(path, memory as u64, same_user_or_root)
        .map_err(|error| format!("no shared memory with the server at {path_shown}: {error}"))?;
    client.bind_shm(shared).map_err(|error| format!("{path_shown}: {error}"))
}

/// A session by RDMA, with `memory` bytes.
pub(crate) fn over_rdma(
    client: &mut Client,
    options: &Options,
    wanted: &RdmaOption,
    memory: usize,
) -> Result<Session<RdmaLink>, String> {
    let mut sequence = [0; 4];
    getrandom::fill(&mut sequence).map_err(|error| format!("no random numbers: {error}"))?;
    let card = RdmaClient::new(&RdmaClientOptions {
        device: wanted.device.clone(),
        server: Some(options.server.ip()),
        bytes: memory,
        revocation: None,
        sequence: u32::from_le_bytes(sequence),
        messages: false,
        notices: true,
    });
    let card = card.map_err(|error| format!("no RDMA here: {error}"))?;
    client.connect_rdma(card).map_err(|error| format!("no session by RDMA: {error}"))
}

/// Ends a session by RDMA, which the server would keep for minutes otherwise.
pub(crate) fn end_rdma(client: &mut Client, session: Session<RdmaLink>) {
    let name = session.link().session();
    // First nothing can reach the memory any more.
    drop(session);
    if let Some(error) = name.and_then(|name| client.disconnect(name).err()) {
        eprintln!("rdma-client: the session was not ended: {error}");
    }
}
