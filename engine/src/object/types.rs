//! What callers say about objects and what they are told.

use crate::{
    error::Error,
    layout::{BucketId, Content, Documents, EntityTag, Part, Record, UploadId, Version, Versioning},
};
use bytes::Bytes;
use std::ops::Range;

/// Most bytes of attributes an object, bucket, upload or part may carry.
pub const ATTRIBUTES_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of a bucket's documents and their names together: with its attributes they make one entry of the log.
pub const DOCUMENTS_BYTES_MAX: usize = 56 * 1024;
/// Most bytes of a document's name.
pub(crate) const DOCUMENT_NAME_BYTES_MAX: usize = 255;
/// Most bytes of a bucket's name.
pub(crate) const BUCKET_NAME_BYTES_MAX: usize = 255;
/// Most parts an object can be completed from (Amazon S3 User Guide, «Amazon S3 multipart upload limits»).
pub(crate) const PARTS_MAX: u16 = 10_000;

/// A version of an object, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Length in bytes.
    pub size: u64,
    /// When it was written: milliseconds since 1970 (UTC), by the engine's wall clock.
    pub modified_ms: u64,
    /// The entity tag, as the writer gave it or as the engine made it (see [`CommitOptions::etag`]).
    pub etag: EntityTag,
    /// CRC64NVME of all bytes.
    pub crc64: u64,
    /// The version.
    pub version: Version,
    /// Whether it is the key's null version: written while the bucket kept no versions.
    pub is_null_version: bool,
    /// Whether the bucket kept versions when this was told.
    pub versioning: Versioning,
    /// The embedder's own bytes.
    pub attributes: Bytes,
    /// Parts it was completed from; 0 if it was put whole.
    pub part_count: u16,
}

impl ObjectInfo {
    pub(crate) fn of(record: &Record, versioning: Versioning) -> ObjectInfo {
        let part_count = match &record.content {
            Content::Parts(parts) => parts.len() as u16,
            _ => 0,
        };
        ObjectInfo {
            size: record.size,
            modified_ms: record.modified_ms,
            etag: record.etag,
            crc64: record.crc64,
            version: record.version,
            is_null_version: record.null,
            versioning,
            attributes: record.attributes.clone(),
            part_count,
        }
    }
}

/// Which version of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    #[default]
    Current,
    /// The null version: the one written while the bucket kept no versions.
    Null,
    /// The one of this number.
    Version(Version),
}

/// A version that has no bytes and says that the key is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeleteMarker {
    /// The version.
    pub version: Version,
    /// Whether it is the key's null version.
    pub is_null_version: bool,
    /// When it was made: milliseconds since 1970 (UTC), by the engine's wall clock.
    pub modified_ms: u64,
}

impl DeleteMarker {
    pub(crate) fn of(record: &Record) -> DeleteMarker {
        DeleteMarker {
            version: record.version,
            is_null_version: record.null,
            modified_ms: record.modified_ms,
        }
    }
}

/// What is to be deleted of a bucket, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// The key.
    pub key: Box<[u8]>,
    /// The version that is to go for good; the current one only if the bucket keeps no versions, else a delete marker takes
    /// its place.
    pub which: Which,
    /// What must hold of the version that is to go, or that the marker will stand for.
    pub condition: WriteCondition,
    /// The attributes by which the caller judged that it may go: if the version has others by now, it stays. Decided when
    /// the delete is sequenced, as conditions are.
    pub attributes: Option<Bytes>,
    /// The version that the caller judged: if another is there by now, even one with the same bytes, it stays. Decided as the
    /// attributes are.
    pub version: Option<Version>,
    /// As [`CommitOptions::decided_by`]: if the bucket was changed since, or another has its name, the version stays.
    pub decided_by: Option<BucketRevision>,
}

impl Delete {
    /// Of the key as it is now, whatever it is.
    pub fn current(key: &[u8]) -> Delete {
        Delete {
            key: key.into(),
            which: Which::Current,
            condition: WriteCondition::default(),
            attributes: None,
            version: None,
            decided_by: None,
        }
    }
}

/// What a delete did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// The version that is gone for good; none if there was no such version, or if it is kept.
    pub removed: Option<Version>,
    /// The delete marker that was made, or that was removed.
    pub marker: Option<DeleteMarker>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketInfo {
    /// Its number, never used again after it is deleted.
    pub bucket: BucketId,
    /// Its name.
    pub name: Box<str>,
    /// When it was made: milliseconds since 1970 (UTC).
    pub created_ms: u64,
    /// The embedder's own bytes.
    pub attributes: Bytes,
    /// Whether it keeps versions.
    pub versioning: Versioning,
    /// The embedder's own documents, by name.
    pub documents: Documents,
    /// Which change of the bucket this is: greater with each.
    pub revision: u64,
}

