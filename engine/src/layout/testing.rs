//! Strategies for every structure, and the damage that each must refuse.

use super::*;
use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, strategy::ValueTree, test_runner::TestRunner};

pub(super) const KEY: SecretKey = SecretKey(*b"secret of a test");

/// One value of a strategy, the same in every run.
pub(super) fn sample<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(&mut TestRunner::deterministic()).unwrap().current()
}

/// Every truncation and every flip of one bit must be refused.
pub(super) fn refuses_damage(whole: &[u8], refused: &mut dyn FnMut(&[u8]) -> bool) {
    assert!(!refused(whole), "the undamaged bytes are refused");
    for cut in 0..whole.len() {
        assert!(refused(&whole[..cut]), "cut at {cut}");
    }
    let mut damaged = whole.to_vec();
    for at in 0..whole.len() {
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            assert!(refused(&damaged), "bit {bit} of byte {at}");
            damaged[at] ^= 1 << bit;
        }
    }
}

pub(super) fn geometry() -> impl Strategy<Value = Geometry> {
    (1..=SHARDS_MAX, 16..=25u32, 0..=65_536u32, any::<prop::sample::Index>(), 1..1u32 << 31, any::<bool>())
        .prop_map(|(shard_count, zone_order, inline_bytes_max, packed, zones_max, mixed)| Geometry {
            shard_count,
            zone_bytes: 1 << zone_order,
            inline_bytes_max,
            packed_bytes_max: packed.index((1 << zone_order) + 1) as u32,
            zones_max,
            mixed,
        })
}

pub(super) fn superblock() -> impl Strategy<Value = Superblock> {
    let numbers = (any::<u128>(), any::<u64>(), any::<u64>(), any::<[u8; 16]>());
    let places = (1..=SHARDS_MAX, any::<prop::sample::Index>(), any::<prop::sample::Index>());
    (numbers, places, geometry()).prop_map(|(numbers, (device_count, device, shard), geometry)| Superblock {
        store: numbers.0,
        epoch: numbers.1,
        device_index: device.index(device_count.into()) as u16,
        device_count,
        shard_first: shard.index(geometry.shard_count.into()) as u16,
        geometry,
        secret: numbers.3,
        features: 0,
        created_ms: numbers.2,
    })
}

pub(super) fn hash() -> impl Strategy<Value = MetaHash> {
    any::<[u8; 16]>().prop_map(MetaHash)
}

pub(super) fn extent() -> impl Strategy<Value = Extent> {
    (any::<u32>(), 0..=Extent::ORDER_MAX, any::<prop::sample::Index>()).prop_map(|(zone, order, at)| Extent {
        zone,
        unit: (at.index(512 >> order) << order) as u16,
        order,
    })
}

pub(super) fn block_position() -> impl Strategy<Value = LogPosition> {
    (any::<u32>(), 0..4096u32)
        .prop_map(|(zone, block)| LogPosition { zone, offset: block * BLOCK_BYTES as u32 })
}

fn chunk_place() -> impl Strategy<Value = ChunkPlace> {
    let copies = (extent(), extent()).prop_filter("no copy lies where the other does", |(a, b)| a != b);
    (copies, hash()).prop_map(|((first, second), hash)| ChunkPlace { copies: [first, second], hash })
}

pub(super) fn anchor() -> impl Strategy<Value = Anchor> {
    let root = (any::<u64>(), chunk_place(), 1..u32::MAX, any::<u64>()).prop_map(
        |(id, last_chunk, chunk_count, entry_count)| CheckpointRoot {
            id,
            last_chunk,
            chunk_count,
            entry_count,
        },
    );
    let numbers = (any::<u128>(), any::<[u64; 4]>(), 0..SHARDS_MAX, any::<u32>());
    (numbers, block_position(), hash(), option::of(root)).prop_map(
        |(
            (store, [generation, epoch, epoch_start, log_sequence], shard, log_next_zone),
            log_start,
            log_previous,
            checkpoint,
        )| Anchor {
            store,
            shard,
            generation,
            epoch,
            epoch_start,
            log_start,
            log_sequence,
            log_previous,
            log_next_zone,
            checkpoint,
        },
    )
}

