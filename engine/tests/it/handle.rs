//! What the handle promises to callers who give up, keep what they get, or ask for more than they can have.

use super::some_bytes;
use bytes::Bytes;
use crossdock::{
    CommitOptions, CompleteOptions, CoreEngine, Delete, Engine, Error, GetOptions, NamedPart, PutOptions,
};
use futures_lite::future::block_on;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

/// An object may be longer than memory: what is longer than a gigabyte is not gathered in one piece, and refused before a byte is read.
#[test]
fn get_bytes_has_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(1).shards(1).memory_bytes(32 << 20);
    let engine = builder.capacity_bytes(1 << 30).open().unwrap();
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.put_bytes("b", b"part", some_bytes(48 << 20, 1)).await.unwrap();
        let upload = engine.create_upload("b", b"long", Bytes::new()).await.unwrap().upload;
        let mut parts = Vec::new();
        // All of them share what the source has on the disk.
        for number in 1..=22 {
            let (source, target) =
                (("b", &b"part"[..], GetOptions::default()), ("b", &b"long"[..], upload, number));
            let part = engine.copy_part(source, target, CommitOptions::default()).await.unwrap();
            parts.push(NamedPart { number, etag: Some(part.etag) });
        }
        let made =
            engine.complete_upload("b", b"long", upload, parts, CompleteOptions::default()).await.unwrap();
        assert_eq!(made.size, 22 * (48 << 20));
        let refused = engine.get_bytes("b", b"long").await.map(|bytes| bytes.len());
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
        assert_eq!(engine.get_bytes("b", b"part").await.unwrap().len(), 48 << 20);
    });
    engine.close();
}

/// What `work` comes to, which must be within ten seconds.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    std::thread::Builder::new().spawn(move || sender.send(work())).unwrap();
    done.recv_timeout(Duration::from_secs(10)).expect("it hangs")
}

/// A panic in what somebody gave to a core, in a task there or in a front end ends that, and nothing else: whoever waits for it is told,
/// the core serves on, and it is counted.
#[test]
fn a_core_outlives_what_panics_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(1).shards(1).memory_bytes(32 << 20);
    let front_end = |engine: CoreEngine, _| async move {
        assert_eq!(engine.shard_count(), 2, "on purpose");
    };
    let engine = builder.capacity_bytes(1 << 30).on_each_core(front_end).open().unwrap();
    let asking = engine.clone();
    in_time(move || {
        block_on(async {
            asking.create_bucket("b", Bytes::new()).await.unwrap();
            let here = |engine: &CoreEngine| assert_eq!(engine.shard_count(), 2, "on purpose");
            // In the work, where it is begun, and in a task that it waits for; in one that nobody waits for.
            let work = move |engine: CoreEngine| async move { here(&engine) };
            assert_eq!(asking.on_core(0, work).await, Err(Error::Panicked));
            let begun = move |engine: CoreEngine| {
                here(&engine);
                std::future::ready(())
            };
            assert_eq!(asking.on_core(0, begun).await, Err(Error::Panicked));
            let task = move |engine: CoreEngine| async move {
                let core = engine.core().clone();
                core.spawn(async move { here(&engine) }).await;
            };
            assert_eq!(asking.on_core(0, task).await, Err(Error::Panicked));
            let detached = move |engine: CoreEngine| async move {
                let core = engine.core().clone();
                core.spawn(async move { here(&engine) }).detach();
            };
            assert_eq!(asking.on_core(0, detached).await, Ok(()));
            // What it had under way is let go of.
            let writing = move |engine: CoreEngine| async move {
                let mut put = engine.put("b", b"half", PutOptions::default()).await.unwrap();
                put.write(&[7; 100_000]).await.unwrap();
                here(&engine);
            };
            for _ in 0..600 {
                assert_eq!(asking.on_core(0, writing).await, Err(Error::Panicked));
            }
            asking.put_bytes("b", b"k", some_bytes(100, 1)).await.unwrap();
            assert_eq!(asking.get_bytes("b", b"k").await, Ok(some_bytes(100, 1)));
            assert_eq!(
                asking.on_core(1, |_| async {}).await.map_err(|error| error.is_uncertain()),
                Err(false)
            );
        });
    });
    assert_eq!(engine.metrics()[0].panics.value(), 1 + 2 + 2 + 1 + 600);
    assert_eq!(engine.failed_cores(), []);
    in_time(move || engine.close());
}

/// A store that is closed says what it could not do. Who waits for a time is told that it takes longer, whoever waits without blocking is
/// told when it is over, and it can be opened again then.
#[test]
fn closing_can_be_bounded_and_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || {
        let builder = Engine::builder().path(directory.path()).cores(1).shards(1).memory_bytes(32 << 20);
        builder.capacity_bytes(1 << 30)
    };
    let returns = Arc::new(AtomicBool::new(false));
    let front_end = {
        let returns = returns.clone();
        move |engine: CoreEngine, _| {
            let returns = returns.clone();
            async move {
                while !returns.load(Ordering::SeqCst) {
                    engine.core().sleep(Duration::from_millis(5)).await;
                }
            }
        }
    };
    let engine = builder().on_each_core(front_end).open().unwrap();
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    assert_eq!(engine.close_within(Duration::from_millis(50)), None);
    let waits = engine.clone();
    let waiting = std::thread::Builder::new().spawn(move || block_on(waits.shutdown())).unwrap();
    returns.store(true, Ordering::SeqCst);
    let report = in_time(move || waiting.join().unwrap());
    assert!(report.without_checkpoint.is_empty() && report.failed_cores.is_empty());
    assert_eq!(engine.close_within(Duration::ZERO), Some(report));
    assert_eq!(block_on(engine.bucket("b")).err(), Some(Error::Closed));
    builder().open().unwrap().close();
}

/// How full a store is: what is stored adds to what is used, what is deleted comes back, and both are of a capacity that stays.
#[test]
fn a_store_says_how_full_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(2).shards(2).memory_bytes(64 << 20);
    let engine = builder.capacity_bytes(1 << 30).open().unwrap();
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        let before = engine.space().await.unwrap();
        assert_eq!((before.shards, before.used_bytes + before.free_bytes), (2, before.capacity_bytes));
        assert!((900 << 20..=1 << 30).contains(&before.capacity_bytes), "{before:?}");
        engine.put_bytes("b", b"k", some_bytes(8 << 20, 1)).await.unwrap();
        let full = engine.space().await.unwrap();
        assert_eq!(full.capacity_bytes, before.capacity_bytes);
        assert!(full.used_bytes >= before.used_bytes + (8 << 20), "{full:?}");
        assert_eq!(full.used_bytes + full.free_bytes, full.capacity_bytes);
        engine.delete("b", Delete::current(b"k")).await.unwrap();
        assert!(engine.space().await.unwrap().used_bytes < full.used_bytes);
    });
    engine.close();
}
