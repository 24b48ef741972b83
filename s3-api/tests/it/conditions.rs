//! Conditional requests, from end to end.

use crate::bench::{ALICE, Bench};
use crossdock_s3::protocol::http::Method::{Delete, Get, Post, Put};

#[test]
fn a_failed_condition_is_named() {
    // On every operation that takes one: libraries tell "it exists" from "it changed" by the element `Condition`.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    assert_eq!(alice.call(Put, "/photos/k", &[], b"first").status, 200);
    assert_eq!(alice.call(Put, "/photos/c", &[], b"copy").status, 200);
    let begun = alice.call(Post, "/photos/k?uploads", &[], b"");
    let text = String::from_utf8(begun.body).unwrap();
    let upload = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
    let part = alice.call(Put, &format!("/photos/k?partNumber=1&uploadId={upload}"), &[], b"part");
    let etag = part.header("etag").unwrap();
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let complete = format!("/photos/k?uploadId={upload}");
    let copy = ("x-amz-copy-source", "/photos/k");
    let (make, change) = (("if-none-match", "*"), ("if-match", "\"0123456789abcdef0123456789abcdef\""));
    for (method, path, headers, body) in [
        (Put, "/photos/k", vec![make], &b"x"[..]),
        (Put, "/photos/k", vec![change], b"x"),
        (Put, "/photos/c", vec![make, copy], b""),
        (Put, "/photos/c", vec![change, copy], b""),
        (Post, &complete, vec![make], list.as_bytes()),
        (Post, &complete, vec![change], list.as_bytes()),
        (Delete, "/photos/k", vec![change], b""),
        (Get, "/photos/k", vec![change], b""),
    ] {
        let reply = alice.call(method, path, &headers, body);
        assert_eq!((reply.status, reply.code()), (412, "PreconditionFailed".into()), "{path} {headers:?}");
        let named = if headers[0] == make { "If-None-Match" } else { "If-Match" };
        let told = String::from_utf8(reply.body).unwrap();
        assert!(told.contains(&format!("<Condition>{named}</Condition>")), "{path} {headers:?}: {told}");
    }
    assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"first");
}
