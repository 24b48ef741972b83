//! The simulated world: cores, disk and clock, and the hand that moves them.
//!
//! At each step the seed decides who goes on: one of the cores, or one of the disk's pending operations. A step takes a few
//! microseconds; when nobody has anything to do, time leaps to the next deadline. Now and then a core stands still for a
//! while, as a thread does that the kernel has taken the processor from, and what hangs on the disk goes on.

pub use super::opening::{OpenFailure, Stuck};
use super::{
    harm::Harm,
    history::Work,
    opening::{BATCH_BUFFERS, STEPS_MAX, open_core},
    remote::CARD,
};
use crate::{
    core_engine::CoreEngine,
    device::simulated::{DiskOptions, FileId, Lie, Loss, SimulatedDisk},
    error::{self, OpenError},
    events::EventHub,
    inspect::Severity,
    layout::{Geometry, SecretKey},
    log::memory::LogMemory,
    reactor::{Core, CoreOptions, Driver, Moment, WakeCore},
    shard::{Shard, ShardFiles, ShardIdentity, Tuning, reading::Reading},
    store::Placement,
};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy},
    operation::Queue,
    remote::{Endpoint, EndpointOptions, SessionLimits, Transport},
    simulated::{SimulatedFaults, SimulatedNic},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    ops::Range,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

const CORE_MEMORY_BYTES: usize = 36 << 20;
const QUEUE_DEPTH: usize = 64;
/// What an index that is bounded leaves for one change, and for the buckets of all clients with their documents.
pub(super) const INDEX_BYTES_KEPT: u64 = 24 << 10;
/// Where the simulated wall clock starts: some day in 2026.
const WALL_CLOCK_START_MS: u64 = 1_790_000_000_000;

/// One in so many leaps of time the wall clock is set, by up to [`CLOCK_JUMP_MS_MAX`].
const CLOCK_JUMPS_EVERY: u32 = 64;
/// Some forty days.
const CLOCK_JUMP_MS_MAX: u64 = 1 << 32;

/// The longest that a step takes.
const STEP_NS_MAX: u64 = 20_000;
/// The longest that a core stands still.
pub const CORE_STALL_STEPS_MAX: u64 = 400;
/// While operations hang on the disk: one in so many steps they go on.
const RELEASE_EVERY: u32 = 100;
/// The longest that operations hang when nobody has anything else to do.
const HANG_NS_MAX: u64 = 1_000_000_000;

/// How large the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldOptions {
    /// Cores.
    pub cores: usize,
    /// Shards of the store.
    pub shards: u16,
    /// Bytes of a zone.
    pub zone_bytes: u32,
    /// Zones that a shard may have.
    pub zones_max: u32,
    /// Whether completed writes may be lost until a flush.
    pub volatile_cache: bool,
    /// Room on the disk for all files together, bytes.
    pub disk_bytes_max: u64,
    /// One in so many steps a core begins to stand still for up to [`CORE_STALL_STEPS_MAX`] steps; 0: never.
    pub core_stall_every: u32,
    /// A checkpoint is taken after so many bytes of log.
    pub checkpoint_log_bytes: u64,
    /// How often a write of an anchor is passed over while the rest of the disk goes on; the log then goes far beyond a
    /// checkpoint that no anchor names yet.
    pub anchor_slowness: u32,
    /// A disk that breaks its promises, to see that the checkers see it.
    pub lie: Option<Lie>,
    /// Objects of at most so many bytes are packed into the log.
    pub packed_bytes_max: u32,
    /// The network.
    pub card: Weather,
    /// Bytes of each core's read cache.
    pub read_cache_bytes: usize,
    /// Bytes that the index of each shard may take.
    pub index_bytes_max: u64,
    /// Whether each shard has a window of a raw block device, and not two files.
    pub raw: bool,
    /// Whether files are those of a store that keeps zones of log and data apart, as older builds made them.
    pub apart: bool,
}

/// What the network does to those who use it: as in [`SimulatedFaults`], but for the seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Polls between two steps of a session at most.
    pub delay_polls_max: u32,
    /// Steps of 1024 whose packets are lost.
    pub drop_per_1024: u32,
    /// Steps of 1024 that are a connection's last.
    pub disconnect_per_1024: u32,
}

