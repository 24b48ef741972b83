//! What the index knows of a version, a part, a bucket and an upload, and its encoding.
//!
//! The bytes of an object are never here (inline ones excepted): a record holds where they lie and the checksum of each
//! piece of them, so that the checksum lies beside the address and a misdirected write is caught.

use super::{
    ATTRIBUTES_BYTES_MAX, BucketId, DOCUMENTS_MAX, DecodeError, EXTENT_CHECKSUM_BYTES, EntityTag, Extent,
    KEY_BYTES_MAX, LogPosition, PACKED_CHECKSUM_BYTES, PARTS_MAX, UNIT_BYTES, UploadId, Version, Versioning,
    codec::{Reader, Writer},
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};

/// One version of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which version; unique in the shard.
    pub version: Version,
    /// Whether this is the key's null version.
    pub null: bool,
    /// Whether this says that the key is deleted.
    pub delete_marker: bool,
    /// Bytes of the object.
    pub size: u64,
    /// When it was put: milliseconds since 1970 UTC.
    pub modified_ms: u64,
    /// CRC64NVME of the whole.
    pub crc64: u64,
    /// Entity tag.
    pub etag: EntityTag,
    /// The embedder's own bytes.
    pub attributes: Bytes,
    /// Where the bytes lie.
    pub content: Content,
    /// The upload that made it, so that a second Complete is answered as the first.
    pub upload: Option<UploadId>,
}

/// Where the bytes of an object or of a part lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// There are none.
    Empty,
    /// Here: at most 64 KiB.
    Inline(Bytes),
    /// In a log batch.
    Packed {
        /// The first byte.
        place: LogPosition,
        /// How many.
        bytes: u32,
        /// CRC64NVME of each [`PACKED_CHECKSUM_BYTES`] of them.
        checksums: Vec<u64>,
    },
    /// In extents.
    Extents {
        /// In order; all but the last completely used, at least one.
        extents: Vec<Extent>,
        /// How many.
        bytes: u64,
        /// CRC64NVME of each [`EXTENT_CHECKSUM_BYTES`] of them.
        checksums: ChecksumTable,
    },
    /// In parts, each with a content of its own that is not `Parts`; at most [`PARTS_MAX`]. Shared: every reader of the record gets them.
    Parts(Arc<[Part]>),
}

/// The checksums of bytes in extents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChecksumTable {
    /// In the record.
    Here(Vec<u64>),
    /// In an extent of their own.
    Away {
        /// Where.
        extent: Extent,
        /// Bytes of the table: little-endian u64s, one for each piece.
        bytes: u32,
        /// CRC64NVME of the table.
        checksum: u64,
    },
}

/// A part of a multipart upload, or of the object it became.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The client's number of the part.
    pub number: u16,
    /// Bytes of the part.
    pub bytes: u64,
    /// When it was put: milliseconds since 1970 UTC.
    pub modified_ms: u64,
    /// CRC64NVME of the part.
    pub crc64: u64,
    /// Entity tag.
    pub etag: EntityTag,
    /// The embedder's own bytes.
    pub attributes: Bytes,
    /// Where the bytes lie; not `Parts`.
    pub content: Content,
}

/// What an embedder keeps with a bucket, by name. Shared: every reader of a bucket's record gets it.
pub type Documents = Arc<BTreeMap<Box<str>, Bytes>>;

/// A bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BucketRecord {
    /// Its number.
    pub bucket: BucketId,
    /// Its name, at most 255 bytes.
    pub name: Box<str>,
    /// When it was created: milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// The embedder's own bytes.
    pub attributes: Bytes,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// The embedder's own documents by name: opaque, as [`BucketRecord::attributes`], but changed one by one. At most
    /// [`DOCUMENTS_MAX`]; names of 1 to 255 bytes.
    pub documents: Documents,
    /// Which change of the record this is: 0 as it was made, and greater with each. Where shards differ, as a power cut in
    /// the midst of a change leaves them, the greatest counts.
    pub revision: u64,
}

/// A multipart upload under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadRecord {
    /// Its number.
    pub upload: UploadId,
    /// Bucket of the object it will make.
    pub bucket: BucketId,
    /// Key of the object it will make.
    pub key: Box<[u8]>,
    /// When it was created: milliseconds since 1970 UTC.
    pub created_ms: u64,
    /// The embedder's own bytes.
    pub attributes: Bytes,
}

