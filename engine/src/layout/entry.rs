//! The entry: what the log says happened, and what a checkpoint says is so.
//!
//! Effects are unconditional (conditions were evaluated before they were logged) and idempotent, so that replay may
//! start before the point that a checkpoint reached.
//!
//! ```text
//!  bytes u32 │ tag u8 │ version u8 │ body        `bytes` counts from its own first byte
//! ```
//!
//! Entries have no checksum of their own: batches and chunks cover them.

use super::{
    ATTRIBUTES_BYTES_MAX, BucketId, BucketRecord, Content, DecodeError, ENTRY_BYTES_MAX, KEY_BYTES_MAX,
    LogPosition, PARTS_MAX, Part, Record, ScrubRecord, UploadId, UploadRecord, Version,
    codec::{Reader, Writer},
};
use bytes::Bytes;

/// An unconditional, idempotent effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A version is there, whole.
    PutObject {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version.
        record: Record,
    },
    /// A version is gone for good.
    RemoveVersion {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version.
        version: Version,
    },
    /// A bucket is there, with these attributes.
    PutBucket(BucketRecord),
    /// A bucket is gone; its number is never used again.
    RemoveBucket {
        /// The bucket.
        bucket: BucketId,
    },
    /// An upload is under way.
    CreateUpload(UploadRecord),
    /// A part of an upload is there, in place of an older one of its number.
    PutPart {
        /// The upload.
        upload: UploadId,
        /// The part.
        part: Part,
    },
    /// An upload has become a version.
    CompleteUpload {
        /// The upload.
        upload: UploadId,
        /// The version. Its content is empty here: it is the parts named, in this order.
        record: Record,
        /// Numbers of the parts; the parts not named are freed.
        parts: Vec<u16>,
    },
    /// An upload is gone, with all its parts.
    AbortUpload {
        /// The upload.
        upload: UploadId,
    },
    /// A packed payload lies in this batch now, if it lay at `from` until then; else nothing happened.
    MovePacked {
        /// Whose payload it is.
        owner: PackedOwner,
        /// Where it lay.
        from: LogPosition,
        /// What the owner's content is: packed, the same but for its place.
        to: Content,
    },
    /// A version, if it is there, has these attributes now.
    SetAttributes {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version.
        version: Version,
        /// The embedder's own bytes.
        attributes: Bytes,
    },
    /// The scrub has come so far.
    Scrub(ScrubRecord),
}

/// Who holds a packed payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PackedOwner {
    /// A version of an object.
    Version {
        /// Bucket of the key.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version.
        version: Version,
        /// The part of it, if it has parts.
        part: Option<u16>,
    },
    /// A part of an upload under way.
    Part {
        /// The upload.
        upload: UploadId,
        /// The part's number.
        number: u16,
    },
}

mod owner_tag {
    pub(super) const VERSION: u8 = 1;
    pub(super) const VERSION_PART: u8 = 2;
    pub(super) const PART: u8 = 3;
}

