//! Conditional requests, from end to end.

use crate::{
    bench::{ALICE, BOB, Bench, Client, Strangers, checked},
    remote::Peer,
    revoked::Behind,
    withheld::held_back,
};
use bytes::Bytes;
use crossdock::{CommitOptions, EntityTag, PutOptions};
use crossdock_s3::protocol::http::Method::{Delete, Get, Head, Post, Put};
use crossdock_transport::remote::SessionId;
use futures_lite::future::block_on;
use std::sync::Arc;

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

#[test]
fn what_may_be_written_once_is_not_replaced() {
    // Bob may write where a condition keeps him from writing over what is there. A list of tags that the object has none of is no such
    // condition, in one line or beside others; whether it is put, copied or joined.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    let owned = [("x-amz-object-ownership", "BucketOwnerEnforced")];
    assert_eq!(alice.call(Put, "/ledger", &owned, b"").status, 200);
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::ledger/*",
        "Condition":{"Null":{"s3:if-none-match":"false"}}}}"#;
    assert_eq!(alice.call(Put, "/ledger?policy", &[], policy.as_bytes()).status, 204);
    let absent = ("if-none-match", "*");
    assert_eq!(bob.call(Put, "/ledger/k", &[absent], b"first").status, 200);
    assert_eq!(bob.call(Put, "/ledger/k", &[], b"second").code(), "AccessDenied");
    assert_eq!(bob.call(Put, "/ledger/k", &[absent], b"second").code(), "PreconditionFailed");
    // What he copies is his own to read, so that nothing but the condition can be missing.
    assert_eq!(bob.call(Put, "/drafts", &[], b"").status, 200);
    assert_eq!(bob.call(Put, "/drafts/k", &[], b"second").status, 200);
    let source = ("x-amz-copy-source", "/drafts/k");
    assert_eq!(bob.call(Put, "/ledger/l", &[absent, source], b"").status, 200);
    assert_eq!(bob.call(Put, "/ledger/k", &[absent, source], b"").code(), "PreconditionFailed");
    assert_ne!(bob.call(Post, "/ledger/k?uploadId=0", &[absent], b"").code(), "AccessDenied");
    let other = ("if-none-match", "\"0123456789abcdef0123456789abcdef\"");
    let (all, none) = (("if-none-match", "\"*\""), ("if-none-match", "\"\""));
    for fields in [vec![other], vec![other, other], vec![all], vec![none]] {
        let reply = bob.call(Put, "/ledger/k", &fields, b"second");
        assert_eq!((reply.status, reply.code()), (403, "AccessDenied".into()), "{fields:?}");
        let copied = [&fields[..], &[source]].concat();
        for path in ["/ledger/k", "/ledger/m"] {
            assert_eq!(bob.call(Put, path, &copied, b"").code(), "AccessDenied", "{path} {fields:?}");
        }
        let joined = bob.call(Post, "/ledger/k?uploadId=0", &fields, b"");
        assert_eq!(joined.code(), "AccessDenied", "{fields:?}");
    }
    assert_eq!(alice.call(Get, "/ledger/k", &[], b"").body, b"first");
}

#[test]
fn a_write_says_what_it_does_not_replace() {
    // Put, copied or joined: refused where one of the tags is that of the object, also a weak one or in a line of its own; done where none
    // is, and where there is no object, for which a delete marker counts.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let versioned = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(checked(&mut alice, Put, "/photos?versioning", versioned).status, 200);
    let source = alice.call(Put, "/photos/source", &[], b"copied");
    let copied = source.header("etag").unwrap().to_owned();
    let write = |alice: &mut Client, way: &str, fields: &[(&str, &str)]| match way {
        "put" => alice.call(Put, "/photos/k", fields, b"second"),
        "copy" => {
            let fields = [fields, &[("x-amz-copy-source", "/photos/source")]].concat();
            alice.call(Put, "/photos/k", &fields, b"")
        }
        _ => {
            let begun = String::from_utf8(alice.call(Post, "/photos/k?uploads", &[], b"").body).unwrap();
            let upload = begun.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
            let part = alice.call(Put, &format!("/photos/k?partNumber=1&uploadId={upload}"), &[], b"part");
            let etag = part.header("etag").unwrap();
            let list = format!(
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
            );
            alice.call(Post, &format!("/photos/k?uploadId={upload}"), fields, list.as_bytes())
        }
    };
    for way in ["put", "copy", "join"] {
        let first = alice.call(Put, "/photos/k", &[], b"first");
        let etag = first.header("etag").unwrap().to_owned();
        let (weak, listed) = (format!("W/{etag}"), format!("\"zz\", {etag}"));
        let name = "if-none-match";
        for fields in [
            vec![(name, &*etag)],
            vec![(name, &*weak)],
            vec![(name, &*listed)],
            vec![(name, "\"zz\""), (name, &*etag)],
            vec![(name, etag.trim_matches('"'))],
        ] {
            let reply = write(&mut alice, way, &fields);
            assert_eq!((reply.status, reply.code()), (412, "PreconditionFailed".into()), "{way} {fields:?}");
            let told = String::from_utf8(reply.body).unwrap();
            assert!(told.contains("<Condition>If-None-Match</Condition>"), "{way} {fields:?}: {told}");
            assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"first", "{way} {fields:?}");
        }
        let other = [(name, "\"zz\""), (name, &copied)];
        let reply = write(&mut alice, way, &other);
        assert_eq!((reply.status, reply.code()), (200, String::new()), "{way}");
        assert_ne!(alice.call(Get, "/photos/k", &[], b"").body, b"first", "{way}");
        let now = alice.call(Head, "/photos/k", &[], b"").header("etag").unwrap().to_owned();
        assert_eq!(write(&mut alice, way, &[(name, &*now)]).status, 412, "{way}");
        assert_eq!(alice.call(Delete, "/photos/k", &[], b"").status, 204);
        assert_eq!(write(&mut alice, way, &[(name, &*now)]).status, 200, "{way}");
    }
}

#[test]
fn every_line_of_a_condition_counts() {
    // Lines of one name are one list. What is no list then is refused where it would change something.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let put = alice.call(Put, "/photos/k", &[], b"first");
    let etag = put.header("etag").unwrap().to_owned();
    let (mine, other) = (("if-match", &*etag), ("if-match", "\"zz\""));
    let (known, new, any) = (("if-none-match", &*etag), ("if-none-match", "\"zz\""), ("if-none-match", "*"));
    for fields in [vec![new, any], vec![any, new], vec![any, any]] {
        let reply = alice.call(Put, "/photos/k", &fields, b"second");
        assert_eq!((reply.status, reply.code()), (400, "InvalidArgument".into()), "{fields:?}");
    }
    assert_eq!(alice.call(Put, "/photos/k", &[other, other], b"second").code(), "PreconditionFailed");
    assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"first");
    for (fields, status) in [
        (vec![new, known], 304),
        (vec![known, new], 304),
        (vec![new, new], 200),
        (vec![other, mine], 200),
        (vec![other, other], 412),
    ] {
        assert_eq!(alice.call(Get, "/photos/k", &fields, b"").status, status, "{fields:?}");
    }
    assert_eq!(alice.call(Put, "/photos/k", &[other, mine], b"third").status, 200);
}

#[test]
fn a_tag_may_be_empty() {
    // No object has it: If-Match fails, and If-None-Match holds.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    assert_eq!(alice.call(Put, "/photos/k", &[], b"first").status, 200);
    assert_eq!(alice.call(Get, "/photos/k", &[("if-none-match", "\"\"")], b"").status, 200);
    for method in [Get, Head, Put, Delete] {
        assert_eq!(alice.call(method, "/photos/k", &[("if-match", "\"\"")], b"").status, 412, "{method:?}");
    }
}

#[test]
fn a_condition_is_judged_when_the_bytes_are_there() {
    // Another writer comes between the look before the bytes and what is made of them: over HTTP the body is held back until it was there,
    // over shared memory it comes behind the last decision, from the core that the session is not on. Neither way is it written over.
    let behind = Arc::new(Behind::default());
    let bench = Bench::decided_by(Arc::new(Strangers), behind.clone());
    let (mut peer, mut alice) = (Peer::new(&bench), bench.client(ALICE));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let engine = bench.engine();
    let other = 1 - usize::from(SessionId::from_bytes(peer.session).core());
    let is_there = |key: &String| engine.core_of(engine.shard_of("photos", key.as_bytes())) == other;
    let key = (0..).map(|number| format!("k{number}")).find(is_there).unwrap();
    let path = format!("/photos/{key}");
    let put = move |engine: &crossdock::Engine, key: &str, bytes: &'static [u8]| {
        let write = async {
            let mut put = engine.put("photos", key.as_bytes(), PutOptions::default()).await?;
            put.write(Bytes::from_static(bytes)).await?;
            put.finish(CommitOptions { etag: EntityTag::new(b"theirs"), ..CommitOptions::default() }).await
        };
        block_on(write).unwrap();
    };
    for (condition, tags) in [("if-none-match", "*"), ("if-none-match", "\"theirs\""), ("if-match", "")] {
        for over_http in [true, false] {
            assert_eq!(alice.call(Delete, &path, &[], b"").status, 204);
            let mut value = tags.to_owned();
            if tags.is_empty() {
                let first = alice.call(Put, &path, &[], b"first");
                value = first.header("etag").unwrap().to_owned();
            }
            let headers = [(condition, &*value)];
            let reply = if over_http {
                let request = alice.request(Put, &path, &headers, b"0123456789abcdef");
                held_back(&mut alice, &request, || put(engine, &key, b"theirs"))
            } else {
                let (engine, key) = (engine.clone(), key.clone());
                behind.act(1, move || put(&engine, &key, b"theirs"));
                peer.put(&path, b"0123456789abcdef", &headers)
            };
            assert_eq!((reply.status, reply.code()), (412, "PreconditionFailed".into()), "{condition}");
            assert_eq!(alice.call(Get, &path, &[], b"").body, b"theirs", "{condition} {over_http}");
            // With nobody in between it is written.
            let head = alice.call(Head, &path, &[], b"");
            let now = head.header("etag").unwrap().to_owned();
            if over_http {
                assert_eq!(alice.call(Put, &path, &[("if-match", &now)], b"mine").status, 200);
            } else {
                assert_eq!(peer.put(&path, b"mine", &[("if-match", &now)]).status, 200);
            }
            assert_eq!(alice.call(Get, &path, &[], b"").body, b"mine");
        }
    }
}
