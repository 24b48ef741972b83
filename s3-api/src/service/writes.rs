//! PutObject, UploadPart, and deletes.

use super::{
    authorize::{ATTEMPTS, Looked},
    failure::{conditional_failure, failure},
    object_changes::check_unlocked,
    reads::expiration,
    settings::BucketState,
    tags::{checksum_of, condition, crc64, parse_upload, tag_match, text},
    uploads::missing_checksum,
    versions::{marker_text, which, written_id},
};
use crate::{
    protocol::{
        body::Digests,
        checksum::{Algorithm, Checksum, ObjectChecksum},
        conditions::WriteConditions,
        error::{ErrorCode, S3Error},
        etag::md5_etag,
        lifecycle::LifecycleConfiguration,
        metadata::ObjectHeaders,
        operation::{DeleteObject, DeleteObjects, PutObject, Resource, UploadPart},
        reply::{self, DeleteOutcome, Reply},
        xml::ObjectIdentifier,
    },
    server::{Body, yield_now},
};
use bytes::Bytes;
use crossdock::{
    BucketRevision, CommitOptions, CoreEngine, Delete, Deleted, EntityTag, Error, Put, PutOptions, TagMatch,
    Which, WriteCondition,
};
use std::sync::Arc;

/// The largest body of one request.
///
/// "Upload an object in a single operation … up to 5 GB in size."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html>)
pub(super) const BODY_BYTES_MAX: u64 = 5 << 30;

/// The declared size of a body: S3 takes none without.
fn size_of(body: &Body<'_>) -> Result<u64, S3Error> {
    check_size(body.declared_bytes().ok_or(ErrorCode::MissingContentLength)?)
}

/// Refuses what is larger than one request may bring.
pub(super) fn check_size(size: u64) -> Result<u64, S3Error> {
    if size > BODY_BYTES_MAX {
        return Err(S3Error::new(ErrorCode::EntityTooLarge)
            .field("ProposedSize", size.to_string())
            .field("MaxSizeAllowed", BODY_BYTES_MAX.to_string()));
    }
    Ok(size)
}

/// Moves the body into `put`, and compares its digests.
async fn receive(put: &mut Put, body: &mut Body<'_>, size: u64) -> Result<Digests, S3Error> {
    while put.received() < size {
        let lease = put.buffer().await.map_err(failure)?;
        let left = usize::try_from(size - put.received()).unwrap_or(usize::MAX);
        let lease = body.fill(lease, put.buffer_bytes().min(left)).await?;
        if lease.is_empty() {
            return Err(ErrorCode::IncompleteBody.into());
        }
        put.push(lease).await.map_err(failure)?;
    }
    body.finish().await
}

/// The tag that MD5 makes.
pub(super) fn etag_of(md5: &[u8; 16]) -> Result<EntityTag, S3Error> {
    Ok(EntityTag::new(md5_etag(md5).as_bytes()).ok_or(ErrorCode::InternalError)?)
}

/// The tag of what was received, and its checksum if it is to be stored: the engine keeps CRC64NVME by itself.
fn outcome(digests: &Digests) -> Result<(Option<EntityTag>, Option<Checksum>), S3Error> {
    let etag = etag_of(&digests.md5.ok_or(ErrorCode::InternalError)?)?;
    let stored = digests.checksum.filter(|checksum| checksum.algorithm() != Algorithm::Crc64Nvme);
    Ok((Some(etag), stored))
}

/// Finds out, before bytes are moved for nothing, whether the bucket is there and the conditions hold now.
pub(super) async fn precheck(
    engine: &CoreEngine,
    bucket: &str,
    key: &[u8],
    conditions: &WriteConditions,
) -> Result<(), S3Error> {
    let condition = condition(conditions);
    if condition == WriteCondition::default() {
        return Ok(());
    }
    let current = match engine.head(bucket, key, Which::Current).await {
        Ok(info) => Some(info.etag),
        Err(Error::NoSuchKey | Error::DeleteMarker(_)) => None,
        Err(error) => return Err(failure(error)),
    };
    condition.check(current).map_err(|error| conditional_failure(conditions, error))
}

