//! The read cache of a core: verified bytes of objects, kept in the leases that a device filled.
//!
//! ```text
//!            look_up ── kept ─────────────► a view of the lease, no device, no checksum
//!               │
//!               ├────── being read ───────► waits for whoever reads it, and shares what comes
//!               │
//!               └────── neither ──► Reader ──► read, verify ──► land: kept, and handed to those who wait
//!                                     └ dropped without landing: one of those who wait reads
//! ```
//!
//! Names and coherence. A block is named by the shard, the version (never given twice), the part and the place within it. What has
//! that name never changes: an object that is written again is another version, and one whose payload the cleaner moves keeps its
//! bytes. So nothing has to be thrown out when something is written or deleted, and whoever may read a version asked its shard first.
//!
//! Memory. What is kept lies in the arena and counts as free there: whenever somebody finds no room, the cache gives back
//! ([`Pool::on_shortage`]), and while somebody waits it takes nothing. It therefore needs no term of its own in the memory plan but for
//! its tables.

mod fifo;
#[cfg(test)]
mod reads;

use crate::{layout::Version, metrics::CoreMetrics, reactor::Signal};
use crossdock_transport::memory::{FrozenLease, PAGE_BYTES, Pool};
use fifo::S3Fifo;
use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

/// What an entry takes beside its lease: its place in the tables, in a queue, and the memory of one that left.
const ENTRY_BYTES: u64 = 256;
/// One reader may take so much of the room, as a divisor: what is larger would push out all else.
const READER_SHARE: u64 = 4;

/// Bytes of the tables of a cache of `cache_bytes`, at most.
pub(crate) const fn table_bytes(cache_bytes: u64) -> u64 {
    cache_bytes / PAGE_BYTES as u64 * ENTRY_BYTES
}

/// Names a stretch of an object that begins with a checksum block.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct BlockName {
    pub(crate) shard: u16,
    pub(crate) version: Version,
    pub(crate) part: Option<u16>,
    pub(crate) place: BlockPlace,
}

/// What of an object or part.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum BlockPlace {
    /// Its bytes from this one on.
    Bytes(u64),
    /// The checksums of its blocks, as they are stored.
    Checksums,
}

/// Verified bytes, the first of which has the name.
type Block = FrozenLease;

/// The cache of one core. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ReadCache(Rc<Inner>);

struct Inner {
    bytes_max: usize,
    pool: Pool,
    blocks: RefCell<S3Fifo<BlockName, Block>>,
    /// What is being read now, with how many bytes of it.
    flights: RefCell<HashMap<BlockName, (u64, Rc<Flight>)>>,
    metrics: Arc<CoreMetrics>,
}

/// A read that others wait for.
#[derive(Default)]
pub(crate) struct Flight {
    landed: OnceCell<Option<Block>>,
    signal: Signal,
}

/// What a look-up found.
pub(crate) enum Found {
    /// The bytes.
    Block(FrozenLease),
    /// Somebody reads them: see [`Flight::landed`].
    Flight(Rc<Flight>),
    /// Nobody has them. Whoever looked is to read them.
    Nothing(Reader),
}

/// The duty to read a block for all who want it.
pub(crate) struct Reader {
    cache: ReadCache,
    name: BlockName,
    flight: Rc<Flight>,
}

impl ReadCache {
    /// One that keeps at most `bytes_max` of the pool's memory; with 0 it keeps nothing.
    pub(crate) fn new(pool: &Pool, bytes_max: usize, metrics: Arc<CoreMetrics>) -> ReadCache {
        let blocks = RefCell::new(S3Fifo::new(bytes_max));
        let flights = RefCell::default();
        let inner = Rc::new(Inner { bytes_max, pool: pool.clone(), blocks, flights, metrics });
        if bytes_max > 0 {
            // The pool outlives the cache, and must not keep it.
            let weak = Rc::downgrade(&inner);
            pool.on_shortage(Rc::new(move || weak.upgrade().is_some_and(|inner| inner.evict())));
        }
        ReadCache(inner)
    }

