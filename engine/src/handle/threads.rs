//! The cores' threads: the one file that starts threads.
//!
//! Each builds its own ring, tells the others its address, opens its shards, and runs until it is asked to stop. A core
//! keeps answering the others until all have finished their work: only then do the threads end. One that fails, by an error or a
//! panic of the engine's own, has finished too, and is asked in vain: whoever waits for its answer is told that it has gone. When opening fails, all threads have
//! ended before that is told.

use crate::{
    cache::ReadCache,
    core_engine::{CoreEngine, CoreLimits, CoreState, Flag},
    error::{Error, OpenError},
    events::EventHub,
    layout::SecretKey,
    log::memory::{LogMemory, buffers_of_core},
    memory::STACK_BYTES,
    metrics::CoreMetrics,
    reactor::{
        Address, Core, CoreOptions, RingDriver,
        panics::{Failures, caught},
    },
    shard::{Shard, ShardIdentity, Tuning, open::RecoveryReport, scrub::ScrubSchedule},
    store::{
        Placement,
        directory::{DataPath, OpenShard},
    },
};
use crossdock_transport::{
    memory::Arena,
    remote::{EndpointOptions, SessionLimits, Transport},
    ring::{DriverChoice, Ring, RingOptions},
};
use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::PathBuf,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::{Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};

/// A front end that runs on each core.
pub(super) type FrontEnd =
    Arc<dyn Fn(CoreEngine, Rc<RingDriver>) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// Shards that could not be opened, and why.
pub(super) type Unavailable = Vec<(u16, Arc<OpenError>)>;

/// What every core is made with.
#[derive(Clone)]
pub(super) struct CorePlan {
    pub(super) arena: Arena,
    pub(super) placement: Arc<Placement>,
    pub(super) store: u128,
    pub(super) secret: SecretKey,
    pub(super) shards: Arc<Vec<OpenShard>>,
    pub(super) driver: DriverChoice,
    pub(super) depth: usize,
    pub(super) operations_max: usize,
    pub(super) admission_wait: Duration,
    /// Of each core.
    pub(super) read_cache_bytes: usize,
    /// Which processor each core is pinned to; none: those of cores beyond are not.
    pub(super) pins: Arc<[usize]>,
    /// How long a core looks for work before it sleeps.
    pub(super) busy_poll: Duration,
    pub(super) front_end: Option<FrontEnd>,
    pub(super) tuning: Tuning,
    /// Each has the arena registered.
    pub(super) transports: Vec<Arc<dyn Transport>>,
    pub(super) session_limits: SessionLimits,
    pub(super) scrub: Option<ScrubSchedule>,
    pub(super) require_all_shards: bool,
    pub(super) events: Arc<EventHub>,
    pub(super) failures: Arc<Failures>,
}

/// What the cores said when they were up.
pub(super) struct Started {
    pub(super) addresses: Vec<Address>,
    pub(super) metrics: Vec<Arc<CoreMetrics>>,
    pub(super) shards: Vec<RecoveryReport>,
    pub(super) unavailable: Unavailable,
    pub(super) driver: String,
    pub(super) unregistered: Option<String>,
}

/// The running threads. Dropping them asks them to stop, without waiting.
pub(super) struct Threads {
    addresses: Vec<Address>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    together: Arc<Together>,
    failures: Arc<Failures>,
}

/// What the threads have in common besides messages.
#[derive(Default)]
struct Together {
    /// They are to finish. A core whose engine is not made yet can not be told by a message: it looks here once it is.
    stopping: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    /// Cores that have not finished their work.
    working: usize,
    /// Threads that have not ended.
    running: usize,
    /// Checkpoints that were not taken when their shards were closed.
    without_checkpoint: Vec<(u16, Error)>,
    /// Who waits for the last thread to end.
    waiting: Vec<Waker>,
}

/// What became of a store that was closed: see [`crate::Engine::close`]. All that was acknowledged is there in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Shards of which no checkpoint was taken, and why: their next open replays the log from the one before.
    pub without_checkpoint: Vec<(u16, Error)>,
    /// Cores that had failed, and closed nothing.
    pub failed_cores: Vec<usize>,
}

/// A thread of a core: ended when it is dropped.
struct Running(Arc<Together>);

impl Running {
    fn begin(together: &Arc<Together>) -> Running {
        together.progress().running += 1;
        Running(together.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let woken = {
            let mut progress = self.0.progress();
            progress.running -= 1;
            if progress.running == 0 { std::mem::take(&mut progress.waiting) } else { Vec::new() }
        };
        self.0.changed.notify_all();
        woken.into_iter().for_each(Waker::wake);
    }
}

/// A core's part in the work of all: done when it is dropped, which no error and no panic leaves out.
struct Work {
    together: Arc<Together>,
    reports: mpsc::Sender<Report>,
}

impl Work {
    fn begin(together: &Arc<Together>, reports: &mpsc::Sender<Report>) -> Work {
        together.progress().working += 1;
        Work { together: together.clone(), reports: reports.clone() }
    }

