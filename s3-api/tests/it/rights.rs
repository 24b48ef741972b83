//! Each thing that a request does is a right of its own.
//!
//! | the hole | the test that it is none here |
//! |---|---|
//! | governance is passed over by whoever may do so somewhere | `governance_is_passed_over_key_by_key` |

use crate::bench::{ALICE, Bench, CAROL, Client, crc32};
use crossdock_s3::protocol::http::Method::{Post, Put};

const LOCKS: (&str, &str) = ("x-amz-bucket-object-lock-enabled", "true");
const MODE: (&str, &str) = ("x-amz-object-lock-mode", "GOVERNANCE");
const UNTIL: (&str, &str) = ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z");

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
