//! XML as S3 speaks it: a reader for the documents of requests, a writer for replies.
//!
//! Documents are UTF-8, start with a declaration and carry one namespace, S3's own.

mod reader;
mod requests;
mod writer;

pub use reader::XmlReader;
pub use requests::{
    CompletedMultipartUpload, CompletedPart, CreateBucketConfiguration, DELETE_KEYS_MAX, Delete,
    ObjectIdentifier, PARTS_MAX, VersioningConfiguration, VersioningStatus,
};
pub use writer::{DECLARATION, XmlWriter};

/// The namespace of every S3 document except `Error`.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>, Response Syntax.)
pub const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
