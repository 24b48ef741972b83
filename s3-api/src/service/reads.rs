//! GetObject, HeadObject and GetObjectAttributes.

use super::{
    Answer, Principal,
    authorize::Looked,
    failure::failure,
    tags::{checksum_of, crc64, headers_of, text},
    versions::{read_failure, version_id, which},
};
use crate::protocol::{
    checksum::Checksum,
    conditions::{ReadConditions, ReadVerdict, Validators},
    error::{ErrorCode, S3Error},
    lifecycle::LifecycleConfiguration,
    metadata::ObjectHeaders,
    names::encode_listed,
    operation::{GetObjectAttributes, ReadObject},
    range::{ByteRange, ResolvedRange},
    reply::{AttributesReply, ListedPart, ObjectParts, ObjectReply, Reply, not_modified},
    time::format_http_date,
};
use crossdock::{CoreEngine, Error, GetOptions, ObjectInfo, PartInfo, Select, Which};

/// 304 and 412, or nothing.
fn judge(conditions: &ReadConditions, info: &ObjectInfo) -> Result<Option<Reply>, S3Error> {
    let etag = text(&info.etag);
    match conditions.evaluate(Validators { etag: &etag, modified_ms: info.modified_ms }) {
        ReadVerdict::Proceed => Ok(None),
        ReadVerdict::Failed(condition) => Err(S3Error::precondition_failed(condition)),
        ReadVerdict::NotModified => {
            Ok(Some(not_modified(&etag, info.modified_ms, &headers_of(&info.attributes)?)))
        }
    }
}

/// The request without its range, if that is none of this object's.
fn without_range(request: &ReadObject, info: &ObjectInfo) -> Option<ReadObject> {
    let etag = text(&info.etag);
    let current = Validators { etag: &etag, modified_ms: info.modified_ms };
    let is_other = request.if_range.as_ref().is_some_and(|condition| !condition.holds(current));
    is_other.then(|| ReadObject { range: None, if_range: None, ..request.clone() })
}

/// The bytes that are sent, and what the reply says of them.
struct Sent {
    range: ResolvedRange,
    /// Whether to say that it is a range: 206.
    is_range: bool,
    /// The checksum of the part that was named.
    part_checksum: Option<Checksum>,
}

fn reply(
    request: &ReadObject,
    info: &ObjectInfo,
    sent: &Sent,
    lifecycle: Option<&LifecycleConfiguration>,
) -> Result<Reply, S3Error> {
    let mut headers = headers_of(&info.attributes)?;
    headers.checksum = Some(checksum_of(info, &headers));
    let version = version_id(info);
    let named_part = request.part_number.is_some() && info.part_count > 0;
    let reply = ObjectReply {
        etag: &text(&info.etag),
        modified_ms: info.modified_ms,
        size: info.size,
        headers: &headers,
        version_id: version.as_deref(),
        range: sent.is_range.then_some(sent.range),
        part_count: named_part.then_some(u32::from(info.part_count)),
        part_checksum: sent.part_checksum,
        overrides: &request.overrides,
        with_checksum: request.checksum_mode,
    };
    // Versions that are not the current one have a time of their own to go.
    let current = request.version_id.is_none();
    let expires = current.then(|| expiration(lifecycle, request.key.as_bytes(), info, &headers)).flatten();
    Ok(reply.reply().optional("x-amz-expiration", expires))
}

/// `x-amz-expiration`: "It includes the expiry-date and rule-id key-value pairs … The value of the rule-id is URL-encoded."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>, x-amz-expiration.)
pub(super) fn expiration(
    lifecycle: Option<&LifecycleConfiguration>,
    key: &[u8],
    info: &ObjectInfo,
    headers: &ObjectHeaders,
) -> Option<String> {
    let (due, rule) = lifecycle?.expires(key, info.size, &headers.tags, info.modified_ms)?;
    Some(format!("expiry-date=\"{}\", rule-id=\"{}\"", format_http_date(due / 1_000), encode_listed(rule)))
}

/// `x-amz-abort-date` and `x-amz-abort-rule-id`: "If the bucket has a lifecycle rule configured with an action to abort incomplete
/// multipart uploads and the prefix in the lifecycle rule matches the object name in the request, the response includes this header."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>, x-amz-abort-date.) Names of rules are encoded as
/// those of `x-amz-expiration` are: not each of them can stand in a header.
pub(super) fn with_abort(
    reply: Reply,
    lifecycle: Option<&LifecycleConfiguration>,
    key: &[u8],
    created_ms: u64,
) -> Reply {
    let Some((due, rule)) = lifecycle.and_then(|rules| rules.aborts(key, created_ms)) else { return reply };
    reply
        .header("x-amz-abort-date", format_http_date(due / 1_000))
        .header("x-amz-abort-rule-id", encode_listed(rule))
}

