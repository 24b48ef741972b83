//! Headers that ask for what is not here: refused, because to ignore them would be to break a promise.
//!
//! A client that asks for encryption, a lock or a grant and gets 200 believes it has it. Which headers ask for encryption:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/specifying-s3-encryption.html> and
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/specifying-s3-c-encryption.html>.

use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::http::Headers;

/// Headers that are refused whatever they say, by prefix.
const REFUSED: [(&str, &str); 6] = [
    ("x-amz-server-side-encryption", "x-amz-server-side-encryption"),
    ("x-amz-copy-source-server-side-encryption", "x-amz-copy-source-server-side-encryption"),
    ("x-amz-website-redirect-location", "x-amz-website-redirect-location"),
    // An append that is taken for a whole object destroys what was there.
    ("x-amz-write-offset-bytes", "x-amz-write-offset-bytes"),
    // Conditions of directory buckets.
    ("x-amz-if-match-", "x-amz-if-match"),
    ("x-amz-mfa", "x-amz-mfa"),
];

/// Headers of which only some values mean what is done anyway.
const ALLOWED: [(&str, &[&str]); 2] = [
    ("x-amz-bucket-namespace", &["global"]),
    // Whoever owns a bucket can always mend its policy: nobody is shut out of his own, however much he confirms it.
    ("x-amz-confirm-remove-self-bucket-access", &["false"]),
];

/// How every header begins that asks for a lock, and those that are known. A kind of lock that came later is none that is kept here.
const LOCKS: [&str; 2] = ["x-amz-object-lock-", "x-amz-bucket-object-lock-"];
const KNOWN_LOCKS: [&str; 5] = [
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-bucket-object-lock-enabled",
    // Of PutObjectLockConfiguration: "A token to allow Object Lock to be enabled for an existing bucket", which needs none here.
    "x-amz-bucket-object-lock-token",
];

/// Headers that are lists, so that several lines are one longer list; names of user metadata are their owner's.
const LISTS: [&str; 3] = ["x-amz-object-attributes", "x-amz-optional-object-attributes", "x-amz-trailer"];

/// Checks that no header asks for what no operation here does, and that none says two things.
///
/// Of a header that stands twice, whoever decides about the request might see the one, and whoever performs it the other.
///
/// # Errors
///
/// 501 `NotImplemented`, 400 `InvalidArgument`, naming the header.
pub fn check_headers(headers: &Headers) -> Result<(), S3Error> {
    for (name, value) in headers.iter().filter(|(name, _)| name.starts_with("x-amz-")) {
        if let Some((_, family)) = REFUSED.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            return Err(S3Error::header_not_implemented(family));
        }
        if LOCKS.iter().any(|prefix| name.starts_with(prefix)) && !KNOWN_LOCKS.contains(&name) {
            return Err(S3Error::header_not_implemented(name));
        }
        if headers.count(name) > 1 && !name.starts_with("x-amz-meta-") && !LISTS.contains(&name) {
            let message = "The header may stand in a request once.";
            return Err(
                S3Error::with_message(ErrorCode::InvalidArgument, message).field("ArgumentName", name)
            );
        }
        let Some((header, allowed)) = ALLOWED.iter().find(|(header, _)| *header == name) else { continue };
        if allowed.iter().any(|allowed| value.eq_ignore_ascii_case(allowed.as_bytes())) {
            continue;
        }
        return Err(S3Error::header_not_implemented(header));
    }
    Ok(())
}

/// Checks header `name`, `x-amz-expected-bucket-owner` or `x-amz-source-expected-bucket-owner`, against the account that owns the
/// bucket.
///
/// "If the account ID that you provide does not match the actual owner of the bucket, the request fails with the HTTP
/// status code 403 Forbidden (access denied)."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, x-amz-expected-bucket-owner.)
///
/// # Errors
///
/// 403 `AccessDenied`.
pub fn check_expected_owner(headers: &Headers, name: &str, owner: &str) -> Result<(), S3Error> {
    match headers.first(name) {
        Some(expected) if expected != owner.as_bytes() => Err(ErrorCode::AccessDenied.into()),
        _ => Ok(()),
    }
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
        // Encryption, appends and locks of an unknown kind are refused; what changes nothing is taken.
        for (name, value) in [
            ("x-amz-server-side-encryption", "AES256"),
            ("x-amz-server-side-encryption-customer-key", "k"),
            ("x-amz-copy-source-server-side-encryption-customer-key", "k"),
            ("x-amz-write-offset-bytes", "0"),
            ("x-amz-if-match-size", "1"),
            ("x-amz-object-lock-event-hold", "ON"),
            ("x-amz-object-lock-event-hold-retention-days", "1"),
            ("x-amz-bucket-object-lock-of-next-year", "x"),
            ("x-amz-confirm-remove-self-bucket-access", "true"),
        ] {
            assert_eq!(check(name, value), Err(ErrorCode::NotImplemented), "{name}");
        }
        for (name, value) in [
            ("x-amz-acl", "private"),
            ("x-amz-tagging-directive", "COPY"),
            ("x-amz-request-payer", "requester"),
            ("x-amz-bucket-namespace", "global"),
            ("x-amz-object-lock-legal-hold", "ON"),
            ("x-amz-bucket-object-lock-enabled", "true"),
            ("x-amz-bucket-object-lock-token", "x"),
            ("x-amz-confirm-remove-self-bucket-access", "False"),
            ("x-amz-meta-server-side-encryption", "x"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_header_says_one_thing() {
        // Twice the same is twice as well; lists and user metadata may have several lines.
        for (name, expected) in [
            ("x-amz-acl", Err(ErrorCode::InvalidArgument)),
            ("x-amz-grant-read", Err(ErrorCode::InvalidArgument)),
            ("x-amz-object-attributes", Ok(())),
            ("x-amz-meta-a", Ok(())),
            ("accept", Ok(())),
        ] {
            let mut headers = Headers::default();
            headers.push(name, b"x");
            headers.push(name, b"x");
            assert_eq!(check_headers(&headers).map_err(|error| error.code), expected, "{name}");
        }
    }

    #[test]
    fn another_owner_is_refused() {
        // The header must name the owner exactly.
        const NAME: &str = "x-amz-expected-bucket-owner";
        let mut headers = Headers::default();
        assert!(check_expected_owner(&headers, NAME, "1").is_ok());
        headers.push(NAME, b"1");
        assert!(check_expected_owner(&headers, NAME, "1").is_ok());
        assert_eq!(check_expected_owner(&headers, NAME, "2").unwrap_err().code, ErrorCode::AccessDenied);
    }
}
