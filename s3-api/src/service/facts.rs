//! What conditions of policies can ask of a request.
//!
//! ```text
//!   sender   connection, signature, clock            the same for all that a request asks
//!   account  that owns what is asked about         ┐
//!   deed     what will be done to it: the version, ├  for each question by itself
//!            what is stored with it, where, when   ┘
//! ```
//!
//! Invariants:
//! * A fact is what will be done, not what a head says. A header or a parameter is told of the operations that do as it says, by the lists
//!   below, and of no other; tags and periods come from the request as it was read, its document included.
//! * Where what is stored comes from elsewhere, it is told from there: of a part, from what its upload was begun with; of a copy that takes
//!   its source's tags along, from the source.
//! * Nothing that proxies say (`X-Forwarded-For` and the like) is believed.

use super::identity::Principal;
use crate::protocol::{
    auth::{PayloadMode, SignaturePlace, Signed},
    etag::ETagCondition,
    http::Headers,
    lock::Retention,
    metadata::ObjectHeaders,
    names::decode_path,
    operation::{ObjectChange, OperationName, Request, Routed},
    policy::Facts,
    tagging::TagSet,
    time::{format_iso8601, parse_iso8601},
};
use OperationName as O;
use std::{borrow::Cow, cell::OnceCell, net::SocketAddr};

/// Facts that are headers, whatever is asked. (For all names:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>, "Condition keys for Amazon S3".)
const SENDER_HEADERS: [(&str, &str); 2] = [("aws:Referer", "referer"), ("aws:UserAgent", "user-agent")];

/// Operations that say what an object will have.
const MAKES: &[O] = &[O::PutObject, O::CopyObject, O::CreateMultipartUpload];
/// Operations that give something a list.
const LISTS: &[O] = &[
    O::PutObject,
    O::CopyObject,
    O::CreateMultipartUpload,
    O::CreateBucket,
    O::PutBucketAcl,
    O::PutObjectAcl,
];
/// Operations whose source is a header.
const COPIES: &[O] = &[O::CopyObject, O::UploadPartCopy];
/// Operations that write on a condition.
const CONDITIONAL_WRITES: &[O] = &[O::PutObject, O::CopyObject, O::CompleteMultipartUpload, O::DeleteObject];
/// Operations that are done on a condition.
const CONDITIONAL: &[O] = &[
    O::PutObject,
    O::CopyObject,
    O::CompleteMultipartUpload,
    O::DeleteObject,
    O::GetObject,
    O::HeadObject,
    O::GetObjectAttributes,
];

/// Facts that are headers, and the operations that do as these say, or are refused.
const HEADERS: [(&str, &str, &[O]); 19] = [
    ("s3:x-amz-acl", "x-amz-acl", LISTS),
    (COPY_SOURCE, "x-amz-copy-source", COPIES),
    ("s3:x-amz-grant-full-control", "x-amz-grant-full-control", LISTS),
    ("s3:x-amz-grant-read", "x-amz-grant-read", LISTS),
    ("s3:x-amz-grant-read-acp", "x-amz-grant-read-acp", LISTS),
    ("s3:x-amz-grant-write", "x-amz-grant-write", LISTS),
    ("s3:x-amz-grant-write-acp", "x-amz-grant-write-acp", LISTS),
    ("s3:x-amz-metadata-directive", "x-amz-metadata-directive", &[O::CopyObject]),
    ("s3:x-amz-object-ownership", "x-amz-object-ownership", &[O::CreateBucket]),
    ("s3:x-amz-server-side-encryption", "x-amz-server-side-encryption", MAKES),
    ("s3:x-amz-server-side-encryption-aws-kms-key-id", "x-amz-server-side-encryption-aws-kms-key-id", MAKES),
    (
        "s3:x-amz-server-side-encryption-customer-algorithm",
        "x-amz-server-side-encryption-customer-algorithm",
        MAKES,
    ),
    ("s3:x-amz-storage-class", "x-amz-storage-class", MAKES),
    ("s3:x-amz-website-redirect-location", "x-amz-website-redirect-location", MAKES),
    (LOCK_MODE, "x-amz-object-lock-mode", MAKES),
    (RETAIN_UNTIL, "x-amz-object-lock-retain-until-date", MAKES),
    (LEGAL_HOLD, "x-amz-object-lock-legal-hold", MAKES),
    (IF_MATCH, "if-match", CONDITIONAL),
    (IF_NONE_MATCH, "if-none-match", CONDITIONAL),
];

