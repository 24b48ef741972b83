//! What the index takes of the heap: counted entry by entry, so that it can be bounded.
//!
//! Counted is the most that it can be, not what it is now: nodes of the ordered map are taken to be as empty as the map
//! lets them become, and each allocation as large as an allocator with blocks of 16 bytes makes it. So the sum is an upper bound
//! whatever was inserted and removed before, and in whatever order.

use crate::{
    layout::{BucketRecord, ChecksumTable, Content, Entry, Extent, Part, Record, UploadRecord},
    shard::catalog::UploadPlace,
};

/// Bytes that a map takes for each entry beside the entry: pointers between nodes, lengths, and the allocator's own.
const LINKS_BYTES: usize = 24;

/// Bytes of the heap for an allocation of so many.
const fn heap(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { (bytes + 8).next_multiple_of(16) as u64 + 16 }
}

/// Bytes that an ordered map takes for an entry: its nodes have room for 11, and hold at least 5.
const fn in_map(entry_bytes: usize) -> u64 {
    ((entry_bytes + LINKS_BYTES) * 11 / 5) as u64
}

/// Bytes that a version takes, its key included.
pub(crate) fn version_bytes(key: &[u8], record: &Record) -> u64 {
    // Encoded: bucket, the key with its zeros escaped, its end, the version.
    let zeros = key.iter().filter(|byte| **byte == 0).count();
    let entry = in_map(size_of::<Box<[u8]>>() + size_of::<Record>());
    entry
        + heap(8 + key.len() + zeros + 2 + 8)
        + heap(record.attributes.len())
        + content_bytes(&record.content)
}

/// Bytes that a part of an upload takes.
pub(crate) fn part_bytes(part: &Part) -> u64 {
    in_map(size_of::<u16>() + size_of::<Part>()) + heap(part.attributes.len()) + content_bytes(&part.content)
}

/// Bytes that an upload takes, without its parts.
pub(crate) fn upload_bytes(record: &UploadRecord) -> u64 {
    let listed = in_map(size_of::<UploadPlace>()) + heap(record.key.len());
    in_map(128 + size_of::<UploadRecord>()) + heap(record.key.len()) + heap(record.attributes.len()) + listed
}

/// Bytes that a bucket takes.
pub(crate) fn bucket_bytes(record: &BucketRecord) -> u64 {
    let documents =
        record.documents.iter().map(|(name, bytes)| in_map(64) + heap(name.len()) + heap(bytes.len()));
    let names = 2 * heap(record.name.len()) + in_map(64);
    in_map(128 + size_of::<BucketRecord>()) + names + heap(record.attributes.len()) + documents.sum::<u64>()
}

/// Bytes that an entry takes while it waits for the log, and what conditions see of it.
pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    let seen = |key: &[u8]| in_map(128) + 2 * heap(key.len());
    match entry {
        Entry::PutObject { key, record, .. } => version_bytes(key, record) + seen(key),
        Entry::RemoveVersion { key, .. } => seen(key),
        Entry::SetAttributes { key, attributes, .. } => seen(key) + 2 * heap(attributes.len()),
        Entry::PutBucket(record) => bucket_bytes(record),
        Entry::CreateUpload(record) => upload_bytes(record),
        Entry::PutPart { part, .. } => part_bytes(part),
        Entry::CompleteUpload { record, parts, .. } => version_bytes(&[], record) + heap(2 * parts.len()),
        Entry::MovePacked { to, .. } => in_map(size_of::<Entry>()) + content_bytes(to),
        Entry::RemoveBucket { .. } | Entry::AbortUpload { .. } | Entry::Scrub(_) => {
            in_map(size_of::<Entry>())
        }
    }
}

fn content_bytes(content: &Content) -> u64 {
    match content {
        Content::Empty => 0,
        Content::Inline(bytes) => heap(bytes.len()),
        Content::Packed { checksums, .. } => heap(size_of_val(&checksums[..])),
        Content::Extents { extents, checksums, .. } => {
            let sums = match checksums {
                ChecksumTable::Here(sums) => heap(size_of_val(&sums[..])),
                ChecksumTable::Away { .. } => 0,
            };
            heap(extents.len().next_power_of_two() * size_of::<Extent>()) + sums
        }
        Content::Parts(parts) => {
            let own: u64 = parts.iter().map(|p| heap(p.attributes.len()) + content_bytes(&p.content)).sum();
            // Shared: two counts lie before them.
            heap(2 * size_of::<usize>() + size_of_val(&parts[..])) + own
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        index::{Index, MemoryIndex},
        layout::{BucketId, EntityTag, LogPosition, Version},
    };
    use bytes::Bytes;

    /// The bound says more than the bytes that are there, and not many times as much.
    #[test]
    fn a_version_is_counted_with_all_it_has() {
        let record = |content| Record {
            version: Version(1),
            null: true,
            delete_marker: false,
            size: 0,
            modified_ms: 0,
            crc64: 0,
            etag: EntityTag::new(b"").unwrap(),
            attributes: Bytes::from(vec![0; 100]),
            content,
            upload: None,
        };
        let least = |key: usize, more: usize| (size_of::<Record>() + 16 + key + 100 + more) as u64;
        for (content, more) in [
            (Content::Empty, 0),
            (Content::Inline(vec![1; 700].into()), 700),
            (
                Content::Packed {
                    place: LogPosition { zone: 0, offset: 0 },
                    bytes: 9,
                    checksums: vec![0; 20],
                },
                160,
            ),
        ] {
            let counted = version_bytes(&[7; 60], &record(content));
            assert!(counted > least(60, more) && counted < 3 * least(60, more), "{counted}");
        }
        let mut index = MemoryIndex::default();
        index.put(BucketId(1), b"k", record(Content::Empty));
        assert_eq!(index.len(), 1);
    }
}
