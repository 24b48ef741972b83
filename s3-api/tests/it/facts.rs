//! What a policy is told is what the request will do, and not what its head says besides.
//!
//! | the hole | the test that it is none here |
//! |---|---|
//! | of tags that differ in case one hides the other | `tags_that_differ_in_case_do_not_hide_each_other` |

use crate::bench::{ALICE, BOB, Bench, Client};
use crossdock_s3::protocol::http::Method::{Delete, Get, Put};

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