impl Weather {
    /// Whether transfers may fail for no fault of anybody's.
    pub fn loses(self) -> bool {
        self.drop_per_1024 > 0 || self.disconnect_per_1024 > 0
    }

    fn faults(self, seed: u64) -> SimulatedFaults {
        let Weather { delay_polls_max, drop_per_1024, disconnect_per_1024 } = self;
        let calm = SimulatedFaults::none(seed);
        SimulatedFaults { delay_polls_max, drop_per_1024, disconnect_per_1024, retries_max: 3, ..calm }
    }
}

impl Default for WorldOptions {
    fn default() -> WorldOptions {
        WorldOptions {
            cores: 2,
            shards: 3,
            zone_bytes: 512 << 10,
            zones_max: 64,
            volatile_cache: true,
            disk_bytes_max: 1 << 40,
            core_stall_every: 0,
            checkpoint_log_bytes: 1 << 20,
            anchor_slowness: 0,
            lie: None,
            packed_bytes_max: 64 << 10,
            card: Weather::default(),
            read_cache_bytes: 0,
            index_bytes_max: u64::MAX,
            raw: false,
            apart: false,
        }
    }
}

/// The clock that all cores share, and the core's part of the card.
struct SimulatedDriver {
    clock: Rc<Cell<u64>>,
    /// How far the wall clock was set forward, milliseconds.
    wall_clock_set_ms: Rc<Cell<u64>>,
    card: Rc<dyn Endpoint>,
}

impl Driver for SimulatedDriver {
    fn turn(&self) -> usize {
        self.card.poll()
    }

    fn endpoint(&self, transport: &str) -> Option<Rc<dyn Endpoint>> {
        (transport == CARD).then(|| self.card.clone())
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
        self.wall_clock_set_ms.get() + self.clock.get() / 1_000_000
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
    wall_clock_set_ms: Rc<Cell<u64>>,
    cores: Vec<Core>,
    engines: Vec<CoreEngine>,
    /// What has befallen the shards.
    harm: Harm,
    /// The most log that an open may replay of each shard, by how its last life ended; none where nobody knows.
    replay_bytes_max: Vec<Option<u64>>,
    card: SimulatedNic,
    /// The cores' memory, of one life after the other.
    arena: Option<Arena>,
    /// The card's part of each core.
    endpoints: Vec<Rc<dyn Endpoint>>,
    /// A core that stands still, and until which step.
    standing: Option<(usize, u64)>,
    /// Steps taken.
    pub steps: u64,
    /// Crashes so far.
    pub crashes: u64,
    /// Checkpoints taken, log zones cleaned and payloads moved, in the lives that are over.
    pub care: [u64; 3],
    /// Stretches of objects that were in a read cache, and that somebody else was just reading.
    pub cached: [u64; 2],
}

impl Drop for World {
    fn drop(&mut self) {
        // Tasks hold each other, and the cores: nothing but this lets go of their memory.
        self.stop_cores();
    }
}

const STORE: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
const SECRET: SecretKey = SecretKey(*b"sixteen secrets.");

impl World {
    /// A world with a freshly formatted store; not open yet.
    pub fn new(seed: u64, options: WorldOptions) -> World {
        let rng = fastrand::Rng::with_seed(seed);
        let disk = SimulatedDisk::new(DiskOptions {
            bytes_max: options.disk_bytes_max,
            volatile_cache: options.volatile_cache,
            lie: None,
        });
        let create = |shard| match options.raw {
            true => [disk.create_raw(&format!("device-{shard}"), options.log_region().1); 2],
            false => ["data", "log"].map(|kind| disk.create_file(&format!("{kind}-{shard}"), 0)),
        };
        let files = (0..options.shards).map(create).collect();
        let geometry = Geometry {
            shard_count: options.shards,
            zone_bytes: options.zone_bytes,
            inline_bytes_max: 256,
            packed_bytes_max: options.packed_bytes_max,
            zones_max: options.zones_max,
            mixed: !options.apart,
        };
        let (clock, wall_clock_set_ms) = (Rc::default(), Rc::new(Cell::new(WALL_CLOCK_START_MS)));
        let mut world = World {
            options,
            geometry,
            harm: Harm::new(disk.clone(), files, BTreeSet::new()),
            disk,
            rng,
            clock,
            wall_clock_set_ms,
            replay_bytes_max: vec![None; options.shards.into()],
            cores: Vec::new(),
            engines: Vec::new(),
            card: SimulatedNic::new(options.card.faults(seed)),
            arena: None,
            endpoints: Vec::new(),
            standing: None,
            steps: 0,
            crashes: 0,
            care: [0; 3],
            cached: [0; 2],
        };
        world.start_cores();
        for shard in 0..options.shards {
            let (core, queue) = (world.cores[0].clone(), Queue::new(QUEUE_DEPTH));
            let files = world.files(shard, &queue);
            let memory = LogMemory::reserve(core.pool(), 1, 1).expect("a fresh pool");
            let identity = world.identity(shard);
            let format = Shard::format(identity, core, files, memory.share());
            world.run(format).expect("formatting an undisturbed disk works");
        }
        world.stop_cores();
        world.disk.set_lie(options.lie);
        for shard in 0..options.shards {
            world.disk.slow_down(world.log_file(shard), world.anchors(), options.anchor_slowness);
        }
        world
    }

