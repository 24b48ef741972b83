//! PostObject: a browser's upload.

use super::{
    Admitted, Deed, Principal, Question, Sender, Service, Signing, Standing,
    facts::Origin,
    failure::failure,
    reads::expiration,
    settings::BucketState,
    tags::{checksum_of, text},
    versions::written_id,
    writes::{BODY_BYTES_MAX, etag_of},
};
use crate::{
    protocol::{
        acl::AclRequest,
        auth::PayloadMode,
        body::{BodyVerifier, DigestPlan, Digests, Expectations},
        checksum::{Algorithm, ObjectChecksum, request_checksum},
        conditions::WriteConditions,
        error::{ErrorCode, S3Error},
        form::{FileScanner, FormHead, FormPolicy, FormSignature, boundary_of},
        http::{Headers, is_field_name, is_field_value},
        metadata::ObjectHeaders,
        names::{Query, check_key, encode_listed},
        operation::{OperationName, PutObject, Request, Resource, Routed, check_headers},
        reply::{self, Reply},
        tagging::{OBJECT_TAGS_MAX, TagSet},
    },
    server::Body,
};
use bytes::Bytes;
use crossdock::{CommitOptions, Put, PutOptions, WriteCondition};
use crossdock_transport::memory::{CopyReason, copy_payload};
use std::sync::Arc;

/// Fields that stand for headers of a PutObject: any other does not.
const HEADER_FIELDS: [&str; 7] = [
    "cache-control",
    "content-type",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
    "content-md5",
];

pub(super) async fn post(
    service: &Service,
    admitted: &Admitted,
    body: &mut Body<'_>,
) -> Result<Reply, S3Error> {
    let boundary = boundary_of(admitted.headers.text("content-type"))?;
    let mut bytes = Vec::new();
    let form = loop {
        if let Some(form) = FormHead::parse(&bytes, &boundary)? {
            break form;
        }
        // A page at a time: nobody knows yet who sends it.
        if !body.append(&mut bytes, false).await? {
            return Err(ErrorCode::MalformedPost.into());
        }
    };
    let (bucket, came_ms) =
        (service.bucket(&admitted.bucket()?.info.name).await?, service.engine.core().wall_clock_ms());
    let allowed = Allowed::of(service, admitted, bucket, &form, came_ms).await?;
    let rest = bytes.get(form.head_bytes..).unwrap_or_default();
    let (mut scanner, mut content) = (FileScanner::new(&boundary), Vec::new());
    scanner.push(rest, &mut content);
    store(service, &form, allowed, body, scanner, content).await
}

/// A form whose sender may send it.
struct Allowed<'a> {
    admitted: &'a Admitted,
    /// When its fields were there, which is when its policy has to hold.
    came_ms: u64,
    /// As it was when this was decided.
    bucket: Arc<BucketState>,
    key: String,
    policy: Option<FormPolicy>,
    headers: Headers,
    object: ObjectHeaders,
}

impl<'a> Allowed<'a> {
    async fn of(
        service: &Service,
        admitted: &'a Admitted,
        bucket: Arc<BucketState>,
        form: &FormHead,
        came_ms: u64,
    ) -> Result<Allowed<'a>, S3Error> {
        let now_ms = service.engine.core().wall_clock_ms();
        let key = form.field("key").filter(|key| !key.is_empty()).ok_or(ErrorCode::UserKeyMustBeSpecified)?;
        let key = key.replace("${filename}", &form.filename);
        check_key(&key)?;
        let principal = sender(service, form)?;
        let policy = form.field("policy").map(FormPolicy::parse).transpose()?;
        if let Some(policy) = &policy {
            policy.check(form, &bucket.info.name, &key, came_ms)?;
        }
        let headers = headers_of(form)?;
        let put = put_of(form, &bucket.info.name, &key, &headers);
        let resource = Resource::Object { bucket: bucket.info.name.to_string(), key: key.clone() };
        let routed = Routed { operation: OperationName::PutObject, resource, query: Query::default() };
        let sender = Sender {
            origin: Origin { now_ms, ..admitted.origin },
            principal: &principal,
            signing: signing(form, policy.as_ref())?,
            payload: PayloadMode::Unsigned,
            headers: &admitted.headers,
        };
        // One that can not be read is refused by what it can be: its sender is told no more than others.
        let request = put.as_ref().ok().map(|put| Request::PutObject(put.clone()));
        let deed = Deed::of(&routed, &headers, request.as_ref());
        let question = Question::new(sender, Some(&bucket), &routed.resource, deed);
        service.authorize_operation(&question, routed.operation, request.as_ref()).await?;
        let PutObject { headers: mut object, acl, .. } = put?;
        service.stamp(&mut object, acl.as_ref(), &bucket, now_ms, &principal)?;
        Ok(Allowed { admitted, came_ms, bucket, key, policy, headers, object })
    }
}

