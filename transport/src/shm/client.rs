//! The client's side of a connection.

use super::{
    handover,
    line::{ClientLine, LINE_BYTES_MAX, ServerLine},
    socket::{self, PeerCredentials, Received},
};
use crate::{
    mapping::Mapping,
    remote::{Access, RemoteKey, RemoteSlice, SessionId},
};
use rustix::event::epoll;
use std::{
    cell::Cell,
    fmt, io,
    ops::Range,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// The first address that is exposed, so that no address is an offset by chance.
const FIRST_ADDRESS: u64 = 1 << 20;
/// Addresses between two exposures that name nothing: who runs over the end of one does not land in the next.
const GAP_BYTES: u64 = 4096;

/// What a server said.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The session's name: to be named in a request, and part of every token. Said again, with another name, of a session that was not used for
    /// long: it is to be bound under that.
    Session(SessionId),
    /// Nothing reaches the exposure of that address any more, and no device is writing there.
    Withdrawn(u64),
    /// The same of what a token exposed by itself under that number.
    Abandoned(u32),
    /// The server does not want this client, and why.
    Refused(String),
    /// The server is gone, or does not keep to the protocol. What was exposed may still be written by it.
    Gone,
}

/// Memory of this process, and a server that has it mapped. Stays on its thread; nothing here waits but
/// [`connect`](ShmClient::connect).
///
/// The bytes are copied in and out, so that there is nothing to be wrong about while the server writes.
/// [`ShmLink`](super::ShmLink) has buffers that are used in place.
///
/// # Drop
/// Hangs up and unmaps. What the server still writes goes to pages that are nobody's.
pub struct ShmClient {
    socket: OwnedFd,
    /// Watches the socket, and is what the caller watches: for room, too, while something waits to be said.
    events: OwnedFd,
    wants_room: Cell<bool>,
    memory: Mapping,
    next_address: Cell<u64>,
    /// 0 once all are used.
    next_number: Cell<u32>,
    gone: Cell<bool>,
}

