//! Sessions with a server, and workers that have one: what carries bytes, whichever way that is.

use crate::options::{Options, RdmaOption};
use crossdock_s3::client::{Client, Credentials, Policy, Way};
use crossdock_transport::{
    exposure::{Buffer, Link, Session},
    loopback::{LoopbackLink, LoopbackPeer},
    rdma::{RdmaClient, RdmaClientOptions, RdmaLink},
    shm::{PeerCredentials, ShmClient, ShmLink, same_user_or_root},
};
use std::{
    ops::Range,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Which way the bytes are to go.
#[derive(Clone, Debug)]
pub(crate) enum Means {
    Rdma(RdmaOption),
    Shm(PathBuf),
    Http,
}

impl Means {
    /// As in a table.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Means::Rdma(_) => "rdma",
            Means::Shm(_) => "shm",
            Means::Http => "http",
        }
    }

    /// As in a sentence.
    pub(crate) fn spoken(&self) -> &'static str {
        match self {
            Means::Rdma(_) => "RDMA",
            Means::Shm(_) => "shared memory",
            Means::Http => "HTTP",
        }
    }
}

/// What became of a request.
pub(crate) struct Done {
    pub(crate) bytes: usize,
    pub(crate) way: Way,
    pub(crate) rail: Option<Box<str>>,
    pub(crate) etag: String,
}

/// Somebody with a session and a buffer in it, who does one thing after the other. Stays on its thread, as its memory does.
pub(crate) trait Worker {
    /// Has a buffer of so many bytes from now on.
    fn prepare(&mut self, bytes: usize) -> Result<(), String>;

    /// The buffer.
    fn bytes(&mut self) -> Result<&mut [u8], String>;

    /// Stores the first bytes of the buffer as an object.
    fn put(&mut self, object: (&str, &str), bytes: usize) -> Result<Done, String>;

    /// Stores them as a part of an upload.
    fn put_part(
        &mut self,
        object: (&str, &str),
        upload: &str,
        number: u16,
        bytes: usize,
    ) -> Result<Done, String>;

    /// Fetches an object, or a range of it, to the front of the buffer.
    fn get(&mut self, object: (&str, &str), range: Option<Range<u64>>) -> Result<Done, String>;

    /// For what moves no bytes.
    fn client(&mut self) -> &mut Client;

    /// Ends the session.
    fn finish(self: Box<Self>);
}

struct Over<L: Link> {
    client: Client,
    session: Session<L>,
    buffer: Option<Buffer<L>>,
    finish: fn(&mut Client, Session<L>),
}

impl<L: Link> Over<L> {
    fn take(&mut self) -> Result<Buffer<L>, String> {
        self.buffer.take().ok_or_else(|| "the buffer is in quarantine".to_owned())
    }
}

