//! How a store is opened, and made if there is none.

use super::{
    Engine, Inner,
    own::OwnCore,
    threads::{CorePlan, FrontEnd, PROCESSORS_MAX, Started, Threads, Unavailable, own_processors},
};
use crate::{
    core_engine::CoreEngine,
    error::OpenError,
    layout::{SecretKey, Superblock},
    log::memory::{LogMemory, buffers_of_core},
    memory::{MemoryPlan, Sizes},
    planted::{Point, reach},
    reactor::{Core, CoreOptions, Driver, RingDriver},
    shard::{Shard, ShardIdentity, open::RecoveryReport, scrub::ScrubSchedule},
    store::{
        Placement,
        directory::{DataPath, OpenShard},
        format,
    },
};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PageKind, PagePolicy},
    remote::{SessionLimits, Transport},
    ring::{DriverChoice, Ring, RingOptions},
};
use std::{
    future::Future,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// Memory of a core when nobody says otherwise.
const CORE_MEMORY_BYTES: usize = 128 << 20;
/// The least a core works with: batch buffers of up to eight shards, and a few operations of the largest size.
const CORE_MEMORY_BYTES_MIN: usize = 32 << 20;
/// How long operations wait for a core's memory when nobody says otherwise. A core of 128 MiB has room for five large reads at a time,
/// and any burst has more: each is through in tens of milliseconds on a network of a gigabit, so that hundreds have had their turn before
/// anybody is refused. Still much less than the minute after which clients give up, and ask again.
const ADMISSION_WAIT: Duration = Duration::from_secs(5);
/// One in so many bytes of a bounded index is left by what adds to it.
const INDEX_KEPT: u64 = 8;
/// Memory of the core that reads superblocks and formats: a superpage for each class of buffer it uses, and one more.
const SCAFFOLD_BYTES: usize = 16 << 20;
/// Operations in flight on each ring.
const RING_DEPTH: usize = 1024;
/// Operations of the engine in flight on each core.
const OPERATIONS_MAX: usize = 1024;
/// What a build of the crash tests makes a store for at most: its zones are then small, and turn over within seconds.
const PLANTED_CAPACITY_BYTES: u64 = 512 << 20;

/// Says how to open a store: see [`Engine::builder`].
#[derive(Clone)]
pub struct Builder {
    pub(super) paths: Vec<PathBuf>,
    pub(super) cores: Option<usize>,
    pub(super) shards: Option<u16>,
    pub(super) memory_bytes: Option<usize>,
    pub(super) memory_max: Option<u64>,
    pub(super) read_cache_bytes: usize,
    pub(super) create: bool,
    pub(super) pin: Pin,
    pub(super) busy_poll: Duration,
    pub(super) driver: DriverChoice,
    pub(super) admission_wait: Duration,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) front_end: Option<FrontEnd>,
    pub(super) transports: Vec<Arc<dyn Transport>>,
    pub(super) session_limits: SessionLimits,
    pub(super) scrub: Option<ScrubSchedule>,
    pub(super) require_all_shards: bool,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            paths: Vec::new(),
            cores: None,
            shards: None,
            memory_bytes: None,
            memory_max: None,
            read_cache_bytes: 0,
            create: true,
            pin: Pin::No,
            busy_poll: Duration::ZERO,
            driver: DriverChoice::Best,
            admission_wait: ADMISSION_WAIT,
            capacity_bytes: None,
            front_end: None,
            transports: Vec::new(),
            session_limits: SessionLimits::default(),
            scrub: None,
            require_all_shards: false,
        }
    }
}

/// Where the cores' threads are to run.
#[derive(Clone)]
pub(super) enum Pin {
    No,
    /// On the processors that the process may use.
    Own,
    To(Arc<[usize]>),
}

