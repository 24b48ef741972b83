//! What brought other stores down: one test for each way in.

use crate::bench::{ALICE, BOB, Bench, CAROL, Client};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use crossdock::Which;
use crossdock_s3::protocol::http::Method::{Delete, Get, Post, Put};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

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
    for key in ["../photos/k", "./../photos/k", "..//photos/k"] {
        assert_eq!(bob.call(Get, &format!("/mine/{key}"), &[], b"").code(), "NoSuchKey", "{key}");
        assert_eq!(bob.call(Put, &format!("/mine/{key}"), &[], b"bob's").status, 200, "{key}");
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
fn unknown_elements_are_not_waved_through() {
    // Where they might forbid something they are refused; where they can only inform they are passed over.
    let (_bench, mut alice, _bob) = strangers();
    let block = "<PublicAccessBlockConfiguration><BlockEverything>true</BlockEverything></PublicAccessBlockConfiguration>";
    assert_eq!(alice.call(Put, "/photos?publicAccessBlock", &[], block.as_bytes()).code(), "MalformedXML");
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::photos/*","Unless":{}}}"#;
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
