//! The engine on real files, through the handle that any program uses.

#![allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]

#[cfg(feature = "testing")]
mod allocations;
mod attributes;
mod care;
mod copies;
mod deadlines;
mod faults;
mod handle;
mod inspect;
mod limits;
mod newer;
mod opening;
mod own_loop;
mod repair;
mod transports;
mod versions;

use bytes::Bytes;
use crossdock::{
    CommitOptions, CompleteOptions, Delete, Engine, Error, GetOptions, ListItem, ListOptions, ListStart,
    NamedPart, OpenError, PutOptions, Select, Which, WriteCondition,
};
use futures_lite::future::block_on;
use inspect::killed;
use std::path::Path;

fn open(path: &Path) -> Engine {
    Engine::builder().path(path).cores(2).memory_bytes(64 << 20).capacity_bytes(1 << 30).open().unwrap()
}

fn some_bytes(length: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}

const SIZES: [usize; 14] = [
    0,
    1,
    1023,
    1024,
    1025,
    4095,
    4096,
    4097,
    65_536,
    262_143,
    262_144,
    262_145,
    (8 << 20) + 17,
    (40 << 20) + 4097,
];

/// Objects of every size come back byte exact, whole and in ranges, before and after the store is opened again.
#[test]
fn objects_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    assert!(engine.report().created);
    block_on(async {
        engine.create_bucket("bucket", Bytes::new()).await.unwrap();
        for (index, size) in SIZES.into_iter().enumerate() {
            let key = format!("objects/{size}");
            let info =
                engine.put_bytes("bucket", key.as_bytes(), some_bytes(size, index as u64)).await.unwrap();
            assert_eq!(info.size, size as u64);
        }
    });
    check(&engine);
    let left = killed(directory.path());
    engine.close();
    // Once from the log, once from a checkpoint.
    let engine = reopen(left.path());
    check(&engine);
    engine.close();
    let engine = reopen(left.path());
    assert!(!engine.report().created);
    check(&engine);
    engine.close();
}

fn reopen(path: &Path) -> Engine {
    for _ in 0..500 {
        match Engine::builder().path(path).cores(2).memory_bytes(64 << 20).open() {
            Err(OpenError::Locked { .. }) => std::thread::park_timeout(std::time::Duration::from_millis(20)),
            other => return other.unwrap(),
        }
    }
    panic!("the store stays locked");
}

fn check(engine: &Engine) {
    block_on(async {
        for (index, size) in SIZES.into_iter().enumerate() {
            let key = format!("objects/{size}");
            let expected = some_bytes(size, index as u64);
            let found = engine.get_bytes("bucket", key.as_bytes()).await.unwrap();
            assert!(found == expected, "{key}");
            if size < 3 {
                continue;
            }
            let (first, last) = (size as u64 / 3, size as u64 * 2 / 3);
            let options = GetOptions { select: Select::Between(first, last), version: Which::Current };
            let mut stream = engine.get("bucket", key.as_bytes(), options).await.unwrap();
            assert_eq!(stream.range(), first..last + 1);
            let mut part = Vec::new();
            while let Some(chunk) = stream.next().await {
                part.extend_from_slice(&chunk.unwrap());
            }
            assert!(part == expected[first as usize..=last as usize], "range of {key}");
        }
        let listing =
            engine.list("bucket", ListOptions { limit: 100, ..ListOptions::default() }).await.unwrap();
        let mut names: Vec<String> = SIZES.iter().map(|size| format!("objects/{size}")).collect();
        names.sort();
        let found: Vec<_> =
            listing.items.iter().map(|item| String::from_utf8(item.name().to_vec()).unwrap()).collect();
        assert_eq!((found, listing.next), (names, None));
    });
}

/// Pages follow each other without gap or repetition, and common prefixes stand for their keys.
#[test]
fn listing() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        for index in 0..120 {
            let key = format!("d{}/k{index:03}", index % 3);
            engine.put_bytes("b", key.as_bytes(), Bytes::from_static(b"x")).await.unwrap();
        }
        let mut options = ListOptions { limit: 7, ..ListOptions::default() };
        let mut names = Vec::new();
        loop {
            let page = engine.list("b", options.clone()).await.unwrap();
            names.extend(page.items.iter().map(|item| item.name().to_vec()));
            match page.next {
                Some(next) => options.start = next,
                None => break,
            }
        }
        assert_eq!(names.len(), 120);
        assert!(names.is_sorted());
        let options = ListOptions { delimiter: b"/".to_vec(), limit: 100, ..ListOptions::default() };
        let page = engine.list("b", options).await.unwrap();
        let prefixes: Vec<ListItem> = ["d0/", "d1/", "d2/"].map(|p| ListItem::CommonPrefix(p.into())).into();
        assert_eq!(page.items, prefixes);
        let start = ListStart::After(b"d1/k100".to_vec());
        let options = ListOptions { prefix: b"d1/".to_vec(), start, limit: 100, ..ListOptions::default() };
        assert_eq!(engine.list("b", options).await.unwrap().items.len(), 6);
        assert_eq!(engine.delete_bucket("b").await, Err(Error::BucketNotEmpty));
        assert_eq!(
            engine.list("none", ListOptions { limit: 1, ..ListOptions::default() }).await,
            Err(Error::NoSuchBucket)
        );
    });
    engine.close();
}