impl ShmClient {
    /// Connects to the server at `path` and hands `bytes` zeros over. Waits while the server's backlog is full. The session's
    /// name comes later, from [`poll`](ShmClient::poll).
    ///
    /// `trusted` is asked about the server: it gets to write all of the memory. See [`same_user_or_root`].
    ///
    /// # Errors
    /// Nobody listens at the path; the server is not trusted (`PermissionDenied`); there is no memory.
    pub fn connect(
        path: impl AsRef<Path>,
        bytes: u64,
        trusted: impl FnOnce(&PeerCredentials) -> bool,
    ) -> io::Result<ShmClient> {
        let socket = socket::connect_to(path.as_ref())?;
        if !trusted(&PeerCredentials::of(&socket)?) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the server is not trusted"));
        }
        ShmClient::over(socket, bytes)
    }

    /// A client, and the socket to offer to a server that is in this process or gets it from here.
    ///
    /// # Errors
    /// There are no descriptors, or there is no memory.
    pub fn pair(bytes: u64) -> io::Result<(ShmClient, OwnedFd)> {
        let (ours, theirs) = socket::pair()?;
        Ok((ShmClient::over(ours, bytes)?, theirs))
    }

    /// A client over a packet socket that is connected to a server already, and trusted.
    ///
    /// # Errors
    /// `bytes` is 0; there is no memory; the server hung up.
    pub fn over(socket: OwnedFd, bytes: u64) -> io::Result<ShmClient> {
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no memory to share"));
        }
        let (file, memory) = handover::make(bytes)?;
        let hello = ClientLine::Hello { bytes }.to_string();
        socket::send_line(&socket, &hello, Some(file.as_fd()))?;
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&events, &socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(ShmClient {
            socket,
            events,
            wants_room: Cell::new(false),
            memory,
            next_address: Cell::new(FIRST_ADDRESS),
            next_number: Cell::new(1),
            gone: Cell::new(false),
        })
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Exposes a range of the memory, for one direction. Ranges may overlap. The slice's address was never used before on this
    /// connection and never is again; a token names it. Nothing of nothing needs no exposure, but has a name too.
    ///
    /// # Errors
    /// The server is gone, or has not read what it was sent (`WouldBlock`): nothing is exposed.
    ///
    /// # Panics
    /// If the range is not inside the memory.
    pub fn expose(&self, range: Range<usize>, access: Access) -> io::Result<RemoteSlice> {
        assert!(range.start <= range.end && range.end <= self.bytes(), "{range:?} is not in the memory");
        let (address, bytes) = (self.next_address.get(), range.len() as u64);
        let next = address.checked_add(bytes).and_then(|end| end.checked_add(GAP_BYTES));
        let next = next.ok_or_else(|| io::Error::other("no addresses left"))?;
        let slice = RemoteSlice::new(address, bytes, RemoteKey(0)).expect("its end was computed");
        if bytes > 0 {
            self.say(ClientLine::Expose { slice, offset: range.start as u64, access })?;
        }
        self.next_address.set(next);
        Ok(slice)
    }

    /// A name for a range of the memory that a token exposes by itself, for the direction of the one request that names it, and until
    /// that ends: the server is told nothing before. None once all names of this connection are used.
    ///
    /// # Panics
    /// If the range is not inside the memory.
    pub fn expose_once(&self, range: Range<usize>) -> Option<RemoteSlice> {
        assert!(range.start <= range.end && range.end <= self.bytes(), "{range:?} is not in the memory");
        let number = self.next_number.get();
        let slice = RemoteSlice::new(range.start as u64, range.len() as u64, RemoteKey(number))?;
        self.next_number.set(number.checked_add(1).unwrap_or(0));
        (number != 0).then_some(slice)
    }

    /// Asks the server to forget an exposure that it was not heard of: nobody knows whether the request began. When nothing can come
    /// any more, it says [`Event::Abandoned`].
    ///
    /// # Errors
    /// As for [`expose`](ShmClient::expose); the exposure is as it was.
    pub fn abandon(&self, slice: &RemoteSlice) -> io::Result<()> {
        self.say(ClientLine::Abandon { number: slice.key().0 })
    }

    /// Asks the server to forget an exposure. When nothing can come any more, it says [`Event::Withdrawn`].
    ///
    /// # Errors
    /// As for [`expose`](ShmClient::expose); the exposure is as it was.
    pub fn withdraw(&self, slice: &RemoteSlice) -> io::Result<()> {
        if slice.bytes() == 0 {
            return Ok(());
        }
        self.say(ClientLine::Withdraw { address: slice.address() })
    }

    fn say(&self, line: ClientLine) -> io::Result<()> {
        socket::send_line(&self.socket, &line.to_string(), None)
    }

    /// The next thing that the server said, if there is one. Once it is [`Event::Gone`], it stays that.
    pub fn poll(&self) -> Option<Event> {
        let mut line = [0; LINE_BYTES_MAX];
        let said = match socket::receive(self.socket.as_fd(), &mut line, |descriptor| descriptor) {
            _ if self.gone.get() => None,
            Ok(Received::Nothing) => return None,
            Ok(Received::Packet { bytes, descriptor: None }) => line.get(..bytes).and_then(ServerLine::parse),
            Ok(Received::Packet { .. } | Received::End | Received::Malformed) | Err(_) => None,
        };
        Some(match said {
            Some(ServerLine::Session(id)) => Event::Session(id),
            Some(ServerLine::Withdrawn { address }) => Event::Withdrawn(address),
            Some(ServerLine::Abandoned { number }) => Event::Abandoned(number),
            Some(ServerLine::Refused(why)) => Event::Refused(why.to_owned()),
            None => {
                self.gone.set(true);
                Event::Gone
            }
        })
    }

    /// The server does not keep to the protocol: nothing it says from here on is believed.
    pub(super) fn give_up(&self) {
        self.gone.set(true);
    }

    /// A descriptor that becomes readable when there is something to [`poll`](ShmClient::poll). Not to be read from.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Whether the descriptor becomes readable also when there is room to say more. If the kernel refuses, it is as before, and whoever
    /// waits does so until the server says something.
    pub(super) fn want_room(&self, wants: bool) {
        if self.wants_room.get() == wants {
            return;
        }
        let more = if wants { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        let flags = epoll::EventFlags::IN | more;
        match epoll::modify(&self.events, &self.socket, epoll::EventData::new_u64(0), flags) {
            Ok(()) => self.wants_room.set(wants),
            Err(error) => tracing::warn!(%error, "shared memory: room in the socket is not watched for"),
        }
    }

    /// Copies bytes of the memory out, as they are now.
    ///
    /// # Panics
    /// If they are not all in the memory.
    pub fn load(&self, at: usize, target: &mut [u8]) {
        self.memory.load(at, target);
    }

    /// Copies bytes into the memory.
    ///
    /// # Panics
    /// If they are not all in the memory.
    pub fn store(&self, at: usize, source: &[u8]) {
        self.memory.store(at, source);
    }

    pub(super) fn memory(&self) -> &Mapping {
        &self.memory
    }
}

/// Trusts a server that could write this process's memory anyway: one of this process's user, or of root.
pub fn same_user_or_root(server: &PeerCredentials) -> bool {
    server.user == 0 || server.user == rustix::process::geteuid().as_raw()
}

impl fmt::Debug for ShmClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ShmClient").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}
