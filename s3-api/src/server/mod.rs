//! An HTTP/1.1 server on the engine's cores.
//!
//! ```text
//!   Server::bind ─► Server::run on each core: listener ─► a task for each connection
//!
//!   connection:  head ─► admit ─► (100 Continue) ─► run, which takes the body ─► reply ─► next head
//! ```
//!
//! Invariants:
//! * A connection carries one request at a time; bytes behind it wait where they are.
//! * No wait for a peer is without a deadline, and what a connection holds is bounded: see [`ServerLimits`].
//! * After a reply the connection is in a known state, or it is closed. A head that was promised bytes gets them all or
//!   the connection ends.

mod body;
mod connection;
mod digester;
mod early;
mod exchange;
mod listener;
mod memory;
mod metrics;
mod observe;
mod rules;
mod source;
mod steering;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod transports;
mod wire;

pub(crate) use body::Body;
#[cfg(feature = "http")]
pub(crate) use digester::Digester;
pub use exchange::ACCESS_LOG;
pub use listener::Server;
pub(crate) use memory::Document;
#[cfg(feature = "http")]
pub(crate) use memory::Memory;
pub use metrics::{ServerMetrics, render};
#[cfg(feature = "tls")]
pub use tls::TlsSettings;
pub(crate) use wire::yield_now;
#[cfg(feature = "http")]
pub(crate) use {
    early::{STATUS, rest_of},
    exchange::{Announced, Front},
    rules::act_on_rules,
    source::Source,
    wire::{Ended, within},
};

use std::time::Duration;

/// What a server allows its clients.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections on each core. One more is answered 503 and closed. Each holds 4 KiB of the core's memory, with TLS 8, and another
    /// 4 KiB while a request is at work: a core with little memory should have fewer. Default: 1024.
    pub connections: usize,
    /// How long a connection may rest between requests. Default: 75 seconds.
    pub idle: Duration,
    /// How long the handshake of TLS may take. Default: 10 seconds.
    pub handshake: Duration,
    /// How long a head may take from its first byte to its last. Default: 30 seconds.
    pub head: Duration,
    /// Bytes of a head at most, the request line among them. Default: 64 KiB.
    pub head_bytes: usize,
    /// Bytes of documents that each core holds at once: lists on their way to clients, and what clients send that is no object. Who
    /// asks for, or sends, one more is told to slow down. Documents of up to 4 KiB do not count. Default: 32 MiB.
    pub documents_bytes: usize,
    /// How long a body may come to a halt. Default: 30 seconds.
    pub body_idle: Duration,
    /// The slowest a body may come on the whole, apart from one such halt: a peer that sends a byte now and then must not
    /// hold memory for days. Default: 4096 bytes a second.
    pub body_bytes_per_second: u64,
    /// How long a peer may take nothing of what is sent to it. A document may take this and a second for each 4096 bytes, whatever
    /// comes of it meanwhile. Default: 60 seconds.
    pub send: Duration,
    /// How long a client is left without a byte while a copy is made or an upload completed; 200 is said then, a space is sent as often
    /// as that, and an error comes in the document. Most clients give up after 60 seconds. Default: 10 seconds.
    pub quiet: Duration,
    /// How long requests in work may take to end when the server closes. Default: 30 seconds.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            connections: 1024,
            idle: Duration::from_secs(75),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            head_bytes: 64 << 10,
            documents_bytes: 32 << 20,
            body_idle: Duration::from_secs(30),
            body_bytes_per_second: 4 << 10,
            send: Duration::from_secs(60),
            quiet: Duration::from_secs(10),
            drain: Duration::from_secs(30),
        }
    }
}
