//! Each thing that a request does is a right of its own.
//!
//! | the hole | the test that it is none here |
//! |---|---|
//! | governance is passed over by whoever may do so somewhere | `governance_is_passed_over_key_by_key` |
//! | whoever may put an object locks it for good, and tags it | `to_put_is_not_to_lock_or_to_tag` |
//! | attributes are told to whoever may read | `attributes_are_a_right_of_their_own` |
//! | a copy carries tags along that nobody may read, or write | `a_copy_takes_along_only_what_may_be_read_and_written` |
//! | a bit that flips on the way locks another object, or for another time | `what_locks_comes_with_a_digest` |

use crate::bench::{ALICE, BOB, Bench, CAROL, Client, checked, crc32};
use crossdock_s3::protocol::http::Method::{Get, Head, Post, Put};

const LOCKS: (&str, &str) = ("x-amz-bucket-object-lock-enabled", "true");
const ENFORCED: (&str, &str) = ("x-amz-object-ownership", "BucketOwnerEnforced");
const MODE: (&str, &str) = ("x-amz-object-lock-mode", "GOVERNANCE");
const UNTIL: (&str, &str) = ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z");
const HOLD: (&str, &str) = ("x-amz-object-lock-legal-hold", "ON");

fn statement(effect: &str, actions: &str, resource: &str) -> String {
    format!(
        "{{\"Effect\":\"{effect}\",\"Principal\":\"*\",\"Action\":[{actions}],\"Resource\":\"arn:aws:s3:::{resource}\"}}"
    )
}

fn set_policy(client: &mut Client, bucket: &str, statements: &[String]) {
    let policy = format!("{{\"Statement\":[{}]}}", statements.join(","));
    let reply = client.call(Put, &format!("/{bucket}?policy"), &[], policy.as_bytes());
    assert_eq!(reply.status, 204, "{}", String::from_utf8_lossy(&reply.body));
}

#[test]
fn governance_is_passed_over_key_by_key() {
    // Alice may delete anything but what a policy denies her to pass over governance for; Carol nothing but what one lets her.
    let bench = Bench::of_strangers();
    let (mut alice, mut carol) = (bench.client(ALICE), bench.client(CAROL));
    assert_eq!(alice.call(Put, "/vault", &[LOCKS], b"").status, 200);
    let sum = crc32(b"kept");
    let kept = [MODE, UNTIL, ("x-amz-checksum-crc32", &sum)];
    let delete_both = |client: &mut Client, alice: &mut Client| {
        let mut objects = String::new();
        for key in ["free", "kept"] {
            let put = alice.call(Put, &format!("/vault/{key}"), &kept, b"kept");
            let version = put.header("x-amz-version-id").unwrap();
            objects += &format!("<Object><Key>{key}</Key><VersionId>{version}</VersionId></Object>");
        }
        let document = format!("<Delete>{objects}</Delete>");
        let sum = crc32(document.as_bytes());
        let headers = [("x-amz-bypass-governance-retention", "true"), ("x-amz-checksum-crc32", &*sum)];
        let reply = client.call(Post, "/vault?delete", &headers, document.as_bytes());
        String::from_utf8(reply.body).unwrap()
    };
    set_policy(&mut alice, "vault", &[statement("Deny", "\"s3:BypassGovernanceRetention\"", "vault/kept")]);
    let mut other = bench.client(ALICE);
    let text = delete_both(&mut alice, &mut other);
    assert!(text.contains("<Deleted><Key>free</Key>") && text.contains("<Error><Key>kept</Key>"), "{text}");
    let statements = [
        statement("Allow", "\"s3:DeleteObjectVersion\"", "vault/*"),
        statement("Allow", "\"s3:BypassGovernanceRetention\"", "vault/free"),
    ];
    set_policy(&mut alice, "vault", &statements);
    let text = delete_both(&mut carol, &mut other);
    assert!(text.contains("<Deleted><Key>free</Key>") && text.contains("<Error><Key>kept</Key>"), "{text}");
}

