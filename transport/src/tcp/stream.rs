//! A connection.

use super::listener::{family, os_error};
use crate::{
    memory::{BufferLease, ScatterList},
    operation::OsError,
    ring::{Ring, Socket},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::{
    Shutdown, SocketAddrAny, SocketFlags, SocketType, connect_unspec, getsockname, ipproto, shutdown,
    socket_with, sockopt,
};
use std::{fmt, net::SocketAddr, rc::Rc, time::Duration};

/// A connection, on one core. Not `Send`, cheap to clone. Closed when the last clone and the last operation are gone.
///
/// One task may receive while another sends. After a receive or a send was dropped before its end, what it has moved is
/// not known: such a connection can only be closed.
#[derive(Clone)]
pub struct TcpStream {
    ring: Ring,
    socket: Rc<Socket>,
    peer: SocketAddr,
}

impl TcpStream {
    pub(super) fn new(ring: &Ring, socket: Rc<Socket>, peer: SocketAddr) -> TcpStream {
        TcpStream { ring: ring.clone(), socket, peer }
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// Refused, unreachable, timed out by the kernel, or out of descriptors.
    pub async fn connect(ring: &Ring, address: SocketAddr) -> Result<TcpStream, OsError> {
        let kind = (family(&address), SocketType::STREAM, ring.socket_flags());
        let fd = socket_with(kind.0, kind.1, kind.2, Some(ipproto::TCP)).map_err(os_error)?;
        sockopt::set_tcp_nodelay(&fd, true).map_err(os_error)?;
        let socket = ring.socket(fd);
        let slot = ring.socket_queue().slot().await;
        ring.connect(slot, &socket, SocketAddrAny::from(address)).await.result?;
        Ok(TcpStream::new(ring, socket, address))
    }

    /// Takes the connection from its core, to go on with it on another one ([`TcpStream::attach`]): with all options that were set, and
    /// with the bytes that nobody received yet.
    ///
    /// # Errors
    /// With the connection: it has clones, or an operation uses it. A send without a copy does until the peer has acknowledged it.
    pub fn detach(self) -> Result<Detached, TcpStream> {
        let TcpStream { ring, socket, peer } = self;
        match ring.release(socket) {
            Ok(fd) => Ok(Detached { fd, peer }),
            Err(socket) => Err(TcpStream { ring, socket, peer }),
        }
    }

    /// Goes on with a connection on the core of `ring`.
    ///
    /// # Errors
    /// The descriptor can not be made one for this ring; the connection is closed.
    pub fn attach(ring: &Ring, detached: Detached) -> Result<TcpStream, OsError> {
        let Detached { fd, peer } = detached;
        // Rings differ in whether they want it to block.
        let nonblocking = ring.socket_flags().contains(SocketFlags::NONBLOCK);
        rustix::io::ioctl_fionbio(&fd, nonblocking).map_err(os_error)?;
        Ok(TcpStream::new(ring, ring.socket(fd), peer))
    }

    /// Receives at least one and at most `limit` bytes behind the lease's `len`, and moves its `len` behind them. Gives
    /// 0 when the peer has closed its side.
    ///
    /// # Errors
    /// The connection is gone (`ECONNRESET`, `ETIMEDOUT`), or the lease has no room (`ENOBUFS`, also for a limit of 0). The
    /// lease comes back with what it held.
    ///
    /// # Cancellation
    /// Dropping the future asks the kernel to cancel; the lease goes back to its pool when the kernel has let go of it.
    pub async fn receive(&self, lease: BufferLease, limit: usize) -> (BufferLease, Result<usize, OsError>) {
        let at = lease.len();
        let bytes = limit.min(lease.capacity() - at);
        if bytes == 0 {
            return (lease, Err(OsError(libc::ENOBUFS)));
        }
        let slot = self.ring.socket_queue().slot().await;
        let completion = self.ring.receive(slot, &self.socket, lease, at, bytes).await;
        let (result, mut lease) = completion.into_lease();
        match result {
            Ok(count) => {
                let count = count as usize;
                // The driver has checked that the count is within the bytes asked for.
                lease.set_len(at + count);
                (lease, Ok(count))
            }
            Err(error) => (lease, Err(error)),
        }
    }

    /// Sends all pieces, in order: one vectored send where possible, without a copy when that is worth it. Done when the
    /// kernel has taken the bytes; the pieces are given back when the network has let go of them, which without a copy is
    /// when the peer has acknowledged them.
    ///
    /// # Errors
    /// The connection is gone (`EPIPE`, `ECONNRESET`, `ETIMEDOUT`). How much the peer got is not known.
    ///
    /// # Cancellation
    /// Dropping the future asks the kernel to cancel. What was sent by then is not known; the connection can only be closed.
    ///
    /// # Panics
    /// If there are 4 GiB or more.
    pub async fn send_all(&self, source: ScatterList) -> Result<(), OsError> {
        if source.bytes() == 0 {
            return Ok(());
        }
        let slot = self.ring.socket_queue().slot().await;
        self.ring.send(slot, &self.socket, source).await.result.map(drop)
    }

    /// Tells the peer that nothing more will come. A connection that is gone already is left alone.
    pub fn shutdown_write(&self) {
        if let Err(error) = shutdown(self.socket.fd(), Shutdown::Write) {
            tracing::trace!(%error, peer = %self.peer, "shutdown");
        }
    }

    /// Ends the connection at once, both ways, and lets go of what was not sent yet: the peer sees a reset. What is sent without
    /// a copy belongs to the network until the peer has acknowledged it, and a peer that takes nothing never does: closing
    /// would wait for it.
    pub fn abort(&self) {
        // The kernel's way to take a connection apart (connect(2), "AF_UNSPEC").
        if let Err(error) = connect_unspec(self.socket.fd()) {
            tracing::trace!(%error, peer = %self.peer, "abort");
        }
    }

    /// Has the kernel end the connection when what was sent is not acknowledged, or can not be sent because the peer takes
    /// nothing, for `limit`; also after it was closed here, when nobody else looks after it any more.
    /// (tcp(7), `TCP_USER_TIMEOUT`.)
    pub fn give_up_after(&self, limit: Duration) {
        let milliseconds = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = sockopt::set_tcp_user_timeout(self.socket.fd(), milliseconds) {
            tracing::trace!(%error, peer = %self.peer, "user timeout");
        }
    }

    /// Whether the peer has closed its side, or the connection is gone. Looks, and reads nothing; a peer that only sends no more
    /// counts as well.
    pub fn is_closed_by_peer(&self) -> bool {
        let closed = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut looked_at = [PollFd::from_borrowed_fd(self.socket.fd(), PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // That it could not be looked at says nothing.
        poll(&mut looked_at, Some(&now)).is_ok() && looked_at.iter().any(|fd| fd.revents().intersects(closed))
    }

    /// The other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// This end: asks the kernel. None if it does not say.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        getsockname(self.socket.fd()).ok().and_then(|address| address.try_into().ok())
    }
}

/// A connection that is on no core. Closed when dropped.
#[derive(Debug)]
pub struct Detached {
    fd: OwnedFd,
    peer: SocketAddr,
}

impl Detached {
    /// The other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpStream({})", self.peer)
    }
}
