//! What becomes of operations whose caller goes away, and of buckets when the power does.

use super::{CommitOptions, CoreEngine, GetOptions, PutOptions, WriteCondition};
use crate::{
    Error,
    device::simulated::{Fault, Times},
    object::types::ListOptions,
    testing::world::{World, WorldOptions},
};
use bytes::Bytes;
use std::{cell::Cell, future::Future, rc::Rc};

fn world(seed: u64) -> World {
    let mut world = World::new(seed, WorldOptions { cores: 3, shards: 3, ..WorldOptions::default() });
    world.open().unwrap();
    world
}

async fn put(engine: &CoreEngine, key: &[u8], bytes: usize) -> Result<(), Error> {
    let mut put = engine.put("b", key, PutOptions { size: Some(bytes as u64) }).await?;
    let mut tail = None;
    put.write(&mut tail, &vec![7; bytes]).await?;
    if let Some(tail) = tail {
        put.push(tail).await?;
    }
    put.finish(CommitOptions::default()).await.map(drop)
}

/// Starts `work` and drops it after so many steps of the world; says whether it was done by then.
fn cut_off(world: &mut World, steps: u32, work: impl Future<Output = ()> + 'static) -> bool {
    let done = Rc::new(Cell::new(false));
    let set = done.clone();
    let task = world.engine(0).core().spawn(async move {
        work.await;
        set.set(true);
    });
    for _ in 0..steps {
        world.step();
    }
    drop(task);
    done.get()
}

/// Lets everything that still runs come to its end.
fn settle(world: &mut World) {
    while world.step() {}
}

#[test]
fn a_caller_that_goes_away_leaves_nothing_held() {
    // An upload and a download of an object in extents, on another core's shard, dropped after every number of steps:
    // no space, pin or lease stays behind.
    for steps in (0..400).step_by(7) {
        let mut world = world(u64::from(steps));
        let engine = world.engine(0);
        let set_up = engine.clone();
        world.run(async move {
            set_up.create_bucket("b", Bytes::new()).await.unwrap();
            for key in [&b"0"[..], b"1", b"2"] {
                put(&set_up, key, 300_000).await.unwrap();
            }
        });
        let work = engine.clone();
        cut_off(&mut world, steps, async move {
            for key in [&b"0"[..], b"1", b"2"] {
                let mut get = work.get("b", key, GetOptions::default()).await.unwrap();
                while let Some(chunk) = get.next().await {
                    chunk.unwrap();
                }
                put(&work, key, 400_000).await.unwrap();
            }
        });
        drop(engine);
        settle(&mut world);
        world.check_at_rest().unwrap_or_else(|error| panic!("after {steps} steps: {error}"));
    }
}

#[test]
fn making_and_deleting_a_bucket_goes_on_without_the_caller() {
    // However early the caller goes, the name is free for the next one afterwards, and changes are not kept waiting.
    for steps in 0..60 {
        let mut world = world(u64::from(steps));
        let engine = world.engine(0);
        let work = engine.clone();
        cut_off(&mut world, steps, async move {
            work.create_bucket("b", Bytes::new()).await.unwrap();
            work.delete_bucket("b").await.unwrap();
        });
        world.run(async move {
            let created = engine.create_bucket("b", Bytes::new()).await;
            match put(&engine, b"key", 10).await {
                // The one that was there was about to be deleted.
                Err(Error::NoSuchBucket) if created == Err(Error::BucketExists) => {
                    engine.create_bucket("b", Bytes::new()).await.unwrap();
                    put(&engine, b"key", 10).await.unwrap();
                }
                put => {
                    assert!(matches!(created, Ok(_) | Err(Error::BucketExists)), "{created:?}");
                    put.unwrap();
                }
            }
            assert_eq!(engine.delete_bucket("b").await, Err(Error::BucketNotEmpty));
            engine.delete("b", b"key", WriteCondition::default()).await.unwrap();
            engine.delete_bucket("b").await.unwrap();
            assert_eq!(engine.delete_bucket("b").await, Err(Error::NoSuchBucket));
        });
    }
}

