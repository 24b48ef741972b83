//! The engine on a loop of the caller's: one core, on the caller's thread, that runs when it is polled and never blocks.
//!
//! ```text
//!   loop { while core.poll() == Turn::Again {}
//!          epoll_wait(core.descriptor() and whatever else there is, for as long as Turn::Wait says) }
//! ```

use super::{
    OpenReport,
    builder::Prepared,
    threads::{
        CloseReport, CorePlan, Ground, check_shards, close_shards, lay_ground, open_core, run_beside, serve,
    },
};
use crate::{
    core_engine::CoreEngine,
    error::OpenError,
    reactor::{Core, OwnTask, RingDriver, panics::caught},
    store::directory::DataPath,
};
use std::{io, os::fd::OwnedFd, panic::resume_unwind, rc::Rc, time::Duration};

/// What is to be done after [`OwnCore::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Call [`OwnCore::poll`] again without sleeping.
    Again,
    /// Sleep until [`OwnCore::descriptor`] is readable, or for this time if there is one.
    Wait(Option<Duration>),
}

/// A store that is open on the thread that opened it: see [`crate::Builder::open_here`]. Not `Send`.
///
/// It is one core, with all of the store's shards: a store can not have two of them, nor one beside cores with threads of their own.
/// A loop for each processor is a store for each, or front ends on the cores' threads ([`crate::Builder::on_each_core`]).
///
/// Everything happens in [`OwnCore::poll`]: a future of [`OwnCore::engine`] makes no progress without it.
///
/// Dropping it takes no checkpoint, unlike [`OwnCore::close`] and unlike dropping an [`crate::Engine`].
///
/// # Panics
/// A panic in the midst of a change of the engine's own comes out of [`OwnCore::poll`] and [`OwnCore::block_on`]. The store is then good
/// for nothing but to be dropped. One in a front end or in a task ([`Core::spawn`](crate::reactor::Core::spawn)) does not come out.
pub struct OwnCore {
    core: Core,
    driver: Rc<RingDriver>,
    engine: CoreEngine,
    report: OpenReport,
    front: Option<OwnTask<()>>,
    _locks: Vec<DataPath>,
}

impl OwnCore {
    pub(super) fn open(prepared: Prepared) -> Result<OwnCore, OpenError> {
        let Prepared { plan, paths, report, .. } = prepared;
        let Ground { core, driver, description, unregistered } = lay_ground(0, &plan)?;
        core.connect(vec![core.address()]);
        let opened = core.block_on(open_core(plan.clone(), core.clone(), driver.clone()));
        let opened = opened.and_then(|opened| {
            check_shards(&opened.2, plan.shards.len(), plan.require_all_shards).map(|()| opened)
        });
        let (engine, shards, unavailable) = opened.inspect_err(|_| core.stop())?;
        let settling = engine.clone();
        core.block_on(async move {
            if let Err(error) = settling.settle_buckets().await {
                // The shard has stopped writing and says so to whoever writes; what it has can be read.
                tracing::error!(%error, "buckets were not settled");
            }
        });
        engine.opened().raise();
        run_beside(&plan, &core, &engine, &driver);
        let CorePlan { front_end, .. } = plan;
        let front =
            front_end.map(|front_end| core.spawn_own(serve(engine.clone(), driver.clone(), front_end)));
        let report = report.with(shards, unavailable, description, unregistered);
        Ok(OwnCore { core, driver, engine, report, front, _locks: paths })
    }

    /// The engine, for tasks on this core ([`Core::spawn`](crate::reactor::Core::spawn)).
    pub fn engine(&self) -> &CoreEngine {
        &self.engine
    }

    /// What opening found.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Becomes readable when the core has something to do after [`OwnCore::poll`] said [`Turn::Wait`]: to be watched, level-triggered or
    /// edge-triggered, and never read.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.driver.ring().descriptor()
    }

    /// One round: takes what devices and other threads have done, runs tasks for a bounded time, submits. Never blocks.
    pub fn poll(&self) -> Turn {
        if self.core.turn() {
            return Turn::Again;
        }
        let limit = self.core.next_deadline().map(|deadline| deadline.since(self.core.now()));
        match self.driver.begin_wait(limit) {
            // What came after the turn and before the wait was begun has woken nobody.
            Some(limit) if self.core.is_idle() => Turn::Wait(limit),
            _ => Turn::Again,
        }
    }

    /// Runs this core until the future is done, sleeping in between: for programs that have nothing else to do just then.
    ///
    /// # Panics
    /// When the future does. The core can be used afterwards.
    pub fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let (core, future) = (self.core.clone(), Box::pin(future));
        let done = self.core.block_on(async move { caught(&core, future).await });
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Finishes what is under way, takes a checkpoint and lets go of the store. Blocks.
    ///
    /// A store that is dropped instead is let go of at once, with no checkpoint: what was acknowledged is there, and the next open replays
    /// the log from the checkpoint before.
    pub fn close(mut self) -> CloseReport {
        self.engine.stop().raise();
        if let Some(front) = self.front.take() {
            self.core.block_on(front);
        }
        let without_checkpoint = self.core.block_on(close_shards(self.engine.clone()));
        CloseReport { without_checkpoint, failed_cores: self.engine.failures().cores() }
    }
}

impl Drop for OwnCore {
    fn drop(&mut self) {
        // Safe at any moment: what was acknowledged is durable.
        self.front = None;
        self.engine.detach_all();
        self.core.stop();
    }
}
