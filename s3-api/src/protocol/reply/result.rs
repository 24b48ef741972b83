//! Replies whose document tells the outcome of an operation: copies, multipart uploads, DeleteObjects and
//! GetObjectAttributes.

use super::Reply;
use super::object::quoted;
use crate::protocol::checksum::{Algorithm, Checksum, ChecksumType, ObjectChecksum};
use crate::protocol::error::S3Error;
use crate::protocol::metadata::StorageClass;
use crate::protocol::time::{format_http_date, format_iso8601};
use crate::protocol::xml::XmlWriter;

/// Writes `<ChecksumCRC32>…` and, for objects, `<ChecksumType>`.
pub(super) fn write_checksum(xml: &mut XmlWriter, checksum: &ObjectChecksum) {
    xml.text(checksum.checksum.algorithm().element(), &checksum.to_string());
    xml.text("ChecksumType", checksum.kind().name());
}

/// 200 of CreateMultipartUpload. `announced` is what the request said the checksum will be.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>, Response Syntax.)
pub fn create_multipart_upload(
    bucket: &str,
    key: &str,
    upload_id: &str,
    announced: Option<(Algorithm, ChecksumType)>,
) -> Reply {
    let mut xml = XmlWriter::root("InitiateMultipartUploadResult");
    xml.text("Bucket", bucket).text("Key", key).text("UploadId", upload_id);
    let reply = Reply::document(xml.finish());
    match announced {
        None => reply,
        Some((algorithm, kind)) => reply
            .header("x-amz-checksum-algorithm", algorithm.name())
            .header("x-amz-checksum-type", kind.name()),
    }
}

/// 200 of CompleteMultipartUpload. `location` is the object's address as the client reached it.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>, Response Syntax.)
pub fn complete_multipart_upload(
    location: &str,
    bucket: &str,
    key: &str,
    etag: &str,
    version_id: Option<&str>,
    checksum: Option<&ObjectChecksum>,
) -> Reply {
    let mut xml = XmlWriter::root("CompleteMultipartUploadResult");
    xml.text("Location", location).text("Bucket", bucket).text("Key", key).text("ETag", &quoted(etag));
    if let Some(checksum) = checksum {
        write_checksum(&mut xml, checksum);
    }
    Reply::document(xml.finish()).optional("x-amz-version-id", version_id)
}

/// 200 of CopyObject.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>, Response Syntax.)
pub fn copy_object(
    etag: &str,
    modified_ms: u64,
    checksum: Option<&ObjectChecksum>,
    version_id: Option<&str>,
    source_version_id: Option<&str>,
) -> Reply {
    let mut xml = XmlWriter::root("CopyObjectResult");
    xml.text("LastModified", &format_iso8601(modified_ms)).text("ETag", &quoted(etag));
    if let Some(checksum) = checksum {
        write_checksum(&mut xml, checksum);
    }
    Reply::document(xml.finish())
        .optional("x-amz-copy-source-version-id", source_version_id)
        .optional("x-amz-version-id", version_id)
}

/// 200 of UploadPartCopy.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>, Response Syntax.)
pub fn upload_part_copy(
    etag: &str,
    modified_ms: u64,
    checksum: Option<&Checksum>,
    source_version_id: Option<&str>,
) -> Reply {
    let mut xml = XmlWriter::root("CopyPartResult");
    xml.text("LastModified", &format_iso8601(modified_ms)).text("ETag", &quoted(etag));
    if let Some(checksum) = checksum {
        xml.text(checksum.algorithm().element(), &checksum.to_string());
    }
    Reply::document(xml.finish()).optional("x-amz-copy-source-version-id", source_version_id)
}

/// What became of one key of a DeleteObjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOutcome<'a> {
    /// The key.
    pub key: &'a str,
    /// The version that was named.
    pub version_id: Option<&'a str>,
    /// The delete marker that was made or deleted.
    pub marker_version_id: Option<&'a str>,
    /// Why it was not deleted. That there was no such object is no error.
    pub result: Result<(), S3Error>,
}

/// 200 of DeleteObjects: one line for each key. "In quiet mode the response includes only keys where the delete
/// operation encountered an error."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>.)
pub fn delete_objects<'a>(outcomes: impl IntoIterator<Item = DeleteOutcome<'a>>, quiet: bool) -> Reply {
    let mut xml = XmlWriter::root("DeleteResult");
    for outcome in outcomes {
        match &outcome.result {
            Ok(()) if quiet => {}
            Ok(()) => {
                xml.open("Deleted").text("Key", outcome.key).optional("VersionId", outcome.version_id);
                if let Some(marker) = outcome.marker_version_id {
                    xml.text("DeleteMarker", "true").text("DeleteMarkerVersionId", marker);
                }
                xml.close();
            }
            Err(error) => {
                xml.open("Error").text("Key", outcome.key).optional("VersionId", outcome.version_id);
                xml.text("Code", error.code.as_str()).text("Message", &error.message).close();
            }
        }
    }
    Reply::document(xml.finish())
}

