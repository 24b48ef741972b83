//! Requests for buckets and their settings.

use super::OperationName;
use super::request::Input;
use crate::protocol::acl::AclRequest;
use crate::protocol::error::S3Error;
use crate::protocol::ownership::ObjectOwnership;
use crate::protocol::tagging::TagSet;
use crate::protocol::xml::{CreateBucketConfiguration, VersioningConfiguration, VersioningStatus};

/// CreateBucket. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateBucket {
    /// The name.
    pub bucket: String,
    /// The region it is to be in, if one is named: the caller compares it with its own.
    pub location: Option<String>,
    /// Its tags.
    pub tags: TagSet,
    /// Whether its objects can be locked.
    pub object_lock: bool,
    /// Who will own its objects, if that is said.
    pub ownership: Option<ObjectOwnership>,
    /// The access control list it names.
    pub acl: Option<AclRequest>,
}

impl CreateBucket {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let CreateBucketConfiguration { location_constraint: location, tags } =
            CreateBucketConfiguration::parse(input.document)?;
        let object_lock = match input.headers.first("x-amz-bucket-object-lock-enabled") {
            None => false,
            Some(value) if value.eq_ignore_ascii_case(b"true") => true,
            Some(value) if value.eq_ignore_ascii_case(b"false") => false,
            Some(value) => {
                let (name, value) = ("x-amz-bucket-object-lock-enabled", String::from_utf8_lossy(value));
                return Err(S3Error::invalid_argument(name, value, "The value must be true or false."));
            }
        };
        let ownership = ObjectOwnership::from_headers(input.headers)?;
        let acl = AclRequest::from_headers(input.headers)?;
        Ok(CreateBucket { bucket: input.bucket(), location, tags, object_lock, ownership, acl })
    }
}

/// HeadBucket. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadBucket {
    /// The bucket.
    pub bucket: String,
}

/// DeleteBucket. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteBucket {
    /// The bucket.
    pub bucket: String,
}

/// GetBucketLocation. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetBucketLocation {
    /// The bucket.
    pub bucket: String,
}

/// GetBucketVersioning. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetBucketVersioning {
    /// The bucket.
    pub bucket: String,
}

/// PutBucketVersioning. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBucketVersioning {
    /// The bucket.
    pub bucket: String,
    /// Whether it is to keep versions.
    pub status: VersioningStatus,
}

impl PutBucketVersioning {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let status = VersioningConfiguration::parse(input.document)?.status;
        Ok(PutBucketVersioning { bucket: input.bucket(), status })
    }
}

/// What clients ask of a bucket that is no document of its own, or that buckets here have only one value of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketSetting {
    /// GetBucketAccelerateConfiguration: none.
    Accelerate,
    /// GetBucketAcl: its list.
    Acl,
    /// GetBucketEncryption: 404 `ServerSideEncryptionConfigurationNotFoundError`.
    Encryption,
    /// GetBucketLogging: off.
    Logging,
    /// GetBucketNotificationConfiguration: none.
    Notification,
    /// GetBucketPolicyStatus: whether it is public.
    PolicyStatus,
    /// GetBucketReplication: 404 `ReplicationConfigurationNotFoundError`.
    Replication,
    /// GetBucketRequestPayment: the bucket's owner pays.
    RequestPayment,
    /// GetBucketWebsite: 404 `NoSuchWebsiteConfiguration`.
    Website,
}

impl BucketSetting {
    pub(super) fn of(operation: OperationName) -> Option<BucketSetting> {
        use OperationName as O;
        Some(match operation {
            O::GetBucketAccelerateConfiguration => BucketSetting::Accelerate,
            O::GetBucketAcl => BucketSetting::Acl,
            O::GetBucketEncryption => BucketSetting::Encryption,
            O::GetBucketLogging => BucketSetting::Logging,
            O::GetBucketNotificationConfiguration => BucketSetting::Notification,
            O::GetBucketPolicyStatus => BucketSetting::PolicyStatus,
            O::GetBucketReplication => BucketSetting::Replication,
            O::GetBucketRequestPayment => BucketSetting::RequestPayment,
            O::GetBucketWebsite => BucketSetting::Website,
            _ => return None,
        })
    }
}

/// Asks for a [`BucketSetting`] of a bucket that must exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetBucketSetting {
    /// The bucket.
    pub bucket: String,
    /// What to answer.
    pub setting: BucketSetting,
}

/// What is kept with an object beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectSetting {
    /// GetObjectAcl.
    Acl,
    /// GetObjectLegalHold: 404 `NoSuchObjectLockConfiguration` if it never had one.
    LegalHold,
    /// GetObjectRetention: 404 `NoSuchObjectLockConfiguration` if it has none.
    Retention,
    /// GetObjectTagging.
    Tagging,
}

impl ObjectSetting {
    pub(super) fn of(operation: OperationName) -> Option<ObjectSetting> {
        Some(match operation {
            OperationName::GetObjectAcl => ObjectSetting::Acl,
            OperationName::GetObjectLegalHold => ObjectSetting::LegalHold,
            OperationName::GetObjectRetention => ObjectSetting::Retention,
            OperationName::GetObjectTagging => ObjectSetting::Tagging,
            _ => return None,
        })
    }
}

/// Asks for an [`ObjectSetting`] of an object that must exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetObjectSetting {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
    /// What to answer.
    pub setting: ObjectSetting,
}
