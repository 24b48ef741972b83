//! Listing requests, and the places in a listing where the next page begins.
//!
//! A page ends behind a key or behind a common prefix. The difference matters: behind the prefix `a/` lie no more
//! keys that begin with `a/`, behind a key named `a/` there may be many. Version 1 says both with one string, whose
//! meaning follows from the delimiter; version 2 has an opaque token that holds the difference.

use super::request::Input;
use crate::protocol::error::S3Error;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The most entries in a page; larger wishes are cut to it.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>, MaxKeys: "will never contain more".)
pub const PAGE_ENTRIES_MAX: u32 = 1000;

/// Where a listing begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListPosition {
    /// At the first key.
    #[default]
    Beginning,
    /// At the first key greater than this one, in byte order.
    AfterKey(Vec<u8>),
    /// At the first key greater than every key that begins with these bytes.
    AfterPrefix(Vec<u8>),
}

impl ListPosition {
    /// The position that a version 1 `marker` means.
    ///
    /// "NextMarker … This element is returned only if you have the delimiter request parameter specified"
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html>, NextMarker): it may be
    /// a common prefix, which then must not be listed again, so a marker that is one under this query means all of it.
    pub fn of_marker(marker: &str, prefix: &str, delimiter: Option<&str>) -> ListPosition {
        if marker.is_empty() {
            return ListPosition::Beginning;
        }
        let is_common_prefix = delimiter.is_some_and(|delimiter| {
            marker
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.find(delimiter).is_some_and(|at| at + delimiter.len() == rest.len()))
        });
        match is_common_prefix {
            true => ListPosition::AfterPrefix(marker.as_bytes().to_vec()),
            false => ListPosition::AfterKey(marker.as_bytes().to_vec()),
        }
    }

    /// The key or prefix, `None` at the beginning.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            ListPosition::Beginning => None,
            ListPosition::AfterKey(bytes) | ListPosition::AfterPrefix(bytes) => Some(bytes),
        }
    }

    /// The opaque token that [`ListPosition::from_token`] reads back: a version, a kind, and the bytes, in base64
    /// without characters that a query must escape.
    pub fn to_token(&self) -> String {
        let (kind, bytes): (u8, &[u8]) = match self {
            ListPosition::Beginning => (0, &[]),
            ListPosition::AfterKey(key) => (1, key),
            ListPosition::AfterPrefix(prefix) => (2, prefix),
        };
        URL_SAFE_NO_PAD.encode([&[1, kind], bytes].concat())
    }

    /// Reads a token. `None` if it is none of ours.
    pub fn from_token(token: &str) -> Option<ListPosition> {
        match &*URL_SAFE_NO_PAD.decode(token).ok()? {
            [1, 0] => Some(ListPosition::Beginning),
            [1, 1, key @ ..] => Some(ListPosition::AfterKey(key.to_vec())),
            [1, 2, prefix @ ..] => Some(ListPosition::AfterPrefix(prefix.to_vec())),
            _ => None,
        }
    }
}

/// What all listings of keys have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only keys that begin with this; empty for all.
    pub prefix: String,
    /// Keys that hold this behind the prefix are rolled up into common prefixes. Never empty; any string.
    pub delimiter: Option<String>,
    /// The most entries (keys and common prefixes together): 0 to [`PAGE_ENTRIES_MAX`].
    pub entries_max: u32,
    /// `encoding-type=url`: names in the reply are percent-encoded.
    pub url_encode: bool,
}

impl ListQuery {
    fn parse(input: &Input<'_>, max_name: &'static str) -> Result<ListQuery, S3Error> {
        let url_encode = match input.parameter("encoding-type") {
            None => false,
            Some(value) if value.eq_ignore_ascii_case("url") => true,
            Some(value) => {
                let message = "Invalid Encoding Method specified in Request";
                return Err(S3Error::invalid_argument("encoding-type", value, message));
            }
        };
        Ok(ListQuery {
            prefix: input.parameter("prefix").unwrap_or_default().to_owned(),
            delimiter: input.parameter("delimiter").map(str::to_owned),
            entries_max: page_entries(input, max_name)?,
            url_encode,
        })
    }
}

