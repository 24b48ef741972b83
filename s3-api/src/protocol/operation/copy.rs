//! Copies: what to copy, and into what.

use super::request::Input;
use crate::protocol::acl::AclRequest;
use crate::protocol::checksum::Algorithm;
use crate::protocol::conditions::{ReadConditions, WriteConditions};
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::http::Headers;
use crate::protocol::lock::Lock;
use crate::protocol::metadata::{ObjectHeaders, StorageClass};
use crate::protocol::names::{check_bucket_name, check_key, decode_path};
use crate::protocol::range::{ByteRange, parse_copy_range};
use crate::protocol::tagging::TagSet;

/// The source of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
}

impl CopySource {
    /// Reads `x-amz-copy-source`: `bucket/key`, percent-encoded, with or without a slash before and `?versionId=…` behind.
    ///
    /// "The value must be URL-encoded." "To copy a different version, use the versionId query parameter. Specifically,
    /// append `?versionId=<version-id>` to the value". (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>, x-amz-copy-source.)
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument`.
    pub fn parse(value: &[u8]) -> Result<CopySource, S3Error> {
        const NAME: &str = "x-amz-copy-source";
        let refuse = || {
            let message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
            S3Error::invalid_argument(NAME, String::from_utf8_lossy(value), message)
        };
        let text = core::str::from_utf8(value).map_err(|_| refuse())?;
        let (path, version_id) = match text.rsplit_once("?versionId=") {
            Some((path, version)) => (path, Some(decode_path(version).map_err(|_| refuse())?)),
            None => (text, None),
        };
        // Some clients encode the slash between bucket and key as well, so decode first. A bucket holds no slash.
        let path = decode_path(path).map_err(|_| refuse())?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = path.split_once('/').ok_or_else(refuse)?;
        check_bucket_name(bucket).map_err(|_| refuse())?;
        check_key(key).map_err(|_| refuse())?;
        if version_id.as_deref() == Some("") {
            let message = "Version id cannot be the empty string";
            return Err(S3Error::invalid_argument("versionId", "", message));
        }
        Ok(CopySource { bucket: bucket.to_owned(), key: key.to_owned(), version_id })
    }

    fn of(input: &Input<'_>) -> Result<CopySource, S3Error> {
        CopySource::parse(input.headers.first("x-amz-copy-source").unwrap_or_default())
    }
}

/// CopyObject. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyObject {
    /// The bucket to copy into.
    pub bucket: String,
    /// The key to copy into.
    pub key: String,
    /// What to copy.
    pub source: CopySource,
    /// When the source is to be copied ([`ReadConditions::evaluate_copy`]).
    pub source_conditions: ReadConditions,
    /// When the target is to be written.
    pub conditions: WriteConditions,
    /// With `x-amz-metadata-directive: REPLACE` what the copy carries, otherwise `None`: what the source carries.
    pub replace_headers: Option<ObjectHeaders>,
    /// With `x-amz-tagging-directive: REPLACE` the copy's tags, otherwise `None`: those of the source.
    pub replace_tags: Option<TagSet>,
    /// What is to keep the copy; the source does not hand its own down.
    pub lock: Lock,
    /// The access control list of the copy, which the source does not hand down either.
    pub acl: Option<AclRequest>,
    /// The class of the copy, which the source does not hand down.
    pub storage_class: StorageClass,
    /// The checksum the copy is to have; `None` for the source's.
    pub checksum_algorithm: Option<Algorithm>,
}

impl CopyObject {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let source = CopySource::of(input)?;
        let replaces = match input.headers.first("x-amz-metadata-directive") {
            None | Some(b"COPY") => false,
            Some(b"REPLACE") => true,
            Some(other) => {
                let value = String::from_utf8_lossy(other);
                let message = "Unknown metadata directive.";
                return Err(S3Error::invalid_argument("x-amz-metadata-directive", value, message));
            }
        };
        let (bucket, key) = (input.bucket(), input.key());
        let to_itself = source.bucket == bucket && source.key == key && source.version_id.is_none();
        if to_itself && !replaces && !input.headers.contains("x-amz-storage-class") {
            let message = "This copy request is illegal because it is trying to copy an object to itself without \
                           changing the object's metadata, storage class, website redirect location or encryption \
                           attributes.";
            return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
        }
        Ok(CopyObject {
            bucket,
            key,
            source,
            source_conditions: ReadConditions::from_copy_headers(input.headers)?,
            conditions: WriteConditions::from_headers(input.headers)?,
            replace_headers: replaces.then(|| ObjectHeaders::from_headers(input.headers)).transpose()?,
            replace_tags: replace_tags(input.headers)?,
            lock: Lock::from_headers(input.headers, None)?,
            acl: AclRequest::from_headers(input.headers)?,
            storage_class: StorageClass::from_headers(input.headers)?,
            checksum_algorithm: input.checksum_algorithm()?,
        })
    }
}

/// "x-amz-tagging-directive: Specifies whether the object tag-set is copied from the source object or replaced with the tag-set that's
/// provided in the request. … The default value is COPY."
fn replace_tags(headers: &Headers) -> Result<Option<TagSet>, S3Error> {
    const NAME: &str = "x-amz-tagging-directive";
    match headers.first(NAME) {
        None | Some(b"COPY") => Ok(None),
        Some(b"REPLACE") => {
            headers.first("x-amz-tagging").map_or(Ok(TagSet::default()), TagSet::from_header).map(Some)
        }
        Some(other) => {
            let value = String::from_utf8_lossy(other);
            Err(S3Error::invalid_argument(NAME, value, "Unknown tagging directive."))
        }
    }
}

/// UploadPartCopy. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadPartCopy {
    /// The bucket to copy into.
    pub bucket: String,
    /// The key of the upload.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// The part, 1 to 10,000.
    pub part_number: u16,
    /// What to copy.
    pub source: CopySource,
    /// Which bytes of it ([`resolve_copy_range`](crate::protocol::range::resolve_copy_range)); `None` for all.
    pub range: Option<ByteRange>,
    /// When the source is to be copied ([`ReadConditions::evaluate_copy`]).
    pub source_conditions: ReadConditions,
}

impl UploadPartCopy {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        Ok(UploadPartCopy {
            bucket: input.bucket(),
            key: input.key(),
            upload_id: input.upload_id(),
            part_number: input.required_part_number()?,
            source: CopySource::of(input)?,
            range: input.headers.first("x-amz-copy-source-range").map(parse_copy_range).transpose()?,
            source_conditions: ReadConditions::from_copy_headers(input.headers)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sources_are_read_as_clients_write_them() {
        // With and without a slash before, encoded or not, with a version, and what names no object.
        let of = |text: &str| {
            let source = CopySource::parse(text.as_bytes()).map_err(|error| error.code)?;
            Ok((source.bucket, source.key, source.version_id))
        };
        let found =
            |key: &str, version: Option<&str>| Ok(("bucket".into(), key.into(), version.map(str::to_owned)));
        assert_eq!(of("bucket/a/b"), found("a/b", None));
        assert_eq!(of("/bucket/a%20b+c%3F"), found("a b+c?", None));
        assert_eq!(of("bucket%2Fa"), found("a", None));
        assert_eq!(of("bucket//a"), found("/a", None));
        assert_eq!(of("bucket/a?versionId=null"), found("a", Some("null")));
        for bad in ["", "/", "bucket", "bucket/", "Bucket/a", "bucket/%ff", "bucket/a?versionId="] {
            assert_eq!(of(bad), Err(ErrorCode::InvalidArgument), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_key_is_found_again(key in ".{1,40}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            // Any key survives percent-encoding, and no bytes panic.
            let text = format!("bucket/{}", crate::protocol::auth::encode_path(&key));
            prop_assert_eq!(CopySource::parse(text.as_bytes()).unwrap().key, key);
            let _ = CopySource::parse(&bytes);
        }
    }
}
