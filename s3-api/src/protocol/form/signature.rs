//! The signature of a form: over its policy, by one of two versions.
//!
//! Version 4 (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-authentication-HTTPPOST.html>) signs the policy with a key of its scope;
//! version 2 (<https://docs.aws.amazon.com/AmazonS3/latest/API/HTTPPOSTForms.html>), which older forms have, with the secret itself.

use super::FormHead;
use crate::protocol::auth::{Scope, Signature, SigningKey, Timestamp, scope_of_credential};
use crate::protocol::error::{ErrorCode, S3Error};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Who says to have signed a form, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormSignature {
    /// The key.
    pub access_key: String,
    /// When it says that it was made, in seconds since 1970; none for version 2, which does not say. It covers the form's policy alone: the
    /// date was signed only if that fixes it ([`FormPolicy::fixes`](super::FormPolicy::fixes)).
    pub at_seconds: Option<u64>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    V4(Scope, Signature),
    V2(Vec<u8>),
}

impl FormSignature {
    /// Reads the fields of a form; none if it is not signed and has no policy.
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument` for half a signature.
    pub fn of(form: &FormHead) -> Result<Option<FormSignature>, S3Error> {
        let missing = |name: &'static str| {
            let message = format!("Bucket POST must contain a field named '{name}'.");
            Err(S3Error::invalid_argument(name, "", message))
        };
        let signed = [
            "policy",
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-signature",
            "awsaccesskeyid",
            "signature",
        ];
        if !signed.iter().any(|name| form.field(name).is_some()) {
            return Ok(None);
        }
        if form.field("policy").is_none() {
            return missing("policy");
        }
        if let Some(access_key) = form.field("awsaccesskeyid") {
            let Some(signature) = form.field("signature") else { return missing("Signature") };
            let bytes = STANDARD.decode(signature.trim()).map_err(|_| ErrorCode::SignatureDoesNotMatch)?;
            let (access_key, kind) = (access_key.to_owned(), Kind::V2(bytes));
            return Ok(Some(FormSignature { access_key, at_seconds: None, kind }));
        }
        match form.field("x-amz-algorithm") {
            Some("AWS4-HMAC-SHA256") => {}
            Some(other) => {
                let message = "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"";
                return Err(S3Error::invalid_argument("X-Amz-Algorithm", other, message));
            }
            None => return missing("X-Amz-Algorithm"),
        }
        let (Some(credential), Some(date)) = (form.field("x-amz-credential"), form.field("x-amz-date"))
        else {
            return missing("X-Amz-Credential");
        };
        let Some(signature) = form.field("x-amz-signature") else { return missing("X-Amz-Signature") };
        let signature = Signature::parse(signature.as_bytes()).ok_or(ErrorCode::SignatureDoesNotMatch)?;
        let (access_key, scope) = scope_of_credential(credential, date)?;
        let at_seconds = Timestamp::parse_basic(date.as_bytes()).map(Timestamp::seconds);
        let (access_key, kind) = (access_key.into(), Kind::V4(scope, signature));
        Ok(Some(FormSignature { access_key, at_seconds, kind }))
    }

    /// The region it is for; none: any.
    pub fn region(&self) -> Option<&str> {
        match &self.kind {
            Kind::V4(scope, _) => Some(&scope.region),
            Kind::V2(_) => None,
        }
    }

    /// Whether it is of version 2.
    pub fn is_version_2(&self) -> bool {
        matches!(self.kind, Kind::V2(_))
    }

    /// Checks it over `policy`, the field as it was sent, in constant time.
    ///
    /// # Errors
    ///
    /// 403 `SignatureDoesNotMatch`.
    pub fn verify(&self, secret: &str, policy: &str) -> Result<(), S3Error> {
        let holds = match &self.kind {
            Kind::V4(scope, signature) => {
                SigningKey::derive(secret, scope).verify(policy.as_bytes(), signature)
            }
            Kind::V2(signature) => {
                let mac =
                    Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
                mac.chain_update(policy.as_bytes()).verify_slice(signature).is_ok()
            }
        };
        if holds { Ok(()) } else { Err(ErrorCode::SignatureDoesNotMatch.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> FormHead {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        FormHead { fields, ..FormHead::default() }
    }

    #[test]
    fn both_versions_hold_for_their_policy_only() {
        // A signature of each, made here; another policy, another secret.
        let scope = Scope { day: "20300101".into(), region: "us-east-1".into() };
        let hex = SigningKey::derive("secret", &scope).sign(b"policy").hex();
        let v4 = form(&[
            ("policy", "policy"),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", "key/20300101/us-east-1/s3/aws4_request"),
            ("x-amz-date", "20300101T000000Z"),
            ("x-amz-signature", core::str::from_utf8(&hex).unwrap()),
        ]);
        let mac =
            Hmac::<Sha1>::new_from_slice(b"secret").unwrap().chain_update(b"policy").finalize().into_bytes();
        let v2 =
            form(&[("policy", "policy"), ("awsaccesskeyid", "key"), ("signature", &STANDARD.encode(mac))]);
        for form in [v4, v2] {
            let signature = FormSignature::of(&form).unwrap().unwrap();
            assert_eq!(signature.access_key, "key");
            assert!(signature.verify("secret", "policy").is_ok());
            assert!(
                signature.verify("secret", "Policy").is_err() && signature.verify("other", "policy").is_err()
            );
        }
    }

    #[test]
    fn half_a_signature_is_none() {
        // And must not be taken for a form that nobody signed.
        assert_eq!(FormSignature::of(&form(&[("key", "k")])), Ok(None));
        for fields in [
            &[("policy", "p")][..],
            &[("policy", "p"), ("awsaccesskeyid", "k")],
            &[("signature", "s")],
            &[("policy", "p"), ("x-amz-algorithm", "AWS4-HMAC-SHA256")],
            &[("policy", "p"), ("x-amz-algorithm", "AWS4-ECDSA-P256-SHA256")],
        ] {
            assert!(FormSignature::of(&form(fields)).is_err(), "{fields:?}");
        }
    }
}
