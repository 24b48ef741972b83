//! What each write costs before the disk hears of it, and each read after: checksums, log batches, entries.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossdock::layout::{
    BLOCK_BYTES, BatchHeader, BucketId, Content, EntityTag, Entry, LogPosition, MetaHash, Record, SecretKey,
    Version, checksum,
};

const KEY: SecretKey = SecretKey(*b"secret of a test");

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    // Warm in the cache, as after a copy; and from memory, as after a read by the device.
    for (name, bytes) in [("64 KiB, warm", 64 << 10), ("256 MiB, from memory", 256 << 20)] {
        let data = vec![0x5a_u8; bytes];
        let mut target = vec![0_u8; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        if bytes > 1 << 20 {
            group.sample_size(10);
        }
        group.bench_function(format!("yardstick: copy {name}"), |bencher| {
            bencher.iter(|| target.clone_from_slice(black_box(&data)));
        });
        group.bench_function(format!("CRC64NVME of {name}"), |bencher| {
            bencher
                .iter(|| data.chunks(64 << 10).map(|block| checksum(black_box(block))).fold(0, |a, b| a ^ b));
        });
    }
    group.finish();
}

/// A packed object of 4 KiB under a key of common length.
fn put(index: u32) -> Entry {
    let content = Content::Packed {
        place: LogPosition { zone: 1, offset: index * 8192 },
        bytes: 4096,
        checksums: vec![u64::from(index)],
    };
    Entry::PutObject {
        bucket: BucketId(3),
        key: format!("photos/2026/11/holiday-{index:08}.jpg").into_bytes().into(),
        record: Record {
            version: Version(u64::from(index)),
            null: true,
            delete_marker: false,
            size: 4096,
            modified_ms: 1_700_000_000_000,
            crc64: 1,
            etag: EntityTag::new(b"9e107d9d372bb6826bd81d3542a419d6").expect("short enough"),
            attributes: b"content-type: image/jpeg"[..].to_vec().into(),
            content,
            upload: None,
        },
    }
}

fn batches(criterion: &mut Criterion) {
    let entries: Vec<Entry> = (0..64).map(put).collect();
    let mut bytes = Vec::new();
    entries.iter().for_each(|entry| entry.encode(&mut bytes));
    let header = BatchHeader {
        shard: 0,
        epoch: 1,
        sequence: 1000,
        position: LogPosition { zone: 4, offset: 65_536 },
        next_zone: 5,
        durable_upto: 998,
        previous: MetaHash([7; 16]),
        entry_count: 64,
        meta_blocks: BatchHeader::meta_blocks_for(bytes.len()),
        payload_blocks: 64,
    };
    let mut copy = vec![0; header.meta_blocks as usize * BLOCK_BYTES];
    let mut group = criterion.benchmark_group("log batch of 64 puts");
    group.throughput(Throughput::Elements(64));
    group.bench_function("encode the entries", |bencher| {
        let mut target = Vec::with_capacity(bytes.len());
        bencher.iter(|| {
            target.clear();
            black_box(&entries).iter().for_each(|entry| entry.encode(&mut target));
        });
    });
    group.bench_function("encode one copy", |bencher| {
        bencher.iter(|| header.encode(black_box(&bytes), false, &KEY, &mut copy));
    });
    header.encode(&bytes, false, &KEY, &mut copy);
    group.bench_function("check one copy", |bencher| {
        bencher.iter(|| assert!(BatchHeader::decode(black_box(&copy), &KEY).is_ok()));
    });
    group.bench_function("decode the entries", |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(bytes.as_slice());
            while !rest.is_empty() {
                Entry::decode(&mut rest).expect("whole entries");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, checksums, batches);
criterion_main!(benches);