    fn log_file(&self, shard: u16) -> FileId {
        self.file(shard, true)
    }

    /// The file of a shard's log or data, or its device.
    pub fn file(&self, shard: u16, log: bool) -> FileId {
        self.harm.file(shard, log)
    }

    /// What has befallen the shards in this life, and what of older damage is there.
    pub fn harm(&self) -> &Harm {
        &self.harm
    }

    /// Where the anchors of a shard are in its log file.
    pub(super) fn anchors(&self) -> Range<u64> {
        let (region, _) = self.options.log_region();
        region.anchor_offset(0)..region.zone_offset(0)
    }

    fn identity(&self, shard: u16) -> ShardIdentity {
        ShardIdentity { store: STORE, shard, geometry: self.geometry, secret: SECRET }
    }

    fn files(&self, shard: u16, queue: &Queue) -> ShardFiles {
        let open = |log| Rc::new(self.disk.open(self.file(shard, log), queue));
        let zone_bytes = self.geometry.zone_bytes;
        match self.options.raw {
            true => ShardFiles::of_window(open(true), self.options.log_region().0, zone_bytes),
            false => ShardFiles::of_files(open(true), open(false), zone_bytes),
        }
    }

    fn start_cores(&mut self) {
        let pools = self.options.cores;
        let bytes = CORE_MEMORY_BYTES * pools;
        // A card of its own for each life: nothing of it outlives a crash.
        self.card = SimulatedNic::new(self.options.card.faults(self.rng.u64(..)));
        // The memory does, where nothing of the life before has any of it left: what is in it then is as good as zeros to whoever is let
        // have it, or stale bytes would be seen.
        let options = ArenaOptions { bytes, pools, pages: PagePolicy::Plain, prefault: false };
        let renewed = self.arena.take().and_then(|arena| arena.renew().ok());
        let map = || Arena::map(&options).expect("the simulator's memory can be mapped");
        let arena = renewed.unwrap_or_else(map);
        self.card.register(&arena).expect("a fresh card");
        self.arena = Some(arena.clone());
        self.endpoints = (0..pools)
            .map(|index| {
                let mut rng = self.rng.fork();
                let entropy = Box::new(move |bytes: &mut [u8]| rng.fill(bytes));
                let limits = SessionLimits::default();
                let options = EndpointOptions { core: index as u16, limits, entropy };
                self.card.open(options).expect("it has an arena")
            })
            .collect();
        self.cores = (0..pools)
            .map(|index| {
                let driver = Rc::new(SimulatedDriver {
                    clock: self.clock.clone(),
                    wall_clock_set_ms: self.wall_clock_set_ms.clone(),
                    card: self.endpoints[index].clone(),
                });
                let options = CoreOptions { index, seed: self.rng.u64(..), shuffle: true };
                Core::new(options, driver, arena.pool(index))
            })
            .collect();
        let addresses: Vec<_> = self.cores.iter().map(Core::address).collect();
        self.cores.iter().for_each(|core| core.connect(addresses.clone()));
    }

