//! Uploads in parts, as the load makes them and as they are found after a crash.
//!
//! An upload of which a part was acknowledged is there after a crash, with that part, or was completed. Either way completing
//! it works: one that was completed already answers as it did the first time.

use std::collections::BTreeMap;
use std::io;

use sha2::{Digest, Sha256};

use super::client::{Client, Reply};
use super::load::{BUCKET, Worker, payload};
use super::record::{Record, Ticket, Value};
use super::verify::{elements, encode};

/// The least that S3 takes for a part that is not the last.
const PART_BYTES_MIN: usize = 5 << 20;

/// Uploads that were begun and not ended, as far as anybody was told, by their names.
pub(crate) type Uploads = BTreeMap<String, Upload>;

/// An upload that was begun.
#[derive(Clone)]
pub(crate) struct Upload {
    key: String,
    /// Entity tags of the parts that were acknowledged, from the first.
    etags: Vec<String>,
    bytes: u64,
    hash: Sha256,
    /// A completion was asked for, and its answer did not come.
    completing: Option<Ticket>,
}

impl Upload {
    fn value(&self) -> Value {
        Value::Present { bytes: self.bytes, sha256: self.hash.clone().finalize().into() }
    }

    /// The document that completes it.
    fn completion(&self) -> String {
        let part = |(etag, number): (&String, u32)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        };
        let parts: String = self.etags.iter().zip(1..).map(part).collect();
        format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
    }

    fn complete(&self, client: &mut Client, id: &str) -> io::Result<Reply> {
        let (path, query) = (format!("/{BUCKET}/{}", self.key), format!("uploadId={}", encode(id)));
        client.call("POST", &path, &query, self.completion().as_bytes())
    }

    fn abort(&self, client: &mut Client, id: &str) -> io::Result<Reply> {
        let (path, query) = (format!("/{BUCKET}/{}", self.key), format!("uploadId={}", encode(id)));
        client.call("DELETE", &path, &query, &[])
    }
}

/// Whether a completion says that it was done: of those that take long the status comes before the outcome.
fn is_done(reply: &Reply) -> bool {
    reply.status == 200 && !reply.body.windows(7).any(|window| window == b"<Error>")
}

impl Worker {
    /// Begins an upload, sends a part or two, and mostly completes it; some are aborted, some left open.
    pub(super) fn upload(&mut self, client: &mut Client) -> io::Result<()> {
        let key = self.own_key();
        let path = format!("/{BUCKET}/{key}");
        let reply = client.call("POST", &path, "uploads=", &[])?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let Some(id) = elements(&text, "UploadId").next().map(str::to_owned) else {
            if reply.status != 503 {
                self.journal.fault(format!("beginning an upload of {key}: status {}: {text}", reply.status));
            }
            return Ok(());
        };
        let upload = Upload { key, etags: Vec::new(), bytes: 0, hash: Sha256::new(), completing: None };
        self.journal.uploads().insert(id.clone(), upload);
        let last = self.size();
        let sizes = if self.rng.u32(0..4) == 0 { vec![PART_BYTES_MIN, last] } else { vec![last] };
        for (size, number) in sizes.into_iter().zip(1..) {
            let body = payload(&mut self.rng, size);
            let query = format!("partNumber={number}&uploadId={}", encode(&id));
            let reply = client.call("PUT", &path, &query, &body)?;
            let Some(etag) = reply.etag.filter(|_| reply.status == 200) else {
                if reply.status != 503 {
                    self.journal.fault(format!("part {number} of {path}: status {}", reply.status));
                }
                return Ok(());
            };
            if let Some(upload) = self.journal.uploads().get_mut(&id) {
                upload.etags.push(etag);
                upload.bytes += body.len() as u64;
                upload.hash.update(&body);
            }
        }
        match self.rng.u32(0..8) {
            // It stays as it is until the next crash.
            0 => Ok(()),
            1 => self.abort(client, &id),
            _ => self.complete(client, &id),
        }
    }

