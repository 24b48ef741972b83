//! What an object carries besides its bytes: headers to give back, user metadata, storage class and checksum.
//!
//! The storage engine keeps the encoded form as opaque bytes. Values are bytes, not text: S3 gives back what it was
//! given, and clients send Latin-1 as well as UTF-8.
//!
//! ```text
//!   ┌─────────┬───────────────────────────────────────────────┐
//!   │ version │ fields: │ tag │ length (u32, little endian) │ … │
//!   │ 1       │         │ u8  │                             │   │
//!   └─────────┴───────────────────────────────────────────────┘
//!     tag 1–6   Cache-Control, Content-Disposition, Content-Encoding, Content-Language, Content-Type, Expires
//!     tag 7     storage class: one byte
//!     tag 8     user metadata, once for each name: name, a zero byte, value
//!     tag 9     checksum: algorithm (u8), number of parts (u32, 0 for a full-object checksum), value
//!     tag 11    a tag, once for each: name, a zero byte, value
//!     tag 12    access control list and owner, if they are not those of the bucket's owner alone
//!     tag 13    retention: mode (u8), until (u64: milliseconds since 1970)
//!     tag 14    legal hold: 0 off, 1 on
//!     tag 10    announced checksum of a multipart upload: algorithm (u8), type (u8: 1 full object, 2 composite)
//!     tag 15    a header that a multipart upload was begun with, once for each: name, a zero byte, value
//! ```
//!
//! Invariants: decoding never panics and refuses what it does not know, so an older program never gives back half of
//! what a newer one stored; no field is stored twice.

use super::acl::Acl;
use super::body::strip_aws_chunked;
use super::checksum::{Algorithm, Checksum, ChecksumType, ObjectChecksum};
use super::error::{ErrorCode, S3Error};
use super::http::{Headers, is_field_name};
use super::lock::{Lock, Retention, RetentionMode};
use super::tagging::TagSet;

/// The most bytes that names (without `x-amz-meta-`) and values of user metadata may have together.
///
/// "The user-defined metadata is limited to 2 KB in size. The size of user-defined metadata is measured by taking the
/// sum of the number of bytes in the UTF-8 encoding of each key and value."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html>, "User-defined object metadata".)
pub const USER_METADATA_BYTES_MAX: usize = 2048;

const VERSION: u8 = 1;
const TAG_STORAGE_CLASS: u8 = 7;
const TAG_USER: u8 = 8;
const TAG_CHECKSUM: u8 = 9;
const TAG_ANNOUNCED: u8 = 10;
const TAG_TAG: u8 = 11;
const TAG_ACL: u8 = 12;
const TAG_RETENTION: u8 = 13;
const TAG_LEGAL_HOLD: u8 = 14;
const TAG_BEGUN_WITH: u8 = 15;

/// The headers that are stored with an object, in the order of their tags.
pub const STORED_HEADERS: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// The headers of [`ObjectHeaders::begun_with`].
pub const JUDGED_HEADERS: [&str; 10] = [
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-object-lock-legal-hold",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-storage-class",
];

/// The storage classes an object may name. All are kept alike: the class is a label that is given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum StorageClass {
    /// `STANDARD`, the default, which replies leave out of headers.
    #[default]
    Standard = 1,
    /// `REDUCED_REDUNDANCY`
    ReducedRedundancy = 2,
    /// `STANDARD_IA`
    StandardIa = 3,
    /// `ONEZONE_IA`
    OnezoneIa = 4,
    /// `INTELLIGENT_TIERING`
    IntelligentTiering = 5,
    /// `GLACIER_IR`
    GlacierIr = 6,
}

impl StorageClass {
    const ALL: [StorageClass; 6] = [
        StorageClass::Standard,
        StorageClass::ReducedRedundancy,
        StorageClass::StandardIa,
        StorageClass::OnezoneIa,
        StorageClass::IntelligentTiering,
        StorageClass::GlacierIr,
    ];

