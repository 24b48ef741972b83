//! Whether a request may do what it asks, and to which version.
//!
//! ```text
//!   head ─► decide ─► body ─► decide again ─► done, to the version that was looked at
//!                               by what the bucket is set to now, and with what the document says
//! ```
//!
//! Invariants:
//! * The first decision spares a stranger's body; the one that counts is made once the body is there: a sender can hold a body back
//!   for as long as it likes, and in the meantime keys are taken away, buckets are set otherwise and objects replaced: see `standing`.
//! * What was decided by a version is done to that version, or decided anew.

use super::{
    Admitted, RequestFacts, Service,
    access::{Access, Decision, ObjectAccess},
    facts::{Deed, Sender, Source},
    failure,
    identity::Principal,
    settings::BucketState,
    tags::{headers_of, parse_upload},
    versions::{NULL, which},
};
use crate::protocol::{
    error::{ErrorCode, S3Error},
    metadata::ObjectHeaders,
    operation::{
        CopySource, OperationName, Request, Resource, Routed, actions, check_expected_owner, read_action,
        read_tags_action,
    },
    tagging::TagSet,
};
use crossdock::{Error, ObjectInfo, Which};
use std::{cell::OnceCell, sync::Arc};

/// How often something is decided anew because what it was decided by is gone.
pub(super) const ATTEMPTS: usize = 16;
/// The same of a copy, which may have moved all its bytes before it finds that out.
const COPY_ATTEMPTS: usize = 4;

/// The version that a request was decided by.
#[derive(Clone, Debug, Default)]
pub(super) enum Looked {
    /// It was decided without.
    #[default]
    Unneeded,
    /// There was none, and why.
    Absent(Error),
    /// This one.
    Present(Box<ObjectInfo>),
}

impl Looked {
    /// The version to open where the request asks for `asked`.
    ///
    /// # Errors
    /// There was none to decide about: none that came since is to be opened.
    pub(super) fn which(&self, asked: Which) -> Result<Which, Error> {
        match self {
            Looked::Unneeded => Ok(asked),
            Looked::Absent(error) => Err(error.clone()),
            Looked::Present(info) => Ok(Which::Version(info.version)),
        }
    }

    /// Whether `error` says that what was looked at is not so any more.
    fn is_past(&self, error: &S3Error) -> bool {
        match error.code {
            ErrorCode::OperationAborted => true,
            ErrorCode::NoSuchVersion => matches!(self, Looked::Present(_)),
            _ => false,
        }
    }
}

/// What actions are asked about with: one thing, and what will be done to it.
pub(super) struct Question<'a> {
    principal: &'a Principal,
    bucket: Option<&'a BucketState>,
    resource: &'a Resource,
    version_id: Option<&'a str>,
    facts: RequestFacts<'a>,
    /// Looked at once, for all actions of a request.
    looked: OnceCell<Looked>,
}

impl<'a> Question<'a> {
    pub(super) fn new(
        sender: Sender<'a>,
        bucket: Option<&'a BucketState>,
        resource: &'a Resource,
        deed: Deed<'a>,
    ) -> Question<'a> {
        let (principal, version_id) = (sender.principal, deed.version_id);
        let account = bucket.map(BucketState::owner).or(principal.account_id());
        let facts = RequestFacts::of(Source { sender, account, deed });
        Question { principal, bucket, resource, version_id, facts, looked: OnceCell::new() }
    }

    /// What the answers hold for.
    pub(super) fn into_looked(self) -> Looked {
        self.looked.into_inner().unwrap_or_default()
    }
}

