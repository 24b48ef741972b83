//! Multipart uploads, but for the parts' bytes.
//!
//! The upload's attributes are the future object's headers, with the checksum that CreateMultipartUpload announced; each
//! part's attributes hold its checksum, if it is another than the engine's own.

use super::{
    Owners,
    failure::{conditional_failure, failure},
    reads::{expiration, with_abort},
    settings::BucketState,
    stamp,
    tags::{condition, crc64, headers_of, listed_headers_of, parse_upload, text, upload_text},
};
use crate::protocol::{
    checksum::{Algorithm, Checksum, ChecksumType, ObjectChecksum, composite, full_object},
    error::{ErrorCode, S3Error},
    etag::{multipart_etag, parse_md5_etag},
    lifecycle::LifecycleConfiguration,
    metadata::ObjectHeaders,
    operation::{
        AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, ListMultipartUploads,
        ListParts, ListPosition, parse_upload_marker,
    },
    reply::{self, ListedPart, ListedUpload, Owner, Reply, UploadLine, UploadParts},
    xml::{CompletedPart, PARTS_MAX},
};
use bytes::Bytes;
use crossdock::{
    BucketRevision, CompleteOptions, CoreEngine, EntityTag, Error, ListOptions, ListStart, NamedPart,
    PartInfo, UploadId, UploadInfo, UploadItem, UploadOptions,
};
use std::collections::HashMap;

/// "Part size: 5 MiB to 5 GiB. There is no minimum size limit on the last part of your multipart upload."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>)
const PART_BYTES_MIN: u64 = 5 << 20;

/// `headers` are the request's, with all that an object gets beyond.
pub(super) async fn create(
    engine: &CoreEngine,
    request: &CreateMultipartUpload,
    headers: &ObjectHeaders,
    decided_by: &BucketState,
) -> Result<Reply, S3Error> {
    let (bucket, key) = (request.bucket.as_str(), request.key.as_str());
    let lifecycle = decided_by.lifecycle.as_deref();
    let (attributes, decided_by) = (Bytes::from(headers.encode()), Some(decided_by.info.as_of()));
    let options = UploadOptions { attributes, decided_by };
    let upload = engine.create_upload_with(bucket, key.as_bytes(), options).await.map_err(failure)?;
    let announced = headers.announced;
    let reply = reply::create_multipart_upload(bucket, key, &upload_text(upload.upload), announced);
    Ok(with_abort(reply, lifecycle, key.as_bytes(), upload.created_ms))
}

/// By what algorithm the checksum of a part is to be computed that brings one by `brought`: none if it is there, or not needed.
///
/// A checksum of checksums needs each part's own. One of all bytes is combined of those of the parts, which need not be sent. An upload
/// that announced nothing takes what comes: its object has the engine's checksum.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>, "Multipart uploads".)
///
/// # Errors
/// 400 `InvalidRequest` for another algorithm than was announced, or none where there has to be one.
pub(super) fn missing_checksum(
    upload: &UploadInfo,
    brought: Option<Algorithm>,
) -> Result<Option<Algorithm>, S3Error> {
    let Some((algorithm, kind)) = headers_of(&upload.attributes)?.announced else { return Ok(None) };
    match (brought, kind) {
        (Some(brought), _) if brought == algorithm => Ok(None),
        (None, ChecksumType::FullObject) => Ok(Some(algorithm).filter(|by| *by != Algorithm::Crc64Nvme)),
        (brought, _) => {
            let name = |algorithm: Algorithm| algorithm.name().to_ascii_lowercase();
            let message = format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                name(algorithm),
                brought.map_or("null".to_owned(), name)
            );
            Err(S3Error::with_message(ErrorCode::InvalidRequest, message))
        }
    }
}

/// What the parts named make: headers, checksum, size.
struct Whole {
    headers: ObjectHeaders,
    checksum: ObjectChecksum,
    size: u64,
}