#[test]
fn to_put_is_not_to_lock_or_to_tag() {
    // A policy that lets everybody put lets nobody of another account lock what is put, or tag it where it is not the writer's own.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/enforced", &[LOCKS, ENFORCED], b"").status, 200);
    assert_eq!(alice.call(Put, "/shared", &[LOCKS], b"").status, 200);
    let sum = crc32(b"x");
    let digest = ("x-amz-checksum-crc32", &*sum);
    let (tag, full) = (("x-amz-tagging", "a=b"), ("x-amz-acl", "bucket-owner-full-control"));
    let form = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nposted\r\n--b\r\nContent-Disposition: form-data; \
        name=\"tagging\"\r\n\r\n<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>\r\n--b\r\n\
        Content-Disposition: form-data; name=\"file\"\r\n\r\ncontent\r\n--b--\r\n";
    let form_headers = [("content-type", "multipart/form-data; boundary=b")];
    for bucket in ["enforced", "shared"] {
        let all = format!("{bucket}/*");
        set_policy(&mut alice, bucket, &[statement("Allow", "\"s3:PutObject\"", &all)]);
        let path = format!("/{bucket}/k");
        // Where lists have a say the writer owns what it writes, and its tags and its list with it.
        let tagged = if bucket == "enforced" { 403 } else { 200 };
        for (headers, status) in [
            (vec![digest], 200),
            (vec![digest, MODE, UNTIL], 403),
            (vec![digest, HOLD], 403),
            (vec![digest, tag], tagged),
            (vec![digest, full], 200),
        ] {
            let unsigned = bob.unsigned(Put, &path, &headers, b"x");
            assert_eq!(bob.send(&unsigned).status, status, "{bucket} {headers:?}, nobody");
            assert_eq!(bob.call(Put, &path, &headers, b"x").status, status, "{bucket} {headers:?}, Bob");
        }
        for headers in [&[MODE, UNTIL][..], &[HOLD]] {
            let begun = bob.call(Post, &format!("{path}?uploads"), headers, b"");
            assert_eq!(begun.status, 403, "{bucket} {headers:?}");
        }
        let posted = bob.unsigned(Post, &format!("/{bucket}"), &form_headers, form.as_bytes());
        let told = bob.send(&posted).status;
        assert_eq!(told, if bucket == "enforced" { 403 } else { 204 }, "{bucket}, a form");
        // With the rights it may.
        let more =
            "\"s3:PutObject\",\"s3:PutObjectTagging\",\"s3:PutObjectRetention\",\"s3:PutObjectLegalHold\"";
        set_policy(&mut alice, bucket, &[statement("Allow", more, &all)]);
        assert_eq!(bob.call(Put, &path, &[digest, MODE, UNTIL, HOLD, tag], b"x").status, 200, "{bucket}");
        // The owner's account needs no policy for what is its own.
        assert_eq!(alice.call(Put, &path, &[digest, MODE, UNTIL, HOLD, tag], b"x").status, 200, "{bucket}");
    }
}

#[test]
fn attributes_are_a_right_of_their_own() {
    // Leave to read an object is no leave to be told its parts and checksums.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[ENFORCED], b"").status, 200);
    assert_eq!(alice.call(Put, "/photos/k", &[], b"x").status, 200);
    let attributes = [("x-amz-object-attributes", "ObjectSize")];
    for (actions, status) in [("\"s3:GetObject\"", 403), ("\"s3:GetObject\",\"s3:GetObjectAttributes\"", 200)]
    {
        set_policy(&mut alice, "photos", &[statement("Allow", actions, "photos/*")]);
        let unsigned = bob.unsigned(Get, "/photos/k?attributes", &attributes, b"");
        assert_eq!(bob.send(&unsigned).status, status, "{actions}, nobody");
        assert_eq!(bob.call(Get, "/photos/k?attributes", &attributes, b"").status, status, "{actions}, Bob");
    }
}

