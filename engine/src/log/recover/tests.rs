//! Recovery over logs that are laid out as the engine lays them out, and then damaged.

use super::*;
use crate::{
    device::{
        DeviceGeometry, Durability,
        memory::{MemoryDevice, MemoryDisk},
    },
    layout::{BucketId, Content, PackedOwner, UploadId},
    log::{
        BATCH_BUFFER_BYTES, Proposal,
        build::{Forming, Stamp},
    },
};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy, ScatterList},
    operation::{Memory, Pending, Queue, Slot},
};
use std::{
    cell::{Cell, RefCell},
    future::Future,
};

const SECRET: SecretKey = SecretKey(*b"sixteen secrets.");
const EPOCH: u64 = 7;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A device in memory on which some blocks can not be read.
struct Damaged {
    device: MemoryDevice,
    unreadable: RefCell<Vec<u64>>,
    /// How long it is, where that is less than it was.
    bytes: Cell<u64>,
}

impl BlockDevice for Damaged {
    fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry { bytes: self.bytes.get(), ..self.device.geometry() }
    }

    fn queue(&self) -> &Queue {
        self.device.queue()
    }

    fn read(&self, slot: Slot, offset: u64, lease: BufferLease, at: usize, bytes: usize) -> Pending {
        let range = offset..offset + bytes as u64;
        let fails = self.unreadable.borrow().iter().any(|block| range.contains(block));
        if !fails {
            let there = self.bytes.get().saturating_sub(offset).min(bytes as u64);
            return self.device.read(slot, offset, lease, at, there as usize);
        }
        let (id, pending) = self.queue().post(slot, Memory::Lease(lease));
        self.queue().complete(id, Err(OsError(Errno::IO.raw_os_error())));
        pending
    }

    fn write(&self, slot: Slot, offset: u64, source: ScatterList, durability: Durability) -> Pending {
        self.device.write(slot, offset, source, durability)
    }

    fn sync(&self, slot: Slot) -> Pending {
        self.device.sync(slot)
    }

    fn grow(&self, slot: Slot, bytes: u64) -> Pending {
        self.device.grow(slot, bytes)
    }
}

/// A log of one epoch, zone after zone, and where its batches lie.
struct Log {
    device: Rc<Damaged>,
    pool: Pool,
    zone_bytes: u32,
    tail: Tail,
    batches: Vec<BatchHeader>,
}

