//! A network card that does not exist, with the faults of those that do, by seed.
//!
//! ```text
//!   post ─► line of the session ─► head: wait ─► packets ─► wait ─► … ─► last packet ─► wait ─► completion
//!                                          │ dropped: wait longer, and again; too often: TimedOut ─┐
//!                                          │ connection lost, refused, client gone                 ▼
//!                                          └─────────────────────────────► session broken: each in flight is
//!                                                                          flushed, in order, when the card lets go of it
//! ```
//!
//! It behaves as a Reliable Connection does: a session is in order and ends with its first error, what fails may have moved some of
//! its packets, and memory belongs to the card until its completion, also on a session that is broken or disconnected. Sessions overtake
//! each other. Everything happens in polls, and nothing but the seed and the order of calls decides what: a run repeats exactly.
//!
//! Clients are [`LoopbackPeer`]s.

mod endpoint;
mod session;

use crate::{
    loopback::{Loopback, LoopbackPeer},
    memory::Arena,
    remote::{Capabilities, Endpoint, EndpointOptions, Medium, Offer, Transport},
};
use endpoint::SimulatedEndpoint;
use std::{
    io,
    rc::Rc,
    sync::{Arc, OnceLock},
};

const CAPABILITIES: Capabilities = Capabilities {
    medium: Medium::SoftwareCard,
    operation_bytes_max: 1 << 30,
    pieces_max: 30,
    directional: true,
    revocable: true,
    // A queue pair goes to its error state.
    survives_refusal: false,
    foreign_memory: false,
    peer_leases: false,
    notices: true,
    message_bytes_max: 0,
};

/// What the card does to its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedFaults {
    /// Each core's card has dice of its own, made from this and the core.
    pub seed: u64,
    /// Polls between two steps of a session at most.
    pub delay_polls_max: u32,
    /// Bytes of one step at most, at least 1.
    pub step_bytes_max: u32,
    /// Steps of 1024 whose packets are lost, and sent again after a while.
    pub drop_per_1024: u32,
    /// Steps of one operation that are lost in a row before the card gives up.
    pub retries_max: u32,
    /// Steps of 1024 that are the connection's last.
    pub disconnect_per_1024: u32,
}

impl SimulatedFaults {
    /// Late and in pieces, and nothing wrong: what every transport may do.
    pub fn none(seed: u64) -> SimulatedFaults {
        SimulatedFaults {
            seed,
            delay_polls_max: 3,
            step_bytes_max: 128 << 10,
            drop_per_1024: 0,
            retries_max: 7,
            disconnect_per_1024: 0,
        }
    }
}

/// The transport. Cheap to clone; clones are the same transport.
#[derive(Clone, Debug)]
pub struct SimulatedNic(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    arena: OnceLock<Arena>,
    faults: SimulatedFaults,
    /// Who offers what is the same as there.
    clients: Loopback,
}

impl SimulatedNic {
    /// A card with those faults, and without an arena.
    pub fn new(faults: SimulatedFaults) -> SimulatedNic {
        SimulatedNic(Arc::new(Shared { arena: OnceLock::new(), faults, clients: Loopback::new() }))
    }

    /// An offer to connect to `peer`, good for one session. Any thread.
    pub fn offer(&self, peer: &LoopbackPeer) -> Offer {
        self.0.clients.offer(peer)
    }
}

impl Transport for SimulatedNic {
    fn name(&self) -> &'static str {
        "simulated"
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
        Ok(Rc::new(SimulatedEndpoint::new(Arc::clone(&self.0), options)))
    }
}
