//! Memory of somebody else, and the transports that reach it.
//!
//! ```text
//!   Transport   one per process: registers the arena, once, with every device it has
//!      │ open(core)
//!   Endpoint    one per core: the queues of that core, polled by its reactor; stays on its thread
//!      │ connect(principal, offer)                    ▲ offer, over some other path      │ answer
//!   RemoteMemory  a session with one client           │                                  ▼
//!                                                  client: exposes a buffer, for reading or for writing
//!
//!   GET   disk ── ring.read ──► lease ── write(lease → remote) ──► client's memory ── completion: reply
//!   PUT   client's memory ── read(remote → lease) ──► lease ── checksum, ring.write ──► disk
//! ```
//!
//! The server starts every operation and the client is passive; no memory of the server's can be reached from outside.
//! Posting is the idiom of [`operation`](crate::operation): a slot is a credit of the session, the lease is the very one that
//! the disk filled or will take, and the completion brings both back. The traits are object-safe: several transports are
//! active at once, and one that another crate brings is as good as those here.
//!
//! What every transport promises, and [`conformance`](crate::conformance) tests:
//! * *Exactly.* An operation that succeeds moved all its bytes, in order, and touched none outside its remote slice. One that
//!   fails may have moved some of them, to their places.
//! * *Once.* Every operation posted is completed once, also after a disconnect, a drop of its future, or a drop of session and
//!   endpoint in any order, and its memory comes back no earlier. Memory that a device may still touch after the endpoint is
//!   gone is leaked rather than reused.
//! * *Not too late.* What was posted begins with a flush or a poll, if it is not done at once. An operation that is
//!   [cancelled](Pending::cancel), or whose future is dropped, is not begun any more, and completes in its turn: as
//!   [`TransferError::Cancelled`], or as it went if it was begun. A transport that splits operations begins no further part.
//! * *In order.* Operations of one session complete in the order they were posted, and writes arrive in it. A read and a later
//!   write of the same remote bytes are in order only if the read was completed before the write was posted.
//! * *Bounded.* A session has as many slots as it has credits, an endpoint as many sessions as its limits say. One that nobody
//!   uses is ended.
//! * *Apart.* To anybody but its principal a session does not exist.
//! * *Bad input* (an offer, a remote slice) gives a typed error, on the one session at most.

mod session;
mod slice;
mod table;

pub use session::{Answer, ConnectError, Offer, Principal, SessionId, TransferError};
pub use slice::{Access, RemoteKey, RemoteSlice};
pub use table::{SessionLimits, SessionTable};

use crate::{
    memory::{Arena, BufferLease, PeerLease, ScatterList},
    operation::{Memory, OsError, Pending, Queue, Slot},
};
use std::{
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

/// What moves the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Medium {
    /// The processor, within this process.
    Process,
    /// The processor, or the disk, in memory shared with another process of this host.
    SharedMemory,
    /// A network card that the kernel emulates.
    SoftwareCard,
    /// A network card.
    Card,
}

/// What a transport can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// What moves the bytes.
    pub medium: Medium,
    /// Bytes of one operation at most. A transport splits what its device takes only in parts. At most `u32::MAX`, because
    /// a completion counts in 32 bits.
    pub operation_bytes_max: u32,
    /// Pieces of one write at most.
    pub pieces_max: usize,
    /// What is exposed for one direction is refused in the other.
    pub directional: bool,
    /// The client can withdraw one exposure and leave the session as it is.
    pub revocable: bool,
    /// The session goes on after an operation that the peer's memory refused.
    pub survives_refusal: bool,
    /// Memory of other devices can be registered ([`Transport::register_foreign`]).
    pub foreign_memory: bool,
    /// A disk can read straight into the peer's memory ([`RemoteMemory::peer_lease`]).
    pub peer_leases: bool,
    /// A peer that asks for it is told when bytes are there ([`RemoteMemory::write_notify`]).
    pub notices: bool,
    /// Bytes of a message at most ([`RemoteMemory::send`]). 0 if there are none.
    pub message_bytes_max: u32,
}

