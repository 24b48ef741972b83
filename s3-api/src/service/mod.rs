//! The service: S3 operations on the storage engine.
//!
//! ```text
//!   head ─► admit: who is it? what is asked? of which bucket? allowed? ─► run: typed request, still allowed?
//!                                                                           ▲    ├─ reads           GetObject, HeadObject, attributes
//!                                                   document, if it has one │    ├─ writes          PutObject, UploadPart, deletes
//!                                                                                ├─ copies          CopyObject, UploadPartCopy
//!   OPTIONS ─► cors                                                              ├─ uploads         multipart, from begin to end
//!   form ─► form: its fields say who and what; then as PutObject                 ├─ listing         of objects
//!                                                                                ├─ versions        of objects, kept or not
//!                                                                                ├─ object_changes  tags, lists and locks
//!                                                                                ├─ configurations  of buckets
//!                                                                                └─ buckets
//! ```
//!
//! Invariants:
//! * Every operation is authorised in one place, whichever way its bytes go: before its body is asked for, and by what is so then
//!   once the body is there (`authorize`).
//! * Nothing is committed before the last digest over the body agreed.
//! * What would change the outcome and is not done here is refused, never ignored.
//! * What can not be read is taken for what forbids most.

mod access;
mod authorize;
mod buckets;
mod configurations;
mod copies;
mod cors;
mod facts;
mod failure;
mod form;
mod identity;
mod keys;
mod lifecycle;
mod listing;
mod object_changes;
mod perform;
mod reads;
pub(crate) mod remote;
mod settings;
mod stamp;
mod standing;
mod tags;
mod uploads;
mod versions;
mod writes;

pub use access::{Access, Authorizer, BucketAccess, Decision, ObjectAccess, Policies};
pub(crate) use facts::Origin;
pub use facts::RequestFacts;
#[cfg(any(feature = "tls", feature = "http"))]
pub(crate) use facts::UNKNOWN;
pub use identity::{Account, Credential, Credentials, Identity, Principal, Secret};
pub use lifecycle::{Swept, sweep};
pub use remote::{Declined, RemoteOptions};

use crate::protocol::{
    auth::{
        Authentication, EMPTY_SHA256_HEX, PayloadMode, Signed, Verified, adopt_parameters, authenticate,
        verify_with_key,
    },
    error::{ErrorCode, S3Error},
    http::{BodyFraming, Headers, Method, RequestHead},
    metadata::ObjectHeaders,
    names::encode_listed,
    operation::{Request, Resource, Routed, route},
    ownership::{ObjectOwnership, PublicAccessBlock},
    remote::{Control, Proposal, TOKEN},
    reply::{Owner, Reply},
};
use authorize::{Looked, Question};
pub(crate) use cors::Page;
use crossdock::{CoreEngine, Get, reactor::Grant};
use facts::{Deed, Sender, Signing};
use keys::KeyCache;
use remote::Moved;
use settings::{BucketState, Remembered};
use standing::Standing;
use std::{borrow::Cow, cell::RefCell, net::IpAddr, sync::Arc, time::Duration};

/// What new buckets are set to that do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketDefaults {
    /// Who owns objects; none: no ownership controls, so that each writer owns what it writes and lists have a say.
    pub ownership: Option<ObjectOwnership>,
    /// What is kept from the public; none: nothing.
    pub block: Option<PublicAccessBlock>,
}

impl Default for BucketDefaults {
    /// As AWS sets new buckets since April 2023.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/create-bucket-faq.html>.)
    fn default() -> BucketDefaults {
        BucketDefaults {
            ownership: Some(ObjectOwnership::BucketOwnerEnforced),
            block: Some(PublicAccessBlock::ALL),
        }
    }
}

impl BucketDefaults {
    /// As AWS set them before: each writer owns what it writes, and lists and policies may be public.
    pub const BEFORE_2023: BucketDefaults = BucketDefaults { ownership: None, block: None };
}

