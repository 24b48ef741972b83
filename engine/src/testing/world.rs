//! The simulated world: cores, disk and clock, and the hand that moves them.
//!
//! At each step the seed decides who goes on: one of the cores, or one of the disk's pending operations. A step takes a few
//! microseconds; when nobody has anything to do, time leaps to the next deadline.

use crate::{
    core_engine::{CoreEngine, CoreLimits, CoreState, Flag},
    device::simulated::{DiskOptions, SimulatedDisk},
    error::OpenError,
    inspect::Severity,
    layout::{Geometry, SecretKey, regions::Region},
    log::memory::LogMemory,
    reactor::{Budget, Core, CoreOptions, Driver, Moment, WakeCore},
    shard::{Shard, ShardFiles, ShardIdentity, Tuning, reading::Reading},
    store::Placement,
};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy},
    operation::Queue,
};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

const CORE_MEMORY_BYTES: usize = 24 << 20;
const BATCH_BUFFERS: usize = 6;
const QUEUE_DEPTH: usize = 64;
/// Where the simulated wall clock starts: some day in 2026.
const WALL_CLOCK_START_MS: u64 = 1_790_000_000_000;

/// The longest that a step takes.
const STEP_NS_MAX: u64 = 20_000;

/// How large the world is.
#[derive(Clone, Copy, Debug)]
pub struct WorldOptions {
    /// Cores.
    pub cores: usize,
    /// Shards of the store.
    pub shards: u16,
    /// Bytes of a zone.
    pub zone_bytes: u32,
    /// Zones of each kind that a shard may have.
    pub zones_max: u32,
    /// Whether completed writes may be lost until a flush.
    pub volatile_cache: bool,
}

impl Default for WorldOptions {
    fn default() -> WorldOptions {
        WorldOptions { cores: 2, shards: 3, zone_bytes: 512 << 10, zones_max: 64, volatile_cache: true }
    }
}

/// The clock that all cores share.
struct SimulatedDriver {
    clock: Rc<Cell<u64>>,
}

impl Driver for SimulatedDriver {
    fn turn(&self) -> usize {
        0
    }

    fn park(&self, _limit: Option<Duration>) {
        unreachable!("the world never lets a core sleep: it steps somebody else");
    }

    fn waker(&self) -> WakeCore {
        Arc::new(|| {})
    }

    fn now(&self) -> Moment {
        Moment(self.clock.get())
    }

    fn wall_clock_ms(&self) -> u64 {
        WALL_CLOCK_START_MS + self.clock.get() / 1_000_000
    }
}

type Opening = Rc<RefCell<Vec<Result<CoreEngine, OpenError>>>>;

/// A world with a formatted store in it.
pub struct World {
    options: WorldOptions,
    geometry: Geometry,
    /// The disk, for faults and checks.
    pub disk: SimulatedDisk,
    rng: fastrand::Rng,
    clock: Rc<Cell<u64>>,
    cores: Vec<Core>,
    engines: Vec<CoreEngine>,
    /// Steps taken, crashes survived.
    pub steps: u64,
    /// Crashes so far.
    pub crashes: u64,
}

const STORE: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
const SECRET: SecretKey = SecretKey(*b"sixteen secrets.");

impl World {
    /// A world with a freshly formatted store; not open yet.
    pub fn new(seed: u64, options: WorldOptions) -> World {
        let rng = fastrand::Rng::with_seed(seed);
        let disk =
            SimulatedDisk::new(DiskOptions { bytes_max: 1 << 40, volatile_cache: options.volatile_cache });
        for shard in 0..options.shards {
            disk.create_file(&format!("log-{shard}"), 0);
            disk.create_file(&format!("data-{shard}"), 0);
        }
        let geometry = Geometry {
            shard_count: options.shards,
            zone_bytes: options.zone_bytes,
            inline_bytes_max: 256,
            packed_bytes_max: 64 << 10,
            zones_max: options.zones_max,
        };
        let clock = Rc::default();
        let mut world = World {
            options,
            geometry,
            disk,
            rng,
            clock,
            cores: Vec::new(),
            engines: Vec::new(),
            steps: 0,
            crashes: 0,
        };
        world.start_cores();
        for shard in 0..options.shards {
            let (core, queue) = (world.cores[0].clone(), Queue::new(QUEUE_DEPTH));
            let files = world.files(shard, &queue);
            let memory = LogMemory::reserve(core.pool(), 1).expect("a fresh pool");
            let format = Shard::format(world.identity(shard), core, files, memory);
            world.run(format).expect("formatting an undisturbed disk works");
        }
        world.stop_cores();
        world
    }