/// Facts that are parameters, and the operations that read these.
const PARAMETERS: [(&str, &str, &[O]); 3] = [
    (
        "s3:prefix",
        "prefix",
        &[O::ListObjects, O::ListObjectsV2, O::ListObjectVersions, O::ListMultipartUploads],
    ),
    (
        "s3:delimiter",
        "delimiter",
        &[O::ListObjects, O::ListObjectsV2, O::ListObjectVersions, O::ListMultipartUploads],
    ),
    ("s3:max-keys", "max-keys", &[O::ListObjects, O::ListObjectsV2, O::ListObjectVersions]),
];

const COPY_SOURCE: &str = "s3:x-amz-copy-source";
const IF_MATCH: &str = "s3:if-match";
const IF_NONE_MATCH: &str = "s3:if-none-match";
const LEGAL_HOLD: &str = "s3:object-lock-legal-hold";
const LOCK_MODE: &str = "s3:object-lock-mode";
const RETAIN_UNTIL: &str = "s3:object-lock-retain-until-date";

/// A fact that is so, and that nobody tells: no number, so that it counts against the sender.
pub(crate) const UNKNOWN: &str = "unknown";

/// Where a request comes from, how, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
    /// By which version of TLS: `1.3`, or [`UNKNOWN`]. None if it is not encrypted.
    pub(crate) tls_version: Option<&'static str>,
    pub(crate) now_ms: u64,
}

/// The facts of a question, gathered when somebody asks: most requests are decided about without a policy.
#[derive(Debug)]
pub struct RequestFacts<'a> {
    gathered: OnceCell<Facts>,
    source: Option<Source<'a>>,
}

impl<'a> RequestFacts<'a> {
    /// Facts that are known already.
    pub fn ready(facts: Facts) -> RequestFacts<'static> {
        RequestFacts { gathered: OnceCell::from(facts), source: None }
    }

    pub(super) fn of(source: Source<'a>) -> RequestFacts<'a> {
        RequestFacts { gathered: OnceCell::new(), source: Some(source) }
    }

    /// The facts.
    pub fn facts(&self) -> &Facts {
        self.gathered.get_or_init(|| self.source.as_ref().map(gather).unwrap_or_default())
    }
}

/// What facts are gathered from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) sender: Sender<'a>,
    /// The account that owns the bucket, or would own it.
    pub(super) account: Option<&'a str>,
    pub(super) deed: Deed<'a>,
}

/// Who sends a request, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'a> {
    pub(super) origin: Origin,
    pub(super) principal: &'a Principal,
    pub(super) signing: Signing,
    /// What a signature says of the bytes that come.
    pub(super) payload: PayloadMode,
    /// Of [`SENDER_HEADERS`] nobody knows whether they are true, and policies ask for them all the same.
    pub(super) headers: &'a Headers,
}

/// Where a signature stands, if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Signing {
    /// In a head.
    Head(Option<Signed>),
    /// In a form.
    Form {
        is_version_2: bool,
        /// When it was made, in seconds since 1970, if that was signed.
        at_seconds: Option<u64>,
    },
}

/// What will be done to what is asked about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deed<'a> {
    /// The version that is named.
    pub(super) version_id: Option<&'a str>,
    /// The request's head, if what it says is about this.
    pub(super) head: Option<(&'a Routed, &'a Headers)>,
    /// The request of that head, once all of it is there.
    pub(super) request: Option<&'a Request>,
    /// What the upload was begun with that it adds to, or ends.
    pub(super) upload: Option<&'a ObjectHeaders>,
    /// The tags that come from elsewhere than from the request.
    pub(super) tags: Option<&'a TagSet>,
    /// The condition that a document has for this alone.
    pub(super) if_match: Option<&'a ETagCondition>,
}

