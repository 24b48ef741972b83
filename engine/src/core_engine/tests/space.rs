//! What keeps a store from being full of nothing: puts that were cut short, checkpoints and cleaning under load, after an open, and
//! among payloads that can not be moved.

use super::{settle, world};
use crate::{
    Error,
    core_engine::{CommitOptions, CoreEngine, Delete, GetOptions, PutOptions},
    error::{Region, Resource},
    inspect::Severity,
    layout::{
        Content,
        regions::{ANCHOR_REGION_BYTES, LENT},
    },
    object::types::{Which, WriteCondition},
    shard::{
        Shard,
        requests::{Body, PutRequest, Written},
        scrub::ScrubRate,
    },
    testing::{
        history::Work,
        world::{World, WorldOptions},
    },
};
use bytes::Bytes;
use crossdock_transport::memory::BufferLease;
use futures_lite::future::poll_once;
use std::{future::Future, pin::Pin, rc::Rc, time::Duration};

const OBJECT_BYTES: usize = 20_000;

#[test]
fn a_put_whose_push_was_given_up_is_refused() {
    // The body had its declared length, but nobody took its bytes: it must not become an object.
    let mut world = world(1);
    let engine = world.engine(0);
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        for key in 0..3u8 {
            let mut put = engine.put("b", &[key], PutOptions { size: Some(1 << 20) }).await.unwrap();
            let mut lease = put.buffer().await.unwrap();
            lease.set_len(1 << 20);
            lease.as_mut_slice().fill(7);
            let push = Box::pin(put.push(lease));
            assert!(poll_once(push).await.is_none(), "it waits for space");
            let refused = put.finish(CommitOptions::default()).await;
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
            assert_eq!(engine.get("b", &[key], GetOptions::default()).await.err(), Some(Error::NoSuchKey));
        }
    });
    settle(&mut world);
    world.check_at_rest().unwrap();
}

#[test]
fn an_object_finished_as_a_part_gives_its_space_back() {
    // The caller's mistake costs an error, and no space.
    let mut world = world(2);
    let engine = world.engine(0);
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        let mut put = engine.put("b", b"key", PutOptions { size: Some(1 << 20) }).await.unwrap();
        put.write(&vec![7; 1 << 20]).await.unwrap();
        assert!(matches!(put.finish_part(CommitOptions::default()).await, Err(Error::InvalidArgument(_))));
    });
    settle(&mut world);
    world.check_at_rest().unwrap();
}