/// `settle` has the last word on what is stored, once the bytes are there.
pub(super) async fn put(
    engine: &CoreEngine,
    mut request: PutObject,
    body: &mut Body<'_>,
    settle: impl AsyncFnOnce(&mut PutObject) -> Result<Arc<BucketState>, S3Error>,
) -> Result<Reply, S3Error> {
    let size = size_of(body)?;
    let key = request.key.as_bytes();
    // Before the body is asked for: a client that waits for permission is spared the trouble.
    if body.is_held_back() {
        precheck(engine, &request.bucket, key, &request.conditions).await?;
    }
    let mut put = engine.put(&request.bucket, key, PutOptions { size: Some(size) }).await.map_err(failure)?;
    let digests = receive(&mut put, body, size).await?;
    let (etag, checksum) = outcome(&digests)?;
    let bucket = settle(&mut request).await?;
    commit(put, request, (etag, checksum), bucket.info.as_of(), bucket.lifecycle.as_deref()).await
}

/// Commits what `put` took, as was decided. Without a tag the engine makes one.
pub(super) async fn commit(
    put: Put,
    request: PutObject,
    (etag, checksum): (Option<EntityTag>, Option<Checksum>),
    decided_by: BucketRevision,
    lifecycle: Option<&LifecycleConfiguration>,
) -> Result<Reply, S3Error> {
    let PutObject { key, mut headers, conditions, .. } = request;
    headers.checksum = checksum.map(ObjectChecksum::from);
    let (attributes, condition) = (Bytes::from(headers.encode()), condition(&conditions));
    let options = CommitOptions { etag, attributes, condition, decided_by: Some(decided_by) };
    let info = put.finish(options).await.map_err(|error| conditional_failure(&conditions, error))?;
    let stored = checksum_of(&info, &headers);
    let expires = expiration(lifecycle, key.as_bytes(), &info, &headers);
    let reply = reply::put_object(&text(&info.etag), written_id(&info).as_deref(), Some(&stored), false);
    Ok(reply.optional("x-amz-expiration", expires))
}

pub(super) async fn put_part(
    engine: &CoreEngine,
    request: &UploadPart,
    body: &mut Body<'_>,
    settle: impl AsyncFnOnce() -> Result<BucketRevision, S3Error>,
) -> Result<Reply, S3Error> {
    let size = size_of(body)?;
    let (mut put, missing) = begin_part(engine, request, size).await?;
    if let Some(algorithm) = missing {
        body.compute(algorithm);
    }
    let digests = receive(&mut put, body, size).await?;
    let outcome = outcome(&digests)?;
    let decided_by = settle().await?;
    commit_part(put, outcome, decided_by).await
}

/// Begins a part of an upload that is there; and says by what algorithm its checksum is to be computed, if the upload needs one that
/// the request does not bring.
pub(super) async fn begin_part(
    engine: &CoreEngine,
    request: &UploadPart,
    size: u64,
) -> Result<(Put, Option<Algorithm>), S3Error> {
    let upload = parse_upload(&request.upload_id)?;
    let (bucket, key) = (request.bucket.as_str(), request.key.as_bytes());
    let (info, ..) = engine.list_parts(bucket, key, upload, 0, 1).await.map_err(failure)?;
    let missing = missing_checksum(&info, request.checksum.algorithm())?;
    let options = PutOptions { size: Some(size) };
    let put = engine.put_part(bucket, key, upload, request.part_number, options).await.map_err(failure)?;
    Ok((put, missing))
}

