//! Why something of RDMA did not work.

use super::library::Unavailable;
use crate::{operation::OsError, remote::TransferError};
use std::{ffi::c_int, io};

/// Why RDMA cannot be had, or a device refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RdmaError {
    /// Not in this process.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// There is no device, or none that may be used and has a link; what there is.
    #[error("no RDMA device to use: {0}")]
    NoRail(String),
    /// The kernel or the device refused: what was tried, and its answer.
    #[error("{what}: {source}")]
    Device {
        /// What was tried: the verb.
        what: &'static str,
        /// The answer.
        source: io::Error,
    },
}

impl RdmaError {
    /// The verb's name, and the error number that it returned.
    pub(super) fn verb(what: &'static str, number: c_int) -> RdmaError {
        RdmaError::Device { what, source: io::Error::from_raw_os_error(number) }
    }

    /// The verb's name, and `errno`.
    pub(super) fn last(what: &'static str) -> RdmaError {
        RdmaError::Device { what, source: io::Error::last_os_error() }
    }
}

impl From<RdmaError> for TransferError {
    /// Of a queue pair that could not be connected: what its operations come to.
    fn from(error: RdmaError) -> TransferError {
        match error {
            RdmaError::Device { source, .. } => {
                source.raw_os_error().map_or(TransferError::Ended, |number| OsError(number).into())
            }
            RdmaError::Unavailable(_) | RdmaError::NoRail(_) => TransferError::Ended,
        }
    }
}

impl From<RdmaError> for io::Error {
    fn from(error: RdmaError) -> io::Error {
        let kind = match &error {
            RdmaError::Unavailable(_) => io::ErrorKind::Unsupported,
            RdmaError::NoRail(_) => io::ErrorKind::NotFound,
            RdmaError::Device { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}
