//! Versions: what clients call them, what a bucket keeps, and what is answered where a delete marker stands.

use super::{Owners, failure::failure, listing::listed_object, settings::BucketState};
use crate::protocol::{
    error::{ErrorCode, S3Error},
    operation::{ListObjectVersions, ListPosition, PutBucketVersioning},
    reply::{self, ListedVersion, Reply, VersionLine},
    time::format_http_date,
    xml::VersioningStatus,
};
use crossdock::{
    BucketChange, CoreEngine, DeleteMarker, Error, ListOptions, ListStart, ObjectInfo, Version, VersionItem,
    VersionKind, VersionListing, Versioning, Which,
};

/// What the null version is called: "objects that are stored in your bucket before you set the versioning state have a version
/// ID of null". (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html>, "Unversioned, versioning-enabled, and
/// versioning-suspended buckets".)
pub(super) const NULL: &str = "null";

/// A version as clients see it: "Unicode, UTF-8 encoded, URL-ready, opaque strings that are no more than 1,024 bytes long".
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html>, "Version IDs".)
pub(super) fn version_text(version: Version, is_null: bool) -> String {
    if is_null { NULL.into() } else { number_text(version) }
}

fn number_text(version: Version) -> String {
    format!("{:016x}", version.0)
}

/// What `x-amz-version-id` says of an object: nothing in a bucket that never kept versions.
pub(super) fn version_id(info: &ObjectInfo) -> Option<String> {
    let told = info.versioning != Versioning::Never;
    told.then(|| version_text(info.version, info.is_null_version))
}

/// As [`version_id`], of what was just written: a null version is not told, as it is whatever is there.
///
/// "x-amz-version-id: … If you enable versioning for a bucket, Amazon S3 automatically generates a unique version ID for the object being
/// stored. Amazon S3 returns this ID in the response." (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>.)
pub(super) fn written_id(info: &ObjectInfo) -> Option<String> {
    (info.versioning == Versioning::Enabled).then(|| version_text(info.version, info.is_null_version))
}

/// Reads what [`version_text`] writes.
///
/// # Errors
/// 400 `InvalidArgument`: what no version was ever called.
pub(super) fn which(version_id: Option<&str>) -> Result<Which, S3Error> {
    match version_id {
        None => Ok(Which::Current),
        Some(NULL) => Ok(Which::Null),
        Some(text) => number(text)
            .map(Which::Version)
            .ok_or_else(|| S3Error::invalid_argument("versionId", text, "Invalid version id specified")),
    }
}

fn number(text: &str) -> Option<Version> {
    let good = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    good.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Version)
}

/// The refusal of a read. Of a delete marker a client is told where it stands.
///
/// "If the current version of the object is a delete marker, Amazon S3 behaves as if the object was deleted and includes
/// x-amz-delete-marker: true in the response. If the specified version in the request is a delete marker, the response returns a 405
/// Method Not Allowed error and the Last-Modified: timestamp response header."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, x-amz-delete-marker.) "Allow" says what may be done with
/// one (RFC 9110 §15.5.6).
pub(super) fn read_failure(error: Error, which: Which) -> S3Error {
    let Error::DeleteMarker(marker) = error else { return failure(error) };
    let refusal = match which {
        Which::Current => S3Error::new(ErrorCode::NoSuchKey),
        Which::Null | Which::Version(_) => S3Error::new(ErrorCode::MethodNotAllowed)
            .header("Allow", "DELETE")
            .header("Last-Modified", format_http_date(marker.modified_ms / 1_000)),
    };
    refusal.header("x-amz-delete-marker", "true").header("x-amz-version-id", marker_text(&marker))
}

/// The refusal of a copy's source. A delete marker that is named is no source, whatever is below it.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>, x-amz-copy-source: "If the current version is a delete
/// marker and you don't specify a versionId in the x-amz-copy-source request header, Amazon S3 returns a 404 Not Found error … If you
/// specify versionId in the x-amz-copy-source and the versionId is a delete marker, Amazon S3 returns an HTTP 400 Bad Request error".)
pub(super) fn source_failure(error: Error, which: Which) -> S3Error {
    match error {
        Error::DeleteMarker(_) if which != Which::Current => S3Error::with_message(
            ErrorCode::InvalidRequest,
            "The source of a copy request may not specifically refer to a delete marker by version id.",
        ),
        error => failure(error),
    }
}

pub(super) fn marker_text(marker: &DeleteMarker) -> String {
    version_text(marker.version, marker.is_null_version)
}

pub(super) async fn bucket_versioning(engine: &CoreEngine, bucket: &str) -> Result<Reply, S3Error> {
    let status = match engine.bucket(bucket).await.map_err(failure)?.versioning {
        Versioning::Never => None,
        Versioning::Enabled => Some(VersioningStatus::Enabled),
        Versioning::Suspended => Some(VersioningStatus::Suspended),
    };
    Ok(reply::bucket_versioning(status))
}