impl<'a> Deed<'a> {
    /// All that a request does, but for what comes from elsewhere.
    pub(super) fn of(routed: &'a Routed, headers: &'a Headers, request: Option<&'a Request>) -> Deed<'a> {
        let version_id = routed.query.value("versionId");
        Deed { version_id, head: Some((routed, headers)), request, ..Deed::default() }
    }

    /// Something is done to this version, or to the current one, and nothing that a head says is about it.
    pub(super) fn to_version(version_id: Option<&'a str>) -> Deed<'a> {
        Deed { version_id, ..Deed::default() }
    }

    /// Tags that will be stored.
    fn stored_tags(&self) -> Option<&'a TagSet> {
        let asked = match self.request {
            Some(Request::PutObject(put)) => Some(&put.headers.tags),
            Some(Request::CreateMultipartUpload(create)) => Some(&create.headers.tags),
            Some(Request::CopyObject(copy)) => copy.replace_tags.as_ref(),
            Some(Request::ChangeObject(change)) => match &change.change {
                ObjectChange::Tags(tags) => Some(tags),
                ObjectChange::Retention(_) | ObjectChange::LegalHold(_) => None,
            },
            _ => None,
        };
        self.tags.or(asked).or(self.upload.map(|upload| &upload.tags))
    }
}

fn gather(source: &Source<'_>) -> Facts {
    let mut facts = Facts::default();
    tell_sender(&mut facts, &source.sender);
    if let Some(account) = source.account {
        facts.set("aws:ResourceAccount", account);
        facts.set("s3:ResourceAccount", account);
    }
    tell_deed(&mut facts, &source.deed, source.sender.origin.now_ms);
    facts
}

fn tell_sender(facts: &mut Facts, sender: &Sender<'_>) {
    let Sender { origin, principal, signing, payload, headers } = *sender;
    facts.set("aws:SourceIp", origin.peer.ip().to_canonical().to_string());
    facts.set("aws:SecureTransport", if origin.secure { "true" } else { "false" });
    facts.set("aws:CurrentTime", format_iso8601(origin.now_ms));
    facts.set("aws:EpochTime", (origin.now_ms / 1_000).to_string());
    if let Some(version) = origin.tls_version {
        facts.set("s3:TlsVersion", version);
    }
    // No request comes from a service of AWS; those are keys that every request there has.
    facts.set("aws:PrincipalIsAWSService", "false");
    facts.set("aws:ViaAWSService", "false");
    // "Presigned URLs always have an UNSIGNED_PAYLOAD", if nothing else was signed.
    // (<https://docs.aws.amazon.com/AmazonS3/latest/API/bucket-policy-s3-sigv4-conditions.html>, s3:x-amz-content-sha256.)
    facts.set("s3:x-amz-content-sha256", payload.text());
    for (fact, header) in SENDER_HEADERS {
        if let Some(value) = joined(headers, header) {
            facts.set(fact, value);
        }
    }
    if principal.is_anonymous() {
        // (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>, "Principal key values".)
        facts.set("aws:PrincipalType", "Anonymous");
        facts.set("aws:userid", "anonymous");
    }
    if let Signing::Form { .. } = signing {
        facts.set("s3:authType", "POST");
    }
    let Some(identity) = principal.identity() else { return };
    facts.set("aws:PrincipalArn", identity.arn());
    facts.set("aws:PrincipalAccount", &*identity.account.id);
    facts.set("aws:PrincipalType", if identity.user.is_some() { "User" } else { "Account" });
    facts.set("aws:userid", identity.id());
    if let Some(user) = &identity.user {
        facts.set("aws:username", &**user);
    }
    // "The length of time, in milliseconds, that a signature is valid in an authenticated request": more than its age is not asked.
    // "In Signature Version 2, this value is always set to 0."
    // (<https://docs.aws.amazon.com/AmazonS3/latest/API/bucket-policy-s3-sigv4-conditions.html>, s3:signatureAge.)
    let age = |at_seconds: u64| origin.now_ms.saturating_sub(at_seconds.saturating_mul(1_000));
    let (version, age) = match signing {
        Signing::Head(signed) => {
            let in_query = signed.is_some_and(|signed| signed.place == SignaturePlace::Query);
            facts.set("s3:authType", if in_query { "REST-QUERY-STRING" } else { "REST-HEADER" });
            ("AWS4-HMAC-SHA256", signed.map(|signed| age(signed.at_seconds)))
        }
        Signing::Form { is_version_2: true, .. } => ("AWS", Some(0)),
        Signing::Form { at_seconds, .. } => ("AWS4-HMAC-SHA256", at_seconds.map(age)),
    };
    facts.set("s3:signatureversion", version);
    facts.set("s3:signatureAge", age.map_or(UNKNOWN.to_owned(), |age| age.to_string()));
}

fn tell_deed(facts: &mut Facts, deed: &Deed<'_>, now_ms: u64) {
    if let Some(version) = deed.version_id {
        facts.set("s3:VersionId", version);
    }
    if let Some((routed, headers)) = deed.head {
        let operation = routed.operation;
        if let Some(creates) = creates_object(operation) {
            facts.set("s3:ObjectCreationOperation", if creates { "true" } else { "false" });
        }
        for (fact, header, operations) in HEADERS {
            if operations.contains(&operation)
                && let Some(value) = joined(headers, header)
                && (fact != IF_NONE_MATCH || writes_once(operation, &value))
            {
                tell_header(facts, fact, &value, now_ms);
            }
        }
        for (fact, parameter, operations) in PARAMETERS {
            if let Some(value) = routed.query.value(parameter).filter(|_| operations.contains(&operation)) {
                facts.set(fact, value);
            }
        }
    }
    for (name, value) in deed.upload.iter().flat_map(|upload| &upload.begun_with) {
        if let Some((fact, ..)) = HEADERS.iter().find(|(_, header, _)| header == name) {
            tell_header(facts, fact, &String::from_utf8_lossy(value), now_ms);
        }
    }
    if let Some(condition) = deed.if_match {
        facts.set(IF_MATCH, text_of(condition));
    }
    if let Some(tags) = deed.stored_tags().filter(|tags| !tags.is_empty()) {
        for (key, value) in &tags.tags {
            facts.add(&format!("s3:RequestObjectTag/{key}"), value.as_str());
        }
        facts.set_all("s3:RequestObjectTagKeys", tags.tags.iter().map(|(key, _)| key.clone()).collect());
    }
    // What a document says is called as the header that says the same of an object that is put.
    match deed.request {
        Some(Request::ChangeObject(change)) => match &change.change {
            ObjectChange::Retention(Some(Retention { mode, until_ms })) => {
                facts.set(LOCK_MODE, mode.name());
                tell_header(facts, RETAIN_UNTIL, &format_iso8601(*until_ms), now_ms);
            }
            ObjectChange::LegalHold(on) => facts.set(LEGAL_HOLD, if *on { "ON" } else { "OFF" }),
            ObjectChange::Retention(None) | ObjectChange::Tags(_) => {}
        },
        Some(Request::CreateBucket(create)) => {
            if let Some(region) = &create.location {
                facts.set("s3:LocationConstraint", region.as_str());
            }
        }
        _ => {}
    }
}

/// Whether an object comes into being by it, of all operations that are `s3:PutObject`.
///
/// "For multipart uploads you must specify the s3:ObjectCreationOperation condition key to exempt the CreateMultipartUpload, UploadPart,
/// and UploadPartCopy operations, as these APIs don't accept conditional headers."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html>.)
fn creates_object(operation: OperationName) -> Option<bool> {
    match operation {
        O::PutObject | O::CopyObject | O::CompleteMultipartUpload => Some(true),
        O::CreateMultipartUpload | O::UploadPart | O::UploadPartCopy => Some(false),
        _ => None,
    }
}

/// Whether `If-None-Match` with this value is what policies mean that ask for it: of a read it is whatever it says.
///
/// Of a write policies demand it so that no object is written over (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html>).
/// A list of tags keeps nobody from that where the object has none of them: who sends one has not sent what is demanded.
fn writes_once(operation: OperationName, value: &str) -> bool {
    !CONDITIONAL_WRITES.contains(&operation) || value.trim_ascii() == "*"
}

/// What the lines of a header are together (RFC 9110 §5.3).
fn joined<'h>(headers: &'h Headers, name: &str) -> Option<Cow<'h, str>> {
    let mut lines = headers.all(name).map(String::from_utf8_lossy);
    let first = lines.next()?;
    Some(lines.fold(first, |text, line| Cow::Owned(format!("{text}, {line}"))))
}