    fn report(&self, report: Report) {
        // Nobody listens only if opening has failed already.
        let _ = self.reports.send(report);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.report(Report::Done);
        self.together.progress().working -= 1;
        self.together.changed.notify_all();
    }
}

impl Together {
    /// Counts are right whoever panicked beside them.
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until every core's work is done.
    fn wait(&self) {
        let done = self.changed.wait_while(self.progress(), |progress| progress.working > 0);
        drop(done.unwrap_or_else(PoisonError::into_inner));
    }
}

enum Report {
    Address(usize, Address),
    Up(Box<Up>),
    Failed(OpenError),
    /// The core does no more, whatever it has said before.
    Done,
}

struct Up {
    shards: Vec<RecoveryReport>,
    unavailable: Unavailable,
    metrics: (usize, Arc<CoreMetrics>),
    driver: String,
    unregistered: Option<String>,
}

impl Threads {
    /// Starts `count` cores and waits until their shards are open. The locks in `paths` are held until all have ended; after an error
    /// they have.
    pub(super) fn start(
        plan: CorePlan,
        count: usize,
        paths: Vec<DataPath>,
    ) -> Result<(Threads, Started), OpenError> {
        let (handles, together, failures) = (Mutex::default(), Arc::default(), plan.failures.clone());
        let mut threads = Threads { addresses: Vec::new(), handles, together, failures };
        let started = threads.bring_up(plan, count, paths);
        match started {
            Ok(started) => {
                threads.begin();
                Ok((threads, started))
            }
            Err(error) => {
                threads.stop();
                threads.join();
                Err(error)
            }
        }
    }

    fn bring_up(&mut self, plan: CorePlan, count: usize, paths: Vec<DataPath>) -> Result<Started, OpenError> {
        let (reports, inbox) = mpsc::channel();
        let locks = Arc::new(paths);
        let (shard_count, all_required) = (plan.shards.len(), plan.require_all_shards);
        // Dropped with an error, which ends the cores that wait for addresses.
        let mut others = Vec::new();
        for index in 0..count {
            let (send_addresses, addresses) = mpsc::channel();
            others.push(send_addresses);
            let (plan, locks) = (plan.clone(), locks.clone());
            let work = Work::begin(&self.together, &reports);
            let running = Running::begin(&self.together);
            let body = move || {
                // Dropped last, after a panic too: the files and locks have gone then.
                let _running = running;
                run_core(index, &plan, &addresses, work);
                // The files first: who is given the locks may have the devices too.
                drop(plan);
                drop(locks);
            };
            let thread =
                std::thread::Builder::new().stack_size(STACK_BYTES).name(format!("crossdock-{index}"));
            let handle = thread.spawn(body).map_err(|source| OpenError::Thread { source })?;
            self.handles().push(handle);
        }
        drop((plan, reports, locks));
        let addresses = collect_addresses(&inbox, count)?;
        self.addresses = addresses.clone();
        for sender in &others {
            // A core that has failed meanwhile says so below.
            let _ = sender.send(addresses.clone());
        }
        let mut started = Started {
            addresses,
            metrics: Vec::new(),
            shards: Vec::new(),
            unavailable: Vec::new(),
            driver: String::new(),
            unregistered: None,
        };
        let mut metrics = Vec::new();
        for _ in 0..count {
            match inbox.recv() {
                Ok(Report::Up(up)) => {
                    started.shards.extend(up.shards);
                    started.unavailable.extend(up.unavailable);
                    started.driver = up.driver;
                    started.unregistered = started.unregistered.or(up.unregistered);
                    metrics.push(up.metrics);
                }
                Ok(Report::Failed(error)) => return Err(error),
                Ok(Report::Address(..) | Report::Done) | Err(_) => {
                    return Err(OpenError::Options("a core ended while it was opened".into()));
                }
            }
        }
        metrics.sort_by_key(|(index, _)| *index);
        started.metrics = metrics.into_iter().map(|(_, metrics)| metrics).collect();
        started.shards.sort_by_key(|report| report.shard);
        started.unavailable.sort_by_key(|(shard, _)| *shard);
        check_shards(&started.unavailable, shard_count, all_required)?;
        Ok(started)
    }

    fn handles(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.handles.lock().expect("nothing panics with the lock held")
    }

