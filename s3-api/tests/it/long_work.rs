//! Copies and completions that take long: what their clients see meanwhile, and what they are decided by.

use crate::{
    bench::{ALICE, Bench, Client, PoolUse, Reply},
    faults::stage::{pattern, wait_until},
};
use bytes::Bytes;
use crossdock::BucketChange;
use crossdock_s3::{
    protocol::http::Method::{Delete, Get, Post, Put},
    server::ServerLimits,
};
use crossdock_transport::memory::BufferLease;
use futures_lite::future::block_on;
use std::{cell::RefCell, rc::Rc, thread, time::Duration};

/// What is copied: more than one read, and so long that it lies in extents.
const BYTES: usize = 3 << 20;
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// A server that leaves nobody without a byte for longer than that, with an object, and a key that is on another shard: within one a
/// copy moves no bytes.
fn bench(quiet: Duration) -> (Bench, Client, String) {
    let mut limits = ServerLimits::default();
    limits.quiet = quiet;
    let bench = Bench::waiting(limits);
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    assert_eq!(alice.call(Put, "/photos/source", &[], &pattern(BYTES, 1)).status, 200);
    let path = beside(&bench, "photos");
    (bench, alice, path)
}

/// A path in `bucket` that is on another shard than the source.
pub(crate) fn beside(bench: &Bench, bucket: &str) -> String {
    let shard = |bucket: &str, key: &str| bench.engine().shard_of(bucket, key.as_bytes());
    let source = shard("photos", "source");
    let key = (0..).map(|number| format!("k{number}")).find(|key| shard(bucket, key) != source);
    format!("/{bucket}/{}", key.unwrap())
}

const SOURCE: (&str, &str) = ("x-amz-copy-source", "/photos/source");

fn begin_upload(alice: &mut Client, path: &str) -> String {
    let begun = String::from_utf8(alice.call(Post, &format!("{path}?uploads"), &[], b"").body).unwrap();
    begun.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0.to_owned()
}

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

/// The document of a reply that was begun before it was known, behind its declaration and the spaces.
fn late(reply: &Reply) -> &str {
    assert_eq!((reply.status, reply.header("content-length")), (200, None));
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    assert!(reply.header("x-amz-request-id").is_some());
    let rest = text(reply).strip_prefix(DECLARATION).unwrap_or_else(|| panic!("{}", text(reply)));
    rest.trim_start_matches(' ')
}

#[test]
fn who_waits_is_shown_that_somebody_is_at_work() {
    // 200 comes before the copy or the part is made, and its document behind spaces; the connection goes on.
    let (_bench, mut alice, path) = bench(Duration::ZERO);
    let copy = alice.request(Put, &path, &[SOURCE], b"");
    alice.write(&copy);
    let copied = alice.read(false);
    assert!(late(&copied).starts_with("<CopyObjectResult "), "{}", text(&copied));
    assert_ne!(copied.header("connection"), Some("close"));
    assert!(alice.call(Get, &path, &[], b"").body == pattern(BYTES, 1));
    let upload = begin_upload(&mut alice, &path);
    let part = alice.request(Put, &format!("{path}?partNumber=1&uploadId={upload}"), &[SOURCE], b"");
    alice.write(&part);
    let part = alice.read(false);
    assert!(late(&part).starts_with("<CopyPartResult "), "{}", text(&part));
}

#[test]
fn what_fails_late_is_an_error_in_a_document() {
    // And what fails before the client has waited for long has its own status, of the same request.
    let conditional = [SOURCE, ("if-none-match", "*")];
    let (_late, mut alice, path) = bench(Duration::ZERO);
    assert_eq!(alice.call(Put, &path, &[], b"there").status, 200);
    let copy = alice.request(Put, &path, &conditional, b"");
    alice.write(&copy);
    let refused = alice.read(false);
    assert!(late(&refused).starts_with("<Error><Code>PreconditionFailed</Code>"), "{}", text(&refused));
    assert_eq!(alice.call(Get, &path, &[], b"").body, b"there");
    let (_bench, mut alice, path) = bench(Duration::from_secs(100));
    assert_eq!(alice.call(Put, &path, &[], b"there").status, 200);
    let refused = alice.call(Put, &path, &conditional, b"");
    assert_eq!((refused.status, refused.header("transfer-encoding")), (412, None));
    assert_eq!(refused.code(), "PreconditionFailed");
}

