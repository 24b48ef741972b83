//! Deadlines of one core, in nanoseconds of its driver's clock.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// A point of the core's monotonic clock, in nanoseconds from an arbitrary start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment and `duration` more, or the last there is.
    pub fn after(self, duration: std::time::Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` until this; zero if it lies before.
    pub fn since(self, earlier: Moment) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[derive(Clone, Default)]
pub(crate) struct Timers(Rc<RefCell<Table>>);

#[derive(Default)]
struct Table {
    /// Ordered by time, then by registration, so that equal deadlines fire in the order they were asked for.
    waiting: BTreeMap<(Moment, u64), Option<Waker>>,
    next: u64,
}

impl Timers {
    pub(crate) fn sleep_until(&self, moment: Moment) -> Sleep {
        let mut table = self.0.borrow_mut();
        let id = table.next;
        table.next += 1;
        table.waiting.insert((moment, id), None);
        Sleep { timers: self.clone(), key: (moment, id) }
    }

    pub(crate) fn next(&self) -> Option<Moment> {
        self.0.borrow().waiting.first_key_value().map(|((moment, _), _)| *moment)
    }

    /// Wakes whoever waits for a moment that is not after `now`.
    pub(crate) fn fire(&self, now: Moment) {
        loop {
            let waker = {
                let mut table = self.0.borrow_mut();
                let Some(entry) = table.waiting.first_entry() else { return };
                if entry.key().0 > now {
                    return;
                }
                entry.remove()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// Resolves once the core's clock has reached the moment. Dropping it forgets the deadline.
pub struct Sleep {
    timers: Timers,
    key: (Moment, u64),
}

impl Future for Sleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.timers.0.borrow_mut().waiting.get_mut(&self.key) {
            None => Poll::Ready(()),
            Some(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.timers.0.borrow_mut().waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Deadlines fire in order of time, and not before their time.
    #[test]
    fn fires_in_order() {
        let timers = Timers::default();
        let late = timers.sleep_until(Moment(20));
        let early = timers.sleep_until(Moment(10));
        assert_eq!(timers.next(), Some(Moment(10)));
        timers.fire(Moment(15));
        assert_eq!(timers.next(), Some(Moment(20)));
        drop(early);
        drop(late);
        assert_eq!(timers.next(), None, "a dropped sleep leaves nothing behind");
    }

    /// A deadline past the end of the clock saturates instead of wrapping into the past.
    #[test]
    fn saturates() {
        assert_eq!(Moment(u64::MAX - 1).after(Duration::from_secs(9)), Moment(u64::MAX));
        assert_eq!(Moment(3).since(Moment(9)), Duration::ZERO);
    }
}