    fn stop_cores(&mut self) {
        self.replay_bytes_max.fill(None);
        for shard in self.engines.iter().flat_map(|engine| engine.own_shards()) {
            let statistics = shard.statistics();
            let care = [statistics.checkpoints, statistics.zones_cleaned, statistics.payloads_moved];
            self.replay_bytes_max[usize::from(shard.id())] = shard.replay_bytes().1;
            self.care.iter_mut().zip(care).for_each(|(sum, more)| *sum += more);
        }
        for engine in &self.engines {
            let metrics = engine.metrics();
            let cached = [metrics.cache_hits.value(), metrics.cache_shared.value()];
            self.cached.iter_mut().zip(cached).for_each(|(sum, more)| *sum += more);
        }
        self.engines.clear();
        self.cores.iter().for_each(Core::stop);
        self.cores.clear();
        self.endpoints.clear();
    }

    /// How large the world is.
    pub fn options(&self) -> &WorldOptions {
        &self.options
    }

    /// Over which clients' memory is reached, until the life ends.
    pub fn card(&self) -> SimulatedNic {
        self.card.clone()
    }

    /// Whether the core has something to do now.
    fn is_busy(&self, index: usize, now: Moment) -> bool {
        let core = &self.cores[index];
        !core.is_idle()
            || core.next_deadline().is_some_and(|next| next <= now)
            || !self.endpoints[index].begin_wait()
    }