/// A bucket as of one change of it: what a caller decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketRevision {
    /// The bucket: another that has its name later is another.
    pub bucket: BucketId,
    /// See [`BucketInfo::revision`].
    pub revision: u64,
}

impl BucketInfo {
    /// What is decided by this.
    pub fn as_of(&self) -> BucketRevision {
        BucketRevision { bucket: self.bucket, revision: self.revision }
    }
}

/// How much a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketUsage {
    /// Keys that a listing shows: those whose newest version is an object.
    pub objects: u64,
    /// Versions, delete markers included.
    pub versions: u64,
    /// Delete markers among them.
    pub delete_markers: u64,
    /// Bytes of all versions.
    pub bytes: u64,
    /// Uploads under way.
    pub uploads: u64,
    /// Bytes of their parts.
    pub upload_bytes: u64,
}

impl BucketUsage {
    /// Adds what another shard holds.
    pub fn add(&mut self, other: BucketUsage) {
        self.objects += other.objects;
        self.versions += other.versions;
        self.delete_markers += other.delete_markers;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.uploads += other.uploads;
        self.upload_bytes = self.upload_bytes.saturating_add(other.upload_bytes);
    }
}

/// Uploads that were given up because they were too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExpiredUploads {
    /// How many.
    pub uploads: u64,
    /// Their parts.
    pub parts: u64,
    /// Bytes of these.
    pub bytes: u64,
}

/// A change of a bucket: all of it happens, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketChange {
    /// Whether it is to keep versions; none: as before.
    pub versioning: Option<Versioning>,
    /// Documents to set, or to remove where there are no bytes. Those not named stay.
    pub documents: Vec<(Box<str>, Option<Bytes>)>,
    /// The bucket that is meant: if another has its name by now nothing is changed. None: whichever has it.
    pub bucket: Option<BucketId>,
    /// The revision by which the caller decided: if the bucket has another by now nothing is changed. None: whatever it has.
    pub revision: Option<u64>,
}

/// How a bucket is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketOptions {
    /// The embedder's own bytes, at most [`ATTRIBUTES_BYTES_MAX`].
    pub attributes: Bytes,
    /// Whether it keeps versions from the first.
    pub versioning: Versioning,
    /// The embedder's own documents: at most [`DOCUMENTS_BYTES_MAX`] with their names.
    pub documents: Documents,
}

/// How an upload in parts is begun.
#[derive(Clone, Debug, Default)]
pub struct UploadOptions {
    /// The embedder's own bytes, at most [`ATTRIBUTES_BYTES_MAX`].
    pub attributes: Bytes,
    /// As [`CommitOptions::decided_by`]: if the bucket was changed since, or another has its name, nothing is begun.
    pub decided_by: Option<BucketRevision>,
}

/// A change of a version's attributes.
#[derive(Clone, Debug, Default)]
pub struct AttributesChange {
    /// What they become, at most [`ATTRIBUTES_BYTES_MAX`].
    pub attributes: Bytes,
    /// Those that the version must have: if it has others by now, they stay. None: whatever they are.
    pub judged_by: Option<Bytes>,
    /// As [`CommitOptions::decided_by`]: if the bucket was changed since, or another has its name, they stay.
    pub decided_by: Option<BucketRevision>,
}

/// Entity tags to compare with: `*` or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagMatch {
    /// Whatever is there.
    Any,
    /// One of these.
    Tags(Vec<EntityTag>),
}

impl TagMatch {
    fn holds(&self, tag: EntityTag) -> bool {
        match self {
            TagMatch::Any => true,
            TagMatch::Tags(tags) => tags.contains(&tag),
        }
    }
}

/// What must hold of the key's current version for a write to happen. Decided when the write is sequenced, against
/// everything sequenced before it, so that of two writers with the same condition one wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteCondition {
    /// There must be a current version with such a tag.
    pub if_match: Option<TagMatch>,
    /// There must be no current version with such a tag; `Any`: no current version at all.
    pub if_none_match: Option<TagMatch>,
}

impl WriteCondition {
    /// Only if the key does not exist.
    pub fn absent() -> WriteCondition {
        WriteCondition { if_match: None, if_none_match: Some(TagMatch::Any) }
    }