impl Content {
    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        match self {
            Content::Empty => 0,
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Packed { bytes, .. } => u64::from(*bytes),
            Content::Extents { bytes, .. } => *bytes,
            Content::Parts(parts) => parts.iter().map(|part| part.bytes).sum(),
        }
    }

    /// Visits every extent that belongs to the content: those of the bytes, those of checksum tables, those of parts.
    pub fn visit_extents(&self, visit: &mut impl FnMut(Extent)) {
        match self {
            Content::Empty | Content::Inline(_) | Content::Packed { .. } => {}
            Content::Extents { extents, checksums, .. } => {
                extents.iter().copied().for_each(&mut *visit);
                if let ChecksumTable::Away { extent, .. } = checksums {
                    visit(*extent);
                }
            }
            Content::Parts(parts) => parts.iter().for_each(|part| part.content.visit_extents(visit)),
        }
    }

    /// Visits every run of packed bytes: where it starts in the log and how long it is.
    pub fn visit_packed(&self, visit: &mut impl FnMut(LogPosition, u32)) {
        match self {
            Content::Packed { place, bytes, .. } => visit(*place, *bytes),
            Content::Parts(parts) => parts.iter().for_each(|part| part.content.visit_packed(visit)),
            Content::Empty | Content::Inline(_) | Content::Extents { .. } => {}
        }
    }
}

/// What the first byte of an encoded content says.
mod content_tag {
    pub(super) const EMPTY: u8 = 0;
    pub(super) const INLINE: u8 = 1;
    pub(super) const PACKED: u8 = 2;
    pub(super) const EXTENTS: u8 = 3;
    pub(super) const EXTENTS_AWAY: u8 = 4;
    pub(super) const PARTS: u8 = 5;
}

const FLAG_NULL: u8 = 1;
const FLAG_DELETE_MARKER: u8 = 2;
const FLAG_UPLOAD: u8 = 4;

/// Bytes of an extent's encoding.
const EXTENT_BYTES: usize = 7;
/// Bytes of the shortest part's encoding.
const PART_BYTES_MIN: usize = 2 + 3 * 8 + 1 + 4 + 1;
/// More extents than any object of the format has; a bound for the count, the bytes that remain are the other.
const EXTENTS_MAX: usize = 1 << 22;

fn packed_checksum_count(bytes: u32) -> u64 {
    u64::from(bytes).div_ceil(PACKED_CHECKSUM_BYTES as u64)
}

fn extent_checksum_count(bytes: u64) -> u64 {
    bytes.div_ceil(EXTENT_CHECKSUM_BYTES as u64)
}

/// Whether these extents hold so many bytes, all but the last completely used.
fn holds(extents: &[Extent], bytes: u64) -> bool {
    let Some((last, full)) = extents.split_last() else { return false };
    // 2^22 extents of 2^25 bytes: no overflow.
    let full_bytes: u64 = full.iter().map(|extent| extent.bytes()).sum();
    full_bytes < bytes && bytes <= full_bytes + last.bytes()
}

/// Whether the extent can hold a table for so many bytes of content, and the table is as long as it must be.
fn holds_table(extent: Extent, table_bytes: u32, bytes: u64) -> bool {
    u64::from(table_bytes) <= extent.bytes()
        && extent_checksum_count(bytes).checked_mul(size_of::<u64>() as u64) == Some(u64::from(table_bytes))
}

