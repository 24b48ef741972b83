//! The documents that requests bring: their shape and their limits, read into plain values.
//!
//! What these functions refuse is refused whatever the store holds; what depends on the store (does the part exist, does
//! its tag match) is not their business.

use super::XmlReader;
use crate::protocol::checksum::{Algorithm, Checksum};
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::etag::{ETag, ETagCondition};
use crate::protocol::tagging::{BUCKET_TAGS_MAX, TagSet, tag_list};

/// The most parts of an object, and the highest number of a part.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.)
pub const PARTS_MAX: u16 = 10_000;

/// The most keys of one DeleteObjects: "The request can contain a list of up to 1,000 keys".
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>.)
pub const DELETE_KEYS_MAX: usize = 1_000;

/// One part as CompleteMultipartUpload names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedPart {
    /// Its number, 1 to 10,000.
    pub number: u16,
    /// The tag UploadPart answered, without quotes.
    pub etag: String,
    /// The checksum the client believes the part has.
    pub checksum: Option<Checksum>,
}

/// The document of CompleteMultipartUpload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedMultipartUpload {
    /// The parts, at least one, with numbers that rise.
    pub parts: Vec<CompletedPart>,
}

/// One object that DeleteObjects names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectIdentifier {
    /// Its key, not empty. Its length is not checked: a key too long is an error of its own line of the reply.
    pub key: String,
    /// The version to delete; `None` for the current one.
    pub version_id: Option<String>,
    /// Delete only if the object has this tag, or exists (`*`).
    pub if_match: Option<ETagCondition>,
}

/// The document of DeleteObjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// What to delete, 1 to [`DELETE_KEYS_MAX`], in the order given.
    pub objects: Vec<ObjectIdentifier>,
    /// Whether to answer errors only.
    pub quiet: bool,
}

/// The document of CreateBucket, which may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateBucketConfiguration {
    /// The region asked for.
    pub location_constraint: Option<String>,
    /// Tags of the bucket.
    pub tags: TagSet,
}

/// Whether a bucket keeps versions, once it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersioningStatus {
    /// It does.
    Enabled,
    /// Not any more.
    Suspended,
}

impl VersioningStatus {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            VersioningStatus::Enabled => "Enabled",
            VersioningStatus::Suspended => "Suspended",
        }
    }
}

/// The document of PutBucketVersioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersioningConfiguration {
    /// What the bucket is to do.
    pub status: VersioningStatus,
}

fn malformed() -> S3Error {
    ErrorCode::MalformedXml.into()
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), S3Error> {
    if slot.replace(value).is_some() { Err(malformed()) } else { Ok(()) }
}

impl CompletedMultipartUpload {
    /// The longest document: 10,000 parts of four lines with a SHA-256 each, and room to indent.
    pub const BYTES_MAX: usize = 4 << 20;

