//! What is done beside others who have all there is: of a shard's log.

use super::{put, settle, shards_with_record, space::fill_queue};
use crate::{
    core_engine::Delete,
    testing::world::{World, WorldOptions},
};
use bytes::Bytes;

#[test]
fn a_deleted_bucket_leaves_nothing_on_a_shard_whose_log_is_busy() {
    // The bucket is gone at its home when another shard's log has no room: it waits for some, and does not leave its record behind, which
    // the next bucket of that name would take over with the uploads in it.
    let mut world = World::new(1, WorldOptions { cores: 1, shards: 3, ..WorldOptions::default() });
    world.open().unwrap();
    let engine = world.engine(0);
    let home = engine.0.placement.home_of("b");
    let other = (home + 1) % engine.shard_count();
    let log = world.disk.find(&format!("log-{other}")).expect("each shard has one");
    let work = engine.clone();
    let bucket = world.run(async move { work.create_bucket("b", Bytes::new()).await.unwrap().bucket });
    let shard = engine.own_shard(other).unwrap().expect("there is one core").clone();
    let work = engine.clone();
    world.run(async move {
        // What a shard makes before it is written to for the first time is made.
        let key = (0..=255u8).find(|key| work.shard_of("b", &[*key]) == other).expect("one of so many");
        put(&work, &[key], 10).await.unwrap();
        work.delete("b", Delete::current(&[key])).await.unwrap();
    });
    settle(&mut world);
    world.disk.slow_down(log, 0..u64::MAX, 300);
    world.run(async move {
        let waiting = fill_queue(&shard).await;
        assert_eq!(engine.remove_record(bucket, home).await, Ok(()));
        drop(waiting);
    });
    assert_eq!(shards_with_record(&mut world), [0u16; 0]);
}
