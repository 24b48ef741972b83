//! What policies call an operation.
//!
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>; each operation's page in the API
//! reference, "Permissions".)

use super::{OperationName, Request};
use crate::protocol::acl::AclRequest;
use crate::protocol::lock::Lock;
use crate::protocol::tagging::TagSet;

/// The actions that a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions {
    /// What must be allowed.
    pub first: &'static str,
    /// What must be allowed besides, of the same object.
    pub second: Option<&'static str>,
    /// What is done along the way, to what is being written. It must be allowed as well; but who owns what it writes may say what goes
    /// with it.
    pub others: Vec<&'static str>,
}

/// The actions that a request of `operation` is, which names a version or does not. What it does along the way is known once it is read:
/// `request` is what will be done, and its head may say more than that.
pub fn actions(operation: OperationName, versioned: bool, request: Option<&Request>) -> Actions {
    // "If you pass a version ID in your request, you need both the s3:GetObjectVersion and s3:GetObjectVersionAttributes permissions. If
    // you do not pass a version ID in your request, you need the s3:GetObject and s3:GetObjectAttributes permissions."
    // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html>, "Permissions".)
    let second = match operation {
        OperationName::GetObjectAttributes if versioned => Some("s3:GetObjectVersionAttributes"),
        OperationName::GetObjectAttributes => Some("s3:GetObjectAttributes"),
        _ => None,
    };
    Actions {
        first: first_action(operation, versioned),
        second,
        others: request.map(others).unwrap_or_default(),
    }
}

/// What `request` does along the way.
fn others(request: &Request) -> Vec<&'static str> {
    let of_object = |tags: Option<&TagSet>, acl: Option<&AclRequest>, lock: &Lock| {
        vec![
            (tags.is_some_and(|tags| !tags.is_empty()), "s3:PutObjectTagging"),
            (acl.is_some(), "s3:PutObjectAcl"),
            (lock.retention.is_some(), "s3:PutObjectRetention"),
            (lock.legal_hold.is_some(), "s3:PutObjectLegalHold"),
        ]
    };
    let done = match request {
        Request::PutObject(put) => of_object(Some(&put.headers.tags), put.acl.as_ref(), &put.headers.lock),
        Request::CreateMultipartUpload(create) => {
            of_object(Some(&create.headers.tags), create.acl.as_ref(), &create.headers.lock)
        }
        Request::CopyObject(copy) => of_object(copy.replace_tags.as_ref(), copy.acl.as_ref(), &copy.lock),
        Request::CreateBucket(create) => vec![
            (create.acl.is_some(), "s3:PutBucketAcl"),
            (create.object_lock, "s3:PutBucketObjectLockConfiguration"),
            (create.object_lock, "s3:PutBucketVersioning"),
            (create.ownership.is_some(), "s3:PutBucketOwnershipControls"),
            // "You must have the s3:TagResource permission to create a general purpose bucket with tags".
            // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucketConfiguration.html>, Tags.)
            (!create.tags.is_empty(), "s3:TagResource"),
        ],
        _ => Vec::new(),
    };
    done.into_iter().filter(|(does, _)| *does).map(|(_, action)| action).collect()
}

/// What deleting an object is, with a version named or without.
pub fn delete_action(versioned: bool) -> &'static str {
    first_action(OperationName::DeleteObject, versioned)
}

/// What reading the source of a copy is.
pub fn read_action(versioned: bool) -> &'static str {
    first_action(OperationName::GetObject, versioned)
}

/// What reading the tags of a copy's source is.
pub fn read_tags_action(versioned: bool) -> &'static str {
    first_action(OperationName::GetObjectTagging, versioned)
}