    /// Judges against the current version's tag; `None`: the key does not exist.
    ///
    /// # Errors
    /// [`Error::ConditionFailed`]; [`Error::NoSuchKey`] when a tag was to match and nothing is there.
    pub fn check(&self, current: Option<EntityTag>) -> Result<(), Error> {
        if let Some(wanted) = &self.if_match {
            let tag = current.ok_or(Error::NoSuchKey)?;
            if !wanted.holds(tag) {
                return Err(Error::ConditionFailed);
            }
        }
        match (&self.if_none_match, current) {
            (Some(unwanted), Some(tag)) if unwanted.holds(tag) => Err(Error::ConditionFailed),
            _ => Ok(()),
        }
    }
}

/// How an object is put.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// The exact length, if it is known: space is then reserved at once. A body of another length is refused.
    pub size: Option<u64>,
}

/// What is settled when the bytes are there.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// The entity tag. None: the engine makes `<16 hex CRC64NVME><16 hex size and version>-1`, a form no client
    /// takes for an MD5.
    pub etag: Option<EntityTag>,
    /// The embedder's own bytes, at most [`ATTRIBUTES_BYTES_MAX`].
    pub attributes: Bytes,
    /// What must hold for the commit to happen.
    pub condition: WriteCondition,
    /// The bucket by which the caller decided: if it was changed since, or another has its name, nothing is committed
    /// ([`Error::Changed`](crate::Error::Changed)). What is committed before the change resolves may be so by either. None: whatever
    /// is there.
    pub decided_by: Option<BucketRevision>,
}

/// Which bytes of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// All.
    #[default]
    Whole,
    /// From `first` to the end.
    From(u64),
    /// From the first to the last, both counted; cut at the end of the object.
    Between(u64, u64),
    /// The last so many.
    Last(u64),
    /// One part of an object that was completed from parts; part 1 of any other is the whole.
    Part(u16),
}

impl Select {
    /// The byte range of an object with this content.
    ///
    /// # Errors
    /// [`Error::RangeNotSatisfiable`] if it starts at or past the end; [`Error::InvalidPart`] if there is no such part.
    pub(crate) fn resolve(self, record: &Record) -> Result<Range<u64>, Error> {
        let size = record.size;
        let unsatisfiable = Error::RangeNotSatisfiable { size };
        match self {
            Select::Whole => Ok(0..size),
            Select::From(first) if first < size => Ok(first..size),
            Select::Between(first, last) if first < size && first <= last => {
                Ok(first..last.saturating_add(1).min(size))
            }
            Select::Last(count) if count > 0 && size > 0 => Ok(size.saturating_sub(count)..size),
            Select::From(_) | Select::Between(..) | Select::Last(_) => Err(unsatisfiable),
            Select::Part(number) => part_range(record, number),
        }
    }
}

fn part_range(record: &Record, number: u16) -> Result<Range<u64>, Error> {
    let missing = Error::InvalidPart(number);
    match &record.content {
        // The n-th part of the object, whatever number it was uploaded under.
        Content::Parts(parts) => {
            let index = usize::from(number).checked_sub(1).ok_or(missing.clone())?;
            let part = parts.get(index).ok_or(missing)?;
            let start = parts.iter().take(index).map(|part| part.bytes).sum::<u64>();
            Ok(start..start + part.bytes)
        }
        _ if number == 1 => Ok(0..record.size),
        _ => Err(missing),
    }
}

/// How an object is read.
#[derive(Clone, Debug, Default)]
pub struct GetOptions {
    /// Which bytes.
    pub select: Select,
    /// Which version.
    pub version: Which,
}

/// Where a listing starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListStart {
    /// At the first key.
    #[default]
    First,
    /// After this key.
    After(Vec<u8>),
    /// After every key that starts with this.
    AfterPrefix(Vec<u8>),
    /// At the first version of this key that is older than this one, or at the next key. A listing of keys, which shows
    /// the newest versions only, starts at the next key if this one's newest has been passed.
    AfterVersion(Vec<u8>, Version),
    /// In a listing of uploads: after this one, be it there still or not. Any other listing starts at the next key.
    AfterUpload {
        /// Its key.
        key: Vec<u8>,
        /// When it was begun: milliseconds since 1970 (UTC).
        created_ms: u64,
        /// Its id.
        upload: UploadId,
    },
}