/// A header, and bytes as long as its entries.
pub(super) fn batch() -> impl Strategy<Value = (BatchHeader, Vec<u8>)> {
    let numbers = (0..SHARDS_MAX, any::<u64>(), 0..u64::MAX, any::<u32>(), any::<prop::sample::Index>());
    (numbers, block_position(), hash(), vec(any::<u8>(), 0..9000), 0..2000u32).prop_map(
        |((shard, epoch, sequence, next_zone, some), position, previous, entries, payload_blocks)| {
            let header = BatchHeader {
                shard,
                epoch,
                sequence,
                position,
                next_zone,
                durable_upto: some.index(usize::MAX) as u64 % (sequence + 1),
                previous,
                entry_count: some.index(entries.len() / 6 + 1) as u32,
                meta_blocks: BatchHeader::meta_blocks_for(entries.len()),
                payload_blocks,
            };
            (header, entries)
        },
    )
}

/// A header, and bytes as long as its stream.
pub(super) fn chunk() -> impl Strategy<Value = (ChunkHeader, Vec<u8>)> {
    let numbers = (0..SHARDS_MAX, any::<u64>(), any::<u64>(), 1..u32::MAX);
    (numbers, option::of(chunk_place()), vec(any::<u8>(), 0..3000)).prop_map(
        |((shard, epoch, checkpoint, index), previous, stream)| {
            let index = if previous.is_some() { index } else { 0 };
            (ChunkHeader { shard, epoch, checkpoint, index, previous, bytes: stream.len() as u32 }, stream)
        },
    )
}

fn etag() -> impl Strategy<Value = EntityTag> {
    vec(any::<u8>(), 0..=EntityTag::BYTES_MAX).prop_map(|tag| EntityTag::new(&tag).unwrap())
}

fn some_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..60).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = Box<[u8]>> {
    vec(any::<u8>(), 0..60).prop_map(Vec::into_boxed_slice)
}

fn checksums(count: u64, seed: u64) -> Vec<u64> {
    (0..count).map(|i| seed.rotate_left(i as u32).wrapping_add(i)).collect()
}

fn extents_content() -> impl Strategy<Value = Content> {
    (vec(extent(), 1..6), any::<prop::sample::Index>(), any::<u64>(), option::of(extent())).prop_map(
        |(extents, used, seed, away)| {
            let last = extents.last().unwrap().bytes();
            let full: u64 = extents.iter().map(|extent| extent.bytes()).sum::<u64>() - last;
            let bytes = full + 1 + used.index(last as usize) as u64;
            let count = bytes.div_ceil(EXTENT_CHECKSUM_BYTES as u64);
            let checksums = match away {
                Some(extent) if extent.bytes() >= count * 8 => {
                    ChecksumTable::Away { extent, bytes: count as u32 * 8, checksum: seed }
                }
                _ => ChecksumTable::Here(checksums(count, seed)),
            };
            Content::Extents { extents, bytes, checksums }
        },
    )
}

fn packed_content() -> impl Strategy<Value = Content> {
    (any::<[u32; 2]>(), 0..300_000u32, any::<u64>()).prop_map(|([zone, offset], bytes, seed)| {
        let count = u64::from(bytes).div_ceil(PACKED_CHECKSUM_BYTES as u64);
        Content::Packed { place: LogPosition { zone, offset }, bytes, checksums: checksums(count, seed) }
    })
}

fn content_of_one() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Empty),
        some_bytes().prop_map(Content::Inline),
        packed_content(),
        extents_content()
    ]
}

fn packed_owner() -> impl Strategy<Value = PackedOwner> {
    let version = (any::<u64>(), key(), any::<u64>(), option::of(any::<u16>()));
    let version = version.prop_map(|(bucket, key, version, part)| PackedOwner::Version {
        bucket: BucketId(bucket),
        key,
        version: Version(version),
        part,
    });
    let part = (any::<u128>(), any::<u16>())
        .prop_map(|(upload, number)| PackedOwner::Part { upload: UploadId(upload), number });
    prop_oneof![version, part]
}

pub(super) fn part() -> impl Strategy<Value = Part> {
    (any::<u16>(), any::<[u64; 3]>(), etag(), some_bytes(), content_of_one()).prop_map(
        |(number, [bytes, modified_ms, crc64], etag, attributes, content)| Part {
            number,
            bytes,
            modified_ms,
            crc64,
            etag,
            attributes,
            content,
        },
    )
}

