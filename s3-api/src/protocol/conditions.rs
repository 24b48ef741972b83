//! Conditional requests: pure rules over an object's validators.
//!
//! Reads: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-reads.html>. Writes and deletes:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html>.
//!
//! Invariant: a condition that can not be understood is refused, never ignored, where ignoring it would change data
//! (writes, deletes, copies). A date that can not be read in a GET is ignored, as RFC 9110 §13.1.3 obliges.

use super::error::{ErrorCode, S3Error};
use super::etag::{ETag, ETagCondition};
use super::http::Headers;
use super::time::parse_http_date;
use std::borrow::Cow;

/// What conditions are evaluated against: the current object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validators<'a> {
    /// The entity tag without quotes.
    pub etag: &'a str,
    /// When the object was last modified, in milliseconds since 1970. Dates in headers have whole seconds, so it is
    /// compared as a client sees it: cut to the second.
    pub modified_ms: u64,
}

/// The conditions of a GET or HEAD, or of the source of a copy. The default holds always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions {
    /// Only if the object's tag is one of these.
    pub if_match: Option<ETagCondition>,
    /// Only if the object's tag is none of these.
    pub if_none_match: Option<ETagCondition>,
    /// Only if modified after this second since 1970.
    pub if_modified_since: Option<u64>,
    /// Only if not modified after this second since 1970.
    pub if_unmodified_since: Option<u64>,
}

/// What the conditions of a read say of the current object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    /// They hold.
    Proceed,
    /// The client has the current object: 304 without a body.
    NotModified,
    /// The condition in this header failed: 412 `PreconditionFailed`.
    Failed(&'static str),
}

/// All lines of a field as the one that they stand for: "appending each subsequent field line value to the initial field line value in
/// order, separated by a comma". (RFC 9110 §5.3.) Of dates that is none.
fn field<'a>(headers: &'a Headers, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.all(name);
    let first = Cow::Borrowed(lines.next()?);
    Some(lines.fold(first, |all, line| Cow::Owned([&*all, b", ", line].concat())))
}

fn etags(headers: &Headers, name: &'static str) -> Result<Option<ETagCondition>, S3Error> {
    let Some(value) = field(headers, name) else { return Ok(None) };
    match core::str::from_utf8(&value).ok().and_then(ETagCondition::parse) {
        Some(condition) => Ok(Some(condition)),
        None => Err(S3Error::invalid_argument(
            name,
            String::from_utf8_lossy(&value),
            "The value is no list of ETags.",
        )),
    }
}

fn date(headers: &Headers, name: &'static str) -> Option<u64> {
    field(headers, name).and_then(|value| parse_http_date(&value))
}

