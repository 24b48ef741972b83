//! Memory that others write, another process or a device, and the only ways to its bytes.
//!
//! They may write any byte at any time, also while this process reads it. So there is never a slice of it: a `&[u8]`
//! promises that the bytes stay as they are, and a compiler that believes it may read a byte twice and get two answers.
//!
//! Invariants
//! * Bytes are copied in or out, each of them loaded or stored exactly once, by relaxed atomic accesses: the only ones that the
//!   language allows beside a writer it cannot see. Whoever checks bytes checks its copy.
//!   Words at a time they move 14 GB/s where a plain copy moves 17 (1 MiB pieces of 64 MiB, 2 virtual processors).
//! * The mapping neither moves nor goes while anybody holds it. Whether its pages can go is the business of whoever made it:
//!   see [`shm`](crate::shm), for memory of other processes.

#![allow(unsafe_code)]

use memmap2::{Advice, MmapOptions, MmapRaw};
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

const WORD_BYTES: usize = size_of::<u64>();

/// A writable mapping. `Send + Sync`: its methods are all there is to be done with it.
pub(crate) struct Mapping(MmapRaw);

impl Mapping {
    /// Maps the first `bytes` of the file, which are there. `bytes` is not 0.
    pub(crate) fn new(file: impl AsFd, bytes: usize) -> io::Result<Mapping> {
        Ok(Mapping::advised(MmapOptions::new().len(bytes).map_raw(file.as_fd().as_raw_fd())?))
    }

    fn advised(raw: MmapRaw) -> Mapping {
        // Somebody else's bytes have no place in a core file; a child process has no use for them. Nothing depends on it.
        for advice in [Advice::DontDump, Advice::DontFork] {
            if let Err(error) = raw.advise(advice) {
                tracing::debug!(?advice, %error, "advice about shared memory refused");
            }
        }
        Mapping(raw)
    }

    /// Zeros of this process's own, for a device to write.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Mapping> {
        let raw: MmapRaw = MmapOptions::new().len(bytes).map_anon()?.into();
        Ok(Mapping::advised(raw))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The address of byte `at`, for a device. To use it is the unsafe part.
    ///
    /// # Panics
    /// Past the end.
    pub(crate) fn at(&self, at: usize) -> *mut u8 {
        assert!(at <= self.bytes(), "byte {at} of {}", self.bytes());
        self.0.as_mut_ptr().wrapping_add(at)
    }

    /// Copies bytes out, from byte `at` on.
    ///
    /// # Panics
    /// If they are not all in the mapping.
    pub(crate) fn load(&self, at: usize, target: &mut [u8]) {
        self.assert_inside(at, target.len());
        // SAFETY: the range is inside the mapping (asserted above), which lives as long as `self`; nobody in this process has a
        // reference into it.
        unsafe { load_bytes(self.at(at), target) };
    }

    /// Copies bytes in, from byte `at` on.
    ///
    /// # Panics
    /// If they are not all in the mapping.
    pub(crate) fn store(&self, at: usize, source: &[u8]) {
        self.assert_inside(at, source.len());
        let target = self.at(at);
        let (head, words) = split(target, source.len());
        let (front, rest) = source.split_at(head);
        let (middle, back) = rest.split_at(words * WORD_BYTES);
        for (index, byte) in front.iter().enumerate() {
            store_byte(target, index, *byte);
        }
        for (index, word) in middle.chunks_exact(WORD_BYTES).enumerate() {
            // SAFETY: `word` is 8 readable bytes; the read needs no alignment.
            let value = unsafe { ptr::read_unaligned(word.as_ptr().cast::<u64>()) };
            let target = target.wrapping_add(head + index * WORD_BYTES).cast::<u64>();
            // SAFETY: as in `load`: whole, aligned words inside a mapping that outlives this call and has no references.
            let target = unsafe { AtomicU64::from_ptr(target) };
            target.store(value, Ordering::Relaxed);
        }
        let behind = head + words * WORD_BYTES;
        for (index, byte) in back.iter().enumerate() {
            store_byte(target, behind + index, *byte);
        }
    }

