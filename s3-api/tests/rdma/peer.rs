//! A server with a card, and a client of it with memory that the test sees all of.

use crate::bench::{ALICE, Bench, Client, Reply};
use crossdock_s3::{client, protocol::http::Method};
use crossdock_transport::{
    rdma::{Rdma, RdmaClient, RdmaClientOptions, RdmaOptions},
    remote::{Access, RemoteSlice, SessionId},
    token::RcToken,
};
use std::{ops::Range, sync::Arc};

pub(crate) const POISON: u8 = 0xa5;

pub(crate) const TOKEN: &str = "x-amz-rdma-token";
pub(crate) const SESSION: &str = "x-amz-rdma-session";
pub(crate) const REPLY: &str = "x-amz-rdma-reply";
pub(crate) const BYTES: &str = "x-amz-rdma-bytes-transferred";

pub(crate) fn server() -> Bench {
    let rdma = Rdma::open(&RdmaOptions::default()).expect("this host has a card");
    Bench::with(Some(Arc::new(rdma)))
}

pub(crate) fn card(bytes: usize, notices: bool) -> RdmaClient {
    let options = RdmaClientOptions {
        device: None,
        server: None,
        bytes,
        revocation: None,
        sequence: 0x1234,
        messages: false,
        notices,
    };
    RdmaClient::new(&options).expect("this host has a card")
}

/// A client of the library, which signs as alice.
pub(crate) fn library_client(bench: &Bench, policy: client::Policy) -> client::Client {
    let (key, secret) = ALICE;
    let credentials =
        client::Credentials { access_key: key.into(), secret: secret.into(), region: "us-east-1".into() };
    client::Client::new(&bench.host(), credentials, crate::bench::now).policy(policy)
}

/// A client with a session, that says what it likes.
pub(crate) struct Peer {
    pub(crate) http: Client,
    pub(crate) memory: RdmaClient,
    pub(crate) session: SessionId,
}

impl Peer {
    pub(crate) fn new(bench: &Bench, bytes: usize) -> Peer {
        let memory = card(bytes, false);
        let answer = library_client(bench, client::Policy::Require).connect(&memory.offer()).unwrap();
        memory.connect(&answer).unwrap();
        Peer { http: bench.client(ALICE), memory, session: answer.session }
    }

    /// The same, with a bucket.
    pub(crate) fn with_bucket(bench: &Bench, bytes: usize) -> Peer {
        let mut peer = Peer::new(bench, bytes);
        assert_eq!(peer.http.call(Method::Put, "/bucket", &[], b"").status, 200);
        peer
    }

    pub(crate) fn token_of(&self, slice: RemoteSlice) -> String {
        RcToken { session: self.session, slice }.to_string()
    }

    pub(crate) fn expose(&self, range: Range<usize>, access: Access) -> (RemoteSlice, String) {
        let slice = self.memory.expose(range, access).unwrap();
        (slice, self.token_of(slice))
    }

    pub(crate) fn withdraw(&self, slice: RemoteSlice) {
        self.memory.withdraw(&slice);
        while self.memory.poll() != Some(slice) {}
    }

    pub(crate) fn load(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        self.memory.load(range.start, &mut bytes);
        bytes
    }

    /// GET into the middle of poisoned memory; gives the reply and what came, which nothing lies beside.
    pub(crate) fn get(&mut self, path: &str, room: usize, headers: &[(&str, &str)]) -> (Reply, Vec<u8>) {
        let margin = 4096;
        self.memory.store(0, &vec![POISON; room + 2 * margin]);
        let (slice, token) = self.expose(margin..margin + room, Access::Write);
        let headers = [headers, &[(TOKEN, &token)]].concat();
        let reply = self.http.call(Method::Get, path, &headers, b"");
        self.withdraw(slice);
        let moved = reply.header(BYTES).map_or(0, |bytes| bytes.parse().unwrap());
        let found = self.load(0..room + 2 * margin);
        // What was declined may have been begun.
        let written = if reply.header(REPLY) == Some("501") { room } else { moved };
        let untouched = found[..margin].iter().chain(&found[margin + written..]);
        assert!(untouched.copied().all(|byte| byte == POISON), "{path}: beside the bytes");
        (reply, found[margin..margin + moved].to_vec())
    }

    pub(crate) fn put(&mut self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Reply {
        self.memory.store(100, body);
        let (slice, token) = self.expose(100..100 + body.len(), Access::Read);
        let headers = [headers, &[(TOKEN, &token)]].concat();
        let reply = self.http.call(Method::Put, path, &headers, b"");
        self.withdraw(slice);
        reply
    }
}

pub(crate) fn pattern(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(|_| next()).collect()
}
