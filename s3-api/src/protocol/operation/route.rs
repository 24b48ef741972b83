//! Which operation a request asks for.
//!
//! Invariants:
//!
//! * A known sub-resource never falls through to another operation: `PUT /bucket/key?tagging` is PutObjectTagging or
//!   nothing, as to store its document as the object would destroy data.
//! * Parameters that no operation is told apart by are ignored (`x-id`, which SDKs add; `X-Amz-*` of presigned
//!   requests), but a bare unknown one in a request that changes something is taken for a sub-resource yet unknown.

use super::OperationName;
use super::resource::Resource;
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::http::{Method, RequestHead};
use crate::protocol::names::Query;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    Bucket,
    Object,
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    operation: OperationName,
    method: Method,
    kind: Kind,
    /// Parameters that must be there, as `name` or `name=value`.
    keys: &'static [&'static str],
    /// A header that must be there.
    header: Option<&'static str>,
    /// Parameters that may be there although other operations are told apart by them.
    options: &'static [&'static str],
}

const fn row(
    operation: OperationName,
    method: Method,
    kind: Kind,
    keys: &'static [&'static str],
    header: Option<&'static str>,
    options: &'static [&'static str],
) -> Row {
    Row { operation, method, kind, keys, header, options }
}

use Kind as K;
use Method as M;
use OperationName as O;

