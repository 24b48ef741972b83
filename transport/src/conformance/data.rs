//! Cases about bytes: that they arrive, in order, and nowhere else.

use super::{
    Subject,
    world::{CLIENT_BYTES, World, assert_pattern, assert_untouched, limits, pattern},
};
use crate::{
    memory::{CopyReason, FrozenLease, LEASE_BYTES_MAX, ScatterList, Target, TargetList, copied_bytes_here},
    operation::OsError,
    remote::{Access, RemoteKey, RemoteSlice, TransferError},
    ring::{Ring, RingOptions},
};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Writes and reads of every awkward size, at awkward places, move exactly their bytes.
pub fn bytes_arrive_exactly(subject: &dyn Subject) {
    let world = World::new(subject);
    let sizes = [0, 1, 7, 511, 4095, 4096, 4097, 65535, 65537, (1 << 20) + 3, LEASE_BYTES_MAX];
    for (round, bytes) in sizes.into_iter().enumerate() {
        let mut pair = world.connect();
        let (at, seed) = (round * 333 + 1, round as u64);
        let exposed = pair.client.expose(at..at + bytes + 100, Access::Write);
        let completion = world.finish(pair.write(world.filled(bytes, seed).freeze(), exposed));
        assert_eq!(completion.result, Ok(bytes as u32));
        drop(completion);
        assert_untouched(&pair.client.load(0..at));
        assert_pattern(&pair.client.load(at..at + bytes), seed);
        assert_untouched(&pair.client.load(at + bytes..CLIENT_BYTES));

        let source: Vec<u8> = pattern(seed + 100).take(bytes).collect();
        pair.client.store(at, &source);
        let exposed = pair.client.expose(at..at + bytes, Access::Read);
        let before = usize::from(bytes < LEASE_BYTES_MAX) * 5;
        let mut lease = world.lease(bytes + before);
        lease.set_len(before);
        let (result, mut lease) = world.finish(pair.read(exposed, lease)).into_lease();
        assert_eq!((result, lease.len()), (Ok(bytes as u32), before + bytes));
        let (front, behind) = lease.full_mut().split_at(before + bytes);
        assert_untouched(&front[..before]);
        assert_pattern(&front[before..], seed + 100);
        assert_untouched(behind);
        assert!(world.endpoint.disconnect(pair.id, &world.principal));
    }
    world.assert_balanced();
}

/// The first and the last bytes of a client's memory are reached like all others, and nothing before or behind them is: behind memory that
/// ends there a backend had better have a page that nobody can touch.
pub fn memory_is_reached_to_its_ends(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect();
    for (round, bytes) in [1usize, 7, 4096, 65537].into_iter().enumerate() {
        for (at, seed) in [(0, 2 * round as u64), (CLIENT_BYTES - bytes, 2 * round as u64 + 1)] {
            let target = pair.client.expose(at..at + bytes, Access::Write);
            let completion = world.finish(pair.write(world.filled(bytes, seed).freeze(), target));
            assert_eq!(completion.result, Ok(bytes as u32));
            drop(completion);
            assert_pattern(&pair.client.load(at..at + bytes), seed);
            let source = pair.client.expose(at..at + bytes, Access::Read);
            let (result, lease) = world.finish(pair.read(source, world.lease(bytes))).into_lease();
            assert_eq!(result, Ok(bytes as u32));
            assert_pattern(lease.as_slice(), seed);
        }
    }
    assert_untouched(&pair.client.load(65537..CLIENT_BYTES - 65537));
    world.assert_balanced();
}

/// A write of many pieces is one payload, and a write shorter than its target leaves the rest alone.
pub fn pieces_arrive_in_order(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect();
    let pieces = subject.transport().capabilities().pieces_max.min(1000);
    let whole = world.filled(1 << 20, 1).freeze();
    let mut source = ScatterList::new();
    let mut end = 0;
    for number in 0..pieces {
        let bytes = 1 + (number * 7919) % 1000;
        source.push(whole.slice(end..end + bytes));
        end += bytes;
    }
    let exposed = pair.client.expose(10..CLIENT_BYTES, Access::Write);
    let completion = world.finish(pair.write(source, exposed));
    assert_eq!(completion.result, Ok(end as u32));
    assert_pattern(&pair.client.load(10..10 + end), 1);
    assert_untouched(&pair.client.load(0..10));
    assert_untouched(&pair.client.load(10 + end..CLIENT_BYTES));
    drop((completion, whole));
    world.assert_balanced();
}

