//! A request in full: typed and validated.

use super::bucket::{
    BucketSetting, CreateBucket, DeleteBucket, GetBucketLocation, GetBucketSetting, GetBucketVersioning,
    GetObjectSetting, HeadBucket, KeepBucketSetting, ObjectSetting, PutBucketVersioning,
};
use super::configuration::{
    ChangeObject, DeleteBucketDocument, DocumentKind, GetBucketDocument, PutAcl, PutBucketDocument,
};
use super::copy::{CopyObject, UploadPartCopy};
use super::listing::{
    ListBuckets, ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListParts,
};
use super::multipart::{AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, UploadPart};
use super::object::{DeleteObject, DeleteObjects, GetObjectAttributes, PutObject, ReadObject};
use super::refused::check_headers;
use super::{OperationName, Routed};
use crate::protocol::auth::PayloadMode;
use crate::protocol::checksum::{Algorithm, ChecksumType, RequestChecksum, request_checksum};
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::http::Headers;
use crate::protocol::lifecycle::{LifecycleConfiguration, TransitionMinimum};
use crate::protocol::names::Query;
use crate::protocol::remote::TOKEN;
use crate::protocol::xml::PARTS_MAX;
use core::ops::RangeInclusive;

/// A typed request. Everything in it is valid in itself; whether buckets, objects and uploads exist is for the caller
/// to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant is the operation of its name, whose structure says more")]
pub enum Request {
    ListBuckets(ListBuckets),
    CreateBucket(CreateBucket),
    HeadBucket(HeadBucket),
    DeleteBucket(DeleteBucket),
    GetBucketLocation(GetBucketLocation),
    GetBucketSetting(GetBucketSetting),
    /// PutBucketNotificationConfiguration, PutBucketLogging, PutBucketRequestPayment
    KeepBucketSetting(KeepBucketSetting),
    GetBucketDocument(GetBucketDocument),
    PutBucketDocument(PutBucketDocument),
    DeleteBucketDocument(DeleteBucketDocument),
    PutAcl(PutAcl),
    ChangeObject(ChangeObject),
    GetBucketVersioning(GetBucketVersioning),
    PutBucketVersioning(PutBucketVersioning),
    PutObject(PutObject),
    GetObject(ReadObject),
    HeadObject(ReadObject),
    GetObjectAttributes(GetObjectAttributes),
    GetObjectSetting(GetObjectSetting),
    DeleteObject(DeleteObject),
    DeleteObjects(DeleteObjects),
    CopyObject(CopyObject),
    ListObjects(ListObjects),
    ListObjectsV2(ListObjectsV2),
    ListObjectVersions(ListObjectVersions),
    CreateMultipartUpload(CreateMultipartUpload),
    UploadPart(UploadPart),
    UploadPartCopy(UploadPartCopy),
    CompleteMultipartUpload(CompleteMultipartUpload),
    AbortMultipartUpload(AbortMultipartUpload),
    ListParts(ListParts),
    ListMultipartUploads(ListMultipartUploads),
}

impl Request {
    /// Reads the request that `routed` and `headers` describe, whose body is checked as `payload` says. `document` is the whole body of
    /// an operation that takes one ([`OperationName::document_bytes_max`]); it is ignored for all others.
    ///
    /// # Errors
    ///
    /// 501 `NotImplemented` for operations and headers that are not served, 400 codes for what is invalid. The error
    /// names the resource.
    pub fn parse(
        routed: &Routed,
        headers: &Headers,
        payload: PayloadMode,
        document: &[u8],
    ) -> Result<Request, S3Error> {
        let input = Input { routed, headers, payload, document };
        input.request().map_err(|error| error.on(&routed.resource.to_string()))
    }
}

/// "This is a positive integer between 1 and 10,000."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>, partNumber.)
const PART_NUMBER_MESSAGE: &str = "Part number must be an integer between 1 and 10000, inclusive";

/// What a request is read from.
pub(super) struct Input<'a> {
    pub(super) routed: &'a Routed,
    pub(super) headers: &'a Headers,
    pub(super) payload: PayloadMode,
    pub(super) document: &'a [u8],
}

