//! A client's link to a session by verbs: buffers are parts of the registered memory, used in place.
//!
//! Invariants
//! * A range of the memory is free, or is one [`RdmaMemory`], which is somebody's or the link's.
//! * What is somebody's is exposed by nothing, so no device writes it.

#![allow(unsafe_code)]

use super::client::RdmaClient;
use crate::{
    exposure::{Link, LinkError, ranges::FreeRanges},
    remote::{Access, Answer, ConnectError, Offer, RemoteKey, RemoteSlice, SessionId},
    token::RcToken,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt,
    ops::{Deref, DerefMut},
    os::fd::BorrowedFd,
    rc::Rc,
};

/// The client's side of a connection, with buffers that are used in place. As large as the client's memory, in all.
pub struct RdmaLink {
    exposed: RefCell<HashMap<(u64, RemoteKey), RdmaMemory>>,
    session: Cell<Option<SessionId>>,
    requests_max: Cell<usize>,
    shared: Rc<Shared>,
}

struct Shared {
    client: RdmaClient,
    free: FreeRanges,
}

/// A part of the memory. Nobody else has it.
pub struct RdmaMemory {
    shared: Rc<Shared>,
    at: usize,
    bytes: usize,
}

impl RdmaLink {
    /// A link of that client, which is not connected.
    pub fn new(client: RdmaClient) -> RdmaLink {
        let free = FreeRanges::new(client.bytes());
        RdmaLink {
            exposed: RefCell::default(),
            session: Cell::new(None),
            requests_max: Cell::new(1),
            shared: Rc::new(Shared { client, free }),
        }
    }

    /// What connects to it.
    pub fn offer(&self) -> Offer {
        self.shared.client.offer()
    }

    /// Connects to what answered the offer.
    ///
    /// # Errors
    /// As [`RdmaClient::connect`].
    pub fn connect(&self, answer: &Answer) -> Result<(), ConnectError> {
        self.shared.client.connect(answer)?;
        self.session.set(Some(answer.session));
        self.requests_max.set(answer.requests_max());
        Ok(())
    }

    /// The session's name, once it is connected.
    pub fn session(&self) -> Option<SessionId> {
        self.session.get()
    }
}

impl Link for RdmaLink {
    type Memory = RdmaMemory;

    fn allocate(&self, bytes: usize) -> Result<RdmaMemory, LinkError> {
        let at = self.shared.free.take(bytes).ok_or(LinkError::Exhausted)?;
        Ok(RdmaMemory { shared: Rc::clone(&self.shared), at, bytes })
    }

    fn expose(&self, memory: RdmaMemory, access: Access) -> Result<RemoteSlice, (LinkError, RdmaMemory)> {
        assert!(Rc::ptr_eq(&memory.shared, &self.shared), "memory of another session");
        match self.shared.client.expose(memory.at..memory.at + memory.bytes, access) {
            Ok(slice) => {
                self.exposed.borrow_mut().insert((slice.address(), slice.key()), memory);
                Ok(slice)
            }
            Err(_) if !self.is_open() => Err((LinkError::Ended, memory)),
            Err(error) => Err((LinkError::Device(error), memory)),
        }
    }

    fn withdraw(&self, slice: &RemoteSlice) {
        self.shared.client.withdraw(slice);
    }

    fn poll(&self) -> Option<(RemoteSlice, RdmaMemory)> {
        let slice = self.shared.client.poll()?;
        let memory = self.exposed.borrow_mut().remove(&(slice.address(), slice.key()));
        Some((slice, memory.expect("what was withdrawn was exposed, and ends once")))
    }

    fn is_open(&self) -> bool {
        self.shared.client.is_open()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.client.descriptor())
    }

    fn is_notified(&self) -> bool {
        self.shared.client.is_notified()
    }

    fn take_notice(&self) -> Option<u32> {
        self.shared.client.heard_notice()
    }

    fn token(&self, slice: &RemoteSlice) -> Option<String> {
        Some(RcToken { session: self.session.get()?, slice: *slice }.to_string())
    }

    fn session(&self) -> Option<SessionId> {
        self.session.get()
    }

    fn requests_max(&self) -> usize {
        self.requests_max.get()
    }

    fn renew(&self) -> Option<Offer> {
        self.session.set(None);
        match self.shared.client.renew() {
            Ok(offer) => Some(offer),
            Err(error) => {
                tracing::warn!(%error, "a session could not be made anew");
                None
            }
        }
    }

    fn renewed(&self, answer: &Answer) -> Result<(), ConnectError> {
        self.connect(answer)
    }
}

impl Deref for RdmaMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.shared.client.memory().at(self.at);
        // SAFETY: the range came from the free list, so it lies in the mapping, which `shared` keeps alive and does not move, and is
        // no other `RdmaMemory`'s. Nobody writes it while it is borrowed: in this process the only other way to it, the client's
        // copies, is the link's alone, which makes none; devices write what is exposed, and memory that is exposed is the
        // link's, which gives it back only once that is proven to have ended. All of it is initialised: the kernel gave zeros.
        unsafe { std::slice::from_raw_parts(start, self.bytes) }
    }
}

impl DerefMut for RdmaMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.shared.client.memory().at(self.at);
        // SAFETY: as above; and it is borrowed mutably, and nobody else has the range.
        unsafe { std::slice::from_raw_parts_mut(start, self.bytes) }
    }
}

impl Drop for RdmaMemory {
    fn drop(&mut self) {
        self.shared.free.give(self.at, self.bytes);
    }
}

impl fmt::Debug for RdmaMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RdmaMemory").field("at", &self.at).field("bytes", &self.bytes).finish()
    }
}

impl fmt::Debug for RdmaLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RdmaLink").field("client", &self.shared.client).finish_non_exhaustive()
    }
}
