//! The names of buckets and objects, and how they and queries are percent-encoded.
//!
//! Invariants: a key is never normalised (`a//b`, `./a` and `a/../b` are three different keys of their own); `+` is a
//! plus in a path and a space in a query.

use super::auth::{encode_path, percent_decode};
use super::error::{ErrorCode, S3Error};

/// The longest key in bytes of UTF-8.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>, "Object key naming guidelines".)
pub const KEY_BYTES_MAX: usize = 1024;

/// Whether `name` may name a general purpose bucket.
///
/// "Bucket names must be between 3 (min) and 63 (max) characters long … consist only of lowercase letters, numbers,
/// periods (.), and hyphens (-) … begin and end with a letter or number … must not contain two adjacent periods …
/// must not be formatted as an IP address" and must not have the reserved prefixes and suffixes.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>, "General purpose buckets naming rules".)
///
/// # Errors
///
/// 400 `InvalidBucketName`.
pub fn check_bucket_name(name: &str) -> Result<(), S3Error> {
    const PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
    const SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let good = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| alphanumeric(byte) || b".-".contains(byte))
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && !name.contains("..")
        && name.parse::<core::net::Ipv4Addr>().is_err()
        && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    if good { Ok(()) } else { Err(S3Error::new(ErrorCode::InvalidBucketName).field("BucketName", name)) }
}

/// Whether `key` may name an object: 1 to 1,024 bytes.
///
/// # Errors
///
/// 400 `KeyTooLongError`; 400 `InvalidArgument` for an empty key.
pub fn check_key(key: &str) -> Result<(), S3Error> {
    if key.is_empty() {
        return Err(S3Error::invalid_argument("Key", "", "The key must not be empty."));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(S3Error::new(ErrorCode::KeyTooLong)
            .field("Size", key.len().to_string())
            .field("MaxSizeAllowed", KEY_BYTES_MAX.to_string()));
    }
    Ok(())
}

/// Decodes a piece of a path. A `%` without two hexadecimal digits stands for itself.
///
/// # Errors
///
/// 400 `InvalidURI` if the bytes are not UTF-8, which keys are made of. (*Naming Amazon S3 objects*, as for [`KEY_BYTES_MAX`].)
pub fn decode_path(raw: &str) -> Result<String, S3Error> {
    String::from_utf8(percent_decode(raw.as_bytes())).map_err(|_| ErrorCode::InvalidUri.into())
}

/// `text` as a listing shows it with `encoding-type=url`: percent-encoded but for unreserved characters and `/`.
///
/// "When using the URL encoding type, non-ASCII characters that are used in an object's key name will be
/// percent-encoded according to UTF-8 code values. For example, the object `test_file(3).png` will appear as
/// `test_file%283%29.png`." (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>, EncodingType.)
pub fn encode_listed(text: &str) -> String {
    encode_path(text)
}

/// The parameters of a query, decoded, in the order they came. A parameter without `=` has an empty value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    /// Reads a raw query (without `?`). Here `+` is a space.
    ///
    /// # Errors
    ///
    /// 400 `InvalidURI` if a name or a value is not UTF-8.
    pub fn parse(raw: &str) -> Result<Self, S3Error> {
        let decode = |text: &str| {
            if text.contains('+') { decode_path(&text.replace('+', " ")) } else { decode_path(text) }
        };
        let parameters = raw
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_, S3Error>>()?;
        Ok(Query { parameters })
    }

    /// The first value of `name`; names are case-sensitive.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether `name` occurs, with or without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Names and values, in the order they came.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names, in the order they came.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bucket_names_follow_the_rules() {
        // One name per rule, good and bad.
        for good in ["abc", "a.b.c", "my-bucket-1", "1a2", &"a".repeat(63), "10.0.0.256", "a--b", "a.-b"] {
            assert!(check_bucket_name(good).is_ok(), "{good}");
        }
        let bad = [
            "",
            "ab",
            &"a".repeat(64),
            "Abc",
            "a_b_c",
            "-abc",
            "abc-",
            ".abc",
            "abc.",
            "a..b",
            "192.168.5.4",
            "xn--abc",
            "sthree-abc",
            "amzn-s3-demo-x",
            "abc-s3alias",
            "abc--ol-s3",
            "abc.mrap",
            "abc--x-s3",
            "b\u{e9}b",
        ];
        for bad in bad {
            assert_eq!(check_bucket_name(bad).unwrap_err().code, ErrorCode::InvalidBucketName, "{bad}");
        }
    }

    #[test]
    fn keys_are_bounded_and_kept_as_they_are() {
        // 1,024 bytes pass, one more does not; dots and slashes are data.
        assert!(check_key(&"k".repeat(1024)).is_ok());
        assert_eq!(check_key(&"k".repeat(1025)).unwrap_err().code, ErrorCode::KeyTooLong);
        assert_eq!(check_key("").unwrap_err().code, ErrorCode::InvalidArgument);
        assert_eq!(decode_path("a//b/../%2e/+%20%zz").unwrap(), "a//b/.././+ %zz");
        assert_eq!(decode_path("%ff").unwrap_err().code, ErrorCode::InvalidUri);
    }

    #[test]
    fn queries_decode_and_keep_empty_values() {
        // Plus is a space, %2B a plus; a bare name has an empty value; the first of two wins.
        let query = Query::parse("&uploads&prefix=a+b%2Bc&prefix=z&x-id=PutObject&a==").unwrap();
        assert_eq!(query.value("uploads"), Some(""));
        assert_eq!(query.value("prefix"), Some("a b+c"));
        assert_eq!(query.value("a"), Some("="));
        assert!(!query.contains("Uploads"));
        assert_eq!(query.names().count(), 5);
        assert_eq!(encode_listed("test_file(3)+ \u{e9}/x"), "test_file%283%29%2B%20%C3%A9/x");
    }

    proptest! {
        #[test]
        fn no_query_panics(raw in ".*") {
            // Any text is a query or is refused, and what is listed encoded decodes to itself.
            let _ = Query::parse(&raw);
            prop_assert_eq!(decode_path(&encode_listed(&raw)).unwrap(), raw);
        }
    }
}