    /// Brings the shards in line with each other, then lets the front ends begin.
    fn begin(&self) {
        let (sender, settled) = mpsc::channel();
        if let Some(first) = self.addresses.first() {
            first.send_ignoring_closed(move |core| {
                let Some(engine) = CoreEngine::of(core) else { return };
                let settling = async move {
                    if let Err(error) = engine.settle_buckets().await {
                        // The shard has stopped writing and says so to whoever writes; what it has can be read.
                        tracing::error!(%error, "buckets were not settled");
                    }
                    let _ = sender.send(());
                };
                core.spawn_own(settling).detach();
            });
        }
        // An error means that the core has ended: whoever uses the engine will hear of it.
        let _ = settled.recv();
        for address in &self.addresses {
            address.send_ignoring_closed(|core| {
                if let Some(engine) = CoreEngine::of(core) {
                    engine.opened().raise();
                }
            });
        }
    }

    /// Asks every core to finish: those whose engine is made by a message, the others by the flag, set first.
    pub(super) fn stop(&self) {
        self.together.stopping.store(true, Ordering::SeqCst);
        for address in &self.addresses {
            address.send_ignoring_closed(|core| {
                if let Some(engine) = CoreEngine::of(core) {
                    engine.stop().raise();
                }
            });
        }
    }

    /// What became of the closing; none while threads run.
    fn report(&self) -> Option<CloseReport> {
        let progress = self.together.progress();
        let without_checkpoint = progress.without_checkpoint.clone();
        (progress.running == 0)
            .then(|| CloseReport { without_checkpoint, failed_cores: self.failures.cores() })
    }

    /// Waits until every thread has ended, for so long at most.
    pub(super) fn wait(&self, limit: Duration) -> Option<CloseReport> {
        let is_running = |progress: &mut Progress| progress.running > 0;
        let waited = self.together.changed.wait_timeout_while(self.together.progress(), limit, is_running);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.report()
    }

