//! The one function that copies payload, and how much it copied.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why payload was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyReason {
    /// An object so small that it lies in the index.
    Inline,
    /// A small object that shares blocks of the log with others.
    Packed,
    /// Framing had to be cut out of a received body.
    Framing,
    /// Bytes that came behind a request's head, or the ragged edge of a range.
    Edge,
    /// The bytes were not in a lease to begin with.
    Foreign,
}

const REASONS: usize = 5;

static COPIED: [AtomicU64; REASONS] = [const { AtomicU64::new(0) }; REASONS];

/// Copies payload and counts it.
///
/// # Panics
/// If the lengths differ.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn copy_payload(target: &mut [u8], source: &[u8], reason: CopyReason) {
    target.copy_from_slice(source);
    COPIED[reason as usize].fetch_add(source.len() as u64, Ordering::Relaxed);
}

/// Bytes copied for `reason` in this process so far.
pub fn copied_bytes(reason: CopyReason) -> u64 {
    COPIED[reason as usize].load(Ordering::Relaxed)
}
