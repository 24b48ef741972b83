//! A mixed load of several clients, each of whom writes down what he was told.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use fastrand::Rng;

use super::client::{Client, Reply, sha256, value_of};
use super::record::{Record, Ticket, Value};
use super::uploads::Uploads;
use crate::clock;

pub(crate) const BUCKET: &str = "crash";
const CLIENTS: usize = 6;
/// Few enough that keys are written again and again, under every size.
const KEYS_PER_CLIENT: u32 = 24;
/// Written by all clients at once.
const SHARED_KEYS: u32 = 4;

/// What the clients share.
#[derive(Default)]
pub(crate) struct Journal {
    record: Mutex<Record>,
    /// Of the buckets that clients make, change and delete.
    buckets: Mutex<Record>,
    /// Uploads that were begun and not ended, as far as anybody was told.
    uploads: Mutex<Uploads>,
    /// Clients are to end.
    stopped: AtomicBool,
    /// The server may end at any moment.
    may_end: AtomicBool,
    operation_count: AtomicU64,
    /// What should never happen, crash or not.
    faults: Mutex<Vec<String>>,
}

impl Journal {
    pub(crate) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no client panics while it holds the record")
    }

    pub(crate) fn buckets(&self) -> MutexGuard<'_, Record> {
        self.buckets.lock().expect("no client panics while it holds the record")
    }

    pub(crate) fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().expect("no client panics while it holds the uploads")
    }

    pub(crate) fn operation_count(&self) -> u64 {
        self.operation_count.load(Ordering::Relaxed)
    }

    pub(crate) fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut *self.faults.lock().expect("no client panics while it holds the faults"))
    }

    pub(super) fn fault(&self, message: String) {
        self.faults.lock().expect("no client panics while it holds the faults").push(message);
    }
}

/// Clients at work. They end when told, or when the server goes away.
pub(crate) struct Load {
    journal: Arc<Journal>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// With the directory of the server's own store, some of the bodies are what lies in its logs. That the server goes away is
    /// a fault until [`Load::expect_the_end`], unless it is one that `may_end` by itself.
    pub(crate) fn start(
        address: SocketAddr,
        journal: &Arc<Journal>,
        seed: u64,
        store: Option<&Path>,
        may_end: bool,
    ) -> Self {
        journal.stopped.store(false, Ordering::Relaxed);
        journal.may_end.store(may_end, Ordering::Relaxed);
        let clients = (0..CLIENTS)
            .map(|index| {
                let journal = Arc::clone(journal);
                let rng = Rng::with_seed(seed.wrapping_mul(31).wrapping_add(index as u64));
                let store = store.map(Path::to_path_buf);
                clock::spawn(move || Worker { index, journal, rng, store }.run(address))
            })
            .collect();
        Self { journal: Arc::clone(journal), clients }
    }

    /// The server is about to be killed: from here on a broken connection is no fault.
    pub(crate) fn expect_the_end(&self) {
        self.journal.may_end.store(true, Ordering::Relaxed);
        self.journal.stopped.store(true, Ordering::Relaxed);
    }

    /// Waits for every client to finish the operation it is in.
    pub(crate) fn join(self) {
        self.expect_the_end();
        for client in self.clients {
            if client.join().is_err() {
                self.journal.fault("a client of the load panicked".to_owned());
            }
        }
    }
}

/// A client.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) journal: Arc<Journal>,
    pub(super) rng: Rng,
    /// The store that the server has.
    store: Option<PathBuf>,
}

