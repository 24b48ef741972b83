//! One core on disks in memory, and nothing else: no kernel, no thread, no chance. For counting what the engine itself
//! costs: instructions, allocations, copies.
//!
//! Its clock goes on by a microsecond each turn, so that two runs are the same.

use super::opening::open_core;
use crate::{
    core_engine::CoreEngine,
    device::memory::MemoryDisk,
    layout::{Geometry, SecretKey},
    log::memory::LogMemory,
    reactor::{Core, CoreOptions, Driver, Moment, WakeCore},
    shard::{Shard, ShardFiles, ShardIdentity, Tuning},
    store::Placement,
};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy},
    operation::Queue,
};
use std::{cell::Cell, future::Future, rc::Rc, sync::Arc, time::Duration};

const MEMORY_BYTES: usize = 64 << 20;
const DISK_BYTES: u64 = 1 << 30;
/// What the log of a run comes to at most.
const LOG_BYTES: u64 = 256 << 20;
const QUEUE_DEPTH: usize = 64;
const TURN_NS: u64 = 1000;
const WALL_CLOCK_MS: u64 = 1_790_000_000_000;

struct BareDriver(Cell<u64>);

impl Driver for BareDriver {
    fn turn(&self) -> usize {
        self.0.set(self.0.get() + TURN_NS);
        0
    }

    fn park(&self, limit: Option<Duration>) {
        let ns = limit.map_or(TURN_NS, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        self.0.set(self.0.get().saturating_add(ns.max(TURN_NS)));
    }

    fn waker(&self) -> WakeCore {
        Arc::new(|| {})
    }

    fn now(&self) -> Moment {
        Moment(self.0.get())
    }

    fn wall_clock_ms(&self) -> u64 {
        WALL_CLOCK_MS + self.0.get() / 1_000_000
    }
}

/// An open store of one shard, with the sizes a new store has.
pub struct Bare {
    core: Core,
    engine: CoreEngine,
}

impl Bare {
    /// Formats and opens it.
    ///
    /// # Panics
    /// When there is not enough memory.
    pub fn open() -> Bare {
        Bare::open_with_cache(0)
    }

    /// The same, with a read cache of so many bytes.
    ///
    /// # Panics
    /// When there is not enough memory.
    pub fn open_with_cache(read_cache_bytes: usize) -> Bare {
        let arena = ArenaOptions { bytes: MEMORY_BYTES, pools: 1, pages: PagePolicy::Plain, prefault: false };
        let arena = Arena::map(&arena).expect("memory can be mapped");
        let driver = Rc::new(BareDriver(Cell::new(0)));
        let core = Core::new(CoreOptions { index: 0, seed: 1, shuffle: false }, driver, arena.pool(0));
        core.connect(vec![core.address()]);
        let geometry = Geometry {
            shard_count: 1,
            zone_bytes: 16 << 20,
            inline_bytes_max: 1024,
            packed_bytes_max: 256 << 10,
            zones_max: 64,
            mixed: true,
        };
        let (store, secret) = (1, SecretKey(*b"sixteen secrets."));
        let identity = ShardIdentity { store, shard: 0, geometry, secret };
        let queue = Queue::new(QUEUE_DEPTH);
        let (log, data) = (MemoryDisk::new(0, DISK_BYTES), MemoryDisk::new(0, DISK_BYTES));
        log.populate(LOG_BYTES);
        let files = || {
            let (log, data) = (Rc::new(log.open(&queue)), Rc::new(data.open(&queue)));
            ShardFiles::of_files(log, data, geometry.zone_bytes)
        };
        let memory = LogMemory::reserve(core.pool(), 1, 1).expect("a fresh pool");
        let formatted = core.block_on(Shard::format(identity, core.clone(), files(), memory.share()));
        formatted.expect("a disk in memory can be formatted");
        let placement = Arc::new(Placement::new(geometry, store, 1));
        let tuning = Tuning { checkpoint_log_bytes: u64::MAX, ..Tuning::default() };
        let (files, events) = (vec![files()], Arc::default());
        let opening =
            open_core(core.clone(), placement, files, vec![identity], (tuning, read_cache_bytes), events);
        let engine = core.block_on(opening).expect("what was just formatted opens");
        let settle = engine.clone();
        core.block_on(async move { settle.settle_buckets().await }).expect("no bucket is there yet");
        Bare { core, engine }
    }

    /// The engine.
    pub fn engine(&self) -> CoreEngine {
        self.engine.clone()
    }

    /// Runs a future to its end.
    pub fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        self.core.block_on(future)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // Tasks hold each other, and the core.
        self.core.stop();
    }
}
