//! CopyObject and UploadPartCopy.
//!
//! The engine copies the bytes and checks them on the way; only what is stored beside them is made here: and a checksum that neither
//! the engine nor the source has, for which the bytes are read once more.

use super::{
    authorize::Looked,
    failure::{conditional_failure, failure},
    reads::expiration,
    settings::BucketState,
    tags::{checksum_of, condition, crc64, headers_of, parse_upload, text},
    versions::{source_failure, version_id, which},
};
use crate::protocol::{
    checksum::{Algorithm, Hasher, ObjectChecksum},
    conditions::{ReadConditions, Validators},
    error::{ErrorCode, S3Error},
    etag::parse_md5_etag,
    metadata::ObjectHeaders,
    operation::{CopyObject, CopySource, UploadPartCopy},
    range::resolve_copy_range,
    reply::{self, Reply},
    tagging::TagSet,
};
use crate::server::yield_now;
use bytes::Bytes;
use crossdock::{
    BucketRevision, CommitOptions, CoreEngine, EntityTag, Error, GetOptions, ObjectInfo, Select, Which,
    WriteCondition,
};

/// "You create a copy of your object up to 5 GB in size in a single atomic action using this API."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>)
const COPY_BYTES_MAX: u64 = 5 << 30;

/// The source, judged: the version that it was decided by, and else as it is now.
async fn look(
    engine: &CoreEngine,
    source: &CopySource,
    looked: Looked,
    conditions: &ReadConditions,
) -> Result<ObjectInfo, S3Error> {
    let which = which(source.version_id.as_deref())?;
    let found = match looked {
        Looked::Unneeded => engine.head(&source.bucket, source.key.as_bytes(), which).await,
        Looked::Absent(error) => Err(error),
        Looked::Present(info) => Ok(*info),
    };
    let info = found.map_err(|error| source_failure(error, which))?;
    conditions.evaluate_copy(Validators { etag: &text(&info.etag), modified_ms: info.modified_ms })?;
    Ok(info)
}

/// The tag of a copy: its source's, if that is the MD5 of the bytes.
fn tag(info: &ObjectInfo) -> Option<EntityTag> {
    parse_md5_etag(&text(&info.etag)).map(|_| info.etag)
}

/// The checksum of the bytes that a copy takes, by reading them: the engine keeps its own only.
///
/// # Errors
/// [`Error::NoSuchVersion`] if the version that was judged is gone; as [`crossdock::Get::next`].
async fn read_checksum(
    engine: &CoreEngine,
    source: &CopySource,
    options: GetOptions,
    algorithm: Algorithm,
) -> Result<ObjectChecksum, Error> {
    let mut get = engine.get(&source.bucket, source.key.as_bytes(), options).await?;
    let mut hasher = Hasher::new(algorithm);
    while let Some(piece) = get.next().await {
        hasher.update(&piece?);
        // What is in the cache comes without waiting: others have their turn between.
        yield_now().await;
    }
    Ok(ObjectChecksum::from(hasher.finish()))
}

/// What is stored beside the copy; and the algorithm by which its checksum is still to be computed.
fn headers(request: &CopyObject, info: &ObjectInfo) -> Result<(ObjectHeaders, Option<Algorithm>), S3Error> {
    let mut missing = None;
    let stored = headers_of(&info.attributes)?;
    // The copy is one piece: a checksum of parts does not describe it, the engine's own does.
    let mut checksum = stored.checksum.filter(|checksum| checksum.part_count.is_none());
    let mut made = match &request.replace_headers {
        Some(headers) => headers.clone(),
        // The storage class is not among what is copied: it is STANDARD unless named. Nor is how an upload was begun.
        None => {
            let (storage_class, begun_with) = (request.storage_class, Vec::new());
            ObjectHeaders { storage_class, announced: None, begun_with, ..stored.clone() }
        }
    };
    made.tags = request.replace_tags.clone().unwrap_or(stored.tags);
    // Lists and locks are not handed down: they are the request's, or the bucket's defaults.
    made.lock = request.lock;
    if let Some(wanted) = request.checksum_algorithm {
        let kept = checksum.map_or(Algorithm::Crc64Nvme, |checksum| checksum.checksum.algorithm());
        match wanted {
            wanted if wanted == kept => {}
            Algorithm::Crc64Nvme => checksum = None,
            other => missing = Some(other),
        }
    }
    made.checksum = checksum;
    Ok((made, missing))
}

/// The error of a copy. Where the version that was judged is gone, the one that took its place is to be decided about, and judged.
fn copy_failure(error: Error) -> S3Error {
    match error {
        Error::NoSuchVersion => ErrorCode::OperationAborted.into(),
        error => failure(error),
    }
}

