//! Performing an admitted operation.

use super::{
    Admitted, Answer, Deed, Looked, Owners, Principal, Question, Service, buckets, configurations, copies,
    form, listing, object_changes, owner, reads, remote, settings::BucketState, stamp, uploads, versions,
    writes, writes::DeleteDecided,
};
use crate::{
    protocol::{
        acl::AclRequest,
        error::{ErrorCode, S3Error},
        lock::Lock,
        metadata::ObjectHeaders,
        operation::{DeleteObjects, OperationName, PutAcl, PutObject, Request, Resource, delete_action},
        reply::Reply,
        tagging::TagSet,
        xml::ObjectIdentifier,
    },
    server::{Body, Document},
};
use crossdock::{ObjectInfo, reactor::Moment};

impl Service {
    /// Performs the operation.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) async fn run(
        &self,
        admitted: &mut Admitted,
        begun: Moment,
        body: &mut Body<'_>,
    ) -> Result<Answer, S3Error> {
        let name = admitted.routed.resource.to_string();
        if admitted.routed.operation == OperationName::PostObject {
            return form::post(self, admitted, body).await.map(Answer::from).map_err(|error| error.on(&name));
        }
        let limit = admitted.routed.operation.document_bytes_max();
        let document = match limit {
            Some(limit) => body.document(limit).await.map_err(|error| error.on(&name))?,
            None => Document::new(),
        };
        // Its room is held until all that it asks for is done.
        let request = match admitted.request.take() {
            Some(request) => request?,
            None => Request::parse(&admitted.routed, &admitted.headers, admitted.payload, &document.bytes)?,
        };
        if limit.is_some() {
            self.decide_again(admitted, Some(&request)).await.map_err(|error| error.on(&name))?;
        }
        self.perform(request, admitted, begun, body).await.map_err(|error| error.on(&name))
    }

    /// Completes what is stored with a new version.
    pub(super) fn stamp(
        &self,
        headers: &mut ObjectHeaders,
        acl: Option<&AclRequest>,
        bucket: &BucketState,
        now_ms: u64,
        principal: &Principal,
    ) -> Result<(), S3Error> {
        // On a server that is open to everybody nobody in particular owns what everybody writes.
        let nobody = if self.options.authorizer.is_open() { bucket.owner() } else { stamp::ANONYMOUS };
        let writer = principal.account_id().unwrap_or(nobody);
        stamp::stamp(headers, acl, bucket, writer, &*self.options.credentials, now_ms)
    }

    async fn perform(
        &self,
        mut request: Request,
        admitted: &mut Admitted,
        begun: Moment,
        body: &mut Body<'_>,
    ) -> Result<Answer, S3Error> {
        let (now_ms, principal) = (admitted.origin.now_ms, &admitted.principal);
        // What the request says of locks, before its bucket's own word is added.
        let mut own_lock = Lock::default();
        if let Request::PutObject(put) = &mut request {
            own_lock = put.headers.lock;
            self.stamp(&mut put.headers, put.acl.as_ref(), admitted.bucket()?, now_ms, principal)?;
        }
        if let Some(proposal) = &admitted.proposal {
            return self.perform_remote(request, admitted, proposal, begun).await;
        }
        let reply = match request {
            Request::GetObject(get) => {
                let lifecycle = admitted.bucket()?.lifecycle.as_deref();
                let read = async |_: &BucketState, looked: &Looked| {
                    reads::get(&self.engine, &get, looked, principal, lifecycle).await
                };
                return self.as_decided(admitted, None, read).await;
            }
            Request::PutObject(put) => {
                let settle = async |put: &mut PutObject| {
                    if self.decide_if_past(admitted).await? {
                        let Admitted { principal, origin, .. } = &*admitted;
                        put.headers.lock = own_lock;
                        let (bucket, acl) = (admitted.bucket()?, put.acl.as_ref());
                        self.stamp(&mut put.headers, acl, bucket, origin.now_ms, principal)?;
                    }
                    admitted.bucket().cloned()
                };
                writes::put(&self.engine, put, body, settle).await
            }
            Request::UploadPart(part) => {
                let settle = async || {
                    self.decide_if_past(admitted).await?;
                    Ok(admitted.bucket()?.info.as_of())
                };
                writes::put_part(&self.engine, &part, body, settle).await
            }
            request => body.while_at_work(self.perform_plain(request, admitted)).await,
        };
        reply.map(Answer::from)
    }

    /// An operation whose bytes go over a transport.
    async fn perform_remote(
        &self,
        request: Request,
        admitted: &Admitted,
        proposal: &crate::protocol::remote::Proposal,
        begun: Moment,
    ) -> Result<Answer, S3Error> {
        let &Admitted { payload, signed, ref headers, ref principal, .. } = admitted;
        let (engine, options) = (&self.engine, &self.options.remote);
        let asked = remote::Asked {
            engine,
            options,
            principal,
            headers,
            payload,
            signed,
            proposal,
            lifecycle: admitted.bucket()?.lifecycle.clone(),
            begun,
        };
        match request {
            Request::GetObject(get) => {
                let read = async |_: &BucketState, looked: &Looked| remote::get(&asked, &get, looked).await;
                self.as_decided(admitted, None, read).await
            }
            Request::PutObject(put) => remote::put(&asked, put, self.decided(admitted)?).await,
            Request::UploadPart(part) => remote::put_part(&asked, part, self.decided(admitted)?).await,
            // Nothing else has a proposal.
            _ => Err(ErrorCode::InternalError.into()),
        }
    }

    /// An operation whose answer is at hand once it is done.
    async fn perform_plain(&self, request: Request, admitted: &Admitted) -> Result<Reply, S3Error> {
        let (engine, region) = (&self.engine, self.options.home());
        let Admitted { routed, headers, principal, .. } = admitted;
        let operation = routed.operation;
        // The account that what is listed belongs to, unless it says otherwise.
        let of_bucket = admitted.bucket.as_ref().map(|bucket| bucket.owner().to_owned());
        let default = super::Account::default_account();
        let account = of_bucket.as_deref().or(principal.account_id()).unwrap_or(&default.id);
        let account_name = self.name_of(account);
        let owner = owner(account, &account_name);
        let name_of = |id: &str| self.name_of(id);
        let has_lists = admitted.bucket.as_ref().is_some_and(|bucket| bucket.access.has_lists());
        let owners = Owners { bucket: owner, has_lists, name_of: &name_of };
        match request {
            Request::HeadObject(head) => {
                let lifecycle = admitted.bucket()?.lifecycle.as_deref();
                let read = async |_: &BucketState, looked: &Looked| {
                    reads::head(engine, &head, looked, principal, lifecycle).await
                };
                self.as_decided(admitted, None, read).await
            }
            Request::GetObjectAttributes(get) => {
                let read =
                    async |_: &BucketState, looked: &Looked| reads::attributes(engine, &get, looked).await;
                self.as_decided(admitted, None, read).await
            }
            Request::DeleteObject(delete) => {
                let deed = Deed::of(routed, headers, None);
                let delete = async |bucket: &BucketState, looked: &Looked| {
                    let may_bypass = delete.bypass_governance
                        && self.may_bypass(admitted, bucket, &routed.resource, deed).await;
                    let (looked, now_ms) = (looked.clone(), admitted.origin.now_ms);
                    let decided = DeleteDecided { bucket: bucket.info.as_of(), looked, now_ms, may_bypass };
                    writes::delete(engine, &delete, decided).await
                };
                self.as_decided(admitted, None, delete).await
            }
            ref request @ Request::DeleteObjects(ref delete) => {
                self.delete_many(delete, request, admitted).await
            }
            ref request @ Request::CopyObject(ref copy) => {
                let make = async |bucket: &BucketState| {
                    let looked = self.authorize_source(admitted, &copy.source).await?;
                    let stamp = |headers: &mut ObjectHeaders| {
                        self.stamp(headers, copy.acl.as_ref(), bucket, admitted.origin.now_ms, principal)
                    };
                    let hand_down = async |info: &ObjectInfo, tags: &TagSet| {
                        self.authorize_copy(admitted, (bucket, request), (&copy.source, info), tags).await
                    };
                    copies::copy(engine, copy, bucket, looked, hand_down, stamp).await
                };
                self.copy_as_decided(admitted, request, make).await
            }
            ref request @ Request::UploadPartCopy(ref copy) => {
                let make = async |bucket: &BucketState| {
                    let looked = self.authorize_source(admitted, &copy.source).await?;
                    copies::copy_part(engine, copy, bucket.info.as_of(), looked).await
                };
                self.copy_as_decided(admitted, request, make).await
            }
            Request::CreateMultipartUpload(create) => {
                let begin = async |bucket: &BucketState, _: &Looked| {
                    let (mut headers, acl) = (create.headers.clone(), create.acl.as_ref());
                    self.stamp(&mut headers, acl, bucket, admitted.origin.now_ms, principal)?;
                    uploads::create(engine, &create, &headers, bucket).await
                };
                self.as_decided(admitted, None, begin).await
            }
            ref request @ Request::CompleteMultipartUpload(ref complete) => {
                let location = self.location(admitted, &complete.bucket, &complete.key);
                let join = async |bucket: &BucketState, _: &Looked| {
                    uploads::complete(engine, complete, &location, bucket, admitted.origin.now_ms).await
                };
                self.as_decided(admitted, Some(request), join).await
            }
            Request::AbortMultipartUpload(abort) => {
                let give_up = async |bucket: &BucketState, _: &Looked| {
                    uploads::abort(engine, &abort, bucket.info.as_of()).await
                };
                self.as_decided(admitted, None, give_up).await
            }
            Request::ListParts(list) => {
                let lifecycle = admitted.bucket()?.lifecycle.as_deref();
                uploads::list_parts(engine, &list, &owners, lifecycle).await
            }
            Request::ListMultipartUploads(list) => uploads::list(engine, &list, &owners).await,
            Request::ListObjects(list) => listing::list(engine, &list, &owners).await,
            Request::ListObjectsV2(list) => listing::list_v2(engine, &list, &owners).await,
            Request::ListObjectVersions(list) => versions::list(engine, &list, &owners).await,
            Request::ListBuckets(list) => buckets::list(engine, &list, region, owner).await,
            Request::CreateBucket(create) => {
                let (defaults, credentials) = (&self.options.bucket_defaults, &*self.options.credentials);
                buckets::check_location(create.location.as_deref(), self.options.region.as_deref())?;
                buckets::create(engine, &create, region, defaults, principal, credentials).await
            }
            Request::HeadBucket(_) => Ok(buckets::head(region)),
            Request::DeleteBucket(delete) => buckets::delete(engine, &delete.bucket).await,
            Request::GetBucketLocation(_) => Ok(crate::protocol::reply::bucket_location(region)),
            Request::GetBucketVersioning(get) => versions::bucket_versioning(engine, &get.bucket).await,
            Request::PutBucketVersioning(put) => {
                versions::set_bucket_versioning(engine, &put, admitted.bucket()?).await
            }
            Request::GetBucketSetting(_) => {
                configurations::setting(admitted.bucket()?, operation, |id| self.name_of(id))
            }
            // What it asks for is so already.
            Request::KeepBucketSetting(_) => Ok(Reply::new(200)),
            Request::GetBucketDocument(get) => configurations::get(admitted.bucket()?, &get),
            Request::PutBucketDocument(put) => configurations::put(engine, admitted.bucket()?, put).await,
            Request::DeleteBucketDocument(delete) => {
                configurations::delete(engine, admitted.bucket()?, &delete).await
            }
            Request::GetObjectSetting(get) => {
                let name_of = |id: &str| self.name_of(id);
                let read = async |bucket: &BucketState, looked: &Looked| {
                    object_changes::get(engine, bucket, &get, looked, name_of).await
                };
                self.as_decided(admitted, None, read).await
            }
            ref request @ Request::ChangeObject(ref change) => {
                let deed = Deed::of(routed, headers, Some(request));
                let now_ms = admitted.origin.now_ms;
                let change = async |bucket: &BucketState, looked: &Looked| {
                    let bypass = change.bypass_governance
                        && self.may_bypass(admitted, bucket, &routed.resource, deed).await;
                    object_changes::change(engine, bucket, change, looked, now_ms, bypass).await
                };
                self.as_decided(admitted, Some(request), change).await
            }
            ref request @ Request::PutAcl(ref put) => {
                let put =
                    async |bucket: &BucketState, looked: &Looked| self.put_acl(put, looked, bucket).await;
                self.as_decided(admitted, Some(request), put).await
            }
            // Performed before this is asked.
            Request::GetObject(_) | Request::PutObject(_) | Request::UploadPart(_) => {
                Err(ErrorCode::InternalError.into())
            }
        }
    }

    async fn delete_many(
        &self,
        delete: &DeleteObjects,
        request: &Request,
        admitted: &Admitted,
    ) -> Result<Reply, S3Error> {
        let anew = async || {
            let (bucket, _) = self.decide(admitted, Some(request)).await?;
            bucket.ok_or_else(|| ErrorCode::NoSuchBucket.into())
        };
        let judge = async |bucket: &BucketState, object: &ObjectIdentifier, resource: &Resource| {
            self.judge_delete(delete, admitted, bucket, object, resource).await
        };
        writes::delete_many(&self.engine, delete, admitted.bucket()?.clone(), anew, judge).await
    }

    /// Whether one key of a list may be deleted.
    async fn judge_delete(
        &self,
        delete: &DeleteObjects,
        admitted: &Admitted,
        bucket: &BucketState,
        object: &ObjectIdentifier,
        resource: &Resource,
    ) -> Result<DeleteDecided, S3Error> {
        let version_id = object.version_id.as_deref();
        let deed = Deed { if_match: object.if_match.as_ref(), ..Deed::to_version(version_id) };
        let question = Question::new(admitted.sender(), Some(bucket), resource, deed);
        self.authorize(&question, delete_action(version_id.is_some()), false).await?;
        // Of one key governance may be passed over, of another not.
        let may_bypass = delete.bypass_governance && self.may_bypass(admitted, bucket, resource, deed).await;
        let (looked, now_ms) = (question.into_looked(), admitted.origin.now_ms);
        Ok(DeleteDecided { bucket: bucket.info.as_of(), looked, now_ms, may_bypass })
    }

    async fn put_acl(&self, put: &PutAcl, looked: &Looked, bucket: &BucketState) -> Result<Reply, S3Error> {
        stamp::check_lists(&put.acl, bucket)?;
        if !bucket.access.has_lists() {
            // What is asked for is so already.
            return Ok(Reply::new(200));
        }
        let resolve = |owner: &str| stamp::resolve(&put.acl, owner, bucket, &*self.options.credentials);
        if put.key.is_empty() {
            return configurations::put_acl(&self.engine, bucket, &resolve(bucket.owner())?).await;
        }
        let version = put.version_id.as_deref();
        object_changes::put_acl(&self.engine, bucket, &put.key, version, looked, resolve).await
    }
}