impl Pin {
    /// A processor for each of so many cores, as far as there are; none if they are not to be pinned.
    fn processors(&self, cores: usize) -> Result<Arc<[usize]>, OpenError> {
        match self {
            Pin::No => Ok(Arc::default()),
            Pin::Own => Ok(own_processors()?.into_iter().take(cores).collect()),
            Pin::To(named) if named.len() < cores => Err(OpenError::Options(format!(
                "{cores} cores are to be pinned to {} processors",
                named.len()
            ))),
            Pin::To(named) => match named.iter().find(|processor| **processor >= PROCESSORS_MAX) {
                Some(processor) => Err(OpenError::Options(format!("there is no processor {processor}"))),
                None => Ok(named.iter().copied().take(cores).collect()),
            },
        }
    }
}

/// What opening a store found and chose.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenReport {
    /// Whether the store was made.
    pub created: bool,
    /// Each shard's recovery.
    pub shards: Vec<RecoveryReport>,
    /// Shards that could not be opened, and why; the others work. Their keys are answered [`crate::Error::ShardUnavailable`], and so
    /// are listings.
    pub unavailable: Vec<(u16, Arc<OpenError>)>,
    /// The arena's pages.
    pub pages: PageKind,
    /// Why they are no better, if they are not 2 MiB pages of the hugetlb pool.
    pub pages_lacking: Option<String>,
    /// The arena's size in bytes.
    pub arena_bytes: usize,
    /// What drives the cores.
    pub driver: String,
    /// Why the arena could not be registered with the kernel, if it could not.
    pub unregistered: Option<String>,
    /// The processor that each core's thread is pinned to, if they were to be: see [`Builder::pin`].
    pub processors: Vec<usize>,
    /// Directories whose file system has no `O_DIRECT`: there all goes through the page cache, with a copy each way.
    pub page_cached: Vec<PathBuf>,
    /// What the store takes of memory at most, term by term.
    pub memory: MemoryPlan,
}

/// A store whose files are open and locked, before its cores run.
pub(super) struct Prepared {
    pub(super) plan: CorePlan,
    pub(super) paths: Vec<DataPath>,
    pub(super) cores: usize,
    /// Without what the cores will find.
    pub(super) report: OpenReport,
}

impl OpenReport {
    /// With what the cores found.
    pub(super) fn with(
        mut self,
        shards: Vec<RecoveryReport>,
        unavailable: Unavailable,
        driver: String,
        unregistered: Option<String>,
    ) -> OpenReport {
        self.memory.index_bytes = shards.iter().map(|shard| shard.index_bytes).sum();
        OpenReport { shards, unavailable, driver, unregistered, ..self }
    }
}

impl Builder {
    /// Adds a directory or block device. The order is remembered by the store.
    ///
    /// A block device is taken exclusively, so that one which is mounted, or a part of an array or a volume, is refused
    /// ([`crate::device::file::OpenError::InUse`]). A new store is made only on a device that reads as zeros in its first 4 MiB, in its
    /// last one, and where the anchors of the store would lie: what others have there, what is left of a store whose superblocks are
    /// gone, and what a format left that was cut short, are not written over ([`OpenError::Occupied`]). There is no option to do it all
    /// the same: a device is zeroed once, on purpose (`blkdiscard --zeroout`), and an option would stay.
    pub fn path(mut self, path: impl AsRef<Path>) -> Builder {
        self.paths.push(path.as_ref().to_path_buf());
        self
    }

    /// Threads to run, each with a ring and its share of memory and shards. Default: as many as the process may use.
    pub fn cores(mut self, count: usize) -> Builder {
        self.cores = Some(count);
        self
    }

    /// Shards of a new store, 1 to 256 and at least one for each path; fixed from then on. Default: two for each core, or one for each
    /// path if those are more, to the next power of two.
    pub fn shards(mut self, count: u16) -> Builder {
        self.shards = Some(count);
        self
    }

    /// The arena, in bytes, for all cores together: the greatest part of what the engine uses besides its index. All of it is in
    /// [`OpenReport::memory`]. Default: 128 MiB for each core; at least 32 MiB for each, and 256 KiB for each of its shards beyond
    /// eight. How many transfers at a time that admits is in `engine/docs/limits.md`.
    pub fn memory_bytes(mut self, bytes: usize) -> Builder {
        self.memory_bytes = Some(bytes);
        self
    }

