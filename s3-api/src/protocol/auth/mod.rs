//! Who sent a request: AWS Signature Version 4 for S3, checked and made.
//!
//! ```text
//!   RequestHead ─► authenticate ─┬─► Anonymous
//!                                └─► Claim ─► (caller looks the secret up) ─► verify ─► Verified
//!                                                                                        ├ PayloadMode
//!                                                                                        └ ChunkSigner
//!   presigned and verified ─► adopt_parameters: x-amz-* in the query become headers
//!   RequestHead ─► Signer::sign_header / Signer::presign ─► the same head, signed
//! ```
//!
//! Specification: *Authenticating Requests (AWS Signature Version 4)*, Amazon S3 API Reference,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>.
//!
//! Invariants:
//!
//! * No clock: "now" is an argument, in seconds since 1970-01-01T00:00:00Z.
//! * A signature is compared in constant time, and only inside [`SigningKey`].
//! * Keys and secrets never appear in `Debug` output.
//! * The path and query are taken from the raw head, so that what is checked is what was sent.
//! * Signature Version 2 and 4A are recognised and refused, never taken for anonymous.

mod canonical;
mod claim;
mod encoding;
mod error;
mod key;
mod parameters;
mod payload;
mod sign;
mod timestamp;
mod verify;

pub use canonical::{canonical_request, string_to_sign};
pub(crate) use claim::scope_of_credential;
pub use claim::{Authentication, Claim, SignaturePlace, authenticate};
pub use encoding::{encode_path, encode_query, percent_decode};
pub use error::{AuthError, ScopeFault};
pub use key::{ChunkSigner, Scope, Signature, SigningKey};
pub use parameters::adopt_parameters;
pub use payload::PayloadMode;
pub use sign::Signer;
pub use timestamp::Timestamp;
pub use verify::{SKEW_SECONDS_MAX, Signed, Verified, verify, verify_with_key};

/// SHA-256 of no bytes, in hexadecimal: the `x-amz-content-sha256` of a request without a body.
pub const EMPTY_SHA256_HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[cfg(test)]
mod tests;