/// A lease that one session read into is written by another from the same place, as it stands: memory that goes through is not
/// copied on the way by this side.
pub fn one_lease_serves_both_directions(subject: &dyn Subject) {
    let world = World::new(subject);
    let (mut from, mut to) = (world.connect(), world.connect());
    let bytes = 300_000;
    let source: Vec<u8> = pattern(5).take(bytes).collect();
    from.client.store(100, &source);
    let inbound = from.client.expose(100..100 + bytes, Access::Read);
    let outbound = to.client.expose(200..200 + bytes, Access::Write);
    let reasons = [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge];
    let copied = || reasons.map(copied_bytes_here);

    let before = copied();
    let lease = world.lease(bytes);
    let address = lease.as_ptr();
    let (result, lease) = world.finish(from.read(inbound, lease)).into_lease();
    assert_eq!((result, lease.as_ptr()), (Ok(bytes as u32), address));
    let completion = world.finish(to.write(lease.freeze(), outbound));
    let (result, source) = completion.into_scatter();
    assert_eq!((result, source.pieces().first().map(FrozenLease::as_ptr)), (Ok(bytes as u32), Some(address)));
    assert_eq!(copied(), before, "payload was copied");
    assert_pattern(&to.client.load(200..200 + bytes), 5);
}

/// Operations posted together complete in their order, and of writes to one place the last one stays.
pub fn operations_complete_in_order(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect();
    let exposed = pair.client.expose(0..8192, Access::Write);
    for round in 0..20 {
        let count = limits().credits as u64;
        let mut posted: Vec<_> = (0..count)
            .map(|n| Some(pair.write(world.filled(8192, round * 100 + n).freeze(), exposed)))
            .collect();
        pair.session.flush();
        // The last one is done: so are all before it.
        let last = posted.pop().flatten().expect("posted above");
        assert_eq!(world.finish(last).result, Ok(8192));
        assert_eq!(pair.session.credits().in_flight(), 0);
        for pending in posted.into_iter().flatten() {
            assert_eq!(world.finish(pending).result, Ok(8192));
        }
        assert_pattern(&pair.client.load(0..8192), round * 100 + count - 1);
    }
    world.assert_balanced();
}

/// A session has as many slots as credits, and gets them back with completions.
pub fn credits_bound_what_is_in_flight(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect();
    let exposed = pair.client.expose(0..4096, Access::Write);
    let credits = limits().credits;
    assert_eq!(pair.session.credits().depth(), credits);
    for _ in 0..3 {
        let posted: Vec<_> =
            (0..credits).map(|_| pair.write(world.filled(4096, 9).freeze(), exposed)).collect();
        assert!(pair.session.credits().try_slot().is_none(), "more slots than credits");
        for pending in posted {
            assert_eq!(world.finish(pending).result, Ok(4096));
        }
        let slots: Vec<_> = (0..credits).map(|_| pair.slot()).collect();
        assert!(pair.session.credits().try_slot().is_none());
        drop(slots);
    }
    world.assert_balanced();
}

/// Names that are not good, in every way they can be not good, are refused, and no byte moves.
pub fn what_is_not_exposed_is_not_touched(subject: &dyn Subject) {
    let world = World::new(subject);
    let capabilities = subject.transport().capabilities();
    let mut pair = world.connect();
    for kind in 0..7 {
        if !pair.session.is_open() {
            pair = world.connect();
        }
        let good = pair.client.expose(4096..12288, Access::Write);
        let source = pair.client.expose(4096..12288, Access::Read);
        let named = |address, bytes, key| RemoteSlice::new(address, bytes, key);
        let (address, end) = (good.address(), good.address() + good.bytes());
        let bad = match kind {
            0 => named(address - 1, 4096, good.key()),
            1 => named(end - 4095, 4096, good.key()),
            2 => named(end, 4096, good.key()),
            3 => named(u64::MAX - 4096, 4096, good.key()),
            4 => named(0, 4096, good.key()),
            5 => named(address, 4096, RemoteKey(good.key().0 ^ 0x5a5a_5a5a)),
            _ => capabilities.directional.then_some(source),
        };
        let Some(bad) = bad else { continue };
        let completion = world.finish(pair.write(world.filled(4096, 3).freeze(), bad));
        let error = completion.result.map_err(TransferError::from);
        assert_eq!(error, Err(TransferError::Refused), "name {kind} was not refused");
        assert_untouched(&pair.client.load(0..CLIENT_BYTES));
        drop(completion);
        if capabilities.survives_refusal {
            assert!(pair.session.is_open());
            let wrong_way = if capabilities.directional { good } else { bad };
            let (result, lease) = world.finish(pair.read(wrong_way, world.lease(8192))).into_lease();
            assert_eq!(result.map_err(TransferError::from), Err(TransferError::Refused));
            assert_eq!(lease.len(), 0, "bytes in use that never came");
        } else {
            assert!(!pair.session.is_open(), "the session says that it goes on");
            assert!(world.endpoint.disconnect(pair.id, &world.principal));
        }
        world.assert_balanced();
    }
    world.connect().assert_works(&world);
}

