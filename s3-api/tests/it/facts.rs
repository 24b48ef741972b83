//! What a policy is told is what the request will do, and not what its head says besides.
//!
//! | the hole | the test that it is none here |
//! |---|---|
//! | a header is judged by its first line and done by all of them | `a_header_that_stands_twice_is_refused` |
//! | of tags that differ in case one hides the other | `tags_that_differ_in_case_do_not_hide_each_other` |

use crate::bench::{ALICE, BOB, Bench, Client};
use crossdock_s3::protocol::http::Method::{Delete, Get, Head, Post, Put};

const ENFORCED: (&str, &str) = ("x-amz-object-ownership", "BucketOwnerEnforced");

fn statement(effect: &str, actions: &str, bucket: &str, condition: &str) -> String {
    format!(
        "{{\"Effect\":\"{effect}\",\"Principal\":\"*\",\"Action\":[{actions}],\"Resource\":\"arn:aws:s3:::{bucket}/*\",\
         \"Condition\":{{{condition}}}}}"
    )
}

fn set_policy(client: &mut Client, bucket: &str, statements: &[String]) {
    let policy = format!("{{\"Statement\":[{}]}}", statements.join(","));
    let reply = client.call(Put, &format!("/{bucket}?policy"), &[], policy.as_bytes());
    assert_eq!(reply.status, 204, "{}", String::from_utf8_lossy(&reply.body));
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields.iter().chain(&[("file", "content")]) {
        text += &format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    text + "--b--\r\n"
}

fn post(client: &mut Client, bucket: &str, fields: &[(&str, &str)]) -> u16 {
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let request = client.unsigned(Post, &format!("/{bucket}"), &headers, form(fields).as_bytes());
    client.send(&request).status
}

#[test]
fn a_header_that_stands_twice_is_refused() {
    // Two lines of a header that says one thing, and grants of two lines, whichever of them a policy would see.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/target", &[], b"").status, 200);
    let condition = "\"StringEquals\":{\"s3:x-amz-grant-full-control\":\"id=account-a\"}";
    set_policy(&mut alice, "target", &[statement("Allow", "\"s3:PutObject\"", "target", condition)]);
    let (owner, bobs) =
        (("x-amz-grant-full-control", "id=account-a"), ("x-amz-grant-full-control", "id=account-b"));
    assert_eq!(bob.call(Put, "/target/k", &[owner], b"x").status, 200);
    assert_eq!(bob.call(Put, "/target/k", &[bobs], b"x").status, 403);
    for both in [[owner, bobs], [bobs, owner], [owner, owner]] {
        assert_eq!(bob.call(Put, "/target/k", &both, b"x").status, 403, "{both:?}");
        let reply = alice.call(Put, "/target/k", &both, b"x");
        assert_eq!((reply.status, reply.code()), (400, "InvalidArgument".into()), "{both:?}");
    }
    for header in [
        ("x-amz-acl", "private"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-object-lock-legal-hold", "ON"),
    ] {
        let reply = alice.call(Put, "/target/k", &[header, header], b"x");
        assert_eq!((reply.status, reply.code()), (400, "InvalidArgument".into()), "{header:?}");
    }
    let fields = [("key", "k"), ("acl", "private"), ("x-amz-acl", "public-read")];
    assert_eq!(alice.call(Put, "/target?acl", &[("x-amz-acl", "public-read-write")], b"").status, 200);
    set_policy(&mut alice, "target", &[statement("Allow", "\"s3:PutObject\"", "target", "")]);
    assert_eq!(post(&mut bob, "target", &fields), 400);
    // What is a list may come in several lines.
    let metadata = [("x-amz-meta-a", "1"), ("x-amz-meta-a", "2")];
    assert_eq!(alice.call(Put, "/target/k", &metadata, b"x").status, 200);
    assert_eq!(alice.call(Head, "/target/k", &[], b"").header("x-amz-meta-a"), Some("1,2"));
    let attributes = [("x-amz-object-attributes", "ETag"), ("x-amz-object-attributes", "ObjectSize")];
    assert_eq!(alice.call(Get, "/target/k?attributes", &attributes, b"").status, 200);
}

#[test]
fn tags_that_differ_in_case_do_not_hide_each_other() {
    // Names of facts have no case: what denies one of the values denies, and what allows one of them does not.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/target", &[ENFORCED], b"").status, 200);
    let puts = "\"s3:PutObject\",\"s3:PutObjectTagging\"";
    for (effect, operator, value, tags, status) in [
        ("Deny", "StringEquals", "prod", "Env=prod&env=dev", 403),
        ("Deny", "StringEquals", "prod", "ENV=dev&Env=prod", 403),
        ("Deny", "StringNotEquals", "dev", "Env=prod&env=dev", 403),
        ("Deny", "StringEquals", "prod", "Env=test&env=dev", 200),
        ("Allow", "StringEquals", "dev", "Env=prod&env=dev", 403),
        ("Allow", "StringNotEquals", "prod", "Env=prod&env=dev", 403),
        ("Allow", "StringEquals", "dev", "Env=dev&env=dev", 200),
        ("Allow", "StringEquals", "${s3:RequestObjectTag/is}", "is=dev&IS=prod&env=dev", 403),
    ] {
        let of = |name: &str| format!("\"{operator}\":{{\"s3:{name}ObjectTag/env\":\"{value}\"}}");
        let existing = of("Existing").replace("s3:RequestObjectTag", "s3:ExistingObjectTag");
        let mut statements = vec![
            statement(effect, puts, "target", &of("Request")),
            statement(effect, "\"s3:GetObject\"", "target", &existing),
        ];
        if effect == "Deny" {
            statements.push(statement("Allow", "\"s3:GetObject\",\"s3:PutObject*\"", "target", ""));
        }
        let tags = [("x-amz-tagging", tags)];
        assert_eq!(alice.call(Delete, "/target?policy", &[], b"").status, 204);
        assert_eq!(alice.call(Put, "/target/k", &tags, b"x").status, 200);
        set_policy(&mut alice, "target", &statements);
        assert_eq!(bob.call(Put, "/target/k", &tags, b"x").status, status, "{effect} {operator} {tags:?}");
        assert_eq!(bob.call(Get, "/target/k", &[], b"").status, status, "{effect} {operator} {tags:?}");
    }
}
