//! A request all the way, as a server takes it: head, signature, operation, body, typed request, and the answer to what is refused.
//!
//! * In whatever pieces the body comes, it is the same payload and ends at the same byte, or is refused.
//! * Whatever a client sent, the reply that repeats it is one reply: one head, and a body as long as that says.
//! * A write that asks for encryption is never understood.

use crossdock_s3::protocol::auth::{Authentication, Verified, adopt_parameters, authenticate, verify};
use crossdock_s3::protocol::body::{BodyDecoder, BodyVerifier, DigestPlan, Expectations};
use crossdock_s3::protocol::checksum::{RequestChecksum, request_checksum};
use crossdock_s3::protocol::error::{ErrorCode, S3Error};
use crossdock_s3::protocol::http::{Method, ParsedHead};
use crossdock_s3::protocol::operation::{
    OperationName, Request, Resource, Routed, check_expected_owner, route,
};
use crossdock_s3::protocol::remote::Control;
use crossdock_s3::protocol::reply::{Reply, ReplyBody, ReplyContext};

use super::request_head::parse;

/// The secret that the captured requests are signed with.
pub(super) const SECRET: &str = "a-secret/that+needs=encoding";
/// Where a server stops to read a body that nobody asked for.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Tries one input: a request with its body. The time is the one that its signature names, so that it is never too old.
pub fn run(bytes: &[u8]) {
    let Some(parsed) = parse(bytes) else { return };
    let body = bytes.get(parsed.head_bytes..).expect("a head ends inside its bytes");
    match authenticate(&parsed.head) {
        Err(error) => check_refusal(&error.into(), parsed.head.method),
        Ok(Authentication::Anonymous { payload }) => serve(parsed, &Verified::anonymous(payload), body),
        Ok(Authentication::Signed(claim)) => {
            let verified = verify(&claim, &parsed.head, SECRET, claim.timestamp.seconds());
            let mut adopted = parsed;
            if let Err(error) = adopt_parameters(&claim, &mut adopted.head) {
                return check_refusal(&error.into(), adopted.head.method);
            }
            match verified {
                Ok(verified) => serve(adopted, &verified, body),
                // A server ends here. What lies behind is tried all the same: whoever has a key can get there.
                Err(error) => {
                    check_refusal(&error.into(), adopted.head.method);
                    if !claim.payload.has_signed_chunks() {
                        serve(adopted, &Verified::anonymous(claim.payload), body);
                    }
                }
            }
        }
    }
}

/// What comes of a request that is understood in full; none if it is refused. For tests of the seeds.
pub fn understood(bytes: &[u8]) -> Option<(OperationName, Request)> {
    let parsed = parse(bytes)?;
    let body = bytes.get(parsed.head_bytes..)?;
    let Ok(Authentication::Signed(claim)) = authenticate(&parsed.head) else { return None };
    let verified = verify(&claim, &parsed.head, SECRET, claim.timestamp.seconds()).ok()?;
    let mut parsed = parsed;
    adopt_parameters(&claim, &mut parsed.head).ok()?;
    let resource = Resource::path_style(&parsed.head.path).ok()?;
    let routed = route(&parsed.head, resource).ok()?;
    request(&parsed, &verified, &routed, body).ok().map(|request| (routed.operation, request))
}

/// A request from somebody who may send it.
fn serve(parsed: ParsedHead, verified: &Verified, body: &[u8]) {
    let method = parsed.head.method;
    match Control::of(method, &parsed.head.path) {
        Ok(None) => {}
        Ok(Some(_)) => return,
        Err(error) => return check_refusal(&error, method),
    }
    let resource = match Resource::path_style(&parsed.head.path) {
        Ok(resource) => resource,
        Err(error) => return check_refusal(&error, method),
    };
    let routed = match route(&parsed.head, resource) {
        Ok(routed) => routed,
        Err(error) => return check_refusal(&error, method),
    };
    if let Err(error) = check_expected_owner(&parsed.head.headers, "x-amz-expected-bucket-owner", "owner") {
        return check_refusal(&error, method);
    }
    match request(&parsed, verified, &routed, body) {
        Err(error) => check_refusal(&error, method),
        Ok(request) => {
            let stores = routed.operation.takes_object_body()
                || matches!(
                    routed.operation,
                    OperationName::CopyObject
                        | OperationName::CreateMultipartUpload
                        | OperationName::UploadPartCopy
                );
            let headers = &parsed.head.headers;
            let encrypts = headers.iter().any(|(name, _)| name.starts_with("x-amz-server-side-encryption"));
            assert!(!(encrypts && stores), "encryption is asked for and passed over: {request:?}");
        }
    }
}