impl Service {
    /// Decides about a request by what its bucket is set to now, and by what `document` says, once there is one. With the bucket comes
    /// what the decision holds for.
    ///
    /// # Errors
    /// What the client is told; nothing was done.
    pub(super) async fn decide(
        &self,
        admitted: &Admitted,
        document: Option<&Request>,
    ) -> Result<(Option<Arc<BucketState>>, Looked), S3Error> {
        let Admitted { routed, headers, .. } = admitted;
        let operation = routed.operation;
        let bucket = match routed.resource.bucket() {
            Some(name) if operation != OperationName::CreateBucket => Some(self.bucket(name).await?),
            _ => None,
        };
        if let Some(bucket) = &bucket {
            check_expected_owner(headers, "x-amz-expected-bucket-owner", bucket.owner())?;
        }
        if is_decided_elsewhere(operation) || (document.is_none() && is_decided_by_document(operation)) {
            return Ok((bucket, Looked::Unneeded));
        }
        let anew;
        let request = match (document, &admitted.request) {
            (None, Some(request)) => request.as_ref().ok(),
            (None, None) => {
                anew = admitted.request_of_head().and_then(Result::ok);
                anew.as_ref()
            }
            (document, _) => document,
        };
        if request.is_some_and(takes_tags_along) {
            return Ok((bucket, Looked::Unneeded));
        }
        let upload = self.begun_with(routed).await?;
        let deed = Deed { upload: upload.as_ref(), ..Deed::of(routed, headers, request) };
        let question = Question::new(admitted.sender(), bucket.as_deref(), &routed.resource, deed);
        self.authorize_operation(&question, operation, request).await?;
        let looked = question.into_looked();
        Ok((bucket, looked))
    }

    /// Decides again, now that all of the body is there, by who the sender is now and what time it is.
    ///
    /// # Errors
    /// As [`Service::decide`], and of [`Standing::renew`](super::Standing::renew).
    pub(super) async fn decide_again(
        &self,
        admitted: &mut Admitted,
        document: Option<&Request>,
    ) -> Result<(), S3Error> {
        let Admitted { standing, principal, .. } = admitted;
        standing.renew(principal, &*self.options.credentials)?;
        admitted.origin.now_ms = self.engine.core().wall_clock_ms();
        (admitted.bucket, admitted.looked) = self.decide(admitted, document).await?;
        Ok(())
    }

    /// Has `work` done to what the request was decided by, in the bucket as it was then; where that is gone by then, it is decided anew.
    ///
    /// # Errors
    /// Those of `work`, and of [`Service::decide`]; 409 `OperationAborted` if it is gone again and again.
    pub(super) async fn as_decided<T>(
        &self,
        admitted: &Admitted,
        document: Option<&Request>,
        work: impl AsyncFn(&BucketState, &Looked) -> Result<T, S3Error>,
    ) -> Result<T, S3Error> {
        self.while_past(ATTEMPTS, admitted, document, work, Looked::is_past).await
    }

    /// As [`Service::as_decided`] of a copy, which finds its source anew by itself, and says 409 `OperationAborted` where that was replaced,
    /// or its target's bucket set otherwise, between being judged and being read.
    pub(super) async fn copy_as_decided<T>(
        &self,
        admitted: &Admitted,
        document: &Request,
        work: impl AsyncFn(&BucketState) -> Result<T, S3Error>,
    ) -> Result<T, S3Error> {
        let work = async |bucket: &BucketState, _: &Looked| work(bucket).await;
        let is_past = |_: &Looked, error: &S3Error| error.code == ErrorCode::OperationAborted;
        self.while_past(COPY_ATTEMPTS, admitted, Some(document), work, is_past).await
    }

    async fn while_past<T>(
        &self,
        attempts: usize,
        admitted: &Admitted,
        document: Option<&Request>,
        work: impl AsyncFn(&BucketState, &Looked) -> Result<T, S3Error>,
        is_past: impl Fn(&Looked, &S3Error) -> bool,
    ) -> Result<T, S3Error> {
        let mut anew = None;
        for _ in 0..attempts {
            let (bucket, looked) = match &anew {
                None => (admitted.bucket()?, &admitted.looked),
                Some((bucket, looked)) => (bucket, looked),
            };
            match work(bucket, looked).await {
                Err(error) if is_past(looked, &error) => {
                    let (bucket, looked) = self.decide(admitted, document).await?;
                    anew = Some((bucket.ok_or(ErrorCode::NoSuchBucket)?, looked));
                }
                done => return done,
            }
        }
        Err(ErrorCode::OperationAborted.into())
    }

