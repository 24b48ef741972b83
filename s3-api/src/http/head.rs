//! A request's head, from the types of the `http` crate to those of the protocol.

use crate::protocol::{
    error::{ErrorCode, S3Error},
    http::{BodyFraming, HeadError, Headers, Method, RequestHead, parse_decimal},
};
use http::request::Parts;

/// A head, and how long its body is.
pub(super) struct Head {
    pub(super) request: RequestHead,
    pub(super) framing: BodyFraming,
}

impl Head {
    /// What the stack made of a head. The target and the values of fields are what was sent, as signatures need it.
    ///
    /// # Errors
    /// A method that S3 does not use, or hosts that do not agree.
    pub(super) fn of<B: http_body::Body>(parts: &Parts, body: &B) -> Result<Head, S3Error> {
        let method = Method::from_token(parts.method.as_str()).ok_or(ErrorCode::MethodNotAllowed)?;
        let bytes = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let mut headers = Headers::with_capacity(parts.headers.len() + 1, bytes);
        for (name, value) in &parts.headers {
            headers.push(name.as_str(), value.as_bytes().trim_ascii());
        }
        if headers.count("host") > 1 {
            return Err(HeadError::Host.into());
        }
        // Of HTTP/2, where it stands for the host (RFC 9113 §8.3.1), and of the absolute form of HTTP/1.1, where it replaces
        // the host (RFC 9112 §3.2.2).
        if let Some(authority) = parts.uri.authority() {
            headers.set("host", authority.as_str().as_bytes());
        }
        let framing = framing(&headers, body)?;
        let path = if parts.uri.path().is_empty() { "/" } else { parts.uri.path() };
        let query = parts.uri.query().unwrap_or("");
        let request =
            RequestHead { method, path: path.into(), query: query.into(), version_minor: 1, headers };
        Ok(Head { request, framing })
    }
}

/// What the stack leaves of the body's framing: a length that was announced, or an end that it will tell.
fn framing<B: http_body::Body>(headers: &Headers, body: &B) -> Result<BodyFraming, S3Error> {
    let mut lengths = headers.all("content-length");
    match (lengths.next(), lengths.next()) {
        (Some(length), None) if !headers.contains("transfer-encoding") => {
            parse_decimal(length).map(BodyFraming::Length).ok_or_else(|| ErrorCode::InvalidRequest.into())
        }
        (Some(_), _) => Err(ErrorCode::InvalidRequest.into()),
        (None, _) if body.is_end_stream() => Ok(BodyFraming::None),
        (None, _) => Ok(BodyFraming::Removed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    /// A body of so many bytes, or of nobody knows how many.
    struct Announced(Option<u64>);

    impl http_body::Body for Announced {
        type Data = &'static [u8];
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            std::task::Poll::Pending
        }

        fn is_end_stream(&self) -> bool {
            self.0 == Some(0)
        }
    }

    fn head(request: http::request::Builder, bytes: Option<u64>) -> Result<Head, S3Error> {
        let (parts, body) = request.body(Announced(bytes)).unwrap().into_parts();
        Head::of(&parts, &body)
    }

    #[test]
    fn a_head_keeps_what_signatures_are_made_over() {
        // Path and query as sent, values without outer white space, the authority for the host.
        let request = Request::put("/b//a%2Fb/../%20c+?x-id=Put%20&a")
            .header("Host", "s3")
            .header("X-Amz-Meta-A", " v ");
        let Head { request, framing } = head(request.header("content-length", "7"), Some(7)).unwrap();
        assert_eq!((&*request.path, &*request.query), ("/b//a%2Fb/../%20c+", "x-id=Put%20&a"));
        assert_eq!(request.headers.text("x-amz-meta-a"), Some("v"));
        assert_eq!((request.headers.text("host"), framing), (Some("s3"), BodyFraming::Length(7)));
        let absolute =
            head(Request::get("http://b.s3:9000?list-type=2").header("host", "proxy"), Some(0)).unwrap();
        assert_eq!((&*absolute.request.path, absolute.framing), ("/", BodyFraming::None));
        assert_eq!(absolute.request.headers.text("host"), Some("b.s3:9000"));
        assert_eq!(head(Request::put("/b/k"), None).unwrap().framing, BodyFraming::Removed);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        // Two hosts, two lengths, a length beside another framing, a length that is none; and methods that S3 has not.
        let twice = Request::get("/").header("host", "a").header("host", "b");
        assert!(head(twice, Some(0)).is_err());
        for fields in [
            &[("content-length", "1"), ("content-length", "1")][..],
            &[("content-length", "1"), ("transfer-encoding", "chunked")],
            &[("content-length", "+1")],
        ] {
            let request = fields
                .iter()
                .fold(Request::put("/b/k"), |request, (name, value)| request.header(*name, *value));
            assert!(head(request, Some(1)).is_err(), "{fields:?}");
        }
        let refused = head(Request::builder().method("PATCH").uri("/b"), Some(0)).err().unwrap();
        assert_eq!(refused.code, ErrorCode::MethodNotAllowed);
    }
}
