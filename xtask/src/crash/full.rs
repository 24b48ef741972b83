//! The disk is filled until the server refuses to write.
//!
//! What must hold: the refusal is an answer, not an end; what was acknowledged is read; deletes go on, and make room
//! for writes; after a restart everything is as acknowledged.

use std::fs::File;
use std::time::Duration;

use fastrand::Rng;

use super::client::{Client, sha256};
use super::disk::{FileSystem, Mounted};
use super::load::BUCKET;
use super::record::{Record, Value};
use super::server::Server;
use super::verify::verify;
use super::{Run, faults_error, make_bucket};
use crate::clock;

const DISK_BYTES: u64 = 768 << 20;
const OBJECT_BYTES: usize = 1 << 20;
/// Twice what fits: a server that never refuses is not writing.
const OBJECTS_MAX: u64 = 2 * DISK_BYTES / OBJECT_BYTES as u64;
/// How long space that was freed may take to be free.
const CLEANING_LIMIT: Duration = Duration::from_secs(30);

/// Fills a small file system, deletes, writes again, and reopens.
pub(super) fn fill(run: &Run) -> Result<String, String> {
    let image = run.work.join("full.img");
    let file = File::create(&image).map_err(|error| format!("cannot make {}: {error}", image.display()))?;
    file.set_len(DISK_BYTES).map_err(|error| format!("cannot size {}: {error}", image.display()))?;
    let mounted = Mounted::format(&image, &run.work.join("full"), FileSystem::Ext4)?;
    let data = mounted.directory().join("data");
    let mut session = Session::open(run, &data)?;
    make_bucket(session.server.address())?;

    let mut stored = 0;
    while session.put(stored)? {
        stored += 1;
        if stored > OBJECTS_MAX {
            return Err(format!("{stored} objects of 1 MiB were acknowledged on a disk of 768 MiB"));
        }
    }
    // Whatever is refused now and then, what is there can be read.
    session.check("when the disk was full")?;

    let deleted = stored / 2;
    for index in 0..deleted {
        session.delete(index)?;
    }
    let begin = clock::now();
    let mut again = 0;
    while again < deleted / 4 {
        if session.put(stored + again)? {
            again += 1;
        } else if begin.elapsed() > CLEANING_LIMIT {
            return Err(format!(
                "after {deleted} deletes only {again} writes found room in {CLEANING_LIMIT:?}"
            ));
        } else {
            clock::pause(Duration::from_millis(100));
        }
    }
    session.check("after deleting and writing again")?;
    let Session { server, mut record, .. } = session;
    server.stop()?;

    let server = Server::start(&run.program, &data)?;
    let outcome = verify(server.address(), &mut record)?;
    server.stop()?;
    faults_error("after the restart", &outcome.faults)?;
    run.check_store(&data, "closed at the end")?;
    drop(mounted);
    std::fs::remove_file(&image).map_err(|error| format!("cannot remove {}: {error}", image.display()))?;
    Ok(format!("{stored} objects of 1 MiB until full, {deleted} deleted, {again} written again, 0 lost"))
}

struct Session {
    server: Server,
    client: Client,
    record: Record,
    rng: Rng,
}

impl Session {
    fn open(run: &Run, data: &std::path::Path) -> Result<Self, String> {
        let server = Server::start(&run.program, data)?;
        let client = connect(&server)?;
        Ok(Self { server, client, record: Record::default(), rng: Rng::with_seed(run.seed) })
    }

    /// Whether the object was taken. A refusal must be a reply of the 5xx kind.
    fn put(&mut self, index: u64) -> Result<bool, String> {
        let mut body = vec![0; OBJECT_BYTES];
        self.rng.fill(&mut body);
        let key = format!("object-{index}");
        let value = Value::Present { bytes: body.len() as u64, sha256: sha256(&body) };
        let ticket = self.record.begin(&key, value);
        match self.client.call("PUT", &format!("/{BUCKET}/{key}"), "", &body) {
            Ok(reply) if reply.status == 200 => {
                self.record.acknowledge(&ticket);
                Ok(true)
            }
            Ok(reply) if reply.status >= 500 => {
                self.record.refuse(&ticket);
                self.client = connect(&self.server)?;
                Ok(false)
            }
            Ok(reply) => {
                Err(format!("PUT {key}: status {}: {}", reply.status, String::from_utf8_lossy(&reply.body)))
            }
            // A server may close while a refused body is still being sent; it must take the next connection.
            Err(_) => {
                self.client = connect(&self.server)?;
                Ok(false)
            }
        }
    }

    fn delete(&mut self, index: u64) -> Result<(), String> {
        let key = format!("object-{index}");
        let ticket = self.record.begin(&key, Value::Absent);
        let reply = self
            .client
            .call("DELETE", &format!("/{BUCKET}/{key}"), "", &[])
            .map_err(|error| format!("DELETE {key} on a full disk: {error}"))?;
        if reply.status != 204 {
            return Err(format!("DELETE {key} on a full disk: status {}", reply.status));
        }
        self.record.acknowledge(&ticket);
        Ok(())
    }

    fn check(&mut self, when: &str) -> Result<(), String> {
        let outcome = verify(self.server.address(), &mut self.record)?;
        faults_error(when, &outcome.faults)
    }
}

fn connect(server: &Server) -> Result<Client, String> {
    Client::connect(server.address()).map_err(|error| format!("the server is gone: {error}"))
}
