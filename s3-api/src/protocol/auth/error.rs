//! Why a request was not authenticated.

use super::claim::SignaturePlace;

/// What is wrong with a credential scope (`date/region/service/aws4_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScopeFault {
    /// Not five parts divided by slashes, or without an access key.
    Shape,
    /// The date is not the day of the request's time stamp.
    Date,
    /// The service is not `s3`.
    Service,
    /// The last part is not `aws4_request`.
    Terminator,
}

/// Why a request was not authenticated. Each variant names the S3 error it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Both an `Authorization` header and query authentication. S3: 400 `InvalidArgument`,
    /// "Only one auth mechanism allowed".
    #[error("more than one authentication mechanism")]
    MultipleMechanisms,
    /// The `Authorization` header is empty or names no scheme S3 knows. S3: 400 `InvalidArgument`,
    /// "Unsupported Authorization Type".
    #[error("unsupported authorization type")]
    UnsupportedAlgorithm,
    /// Signature Version 2, which boto3 still presigns with unless told `signature_version="s3v4"`. S3: 400 `InvalidRequest`, "The authorization mechanism you have provided is not
    /// supported. Please use AWS4-HMAC-SHA256."
    #[error("Signature Version 2 is not supported")]
    SignatureV2,
    /// Signature Version 4A (`AWS4-ECDSA-P256-SHA256`). S3: 501 `NotImplemented`.
    #[error("Signature Version 4A is not supported")]
    SignatureV4a,
    /// The header or the query parameters do not follow their grammar. S3: 400 `AuthorizationHeaderMalformed` for
    /// [`SignaturePlace::Header`], 400 `AuthorizationQueryParametersError` for [`SignaturePlace::Query`].
    #[error("malformed authentication")]
    Malformed {
        /// Where it stands.
        place: SignaturePlace,
    },
    /// The credential scope is wrong. S3 codes as for [`AuthError::Malformed`].
    #[error("wrong credential scope")]
    Scope {
        /// Where it stands.
        place: SignaturePlace,
        /// What is wrong with it.
        fault: ScopeFault,
    },
    /// One of the six query parameters that presigned requests need is missing. S3: 400
    /// `AuthorizationQueryParametersError`.
    #[error("incomplete query authentication")]
    QueryIncomplete,
    /// `X-Amz-Expires` is not a number from 1 to 604,800. S3: 400 `AuthorizationQueryParametersError`.
    #[error("X-Amz-Expires out of range")]
    BadExpires,
    /// Neither `x-amz-date` nor `Date`. S3: 403 `AccessDenied`, "AWS authentication requires a valid Date or
    /// x-amz-date header".
    #[error("missing date")]
    MissingDate,
    /// The date can not be read. S3: 403 `AccessDenied` in a header, 400 `AuthorizationQueryParametersError` in a query.
    #[error("malformed date")]
    MalformedDate {
        /// Where it stands.
        place: SignaturePlace,
    },
    /// Header authentication without `x-amz-content-sha256`. S3: 400 `InvalidRequest`, "Missing required header for
    /// this request: x-amz-content-sha256".
    #[error("missing x-amz-content-sha256")]
    MissingContentSha256,
    /// `x-amz-content-sha256` is neither a SHA-256 nor one of the words S3 defines. S3: 400 `InvalidArgument`,
    /// "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, … or a valid sha256 value."
    #[error("invalid x-amz-content-sha256")]
    InvalidContentSha256,
    /// A payload signed with ECDSA (`STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD` and its trailer form). S3: 501
    /// `NotImplemented`.
    #[error("unsupported payload signature")]
    UnsupportedPayload,
    /// A header that must be signed is not. S3: 403 `AccessDenied`, "There were headers present in the request which
    /// were not signed".
    #[error("a header is present that was not signed")]
    UnsignedHeader,
    /// The request's time is more than 15 minutes from the server's. S3: 403 `RequestTimeTooSkewed`.
    #[error("request time too skewed")]
    Skew,
    /// A presigned request after its end. S3: 403 `AccessDenied`, "Request has expired".
    #[error("request has expired")]
    Expired,
    /// A presigned request more than 15 minutes before its beginning. S3: 403 `AccessDenied`, "Request is not yet valid".
    #[error("request is not yet valid")]
    NotYetValid,
    /// The signature is not the one this secret makes. S3: 403 `SignatureDoesNotMatch`.
    #[error("signature does not match")]
    SignatureMismatch,
}
