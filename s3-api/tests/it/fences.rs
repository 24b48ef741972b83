//! When a session is ended for what hangs in it, when it is not, and what is known when it has ended.

use crate::bench::{ALICE, BOB, Bench, Client, Reply, pause};
use crate::faults::stage::{REPLY, SESSION, TOKEN, pattern, wait_until};
use crossdock_s3::protocol::{
    http::Method::{self, Get, Post, Put},
    remote::format_session,
};
use crossdock_transport::{
    loopback::LoopbackPeer,
    memory::BufferLease,
    remote::{Access, Principal, RemoteMemory, SessionId},
    simulated::{SimulatedFaults, SimulatedNic},
    token::{RcToken, ShmToken},
};
use futures_lite::future::block_on;
use std::{cell::RefCell, rc::Rc, sync::Arc, thread, time::Duration};

/// A client's memory behind a card that does not exist, and its session.
struct Card {
    memory: LoopbackPeer,
    session: SessionId,
}

impl Card {
    fn connect(nic: &SimulatedNic, http: &mut Client, bytes: usize) -> Card {
        let memory = LoopbackPeer::new(bytes);
        let offer = nic.offer(&memory);
        let parameters: Vec<_> = offer
            .parameters
            .iter()
            .map(|(name, value)| (format!("x-amz-rdma-{name}"), value.clone()))
            .collect();
        let mut headers = vec![(TOKEN, &*offer.token)];
        headers.extend(parameters.iter().map(|(name, value)| (&**name, &**value)));
        let reply = http.call(Post, "/.s3rdma-rc/connect", &headers, b"");
        let session = crossdock_s3::protocol::remote::parse_session(reply.header(SESSION).unwrap()).unwrap();
        Card { memory, session: SessionId::from_bytes(session) }
    }

    fn token(&self, bytes: usize, access: Access) -> String {
        RcToken { session: self.session, slice: self.memory.expose(0..bytes, access) }.to_string()
    }
}

/// Sends the request from a thread of its own.
#[allow(clippy::disallowed_methods, reason = "a client that does two things at once")]
fn call(
    bench: &Bench,
    method: Method,
    path: &str,
    token: String,
    timeout_ms: &'static str,
) -> thread::JoinHandle<Reply> {
    let (mut http, path) = (bench.client(ALICE), path.to_owned());
    thread::spawn(move || {
        http.call(method, &path, &[(TOKEN, &token), ("x-amz-rdma-timeout-ms", timeout_ms)], b"")
    })
}

/// Leases that are held on a core.
struct Held(RefCell<Vec<BufferLease>>);

#[test]
fn a_wait_for_memory_ends_no_session() {
    // Shows a PUT that finds no memory on its core until its deadline: it fails then, and not when it would be told that there is none, and
    // its session, in which nothing of it ever was, goes on.
    let bench = Bench::new();
    let (memory, session) = bench.memory(4 << 20);
    let id = SessionId::from_bytes(session);
    let mut http = bench.client(ALICE);
    assert_eq!(http.call(Put, "/bucket", &[], b"").status, 200);
    let name = [(SESSION, &*format_session(session))];
    assert_eq!(http.call(Post, "/.crossdock-shm/bind", &name, b"").status, 200);
    let put = |http: &mut Client, bytes: usize| {
        let slice = memory.expose(0..bytes, Access::Read).unwrap();
        let token = ShmToken::new(id, slice.address(), slice.bytes()).unwrap().to_string();
        http.call(Put, "/bucket/key", &[(TOKEN, &token), ("x-amz-rdma-timeout-ms", "500")], b"")
    };
    let core = usize::from(id.core());
    let take = bench.engine().on_core(core, |engine| async move {
        let all = std::iter::from_fn(|| engine.core().pool().try_acquire(1 << 20)).collect();
        engine.attach(Rc::new(Held(RefCell::new(all))));
    });
    block_on(take).unwrap();
    let reply = put(&mut http, 2 << 20);
    assert_eq!((reply.status, &*reply.code()), (500, "RDMATransferFailed"));
    assert!(String::from_utf8_lossy(&reply.body).contains("<Reason>late</Reason>"));
    // Longer than the server is patient.
    pause(1200);
    let give = bench.engine().on_core(core, |engine| async move {
        engine.attached::<Held>().unwrap().0.take();
        engine.core().pool().drain_returns();
    });
    block_on(give).unwrap();
    let reply = put(&mut http, 1 << 20);
    assert_eq!((reply.status, reply.header(REPLY)), (200, Some("200")), "{}", reply.code());
}

/// A session that is held on its core.
struct Kept(Rc<dyn RemoteMemory>);