    /// The name in `x-amz-storage-class` and in documents.
    pub const fn name(self) -> &'static str {
        match self {
            StorageClass::Standard => "STANDARD",
            StorageClass::ReducedRedundancy => "REDUCED_REDUNDANCY",
            StorageClass::StandardIa => "STANDARD_IA",
            StorageClass::OnezoneIa => "ONEZONE_IA",
            StorageClass::IntelligentTiering => "INTELLIGENT_TIERING",
            StorageClass::GlacierIr => "GLACIER_IR",
        }
    }

    /// Reads `x-amz-storage-class`; a request without it means [`StorageClass::Standard`].
    ///
    /// # Errors
    ///
    /// 501 `NotImplemented` for the classes whose objects must be restored before they can be read, or that belong to
    /// other services; 400 `InvalidStorageClass` for what is no class.
    pub fn from_headers(headers: &Headers) -> Result<StorageClass, S3Error> {
        let Some(value) = headers.first("x-amz-storage-class") else { return Ok(StorageClass::Standard) };
        if let Some(class) = StorageClass::ALL.into_iter().find(|class| class.name().as_bytes() == value) {
            return Ok(class);
        }
        const OTHERS: [&str; 6] =
            ["GLACIER", "DEEP_ARCHIVE", "OUTPOSTS", "SNOW", "EXPRESS_ONEZONE", "FSX_OPENZFS"];
        match OTHERS.iter().any(|other| other.as_bytes() == value) {
            true => Err(S3Error::header_not_implemented("x-amz-storage-class")),
            false => Err(S3Error::new(ErrorCode::InvalidStorageClass)
                .field("StorageClassRequested", String::from_utf8_lossy(value))),
        }
    }
}

/// What an object carries besides its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// The values of [`STORED_HEADERS`], in that order; `None` where the client sent none.
    pub stored: [Option<Vec<u8>>; 6],
    /// The storage class.
    pub storage_class: StorageClass,
    /// User metadata: names in lower case without `x-amz-meta-`, no name twice.
    pub user: Vec<(String, Vec<u8>)>,
    /// The checksum of the object, if it has one.
    pub checksum: Option<ObjectChecksum>,
    /// What CreateMultipartUpload announced the checksum to be: kept with the upload, not with the object it becomes.
    pub announced: Option<(Algorithm, ChecksumType)>,
    /// The headers that CreateMultipartUpload came with, of those that policies ask for and that what is stored does not give back as they
    /// were: kept with the upload, whose parts are judged by them, and with the object it becomes, as its completion may be repeated.
    pub begun_with: Vec<(String, Vec<u8>)>,
    /// Its tags.
    pub tags: TagSet,
    /// Its owner and list; none: the bucket's owner's alone.
    pub acl: Option<Acl>,
    /// What keeps it from being deleted.
    pub lock: Lock,
}

/// Why stored bytes are not the encoding of [`ObjectHeaders`]: they are corrupt or by a newer program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// An unknown version.
    #[error("unknown version of object headers")]
    Version,
    /// A field ends behind the bytes, holds what it may not, or comes twice.
    #[error("malformed object headers")]
    Malformed,
    /// An unknown field.
    #[error("unknown field in object headers")]
    UnknownField,
}

