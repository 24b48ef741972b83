//! The reference transport: the suite, and what only it does.

use crossdock_transport::{
    conformance::{Client, Subject},
    conformance_suite,
    loopback::{Loopback, LoopbackPeer},
    remote::{Access, Answer, NOTIFY, NOTIFY_IMMEDIATE, Offer, RemoteSlice, Transport},
};
use std::ops::Range;

/// A transport within this process, and clients of it.
#[derive(Default)]
pub(crate) struct LoopbackSubject(Loopback);

impl LoopbackSubject {
    pub(crate) fn loopback(&self) -> &Loopback {
        &self.0
    }
}

/// A client that is a peer, and how it offers itself.
pub(crate) struct LoopbackClient {
    peer: LoopbackPeer,
    make_offer: Box<dyn Fn(&LoopbackPeer) -> Offer>,
}

impl LoopbackClient {
    pub(crate) fn new(
        peer: LoopbackPeer,
        make_offer: impl Fn(&LoopbackPeer) -> Offer + 'static,
    ) -> LoopbackClient {
        LoopbackClient { peer, make_offer: Box::new(make_offer) }
    }
}

impl Subject for LoopbackSubject {
    fn transport(&self) -> &dyn Transport {
        &self.0
    }

    fn client(&self, bytes: usize) -> Box<dyn Client> {
        let transport = self.0.clone();
        Box::new(LoopbackClient::new(LoopbackPeer::new(bytes), move |peer| transport.offer(peer)))
    }
}

impl Client for LoopbackClient {
    fn offer(&mut self) -> Offer {
        let mut offer = (self.make_offer)(&self.peer);
        offer.parameters.push((NOTIFY.to_owned(), NOTIFY_IMMEDIATE.to_owned()));
        offer
    }

    fn answered(&mut self, _answer: &Answer) {}

    fn expose(&mut self, range: Range<usize>, access: Access) -> RemoteSlice {
        self.peer.expose(range, access)
    }

    fn revoke(&mut self, slice: &RemoteSlice) {
        self.peer.revoke(slice);
    }

    fn load(&self, range: Range<usize>) -> Vec<u8> {
        self.peer.with_bytes(|bytes| bytes[range].to_vec())
    }

    fn store(&mut self, at: usize, source: &[u8]) {
        self.peer.with_bytes(|bytes| {
            bytes[at..at + source.len()].iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        });
    }

    fn take_notice(&mut self) -> Option<u32> {
        self.peer.take_notice()
    }

    fn vanish(&mut self) {
        self.peer.vanish();
    }
}

conformance_suite!(conforms, LoopbackSubject::default());

#[test]
fn an_offer_connects_once() {
    // Shows that the same offer is refused the second time, so that offers do not pile up.
    use crossdock_transport::{
        memory::{Arena, ArenaOptions, PagePolicy},
        remote::{ConnectError, EndpointOptions, Principal, SessionLimits},
    };
    let transport = Loopback::new();
    let options = ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    transport.register(&Arena::map(&options).unwrap()).unwrap();
    let mut number = 0;
    let entropy = Box::new(move |bytes: &mut [u8]| {
        number += 1;
        bytes.fill(number);
    });
    let options = EndpointOptions { core: 0, limits: SessionLimits::default(), entropy };
    let endpoint = transport.open(options).unwrap();
    let offer = transport.offer(&LoopbackPeer::new(1));
    let again = Offer { token: offer.token.clone(), ..Offer::default() };
    let principal = Principal::new("alice");
    assert!(endpoint.connect(&principal, offer).is_ok());
    assert!(matches!(endpoint.connect(&principal, again), Err(ConnectError::Malformed(_))));
}
