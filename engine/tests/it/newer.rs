//! What a newer build has written is neither a torn tail nor damage: an older one leaves it as it is.

use super::{inspect::killed, some_bytes};
use bytes::Bytes;
use crossdock::{
    Engine,
    error::Region,
    inspect::{Access, Store},
    layout::{
        BLOCK_BYTES, BatchHeader, BucketId, Entry, LogPosition, SecretKey, regions::ANCHOR_REGION_BYTES,
    },
};
use futures_lite::future::block_on;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::{fs::File, hash::Hasher, os::unix::fs::FileExt, path::Path};

const VERSION_OFFSET: usize = 8;
const HASH_OFFSET: usize = 112;

/// Puts one more batch at the end of a shard's log, as the process that was killed might have: durable, and not stated to be.
fn append(path: &Path, shard: u16, entry: &[u8], version: u8) {
    let store = Store::open(&[path], Access::Closed).unwrap();
    let image = store.read_shard(shard).unwrap();
    let key = SecretKey(store.superblock().secret);
    let zone_bytes = u64::from(store.superblock().geometry.zone_bytes);
    let place =
        |at: LogPosition| ANCHOR_REGION_BYTES + u64::from(at.zone) * zone_bytes + u64::from(at.offset);
    let file = File::options().read(true).write(true).open(store.file(shard, Region::Log)).unwrap();
    let last = image.batches().last().unwrap();
    let mut copy = vec![0; last.meta_blocks as usize * BLOCK_BYTES];
    file.read_exact_at(&mut copy, place(last.position)).unwrap();
    let (_, _, previous, _) = BatchHeader::decode(&copy, &key).unwrap();
    let position = LogPosition {
        zone: last.position.zone,
        offset: last.position.offset + last.total_blocks() * BLOCK_BYTES as u32,
    };
    let header = BatchHeader {
        sequence: last.sequence + 1,
        position,
        previous,
        durable_upto: last.sequence,
        entry_count: 1,
        meta_blocks: BatchHeader::meta_blocks_for(entry.len()),
        payload_blocks: 0,
        ..last.clone()
    };
    let mut copies = vec![0; 2 * header.meta_blocks as usize * BLOCK_BYTES];
    let (front, back) = copies.split_at_mut(header.meta_blocks as usize * BLOCK_BYTES);
    header.encode_copies(entry, &key, front, back);
    for copy in [front, back] {
        copy[VERSION_OFFSET] = version;
        let mut hasher = SipHasher24::new_with_key(&key.0);
        hasher.write(&2u64.to_le_bytes());
        hasher.write(&copy[..HASH_OFFSET]);
        copy[HASH_OFFSET..][..16].copy_from_slice(&hasher.finish128().as_bytes());
    }
    file.write_all_at(&copies, place(position)).unwrap();
}

/// The last thing that a newer build wrote before it was killed is of a kind that this one does not know: the shard is not opened, and
/// the newer build finds all of it. An entry that is known is replayed from the same place.
#[test]
fn a_log_that_a_newer_build_wrote_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let builder = |path: &Path| Engine::builder().path(path).cores(1).memory_bytes(32 << 20);
    let engine = builder(directory.path()).shards(2).capacity_bytes(256 << 20).open().unwrap();
    block_on(async {
        engine.create_bucket("b", Bytes::new()).await.unwrap();
        for number in 0..8 {
            engine.put_bytes("b", &[number], some_bytes(3000, 1)).await.unwrap();
        }
    });
    let shard = engine.shard_of("b", &[0]);
    let mut known = Vec::new();
    Entry::RemoveBucket { bucket: BucketId(77) }.encode(&mut known);
    let (mut tag, mut body) = (known.clone(), known.clone());
    (tag[4], body[5]) = (99, 9);
    for (entry, version, told) in [
        (&known, 1, None),
        (&tag, 1, Some("unknown tag 99")),
        (&body, 1, Some("version 9 is newer")),
        (&known, 2, Some("version 2 is newer")),
    ] {
        let found = killed(directory.path());
        append(found.path(), shard, entry, version);
        let log = Store::open(&[found.path()], Access::Closed).unwrap().file(shard, Region::Log);
        let before = std::fs::read(&log).unwrap();
        let opened = builder(found.path()).open().unwrap();
        let unavailable = &opened.report().unavailable;
        match told {
            None => assert!(unavailable.is_empty(), "{unavailable:?}"),
            Some(told) => {
                assert!(unavailable.len() == 1 && unavailable[0].0 == shard, "{told}: {unavailable:?}");
                assert!(unavailable[0].1.to_string().contains(told), "{told}: {unavailable:?}");
            }
        }
        opened.close();
        if told.is_some() {
            assert!(std::fs::read(&log).unwrap() == before, "{told:?}: the log was changed");
        }
    }
    engine.close();
}