#[test]
fn a_session_has_ended_when_its_client_is_told_so() {
    // Shows that the reply to a disconnect in the middle of a transfer comes when the card is done with the client's memory, however long
    // that takes, also where it is asked for twice; and that nobody else is made to wait.
    let faults = SimulatedFaults { delay_polls_max: 40_000, ..SimulatedFaults::none(1) };
    let nic = SimulatedNic::new(faults);
    let bench = Bench::with(Some(Arc::new(nic.clone())));
    let mut http = bench.client(ALICE);
    assert_eq!(http.call(Put, "/bucket", &[], b"").status, 200);
    assert_eq!(http.call(Put, "/bucket/key", &[], &pattern(5 << 20, 1)).status, 200);
    for (method, access) in [(Get, Access::Write), (Put, Access::Read)] {
        let card = Card::connect(&nic, &mut http, 5 << 20);
        let (id, core) = (card.session, usize::from(card.session.core()));
        let keep = bench.engine().on_core(core, move |engine| async move {
            let endpoint = engine.core().endpoint("simulated").unwrap();
            engine.attach(Rc::new(Kept(endpoint.session(id, &Principal::new("key alice")).unwrap())));
        });
        block_on(keep).unwrap();
        let in_flight = || {
            let look = bench.engine().on_core(core, |engine| async move {
                engine.attached::<Kept>().unwrap().0.credits().in_flight()
            });
            block_on(look).unwrap()
        };
        let transfer = call(&bench, method, "/bucket/key", card.token(5 << 20, access), "60000");
        wait_until("a window is in flight", || in_flight() == 4);
        let name = format_session(id.to_bytes());
        let name = [(SESSION, &*name)];
        assert_eq!(bench.client(BOB).call(Post, "/.s3rdma-rc/disconnect", &name, b"").status, 204);
        assert_eq!(in_flight(), 4, "somebody else's word counts");
        let ends = |mut http: Client| http.call(Post, "/.s3rdma-rc/disconnect", &name, b"").status;
        thread::scope(|scope| {
            let all = [(); 2].map(|()| scope.spawn(|| (ends(bench.client(ALICE)), in_flight())));
            for one in all {
                assert_eq!(one.join().unwrap(), (204, 0));
            }
        });
        assert_eq!(transfer.join().unwrap().header(REPLY), Some(if method == Get { "501" } else { "500" }));
    }
}

#[test]
fn a_principal_has_its_share_and_no_more() {
    // Shows that whoever has its share under way is told to slow down, at once and by whichever session, that nobody else is, and that there is
    // room again afterwards.
    let faults = SimulatedFaults { retries_max: u32::MAX, ..SimulatedFaults::none(3) };
    let nic = SimulatedNic::new(faults);
    let bench = Bench::remote(Arc::new(nic.clone()), |remote| {
        (remote.principal_transfers_max, remote.stall_max) = (2, Duration::from_secs(3));
    });
    let mut http = bench.client(ALICE);
    assert_eq!(http.call(Put, "/bucket", &[], b"").status, 200);
    // Until there are three on one core: a session is of the core that its connect came to.
    let mut all: Vec<Card> = Vec::new();
    let core = loop {
        all.push(Card::connect(&nic, &mut bench.client(ALICE), 1 << 20));
        let on = |core| all.iter().filter(|card| card.session.core() == core).count();
        if let Some(core) = (0..2).find(|core| on(*core) == 3) {
            break core;
        }
    };
    let mut others: Vec<Card> = Vec::new();
    while others.last().is_none_or(|card| card.session.core() != core) {
        others.push(Card::connect(&nic, &mut bench.client(BOB), 1 << 20));
    }
    let cards: Vec<&Card> = all.iter().filter(|card| card.session.core() == core).collect();
    let (at_rest, place) = (bench.leases(), usize::from(core));
    let stalled: Vec<_> = cards[..2]
        .iter()
        .map(|card| {
            card.memory.fall_silent();
            call(&bench, Put, "/bucket/stalled", card.token(1 << 20, Access::Read), "600000")
        })
        .collect();
    let put = |http: &mut Client, card: &Card, key: &str| {
        http.call(Put, &format!("/bucket/{key}"), &[(TOKEN, &card.token(1 << 20, Access::Read))], b"")
    };
    // Looked at from outside: one more transfer of the principal's could be in the way of the second.
    wait_until("two are under way", || bench.leases()[place] >= at_rest[place] + 2);
    let reply = put(&mut http, cards[2], "refused");
    assert_eq!((reply.status, &*reply.code(), reply.header(REPLY)), (503, "SlowDown", None));
    assert_eq!(put(&mut bench.client(BOB), others.last().unwrap(), "bob").status, 200);
    for call in stalled {
        assert_eq!(call.join().unwrap().status, 500);
    }
    assert_eq!(put(&mut http, cards[2], "after").status, 200);
}

#[test]
fn a_peer_that_fell_silent_holds_nobody_up() {
    // Shows that a transfer of which nothing moves any more is ended long before a deadline that is far away, so that who stalls with
    // many does not have the memory of a core for as long as that.
    let faults = SimulatedFaults { retries_max: u32::MAX, ..SimulatedFaults::none(3) };
    let nic = SimulatedNic::new(faults);
    let bench = Bench::remote(Arc::new(nic.clone()), |remote| remote.stall_max = Duration::from_millis(300));
    let mut http = bench.client(ALICE);
    assert_eq!(http.call(Put, "/bucket", &[], b"").status, 200);
    let cards: Vec<_> = (0..8).map(|_| Card::connect(&nic, &mut http, 4 << 20)).collect();
    let calls: Vec<_> = cards
        .iter()
        .map(|card| {
            card.memory.fall_silent();
            call(&bench, Put, "/bucket/stalled", card.token(4 << 20, Access::Read), "600000")
        })
        .collect();
    pause(100);
    // As much memory as theirs, on whichever core it is.
    for number in 0..4 {
        let stored = bench.client(BOB).call(Put, &format!("/bucket/{number}"), &[], &vec![1; 4 << 20]);
        assert_eq!(stored.status, 200, "{}", stored.code());
    }
    for call in calls {
        let reply = call.join().unwrap();
        assert_eq!((reply.status, &*reply.code()), (500, "RDMATransferFailed"));
        assert!(String::from_utf8_lossy(&reply.body).contains("<Reason>late</Reason>"));
    }
}