#[test]
fn a_copy_takes_along_only_what_may_be_read_and_written() {
    // Tags are handed down with an object to whoever may read them, into a bucket where it may write them.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[ENFORCED], b"").status, 200);
    assert_eq!(bob.call(Put, "/mine", &[ENFORCED], b"").status, 200);
    assert_eq!(alice.call(Put, "/photos/tagged", &[("x-amz-tagging", "secret=1")], b"x").status, 200);
    assert_eq!(alice.call(Put, "/photos/bare", &[], b"x").status, 200);
    set_policy(&mut alice, "photos", &[statement("Allow", "\"s3:GetObject\"", "photos/*")]);
    let (tagged, bare) = (("x-amz-copy-source", "/photos/tagged"), ("x-amz-copy-source", "/photos/bare"));
    let replaced = [tagged, ("x-amz-tagging-directive", "REPLACE")];
    assert_eq!(bob.call(Put, "/mine/k", &[tagged], b"").code(), "AccessDenied");
    assert_eq!(bob.call(Head, "/mine/k", &[], b"").status, 404);
    assert_eq!(bob.call(Put, "/mine/k", &replaced, b"").status, 200);
    assert_eq!(bob.call(Put, "/mine/k", &[bare], b"").status, 200);
    let reads = "\"s3:GetObject\",\"s3:GetObjectTagging\"";
    set_policy(&mut alice, "photos", &[statement("Allow", reads, "photos/*")]);
    assert_eq!(bob.call(Put, "/mine/k", &[tagged], b"").status, 200);
    let text = bob.call(Get, "/mine/k?tagging", &[], b"").body;
    assert!(String::from_utf8_lossy(&text).contains("<Key>secret</Key>"));
    let with_tag = "\"Resource\":\"arn:aws:s3:::mine/*\",\"Condition\":{\"StringEquals\":{\"s3:RequestObjectTag/secret\":\"1\"}}";
    let by_tag = statement("Deny", "\"s3:PutObjectTagging\"", "mine/*")
        .replace("\"Resource\":\"arn:aws:s3:::mine/*\"", with_tag);
    for denied in [statement("Deny", "\"s3:PutObjectTagging\"", "mine/*"), by_tag] {
        set_policy(&mut bob, "mine", &[denied]);
        assert_eq!(bob.call(Put, "/mine/k", &[tagged], b"").code(), "AccessDenied");
        assert_eq!(bob.call(Put, "/mine/k", &[bare], b"").status, 200);
    }
}

#[test]
fn what_locks_comes_with_a_digest() {
    // Of the body, in any of the ways there are; without one nothing is locked.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/vault", &[LOCKS], b"").status, 200);
    assert_eq!(alice.call(Put, "/vault/k", &[], b"x").status, 200);
    let hold = b"<LegalHold><Status>ON</Status></LegalHold>";
    let retention = b"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2999-01-01T00:00:00Z</RetainUntilDate></Retention>";
    for (path, headers, body) in [
        ("/vault/x", &[MODE, UNTIL][..], &b"x"[..]),
        ("/vault/x", &[HOLD], b"x"),
        ("/vault/k?legal-hold", &[], hold),
        ("/vault/k?retention", &[], retention),
    ] {
        let reply = alice.call(Put, path, headers, body);
        assert_eq!((reply.status, reply.code()), (400, "InvalidRequest".into()), "{path}");
        let md5 = {
            use base64::Engine as _;
            use md5::{Digest, Md5};
            base64::engine::general_purpose::STANDARD.encode(Md5::digest(body))
        };
        let sum = crc32(body);
        for digest in [("content-md5", &*md5), ("x-amz-checksum-crc32", &*sum)] {
            let headers = [headers, &[digest]].concat();
            assert_eq!(alice.call(Put, path, &headers, body).status, 200, "{path} {digest:?}");
        }
    }
    // And it is compared.
    let other = crc32(b"another body");
    let wrong = alice.call(Put, "/vault/k?retention", &[("x-amz-checksum-crc32", &*other)], retention);
    assert_eq!((wrong.status, wrong.code()), (400, "BadDigest".into()));
    assert_eq!(checked(&mut alice, Put, "/vault/k?retention", retention).status, 200);
}
