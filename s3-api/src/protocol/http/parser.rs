//! Request heads out of a growing buffer.
//!
//! The caller receives bytes into its own buffer and shows all it has so far after each receive. The parser
//! remembers how far it looked, so a head that drips in one byte at a time costs O(n), not O(n²).
//!
//! Stricter than RFC 9112 obliges, because leniency is what request smuggling is made of: lines end in CRLF (a
//! bare LF is refused, §2.2), folded headers are refused (§5.2), white space before a colon is refused (§5.1),
//! `Host` occurs exactly once in HTTP/1.1 (§3.2).

use super::framing::{self, BodyFraming, FramingError};
use super::head::{Headers, Method, RequestHead};

/// Bounds on a request head. What exceeds them is refused before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Request line, fields and the empty line, in bytes. Default 64 KiB: S3's own limits add up to far less (a
    /// target of a few KiB, 2 KiB of user metadata, a session token of a few KiB).
    pub head_bytes: usize,
    /// Header fields. Default 128: the busiest signed request of a real client has about 25, user metadata aside.
    pub header_count: usize,
    /// The request target (path and query) in bytes. Default 16 KiB: a 1,024-byte key is 3 KiB percent-encoded, a
    /// presigned query with a session token about as much again.
    pub target_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits { head_bytes: 64 * 1024, header_count: 128, target_bytes: 16 * 1024 }
    }
}

/// Why a request head was refused. The connection must be closed after the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// Not an HTTP/1 request line. 400.
    #[error("malformed request line")]
    RequestLine,
    /// A version other than HTTP/1.0 and HTTP/1.1. 505.
    #[error("unsupported HTTP version")]
    Version,
    /// A well-formed method that S3 does not use. S3: 405 `MethodNotAllowed`.
    #[error("method not allowed")]
    Method,
    /// The target is none of origin form, absolute form (`http://host/path`) and `*` with OPTIONS. S3: 400 `InvalidURI`.
    #[error("malformed request target")]
    Target,
    /// The target exceeds [`HeadLimits::target_bytes`]. 414.
    #[error("request target too long")]
    TargetTooLong,
    /// A header's name or value holds bytes that may not stand there, or is folded over several lines. 400.
    #[error("malformed header field")]
    Header,
    /// A line ends without CR before LF. 400.
    #[error("line without CRLF")]
    LineEnd,
    /// More fields than [`HeadLimits::header_count`]. 431.
    #[error("too many header fields")]
    TooManyHeaders,
    /// The head exceeds [`HeadLimits::head_bytes`]. 431.
    #[error("request head too long")]
    TooLong,
    /// `Host` is missing in HTTP/1.1, occurs more than once, or is no host. 400.
    #[error("missing, repeated or malformed Host")]
    Host,
    /// The end of the body can not be told for certain.
    #[error(transparent)]
    Framing(#[from] FramingError),
}

impl HeadError {
    /// The HTTP status that answers this error.
    pub fn status(self) -> u16 {
        match self {
            HeadError::Version => 505,
            HeadError::Method => 405,
            HeadError::TargetTooLong => 414,
            HeadError::TooManyHeaders | HeadError::TooLong => 431,
            HeadError::Framing(error) => error.status(),
            _ => 400,
        }
    }
}

/// A complete request head and what it says about the bytes behind it.
#[derive(Clone, Debug)]
pub struct ParsedHead {
    /// The head itself.
    pub head: RequestHead,
    /// How many bytes of the input the head took; the body or the next request begins there.
    pub head_bytes: usize,
    /// How the body is delimited.
    pub framing: BodyFraming,
    /// Whether the connection may carry another request afterwards.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// What [`HeadParser::parse`] found.
#[derive(Debug)]
pub enum HeadStatus {
    /// Well-formed so far; receive more and call again with everything.
    NeedMore,
    /// A whole head.
    Complete(Box<ParsedHead>),
}

/// Parses one request head out of a buffer that grows between calls.
///
/// ```
/// use crossdock_s3::protocol::http::{HeadLimits, HeadParser, HeadStatus};
/// let mut parser = HeadParser::new(HeadLimits::default());
/// assert!(matches!(parser.parse(b"GET /b/k HTTP/1.1\r\n"), Ok(HeadStatus::NeedMore)));
/// let Ok(HeadStatus::Complete(parsed)) = parser.parse(b"GET /b/k HTTP/1.1\r\nHost: s3\r\n\r\nrest") else { panic!() };
/// assert_eq!(&*parsed.head.path, "/b/k");
/// assert_eq!(parsed.head_bytes, 31);
/// ```
#[derive(Debug)]
pub struct HeadParser {
    limits: HeadLimits,
    /// Bytes in which no end of head was found.
    searched_bytes: usize,
    /// Next length at which an unfinished head is checked for errors.
    check_bytes: usize,
}

impl HeadParser {
    /// A parser for one head. Reusable: after `Complete` it is ready for the next head.
    pub fn new(limits: HeadLimits) -> Self {
        HeadParser { limits, searched_bytes: 0, check_bytes: 0 }
    }