impl PackedOwner {
    fn encode(&self, writer: &mut Writer<'_>) {
        match self {
            PackedOwner::Version { bucket, key, version, part } => {
                writer.u8(if part.is_some() { owner_tag::VERSION_PART } else { owner_tag::VERSION });
                writer.u64(bucket.0);
                writer.bytes(key, KEY_BYTES_MAX);
                writer.u64(version.0);
                part.iter().for_each(|part| writer.u16(*part));
            }
            PackedOwner::Part { upload, number } => {
                writer.u8(owner_tag::PART);
                writer.u128(upload.0);
                writer.u16(*number);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<PackedOwner, DecodeError> {
        match reader.u8()? {
            tag @ (owner_tag::VERSION | owner_tag::VERSION_PART) => Ok(PackedOwner::Version {
                bucket: BucketId(reader.u64()?),
                key: reader.bytes(KEY_BYTES_MAX)?.into(),
                version: Version(reader.u64()?),
                part: if tag == owner_tag::VERSION_PART { Some(reader.u16()?) } else { None },
            }),
            owner_tag::PART => {
                Ok(PackedOwner::Part { upload: UploadId(reader.u128()?), number: reader.u16()? })
            }
            unknown => Err(DecodeError::Tag(unknown)),
        }
    }
}

mod tag {
    pub(super) const PUT_OBJECT: u8 = 1;
    pub(super) const REMOVE_VERSION: u8 = 2;
    pub(super) const PUT_BUCKET: u8 = 3;
    pub(super) const REMOVE_BUCKET: u8 = 4;
    pub(super) const CREATE_UPLOAD: u8 = 5;
    pub(super) const PUT_PART: u8 = 6;
    pub(super) const COMPLETE_UPLOAD: u8 = 7;
    pub(super) const ABORT_UPLOAD: u8 = 8;
    pub(super) const MOVE_PACKED: u8 = 9;
    pub(super) const SET_ATTRIBUTES: u8 = 10;
    pub(super) const SCRUB: u8 = 11;
}

/// Version of the bodies this build writes, but for those of [`Entry::PutBucket`]: see
/// [`BucketRecord::body_version`].
const BODY_VERSION: u8 = 1;

/// Length, tag and version.
pub(super) const PREFIX_BYTES: usize = 6;

impl Entry {
    /// Appends the entry.
    ///
    /// # Panics
    /// If [`Entry::decode`] would refuse it: something longer or more than the bounds of the format ([`super`]'s
    /// `…_MAX`), checksums that are not one for each piece, extents that do not hold their bytes, parts inside parts,
    /// a move to content that is not packed.
    pub fn encode(&self, target: &mut Vec<u8>) {
        match self {
            Entry::PutObject { bucket, key, record } => {
                Entry::encode_put_object(*bucket, key, record, target)
            }
            Entry::RemoveVersion { bucket, key, version } => {
                prefixed(target, tag::REMOVE_VERSION, |writer| {
                    writer.u64(bucket.0);
                    writer.bytes(key, KEY_BYTES_MAX);
                    writer.u64(version.0);
                })
            }
            Entry::PutBucket(record) => {
                prefixed_as(target, tag::PUT_BUCKET, record.body_version(), |writer| record.encode(writer))
            }
            Entry::RemoveBucket { bucket } => {
                prefixed(target, tag::REMOVE_BUCKET, |writer| writer.u64(bucket.0))
            }
            Entry::CreateUpload(record) => {
                prefixed(target, tag::CREATE_UPLOAD, |writer| record.encode(writer))
            }
            Entry::PutPart { upload, part } => Entry::encode_put_part(*upload, part, target),
            Entry::CompleteUpload { upload, record, parts } => {
                prefixed(target, tag::COMPLETE_UPLOAD, |writer| {
                    writer.u128(upload.0);
                    record.encode(writer);
                    writer.count(parts.len(), PARTS_MAX);
                    for number in parts {
                        writer.u16(*number);
                    }
                })
            }
            Entry::AbortUpload { upload } => {
                prefixed(target, tag::ABORT_UPLOAD, |writer| writer.u128(upload.0))
            }
            Entry::MovePacked { owner, from, to } => {
                assert!(matches!(to, Content::Packed { .. }), "{to:?} is not packed");
                prefixed(target, tag::MOVE_PACKED, |writer| {
                    owner.encode(writer);
                    writer.position(*from);
                    to.encode(writer);
                })
            }
            Entry::SetAttributes { bucket, key, version, attributes } => {
                prefixed(target, tag::SET_ATTRIBUTES, |writer| {
                    writer.u64(bucket.0);
                    writer.bytes(key, KEY_BYTES_MAX);
                    writer.u64(version.0);
                    writer.bytes(attributes, ATTRIBUTES_BYTES_MAX);
                })
            }
            Entry::Scrub(record) => prefixed(target, tag::SCRUB, |writer| record.encode(writer)),
        }
    }

    /// Appends a [`Entry::PutObject`] from borrowed pieces: a checkpoint encodes straight from the index.
    ///
    /// # Panics
    /// As [`Entry::encode`].
    pub fn encode_put_object(bucket: BucketId, key: &[u8], record: &Record, target: &mut Vec<u8>) {
        prefixed(target, tag::PUT_OBJECT, |writer| {
            writer.u64(bucket.0);
            writer.bytes(key, KEY_BYTES_MAX);
            record.encode(writer);
        });
    }

    /// Appends a [`Entry::PutPart`] from borrowed pieces.
    ///
    /// # Panics
    /// As [`Entry::encode`].
    pub fn encode_put_part(upload: UploadId, part: &Part, target: &mut Vec<u8>) {
        prefixed(target, tag::PUT_PART, |writer| {
            writer.u128(upload.0);
            part.encode(writer);
        });
    }

    /// The length that the entry at the front of the slice says it has, prefix too. `None` if not even that is there: a
    /// reader of a stream in pieces asks this to learn how much to gather.
    ///
    /// # Errors
    /// `Bounds` if no entry is so long or so short.
    pub fn peek_bytes(bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        let Ok(entry_bytes) = Reader(bytes).u32() else { return Ok(None) };
        let entry_bytes = usize::try_from(entry_bytes).map_err(|_| DecodeError::Bounds)?;
        if (PREFIX_BYTES..=ENTRY_BYTES_MAX).contains(&entry_bytes) {
            Ok(Some(entry_bytes))
        } else {
            Err(DecodeError::Bounds)
        }
    }

    /// Takes one entry off the front of the slice. On an error the slice is as it was.
    ///
    /// # Errors
    /// `Truncated` if the slice ends before the entry does (a whole entry never gives this, whatever is in it), `Tag`
    /// for a kind of entry or content this build does not know, `NewerVersion` for a newer body, `Bounds` otherwise.
    pub fn decode(bytes: &mut &[u8]) -> Result<Entry, DecodeError> {
        let entry_bytes = Entry::peek_bytes(bytes)?.ok_or(DecodeError::Truncated)?;
        let (entry, rest) = bytes.split_at_checked(entry_bytes).ok_or(DecodeError::Truncated)?;
        let entry = decode_whole(entry).map_err(|error| match error {
            // The entry is all there, so a field that runs past its end is a wrong length, not missing bytes.
            DecodeError::Truncated => DecodeError::Bounds,
            other => other,
        })?;
        *bytes = rest;
        Ok(entry)
    }
}

fn prefixed(target: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Writer<'_>)) {
    prefixed_as(target, tag, BODY_VERSION, body);
}

fn prefixed_as(target: &mut Vec<u8>, tag: u8, body_version: u8, body: impl FnOnce(&mut Writer<'_>)) {
    let start = target.len();
    let mut writer = Writer(target);
    writer.u32(0);
    writer.u8(tag);
    writer.u8(body_version);
    body(&mut writer);
    let entry_bytes = target.len() - start;
    assert!(
        entry_bytes <= ENTRY_BYTES_MAX,
        "an entry of {entry_bytes} bytes is longer than the format's {ENTRY_BYTES_MAX}"
    );
    let length = u32::try_from(entry_bytes).expect("ENTRY_BYTES_MAX fits in 32 bits").to_le_bytes();
    let (_, entry) = target.split_at_mut(start);
    *entry.first_chunk_mut().expect("the prefix was just written") = length;
}

fn decode_whole(entry: &[u8]) -> Result<Entry, DecodeError> {
    let mut reader = Reader(entry);
    let reader = &mut reader;
    reader.u32()?;
    let tag = reader.u8()?;
    let version = reader.u8()?;
    if !(tag::PUT_OBJECT..=tag::SCRUB).contains(&tag) {
        return Err(DecodeError::Tag(tag));
    }
    let newest = if tag == tag::PUT_BUCKET { BucketRecord::BODY_VERSION_MAX } else { BODY_VERSION };
    if version > newest {
        return Err(DecodeError::NewerVersion(version.into()));
    }
    if version == 0 {
        return Err(DecodeError::Bounds);
    }
    let entry = match tag {
        tag::PUT_OBJECT => Entry::PutObject {
            bucket: BucketId(reader.u64()?),
            key: reader.bytes(KEY_BYTES_MAX)?.into(),
            record: Record::decode(reader)?,
        },
        tag::REMOVE_VERSION => Entry::RemoveVersion {
            bucket: BucketId(reader.u64()?),
            key: reader.bytes(KEY_BYTES_MAX)?.into(),
            version: Version(reader.u64()?),
        },
        tag::PUT_BUCKET => Entry::PutBucket(BucketRecord::decode(reader, version)?),
        tag::REMOVE_BUCKET => Entry::RemoveBucket { bucket: BucketId(reader.u64()?) },
        tag::CREATE_UPLOAD => Entry::CreateUpload(UploadRecord::decode(reader)?),
        tag::PUT_PART => Entry::PutPart { upload: UploadId(reader.u128()?), part: Part::decode(reader)? },
        tag::COMPLETE_UPLOAD => Entry::CompleteUpload {
            upload: UploadId(reader.u128()?),
            record: Record::decode(reader)?,
            parts: {
                let count = reader.count(size_of::<u16>(), PARTS_MAX)?;
                (0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?
            },
        },
        tag::ABORT_UPLOAD => Entry::AbortUpload { upload: UploadId(reader.u128()?) },
        tag::MOVE_PACKED => Entry::MovePacked {
            owner: PackedOwner::decode(reader)?,
            from: reader.position()?,
            to: match Content::decode(reader)? {
                packed @ Content::Packed { .. } => packed,
                _ => return Err(DecodeError::Bounds),
            },
        },
        tag::SET_ATTRIBUTES => Entry::SetAttributes {
            bucket: BucketId(reader.u64()?),
            key: reader.bytes(KEY_BYTES_MAX)?.into(),
            version: Version(reader.u64()?),
            attributes: Bytes::copy_from_slice(reader.bytes(ATTRIBUTES_BYTES_MAX)?),
        },
        tag::SCRUB => Entry::Scrub(ScrubRecord::decode(reader)?),
        unknown => return Err(DecodeError::Tag(unknown)),
    };
    if reader.0.is_empty() { Ok(entry) } else { Err(DecodeError::Bounds) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Versioning, testing},
        *,
    };
    use proptest::prelude::*;
    use std::{collections::BTreeMap, sync::Arc};

    fn encoded(entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_part_is_as_long_as_it_says(part in testing::part()) {
            // Shows that what is judged before an entry is made is what the entry then has.
            let mut bytes = Vec::new();
            part.encode(&mut Writer(&mut bytes));
            prop_assert_eq!(part.encoded_bytes(), bytes.len());
        }

        #[test]
        fn what_is_encoded_is_decoded(entries in proptest::collection::vec(testing::entry(), 0..6)) {
            // Shows decode ∘ encode = identity for entries one behind the other.
            let mut bytes = Vec::new();
            entries.iter().for_each(|entry| entry.encode(&mut bytes));
            let mut rest = &bytes[..];
            for entry in entries {
                prop_assert_eq!(Entry::decode(&mut rest), Ok(entry));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn every_truncation_asks_for_more(entry in testing::entry()) {
            // Shows that a cut entry says Truncated wherever it is cut, and leaves the slice as it was.
            let bytes = encoded(&entry);
            for cut in 0..bytes.len() {
                let mut rest = &bytes[..cut];
                prop_assert_eq!(Entry::decode(&mut rest), Err(DecodeError::Truncated));
                prop_assert_eq!(rest.len(), cut);
                prop_assert_eq!(Entry::peek_bytes(rest), Ok((cut >= 4).then_some(bytes.len())));
            }
        }

        #[test]
        fn a_value_has_one_encoding(entry in testing::entry(), at: prop::sample::Index, bit in 0..8u32) {
            // Shows that a damaged entry is refused or is the encoding of another value: nothing is silently ignored.
            let mut bytes = encoded(&entry);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut rest = &bytes[..];
            if let Ok(other) = Entry::decode(&mut rest) {
                prop_assert_ne!(&other, &entry);
                prop_assert_eq!(&encoded(&other)[..], &bytes[..bytes.len() - rest.len()]);
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(
            body in proptest::collection::vec(any::<u8>(), 0..600),
            tag in 0..13u8,
            version in 0..5u8,
        ) {
            // Shows that no body panics, and that whole entries are never called truncated.
            let mut bytes = (body.len() as u32 + PREFIX_BYTES as u32).to_le_bytes().to_vec();
            bytes.extend([tag, version]);
            bytes.extend(body);
            prop_assert_ne!(Entry::decode(&mut &bytes[..]), Err(DecodeError::Truncated));
            let _ = Entry::decode(&mut &bytes[6..]);
        }
    }

    #[test]
    fn kinds_of_newer_builds_are_named() {
        // Shows that an unknown tag and a newer body are told from damage.
        let mut bytes = encoded(&Entry::AbortUpload { upload: UploadId(7) });
        bytes[4] = 99;
        assert_eq!(Entry::decode(&mut &bytes[..]), Err(DecodeError::Tag(99)));
        bytes[4] = tag::ABORT_UPLOAD;
        bytes[5] = 2;
        assert_eq!(Entry::decode(&mut &bytes[..]), Err(DecodeError::NewerVersion(2)));
        bytes[5] = 0;
        assert_eq!(Entry::decode(&mut &bytes[..]), Err(DecodeError::Bounds));
    }

    #[test]
    fn a_bucket_as_it_was_made_reads_in_older_builds() {
        // Shows that the record grows, and refuses older builds, only when there is something that they would break.
        let made = BucketRecord {
            bucket: BucketId(7),
            name: "name".into(),
            created_ms: 1,
            attributes: Default::default(),
            versioning: Versioning::Never,
            documents: Default::default(),
            revision: 0,
        };
        let documents = BTreeMap::from([("cors".into(), Bytes::from_static(b"x"))]);
        let documented = BucketRecord { documents: Arc::new(documents), ..made.clone() };
        let changed = BucketRecord { versioning: Versioning::Suspended, revision: 9, ..made.clone() };
        let (made, changed) = (encoded(&Entry::PutBucket(made)), encoded(&Entry::PutBucket(changed)));
        assert_eq!((made[5], changed[5]), (1, 2));
        assert_eq!(changed.len(), made.len() + 9);
        assert_eq!(changed[made.len()..], [2, 9, 0, 0, 0, 0, 0, 0, 0]);
        let documented = encoded(&Entry::PutBucket(documented));
        assert_eq!(documented[5], 3);
        assert_eq!(documented[made.len() + 9..], *b"\x01\0\0\0\x04cors\x01\0\0\0x");
        // One that says nothing new in the new form has another encoding already.
        let mut twice = changed;
        twice[made.len()..].fill(0);
        assert_eq!(Entry::decode(&mut &twice[..]), Err(DecodeError::Bounds));
    }

    #[test]
    fn a_huge_count_reserves_nothing() {
        // Shows that a count is refused by the bytes that remain before memory is reserved for it.
        let entry = Entry::PutPart { upload: UploadId(1), part: testing::sample(testing::part()) };
        let mut bytes = encoded(&entry);
        let content = bytes.len();
        bytes.extend([3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0x3f, 0]);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        assert!(Entry::decode(&mut &bytes[..]).is_err());
        let mut reader = Reader(&bytes[content..]);
        assert_eq!(super::super::Content::decode(&mut reader), Err(DecodeError::Truncated));
    }

    #[test]
    #[should_panic(expected = "parts do not nest")]
    fn parts_inside_parts_are_not_written() {
        // Shows that what could not be read again is not written.
        let mut part = testing::sample(testing::part());
        part.content = super::super::Content::Parts([].into());
        encoded(&Entry::PutPart { upload: UploadId(1), part });
    }
}