/// What to list. By default the first [`LIST_LIMIT_DEFAULT`] of a bucket.
#[derive(Clone, Debug)]
pub struct ListOptions {
    /// Only keys that start with this.
    pub prefix: Vec<u8>,
    /// Keys that share what lies between the prefix and the first occurrence of this, that included, are one
    /// common prefix. Empty: none.
    pub delimiter: Vec<u8>,
    /// Where to start.
    pub start: ListStart,
    /// Most keys and common prefixes together: at least 1; of more than 10 000 no more than that are given.
    pub limit: usize,
}

/// How many lines a page has when nobody says otherwise: as S3 has it.
pub const LIST_LIMIT_DEFAULT: usize = 1000;

impl Default for ListOptions {
    fn default() -> ListOptions {
        ListOptions {
            prefix: Vec::new(),
            delimiter: Vec::new(),
            start: ListStart::First,
            limit: LIST_LIMIT_DEFAULT,
        }
    }
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListItem {
    /// An object.
    Object {
        /// Its key.
        key: Vec<u8>,
        /// What is known of it.
        info: ObjectInfo,
    },
    /// Keys that are one for this listing.
    CommonPrefix(Vec<u8>),
}

impl ListItem {
    /// The key or common prefix: what listings are ordered by.
    pub fn name(&self) -> &[u8] {
        match self {
            ListItem::Object { key, .. } => key,
            ListItem::CommonPrefix(prefix) => prefix,
        }
    }
}

/// What a version holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionKind {
    /// An object.
    Object(ObjectInfo),
    /// Nothing: it says that the key is deleted.
    DeleteMarker(DeleteMarker),
}

impl VersionKind {
    /// The version.
    pub fn version(&self) -> Version {
        match self {
            VersionKind::Object(info) => info.version,
            VersionKind::DeleteMarker(marker) => marker.version,
        }
    }

    /// Whether it is the key's null version.
    pub fn is_null_version(&self) -> bool {
        match self {
            VersionKind::Object(info) => info.is_null_version,
            VersionKind::DeleteMarker(marker) => marker.is_null_version,
        }
    }
}

/// One line of a listing of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionItem {
    /// A version of a key.
    Version {
        /// The key.
        key: Vec<u8>,
        /// Whether it is the key's newest.
        is_current: bool,
        /// What is known of it.
        kind: VersionKind,
    },
    /// Keys that are one for this listing.
    CommonPrefix(Vec<u8>),
}

/// A page of a listing of versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionListing {
    /// Versions and common prefixes in bytewise order of keys, the newest of a key first.
    pub items: Vec<VersionItem>,
    /// Where the next page starts; none: this was the last.
    pub next: Option<ListStart>,
}

/// A line of any listing, as merging sees it.
pub(crate) trait Line: Send + 'static {
    /// What lines are ordered by; those of one name stay in the order of their shard.
    fn name(&self) -> &[u8];
    /// Whether it stands for several keys, which may lie on several shards.
    fn is_prefix(&self) -> bool;
    /// Where a listing goes on after it.
    fn after(&self) -> ListStart;
}

impl Line for ListItem {
    fn name(&self) -> &[u8] {
        ListItem::name(self)
    }

    fn is_prefix(&self) -> bool {
        matches!(self, ListItem::CommonPrefix(_))
    }

    fn after(&self) -> ListStart {
        match self {
            ListItem::Object { key, .. } => ListStart::After(key.clone()),
            ListItem::CommonPrefix(prefix) => ListStart::AfterPrefix(prefix.clone()),
        }
    }
}

impl Line for VersionItem {
    fn name(&self) -> &[u8] {
        match self {
            VersionItem::Version { key, .. } => key,
            VersionItem::CommonPrefix(prefix) => prefix,
        }
    }

    fn is_prefix(&self) -> bool {
        matches!(self, VersionItem::CommonPrefix(_))
    }

    fn after(&self) -> ListStart {
        match self {
            VersionItem::Version { key, kind, .. } => ListStart::AfterVersion(key.clone(), kind.version()),
            VersionItem::CommonPrefix(prefix) => ListStart::AfterPrefix(prefix.clone()),
        }
    }
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// Objects and common prefixes in bytewise order.
    pub items: Vec<ListItem>,
    /// Where the next page starts; none: this was the last.
    pub next: Option<ListStart>,
}

/// An upload in parts that is not yet complete.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadInfo {
    /// Its id.
    pub upload: UploadId,
    /// The key it will be.
    pub key: Vec<u8>,
    /// When it was begun: milliseconds since 1970 (UTC).
    pub created_ms: u64,
    /// The embedder's own bytes.
    pub attributes: Bytes,
}

/// One line of a listing of uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadItem {
    /// An upload.
    Upload(UploadInfo),
    /// Uploads whose keys begin with this.
    CommonPrefix(Vec<u8>),
}

