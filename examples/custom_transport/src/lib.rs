//! A transport in a crate of its own: the memory of clients that have nothing but a byte stream.
//!
//! It is what `docs/writing_a_transport.md` leads to. Over TCP it gives clients without an RDMA card the same interface, at the
//! price of a copy in each kernel: the server names memory, and an agent beside the client moves it.
//!
//! ```text
//!   server, a core                                              client's host
//!   Streams::open ─► endpoint                                   Agent: memory, and what is exposed of it
//!     connect(principal, the stream's descriptor) ─► session      serve(stream), on a thread of its own
//!     write(lease → remote) ── request, bytes ────────────────────► into the memory
//!     read(remote → lease)  ── request ───────────────────────────►
//!                           ◄──────────────────── answer, bytes ── out of it
//! ```
//!
//! Where the stream comes from is its user's affair: a front end that took a connection over from HTTP, a socket pair. The
//! agent refuses what is not exposed, since only it knows; the server believes nothing it says but bytes of a length that was asked
//! for.
//!
//! An engine takes it as it takes those of the library:
//!
//! ```text
//!   Engine::builder().path(…).transport(Arc::new(Streams::new())).on_each_core(|engine, driver| async move {
//!       let endpoint = driver.endpoint("streams")…
//! ```
//!
//! What is special about it, beside the backends of the library: operations are completed by what comes from a peer, not by a device, so
//! nothing but this crate's own calls ever touches a lease, and a session that ends lets go of everything at once.
//!
//! What it does not have: a limit on how long an agent that is alive may take for an answer. Whoever needs one disconnects.

/// The pieces of code in the guide, which are tried with the tests of these pages.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/writing_a_transport.md")]
struct Guide;

mod agent;
mod endpoint;
mod frame;
mod session;

pub use agent::Agent;

use crossdock_transport::{
    memory::Arena,
    remote::{Capabilities, Endpoint, EndpointOptions, Medium, Transport},
};
use endpoint::StreamEndpoint;
use std::{
    io,
    rc::Rc,
    sync::{Arc, OnceLock},
};

/// The medium is the nearest there is: a network, driven by the processor. Whoever wants to know more asks for the name.
const CAPABILITIES: Capabilities = Capabilities {
    medium: Medium::SoftwareCard,
    operation_bytes_max: 1 << 30,
    pieces_max: 1024,
    directional: true,
    revocable: true,
    survives_refusal: true,
    foreign_memory: false,
    peer_leases: false,
    notices: false,
    message_bytes_max: 0,
};

/// The transport. Cheap to clone; clones are the same transport.
///
/// Its offers are descriptors of connected stream sockets (TCP, Unix), of which the other end is served by an [`Agent`].
#[derive(Clone, Default, Debug)]
pub struct Streams(Arc<OnceLock<Arena>>);

impl Streams {
    /// A transport without an arena.
    pub fn new() -> Streams {
        Streams::default()
    }
}

impl Transport for Streams {
    fn name(&self) -> &'static str {
        "streams"
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn register(&self, arena: &Arena) -> io::Result<()> {
        self.0.set(arena.clone()).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    fn open(&self, options: EndpointOptions) -> io::Result<Rc<dyn Endpoint>> {
        if self.0.get().is_none() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        Ok(Rc::new(StreamEndpoint::new(options)?))
    }
}