    fn identity(&self, shard: u16) -> ShardIdentity {
        ShardIdentity { store: STORE, shard, geometry: self.geometry, secret: SECRET }
    }

    fn files(&self, shard: u16, queue: &Queue) -> ShardFiles {
        let open = |name: String| {
            let file = self.disk.find(&name).expect("made with the world");
            Rc::new(self.disk.open(file, queue))
        };
        let (log, data) =
            (Region::log_file(self.geometry.zone_bytes), Region::data_file(self.geometry.zone_bytes));
        ShardFiles {
            log: open(format!("log-{shard}")),
            data: open(format!("data-{shard}")),
            log_base: log.anchor_offset(0),
            log_zones_at: log.zone_offset(0),
            data_zones_at: data.zone_offset(0),
            shared: false,
        }
    }

    fn start_cores(&mut self) {
        let pools = self.options.cores;
        let bytes = CORE_MEMORY_BYTES * pools;
        let arena = Arena::map(&ArenaOptions { bytes, pools, pages: PagePolicy::Plain, prefault: false })
            .expect("the simulator's memory can be mapped");
        self.cores = (0..pools)
            .map(|index| {
                let driver = Rc::new(SimulatedDriver { clock: self.clock.clone() });
                let options = CoreOptions { index, seed: self.rng.u64(..), shuffle: true };
                Core::new(options, driver, arena.pool(index))
            })
            .collect();
        let addresses: Vec<_> = self.cores.iter().map(Core::address).collect();
        self.cores.iter().for_each(|core| core.connect(addresses.clone()));
    }

    fn stop_cores(&mut self) {
        self.engines.clear();
        self.cores.iter().for_each(Core::stop);
        self.cores.clear();
    }

    /// Opens the store on new cores.
    ///
    /// # Errors
    /// What recovery could not make sense of.
    pub fn open(&mut self) -> Result<(), OpenError> {
        let results = self.begin_open();
        let (count, done) = (self.cores.len(), results.clone());
        self.run_until(move || done.borrow().len() == count);
        let mut engines = results.take().into_iter().collect::<Result<Vec<_>, _>>()?;
        engines.sort_by_key(|engine| engine.core().index());
        self.engines = engines;
        let first = self.engine(0);
        if let Err(error) = self.run(async move { first.settle_buckets().await }) {
            // The shard has stopped writing, which whoever writes will be told.
            tracing::warn!(%error, "buckets were not settled");
        }
        Ok(())
    }

    /// Begins to open the store, and cuts the power after so many steps.
    pub fn open_and_crash_after(&mut self, steps: u32) {
        let results = self.begin_open();
        for _ in 0..steps {
            self.step();
        }
        drop(results);
        self.crash();
    }

    fn begin_open(&mut self) -> Opening {
        self.start_cores();
        let placement = Arc::new(Placement::new(self.geometry, STORE, self.options.cores));
        let results = Opening::default();
        for core in self.cores.clone() {
            let queue = Queue::new(QUEUE_DEPTH);
            let files = (0..self.options.shards).map(|shard| self.files(shard, &queue)).collect();
            let identities = (0..self.options.shards).map(|shard| self.identity(shard)).collect();
            let opening = open_core(core.clone(), placement.clone(), files, identities);
            let results = results.clone();
            core.spawn(async move {
                let result = opening.await;
                results.borrow_mut().push(result);
            })
            .detach();
        }
        results
    }

    /// The engine on core `index`.
    pub fn engine(&self, index: usize) -> CoreEngine {
        self.engines[index % self.engines.len()].clone()
    }

    /// The power goes: every task dies, the disk keeps what it must and of the rest what chance will have.
    pub fn crash(&mut self) {
        self.stop_cores();
        self.disk.crash(&mut self.rng);
        self.crashes += 1;
    }

