//! The names of all operations.

use crate::protocol::xml::{
    CompletedMultipartUpload, CreateBucketConfiguration, Delete, VersioningConfiguration,
};

macro_rules! operations {
    ($($name:ident,)*) => {
        /// An operation of the S3 API.
        ///
        /// The 116 operations of the API as the AWS SDKs describe it in November 2026, and PostObject, which browsers
        /// send without an SDK; names as there
        /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum OperationName {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                $name,
            )*
        }

        impl OperationName {
            /// Every operation, by name.
            pub const ALL: &'static [OperationName] = &[$(OperationName::$name),*];

            /// The name, as in the API reference and in policies behind `s3:`.
            pub const fn as_str(self) -> &'static str {
                match self { $(OperationName::$name => stringify!($name),)* }
            }

            /// The name as policies have it where they have no other: behind `s3:`.
            pub(super) const fn policy_name(self) -> &'static str {
                match self { $(OperationName::$name => concat!("s3:", stringify!($name)),)* }
            }
        }
    };
}

operations! {
    AbortMultipartUpload,
    CompleteMultipartUpload,
    CopyObject,
    CreateBucket,
    CreateBucketMetadataConfiguration,
    CreateBucketMetadataTableConfiguration,
    CreateMultipartUpload,
    CreateSession,
    DeleteBucket,
    DeleteBucketAnalyticsConfiguration,
    DeleteBucketCors,
    DeleteBucketEncryption,
    DeleteBucketIntelligentTieringConfiguration,
    DeleteBucketInventoryConfiguration,
    DeleteBucketLifecycle,
    DeleteBucketMetadataConfiguration,
    DeleteBucketMetadataTableConfiguration,
    DeleteBucketMetricsConfiguration,
    DeleteBucketOwnershipControls,
    DeleteBucketPolicy,
    DeleteBucketReplication,
    DeleteBucketTagging,
    DeleteBucketWebsite,
    DeleteObject,
    DeleteObjectAnnotation,
    DeleteObjectTagging,
    DeleteObjects,
    DeletePublicAccessBlock,
    GetBucketAbac,
    GetBucketAccelerateConfiguration,
    GetBucketAcl,
    GetBucketAnalyticsConfiguration,
    GetBucketCors,
    GetBucketEncryption,
    GetBucketIntelligentTieringConfiguration,
    GetBucketInventoryConfiguration,
    GetBucketLifecycle,
    GetBucketLifecycleConfiguration,
    GetBucketLocation,
    GetBucketLogging,
    GetBucketMetadataConfiguration,
    GetBucketMetadataTableConfiguration,
    GetBucketMetricsConfiguration,
    GetBucketNotification,
    GetBucketNotificationConfiguration,
    GetBucketOwnershipControls,
    GetBucketPolicy,
    GetBucketPolicyStatus,
    GetBucketReplication,
    GetBucketRequestPayment,
    GetBucketTagging,
    GetBucketVersioning,
    GetBucketWebsite,
    GetObject,
    GetObjectAcl,
    GetObjectAnnotation,
    GetObjectAttributes,
    GetObjectLegalHold,
    GetObjectLockConfiguration,
    GetObjectRetention,
    GetObjectTagging,
    GetObjectTorrent,
    GetPublicAccessBlock,
    HeadBucket,
    HeadObject,
    ListBucketAnalyticsConfigurations,
    ListBucketIntelligentTieringConfigurations,
    ListBucketInventoryConfigurations,
    ListBucketMetricsConfigurations,
    ListBuckets,
    ListDirectoryBuckets,
    ListMultipartUploads,
    ListObjectAnnotations,
    ListObjectVersions,
    ListObjects,
    ListObjectsV2,
    ListParts,
    PostObject,
    PutBucketAbac,
    PutBucketAccelerateConfiguration,
    PutBucketAcl,
    PutBucketAnalyticsConfiguration,
    PutBucketCors,
    PutBucketEncryption,
    PutBucketIntelligentTieringConfiguration,
    PutBucketInventoryConfiguration,
    PutBucketLifecycle,
    PutBucketLifecycleConfiguration,
    PutBucketLogging,
    PutBucketMetricsConfiguration,
    PutBucketNotification,
    PutBucketNotificationConfiguration,
    PutBucketOwnershipControls,
    PutBucketPolicy,
    PutBucketReplication,
    PutBucketRequestPayment,
    PutBucketTagging,
    PutBucketVersioning,
    PutBucketWebsite,
    PutObject,
    PutObjectAcl,
    PutObjectAnnotation,
    PutObjectLegalHold,
    PutObjectLockConfiguration,
    PutObjectRetention,
    PutObjectTagging,
    PutPublicAccessBlock,
    RenameObject,
    RestoreObject,
    SelectObjectContent,
    UpdateBucketMetadataAnnotationTableConfiguration,
    UpdateBucketMetadataInventoryTableConfiguration,
    UpdateBucketMetadataJournalTableConfiguration,
    UpdateObjectEncryption,
    UploadPart,
    UploadPartCopy,
    WriteGetObjectResponse,
}

impl OperationName {
    /// The older name of an operation that is the same on the wire, if it has one: those four have no route of their own.
    pub const fn legacy_name(self) -> Option<OperationName> {
        match self {
            OperationName::GetBucketLifecycleConfiguration => Some(OperationName::GetBucketLifecycle),
            OperationName::PutBucketLifecycleConfiguration => Some(OperationName::PutBucketLifecycle),
            OperationName::GetBucketNotificationConfiguration => Some(OperationName::GetBucketNotification),
            OperationName::PutBucketNotificationConfiguration => Some(OperationName::PutBucketNotification),
            _ => None,
        }
    }

    /// The longest XML document this operation takes as its body, in bytes; `None` if its body, if any, is not XML
    /// for the protocol layer to read.
    pub const fn document_bytes_max(self) -> Option<usize> {
        match self {
            OperationName::CompleteMultipartUpload => Some(CompletedMultipartUpload::BYTES_MAX),
            OperationName::CreateBucket => Some(CreateBucketConfiguration::BYTES_MAX),
            OperationName::DeleteObjects => Some(Delete::BYTES_MAX),
            OperationName::PutBucketVersioning => Some(VersioningConfiguration::BYTES_MAX),
            other => super::configuration::document_bytes_max(other),
        }
    }

    /// Whether the body is the bytes of an object or a part.
    pub const fn takes_object_body(self) -> bool {
        matches!(self, OperationName::PutObject | OperationName::UploadPart)
    }

    /// Whether its work may outlast a client's patience, so that the reply may have to begin before it is done.
    ///
    /// "The processing of a CompleteMultipartUpload request could take several minutes to finalize. After Amazon S3 begins processing the
    /// request, it sends an HTTP response header that specifies a 200 OK response. While processing is in progress, Amazon S3
    /// periodically sends white space characters to keep the connection from timing out. A request could fail after the initial 200 OK
    /// response has been sent."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>.) "If the error occurs during the copy
    /// operation, the error response is embedded in the 200 OK response."
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>, "Response and special errors"; the same of
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html>.) SDKs look into 200s of these three, and of no others.
    pub const fn may_take_long(self) -> bool {
        matches!(
            self,
            OperationName::CompleteMultipartUpload
                | OperationName::CopyObject
                | OperationName::UploadPartCopy
        )
    }

    /// Whether it changes anything.
    pub fn is_write(self) -> bool {
        !["Get", "Head", "List", "Select"].iter().any(|verb| self.as_str().starts_with(verb))
    }
}