fn page_entries(input: &Input<'_>, name: &'static str) -> Result<u32, S3Error> {
    Ok(input.number(name, 0..=i32::MAX as u32)?.unwrap_or(PAGE_ENTRIES_MAX).min(PAGE_ENTRIES_MAX))
}

/// ListObjects, version 1. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjects {
    /// The bucket.
    pub bucket: String,
    /// What to list.
    pub query: ListQuery,
    /// The marker as sent, for the reply.
    pub marker: String,
    /// Where to begin.
    pub position: ListPosition,
}

impl ListObjects {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let query = ListQuery::parse(input, "max-keys")?;
        let marker = input.parameter("marker").unwrap_or_default().to_owned();
        let position = ListPosition::of_marker(&marker, &query.prefix, query.delimiter.as_deref());
        Ok(ListObjects { bucket: input.bucket(), query, marker, position })
    }
}

/// ListObjectsV2. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjectsV2 {
    /// The bucket.
    pub bucket: String,
    /// What to list.
    pub query: ListQuery,
    /// The token as sent, for the reply.
    pub continuation_token: Option<String>,
    /// `start-after` as sent, for the reply: a token says itself where to go on.
    pub start_after: Option<String>,
    /// Whether the reply names owners.
    pub fetch_owner: bool,
    /// Where to begin.
    pub position: ListPosition,
}

impl ListObjectsV2 {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let query = ListQuery::parse(input, "max-keys")?;
        // An empty token is the beginning, and echoed, as S3 does.
        let continuation_token = input.query().value("continuation-token").map(str::to_owned);
        let start_after = input.parameter("start-after").map(str::to_owned);
        let position = match (&continuation_token, &start_after) {
            (Some(token), _) if !token.is_empty() => ListPosition::from_token(token).ok_or_else(|| {
                let message = "The continuation token provided is incorrect";
                S3Error::invalid_argument("continuation-token", token.as_str(), message)
            })?,
            (_, Some(key)) => ListPosition::AfterKey(key.as_bytes().to_vec()),
            (_, None) => ListPosition::Beginning,
        };
        let fetch_owner =
            input.parameter("fetch-owner").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(ListObjectsV2 {
            bucket: input.bucket(),
            query,
            continuation_token,
            start_after,
            fetch_owner,
            position,
        })
    }
}

/// ListObjectVersions.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListObjectVersions {
    /// The bucket.
    pub bucket: String,
    /// What to list.
    pub query: ListQuery,
    /// The marker as sent, for the reply.
    pub key_marker: String,
    /// The version's marker as sent: with one, begin behind that version of the key.
    pub version_id_marker: String,
    /// Where to begin without a version's marker.
    pub position: ListPosition,
}

impl ListObjectVersions {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let query = ListQuery::parse(input, "max-keys")?;
        let key_marker = input.parameter("key-marker").unwrap_or_default().to_owned();
        let version_id_marker = input.parameter("version-id-marker").unwrap_or_default().to_owned();
        if key_marker.is_empty() && !version_id_marker.is_empty() {
            let message = "A version-id marker cannot be specified without a key marker.";
            return Err(S3Error::invalid_argument("version-id-marker", version_id_marker, message));
        }
        let position = ListPosition::of_marker(&key_marker, &query.prefix, query.delimiter.as_deref());
        Ok(ListObjectVersions { bucket: input.bucket(), query, key_marker, version_id_marker, position })
    }
}

/// ListMultipartUploads. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListMultipartUploads {
    /// The bucket.
    pub bucket: String,
    /// What to list.
    pub query: ListQuery,
    /// List uploads of greater keys, and of this key those behind `upload_id_marker` if there is one.
    pub key_marker: String,
    /// "If key-marker is not specified, the upload-id-marker parameter is ignored" (as above, upload-id-marker), and empty here.
    pub upload_id_marker: String,
}

/// The marker behind an upload: its identifier and when it was begun, so that a listing can go on there when the upload is over.
pub fn upload_marker(upload_id: &str, created_ms: u64) -> String {
    format!("{upload_id}-{created_ms}")
}

