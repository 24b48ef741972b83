//! What goes with a version beside its bytes: tags, lists and locks, read and changed.
//!
//! What a lock forbids: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html>, "Retention modes" and "Legal
//! holds". Tags: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>.
//!
//! A change is judged by what the version has, and made only if it still has that: else it is refused with `OperationAborted`, and
//! whoever decided about it decides again.

use super::{
    authorize::Looked,
    failure::failure,
    settings::BucketState,
    tags::{headers_of, lock_of},
    versions::{read_failure, version_text, which},
};
use crate::protocol::{
    acl::Acl,
    error::{ErrorCode, S3Error},
    lock::{Retention, legal_hold_document},
    metadata::ObjectHeaders,
    operation::{ChangeObject, GetObjectSetting, ObjectChange, ObjectSetting},
    reply::Reply,
};
use bytes::Bytes;
use crossdock::{AttributesChange, CoreEngine, Error, ObjectInfo, Versioning, Which};
use std::borrow::Cow;

async fn look(
    engine: &CoreEngine,
    bucket: &str,
    key: &str,
    which: Which,
    looked: &Looked,
) -> Result<(ObjectInfo, ObjectHeaders), S3Error> {
    let found = match looked {
        Looked::Unneeded => engine.head(bucket, key.as_bytes(), which).await,
        Looked::Absent(error) => Err(error.clone()),
        Looked::Present(info) => Ok((**info).clone()),
    };
    let info = found.map_err(|error| match error {
        // What has no bytes has no tags and no lock either.
        Error::DeleteMarker(_) if which != Which::Current => S3Error::new(ErrorCode::MethodNotAllowed),
        error => read_failure(error, which),
    })?;
    let headers = headers_of(&info.attributes)?;
    Ok((info, headers))
}

/// `x-amz-version-id` of what was read or changed.
fn with_version(reply: Reply, info: &ObjectInfo) -> Reply {
    let told =
        (info.versioning != Versioning::Never).then(|| version_text(info.version, info.is_null_version));
    reply.optional("x-amz-version-id", told)
}

fn check_has_locks(bucket: &BucketState) -> Result<(), S3Error> {
    match bucket.lock {
        Some(_) => Ok(()),
        None => {
            let message = "Bucket is missing Object Lock Configuration";
            Err(S3Error::with_message(ErrorCode::InvalidRequest, message))
        }
    }
}

pub(super) async fn get<'a>(
    engine: &CoreEngine,
    bucket: &BucketState,
    request: &GetObjectSetting,
    looked: &Looked,
    name_of: impl Fn(&str) -> Option<Cow<'a, str>>,
) -> Result<Reply, S3Error> {
    if matches!(request.setting, ObjectSetting::Retention | ObjectSetting::LegalHold) {
        check_has_locks(bucket)?;
    }
    let which = which(request.version_id.as_deref())?;
    let (info, headers) = look(engine, &request.bucket, &request.key, which, looked).await?;
    let document = match request.setting {
        ObjectSetting::Tagging => headers.tags.document(),
        ObjectSetting::Acl => {
            let acl = headers.acl.filter(|_| bucket.access.has_lists());
            acl.unwrap_or_else(|| Acl::private(bucket.owner())).document(name_of)
        }
        ObjectSetting::Retention => {
            headers.lock.retention.ok_or(ErrorCode::NoSuchObjectLockConfiguration)?.document()
        }
        ObjectSetting::LegalHold => {
            legal_hold_document(headers.lock.legal_hold.ok_or(ErrorCode::NoSuchObjectLockConfiguration)?)
        }
    };
    Ok(with_version(Reply::document(document), &info))
}

/// Changes what goes with a version. `may_bypass`: the sender may pass over governance mode, and says so.
pub(super) async fn change(
    engine: &CoreEngine,
    bucket: &BucketState,
    request: &ChangeObject,
    looked: &Looked,
    now_ms: u64,
    may_bypass: bool,
) -> Result<Reply, S3Error> {
    if !matches!(request.change, ObjectChange::Tags(_)) {
        check_has_locks(bucket)?;
    }
    if let ObjectChange::Retention(Some(Retention { until_ms, .. })) = request.change
        && until_ms <= now_ms
    {
        let message = "The retain until date must be in the future!";
        return Err(S3Error::with_message(ErrorCode::InvalidArgument, message));
    }
    let reply = edit(engine, bucket, &request.key, request.version_id.as_deref(), looked, |headers| {
        match &request.change {
            ObjectChange::Tags(tags) => headers.tags = tags.clone(),
            ObjectChange::LegalHold(on) => headers.lock.legal_hold = Some(*on),
            ObjectChange::Retention(new) => {
                if !Retention::may_replace(*new, headers.lock.retention, now_ms, may_bypass) {
                    return Err(protected());
                }
                headers.lock.retention = *new;
            }
        }
        Ok(())
    });
    let reply = reply.await?;
    let removed = matches!(&request.change, ObjectChange::Tags(tags) if tags.is_empty());
    Ok(if removed { Reply { status: 204, ..reply } } else { reply })
}

/// Gives a version a list.
pub(super) async fn put_acl(
    engine: &CoreEngine,
    bucket: &BucketState,
    key: &str,
    version_id: Option<&str>,
    looked: &Looked,
    resolve: impl Fn(&str) -> Result<Acl, S3Error>,
) -> Result<Reply, S3Error> {
    edit(engine, bucket, key, version_id, looked, |headers| {
        let owner = headers.acl.as_ref().map_or(bucket.owner(), |acl| acl.owner.as_str()).to_owned();
        headers.acl = Some(resolve(&owner)?);
        Ok(())
    })
    .await
}

async fn edit(
    engine: &CoreEngine,
    bucket: &BucketState,
    key: &str,
    version_id: Option<&str>,
    looked: &Looked,
    change: impl Fn(&mut ObjectHeaders) -> Result<(), S3Error>,
) -> Result<Reply, S3Error> {
    let which = which(version_id)?;
    let (name, decided_by) = (&*bucket.info.name, Some(bucket.info.as_of()));
    let (info, mut headers) = look(engine, name, key, which, looked).await?;
    change(&mut headers)?;
    let (attributes, judged_by) = (Bytes::from(headers.encode()), Some(info.attributes.clone()));
    let change = AttributesChange { attributes, judged_by, decided_by };
    let version = Which::Version(info.version);
    match engine.set_attributes_with(name, key.as_bytes(), version, change).await {
        Ok(_) => Ok(with_version(Reply::new(200), &info)),
        // Another change came between, of the bucket too, or another version, or the version is gone.
        Err(Error::Changed | Error::NoSuchVersion) => Err(ErrorCode::OperationAborted.into()),
        Err(error) => Err(failure(error)),
    }
}

/// 403, as S3 answers for what is locked.
pub(super) fn protected() -> S3Error {
    S3Error::with_message(ErrorCode::AccessDenied, "Access Denied because object protected by object lock.")
}

/// Refuses to delete a version with these attributes while it is kept.
///
/// # Errors
/// 403 `AccessDenied`; 500 if nobody can tell.
pub(super) fn check_unlocked(attributes: &[u8], now_ms: u64, may_bypass: bool) -> Result<(), S3Error> {
    match lock_of(attributes)?.allows_delete(now_ms, may_bypass) {
        true => Ok(()),
        false => Err(protected()),
    }
}
