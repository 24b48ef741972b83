//! Replies of the operations on one object.

use super::{Reply, ReplyBody};
use crate::protocol::checksum::{Checksum, ObjectChecksum};
use crate::protocol::metadata::{ObjectHeaders, STORED_HEADERS, StorageClass};
use crate::protocol::range::ResolvedRange;
use crate::protocol::time::{format_http_date, format_iso8601};

/// The media type of an object that was put without one.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>, Content-Type.)
const DEFAULT_CONTENT_TYPE: &[u8] = b"binary/octet-stream";

/// Names of [`STORED_HEADERS`] as they are answered.
const ANSWERED_HEADERS: [&str; 6] = [
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Type",
    "Expires",
];

/// The reply of GetObject and HeadObject.
#[derive(Clone, Copy, Debug)]
pub struct ObjectReply<'a> {
    /// The entity tag without quotes.
    pub etag: &'a str,
    /// When the object was last modified, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Bytes of the whole object.
    pub size: u64,
    /// What the object carries besides its bytes.
    pub headers: &'a ObjectHeaders,
    /// The version, in a bucket that ever had versioning.
    pub version_id: Option<&'a str>,
    /// The bytes to send: all of them if `None`.
    pub range: Option<ResolvedRange>,
    /// How many parts the object has, if the request named a part and the object was uploaded in parts.
    pub part_count: Option<u32>,
    /// The checksum of what is sent, if the request named a part; the object's own checksum covers the whole.
    pub part_checksum: Option<Checksum>,
    /// Headers to answer instead of the stored ones, in the order of [`STORED_HEADERS`]: what `response-*` parameters
    /// ask for (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, "Overriding response header values
    /// through the request").
    pub overrides: &'a [Option<String>; STORED_HEADERS.len()],
    /// Whether the request asked for checksums (`x-amz-checksum-mode: ENABLED`).
    pub with_checksum: bool,
}

impl ObjectReply<'_> {
    /// 200 with all bytes, or 206 with a range of them. HeadObject answers the same, written for the method HEAD.
    ///
    /// A checksum is told only when it covers exactly the bytes sent: clients check it against them.
    pub fn reply(&self) -> Reply {
        let mut reply = Reply::new(if self.range.is_some() { 206 } else { 200 });
        reply.headers.reserve(16);
        reply = reply
            .header("Last-Modified", format_http_date(self.modified_ms / 1_000))
            .header("ETag", quoted(self.etag))
            .header("Accept-Ranges", "bytes")
            .optional("x-amz-version-id", self.version_id);
        if let Some(range) = self.range {
            reply = reply.header("Content-Range", range.content_range(self.size));
        }
        let values =
            self.overrides.iter().map(|value| value.as_ref().map(String::as_bytes)).zip(&self.headers.stored);
        for (name, (instead, stored)) in ANSWERED_HEADERS.into_iter().zip(values) {
            match instead.or(stored.as_deref()) {
                Some(value) => reply = reply.header(name, value),
                None if name == "Content-Type" => reply = reply.header(name, DEFAULT_CONTENT_TYPE),
                None => {}
            }
        }
        for (name, value) in &self.headers.user {
            reply = reply.header(format!("x-amz-meta-{name}"), value.as_slice());
        }
        // "Amazon S3 returns this header for all objects except for S3 Standard storage class objects."
        // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>, x-amz-storage-class.)
        if self.headers.storage_class != StorageClass::Standard {
            reply = reply.header("x-amz-storage-class", self.headers.storage_class.name());
        }
        if !self.headers.tags.is_empty() {
            reply = reply.header("x-amz-tagging-count", self.headers.tags.tags.len().to_string());
        }
        if let Some(retention) = self.headers.lock.retention {
            reply = reply
                .header("x-amz-object-lock-mode", retention.mode.name())
                .header("x-amz-object-lock-retain-until-date", format_iso8601(retention.until_ms));
        }
        if let Some(on) = self.headers.lock.legal_hold {
            reply = reply.header("x-amz-object-lock-legal-hold", if on { "ON" } else { "OFF" });
        }
        if self.with_checksum {
            // A part's checksum goes with the type of the object's: it is what the whole is made of.
            let kind = self.headers.checksum.map(|checksum| checksum.kind());
            let checksum = match (self.part_checksum, self.range) {
                (Some(part), _) => Some(ObjectChecksum::from(part)),
                (None, None) => self.headers.checksum,
                (None, Some(range)) => self.headers.checksum.filter(|_| range.bytes == self.size),
            };
            if let Some(checksum) = checksum {
                reply = reply
                    .header(checksum.checksum.algorithm().header(), checksum.to_string())
                    .header("x-amz-checksum-type", kind.unwrap_or(checksum.kind()).name());
            }
        }
        if let Some(count) = self.part_count {
            reply = reply.header("x-amz-mp-parts-count", count.to_string());
        }
        reply.body = ReplyBody::Payload { bytes: self.range.map_or(self.size, |range| range.bytes) };
        reply
    }
}

