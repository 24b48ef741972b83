//! What the store's keeper asks for: the scrub, usage, the end of uploads that are too old.

use super::{inspect::killed, open, reopen, some_bytes};
use bytes::Bytes;
use crossdock::{
    CommitOptions, Delete, Engine, FoundBy, GetOptions, PutOptions, ScrubProgress, ScrubRate, ScrubSchedule,
    Versioning, Which,
};
use futures_lite::future::block_on;
use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path, time::Duration};

pub(crate) fn flip(file: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("{what} did not come within a minute");
}

fn sum(progress: &[ScrubProgress], of: impl Fn(&ScrubProgress) -> u64) -> u64 {
    progress.iter().map(of).sum()
}

/// A bit that flips under a running engine is found by the scrub and told with its object, its place and both checksums; a reader
/// tells the same; of sound objects nothing is said.
#[test]
fn the_scrub_tells_of_rot() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.put_bytes("b", b"large", some_bytes(1 << 20, 1)).await.unwrap();
        engine.put_bytes("b", b"small", some_bytes(30_000, 2)).await.unwrap();
        let tours = engine.scrub(ScrubRate::default()).await.unwrap();
        assert_eq!(
            (sum(&tours, |tour| tour.findings), sum(&tours, |tour| tour.bytes)),
            (0, (1 << 20) + 30_000)
        );
    });
    let shard = engine.shard_of("b", b"large");
    flip(&directory.path().join(format!("shard-{shard:03}.data")), 500_000);
    let mut events = engine.corruption_events();
    let tours = block_on(engine.scrub(ScrubRate { bytes_per_second: None, yields: true })).unwrap();
    assert_eq!(sum(&tours, |tour| tour.findings), 1);
    let event = events.try_next().unwrap();
    assert_eq!((event.found_by, event.finding.shard), (FoundBy::Scrub, Some(shard)));
    assert_eq!(event.finding.offset, Some(500_000 / 65_536 * 65_536));
    let object = event.finding.object.unwrap();
    assert_eq!((&*object.bucket, &*object.key), ("b", &b"large"[..]));
    assert_eq!(events.try_next(), None);
    assert!(block_on(engine.get_bytes("b", b"large")).is_err());
    assert_eq!(block_on(events.next()).unwrap().found_by, FoundBy::Read);
    engine.close();
    assert_eq!(block_on(events.next()), None, "the subscription ends with the engine");
}

/// The scrub in the background goes round again and again, and a restart in the midst of a tour does not begin it anew.
#[test]
fn the_scrub_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        for key in 0..24u8 {
            engine.put_bytes("b", &[key], some_bytes(300_000, key.into())).await.unwrap();
        }
    });
    engine.close();
    let open = |bytes_per_second, pause| {
        let schedule = ScrubSchedule { bytes_per_second, pause };
        let builder =
            Engine::builder().path(directory.path()).cores(2).memory_bytes(64 << 20).scrub(schedule);
        for _ in 0..500 {
            match builder.clone().open() {
                Err(crossdock::OpenError::Locked { .. }) => {
                    std::thread::park_timeout(Duration::from_millis(20))
                }
                opened => return opened.unwrap(),
            }
        }
        panic!("the store stays locked");
    };
    let engine = open(1 << 20, Duration::from_secs(3600));
    let progress = || block_on(engine.scrub_progress()).unwrap();
    wait_for("the scrub's first megabyte", || sum(&progress(), |shard| shard.bytes) > 1 << 20);
    let before = progress();
    assert!(sum(&before, |shard| shard.bytes) < 24 * 300_000, "it obeys its rate: {before:?}");
    assert!(before.iter().any(|shard| shard.running), "{before:?}");
    engine.close();

    let engine = open(1 << 30, Duration::from_secs(3600));
    let progress = || block_on(engine.scrub_progress()).unwrap();
    wait_for("the end of the first tour", || {
        progress().iter().all(|shard| shard.finished_ms > 0 && !shard.running)
    });
    let after = progress();
    assert!(after.iter().all(|shard| shard.tour == 1 && shard.findings == 0), "{after:?}");
    // What was being read when it was closed is read twice, for each shard at most.
    let (bytes, least) = (sum(&after, |shard| shard.bytes), 24 * 300_000);
    assert!((least..=least + after.len() as u64 * 300_000).contains(&bytes), "{after:?}");
    engine.close();

    let engine = open(1 << 30, Duration::from_millis(20));
    let progress = || block_on(engine.scrub_progress()).unwrap();
    wait_for("the third tour", || progress().iter().all(|shard| shard.tour >= 3));
    engine.close();
}

