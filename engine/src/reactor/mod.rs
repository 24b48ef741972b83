//! One core: a thread's executor, timers, memory and mailbox on top of one driver.
//!
//! ```text
//!            ┌────────────── turn ──────────────┐
//!   driver ──► reap completions ──► leases back ──► mailbox ──► timers ──► tasks ──► outbox ──► submit
//! ```
//!
//! Invariants:
//! * Everything a [`Core`] hands out stays on its thread; other threads reach it by its `Address` alone.
//! * Nothing here reads a clock or draws a random number but through the `Driver` and the seed given at the start,
//!   so that the simulator can run any number of cores on one thread and get the same run twice.

mod driver;
mod endpoints;
pub(crate) mod executor;
mod mailbox;
pub(crate) mod panics;
mod signal;
mod timers;

pub(crate) use driver::Driver;
pub use driver::RingDriver;
pub(crate) use executor::Task as OwnTask;
pub(crate) use executor::WakeCore;
pub(crate) use mailbox::yield_once;
pub(crate) use mailbox::{Address, Gone};
pub use panics::Task;
pub(crate) use signal::Signal;
pub use signal::{Budget, Grant, Take};
pub use timers::{Moment, Sleep};

use crate::memory::MAILBOX_MESSAGES;
use crossdock_transport::{memory::Pool, remote::Endpoint, ring::SystemCalls};
use mailbox::{Message, Outbox};
use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    rc::Rc,
    time::Duration,
};

/// Tasks and messages run before the driver is looked at again: long enough to amortise the system call, short
/// enough that a completion waits well under a millisecond.
const TASKS_PER_TURN: usize = 256;

/// A core, seen from its own thread, by the engine and by front ends: its clock, its memory, its tasks. Cheap to clone, not `Send`.
#[derive(Clone)]
pub struct Core(Rc<State>);

struct State {
    index: usize,
    driver: Rc<dyn Driver>,
    executor: executor::Executor,
    timers: timers::Timers,
    pool: Pool,
    address: Address,
    outbox: OnceCell<Outbox>,
    rng: RefCell<fastrand::Rng>,
    local: RefCell<Option<Rc<dyn Any>>>,
    busy_poll: Cell<Duration>,
    /// Whether something came for this core since it was last asked.
    stirred: Cell<bool>,
    stopping: Cell<bool>,
    /// How many [`Core::section`]s are open: none, between them, unless somebody panicked in one.
    sections: Cell<u32>,
}

/// How a core is made.
pub(crate) struct CoreOptions {
    /// Its number, from 0.
    pub(crate) index: usize,
    /// Seeds everything random on this core.
    pub(crate) seed: u64,
    /// Whether tasks run in an order drawn from the seed (simulation) or as they come.
    pub(crate) shuffle: bool,
}

impl Core {
    /// A core on `driver` with the memory of `pool`. It runs when [`Core::turn`] is called.
    pub(crate) fn new(options: CoreOptions, driver: Rc<dyn Driver>, pool: Pool) -> Core {
        let wake = driver.waker();
        pool.on_return(wake.clone());
        let mut rng = fastrand::Rng::with_seed(options.seed);
        let order = options.shuffle.then(|| rng.u64(..));
        Core(Rc::new(State {
            index: options.index,
            executor: executor::Executor::new(wake.clone(), order),
            timers: timers::Timers::default(),
            address: Address::new(MAILBOX_MESSAGES, wake),
            outbox: OnceCell::new(),
            rng: RefCell::new(rng),
            local: RefCell::new(None),
            busy_poll: Cell::new(Duration::ZERO),
            stirred: Cell::new(false),
            stopping: Cell::new(false),
            sections: Cell::new(0),
            driver,
            pool,
        }))
    }

    /// Tells this core where the others are; `addresses[i]` is core `i`.
    ///
    /// # Panics
    /// When called twice.
    pub(crate) fn connect(&self, addresses: Vec<Address>) {
        assert!(self.0.outbox.set(Outbox::new(addresses)).is_ok(), "a core is connected once");
    }

