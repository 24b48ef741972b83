//! Requests as a client sends them, made and signed without any I/O.

use crate::protocol::{
    auth::{PayloadMode, Signer, encode_path, encode_query},
    http::{Method, RequestHead},
};
use std::fmt;

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    /// The access key.
    pub access_key: Box<str>,
    /// The secret access key.
    pub secret: Box<str>,
    /// The region that the server is in.
    pub region: Box<str>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// The bytes of a request's head, signed at `now_seconds`. `path` is encoded, and may have a query; the body is sent behind it and
/// not signed (`UNSIGNED-PAYLOAD`), as it may be in memory that only the server reads.
pub fn signed_head(
    credentials: &Credentials,
    host: &str,
    now_seconds: u64,
    (method, path): (Method, &str),
    headers: &[(&str, &str)],
    body_bytes: usize,
) -> Vec<u8> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut head = RequestHead::for_client(method, path, query, host);
    headers.iter().for_each(|(name, value)| head.headers.push(name, value.as_bytes()));
    head.headers.push("content-length", body_bytes.to_string().as_bytes());
    let Credentials { access_key, secret, region } = credentials;
    let signer = Signer { access_key, secret, region, session_token: None };
    signer.sign_header(&mut head, &PayloadMode::Unsigned, now_seconds);
    let mut bytes = Vec::with_capacity(1024);
    let divider = if query.is_empty() { "" } else { "?" };
    bytes.extend_from_slice(format!("{} {path}{divider}{query} HTTP/1.1\r\n", method.as_str()).as_bytes());
    for (name, value) in head.headers.iter() {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// The path of an object.
pub(super) fn object_path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", encode_path(key))
}

/// The path of a part of an upload.
pub(super) fn part_path(object: &str, upload: &str, number: u16) -> String {
    format!("{object}?partNumber={number}&uploadId={}", encode_query(upload))
}

/// The path of an upload.
pub(super) fn upload_path(object: &str, upload: &str) -> String {
    format!("{object}?uploadId={}", encode_query(upload))
}

/// The document that completes an upload of parts with these tags, from part 1 on.
pub(super) fn completion(tags: &[String]) -> String {
    let parts = tags.iter().zip(1..).map(|(tag, number)| {
        let tag = tag.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>")
    });
    format!("<CompleteMultipartUpload>{}</CompleteMultipartUpload>", parts.collect::<String>())
}

/// The text of the first element of that name, as far as there is one and it has no elements itself.
pub(super) fn element(document: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(document);
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
    Some(plain.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_elements_survive_their_documents() {
        // Shows that what has to be escaped is, and is read back.
        let document = completion(&["\"a&b\"".to_owned(), "\"c\"".to_owned()]);
        assert_eq!(element(document.as_bytes(), "ETag").unwrap(), "\"a&b\"");
        assert_eq!(element(document.as_bytes(), "UploadId"), None);
        assert!(document.contains("<PartNumber>2</PartNumber><ETag>&quot;c&quot;</ETag>"));
    }
}
