//! Cases about sessions: how they begin, whose they are, and how they end.

use super::{
    Subject,
    world::{
        CLIENT_BYTES, Connected, POISON, World, arena, assert_pattern, assert_untouched, endpoint_options,
        limits, pattern,
    },
};
use crate::{
    operation::Pending,
    remote::{Access, ConnectError, ForeignMemory, Offer, Principal, SessionId, TransferError},
};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Posts as many operations as there are credits, half of them reads.
fn post_all(world: &World<'_>, pair: &mut Connected) -> Vec<Pending> {
    let target = pair.client.expose(0..65536, Access::Write);
    let content: Vec<u8> = pattern(55).take(65536).collect();
    pair.client.store(65536, &content);
    let source = pair.client.expose(65536..131072, Access::Read);
    let post = |number| {
        if number % 2 == 0 {
            pair.write(world.filled(65536, number as u64).freeze(), target)
        } else {
            pair.read(source, world.lease(65536))
        }
    };
    (0..limits().credits).map(post).collect()
}

/// After a disconnect every operation in flight completes, and the session is not there any more.
pub fn disconnect_completes_everything(subject: &dyn Subject) {
    let world = World::new(subject);
    for rung in [false, true] {
        let mut pair = world.connect();
        let posted = post_all(&world, &mut pair);
        if rung {
            pair.session.flush();
        }
        assert!(world.endpoint.disconnect(pair.id, &world.principal));
        assert!(!pair.session.is_open());
        assert!(world.endpoint.session(pair.id, &world.principal).is_none());
        assert!(!world.endpoint.disconnect(pair.id, &world.principal), "it ends once");
        for pending in posted {
            let result = world.finish(pending).result.map_err(TransferError::from);
            assert!(matches!(result, Ok(65536) | Err(TransferError::Ended)), "{result:?}");
        }
        assert_eq!(pair.session.credits().in_flight(), 0);
        world.assert_balanced();
    }
    assert_eq!(world.endpoint.session_count(), 0);
}

/// Futures that are dropped give up their operations: each lease comes back, and the session goes on.
pub fn a_dropped_future_gives_its_lease_back(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect();
    for rung in [false, true, false] {
        let posted = post_all(&world, &mut pair);
        if rung {
            pair.session.flush();
        }
        let mut kept = Vec::new();
        // Every third is waited for, so that some of those that are dropped stand before it and some behind.
        for (number, pending) in posted.into_iter().enumerate() {
            if number % 3 == 1 {
                kept.push(pending);
            }
        }
        for pending in kept {
            assert_eq!(world.finish(pending).result, Ok(65536));
        }
        world.drive("leases of dropped operations come back", || world.pool.leases() == 0);
        assert_eq!(pair.session.credits().in_flight(), 0);
    }
    pair.assert_works(&world);
}

/// What is cancelled before a poll or a flush never begins: its bytes stay where they are, its lease comes back with a completion in its turn, and
/// the session goes on. What was done at the post is done.
pub fn what_is_cancelled_never_begins(subject: &dyn Subject) {
    const BYTES: usize = 65536;
    let world = World::new(subject);
    let mut pair = world.connect();
    for kept in [None, Some(0), Some(5)] {
        let part = |number: usize| number * BYTES..(number + 1) * BYTES;
        let mut posted = Vec::new();
        for number in 0..limits().credits {
            pair.client.store(part(number).start, &[POISON; BYTES]);
            let target = pair.client.expose(part(number), Access::Write);
            posted.push(pair.write(world.filled(BYTES, number as u64).freeze(), target));
        }
        let done: Vec<_> =
            (0..posted.len()).map(|number| pair.client.load(part(number))[0] != POISON).collect();
        for (_, pending) in posted.iter().enumerate().filter(|(number, _)| Some(*number) != kept) {
            pending.cancel();
            // Once more is no harm.
            pending.cancel();
        }
        pair.session.flush();
        for (number, pending) in posted.into_iter().enumerate() {
            let (result, source) = world.finish(pending).into_scatter();
            assert_eq!(source.bytes(), BYTES, "its memory comes back");
            let there = pair.client.load(part(number));
            match result.map_err(TransferError::from) {
                Ok(_) if done[number] || Some(number) == kept => assert_pattern(&there, number as u64),
                Err(TransferError::Cancelled) if Some(number) != kept => assert_untouched(&there),
                other => panic!("operation {number}, of which {kept:?} was not cancelled: {other:?}"),
            }
        }
        assert!(pair.session.is_open());
    }
    pair.assert_works(&world);
    world.assert_balanced();
}