/// A page of a listing of uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadListing {
    /// Uploads and common prefixes in bytewise order of keys, those of one key in the order in which they were begun.
    pub items: Vec<UploadItem>,
    /// Where the next page starts; none: this was the last.
    pub next: Option<ListStart>,
}

impl Line for UploadItem {
    fn name(&self) -> &[u8] {
        match self {
            UploadItem::Upload(upload) => &upload.key,
            UploadItem::CommonPrefix(prefix) => prefix,
        }
    }

    fn is_prefix(&self) -> bool {
        matches!(self, UploadItem::CommonPrefix(_))
    }

    fn after(&self) -> ListStart {
        match self {
            UploadItem::Upload(UploadInfo { key, created_ms, upload, .. }) => {
                ListStart::AfterUpload { key: key.clone(), created_ms: *created_ms, upload: *upload }
            }
            UploadItem::CommonPrefix(prefix) => ListStart::AfterPrefix(prefix.clone()),
        }
    }
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartInfo {
    /// Its number, 1 to 10 000.
    pub number: u16,
    /// Length in bytes.
    pub size: u64,
    /// When it was written: milliseconds since 1970 (UTC).
    pub modified_ms: u64,
    /// Its entity tag.
    pub etag: EntityTag,
    /// CRC64NVME of its bytes.
    pub crc64: u64,
    /// The embedder's own bytes.
    pub attributes: Bytes,
}

impl PartInfo {
    pub(crate) fn of(part: &Part) -> PartInfo {
        PartInfo {
            number: part.number,
            size: part.bytes,
            modified_ms: part.modified_ms,
            etag: part.etag,
            crc64: part.crc64,
            attributes: part.attributes.clone(),
        }
    }
}

/// A part as the completion of an upload names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPart {
    /// Its number.
    pub number: u16,
    /// The tag it must have; none: any.
    pub etag: Option<EntityTag>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(size: u64) -> Record {
        Record {
            version: Version(1),
            null: true,
            delete_marker: false,
            size,
            modified_ms: 0,
            crc64: 0,
            etag: EntityTag::new(b"e").unwrap(),
            attributes: Bytes::new(),
            content: Content::Empty,
            upload: None,
        }
    }

    /// Ranges follow RFC 9110 §14.1.2: cut at the end, unsatisfiable past it, a suffix may exceed the object.
    #[test]
    fn select_resolves() {
        let ten = record(10);
        assert_eq!(Select::Whole.resolve(&ten), Ok(0..10));
        assert_eq!(Select::From(9).resolve(&ten), Ok(9..10));
        assert_eq!(Select::From(10).resolve(&ten), Err(Error::RangeNotSatisfiable { size: 10 }));
        assert_eq!(Select::Between(2, 4).resolve(&ten), Ok(2..5));
        assert_eq!(Select::Between(2, u64::MAX).resolve(&ten), Ok(2..10));
        assert!(Select::Between(4, 2).resolve(&ten).is_err());
        assert_eq!(Select::Last(3).resolve(&ten), Ok(7..10));
        assert_eq!(Select::Last(30).resolve(&ten), Ok(0..10));
        assert!(Select::Last(0).resolve(&ten).is_err());
        assert!(Select::Last(5).resolve(&record(0)).is_err());
        assert_eq!(Select::Whole.resolve(&record(0)), Ok(0..0));
        assert_eq!(Select::Part(1).resolve(&ten), Ok(0..10));
        assert_eq!(Select::Part(2).resolve(&ten), Err(Error::InvalidPart(2)));
    }

    /// If-Match needs a version with the tag; If-None-Match refuses one; together both must hold.
    #[test]
    fn conditions() {
        let (a, b) = (EntityTag::new(b"a").unwrap(), EntityTag::new(b"b").unwrap());
        let matches = |tags: &[EntityTag]| WriteCondition {
            if_match: Some(TagMatch::Tags(tags.to_vec())),
            if_none_match: None,
        };
        assert_eq!(matches(&[a]).check(Some(a)), Ok(()));
        assert_eq!(matches(&[a]).check(Some(b)), Err(Error::ConditionFailed));
        assert_eq!(matches(&[a]).check(None), Err(Error::NoSuchKey));
        assert_eq!(WriteCondition::absent().check(None), Ok(()));
        assert_eq!(WriteCondition::absent().check(Some(a)), Err(Error::ConditionFailed));
        assert_eq!(WriteCondition::default().check(None), Ok(()));
    }
}
