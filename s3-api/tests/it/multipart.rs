//! Multipart uploads: what was announced binds the parts, and a listing in pages loses none.

use crate::bench::{ALICE, BOB, Bench, Client, checked};
use crossdock_s3::protocol::{
    checksum::{Algorithm, Hasher},
    http::Method::{Delete, Get, Head, Post, Put},
};

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from)
        .and_then(|(_, rest)| rest.split_once(to))
        .map(|(found, _)| found)
        .unwrap_or_default()
}

fn begin(alice: &mut Client, key: &str, headers: &[(&str, &str)]) -> String {
    let begun = alice.call(Post, &format!("/photos/{key}?uploads"), headers, b"");
    assert_eq!((begun.status, begun.code()), (200, String::new()));
    between(&String::from_utf8(begun.body).unwrap(), "<UploadId>", "<").to_owned()
}

fn complete(alice: &mut Client, key: &str, upload: &str, parts: &str) -> crate::bench::Reply {
    let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    alice.call(Post, &format!("/photos/{key}?uploadId={upload}"), &[], list.as_bytes())
}

#[test]
fn a_listing_in_pages_goes_on_where_an_upload_was() {
    // The upload that the marker names is given up between two pages: those behind it are told all the same, and none twice.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let begun: Vec<String> = (0..4).map(|_| begin(&mut alice, "k", &[])).collect();
    let mut told = Vec::new();
    let mut markers = String::new();
    for _ in 0..4 {
        let page = alice.call(Get, &format!("/photos?uploads&max-uploads=1{markers}"), &[], b"");
        let page = String::from_utf8(page.body).unwrap();
        let upload = between(&page, "<UploadId>", "<").to_owned();
        assert_eq!(
            alice.call(Delete, &format!("/photos/k?uploadId={upload}"), &[], b"").status,
            204,
            "{page}"
        );
        told.push(upload);
        let marker = between(&page, "<NextUploadIdMarker>", "<");
        assert_eq!(marker.is_empty(), told.len() == 4, "{page}");
        markers = format!("&key-marker=k&upload-id-marker={marker}");
    }
    told.sort();
    let mut all = begun;
    all.sort();
    assert_eq!(told, all);
    // An identifier alone does as well, as long as there is such an upload.
    let begun: Vec<String> = (0..2).map(|_| begin(&mut alice, "k", &[])).collect();
    let page = alice.call(Get, "/photos?uploads&max-uploads=1", &[], b"");
    let first = between(&String::from_utf8(page.body).unwrap(), "<UploadId>", "<").to_owned();
    let rest = alice.call(Get, &format!("/photos?uploads&key-marker=k&upload-id-marker={first}"), &[], b"");
    let rest = String::from_utf8(rest.body).unwrap();
    let other = begun.iter().find(|upload| **upload != first).unwrap();
    assert!(rest.contains(other.as_str()) && rest.matches("<Upload>").count() == 1, "{rest}");
}

#[test]
fn parts_are_held_to_the_checksum_that_was_announced() {
    // A checksum of checksums needs that of each part, by the algorithm that was announced.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let sha = Hasher::checksum(Algorithm::Sha256, b"part").to_string();
    let crc = Hasher::checksum(Algorithm::Crc32, b"part").to_string();
    let announced = [("x-amz-checksum-algorithm", "SHA256"), ("x-amz-checksum-type", "COMPOSITE")];
    let upload = begin(&mut alice, "k", &announced);
    let path = format!("/photos/k?partNumber=1&uploadId={upload}");
    for headers in [vec![], vec![("x-amz-checksum-crc32", &*crc)]] {
        let refused = alice.call(Put, &path, &headers, b"part");
        assert_eq!((refused.status, refused.code()), (400, "InvalidRequest".into()), "{headers:?}");
        assert!(String::from_utf8_lossy(&refused.body).contains("expected checksum Type: sha256"));
    }
    let part = alice.call(Put, &path, &[("x-amz-checksum-sha256", &sha)], b"part");
    let etag = part.header("etag").unwrap().to_owned();
    // The parts were held to it: who joins them may name their checksums, and need not.
    let with = |sum: &str| {
        format!(
            "<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag><ChecksumSHA256>{sum}</ChecksumSHA256></Part>"
        )
    };
    let other = Hasher::checksum(Algorithm::Sha256, b"other").to_string();
    assert_eq!(complete(&mut alice, "k", &upload, &with(&other)).code(), "InvalidPart");
    let named = format!("<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>");
    let made = complete(&mut alice, "k", &upload, &named);
    assert_eq!((made.status, made.code()), (200, String::new()));
    assert!(String::from_utf8_lossy(&made.body).contains("-1</ChecksumSHA256>"));
}

