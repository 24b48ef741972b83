//! What a policy is told is what the request will do, and not what its head says besides.
//!
//! | the hole | the test that it is none here |
//! |---|---|
//! | the version is told of the request, and not of each thing that it is about | `a_version_is_told_by_whatever_way_it_is_reached` |
//! | headers that an operation passes over are believed all the same | `what_an_operation_passes_over_is_no_fact` |
//! | a header is judged by its first line and done by all of them | `a_header_that_stands_twice_is_refused` |
//! | of tags that differ in case one hides the other | `tags_that_differ_in_case_do_not_hide_each_other` |
//! | what a new bucket is to be is asked before its document is there | `a_bucket_is_made_as_its_document_says` |
//! | parts of an upload are judged as if they were objects without headers | `an_upload_is_judged_by_what_it_was_begun_with` |
//! | a hash that nobody signed and nobody compares passes for one | `a_hash_that_is_not_used_vouches_for_nothing` |
//! | how old a form's signature is, is not known | `a_form_is_as_old_as_the_date_that_was_signed` |

use crate::bench::{ALICE, BOB, Bench, Client, crc32, now};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crossdock::Which;
use crossdock_s3::{
    protocol::{
        auth::{EMPTY_SHA256_HEX, PayloadMode, Scope, SigningKey, Timestamp},
        http::Method::{Delete, Get, Head, Post, Put},
        metadata::ObjectHeaders,
        policy::{Policy, PolicyPlace},
    },
    service::{Account, Credential, Credentials, Identity, Policies, Secret},
};
use futures_lite::future::block_on;
use std::sync::Arc;

const LOCKS: (&str, &str) = ("x-amz-bucket-object-lock-enabled", "true");
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

/// What a DeleteObjects of one object answers.
fn delete_one(client: &mut Client, bucket: &str, object: &str, headers: &[(&str, &str)]) -> String {
    let document = format!("<Delete><Object>{object}</Object></Delete>");
    let sum = crc32(document.as_bytes());
    let headers = [headers, &[("x-amz-checksum-crc32", &*sum)]].concat();
    let reply = client.call(Post, &format!("/{bucket}?delete"), &headers, document.as_bytes());
    String::from_utf8(reply.body).unwrap()
}