/// Of writers with the same condition exactly one wins, whatever core they come from.
#[test]
fn one_of_many_creates() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let engine = engine.clone();
            std::thread::Builder::new()
                .spawn(move || {
                    block_on(async move {
                        let mut put = engine.put("b", b"key", PutOptions { size: Some(1) }).await.unwrap();
                        put.write(Bytes::from(format!("{writer}"))).await.unwrap();
                        let condition = WriteCondition::absent();
                        put.finish(CommitOptions { condition, ..CommitOptions::default() }).await
                    })
                })
                .unwrap()
        })
        .collect();
    let results: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(results.iter().filter(|result| **result == Err(Error::ConditionFailed)).count(), 7);
    engine.close();
}

/// An upload completed from parts is one object, its parts can be read by number, and completing it again says the same.
#[test]
fn uploads() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        let upload =
            engine.create_upload("b", b"big", Bytes::from_static(b"attributes")).await.unwrap().upload;
        let pieces = [some_bytes(5 << 20, 1), some_bytes(300_000, 2), some_bytes(70_000, 3)];
        let mut parts = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let number = index as u16 + 1;
            let mut put = engine.put_part("b", b"big", upload, number, PutOptions::default()).await.unwrap();
            put.write(piece.clone()).await.unwrap();
            let part = put.finish_part(CommitOptions::default()).await.unwrap();
            parts.push(NamedPart { number, etag: Some(part.etag) });
        }
        let complete =
            || engine.complete_upload("b", b"big", upload, parts.clone(), CompleteOptions::default());
        let first = complete().await.unwrap();
        assert_eq!((first.size, first.part_count), (pieces.iter().map(|p| p.len() as u64).sum(), 3));
        assert_eq!(&first.attributes[..], b"attributes");
        assert_eq!(complete().await.unwrap(), first);
        assert!(engine.get_bytes("b", b"big").await.unwrap() == pieces.concat());
        let options = GetOptions { select: Select::Part(2), version: Which::Current };
        let mut stream = engine.get("b", b"big", options).await.unwrap();
        assert_eq!(stream.range(), 5 << 20..(5 << 20) + 300_000);
        assert!(stream.next().await.unwrap().unwrap()[..1000] == pieces[1][..1000]);
        drop(stream);
        engine.delete("b", Delete::current(b"big")).await.unwrap();
        assert_eq!(engine.get_bytes("b", b"big").await, Err(Error::NoSuchKey));
        engine.delete_bucket("b").await.unwrap();
        assert!(engine.buckets().await.unwrap().is_empty());
    });
    engine.close();
}

/// A store that another engine has open is refused, and nothing is made where nothing was to be made.
#[test]
fn refusals() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    let again = Engine::builder().path(directory.path()).cores(1).open();
    assert!(matches!(again, Err(OpenError::Locked { .. })));
    engine.close();
    let empty = tempfile::tempdir().unwrap();
    let missing = Engine::builder().path(empty.path()).cores(1).create(false).open();
    assert!(matches!(missing, Err(OpenError::Missing { .. })));
    assert!(Engine::builder().open().is_err());
}

/// One flipped bit in a data file is reported as corruption of that object, and of no other.
#[test]
fn a_flipped_bit_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        engine.put_bytes("b", b"large", some_bytes(1 << 20, 1)).await.unwrap();
        engine.put_bytes("b", b"small", some_bytes(30_000, 2)).await.unwrap();
    });
    let shard = engine.shard_of("b", b"large");
    engine.close();
    let file = directory.path().join(format!("shard-{shard:03}.data"));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[500_000] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let engine = reopen(directory.path());
    block_on(async {
        assert!(matches!(engine.get_bytes("b", b"large").await, Err(Error::Corrupt(_))));
        assert!(engine.get_bytes("b", b"small").await.unwrap() == some_bytes(30_000, 2));
    });
    engine.close();
}
