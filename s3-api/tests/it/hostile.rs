//! What brought other stores down: one test for each way in.
//!
//! | others' hole | the test that it is none here |
//! |---|---|
//! | UploadPartCopy asks nobody about its source | `a_copy_needs_the_right_to_its_source` |
//! | …and passes the conditions on sources in the target's policy by | `a_policy_on_sources_binds_parts_as_well` |
//! | a version is read under the right to the current one | `a_version_needs_the_right_to_versions` |
//! | a second way to the bytes is not asked about | `no_proposal_goes_past_the_decision` |
//! | a user of the account passes for the account | `a_user_may_do_no_more_than_its_policies` |
//! | conditions of a form are read and not enforced | `conditions_of_a_form_are_enforced` |
//! | keys climb out of their bucket | `no_key_climbs` |
//! | `X-Forwarded-For` is believed, headers pass for facts | `nobody_else_says_where_a_request_comes_from` |
//! | presigned requests live on | `a_presigned_request_has_an_end` |
//! | headers and parameters are added to what was signed | `a_header_that_nobody_signed_is_refused` |
//! | the access key is looked up and the signature is not checked | `a_key_is_not_enough` |
//! | tokens are given out to whoever asks, or taken unread | `no_token_is_given_or_taken` |
//! | locks that can not be read are taken for none | `a_lock_that_can_not_be_read_holds` |
//! | a lock without a period is one of no days | `a_lock_without_a_period_is_none` |
//! | unknown elements, and names that stand twice, are passed over | `unknown_elements_are_not_waved_through` |
//! | negative numbers are cast | `negative_numbers_stay_negative` |
//! | every origin is told that it may bring its cookies | `no_origin_is_reflected_with_credentials` |
//! | data is said to be encrypted and is not | `nothing_is_stored_in_the_clear_that_was_to_be_encrypted` |
//! | who is allowed everything in a bucket takes it over by its policy | `no_policy_gives_itself_away` |
//! | chunks are taken from another request, in another order, or not to the end | `chunks_are_of_their_request_and_in_their_place` |
//! | patterns of a policy are tried at every place of a long name | `a_policy_is_judged_soon_whatever_it_says` |
//! | a grant to an account is one to each of its users | `an_account_decides_about_its_users` |
//! | conditions on what nobody tells, and actions that nobody asks about, never fire | `a_policy_that_would_be_passed_over_is_refused` |
//! | how old a signature is, and how long a lock would hold, is not asked | `signatures_and_locks_are_facts` |
//!
//! Default credentials there are none to test: a server that is given no keys makes some up (`examples/src/bin/s3-server/identities.rs`).

use crate::bench::{ALICE, BOB, Bench, CAROL, Client, connect};
use crate::configurations::crc64;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use crossdock::Which;
use crossdock_s3::protocol::http::Method::{Delete, Get, Head, Options, Post, Put};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