/// Session, endpoint and futures may be dropped in any order; all leases come back.
pub fn ends_come_in_any_order(subject: &dyn Subject) {
    let arena = arena();
    subject.transport().register(&arena).expect("the first arena is taken");
    let pool = arena.pool(0);
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (rung, order) in
        [(false, orders), (true, orders)].iter().flat_map(|(r, o)| o.iter().map(move |o| (*r, *o)))
    {
        let endpoint = subject.transport().open(endpoint_options()).expect("the endpoint opens");
        let world = World { subject, pool: pool.clone(), endpoint, principal: Principal::new("alice") };
        let mut pair = world.connect();
        let posted = post_all(&world, &mut pair);
        if rung {
            pair.session.flush();
        }
        let Connected { session, client, .. } = pair;
        let (mut posted, mut session, mut endpoint) = (Some(posted), Some(session), Some(world.endpoint));
        for part in order {
            match part {
                0 => drop(posted.take()),
                1 => drop(session.take()),
                _ => {
                    drop(endpoint.take());
                    // Whoever still waits is told, since no poll will.
                    for (number, mut pending) in posted.take().into_iter().flatten().enumerate() {
                        let polled = Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop()));
                        let Poll::Ready(completion) = polled else {
                            panic!("in flight when its endpoint was gone, in order {order:?}");
                        };
                        // What became of it may not be known, and then it is no success.
                        if completion.result.is_ok() && number % 2 == 1 {
                            assert_pattern(completion.into_lease().1.as_slice(), 55);
                        }
                    }
                }
            }
        }
        pool.drain_returns();
        assert_eq!(pool.leases(), 0, "leases that did not come back, in order {order:?}");
        drop(client);
    }
}

/// What is posted on a session that ended completes, with that error, before and after its endpoint is gone.
pub fn nothing_is_posted_after_the_end(subject: &dyn Subject) {
    let world = World::new(subject);
    // Small ones some transports do at once. Whoever posts may have been at a disk when the session ended, for many polls.
    for (bytes, polls) in [(4096, 0), (4096, 3), (1 << 20, 0), (1 << 20, 3)] {
        let mut pair = world.connect();
        let target = pair.client.expose(0..bytes, Access::Write);
        assert!(world.endpoint.disconnect(pair.id, &world.principal));
        for _ in 0..polls {
            world.endpoint.poll();
        }
        let completion = world.finish(pair.write(world.filled(bytes, 1).freeze(), target));
        assert_eq!(completion.result.map_err(TransferError::from), Err(TransferError::Ended));
    }

    let mut pair = world.connect();
    let target = pair.client.expose(0..4096, Access::Write);
    let World { pool, endpoint, principal, .. } = world;
    drop(endpoint);
    assert!(!pair.session.is_open());
    let other = World {
        subject,
        pool,
        endpoint: subject.transport().open(endpoint_options()).expect("opens"),
        principal,
    };
    let completion = other.finish(pair.write(other.filled(4096, 1).freeze(), target));
    assert_eq!(completion.result.map_err(TransferError::from), Err(TransferError::Ended));
    drop(completion);
    other.assert_balanced();
}

/// To another principal a session does not exist, and neither does one that was never made.
pub fn sessions_belong_to_their_principal(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect();
    let mallory = Principal::new("mallory");
    assert!(world.endpoint.session(pair.id, &mallory).is_none());
    assert!(!world.endpoint.disconnect(pair.id, &mallory));
    let unknown = SessionId::new(pair.id.core(), [0xee; 14]);
    assert!(world.endpoint.session(unknown, &world.principal).is_none());
    assert!(!world.endpoint.disconnect(unknown, &world.principal));
    assert_eq!(pair.id.core(), endpoint_options().core, "a session names its core");
    pair.assert_works(&world);
    world.assert_balanced();
}

/// Sessions are bounded for each principal and in all, and there is room again when one ends.
pub fn sessions_are_bounded(subject: &dyn Subject) {
    let world = World::new(subject);
    assert_eq!(world.endpoint.limits(), limits(), "what clients are told");
    let mut pairs: Vec<_> = (0..limits().principal_sessions_max).map(|_| world.connect()).collect();
    let refused = |principal: &Principal| {
        let mut client = subject.client(CLIENT_BYTES);
        let result = world.endpoint.connect(principal, client.offer());
        assert!(matches!(result, Err(ConnectError::TooMany)), "{result:?}");
    };
    refused(&world.principal);

    let bob = Principal::new("bob");
    for _ in limits().principal_sessions_max..limits().sessions_max {
        let mut client = subject.client(CLIENT_BYTES);
        let answer = world.endpoint.connect(&bob, client.offer()).expect("there is room for bob");
        client.answered(&answer);
    }
    assert_eq!(world.endpoint.session_count(), limits().sessions_max);
    refused(&bob);
    refused(&Principal::new("carol"));

    let ended = pairs.pop().expect("there are some");
    assert!(world.endpoint.disconnect(ended.id, &world.principal));
    pairs.push(world.connect());
    for mut pair in pairs {
        pair.assert_works(&world);
    }
}