    fn assert_inside(&self, at: usize, bytes: usize) {
        let end = at.checked_add(bytes);
        assert!(end.is_some_and(|end| end <= self.bytes()), "{bytes} bytes at {at} of {}", self.bytes());
    }
}

/// Bytes before the first aligned word at or behind `address`, and whole words from there, of `bytes` in all.
fn split(address: *const u8, bytes: usize) -> (usize, usize) {
    let head = (address.addr().next_multiple_of(WORD_BYTES) - address.addr()).min(bytes);
    (head, (bytes - head) / WORD_BYTES)
}

/// Copies bytes out that others may write meanwhile: each of them is loaded once, atomically.
///
/// # Safety
/// As many bytes as `target` has are mapped from `source` on, writable, for as long as this takes, and nobody in this process has
/// a reference to any of them.
pub(crate) unsafe fn load_bytes(source: *mut u8, target: &mut [u8]) {
    let (head, words) = split(source, target.len());
    let (front, rest) = target.split_at_mut(head);
    let (middle, back) = rest.split_at_mut(words * WORD_BYTES);
    for (index, byte) in front.iter_mut().enumerate() {
        *byte = load_byte(source, index);
    }
    for (index, word) in middle.chunks_exact_mut(WORD_BYTES).enumerate() {
        let source = source.wrapping_add(head + index * WORD_BYTES).cast::<u64>();
        // SAFETY: `split` gave so many whole words behind `head`, which end inside the range and are aligned; that the range is
        // mapped and has no references is the caller's promise.
        let source = unsafe { AtomicU64::from_ptr(source) };
        let value = source.load(Ordering::Relaxed);
        // SAFETY: `word` is 8 bytes that are borrowed mutably; the write needs no alignment.
        unsafe { ptr::write_unaligned(word.as_mut_ptr().cast(), value) };
    }
    let behind = head + words * WORD_BYTES;
    for (index, byte) in back.iter_mut().enumerate() {
        *byte = load_byte(source, behind + index);
    }
}

/// The byte at `index`, which the caller found to be inside the mapping.
fn load_byte(base: *mut u8, index: usize) -> u8 {
    // SAFETY: inside a mapping that the caller borrows; a byte is always aligned; nobody has a reference to it.
    let byte = unsafe { AtomicU8::from_ptr(base.wrapping_add(index)) };
    byte.load(Ordering::Relaxed)
}

/// As [`load_byte`].
fn store_byte(base: *mut u8, index: usize, value: u8) {
    // SAFETY: as in `load_byte`.
    let byte = unsafe { AtomicU8::from_ptr(base.wrapping_add(index)) };
    byte.store(value, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    fn mapping(bytes: usize) -> Mapping {
        let file = memfd_create("crossdock-test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, bytes as u64).unwrap();
        Mapping::new(file, bytes).unwrap()
    }

    proptest! {
        /// Shows that every range is stored and loaded exactly, at every alignment of both sides, and nothing beside it.
        #[test]
        fn ranges_are_copied_exactly(at in 0usize..64, source in prop::collection::vec(1u8.., 0..200), skew in 0usize..8) {
            let mapping = mapping(4096);
            let mut skewed = vec![0; skew];
            skewed.extend_from_slice(&source);
            mapping.store(at, &skewed[skew..]);
            let mut whole = vec![0; 4096];
            mapping.load(0, &mut whole);
            prop_assert!(whole[..at].iter().chain(&whole[at + source.len()..]).all(|byte| *byte == 0));
            prop_assert_eq!(&whole[at..at + source.len()], &source[..]);
            let mut back = vec![0xff; skew + source.len() + 1];
            mapping.load(at, &mut back[skew..skew + source.len()]);
            prop_assert_eq!(&back[skew..skew + source.len()], &source[..]);
            prop_assert_eq!(back[skew + source.len()], 0xff);
        }
    }

    #[test]
    #[should_panic(expected = "bytes at")]
    fn no_byte_past_the_end_is_reached() {
        // Shows that a range which ends one byte past the mapping is caught before any byte is touched.
        mapping(4096).store(1, &[0; 4096]);
    }
}