    /// What the store may take of memory in all, bytes: the sum of [`OpenReport::memory`]. The index gets what the other terms leave,
    /// each shard an equal part; where that is used up but for an eighth, what would add to it is told [`crate::Error::Busy`] with
    /// [`crate::Resource::Index`], and reads and deletes go on. A store whose index needs more is not opened. Front ends and
    /// transports have memory of their own. Default: no bound for the index.
    pub fn memory_max(mut self, bytes: u64) -> Builder {
        self.memory_max = Some(bytes);
        self
    }

    /// How much of the arena may keep bytes that were read and verified, for all cores together: what is read again comes from there,
    /// without the device. Kept bytes count as free memory and go when anybody needs it, so that this takes nothing from transfers;
    /// reads of more than a quarter of a core's share go past it. Each core keeps what was read on it. Default: 0, because front
    /// ends may have a cache of their own.
    pub fn read_cache_bytes(mut self, bytes: usize) -> Builder {
        self.read_cache_bytes = bytes;
        self
    }

    /// Bytes a new store may grow to, small objects and large ones together, which sizes its zones; besides them it takes 64 KiB a shard and
    /// 256 KiB a path. Default: the file system or device.
    pub fn capacity_bytes(mut self, bytes: u64) -> Builder {
        self.capacity_bytes = Some(bytes);
        self
    }

    /// Whether to make a store where there is none, in a directory that may be missing or on a device that is empty. Default: yes. Say
    /// no where there has to be one: a file system that is not mounted leaves an empty directory, and a store would be made there.
    pub fn create(mut self, create: bool) -> Builder {
        self.create = create;
        self
    }

    /// Whether to pin each core's thread to a processor of those that the process may use: the first core to the first of them, and so on;
    /// cores beyond them are not pinned. Two stores that are open in one process share them then: see [`Builder::pin_to`]. Default: no, because others may run there.
    pub fn pin(mut self, pin: bool) -> Builder {
        self.pin = if pin { Pin::Own } else { Pin::No };
        self
    }

    /// Pins each core's thread to a processor of these, by its number as the system counts: core 0 to the first. There must be one for each
    /// core. Which of them is near a disk or a network card is the machine's matter, and so the caller's.
    pub fn pin_to(mut self, processors: impl IntoIterator<Item = usize>) -> Builder {
        self.pin = Pin::To(processors.into_iter().collect());
        self
    }

    /// How long a core that has nothing to do goes on looking for work before it sleeps: tens of microseconds save whoever comes then the
    /// wake-up, at the price of a processor that is busy for so long after each time there was something. For cores that have a processor
    /// each, which nobody else wants; where clients are on the same host they do. Default: not at all.
    pub fn busy_poll(mut self, limit: Duration) -> Builder {
        self.busy_poll = limit;
        self
    }

    /// What drives the cores. Default: io_uring where the kernel allows it.
    pub fn driver(mut self, driver: DriverChoice) -> Builder {
        self.driver = driver;
        self
    }

    /// How long an operation waits when a core's share of memory or operations is used up, before it is told
    /// [`crate::Error::Busy`]. Default: 5 s. With [`Duration::ZERO`] it is told at once; a program of one thread that holds transfers
    /// while it begins others wants that, because it would wait for itself. [`CoreEngine::waiting_at_most`] says it for one caller.
    pub fn admission_wait(mut self, wait: Duration) -> Builder {
        self.admission_wait = wait;
        self
    }

    /// Has the store scrub itself in the background, at the least priority: it reads all it holds, again and again, and tells
    /// what is wrong ([`Engine::corruption_events`]). How far it is is kept with the store, so that a restart costs little.
    /// Default: not at all.
    pub fn scrub(mut self, schedule: ScrubSchedule) -> Builder {
        self.scrub = Some(schedule);
        self
    }