    /// Looks for a head at the start of `bytes`, which holds everything received since the last head or body ended
    /// (so each call's `bytes` starts with the bytes of the call before). Empty lines before the request line are
    /// skipped (RFC 9112 §2.2) and counted in `head_bytes`.
    ///
    /// # Errors
    ///
    /// [`HeadError`], after which the parser must not be used again and the connection be closed.
    pub fn parse(&mut self, bytes: &[u8]) -> Result<HeadStatus, HeadError> {
        let blank = bytes.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2;
        let window = bytes.get(..self.limits.head_bytes.min(bytes.len())).unwrap_or(bytes);
        let Some(text) = window.get(blank..) else { return Err(HeadError::TooLong) };
        // The end mark may straddle what was searched and what is new.
        let from = self.searched_bytes.saturating_sub(blank).saturating_sub(3).min(text.len());
        let end =
            text.get(from..).and_then(|tail| memchr::memmem::find(tail, b"\r\n\r\n")).map(|at| from + at + 4);
        let Some(end) = end else {
            self.searched_bytes = window.len();
            if bytes.len() >= self.limits.head_bytes {
                return Err(match self.request_line_too_long(text) {
                    true => HeadError::TargetTooLong,
                    false => HeadError::TooLong,
                });
            }
            // An unfinished head is checked at lengths that double, so that nonsense (a TLS hello, say) is refused
            // at once and slow senders cannot make the server parse the same bytes over and over.
            if bytes.len() >= self.check_bytes {
                self.check_bytes = bytes.len().saturating_mul(2).max(64);
                self.check_partial(text)?;
            }
            return Ok(HeadStatus::NeedMore);
        };
        let mut parsed = self.parse_whole(text.get(..end).unwrap_or(text))?;
        parsed.head_bytes = blank + end;
        *self = HeadParser::new(self.limits);
        Ok(HeadStatus::Complete(Box::new(parsed)))
    }

    fn request_line_too_long(&self, text: &[u8]) -> bool {
        memchr::memchr(b'\n', text).unwrap_or(text.len()) > self.limits.target_bytes
    }

    fn check_partial(&self, text: &[u8]) -> Result<(), HeadError> {
        refuse_bad_line_ends(text)?;
        let mut fields = vec![httparse::EMPTY_HEADER; self.limits.header_count];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(translate(error, request.path.is_some())),
        }
    }

    fn parse_whole(&self, text: &[u8]) -> Result<ParsedHead, HeadError> {
        refuse_bad_line_ends(text)?;
        // Most heads are small; the table on the stack spares them an allocation.
        let mut few = [httparse::EMPTY_HEADER; 32];
        let mut many = Vec::new();
        let lines = memchr::memchr_iter(b'\n', text).count();
        let fields = if lines <= few.len() && few.len() <= self.limits.header_count {
            &mut few[..]
        } else {
            many.resize(self.limits.header_count.min(lines), httparse::EMPTY_HEADER);
            &mut many[..]
        };
        let mut request = httparse::Request::new(fields);
        match request.parse(text) {
            Ok(httparse::Status::Complete(length)) if length == text.len() => {}
            Ok(_) => return Err(HeadError::RequestLine),
            Err(error) => return Err(translate(error, request.path.is_some())),
        }
        let (Some(method), Some(target), Some(version_minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::RequestLine);
        };
        if target.len() > self.limits.target_bytes {
            return Err(HeadError::TargetTooLong);
        }
        let method = Method::from_token(method).ok_or(HeadError::Method)?;
        let field_bytes = text.len().saturating_sub(target.len());
        let target = split_target(method, target)?;
        let mut headers = Headers::with_capacity(request.headers.len(), field_bytes);
        for field in request.headers.iter() {
            headers.push(field.name, field.value.trim_ascii());
        }
        check_host(version_minor, &headers)?;
        if let Some(authority) = target.authority {
            // "the origin server MUST ignore the received Host header field (if any) and instead use the host
            // information of the request-target" (RFC 9112 §3.2.2).
            headers.set("host", authority.as_bytes());
            check_host(version_minor, &headers)?;
        }
        let head = RequestHead {
            method,
            path: target.path.into(),
            query: target.query.into(),
            version_minor,
            headers,
        };
        let framing = framing::body_framing(&head)?;
        let keep_alive = framing::keep_alive(&head);
        let expects_continue = framing::expects_continue(&head, framing);
        Ok(ParsedHead { head, head_bytes: text.len(), framing, keep_alive, expects_continue })
    }
}

