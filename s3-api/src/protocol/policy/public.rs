//! Whether a policy is public.

use super::document::{Policy, Principals, Statement};

impl Policy {
    /// Whether it grants something to everybody.
    ///
    /// "To be considered non-public, a bucket policy must grant access only to fixed values (values that don't contain a wildcard or
    /// an AWS Identity and Access Management Policy Variable) for one or more of the following: an AWS principal, user, role, or
    /// service principal; a set of Classless Inter-Domain Routings (CIDRs), using aws:SourceIp; aws:SourceArn; aws:SourceVpc; …".
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html>, "The meaning of
    /// "public"", Bucket policies.)
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(Statement::is_public)
    }
}

impl Statement {
    fn is_public(&self) -> bool {
        let everybody = matches!(self.principals, Principals::Everybody | Principals::Others(_));
        self.allows && everybody && !self.conditions.iter().any(|condition| condition.is_fixed())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Policy, PolicyPlace};

    #[test]
    fn fixed_values_make_a_policy_not_public() {
        // Who, and from where; a wildcard, a wide network, an optional or negated condition do not count.
        let of = |principal: &str, condition: &str| {
            let document = format!(
                "{{\"Statement\":{{\"Effect\":\"Allow\",\"Principal\":{principal},\"Action\":\"s3:GetObject\",\
                 \"Resource\":\"arn:aws:s3:::b/*\",\"Condition\":{{{condition}}}}}}}"
            );
            Policy::parse(document.as_bytes(), PolicyPlace::Bucket("b")).unwrap().is_public()
        };
        assert!(of("\"*\"", "") && of("{\"AWS\":\"*\"}", ""));
        assert!(!of("{\"AWS\":\"arn:aws:iam::1:root\"}", ""));
        assert!(!of("\"*\"", "\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}"));
        assert!(of("\"*\"", "\"IpAddress\":{\"aws:SourceIp\":\"0.0.0.0/0\"}"));
        assert!(of("\"*\"", "\"NotIpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}"));
        assert!(of("\"*\"", "\"StringEqualsIfExists\":{\"aws:SourceVpc\":\"v\"}"));
        assert!(of("\"*\"", "\"StringLike\":{\"aws:PrincipalArn\":\"arn:aws:iam::1:user/*\"}"));
        assert!(!of("\"*\"", "\"StringLike\":{\"aws:PrincipalArn\":\"arn:aws:iam::1:user/ann\"}"));
        // An identifier is one user's; but who did not sign has one as well.
        for operator in ["StringEquals", "StringEqualsIgnoreCase", "ForAnyValue:StringLike"] {
            let by_id = |ids: &str| of("\"*\"", &format!("\"{operator}\":{{\"AWS:userid\":{ids}}}"));
            assert!(!by_id("\"AIDAJQABLZS4A3QDU576Q\"") && !by_id("[\"AIDAJQABLZS4A3QDU576Q\",\"1\"]"));
            for ids in
                ["\"anonymous\"", "\"Anonymous\"", "[\"1\",\"anonymous\"]", "\"AIDA*\"", "\"${aws:userid}\""]
            {
                assert!(by_id(ids), "{operator} {ids}");
            }
        }
        assert!(!of("\"*\"", "\"StringEquals\":{\"aws:PrincipalOrgID\":\"o\"}"));
        assert!(of("\"*\"", "\"StringEquals\":{\"s3:prefix\":\"p\"}"));
    }
}