/// As [`commit`].
pub(super) async fn commit_part(
    put: Put,
    (etag, stored): (Option<EntityTag>, Option<Checksum>),
    decided_by: BucketRevision,
) -> Result<Reply, S3Error> {
    let attributes = stored.map_or_else(Bytes::new, |checksum| {
        let checksum = Some(ObjectChecksum::from(checksum));
        Bytes::from(ObjectHeaders { checksum, ..ObjectHeaders::default() }.encode())
    });
    let decided_by = Some(decided_by);
    let options = CommitOptions { etag, attributes, condition: WriteCondition::default(), decided_by };
    let part = put.finish_part(options).await.map_err(failure)?;
    let checksum = ObjectChecksum::from(stored.unwrap_or_else(|| crc64(part.crc64)));
    Ok(reply::put_object(&text(&part.etag), None, Some(&checksum), true))
}

/// Removes the version that is named, or the key: for good or behind a delete marker, as the bucket keeps versions.
///
/// The reply names the marker that was made or removed, and the version that was named. "x-amz-delete-marker: Indicates whether the
/// specified object version that was permanently deleted was (true) or was not (false) a delete marker before deletion. In a simple
/// DELETE, this header indicates whether (true) or not (false) the current version of the object is a delete marker."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>, Response Elements.)
pub(super) async fn delete(
    engine: &CoreEngine,
    request: &DeleteObject,
    decided: DeleteDecided,
) -> Result<Reply, S3Error> {
    let which = which(request.version_id.as_deref())?;
    let condition = condition(&request.conditions);
    let delete = Delete { which, condition, ..Delete::current(request.key.as_bytes()) };
    let delete = decided.bind(engine, &request.bucket, delete).await?;
    let deleted = decided.answer(engine.delete(&request.bucket, delete).await);
    let deleted = deleted.map_err(|error| conditional_failure(&request.conditions, error))?;
    let version = request.version_id.clone().or_else(|| deleted.marker.as_ref().map(marker_text));
    Ok(reply::delete_object(version.as_deref(), deleted.marker.is_some()))
}

/// How many objects of a DeleteObjects are judged before others have their turn.
const JUDGED_AT_ONCE: usize = 16;

/// By what a delete was decided.
pub(super) struct DeleteDecided {
    pub(super) bucket: BucketRevision,
    pub(super) looked: Looked,
    pub(super) now_ms: u64,
    /// The sender may pass over governance mode, and says so.
    pub(super) may_bypass: bool,
}

impl DeleteDecided {
    /// Has a delete be done only if what it was decided by is still so. A version that may be locked is judged by what it has itself,
    /// whatever its bucket was set to when the request came.
    ///
    /// # Errors
    /// 403 `AccessDenied` for a version that is kept; 500 if nobody can tell.
    async fn bind(&self, engine: &CoreEngine, bucket: &str, delete: Delete) -> Result<Delete, S3Error> {
        let mut delete = Delete { decided_by: Some(self.bucket), ..delete };
        let found;
        let judged = match &self.looked {
            Looked::Present(info) => {
                delete.version = Some(info.version);
                Some(&**info)
            }
            Looked::Absent(_) => {
                delete.condition.if_none_match = Some(TagMatch::Any);
                None
            }
            // Where there are locks a delete that names no version leaves a marker, and removes nothing.
            Looked::Unneeded if delete.which == Which::Current => None,
            Looked::Unneeded => match engine.head(bucket, &delete.key, delete.which).await {
                Ok(info) => {
                    found = info;
                    Some(&found)
                }
                Err(Error::NoSuchVersion | Error::NoSuchKey | Error::DeleteMarker(_)) => None,
                Err(error) => return Err(failure(error)),
            },
        };
        if let Some(info) = judged {
            if delete.which != Which::Current {
                check_unlocked(&info.attributes, self.now_ms, self.may_bypass)?;
            }
            delete.attributes = Some(info.attributes.clone());
        }
        Ok(delete)
    }

    /// What became of it: [`Error::Changed`] if it is to be decided anew, as it is too where there was nothing and now is something.
    fn answer(&self, deleted: Result<Deleted, Error>) -> Result<Deleted, Error> {
        match (deleted, &self.looked) {
            (Err(Error::ConditionFailed), Looked::Absent(_)) => Err(Error::Changed),
            (deleted, _) => deleted,
        }
    }
}