/// The table: from each operation's page in the API reference, "Request Syntax"
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>).
/// ListDirectoryBuckets differs from ListBuckets by its host; the parameter only it has tells them apart here.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row(O::ListBuckets, M::Get, K::Service, &[], None, &[]),
    row(O::ListDirectoryBuckets, M::Get, K::Service, &["max-directory-buckets"], None, &[]),
    row(O::DeleteBucket, M::Delete, K::Bucket, &[], None, &[]),
    row(O::DeleteBucketAnalyticsConfiguration, M::Delete, K::Bucket, &["analytics", "id"], None, &[]),
    row(O::DeleteBucketCors, M::Delete, K::Bucket, &["cors"], None, &[]),
    row(O::DeleteBucketEncryption, M::Delete, K::Bucket, &["encryption"], None, &[]),
    row(O::DeleteBucketIntelligentTieringConfiguration, M::Delete, K::Bucket, &["intelligent-tiering", "id"], None, &[]),
    row(O::DeleteBucketInventoryConfiguration, M::Delete, K::Bucket, &["inventory", "id"], None, &[]),
    row(O::DeleteBucketLifecycle, M::Delete, K::Bucket, &["lifecycle"], None, &[]),
    row(O::DeleteBucketMetadataConfiguration, M::Delete, K::Bucket, &["metadataConfiguration"], None, &[]),
    row(O::DeleteBucketMetadataTableConfiguration, M::Delete, K::Bucket, &["metadataTable"], None, &[]),
    row(O::DeleteBucketMetricsConfiguration, M::Delete, K::Bucket, &["metrics", "id"], None, &[]),
    row(O::DeleteBucketOwnershipControls, M::Delete, K::Bucket, &["ownershipControls"], None, &[]),
    row(O::DeleteBucketPolicy, M::Delete, K::Bucket, &["policy"], None, &[]),
    row(O::DeleteBucketReplication, M::Delete, K::Bucket, &["replication"], None, &[]),
    row(O::DeleteBucketTagging, M::Delete, K::Bucket, &["tagging"], None, &[]),
    row(O::DeleteBucketWebsite, M::Delete, K::Bucket, &["website"], None, &[]),
    row(O::DeletePublicAccessBlock, M::Delete, K::Bucket, &["publicAccessBlock"], None, &[]),
    row(O::CreateSession, M::Get, K::Bucket, &["session"], None, &[]),
    row(O::GetBucketAbac, M::Get, K::Bucket, &["abac"], None, &[]),
    row(O::GetBucketAccelerateConfiguration, M::Get, K::Bucket, &["accelerate"], None, &[]),
    row(O::GetBucketAcl, M::Get, K::Bucket, &["acl"], None, &[]),
    row(O::GetBucketAnalyticsConfiguration, M::Get, K::Bucket, &["analytics", "id"], None, &[]),
    row(O::GetBucketCors, M::Get, K::Bucket, &["cors"], None, &[]),
    row(O::GetBucketEncryption, M::Get, K::Bucket, &["encryption"], None, &[]),
    row(O::GetBucketIntelligentTieringConfiguration, M::Get, K::Bucket, &["intelligent-tiering", "id"], None, &[]),
    row(O::GetBucketInventoryConfiguration, M::Get, K::Bucket, &["inventory", "id"], None, &[]),
    row(O::GetBucketLifecycleConfiguration, M::Get, K::Bucket, &["lifecycle"], None, &[]),
    row(O::GetBucketLocation, M::Get, K::Bucket, &["location"], None, &[]),
    row(O::GetBucketLogging, M::Get, K::Bucket, &["logging"], None, &[]),
    row(O::GetBucketMetadataConfiguration, M::Get, K::Bucket, &["metadataConfiguration"], None, &[]),
    row(O::GetBucketMetadataTableConfiguration, M::Get, K::Bucket, &["metadataTable"], None, &[]),
    row(O::GetBucketMetricsConfiguration, M::Get, K::Bucket, &["metrics", "id"], None, &[]),
    row(O::GetBucketNotificationConfiguration, M::Get, K::Bucket, &["notification"], None, &[]),
    row(O::GetBucketOwnershipControls, M::Get, K::Bucket, &["ownershipControls"], None, &[]),
    row(O::GetBucketPolicy, M::Get, K::Bucket, &["policy"], None, &[]),
    row(O::GetBucketPolicyStatus, M::Get, K::Bucket, &["policyStatus"], None, &[]),
    row(O::GetBucketReplication, M::Get, K::Bucket, &["replication"], None, &[]),
    row(O::GetBucketRequestPayment, M::Get, K::Bucket, &["requestPayment"], None, &[]),
    row(O::GetBucketTagging, M::Get, K::Bucket, &["tagging"], None, &[]),
    row(O::GetBucketVersioning, M::Get, K::Bucket, &["versioning"], None, &[]),
    row(O::GetBucketWebsite, M::Get, K::Bucket, &["website"], None, &[]),
    row(O::GetObjectLockConfiguration, M::Get, K::Bucket, &["object-lock"], None, &[]),
    row(O::GetPublicAccessBlock, M::Get, K::Bucket, &["publicAccessBlock"], None, &[]),
    row(O::ListBucketAnalyticsConfigurations, M::Get, K::Bucket, &["analytics"], None, &[]),
    row(O::ListBucketIntelligentTieringConfigurations, M::Get, K::Bucket, &["intelligent-tiering"], None, &[]),
    row(O::ListBucketInventoryConfigurations, M::Get, K::Bucket, &["inventory"], None, &[]),
    row(O::ListBucketMetricsConfigurations, M::Get, K::Bucket, &["metrics"], None, &[]),
    row(O::ListMultipartUploads, M::Get, K::Bucket, &["uploads"], None, &[]),
    row(O::ListObjectVersions, M::Get, K::Bucket, &["versions"], None, &[]),
    row(O::ListObjects, M::Get, K::Bucket, &[], None, &[]),
    row(O::ListObjectsV2, M::Get, K::Bucket, &["list-type=2"], None, &[]),
    row(O::HeadBucket, M::Head, K::Bucket, &[], None, &[]),
    row(O::CreateBucketMetadataConfiguration, M::Post, K::Bucket, &["metadataConfiguration"], None, &[]),
    row(O::CreateBucketMetadataTableConfiguration, M::Post, K::Bucket, &["metadataTable"], None, &[]),
    row(O::DeleteObjects, M::Post, K::Bucket, &["delete"], None, &[]),
    row(O::PostObject, M::Post, K::Bucket, &[], None, &[]),
    row(O::WriteGetObjectResponse, M::Post, K::Bucket, &[], Some("x-amz-request-route"), &[]),
    row(O::CreateBucket, M::Put, K::Bucket, &[], None, &[]),
    row(O::PutBucketAbac, M::Put, K::Bucket, &["abac"], None, &[]),
    row(O::PutBucketAccelerateConfiguration, M::Put, K::Bucket, &["accelerate"], None, &[]),
    row(O::PutBucketAcl, M::Put, K::Bucket, &["acl"], None, &[]),
    row(O::PutBucketAnalyticsConfiguration, M::Put, K::Bucket, &["analytics", "id"], None, &[]),
    row(O::PutBucketCors, M::Put, K::Bucket, &["cors"], None, &[]),
    row(O::PutBucketEncryption, M::Put, K::Bucket, &["encryption"], None, &[]),
    row(O::PutBucketIntelligentTieringConfiguration, M::Put, K::Bucket, &["intelligent-tiering", "id"], None, &[]),
    row(O::PutBucketInventoryConfiguration, M::Put, K::Bucket, &["inventory", "id"], None, &[]),
    row(O::PutBucketLifecycleConfiguration, M::Put, K::Bucket, &["lifecycle"], None, &[]),
    row(O::PutBucketLogging, M::Put, K::Bucket, &["logging"], None, &[]),
    row(O::PutBucketMetricsConfiguration, M::Put, K::Bucket, &["metrics", "id"], None, &[]),
    row(O::PutBucketNotificationConfiguration, M::Put, K::Bucket, &["notification"], None, &[]),
    row(O::PutBucketOwnershipControls, M::Put, K::Bucket, &["ownershipControls"], None, &[]),
    row(O::PutBucketPolicy, M::Put, K::Bucket, &["policy"], None, &[]),
    row(O::PutBucketReplication, M::Put, K::Bucket, &["replication"], None, &[]),
    row(O::PutBucketRequestPayment, M::Put, K::Bucket, &["requestPayment"], None, &[]),
    row(O::PutBucketTagging, M::Put, K::Bucket, &["tagging"], None, &[]),
    row(O::PutBucketVersioning, M::Put, K::Bucket, &["versioning"], None, &[]),
    row(O::PutBucketWebsite, M::Put, K::Bucket, &["website"], None, &[]),
    row(O::PutObjectLockConfiguration, M::Put, K::Bucket, &["object-lock"], None, &[]),
    row(O::PutPublicAccessBlock, M::Put, K::Bucket, &["publicAccessBlock"], None, &[]),
    row(O::UpdateBucketMetadataAnnotationTableConfiguration, M::Put, K::Bucket, &["metadataAnnotationTable"], None, &[]),
    row(O::UpdateBucketMetadataInventoryTableConfiguration, M::Put, K::Bucket, &["metadataInventoryTable"], None, &[]),
    row(O::UpdateBucketMetadataJournalTableConfiguration, M::Put, K::Bucket, &["metadataJournalTable"], None, &[]),
    row(O::AbortMultipartUpload, M::Delete, K::Object, &["uploadId"], None, &[]),
    row(O::DeleteObject, M::Delete, K::Object, &[], None, &["versionId"]),
    row(O::DeleteObjectAnnotation, M::Delete, K::Object, &["annotation", "annotationName"], None, &["versionId"]),
    row(O::DeleteObjectTagging, M::Delete, K::Object, &["tagging"], None, &["versionId"]),
    row(O::GetObject, M::Get, K::Object, &[], None, &["versionId", "partNumber"]),
    row(O::GetObjectAcl, M::Get, K::Object, &["acl"], None, &["versionId"]),
    row(O::GetObjectAnnotation, M::Get, K::Object, &["annotation", "annotationName"], None, &["versionId"]),
    row(O::GetObjectAttributes, M::Get, K::Object, &["attributes"], None, &["versionId"]),
    row(O::GetObjectLegalHold, M::Get, K::Object, &["legal-hold"], None, &["versionId"]),
    row(O::GetObjectRetention, M::Get, K::Object, &["retention"], None, &["versionId"]),
    row(O::GetObjectTagging, M::Get, K::Object, &["tagging"], None, &["versionId"]),
    row(O::GetObjectTorrent, M::Get, K::Object, &["torrent"], None, &[]),
    row(O::ListObjectAnnotations, M::Get, K::Object, &["annotation"], None, &["versionId"]),
    row(O::ListParts, M::Get, K::Object, &["uploadId"], None, &[]),
    row(O::HeadObject, M::Head, K::Object, &[], None, &["versionId", "partNumber"]),
    row(O::CompleteMultipartUpload, M::Post, K::Object, &["uploadId"], None, &[]),
    row(O::CreateMultipartUpload, M::Post, K::Object, &["uploads"], None, &[]),
    row(O::RestoreObject, M::Post, K::Object, &["restore"], None, &["versionId"]),
    row(O::SelectObjectContent, M::Post, K::Object, &["select", "select-type=2"], None, &[]),
    row(O::CopyObject, M::Put, K::Object, &[], Some("x-amz-copy-source"), &[]),
    row(O::PutObject, M::Put, K::Object, &[], None, &[]),
    row(O::PutObjectAcl, M::Put, K::Object, &["acl"], None, &["versionId"]),
    row(O::PutObjectAnnotation, M::Put, K::Object, &["annotation", "annotationName"], None, &["versionId"]),
    row(O::PutObjectLegalHold, M::Put, K::Object, &["legal-hold"], None, &["versionId"]),
    row(O::PutObjectRetention, M::Put, K::Object, &["retention"], None, &["versionId"]),
    row(O::PutObjectTagging, M::Put, K::Object, &["tagging"], None, &["versionId"]),
    row(O::RenameObject, M::Put, K::Object, &["renameObject"], None, &[]),
    row(O::UpdateObjectEncryption, M::Put, K::Object, &["encryption"], None, &["versionId"]),
    row(O::UploadPart, M::Put, K::Object, &["partNumber", "uploadId"], None, &[]),
    row(O::UploadPartCopy, M::Put, K::Object, &["partNumber", "uploadId"], Some("x-amz-copy-source"), &[]),
];