pub(super) fn record() -> impl Strategy<Value = Record> {
    let content = prop_oneof![4 => content_of_one(), 1 => vec(part(), 0..4).prop_map(|parts| Content::Parts(parts.into()))];
    let flags = (any::<bool>(), any::<bool>(), option::of(any::<u128>().prop_map(UploadId)));
    (any::<[u64; 4]>(), flags, etag(), some_bytes(), content).prop_map(
        |([version, size, modified_ms, crc64], (null, delete_marker, upload), etag, attributes, content)| {
            Record {
                version: Version(version),
                null,
                delete_marker,
                size,
                modified_ms,
                crc64,
                etag,
                attributes,
                content,
                upload,
            }
        },
    )
}

fn scrub_record() -> impl Strategy<Value = ScrubRecord> {
    let behind = (any::<u64>(), key(), any::<u64>()).prop_map(|(bucket, key, version)| {
        ScrubPosition::Behind { bucket: BucketId(bucket), key, version: Version(version) }
    });
    let position = prop_oneof![
        Just(ScrubPosition::Over),
        Just(ScrubPosition::Start),
        behind,
        Just(ScrubPosition::Versions)
    ];
    (any::<[u64; 6]>(), position).prop_map(
        |([tour, started_ms, finished_ms, bytes, findings, findings_before], position)| ScrubRecord {
            tour,
            started_ms,
            finished_ms,
            bytes,
            findings,
            findings_before,
            position,
        },
    )
}

pub(super) fn entry() -> impl Strategy<Value = Entry> {
    let bucket = || any::<u64>().prop_map(BucketId);
    let upload = || any::<u128>().prop_map(UploadId);
    let versioning = prop_oneof![
        Just((Versioning::Never, 0)),
        (0..u64::MAX).prop_map(|revision| (Versioning::Enabled, revision)),
        any::<u64>().prop_map(|revision| (Versioning::Suspended, revision)),
    ];
    let documents = proptest::collection::btree_map("\\PC{1,20}", some_bytes(), 0..4).prop_map(|documents| {
        std::sync::Arc::new(documents.into_iter().map(|(name, bytes)| (name.into(), bytes)).collect())
    });
    let bucket_record = (bucket(), "\\PC{0,60}", any::<u64>(), some_bytes(), versioning, documents).prop_map(
        |(bucket, name, created_ms, attributes, (versioning, revision), documents)| BucketRecord {
            bucket,
            name: name.into(),
            created_ms,
            attributes,
            versioning,
            documents,
            revision,
        },
    );
    let upload_record = (upload(), bucket(), key(), any::<u64>(), some_bytes()).prop_map(
        |(upload, bucket, key, created_ms, attributes)| UploadRecord {
            upload,
            bucket,
            key,
            created_ms,
            attributes,
        },
    );
    prop_oneof![
        (packed_owner(), any::<[u32; 2]>(), packed_content()).prop_map(|(owner, [zone, offset], to)| {
            Entry::MovePacked { owner, from: LogPosition { zone, offset }, to }
        }),
        (bucket(), key(), record()).prop_map(|(bucket, key, record)| Entry::PutObject {
            bucket,
            key,
            record
        }),
        (bucket(), key(), any::<u64>()).prop_map(|(bucket, key, version)| Entry::RemoveVersion {
            bucket,
            key,
            version: Version(version)
        }),
        (bucket(), key(), any::<u64>(), some_bytes()).prop_map(|(bucket, key, version, attributes)| {
            Entry::SetAttributes { bucket, key, version: Version(version), attributes }
        }),
        bucket_record.prop_map(Entry::PutBucket),
        bucket().prop_map(|bucket| Entry::RemoveBucket { bucket }),
        upload_record.prop_map(Entry::CreateUpload),
        (upload(), part()).prop_map(|(upload, part)| Entry::PutPart { upload, part }),
        (upload(), record(), vec(any::<u16>(), 0..40))
            .prop_map(|(upload, record, parts)| Entry::CompleteUpload { upload, record, parts }),
        upload().prop_map(|upload| Entry::AbortUpload { upload }),
        scrub_record().prop_map(Entry::Scrub),
    ]
}
