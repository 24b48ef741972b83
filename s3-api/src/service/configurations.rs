//! What buckets are set to: policies, rules, ownership, tags, lists.
//!
//! What the block of public access refuses when it is set, and not only when it is used:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html>, "Block public access settings".

use super::{
    failure::failure,
    settings::{ACL_DOCUMENT, BucketState},
};
use crate::protocol::{
    acl::Acl,
    error::{ErrorCode, S3Error},
    lifecycle::{LifecycleConfiguration, TransitionMinimum},
    lock::LockConfiguration,
    operation::{DeleteBucketDocument, DocumentKind, GetBucketDocument, OperationName, PutBucketDocument},
    ownership::ObjectOwnership,
    policy::{Policy, PolicyPlace},
    reply::{self, Reply},
};
use bytes::Bytes;
use crossdock::{BucketChange, CoreEngine, Error, Versioning};

pub(super) fn get(bucket: &BucketState, request: &GetBucketDocument) -> Result<Reply, S3Error> {
    match bucket.info.documents.get(request.kind.name()) {
        Some(document) => Ok(match (request.kind, &bucket.lifecycle) {
            (DocumentKind::Policy, _) => Reply::json(document.to_vec()),
            (DocumentKind::Lifecycle, Some(rules)) => with_minimum(Reply::document(rules.document()), rules),
            _ => Reply::document(document.to_vec()),
        }),
        None => Err(request.kind.absent().into()),
    }
}

fn with_minimum(reply: Reply, rules: &LifecycleConfiguration) -> Reply {
    reply.header(TransitionMinimum::HEADER, rules.transition_minimum.name())
}

/// Sets one, unless something else that is set forbids it.
pub(super) async fn put(
    engine: &CoreEngine,
    bucket: &BucketState,
    request: PutBucketDocument,
) -> Result<Reply, S3Error> {
    match request.kind {
        DocumentKind::Policy => check_policy(bucket, &request.stored)?,
        DocumentKind::ObjectLock => check_lock(bucket, &request.stored)?,
        DocumentKind::Ownership => check_ownership(bucket, &request.stored)?,
        _ => {}
    }
    // A lock stands on versioning as it was looked at, and ownership on the list. Of two others at once the later stays.
    let told = match request.kind {
        DocumentKind::Lifecycle => Some(LifecycleConfiguration::parse(&request.stored)?),
        _ => None,
    };
    let stands_on_another = matches!(request.kind, DocumentKind::ObjectLock | DocumentKind::Ownership);
    let revision = stands_on_another.then_some(bucket.info.revision);
    change(engine, bucket, request.kind.name(), Some(request.stored), revision).await?;
    let status = if request.kind == DocumentKind::Policy { 204 } else { 200 };
    Ok(told.iter().fold(Reply::new(status), with_minimum))
}

pub(super) async fn delete(
    engine: &CoreEngine,
    bucket: &BucketState,
    request: &DeleteBucketDocument,
) -> Result<Reply, S3Error> {
    if bucket.info.documents.contains_key(request.kind.name()) {
        change(engine, bucket, request.kind.name(), None, None).await?;
    }
    Ok(Reply::new(204))
}

pub(super) async fn put_acl(engine: &CoreEngine, bucket: &BucketState, acl: &Acl) -> Result<Reply, S3Error> {
    change(engine, bucket, ACL_DOCUMENT, Some(acl.encode()), None).await?;
    Ok(Reply::new(200))
}

async fn change(
    engine: &CoreEngine,
    bucket: &BucketState,
    name: &str,
    document: Option<Vec<u8>>,
    revision: Option<u64>,
) -> Result<(), S3Error> {
    // Of the bucket that was decided about, and of none that has its name since.
    let change = BucketChange {
        documents: vec![(name.into(), document.map(Bytes::from))],
        bucket: Some(bucket.info.bucket),
        revision,
        versioning: None,
    };
    match engine.change_bucket(&bucket.info.name, change).await {
        Ok(_) => Ok(()),
        Err(Error::InvalidArgument(_)) => {
            let message = "The configurations of this bucket are larger than it may have in all.";
            Err(S3Error::with_message(ErrorCode::InvalidRequest, message))
        }
        Err(error) => Err(failure(error)),
    }
}

/// "BlockPublicPolicy: … Setting this element to TRUE causes Amazon S3 to reject calls to PUT Bucket policy if the specified bucket
/// policy allows public access."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PublicAccessBlockConfiguration.html>.)
fn check_policy(bucket: &BucketState, document: &[u8]) -> Result<(), S3Error> {
    let policy = Policy::parse(document, PolicyPlace::Bucket(&bucket.info.name))?;
    if bucket.access.block.block_public_policy && policy.is_public() {
        return Err(ErrorCode::AccessDenied.into());
    }
    Ok(())
}

/// "If your bucket ACL grants access outside of your AWS account, first, you must migrate your bucket ACL permissions to your bucket
/// policy." (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-ownership-migrating-acls-prerequisites.html>.)
fn check_ownership(bucket: &BucketState, document: &[u8]) -> Result<(), S3Error> {
    let is_enforced = ObjectOwnership::parse(document)? == ObjectOwnership::BucketOwnerEnforced;
    match is_enforced && bucket.access.acl.reaches_beyond(&[bucket.owner()]) {
        true => Err(ErrorCode::InvalidBucketAclWithObjectOwnership.into()),
        false => Ok(()),
    }
}

/// "You can enable Object Lock for new or existing buckets."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html>.) "Before you lock any objects, you must enable
/// S3 Versioning and Object Lock"; "After you enable Object Lock on a bucket, you can't disable Object Lock or suspend versioning for
/// that bucket." (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-configure.html>.)
fn check_lock(bucket: &BucketState, document: &[u8]) -> Result<(), S3Error> {
    LockConfiguration::parse(document)?;
    match bucket.info.versioning {
        Versioning::Enabled => Ok(()),
        Versioning::Never | Versioning::Suspended => Err(S3Error::with_message(
            ErrorCode::InvalidBucketState,
            "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
        )),
    }
}

/// What a bucket answers that has no document of its own for it.
pub(super) fn setting<'a>(
    bucket: &BucketState,
    operation: OperationName,
    name_of: impl Fn(&str) -> Option<std::borrow::Cow<'a, str>>,
) -> Result<Reply, S3Error> {
    match operation {
        OperationName::GetBucketAcl => Ok(Reply::document(bucket.access.acl.document(name_of))),
        OperationName::GetBucketPolicyStatus => Ok(reply::policy_status(bucket.access.is_public())),
        _ => reply::default_configuration(operation).unwrap_or(Err(ErrorCode::NotImplemented.into())),
    }
}
