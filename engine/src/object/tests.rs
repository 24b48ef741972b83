//! What transfers do when memory or a device fails them, on the simulator's clock.

use super::types::{CommitOptions, Delete, GetOptions, ListOptions, ListStart, PutOptions, UploadItem};
use crate::{
    core_engine::CoreEngine,
    device::simulated::{Fault, Times},
    error::{Error, Resource},
    testing::world::{World, WorldOptions},
};
use bytes::Bytes;
use crossdock_transport::memory::BufferLease;
use std::time::Duration;

const LARGE_BYTES: usize = 12 << 20;

async fn put(engine: &CoreEngine, key: &[u8], bytes: usize) -> Result<(), Error> {
    let mut put = engine.put("b", key, PutOptions { size: Some(bytes as u64) }).await?;
    put.write(&vec![7; bytes]).await?;
    put.finish(CommitOptions::default()).await.map(drop)
}

/// A store of one core with a bucket, and a large object in it.
fn world(seed: u64) -> World {
    let mut world = World::new(seed, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        put(&engine, b"large", LARGE_BYTES).await.unwrap();
    });
    while world.step() {}
    world
}

/// Takes all of the core's memory but for some superpages.
fn take_all_but(engine: &CoreEngine, superpages: usize) -> Vec<BufferLease> {
    let pool = engine.core().pool();
    pool.drain_returns();
    let mut taken: Vec<_> = std::iter::from_fn(|| pool.try_acquire(4 << 20)).collect();
    taken.truncate(taken.len() - superpages);
    pool.drain_returns();
    taken
}

/// Whoever keeps all that it reads is told so when there is no memory left, and not kept waiting for what it holds itself; whoever waits
/// behind it goes on then. Nothing is lost: once it lets go, it reads on.
#[test]
fn who_keeps_what_it_reads_is_told() {
    let mut world = world(1);
    let engine = world.engine(0);
    let others = world.run(async move {
        let _rest = take_all_but(&engine, 2);
        let behind = {
            let engine = engine.clone();
            engine.core().clone().spawn_own(async move {
                while engine.core().pool().waiters() == 0 {
                    engine.core().sleep(Duration::from_millis(1)).await;
                }
                put(&engine, b"small", 200_000).await?;
                let mut get = engine.get("b", b"small", GetOptions::default()).await?;
                get.next().await.expect("it has bytes").map(|chunk| chunk.len())
            })
        };
        let mut get = engine.get("b", b"large", GetOptions::default()).await.unwrap();
        let mut kept = Vec::new();
        let refused = loop {
            match get.next().await.expect("there is no memory for all of it") {
                Ok(chunk) => kept.push(chunk),
                Err(error) => break error,
            }
        };
        assert_eq!(refused, Error::Busy(Resource::ReadMemory));
        let mut read: usize = kept.drain(..).map(|chunk| chunk.len()).sum();
        let others = behind.await;
        while let Some(chunk) = get.next().await {
            read += chunk.unwrap().len();
        }
        assert_eq!(read, LARGE_BYTES);
        others
    });
    assert_eq!(others, Ok(200_000));
    while world.step() {}
    world.check_at_rest().unwrap();
}

/// A writer for whom there is no memory is told so after a while.
#[test]
fn a_writer_does_not_wait_for_memory_for_ever() {
    let mut world = world(2);
    let engine = world.engine(0);
    world.run(async move {
        let _superpages = take_all_but(&engine, 0);
        let _rest: Vec<_> = std::iter::from_fn(|| engine.core().pool().try_acquire(64 << 10)).collect();
        assert_eq!(put(&engine, b"small", 5000).await, Err(Error::Busy(Resource::WriteMemory)));
    });
}

/// A device that fails before anything is sequenced has changed nothing, and one that fails while the log is written may have: the two are
/// told apart.
#[test]
fn a_change_that_may_be_there_is_told_from_one_that_is_not() {
    for (file, certain) in [("data-0", true), ("log-0", false)] {
        let mut world = world(3);
        let engine = world.engine(0);
        let file = world.disk.find(file).expect("the shard has one");
        world.disk.inject(file, Fault::WriteError, Times::Once);
        world.run(async move {
            let answer = put(&engine, b"other", 600_000).await;
            assert_eq!(matches!(answer, Err(Error::Device(_))), certain, "{answer:?}");
            assert_eq!(answer.is_err_and(|error| error.is_uncertain()), !certain);
            let deleted = engine.delete("b", Delete::current(b"other")).await;
            assert_eq!(deleted.is_ok(), certain, "{deleted:?}");
        });
    }
}

/// Uploads are listed a page at a time, over all shards, whatever becomes of the one that a page ended with; and none of another bucket.
#[test]
fn uploads_are_listed_in_pages() {
    let mut world = World::new(4, WorldOptions { cores: 2, shards: 3, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move {
        let mut begun = Vec::new();
        for bucket in ["a", "b", "c"] {
            engine.create_bucket(bucket, Bytes::new()).await.unwrap();
            for key in ["d/1", "d/2", "e", "e", "e", "f/1", "f\u{ff}", "g"] {
                engine.core().sleep(Duration::from_millis(2)).await;
                let upload = engine.create_upload(bucket, key.as_bytes(), Bytes::new()).await.unwrap();
                begun.extend((bucket == "b").then_some(upload));
            }
        }
        for limit in 1..10 {
            let mut options = ListOptions { limit, ..ListOptions::default() };
            let mut found = Vec::new();
            loop {
                let page = engine.list_uploads("b", &options).await.unwrap();
                assert!(page.items.len() <= limit);
                found.extend(page.items);
                let Some(next) = page.next else { break };
                options.start = next;
            }
            assert_eq!(found, begun.iter().cloned().map(UploadItem::Upload).collect::<Vec<_>>(), "{limit}");
        }
        let options = ListOptions { delimiter: b"/".to_vec(), limit: 3, ..ListOptions::default() };
        let page = engine.list_uploads("b", &options).await.unwrap();
        let prefix = |prefix: &[u8]| UploadItem::CommonPrefix(prefix.to_vec());
        let upload = |index: usize| UploadItem::Upload(begun[index].clone());
        assert_eq!(page.items, [prefix(b"d/"), upload(2), upload(3)]);
        engine.abort_upload("b", b"e", begun[3].upload).await.unwrap();
        let options = ListOptions { start: page.next.unwrap(), ..options };
        let page = engine.list_uploads("b", &options).await.unwrap();
        assert_eq!(page.items, [upload(4), prefix(b"f/"), upload(6)]);
        let options =
            ListOptions { prefix: b"f".to_vec(), start: ListStart::After(b"f/1".to_vec()), ..options };
        assert_eq!(engine.list_uploads("b", &options).await.unwrap().items, [upload(6)]);
        // Those of a bucket that is gone are gone from the order too.
        engine.delete_bucket("b").await.unwrap();
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        assert_eq!(engine.list_uploads("b", &options).await.unwrap().items, []);
        let rest = ListOptions { limit: 100, ..ListOptions::default() };
        assert_eq!(engine.list_uploads("c", &rest).await.unwrap().items.len(), 8);
    });
}
