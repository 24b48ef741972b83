//! Reply heads, written into the caller's buffer.
//!
//! Every name and value is checked before it is written, so that nothing a client stored (user metadata, a
//! content type, a `response-*` override) can end a line and forge a header or a second reply.

use super::head::{is_field_name, is_field_value};

/// The interim reply that lets a client send its body (RFC 9110 §15.2.1). Written as it is, before the real reply.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A header was refused: its name is no token, or its value holds a control byte other than a tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header name or value holds a forbidden byte")]
pub struct InvalidHeader;

/// Writes one reply head: status line first, then fields, then [`ReplyHead::finish`].
///
/// Names are written as given. `Connection`, `Content-Length`, `Date` and the like are the caller's to add: the
/// writer does not know the body. A head dropped before `finish` is taken back out of the buffer.
///
/// ```
/// use crossdock_s3::protocol::http::ReplyHead;
/// let mut out = Vec::new();
/// let mut head = ReplyHead::begin(&mut out, 200);
/// head.header("ETag", b"\"abc\"")?.length("Content-Length", 5);
/// head.finish();
/// assert_eq!(out, b"HTTP/1.1 200 OK\r\nETag: \"abc\"\r\nContent-Length: 5\r\n\r\n");
/// # Ok::<(), crossdock_s3::protocol::http::InvalidHeader>(())
/// ```
#[derive(Debug)]
pub struct ReplyHead<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    finished: bool,
}

impl<'a> ReplyHead<'a> {
    /// Appends the status line for `status` (100 to 999) to `out`.
    ///
    /// # Panics
    ///
    /// If `status` has not three digits: it comes from the program, never from a peer.
    pub fn begin(out: &'a mut Vec<u8>, status: u16) -> Self {
        assert!((100..1000).contains(&status), "an HTTP status has three digits");
        let start = out.len();
        out.reserve(512);
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason_phrase(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        ReplyHead { out, start, finished: false }
    }

    /// Appends a field.
    ///
    /// # Errors
    ///
    /// [`InvalidHeader`] if the name is not a token (RFC 9110 §5.6.2) or the value holds a control byte other than
    /// a tab; nothing is written then, and the head may go on without the field. Bytes above 127 pass.
    pub fn header(&mut self, name: &str, value: &[u8]) -> Result<&mut Self, InvalidHeader> {
        if !is_field_name(name.as_bytes()) || !is_field_value(value) {
            return Err(InvalidHeader);
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
        Ok(self)
    }

    /// Appends a field with a decimal value. Cannot fail: the name is the program's own.
    pub fn length(&mut self, name: &'static str, value: u64) -> &mut Self {
        debug_assert!(is_field_name(name.as_bytes()));
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        push_decimal(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Appends the empty line. The body follows.
    pub fn finish(mut self) {
        self.out.extend_from_slice(b"\r\n");
        self.finished = true;
    }
}

impl Drop for ReplyHead<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.out.truncate(self.start);
        }
    }
}

fn push_decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(decimal(value, &mut [0; 20]));
}

/// `value` in decimal, at the end of `digits`.
pub(crate) fn decimal(mut value: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut count = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
        count += 1;
        if value == 0 {
            break;
        }
    }
    &digits[20 - count..]
}

/// The reason phrase of a status S3 uses; empty for others, as RFC 9112 §4 allows.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_head_is_written_behind_what_was_there() {
        // Status line, fields and the empty line follow earlier bytes; an unknown status has an empty reason.
        let mut out = b"before".to_vec();
        let mut head = ReplyHead::begin(&mut out, 206);
        head.length("Content-Length", u64::MAX).length("Age", 0);
        head.header("x-amz-meta-a", b"caf\xe9").unwrap();
        head.finish();
        let expected: &[u8] =
            b"beforeHTTP/1.1 206 Partial Content\r\nContent-Length: 18446744073709551615\r\n\
            Age: 0\r\nx-amz-meta-a: caf\xe9\r\n\r\n";
        assert_eq!(out, expected);
        out.clear();
        ReplyHead::begin(&mut out, 299).finish();
        assert_eq!(out, b"HTTP/1.1 299 \r\n\r\n");
    }

    #[test]
    fn an_unfinished_head_leaves_no_trace() {
        // A head dropped half-way, on an error path say, is taken back.
        let mut out = b"before".to_vec();
        let mut head = ReplyHead::begin(&mut out, 200);
        assert!(head.header("a", b"x\r\nSet-Cookie: y").is_err());
        drop(head);
        assert_eq!(out, b"before");
    }

    proptest! {
        #[test]
        fn what_is_accepted_cannot_break_the_line(name in ".{0,8}", value in proptest::collection::vec(any::<u8>(), 0..20)) {
            // Any accepted field adds exactly one line, and httparse reads it back.
            let mut out = Vec::new();
            let mut head = ReplyHead::begin(&mut out, 200);
            let accepted = head.header(&name, &value).is_ok();
            head.finish();
            prop_assert_eq!(out.iter().filter(|&&b| b == b'\n').count(), 2 + usize::from(accepted));
            if accepted {
                let mut fields = [httparse::EMPTY_HEADER; 2];
                let mut reply = httparse::Response::new(&mut fields);
                prop_assert!(reply.parse(&out).unwrap().is_complete());
                prop_assert_eq!(reply.headers[0].name, &name);
                prop_assert_eq!(reply.headers[0].value.trim_ascii(), value.trim_ascii());
            }
        }
    }
}
