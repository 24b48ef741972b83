//! What becomes of operations whose caller goes away, and of buckets when the power does.

mod busy;
mod damage;
mod removal;
mod space;
mod uploads;
mod writing;

use super::{CommitOptions, CoreEngine, Delete, GetOptions, PutOptions, Which};
use crate::{
    Error,
    device::simulated::{Fault, Times},
    layout::{Version, Versioning},
    object::types::{ListOptions, VersionItem, VersionKind},
    shard::scrub::ScrubRate,
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
    put.write(&vec![7; bytes]).await?;
    put.finish(CommitOptions::default()).await.map(drop)
}

/// Starts `work` and drops it after so many steps of the world; says whether it was done by then.
fn cut_off(world: &mut World, steps: u32, work: impl Future<Output = ()> + 'static) -> bool {
    let done = Rc::new(Cell::new(false));
    let set = done.clone();
    let task = world.engine(0).core().spawn_own(async move {
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
            engine.delete("b", Delete::current(b"key")).await.unwrap();
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
        let deleting = core.spawn_own(async move {
            for _ in 0..10 {
                assert_eq!(other.delete_bucket("b").await, Err(Error::BucketNotEmpty));
            }
        });
        world.run(async move {
            for key in 0..20u8 {
                put(&engine, &[key], 10).await.unwrap();
                engine.delete("b", Delete::current(&[key])).await.unwrap();
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
        let deleting = core.spawn_own(async move { other.delete_bucket("b").await });
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
                engine.head("b", &[key], Which::Current).await.unwrap();
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
            .on_shard(home, |shard| async move { shard.begin_bucket("b", Default::default()).await })
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
                    .on_shard(home, |shard| async move { shard.begin_bucket("b", Default::default()).await })
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
            engine.head("b", &[key], Which::Current).await.unwrap();
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
        world.engine(1).core().spawn_own(filling).detach();
        cut_off(&mut world, steps, async move {
            engine.create_bucket("b", Bytes::new()).await.unwrap();
            for key in 0..4u8 {
                while !engine.delete("b", Delete::current(&[key])).await.is_ok_and(|d| d.removed.is_some()) {
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
        put.write(&vec![7; 2 << 20]).await.unwrap();
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
            let checkpoint = core.spawn_own(async move {
                checkpointing.on_shard(0, |shard| async move { shard.checkpoint().await }).await
            });
            let putting = engine.clone();
            let put = core.spawn_own(async move { put(&putting, b"key", 100_000).await });
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
    core.spawn_own(async move {
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
        World::new(3, WorldOptions { cores: 1, shards: 1, zones_max: 24, ..WorldOptions::default() });
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
            work.delete("b", Delete::current(&key.to_be_bytes())).await.unwrap();
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
    // The cleaner goes on after the open.
    settle(&mut world);
    world.check_at_rest().unwrap();
}

#[test]
fn a_bucket_half_changed_is_changed_in_full() {
    // The power goes at every step of a change of versioning, with somebody writing on: afterwards all shards have one
    // record, the new one if it was acknowledged, and what was acknowledged before or after the change is kept as it was.
    let (mut before, mut after, mut kept_versions) = (0, 0, 0);
    for steps in (0..60).chain((60..240).step_by(6)) {
        let mut world = world(u64::from(steps));
        let (engine, writer) = (world.engine(0), world.engine(1));
        let set_up = engine.clone();
        world.run(async move {
            set_up.create_bucket("b", Bytes::new()).await.unwrap();
            for key in 0..6u8 {
                put(&set_up, &[key], 10).await.unwrap();
            }
        });
        let (changed, kept) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0u8)));
        let (set, count) = (changed.clone(), kept.clone());
        let begun = changed.clone();
        let writing = async move {
            for key in 0..6u8 {
                let sure = begun.get();
                put(&writer, &[key], 20).await.unwrap();
                // Whatever was asked for once the change was acknowledged leaves the older version where it was.
                if sure {
                    count.set(count.get() | 1 << key);
                }
            }
        };
        world.engine(1).core().spawn_own(writing).detach();
        cut_off(&mut world, steps, async move {
            engine.set_versioning("b", Versioning::Enabled).await.unwrap();
            set.set(true);
        });
        world.crash();
        world.open().unwrap();
        let engine = world.engine(0);
        let records = world.run(async move {
            let mut records = Vec::new();
            for shard in 0..engine.shard_count() {
                let there = engine.on_shard(shard, |shard| async move { shard.bucket("b") }).await;
                records.push(there.unwrap().versioning);
            }
            records
        });
        assert!(records.iter().all(|versioning| *versioning == records[0]), "{steps} steps: {records:?}");
        let is_changed = records[0] == Versioning::Enabled;
        assert!(is_changed || !changed.get(), "{steps} steps: an acknowledged change is gone");
        (before, after) = (before + u32::from(!is_changed), after + u32::from(is_changed));
        kept_versions += kept.get().count_ones();
        let engine = world.engine(0);
        world.run(async move {
            for key in 0..6u8 {
                let current = engine.head("b", &[key], Which::Current).await.unwrap();
                let null = engine.head("b", &[key], Which::Null).await;
                if kept.get() & 1 << key != 0 {
                    assert_eq!((current.size, current.is_null_version), (20, false));
                    assert_eq!(null.map(|null| null.size), Ok(10));
                }
                if !is_changed {
                    assert!(current.is_null_version, "a version is kept in a bucket that keeps none");
                }
            }
        });
        world.check_at_rest().unwrap();
        world.close().unwrap();
        world.check_disks(crate::inspect::Severity::Note).unwrap();
    }
    assert!(
        before > 5 && after > 5 && kept_versions > 5,
        "{before} before, {after} after, {kept_versions} kept"
    );
}

/// Gives the bucket's versions and markers, as (key, number, size), the newest of a key first.
async fn versions(engine: &CoreEngine) -> Vec<(Vec<u8>, Version, Option<u64>)> {
    let options = ListOptions { limit: 10_000, ..ListOptions::default() };
    let page = engine.list_versions("b", &options).await.unwrap();
    let line = |item| match item {
        VersionItem::Version { key, kind, .. } => {
            let size = if let VersionKind::Object(info) = &kind { Some(info.size) } else { None };
            (key, kind.version(), size)
        }
        VersionItem::CommonPrefix(prefix) => panic!("{prefix:?} without a delimiter"),
    };
    page.items.into_iter().map(line).collect()
}

#[test]
fn many_deletes_that_are_cut_short_are_each_done_or_not() {
    // The power goes at every few steps of a batch of deletes over all shards, of keys and of versions: each delete is
    // there whole or not at all, and all are if the caller heard of it.
    let (mut none, mut some, mut all) = (0, 0, 0);
    for steps in (0..160).step_by(2) {
        let mut world = world(u64::from(steps));
        let engine = world.engine(0);
        let set_up = engine.clone();
        let before = world.run(async move {
            set_up.create_bucket("b", Bytes::new()).await.unwrap();
            set_up.set_versioning("b", Versioning::Enabled).await.unwrap();
            for key in (0..12u8).chain(0..12) {
                put(&set_up, &[key], 3000 + usize::from(key)).await.unwrap();
            }
            versions(&set_up).await
        });
        // Of even keys the older version goes, of odd ones the key is hidden.
        let older = before.iter().skip(1).step_by(2).filter(|(key, ..)| key[0] % 2 == 0);
        let named =
            older.map(|(key, version, _)| Delete { which: Which::Version(*version), ..Delete::current(key) });
        let hidden = (1..12u8).step_by(2).map(|key| Delete::current(&[key]));
        let deletes: Vec<Delete> = named.chain(hidden).collect();
        let heard = Rc::new(Cell::new(false));
        let hears = heard.clone();
        let work = engine.clone();
        cut_off(&mut world, steps, async move {
            let answers = work.delete_many("b", deletes).await.unwrap();
            hears.set(answers.iter().all(Result::is_ok));
        });
        drop(engine);
        world.crash();
        world.open().unwrap();
        let engine = world.engine(0);
        let after = world.run(async move { versions(&engine).await });
        let mut done = 0;
        for key in 0..12u8 {
            let of_key = |all: &[(Vec<u8>, Version, Option<u64>)]| -> Vec<(Version, Option<u64>)> {
                all.iter().filter(|(k, ..)| *k == [key]).map(|(_, v, size)| (*v, *size)).collect()
            };
            let (was, is) = (of_key(&before), of_key(&after));
            let is_done = match is.len() {
                1 => is == was[..1] && key % 2 == 0,
                3 => is[0].1.is_none() && is[0].0 > was[0].0 && is[1..] == was && key % 2 == 1,
                _ => false,
            };
            assert!(is_done || is == was, "{steps} steps, key {key}: {was:?} became {is:?}");
            done += u32::from(is_done);
        }
        assert!(done == 12 || !heard.get(), "{steps} steps: {done} of 12 acknowledged deletes are there");
        (none, some, all) =
            (none + u32::from(done == 0), some + u32::from(done % 12 > 0), all + u32::from(done == 12));
        world.check_at_rest().unwrap();
        world.close().unwrap();
        world.check_disks(crate::inspect::Severity::Note).unwrap();
    }
    assert!(none > 0 && some > 0 && all > 0, "{none} with none done, {some} with some, {all} with all");
}

#[test]
fn a_full_store_goes_on_with_deletes() {
    // Keys of a store that is full can be hidden, though its bucket keeps what was there, until there is no room for a checkpoint with one more
    // record, which may be so at once; versions go all the same, and then it takes more. In files and in a window, full of what is packed and of what is in extents.
    for (raw, bytes) in [(false, 20_000), (true, 20_000), (false, 100_000), (true, 100_000)] {
        let options = WorldOptions { cores: 1, shards: 1, zones_max: 24, raw, ..WorldOptions::default() };
        let mut world = World::new(7, options);
        world.open().unwrap();
        let engine = world.engine(0);
        world.run(async move {
            engine.create_bucket("b", Bytes::new()).await.unwrap();
            engine.set_versioning("b", Versioning::Enabled).await.unwrap();
            let mut count = 0_u32;
            loop {
                match put(&engine, &count.to_be_bytes(), bytes).await {
                    Ok(()) => count += 1,
                    Err(Error::Full { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            for key in 0..count {
                match engine.delete("b", Delete::current(&key.to_be_bytes())).await {
                    Ok(deleted) => assert!(deleted.marker.is_some(), "{key}: {deleted:?}"),
                    Err(Error::Full { .. }) => break,
                    Err(error) => panic!("{key}: {error}"),
                }
            }
            // Without end, one after the other: refused at some time, and by nothing but that there is no room.
            for _ in 0..3000 {
                match engine.delete("b", Delete::current(&[1])).await {
                    Ok(_) => {}
                    Err(Error::Full { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            for (key, version, _) in versions(&engine).await {
                let which = Which::Version(version);
                engine.delete("b", Delete { which, ..Delete::current(&key) }).await.unwrap();
            }
            while let Err(error) = put(&engine, b"again", bytes).await {
                assert!(matches!(error, Error::Full { .. }), "{error}");
                engine.core().sleep(std::time::Duration::from_millis(200)).await;
            }
        });
        settle(&mut world);
        world.check_at_rest().unwrap();
        world.close().unwrap();
        world.open().unwrap();
    }
}

#[test]
fn the_cleaner_moves_versions_that_are_not_current() {
    // Of many versions of few keys most go, oldest and newest alike: what the cleaner moves are versions below others,
    // and each is as it was, also after an open.
    let mut world =
        World::new(5, WorldOptions { cores: 1, shards: 1, zones_max: 24, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    let work = engine.clone();
    let kept = world.run(async move {
        work.create_bucket("b", Bytes::new()).await.unwrap();
        work.set_versioning("b", Versioning::Enabled).await.unwrap();
        let mut count = 0_usize;
        loop {
            match put(&work, &[count as u8 % 3], 20_000 + count).await {
                Ok(()) => count += 1,
                Err(Error::Full { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        // A marker goes on, and so does the delete of a version, the marker's own to begin with.
        let marker = work.delete("b", Delete::current(&[0])).await.unwrap().marker.unwrap();
        let which = Which::Version(marker.version);
        work.delete("b", Delete { which, ..Delete::current(&[0]) }).await.unwrap();
        for (key, version, size) in versions(&work).await {
            if size.is_some_and(|size| size % 4 > 0) {
                let which = Which::Version(version);
                work.delete("b", Delete { which, ..Delete::current(&key) }).await.unwrap();
            }
        }
        versions(&work).await
    });
    assert!(kept.len() > 50, "{} versions kept", kept.len());
    settle(&mut world);
    let work = engine.clone();
    world.run(async move {
        let (zones, payloads) = moved(&work).await;
        assert!(zones > 4 && payloads > 10, "{zones} zones cleaned, {payloads} payloads moved");
        work.delete("b", Delete::current(&[0])).await.unwrap();
    });
    drop(engine);
    world.close().unwrap();
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move {
        for (key, version, size) in kept {
            let options = GetOptions { version: Which::Version(version), ..GetOptions::default() };
            let mut get = engine.get("b", &key, options).await.unwrap();
            let mut bytes = 0;
            while let Some(chunk) = get.next().await {
                let chunk = chunk.unwrap();
                assert!(chunk.iter().all(|byte| *byte == 7));
                bytes += chunk.len() as u64;
            }
            assert_eq!(Some(bytes), size);
        }
    });
    world.check_at_rest().unwrap();
}

#[test]
fn a_body_of_unknown_length_may_be_longer_than_what_is_packed() {
    // The first buffer holds what may be packed, which need not be whole checksum blocks; more may follow it all the same.
    for packed_bytes_max in [4 << 10, 16 << 10, 100 << 10] {
        let options = WorldOptions { packed_bytes_max, ..WorldOptions::default() };
        let mut world = World::new(1, options);
        world.open().unwrap();
        let engine = world.engine(0);
        world.run(async move {
            engine.create_bucket("b", Bytes::new()).await.unwrap();
            let mut put = engine.put("b", b"k", PutOptions { size: None }).await.unwrap();
            put.write(&vec![7; 300_000]).await.unwrap();
            let info = put.finish(CommitOptions::default()).await.unwrap();
            assert_eq!(info.size, 300_000);
        });
    }
}

#[test]
fn metadata_is_scrubbed_one_shard_at_a_time() {
    // Three shards of one core that come to their metadata at once hold the memory that one of them takes for it, not three times
    // as much.
    let most = |shards: u16| {
        let options = WorldOptions { cores: 1, shards: 3, ..WorldOptions::default() };
        let mut world = World::new(5, options);
        world.open().unwrap();
        let engine = world.engine(0);
        let set_up = engine.clone();
        world.run(async move {
            set_up.create_bucket("b", Bytes::new()).await.unwrap();
            set_up.checkpoint().await.unwrap();
        });
        let pool = engine.core().pool().clone();
        pool.drain_returns();
        let at_rest = pool.leased_bytes();
        let done = Rc::new(Cell::new(0));
        for shard in engine.own_shards().take(usize::from(shards)) {
            let (shard, done) = (shard.clone(), done.clone());
            let tour = async move {
                shard.scrub(ScrubRate::default()).await.unwrap();
                done.set(done.get() + 1);
            };
            engine.core().spawn_own(tour).detach();
        }
        let mut most = 0;
        while done.get() < shards {
            assert!(world.step(), "the scrubs do not come to their end");
            most = most.max(pool.leased_bytes() - at_rest);
        }
        most
    };
    let (one, three) = (most(1), most(3));
    assert!(one > 0 && three < 2 * one, "one holds {one} B, three {three} B");
}