/// The PutObject that would do the same.
fn put_of(form: &FormHead, bucket: &str, key: &str, fields: &Headers) -> Result<PutObject, S3Error> {
    check_headers(fields)?;
    let mut headers = ObjectHeaders::from_headers(fields)?;
    let tags = form.field("tagging").map(|document| TagSet::parse(document.as_bytes(), OBJECT_TAGS_MAX));
    headers.tags = tags.transpose()?.unwrap_or_default();
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    let (checksum, acl) = (request_checksum(fields)?, AclRequest::from_headers(fields)?);
    Ok(PutObject { bucket, key, headers, conditions: WriteConditions::default(), checksum, acl })
}

/// How the form is signed. What its signature says of its age counts if the policy, which alone is signed, says it as well.
fn signing(form: &FormHead, policy: Option<&FormPolicy>) -> Result<Signing, S3Error> {
    let signature = FormSignature::of(form)?;
    let at_seconds = signature.as_ref().and_then(|signature| signature.at_seconds);
    let at_seconds = at_seconds.filter(|_| policy.is_some_and(|policy| policy.fixes("x-amz-date")));
    let is_version_2 = signature.is_some_and(|signature| signature.is_version_2());
    Ok(Signing::Form { is_version_2, at_seconds })
}

/// Who signed the form.
fn sender(service: &Service, form: &FormHead) -> Result<Principal, S3Error> {
    let Some(signature) = FormSignature::of(form)? else { return Ok(Principal::Anonymous) };
    if form.field("x-amz-security-token").is_some() {
        return Err(super::no_session_tokens());
    }
    let (_, secret, principal) = Standing::of(&*service.options.credentials, &signature.access_key)?;
    signature.region().map_or(Ok(()), |region| service.check_region(region))?;
    signature.verify(secret.reveal(), form.field("policy").unwrap_or_default())?;
    Ok(principal)
}

/// The headers that a PutObject of the same would have.
///
/// # Errors
/// 400 `InvalidArgument` for what could not be one: nothing would ever give it back.
fn headers_of(form: &FormHead) -> Result<Headers, S3Error> {
    let mut headers = Headers::default();
    let mut push = |header: &str, value: &str| {
        if !is_field_name(header.as_bytes()) || !is_field_value(value.as_bytes()) {
            let message =
                "A field of the form stands for a header, and no header can have its name or its value.";
            return Err(S3Error::invalid_argument("POST", header.to_owned(), message));
        }
        headers.push(header, value.as_bytes());
        Ok(())
    };
    for (name, value) in &form.fields {
        let signs = matches!(
            name.as_str(),
            "x-amz-signature"
                | "x-amz-credential"
                | "x-amz-date"
                | "x-amz-algorithm"
                | "x-amz-security-token"
        );
        match name.as_str() {
            // Tags come in the field of that name.
            "x-amz-tagging" => {
                let message = "The tags of an object are the field 'tagging' of a form.";
                return Err(S3Error::invalid_argument("x-amz-tagging", value.as_str(), message));
            }
            "acl" => push("x-amz-acl", value)?,
            name if HEADER_FIELDS.contains(&name) || (name.starts_with("x-amz-") && !signs) => {
                push(name, value)?;
            }
            _ => {}
        }
    }
    Ok(headers)
}

