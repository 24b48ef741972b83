//! What conditions of policies can ask of a request.
//!
//! A fact is set from the connection, the signature or the operation; from a header or a parameter only by the list below.
//! Nothing that proxies say (`X-Forwarded-For` and the like) is believed.

use super::identity::Principal;
use crate::protocol::{
    auth::SignaturePlace, http::Headers, names::Query, policy::Facts, tagging::TagSet, time::format_iso8601,
};
use std::{cell::OnceCell, net::SocketAddr};

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

/// Where a request comes from, how, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) peer: SocketAddr,
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
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
    pub(super) place: Option<SignaturePlace>,
    pub(super) headers: &'a Headers,
    pub(super) query: &'a Query,
}

pub(super) fn gather(source: &Source<'_>) -> Facts {
    let Source { origin, principal, place, headers, query } = *source;
    let mut facts = Facts::default();
    facts.set("aws:SourceIp", origin.peer.ip().to_canonical().to_string());
    facts.set("aws:SecureTransport", if origin.secure { "true" } else { "false" });
    facts.set("aws:CurrentTime", format_iso8601(origin.now_ms));
    facts.set("aws:EpochTime", (origin.now_ms / 1_000).to_string());
    if let Some(identity) = principal.identity() {
        facts.set("aws:PrincipalArn", identity.arn());
        facts.set("aws:PrincipalAccount", &*identity.account.id);
        facts.set("aws:PrincipalType", if identity.user.is_some() { "User" } else { "Account" });
        facts.set("aws:userid", identity.user.as_deref().unwrap_or(&identity.account.id));
        if let Some(user) = &identity.user {
            facts.set("aws:username", &**user);
        }
        facts.set("s3:signatureversion", "AWS4-HMAC-SHA256");
        let place = if place == Some(SignaturePlace::Query) { "REST-QUERY-STRING" } else { "REST-HEADER" };
        facts.set("s3:authType", place);
    }
    for (fact, header) in HEADERS {
        if let Some(value) = headers.first(header) {
            facts.set(fact, String::from_utf8_lossy(value));
        }
    }
    for (fact, parameter) in PARAMETERS {
        if let Some(value) = query.value(parameter) {
            facts.set(fact, value);
        }
    }
    if let Some(tags) = headers.first("x-amz-tagging").and_then(|value| TagSet::from_header(value).ok()) {
        set_tags(&mut facts, &tags);
    }
    facts
}

/// Facts of the tags that a request brings.
pub(super) fn set_tags(facts: &mut Facts, tags: &TagSet) {
    for (key, value) in &tags.tags {
        facts.set(&format!("s3:RequestObjectTag/{key}"), value.as_str());
    }
    facts.set_all("s3:RequestObjectTagKeys", tags.tags.iter().map(|(key, _)| key.clone()).collect());
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
        let origin = Origin { peer: "192.0.2.1:5".parse().unwrap(), secure: false, now_ms: 0 };
        let query = Query::parse("aws%3ASourceIp=10.0.0.1").unwrap();
        let principal = &Principal::Anonymous;
        let facts = gather(&Source { origin, principal, place: None, headers: &headers, query: &query });
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