/// "When you use these parameters, you must sign the request by using either an Authorization header or a presigned URL. These
/// parameters cannot be used with an unsigned (anonymous) request."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, "Overriding response header values through the request".)
fn check_overrides(request: &ReadObject, principal: &Principal) -> Result<(), S3Error> {
    match principal.is_anonymous() && request.overrides.iter().any(Option::is_some) {
        false => Ok(()),
        true => Err(S3Error::with_message(
            ErrorCode::InvalidRequest,
            "Request specific response headers cannot be used for anonymous GET requests.",
        )),
    }
}

fn unsatisfiable(size: u64) -> S3Error {
    S3Error::new(ErrorCode::InvalidRange).field("ActualObjectSize", size.to_string())
}

fn selection(request: &ReadObject) -> Select {
    match (request.part_number, request.range) {
        (Some(part), _) => Select::Part(part),
        (None, Some(ByteRange::Closed { first, last })) => Select::Between(first, last),
        (None, Some(ByteRange::From(first))) => Select::From(first),
        (None, Some(ByteRange::Suffix(count))) => Select::Last(count),
        (None, None) => Select::Whole,
    }
}

pub(super) async fn get(
    engine: &CoreEngine,
    request: &ReadObject,
    looked: &Looked,
    principal: &Principal,
    lifecycle: Option<&LifecycleConfiguration>,
) -> Result<Answer, S3Error> {
    let asked = which(request.version_id.as_deref())?;
    check_overrides(request, principal)?;
    let which = looked.which(asked).map_err(|error| read_failure(error, asked))?;
    let (bucket, key) = (request.bucket.as_str(), request.key.as_bytes());
    let options = GetOptions { select: selection(request), version: which };
    let found = match engine.get(bucket, key, options).await {
        Ok(found) => found,
        Err(error @ (Error::RangeNotSatisfiable { .. } | Error::InvalidPart(_))) => {
            // Conditions come before the range (RFC 9110 §13.2.2).
            let info = engine.head(bucket, key, which).await.map_err(|error| read_failure(error, asked))?;
            if let Some(whole) = without_range(request, &info) {
                return Box::pin(get(engine, &whole, looked, principal, lifecycle)).await;
            }
            return match judge(&request.conditions, &info)? {
                Some(reply) => Ok(reply.into()),
                None if matches!(error, Error::InvalidPart(_)) => Err(ErrorCode::InvalidPartNumber.into()),
                None => Err(unsatisfiable(info.size)),
            };
        }
        Err(error) => return Err(read_failure(error, asked)),
    };
    // The object as it was read, not as it was before: another may have taken its place.
    if let Some(whole) = without_range(request, found.info()) {
        drop(found);
        return Box::pin(get(engine, &whole, looked, principal, lifecycle)).await;
    }
    let get = found;
    if let Some(reply) = judge(&request.conditions, get.info())? {
        return Ok(reply.into());
    }
    let bytes = get.range();
    let range = ResolvedRange { offset: bytes.start, bytes: bytes.end - bytes.start };
    let is_range = request.range.is_some() || (request.part_number.is_some() && range.bytes > 0);
    let part_checksum = match request.part_number {
        Some(number) if request.checksum_mode && get.info().part_count > 0 => {
            let version = Which::Version(get.info().version);
            let (_, parts) = engine.object_parts(bucket, key, version).await.map_err(failure)?;
            part(&parts, number).map(|(_, part)| checksum_of_part(part)).transpose()?
        }
        _ => None,
    };
    let reply = reply(request, get.info(), &Sent { range, is_range, part_checksum }, lifecycle)?;
    Ok(Answer { payload: Some(Box::new(get)), ..Answer::from(reply) })
}

