//! Files: every operation, with O_DIRECT and without, registered and not.

use crate::{
    drive::{Bench, DEPTH, fill, open, poll_once},
    on_both_drivers,
};
use crossdock_transport::{
    memory::ScatterList,
    operation::OsError,
    ring::{Durability, RingFile},
};
use std::{os::unix::fs::MetadataExt, task::Poll};

on_both_drivers!(
    what_is_written_is_read,
    direct_and_registered,
    many_pieces_are_written_in_order,
    the_end_of_a_file_is_a_short_count,
    errors_are_answered_with_the_lease,
    allocation_grows_and_keeps,
    many_in_flight,
    a_full_queue_makes_the_next_wait,
    an_abandoned_operation_keeps_its_memory_until_it_is_done,
    a_file_closes_with_its_last_operation,
    nothing_is_a_count_of_zero,
);

fn write(bench: &Bench, file: &RingFile, offset: u64, source: ScatterList, durability: Durability) {
    let bytes = source.bytes() as u32;
    let pending = bench.ring.write(bench.slot(), file, offset, source, durability);
    assert_eq!(bench.run(pending).result, Ok(bytes));
}

/// Reads through the ring and compares with the pattern of `seed`.
fn check(bench: &Bench, file: &RingFile, offset: u64, bytes: usize, seed: u8) {
    let lease = bench.lease(bytes);
    let pending = bench.ring.read(bench.slot(), file, offset, lease, 0, bytes);
    let (result, mut lease) = bench.run(pending).into_lease();
    assert_eq!(result, Ok(bytes as u32));
    let mut expected = vec![0; bytes];
    fill(&mut expected, seed);
    lease.set_len(bytes);
    assert!(lease.as_slice() == expected, "{bytes} bytes at {offset} differ");
}

/// Written bytes come back, buffered and durable, at any offset, also into the middle of a lease.
fn what_is_written_is_read(bench: &Bench) {
    let file = bench.file("a");
    write(bench, &file, 0, bench.filled(10_000, 1).freeze().into(), Durability::Buffered);
    write(bench, &file, 10_001, bench.filled(300_000, 2).freeze().into(), Durability::Durable);
    assert_eq!(bench.run(bench.ring.datasync(bench.slot(), &file)).result, Ok(0));
    check(bench, &file, 0, 10_000, 1);
    check(bench, &file, 10_001, 300_000, 2);

    let mut lease = bench.lease(65536);
    lease.full_mut().fill(0xee);
    let (result, lease) = bench.run(bench.ring.read(bench.slot(), &file, 0, lease, 777, 10_000)).into_lease();
    assert_eq!(result, Ok(10_000));
    assert_eq!(lease.len(), 0, "the length in use is the caller's to set");
    let mut lease = lease;
    let mut expected = vec![0xee; 65536];
    fill(&mut expected[777..10_777], 1);
    assert!(lease.full_mut() == expected);
}

/// The same with O_DIRECT from registered memory, one piece and several, then read without the page cache.
fn direct_and_registered(bench: &Bench) {
    match bench.ring.register(&bench.arena) {
        Ok(()) => bench.ring.register(&bench.arena).expect("registering again changes nothing"),
        Err(error) => eprintln!("SKIPPED: the arena is not registered: {error}"),
    }
    let file = bench.direct_file("direct");
    write(bench, &file, 0, bench.filled(1 << 20, 3).freeze().into(), Durability::Durable);
    let mut pieces = ScatterList::new();
    let whole = bench.filled(1 << 20, 4).freeze();
    pieces.push(whole.slice(0..4096));
    pieces.push(whole.slice(4096..65536));
    pieces.push(whole.slice(65536..1 << 20));
    write(bench, &file, 1 << 20, pieces, Durability::Durable);
    check(bench, &file, 0, 1 << 20, 3);
    check(bench, &file, 1 << 20, 1 << 20, 4);

    let misaligned = bench.ring.read(bench.slot(), &file, 1, bench.lease(4096), 0, 4096);
    let (result, lease) = bench.run(misaligned).into_lease();
    assert_eq!(result, Err(OsError(libc::EINVAL)));
    assert_eq!(lease.capacity(), 4096);
}

/// More pieces than one system call takes, of odd sizes, are written as one, in order.
fn many_pieces_are_written_in_order(bench: &Bench) {
    let whole = bench.filled(1 << 20, 5).freeze();
    let mut pieces = ScatterList::new();
    let mut start = 0;
    while start < whole.len() {
        let end = whole.len().min(start + 1 + start % 511);
        pieces.push(whole.slice(start..end));
        start = end;
    }
    assert!(pieces.pieces().len() > 2048, "{} pieces", pieces.pieces().len());
    let file = bench.file("pieces");
    write(bench, &file, 3, pieces, Durability::Durable);
    check(bench, &file, 3, 1 << 20, 5);
}

/// A read across the end gives what there is, and one behind it nothing; also with O_DIRECT and a ragged end.
fn the_end_of_a_file_is_a_short_count(bench: &Bench) {
    let file = bench.file("end");
    write(bench, &file, 0, bench.filled(5000, 6).freeze().into(), Durability::Durable);
    let direct = bench.ring.file(open(&bench.directory.path().join("end"), libc::O_DIRECT).into());
    for file in [&file, &direct] {
        for (offset, count) in [(0, 5000), (4096, 904), (8192, 0), (1 << 40, 0)] {
            let lease = bench.lease(65536);
            let pending = bench.ring.read(bench.slot(), file, offset, lease, 0, 65536);
            assert_eq!(bench.run(pending).result, Ok(count), "at {offset}");
        }
    }
}

