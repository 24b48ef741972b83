//! Memory that others write, another process or a device, and the only ways to its bytes.
//!
//! They may write any byte at any time, also while this process reads it. So there is never a slice of it: a `&[u8]`
//! promises that the bytes stay as they are, and a compiler that believes it may read a byte twice and get two answers.
//!
//! Invariants
//! * Bytes are copied in or out, each of them loaded or stored exactly once: by relaxed atomic accesses, the only ones that the
//!   language allows beside a writer it cannot see, or by an instruction of the processor that the compiler does not look into. Whoever
//!   checks bytes checks its copy.
//! * The mapping neither moves nor goes while anybody holds it. Whether its pages can go is the business of whoever made it:
//!   see [`shm`](crate::shm), for memory of other processes.

#![allow(unsafe_code)]

use rustix::{
    fs::fstat,
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap},
};
use std::{
    ffi::c_void,
    io,
    os::fd::AsFd,
    ptr,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

const WORD_BYTES: usize = size_of::<u64>();

/// Mappings of at least this much begin at a multiple of it, so that the kernel can use huge pages.
const HUGE_PAGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;

/// A writable mapping, with pages before and behind it that nothing can touch. `Send + Sync`: its methods are all there is to be done
/// with it.
pub(crate) struct Mapping {
    /// With what stands around it.
    whole: *mut c_void,
    whole_bytes: usize,
    start: *mut u8,
    bytes: usize,
}

// SAFETY: it is memory, which belongs to no thread, and is touched by atomic accesses only, or as its users prove.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of the file, which are there. `bytes` is not 0.
    pub(crate) fn new(file: impl AsFd, bytes: usize) -> io::Result<Mapping> {
        // A file of huge pages is mapped in whole ones, whatever was asked for: there has to be room for that.
        let block = usize::try_from(fstat(&file)?.st_blksize).ok().filter(|block| block.is_power_of_two());
        let block = block.ok_or(io::ErrorKind::InvalidInput)?;
        Mapping::guarded(bytes, block, |start, protection| {
            let flags = MapFlags::SHARED | MapFlags::FIXED;
            // SAFETY: the range, also if it is rounded up to whole blocks, lies in a reservation that was just made, and nobody knows yet.
            unsafe { mmap(start, bytes, protection, flags, file.as_fd(), 0) }
        })
    }

    /// Zeros of this process's own, for a device to write.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Mapping> {
        Mapping::guarded(bytes, PAGE_BYTES, |start, protection| {
            let flags = MapFlags::PRIVATE | MapFlags::FIXED;
            // SAFETY: as above.
            unsafe { mmap_anonymous(start, bytes, protection, flags) }
        })
    }

    /// Reserves addresses, and has `map` put the mapping in their midst, which may take whole blocks of that size.
    fn guarded(
        bytes: usize,
        block: usize,
        map: impl FnOnce(*mut c_void, ProtFlags) -> rustix::io::Result<*mut c_void>,
    ) -> io::Result<Mapping> {
        assert!(bytes > 0, "nothing is not mapped");
        let alignment = if bytes >= HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { PAGE_BYTES };
        let alignment = alignment.max(block);
        // One page at least on either side, wherever the first multiple lies.
        let around = alignment.checked_add(2 * PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let blocks_bytes =
            bytes.checked_next_multiple_of(block.max(PAGE_BYTES)).ok_or(io::ErrorKind::OutOfMemory)?;
        let whole_bytes = blocks_bytes.checked_add(around).ok_or(io::ErrorKind::OutOfMemory)?;
        let reserved = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: at addresses that nobody has, which the kernel chooses.
        let whole = unsafe { mmap_anonymous(ptr::null_mut(), whole_bytes, ProtFlags::empty(), reserved) }?;
        let first = (whole.addr() + PAGE_BYTES).next_multiple_of(alignment);
        let start = whole.wrapping_byte_add(first - whole.addr());
        // From here on the drop gives it back.
        let mapping = Mapping { whole, whole_bytes, start: start.cast(), bytes };
        map(start, ProtFlags::READ | ProtFlags::WRITE)?;
        // Somebody else's bytes have no place in a core file; a child process has no use for them. Nothing depends on it.
        for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
            // SAFETY: the range was just mapped; neither advice changes what is there.
            if let Err(error) = unsafe { madvise(start, blocks_bytes, advice) } {
                tracing::debug!(?advice, %error, "advice about shared memory refused");
            }
        }
        Ok(mapping)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address of byte `at`, for a device. To use it is the unsafe part.
    ///
    /// # Panics
    /// Past the end.
    pub(crate) fn at(&self, at: usize) -> *mut u8 {
        assert!(at <= self.bytes(), "byte {at} of {}", self.bytes());
        self.start.wrapping_add(at)
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
        // SAFETY: `split` gave so many whole words behind `head`, inside a mapping (asserted above) that outlives this call, to which
        // nobody in this process has a reference; `middle` is borrowed, and has as many.
        unsafe { store_words(middle, target.wrapping_add(head)) };
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

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the reservation is this mapping's own, with what was mapped into it, and is given back once; whoever was given an
        // address keeps the mapping.
        if let Err(error) = unsafe { munmap(self.whole, self.whole_bytes) } {
            tracing::error!(%error, "memory could not be unmapped");
        }
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
    // SAFETY: `split` gave so many whole, aligned words behind `head`, which end inside the range; that the range is mapped and has no
    // references is the caller's promise.
    unsafe { load_words(source.wrapping_add(head), middle) };
    let behind = head + words * WORD_BYTES;
    for (index, byte) in back.iter_mut().enumerate() {
        *byte = load_byte(source, behind + index);
    }
}

/// Loads whole words, each of their bytes once.
///
/// # Safety
/// As for [`load_bytes`]; `source` is aligned to words, and `target` is whole words.
unsafe fn load_words(source: *mut u8, target: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if target.len() >= STRING_BYTES {
        // SAFETY: the source is what the caller promises; the target is borrowed mutably, so it is nobody else's and overlaps nothing
        // that others can write; both have so many words.
        return unsafe { string_move(source, target.as_mut_ptr(), target.len() / WORD_BYTES) };
    }
    for (index, word) in target.chunks_exact_mut(WORD_BYTES).enumerate() {
        let source = source.wrapping_add(index * WORD_BYTES).cast::<u64>();
        // SAFETY: the caller promises so many words here, mapped, aligned, and without references.
        let source = unsafe { AtomicU64::from_ptr(source) };
        let value = source.load(Ordering::Relaxed);
        // SAFETY: `word` is 8 bytes that are borrowed mutably; the write needs no alignment.
        unsafe { ptr::write_unaligned(word.as_mut_ptr().cast(), value) };
    }
}

/// Stores whole words, each of their bytes once.
///
/// # Safety
/// `target` is aligned to words; as many bytes as `source` has, which is whole words, are mapped from there on, writable, for as long as
/// this takes, and nobody in this process has a reference to any of them.
unsafe fn store_words(source: &[u8], target: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    if source.len() >= STRING_BYTES {
        // SAFETY: the target is what the caller promises; the source is borrowed, so nobody writes it; both have so many words.
        return unsafe { string_move(source.as_ptr(), target, source.len() / WORD_BYTES) };
    }
    for (index, word) in source.chunks_exact(WORD_BYTES).enumerate() {
        // SAFETY: `word` is 8 readable bytes; the read needs no alignment.
        let value = unsafe { ptr::read_unaligned(word.as_ptr().cast::<u64>()) };
        let target = target.wrapping_add(index * WORD_BYTES).cast::<u64>();
        // SAFETY: the caller promises so many words here, mapped, aligned, and without references.
        let target = unsafe { AtomicU64::from_ptr(target) };
        target.store(value, Ordering::Relaxed);
    }
}

/// Bytes from which on the processor's own move of a string is faster than words: it takes some 30 cycles to begin.
#[cfg(target_arch = "x86_64")]
const STRING_BYTES: usize = 256;

/// Moves words by the processor's own instruction, which moves a cache line at a time where the words of a loop go one by one, because the
/// compiler joins no atomic accesses: pieces of 8 KiB more than ten times as fast if they are in the first cache, one and a half times if
/// they come from memory (measured on a Xeon with ERMS).
///
/// # Safety
/// `words` words are readable at `source` and writable at `target`, and nobody in this process writes the former or has a reference to the
/// latter but the caller. Another process or a device may write either meanwhile: what is read is then old or new, byte by byte.
#[cfg(target_arch = "x86_64")]
unsafe fn string_move(source: *const u8, target: *mut u8, words: usize) {
    // SAFETY: the caller promises both ranges, and that no reference of this process forbids the accesses. The direction flag is clear, as it
    // is at the entry of every block of assembly, so the move goes upwards and stays in them; it changes neither flags nor stack. It is
    // a block of which the compiler knows no more than that it reads and writes memory, so bytes that change under it break no
    // promise, and none is read twice (<https://doc.rust-lang.org/reference/inline-assembly.html>, "Rules for inline assembly").
    unsafe {
        std::arch::asm!(
            "rep movsq",
            inout("rcx") words => _,
            inout("rsi") source => _,
            inout("rdi") target => _,
            options(nostack, preserves_flags),
        );
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
        fn ranges_are_copied_exactly(at in 0usize..64, source in prop::collection::vec(1u8.., 0..900), skew in 0usize..8) {
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
    fn what_stands_around_is_out_of_reach() {
        // Shows that before the first page and behind the last one there is a page that nobody can touch, for every size and both
        // kinds, and that large ones begin where a huge page does.
        let maps = |address: usize| {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let found = maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (start, end) = range.split_once('-')?;
                let number = |text| usize::from_str_radix(text, 16).ok();
                (number(start)?..number(end)?).contains(&address).then(|| rest[..4].to_owned())
            });
            found.unwrap_or_default()
        };
        for bytes in [1, 4096, 4097, 2 << 20, (2 << 20) + 1, 5 << 20] {
            for mapping in [mapping(bytes), Mapping::anonymous(bytes).unwrap()] {
                let (first, last) = (mapping.at(0).addr(), mapping.at(bytes - 1).addr());
                assert_eq!(
                    (maps(first - 1).as_str(), maps((last + 1).next_multiple_of(4096)).as_str()),
                    ("---p", "---p")
                );
                assert!(maps(first).starts_with("rw") && maps(last).starts_with("rw"));
                assert!(bytes < 2 << 20 || first.is_multiple_of(2 << 20));
                mapping.store(0, &[1]);
                mapping.store(bytes - 1, &[2]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "bytes at")]
    fn no_byte_past_the_end_is_reached() {
        // Shows that a range which ends one byte past the mapping is caught before any byte is touched.
        mapping(4096).store(1, &[0; 4096]);
    }
}
