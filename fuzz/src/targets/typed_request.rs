//! A whole request of any operation: head, operation, document, typed request.
//!
//! * A write that asks for encryption is never understood: nothing may be stored in the clear that was to be encrypted.
//! * What names a resource names the same one in the request.

use crossdock_s3::protocol::auth::PayloadMode;
use crossdock_s3::protocol::operation::{OperationName, Request, Resource, route};

use super::request_head::parse;
use crate::captures;

/// Tries one input: a request with its body, which is taken for the document if the operation has one.
pub fn run(bytes: &[u8]) {
    let Some(parsed) = parse(bytes) else { return };
    let Ok(resource) = Resource::path_style(&parsed.head.path) else { return };
    let Ok(routed) = route(&parsed.head, resource) else { return };
    let body = bytes.get(parsed.head_bytes..).unwrap_or_default();
    let document = match routed.operation.document_bytes_max() {
        Some(limit) => body.get(..limit.min(body.len())).unwrap_or_default(),
        None => &[],
    };
    let headers = &parsed.head.headers;
    let hash = headers.first("x-amz-content-sha256").and_then(|value| PayloadMode::parse(value).ok());
    let payload = hash.unwrap_or(PayloadMode::Unsigned);
    let Ok(request) = Request::parse(&routed, headers, payload, document) else { return };
    let encrypts = headers.iter().any(|(name, _)| name.starts_with("x-amz-server-side-encryption"));
    let stores = routed.operation.takes_object_body()
        || matches!(
            routed.operation,
            OperationName::CopyObject | OperationName::CreateMultipartUpload | OperationName::UploadPartCopy
        );
    assert!(!(encrypts && stores), "encryption is asked for and passed over: {request:?}");
    if let Request::PutObject(put) = &request {
        assert_eq!(
            (Some(put.bucket.as_str()), Some(put.key.as_str())),
            (routed.resource.bucket(), routed.resource.key())
        );
    }
}

/// Requests of real clients, and one with a document of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = captures::all().into_iter().map(|capture| capture.bytes).collect();
    let documents = super::request_documents::seeds();
    for (document, target) in documents.iter().zip([
        "POST /b/k?uploadId=x",
        "POST /b?delete",
        "PUT /b",
        "PUT /b?versioning",
        "PUT /b/k?tagging",
        "PUT /b/k?retention",
        "PUT /b/k?legal-hold",
        "PUT /b?object-lock",
        "PUT /b?cors",
        "PUT /b?lifecycle",
        "PUT /b?lifecycle",
        "PUT /b?ownershipControls",
        "PUT /b?publicAccessBlock",
        "PUT /b/k?acl",
        "PUT /bucket?policy",
    ]) {
        let head = format!(
            "{target} HTTP/1.1\r\nhost: s3\r\ncontent-md5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\ncontent-length: {}\r\n\r\n",
            document.len()
        );
        seeds.push([head.as_bytes(), document].concat());
    }
    seeds
}
