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
    /// The kernel has no RDMA, or has not loaded it.
    #[error(
        "the kernel has no RDMA, or has not loaded it ({source}): load ib_uverbs and the driver of the card, \
         or rdma_rxe, which makes one of software; where this is a container, on its host"
    )]
    NoKernel {
        /// What libibverbs says.
        source: io::Error,
    },
    /// The kernel has RDMA, and no device.
    #[error(
        "this host has no RDMA device: load the driver of the card, \
         or make one of software (rdma link add rxe0 type rxe netdev INTERFACE)"
    )]
    NoDevice,
    /// The kernel has the device, and does not let this process have it.
    #[error("the RDMA device {device} cannot be opened ({source}){}", advice(source))]
    NotOpened {
        /// Its name.
        device: String,
        /// What libibverbs says.
        source: io::Error,
    },
    /// There is no port that may be used; what there is.
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

/// What to do about a device that cannot be opened.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ": a container has to be given /dev/infiniband",
        io::ErrorKind::PermissionDenied => {
            ": this user has to be allowed to read and write /dev/infiniband/uverbs*"
        }
        _ => "",
    }
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
            RdmaError::Device { source, .. }
            | RdmaError::NoKernel { source }
            | RdmaError::NotOpened { source, .. } => {
                source.raw_os_error().map_or(TransferError::Ended, |number| OsError(number).into())
            }
            RdmaError::Unavailable(_) | RdmaError::NoDevice | RdmaError::NoRail(_) => TransferError::Ended,
        }
    }
}

impl From<RdmaError> for io::Error {
    fn from(error: RdmaError) -> io::Error {
        let kind = match &error {
            RdmaError::Unavailable(_) | RdmaError::NoKernel { .. } => io::ErrorKind::Unsupported,
            RdmaError::NoDevice | RdmaError::NoRail(_) => io::ErrorKind::NotFound,
            RdmaError::Device { source, .. } | RdmaError::NotOpened { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}
