//! RDMA by verbs: network cards that reach the memory of other hosts by themselves, over Reliable Connections.
//!
//! ```text
//!   Rdma ── Device (one for the process) ── protection domain ── the arena, registered once, for no one else
//!    │         └── Rail (a port), Rail …
//!    └─ open ─► Endpoint (one per core) ── completion queue per rail, all slept on by one descriptor
//!                  └── session: a queue pair to one client, on the rail that is nearest to it
//!
//!   client: RdmaClient ── queue pair, memory ── a window for each exposure
//! ```
//!
//! Two things are done on threads of their own, both of which tell an endpoint by its mailbox: queue pairs are connected (`connector`),
//! and what happens to devices is watched (`watch`).
//!
//! The two sides tell each other of their queue pairs in an [`Offer`](crate::remote::Offer) and an [`Answer`](crate::remote::Answer),
//! over some other path: a token of [`HipToken`](crate::token::HipToken)'s form, and these parameters.
//!
//! | parameter | |
//! |---|---|
//! | `psn` | number of the first packet, 6 hex digits, not 0; must be there |
//! | `mtu` | bytes of a packet, 256 to 4096; the smaller of both counts; without it, the server's |
//! | `rd-atomic` | READs that the sender of this answers at a time, 1 to 255; without it, 1 |
//! | `notify` | `imm`: the client has receives posted, and is to be told by immediate data when bytes are there; in an answer: it will be |
//! | `messages` | `send`: the client sends messages and receives them; in an answer: so does the server |
//! | `inflight` | in an answer: operations that the server may have in flight |
//!
//! The kernel serves a device only to threads with the privileges of the one that opened it: whoever gives privileges up does so
//! before.
//!
//! libibverbs is opened when it is first asked for ([`devices`], [`Rdma::open`]), so a program without RDMA needs nothing and says
//! nothing.

#[cfg(test)]
mod abi_tests;
mod client;
mod connector;
mod device;
mod endpoint;
mod error;
mod inbox;
mod info;
mod library;
mod link;
mod mailbox;
mod messages;
#[cfg(test)]
mod paper;
mod path;
mod rail;
mod session;
#[allow(dead_code, reason = "declared as a whole")]
mod sys;
mod verbs;
mod watch;
mod window;
mod work;

pub use client::{RdmaClient, RdmaClientOptions, Revocation};
pub use device::devices;
pub use error::RdmaError;
pub use info::{DeviceInfo, DeviceLimits, Gid, GidEntry, GidKind, LinkLayer, PathMtu, PortInfo};
pub use library::Unavailable;
pub use link::RdmaLink;

use crate::{
    memory::Arena,
    remote::{Capabilities, Endpoint, EndpointOptions, Medium, SessionLimits, Transport},
};
use endpoint::RdmaEndpoint;
use library::{Library, library};
use rail::Rails;
use std::{
    fmt, io,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use watch::Watched;

/// Bytes of one operation: what a card takes in one message is less on some (8 MiB on soft-RoCE).
const OPERATION_BYTES_MAX: u32 = 1 << 30;

/// Pieces of one operation.
const OPERATION_PIECES_MAX: usize = 256;

/// Bytes of a message: a client has a buffer of this size for each that may come.
const MESSAGE_BYTES_MAX: u32 = 4096;

const CAPABILITIES: Capabilities = Capabilities {
    medium: Medium::Card,
    operation_bytes_max: OPERATION_BYTES_MAX,
    pieces_max: OPERATION_PIECES_MAX,
    directional: true,
    revocable: true,
    // A queue pair that was refused something is in error.
    survives_refusal: false,
    foreign_memory: false,
    peer_leases: false,
    notices: true,
    message_bytes_max: MESSAGE_BYTES_MAX,
};

/// Who makes cards of software: the kernel's soft-RoCE says that its vendor is this.
const SOFTWARE_VENDOR: u32 = 0xff_ffff;

/// Which devices are used.
#[derive(Clone, Debug, Default)]
pub struct RdmaOptions {
    /// Names of devices, as the kernel has them. Empty: all there are.
    pub devices: Vec<String>,
    /// Addresses of this host that clients are answered from. Empty: all that the ports have.
    pub addresses: Vec<IpAddr>,
    /// That no device takes the arena is no error: there are no sessions then, and the log says why.
    pub optional: bool,
}

/// The transport.
pub struct Rdma {
    rails: Arc<Watched>,
    registered: AtomicBool,
    optional: bool,
}

impl Rdma {
    /// Opens the devices, and starts the thread that watches them. Takes milliseconds for each. A port without a link is used when it has one.
    ///
    /// # Errors
    /// As [`devices`], [`RdmaError::NoDevice`], [`RdmaError::NoRail`], [`RdmaError::NotOpened`] of one that is named, or that a device refused.
    pub fn open(options: &RdmaOptions) -> Result<Rdma, RdmaError> {
        Rdma::with(library()?, options)
    }

    fn with(library: &'static Library, options: &RdmaOptions) -> Result<Rdma, RdmaError> {
        let watched = Watched::new(Rails::open(library, options)?);
        let rails = watched.map_err(|source| RdmaError::Device { what: "a thread for events", source })?;
        let rails = Arc::new(rails);
        tracing::info!(?rails, "RDMA ports opened");
        Ok(Rdma { rails, registered: AtomicBool::new(false), optional: options.optional })
    }

    /// The ports, by names such as `mlx5_0/1`, and whether sessions can be made on each.
    pub fn rails(&self) -> Vec<(String, bool)> {
        self.rails.rails.iter().map(|rail| (rail.to_string(), rail.is_usable())).collect()
    }
}

impl Transport for Rdma {
    fn name(&self) -> &'static str {
        "rdma"
    }

    fn capabilities(&self) -> Capabilities {
        let software =
            self.rails.devices.iter().all(|device| device.info().limits.vendor.0 == SOFTWARE_VENDOR);
        Capabilities { medium: if software { Medium::SoftwareCard } else { Medium::Card }, ..CAPABILITIES }
    }

    fn register(&self, arena: &Arena) -> io::Result<()> {
        if self.registered.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        match self.rails.register(arena) {
            Err(error) if self.optional => {
                tracing::error!(%error, "no RDMA: no device takes the memory");
                Ok(())
            }
            result => result,
        }
    }

    fn endpoint_bytes_max(&self, limits: &SessionLimits) -> u64 {
        let rails = self.rails.rails.len() as u64;
        // Without a rail there are no sessions.
        let sessions = if rails == 0 { 0 } else { limits.bytes_max(endpoint::PAIR_BYTES_MAX) };
        rails.saturating_mul(endpoint::completions_bytes_max(limits)).saturating_add(sessions)
    }

    fn open(&self, options: EndpointOptions) -> io::Result<Rc<dyn Endpoint>> {
        options.limits.check()?;
        if !self.registered.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(Rc::new(RdmaEndpoint::new(Arc::clone(&self.rails), self.capabilities(), options)?))
    }
}

impl fmt::Debug for Rdma {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rdma").field("rails", &self.rails).finish_non_exhaustive()
    }
}
