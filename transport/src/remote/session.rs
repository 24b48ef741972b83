//! Sessions: their names, whose they are, and how they come about.

use super::{IN_FLIGHT, MESSAGES, MESSAGES_SEND, NOTIFY, NOTIFY_IMMEDIATE};
use crate::operation::OsError;
use std::{fmt, io, net::IpAddr, os::fd::OwnedFd, sync::Arc};

/// Who a session belongs to. A transport only compares principals; what the name means is its user's business.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Principal(Arc<str>);

impl Principal {
    /// The principal of that name.
    pub fn new(name: &str) -> Principal {
        Principal(name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The name of a session: which core it lives on, in the first two bytes, and 14 bytes that nobody can guess.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The session of core `core` that `entropy` names.
    pub fn new(core: u16, entropy: [u8; 14]) -> SessionId {
        let core = u128::from(core) << 112;
        let entropy = entropy.iter().fold(0, |number, &byte| number << 8 | u128::from(byte));
        SessionId((core | entropy).to_be_bytes())
    }

    /// The name as it came from a client.
    pub fn from_bytes(bytes: [u8; 16]) -> SessionId {
        SessionId(bytes)
    }

    /// The name as a client sees it, in hex for instance.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The core whose endpoint has the session, if there is one. What a client sends may name any core.
    pub fn core(&self) -> u16 {
        (u128::from_be_bytes(self.0) >> 112) as u16
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Part of it: the name is half of what an anonymous client needs.
        write!(formatter, "SessionId({:04x}..)", self.core())
    }
}

/// What a client sends to connect, in the terms of one transport.
#[derive(Debug, Default)]
pub struct Offer {
    /// What it is to be reached by: a queue pair's token, a name.
    pub token: String,
    /// Further values by name (a start sequence number, an MTU). Names a transport does not know are ignored.
    pub parameters: Vec<(String, String)>,
    /// A descriptor that was handed over with it: for shared memory, the socket that brings the memory.
    pub descriptor: Option<OwnedFd>,
    /// The address of this host that it came to, if it came over a network and that is known: of several ways to the client, one that works.
    pub came_to: Option<IpAddr>,
}

impl Offer {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        value_of(&self.parameters, name)
    }

    /// Whether the client asks to be told when bytes are there. Any other value than the one that is known asks for nothing.
    pub fn asks_for_notices(&self) -> bool {
        self.parameter(NOTIFY) == Some(NOTIFY_IMMEDIATE)
    }

    /// Whether the client sends messages and receives them.
    pub fn asks_for_messages(&self) -> bool {
        self.parameter(MESSAGES) == Some(MESSAGES_SEND)
    }
}

fn value_of<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// What a client is told when it is connected.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The session it has now.
    pub session: SessionId,
    /// What the server is to be reached by. Empty where the transport needs nothing.
    pub token: String,
    /// Further values by name.
    pub parameters: Vec<(String, String)>,
}

impl Answer {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        value_of(&self.parameters, name)
    }

    /// Whether the server sends messages and receives them.
    pub fn grants_messages(&self) -> bool {
        self.parameter(MESSAGES) == Some(MESSAGES_SEND)
    }

    /// Whether the server tells when bytes are there.
    pub fn grants_notices(&self) -> bool {
        self.parameter(NOTIFY) == Some(NOTIFY_IMMEDIATE)
    }

    /// How many requests over the session the server takes at a time, at least 1: one, unless it says that more may be in flight.
    pub fn requests_max(&self) -> usize {
        let said = self.parameter(IN_FLIGHT).and_then(|count| count.parse().ok());
        said.unwrap_or(1).max(1)
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The offer is not one of this transport, or not well formed.
    #[error("malformed offer: {0}")]
    Malformed(&'static str),
    /// The offer is well formed, and this transport cannot serve it.
    #[error("unsupported: {0}")]
    Unsupported(&'static str),
    /// The endpoint, or the principal on it, has as many sessions as it may have.
    #[error("too many sessions")]
    TooMany,
    /// The device or the kernel refused.
    #[error("the connection could not be set up: {0}")]
    Device(#[from] io::Error),
}

/// Why a transfer failed, as read from the [`OsError`] of its completion. Whatever it is, the lease came back with the
/// completion. After any of them an unknown part of the bytes may have arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The remote slice is not in memory that the peer exposes to this session (any more), or not for this direction.
    /// Sessions of some transports end with it.
    #[error("the peer does not expose that memory")]
    Refused,
    /// The session ended before the transfer did: disconnected, reset, or the peer is gone. It moves nothing any more.
    #[error("the session ended")]
    Ended,
    /// The transfer was cancelled before all of it had begun.
    #[error("cancelled")]
    Cancelled,
    /// The peer did not answer in time.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// Anything else.
    #[error("the transfer failed: {0}")]
    Device(OsError),
}

impl From<OsError> for TransferError {
    fn from(error: OsError) -> TransferError {
        match error.0 {
            libc::EACCES => TransferError::Refused,
            libc::ENOTCONN => TransferError::Ended,
            libc::ECANCELED => TransferError::Cancelled,
            libc::ETIMEDOUT => TransferError::TimedOut,
            _ => TransferError::Device(error),
        }
    }
}

impl From<TransferError> for OsError {
    fn from(error: TransferError) -> OsError {
        match error {
            TransferError::Refused => OsError(libc::EACCES),
            TransferError::Ended => OsError(libc::ENOTCONN),
            TransferError::Cancelled => OsError(libc::ECANCELED),
            TransferError::TimedOut => OsError(libc::ETIMEDOUT),
            TransferError::Device(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_names_its_core() {
        // Shows that the core is read back from the name, and that entropy does not disturb it.
        for core in [0, 1, 0x1234, u16::MAX] {
            let id = SessionId::new(core, [0xff; 14]);
            assert_eq!(id.core(), core);
            assert_eq!(SessionId::from_bytes(id.to_bytes()), id);
        }
        assert_ne!(SessionId::new(1, [0; 14]), SessionId::new(1, [1; 14]));
    }

    #[test]
    fn a_server_that_does_not_say_more_takes_one_at_a_time() {
        // Shows what an answer says of requests at a time, and what is taken for nothing.
        for (said, max) in [(None, 1), (Some("64"), 64), (Some("0"), 1), (Some("many"), 1), (Some("-3"), 1)] {
            let parameters = said.map(|count| (IN_FLIGHT.to_owned(), count.to_owned())).into_iter().collect();
            let answer = Answer { session: SessionId::new(0, [1; 14]), token: String::new(), parameters };
            assert_eq!(answer.requests_max(), max, "{said:?}");
        }
    }

    #[test]
    fn transfer_errors_survive_a_completion() {
        // Shows that a backend's error is read back as the one it meant.
        use TransferError::*;
        for error in [Refused, Ended, Cancelled, TimedOut, Device(OsError(libc::EIO))] {
            assert_eq!(TransferError::from(OsError::from(error)), error);
        }
    }
}
