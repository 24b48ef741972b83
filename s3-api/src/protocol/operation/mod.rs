//! Operations: which one a request asks for, and what it asks.
//!
//! ```text
//!   RequestHead ─► Resource ─► route ─► Routed ─► (body, if the operation takes a document) ─► Request
//! ```
//!
//! Invariant: what is not understood and would change the outcome is refused, never ignored.

mod action;
mod bucket;
mod configuration;
mod copy;
mod listing;
mod multipart;
mod name;
mod object;
mod refused;
mod request;
mod resource;
mod route;
#[cfg(test)]
mod tests;

pub use action::{Actions, actions, delete_action, read_action, read_tags_action};
pub use bucket::{
    BucketSetting, CreateBucket, DeleteBucket, GetBucketLocation, GetBucketSetting, GetBucketVersioning,
    GetObjectSetting, HeadBucket, KeepBucketSetting, ObjectSetting, PutBucketVersioning,
};
pub use configuration::{
    ChangeObject, DeleteBucketDocument, DocumentKind, GetBucketDocument, ObjectChange, PutAcl,
    PutBucketDocument,
};
pub use copy::{CopyObject, CopySource, UploadPartCopy};
pub use listing::{
    ListBuckets, ListMultipartUploads, ListObjectVersions, ListObjects, ListObjectsV2, ListParts,
    ListPosition, ListQuery, PAGE_ENTRIES_MAX, parse_upload_marker, upload_marker,
};
pub use multipart::{AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, UploadPart};
pub use name::OperationName;
pub use object::{
    AttributeSet, DeleteObject, DeleteObjects, GetObjectAttributes, PutObject, ReadObject, ResponseOverrides,
};
pub use refused::{check_expected_owner, check_headers};
pub use request::Request;
pub use resource::Resource;
pub use route::{Routed, route};