impl Content {
    /// # Panics
    /// If decoding would refuse it: see the fields.
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        match self {
            Content::Empty => writer.u8(content_tag::EMPTY),
            Content::Inline(bytes) => {
                writer.u8(content_tag::INLINE);
                writer.bytes(bytes, UNIT_BYTES);
            }
            Content::Packed { place, bytes, checksums } => {
                writer.u8(content_tag::PACKED);
                writer.position(*place);
                writer.u32(*bytes);
                assert_eq!(
                    checksums.len() as u64,
                    packed_checksum_count(*bytes),
                    "one checksum for each piece"
                );
                writer.u64s(checksums);
            }
            Content::Extents { extents, bytes, checksums } => {
                assert!(holds(extents, *bytes), "{extents:?} do not hold {bytes} bytes");
                writer.u8(match checksums {
                    ChecksumTable::Here(_) => content_tag::EXTENTS,
                    ChecksumTable::Away { .. } => content_tag::EXTENTS_AWAY,
                });
                writer.u64(*bytes);
                writer.count(extents.len(), EXTENTS_MAX);
                for extent in extents {
                    writer.extent(*extent);
                }
                match checksums {
                    ChecksumTable::Here(checksums) => {
                        assert_eq!(
                            checksums.len() as u64,
                            extent_checksum_count(*bytes),
                            "one checksum for each piece"
                        );
                        writer.u64s(checksums);
                    }
                    ChecksumTable::Away { extent, bytes: table_bytes, checksum } => {
                        assert!(
                            holds_table(*extent, *table_bytes, *bytes),
                            "{checksums:?} is no table for {bytes} bytes"
                        );
                        writer.extent(*extent);
                        writer.u32(*table_bytes);
                        writer.u64(*checksum);
                    }
                }
            }
            Content::Parts(parts) => {
                writer.u8(content_tag::PARTS);
                writer.count(parts.len(), PARTS_MAX);
                for part in parts.iter() {
                    part.encode(writer);
                }
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Content, DecodeError> {
        match reader.u8()? {
            content_tag::PARTS => {
                let count = reader.count(PART_BYTES_MIN, PARTS_MAX)?;
                let parts = (0..count).map(|_| Part::decode(reader)).collect::<Result<_, _>>()?;
                Ok(Content::Parts(parts))
            }
            tag => Content::decode_one(tag, reader),
        }
    }

    /// Any content but parts: so that parts do not nest, and a decoder's stack is bounded.
    fn decode_one(tag: u8, reader: &mut Reader<'_>) -> Result<Content, DecodeError> {
        match tag {
            content_tag::EMPTY => Ok(Content::Empty),
            content_tag::INLINE => Ok(Content::Inline(Bytes::copy_from_slice(reader.bytes(UNIT_BYTES)?))),
            content_tag::PACKED => {
                let place = reader.position()?;
                let bytes = reader.u32()?;
                let checksums = reader.u64s(packed_checksum_count(bytes))?;
                Ok(Content::Packed { place, bytes, checksums })
            }
            content_tag::EXTENTS | content_tag::EXTENTS_AWAY => {
                let bytes = reader.u64()?;
                let count = reader.count(EXTENT_BYTES, EXTENTS_MAX)?;
                let extents = (0..count).map(|_| reader.extent()).collect::<Result<Vec<_>, _>>()?;
                if !holds(&extents, bytes) {
                    return Err(DecodeError::Bounds);
                }
                let checksums = if tag == content_tag::EXTENTS {
                    ChecksumTable::Here(reader.u64s(extent_checksum_count(bytes))?)
                } else {
                    let extent = reader.extent()?;
                    let table_bytes = reader.u32()?;
                    if !holds_table(extent, table_bytes, bytes) {
                        return Err(DecodeError::Bounds);
                    }
                    ChecksumTable::Away { extent, bytes: table_bytes, checksum: reader.u64()? }
                };
                Ok(Content::Extents { extents, bytes, checksums })
            }
            content_tag::PARTS => Err(DecodeError::Bounds),
            unknown => Err(DecodeError::Tag(unknown)),
        }
    }
}

impl Content {
    /// Bytes that it takes encoded; of parts none, for they do not nest.
    fn encoded_bytes(&self) -> usize {
        1 + match self {
            Content::Empty | Content::Parts(_) => 0,
            Content::Inline(bytes) => 4 + bytes.len(),
            Content::Packed { checksums, .. } => 8 + 4 + size_of_val(&checksums[..]),
            Content::Extents { extents, checksums, .. } => {
                let table = match checksums {
                    ChecksumTable::Here(checksums) => size_of_val(&checksums[..]),
                    ChecksumTable::Away { .. } => EXTENT_BYTES + 4 + 8,
                };
                8 + 4 + extents.len() * EXTENT_BYTES + table
            }
        }
    }
}

impl Part {
    /// Bytes that it takes encoded.
    pub fn encoded_bytes(&self) -> usize {
        let head = size_of::<u16>() + 3 * size_of::<u64>();
        head + 1 + self.etag.as_bytes().len() + 4 + self.attributes.len() + self.content.encoded_bytes()
    }

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        assert!(!matches!(self.content, Content::Parts(_)), "parts do not nest");
        writer.u16(self.number);
        writer.u64(self.bytes);
        writer.u64(self.modified_ms);
        writer.u64(self.crc64);
        writer.short_bytes(self.etag.as_bytes());
        writer.bytes(&self.attributes, ATTRIBUTES_BYTES_MAX);
        self.content.encode(writer);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Part, DecodeError> {
        Ok(Part {
            number: reader.u16()?,
            bytes: reader.u64()?,
            modified_ms: reader.u64()?,
            crc64: reader.u64()?,
            etag: decode_etag(reader)?,
            attributes: decode_attributes(reader)?,
            content: {
                let tag = reader.u8()?;
                Content::decode_one(tag, reader)?
            },
        })
    }
}

impl Record {
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        let flag = |set, flag| if set { flag } else { 0 };
        writer.u64(self.version.0);
        writer.u8(flag(self.null, FLAG_NULL)
            | flag(self.delete_marker, FLAG_DELETE_MARKER)
            | flag(self.upload.is_some(), FLAG_UPLOAD));
        writer.u64(self.size);
        writer.u64(self.modified_ms);
        writer.u64(self.crc64);
        if let Some(upload) = self.upload {
            writer.u128(upload.0);
        }
        writer.short_bytes(self.etag.as_bytes());
        writer.bytes(&self.attributes, ATTRIBUTES_BYTES_MAX);
        self.content.encode(writer);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Record, DecodeError> {
        let version = Version(reader.u64()?);
        let flags = reader.u8()?;
        if flags & !(FLAG_NULL | FLAG_DELETE_MARKER | FLAG_UPLOAD) != 0 {
            return Err(DecodeError::Bounds);
        }
        Ok(Record {
            version,
            null: flags & FLAG_NULL != 0,
            delete_marker: flags & FLAG_DELETE_MARKER != 0,
            size: reader.u64()?,
            modified_ms: reader.u64()?,
            crc64: reader.u64()?,
            upload: if flags & FLAG_UPLOAD != 0 { Some(UploadId(reader.u128()?)) } else { None },
            etag: decode_etag(reader)?,
            attributes: decode_attributes(reader)?,
            content: Content::decode(reader)?,
        })
    }
}

impl BucketRecord {
    /// The revision of a record whose bucket is being removed, where something lies that would otherwise say that it is being made. Greater
    /// than any that a change makes.
    pub const REVISION_GOING: u64 = u64::MAX;

    /// Whether its bucket is being removed: it is gone as soon as its home has no record of it.
    pub fn is_going(&self) -> bool {
        self.revision == BucketRecord::REVISION_GOING
    }

    /// The version of the body that the record is written in. One that was never changed is written as builds did that
    /// knew no versioning, and which can read it; the others they must refuse, for they would not keep versions.
    pub(super) fn body_version(&self) -> u8 {
        let as_made = self.revision == 0 && self.versioning == Versioning::Never;
        match self.documents.is_empty() {
            true if as_made => 1,
            true => 2,
            false => BucketRecord::BODY_VERSION_MAX,
        }
    }

    /// The newest version of the body.
    pub(super) const BODY_VERSION_MAX: u8 = 3;

    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.u64(self.bucket.0);
        writer.u64(self.created_ms);
        writer.short_bytes(self.name.as_bytes());
        writer.bytes(&self.attributes, ATTRIBUTES_BYTES_MAX);
        if self.body_version() > 1 {
            writer.u8(versioning_tag(self.versioning));
            writer.u64(self.revision);
        }
        if self.body_version() > 2 {
            writer.count(self.documents.len(), DOCUMENTS_MAX);
            for (name, document) in self.documents.iter() {
                assert!(!name.is_empty(), "a document has a name");
                writer.short_bytes(name.as_bytes());
                writer.bytes(document, ATTRIBUTES_BYTES_MAX);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>, body_version: u8) -> Result<BucketRecord, DecodeError> {
        let mut record = BucketRecord {
            bucket: BucketId(reader.u64()?),
            created_ms: reader.u64()?,
            name: std::str::from_utf8(reader.short_bytes()?).map_err(|_| DecodeError::Bounds)?.into(),
            attributes: decode_attributes(reader)?,
            versioning: Versioning::Never,
            documents: Documents::default(),
            revision: 0,
        };
        if body_version > 1 {
            record.versioning = decode_versioning(reader)?;
            record.revision = reader.u64()?;
        }
        if body_version > 2 {
            record.documents = Arc::new(decode_documents(reader)?);
        }
        // A value has one encoding.
        if record.body_version() == body_version { Ok(record) } else { Err(DecodeError::Bounds) }
    }
}

/// Bytes of the shortest document's encoding: a name of one byte and nothing.
const DOCUMENT_BYTES_MIN: usize = 1 + 1 + 4;

fn decode_documents(reader: &mut Reader<'_>) -> Result<BTreeMap<Box<str>, Bytes>, DecodeError> {
    let count = reader.count(DOCUMENT_BYTES_MIN, DOCUMENTS_MAX)?;
    let mut documents = BTreeMap::new();
    for _ in 0..count {
        let name: Box<str> =
            std::str::from_utf8(reader.short_bytes()?).map_err(|_| DecodeError::Bounds)?.into();
        // In their order, each once: a value has one encoding.
        let in_order = documents.last_key_value().is_none_or(|(last, _)| *last < name);
        if name.is_empty() || !in_order {
            return Err(DecodeError::Bounds);
        }
        documents.insert(name, decode_attributes(reader)?);
    }
    Ok(documents)
}

fn versioning_tag(versioning: Versioning) -> u8 {
    match versioning {
        Versioning::Never => 0,
        Versioning::Enabled => 1,
        Versioning::Suspended => 2,
    }
}

fn decode_versioning(reader: &mut Reader<'_>) -> Result<Versioning, DecodeError> {
    match reader.u8()? {
        0 => Ok(Versioning::Never),
        1 => Ok(Versioning::Enabled),
        2 => Ok(Versioning::Suspended),
        _ => Err(DecodeError::Bounds),
    }
}

impl UploadRecord {
    pub(super) fn encode(&self, writer: &mut Writer<'_>) {
        writer.u128(self.upload.0);
        writer.u64(self.bucket.0);
        writer.u64(self.created_ms);
        writer.bytes(&self.key, KEY_BYTES_MAX);
        writer.bytes(&self.attributes, ATTRIBUTES_BYTES_MAX);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<UploadRecord, DecodeError> {
        Ok(UploadRecord {
            upload: UploadId(reader.u128()?),
            bucket: BucketId(reader.u64()?),
            created_ms: reader.u64()?,
            key: reader.bytes(KEY_BYTES_MAX)?.into(),
            attributes: decode_attributes(reader)?,
        })
    }
}

fn decode_etag(reader: &mut Reader<'_>) -> Result<EntityTag, DecodeError> {
    EntityTag::new(reader.short_bytes()?).ok_or(DecodeError::Bounds)
}

fn decode_attributes(reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
    Ok(Bytes::copy_from_slice(reader.bytes(ATTRIBUTES_BYTES_MAX)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_hold_what_leaves_only_the_last_unfilled() {
        // Shows both bounds: one byte in the last extent, and the last byte of it.
        let extents = [Extent { zone: 0, unit: 0, order: 1 }, Extent { zone: 0, unit: 2, order: 0 }];
        assert!(!holds(&extents, 128 * 1024));
        assert!(holds(&extents, 128 * 1024 + 1));
        assert!(holds(&extents, 192 * 1024));
        assert!(!holds(&extents, 192 * 1024 + 1));
        assert!(!holds(&[], 0));
        assert!(!holds(&extents, 0));
    }

    #[test]
    fn visits_reach_parts_and_tables() {
        // Shows that space of parts and of checksum tables is found, each once.
        let extent = |zone| Extent { zone, unit: 0, order: 0 };
        let part = |content: Content| Part {
            number: 1,
            bytes: content.bytes(),
            modified_ms: 0,
            crc64: 0,
            etag: EntityTag::new(b"e").unwrap(),
            attributes: Bytes::new(),
            content,
        };
        let place = LogPosition { zone: 9, offset: 64 };
        let content = Content::Parts(Arc::new([
            part(Content::Extents {
                extents: vec![extent(1)],
                bytes: 5,
                checksums: ChecksumTable::Here(vec![0]),
            }),
            part(Content::Packed { place, bytes: 7, checksums: vec![0] }),
            part(Content::Extents {
                extents: vec![extent(2), extent(3)],
                bytes: 65_537,
                checksums: ChecksumTable::Away { extent: extent(4), bytes: 16, checksum: 0 },
            }),
        ]));
        let (mut extents, mut packed) = (vec![], vec![]);
        content.visit_extents(&mut |extent| extents.push(extent.zone));
        content.visit_packed(&mut |place, bytes| packed.push((place, bytes)));
        assert_eq!(extents, [1, 2, 3, 4]);
        assert_eq!(packed, [(place, 7)]);
        assert_eq!(content.bytes(), 5 + 7 + 65_537);
    }
}
