//! Replies as a client reads them, without any I/O.
#![deny(clippy::indexing_slicing)]

use super::ClientError;

/// A head is no longer than this.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 128;

/// The head of a reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplyHead {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case.
    headers: Vec<(Box<str>, Box<str>)>,
}

/// How long the body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the server closes the connection.
    Close,
}

impl ReplyHead {
    /// A head of these.
    pub fn new(status: u16, headers: Vec<(Box<str>, Box<str>)>) -> ReplyHead {
        let headers =
            headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase().into(), value)).collect();
        ReplyHead { status, headers }
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| &**value)
    }

    /// All headers, in their order; names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// All values of a header.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        values.map(|(_, value)| &**value)
    }

    /// Reads a head from the front of `bytes`: it, and how long it is in bytes. None if there is more to come. Interim replies are heads
    /// too. For drivers of one's own, with [`super::contract`].
    ///
    /// # Errors
    /// [`ClientError::Malformed`]: no head of HTTP/1.x, one of 64 KiB that has not ended, more than 128 headers, or a value that is no UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Option<(ReplyHead, usize)>, ClientError> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut reply = httparse::Response::new(&mut headers);
        let parsed = reply.parse(bytes).map_err(|_| ClientError::Malformed("no HTTP head"))?;
        let httparse::Status::Complete(length) = parsed else {
            return match bytes.len() {
                ..HEAD_BYTES_MAX => Ok(None),
                _ => Err(ClientError::Malformed("the head is too long")),
            };
        };
        let status = reply.code.ok_or(ClientError::Malformed("no status"))?;
        let mut found = Vec::with_capacity(reply.headers.len());
        for header in reply.headers.iter() {
            let value = std::str::from_utf8(header.value)
                .map_err(|_| ClientError::Malformed("a value is no text"))?;
            found.push((header.name.into(), value.into()));
        }
        Ok(Some((ReplyHead::new(status, found), length)))
    }

    pub(super) fn framing(&self) -> Result<Framing, ClientError> {
        if matches!(self.status, 100..200 | 204 | 304) {
            return Ok(Framing::Length(0));
        }
        let mut codings = self.all("transfer-encoding");
        match (codings.next(), codings.next(), self.get("content-length")) {
            (None, ..) => {}
            (Some(coding), None, None) if coding.eq_ignore_ascii_case("chunked") => {
                return Ok(Framing::Chunked);
            }
            _ => return Err(ClientError::Malformed("a transfer coding")),
        }
        let mut lengths = self.all("content-length");
        match (lengths.next(), lengths.next()) {
            (None, _) => Ok(Framing::Close),
            (Some(length), None) => {
                let length = length.trim().parse().map_err(|_| ClientError::Malformed("a length"))?;
                Ok(Framing::Length(length))
            }
            _ => Err(ClientError::Malformed("two lengths")),
        }
    }

    pub(super) fn keeps_alive(&self) -> bool {
        !self.all("connection").any(|value| value.eq_ignore_ascii_case("close"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        // Shows that no part of a head is one, and where the body begins.
        let text = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc";
        for end in 0..text.len() - 3 {
            assert_eq!(ReplyHead::parse(text.get(..end).unwrap()).unwrap(), None);
        }
        let (head, length) = ReplyHead::parse(text).unwrap().unwrap();
        assert_eq!((head.status, length, head.get("x-a")), (206, text.len() - 3, Some("b")));
        assert_eq!(head.framing().unwrap(), Framing::Length(3));
        assert!(head.keeps_alive());
    }

    #[test]
    fn a_body_whose_end_is_not_known_is_refused() {
        // Shows that two lengths, a length that is none and other codings than chunks are errors, and that no length is the connection's end.
        let framing = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            ReplyHead::new(200, headers).framing()
        };
        assert!(framing(&[("content-length", "1"), ("Content-Length", "1")]).is_err());
        assert!(framing(&[("content-length", "-1")]).is_err());
        assert!(framing(&[("transfer-encoding", "gzip")]).is_err());
        assert!(framing(&[("transfer-encoding", "chunked"), ("content-length", "1")]).is_err());
        assert_eq!(framing(&[("transfer-encoding", "chunked")]).unwrap(), Framing::Chunked);
        assert_eq!(framing(&[]).unwrap(), Framing::Close);
    }

    proptest! {
        /// Shows that nothing panics.
        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), near in "HTTP/1.1 [0-9]{3} \\PC{0,9}\r\n(\\PC{0,9}: \\PC{0,9}\r\n){0,3}\r\n") {
            let _ = ReplyHead::parse(&bytes);
            if let Ok(Some((head, _))) = ReplyHead::parse(near.as_bytes()) {
                let _ = head.framing();
            }
        }
    }
}
