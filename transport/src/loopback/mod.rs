//! Memory of this process as if it were somebody else's: the reference implementation of a transport.
//!
//! ```text
//!   client thread:  LoopbackPeer ── expose ──► RemoteSlice        Loopback::offer(&peer) ──► Offer
//!   core:           Loopback::open ──► Endpoint ── connect(principal, offer) ──► session
//! ```
//!
//! It is written to be read, and to be copied by whoever writes the next: every promise of [`remote`](crate::remote) is kept in
//! the plainest way. Operations run in the endpoint's polls, in their order, by copying. It serves tests of what stands
//! above (a client that vanishes, memory that is withdrawn), and embedders whose client is in the same process.

mod endpoint;
mod link;
mod peer;

pub use link::LoopbackLink;
pub use peer::LoopbackPeer;

use crate::{
    memory::Arena,
    remote::{Capabilities, ConnectError, Endpoint, EndpointOptions, Medium, Offer, Transport},
};
use endpoint::LoopbackEndpoint;
use std::{
    collections::HashMap,
    fmt, io,
    rc::Rc,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

const CAPABILITIES: Capabilities = Capabilities {
    medium: Medium::Process,
    operation_bytes_max: 1 << 30,
    pieces_max: 1024,
    directional: true,
    revocable: true,
    survives_refusal: true,
    foreign_memory: false,
    peer_leases: false,
    notices: true,
    message_bytes_max: 0,
};

/// The transport. Cheap to clone; clones are the same transport.
#[derive(Clone, Default)]
pub struct Loopback(Arc<Shared>);

#[derive(Default)]
struct Shared {
    arena: OnceLock<Arena>,
    /// Clients that made an offer and are not connected yet, by its token. Each offer connects once.
    offers: Mutex<HashMap<String, LoopbackPeer>>,
}

impl Loopback {
    /// A transport without an arena.
    pub fn new() -> Loopback {
        Loopback::default()
    }

    /// An offer to connect to `peer`, good for one session. Any thread.
    pub fn offer(&self, peer: &LoopbackPeer) -> Offer {
        let mut offers = self.0.offers.lock().unwrap_or_else(PoisonError::into_inner);
        // Only this process reads it, so a number that no offer has is enough.
        let number = (0..=offers.len()).find(|number| !offers.contains_key(&token(*number)));
        let token = token(number.expect("one more number than offers"));
        offers.insert(token.clone(), peer.clone());
        Offer { token, ..Offer::default() }
    }

    /// The client that made the offer, which is used up.
    pub(crate) fn accept(&self, offer: &Offer) -> Result<LoopbackPeer, ConnectError> {
        let mut offers = self.0.offers.lock().unwrap_or_else(PoisonError::into_inner);
        offers
            .remove(&offer.token)
            .ok_or(ConnectError::Malformed("no client of this process made that offer"))
    }
}

fn token(number: usize) -> String {
    format!("loopback:{number}")
}

impl Transport for Loopback {
    fn name(&self) -> &'static str {
        "loopback"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn register(&self, arena: &Arena) -> io::Result<()> {
        self.0.arena.set(arena.clone()).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    fn open(&self, options: EndpointOptions) -> io::Result<Rc<dyn Endpoint>> {
        options.limits.check()?;
        if self.0.arena.get().is_none() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(Rc::new(LoopbackEndpoint::new(self.clone(), options)))
    }
}

impl fmt::Debug for Loopback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Loopback").field("arena", &self.0.arena.get()).finish()
    }
}
