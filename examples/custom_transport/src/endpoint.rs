//! A core's endpoint: its sessions, and one descriptor to sleep on.

use crate::session::Session;
use crossdock_transport::remote::{
    Answer, ConnectError, Endpoint, EndpointOptions, Entropy, Offer, Principal, RemoteMemory, SessionId,
    SessionLimits, SessionTable,
};
use rustix::{
    event::{Timespec, epoll},
    net::{AddressFamily, SocketType, sockopt},
};
use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

/// How long TCP waits for a peer to acknowledge what was sent before it gives the connection up
/// (`TCP_USER_TIMEOUT`, <https://man7.org/linux/man-pages/man7/tcp.7.html>). Without it a host that lost its power holds what is
/// in flight to it for a quarter of an hour.
const PEER_SILENT_MAX_MS: u32 = 10_000;

pub(crate) struct StreamEndpoint {
    core: u16,
    entropy: RefCell<Entropy>,
    /// Readable at each edge of a stream, until a poll has taken it.
    epoll: OwnedFd,
    sessions: RefCell<SessionTable<Rc<Session>>>,
    /// Disconnected with operations in flight.
    draining: RefCell<Vec<Rc<Session>>>,
}

impl StreamEndpoint {
    pub(crate) fn new(options: EndpointOptions) -> io::Result<StreamEndpoint> {
        Ok(StreamEndpoint {
            core: options.core,
            entropy: RefCell::new(options.entropy),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sessions: RefCell::new(SessionTable::new(options.limits)),
            draining: RefCell::default(),
        })
    }

    /// Everything that may have a line.
    fn all(&self) -> Vec<Rc<Session>> {
        let mut all: Vec<_> = self.sessions.borrow().iter().map(Rc::clone).collect();
        all.extend(self.draining.borrow().iter().map(Rc::clone));
        all
    }

    fn run_all(&self) -> usize {
        let completed = self.all().iter().map(|session| session.run()).sum();
        self.draining.borrow_mut().retain(|session| !session.is_idle());
        completed
    }
}

/// Whether bytes can be sent and received over it in order.
fn is_stream(socket: BorrowedFd<'_>) -> bool {
    let connected = rustix::net::getpeername(socket).is_ok();
    connected && sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::STREAM)
}

impl Endpoint for StreamEndpoint {
    fn connect(&self, principal: &Principal, offer: Offer) -> Result<Answer, ConnectError> {
        self.sessions.borrow().admit(principal)?;
        let socket = offer.descriptor.ok_or(ConnectError::Malformed("no stream was offered"))?;
        if !is_stream(socket.as_fd()) {
            return Err(ConnectError::Malformed("the descriptor is no connected stream"));
        }
        let domain = sockopt::socket_domain(&socket).map_err(io::Error::from)?;
        if domain == AddressFamily::INET || domain == AddressFamily::INET6 {
            // Requests are short, and whoever waits for a read waits for one.
            sockopt::set_tcp_nodelay(&socket, true).map_err(io::Error::from)?;
            sockopt::set_tcp_user_timeout(&socket, PEER_SILENT_MAX_MS).map_err(io::Error::from)?;
        }
        let edges = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(0), edges).map_err(io::Error::from)?;
        let mut entropy = [0; 14];
        (self.entropy.borrow_mut())(&mut entropy);
        let id = SessionId::new(self.core, entropy);
        let credits = self.sessions.borrow().limits().credits;
        self.sessions.borrow_mut().insert(id, principal, Session::new(socket, credits));
        Ok(Answer { session: id, token: String::new(), parameters: Vec::new() })
    }

    fn session(&self, id: SessionId, principal: &Principal) -> Option<Rc<dyn RemoteMemory>> {
        let session = Rc::clone(self.sessions.borrow().find(id, principal)?);
        Some(session)
    }

    fn disconnect(&self, id: SessionId, principal: &Principal) -> bool {
        let Some(session) = self.sessions.borrow_mut().remove(id, principal) else { return false };
        // Somebody may have a copy of the descriptor, which would stay in the set.
        session.with_socket(|socket| {
            // Not there is what is wanted.
            let _ = epoll::delete(&self.epoll, socket);
        });
        session.end();
        if !session.is_idle() {
            self.draining.borrow_mut().push(session);
        }
        true
    }

    fn expire_idle(&self, now: Duration) -> usize {
        let expired = self.sessions.borrow_mut().expired(now, |session| session.take_used());
        expired.iter().filter(|(id, principal)| self.disconnect(*id, principal)).count()
    }

    fn session_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    fn limits(&self) -> SessionLimits {
        *self.sessions.borrow().limits()
    }

    fn poll(&self) -> usize {
        // Takes the edges first: one that comes later is found by the calls below or by the next poll.
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // An interrupted or failed wait leaves the descriptor readable, and costs one more poll.
        let _ = epoll::wait(&self.epoll, &mut events, Some(&now));
        self.run_all()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn begin_wait(&self) -> bool {
        // Sends what was posted since the poll. Whatever the streams do from here on is an edge.
        self.run_all() == 0 && self.draining.borrow().is_empty()
    }
}

impl Drop for StreamEndpoint {
    fn drop(&mut self) {
        for session in self.all() {
            session.end();
            // Those who are woken may post once more, which completes at once when the line is empty.
            while session.run() > 0 {}
        }
    }
}
