//! What the steady path takes of the heap: nothing for a lease, a few small things for an object, and no more for each chunk
//! of a large one than its task. A bound that is exceeded here is a change of design, and to be argued as one.

use bytes::Bytes;
use crossdock::{
    CommitOptions, CompleteOptions, CoreEngine, Error, GetOptions, NamedPart, PutOptions, Select, Which,
    testing::bare::Bare,
};
use crossdock_transport::memory::{Arena, ArenaOptions, PagePolicy};

const ROUNDS: u64 = 64;
/// The name and the checksums of what is read, and what they are kept in.
const SMALL_GET_MAX: f64 = 4.0;
/// The same, and what a chunk in the cache is asked for by.
const CACHED_GET_MAX: f64 = 5.0;
/// For each chunk of a megabyte: its task, in memory of its own as it is large.
const CHUNK_MAX: f64 = 2.5;

/// Allocations of one of so many rounds; what is made on first use is made before.
fn for_each(rounds: u64, mut round: impl FnMut(u64)) -> f64 {
    (0..rounds).for_each(&mut round);
    let counted = allocation_counter::measure(|| (0..rounds).for_each(&mut round));
    counted.count_total as f64 / rounds as f64
}

async fn put(engine: &CoreEngine, key: &[u8], bytes: u64) -> Result<(), Error> {
    let mut put = engine.put("b", key, PutOptions { size: Some(bytes) }).await?;
    while put.received() < bytes {
        let mut lease = put.buffer().await?;
        lease.set_len(put.buffer_bytes());
        put.push(lease).await?;
    }
    put.finish(CommitOptions::default()).await.map(drop)
}

async fn get(engine: &CoreEngine, key: &[u8]) -> Result<u64, Error> {
    let mut get = engine.get("b", key, GetOptions::default()).await?;
    let mut bytes = 0;
    while let Some(chunk) = get.next().await {
        bytes += chunk?.len() as u64;
    }
    Ok(bytes)
}

/// A store with an object of so many bytes, and a read cache of so many.
fn store(bytes: u64, read_cache_bytes: usize) -> Bare {
    let bare = Bare::open_with_cache(read_cache_bytes);
    let engine = bare.engine();
    let made = bare.run(async move {
        engine.create_bucket("b", Bytes::new()).await?;
        put(&engine, b"key", bytes).await
    });
    made.unwrap();
    bare
}

fn read(bare: &Bare) -> u64 {
    let engine = bare.engine();
    bare.run(async move { get(&engine, b"key").await }).unwrap()
}

/// Taken, frozen, shared and given back, a lease takes nothing of the heap.
#[test]
fn of_a_lease_none() {
    let options = ArenaOptions { bytes: 8 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    let pool = Arena::map(&options).unwrap().pool(0);
    let each = for_each(ROUNDS, |_| {
        let frozen = pool.try_acquire(4096).unwrap().freeze();
        drop(frozen.clone());
        drop(frozen);
        pool.drain_returns();
    });
    assert_eq!(each, 0.0);
}

/// Reading a small object, from the device and from the cache. What runs it here takes some, too.
#[test]
fn of_a_small_object_few() {
    let running = |bare: &Bare| for_each(ROUNDS, |_| bare.run(async {}));
    for (read_cache_bytes, max) in [(0, SMALL_GET_MAX), (4 << 20, CACHED_GET_MAX)] {
        let bare = store(4096, read_cache_bytes);
        let each = for_each(ROUNDS, |_| assert_eq!(read(&bare), 4096)) - running(&bare);
        assert!(each <= max, "{each} allocations with a cache of {read_cache_bytes} bytes");
    }
}

/// Reading a large object, for each chunk of it.
#[test]
fn of_a_large_object_few_for_each_chunk() {
    const CHUNKS: u64 = 64;
    let bare = store(CHUNKS << 20, 0);
    let each = for_each(4, |_| assert_eq!(read(&bare), CHUNKS << 20)) / CHUNKS as f64;
    assert!(each <= CHUNK_MAX, "{each} allocations for each chunk");
}

/// Completes `key` from so many parts of a byte each.
async fn put_in_parts(engine: &CoreEngine, key: &[u8], parts: u16) -> Result<(), Error> {
    let upload = engine.create_upload("b", key, Bytes::new()).await?.upload;
    let mut named = Vec::new();
    for number in 1..=parts {
        let mut part = engine.put_part("b", key, upload, number, PutOptions { size: Some(1) }).await?;
        let mut lease = part.buffer().await?;
        lease.set_len(1);
        part.push(lease).await?;
        let etag = Some(part.finish_part(CommitOptions::default()).await?.etag);
        named.push(NamedPart { number, etag });
    }
    engine.complete_upload("b", key, upload, named, CompleteOptions::default()).await.map(drop)
}

/// What is told of an object, and its last byte, take no more of the heap where it was made of ten thousand parts than where it was made of one.
#[test]
fn of_an_object_of_many_parts_no_more_than_of_one() {
    const PARTS: u16 = 10_000;
    let bare = Bare::open();
    let engine = bare.engine();
    let made = bare.run(async move {
        engine.create_bucket("b", Bytes::new()).await?;
        put_in_parts(&engine, b"one", 1).await?;
        put_in_parts(&engine, b"all", PARTS).await
    });
    made.unwrap();
    let head = |key: &'static [u8]| {
        let engine = bare.engine();
        bare.run(async move { engine.head("b", key, Which::Current).await }).unwrap()
    };
    let last = |key: &'static [u8]| {
        let engine = bare.engine();
        let options = GetOptions { select: Select::Last(1), ..GetOptions::default() };
        bare.run(async move {
            let mut get = engine.get("b", key, options).await?;
            let chunk = get.next().await.expect("it has a byte")?;
            Ok::<_, Error>(chunk.len())
        })
        .unwrap()
    };
    assert_eq!((head(b"all").part_count, head(b"all").size), (PARTS, u64::from(PARTS)));
    let taken = |work: &dyn Fn(&'static [u8]), key| {
        work(key);
        let counted = allocation_counter::measure(|| work(key));
        (counted.count_total, counted.bytes_total)
    };
    let works: [&dyn Fn(&'static [u8]); 2] = [&|key| drop(head(key)), &|key| assert_eq!(last(key), 1)];
    for work in works {
        assert_eq!(taken(work, b"all"), taken(work, b"one"));
    }
}
