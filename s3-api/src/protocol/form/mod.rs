//! Uploads from browsers: a form with a policy that says what it may hold, and a signature over the policy.
//!
//! ```text
//!   multipart/form-data ─► FormHead: fields, up to the file ─► FormPolicy::check ─► FileScanner: the file's bytes, up to its boundary
//! ```
//!
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html>; the policy:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html>.)
//!
//! Invariants: nothing of the file is kept before the policy held; of the fields no more than [`FIELDS_BYTES_MAX`] are kept; a
//! field that the policy does not name is refused.

mod fields;
mod policy;
mod signature;

pub use fields::{FIELDS_BYTES_MAX, FileScanner, FormHead, boundary_of};
pub use policy::FormPolicy;
pub use signature::FormSignature;