/// Tells of a header, and what follows from it.
fn tell_header(facts: &mut Facts, fact: &str, value: &str, now_ms: u64) {
    facts.set(fact, value);
    match fact {
        RETAIN_UNTIL => set_remaining_days(facts, parse_iso8601(value.as_bytes()), now_ms),
        // The same source can be written in many ways, and what denies one denies all.
        COPY_SOURCE => {
            if let Ok(plain) = decode_path(value) {
                facts.add(COPY_SOURCE, plain);
            }
        }
        _ => {}
    }
}

fn text_of(condition: &ETagCondition) -> String {
    match condition {
        ETagCondition::Any => "*".to_owned(),
        ETagCondition::Tags(tags) => {
            let tags: Vec<String> = tags.iter().map(|tag| format!("\"{}\"", tag.opaque)).collect();
            tags.join(", ")
        }
    }
}

/// For how many days an object would be retained from now on: one that is begun counts.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html>, "Setting limits on retention periods with a bucket
/// policy".)
fn set_remaining_days(facts: &mut Facts, until_ms: Option<u64>, now_ms: u64) {
    const DAY_MS: u64 = 86_400_000;
    let days = until_ms.map(|until_ms| until_ms.saturating_sub(now_ms).div_ceil(DAY_MS));
    let days = days.map_or(UNKNOWN.to_owned(), |days| days.to_string());
    facts.set("s3:object-lock-remaining-retention-days", days);
}

