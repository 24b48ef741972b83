//! Requests from the wire's bytes to their typed form, and what is refused on the way.

use super::*;
use crate::protocol::auth::PayloadMode;
use crate::protocol::checksum::{Algorithm, ChecksumType};
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::etag::ETagCondition;
use crate::protocol::http::{Headers, Method, RequestHead};
use crate::protocol::range::ByteRange;
use crate::protocol::xml::VersioningStatus;
use Method::{Delete, Get, Head, Post, Put};
use proptest::prelude::*;

fn parse(method: Method, target: &str, fields: &[(&str, &str)], document: &[u8]) -> Result<Request, S3Error> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.push(name, value.as_bytes());
    }
    let head = RequestHead { method, path: path.into(), query: query.into(), version_minor: 1, headers };
    let routed = route(&head, Resource::path_style(&head.path)?)?;
    Request::parse(&routed, &head.headers, PayloadMode::Unsigned, document)
}

fn code(method: Method, target: &str, fields: &[(&str, &str)], document: &str) -> ErrorCode {
    match parse(method, target, fields, document.as_bytes()) {
        Ok(request) => panic!("{target} is {request:?}"),
        Err(error) => error.code,
    }
}

#[test]
fn every_operation_is_served_or_refused_by_name() {
    // What is not served answers NotImplemented, and nothing panics without its headers and body.
    let served = OperationName::ALL.iter().filter(|&&operation| {
        let routed = Routed {
            operation,
            resource: Resource::Object { bucket: "bucket".into(), key: "key".into() },
            query: Default::default(),
        };
        match Request::parse(&routed, &Headers::default(), PayloadMode::Unsigned, b"") {
            Ok(_) => true,
            Err(error) => error.code != ErrorCode::NotImplemented,
        }
    });
    // PostObject is served from its form, which is no document; three are served as far as they ask for what is so already.
    assert_eq!(served.count(), 24 + 9 + 4 + 7 + 6 + 7 + 2 + 4 + 3);
}

#[test]
fn a_put_carries_headers_conditions_and_checksum() {
    // The request of an SDK, field by field.
    let fields = [
        ("Content-Type", "text/plain"),
        ("x-amz-meta-mtime", "1"),
        ("If-None-Match", "*"),
        ("x-amz-acl", "private"),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ];
    let Ok(Request::PutObject(put)) = parse(Put, "/bucket/a%20b?x-id=PutObject", &fields, b"") else {
        panic!()
    };
    assert_eq!((put.bucket.as_str(), put.key.as_str()), ("bucket", "a b"));
    assert_eq!(put.headers.user, [("mtime".to_owned(), b"1".to_vec())]);
    assert_eq!(put.conditions.if_none_match, Some(ETagCondition::Any));
    assert_eq!(put.checksum.algorithm(), Some(Algorithm::Crc32));
    assert_eq!(
        code(Put, "/bucket/k", &[("x-amz-server-side-encryption", "AES256")], ""),
        ErrorCode::NotImplemented
    );
    assert_eq!(code(Put, "/bucket/k", &[("x-amz-checksum-crc32", "!")], ""), ErrorCode::InvalidRequest);
    let error = parse(Put, "/bucket/k?renameObject", &[], b"").unwrap_err();
    assert_eq!((error.code, error.resource.as_deref()), (ErrorCode::NotImplemented, Some("/bucket/k")));
}

#[test]
fn reads_name_bytes_versions_and_replies() {
    // Ranges, parts, overrides and checksum mode; a range and a part exclude each other.
    let target = "/bucket/k?versionId=null&response-content-type=a%2Fb&response-expires=";
    let fields = [("Range", "bytes=0-9"), ("x-amz-checksum-mode", "enabled"), ("If-Match", "\"e\"")];
    let Ok(Request::GetObject(get)) = parse(Get, target, &fields, b"") else { panic!() };
    assert_eq!(get.range, Some(ByteRange::Closed { first: 0, last: 9 }));
    assert_eq!(get.version_id.as_deref(), Some("null"));
    assert_eq!(get.overrides[4].as_deref(), Some("a/b"));
    assert_eq!(get.overrides[5], None);
    assert!(get.checksum_mode && get.conditions.if_match.is_some());
    assert!(
        matches!(parse(Head, "/bucket/k?partNumber=3", &[], b""), Ok(Request::HeadObject(head)) if head.part_number == Some(3))
    );
    assert_eq!(code(Get, "/bucket/k?partNumber=1", &[("Range", "bytes=0-1")], ""), ErrorCode::InvalidRequest);
    for bad in [
        "partNumber=0",
        "partNumber=10001",
        "partNumber=a",
        "partNumber=%2B1",
        "versionId=",
        "response-expires=a%0d",
    ] {
        assert_eq!(code(Get, &format!("/bucket/k?{bad}"), &[], ""), ErrorCode::InvalidArgument, "{bad}");
    }
}

