//! Lays out a batch: which payloads are gathered from where they are, which are packed together, where each lies.

use super::{BATCH_BUFFER_BYTES, GATHERED_BYTES_MAX, Proposal, tail::Tail};
use crate::layout::{BLOCK_BYTES, BatchHeader, Content, Entry, LogPosition, Record, SecretKey};
use crossdock_transport::memory::{BufferLease, CopyReason, FrozenLease, ScatterList, copy_payload};
use std::{collections::VecDeque, ops::Range};

/// How a payload gets into its batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// Written from its own lease: costs up to a block of padding, no copy.
    Gathered,
    /// Copied behind the others: costs a copy, hardly any padding.
    Packed,
}

/// Gathering is worth its padding up to an eighth of the payload.
fn way(bytes: usize) -> Way {
    let padding = bytes.next_multiple_of(BLOCK_BYTES) - bytes;
    if padding <= bytes / 8 { Way::Gathered } else { Way::Packed }
}

/// Where a payload of `bytes` starts in the packed run that is `filled` long: right behind, unless it would then
/// touch more blocks than it must.
fn packed_start(filled: usize, bytes: usize) -> usize {
    let in_block = filled % BLOCK_BYTES;
    if in_block + bytes <= bytes.next_multiple_of(BLOCK_BYTES) {
        return filled;
    }
    filled.next_multiple_of(BLOCK_BYTES)
}

/// How many of the proposals that wait go in one batch, and what they take there.
#[derive(Clone, Copy, Default)]
pub(crate) struct Forming {
    proposals: usize,
    entry_bytes: usize,
    gathered: usize,
    gathered_bytes: usize,
    packed_bytes: usize,
}

impl Forming {
    /// What fits one batch of the queue, in order. At least one proposal if there is any. `scratch` is memory to encode in.
    pub(crate) fn of(queue: &VecDeque<Proposal>, room_bytes: usize, scratch: &mut Vec<u8>) -> Forming {
        let mut forming = Forming::default();
        queue.iter().take_while(|proposal| forming.try_count(proposal, room_bytes, scratch)).count();
        forming
    }

    /// Adds the proposal's needs if the batch still fits its buffer and `room_bytes` with them.
    fn try_count(&mut self, proposal: &Proposal, room_bytes: usize, scratch: &mut Vec<u8>) -> bool {
        scratch.clear();
        proposal.entry.encode(scratch);
        let entry_bytes = self.entry_bytes + scratch.len();
        let (mut pieces, mut gathered, mut packed) = (self.gathered, self.gathered_bytes, self.packed_bytes);
        if let (Some(bytes), Some(_)) = (payload_bytes(&proposal.entry), &proposal.payload) {
            match way(bytes) {
                Way::Gathered => {
                    gathered += bytes.next_multiple_of(BLOCK_BYTES);
                    pieces += 1;
                }
                Way::Packed => packed = packed_start(packed, bytes) + bytes,
            }
        }
        let meta = BatchHeader::meta_blocks_for(entry_bytes) as usize * BLOCK_BYTES;
        let buffer = 2 * meta + packed.next_multiple_of(BLOCK_BYTES);
        let fits =
            buffer <= BATCH_BUFFER_BYTES && gathered <= GATHERED_BYTES_MAX && buffer + gathered <= room_bytes;
        if !fits && self.proposals > 0 {
            return false;
        }
        assert!(fits, "an entry within its bounds fits an empty batch");
        let proposals = self.proposals + 1;
        *self = Forming {
            proposals,
            entry_bytes,
            gathered: pieces,
            gathered_bytes: gathered,
            packed_bytes: packed,
        };
        true
    }

    /// Blocks of the whole batch.
    pub(crate) fn blocks(&self) -> u32 {
        2 * BatchHeader::meta_blocks_for(self.entry_bytes) + self.payload_blocks()
    }

    fn payload_blocks(&self) -> u32 {
        let bytes = self.gathered_bytes + self.packed_bytes.next_multiple_of(BLOCK_BYTES);
        u32::try_from(bytes / BLOCK_BYTES).expect("bounded by the batch's limits")
    }