/// A bucket of Alice's with an object, and whoever else there is.
fn strangers() -> (Bench, Client, Client) {
    let bench = Bench::of_strangers();
    let (mut alice, bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    assert_eq!(alice.call(Put, "/photos/k", &[], b"private").status, 200);
    (bench, alice, bob)
}

fn allow(alice: &mut Client, action: &str, condition: &str) {
    let policy = format!(
        "{{\"Statement\":{{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"{action}\",\
         \"Resource\":\"arn:aws:s3:::photos/*\",\"Condition\":{{{condition}}}}}}}"
    );
    let reply = alice.call(Put, "/photos?policy", &[], policy.as_bytes());
    assert_eq!(reply.status, 204, "{}", String::from_utf8_lossy(&reply.body));
}

#[test]
fn a_copy_needs_the_right_to_its_source() {
    // CopyObject and UploadPartCopy into a bucket of one's own read nothing that a GET would not.
    let (_bench, _alice, mut bob) = strangers();
    assert_eq!(bob.call(Put, "/mine", &[], b"").status, 200);
    let source = [("x-amz-copy-source", "/photos/k")];
    assert_eq!(bob.call(Put, "/mine/k", &source, b"").code(), "AccessDenied");
    let begun = bob.call(Post, "/mine/k?uploads", &[], b"");
    let text = String::from_utf8(begun.body).unwrap();
    let upload = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
    let part = format!("/mine/k?partNumber=1&uploadId={upload}");
    assert_eq!(bob.call(Put, &part, &source, b"").code(), "AccessDenied");
}

#[test]
fn a_policy_on_sources_binds_parts_as_well() {
    // "s3:x-amz-copy-source" in the policy of the target: what may not be copied whole may not be copied in parts.
    let (_bench, mut alice, _bob) = strangers();
    assert_eq!(alice.call(Put, "/photos/public/k", &[], b"public").status, 200);
    assert_eq!(alice.call(Put, "/target", &[], b"").status, 200);
    let policy = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::target/*",
        "Condition":{"StringNotLike":{"s3:x-amz-copy-source":["/photos/public/*","photos/public/*"]},"Null":{"s3:x-amz-copy-source":"false"}}}}"#;
    assert_eq!(alice.call(Put, "/target?policy", &[], policy.as_bytes()).status, 204);
    let begun = alice.call(Post, "/target/k?uploads", &[], b"");
    let text = String::from_utf8(begun.body).unwrap();
    let upload = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
    let part = format!("/target/k?partNumber=1&uploadId={upload}");
    for path in ["/target/k", &part] {
        assert_eq!(
            alice.call(Put, path, &[("x-amz-copy-source", "/photos/k")], b"").code(),
            "AccessDenied",
            "{path}"
        );
        assert_eq!(
            alice.call(Put, path, &[("x-amz-copy-source", "/photos/public/k")], b"").status,
            200,
            "{path}"
        );
    }
}

#[test]
fn a_version_needs_the_right_to_versions() {
    // Leave to read objects is no leave to read the versions that were replaced, as a source of copies either.
    let (_bench, mut alice, mut bob) = strangers();
    allow(&mut alice, "s3:GetObject", "");
    assert_eq!(bob.call(Get, "/photos/k", &[], b"").body, b"private");
    assert_eq!(bob.call(Get, "/photos/k?versionId=null", &[], b"").code(), "AccessDenied");
    assert_eq!(bob.call(Put, "/mine", &[], b"").status, 200);
    let source = [("x-amz-copy-source", "/photos/k?versionId=null")];
    assert_eq!(bob.call(Put, "/mine/k", &source, b"").code(), "AccessDenied");
}

#[test]
fn no_proposal_goes_past_the_decision() {
    // A request whose bytes are to go over a transport is decided about like any other.
    let (_bench, _alice, mut bob) = strangers();
    let token = [("x-amz-rdma-token", "anything")];
    assert_eq!(bob.call(Get, "/photos/k", &token, b"").code(), "AccessDenied");
    assert_eq!(bob.call(Put, "/photos/x", &token, b"").code(), "AccessDenied");
}

#[test]
fn no_policy_gives_itself_away() {
    // Who is allowed everything may use the bucket, and is told that the policy is the owner's account's: even to look at.
    let (_bench, mut alice, mut bob) = strangers();
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::account-b:root"},"Action":"s3:*",
        "Resource":["arn:aws:s3:::photos","arn:aws:s3:::photos/*"]}}"#;
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
    assert_eq!(bob.call(Get, "/photos", &[], b"").status, 200);
    assert_eq!(bob.call(Get, "/photos?policy", &[], b"").status, 405);
    let grab = policy.replace("\"s3:*\"", "[\"s3:*\"]");
    assert_eq!(bob.call(Put, "/photos?policy", &[], grab.as_bytes()).code(), "MethodNotAllowed");
    assert_eq!(bob.call(Delete, "/photos?policy", &[], b"").code(), "MethodNotAllowed");
    assert_eq!(alice.call(Get, "/photos?policy", &[], b"").body, policy.as_bytes());
}

#[test]
fn chunks_are_of_their_request_and_in_their_place() {
    // Signed chunks doubled, swapped, left out, cut short, or those of another request with the same bytes; trailers of another
    // request, changed, unsigned, or none; and the same without signatures, as far as that shows. The object stays what it was,
    // what follows is not taken for a request, and the one request that is whole is taken.
    let (bench, mut alice, _bob) = strangers();
    let (a, b, c) = (vec![b'a'; 8192], vec![b'b'; 8192], vec![b'c'; 8192]);
    let chunks = [&a[..], &b, &c];
    let (signed, other) =
        (alice.streamed("/photos/k", true, &chunks), alice.streamed("/photos/x", true, &chunks));
    let unsigned = alice.streamed("/photos/k", false, &chunks);
    let body = |from: &crate::bench::Streamed, order: &[usize]| -> Vec<u8> {
        order.iter().flat_map(|at| from.pieces[*at].clone()).collect()
    };
    let replace = |body: Vec<u8>, what: &str, with: &str| -> Vec<u8> {
        let at = body.windows(what.len()).rposition(|window| window == what.as_bytes()).unwrap();
        [&body[..at], with.as_bytes(), &body[at + what.len()..]].concat()
    };
    let whole = body(&signed, &[0, 1, 2, 3]);
    let end = String::from_utf8(signed.pieces[3].clone()).unwrap();
    let (last_chunk, trailer) = end.split_once("\r\n").unwrap();
    let (field, signature) = trailer.split_once("\r\n").unwrap();
    let stranger = |at: usize| {
        let pieces: Vec<Vec<u8>> = (0..4)
            .map(|own| if own == at { other.pieces[own].clone() } else { signed.pieces[own].clone() })
            .collect();
        pieces.concat()
    };
    let mismatch = (403, "SignatureDoesNotMatch");
    let refused: Vec<(&str, Vec<u8>, (u16, &str))> = vec![
        ("doubled", signed.with(&body(&signed, &[0, 0, 2, 3]), 0), mismatch),
        ("swapped", signed.with(&body(&signed, &[1, 0, 2, 3]), 0), mismatch),
        ("left out", signed.with(&body(&signed, &[0, 2, 3]), 0), mismatch),
        ("the end too early", signed.with(&body(&signed, &[0, 3]), 0), mismatch),
        ("of another request: the first", signed.with(&stranger(0), 0), mismatch),
        ("of another request: in the midst", signed.with(&stranger(1), 0), mismatch),
        ("of another request: the end", signed.with(&stranger(3), 0), mismatch),
        ("all of another request", signed.with(&body(&other, &[0, 1, 2, 3]), 0), mismatch),
        ("cut behind a chunk", signed.with(&body(&signed, &[0, 1]), 0), (400, "IncompleteBody")),
        ("cut within a chunk", signed.with(&whole[..10_000], 0), (400, "IncompleteBody")),
        ("cut within the trailer", signed.with(&whole[..whole.len() - 30], 0), (400, "IncompleteBody")),
        ("a byte changed", signed.with(&replace(whole.clone(), "ccc\r\n", "ccd\r\n"), 0), mismatch),
        (
            "no trailer",
            signed.with(&replace(whole.clone(), trailer, "\r\n"), 0),
            (400, "MalformedTrailerError"),
        ),
        ("a trailer unsigned", signed.with(&replace(whole.clone(), signature, "\r\n"), 0), mismatch),
        (
            "a trailer changed",
            signed.with(&replace(whole.clone(), field, "x-amz-checksum-crc32:AAAAAA=="), 0),
            mismatch,
        ),
        ("unsigned chunks for signed ones", signed.with(&body(&unsigned, &[0, 1, 2, 3]), 0), mismatch),
        (
            "doubled, without signatures",
            unsigned.with(&body(&unsigned, &[0, 0, 2, 3]), 0),
            (400, "BadDigest"),
        ),
        (
            "swapped, without signatures",
            unsigned.with(&body(&unsigned, &[1, 0, 2, 3]), 0),
            (400, "BadDigest"),
        ),
        (
            "left out, without signatures",
            unsigned.with(&body(&unsigned, &[0, 2, 3]), 0),
            (400, "IncompleteBody"),
        ),
        (
            "no trailer, without signatures",
            unsigned.with(&replace(body(&unsigned, &[0, 1, 2, 3]), &format!("{field}\r\n"), ""), 0),
            (400, "MalformedTrailerError"),
        ),
        (
            "another trailer, without signatures",
            unsigned.with(&replace(body(&unsigned, &[0, 1, 2, 3]), field, "x-amz-checksum-sha1:AAAAAA=="), 0),
            (400, "MalformedTrailerError"),
        ),
        (
            "a signed trailer, without signatures",
            unsigned.with(&[body(&unsigned, &[0, 1, 2]), format!("0\r\n{trailer}").into_bytes()].concat(), 0),
            (400, "MalformedTrailerError"),
        ),
    ];
    assert!(last_chunk.starts_with("0;chunk-signature="), "{last_chunk}");
    for (what, request, (status, code)) in refused {
        let mut socket = connect(bench.address());
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // What stands behind is never read as a request: after a body of which the end is not known there is none.
        let next = alice.request(Delete, "/photos/k", &[("connection", "close")], b"");
        socket.write_all(&[&request[..], &next].concat()).unwrap();
        let mut answer = Vec::new();
        // A reset may come with what was not read.
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert!(answer.contains(&format!("<Code>{code}</Code>")), "{what}: {answer}");
        let replies = answer.matches("HTTP/1.1 ").count();
        assert!(replies == 1 || code == "BadDigest", "{what}: {answer}");
        if code == "BadDigest" {
            // The end of this one is known, and what follows it a request of its own.
            assert_eq!(replies, 2, "{what}: {answer}");
            assert_eq!(alice.call(Put, "/photos/k", &[], b"private").status, 200);
        }
        assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"private", "{what}");
    }
    // A connection that ends before the body does.
    let mut socket = connect(bench.address());
    socket.write_all(&signed.with(&whole[..20_000], whole.len() - 20_000)).unwrap();
    drop(socket);
    assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"private");
    let taken = alice.send(&signed.with(&whole, 0));
    assert_eq!((taken.status, taken.code()), (200, String::new()));
    assert!(alice.call(Get, "/photos/k", &[], b"").body == chunks.concat());
    let taken = alice.send(&unsigned.with(&body(&unsigned, &[0, 1, 2, 3]), 0));
    assert_eq!((taken.status, taken.code()), (200, String::new()));
}

#[test]
fn a_user_may_do_no_more_than_its_policies() {
    // Within an account as well: reading is not writing, and a denial of the bucket's binds everybody.
    let (bench, mut alice, _bob) = strangers();
    let mut carol = bench.client(CAROL);
    assert_eq!(carol.call(Get, "/photos/k", &[], b"").body, b"private");
    assert_eq!(carol.call(Put, "/photos/k", &[], b"mine").code(), "AccessDenied");
    assert_eq!(carol.call(Delete, "/photos/k", &[], b"").code(), "AccessDenied");
    let policy = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::photos/k"}}"#;
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
    assert_eq!(carol.call(Get, "/photos/k", &[], b"").code(), "AccessDenied");
    assert_eq!(alice.call(Get, "/photos/k", &[], b"").code(), "AccessDenied");
}

#[test]
fn conditions_of_a_form_are_enforced() {
    // No policy without its signature, no field beyond it, no byte more than it says: and then nothing is stored.
    let (_bench, mut alice, mut bob) = strangers();
    let form = |fields: &[(&str, &str)], file: &str| {
        let mut text = String::new();
        for (name, value) in fields {
            text += &format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        }
        text + &format!("--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n{file}\r\n--b--\r\n")
    };
    // {"expiration":"2999-01-01T00:00:00Z","conditions":[{"bucket":"photos"},["starts-with","$key","in/"],["content-length-range",1,4]]}
    let policy = "eyJleHBpcmF0aW9uIjoiMjk5OS0wMS0wMVQwMDowMDowMFoiLCJjb25kaXRpb25zIjpbeyJidWNrZXQiOiJwaG90b3MifSxbInN0YXJ0cy13aXRoIiwiJGtleSIsImluLyJdLFsiY29udGVudC1sZW5ndGgtcmFuZ2UiLDEsNF1dfQ==";
    let mac = Hmac::<Sha1>::new_from_slice(ALICE.1.as_bytes()).unwrap().chain_update(policy).finalize();
    let signature = STANDARD.encode(mac.into_bytes());
    let signed = [("AWSAccessKeyId", "alice"), ("policy", policy), ("signature", &*signature)];
    let mut post = |fields: &[(&str, &str)], file: &str| {
        let body = form(fields, file);
        let headers = [("content-type", "multipart/form-data; boundary=b")];
        let request = bob.unsigned(Post, "/photos", &headers, body.as_bytes());
        let reply = bob.send(&request);
        (reply.status, reply.code())
    };
    let with = |more: &[(&'static str, &'static str)]| {
        let mut fields: Vec<(&str, &str)> = signed.to_vec();
        fields.extend(more);
        fields
    };
    assert_eq!(post(&with(&[("key", "in/a")]), "1234").0, 204);
    for (fields, file, status, code) in [
        (vec![("key", "in/b")], "1", 403, "AccessDenied"),
        (with(&[("key", "out/b")]), "1", 403, "AccessDenied"),
        (with(&[("key", "in/b"), ("acl", "public-read")]), "1", 403, "AccessDenied"),
        (with(&[("key", "in/b")]), "12345", 400, "EntityTooLarge"),
        (with(&[("key", "in/b")]), "", 400, "EntityTooSmall"),
        (vec![("key", "in/b"), ("policy", policy)], "1", 400, "InvalidArgument"),
    ] {
        assert_eq!(post(&fields, file), (status, code.to_owned()), "{fields:?}");
    }
    assert_eq!(alice.call(Get, "/photos/in/a", &[], b"").body, b"1234");
    for key in ["in/b", "out/b"] {
        assert_eq!(alice.call(Get, &format!("/photos/{key}"), &[], b"").status, 404, "{key}");
    }
}

#[test]
fn no_key_climbs() {
    // Dots and slashes are part of a key: they lead to no other bucket.
    let (_bench, mut alice, mut bob) = strangers();
    assert_eq!(bob.call(Put, "/mine", &[], b"").status, 200);
    for key in ["../photos/k", "./../photos/k", "..//photos/k", "%2e%2e/%2e/photos/k", "..%2F..%2Fphotos%2Fk"]
    {
        assert_eq!(bob.call(Get, &format!("/mine/{key}"), &[], b"").code(), "NoSuchKey", "{key}");
        assert_eq!(bob.call(Put, &format!("/mine/{key}"), &[], b"bob's").status, 200, "{key}");
    }
    // Nor is there a bucket of such a name.
    for path in ["/../photos/k", "/./photos/k", "/%2e%2e/photos/k", "/mine%2F..%2Fphotos/k"] {
        assert_eq!(bob.call(Get, path, &[], b"").code(), "InvalidBucketName", "{path}");
    }
    assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"private");
}

#[test]
fn nobody_else_says_where_a_request_comes_from() {
    // What a proxy is supposed to add is what a client adds.
    let (_bench, mut alice, mut bob) = strangers();
    allow(&mut alice, "s3:GetObject", "\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}");
    for header in ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Amz-Source-Ip"] {
        assert_eq!(
            bob.call(Get, "/photos/k", &[(header, "10.0.0.1")], b"").code(),
            "AccessDenied",
            "{header}"
        );
    }
    // Nor does a parameter pass for what the server found out itself.
    for query in ["aws:SourceIp=10.0.0.1", "aws%3ASourceIp=10.0.0.1", "SourceIp=10.0.0.1"] {
        assert_eq!(bob.call(Get, &format!("/photos/k?{query}"), &[], b"").code(), "AccessDenied", "{query}");
    }
    allow(&mut alice, "s3:GetObject", "\"StringEquals\":{\"aws:username\":\"alice\"}");
    assert_eq!(bob.call(Get, "/photos/k?aws%3Ausername=alice", &[], b"").code(), "AccessDenied");
    allow(&mut alice, "s3:GetObject", "\"IpAddress\":{\"aws:SourceIp\":\"127.0.0.0/8\"}");
    assert_eq!(bob.call(Get, "/photos/k", &[], b"").status, 200);
}

#[test]
fn a_presigned_request_has_an_end() {
    // Within its minute, and behind it.
    let (_bench, mut alice, _bob) = strangers();
    let request = alice.presigned(Get, "/photos/k", 10);
    assert_eq!(alice.send(&request).body, b"private");
    let request = alice.presigned(Get, "/photos/k", 90);
    assert_eq!((alice.send(&request).status, alice.send(&request).code()), (403, "AccessDenied".into()));
}

#[test]
fn a_header_that_nobody_signed_is_refused() {
    // It would change what the signed request does.
    let (_bench, mut alice, _bob) = strangers();
    let request = String::from_utf8(alice.request(Put, "/photos/k", &[], b"")).unwrap();
    let added = request.replacen("\r\n", "\r\nx-amz-acl: public-read\r\n", 1);
    assert_eq!(alice.send(added.as_bytes()).status, 403);
    let added = request.replacen("\r\n", "\r\nx-amz-copy-source: /photos/other\r\n", 1);
    assert_eq!(alice.send(added.as_bytes()).status, 403);
    // Presigned as well, in a header or in the query.
    let request = String::from_utf8(alice.presigned(Put, "/photos/k", 0)).unwrap();
    for (there, added) in
        [("\r\n", "\r\nx-amz-acl: public-read\r\n"), (" HTTP", "&x-amz-acl=public-read HTTP"), ("?", "?acl&")]
    {
        assert_eq!(alice.send(request.replacen(there, added, 1).as_bytes()).status, 403, "{added}");
    }
    assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"private");
}

#[test]
fn a_key_is_not_enough() {
    // Every part of a signature counts: without it, with that of another secret, cut short, or of another request.
    let (bench, mut alice, _bob) = strangers();
    let request = String::from_utf8(alice.request(Get, "/photos/k", &[], b"")).unwrap();
    let (head, signature) = request.split_once("Signature=").unwrap();
    let rest = &signature[64..];
    for (broken, status) in [
        (format!("{head}Signature={}{rest}", "0".repeat(64)), 403),
        (format!("{head}Signature={}{rest}", &signature[..32]), 403),
        (format!("{head}Signature={rest}"), 403),
        (request.replacen("/photos/k", "/photos/x", 1), 403),
        (request.replacen("GET ", "DELETE ", 1), 403),
    ] {
        let reply = alice.send(broken.as_bytes());
        assert!(
            reply.status == status || reply.code() == "AuthorizationHeaderMalformed",
            "{broken}: {}",
            reply.status
        );
    }
    let unsigned = alice.unsigned(Get, "/photos/k", &[], b"");
    assert_eq!(alice.send(&unsigned).code(), "AccessDenied");
    let thief = bench.client(("alice", "a guess"));
    let request = thief.request(Get, "/photos/k", &[], b"");
    assert_eq!(alice.send(&request).code(), "SignatureDoesNotMatch");
    assert_eq!(alice.call(Get, "/photos/k", &[], b"").body, b"private");
}

#[test]
fn no_token_is_given_or_taken() {
    // There is no token service at `POST /`, signed or not; and a token that a request brings is not passed over.
    let (_bench, mut alice, _bob) = strangers();
    let body = b"Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fadmin&RoleSessionName=s";
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let unsigned = alice.unsigned(Post, "/", &form, body);
    for request in [unsigned, alice.request(Post, "/", &form, body)] {
        let reply = alice.send(&request);
        assert_eq!((reply.status, reply.code()), (501, "NotImplemented".into()));
    }
    let token = [("x-amz-security-token", "anything")];
    assert_eq!(alice.call(Get, "/photos/k", &token, b"").code(), "InvalidToken");
}

#[test]
fn a_lock_that_can_not_be_read_holds() {
    // As does a configuration: what is not understood might forbid.
    let (bench, mut alice, _bob) = strangers();
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(alice.call(Put, "/vault", &lock, b"").status, 200);
    let put = alice.call(Put, "/vault/k", &[], b"kept");
    let version = put.header("x-amz-version-id").unwrap().to_owned();
    let engine = bench.engine().clone();
    let spoil = engine.set_attributes("vault", b"k", Which::Current, None, Bytes::from_static(b"\x09?"));
    futures_lite::future::block_on(spoil).unwrap();
    let delete = alice.call(Delete, &format!("/vault/k?versionId={version}"), &[], b"");
    assert_eq!((delete.status, delete.code()), (500, "InternalError".into()));
    assert!(futures_lite::future::block_on(engine.head("vault", b"k", Which::Current)).is_ok());
    let documents = vec![("object-lock".into(), Some(Bytes::from_static(b"<Newer/>")))];
    let change = crossdock::BucketChange { documents, ..Default::default() };
    futures_lite::future::block_on(engine.change_bucket("vault", change)).unwrap();
    assert_eq!(alice.call(Put, "/vault/x", &[], b"").status, 500);
}

#[test]
fn a_lock_without_a_period_is_none() {
    // A rule without days, with days and years, without a mode, without an end: nothing of it defaults to what protects nobody.
    let (_bench, mut alice, _bob) = strangers();
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(alice.call(Put, "/vault", &lock, b"").status, 200);
    assert_eq!(alice.call(Put, "/vault/k", &[], b"kept").status, 200);
    for rule in [
        "<Mode>GOVERNANCE</Mode>",
        "<Days>1</Days>",
        "<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>",
        "",
    ] {
        let document = format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>{rule}\
             </DefaultRetention></Rule></ObjectLockConfiguration>"
        );
        assert_eq!(alice.call(Put, "/vault?object-lock", &[], document.as_bytes()).status, 400, "{rule}");
    }
    for document in [
        "<Retention><Mode>GOVERNANCE</Mode></Retention>",
        "<Retention><RetainUntilDate>2999-01-01T00:00:00Z</RetainUntilDate></Retention>",
        "<Retention><Mode>Governance</Mode><RetainUntilDate>2999-01-01T00:00:00Z</RetainUntilDate></Retention>",
        "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>tomorrow</RetainUntilDate></Retention>",
    ] {
        assert_eq!(
            alice.call(Put, "/vault/k?retention", &[], document.as_bytes()).code(),
            "MalformedXML",
            "{document}"
        );
    }
    for half in [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z"),
    ] {
        assert_eq!(alice.call(Put, "/vault/k", &[half], b"x").status, 400, "{half:?}");
    }
}

#[test]
fn no_origin_is_reflected_with_credentials() {
    // Whoever is allowed as anybody is not named, and a page that no rule names learns nothing.
    let (_bench, mut alice, _bob) = strangers();
    let rule = |origin: &str| {
        format!(
            "<CORSConfiguration><CORSRule><AllowedOrigin>{origin}</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
        )
    };
    for (allowed, page, told, cookies) in [
        ("*", "https://evil.example", Some("*"), None),
        ("https://good.example", "https://good.example", Some("https://good.example"), Some("true")),
        ("https://good.example", "https://evil.example", None, None),
        ("https://good.example", "https://good.example.evil.example", None, None),
        ("https://*.good.example", "https://evil.example/.good.example.", None, None),
    ] {
        assert_eq!(alice.call(Put, "/photos?cors", &[], rule(allowed).as_bytes()).status, 200);
        let origin = [("origin", page), ("access-control-request-method", "GET")];
        let asked = alice.unsigned(Options, "/photos/k", &origin, b"");
        let read = alice.request(Get, "/photos/k", &origin[..1], b"");
        for request in [asked, read] {
            let reply = alice.send(&request);
            assert_eq!(reply.header("access-control-allow-origin"), told, "{allowed} {page}");
            assert_eq!(reply.header("access-control-allow-credentials"), cookies, "{allowed} {page}");
        }
    }
}

/// What asks for encryption, in each of its ways.
const ENCRYPTION: [(&str, &str); 7] = [
    ("x-amz-server-side-encryption", "AES256"),
    ("x-amz-server-side-encryption", "aws:kms"),
    ("x-amz-server-side-encryption-aws-kms-key-id", "k"),
    ("x-amz-server-side-encryption-context", "e30="),
    ("x-amz-server-side-encryption-bucket-key-enabled", "true"),
    ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256"),
];

#[test]
fn nothing_is_stored_in_the_clear_that_was_to_be_encrypted() {
    // On every operation where the headers may stand, reads as well, as presigned parameters, as fields of a form, as a bucket's default.
    let (_bench, mut alice, _bob) = strangers();
    let begun = alice.call(Post, "/photos/up?uploads", &[], b"");
    let text = String::from_utf8(begun.body).unwrap();
    let upload = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
    let (part, whole) =
        (format!("/photos/up?partNumber=1&uploadId={upload}"), format!("/photos/up?uploadId={upload}"));
    let list = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>";
    let copy = ("x-amz-copy-source", "/photos/k");
    for encrypted in ENCRYPTION {
        for (method, path, headers, body) in [
            (Put, "/photos/secret", vec![encrypted], &b"secret"[..]),
            (Put, "/photos/secret", vec![encrypted, copy], b""),
            (Post, "/photos/secret?uploads", vec![encrypted], b""),
            (Put, &part, vec![encrypted], b"secret"),
            (Put, &part, vec![encrypted, copy], b""),
            (Post, &whole, vec![encrypted], list),
            (Get, &whole, vec![encrypted], b""),
            (Get, "/photos/k", vec![encrypted], b""),
            (Get, "/photos/k?attributes", vec![encrypted, ("x-amz-object-attributes", "ETag")], b""),
            (Put, "/encrypted", vec![encrypted], b""),
        ] {
            let reply = alice.call(method, path, &headers, body);
            assert_eq!((reply.status, reply.code()), (501, "NotImplemented".into()), "{path} {headers:?}");
        }
        assert_eq!(alice.call(Head, "/photos/k", &[encrypted], b"").status, 501, "{encrypted:?}");
    }
    let presigned = alice.presigned(Put, "/photos/secret?x-amz-server-side-encryption=AES256", 0);
    assert_eq!(alice.send(&presigned).status, 501);
    let field = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let form = [
        field("key", "secret"),
        field("x-amz-server-side-encryption", "AES256"),
        field("file", "secret"),
        "--b--\r\n".into(),
    ]
    .concat();
    assert_eq!(alice.call(Put, "/photos?acl", &[("x-amz-acl", "public-read-write")], b"").status, 200);
    let request = alice.unsigned(
        Post,
        "/photos",
        &[("content-type", "multipart/form-data; boundary=b")],
        form.as_bytes(),
    );
    assert_eq!(alice.send(&request).status, 501);
    let rule = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>\
                </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
    assert_eq!(alice.call(Put, "/photos?encryption", &[], rule.as_bytes()).status, 501);
    assert_eq!(
        alice.call(Get, "/photos?encryption", &[], b"").code(),
        "ServerSideEncryptionConfigurationNotFoundError"
    );
    assert_eq!(alice.call(Get, "/photos/secret", &[], b"").code(), "NoSuchKey");
    assert_eq!(alice.call(Get, "/encrypted", &[], b"").code(), "NoSuchBucket");
    let parts = alice.call(Get, &whole, &[], b"").body;
    assert!(!String::from_utf8_lossy(&parts).contains("<PartNumber>1<"));
}

#[test]
fn unknown_elements_are_not_waved_through() {
    // Where they might forbid something they are refused; where they can only inform they are passed over.
    let (_bench, mut alice, _bob) = strangers();
    let block = "<PublicAccessBlockConfiguration><BlockEverything>true</BlockEverything></PublicAccessBlockConfiguration>";
    assert_eq!(alice.call(Put, "/photos?publicAccessBlock", &[], block.as_bytes()).code(), "MalformedXML");
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::photos/*","Unless":{}}}"#;
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).code(), "MalformedPolicy");
    // Of two conditions of one name none may be dropped.
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::photos/*",
        "Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}}}"#;
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).code(), "MalformedPolicy");
    let rule = "<LifecycleConfiguration><Rule><Prefix/><Status>Enabled</Status><Expiration><Days>1</Days></Expiration>\
                <Unless/></Rule></LifecycleConfiguration>";
    assert_eq!(alice.call(Put, "/photos?lifecycle", &[], rule.as_bytes()).code(), "MalformedXML");
    let tags = "<Tagging><New/><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    assert_eq!(alice.call(Put, "/photos?tagging", &[], tags.as_bytes()).status, 200);
}

#[test]
fn negative_numbers_stay_negative() {
    // Days, years, sizes, parts, pages: none wraps into a huge one.
    let (_bench, mut alice, _bob) = strangers();
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(alice.call(Put, "/vault", &lock, b"").status, 200);
    for period in ["<Days>-1</Days>", "<Years>-1</Years>", "<Days>0</Days>"] {
        let document = format!(
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
             <Mode>GOVERNANCE</Mode>{period}</DefaultRetention></Rule></ObjectLockConfiguration>"
        );
        let reply = alice.call(Put, "/vault?object-lock", &[], document.as_bytes());
        assert_eq!(reply.code(), "InvalidRetentionPeriod", "{period}");
    }
    let rule = "<LifecycleConfiguration><Rule><Prefix/><Status>Enabled</Status><Expiration><Days>-1</Days></Expiration>\
                </Rule></LifecycleConfiguration>";
    assert_eq!(alice.call(Put, "/photos?lifecycle", &[], rule.as_bytes()).code(), "InvalidArgument");
    for path in ["/photos?max-keys=-1", "/photos/k?partNumber=-1", "/photos?uploads&max-uploads=-1"] {
        assert_eq!(alice.call(Get, path, &[], b"").code(), "InvalidArgument", "{path}");
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a client has a clock of its own")]
fn a_policy_is_judged_soon_whatever_it_says() {
    // Patterns that almost fit a long name at each of its places; and a header that is longer than any that a condition is judged by.
    let (_bench, mut alice, _bob) = strangers();
    let begun = Instant::now();
    let patterns: Vec<String> =
        (0..36).map(|at| format!("\"arn:aws:s3:::photos/*{}b{at}\"", "a".repeat(480))).collect();
    let deny = |resources: &str, condition: &str| {
        format!(
            "{{\"Statement\":{{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3:*\",\
             \"Resource\":[{resources}],\"Condition\":{{{condition}}}}}}}"
        )
    };
    let policy = deny(&patterns.join(","), "");
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
    let keys: String =
        (0..999).map(|at| format!("<Object><Key>{}{at}</Key></Object>", "a".repeat(1000))).collect();
    let many = format!(
        "<Delete><Quiet>true</Quiet>{keys}<Object><Key>{}b7</Key></Object></Delete>",
        "a".repeat(1000)
    );
    let reply = alice.call(
        Post,
        "/photos?delete",
        &[("x-amz-checksum-crc64nvme", &*crc64(many.as_bytes()))],
        many.as_bytes(),
    );
    assert_eq!((reply.status, reply.code()), (200, "AccessDenied".into()));
    assert_eq!(String::from_utf8_lossy(&reply.body).matches("<Error>").count(), 1);
    let agent = "a".repeat(8 << 10);
    let like = format!("\"StringLike\":{{\"aws:UserAgent\":\"*{}b\"}}", "a".repeat(9000));
    let policy = deny("\"arn:aws:s3:::photos/*\"", &like);
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
    assert_eq!(alice.call(Get, "/photos/k", &[("user-agent", &agent)], b"").status, 200);
    // It might be one that is denied.
    let agent = "a".repeat(60_000);
    assert_eq!(alice.call(Get, "/photos/k", &[("user-agent", &agent)], b"").code(), "AccessDenied");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn an_account_decides_about_its_users() {
    // A bucket's policy that names an account gives each of its users what its own policies let it have; one that names the user, or
    // everybody, gives it itself.
    let (bench, mut alice, _bob) = strangers();
    let mut carol = bench.client(CAROL);
    for (principal, may_put) in [
        (r#"{"AWS":"arn:aws:iam::account-a:root"}"#, false),
        (r#"{"AWS":"account-a"}"#, false),
        (r#"{"CanonicalUser":"account-a"}"#, false),
        (r#"{"AWS":["account-a","arn:aws:iam::account-a:user/carol"]}"#, true),
        (r#"{"AWS":"arn:aws:iam::account-a:user/carol"}"#, true),
        (r#""*""#, true),
    ] {
        let policy = format!(
            "{{\"Statement\":{{\"Effect\":\"Allow\",\"Principal\":{principal},\"Action\":\"s3:*\",\
             \"Resource\":[\"arn:aws:s3:::photos\",\"arn:aws:s3:::photos/*\"]}}}}"
        );
        assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
        assert_eq!(carol.call(Get, "/photos/k", &[], b"").body, b"private", "{principal}");
        let put = carol.call(Put, "/photos/c", &[], b"mine");
        assert_eq!(put.status, if may_put { 200 } else { 403 }, "{principal}");
        let policy = carol.call(Delete, "/photos?policy", &[], b"");
        assert_eq!(policy.status, if may_put { 204 } else { 403 }, "{principal}");
    }
    // A denial that names the account is one to each of its users.
    let policy = r#"{"Statement":{"Effect":"Deny","Principal":{"AWS":"account-a"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::photos/*"}}"#;
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
    assert_eq!(carol.call(Get, "/photos/k", &[], b"").code(), "AccessDenied");
}

#[test]
fn a_policy_that_would_be_passed_over_is_refused() {
    // Keys and actions that there are not, and actions that are never asked about with such a resource.
    let (_bench, mut alice, _bob) = strangers();
    let mut set = |action: &str, resource: &str, condition: &str| {
        let policy = format!(
            "{{\"Statement\":{{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"{action}\",\
             \"Resource\":\"arn:aws:s3:::{resource}\",\"Condition\":{{{condition}}}}}}}"
        );
        let reply = alice.call(Put, "/photos?policy", &[], policy.as_bytes());
        (reply.status, reply.code())
    };
    let refused = (400, "MalformedPolicy".to_owned());
    for (action, resource, condition) in [
        ("s3:Bogus", "photos/*", ""),
        ("s3:Get*Bogus", "photos/*", ""),
        ("s3:ListBucket", "photos/*", ""),
        ("s3:GetObject", "photos", ""),
        ("s3:ListAllMyBuckets", "photos", ""),
        ("s3:GetObject", "photos/*", r#""StringEquals":{"s3:Bogus":"a"}"#),
        ("s3:GetObject", "photos/*", r#""StringEquals":{"aws:Bogus":"a"}"#),
        ("s3:GetObject", "photos/*", r#""StringEquals":{"ec2:Region":"a"}"#),
        ("s3:GetObject", "photos/*", r#""Null":{"aws:SourceIpp":"true"}"#),
        ("s3:GetObject", "photos/*", r#""StringEquals":{"aws:username":"${aws:Bogus}"}"#),
        ("s3:GetObject", "photos/${s3:Bogus}/*", ""),
    ] {
        assert_eq!(set(action, resource, condition), refused, "{action} {resource} {condition}");
    }
    for (action, resource, condition) in [
        ("s3:*", "photos", ""),
        ("s3:Get*", "photos/*", ""),
        ("*", "photos/*", ""),
        ("s3:getobject", "photos*", ""),
        ("s3:ListBucket", "photos*", ""),
        ("s3:PutObject", "photos/${aws:username}/*", r#""Bool":{"aws:MultiFactorAuthPresent":"false"}"#),
        ("s3:PutObject", "photos/*", r#""StringNotEquals":{"AWS:PRINCIPALTAG/team":"a"}"#),
        ("s3:GetObject", "photos/*", r#""StringNotLike":{"aws:SourceVpce":"vpce-*"}"#),
    ] {
        assert_eq!(set(action, resource, condition).0, 204, "{action} {resource} {condition}");
    }
}

#[test]
fn signatures_and_locks_are_facts() {
    // How old a presigned address is, how long an object would be locked, and that a request nobody signed is nobody's.
    let (_bench, mut alice, _bob) = strangers();
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(alice.call(Put, "/vault", &lock, b"").status, 200);
    assert_eq!(alice.call(Put, "/vault/k", &[], b"kept").status, 200);
    let deny = |alice: &mut Client, action: &str, condition: &str| {
        let policy = format!(
            "{{\"Statement\":[{{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"{action}\",\
             \"Resource\":\"arn:aws:s3:::vault/*\",\"Condition\":{{{condition}}}}},\
             {{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"s3:GetObject\",\"Resource\":\"arn:aws:s3:::vault/*\"}}]}}"
        );
        assert_eq!(alice.call(Put, "/vault?policy", &[], policy.as_bytes()).status, 204);
    };
    deny(&mut alice, "s3:GetObject", r#""NumericGreaterThan":{"s3:signatureAge":"20000"}"#);
    let (young, old) = (alice.presigned(Get, "/vault/k", 5), alice.presigned(Get, "/vault/k", 30));
    assert_eq!(alice.send(&young).body, b"kept");
    assert_eq!(alice.send(&old).code(), "AccessDenied");
    deny(
        &mut alice,
        "s3:PutObject",
        r#""NumericGreaterThan":{"s3:object-lock-remaining-retention-days":"100"}"#,
    );
    let until = [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z"),
    ];
    assert_eq!(alice.call(Put, "/vault/k", &until, b"long").code(), "AccessDenied");
    assert_eq!(alice.call(Put, "/vault/k", &[], b"short").status, 200);
    deny(&mut alice, "s3:GetObject", r#""StringEquals":{"aws:PrincipalType":"Anonymous"}"#);
    let unsigned = alice.unsigned(Get, "/vault/k", &[], b"");
    assert_eq!(alice.send(&unsigned).code(), "AccessDenied");
    assert_eq!(alice.call(Get, "/vault/k", &[], b"").body, b"short");
}