fn begin(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> String {
    let begun = client.call(Post, &format!("{path}?uploads"), headers, b"");
    let text = String::from_utf8(begun.body).unwrap();
    assert_eq!(begun.status, 200, "{text}");
    text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0.to_owned()
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
fn a_version_is_told_by_whatever_way_it_is_reached() {
    // In the query, in a document of many, as the source of a copy: what is denied, or allowed, of one version is so by every way.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/kept", &[ENFORCED], b"").status, 200);
    assert_eq!(bob.call(Put, "/mine", &[], b"").status, 200);
    let versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    assert_eq!(alice.call(Put, "/kept?versioning", &[], versioning).status, 200);
    let put = |alice: &mut Client| {
        let put = alice.call(Put, "/kept/v", &[], b"x");
        put.header("x-amz-version-id").unwrap().to_owned()
    };
    let (first, second) = (put(&mut alice), put(&mut alice));
    let is = |version: &str| format!("\"StringEquals\":{{\"s3:VersionId\":\"{version}\"}}");
    let may = |client: &mut Client, version: &str, deletes: bool| {
        let source = [("x-amz-copy-source", &*format!("/kept/v?versionId={version}"))];
        let upload = begin(client, "/mine/k", &[]);
        let part = format!("/mine/k?partNumber=1&uploadId={upload}");
        let deleted = deletes.then(|| {
            let object = format!("<Key>v</Key><VersionId>{version}</VersionId>");
            delete_one(client, "kept", &object, &[]).contains("<Deleted>")
        });
        (
            client.call(Get, &format!("/kept/v?versionId={version}"), &[], b"").status == 200,
            client.call(Put, "/mine/k", &source, b"").status == 200,
            client.call(Put, &part, &source, b"").status == 200,
            deleted,
        )
    };
    let both = "\"s3:GetObjectVersion\",\"s3:DeleteObjectVersion\"";
    set_policy(&mut alice, "kept", &[statement("Allow", both, "kept", &is(&second))]);
    assert_eq!(may(&mut bob, &first, true), (false, false, false, Some(false)));
    assert_eq!(may(&mut bob, &second, false), (true, true, true, None));
    let third = put(&mut alice);
    let all = [statement("Allow", both, "kept", ""), statement("Deny", both, "kept", &is(&first))];
    set_policy(&mut alice, "kept", &all);
    assert_eq!(may(&mut bob, &first, true), (false, false, false, Some(false)));
    assert_eq!(alice.call(Delete, &format!("/kept/v?versionId={first}"), &[], b"").status, 403);
    assert!(may(&mut bob, &third, false).0 && may(&mut bob, &second, true).3 == Some(true));
    // The null version has a number besides, where a listing goes on behind it: that is no second name of it.
    assert_eq!(alice.call(Put, "/old", &[ENFORCED], b"").status, 200);
    for key in ["v", "w"] {
        assert_eq!(alice.call(Put, &format!("/old/{key}"), &[], b"x").status, 200);
    }
    assert_eq!(alice.call(Put, "/old?versioning", &[], versioning).status, 200);
    let page = alice.call(Get, "/old?versions&max-keys=1", &[], b"").body;
    let page = String::from_utf8(page).unwrap();
    let number = page.split_once("<NextVersionIdMarker>").unwrap().1.split_once('<').unwrap().0;
    set_policy(&mut alice, "old", &[statement("Deny", both, "old", &is("null"))]);
    for version in ["null", number] {
        let path = format!("/old/v?versionId={version}");
        assert_eq!(alice.call(Get, &path, &[], b"").status, 403, "{version}");
        assert_eq!(alice.call(Delete, &path, &[], b"").status, 403, "{version}");
        let object = format!("<Key>v</Key><VersionId>{version}</VersionId>");
        assert!(delete_one(&mut alice, "old", &object, &[]).contains("<Code>AccessDenied"), "{version}");
        let source = [("x-amz-copy-source", &*format!("/old/v?versionId={version}"))];
        assert_eq!(alice.call(Put, "/kept/copy", &source, b"").status, 403, "{version}");
    }
    // Whoever names no version is told of none.
    let none = "\"Null\":{\"s3:VersionId\":\"true\"}";
    set_policy(&mut alice, "kept", &[statement("Allow", "\"s3:GetObject\"", "kept", none)]);
    assert_eq!(bob.call(Put, "/mine/k", &[("x-amz-copy-source", "/kept/v")], b"").status, 200);
}

#[test]
fn what_an_operation_passes_over_is_no_fact() {
    // Each header, parameter and field beside a request that does something else, or nothing: what is allowed on its condition is not.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/target", &[ENFORCED, LOCKS], b"").status, 200);
    assert_eq!(bob.call(Put, "/mine", &[], b"").status, 200);
    for (key, tags) in [("bare", ""), ("dev", "env=dev"), ("other", "env=prod")] {
        let tags = [("x-amz-tagging", tags)];
        assert_eq!(bob.call(Put, &format!("/mine/{key}"), &tags, b"x").status, 200);
        assert_eq!(alice.call(Put, &format!("/target/{key}"), &tags, b"x").status, 200);
    }
    let (dev, prod) = (
        "<Tagging><TagSet><Tag><Key>env</Key><Value>dev</Value></Tag></TagSet></Tagging>",
        "<Tagging><TagSet><Tag><Key>env</Key><Value>prod</Value></Tag></TagSet></Tagging>",
    );
    let until = ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z");
    let lock = [("x-amz-object-lock-mode", "GOVERNANCE"), until];
    let held = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2999-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let (none, off) = ("<Retention></Retention>", "<LegalHold><Status>OFF</Status></LegalHold>");
    let tag = ("x-amz-tagging", "env=dev");
    let (bare, tagged, other) = (
        ("x-amz-copy-source", "/mine/bare"),
        ("x-amz-copy-source", "/mine/dev"),
        ("x-amz-copy-source", "/mine/other"),
    );
    let replace = ("x-amz-tagging-directive", "REPLACE");
    let by_tag = "\"StringEquals\":{\"s3:RequestObjectTag/env\":\"dev\"}";
    let by_days = "\"NumericGreaterThan\":{\"s3:object-lock-remaining-retention-days\":\"10\"}";
    let by_hold = "\"StringEquals\":{\"s3:object-lock-legal-hold\":\"ON\"}";
    let by_list = "\"StringEquals\":{\"s3:x-amz-acl\":\"private\"}";
    let by_match = "\"Null\":{\"s3:if-match\":\"false\"}";
    let by_prefix = "\"StringEquals\":{\"s3:prefix\":\"a\"}";
    let puts = "\"s3:PutObject\",\"s3:PutObjectTagging\"";
    for (actions, condition, method, path, headers, body, status) in [
        (puts, by_tag, Put, "target/dev?tagging", vec![], dev, 200),
        (puts, by_tag, Put, "target/dev?tagging", vec![tag], prod, 403),
        (puts, by_tag, Put, "target/dev?tagging", vec![tag], "<Tagging><TagSet></TagSet></Tagging>", 403),
        (puts, by_tag, Put, "target/new", vec![tag], "x", 200),
        (puts, by_tag, Put, "target/new", vec![bare, tag], "", 403),
        (puts, by_tag, Put, "target/new", vec![other, tag], "", 403),
        (puts, by_tag, Put, "target/new", vec![tagged], "", 200),
        (puts, by_tag, Put, "target/new", vec![other, replace, tag], "", 200),
        ("\"s3:PutObjectRetention\"", by_days, Put, "target/dev?retention", vec![], held, 200),
        ("\"s3:PutObjectRetention\"", by_days, Put, "target/bare?retention", lock.to_vec(), none, 403),
        (
            "\"s3:PutObjectLegalHold\"",
            by_hold,
            Put,
            "target/dev?legal-hold",
            vec![("x-amz-object-lock-legal-hold", "ON")],
            off,
            403,
        ),
        ("\"s3:GetObject\"", by_list, Get, "target/dev", vec![("x-amz-acl", "private")], "", 403),
        ("\"s3:GetObject\"", by_prefix, Get, "target/dev?prefix=a", vec![], "", 403),
        ("\"s3:PutObject\"", by_match, Post, "target/new?uploads", vec![("if-match", "*")], "", 403),
    ] {
        set_policy(&mut alice, "target", &[statement("Allow", actions, "target", condition)]);
        let sum = crc32(body.as_bytes());
        let mut all = headers.clone();
        if path.contains('?') && method == Put {
            all.push(("x-amz-checksum-crc32", &sum));
        }
        let reply = bob.call(method, &format!("/{path}"), &all, body.as_bytes());
        assert_eq!(reply.status, status, "{path} {headers:?} {}", String::from_utf8_lossy(&reply.body));
    }
    // A denial that asks for a tag is not got round by a copy that brings it along.
    let denied =
        [statement("Allow", puts, "target", ""), statement("Deny", "\"s3:PutObject\"", "target", by_tag)];
    set_policy(&mut alice, "target", &denied);
    assert_eq!(bob.call(Put, "/target/new", &[tagged], b"").status, 403);
    assert_eq!(bob.call(Put, "/target/new", &[bare], b"").status, 200);
    // Each object of a DeleteObjects has a condition of its own.
    set_policy(&mut alice, "target", &[statement("Allow", "\"s3:DeleteObject\"", "target", by_match)]);
    let told = delete_one(&mut bob, "target", "<Key>new</Key>", &[("if-match", "*")]);
    assert!(told.contains("<Code>AccessDenied"), "{told}");
    let told = delete_one(&mut bob, "target", "<Key>new</Key><ETag>*</ETag>", &[]);
    assert!(told.contains("<Deleted>"), "{told}");
    // A form has a field of its own for tags, and the header that it does not stand for is none of its fields.
    set_policy(&mut alice, "target", &[statement("Allow", puts, "target", by_tag)]);
    assert_eq!(post(&mut bob, "target", &[("key", "posted"), ("tagging", dev)]), 204);
    assert_eq!(post(&mut bob, "target", &[("key", "posted"), ("tagging", prod)]), 403);
    assert_eq!(post(&mut bob, "target", &[("key", "posted"), ("x-amz-tagging", "env=dev")]), 400);
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

/// A user that may make buckets here, and nothing else.
struct Maker;

impl Credentials for Maker {
    fn lookup(&self, access_key: &str) -> Option<Credential> {
        const MAKE: &[u8] = br#"{"Statement":{"Effect":"Allow","Action":"s3:CreateBucket","Resource":"*",
            "Condition":{"StringEquals":{"s3:LocationConstraint":"us-east-1","aws:ResourceAccount":"account-a"}}}}"#;
        let policies = vec![Policy::parse(MAKE, PolicyPlace::User).unwrap()];
        let account = Arc::new(Account { id: "account-a".into(), display_name: "a".into(), email: None });
        let identity = Arc::new(Identity::user("alice", account, "alice", policies));
        (access_key == "alice").then(|| Credential { secret: Secret::new(ALICE.1), identity })
    }
}

#[test]
fn a_bucket_is_made_as_its_document_says() {
    // Where it is to be, and what it is to have, is asked of the document; a lock that is not asked for needs no right, tags do.
    let bench = Bench::decided_by(Arc::new(Maker), Arc::new(Policies::default()));
    let mut alice = bench.client(ALICE);
    let configuration =
        |inner: &str| format!("<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>");
    let here = configuration("<LocationConstraint>us-east-1</LocationConstraint>");
    let tagged = configuration(
        "<LocationConstraint>us-east-1</LocationConstraint><Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>",
    );
    for (bucket, headers, document, status) in [
        ("here", vec![], &*here, 200),
        ("anywhere", vec![], "", 403),
        ("unlocked", vec![("x-amz-bucket-object-lock-enabled", "false")], &here, 200),
        ("locked", vec![LOCKS], &here, 403),
        ("owned", vec![ENFORCED], &here, 403),
        ("tagged", vec![], &tagged, 403),
    ] {
        let reply = alice.call(Put, &format!("/{bucket}"), &headers, document.as_bytes());
        assert_eq!(reply.status, status, "{bucket} {}", String::from_utf8_lossy(&reply.body));
    }
}

#[test]
fn an_upload_is_judged_by_what_it_was_begun_with() {
    // Parts and the end of an upload have no headers of objects: what it was begun with is what will be stored.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    let full = ("x-amz-acl", "bucket-owner-full-control");
    let until = ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z");
    let lock = ("x-amz-object-lock-mode", "GOVERNANCE");
    assert_eq!(alice.call(Put, "/enforced", &[ENFORCED, LOCKS], b"").status, 200);
    assert_eq!(alice.call(Put, "/shared", &[LOCKS], b"").status, 200);
    // What the bucket gives by itself is nobody's wish.
    let default = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
        <Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    assert_eq!(
        crate::bench::checked(&mut alice, Put, "/enforced?object-lock", default.as_bytes()).status,
        200
    );
    let actions = "\"s3:PutObject\",\"s3:PutObjectTagging\",\"s3:PutObjectRetention\"";
    let list = |etag: &str| {
        format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        )
    };
    for bucket in ["enforced", "shared"] {
        let path = format!("/{bucket}/k");
        for (condition, header) in [
            ("\"StringNotEquals\":{\"s3:x-amz-acl\":\"bucket-owner-full-control\"}", vec![full]),
            (
                "\"StringNotEquals\":{\"s3:x-amz-storage-class\":\"STANDARD\"}",
                vec![("x-amz-storage-class", "STANDARD")],
            ),
            ("\"StringNotEquals\":{\"s3:RequestObjectTag/a\":\"b\"}", vec![("x-amz-tagging", "a=b")]),
            ("\"StringNotEquals\":{\"s3:object-lock-mode\":\"GOVERNANCE\"}", vec![lock, until]),
            ("\"Null\":{\"s3:object-lock-remaining-retention-days\":\"true\"}", vec![lock, until]),
        ] {
            let allow = statement("Allow", actions, bucket, "");
            set_policy(&mut alice, bucket, std::slice::from_ref(&allow));
            let other = begin(&mut bob, &path, &[]);
            set_policy(
                &mut alice,
                bucket,
                &[allow, statement("Deny", "\"s3:PutObject\"", bucket, condition)],
            );
            let refused = bob.call(Post, &format!("{path}?uploads"), &[], b"");
            assert_eq!(refused.status, 403, "{bucket} {condition}");
            // What a part says of the object is passed over.
            let part = bob.call(Put, &format!("{path}?partNumber=1&uploadId={other}"), &header, b"x");
            assert_eq!(part.status, 403, "{bucket} {condition}");
            let upload = begin(&mut bob, &path, &header);
            let part = bob.call(Put, &format!("{path}?partNumber=1&uploadId={upload}"), &[], b"x");
            assert_eq!((part.status, part.code()), (200, String::new()), "{bucket} {condition}");
            let list = list(part.header("etag").unwrap());
            // Whoever lost the answer asks again, and is judged by the same.
            for _ in 0..2 {
                let whole = bob.call(Post, &format!("{path}?uploadId={upload}"), &[], list.as_bytes());
                assert_eq!((whole.status, whole.code()), (200, String::new()), "{bucket} {condition}");
            }
            let unknown = bob.call(Post, &format!("{path}?uploadId={other}x"), &[], list.as_bytes());
            assert_eq!(unknown.status, 403, "{bucket} {condition}");
        }
    }
    // As AWS documents it: objects come into being only where there is none, and parts are none.
    let once = [
        statement("Allow", "\"s3:PutObject\"", "shared", "\"Null\":{\"s3:if-none-match\":\"false\"}"),
        statement(
            "Allow",
            "\"s3:PutObject\"",
            "shared",
            "\"Bool\":{\"s3:ObjectCreationOperation\":\"false\"}",
        ),
    ];
    set_policy(&mut alice, "shared", &once);
    // A copy was begun with nothing of what its source was.
    let copy = [("x-amz-copy-source", "/shared/k"), ("if-none-match", "*")];
    assert_eq!(bob.call(Put, "/shared/copy", &copy, b"").status, 200);
    let begun_with = |key: &str| {
        let info = block_on(bench.engine().head("shared", key.as_bytes(), Which::Current)).unwrap();
        ObjectHeaders::decode(&info.attributes).unwrap().begun_with.len()
    };
    assert_eq!((begun_with("k"), begun_with("copy")), (2, 0));
    let absent = [("if-none-match", "*")];
    assert_eq!(bob.call(Put, "/shared/once", &[], b"x").status, 403);
    let upload = begin(&mut bob, "/shared/once", &[]);
    let part = bob.call(Put, &format!("/shared/once?partNumber=1&uploadId={upload}"), &[], b"x");
    let list = list(part.header("etag").unwrap());
    let whole = format!("/shared/once?uploadId={upload}");
    assert_eq!(bob.call(Post, &whole, &[], list.as_bytes()).status, 403);
    assert_eq!(bob.call(Post, &whole, &absent, list.as_bytes()).status, 200);
    // Whose the bucket is, by both names.
    for name in ["s3:ResourceAccount", "aws:ResourceAccount"] {
        for (owner, status) in [("account-a", 200), ("account-b", 403)] {
            let condition = format!("\"StringEquals\":{{\"{name}\":\"{owner}\"}}");
            set_policy(&mut alice, "shared", &[statement("Allow", "\"s3:PutObject\"", "shared", &condition)]);
            assert_eq!(bob.call(Put, "/shared/owned", &[], b"x").status, status, "{condition}");
        }
    }
}

