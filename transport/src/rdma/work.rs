//! Work requests: what is posted to a queue pair, in batches that are rung for once.

#![allow(unsafe_code)]

use super::{
    sys::*,
    window::{Window, next_key},
};
use std::{ffi::c_uint, mem, ptr};

/// Work requests that are posted together, and their pieces. Used again and again, so that posting allocates nothing.
#[derive(Default)]
pub(super) struct Batch {
    requests: Vec<ibv_send_wr>,
    pieces: Vec<ibv_sge>,
}

/// One piece of memory of a registered region.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) address: u64,
    pub(super) bytes: u32,
    pub(super) local_key: u32,
}

/// Which way bytes go, as the one who posts sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// From the pieces to the other side.
    Write,
    /// From the other side to the pieces.
    Read,
    /// From the pieces to a receive of the other side's.
    Send,
}

impl Batch {
    /// How many requests it holds.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// How many requests stand before that one.
    pub(super) fn before(&self, refused: *const ibv_send_wr) -> usize {
        self.requests.iter().take_while(|request| !ptr::eq(*request, refused)).count()
    }

    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.pieces.clear();
    }

    /// Begins a request that moves bytes between its pieces and the other side's memory, from an address on, by a key.
    pub(super) fn begin_transfer(&mut self, id: u64, way: Way, (address, key): (u64, u32)) {
        let mut request = no_request(id, 0);
        request.opcode = match way {
            Way::Write => IBV_WR_RDMA_WRITE,
            Way::Read => IBV_WR_RDMA_READ,
            // Wherever the other side wants it.
            Way::Send => IBV_WR_SEND,
        };
        request.rdma.remote_addr = address;
        request.rdma.rkey = key;
        self.requests.push(request);
    }

    /// Adds a piece to the request that was begun.
    pub(super) fn add_piece(&mut self, piece: Piece) {
        self.pieces.push(ibv_sge { addr: piece.address, length: piece.bytes, lkey: piece.local_key });
        if let Some(request) = self.requests.last_mut() {
            request.num_sge += 1;
        }
    }

    /// Has the request that was begun, a write, end one of the other side's receives, with this number.
    pub(super) fn add_immediate(&mut self, immediate: u32) {
        if let Some(request) = self.requests.last_mut() {
            debug_assert_eq!(request.opcode, IBV_WR_RDMA_WRITE, "only writes bring immediate data");
            request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
            // The field that has it is of network order.
            request.invalidate_rkey = immediate.to_be();
        }
    }

    /// Ends the request that was begun. It has a completion of its own only if it is signalled, or fails.
    pub(super) fn finish_transfer(&mut self, signalled: bool) {
        if let (Some(request), true) = (self.requests.last_mut(), signalled) {
            request.send_flags = IBV_SEND_SIGNALED;
        }
    }

    /// Binds the window to `bytes` bytes from `address` on, which are in its region, under its next key, for the queue pair that this is
    /// posted to.
    pub(super) fn push_bind(&mut self, id: u64, window: &Window, (address, bytes): (u64, u64), way: Way) {
        let key = next_key(window.remote_key());
        let mut request = no_request(id, IBV_SEND_SIGNALED);
        request.opcode = IBV_WR_BIND_MW;
        let access = match way {
            Way::Write => IBV_ACCESS_REMOTE_WRITE,
            Way::Read => IBV_ACCESS_REMOTE_READ,
            Way::Send => unreachable!("a window is for one of the other side's two"),
        };
        request.bind_mw = ibv_send_wr_bind_mw {
            mw: window.as_ptr(),
            rkey: key,
            bind_info: ibv_mw_bind_info {
                mr: window.region(),
                addr: address,
                length: bytes,
                mw_access_flags: access.cast_unsigned(),
            },
        };
        self.requests.push(request);
    }

    /// Unbinds the window of that key: nothing reaches through it when this has completed.
    pub(super) fn push_invalidate(&mut self, id: u64, key: u32) {
        let mut request = no_request(id, IBV_SEND_SIGNALED);
        request.opcode = IBV_WR_LOCAL_INV;
        request.invalidate_rkey = key;
        self.requests.push(request);
    }

    /// A request that moves nothing, and names nothing of the other side's: where there are no bytes no key is looked at (InfiniBand
    /// Architecture Specification 1.2.1, C9-88). It completes behind all that was posted before it.
    pub(super) fn push_nothing(&mut self, id: u64) {
        self.begin_transfer(id, Way::Write, (0, 0));
        self.finish_transfer(true);
    }

    /// Links the requests to each other and to their pieces, where those lie now.
    pub(super) fn link(&mut self) -> Option<*mut ibv_send_wr> {
        let mut pieces = self.pieces.as_mut_ptr();
        let first = self.requests.as_mut_ptr();
        let count = self.requests.len();
        for (place, request) in self.requests.iter_mut().enumerate() {
            request.sg_list = pieces;
            pieces = pieces.wrapping_add(request.num_sge as usize);
            request.next = if place + 1 < count { first.wrapping_add(place + 1) } else { ptr::null_mut() };
        }
        (count > 0).then_some(first)
    }
}

fn no_request(id: u64, flags: c_uint) -> ibv_send_wr {
    // SAFETY: integers and pointers only, for which zeros are a value.
    let mut request: ibv_send_wr = unsafe { mem::zeroed() };
    request.wr_id = id;
    request.send_flags = flags;
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_linked_where_it_lies() {
        // Shows that each request points to its own pieces and to the next request, also after the vectors moved.
        let mut batch = Batch::default();
        for round in 0..2 {
            batch.clear();
            for count in 0..40u64 {
                batch.begin_transfer(count, Way::Write, (count, 9));
                (0..count)
                    .map(|piece| Piece { address: count * 100 + piece, bytes: 1, local_key: 7 })
                    .for_each(|piece| batch.add_piece(piece));
                batch.finish_transfer(count % 2 == round);
            }
            let mut at = batch.link().expect("there are some");
            for count in 0..40u64 {
                // SAFETY: links lead to requests of the batch, which is not changed meanwhile.
                let request = unsafe { &*at };
                assert_eq!((request.wr_id, request.num_sge as u64), (count, count));
                for piece in 0..count {
                    // SAFETY: so many pieces of this request follow each other in the batch.
                    let sge = unsafe { &*request.sg_list.wrapping_add(piece as usize) };
                    assert_eq!(sge.addr, count * 100 + piece);
                }
                at = request.next;
            }
            assert!(at.is_null());
        }
    }
}