/// Puts to bucket "b" that wait for the shard's log, as many as it lets in.
pub(super) async fn fill_queue(shard: &Rc<Shard>) -> Vec<Pin<Box<dyn Future<Output = ()>>>> {
    let mut waiting: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
    loop {
        let request = PutRequest {
            bucket: "b".into(),
            key: (waiting.len() as u32).to_be_bytes().into(),
            written: Written { body: Body::Empty, size: 0, crc64: 0 },
            etag: None,
            attributes: vec![1; 30_000].into(),
            condition: WriteCondition::default(),
            decided_by: None,
        };
        let mut put = Box::pin({
            let shard = shard.clone();
            async move { shard.put(request).await }
        });
        assert!(waiting.len() < 10_000, "they wait for something else");
        match poll_once(&mut put).await {
            None => waiting.push(Box::pin(async move { drop(put.await) })),
            Some(Err(Error::Busy(Resource::Log))) => return waiting,
            Some(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_checkpoint_is_taken_while_the_log_is_busy() {
    // Under a load that fills the queue as soon as it has room, the log would never be given back.
    let mut world = World::new(4, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        let taken = engine.on_shard(0, |shard| async move {
            let waiting = fill_queue(&shard).await;
            assert!(waiting.len() > 100, "{} changes fill the queue", waiting.len());
            shard.checkpoint().await
        });
        assert_eq!(taken.await, Ok(()));
    });
}

/// A payload that says whose it is.
fn payload(key: u32, round: u32) -> Vec<u8> {
    let mut bytes = vec![round as u8; OBJECT_BYTES];
    bytes[..4].copy_from_slice(&key.to_be_bytes());
    bytes[4..20].copy_from_slice(b"whose payload it");
    bytes
}

async fn put_payload(engine: &CoreEngine, key: u32, round: u32) -> Result<(), Error> {
    let bytes = payload(key, round);
    let mut put = engine.put("b", &key.to_be_bytes(), PutOptions { size: Some(bytes.len() as u64) }).await?;
    put.write(&bytes).await?;
    put.finish(CommitOptions::default()).await.map(drop)
}

/// Puts that one until it has its place: a store in which room is being made refuses for a while.
async fn put_patiently(engine: &CoreEngine, key: u32, round: u32) -> Result<(), Error> {
    let mut result = put_payload(engine, key, round).await;
    for _ in 0..20 {
        if !matches!(result, Err(Error::Full { .. })) {
            break;
        }
        engine.core().sleep(Duration::from_millis(200)).await;
        result = put_payload(engine, key, round).await;
    }
    result
}

fn small_world(seed: u64, zones_max: u32) -> World {
    let options = WorldOptions { cores: 1, shards: 1, zones_max, ..WorldOptions::default() };
    let mut world = World::new(seed, options);
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move { engine.create_bucket("b", Bytes::new()).await.map(drop).unwrap() });
    world
}

/// Stores `keys`, a few at a time, each once.
fn store(world: &mut World, keys: std::ops::Range<u32>, round: u32) -> Result<(), Error> {
    for first in keys.clone().step_by(50) {
        let engine = world.engine(0);
        let end = keys.end.min(first + 50);
        world.run(async move {
            for key in first..end {
                put_patiently(&engine, key, round).await?;
            }
            Ok::<(), Error>(())
        })?;
    }
    Ok(())
}

/// How many objects a store of 16 zones takes of which less than half has been deleted, and perhaps closed since.
fn objects_that_fit(closes: bool) -> u32 {
    let mut world = small_world(5, 16);
    store(&mut world, 0..130, 1).unwrap();
    let engine = world.engine(0);
    world.run(async move {
        // Two of five from everywhere: no zone is worth cleaning as long as there is room.
        for key in (0..130u32).filter(|key| key % 5 < 2) {
            engine.delete("b", Delete::current(&key.to_be_bytes())).await.unwrap();
        }
    });
    if closes {
        world.close().unwrap();
        world.open().unwrap();
    }
    let mut stored = 0;
    while store(&mut world, 1000 + stored..1001 + stored, 2).is_ok() {
        stored += 1;
    }
    world.check_at_rest().unwrap();
    stored
}

#[test]
fn what_died_before_an_open_is_cleaned_after_it() {
    // A store that was closed in between takes about as much as one that was not.
    let (without, with) = (objects_that_fit(false), objects_that_fit(true));
    assert!(with * 10 >= without * 9, "{with} objects after an open, {without} without one");
}

#[test]
fn payloads_that_can_not_be_moved_do_not_keep_the_cleaner_from_others() {
    // More zones with a damaged payload than the cleaner takes at a time, each of them always among the emptiest, and as many of
    // which a quarter stays. All else is written over again and again: the store must not fill up, and each damage is told of once.
    let mut world = small_world(6, 72);
    store(&mut world, 0..640, 1).unwrap();
    let file = world.disk.find("log-0").expect("the shard has one");
    let log = world.disk.peek(file, 0, world.disk.file_bytes(file) as usize);
    let damaged: Vec<u32> = (0..320).filter(|key| key % 15 == 3).collect();
    let stays = |key: &u32| key.is_multiple_of(4) || damaged.contains(key);
    for key in &damaged {
        let wanted = &payload(*key, 1)[..20];
        let at = log.windows(20).position(|window| window == wanted).expect("it is packed there");
        world.disk.flip_bit(file, at as u64 + 100, 3);
    }
    let mut events = world.engine(0).corruption_events();
    for round in 2..8 {
        for first in (0..640).step_by(40) {
            let engine = world.engine(0);
            let keys: Vec<u32> = (first..first + 40).filter(|key| !stays(key)).collect();
            let result = world.run(async move {
                for key in keys {
                    put_patiently(&engine, key, round).await?;
                }
                Ok::<(), Error>(())
            });
            result.unwrap_or_else(|error| panic!("round {round}, from {first}: {error}"));
        }
    }
    let mut told = 0;
    while events.try_next().is_some() {
        told += 1;
    }
    assert!((1..=damaged.len()).contains(&told), "{told} events of {} damaged payloads", damaged.len());
}

/// Takes all memory of a core but for a few leases.
fn leave_little_memory(engine: &CoreEngine) -> Vec<BufferLease> {
    let mut held = Vec::new();
    for bytes in [4 << 20, 1 << 20, 256 << 10, 64 << 10] {
        held.extend(std::iter::from_fn(|| engine.core().pool().try_acquire(bytes)));
    }
    // One that a checkpoint can fill, and four.
    let chunk = held.iter().position(|lease| lease.capacity() == 256 << 10).expect("one of each size");
    drop(held.swap_remove(chunk));
    for _ in 0..4 {
        let small = held.iter().rposition(|lease| lease.capacity() == 64 << 10).expect("one of each size");
        drop(held.swap_remove(small));
    }
    held
}

#[test]
fn cleaners_of_a_core_do_not_wait_for_each_others_memory() {
    // Two shards with zones of payloads of little more than a block, for each of which a lease of 64 KiB is taken, and a core whose
    // memory is held by others but for five leases: both are cleaned all the same.
    let options =
        WorldOptions { cores: 1, shards: 2, checkpoint_log_bytes: u64::MAX, ..WorldOptions::default() };
    let mut world = World::new(7, options);
    world.open().unwrap();
    let engine = world.engine(0);
    let work = engine.clone();
    let held = world.run(async move {
        work.create_bucket("b", Bytes::new()).await.unwrap();
        for key in 0..320u32 {
            let mut put = work.put("b", &key.to_be_bytes(), PutOptions { size: Some(4200) }).await.unwrap();
            put.write(&[1; 4200]).await.unwrap();
            put.finish(CommitOptions::default()).await.unwrap();
        }
        for key in (0..320u32).filter(|key| key % 5 < 3) {
            work.delete("b", Delete::current(&key.to_be_bytes())).await.unwrap();
        }
        let held = leave_little_memory(&work);
        for shard in 0..2 {
            work.on_shard(shard, |shard| async move { shard.checkpoint().await }).await.unwrap();
        }
        held
    });
    world.run_until(|| engine.own_shards().all(|shard| !shard.is_at(Work::Cleaning))).unwrap();
    for shard in engine.own_shards() {
        let moved = shard.statistics().payloads_moved;
        assert!(moved > 10, "shard {}: {moved} payloads were moved", shard.id());
    }
    drop((held, engine));
    settle(&mut world);
    world.check_at_rest().unwrap();
}

/// Bytes of an object that lies in extents, in a zone with others.
const LARGE_BYTES: usize = 100_000;

/// Stores objects of one kind from a key on until the store is full, and says how many there are then.
fn fill(world: &mut World, first: u32, bytes: usize) -> u32 {
    let engine = world.engine(0);
    world.run(async move {
        let (mut key, mut refused) = (first, 0);
        // A store in which room is being made refuses for a while.
        while refused < 20 {
            match super::put(&engine, &key.to_be_bytes(), bytes).await {
                Ok(()) => (key, refused) = (key + 1, 0),
                Err(Error::Full { .. }) => {
                    refused += 1;
                    engine.core().sleep(Duration::from_millis(200)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        key - first
    })
}

fn delete_all(world: &mut World, count: u32) {
    let engine = world.engine(0);
    world.run(async move {
        for key in 0..count {
            engine.delete("b", Delete::current(&key.to_be_bytes())).await.unwrap();
        }
    });
}

/// What objects of one kind took serves those of the other once they are gone, and the other way round, over and over; with a close, a
/// crash or neither in between.
fn room_serves_both(options: WorldOptions) {
    let world = |seed| {
        let mut world = World::new(seed, WorldOptions { cores: 1, shards: 1, ..options });
        world.open().unwrap();
        let engine = world.engine(0);
        world.run(async move { engine.create_bucket("b", Bytes::new()).await.map(drop).unwrap() });
        world
    };
    let fresh = [OBJECT_BYTES, LARGE_BYTES].map(|bytes| fill(&mut world(8), 0, bytes));
    assert!(fresh[0] > 100 && fresh[1] > 20, "{fresh:?} fit a fresh store");
    for first in [0, 1] {
        let mut world = world(9);
        for round in 0..6 {
            let kind = (first + round) % 2;
            let count = fill(&mut world, 0, [OBJECT_BYTES, LARGE_BYTES][kind]);
            let wanted = fresh[kind] * 9 / 10;
            assert!(count >= wanted, "round {round}: {count} of kind {kind}, {fresh:?} fit a fresh store");
            delete_all(&mut world, count);
            settle(&mut world);
            world.check_at_rest().unwrap();
            match round {
                1 | 2 => {
                    world.close().unwrap();
                    world.check_disks(Severity::Note).unwrap();
                    world.open().unwrap();
                }
                3 | 4 => {
                    world.crash();
                    world.check_disks(Severity::Torn).unwrap();
                    world.open().unwrap();
                }
                _ => {}
            }
        }
    }
}

#[test]
fn room_in_files_serves_both_kinds() {
    // As many zones as there may be.
    room_serves_both(WorldOptions { zones_max: 32, ..WorldOptions::default() });
}

#[test]
fn room_on_a_file_system_serves_both_kinds() {
    // As many zones as the file system has room for.
    room_serves_both(WorldOptions { disk_bytes_max: 16 << 20, ..WorldOptions::default() });
}

#[test]
fn room_on_a_device_serves_both_kinds() {
    room_serves_both(WorldOptions { zones_max: 32, raw: true, ..WorldOptions::default() });
}

/// In a store that an older build made room serves the kind that had it: what the tests above see is not there by chance.
#[test]
fn room_that_is_kept_apart_serves_one_kind() {
    let options = WorldOptions {
        cores: 1,
        shards: 1,
        disk_bytes_max: 16 << 20,
        apart: true,
        ..WorldOptions::default()
    };
    let mut world = World::new(9, options);
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move { engine.create_bucket("b", Bytes::new()).await.map(drop).unwrap() });
    let count = fill(&mut world, 0, LARGE_BYTES);
    assert!(count > 20, "{count}");
    delete_all(&mut world, count);
    settle(&mut world);
    world.check_at_rest().unwrap();
    let small = fill(&mut world, 0, OBJECT_BYTES);
    assert!(small < 100, "{small} fit");
    delete_all(&mut world, small);
    world.close().unwrap();
    world.check_disks(Severity::Note).unwrap();
    world.open().unwrap();
    assert!(fill(&mut world, 0, LARGE_BYTES) >= count * 9 / 10);
}

/// Objects of one kind lie where those of the other were, in the other file: what rots there is told of with that file, and the place in it.
#[test]
fn what_rots_in_the_other_file_is_found_there() {
    for (first, second, region) in
        [(LARGE_BYTES, OBJECT_BYTES, Region::Data), (OBJECT_BYTES, LARGE_BYTES, Region::Log)]
    {
        let options =
            WorldOptions { cores: 1, shards: 1, disk_bytes_max: 16 << 20, ..WorldOptions::default() };
        let zone_bytes = u64::from(options.zone_bytes);
        let mut world = World::new(10, options);
        world.open().unwrap();
        let engine = world.engine(0);
        world.run(async move { engine.create_bucket("b", Bytes::new()).await.map(drop).unwrap() });
        let count = fill(&mut world, 0, first);
        delete_all(&mut world, count);
        settle(&mut world);
        let count = fill(&mut world, 0, second);
        settle(&mut world);
        let engine = world.engine(0);
        let shard = engine.own_shards().next().expect("it has one").clone();
        let lent = |key: u32| {
            let (record, _, pin) = shard.open_object("b", &key.to_be_bytes(), Which::Current).ok()?;
            shard.close_object(pin);
            match &record.content {
                Content::Packed { place, .. } if place.zone & LENT != 0 => {
                    Some(u64::from(place.zone & !LENT) * zone_bytes + u64::from(place.offset))
                }
                Content::Extents { extents, .. } if extents[0].zone & LENT != 0 => {
                    let zone = u64::from(extents[0].zone & !LENT) * zone_bytes;
                    Some(ANCHOR_REGION_BYTES + zone + extents[0].offset())
                }
                _ => None,
            }
        };
        let offset = (0..count).rev().find_map(lent).expect("there was no room in its own file");
        world.disk.flip_bit(world.file(0, region == Region::Log), offset, 1);
        let mut events = engine.corruption_events();
        let scrubbing = engine.clone();
        world.run(async move { scrubbing.scrub(ScrubRate::default()).await.unwrap() });
        let found: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|event| event.finding).collect();
        assert!(!found.is_empty());
        for finding in found {
            assert_eq!((finding.region, finding.offset), (Some(region), Some(offset)), "{finding:?}");
        }
    }
}