    /// Takes the proposals off the front of the queue, lays the batch out at the tail and moves the tail past it. `buffer` has
    /// [`BATCH_BUFFER_BYTES`]. The queue may have grown since it was looked at, at its other end.
    pub(crate) fn build(
        self,
        queue: &mut VecDeque<Proposal>,
        mut buffer: BufferLease,
        tail: &mut Tail,
        stamp: &Stamp<'_>,
        encoded: &mut Vec<u8>,
    ) -> Batch {
        let meta_blocks = BatchHeader::meta_blocks_for(self.entry_bytes);
        let meta_bytes = meta_blocks as usize * BLOCK_BYTES;
        let payload_blocks = self.payload_blocks();
        let position = tail.position;
        let payload_at = position.offset as usize + meta_bytes;

        let mut gathered: Vec<FrozenLease> = Vec::with_capacity(self.gathered);
        let (mut gathered_bytes, mut packed_bytes) = (0, 0);
        let entry_count = self.proposals;
        let mut entries = Vec::with_capacity(entry_count);
        let mut touches_data = false;
        encoded.clear();
        buffer.set_len(buffer.capacity());
        for Proposal { mut entry, payload, touches_data: touches } in queue.drain(..entry_count) {
            touches_data |= touches;
            if let (Some(bytes), Some(payload)) = (payload_bytes(&entry), payload) {
                let offset = match way(bytes) {
                    Way::Gathered => {
                        let start = gathered_bytes;
                        let padded = bytes.next_multiple_of(BLOCK_BYTES);
                        gathered.push(payload.slice(0..padded));
                        gathered_bytes += padded;
                        payload_at + start
                    }
                    Way::Packed => {
                        let start = packed_start(packed_bytes, bytes);
                        let run = meta_bytes..;
                        let target = &mut buffer.as_mut_slice()[run];
                        target[packed_bytes..start].fill(0);
                        copy_payload(
                            &mut target[start..start + bytes],
                            &payload[..bytes],
                            CopyReason::Packed,
                        );
                        packed_bytes = start + bytes;
                        // The packed run lies behind everything gathered.
                        payload_at + self.gathered_bytes + start
                    }
                };
                let offset = u32::try_from(offset).expect("a zone is less than 4 GiB");
                place(&mut entry, LogPosition { zone: position.zone, offset });
            }
            entry.encode(encoded);
            entries.push(entry);
        }
        debug_assert_eq!(
            encoded.len(),
            self.entry_bytes,
            "a place encodes to the same length whatever it is"
        );

        let header = BatchHeader {
            shard: stamp.shard,
            epoch: stamp.epoch,
            sequence: tail.sequence,
            position,
            next_zone: tail.next_zone,
            durable_upto: stamp.durable_upto,
            previous: tail.previous,
            entry_count: u32::try_from(entry_count).expect("bounded by the buffer"),
            meta_blocks,
            payload_blocks,
        };
        let packed_padded = packed_bytes.next_multiple_of(BLOCK_BYTES);
        let back_at = meta_bytes + packed_padded;
        let (front, back) = buffer.as_mut_slice()[..back_at + meta_bytes].split_at_mut(back_at);
        front[meta_bytes + packed_bytes..].fill(0);
        let hash = header.encode_copies(encoded, stamp.secret, &mut front[..meta_bytes], back);
        buffer.set_len(back_at + meta_bytes);
        let buffer = buffer.freeze();

        let mut scatter = ScatterList::with_capacity(gathered.len() + 2);
        scatter.push(buffer.slice(0..meta_bytes));
        gathered.into_iter().for_each(|piece| scatter.push(piece));
        scatter.push(buffer.slice(meta_bytes..back_at + meta_bytes));
        let blocks = header.total_blocks();
        debug_assert_eq!(scatter.bytes(), blocks as usize * BLOCK_BYTES);
        tail.advance(blocks, hash);
        Batch { sequence: header.sequence, position, entries, scatter, touches_data, buffer }
    }
}

/// What a batch is stamped with besides its place.
pub(crate) struct Stamp<'a> {
    pub(crate) shard: u16,
    pub(crate) epoch: u64,
    pub(crate) durable_upto: u64,
    pub(crate) secret: &'a SecretKey,
}

/// A batch ready to be written.
pub(crate) struct Batch {
    pub(crate) sequence: u64,
    pub(crate) position: LogPosition,
    /// Its entries with the places of their payloads.
    pub(crate) entries: Vec<Entry>,
    pub(crate) scatter: ScatterList,
    pub(crate) touches_data: bool,
    /// Kept to give the batch's buffer back for the next one.
    pub(crate) buffer: FrozenLease,
}

/// Bytes of payload the entry packs into its batch.
pub(crate) fn payload_bytes(entry: &Entry) -> Option<usize> {
    match content_of(entry)? {
        Content::Packed { bytes, .. } => Some(*bytes as usize),
        _ => None,
    }
}

/// The place of the payload that the entry's own batch carries, as a range of the log zone `zone`.
pub(crate) fn payload_range(entry: &Entry) -> Option<(LogPosition, Range<usize>, &[u64])> {
    match content_of(entry)? {
        Content::Packed { place, bytes, checksums } => {
            let start = place.offset as usize;
            Some((*place, start..start + *bytes as usize, checksums))
        }
        _ => None,
    }
}

fn content_of(entry: &Entry) -> Option<&Content> {
    match entry {
        Entry::PutObject { record, .. } => Some(&record.content),
        Entry::PutPart { part, .. } => Some(&part.content),
        Entry::MovePacked { to, .. } => Some(to),
        _ => None,
    }
}

fn place(entry: &mut Entry, at: LogPosition) {
    let content = match entry {
        Entry::PutObject { record: Record { content, .. }, .. } => content,
        Entry::PutPart { part, .. } => &mut part.content,
        Entry::MovePacked { to, .. } => to,
        _ => return,
    };
    if let Content::Packed { place, .. } = content {
        *place = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A payload is gathered when its padding costs at most an eighth of it, else packed.
    #[test]
    fn the_way_in() {
        assert_eq!(way(4096), Way::Gathered);
        assert_eq!(way(4097), Way::Packed);
        assert_eq!(way(3600), Way::Packed, "496 of padding is more than 450");
        assert_eq!(way(3700), Way::Gathered, "396 of padding is at most 462");
        assert_eq!(way(262_144), Way::Gathered);
        assert_eq!(way(1025), Way::Packed);
    }

    /// A packed payload never touches more blocks than its length needs, wherever the run stands.
    #[test]
    fn packed_payloads_cross_no_more_blocks_than_they_must() {
        for filled in (0..3 * BLOCK_BYTES).step_by(61) {
            for bytes in (1..3 * BLOCK_BYTES).step_by(97) {
                let start = packed_start(filled, bytes);
                let blocks = (start + bytes).div_ceil(BLOCK_BYTES) - start / BLOCK_BYTES;
                assert_eq!(blocks, bytes.div_ceil(BLOCK_BYTES));
                assert!(start >= filled && start - filled < BLOCK_BYTES);
            }
        }
    }
}