/// The tag of what parts with these tags make.
fn tag_of(named: &[CompletedPart]) -> Result<EntityTag, S3Error> {
    // A part that is a piece of another object has a tag of the engine's, whose digits serve as well.
    let digest = |part: &CompletedPart| part.etag.get(..32).and_then(parse_md5_etag).unwrap_or_default();
    let tag = multipart_etag(named.iter().map(digest));
    Ok(EntityTag::new(tag.as_bytes()).ok_or(ErrorCode::InternalError)?)
}

/// There is no part like the one that is named.
fn unlike(named: &CompletedPart) -> S3Error {
    S3Error::new(ErrorCode::InvalidPart).field("PartNumber", named.number.to_string())
}

/// The part's checksum by `algorithm`, if it is known.
fn part_checksum(part: &PartInfo, algorithm: Algorithm) -> Result<Option<Checksum>, S3Error> {
    if algorithm == Algorithm::Crc64Nvme {
        return Ok(Some(crc64(part.crc64)));
    }
    let stored = headers_of(&part.attributes)?.checksum;
    Ok(stored.map(|stored| stored.checksum).filter(|checksum| checksum.algorithm() == algorithm))
}

fn join(upload: &UploadInfo, there: &[PartInfo], named: &[CompletedPart]) -> Result<Whole, S3Error> {
    let mut headers = headers_of(&upload.attributes)?;
    let announced = headers.announced.take();
    let (algorithm, kind) = announced.unwrap_or((Algorithm::Crc64Nvme, ChecksumType::FullObject));
    let by_number: HashMap<u16, &PartInfo> = there.iter().map(|part| (part.number, part)).collect();
    let (mut sums, mut size) = (Vec::new(), 0u64);
    for (index, name) in named.iter().enumerate() {
        let part = by_number.get(&name.number).ok_or_else(|| unlike(name))?;
        let tag = text(&part.etag);
        if *tag != *name.etag {
            return Err(unlike(name).field("ETag", name.etag.clone()));
        }
        if part.size < PART_BYTES_MIN && index + 1 < named.len() {
            return Err(S3Error::new(ErrorCode::EntityTooSmall)
                .field("ProposedSize", part.size.to_string())
                .field("MinSizeAllowed", PART_BYTES_MIN.to_string())
                .field("PartNumber", name.number.to_string())
                .field("ETag", tag.into_owned()));
        }
        if let Some(claimed) = name.checksum
            && part_checksum(part, claimed.algorithm())? != Some(claimed)
        {
            return Err(unlike(name));
        }
        sums.push(part_checksum(part, algorithm)?.map(|sum| (sum, part.size)));
        size += part.size;
    }
    // A part that an older build took without the announced checksum leaves the engine's own for the whole.
    let own = || {
        let sums = named.iter().filter_map(|name| by_number.get(&name.number));
        full_object(Algorithm::Crc64Nvme, sums.map(|part| (crc64(part.crc64), part.size)))
    };
    let sums: Option<Vec<(Checksum, u64)>> = sums.into_iter().collect();
    let checksum = match (sums, kind) {
        (None, _) => own().map(ObjectChecksum::from),
        (Some(sums), ChecksumType::Composite) => composite(algorithm, sums.into_iter().map(|(sum, _)| sum)),
        (Some(sums), ChecksumType::FullObject) => full_object(algorithm, sums).map(ObjectChecksum::from),
    };
    let checksum = checksum.ok_or(ErrorCode::InternalError)?;
    headers.checksum = (checksum.checksum.algorithm() != Algorithm::Crc64Nvme).then_some(checksum);
    Ok(Whole { headers, checksum, size })
}

/// Compares what the client says of the whole with what its parts make, or made.
fn check_claims(
    request: &CompleteMultipartUpload,
    checksum: ObjectChecksum,
    size: u64,
) -> Result<(), S3Error> {
    if request.checksum.is_some_and(|claimed| claimed != checksum) {
        return Err(ErrorCode::BadDigest.into());
    }
    if request.checksum_type.is_some_and(|kind| kind != checksum.kind()) {
        let message = "The upload was created using another checksum type than the complete request names.";
        return Err(S3Error::with_message(ErrorCode::InvalidRequest, message));
    }
    match request.object_bytes {
        Some(claimed) if claimed != size => {
            let message = format!(
                "The provided 'x-amz-mp-object-size' header value {claimed} does not match what was computed: {size}"
            );
            Err(S3Error::with_message(ErrorCode::InvalidRequest, message))
        }
        _ => Ok(()),
    }
}