/// The kernel's errors are answered as they are, and the memory comes back.
fn errors_are_answered_with_the_lease(bench: &Bench) {
    let path = bench.directory.path().join("read-only");
    std::fs::write(&path, b"x").unwrap();
    let file = bench.ring.file(std::fs::File::open(path).unwrap().into());
    let source = bench.filled(4096, 7).freeze();
    let before = bench.pool.leases();
    let completion = bench.run(bench.ring.write(bench.slot(), &file, 0, source.into(), Durability::Buffered));
    assert_eq!(completion.result, Err(OsError(libc::EBADF)));
    drop(completion);
    bench.pool.drain_returns();
    assert_eq!(bench.pool.leases(), before - 1);
    let completion = bench.run(bench.ring.allocate(bench.slot(), &file, 0, 4096));
    assert_eq!(completion.result, Err(OsError(libc::EBADF)));
}

/// Allocating grows the file, holds the space and leaves bytes that exist alone.
fn allocation_grows_and_keeps(bench: &Bench) {
    let path = bench.directory.path().join("allocated");
    let file = bench.file("allocated");
    write(bench, &file, 0, bench.filled(4096, 8).freeze().into(), Durability::Buffered);
    assert_eq!(bench.run(bench.ring.allocate(bench.slot(), &file, 0, 1 << 20)).result, Ok(0));
    let metadata = std::fs::metadata(path).unwrap();
    assert_eq!(metadata.len(), 1 << 20);
    assert!(metadata.blocks() * 512 >= 1 << 20, "{} blocks", metadata.blocks());
    check(bench, &file, 0, 4096, 8);
}

/// As many operations as the queue is deep, on several files at once, each to its own place.
fn many_in_flight(bench: &Bench) {
    let files: Vec<RingFile> = (0..4).map(|n| bench.direct_file(&format!("many{n}"))).collect();
    for round in 0..3u8 {
        let pending: Vec<_> = (0..DEPTH)
            .map(|n| {
                let source = bench.filled(16384, n as u8 ^ round).freeze().into();
                let file = &files[n % 4];
                bench.ring.write(bench.slot(), file, n as u64 * 16384, source, Durability::Buffered)
            })
            .collect();
        assert_eq!(bench.ring.queue().in_flight(), DEPTH);
        for write in pending {
            assert_eq!(bench.run(write).result, Ok(16384));
        }
        for n in 0..DEPTH {
            check(bench, &files[n % 4], n as u64 * 16384, 16384, n as u8 ^ round);
        }
    }
}

/// When all slots are taken the next operation waits, and goes on as soon as one is done.
fn a_full_queue_makes_the_next_wait(bench: &Bench) {
    let file = bench.file("full");
    let pending: Vec<_> = (0..DEPTH).map(|_| bench.ring.datasync(bench.slot(), &file)).collect();
    assert!(bench.ring.queue().try_slot().is_none());
    let mut slot = bench.ring.queue().slot();
    assert!(poll_once(&mut slot).is_pending());
    for sync in pending {
        assert_eq!(bench.run(sync).result, Ok(0));
    }
    let Poll::Ready(slot) = poll_once(&mut slot) else { panic!("there is room now") };
    assert_eq!(bench.run(bench.ring.datasync(slot, &file)).result, Ok(0));
}

/// Dropping the future neither stops the write nor frees its memory before the kernel is done.
fn an_abandoned_operation_keeps_its_memory_until_it_is_done(bench: &Bench) {
    let file = bench.file("abandoned");
    let source = bench.filled(1 << 20, 9).freeze();
    drop(bench.ring.write(bench.slot(), &file, 0, source.into(), Durability::Durable));
    bench.pool.drain_returns();
    assert_eq!((bench.pool.leases(), bench.ring.queue().in_flight()), (1, 1));
    bench.settle();
    bench.pool.drain_returns();
    assert_eq!(bench.pool.leases(), 0);
    check(bench, &file, 0, 1 << 20, 9);
}

/// The descriptor stays open while an operation needs it and is closed afterwards.
fn a_file_closes_with_its_last_operation(bench: &Bench) {
    let path = bench.directory.path().join("closing");
    let is_open = || {
        let links = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        links.into_iter().any(|link| link == path)
    };
    let file = bench.file("closing");
    let pending =
        bench.ring.write(bench.slot(), &file, 0, bench.filled(4096, 1).freeze().into(), Durability::Durable);
    drop(file);
    assert!(is_open());
    assert_eq!(bench.run(pending).result, Ok(4096));
    assert!(!is_open());
}

/// Reading and writing no bytes is answered like any other operation.
fn nothing_is_a_count_of_zero(bench: &Bench) {
    let file = bench.file("nothing");
    let read = bench.ring.read(bench.slot(), &file, 0, bench.lease(4096), 4096, 0);
    let write = bench.ring.write(bench.slot(), &file, 0, ScatterList::new(), Durability::Durable);
    assert_eq!(bench.run(read).result, Ok(0));
    assert_eq!(bench.run(write).result, Ok(0));
}
