//! The client's side of every transport: buffers that a server may reach, and when they are one's own again.
//!
//! ```text
//!            ┌────────────────────────── Ok ───────────────────────────┐
//!            ▼                                                         │
//!   buffer ─► Buffer ── expose_target ──► Exposed<Target> ── withdraw ─► Withdrawal ── Err(Unproven) ─┐
//!            &[u8], &mut [u8]  expose_source ─► Exposed<Source>                                       │
//!                                         no bytes, tokens │ drop                    │ drop           │
//!                                                          └────────────► quarantine ◄────────────────┘
//!                                       the withdrawal goes on by itself; memory is free again once it is proven
//! ```
//!
//! What goes wrong without it: a client gives up on a request, uses its buffer for the next, and the server's transfer of the first
//! one, which is still running, writes into it, or sends bytes of the second. A deadline does not help, since nobody knows how
//! long a transfer may hang in a device. So a buffer comes back only with a proof that nothing reaches it any more, and
//! until then there is no way to its bytes: the types have none.
//!
//! Invariants
//! * Exposed memory belongs to the [`Link`], not to whoever exposed it. Leaking an [`Exposed`] leaks its memory.
//! * An exposure is for one direction: the target of a GET cannot be read from outside, the source of a PUT not written.
//! * Memory is handed out again only after the link proved that its exposure has ended. Where there is no proof to be had it
//!   stays in quarantine until the session is dropped.
//!
//! # Bytes cannot be touched while a server may touch them
//! A buffer that is exposed is moved, so it can be neither used nor exposed again:
//! ```compile_fail,E0382
//! use crossdock_transport::{exposure::Session, loopback::LoopbackLink};
//! fn wrong(session: &Session<LoopbackLink>) {
//!     let mut buffer = session.buffer(4096).unwrap();
//!     let exposed = buffer.expose_target().unwrap();
//!     buffer[0] = 1; // it is the server's now
//! }
//! ```
//! A borrow of its bytes ends before it is exposed:
//! ```compile_fail,E0505
//! use crossdock_transport::{exposure::Session, loopback::LoopbackLink};
//! fn wrong(session: &Session<LoopbackLink>) -> u8 {
//!     let buffer = session.buffer(4096).unwrap();
//!     let bytes = &buffer[..];
//!     let exposed = buffer.expose_source().unwrap();
//!     bytes[0]
//! }
//! ```
//! What is exposed has no bytes:
//! ```compile_fail,E0608
//! use crossdock_transport::{exposure::{Exposed, Target}, loopback::LoopbackLink};
//! fn wrong(exposed: &Exposed<LoopbackLink, Target>) -> u8 {
//!     exposed[0]
//! }
//! ```
//! And it cannot be used for a second thing once it is being withdrawn:
//! ```compile_fail,E0382
//! use crossdock_transport::{exposure::{Exposed, Target}, loopback::LoopbackLink};
//! fn wrong(exposed: Exposed<LoopbackLink, Target>) -> Option<String> {
//!     let withdrawal = exposed.withdraw();
//!     exposed.token(0..1)
//! }
//! ```
//! In the right order:
//! ```
//! use crossdock_transport::{exposure::Session, loopback::{Loopback, LoopbackLink, LoopbackPeer}};
//! use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
//!
//! let session = Session::new(LoopbackLink::new(LoopbackPeer::new(0)));
//! let mut buffer = session.buffer(4096).expect("there is memory");
//! buffer.fill(7);
//! let exposed = buffer.expose_source().expect("the session is open");
//! // … a request that names exposed.slice(0..100) …
//! let mut withdrawal = pin!(exposed.withdraw());
//! let Poll::Ready(Ok(buffer)) = withdrawal.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
//!     panic!("a loopback proves it at once");
//! };
//! assert_eq!(buffer[0], 7);
//! ```

pub(crate) mod ranges;
mod session;

pub use session::{
    Buffer, Direction, ExposeError, Exposed, Renewal, Session, Source, Target, Unproven, Withdrawal,
};

use crate::remote::{Access, Answer, ConnectError, Offer, RemoteSlice, SessionId};
use std::{io, ops::DerefMut, os::fd::BorrowedFd};

/// A backend's part: the memory of one session with a server, and what proves that an exposure has ended. Stays on its thread.
///
/// | transport | an exposure | ended, proven by |
/// |---|---|---|
/// | loopback | an entry under a lock | taking it out under the lock |
/// | shared memory | a window in the server | the server's word, after its last device |
/// | verbs, with memory windows of type 2 | a window bound to the queue pair | the completion of its local invalidation |
/// | verbs, without | a memory region | its deregistration, or the end of the queue pair |
///
/// # Drop
/// Ends the session. What is still exposed is freed only if nothing can reach it any more; else it is leaked, and said so in the log.
pub trait Link {
    /// Memory of the session. Not reachable by the server while it is in anybody's hands but the link's. Dropping it gives it
    /// back.
    type Memory: DerefMut<Target = [u8]>;

