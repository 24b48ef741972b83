//! Tags, checksums and stored headers, between the engine's forms and S3's.

use crate::protocol::{
    checksum::{Algorithm, Checksum, ObjectChecksum},
    conditions::WriteConditions,
    error::{ErrorCode, S3Error},
    etag::{ETag, ETagCondition},
    lock::Lock,
    metadata::{MetadataError, ObjectHeaders},
};
use crossdock::{EntityTag, ObjectInfo, TagMatch, UploadId, WriteCondition};
use std::borrow::Cow;

/// A tag as text, without quotes.
pub(super) fn text(tag: &EntityTag) -> Cow<'_, str> {
    String::from_utf8_lossy(tag.as_bytes())
}

/// The engine's form of a write's conditions.
pub(super) fn condition(conditions: &WriteConditions) -> WriteCondition {
    WriteCondition {
        if_match: conditions.if_match.as_ref().map(tag_match),
        if_none_match: conditions.if_none_match.as_ref().map(|tags| tags_match(tags, |_| true)),
    }
}

/// The engine's form of a list of tags one of which an object is to have. A weak tag matches nothing strongly, so it is left out.
pub(super) fn tag_match(condition: &ETagCondition) -> TagMatch {
    tags_match(condition, |tag| !tag.is_weak)
}

/// Those of the tags that count. One longer than any stored one matches nothing.
fn tags_match(condition: &ETagCondition, counts: impl Fn(&ETag) -> bool) -> TagMatch {
    match condition {
        ETagCondition::Any => TagMatch::Any,
        ETagCondition::Tags(tags) => {
            let counted = tags.iter().filter(|tag| counts(tag));
            TagMatch::Tags(counted.filter_map(|tag| EntityTag::new(tag.opaque.as_bytes())).collect())
        }
    }
}

/// The checksum of a whole object: the one its writer chose, else the engine's own.
pub(super) fn checksum_of(info: &ObjectInfo, headers: &ObjectHeaders) -> ObjectChecksum {
    headers.checksum.unwrap_or_else(|| ObjectChecksum::from(crc64(info.crc64)))
}

/// The engine's checksum as S3 knows it.
pub(super) fn crc64(value: u64) -> Checksum {
    Checksum::from_crc(Algorithm::Crc64Nvme, value).expect("CRC64NVME is a cyclic redundancy check")
}

/// What is stored beside an object or an upload.
pub(super) fn headers_of(attributes: &[u8]) -> Result<ObjectHeaders, S3Error> {
    ObjectHeaders::decode(attributes).map_err(unreadable)
}

/// As [`headers_of`], for a line among others: one that can not be read is told as far as the engine knows it, so that it can be
/// found and deleted, and hides none of the others.
pub(super) fn listed_headers_of(attributes: &[u8]) -> ObjectHeaders {
    headers_of(attributes).unwrap_or_default()
}

/// What keeps a version from being deleted.
pub(super) fn lock_of(attributes: &[u8]) -> Result<Lock, S3Error> {
    ObjectHeaders::decode_lock(attributes).map_err(unreadable)
}

fn unreadable(error: MetadataError) -> S3Error {
    tracing::error!(%error, "stored headers can not be read");
    ErrorCode::InternalError.into()
}

/// An upload's identifier as clients see it.
pub(super) fn upload_text(upload: UploadId) -> String {
    format!("{:032x}", upload.0)
}

/// Reads what [`upload_text`] writes; anything else names no upload.
pub(super) fn parse_upload(text: &str) -> Result<UploadId, S3Error> {
    let good = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = good.then(|| u128::from_str_radix(text, 16).ok()).flatten();
    id.map(UploadId).ok_or_else(|| S3Error::new(ErrorCode::NoSuchUpload).field("UploadId", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_tags_match_nothing_strongly() {
        // If-Match leaves a weak tag out, so that nothing is left to match; If-None-Match compares it as any other.
        let tag = |is_weak| ETagCondition::Tags(vec![ETag { opaque: "e".into(), is_weak }]);
        assert_eq!(tag_match(&tag(true)), TagMatch::Tags(Vec::new()));
        assert_eq!(tag_match(&tag(false)), TagMatch::Tags(vec![EntityTag::new(b"e").unwrap()]));
        assert_eq!(tag_match(&ETagCondition::Any), TagMatch::Any);
        let conditions = WriteConditions { if_none_match: Some(tag(true)), ..Default::default() };
        assert_eq!(condition(&conditions).if_none_match, Some(tag_match(&tag(false))));
    }

    #[test]
    fn uploads_are_named_in_32_digits() {
        // What is written is read; other texts name no upload.
        for id in [0, 1, u128::MAX] {
            assert_eq!(parse_upload(&upload_text(UploadId(id))), Ok(UploadId(id)));
        }
        for bad in ["", "0", "+0000000000000000000000000000000", "g0000000000000000000000000000000"] {
            assert_eq!(parse_upload(bad).unwrap_err().code, ErrorCode::NoSuchUpload);
        }
    }
}
