//! How a store of the simulated world is opened, and what can come in between.

use crate::{
    cache::ReadCache,
    core_engine::{CoreEngine, CoreLimits, CoreState, Flag},
    error::OpenError,
    events::EventHub,
    log::memory::LogMemory,
    metrics::CoreMetrics,
    reactor::Core,
    shard::{Shard, ShardFiles, ShardIdentity, Tuning},
    store::Placement,
};
use std::{cell::RefCell, sync::Arc, time::Duration};

/// Log buffers of a core.
pub(super) const BATCH_BUFFERS: usize = 6;
/// Steps after which what has not come will not come: far above what any operation takes.
pub(super) const STEPS_MAX: u64 = 400_000;

/// Something waits for what will never come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Whether nobody can go on, or everybody goes on without end.
    pub idle: bool,
    /// What lies where, in words.
    pub scene: String,
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.idle {
            true => write!(f, "no progress: nobody can go on, and a task waits for what will never come")?,
            false => write!(f, "no progress: not done after {STEPS_MAX} steps")?,
        }
        write!(f, " ({})", self.scene)
    }
}

/// Why the store did not open.
#[derive(Debug)]
pub enum OpenFailure {
    /// Recovery said so.
    Refused(OpenError),
    /// Recovery never came to an end.
    Stuck(Stuck),
}

impl std::fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenFailure::Refused(error) => error.fmt(f),
            OpenFailure::Stuck(stuck) => stuck.fmt(f),
        }
    }
}

/// Opens the shards of one core, and the engine on them.
pub(super) async fn open_core(
    core: Core,
    placement: Arc<Placement>,
    files: Vec<ShardFiles>,
    identities: Vec<ShardIdentity>,
    (tuning, read_cache_bytes): (Tuning, usize),
    events: Arc<EventHub>,
) -> Result<CoreEngine, OpenError> {
    let mine = (0..placement.geometry.shard_count).filter(|shard| placement.core_of(*shard) == core.index());
    let memory = LogMemory::reserve(core.pool(), BATCH_BUFFERS, mine.count()).expect("a fresh pool");
    let mut shards = Vec::new();
    for (identity, files) in identities.iter().zip(&files) {
        let mine = placement.core_of(identity.shard) == core.index();
        shards.push(match mine {
            true => {
                let opening = Shard::open(*identity, core.clone(), files.clone(), tuning, memory.share());
                Some(opening.await?.0)
            }
            false => None,
        });
    }
    let limits = CoreLimits::new(64, 32 << 20, Duration::from_secs(3600));
    let (opened, stop, metrics) = (Flag::default(), Flag::default(), Arc::<CoreMetrics>::default());
    let cache = ReadCache::new(core.pool(), read_cache_bytes, metrics.clone());
    let attached = RefCell::default();
    Ok(CoreEngine::new(CoreState {
        core,
        placement,
        files,
        shards,
        limits,
        cache,
        opened,
        stop,
        metrics,
        events,
        failures: Arc::default(),
        attached,
    }))
}