#[test]
fn a_delete_that_finds_the_bucket_in_use_is_not_noticed() {
    // Writers next to DeleteBucket of a bucket in use are never told that there is no bucket.
    for seed in 0..20 {
        let mut world = world(seed);
        let (engine, other) = (world.engine(0), world.engine(1));
        let set_up = engine.clone();
        world.run(async move {
            set_up.create_bucket("b", Bytes::new()).await.unwrap();
            put(&set_up, b"stays", 10).await.unwrap();
        });
        let core = other.core().clone();
        let deleting = core.spawn(async move {
            for _ in 0..10 {
                assert_eq!(other.delete_bucket("b").await, Err(Error::BucketNotEmpty));
            }
        });
        world.run(async move {
            for key in 0..20u8 {
                put(&engine, &[key], 10).await.unwrap();
                engine.delete("b", &[key], WriteCondition::default()).await.unwrap();
            }
            deleting.await;
        });
    }
}

#[test]
fn a_bucket_is_not_deleted_from_under_a_writer() {
    // DeleteBucket of an empty bucket next to writers: whoever was told that an object is there finds it there.
    for seed in 0..100 {
        let mut world = world(seed);
        let (engine, other) = (world.engine(0), world.engine(1));
        let set_up = engine.clone();
        world.run(async move { set_up.create_bucket("b", Bytes::new()).await.unwrap() });
        let core = other.core().clone();
        let deleting = core.spawn(async move { other.delete_bucket("b").await });
        world.run(async move {
            let mut stored = Vec::new();
            for key in 0..6u8 {
                match put(&engine, &[key], 10).await {
                    Ok(()) => stored.push(key),
                    Err(error) => assert_eq!(error, Error::NoSuchBucket),
                }
            }
            let deleted = deleting.await;
            assert_eq!(deleted.is_ok(), stored.is_empty(), "seed {seed}: {deleted:?} with {stored:?}");
            for key in stored {
                engine.head("b", &[key], None).await.unwrap();
            }
        });
    }
}

/// The shards that have a record of bucket "b".
fn shards_with_record(world: &mut World) -> Vec<u16> {
    let engine = world.engine(0);
    world.run(async move {
        let mut with = Vec::new();
        for shard in 0..engine.shard_count() {
            let there = engine.on_shard(shard, |shard| async move { shard.bucket("b") }).await;
            with.extend(there.is_ok().then_some(shard));
        }
        with
    })
}

/// A world that crashed while bucket "b" was being made: its record is on one shard, not its home. With `object`,
/// somebody has put one there already.
fn half_made(seed: u64, object: bool) -> World {
    let mut world = world(seed);
    let engine = world.engine(0);
    world.run(async move {
        let home = engine.0.placement.home_of("b");
        let begun = engine
            .on_shard(home, |shard| async move { shard.begin_bucket("b", Bytes::new()).await })
            .await
            .unwrap();
        let other = (home + 1) % engine.shard_count();
        engine.put_record(&begun, &[other]).await.unwrap();
        if object {
            let key = (0..=255u8).find(|key| engine.shard_of("b", &[*key]) == other).unwrap();
            put(&engine, &[key], 10).await.unwrap();
        }
    });
    world.crash();
    world.open().unwrap();
    world
}

#[test]
fn a_bucket_half_made_is_the_one_made_next() {
    // Making a bucket fails on its home shard once it is on another, where somebody writes to it and is told that all
    // went well; then it is made again, which fails too. After an open, and after making it once more at last, what was
    // written is there.
    for made_at_last in [false, true] {
        let mut world = world(1);
        let engine = world.engine(0);
        let home = engine.0.placement.home_of("b");
        let work = engine.clone();
        let key = world.run(async move {
            let other = (home + 1) % work.shard_count();
            for attempt in 0..2 {
                let begun = work
                    .on_shard(home, |shard| async move { shard.begin_bucket("b", Bytes::new()).await })
                    .await
                    .unwrap();
                if attempt == 0 {
                    work.put_record(&begun, &[other]).await.unwrap();
                } else if made_at_last {
                    work.make_everywhere(begun, home).await.unwrap();
                }
                work.send_to_shard(home, |shard| shard.let_go_of_name("b"));
            }
            let key = (0..=255u8).find(|key| work.shard_of("b", &[*key]) == other).unwrap();
            put(&work, &[key], 10).await.unwrap();
            key
        });
        drop(engine);
        world.crash();
        world.open().unwrap();
        let engine = world.engine(0);
        world.run(async move {
            let made = engine.create_bucket("b", Bytes::new()).await;
            assert!(matches!(made, Err(Error::BucketExists)), "{made:?}");
            engine.head("b", &[key], None).await.unwrap();
        });
    }
}