/// `looked` is the version of the source that may be read, and `hand_down` says whether a copy with these tags of its source may be made,
/// and take them along. That the target may be written was decided by its bucket.
///
/// Tags are read and written by such a copy as by GetObjectTagging and PutObjectTagging: who may not do these can do without them, and
/// replace them by none.
///
/// # Errors
/// 409 `OperationAborted` if the source was replaced, or the bucket set otherwise, meanwhile.
pub(super) async fn copy(
    engine: &CoreEngine,
    request: &CopyObject,
    bucket: &BucketState,
    looked: Looked,
    hand_down: impl AsyncFn(&ObjectInfo, &TagSet) -> Result<(), S3Error>,
    stamp: impl Fn(&mut ObjectHeaders) -> Result<(), S3Error>,
) -> Result<Reply, S3Error> {
    let source = &request.source;
    let info = look(engine, source, looked, &request.source_conditions).await?;
    if info.size > COPY_BYTES_MAX {
        let message = "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120";
        return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
    }
    let (mut headers, missing) = headers(request, &info)?;
    if request.replace_tags.is_none() {
        hand_down(&info, &headers.tags).await?;
    }
    stamp(&mut headers)?;
    let select = GetOptions { select: Select::Whole, version: Which::Version(info.version) };
    if let Some(algorithm) = missing {
        let checksum = read_checksum(engine, source, select.clone(), algorithm).await;
        headers.checksum = Some(checksum.map_err(copy_failure)?);
    }
    let options = CommitOptions {
        etag: tag(&info),
        attributes: Bytes::from(headers.encode()),
        condition: condition(&request.conditions),
        decided_by: Some(bucket.info.as_of()),
    };
    let from = (source.bucket.as_str(), source.key.as_bytes(), select);
    let made = engine.copy(from, (&request.bucket, request.key.as_bytes()), options).await;
    let made = made.map_err(|error| match error {
        Error::ConditionFailed => conditional_failure(&request.conditions, error),
        error => copy_failure(error),
    })?;
    let checksum = checksum_of(&made, &headers);
    let etag = text(&made.etag);
    let (version, source) = (version_id(&made), version_id(&info));
    let expires = expiration(bucket.lifecycle.as_deref(), request.key.as_bytes(), &made, &headers);
    let reply =
        reply::copy_object(&etag, made.modified_ms, Some(&checksum), version.as_deref(), source.as_deref());
    Ok(reply.optional("x-amz-expiration", expires))
}

/// As [`copy`], for a part.
///
/// # Errors
/// As [`copy`].
pub(super) async fn copy_part(
    engine: &CoreEngine,
    request: &UploadPartCopy,
    decided_by: BucketRevision,
    looked: Looked,
) -> Result<Reply, S3Error> {
    let source = &request.source;
    let upload = parse_upload(&request.upload_id)?;
    let (bucket, key) = (request.bucket.as_str(), request.key.as_bytes());
    let (of_upload, ..) = engine.list_parts(bucket, key, upload, 0, 1).await.map_err(failure)?;
    let announced = headers_of(&of_upload.attributes)?.announced.map(|(algorithm, _)| algorithm);
    let wanted = announced.filter(|algorithm| *algorithm != Algorithm::Crc64Nvme);
    let info = look(engine, source, looked, &request.source_conditions).await?;
    let range = request.range.map(|range| resolve_copy_range(range, info.size)).transpose()?;
    let select = match range {
        Some(range) => Select::Between(range.offset, range.offset + range.bytes - 1),
        None => Select::Whole,
    };
    let is_whole = range.is_none_or(|range| range.bytes == info.size);
    let select = GetOptions { select, version: Which::Version(info.version) };
    // The upload's algorithm binds copied parts as it binds others; the source's own checksum serves if it is that of the same bytes.
    let known = headers_of(&info.attributes)?.checksum;
    let known = known
        .filter(|known| is_whole && known.part_count.is_none() && Some(known.checksum.algorithm()) == wanted);
    let checksum = match (wanted, known) {
        (Some(algorithm), None) => {
            let checksum = read_checksum(engine, source, select.clone(), algorithm).await;
            Some(checksum.map_err(copy_failure)?)
        }
        (_, known) => known,
    };
    let options = CommitOptions {
        etag: tag(&info).filter(|_| is_whole),
        attributes: checksum.map_or_else(Bytes::new, |checksum| {
            Bytes::from(ObjectHeaders { checksum: Some(checksum), ..ObjectHeaders::default() }.encode())
        }),
        condition: WriteCondition::default(),
        decided_by: Some(decided_by),
    };
    let from = (source.bucket.as_str(), source.key.as_bytes(), select);
    let to = (bucket, key, upload, request.part_number);
    let part = engine.copy_part(from, to, options).await.map_err(copy_failure)?;
    let etag = text(&part.etag);
    let checksum = checksum.map_or_else(|| crc64(part.crc64), |checksum| checksum.checksum);
    let source = version_id(&info);
    Ok(reply::upload_part_copy(&etag, part.modified_ms, Some(&checksum), source.as_deref()))
}
