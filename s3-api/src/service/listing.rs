//! ListObjects and ListObjectsV2. (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>.)

use super::{
    Owners,
    failure::failure,
    tags::{listed_headers_of, text},
};
use crate::protocol::{
    checksum::{Algorithm, ChecksumType},
    error::S3Error,
    operation::{ListObjects, ListObjectsV2, ListPosition, ListQuery},
    reply::{self, Listed, ListedObject, Reply},
};
use crossdock::{CoreEngine, ListItem, ListOptions, ListStart, Listing, ObjectInfo};

async fn page(
    engine: &CoreEngine,
    bucket: &str,
    query: &ListQuery,
    position: &ListPosition,
) -> Result<Listing, S3Error> {
    // S3 answers max-keys=0 with an empty list that is not truncated; the engine has no pages of nothing.
    if query.entries_max == 0 {
        engine.bucket(bucket).await.map_err(failure)?;
        return Ok(Listing::default());
    }
    let start = match position {
        ListPosition::Beginning => ListStart::First,
        ListPosition::AfterKey(key) => ListStart::After(key.clone()),
        ListPosition::AfterPrefix(prefix) => ListStart::AfterPrefix(prefix.clone()),
    };
    let options = ListOptions {
        prefix: query.prefix.clone().into_bytes(),
        delimiter: query.delimiter.clone().unwrap_or_default().into_bytes(),
        start,
        limit: query.entries_max as usize,
    };
    engine.list(bucket, &options).await.map_err(failure)
}

/// An object as listings tell it.
pub(super) fn listed_object<'a>(
    key: &'a [u8],
    info: &'a ObjectInfo,
    owners: &Owners<'_>,
) -> ListedObject<'a> {
    let headers = listed_headers_of(&info.attributes);
    let default = (Algorithm::Crc64Nvme, ChecksumType::FullObject);
    ListedObject {
        key,
        etag: text(&info.etag),
        modified_ms: info.modified_ms,
        bytes: info.size,
        owner: owners.other(&headers),
        storage_class: headers.storage_class,
        checksum: Some(headers.checksum.map_or(default, |sum| (sum.checksum.algorithm(), sum.kind()))),
    }
}

/// The listing's lines as replies have them.
fn lines<'a>(listing: &'a Listing, owners: &Owners<'_>) -> Vec<Listed<'a>> {
    let mut lines = Vec::with_capacity(listing.items.len());
    for item in &listing.items {
        lines.push(match item {
            ListItem::CommonPrefix(prefix) => Listed::CommonPrefix(prefix),
            ListItem::Object { key, info } => Listed::Object(listed_object(key, info, owners)),
        });
    }
    lines
}

pub(super) async fn list(
    engine: &CoreEngine,
    request: &ListObjects,
    owners: &Owners<'_>,
) -> Result<Reply, S3Error> {
    let listing = page(engine, &request.bucket, &request.query, &request.position).await?;
    Ok(reply::list_objects(request, &lines(&listing, owners), listing.next.is_some(), owners.bucket))
}

pub(super) async fn list_v2(
    engine: &CoreEngine,
    request: &ListObjectsV2,
    owners: &Owners<'_>,
) -> Result<Reply, S3Error> {
    let listing = page(engine, &request.bucket, &request.query, &request.position).await?;
    let next = listing.next.as_ref().map(|next| match next {
        ListStart::First => ListPosition::Beginning,
        ListStart::After(key) => ListPosition::AfterKey(key.clone()),
        ListStart::AfterPrefix(prefix) => ListPosition::AfterPrefix(prefix.clone()),
        // A listing of keys ends behind a key, never within one.
        ListStart::AfterVersion(key, _) | ListStart::AfterUpload { key, .. } => {
            ListPosition::AfterKey(key.clone())
        }
    });
    let token = next.map(|next| next.to_token());
    Ok(reply::list_objects_v2(request, &lines(&listing, owners), token.as_deref(), owners.bucket))
}
