//! What is the same on every device: which reads and writes are refused, and with which error.

use crate::layout::BLOCK_BYTES;
use crossdock_transport::operation::OsError;
use rustix::io::Errno;

pub(super) fn os_error(errno: Errno) -> OsError {
    OsError(errno.raw_os_error())
}

/// Whether a read may be posted; the count it will give at a device of `device_bytes`.
pub(super) fn check_read(offset: u64, bytes: usize, device_bytes: u64) -> Result<usize, OsError> {
    check_aligned(offset, bytes)?;
    let there = device_bytes.saturating_sub(offset);
    Ok(usize::try_from(there).unwrap_or(usize::MAX).min(bytes))
}

/// Whether a write may be posted to a device of `device_bytes`.
pub(super) fn check_write(offset: u64, bytes: usize, device_bytes: u64) -> Result<(), OsError> {
    check_aligned(offset, bytes)?;
    match offset.checked_add(bytes as u64) {
        Some(end) if end <= device_bytes => Ok(()),
        _ => Err(os_error(Errno::NOSPC)),
    }
}

fn check_aligned(offset: u64, bytes: usize) -> Result<(), OsError> {
    let aligned = offset.is_multiple_of(BLOCK_BYTES as u64) && bytes.is_multiple_of(BLOCK_BYTES);
    // A completion's count has 32 bits.
    if aligned && u32::try_from(bytes).is_ok() { Ok(()) } else { Err(os_error(Errno::INVAL)) }
}