/// How a service is set up.
#[derive(Clone)]
pub struct ServiceOptions {
    /// Keys and accounts.
    pub credentials: Arc<dyn Credentials>,
    /// Who may do what.
    pub authorizer: Arc<dyn Authorizer>,
    /// The region that signatures must be scoped to, and that buckets are in, as those of AWS are. None: a signature may name any, as it
    /// is verified by what it names, and buckets, which may be asked for in any, are in `us-east-1`.
    pub region: Option<Box<str>>,
    /// Hosts below which a bucket may be a label of its own, as in `bucket.s3.example.com`.
    pub base_domains: Vec<String>,
    /// How bytes go over transports, for clients that propose it.
    pub remote: Arc<RemoteOptions>,
    /// What new buckets are set to.
    pub bucket_defaults: BucketDefaults,
    /// How often lifecycle rules are acted on: see [`sweep`]. The first time is a minute after the start, or earlier with an interval that
    /// is shorter. None: never, because somebody else does.
    pub lifecycle_interval: Option<Duration>,
}

/// Where buckets are if nobody says.
const REGION: &str = "us-east-1";

impl ServiceOptions {
    /// Where buckets are.
    fn home(&self) -> &str {
        self.region.as_deref().unwrap_or(REGION)
    }
}

/// The service on one core.
pub(crate) struct Service {
    options: Arc<ServiceOptions>,
    engine: CoreEngine,
    keys: RefCell<KeyCache>,
    buckets: Remembered,
}

/// A request whose sender is known and allowed to send it.
#[derive(Clone)]
pub(crate) struct Admitted {
    pub(crate) routed: Routed,
    pub(crate) headers: Headers,
    /// The request, or why it is none, until it is performed; none before its document is there.
    request: Option<Result<Request, S3Error>>,
    principal: Principal,
    standing: Standing,
    /// The bucket it is about, as it was when this was decided last.
    bucket: Option<Arc<BucketState>>,
    /// What the decision holds for.
    looked: Looked,
    origin: Origin,
    signed: Option<Signed>,
    payload: PayloadMode,
    /// That the bytes go over a transport.
    pub(crate) proposal: Option<Proposal>,
}

impl Admitted {
    /// Who sent it.
    pub(crate) fn principal(&self) -> &Principal {
        &self.principal
    }

    fn sender(&self) -> Sender<'_> {
        // Bytes that do not come in the body are none that a hash of nothing speaks of.
        let come_elsewhere = self.routed.operation.takes_object_body() && self.headers.contains(TOKEN);
        let is_signed = self.signed.is_some_and(|signed| signed.covers_payload)
            && !(come_elsewhere && self.payload.text() == EMPTY_SHA256_HEX);
        Sender {
            origin: self.origin,
            principal: &self.principal,
            signing: Signing::Head(self.signed),
            payload: if is_signed { self.payload } else { PayloadMode::Unsigned },
            headers: &self.headers,
        }
    }

    /// The request, if its head is all there is of it.
    fn request_of_head(&self) -> Option<Result<Request, S3Error>> {
        let is_whole = self.routed.operation.document_bytes_max().is_none();
        is_whole.then(|| Request::parse(&self.routed, &self.headers, self.payload, &[]))
    }

    /// The bucket, which every operation on one was admitted with.
    fn bucket(&self) -> Result<&Arc<BucketState>, S3Error> {
        self.bucket.as_ref().ok_or_else(|| ErrorCode::NoSuchBucket.into())
    }
}

/// What a head asks for, from somebody who may ask.
pub(crate) enum Admission {
    /// An operation.
    Operation(Box<Admitted>, Box<Verified>),
    /// Something about sessions.
    Control(Control, Headers, Principal),
    /// Nothing more: this is the answer.
    Answered(Box<Answer>),
}

/// What an operation answers.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// Where the payload comes from, if the reply has one.
    pub(crate) payload: Option<Box<Get>>,
    /// What became of the proposal, if there was one.
    pub(crate) moved: Option<Moved>,
    /// Held for as long as the reply's document is there.
    pub(crate) room: Option<Grant>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer { reply, payload: None, moved: None, room: None }
    }
}

