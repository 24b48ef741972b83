//! The mapping: one piece of memory for everything that devices touch.

use super::{
    PAGE_BYTES, SUPERPAGE_BYTES,
    pool::Pool,
    return_stack::{Header, ReturnStack},
};
use memmap2::{Advice, MmapMut, MmapOptions};
use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// What the arena's pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageKind {
    /// Reserved huge pages of 2 MiB.
    Huge2M,
    /// Pages that the kernel was asked to make huge where it can.
    Transparent,
    /// Plain pages of 4 KiB.
    Plain,
}

/// Which pages to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PagePolicy {
    /// The largest there are: reserved huge pages, else transparent ones, else plain.
    #[default]
    Best,
    /// Plain pages only.
    Plain,
}

/// How an arena is made.
#[derive(Clone, Debug)]
pub struct ArenaOptions {
    /// Its size in bytes, rounded down so that every pool has whole superpages of 4 MiB.
    pub bytes: usize,
    /// How many cores share it.
    pub pools: usize,
    /// Which pages to try.
    pub pages: PagePolicy,
    /// Touch every page at once, so that none is faulted in while work goes on.
    pub prefault: bool,
}

/// Why there is no arena.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The operating system refused the mapping.
    #[error("mapping the arena: {0}")]
    Map(#[source] io::Error),
    /// Less than a superpage for each pool.
    #[error("an arena needs at least {} bytes for each of its pools", SUPERPAGE_BYTES)]
    TooSmall,
}

/// The arena: a handle on the mapping. Cheap to clone, `Send` and `Sync`.
#[derive(Clone)]
pub struct Arena {
    shared: Arc<Shared>,
}

/// What every lease keeps alive.
pub(super) struct Shared {
    map: MmapMut,
    /// Where the arena starts in the mapping: at a multiple of 2 MiB.
    start: usize,
    bytes: usize,
    kind: PageKind,
    /// One for each page; that of a buffer's first page is the buffer's.
    pub(super) headers: Box<[Header]>,
    pub(super) pools: Box<[PoolShared]>,
}

/// What other threads see of a pool.
pub(super) struct PoolShared {
    pub(super) returns: ReturnStack,
    pub(super) wake: OnceLock<Arc<dyn Fn() + Send + Sync>>,
    taken: AtomicBool,
}

impl Arena {
    /// Maps an arena.
    ///
    /// # Errors
    /// Too small for its pools, or refused by the system.
    pub fn map(options: &ArenaOptions) -> Result<Arena, ArenaError> {
        let unit = SUPERPAGE_BYTES.checked_mul(options.pools).filter(|unit| *unit > 0);
        let unit = unit.ok_or(ArenaError::TooSmall)?;
        let bytes = options.bytes / unit * unit;
        if bytes == 0 || u32::try_from(bytes / PAGE_BYTES).is_err() {
            return Err(ArenaError::TooSmall);
        }
        let (map, start, kind) = map(bytes, options).map_err(ArenaError::Map)?;
        let headers = (0..bytes / PAGE_BYTES).map(|_| Header::new()).collect();
        let pool = || PoolShared {
            returns: ReturnStack::new(),
            wake: OnceLock::new(),
            taken: AtomicBool::new(false),
        };
        let pools = (0..options.pools).map(|_| pool()).collect();
        Ok(Arena { shared: Arc::new(Shared { map, start, bytes, kind, headers, pools }) })
    }

    /// The free lists of one core.
    ///
    /// # Panics
    /// If there is no such pool, or it was taken before: two owners would hand out the same memory.
    pub fn pool(&self, index: usize) -> Pool {
        let taken = self.shared.pools[index].taken.swap(true, Ordering::AcqRel);
        assert!(!taken, "a pool has one owner");
        let superpages = self.shared.bytes / SUPERPAGE_BYTES / self.shared.pools.len();
        Pool::new(self.shared.clone(), index, superpages)
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.shared.bytes
    }

    /// How many pools it is divided into.
    pub fn pool_count(&self) -> usize {
        self.shared.pools.len()
    }

    /// What its pages are.
    pub fn page_kind(&self) -> PageKind {
        self.shared.kind
    }

    /// The address of its first byte, for registration with devices. It stays the same while the arena lives.
    pub fn base(&self) -> *mut u8 {
        self.shared.base()
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("bytes", &self.bytes()).field("pages", &self.page_kind()).finish()
    }
}

impl Shared {
    pub(super) fn base(&self) -> *mut u8 {
        self.map.as_ptr().cast_mut().wrapping_add(self.start)
    }

    /// The address of a page.
    pub(super) fn address(&self, page: u32) -> *mut u8 {
        let offset = page as usize * PAGE_BYTES;
        debug_assert!(offset < self.bytes);
        self.base().wrapping_add(offset)
    }

    /// The pool a page belongs to.
    pub(super) fn pool_of(&self, page: u32) -> usize {
        let pages = self.bytes / PAGE_BYTES / self.pools.len();
        page as usize / pages
    }

    /// Gives a buffer back to its owner; wakes the owner if it waits for memory.
    pub(super) fn give_back(&self, page: u32) {
        let pool = &self.pools[self.pool_of(page)];
        if pool.returns.push(page, &self.headers)
            && let Some(wake) = pool.wake.get()
        {
            wake();
        }
    }
}

/// Maps `bytes` with the best pages allowed: mapping, where the arena starts in it, and what it got.
fn map(bytes: usize, options: &ArenaOptions) -> io::Result<(MmapMut, usize, PageKind)> {
    const HUGE_BYTES: usize = 2 << 20;
    const HUGE_BITS: u8 = 21;
    if options.pages == PagePolicy::Best {
        let mut huge = MmapOptions::new();
        huge.len(bytes).huge(Some(HUGE_BITS));
        if options.prefault {
            huge.populate();
        }
        if let Ok(map) = huge.map_anon() {
            return Ok((map, 0, PageKind::Huge2M));
        }
    }
    // A little more, so that the arena can start at a multiple of a huge page.
    let mut map = MmapOptions::new().len(bytes + HUGE_BYTES).map_anon()?;
    let start = map.as_ptr().align_offset(HUGE_BYTES);
    let transparent = options.pages == PagePolicy::Best && map.advise(Advice::HugePage).is_ok();
    if options.prefault {
        map[start..start + bytes].iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 0);
    }
    let kind = if transparent { PageKind::Transparent } else { PageKind::Plain };
    Ok((map, start, kind))
}
