//! Whether what a request was decided by is still so, once its bytes are there.
//!
//! Bytes come as slowly as their sender likes, and a card's as slowly as its network does. Meanwhile a key is taken away, a user's rights
//! are taken back, a bucket is set otherwise, the time that a policy gives is over, or another object lies where the request would write.

use super::{
    Admitted, Looked, Service, ServiceOptions,
    failure::failure,
    identity::{Credential, Credentials, Principal, Secret},
};
use crate::protocol::error::{ErrorCode, S3Error};
use crossdock::{BucketInfo, BucketRevision, CoreEngine};
use std::sync::Arc;

/// By what the sender of a request was known.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// What the request was signed with; none if it was not.
    secret: Option<Secret>,
    /// [`Credentials::generation`] before they were asked.
    generation: Option<u64>,
}

impl Standing {
    /// Asks for a key, and gives what it signs with.
    ///
    /// # Errors
    /// 403 `InvalidAccessKeyId`.
    pub(super) fn of(
        credentials: &dyn Credentials,
        access_key: &str,
    ) -> Result<(Standing, Secret, Principal), S3Error> {
        let generation = credentials.generation();
        let Credential { secret, identity } = credential(credentials, access_key)?;
        let standing = Standing { secret: Some(secret.clone()), generation };
        Ok((standing, secret, Principal::Identity(identity)))
    }

    /// Has `principal` be who the key belongs to by now. Whether that is another, or one with other rights.
    ///
    /// # Errors
    /// 403 `InvalidAccessKeyId` for a key that is gone, `SignatureDoesNotMatch` for one that has another secret.
    pub(super) fn renew(
        &mut self,
        principal: &mut Principal,
        credentials: &dyn Credentials,
    ) -> Result<bool, S3Error> {
        let (Principal::Identity(before), Some(secret)) = (&*principal, &self.secret) else {
            return Ok(false);
        };
        let generation = credentials.generation();
        if generation.is_some() && generation == self.generation {
            return Ok(false);
        }
        let now = credential(credentials, &before.access_key)?;
        if now.secret != *secret {
            return Err(ErrorCode::SignatureDoesNotMatch.into());
        }
        let is_same = Arc::ptr_eq(&now.identity, before) || *now.identity == **before;
        self.generation = generation;
        *principal = Principal::Identity(now.identity);
        Ok(!is_same)
    }
}

fn credential(credentials: &dyn Credentials, access_key: &str) -> Result<Credential, S3Error> {
    credentials.lookup(access_key).ok_or_else(|| {
        S3Error::new(ErrorCode::InvalidAccessKeyId).field("AWSAccessKeyId", access_key.to_owned())
    })
}

impl Service {
    /// Decides a request again whose bytes are there, if it may be decided otherwise by now. Whether it was.
    ///
    /// # Errors
    /// As [`Service::decide_again`].
    pub(super) async fn decide_if_past(&self, admitted: &mut Admitted) -> Result<bool, S3Error> {
        let before = admitted.bucket()?.clone();
        let is_as = self.bucket(&before.info.name).await?.is_as(&before);
        let Admitted { standing, principal, .. } = admitted;
        let is_other = standing.renew(principal, &*self.options.credentials)?;
        if is_as && !is_other && !self.is_passing(admitted) {
            return Ok(false);
        }
        self.decide_again(admitted, None).await?;
        Ok(true)
    }

    /// Whether what was decided may be otherwise a moment later, though neither the sender nor the bucket changes.
    fn is_passing(&self, admitted: &Admitted) -> bool {
        let bucket = admitted.bucket.as_ref().map(|bucket| &bucket.access);
        !matches!(admitted.looked, Looked::Unneeded)
            || self.options.authorizer.depends_on_time(&admitted.principal, bucket)
    }

    /// What was decided, for a core that fetches the bytes.
    pub(super) fn decided(&self, admitted: &Admitted) -> Result<Decided, S3Error> {
        Ok(Decided {
            options: self.options.clone(),
            bucket: admitted.bucket()?.info.clone(),
            standing: admitted.standing.clone(),
            principal: admitted.principal.clone(),
            again: self.is_passing(admitted).then(|| Box::new(admitted.clone())),
        })
    }
}

/// What was decided before bytes were fetched, and by what.
pub(super) struct Decided {
    options: Arc<ServiceOptions>,
    bucket: BucketInfo,
    standing: Standing,
    principal: Principal,
    /// The request, if it is to be decided again in any case.
    again: Option<Box<Admitted>>,
}

impl Decided {
    /// Refuses to store what might not be taken any more, or not as it was to be. Where a bucket is set otherwise or a key has other
    /// rights, a client that sends the request again has it decided anew. With it comes what it was decided by.
    ///
    /// # Errors
    /// 409 `OperationAborted`; as [`Service::decide_again`].
    pub(super) async fn check(mut self, engine: &CoreEngine) -> Result<BucketRevision, S3Error> {
        let now = engine.bucket_nearby(&self.bucket.name).await.map_err(failure)?;
        let is_as = now.as_of() == self.bucket.as_of();
        if self.standing.renew(&mut self.principal, &*self.options.credentials)? || !is_as {
            return Err(ErrorCode::OperationAborted.into());
        }
        if let Some(mut admitted) = self.again {
            Service::new(self.options, engine.clone()).decide_again(&mut admitted, None).await?;
        }
        Ok(now.as_of())
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::{Account, Identity};
    use super::*;
    use std::cell::Cell;

    /// Knows one key, counts who asks, and says so.
    struct Counted {
        asked: std::sync::atomic::AtomicU32,
        generation: Option<u64>,
        secret: &'static str,
    }

    impl Credentials for Counted {
        fn lookup(&self, access_key: &str) -> Option<Credential> {
            self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let identity = Arc::new(Identity::root(access_key, Account::default_account()));
            (access_key == "key").then(|| Credential { secret: Secret::new(self.secret), identity })
        }

        fn generation(&self) -> Option<u64> {
            self.generation
        }
    }

    #[test]
    fn nobody_looks_again_where_nothing_changed() {
        // The same generation is not asked; another one, and none, is; whoever did not sign is nobody to ask about.
        let of = |generation, secret| Counted { asked: Default::default(), generation, secret };
        let known = of(Some(1), "s");
        let (standing, _, principal) = Standing::of(&known, "key").unwrap();
        let renewed = Cell::new(0);
        let renew = |credentials: &Counted| {
            let before = credentials.asked.load(std::sync::atomic::Ordering::Relaxed);
            let result = standing.clone().renew(&mut principal.clone(), credentials);
            renewed.set(credentials.asked.load(std::sync::atomic::Ordering::Relaxed) - before);
            result
        };
        assert_eq!((renew(&known), renewed.get()), (Ok(false), 0));
        assert_eq!((renew(&of(Some(2), "s")), renewed.get()), (Ok(false), 1));
        assert_eq!((renew(&of(None, "s")), renewed.get()), (Ok(false), 1));
        assert_eq!(renew(&of(Some(2), "t")).unwrap_err().code, ErrorCode::SignatureDoesNotMatch);
        assert_eq!(Standing::of(&known, "other").unwrap_err().code, ErrorCode::InvalidAccessKeyId);
        let nobody = Standing::default().renew(&mut Principal::Anonymous, &of(None, "s"));
        assert_eq!(nobody, Ok(false));
    }
}
