//! What an object is made of, and which chunk of it is read next.

use super::CHUNK_BYTES;
use crate::{
    cache::{BlockName, BlockPlace},
    error::Region,
    layout::{BLOCK_BYTES, Content, Extent, Part, Record, Version},
};
use bytes::Bytes;
use std::{ops::Range, sync::Arc};

/// Whose bytes are read, to say so when they do not hold.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) name: Name,
    pub(super) version: Version,
    pub(super) part: Option<u16>,
}

impl Owner {
    pub(super) fn block(&self, shard: u16, place: BlockPlace) -> BlockName {
        BlockName { shard, version: self.version, part: self.part, place }
    }
}

/// The name of an object, to be shared.
#[derive(Clone)]
pub(crate) struct Name {
    /// Bucket and key, one behind the other.
    bytes: Arc<[u8]>,
    bucket_bytes: usize,
}

impl Name {
    pub(crate) fn new(bucket: &str, key: &[u8]) -> Name {
        let bytes = bucket.as_bytes().iter().chain(key).copied().collect();
        Name { bytes, bucket_bytes: bucket.len() }
    }

    pub(crate) fn bucket(&self) -> &str {
        str::from_utf8(&self.bytes[..self.bucket_bytes]).expect("it was made of a str")
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[self.bucket_bytes..]
    }
}

/// What is left of an object: hardly ever more than one piece. Of parts there may be ten thousand: they stay the index's, and each is
/// copied when its turn comes.
pub(super) struct Pieces {
    pub(super) first: Option<Piece>,
    parts: Option<Arc<[Part]>>,
    /// The part behind the first piece, and where it starts.
    next: usize,
    start: u64,
}

impl Pieces {
    /// Those of an object from a position on.
    pub(super) fn of(record: Record, position: u64) -> Pieces {
        let mut pieces = Pieces { first: None, parts: None, next: 0, start: 0 };
        match record.content {
            Content::Parts(parts) => {
                pieces.parts = Some(parts);
                pieces.first = pieces.part_at(position);
            }
            content if record.size > 0 => {
                pieces.first = Some(Piece { part: None, start: 0, bytes: record.size, content });
            }
            _ => {}
        }
        pieces
    }

    /// Goes on to the part that holds this position or starts behind it. None if there is none with bytes.
    fn part_at(&mut self, position: u64) -> Option<Piece> {
        for part in self.parts.as_ref()?.iter().skip(self.next) {
            let start = self.start;
            self.next += 1;
            self.start += part.bytes;
            if part.bytes > 0 && position < self.start {
                let (number, content) = (Some(part.number), part.content.clone());
                return Some(Piece { part: number, start, bytes: part.bytes, content });
            }
        }
        None
    }

    /// Drops the first if it ends before this position.
    pub(super) fn pass(&mut self, position: u64) {
        if self.first.as_ref().is_some_and(|first| position >= first.start + first.bytes) {
            self.first = self.part_at(position);
        }
    }

    pub(super) fn take(&mut self) -> Option<Piece> {
        let next = self.part_at(self.start);
        std::mem::replace(&mut self.first, next)
    }
}

/// A stretch of the object with one content.
pub(super) struct Piece {
    pub(super) part: Option<u16>,
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) content: Content,
}

/// A piece whose checksums are at hand.
pub(super) struct OpenPiece {
    pub(super) owner: Owner,
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) place: Place,
    pub(super) checksums: Vec<u64>,
    pub(super) block_bytes: u64,
}

/// Where its bytes lie.
pub(super) enum Place {
    Inline(Bytes),
    Packed { offset: u64 },
    Extents(Vec<Extent>),
}

/// One chunk: what is wanted, and the whole blocks that are read for it.
pub(super) struct Span {
    /// The wanted bytes, within the piece.
    pub(super) wanted: Range<u64>,
    /// The checksum blocks that hold them, within the piece.
    pub(super) verified: Range<u64>,
    pub(super) region: Region,
    /// Where `verified` starts on the device.
    pub(super) device_offset: u64,
}

impl Span {
    /// How far into its device block the span starts: packed payloads may start anywhere.
    pub(super) fn lead(&self) -> usize {
        (self.device_offset % BLOCK_BYTES as u64) as usize
    }

    /// Bytes of the lease that it is read into.
    pub(super) fn lease_bytes(&self) -> usize {
        let bytes = (self.verified.end - self.verified.start) as usize;
        (self.lead() + bytes).next_multiple_of(BLOCK_BYTES)
    }
}

impl OpenPiece {
    /// The next span at `position` (of the object), at most a chunk, within one extent.
    ///
    /// With `edges_apart`, a checksum block of which only a part is wanted is a span of its own, so that the others are whole.
    pub(super) fn span(&self, position: u64, end: u64, zone_bytes: u32, edges_apart: bool) -> Option<Span> {
        let from = position.checked_sub(self.start)?;
        let mut to = end.saturating_sub(self.start).min(self.bytes);
        if from >= to {
            return None;
        }
        let block = self.block_bytes;
        let first = from / block * block;
        // All who read a place read the same chunk of it, so that one can use what another has read.
        let mut chunk_end = (first / CHUNK_BYTES as u64 + 1) * CHUNK_BYTES as u64;
        if edges_apart && from > first {
            chunk_end = first + block;
        }
        let last = to / block * block;
        if edges_apart && to < self.bytes && (from + 1..to).contains(&last) {
            to = last;
        }
        match &self.place {
            Place::Inline(_) => {
                Some(Span { wanted: from..to, verified: from..to, region: Region::Log, device_offset: 0 })
            }
            Place::Packed { offset } => {
                let end = to.next_multiple_of(block).min(self.bytes).min(chunk_end);
                let wanted = from..to.min(end);
                Some(Span {
                    wanted,
                    verified: first..end,
                    region: Region::Log,
                    device_offset: offset + first,
                })
            }
            Place::Extents(extents) => {
                let mut start = 0;
                for extent in extents {
                    let extent_end = start + extent.bytes();
                    if first < extent_end {
                        let end = to.next_multiple_of(block).min(self.bytes).min(chunk_end).min(extent_end);
                        let wanted = from..to.min(end);
                        let within = first - start;
                        // The zone's place is added where the device is known.
                        let device_offset =
                            u64::from(extent.zone) * u64::from(zone_bytes) + extent.offset() + within;
                        return Some(Span {
                            wanted,
                            verified: first..end,
                            region: Region::Data,
                            device_offset,
                        });
                    }
                    start = extent_end;
                }
                None
            }
        }
    }
}