#[test]
fn clients_that_know_no_chunks_are_sent_none() {
    // Who speaks HTTP/1.0 reads to the end of the connection; and a body that a copy does not take ends it as well.
    let (_bench, mut alice, path) = bench(Duration::ZERO);
    let request = String::from_utf8(alice.request(Put, &path, &[SOURCE], b"")).unwrap();
    let old = request.replace(" HTTP/1.1\r\n", " HTTP/1.0\r\nConnection: keep-alive\r\n");
    alice.write(old.as_bytes());
    let reply = alice.read_to_end();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Connection: close"), "{head}");
    assert!(!head.contains("Transfer-Encoding") && !head.contains("Content-Length"), "{head}");
    assert!(body.starts_with(DECLARATION) && body.ends_with("</CopyObjectResult>"), "{body}");
    let request = alice.request(Put, &path, &[SOURCE], b"a body");
    alice.write(&request);
    let reply = alice.read_to_end();
    assert!(reply.contains("Connection: close") && reply.ends_with("\r\n0\r\n\r\n"), "{reply}");
}

#[test]
fn who_goes_away_stops_nothing() {
    // A copy whose client does not wait for it any more is made.
    let (bench, mut alice, path) = bench(Duration::ZERO);
    let mut other = bench.client(ALICE);
    let request = other.request(Put, &path, &[SOURCE], b"");
    other.write(&request);
    drop(other);
    wait_until("the copy is there", || alice.call(Get, &path, &[], b"").status == 200);
}

/// Leases that are held on a core.
struct Held(RefCell<Vec<BufferLease>>);

/// Gives the memory back that was taken.
pub(crate) struct Taken<'a>(&'a Bench);

/// Leaves no core room for a piece of a large object, and some for what is smaller.
pub(crate) fn take(bench: &Bench) -> Taken<'_> {
    for core in 0..2 {
        let take = bench.engine().on_core(core, |engine| async move {
            let all = std::iter::from_fn(|| engine.core().pool().try_acquire(1 << 20)).collect();
            engine.attach(Rc::new(Held(RefCell::new(all))));
        });
        block_on(take).unwrap();
    }
    Taken(bench)
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for core in 0..2 {
            let give = self.0.engine().on_core(core, |engine| async move {
                engine.attached::<Held>().unwrap().0.take();
                engine.core().pool().drain_returns();
            });
            block_on(give).unwrap();
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a client that does two things at once")]
fn a_copy_is_decided_by_what_its_bucket_is_when_it_is_made() {
    // The policy of the target's bucket is set while the bytes are on their way, behind the decision: a copy, or a part, that it forbids is
    // not made, and one that it does not speak of is, without its client having to ask again.
    let (bench, mut alice, _) = bench(Duration::from_secs(100));
    let path = beside(&bench, "copies");
    for (action, status) in [("s3:PutObject", 403), ("s3:DeleteObject", 200)] {
        assert!(alice.call(Delete, "/copies?policy", &[], b"").status < 500);
        assert_eq!(alice.call(Put, "/copies", &[], b"").status, 200);
        let upload = begin_upload(&mut alice, &path);
        let part = format!("{path}?partNumber=1&uploadId={upload}");
        for asked in [&path, &part] {
            assert_eq!(alice.call(Delete, "/copies?policy", &[], b"").status, 204);
            let held = take(&bench);
            let mut other = bench.client(ALICE);
            let reply = thread::scope(|scope| {
                let copy = scope.spawn(|| other.call(Put, asked, &[SOURCE], b""));
                wait_until("the copy waits for memory", || {
                    bench.pools().iter().any(|PoolUse { waiters, .. }| *waiters > 0)
                });
                let policy = format!(
                    r#"{{"Statement":{{"Effect":"Deny","Principal":"*","Action":"{action}","Resource":"arn:aws:s3:::copies/*"}}}}"#
                );
                // Not over HTTP, where it might have to wait in line behind the copy.
                let change = BucketChange {
                    documents: vec![("policy".into(), Some(Bytes::from(policy)))],
                    bucket: None,
                    revision: None,
                    versioning: None,
                };
                let set = bench.engine().on_core(0, |engine| async move {
                    engine.change_bucket("copies", change).await.map(drop)
                });
                block_on(set).unwrap().unwrap();
                drop(held);
                copy.join().unwrap()
            });
            assert_eq!(reply.status, status, "{asked}: {}", reply.code());
        }
        let there = alice.call(Get, &path, &[], b"");
        assert_eq!(there.status, if status == 200 { 200 } else { 404 });
    }
}