    /// Whether an operation is allowed, with all that it does along the way.
    pub(super) async fn authorize_operation(
        &self,
        question: &Question<'_>,
        operation: OperationName,
        request: Option<&Request>,
    ) -> Result<(), S3Error> {
        let actions = actions(operation, question.version_id.is_some(), request);
        self.authorize(question, actions.first, false).await?;
        if let Some(second) = actions.second {
            self.authorize(question, second, false).await?;
        }
        for action in actions.others {
            self.authorize(question, action, true).await?;
        }
        Ok(())
    }

    /// The one place where actions are allowed or not.
    ///
    /// # Errors
    /// 403 `AccessDenied`; 405 `MethodNotAllowed` for what is the owner's account's alone.
    pub(super) async fn authorize(
        &self,
        question: &Question<'_>,
        action: &'static str,
        is_secondary: bool,
    ) -> Result<(), S3Error> {
        let Question { principal, resource, ref facts, .. } = *question;
        let bucket = question.bucket.map(|bucket| &bucket.access);
        let object = ObjectAccess::Unknown;
        let access = Access { principal, action, is_secondary, resource, bucket, object, facts };
        let decision = match self.options.authorizer.decide(&access) {
            Decision::LookAtObject => self.decide_by_object(question, access).await?,
            decision => decision,
        };
        match decision {
            Decision::Allow => Ok(()),
            Decision::OwnersOnly => Err(S3Error::new(ErrorCode::MethodNotAllowed).on(&resource.to_string())),
            Decision::Deny | Decision::LookAtObject => {
                Err(S3Error::new(ErrorCode::AccessDenied).on(&resource.to_string()))
            }
        }
    }

    async fn decide_by_object(
        &self,
        question: &Question<'_>,
        access: Access<'_>,
    ) -> Result<Decision, S3Error> {
        let (Some(bucket), Some(key)) = (question.resource.bucket(), question.resource.key()) else {
            return Ok(Decision::Deny);
        };
        if question.looked.get().is_none() {
            let which = which(question.version_id)?;
            let found = match self.engine.head(bucket, key.as_bytes(), which).await {
                Ok(info) => Looked::Present(Box::new(info)),
                Err(error @ (Error::NoSuchKey | Error::NoSuchVersion | Error::DeleteMarker(_))) => {
                    Looked::Absent(error)
                }
                Err(error) => return Err(failure::failure(error)),
            };
            question.looked.set(found).ok();
        }
        let authorizer = &self.options.authorizer;
        let is_null = match question.looked.get() {
            Some(Looked::Present(info)) => info.is_null_version,
            Some(Looked::Absent(Error::DeleteMarker(marker))) => marker.is_null_version,
            _ => false,
        };
        // What policies say of the null version by its name they say of the version, however else it might be found.
        if is_null && question.version_id.is_some_and(|name| name != NULL) {
            return Ok(Decision::Deny);
        }
        match question.looked.get() {
            Some(Looked::Present(info)) => {
                let headers = headers_of(&info.attributes)?;
                let object = ObjectAccess::Present { acl: headers.acl.as_ref(), tags: &headers.tags };
                Ok(authorizer.decide(&Access { object, ..access }))
            }
            _ => Ok(authorizer.decide(&Access { object: ObjectAccess::Absent, ..access })),
        }
    }

    /// Whether the sender may read the source of a copy, and says rightly who owns its bucket; and which version that holds for.
    pub(super) async fn authorize_source(
        &self,
        admitted: &Admitted,
        source: &CopySource,
    ) -> Result<Looked, S3Error> {
        let bucket = self.bucket(&source.bucket).await?;
        check_expected_owner(&admitted.headers, "x-amz-source-expected-bucket-owner", bucket.owner())?;
        let resource = Resource::Object { bucket: source.bucket.clone(), key: source.key.clone() };
        let version_id = source.version_id.as_deref();
        let deed = Deed::to_version(version_id);
        let question = Question::new(admitted.sender(), Some(&bucket), &resource, deed);
        self.authorize(&question, read_action(version_id.is_some()), false).await?;
        Ok(question.into_looked())
    }