/// What a bucket holds is counted with every change, and the same after the log was replayed and after a checkpoint.
#[test]
fn usage_is_exact_after_every_open() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let count = |engine: &Engine| {
        let usage = block_on(engine.bucket_usage("b")).unwrap();
        let uploads = (usage.uploads, usage.upload_bytes);
        (usage.objects, usage.versions, usage.delete_markers, usage.bytes, uploads)
    };
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        for key in 0..10u8 {
            engine.put_bytes("b", &[key], some_bytes(1000, 1)).await.unwrap();
        }
        engine.put_bytes("b", &[0], some_bytes(500, 1)).await.unwrap();
        engine.delete("b", Delete::current(&[1])).await.unwrap();
    });
    assert_eq!(count(&engine), (9, 9, 0, 8500, (0, 0)));
    block_on(async {
        engine.set_versioning("b", Versioning::Enabled).await.unwrap();
        engine.put_bytes("b", &[2], some_bytes(2000, 1)).await.unwrap();
        engine.delete("b", Delete::current(&[3])).await.unwrap();
        let upload = engine.create_upload("b", b"up", Bytes::new()).await.unwrap().upload;
        for (number, size) in [(1, 700), (2, 300), (1, 400)] {
            let mut put = engine.put_part("b", b"up", upload, number, PutOptions::default()).await.unwrap();
            put.write(some_bytes(size, 1)).await.unwrap();
            put.finish_part(CommitOptions::default()).await.unwrap();
        }
    });
    // Key 2 has two versions, key 3 one and a marker that hides it.
    let expected = (8, 11, 1, 10_500, (1, 700));
    assert_eq!(count(&engine), expected);
    let left = killed(directory.path());
    engine.close();
    let engine = reopen(left.path());
    assert_eq!(count(&engine), expected);
    engine.close();
    let engine = reopen(left.path());
    assert_eq!(count(&engine), expected);
    assert!(block_on(engine.bucket_usage("none")).is_err());
    engine.close();
}

/// Uploads begun before the moment that the caller names go, with their parts and their space; the others stay.
#[test]
fn uploads_expire() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        let used = || async {
            let shards = engine.statistics().await.unwrap();
            shards.iter().map(|shard| shard.extent_bytes_used).sum::<u64>()
        };
        let before = used().await;
        let upload = engine.create_upload("b", b"old", Bytes::new()).await.unwrap();
        let mut put = engine.put_part("b", b"old", upload.upload, 1, PutOptions::default()).await.unwrap();
        put.write(some_bytes(1 << 20, 1)).await.unwrap();
        put.finish_part(CommitOptions::default()).await.unwrap();
        assert!(used().await > before);
        assert_eq!(engine.expire_uploads(upload.created_ms).await.unwrap().uploads, 0, "just not before");
        let expired = engine.expire_uploads(upload.created_ms + 1).await.unwrap();
        assert_eq!((expired.uploads, expired.parts, expired.bytes), (1, 1, 1 << 20));
        assert_eq!(used().await, before);
        let gone = engine.abort_upload("b", b"old", upload.upload).await;
        assert_eq!(gone, Err(crossdock::Error::NoSuchUpload));
        engine.put_bytes("b", b"old", some_bytes(10, 1)).await.unwrap();
        assert_eq!(engine.get("b", b"old", GetOptions::default()).await.unwrap().info().size, 10);
        assert_eq!(engine.head("b", b"old", Which::Current).await.unwrap().part_count, 0);
    });
    engine.close();
}
