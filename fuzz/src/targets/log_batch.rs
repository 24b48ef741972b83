//! Copies of a batch's header and entries, under a key the fuzzer knows only from the seeds.
//!
//! Whatever is accepted is byte for byte what the encoder writes: a change that is not noticed would be one.

use crossdock::layout::{BLOCK_BYTES, BatchHeader, LogPosition, MetaHash};

use super::{KEY, log_entry};

/// Tries one input: a copy, and what lies behind it.
pub fn run(bytes: &[u8]) {
    let peeked = BatchHeader::peek(bytes, &KEY);
    let Ok((header, entries, _, is_back)) = BatchHeader::decode(bytes, &KEY) else { return };
    assert_eq!(peeked, Ok((header.clone(), is_back)), "the first look sees what the second does");
    let mut again = vec![0xee; header.meta_blocks as usize * BLOCK_BYTES];
    header.encode(entries, is_back, &KEY, &mut again);
    assert_eq!(bytes.get(..again.len()), Some(again.as_slice()), "a batch has one encoding");
    log_entry::run(entries);
}

/// Batches without entries and with every kind of them, front and back.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for entries in [log_entry::entries(), Vec::new()] {
        let bytes = log_entry::encoded(&entries);
        for is_back in [false, true] {
            let header = BatchHeader {
                shard: 2,
                epoch: 5,
                sequence: 1000,
                position: LogPosition { zone: 4, offset: 65_536 },
                next_zone: 5,
                durable_upto: 998,
                previous: MetaHash([7; 16]),
                entry_count: u32::try_from(entries.len()).expect("a dozen"),
                meta_blocks: BatchHeader::meta_blocks_for(bytes.len()),
                payload_blocks: 3,
            };
            let mut copy = vec![0; header.meta_blocks as usize * BLOCK_BYTES];
            header.encode(&bytes, is_back, &KEY, &mut copy);
            seeds.push(copy);
        }
    }
    seeds
}
