//! The service: S3 operations on the storage engine.
//!
//! ```text
//!   head ─► admit: who is it? what is asked? allowed? ─► run: typed request ─┬─ reads     GetObject, HeadObject, attributes
//!                                                             ▲              ├─ writes    PutObject, UploadPart, deletes
//!                                                     document, if it has one├─ copies    CopyObject, UploadPartCopy
//!                                                                            ├─ uploads   multipart, from begin to end
//!                                                                            ├─ listing   of objects
//!                                                                            ├─ versions  of objects, kept or not
//!                                                                            └─ buckets   and settings of them
//! ```
//!
//! Invariants:
//! * Every operation is authorised in one place before its body is asked for.
//! * Nothing is committed before the last digest over the body agreed.
//! * What would change the outcome and is not done here is refused, never ignored.

mod access;
mod buckets;
mod copies;
mod failure;
mod keys;
mod listing;
mod reads;
pub(crate) mod remote;
mod tags;
mod uploads;
mod versions;
mod writes;

pub use access::{Authorizer, Credentials, Principal, Secret, SignedOnly};
pub use remote::{Declined, RemoteOptions};

use crate::{
    protocol::{
        auth::{
            Authentication, PayloadMode, Signature, SignaturePlace, Verified, adopt_parameters, authenticate,
            verify_with_key,
        },
        error::{ErrorCode, S3Error},
        http::{BodyFraming, Headers, RequestHead},
        operation::{OperationName, Request, Resource, Routed, check_expected_owner, route},
        remote::{Control, Proposal},
        reply::{Owner, Reply},
    },
    server::Body,
};
use crossdock::{CoreEngine, Get, reactor::Moment};
use keys::KeyCache;
use remote::Moved;
use std::{cell::RefCell, sync::Arc};

/// How a service is set up.
#[derive(Clone)]
pub struct ServiceOptions {
    /// Secrets of access keys.
    pub credentials: Arc<dyn Credentials>,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// The region that signatures must be scoped to, and that buckets are in.
    pub region: Box<str>,
    /// Hosts below which a bucket may be a label of its own, as in `bucket.s3.example.com`.
    pub base_domains: Vec<String>,
    /// How bytes go over transports, for clients that propose it.
    pub remote: Arc<RemoteOptions>,
}

/// The owner of every bucket and object: an account, and there is one.
pub(crate) const OWNER: Owner<'static> = Owner { id: "crossdock", display_name: "crossdock" };

/// The service on one core.
pub(crate) struct Service {
    options: Arc<ServiceOptions>,
    engine: CoreEngine,
    keys: RefCell<KeyCache>,
}

/// A request whose sender is known and allowed to send it.
pub(crate) struct Admitted {
    pub(crate) routed: Routed,
    pub(crate) headers: Headers,
    principal: Principal,
    signature: Option<(Signature, SignaturePlace)>,
    payload: PayloadMode,
    /// That the bytes go over a transport.
    pub(crate) proposal: Option<Proposal>,
}

/// What a head asks for, from somebody who may ask.
pub(crate) enum Admission {
    /// An operation.
    Operation(Box<Admitted>, Box<Verified>),
    /// Something about sessions.
    Control(Control, Headers, Principal),
}

/// What an operation answers.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// Where the payload comes from, if the reply has one.
    pub(crate) payload: Option<Box<Get>>,
    /// What became of the proposal, if there was one.
    pub(crate) moved: Option<Moved>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer { reply, payload: None, moved: None }
    }
}

impl Service {
    pub(crate) fn new(options: Arc<ServiceOptions>, engine: CoreEngine) -> Service {
        remote::attach(&engine);
        Service { options, engine, keys: RefCell::default() }
    }