pub(super) async fn complete(
    engine: &CoreEngine,
    request: &CompleteMultipartUpload,
    location: &str,
    decided_by: &BucketState,
    now_ms: u64,
) -> Result<Reply, S3Error> {
    let upload = parse_upload(&request.upload_id)?;
    let (bucket, key) = (request.bucket.as_str(), request.key.as_bytes());
    let condition = condition(&request.conditions);
    let etag = tag_of(&request.parts)?;
    let attributes = match engine.list_parts(bucket, key, upload, 0, usize::from(PARTS_MAX)).await {
        Ok((info, there, _)) => {
            let mut whole = join(&info, &there, &request.parts)?;
            check_claims(request, whole.checksum, whole.size)?;
            stamp::settle(&mut whole.headers, decided_by, now_ms)?;
            Some(Bytes::from(whole.headers.encode()))
        }
        // Completed before, perhaps by a request whose reply was lost: the engine knows, and answers as it did then.
        Err(Error::NoSuchUpload) => None,
        Err(error) => return Err(failure(error)),
    };
    let lifecycle = decided_by.lifecycle.as_deref();
    let decided_by = Some(decided_by.info.as_of());
    let options = CompleteOptions { etag: Some(etag), attributes, condition, decided_by };
    let parts = request
        .parts
        .iter()
        .map(|part| NamedPart { number: part.number, etag: EntityTag::new(part.etag.as_bytes()) })
        .collect();
    let made = engine.complete_upload(bucket, key, upload, parts, options).await;
    let made = made.map_err(|error| conditional_failure(&request.conditions, error))?;
    let headers = headers_of(&made.attributes)?;
    let checksum = super::tags::checksum_of(&made, &headers);
    // It may have been made by another request, before or just now: that is this one's answer only if both say the same.
    if made.etag != etag {
        return Err(ErrorCode::InvalidPart.into());
    }
    check_claims(request, checksum, made.size)?;
    let etag = text(&made.etag);
    let version = super::versions::written_id(&made);
    let expires = expiration(lifecycle, key, &made, &headers);
    let (key, version) = (&request.key, version.as_deref());
    let reply = reply::complete_multipart_upload(location, bucket, key, &etag, version, Some(&checksum));
    Ok(reply.optional("x-amz-expiration", expires))
}

pub(super) async fn abort(
    engine: &CoreEngine,
    request: &AbortMultipartUpload,
    decided_by: BucketRevision,
) -> Result<Reply, S3Error> {
    let upload = parse_upload(&request.upload_id)?;
    let (bucket, key) = (request.bucket.as_str(), request.key.as_bytes());
    engine.abort_upload_decided(bucket, key, upload, Some(decided_by)).await.map_err(failure)?;
    Ok(Reply::new(204))
}

pub(super) async fn list_parts(
    engine: &CoreEngine,
    request: &ListParts,
    owners: &Owners<'_>,
    lifecycle: Option<&LifecycleConfiguration>,
) -> Result<Reply, S3Error> {
    let upload = parse_upload(&request.upload_id)?;
    let after = u16::try_from(request.part_number_marker).unwrap_or(PARTS_MAX);
    let limit = request.parts_max as usize;
    let listed = engine.list_parts(&request.bucket, request.key.as_bytes(), upload, after, limit).await;
    let (info, parts, more) = listed.map_err(failure)?;
    let headers = headers_of(&info.attributes)?;
    let tags: Vec<_> = parts.iter().map(|part| text(&part.etag)).collect();
    let mut lines = Vec::with_capacity(parts.len());
    for (part, tag) in parts.iter().zip(&tags) {
        let checksum = match headers.announced {
            Some((algorithm, _)) => part_checksum(part, algorithm)?,
            None => None,
        };
        let (number, modified_ms, bytes) = (u32::from(part.number), part.modified_ms, part.size);
        lines.push(ListedPart { number, etag: tag, modified_ms, bytes, checksum });
    }
    let page = UploadParts {
        bucket: &request.bucket,
        key: &request.key,
        upload_id: &request.upload_id,
        number_marker: request.part_number_marker,
        parts_max: request.parts_max,
        is_truncated: more && limit > 0,
        storage_class: headers.storage_class,
        checksum: headers.announced,
        parts: &lines,
    };
    let other = owners.other(&headers);
    let owner = other.as_ref().map_or(owners.bucket, |(id, display_name)| Owner { id, display_name });
    Ok(with_abort(page.reply(owner), lifecycle, request.key.as_bytes(), info.created_ms))
}

