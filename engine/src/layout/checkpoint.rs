//! The checkpoint chunk: one extent's worth of entries, in two copies, chained backwards.
//!
//! The entries of a checkpoint are one stream, cut into chunks wherever a chunk is full: an entry may span chunks. Each
//! chunk names the places and the hash of the one before, and the anchor those of the last: so the anchor's hash covers
//! the whole checkpoint, and a chunk of an older checkpoint in the same place is refused. Both copies are the same bytes:
//! one that rotted costs nothing but the copy.

use super::{
    DecodeError, Extent, FORMAT_VERSION, MetaHash, SHARDS_MAX, SecretKey, ZONE_BYTES_MAX,
    hash::{Role, keyed},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

const MAGIC: [u8; 8] = *b"XDKCHUNK";

/// Copies of each chunk.
pub const CHUNK_COPIES: usize = 2;

/// Where a chunk lies, and what it must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkPlace {
    /// The extents of its copies, no two the same.
    pub copies: [Extent; CHUNK_COPIES],
    /// Its hash.
    pub hash: MetaHash,
}

impl ChunkPlace {
    /// What stands where there is no chunk.
    pub(super) const NONE: ChunkPlace =
        ChunkPlace { copies: [Extent { zone: 0, unit: 0, order: 0 }; CHUNK_COPIES], hash: MetaHash([0; 16]) };

    pub(super) fn is_well_formed(&self) -> bool {
        let [first, second] = self.copies;
        first.is_well_formed() && second.is_well_formed() && first != second
    }
}

/// The header of a chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChunkHeader {
    /// The shard whose state this is.
    pub shard: u16,
    /// The epoch it was written in.
    pub epoch: u64,
    /// [`super::CheckpointRoot::id`].
    pub checkpoint: u64,
    /// Which chunk of the checkpoint, counted from 0.
    pub index: u32,
    /// Places and hash of the chunk before; `None` in the first.
    pub previous: Option<ChunkPlace>,
    /// Bytes of the stream in this chunk.
    pub bytes: u32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U16,
    shard: U16,
    index: U32,
    epoch: U64,
    checkpoint: U64,
    previous_zone: U32,
    previous_unit: U16,
    previous_order: u8,
    has_previous: u8,
    previous_hash: [u8; 16],
    bytes: U32,
    previous_second_zone: U32,
    payload_hash: [u8; 16],
    previous_second_unit: U16,
    previous_second_order: u8,
    reserved_83: [u8; 29],
    header_hash: [u8; 16],
}

const HASH_OFFSET: usize = 112;
const _: () =
    assert!(size_of::<Raw>() == ChunkHeader::BYTES && std::mem::offset_of!(Raw, header_hash) == HASH_OFFSET);

impl ChunkHeader {
    /// Bytes of the header; the stream follows it.
    pub const BYTES: usize = 128;

    /// Writes the header in front of the stream that lies in `chunk[BYTES..BYTES + bytes]`, and zeroes what follows it.
    /// Returns the chunk's hash, for its parent.
    ///
    /// # Panics
    /// If `chunk` is shorter than header and stream, or [`ChunkHeader::open`] would refuse it.
    pub fn seal(&self, key: &SecretKey, chunk: &mut [u8]) -> MetaHash {
        assert!(self.is_well_formed(), "{self:?} could not be read again");
        let (head, rest) = chunk.split_at_mut(ChunkHeader::BYTES);
        let (stream, tail) = rest.split_at_mut(self.bytes as usize);
        tail.fill(0);
        let raw = self.raw(key, keyed(key, Role::ChunkPayload, stream));
        head.copy_from_slice(raw.as_bytes());
        MetaHash(raw.header_hash)
    }

