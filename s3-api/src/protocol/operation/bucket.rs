//! Requests for buckets and their settings.

use super::OperationName;
use super::request::Input;
use crate::protocol::error::S3Error;
use crate::protocol::xml::{CreateBucketConfiguration, VersioningConfiguration, VersioningStatus};

/// CreateBucket. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateBucket {
    /// The name.
    pub bucket: String,
    /// The region it is to be in, if one is named: the caller compares it with its own.
    pub location: Option<String>,
}

impl CreateBucket {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let location = CreateBucketConfiguration::parse(input.document)?.location_constraint;
        Ok(CreateBucket { bucket: input.bucket(), location })
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

/// A setting that buckets here have only one value of, but that clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BucketSetting {
    /// GetBucketAccelerateConfiguration: none.
    Accelerate,
    /// GetBucketAcl: the owner has full control.
    Acl,
    /// GetBucketCors: 404 `NoSuchCORSConfiguration`.
    Cors,
    /// GetBucketEncryption: 404 `ServerSideEncryptionConfigurationNotFoundError`.
    Encryption,
    /// GetBucketLifecycleConfiguration: 404 `NoSuchLifecycleConfiguration`.
    Lifecycle,
    /// GetBucketLogging: off.
    Logging,
    /// GetBucketNotificationConfiguration: none.
    Notification,
    /// GetObjectLockConfiguration: 404 `ObjectLockConfigurationNotFoundError`.
    ObjectLock,
    /// GetBucketOwnershipControls: the bucket's owner owns every object.
    OwnershipControls,
    /// GetBucketPolicy: 404 `NoSuchBucketPolicy`.
    Policy,
    /// GetBucketPolicyStatus: 404 `NoSuchBucketPolicy`.
    PolicyStatus,
    /// GetPublicAccessBlock: 404 `NoSuchPublicAccessBlockConfiguration`.
    PublicAccessBlock,
    /// GetBucketReplication: 404 `ReplicationConfigurationNotFoundError`.
    Replication,
    /// GetBucketRequestPayment: the bucket's owner pays.
    RequestPayment,
    /// GetBucketTagging: 404 `NoSuchTagSet`.
    Tagging,
    /// GetBucketWebsite: 404 `NoSuchWebsiteConfiguration`.
    Website,
}

impl BucketSetting {
    pub(super) fn of(operation: OperationName) -> Option<BucketSetting> {
        use OperationName as O;
        Some(match operation {
            O::GetBucketAccelerateConfiguration => BucketSetting::Accelerate,
            O::GetBucketAcl => BucketSetting::Acl,
            O::GetBucketCors => BucketSetting::Cors,
            O::GetBucketEncryption => BucketSetting::Encryption,
            O::GetBucketLifecycleConfiguration => BucketSetting::Lifecycle,
            O::GetBucketLogging => BucketSetting::Logging,
            O::GetBucketNotificationConfiguration => BucketSetting::Notification,
            O::GetObjectLockConfiguration => BucketSetting::ObjectLock,
            O::GetBucketOwnershipControls => BucketSetting::OwnershipControls,
            O::GetBucketPolicy => BucketSetting::Policy,
            O::GetBucketPolicyStatus => BucketSetting::PolicyStatus,
            O::GetPublicAccessBlock => BucketSetting::PublicAccessBlock,
            O::GetBucketReplication => BucketSetting::Replication,
            O::GetBucketRequestPayment => BucketSetting::RequestPayment,
            O::GetBucketTagging => BucketSetting::Tagging,
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

/// A setting that objects here have only one value of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectSetting {
    /// GetObjectAcl: the owner has full control.
    Acl,
    /// GetObjectLegalHold: 404 `NoSuchObjectLockConfiguration`.
    LegalHold,
    /// GetObjectRetention: 404 `NoSuchObjectLockConfiguration`.
    Retention,
    /// GetObjectTagging: an empty set.
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