pub(super) async fn list(
    engine: &CoreEngine,
    request: &ListMultipartUploads,
    owners: &Owners<'_>,
) -> Result<Reply, S3Error> {
    let query = &request.query;
    // As of every listing: the engine has no pages of nothing.
    if query.entries_max == 0 {
        engine.bucket(&request.bucket).await.map_err(failure)?;
        return Ok(reply::list_multipart_uploads(request, &[], false, owners.bucket));
    }
    let options = ListOptions {
        prefix: query.prefix.clone().into_bytes(),
        delimiter: query.delimiter.clone().unwrap_or_default().into_bytes(),
        start: start_of(engine, request).await?,
        limit: query.entries_max as usize,
    };
    let listing = engine.list_uploads(&request.bucket, &options).await.map_err(failure)?;
    let mut lines: Vec<UploadLine<'_>> = Vec::with_capacity(listing.items.len());
    for item in &listing.items {
        lines.push(match item {
            UploadItem::CommonPrefix(prefix) => UploadLine::CommonPrefix(prefix),
            UploadItem::Upload(upload) => {
                let headers = listed_headers_of(&upload.attributes);
                UploadLine::Upload(ListedUpload {
                    key: &upload.key,
                    upload_id: upload_text(upload.upload),
                    created_ms: upload.created_ms,
                    owner: owners.other(&headers),
                    storage_class: headers.storage_class,
                    checksum: headers.announced,
                })
            }
        });
    }
    Ok(reply::list_multipart_uploads(request, &lines, listing.next.is_some(), owners.bucket))
}

/// Where a listing begins behind the upload that the markers name.
///
/// "any multipart uploads for a key equal to the key-marker might also be included, provided those multipart uploads have upload IDs
/// lexicographically greater than the specified upload-id-marker"
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>, upload-id-marker): here, that come behind it in the
/// order in which they are listed. One that is over, of which the marker tells no time, may have been the first of its key: to tell some
/// twice is better than to lose any.
async fn start_of(engine: &CoreEngine, request: &ListMultipartUploads) -> Result<ListStart, S3Error> {
    let ListMultipartUploads { bucket, query, key_marker, upload_id_marker } = request;
    let key = key_marker.as_bytes();
    let (upload_id, created_ms) = parse_upload_marker(upload_id_marker);
    if let Ok(upload) = parse_upload(upload_id) {
        let (created_ms, upload) = match created_ms {
            Some(created_ms) => (created_ms, upload),
            None => match engine.list_parts(bucket, key, upload, 0, 0).await {
                Ok((info, ..)) => (info.created_ms, upload),
                Err(Error::NoSuchUpload) => (0, UploadId(0)),
                Err(error) => return Err(failure(error)),
            },
        };
        return Ok(ListStart::AfterUpload { key: key.to_vec(), created_ms, upload });
    }
    Ok(match ListPosition::of_marker(key_marker, &query.prefix, query.delimiter.as_deref()) {
        ListPosition::Beginning => ListStart::First,
        ListPosition::AfterKey(key) => ListStart::After(key),
        ListPosition::AfterPrefix(prefix) => ListStart::AfterPrefix(prefix),
    })
}