pub(super) async fn set_bucket_versioning(
    engine: &CoreEngine,
    request: &PutBucketVersioning,
    bucket: &BucketState,
) -> Result<Reply, S3Error> {
    // A lock is worth nothing where versions can be replaced. What was looked at is still so when versioning is set.
    if bucket.lock.is_some() && request.status == VersioningStatus::Suspended {
        let message = "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.";
        return Err(S3Error::with_message(ErrorCode::InvalidBucketState, message));
    }
    let versioning = match request.status {
        VersioningStatus::Enabled => Versioning::Enabled,
        VersioningStatus::Suspended => Versioning::Suspended,
    };
    let change = BucketChange {
        versioning: Some(versioning),
        bucket: Some(bucket.info.bucket),
        revision: Some(bucket.info.revision),
        documents: Vec::new(),
    };
    engine.change_bucket(&request.bucket, change).await.map_err(failure)?;
    Ok(Reply::new(200))
}

/// Where a listing begins behind a version that the markers name.
///
/// The marker of a page that ends with a null version is its number, although its identifier is `null`: one may be replaced between
/// two pages, and then nobody knew where the last one ended. A client may say `null` all the same.
async fn start_of(engine: &CoreEngine, request: &ListObjectVersions) -> Result<ListStart, S3Error> {
    let key = request.key_marker.as_bytes();
    let behind = |version| ListStart::AfterVersion(key.to_vec(), version);
    match request.version_id_marker.as_str() {
        "" => Ok(match &request.position {
            ListPosition::Beginning => ListStart::First,
            ListPosition::AfterKey(key) => ListStart::After(key.clone()),
            ListPosition::AfterPrefix(prefix) => ListStart::AfterPrefix(prefix.clone()),
        }),
        NULL => match engine.head(&request.bucket, key, Which::Null).await {
            Ok(info) => Ok(behind(info.version)),
            Err(Error::DeleteMarker(marker)) => Ok(behind(marker.version)),
            Err(Error::NoSuchVersion) => Ok(ListStart::After(key.to_vec())),
            Err(error) => Err(failure(error)),
        },
        text => number(text).map(behind).ok_or_else(|| {
            S3Error::invalid_argument("version-id-marker", text, "Invalid version id specified")
        }),
    }
}

pub(super) async fn list(
    engine: &CoreEngine,
    request: &ListObjectVersions,
    owners: &Owners<'_>,
) -> Result<Reply, S3Error> {
    let query = &request.query;
    let options = ListOptions {
        prefix: query.prefix.clone().into_bytes(),
        delimiter: query.delimiter.clone().unwrap_or_default().into_bytes(),
        start: start_of(engine, request).await?,
        limit: query.entries_max as usize,
    };
    // As in the other listings: nothing was asked for, and nothing is left out.
    let listing = if options.limit == 0 {
        engine.bucket(&request.bucket).await.map_err(failure)?;
        VersionListing::default()
    } else {
        engine.list_versions(&request.bucket, &options).await.map_err(failure)?
    };
    let mut lines = Vec::with_capacity(listing.items.len());
    for item in &listing.items {
        lines.push(match item {
            VersionItem::CommonPrefix(prefix) => VersionLine::CommonPrefix(prefix),
            VersionItem::Version { key, is_current, kind } => {
                let (modified_ms, object) = match kind {
                    VersionKind::Object(info) => (info.modified_ms, Some(listed_object(key, info, owners))),
                    VersionKind::DeleteMarker(marker) => (marker.modified_ms, None),
                };
                let version_id = version_text(kind.version(), kind.is_null_version());
                VersionLine::Version(ListedVersion {
                    version_id,
                    is_latest: *is_current,
                    key,
                    modified_ms,
                    object,
                })
            }
        });
    }
    let next = listing.items.last().and_then(|item| match item {
        VersionItem::Version { kind, .. } => Some(number_text(kind.version())),
        VersionItem::CommonPrefix(_) => None,
    });
    Ok(reply::list_object_versions(request, &lines, listing.next.is_some(), next.as_deref(), owners.bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_named_in_16_digits() {
        // What is written is read, the null version by its name; other texts never named a version.
        for version in [0, 1, u64::MAX].map(Version) {
            assert_eq!(which(Some(&version_text(version, false))), Ok(Which::Version(version)));
            assert_eq!(which(Some(&version_text(version, true))), Ok(Which::Null));
        }
        assert_eq!(which(None), Ok(Which::Current));
        for bad in ["", "0", "Null", "+000000000000001", "000000000000000A", "00000000000000001"] {
            assert_eq!(which(Some(bad)).unwrap_err().code, ErrorCode::InvalidArgument, "{bad}");
        }
    }
}
