//! What S3 answers when it refuses: a code, a status, a message, and the document that carries them.
//!
//! Codes, statuses and the facts behind the messages: *Error responses*, Amazon S3 API Reference,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>, "List of error codes". Clients branch on
//! code and status, never on the message, so messages are our own words.

mod code;
mod mapping;

pub use code::ErrorCode;

use super::xml::XmlWriter;
use std::borrow::Cow;

/// A refusal: what a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Error {
    /// The code, which decides the status.
    pub code: ErrorCode,
    /// What a person reads.
    pub message: Cow<'static, str>,
    /// `/bucket/key` as the request named it, if known.
    pub resource: Option<String>,
    /// Further elements of the document, such as `Key` or `MaxSizeAllowed`.
    pub fields: Vec<(&'static str, String)>,
    /// Headers of the reply.
    pub headers: Vec<(&'static str, String)>,
}

impl S3Error {
    /// `code` with its own message.
    pub fn new(code: ErrorCode) -> Self {
        let (fields, headers) = (Vec::new(), Vec::new());
        S3Error { code, message: Cow::Borrowed(code.message()), resource: None, fields, headers }
    }

    /// `code` with another message.
    pub fn with_message(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        S3Error { message: message.into(), ..S3Error::new(code) }
    }

    /// 400 `InvalidArgument` for the argument `name`, which had `value`.
    pub fn invalid_argument(
        name: &'static str,
        value: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        S3Error::with_message(ErrorCode::InvalidArgument, message)
            .field("ArgumentName", name)
            .field("ArgumentValue", value)
    }

    /// 412 `PreconditionFailed`, naming the header whose condition failed.
    pub fn precondition_failed(condition: &'static str) -> Self {
        S3Error::new(ErrorCode::PreconditionFailed).field("Condition", condition)
    }

    /// 501 `NotImplemented`, naming the header that asks for what is not there.
    pub fn header_not_implemented(header: &str) -> Self {
        S3Error::with_message(
            ErrorCode::NotImplemented,
            "A header you provided implies functionality that is not implemented.",
        )
        .field("Header", header)
    }

    /// Adds an element to the document.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Adds a header to the reply.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Names the resource, unless one is named already.
    #[must_use]
    pub fn on(mut self, resource: &str) -> Self {
        self.resource.get_or_insert_with(|| resource.to_owned());
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.code.status()
    }

    /// The `Error` document. It has no namespace (*Error responses*, "REST error responses").
    pub fn document(&self, request_id: &str, host_id: &str) -> Vec<u8> {
        let mut xml = XmlWriter::new();
        self.write(&mut xml, request_id, host_id);
        xml.finish()
    }

    pub(super) fn write(&self, xml: &mut XmlWriter, request_id: &str, host_id: &str) {
        xml.open("Error").text("Code", self.code.as_str()).text("Message", &self.message);
        for (name, value) in &self.fields {
            xml.text(name, value);
        }
        xml.optional("Resource", self.resource.as_deref());
        xml.text("RequestId", request_id).text("HostId", host_id).close();
    }
}

impl From<ErrorCode> for S3Error {
    fn from(code: ErrorCode) -> Self {
        S3Error::new(code)
    }
}

impl core::fmt::Display for S3Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for S3Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_part_in_order() {
        // Code, message, further fields, resource and the two ids, escaped.
        let error = S3Error::new(ErrorCode::NoSuchKey).field("Key", "a&b").on("/bucket/a&b").on("/other");
        let document = String::from_utf8(error.document("REQ", "HOST")).unwrap();
        assert_eq!(
            document,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>\
             <Message>The specified key does not exist.</Message><Key>a&amp;b</Key>\
             <Resource>/bucket/a&amp;b</Resource><RequestId>REQ</RequestId><HostId>HOST</HostId></Error>"
        );
    }

    #[test]
    fn every_code_is_its_own() {
        // No two codes share their text, none is empty, and each status is one that refuses or redirects.
        let mut seen = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()), "{} twice", code.as_str());
            assert!(!code.message().is_empty());
            let declines = *code == ErrorCode::RdmaNotSupported;
            assert!((300..600).contains(&code.status()) || declines);
        }
    }
}
