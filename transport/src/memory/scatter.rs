//! A payload in several places.

use super::lease::FrozenLease;

/// Pieces that are sent or written as if they were one. Holds its pieces; cloning copies no payload.
#[derive(Clone, Default, Debug)]
pub struct ScatterList {
    /// Never holds an empty piece: devices refuse or miscount them.
    pieces: Vec<FrozenLease>,
    bytes: usize,
}

impl ScatterList {
    /// No pieces. Allocates nothing.
    pub fn new() -> ScatterList {
        ScatterList::default()
    }

    /// No pieces, and room for `pieces`.
    pub fn with_capacity(pieces: usize) -> ScatterList {
        ScatterList { pieces: Vec::with_capacity(pieces), bytes: 0 }
    }

    /// Appends a piece. An empty piece is dropped.
    pub fn push(&mut self, piece: FrozenLease) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push(piece);
        }
    }

    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The pieces, in order, none of them empty.
    pub fn pieces(&self) -> &[FrozenLease] {
        &self.pieces
    }

    /// Drops the first `bytes`, and with them the pieces that lie wholly in them.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.bytes, "{bytes} of {} bytes", self.bytes);
        self.bytes -= bytes;
        let mut rest = bytes;
        let whole = self
            .pieces
            .iter()
            .take_while(|piece| {
                let covered = piece.len() <= rest;
                rest -= if covered { piece.len() } else { 0 };
                covered
            })
            .count();
        self.pieces.drain(..whole);
        if let Some(first) = self.pieces.first_mut() {
            first.narrow(rest..first.len());
        }
    }
}

impl From<FrozenLease> for ScatterList {
    fn from(piece: FrozenLease) -> ScatterList {
        let mut list = ScatterList::new();
        list.push(piece);
        list
    }
}

impl FromIterator<FrozenLease> for ScatterList {
    fn from_iter<I: IntoIterator<Item = FrozenLease>>(pieces: I) -> ScatterList {
        let mut list = ScatterList::new();
        list.extend(pieces);
        list
    }
}

impl Extend<FrozenLease> for ScatterList {
    fn extend<I: IntoIterator<Item = FrozenLease>>(&mut self, pieces: I) {
        for piece in pieces {
            self.push(piece);
        }
    }
}
