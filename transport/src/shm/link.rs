//! A client's link to a shared memory session: buffers are parts of the memory file, used in place.
//!
//! Invariants
//! * A range of the file is free, or is one [`ShmMemory`], which is somebody's or the link's.
//! * What is somebody's is exposed by no window, so the server, which is trusted to keep to its windows, does not touch it.
//! * The server's word that an exposure has ended counts if it was asked for, once. A server that says it of anything else does not
//!   know what it has, and nothing is believed of it any more.

#![allow(unsafe_code)]

use super::client::{Event, ShmClient};
use crate::{
    exposure::{Link, LinkError, ranges::FreeRanges},
    remote::{Access, RemoteKey, RemoteSlice, SessionId},
    token::ShmToken,
};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, hash_map::Entry},
    fmt, io,
    ops::{Deref, DerefMut},
    os::fd::BorrowedFd,
    rc::Rc,
};

/// The client's side of a connection, with buffers that are used in place. As large as the client's memory, in all.
pub struct ShmLink {
    /// By address, or by number for those that are for one request.
    exposed: RefCell<HashMap<(u64, u32), Exposed>>,
    /// Proven already: confirmed with a reply, or of no bytes, so that the server never heard of them.
    proven: RefCell<Vec<(u64, u32)>>,
    /// Withdrawals that could not be sent yet.
    unsent: RefCell<Vec<RemoteSlice>>,
    session: Cell<Option<SessionId>>,
    /// Why the server did not want the client.
    refusal: RefCell<Option<String>>,
    open: Cell<bool>,
    shared: Rc<Shared>,
}

struct Exposed {
    slice: RemoteSlice,
    memory: ShmMemory,
    /// Whether the server was asked to end it.
    asked: bool,
}

struct Shared {
    client: ShmClient,
    free: FreeRanges,
}

/// A part of the memory file. Nobody else has it.
pub struct ShmMemory {
    shared: Rc<Shared>,
    at: usize,
    bytes: usize,
}

impl ShmLink {
    /// A link over that connection.
    pub fn new(client: ShmClient) -> ShmLink {
        let free = FreeRanges::new(client.bytes());
        ShmLink {
            exposed: RefCell::default(),
            proven: RefCell::default(),
            unsent: RefCell::default(),
            session: Cell::new(None),
            refusal: RefCell::default(),
            open: Cell::new(true),
            shared: Rc::new(Shared { client, free }),
        }
    }

    /// The session's name, once the server has told it: it is told after the hello, and comes with a poll. Another comes with a later poll if the
    /// session was not used for so long that the server ended it: under that it is to be bound again.
    pub fn session(&self) -> Option<SessionId> {
        self.session.get()
    }

    /// Why the server did not want this client, if it said so. It hangs up then.
    pub fn refusal(&self) -> Option<String> {
        self.refusal.borrow().clone()
    }

    /// Sends withdrawals that had no room before.
    fn send_unsent(&self) {
        let client = &self.shared.client;
        let mut unsent = self.unsent.borrow_mut();
        while let Some(slice) = unsent.last() {
            let sent = match slice.key() {
                RemoteKey(0) => client.withdraw(slice),
                _ => client.abandon(slice),
            };
            match sent {
                Ok(()) => {
                    if let Some(exposed) = self.exposed.borrow_mut().get_mut(&name(slice)) {
                        exposed.asked = true;
                    }
                    unsent.pop();
                }
                // The server says nothing of what it did not hear, so it is room that is waited for.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return client.want_room(true),
                Err(_) => {
                    self.open.set(false);
                    break;
                }
            }
        }
        client.want_room(false);
    }
}

/// What tells exposures apart: an address, or a number.
fn name(slice: &RemoteSlice) -> (u64, u32) {
    match slice.key() {
        RemoteKey(0) => (slice.address(), 0),
        RemoteKey(number) => (0, number),
    }
}

impl Link for ShmLink {
    type Memory = ShmMemory;

    fn allocate(&self, bytes: usize) -> Result<ShmMemory, LinkError> {
        if !self.open.get() {
            return Err(LinkError::Ended);
        }
        let at = self.shared.free.take(bytes).ok_or(LinkError::Exhausted)?;
        Ok(ShmMemory { shared: Rc::clone(&self.shared), at, bytes })
    }

