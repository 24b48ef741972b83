//! What an object gets beyond what its writer says: an owner, a list, a retention period.

use super::{identity::Credentials, settings::BucketState};
use crate::protocol::{
    acl::{Acl, AclRequest, CannedAcl},
    error::{ErrorCode, S3Error},
    lock::Lock,
    metadata::ObjectHeaders,
    ownership::ObjectOwnership,
};

/// The owner of what nobody signed for: "When an anonymous user uploads an object to your bucket, Amazon S3 adds a special canonical
/// user ID (65a011a29cdf8ec533ec3d1ccaae921c) as the object owner in the ACL."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>, "Finding an AWS account canonical user ID".)
pub(super) const ANONYMOUS: &str = "65a011a29cdf8ec533ec3d1ccaae921c";

/// Resolves a list for something in `bucket` that `owner` owns.
///
/// # Errors
/// 403 `AccessDenied` for a public list where those are blocked; those of [`AclRequest::resolve`].
pub(super) fn resolve(
    request: &AclRequest,
    owner: &str,
    bucket: &BucketState,
    credentials: &dyn Credentials,
) -> Result<Acl, S3Error> {
    let by_email = |email: &str| credentials.account_by_email(email).map(|account| account.id.to_string());
    let is_account = |id: &str| credentials.account(id).is_some();
    let acl = request.resolve(owner, bucket.owner(), by_email, is_account)?;
    check_public(&acl, bucket)?;
    Ok(acl)
}

/// Refuses a public list where those are blocked.
fn check_public(acl: &Acl, bucket: &BucketState) -> Result<(), S3Error> {
    match bucket.access.block.block_public_acls && acl.is_public() {
        true => Err(ErrorCode::AccessDenied.into()),
        false => Ok(()),
    }
}

/// Refuses a list where lists have no say, unless it says what is so anyway.
///
/// "your bucket accepts only PUT requests that do not specify an ACL or PUT requests with bucket owner full control ACLs, such as the
/// bucket-owner-full-control canned ACL or equivalent forms of this ACL expressed in XML"; others "fail and return a 400 error with
/// the error code AccessControlListNotSupported".
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>, the introduction.) `private` is taken too: it
/// grants nothing to anybody else, and older clients send it always.
pub(super) fn check_lists(request: &AclRequest, bucket: &BucketState) -> Result<(), S3Error> {
    let harmless = match request {
        AclRequest::Canned(canned) => {
            matches!(canned, CannedAcl::BucketOwnerFullControl | CannedAcl::Private)
        }
        AclRequest::Grants { grants, .. } => *grants == Acl::private(bucket.owner()).grants,
    };
    match bucket.access.has_lists() || harmless {
        true => Ok(()),
        false => Err(ErrorCode::AccessControlListNotSupported.into()),
    }
}

/// Completes what is stored with a new version in `bucket`, which the account `writer` writes.
///
/// # Errors
/// 400 `AccessControlListNotSupported`, `InvalidRequest` for a lock where there are none, `InvalidArgument` for one that is over.
pub(super) fn stamp(
    headers: &mut ObjectHeaders,
    request: Option<&AclRequest>,
    bucket: &BucketState,
    writer: &str,
    credentials: &dyn Credentials,
    now_ms: u64,
) -> Result<(), S3Error> {
    if let Some(request) = request {
        check_lists(request, bucket)?;
    }
    headers.acl = match bucket.access.has_lists() {
        false => None,
        true => {
            let owned = bucket.access.ownership == ObjectOwnership::BucketOwnerPreferred
                && request == Some(&AclRequest::Canned(CannedAcl::BucketOwnerFullControl));
            let owner = if owned { bucket.owner() } else { writer };
            let acl = match request {
                Some(request) => resolve(request, owner, bucket, credentials)?,
                None => Acl::private(owner),
            };
            // What is not stored is the owner's alone.
            (acl != Acl::private(bucket.owner())).then_some(acl)
        }
    };
    stamp_lock(&mut headers.lock, bucket, now_ms)
}

/// Has what an upload was begun with be what it would be if it began now: its bucket may have come to keep objects, to block what is
/// public, to own everything, or what its writer gives to its owner. What was the bucket's owner's when the upload was begun stays so.
///
/// # Errors
/// 403 `AccessDenied` and 400 `AccessControlListNotSupported` for a list that would be refused now. It is not left out instead: an object
/// that is not what was asked for would be there.
pub(super) fn settle(headers: &mut ObjectHeaders, bucket: &BucketState, now_ms: u64) -> Result<(), S3Error> {
    if gives_away(headers) && bucket.access.ownership == ObjectOwnership::BucketOwnerPreferred {
        headers.acl = None;
    }
    match &headers.acl {
        Some(acl) if bucket.access.has_lists() => check_public(acl, bucket)?,
        Some(acl) if acl.reaches_beyond(&[&acl.owner, bucket.owner()]) => {
            return Err(ErrorCode::AccessControlListNotSupported.into());
        }
        // What is its writer's alone is the bucket's owner's where that owns everything.
        _ => headers.acl = None,
    }
    keep(&mut headers.lock, bucket, now_ms);
    Ok(())
}

/// Whether an upload was begun with the list by which its writer has the bucket's owner own what it becomes, where that is preferred.
///
/// "Bucket owner preferred – The bucket owner owns and has full control over new objects that other accounts write to the bucket with the
/// bucket-owner-full-control canned ACL."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>, "Object Ownership settings".)
fn gives_away(headers: &ObjectHeaders) -> bool {
    let canned = headers.begun_with.iter().find(|(name, _)| name == "x-amz-acl");
    canned.is_some_and(|(_, value)| CannedAcl::parse(value) == Ok(CannedAcl::BucketOwnerFullControl))
}

/// Has an object kept as long as its bucket keeps those that say nothing, if it says nothing.
fn keep(lock: &mut Lock, bucket: &BucketState, now_ms: u64) {
    let default = bucket.lock.as_ref().and_then(|configuration| configuration.retention(now_ms));
    lock.retention = lock.retention.or(default);
}

fn stamp_lock(lock: &mut Lock, bucket: &BucketState, now_ms: u64) -> Result<(), S3Error> {
    if bucket.lock.is_none() {
        if *lock != Lock::default() {
            let message = "Bucket is missing Object Lock Configuration";
            return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
        }
        return Ok(());
    }
    match lock.retention {
        Some(retention) if !retention.is_active(now_ms) => {
            let message = "The retain until date must be in the future!";
            Err(S3Error::with_message(ErrorCode::InvalidArgument, message))
        }
        Some(_) => Ok(()),
        None => {
            keep(lock, bucket, now_ms);
            Ok(())
        }
    }
}
