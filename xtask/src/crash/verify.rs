//! After a restart: compares every key and the list of all keys with the record.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::buckets::check_buckets;
use super::client::{Client, value_of};
use super::load::{BUCKET, Journal};
use super::record::{Record, Value};
use super::uploads::{Uploads, end_uploads};

/// What a verification saw.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) checked_count: usize,
    pub(crate) faults: Vec<String>,
}

/// As [`verify`], and whatever else the load knows of: uploads, which are ended, and buckets.
pub(crate) fn verify_all(address: SocketAddr, journal: &Journal) -> Result<Outcome, String> {
    let uploads = std::mem::take(&mut *journal.uploads());
    verify_found(address, &mut journal.record(), &mut journal.buckets(), uploads)
}

/// The same, of what these say.
pub(crate) fn verify_found(
    address: SocketAddr,
    record: &mut Record,
    buckets: &mut Record,
    uploads: Uploads,
) -> Result<Outcome, String> {
    let failed = |error: std::io::Error| format!("the server did not answer while it was checked: {error}");
    let mut client = Client::connect(address).map_err(failed)?;
    let upload_count = uploads.len();
    let mut faults = end_uploads(&mut client, uploads, record).map_err(failed)?;
    let (bucket_count, more) = check_buckets(&mut client, buckets).map_err(failed)?;
    faults.extend(more);
    drop(client);
    let mut outcome = verify(address, record)?;
    outcome.checked_count += bucket_count + upload_count;
    outcome.faults.extend(faults);
    Ok(outcome)
}

/// Reads every key of the record, settles it with what was found, and checks the list against it.
pub(crate) fn verify(address: SocketAddr, record: &mut Record) -> Result<Outcome, String> {
    let failed = |error: std::io::Error| format!("the server did not answer while it was checked: {error}");
    let mut client = Client::connect(address).map_err(failed)?;
    let keys: Vec<String> = record.keys().map(str::to_owned).collect();
    let (mut outcome, mut present) = (Outcome::default(), BTreeSet::new());
    for key in keys {
        let reply = client.call("GET", &format!("/{BUCKET}/{key}"), "", &[]).map_err(failed)?;
        outcome.checked_count += 1;
        let found = match value_of(&reply) {
            Ok(found) => found,
            Err(error) => {
                outcome.faults.push(format!("GET {key}: {error}"));
                continue;
            }
        };
        if let Some(fault) = judge(&key, found, &record.allowed(&key)) {
            outcome.faults.push(fault);
        }
        if found != Value::Absent {
            present.insert(key.clone());
        }
        record.settle(&key, found);
    }
    let listed = list(&mut client)?;
    for key in listed.symmetric_difference(&present) {
        let side = if listed.contains(key) { "listed but not there" } else { "there but not listed" };
        outcome.faults.push(format!("LIST: {key} is {side}"));
    }
    Ok(outcome)
}

fn judge(key: &str, found: Value, allowed: &[Value]) -> Option<String> {
    if allowed.contains(&found) {
        return None;
    }
    let kind = match (found, allowed.contains(&Value::Absent)) {
        (Value::Absent, _) => "LOST: acknowledged, and not there",
        (Value::Present { .. }, true) => "WRONG: should be absent, or be one of the values in flight",
        (Value::Present { .. }, false) => "WRONG: holds what no write in question left there",
    };
    Some(format!("{key}: {kind}; found {found:?}, allowed {allowed:?}"))
}

/// Every key of the bucket, page by page.
pub(super) fn list(client: &mut Client) -> Result<BTreeSet<String>, String> {
    let (mut keys, mut token) = (BTreeSet::new(), None::<String>);
    loop {
        // Parameters in canonical order.
        let start =
            token.as_ref().map(|token| format!("continuation-token={}&", encode(token))).unwrap_or_default();
        let query = format!("{start}list-type=2&max-keys=40");
        let reply = client
            .call("GET", &format!("/{BUCKET}"), &query, &[])
            .map_err(|error| format!("LIST: {error}"))?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if reply.status != 200 {
            return Err(format!("LIST: status {}: {text}", reply.status));
        }
        keys.extend(elements(&text, "Key").map(str::to_owned));
        token = elements(&text, "NextContinuationToken").next().map(str::to_owned);
        if token.is_none() {
            return Ok(keys);
        }
    }
}

/// The texts of all elements of one name. The names and tokens asked for hold nothing that XML escapes.
pub(super) fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest: Vec<&str> = text.split(open.as_str()).skip(1).collect();
    rest.into_iter().filter_map(move |rest| rest.split(close.as_str()).next())
}

pub(super) fn encode(token: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    token.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_wrong_bytes_are_told_apart() {
        // Whatever is not allowed is a fault, and a lost object is called lost.
        let value = |byte| Value::Present { bytes: 1, sha256: [byte; 32] };
        assert_eq!(judge("k", value(1), &[value(1)]), None);
        assert_eq!(judge("k", Value::Absent, &[Value::Absent, value(1)]), None);
        assert!(judge("k", Value::Absent, &[value(1)]).is_some_and(|fault| fault.contains("LOST")));
        assert!(judge("k", value(2), &[value(1)]).is_some_and(|fault| fault.contains("WRONG")));
    }

    #[test]
    fn a_list_is_read_from_its_xml() {
        // Every key of a page, and the token of the next.
        let text = "<R><Contents><Key>a</Key></Contents><Contents><Key>b</Key></Contents>\
                    <NextContinuationToken>t+/=</NextContinuationToken></R>";
        assert_eq!(elements(text, "Key").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(encode(elements(text, "NextContinuationToken").next().unwrap()), "t%2B%2F%3D");
    }
}
