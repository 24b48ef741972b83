//! What one object may do to the rest of its bucket: nothing.
//!
//! | the hole | the test that it is none here |
//! |---|---|
//! | names of metadata from forms and parameters are stored unread | `a_name_that_no_header_has_is_refused` |
//! | what no header can hold is accepted, and never given back | `what_no_header_can_hold_is_refused` |
//! | one object that can not be read hides all others, and stays for ever | `what_can_not_be_read_costs_its_own_line` |

use crate::bench::{ALICE, Bench, checked};
use bytes::Bytes;
use crossdock::{CoreEngine, UploadId, Which};
use crossdock_s3::protocol::http::Method::{Delete, Get, Head, Post, Put};
use futures_lite::future::block_on;

/// A form with these fields and a file, signed by nobody.
fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (name, value) in [("key", "posted")].iter().chain(fields).chain(&[("file", "content")]) {
        text += &format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    (text + "--b--\r\n").into_bytes()
}

const FORM: [(&str, &str); 1] = [("content-type", "multipart/form-data; boundary=b")];

/// A bucket that whoever likes may write to.
fn open_bucket() -> Bench {
    let bench = Bench::of_strangers();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/drop", &[("x-amz-acl", "public-read-write")], b"").status, 200);
    bench
}

#[test]
fn a_name_that_no_header_has_is_refused() {
    // Field names of forms and names of presigned parameters: with a zero byte, a space, a colon, a line end, no ASCII. A zero byte
    // would end the name where it is stored, and two such names would be one.
    let bench = open_bucket();
    let mut alice = bench.client(ALICE);
    for name in ["a\0b", "a b", "a:b", "a\tb", "\u{e9}"] {
        let field = format!("x-amz-meta-{name}");
        let request = alice.unsigned(Post, "/drop", &FORM, &form(&[(&field, "1"), ("x-amz-meta-a", "2")]));
        let reply = alice.send(&request);
        assert_eq!((reply.status, reply.code()), (400, "InvalidArgument".into()), "{name:?}");
    }
    for name in ["a%00b", "a%20b", "a%3Ab", "a%0D%0Ab", "%C3%A9", "%ff"] {
        for (method, path) in [(Put, "/drop/presigned?"), (Post, "/drop/presigned?uploads&")] {
            let path = format!("{path}x-amz-meta-a=2&x-amz-meta-{name}=1");
            let request = alice.presigned(method, &path, 0);
            let reply = alice.send(&request);
            let refused = (400, "AuthorizationQueryParametersError".into());
            assert_eq!((reply.status, reply.code()), refused, "{name:?}");
        }
    }
    for list in ["/drop", "/drop?list-type=2", "/drop?versions", "/drop?uploads"] {
        let text = String::from_utf8(alice.call(Get, list, &[], b"").body).unwrap();
        assert!(text.contains("<Name>drop") || text.contains("<Bucket>drop"), "{list}: {text}");
        assert!(!text.contains("<Key>"), "{list}: {text}");
    }
}

#[test]
fn what_no_header_can_hold_is_refused() {
    // A value with a line end could never be given back: it is refused when it comes, and nothing is stored.
    let bench = open_bucket();
    let mut alice = bench.client(ALICE);
    for (name, value) in [
        ("x-amz-meta-a", "1\r\nx-amz-meta-b: 2"),
        ("cache-control", "no-cache\r\n"),
        ("Content-Type", "text/plain\0"),
        ("x-amz-meta-a", "1\u{7f}"),
    ] {
        let request = alice.unsigned(Post, "/drop", &FORM, &form(&[(name, value)]));
        let reply = alice.send(&request);
        assert_eq!((reply.status, reply.code()), (400, "InvalidArgument".into()), "{name}: {value:?}");
        assert_eq!(alice.call(Head, "/drop/posted", &[], b"").status, 404, "{name}: {value:?}");
    }
    // Where it can not send the browser on it says what it says without a redirect.
    let fields = [("success_action_redirect", "http://x.example/\r\nx"), ("success_action_status", "201")];
    let request = alice.unsigned(Post, "/drop", &FORM, &form(&fields));
    let reply = alice.send(&request);
    assert_eq!(reply.status, 201);
    assert!(reply.header("location").is_some_and(|location| location.ends_with("/drop/posted")));
    // What can be held is.
    let fields = [("x-amz-meta-a", "caf\u{e9}\t1"), ("Cache-Control", "no-cache")];
    let request = alice.unsigned(Post, "/drop", &FORM, &form(&fields));
    assert_eq!(alice.send(&request).status, 204);
    let kept = bench.engine().clone();
    let info = block_on(kept.head("drop", b"posted", Which::Current)).unwrap();
    assert!(String::from_utf8_lossy(&info.attributes).contains("caf\u{e9}\t1"));
}

