//! Requests for what is kept with buckets and objects beside bytes: policies, rules, lists, tags and locks.

use super::OperationName;
use super::bucket::{KEPT_BYTES_MAX, KeepBucketSetting};
use super::request::Input;
use crate::protocol::acl::{ACL_BYTES_MAX, AclRequest};
use crate::protocol::cors::{CORS_BYTES_MAX, CorsConfiguration};
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::lifecycle::{LIFECYCLE_BYTES_MAX, LifecycleConfiguration};
use crate::protocol::lock::{LOCK_BYTES_MAX, LockConfiguration, Retention, parse_legal_hold};
use crate::protocol::ownership::{OWNERSHIP_BYTES_MAX, ObjectOwnership, PublicAccessBlock};
use crate::protocol::policy::{POLICY_BYTES_MAX, Policy, PolicyPlace};
use crate::protocol::tagging::{BUCKET_TAGS_MAX, OBJECT_TAGS_MAX, TAGGING_BYTES_MAX, TagSet};

/// A configuration that a bucket has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DocumentKind {
    /// Rules for pages of other origins. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html>
    Cors,
    /// When objects go by themselves. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html>
    Lifecycle,
    /// Object lock. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html>
    ObjectLock,
    /// Who owns objects. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketOwnershipControls.html>
    Ownership,
    /// The policy. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html>
    Policy,
    /// What is kept from the public. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutPublicAccessBlock.html>
    PublicAccess,
    /// The bucket's tags. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html>
    Tagging,
}

impl DocumentKind {
    /// Every kind.
    pub const ALL: [DocumentKind; 7] = [
        DocumentKind::Cors,
        DocumentKind::Lifecycle,
        DocumentKind::ObjectLock,
        DocumentKind::Ownership,
        DocumentKind::Policy,
        DocumentKind::PublicAccess,
        DocumentKind::Tagging,
    ];

    /// What it is stored as.
    pub const fn name(self) -> &'static str {
        match self {
            DocumentKind::Cors => "cors",
            DocumentKind::Lifecycle => "lifecycle",
            DocumentKind::ObjectLock => "object-lock",
            DocumentKind::Ownership => "ownership",
            DocumentKind::Policy => "policy",
            DocumentKind::PublicAccess => "public-access",
            DocumentKind::Tagging => "tagging",
        }
    }

    /// What is answered where there is none.
    pub const fn absent(self) -> ErrorCode {
        match self {
            DocumentKind::Cors => ErrorCode::NoSuchCorsConfiguration,
            DocumentKind::Lifecycle => ErrorCode::NoSuchLifecycleConfiguration,
            DocumentKind::ObjectLock => ErrorCode::ObjectLockConfigurationNotFound,
            DocumentKind::Ownership => ErrorCode::OwnershipControlsNotFound,
            DocumentKind::Policy => ErrorCode::NoSuchBucketPolicy,
            DocumentKind::PublicAccess => ErrorCode::NoSuchPublicAccessBlockConfiguration,
            DocumentKind::Tagging => ErrorCode::NoSuchTagSet,
        }
    }

    pub(super) fn of_get(operation: OperationName) -> Option<DocumentKind> {
        Some(match operation {
            OperationName::GetBucketCors => DocumentKind::Cors,
            OperationName::GetBucketLifecycleConfiguration => DocumentKind::Lifecycle,
            OperationName::GetObjectLockConfiguration => DocumentKind::ObjectLock,
            OperationName::GetBucketOwnershipControls => DocumentKind::Ownership,
            OperationName::GetBucketPolicy => DocumentKind::Policy,
            OperationName::GetPublicAccessBlock => DocumentKind::PublicAccess,
            OperationName::GetBucketTagging => DocumentKind::Tagging,
            _ => return None,
        })
    }

    pub(super) fn of_delete(operation: OperationName) -> Option<DocumentKind> {
        Some(match operation {
            OperationName::DeleteBucketCors => DocumentKind::Cors,
            OperationName::DeleteBucketLifecycle => DocumentKind::Lifecycle,
            OperationName::DeleteBucketOwnershipControls => DocumentKind::Ownership,
            OperationName::DeleteBucketPolicy => DocumentKind::Policy,
            OperationName::DeletePublicAccessBlock => DocumentKind::PublicAccess,
            OperationName::DeleteBucketTagging => DocumentKind::Tagging,
            _ => return None,
        })
    }

    /// The kind that `operation` sets, and the longest document of it.
    pub(super) const fn of_put(operation: OperationName) -> Option<(DocumentKind, usize)> {
        Some(match operation {
            OperationName::PutBucketCors => (DocumentKind::Cors, CORS_BYTES_MAX),
            OperationName::PutBucketLifecycleConfiguration => (DocumentKind::Lifecycle, LIFECYCLE_BYTES_MAX),
            OperationName::PutObjectLockConfiguration => (DocumentKind::ObjectLock, LOCK_BYTES_MAX),
            OperationName::PutBucketOwnershipControls => (DocumentKind::Ownership, OWNERSHIP_BYTES_MAX),
            OperationName::PutBucketPolicy => (DocumentKind::Policy, POLICY_BYTES_MAX),
            OperationName::PutPublicAccessBlock => (DocumentKind::PublicAccess, OWNERSHIP_BYTES_MAX),
            OperationName::PutBucketTagging => (DocumentKind::Tagging, TAGGING_BYTES_MAX),
            _ => return None,
        })
    }

    /// Reads a document for bucket `bucket`, and gives it as it is stored.
    ///
    /// # Errors
    ///
    /// 400 codes of each kind.
    pub fn stored(self, document: &[u8], bucket: &str) -> Result<Vec<u8>, S3Error> {
        Ok(match self {
            DocumentKind::Cors => CorsConfiguration::parse(document)?.document(),
            DocumentKind::Lifecycle => LifecycleConfiguration::parse(document)?.stored(),
            DocumentKind::ObjectLock => LockConfiguration::parse(document)?.document(),
            DocumentKind::Ownership => ObjectOwnership::parse(document)?.document(),
            DocumentKind::PublicAccess => PublicAccessBlock::parse(document)?.document(),
            DocumentKind::Tagging => TagSet::parse(document, BUCKET_TAGS_MAX)?.document(),
            DocumentKind::Policy => {
                Policy::parse(document, PolicyPlace::Bucket(bucket))?;
                document.to_vec()
            }
        })
    }
}

