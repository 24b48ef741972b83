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
mod listener;
mod metrics;
mod observe;
mod wire;

pub(crate) use body::Body;
pub use listener::Server;
pub use metrics::{ServerMetrics, render};

use std::time::Duration;

/// What a server allows its clients.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections on each core. One more is answered 503 and closed. Default: 1024.
    pub connections: usize,
    /// How long a connection may rest between requests. Default: 75 seconds.
    pub idle: Duration,
    /// How long a head may take from its first byte to its last. Default: 30 seconds.
    pub head: Duration,
    /// How long requests in work may take to end when the server closes. Default: 30 seconds.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits {
            connections: 1024,
            idle: Duration::from_secs(75),
            head: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}
