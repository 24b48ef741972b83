//! Requests for buckets and their settings.

use super::OperationName;
use super::request::Input;
use crate::protocol::acl::AclRequest;
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::ownership::ObjectOwnership;
use crate::protocol::tagging::TagSet;
use crate::protocol::xml::{CreateBucketConfiguration, VersioningConfiguration, VersioningStatus, XmlReader};

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

/// The longest document of what is set as it is, bytes: longer than any that S3 takes.
pub(super) const KEPT_BYTES_MAX: usize = 64 << 10;
/// The first element that does not belong there ends it.
const KEPT_ELEMENTS_MAX: u32 = 8;

/// Asks for a bucket to be what every bucket here is: PutBucketNotificationConfiguration and PutBucketLogging of nothing, and
/// PutBucketRequestPayment of its owner. Tools that take back what they set send these. Whatever else is asked for is not here.
///
/// "By default, your bucket has no event notifications configured. That is, the notification configuration will be an empty
/// NotificationConfiguration." (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html>.) "To disable logging, you use an empty
/// BucketLoggingStatus request element" (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLogging.html>); "By default, the
/// bucket owner pays for downloads from the bucket" (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketRequestPayment.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepBucketSetting {
    /// The bucket.
    pub bucket: String,
}

impl KeepBucketSetting {
    /// Whether `operation` may set a bucket to what it is, and to nothing else.
    pub const fn is_set_by(operation: OperationName) -> bool {
        Self::document_of(operation).is_some()
    }

    /// The root of the document of `operation`, and the element that is in it, with what it says.
    const fn document_of(
        operation: OperationName,
    ) -> Option<(&'static str, Option<(&'static str, &'static str)>)> {
        match operation {
            OperationName::PutBucketNotificationConfiguration => Some(("NotificationConfiguration", None)),
            OperationName::PutBucketLogging => Some(("BucketLoggingStatus", None)),
            OperationName::PutBucketRequestPayment => {
                Some(("RequestPaymentConfiguration", Some(("Payer", "BucketOwner"))))
            }
            _ => None,
        }
    }

    /// None if `input` asks for something else.
    ///
    /// # Errors
    ///
    /// 501 `NotImplemented` for a bucket that is to be different.
    pub(super) fn parse(input: &Input<'_>) -> Result<Option<Self>, S3Error> {
        let operation = input.routed.operation;
        let Some((root, wanted)) = Self::document_of(operation) else { return Ok(None) };
        let mut xml = XmlReader::new(input.document, KEPT_ELEMENTS_MAX)?;
        xml.root(root)?;
        let mut found = wanted.is_none();
        while let Some(name) = xml.child()? {
            match wanted {
                Some((element, value)) if element == name && !found && xml.text()? == value => found = true,
                _ => {
                    let error = S3Error::new(ErrorCode::NotImplemented);
                    return Err(error.field("ResourceType", operation.as_str()).field("Element", name));
                }
            }
        }
        xml.finish()?;
        match found {
            true => Ok(Some(KeepBucketSetting { bucket: input.bucket() })),
            false => Err(ErrorCode::MalformedXml.into()),
        }
    }
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