#[test]
fn a_bucket_half_made_is_gone_if_empty_and_made_if_not() {
    // Its record, found on one shard only after a crash, goes; unless an object was acknowledged in it.
    for seed in 0..10 {
        assert_eq!(shards_with_record(&mut half_made(seed, false)), [0u16; 0]);
        assert_eq!(shards_with_record(&mut half_made(seed, true)), [0, 1, 2]);
    }
}

#[test]
fn a_bucket_half_deleted_is_gone() {
    // Removed at its home and not elsewhere when the power goes: nothing of it is left after the next open.
    let mut world = world(1);
    let engine = world.engine(0);
    world.run(async move {
        let bucket = engine.create_bucket("b", Bytes::new()).await.unwrap().bucket;
        let home = engine.0.placement.home_of("b");
        engine.on_shard(home, move |shard| async move { shard.remove_bucket(bucket).await }).await.unwrap();
    });
    assert_eq!(shards_with_record(&mut world).len(), 2);
    world.crash();
    world.open().unwrap();
    assert_eq!(shards_with_record(&mut world), [0u16; 0]);
}

#[test]
fn shards_agree_about_buckets_after_a_crash() {
    // The power goes at every step of making, filling and deleting a bucket: afterwards it is wholly there or wholly not,
    // what was acknowledged in it is there, and the name can be used.
    for steps in (0..300).step_by(5) {
        let mut world = world(u64::from(steps));
        let engine = world.engine(0);
        let (acknowledged, removed) = (Rc::new(Cell::new(0u8)), Rc::new(Cell::new(false)));
        let (count, gone) = (acknowledged.clone(), removed.clone());
        let writer = world.engine(1);
        let filling = async move {
            // Somebody who does not wait for the bucket to be acknowledged.
            for key in 0..4u8 {
                while put(&writer, &[key], 10).await.is_err() {
                    crate::reactor::yield_once().await;
                }
                count.set(key + 1);
            }
        };
        world.engine(1).core().spawn(filling).detach();
        cut_off(&mut world, steps, async move {
            engine.create_bucket("b", Bytes::new()).await.unwrap();
            for key in 0..4u8 {
                while !engine
                    .delete("b", &[key], WriteCondition::default())
                    .await
                    .is_ok_and(|d| d.version.is_some())
                {
                    gone.set(true);
                    crate::reactor::yield_once().await;
                }
            }
        });
        world.crash();
        world.open().unwrap();
        let engine = world.engine(2);
        let (acknowledged, removed) = (acknowledged.get(), removed.get());
        world.run(async move {
            let names = engine.buckets().await.unwrap();
            let listed = engine.list("b", &ListOptions { limit: 100, ..ListOptions::default() }).await;
            assert_eq!(names.is_empty(), listed == Err(Error::NoSuchBucket), "the shards disagree");
            if acknowledged > 0 && !removed {
                assert!(!names.is_empty(), "an acknowledged object lost its bucket");
            }
            match engine.create_bucket("b", Bytes::new()).await {
                Ok(_) => assert!(names.is_empty()),
                Err(error) => assert_eq!(error, Error::BucketExists),
            }
            put(&engine, b"key", 10).await.unwrap();
        });
    }
}

#[test]
fn a_sync_that_fails_in_a_checkpoint_fails_what_it_covered() {
    // The payload of a put lies unsynced when a checkpoint's sync fails, and the device forgets it. The next sync
    // succeeds; the put must not.
    let mut world = world(1);
    let engine = world.engine(0);
    let work = engine.clone();
    let put = world.run(async move {
        work.create_bucket("b", Bytes::new()).await.unwrap();
        let mut put = work.put("b", b"key", PutOptions { size: Some(2 << 20) }).await.unwrap();
        let mut tail = None;
        put.write(&mut tail, &vec![7; 2 << 20]).await.unwrap();
        if let Some(tail) = tail {
            put.push(tail).await.unwrap();
        }
        put
    });
    settle(&mut world);
    for shard in 0..3 {
        let file = world.disk.find(&format!("data-{shard}")).expect("each shard has one");
        world.disk.inject(file, Fault::SyncError, Times::Once);
        let work = engine.clone();
        world.run(async move {
            let taken = work.on_shard(shard, |shard| async move { shard.checkpoint().await }).await;
            assert!(matches!(taken, Err(Error::Device(_))), "{taken:?}");
        });
    }
    let finished = world.run(async move { put.finish(CommitOptions::default()).await });
    assert!(matches!(finished, Err(Error::ReadOnly { .. })), "{finished:?}");
}