impl ReadConditions {
    /// Reads `If-Match`, `If-None-Match`, `If-Modified-Since` and `If-Unmodified-Since`.
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument` if a tag list can not be read.
    pub fn from_headers(headers: &Headers) -> Result<Self, S3Error> {
        Ok(ReadConditions {
            if_match: etags(headers, "if-match")?,
            if_none_match: etags(headers, "if-none-match")?,
            if_modified_since: date(headers, "if-modified-since"),
            if_unmodified_since: date(headers, "if-unmodified-since"),
        })
    }

    /// Reads the same four as `x-amz-copy-source-if-*`, for [`ReadConditions::evaluate_copy`].
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument` if a tag list or a date can not be read.
    pub fn from_copy_headers(headers: &Headers) -> Result<Self, S3Error> {
        let date = |name: &'static str| match field(headers, name) {
            None => Ok(None),
            Some(value) => parse_http_date(&value).map(Some).ok_or_else(|| {
                S3Error::invalid_argument(name, String::from_utf8_lossy(&value), "The value is no HTTP date.")
            }),
        };
        Ok(ReadConditions {
            if_match: etags(headers, "x-amz-copy-source-if-match")?,
            if_none_match: etags(headers, "x-amz-copy-source-if-none-match")?,
            if_modified_since: date("x-amz-copy-source-if-modified-since")?,
            if_unmodified_since: date("x-amz-copy-source-if-unmodified-since")?,
        })
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        *self == ReadConditions::default()
    }

    /// What they say of `current`.
    ///
    /// "If both of the If-Match and If-Unmodified-Since headers are present in the request as follows: If-Match
    /// condition evaluates to true, and; If-Unmodified-Since condition evaluates to false; then, S3 returns 200 OK and
    /// the data requested." "If both of the If-None-Match and If-Modified-Since headers are present in the request as
    /// follows: If-None-Match condition evaluates to false, and; If-Modified-Since condition evaluates to true; then, S3
    /// returns 304 Not Modified HTTP status code."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>, If-Match and If-None-Match.)
    /// So a tag silences its date, the order of RFC 9110 §13.2.2.
    pub fn evaluate(&self, current: Validators<'_>) -> ReadVerdict {
        let modified = current.modified_ms / 1_000;
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tags), _) if !tags.matches_strongly(current.etag) => {
                return ReadVerdict::Failed("If-Match");
            }
            (None, Some(date)) if modified > date => return ReadVerdict::Failed("If-Unmodified-Since"),
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) if tags.matches_weakly(current.etag) => ReadVerdict::NotModified,
            (None, Some(date)) if modified <= date => ReadVerdict::NotModified,
            _ => ReadVerdict::Proceed,
        }
    }

    /// What they say of `source`, the current source of a copy. The same order, but nothing is "not modified": every
    /// condition that fails is "412 Precondition Failed".
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>, x-amz-copy-source-if-match and following.)
    ///
    /// # Errors
    ///
    /// 412 `PreconditionFailed`.
    pub fn evaluate_copy(&self, source: Validators<'_>) -> Result<(), S3Error> {
        let condition = match self.evaluate(source) {
            ReadVerdict::Proceed => return Ok(()),
            ReadVerdict::Failed("If-Match") => "x-amz-copy-source-If-Match",
            ReadVerdict::Failed(_) => "x-amz-copy-source-If-Unmodified-Since",
            ReadVerdict::NotModified if self.if_none_match.is_some() => "x-amz-copy-source-If-None-Match",
            ReadVerdict::NotModified => "x-amz-copy-source-If-Modified-Since",
        };
        Err(S3Error::precondition_failed(condition))
    }
}

/// `If-Range`: what a range is good for.
///
/// "Informally, its meaning is as follows: if the representation is unchanged, send me the part(s) that I am requesting in Range; otherwise,
/// send me the entire representation." (RFC 9110 §13.1.5.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeCondition {
    /// The object with this tag.
    Tag(ETag),
    /// The object that was last modified in this second since 1970.
    Date(u64),
    /// None: it is neither.
    Nothing,
}

impl RangeCondition {
    /// Reads `If-Range`. What can not be read matches nothing, so that no bytes are joined that do not belong together.
    pub fn from_headers(headers: &Headers) -> Option<Self> {
        let value = field(headers, "if-range")?;
        if let Some(date) = parse_http_date(&value) {
            return Some(RangeCondition::Date(date));
        }
        let tag = core::str::from_utf8(&value).ok().and_then(ETag::parse);
        Some(tag.map_or(RangeCondition::Nothing, RangeCondition::Tag))
    }

    /// Whether the range is one of `current`: "using the strong comparison" of tags, or if "the HTTP-date validator provided exactly
    /// matches the Last-Modified field value". That the date is a strong validator is for the client to know, from the Date of the reply
    /// it had it from (RFC 9110 §8.8.2.2).
    pub fn holds(&self, current: Validators<'_>) -> bool {
        match self {
            RangeCondition::Tag(tag) => tag.matches_strongly(current.etag),
            RangeCondition::Date(date) => *date == current.modified_ms / 1_000,
            RangeCondition::Nothing => false,
        }
    }
}

/// The conditions of PutObject, CompleteMultipartUpload, CopyObject (on its target) and DeleteObject. The default
/// holds always. A delete marker counts as no object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteConditions {
    /// Only if there is an object and its tag is one of these.
    pub if_match: Option<ETagCondition>,
    /// Only if there is no object whose tag is one of these; of `*`: if there is no object.
    pub if_none_match: Option<ETagCondition>,
}