impl Worker {
    fn run(mut self, address: SocketAddr) {
        let mut client = match Client::connect(address) {
            Ok(client) => client,
            Err(error) => return self.lost(&format!("cannot connect: {error}")),
        };
        while !self.journal.stopped.load(Ordering::Relaxed) {
            let done = match self.rng.u32(0..100) {
                0..56 => self.put(&mut client),
                56..70 => self.delete(&mut client),
                70..84 => self.get(&mut client),
                84..92 => self.copy(&mut client),
                92..95 => self.upload(&mut client),
                95..97 => self.change_bucket(&mut client),
                _ => self.list(&mut client),
            };
            if let Err(error) = done {
                return self.lost(&error.to_string());
            }
            self.journal.operation_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The connection broke. That is expected once the server is being killed, and a fault before.
    fn lost(&self, message: &str) {
        // The flag is set right before the kill, so give it the moment that lies between.
        if !self.journal.may_end.load(Ordering::Relaxed) {
            clock::pause(std::time::Duration::from_millis(200));
        }
        if !self.journal.may_end.load(Ordering::Relaxed) {
            self.journal.fault(format!("client {}: {message}", self.index));
        }
    }

    fn key(&mut self) -> String {
        if self.rng.u32(0..10) == 0 {
            format!("shared-{}", self.rng.u32(0..SHARED_KEYS))
        } else {
            self.own_key()
        }
    }

    /// A key that nobody else writes.
    pub(super) fn own_key(&mut self) -> String {
        format!("own-{}-{}", self.index, self.rng.u32(0..KEYS_PER_CLIENT))
    }

    /// Sizes of every placement: empty, inline, packed, extents, and their edges.
    pub(super) fn size(&mut self) -> usize {
        const KIB: usize = 1024;
        match self.rng.u32(0..20) {
            0 => 0,
            1..6 => self.rng.usize(1..=KIB),
            6..11 => self.rng.usize(KIB + 1..=16 * KIB),
            11..15 => self.rng.usize(16 * KIB..=256 * KIB),
            15 => 256 * KIB,
            16 => 256 * KIB + 1,
            17..19 => self.rng.usize(256 * KIB..=1024 * KIB),
            _ => self.rng.usize(1024 * KIB..=4096 * KIB),
        }
    }

    fn put(&mut self, client: &mut Client) -> std::io::Result<()> {
        let (key, size) = (self.key(), self.size());
        let body = match self.rng.u32(0..6) {
            0 => self.forged(size),
            _ => payload(&mut self.rng, size),
        };
        let value = Value::Present { bytes: body.len() as u64, sha256: sha256(&body) };
        self.write(client, "PUT", &key, &body, value)
    }

    /// A body full of headers of log batches: real ones, with all that makes them valid but their place. Recovery must not take
    /// them for batches.
    fn forged(&mut self, size: usize) -> Vec<u8> {
        let mut body = payload(&mut self.rng, size);
        let logs = self.store.as_deref().and_then(|store| std::fs::read_dir(store).ok());
        let logs = logs.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
        let mut logs: Vec<PathBuf> = logs.filter(is_log).collect();
        logs.sort();
        let opened = self.rng.choice(logs).and_then(|path| File::open(path).ok());
        if let Some(log) = opened {
            // The front of a log is what is written first; its blocks are where headers begin.
            let first = self.rng.u64(0..1024) * 4096;
            // What is not there, or read while it is being written, leaves the bytes that are there.
            let _ = log.read_at(&mut body, first);
        }
        // No two bodies are the same, or the record could not tell which was written.
        let mut unlike = [0; 16];
        self.rng.fill(&mut unlike);
        let end = body.len();
        body[end.saturating_sub(16)..].copy_from_slice(&unlike[..end.min(16)]);
        body
    }

    fn delete(&mut self, client: &mut Client) -> std::io::Result<()> {
        let key = self.key();
        self.write(client, "DELETE", &key, &[], Value::Absent)
    }

    fn write(
        &mut self,
        client: &mut Client,
        method: &str,
        key: &str,
        body: &[u8],
        value: Value,
    ) -> std::io::Result<()> {
        let ticket = self.journal.record().begin(key, value);
        let reply = client.call(method, &format!("/{BUCKET}/{key}"), "", body)?;
        self.note(&ticket, &reply, || format!("{method} {key} ({} bytes)", body.len()));
        Ok(())
    }

    /// Writes down what became of a write.
    fn note(&self, ticket: &Ticket, reply: &Reply, what: impl FnOnce() -> String) {
        let is_error = reply.body.windows(7).any(|window| window == b"<Error>");
        match reply.status {
            200 | 204 if !is_error => self.journal.record().acknowledge(ticket),
            // Busy is a clear answer: nothing was done.
            503 => self.journal.record().refuse(ticket),
            status => {
                let said = String::from_utf8_lossy(&reply.body);
                self.journal.fault(format!("{}: status {status}: {said}", what()));
            }
        }
    }

    /// Has the server copy an object that nobody else writes: within a shard both then lie in the same extents.
    fn copy(&mut self, client: &mut Client) -> std::io::Result<()> {
        let (source, key) = (self.own_key(), self.own_key());
        let value = match self.journal.record().allowed(&source)[..] {
            [value @ Value::Present { .. }] if source != key => value,
            _ => return Ok(()),
        };
        let ticket = self.journal.record().begin(&key, value);
        let reply = client.copy(&format!("/{BUCKET}/{source}"), &format!("/{BUCKET}/{key}"))?;
        self.note(&ticket, &reply, || format!("copy of {source} to {key}"));
        Ok(())
    }

    fn get(&mut self, client: &mut Client) -> std::io::Result<()> {
        let key = self.key();
        let sent = self.journal.record().tick();
        let reply = client.call("GET", &format!("/{BUCKET}/{key}"), "", &[])?;
        if reply.status == 503 {
            return Ok(());
        }
        match value_of(&reply) {
            Ok(value) => {
                let readable = self.journal.record().readable(&key, sent);
                if !readable.contains(&value) {
                    self.journal.fault(format!("GET {key}: {value:?}, where {readable:?} may be"));
                }
            }
            Err(error) => self.journal.fault(format!("GET {key}: {error}")),
        }
        Ok(())
    }

    fn list(&mut self, client: &mut Client) -> std::io::Result<()> {
        let reply = client.call("GET", &format!("/{BUCKET}"), "list-type=2", &[])?;
        if !matches!(reply.status, 200 | 503) {
            let said = String::from_utf8_lossy(&reply.body).into_owned();
            self.journal.fault(format!("LIST: status {}: {said}", reply.status));
        }
        Ok(())
    }
}

/// Bytes that do not repeat and that no other write has.
pub(super) fn payload(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut body = vec![0; size];
    rng.fill(&mut body);
    body
}