    /// `bytes` bytes of memory, registered with whatever has to know it, holding anything. Aligned to 4096 bytes.
    ///
    /// # Errors
    /// See [`LinkError`].
    fn allocate(&self, bytes: usize) -> Result<Self::Memory, LinkError>;

    /// Lets the server do with the memory what `access` says, and nothing else. In force when it returns: a bind has completed. The
    /// name was not used before in this session, or so long ago that nobody has it.
    ///
    /// # Errors
    /// With the memory, which was not exposed.
    fn expose(&self, memory: Self::Memory, access: Access) -> Result<RemoteSlice, (LinkError, Self::Memory)>;

    /// As [`expose`](Link::expose), for one request, and for nothing that is asked after it: whoever knows the protocol of the server may
    /// save themselves a message. Another request under the name may be refused.
    ///
    /// # Errors
    /// As for [`expose`](Link::expose).
    fn expose_once(
        &self,
        memory: Self::Memory,
        access: Access,
    ) -> Result<RemoteSlice, (LinkError, Self::Memory)> {
        self.expose(memory, access)
    }

    /// As [`withdraw`](Link::withdraw), after the server said with the reply to the one request that the exposure has ended: its word
    /// is the proof, where a word of the server's is.
    fn confirm(&self, slice: &RemoteSlice) {
        self.withdraw(slice);
    }

    /// Begins to end an exposure, which is one of the link's and not withdrawn yet. Cannot fail: what cannot be done now is done in a [`poll`](Link::poll), or never proven.
    fn withdraw(&self, slice: &RemoteSlice);

    /// The next exposure that was withdrawn and has ended for certain, and its memory, once. Nothing reaches that memory any more. None if there is none
    /// for now. Does not wait.
    fn poll(&self) -> Option<(RemoteSlice, Self::Memory)>;

    /// Whether the session goes on. Once it does not and [`poll`](Link::poll) gives none, there will be no proof for what is still out.
    fn is_open(&self) -> bool;

    /// A descriptor that becomes readable when there is something to poll. None if polls find everything at once.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Whether the server tells when bytes are there ([`RemoteMemory::write_notify`](crate::remote::RemoteMemory::write_notify)).
    fn is_notified(&self) -> bool {
        false
    }

    /// The next notice that had come when something of the link was last called, [`poll`](Link::poll) for one, once. What it speaks of is in the
    /// memory. Looks for nothing itself, so that who polls first and takes notices then misses neither. There may be as many notices that
    /// are not taken as a server has credits.
    fn take_notice(&self) -> Option<u32> {
        None
    }

    /// The text that names the slice in a request. None if the transport has none, or no session yet.
    fn token(&self, slice: &RemoteSlice) -> Option<String>;

    /// The name that the server gave the session. None if it has none, or none yet.
    fn session(&self) -> Option<SessionId> {
        None
    }

    /// The name that the session has now, where a server that says that there is no such session may have all of it, as nobody's: it does that to
    /// one that was not used for long, and tells the link another name. To be bound, over the same memory and with what is exposed of
    /// it. None for most kinds of links: theirs are to be [made anew](Link::renew).
    fn bindable(&self) -> Option<SessionId> {
        None
    }

    /// How many requests that name memory of the session may be under way at a time. A server may refuse one more.
    fn requests_max(&self) -> usize {
        usize::MAX
    }

    /// Begins anew after the session was lost, over the same memory: ends what is left of the connection, and offers another. Until
    /// [`renewed`](Link::renewed) the link has no session. What was exposed before is of no use any more, and is withdrawn as ever. None if
    /// it can not, as links of most kinds.
    fn renew(&self) -> Option<Offer> {
        None
    }

    /// Connects to what answered the offer that [`renew`](Link::renew) made: buffers can be exposed again.
    ///
    /// # Errors
    /// The answer is none, or there is no way to what it names; the link is as after its end.
    fn renewed(&self, _answer: &Answer) -> Result<(), ConnectError> {
        Err(ConnectError::Unsupported("this link can not be renewed"))
    }
}

/// Why there is no memory, or no exposure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The session ended.
    #[error("the session ended")]
    Ended,
    /// All memory of the session is in use, exposed, or in quarantine.
    #[error("no memory left")]
    Exhausted,
    /// There are as many exposures as can be, or the server has not taken notice of earlier ones. Worth repeating.
    #[error("too many exposures for now")]
    Busy,
    /// The kernel or the device refused.
    #[error("the device refused: {0}")]
    Device(#[from] io::Error),
}
