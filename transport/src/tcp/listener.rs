//! Accepting connections.

use super::TcpStream;
use crate::{
    operation::{OsError, Pending},
    ring::{Ring, Socket},
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrAny, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt,
    },
};
use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

/// Connections that the kernel keeps until they are accepted; it lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Listens for connections, on one core. Not `Send`.
pub struct TcpListener {
    ring: Ring,
    socket: Rc<Socket>,
    address: SocketAddr,
    /// The accept in flight. Here and not in the future of [`TcpListener::accept`]: an accept that is begun, dropped and
    /// begun again must not leave a connection with the one that was dropped.
    pending: RefCell<Option<Pending>>,
}

impl TcpListener {
    /// Listens on `address`. With `share` (`SO_REUSEPORT`) every core has a listener on the same address, and the kernel
    /// spreads the connections over them.
    ///
    /// # Errors
    /// The address is taken, not ours, or not permitted.
    pub fn bind(ring: &Ring, address: SocketAddr, share: bool) -> io::Result<TcpListener> {
        let family = family(&address);
        let fd = socket_with(family, SocketType::STREAM, ring.socket_flags(), Some(ipproto::TCP))?;
        // Else a restart would wait for the connections of the last run to time out.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if share {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        bind(&fd, &address)?;
        listen(&fd, BACKLOG)?;
        let address = SocketAddr::try_from(getsockname(&fd)?)?;
        Ok(TcpListener { ring: ring.clone(), socket: ring.socket(fd), address, pending: RefCell::default() })
    }

    /// Where it listens; with the port that the kernel chose if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. One task accepts at a time; when two do, only the one that asked last is woken.
    ///
    /// # Errors
    /// The connection was reset while it waited (ask again), or there are no descriptors left (`EMFILE`, `ENFILE`: ask
    /// again after some were closed).
    ///
    /// # Cancellation
    /// No connection is lost: the next accept gets it.
    pub async fn accept(&self) -> Result<(TcpStream, SocketAddr), OsError> {
        loop {
            while let Some(fd) = self.socket.take_accepted() {
                sockopt::set_tcp_nodelay(&fd, true).map_err(os_error)?;
                // No peer: it was reset since it was accepted, and is not worth telling of.
                let peer = rustix::net::getpeername(&fd).ok().flatten();
                if let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) {
                    let stream = TcpStream::new(&self.ring, self.ring.socket(fd), peer);
                    return Ok((stream, peer));
                }
            }
            if self.pending.borrow().is_none() {
                let slot = self.ring.socket_queue().slot().await;
                let pending = self.ring.accept(slot, &self.socket);
                let before = self.pending.replace(Some(pending));
                drop(before);
            }
            self.accepted().await?;
        }
    }

    /// Waits for the accept in flight. Leaves it there if dropped.
    async fn accepted(&self) -> Result<(), OsError> {
        let completion = poll_fn(|cx| match self.pending.borrow_mut().as_mut() {
            Some(pending) => Pin::new(pending).poll(cx).map(Some),
            None => Poll::Ready(None),
        });
        match completion.await {
            Some(completion) => {
                self.pending.take();
                completion.result.map(drop)
            }
            // Another task took it.
            None => Ok(()),
        }
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpListener({})", self.address)
    }
}

pub(super) fn family(address: &SocketAddr) -> AddressFamily {
    SocketAddrAny::from(*address).address_family()
}

pub(super) fn os_error(error: Errno) -> OsError {
    OsError(error.raw_os_error())
}
