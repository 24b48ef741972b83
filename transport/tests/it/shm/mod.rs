//! Shared memory: the suite with clients here and in another process, and what hostile ones try.

mod direct;
mod hostile;
mod parting;
mod process;

use crossdock_transport::{
    conformance::{Client, Subject},
    conformance_suite,
    memory::{Arena, ArenaOptions, PagePolicy},
    middleware::{Tracer, Wrapped},
    remote::{Access, Answer, Endpoint, EndpointOptions, Offer, RemoteSlice, SessionLimits, Transport},
    shm::{Event, Shm, ShmClient, ShmOptions},
};
use process::Process;
use std::{ops::Range, os::fd::OwnedFd, rc::Rc};

/// Clients of this process, offered by their sockets.
struct Here(Shm);

/// Clients of other processes, each with one of its own.
struct Elsewhere(Shm);

fn shm() -> Shm {
    Shm::new(ShmOptions::default())
}

conformance_suite!(conforms_here, Here(shm()));
conformance_suite!(conforms_elsewhere, Elsewhere(shm()));
conformance_suite!(conforms_traced, Traced::new());

/// Behind a middleware. Unlike memory of this process it has operations that only a poll ends.
struct Traced {
    inner: Here,
    transport: Wrapped<Shm>,
}

impl Traced {
    fn new() -> Traced {
        let shm = shm();
        let transport = Wrapped::new(shm.clone(), |_core| Rc::new(Tracer::default()));
        Traced { inner: Here(shm), transport }
    }
}

impl Subject for Traced {
    fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    fn client(&self, bytes: usize) -> Box<dyn Client> {
        self.inner.client(bytes)
    }
}

struct LocalClient {
    /// None when it is gone.
    client: Option<ShmClient>,
    offered: Option<OwnedFd>,
    /// What its memory was when it went, which nobody asks for again.
    bytes: usize,
}

impl Subject for Here {
    fn transport(&self) -> &dyn Transport {
        &self.0
    }

    fn client(&self, bytes: usize) -> Box<dyn Client> {
        let (client, offered) = ShmClient::pair(bytes as u64).unwrap();
        Box::new(LocalClient { client: Some(client), offered: Some(offered), bytes })
    }
}

impl LocalClient {
    fn client(&self) -> &ShmClient {
        self.client.as_ref().expect("it did not go away")
    }
}

impl Client for LocalClient {
    fn offer(&mut self) -> Offer {
        Offer { descriptor: self.offered.take(), ..Offer::default() }
    }

    fn answered(&mut self, answer: &Answer) {
        assert_eq!(self.client().poll(), Some(Event::Session(answer.session)));
    }

    fn expose(&mut self, range: Range<usize>, access: Access) -> RemoteSlice {
        self.client().expose(range, access).unwrap()
    }

    fn revoke(&mut self, slice: &RemoteSlice) {
        self.client().withdraw(slice).unwrap();
    }

    fn load(&self, range: Range<usize>) -> Vec<u8> {
        assert!(range.end <= self.bytes);
        let mut bytes = vec![0; range.len()];
        self.client().load(range.start, &mut bytes);
        bytes
    }

    fn store(&mut self, at: usize, source: &[u8]) {
        self.client().store(at, source);
    }

    fn vanish(&mut self) {
        self.client = None;
    }
}

impl Subject for Elsewhere {
    fn transport(&self) -> &dyn Transport {
        &self.0
    }

    fn client(&self, bytes: usize) -> Box<dyn Client> {
        Box::new(Process::start(bytes))
    }
}

fn options() -> EndpointOptions {
    let mut number = 0u64;
    let entropy = Box::new(move |bytes: &mut [u8]| {
        number += 1;
        bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, entropy)| *byte = entropy);
    });
    EndpointOptions { core: 5, limits: SessionLimits::default(), entropy }
}

fn arena() -> Arena {
    let options = ArenaOptions { bytes: 16 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    Arena::map(&options).unwrap()
}

fn open(transport: &Shm) -> (Arena, Rc<dyn Endpoint>) {
    let arena = arena();
    transport.register(&arena).unwrap();
    (arena, transport.open(options()).unwrap())
}