    /// Adds a transport, of this library or of any other crate. It registers the engine's arena before the cores start, so that what
    /// a disk filled is what a network card sends; each core then has an endpoint of it, driven by the core's loop, which front ends
    /// find at [`RingDriver::endpoint`] by the transport's name. The order is that of preference. Default: none.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Builder {
        self.transports.push(transport);
        self
    }

    /// How many sessions each core has of each transport, what they have in flight, and how long they may be idle.
    pub fn session_limits(mut self, limits: SessionLimits) -> Builder {
        self.session_limits = limits;
        self
    }

    /// Runs a front end on each core's own thread, beside the engine. It should return soon after
    /// [`CoreEngine::closing`] resolves; closing waits for it.
    ///
    /// A panic in it ends the front end on that core and nothing else: the core goes on for whoever needs its shards. So does one in a
    /// task of its own ([`Core::spawn`]), which ends the task; both are logged, and counted in
    /// [`CoreMetrics::panics`](crate::CoreMetrics::panics). Only a panic in the midst of a change of the engine's own ends a core
    /// ([`Engine::failed_cores`]).
    pub fn on_each_core<W, F>(mut self, work: W) -> Builder
    where
        W: Fn(CoreEngine, Rc<RingDriver>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.front_end = Some(Arc::new(move |engine, driver| Box::pin(work(engine, driver))));
        self
    }

    /// Has a store opened whole or not at all: with any shard missing it fails ([`OpenError::Shards`]). Default: one shard is enough.
    pub fn require_all_shards(mut self) -> Builder {
        self.require_all_shards = true;
        self
    }

    /// Opens the store. Blocks until every shard is recovered.
    ///
    /// A shard that can not be opened takes no other with it: it is in [`OpenReport::unavailable`], with the reason, and its keys are
    /// answered [`crate::Error::ShardUnavailable`]. One whose log is damaged may be read and not written: its report has a
    /// [`RecoveryReport::hole`]. Look at both, or demand all ([`Builder::require_all_shards`]).
    ///
    /// # Errors
    /// Nothing was changed, but for a store that was to be made; none of its threads runs any more, and nothing is locked.
    /// [`OpenError::Shards`] when no shard could be opened; [`OpenError::Locked`] also for a while after the last [`Engine`] of the same
    /// store was dropped: see [`Engine::close`].
    pub fn open(self) -> Result<Engine, OpenError> {
        let Prepared { plan, paths, cores, report } = self.prepare()?;
        let (placement, events, failures) =
            (plan.placement.clone(), plan.events.clone(), plan.failures.clone());
        let (threads, started) = Threads::start(plan, cores, paths)?;
        let Started { addresses, metrics, shards, unavailable, driver, unregistered } = started;
        let report = report.with(shards, unavailable, driver, unregistered);
        let inner = Inner { addresses, placement, metrics, events, failures, report, threads };
        Ok(Engine { inner: Arc::new(inner), wait: None })
    }

    /// Opens the store with one core, on this thread: for a program with a loop of its own, which polls it ([`OwnCore::poll`]) when a
    /// descriptor is readable. No thread is started. Blocks until every shard is recovered.
    ///
    /// # Errors
    /// As [`Builder::open`]; also when another number of cores than one was asked for.
    pub fn open_here(mut self) -> Result<OwnCore, OpenError> {
        if self.cores.replace(1).is_some_and(|cores| cores != 1) {
            return Err(OpenError::Options("a store opened on one thread has one core".into()));
        }
        OwnCore::open(self.prepare()?)
    }

    /// Bytes of the arena.
    fn memory(&self, cores: usize) -> usize {
        self.memory_bytes.unwrap_or(cores * CORE_MEMORY_BYTES)
    }

    /// All that is done before the first core runs.
    fn prepare(self) -> Result<Prepared, OpenError> {
        if self.paths.is_empty() {
            return Err(OpenError::Options("no directory or device was given".into()));
        }
        let cores = match self.cores {
            Some(cores) => cores,
            None => std::thread::available_parallelism().map_or(1, |count| count.get()),
        };
        if cores == 0 || cores > 1024 {
            return Err(OpenError::Options(format!("{cores} cores")));
        }
        let memory = self.memory(cores);
        check_memory(memory, cores, 1)?;
        let pins = self.pin.processors(cores)?;
        let paths = self.paths.iter().map(|path| DataPath::lock(path, self.create));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        let scaffold = Scaffold::new(self.driver, SCAFFOLD_BYTES)?;
        let (superblocks, created) = self.superblocks(&paths, cores, &scaffold)?;
        let first = check_together(&paths, &superblocks)?;
        check_memory(memory, cores, first.geometry.shard_count)?;
        let shards = open_shards(&paths, &superblocks, &first)?;
        drop(scaffold);
        let mut page_cached = Vec::new();
        for (path, superblock) in paths.iter().zip(&superblocks) {
            let range = shards_of(superblock.device_index, first.device_count, first.geometry.shard_count);
            if range.into_iter().any(|shard| !shards[usize::from(shard)].is_direct()) {
                page_cached.push(path.path.clone());
            }
        }

        let pages = PagePolicy::Best;
        let arena = Arena::map(&ArenaOptions { bytes: memory, pools: cores, pages, prefault: false })
            .map_err(|error| OpenError::Options(error.to_string()))?;
        register(&self.transports, &arena)?;
        let placement = Arc::new(Placement::new(first.geometry, first.store, cores));
        let read_cache_bytes = self.read_cache_bytes.min(arena.bytes());
        let sizes = Sizes {
            cores,
            shards: first.geometry.shard_count,
            arena_bytes: arena.bytes(),
            ring_depth: RING_DEPTH,
            operations_max: OPERATIONS_MAX,
            read_cache_bytes,
        };
        let memory = MemoryPlan::new(sizes, self.memory_max)?;
        let memory = memory.beside(&self.transports, &self.session_limits, cores);
        let shard_count = u64::from(first.geometry.shard_count);
        let index_bytes_max = memory.index_bytes_max.map_or(u64::MAX, |bytes| bytes / shard_count);
        let plan = CorePlan {
            arena: arena.clone(),
            placement,
            store: first.store,
            secret: SecretKey(first.secret),
            shards: Arc::new(shards),
            driver: self.driver,
            depth: RING_DEPTH,
            operations_max: OPERATIONS_MAX,
            admission_wait: self.admission_wait,
            read_cache_bytes: read_cache_bytes / cores,
            pins: pins.clone(),
            busy_poll: self.busy_poll,
            front_end: self.front_end.clone(),
            tuning: crate::shard::Tuning {
                index_bytes_max,
                index_bytes_kept: index_bytes_max / INDEX_KEPT,
                ..crate::shard::Tuning::default()
            },
            transports: self.transports.clone(),
            session_limits: self.session_limits,
            scrub: self.scrub,
            require_all_shards: self.require_all_shards,
            events: Arc::default(),
            failures: Arc::default(),
        };
        let report = OpenReport {
            created,
            shards: Vec::new(),
            unavailable: Vec::new(),
            pages: arena.page_kind(),
            pages_lacking: arena.pages_lacking().map(str::to_owned),
            arena_bytes: arena.bytes(),
            driver: String::new(),
            unregistered: None,
            processors: pins.to_vec(),
            page_cached,
            memory,
        };
        Ok(Prepared { plan, paths, cores, report })
    }

    fn superblocks(
        &self,
        paths: &[DataPath],
        cores: usize,
        scaffold: &Scaffold,
    ) -> Result<(Vec<Superblock>, bool), OpenError> {
        let (core, ring) = (&scaffold.core, scaffold.driver.ring());
        let formatted: Vec<bool> =
            paths.iter().map(|path| path.is_formatted(core, ring)).collect::<Result<_, _>>()?;
        if formatted.iter().all(|there| *there) {
            let all = paths.iter().map(|path| path.superblock(core, ring)).collect::<Result<_, _>>()?;
            return Ok((all, false));
        }
        if formatted.iter().any(|there| *there) {
            let rest = self.left_unnamed(paths, &formatted, scaffold)?;
            for (path, superblock) in rest {
                path.finish_format(core, ring, &superblock)?;
            }
            let all = paths.iter().map(|path| path.superblock(core, ring)).collect::<Result<_, _>>()?;
            return Ok((all, true));
        }
        if !self.create {
            return Err(OpenError::Missing { path: paths[0].path.clone() });
        }
        let made = self.format(paths, cores, scaffold)?;
        Ok((made, true))
    }

    /// The superblocks that a store lacks whose making ended while its devices were named, one after the other: all its shards were there
    /// by then, and it was never opened.
    ///
    /// # Errors
    /// That is not what lies on these paths, or no store is to be made here. Nothing was changed.
    fn left_unnamed<'a>(
        &self,
        paths: &'a [DataPath],
        formatted: &[bool],
        scaffold: &Scaffold,
    ) -> Result<Vec<(&'a DataPath, Superblock)>, OpenError> {
        let mismatch = || OpenError::Mismatch("some of the paths hold a store and some do not".into());
        let place = formatted.iter().position(|there| *there).expect("the caller saw one");
        let known = paths[place].superblock(&scaffold.core, scaffold.driver.ring())?;
        let together =
            usize::from(known.device_count) == paths.len() && usize::from(known.device_index) == place;
        if !self.create || !together {
            return Err(mismatch());
        }
        let mut rest = Vec::new();
        for (index, path) in
            (0..known.device_count).zip(paths).filter(|(index, _)| !formatted[usize::from(*index)])
        {
            let range = shards_of(index, known.device_count, known.geometry.shard_count);
            let superblock = Superblock { device_index: index, shard_first: range.start, ..known.clone() };
            if !path.is_left_unnamed(&superblock, range)? {
                return Err(mismatch());
            }
            rest.push((path, superblock));
        }
        Ok(rest)
    }

    fn format(
        &self,
        paths: &[DataPath],
        cores: usize,
        scaffold: &Scaffold,
    ) -> Result<Vec<Superblock>, OpenError> {
        let devices = u16::try_from(paths.len()).map_err(|_| OpenError::Options("too many paths".into()))?;
        let shard_count = self.shards.unwrap_or_else(|| format::default_shard_count(cores, paths.len()));
        if shard_count == 0 || shard_count > crate::layout::SHARDS_MAX || shard_count < devices {
            return Err(OpenError::Options(format!("{shard_count} shards on {devices} paths")));
        }
        // Before there is a store that would then not open.
        check_memory(self.memory(cores), cores, shard_count)?;
        let mut least = u64::MAX;
        for path in paths {
            least = least.min(path.capacity_bytes()?);
        }
        if cfg!(planted) {
            least = least.min(PLANTED_CAPACITY_BYTES);
        }
        let capacity = self.capacity_bytes.map_or(least, |bytes| bytes / u64::from(devices));
        let each = u64::from(shard_count.div_ceil(devices));
        let geometry = format::geometry(shard_count, capacity / each).ok_or_else(|| {
            OpenError::Options(format!("{} MiB are too little for {shard_count} shards", capacity >> 20))
        })?;
        // All of them before the first is written to.
        for (index, path) in paths.iter().enumerate() {
            let range = shards_of(index as u16, devices, shard_count);
            path.check_vacant(&scaffold.core, scaffold.driver.ring(), &geometry, range.end - range.start)?;
        }
        let mut random = [0u8; 32];
        getrandom::fill(&mut random).map_err(|error| OpenError::Options(error.to_string()))?;
        let (store, secret) = random.split_at(16);
        let store = u128::from_le_bytes(store.try_into().expect("sixteen bytes"));
        let secret: [u8; 16] = secret.try_into().expect("sixteen bytes");
        let (core, driver) = (&scaffold.core, &scaffold.driver);
        let mut superblocks = Vec::new();
        for (index, path) in paths.iter().enumerate() {
            let range = shards_of(index as u16, devices, shard_count);
            let count = range.end - range.start;
            path.create_shards(range.start, count)?;
            for shard in range.clone() {
                let open = path.open_shard(&geometry, shard, shard - range.start, count)?;
                let files = open.on(driver.ring()).map_err(|source| OpenError::Io {
                    what: "open",
                    path: path.path.clone(),
                    source,
                })?;
                let identity = ShardIdentity { store, shard, geometry, secret: SecretKey(secret) };
                let memory = LogMemory::reserve(core.pool(), 1, 1)
                    .ok_or_else(|| OpenError::Options("too little memory to format with".into()))?;
                let task = Shard::format(identity, core.clone(), files, memory.share());
                core.block_on(task).map_err(OpenError::Device)?;
                reach(Point::ShardMade);
            }
            let superblock = Superblock {
                store,
                epoch: 1,
                device_index: index as u16,
                device_count: devices,
                shard_first: range.start,
                geometry,
                secret,
                features: 0,
                created_ms: driver.wall_clock_ms(),
            };
            superblocks.push(superblock);
        }
        // The store is there once its last device says so.
        for (path, superblock) in paths.iter().zip(&superblocks) {
            path.finish_format(core, driver.ring(), superblock)?;
        }
        Ok(superblocks)
    }
}

