//! What a client is told of the engine's failures.

use crate::protocol::conditions::WriteConditions;
use crate::protocol::error::{ErrorCode, S3Error};
use crossdock::Error;

/// The S3 error that stands for an engine's error. What is wrong inside goes to the log, not to the client.
pub(crate) fn failure(error: Error) -> S3Error {
    use ErrorCode as C;
    match error {
        Error::NoSuchBucket => C::NoSuchBucket.into(),
        Error::BucketExists => C::BucketAlreadyOwnedByYou.into(),
        Error::BucketNotEmpty => C::BucketNotEmpty.into(),
        Error::NoSuchKey | Error::DeleteMarker(_) => C::NoSuchKey.into(),
        Error::NoSuchVersion => C::NoSuchVersion.into(),
        Error::NoSuchUpload => C::NoSuchUpload.into(),
        Error::InvalidPart(number) => S3Error::new(C::InvalidPart).field("PartNumber", number.to_string()),
        Error::InvalidPartOrder => C::InvalidPartOrder.into(),
        Error::ConditionFailed => C::PreconditionFailed.into(),
        Error::Changed => C::OperationAborted.into(),
        Error::RangeNotSatisfiable { size } => {
            S3Error::new(C::InvalidRange).field("ActualObjectSize", size.to_string())
        }
        Error::InvalidArgument(what) => S3Error::with_message(C::InvalidArgument, what),
        Error::Busy(_) => C::SlowDown.into(),
        // S3 has no word for a full store: what clients understand is that it is no fault of theirs, and to come back.
        Error::Full { .. } => {
            S3Error::with_message(C::ServiceUnavailable, "There is no space left in the store.")
        }
        Error::ReadOnly { .. } | Error::ShardUnavailable { .. } | Error::Closed => {
            C::ServiceUnavailable.into()
        }
        Error::Corrupt(_) | Error::Device(_) | Error::OutcomeUnknown(_) => {
            tracing::error!(%error, "a request failed");
            C::InternalError.into()
        }
        _ => {
            tracing::error!(%error, "a request failed");
            C::InternalError.into()
        }
    }
}

/// The same of a write under `conditions`: if one failed, it is named, as clients tell "exists already" from "changed" by it.
pub(crate) fn conditional_failure(conditions: &WriteConditions, error: Error) -> S3Error {
    match (error, conditions.header()) {
        (Error::ConditionFailed, Some(header)) => S3Error::precondition_failed(header),
        (error, _) => failure(error),
    }
}