impl ObjectHeaders {
    /// Reads the headers of a PutObject, CopyObject or CreateMultipartUpload that are stored. The checksum stays
    /// empty: it is known when the body is.
    ///
    /// `aws-chunked` describes how the body was sent and is taken out of `Content-Encoding`. A header that comes several
    /// times is stored once, its values divided by commas (RFC 9110 §5.3).
    ///
    /// # Errors
    ///
    /// 400 `MetadataTooLarge`, `InvalidStorageClass`, `InvalidArgument` for a name that is no header's; 501 `NotImplemented`.
    pub fn from_headers(headers: &Headers) -> Result<ObjectHeaders, S3Error> {
        let mut stored = STORED_HEADERS.map(|name| {
            let lines: Vec<&[u8]> = headers.all(name).filter(|value| !value.is_empty()).collect();
            (!lines.is_empty()).then(|| lines.join(&b", "[..]))
        });
        let [_, _, encoding, ..] = &mut stored;
        if let Some(text) = encoding.as_deref().and_then(|value| core::str::from_utf8(value).ok()) {
            *encoding = strip_aws_chunked(text).map(String::into_bytes);
        }
        let mut user: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, value) in headers.iter() {
            let Some(name) = name.strip_prefix("x-amz-meta-").filter(|name| !name.is_empty()) else {
                continue;
            };
            // It could not be given back, and a zero byte would end it where it is stored.
            if !is_field_name(name.as_bytes()) {
                let message = "The name of user metadata must be one that a header can have.";
                return Err(S3Error::invalid_argument("x-amz-meta-*", name.to_owned(), message));
            }
            match user.iter_mut().find(|(other, _)| other == name) {
                Some((_, values)) => {
                    values.push(b',');
                    values.extend_from_slice(value);
                }
                None => user.push((name.to_owned(), value.to_vec())),
            }
        }
        let bytes: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > USER_METADATA_BYTES_MAX {
            return Err(S3Error::new(ErrorCode::MetadataTooLarge)
                .field("Size", bytes.to_string())
                .field("MaxSizeAllowed", USER_METADATA_BYTES_MAX.to_string()));
        }
        let storage_class = StorageClass::from_headers(headers)?;
        let tags = headers.first("x-amz-tagging").map(TagSet::from_header).transpose()?.unwrap_or_default();
        let lock = Lock::from_headers(headers, None)?;
        Ok(ObjectHeaders { stored, storage_class, user, tags, lock, ..ObjectHeaders::default() })
    }

    /// The bytes to store. [`ObjectHeaders::decode`] reads them back.
    ///
    /// # Panics
    ///
    /// If the name of user metadata or of a tag holds a zero byte. [`ObjectHeaders::from_headers`], [`ObjectHeaders::decode`] and
    /// [`TagSet`]'s own functions make no such name.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for (tag, value) in (1..).zip(&self.stored) {
            if let Some(value) = value {
                push_field(&mut out, tag, &[value]);
            }
        }
        if self.storage_class != StorageClass::Standard {
            push_field(&mut out, TAG_STORAGE_CLASS, &[&[self.storage_class as u8]]);
        }
        let ends_where_it_is_read_to = |name: &str| !name.contains('\0');
        for (name, value) in &self.user {
            assert!(ends_where_it_is_read_to(name), "a header's name holds no zero byte");
            push_field(&mut out, TAG_USER, &[name.as_bytes(), &[0], value]);
        }
        if let Some(checksum) = &self.checksum {
            let count = checksum.part_count.unwrap_or(0).to_le_bytes();
            let algorithm = checksum.checksum.algorithm() as u8;
            push_field(&mut out, TAG_CHECKSUM, &[&[algorithm], &count, checksum.checksum.bytes()]);
        }
        if let Some((algorithm, kind)) = self.announced {
            let kind = if kind == ChecksumType::FullObject { 1 } else { 2 };
            push_field(&mut out, TAG_ANNOUNCED, &[&[algorithm as u8, kind]]);
        }
        for (name, value) in &self.begun_with {
            assert!(ends_where_it_is_read_to(name), "a header's name holds no zero byte");
            push_field(&mut out, TAG_BEGUN_WITH, &[name.as_bytes(), &[0], value]);
        }
        for (name, value) in &self.tags.tags {
            assert!(ends_where_it_is_read_to(name), "a tag's name holds no control character");
            push_field(&mut out, TAG_TAG, &[name.as_bytes(), &[0], value.as_bytes()]);
        }
        if let Some(acl) = &self.acl {
            push_field(&mut out, TAG_ACL, &[&acl.encode()]);
        }
        if let Some(Retention { mode, until_ms }) = self.lock.retention {
            push_field(&mut out, TAG_RETENTION, &[&[mode as u8], &until_ms.to_le_bytes()]);
        }
        if let Some(on) = self.lock.legal_hold {
            push_field(&mut out, TAG_LEGAL_HOLD, &[&[u8::from(on)]]);
        }
        out
    }

    /// Reads stored bytes. No bytes at all are an object without headers.
    ///
    /// # Errors
    ///
    /// [`MetadataError`], for every byte string [`ObjectHeaders::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Result<ObjectHeaders, MetadataError> {
        let mut headers = ObjectHeaders::default();
        for_each_field(bytes, |tag, value| headers.decode_field(tag, value))?;
        Ok(headers)
    }

    /// Reads what keeps a version from being deleted, whatever is wrong within the other fields: what can not be given back can
    /// still be removed.
    ///
    /// # Errors
    ///
    /// [`MetadataError`], where a lock might stand that is not seen.
    pub fn decode_lock(bytes: &[u8]) -> Result<Lock, MetadataError> {
        let mut headers = ObjectHeaders::default();
        for_each_field(bytes, |tag, value| match tag {
            TAG_RETENTION | TAG_LEGAL_HOLD => headers.decode_field(tag, value),
            1..TAG_RETENTION | TAG_BEGUN_WITH => Ok(()),
            _ => Err(MetadataError::UnknownField),
        })?;
        Ok(headers.lock)
    }

    fn decode_field(&mut self, tag: u8, value: &[u8]) -> Result<(), MetadataError> {
        let fresh = match tag {
            TAG_STORAGE_CLASS => {
                let class = StorageClass::ALL.into_iter().skip(1).find(|class| value == [*class as u8]);
                let fresh = self.storage_class == StorageClass::Standard;
                self.storage_class = class.ok_or(MetadataError::Malformed)?;
                fresh
            }
            TAG_USER | TAG_BEGUN_WITH => {
                let zero = value.iter().position(|&byte| byte == 0).ok_or(MetadataError::Malformed)?;
                let (name, value) = value.split_at_checked(zero).ok_or(MetadataError::Malformed)?;
                let name = core::str::from_utf8(name).map_err(|_| MetadataError::Malformed)?;
                let known = if tag == TAG_USER { &mut self.user } else { &mut self.begun_with };
                let fresh = known.iter().all(|(other, _)| other != name);
                known.push((name.to_owned(), value.get(1..).unwrap_or_default().to_vec()));
                fresh
            }
            TAG_CHECKSUM => {
                let checksum = decode_checksum(value).ok_or(MetadataError::Malformed)?;
                self.checksum.replace(checksum).is_none()
            }
            TAG_ANNOUNCED => {
                let announced = decode_announced(value).ok_or(MetadataError::Malformed)?;
                self.announced.replace(announced).is_none()
            }
            TAG_TAG => {
                let text = core::str::from_utf8(value).map_err(|_| MetadataError::Malformed)?;
                let (name, value) = text.split_once('\0').ok_or(MetadataError::Malformed)?;
                let fresh = self.tags.value(name).is_none();
                self.tags.tags.push((name.to_owned(), value.to_owned()));
                fresh
            }
            TAG_ACL => {
                let acl = Acl::decode(value).ok_or(MetadataError::Malformed)?;
                self.acl.replace(acl).is_none()
            }
            TAG_RETENTION => {
                let retention = decode_retention(value).ok_or(MetadataError::Malformed)?;
                self.lock.retention.replace(retention).is_none()
            }
            TAG_LEGAL_HOLD => {
                let on = match value {
                    [0] => false,
                    [1] => true,
                    _ => return Err(MetadataError::Malformed),
                };
                self.lock.legal_hold.replace(on).is_none()
            }
            _ => {
                let slot = usize::from(tag).checked_sub(1).and_then(|index| self.stored.get_mut(index));
                slot.ok_or(MetadataError::UnknownField)?.replace(value.to_vec()).is_none()
            }
        };
        if fresh { Ok(()) } else { Err(MetadataError::Malformed) }
    }
}