#[test]
fn listings_are_clamped_and_checked() {
    // Bounds, encodings, empty parameters, and where each version begins.
    let v1 = |query: &str| match parse(Get, &format!("/bucket?{query}"), &[], b"") {
        Ok(Request::ListObjects(list)) => list,
        other => panic!("{other:?}"),
    };
    let list = v1("prefix=p%2B+&delimiter=&max-keys=5000&encoding-type=url&marker=m");
    assert_eq!(
        (list.query.prefix.as_str(), list.query.delimiter, list.query.entries_max),
        ("p+ ", None, 1000)
    );
    assert!(list.query.url_encode);
    assert_eq!(list.position, ListPosition::AfterKey(b"m".to_vec()));
    assert_eq!(v1("max-keys=0").query.entries_max, 0);
    assert_eq!(v1("max-keys=").query.entries_max, 1000);
    for bad in ["max-keys=-1", "max-keys=x", "max-keys=99999999999", "encoding-type=xml"] {
        assert_eq!(code(Get, &format!("/bucket?{bad}"), &[], ""), ErrorCode::InvalidArgument, "{bad}");
    }
    let v2 = |query: &str| match parse(Get, &format!("/bucket?list-type=2&{query}"), &[], b"") {
        Ok(Request::ListObjectsV2(list)) => list,
        other => panic!("{other:?}"),
    };
    let token = ListPosition::AfterPrefix(b"a/".to_vec()).to_token();
    assert_eq!(
        v2(&format!("start-after=z&continuation-token={token}")).position,
        ListPosition::AfterPrefix(b"a/".to_vec())
    );
    assert_eq!(v2("start-after=z&continuation-token=").position, ListPosition::AfterKey(b"z".to_vec()));
    assert!(v2("fetch-owner=true").fetch_owner && !v2("fetch-owner=").fetch_owner);
    assert_eq!(code(Get, "/bucket?list-type=2&continuation-token=%21", &[], ""), ErrorCode::InvalidArgument);
    assert_eq!(code(Get, "/bucket?versions&version-id-marker=1", &[], ""), ErrorCode::InvalidArgument);
    assert_eq!(code(Get, "/?max-buckets=0", &[], ""), ErrorCode::InvalidArgument);
}

