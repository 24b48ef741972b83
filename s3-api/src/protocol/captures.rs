//! Requests of real clients, byte for byte: each is understood, is signed as it says, and means the same however it is cut.
//!
//! They lie in `s3-api/tests/captures`, one file a client. `cargo xtask clients --record s3-api/tests/captures` writes them anew
//! from a run of the client tests (`examples/tests/clients/recorder.py`). Each is
//!
//! ```text
//!   @ SECONDS LENGTH http|https LF, LENGTH bytes of request, LF
//! ```
//!
//! SECONDS since 1970, when it came. The keys are those of the client tests.

use super::auth::{Authentication, Verified, adopt_parameters, authenticate, verify};
use super::body::{BodyDecoder, BodyVerifier, DigestPlan, Expectations};
use super::checksum::{RequestChecksum, request_checksum};
use super::form::{FileScanner, FormHead, FormPolicy, FormSignature, boundary_of};
use super::http::{HeadLimits, HeadParser, HeadStatus, ParsedHead};
use super::operation::{OperationName, Request, Resource, route};
use std::collections::{BTreeMap, BTreeSet};

const SECRET: &str = "a-secret/that+needs=encoding";

/// One request of a client.
struct Capture {
    /// The file it is in, and its number there: for messages.
    name: String,
    client: String,
    seconds: u64,
    bytes: Vec<u8>,
}

fn captures() -> Vec<Capture> {
    FILES.iter().flat_map(|(client, file, _)| read(client, file)).collect()
}

fn read(client: &str, mut file: &[u8]) -> Vec<Capture> {
    let mut found = Vec::new();
    while !file.is_empty() {
        let end = file.iter().position(|&byte| byte == b'\n').unwrap();
        let line = core::str::from_utf8(&file[..end]).unwrap();
        let ["@", seconds, length, "http" | "https"] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{client}: {line}")
        };
        let (bytes, rest) = file[end + 1..].split_at(length.parse().unwrap());
        file = rest.strip_prefix(b"\n").unwrap();
        let name =
            format!("{client} {}: {}", found.len(), String::from_utf8_lossy(bytes).lines().next().unwrap());
        let (client, seconds, bytes) = (client.to_owned(), seconds.parse().unwrap(), bytes.to_vec());
        found.push(Capture { name, client, seconds, bytes });
    }
    found
}

/// What a request comes to, all the way.
#[derive(Debug, PartialEq)]
struct Meaning {
    operation: OperationName,
    request: Request,
    payload: Vec<u8>,
    /// Of head and body.
    wire_bytes: usize,
}

fn parse(bytes: &[u8]) -> ParsedHead {
    match HeadParser::new(HeadLimits::default()).parse(bytes) {
        Ok(HeadStatus::Complete(parsed)) => *parsed,
        other => panic!("{other:?}"),
    }
}

fn meaning(capture: &Capture) -> Meaning {
    let Capture { name, seconds, bytes, .. } = capture;
    let mut parsed = parse(bytes);
    let Ok(Authentication::Signed(claim)) = authenticate(&parsed.head) else { panic!("{name}: not signed") };
    let verified =
        verify(&claim, &parsed.head, SECRET, *seconds).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(verify(&claim, &parsed.head, "another secret", *seconds).is_err(), "{name}");
    let (payload, wire_bytes) = decode(&parsed, &verified, &[&bytes[parsed.head_bytes..]]);
    adopt_parameters(&claim, &mut parsed.head).unwrap();
    let routed = route(&parsed.head, Resource::path_style(&parsed.head.path).unwrap());
    let routed = routed.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let request = Request::parse(&routed, &parsed.head.headers, verified.payload, &payload);
    let request = request.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    // The SDKs of the newer kind say what they mean.
    if let Some(said) = routed.query.value("x-id") {
        assert_eq!(routed.operation.as_str(), said, "{name}");
    }
    Meaning { operation: routed.operation, request, payload, wire_bytes: parsed.head_bytes + wire_bytes }
}

/// The payload out of a body in pieces, its digests compared, and the wire bytes it took.
fn decode(parsed: &ParsedHead, verified: &Verified, pieces: &[&[u8]]) -> (Vec<u8>, usize) {
    let headers = &parsed.head.headers;
    // The checksum of a CompleteMultipartUpload is the object's, not the document's.
    let completes = parsed.head.query.contains("uploadId") && parsed.head.method == super::http::Method::Post;
    let checksum = if completes { RequestChecksum::None } else { request_checksum(headers).unwrap() };
    let mut decoder = BodyDecoder::new(headers, parsed.framing, verified, &checksum).unwrap();
    let expected = Expectations::new(headers, &verified.payload, checksum).unwrap();
    let mut verifier = BodyVerifier::new(expected, DigestPlan::default());
    let (mut payload, mut wire_bytes) = (Vec::new(), 0);
    for piece in pieces {
        let mut piece = piece.to_vec();
        let step = decoder.decode(&mut piece).unwrap();
        wire_bytes += step.wire_bytes;
        payload.extend_from_slice(&piece[..step.payload_bytes]);
        verifier.update(&piece[..step.payload_bytes]);
    }
    assert!(decoder.is_finished());
    verifier.finish(decoder.trailing_checksum(), None).unwrap();
    (payload, wire_bytes)
}