/// The file of a form is copied three times: out of what was received, past the boundary that might begin anywhere in it, and into the
/// lease that is written. The last alone is counted; forms are rare, and the others never leave what one core holds of one request.
async fn store(
    service: &Service,
    form: &FormHead,
    allowed: Allowed<'_>,
    body: &mut Body<'_>,
    mut scanner: FileScanner,
    mut content: Vec<u8>,
) -> Result<Reply, S3Error> {
    let Allowed { admitted, came_ms, bucket, key, policy, headers, .. } = allowed;
    let most = policy.as_ref().and_then(FormPolicy::bytes_max).unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    let checksum = request_checksum(&headers)?;
    let expected = Expectations::new(&headers, &PayloadMode::Unsigned, checksum)?;
    let plan = DigestPlan { md5: true, default_checksum: None, supplied: None };
    let mut verifier = BodyVerifier::new(expected, plan);
    let put = service.engine.put(&bucket.info.name, key.as_bytes(), PutOptions::default()).await;
    let mut put = put.map_err(failure)?;
    let mut file_bytes = 0u64;
    let mut piece = Vec::new();
    loop {
        let finished = scanner.is_finished();
        // Leases but the last are filled, as the engine wants them.
        while content.len() >= put.buffer_bytes() || (finished && !content.is_empty()) {
            let bytes = content.len().min(put.buffer_bytes());
            file_bytes += bytes as u64;
            verifier.update(content.get(..bytes).unwrap_or_default());
            push(&mut put, content.get(..bytes).unwrap_or_default()).await?;
            content.drain(..bytes);
        }
        // Enforced as it comes: nobody may fill the store with what will be refused.
        if file_bytes + content.len() as u64 > most {
            let too_large = S3Error::new(ErrorCode::EntityTooLarge).field("MaxSizeAllowed", most.to_string());
            return Err(policy
                .map_or(Ok(()), |policy| policy.check_length(file_bytes + content.len() as u64))
                .err()
                .unwrap_or(too_large));
        }
        if finished {
            break;
        }
        piece.clear();
        if !body.append(&mut piece, true).await? {
            return Err(ErrorCode::MalformedPost.into());
        }
        scanner.push(&piece, &mut content);
    }
    if let Some(policy) = &policy {
        policy.check_length(file_bytes)?;
    }
    body.finish_ignored().await?;
    let digests: Digests = verifier.finish(None, None)?;
    let stored = digests.checksum.filter(|checksum| checksum.algorithm() != Algorithm::Crc64Nvme);
    // The file took its time: who its sender is by now, and what its bucket is set to, decides. All of it is asked again, as forms are few.
    let now = service.bucket(&bucket.info.name).await?;
    let Allowed { bucket, mut object, .. } = Allowed::of(service, admitted, now, form, came_ms).await?;
    object.checksum = stored.map(ObjectChecksum::from);
    let etag = Some(etag_of(&digests.md5.ok_or(ErrorCode::InternalError)?)?);
    let attributes = Bytes::from(object.encode());
    let decided_by = Some(bucket.info.as_of());
    let options = CommitOptions { etag, attributes, condition: WriteCondition::default(), decided_by };
    let info = put.finish(options).await.map_err(failure)?;
    let sum = checksum_of(&info, &object);
    let etag = text(&info.etag);
    let expires = expiration(bucket.lifecycle.as_deref(), key.as_bytes(), &info, &object);
    let stored = reply::put_object(&etag, written_id(&info).as_deref(), Some(&sum), false)
        .optional("x-amz-expiration", expires);
    let location = service.location(admitted, &bucket.info.name, &key);
    Ok(answer(form, stored, &location, &bucket.info.name, &key, &etag))
}

async fn push(put: &mut Put, bytes: &[u8]) -> Result<(), S3Error> {
    let mut lease = put.buffer().await.map_err(failure)?;
    lease.set_len(bytes.len());
    copy_payload(lease.as_mut_slice(), bytes, CopyReason::Edge);
    put.push(lease).await.map_err(failure)
}

/// What the form wants to be answered.
///
/// "If success_action_redirect is not specified, or Amazon S3 cannot interpret the URL, Amazon S3 returns the empty document type that
/// is specified in the success_action_status field." "Valid values are 200, 201, or 204 (default)."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>, "Form Fields".)
fn answer(form: &FormHead, stored: Reply, location: &str, bucket: &str, key: &str, etag: &str) -> Reply {
    let redirect = form.field("success_action_redirect").or(form.field("redirect"));
    // One that no header can hold is none that anybody could interpret.
    let is_address = |target: &&str| {
        (target.starts_with("http://") || target.starts_with("https://")) && is_field_value(target.as_bytes())
    };
    if let Some(target) = redirect.filter(is_address) {
        let separator = if target.contains('?') { '&' } else { '?' };
        let to = format!(
            "{target}{separator}bucket={}&key={}&etag=%22{etag}%22",
            encode_listed(bucket),
            encode_listed(key).replace('/', "%2F")
        );
        return Reply { status: 303, ..stored }.header("Location", to);
    }
    let stored = stored.header("Location", location.to_owned());
    match form.field("success_action_status") {
        Some("200") => stored,
        Some("201") => {
            Reply { status: 201, ..stored }.with_document(reply::post_response(location, bucket, key, etag))
        }
        _ => Reply { status: 204, ..stored },
    }
}
