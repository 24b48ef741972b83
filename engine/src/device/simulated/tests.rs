use super::{
    super::conformance::{self, Bench},
    *,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const BLOCK: u64 = BLOCK_BYTES as u64;
const BUFFERED: Durability = Durability::Buffered;
const DURABLE: Durability = Durability::Durable;
const EIO: Result<u32, OsError> = Err(OsError(5));

fn disk(volatile_cache: bool) -> SimulatedDisk {
    SimulatedDisk::new(DiskOptions { bytes_max: conformance::BYTES_MAX, volatile_cache, lie: None })
}

/// Runs the act with a bench on the file; operations complete in an order drawn from the seed.
fn with_bench<R>(disk: &SimulatedDisk, file: FileId, seed: u64, act: impl FnOnce(&mut Bench<'_>) -> R) -> R {
    let device = disk.open(file, &Queue::new(64));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut turn = || {
        disk.step(&mut rng);
    };
    act(&mut Bench { device: &device, pool: conformance::pool(), turn: &mut turn })
}

/// What is read after a crash, as the first byte of each sector, for each seed.
fn after_crashes(
    seeds: u64,
    blocks: usize,
    mut life: impl FnMut(u64) -> (SimulatedDisk, FileId),
) -> Vec<Vec<u8>> {
    (0..seeds)
        .map(|seed| {
            let (disk, file) = life(seed);
            disk.crash(&mut fastrand::Rng::with_seed(seed));
            let bytes = disk.peek(file, 0, blocks * BLOCK_BYTES);
            bytes.chunks(512).map(|sector| sector[0]).collect()
        })
        .collect()
}

#[test]
fn it_conforms() {
    // Shows that the suite of all devices holds with and without a volatile cache, in any order of completion.
    for seed in 0..20 {
        let disk = disk(seed % 2 == 0);
        let file = disk.create_file("file", conformance::BYTES);
        let device = disk.open(file, &Queue::new(16));
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut turn = || {
            disk.step(&mut rng);
        };
        conformance::check(&device, &mut turn, true);
    }
}

#[test]
fn what_is_synced_or_durable_survives() {
    // Shows that no crash takes back a synced write or a durable one, on any kind of disk.
    for (volatile_cache, raw, synced) in
        [(true, false, true), (false, false, true), (true, true, true), (true, false, false)]
    {
        let outcomes = after_crashes(100, 2, |seed| {
            let disk = disk(volatile_cache);
            let file = if raw { disk.create_raw("disk", 1 << 20) } else { disk.create_file("file", 1 << 20) };
            with_bench(&disk, file, seed, |bench| {
                bench.write(0, &[7, 8], if synced { BUFFERED } else { DURABLE }).unwrap();
                if synced {
                    bench.sync().unwrap();
                }
            });
            (disk, file)
        });
        let expected = [[7; 8], [8; 8]].concat();
        assert!(outcomes.iter().all(|sectors| *sectors == expected));
    }
}

#[test]
fn what_is_not_synced_is_kept_lost_or_torn() {
    // Shows all three fates of an overwrite in a volatile cache, and that a sector is always old or new.
    let outcomes = after_crashes(200, 1, |seed| {
        let disk = disk(true);
        let file = disk.create_file("file", 1 << 20);
        with_bench(&disk, file, seed, |bench| {
            bench.write(0, &[1], DURABLE).unwrap();
            bench.write(0, &[2], BUFFERED).unwrap();
        });
        (disk, file)
    });
    assert!(outcomes.iter().flatten().all(|sector| *sector == 1 || *sector == 2));
    assert!(outcomes.contains(&vec![1; 8]));
    assert!(outcomes.contains(&vec![2; 8]));
    assert!(outcomes.contains(&vec![2, 2, 2, 2, 1, 1, 1, 1]), "a front is kept");
    assert!(outcomes.contains(&vec![1, 1, 1, 1, 2, 2, 2, 2]), "a back is kept");
    assert!(outcomes.iter().any(|sectors| sectors.windows(2).filter(|pair| pair[0] != pair[1]).count() > 2));
}

#[test]
fn an_unwritten_block_may_lose_its_conversion() {
    // Shows the fault that fdatasync is for: no volatile cache, the write completed, and the block reads as zeros.
    // A raw device has no unwritten blocks, and a block once synced keeps what is written later.
    let outcomes = |raw: bool, written_before: Option<Durability>| {
        after_crashes(60, 1, |seed| {
            let disk = disk(false);
            let file = if raw { disk.create_raw("disk", 1 << 20) } else { disk.create_file("file", 1 << 20) };
            with_bench(&disk, file, seed, |bench| {
                if let Some(durability) = written_before {
                    bench.write(0, &[1], durability).unwrap();
                    if durability == BUFFERED {
                        bench.sync().unwrap();
                    }
                }
                bench.write(0, &[2], BUFFERED).unwrap();
            });
            (disk, file)
        })
    };
    let (lost, kept) = (vec![0; 8], vec![2; 8]);
    let fresh = outcomes(false, None);
    assert!(fresh.contains(&lost) && fresh.contains(&kept));
    assert!(
        fresh.iter().all(|sectors| *sectors == lost || *sectors == kept),
        "a block is converted as a whole"
    );
    for safe in [outcomes(true, None), outcomes(false, Some(BUFFERED)), outcomes(false, Some(DURABLE))] {
        assert!(safe.iter().all(|sectors| *sectors == kept));
    }
}

#[test]
fn a_lost_conversion_is_counted() {
    // Shows that the counters tell the fates apart, with a volatile cache too.
    for volatile_cache in [true, false] {
        let disk = disk(volatile_cache);
        let file = disk.create_file("file", 1 << 20);
        with_bench(&disk, file, 1, |bench| {
            for block in 0..100 {
                bench.write(2 * block * BLOCK, &[1], BUFFERED).unwrap();
            }
        });
        disk.crash(&mut fastrand::Rng::with_seed(1));
        let counts = disk.counts();
        assert_eq!(counts.crashes, 1);
        assert_eq!(counts.kept_writes + counts.lost_writes + counts.torn_writes, 100);
        assert_eq!(counts.lost_writes > 0 && counts.torn_writes > 0, volatile_cache, "{counts:?}");
        assert!(counts.lost_conversions > 20, "{counts:?}");
    }
}

#[test]
fn a_sync_is_for_its_own_file_and_for_what_completed_before_it_was_posted() {
    // Shows that neither the sync of another file nor one that was on its way covers a write.
    for of_other_file in [true, false] {
        let outcomes = after_crashes(100, 1, |seed| {
            let disk = disk(true);
            let file = disk.create_file("file", 1 << 20);
            let other = disk.create_file("other", 1 << 20);
            with_bench(&disk, file, seed, |bench| {
                if of_other_file {
                    bench.write(0, &[2], BUFFERED).unwrap();
                    with_bench(&disk, other, seed, |bench| bench.sync().unwrap());
                } else {
                    let sync = bench.device.sync(bench.slot());
                    let write = bench.device.write(bench.slot(), 0, bench.pieces(&[2]), BUFFERED);
                    let mut rng = fastrand::Rng::with_seed(seed);
                    disk.complete_one(1, &mut rng);
                    bench.finish(write).result.unwrap();
                    bench.finish(sync).result.unwrap();
                }
            });
            (disk, file)
        });
        assert!(outcomes.contains(&vec![0; 8]));
    }
}

#[test]
fn older_bytes_do_not_come_back_over_durable_ones() {
    // Shows it for a durable write over a volatile one, and for a sync over what an earlier, failed sync was for.
    for failed_sync in [false, true] {
        let outcomes = after_crashes(100, 1, |seed| {
            let disk = disk(true);
            let file = disk.create_file("file", 1 << 20);
            with_bench(&disk, file, seed, |bench| {
                bench.write(0, &[1], BUFFERED).unwrap();
                if failed_sync {
                    disk.inject(file, Fault::SyncError, Times::Once);
                    assert_eq!(bench.sync(), EIO);
                    bench.write(0, &[2], BUFFERED).unwrap();
                    bench.sync().unwrap();
                } else {
                    bench.write(0, &[2], DURABLE).unwrap();
                }
            });
            (disk, file)
        });
        assert!(outcomes.iter().all(|sectors| *sectors == [2; 8]));
    }
}

#[test]
fn a_failed_sync_is_never_made_good() {
    // Shows that a sync which succeeds after one that failed does not cover what the failed one was for.
    let outcomes = after_crashes(60, 1, |seed| {
        let disk = disk(true);
        let file = disk.create_file("file", 1 << 20);
        disk.inject(file, Fault::SyncError, Times::Once);
        with_bench(&disk, file, seed, |bench| {
            bench.write(0, &[1], BUFFERED).unwrap();
            assert_eq!(bench.sync(), EIO);
            assert_eq!(bench.sync(), Ok(0));
        });
        (disk, file)
    });
    assert!(outcomes.contains(&vec![0; 8]));
}

#[test]
fn growth_is_lost_without_a_sync() {
    // Shows that the length may fall back, that what was written there is gone then, and that a sync keeps it.
    let mut lengths = [0, 0];
    for seed in 0..60 {
        let disk = disk(true);
        let file = disk.create_file("file", 1 << 20);
        with_bench(&disk, file, seed, |bench| {
            bench.grow(2 << 20).unwrap();
            bench.sync().unwrap();
            bench.grow(3 << 20).unwrap();
            bench.write((3 << 20) - BLOCK, &[5], DURABLE).unwrap();
        });
        disk.crash(&mut fastrand::Rng::with_seed(seed));
        match disk.file_bytes(file) {
            0x20_0000 => {
                lengths[0] += 1;
                with_bench(&disk, file, seed, |bench| {
                    bench.grow(3 << 20).unwrap();
                    assert_eq!(bench.blocks((3 << 20) - BLOCK, 1), [0]);
                });
            }
            0x30_0000 => {
                lengths[1] += 1;
                with_bench(&disk, file, seed, |bench| assert_eq!(bench.blocks((3 << 20) - BLOCK, 1), [5]));
            }
            other => panic!("{other} was never its length"),
        }
    }
    assert!(lengths[0] > 5 && lengths[1] > 5, "{lengths:?}");
}

#[test]
fn a_crash_gives_memory_back_and_kills_handles() {
    // Shows that operations in flight complete with EIO, that their leases return, and that the old handle is dead.
    let disk = disk(true);
    let file = disk.create_file("file", 1 << 20);
    let queue = Queue::new(8);
    let device = disk.open(file, &queue);
    let pool = conformance::pool();
    let mut bench = Bench { device: &device, pool: pool.clone(), turn: &mut || {} };
    let write = device.write(bench.slot(), 0, bench.pieces(&[1, 2]), BUFFERED);
    let read = device.read(bench.slot(), 0, pool.try_acquire(4096).unwrap(), 0, 4096);
    drop(read);
    assert_eq!(disk.pending(), 2);
    disk.crash(&mut fastrand::Rng::with_seed(1));
    assert_eq!((disk.pending(), queue.in_flight()), (0, 0));
    assert_eq!(bench.finish(write).result, EIO);
    assert_eq!(bench.sync(), Err(OsError(Errno::NODEV.raw_os_error())));
    pool.drain_returns();
    assert_eq!(pool.leases(), 0);
}

#[test]
fn each_fault_strikes_and_is_counted() {
    // Shows every injected fault once, what it does, and that healing ends the sticky ones.
    let disk = disk(true);
    let file = disk.create_file("file", 1 << 20);
    with_bench(&disk, file, 3, |bench| {
        bench.write(0, &[1, 2, 3, 4], DURABLE).unwrap();
        disk.inject(file, Fault::ReadError, Times::Once);
        assert_eq!(bench.read_into(0, 0, 4096).0, EIO);
        assert_eq!(bench.blocks(0, 4), [1, 2, 3, 4]);
        disk.inject(file, Fault::ShortRead, Times::Once);
        assert!(bench.read_into(0, 0, 4 * 4096).0.unwrap() < 4 * 4096);
        disk.inject(file, Fault::WriteError, Times::Sticky);
        assert_eq!(bench.write(0, &[9, 9], BUFFERED), EIO);
        assert_eq!(bench.write(0, &[9, 9], DURABLE), EIO);
        disk.heal();
        bench.write(0, &[1, 2], BUFFERED).unwrap();
        disk.inject(file, Fault::NoSpace, Times::Once);
        assert_eq!(bench.grow(2 << 20), Err(OsError(Errno::NOSPC.raw_os_error())));
        disk.inject(file, Fault::MisdirectedWrite, Times::Once);
        assert_eq!(bench.write(0, &[8], DURABLE), Ok(4096));
        assert_eq!(bench.blocks(0, 1), [1], "the write went elsewhere");
        disk.flip_bit(file, 5, 0);
        assert_eq!(disk.peek(file, 5, 1), [0]);
        disk.inject(file, Fault::Stall, Times::Once);
        let sync = bench.device.sync(bench.slot());
        (bench.turn)();
        assert_eq!((disk.pending(), disk.stalled()), (0, 1));
        disk.release_stalled();
        assert_eq!(bench.finish(sync).result, Ok(0));
    });
    let expected = FaultCounts {
        read_errors: 1,
        short_reads: 1,
        write_errors: 2,
        no_space: 1,
        misdirected_writes: 1,
        bit_flips: 1,
        stalls: 1,
        ..FaultCounts::default()
    };
    assert_eq!(disk.counts(), expected);
}

#[test]
fn a_slow_place_lets_others_pass() {
    // Shows that writes elsewhere, and reads, do not wait for one in a slow place, that it comes to its end, and what a crash
    // before makes of it: it may be there or not.
    let mut found = BTreeMap::new();
    for seed in 0..60 {
        let disk = disk(true);
        let file = disk.create_file("file", 1 << 20);
        disk.slow_down(file, 0..BLOCK, 50);
        with_bench(&disk, file, seed, |bench| {
            let slow = bench.device.write(bench.slot(), 0, bench.pieces(&[1]), DURABLE);
            for block in 1..6 {
                bench.write(block * BLOCK, &[2], DURABLE).unwrap();
            }
            assert_eq!(disk.pending(), 1, "of the slow one's turns fewer came than it waits for");
            if seed % 2 == 0 {
                assert_eq!(bench.finish(slow).result, Ok(4096));
            }
        });
        disk.crash(&mut fastrand::Rng::with_seed(seed));
        *found.entry((seed % 2 == 0, disk.peek(file, 0, 1)[0])).or_insert(0) += 1;
    }
    let kinds: Vec<_> = found.keys().copied().collect();
    assert_eq!(kinds, [(false, 0), (false, 1), (true, 1)]);
}

#[test]
fn a_plan_strikes_at_its_rate() {
    // Shows that a tenth of the reads fail when the plan says so, and none of the writes.
    let disk = disk(true);
    let file = disk.create_file("file", 1 << 20);
    disk.set_plan(FaultPlan { read_error: 100_000, ..FaultPlan::default() });
    with_bench(&disk, file, 3, |bench| {
        for _ in 0..1000 {
            bench.write(0, &[1], BUFFERED).unwrap();
            let _ = bench.read_into(0, 0, 4096);
        }
    });
    assert!((60..140).contains(&disk.counts().read_errors), "{:?}", disk.counts());
}

#[test]
fn files_share_the_room_of_the_disk() {
    // Shows that growth is refused when all files together would be too long.
    let disk = disk(true);
    let file = disk.create_file("file", 1 << 20);
    disk.create_file("other", 2 << 20);
    assert_eq!(disk.find("other"), Some(FileId(1)));
    assert_eq!(disk.find("none"), None);
    with_bench(&disk, file, 3, |bench| {
        assert_eq!(bench.grow(2 << 20), Ok(0));
        assert_eq!(bench.grow((2 << 20) + BLOCK), Err(OsError(Errno::NOSPC.raw_os_error())));
    });
}

#[derive(Clone, Debug)]
enum Step {
    Write { block: u64, blocks: usize, durable: bool },
    Sync { fails: bool },
    Grow,
    Turn,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8u64, 1..4usize, any::<bool>()).prop_map(|(block, blocks, durable)| Step::Write { block, blocks, durable }),
        2 => prop::bool::weighted(0.1).prop_map(|fails| Step::Sync { fails }),
        1 => Just(Step::Grow),
        8 => Just(Step::Turn),
        1 => Just(Step::Crash),
    ]
}