#[test]
fn a_hash_that_is_not_used_vouches_for_nothing() {
    // In a presigned request the parameter decides, which was signed: the header beside it is compared with nothing.
    let bench = Bench::of_strangers();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/vault", &[LOCKS], b"").status, 200);
    assert_eq!(alice.call(Put, "/vault/k", &[], b"x").status, 200);
    let presigned = |alice: &mut Client, method, path: &str, header: &str, body: &str| {
        let request = String::from_utf8(alice.presigned(method, path, 0)).unwrap();
        let header = format!("\r\n{header}content-length: {}\r\n", body.len());
        alice.send((request.replacen("\r\n", &header, 1) + body).as_bytes())
    };
    let zeros = format!("x-amz-content-sha256: {}\r\n", "0".repeat(64));
    let unsigned = "X-Amz-Content-Sha256=UNSIGNED-PAYLOAD";
    let hold = "<LegalHold><Status>ON</Status></LegalHold>";
    let delete = "<Delete><Object><Key>k</Key></Object></Delete>";
    for (method, path, body) in [
        (Post, format!("/vault?delete&{unsigned}"), delete),
        (Put, format!("/vault/k?legal-hold&{unsigned}"), hold),
        (Put, format!("/vault/l?x-amz-object-lock-legal-hold=ON&{unsigned}"), "x"),
    ] {
        let reply = presigned(&mut alice, method, &path, &zeros, body);
        assert_eq!((reply.status, reply.code()), (400, "InvalidRequest".into()), "{path}");
    }
    // Nor for content that was to be signed: no header, one beside the parameter, and one that is true and that nobody signed.
    let condition = "\"StringEquals\":{\"s3:x-amz-content-sha256\":\"UNSIGNED-PAYLOAD\"}";
    set_policy(&mut alice, "vault", &[statement("Deny", "\"s3:PutObject\"", "vault", condition)]);
    let empty = format!("x-amz-content-sha256: {EMPTY_SHA256_HEX}\r\n");
    for (path, header) in
        [("/vault/l", ""), (&*format!("/vault/l?{unsigned}"), &*zeros), ("/vault/l", &empty)]
    {
        assert_eq!(presigned(&mut alice, Put, path, header, "").status, 403, "{path} {header}");
    }
    // Nor for bytes that come another way: the hash is that of the body there is not.
    let nothing = PayloadMode::parse(EMPTY_SHA256_HEX.as_bytes()).unwrap();
    let token = [("x-amz-rdma-token", "anything")];
    let request = alice.signed(&nothing, Put, "/vault/l", &token, b"");
    assert_eq!(alice.send(&request).code(), "AccessDenied");
    let request = alice.signed(&nothing, Put, "/vault/l", &[], b"");
    assert_eq!(alice.send(&request).status, 200);
    assert_eq!(alice.call(Delete, "/vault?policy", &[], b"").status, 204);
    assert_eq!(presigned(&mut alice, Put, "/vault/l", &empty, "").status, 200);
}