impl Log {
    fn new(zone_bytes: u32, zones: u32) -> Log {
        let arena = ArenaOptions { bytes: 64 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
        let bytes = u64::from(zones) * u64::from(zone_bytes);
        let device = MemoryDisk::new(bytes, bytes).open(&Queue::new(4));
        Log {
            device: Rc::new(Damaged { device, unreadable: RefCell::default(), bytes: Cell::new(bytes) }),
            pool: Arena::map(&arena).unwrap().pool(0),
            zone_bytes,
            tail: start(),
            batches: Vec::new(),
        }
    }

    /// Writes a batch with one payload of so many blocks, which says that all up to `durable_upto` are durable.
    fn write(&mut self, payload_blocks: usize, durable_upto: u64) {
        let mut payload = vec![0; payload_blocks * BLOCK_BYTES];
        fastrand::Rng::with_seed(self.tail.sequence).fill(&mut payload);
        let mut lease = self.lease(payload.len());
        lease.as_mut_slice().copy_from_slice(&payload);
        let to = Content::Packed {
            place: LogPosition { zone: 0, offset: 0 },
            bytes: payload.len() as u32,
            checksums: payload.chunks(PACKED_CHECKSUM_BYTES).map(checksum).collect(),
        };
        let owner = PackedOwner::Part { upload: UploadId(1), number: 1 };
        let entry = Entry::MovePacked { owner, from: LogPosition { zone: 0, offset: 0 }, to };
        let proposal = Proposal { entry, payload: Some(lease.freeze()), touches_data: false };
        self.write_batch(VecDeque::from([proposal]), durable_upto);
    }

    /// Writes a batch of so many entries without payload.
    fn write_entries(&mut self, count: u64, durable_upto: u64) {
        let entry = |number| Entry::RemoveBucket { bucket: BucketId(number) };
        let proposal = |number| Proposal { entry: entry(number), payload: None, touches_data: false };
        self.write_batch((0..count).map(proposal).collect(), durable_upto);
    }

    fn write_batch(&mut self, mut queue: VecDeque<Proposal>, durable_upto: u64) {
        let mut encoded = Vec::new();
        let forming = Forming::of(&queue, self.zone_bytes as usize, &mut encoded);
        if !self.tail.fits(forming.blocks(), self.zone_bytes) {
            let next = self.tail.next_zone + 1;
            self.tail.enter_next_zone(next);
        }
        let stamp = Stamp { shard: 0, epoch: EPOCH, durable_upto, secret: &SECRET };
        let buffer = self.lease(BATCH_BUFFER_BYTES);
        let batch = forming.build(&mut queue, buffer, &mut self.tail, &stamp, &mut encoded);
        assert!(queue.is_empty(), "one batch takes them all");
        let (at, scatter) = (self.offset(batch.position), batch.scatter);
        let front = scatter.pieces().first().unwrap();
        self.batches.push(BatchHeader::peek(front, &SECRET).unwrap().0);
        let (device, slot) = (&self.device, block_on(self.device.queue().slot()));
        block_on(device.write(slot, at, scatter, Durability::Durable)).result.unwrap();
    }

    fn lease(&self, bytes: usize) -> BufferLease {
        let mut lease = self.pool.try_acquire(bytes).unwrap();
        lease.set_len(bytes);
        lease
    }

    fn offset(&self, place: LogPosition) -> u64 {
        u64::from(place.zone) * u64::from(self.zone_bytes) + u64::from(place.offset)
    }

    fn header(&self, sequence: u64) -> &BatchHeader {
        &self.batches[sequence as usize - 1]
    }

    /// Where the front copy of a batch lies, its payload, and its back copy: offsets on the device.
    fn parts(&self, sequence: u64) -> [u64; 3] {
        let header = self.header(sequence);
        let (front, meta) = (self.offset(header.position), u64::from(header.meta_blocks) * BLOCK);
        [front, front + meta, front + u64::from(header.total_blocks()) * BLOCK - meta]
    }

    /// Writes over a block.
    fn change(&self, offset: u64, change: impl FnOnce(&mut [u8])) {
        let queue = self.device.queue();
        let read = self.device.read(block_on(queue.slot()), offset, self.lease(BLOCK_BYTES), 0, BLOCK_BYTES);
        let (result, mut lease) = block_on(read).into_lease();
        result.unwrap();
        lease.set_len(BLOCK_BYTES);
        change(lease.as_mut_slice());
        let source = ScatterList::from(lease.freeze());
        let write = self.device.write(block_on(queue.slot()), offset, source, Durability::Durable);
        block_on(write).result.unwrap();
    }

    fn flip(&self, offset: u64) {
        self.change(offset, |block| block[77] ^= 4);
    }

    /// From now on just these blocks can not be read.
    fn unreadable<const COUNT: usize>(&self, blocks: [u64; COUNT]) {
        *self.device.unreadable.borrow_mut() = blocks.into();
    }

    /// The file is that long from now on.
    fn cut(&self, bytes: u64) {
        self.device.bytes.set(bytes);
    }

    /// Nothing of the batch came to the disk but its payload.
    fn tear(&self, sequence: u64) {
        let [front, _, back] = self.parts(sequence);
        [front, back].into_iter().for_each(|at| self.change(at, |block| block.fill(0)));
    }

    fn replay_from(&self, anchor: &Anchor) -> Result<(Replayed, Vec<u64>), OpenError> {
        let mut reader = LogReader {
            device: self.device.clone(),
            pool: self.pool.clone(),
            secret: SECRET,
            shard: 0,
            zone_bytes: self.zone_bytes,
            zones_at: 0,
            zones_there: BTreeSet::new(),
            window: None,
            next_zone: None,
            gate: None,
            unreadable: BTreeSet::new(),
        };
        let mut taken = Vec::new();
        let mut apply = |batch: Found| taken.push(batch.header.sequence);
        let replayed = block_on(reader.replay(anchor, &mut apply))?;
        Ok((replayed, taken))
    }

    /// The last batch taken, all before it being taken too, and what is said of a hole.
    fn replay(&self) -> (u64, Option<LogPosition>) {
        let (replayed, taken) = self.replay_from(&anchor()).unwrap();
        let last = taken.len() as u64;
        assert_eq!(taken, (1..=last).collect::<Vec<_>>());
        assert_eq!(replayed.tail.sequence, last + 1);
        (last, replayed.hole)
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    futures_lite::future::block_on(future)
}

fn start() -> Tail {
    Tail {
        position: LogPosition { zone: 0, offset: 0 },
        sequence: 1,
        previous: MetaHash::default(),
        next_zone: 1,
    }
}

fn anchor() -> Anchor {
    let start = start();
    Anchor {
        store: 1,
        shard: 0,
        generation: 1,
        epoch: EPOCH,
        epoch_start: 1,
        log_start: start.position,
        log_sequence: start.sequence,
        log_previous: start.previous,
        log_next_zone: start.next_zone,
        checkpoint: None,
    }
}

/// A log that nothing befell is read to its end, through all its zones.
#[test]
fn a_sound_log_is_read_to_its_end() {
    let mut log = Log::new(1 << 20, 8);
    (1..=20).for_each(|sequence| log.write(40, sequence - 1));
    assert_eq!(log.replay(), (20, None));
    assert!(log.header(20).position.zone > 2);
}

/// What a whole batch behind a torn one says is durable was acknowledged, also where what was read before was still uncertain: a
/// payload of it that does not hold is one damaged object, and cuts nothing off.
#[test]
fn evidence_behind_a_torn_tail_counts_for_what_was_read_before() {
    let mut log = Log::new(4 << 20, 2);
    (1..=5).for_each(|sequence| log.write(2, sequence - 1));
    // In flight together: none of them knows of the others.
    (6..=9).for_each(|_| log.write(2, 5));
    log.write(2, 8);
    log.tear(9);
    let [_, payload, _] = log.parts(6);
    log.flip(payload);
    assert_eq!(log.replay(), (8, None));
}

/// A front copy that does not hold, of a batch that only what lies behind a torn one says was acknowledged: the back copy stands in.
#[test]
fn evidence_behind_a_torn_tail_counts_for_copies() {
    let mut log = Log::new(4 << 20, 2);
    (1..=5).for_each(|sequence| log.write(2, sequence - 1));
    (6..=9).for_each(|_| log.write(200, 5));
    log.write(2, 8);
    log.tear(9);
    let [front, ..] = log.parts(7);
    // Behind the header, so that it is found where it belongs.
    log.change(front, |block| block[2000] ^= 4);
    assert_eq!(log.replay(), (8, None));
}

/// Above what anything says is durable a payload that does not hold is a torn tail.
#[test]
fn a_torn_payload_ends_the_log() {
    let mut log = Log::new(4 << 20, 2);
    (1..=9).for_each(|sequence| log.write(2, 3.min(sequence - 1)));
    let [_, payload, _] = log.parts(6);
    log.flip(payload);
    assert_eq!(log.replay(), (5, None));
}

/// In small zones eight batches in flight take as many zones: what proves that a batch was acknowledged lies that far behind it.
#[test]
fn evidence_is_found_through_as_many_zones_as_are_in_flight() {
    for (zone_bytes, payload_blocks) in [(256 << 10, 60), (512 << 10, 100), (1 << 20, 250), (2 << 20, 250)] {
        for at_the_end in [false, true] {
            let mut log = Log::new(zone_bytes, 24);
            let damaged = if at_the_end { 3 } else { 4 };
            (1..damaged).for_each(|sequence| log.write(payload_blocks, sequence - 1));
            // Seven more in flight with it, and the first that knew it to be durable.
            (0..8).for_each(|_| log.write(payload_blocks, damaged - 1));
            log.write(payload_blocks, damaged);
            let [front, _, back] = log.parts(damaged);
            log.flip(front);
            assert_eq!(log.replay(), (damaged + 8, None), "{zone_bytes}: the back copy stands in");
            log.flip(back);
            let (last, hole) = log.replay();
            assert_eq!(last, damaged - 1, "{zone_bytes}");
            // Where a batch alone names the zone after it, both its copies are needed to find that zone.
            let names_itself = log.header(damaged).position.offset == 0;
            assert!(hole.is_some() || names_itself, "{zone_bytes}: a hole, and not the end");
        }
    }
}

/// What opened once was shown: below the first batch of the anchor's epoch nothing is a torn tail.
#[test]
fn what_an_earlier_open_took_is_no_torn_tail() {
    let mut log = Log::new(4 << 20, 2);
    (1..=9).for_each(|_| log.write(2, 0));
    let anchor = Anchor { epoch: EPOCH + 1, epoch_start: 10, ..anchor() };
    let [_, payload, _] = log.parts(4);
    log.flip(payload);
    assert_eq!(log.replay_from(&anchor).unwrap().1.len(), 9, "one damaged object");
    let [front, _, back] = log.parts(6);
    [front, back].into_iter().for_each(|at| log.flip(at));
    let (replayed, taken) = log.replay_from(&anchor).unwrap();
    assert_eq!((taken.len(), replayed.hole), (5, Some(log.header(6).position)));
}

/// A log in a file that was cut short is refused with the place where it breaks off: it never reads as one that ends there.
#[test]
fn a_file_cut_short_is_no_end_of_the_log() {
    let mut log = Log::new(256 << 10, 8);
    (1..=12).for_each(|sequence| log.write(20, sequence - 1));
    let (entered, next) = (log.header(12).position.zone, log.header(12).next_zone);
    assert!(entered > 2 && next == entered + 1);
    assert_eq!(log.replay(), (12, None));
    for zones in 0..=next {
        for rest in [0, BLOCK, (256 << 10) - BLOCK] {
            log.cut(u64::from(zones) * (256 << 10) + rest);
            match log.replay_from(&anchor()) {
                Err(OpenError::Recovery { shard: 0, region: Region::Log, offset, .. }) => {
                    assert_eq!(offset, u64::from(zones) * (256 << 10));
                }
                other => panic!("{zones} zones and {rest}: {:?}", other.map(|(_, taken)| taken)),
            }
        }
    }
}

/// A block of payload that can not be read is one damaged object, as a flipped bit is.
#[test]
fn an_unreadable_payload_is_one_damaged_object() {
    let mut log = Log::new(4 << 20, 2);
    (1..=20).for_each(|sequence| log.write(10, sequence - 1));
    let [_, payload, _] = log.parts(7);
    log.unreadable([payload + 2 * BLOCK]);
    assert_eq!(log.replay(), (20, None));
}

/// For a front copy that can not be read the back copy stands in, acknowledged or not: the batch is there.
#[test]
fn the_back_copy_stands_in_for_what_can_not_be_read() {
    let mut log = Log::new(4 << 20, 2);
    (1..=20).for_each(|sequence| log.write(10, sequence - 1));
    for sequence in [7, 20] {
        let [front, _, back] = log.parts(sequence);
        log.unreadable([front]);
        assert_eq!(log.replay(), (20, None), "{sequence}");
        log.unreadable([back]);
        assert_eq!(log.replay(), (20, None), "{sequence}");
    }
}

/// Where the log would end for what can not be read alone, nobody knows whether it does: a hole.
#[test]
fn what_can_not_be_read_does_not_end_the_log() {
    let mut log = Log::new(4 << 20, 2);
    (1..=20).for_each(|sequence| log.write(10, sequence - 1));
    let [front, payload, back] = log.parts(20);
    let hole = Some(log.header(20).position);
    log.unreadable([front, back]);
    assert_eq!(log.replay(), (19, hole));
    log.unreadable([payload]);
    assert_eq!(log.replay(), (19, hole), "whether it was torn can not be told");
    let [front, _, back] = log.parts(12);
    log.unreadable([front, back]);
    assert_eq!(log.replay(), (11, Some(log.header(12).position)));
}

/// Of a batch with several blocks of metadata the header may be read and some of the rest of each copy not.
#[test]
fn what_can_not_be_read_of_long_metadata_does_not_end_the_log() {
    let mut log = Log::new(4 << 20, 2);
    (1..=19).for_each(|sequence| log.write(10, sequence - 1));
    log.write_entries(1000, 19);
    assert_eq!(log.replay(), (20, None));
    let header = log.header(20);
    let (position, meta) = (header.position, u64::from(header.meta_blocks));
    assert!(meta > 2);
    let [front, _, back] = log.parts(20);
    for (of_front, of_back) in [(1, 0), (meta - 1, meta - 1), (0, 1)] {
        log.unreadable([front + of_front * BLOCK, back + of_back * BLOCK]);
        assert_eq!(log.replay(), (19, Some(position)), "{of_front}, {of_back}");
        log.unreadable([front + of_front * BLOCK]);
        assert_eq!(log.replay(), (20, None), "the back copy stands in");
        log.unreadable([back + of_back * BLOCK]);
        assert_eq!(log.replay(), (20, None), "the front copy holds");
    }
}

/// A batch of a newer build is the end of no log, wherever the log goes on with it, and where it lies behind what is torn.
#[test]
fn a_newer_batch_does_not_end_the_log() {
    let mut log = Log::new(256 << 10, 8);
    while log.tail.position.zone < 2 {
        log.write(20, log.tail.sequence - 1);
    }
    let last = log.tail.sequence - 1;
    assert_eq!(log.header(last).position.offset, 0, "the first of its zone");
    let refuses = |log: &Log, at: u64| match log.replay_from(&anchor()) {
        Err(OpenError::Recovery { offset, source: DecodeError::NewerVersion(2), .. }) => offset == at,
        _ => false,
    };
    let [front, _, back] = log.parts(last);
    log.change(front, |block| BatchHeader::reseal(block, 2, &SECRET));
    assert!(refuses(&log, front), "at the start of the next zone");
    log.tear(last);
    assert_eq!(log.replay(), (last - 1, None));
    log.write(20, last - 1);
    let [_, _, back_of_next] = log.parts(last + 1);
    log.change(back_of_next, |block| BatchHeader::reseal(block, 2, &SECRET));
    assert!(refuses(&log, back_of_next), "behind a torn one");
    assert!(back < back_of_next);
}

/// Behind its end the log may have blocks that can not be read: where none of it is, nothing is missed.
#[test]
fn an_unreadable_block_behind_the_end_is_none_of_the_log() {
    let mut log = Log::new(4 << 20, 2);
    (1..=20).for_each(|sequence| log.write(10, sequence - 1));
    let end = log.offset(log.tail.position);
    for at in [end, end + BLOCK, end + 9 * BLOCK, 4 << 20] {
        log.unreadable([at]);
        assert_eq!(log.replay(), (20, None), "{}", at - end);
    }
}

/// The zone where replay starts is none that the log is in, if the first batch went to the next one: a checkpoint has covered it,
/// and the log may have come back to it. Counted as the oldest, it would be given away by the next checkpoint, with the
/// log in it.
#[test]
fn a_zone_counts_for_the_batches_in_it() {
    let batch = |sequence, zone| Found {
        header: BatchHeader {
            shard: 0,
            epoch: 1,
            sequence,
            position: LogPosition { zone, offset: 0 },
            next_zone: 9,
            durable_upto: 0,
            previous: MetaHash::default(),
            entry_count: 0,
            meta_blocks: 1,
            payload_blocks: 0,
        },
        entries: Vec::new(),
        hash: MetaHash::default(),
        payloads_hold: true,
        unreadable: false,
        mended: false,
    };
    let zones = |batches: &[(u64, u32)]| {
        let tail = Tail {
            position: LogPosition { zone: 0, offset: 65_536 },
            sequence: 9,
            previous: MetaHash::default(),
            next_zone: 1,
        };
        let mut replayed = Replayed {
            tail,
            batches: 0,
            entries: 0,
            bytes: 0,
            zones: vec![ZoneStart { zone: 0, sequence: 9 }],
            watermark: 0,
            mended: 0,
            hole: None,
        };
        batches.iter().for_each(|(sequence, zone)| replayed.take(batch(*sequence, *zone), &mut |_| {}));
        replayed.zones.iter().map(|begun| (begun.zone, begun.sequence)).collect::<Vec<_>>()
    };
    assert_eq!(zones(&[]), [(0, 9)]);
    assert_eq!(zones(&[(9, 0), (10, 1)]), [(0, 9), (1, 10)]);
    assert_eq!(zones(&[(9, 1), (10, 1), (11, 2)]), [(1, 9), (2, 11)]);
    // Come round to where it started.
    assert_eq!(zones(&[(9, 1), (10, 2), (11, 0)]), [(1, 9), (2, 10), (0, 11)]);
}
