//! Entity tags: what a request compares, and the tag of a multipart object.
//!
//! A stored tag is the text between the quotes. S3 accepts tags without quotes, with quotes and with `W/`, and knows
//! no other bytes in them than printable ASCII.

use super::md5::Md5;
use core::fmt;

/// One entity tag of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag {
    /// The text between the quotes.
    pub opaque: String,
    /// Whether `W/` stood before it. A weak tag never equals another in the strong comparison of RFC 9110 §8.8.3.2.
    pub is_weak: bool,
}

impl ETag {
    /// Reads `"abc"`, `abc` or `W/"abc"`. `None` if it holds a quote or what is not printable ASCII, or is empty without quotes: `""` is a
    /// tag (RFC 9110 §8.8.3), though none that an object here has.
    pub fn parse(text: &str) -> Option<ETag> {
        let text = text.trim_ascii();
        let (is_weak, text) = text.strip_prefix("W/").map_or((false, text), |rest| (true, rest));
        let opaque = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"')?,
            None => Some(text).filter(|text| !text.is_empty())?,
        };
        let good = opaque.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'"');
        good.then(|| ETag { opaque: opaque.to_owned(), is_weak })
    }

    /// Whether this is `stored` (the text between the quotes) in the strong comparison, which `If-Match` wants.
    pub fn matches_strongly(&self, stored: &str) -> bool {
        !self.is_weak && self.opaque == stored
    }

    /// Whether this is `stored` in the weak comparison, which `If-None-Match` wants.
    pub fn matches_weakly(&self, stored: &str) -> bool {
        self.opaque == stored
    }
}

/// What `If-Match` or `If-None-Match` holds (RFC 9110 §13.1.1, §13.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ETagCondition {
    /// `*`: any current object.
    Any,
    /// Any of these tags.
    Tags(Vec<ETag>),
}

impl ETagCondition {
    /// Reads `*` or a list of tags divided by commas. `None` if an item is no tag, as a `*` among others is none, or there is none.
    pub fn parse(text: &str) -> Option<ETagCondition> {
        if text.trim_ascii() == "*" {
            return Some(ETagCondition::Any);
        }
        let items = text.split(',').map(str::trim_ascii).filter(|item| !item.is_empty());
        let tag = |item: &str| ETag::parse(item).filter(|_| item != "*");
        let tags: Option<Vec<ETag>> = items.map(tag).collect();
        tags.filter(|tags| !tags.is_empty()).map(ETagCondition::Tags)
    }

    /// Whether it holds of an object whose tag is `stored`, in the strong comparison.
    pub fn matches_strongly(&self, stored: &str) -> bool {
        match self {
            ETagCondition::Any => true,
            ETagCondition::Tags(tags) => tags.iter().any(|tag| tag.matches_strongly(stored)),
        }
    }

    /// Whether it holds of an object whose tag is `stored`, in the weak comparison.
    pub fn matches_weakly(&self, stored: &str) -> bool {
        match self {
            ETagCondition::Any => true,
            ETagCondition::Tags(tags) => tags.iter().any(|tag| tag.matches_weakly(stored)),
        }
    }
}

/// 16 bytes in lower-case hexadecimal: the tag of an object whose MD5 they are.
pub fn md5_etag(md5: &[u8; 16]) -> String {
    Hex(md5).to_string()
}

/// The MD5 behind a tag of 32 hexadecimal digits; `None` for tags of another form.
pub fn parse_md5_etag(tag: &str) -> Option<[u8; 16]> {
    let (pairs, []) = tag.as_bytes().as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; 16] = pairs.try_into().ok()?;
    let mut md5 = [0; 16];
    for (byte, [high, low]) in md5.iter_mut().zip(pairs) {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        *byte = u8::try_from(digit(high)? << 4 | digit(low)?).ok()?;
    }
    Some(md5)
}

/// The tag of a multipart object: the MD5 of its parts' MD5s, in order, and their number, as in
/// `9b2cf535f27731c974343645a3985328-2`.
///
/// "Amazon S3 concatenates the bytes for the MD5 digests together and then calculates the MD5 digest of these
/// concatenated values. During the final ETag creation step, Amazon S3 adds a dash with the total number of parts to the
/// end." (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>, "Full object and
/// composite checksum types".)
pub fn multipart_etag(parts: impl IntoIterator<Item = [u8; 16]>) -> String {
    let (mut md5, mut count) = (Md5::new(), 0u32);
    for part in parts {
        md5.update(&part);
        count = count.saturating_add(1);
    }
    format!("{}-{count}", Hex(&md5.finish()))
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_are_read_with_and_without_quotes() {
        // The three notations, and what is none.
        assert_eq!(ETag::parse("\"a-1\"").unwrap(), ETag::parse(" a-1 ").unwrap());
        assert!(ETag::parse("W/\"a\"").unwrap().is_weak);
        assert_eq!(ETag::parse("\"\"").unwrap().opaque, "");
        for bad in ["", "\"", "\"a", "a\"", "a b", "W/", "\u{e9}", "\"a\"b\""] {
            assert_eq!(ETag::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn weak_tags_fail_the_strong_comparison() {
        // RFC 9110 §8.8.3.2, table 3.
        let condition = ETagCondition::parse("\"x\", W/\"a\"").unwrap();
        assert!(!condition.matches_strongly("a"));
        assert!(condition.matches_weakly("a"));
        assert!(condition.matches_strongly("x"));
        assert!(ETagCondition::parse(" * ").unwrap().matches_strongly("anything"));
        for bad in [" , ", "\"x\", *", "*, *", "x\"y"] {
            assert_eq!(ETagCondition::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_multipart_tag_counts_its_parts() {
        // MD5 of 16 zero bytes and of none, computed with md5sum.
        assert_eq!(multipart_etag([[0; 16]]), "4ae71336e44bf9bf79d2752e234818a5-1");
        assert_eq!(multipart_etag([]), "d41d8cd98f00b204e9800998ecf8427e-0");
        assert_eq!(parse_md5_etag("4ae71336e44bf9bf79d2752e234818a5-1"), None);
    }

    proptest! {
        #[test]
        fn parse_inverts_format(md5 in any::<[u8; 16]>(), text in ".*") {
            // Every MD5 survives as a tag, and any text is a condition or is not.
            prop_assert_eq!(parse_md5_etag(&md5_etag(&md5)), Some(md5));
            let _ = (ETagCondition::parse(&text), parse_md5_etag(&text));
        }
    }
}
