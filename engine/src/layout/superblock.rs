//! The superblock of a device: what never changes after format, and an epoch for the day it does.
//!
//! Its checksum is a plain CRC-64/NVME: the secret that keys all the others lies inside it.

use super::{
    BLOCK_BYTES, DecodeError, FORMAT_VERSION, SHARDS_MAX, UNIT_BYTES, ZONE_BYTES_MAX, checksum, copies,
    regions::LENT,
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64, U128},
};

const MAGIC: [u8; 8] = *b"XDKSUPER";

/// Zones of either file of a shard are used for log and for data ([`Geometry::mixed`]).
const MIXED_ZONES: u64 = 1;
/// Feature bits that this build understands.
const FEATURES_KNOWN: u64 = MIXED_ZONES;

/// Sizes fixed at format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Shards of the whole store, 1 to [`SHARDS_MAX`].
    pub shard_count: u16,
    /// Bytes of a zone of log or data: a power of two, 64 KiB to [`ZONE_BYTES_MAX`].
    pub zone_bytes: u32,
    /// Objects of at most this many bytes lie in the index.
    pub inline_bytes_max: u32,
    /// Objects of at most this many bytes lie in a log batch; at most `zone_bytes`.
    pub packed_bytes_max: u32,
    /// Zones a shard may have in all; below 2^31. In files that are not `mixed`: in each.
    pub zones_max: u32,
    /// Whether zones of either file of a shard are used for log and for data. Of shards in windows of a raw device they always are.
    pub mixed: bool,
}

impl Geometry {
    /// Units of extent allocation in a zone.
    pub fn zone_units(&self) -> u32 {
        self.zone_bytes / UNIT_BYTES as u32
    }

    /// Whether a store can have these sizes.
    pub fn is_well_formed(&self) -> bool {
        (1..=SHARDS_MAX).contains(&self.shard_count)
            && self.zone_bytes.is_power_of_two()
            && (UNIT_BYTES as u32..=ZONE_BYTES_MAX).contains(&self.zone_bytes)
            && self.inline_bytes_max <= UNIT_BYTES as u32
            && self.packed_bytes_max <= self.zone_bytes
            && self.zones_max >= 1
            && (!self.mixed || self.zones_max < LENT)
    }
}

/// Superblock of a device.
#[derive(Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Identity of the store; the same on all its devices.
    pub store: u128,
    /// Counts the times the superblock was written.
    pub epoch: u64,
    /// Which of the store's devices this is.
    pub device_index: u16,
    /// Devices of the store.
    pub device_count: u16,
    /// The first shard that lives on this device.
    pub shard_first: u16,
    /// Sizes fixed at format.
    pub geometry: Geometry,
    /// The store's secret: see [`super::SecretKey`].
    pub secret: [u8; 16],
    /// What a build must understand to open the store, but for what [`Geometry::mixed`] says.
    pub features: u64,
    /// When the store was formatted: milliseconds since 1970 UTC.
    pub created_ms: u64,
}

// All but the secret: a key must not end in a log line.
impl std::fmt::Debug for Superblock {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Superblock")
            .field("store", &format_args!("{:032x}", self.store))
            .field("epoch", &self.epoch)
            .field("device_index", &self.device_index)
            .field("device_count", &self.device_count)
            .field("shard_first", &self.shard_first)
            .field("geometry", &self.geometry)
            .field("features", &self.features)
            .field("created_ms", &self.created_ms)
            .finish_non_exhaustive()
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U16,
    reserved_10: [u8; 6],
    store: U128,
    features: U64,
    epoch: U64,
    created_ms: U64,
    device_index: U16,
    device_count: U16,
    shard_first: U16,
    shard_count: U16,
    zone_bytes: U32,
    inline_bytes_max: U32,
    packed_bytes_max: U32,
    zones_max: U32,
    secret: [u8; 16],
    reserved_96: [u8; CHECKSUM_OFFSET - 96],
    checksum: U64,
}

const CHECKSUM_OFFSET: usize = BLOCK_BYTES - 8;
const _: () =
    assert!(size_of::<Raw>() == BLOCK_BYTES && std::mem::offset_of!(Raw, checksum) == CHECKSUM_OFFSET);