#[test]
fn copies_name_source_range_and_directive() {
    // Copies with and without new headers; one that changes nothing is refused.
    let source = ("x-amz-copy-source", "/bucket/k");
    assert_eq!(code(Put, "/bucket/k", &[source], ""), ErrorCode::InvalidRequest);
    let Ok(Request::CopyObject(copy)) = parse(
        Put,
        "/bucket/k",
        &[source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-a", "1")],
        b"",
    ) else {
        panic!()
    };
    assert_eq!(copy.replace_headers.unwrap().user.len(), 1);
    assert_eq!(
        code(Put, "/bucket/x", &[source, ("x-amz-metadata-directive", "MERGE")], ""),
        ErrorCode::InvalidArgument
    );
    let target = "/bucket/x?partNumber=2&uploadId=u";
    let Ok(Request::UploadPartCopy(part)) =
        parse(Put, target, &[source, ("x-amz-copy-source-range", "bytes=1-2")], b"")
    else {
        panic!()
    };
    assert_eq!((part.part_number, part.range), (2, Some(ByteRange::Closed { first: 1, last: 2 })));
    assert_eq!(
        code(Put, target, &[source, ("x-amz-copy-source-range", "bytes=1-")], ""),
        ErrorCode::InvalidArgument
    );
}

#[test]
fn a_multipart_upload_is_announced_and_completed() {
    // Algorithm and type must go together; parts are read in any notation, and must ascend.
    let create = |fields: &[(&str, &str)]| match parse(Post, "/bucket/k?uploads", fields, b"") {
        Ok(Request::CreateMultipartUpload(create)) => Ok(create.headers.announced),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.code),
    };
    let algorithm = |name| ("x-amz-checksum-algorithm", name);
    assert_eq!(create(&[algorithm("CRC32")]), Ok(Some((Algorithm::Crc32, ChecksumType::Composite))));
    assert_eq!(
        create(&[algorithm("SHA1"), ("x-amz-checksum-type", "FULL_OBJECT")]),
        Err(ErrorCode::InvalidRequest)
    );
    assert_eq!(create(&[("x-amz-checksum-type", "COMPOSITE")]), Err(ErrorCode::InvalidRequest));
    assert_eq!(create(&[algorithm("XXHASH64")]), Ok(Some((Algorithm::XxHash64, ChecksumType::Composite))));
    assert_eq!(create(&[algorithm("XXHASH32")]), Err(ErrorCode::InvalidRequest));
    let body = "<CompleteMultipartUpload><Part><ETag>&#34;a&quot;</ETag><PartNumber> 1\n</PartNumber></Part>\
                <Unknown/><Part><PartNumber>3</PartNumber><ChecksumCRC32>AAAAAA==</ChecksumCRC32><ETag>b</ETag>\
                </Part></CompleteMultipartUpload>";
    let fields = [("x-amz-mp-object-size", "7"), ("x-amz-checksum-crc32", "AAAAAA==-2")];
    let Ok(Request::CompleteMultipartUpload(complete)) =
        parse(Post, "/bucket/k?uploadId=u", &fields, body.as_bytes())
    else {
        panic!()
    };
    let parts: Vec<_> = complete.parts.iter().map(|part| (part.number, part.etag.as_str())).collect();
    assert_eq!(parts, [(1, "a"), (3, "b")]);
    assert!(complete.parts[1].checksum.is_some());
    assert_eq!((complete.object_bytes, complete.checksum.unwrap().part_count), (Some(7), Some(2)));
    let refused = |parts: &str| {
        code(
            Post,
            "/bucket/k?uploadId=u",
            &[],
            &format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"),
        )
    };
    let part = |number: &str| format!("<Part><PartNumber>{number}</PartNumber><ETag>a</ETag></Part>");
    assert_eq!(refused(""), ErrorCode::MalformedXml);
    assert_eq!(refused(&(part("2") + &part("1"))), ErrorCode::InvalidPartOrder);
    assert_eq!(refused(&(part("2") + &part("2"))), ErrorCode::InvalidPartOrder);
    assert_eq!(refused(&part("0")), ErrorCode::InvalidArgument);
    assert_eq!(refused(&part("x")), ErrorCode::MalformedXml);
    assert_eq!(refused("<Part><PartNumber>1</PartNumber></Part>"), ErrorCode::MalformedXml);
}

