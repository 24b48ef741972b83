//! The suite that every device passes.

use super::{BlockDevice, Durability};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, BufferLease, PagePolicy, Pool, ScatterList},
    operation::{Completion, Memory, OsError, Pending, Slot},
};
use rustix::io::Errno;
use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

/// Length of the device that the suite is given.
pub(super) const BYTES: u64 = 1 << 20;
/// Length that it can grow to; a longer one must be refused, where the device says so.
pub(super) const BYTES_MAX: u64 = 4 << 20;

const BLOCK: usize = 4096;

/// A device, the memory for it, and what makes its operations complete.
pub(super) struct Bench<'a> {
    pub(super) device: &'a dyn BlockDevice,
    pub(super) pool: Pool,
    pub(super) turn: &'a mut dyn FnMut(),
}

/// A pool of its own.
pub(super) fn pool() -> Pool {
    let options = ArenaOptions { bytes: 8 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    Arena::map(&options).unwrap().pool(0)
}

/// The outcome of an operation, and its lease if it had one.
pub(super) type Outcome = Result<u32, OsError>;

impl Bench<'_> {
    pub(super) fn slot(&self) -> Slot {
        self.device.queue().try_slot().expect("the queue has room")
    }

    pub(super) fn finish(&mut self, pending: Pending) -> Completion {
        let mut pending = pin!(pending);
        for _ in 0..100_000 {
            if let Poll::Ready(completion) = pending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return completion;
            }
            (self.turn)();
        }
        panic!("the operation never completes");
    }

    /// Pieces of a block each, filled with these bytes.
    pub(super) fn pieces(&self, fill: &[u8]) -> ScatterList {
        let mut source = ScatterList::new();
        for byte in fill {
            let mut lease = self.pool.try_acquire(BLOCK).expect("the pool has room");
            lease.set_len(BLOCK);
            lease.as_mut_slice().fill(*byte);
            source.push(lease.freeze());
        }
        source
    }

    /// Writes a block for each byte.
    pub(super) fn write(&mut self, offset: u64, fill: &[u8], durability: Durability) -> Outcome {
        let pending = self.device.write(self.slot(), offset, self.pieces(fill), durability);
        self.finish(pending).result
    }

    /// Reads into a lease full of 0xee from the block `at`.
    pub(super) fn read_into(&mut self, offset: u64, at: usize, bytes: usize) -> (Outcome, BufferLease) {
        let mut lease = self.pool.try_acquire(8 * BLOCK).expect("the pool has room");
        lease.set_len(5);
        lease.full_mut().fill(0xee);
        let pending = self.device.read(self.slot(), offset, lease, at, bytes);
        self.finish(pending).into_lease()
    }

    /// The first byte of each of so many blocks; they must be uniform.
    pub(super) fn blocks(&mut self, offset: u64, count: usize) -> Vec<u8> {
        let (result, lease) = self.read_into(offset, 0, count * BLOCK);
        assert_eq!(result, Ok((count * BLOCK) as u32));
        let mut lease = lease;
        let bytes = &lease.full_mut()[..count * BLOCK];
        bytes.chunks(BLOCK).for_each(|block| assert!(block.iter().all(|byte| *byte == block[0])));
        bytes.chunks(BLOCK).map(|block| block[0]).collect()
    }

    pub(super) fn sync(&mut self) -> Outcome {
        let pending = self.device.sync(self.slot());
        self.finish(pending).result
    }

    pub(super) fn grow(&mut self, bytes: u64) -> Outcome {
        let pending = self.device.grow(self.slot(), bytes);
        self.finish(pending).result
    }
}

/// Runs the suite on a device of [`BYTES`], nothing written, that can grow to [`BYTES_MAX`].
pub(super) fn check(device: &dyn BlockDevice, turn: &mut dyn FnMut(), refuses_past_max: bool) {
    let mut bench = Bench { device, pool: pool(), turn };
    reads_and_writes(&mut bench);
    the_end_of_the_device(&mut bench);
    what_is_not_aligned(&mut bench);
    growth(&mut bench, refuses_past_max);
    many_at_once(&mut bench);
    nobody_waits(&mut bench);
    assert_eq!(bench.device.queue().in_flight(), 0, "every slot is back");
    bench.pool.drain_returns();
    assert_eq!(bench.pool.leases(), 0, "every lease is back");
}