/// What a sector may hold after a crash.
#[derive(Clone, Default)]
struct Sector {
    /// Each write: when it completed (`None` in flight), its byte, and whether a failed sync was for it.
    writes: Vec<(Option<u64>, u8, bool)>,
    certain: u8,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_leaves_what_is_certain_or_newer(steps in proptest::collection::vec(step(), 1..80), seed: u64, volatile_cache: bool, raw: bool) {
        // Shows, for any operations in any order of completion, that each sector is what was last made durable or a write
        // newer than that, and that before a crash a read sees the last completed write.
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = disk(volatile_cache);
        let file = if raw { disk.create_raw("disk", 12 * BLOCK) } else { disk.create_file("file", 12 * BLOCK) };
        let queue = Queue::new(128);
        let pool = conformance::pool();
        let mut device = disk.open(file, &queue);
        let mut model: BTreeMap<u64, Sector> = (0..96).map(|sector| (sector, Sector::default())).collect();
        let mut seen = vec![0_u8; 96];
        // What is in flight, in the order of posts: the pending operation and what it means.
        let mut in_flight: Vec<(Pending, Step, u8, u64)> = Vec::new();
        let (mut moment, mut byte) = (0_u64, 0_u8);
        for step in steps {
            match step {
                Step::Write { block, blocks, durable } => {
                    byte = byte.wrapping_add(1).max(1);
                    let bench = Bench { device: &device, pool: pool.clone(), turn: &mut || {} };
                    let durability = if durable { DURABLE } else { BUFFERED };
                    let pending = device.write(bench.slot(), block * BLOCK, bench.pieces(&vec![byte; blocks]), durability);
                    in_flight.push((pending, step, byte, moment));
                    for sector in block * 8..(block + blocks as u64) * 8 {
                        model.get_mut(&sector).unwrap().writes.push((None, byte, false));
                    }
                }
                Step::Sync { .. } => in_flight.push((device.sync(queue.try_slot().unwrap()), step, 0, moment)),
                Step::Grow => in_flight.push((device.grow(queue.try_slot().unwrap(), 12 * BLOCK), step, 0, moment)),
                Step::Turn if !in_flight.is_empty() => {
                    let choice = rng.usize(0..in_flight.len());
                    let (_, step, byte, posted) = in_flight.remove(choice);
                    if let Step::Sync { fails: true } = step {
                        disk.inject(file, Fault::SyncError, Times::Once);
                    }
                    disk.complete_one(choice, &mut rng);
                    moment += 1;
                    match step {
                        Step::Write { block, blocks, durable } => {
                            for sector in block * 8..(block + blocks as u64) * 8 {
                                let state = model.get_mut(&sector).unwrap();
                                let at = state.writes.iter().position(|write| write.0.is_none() && write.1 == byte).unwrap();
                                let write = state.writes.remove(at);
                                if durable || (raw && !volatile_cache) {
                                    state.certain = byte;
                                    state.writes.retain(|write| write.0.is_none());
                                } else {
                                    state.writes.push((Some(moment), write.1, false));
                                }
                                seen[sector as usize] = byte;
                            }
                        }
                        Step::Sync { fails } => {
                            for state in model.values_mut() {
                                let covers = |write: &(Option<u64>, u8, bool)| write.0.is_some_and(|when| when <= posted);
                                if fails {
                                    state.writes.iter_mut().filter(|write| covers(write)).for_each(|write| write.2 = true);
                                } else if let Some(last) = state.writes.iter().rposition(|write| covers(write) && !write.2) {
                                    let when = state.writes[last].0;
                                    state.certain = state.writes[last].1;
                                    state.writes.retain(|write| write.0.is_none() || write.0 > when);
                                }
                            }
                        }
                        _ => {}
                    }
                    let bytes = disk.peek(file, 0, 12 * BLOCK_BYTES);
                    prop_assert_eq!(bytes.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>(), seen.clone());
                }
                Step::Turn => {}
                Step::Crash => {
                    in_flight.clear();
                    disk.crash(&mut rng);
                    device = disk.open(file, &queue);
                    let bytes = disk.peek(file, 0, 12 * BLOCK_BYTES);
                    for (sector, found) in bytes.chunks(512).enumerate() {
                        prop_assert!(found.iter().all(|byte| *byte == found[0]));
                        let state = model.get_mut(&(sector as u64)).unwrap();
                        let allowed = state.certain == found[0] || state.writes.iter().any(|write| write.1 == found[0]);
                        prop_assert!(allowed, "sector {} holds {}, certain is {}, newer {:?}", sector, found[0], state.certain, state.writes);
                        *state = Sector { writes: Vec::new(), certain: found[0] };
                        seen[sector] = found[0];
                    }
                }
            }
        }
        drop(in_flight);
        disk.crash(&mut rng);
        pool.drain_returns();
        prop_assert_eq!((pool.leases(), queue.in_flight()), (0, 0));
    }

    #[test]
    fn the_same_seed_gives_the_same_disk(seed: u64) {
        // Shows that orders, faults and fates come from the seed and nothing else.
        let life = || {
            let disk = disk(true);
            let file = disk.create_file("file", 1 << 20);
            disk.set_plan(FaultPlan { write_error: 200_000, misdirected_write: 100_000, ..FaultPlan::default() });
            with_bench(&disk, file, seed, |bench| {
                for block in 0..20 {
                    let _ = bench.write(block * BLOCK, &[block as u8 + 1; 3], BUFFERED);
                }
            });
            let mut rng = fastrand::Rng::with_seed(seed);
            disk.flip_some_bit(&mut rng);
            disk.crash(&mut rng);
            (disk.peek(file, 0, 1 << 20), disk.counts())
        };
        prop_assert!(life() == life());
    }
}
