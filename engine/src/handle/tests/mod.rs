//! What handles say when a core ends, and when memory does.

use super::*;
use crate::{
    error::Resource,
    testing::world::{World, WorldOptions},
};
use futures_lite::future::{block_on, poll_once};
use std::{pin::pin, sync::mpsc};

/// What `work` comes to, which must be within ten seconds.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    std::thread::Builder::new().spawn(move || sender.send(work())).unwrap();
    done.recv_timeout(Duration::from_secs(10)).expect("it hangs")
}

/// A core that panics in the midst of a change of the engine's own has failed: whoever asks it is told so, those who had asked it too,
/// the others go on, and the store can be closed.
#[test]
fn a_core_that_fails_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(2).shards(2).memory_bytes(64 << 20);
    let engine = builder.capacity_bytes(1 << 30).open().unwrap();
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let [here, there] = [0, 1].map(|core| {
        let of_core = |key: &u8| engine.core_of(engine.shard_of("b", &[*key])) == core;
        (0..=255u8).find(of_core).unwrap()
    });
    block_on(engine.put_bytes("b", &[here], Bytes::from_static(b"here"))).unwrap();
    let (asked, asking) = (engine.clone(), engine.clone());
    let mut put = block_on(engine.put("b", &[there], PutOptions::default())).unwrap();
    // It is there when the panic comes, and waits for what will not come.
    let waiting = std::thread::Builder::new()
        .spawn(move || block_on(asked.on_core(1, |_| std::future::pending::<()>())))
        .unwrap();
    let told = engine.clone();
    let told = std::thread::Builder::new().spawn(move || block_on(told.core_failure(0))).unwrap();
    let watched = engine.clone();
    let mut failure = pin!(watched.core_failure(0));
    assert_eq!(block_on(poll_once(failure.as_mut())), None);
    let panics = move || {
        block_on(asking.on_core(1, |engine| async move {
            let core = engine.core().clone();
            core.sleep(Duration::from_millis(20)).await;
            core.section(|| assert_eq!(engine.shard_count(), 1, "on purpose"));
        }))
    };
    let failed = Error::CoreFailed { core: 1 };
    assert_eq!(in_time(panics), Err(failed.clone()));
    assert_eq!(in_time(move || waiting.join().unwrap()), Err(failed.clone()));
    assert_eq!(in_time(move || told.join().unwrap()), [1]);
    assert_eq!(block_on(poll_once(failure)), Some(vec![1]));
    assert_eq!(block_on(put.write(Bytes::from_static(b"late"))), Err(failed.clone()));
    let asking = engine.clone();
    assert_eq!(in_time(move || block_on(asking.get_bytes("b", &[there]))), Err(failed.clone()));
    let asking = engine.clone();
    let from_another_core = move || {
        block_on(asking.on_core(0, move |engine| async move {
            engine.head("b", &[there], Which::Current).await.map(|_| ())
        }))
    };
    assert_eq!(in_time(from_another_core), Ok(Err(failed)));
    assert_eq!(block_on(engine.get_bytes("b", &[here])), Ok(Bytes::from_static(b"here")));
    assert_eq!(engine.failed_cores(), [1]);
    in_time(move || engine.close());
}

/// A reader for whom there was no memory for a while is told, and goes on: nothing is lost.
#[test]
fn a_stream_goes_on_after_a_shortage() {
    const BYTES: usize = 3 << 20;
    let mut world = World::new(1, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        let mut put = engine.put("b", b"k", PutOptions::default()).await.unwrap();
        put.write(&vec![7; BYTES]).await.unwrap();
        put.finish(CommitOptions::default()).await.unwrap();
        let get = engine.get("b", b"k", GetOptions::default()).await.unwrap();
        let pool = engine.core().pool();
        pool.drain_returns();
        let taken: Vec<_> = [4 << 20, 1 << 20, 64 << 10, 4 << 10]
            .into_iter()
            .flat_map(|bytes| std::iter::from_fn(move || pool.try_acquire(bytes)))
            .collect();
        let mut stream = GetStream::start(&engine, get);
        for _ in 0..2 {
            assert_eq!(
                stream.next().await.map(|chunk| chunk.map(drop)),
                Some(Err(Error::Busy(Resource::ReadMemory)))
            );
        }
        drop(taken);
        let mut read = 0;
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => read += chunk.len(),
                // It had waited again by then.
                Err(error) => assert_eq!((error, read), (Error::Busy(Resource::ReadMemory), 0)),
            }
        }
        assert_eq!(read, BYTES);
    });
    while world.step() {}
    world.check_at_rest().unwrap();
}
