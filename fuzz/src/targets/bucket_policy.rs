//! Policies of buckets and users: JSON in, and then judged.
//!
//! * The order of statements does not matter, and no denial is lost.
//! * What a stranger may do by itself, without any fact, makes a policy public: the block of public access relies on that.

use crossdock_s3::protocol::policy::{Facts, Policy, PolicyPlace, Subject, Verdict};

const BUCKET: &str = "bucket";
const ACTIONS: &[&str] = &["s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion", "s3:ListBucket"];
const RESOURCES: &[&str] = &["bucket", "bucket/", "bucket/key", "bucket/a/b*?${", "other/key"];

/// Tries one input as the policy of a bucket and as that of a user.
pub fn run(bytes: &[u8]) {
    for place in [PolicyPlace::Bucket(BUCKET), PolicyPlace::User] {
        let Ok(policy) = Policy::parse(bytes, place) else { continue };
        let user = Subject::User { account: "1", arn: "arn:aws:iam::1:user/u" };
        for (subject, facts) in [(Subject::Anonymous, Facts::default()), (user, facts())] {
            for (action, resource) in
                ACTIONS.iter().flat_map(|&action| RESOURCES.iter().map(move |&name| (action, name)))
            {
                let verdict = policy.judge(subject, action, resource, &facts);
                let is_granted = verdict == Verdict::Allow && place != PolicyPlace::User;
                let by_itself = subject == Subject::Anonymous && is_granted;
                assert!(
                    !by_itself || policy.is_public(),
                    "everybody may {action} on {resource}, and it is not public"
                );
                let is_elsewhere = is_granted && resource.starts_with("other/");
                assert!(!is_elsewhere, "a bucket's policy allows {action} on {resource}");
            }
        }
        let _ = policy.asks_for("s3:ExistingObjectTag/");
    }
}

/// Some facts of each kind.
fn facts() -> Facts {
    let mut facts = Facts::default();
    facts.set("aws:SourceIp", "10.1.2.3");
    facts.set("aws:username", "u");
    facts.set("aws:SecureTransport", "false");
    facts.set("aws:CurrentTime", "2026-11-23T04:05:06.000Z");
    facts.set("s3:max-keys", "10");
    facts.set("s3:prefix", "a/");
    facts.set_all("s3:RequestObjectTagKeys", vec!["a".into(), "b".into()]);
    facts
}

/// Policies with every element, every kind of principal and every family of operators.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        r#"{"Version":"2012-10-17","Id":"i","Statement":[{"Sid":"s","Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}"#,
        r#"{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":["arn:aws:iam::1:root","2"]},"NotAction":["s3:Get*","s3:?ist*"],"NotResource":"arn:aws:s3:::bucket/a*"}}"#,
        r#"{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:user/u"},"Action":"s3:*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::bucket/${aws:username}/*"],
            "Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","::1/128"]},"DateLessThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"},"NumericLessThanEquals":{"s3:max-keys":"100"}}},
           {"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/*",
            "Condition":{"Null":{"s3:x-amz-acl":"true"},"StringNotEqualsIfExists":{"s3:x-amz-acl":["private"]},"Bool":{"aws:SecureTransport":"false"}}}]}"#,
        r#"{"Statement":{"Effect":"Allow","Action":["s3:ListBucket","s3:PutObject"],"Resource":"*",
            "Condition":{"ForAllValues:StringLike":{"s3:RequestObjectTagKeys":["a*","b"]},"ForAnyValue:StringEquals":{"s3:RequestObjectTagKeys":"a"},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/u"}}}}"#,
        r#"{"Statement":{"Effect":"Allow","Principal":{"Service":"logging.s3.amazonaws.com"},"Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/*","Condition":{"StringEquals":{"aws:SourceAccount":"1"}}}}"#,
        r#"{"Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"*","Resource":"arn:aws:s3:::bucket/*","Condition":{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"},"StringEqualsIfExists":{"aws:PrincipalOrgID":"o-1"}}}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
