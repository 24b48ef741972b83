//! The suite that every transport passes, over Unix and TCP streams; and an engine that uses it.

#![allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]

mod engine;

use crossdock_custom_transport::{Agent, Streams};
use crossdock_transport::{
    conformance::{Client, Subject},
    conformance_suite,
    remote::{Access, Answer, Offer, RemoteSlice, Transport},
};
use std::{
    net::{Shutdown, TcpListener, TcpStream},
    ops::Range,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

conformance_suite!(conforms_over_unix_streams, Over::new(unix_pair));
conformance_suite!(conforms_over_tcp, Over::new(tcp_pair));

/// What hangs up in the name of a client that goes away.
pub(crate) type HangUp = Box<dyn Fn()>;

/// Makes a connected pair, serves one end, and gives the other and a way to break the connection.
type Pair = fn(Agent) -> (OwnedFd, HangUp);

struct Over {
    transport: Streams,
    pair: Pair,
}

impl Over {
    fn new(pair: Pair) -> Over {
        Over { transport: Streams::new(), pair }
    }
}

pub(crate) fn unix_pair(agent: Agent) -> (OwnedFd, HangUp) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = theirs.try_clone().unwrap();
    serve(move || agent.serve(served));
    (ours.into(), Box::new(move || drop(theirs.shutdown(Shutdown::Both))))
}

fn tcp_pair(agent: Agent) -> (OwnedFd, HangUp) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let served = theirs.try_clone().unwrap();
    serve(move || agent.serve(served));
    (ours.into(), Box::new(move || drop(theirs.shutdown(Shutdown::Both))))
}

#[expect(clippy::disallowed_methods, reason = "the client is another thread")]
pub(crate) fn serve(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    // It ends with its stream, in whatever way that ends.
    drop(std::thread::spawn(work));
}

struct AgentClient {
    agent: Agent,
    pair: Pair,
    hang_up: Option<HangUp>,
}

impl Subject for Over {
    fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    fn client(&self, bytes: usize) -> Box<dyn Client> {
        Box::new(AgentClient { agent: Agent::new(bytes), pair: self.pair, hang_up: None })
    }
}

impl Client for AgentClient {
    fn offer(&mut self) -> Offer {
        let (socket, hang_up) = (self.pair)(self.agent.clone());
        self.hang_up = Some(hang_up);
        Offer { descriptor: Some(socket), ..Offer::default() }
    }

    fn answered(&mut self, _answer: &Answer) {}

    fn expose(&mut self, range: Range<usize>, access: Access) -> RemoteSlice {
        self.agent.expose(range, access)
    }

    fn revoke(&mut self, slice: &RemoteSlice) {
        self.agent.revoke(slice);
    }

    fn load(&self, range: Range<usize>) -> Vec<u8> {
        self.agent.with_bytes(|bytes| bytes[range].to_vec())
    }

    fn store(&mut self, at: usize, source: &[u8]) {
        self.agent.with_bytes(|bytes| {
            bytes[at..at + source.len()].iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        });
    }

    fn vanish(&mut self) {
        if let Some(hang_up) = &self.hang_up {
            hang_up();
        }
    }
}
