//! What policies call an operation.
//!
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>; each operation's page in the API
//! reference, "Permissions".)

use super::OperationName;
use crate::protocol::http::Headers;
use crate::protocol::names::Query;

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

/// The actions that `operation` is.
pub fn actions(operation: OperationName, query: &Query, headers: &Headers) -> Actions {
    let versioned = query.contains("versionId");
    let first = first_action(operation, versioned);
    let mut others = Vec::new();
    let has = |name: &str| headers.contains(name);
    let grants = headers.iter().any(|(name, _)| name.starts_with("x-amz-grant-"));
    let writes = matches!(
        operation,
        OperationName::PutObject | OperationName::CopyObject | OperationName::CreateMultipartUpload
    );
    if writes {
        if has("x-amz-tagging") {
            others.push("s3:PutObjectTagging");
        }
        if has("x-amz-acl") || grants {
            others.push("s3:PutObjectAcl");
        }
        if has("x-amz-object-lock-mode") || has("x-amz-object-lock-retain-until-date") {
            others.push("s3:PutObjectRetention");
        }
        if has("x-amz-object-lock-legal-hold") {
            others.push("s3:PutObjectLegalHold");
        }
    }
    if operation == OperationName::CreateBucket {
        if has("x-amz-acl") || grants {
            others.push("s3:PutBucketAcl");
        }
        if has("x-amz-bucket-object-lock-enabled") {
            others.push("s3:PutBucketObjectLockConfiguration");
            others.push("s3:PutBucketVersioning");
        }
        if has("x-amz-object-ownership") {
            others.push("s3:PutBucketOwnershipControls");
        }
    }
    // "If you pass a version ID in your request, you need both the s3:GetObjectVersion and s3:GetObjectVersionAttributes permissions. If
    // you do not pass a version ID in your request, you need the s3:GetObject and s3:GetObjectAttributes permissions."
    // (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html>, "Permissions".)
    let second = match operation {
        OperationName::GetObjectAttributes if versioned => Some("s3:GetObjectVersionAttributes"),
        OperationName::GetObjectAttributes => Some("s3:GetObjectAttributes"),
        _ => None,
    };
    Actions { first, second, others }
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
    use super::*;

    fn of(operation: OperationName, query: &str, fields: &[(&str, &str)]) -> Actions {
        let mut headers = Headers::default();
        fields.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
        actions(operation, &Query::parse(query).unwrap(), &headers)
    }

    #[test]
    fn a_version_is_another_action() {
        // To read, list, tag or delete a version that is named is another permission than to do so to the current one.
        assert_eq!(of(OperationName::GetObject, "", &[]).first, "s3:GetObject");
        assert_eq!(of(OperationName::HeadObject, "versionId=1", &[]).first, "s3:GetObjectVersion");
        assert_eq!(of(OperationName::DeleteObject, "versionId=1", &[]).first, "s3:DeleteObjectVersion");
        assert_eq!(
            of(OperationName::PutObjectTagging, "versionId=1", &[]).first,
            "s3:PutObjectVersionTagging"
        );
        assert_eq!(read_action(true), "s3:GetObjectVersion");
        assert_eq!(delete_action(false), "s3:DeleteObject");
    }

    #[test]
    fn every_operation_is_an_action() {
        // Those without a name of their own for it have that of the operation.
        for &operation in OperationName::ALL {
            assert!(of(operation, "", &[]).first.starts_with("s3:"), "{operation:?}");
        }
        assert_eq!(of(OperationName::GetBucketPolicy, "", &[]).first, "s3:GetBucketPolicy");
    }

    #[test]
    fn what_is_done_along_the_way() {
        // Tags, lists and locks of an object that is put.
        let fields =
            [("x-amz-tagging", "a=b"), ("x-amz-grant-read", "id=1"), ("x-amz-object-lock-legal-hold", "ON")];
        let found = of(OperationName::PutObject, "", &fields);
        assert_eq!(found.others, ["s3:PutObjectTagging", "s3:PutObjectAcl", "s3:PutObjectLegalHold"]);
        assert!(of(OperationName::UploadPart, "", &fields).others.is_empty());
        let attributes = of(OperationName::GetObjectAttributes, "versionId=1", &[]);
        assert_eq!(attributes.second, Some("s3:GetObjectVersionAttributes"));
    }
}