/// One part, as ListParts and GetObjectAttributes tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPart<'a> {
    /// Its number.
    pub number: u32,
    /// Its entity tag without quotes.
    pub etag: &'a str,
    /// When it was put, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its checksum.
    pub checksum: Option<Checksum>,
}

/// A page of the parts of a finished object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectParts<'a> {
    /// Parts of the whole object.
    pub total_count: u32,
    /// The marker that was asked for.
    pub number_marker: u32,
    /// The page size that was asked for.
    pub parts_max: u32,
    /// Whether more follow.
    pub is_truncated: bool,
    /// The parts, by number. S3 lists them only if they have checksums of their own, and so does this.
    pub parts: &'a [ListedPart<'a>],
}

/// The reply of GetObjectAttributes: a member for each attribute that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributesReply<'a> {
    /// When the object was last modified, in milliseconds since 1970.
    pub modified_ms: u64,
    /// The version, in a bucket that ever had versioning.
    pub version_id: Option<&'a str>,
    /// `ETag`
    pub etag: Option<&'a str>,
    /// `Checksum`
    pub checksum: Option<ObjectChecksum>,
    /// `ObjectParts`; also `None` if the object was not uploaded in parts.
    pub parts: Option<ObjectParts<'a>>,
    /// `StorageClass`
    pub storage_class: Option<StorageClass>,
    /// `ObjectSize`
    pub size: Option<u64>,
}

impl AttributesReply<'_> {
    /// 200 with the document. Here, unlike everywhere else, the tag has no quotes.
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html>, Response Syntax and Examples.)
    pub fn reply(&self) -> Reply {
        let mut xml = XmlWriter::root("GetObjectAttributesResponse");
        xml.optional("ETag", self.etag);
        if let Some(checksum) = &self.checksum {
            xml.open("Checksum");
            write_checksum(&mut xml, checksum);
            xml.close();
        }
        if let Some(parts) = &self.parts {
            write_parts(&mut xml, parts);
        }
        xml.optional("StorageClass", self.storage_class.map(StorageClass::name));
        if let Some(size) = self.size {
            xml.value("ObjectSize", size);
        }
        Reply::document(xml.finish())
            .header("Last-Modified", format_http_date(self.modified_ms / 1_000))
            .optional("x-amz-version-id", self.version_id)
    }
}

fn write_parts(xml: &mut XmlWriter, parts: &ObjectParts<'_>) {
    xml.open("ObjectParts").value("PartsCount", parts.total_count);
    let checked: Vec<_> = parts.parts.iter().filter_map(|part| Some((part, part.checksum?))).collect();
    if !checked.is_empty() {
        xml.value("PartNumberMarker", parts.number_marker);
        if let Some((last, _)) = checked.last() {
            xml.value("NextPartNumberMarker", last.number);
        }
        xml.value("MaxParts", parts.parts_max).value("IsTruncated", parts.is_truncated);
        for (part, checksum) in checked {
            xml.open("Part").value("PartNumber", part.number).value("Size", part.bytes);
            xml.text(checksum.algorithm().element(), &checksum.to_string()).close();
        }
    }
    xml.close();
}