impl Superblock {
    /// One copy: one block.
    ///
    /// # Panics
    /// If [`Superblock::decode`] would refuse it: geometry out of bounds, or a feature this build does not know.
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        assert_eq!(self.check(), Ok(()), "{self:?} could not be read again");
        let geometry = &self.geometry;
        let mut raw = Raw {
            magic: MAGIC,
            version: FORMAT_VERSION.into(),
            reserved_10: [0; 6],
            store: self.store.into(),
            features: (self.features | if geometry.mixed { MIXED_ZONES } else { 0 }).into(),
            epoch: self.epoch.into(),
            created_ms: self.created_ms.into(),
            device_index: self.device_index.into(),
            device_count: self.device_count.into(),
            shard_first: self.shard_first.into(),
            shard_count: geometry.shard_count.into(),
            zone_bytes: geometry.zone_bytes.into(),
            inline_bytes_max: geometry.inline_bytes_max.into(),
            packed_bytes_max: geometry.packed_bytes_max.into(),
            zones_max: geometry.zones_max.into(),
            secret: self.secret,
            reserved_96: [0; CHECKSUM_OFFSET - 96],
            checksum: 0.into(),
        };
        raw.checksum = covered(raw.as_bytes()).into();
        zerocopy::transmute!(raw)
    }

    /// Reads one copy from the first block of the slice.
    ///
    /// # Errors
    /// `Truncated`, `Magic`, `Checksum`; then, the checksum holding, `NewerVersion`, `UnknownFeatures`, `Bounds`.
    pub fn decode(block: &[u8]) -> Result<Superblock, DecodeError> {
        let (raw, _) = Raw::ref_from_prefix(block).map_err(|_| DecodeError::Truncated)?;
        if raw.magic != MAGIC {
            return Err(DecodeError::Magic);
        }
        if raw.checksum.get() != covered(raw.as_bytes()) {
            return Err(DecodeError::Checksum);
        }
        if raw.version.get() > FORMAT_VERSION {
            return Err(DecodeError::NewerVersion(raw.version.get()));
        }
        if raw.version.get() != FORMAT_VERSION
            || raw.reserved_10.iter().any(|byte| *byte != 0)
            || raw.reserved_96.iter().any(|byte| *byte != 0)
        {
            return Err(DecodeError::Bounds);
        }
        let superblock = Superblock {
            store: raw.store.get(),
            epoch: raw.epoch.get(),
            device_index: raw.device_index.get(),
            device_count: raw.device_count.get(),
            shard_first: raw.shard_first.get(),
            geometry: Geometry {
                shard_count: raw.shard_count.get(),
                zone_bytes: raw.zone_bytes.get(),
                inline_bytes_max: raw.inline_bytes_max.get(),
                packed_bytes_max: raw.packed_bytes_max.get(),
                zones_max: raw.zones_max.get(),
                mixed: raw.features.get() & MIXED_ZONES != 0,
            },
            secret: raw.secret,
            features: raw.features.get() & !MIXED_ZONES,
            created_ms: raw.created_ms.get(),
        };
        superblock.check().map(|()| superblock)
    }

    /// The newest epoch on which two sound copies agree.
    ///
    /// # Errors
    /// `NewerVersion` or `UnknownFeatures` if any copy says so; otherwise the error that tells most about the copies.
    pub fn choose(copies: &[Result<Superblock, DecodeError>]) -> Result<Superblock, DecodeError> {
        copies::choose(copies, |superblock| superblock.epoch)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let unknown = self.features & !FEATURES_KNOWN;
        if unknown != 0 {
            return Err(DecodeError::UnknownFeatures(unknown));
        }
        let in_bounds = self.geometry.is_well_formed()
            && self.device_index < self.device_count
            && self.device_count <= SHARDS_MAX
            && self.shard_first < self.geometry.shard_count;
        if in_bounds { Ok(()) } else { Err(DecodeError::Bounds) }
    }
}

/// Everything before the checksum, reserved bytes too.
fn covered(block: &[u8]) -> u64 {
    checksum(block.get(..CHECKSUM_OFFSET).expect("the caller passes a whole block"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{document, testing},
        *,
    };
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(superblock in testing::superblock()) {
            // Shows decode ∘ encode = identity.
            prop_assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..5000), magic: bool) {
            // Shows that no bytes panic; with the magic in place the checksum still refuses them.
            if magic && bytes.len() >= 8 { bytes[..8].copy_from_slice(&MAGIC); }
            prop_assert!(Superblock::decode(&bytes).is_err());
        }
    }

    #[test]
    fn the_document_draws_it() {
        // Shows that every field lies where `disk_format.md` says.
        let fields = document::fields!(Raw {
            magic: "magic `XDKSUPER`",
            version: "version",
            reserved_10: "reserved",
            store: "`store`",
            features: "`features`",
            epoch: "`epoch`",
            created_ms: "`created_ms`",
            device_index: "`device_index`",
            device_count: "`device_count`",
            shard_first: "`shard_first`",
            shard_count: "`shard_count`",
            zone_bytes: "`zone_bytes`",
            inline_bytes_max: "`inline_bytes_max`",
            packed_bytes_max: "`packed_bytes_max`",
            zones_max: "`zones_max`",
            secret: "`secret`",
            reserved_96: "reserved",
            checksum: "CRC64 of bytes 0 to 4,087",
        });
        document::assert_fields("## Superblock", BLOCK_BYTES, &fields);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        // Shows that the checksum covers every bit of the block, padding too.
        let block = testing::sample(testing::superblock()).encode();
        testing::refuses_damage(&block, &mut |bytes| Superblock::decode(bytes).is_err());
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        // Shows that a sound block of a newer version or with unknown features names them.
        let resealed = |offset: usize, byte: u8| {
            let mut block = testing::sample(testing::superblock()).encode();
            block[offset] = byte;
            let sum = covered(&block).to_le_bytes();
            block[CHECKSUM_OFFSET..].copy_from_slice(&sum);
            Superblock::decode(&block)
        };
        assert_eq!(resealed(8, 9), Err(DecodeError::NewerVersion(9)));
        assert_eq!(resealed(8, 0), Err(DecodeError::Bounds));
        assert_eq!(resealed(33, 1), Err(DecodeError::UnknownFeatures(0x100)));
        assert_eq!(resealed(2000, 1), Err(DecodeError::Bounds));
    }

    #[test]
    fn the_secret_is_not_printed() {
        // Shows that Debug leaves the secret out.
        let mut superblock = testing::sample(testing::superblock());
        superblock.secret = [0xa7; 16];
        assert!(!format!("{superblock:?}").contains("167, 167"));
    }
}
