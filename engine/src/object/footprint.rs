//! How much of leases a read takes at most: what it is let in with.
//!
//! The record says it exactly: where chunks end, and which class of lease each has. What the read cache saves of it is not known before.

use super::{CHUNK_BYTES, OPERATION_BYTES_MAX};
use crate::layout::{BLOCK_BYTES, Content, EXTENT_CHECKSUM_BYTES, PACKED_CHECKSUM_BYTES, Record};
use crossdock_transport::memory::lease_bytes;
use std::ops::Range;

/// Bytes of leases that reading these bytes of an object holds at most: those of all its chunks, or of a window of them.
pub(crate) fn read_bytes_max(record: &Record, range: &Range<u64>) -> usize {
    match &record.content {
        Content::Parts(parts) => of_contents(parts.iter().map(|part| (part.bytes, &part.content)), range),
        content => of_contents(std::iter::once((record.size, content)), range),
    }
}

/// The same of contents and their bytes, which follow each other.
fn of_contents<'a>(contents: impl Iterator<Item = (u64, &'a Content)>, range: &Range<u64>) -> usize {
    let (mut start, mut held) = (0, 0);
    for (bytes, content) in contents {
        let wanted = range.start.max(start)..range.end.min(start + bytes);
        if !wanted.is_empty() {
            held += of_content(content, bytes, wanted.start - start..wanted.end - start);
        }
        start += bytes;
        if held >= OPERATION_BYTES_MAX || start >= range.end {
            break;
        }
    }
    held.min(OPERATION_BYTES_MAX)
}

/// Bytes of the leases that all chunks of `wanted` take, of a content of `bytes`; no more is counted than one operation may hold.
fn of_content(content: &Content, bytes: u64, wanted: Range<u64>) -> usize {
    let blocks = |block: usize| {
        let block = block as u64;
        wanted.start / block * block..wanted.end.next_multiple_of(block).min(bytes)
    };
    // Chunks end on multiples of one, and where an extent does.
    let chunks = |stretch: Range<u64>, lead: u64| {
        let (mut start, mut held) = (stretch.start, 0);
        while start < stretch.end && held < OPERATION_BYTES_MAX {
            let end = stretch.end.min((start / CHUNK_BYTES as u64 + 1) * CHUNK_BYTES as u64);
            held += lease_bytes(((end - start + lead) as usize).next_multiple_of(BLOCK_BYTES));
            start = end;
        }
        held
    };
    match content {
        Content::Inline(_) => chunks(wanted, 0),
        Content::Packed { place, .. } => {
            chunks(blocks(PACKED_CHECKSUM_BYTES), u64::from(place.offset) % BLOCK_BYTES as u64)
        }
        Content::Extents { extents, .. } => {
            let blocks = blocks(EXTENT_CHECKSUM_BYTES);
            let (mut start, mut held) = (0, 0);
            for extent in extents {
                let stretch = blocks.start.max(start)..blocks.end.min(start + extent.bytes());
                held += if stretch.is_empty() { 0 } else { chunks(stretch, 0) };
                start += extent.bytes();
                if held >= OPERATION_BYTES_MAX || start >= blocks.end {
                    break;
                }
            }
            held
        }
        Content::Empty | Content::Parts(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{ChecksumTable, Extent, LogPosition};
    use bytes::Bytes;

    const CLASSES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];

    /// Each chunk takes the class that holds its blocks, from the first byte of a block to the last; and no more is counted than a window.
    #[test]
    fn chunks_count_by_their_classes() {
        let [page, small, middle, chunk] = CLASSES;
        let inline = Content::Inline(Bytes::from_static(&[1; 600]));
        assert_eq!(of_content(&inline, 600, 0..600), page);
        let packed = |offset| {
            let place = LogPosition { zone: 0, offset };
            Content::Packed { place, bytes: 20_000, checksums: vec![0; 2] }
        };
        assert_eq!(of_content(&packed(0), 20_000, 0..20_000), small);
        // Of a byte its block of 16 KiB is read; where that is the last, what there is of it.
        assert_eq!(of_content(&packed(0), 20_000, 19_999..20_000), page);
        assert_eq!(of_content(&packed(4000), 20_000, 19_999..20_000), small);
        let unit = EXTENT_CHECKSUM_BYTES as u64;
        let extents = vec![Extent { zone: 0, unit: 0, order: 5 }, Extent { zone: 1, unit: 0, order: 0 }];
        let large =
            Content::Extents { extents, bytes: 33 * unit, checksums: ChecksumTable::Here(vec![0; 33]) };
        let of = |range| of_content(&large, 33 * unit, range);
        assert_eq!(of(0..1), small);
        assert_eq!(of(unit - 1..unit + 1), middle);
        // Over the end of a chunk, and of an extent.
        assert_eq!(of(16 * unit - 1..16 * unit + 1), 2 * small);
        assert_eq!(of(0..33 * unit), 2 * chunk + small);
        let contents = || std::iter::repeat_n((33 * unit, &large), 3);
        assert_eq!(of_contents(contents(), &(0..99 * unit)), OPERATION_BYTES_MAX);
        assert_eq!(of_contents(contents(), &(33 * unit - 1..33 * unit + 1)), 2 * small);
        assert_eq!(of_contents(contents(), &(7..7)), 0);
    }
}