/// Makes the arena known to each transport.
fn register(transports: &[Arc<dyn Transport>], arena: &Arena) -> Result<(), OpenError> {
    for (place, transport) in transports.iter().enumerate() {
        let name = transport.name();
        if transports.iter().take(place).any(|other| other.name() == name) {
            return Err(OpenError::Options(format!("two transports are called {name}")));
        }
        transport.register(arena).map_err(|error| {
            OpenError::Options(format!("transport {name} could not register the arena: {error}"))
        })?;
    }
    Ok(())
}

/// The shards of one of several devices.
pub(crate) fn shards_of(device: u16, devices: u16, shards: u16) -> std::ops::Range<u16> {
    let bound = |index: u16| (u32::from(index) * u32::from(shards) / u32::from(devices)) as u16;
    bound(device)..bound(device + 1)
}

/// Whether these are all the devices of one store, in the order it remembers.
pub(crate) fn check_together(
    paths: &[DataPath],
    superblocks: &[Superblock],
) -> Result<Superblock, OpenError> {
    let first = superblocks.first().cloned().expect("at least one path");
    for (index, (path, superblock)) in paths.iter().zip(superblocks).enumerate() {
        let same = superblock.store == first.store && superblock.geometry == first.geometry;
        let in_place = usize::from(superblock.device_index) == index;
        if !same || !in_place || usize::from(superblock.device_count) != paths.len() {
            return Err(OpenError::Mismatch(format!(
                "{} is device {} of {} of store {:032x}; give all devices of one store in their order",
                path.path.display(),
                superblock.device_index + 1,
                superblock.device_count,
                superblock.store,
            )));
        }
    }
    Ok(first)
}