/// Calls `each` with tag and value of each field.
fn for_each_field(
    bytes: &[u8],
    mut each: impl FnMut(u8, &[u8]) -> Result<(), MetadataError>,
) -> Result<(), MetadataError> {
    let Some((&version, mut rest)) = bytes.split_first() else { return Ok(()) };
    if version != VERSION {
        return Err(MetadataError::Version);
    }
    while let Some((&tag, tail)) = rest.split_first() {
        let (length, tail) = tail.split_first_chunk::<4>().ok_or(MetadataError::Malformed)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| MetadataError::Malformed)?;
        let (value, tail) = tail.split_at_checked(length).ok_or(MetadataError::Malformed)?;
        rest = tail;
        each(tag, value)?;
    }
    Ok(())
}

fn push_field(out: &mut Vec<u8>, tag: u8, pieces: &[&[u8]]) {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let length = u32::try_from(length).expect("a header is shorter than the request head, far below 4 GiB");
    out.push(tag);
    out.extend_from_slice(&length.to_le_bytes());
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

fn algorithm_of(code: u8) -> Option<Algorithm> {
    Algorithm::ALL.into_iter().find(|known| *known as u8 == code)
}

fn decode_announced(value: &[u8]) -> Option<(Algorithm, ChecksumType)> {
    match *value {
        [algorithm, 1] => Some((algorithm_of(algorithm)?, ChecksumType::FullObject)),
        [algorithm, 2] => Some((algorithm_of(algorithm)?, ChecksumType::Composite)),
        _ => None,
    }
}

fn decode_retention(value: &[u8]) -> Option<Retention> {
    let (mode, until) = value.split_first()?;
    let mode = [RetentionMode::Governance, RetentionMode::Compliance]
        .into_iter()
        .find(|known| *known as u8 == *mode)?;
    Some(Retention { mode, until_ms: u64::from_le_bytes(until.try_into().ok()?) })
}

fn decode_checksum(value: &[u8]) -> Option<ObjectChecksum> {
    let (&algorithm, rest) = value.split_first()?;
    let (count, bytes) = rest.split_first_chunk::<4>()?;
    let algorithm = algorithm_of(algorithm)?;
    let count = u32::from_le_bytes(*count);
    Some(ObjectChecksum {
        checksum: Checksum::new(algorithm, bytes)?,
        part_count: (count > 0).then_some(count),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[(&str, &[u8])]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name, value);
        }
        headers
    }

    #[test]
    fn what_was_sent_is_what_is_stored() {
        // Six headers, user metadata in any bytes, repeated names joined, the transfer's own encoding left out.
        let read = ObjectHeaders::from_headers(&headers(&[
            ("Content-Type", b"text/plain"),
            ("Content-Encoding", b"aws-chunked"),
            ("Content-Encoding", b"gzip"),
            ("Cache-Control", b"no-transform"),
            ("Cache-Control", b"max-age=1"),
            ("X-Amz-Meta-A", b"caf\xe9"),
            ("x-amz-meta-a", b"2"),
            ("x-amz-storage-class", b"STANDARD_IA"),
            ("Content-Length", b"5"),
            ("Expires", b""),
        ]));
        let read = read.unwrap();
        assert_eq!(read.stored[0].as_deref(), Some(&b"no-transform, max-age=1"[..]));
        assert_eq!(read.stored[2].as_deref(), Some(&b"gzip"[..]));
        assert_eq!(read.stored[4].as_deref(), Some(&b"text/plain"[..]));
        assert_eq!(read.stored.iter().flatten().count(), 3);
        assert_eq!(read.user, [("a".to_owned(), b"caf\xe9,2".to_vec())]);
        assert_eq!(read.storage_class, StorageClass::StandardIa);
        let bare = ObjectHeaders::from_headers(&headers(&[("Content-Encoding", b"aws-chunked")])).unwrap();
        assert_eq!(bare, ObjectHeaders::default());
    }

    #[test]
    fn user_metadata_and_classes_are_bounded() {
        // 2,048 bytes of names and values pass, one more does not; unknown and cold classes are refused.
        let of =
            |count: usize| ObjectHeaders::from_headers(&headers(&[("x-amz-meta-abcd", &vec![b'x'; count])]));
        assert!(of(2044).is_ok());
        assert_eq!(of(2045).unwrap_err().code, ErrorCode::MetadataTooLarge);
        let class = |name: &[u8]| {
            ObjectHeaders::from_headers(&headers(&[("x-amz-storage-class", name)])).unwrap_err().code
        };
        assert_eq!(class(b"GLACIER"), ErrorCode::NotImplemented);
        assert_eq!(class(b"standard"), ErrorCode::InvalidStorageClass);
    }

    #[test]
    fn the_stored_form_does_not_change() {
        // Bytes written today must be read for ever: this string is the format.
        let mut object = ObjectHeaders { storage_class: StorageClass::GlacierIr, ..Default::default() };
        object.stored[4] = Some(b"a/b".to_vec());
        object.user.push(("n".into(), b"v".to_vec()));
        let checksum = Checksum::new(Algorithm::Crc32, &[1, 2, 3, 4]).unwrap();
        object.checksum = Some(ObjectChecksum { checksum, part_count: Some(2) });
        let bytes = b"\x01\x05\x03\0\0\0a/b\x07\x01\0\0\0\x06\x08\x03\0\0\0n\0v\x09\x09\0\0\0\x01\x02\0\0\0\x01\x02\x03\x04";
        assert_eq!(object.encode(), bytes);
        assert_eq!(ObjectHeaders::decode(bytes), Ok(object));
        assert_eq!(ObjectHeaders::decode(&[]), Ok(ObjectHeaders::default()));
        assert_eq!(ObjectHeaders::decode(&[2]), Err(MetadataError::Version));
        assert_eq!(ObjectHeaders::decode(b"\x01\x10\0\0\0\0"), Err(MetadataError::UnknownField));
        assert_eq!(ObjectHeaders::decode(b"\x01\x01\0\0\0\0\x01\0\0\0\0"), Err(MetadataError::Malformed));
    }

    #[test]
    fn a_lock_is_read_beside_what_can_not_be() {
        // A name twice spoils what is given back, not the lock. A field that is not known might be one.
        let twice = b"\x01\x08\x03\0\0\0a\x001\x08\x03\0\0\0a\x002";
        assert_eq!(ObjectHeaders::decode(twice), Err(MetadataError::Malformed));
        assert_eq!(ObjectHeaders::decode_lock(twice), Ok(Lock::default()));
        let held = [&twice[..], b"\x0e\x01\0\0\0\x01"].concat();
        assert_eq!(ObjectHeaders::decode_lock(&held).unwrap().legal_hold, Some(true));
        for unsure in [&b"\x02"[..], b"\x01\x10\0\0\0\0", b"\x01\x0e\x01\0\0\0\x02", &held[..held.len() - 1]]
        {
            assert!(ObjectHeaders::decode_lock(unsure).is_err(), "{unsure:?}");
        }
    }

    #[test]
    fn a_name_that_no_header_has_is_refused() {
        // With a zero byte it would be read back as another name, and be in another's place.
        for name in ["x-amz-meta-a\0b", "x-amz-meta-a b", "x-amz-meta-\u{e9}"] {
            let code = ObjectHeaders::from_headers(&headers(&[(name, b"1")])).unwrap_err().code;
            assert_eq!(code, ErrorCode::InvalidArgument, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(
            stored in proptest::array::uniform6(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))),
            user in proptest::collection::btree_map("[a-z0-9-]{1,8}", proptest::collection::vec(any::<u8>(), 0..20), 0..4),
            class in 0usize..6, announced in any::<Option<bool>>(), digest in any::<[u8; 32]>(), count in 0u32..3,
            tags in proptest::collection::btree_map("\\PC{1,8}", "\\PC{0,8}", 0..3), until in any::<Option<u64>>(), hold in any::<Option<bool>>(), listed in any::<bool>(),
            begun_with in proptest::collection::btree_map("[a-z0-9-]{1,8}", proptest::collection::vec(any::<u8>(), 0..20), 0..3),
        ) {
            // Every object's headers survive storage, and no prefix of the bytes is taken for them.
            let headers = ObjectHeaders {
                stored, storage_class: StorageClass::ALL[class], user: user.into_iter().collect(),
                checksum: Checksum::new(Algorithm::Sha256, &digest)
                    .map(|checksum| ObjectChecksum { checksum, part_count: (count > 0).then_some(count) }),
                announced: announced.map(|composite| {
                    let kind = if composite { ChecksumType::Composite } else { ChecksumType::FullObject };
                    (Algorithm::Crc32c, kind)
                }),
                begun_with: begun_with.into_iter().collect(),
                tags: TagSet { tags: tags.into_iter().collect() },
                acl: listed.then(|| Acl::private("account")),
                lock: Lock {
                    retention: until.map(|until_ms| Retention { mode: RetentionMode::Compliance, until_ms }),
                    legal_hold: hold,
                },
            };
            let bytes = headers.encode();
            for cut in 1..bytes.len() {
                prop_assert!(ObjectHeaders::decode(&bytes[..cut]).as_ref() != Ok(&headers));
            }
            prop_assert_eq!(ObjectHeaders::decode_lock(&bytes), Ok(headers.lock));
            prop_assert_eq!(ObjectHeaders::decode(&bytes), Ok(headers));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            // Any bytes are refused, or are exactly what their meaning encodes to up to the order of fields.
            for version in [None, Some(VERSION)] {
                let bytes: Vec<u8> = version.into_iter().chain(bytes.iter().copied()).collect();
                if let Ok(headers) = ObjectHeaders::decode(&bytes) {
                    prop_assert_eq!(ObjectHeaders::decode_lock(&bytes), Ok(headers.lock));
                    prop_assert_eq!(ObjectHeaders::decode(&headers.encode()), Ok(headers));
                }
            }
        }
    }
}
