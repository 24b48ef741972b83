//! The client's side: objects from and to one's own buffers, over a transport where there is one, else over HTTP.
//!
//! ```text
//!   Buffer ── expose ─► Exposed ── token ─► request, signed ─► reply ─► contract: moved? declined? ignored? ─┐
//!     ▲                                                                                                      │
//!     └── proof ◄── withdraw ◄───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What goes over the wire is made and judged without any I/O: requests (`request`), replies (`http`) and what they prove
//! ([`contract`]), encrypted if it is to be (`tls`). [`AsyncClient`] moves them over a [`Runtime`] of the caller's; [`Client`] is the same where every wait blocks.
//!
//! Invariants
//! * Nothing counts as moved without the server's word and the right count ([`contract`]): a server that knows nothing of
//!   tokens answers a PUT with 200, and has stored an empty object.
//! * Every result says which way the bytes went, and why not the other ([`Way`]). Nobody falls back unnoticed.
//! * A buffer comes back only with the proof that no server reaches it any more. Where there is none the buffer stays in
//!   quarantine ([`crossdock_transport::exposure`]) and the call fails, whatever the reply said.

mod blocking;
mod calls;
mod connection;
pub mod contract;
mod http;
mod pace;
mod parallel;
mod request;
mod runtime;
mod sessions;
mod stream;
#[cfg(feature = "tls")]
mod tls;

pub use blocking::Client;
pub use calls::{AsyncClient, Failed, Got, Stored};
pub use http::ReplyHead;
pub use pace::Pace;
pub use parallel::{Gathered, Parallel, Uploaded, Ways};
pub use request::{Credentials, signed_head};
pub use runtime::{Blocking, BlockingStream, Runtime};
#[cfg(feature = "tls")]
pub use tls::TlsSettings;

use crossdock_transport::{exposure::LinkError, remote::ConnectError};
use std::io;

/// Which way bytes may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Over the transport, or not at all.
    Require,
    /// Over the transport if that can be, else over HTTP; the result says which.
    #[default]
    Prefer,
    /// Over HTTP.
    Off,
}

/// Which way they went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Between the buffer and the server, over the transport.
    Transport,
    /// In a body.
    Http(Fallback),
}

/// Why bytes did not go over the transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fallback {
    /// The caller wanted it so.
    #[error("the policy is Off")]
    Off,
    /// There is no session, or it has no token for the buffer.
    #[error("there is no session")]
    NoSession,
    /// The buffer could not be exposed.
    #[error("the buffer could not be exposed")]
    NotExposed,
    /// The server declined.
    #[error("the server declined")]
    Declined,
    /// The server knows no such session: it was restarted, or the session was not used for long. To be made anew.
    #[error("the session has ended")]
    SessionEnded,
    /// The server took no notice of the token.
    #[error("the server does not speak this protocol")]
    Ignored,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection broke, or could not be made. After a PUT it is not known whether the object is there.
    #[error("the connection: {0}")]
    Connection(#[from] io::Error),
    /// The reply is no HTTP, or larger than a reply may be.
    #[error("the reply is malformed: {0}")]
    Malformed(&'static str),
    /// The server refused.
    #[error("{status} {code}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code of the error document, or nothing.
        code: String,
        /// Its message, or nothing.
        message: String,
    },
    /// The server says that bytes moved, and does not prove it. What is in the buffer, or in the store, is not known.
    #[error("the reply proves nothing: {0}")]
    Unproven(&'static str),
    /// The bytes are not those that the server says it sent.
    #[error("the checksum of what came is another")]
    Damaged,
    /// The policy requires the transport, and it could not be. After a PUT with [`Fallback::Ignored`] an empty object is stored.
    #[error("not over the transport: {0}")]
    NotMoved(Fallback),
    /// A server that takes no notice of tokens has stored an empty object, or part, and the bytes could not be put in its place, or nobody
    /// knows whether they were: why.
    #[error("the server stored an empty object in place of the bytes: {0}")]
    EmptyStored(#[source] Box<ClientError>),
    /// The object, or the range, has more bytes than the buffer.
    #[error("{bytes} bytes do not fit in the buffer")]
    TooLarge {
        /// Bytes of the object or the range.
        bytes: u64,
    },
    /// There is nothing in the range that was asked for, which HTTP has no words for.
    #[error("the range is empty")]
    EmptyRange,
    /// The session ended before it proved that the buffer is out of reach. The buffer is in quarantine.
    #[error("the buffer may still be reached: it is in quarantine")]
    Quarantined,
    /// The server does not take the memory that it was to share, and says why.
    #[error("the server does not take the memory: {0}")]
    NotTaken(String),
    /// There is no way to the queue pair that the server answered with.
    #[error("no way to the server's queue pair: {0}")]
    NoWay(#[source] ConnectError),
    /// The session.
    #[error("the session: {0}")]
    Link(#[from] LinkError),
}
