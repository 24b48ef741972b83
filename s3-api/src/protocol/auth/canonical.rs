//! The canonical request: the bytes that are signed.
//!
//! *Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk*, Task 1,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>:
//!
//! ```text
//!   method LF  path LF  query LF  (name:value LF)* LF  signed headers LF  hash of the body
//! ```
//!
//! For S3 the path is encoded once and never normalised: `//`, `.` and `..` are part of a key.
#![deny(clippy::indexing_slicing)]

use super::super::http::RequestHead;
use super::claim::Claim;
use super::encoding::{hex32, push_encoded_anew, query_pairs};
use super::key::{Scope, push_context, sha256};
use super::timestamp::Timestamp;

/// How the path stands in a canonical request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathForm {
    /// Decoded, then encoded by the rule.
    Encoded,
    /// As it was sent. Some clients sign what they send, though they escape less or more than the rule says. It
    /// opens no hole: the key is the decoded path in both forms.
    Raw,
}

/// The canonical request of `head` under `claim`, as S3 shows it in a `SignatureDoesNotMatch` reply.
pub fn canonical_request(head: &RequestHead, claim: &Claim) -> Vec<u8> {
    build(head, PathForm::Encoded, &claim.signed_headers, &claim.payload_text)
}

/// The string to sign of a canonical request (Task 2).
pub fn string_to_sign(canonical_request: &[u8], timestamp: Timestamp, scope: &Scope) -> Vec<u8> {
    let mut text = Vec::with_capacity(192);
    text.extend_from_slice(b"AWS4-HMAC-SHA256\n");
    push_context(&mut text, timestamp, scope);
    text.extend_from_slice(&hex32(&sha256(canonical_request)));
    text
}

pub(super) fn build(head: &RequestHead, path: PathForm, signed_headers: &str, payload: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b'\n');
    match path {
        PathForm::Encoded => push_encoded_anew(&mut out, head.path.as_bytes(), true, false),
        PathForm::Raw => out.extend_from_slice(head.path.as_bytes()),
    }
    out.push(b'\n');
    push_query(&mut out, &head.query);
    out.push(b'\n');
    for name in signed_headers.split(';') {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        for (index, value) in head.headers.all(name).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            push_value(&mut out, value);
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload.as_bytes());
    out
}

/// Every parameter but the signature itself, encoded by the rule and sorted by name, then value.
fn push_query(out: &mut Vec<u8>, query: &str) {
    let encode = |text: &str| {
        let mut encoded = Vec::with_capacity(text.len());
        push_encoded_anew(&mut encoded, text.as_bytes(), false, true);
        encoded
    };
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> =
        query_pairs(query).map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.retain(|(name, _)| name != b"X-Amz-Signature");
    pairs.sort_unstable();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// A header's value: outer white space removed, runs of spaces inside made one.
///
/// Clients sign text as UTF-8 but may send it as Latin-1 (Python's http.client does): bytes that are no UTF-8 are
/// taken for Latin-1, as S3 does.
fn push_value(out: &mut Vec<u8>, value: &[u8]) {
    let value = value.trim_ascii();
    let has_run = || memchr::memchr_iter(b' ', value).any(|at| value.get(at + 1) == Some(&b' '));
    if value.is_ascii() && !has_run() {
        return out.extend_from_slice(value);
    }
    let latin1 = core::str::from_utf8(value).is_err();
    let mut after_space = false;
    for &byte in value {
        let space = byte == b' ';
        if space && after_space {
            continue;
        }
        after_space = space;
        if latin1 {
            out.extend_from_slice(char::from(byte).encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            out.push(byte);
        }
    }
}