/// Memory of another device, as a dma-buf.
#[derive(Debug)]
pub struct ForeignMemory {
    /// The dma-buf.
    pub descriptor: OwnedFd,
    /// Bytes from its start.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// The parameter by which a client asks for notices in its [`Offer`], and an [`Answer`] grants them.
pub const NOTIFY: &str = "notify";

/// The value of [`NOTIFY`] that transports of this crate know: immediate data, in the terms of verbs.
pub const NOTIFY_IMMEDIATE: &str = "imm";

/// The parameter by which an [`Answer`] says how many operations the server may have in flight on the session, decimal.
pub const IN_FLIGHT: &str = "inflight";

/// The parameter by which a client says in its [`Offer`] that it sends messages and receives them, and an [`Answer`] that the server does.
pub const MESSAGES: &str = "messages";

/// The value of [`MESSAGES`] that transports of this crate know.
pub const MESSAGES_SEND: &str = "send";

/// Pieces of a message at most.
pub const MESSAGE_PIECES_MAX: usize = 4;

/// Fills what it is given with bytes that nobody can guess.
pub type Entropy = Box<dyn FnMut(&mut [u8])>;

/// What an endpoint is made with.
pub struct EndpointOptions {
    /// The core it lives on, which the names of its sessions carry.
    pub core: u16,
    /// How many sessions it has and how much they have in flight.
    pub limits: SessionLimits,
    /// Where the names of sessions come from: a name is half of a capability.
    pub entropy: Entropy,
}

impl fmt::Debug for EndpointOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = formatter.debug_struct("EndpointOptions");
        options.field("core", &self.core).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Control: one way of reaching memory of others, for the whole process.
pub trait Transport: Send + Sync {
    /// A short name, for metrics and for what a client is told.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Registers the arena with every device of the transport, before the first [`open`](Transport::open). Leases of no other
    /// arena may be posted. The transport keeps the arena mapped. May take about a second per GiB where pages are pinned.
    ///
    /// # Errors
    /// A device refused, because of a limit on locked memory for instance; or an arena was registered before
    /// (`AlreadyExists`).
    fn register(&self, arena: &Arena) -> io::Result<()>;

    /// Registers memory of another device.
    ///
    /// # Errors
    /// `Unsupported` unless [`Capabilities::foreign_memory`] is set; then, that the device refused.
    fn register_foreign(&self, _memory: ForeignMemory) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The most memory that one endpoint takes beside the arena, in bytes, when it has as many sessions as it may: its own, and what drivers
    /// keep for it. For the sum that is told when a store is opened. Unless a backend knows better, what [`SessionLimits::bytes_max`] says.
    fn endpoint_bytes_max(&self, limits: &SessionLimits) -> u64 {
        limits.bytes_max(0)
    }

    /// The queues of one core, to be used on the calling thread.
    ///
    /// # Errors
    /// No arena is registered (`NotConnected`), or the device has no queues left.
    fn open(&self, options: EndpointOptions) -> io::Result<Rc<dyn Endpoint>>;
}

/// One core's part of a transport. Dropping it ends its sessions: what is in flight completes with an error first.
pub trait Endpoint {
    /// Makes a session for `principal` with the client that sent `offer`. Does not block.
    ///
    /// # Errors
    /// See [`ConnectError`]; nothing is left behind.
    fn connect(&self, principal: &Principal, offer: Offer) -> Result<Answer, ConnectError>;

    /// The session, if there is one of that name and it is `principal`'s.
    fn session(&self, id: SessionId, principal: &Principal) -> Option<Rc<dyn RemoteMemory>>;

    /// Ends a session of `principal`'s: nothing new moves, and what is in flight completes in later polls, with its result or
    /// [`TransferError::Ended`]. False if there is no such session: already ended, never made, or somebody else's.
    fn disconnect(&self, id: SessionId, principal: &Principal) -> bool;

    /// Ends the sessions that have not been used for [`SessionLimits::idle_max`], as [`disconnect`](Endpoint::disconnect) does, and
    /// whatever else waits for a client that does not come, or for a device that does not let go of a session that ended. To be called now
    /// and then, a few times in that span and every few seconds, with a time that never goes back; a session ends up to one span between
    /// calls late, and never early. Returns how many were idle.
    fn expire_idle(&self, now: Duration) -> usize;

