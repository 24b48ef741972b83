//! The policy of a form. (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>.)

use super::FormHead;
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::json;
use crate::protocol::time::parse_iso8601;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// Fields that no condition need name: they are what the policy is checked with.
const FREE_FIELDS: [&str; 6] = ["policy", "x-amz-signature", "signature", "awsaccesskeyid", "file", "submit"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Equals(String, String),
    StartsWith(String, String),
}

/// What a form may hold, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormPolicy {
    expires_ms: u64,
    conditions: Vec<Condition>,
    /// Bytes that the file may have: at least, at most.
    length: Option<(u64, u64)>,
}

fn invalid(why: &'static str) -> S3Error {
    S3Error::with_message(ErrorCode::InvalidPolicyDocument, why)
}

fn violated(what: &str) -> S3Error {
    let message = format!("Invalid according to Policy: Policy Condition failed: {what}");
    S3Error::with_message(ErrorCode::AccessDenied, message)
}

impl FormPolicy {
    /// Reads the field `policy`: JSON in base64.
    ///
    /// # Errors
    ///
    /// 400 `InvalidPolicyDocument`.
    pub fn parse(field: &str) -> Result<FormPolicy, S3Error> {
        let text =
            STANDARD.decode(field.trim()).map_err(|_| invalid("Invalid Policy: the policy is no base64."))?;
        let value = json::parse(&text).ok_or_else(|| invalid("Invalid Policy: Invalid JSON."))?;
        let Value::Object(object) = value else { return Err(invalid("Invalid Policy: Invalid JSON.")) };
        if object.keys().any(|name| !matches!(name.as_str(), "expiration" | "conditions")) {
            return Err(invalid("Invalid Policy: Unexpected field."));
        }
        let Some(Value::String(expiration)) = object.get("expiration") else {
            return Err(invalid("Invalid Policy: Policy missing expiration."));
        };
        let expires_ms = parse_iso8601(expiration.as_bytes())
            .ok_or_else(|| invalid("Invalid Policy: Invalid 'expiration' value."))?;
        let Some(Value::Array(listed)) = object.get("conditions") else {
            return Err(invalid("Invalid Policy: Policy missing conditions."));
        };
        let mut policy = FormPolicy { expires_ms, conditions: Vec::new(), length: None };
        for condition in listed {
            policy.add(condition)?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> Result<(), S3Error> {
        let refuse = || invalid("Invalid Policy: Invalid condition.");
        match condition {
            Value::Object(pairs) => {
                if pairs.is_empty() {
                    return Err(refuse());
                }
                for (name, value) in pairs {
                    let Value::String(value) = value else { return Err(refuse()) };
                    self.conditions.push(Condition::Equals(name.to_ascii_lowercase(), value.clone()));
                }
                Ok(())
            }
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(operator), Value::String(name), Value::String(value)] => {
                    let name = name.strip_prefix('$').ok_or_else(refuse)?.to_ascii_lowercase();
                    self.conditions.push(match operator.to_ascii_lowercase().as_str() {
                        "eq" => Condition::Equals(name, value.clone()),
                        "starts-with" => Condition::StartsWith(name, value.clone()),
                        _ => return Err(refuse()),
                    });
                    Ok(())
                }
                [Value::String(operator), least, most]
                    if operator.eq_ignore_ascii_case("content-length-range") =>
                {
                    // A negative number is none, instead of a huge one.
                    let number = |value: &Value| match value {
                        Value::String(text) => text.parse().ok(),
                        value => value.as_u64(),
                    };
                    let range = (number(least).ok_or_else(refuse)?, number(most).ok_or_else(refuse)?);
                    if self.length.replace(range).is_some() {
                        return Err(refuse());
                    }
                    Ok(())
                }
                _ => Err(refuse()),
            },
            _ => Err(refuse()),
        }
    }

    /// Checks the fields of a form for `bucket`: every condition holds, and every field is named by one.
    ///
    /// "Each form field that you specify in a form (except x-amz-signature, file, policy, and field names that have an x-ignore-
    /// prefix) must appear in the list of conditions." (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>,
    /// "Conditions".)
    ///
    /// # Errors
    ///
    /// 403 `AccessDenied`.
    pub fn check(&self, form: &FormHead, bucket: &str, key: &str, now_ms: u64) -> Result<(), S3Error> {
        if now_ms > self.expires_ms {
            let message = "Invalid according to Policy: Policy expired.";
            return Err(S3Error::with_message(ErrorCode::AccessDenied, message));
        }
        let value = |name: &str| match name {
            "bucket" => Some(bucket),
            "key" => Some(key),
            name => form.field(name),
        };
        for condition in &self.conditions {
            let holds = match condition {
                Condition::Equals(name, wanted) => value(name) == Some(wanted),
                // Of several types, as browsers may send, each must begin so.
                Condition::StartsWith(name, start) if name == "content-type" => value(name)
                    .is_some_and(|value| value.split(',').all(|one| one.trim().starts_with(start.as_str()))),
                Condition::StartsWith(name, start) => {
                    value(name).is_some_and(|value| value.starts_with(start.as_str()))
                }
            };
            if !holds {
                return Err(violated(&format!("{condition:?}")));
            }
        }
        let is_named = |name: &str| {
            self.conditions.iter().any(|condition| match condition {
                Condition::Equals(known, _) | Condition::StartsWith(known, _) => known == name,
            })
        };
        let stray =
            |name: &str| !FREE_FIELDS.contains(&name) && !name.starts_with("x-ignore-") && !is_named(name);
        if !is_named("bucket") {
            return Err(violated("[\"eq\", \"$bucket\"]"));
        }
        match form.fields.iter().find(|(name, _)| stray(name)) {
            Some((name, _)) => {
                let message = format!("Invalid according to Policy: Extra input fields: {name}");
                Err(S3Error::with_message(ErrorCode::AccessDenied, message))
            }
            None => Ok(()),
        }
    }