/// The `PostResponse` of a form that wants to be answered 201.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>, Response Elements.)
pub fn post_response(location: &str, bucket: &str, key: &str, etag: &str) -> Vec<u8> {
    let mut xml = XmlWriter::new();
    xml.open("PostResponse")
        .text("Location", location)
        .text("Bucket", bucket)
        .text("Key", key)
        .text("ETag", &format!("\"{etag}\""));
    xml.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::error::ErrorCode;
    use crate::protocol::reply::ReplyBody;

    fn inside(reply: &Reply, root: &str) -> String {
        assert_eq!(reply.status, 200);
        let ReplyBody::Bytes(document) = &reply.body else { panic!("no document") };
        let text = core::str::from_utf8(document).unwrap();
        let (_, text) = text.split_once('\n').unwrap();
        let open = format!("<{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        let text = text.strip_prefix(&open).expect("the root in the namespace of S3");
        text.strip_suffix(&format!("</{root}>")).unwrap().to_owned()
    }

    fn crc(value: u64) -> Checksum {
        Checksum::from_crc(Algorithm::Crc32, value).unwrap()
    }

    #[test]
    fn uploads_and_copies_answer_tags_in_quotes() {
        // Names, tags, times and checksums as each operation's syntax orders them; announcements in headers.
        let whole = ObjectChecksum { checksum: crc(1), part_count: Some(2) };
        let reply =
            create_multipart_upload("b", "k<", "u", Some((Algorithm::Crc32, ChecksumType::Composite)));
        assert_eq!(
            inside(&reply, "InitiateMultipartUploadResult"),
            "<Bucket>b</Bucket><Key>k&lt;</Key><UploadId>u</UploadId>"
        );
        assert!(reply.headers.iter().any(|(n, v)| n == "x-amz-checksum-type" && v == b"COMPOSITE"));
        let reply = complete_multipart_upload("http://h/b/k", "b", "k", "e-2", None, Some(&whole));
        assert_eq!(
            inside(&reply, "CompleteMultipartUploadResult"),
            "<Location>http://h/b/k</Location><Bucket>b</Bucket><Key>k</Key><ETag>&quot;e-2&quot;</ETag>\
             <ChecksumCRC32>AAAAAQ==-2</ChecksumCRC32><ChecksumType>COMPOSITE</ChecksumType>"
        );
        let reply = copy_object("e", 784_111_777_001, None, None, Some("v"));
        assert_eq!(
            inside(&reply, "CopyObjectResult"),
            "<LastModified>1994-11-06T08:49:37.001Z</LastModified><ETag>&quot;e&quot;</ETag>"
        );
        assert_eq!(reply.headers[1].0, "x-amz-copy-source-version-id");
        let reply = upload_part_copy("e", 0, Some(&crc(1)), None);
        assert!(inside(&reply, "CopyPartResult").ends_with("<ChecksumCRC32>AAAAAQ==</ChecksumCRC32>"));
    }

    #[test]
    fn deletes_answer_each_key_unless_told_to_be_quiet() {
        // A deleted key, one with a version and a marker, one that failed; quiet leaves the failure.
        let outcome = |key, result| DeleteOutcome { key, version_id: None, marker_version_id: None, result };
        let outcomes = || {
            let marked =
                DeleteOutcome { version_id: Some("1"), marker_version_id: Some("2"), ..outcome("b", Ok(())) };
            [outcome("a\r", Ok(())), marked, outcome("c", Err(ErrorCode::AccessDenied.into()))]
        };
        let failed = "<Error><Key>c</Key><Code>AccessDenied</Code><Message>Access denied.</Message></Error>";
        assert_eq!(
            inside(&delete_objects(outcomes(), false), "DeleteResult"),
            format!(
                "<Deleted><Key>a&#xd;</Key></Deleted><Deleted><Key>b</Key><VersionId>1</VersionId>\
                 <DeleteMarker>true</DeleteMarker><DeleteMarkerVersionId>2</DeleteMarkerVersionId></Deleted>{failed}"
            )
        );
        assert_eq!(inside(&delete_objects(outcomes(), true), "DeleteResult"), failed);
    }

    #[test]
    fn attributes_answer_what_was_asked() {
        // Nothing asked, nothing told but the time; parts are listed only with checksums of their own.
        let nothing = AttributesReply {
            modified_ms: 0,
            version_id: None,
            etag: None,
            checksum: None,
            parts: None,
            storage_class: None,
            size: None,
        };
        assert_eq!(inside(&nothing.reply(), "GetObjectAttributesResponse"), "");
        let part = |number, checksum| ListedPart { number, etag: "e", modified_ms: 0, bytes: 5, checksum };
        let (bare, checked) = ([part(1, None)], [part(3, Some(crc(1)))]);
        let parts =
            |parts| ObjectParts { total_count: 9, number_marker: 2, parts_max: 1, is_truncated: true, parts };
        let with = |page| AttributesReply { parts: Some(parts(page)), ..nothing.clone() };
        assert_eq!(
            inside(&with(&bare).reply(), "GetObjectAttributesResponse"),
            "<ObjectParts><PartsCount>9</PartsCount></ObjectParts>"
        );
        let all = AttributesReply {
            etag: Some("e-9"),
            checksum: Some(crc(1).into()),
            storage_class: Some(StorageClass::Standard),
            size: Some(45),
            ..with(&checked)
        };
        assert_eq!(
            inside(&all.reply(), "GetObjectAttributesResponse"),
            "<ETag>e-9</ETag><Checksum><ChecksumCRC32>AAAAAQ==</ChecksumCRC32><ChecksumType>FULL_OBJECT</ChecksumType>\
             </Checksum><ObjectParts><PartsCount>9</PartsCount><PartNumberMarker>2</PartNumberMarker>\
             <NextPartNumberMarker>3</NextPartNumberMarker><MaxParts>1</MaxParts><IsTruncated>true</IsTruncated>\
             <Part><PartNumber>3</PartNumber><Size>5</Size><ChecksumCRC32>AAAAAQ==</ChecksumCRC32></Part></ObjectParts>\
             <StorageClass>STANDARD</StorageClass><ObjectSize>45</ObjectSize>"
        );
    }
}
