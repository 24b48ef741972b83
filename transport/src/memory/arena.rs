//! The arena: the mapping, its header table, and how it is divided among pools.

use super::{
    PAGE_BYTES, SUPERPAGE_BYTES,
    mapping::{Mapping, PageKind, PagePolicy},
    pool::Pool,
    return_stack::{Header, ReturnStack},
    superpage::{SUPERPAGE_GRANULES, Superpages},
};
use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// Granule numbers are u32 and one value is taken, and a ring's table holds 16384 slices of 1 GiB.
const ARENA_BYTES_MAX: usize = (16384 << 30) - SUPERPAGE_BYTES;

/// What an arena shall be.
#[derive(Clone, Debug)]
pub struct ArenaOptions {
    /// Bytes to map. Rounded down to whole superpages of 4 MiB; each pool needs at least one. At most 16 TiB.
    pub bytes: usize,
    /// Pools to divide it in, one for each core. Superpages that do not divide go to the first pools.
    pub pools: usize,
    /// Which pages to ask for.
    pub pages: PagePolicy,
    /// Touch every page now, so that no request pays for it later. Takes about a second per GiB where the kernel has
    /// to zero small pages.
    pub prefault: bool,
}

/// Why there is no arena.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The kernel refused the mapping, or had no memory to prefault it.
    #[error("the memory of the arena could not be mapped: {0}")]
    Map(#[source] io::Error),
    /// Less than one superpage (4 MiB) for each pool, or no pool at all.
    #[error("an arena needs at least one pool and 4 MiB for each")]
    TooSmall,
    /// More than 16 TiB.
    #[error("an arena holds less than 16 TiB")]
    TooLarge,
}

/// All payload memory of a process: one mapping, divided in [`Pool`]s. `Send + Sync`, cheap to clone.
///
/// # Examples
/// ```
/// use crossdock_transport::memory::{Arena, ArenaOptions, PagePolicy};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = ArenaOptions { bytes: 16 << 20, pools: 2, pages: PagePolicy::Plain, prefault: false };
/// let arena = Arena::map(&options)?;
/// let pool = arena.pool(0);
/// let mut lease = pool.try_acquire(100).ok_or("exhausted")?;
/// assert_eq!(lease.capacity(), 4096);
/// lease.set_len(5);
/// lease.as_mut_slice().fill(b'x');
/// let frozen = lease.freeze();
/// assert_eq!(&frozen.slice(1..3)[..], b"xx");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Arena(Arc<ArenaShared>);

/// What every pool and lease keeps alive.
pub(super) struct ArenaShared {
    mapping: Mapping,
    headers: Box<[Header]>,
    pools_taken: Box<[AtomicBool]>,
}

/// What one pool shares with its leases, wherever they are.
pub(super) struct PoolShared {
    arena: Arc<ArenaShared>,
    returns: ReturnStack,
    wake: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

impl Arena {
    /// Maps the memory and divides it. Blocks, for long if it prefaults.
    ///
    /// # Errors
    /// [`ArenaError::TooSmall`] and [`ArenaError::TooLarge`] for sizes that cannot be, [`ArenaError::Map`] when the
    /// kernel refuses.
    pub fn map(options: &ArenaOptions) -> Result<Arena, ArenaError> {
        let superpages = options.bytes / SUPERPAGE_BYTES;
        if options.pools == 0 || superpages < options.pools {
            return Err(ArenaError::TooSmall);
        }
        if options.bytes > ARENA_BYTES_MAX {
            return Err(ArenaError::TooLarge);
        }
        let bytes = superpages * SUPERPAGE_BYTES;
        let mapping = Mapping::new(bytes, options.pages, options.prefault).map_err(ArenaError::Map)?;
        let (pages, lacking) = (mapping.kind().name(), mapping.lacking().unwrap_or("nothing"));
        tracing::info!(bytes, pools = options.pools, pages, lacking, "arena mapped");
        Ok(Arena(Arc::new(ArenaShared {
            headers: (0..bytes / PAGE_BYTES).map(|_| Header::new()).collect(),
            pools_taken: (0..options.pools).map(|_| AtomicBool::new(false)).collect(),
            mapping,
        })))
    }

