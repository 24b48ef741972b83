//! The documents that list: buckets, objects, uploads, parts.
//!
//! Names that XML cannot hold are the reason for `encoding-type=url`: "Amazon S3 includes this element in the response,
//! and returns encoded key name values in the following response elements: Delimiter, Prefix, Key, and StartAfter"
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>, EncodingType). The pages of the other
//! listings name their markers as well.

use super::Reply;
use super::configuration::Owner;
use super::result::ListedPart;
use crate::protocol::checksum::{Algorithm, ChecksumType};
use crate::protocol::metadata::StorageClass;
use crate::protocol::names::encode_listed;
use crate::protocol::operation::{
    ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListQuery, upload_marker,
};
use crate::protocol::time::format_iso8601;
use crate::protocol::xml::XmlWriter;
use std::borrow::Cow;

/// A bucket in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedBucket<'a> {
    /// Its name.
    pub name: &'a str,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
}

/// 200 of ListBuckets. `region` is told if the request was for a page: only then does S3 name it. `next` continues behind
/// the page. (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html>, Response Syntax.)
pub fn list_buckets<'a>(
    owner: Owner<'_>,
    buckets: impl IntoIterator<Item = ListedBucket<'a>>,
    prefix: &str,
    region: Option<&str>,
    next: Option<&str>,
) -> Reply {
    let mut xml = XmlWriter::root("ListAllMyBucketsResult");
    owner.write(&mut xml, "Owner");
    xml.open("Buckets");
    for bucket in buckets {
        xml.open("Bucket").text("Name", bucket.name).text("CreationDate", &format_iso8601(bucket.created_ms));
        xml.optional("BucketRegion", region).close();
    }
    xml.close();
    if !prefix.is_empty() {
        xml.text("Prefix", prefix);
    }
    xml.optional("ContinuationToken", next);
    Reply::document(xml.finish())
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its entity tag without quotes.
    pub etag: Cow<'a, str>,
    /// When it was last modified, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its storage class.
    pub storage_class: StorageClass,
    /// Which checksum it has.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// Whose it is: identifier and name; none: the bucket's owner's.
    pub owner: Option<(String, String)>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<'a> {
    /// An object.
    Object(ListedObject<'a>),
    /// All keys that begin so, told as one.
    CommonPrefix(&'a [u8]),
}

/// Writes names as the request wants them.
struct Names {
    url_encode: bool,
}

impl Names {
    fn text(&self, xml: &mut XmlWriter, element: &'static str, name: &str) {
        if self.url_encode {
            xml.text(element, &encode_listed(name));
        } else {
            xml.text(element, name);
        }
    }

    fn bytes(&self, xml: &mut XmlWriter, element: &'static str, name: &[u8]) {
        self.text(xml, element, &String::from_utf8_lossy(name));
    }

    fn query(&self, xml: &mut XmlWriter, query: &ListQuery, max: &'static str) {
        self.text(xml, "Prefix", &query.prefix);
        if let Some(delimiter) = &query.delimiter {
            self.text(xml, "Delimiter", delimiter);
        }
        xml.value(max, query.entries_max);
        if self.url_encode {
            xml.text("EncodingType", "url");
        }
    }
}

/// The owner of a line, or the bucket's.
fn own<'a>(line: &'a Option<(String, String)>, bucket: Owner<'a>) -> Owner<'a> {
    line.as_ref().map_or(bucket, |(id, display_name)| Owner { id, display_name })
}

fn write_object(xml: &mut XmlWriter, names: &Names, object: &ListedObject<'_>, owner: Option<Owner<'_>>) {
    names.bytes(xml, "Key", object.key);
    xml.text("LastModified", &format_iso8601(object.modified_ms));
    xml.text("ETag", &super::object::quoted(&object.etag));
    if let Some((algorithm, kind)) = object.checksum {
        xml.text("ChecksumAlgorithm", algorithm.name()).text("ChecksumType", kind.name());
    }
    xml.value("Size", object.bytes);
    if let Some(owner) = owner {
        own(&object.owner, owner).write(xml, "Owner");
    }
    xml.text("StorageClass", object.storage_class.name());
}

fn write_listed(xml: &mut XmlWriter, names: &Names, listed: &[Listed<'_>], owner: Option<Owner<'_>>) {
    for line in listed {
        if let Listed::Object(object) = line {
            xml.open("Contents");
            write_object(xml, names, object, owner);
            xml.close();
        }
    }
    write_prefixes(xml, names, listed);
}

fn write_prefixes(xml: &mut XmlWriter, names: &Names, listed: &[Listed<'_>]) {
    for line in listed {
        if let Listed::CommonPrefix(prefix) = line {
            xml.open("CommonPrefixes");
            names.bytes(xml, "Prefix", prefix);
            xml.close();
        }
    }
}

/// The name a page ends with.
fn last_name<'a>(listed: &'a [Listed<'a>]) -> Option<&'a [u8]> {
    listed.last().map(|line| match line {
        Listed::Object(object) => object.key,
        Listed::CommonPrefix(prefix) => prefix,
    })
}

/// 200 of ListObjects. "NextMarker … is returned only if you have the delimiter request parameter specified."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html>, Response Syntax.)
pub fn list_objects(
    request: &ListObjects,
    listed: &[Listed<'_>],
    is_truncated: bool,
    owner: Owner<'_>,
) -> Reply {
    let names = Names { url_encode: request.query.url_encode };
    let mut xml = XmlWriter::root("ListBucketResult");
    xml.text("Name", &request.bucket);
    names.query(&mut xml, &request.query, "MaxKeys");
    names.text(&mut xml, "Marker", &request.marker);
    xml.value("IsTruncated", is_truncated);
    if let Some(next) = last_name(listed).filter(|_| is_truncated && request.query.delimiter.is_some()) {
        names.bytes(&mut xml, "NextMarker", next);
    }
    write_listed(&mut xml, &names, listed, Some(owner));
    Reply::document(xml.finish())
}

/// 200 of ListObjectsV2. `next` is the token of the page behind this one.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>, Response Syntax.)
pub fn list_objects_v2(
    request: &ListObjectsV2,
    listed: &[Listed<'_>],
    next: Option<&str>,
    owner: Owner<'_>,
) -> Reply {
    let names = Names { url_encode: request.query.url_encode };
    let mut xml = XmlWriter::root("ListBucketResult");
    xml.text("Name", &request.bucket);
    names.query(&mut xml, &request.query, "MaxKeys");
    xml.value("KeyCount", listed.len()).value("IsTruncated", next.is_some());
    xml.optional("ContinuationToken", request.continuation_token.as_deref());
    xml.optional("NextContinuationToken", next);
    if let Some(start_after) = &request.start_after {
        names.text(&mut xml, "StartAfter", start_after);
    }
    write_listed(&mut xml, &names, listed, request.fetch_owner.then_some(owner));
    Reply::document(xml.finish())
}

/// A version in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedVersion<'a> {
    /// Its identifier.
    pub version_id: String,
    /// Whether it is the newest of its key.
    pub is_latest: bool,
    /// The key.
    pub key: &'a [u8],
    /// When it was made, in milliseconds since 1970.
    pub modified_ms: u64,
    /// What it holds; nothing: it is a delete marker.
    pub object: Option<ListedObject<'a>>,
}

/// One line of a listing of versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionLine<'a> {
    /// A version.
    Version(ListedVersion<'a>),
    /// All keys that begin so, told as one.
    CommonPrefix(&'a [u8]),
}

/// 200 of ListObjectVersions. `next_version` is the marker to go on behind the page's last version, which need not be its
/// identifier: "When the number of responses exceeds the value of MaxKeys, NextVersionIdMarker specifies the first object version
/// not returned that satisfies the search criteria. Use this value for the version-id-marker request parameter".
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html>, Response Syntax.)
pub fn list_object_versions(
    request: &ListObjectVersions,
    lines: &[VersionLine<'_>],
    is_truncated: bool,
    next_version: Option<&str>,
    owner: Owner<'_>,
) -> Reply {
    let names = Names { url_encode: request.query.url_encode };
    let mut xml = XmlWriter::root("ListVersionsResult");
    xml.text("Name", &request.bucket);
    names.query(&mut xml, &request.query, "MaxKeys");
    names.text(&mut xml, "KeyMarker", &request.key_marker);
    xml.text("VersionIdMarker", &request.version_id_marker).value("IsTruncated", is_truncated);
    match lines.last().filter(|_| is_truncated) {
        Some(VersionLine::Version(version)) => {
            names.bytes(&mut xml, "NextKeyMarker", version.key);
            xml.optional("NextVersionIdMarker", next_version);
        }
        Some(VersionLine::CommonPrefix(prefix)) => names.bytes(&mut xml, "NextKeyMarker", prefix),
        None => {}
    }
    for line in lines {
        let VersionLine::Version(version) = line else { continue };
        xml.open(if version.object.is_some() { "Version" } else { "DeleteMarker" });
        xml.text("VersionId", &version.version_id).value("IsLatest", version.is_latest);
        match &version.object {
            Some(object) => write_object(&mut xml, &names, object, Some(owner)),
            None => {
                names.bytes(&mut xml, "Key", version.key);
                xml.text("LastModified", &format_iso8601(version.modified_ms));
                owner.write(&mut xml, "Owner");
            }
        }
        xml.close();
    }
    for line in lines {
        if let VersionLine::CommonPrefix(prefix) = line {
            xml.open("CommonPrefixes");
            names.bytes(&mut xml, "Prefix", prefix);
            xml.close();
        }
    }
    Reply::document(xml.finish())
}

/// An upload in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUpload<'a> {
    /// The key its object will have.
    pub key: &'a [u8],
    /// Its identifier.
    pub upload_id: String,
    /// When it was begun, in milliseconds since 1970.
    pub created_ms: u64,
    /// The storage class of its object.
    pub storage_class: StorageClass,
    /// The checksum it announced.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// Whose it is: identifier and name; none: the bucket's owner's.
    pub owner: Option<(String, String)>,
}

/// One line of a listing of uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadLine<'a> {
    /// An upload.
    Upload(ListedUpload<'a>),
    /// All keys that begin so, told as one.
    CommonPrefix(&'a [u8]),
}

/// 200 of ListMultipartUploads.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>, Response Syntax.)
pub fn list_multipart_uploads(
    request: &ListMultipartUploads,
    lines: &[UploadLine<'_>],
    is_truncated: bool,
    owner: Owner<'_>,
) -> Reply {
    let names = Names { url_encode: request.query.url_encode };
    let mut xml = XmlWriter::root("ListMultipartUploadsResult");
    xml.text("Bucket", &request.bucket);
    names.text(&mut xml, "KeyMarker", &request.key_marker);
    xml.text("UploadIdMarker", &request.upload_id_marker);
    if is_truncated {
        match lines.last() {
            Some(UploadLine::Upload(upload)) => {
                names.bytes(&mut xml, "NextKeyMarker", upload.key);
                xml.text("NextUploadIdMarker", &upload_marker(&upload.upload_id, upload.created_ms));
            }
            Some(UploadLine::CommonPrefix(prefix)) => names.bytes(&mut xml, "NextKeyMarker", prefix),
            None => {}
        }
    }
    names.query(&mut xml, &request.query, "MaxUploads");
    xml.value("IsTruncated", is_truncated);
    for line in lines {
        let UploadLine::Upload(upload) = line else { continue };
        xml.open("Upload");
        names.bytes(&mut xml, "Key", upload.key);
        xml.text("UploadId", &upload.upload_id);
        let owner = own(&upload.owner, owner);
        owner.write(&mut xml, "Initiator");
        owner.write(&mut xml, "Owner");
        xml.text("StorageClass", upload.storage_class.name());
        xml.text("Initiated", &format_iso8601(upload.created_ms));
        if let Some((algorithm, kind)) = upload.checksum {
            xml.text("ChecksumAlgorithm", algorithm.name()).text("ChecksumType", kind.name());
        }
        xml.close();
    }
    for line in lines {
        if let UploadLine::CommonPrefix(prefix) = line {
            xml.open("CommonPrefixes");
            names.bytes(&mut xml, "Prefix", prefix);
            xml.close();
        }
    }
    Reply::document(xml.finish())
}

/// A page of the parts of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadParts<'a> {
    /// The bucket.
    pub bucket: &'a str,
    /// The key.
    pub key: &'a str,
    /// The upload.
    pub upload_id: &'a str,
    /// The marker that was asked for.
    pub number_marker: u32,
    /// The page size that was asked for.
    pub parts_max: u32,
    /// Whether more follow.
    pub is_truncated: bool,
    /// The storage class of the object to be.
    pub storage_class: StorageClass,
    /// The checksum the upload announced.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// The parts, by number.
    pub parts: &'a [ListedPart<'a>],
}

impl UploadParts<'_> {
    /// 200 of ListParts. (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>, Response Syntax.)
    pub fn reply(&self, owner: Owner<'_>) -> Reply {
        let mut xml = XmlWriter::root("ListPartsResult");
        xml.text("Bucket", self.bucket).text("Key", self.key).text("UploadId", self.upload_id);
        xml.value("PartNumberMarker", self.number_marker);
        xml.value("NextPartNumberMarker", self.parts.last().map_or(self.number_marker, |part| part.number));
        xml.value("MaxParts", self.parts_max).value("IsTruncated", self.is_truncated);
        for part in self.parts {
            xml.open("Part").value("PartNumber", part.number);
            xml.text("LastModified", &format_iso8601(part.modified_ms));
            xml.text("ETag", &super::object::quoted(part.etag)).value("Size", part.bytes);
            if let Some(checksum) = &part.checksum {
                xml.text(checksum.algorithm().element(), &checksum.to_string());
            }
            xml.close();
        }
        owner.write(&mut xml, "Initiator");
        owner.write(&mut xml, "Owner");
        xml.text("StorageClass", self.storage_class.name());
        if let Some((algorithm, kind)) = self.checksum {
            xml.text("ChecksumAlgorithm", algorithm.name()).text("ChecksumType", kind.name());
        }
        Reply::document(xml.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::reply::ReplyBody;

    const OWNER: Owner<'static> = Owner { id: "id", display_name: "name" };

    fn body(reply: Reply) -> String {
        let ReplyBody::Bytes(document) = reply.body else { panic!("no document") };
        String::from_utf8(document).unwrap()
    }

    fn object(key: &str) -> Listed<'_> {
        Listed::Object(ListedObject {
            key: key.as_bytes(),
            etag: "e".into(),
            modified_ms: 0,
            bytes: 5,
            storage_class: StorageClass::Standard,
            checksum: None,
            owner: None,
        })
    }

    #[test]
    fn the_next_marker_comes_with_a_delimiter_only() {
        // Version 1 tells where to go on only if keys were folded into prefixes; the last line is it, key or prefix.
        let mut request = ListObjects {
            bucket: "b".into(),
            query: ListQuery { entries_max: 2, ..ListQuery::default() },
            marker: String::new(),
            position: Default::default(),
        };
        let lines = [object("a"), Listed::CommonPrefix(b"b/")];
        assert!(!body(list_objects(&request, &lines, true, OWNER)).contains("NextMarker"));
        request.query.delimiter = Some("/".into());
        let text = body(list_objects(&request, &lines, true, OWNER));
        assert!(
            text.contains("<NextMarker>b/</NextMarker>") && text.contains("<IsTruncated>true</IsTruncated>")
        );
        assert!(text.contains("<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"));
        assert!(!body(list_objects(&request, &lines, false, OWNER)).contains("NextMarker"));
    }

    #[test]
    fn names_are_encoded_when_asked() {
        // Every name, and nothing else, is percent-encoded; the type is told.
        let mut request = ListObjectsV2 {
            bucket: "b".into(),
            query: ListQuery { prefix: "a b".into(), entries_max: 1000, ..ListQuery::default() },
            continuation_token: None,
            start_after: Some("a b&".into()),
            fetch_owner: false,
            position: Default::default(),
        };
        let lines = [object("a b<")];
        let text = body(list_objects_v2(&request, &lines, Some("t"), OWNER));
        assert!(text.contains("<Key>a b&lt;</Key>") && !text.contains("EncodingType"));
        assert!(
            text.contains("<NextContinuationToken>t</NextContinuationToken>") && !text.contains("<Owner>")
        );
        request.query.url_encode = true;
        request.fetch_owner = true;
        let text = body(list_objects_v2(&request, &lines, None, OWNER));
        for part in
            ["<Key>a+b%3C</Key>", "<Prefix>a+b</Prefix>", "<StartAfter>a+b%26</StartAfter>", "<Owner>"]
        {
            let spaced = part.replace('+', "%20");
            assert!(text.contains(part) || text.contains(&spaced), "{part} in {text}");
        }
        assert!(text.contains("<EncodingType>url</EncodingType>") && text.contains("<KeyCount>1</KeyCount>"));
    }

    #[test]
    fn versions_and_markers_stand_in_their_order() {
        // Objects with all that is known of them, markers with what they have, and where to go on.
        let request = ListObjectVersions {
            bucket: "b".into(),
            query: ListQuery { entries_max: 2, ..ListQuery::default() },
            key_marker: "a".into(),
            version_id_marker: "1".into(),
            position: Default::default(),
        };
        let version = |version_id: &str, is_latest, object| {
            let (version_id, modified_ms) = (version_id.to_owned(), 784_111_777_000);
            VersionLine::Version(ListedVersion { version_id, is_latest, key: b"k", modified_ms, object })
        };
        let Listed::Object(object) = object("k") else { panic!() };
        let lines = [version("7", true, None), version("null", false, Some(object))];
        let text = body(list_object_versions(&request, &lines, true, Some("6"), OWNER));
        for part in [
            "<KeyMarker>a</KeyMarker><VersionIdMarker>1</VersionIdMarker><IsTruncated>true</IsTruncated>",
            "<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>6</NextVersionIdMarker>",
            "<DeleteMarker><VersionId>7</VersionId><IsLatest>true</IsLatest><Key>k</Key>\
             <LastModified>1994-11-06T08:49:37.000Z</LastModified><Owner>",
            "</DeleteMarker><Version><VersionId>null</VersionId><IsLatest>false</IsLatest><Key>k</Key>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let prefix = [VersionLine::CommonPrefix(b"p/")];
        let text = body(list_object_versions(&request, &prefix, true, None, OWNER));
        assert!(text.contains("<NextKeyMarker>p/</NextKeyMarker>") && !text.contains("NextVersionIdMarker"));
        assert!(!body(list_object_versions(&request, &lines, false, None, OWNER)).contains("NextKeyMarker"));
    }

    #[test]
    fn uploads_tell_where_to_go_on() {
        // Behind an upload by key, identifier and time, behind a prefix by the prefix alone.
        let request = ListMultipartUploads {
            bucket: "b".into(),
            query: ListQuery { entries_max: 1, ..ListQuery::default() },
            key_marker: String::new(),
            upload_id_marker: String::new(),
        };
        let upload = UploadLine::Upload(ListedUpload {
            key: b"k",
            upload_id: "u".into(),
            created_ms: 7,
            storage_class: StorageClass::Standard,
            checksum: None,
            owner: None,
        });
        let text = body(list_multipart_uploads(&request, &[upload], true, OWNER));
        assert!(
            text.contains("<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u-7</NextUploadIdMarker>")
        );
        let text = body(list_multipart_uploads(&request, &[UploadLine::CommonPrefix(b"p/")], true, OWNER));
        assert!(text.contains("<NextKeyMarker>p/</NextKeyMarker>") && !text.contains("NextUploadIdMarker"));
    }
}
