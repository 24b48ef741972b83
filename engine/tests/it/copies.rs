//! Copies inside the store.

use super::{open, reopen, some_bytes};
use bytes::Bytes;
use crossdock::{CommitOptions, Delete, Engine, Error, GetOptions, WriteCondition};
use futures_lite::future::block_on;

fn copy(engine: &Engine, from: &str, to: String, options: CommitOptions) -> Result<(), Error> {
    let source = ("b", from.as_bytes(), GetOptions::default());
    block_on(engine.copy(source, ("b", to.as_bytes()), options)).map(drop)
}

fn used(engine: &Engine) -> u64 {
    block_on(engine.statistics()).unwrap().iter().map(|shard| shard.extent_bytes_used).sum()
}

/// A copy within a shard takes no space, a copy across shards does; either is an object of its own: whichever goes first, the other
/// stays, also when the store is opened in between, and the space comes back with the last.
#[test]
fn copies_within_a_shard_share_their_extents() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let before = used(&engine);
    let bytes = some_bytes((5 << 20) + 100, 1);
    block_on(engine.put_bytes("b", b"source", bytes.clone())).unwrap();
    let alone = used(&engine);
    let shard = engine.shard_of("b", b"source");
    let named = |same: bool| {
        let mut names = (0..).map(|number| format!("copy-{number}"));
        names.find(|name| (engine.shard_of("b", name.as_bytes()) == shard) == same).unwrap()
    };
    let (near, far) = (named(true), named(false));
    copy(&engine, "source", near.clone(), CommitOptions::default()).unwrap();
    assert_eq!(used(&engine), alone);
    let absent = CommitOptions { condition: WriteCondition::absent(), ..CommitOptions::default() };
    assert_eq!(copy(&engine, "source", near.clone(), absent), Err(Error::ConditionFailed));
    // Onto itself: the old version goes, the bytes stay.
    copy(&engine, "source", "source".into(), CommitOptions::default()).unwrap();
    assert_eq!(used(&engine), alone);
    copy(&engine, "source", far.clone(), CommitOptions::default()).unwrap();
    assert!(used(&engine) > alone);
    block_on(engine.delete("b", Delete::current(far.as_bytes()))).unwrap();
    assert_eq!(used(&engine), alone);
    engine.close();

    let engine = reopen(directory.path());
    // Closing took a checkpoint of every shard, which has extents too, but not so many.
    let once = |used: u64| (alone..alone + (5 << 20)).contains(&used);
    assert!(once(used(&engine)));
    block_on(engine.delete("b", Delete::current(b"source"))).unwrap();
    assert!(once(used(&engine)), "the copy still has it");
    assert!(block_on(engine.get_bytes("b", near.as_bytes())).unwrap() == bytes);
    copy(&engine, "source", "other".into(), CommitOptions::default()).unwrap_err();
    engine.close();
    assert_eq!(super::inspect::faults(directory.path()), []);
    let engine = reopen(directory.path());
    assert!(block_on(engine.get_bytes("b", near.as_bytes())).unwrap() == bytes);
    let with = used(&engine);
    block_on(engine.delete("b", Delete::current(near.as_bytes()))).unwrap();
    assert_eq!(used(&engine), with - (alone - before), "all of it came back");
    engine.close();
    assert_eq!(super::inspect::faults(directory.path()), []);
}
