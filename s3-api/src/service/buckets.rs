//! Buckets, and settings that buckets and objects here have only one value of.

use super::{
    OWNER,
    failure::failure,
    versions::{read_failure, which},
};
use crate::protocol::{
    error::{ErrorCode, S3Error},
    operation::{CreateBucket, GetObjectSetting, ListBuckets, ListPosition, OperationName},
    reply::{self, ListedBucket, Reply},
};
use bytes::Bytes;
use crossdock::{CoreEngine, Error};

pub(super) async fn list(engine: &CoreEngine, request: &ListBuckets, region: &str) -> Result<Reply, S3Error> {
    let buckets = engine.buckets().await.map_err(failure)?;
    let here = request.region.as_deref().is_none_or(|wanted| wanted == region);
    let after = request.after.as_deref().unwrap_or_default();
    let matching = |name: &str| here && name.starts_with(&request.prefix) && name > after;
    let all: Vec<ListedBucket<'_>> = buckets
        .iter()
        .filter(|bucket| matching(&bucket.name))
        .map(|bucket| ListedBucket { name: &bucket.name, created_ms: bucket.created_ms })
        .collect();
    let limit = request.buckets_max.map_or(all.len(), |limit| limit as usize);
    let page = all.get(..limit.min(all.len())).unwrap_or_default();
    let last = page.last().filter(|_| page.len() < all.len());
    let next = last.map(|bucket| ListPosition::AfterKey(bucket.name.as_bytes().to_vec()).to_token());
    let told = (request.buckets_max.is_some() || request.region.is_some()).then_some(region);
    Ok(reply::list_buckets(OWNER, page.iter().copied(), &request.prefix, told, next.as_deref()))
}

pub(super) async fn create(
    engine: &CoreEngine,
    request: &CreateBucket,
    region: &str,
) -> Result<Reply, S3Error> {
    // "EU" is what eu-west-1 was called once (CreateBucketConfiguration, LocationConstraint).
    let matches = match request.location.as_deref() {
        None => true,
        Some("EU") => region == "eu-west-1",
        Some(location) => location == region,
    };
    if !matches {
        let location = request.location.clone().unwrap_or_default();
        let message = format!(
            "The {location} location constraint is incompatible for the region specific endpoint this request was sent to."
        );
        return Err(S3Error::with_message(ErrorCode::IllegalLocationConstraintException, message));
    }
    match engine.create_bucket(&request.bucket, Bytes::new()).await {
        Ok(_) => {}
        // "If you re-create an existing bucket that you already own in the North Virginia Region, Amazon S3 returns 200 OK".
        // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>, BucketAlreadyOwnedByYou.)
        Err(Error::BucketExists) if region == "us-east-1" => {}
        Err(error) => return Err(failure(error)),
    }
    Ok(Reply::new(200).header("Location", format!("/{}", request.bucket)))
}

pub(super) async fn head(engine: &CoreEngine, bucket: &str, region: &str) -> Result<Reply, S3Error> {
    engine.bucket(bucket).await.map_err(failure)?;
    Ok(Reply::new(200).header("x-amz-bucket-region", region).header("x-amz-access-point-alias", "false"))
}

pub(super) async fn delete(engine: &CoreEngine, bucket: &str) -> Result<Reply, S3Error> {
    engine.delete_bucket(bucket).await.map_err(failure)?;
    Ok(Reply::new(204))
}

pub(super) async fn location(engine: &CoreEngine, bucket: &str, region: &str) -> Result<Reply, S3Error> {
    engine.bucket(bucket).await.map_err(failure)?;
    Ok(reply::bucket_location(region))
}

pub(super) async fn setting(
    engine: &CoreEngine,
    bucket: &str,
    operation: OperationName,
) -> Result<Reply, S3Error> {
    engine.bucket(bucket).await.map_err(failure)?;
    reply::default_configuration(operation, OWNER).unwrap_or(Err(ErrorCode::NotImplemented.into()))
}

pub(super) async fn object_setting(
    engine: &CoreEngine,
    request: &GetObjectSetting,
    operation: OperationName,
) -> Result<Reply, S3Error> {
    let which = which(request.version_id.as_deref())?;
    let found = engine.head(&request.bucket, request.key.as_bytes(), which).await;
    found.map_err(|error| read_failure(error, which))?;
    reply::default_configuration(operation, OWNER).unwrap_or(Err(ErrorCode::NotImplemented.into()))
}