#[test]
fn a_checksum_of_the_whole_is_made_of_parts_that_bring_none() {
    // For a checksum of all bytes those of the parts are computed here, of copied ones as well; another algorithm is refused. Where
    // nothing was announced a part may bring what it likes.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let first = vec![b'a'; 5 << 20];
    assert_eq!(alice.call(Put, "/photos/source", &[], &first).status, 200);
    let whole = Hasher::checksum(Algorithm::Crc32, &[&first[..], b"end"].concat()).to_string();
    let announced = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "FULL_OBJECT")];
    for copied in [false, true] {
        let upload = begin(&mut alice, "k", &announced);
        let path = |number: u8| format!("/photos/k?partNumber={number}&uploadId={upload}");
        let sha = Hasher::checksum(Algorithm::Sha1, b"end").to_string();
        assert_eq!(
            alice.call(Put, &path(2), &[("x-amz-checksum-sha1", &sha)], b"end").code(),
            "InvalidRequest"
        );
        let part = match copied {
            false => alice.call(Put, &path(1), &[], &first),
            true => alice.call(Put, &path(1), &[("x-amz-copy-source", "/photos/source")], b""),
        };
        let crc = Hasher::checksum(Algorithm::Crc32, &first).to_string();
        let text = String::from_utf8_lossy(&part.body).into_owned();
        assert!(part.header("x-amz-checksum-crc32") == Some(&crc) || text.contains(&crc), "{text}");
        let one = if copied {
            between(&text, "<ETag>", "<").to_owned()
        } else {
            part.header("etag").unwrap().to_owned()
        };
        let two = alice.call(Put, &path(2), &[], b"end").header("etag").unwrap().to_owned();
        let named = format!(
            "<Part><PartNumber>1</PartNumber><ETag>{one}</ETag></Part><Part><PartNumber>2</PartNumber><ETag>{two}</ETag></Part>"
        );
        let made = complete(&mut alice, "k", &upload, &named);
        let text = String::from_utf8_lossy(&made.body).into_owned();
        assert!(text.contains(&format!("<ChecksumCRC32>{whole}</ChecksumCRC32>")), "{text}");
    }
    let upload = begin(&mut alice, "k", &[]);
    let sha = Hasher::checksum(Algorithm::Sha256, b"part").to_string();
    let path = format!("/photos/k?partNumber=1&uploadId={upload}");
    let part = alice.call(Put, &path, &[("x-amz-checksum-sha256", &sha)], b"part");
    assert_eq!((part.status, part.header("x-amz-checksum-sha256")), (200, Some(&*sha)));
}

#[test]
fn a_copy_has_the_checksum_that_is_asked_for() {
    // By whatever algorithm the source has one; it is told, kept, and that of the bytes.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let sha = Hasher::checksum(Algorithm::Sha256, &bytes).to_string();
    assert_eq!(alice.call(Put, "/photos/plain", &[], &bytes).status, 200);
    assert_eq!(alice.call(Put, "/photos/summed", &[("x-amz-checksum-sha256", &sha)], &bytes).status, 200);
    for source in ["/photos/plain", "/photos/summed"] {
        for algorithm in Algorithm::ALL {
            let wanted = Hasher::checksum(algorithm, &bytes).to_string();
            let headers = [("x-amz-copy-source", source), ("x-amz-checksum-algorithm", algorithm.name())];
            let copy = alice.call(Put, "/photos/copy", &headers, b"");
            let text = String::from_utf8_lossy(&copy.body).into_owned();
            let told = format!("<{0}>{wanted}</{0}>", algorithm.element());
            assert!(copy.status == 200 && text.contains(&told), "{algorithm:?} of {source}: {text}");
            let head = alice.call(Head, "/photos/copy", &[("x-amz-checksum-mode", "ENABLED")], b"");
            assert_eq!(head.header(algorithm.header()), Some(&*wanted), "{algorithm:?} of {source}");
        }
    }
}

#[test]
fn a_repetition_is_held_to_what_was_made() {
    // Who joins an upload again is answered as at first, if it says the same: other parts, another checksum, size or type are refused, as
    // they would have been then.
    let bench = Bench::new();
    let mut alice = bench.client(ALICE);
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let announced = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "FULL_OBJECT")];
    let upload = begin(&mut alice, "k", &announced);
    let (first, end) = (vec![b'a'; 5 << 20], &b"end"[..]);
    let mut parts = Vec::new();
    for (number, bytes) in [(1, &first[..]), (2, end)] {
        let part = alice.call(Put, &format!("/photos/k?partNumber={number}&uploadId={upload}"), &[], bytes);
        let etag = part.header("etag").unwrap();
        parts.push(format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
    }
    let path = format!("/photos/k?uploadId={upload}");
    let sum = Hasher::checksum(Algorithm::Crc32, &[&first[..], end].concat()).to_string();
    let mut join = |parts: &str, headers: &[(&str, &str)]| {
        let list = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let reply = alice.call(Post, &path, headers, list.as_bytes());
        let code = reply.code();
        (code, between(&String::from_utf8(reply.body).unwrap(), "<ETag>", "<").to_owned())
    };
    let both = parts.concat();
    let good = [("x-amz-checksum-crc32", &*sum), ("x-amz-mp-object-size", "5242883")];
    let absent = [("if-none-match", "*")];
    let (code, etag) = join(&both, &absent);
    assert!(code.is_empty() && etag.ends_with("-2&quot;"), "{code} {etag}");
    for headers in [&[][..], &good, &announced[1..], &absent] {
        assert_eq!(join(&both, headers), (String::new(), etag.clone()), "{headers:?}");
    }
    let other = parts[1].replace("<ETag>\"", "<ETag>\"0");
    for list in [&parts[0], &parts[1], &format!("{}{other}", parts[0])] {
        assert_eq!(join(list, &[]).0, "InvalidPart", "{list}");
    }
    for (header, code) in [
        (("x-amz-checksum-crc32", "AAAAAA=="), "BadDigest"),
        (("x-amz-mp-object-size", "1"), "InvalidRequest"),
        (("x-amz-checksum-type", "COMPOSITE"), "InvalidRequest"),
    ] {
        assert_eq!(join(&both, &[header]).0, code, "{header:?}");
    }
}

