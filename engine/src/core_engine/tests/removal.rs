//! Buckets whose making or removal was cut short, and what becomes of the name.

use super::{CoreEngine, PutOptions, cut_off, put, settle, shards_with_record, world};
use crate::{
    Error,
    core_engine::CommitOptions,
    device::simulated::{Fault, Times},
    layout::UploadId,
    object::types::BucketOptions,
    testing::world::World,
};
use bytes::Bytes;

/// Bucket "b" with an upload of one part on each shard.
fn with_uploads(world: &mut World) -> CoreEngine {
    let engine = world.engine(0);
    let work = engine.clone();
    world.run(async move {
        work.create_bucket("b", Bytes::new()).await.unwrap();
        for shard in 0..work.shard_count() {
            let key = (0..=255u8).find(|key| work.shard_of("b", &[*key]) == shard).unwrap();
            let upload = work.create_upload("b", &[key], Bytes::new()).await.unwrap().upload;
            put_part(&work, &[key], upload).await;
        }
    });
    engine
}

async fn put_part(engine: &CoreEngine, key: &[u8], upload: UploadId) {
    let mut put = engine.put_part("b", key, upload, 1, PutOptions { size: Some(100_000) }).await.unwrap();
    put.write(&[7; 100_000]).await.unwrap();
    put.finish_part(CommitOptions::default()).await.unwrap();
}

/// Uploads in bucket "b"; none if there is no bucket.
fn uploads(world: &mut World) -> Option<u64> {
    let engine = world.engine(1);
    world.run(async move {
        match engine.bucket_usage("b").await {
            Ok(usage) => Some(usage.uploads),
            Err(error) => {
                assert_eq!(error, Error::NoSuchBucket);
                None
            }
        }
    })
}

#[test]
fn a_removal_that_was_seen_is_not_undone_by_a_crash() {
    // The power goes at every few steps of the removal of a bucket in which uploads are left. Afterwards it is there with all of them, or it is
    // gone with all of them; and it is gone if anybody could see that it was, for then it was decided.
    let (mut stays, mut goes, mut is_finished) = (0, 0, 0);
    for steps in 0..160 {
        let mut world = world(u64::from(steps));
        let engine = with_uploads(&mut world);
        let (work, home) = (engine.clone(), engine.0.placement.home_of("b"));
        cut_off(&mut world, steps, async move { work.delete_bucket("b").await.unwrap() });
        let was_seen = {
            let at_home = world.engine(engine.0.placement.core_of(home));
            at_home.own_shard(home).unwrap().expect("it is the core's").bucket("b")
                == Err(Error::NoSuchBucket)
        };
        let with = (0..3).filter(|shard| {
            let of_core = world.engine(engine.0.placement.core_of(*shard));
            of_core.own_shard(*shard).unwrap().expect("it is the core's").bucket("b").is_ok()
        });
        is_finished += u32::from(was_seen && with.count() > 0);
        drop(engine);
        world.crash();
        world.open().unwrap();
        match (uploads(&mut world), shards_with_record(&mut world).len()) {
            (Some(3), 3) => {
                assert!(!was_seen, "{steps} steps: it was gone, and is back");
                stays += 1;
            }
            (None, 0) => goes += 1,
            other => panic!("{steps} steps: {other:?}"),
        }
        // Whichever it is: the name can be used, and nothing is left of what went.
        let engine = world.engine(0);
        world.run(async move {
            if engine.bucket("b").await.is_ok() {
                engine.delete_bucket("b").await.unwrap();
            }
            engine.create_bucket("b", Bytes::new()).await.unwrap();
            put(&engine, b"key", 10).await.unwrap();
        });
        assert_eq!(uploads(&mut world), Some(0));
        world.come_to_rest().unwrap();
        world.check_at_rest().unwrap();
    }
    assert!(stays > 5 && goes > 5, "it stayed {stays} times and went {goes} times");
    assert!(is_finished > 0, "the power never went between the home and the others");
}