    /// Whether `request` may make a copy in `bucket` with `tags`, which `source` has as it was looked at.
    ///
    /// # Errors
    /// 403 `AccessDenied`: the tags may not be read there, or such an object not be written here.
    pub(super) async fn authorize_copy(
        &self,
        admitted: &Admitted,
        (bucket, request): (&BucketState, &Request),
        source: (&CopySource, &ObjectInfo),
        tags: &TagSet,
    ) -> Result<(), S3Error> {
        let Admitted { routed, headers, .. } = admitted;
        let deed = Deed { tags: Some(tags), ..Deed::of(routed, headers, Some(request)) };
        let copy = Question::new(admitted.sender(), Some(bucket), &routed.resource, deed);
        self.authorize_operation(&copy, routed.operation, Some(request)).await?;
        if tags.is_empty() {
            return Ok(());
        }
        let (source, info) = source;
        let bucket = self.bucket(&source.bucket).await?;
        let resource = Resource::Object { bucket: source.bucket.clone(), key: source.key.clone() };
        let version_id = source.version_id.as_deref();
        let deed = Deed::to_version(version_id);
        let question = Question::new(admitted.sender(), Some(&bucket), &resource, deed);
        question.looked.set(Looked::Present(Box::new(info.clone()))).ok();
        self.authorize(&question, read_tags_action(version_id.is_some()), false).await?;
        self.authorize(&copy, "s3:PutObjectTagging", true).await
    }

    /// Whether the sender may pass over governance mode for what is done to `resource`.
    pub(super) async fn may_bypass(
        &self,
        admitted: &Admitted,
        bucket: &BucketState,
        resource: &Resource,
        deed: Deed<'_>,
    ) -> bool {
        let question = Question::new(admitted.sender(), Some(bucket), resource, deed);
        self.authorize(&question, "s3:BypassGovernanceRetention", false).await.is_ok()
    }

    /// What the upload was begun with that a request adds a part to, or ends: none if there is no such upload.
    ///
    /// One that was completed is judged by that as well, as far as the object that it is has kept it: whoever repeats a completion because
    /// its answer was lost is told the same. Tags are those that the object has by now.
    async fn begun_with(&self, routed: &Routed) -> Result<Option<ObjectHeaders>, S3Error> {
        let Routed { operation, resource: Resource::Object { bucket, key }, query } = routed else {
            return Ok(None);
        };
        let is_of_upload = matches!(
            operation,
            OperationName::UploadPart
                | OperationName::UploadPartCopy
                | OperationName::CompleteMultipartUpload
        );
        let upload = query.value("uploadId").filter(|_| is_of_upload).map(parse_upload);
        let Some(Ok(upload)) = upload else { return Ok(None) };
        let key = key.as_bytes();
        let attributes = match self.engine.list_parts(bucket, key, upload, 0, 0).await {
            Err(Error::NoSuchUpload) if *operation == OperationName::CompleteMultipartUpload => {
                self.engine.completed_upload(bucket, key, upload).await.map(|made| made.attributes)
            }
            found => found.map(|(info, ..)| info.attributes),
        };
        match attributes {
            Ok(attributes) => headers_of(&attributes).map(Some),
            Err(Error::NoSuchUpload) => Ok(None),
            Err(error) => Err(failure::failure(error)),
        }
    }
}

/// A form says in its fields who sends it, and each key of a DeleteObjects is asked about by itself.
fn is_decided_elsewhere(operation: OperationName) -> bool {
    matches!(operation, OperationName::PostObject | OperationName::DeleteObjects)
}

/// Whether policies can ask for what stands in the document, so that nothing can be said before it is there.
fn is_decided_by_document(operation: OperationName) -> bool {
    matches!(
        operation,
        OperationName::CreateBucket
            | OperationName::PutObjectTagging
            | OperationName::PutObjectRetention
            | OperationName::PutObjectLegalHold
    )
}

/// Whether it is a copy that will have the tags of its source, so that nothing can be said before that was looked at.
fn takes_tags_along(request: &Request) -> bool {
    matches!(request, Request::CopyObject(copy) if copy.replace_tags.is_none())
}