/// What the engine is asked for one object of a DeleteObjects.
fn delete_of(bucket: &str, object: &ObjectIdentifier) -> Result<Delete, S3Error> {
    let resource = Resource::Object { bucket: bucket.into(), key: object.key.clone() };
    resource.check()?;
    // In the midst of others what never was a version is one that is not there.
    let which = which(object.version_id.as_deref()).map_err(|_| S3Error::new(ErrorCode::NoSuchVersion))?;
    let if_match = object.if_match.as_ref().map(tag_match);
    let condition = WriteCondition { if_match, if_none_match: None };
    Ok(Delete { which, condition, ..Delete::current(object.key.as_bytes()) })
}

/// `judge` says of an object, which is this resource, whether it may be deleted, in `bucket` or in what `anew` says that it has become. Where
/// that or the object changed before the delete, it is judged again.
pub(super) async fn delete_many(
    engine: &CoreEngine,
    request: &DeleteObjects,
    mut bucket: Arc<BucketState>,
    anew: impl AsyncFn() -> Result<Arc<BucketState>, S3Error>,
    judge: impl AsyncFn(&BucketState, &ObjectIdentifier, &Resource) -> Result<DeleteDecided, S3Error>,
) -> Result<Reply, S3Error> {
    let name = request.bucket.as_str();
    let objects = &request.delete.objects;
    let mut results = vec![Err(S3Error::from(ErrorCode::OperationAborted)); objects.len()];
    let mut due: Vec<_> = objects.iter().zip(&mut results).collect();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            match anew().await {
                Ok(now) => bucket = now,
                Err(error) => {
                    due.iter_mut().for_each(|(_, result)| **result = Err(error.clone()));
                    break;
                }
            }
        }
        let mut deletes = Vec::with_capacity(due.len());
        let mut decided = Vec::with_capacity(due.len());
        for (index, (object, result)) in due.into_iter().enumerate() {
            // A policy may be long, and each key is judged by all of it: others have their turn between.
            if index % JUDGED_AT_ONCE == JUDGED_AT_ONCE - 1 {
                yield_now().await;
            }
            let resource = Resource::Object { bucket: name.into(), key: object.key.clone() };
            let judged = async {
                let decided = judge(&bucket, object, &resource).await?;
                let delete = decided.bind(engine, name, delete_of(name, object)?).await?;
                Ok((decided, delete))
            };
            match judged.await {
                Ok((by, delete)) => {
                    deletes.push(delete);
                    decided.push((by, object, result));
                }
                Err(refusal) => *result = Err(refusal),
            }
        }
        // All at once, so that they share batches of the log; the answers are in the order of the request.
        let answers = match engine.delete_many(name, deletes).await {
            Ok(answers) => answers,
            Err(error) if attempt == 0 => return Err(failure(error)),
            // Some are gone by now, and are told so.
            Err(error) => vec![Err(error); decided.len()],
        };
        due = Vec::new();
        for ((by, object, result), answer) in decided.into_iter().zip(answers) {
            match by.answer(answer) {
                Err(Error::Changed) => due.push((object, result)),
                answer => {
                    let marker = |deleted: Deleted| deleted.marker.as_ref().map(marker_text);
                    *result = answer.map(marker).map_err(failure);
                }
            }
        }
        if due.is_empty() {
            break;
        }
    }
    let outcomes = objects.iter().zip(&results).map(|(object, result)| DeleteOutcome {
        key: &object.key,
        version_id: object.version_id.as_deref(),
        marker_version_id: result.as_ref().ok().and_then(Option::as_deref),
        result: result.as_ref().map(|_| ()).map_err(S3Error::clone),
    });
    Ok(reply::delete_objects(outcomes, request.delete.quiet))
}