    fn expose(&self, memory: ShmMemory, access: Access) -> Result<RemoteSlice, (LinkError, ShmMemory)> {
        if !self.open.get() {
            return Err((LinkError::Ended, memory));
        }
        assert!(Rc::ptr_eq(&memory.shared, &self.shared), "memory of another session");
        // In force: the server hears this before any request that is made after it.
        match self.shared.client.expose(memory.at..memory.at + memory.bytes, access) {
            Ok(slice) => {
                self.exposed.borrow_mut().insert(name(&slice), Exposed { slice, memory, asked: false });
                Ok(slice)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err((LinkError::Busy, memory)),
            Err(_) => {
                self.open.set(false);
                Err((LinkError::Ended, memory))
            }
        }
    }

    fn expose_once(&self, memory: ShmMemory, access: Access) -> Result<RemoteSlice, (LinkError, ShmMemory)> {
        if !self.open.get() {
            return Err((LinkError::Ended, memory));
        }
        assert!(Rc::ptr_eq(&memory.shared, &self.shared), "memory of another session");
        match self.shared.client.expose_once(memory.at..memory.at + memory.bytes) {
            Some(slice) => {
                self.exposed.borrow_mut().insert(name(&slice), Exposed { slice, memory, asked: false });
                Ok(slice)
            }
            None => self.expose(memory, access),
        }
    }

    fn confirm(&self, slice: &RemoteSlice) {
        match slice.key() {
            // The server does not end those.
            RemoteKey(0) => self.withdraw(slice),
            _ => self.proven.borrow_mut().push(name(slice)),
        }
    }

    fn withdraw(&self, slice: &RemoteSlice) {
        if slice.bytes() == 0 && slice.key() == RemoteKey(0) {
            self.proven.borrow_mut().push(name(slice));
            return;
        }
        self.unsent.borrow_mut().push(*slice);
        self.send_unsent();
    }

    fn poll(&self) -> Option<(RemoteSlice, ShmMemory)> {
        let proven = self.proven.borrow_mut().pop();
        if let Some(name) = proven {
            return self.exposed.borrow_mut().remove(&name).map(|ended| (ended.slice, ended.memory));
        }
        self.send_unsent();
        while let Some(event) = self.shared.client.poll() {
            let name = match event {
                Event::Session(id) => {
                    self.session.set(Some(id));
                    continue;
                }
                Event::Withdrawn(address) => (address, 0),
                Event::Abandoned(number) => (0, number),
                Event::Refused(why) => {
                    tracing::warn!(why, "shared memory: the server refused");
                    *self.refusal.borrow_mut() = Some(why);
                    continue;
                }
                Event::Gone => {
                    // It may be alive, and a disk of its in the middle of a read: there is no proof of anything.
                    self.open.set(false);
                    return None;
                }
            };
            let mut exposed = self.exposed.borrow_mut();
            return match exposed.entry(name) {
                Entry::Occupied(entry) if entry.get().asked => {
                    let Exposed { slice, memory, .. } = entry.remove();
                    Some((slice, memory))
                }
                _ => {
                    tracing::warn!(
                        "shared memory: the server ended an exposure that it was not asked to end"
                    );
                    self.shared.client.give_up();
                    self.open.set(false);
                    None
                }
            };
        }
        None
    }

    fn is_open(&self) -> bool {
        self.open.get()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.shared.client.descriptor())
    }

    fn session(&self) -> Option<SessionId> {
        ShmLink::session(self)
    }

    fn bindable(&self) -> Option<SessionId> {
        self.session.get().filter(|_| self.open.get())
    }

    fn token(&self, slice: &RemoteSlice) -> Option<String> {
        let session = self.session.get()?;
        let token = match slice.key() {
            RemoteKey(0) => ShmToken::new(session, slice.address(), slice.bytes()),
            RemoteKey(number) => ShmToken::once(session, slice.address(), slice.bytes(), number),
        };
        token.map(|token| token.to_string())
    }
}

impl Deref for ShmMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.shared.client.memory().at(self.at);
        // SAFETY: the range came from the free list, so it lies in the mapping, which `shared` keeps alive and does not move, and is
        // no other `ShmMemory`'s. Nobody writes it while it is borrowed: in this process the only other way to it, the client's
        // copies, is the link's alone, which makes none; the server keeps to what is exposed, and memory that is exposed is the
        // link's, which never borrows it. All of it is initialised: the kernel gave zeros.
        unsafe { std::slice::from_raw_parts(start, self.bytes) }
    }
}

impl DerefMut for ShmMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.shared.client.memory().at(self.at);
        // SAFETY: as above; and it is borrowed mutably, and nobody else has the range.
        unsafe { std::slice::from_raw_parts_mut(start, self.bytes) }
    }
}

impl Drop for ShmMemory {
    fn drop(&mut self) {
        self.shared.free.give(self.at, self.bytes);
    }
}

impl fmt::Debug for ShmMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ShmMemory").field("at", &self.at).field("bytes", &self.bytes).finish()
    }
}

impl fmt::Debug for ShmLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = formatter.debug_struct("ShmLink");
        link.field("client", &self.shared.client).field("open", &self.open.get()).finish_non_exhaustive()
    }
}