/// The longest document of `operation`, if it takes one of those here.
pub(super) const fn document_bytes_max(operation: OperationName) -> Option<usize> {
    if let Some((_, bytes)) = DocumentKind::of_put(operation) {
        return Some(bytes);
    }
    if KeepBucketSetting::is_set_by(operation) {
        return Some(KEPT_BYTES_MAX);
    }
    match operation {
        OperationName::PutBucketAcl | OperationName::PutObjectAcl => Some(ACL_BYTES_MAX),
        OperationName::PutObjectTagging => Some(TAGGING_BYTES_MAX),
        OperationName::PutObjectRetention | OperationName::PutObjectLegalHold => Some(LOCK_BYTES_MAX),
        _ => None,
    }
}

/// Reads a configuration of a bucket: GetBucketPolicy, GetBucketCors and others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetBucketDocument {
    /// The bucket.
    pub bucket: String,
    /// Which.
    pub kind: DocumentKind,
}

/// Sets a configuration of a bucket: PutBucketPolicy, PutBucketCors and others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBucketDocument {
    /// The bucket.
    pub bucket: String,
    /// Which.
    pub kind: DocumentKind,
    /// As it is stored.
    pub stored: Vec<u8>,
}

/// Removes a configuration of a bucket: DeleteBucketPolicy, DeleteBucketCors and others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteBucketDocument {
    /// The bucket.
    pub bucket: String,
    /// Which.
    pub kind: DocumentKind,
}

/// PutBucketAcl and PutObjectAcl. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketAcl.html>,
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAcl {
    /// The bucket.
    pub bucket: String,
    /// The key; empty for the bucket's own list.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
    /// The list.
    pub acl: AclRequest,
}

impl PutAcl {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let has_document = !input.document.trim_ascii().is_empty();
        let acl = match (AclRequest::from_headers(input.headers)?, has_document) {
            (Some(acl), false) => acl,
            (None, true) => AclRequest::parse(input.document)?,
            (Some(_), true) => return Err(ErrorCode::UnexpectedContent.into()),
            (None, false) => {
                let message = "Your request was missing a required header: x-amz-acl";
                return Err(S3Error::with_message(ErrorCode::MissingSecurityHeader, message));
            }
        };
        Ok(PutAcl { bucket: input.bucket(), key: input.key(), version_id: input.version_id()?, acl })
    }
}

/// What a request changes of a version beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectChange {
    /// PutObjectTagging, DeleteObjectTagging: its tags are these.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectTagging.html>)
    Tags(TagSet),
    /// PutObjectRetention: its retention period is this, or there is none.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html>)
    Retention(Option<Retention>),
    /// PutObjectLegalHold: its hold is on or off.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLegalHold.html>)
    LegalHold(bool),
}

/// Changes what goes with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeObject {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
    /// What.
    pub change: ObjectChange,
    /// `x-amz-bypass-governance-retention: true`.
    pub bypass_governance: bool,
}

impl ChangeObject {
    /// None if `input` asks for something else.
    pub(super) fn parse(input: &Input<'_>) -> Result<Option<Self>, S3Error> {
        let change = match input.routed.operation {
            OperationName::PutObjectTagging => {
                ObjectChange::Tags(TagSet::parse(input.document, OBJECT_TAGS_MAX)?)
            }
            OperationName::DeleteObjectTagging => ObjectChange::Tags(TagSet::default()),
            OperationName::PutObjectRetention => ObjectChange::Retention(Retention::parse(input.document)?),
            OperationName::PutObjectLegalHold => ObjectChange::LegalHold(parse_legal_hold(input.document)?),
            _ => return Ok(None),
        };
        if !matches!(change, ObjectChange::Tags(_)) {
            input.check_integrity()?;
        }
        let (bucket, key, version_id) = (input.bucket(), input.key(), input.version_id()?);
        let bypass_governance = input.bypass_governance();
        Ok(Some(ChangeObject { bucket, key, version_id, change, bypass_governance }))
    }
}