/// Attributes with a name of user metadata twice, as older versions of this server could be made to store them.
const TWICE: &[u8] = b"\x01\x08\x03\0\0\0a\x001\x08\x03\0\0\0a\x002";

#[test]
fn what_can_not_be_read_costs_its_own_line() {
    // Beside an object and an upload whose metadata can not be read all others are listed, and so are they, as far as they can be
    // told. They can be deleted, one by one and with others, also where there are locks, unless it is the lock that can not be read.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(alice.call(Put, "/vault", &lock, b"").status, 200);
    let mut versions = Vec::new();
    for key in ["bad1", "bad2", "held", "good"] {
        let put = alice.call(Put, &format!("/vault/{key}"), &[], b"kept");
        versions.push(put.header("x-amz-version-id").unwrap().to_owned());
    }
    let engine = bench.engine().clone();
    // The last one is locked besides.
    let held = [TWICE, b"\x0e\x01\0\0\0\x01"].concat();
    for (key, attributes) in [("bad1", TWICE), ("bad2", TWICE), ("held", &held)] {
        let attributes = Bytes::copy_from_slice(attributes);
        let spoil = engine.set_attributes("vault", key.as_bytes(), Which::Current, None, attributes);
        block_on(spoil).unwrap();
    }
    let begin = bench.engine().on_core(0, |engine: CoreEngine| async move {
        engine.create_upload("vault", b"bad", Bytes::from_static(TWICE)).await.map(|upload| upload.upload)
    });
    let _: UploadId = block_on(begin).unwrap().unwrap();
    assert_eq!(alice.call(Post, "/vault/good?uploads", &[], b"").status, 200);
    for (list, keys) in [
        ("/vault", 4),
        ("/vault?list-type=2&fetch-owner=true", 4),
        ("/vault?versions", 4),
        ("/vault?uploads", 2),
    ] {
        let reply = alice.call(Get, list, &[], b"");
        let text = String::from_utf8_lossy(&reply.body);
        assert_eq!((reply.status, text.matches("<Key>").count()), (200, keys), "{list}: {text}");
    }
    assert_eq!(alice.call(Get, "/vault/bad1", &[], b"").status, 500);
    let delete = format!("/vault/bad1?versionId={}", versions[0]);
    assert_eq!(alice.call(Delete, &delete, &[], b"").status, 204);
    let object = |key: &str, version: &str| {
        format!("<Object><Key>{key}</Key><VersionId>{version}</VersionId></Object>")
    };
    let many = format!("<Delete>{}{}</Delete>", object("bad2", &versions[1]), object("held", &versions[2]));
    let reply = checked(&mut alice, Post, "/vault?delete", many.as_bytes());
    let text = String::from_utf8_lossy(&reply.body);
    assert!(text.contains("<Deleted><Key>bad2</Key>"), "{text}");
    assert!(text.contains("<Error><Key>held</Key>") && text.contains("<Code>AccessDenied</Code>"), "{text}");
    let text = String::from_utf8(alice.call(Get, "/vault?versions", &[], b"").body).unwrap();
    assert!(!text.contains("bad") && text.contains("<Key>held</Key>"), "{text}");
}