/// Reads what [`upload_marker`] makes, or an identifier alone, which tells no time.
pub fn parse_upload_marker(marker: &str) -> (&str, Option<u64>) {
    let parts = marker.rsplit_once('-').and_then(|(upload_id, ms)| Some((upload_id, ms.parse().ok()?)));
    parts.map_or((marker, None), |(upload_id, created_ms)| (upload_id, Some(created_ms)))
}

impl ListMultipartUploads {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let query = ListQuery::parse(input, "max-uploads")?;
        let key_marker = input.parameter("key-marker").unwrap_or_default().to_owned();
        let upload_id_marker = match key_marker.is_empty() {
            true => String::new(),
            false => input.parameter("upload-id-marker").unwrap_or_default().to_owned(),
        };
        Ok(ListMultipartUploads { bucket: input.bucket(), query, key_marker, upload_id_marker })
    }
}

/// ListParts. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListParts {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload.
    pub upload_id: String,
    /// The most parts: 0 to [`PAGE_ENTRIES_MAX`].
    pub parts_max: u32,
    /// List parts with greater numbers.
    pub part_number_marker: u32,
}

impl ListParts {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        Ok(ListParts {
            bucket: input.bucket(),
            key: input.key(),
            upload_id: input.upload_id(),
            parts_max: page_entries(input, "max-parts")?,
            part_number_marker: input.number("part-number-marker", 0..=i32::MAX as u32)?.unwrap_or(0),
        })
    }
}

/// ListBuckets. <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only buckets whose names begin with this; empty for all.
    pub prefix: String,
    /// The most buckets, 1 to 10,000. Without it all are listed.
    pub buckets_max: Option<u32>,
    /// List buckets with greater names.
    pub after: Option<String>,
    /// Only buckets of this region.
    pub region: Option<String>,
}

impl ListBuckets {
    pub(super) fn parse(input: &Input<'_>) -> Result<Self, S3Error> {
        let after = match input.parameter("continuation-token") {
            None => None,
            Some(token) => match ListPosition::from_token(token) {
                Some(ListPosition::AfterKey(name)) => Some(String::from_utf8_lossy(&name).into_owned()),
                _ => {
                    let message = "The continuation token provided is incorrect";
                    return Err(S3Error::invalid_argument("continuation-token", token, message));
                }
            },
        };
        Ok(ListBuckets {
            prefix: input.parameter("prefix").unwrap_or_default().to_owned(),
            buckets_max: input.number("max-buckets", 1..=10_000)?,
            after,
            region: input.parameter("bucket-region").map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_marker_means_a_prefix_only_under_its_delimiter() {
        // The string NextMarker was is skipped as a whole; a key that merely holds the delimiter is not.
        let of = |marker: &str, prefix: &str, delimiter| ListPosition::of_marker(marker, prefix, delimiter);
        assert_eq!(of("a/", "", Some("/")), ListPosition::AfterPrefix(b"a/".to_vec()));
        assert_eq!(of("a/b/", "a/", Some("/")), ListPosition::AfterPrefix(b"a/b/".to_vec()));
        assert_eq!(of("a/b/", "", Some("/")), ListPosition::AfterKey(b"a/b/".to_vec()));
        assert_eq!(of("a/b", "", Some("/")), ListPosition::AfterKey(b"a/b".to_vec()));
        assert_eq!(of("a/", "", None), ListPosition::AfterKey(b"a/".to_vec()));
        assert_eq!(of("a/", "a/", Some("/")), ListPosition::AfterKey(b"a/".to_vec()));
        assert_eq!(of("", "", Some("/")), ListPosition::Beginning);
    }

    proptest! {
        #[test]
        fn a_token_keeps_its_position(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in ".*") {
            // Positions survive as tokens that need no escaping in a query; any text is a token or is not.
            for position in [ListPosition::AfterKey(bytes.clone()), ListPosition::AfterPrefix(bytes.clone()), ListPosition::Beginning] {
                let token = position.to_token();
                prop_assert_eq!(crate::protocol::auth::encode_query(&token), token.clone());
                prop_assert_eq!(ListPosition::from_token(&token), Some(position));
            }
            let _ = ListPosition::from_token(&text);
        }
    }
}