fn first_action(operation: OperationName, versioned: bool) -> &'static str {
    use OperationName as O;
    let by_version = |version: &'static str, current: &'static str| if versioned { version } else { current };
    match operation {
        O::ListBuckets => "s3:ListAllMyBuckets",
        O::HeadBucket | O::ListObjects | O::ListObjectsV2 => "s3:ListBucket",
        O::ListObjectVersions => "s3:ListBucketVersions",
        O::ListMultipartUploads => "s3:ListBucketMultipartUploads",
        O::ListParts => "s3:ListMultipartUploadParts",
        O::GetObject | O::HeadObject | O::GetObjectAttributes => {
            by_version("s3:GetObjectVersion", "s3:GetObject")
        }
        O::GetObjectAcl => by_version("s3:GetObjectVersionAcl", "s3:GetObjectAcl"),
        O::PutObjectAcl => by_version("s3:PutObjectVersionAcl", "s3:PutObjectAcl"),
        O::GetObjectTagging => by_version("s3:GetObjectVersionTagging", "s3:GetObjectTagging"),
        O::PutObjectTagging => by_version("s3:PutObjectVersionTagging", "s3:PutObjectTagging"),
        O::DeleteObjectTagging => by_version("s3:DeleteObjectVersionTagging", "s3:DeleteObjectTagging"),
        O::GetObjectTorrent => by_version("s3:GetObjectVersionTorrent", "s3:GetObjectTorrent"),
        O::DeleteObject | O::DeleteObjects => by_version("s3:DeleteObjectVersion", "s3:DeleteObject"),
        O::PutObject
        | O::CopyObject
        | O::CreateMultipartUpload
        | O::UploadPart
        | O::UploadPartCopy
        | O::CompleteMultipartUpload
        | O::PostObject => "s3:PutObject",
        O::GetBucketCors => "s3:GetBucketCORS",
        O::PutBucketCors | O::DeleteBucketCors => "s3:PutBucketCORS",
        O::GetBucketLifecycle | O::GetBucketLifecycleConfiguration => "s3:GetLifecycleConfiguration",
        O::PutBucketLifecycle | O::PutBucketLifecycleConfiguration | O::DeleteBucketLifecycle => {
            "s3:PutLifecycleConfiguration"
        }
        O::GetBucketEncryption => "s3:GetEncryptionConfiguration",
        O::PutBucketEncryption | O::DeleteBucketEncryption => "s3:PutEncryptionConfiguration",
        O::GetBucketReplication => "s3:GetReplicationConfiguration",
        O::PutBucketReplication | O::DeleteBucketReplication => "s3:PutReplicationConfiguration",
        O::GetBucketAccelerateConfiguration => "s3:GetAccelerateConfiguration",
        O::PutBucketAccelerateConfiguration => "s3:PutAccelerateConfiguration",
        O::GetBucketNotificationConfiguration => "s3:GetBucketNotification",
        O::PutBucketNotificationConfiguration => "s3:PutBucketNotification",
        O::GetObjectLockConfiguration => "s3:GetBucketObjectLockConfiguration",
        O::PutObjectLockConfiguration => "s3:PutBucketObjectLockConfiguration",
        O::GetPublicAccessBlock => "s3:GetBucketPublicAccessBlock",
        O::PutPublicAccessBlock | O::DeletePublicAccessBlock => "s3:PutBucketPublicAccessBlock",
        O::DeleteBucketTagging => "s3:PutBucketTagging",
        O::DeleteBucketOwnershipControls => "s3:PutBucketOwnershipControls",
        other => other.policy_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Resource, Routed};
    use super::*;
    use crate::protocol::auth::PayloadMode;
    use crate::protocol::http::Headers;
    use crate::protocol::names::Query;

    fn first(operation: OperationName, versioned: bool) -> &'static str {
        actions(operation, versioned, None).first
    }

    /// What is done along the way of a request with these fields and this document.
    fn others(operation: OperationName, fields: &[(&str, &str)], document: &str) -> Vec<&'static str> {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
        let resource = match operation {
            OperationName::CreateBucket => Resource::Bucket { bucket: "bucket".into() },
            _ => Resource::Object { bucket: "bucket".into(), key: "k".into() },
        };
        let query = Query::parse("partNumber=1&uploadId=u").unwrap();
        let routed = Routed { operation, resource, query };
        let request =
            Request::parse(&routed, &headers, PayloadMode::Sha256([0; 32]), document.as_bytes()).unwrap();
        actions(operation, false, Some(&request)).others
    }

    #[test]
    fn a_version_is_another_action() {
        // To read, list, tag or delete a version that is named is another permission than to do so to the current one.
        assert_eq!(first(OperationName::GetObject, false), "s3:GetObject");
        assert_eq!(first(OperationName::HeadObject, true), "s3:GetObjectVersion");
        assert_eq!(first(OperationName::DeleteObject, true), "s3:DeleteObjectVersion");
        assert_eq!(first(OperationName::PutObjectTagging, true), "s3:PutObjectVersionTagging");
        assert_eq!(read_action(true), "s3:GetObjectVersion");
        assert_eq!(delete_action(false), "s3:DeleteObject");
    }

    #[test]
    fn every_operation_is_an_action() {
        // Those without a name of their own for it have that of the operation.
        for &operation in OperationName::ALL {
            assert!(first(operation, false).starts_with("s3:"), "{operation:?}");
        }
        assert_eq!(first(OperationName::GetBucketPolicy, false), "s3:GetBucketPolicy");
    }

    #[test]
    fn what_is_done_along_the_way() {
        // Tags, lists and locks of an object that is put; and nothing that a head says and nobody does.
        use OperationName as O;
        let fields =
            [("x-amz-tagging", "a=b"), ("x-amz-grant-read", "id=1"), ("x-amz-object-lock-legal-hold", "ON")];
        let all = ["s3:PutObjectTagging", "s3:PutObjectAcl", "s3:PutObjectLegalHold"];
        assert_eq!(others(O::PutObject, &fields, ""), all);
        assert_eq!(others(O::CreateMultipartUpload, &fields, ""), all);
        assert!(others(O::UploadPart, &fields, "").is_empty());
        let source = ("x-amz-copy-source", "bucket/source");
        let copy = [&fields[..], &[source]].concat();
        assert_eq!(others(O::CopyObject, &copy, ""), all[1..]);
        let copy = [&copy[..], &[("x-amz-tagging-directive", "REPLACE")]].concat();
        assert_eq!(others(O::CopyObject, &copy, ""), all);
        let lock = |value| [("x-amz-bucket-object-lock-enabled", value)];
        let both = ["s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning"];
        assert_eq!(others(O::CreateBucket, &lock("True"), ""), both);
        assert!(others(O::CreateBucket, &lock("false"), "").is_empty());
        let tags = "<CreateBucketConfiguration><Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags></CreateBucketConfiguration>";
        assert_eq!(others(O::CreateBucket, &[], tags), ["s3:TagResource"]);
        let attributes = actions(O::GetObjectAttributes, true, None);
        assert_eq!(attributes.second, Some("s3:GetObjectVersionAttributes"));
    }
}