/// What was withdrawn is refused from then on, and other exposures go on.
pub fn what_is_revoked_is_not_touched(subject: &dyn Subject) {
    let world = World::new(subject);
    let capabilities = subject.transport().capabilities();
    if !capabilities.revocable {
        return;
    }
    let mut pair = world.connect();
    let revoked = pair.client.expose(0..8192, Access::Write);
    let kept = pair.client.expose(8192..16384, Access::Write);
    assert_eq!(world.finish(pair.write(world.filled(4096, 1).freeze(), revoked)).result, Ok(4096));
    assert_eq!(world.finish(pair.write(world.filled(4096, 2).freeze(), kept)).result, Ok(4096));
    pair.client.revoke(&revoked);
    if capabilities.survives_refusal {
        assert_eq!(world.finish(pair.write(world.filled(4096, 4).freeze(), kept)).result, Ok(4096));
        assert_pattern(&pair.client.load(8192..12288), 4);
    }
    let result = world.finish(pair.write(world.filled(8192, 3).freeze(), revoked)).result;
    assert_eq!(result.map_err(TransferError::from), Err(TransferError::Refused));
    assert_pattern(&pair.client.load(0..4096), 1);
    assert_untouched(&pair.client.load(4096..8192));
    world.assert_balanced();
}

/// A device writes a lease on the peer's memory, exactly that, and exposures are withdrawn only behind it; a transport that has
/// no such leases says so.
pub fn peer_leases_are_for_devices(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect();
    let target = pair.client.expose(8192..24576, Access::Write);
    if !subject.transport().capabilities().peer_leases {
        let refused = pair.session.peer_lease(&target).map(|lease| lease.len());
        assert_eq!(refused, Err(TransferError::Device(OsError(libc::EOPNOTSUPP))));
        return;
    }
    let source = pair.client.expose(8192..24576, Access::Read);
    let past = RemoteSlice::new(target.address() + 1, target.bytes(), target.key());
    for bad in [Some(source), past].into_iter().flatten() {
        let refused = pair.session.peer_lease(&bad).map(|lease| lease.len());
        assert_eq!(refused, Err(TransferError::Refused));
    }

    // A ring reads a file into two leases of ours with the peer's between them.
    let ring = Ring::new(&RingOptions::default()).expect("there is a ring everywhere");
    let file = memfd_create("crossdock-conformance", MemfdFlags::CLOEXEC).expect("there is memory");
    let content: Vec<u8> = pattern(9).take(100 + 4096 + 100).collect();
    assert_eq!(rustix::io::pwrite(&file, &content, 0), Ok(content.len()));
    let file = ring.file(file);
    let part = target.slice(5000..9096).expect("inside");
    let edge = || {
        let mut lease = world.lease(100);
        lease.set_len(100);
        lease
    };
    let mut targets = TargetList::new();
    targets.push_lease(edge());
    targets.push_peer(pair.session.peer_lease(&part).expect("it is exposed"));
    targets.push_lease(edge());
    let slot = ring.queue().try_slot().expect("the ring is new");
    let mut read = pin!(ring.read_targets(slot, &file, 0, targets));
    let completion = loop {
        match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(completion) => break completion,
            Poll::Pending => drop(ring.park(Some(Duration::from_secs(10)))),
        }
    };
    let (result, targets) = completion.into_targets();
    assert_eq!(result, Ok(content.len() as u32));
    let mut read: Vec<u8> = Vec::new();
    for piece in targets.into_pieces() {
        match piece {
            Target::Lease(lease) => read.extend_from_slice(lease.as_slice()),
            Target::Peer(_) => read.extend_from_slice(&pair.client.load(13192..17288)),
        }
    }
    assert_pattern(&read, 9);
    assert_untouched(&pair.client.load(0..13192));
    assert_untouched(&pair.client.load(17288..CLIENT_BYTES));

    // Whoever holds a lease keeps the memory, also when everything else is gone.
    let lease = pair.session.peer_lease(&target).expect("it is exposed");
    assert!(world.endpoint.disconnect(pair.id, &world.principal));
    let ended = pair.session.peer_lease(&target).map(|lease| lease.len());
    assert_eq!(ended, Err(TransferError::Ended));
    drop(pair);
    assert_eq!(lease.len(), 16384);
    drop(lease);
    world.assert_balanced();
}
