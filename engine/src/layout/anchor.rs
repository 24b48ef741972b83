//! The anchor of a shard: where recovery starts. Four copies; two must agree.
//!
//! It is rewritten when recovery bumps the epoch and when a checkpoint is done: a few times a minute at most.

use super::{
    BLOCK_BYTES, ChunkPlace, DecodeError, Extent, FORMAT_VERSION, LogPosition, MetaHash, SHARDS_MAX,
    SecretKey, ZONE_BYTES_MAX, copies,
    hash::{Role, keyed},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64, U128},
};

const MAGIC: [u8; 8] = *b"XDKANCHR";

/// Where a shard's recovery starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// Identity of the store.
    pub store: u128,
    /// The shard.
    pub shard: u16,
    /// Counts the times the anchor was written.
    pub generation: u64,
    /// Batches whose sequence is at least `epoch_start` must carry this epoch.
    pub epoch: u64,
    /// The first sequence of the epoch.
    pub epoch_start: u64,
    /// Where the first batch to replay lies.
    pub log_start: LogPosition,
    /// The sequence of the first batch to replay.
    pub log_sequence: u64,
    /// The chain hash of the batch before it.
    pub log_previous: MetaHash,
    /// The zone where the log goes on after that of `log_start`.
    pub log_next_zone: u32,
    /// The newest durable checkpoint.
    pub checkpoint: Option<CheckpointRoot>,
}

/// A checkpoint: its chunks are chained backwards from the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointRoot {
    /// Counts the shard's checkpoints.
    pub id: u64,
    /// The last chunk.
    pub last_chunk: ChunkPlace,
    /// Chunks in the chain, at least 1.
    pub chunk_count: u32,
    /// Entries in all chunks.
    pub entry_count: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U16,
    shard: U16,
    has_checkpoint: u8,
    reserved_13: [u8; 3],
    store: U128,
    generation: U64,
    epoch: U64,
    epoch_start: U64,
    log_zone: U32,
    log_offset: U32,
    log_sequence: U64,
    log_previous: [u8; 16],
    checkpoint_id: U64,
    entry_count: U64,
    last_chunk_zone: U32,
    last_chunk_unit: U16,
    last_chunk_order: u8,
    reserved_111: u8,
    last_chunk_hash: [u8; 16],
    chunk_count: U32,
    log_next_zone: U32,
    last_chunk_second_zone: U32,
    last_chunk_second_unit: U16,
    last_chunk_second_order: u8,
    reserved_143: [u8; HASH_OFFSET - 143],
    hash: [u8; 16],
}

const HASH_OFFSET: usize = BLOCK_BYTES - 16;
const _: () = assert!(size_of::<Raw>() == BLOCK_BYTES && std::mem::offset_of!(Raw, hash) == HASH_OFFSET);

impl Anchor {
    /// One copy: one block.
    ///
    /// # Panics
    /// If [`Anchor::decode`] would refuse it: a shard, position or extent out of bounds, a checkpoint without chunks.
    pub fn encode(&self, key: &SecretKey) -> [u8; BLOCK_BYTES] {
        assert!(self.is_well_formed(), "{self:?} could not be read again");
        // Without a checkpoint its fields are zeros.
        let root = self.checkpoint.unwrap_or(CheckpointRoot {
            id: 0,
            last_chunk: ChunkPlace::NONE,
            chunk_count: 0,
            entry_count: 0,
        });
        let [first, second] = root.last_chunk.copies;
        let mut raw = Raw {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            shard: self.shard.into(),
            has_checkpoint: u8::from(self.checkpoint.is_some()),
            reserved_13: [0; 3],
            store: self.store.into(),
            generation: self.generation.into(),
            epoch: self.epoch.into(),
            epoch_start: self.epoch_start.into(),
            log_zone: self.log_start.zone.into(),
            log_offset: self.log_start.offset.into(),
            log_sequence: self.log_sequence.into(),
            log_previous: self.log_previous.0,
            checkpoint_id: root.id.into(),
            entry_count: root.entry_count.into(),
            last_chunk_zone: first.zone.into(),
            last_chunk_unit: first.unit.into(),
            last_chunk_order: first.order,
            reserved_111: 0,
            last_chunk_hash: root.last_chunk.hash.0,
            chunk_count: root.chunk_count.into(),
            log_next_zone: self.log_next_zone.into(),
            last_chunk_second_zone: second.zone.into(),
            last_chunk_second_unit: second.unit.into(),
            last_chunk_second_order: second.order,
            reserved_143: [0; HASH_OFFSET - 143],
            hash: [0; 16],
        };
        raw.hash = covered(key, raw.as_bytes()).0;
        zerocopy::transmute!(raw)
    }

    /// The generation that a copy claims to have, for whoever has lost the key: whether it does can not be checked without it.
    /// A format writes the first one, and every open a greater one.
    pub(crate) fn claimed_generation(block: &[u8]) -> Option<u64> {
        let (raw, _) = Raw::ref_from_prefix(block).ok()?;
        (raw.magic == MAGIC).then(|| raw.generation.get())
    }

