//! Runs the tasks of one core.
//!
//! Tasks come from [`async_task`]; this file only decides their order. A real core runs them first in, first out.
//! The simulator picks the next by seed, because an order that merely happens to hold hides races between tasks.
//!
//! A task that is woken by its own core while that runs needs nobody to wake the core: before it sleeps, it looks whether
//! a task is ready. Were it woken all the same, each of its sleeps would begin with the notice of that, end at once, and cost a
//! system call for nothing.

use concurrent_queue::ConcurrentQueue;
use slab::Slab;
use std::{
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Waker,
};

/// A spawned task. Dropping it cancels the task; `detach` lets it run on.
pub(crate) type Task<T> = async_task::Task<T>;

/// Wakes the core from any thread; does nothing while it is awake.
pub(crate) type WakeCore = Arc<dyn Fn() + Send + Sync>;

thread_local! {
    /// The executor whose core runs on this thread now, by the address of its queue; 0 if none does.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

/// While it is there this thread runs the executor's core, and looks for tasks that are ready before that sleeps.
pub(crate) struct Running {
    before: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.before);
    }
}

/// What ended by a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Work of a front end's, and nothing else.
    Caught,
    /// A task of the engine's own: the core ends.
    Core,
}

type PanicListener = Box<dyn Fn(Ended)>;

#[derive(Default)]
struct Active {
    tasks: RefCell<Slab<Waker>>,
    on_panic: OnceCell<PanicListener>,
}

impl Active {
    fn tell(&self, ended: Ended) {
        if let Some(listener) = self.on_panic.get() {
            listener(ended);
        }
    }
}

/// Tells that the core fails if this is dropped by a panic: before anything is that was there earlier, and whoever waits for that.
pub(crate) struct Failing<'a>(&'a Active);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.tell(Ended::Core);
        }
    }
}

pub(crate) struct Executor {
    ready: Arc<ConcurrentQueue<async_task::Runnable>>,
    wake: WakeCore,
    /// Every task that is not finished. Tasks wait in each other's hands, in circles too, so that dropping the executor
    /// would not drop them: see [`Executor::clear`].
    active: Rc<Active>,
    /// Only with a seed: what was taken off `ready`, to be picked from.
    shuffled: Option<RefCell<(Vec<async_task::Runnable>, fastrand::Rng)>>,
}

impl Executor {
    pub(crate) fn new(wake: WakeCore, seed: Option<u64>) -> Executor {
        let shuffled = seed.map(|seed| RefCell::new((Vec::new(), fastrand::Rng::with_seed(seed))));
        Executor { ready: Arc::new(ConcurrentQueue::unbounded()), wake, active: Rc::default(), shuffled }
    }

    pub(crate) fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let (ready, wake) = (self.ready.clone(), self.wake.clone());
        let schedule = move |runnable| {
            // The queue is unbounded and never closed, so that a push can not fail.
            let pushed = ready.push(runnable);
            debug_assert!(pushed.is_ok());
            if RUNNING.get() != Arc::as_ptr(&ready).addr() {
                wake();
            }
        };
        let index = self.active.tasks.borrow().vacant_key();
        let registered = Registered { active: self.active.clone(), index };
        let future = async move {
            let registered = registered;
            let future = pin!(future);
            // Dropped before the future is.
            let _failing = Failing(&registered.active);
            future.await
        };
        let (runnable, task) = async_task::spawn_local(future, schedule);
        let at = self.active.tasks.borrow_mut().insert(runnable.waker());
        debug_assert_eq!(at, index);
        runnable.schedule();
        task
    }

    /// Has the listener told of what ends by a panic: once.
    pub(crate) fn on_panic(&self, listener: PanicListener) {
        assert!(self.active.on_panic.set(listener).is_ok(), "set once");
    }

    pub(crate) fn tell(&self, ended: Ended) {
        self.active.tell(ended);
    }

    pub(crate) fn failing(&self) -> Failing<'_> {
        Failing(&self.active)
    }

    /// Says that this thread runs the core, until what it gives is dropped.
    pub(crate) fn running(&self) -> Running {
        Running { before: RUNNING.replace(Arc::as_ptr(&self.ready).addr()) }
    }

    /// Runs at most `limit` tasks; says whether more are ready.
    pub(crate) fn run(&self, limit: usize) -> bool {
        for _ in 0..limit {
            let Some(runnable) = self.next() else { return false };
            runnable.run();
        }
        !self.is_idle()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.shuffled.as_ref().is_none_or(|s| s.borrow().0.is_empty())
    }

    fn next(&self) -> Option<async_task::Runnable> {
        let Some(shuffled) = &self.shuffled else { return self.ready.pop().ok() };
        let (tasks, rng) = &mut *shuffled.borrow_mut();
        tasks.extend(self.ready.try_iter());
        if tasks.is_empty() {
            return None;
        }
        let index = rng.usize(..tasks.len());
        Some(tasks.swap_remove(index))
    }

    /// Drops every task, and what their drops spawn, until none is left.
    pub(crate) fn clear(&self) {
        loop {
            let wakers: Vec<Waker> =
                self.active.tasks.borrow().iter().map(|(_, waker)| waker.clone()).collect();
            if wakers.is_empty() {
                break;
            }
            // A task that is woken comes to the queue, and is dropped there instead of run.
            wakers.into_iter().for_each(Waker::wake);
            while let Some(runnable) = self.next() {
                drop(runnable);
            }
        }
    }
}

/// Takes the task off the list when its future is dropped.
struct Registered {
    active: Rc<Active>,
    index: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let waker = self.active.tasks.borrow_mut().try_remove(self.index);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Poll,
    };

    /// A task that the core itself wakes wakes no core; one that is woken between turns, by another core of the thread or by
    /// another thread does.
    #[test]
    fn who_runs_needs_no_waking() {
        let executor = || {
            let woken = Arc::new(AtomicUsize::new(0));
            let count = woken.clone();
            let wake = move || {
                count.fetch_add(1, Ordering::Relaxed);
            };
            (Executor::new(Arc::new(wake), None), woken)
        };
        let ((one, woken), (other, _)) = (executor(), executor());
        let wakers: Rc<RefCell<Vec<Waker>>> = Rc::default();
        let kept = wakers.clone();
        let task = one.spawn(std::future::poll_fn(move |cx| {
            kept.borrow_mut().push(cx.waker().clone());
            Poll::<()>::Pending
        }));
        assert_eq!(woken.load(Ordering::Relaxed), 1, "spawned from outside");
        let run = |wake: &dyn Fn(Waker)| {
            assert!(!one.run(8));
            let waker = wakers.borrow_mut().pop().expect("it was polled");
            let before = woken.load(Ordering::Relaxed);
            wake(waker);
            woken.load(Ordering::Relaxed) - before
        };
        assert_eq!(run(&Waker::wake), 1, "between turns");
        let within = |executor: &Executor, waker: Waker| {
            let _running = executor.running();
            waker.wake();
        };
        assert_eq!(run(&|waker| within(&one, waker)), 0, "by itself");
        assert_eq!(run(&|waker| within(&other, waker)), 1, "by another core");
        let elsewhere = |waker: Waker| std::thread::scope(|scope| drop(scope.spawn(|| waker.wake()).join()));
        let _running = one.running();
        assert_eq!(run(&elsewhere), 1, "by another thread");
        drop(task);
    }
}