    /// What the ways are called that bytes can go, by their numbers: ports of devices, for instance. Empty where there is one only,
    /// which needs no name.
    fn rails(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether sessions can be made on each of them now. Of a transport without names: on the one that there is.
    fn usable_rails(&self) -> Vec<bool> {
        vec![true; self.rails().len().max(1)]
    }

    /// How many sessions there are.
    fn session_count(&self) -> usize;

    /// How many there may be, as it was opened with, and how much each may have in flight: for what clients are told.
    fn limits(&self) -> SessionLimits;

    /// Called once per turn of the core's loop: rings every doorbell that is due, and completes what is done, which wakes
    /// those who wait for it. Does not block. Returns how many operations it completed.
    fn poll(&self) -> usize;

    /// As [`poll`](Endpoint::poll), in a turn of a core that knows that the descriptor is not readable: nobody has to look for what only
    /// makes it readable, if that look is a call to the kernel. A core polls in full unless it knows.
    fn poll_quiet(&self) -> usize {
        self.poll()
    }

    /// A descriptor that becomes readable when there is something for [`poll`](Endpoint::poll) to do. It means something only
    /// after [`begin_wait`](Endpoint::begin_wait) and is not to be read from. None for a transport whose operations are all
    /// done by its polls.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Rings every doorbell that is due, and says whether the core may sleep on the descriptor (and on whatever else it
    /// waits for). False if there is something for a poll to do.
    fn begin_wait(&self) -> bool;
}

/// Data: a session with one client, on the core of its endpoint. Holding it keeps nothing open.
pub trait RemoteMemory {
    /// The credits of the session: its slots, and what is in flight.
    fn credits(&self) -> &Queue;

    /// Posts a read: `source` goes behind what the lease holds, whose length grows by it. The result is the byte count.
    /// Dropping the future [cancels](Pending::cancel) what has not begun; the lease goes home when no device touches it any more.
    ///
    /// # Panics
    /// If the slot is not of these credits, or `source` is longer than the lease has room or an operation may be.
    fn read(&self, slot: Slot, source: RemoteSlice, target: BufferLease) -> Pending;

    /// Posts a write: all pieces, one behind the other, to the front of `target`. The result is the byte count. Nothing past
    /// the pieces' bytes is touched. Dropping the future is as for reads.
    ///
    /// # Panics
    /// If the slot is not of these credits, or the pieces are more bytes than `target` has or an operation may move, or more
    /// pieces than the transport takes.
    fn write(&self, slot: Slot, source: ScatterList, target: RemoteSlice) -> Pending;

    /// Whether the peer asked for notices at connect, and gets them.
    fn notifies(&self) -> bool {
        false
    }

    /// Posts a write as [`write`](RemoteMemory::write) does, and behind its last byte a notice for the peer. When the peer has the notice,
    /// all bytes of this write and of those that were posted before it on this session are in its memory. The completion of a
    /// write says less: that they are on their way there, and a reply over another path may overtake them. No pieces and nothing
    /// of a target make a notice alone. A write that fails gives no notice.
    ///
    /// A peer has room for as many notices as this side has credits; one that does not take them fails the session in the end.
    ///
    /// # Errors
    /// By the completion: `EOPNOTSUPP`, and nothing moves, unless the peer asked ([`notifies`](RemoteMemory::notifies)).
    ///
    /// # Panics
    /// As [`write`](RemoteMemory::write).
    fn write_notify(&self, slot: Slot, source: ScatterList, _target: RemoteSlice, _notice: u32) -> Pending {
        unsupported(self.credits(), slot, Memory::Scatter(source))
    }

    /// Rooms for messages of the peer's: [`receive`](RemoteMemory::receive) takes its slots from here. None unless the peer said at
    /// connect that it sends any.
    fn inbox(&self) -> Option<&Queue> {
        None
    }

    /// Posts a message, which ends one of the peer's receives. The result is the byte count. In order with writes: when the peer has the
    /// message, it has what was written before it. A peer that has no receive for some milliseconds ends the session.
    ///
    /// # Errors
    /// By the completion: `EOPNOTSUPP` unless there is an [`inbox`](RemoteMemory::inbox).
    ///
    /// # Panics
    /// If the slot is not of the [`credits`](RemoteMemory::credits), or the message is longer than
    /// [`Capabilities::message_bytes_max`], or of more than [`MESSAGE_PIECES_MAX`] pieces.
    fn send(&self, slot: Slot, message: ScatterList) -> Pending {
        unsupported(self.credits(), slot, Memory::Scatter(message))
    }