    /// Reads one copy from the first block of the slice. Whose store and shard it is, is for the caller to compare.
    ///
    /// # Errors
    /// `Truncated`, `Magic`, `Checksum`; then, the checksum holding, `NewerVersion`, `Bounds`.
    pub fn decode(block: &[u8], key: &SecretKey) -> Result<Anchor, DecodeError> {
        let (raw, _) = Raw::ref_from_prefix(block).map_err(|_| DecodeError::Truncated)?;
        if raw.magic != MAGIC {
            return Err(DecodeError::Magic);
        }
        if raw.hash != covered(key, raw.as_bytes()).0 {
            return Err(DecodeError::Checksum);
        }
        if raw.version.get() > FORMAT_VERSION {
            return Err(DecodeError::NewerVersion(raw.version.get()));
        }
        let first = Extent {
            zone: raw.last_chunk_zone.get(),
            unit: raw.last_chunk_unit.get(),
            order: raw.last_chunk_order,
        };
        let second = Extent {
            zone: raw.last_chunk_second_zone.get(),
            unit: raw.last_chunk_second_unit.get(),
            order: raw.last_chunk_second_order,
        };
        let root = CheckpointRoot {
            id: raw.checkpoint_id.get(),
            last_chunk: ChunkPlace { copies: [first, second], hash: MetaHash(raw.last_chunk_hash) },
            chunk_count: raw.chunk_count.get(),
            entry_count: raw.entry_count.get(),
        };
        let anchor = Anchor {
            store: raw.store.get(),
            shard: raw.shard.get(),
            generation: raw.generation.get(),
            epoch: raw.epoch.get(),
            epoch_start: raw.epoch_start.get(),
            log_start: LogPosition { zone: raw.log_zone.get(), offset: raw.log_offset.get() },
            log_sequence: raw.log_sequence.get(),
            log_previous: MetaHash(raw.log_previous),
            log_next_zone: raw.log_next_zone.get(),
            checkpoint: match raw.has_checkpoint {
                0 => None,
                1 => Some(root),
                _ => return Err(DecodeError::Bounds),
            },
        };
        // Comparing with the one encoding covers version, reserved bytes and the fields of an absent checkpoint at once.
        if !anchor.is_well_formed() || anchor.encode(key) != raw.as_bytes() {
            return Err(DecodeError::Bounds);
        }
        Ok(anchor)
    }

    /// The newest generation on which two sound copies agree.
    ///
    /// # Errors
    /// `NewerVersion` if any copy says so; otherwise the error that tells most about the copies.
    pub fn choose(copies: &[Result<Anchor, DecodeError>]) -> Result<Anchor, DecodeError> {
        copies::choose(copies, |anchor| anchor.generation)
    }

    fn is_well_formed(&self) -> bool {
        self.shard < SHARDS_MAX
            && (self.log_start.offset as usize).is_multiple_of(BLOCK_BYTES)
            && self.log_start.offset <= ZONE_BYTES_MAX
            && self.checkpoint.is_none_or(|root| root.chunk_count >= 1 && root.last_chunk.is_well_formed())
    }
}

/// Everything before the hash, reserved bytes too.
fn covered(key: &SecretKey, block: &[u8]) -> MetaHash {
    keyed(key, Role::Anchor, block.get(..HASH_OFFSET).expect("the caller passes a whole block"))
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

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(anchor in testing::anchor()) {
            // Shows decode ∘ encode = identity, and that another store's key refuses it.
            let block = anchor.encode(&KEY);
            prop_assert_eq!(Anchor::decode(&block, &KEY), Ok(anchor));
            prop_assert_eq!(Anchor::decode(&block, &SecretKey([9; 16])), Err(DecodeError::Checksum));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..5000), sealed: bool) {
            // Shows that no bytes panic, also when magic and hash are those of a sound block.
            if sealed && bytes.len() >= BLOCK_BYTES {
                bytes[..8].copy_from_slice(&MAGIC);
                let hash = covered(&KEY, &bytes);
                bytes[HASH_OFFSET..BLOCK_BYTES].copy_from_slice(&hash.0);
            }
            prop_assert!(Anchor::decode(&bytes, &KEY).is_err());
        }
    }

    #[test]
    fn the_document_draws_it() {
        // Shows that every field lies where `disk_format.md` says.
        let fields = document::fields!(Raw {
            magic: "magic `XDKANCHR`",
            version: "version",
            shard: "`shard`",
            has_checkpoint: "1 if there is a checkpoint",
            reserved_13: "reserved",
            store: "`store`",
            generation: "`generation`",
            epoch: "`epoch`",
            epoch_start: "`epoch_start`",
            log_zone: "`log_start`: zone",
            log_offset: "`log_start`: offset",
            log_sequence: "`log_sequence`",
            log_previous: "`log_previous`",
            checkpoint_id: "checkpoint: `id`",
            entry_count: "checkpoint: `entry_count`",
            last_chunk_zone: "checkpoint: last chunk, first copy: zone",
            last_chunk_unit: "checkpoint: last chunk, first copy: unit",
            last_chunk_order: "checkpoint: last chunk, first copy: order",
            reserved_111: "reserved",
            last_chunk_hash: "checkpoint: hash of the last chunk",
            chunk_count: "checkpoint: `chunk_count`",
            log_next_zone: "`log_next_zone`",
            last_chunk_second_zone: "checkpoint: last chunk, second copy: zone",
            last_chunk_second_unit: "checkpoint: last chunk, second copy: unit",
            last_chunk_second_order: "checkpoint: last chunk, second copy: order",
            reserved_143: "reserved",
            hash: "SIP(1, bytes 0 to 4,079)",
        });
        document::assert_fields("## Anchor", BLOCK_BYTES, &fields);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        // Shows that the hash covers every bit of the block, padding too.
        let block = testing::sample(testing::anchor()).encode(&KEY);
        testing::refuses_damage(&block, &mut |bytes| Anchor::decode(bytes, &KEY).is_err());
    }

    #[test]
    fn choose_takes_the_newest_generation() {
        // Shows that it is the generation that orders copies, not the epoch.
        let mut old = testing::sample(testing::anchor());
        (old.generation, old.epoch) = (5, 9);
        let mut new = old.clone();
        (new.generation, new.epoch) = (6, 8);
        let copies = [Ok(old.clone()), Ok(new.clone()), Ok(old), Ok(new.clone())];
        assert_eq!(Anchor::choose(&copies), Ok(new));
    }
}
