//! Connections that go to the core of their session.
//!
//! ```text
//!   core 0: accepted here ─► request over a session of core 1: done there, answered here
//!             └── the next requests are likely of the same session: socket, and bytes that came ahead ──► core 1: serves it on
//! ```
//!
//! The kernel deals connections out to cores, and a session lives on the core that its connect came to. A client that has several
//! connections would have each request of most of them cross cores, there and back, and pay with two wake-ups. So a connection follows
//! its session, once that has moved bytes for it: then the sender is known and the session is theirs, and nobody who only names a core can
//! choose where others have to work.
//!
//! Invariants
//! * Nothing of a connection is in flight when it goes, and what was received of its next requests goes with it.
//! * A core takes as many connections as if they had been accepted there; one that is full, or is about to stop, sends it back.
//! * A connection of HTTPS stays: its records are in memory of its core's.

use super::{
    connection,
    listener::{Open, Shared},
};
use crossdock::{CoreEngine, reactor::Moment};
use crossdock_transport::tcp::Detached;
use std::{
    cell::RefCell,
    rc::{Rc, Weak},
};

/// How often one connection goes to another core: a client that uses sessions of several cores in turn would have it go for ever.
pub(super) const MOVES_MAX: u8 = 4;

/// A connection between two cores.
pub(super) struct Handed {
    pub(super) stream: Detached,
    /// Received, and not used.
    pub(super) pending: Vec<u8>,
    /// When the last of it came.
    pub(super) received: Moment,
    pub(super) moves_left: u8,
}

/// The servers that run on a core: an embedder may have several.
#[derive(Default)]
struct Servers(RefCell<Vec<Weak<Shared>>>);

/// A server's part on one core can be found there for as long as this lives.
pub(super) struct Running(Rc<Shared>);

impl Running {
    pub(super) fn new(shared: &Rc<Shared>) -> Running {
        let engine = &shared.engine;
        if engine.attached::<Servers>().is_none() {
            engine.attach(Rc::new(Servers::default()));
        }
        if let Some(servers) = engine.attached::<Servers>() {
            servers.0.borrow_mut().push(Rc::downgrade(shared));
        }
        Running(shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(servers) = self.0.engine.attached::<Servers>() {
            servers.0.borrow_mut().retain(|server| !std::ptr::eq(server.as_ptr(), &*self.0));
        }
    }
}

/// Sends a connection to the same server's part on that core.
///
/// # Errors
/// With the connection, which is to stay. Without, if the other core has stopped: it is closed then.
pub(super) async fn send(shared: &Rc<Shared>, core: usize, handed: Handed) -> Result<(), Option<Handed>> {
    let address = shared.address;
    let taken = shared.engine.on_core(core, move |engine| async move { take(&engine, address, handed) });
    match taken.await {
        Ok(taken) => taken.map_err(Some),
        Err(_) => Err(None),
    }
}

fn take(engine: &CoreEngine, address: std::net::SocketAddr, handed: Handed) -> Result<(), Handed> {
    let servers = engine.attached::<Servers>();
    let server = servers.and_then(|servers| {
        let servers = servers.0.borrow();
        servers.iter().filter_map(Weak::upgrade).find(|server| server.address == address)
    });
    let Some(server) = server.filter(|server| server.has_room()) else { return Err(handed) };
    let open = Open::new(&server);
    let core = engine.core().clone();
    core.spawn(async move {
        connection::resume(open.shared().clone(), handed).await;
        drop(open);
    })
    .detach();
    Ok(())
}