impl Service {
    pub(crate) fn new(options: Arc<ServiceOptions>, engine: CoreEngine) -> Service {
        remote::attach(&engine);
        Service { options, engine, keys: RefCell::default(), buckets: Remembered::default() }
    }

    /// Who sent `head`, what it asks for, and whether that is allowed.
    ///
    /// # Errors
    /// What the client is told; nothing was done.
    pub(crate) async fn admit(
        &self,
        mut head: RequestHead,
        framing: BodyFraming,
        origin: Origin,
    ) -> Result<Admission, S3Error> {
        let now = origin.now_ms / 1_000;
        if let Some(control) = Control::of(head.method, &head.path)? {
            if control == Control::Foreign {
                return Ok(Admission::Answered(Box::new(crate::protocol::remote::foreign().into())));
            }
            let ((principal, _), _) = self.identify(&mut head, now)?;
            return match self.options.authorizer.authorize_sessions(&principal) {
                true => Ok(Admission::Control(control, head.headers, principal)),
                false => Err(ErrorCode::AccessDenied.into()),
            };
        }
        if is_for_token_service(&head) {
            return Ok(Admission::Answered(Box::new(crate::protocol::reply::no_token_service().into())));
        }
        let resource = self.resource(&head)?;
        let name = resource.to_string();
        if head.method == Method::Options {
            let answer = self.preflight(&head, &resource).await.map_err(|error| error.on(&name))?;
            return Ok(Admission::Answered(Box::new(answer.into())));
        }
        let identified = self.identify(&mut head, now);
        let (sender, verified) = identified.map_err(|error| error.on(&name))?;
        let routed = route(&head, resource)?;
        let admitted = self.admit_routed(routed, head.headers, framing, origin, sender, &verified);
        let admitted = admitted.await.map_err(|error| error.on(&name))?;
        Ok(Admission::Operation(Box::new(admitted), Box::new(verified)))
    }

    async fn admit_routed(
        &self,
        routed: Routed,
        headers: Headers,
        framing: BodyFraming,
        origin: Origin,
        (principal, standing): (Principal, Standing),
        verified: &Verified,
    ) -> Result<Admitted, S3Error> {
        let (payload, signed) = (verified.payload, verified.signed);
        let (bucket, looked, proposal) = (None, Looked::Unneeded, None);
        let request = None;
        let mut admitted = Admitted {
            routed,
            headers,
            request,
            principal,
            standing,
            bucket,
            looked,
            origin,
            signed,
            payload,
            proposal,
        };
        admitted.request = admitted.request_of_head();
        (admitted.bucket, admitted.looked) = self.decide(&admitted, None).await?;
        let operation = admitted.routed.operation;
        admitted.proposal = Proposal::of(operation, &admitted.headers, framing, &payload)?;
        Ok(admitted)
    }

