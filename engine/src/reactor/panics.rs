//! Panics: which of them a core outlives, and who is told of the others.
//!
//! ```text
//!   work of a front end's     caught ──► whoever waits for the task gets it; the core goes on
//!   a section of the engine's,  ┐
//!   a task of the engine's own  ┴ ────► the core has failed: noted, before anybody who waited is told; then it ends
//! ```
//!
//! What a front end's task holds is its own, and is dropped with it. What belongs to the core, a shard above all, it touches only in
//! [`Core::section`]s: a panic in the midst of one may leave half a change behind, and a core that has such a thing does not go on.

use super::{Core, executor};
use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

/// What somebody panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

/// The text of a panic, if it has one.
pub(crate) fn text_of(panic: &Panic) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// Work of a front end's. Boxed, so that it lies in one place from its beginning to its end, and so that the compiler
/// lays out a front end apart from the tasks that it is run by, however deep its futures are.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs a front end's work on this core. A panic of it ends it, and nothing else.
///
/// # Panics
/// When the work panicked in a section of the engine's: the core is then not to go on.
pub(crate) async fn caught<T>(core: &Core, work: Work<'_, T>) -> Result<T, Panic> {
    let mut work = Droppable(Some(work));
    poll_fn(move |cx| {
        let poll = AssertUnwindSafe(|| work.0.as_mut().map(|work| work.as_mut().poll(cx)));
        match catch_unwind(poll) {
            Ok(Some(polled)) => polled.map(Ok),
            // It is not polled after it was ready: whoever does has a future that never is.
            Ok(None) => Poll::Pending,
            Err(panic) if core.is_in_section() => resume_unwind(panic),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}

/// Work that is dropped where it can do no harm.
struct Droppable<'a, T>(Option<Work<'a, T>>);

impl<T> Drop for Droppable<'_, T> {
    fn drop(&mut self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.0 = None)) {
            tracing::error!(text = text_of(&panic), "a task panicked while it was dropped");
        }
    }
}

/// A task on a core. Dropping it cancels the task, [`Task::detach`] lets it run on. As a future it resolves with what the task gives.
///
/// # Panics
/// When it is waited for and the task has panicked: the panic goes on in whoever waits, as if the work had been done there.
#[must_use = "a task that is dropped is cancelled: detach it"]
pub struct Task<T>(executor::Task<Result<T, Panic>>);

impl<T> Task<T> {
    pub(super) fn new(task: executor::Task<Result<T, Panic>>) -> Task<T> {
        Task(task)
    }

    /// Lets the task run to its end, with nobody waiting for it. If it panics, that is logged and counted
    /// ([`CoreMetrics::panics`](crate::CoreMetrics::panics)), as it is of every task.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(value) => Poll::Ready(value),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Task").field("is_finished", &self.is_finished()).finish()
    }
}

/// The cores of a store that have failed, and who waits to hear of one. The lock is taken when one does, and by who asks.
#[derive(Default)]
pub(crate) struct Failures(Mutex<(Vec<usize>, Vec<Waker>)>);

impl Failures {
    fn lock(&self) -> MutexGuard<'_, (Vec<usize>, Vec<Waker>)> {
        // A list of numbers is right whoever panicked beside it, which is just when it is needed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a core has failed.
    pub(crate) fn note(&self, core: usize) {
        let woken = {
            let (failed, waiting) = &mut *self.lock();
            if failed.contains(&core) {
                return;
            }
            failed.push(core);
            std::mem::take(waiting)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// Which have, the first first.
    pub(crate) fn cores(&self) -> Vec<usize> {
        self.lock().0.clone()
    }

    pub(crate) fn has(&self, core: usize) -> bool {
        self.lock().0.contains(&core)
    }

    /// What whoever waited for an answer of that core in vain is told.
    pub(crate) fn why_gone(&self, core: usize) -> crate::Error {
        if self.has(core) { crate::Error::CoreFailed { core } } else { crate::Error::Closed }
    }

    /// Resolves when more than `known` have failed, with which.
    pub(crate) async fn more_than(&self, known: usize) -> Vec<usize> {
        poll_fn(|cx| {
            let (failed, waiting) = &mut *self.lock();
            if failed.len() > known {
                return Poll::Ready(failed.clone());
            }
            if !waiting.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
