//! What a bucket is set to, read once for each change of it.
//!
//! Invariant: what can not be read is no reason to do without it. A bucket with a document that is not understood, as one of a newer
//! program may be, answers nothing until it is: a lock or a denial might stand there.

use super::{access::BucketAccess, failure::failure, identity::Account};
use crate::protocol::{
    acl::Acl,
    cors::CorsConfiguration,
    error::{ErrorCode, S3Error},
    lifecycle::LifecycleConfiguration,
    lock::LockConfiguration,
    operation::DocumentKind,
    ownership::{ObjectOwnership, PublicAccessBlock},
    policy::{Policy, PolicyPlace},
};
use bytes::Bytes;
use crossdock::{BucketInfo, CoreEngine};
use std::{cell::RefCell, collections::HashMap, sync::Arc};

/// The document that holds a bucket's owner and list.
pub(super) const ACL_DOCUMENT: &str = "acl";

/// Buckets remembered on a core.
const REMEMBERED_MAX: usize = 1024;

/// A bucket and what it is set to.
#[derive(Debug)]
pub(crate) struct BucketState {
    pub(crate) info: BucketInfo,
    pub(crate) access: BucketAccess,
    pub(crate) cors: Option<CorsConfiguration>,
    pub(crate) lifecycle: Option<Arc<LifecycleConfiguration>>,
    pub(crate) lock: Option<LockConfiguration>,
}

impl BucketState {
    /// Reads what the engine keeps.
    ///
    /// # Errors
    /// 500 `InternalError`: something is not understood.
    pub(crate) fn of(info: BucketInfo) -> Result<BucketState, S3Error> {
        let unreadable = |name: &str| {
            tracing::error!(bucket = %info.name, document = name, "a bucket's configuration can not be read");
            S3Error::from(ErrorCode::InternalError)
        };
        let read = |kind: DocumentKind| info.documents.get(kind.name()).map(|bytes| (kind, bytes));
        fn parsed<T>(
            found: Option<(DocumentKind, &Bytes)>,
            parse: impl Fn(&[u8]) -> Result<T, S3Error>,
            unreadable: impl Fn(&str) -> S3Error,
        ) -> Result<Option<T>, S3Error> {
            found.map(|(kind, bytes)| parse(bytes).map_err(|_| unreadable(kind.name()))).transpose()
        }
        let acl = match info.documents.get(ACL_DOCUMENT) {
            Some(bytes) => Acl::decode(bytes).ok_or_else(|| unreadable(ACL_DOCUMENT))?,
            None => Acl::private(&Account::default_account().id),
        };
        let parse_policy = |bytes: &[u8]| Policy::parse(bytes, PolicyPlace::Bucket(&info.name));
        let policy = parsed(read(DocumentKind::Policy), parse_policy, unreadable)?;
        let ownership = parsed(read(DocumentKind::Ownership), ObjectOwnership::parse, unreadable)?;
        let ownership = ownership.unwrap_or(ObjectOwnership::ObjectWriter);
        let block = parsed(read(DocumentKind::PublicAccess), PublicAccessBlock::parse, unreadable)?;
        let access = BucketAccess { acl, policy, ownership, block: block.unwrap_or_default() };
        let cors = parsed(read(DocumentKind::Cors), CorsConfiguration::parse, unreadable)?;
        let lifecycle = parsed(read(DocumentKind::Lifecycle), LifecycleConfiguration::parse, unreadable)?;
        let lock = parsed(read(DocumentKind::ObjectLock), LockConfiguration::parse, unreadable)?;
        Ok(BucketState { access, cors, lifecycle: lifecycle.map(Arc::new), lock, info })
    }

    /// Whether it is set to the same as `other`: the same bucket, and no change of it between.
    pub(crate) fn is_as(&self, other: &BucketState) -> bool {
        self.info.as_of() == other.info.as_of()
    }

    pub(crate) fn owner(&self) -> &str {
        &self.access.acl.owner
    }
}

/// Buckets by name, as they were when somebody last asked.
#[derive(Default)]
pub(super) struct Remembered(RefCell<HashMap<Box<str>, Arc<BucketState>>>);

impl Remembered {
    /// The bucket as it is now. What it is set to is read again only if it changed.
    ///
    /// # Errors
    /// 404 `NoSuchBucket`, 500 `InternalError`.
    pub(super) async fn bucket(&self, engine: &CoreEngine, name: &str) -> Result<Arc<BucketState>, S3Error> {
        let info = engine.bucket_nearby(name).await.map_err(failure)?;
        if let Some(known) = self.0.borrow().get(name)
            && known.info.as_of() == info.as_of()
        {
            return Ok(known.clone());
        }
        let state = Arc::new(BucketState::of(info)?);
        let mut all = self.0.borrow_mut();
        if all.len() >= REMEMBERED_MAX {
            all.clear();
        }
        all.insert(name.into(), state.clone());
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_names_of_their_own() {
        // None is the list's, none another's: they lie beside each other.
        let mut names: Vec<&str> = DocumentKind::ALL.map(DocumentKind::name).into();
        names.push(ACL_DOCUMENT);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DocumentKind::ALL.len() + 1);
    }
}