    /// The free lists of core `index`, counted from 0. To be used by one thread.
    ///
    /// # Panics
    /// If there is no such pool, or it was taken before: two owners would lease the same memory.
    pub fn pool(&self, index: usize) -> Pool {
        let taken = self.0.pools_taken[index].swap(true, Ordering::Relaxed);
        assert!(!taken, "pool {index} is taken");
        let (pools, superpages) = (self.0.pools_taken.len(), self.bytes() / SUPERPAGE_BYTES);
        let (each, more) = (superpages / pools, superpages % pools);
        let first = index * each + index.min(more);
        let count = each + usize::from(index < more);
        let shared =
            PoolShared { arena: Arc::clone(&self.0), returns: ReturnStack::new(), wake: OnceLock::new() };
        // Both are below 2^22: see ARENA_BYTES_MAX.
        Pool::new(Arc::new(shared), Superpages::new(first as u32, count as u32))
    }

    /// The same memory once more, with all pools to be taken anew, if nobody has anything of it: no pool, no lease, no device. Saves
    /// the mapping and the faults of its pages. What was written stays there, as in memory that a pool leases again.
    ///
    /// # Errors
    /// The arena as it is: somebody has something of it.
    pub fn renew(self) -> Result<Arena, Arena> {
        let mut shared = Arc::try_unwrap(self.0).map_err(Arena)?;
        // Whatever leases its headers tell of, there are none: each would keep the arena.
        shared.headers.fill_with(Header::new);
        shared.pools_taken.fill_with(|| AtomicBool::new(false));
        Ok(Arena(Arc::new(shared)))
    }

    /// How many pools the arena is divided in.
    pub fn pool_count(&self) -> usize {
        self.0.pools_taken.len()
    }

    /// Bytes of payload memory: the size asked for, rounded down to 4 MiB.
    pub fn bytes(&self) -> usize {
        self.0.mapping.bytes()
    }

    /// What the memory is made of.
    pub fn page_kind(&self) -> PageKind {
        self.0.mapping.kind()
    }

    /// Why the pages are no better, in words, if better ones were asked for: there are fewer huge pages than it takes, or they are switched
    /// off. It works all the same.
    pub fn pages_lacking(&self) -> Option<&str> {
        self.0.mapping.lacking()
    }

    /// The address of its first byte, for registration with devices. The arena spans [`bytes`](Arena::bytes) from
    /// there, does not move, and stays mapped as long as this handle or a lease.
    pub fn base(&self) -> *mut u8 {
        self.0.mapping.at(0)
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Arena")
            .field("bytes", &self.bytes())
            .field("pools", &self.pool_count())
            .field("pages", &self.page_kind())
            .finish()
    }
}

impl PoolShared {
    /// The address of a granule.
    pub(super) fn address(&self, granule: u32) -> *mut u8 {
        self.arena.mapping.at(offset_of(granule))
    }

    pub(super) fn header(&self, granule: u32) -> &Header {
        &self.arena.headers[granule as usize]
    }

    pub(super) fn headers(&self) -> &[Header] {
        &self.arena.headers
    }

    pub(super) fn returns(&self) -> &ReturnStack {
        &self.returns
    }

    /// Any thread: a granule without holders goes home.
    pub(super) fn bring_back(&self, granule: u32) {
        let waited_for = self.returns.push(&self.arena.headers, granule);
        if let (true, Some(wake)) = (waited_for, self.wake.get()) {
            wake();
        }
    }

    pub(super) fn set_wake(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        assert!(self.wake.set(wake).is_ok(), "a pool has one wake-up");
    }
}

/// Bytes from the start of the arena to a granule.
pub(super) fn offset_of(granule: u32) -> usize {
    granule as usize * PAGE_BYTES
}

const _: () = assert!(ARENA_BYTES_MAX / PAGE_BYTES < u32::MAX as usize);
const _: () = assert!(SUPERPAGE_GRANULES as usize * PAGE_BYTES == SUPERPAGE_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory is had once more when all of it is back, and not while anybody has a part: the pool, a lease that outlives it, or another handle.
    #[test]
    fn an_arena_is_renewed_when_all_of_it_is_back() {
        let options =
            ArenaOptions { bytes: 2 * SUPERPAGE_BYTES, pools: 2, pages: PagePolicy::Plain, prefault: false };
        let mut arena = Arena::map(&options).unwrap();
        for _ in 0..3 {
            let (one, other) = (arena.pool(0), arena.pool(1));
            let lease = one.try_acquire(100).unwrap();
            let kept = other.try_acquire(SUPERPAGE_BYTES).unwrap().freeze();
            assert!(other.try_acquire(PAGE_BYTES).is_none(), "the other pool is all taken");
            arena = arena.renew().unwrap_err();
            drop((one, other, lease));
            arena = arena.renew().unwrap_err();
            drop(kept);
            let handle = arena.clone();
            arena = arena.renew().unwrap_err();
            drop(handle);
            arena = arena.renew().unwrap();
        }
    }
}