fn reads_and_writes(bench: &mut Bench<'_>) {
    let geometry = bench.device.geometry();
    assert_eq!((geometry.block_bytes as usize, geometry.bytes), (BLOCK, BYTES));
    assert_eq!(bench.blocks(0, 8), [0; 8], "bytes never written are zeros");
    for durability in [Durability::Buffered, Durability::Durable] {
        assert_eq!(bench.write(8192, &[1, 2, 3], durability), Ok(3 * BLOCK as u32));
        assert_eq!(bench.blocks(4096, 5), [0, 1, 2, 3, 0]);
        assert_eq!(bench.write(8192, &[4, 0, 0], durability), Ok(3 * BLOCK as u32));
        assert_eq!(bench.blocks(4096, 5), [0, 4, 0, 0, 0]);
    }
    assert_eq!(bench.sync(), Ok(0));
    let (result, mut lease) = bench.read_into(8192, 2 * BLOCK, BLOCK);
    assert_eq!(result, Ok(BLOCK as u32));
    assert_eq!(lease.len(), 5, "the lease's len is its owner's");
    let bytes = lease.full_mut();
    assert!(bytes[..2 * BLOCK].iter().all(|byte| *byte == 0xee), "nothing is written in front of the place");
    assert!(bytes[2 * BLOCK..3 * BLOCK].iter().all(|byte| *byte == 4));
    assert!(bytes[3 * BLOCK..].iter().all(|byte| *byte == 0xee), "nothing is written behind the place");
}

fn the_end_of_the_device(bench: &mut Bench<'_>) {
    let last = BYTES - BLOCK as u64;
    assert_eq!(bench.write(last, &[9], Durability::Buffered), Ok(BLOCK as u32));
    assert_eq!(bench.read_into(last, 0, 4 * BLOCK).0, Ok(BLOCK as u32), "a read is short at the end");
    assert_eq!(bench.read_into(BYTES, 0, BLOCK).0, Ok(0));
    assert_eq!(bench.read_into(1 << 60, 0, BLOCK).0, Ok(0));
    let no_space = Err(OsError(Errno::NOSPC.raw_os_error()));
    assert_eq!(bench.write(last, &[7, 7], Durability::Buffered), no_space);
    assert_eq!(bench.write(BYTES, &[7], Durability::Durable), no_space);
    assert_eq!(bench.write(u64::MAX - 4095, &[7], Durability::Durable), no_space);
    assert_eq!(bench.blocks(last, 1), [9], "a write that does not fit writes nothing");
    assert_eq!(bench.device.geometry().bytes, BYTES, "a write makes no device longer");
}

fn what_is_not_aligned(bench: &mut Bench<'_>) {
    let invalid = Err(OsError(Errno::INVAL.raw_os_error()));
    assert_eq!(bench.read_into(512, 0, BLOCK).0, invalid);
    assert_eq!(bench.read_into(0, 0, 512).0, invalid);
    assert_eq!(bench.write(100, &[1], Durability::Buffered), invalid);
    let mut source = bench.pieces(&[1]);
    source.advance(512);
    let pending = bench.device.write(bench.slot(), 0, source, Durability::Buffered);
    let completion = bench.finish(pending);
    assert_eq!(completion.result, invalid);
    let Memory::Scatter(source) = completion.memory else { panic!("the pieces come back with an error") };
    assert_eq!(source.bytes(), BLOCK - 512);
}

fn growth(bench: &mut Bench<'_>, refuses_past_max: bool) {
    assert!(bench.device.geometry().growable);
    assert!(bench.grow(BYTES / 2).is_ok());
    assert_eq!(bench.device.geometry().bytes, BYTES, "a device never becomes shorter");
    assert!(bench.grow(2 * BYTES).is_ok());
    assert_eq!(bench.device.geometry().bytes, 2 * BYTES);
    assert_eq!(bench.blocks(BYTES - BLOCK as u64, 3), [9, 0, 0], "new bytes are zeros, old ones stay");
    assert_eq!(bench.write(2 * BYTES - BLOCK as u64, &[6], Durability::Durable), Ok(BLOCK as u32));
    assert_eq!(bench.sync(), Ok(0));
    if refuses_past_max {
        assert_eq!(bench.grow(BYTES_MAX + BLOCK as u64), Err(OsError(Errno::NOSPC.raw_os_error())));
        assert_eq!(bench.device.geometry().bytes, 2 * BYTES);
    }
}

fn many_at_once(bench: &mut Bench<'_>) {
    let posted: Vec<Pending> = (0..8)
        .map(|index| {
            let source = bench.pieces(&[10 + index, 20 + index]);
            bench.device.write(bench.slot(), u64::from(index) * 8192, source, Durability::Buffered)
        })
        .collect();
    for pending in posted.into_iter().rev() {
        assert_eq!(bench.finish(pending).result, Ok(2 * BLOCK as u32));
    }
    for index in 0..8 {
        assert_eq!(bench.blocks(u64::from(index) * 8192, 2), [10 + index, 20 + index]);
    }
}

fn nobody_waits(bench: &mut Bench<'_>) {
    drop(bench.device.write(bench.slot(), 0, bench.pieces(&[77]), Durability::Buffered));
    let lease = bench.pool.try_acquire(BLOCK).unwrap();
    drop(bench.device.read(bench.slot(), 0, lease, 0, BLOCK));
    drop(bench.device.sync(bench.slot()));
    for _ in 0..100_000 {
        if bench.device.queue().in_flight() == 0 {
            return;
        }
        (bench.turn)();
    }
    panic!("an operation that nobody waits for keeps its slot");
}
