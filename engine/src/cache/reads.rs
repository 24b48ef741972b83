//! Objects that are read through the cache, in the simulator: what is there is read from no device, what changed is not served.

use crate::{
    CoreEngine, Error,
    device::simulated::{Fault, Times},
    layout::Version,
    object::types::{CommitOptions, Delete, GetOptions, PutOptions, Select, Which},
    testing::world::{World, WorldOptions},
};
use bytes::Bytes;
use std::{cell::Cell, rc::Rc};

/// In the record, in the log, in extents of one chunk and of several.
const SIZES: [usize; 4] = [100, 40_000, 700_000, 2_500_000];

fn world(seed: u64, read_cache_bytes: usize) -> World {
    let options = WorldOptions {
        cores: 2,
        shards: 1,
        zone_bytes: 4 << 20,
        read_cache_bytes,
        ..WorldOptions::default()
    };
    let mut world = World::new(seed, options);
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move { engine.create_bucket("b", Bytes::new()).await.map(drop).unwrap() });
    world
}

fn body(bytes: usize, salt: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(salt);
    std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect()
}

async fn put(engine: &CoreEngine, key: &str, bytes: &[u8]) -> Version {
    let mut put =
        engine.put("b", key.as_bytes(), PutOptions { size: Some(bytes.len() as u64) }).await.unwrap();
    put.write(bytes).await.unwrap();
    put.finish(CommitOptions::default()).await.unwrap().version
}