/// The typed request, with its body taken out of its framing and compared with what vouches for it.
fn request(
    parsed: &ParsedHead,
    verified: &Verified,
    routed: &Routed,
    body: &[u8],
) -> Result<Request, S3Error> {
    let operation = routed.operation;
    let is_document = operation.document_bytes_max().is_some();
    // The checksum of a CompleteMultipartUpload is that of the object, not of the document.
    let names_body =
        operation.takes_object_body() || (is_document && operation != OperationName::CompleteMultipartUpload);
    let checksum = if names_body { request_checksum(&parsed.head.headers)? } else { RequestChecksum::None };
    let at_once = payload(parsed, verified, &checksum, body, body.len().max(1));
    for pieces in [1, 7, 64] {
        // Byte by byte over the largest inputs would be most of the time that this takes.
        if body.len() / pieces > 4096 {
            continue;
        }
        let again = payload(parsed, verified, &checksum, body, pieces);
        match (&at_once, &again) {
            (Ok(left), Ok(right)) => assert_eq!(left, right, "pieces of {pieces} bytes"),
            (left, right) => assert_eq!(left.is_ok(), right.is_ok(), "pieces of {pieces} bytes"),
        }
    }
    let (payload, _) = at_once?;
    let document = match operation.document_bytes_max() {
        Some(limit) if payload.len() > limit => return Err(ErrorCode::MalformedXml.into()),
        Some(_) => payload.as_slice(),
        None => &[],
    };
    Request::parse(routed, &parsed.head.headers, verified.payload, document)
}

/// The payload of a body that is whole and is what it says it is, and how many wire bytes that took.
fn payload(
    parsed: &ParsedHead,
    verified: &Verified,
    checksum: &RequestChecksum,
    body: &[u8],
    pieces: usize,
) -> Result<(Vec<u8>, usize), S3Error> {
    let headers = &parsed.head.headers;
    let mut decoder = BodyDecoder::new(headers, parsed.framing, verified, checksum)?;
    let expected = Expectations::new(headers, &verified.payload, *checksum)?;
    let mut verifier = BodyVerifier::new(expected, DigestPlan::default());
    let (mut payload, mut taken) = (Vec::new(), 0);
    for piece in body.chunks(pieces) {
        if decoder.is_finished() || payload.len() > PAYLOAD_BYTES_MAX {
            break;
        }
        let mut piece = piece.to_vec();
        let step = decoder.decode(&mut piece)?;
        let found = piece.get(..step.payload_bytes).expect("a step lies in its input");
        verifier.update(found);
        payload.extend_from_slice(found);
        taken += step.wire_bytes;
    }
    if !decoder.is_finished() {
        decoder.handle_end()?;
    }
    verifier.finish(decoder.trailing_checksum(), None)?;
    Ok((payload, taken))
}

/// The answer to what is refused is one reply to whoever reads it, whatever of the request it repeats.
fn check_refusal(error: &S3Error, method: Method) {
    let reply = Reply::error(error, "0123456789ABCDEF", "core-0");
    let context = ReplyContext {
        method,
        request_id: "0123456789ABCDEF",
        host_id: "core-0",
        server: "crossdock",
        date_seconds: 0,
        keep_alive: true,
    };
    let mut fields = 0;
    reply.each_field(&context, |_, value| {
        fields += usize::from(value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)));
    });
    let mut out = Vec::new();
    assert_eq!(reply.write(&context, &mut out), 0, "a document is here, whole");
    let end = out.windows(4).position(|window| window == b"\r\n\r\n").expect("a head ends");
    let (head, body) = out.split_at(end + 4);
    let lines = head.windows(2).filter(|window| window == b"\r\n").count();
    // The status line, the fields, and the empty line.
    assert_eq!(lines, fields + 2, "a field that is two: {}", head.escape_ascii());
    let expected = match &reply.body {
        ReplyBody::Bytes(document) if method != Method::Head => document.as_slice(),
        _ => &[],
    };
    assert_eq!(body, expected, "the body is the document");
    if method != Method::Head {
        let text = std::str::from_utf8(body).expect("a document is text");
        assert!(!text.contains('\0') && text.ends_with("</Error>"), "an error is a document: {text}");
    }
}

/// Requests of real clients, as they came; those with documents; and PUTs in every framing.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = super::typed_request::seeds();
    // Without the byte that says how long the pieces are.
    seeds.extend(
        super::put_request::seeds().into_iter().map(|seed| seed.get(1..).unwrap_or_default().to_vec()),
    );
    seeds
}