    fn abort(&mut self, client: &mut Client, id: &str) -> io::Result<()> {
        let Some(upload) = self.journal.uploads().remove(id) else { return Ok(()) };
        let reply = upload.abort(client, id)?;
        if !matches!(reply.status, 204 | 503) {
            self.journal.fault(format!("aborting an upload of {}: status {}", upload.key, reply.status));
        }
        Ok(())
    }

    fn complete(&mut self, client: &mut Client, id: &str) -> io::Result<()> {
        let Some(mut upload) = self.journal.uploads().remove(id) else { return Ok(()) };
        let ticket = self.journal.record().begin(&upload.key, upload.value());
        upload.completing = Some(ticket.clone());
        let answer = upload.complete(client, id);
        match &answer {
            Ok(reply) if is_done(reply) => self.journal.record().acknowledge(&ticket),
            Ok(Reply { status: 503, .. }) => {
                self.journal.record().refuse(&ticket);
                upload.completing = None;
                self.journal.uploads().insert(id.to_owned(), upload);
            }
            Ok(reply) => {
                let said = String::from_utf8_lossy(&reply.body).into_owned();
                self.journal.fault(format!("completing {}: status {}: {said}", upload.key, reply.status));
            }
            Err(_) => drop(self.journal.uploads().insert(id.to_owned(), upload)),
        }
        answer.map(drop)
    }
}

/// Of the uploads that were open `before` a snapshot of the disk was taken, with the parts that were acknowledged then, those that were
/// open `after` it too, and that nobody had begun to complete: they are in the snapshot, whatever moment it is of.
pub(crate) fn into_cut(before: Uploads, after: &Uploads) -> Uploads {
    let is_open = |id: &String| after.get(id).is_some_and(|upload| upload.completing.is_none());
    before.into_iter().filter(|(id, _)| is_open(id)).collect()
}

/// After a restart: brings every upload that is not known to have ended to its end. Says what was not as it must be.
pub(crate) fn end_uploads(
    client: &mut Client,
    uploads: Uploads,
    record: &mut Record,
) -> io::Result<Vec<String>> {
    let mut faults = Vec::new();
    for (id, upload) in uploads {
        if upload.etags.is_empty() {
            let reply = upload.abort(client, &id)?;
            if reply.status != 204 {
                faults.push(format!(
                    "UPLOAD of {}: it was begun, and is not there ({})",
                    upload.key, reply.status
                ));
            }
            continue;
        }
        let ticket = upload.completing.clone();
        let ticket = ticket.unwrap_or_else(|| record.begin(&upload.key, upload.value()));
        let reply = upload.complete(client, &id)?;
        match is_done(&reply) {
            true => record.acknowledge(&ticket),
            false => {
                let said = String::from_utf8_lossy(&reply.body);
                let parts = upload.etags.len();
                faults.push(format!(
                    "UPLOAD of {}: {parts} parts acknowledged, not completed: {said}",
                    upload.key
                ));
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_holds_the_uploads_that_were_open_around_it() {
        // Neither one that was ended meanwhile nor one that was begun meanwhile, and of parts those from before.
        let upload = |etags: &[&str]| Upload {
            key: "k".to_owned(),
            etags: etags.iter().map(ToString::to_string).collect(),
            bytes: 0,
            hash: Sha256::new(),
            completing: None,
        };
        let named = |uploads: &[(&str, &[&str])]| -> Uploads {
            uploads.iter().map(|(id, etags)| ((*id).to_owned(), upload(etags))).collect()
        };
        let before = named(&[("open", &["1"]), ("ended", &["1"]), ("completing", &["1"])]);
        let mut after = named(&[("open", &["1", "2"]), ("completing", &["1"]), ("begun", &[])]);
        let ticket = Record::default().begin("k", Value::Absent);
        after.get_mut("completing").unwrap().completing = Some(ticket);
        let cut = into_cut(before, &after);
        assert_eq!(cut.keys().collect::<Vec<_>>(), ["open"]);
        assert_eq!(cut["open"].etags, ["1"]);
    }
}
