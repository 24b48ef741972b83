//! Uploads: what may become an object, and who is told what of it.

use crate::{
    core_engine::{CommitOptions, CompleteOptions, CoreEngine, PutOptions, Which},
    layout::UploadId,
    object::types::NamedPart,
    testing::{
        history::Work,
        world::{World, WorldOptions},
    },
};
use bytes::Bytes;

async fn put_part(engine: &CoreEngine, upload: UploadId, number: u16, attributes: Bytes) -> NamedPart {
    let options = PutOptions { size: Some(10) };
    let mut put = engine.put_part("b", b"k", upload, number, options).await.unwrap();
    put.write(&[number as u8; 10]).await.unwrap();
    let part = put.finish_part(CommitOptions { attributes, ..CommitOptions::default() }).await.unwrap();
    NamedPart { number, etag: Some(part.etag) }
}

#[test]
fn two_completions_that_wait_for_the_bucket_are_one() {
    // Both come while it is being decided whether the bucket goes, and go on together once it stays: both hear of the same version.
    let mut world = World::new(1, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    let (bucket, upload, part) = world.run({
        let engine = engine.clone();
        async move {
            let bucket = engine.create_bucket("b", Bytes::new()).await.unwrap().bucket;
            let upload = engine.create_upload("b", b"k", Bytes::new()).await.unwrap().upload;
            (bucket, upload, put_part(&engine, upload, 1, Bytes::new()).await)
        }
    });
    let shard = engine.own_shards().next().expect("it has one").clone();
    let deciding = shard.clone();
    world.run(async move { deciding.begin_deciding(bucket).await.map(drop).unwrap() });
    let completions = [(), ()].map(|()| {
        let (engine, part) = (engine.clone(), part.clone());
        engine.clone().core().spawn_own(async move {
            engine.complete_upload("b", b"k", upload, vec![part], CompleteOptions::default()).await
        })
    });
    for _ in 0..100 {
        world.step();
    }
    shard.end_deciding(bucket);
    let [first, second] = completions;
    let (first, second) = world.run(async move { (first.await, second.await) });
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(first, second);
}

#[test]
fn an_upload_that_is_completed_while_a_checkpoint_walks_it_is_whole() {
    // The checkpoint has some of its parts, and the object with all of them; the log says again that it was completed.
    const PARTS: u16 = 600;
    let mut in_between = 0;
    for steps in (0..240u32).step_by(12) {
        let options =
            WorldOptions { cores: 1, shards: 1, checkpoint_log_bytes: u64::MAX, ..WorldOptions::default() };
        let mut world = World::new(u64::from(steps), options);
        world.open().unwrap();
        let engine = world.engine(0);
        let work = engine.clone();
        let (upload, parts) = world.run(async move {
            work.create_bucket("b", Bytes::new()).await.unwrap();
            let upload = work.create_upload("b", b"k", Bytes::new()).await.unwrap().upload;
            let mut parts = Vec::new();
            for number in 1..=PARTS {
                parts.push(put_part(&work, upload, number, Bytes::from(vec![1; 2000])).await);
            }
            (upload, parts)
        });
        let shard = engine.own_shards().next().expect("it has one").clone();
        let taking = shard.clone();
        let taken = engine.core().spawn_own(async move { taking.checkpoint().await });
        for _ in 0..steps {
            world.step();
        }
        let work = engine.clone();
        world.run(async move {
            let completed = work.complete_upload("b", b"k", upload, parts, CompleteOptions::default()).await;
            assert_eq!(completed.unwrap().part_count, PARTS);
        });
        in_between += u32::from(shard.is_at(Work::Checkpoint));
        world.run(taken).unwrap();
        drop((shard, engine));
        world.crash();
        world.open().unwrap();
        let engine = world.engine(0);
        let (info, parts) =
            world.run(async move { engine.object_parts("b", b"k", Which::Current).await.unwrap() });
        assert_eq!((info.part_count, parts.len(), info.size), (PARTS, PARTS.into(), 10 * u64::from(PARTS)));
        world.check_at_rest().unwrap();
    }
    assert!(in_between > 3, "{in_between} were completed during a checkpoint");
}
