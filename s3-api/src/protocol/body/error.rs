//! Why a body was refused.

use super::super::checksum::Algorithm;
use super::super::http::ChunkedError;

/// Why a body was refused. The object must not be stored, and the connection must be closed after the reply: where
/// the next request begins is unknown. Each variant names the S3 error it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The chunked transfer coding is malformed. S3: 400 `InvalidRequest`.
    #[error(transparent)]
    Transfer(#[from] ChunkedError),
    /// An aws-chunked body has neither `Content-Length` nor `Transfer-Encoding: chunked`. S3: 411 `MissingContentLength`.
    #[error("aws-chunked body without a length")]
    MissingLength,
    /// `x-amz-decoded-content-length` is missing. S3: 411 `MissingContentLength`.
    #[error("missing x-amz-decoded-content-length")]
    MissingDecodedLength,
    /// `x-amz-decoded-content-length` is no decimal number, or came twice. S3: 400 `InvalidArgument`.
    #[error("invalid x-amz-decoded-content-length")]
    InvalidDecodedLength,
    /// `x-amz-trailer` with a payload mode that has no trailer. S3: 400 `InvalidRequest`.
    #[error("x-amz-trailer without a trailer payload mode")]
    TrailerWithoutMode,
    /// An aws-chunked size line or chunk does not follow the grammar. S3: 400 `IncompleteBody`.
    #[error("malformed aws-chunked framing")]
    MalformedChunk,
    /// A chunk's signature is missing or wrong. S3: 403 `SignatureDoesNotMatch`.
    #[error("chunk signature does not match")]
    ChunkSignature,
    /// The chunks hold more or fewer bytes than `x-amz-decoded-content-length` says. S3: 400 `IncompleteBody`.
    #[error("the decoded length differs from x-amz-decoded-content-length")]
    DecodedLength,
    /// The body ended too early. S3: 400 `IncompleteBody`.
    #[error("the body ended too early")]
    Incomplete,
    /// A trailer field does not follow the grammar, came twice, or the trailer is too long. S3: 400
    /// `MalformedTrailerError`.
    #[error("malformed trailer")]
    MalformedTrailer,
    /// A trailer field came that `x-amz-trailer` did not announce. S3: 400 `MalformedTrailerError`.
    #[error("unannounced trailer")]
    UnannouncedTrailer,
    /// The trailer field that `x-amz-trailer` announced did not come. S3: 400 `MalformedTrailerError`.
    #[error("announced trailer missing")]
    MissingTrailer,
    /// The value of a trailing checksum is no base64 of the right length. S3: 400 `InvalidRequest`.
    #[error("the value of trailer {} is invalid", .0.header())]
    InvalidTrailerValue(Algorithm),
    /// The trailer's signature is missing or wrong. S3: 403 `SignatureDoesNotMatch`.
    #[error("trailer signature does not match")]
    TrailerSignature,
}
