//! Until when a transfer may begin to move bytes: a deadline that can be brought forward.

use crate::reactor::{Core, Moment, Signal};
use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Until when a transfer may begin to move bytes. Clones are one deadline: whoever keeps one may end the transfer early, because
/// nobody waits for it any more.
#[derive(Clone)]
pub struct Until(Rc<State>);

struct State {
    at: Cell<Moment>,
    brought_forward: Signal,
    progress: Cell<TransferProgress>,
}

/// How far transfers are in their session, as of when they were last polled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransferProgress {
    /// Operations that the session has. While there are none a transfer waits for something else, a disk or memory: then ending the session
    /// would not end it.
    pub in_flight: usize,
    /// Operations that the session is done with, however they went.
    pub completed: u64,
}

impl Until {
    /// Until that moment.
    pub fn new(at: Moment) -> Until {
        let (brought_forward, progress) = Default::default();
        Until(Rc::new(State { at: Cell::new(at), brought_forward, progress }))
    }

    /// The moment, as it is now.
    pub fn moment(&self) -> Moment {
        self.0.at.get()
    }

    /// From `now` on nothing is begun any more. What was begun goes on.
    pub fn end(&self, now: Moment) {
        self.0.at.set(self.moment().min(now));
        self.0.brought_forward.notify();
    }

    /// How far the transfers are whose deadline this is, all of them together. For whoever polls them, to tell one that hangs in its session
    /// from one that waits for something else, and from one that is slow.
    pub fn progress(&self) -> TransferProgress {
        self.0.progress.get()
    }

    /// One of the transfers came from `before` to `after`.
    pub(super) fn note_progress(&self, before: TransferProgress, after: TransferProgress) {
        let all = self.progress();
        self.0.progress.set(TransferProgress {
            in_flight: all.in_flight + after.in_flight - before.in_flight,
            completed: all.completed + (after.completed - before.completed),
        });
    }

    pub(super) fn has_come(&self, core: &Core) -> bool {
        core.now() >= self.moment()
    }

    /// Waits for `future`, but no longer than this.
    pub(super) async fn limit<T>(&self, core: &Core, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        // Most are there at once, and need no timer.
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(value);
        }
        let mut come = pin!(self.come(core));
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => come.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// Resolves when it has come. Sets a timer when it is first polled.
    pub(super) async fn come(&self, core: &Core) {
        let mut sleep = pin!(core.sleep(self.moment().since(core.now())));
        let mut forward = pin!(self.0.brought_forward.wait(|| (self.moment() <= core.now()).then_some(())));
        std::future::poll_fn(|cx| match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => forward.as_mut().poll(cx),
        })
        .await;
    }
}

impl From<Moment> for Until {
    fn from(at: Moment) -> Until {
        Until::new(at)
    }
}

impl fmt::Debug for Until {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Until")
            .field("moment", &self.moment())
            .field("progress", &self.progress())
            .finish()
    }
}