    /// Whether a form of this policy can have one value only of the field `name`, which is in lower case.
    pub fn fixes(&self, name: &str) -> bool {
        self.conditions
            .iter()
            .any(|condition| matches!(condition, Condition::Equals(known, _) if known == name))
    }

    /// The most bytes that the file may have; none: the policy says nothing.
    pub fn bytes_max(&self) -> Option<u64> {
        self.length.map(|(_, most)| most)
    }

    /// Checks the file's length.
    ///
    /// # Errors
    ///
    /// 400 `EntityTooSmall`, `EntityTooLarge`.
    pub fn check_length(&self, bytes: u64) -> Result<(), S3Error> {
        match self.length {
            Some((least, _)) if bytes < least => Err(S3Error::new(ErrorCode::EntityTooSmall)
                .field("ProposedSize", bytes.to_string())
                .field("MinSizeAllowed", least.to_string())),
            Some((_, most)) if bytes > most => Err(S3Error::new(ErrorCode::EntityTooLarge)
                .field("ProposedSize", bytes.to_string())
                .field("MaxSizeAllowed", most.to_string())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(conditions: &str) -> Result<FormPolicy, ErrorCode> {
        let text = format!("{{\"expiration\":\"2030-01-01T00:00:00Z\",\"conditions\":[{conditions}]}}");
        FormPolicy::parse(&STANDARD.encode(text)).map_err(|error| error.code)
    }

    fn form(fields: &[(&str, &str)]) -> FormHead {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        FormHead { fields, ..FormHead::default() }
    }

    const GOOD: &str = "{\"bucket\":\"b\"},[\"Starts-With\",\"$Key\",\"a/\"],[\"eq\",\"$x-amz-meta-a\",\"1\"],[\"content-length-range\",2,4]";

    #[test]
    fn a_form_holds_what_its_policy_says() {
        // Each condition, each field, the time, the bucket that is really meant.
        let policy = policy(GOOD).unwrap();
        let fields = [("key", "a/k"), ("policy", "p"), ("x-amz-meta-a", "1"), ("x-ignore-b", "2")];
        let check = |fields: &[(&str, &str)], bucket: &str, key: &str, now| {
            policy.check(&form(fields), bucket, key, now).map_err(|error| error.code)
        };
        assert_eq!(check(&fields, "b", "a/k", 0), Ok(()));
        for (fields, bucket, key, now) in [
            (&fields[..], "c", "a/k", 0),
            (&fields, "b", "b/k", 0),
            (&fields, "b", "a/k", u64::MAX),
            (&fields[..2], "b", "a/k", 0),
            (&[fields[0], ("x-amz-meta-a", "1"), ("acl", "private")], "b", "a/k", 0),
        ] {
            assert_eq!(
                check(fields, bucket, key, now),
                Err(ErrorCode::AccessDenied),
                "{fields:?} {bucket} {key}"
            );
        }
        assert_eq!(policy.bytes_max(), Some(4));
        assert!(policy.fixes("x-amz-meta-a") && !policy.fixes("key") && !policy.fixes("x-amz-date"));
        let length = |bytes| policy.check_length(bytes).map_err(|error| error.code);
        assert_eq!(length(1), Err(ErrorCode::EntityTooSmall));
        assert_eq!(length(4), Ok(()));
        assert_eq!(length(5), Err(ErrorCode::EntityTooLarge));
    }

    #[test]
    fn a_policy_that_names_no_bucket_allows_none() {
        // Or a form signed for one bucket could be sent to another.
        let policy = policy("[\"starts-with\",\"$key\",\"\"]").unwrap();
        let error = policy.check(&form(&[("key", "k")]), "b", "k", 0).unwrap_err();
        assert_eq!(error.code, ErrorCode::AccessDenied);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        // Names are case-sensitive, numbers not negative, conditions complete.
        for bad in [
            "{}",
            "[\"content-length-range\",0]",
            "[\"content-length-range\",-1,0]",
            "[\"content-length-range\",0,1],[\"content-length-range\",0,9]",
            "[\"eq\",\"key\",\"a\"]",
            "[\"ends-with\",\"$key\",\"a\"]",
            "{\"key\":1}",
            "7",
        ] {
            assert_eq!(policy(bad), Err(ErrorCode::InvalidPolicyDocument), "{bad}");
        }
        for text in [
            "{}",
            "[]",
            "{\"expiration\":\"soon\",\"conditions\":[]}",
            "{\"EXPIRATION\":\"2030-01-01T00:00:00Z\",\"conditions\":[]}",
        ] {
            assert!(FormPolicy::parse(&STANDARD.encode(text)).is_err(), "{text}");
        }
        assert!(FormPolicy::parse("!").is_err());
    }
}