/// Parameters that are arguments of an operation and do not tell it apart from others alone.
const ARGUMENTS: [&str; 4] = ["id", "annotationName", "select-type", "list-type"];

/// A request whose operation is known.
#[derive(Clone, Debug)]
pub struct Routed {
    /// What it asks for.
    pub operation: OperationName,
    /// On what. Names are valid.
    pub resource: Resource,
    /// The query, decoded.
    pub query: Query,
}

impl Row {
    fn matches(&self, head: &RequestHead, kind: Kind, query: &Query) -> bool {
        self.method == head.method
            && self.kind == kind
            && self.header.is_none_or(|header| head.headers.contains(header))
            && self.keys.iter().all(|key| match key.split_once('=') {
                Some((name, value)) => query.value(name) == Some(value),
                None => query.contains(key),
            })
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.split_once('=').map_or(*key, |(name, _)| name))
    }
}

/// Whether some operation is told apart by parameter `name`.
fn is_subresource(name: &str) -> bool {
    !ARGUMENTS.contains(&name)
        && ROWS.iter().any(|row| row.names().chain(row.options.iter().copied()).any(|key| key == name))
}

/// Finds the operation that `head` asks for on `resource`, and checks the names in `resource`.
///
/// # Errors
///
/// 400 `InvalidURI`, `InvalidBucketName`, `KeyTooLongError`; 403 `AccessForbidden` for OPTIONS (no bucket has a CORS
/// configuration); 405 `MethodNotAllowed`; 501 `NotImplemented` for a sub-resource that does not go with the method or
/// another sub-resource. A known operation that is not served is returned: parsing it refuses it with 501.
pub fn route(head: &RequestHead, resource: Resource) -> Result<Routed, S3Error> {
    let refuse = |error: S3Error| Err(error.on(&resource.to_string()));
    let query = match Query::parse(&head.query) {
        Ok(query) => query,
        Err(error) => return refuse(error),
    };
    if head.method == Method::Options {
        return refuse(S3Error::with_message(
            ErrorCode::AccessForbidden,
            "CORSResponse: CORS is not enabled for this bucket.",
        ));
    }
    let kind = match &resource {
        Resource::Service => Kind::Service,
        Resource::Bucket { .. } => Kind::Bucket,
        Resource::Object { .. } => Kind::Object,
    };
    let best = ROWS
        .iter()
        .filter(|row| row.matches(head, kind, &query))
        .max_by_key(|row| (row.keys.len(), row.header.is_some()));
    let stray = query.names().find(|name| {
        let expected =
            best.is_some_and(|row| row.names().any(|key| key == *name) || row.options.contains(name));
        let changes = matches!(head.method, Method::Put | Method::Post | Method::Delete);
        let looks_like_one = changes
            && query.value(name) == Some("")
            && !ARGUMENTS.contains(name)
            && !name.to_ascii_lowercase().starts_with("x-");
        !expected && (is_subresource(name) || looks_like_one)
    });
    if let Some(stray) = stray {
        return refuse(S3Error::new(ErrorCode::NotImplemented).field("ResourceType", stray));
    }
    let Some(best) = best else {
        return refuse(S3Error::new(ErrorCode::MethodNotAllowed).field("Method", head.method.as_str()));
    };
    if best.operation != O::WriteGetObjectResponse
        && let Err(error) = resource.check()
    {
        return refuse(error);
    }
    Ok(Routed { operation: best.operation, resource, query })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http::Headers;
    use proptest::prelude::*;

    fn routed(method: Method, target: &str, header: Option<&str>) -> Result<OperationName, ErrorCode> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Headers::default();
        if let Some(name) = header {
            headers.push(name, b"x");
        }
        let head = RequestHead { method, path: path.into(), query: query.into(), version_minor: 1, headers };
        let resource = Resource::path_style(&head.path).map_err(|error| error.code)?;
        route(&head, resource).map(|routed| routed.operation).map_err(|error| error.code)
    }

    #[test]
    fn every_operation_has_exactly_one_route() {
        // All 116 names and PostObject: in the table once, or the older name of one that is; and each row reaches its own operation.
        assert_eq!(OperationName::ALL.len(), 117);
        for &operation in OperationName::ALL {
            let rows = ROWS.iter().filter(|row| row.operation == operation).count();
            let legacy =
                OperationName::ALL.iter().filter(|name| name.legacy_name() == Some(operation)).count();
            assert_eq!(rows + legacy, 1, "{operation:?}");
        }
        for row in ROWS {
            let path = match row.kind {
                K::Service => "/",
                K::Bucket => "/bucket",
                K::Object => "/bucket/key",
            };
            for query in [row.keys.join("&"), format!("x-id=A&{}&prefix=p", row.keys.join("=&"))] {
                let query = query.replace("=2=", "=2");
                assert_eq!(
                    routed(row.method, &format!("{path}?{query}"), row.header),
                    Ok(row.operation),
                    "{query}"
                );
            }
        }
    }

    #[test]
    fn no_subresource_falls_through() {
        // What names a sub-resource is its operation or nothing, and so is what might name one yet unknown.
        let refused = [
            (M::Put, "/bucket/key?policy"),
            (M::Put, "/bucket/key?uploadId=1"),
            (M::Put, "/bucket/key?partNumber=1"),
            (M::Put, "/bucket/key?tagging&acl"),
            (M::Put, "/bucket/key?versionId=1"),
            (M::Put, "/bucket/key?invented"),
            (M::Delete, "/bucket/key?invented="),
            (M::Delete, "/bucket?uploads"),
            (M::Get, "/bucket/key?uploads"),
            (M::Head, "/bucket/key?acl"),
            (M::Delete, "/bucket?analytics"),
            (M::Get, "/bucket?uploads&versions"),
        ];
        for (method, target) in refused {
            assert_eq!(routed(method, target, None), Err(ErrorCode::NotImplemented), "{target}");
        }
        assert_eq!(routed(M::Put, "/bucket/key?tagging", None), Ok(O::PutObjectTagging));
        assert_eq!(
            routed(M::Put, "/bucket/key?x-id=PutObject&X-Amz-Security-Token=", None),
            Ok(O::PutObject)
        );
        assert_eq!(routed(M::Get, "/bucket/key?versionId=null&partNumber=1", None), Ok(O::GetObject));
        assert_eq!(routed(M::Get, "/bucket/key?invented", None), Ok(O::GetObject));
    }

    #[test]
    fn near_neighbours_are_told_apart() {
        // Pairs that differ by one parameter or header only.
        assert_eq!(routed(M::Get, "/bucket?list-type=2", None), Ok(O::ListObjectsV2));
        assert_eq!(routed(M::Get, "/bucket?list-type=1", None), Ok(O::ListObjects));
        assert_eq!(routed(M::Get, "/bucket/?inventory", None), Ok(O::ListBucketInventoryConfigurations));
        assert_eq!(routed(M::Get, "/bucket?inventory&id=1", None), Ok(O::GetBucketInventoryConfiguration));
        assert_eq!(routed(M::Put, "/bucket/key?partNumber=1&uploadId=2", None), Ok(O::UploadPart));
        assert_eq!(
            routed(M::Put, "/bucket/key?partNumber=1&uploadId=2", Some("x-amz-copy-source")),
            Ok(O::UploadPartCopy)
        );
        assert_eq!(routed(M::Put, "/bucket/key", Some("x-amz-copy-source")), Ok(O::CopyObject));
        assert_eq!(routed(M::Post, "/", None), Err(ErrorCode::MethodNotAllowed));
        assert_eq!(routed(M::Post, "/bucket/key", None), Err(ErrorCode::MethodNotAllowed));
        assert_eq!(routed(M::Options, "/bucket/key", None), Err(ErrorCode::AccessForbidden));
        assert_eq!(routed(M::Get, "/Bucket", None), Err(ErrorCode::InvalidBucketName));
        assert_eq!(routed(M::Get, "/favicon.ico/x", None), Ok(O::GetObject));
    }

    proptest! {
        #[test]
        fn no_target_panics(path in "/.*", query in ".*") {
            // Any path and any query are routed or refused.
            for method in [M::Get, M::Head, M::Put, M::Post, M::Delete, M::Options] {
                let _ = routed(method, &format!("{path}?{query}"), None);
            }
        }
    }
}