/// All that a head says: whatever comes behind is a function of this.
fn is_same(left: &ParsedHead, right: &ParsedHead) -> bool {
    left.head_bytes == right.head_bytes
        && (left.framing, left.keep_alive, left.expects_continue)
            == (right.framing, right.keep_alive, right.expects_continue)
        && left.head.method == right.head.method
        && left.head.path == right.head.path
        && left.head.query == right.head.query
        && left.head.version_minor == right.head.version_minor
        && left.head.headers.iter().eq(right.head.headers.iter())
}

/// A client, its file, and what that shows at least beside what all have: operations, or words of their requests.
const FILES: &[(&str, &[u8], &[&str])] = &[
    (
        "aws-cli",
        include_bytes!("../../tests/captures/aws-cli.requests"),
        &["CopyObject", "ListBuckets", "UploadPart", "CompleteMultipartUpload"],
    ),
    (
        "aws-sdk-js",
        include_bytes!("../../tests/captures/aws-sdk-js.requests"),
        &["CopyObject", "DeleteObjects", "UploadPart", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"],
    ),
    (
        "boto3-crt",
        include_bytes!("../../tests/captures/boto3-crt.requests"),
        &["CopyObject", "DeleteObjects", "x-amz-checksum-crc64nvme"],
    ),
    (
        "fsspec",
        include_bytes!("../../tests/captures/fsspec.requests"),
        &["CopyObject", "DeleteObjects", "UploadPart"],
    ),
    (
        "minio-py",
        include_bytes!("../../tests/captures/minio-py.requests"),
        &["CopyObject", "DeleteObjects", "UploadPartCopy"],
    ),
    (
        "obstore",
        include_bytes!("../../tests/captures/obstore.requests"),
        &["CopyObject", "DeleteObjects", "if-none-match"],
    ),
    ("presigned", include_bytes!("../../tests/captures/presigned.requests"), &["PostObject"]),
    (
        "pyarrow",
        include_bytes!("../../tests/captures/pyarrow.requests"),
        &["CopyObject", "UploadPart", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"],
    ),
    (
        "rclone",
        include_bytes!("../../tests/captures/rclone.requests"),
        &["CopyObject", "ListObjects", "UNSIGNED-PAYLOAD"],
    ),
    (
        "restic",
        include_bytes!("../../tests/captures/restic.requests"),
        &["ListObjectsV2", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"],
    ),
    ("s3cmd", include_bytes!("../../tests/captures/s3cmd.requests"), &["CopyObject", "GetBucketLocation"]),
    (
        "s3fs",
        include_bytes!("../../tests/captures/s3fs.requests"),
        &["CopyObject", "ListObjects", "UploadPartCopy"],
    ),
    (
        "s3torchconnector",
        include_bytes!("../../tests/captures/s3torchconnector.requests"),
        &["CopyObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"],
    ),
    // Over TLS, only what has a body.
    (
        "aws-cli-https",
        include_bytes!("../../tests/captures/aws-cli-https.requests"),
        &["PutObject", "UploadPart", "CompleteMultipartUpload", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"],
    ),
    ("aws-sdk-js-https", include_bytes!("../../tests/captures/aws-sdk-js-https.requests"), &["PutObject"]),
    (
        "boto3-https",
        include_bytes!("../../tests/captures/boto3-https.requests"),
        &["PutObject", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"],
    ),
    (
        "boto3-crt-https",
        include_bytes!("../../tests/captures/boto3-crt-https.requests"),
        &["PutObject", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"],
    ),
    (
        "fsspec-https",
        include_bytes!("../../tests/captures/fsspec-https.requests"),
        &["PutObject", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"],
    ),
    (
        "minio-py-https",
        include_bytes!("../../tests/captures/minio-py-https.requests"),
        &["PutObject", "UNSIGNED-PAYLOAD"],
    ),
    ("obstore-https", include_bytes!("../../tests/captures/obstore-https.requests"), &["PutObject"]),
    (
        "pyarrow-https",
        include_bytes!("../../tests/captures/pyarrow-https.requests"),
        &["UploadPart", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"],
    ),
    (
        "rclone-https",
        include_bytes!("../../tests/captures/rclone-https.requests"),
        &["PutObject", "UNSIGNED-PAYLOAD"],
    ),
    (
        "restic-https",
        include_bytes!("../../tests/captures/restic-https.requests"),
        &["PutObject", "UNSIGNED-PAYLOAD"],
    ),
    ("s3cmd-https", include_bytes!("../../tests/captures/s3cmd-https.requests"), &["PutObject"]),
    (
        "s3torchconnector-https",
        include_bytes!("../../tests/captures/s3torchconnector-https.requests"),
        &["UploadPart", "UNSIGNED-PAYLOAD"],
    ),
];

/// A browser's form, which says in its fields who sends it: understood, signed, within its policy, and the same wherever it is cut.
/// None if it is something else.
fn form(capture: &Capture) -> Option<OperationName> {
    let Capture { name, seconds, bytes, .. } = capture;
    let parsed = parse(bytes);
    let boundary = boundary_of(parsed.head.headers.text("content-type")).ok()?;
    let resource = Resource::path_style(&parsed.head.path).unwrap();
    let bucket = resource.bucket().unwrap().to_owned();
    let routed = route(&parsed.head, resource).unwrap();
    let body = &bytes[parsed.head_bytes..];
    let form = FormHead::parse(body, &boundary).unwrap().unwrap();
    for cut in 0..body.len() {
        let part = FormHead::parse(&body[..cut], &boundary).unwrap();
        assert_eq!(part, (cut >= form.head_bytes).then(|| form.clone()), "{name}, cut at {cut}");
        let (mut scanner, mut file) = (FileScanner::new(&boundary), Vec::new());
        for piece in [&body[form.head_bytes..cut.max(form.head_bytes)], &body[cut.max(form.head_bytes)..]] {
            scanner.push(piece, &mut file);
        }
        assert_eq!((scanner.is_finished(), file.as_slice()), (true, &b"hello"[..]), "{name}, cut at {cut}");
    }
    let text = form.field("policy").unwrap();
    let signature = FormSignature::of(&form).unwrap().unwrap();
    assert!(
        signature.verify(SECRET, text).is_ok() && signature.verify("another secret", text).is_err(),
        "{name}"
    );
    let key = form.field("key").unwrap().replace("${filename}", &form.filename);
    let policy = FormPolicy::parse(text).unwrap();
    assert!(policy.check(&form, &bucket, &key, seconds * 1_000).is_ok(), "{name}");
    assert!(policy.check(&form, "other", &key, seconds * 1_000).is_err(), "{name}");
    Some(routed.operation)
}

#[test]
fn every_capture_is_understood() {
    // Signed under the test's secret and no other; one operation; a valid request; a body that is whole, with digests that agree.
    let mut seen: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let captures = captures();
    for capture in &captures {
        if let Some(operation) = form(capture) {
            seen.entry(capture.client.clone()).or_default().insert(operation.as_str());
            continue;
        }
        let meaning = meaning(capture);
        assert_eq!(meaning.wire_bytes, capture.bytes.len(), "{}", capture.name);
        seen.entry(capture.client.clone()).or_default().insert(meaning.operation.as_str());
    }
    // What is not recorded any more, or not in a client's own way, would not be missed otherwise.
    for (client, file, shown) in FILES {
        let (seen, wire) = (&seen[*client], String::from_utf8_lossy(file));
        let common: &[&str] = if client.ends_with("-https") { &[] } else { &["GetObject", "DeleteObject"] };
        for what in shown.iter().chain(common) {
            let deletes = *what == "DeleteObject" && seen.contains("DeleteObjects");
            let is_there = deletes || seen.contains(what) || wire.contains(what);
            assert!(is_there, "{client}: no capture shows {what}, only {seen:?}");
        }
    }
}

#[test]
fn captures_mean_the_same_however_they_are_cut() {
    // Each request in two pieces, at every byte: no part is taken for a whole, and the whole is what it was at once.
    for capture in captures() {
        let Capture { name, bytes, seconds, .. } = &capture;
        let whole = parse(bytes);
        for cut in 0..whole.head_bytes {
            let mut parser = HeadParser::new(HeadLimits::default());
            assert!(matches!(parser.parse(&bytes[..cut]), Ok(HeadStatus::NeedMore)), "{name}, cut at {cut}");
            let Ok(HeadStatus::Complete(parsed)) = parser.parse(bytes) else {
                panic!("{name}, cut at {cut}")
            };
            assert!(is_same(&parsed, &whole), "{name}, cut at {cut}");
        }
        if form(&capture).is_some() {
            continue;
        }
        let Ok(Authentication::Signed(claim)) = authenticate(&whole.head) else { panic!("{name}") };
        let verified = verify(&claim, &whole.head, SECRET, *seconds).unwrap();
        let body = &bytes[whole.head_bytes..];
        let at_once = decode(&whole, &verified, &[body]);
        for cut in 1..body.len() {
            let (first, second) = body.split_at(cut);
            assert_eq!(decode(&whole, &verified, &[first, second]), at_once, "{name}, cut at {cut}");
        }
        let bytewise: Vec<&[u8]> = body.chunks(1).collect();
        if !bytewise.is_empty() {
            assert_eq!(decode(&whole, &verified, &bytewise), at_once, "{name}, byte by byte");
        }
    }
}
