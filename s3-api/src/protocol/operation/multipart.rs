//! Multipart uploads.

use super::request::Input;
use crate::protocol::acl::AclRequest;
use crate::protocol::checksum::{
    ChecksumType, ObjectChecksum, RequestChecksum, object_checksum, request_checksum,
};
use crate::protocol::conditions::WriteConditions;
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::metadata::{JUDGED_HEADERS, ObjectHeaders};
use crate::protocol::xml::{CompletedMultipartUpload, CompletedPart};

/// CreateMultipartUpload. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateMultipartUpload {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// What the object will carry; [`ObjectHeaders::announced`] holds the checksum it is to have.
    pub headers: ObjectHeaders,
    /// The access control list it names.
    pub acl: Option<AclRequest>,
}

impl CreateMultipartUpload {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let mut headers = ObjectHeaders::from_headers(input.headers)?;
        let kind = input.checksum_type()?;
        headers.announced = match (input.checksum_algorithm()?, kind) {
            (None, None) => None,
            (None, Some(_)) => {
                let message = "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.";
                return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
            }
            (Some(algorithm), kind) => {
                let kind = kind.unwrap_or(algorithm.default_type());
                if !algorithm.allows(kind) {
                    let message = format!(
                        "The {} checksum type cannot be used with the {} checksum algorithm.",
                        kind.name(),
                        algorithm.name()
                    );
                    return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
                }
                Some((algorithm, kind))
            }
        };
        let judged =
            |name: &&str| input.headers.first(name).map(|value| ((*name).to_owned(), value.to_vec()));
        headers.begun_with = JUDGED_HEADERS.iter().filter_map(judged).collect();
        let acl = AclRequest::from_headers(input.headers)?;
        Ok(CreateMultipartUpload { bucket: input.bucket(), key: input.key(), headers, acl })
    }
}

/// UploadPart. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadPart {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// The part, 1 to 10,000.
    pub part_number: u16,
    /// The checksum of the body.
    pub checksum: RequestChecksum,
}

impl UploadPart {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        Ok(UploadPart {
            bucket: input.bucket(),
            key: input.key(),
            upload_id: input.upload_id(),
            part_number: input.required_part_number()?,
            checksum: request_checksum(input.headers)?,
        })
    }
}

/// AbortMultipartUpload. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortMultipartUpload {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
}

impl AbortMultipartUpload {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        Ok(AbortMultipartUpload { bucket: input.bucket(), key: input.key(), upload_id: input.upload_id() })
    }
}

/// CompleteMultipartUpload. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompleteMultipartUpload {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// The parts the object is made of: at least one, numbers ascending.
    pub parts: Vec<CompletedPart>,
    /// The checksum the object must have.
    pub checksum: Option<ObjectChecksum>,
    /// The type of checksum, which must be the one announced when the upload was created.
    pub checksum_type: Option<ChecksumType>,
    /// `x-amz-mp-object-size`: the size the object must have.
    pub object_bytes: Option<u64>,
    /// When to store.
    pub conditions: WriteConditions,
}

impl CompleteMultipartUpload {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        Ok(CompleteMultipartUpload {
            bucket: input.bucket(),
            key: input.key(),
            upload_id: input.upload_id(),
            parts: CompletedMultipartUpload::parse(input.document)?.parts,
            checksum: object_checksum(input.headers)?,
            checksum_type: input.checksum_type()?,
            object_bytes: input.header_number("x-amz-mp-object-size")?,
            conditions: WriteConditions::from_headers(input.headers)?,
        })
    }
}