    /// Performs a request about sessions, which came to that address of this host, as far as that is known.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) async fn control(
        &self,
        control: Control,
        headers: &Headers,
        principal: &Principal,
        came_to: Option<IpAddr>,
    ) -> Result<Answer, S3Error> {
        let options = &self.options.remote;
        let reply = remote::control(&self.engine, options, control, (principal, came_to), headers);
        reply.await.map(Answer::from)
    }

    fn resource(&self, head: &RequestHead) -> Result<Resource, S3Error> {
        let bases: Vec<&str> = self.options.base_domains.iter().map(String::as_str).collect();
        match head.headers.text("host") {
            Some(host) if !bases.is_empty() => Resource::virtual_hosted(host, &bases, &head.path),
            _ => Resource::path_style(&head.path),
        }
    }

    /// Where an object is, as its client addresses this server.
    fn location(&self, admitted: &Admitted, bucket: &str, key: &str) -> String {
        let host = admitted.headers.text("host").unwrap_or_default();
        let bases: Vec<&str> = self.options.base_domains.iter().map(String::as_str).collect();
        let named = Resource::virtual_hosted(host, &bases, "/").is_ok_and(|found| found.bucket().is_some());
        let (scheme, key) = (admitted.origin.scheme(), encode_listed(key));
        if named { format!("{scheme}://{host}/{key}") } else { format!("{scheme}://{host}/{bucket}/{key}") }
    }

    fn identify(
        &self,
        head: &mut RequestHead,
        now: u64,
    ) -> Result<((Principal, Standing), Verified), S3Error> {
        let claim = match authenticate(head)? {
            Authentication::Anonymous { payload } => {
                let sender = (Principal::Anonymous, Standing::default());
                return Ok((sender, Verified::anonymous(payload)));
            }
            Authentication::Signed(claim) => claim,
        };
        if claim.session_token.is_some() {
            return Err(no_session_tokens());
        }
        let (standing, secret, principal) = Standing::of(&*self.options.credentials, &claim.access_key)?;
        self.check_region(&claim.scope.region)?;
        let verified = {
            let mut keys = self.keys.borrow_mut();
            let key = keys.key(&claim.access_key, &secret, &claim.scope);
            verify_with_key(&claim, head, key, now)?
        };
        adopt_parameters(&claim, head)?;
        Ok(((principal, standing), verified))
    }

    fn check_region(&self, region: &str) -> Result<(), S3Error> {
        let Some(expected) = self.options.region.as_deref().filter(|only| *only != region) else {
            return Ok(());
        };
        let message = format!(
            "The authorization header is malformed; the region '{region}' is wrong; expecting '{expected}'"
        );
        Err(S3Error::with_message(ErrorCode::AuthorizationHeaderMalformed, message).field("Region", expected))
    }

    async fn bucket(&self, name: &str) -> Result<Arc<BucketState>, S3Error> {
        self.buckets.bucket(&self.engine, name).await
    }

    /// What an account is called.
    fn name_of(&self, id: &str) -> Option<Cow<'static, str>> {
        self.options.credentials.account(id).map(|account| Cow::Owned(account.display_name.to_string()))
    }
}

/// A token of temporary credentials, which nobody here gives out. To take such a request for one of a user would be to believe
/// what was never issued.
fn no_session_tokens() -> S3Error {
    let message =
        "This server knows no temporary credentials: sign with the keys of a user, without a session token.";
    S3Error::with_message(ErrorCode::InvalidToken, message)
}

/// Whether a request is for the Security Token Service, whose clients send its actions as a form or in the query: "Query API
/// requests … must contain an Action parameter". "IAM and AWS STS support GET and POST requests for all actions."
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/programming.html>, "Calling the IAM API using HTTP query requests".)
fn is_for_token_service(head: &RequestHead) -> bool {
    let is_form = || {
        let kind = head.headers.text("content-type").unwrap_or_default();
        kind.starts_with("application/x-www-form-urlencoded")
    };
    *head.path == *"/"
        && match head.method {
            Method::Post => is_form() || head.query.starts_with("Action="),
            Method::Get => head.query.contains("Action=") && head.query.contains("Version=2011-06-15"),
            _ => false,
        }
}

/// Who owns what is listed.
struct Owners<'a> {
    /// The bucket's owner.
    bucket: Owner<'a>,
    /// Whether others may own what is in it.
    has_lists: bool,
    name_of: &'a dyn Fn(&str) -> Option<Cow<'static, str>>,
}

impl Owners<'_> {
    /// Another owner than the bucket's: identifier and name.
    fn other(&self, headers: &ObjectHeaders) -> Option<(String, String)> {
        let owner = headers.acl.as_ref().filter(|_| self.has_lists).map(|acl| acl.owner.clone())?;
        let name = (self.name_of)(&owner).map_or_else(|| owner.clone(), Cow::into_owned);
        Some((owner, name))
    }
}

/// Shows `owner` as replies do.
fn owner<'a>(id: &'a str, name: &'a Option<Cow<'static, str>>) -> Owner<'a> {
    Owner { id, display_name: name.as_deref().unwrap_or(id) }
}
