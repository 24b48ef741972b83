//! Headers that ask for what is not here: refused, because to ignore them would be to break a promise.
//!
//! A client that asks for encryption, a lock or a grant and gets 200 believes it has it.

use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::http::Headers;

/// Headers that are refused whatever they say, by prefix.
const REFUSED: [(&str, &str); 8] = [
    ("x-amz-server-side-encryption", "x-amz-server-side-encryption"),
    ("x-amz-copy-source-server-side-encryption", "x-amz-copy-source-server-side-encryption"),
    ("x-amz-grant-", "x-amz-grant"),
    ("x-amz-object-lock-", "x-amz-object-lock"),
    ("x-amz-website-redirect-location", "x-amz-website-redirect-location"),
    // An append that is taken for a whole object destroys what was there.
    ("x-amz-write-offset-bytes", "x-amz-write-offset-bytes"),
    // Conditions of directory buckets.
    ("x-amz-if-match-", "x-amz-if-match"),
    ("x-amz-mfa", "x-amz-mfa"),
];

/// Headers of which only some values mean what is done anyway.
///
/// `private` and `bucket-owner-full-control` grant nothing beyond the one owner every bucket and object here has
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html>, "Canned ACL").
const ALLOWED: [(&str, &[&str]); 6] = [
    ("x-amz-acl", &["private", "bucket-owner-full-control"]),
    ("x-amz-tagging", &[""]),
    ("x-amz-tagging-directive", &["COPY"]),
    ("x-amz-bucket-object-lock-enabled", &["false"]),
    ("x-amz-object-ownership", &["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"]),
    ("x-amz-bucket-namespace", &["global"]),
];

/// Canned ACLs that S3 knows: others are no ACL at all.
const CANNED_ACLS: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

/// Checks that no header asks for what no operation here does.
///
/// # Errors
///
/// 501 `NotImplemented`, naming the header; 400 `InvalidArgument` for an ACL S3 does not know.
pub(super) fn check_headers(headers: &Headers) -> Result<(), S3Error> {
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("x-amz-")) {
        if let Some((_, family)) = REFUSED.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            return Err(S3Error::header_not_implemented(family));
        }
        let Some((header, allowed)) = ALLOWED.iter().find(|(header, _)| *header == name) else { continue };
        if allowed.iter().any(|allowed| value.eq_ignore_ascii_case(allowed.as_bytes())) {
            continue;
        }
        if *header == "x-amz-acl" && !CANNED_ACLS.iter().any(|acl| acl.as_bytes() == value) {
            return Err(S3Error::invalid_argument(
                header,
                String::from_utf8_lossy(value),
                "No such canned ACL.",
            ));
        }
        return Err(S3Error::header_not_implemented(header));
    }
    Ok(())
}

/// Checks `x-amz-expected-bucket-owner` and `x-amz-source-expected-bucket-owner` against the account that owns every
/// bucket here.
///
/// "If the account ID that you provide does not match the actual owner of the bucket, the request fails with the HTTP
/// status code 403 Forbidden (access denied)."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, x-amz-expected-bucket-owner.)
///
/// # Errors
///
/// 403 `AccessDenied`.
pub fn check_expected_owner(headers: &Headers, owner: &str) -> Result<(), S3Error> {
    let differs = |name: &str| headers.first(name).is_some_and(|expected| expected != owner.as_bytes());
    if differs("x-amz-expected-bucket-owner") || differs("x-amz-source-expected-bucket-owner") {
        return Err(ErrorCode::AccessDenied.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), ErrorCode> {
        let mut headers = Headers::default();
        headers.push(name, value.as_bytes());
        check_headers(&headers).map_err(|error| error.code)
    }

    #[test]
    fn a_promise_that_can_not_be_kept_is_refused() {
        // Encryption, grants, locks, tags and appends are refused; what changes nothing is taken.
        for (name, value) in [
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-key", "k"),
            ("x-amz-copy-source-server-side-encryption-customer-key", "k"),
            ("x-amz-grant-read", "id=1"),
            ("x-amz-object-lock-mode", "COMPLIANCE"),
            ("x-amz-tagging", "a=b"),
            ("x-amz-write-offset-bytes", "0"),
            ("x-amz-acl", "public-read"),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-if-match-size", "1"),
        ] {
            assert_eq!(check(name, value), Err(ErrorCode::NotImplemented), "{name}");
        }
        assert_eq!(check("x-amz-acl", "world"), Err(ErrorCode::InvalidArgument));
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-tagging-directive", "COPY"),
            ("x-amz-request-payer", "requester"),
            ("x-amz-bucket-object-lock-enabled", "False"),
            ("x-amz-meta-server-side-encryption", "x"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
    }

    #[test]
    fn another_owner_is_refused() {
        // The header must name the owner exactly, for target and source.
        let mut headers = Headers::default();
        assert!(check_expected_owner(&headers, "1").is_ok());
        headers.push("x-amz-expected-bucket-owner", b"1");
        assert!(check_expected_owner(&headers, "1").is_ok());
        headers.push("x-amz-source-expected-bucket-owner", b"2");
        assert_eq!(check_expected_owner(&headers, "1").unwrap_err().code, ErrorCode::AccessDenied);
    }
}