    /// Resolves when every thread has ended.
    pub(super) async fn ended(&self) -> CloseReport {
        poll_fn(|cx| {
            let mut progress = self.together.progress();
            if progress.running == 0 {
                return Poll::Ready(());
            }
            if !progress.waiting.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                progress.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
        self.report().expect("a thread that has ended does not run again")
    }

    /// Waits until every thread has ended.
    pub(super) fn join(&self) -> CloseReport {
        let handles = std::mem::take(&mut *self.handles());
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("a core ended by a panic");
            }
        }
        // A thread that somebody else waits for may still be ending.
        self.wait(Duration::MAX).expect("it is waited for until it is there")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop();
    }
}

fn collect_addresses(inbox: &mpsc::Receiver<Report>, count: usize) -> Result<Vec<Address>, OpenError> {
    let mut addresses: Vec<Option<Address>> = vec![None; count];
    for _ in 0..count {
        match inbox.recv() {
            Ok(Report::Address(index, address)) => addresses[index] = Some(address),
            Ok(Report::Failed(error)) => return Err(error),
            Ok(Report::Up(_) | Report::Done) | Err(_) => {
                return Err(OpenError::Options("a core ended while it was started".into()));
            }
        }
    }
    Ok(addresses.into_iter().flatten().collect())
}

fn run_core(index: usize, plan: &CorePlan, addresses: &mpsc::Receiver<Vec<Address>>, work: Work) {
    let Ground { core, driver, description, unregistered } = match lay_ground(index, plan) {
        Ok(ground) => ground,
        Err(error) => return work.report(Report::Failed(error)),
    };
    work.report(Report::Address(index, core.address()));
    let Ok(addresses) = addresses.recv() else { return };
    core.connect(addresses);
    let reports = (description, unregistered);
    // What is caught is thrown on once the core has stopped, and nothing of the core is used in between but that.
    let run = AssertUnwindSafe(|| run_to_the_end(index, plan, &core, driver, reports, work));
    if let Err(panic) = catch_unwind(run) {
        plan.failures.note(index);
        // Not while it unwinds: what tasks drop may panic too, and would take the process with it.
        if let Some(engine) = CoreEngine::of(&core) {
            engine.detach_all();
        }
        core.stop();
        resume_unwind(panic);
    }
}

fn run_to_the_end(
    index: usize,
    plan: &CorePlan,
    core: &Core,
    driver: Rc<RingDriver>,
    (description, unregistered): (String, Option<String>),
    work: Work,
) {
    let opening = open_core(plan.clone(), core.clone(), driver.clone());
    let (engine, shards, unavailable) = match core.block_on(opening) {
        Ok(opened) => opened,
        Err(error) => {
            // Whoever asks this core from now on is told that it has ended, and the others do not wait for it.
            core.stop();
            return work.report(Report::Failed(error));
        }
    };
    if work.together.stopping.load(Ordering::SeqCst) {
        engine.stop().raise();
    }
    let metrics = (index, engine.metrics_handle());
    let up = Up { shards, unavailable, metrics, driver: description, unregistered };
    work.report(Report::Up(Box::new(up)));

    run_beside(plan, core, &engine, &driver);
    let front_end = plan.front_end.clone();
    let serving = engine.clone();
    core.block_on(async move {
        let front =
            front_end.map(|front_end| serving.core().spawn_own(serve(serving.clone(), driver, front_end)));
        serving.stop().raised().await;
        if let Some(front) = front {
            // Asked to stop before it began: it begins and sees that at once.
            serving.opened().raise();
            front.await;
        }
    });
    // Others may still need this core's shards until their front ends are done too.
    let together = work.together.clone();
    wait_for_all(core, work);
    let left = core.block_on(close_shards(engine.clone()));
    together.progress().without_checkpoint.extend(left);
    engine.detach_all();
    core.stop();
}

/// A core whose shards are not open yet.
pub(super) struct Ground {
    pub(super) core: Core,
    pub(super) driver: Rc<RingDriver>,
    pub(super) description: String,
    pub(super) unregistered: Option<String>,
}

/// Makes a core on this thread: its ring, and its queues of every transport.
pub(super) fn lay_ground(index: usize, plan: &CorePlan) -> Result<Ground, OpenError> {
    let ring = Ring::new(&RingOptions { driver: plan.driver, depth: plan.depth })
        .map_err(|source| OpenError::Ring { source })?;
    if let Some(processor) = plan.pins.get(index) {
        pin(index, *processor);
    }
    let unregistered = ring.register(&plan.arena).err().map(|error| error.to_string());
    let description = ring.describe();
    let driver = Rc::new(RingDriver::new(ring));
    open_transports(index, plan, &driver)?;
    let options = CoreOptions { index, seed: seed(), shuffle: false };
    let core = Core::new(options, driver.clone(), plan.arena.pool(index));
    core.set_busy_poll(plan.busy_poll);
    Ok(Ground { core, driver, description, unregistered })
}

/// What a core does besides serving: for as long as it runs.
pub(super) fn run_beside(plan: &CorePlan, core: &Core, engine: &CoreEngine, driver: &Rc<RingDriver>) {
    if !plan.transports.is_empty() {
        core.spawn_own(expire_sessions(core.clone(), driver.clone(), plan.session_limits.idle_max)).detach();
    }
    if let Some(schedule) = plan.scrub {
        engine.own_shards().for_each(|shard| core.spawn_own(shard.clone().scrub_for_ever(schedule)).detach());
    }
}

/// The front end of a core, once every core is up. One that panics is over, and the core goes on: it has what others ask for.
pub(super) async fn serve(engine: CoreEngine, driver: Rc<RingDriver>, front_end: FrontEnd) {
    engine.opened().raised().await;
    let core = engine.core().clone();
    if let Err(panic) = caught(&core, Box::pin(async move { front_end(engine, driver).await })).await {
        core.count_panic("a front end", &panic);
    }
}

/// Writes what was sequenced, and takes a checkpoint of each of this core's shards. Those of which none was taken, and why.
pub(super) async fn close_shards(engine: CoreEngine) -> Vec<(u16, Error)> {
    let mut left = Vec::new();
    for shard in engine.own_shards() {
        if let Err(error) = shard.close().await {
            left.push((shard.id(), error));
        }
    }
    left
}

/// This core's queues of every transport.
fn open_transports(index: usize, plan: &CorePlan, driver: &RingDriver) -> Result<(), OpenError> {
    for transport in &plan.transports {
        let options = EndpointOptions {
            // Fewer than 1024 cores.
            core: index as u16,
            limits: plan.session_limits,
            // A session without entropy could be guessed.
            entropy: Box::new(|bytes| {
                getrandom::fill(bytes).expect("the kernel has entropy once it has booted")
            }),
        };
        let endpoint = transport.open(options).map_err(|error| {
            OpenError::Options(format!(
                "transport {} has nothing for core {index}: {error}",
                transport.name()
            ))
        })?;
        driver.attach(transport.name(), endpoint);
    }
    Ok(())
}

/// The longest time between two looks at sessions: what a device does not let go of is held for a few seconds, and for as long as this.
const SESSIONS_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// Looks for sessions that nobody uses, and for those that a device does not let go of, now and then, for as long as the core runs.
async fn expire_sessions(core: Core, driver: Rc<RingDriver>, idle_max: Duration) {
    // At least a millisecond, or the core would do nothing else.
    let interval = (idle_max / 4).clamp(Duration::from_millis(1), SESSIONS_INTERVAL_MAX);
    loop {
        core.sleep(interval).await;
        let now = Duration::from_nanos(core.now().0);
        for (name, endpoint) in driver.endpoints() {
            let ended = endpoint.expire_idle(now);
            if ended > 0 {
                tracing::debug!(transport = name, ended, "idle sessions ended");
            }
        }
    }
}

/// Keeps the core, whose own work is done, running until that of every other is.
fn wait_for_all(core: &Core, work: Work) {
    let together = work.together.clone();
    drop(work);
    // That wait blocks, so a helper does it while this core goes on answering.
    let (sender, arrived) = futures_channel::oneshot::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            together.wait();
            let _ = sender.send(());
        });
        core.block_on(async move {
            let _ = arrived.await;
        });
    });
}