    /// This core's number.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// How many cores are connected.
    pub fn count(&self) -> usize {
        self.0.outbox.get().map_or(1, Outbox::core_count)
    }

    /// Where others reach this core.
    pub(crate) fn address(&self) -> Address {
        self.0.address.clone()
    }

    /// This core's memory.
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// The monotonic clock.
    pub fn now(&self) -> Moment {
        self.0.driver.now()
    }

    /// The wall clock in milliseconds since 1970; may jump, so that only what people read is made from it.
    pub fn wall_clock_ms(&self) -> u64 {
        self.0.driver.wall_clock_ms()
    }

    /// System calls of this core's driver so far, and those by which it was woken.
    pub fn system_calls(&self) -> SystemCalls {
        self.0.driver.system_calls()
    }

    /// This core's part of the transport of that name, if the store was opened with one.
    pub fn endpoint(&self, transport: &str) -> Option<Rc<dyn Endpoint>> {
        self.0.driver.endpoint(transport)
    }

    /// A number drawn from this core's seed.
    pub fn random(&self) -> u64 {
        self.0.rng.borrow_mut().u64(..)
    }

    /// Runs `future` on this core, beside everything else that runs here: as a task that is cancelled when what this gives is dropped
    /// ([`Task::detach`] keeps it). It has the core to itself until it waits, so that nothing in it may block.
    ///
    /// # Panics
    /// A panic in `future` ends that task and nothing else. It goes on in whoever waits for the task; see [`Task`].
    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let (core, future) = (self.clone(), Box::pin(future));
        Task::new(self.spawn_own(async move {
            panics::caught(&core, future).await.inspect_err(|panic| core.count_panic("a task", panic))
        }))
    }

    /// Runs a task of the engine's own: a panic in it ends the core.
    pub(crate) fn spawn_own<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> OwnTask<T> {
        self.0.executor.spawn(future)
    }

    /// Changes what belongs to the core, and not to whoever asks: see [`panics`].
    pub(crate) fn section<T>(&self, work: impl FnOnce() -> T) -> T {
        let sections = &self.0.sections;
        sections.set(sections.get() + 1);
        let done = work();
        // Not reached by a panic: that section stays open.
        sections.set(sections.get() - 1);
        done
    }

    /// Whether somebody is in a section, or has panicked in one.
    pub(crate) fn is_in_section(&self) -> bool {
        self.0.sections.get() > 0
    }

    /// Notes a panic that was caught.
    pub(crate) fn count_panic(&self, of: &'static str, panic: &panics::Panic) {
        tracing::error!(core = self.index(), text = panics::text_of(panic), "{of} panicked");
        self.0.executor.tell(executor::Ended::Caught);
    }

    /// Has `listener` told of what panics here: once.
    pub(crate) fn on_panic(&self, listener: impl Fn(executor::Ended) + 'static) {
        self.0.executor.on_panic(Box::new(listener));
    }

    /// Tells that the core fails if this is dropped by a panic.
    pub(crate) fn failing(&self) -> executor::Failing<'_> {
        self.0.executor.failing()
    }

    /// Resolves after `duration`.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now().after(duration))
    }

    /// Resolves at a moment.
    pub(crate) fn sleep_until(&self, moment: Moment) -> Sleep {
        self.0.timers.sleep_until(moment)
    }

    /// Runs `work` on core `target` (this one included) and resolves with its result.
    ///
    /// # Errors
    /// [`Gone`] if that core has stopped.
    ///
    /// # Cancellation
    /// The work runs to its end even if this future is dropped.
    pub(crate) async fn call<T, W, F>(&self, target: usize, work: W) -> Result<T, Gone>
    where
        T: Send + 'static,
        W: FnOnce(Core) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        if target == self.index() {
            return Ok(self.run_through(work(self.clone())).await);
        }
        self.outbox().call(target, work).await
    }

    /// Runs `work`, which waits for nothing, on another core and resolves with its result.
    ///
    /// # Errors
    /// [`Gone`] if that core has stopped.
    pub(crate) async fn ask<T, W>(&self, target: usize, work: W) -> Result<T, Gone>
    where
        T: Send + 'static,
        W: FnOnce(&Core) -> T + Send + 'static,
    {
        self.outbox().ask(target, work).await
    }

    /// Runs `work` on this core to its end, even if this future is dropped.
    pub(crate) async fn run_through<T: 'static>(&self, work: impl Future<Output = T> + 'static) -> T {
        self.spawn_own(work).detach_on_drop().await
    }

    /// Sends work that nobody waits for.
    pub(crate) fn send(&self, target: usize, message: impl FnOnce(&Core) + Send + 'static) {
        if target == self.index() {
            return self.section(|| message(self));
        }
        let message: Message = Box::new(message);
        self.outbox().send(target, message);
    }

    fn outbox(&self) -> &Outbox {
        self.0.outbox.get().expect("cores are connected before they talk")
    }

    /// What the layer above keeps on this core.
    pub(crate) fn local<T: 'static>(&self) -> Option<Rc<T>> {
        self.0.local.borrow().clone()?.downcast().ok()
    }

    /// Sets what [`Core::local`] gives. Once.
    pub(crate) fn set_local<T: 'static>(&self, local: Rc<T>) {
        let before = self.0.local.replace(Some(local));
        assert!(before.is_none(), "set once");
    }

    /// How long [`Core::block_on`] goes on looking, once nothing is left to do, before it sleeps. Default: not at all.
    pub(crate) fn set_busy_poll(&self, limit: Duration) {
        self.0.busy_poll.set(limit);
    }

    /// Whether to look again instead of sleeping; `idle_since` is the first look since something came.
    fn is_busy_polling(&self, idle_since: &mut Option<Moment>) -> bool {
        let limit = self.0.busy_poll.get();
        if limit.is_zero() {
            return false;
        }
        let now = self.now();
        if self.0.stirred.take() {
            *idle_since = Some(now);
        }
        let is_due = self.next_deadline().is_some_and(|deadline| deadline <= now);
        is_due || now.since(*idle_since.get_or_insert(now)) < limit
    }

    /// One round of the loop. Says whether there is more to do at once.
    pub(crate) fn turn(&self) -> bool {
        let state = &*self.0;
        let _running = state.executor.running();
        let mut stirred = state.driver.turn() > 0;
        state.pool.drain_returns();
        for _ in 0..TASKS_PER_TURN {
            let Some(message) = state.address.pop() else { break };
            message(self);
            stirred = true;
        }
        if stirred {
            state.stirred.set(true);
        }
        state.timers.fire(self.now());
        let more = state.executor.run(TASKS_PER_TURN);
        let kept_back = state.outbox.get().is_some_and(Outbox::flush);
        // Looked at last: what a message to a core that has gone drops may have woken a task.
        more || kept_back || !self.is_idle()
    }

    /// The next deadline, if any.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        self.0.timers.next()
    }

    /// Whether nothing is ready to run (completions may still be under way).
    pub(crate) fn is_idle(&self) -> bool {
        self.0.executor.is_idle() && self.0.address.is_empty()
    }

    /// Runs this core until `future` is done: for a real core's thread.
    pub(crate) fn block_on<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let result: Rc<RefCell<Option<T>>> = Rc::default();
        let put = result.clone();
        let task = self.spawn_own(async move {
            let value = future.await;
            *put.borrow_mut() = Some(value);
        });
        let mut idle_since = None;
        loop {
            let more = self.turn();
            if let Some(value) = result.borrow_mut().take() {
                drop(task);
                return value;
            }
            if more {
                idle_since = None;
            } else if self.is_busy_polling(&mut idle_since) {
                std::hint::spin_loop();
            } else {
                idle_since = None;
                let limit = self.next_deadline().map(|deadline| deadline.since(self.now()));
                // What it reaps is run by the turn that comes next.
                let _running = self.0.executor.running();
                self.0.driver.park(limit);
            }
        }
    }

    /// Takes no more messages and drops every task. Operations the device still has in flight keep their memory.
    pub(crate) fn stop(&self) {
        if self.0.stopping.replace(true) {
            return;
        }
        self.0.address.close();
        while let Some(message) = self.0.address.pop() {
            drop(message);
        }
        self.0.executor.clear();
        drop(self.0.local.take());
    }
}