async fn get(engine: &CoreEngine, key: &str, select: Select) -> Result<Vec<u8>, Error> {
    let options = GetOptions { select, ..GetOptions::default() };
    let mut get = engine.get("b", key.as_bytes(), options).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = get.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

/// No read of any file succeeds any more.
fn break_reads(world: &World) {
    for name in ["log-0", "data-0"] {
        let file = world.disk.find(name).expect("the shard has one");
        world.disk.inject(file, Fault::ReadError, Times::Sticky);
    }
}

/// What was read once is there when no device can be read any more, whole and in ranges; on the core that read it, and on no other.
#[test]
fn what_was_read_is_read_from_no_device_again() {
    let mut world = world(1, 16 << 20);
    let (first, second) = (world.engine(0), world.engine(1));
    let engine = first.clone();
    world.run(async move {
        for bytes in SIZES {
            put(&engine, &format!("{bytes}"), &body(bytes, 1)).await;
            assert_eq!(get(&engine, &format!("{bytes}"), Select::Whole).await, Ok(body(bytes, 1)));
        }
    });
    let misses = first.metrics().cache_misses.value();
    break_reads(&world);
    world.run(async move {
        for bytes in SIZES {
            let (key, whole) = (format!("{bytes}"), body(bytes, 1));
            assert_eq!(get(&first, &key, Select::Whole).await, Ok(whole.clone()));
            for range in [0..1, bytes - 7..bytes, bytes / 3..bytes / 2, bytes / 2..bytes] {
                let select = Select::Between(range.start as u64, range.end as u64 - 1);
                assert_eq!(get(&first, &key, select).await, Ok(whole[range].to_vec()), "{bytes}");
            }
            if bytes > 1000 {
                assert!(matches!(get(&second, &key, Select::Whole).await, Err(Error::Device(_))), "{bytes}");
            }
        }
        assert_eq!(first.metrics().cache_misses.value(), misses);
        assert!(first.metrics().cache_hits.value() > 0);
    });
}

/// Of readers who come at once, one reads.
#[test]
fn readers_at_once_share_a_read() {
    let mut world = world(2, 16 << 20);
    let engine = world.engine(0);
    let metrics = engine.clone();
    world.run(async move {
        put(&engine, "k", &body(700_000, 1)).await;
        let readers: Vec<_> = (0..8)
            .map(|_| {
                let reader = engine.clone();
                engine.core().spawn_own(async move { get(&reader, "k", Select::Whole).await })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await, Ok(body(700_000, 1)));
        }
    });
    // Extents are powers of two: 512 KiB, 128 KiB, and 64 KiB for the rest.
    assert_eq!(metrics.metrics().cache_misses.value(), 3);
    assert_eq!(metrics.metrics().cache_shared.value() + metrics.metrics().cache_hits.value(), 7 * 3);
}

/// Whenever the reader that others wait for goes away, they have the bytes all the same, and nothing stays behind.
#[test]
fn a_reader_that_goes_away_leaves_the_others_going() {
    let mut gone_while_reading = 0;
    for turn in 0..240 {
        let steps = turn % 80;
        let mut world = world(turn, 16 << 20);
        let engine = world.engine(0);
        let set_up = engine.clone();
        world.run(async move { put(&set_up, "k", &body(700_000, 1)).await });
        let (leader, follower) = (engine.clone(), engine.clone());
        let done = Rc::new(Cell::new(false));
        let set = done.clone();
        let leading = engine.core().spawn_own(async move { drop(get(&leader, "k", Select::Whole).await) });
        let following = engine.core().spawn_own(async move {
            assert_eq!(get(&follower, "k", Select::Whole).await, Ok(body(700_000, 1)));
            set.set(true);
        });
        for _ in 0..steps {
            world.step();
        }
        let waited = engine.metrics().cache_shared.value();
        gone_while_reading += usize::from(waited > 0 && !done.get());
        drop(leading);
        world.run(following);
        drop(engine);
        while world.step() {}
        world.check_at_rest().unwrap_or_else(|error| panic!("turn {turn}, after {steps} steps: {error}"));
    }
    assert!(gone_while_reading > 5, "{gone_while_reading}");
}

/// An object that is written again is another one, also for whoever read the first; what was deleted is gone.
#[test]
fn what_changed_is_not_served() {
    let mut world = world(3, 16 << 20);
    let engine = world.engine(0);
    world.run(async move {
        for (index, bytes) in SIZES.into_iter().enumerate() {
            let key = format!("{index}");
            for salt in 0..3 {
                put(&engine, &key, &body(bytes, salt)).await;
                assert_eq!(get(&engine, &key, Select::Whole).await, Ok(body(bytes, salt)));
            }
            engine.delete("b", Delete::current(key.as_bytes())).await.unwrap();
            assert_eq!(get(&engine, &key, Select::Whole).await, Err(Error::NoSuchKey));
        }
    });
}

/// A cache much smaller than what is read, and a pool that is needed: every byte is still the right one, and all memory comes back.
#[test]
fn a_cache_too_small_for_all() {
    let mut world = world(4, 1 << 20);
    let engine = world.engine(0);
    world.run(async move {
        let keys: Vec<String> = (0..40).map(|number| format!("{number}")).collect();
        for (salt, key) in keys.iter().enumerate() {
            put(&engine, key, &body(30_000 + 5000 * salt, salt as u64)).await;
        }
        for _ in 0..3 {
            let readers: Vec<_> = (0..40_usize)
                .map(|salt| {
                    let (reader, key) = (engine.clone(), keys[salt].clone());
                    engine.core().spawn_own(async move {
                        let read = get(&reader, &key, Select::Whole).await;
                        assert_eq!(read, Ok(body(30_000 + 5000 * salt, salt as u64)));
                    })
                })
                .collect();
            for reader in readers {
                reader.await;
            }
            assert!(engine.metrics().cache_bytes.value() <= 1 << 20);
        }
    });
    while world.step() {}
    world.check_at_rest().unwrap();
}

/// A version is read as what it was, whatever came after it.
#[test]
fn versions_are_told_apart() {
    let mut world = world(5, 16 << 20);
    let engine = world.engine(0);
    world.run(async move {
        engine.set_versioning("b", crate::Versioning::Enabled).await.unwrap();
        let mut versions = Vec::new();
        for salt in 0..3 {
            versions.push(put(&engine, "k", &body(40_000, salt)).await);
        }
        for _ in 0..2 {
            for (salt, version) in versions.iter().enumerate() {
                let options = GetOptions { version: Which::Version(*version), ..GetOptions::default() };
                let mut get = engine.get("b", b"k", options).await.unwrap();
                let chunk = get.next().await.unwrap().unwrap();
                assert_eq!(&chunk[..], body(40_000, salt as u64), "{salt}");
            }
        }
    });
}