/// An endpoint with nothing to do lets its core sleep, and does not wake it; one that gets something to do does.
pub fn an_idle_core_sleeps(subject: &dyn Subject) {
    let world = World::new(subject);
    world.assert_sleeps("without sessions");
    let mut pair = world.connect();
    world.assert_sleeps("with a session that did nothing");
    for _ in 0..3 {
        pair.assert_works(&world);
        world.assert_sleeps("when everything is done");
    }
    let posted = post_all(&world, &mut pair);
    drop(posted);
    world.drive("what was dropped comes back", || world.pool.leases() == 0);
    world.assert_sleeps("when everything was dropped");
    assert!(world.endpoint.disconnect(pair.id, &world.principal));
    world.assert_sleeps("after the end");
}

/// A session that nobody uses is ended after its time and not before; one that is used goes on.
pub fn idle_sessions_end(subject: &dyn Subject) {
    let world = World::new(subject);
    let (idle, mut used) = (world.connect(), world.connect());
    let step = limits().idle_max / 4;
    // Whatever the clock of a core says when it begins.
    let start = Duration::from_secs(86_400);
    for round in 0..4 {
        assert_eq!(world.endpoint.expire_idle(start + step * round), 0, "ended early, in round {round}");
        used.assert_works(&world);
    }
    assert_eq!(world.endpoint.expire_idle(start + step * 4), 1);
    assert!(!idle.session.is_open());
    assert!(world.endpoint.session(idle.id, &world.principal).is_none());
    assert!(!world.endpoint.disconnect(idle.id, &world.principal));
    assert_eq!(world.endpoint.session_count(), 1);
    used.assert_works(&world);
    assert_eq!(world.endpoint.expire_idle(start + step * 8), 0, "used after the last call");
    assert_eq!(world.endpoint.expire_idle(start + step * 12), 1);
    world.assert_balanced();
}

/// Offers that are none are refused, and leave nothing.
pub fn bad_offers_are_refused(subject: &dyn Subject) {
    let world = World::new(subject);
    let long = "f".repeat(1 << 16);
    let tokens = ["", ":", "0", "rc:", "\u{0}", "öäü:öäü", "ffffffffffffffff:ffffffffffffffff", &long];
    for token in tokens {
        let parameters = vec![("psn".to_owned(), token.to_owned()), (token.to_owned(), String::new())];
        let offer = Offer { token: token.to_owned(), parameters, ..Offer::default() };
        let result = world.endpoint.connect(&world.principal, offer);
        let typed = matches!(result, Err(ConnectError::Malformed(_) | ConnectError::Unsupported(_)));
        assert!(typed, "{result:?}");
        assert_eq!(world.endpoint.session_count(), 0);
    }
    world.connect().assert_works(&world);
}

/// A client that goes away without a word fails its own operations only.
pub fn a_client_that_vanishes_harms_nobody(subject: &dyn Subject) {
    let world = World::new(subject);
    let (mut gone, mut other) = (world.connect(), world.connect());
    let posted = post_all(&world, &mut gone);
    gone.client.vanish();
    for pending in posted {
        // Some may have been done before.
        let result = world.finish(pending).result;
        assert!(matches!(result, Ok(65536) | Err(_)), "{result:?}");
    }
    other.assert_works(&world);
    world.endpoint.disconnect(gone.id, &world.principal);
    drop(gone);
    world.drive("everything comes back", || world.pool.leases() == 0);
    other.assert_works(&world);
    world.assert_balanced();
}

/// Memory of other devices is registered by transports that say so, and refused as unsupported by others.
pub fn foreign_memory_is_a_capability(subject: &dyn Subject) {
    let world = World::new(subject);
    // It is no dma-buf, which whoever takes those finds out.
    let descriptor = memfd_create("crossdock-conformance", MemfdFlags::CLOEXEC).expect("there is memory");
    let memory = ForeignMemory { descriptor, offset: 0, bytes: 4096 };
    let refused = subject.transport().register_foreign(memory).map_err(|error| error.kind());
    if !subject.transport().capabilities().foreign_memory {
        assert_eq!(refused, Err(io::ErrorKind::Unsupported));
    }
    world.connect().assert_works(&world);
}

/// There is one arena, and no endpoint without it.
pub fn an_arena_is_registered_once(subject: &dyn Subject) {
    let error = subject.transport().open(endpoint_options()).err().map(|error| error.kind());
    assert_eq!(error, Some(io::ErrorKind::NotConnected));
    let world = World::new(subject);
    let again = subject.transport().register(&arena()).map_err(|error| error.kind());
    assert_eq!(again, Err(io::ErrorKind::AlreadyExists));
    world.connect().assert_works(&world);
    assert!(!subject.transport().name().is_empty());
}