    /// Reads the document. Tags may stand in quotes or not.
    ///
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>, Request Syntax.)
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`; `InvalidArgument` for a number out of range; `InvalidPartOrder` ("The parts list must be
    /// specified in order by part number"); `InvalidRequest` for a checksum that is none.
    pub fn parse(document: &[u8]) -> Result<Self, S3Error> {
        if document.len() > Self::BYTES_MAX {
            return Err(ErrorCode::MaxMessageLengthExceeded.into());
        }
        let mut xml = XmlReader::new(document, u32::from(PARTS_MAX) * 16)?;
        xml.root("CompleteMultipartUpload")?;
        let mut parts: Vec<CompletedPart> = Vec::new();
        while let Some(name) = xml.child()? {
            if name != "Part" {
                xml.skip()?;
                continue;
            }
            let part = completed_part(&mut xml)?;
            if parts.len() >= usize::from(PARTS_MAX) {
                return Err(malformed());
            }
            if parts.last().is_some_and(|last| last.number >= part.number) {
                return Err(ErrorCode::InvalidPartOrder.into());
            }
            parts.push(part);
        }
        xml.finish()?;
        if parts.is_empty() { Err(malformed()) } else { Ok(CompletedMultipartUpload { parts }) }
    }
}

fn completed_part(xml: &mut XmlReader<'_>) -> Result<CompletedPart, S3Error> {
    let (mut number, mut etag, mut checksum) = (None, None, None);
    while let Some(name) = xml.child()? {
        match name {
            "PartNumber" => once(&mut number, part_number(xml.text()?.trim_ascii())?)?,
            "ETag" => {
                let tag = ETag::parse(xml.text()?.trim_ascii()).filter(|tag| !tag.opaque.is_empty());
                let tag = tag.ok_or(ErrorCode::InvalidPart)?;
                once(&mut etag, tag.opaque)?;
            }
            _ => match Algorithm::ALL.into_iter().find(|algorithm| algorithm.element() == name) {
                Some(algorithm) => {
                    let value = Checksum::parse(algorithm, xml.text()?.trim_ascii().as_bytes());
                    let value = value.ok_or_else(|| {
                        S3Error::with_message(
                            ErrorCode::InvalidRequest,
                            "The checksum of a part is not valid.",
                        )
                    })?;
                    if checksum.replace(value).is_some() {
                        return Err(S3Error::with_message(
                            ErrorCode::InvalidRequest,
                            "A part has more than one checksum.",
                        ));
                    }
                }
                None => xml.skip()?,
            },
        }
    }
    let (Some(number), Some(etag)) = (number, etag) else { return Err(malformed()) };
    Ok(CompletedPart { number, etag, checksum })
}

fn part_number(text: &str) -> Result<u16, S3Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    match text.parse() {
        Ok(number @ 1..=PARTS_MAX) => Ok(number),
        _ => Err(S3Error::invalid_argument(
            "partNumber",
            text,
            "Part number must be an integer between 1 and 10000, inclusive",
        )),
    }
}

impl Delete {
    /// The longest document: a thousand keys of 1,024 bytes, half of them escaped, and room to indent.
    pub const BYTES_MAX: usize = 4 << 20;

    /// Reads the document.
    ///
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>, Request Syntax.) `ETag` is the
    /// condition of one key; "`Size`, `LastModifiedTime`: This functionality is only supported for directory buckets"
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ObjectIdentifier.html>), so a document with one of them is
    /// refused: to ignore a condition would delete what was not to be deleted.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`, also for no key or more than 1,000; `InvalidArgument` for a tag that is none; 501
    /// `NotImplemented` for the conditions named above.
    pub fn parse(document: &[u8]) -> Result<Self, S3Error> {
        if document.len() > Self::BYTES_MAX {
            return Err(ErrorCode::MaxMessageLengthExceeded.into());
        }
        let mut xml = XmlReader::new(document, 16 * DELETE_KEYS_MAX as u32)?;
        xml.root("Delete")?;
        let (mut objects, mut quiet) = (Vec::new(), None);
        while let Some(name) = xml.child()? {
            match name {
                "Quiet" => {
                    let text = xml.text()?;
                    let value = match text.trim_ascii() {
                        word if word.eq_ignore_ascii_case("true") || word == "1" => true,
                        word if word.eq_ignore_ascii_case("false") || matches!(word, "0" | "") => false,
                        _ => return Err(malformed()),
                    };
                    once(&mut quiet, value)?;
                }
                "Object" if objects.len() >= DELETE_KEYS_MAX => return Err(malformed()),
                "Object" => objects.push(object_identifier(&mut xml)?),
                _ => xml.skip()?,
            }
        }
        xml.finish()?;
        if objects.is_empty() { Err(malformed()) } else { Ok(Delete { objects, quiet: quiet == Some(true) }) }
    }
}

fn object_identifier(xml: &mut XmlReader<'_>) -> Result<ObjectIdentifier, S3Error> {
    let (mut key, mut version_id, mut if_match) = (None, None, None);
    while let Some(name) = xml.child()? {
        match name {
            // White space belongs to the key.
            "Key" => once(&mut key, xml.key()?)?,
            "VersionId" => once(&mut version_id, xml.text()?)?,
            "ETag" => {
                let text = xml.text()?;
                let condition = ETagCondition::parse(text.trim_ascii());
                let condition = condition
                    .ok_or_else(|| S3Error::invalid_argument("ETag", text, "The value is no ETag."))?;
                once(&mut if_match, condition)?;
            }
            "Size" | "LastModifiedTime" => {
                return Err(S3Error::with_message(
                    ErrorCode::NotImplemented,
                    "Conditions on size and modification time are for directory buckets only.",
                ));
            }
            _ => xml.skip()?,
        }
    }
    let key = key.filter(|key| !key.is_empty()).ok_or_else(malformed)?;
    Ok(ObjectIdentifier { key, version_id: version_id.filter(|id| !id.is_empty()), if_match })
}