    /// Who sent `head`, what it asks for, and whether that is allowed. `now` in seconds since 1970.
    ///
    /// # Errors
    /// What the client is told; nothing was done.
    pub(crate) fn admit(
        &self,
        mut head: RequestHead,
        framing: BodyFraming,
        now: u64,
    ) -> Result<Admission, S3Error> {
        if let Some(control) = Control::of(head.method, &head.path)? {
            let (principal, _) = self.identify(&mut head, now)?;
            return match self.options.authorizer.authorize_sessions(&principal) {
                true => Ok(Admission::Control(control, head.headers, principal)),
                false => Err(ErrorCode::AccessDenied.into()),
            };
        }
        let resource = self.resource(&head)?;
        let name = resource.to_string();
        let identified = self.identify(&mut head, now);
        let (principal, verified) = identified.map_err(|error| error.on(&name))?;
        let routed = route(&head, resource)?;
        check_expected_owner(&head.headers, OWNER.id).map_err(|error| error.on(&name))?;
        self.authorize(&principal, routed.operation, &routed.resource)?;
        let (payload, signature) = (verified.payload, verified.signature);
        let proposal = Proposal::of(routed.operation, &head.headers, framing, &payload);
        let proposal = proposal.map_err(|error| error.on(&name))?;
        let headers = head.headers;
        let admitted = Admitted { routed, headers, principal, signature, payload, proposal };
        Ok(Admission::Operation(Box::new(admitted), Box::new(verified)))
    }