    /// Whether somebody who reads so many bytes is to use it.
    pub(crate) fn takes(&self, bytes: u64) -> bool {
        bytes.saturating_mul(READER_SHARE) <= self.0.bytes_max as u64
    }

    /// The `bytes` that begin at the name, or who reads them. A block that is there and shorter counts as absent.
    pub(crate) fn look_up(&self, name: BlockName, bytes: u64) -> Found {
        if let Some(block) = self.kept(name, bytes) {
            return Found::Block(block);
        }
        let mut flights = self.0.flights.borrow_mut();
        if let Some((coming, flight)) = flights.get(&name)
            && *coming >= bytes
        {
            self.0.metrics.cache_shared.add(1);
            return Found::Flight(flight.clone());
        }
        self.0.metrics.cache_misses.add(1);
        let flight = Rc::new(Flight::default());
        // One that reads less goes on for those who wait for it already.
        flights.insert(name, (bytes, flight.clone()));
        Found::Nothing(Reader { cache: self.clone(), name, flight })
    }

    /// The `bytes` that begin at the name, if they are kept.
    pub(crate) fn kept(&self, name: BlockName, bytes: u64) -> Option<FrozenLease> {
        let mut blocks = self.0.blocks.borrow_mut();
        let block = blocks.get(&name, |block| block.len() as u64 >= bytes)?;
        self.0.metrics.cache_hits.add(1);
        Some(block.clone())
    }

    /// Keeps verified bytes, the first of which has the name.
    pub(crate) fn keep(&self, name: BlockName, block: &FrozenLease) {
        // Nobody is to wait for memory that lies here.
        if self.0.pool.waiters() == 0 {
            self.0.blocks.borrow_mut().insert(name, block.clone(), block.capacity());
            self.0.tell();
        }
    }

    /// Blocks that are kept.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn blocks(&self) -> usize {
        self.0.blocks.borrow().len()
    }
}

impl Inner {
    fn evict(&self) -> bool {
        let evicted = self.blocks.borrow_mut().evict();
        self.tell();
        evicted
    }

    fn tell(&self) {
        self.metrics.cache_bytes.set(self.blocks.borrow().weight() as u64);
    }
}

impl Flight {
    /// What was read, once it is there; none if whoever read it could not or did not go on.
    pub(crate) async fn landed(&self) -> Option<FrozenLease> {
        self.signal.wait(|| self.landed.get().cloned()).await
    }

    fn land(&self, block: Option<Block>) {
        // Once: what landed is not taken back by the drop that follows.
        if self.landed.set(block).is_ok() {
            self.signal.notify();
        }
    }
}