trait DetachOnDrop<T> {
    fn detach_on_drop(self) -> Detaching<T>;
}

impl<T> DetachOnDrop<T> for OwnTask<T> {
    fn detach_on_drop(self) -> Detaching<T> {
        Detaching(Some(self))
    }
}

/// A task that runs on when its waiter goes away.
struct Detaching<T>(Option<OwnTask<T>>);

impl<T> Future for Detaching<T> {
    type Output = T;
    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<T> {
        let task = self.0.as_mut().expect("not polled after it was ready");
        let result = std::task::ready!(std::pin::Pin::new(task).poll(cx));
        self.0 = None;
        std::task::Poll::Ready(result)
    }
}

impl<T> Drop for Detaching<T> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_transport::memory::{Arena, ArenaOptions, PagePolicy};
    use std::{
        future::poll_fn,
        sync::Arc,
        task::{Poll, Waker},
    };

    const LOOKS: u64 = 100;

    /// Each look takes a microsecond; something comes at the looks named, and the last wakes who waits.
    struct Scripted {
        looks: Cell<u64>,
        comes_at: Vec<u64>,
        slept_at: RefCell<Vec<u64>>,
        waiting: RefCell<Option<Waker>>,
    }

    impl Driver for Scripted {
        fn turn(&self) -> usize {
            let look = self.looks.get() + 1;
            self.looks.set(look);
            if look >= LOOKS {
                self.waiting.take().into_iter().for_each(Waker::wake);
            }
            usize::from(self.comes_at.contains(&look))
        }

        fn park(&self, _: Option<Duration>) {
            self.slept_at.borrow_mut().push(self.looks.get());
        }

        fn waker(&self) -> WakeCore {
            Arc::new(|| {})
        }

        fn now(&self) -> Moment {
            Moment(self.looks.get() * 1000)
        }

        fn wall_clock_ms(&self) -> u64 {
            0
        }
    }

    /// After which of its looks a core slept.
    fn sleeps(busy_poll: Duration, comes_at: &[u64]) -> Vec<u64> {
        let arena = ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
        let arena = Arena::map(&arena).unwrap();
        let driver = Rc::new(Scripted {
            looks: Cell::new(0),
            comes_at: comes_at.to_vec(),
            slept_at: RefCell::default(),
            waiting: RefCell::default(),
        });
        let core =
            Core::new(CoreOptions { index: 0, seed: 1, shuffle: false }, driver.clone(), arena.pool(0));
        core.connect(vec![core.address()]);
        core.set_busy_poll(busy_poll);
        let waited_for = driver.clone();
        core.block_on(poll_fn(move |cx| {
            if waited_for.looks.get() >= LOOKS {
                return Poll::Ready(());
            }
            waited_for.waiting.replace(Some(cx.waker().clone()));
            Poll::Pending
        }));
        driver.slept_at.take()
    }

    /// Without it a core sleeps after each look that finds nothing; with it only when nothing has come for so long.
    #[test]
    fn a_core_looks_again_before_it_sleeps() {
        assert_eq!(sleeps(Duration::ZERO, &[]).len() as u64, LOOKS - 1);
        let slept = sleeps(Duration::from_micros(20), &[15, 30]);
        assert_eq!(slept.first(), Some(&50), "{slept:?}");
        assert!(slept.len() < 5, "{slept:?}");
        assert_eq!(sleeps(Duration::from_micros(200), &[]), []);
    }
}