/// Whether so much memory is enough for so many shards on so many cores: batch buffers grow with a core's shards.
fn check_memory(bytes: usize, cores: usize, shard_count: u16) -> Result<(), OpenError> {
    let shards = usize::from(shard_count).div_ceil(cores);
    let more = LogMemory::bytes(buffers_of_core(shards)) - LogMemory::bytes(buffers_of_core(0));
    let least = cores * (CORE_MEMORY_BYTES_MIN + more);
    if bytes < least {
        let least = least.div_ceil(1 << 20);
        return Err(OpenError::Options(format!(
            "{cores} cores with {shards} shards each need at least {least} MiB of memory"
        )));
    }
    Ok(())
}

fn open_shards(
    paths: &[DataPath],
    superblocks: &[Superblock],
    first: &Superblock,
) -> Result<Vec<OpenShard>, OpenError> {
    let mut shards = Vec::new();
    for (path, superblock) in paths.iter().zip(superblocks) {
        let range = shards_of(superblock.device_index, first.device_count, first.geometry.shard_count);
        let count = range.end - range.start;
        for shard in range.clone() {
            shards.push(path.open_shard(&first.geometry, shard, shard - range.start, count)?);
        }
    }
    Ok(shards)
}

/// A core on the caller's thread, to read superblocks and to format with, and to look at a store.
pub(crate) struct Scaffold {
    pub(crate) core: Core,
    pub(crate) driver: Rc<RingDriver>,
}