#[test]
fn deletes_are_bounded_and_vouched_for() {
    // Up to a thousand keys, kept to the byte; a body nobody vouches for and unknown conditions are refused.
    let target = "/bucket?delete";
    let md5 = [("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    let body = "<Delete><Object><Key> a/\n</Key><VersionId>null</VersionId></Object><Quiet>true</Quiet>\
                <Object><ETag>\"e\"</ETag><Key>b</Key></Object></Delete>";
    let Ok(Request::DeleteObjects(delete)) = parse(Post, target, &md5, body.as_bytes()) else { panic!() };
    let delete = delete.delete;
    assert!(delete.quiet);
    assert_eq!(
        (delete.objects[0].key.as_str(), delete.objects[0].version_id.as_deref()),
        (" a/\n", Some("null"))
    );
    assert!(delete.objects[1].if_match.is_some());
    assert_eq!(code(Post, target, &[], body), ErrorCode::InvalidRequest);
    let many = |count: usize| format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(count));
    assert!(parse(Post, target, &md5, many(1000).as_bytes()).is_ok());
    assert_eq!(code(Post, target, &md5, &many(1001)), ErrorCode::MalformedXml);
    assert_eq!(code(Post, target, &md5, &many(0)), ErrorCode::MalformedXml);
    let sized = "<Delete><Object><Key>k</Key><Size>1</Size></Object></Delete>";
    assert_eq!(code(Post, target, &md5, sized), ErrorCode::NotImplemented);
    for tags in ["*", "\"a\""] {
        assert_eq!(code(Delete, "/bucket/k", &[("If-None-Match", tags)], ""), ErrorCode::NotImplemented);
    }
}

#[test]
fn versioning_is_set_by_a_document() {
    // One of two states; without a document, or with multi-factor authentication, it is refused.
    let put = |status: &str| {
        format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>")
    };
    let target = "/bucket?versioning";
    let Ok(Request::PutBucketVersioning(request)) = parse(Put, target, &[], put("Suspended").as_bytes())
    else {
        panic!()
    };
    assert_eq!((request.bucket.as_str(), request.status), ("bucket", VersioningStatus::Suspended));
    assert!(
        matches!(parse(Get, target, &[], b""), Ok(Request::GetBucketVersioning(get)) if get.bucket == "bucket")
    );
    assert_eq!(code(Put, target, &[], &put("")), ErrorCode::MalformedXml);
    assert_eq!(code(Put, target, &[], ""), ErrorCode::MalformedXml);
    assert_eq!(code(Put, target, &[("x-amz-mfa", "1 2")], &put("Enabled")), ErrorCode::NotImplemented);
}

#[test]
fn buckets_and_attributes() {
    // A bucket with and without a document, and which attributes are asked for.
    let create = |body: &str| match parse(Put, "/bucket/", &[], body.as_bytes()) {
        Ok(Request::CreateBucket(create)) => create.location,
        other => panic!("{other:?}"),
    };
    assert_eq!(create(""), None);
    let document = |inner: &str| format!("<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>");
    assert_eq!(
        create(&document("<LocationConstraint>eu-west-1</LocationConstraint>")).as_deref(),
        Some("eu-west-1")
    );
    assert_eq!(code(Put, "/bucket", &[], &document("<Tags><Tag/></Tags>")), ErrorCode::MalformedXml);
    assert_eq!(code(Put, "/bucket", &[], &document("<Bucket/>")), ErrorCode::NotImplemented);
    assert_eq!(code(Put, "/bucket", &[], "<Other/>"), ErrorCode::MalformedXml);
    let attributes =
        |value: &str| parse(Get, "/bucket/k?attributes", &[("x-amz-object-attributes", value)], b"");
    let Ok(Request::GetObjectAttributes(read)) = attributes("ETag, ObjectSize") else { panic!() };
    assert_eq!(read.attributes, AttributeSet { etag: true, object_size: true, ..Default::default() });
    assert_eq!(attributes("").unwrap_err().code, ErrorCode::InvalidRequest);
    assert_eq!(attributes("Colour").unwrap_err().code, ErrorCode::InvalidArgument);
}

proptest! {
    #[test]
    fn no_request_panics(
        method in prop::sample::select(vec![Get, Head, Put, Post, Delete]),
        path in prop::sample::select(vec!["/", "/bucket", "/bucket/key"]),
        keys in proptest::collection::vec((prop::sample::select(vec![
            "uploads", "uploadId", "partNumber", "versionId", "list-type", "delete", "max-keys", "marker", "attributes",
            "continuation-token", "delimiter", "prefix", "versions", "encoding-type", "tagging",
        ]), "[a-z0-9%/=]{0,5}"), 0..3),
        fields in proptest::collection::vec((prop::sample::select(vec![
            "range", "if-match", "if-none-match", "x-amz-copy-source", "x-amz-copy-source-range", "x-amz-meta-a",
            "x-amz-checksum-crc32", "x-amz-checksum-algorithm", "x-amz-object-attributes", "content-md5", "x-amz-acl",
            "x-amz-mp-object-size", "x-amz-metadata-directive", "x-amz-storage-class",
        ]), ".{0,8}"), 0..3),
        document in "[<>/A-Za-z&;]{0,30}",
    ) {
        // Any parameters, headers and body are a request or are refused.
        let query: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let _ = parse(method, &format!("{path}?{}", query.join("&")), &fields, document.as_bytes());
    }
}
