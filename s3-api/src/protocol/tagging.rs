//! Tags of objects and buckets.
//!
//! "You can associate up to 10 tags with an object. Tags that are associated with an object must have unique tag keys. A tag key can
//! be up to 128 Unicode characters in length, and tag values can be up to 256 Unicode characters in length."
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>.) A bucket may have 50
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/CostAllocTagging.html>).

use super::error::{ErrorCode, S3Error};
use super::names::Query;
use super::xml::{XmlReader, XmlWriter};

/// The most tags of an object.
pub const OBJECT_TAGS_MAX: usize = 10;
/// The most tags of a bucket.
pub const BUCKET_TAGS_MAX: usize = 50;
/// The longest document, bytes.
pub const TAGGING_BYTES_MAX: usize = 128 << 10;

const KEY_CHARACTERS_MAX: usize = 128;
const VALUE_CHARACTERS_MAX: usize = 256;

/// Names and values, by name; no name twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSet {
    /// The tags.
    pub tags: Vec<(String, String)>,
}

impl TagSet {
    /// The value of tag `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Reads `x-amz-tagging`: "The tag-set must be encoded as URL Query parameters. (For example, "Key1=Value1")"
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>, x-amz-tagging.)
    ///
    /// # Errors
    ///
    /// 400 `InvalidTag`, `InvalidArgument` for what is no query.
    pub fn from_header(value: &[u8]) -> Result<TagSet, S3Error> {
        let refuse = || {
            let message = "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query \
                           parameters without tag name duplicates.";
            S3Error::invalid_argument("x-amz-tagging", String::from_utf8_lossy(value), message)
        };
        let query = core::str::from_utf8(value).ok().and_then(|text| Query::parse(text).ok());
        let query = query.ok_or_else(refuse)?;
        let tags = query.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        TagSet { tags }.checked(OBJECT_TAGS_MAX)
    }

    /// Reads a `Tagging` document of at most `tags_max` tags.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`, `InvalidTag`.
    pub fn parse(document: &[u8], tags_max: usize) -> Result<TagSet, S3Error> {
        let mut xml = XmlReader::new(document, 1024)?;
        xml.root("Tagging")?;
        let mut set = None;
        while let Some(name) = xml.child()? {
            match name {
                "TagSet" if set.is_none() => set = Some(tag_list(&mut xml)?),
                "TagSet" => return Err(ErrorCode::MalformedXml.into()),
                _ => xml.skip()?,
            }
        }
        xml.finish()?;
        let tags = set.ok_or(ErrorCode::MalformedXml)?;
        TagSet { tags }.checked(tags_max)
    }

    /// Checks number, lengths, and that no name comes twice. Names that begin with `aws:` are the service's own.
    pub(crate) fn checked(mut self, tags_max: usize) -> Result<TagSet, S3Error> {
        let invalid = |message: &'static str, key: &str| {
            Err(S3Error::with_message(ErrorCode::InvalidTag, message).field("TagKey", key))
        };
        if self.tags.len() > tags_max {
            let message = match tags_max {
                OBJECT_TAGS_MAX => "Object tags cannot be greater than 10",
                _ => "Bucket tag count cannot be greater than 50",
            };
            return Err(S3Error::with_message(ErrorCode::InvalidTag, message));
        }
        for (index, (key, value)) in self.tags.iter().enumerate() {
            if key.is_empty() || key.chars().count() > KEY_CHARACTERS_MAX {
                return invalid("The TagKey you have provided is invalid", key);
            }
            if value.chars().count() > VALUE_CHARACTERS_MAX {
                return invalid("The TagValue you have provided is invalid", key);
            }
            // No tag may hold what no document can tell.
            if key.chars().chain(value.chars()).any(char::is_control) {
                return invalid("The TagKey or the TagValue you have provided is invalid", key);
            }
            if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
                return invalid("System tags cannot be added/updated by requester", key);
            }
            if self.tags.iter().take(index).any(|(other, _)| other == key) {
                return invalid("Cannot provide multiple Tags with the same key", key);
            }
        }
        // A set has no order of its own: in this one it is always told.
        self.tags.sort();
        Ok(self)
    }

    /// The `Tagging` document.
    pub fn document(&self) -> Vec<u8> {
        let mut xml = XmlWriter::root("Tagging");
        xml.open("TagSet");
        for (key, value) in &self.tags {
            xml.open("Tag").text("Key", key).text("Value", value).close();
        }
        xml.finish()
    }
}

/// The `Tag`s of an element, which has been entered.
pub(crate) fn tag_list(xml: &mut XmlReader<'_>) -> Result<Vec<(String, String)>, S3Error> {
    let mut tags = Vec::new();
    while let Some(name) = xml.child()? {
        match name {
            "Tag" => tags.push(tag(xml)?),
            _ => xml.skip()?,
        }
    }
    Ok(tags)
}

/// One `Tag`, which has been entered.
pub(crate) fn tag(xml: &mut XmlReader<'_>) -> Result<(String, String), S3Error> {
    let (mut key, mut value) = (None, None);
    while let Some(name) = xml.child()? {
        match name {
            "Key" if key.is_none() => key = Some(xml.text()?),
            "Value" if value.is_none() => value = Some(xml.text()?),
            "Key" | "Value" => return Err(ErrorCode::MalformedXml.into()),
            _ => xml.skip()?,
        }
    }
    match (key, value) {
        (Some(key), Some(value)) => Ok((key, value)),
        _ => Err(ErrorCode::MalformedXml.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_from_headers_and_documents() {
        // Both forms name the same tags; a document is read back as it was written.
        let set = TagSet::from_header(b"a=1&b%20c=%2B+&d=").unwrap();
        let tags = [("a", "1"), ("b c", "+ "), ("d", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(set.tags, tags);
        assert_eq!(TagSet::parse(&set.document(), 10), Ok(set));
        assert!(TagSet::from_header(b"").unwrap().is_empty());
    }

    #[test]
    fn limits_hold() {
        // Too many, too long, twice, reserved, incomplete.
        let code = |header: &str| TagSet::from_header(header.as_bytes()).map_err(|error| error.code);
        let many: Vec<String> = (0..11).map(|index| format!("k{index}=v")).collect();
        assert!(code(&many[..10].join("&")).is_ok());
        assert_eq!(code(&many.join("&")), Err(ErrorCode::InvalidTag));
        assert!(code(&format!("{}={}", "ä".repeat(128), "v".repeat(256))).is_ok());
        for bad in [
            "k".repeat(129),
            format!("k={}", "v".repeat(257)),
            "a=1&a=2".into(),
            "AWS:a=1".into(),
            "=v".into(),
        ] {
            assert_eq!(code(&bad), Err(ErrorCode::InvalidTag), "{bad}");
        }
        let parse = |inner: &str| {
            TagSet::parse(format!("<Tagging>{inner}</Tagging>").as_bytes(), 10).map_err(|e| e.code)
        };
        assert_eq!(parse(""), Err(ErrorCode::MalformedXml));
        assert_eq!(parse("<TagSet><Tag><Key>a</Key></Tag></TagSet>"), Err(ErrorCode::MalformedXml));
        assert!(parse("<TagSet/>").unwrap().is_empty());
    }
}
