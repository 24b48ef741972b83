//! A store on a loop that is not its own.

use super::some_bytes;
use bytes::Bytes;
use crossdock::{
    CommitOptions, CoreEngine, Delete, Engine, Error, GetOptions, ListOptions, PutOptions, Turn,
};
use crossdock_transport::ring::DriverChoice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{cell::Cell, rc::Rc};

async fn work(engine: CoreEngine) -> Result<(), Error> {
    engine.create_bucket("b", Bytes::new()).await?;
    for (number, size) in [0, 700, 20_000, 300_000, 3 << 20].into_iter().enumerate() {
        let key = number.to_le_bytes();
        let bytes = some_bytes(size, number as u64);
        let mut put = engine.put("b", &key, PutOptions { size: Some(size as u64) }).await?;
        put.write(&bytes).await?;
        put.finish(CommitOptions::default()).await?;
        let mut get = engine.get("b", &key, GetOptions::default()).await?;
        let mut read = Vec::new();
        while let Some(chunk) = get.next().await {
            read.extend_from_slice(&chunk?);
        }
        assert!(read == bytes);
    }
    engine.delete("b", Delete::current(&0usize.to_le_bytes())).await?;
    let listed = engine.list("b", &ListOptions { limit: 10, ..ListOptions::default() }).await?;
    assert_eq!(listed.items.len(), 4);
    Ok(())
}

/// All operations come to their end when the core is polled only after its descriptor was readable or its deadline has passed; with
/// io_uring and without. The store is closed in good order, and holds what it held.
#[test]
fn a_store_is_driven_by_its_descriptor() {
    for driver in [DriverChoice::Best, DriverChoice::Portable] {
        let directory = tempfile::tempdir().unwrap();
        let builder = || Engine::builder().path(directory.path()).memory_bytes(64 << 20).driver(driver);
        assert!(builder().cores(2).open_here().is_err());
        let core = builder().capacity_bytes(1 << 30).shards(3).open_here().unwrap();
        let descriptor = core.descriptor().unwrap();
        let done = Rc::new(Cell::new(None));
        let (engine, put) = (core.engine().clone(), done.clone());
        let task = core.engine().core().spawn(async move { put.set(Some(work(engine).await)) });
        let mut waits = 0;
        let result = loop {
            if let Some(result) = done.take() {
                break result;
            }
            let Turn::Wait(limit) = core.poll() else { continue };
            waits += 1;
            let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
            // A lost wake-up would be a wait without an end: the test says so.
            let limit = limit.map_or(60_000, |limit| limit.as_millis() + 1).min(60_000);
            let limit =
                Timespec { tv_sec: (limit / 1000) as i64, tv_nsec: (limit % 1000) as i64 * 1_000_000 };
            let ready = poll(&mut watched, Some(&limit)).unwrap();
            assert!(ready > 0 || limit.tv_sec < 60, "nobody wakes the loop");
        };
        assert_eq!(result, Ok(()));
        assert!(waits > 5, "{driver:?}: it slept {waits} times");
        drop(task);
        core.close();
        let core = builder().open_here().unwrap();
        let engine = core.engine().clone();
        let usage = core.block_on(async move { engine.bucket_usage("b").await });
        assert_eq!(usage.unwrap().objects, 4);
        drop(core);
    }
}

/// A client of a transport wakes the loop each time it says something, and not the first time only.
#[test]
fn a_transport_wakes_the_loop() {
    use crossdock_transport::shm::{Event, Shm, ShmClient, ShmOptions, same_user_or_root};
    use std::sync::Arc;
    for driver in [DriverChoice::Portable, DriverChoice::Best] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let shm = Shm::listen(&socket, ShmOptions::default()).unwrap();
        let core = Engine::builder()
            .path(directory.path())
            .memory_bytes(64 << 20)
            .driver(driver)
            .capacity_bytes(1 << 30)
            .transport(Arc::new(shm))
            .open_here()
            .unwrap();
        let descriptor = core.descriptor().unwrap();
        for round in 0..5 {
            // Nothing is to be done.
            let mut quiet = 0;
            while quiet < 3 {
                if core.poll() == Turn::Again {
                    continue;
                }
                let limit = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                if poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)).unwrap() == 0 {
                    quiet += 1;
                }
            }
            let client = ShmClient::connect(&socket, 1 << 20, same_user_or_root).unwrap();
            let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
            let woken = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&limit)).unwrap();
            assert_eq!(woken, 1, "{driver:?}, client {round}: nobody wakes the loop");
            let event = (0..1000).find_map(|_| {
                core.poll();
                client.poll()
            });
            assert!(matches!(event, Some(Event::Session(_))));
        }
    }
}
