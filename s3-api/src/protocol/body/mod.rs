//! Request bodies: framing taken off in place, digests computed and compared.
//!
//! ```text
//!   wire bytes, received behind the payload so far
//!        │  BodyDecoder        Content-Length or chunked outside, aws-chunked inside or not
//!        ▼
//!   payload bytes, contiguous ─► BodyVerifier   MD5, SHA-256 and checksum, only those asked for
//! ```
//!
//! Specification: *Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks* and
//! *Including Trailing Headers*, <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>.
//!
//! Invariants: payload is handed out before the last signature or digest over it was checked, so nothing may be
//! committed before [`BodyDecoder::is_finished`] and [`BodyVerifier::finish`] agree; memory beyond the caller's
//! buffer is a few KiB whatever the peer sends; the result does not depend on how the input was cut.

mod aws_chunked;
mod decoder;
mod encoder;
mod error;
mod verifier;

pub use super::auth::PayloadMode;
pub use aws_chunked::strip_aws_chunked;
pub use decoder::{BodyDecoder, Step};
pub use encoder::AwsChunkedEncoder;
pub use error::BodyError;
pub use verifier::{BodyVerifier, DigestError, DigestPlan, Digests, Expectations};

#[cfg(test)]
mod tests;