impl Input<'_> {
    fn request(&self) -> Result<Request, S3Error> {
        use OperationName as O;
        let operation = self.routed.operation;
        let bucket = self.bucket();
        if let Some(setting) = BucketSetting::of(operation) {
            return Ok(Request::GetBucketSetting(GetBucketSetting { bucket, setting }));
        }
        if let Some(setting) = ObjectSetting::of(operation) {
            let (key, version_id) = (self.key(), self.version_id()?);
            return Ok(Request::GetObjectSetting(GetObjectSetting { bucket, key, version_id, setting }));
        }
        if let Some(kind) = DocumentKind::of_get(operation) {
            return Ok(Request::GetBucketDocument(GetBucketDocument { bucket, kind }));
        }
        if let Some(kind) = DocumentKind::of_delete(operation) {
            return Ok(Request::DeleteBucketDocument(DeleteBucketDocument { bucket, kind }));
        }
        check_headers(self.headers)?;
        if let Some((kind, _)) = DocumentKind::of_put(operation) {
            let stored = match kind {
                DocumentKind::Lifecycle => {
                    let transition_minimum = TransitionMinimum::from_headers(self.headers)?;
                    let rules = LifecycleConfiguration::parse(self.document)?;
                    LifecycleConfiguration { transition_minimum, ..rules }.stored()
                }
                kind => kind.stored(self.document, &bucket)?,
            };
            return Ok(Request::PutBucketDocument(PutBucketDocument { bucket, kind, stored }));
        }
        if let Some(keep) = KeepBucketSetting::parse(self)? {
            return Ok(Request::KeepBucketSetting(keep));
        }
        if let Some(change) = ChangeObject::parse(self)? {
            return Ok(Request::ChangeObject(change));
        }
        Ok(match operation {
            O::ListBuckets => Request::ListBuckets(ListBuckets::parse(self)?),
            O::CreateBucket => Request::CreateBucket(CreateBucket::parse(self)?),
            O::HeadBucket => Request::HeadBucket(HeadBucket { bucket }),
            O::DeleteBucket => Request::DeleteBucket(DeleteBucket { bucket }),
            O::GetBucketLocation => Request::GetBucketLocation(GetBucketLocation { bucket }),
            O::GetBucketVersioning => Request::GetBucketVersioning(GetBucketVersioning { bucket }),
            O::PutBucketVersioning => Request::PutBucketVersioning(PutBucketVersioning::parse(self)?),
            O::PutBucketAcl | O::PutObjectAcl => Request::PutAcl(PutAcl::parse(self)?),
            O::PutObject => Request::PutObject(PutObject::parse(self)?),
            O::GetObject => Request::GetObject(ReadObject::parse(self)?),
            O::HeadObject => Request::HeadObject(ReadObject::parse(self)?),
            O::GetObjectAttributes => Request::GetObjectAttributes(GetObjectAttributes::parse(self)?),
            O::DeleteObject => Request::DeleteObject(DeleteObject::parse(self)?),
            O::DeleteObjects => Request::DeleteObjects(DeleteObjects::parse(self)?),
            O::CopyObject => Request::CopyObject(CopyObject::parse(self)?),
            O::ListObjects => Request::ListObjects(ListObjects::parse(self)?),
            O::ListObjectsV2 => Request::ListObjectsV2(ListObjectsV2::parse(self)?),
            O::ListObjectVersions => Request::ListObjectVersions(ListObjectVersions::parse(self)?),
            O::CreateMultipartUpload => Request::CreateMultipartUpload(CreateMultipartUpload::parse(self)?),
            O::UploadPart => Request::UploadPart(UploadPart::parse(self)?),
            O::UploadPartCopy => Request::UploadPartCopy(UploadPartCopy::parse(self)?),
            O::CompleteMultipartUpload => {
                Request::CompleteMultipartUpload(CompleteMultipartUpload::parse(self)?)
            }
            O::AbortMultipartUpload => Request::AbortMultipartUpload(AbortMultipartUpload::parse(self)?),
            O::ListParts => Request::ListParts(ListParts::parse(self)?),
            O::ListMultipartUploads => Request::ListMultipartUploads(ListMultipartUploads::parse(self)?),
            _ => {
                return Err(S3Error::new(ErrorCode::NotImplemented).field("ResourceType", operation.as_str()));
            }
        })
    }

    /// The bucket's name, empty if the operation has none: routing gives every other operation one.
    pub(super) fn bucket(&self) -> String {
        self.routed.resource.bucket().unwrap_or_default().to_owned()
    }

    /// The key, empty if the operation has none.
    pub(super) fn key(&self) -> String {
        self.routed.resource.key().unwrap_or_default().to_owned()
    }

    pub(super) fn query(&self) -> &Query {
        &self.routed.query
    }

    /// A parameter of the query; an empty one is none.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query().value(name).filter(|value| !value.is_empty())
    }

    /// The upload: empty, which no upload is called, if the parameter is.
    pub(super) fn upload_id(&self) -> String {
        self.query().value("uploadId").unwrap_or_default().to_owned()
    }

    /// `x-amz-bypass-governance-retention`: "must explicitly include" it, besides the right to.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>, "Governance mode".)
    pub(super) fn bypass_governance(&self) -> bool {
        let value = self.headers.first("x-amz-bypass-governance-retention");
        value.is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
    }

    /// Refuses a request whose body nothing vouches for, where one flipped bit would be another deed.
    ///
    /// "The Content-MD5 request header is required for all Multi-Object Delete requests"
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>) unless there is a checksum. "The Content-MD5 or
    /// x-amz-sdk-checksum-algorithm header is required for any request to upload an object with a retention period configured using Object
    /// Lock." (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>, Content-MD5.) The hash that the body is compared with
    /// vouches for it as well; not for bytes that do not come in it.
    pub(super) fn check_integrity(&self) -> Result<(), S3Error> {
        let hashed = match self.payload {
            PayloadMode::Sha256(_) | PayloadMode::SignedChunks | PayloadMode::SignedChunksTrailer => true,
            PayloadMode::Unsigned | PayloadMode::UnsignedTrailer => false,
        };
        let checked = (hashed && !self.headers.contains(TOKEN))
            || self.headers.contains("content-md5")
            || request_checksum(self.headers)? != RequestChecksum::None;
        let message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
        if checked { Ok(()) } else { Err(S3Error::with_message(ErrorCode::InvalidRequest, message)) }
    }

    pub(super) fn version_id(&self) -> Result<Option<String>, S3Error> {
        match self.query().value("versionId") {
            Some("") => {
                Err(S3Error::invalid_argument("versionId", "", "Version id cannot be the empty string"))
            }
            version => Ok(version.map(str::to_owned)),
        }
    }

    /// A number in the query, within `bounds`.
    pub(super) fn number(
        &self,
        name: &'static str,
        bounds: RangeInclusive<u32>,
    ) -> Result<Option<u32>, S3Error> {
        let Some(value) = self.parameter(name) else { return Ok(None) };
        let plain = value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse().ok().filter(|number| plain && bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let message = format!("Provided {name} not an integer or within integer range");
                Err(S3Error::invalid_argument(name, value, message))
            }
        }
    }

    /// A number in a header.
    pub(super) fn header_number<T: core::str::FromStr>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, S3Error> {
        let Some(value) = self.headers.first(name) else { return Ok(None) };
        let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        match core::str::from_utf8(value).ok().filter(|_| plain).and_then(|value| value.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => {
                let message = format!("The value of {name} is no number or out of range.");
                Err(S3Error::invalid_argument(name, String::from_utf8_lossy(value), message))
            }
        }
    }

    pub(super) fn part_number(&self) -> Result<Option<u16>, S3Error> {
        let number = self.number("partNumber", 1..=u32::from(PARTS_MAX));
        let number = number.map_err(|error| S3Error { message: PART_NUMBER_MESSAGE.into(), ..error })?;
        Ok(number.and_then(|number| u16::try_from(number).ok()))
    }

    pub(super) fn required_part_number(&self) -> Result<u16, S3Error> {
        self.part_number()?.ok_or_else(|| S3Error::invalid_argument("partNumber", "", PART_NUMBER_MESSAGE))
    }

    /// `x-amz-checksum-algorithm`.
    pub(super) fn checksum_algorithm(&self) -> Result<Option<Algorithm>, S3Error> {
        let Some(value) = self.headers.first("x-amz-checksum-algorithm") else { return Ok(None) };
        let value = String::from_utf8_lossy(value);
        match Algorithm::from_name(&value) {
            Some(algorithm) => Ok(Some(algorithm)),
            None => Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                "Checksum algorithm provided is unsupported. Please try again with any of the valid types: \
                 [CRC32, CRC32C, CRC64NVME, SHA1, SHA256, SHA512, MD5, XXHASH64, XXHASH3, XXHASH128]",
            )),
        }
    }

    /// `x-amz-checksum-type`.
    pub(super) fn checksum_type(&self) -> Result<Option<ChecksumType>, S3Error> {
        let Some(value) = self.headers.first("x-amz-checksum-type") else { return Ok(None) };
        match core::str::from_utf8(value).ok().and_then(ChecksumType::from_name) {
            Some(kind) => Ok(Some(kind)),
            None => Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                "Value for x-amz-checksum-type header is invalid.",
            )),
        }
    }
}