#[test]
fn a_sync_beside_one_that_fails_does_not_vouch_for_what_that_one_lost() {
    // A put's sync is asked for while a checkpoint's is about to fail and to take the put's payload with it.
    for seed in 0..200 {
        let mut world = World::new(seed, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
        world.open().unwrap();
        let engine = world.engine(0);
        let work = engine.clone();
        world.run(async move { work.create_bucket("b", Bytes::new()).await.map(drop).unwrap() });
        let file = world.disk.find("data-0").expect("the shard has one");
        world.disk.inject(file, Fault::SyncError, Times::Once);
        let acknowledged = world.run(async move {
            let core = engine.core().clone();
            let checkpointing = engine.clone();
            let checkpoint = core.spawn(async move {
                checkpointing.on_shard(0, |shard| async move { shard.checkpoint().await }).await
            });
            let putting = engine.clone();
            let put = core.spawn(async move { put(&putting, b"key", 100_000).await });
            let taken = checkpoint.await;
            let put = put.await;
            assert!(taken.is_err() || put.is_err(), "one of them met the fault");
            put.is_ok()
        });
        world.crash();
        world.open().unwrap();
        let engine = world.engine(0);
        world.run(async move {
            match engine.get("b", b"key", GetOptions::default()).await {
                Ok(mut get) => {
                    while let Some(chunk) = get.next().await {
                        chunk.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    }
                }
                Err(error) => assert!(error == Error::NoSuchKey && !acknowledged, "seed {seed}: {error}"),
            }
        });
    }
}

#[test]
fn a_world_that_goes_leaves_nothing() {
    let held = Rc::new(());
    let world = world(1);
    let holding = held.clone();
    let core = world.engine(0).core().clone();
    core.spawn(async move {
        let _held = holding;
        std::future::pending::<()>().await;
    })
    .detach();
    drop((core, world));
    assert_eq!(Rc::strong_count(&held), 1);
}

async fn moved(engine: &CoreEngine) -> (u64, u64) {
    let all = engine.statistics().await;
    (all.iter().map(|s| s.zones_cleaned).sum(), all.iter().map(|s| s.payloads_moved).sum())
}

#[test]
fn a_store_full_of_small_objects_takes_more_once_some_are_deleted() {
    // Every log zone keeps some live payloads, so that none is free for the deletes alone: the cleaner must gather what
    // is left. Then as much fits as was deleted, nearly, and all that was kept is as it was, also after an open.
    let mut world =
        World::new(3, WorldOptions { cores: 1, shards: 1, zones_max: 16, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    let work = engine.clone();
    let kept = world.run(async move {
        work.create_bucket("b", Bytes::new()).await.unwrap();
        let mut count = 0_u32;
        loop {
            match put(&work, &count.to_be_bytes(), 20_000).await {
                Ok(()) => count += 1,
                Err(Error::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(count > 200, "{count} objects of 20 KB in 8 MiB");
        let kept: Vec<u32> = (0..count).filter(|key| key % 4 == 0).collect();
        for key in (0..count).filter(|key| key % 4 > 0) {
            work.delete("b", &key.to_be_bytes(), WriteCondition::default()).await.unwrap();
        }
        kept
    });
    settle(&mut world);
    let work = engine.clone();
    let keys = kept.clone();
    world.run(async move {
        let (zones, payloads) = moved(&work).await;
        assert!(zones > 4 && payloads > 0, "{zones} zones cleaned, {payloads} payloads moved");
        for key in 0..2 * keys.len() as u32 {
            put(&work, &(1_000_000 + key).to_be_bytes(), 20_000).await.unwrap();
        }
    });
    drop(engine);
    world.close().unwrap();
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move {
        for key in kept {
            let mut get = engine.get("b", &key.to_be_bytes(), GetOptions::default()).await.unwrap();
            while let Some(chunk) = get.next().await {
                assert!(chunk.unwrap().iter().all(|byte| *byte == 7));
            }
        }
    });
    world.check_at_rest().unwrap();
}