    /// Opens the store on new cores. If it fails the cores are stopped again.
    ///
    /// # Errors
    /// What recovery could not make sense of.
    pub fn open(&mut self) -> Result<(), OpenFailure> {
        let results = self.begin_open();
        let (count, done) = (self.cores.len(), results.clone());
        let finished = self.run_until(move || done.borrow().len() == count);
        let engines = finished.map_err(OpenFailure::Stuck).and_then(|()| {
            let results = results.take().into_iter();
            results.collect::<Result<Vec<_>, _>>().map_err(OpenFailure::Refused)
        });
        match engines {
            Ok(engines) => self.engines = engines,
            Err(failure) => {
                self.stop_cores();
                return Err(failure);
            }
        }
        self.engines.sort_by_key(|engine| engine.core().index());
        let shards = self.engines.iter().flat_map(|engine| engine.own_shards());
        self.harm = self.harm.with_holes(shards.filter(|shard| shard.has_hole()).map(|s| s.id()).collect());
        let first = self.engine(0);
        let settled = self.try_run(async move { first.settle_buckets().await });
        if let Err(error) = settled.map_err(OpenFailure::Stuck)? {
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
        self.disk.forget_struck();
        self.harm = self.harm.with_holes(BTreeSet::new());
        self.start_cores();
        let placement = Arc::new(Placement::new(self.geometry, STORE, self.options.cores));
        let (results, events) = (Opening::default(), Arc::<EventHub>::default());
        let tuning = Tuning {
            checkpoint_log_bytes: self.options.checkpoint_log_bytes,
            scrub_note_us: 2000,
            index_bytes_max: self.options.index_bytes_max,
            index_bytes_kept: INDEX_BYTES_KEPT,
            ..Tuning::default()
        };
        let read_cache_bytes = self.options.read_cache_bytes;
        for core in self.cores.clone() {
            let queue = Queue::new(QUEUE_DEPTH);
            let files = (0..self.options.shards).map(|shard| self.files(shard, &queue)).collect();
            let identities = (0..self.options.shards).map(|shard| self.identity(shard)).collect();
            let opening = open_core(
                core.clone(),
                placement.clone(),
                files,
                identities,
                (tuning, read_cache_bytes),
                events.clone(),
            );
            let results = results.clone();
            core.spawn_own(async move {
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

    /// The power goes as in [`World::crash`], but of what is not durable only one write is lost or torn.
    pub fn crash_losing(&mut self, victim: usize, loss: Loss) {
        self.stop_cores();
        self.disk.crash_losing(victim, loss, &mut self.rng);
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
                gate: None,
            })
            .collect();
        let placement = Placement::new(self.geometry, STORE, self.options.cores);
        let findings = self.try_run(async move { crate::inspect::check_store(&readings, &placement).await });
        self.stop_cores();
        let findings = findings.map_err(|stuck| format!("checking the disks: {stuck}"))?;
        let wrong = findings.into_iter().find(|finding| finding.severity > worst);
        wrong.map_or(Ok(()), |finding| Err(format!("the disks hold no sound store: {finding:?}")))
    }

    /// Whether a shard is at this work.
    pub fn is_at(&self, work: Work) -> bool {
        if work == Work::Anchor {
            let is_writing = |shard| self.disk.is_writing(self.log_file(shard), &self.anchors());
            return (0..self.options.shards).any(is_writing);
        }
        self.engines.iter().flat_map(|engine| engine.own_shards()).any(|shard| shard.is_at(work))
    }

    /// Whether a shard misses something of its log, and says so.
    pub fn has_hole(&self) -> bool {
        self.harm.has_hole()
    }

    /// Whether the open that was just made had no more to replay than checkpoints let there be.
    ///
    /// # Errors
    /// How much more.
    pub fn check_replay(&self) -> Result<(), String> {
        for shard in self.engines.iter().flat_map(|engine| engine.own_shards()) {
            let (bytes, most) = (shard.replay_bytes().0, self.replay_bytes_max[usize::from(shard.id())]);
            if most.is_some_and(|most| bytes > most) {
                return Err(format!("shard {} replayed {bytes} bytes of log, and not {most:?}", shard.id()));
            }
        }
        Ok(())
    }

    /// Steps until every log says that all that was acknowledged is durable.
    ///
    /// # Errors
    /// One never does.
    pub fn seal(&mut self) -> Result<(), Stuck> {
        let shards: Vec<_> = self.engines.iter().flat_map(|e| e.own_shards().cloned()).collect();
        self.run_until(|| shards.iter().all(|shard| shard.is_sealed()))
    }

    /// What of each log file a recovery would replay now, in bytes of the file.
    pub fn replayed_log(&self) -> Vec<(FileId, Range<u64>)> {
        let shards = self.engines.iter().flat_map(|engine| engine.own_shards());
        let of_shard = |shard: &Rc<Shard>| {
            let place = |range: Range<u64>| {
                let (region, start) = shard.files.locate(error::Region::Log, range.start);
                let file = self.file(shard.id(), region == error::Region::Log);
                (file, start..start + (range.end - range.start))
            };
            shard.replayed_log().into_iter().map(place).collect::<Vec<_>>()
        };
        shards.flat_map(of_shard).collect()
    }

    /// Closes the store in good order.
    ///
    /// # Errors
    /// A shard that never comes to an end.
    pub fn close(&mut self) -> Result<(), Stuck> {
        for engine in self.engines.clone() {
            let shards: Vec<_> = engine.own_shards().cloned().collect();
            self.try_run(async move {
                for shard in shards {
                    drop(shard.close().await);
                }
            })?;
        }
        self.kill();
        Ok(())
    }

    /// The process ends at once, the machine goes on: what the disk has been asked for it does.
    pub fn kill(&mut self) {
        self.stop_cores();
        while self.disk.pending() + self.disk.stalled() > 0 {
            self.disk.release_stalled();
            self.disk.step(&mut self.rng);
        }
    }

    /// Runs a future on the first core, with everything else going on, to its end.
    ///
    /// # Panics
    /// If it never comes to an end.
    pub fn run<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        self.try_run(future).unwrap_or_else(|stuck| panic!("{stuck}"))
    }

    /// As [`World::run`], for whoever expects that it may never come to an end.
    ///
    /// # Errors
    /// It never comes to an end.
    pub fn try_run<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> Result<T, Stuck> {
        let result: Rc<RefCell<Option<T>>> = Rc::default();
        let put = result.clone();
        self.cores[0]
            .spawn_own(async move {
                let value = future.await;
                *put.borrow_mut() = Some(value);
            })
            .detach();
        let look = result.clone();
        self.run_until(move || look.borrow().is_some())?;
        let value = result.borrow_mut().take();
        Ok(value.expect("run_until saw it"))
    }

    /// Steps until the condition holds.
    ///
    /// # Errors
    /// Nobody can go on, or everybody goes on and on, and it still does not.
    pub fn run_until(&mut self, mut done: impl FnMut() -> bool) -> Result<(), Stuck> {
        let last = self.steps + STEPS_MAX;
        while !done() {
            if !self.step() {
                return Err(self.stuck(true));
            }
            if self.steps > last {
                return Err(self.stuck(false));
            }
        }
        Ok(())
    }

    fn stuck(&self, idle: bool) -> Stuck {
        let mut scene = format!("on the disk {} of {}", self.disk.pending(), self.disk.in_flight());
        for core in &self.cores {
            let (index, pool) = (core.index(), core.pool());
            scene += &format!("; core {index}: {} leases, {} wait for one", pool.leases(), pool.waiters());
        }
        for shard in self.engines.iter().flat_map(|engine| engine.own_shards()) {
            scene += &format!("; shard {}: {}", shard.id(), shard.scene());
        }
        Stuck { idle, scene }
    }

    /// Lets somebody go on; false if nobody can.
    pub fn step(&mut self) -> bool {
        self.steps += 1;
        // Work takes time: deadlines fall in the middle of it, and not only when all is quiet.
        self.clock.set(self.clock.get() + self.rng.u64(0..STEP_NS_MAX));
        let now = Moment(self.clock.get());
        let standing = self.standing_core();
        let pending = self.disk.pending();
        let busy: Vec<usize> = (0..self.cores.len())
            .filter(|index| standing != Some(*index) && self.is_busy(*index, now))
            .collect();
        // Three in four to a core: completions then meet cores at every stage of their work.
        if !busy.is_empty() && (pending == 0 || self.rng.u8(0..4) > 0) {
            let index = busy[self.rng.usize(..busy.len())];
            self.cores[index].turn();
            return true;
        }
        if pending > 0 {
            return self.disk.step(&mut self.rng);
        }
        // Only a core that stands still and a disk that hangs are left: one of them goes on.
        if self.standing.take().is_some() {
            return true;
        }
        // A lease that came back may be waited for by a core that is otherwise idle.
        let returned: usize = self.cores.iter().map(|core| core.pool().drain_returns()).sum();
        if returned > 0 {
            return true;
        }
        let next = self.cores.iter().filter_map(Core::next_deadline).min();
        let hangs = self.disk.stalled() > 0;
        let too_late = next.is_none_or(|next| next.0 > self.clock.get() + HANG_NS_MAX);
        if hangs && (too_late || self.rng.bool()) {
            self.disk.release_stalled();
            return true;
        }
        let Some(next) = next else { return false };
        if self.rng.u32(..CLOCK_JUMPS_EVERY) == 0 {
            // Forward or back, in the midst of what goes on: nothing but what people read is made from it.
            let jump = self.rng.u64(0..2 * CLOCK_JUMP_MS_MAX);
            self.wall_clock_set_ms.set(WALL_CLOCK_START_MS - CLOCK_JUMP_MS_MAX + jump);
        }
        self.clock.set(self.clock.get().max(next.0));
        self.cores.iter().for_each(|core| {
            core.turn();
        });
        true
    }

    /// The core that stands still now. Decides by chance whether one begins to.
    fn standing_core(&mut self) -> Option<usize> {
        if self.options.core_stall_every > 0 && self.rng.u32(..self.options.core_stall_every) == 0 {
            let until = self.steps + self.rng.u64(1..=CORE_STALL_STEPS_MAX);
            self.standing = Some((self.rng.usize(..self.cores.len()), until));
        }
        if self.disk.stalled() > 0 && self.rng.u32(..RELEASE_EVERY) == 0 {
            self.disk.release_stalled();
        }
        let steps = self.steps;
        self.standing = self.standing.filter(|(_, until)| *until > steps);
        self.standing.map(|(core, _)| core)
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

    /// Steps until all that was sent has arrived and nobody has anything to do but what time brings.
    ///
    /// # Errors
    /// It never comes to rest.
    pub fn come_to_rest(&mut self) -> Result<(), Stuck> {
        for _ in 0..STEPS_MAX {
            let now = Moment(self.clock.get());
            let busy = (0..self.cores.len()).any(|index| self.is_busy(index, now));
            if self.disk.in_flight() == 0 && !busy {
                return Ok(());
            }
            self.step();
        }
        Err(self.stuck(false))
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
            let kept = self.engines.get(core.index()).map_or(0, |engine| engine.cache().blocks());
            if leases != reserved + kept {
                return Err(format!("core {} has {leases} leases at rest", core.index()));
            }
        }
        Ok(())
    }
}
