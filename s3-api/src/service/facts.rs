//! What conditions of policies can ask of a request.
//!
//! A fact is set from the connection, the signature or the operation; from a header or a parameter only by the list below.
//! Nothing that proxies say (`X-Forwarded-For` and the like) is believed.

use super::identity::Principal;
use crate::protocol::{
    auth::{SignaturePlace, Signed},
    http::Headers,
    lock::Retention,
    names::Query,
    operation::{ObjectChange, Request},
    policy::Facts,
    tagging::TagSet,
    time::{format_iso8601, parse_iso8601},
};
use std::{borrow::Cow, cell::OnceCell, net::SocketAddr};

/// Facts that are headers. (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>, "Condition keys for
/// Amazon S3".)
const HEADERS: [(&str, &str); 22] = [
    ("aws:Referer", "referer"),
    ("aws:UserAgent", "user-agent"),
    ("s3:x-amz-acl", "x-amz-acl"),
    ("s3:x-amz-content-sha256", "x-amz-content-sha256"),
    ("s3:x-amz-copy-source", "x-amz-copy-source"),
    ("s3:x-amz-grant-full-control", "x-amz-grant-full-control"),
    ("s3:x-amz-grant-read", "x-amz-grant-read"),
    ("s3:x-amz-grant-read-acp", "x-amz-grant-read-acp"),
    ("s3:x-amz-grant-write", "x-amz-grant-write"),
    ("s3:x-amz-grant-write-acp", "x-amz-grant-write-acp"),
    ("s3:x-amz-metadata-directive", "x-amz-metadata-directive"),
    ("s3:x-amz-object-ownership", "x-amz-object-ownership"),
    ("s3:x-amz-server-side-encryption", "x-amz-server-side-encryption"),
    ("s3:x-amz-server-side-encryption-aws-kms-key-id", "x-amz-server-side-encryption-aws-kms-key-id"),
    ("s3:x-amz-server-side-encryption-customer-algorithm", "x-amz-server-side-encryption-customer-algorithm"),
    ("s3:x-amz-storage-class", "x-amz-storage-class"),
    ("s3:x-amz-website-redirect-location", "x-amz-website-redirect-location"),
    ("s3:object-lock-mode", "x-amz-object-lock-mode"),
    ("s3:object-lock-retain-until-date", "x-amz-object-lock-retain-until-date"),
    ("s3:object-lock-legal-hold", "x-amz-object-lock-legal-hold"),
    ("s3:if-match", "if-match"),
    ("s3:if-none-match", "if-none-match"),
];

/// Facts that are parameters.
const PARAMETERS: [(&str, &str); 4] = [
    ("s3:prefix", "prefix"),
    ("s3:delimiter", "delimiter"),
    ("s3:max-keys", "max-keys"),
    ("s3:VersionId", "versionId"),
];

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

/// The facts of a request, gathered when somebody asks: most requests are decided about without a policy.
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
    pub(super) origin: Origin,
    pub(super) principal: &'a Principal,
    pub(super) signed: Option<Signed>,
    pub(super) headers: &'a Headers,
    pub(super) query: &'a Query,
    /// The request with its document, once that is there.
    pub(super) document: Option<&'a Request>,
}

pub(super) fn gather(source: &Source<'_>) -> Facts {
    let Source { origin, principal, signed, headers, query, document } = *source;
    let mut facts = Facts::default();
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
    if principal.is_anonymous() {
        // (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>, "Principal key values".)
        facts.set("aws:PrincipalType", "Anonymous");
        facts.set("aws:userid", "anonymous");
    }
    if let Some(identity) = principal.identity() {
        facts.set("aws:PrincipalArn", identity.arn());
        facts.set("aws:PrincipalAccount", &*identity.account.id);
        facts.set("aws:PrincipalType", if identity.user.is_some() { "User" } else { "Account" });
        facts.set("aws:userid", identity.user.as_deref().unwrap_or(&identity.account.id));
        if let Some(user) = &identity.user {
            facts.set("aws:username", &**user);
        }
        facts.set("s3:signatureversion", "AWS4-HMAC-SHA256");
        let in_query = signed.is_some_and(|signed| signed.place == SignaturePlace::Query);
        facts.set("s3:authType", if in_query { "REST-QUERY-STRING" } else { "REST-HEADER" });
        // "The length of time, in milliseconds, that a signature is valid in an authenticated request": more than its age is not asked.
        // (<https://docs.aws.amazon.com/AmazonS3/latest/API/bucket-policy-s3-sigv4-conditions.html>, s3:signatureAge.)
        let age = |signed: Signed| origin.now_ms.saturating_sub(signed.at_seconds.saturating_mul(1_000));
        facts.set("s3:signatureAge", signed.map_or(UNKNOWN.to_owned(), |signed| age(signed).to_string()));
    }
    for (fact, header) in HEADERS {
        if let Some(value) = joined(headers, header) {
            facts.set(fact, value);
        }
    }
    for (fact, parameter) in PARAMETERS {
        if let Some(value) = query.value(parameter) {
            facts.set(fact, value);
        }
    }
    if let Some(until) = headers.first("x-amz-object-lock-retain-until-date") {
        set_remaining_days(&mut facts, parse_iso8601(until), origin.now_ms);
    }
    if let Some(tags) = headers.first("x-amz-tagging").and_then(|value| TagSet::from_header(value).ok()) {
        set_tags(&mut facts, &tags);
    }
    if let Some(request) = document {
        set_of_document(&mut facts, request, origin.now_ms);
    }
    facts
}

