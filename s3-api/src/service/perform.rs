//! Performing an admitted operation.

use super::{
    Admitted, Answer, Owners, Principal, Question, Service, buckets, configurations, copies, form, listing,
    object_changes, owner, reads, remote, stamp, uploads, versions, writes, writes::Locks,
};
use crate::{
    protocol::{
        acl::AclRequest,
        error::{ErrorCode, S3Error},
        metadata::ObjectHeaders,
        operation::{DeleteObjects, OperationName, PutAcl, Request, Resource, delete_action},
        reply::Reply,
    },
    server::{Body, Document},
};
use crossdock::reactor::Moment;

impl Service {
    /// Performs the operation.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) async fn run(
        &self,
        admitted: &Admitted,
        begun: Moment,
        body: &mut Body<'_>,
    ) -> Result<Answer, S3Error> {
        let Admitted { routed, headers, .. } = admitted;
        let name = routed.resource.to_string();
        if routed.operation == OperationName::PostObject {
            return form::post(self, admitted, body).await.map(Answer::from).map_err(|error| error.on(&name));
        }
        let document = match routed.operation.document_bytes_max() {
            Some(limit) => body.document(limit).await.map_err(|error| error.on(&name))?,
            None => Document::new(),
        };
        // Its room is held until all that it asks for is done.
        let request = Request::parse(routed, headers, &document.bytes)?;
        self.perform(request, admitted, begun, body).await.map_err(|error| error.on(&name))
    }

    /// Completes what is stored with a new version.
    pub(super) fn stamp(
        &self,
        headers: &mut ObjectHeaders,
        acl: Option<&AclRequest>,
        admitted: &Admitted,
        principal: &Principal,
    ) -> Result<(), S3Error> {
        let (bucket, now_ms) = (admitted.bucket()?, admitted.origin.now_ms);
        // On a server that is open to everybody nobody in particular owns what everybody writes.
        let nobody = if self.options.authorizer.is_open() { bucket.owner() } else { stamp::ANONYMOUS };
        let writer = principal.account_id().unwrap_or(nobody);
        stamp::stamp(headers, acl, bucket, writer, &*self.options.credentials, now_ms)
    }

    async fn perform(
        &self,
        mut request: Request,
        admitted: &Admitted,
        begun: Moment,
        body: &mut Body<'_>,
    ) -> Result<Answer, S3Error> {
        match &mut request {
            Request::PutObject(put) => {
                self.stamp(&mut put.headers, put.acl.as_ref(), admitted, &admitted.principal)?;
            }
            Request::CreateMultipartUpload(create) => {
                self.stamp(&mut create.headers, create.acl.as_ref(), admitted, &admitted.principal)?;
            }
            _ => {}
        }
        if let Some(proposal) = &admitted.proposal {
            return self.perform_remote(request, admitted, proposal, begun).await;
        }
        let reply = match request {
            Request::GetObject(get) => {
                let lifecycle = admitted.bucket()?.lifecycle.as_deref();
                return reads::get(&self.engine, &get, &admitted.principal, lifecycle).await;
            }
            Request::PutObject(put) => {
                let lifecycle = admitted.bucket()?.lifecycle.as_deref();
                writes::put(&self.engine, put, body, lifecycle).await
            }
            Request::UploadPart(part) => writes::put_part(&self.engine, &part, body).await,
            request => self.perform_plain(request, admitted).await,
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
        let lifecycle = admitted.bucket()?.lifecycle.clone();
        let asked = remote::Asked {
            engine,
            options,
            principal,
            headers,
            payload,
            signed,
            proposal,
            lifecycle,
            begun,
        };
        match request {
            Request::GetObject(get) => remote::get(&asked, get).await,
            Request::PutObject(put) => remote::put(&asked, put).await,
            Request::UploadPart(part) => remote::put_part(&asked, part).await,
            // Nothing else has a proposal.
            _ => Err(ErrorCode::InternalError.into()),
        }
    }

    /// An operation whose answer is at hand once it is done.
    async fn perform_plain(&self, request: Request, admitted: &Admitted) -> Result<Reply, S3Error> {
        let (engine, region) = (&self.engine, &*self.options.region);
        let Admitted { routed, principal, .. } = admitted;
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
                reads::head(engine, &head, principal, lifecycle).await
            }
            Request::GetObjectAttributes(get) => reads::attributes(engine, &get).await,
            Request::DeleteObject(delete) => {
                let bypass = self.may_bypass(admitted, &routed.resource, delete.bypass_governance).await;
                writes::delete(engine, &delete, self.locks(admitted, bypass)?).await
            }
            Request::DeleteObjects(delete) => self.delete_many(&delete, admitted).await,
            Request::CopyObject(copy) => {
                self.authorize_source(admitted, &copy.source).await?;
                let stamp =
                    |headers: &mut ObjectHeaders| self.stamp(headers, copy.acl.as_ref(), admitted, principal);
                copies::copy(engine, &copy, stamp).await
            }
            Request::UploadPartCopy(copy) => {
                self.authorize_source(admitted, &copy.source).await?;
                copies::copy_part(engine, &copy).await
            }
            Request::CreateMultipartUpload(create) => uploads::create(engine, &create).await,
            Request::CompleteMultipartUpload(complete) => {
                let location = self.location(admitted, &complete.bucket, &complete.key);
                uploads::complete(engine, complete, &location).await
            }
            Request::AbortMultipartUpload(abort) => uploads::abort(engine, &abort).await,
            Request::ListParts(list) => uploads::list_parts(engine, &list, &owners).await,
            Request::ListMultipartUploads(list) => uploads::list(engine, &list, &owners).await,
            Request::ListObjects(list) => listing::list(engine, &list, &owners).await,
            Request::ListObjectsV2(list) => listing::list_v2(engine, &list, &owners).await,
            Request::ListObjectVersions(list) => versions::list(engine, &list, &owners).await,
            Request::ListBuckets(list) => buckets::list(engine, &list, region, owner).await,
            Request::CreateBucket(create) => {
                let (defaults, credentials) = (&self.options.bucket_defaults, &*self.options.credentials);
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
            Request::GetBucketDocument(get) => configurations::get(admitted.bucket()?, &get),
            Request::PutBucketDocument(put) => configurations::put(engine, admitted.bucket()?, put).await,
            Request::DeleteBucketDocument(delete) => {
                configurations::delete(engine, admitted.bucket()?, &delete).await
            }
            Request::GetObjectSetting(get) => {
                object_changes::get(engine, admitted.bucket()?, &get, |id| self.name_of(id)).await
            }
            Request::ChangeObject(change) => {
                let bypass = self.may_bypass(admitted, &routed.resource, change.bypass_governance).await;
                let now_ms = admitted.origin.now_ms;
                object_changes::change(engine, admitted.bucket()?, &change, now_ms, bypass).await
            }
            Request::PutAcl(put) => self.put_acl(&put, admitted).await,
            // Performed before this is asked.
            Request::GetObject(_) | Request::PutObject(_) | Request::UploadPart(_) => {
                Err(ErrorCode::InternalError.into())
            }
        }
    }

    /// How locks are judged, in a bucket that has any.
    fn locks(&self, admitted: &Admitted, may_bypass: bool) -> Result<Option<Locks>, S3Error> {
        let has_locks = admitted.bucket()?.lock.is_some();
        Ok(has_locks.then_some(Locks { now_ms: admitted.origin.now_ms, may_bypass }))
    }

    async fn delete_many(&self, delete: &DeleteObjects, admitted: &Admitted) -> Result<Reply, S3Error> {
        // Whether governance may be passed over is asked about the bucket's objects in general.
        let all = Resource::Object { bucket: delete.bucket.clone(), key: "*".into() };
        let bypass = self.may_bypass(admitted, &all, delete.bypass_governance).await;
        let facts = admitted.facts();
        let allowed = async |resource: &Resource, versioned: bool| {
            let question = Question {
                principal: &admitted.principal,
                bucket: admitted.bucket.as_deref(),
                facts: &facts,
                resource,
                version_id: None,
            };
            self.authorize(&question, delete_action(versioned), false).await
        };
        writes::delete_many(&self.engine, delete, allowed, self.locks(admitted, bypass)?).await
    }

    async fn put_acl(&self, put: &PutAcl, admitted: &Admitted) -> Result<Reply, S3Error> {
        let bucket = admitted.bucket()?;
        stamp::check_lists(&put.acl, bucket)?;
        if !bucket.access.has_lists() {
            // What is asked for is so already.
            return Ok(Reply::new(200));
        }
        let resolve = |owner: &str| stamp::resolve(&put.acl, owner, bucket, &*self.options.credentials);
        if put.key.is_empty() {
            return configurations::put_acl(&self.engine, bucket, &resolve(bucket.owner())?).await;
        }
        let object = (put.bucket.as_str(), put.key.as_str());
        let version = put.version_id.as_deref();
        object_changes::put_acl(&self.engine, object, version, bucket.owner(), resolve).await
    }
}