impl Reader {
    /// The block was read, and is what was stored.
    pub(crate) fn land(self, block: &FrozenLease) {
        self.cache.keep(self.name, block);
        self.flight.land(Some(block.clone()));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut flights = self.cache.0.flights.borrow_mut();
        if flights.get(&self.name).is_some_and(|(_, flight)| Rc::ptr_eq(flight, &self.flight)) {
            flights.remove(&self.name);
        }
        drop(flights);
        self.flight.land(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Counter;
    use crossdock_transport::memory::{Arena, ArenaOptions, BufferLease, PagePolicy};
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    const POOL_BYTES: usize = 8 << 20;

    fn pool() -> Pool {
        let options = ArenaOptions { bytes: POOL_BYTES, pools: 1, pages: PagePolicy::Plain, prefault: false };
        Arena::map(&options).unwrap().pool(0)
    }

    fn cache(pool: &Pool, bytes_max: usize) -> ReadCache {
        ReadCache::new(pool, bytes_max, Arc::default())
    }

    fn name(place: u64) -> BlockName {
        BlockName { shard: 1, version: Version(7), part: None, place: BlockPlace::Bytes(place) }
    }

    fn lease(pool: &Pool, bytes: usize) -> BufferLease {
        let mut lease = pool.try_acquire(bytes).unwrap();
        lease.set_len(bytes);
        lease
    }

    fn reader(cache: &ReadCache, place: u64, bytes: u64) -> Reader {
        match cache.look_up(name(place), bytes) {
            Found::Nothing(reader) => reader,
            Found::Block(_) => panic!("it is kept"),
            Found::Flight(_) => panic!("somebody reads it"),
        }
    }

    fn flight(cache: &ReadCache, place: u64, bytes: u64) -> Rc<Flight> {
        match cache.look_up(name(place), bytes) {
            Found::Flight(flight) => flight,
            _ => panic!("nobody reads it"),
        }
    }

    /// What landed is found, by whoever wants as much or less of it, and by nobody else.
    #[test]
    fn what_landed_is_kept() {
        let pool = pool();
        let cache = cache(&pool, 1 << 20);
        let block = lease(&pool, 4096).freeze();
        reader(&cache, 0, 4096).land(&block);
        assert!(
            matches!(cache.look_up(name(0), 100), Found::Block(found) if found.as_ptr() == block.as_ptr())
        );
        drop(reader(&cache, 0, 4097));
        drop(reader(&cache, 4096, 1));
        let metrics = &cache.0.metrics;
        let counted = [&metrics.cache_hits, &metrics.cache_misses, &metrics.cache_shared].map(Counter::value);
        assert_eq!((counted, metrics.cache_bytes.value(), cache.blocks()), ([1, 3, 0], 4096, 1));
    }

    /// Those who come while a block is read wait for the one read, and share its memory.
    #[test]
    fn one_read_serves_all() {
        let pool = pool();
        let cache = cache(&pool, 1 << 20);
        let reading = reader(&cache, 0, 4096);
        let waiting = [flight(&cache, 0, 4096), flight(&cache, 0, 10)];
        // Whoever wants more reads for itself.
        drop(reader(&cache, 0, 8192));
        let block = lease(&pool, 4096).freeze();
        let mut first = pin!(waiting[0].landed());
        assert!(block_on(poll_once(first.as_mut())).is_none());
        reading.land(&block);
        assert_eq!(block_on(first).unwrap().as_ptr(), block.as_ptr());
        assert_eq!(block_on(waiting[1].landed()).unwrap().as_ptr(), block.as_ptr());
        assert_eq!(cache.0.metrics.cache_shared.value(), 2);
    }

    /// A reader that fails or goes away leaves nobody waiting, and the next reads.
    #[test]
    fn a_reader_that_goes_away() {
        let pool = pool();
        let cache = cache(&pool, 1 << 20);
        let reading = reader(&cache, 0, 4096);
        let waiting = flight(&cache, 0, 4096);
        drop(reading);
        assert!(block_on(waiting.landed()).is_none());
        drop(reader(&cache, 0, 4096));
    }

    /// All that is kept is free memory to everybody else; only what readers still hold is not.
    #[test]
    fn what_is_kept_counts_as_free() {
        let pool = pool();
        let cache = cache(&pool, POOL_BYTES);
        for place in 0..8 {
            let block = lease(&pool, 1 << 20).freeze();
            reader(&cache, place, 1 << 20).land(&block);
        }
        assert_eq!(cache.0.metrics.cache_bytes.value(), POOL_BYTES as u64);
        let large = lease(&pool, 4 << 20);
        assert!(cache.0.metrics.cache_bytes.value() <= 4 << 20);
        let held = cache.kept(name(7), 1).expect("what came last goes last");
        let mut waiting = pin!(pool.acquire(4 << 20));
        assert!(block_on(poll_once(waiting.as_mut())).is_none(), "a reader holds a part of it");
        assert_eq!(cache.0.metrics.cache_bytes.value(), 0);
        // Nobody waits for what the cache takes meanwhile: it takes nothing.
        reader(&cache, 100, 1).land(&held);
        assert_eq!(cache.0.metrics.cache_bytes.value(), 0);
        drop((held, large));
        pool.drain_returns();
        drop(block_on(waiting));
    }

    /// A large reader does not use it.
    #[test]
    fn a_large_reader_goes_past() {
        let some = cache(&pool(), 1 << 20);
        assert!(some.takes(256 << 10));
        assert!(!some.takes((256 << 10) + 1));
        assert!(!cache(&pool(), 0).takes(1));
    }
}
