//! Buckets: made, found, listed and deleted.

use super::{
    BucketDefaults,
    failure::failure,
    identity::{Credentials, Principal},
    settings::{ACL_DOCUMENT, BucketState},
};
use crate::protocol::{
    acl::{Acl, AclRequest, CannedAcl},
    error::{ErrorCode, S3Error},
    lock::LockConfiguration,
    operation::{CreateBucket, DocumentKind, ListBuckets, ListPosition},
    ownership::ObjectOwnership,
    reply::{self, ListedBucket, Owner, Reply},
};
use bytes::Bytes;
use crossdock::{BucketOptions, CoreEngine, Error, Versioning};
use std::{collections::BTreeMap, sync::Arc};

/// The buckets of an account.
pub(super) async fn list(
    engine: &CoreEngine,
    request: &ListBuckets,
    region: &str,
    owner: Owner<'_>,
) -> Result<Reply, S3Error> {
    let buckets = engine.buckets().await.map_err(failure)?;
    let here = request.region.as_deref().is_none_or(|wanted| wanted == region);
    let after = request.after.as_deref().unwrap_or_default();
    let matching = |name: &str| here && name.starts_with(&request.prefix) && name > after;
    let mut all: Vec<ListedBucket<'_>> = Vec::new();
    for bucket in buckets.iter().filter(|bucket| matching(&bucket.name)) {
        // One that can not be read is nobody's to see.
        let is_theirs = BucketState::of(bucket.clone()).is_ok_and(|state| state.owner() == owner.id);
        if is_theirs {
            all.push(ListedBucket { name: &bucket.name, created_ms: bucket.created_ms });
        }
    }
    let limit = request.buckets_max.map_or(all.len(), |limit| limit as usize);
    let page = all.get(..limit.min(all.len())).unwrap_or_default();
    let last = page.last().filter(|_| page.len() < all.len());
    let next = last.map(|bucket| ListPosition::AfterKey(bucket.name.as_bytes().to_vec()).to_token());
    let told = (request.buckets_max.is_some() || request.region.is_some()).then_some(region);
    Ok(reply::list_buckets(owner, page.iter().copied(), &request.prefix, told, next.as_deref()))
}

/// Whether a bucket may be made that is wanted in `location`, on a server of region `only`; without one it may be wanted anywhere, as
/// clients name the region that they are set to.
pub(super) fn check_location(location: Option<&str>, only: Option<&str>) -> Result<(), S3Error> {
    let (Some(location), Some(only)) = (location, only) else { return Ok(()) };
    // "EU" is what eu-west-1 was called once (CreateBucketConfiguration, LocationConstraint).
    if location == only || (location, only) == ("EU", "eu-west-1") {
        return Ok(());
    }
    let message = format!(
        "The {location} location constraint is incompatible for the region specific endpoint this request was sent to."
    );
    Err(S3Error::with_message(ErrorCode::IllegalLocationConstraintException, message))
}

pub(super) async fn create(
    engine: &CoreEngine,
    request: &CreateBucket,
    region: &str,
    defaults: &BucketDefaults,
    principal: &Principal,
    credentials: &dyn Credentials,
) -> Result<Reply, S3Error> {
    let default = super::identity::Account::default_account();
    let owner = principal.account_id().unwrap_or(&default.id);
    let documents = Arc::new(documents(request, owner, defaults, credentials)?);
    let versioning = if request.object_lock { Versioning::Enabled } else { Versioning::Never };
    let wanted = documents.clone();
    let options = BucketOptions { attributes: Bytes::new(), versioning, documents };
    match engine.create_bucket_with(&request.bucket, options).await {
        Ok(_) => {}
        Err(Error::BucketExists) => exists(engine, request, region, owner, &wanted).await?,
        Err(error) => return Err(failure(error)),
    }
    Ok(Reply::new(200).header("Location", format!("/{}", request.bucket)))
}

/// What a new bucket is set to.
fn documents(
    request: &CreateBucket,
    owner: &str,
    defaults: &BucketDefaults,
    credentials: &dyn Credentials,
) -> Result<BTreeMap<Box<str>, Bytes>, S3Error> {
    let mut documents = BTreeMap::new();
    let mut set = |name: &str, document: Vec<u8>| documents.insert(Box::from(name), Bytes::from(document));
    let ownership = request.ownership.or(defaults.ownership);
    let acl = match &request.acl {
        None => Acl::private(owner),
        Some(acl) => {
            let harmless = *acl == AclRequest::Canned(CannedAcl::Private);
            if ownership == Some(ObjectOwnership::BucketOwnerEnforced) && !harmless {
                return Err(ErrorCode::InvalidBucketAclWithObjectOwnership.into());
            }
            let by_email =
                |email: &str| credentials.account_by_email(email).map(|found| found.id.to_string());
            let acl = acl.resolve(owner, owner, by_email, |id| credentials.account(id).is_some())?;
            if defaults.block.is_some_and(|block| block.block_public_acls) && acl.is_public() {
                return Err(ErrorCode::AccessDenied.into());
            }
            acl
        }
    };
    set(ACL_DOCUMENT, acl.encode());
    if let Some(ownership) = ownership {
        set(DocumentKind::Ownership.name(), ownership.document());
    }
    if let Some(block) = defaults.block {
        set(DocumentKind::PublicAccess.name(), block.document());
    }
    if request.object_lock {
        set(DocumentKind::ObjectLock.name(), LockConfiguration::default().document());
    }
    if !request.tags.is_empty() {
        set(DocumentKind::Tagging.name(), request.tags.document());
    }
    Ok(documents)
}

/// The bucket is there already.
///
/// "If you re-create an existing bucket that you already own in the North Virginia Region, Amazon S3 returns 200 OK and resets the
/// bucket access control lists (ACLs)".
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>, BucketAlreadyOwnedByYou.) A request that asks for what the
/// bucket is not is refused instead of changing a bucket that may be in use.
async fn exists(
    engine: &CoreEngine,
    request: &CreateBucket,
    region: &str,
    owner: &str,
    wanted: &BTreeMap<Box<str>, Bytes>,
) -> Result<(), S3Error> {
    let bucket = BucketState::of(engine.bucket(&request.bucket).await.map_err(failure)?)?;
    if bucket.owner() != owner {
        return Err(ErrorCode::BucketAlreadyExists.into());
    }
    if region != "us-east-1" {
        return Err(ErrorCode::BucketAlreadyOwnedByYou.into());
    }
    let same = bucket.info.documents.get(ACL_DOCUMENT) == wanted.get(ACL_DOCUMENT);
    if same && bucket.lock.is_some() == request.object_lock {
        return Ok(());
    }
    Err(ErrorCode::BucketAlreadyExists.into())
}

pub(super) fn head(region: &str) -> Reply {
    Reply::new(200).header("x-amz-bucket-region", region).header("x-amz-access-point-alias", "false")
}

pub(super) async fn delete(engine: &CoreEngine, bucket: &str) -> Result<Reply, S3Error> {
    engine.delete_bucket(bucket).await.map_err(failure)?;
    Ok(Reply::new(204))
}