/// Whether so many shards are enough.
pub(super) fn check_shards(
    unavailable: &Unavailable,
    shard_count: usize,
    all_required: bool,
) -> Result<(), OpenError> {
    if unavailable.is_empty() || (!all_required && unavailable.len() < shard_count) {
        return Ok(());
    }
    Err(OpenError::Shards { unavailable: unavailable.clone(), shard_count: shard_count as u16 })
}

pub(super) async fn open_core(
    plan: CorePlan,
    core: Core,
    driver: Rc<RingDriver>,
) -> Result<(CoreEngine, Vec<RecoveryReport>, Unavailable), OpenError> {
    let shards_max = plan.placement.shards_of_core_max();
    let buffers = buffers_of_core(shards_max);
    let memory = LogMemory::reserve(core.pool(), buffers, shards_max)
        .ok_or_else(|| OpenError::Options("too little memory for the log".into()))?;
    let mut files = Vec::new();
    for shard in plan.shards.iter() {
        files.push(shard.on(driver.ring()).map_err(|source| OpenError::Io {
            what: "open the shards of",
            path: PathBuf::new(),
            source,
        })?);
    }
    let (mut shards, mut reports, mut unavailable) = (Vec::new(), Vec::new(), Vec::new());
    for (shard, files) in files.iter().enumerate() {
        let shard = shard as u16;
        if plan.placement.core_of(shard) != core.index() {
            shards.push(None);
            continue;
        }
        let mut geometry = plan.placement.geometry;
        geometry.zones_max = plan.shards[usize::from(shard)].zones.unwrap_or(geometry.zones_max);
        let identity = ShardIdentity { store: plan.store, shard, geometry, secret: plan.secret };
        let opened = Shard::open(identity, core.clone(), files.clone(), plan.tuning, memory.share()).await;
        match opened {
            Ok((shard, report)) => {
                shards.push(Some(shard));
                reports.push(report);
            }
            // Not a fault of this shard: the caller asked for less than the store needs.
            Err(error @ OpenError::Memory { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(%error, shard, "a shard is not available");
                unavailable.push((shard, Arc::new(error)));
                shards.push(None);
            }
        }
    }
    let spare = core.pool().total_bytes() - LogMemory::bytes(buffers);
    let limits = CoreLimits::new(plan.operations_max, spare, plan.admission_wait);
    let metrics = Arc::<CoreMetrics>::default();
    let cache = ReadCache::new(core.pool(), plan.read_cache_bytes, metrics.clone());
    let state = CoreState {
        core,
        placement: plan.placement.clone(),
        files,
        shards,
        limits,
        cache,
        opened: Flag::default(),
        stop: Flag::default(),
        metrics,
        events: plan.events.clone(),
        failures: plan.failures.clone(),
        attached: Default::default(),
    };
    Ok((CoreEngine::new(state), reports, unavailable))
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Only names of uploads and numbers of buckets hang on it, and those must differ between lives of the process: its address space does.
        Err(_) => std::ptr::from_ref(&bytes) as u64,
    }
}

fn pin(index: usize, processor: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(%error, index, processor, "the core's thread was not pinned");
    }
}

/// Numbers of processors are below this.
pub(super) const PROCESSORS_MAX: usize = rustix::thread::CpuSet::MAX_CPU;

/// The processors that this thread, and those it starts, may run on: those of the machine, or what a container or `taskset` leaves.
pub(super) fn own_processors() -> Result<Vec<usize>, OpenError> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|error| OpenError::Options(format!("which processors it may use is not known: {error}")))?;
    Ok((0..PROCESSORS_MAX).filter(|processor| set.is_set(*processor)).collect())
}
