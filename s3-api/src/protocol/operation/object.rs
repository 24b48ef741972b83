//! Requests for one object, or for many to be deleted.

use super::request::Input;
use crate::protocol::acl::AclRequest;
use crate::protocol::checksum::{RequestChecksum, request_checksum};
use crate::protocol::conditions::{RangeCondition, ReadConditions, WriteConditions};
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::lock::Lock;
use crate::protocol::metadata::ObjectHeaders;
use crate::protocol::range::ByteRange;
use crate::protocol::xml::Delete;

/// PutObject. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// What to store beside the bytes. The checksum is empty until the body is known.
    pub headers: ObjectHeaders,
    /// When to store.
    pub conditions: WriteConditions,
    /// The checksum of the body.
    pub checksum: RequestChecksum,
    /// The access control list it names.
    pub acl: Option<AclRequest>,
}

impl PutObject {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let headers = ObjectHeaders::from_headers(input.headers)?;
        if headers.lock != Lock::default() {
            input.check_integrity()?;
        }
        Ok(PutObject {
            bucket: input.bucket(),
            key: input.key(),
            headers,
            conditions: WriteConditions::from_headers(input.headers)?,
            checksum: request_checksum(input.headers)?,
            acl: AclRequest::from_headers(input.headers)?,
        })
    }
}

/// Headers of the reply that a reader sets, `response-*` in the query. The order of
/// [`STORED_HEADERS`](crate::protocol::metadata::STORED_HEADERS).
pub type ResponseOverrides = [Option<String>; 6];

/// GetObject and HeadObject. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
    /// When to answer with the object.
    pub conditions: ReadConditions,
    /// Which bytes; never together with a part number.
    pub range: Option<ByteRange>,
    /// What the range is good for: if the object is another, all of it is asked for. Only with a range.
    pub if_range: Option<RangeCondition>,
    /// Which part, 1 to 10,000. An object that was not made of parts has part 1 only: itself.
    pub part_number: Option<u16>,
    /// Headers to answer with instead of the stored ones. S3 refuses them of anonymous requests.
    pub overrides: ResponseOverrides,
    /// `x-amz-checksum-mode: ENABLED`: answer with the checksum.
    pub checksum_mode: bool,
}

impl ReadObject {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        const NAMES: [&str; 6] = [
            "response-cache-control",
            "response-content-disposition",
            "response-content-encoding",
            "response-content-language",
            "response-content-type",
            "response-expires",
        ];
        let overrides = NAMES.map(|name| input.parameter(name).map(str::to_owned));
        for (name, value) in NAMES.into_iter().zip(&overrides) {
            if let Some(value) = value.as_deref().filter(|value| value.chars().any(char::is_control)) {
                return Err(S3Error::invalid_argument(name, value, "The value may not stand in a header."));
            }
        }
        let part_number = input.part_number()?;
        let range = input.headers.first("range").and_then(ByteRange::parse);
        if part_number.is_some() && input.headers.contains("range") {
            let message = "Cannot specify both Range header and partNumber query parameter";
            return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
        }
        let mode = input.headers.first("x-amz-checksum-mode");
        Ok(ReadObject {
            bucket: input.bucket(),
            key: input.key(),
            version_id: input.version_id()?,
            conditions: ReadConditions::from_headers(input.headers)?,
            if_range: range.and_then(|_| RangeCondition::from_headers(input.headers)),
            range,
            part_number,
            overrides,
            checksum_mode: mode.is_some_and(|mode| mode.eq_ignore_ascii_case(b"ENABLED")),
        })
    }
}

/// DeleteObject. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
    /// When to delete: `If-Match` only.
    pub conditions: WriteConditions,
    /// `x-amz-bypass-governance-retention: true`.
    pub bypass_governance: bool,
}

impl DeleteObject {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let conditions = WriteConditions::from_headers(input.headers)?;
        if conditions.if_none_match.is_some() {
            return Err(S3Error::header_not_implemented("If-None-Match"));
        }
        let version_id = input.version_id()?;
        let bypass_governance = input.bypass_governance();
        Ok(DeleteObject {
            bucket: input.bucket(),
            key: input.key(),
            version_id,
            conditions,
            bypass_governance,
        })
    }
}

/// DeleteObjects. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteObjects {
    /// The bucket.
    pub bucket: String,
    /// What to delete. A key too long is an error of its own line in the reply.
    pub delete: Delete,
    /// `x-amz-bypass-governance-retention: true`.
    pub bypass_governance: bool,
}

impl DeleteObjects {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        input.check_integrity()?;
        let bypass_governance = input.bypass_governance();
        Ok(DeleteObjects {
            bucket: input.bucket(),
            delete: Delete::parse(input.document)?,
            bypass_governance,
        })
    }
}

/// Which attributes a [`GetObjectAttributes`] asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeSet {
    /// `ETag`
    pub etag: bool,
    /// `Checksum`
    pub checksum: bool,
    /// `ObjectParts`
    pub object_parts: bool,
    /// `StorageClass`
    pub storage_class: bool,
    /// `ObjectSize`
    pub object_size: bool,
}

/// GetObjectAttributes. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetObjectAttributes {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
    /// When to answer.
    pub conditions: ReadConditions,
    /// What to answer: at least one.
    pub attributes: AttributeSet,
    /// The most parts to list: 0 to 1,000.
    pub parts_max: u32,
    /// List parts with greater numbers.
    pub part_number_marker: u32,
}

impl GetObjectAttributes {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        const HEADER: &str = "x-amz-object-attributes";
        let mut attributes = AttributeSet::default();
        for value in input.headers.all(HEADER).flat_map(|value| value.split(|&byte| byte == b',')) {
            match value.trim_ascii() {
                b"ETag" => attributes.etag = true,
                b"Checksum" => attributes.checksum = true,
                b"ObjectParts" => attributes.object_parts = true,
                b"StorageClass" => attributes.storage_class = true,
                b"ObjectSize" => attributes.object_size = true,
                b"" => {}
                other => {
                    let value = String::from_utf8_lossy(other);
                    return Err(S3Error::invalid_argument(
                        HEADER,
                        value,
                        "Invalid attribute name specified.",
                    ));
                }
            }
        }
        if attributes == AttributeSet::default() {
            let message = "The x-amz-object-attributes header specifying the attributes to be retrieved is either \
                           missing or empty";
            return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
        }
        Ok(GetObjectAttributes {
            bucket: input.bucket(),
            key: input.key(),
            version_id: input.version_id()?,
            conditions: ReadConditions::from_headers(input.headers)?,
            attributes,
            parts_max: input.header_number("x-amz-max-parts")?.unwrap_or(1000).min(1000),
            part_number_marker: input.header_number("x-amz-part-number-marker")?.unwrap_or(0),
        })
    }
}