/// A tag in the quotes that HTTP puts around it.
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// Adds `x-amz-checksum-<algorithm>` and `x-amz-checksum-type`.
pub(super) fn with_checksum(reply: Reply, checksum: &ObjectChecksum) -> Reply {
    reply
        .header(checksum.checksum.algorithm().header(), checksum.to_string())
        .header("x-amz-checksum-type", checksum.kind().name())
}

/// 304 for a client that has the current object.
///
/// "The server generating a 304 response MUST generate any of the following header fields that would have been sent in
/// a 200 (OK) response to the same request: Content-Location, Date, ETag, and Vary; Cache-Control and Expires"
/// (RFC 9110 §15.4.5).
pub fn not_modified(etag: &str, modified_ms: u64, headers: &ObjectHeaders) -> Reply {
    let [cache_control, _, _, _, _, expires] = &headers.stored;
    Reply::new(304)
        .header("Last-Modified", format_http_date(modified_ms / 1_000))
        .header("ETag", quoted(etag))
        .optional("Cache-Control", cache_control.as_deref())
        .optional("Expires", expires.as_deref())
}

/// 200 of PutObject and UploadPart.
///
/// `checksum` is the one that was stored, whether the client sent it or the store computed it. PutObject names its type,
/// UploadPart does not (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>, Response Syntax):
/// `is_part` tells them apart.
pub fn put_object(
    etag: &str,
    version_id: Option<&str>,
    checksum: Option<&ObjectChecksum>,
    is_part: bool,
) -> Reply {
    let reply = Reply::new(200).header("ETag", quoted(etag)).optional("x-amz-version-id", version_id);
    match checksum {
        None => reply,
        Some(checksum) if is_part => {
            reply.header(checksum.checksum.algorithm().header(), checksum.to_string())
        }
        Some(checksum) => with_checksum(reply, checksum),
    }
}