impl WriteConditions {
    /// Reads `If-Match` and `If-None-Match` of a write.
    ///
    /// Of `If-None-Match` S3 "expects the '*' (asterisk) character"
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>, If-None-Match). A list of tags is taken as well, and says what it
    /// says of every request: "If the field value is a list of entity tags, the condition is false if one of the listed tags matches the
    /// entity tag of the selected representation." (RFC 9110 §13.1.2.) Policies that ask for the header ask for objects that are
    /// written once, and are told of `*` alone.
    ///
    /// # Errors
    ///
    /// 400 `InvalidArgument` if a value can not be read, 501 `NotImplemented` for both at once, and for dates, which S3 does not evaluate in
    /// writes.
    pub fn from_headers(headers: &Headers) -> Result<Self, S3Error> {
        for name in ["if-modified-since", "if-unmodified-since"] {
            if headers.contains(name) {
                return Err(S3Error::header_not_implemented(name));
            }
        }
        let if_match = etags(headers, "if-match")?;
        let if_none_match = etags(headers, "if-none-match")?;
        if if_match.is_some() && if_none_match.is_some() {
            return Err(S3Error::header_not_implemented("If-Match and If-None-Match"));
        }
        Ok(WriteConditions { if_match, if_none_match })
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.header().is_none()
    }

    /// The header that the condition came in: there is one at most.
    pub fn header(&self) -> Option<&'static str> {
        let if_match = self.if_match.as_ref().map(|_| "If-Match");
        if_match.or(self.if_none_match.as_ref().map(|_| "If-None-Match"))
    }

    /// What they say when `current` is the tag (without quotes) of the current object, `None` if there is none.
    ///
    /// "If the ETag values do not match, the operation returns a 412 Precondition Failed error."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>, If-Match.) Where there is nothing to
    /// match it is 404: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>.
    ///
    /// # Errors
    ///
    /// 412 `PreconditionFailed`; 404 `NoSuchKey` for `If-Match` without an object.
    pub fn evaluate(&self, current: Option<&str>) -> Result<(), S3Error> {
        match (&self.if_match, current) {
            (Some(_), None) => return Err(ErrorCode::NoSuchKey.into()),
            (Some(tags), Some(etag)) if !tags.matches_strongly(etag) => {
                return Err(S3Error::precondition_failed("If-Match"));
            }
            _ => {}
        }
        match (&self.if_none_match, current) {
            (Some(tags), Some(etag)) if tags.matches_weakly(etag) => {
                Err(S3Error::precondition_failed("If-None-Match"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in fields {
            headers.push(name, value.as_bytes());
        }
        headers
    }

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const CURRENT: Validators<'static> = Validators { etag: "a", modified_ms: 784_111_777_900 };

    #[test]
    fn a_tag_silences_its_date() {
        // Each condition alone, and every pair S3 documents.
        let verdict = |fields: &[(&str, &str)]| {
            ReadConditions::from_headers(&headers(fields)).unwrap().evaluate(CURRENT)
        };
        use ReadVerdict::*;
        assert_eq!(verdict(&[]), Proceed);
        assert_eq!(verdict(&[("If-Match", "\"a\"")]), Proceed);
        assert_eq!(verdict(&[("If-Match", "b")]), Failed("If-Match"));
        assert_eq!(verdict(&[("If-None-Match", "\"b\", \"a\"")]), NotModified);
        assert_eq!(verdict(&[("If-None-Match", "b")]), Proceed);
        assert_eq!(verdict(&[("If-Unmodified-Since", BEFORE)]), Failed("If-Unmodified-Since"));
        assert_eq!(verdict(&[("If-Unmodified-Since", SAME)]), Proceed);
        assert_eq!(verdict(&[("If-Modified-Since", SAME)]), NotModified);
        assert_eq!(verdict(&[("If-Modified-Since", BEFORE)]), Proceed);
        assert_eq!(verdict(&[("If-Modified-Since", "yesterday")]), Proceed);
        assert_eq!(verdict(&[("If-Match", "a"), ("If-Unmodified-Since", BEFORE)]), Proceed);
        assert_eq!(verdict(&[("If-None-Match", "a"), ("If-Modified-Since", BEFORE)]), NotModified);
        assert_eq!(verdict(&[("If-None-Match", "b"), ("If-Modified-Since", SAME)]), Proceed);
        assert_eq!(verdict(&[("If-Match", "b"), ("If-None-Match", "a")]), Failed("If-Match"));
    }

    #[test]
    fn a_range_is_of_what_matches_strongly() {
        // The same tag, the very second; nothing weaker.
        let holds = |value: &str| {
            RangeCondition::from_headers(&headers(&[("If-Range", value)])).unwrap().holds(CURRENT)
        };
        assert!(holds("\"a\"") && holds(SAME));
        for value in [
            "\"b\"",
            "W/\"a\"",
            BEFORE,
            "Sun, 06 Nov 1994 08:49:38 GMT",
            "yesterday",
            "*",
            "\"a\", \"b\"",
            "",
        ] {
            assert!(!holds(value), "{value}");
        }
        assert_eq!(RangeCondition::from_headers(&headers(&[])), None);
    }

    #[test]
    fn a_copy_is_never_not_modified() {
        // The same conditions on a source fail with 412 and name their header.
        let failed = |name: &str, value: &str| {
            let conditions = ReadConditions::from_copy_headers(&headers(&[(name, value)])).unwrap();
            conditions.evaluate_copy(CURRENT).unwrap_err().fields[0].1.clone()
        };
        assert_eq!(failed("x-amz-copy-source-if-none-match", "a"), "x-amz-copy-source-If-None-Match");
        assert_eq!(failed("x-amz-copy-source-if-match", "b"), "x-amz-copy-source-If-Match");
        assert_eq!(
            failed("x-amz-copy-source-if-modified-since", SAME),
            "x-amz-copy-source-If-Modified-Since"
        );
        assert_eq!(
            failed("x-amz-copy-source-if-unmodified-since", BEFORE),
            "x-amz-copy-source-If-Unmodified-Since"
        );
        let bad = headers(&[("x-amz-copy-source-if-modified-since", "yesterday")]);
        assert_eq!(ReadConditions::from_copy_headers(&bad).unwrap_err().code, ErrorCode::InvalidArgument);
    }

    #[test]
    fn writes_create_or_replace_only_what_they_name() {
        // Create-only, compare-and-swap, and swap of nothing.
        let code = |fields: &[(&str, &str)], current: Option<&str>| {
            let conditions = WriteConditions::from_headers(&headers(fields))?;
            conditions.evaluate(current)
        };
        let of = |result: Result<(), S3Error>| result.unwrap_err().code;
        assert!(code(&[("If-None-Match", "*")], None).is_ok());
        assert_eq!(of(code(&[("If-None-Match", "*")], Some("a"))), ErrorCode::PreconditionFailed);
        for (tags, fails) in [
            ("b", false),
            ("\"b\", \"c\"", false),
            ("\"*\"", false),
            ("\"\"", false),
            ("a", true),
            ("\"b\", \"a\"", true),
            ("W/\"a\"", true),
        ] {
            let judged = code(&[("If-None-Match", tags)], Some("a"));
            assert_eq!(
                judged.err().map(|error| error.code),
                fails.then_some(ErrorCode::PreconditionFailed),
                "{tags}"
            );
            assert!(code(&[("If-None-Match", tags)], None).is_ok(), "{tags}");
        }
        for bad in ["", ",", "*, *", "a, *", "a b"] {
            assert_eq!(of(code(&[("If-None-Match", bad)], None)), ErrorCode::InvalidArgument, "{bad}");
        }
        assert!(code(&[("If-Match", "\"a\"")], Some("a")).is_ok());
        assert_eq!(of(code(&[("If-Match", "W/\"a\"")], Some("a"))), ErrorCode::PreconditionFailed);
        assert_eq!(of(code(&[("If-Match", "a")], None)), ErrorCode::NoSuchKey);
        assert_eq!(of(code(&[("If-Match", "*")], None)), ErrorCode::NoSuchKey);
        for tags in ["*", "b"] {
            let both = [("If-Match", "a"), ("If-None-Match", tags)];
            assert_eq!(of(code(&both, Some("a"))), ErrorCode::NotImplemented);
        }
        assert_eq!(of(code(&[("If-Unmodified-Since", SAME)], None)), ErrorCode::NotImplemented);
        assert_eq!(of(code(&[("If-Match", "a b")], None)), ErrorCode::InvalidArgument);
    }
}