    /// Checks a chunk and returns (header, stream, hash). The slice may go on behind the stream, and what follows is
    /// not looked at: the end of the extent may never have been written. Shard, checkpoint, index and hash are for the
    /// caller to compare.
    ///
    /// # Errors
    /// `Truncated`, `Magic`, `Checksum`; then, the hash holding, `NewerVersion`, `Bounds`.
    pub fn open<'a>(
        chunk: &'a [u8],
        key: &SecretKey,
    ) -> Result<(ChunkHeader, &'a [u8], MetaHash), DecodeError> {
        let (raw, rest) = Raw::ref_from_prefix(chunk).map_err(|_| DecodeError::Truncated)?;
        if raw.magic != MAGIC {
            return Err(DecodeError::Magic);
        }
        if raw.header_hash != raw.hash(key).0 {
            return Err(DecodeError::Checksum);
        }
        if raw.version.get() > FORMAT_VERSION {
            return Err(DecodeError::NewerVersion(raw.version.get()));
        }
        let first = Extent {
            zone: raw.previous_zone.get(),
            unit: raw.previous_unit.get(),
            order: raw.previous_order,
        };
        let second = Extent {
            zone: raw.previous_second_zone.get(),
            unit: raw.previous_second_unit.get(),
            order: raw.previous_second_order,
        };
        let previous = ChunkPlace { copies: [first, second], hash: MetaHash(raw.previous_hash) };
        let header = ChunkHeader {
            shard: raw.shard.get(),
            epoch: raw.epoch.get(),
            checkpoint: raw.checkpoint.get(),
            index: raw.index.get(),
            previous: (raw.has_previous != 0).then_some(previous),
            bytes: raw.bytes.get(),
        };
        // Comparing with the one encoding covers version, flag, reserved bytes and the fields of an absent chunk.
        let payload_hash = MetaHash(raw.payload_hash);
        if !header.is_well_formed() || header.raw(key, payload_hash).as_bytes() != raw.as_bytes() {
            return Err(DecodeError::Bounds);
        }
        let stream = rest.get(..header.bytes as usize).ok_or(DecodeError::Truncated)?;
        if payload_hash != keyed(key, Role::ChunkPayload, stream) {
            return Err(DecodeError::Checksum);
        }
        Ok((header, stream, MetaHash(raw.header_hash)))
    }

    fn is_well_formed(&self) -> bool {
        self.shard < SHARDS_MAX
            && self.bytes <= ZONE_BYTES_MAX - ChunkHeader::BYTES as u32
            && self.previous.is_none_or(|place| place.is_well_formed())
            && self.previous.is_some() == (self.index > 0)
    }

    fn raw(&self, key: &SecretKey, payload_hash: MetaHash) -> Raw {
        let previous = self.previous.unwrap_or(ChunkPlace::NONE);
        let [first, second] = previous.copies;
        let mut raw = Raw {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            shard: self.shard.into(),
            index: self.index.into(),
            epoch: self.epoch.into(),
            checkpoint: self.checkpoint.into(),
            previous_zone: first.zone.into(),
            previous_unit: first.unit.into(),
            previous_order: first.order,
            has_previous: u8::from(self.previous.is_some()),
            previous_hash: previous.hash.0,
            bytes: self.bytes.into(),
            previous_second_zone: second.zone.into(),
            payload_hash: payload_hash.0,
            previous_second_unit: second.unit.into(),
            previous_second_order: second.order,
            reserved_83: [0; 29],
            header_hash: [0; 16],
        };
        raw.header_hash = raw.hash(key).0;
        raw
    }
}

impl Raw {
    /// The hash of the header up to the hash itself.
    fn hash(&self, key: &SecretKey) -> MetaHash {
        let covered =
            self.as_bytes().get(..HASH_OFFSET).expect("the header is longer than what its hash covers");
        keyed(key, Role::ChunkHeader, covered)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            document,
            testing::{self, KEY},
        },
        *,
    };
    use proptest::prelude::*;

    fn sealed(header: &ChunkHeader, stream: &[u8], behind: usize) -> (Vec<u8>, MetaHash) {
        let mut chunk = vec![0xee; ChunkHeader::BYTES + stream.len() + behind];
        chunk[ChunkHeader::BYTES..][..stream.len()].copy_from_slice(stream);
        let hash = header.seal(&KEY, &mut chunk);
        (chunk, hash)
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened((header, stream) in testing::chunk(), behind in 0..500usize) {
            // Shows open ∘ seal = identity, and that no stale byte is left behind the stream.
            let (chunk, hash) = sealed(&header, &stream, behind);
            prop_assert_eq!(ChunkHeader::open(&chunk, &KEY), Ok((header, &stream[..], hash)));
            prop_assert!(chunk[ChunkHeader::BYTES + stream.len()..].iter().all(|byte| *byte == 0));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000), resealed: bool) {
            // Shows that no bytes panic, also when the header's hash is that of the arbitrary header.
            if resealed && bytes.len() >= ChunkHeader::BYTES {
                bytes[..10].copy_from_slice(b"XDKCHUNK\x01\x00");
                let hash = keyed(&KEY, Role::ChunkHeader, &bytes[..HASH_OFFSET]);
                bytes[HASH_OFFSET..ChunkHeader::BYTES].copy_from_slice(&hash.0);
            }
            prop_assert!(ChunkHeader::open(&bytes, &KEY).is_err());
        }
    }

    #[test]
    fn the_document_draws_it() {
        // Shows that every field lies where `disk_format.md` says.
        let fields = document::fields!(Raw {
            magic: "magic `XDKCHUNK`",
            version: "version",
            shard: "`shard`",
            index: "`index`",
            epoch: "`epoch`",
            checkpoint: "`checkpoint`",
            previous_zone: "chunk before, first copy: zone",
            previous_unit: "chunk before, first copy: unit",
            previous_order: "chunk before, first copy: order",
            has_previous: "1 if there is a chunk before",
            previous_hash: "chunk before: its hash",
            bytes: "`bytes` of the stream",
            previous_second_zone: "chunk before, second copy: zone",
            payload_hash: "SIP(5, the stream)",
            previous_second_unit: "chunk before, second copy: unit",
            previous_second_order: "chunk before, second copy: order",
            reserved_83: "reserved",
            header_hash: "SIP(4, bytes 0 to 111)",
        });
        document::assert_fields("## Checkpoint chunk", ChunkHeader::BYTES, &fields);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        // Shows that the hashes cover every bit of header and stream.
        for index in [0, 7] {
            let copies = [Extent { zone: 4, unit: 8, order: 3 }, Extent { zone: 5, unit: 2, order: 1 }];
            let previous = (index > 0).then_some(ChunkPlace { copies, hash: MetaHash([6; 16]) });
            let header = ChunkHeader { shard: 1, epoch: 2, checkpoint: 3, index, previous, bytes: 700 };
            let (chunk, _) = sealed(&header, &[0x77; 700], 0);
            testing::refuses_damage(&chunk, &mut |bytes| ChunkHeader::open(bytes, &KEY).is_err());
        }
    }
}
