//! What buckets and objects are set to, from end to end: locks, rules, lists, what browsers are told.

use crate::bench::{ALICE, BOB, Bench, checked, now, pause};
use crossdock_s3::{
    http::HttpFront,
    protocol::http::Method::{Delete, Get, Head, Options, Post, Put},
    server::ServerLimits,
    service::{Swept, sweep},
};
use futures_lite::future::block_on;
use std::time::Duration;

const DAY_MS: u64 = 86_400_000;

fn swept(bench: &Bench, days: u64) -> Swept {
    let now_ms = now() * 1_000 + days * DAY_MS;
    let work = move |engine| async move { sweep(&engine, now_ms).await };
    block_on(bench.engine().on_core(0, work)).unwrap().unwrap()
}

#[test]
fn new_buckets_are_closed() {
    // As AWS makes them: the owner owns everything, lists have no say, nothing may be public.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/closed", &[], b"").status, 200);
    let text = |reply: crate::bench::Reply| String::from_utf8(reply.body).unwrap();
    assert!(text(alice.call(Get, "/closed?ownershipControls", &[], b"")).contains("BucketOwnerEnforced"));
    assert!(!text(alice.call(Get, "/closed?publicAccessBlock", &[], b"")).contains("false"));
    let public = [("x-amz-acl", "public-read")];
    assert_eq!(alice.call(Put, "/closed?acl", &public, b"").code(), "AccessControlListNotSupported");
    assert_eq!(alice.call(Put, "/closed/k", &public, b"x").code(), "AccessControlListNotSupported");
    // What says what is so anyway is taken, as tools send back what they read.
    let list = alice.call(Get, "/closed?acl", &[], b"").body;
    assert_eq!(alice.call(Put, "/closed?acl", &[], &list).status, 200);
    assert_eq!(alice.call(Put, "/other", &public, b"").code(), "InvalidBucketAclWithObjectOwnership");
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::closed/*"}}"#;
    assert_eq!(alice.call(Put, "/closed?policy", &[], policy.as_bytes()).code(), "AccessDenied");
    assert_eq!(alice.call(Delete, "/closed?publicAccessBlock", &[], b"").status, 204);
    assert_eq!(alice.call(Put, "/closed?policy", &[], policy.as_bytes()).status, 204);
    assert_eq!(alice.call(Put, "/closed/k", &[], b"x").status, 200);
    let request = alice.unsigned(Get, "/closed/k", &[], b"");
    assert_eq!(alice.send(&request).body, b"x");
}

#[test]
fn buckets_are_their_accounts_own() {
    // Names are taken for all, listings are of one's own, and nobody else may even look.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    assert_eq!(bob.call(Put, "/photos", &[], b"").code(), "BucketAlreadyExists");
    assert!(!String::from_utf8_lossy(&bob.call(Get, "/", &[], b"").body).contains("photos"));
    assert!(String::from_utf8_lossy(&alice.call(Get, "/", &[], b"").body).contains("photos"));
    assert_eq!(bob.call(Get, "/photos", &[], b"").code(), "AccessDenied");
    assert_eq!(bob.call(Delete, "/photos", &[], b"").code(), "AccessDenied");
    let other = [("x-amz-expected-bucket-owner", "account-b")];
    assert_eq!(alice.call(Get, "/photos", &other, b"").code(), "AccessDenied");
}

#[test]
fn lists_are_put_away_before_they_have_no_say() {
    // A bucket whose list grants something to others is not set to take none: the list would have a say again with the next setting.
    let bench = Bench::of_strangers();
    let mut alice = bench.client(ALICE);
    let controls = |name: &str| {
        format!(
            "<OwnershipControls><Rule><ObjectOwnership>{name}</ObjectOwnership></Rule></OwnershipControls>"
        )
        .into_bytes()
    };
    for (index, grant) in
        [("x-amz-acl", "public-read"), ("x-amz-grant-read", "id=account-b")].into_iter().enumerate()
    {
        let bucket = format!("/photos{index}");
        assert_eq!(alice.call(Put, &bucket, &[grant], b"").status, 200);
        let path = format!("{bucket}?ownershipControls");
        let refused = checked(&mut alice, Put, &path, &controls("BucketOwnerEnforced"));
        assert_eq!((refused.status, refused.code()), (400, "InvalidBucketAclWithObjectOwnership".into()));
        assert_eq!(checked(&mut alice, Put, &path, &controls("BucketOwnerPreferred")).status, 200);
        assert_eq!(alice.call(Put, &format!("{bucket}?acl"), &[("x-amz-acl", "private")], b"").status, 200);
        assert_eq!(checked(&mut alice, Put, &path, &controls("BucketOwnerEnforced")).status, 200);
    }
}

#[test]
fn a_lock_holds_until_it_ends() {
    // Against deletes of the version, by one or by many, and against shorter periods; a marker may always stand before it.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(alice.call(Put, "/vault", &lock, b"").status, 200);
    let suspend = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    assert_eq!(alice.call(Put, "/vault?versioning", &[], suspend).code(), "InvalidBucketState");
    let sum = crc64(b"kept");
    let until = [
        ("x-amz-checksum-crc64nvme", &*sum),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", "2999-01-01T00:00:00Z"),
        ("x-amz-object-lock-legal-hold", "ON"),
    ];
    let put = alice.call(Put, "/vault/k", &until, b"kept");
    let version = put.header("x-amz-version-id").unwrap().to_owned();
    let head = alice.call(Head, "/vault/k", &[], b"");
    assert_eq!(head.header("x-amz-object-lock-mode"), Some("GOVERNANCE"));
    let path = format!("/vault/k?versionId={version}");
    let bypass = [("x-amz-bypass-governance-retention", "true")];
    assert_eq!(alice.call(Delete, &path, &bypass, b"").code(), "AccessDenied");
    let hold = format!("/vault/k?legal-hold&versionId={version}");
    let off = b"<LegalHold><Status>OFF</Status></LegalHold>";
    let digest_of_off = crc64(off);
    assert_eq!(alice.call(Put, &hold, &[("x-amz-checksum-crc64nvme", &digest_of_off)], off).status, 200);
    assert_eq!(alice.call(Delete, &path, &[], b"").code(), "AccessDenied");
    let many = format!("<Delete><Object><Key>k</Key><VersionId>{version}</VersionId></Object></Delete>");
    let md5 = [("x-amz-checksum-crc64nvme", &*crc64(many.as_bytes()))];
    let reply = alice.call(Post, "/vault?delete", &md5, many.as_bytes());
    assert_eq!((reply.status, reply.code()), (200, "AccessDenied".into()));
    let shorter = b"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2998-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let retention = format!("/vault/k?retention&versionId={version}");
    let sum = crc64(shorter);
    let digest = [("x-amz-checksum-crc64nvme", &*sum)];
    assert_eq!(alice.call(Put, &retention, &digest, shorter).code(), "AccessDenied");
    assert_eq!(alice.call(Put, &retention, &[digest, bypass].concat(), shorter).status, 200);
    assert_eq!(alice.call(Delete, "/vault/k", &[], b"").status, 204);
    assert_eq!(alice.call(Delete, &path, &bypass, b"").status, 204);
    assert_eq!(alice.call(Get, &path, &[], b"").code(), "NoSuchVersion");
}

/// Of a document that has to have a checksum.
pub(crate) fn crc64(bytes: &[u8]) -> String {
    use crossdock_s3::protocol::checksum::{Algorithm, Hasher};
    Hasher::checksum(Algorithm::Crc64Nvme, bytes).to_string()
}

#[test]
fn rules_are_acted_on() {
    // Current versions, noncurrent ones, markers and uploads go when their time has come, and what is locked or tagged otherwise stays.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(alice.call(Put, "/rules", &lock, b"").status, 200);
    let rules = "<LifecycleConfiguration>\
        <Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix>old/</Prefix></Filter><Expiration><Days>10</Days></Expiration></Rule>\
        <Rule><ID>b</ID><Status>Enabled</Status><Filter/><NoncurrentVersionExpiration><NoncurrentDays>20</NoncurrentDays></NoncurrentVersionExpiration></Rule>\
        <Rule><ID>c</ID><Status>Enabled</Status><Filter/><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>\
        <Rule><ID>d</ID><Status>Enabled</Status><Filter/><AbortIncompleteMultipartUpload><DaysAfterInitiation>5</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
        <Rule><ID>e</ID><Status>Enabled</Status><Filter><Tag><Key>t</Key><Value>go</Value></Tag></Filter><Expiration><Days>1</Days></Expiration></Rule>\
        <Rule><ID>f</ID><Status>Disabled</Status><Filter/><Expiration><Days>1</Days></Expiration></Rule>\
        </LifecycleConfiguration>";
    assert_eq!(alice.call(Put, "/rules?lifecycle", &[], rules.as_bytes()).status, 200);
    assert_eq!(alice.call(Post, "/rules/up?uploads", &[], b"").status, 200);
    let sum = crc64(b"x");
    let hold = [("x-amz-object-lock-legal-hold", "ON"), ("x-amz-checksum-crc64nvme", &*sum)];
    let put = alice.call(Put, "/rules/old/a", &[], b"x");
    assert!(put.header("x-amz-expiration").is_some_and(|text| text.ends_with("rule-id=\"a\"")));
    assert_eq!(alice.call(Put, "/rules/old/held", &hold, b"x").status, 200);
    assert_eq!(alice.call(Put, "/rules/stays", &[], b"x").status, 200);
    assert_eq!(alice.call(Put, "/rules/tagged", &[("x-amz-tagging", "t=go")], b"x").status, 200);
    assert_eq!(alice.call(Put, "/rules/kept", &[("x-amz-tagging", "t=stay")], b"x").status, 200);
    assert_eq!(swept(&bench, 0), Swept::default());
    let two = swept(&bench, 2);
    assert_eq!((two.expired, two.uploads), (1, 0));
    let twelve = swept(&bench, 12);
    assert_eq!((twelve.expired, twelve.uploads, twelve.noncurrent), (2, 1, 0));
    assert_eq!(swept(&bench, 12), Swept::default());
    assert_eq!(alice.call(Get, "/rules/old/a", &[], b"").code(), "NoSuchKey");
    // Behind the markers the versions go, but for the one that is held; markers that hide nothing any more follow.
    let late = swept(&bench, 40);
    assert_eq!((late.noncurrent, late.kept, late.markers), (2, 1, 2));
    let text = String::from_utf8(alice.call(Get, "/rules?versions", &[], b"").body).unwrap();
    let keys: Vec<&str> = text.split("<Key>").skip(1).filter_map(|rest| rest.split('<').next()).collect();
    assert_eq!(keys, ["kept", "old/held", "old/held", "stays"]);
}

#[test]
fn rules_are_acted_on_without_being_asked() {
    // The server does it by itself, again and again: what was there when it began, and what comes and is due at once.
    let bench = Bench::set(|service| service.lifecycle_interval = Some(Duration::from_millis(50)));
    are_acted_on(&bench);
}

#[test]
fn rules_are_acted_on_behind_another_stack() {
    // A front does it though nobody asks it for anything, and does it no more when it is gone.
    let bench = Bench::new();
    let mut service = bench.service();
    service.lifecycle_interval = Some(Duration::from_millis(50));
    let front = HttpFront::new(bench.engine().clone(), service, ServerLimits::default());
    are_acted_on(&bench);
    drop(front);
    // What is at work comes to its end.
    pause(200);
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/rules/old/c", &[], b"x").status, 200);
    pause(300);
    assert_eq!(alice.call(Get, "/rules/old/c", &[], b"").status, 200);
}

/// What is there when rules are set goes, and what comes later, and what they are not about stays.
fn are_acted_on(bench: &Bench) {
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/rules", &[], b"").status, 200);
    let rules = "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix>old/</Prefix></Filter>\
                 <Expiration><Date>2020-01-01T00:00:00Z</Date></Expiration></Rule></LifecycleConfiguration>";
    assert_eq!(alice.call(Put, "/rules/stays", &[], b"x").status, 200);
    assert_eq!(alice.call(Put, "/rules/old/a", &[], b"x").status, 200);
    assert_eq!(alice.call(Put, "/rules?lifecycle", &[], rules.as_bytes()).status, 200);
    for key in ["/rules/old/a", "/rules/old/b"] {
        let gone = (0..500).any(|_| {
            pause(20);
            alice.call(Get, key, &[], b"").code() == "NoSuchKey"
        });
        assert!(gone, "{key}");
        assert_eq!(alice.call(Put, "/rules/old/b", &[], b"x").status, 200);
    }
    assert_eq!(alice.call(Get, "/rules/stays", &[], b"").body, b"x");
}

#[test]
fn whatever_is_made_tells_when_it_goes() {
    // Objects however they were made, and uploads while they are open; nothing is told of what no rule is about.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/rules", &[], b"").status, 200);
    let rules = "<LifecycleConfiguration>\
        <Rule><ID>goes soon</ID><Status>Enabled</Status><Filter><Prefix>old/</Prefix></Filter><Expiration><Days>10</Days></Expiration></Rule>\
        <Rule><ID>late</ID><Status>Enabled</Status><Filter/><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
        <Rule><ID>\u{e9}arly</ID><Status>Enabled</Status><Filter><Prefix>old/</Prefix></Filter><AbortIncompleteMultipartUpload><DaysAfterInitiation>5</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
        <Rule><ID>off</ID><Status>Disabled</Status><Filter/><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
        </LifecycleConfiguration>";
    assert_eq!(alice.call(Put, "/rules?lifecycle", &[], rules.as_bytes()).status, 200);
    for (key, expires, aborts) in [("new", false, "late"), ("old/a", true, "%C3%A9arly")] {
        let path = format!("/rules/{key}");
        let begun = alice.call(Post, &format!("{path}?uploads"), &[], b"");
        let date = begun.header("x-amz-abort-date").unwrap_or_default().to_owned();
        assert!(date.ends_with(" 00:00:00 GMT"), "{key}: {date:?}");
        assert_eq!(begun.header("x-amz-abort-rule-id"), Some(aborts), "{key}");
        let text = String::from_utf8(begun.body).unwrap();
        let upload = text.split_once("<UploadId>").unwrap().1.split_once('<').unwrap().0;
        let of_upload = format!("{path}?uploadId={upload}");
        let listed = alice.call(Get, &of_upload, &[], b"");
        assert_eq!(listed.header("x-amz-abort-date"), Some(&*date), "{key}");
        assert_eq!(listed.header("x-amz-abort-rule-id"), Some(aborts), "{key}");
        let part = alice.call(Put, &format!("{path}?partNumber=1&uploadId={upload}"), &[], b"part");
        let etag = part.header("etag").unwrap();
        let list = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        );
        let joined = alice.call(Post, &of_upload, &[], list.as_bytes());
        let copied = alice.call(
            Put,
            &path,
            &[("x-amz-copy-source", "/rules/new"), ("x-amz-metadata-directive", "REPLACE")],
            b"",
        );
        for reply in [&joined, &copied] {
            let told = reply.header("x-amz-expiration");
            assert_eq!(
                told.is_some_and(|text| text.ends_with("rule-id=\"goes%20soon\"")),
                expires,
                "{key}: {told:?}"
            );
            assert_eq!(told.is_some(), expires, "{key}");
        }
    }
}

#[test]
fn no_lock_is_passed_over() {
    // A lock by a name that is not known here, as a newer client may send, on whatever it would lock: refused, and nothing is made.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    let enabled = ("x-amz-bucket-object-lock-enabled", "true");
    assert_eq!(alice.call(Put, "/vault", &[enabled], b"").status, 200);
    for lock in [
        ("x-amz-object-lock-event-hold", "ON"),
        ("x-amz-object-lock-event-hold-retention-days", "1"),
        ("x-amz-object-lock-of-next-year", "x"),
        ("x-amz-bucket-object-lock-of-next-year", "x"),
    ] {
        for (method, path, headers) in [
            (Put, "/vault/k", vec![lock]),
            (Put, "/vault/k", vec![lock, ("x-amz-copy-source", "/vault/other")]),
            (Post, "/vault/k?uploads", vec![lock]),
            (Put, "/other-vault", vec![enabled, lock]),
        ] {
            let reply = alice.call(method, path, &headers, b"");
            assert_eq!((reply.status, reply.code()), (501, "NotImplemented".into()), "{path} {headers:?}");
            assert!(String::from_utf8_lossy(&reply.body).contains(lock.0), "{path} {headers:?}");
        }
    }
    assert_eq!(alice.call(Get, "/vault/k", &[], b"").code(), "NoSuchKey");
    assert_eq!(alice.call(Get, "/other-vault", &[], b"").code(), "NoSuchBucket");
}

#[test]
fn no_header_of_a_configuration_is_passed_over() {
    // The least size of transitions is told as it was set; a policy that shuts its owner out is not promised.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/rules", &[], b"").status, 200);
    let rules = "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter/><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    const LEAST: &str = "x-amz-transition-default-minimum-object-size";
    for (set, told) in [
        (None, "all_storage_classes_128K"),
        (Some("varies_by_storage_class"), "varies_by_storage_class"),
        (Some("all_storage_classes_128K"), "all_storage_classes_128K"),
    ] {
        let headers: Vec<(&str, &str)> = set.map(|set| (LEAST, set)).into_iter().collect();
        let put = alice.call(Put, "/rules?lifecycle", &headers, rules.as_bytes());
        assert_eq!((put.status, put.header(LEAST)), (200, Some(told)), "{set:?}");
        let get = alice.call(Get, "/rules?lifecycle", &[], b"");
        assert_eq!(get.header(LEAST), Some(told), "{set:?}");
        let text = String::from_utf8(get.body).unwrap();
        assert!(text.contains("<Days>1</Days>") && !text.contains("Transition"), "{text}");
    }
    let unknown = alice.call(Put, "/rules?lifecycle", &[(LEAST, "1")], rules.as_bytes());
    assert_eq!((unknown.status, unknown.code()), (400, "InvalidArgument".into()));
    let policy = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:GetBucketPolicy","Resource":"arn:aws:s3:::rules"}}"#;
    let confirm = |value| [("x-amz-confirm-remove-self-bucket-access", value)];
    let refused = alice.call(Put, "/rules?policy", &confirm("true"), policy.as_bytes());
    assert_eq!((refused.status, refused.code()), (501, "NotImplemented".into()));
    assert_eq!(alice.call(Get, "/rules?policy", &[], b"").code(), "NoSuchBucketPolicy");
    assert_eq!(alice.call(Put, "/rules?policy", &confirm("false"), policy.as_bytes()).status, 204);
}

#[test]
fn browsers_are_told_what_they_may() {
    // A preflight by the rules, a reply with what they say, and nothing where there are none.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/web", &[], b"").status, 200);
    let origin = [("Origin", "https://example.org"), ("Access-Control-Request-Method", "PUT")];
    let request = alice.unsigned(Options, "/web/k", &origin, b"");
    assert_eq!(alice.send(&request).code(), "AccessForbidden");
    let rules = "<CORSConfiguration><CORSRule><AllowedOrigin>https://*.org</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
                 <AllowedHeader>*</AllowedHeader><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule></CORSConfiguration>";
    assert_eq!(alice.call(Put, "/web?cors", &[], rules.as_bytes()).status, 200);
    let reply = alice.send(&request);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://example.org"));
    let put = alice.call(Put, "/web/k", &origin[..1], b"x");
    assert_eq!(put.header("access-control-allow-origin"), Some("https://example.org"));
    assert_eq!(alice.call(Get, "/web/k", &origin[..1], b"").header("access-control-allow-origin"), None);
}

#[test]
fn what_goes_with_an_object_changes_in_place() {
    // Tags and lists, of the version that is named; copies take tags along and nothing else.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let put = alice.call(Put, "/photos/k", &[("x-amz-tagging", "a=1")], b"x");
    let etag = put.header("etag").unwrap().to_owned();
    let text = |reply: crate::bench::Reply| String::from_utf8(reply.body).unwrap();
    let tags = "<Tagging><TagSet><Tag><Key>b</Key><Value>2</Value></Tag></TagSet></Tagging>";
    assert_eq!(alice.call(Put, "/photos/k?tagging", &[], tags.as_bytes()).status, 200);
    assert!(text(alice.call(Get, "/photos/k?tagging", &[], b"")).contains("<Key>b</Key><Value>2</Value>"));
    assert_eq!(bob.call(Get, "/photos/k", &[], b"").code(), "AccessDenied");
    assert_eq!(alice.call(Put, "/photos/k?acl", &[("x-amz-acl", "public-read")], b"").status, 200);
    let seen = bob.call(Get, "/photos/k", &[], b"");
    assert_eq!(
        (seen.body.as_slice(), seen.header("etag"), seen.header("x-amz-tagging-count")),
        (&b"x"[..], Some(&*etag), Some("1"))
    );
    assert_eq!(alice.call(Put, "/photos/c", &[("x-amz-copy-source", "/photos/k")], b"").status, 200);
    assert!(text(alice.call(Get, "/photos/c?tagging", &[], b"")).contains("<Key>b</Key>"));
    assert_eq!(bob.call(Get, "/photos/c", &[], b"").code(), "AccessDenied");
    assert_eq!(alice.call(Delete, "/photos/k?tagging", &[], b"").status, 204);
    assert_eq!(alice.call(Head, "/photos/k", &[], b"").header("x-amz-tagging-count"), None);
}

#[test]
fn every_configuration_round_trips() {
    // Absent it has its own code, set it is told as it was set, deleted it is absent again.
    let bench = Bench::of_strangers();
    let mut alice = bench.client(ALICE);
    let lock = [("x-amz-bucket-object-lock-enabled", "true")];
    assert_eq!(alice.call(Put, "/photos", &lock, b"").status, 200);
    let rule = "<LifecycleConfiguration><Rule><ID>r</ID><Prefix>a/</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    let cors = "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>";
    let owner = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerPreferred</ObjectOwnership></Rule></OwnershipControls>";
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::photos/*"}}"#;
    let block = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>false</IgnorePublicAcls>\
                 <BlockPublicPolicy>false</BlockPublicPolicy><RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>";
    let inside = |text: &str| text.split_once('>').map_or(String::new(), |(_, rest)| rest.to_owned());
    for (name, document, absent) in [
        ("cors", cors, "NoSuchCORSConfiguration"),
        ("lifecycle", rule, "NoSuchLifecycleConfiguration"),
        ("ownershipControls", owner, "OwnershipControlsNotFoundError"),
        ("tagging", tags, "NoSuchTagSet"),
        ("policy", policy, "NoSuchBucketPolicy"),
        ("publicAccessBlock", block, "NoSuchPublicAccessBlockConfiguration"),
    ] {
        let path = format!("/photos?{name}");
        assert_eq!(alice.call(Get, &path, &[], b"").code(), absent);
        assert!(matches!(alice.call(Put, &path, &[], document.as_bytes()).status, 200 | 204), "{name}");
        let told = String::from_utf8(alice.call(Get, &path, &[], b"").body).unwrap();
        assert!(told.ends_with(&inside(document)), "{told}");
        if name == "policy" {
            let status = String::from_utf8(alice.call(Get, "/photos?policyStatus", &[], b"").body).unwrap();
            assert!(status.contains("<IsPublic>true</IsPublic>"), "{status}");
        }
        assert_eq!(alice.call(Delete, &path, &[], b"").status, 204);
        assert_eq!(alice.call(Get, &path, &[], b"").code(), absent);
    }
    let put = alice.call(Put, "/photos/k", &[], b"x");
    assert_eq!(put.status, 200);
    for (path, expected) in [
        (
            "/photos?acl",
            "<ID>account-a</ID><DisplayName>account-a</DisplayName></Grantee><Permission>FULL_CONTROL</Permission>",
        ),
        ("/photos/k?acl", "<Permission>FULL_CONTROL</Permission>"),
        ("/photos?object-lock", "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"),
        ("/photos/k?retention", "<Code>NoSuchObjectLockConfiguration</Code>"),
        ("/photos/k?legal-hold", "<Code>NoSuchObjectLockConfiguration</Code>"),
    ] {
        let told = String::from_utf8(alice.call(Get, path, &[], b"").body).unwrap();
        assert!(told.contains(expected), "{path}: {told}");
    }
}

#[test]
fn a_list_of_nothing_is_not_cut_short() {
    // max-keys=0, which the engine has no pages for: an empty list that is not truncated, in each form, of a bucket that is there.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/some", &[], b"").status, 200);
    assert_eq!(alice.call(Put, "/some/k", &[], b"x").status, 200);
    for form in ["", "list-type=2&", "versions&"] {
        let list = alice.call(Get, &format!("/some?{form}max-keys=0"), &[], b"");
        assert_eq!(list.status, 200, "{form}");
        let text = String::from_utf8(list.body).unwrap();
        assert!(text.contains("<IsTruncated>false</IsTruncated>") && !text.contains("<Key>"), "{text}");
        assert_eq!(alice.call(Get, &format!("/none?{form}max-keys=0"), &[], b"").code(), "NoSuchBucket");
    }
}
