//! Conditional requests, from end to end.

use crate::bench::{ALICE, Bench};
use crossdock_s3::protocol::http::Method::{Delete, Get, Head, Post, Put};

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

#[test]
fn a_range_is_of_the_object_that_the_client_has() {
    // With If-Range a range comes only while the tag or the date is the object's own: else all of it, as what was begun to be
    // fetched was another. Weak tags and dates that are too early, too late or none are no match.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    assert_eq!(alice.call(Put, "/photos/k", &[], b"0123456789").status, 200);
    let head = alice.call(Head, "/photos/k", &[], b"");
    let (etag, date) =
        (head.header("etag").unwrap().to_owned(), head.header("last-modified").unwrap().to_owned());
    let weak = format!("W/{etag}");
    for (validator, is_match) in [
        (&*etag, true),
        (&*date, true),
        (&*weak, false),
        ("\"0123456789abcdef0123456789abcdef\"", false),
        ("Sun, 06 Nov 1994 08:49:37 GMT", false),
        ("Fri, 06 Nov 2993 08:49:37 GMT", false),
        ("?", false),
    ] {
        let fields = [("range", "bytes=2-4"), ("if-range", validator)];
        let got = alice.call(Get, "/photos/k", &fields, b"");
        let expected = if is_match { (206, &b"234"[..]) } else { (200, &b"0123456789"[..]) };
        assert_eq!((got.status, &*got.body), expected, "{validator}");
        let head = alice.call(Head, "/photos/k", &fields, b"");
        assert_eq!(
            (head.status, head.header("content-range").is_some()),
            (expected.0, is_match),
            "{validator}"
        );
        // A range that the object does not have is none to be refused then.
        let beyond = [("range", "bytes=20-"), ("if-range", validator)];
        assert_eq!(
            alice.call(Get, "/photos/k", &beyond, b"").status,
            if is_match { 416 } else { 200 },
            "{validator}"
        );
    }
    assert_eq!(alice.call(Get, "/photos/k", &[("if-range", &etag)], b"").status, 200);
}
