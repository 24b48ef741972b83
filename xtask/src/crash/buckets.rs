//! Buckets that come, change and go, each on every shard: what the load does to them, and what of that is there after a crash.

use std::io;

use super::client::{Client, Reply};
use super::load::Worker;
use super::record::{Record, Value};

const BUCKETS_PER_CLIENT: u32 = 2;

/// What a bucket is set to, as its value: nothing, versions kept, versions kept no more.
const SETTINGS: [&str; 3] = ["", "Enabled", "Suspended"];

fn present(setting: usize) -> Value {
    Value::Present { bytes: setting as u64, sha256: [0; 32] }
}

/// What is there of a bucket, by an answer about its versioning.
fn value_of(reply: &Reply) -> Result<Value, String> {
    let text = String::from_utf8_lossy(&reply.body);
    match reply.status {
        404 => Ok(Value::Absent),
        200 => Ok(present((1..3).find(|setting| text.contains(SETTINGS[*setting])).unwrap_or(0))),
        status => Err(format!("status {status}: {text}")),
    }
}

impl Worker {
    /// Makes a bucket that only this client knows, or has it keep versions, or keep none any more, or deletes it.
    pub(super) fn change_bucket(&mut self, client: &mut Client) -> io::Result<()> {
        let name = format!("extra-{}-{}", self.index, self.rng.u32(0..BUCKETS_PER_CLIENT));
        let path = format!("/{name}");
        let is_there = self.journal.buckets().allowed(&name) != [Value::Absent];
        let (value, method, query, body) = match self.rng.usize(0..4) {
            _ if !is_there => (present(0), "PUT", "", String::new()),
            setting @ 1..3 => {
                let status = SETTINGS[setting];
                let body =
                    format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
                (present(setting), "PUT", "versioning=", body)
            }
            _ => (Value::Absent, "DELETE", "", String::new()),
        };
        let ticket = self.journal.buckets().begin(&name, value);
        let reply = client.call(method, &path, query, body.as_bytes())?;
        match reply.status {
            200 | 204 => self.journal.buckets().acknowledge(&ticket),
            503 => self.journal.buckets().refuse(&ticket),
            status => {
                let said = String::from_utf8_lossy(&reply.body).into_owned();
                self.journal.fault(format!("{method} {path}?{query}: status {status}: {said}"));
            }
        }
        Ok(())
    }
}

/// After a restart: compares every bucket with the record. Says how many there are and what is not as it must be.
pub(crate) fn check_buckets(client: &mut Client, record: &mut Record) -> io::Result<(usize, Vec<String>)> {
    let names: Vec<String> = record.keys().map(str::to_owned).collect();
    let mut faults = Vec::new();
    for name in &names {
        let reply = client.call("GET", &format!("/{name}"), "versioning=", &[])?;
        match value_of(&reply) {
            Ok(found) => {
                let allowed = record.allowed(name);
                if !allowed.contains(&found) {
                    faults.push(format!("BUCKET {name}: found {found:?}, allowed {allowed:?}"));
                }
                record.settle(name, found);
            }
            Err(error) => faults.push(format!("BUCKET {name}: {error}")),
        }
    }
    Ok((names.len(), faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_bucket_is_set_to_is_told_apart() {
        // Not there, there, keeping versions, and not any more are four values; an error is none.
        let reply = |status, text: &str| Reply { status, etag: None, body: text.into() };
        let answers =
            [reply(404, ""), reply(200, "<V/>"), reply(200, ">Enabled<"), reply(200, ">Suspended<")];
        let values: Vec<Value> = answers.iter().map(|reply| value_of(reply).unwrap()).collect();
        assert_eq!(values, [Value::Absent, present(0), present(1), present(2)]);
        assert!(value_of(&reply(500, "")).is_err());
    }
}
