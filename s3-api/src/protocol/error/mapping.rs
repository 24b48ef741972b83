//! Refusals of the layers below, as S3 errors. Each variant's own comment names the S3 error it stands for.

use super::{ErrorCode, S3Error};
use crate::protocol::auth::{AuthError, ScopeFault, SignaturePlace};
use crate::protocol::body::{BodyError, DigestError};
use crate::protocol::checksum::ChecksumError;
use crate::protocol::http::{FramingError, HeadError};

fn malformed(place: SignaturePlace) -> ErrorCode {
    match place {
        SignaturePlace::Header => ErrorCode::AuthorizationHeaderMalformed,
        SignaturePlace::Query => ErrorCode::AuthorizationQueryParametersError,
    }
}

impl From<AuthError> for S3Error {
    fn from(error: AuthError) -> Self {
        use ErrorCode as C;
        let say = S3Error::with_message;
        match error {
            AuthError::MultipleMechanisms => {
                say(C::InvalidArgument, "Only one authentication mechanism is allowed.")
            }
            AuthError::UnsupportedAlgorithm => say(C::InvalidArgument, "Unsupported Authorization Type"),
            AuthError::SignatureV2 => say(
                C::InvalidRequest,
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            ),
            AuthError::SignatureV4a => say(C::NotImplemented, "Signature Version 4A is not implemented."),
            AuthError::Malformed { place } => malformed(place).into(),
            AuthError::Scope { place, fault } => say(
                malformed(place),
                match fault {
                    ScopeFault::Shape => "The credential must be access-key/date/region/s3/aws4_request.",
                    ScopeFault::Date => "The date of the credential is not the date of the request.",
                    ScopeFault::Service => "The service of the credential must be s3.",
                    ScopeFault::Terminator => "The credential must end with aws4_request.",
                },
            ),
            AuthError::QueryIncomplete => say(
                C::AuthorizationQueryParametersError,
                "A presigned request needs X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, \
                 X-Amz-SignedHeaders and X-Amz-Expires.",
            ),
            AuthError::BadExpires => say(
                C::AuthorizationQueryParametersError,
                "X-Amz-Expires must be a number of seconds from 1 to 604800.",
            ),
            AuthError::MissingDate => {
                say(C::AccessDenied, "Authentication requires a valid Date or x-amz-date header.")
            }
            AuthError::MalformedDate { place: SignaturePlace::Header } => {
                say(C::AccessDenied, "The date of the request can not be read.")
            }
            AuthError::MalformedDate { place: SignaturePlace::Query } => {
                say(C::AuthorizationQueryParametersError, "X-Amz-Date must be like 20130524T000000Z.")
            }
            AuthError::MissingContentSha256 => {
                say(C::InvalidRequest, "Missing required header for this request: x-amz-content-sha256")
            }
            AuthError::InvalidContentSha256 => say(
                C::InvalidArgument,
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- mode or a valid sha256 value.",
            ),
            AuthError::UnsupportedPayload => {
                say(C::NotImplemented, "Payloads signed with ECDSA are not implemented.")
            }
            AuthError::UnsignedHeader => {
                say(C::AccessDenied, "There were headers present in the request which were not signed")
            }
            AuthError::Skew => C::RequestTimeTooSkewed.into(),
            AuthError::Expired => say(C::AccessDenied, "Request has expired"),
            AuthError::NotYetValid => say(C::AccessDenied, "Request is not yet valid"),
            AuthError::SignatureMismatch => C::SignatureDoesNotMatch.into(),
        }
    }
}

impl From<BodyError> for S3Error {
    fn from(error: BodyError) -> Self {
        use ErrorCode as C;
        let code = match error {
            BodyError::Transfer(_) | BodyError::TrailerWithoutMode | BodyError::InvalidTrailerValue(_) => {
                C::InvalidRequest
            }
            BodyError::MissingLength | BodyError::MissingDecodedLength => C::MissingContentLength,
            BodyError::InvalidDecodedLength => C::InvalidArgument,
            BodyError::MalformedChunk | BodyError::DecodedLength | BodyError::Incomplete => C::IncompleteBody,
            BodyError::ChunkSignature | BodyError::TrailerSignature => C::SignatureDoesNotMatch,
            BodyError::MalformedTrailer | BodyError::UnannouncedTrailer | BodyError::MissingTrailer => {
                C::MalformedTrailer
            }
        };
        S3Error::with_message(code, error.to_string())
    }
}

impl From<ChecksumError> for S3Error {
    fn from(error: ChecksumError) -> Self {
        let code = match error {
            ChecksumError::UnsupportedAlgorithm => ErrorCode::NotImplemented,
            _ => ErrorCode::InvalidRequest,
        };
        S3Error::with_message(code, error.to_string())
    }
}

impl From<DigestError> for S3Error {
    fn from(error: DigestError) -> Self {
        let code = match error {
            DigestError::InvalidContentMd5 => ErrorCode::InvalidDigest,
            DigestError::ContentMd5 | DigestError::Checksum(_) => ErrorCode::BadDigest,
            DigestError::ContentSha256 => ErrorCode::XAmzContentSha256Mismatch,
            DigestError::MissingTrailer => ErrorCode::MalformedTrailer,
            DigestError::NotSupplied => return ErrorCode::InternalError.into(),
        };
        S3Error::with_message(code, error.to_string())
    }
}

/// The reply must carry [`HeadError::status`], which HTTP defines more finely than S3's codes do.
impl From<HeadError> for S3Error {
    fn from(error: HeadError) -> Self {
        use FramingError as F;
        let code = match error {
            HeadError::Method => ErrorCode::MethodNotAllowed,
            HeadError::Target | HeadError::TargetTooLong => ErrorCode::InvalidUri,
            HeadError::Framing(F::UnsupportedTransferEncoding) => ErrorCode::NotImplemented,
            HeadError::Framing(F::InvalidContentLength) => ErrorCode::InvalidArgument,
            HeadError::Framing(_) => ErrorCode::InvalidRequest,
            _ => ErrorCode::BadRequest,
        };
        S3Error::with_message(code, error.to_string())
    }
}