#[test]
fn an_upload_ends_as_its_bucket_is_set_by_then() {
    // A list that was taken when the upload was begun is one that a put would be refused for now: nothing is stored until it is not.
    let bench = Bench::of_strangers();
    let (mut alice, mut bob) = (bench.client(ALICE), bench.client(BOB));
    assert_eq!(alice.call(Put, "/photos", &[], b"").status, 200);
    let part = |client: &mut Client, upload: &str| {
        let part = client.call(Put, &format!("/photos/k?partNumber=1&uploadId={upload}"), &[], b"part");
        format!("<Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>", part.header("etag").unwrap())
    };
    let enforced = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";
    let block = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>";
    for (setting, document, code) in [
        ("publicAccessBlock", block, "AccessDenied"),
        ("ownershipControls", enforced, "AccessControlListNotSupported"),
    ] {
        let upload = begin(&mut alice, "k", &[("x-amz-acl", "public-read")]);
        let parts = part(&mut alice, &upload);
        let path = format!("/photos?{setting}");
        assert_eq!(checked(&mut alice, Put, &path, document.as_bytes()).status, 200);
        assert_eq!(complete(&mut alice, "k", &upload, &parts).code(), code);
        assert_eq!(alice.call(Get, "/photos/k", &[], b"").status, 404, "{setting}");
        assert_eq!(alice.call(Delete, &path, &[], b"").status, 204);
        assert_eq!(complete(&mut alice, "k", &upload, &parts).status, 200);
        let stranger = alice.unsigned(Get, "/photos/k", &[], b"");
        assert_eq!(alice.send(&stranger).body, b"part", "{setting}");
        assert_eq!(alice.call(Delete, "/photos/k", &[], b"").status, 204);
    }
    // Who gives what it writes to the bucket's owner has it be its own where nobody takes it, and the owner's where that is preferred by then.
    let preferred = enforced.replace("Enforced", "Preferred");
    let writers = "<ID>account-b</ID>";
    for (list, owner) in [("bucket-owner-full-control", "account-a"), ("bucket-owner-read", "account-b")] {
        let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":["s3:PutObject","s3:GetObjectAcl"],"Resource":"arn:aws:s3:::photos/*"}}"#;
        assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
        let uploads = [(); 2].map(|()| begin(&mut bob, "k", &[("x-amz-acl", list)]));
        let parts = uploads.each_ref().map(|upload| part(&mut bob, upload));
        assert_eq!(complete(&mut bob, "k", &uploads[0], &parts[0]).status, 200);
        let acl = bob.call(Get, "/photos/k?acl", &[], b"").body;
        assert!(String::from_utf8(acl).unwrap().contains(writers), "{list}");
        let path = "/photos?ownershipControls";
        assert_eq!(checked(&mut alice, Put, path, preferred.as_bytes()).status, 200);
        assert_eq!(complete(&mut bob, "k", &uploads[1], &parts[1]).status, 200);
        let whose = if owner == "account-a" { &mut alice } else { &mut bob };
        let acl = String::from_utf8(whose.call(Get, "/photos/k?acl", &[], b"").body).unwrap();
        assert!(acl.contains(&format!("<Owner><ID>{owner}</ID>")), "{list}: {acl}");
        assert_eq!(acl.contains(writers), owner == "account-b", "{list}: {acl}");
        assert_eq!(alice.call(Delete, path, &[], b"").status, 204);
        assert_eq!(alice.call(Delete, "/photos/k", &[], b"").status, 204);
    }
    // Who owns what it writes when it begins does not where the bucket's owner owns everything at the end.
    let policy = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::photos/*"}}"#;
    assert_eq!(alice.call(Put, "/photos?policy", &[], policy.as_bytes()).status, 204);
    let upload = begin(&mut bob, "k", &[]);
    let parts = part(&mut bob, &upload);
    assert_eq!(checked(&mut alice, Put, "/photos?ownershipControls", enforced.as_bytes()).status, 200);
    assert_eq!(complete(&mut bob, "k", &upload, &parts).status, 200);
    assert_eq!(alice.call(Delete, "/photos?ownershipControls", &[], b"").status, 204);
    let list = alice.call(Get, "/photos/k?acl", &[], b"");
    let list = String::from_utf8(list.body).unwrap();
    assert!(list.contains("account-a") && !list.contains("account-b"), "{list}");
}