#[test]
fn a_bucket_is_not_made_from_what_was_to_be_removed() {
    // A removal that comes no further than the bucket's home: whoever makes a bucket of that name gets a new one, without the uploads.
    let mut world = world(1);
    let engine = with_uploads(&mut world);
    let work = engine.clone();
    let (before, after) = world.run(async move {
        let home = work.0.placement.home_of("b");
        let bucket = work.bucket("b").await.unwrap().bucket;
        for shard in (0..work.shard_count()).filter(|shard| *shard != home) {
            let begun = work.on_shard(shard, move |shard| async move { shard.begin_removal(bucket).await });
            assert!(begun.await.unwrap().is_some(), "it has an upload");
        }
        work.on_shard(home, move |shard| async move { shard.remove_bucket(bucket).await }).await.unwrap();
        (bucket, work.create_bucket("b", Bytes::new()).await.unwrap())
    });
    assert_ne!(before, after.bucket);
    assert_eq!((uploads(&mut world), shards_with_record(&mut world)), (Some(0), vec![0, 1, 2]));
    drop(engine);
    world.crash();
    world.open().unwrap();
    assert_eq!((uploads(&mut world), shards_with_record(&mut world)), (Some(0), vec![0, 1, 2]));
    world.come_to_rest().unwrap();
    world.check_at_rest().unwrap();
}

#[test]
fn a_removal_that_fails_at_home_leaves_the_bucket_as_it_was() {
    // Shards that noted that the bucket goes are told that it stays: there is one record of it everywhere, and what is decided by it holds.
    let mut world = world(1);
    let engine = with_uploads(&mut world);
    settle(&mut world);
    let home = engine.0.placement.home_of("b");
    let log = world.disk.find(&format!("log-{home}")).expect("each shard has one");
    world.disk.inject(log, Fault::WriteError, Times::Once);
    let work = engine.clone();
    let records = world.run(async move {
        let deleted = work.delete_bucket("b").await;
        assert!(matches!(deleted, Err(Error::OutcomeUnknown(_))), "{deleted:?}");
        let mut records = Vec::new();
        for shard in 0..work.shard_count() {
            records.push(work.on_shard(shard, |shard| async move { shard.bucket("b") }).await.unwrap());
        }
        records
    });
    assert!(records.iter().all(|record| *record == records[0]), "{records:?}");
}

#[test]
fn a_bucket_half_made_twice_is_one() {
    // Making a bucket came as far as two shards, on which somebody writes; making it once more came as far as one of them. What the shards
    // agree on after a crash is the later of the two.
    let mut world = world(1);
    let engine = world.engine(0);
    let work = engine.clone();
    world.run(async move {
        let home = work.0.placement.home_of("b");
        let others: Vec<u16> = (0..work.shard_count()).filter(|shard| *shard != home).collect();
        let begin = |attributes: &'static [u8]| {
            let attributes = Bytes::from_static(attributes);
            let options = BucketOptions { attributes, ..BucketOptions::default() };
            work.on_shard(home, |shard| async move { shard.begin_bucket("b", options).await })
        };
        let let_go = || work.send_to_shard(home, |shard| shard.let_go_of_name("b"));
        let first = begin(b"first").await.unwrap();
        work.put_record(&first, &others).await.unwrap();
        let_go();
        let key = (0..=255u8).find(|key| work.shard_of("b", &[*key]) == others[0]).unwrap();
        put(&work, &[key], 10).await.unwrap();
        let second = begin(b"second").await.unwrap();
        let second = work.taking_over(second, home).await.unwrap();
        assert_eq!(second.bucket, first.bucket);
        work.put_record(&second, &others[1..]).await.unwrap();
        let_go();
    });
    drop(engine);
    world.crash();
    world.open().unwrap();
    let engine = world.engine(0);
    world.run(async move {
        for shard in 0..engine.shard_count() {
            let record = engine.on_shard(shard, |shard| async move { shard.bucket("b") }).await.unwrap();
            assert_eq!(record.attributes, &b"second"[..], "on shard {shard}");
        }
    });
}
