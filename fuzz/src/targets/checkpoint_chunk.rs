//! Chunks of a checkpoint.

use crossdock::layout::{ChunkHeader, ChunkPlace, Extent, MetaHash};

use super::{KEY, log_entry};

/// Tries one input: a chunk, and what lies behind it.
pub fn run(bytes: &[u8]) {
    let Ok((header, stream, hash)) = ChunkHeader::open(bytes, &KEY) else { return };
    let length = ChunkHeader::BYTES + stream.len();
    let mut again = bytes.get(..length).expect("the stream lies inside the chunk").to_vec();
    assert_eq!(header.seal(&KEY, &mut again), hash, "a chunk has one hash");
    assert_eq!(bytes.get(..length), Some(again.as_slice()), "a chunk has one encoding");
    log_entry::run(stream);
}

/// A first chunk and a later one.
pub fn seeds() -> Vec<Vec<u8>> {
    let stream = log_entry::encoded(&log_entry::entries());
    let copies = [Extent { zone: 1, unit: 2, order: 1 }, Extent { zone: 3, unit: 4, order: 1 }];
    let previous = Some(ChunkPlace { copies, hash: MetaHash([3; 16]) });
    [(0, None), (1, previous)]
        .map(|(index, previous)| {
            let bytes = u32::try_from(stream.len()).expect("a few KiB");
            let header = ChunkHeader { shard: 1, epoch: 2, checkpoint: 3, index, previous, bytes };
            let mut chunk = [&[0; ChunkHeader::BYTES][..], &stream].concat();
            header.seal(&KEY, &mut chunk);
            chunk
        })
        .to_vec()
}