/// What the lines of a header are together (RFC 9110 §5.3).
fn joined<'h>(headers: &'h Headers, name: &str) -> Option<Cow<'h, str>> {
    let mut lines = headers.all(name).map(String::from_utf8_lossy);
    let first = lines.next()?;
    Some(lines.fold(first, |text, line| Cow::Owned(format!("{text}, {line}"))))
}

/// Facts of the tags that a request brings.
pub(super) fn set_tags(facts: &mut Facts, tags: &TagSet) {
    for (key, value) in &tags.tags {
        facts.add(&format!("s3:RequestObjectTag/{key}"), value.as_str());
    }
    facts.set_all("s3:RequestObjectTagKeys", tags.tags.iter().map(|(key, _)| key.clone()).collect());
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

/// Facts of the document that a request brings: they are called as those of the headers that say the same of an object that is put.
fn set_of_document(facts: &mut Facts, request: &Request, now_ms: u64) {
    match request {
        Request::ChangeObject(change) => match &change.change {
            ObjectChange::Tags(tags) => set_tags(facts, tags),
            ObjectChange::Retention(Some(Retention { mode, until_ms })) => {
                facts.set("s3:object-lock-mode", mode.name());
                facts.set("s3:object-lock-retain-until-date", format_iso8601(*until_ms));
                set_remaining_days(facts, Some(*until_ms), now_ms);
            }
            ObjectChange::Retention(None) => {}
            ObjectChange::LegalHold(on) => {
                facts.set("s3:object-lock-legal-hold", if *on { "ON" } else { "OFF" })
            }
        },
        Request::CreateBucket(create) => {
            if let Some(region) = &create.location {
                facts.set("s3:LocationConstraint", region.as_str());
            }
        }
        _ => {}
    }
}

impl Origin {
    /// How addresses of this server begin, as the client sees it.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::policy::{Policy, PolicyPlace, Subject, Verdict};
    use std::sync::Arc;

    const ORIGIN: Origin = Origin {
        peer: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 5),
        secure: true,
        tls_version: Some("1.3"),
        now_ms: 1_000_000,
    };

    fn of_nobody(headers: &Headers, query: &str) -> Facts {
        let (principal, query) = (&Principal::Anonymous, &Query::parse(query).unwrap());
        gather(&Source { origin: ORIGIN, principal, signed: None, headers, query, document: None })
    }

    #[test]
    fn every_name_that_a_policy_may_use_is_told() {
        // By each header and parameter there is a fact for, those of whoever signed, and those of documents; but for the tags of the
        // object itself. And nothing is told that no policy may ask for.
        use super::super::identity::{Account, Identity};
        use crate::protocol::{
            auth::Signature,
            lock::RetentionMode,
            operation::{ChangeObject, CreateBucket},
        };
        let mut headers = Headers::default();
        HEADERS.iter().for_each(|(_, header)| headers.push(header, b"2030-01-01T00:00:00Z"));
        headers.push("x-amz-tagging", b"a=b");
        let query: Vec<String> = PARAMETERS.iter().map(|(_, parameter)| format!("{parameter}=1")).collect();
        let signature = Signature::parse("0".repeat(64).as_bytes()).unwrap();
        let signed = Some(Signed { signature, place: SignaturePlace::Query, at_seconds: 990 });
        let account = Arc::new(Account { id: "1".into(), display_name: "1".into(), email: None });
        let principal = &Principal::Identity(Arc::new(Identity::user("k", account, "ann", Vec::new())));
        let query = &Query::parse(&query.join("&")).unwrap();
        let mut facts =
            gather(&Source { origin: ORIGIN, principal, signed, headers: &headers, query, document: None });
        assert!(facts.says("s3:signatureAge", "10000") && facts.says("s3:TlsVersion", "1.3"));
        let create = CreateBucket {
            bucket: "b".into(),
            location: Some("here".into()),
            tags: TagSet::default(),
            object_lock: false,
            ownership: None,
            acl: None,
        };
        set_of_document(&mut facts, &Request::CreateBucket(create), 0);
        let known = crate::protocol::policy::KEYS_TOLD;
        for name in known {
            let name = if name.ends_with('/') { format!("{name}a") } else { name.to_owned() };
            assert!(facts.has(&name) || name == "s3:ExistingObjectTag/a", "{name}");
        }
        for (fact, _) in HEADERS.iter().chain(&PARAMETERS) {
            assert!(known.contains(fact), "{fact}");
        }
        let change = |change| {
            let (bucket, key, version_id) = ("b".into(), "k".into(), None);
            Request::ChangeObject(ChangeObject { bucket, key, version_id, change, bypass_governance: false })
        };
        let of = |request| {
            let mut facts = Facts::default();
            set_of_document(&mut facts, &request, 1_000_000);
            facts
        };
        let facts = of(change(ObjectChange::Tags(TagSet { tags: vec![("a".into(), "b".into())] })));
        assert!(facts.says("s3:RequestObjectTag/a", "b") && facts.says("s3:RequestObjectTagKeys", "a"));
        let until_ms = 1_000_000 + 86_400_000 * 3 / 2;
        let facts = of(change(ObjectChange::Retention(Some(Retention {
            mode: RetentionMode::Governance,
            until_ms,
        }))));
        assert!(facts.says("s3:object-lock-mode", "GOVERNANCE"));
        assert!(facts.says("s3:object-lock-remaining-retention-days", "2"));
        assert!(facts.says("s3:object-lock-retain-until-date", &format_iso8601(until_ms)));
        assert_eq!(of(change(ObjectChange::Retention(None))), Facts::default());
        assert!(of(change(ObjectChange::LegalHold(true))).says("s3:object-lock-legal-hold", "ON"));
    }

    #[test]
    fn who_did_not_sign_is_anonymous() {
        // And a period that can not be read is one that nobody knows.
        let mut headers = Headers::default();
        headers.push("x-amz-object-lock-retain-until-date", b"soon");
        let facts = of_nobody(&headers, "");
        assert!(facts.says("aws:PrincipalType", "Anonymous") && facts.says("aws:userid", "anonymous"));
        assert!(!facts.has("s3:signatureAge") && !facts.has("aws:PrincipalArn"));
        assert!(facts.says("s3:object-lock-remaining-retention-days", UNKNOWN));
    }

    #[test]
    fn a_request_can_not_make_a_fact() {
        // Where it comes from is what the socket says, and a header named like a fact is none.
        let mut headers = Headers::default();
        for (name, value) in [
            ("x-forwarded-for", "10.0.0.1"),
            ("aws:SourceIp", "10.0.0.1"),
            ("s3:prefix", "a"),
            ("forwarded", "for=10.0.0.1"),
        ] {
            headers.push(name, value.as_bytes());
        }
        let facts = of_nobody(&headers, "aws%3ASourceIp=10.0.0.1");
        let holds = |condition: &str| {
            let text = format!(
                "{{\"Statement\":{{\"Effect\":\"Allow\",\"Action\":\"*\",\"Resource\":\"*\",\"Condition\":{{{condition}}}}}}}"
            );
            let policy = Policy::parse(text.as_bytes(), PolicyPlace::User).unwrap();
            policy.judge(Subject::Anonymous, "s3:GetObject", "b/k", &facts) == Verdict::Allow
        };
        assert!(holds("\"IpAddress\":{\"aws:SourceIp\":\"192.0.2.0/24\"}"));
        assert!(!holds("\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}"));
        assert!(holds("\"Null\":{\"s3:prefix\":\"true\",\"aws:username\":\"true\"}"));
    }
}