    /// Performs a request about sessions.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) async fn control(
        &self,
        control: Control,
        headers: &Headers,
        principal: &Principal,
    ) -> Result<Answer, S3Error> {
        let reply = remote::control(&self.engine, &self.options.remote, control, principal, headers);
        reply.await.map(Answer::from)
    }

    fn resource(&self, head: &RequestHead) -> Result<Resource, S3Error> {
        let bases: Vec<&str> = self.options.base_domains.iter().map(String::as_str).collect();
        match head.headers.text("host") {
            Some(host) if !bases.is_empty() => Resource::virtual_hosted(host, &bases, &head.path),
            _ => Resource::path_style(&head.path),
        }
    }

    fn identify(&self, head: &mut RequestHead, now: u64) -> Result<(Principal, Verified), S3Error> {
        let claim = match authenticate(head)? {
            Authentication::Anonymous { payload } => {
                return Ok((Principal::Anonymous, Verified::anonymous(payload)));
            }
            Authentication::Signed(claim) => claim,
        };
        if claim.session_token.is_some() {
            return Err(ErrorCode::InvalidToken.into());
        }
        let Some(secret) = self.options.credentials.lookup(&claim.access_key) else {
            return Err(S3Error::new(ErrorCode::InvalidAccessKeyId)
                .field("AWSAccessKeyId", claim.access_key.to_string()));
        };
        if *claim.scope.region != *self.options.region {
            return Err(S3Error::with_message(
                ErrorCode::AuthorizationHeaderMalformed,
                format!(
                    "The authorization header is malformed; the region '{}' is wrong; expecting '{}'",
                    claim.scope.region, self.options.region
                ),
            )
            .field("Region", self.options.region.to_string()));
        }
        let verified = {
            let mut keys = self.keys.borrow_mut();
            let key = keys.key(&claim.access_key, &secret, &claim.scope);
            verify_with_key(&claim, head, key, now)?
        };
        adopt_parameters(&claim, head)?;
        Ok((Principal::AccessKey(claim.access_key), verified))
    }

    /// The one place where operations are allowed or not.
    fn authorize(
        &self,
        principal: &Principal,
        operation: OperationName,
        resource: &Resource,
    ) -> Result<(), S3Error> {
        match self.options.authorizer.authorize(principal, operation, resource) {
            true => Ok(()),
            false => Err(S3Error::new(ErrorCode::AccessDenied).on(&resource.to_string())),
        }
    }

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
        let document = match routed.operation.document_bytes_max() {
            Some(limit) => {
                body.document(limit).await.map_err(|error| error.on(&routed.resource.to_string()))?
            }
            None => Vec::new(),
        };
        let request = Request::parse(routed, headers, &document)?;
        let result = self.perform(request, admitted, begun, body).await;
        result.map_err(|error| error.on(&routed.resource.to_string()))
    }

    async fn perform(
        &self,
        request: Request,
        admitted: &Admitted,
        begun: Moment,
        body: &mut Body<'_>,
    ) -> Result<Answer, S3Error> {
        let Admitted { routed, headers, principal, .. } = admitted;
        let (engine, operation) = (&self.engine, routed.operation);
        if let Some(proposal) = &admitted.proposal {
            let &Admitted { payload, signature, .. } = admitted;
            let options = &self.options.remote;
            let asked =
                remote::Asked { engine, options, principal, headers, payload, signature, proposal, begun };
            match request {
                Request::GetObject(get) => return remote::get(&asked, get).await,
                Request::PutObject(put) => return remote::put(&asked, put).await,
                Request::UploadPart(part) => return remote::put_part(&asked, part).await,
                // Nothing else has a proposal.
                _ => return Err(ErrorCode::InternalError.into()),
            }
        }
        let reply = match request {
            Request::GetObject(get) => return reads::get(engine, &get, principal).await,
            Request::HeadObject(head) => reads::head(engine, &head, principal).await,
            Request::GetObjectAttributes(get) => reads::attributes(engine, &get).await,
            Request::PutObject(put) => writes::put(engine, put, body).await,
            Request::UploadPart(part) => writes::put_part(engine, &part, body).await,
            Request::DeleteObject(delete) => writes::delete(engine, &delete).await,
            Request::DeleteObjects(delete) => {
                let allowed =
                    |resource: &Resource| self.authorize(principal, OperationName::DeleteObject, resource);
                writes::delete_many(engine, &delete, allowed).await
            }
            Request::CopyObject(copy) => {
                self.authorize_source(principal, &copy.source)?;
                copies::copy(engine, &copy).await
            }
            Request::UploadPartCopy(copy) => {
                self.authorize_source(principal, &copy.source)?;
                copies::copy_part(engine, &copy).await
            }
            Request::CreateMultipartUpload(create) => uploads::create(engine, &create).await,
            Request::CompleteMultipartUpload(complete) => {
                let host = headers.text("host").unwrap_or_default();
                uploads::complete(engine, complete, host).await
            }
            Request::AbortMultipartUpload(abort) => uploads::abort(engine, &abort).await,
            Request::ListParts(list) => uploads::list_parts(engine, &list).await,
            Request::ListMultipartUploads(list) => uploads::list(engine, &list).await,
            Request::ListObjects(list) => listing::list(engine, &list).await,
            Request::ListObjectsV2(list) => listing::list_v2(engine, &list).await,
            Request::ListObjectVersions(list) => versions::list(engine, &list).await,
            Request::ListBuckets(list) => buckets::list(engine, &list, &self.options.region).await,
            Request::CreateBucket(create) => buckets::create(engine, &create, &self.options.region).await,
            Request::HeadBucket(head) => buckets::head(engine, &head.bucket, &self.options.region).await,
            Request::DeleteBucket(delete) => buckets::delete(engine, &delete.bucket).await,
            Request::GetBucketLocation(get) => {
                buckets::location(engine, &get.bucket, &self.options.region).await
            }
            Request::GetBucketVersioning(get) => versions::bucket_versioning(engine, &get.bucket).await,
            Request::PutBucketVersioning(put) => versions::set_bucket_versioning(engine, &put).await,
            Request::GetBucketSetting(get) => buckets::setting(engine, &get.bucket, operation).await,
            Request::GetObjectSetting(get) => buckets::object_setting(engine, &get, operation).await,
        };
        reply.map(Answer::from)
    }

    fn authorize_source(
        &self,
        principal: &Principal,
        source: &crate::protocol::operation::CopySource,
    ) -> Result<(), S3Error> {
        let resource = Resource::Object { bucket: source.bucket.clone(), key: source.key.clone() };
        self.authorize(principal, OperationName::GetObject, &resource)
    }
}
