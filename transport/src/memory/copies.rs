//! The one function that copies payload, and its counters.
//!
//! How often the bytes of an object are copied is a promise of this project, so it is counted where it happens and
//! asserted in tests. Copies are counted in one of a few cells by thread, because cores must not fight over a counter; and for the thread
//! itself, so that a test can look at what it did beside others.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Why payload was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyReason {
    /// A small object that lives in the index.
    Inline,
    /// A small object that is packed beside others.
    Packed,
    /// Payload mixed with framing (chunked bodies), which has to be separated.
    Framing,
    /// The unaligned head or tail of a range.
    Edge,
    /// From or to memory of somebody who is not trusted to leave it alone.
    Foreign,
    /// Through a layer of encryption, which keeps records of its own.
    Record,
}

const REASON_COUNT: usize = 6;
const CELL_COUNT: usize = 32;

/// One thread's counters, on cache lines of their own (128: adjacent lines are fetched in pairs).
#[repr(align(128))]
struct Cells([AtomicU64; REASON_COUNT]);

static COPIED: [Cells; CELL_COUNT] =
    [const { Cells([const { AtomicU64::new(0) }; REASON_COUNT]) }; CELL_COUNT];
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// What a thread counts in.
struct Own {
    cell: usize,
    copied: [Cell<u64>; REASON_COUNT],
}

thread_local! {
    static OWN: Own = Own {
        cell: THREADS.fetch_add(1, Ordering::Relaxed) % CELL_COUNT,
        copied: [const { Cell::new(0) }; REASON_COUNT],
    };
}

/// Copies payload and counts it under `reason`.
///
/// # Panics
/// If the lengths differ.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn copy_payload(target: &mut [u8], source: &[u8], reason: CopyReason) {
    assert_eq!(target.len(), source.len(), "payload is copied whole");
    target.copy_from_slice(source);
    count_copied(source.len(), reason);
}

/// Counts payload that was copied by other means than [`copy_payload`]: memory shared with another process is never a slice,
/// so the transport that has it mapped copies by itself, and a cipher writes elsewhere than it reads.
pub fn count_copied(bytes: usize, reason: CopyReason) {
    let own = |own: &Own| {
        let copied = &own.copied[reason as usize];
        copied.set(copied.get() + bytes as u64);
        own.cell
    };
    // A thread that is being torn down counts in the first cell.
    let cell = OWN.try_with(own).unwrap_or(0);
    COPIED[cell].0[reason as usize].fetch_add(bytes as u64, Ordering::Relaxed);
}

/// Bytes that the calling thread has copied so far for `reason`.
pub fn copied_bytes_here(reason: CopyReason) -> u64 {
    OWN.with(|own| own.copied[reason as usize].get())
}

/// Bytes copied so far in this process for `reason`.
pub fn copied_bytes(reason: CopyReason) -> u64 {
    COPIED.iter().map(|cells| cells.0[reason as usize].load(Ordering::Relaxed)).sum()
}
