//! Where a request's body ends, whether the connection lives on, and whether the client waits for permission.
//!
//! Everything here is a pure function of the head, so that a front end with another HTTP parser can use it too.

use super::head::RequestHead;

/// How the bytes behind a request head are delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// Neither `Content-Length` nor `Transfer-Encoding`: no body follows.
    None,
    /// `Content-Length`: exactly this many bytes follow.
    Length(u64),
    /// `Transfer-Encoding: chunked`: see [`super::ChunkedDecoder`].
    Chunked,
    /// Whoever took the head apart took the framing off too, and says when the body ends. Never made from a head.
    Removed,
}

/// Why the framing of a body could not be decided. The connection must be closed after the reply: where the
/// next request begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// `Content-Length` is not a plain decimal number of at most 64 bits. S3: 400 `InvalidArgument`.
    #[error("Content-Length is not a decimal number")]
    InvalidContentLength,
    /// More than one `Content-Length`, even if they agree. S3: 400 `InvalidRequest`.
    #[error("more than one Content-Length")]
    DuplicateContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`. S3: 400 `InvalidRequest`.
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndTransferEncoding,
    /// A transfer coding other than one single `chunked`. S3: 501 `NotImplemented`.
    #[error("unsupported Transfer-Encoding")]
    UnsupportedTransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 request, whose framing is faulty (RFC 9112 §6.1). S3: 400 `InvalidRequest`.
    #[error("Transfer-Encoding in an HTTP/1.0 request")]
    TransferEncodingInHttp10,
}

impl FramingError {
    /// The HTTP status that answers this error.
    pub fn status(self) -> u16 {
        match self {
            FramingError::UnsupportedTransferEncoding => 501,
            _ => 400,
        }
    }
}

/// Decides how the body behind `head` is delimited.
///
/// # Errors
///
/// Anything that another recipient could read differently: RFC 9112 §6.3 allows some of it to be repaired, and
/// every repair has been a request-smuggling hole somewhere.
pub fn body_framing(head: &RequestHead) -> Result<BodyFraming, FramingError> {
    let headers = &head.headers;
    let mut codings = headers.all("transfer-encoding");
    let mut lengths = headers.all("content-length");
    match (codings.next(), lengths.next()) {
        (None, None) => Ok(BodyFraming::None),
        (Some(_), Some(_)) => Err(FramingError::LengthAndTransferEncoding),
        (Some(_), None) if head.version_minor == 0 => Err(FramingError::TransferEncodingInHttp10),
        (Some(coding), None) => {
            if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") {
                Ok(BodyFraming::Chunked)
            } else {
                Err(FramingError::UnsupportedTransferEncoding)
            }
        }
        (None, Some(length)) => {
            if lengths.next().is_some() {
                return Err(FramingError::DuplicateContentLength);
            }
            parse_decimal(length).map(BodyFraming::Length).ok_or(FramingError::InvalidContentLength)
        }
    }
}

/// `1*DIGIT` as a number: no sign, no space, no overflow.
pub(crate) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &digit| {
        if !digit.is_ascii_digit() {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// Whether the connection may carry another request after this one (RFC 9112 §9.3).
pub fn keep_alive(head: &RequestHead) -> bool {
    if head.headers.has_token("connection", "close") {
        return false;
    }
    head.version_minor >= 1 || head.headers.has_token("connection", "keep-alive")
}

/// Whether the client holds its body back until it sees `100 Continue` (RFC 9110 §10.1.1).
///
/// False for HTTP/1.0, where the expectation must be ignored, and for a request whose framing announces no body. An
/// empty body that is announced may be answered at once as far as the standard goes; but botocore 1.44 then loses
/// track of the connection, and takes the status line of the next reply for a header. Clients write both
/// `100-continue` and `100-Continue`.
pub fn expects_continue(head: &RequestHead, framing: BodyFraming) -> bool {
    head.version_minor >= 1
        && framing != BodyFraming::None
        && head.headers.has_token("expect", "100-continue")
}

#[cfg(test)]
mod tests {
    use super::super::{Headers, Method};
    use super::*;

    fn head(version_minor: u8, fields: &[(&str, &str)]) -> RequestHead {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name, value.as_bytes());
        }
        RequestHead { method: Method::Put, path: "/".into(), query: "".into(), version_minor, headers }
    }

    #[test]
    fn framing_follows_the_rfc_and_refuses_what_is_ambiguous() {
        // Each set of fields has exactly one outcome, and every known smuggling shape is an error.
        type Fields = &'static [(&'static str, &'static str)];
        let table: &[(Fields, Result<BodyFraming, FramingError>)] = &[
            (&[], Ok(BodyFraming::None)),
            (&[("content-length", "0")], Ok(BodyFraming::Length(0))),
            (&[("content-length", "18446744073709551615")], Ok(BodyFraming::Length(u64::MAX))),
            (&[("content-length", "18446744073709551616")], Err(FramingError::InvalidContentLength)),
            (&[("content-length", "+5")], Err(FramingError::InvalidContentLength)),
            (&[("content-length", "5, 5")], Err(FramingError::InvalidContentLength)),
            (&[("content-length", "")], Err(FramingError::InvalidContentLength)),
            (&[("content-length", "5"), ("content-length", "5")], Err(FramingError::DuplicateContentLength)),
            (&[("transfer-encoding", "Chunked")], Ok(BodyFraming::Chunked)),
            (&[("transfer-encoding", "chunked, chunked")], Err(FramingError::UnsupportedTransferEncoding)),
            (&[("transfer-encoding", "gzip, chunked")], Err(FramingError::UnsupportedTransferEncoding)),
            (
                &[("transfer-encoding", "chunked"), ("transfer-encoding", "identity")],
                Err(FramingError::UnsupportedTransferEncoding),
            ),
            (
                &[("transfer-encoding", "chunked"), ("content-length", "5")],
                Err(FramingError::LengthAndTransferEncoding),
            ),
        ];
        for (fields, expected) in table {
            assert_eq!(body_framing(&head(1, fields)), *expected, "{fields:?}");
        }
        let old = head(0, &[("transfer-encoding", "chunked")]);
        assert_eq!(body_framing(&old), Err(FramingError::TransferEncodingInHttp10));
    }

    #[test]
    fn keep_alive_depends_on_version_and_connection() {
        // HTTP/1.1 lives on unless told to close, HTTP/1.0 closes unless told to live on, and close wins.
        assert!(keep_alive(&head(1, &[])));
        assert!(!keep_alive(&head(1, &[("connection", "upgrade, Close")])));
        assert!(!keep_alive(&head(0, &[])));
        assert!(keep_alive(&head(0, &[("connection", "Keep-Alive")])));
        assert!(!keep_alive(&head(0, &[("connection", "keep-alive, close")])));
    }

    #[test]
    fn continue_is_expected_only_where_a_body_is_held_back() {
        // The token is compared in any case; HTTP/1.0 and requests without a body never wait.
        let body = BodyFraming::Length(1);
        assert!(expects_continue(&head(1, &[("expect", "100-Continue")]), body));
        assert!(!expects_continue(&head(0, &[("expect", "100-continue")]), body));
        assert!(expects_continue(&head(1, &[("expect", "100-continue")]), BodyFraming::Length(0)));
        assert!(!expects_continue(&head(1, &[("expect", "100-continue")]), BodyFraming::None));
        assert!(!expects_continue(&head(1, &[]), body));
    }
}