#[test]
fn a_form_is_as_old_as_the_date_that_was_signed() {
    // A signature is over the form's policy alone: where that does not say which date it is, nobody knows how old it is.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let condition = "\"NumericGreaterThan\":{\"s3:signatureAge\":\"600000\"}";
    set_policy(&mut alice, "photos", &[statement("Deny", "\"s3:PutObject\"", "photos", condition)]);
    let mut posted = |age: u64, operator: &str, start: usize| {
        let timestamp = Timestamp::from_seconds(now() - age);
        let date = timestamp.to_string();
        let (day, start) = (&date[..8], &date[..start]);
        let credential = format!("alice/{day}/us-east-1/s3/aws4_request");
        let policy = STANDARD.encode(format!(
            "{{\"expiration\":\"2999-01-01T00:00:00Z\",\"conditions\":[{{\"bucket\":\"photos\"}},[\"eq\",\"$key\",\"k\"],\
             {{\"x-amz-algorithm\":\"AWS4-HMAC-SHA256\"}},{{\"x-amz-credential\":\"{credential}\"}},[\"{operator}\",\"$x-amz-date\",\"{start}\"]]}}"
        ));
        let scope = Scope { day: day.into(), region: "us-east-1".into() };
        let signature = SigningKey::derive(ALICE.1, &scope).sign(policy.as_bytes()).hex();
        let fields = [
            ("key", "k"),
            ("policy", &*policy),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", &*credential),
            ("x-amz-date", &*date),
            ("x-amz-signature", core::str::from_utf8(&signature).unwrap()),
        ];
        post(&mut bob, "photos", &fields)
    };
    assert_eq!(posted(0, "eq", 16), 204);
    assert_eq!(posted(900, "eq", 16), 403);
    assert_eq!(posted(0, "starts-with", 8), 403);
}