impl VersioningConfiguration {
    /// The longest document.
    pub const BYTES_MAX: usize = 64 << 10;

    /// Reads the document.
    ///
    /// "You can set the versioning state with one of the following values: Enabled … Suspended".
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html>.)
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`; `IllegalVersioningConfigurationException` without a state ("Indicates that the versioning
    /// configuration specified in the request is invalid", *List of error codes*,
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>); 501 `NotImplemented` for MFA delete.
    pub fn parse(document: &[u8]) -> Result<Self, S3Error> {
        if document.len() > Self::BYTES_MAX {
            return Err(ErrorCode::MaxMessageLengthExceeded.into());
        }
        let mut xml = XmlReader::new(document, 64)?;
        xml.root("VersioningConfiguration")?;
        let (mut status, mut mfa_delete) = (None, None);
        while let Some(name) = xml.child()? {
            match name {
                "Status" => once(
                    &mut status,
                    match xml.text()?.trim_ascii() {
                        "Enabled" => VersioningStatus::Enabled,
                        "Suspended" => VersioningStatus::Suspended,
                        _ => return Err(malformed()),
                    },
                )?,
                "MfaDelete" => once(&mut mfa_delete, xml.text()?.trim_ascii().to_owned())?,
                _ => xml.skip()?,
            }
        }
        xml.finish()?;
        match mfa_delete.as_deref() {
            None | Some("Disabled") => {}
            Some("Enabled") => {
                return Err(S3Error::with_message(
                    ErrorCode::NotImplemented,
                    "Deleting with multi-factor authentication is not implemented.",
                ));
            }
            Some(_) => return Err(malformed()),
        }
        status.map(|status| VersioningConfiguration { status }).ok_or_else(|| {
            let message = "The Versioning element must be specified";
            S3Error::with_message(ErrorCode::IllegalVersioningConfiguration, message)
        })
    }
}

impl CreateBucketConfiguration {
    /// The longest document.
    pub const BYTES_MAX: usize = 64 << 10;

    /// Reads the document, which may be empty. Whether the store serves the region is not checked.
    ///
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html>, Request Syntax.) `Location` and
    /// `Bucket` ask for a directory bucket.
    ///
    /// # Errors
    ///
    /// 400 `MalformedXML`, `InvalidLocationConstraint` if the region's name is none; 501 `NotImplemented`.
    pub fn parse(document: &[u8]) -> Result<Self, S3Error> {
        if document.len() > Self::BYTES_MAX {
            return Err(ErrorCode::MaxMessageLengthExceeded.into());
        }
        if document.trim_ascii().is_empty() {
            return Ok(CreateBucketConfiguration::default());
        }
        let mut xml = XmlReader::new(document, 256)?;
        xml.root("CreateBucketConfiguration")?;
        let (mut location, mut tags) = (None, None);
        while let Some(name) = xml.child()? {
            match name {
                "Tags" => once(&mut tags, tag_list(&mut xml)?)?,
                "LocationConstraint" => once(&mut location, xml.text()?.trim_ascii().to_owned())?,
                "Location" | "Bucket" => {
                    return Err(S3Error::with_message(
                        ErrorCode::NotImplemented,
                        "Directory buckets are not implemented.",
                    ));
                }
                _ => xml.skip()?,
            }
        }
        xml.finish()?;
        let location_constraint = location.filter(|name| !name.is_empty());
        let is_name = |name: &String| {
            name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        if location_constraint.as_ref().is_some_and(|name| !is_name(name)) {
            return Err(ErrorCode::InvalidLocationConstraint.into());
        }
        let tags = TagSet { tags: tags.unwrap_or_default() }.checked(BUCKET_TAGS_MAX)?;
        Ok(CreateBucketConfiguration { location_constraint, tags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn complete(inside: &str) -> Result<Vec<CompletedPart>, ErrorCode> {
        let document = format!("<CompleteMultipartUpload>{inside}</CompleteMultipartUpload>");
        CompletedMultipartUpload::parse(document.as_bytes()).map(|c| c.parts).map_err(|e| e.code)
    }

    #[test]
    fn parts_are_read_in_all_spellings() {
        // Any order of children, quotes or none or escaped, white space, unknown elements, a checksum.
        let parts = complete(
            "\n <Part><ETag>&#34;a-1&quot;</ETag><PartNumber> 1 </PartNumber></Part>
             <Part><PartNumber>7</PartNumber><ETag>b</ETag><Other><X/></Other><Size>5</Size></Part><Y/>
             <Part><PartNumber>10000</PartNumber><ETag>\"c\"</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>",
        );
        let part = |number, etag: &str, checksum| CompletedPart { number, etag: etag.to_owned(), checksum };
        let crc = Checksum::from_crc(Algorithm::Crc32, 0);
        assert_eq!(parts, Ok(vec![part(1, "a-1", None), part(7, "b", None), part(10_000, "c", crc)]));
    }

    #[test]
    fn each_fault_of_a_part_list_has_its_code() {
        // Missing and doubled elements, numbers out of range or order, checksums that are none.
        let part = |number: &str| format!("<Part><PartNumber>{number}</PartNumber><ETag>e</ETag></Part>");
        let table = [
            (String::new(), ErrorCode::MalformedXml),
            ("<Part/>".into(), ErrorCode::MalformedXml),
            ("<Part><PartNumber>1</PartNumber></Part>".into(), ErrorCode::MalformedXml),
            ("<Part><ETag>e</ETag></Part>".into(), ErrorCode::MalformedXml),
            (part("1").replace("<ETag>", "<ETag>e</ETag><ETag>"), ErrorCode::MalformedXml),
            (part("x"), ErrorCode::MalformedXml),
            (part("-1"), ErrorCode::MalformedXml),
            (part("0"), ErrorCode::InvalidArgument),
            (part("10001"), ErrorCode::InvalidArgument),
            (part("99999999999999999999"), ErrorCode::InvalidArgument),
            (part("2") + &part("1"), ErrorCode::InvalidPartOrder),
            (part("2") + &part("2"), ErrorCode::InvalidPartOrder),
            (part("1").replace(">e<", "><"), ErrorCode::InvalidPart),
            (
                part("1").replace("</Part>", "<ChecksumSHA1>?</ChecksumSHA1></Part>"),
                ErrorCode::InvalidRequest,
            ),
        ];
        for (inside, code) in table {
            assert_eq!(complete(&inside), Err(code), "{inside}");
        }
        let all: String = (1..=10_000).map(|number| part(&number.to_string())).collect();
        assert_eq!(complete(&all).map(|parts| parts.len()), Ok(10_000));
    }

    #[test]
    fn deletes_are_read_with_keys_as_they_are() {
        // Keys keep white space and references, versions and conditions belong to their key, quiet is optional.
        let delete = Delete::parse(
            b"<?xml version=\"1.0\"?><Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>
              <Object><Key> a&amp;&#10;b/</Key></Object>
              <Object><VersionId>null</VersionId><Key>k</Key><ETag>\"e\"</ETag></Object></Delete>",
        )
        .unwrap();
        assert!(delete.quiet);
        let keys: Vec<&str> = delete.objects.iter().map(|object| object.key.as_str()).collect();
        assert_eq!(keys, [" a&\nb/", "k"]);
        assert_eq!(delete.objects[1].version_id.as_deref(), Some("null"));
        assert!(delete.objects[1].if_match.as_ref().unwrap().matches_strongly("e"));
        assert!(delete.objects[0].if_match.is_none() && delete.objects[0].version_id.is_none());
    }

    #[test]
    fn each_fault_of_a_delete_has_its_code() {
        // One to a thousand keys, none empty; conditions not understood are refused.
        let parse = |inside: &str| {
            Delete::parse(format!("<Delete>{inside}</Delete>").as_bytes())
                .map(|delete| delete.objects.len())
                .map_err(|error| error.code)
        };
        let key = "<Object><Key>k</Key></Object>";
        assert_eq!(parse(""), Err(ErrorCode::MalformedXml));
        assert_eq!(parse("<Object/>"), Err(ErrorCode::MalformedXml));
        assert_eq!(parse("<Object><Key></Key></Object>"), Err(ErrorCode::MalformedXml));
        assert_eq!(parse(&format!("<Quiet>maybe</Quiet>{key}")), Err(ErrorCode::MalformedXml));
        assert_eq!(parse(&key.repeat(1_000)), Ok(1_000));
        assert_eq!(parse(&key.repeat(1_001)), Err(ErrorCode::MalformedXml));
        assert_eq!(
            parse(&key.replace("</Object>", "<Size>1</Size></Object>")),
            Err(ErrorCode::NotImplemented)
        );
        assert_eq!(
            parse(&key.replace("</Object>", "<ETag>\"</ETag></Object>")),
            Err(ErrorCode::InvalidArgument)
        );
        let long = vec![b' '; Delete::BYTES_MAX + 1];
        assert_eq!(Delete::parse(&long).unwrap_err().code, ErrorCode::MaxMessageLengthExceeded);
    }

    #[test]
    fn a_bucket_may_name_its_region() {
        // No body, an empty element and a region are fine; directory buckets and nonsense are not.
        let parse = |document: &str| {
            CreateBucketConfiguration::parse(document.as_bytes())
                .map(|configuration| configuration.location_constraint)
                .map_err(|error| error.code)
        };
        let around =
            |inside: &str| format!("<CreateBucketConfiguration>{inside}</CreateBucketConfiguration>");
        assert_eq!(parse(" "), Ok(None));
        assert_eq!(parse(&around("<LocationConstraint/>")), Ok(None));
        assert_eq!(parse(&around("<LocationConstraint>EU</LocationConstraint>")), Ok(Some("EU".to_owned())));
        assert_eq!(
            parse(&around("<LocationConstraint>a b</LocationConstraint>")),
            Err(ErrorCode::InvalidLocationConstraint)
        );
        assert_eq!(parse(&around("<Bucket><Type>Directory</Type></Bucket>")), Err(ErrorCode::NotImplemented));
        assert_eq!(parse("<Tagging/>"), Err(ErrorCode::MalformedXml));
    }

    #[test]
    fn each_fault_of_a_versioning_document_has_its_code() {
        // One of two states; MFA delete only as it is anyway.
        let parse = |inside: &str| {
            let document = format!("<VersioningConfiguration>{inside}</VersioningConfiguration>");
            VersioningConfiguration::parse(document.as_bytes()).map(|c| c.status).map_err(|error| error.code)
        };
        assert_eq!(parse("<Status>Enabled</Status>"), Ok(VersioningStatus::Enabled));
        assert_eq!(
            parse("<MfaDelete>Disabled</MfaDelete><Status> Suspended\n</Status><Other/>"),
            Ok(VersioningStatus::Suspended)
        );
        assert_eq!(parse(""), Err(ErrorCode::IllegalVersioningConfiguration));
        assert_eq!(parse("<Status>enabled</Status>"), Err(ErrorCode::MalformedXml));
        assert_eq!(parse(&"<Status>Enabled</Status>".repeat(2)), Err(ErrorCode::MalformedXml));
        assert_eq!(parse("<MfaDelete>?</MfaDelete><Status>Enabled</Status>"), Err(ErrorCode::MalformedXml));
        assert_eq!(
            parse("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"),
            Err(ErrorCode::NotImplemented)
        );
        assert_eq!(VersioningConfiguration::parse(b"").unwrap_err().code, ErrorCode::MalformedXml);
    }

    proptest! {
        #[test]
        fn no_document_panics(inside in "(<(/)?(Part|Object|Key|ETag|PartNumber|Quiet)>|[a-z0-9\"&;<]){0,12}") {
            // Any mixture of the known elements is read or refused.
            let _ = complete(&inside);
            let _ = Delete::parse(format!("<Delete>{inside}</Delete>").as_bytes());
            let _ = CreateBucketConfiguration::parse(inside.as_bytes());
            let _ = VersioningConfiguration::parse(inside.as_bytes());
        }
    }
}