pub(super) async fn head(
    engine: &CoreEngine,
    request: &ReadObject,
    looked: &Looked,
    principal: &Principal,
    lifecycle: Option<&LifecycleConfiguration>,
) -> Result<Reply, S3Error> {
    let asked = which(request.version_id.as_deref())?;
    check_overrides(request, principal)?;
    let which = looked.which(asked).map_err(|error| read_failure(error, asked))?;
    let (bucket, key) = (request.bucket.as_str(), request.key.as_bytes());
    let found = match (request.part_number, looked) {
        (Some(_), _) => engine.object_parts(bucket, key, which).await,
        (None, Looked::Present(info)) => Ok(((**info).clone(), Vec::new())),
        (None, _) => engine.head(bucket, key, which).await.map(|info| (info, Vec::new())),
    };
    let (info, parts) = found.map_err(|error| read_failure(error, asked))?;
    let of_whole = without_range(request, &info);
    let request = of_whole.as_ref().unwrap_or(request);
    if let Some(reply) = judge(&request.conditions, &info)? {
        return Ok(reply);
    }
    let whole = ResolvedRange { offset: 0, bytes: info.size };
    let (range, part_checksum) = match (request.part_number, request.range) {
        (Some(number), _) => match part(&parts, number) {
            Some((range, part)) => (range, Some(checksum_of_part(part)?)),
            None if number == 1 && parts.is_empty() => (whole, None),
            None => return Err(ErrorCode::InvalidPartNumber.into()),
        },
        (None, Some(range)) => (range.resolve(info.size).map_err(|_| unsatisfiable(info.size))?, None),
        (None, None) => (whole, None),
    };
    let is_range = request.range.is_some() || (request.part_number.is_some() && range.bytes > 0);
    reply(request, &info, &Sent { range, is_range, part_checksum }, lifecycle)
}

/// The n-th part, whatever number it was uploaded under, and its bytes.
fn part(parts: &[PartInfo], number: u16) -> Option<(ResolvedRange, &PartInfo)> {
    let index = usize::from(number).checked_sub(1)?;
    let part = parts.get(index)?;
    let offset = parts.iter().take(index).map(|part| part.size).sum();
    Some((ResolvedRange { offset, bytes: part.size }, part))
}

pub(super) fn checksum_of_part(part: &PartInfo) -> Result<Checksum, S3Error> {
    let stored = headers_of(&part.attributes)?.checksum;
    Ok(stored.map_or_else(|| crc64(part.crc64), |stored| stored.checksum))
}

/// "Retrieves all of the metadata from an object without returning the object itself", as far as it was asked for.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html>)
pub(super) async fn attributes(
    engine: &CoreEngine,
    request: &GetObjectAttributes,
    looked: &Looked,
) -> Result<Reply, S3Error> {
    let asked = which(request.version_id.as_deref())?;
    let which = looked.which(asked).map_err(|error| read_failure(error, asked))?;
    let (bucket, key) = (request.bucket.as_str(), request.key.as_bytes());
    let found = engine.object_parts(bucket, key, which).await;
    let (info, parts) = found.map_err(|error| read_failure(error, asked))?;
    if let Some(reply) = judge(&request.conditions, &info)? {
        return Ok(reply);
    }
    let headers = headers_of(&info.attributes)?;
    let etag = text(&info.etag);
    let wanted = request.attributes;
    let (skipped, limit) = (request.part_number_marker as usize, request.parts_max as usize);
    let shown = parts.iter().enumerate().skip(skipped).take(limit);
    let tags: Vec<_> = parts.iter().map(|part| text(&part.etag)).collect();
    let mut listed = Vec::new();
    for (index, part) in shown {
        listed.push(ListedPart {
            number: index as u32 + 1,
            etag: tags.get(index).map(AsRef::as_ref).unwrap_or_default(),
            modified_ms: part.modified_ms,
            bytes: part.size,
            checksum: Some(checksum_of_part(part)?),
        });
    }
    let object_parts = ObjectParts {
        total_count: parts.len() as u32,
        number_marker: request.part_number_marker,
        parts_max: request.parts_max,
        is_truncated: skipped.saturating_add(limit) < parts.len(),
        parts: &listed,
    };
    let version = version_id(&info);
    let reply = AttributesReply {
        modified_ms: info.modified_ms,
        version_id: version.as_deref(),
        etag: wanted.etag.then_some(&*etag),
        checksum: wanted.checksum.then(|| checksum_of(&info, &headers)),
        parts: (wanted.object_parts && !parts.is_empty()).then_some(object_parts),
        storage_class: wanted.storage_class.then_some(headers.storage_class),
        size: wanted.object_size.then_some(info.size),
    };
    Ok(reply.reply())
}
