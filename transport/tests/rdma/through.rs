//! A payload on its way through: a disk reads a lease by a registered buffer, and the card writes the same lease to the client.

use crate::{
    card::{Card, Side},
    drive::{self, Bench},
};
use crossdock_transport::{
    memory::{CopyReason, FrozenLease, copied_bytes_here},
    remote::Access,
    ring::{DriverChoice, Durability, RingFile},
};

const BYTES: usize = 1 << 20;

fn copied() -> u64 {
    let reasons =
        [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge, CopyReason::Foreign];
    reasons.into_iter().map(copied_bytes_here).sum()
}

/// A whole disk if the test was given one, else a file.
pub(crate) fn disk(bench: &Bench) -> RingFile {
    match std::env::var_os("CROSSDOCK_TEST_DISK") {
        Some(path) => bench.ring.file(drive::open(path.as_ref(), libc::O_DIRECT).into()),
        None => bench.direct_file("object"),
    }
}

#[test]
fn one_lease_goes_from_disk_to_card_and_back() {
    // Shows that memory which is registered once with ring and card carries a GET and a PUT with no copy by anybody: the same
    // address all the way, and not one byte counted.
    let bench = Bench::new(DriverChoice::IoUring).expect("a kernel of this age has io_uring");
    let side = Side::with_arena_and_pool(Card::with_registrations(), bench.arena.clone(), bench.pool.clone());
    bench.ring.register(&bench.arena).expect("the arena is registered with the ring, too");
    let file = disk(&bench);
    let content = bench.filled(BYTES, 7).freeze();
    let write = bench.ring.write(bench.slot(), &file, 0, content.clone().into(), Durability::Durable);
    assert_eq!(bench.run(write).result, Ok(BYTES as u32));

    let pair = side.connect(2 * BYTES);
    let before = copied();
    // A GET.
    let lease = bench.lease(BYTES);
    let address = lease.as_ptr();
    let (result, mut lease) =
        bench.run(bench.ring.read(bench.slot(), &file, 0, lease, 0, BYTES)).into_lease();
    lease.set_len(BYTES);
    assert_eq!((result, lease.as_ptr()), (Ok(BYTES as u32), address));
    let target = pair.client.expose(0..BYTES, Access::Write).unwrap();
    let (result, pieces) = side.finish(pair.write(lease, target)).into_scatter();
    assert_eq!(result, Ok(BYTES as u32));
    assert_eq!(pieces.pieces().first().map(FrozenLease::as_ptr), Some(address));
    drop(pieces);
    assert!(pair.load(0..BYTES) == content[..]);

    // A PUT of what came, to another place.
    let source = pair.client.expose(0..BYTES, Access::Read).unwrap();
    let lease = bench.lease(BYTES);
    let address = lease.as_ptr();
    let (result, lease) = side.finish(pair.read(source, lease)).into_lease();
    assert_eq!((result, lease.as_ptr(), lease.len()), (Ok(BYTES as u32), address, BYTES));
    let write =
        bench.ring.write(bench.slot(), &file, BYTES as u64, lease.freeze().into(), Durability::Durable);
    assert_eq!(bench.run(write).result, Ok(BYTES as u32));
    assert_eq!(copied(), before, "payload was copied");

    let lease = bench.lease(BYTES);
    let read = bench.ring.read(bench.slot(), &file, BYTES as u64, lease, 0, BYTES);
    let (_, mut lease) = bench.run(read).into_lease();
    lease.set_len(BYTES);
    assert!(lease.as_slice() == &content[..]);
}
