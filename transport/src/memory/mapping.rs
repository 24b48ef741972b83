//! The mapping under an arena: the best pages the machine gives, down a ladder.
//!
//! 1. 2 MiB pages from the hugetlb pool, if the administrator reserved enough of them.
//! 2. Ordinary memory, aligned to 2 MiB, with the advice to use transparent huge pages.
//! 3. Ordinary memory.
//!
//! Large pages matter twice: registering 1 GiB with a ring took 46.7 ms on 4 KiB pages and 2.3 ms on 2 MiB pages
//! (2-core virtual machine, kernel 6.18), and a network card keeps one translation entry per page.

use memmap2::{Advice, MmapOptions, MmapRaw};
use std::io;

const HUGE_PAGE_BITS: u8 = 21;
const HUGE_PAGE_BYTES: usize = 1 << HUGE_PAGE_BITS;

/// What an arena's memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageKind {
    /// 2 MiB pages from the hugetlb pool.
    Huge2M,
    /// Ordinary pages the kernel was advised to make huge. It does so as far as it finds contiguous memory.
    Transparent,
    /// Ordinary pages.
    Plain,
}

impl PageKind {
    /// A name for start messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            PageKind::Huge2M => "2 MiB hugetlb pages",
            PageKind::Transparent => "transparent huge pages",
            PageKind::Plain => "plain pages",
        }
    }
}

/// Which pages to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PagePolicy {
    /// The best the machine gives: hugetlb, else transparent huge pages, else plain pages.
    #[default]
    Best,
    /// Plain pages, for tests and simulations.
    Plain,
}

/// Anonymous memory, zero-filled, that never moves. Unmapped when dropped.
pub(super) struct Mapping {
    raw: MmapRaw,
    /// From the start of `raw` to the first byte that is used: aligns it to a huge page.
    start: usize,
    bytes: usize,
    kind: PageKind,
    /// Why it is not of better pages.
    lacking: Option<String>,
}

impl Mapping {
    /// Maps `bytes`, a multiple of 2 MiB.
    pub(super) fn new(bytes: usize, policy: PagePolicy, prefault: bool) -> io::Result<Self> {
        debug_assert_eq!(bytes % HUGE_PAGE_BYTES, 0);
        match policy {
            // Pages that are reserved and can not be had all the same, because of a cgroup's limit on them, show when they are touched.
            PagePolicy::Best => {
                Self::hugetlb(bytes).and_then(|mapping| mapping.ready(prefault)).or_else(|error| {
                    let pages = bytes / HUGE_PAGE_BYTES;
                    Self::ordinary(bytes, Some(format!("no {pages} hugetlb pages of 2 MiB: {error}")))?
                        .ready(prefault)
                })
            }
            PagePolicy::Plain => Self::ordinary(bytes, None)?.ready(prefault),
        }
    }

    /// Gives its advice, and touches it if that is wanted.
    fn ready(self, prefault: bool) -> io::Result<Self> {
        // Payload of clients has no place in a core file, and a child process has no use for the arena: without
        // this, a fork copies every page that a device has pinned. Both are advice; nothing depends on them.
        for advice in [Advice::DontDump, Advice::DontFork] {
            if let Err(error) = self.raw.advise(advice) {
                tracing::debug!(?advice, %error, "arena advice refused");
            }
        }
        if prefault {
            self.raw.advise_range(Advice::PopulateWrite, self.start, self.bytes)?;
        }
        Ok(self)
    }

    fn hugetlb(bytes: usize) -> io::Result<Self> {
        // The kernel reserves the pages here or refuses.
        let raw = MmapOptions::new().huge(Some(HUGE_PAGE_BITS)).len(bytes).map_anon()?.into();
        Ok(Self { raw, start: 0, bytes, kind: PageKind::Huge2M, lacking: None })
    }

    /// Ordinary memory: where huge pages are `lacking`, transparent ones if the kernel has them, else plain ones because they are wanted.
    fn ordinary(bytes: usize, lacking: Option<String>) -> io::Result<Self> {
        // One huge page more of address space (never touched, so no memory) lets the start be aligned.
        let length = bytes.checked_add(HUGE_PAGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let raw: MmapRaw = MmapOptions::new().len(length).map_anon()?.into();
        let start = raw.as_ptr().addr().next_multiple_of(HUGE_PAGE_BYTES) - raw.as_ptr().addr();
        let mut mapping = Self { raw, start, bytes, kind: PageKind::Plain, lacking };
        if let Some(lacking) = &mut mapping.lacking {
            match transparent_huge_pages_allowed() {
                true => match mapping.raw.advise_range(Advice::HugePage, start, bytes) {
                    Ok(()) => mapping.kind = PageKind::Transparent,
                    Err(error) => lacking.push_str(&format!("; no transparent huge pages: {error}")),
                },
                false => lacking.push_str("; transparent huge pages are switched off"),
            }
        }
        Ok(mapping)
    }

    /// The address `offset` bytes into the arena. To use it is the unsafe part.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.bytes);
        self.raw.as_mut_ptr().wrapping_add(self.start + offset)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn kind(&self) -> PageKind {
        self.kind
    }

    pub(super) fn lacking(&self) -> Option<&str> {
        self.lacking.as_deref()
    }
}

/// The advice is accepted even where the administrator switched transparent huge pages off, so ask.
fn transparent_huge_pages_allowed() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|setting| !setting.contains("[never]"))
}