/// 204 of DeleteObject, also if there was no object. `marker` says that a delete marker was made or deleted.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>, Response Syntax.)
pub fn delete_object(version_id: Option<&str>, marker: bool) -> Reply {
    let reply = Reply::new(204).optional("x-amz-version-id", version_id);
    if marker { reply.header("x-amz-delete-marker", "true") } else { reply }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::checksum::Algorithm;

    fn value<'a>(reply: &'a Reply, name: &str) -> Option<&'a [u8]> {
        let mut found = reply.headers.iter().filter(|(other, _)| other == name);
        let value = found.next().map(|(_, value)| value.as_slice());
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    fn headers() -> ObjectHeaders {
        let mut headers = ObjectHeaders {
            checksum: Checksum::from_crc(Algorithm::Crc32, 1).map(ObjectChecksum::from),
            user: vec![("mtime".into(), b"1.5".to_vec())],
            storage_class: StorageClass::StandardIa,
            ..ObjectHeaders::default()
        };
        headers.stored[0] = Some(b"no-cache".to_vec());
        headers.stored[2] = Some(b"gzip".to_vec());
        headers
    }

    fn whole<'a>(headers: &'a ObjectHeaders, overrides: &'a [Option<String>; 6]) -> ObjectReply<'a> {
        ObjectReply {
            etag: "e-2",
            modified_ms: 784_111_777_999,
            size: 10,
            headers,
            version_id: None,
            range: None,
            part_count: None,
            part_checksum: None,
            overrides,
            with_checksum: true,
        }
    }

    #[test]
    fn a_whole_object_carries_what_was_stored() {
        // Stored headers, metadata, class and checksum come back; an override wins; the media type has a default.
        let (headers, mut overrides) = (headers(), Default::default());
        let reply = whole(&headers, &overrides).reply();
        assert_eq!(reply.status, 200);
        let table: &[(&str, &[u8])] = &[
            ("Last-Modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            ("ETag", b"\"e-2\""),
            ("Accept-Ranges", b"bytes"),
            ("Cache-Control", b"no-cache"),
            ("Content-Encoding", b"gzip"),
            ("Content-Type", b"binary/octet-stream"),
            ("x-amz-meta-mtime", b"1.5"),
            ("x-amz-storage-class", b"STANDARD_IA"),
            ("x-amz-checksum-crc32", b"AAAAAQ=="),
            ("x-amz-checksum-type", b"FULL_OBJECT"),
        ];
        for (name, expected) in table {
            assert_eq!(value(&reply, name), Some(*expected), "{name}");
        }
        assert_eq!(reply.headers.len(), table.len());
        assert_eq!(reply.body, ReplyBody::Payload { bytes: 10 });
        overrides[4] = Some("text/html".to_owned());
        overrides[0] = Some("x".to_owned());
        let reply = whole(&headers, &overrides).reply();
        assert_eq!(value(&reply, "Content-Type"), Some(&b"text/html"[..]));
        assert_eq!(value(&reply, "Cache-Control"), Some(&b"x"[..]));
    }

    #[test]
    fn a_range_tells_no_checksum_of_other_bytes() {
        // 206 with the range; the object's checksum only if the range is the object; a part brings its own.
        let (headers, overrides) = (headers(), Default::default());
        let range = |offset, bytes| Some(ResolvedRange { offset, bytes });
        let reply = ObjectReply { range: range(2, 3), ..whole(&headers, &overrides) }.reply();
        assert_eq!((reply.status, &reply.body), (206, &ReplyBody::Payload { bytes: 3 }));
        assert_eq!(value(&reply, "Content-Range"), Some(&b"bytes 2-4/10"[..]));
        assert_eq!(value(&reply, "x-amz-checksum-crc32"), None);
        let reply = ObjectReply { range: range(0, 10), ..whole(&headers, &overrides) }.reply();
        assert_eq!(value(&reply, "x-amz-checksum-crc32"), Some(&b"AAAAAQ=="[..]));
        let part = Checksum::from_crc(Algorithm::Crc32, 2);
        let reply = ObjectReply {
            range: range(5, 5),
            part_count: Some(2),
            part_checksum: part,
            ..whole(&headers, &overrides)
        }
        .reply();
        assert_eq!(value(&reply, "x-amz-checksum-crc32"), Some(&b"AAAAAg=="[..]));
        assert_eq!(value(&reply, "x-amz-mp-parts-count"), Some(&b"2"[..]));
        let reply = ObjectReply { with_checksum: false, ..whole(&headers, &overrides) }.reply();
        assert_eq!(value(&reply, "x-amz-checksum-type"), None);
    }

    #[test]
    fn writes_and_deletes_answer_heads_only() {
        // Tags in quotes, the checksum that was stored, versions and markers where there are any.
        let headers = headers();
        let reply = not_modified("e", 0, &headers);
        assert_eq!((reply.status, value(&reply, "ETag")), (304, Some(&b"\"e\""[..])));
        assert_eq!(value(&reply, "Cache-Control"), Some(&b"no-cache"[..]));
        let reply = put_object("e", Some("v"), headers.checksum.as_ref(), false);
        assert_eq!(value(&reply, "x-amz-version-id"), Some(&b"v"[..]));
        assert_eq!(value(&reply, "x-amz-checksum-type"), Some(&b"FULL_OBJECT"[..]));
        assert_eq!(
            value(&put_object("e", None, headers.checksum.as_ref(), true), "x-amz-checksum-type"),
            None
        );
        assert_eq!(delete_object(None, false), Reply::new(204));
        assert_eq!(value(&delete_object(Some("v"), true), "x-amz-delete-marker"), Some(&b"true"[..]));
    }
}