impl<L: Link> Worker for Over<L> {
    fn prepare(&mut self, bytes: usize) -> Result<(), String> {
        self.buffer = None;
        self.buffer = Some(self.session.buffer(bytes).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn bytes(&mut self) -> Result<&mut [u8], String> {
        self.buffer.as_deref_mut().ok_or_else(|| "the buffer is in quarantine".to_owned())
    }

    fn put(&mut self, (bucket, key): (&str, &str), bytes: usize) -> Result<Done, String> {
        let buffer = self.take()?;
        let stored = self.client.put_from(bucket, key, &[], buffer, bytes);
        let stored = stored.map_err(|failed| failed.error.to_string())?;
        let etag = stored.head.get("etag").unwrap_or_default().to_owned();
        self.buffer = Some(stored.buffer);
        Ok(Done { bytes, way: stored.way, rail: stored.rail, etag })
    }

    fn put_part(
        &mut self,
        object: (&str, &str),
        upload: &str,
        number: u16,
        bytes: usize,
    ) -> Result<Done, String> {
        let buffer = self.take()?;
        let stored = self.client.put_part_from(object, upload, number, buffer, bytes);
        let stored = stored.map_err(|failed| failed.error.to_string())?;
        let etag = stored.head.get("etag").unwrap_or_default().to_owned();
        self.buffer = Some(stored.buffer);
        Ok(Done { bytes, way: stored.way, rail: stored.rail, etag })
    }

    fn get(&mut self, (bucket, key): (&str, &str), range: Option<Range<u64>>) -> Result<Done, String> {
        let buffer = self.take()?;
        let got = self.client.get_into(bucket, key, range, buffer);
        let got = got.map_err(|failed| failed.error.to_string())?;
        let etag = got.head.get("etag").unwrap_or_default().to_owned();
        self.buffer = Some(got.buffer);
        Ok(Done { bytes: got.bytes, way: got.way, rail: got.rail, etag })
    }

    fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    fn finish(self: Box<Self>) {
        let Over { mut client, session, buffer, finish } = *self;
        drop(buffer);
        finish(&mut client, session);
    }
}

/// A worker with a session of `memory` bytes, which goes no other way if `policy` says so.
pub(crate) fn worker(
    options: &Options,
    means: &Means,
    policy: Policy,
    memory: usize,
) -> Result<Box<dyn Worker>, String> {
    let mut client = plain(options, policy)?;
    Ok(match means {
        Means::Rdma(wanted) => {
            let session = over_rdma(&mut client, options, wanted, memory)?;
            Box::new(Over { client, session, buffer: None, finish: end_rdma })
        }
        Means::Shm(path) => {
            let session = over_shm(&mut client, options, path, memory)?;
            Box::new(Over { client, session, buffer: None, finish: |_, session| drop(session) })
        }
        Means::Http => {
            // Buffers that nobody else reaches.
            let session = Session::new(LoopbackLink::new(LoopbackPeer::new(0)));
            let client = client.policy(Policy::Off);
            Box::new(Over { client, session, buffer: None, finish: |_, session| drop(session) })
        }
    })
}

#[allow(clippy::disallowed_methods, reason = "a command has the system's clock")]
fn now() -> u64 {
    // Before 1970 no signature is good anyway.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A client without a session.
pub(crate) fn plain(options: &Options, policy: Policy) -> Result<Client, String> {
    let credentials = Credentials {
        access_key: options.access_key.as_str().into(),
        secret: options.secret_key.as_str().into(),
        region: options.region().into(),
    };
    let client = Client::new(&options.server.to_string(), credentials, now).policy(policy);
    Ok(match options.server.tls(options.ca_file.as_deref())? {
        Some(settings) => client.tls(settings),
        None => client,
    })
}

/// A session of shared memory, with `memory` bytes.
fn over_shm(
    client: &mut Client,
    options: &Options,
    path: &Path,
    memory: usize,
) -> Result<Session<ShmLink>, String> {
    let path_shown = path.display();
    let named = |user| options.shm_server_user.as_ref().is_some_and(|users| users.has(user));
    let trusted = |server: &PeerCredentials| same_user_or_root(server) || named(server.user);
    let shared = ShmClient::connect(path, memory as u64, trusted)
        .map_err(|error| format!("no shared memory with the server at {path_shown}: {error}"))?;
    client.bind_shm(shared).map_err(|error| format!("{path_shown}: {error}"))
}

/// A session by RDMA, with `memory` bytes.
fn over_rdma(
    client: &mut Client,
    options: &Options,
    wanted: &RdmaOption,
    memory: usize,
) -> Result<Session<RdmaLink>, String> {
    let mut sequence = [0; 4];
    getrandom::fill(&mut sequence).map_err(|error| format!("no random numbers: {error}"))?;
    let card = RdmaClient::new(&RdmaClientOptions {
        device: wanted.device.clone(),
        server: Some(options.server.address()?.ip()),
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
fn end_rdma(client: &mut Client, session: Session<RdmaLink>) {
    let name = session.link().session();
    // First nothing can reach the memory any more.
    drop(session);
    if let Some(error) = name.and_then(|name| client.disconnect(name).err()) {
        eprintln!("rdma-client: the session was not ended: {error}");
    }
}
