//! Kinds of numbers that meet on disk: each is its own type, so that none can stand where another belongs.

use super::UNIT_BYTES;

/// The number of a bucket; never reused, so a record of an unknown bucket is dead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BucketId(pub u64);

/// A version of a key: the newer is the greater. Made from the sequence of the shard that holds the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(pub u64);

/// Whether a bucket keeps the versions that are replaced or deleted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Versioning {
    /// It never did: every key has one version at most, its null version.
    #[default]
    Never,
    /// Each change adds a version.
    Enabled,
    /// What was kept stays; each change replaces the key's null version.
    Suspended,
}

/// The number of a multipart upload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UploadId(pub u128);

/// An entity tag: opaque, at most 63 bytes, without the quotes that HTTP puts around it.
#[derive(Clone, Copy)]
pub struct EntityTag {
    bytes: [u8; EntityTag::BYTES_MAX],
    len: u8,
}

impl EntityTag {
    /// The longest tag, bytes.
    pub const BYTES_MAX: usize = 63;

    /// The tag of these bytes; `None` when there are more than [`EntityTag::BYTES_MAX`].
    pub fn new(tag: &[u8]) -> Option<EntityTag> {
        let len = u8::try_from(tag.len()).ok()?;
        let mut bytes = [0; EntityTag::BYTES_MAX];
        bytes.get_mut(..tag.len())?.copy_from_slice(tag);
        Some(EntityTag { bytes, len })
    }

    /// The bytes of the tag.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).expect("`new` is the only constructor and bounds the length")
    }
}

// Only the bytes in use count, so that equality and hash never depend on how the rest of the array was filled.
impl PartialEq for EntityTag {
    fn eq(&self, other: &EntityTag) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for EntityTag {}

impl std::hash::Hash for EntityTag {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl std::fmt::Debug for EntityTag {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// A power-of-two run of units in a data zone, aligned to its own length within the zone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Extent {
    /// Data zone of the shard.
    pub zone: u32,
    /// First unit, counted from the start of the zone.
    pub unit: u16,
    /// log2 of the count of units.
    pub order: u8,
}

impl Extent {
    /// The greatest order: a whole zone of [`super::ZONE_BYTES_MAX`].
    pub const ORDER_MAX: u8 = (super::ZONE_BYTES_MAX / UNIT_BYTES as u32).trailing_zeros() as u8;

    /// Length in bytes.
    pub fn bytes(self) -> u64 {
        (UNIT_BYTES as u64) << self.order
    }

    /// Length in units.
    pub fn units(self) -> u32 {
        1 << self.order
    }

    /// Start in bytes from the start of the zone.
    pub fn offset(self) -> u64 {
        u64::from(self.unit) * UNIT_BYTES as u64
    }

    /// Whether the order is one that a zone can hold, the start is aligned to the length, and the end is inside the
    /// greatest zone. (Whether it is inside the store's own zones is for the allocator to say.)
    pub fn is_well_formed(self) -> bool {
        self.order <= Extent::ORDER_MAX
            && u32::from(self.unit).is_multiple_of(self.units())
            && u32::from(self.unit) + self.units() <= super::ZONE_BYTES_MAX / UNIT_BYTES as u32
    }
}

/// A position in a shard's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogPosition {
    /// Log zone of the shard.
    pub zone: u32,
    /// Bytes from the start of the zone.
    pub offset: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_keeps_63_bytes_and_refuses_64() {
        // Shows that the bound is exact and that the bytes come back.
        assert_eq!(EntityTag::new(&[7; 63]).unwrap().as_bytes(), [7; 63]);
        assert_eq!(EntityTag::new(b"").unwrap().as_bytes(), b"");
        assert!(EntityTag::new(&[7; 64]).is_none());
        assert!(EntityTag::new(&[7; 300]).is_none());
    }

    #[test]
    fn an_extent_knows_whether_it_can_exist() {
        // Shows that order, alignment and end are each checked.
        let extent = |unit, order| Extent { zone: 0, unit, order };
        assert!(extent(0, 9).is_well_formed());
        assert!(extent(511, 0).is_well_formed());
        assert!(extent(8, 3).is_well_formed());
        assert!(!extent(0, 10).is_well_formed());
        assert!(!extent(0, 255).is_well_formed());
        assert!(!extent(4, 3).is_well_formed());
        assert!(!extent(512, 0).is_well_formed());
        assert_eq!(extent(8, 3).bytes(), 512 * 1024);
        assert_eq!(extent(8, 3).offset(), 512 * 1024);
    }
}
