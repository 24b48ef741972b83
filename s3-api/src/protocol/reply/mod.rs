//! Replies: what an operation answers, as status, headers and body, and then as bytes.
//!
//! ```text
//!   typed reply ─► Reply { status, headers, body } ─► Reply::write ─► head (and document) as bytes
//!                                                                     └─ a payload follows, if the body says so
//! ```
//!
//! Invariants: every reply carries `x-amz-request-id` and `x-amz-id-2` (*Common Response Headers*,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html>); a reply to HEAD, a 204 and a 304
//! never have a body; no value that came from a client can break a line of the head.

mod configuration;
mod listing;
mod object;
mod result;

pub use configuration::{Owner, bucket_location, bucket_versioning, default_configuration, policy_status};
pub use listing::{
    Listed, ListedBucket, ListedObject, ListedUpload, ListedVersion, UploadLine, UploadParts, VersionLine,
    list_buckets, list_multipart_uploads, list_object_versions, list_objects, list_objects_v2,
};
pub use object::{ObjectReply, delete_object, not_modified, put_object};
pub use result::{
    AttributesReply, DeleteOutcome, ListedPart, ObjectParts, complete_multipart_upload, copy_object,
    create_multipart_upload, delete_objects, post_response, upload_part_copy,
};

use super::error::{ErrorCode, S3Error};
use super::http::{Method, ReplyHead, decimal};
use super::remote;
use super::time::format_http_date;
use super::xml::XmlWriter;
use std::borrow::Cow;

/// What comes behind the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    /// Nothing.
    Empty,
    /// These bytes; the headers say of what type.
    Bytes(Vec<u8>),
    /// This many bytes of an object, which the caller sends behind the head.
    Payload {
        /// How many.
        bytes: u64,
    },
    /// A document that is not known yet. The caller sends it behind the head as it comes.
    Later {
        /// In chunks (RFC 9112 §7.1); otherwise until the connection ends, or as another HTTP stack has it.
        is_chunked: bool,
    },
}

/// A reply, not yet bound to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Headers of the operation: neither those every reply has nor those that frame the body.
    pub headers: Vec<(Cow<'static, str>, Vec<u8>)>,
    /// What comes behind the head.
    pub body: ReplyBody,
}

/// What every reply on a connection says beside its own.
#[derive(Clone, Copy, Debug)]
pub struct ReplyContext<'a> {
    /// The method that is answered. The body of a reply to HEAD is withheld.
    pub method: Method,
    /// Identifies the request in logs.
    pub request_id: &'a str,
    /// Identifies who answered.
    pub host_id: &'a str,
    /// The value of `Server`.
    pub server: &'a str,
    /// Now, in seconds since 1970.
    pub date_seconds: u64,
    /// Whether the connection lives on; otherwise the reply says `Connection: close`.
    pub keep_alive: bool,
}

impl Reply {
    /// `status` without headers and body.
    pub fn new(status: u16) -> Self {
        Reply { status, headers: Vec::new(), body: ReplyBody::Empty }
    }

    /// 200 with an XML document.
    pub fn document(document: Vec<u8>) -> Self {
        let mut reply = Reply::new(200).header("Content-Type", "application/xml");
        reply.body = ReplyBody::Bytes(document);
        reply
    }

    /// 200 with a JSON document.
    pub fn json(document: Vec<u8>) -> Self {
        let mut reply = Reply::new(200).header("Content-Type", "application/json");
        reply.body = ReplyBody::Bytes(document);
        reply
    }

