//! Transfers whose sender is gone, whichever way its request came: by HTTPS, or through another HTTP stack. Over plain HTTP it is a row of
//! the table of faults.

use crate::{
    bench::{ALICE, Bench, Client, connect, pause},
    faults::stage::{PATIENCE, REPLY, SESSION, TOKEN, Watch, pattern, wait_until},
    http_front::{self, PEER, pieces, request},
    tls::{certificate, session},
};
use crossdock_s3::{
    protocol::{
        http::Method::{self, Get, Head, Post, Put},
        remote::parse_session,
    },
    server::{ServerMetrics, TlsSettings, render},
};
use crossdock_transport::{
    loopback::LoopbackPeer,
    remote::{Access, SessionId},
    simulated::{SimulatedFaults, SimulatedNic},
    token::RcToken,
};
use futures_lite::future::{block_on, poll_once};
use rustls::{StreamOwned, version::TLS13};
use std::{io::Write, net::Shutdown, pin::pin, sync::Arc};

/// Bytes of an object, of which a transfer takes about a second: more than are in flight at a time.
const BODY: usize = 6 << 20;
const TIMEOUT: (&str, &str) = ("x-amz-rdma-timeout-ms", "60000");

/// A client's memory behind a slow card, all of it 1, and what the server does there.
struct Peer {
    memory: LoopbackPeer,
    session: SessionId,
    watch: Arc<Watch>,
}

fn slow() -> (SimulatedNic, Arc<Watch>) {
    let faults = SimulatedFaults { delay_polls_max: 60, step_bytes_max: 1024, ..SimulatedFaults::none(1) };
    (SimulatedNic::new(faults), Arc::default())
}

impl Peer {
    fn new(nic: &SimulatedNic, watch: &Arc<Watch>, http: &mut Client) -> Peer {
        assert_eq!(http.call(Put, "/bucket", &[], b"").status, 200);
        assert_eq!(http.call(Put, "/bucket/key", &[], &pattern(BODY, 1)).status, 200);
        assert_eq!(http.call(Put, "/bucket/small", &[], &[7; 1000]).status, 200);
        let memory = LoopbackPeer::new(BODY);
        memory.with_bytes(|bytes| bytes.fill(1));
        let offer = nic.offer(&memory);
        let parameters = offer.parameters.iter().map(|(name, value)| (format!("x-amz-rdma-{name}"), value));
        let parameters: Vec<_> = parameters.collect();
        let mut headers = vec![(TOKEN, &*offer.token)];
        headers.extend(parameters.iter().map(|(name, value)| (&**name, &***value)));
        let reply = http.call(Post, "/.s3rdma-rc/connect", &headers, b"");
        let session = SessionId::from_bytes(parse_session(reply.header(SESSION).unwrap()).unwrap());
        Peer { memory, session, watch: watch.clone() }
    }

    fn token(&self, bytes: usize, access: Access) -> String {
        RcToken { session: self.session, slice: self.memory.expose(0..bytes, access) }.to_string()
    }

    /// A request that takes a second, and its token.
    fn request(&self, method: Method) -> (&'static str, String) {
        match method {
            Get => ("/bucket/key", self.token(BODY, Access::Write)),
            _ => ("/bucket/new", self.token(BODY, Access::Read)),
        }
    }

    /// Whether something has begun since `before` was counted.
    fn is_begun(&self, before: u64) -> bool {
        self.watch.begun() > before
    }

    /// That the transfer which began after `before` was counted ended before its time, and only that.
    fn assert_cancelled(&self, before: u64, metrics: &[Arc<ServerMetrics>], http: &mut Client) {
        wait_until("it is counted", || render(metrics, &[], &[]).contains("reason=\"cancelled\"} 1"));
        pause(100);
        let (posted, all) = (self.watch.begun() - before, (BODY >> 20) as u64);
        assert!(posted < all, "{posted} of {all}");
        assert_eq!(http.call(Head, "/bucket/new", &[], b"").status, 404);
        let token = self.token(1000, Access::Write);
        let reply = http.call(Get, "/bucket/small", &[(TOKEN, &token), TIMEOUT], b"");
        assert_eq!(
            (reply.status, reply.header(REPLY)),
            (200, Some("200")),
            "the session is as good as before"
        );
        self.memory.with_bytes(|bytes| assert!(bytes[..1000].iter().all(|byte| *byte == 7)));
    }
}

#[test]
fn a_connection_of_https_that_ends_cancels() {
    // Shows a client that is cut off, and one that says that nothing more comes, ends its half that sends, and would listen still: as over HTTP
    // that half is all that matters.
    for (method, cut) in [(Get, true), (Put, true), (Get, false), (Put, false)] {
        let (certificate, config) = certificate();
        let (nic, watch) = slow();
        let settings = Arc::new(TlsSettings::new(config));
        let bench = Bench::secure(watch.over(nic.clone()), PATIENCE, settings);
        let address = bench.address();
        let stream = move || StreamOwned::new(session(&certificate, &TLS13), connect(address));
        let mut connection = stream();
        let mut http = bench.client_over(ALICE, move || Box::new(stream()));
        let peer = Peer::new(&nic, &watch, &mut http);
        let (path, token) = peer.request(method);
        let before = watch.begun();
        connection.write_all(&http.request(method, path, &[(TOKEN, &token), TIMEOUT], b"")).unwrap();
        connection.flush().unwrap();
        wait_until("bytes move", || peer.is_begun(before));
        if cut {
            connection.sock.shutdown(Shutdown::Both).unwrap();
        } else {
            connection.conn.send_close_notify();
            connection.flush().unwrap();
            connection.sock.shutdown(Shutdown::Write).unwrap();
        }
        peer.assert_cancelled(before, bench.server.metrics(), &mut http);
    }
}

#[test]
fn a_request_that_another_stack_drops_is_cancelled() {
    // Shows that a stack which stops waiting for the answer, as one does whose connection is gone, has the transfer ended.
    for method in [Get, Put] {
        let (nic, watch) = slow();
        let bench = Bench::patient(watch.over(nic.clone()), PATIENCE);
        let front = http_front::front(&bench);
        let mut http = bench.client(ALICE);
        let peer = Peer::new(&nic, &watch, &mut http);
        let (path, token) = peer.request(method);
        let before = watch.begun();
        block_on(async {
            let named = [(TOKEN, &*token), TIMEOUT];
            let mut call = pin!(front.call(request(ALICE, method, path, &named, pieces([])), PEER()));
            while !peer.is_begun(before) {
                assert!(poll_once(&mut call).await.is_none(), "it is slow");
                pause(2);
            }
        });
        peer.assert_cancelled(before, front.metrics(), &mut http);
    }
}