    /// Posts a lease for the next message of the peer's, which goes behind what it holds. Messages and leases meet in the order in which
    /// they were posted; the result is the byte count. One that is longer than the room is an error (`EMSGSIZE`, where the device says so) and ends the
    /// session. Completes with [`TransferError::Ended`] when the session ends: it may wait as long as that. Not in order with other
    /// operations. Dropping the future does not take back what is in the device: the message that it gets is lost.
    ///
    /// # Panics
    /// If the slot is not of the [`inbox`](RemoteMemory::inbox).
    fn receive(&self, _slot: Slot, _target: BufferLease) -> Pending {
        panic!("a session without an inbox has no slots for it")
    }

    /// The right to let a device of this host write `target`, which the peer exposes to be written: a disk then reads straight
    /// into the client's memory. The exposure is not withdrawn, nor its memory unmapped, before the lease and all parts of it are
    /// dropped, also when the session or the endpoint ends. Not a posted operation: it takes no credit, and is not in order with
    /// those that do.
    ///
    /// # Errors
    /// [`TransferError::Refused`] and [`TransferError::Ended`] as operations have them; `EOPNOTSUPP` unless
    /// [`Capabilities::peer_leases`] is set.
    fn peer_lease(&self, _target: &RemoteSlice) -> Result<PeerLease, TransferError> {
        Err(TransferError::Device(OsError(libc::EOPNOTSUPP)))
    }

    /// A request begins that names `slice`, all of it, and is to do with it what `access` says. Where a name stands for one request
    /// alone, its exposure begins here and ends with [`end_request`](RemoteMemory::end_request). Nothing to do for
    /// transports whose clients expose by themselves.
    ///
    /// # Errors
    /// [`TransferError::Refused`]: the name was used, or names nothing that can be exposed; [`TransferError::Ended`].
    fn begin_request(&self, _slice: &RemoteSlice, _access: Access) -> Result<(), TransferError> {
        Ok(())
    }

    /// The request has ended: of what was posted for it nothing is in flight. True if its exposure ended with it, so that nothing
    /// reaches the memory under that name any more; then the client may be told so with the reply, and needs no other proof.
    fn end_request(&self, _slice: &RemoteSlice) -> bool {
        false
    }

    /// Rings the doorbell for what was posted, now: one for all. Otherwise the next poll does.
    fn flush(&self);

    /// Which of the transport's ways it goes by, such as the port of a card, `mlx5_0/1`. None if there is only one.
    fn rail(&self) -> Option<Rc<str>> {
        None
    }

    /// Whether the session still moves bytes. What is posted on one that does not completes with [`TransferError::Ended`].
    fn is_open(&self) -> bool;
}

/// Completes at once, as what a session does not do.
pub fn unsupported(credits: &Queue, slot: Slot, memory: Memory) -> Pending {
    let (id, pending) = credits.post(slot, memory);
    credits.complete(id, Err(OsError(libc::EOPNOTSUPP)));
    pending
}

/// Asserts what posts of every transport require of their callers.
///
/// # Panics
/// As [`RemoteMemory::read`] and [`RemoteMemory::write`] say.
pub fn assert_postable(capabilities: &Capabilities, bytes: u64, room: u64, pieces: usize) {
    assert!(bytes <= room, "{bytes} bytes do not fit in {room}");
    assert!(
        bytes <= u64::from(capabilities.operation_bytes_max),
        "{bytes} bytes are too many for one operation"
    );
    assert!(pieces <= capabilities.pieces_max, "{pieces} pieces are too many for one operation");
}

/// Asserts what [`RemoteMemory::send`] requires of its callers.
///
/// # Panics
/// If a message is longer than the transport's may be, where it has any, or of too many pieces.
pub fn assert_sendable(capabilities: &Capabilities, message: &ScatterList) {
    let (bytes, max) = (message.bytes(), capabilities.message_bytes_max as usize);
    assert!(max == 0 || bytes <= max, "{bytes} bytes are too many for one message");
    let pieces = message.pieces().len();
    assert!(pieces <= MESSAGE_PIECES_MAX, "{pieces} pieces are too many for one message");
}

// All of them are used as objects.
const _: fn(&dyn Transport, &dyn Endpoint, &dyn RemoteMemory) = |_, _, _| {};
