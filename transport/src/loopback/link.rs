//! A client's link to a loopback session: exposures are memory handed over, under a lock.

use super::LoopbackPeer;
use crate::{
    exposure::{Link, LinkError},
    remote::{Access, RemoteSlice},
};
use std::{cell::RefCell, collections::VecDeque, fmt, os::fd::BorrowedFd};

/// The client's side of a peer. Its memory is of the heap, as much as is asked for.
pub struct LoopbackLink {
    peer: LoopbackPeer,
    withdrawn: RefCell<VecDeque<(RemoteSlice, Box<[u8]>)>>,
}

impl LoopbackLink {
    /// The link of the client that is `peer`.
    pub fn new(peer: LoopbackPeer) -> LoopbackLink {
        LoopbackLink { peer, withdrawn: RefCell::default() }
    }
}

impl Link for LoopbackLink {
    type Memory = Box<[u8]>;

    fn allocate(&self, bytes: usize) -> Result<Box<[u8]>, LinkError> {
        if self.is_open() { Ok(vec![0; bytes].into()) } else { Err(LinkError::Ended) }
    }

    fn expose(&self, memory: Box<[u8]>, access: Access) -> Result<RemoteSlice, (LinkError, Box<[u8]>)> {
        if self.is_open() { Ok(self.peer.lend(memory, access)) } else { Err((LinkError::Ended, memory)) }
    }

    fn withdraw(&self, slice: &RemoteSlice) {
        if let Some(memory) = self.peer.take_back(slice) {
            self.withdrawn.borrow_mut().push_back((*slice, memory));
        }
    }

    fn poll(&self) -> Option<(RemoteSlice, Box<[u8]>)> {
        self.withdrawn.borrow_mut().pop_front()
    }

    fn is_open(&self) -> bool {
        !self.peer.is_gone()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_notified(&self) -> bool {
        self.peer.is_notified()
    }

    fn take_notice(&self) -> Option<u32> {
        self.peer.take_notice()
    }

    fn token(&self, _slice: &RemoteSlice) -> Option<String> {
        // Whoever is in the same process has the slice itself.
        None
    }
}

impl Drop for LoopbackLink {
    fn drop(&mut self) {
        self.peer.vanish();
    }
}

impl fmt::Debug for LoopbackLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LoopbackLink").field("peer", &self.peer).finish_non_exhaustive()
    }
}