impl Scaffold {
    pub(crate) fn new(driver: DriverChoice, memory_bytes: usize) -> Result<Scaffold, OpenError> {
        let arena = Arena::map(&ArenaOptions {
            bytes: memory_bytes,
            pools: 1,
            pages: PagePolicy::Plain,
            prefault: false,
        });
        let arena = arena.map_err(|error| OpenError::Options(error.to_string()))?;
        let ring =
            Ring::new(&RingOptions { driver, depth: 64 }).map_err(|source| OpenError::Ring { source })?;
        let driver = Rc::new(RingDriver::new(ring));
        let options = CoreOptions { index: 0, seed: 0, shuffle: false };
        let core = Core::new(options, driver.clone(), arena.pool(0));
        core.connect(vec![core.address()]);
        Ok(Scaffold { core, driver })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store on two devices of which the second was not named yet when the power went is finished by the next open, and by nothing
    /// else: not where that device has other shards, or some that were in use.
    #[test]
    fn a_store_is_finished_of_which_not_every_device_was_named() {
        let directory = tempfile::tempdir().unwrap();
        let places = ["one", "two"].map(|name| directory.path().join(name));
        let builder = |create| {
            let builder = Engine::builder().cores(1).memory_bytes(64 << 20).create(create);
            places.iter().fold(builder, |builder, place| builder.path(place))
        };
        let prepare = || builder(true).prepare();
        let unname = || {
            std::fs::remove_file(places[1].join("superblock")).unwrap();
            std::fs::write(places[1].join("formatting"), b"").unwrap();
        };
        let made = prepare().unwrap();
        assert!(made.report.created);
        let store = made.plan.store;
        drop(made);
        unname();
        let refused = builder(false).prepare();
        assert!(matches!(refused, Err(OpenError::Mismatch(_))), "{:?}", refused.err());
        let finished = prepare().unwrap();
        assert!(finished.report.created && finished.plan.store == store);
        drop(finished);
        assert!(!places[1].join("formatting").exists());
        let engine = builder(true).open().unwrap();
        engine.close();
        // It was in use since.
        unname();
        let refused = prepare();
        assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{:?}", refused.err());
        // Nothing is there, or something of another store.
        std::fs::remove_dir_all(&places[1]).unwrap();
        let refused = prepare();
        assert!(matches!(refused, Err(OpenError::Mismatch(_))), "{:?}", refused.err());
        drop(
            Engine::builder()
                .cores(1)
                .memory_bytes(64 << 20)
                .path(directory.path().join("three"))
                .path(&places[1])
                .prepare()
                .unwrap(),
        );
        unname();
        let refused = prepare();
        assert!(matches!(refused, Err(OpenError::Mismatch(_))), "{:?}", refused.err());
    }

    /// The memory that is enough for a core is not for one of many shards, each of which has a batch buffer of its own: such a store is not
    /// made, and not opened. With a quarter of a megabyte for each of them it is.
    #[test]
    fn a_core_of_many_shards_needs_more_memory() {
        let directory = tempfile::tempdir().unwrap();
        let (enough, place) = ((32 << 20) + 12 * (256 << 10), directory.path().join("store"));
        let builder = |memory| Engine::builder().cores(1).shards(20).memory_bytes(memory).path(&place);
        let refused = |memory| {
            let refused = builder(memory).open().err();
            assert!(matches!(refused, Some(OpenError::Options(_))), "{refused:?}");
        };
        refused(enough - 1);
        assert!(!place.join("superblock").exists());
        builder(enough).open().unwrap().close();
        refused(enough - 1);
    }

    /// Every shard lives on exactly one device, and none is empty when there are enough.
    #[test]
    fn shards_are_divided() {
        for devices in 1..7u16 {
            for shards in devices..40 {
                let mut next = 0;
                for device in 0..devices {
                    let range = shards_of(device, devices, shards);
                    assert_eq!(range.start, next);
                    assert!(!range.is_empty());
                    next = range.end;
                }
                assert_eq!(next, shards);
            }
        }
    }
}