struct Target<'a> {
    authority: Option<&'a str>,
    path: &'a str,
    query: &'a str,
}

fn split_target(method: Method, target: &str) -> Result<Target<'_>, HeadError> {
    if target.contains('#') {
        return Err(HeadError::Target);
    }
    if target == "*" {
        if method != Method::Options {
            return Err(HeadError::Target);
        }
        return Ok(Target { authority: None, path: "*", query: "" });
    }
    let (authority, rest) = if target.starts_with('/') {
        (None, target)
    } else {
        let rest = strip_scheme(target).ok_or(HeadError::Target)?;
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(cut);
        // No authority, or one that carries a user's password: not something to pass on.
        if authority.is_empty() || authority.contains('@') {
            return Err(HeadError::Target);
        }
        (Some(authority), rest)
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok(Target { authority, path: if path.is_empty() { "/" } else { path }, query })
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn check_host(version_minor: u8, headers: &Headers) -> Result<(), HeadError> {
    let mut hosts = headers.all("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if version_minor == 0 => Ok(()),
        (Some(host), None) if host.iter().all(|&b| is_host_byte(b)) => Ok(()),
        _ => Err(HeadError::Host),
    }
}

/// The bytes of `uri-host [ ":" port ]` (RFC 3986 §3.2.2), IP literals included.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}

/// httparse takes a bare LF for a line end; two readers that differ on that can be played against each other.
fn refuse_bad_line_ends(text: &[u8]) -> Result<(), HeadError> {
    for at in memchr::memchr_iter(b'\n', text) {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        if before != Some(&b'\r') {
            return Err(HeadError::LineEnd);
        }
        // "A server that receives an obs-fold in a request message … MUST either reject the message …" (§5.2).
        if matches!(text.get(at + 1), Some(b' ' | b'\t')) {
            return Err(HeadError::Header);
        }
    }
    Ok(())
}

fn translate(error: httparse::Error, after_target: bool) -> HeadError {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadError::Header,
        httparse::Error::NewLine => match after_target {
            true => HeadError::Header,
            false => HeadError::RequestLine,
        },
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::Version => HeadError::Version,
        httparse::Error::Token | httparse::Error::Status => HeadError::RequestLine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &[u8]) -> Result<HeadStatus, HeadError> {
        HeadParser::new(HeadLimits::default()).parse(text)
    }

    fn whole(text: &[u8]) -> ParsedHead {
        match parse(text) {
            Ok(HeadStatus::Complete(parsed)) => *parsed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_put_head_is_taken_apart() {
        // Every part of an upload's head arrives as sent: raw path and query, byte values, framing.
        let text = b"PUT /b/a%20b%2f+?partNumber=1&uploadId=x HTTP/1.1\r\nHost: s3.local:9000\r\n\
            X-Amz-Meta-Name:  caf\xc3\xa9 \xff \r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello";
        let parsed = whole(text);
        assert_eq!(parsed.head.method, Method::Put);
        assert_eq!(&*parsed.head.path, "/b/a%20b%2f+");
        assert_eq!(&*parsed.head.query, "partNumber=1&uploadId=x");
        assert_eq!(parsed.head.headers.first("x-amz-meta-name"), Some(&b"caf\xc3\xa9 \xff"[..]));
        assert_eq!(parsed.framing, BodyFraming::Length(5));
        assert!(parsed.keep_alive && parsed.expects_continue);
        assert_eq!(&text[parsed.head_bytes..], b"hello");
    }

    #[test]
    fn all_target_forms_are_read() {
        // Absolute form loses scheme and authority, and its authority replaces Host; `*` belongs to OPTIONS alone.
        let parsed = whole(b"GET HTTP://b.s3.local?list-type=2 HTTP/1.1\r\nHost: proxy\r\n\r\n");
        assert_eq!((&*parsed.head.path, &*parsed.head.query), ("/", "list-type=2"));
        assert_eq!(parsed.head.headers.text("host"), Some("b.s3.local"));
        assert_eq!(parsed.head.headers.count("host"), 1);
        assert_eq!(&*whole(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").head.path, "*");
        for bad in ["GET * ", "GET b/k ", "GET ftp://h/ ", "GET http:///k ", "GET http://u:p@h/ ", "GET /#f "]
        {
            let text = format!("{bad}HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(parse(text.as_bytes()).unwrap_err(), HeadError::Target, "{bad}");
        }
    }

    #[test]
    fn each_fault_has_its_own_error_and_status() {
        // A refused head says why, and the status follows from it.
        let table: &[(&str, HeadError, u16)] = &[
            ("\x16\x03\x01\x02\r\n\r\n", HeadError::RequestLine, 400),
            ("PATCH / HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::Method, 405),
            ("get / HTTP/1.1\r\nHost: h\r\n\r\n", HeadError::Method, 405),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", HeadError::Version, 505),
            ("GET / HTTP/1.1\r\n\r\n", HeadError::Host, 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HeadError::Host, 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HeadError::Host, 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", HeadError::Header, 400),
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", HeadError::Header, 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", HeadError::Header, 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n", HeadError::Header, 400),
            ("GET / HTTP/1.1\nHost: h\r\n\r\n", HeadError::LineEnd, 400),
            (
                "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
                HeadError::Framing(FramingError::UnsupportedTransferEncoding),
                501,
            ),
        ];
        for (text, error, status) in table {
            let found = parse(text.as_bytes()).unwrap_err();
            assert_eq!((found, found.status()), (*error, *status), "{text:?}");
        }
    }

    #[test]
    fn limits_hold_before_the_head_is_complete() {
        // Size, target and field limits refuse at the limit, not when the sender pleases to finish.
        let limits = HeadLimits { head_bytes: 256, header_count: 3, target_bytes: 32 };
        let parse = |text: &[u8]| HeadParser::new(limits).parse(text).unwrap_err();
        let endless = [&b"GET / HTTP/1.1\r\nHost: "[..], &[b'a'; 300]].concat();
        assert_eq!(parse(&endless), HeadError::TooLong);
        assert_eq!(parse(&[&b"GET /"[..], &[b'a'; 300]].concat()), HeadError::TargetTooLong);
        let long = [&b"GET /"[..], &[b'a'; 40], b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        assert_eq!(parse(&long), HeadError::TargetTooLong);
        let many = b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n";
        assert_eq!(parse(many), HeadError::TooManyHeaders);
        let exact = b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\n\r\n";
        assert!(HeadParser::new(limits).parse(exact).is_ok());
    }

    #[test]
    fn nonsense_is_refused_before_it_ends() {
        // A TLS hello on the plain port is refused at once, not held until a timeout.
        assert_eq!(parse(b"\x16\x03\x01\x02\x00\x01").unwrap_err(), HeadError::RequestLine);
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        // Fed every prefix in turn, the parser needs more until the last byte and then agrees with the whole.
        let text = b"\r\nGET /b?list-type=2&prefix=a%2Fb HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n";
        let mut parser = HeadParser::new(HeadLimits::default());
        for end in 0..text.len() {
            assert!(matches!(parser.parse(&text[..end]), Ok(HeadStatus::NeedMore)), "{end}");
        }
        let Ok(HeadStatus::Complete(parsed)) = parser.parse(text) else { panic!() };
        assert_eq!(parsed.head_bytes, text.len());
        assert_eq!(parsed.head.headers.len(), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            // Any bytes, alone or behind a valid request line, give an answer.
            let _ = parse(&bytes);
            let _ = parse(&[b"GET / HTTP/1.1\r\n", &bytes[..], b"\r\n\r\n"].concat());
        }

        #[test]
        fn splits_do_not_change_the_verdict(
            line in "(GET|PUT|FOO) (/[a-z%]{0,9}|\\*|http://h/k) HTTP/1\\.[012]",
            fields in proptest::collection::vec("(host|content-length|expect|a)(: ?| : )[a-z0-9 ]{0,6}", 0..5),
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            // However the bytes are cut, the verdict is that of the whole head.
            let text = format!("{line}\r\n{}\r\n", fields.iter().map(|f| format!("{f}\r\n")).collect::<String>());
            let text = text.as_bytes();
            let expected = parse(text);
            let mut ends: Vec<usize> = cuts.iter().map(|c| c % (text.len() + 1)).collect();
            ends.push(text.len());
            ends.sort_unstable();
            let mut parser = HeadParser::new(HeadLimits::default());
            let mut found = Ok(HeadStatus::NeedMore);
            for end in ends {
                found = parser.parse(&text[..end]);
                if !matches!(found, Ok(HeadStatus::NeedMore)) { break; }
            }
            match (expected, found) {
                (Ok(HeadStatus::Complete(a)), Ok(HeadStatus::Complete(b))) => {
                    prop_assert_eq!(a.head_bytes, b.head_bytes);
                    prop_assert_eq!(a.head.headers.len(), b.head.headers.len());
                }
                // The first fault in reading order may be another than the first one the whole head shows.
                (Err(_), Err(_)) => {}
                (a, b) => prop_assert!(false, "{:?} and {:?}", a, b),
            }
        }
    }
}