impl Origin {
    /// How addresses of this server begin, as the client sees it.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::{Account, Identity};
    use super::*;
    use crate::protocol::{
        auth::Signature,
        metadata::JUDGED_HEADERS,
        names::Query,
        operation::{Resource, check_headers},
        policy::{KEYS_TOLD, Policy, PolicyPlace, Subject, Verdict},
    };
    use std::sync::Arc;

    const ORIGIN: Origin = Origin {
        peer: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 5),
        secure: true,
        tls_version: Some("1.3"),
        now_ms: 1_000_000,
    };
    /// A day and a half later.
    const UNTIL: &str = "1970-01-02T12:16:40.000Z";

    fn sent_by(principal: &Principal, headers: &Headers, deed: Deed<'_>) -> Facts {
        let signature = Signature::parse("0".repeat(64).as_bytes()).unwrap();
        let place = SignaturePlace::Query;
        let signed = Signed { signature, place, at_seconds: 990, covers_payload: true };
        let (signing, payload) = (Signing::Head(Some(signed)), PayloadMode::Unsigned);
        let sender = Sender { origin: ORIGIN, principal, signing, payload, headers };
        gather(&Source { sender, account: Some("owner"), deed })
    }

    fn ann() -> Principal {
        let account = Arc::new(Account { id: "1".into(), display_name: "1".into(), email: None });
        Principal::Identity(Arc::new(Identity::user("k", account, "ann", Vec::new())))
    }

    fn headers(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
        headers
    }

    /// What Ann's request is told to be, as the service reads it.
    fn told(operation: OperationName, query: &str, fields: &[(&str, &str)], document: &str) -> Facts {
        let headers = headers(fields);
        let resource = match operation {
            O::CreateBucket | O::ListObjectsV2 => Resource::Bucket { bucket: "bucket".into() },
            _ => Resource::Object { bucket: "bucket".into(), key: "k".into() },
        };
        let routed = Routed { operation, resource, query: Query::parse(query).unwrap() };
        let request = Request::parse(&routed, &headers, PayloadMode::Sha256([0; 32]), document.as_bytes());
        sent_by(&ann(), &headers, Deed::of(&routed, &headers, request.as_ref().ok()))
    }

    const TAGGING: &str = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";

    #[test]
    fn every_name_that_a_policy_may_use_is_told() {
        // By each header and parameter there is a fact for, those of whoever signed, and those of documents; but for the tags of the
        // object itself. And nothing is told that no policy may ask for.
        let value = |fact| if fact == IF_NONE_MATCH { "*" } else { UNTIL };
        let all: Vec<(&str, &str)> =
            HEADERS.iter().map(|(fact, header, _)| (*header, value(*fact))).collect();
        let all = [&all[..], &SENDER_HEADERS.map(|(_, header)| (header, "x"))].concat();
        let query: Vec<String> =
            PARAMETERS.iter().map(|(_, parameter, _)| format!("{parameter}=1")).collect();
        let created = "<CreateBucketConfiguration><LocationConstraint>here</LocationConstraint></CreateBucketConfiguration>";
        let facts = [
            told(O::PutObject, "", &all, ""),
            told(O::CopyObject, "", &all, ""),
            told(O::ListObjectsV2, &query.join("&"), &[], ""),
            told(O::GetObject, "versionId=1", &[], ""),
            told(O::PutObjectTagging, "", &[], TAGGING),
            told(O::CreateBucket, "", &[("x-amz-object-ownership", "ObjectWriter")], created),
        ];
        for name in KEYS_TOLD {
            let name = if name.ends_with('/') { format!("{name}a") } else { name.to_owned() };
            let is_told = facts.iter().any(|facts| facts.has(&name));
            assert!(is_told || name == "s3:ExistingObjectTag/a", "{name}");
        }
        let listed = HEADERS.iter().map(|row| row.0).chain(PARAMETERS.iter().map(|row| row.0));
        for fact in listed.chain(SENDER_HEADERS.map(|row| row.0)) {
            assert!(KEYS_TOLD.contains(&fact), "{fact}");
        }
        assert!(facts[0].says("aws:username", "ann") && !facts[0].says("aws:userid", "ann"));
        let account = Arc::new(Account { id: "1".into(), display_name: "1".into(), email: None });
        let root = Principal::Identity(Arc::new(Identity::root("k", account)));
        let facts_of_root = sent_by(&root, &Headers::default(), Deed::default());
        assert!(facts_of_root.says("aws:userid", "1") && !facts_of_root.has("aws:username"));
        assert!(facts[0].says("s3:signatureAge", "10000") && facts[0].says("s3:TlsVersion", "1.3"));
        assert!(
            facts[0].says("s3:ResourceAccount", "owner") && facts[0].says("aws:ResourceAccount", "owner")
        );
    }

    #[test]
    fn a_fact_is_what_will_be_done() {
        // The same head, of operations that do as it says and of others that pass it over.
        let source = ("x-amz-copy-source", "/bucket/%6b?versionId=1");
        let head = [
            ("x-amz-tagging", "a=b"),
            ("x-amz-acl", "private"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-retain-until-date", UNTIL),
            ("x-amz-object-lock-legal-hold", "ON"),
            ("x-amz-storage-class", "STANDARD"),
            ("if-none-match", "*"),
            source,
        ];
        let days = "s3:object-lock-remaining-retention-days";
        let stored = ["s3:RequestObjectTag/a", "s3:x-amz-storage-class", LOCK_MODE, days, LEGAL_HOLD];
        let replaced = [&head[..], &[("x-amz-tagging-directive", "REPLACE")]].concat();
        for (operation, fields, told_of) in [
            (O::PutObject, &head[..], [true, true, true, true, false]),
            (O::CopyObject, &head, [false, true, true, true, true]),
            (O::CopyObject, &replaced, [true, true, true, true, true]),
            (O::CreateMultipartUpload, &head, [true, true, true, false, false]),
            (O::UploadPart, &head, [false, false, false, false, false]),
            (O::UploadPartCopy, &head, [false, false, false, false, true]),
            (O::GetObject, &head, [false, false, false, true, false]),
            (O::DeleteObjectTagging, &head, [false, false, false, false, false]),
        ] {
            let query = "partNumber=1&uploadId=u&prefix=a&delimiter=/&max-keys=1";
            let facts = told(operation, query, fields, "");
            let has = |name: &str| facts.has(name);
            let found = [
                has("s3:RequestObjectTag/a"),
                stored[1..].iter().all(|name| has(name)),
                has("s3:x-amz-acl"),
                has("s3:if-none-match"),
                has(COPY_SOURCE),
            ];
            assert_eq!(found, told_of, "{operation:?}");
            assert!(!has("s3:prefix") && !has("s3:delimiter") && !has("s3:max-keys"), "{operation:?}");
            assert!(!has(days) || facts.says(days, "2"));
            assert!(!has(COPY_SOURCE) || facts.says(COPY_SOURCE, source.1));
            assert!(!has(COPY_SOURCE) || facts.says(COPY_SOURCE, "/bucket/k?versionId=1"));
        }
        // Of a list of tags a policy hears when something is read.
        for (tags, of_write) in
            [("*", true), ("\"a\"", false), ("\"*\"", false), ("*, *", false), ("", false)]
        {
            for operation in [O::PutObject, O::CopyObject, O::CompleteMultipartUpload, O::GetObject] {
                let is_told =
                    told(operation, "uploadId=u", &[("if-none-match", tags)], "").has(IF_NONE_MATCH);
                assert_eq!(is_told, of_write || operation == O::GetObject, "{operation:?} {tags}");
            }
        }
        let facts = told(O::PutObjectTagging, "versionId=1", &[("x-amz-tagging", "c=d")], TAGGING);
        assert!(facts.says("s3:RequestObjectTagKeys", "a") && !facts.says("s3:RequestObjectTagKeys", "c"));
        assert!(facts.says("s3:VersionId", "1") && !facts.has("s3:RequestObjectTag/c"));
        let retention = format!(
            "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>{UNTIL}</RetainUntilDate></Retention>"
        );
        let facts = told(O::PutObjectRetention, "", &head, &retention);
        assert!(facts.says(LOCK_MODE, "COMPLIANCE") && facts.says(days, "2") && !facts.has(LEGAL_HOLD));
        assert!(facts.says(RETAIN_UNTIL, UNTIL));
        let facts = told(O::PutObjectRetention, "", &head, "<Retention></Retention>");
        assert!(!facts.has(LOCK_MODE) && !facts.has(RETAIN_UNTIL) && !facts.has(days));
        let facts = told(O::PutObjectLegalHold, "", &head, "<LegalHold><Status>OFF</Status></LegalHold>");
        assert!(facts.says(LEGAL_HOLD, "OFF") && !facts.says(LEGAL_HOLD, "ON"));
    }

    #[test]
    fn a_part_is_told_what_its_upload_was_begun_with() {
        // Every header that an upload may be begun with is kept, or refused; and its tags, and the clock is that of the question.
        for (fact, header, operations) in HEADERS {
            let refused = check_headers(&headers(&[(header, "x")])).is_err();
            let kept = JUDGED_HEADERS.contains(&header);
            assert!(!operations.contains(&O::CreateMultipartUpload) || refused != kept, "{fact}");
        }
        let begun =
            [("x-amz-object-lock-retain-until-date", UNTIL), ("x-amz-acl", "bucket-owner-full-control")];
        let begun_with = begun.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).into();
        let tags = TagSet { tags: vec![("a".into(), "b".into())] };
        let upload = ObjectHeaders { begun_with, tags, ..ObjectHeaders::default() };
        let deed = Deed { upload: Some(&upload), ..Deed::default() };
        let facts = sent_by(&ann(), &Headers::default(), deed);
        assert!(facts.says("s3:x-amz-acl", "bucket-owner-full-control"));
        assert!(facts.says("s3:object-lock-remaining-retention-days", "2"));
        assert!(facts.says("s3:RequestObjectTag/a", "b"));
    }

    #[test]
    fn who_did_not_sign_is_anonymous() {
        // And a period that can not be read is one that nobody knows.
        let headers = headers(&[("x-amz-object-lock-retain-until-date", "soon")]);
        let resource = Resource::Object { bucket: "bucket".into(), key: "k".into() };
        let routed = Routed { operation: O::PutObject, resource, query: Query::default() };
        let facts = sent_by(&Principal::Anonymous, &headers, Deed::of(&routed, &headers, None));
        assert!(facts.says("aws:PrincipalType", "Anonymous") && facts.says("aws:userid", "anonymous"));
        assert!(!facts.has("s3:signatureAge") && !facts.has("aws:PrincipalArn"));
        assert!(facts.says("s3:object-lock-remaining-retention-days", UNKNOWN));
    }

    #[test]
    fn a_request_can_not_make_a_fact() {
        // Where it comes from is what the socket says, and a header named like a fact is none.
        let fields = [
            ("x-forwarded-for", "10.0.0.1"),
            ("aws:SourceIp", "10.0.0.1"),
            ("s3:prefix", "a"),
            ("forwarded", "for=10.0.0.1"),
            ("referer", "here"),
            ("referer", "there"),
        ];
        let facts = told(O::ListObjectsV2, "aws%3ASourceIp=10.0.0.1", &fields, "");
        let holds = |condition: &str| {
            let text = format!(
                "{{\"Statement\":{{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\",\"Condition\":{{{condition}}}}}}}"
            );
            let policy = Policy::parse(text.as_bytes(), PolicyPlace::User).unwrap();
            policy.judge(Subject::Anonymous, "s3:GetObject", "b/k", &facts) == Verdict::Allow
        };
        assert!(holds("\"IpAddress\":{\"aws:SourceIp\":\"192.0.2.0/24\"}"));
        assert!(!holds("\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}"));
        assert!(holds("\"Null\":{\"s3:prefix\":\"true\",\"s3:VersionId\":\"true\"}"));
        assert!(holds("\"StringEquals\":{\"aws:Referer\":\"here, there\"}"));
    }
}
