//! Disks that read straight into a client's memory.

use super::{options, shm};
use crate::{drive::Bench, on_both_drivers};
use crossdock_transport::{
    memory::{CopyReason, Target, TargetList, copied_bytes_here},
    operation::Completion,
    remote::{Access, Endpoint, Offer, Principal, RemoteMemory, RemoteSlice, Transport},
    ring::{Durability, RingFile},
    shm::{Event, ShmClient},
};
use std::{rc::Rc, time::Duration};

on_both_drivers!(
    whole_blocks_go_to_the_client_and_edges_through_leases,
    a_client_that_dies_in_a_read_harms_nobody,
    a_quiet_endpoint_works_and_its_client_stirs_it,
);

const BLOCK: usize = 4096;
const BYTES: usize = 1 << 20;

struct Way {
    endpoint: Rc<dyn Endpoint>,
    session: Rc<dyn RemoteMemory>,
    client: ShmClient,
}

impl Way {
    fn new(bench: &Bench) -> Way {
        let shm = shm();
        shm.register(&bench.arena).unwrap();
        let endpoint = shm.open(options()).unwrap();
        let (client, offered) = ShmClient::pair(2 * BYTES as u64).unwrap();
        let principal = Principal::new("alice");
        let offer = Offer { descriptor: Some(offered), ..Offer::default() };
        let answer = endpoint.connect(&principal, offer).unwrap();
        let session = endpoint.session(answer.session, &principal).unwrap();
        Way { endpoint, session, client }
    }

    fn load(&self, at: usize, bytes: usize) -> Vec<u8> {
        let mut loaded = vec![0; bytes];
        self.client.load(at, &mut loaded);
        loaded
    }
}

/// A file of [`BYTES`], and what is in it.
fn object(bench: &Bench) -> (RingFile, Vec<u8>) {
    let file = bench.direct_file("object");
    let source = bench.filled(BYTES, 3).freeze();
    let write = bench.ring.write(bench.slot(), &file, 0, source.clone().into(), Durability::Durable);
    assert_eq!(bench.run(write).result, Ok(BYTES as u32));
    (file, source.to_vec())
}

/// A range that neither begins nor ends with a block: one read, of whose blocks those in the middle are copied by nobody.
fn whole_blocks_go_to_the_client_and_edges_through_leases(bench: &Bench) {
    let way = Way::new(bench);
    let (file, object) = object(bench);
    let (start, end) = (700, BYTES - 300);
    // At the same place of a block as in the file: only then do whole blocks land on whole blocks.
    let at = 5 * BLOCK + start;
    let target = way.client.expose(at..at + end - start, Access::Write).unwrap();

    let (head, tail) = (BLOCK - start, end % BLOCK);
    let edge = || {
        let mut lease = bench.lease(BLOCK);
        lease.set_len(BLOCK);
        lease
    };
    let part = |from: usize, to: usize| target.slice(from as u64..to as u64).unwrap();
    let length = end - start;
    let mut targets = TargetList::new();
    targets.push_lease(edge());
    targets.push_peer(way.session.peer_lease(&part(head, length - tail)).unwrap());
    targets.push_lease(edge());
    assert_eq!(targets.bytes(), BYTES);

    let reasons =
        [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge, CopyReason::Foreign];
    let copied = || reasons.into_iter().map(copied_bytes_here).sum::<u64>();
    let before = copied();
    let (result, targets) =
        bench.run(bench.ring.read_targets(bench.slot(), &file, 0, targets)).into_targets();
    assert_eq!(result, Ok(BYTES as u32));
    assert_eq!(copied(), before);

    let edges: Vec<_> = targets
        .into_pieces()
        .into_iter()
        .filter_map(|piece| match piece {
            Target::Lease(lease) => Some(lease.freeze()),
            Target::Peer(_) => None,
        })
        .collect();
    let write = |source: crossdock_transport::memory::FrozenLease, target: RemoteSlice| -> Completion {
        let slot = way.session.credits().try_slot().unwrap();
        let sent = way.session.write(slot, source.into(), target);
        way.endpoint.poll();
        bench.run(sent)
    };
    assert_eq!(write(edges[0].slice(start..BLOCK), part(0, head)).result, Ok(head as u32));
    assert_eq!(write(edges[1].slice(0..tail), part(length - tail, length)).result, Ok(tail as u32));
    assert_eq!(copied() - before, (head + tail) as u64, "the edges alone were copied");
    assert!(way.load(at, length) == object[start..end]);
    assert!(way.load(0, at).iter().chain(&way.load(at + length, BLOCK)).all(|byte| *byte == 0));

    way.client.withdraw(&target).unwrap();
    way.endpoint.poll();
    assert!(matches!(way.client.poll(), Some(Event::Session(_))));
    assert_eq!(way.client.poll(), Some(Event::Withdrawn(target.address())));
}

/// Client, session and endpoint go while the disk reads: the read completes, with its bytes in pages that were kept for it.
fn a_client_that_dies_in_a_read_harms_nobody(bench: &Bench) {
    let (file, _) = object(bench);
    for turn_before in [false, true] {
        let way = Way::new(bench);
        let target = way.client.expose(0..BYTES, Access::Write).unwrap();
        let mut targets = TargetList::new();
        targets.push_peer(way.session.peer_lease(&target).unwrap());
        let read = bench.ring.read_targets(bench.slot(), &file, 0, targets);
        if turn_before {
            bench.ring.turn();
        }
        drop(way);
        let (result, targets) = bench.run(read).into_targets();
        assert_eq!((result, targets.bytes()), (Ok(BYTES as u32), BYTES));

        let way = Way::new(bench);
        let target = way.client.expose(0..BYTES, Access::Write).unwrap();
        let mut targets = TargetList::new();
        targets.push_peer(way.session.peer_lease(&target).unwrap());
        drop(bench.ring.read_targets(bench.slot(), &file, 0, targets));
        drop(way);
        bench.settle();
    }
}

/// An endpoint whose descriptor is quiet completes what was posted without a look at it, and what its client says ends the quiet.
fn a_quiet_endpoint_works_and_its_client_stirs_it(bench: &Bench) {
    let way = Way::new(bench);
    let descriptor = way.endpoint.descriptor().unwrap().try_clone_to_owned().unwrap();
    let watch = bench.ring.watch(descriptor).unwrap();
    let target = way.client.expose(0..BLOCK, Access::Write).unwrap();
    way.endpoint.poll();
    assert!(way.endpoint.begin_wait(), "all was heard");
    bench.ring.park(Some(Duration::from_millis(10)));
    let source = bench.filled(BLOCK, 7).freeze();
    let slot = way.session.credits().try_slot().unwrap();
    let sent = way.session.write(slot, source.clone().into(), target);
    assert!(!way.endpoint.begin_wait(), "there is something to do");
    assert_eq!(way.endpoint.poll_quiet(), 1);
    assert_eq!(bench.run(sent).result, Ok(BLOCK as u32));
    assert!(way.load(0, BLOCK) == source.to_vec());
    way.client.withdraw(&target).unwrap();
    let mut parks = 0;
    loop {
        bench.ring.park(Some(Duration::from_millis(100)));
        if !bench.ring.is_quiet(watch) {
            break;
        }
        parks += 1;
        assert!(parks < 100, "nobody noticed what the client said");
    }
    way.endpoint.poll();
    assert!(matches!(way.client.poll(), Some(Event::Session(_))));
    assert_eq!(way.client.poll(), Some(Event::Withdrawn(target.address())));
}