    /// Whether the disks hold a sound store as they lie, with nothing worse than `worst`: opens nothing and changes
    /// nothing. No core may be running.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_disks(&mut self, worst: Severity) -> Result<(), String> {
        self.start_cores();
        let (core, queue) = (self.cores[0].clone(), Queue::new(QUEUE_DEPTH));
        let readings: Vec<Reading> = (0..self.options.shards)
            .map(|shard| Reading {
                identity: self.identity(shard),
                core: core.clone(),
                files: self.files(shard, &queue),
            })
            .collect();
        let placement = Placement::new(self.geometry, STORE, self.options.cores);
        let findings = self.run(async move { crate::inspect::check_store(&readings, &placement).await });
        self.stop_cores();
        let wrong = findings.into_iter().find(|finding| finding.severity > worst);
        wrong.map_or(Ok(()), |finding| Err(format!("the disks hold no sound store: {finding:?}")))
    }

    /// Closes the store in good order.
    pub fn close(&mut self) {
        for engine in self.engines.clone() {
            let shards: Vec<_> = engine.own_shards().cloned().collect();
            self.run(async move {
                for shard in shards {
                    shard.close().await;
                }
            });
        }
        self.stop_cores();
    }

    /// Runs a future on the first core, with everything else going on, to its end.
    pub fn run<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let result: Rc<RefCell<Option<T>>> = Rc::default();
        let put = result.clone();
        self.cores[0]
            .spawn(async move {
                let value = future.await;
                *put.borrow_mut() = Some(value);
            })
            .detach();
        let look = result.clone();
        self.run_until(move || look.borrow().is_some());
        let value = result.borrow_mut().take();
        value.expect("run_until saw it")
    }

    /// Steps until the condition holds.
    ///
    /// # Panics
    /// If nobody can go on and it still does not: something waits for what will never come.
    pub fn run_until(&mut self, mut done: impl FnMut() -> bool) {
        while !done() {
            assert!(self.step(), "nothing can go on: a task waits for what will never come");
        }
    }

    /// Lets somebody go on; false if nobody can.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        // Work takes time: deadlines fall in the middle of it, and not only when all is quiet.
        self.clock.set(self.clock.get() + self.rng.u64(0..STEP_NS_MAX));
        let now = Moment(self.clock.get());
        let pending = self.disk.pending();
        let is_busy = |core: &Core| !core.is_idle() || core.next_deadline().is_some_and(|next| next <= now);
        let busy: Vec<usize> = (0..self.cores.len()).filter(|index| is_busy(&self.cores[*index])).collect();
        // Three in four to a core: completions then meet cores at every stage of their work.
        if !busy.is_empty() && (pending == 0 || self.rng.u8(0..4) > 0) {
            let index = busy[self.rng.usize(..busy.len())];
            self.cores[index].turn();
            return true;
        }
        if pending > 0 {
            return self.disk.step(&mut self.rng);
        }
        // A lease that came back may be waited for by a core that is otherwise idle.
        let returned: usize = self.cores.iter().map(|core| core.pool().drain_returns()).sum();
        if returned > 0 {
            return true;
        }
        let next = self.cores.iter().filter_map(Core::next_deadline).min();
        let Some(next) = next else { return false };
        self.clock.set(self.clock.get().max(next.0));
        self.cores.iter().for_each(|core| {
            core.turn();
        });
        true
    }

    /// Draws from the world's seed.
    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// Cores in this world.
    pub fn core_count(&self) -> usize {
        self.cores.len()
    }

    /// Simulated time passed.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.get())
    }

    /// Whether, with no operation under way, every shard's space is just what is reachable, and every lease is back.
    ///
    /// # Errors
    /// What is leaked or used twice.
    pub fn check_at_rest(&mut self) -> Result<(), String> {
        for engine in &self.engines {
            for shard in engine.own_shards() {
                shard.check_space().map_err(|error| format!("shard {}: {error}", shard.id()))?;
            }
        }
        for core in &self.cores {
            core.pool().drain_returns();
            let leases = core.pool().leases();
            let owns_shards = core.index() < usize::from(self.options.shards);
            let reserved = if owns_shards { BATCH_BUFFERS + 1 } else { 0 };
            if leases != reserved {
                return Err(format!("core {} has {leases} leases at rest", core.index()));
            }
        }
        Ok(())
    }
}

async fn open_core(
    core: Core,
    placement: Arc<Placement>,
    files: Vec<ShardFiles>,
    identities: Vec<ShardIdentity>,
) -> Result<CoreEngine, OpenError> {
    let memory = LogMemory::reserve(core.pool(), BATCH_BUFFERS).expect("a fresh pool");
    let tuning = Tuning { checkpoint_log_bytes: 1 << 20, gather_us: 100, seal_us: 2000 };
    let mut shards = Vec::new();
    for (identity, files) in identities.iter().zip(&files) {
        let mine = placement.core_of(identity.shard) == core.index();
        shards.push(match mine {
            true => {
                let opening = Shard::open(*identity, core.clone(), files.clone(), tuning, memory.clone());
                Some(opening.await?.0)
            }
            false => None,
        });
    }
    let limits = CoreLimits {
        operations: Budget::new(64),
        write_bytes: Budget::new(12 << 20),
        read_bytes: Budget::new(6 << 20),
        admission_wait: Duration::from_secs(3600),
    };
    let (opened, stop, metrics) = (Flag::default(), Flag::default(), Arc::default());
    Ok(CoreEngine::new(CoreState { core, placement, files, shards, limits, opened, stop, metrics }))
}
