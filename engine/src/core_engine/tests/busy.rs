//! What is done beside others who have all there is: of a shard's log, of a core's memory, of its batch buffers.

use super::{put, settle, shards_with_record, space::fill_queue};
use crate::{
    Error, GetOptions, ListOptions, Resource, Which,
    core_engine::Delete,
    shard::scrub::ScrubRate,
    testing::world::{World, WorldOptions},
};
use bytes::Bytes;
use std::{cell::Cell, collections::BTreeSet, rc::Rc, time::Duration};

#[test]
fn a_deleted_bucket_leaves_nothing_on_a_shard_whose_log_is_busy() {
    // The bucket is gone at its home when another shard's log has no room: it waits for some, and does not leave its record behind, which
    // the next bucket of that name would take over with the uploads in it.
    let mut world = World::new(1, WorldOptions { cores: 1, shards: 3, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    let home = engine.0.placement.home_of("b");
    let other = (home + 1) % engine.shard_count();
    let log = world.disk.find(&format!("log-{other}")).expect("each shard has one");
    let work = engine.clone();
    let bucket = world.run(async move { work.create_bucket("b", Bytes::new()).await.unwrap().bucket });
    let shard = engine.own_shard(other).unwrap().expect("there is one core").clone();
    let work = engine.clone();
    world.run(async move {
        // What a shard makes before it is written to for the first time is made.
        let key = (0..=255u8).find(|key| work.shard_of("b", &[*key]) == other).expect("one of so many");
        put(&work, &[key], 10).await.unwrap();
        work.delete("b", Delete::current(&[key])).await.unwrap();
    });
    settle(&mut world);
    world.disk.slow_down(log, 0..u64::MAX, 300);
    world.run(async move {
        let waiting = fill_queue(&shard).await;
        assert_eq!(engine.remove_record(bucket, home).await, Ok(()));
        drop(waiting);
    });
    assert_eq!(shards_with_record(&mut world), [0u16; 0]);
}

#[test]
fn shards_whose_device_hangs_keep_no_buffer_from_the_others() {
    // Of four shards of a core three have every batch under way that they may have, and none of them ever ends: the fourth commits as before.
    let mut world = World::new(1, WorldOptions { cores: 1, shards: 4, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    let healthy = engine.0.placement.home_of("b");
    let keys: Vec<Vec<u8>> = (0..4)
        .map(|shard| (0..=255).filter(|key| engine.shard_of("b", &[*key]) == shard).collect())
        .collect();
    let (work, first) = (engine.clone(), keys.clone());
    world.run(async move {
        work.create_bucket("b", Bytes::new()).await.unwrap();
        // What a shard makes before it is written to for the first time is made.
        for keys in first {
            put(&work, &keys[..1], 10).await.unwrap();
        }
    });
    settle(&mut world);
    let mut hung = Vec::new();
    for shard in (0..4).filter(|shard| *shard != healthy) {
        let log = world.disk.find(&format!("log-{shard}")).expect("each shard has one");
        world.disk.slow_down(log, 0..u64::MAX, u32::MAX);
        for &key in &keys[usize::from(shard)][1..10] {
            let work = engine.clone();
            hung.push(engine.core().spawn_own(async move { put(&work, &[key], 10).await }));
            for _ in 0..300 {
                world.step();
            }
        }
    }
    let rest = keys[usize::from(healthy)][1..20].to_vec();
    world.run(async move {
        for key in rest {
            put(&engine, &[key], 10).await.unwrap();
        }
    });
    assert!(hung.iter().all(|put| !put.is_finished()), "it did not hang");
}

#[test]
fn a_scrub_that_waits_for_memory_keeps_nobody_from_it() {
    // Of a core's memory small leases are free and no large ones, such as the metadata is read with: whoever wants a small one has it at
    // once, and the scrub goes on when there are large ones.
    let mut world = World::new(1, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    let (set_up, shard) = (engine.clone(), engine.own_shards().next().expect("it has one").clone());
    world.run(async move {
        set_up.create_bucket("b", Bytes::new()).await.unwrap();
        set_up.checkpoint().await.unwrap();
    });
    settle(&mut world);
    let pool = engine.core().pool().clone();
    pool.drain_returns();
    let mut held: Vec<_> = std::iter::from_fn(|| pool.try_acquire(4096)).collect();
    let mut superpages = BTreeSet::new();
    held.retain(|lease| lease.capacity() > 4096 || superpages.insert(lease.arena_offset() / (4 << 20)));
    pool.drain_returns();
    assert!(superpages.len() > 4 && pool.try_acquire(64 << 10).is_none());
    let tour = engine.core().spawn_own(async move { shard.scrub(ScrubRate::default()).await });
    for step in 0..1000 {
        world.step();
        assert!(pool.try_acquire(4096).is_some(), "somebody stands in the line after {step} steps");
    }
    assert!(!tour.is_finished(), "it needed no memory");
    drop(held);
    let finished = world.run(tour).unwrap();
    assert_eq!((finished.findings, finished.running), (0, false));
}

/// Readers who wait for memory hold no operation: however many large reads wait, everything else goes on, and each has its turn.
#[test]
fn reads_that_wait_for_memory_leave_other_calls_alone() {
    // More than there are operations, and than there may be at any time.
    const READERS: usize = 200;
    let mut world = World::new(1, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0).waiting_at_most(Duration::from_secs(60));
    let done = Rc::new(Cell::new(0));
    let counting = done.clone();
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        put(&engine, b"large", 5 << 20).await.unwrap();
        put(&engine, b"small", 100).await.unwrap();
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (engine, done) = (engine.clone(), counting.clone());
                engine.clone().core().spawn_own(async move {
                    let get = engine.get("b", b"large", GetOptions::default()).await.unwrap();
                    engine.core().sleep(Duration::from_millis(10)).await;
                    drop(get);
                    done.set(done.get() + 1);
                })
            })
            .collect();
        engine.core().sleep(Duration::from_millis(5)).await;
        // Now, or not at all.
        let now = engine.waiting_at_most(Duration::ZERO);
        assert_eq!(now.head("b", b"small", Which::Current).await.map(|info| info.size), Ok(100));
        let refused = now.get("b", b"large", GetOptions::default()).await.err();
        assert_eq!(refused, Some(Error::Busy(Resource::ReadMemory)));
        assert_eq!(now.metrics().refused(Resource::ReadMemory), 1);
        let mut get = now.get("b", b"small", GetOptions::default()).await.unwrap();
        assert_eq!(get.next().await.unwrap().unwrap().len(), 100);
        let listed = now.list("b", &ListOptions::default()).await.unwrap();
        assert_eq!((listed.items.len(), counting.get()), (2, 0));
        for reader in readers {
            reader.await;
        }
    });
    assert_eq!(done.get(), READERS);
    while world.step() {}
    world.check_at_rest().unwrap();
}
