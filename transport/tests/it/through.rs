//! A payload on its way through: disk, lease, memory of a client, and back, as a GET and a PUT go.

use crate::{drive::Bench, on_both_drivers};
use crossdock_transport::{
    loopback::{Loopback, LoopbackPeer},
    memory::{CopyReason, FrozenLease, copied_bytes_here},
    remote::{Access, Endpoint, EndpointOptions, Principal, RemoteMemory, SessionLimits, Transport},
    ring::Durability,
};
use std::{rc::Rc, sync::Arc};

on_both_drivers!(one_lease_goes_from_disk_to_client, one_lease_goes_from_client_to_disk);

const BYTES: usize = 256 << 10;

struct Way {
    // Endpoint and session know their transport as an object only.
    endpoint: Rc<dyn Endpoint>,
    session: Rc<dyn RemoteMemory>,
    peer: LoopbackPeer,
}

impl Way {
    fn new(bench: &Bench) -> Way {
        let loopback = Loopback::new();
        let transport: Arc<dyn Transport> = Arc::new(loopback.clone());
        transport.register(&bench.arena).unwrap();
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(1));
        let options = EndpointOptions { core: 0, limits: SessionLimits::default(), entropy };
        let endpoint = transport.open(options).unwrap();
        let (peer, principal) = (LoopbackPeer::new(BYTES), Principal::new("alice"));
        let answer = endpoint.connect(&principal, loopback.offer(&peer)).unwrap();
        let session = endpoint.session(answer.session, &principal).unwrap();
        Way { endpoint, session, peer }
    }
}

/// Copies on this side of the wire. What loopback copies in place of a network card counts as foreign.
fn copied() -> u64 {
    let reasons = [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge];
    reasons.into_iter().map(copied_bytes_here).sum()
}

/// A lease that the disk filled is the one that is written to the client, and nothing is copied in between.
fn one_lease_goes_from_disk_to_client(bench: &Bench) {
    let way = Way::new(bench);
    let file = bench.direct_file("object");
    let source = bench.filled(BYTES, 7).freeze();
    let write = bench.ring.write(bench.slot(), &file, 0, source.clone().into(), Durability::Durable);
    assert_eq!(bench.run(write).result, Ok(BYTES as u32));

    let before = copied();
    let lease = bench.pool.try_acquire(BYTES).unwrap();
    let address = lease.as_ptr();
    let (result, mut lease) =
        bench.run(bench.ring.read(bench.slot(), &file, 0, lease, 0, BYTES)).into_lease();
    lease.set_len(BYTES);
    assert_eq!((result, lease.as_ptr()), (Ok(BYTES as u32), address));

    let target = way.peer.expose(0..BYTES, Access::Write);
    let slot = way.session.credits().try_slot().unwrap();
    let sent = way.session.write(slot, lease.freeze().into(), target);
    way.endpoint.poll();
    let (result, pieces) = bench.run(sent).into_scatter();
    assert_eq!(result, Ok(BYTES as u32));
    assert_eq!(pieces.pieces().first().map(FrozenLease::as_ptr), Some(address));
    assert_eq!(copied(), before);
    assert!(way.peer.with_bytes(|bytes| *bytes == source[..]));
}

/// A lease that was read from the client is the one that the disk takes.
fn one_lease_goes_from_client_to_disk(bench: &Bench) {
    let way = Way::new(bench);
    way.peer.with_bytes(|bytes| bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 251) as u8));
    let file = bench.direct_file("object");

    let before = copied();
    let lease = bench.pool.try_acquire(BYTES).unwrap();
    let address = lease.as_ptr();
    let slot = way.session.credits().try_slot().unwrap();
    let received = way.session.read(slot, way.peer.expose(0..BYTES, Access::Read), lease);
    way.endpoint.poll();
    let (result, lease) = bench.run(received).into_lease();
    assert_eq!((result, lease.as_ptr()), (Ok(BYTES as u32), address));
    let write = bench.ring.write(bench.slot(), &file, 0, lease.freeze().into(), Durability::Durable);
    let (result, pieces) = bench.run(write).into_scatter();
    assert_eq!(result, Ok(BYTES as u32));
    assert_eq!(pieces.pieces().first().map(FrozenLease::as_ptr), Some(address));
    assert_eq!(copied(), before);

    let lease = bench.pool.try_acquire(BYTES).unwrap();
    let (_, mut lease) = bench.run(bench.ring.read(bench.slot(), &file, 0, lease, 0, BYTES)).into_lease();
    lease.set_len(BYTES);
    assert!(way.peer.with_bytes(|bytes| *bytes == *lease.as_slice()));
}
