//! Several places that one read fills.

use super::{BufferLease, PeerLease};

/// One place of a read.
#[derive(Debug)]
pub enum Target {
    /// The bytes in use of a buffer of the arena.
    Lease(BufferLease),
    /// Memory of a client.
    Peer(PeerLease),
}

/// Places that one read fills, one behind the other, as if they were one. Holds them.
///
/// A disk that is read with O_DIRECT fills whole blocks, and a range that a client asks for seldom begins or ends with one. So
/// its blocks in the middle go straight to the client, and the first and the last to leases, from where the client gets
/// its part of them.
#[derive(Default, Debug)]
pub struct TargetList {
    pieces: Vec<Target>,
    bytes: usize,
}

impl TargetList {
    /// No places. Allocates nothing.
    pub fn new() -> TargetList {
        TargetList::default()
    }

    /// Appends the bytes in use of a lease. One that has none is dropped.
    pub fn push_lease(&mut self, lease: BufferLease) {
        self.push(lease.len(), Target::Lease(lease));
    }

    /// Appends memory of a client. A lease on no bytes is dropped.
    pub fn push_peer(&mut self, lease: PeerLease) {
        self.push(lease.len(), Target::Peer(lease));
    }

    fn push(&mut self, bytes: usize, piece: Target) {
        // Devices refuse or miscount empty pieces.
        if bytes > 0 {
            self.bytes += bytes;
            self.pieces.push(piece);
        }
    }

    /// Bytes of all places.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if there is nothing to fill.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The places, in order, none of them empty.
    pub fn into_pieces(self) -> Vec<Target> {
        self.pieces
    }

    /// Address and bytes of each place, for a driver.
    pub(crate) fn addresses(&mut self) -> impl Iterator<Item = (*mut u8, usize)> {
        self.pieces.iter_mut().map(|piece| match piece {
            Target::Lease(lease) => (lease.as_mut_ptr(), lease.len()),
            Target::Peer(lease) => (lease.as_mut_ptr(), lease.len()),
        })
    }
}
