//! What requests hold of a core's memory beside what the engine lets them have for the bytes of objects.
//!
//! A connection holds a page at rest, and one more at work: as many as there are connections ([`ServerLimits::connections`]). What
//! is larger is shared out here, so that clients who send half of something, or take nothing of what they asked for, hold this and
//! no more:
//!
//! | what | of | who finds nothing left |
//! |---|---|---|
//! | [`Memory::document`]: documents of more than a page, of requests and of replies | the heap, [`ServerLimits::documents_bytes`] | is told to slow down |
//! | [`Memory::piece`]: leases of more than a page, for long heads, forms and documents on their way | an eighth of the core's arena | makes do with a page; a head that is longer is told to slow down |

use super::{ServerLimits, wire::INPUT_BYTES};
use crate::protocol::error::ErrorCode;
use crossdock::reactor::{Budget, Core, Grant};
use crossdock_transport::memory::lease_bytes;

/// Bytes of a larger lease, where a longer one is of no use.
pub(crate) const PIECE_BYTES: usize = 64 << 10;
/// Larger leases may take this part of a core's arena.
const PIECES_DIVISOR: usize = 8;

/// See the module's documentation.
pub(crate) struct Memory {
    documents: Budget,
    pieces: Budget,
}

impl Memory {
    pub(crate) fn new(core: &Core, limits: &ServerLimits) -> Memory {
        let pieces = core.pool().total_bytes() / PIECES_DIVISOR;
        Memory { documents: Budget::new(limits.documents_bytes.max(1)), pieces: Budget::new(pieces) }
    }

    /// Room for a document of `bytes`: none is needed up to a page. One that is larger than all there is takes all.
    ///
    /// # Errors
    /// `SlowDown`.
    pub(crate) fn document(&self, bytes: usize) -> Result<Option<Grant>, ErrorCode> {
        if bytes <= INPUT_BYTES {
            return Ok(None);
        }
        self.documents.try_take(bytes).map(Some).ok_or(ErrorCode::SlowDown)
    }

    /// A lease for `bytes` may be held for as long as what comes back.
    pub(crate) fn piece(&self, bytes: usize) -> Option<Grant> {
        self.pieces.try_take(lease_bytes(bytes))
    }
}

/// A request's document, with the room it takes.
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    /// By doubling, as the bytes grew.
    room: Vec<Grant>,
    room_bytes: usize,
}

impl Document {
    pub(crate) fn new() -> Document {
        Document { bytes: Vec::new(), room: Vec::new(), room_bytes: INPUT_BYTES }
    }

    /// Appends what came: a length that was declared is a claim, and room is taken for what is there.
    ///
    /// # Errors
    /// `SlowDown`: there is no room.
    pub(crate) fn extend(&mut self, memory: &Memory, bytes: &[u8]) -> Result<(), ErrorCode> {
        while self.room_bytes < self.bytes.len() + bytes.len() {
            // As much again, of which the first page is everybody's.
            let more = self.room_bytes + if self.room.is_empty() { INPUT_BYTES } else { 0 };
            self.room.extend(memory.document(more)?);
            self.room_bytes += self.room_bytes;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(documents: usize, pieces: usize) -> Memory {
        Memory { documents: Budget::new(documents), pieces: Budget::new(pieces) }
    }

    #[test]
    fn room_grows_with_what_came() {
        // What a document has room for is never less than its bytes, nor more than twice of them, and all of it comes back.
        let memory = memory(1 << 20, 1);
        let mut document = Document::new();
        document.extend(&memory, &[1; INPUT_BYTES]).unwrap();
        assert!(memory.document(1 << 20).unwrap().is_some(), "a page is everybody's");
        for _ in 0..60 {
            document.extend(&memory, &[1; INPUT_BYTES]).unwrap();
        }
        let left = (1 << 20) - 2 * document.bytes.len();
        assert!(memory.document(left).is_ok());
        assert!(memory.document((1 << 20) - document.bytes.len()).is_err());
        let refused = (0..1 << 9).find_map(|_| document.extend(&memory, &[1; INPUT_BYTES]).err());
        assert_eq!(refused, Some(ErrorCode::SlowDown));
        drop(document);
        assert!(memory.document(1 << 20).is_ok());
    }

    #[test]
    fn a_document_beyond_all_is_let_in_alone() {
        let memory = memory(64 << 10, 1);
        let one = memory.document(1 << 20).unwrap();
        assert_eq!(memory.document(5000).err(), Some(ErrorCode::SlowDown));
        assert!(memory.document(4000).unwrap().is_none());
        drop(one);
        assert!(memory.document(5000).unwrap().is_some());
    }
}