    /// The refusal `error`, with its document.
    ///
    /// A 416 names the size of the object if the error does, as `Content-Range: bytes */size` (RFC 9110 §15.5.17).
    pub fn error(error: &S3Error, request_id: &str, host_id: &str) -> Self {
        let mut reply = Reply::document(error.document(request_id, host_id));
        reply.status = error.status();
        for (name, value) in &error.headers {
            reply = reply.header(*name, value.as_str());
        }
        let size = error.fields.iter().find(|(name, _)| *name == "ActualObjectSize");
        if let (ErrorCode::InvalidRange, Some((_, size))) = (error.code, size) {
            reply = reply.header("Content-Range", format!("bytes */{size}"));
        }
        match error.code {
            ErrorCode::RdmaNotSupported => reply.header(remote::REPLY, "501"),
            ErrorCode::RdmaTransferFailed => reply.header(remote::REPLY, "500"),
            ErrorCode::NoSuchRdmaSession => reply.header(remote::PROTOCOL_STATUS, remote::NO_SESSION),
            _ => reply,
        }
    }

    /// With an XML document as its body.
    #[must_use]
    pub fn with_document(mut self, document: Vec<u8>) -> Self {
        self.body = ReplyBody::Bytes(document);
        self.header("Content-Type", "application/xml")
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a header if there is a value.
    #[must_use]
    pub fn optional(self, name: &'static str, value: Option<impl Into<Vec<u8>>>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// Appends the head to `out`, and the body if it is here. Returns how many bytes of payload the caller has to send
    /// behind it: none for HEAD.
    ///
    /// A header whose value holds a line break or another control byte is left out: such a value can only have come from a
    /// client, and must not end the line. Replies to HEAD carry the length of the payload that GET would have; documents
    /// and their length are left away, as S3 does ("The response is identical to the GET response except that there is no
    /// response body. Because of this, if the HEAD request generates an error, it returns a generic code",
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>).
    pub fn write(&self, context: &ReplyContext<'_>, out: &mut Vec<u8>) -> u64 {
        let mut head = ReplyHead::begin(out, self.status);
        self.each_field(context, |name, value| {
            // An invalid value is left out, see above.
            let _ = head.header(name, value);
        });
        head.finish();
        match &self.body {
            _ if !self.sends_body(context.method) => 0,
            ReplyBody::Empty => 0,
            ReplyBody::Bytes(document) => {
                out.extend_from_slice(document);
                0
            }
            ReplyBody::Payload { bytes } => *bytes,
            ReplyBody::Later { .. } => 0,
        }
    }

    /// Whether what comes behind the head is sent. "A server MUST NOT send a Content-Length header field in any response with
    /// a status code of … 204" (RFC 9110 §8.6); a 304 has no body either.
    pub fn sends_body(&self, method: Method) -> bool {
        method != Method::Head && !self.is_bodiless()
    }

    fn is_bodiless(&self) -> bool {
        matches!(self.status, 100..200 | 204 | 304)
    }

    /// Shows every field of the head: those that every reply has, those of the operation, and the length. Values are as
    /// they come; some can not stand in a head, see [`Reply::write`].
    pub fn each_field(&self, context: &ReplyContext<'_>, mut add: impl FnMut(&str, &[u8])) {
        let is_head = context.method == Method::Head;
        add("x-amz-id-2", context.host_id.as_bytes());
        add("x-amz-request-id", context.request_id.as_bytes());
        add("Date", format_http_date(context.date_seconds).as_bytes());
        add("Server", context.server.as_bytes());
        if !context.keep_alive {
            add("Connection", b"close");
        }
        for (name, value) in &self.headers {
            add(name, value);
        }
        // The length that a 304 might tell is not known to all who build one.
        debug_assert!(!self.is_bodiless() || self.body == ReplyBody::Empty);
        let length = match &self.body {
            _ if self.is_bodiless() => None,
            ReplyBody::Payload { bytes } => Some(*bytes),
            ReplyBody::Empty if !is_head => Some(0),
            ReplyBody::Bytes(document) if !is_head => Some(document.len() as u64),
            ReplyBody::Later { is_chunked: true } => {
                add("Transfer-Encoding", b"chunked");
                None
            }
            _ => None,
        };
        if let Some(length) = length {
            let mut digits = [0; 20];
            add("Content-Length", decimal(length, &mut digits));
        }
    }
}

/// What clients of the Security Token Service are told, in the form of its own errors, so that they show it: 501
/// `NotImplemented`, a code of S3. Its own are in <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>, and
/// none of them says this.
pub fn no_token_service() -> Reply {
    let mut xml = XmlWriter::new();
    xml.open_raw("ErrorResponse", &[("xmlns", "https://sts.amazonaws.com/doc/2011-06-15/")]);
    xml.open("Error").text("Type", "Sender").text("Code", "NotImplemented");
    xml.text(
        "Message",
        "There is no Security Token Service here, and no AssumeRole: sign requests with the keys of a user.",
    );
    Reply { status: 501, ..Reply::document(xml.finish()) }
}

/// 416 `InvalidRange` for `range`, the value of `Range`, of an object of `size` bytes.
pub fn invalid_range(range: &[u8], size: u64) -> S3Error {
    S3Error::new(ErrorCode::InvalidRange)
        .field("RangeRequested", String::from_utf8_lossy(range))
        .field("ActualObjectSize", size.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn context(method: Method) -> ReplyContext<'static> {
        ReplyContext {
            method,
            request_id: "REQ",
            host_id: "HOST",
            server: "crossdock",
            date_seconds: 784_111_777,
            keep_alive: true,
        }
    }

    fn written(reply: &Reply, method: Method) -> (String, u64) {
        let mut out = Vec::new();
        let payload = reply.write(&context(method), &mut out);
        (String::from_utf8_lossy(&out).into_owned(), payload)
    }

    #[test]
    fn every_reply_names_request_host_date_and_server() {
        // The common headers come first, then those of the operation, then the length.
        let reply = Reply::new(200).header("ETag", "\"e\"");
        let expected = "HTTP/1.1 200 OK\r\nx-amz-id-2: HOST\r\nx-amz-request-id: REQ\r\n\
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: crossdock\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(written(&reply, Method::Put), (expected.to_owned(), 0));
        let mut out = Vec::new();
        reply.write(&ReplyContext { keep_alive: false, ..context(Method::Put) }, &mut out);
        assert!(String::from_utf8(out).unwrap().contains("\r\nConnection: close\r\n"));
    }

    #[test]
    fn a_reply_to_head_has_no_body() {
        // The length of a payload stays, documents and their length go; 204 and 304 have neither.
        let mut payload = Reply::new(200);
        payload.body = ReplyBody::Payload { bytes: 7 };
        assert_eq!(written(&payload, Method::Get).1, 7);
        let (head, bytes) = written(&payload, Method::Head);
        assert!(head.contains("Content-Length: 7\r\n") && bytes == 0);
        let error = Reply::error(&ErrorCode::NoSuchKey.into(), "REQ", "HOST");
        let (head, _) = written(&error, Method::Head);
        assert!(head.starts_with("HTTP/1.1 404 ") && head.ends_with("\r\n\r\n") && !head.contains("Length"));
        assert!(written(&error, Method::Get).0.ends_with("</Error>"));
        for status in [204, 304] {
            assert!(!written(&Reply::new(status), Method::Get).0.contains("Length"));
        }
    }

    #[test]
    fn a_range_that_can_not_be_had_tells_the_size() {
        // 416 carries the size in a header and in its document.
        let reply = Reply::error(&invalid_range(b"bytes=9-", 5), "REQ", "HOST");
        let (text, _) = written(&reply, Method::Get);
        assert!(text.starts_with("HTTP/1.1 416 "));
        assert!(text.contains("\r\nContent-Range: bytes */5\r\n"));
        assert!(
            text.contains("<RangeRequested>bytes=9-</RangeRequested><ActualObjectSize>5</ActualObjectSize>")
        );
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_head(value in proptest::collection::vec(any::<u8>(), 0..30)) {
            // Whatever a header holds, the head has one empty line, at its end.
            let mut out = Vec::new();
            Reply::new(200).header("x-amz-meta-a", value).write(&context(Method::Get), &mut out);
            let end = out.windows(4).position(|four| four == b"\r\n\r\n");
            prop_assert_eq!(end, Some(out.len() - 4));
        }
    }
}
