//! What can not be read of a shard's metadata any more, or does not hold: what an open makes of it, and what the scrub says.

use super::{put, settle};
use crate::{
    core_engine::CoreEngine,
    device::simulated::FileId,
    error::OpenError,
    inspect::{Problem, Severity},
    layout::{BLOCK_BYTES, COPIES, DecodeError, anchor_offset},
    object::types::Which,
    shard::scrub::ScrubRate,
    testing::world::{OpenFailure, World, WorldOptions},
};
use bytes::Bytes;

/// A shard with some objects, the first of them in its checkpoint; and its log file.
fn world(seed: u64) -> (World, FileId) {
    let mut world = World::new(seed, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        put(&engine, b"before", 10).await.unwrap();
        engine.checkpoint().await.unwrap();
        put(&engine, b"behind", 10).await.unwrap();
    });
    settle(&mut world);
    let log = world.disk.find("log-0").expect("the shard has one");
    (world, log)
}

async fn has_all(engine: &CoreEngine) {
    for key in [&b"before"[..], b"behind"] {
        assert_eq!(engine.head("b", key, Which::Current).await.unwrap().size, 10);
    }
}

#[test]
fn anchor_copies_that_can_not_be_read_are_done_without() {
    // Every choice of copies that can not be read. Two that can are enough, and the open writes the others anew; with less the shard is
    // refused with what the device said, as it is not known what the others would have said, and nothing is changed.
    for unreadable in 0u32..1 << COPIES {
        let (mut world, log) = world(unreadable.into());
        world.crash();
        let bad = (0..COPIES).filter(|copy| unreadable & 1 << copy != 0);
        bad.for_each(|copy| world.disk.make_bad(log, anchor_offset(copy)));
        let count = unreadable.count_ones() as usize;
        match world.open() {
            Ok(()) => {
                assert!(count <= 2, "{unreadable:04b}");
                assert_eq!(world.disk.bad_blocks(), 0, "{unreadable:04b}");
                let engine = world.engine(0);
                world.run(async move { has_all(&engine).await });
            }
            Err(OpenFailure::Refused(OpenError::Device(error))) => {
                assert!(count > 2, "{unreadable:04b}: {error}");
                assert_eq!(world.disk.bad_blocks(), count);
            }
            Err(failure) => panic!("{unreadable:04b}: {failure}"),
        }
    }
}

#[test]
fn an_anchor_copy_that_can_not_be_read_is_found_and_written_anew() {
    // By the scrub, while the shard runs; the next tour finds nothing.
    for copy in 0..COPIES {
        let (mut world, log) = world(copy as u64);
        let mut events = world.engine(0).corruption_events();
        world.disk.make_bad(log, anchor_offset(copy));
        let findings = |world: &mut World| {
            let engine = world.engine(0);
            world.run(async move { engine.scrub(ScrubRate::default()).await.unwrap()[0].findings })
        };
        assert_eq!(findings(&mut world), 1);
        let found = events.try_next().expect("it was told").finding;
        let error = Some(DecodeError::Unreadable);
        assert_eq!(found.problem, Problem::Copy { structure: "anchor", copy, error });
        assert!(found.severity < Severity::Damage, "{found:?}");
        assert_eq!((findings(&mut world), world.disk.bad_blocks()), (0, 0));
        assert_eq!(events.try_next(), None);
    }
}

#[test]
fn an_end_of_the_log_that_is_missing_is_found() {
    // Neither copy of the last batch holds, or can be read: to a recovery that is a write that was cut off, and what it acknowledged would be
    // gone without a word. The shard that wrote it knows better: its scrub tells of it, and has what is in memory written by a checkpoint.
    for can_be_read in [true, false] {
        let (mut world, log) = world(1);
        let engine = world.engine(0);
        let shard = engine.own_shards().next().expect("it has one").clone();
        let end = shard.replayed_log().last().expect("it has a log").end;
        for block in 1..=2 {
            let offset = end - block * BLOCK_BYTES as u64;
            match can_be_read {
                true => world.disk.flip_bit(log, offset + 100, 1),
                false => world.disk.make_bad(log, offset),
            }
        }
        let mut events = engine.corruption_events();
        let last = shard.statistics().batches;
        let scrubbing = engine.clone();
        let tours = world.run(async move { scrubbing.scrub(ScrubRate::default()).await.unwrap() });
        let found: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|event| event.finding).collect();
        let is_end = |problem: &Problem| matches!(problem, Problem::Hole { .. });
        assert!(found.iter().any(|finding| is_end(&finding.problem)), "after {last} batches: {found:?}");
        assert!(found.iter().all(|finding| finding.severity == Severity::Damage), "{found:?}");
        assert_eq!(tours[0].findings, found.len() as u64);
        // The power goes before anything else is written: all is there, and nothing is wrong any more.
        settle(&mut world);
        drop((engine, shard));
        world.crash();
        world.open().unwrap();
        assert!(!world.has_hole());
        let engine = world.engine(0);
        let tours = world.run(async move {
            has_all(&engine).await;
            engine.scrub(ScrubRate::default()).await.unwrap()
        });
        assert_eq!(tours[0].findings, 0);
    }
}
