//! Replies that begin before it is known what they will say.
//!
//! A copy of some gigabytes, or the completion of an upload, may take longer than a client waits for the first byte, or than whatever is
//! between it and here lets a connection rest. So after a while 200 is said, then the declaration of a document, and from time to time a
//! space, which means nothing between that and the root element:
//!
//! ```text
//!   HTTP/1.1 200 OK … Transfer-Encoding: chunked
//!   <?xml version="1.0" encoding="UTF-8"?>
//!          ← a space each [`ServerLimits::quiet`](super::ServerLimits::quiet)
//!   <CopyObjectResult>…      or      <Error>…
//! ```
//!
//! What is over sooner has the status and the headers that are its own. Those of a reply that was begun can not tell what came of it: the
//! identifier of the version that was made is not in it.

use super::exchange::{Announced, Asked, Front};
use crate::{
    protocol::{
        reply::{Reply, ReplyBody, ReplyContext},
        xml::DECLARATION,
    },
    service::Page,
};

/// The status of every reply that is begun so.
pub(crate) const STATUS: u16 = 200;

/// What shows a client that somebody is still at work.
pub(super) const BEAT: &[u8] = b" ";

/// What the beginning of a reply to a request would say.
pub(crate) struct Early<'a> {
    front: &'a Front,
    asked: &'a Asked,
    page: Option<&'a Page>,
    announced: Announced,
    host_id: String,
}

impl<'a> Early<'a> {
    pub(super) fn new(
        front: &'a Front,
        asked: &'a Asked,
        page: Option<&'a Page>,
        announced: Announced,
    ) -> Early<'a> {
        Early { front, asked, page, announced, host_id: front.host_id() }
    }

    /// Whether the client takes chunks.
    pub(super) fn is_chunked(&self) -> bool {
        !self.announced.is_old
    }

    /// Whether another request may follow, as far as the head of this one says.
    pub(super) fn keeps_alive(&self) -> bool {
        self.announced.keep_alive
    }

    /// The head, of a document that comes in chunks or otherwise.
    pub(super) async fn reply(&self, is_chunked: bool) -> Reply {
        let mut reply = Reply::new(STATUS).header("Content-Type", "application/xml");
        reply.body = ReplyBody::Later { is_chunked };
        match self.page {
            Some(page) => self.front.service.add_cors(page, reply).await,
            None => reply,
        }
    }

    pub(super) fn context(&self, keep_alive: bool) -> ReplyContext<'_> {
        self.front.context(self.asked, &self.host_id, keep_alive)
    }
}

/// How a reply on a connection of our own was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// Its document comes in chunks; otherwise the connection ends with it.
    pub(super) is_chunked: bool,
    /// What its head says of the connection.
    pub(super) keep_alive: bool,
}

impl Begun {
    /// Appends a piece of the document to `out`, as it goes over the wire (RFC 9112 §7.1).
    pub(super) fn frame(self, piece: &[u8], out: &mut Vec<u8>) {
        // A chunk of nothing would be the last one.
        if piece.is_empty() {
            return;
        }
        if self.is_chunked {
            out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        }
        out.extend_from_slice(piece);
        if self.is_chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends what ends the document.
    pub(super) fn end(self, out: &mut Vec<u8>) {
        if self.is_chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }
}

/// What is still to be sent of the document of `reply`, now that the declaration is.
pub(crate) fn rest_of(reply: &Reply) -> &[u8] {
    match &reply.body {
        ReplyBody::Bytes(document) => document.strip_prefix(DECLARATION.as_bytes()).unwrap_or(document),
        ReplyBody::Empty | ReplyBody::Payload { .. } | ReplyBody::Later { .. } => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{error::ErrorCode, http::ChunkedDecoder};

    #[test]
    fn a_document_in_pieces_is_the_document() {
        // Declaration, spaces, and what is behind the declaration, are read back as one body that ends; an old client is sent it as it is.
        let reply = Reply::error(&ErrorCode::InternalError.into(), "REQ", "HOST");
        let pieces = [DECLARATION.as_bytes(), BEAT, b"", BEAT, rest_of(&reply)];
        let wire = |is_chunked| {
            let (begun, mut wire) = (Begun { is_chunked, keep_alive: false }, Vec::new());
            pieces.iter().for_each(|piece| begun.frame(piece, &mut wire));
            begun.end(&mut wire);
            wire
        };
        let plain = wire(false);
        let ReplyBody::Bytes(document) = &reply.body else { panic!("no document") };
        let (front, behind) = document.split_at(DECLARATION.len());
        assert_eq!(plain, [front, b"  ", behind].concat());
        let (wire, mut decoder, mut found, mut at) = (wire(true), ChunkedDecoder::new(), Vec::new(), 0);
        while at < wire.len() {
            let piece = decoder.advance(&wire[at..]).unwrap();
            let payload = at + piece.framing;
            found.extend_from_slice(&wire[payload..payload + piece.payload]);
            at = payload + piece.payload;
        }
        assert!(decoder.is_finished());
        assert_eq!(found, plain);
    }
}
