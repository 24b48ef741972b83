//! What the handle promises to callers who give up, keep what they get, or ask for more than they can have.

use super::some_bytes;
use bytes::Bytes;
use crossdock::{CommitOptions, CompleteOptions, Engine, Error, GetOptions, NamedPart, Which};
use futures_lite::future::block_on;
use std::{sync::mpsc, time::Duration};

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

/// A core that ends by a panic is one that has stopped: whoever asks it is told so, those who had asked it too, the others go on, and
/// the store can be closed.
#[test]
fn a_core_that_panics_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(2).shards(2).memory_bytes(64 << 20);
    let engine = builder.capacity_bytes(1 << 30).open().unwrap();
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let [here, there] = [0, 1].map(|core| {
        let of_core = |key: &u8| engine.core_of(engine.shard_of("b", &[*key])) == core;
        (0..=255u8).find(of_core).unwrap()
    });
    block_on(engine.put_bytes("b", &[here], some_bytes(100, 1))).unwrap();
    let (asked, asking) = (engine.clone(), engine.clone());
    // It is there when the panic comes, and waits for what will not come.
    let waiting = std::thread::Builder::new()
        .spawn(move || block_on(asked.on_core(1, |_| std::future::pending::<Result<(), Error>>())))
        .unwrap();
    let panics = move || {
        block_on(asking.on_core(1, |engine| async move {
            engine.core().sleep(Duration::from_millis(20)).await;
            if engine.shard_count() > 0 {
                panic!("on purpose");
            }
            Ok(())
        }))
    };
    assert_eq!(in_time(panics), Err(Error::Closed));
    assert_eq!(in_time(move || waiting.join().unwrap()), Err(Error::Closed));
    let asking = engine.clone();
    assert_eq!(in_time(move || block_on(asking.get_bytes("b", &[there]))), Err(Error::Closed));
    let asking = engine.clone();
    let from_another_core = move || {
        block_on(asking.on_core(0, move |engine| async move {
            engine.head("b", &[there], Which::Current).await.map(|_| ())
        }))
    };
    assert_eq!(in_time(from_another_core), Err(Error::Closed));
    assert_eq!(block_on(engine.get_bytes("b", &[here])), Ok(some_bytes(100, 1)));
    in_time(move || engine.close());
}
