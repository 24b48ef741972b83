//! Waiting inside one core: an event that tasks wait for, and a counted budget.

use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Tasks wait until a condition holds; whoever changes what the condition reads calls [`Signal::notify`].
///
/// There is no stored permit, so a wake-up can not be lost or left over: each waiter looks at its condition again. One that goes away
/// leaves nothing behind, however long it is until anybody is notified.
#[derive(Default)]
pub(crate) struct Signal(RefCell<Room>);

/// Where waiters are known.
#[derive(Default)]
struct Room {
    wakers: Slab<Waker>,
    /// How often all were woken: a place is only of one round.
    round: u64,
    /// Memory for the next round, kept from the last.
    spare: Slab<Waker>,
}

impl Signal {
    /// Wakes every waiter to look at its condition again.
    pub(crate) fn notify(&self) {
        let mut woken = {
            let waiting = &mut *self.0.borrow_mut();
            if waiting.wakers.is_empty() {
                return;
            }
            waiting.round += 1;
            std::mem::replace(&mut waiting.wakers, std::mem::take(&mut waiting.spare))
        };
        // Nothing is borrowed: a waker may run code that waits on this signal again.
        woken.drain().for_each(Waker::wake);
        self.0.borrow_mut().spare = woken;
    }

    /// Resolves with what `look` finds, once it finds something.
    pub(crate) async fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        let mut waiter = self.waiter();
        std::future::poll_fn(|cx| waiter.poll(cx, &mut look)).await
    }

    /// Somebody who may wait here, and elsewhere too.
    pub(crate) fn waiter(&self) -> Waiter<'_> {
        Waiter { signal: self, place: None }
    }
}

/// Who may wait for a signal; dropped, it does not any more.
pub(crate) struct Waiter<'a> {
    signal: &'a Signal,
    /// Round and key of its waker.
    place: Option<(u64, usize)>,
}

impl Waiter<'_> {
    /// What `look` finds; if it finds nothing the task is woken to look again.
    pub(crate) fn poll<T>(&mut self, cx: &mut Context<'_>, look: impl FnOnce() -> Option<T>) -> Poll<T> {
        if let Some(found) = look() {
            return Poll::Ready(found);
        }
        let replaced = {
            let waiting = &mut *self.signal.0.borrow_mut();
            let known = self.place.filter(|(round, _)| *round == waiting.round);
            match known.and_then(|(_, key)| waiting.wakers.get_mut(key)) {
                Some(known) if known.will_wake(cx.waker()) => None,
                Some(known) => Some(std::mem::replace(known, cx.waker().clone())),
                None => {
                    self.place = Some((waiting.round, waiting.wakers.insert(cx.waker().clone())));
                    None
                }
            }
        };
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some((round, key)) = self.place else { return };
        let left = {
            let waiting = &mut *self.signal.0.borrow_mut();
            if waiting.round == round { waiting.wakers.try_remove(key) } else { None }
        };
        // The last waker of a task drops it, which may wake others here.
        drop(left);
    }
}

/// A budget of one core, handed out in pieces. Waiters are served first come, first served.
#[derive(Clone)]
pub struct Budget(Rc<BudgetState>);

struct BudgetState {
    free: Cell<usize>,
    total: usize,
    waiting: RefCell<VecDeque<Rc<Waiting>>>,
}

struct Waiting {
    amount: usize,
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A piece of a [`Budget`]; goes back when dropped.
pub struct Grant {
    budget: Budget,
    amount: usize,
}

impl Budget {
    /// One of `total`.
    pub fn new(total: usize) -> Budget {
        Budget(Rc::new(BudgetState { free: Cell::new(total), total, waiting: RefCell::default() }))
    }

    /// A piece at once, or none: never ahead of those who wait.
    pub fn try_take(&self, amount: usize) -> Option<Grant> {
        let amount = amount.min(self.0.total);
        if !self.0.waiting.borrow().is_empty() || self.0.free.get() < amount {
            return None;
        }
        self.0.free.set(self.0.free.get() - amount);
        Some(Grant { budget: self.clone(), amount })
    }

    /// A piece when it is this caller's turn. An amount above the whole budget counts as the whole.
    pub fn take(&self, amount: usize) -> Take {
        Take { budget: self.clone(), amount: amount.min(self.0.total), waiting: None }
    }

    /// How much is handed out.
    pub(crate) fn used(&self) -> usize {
        self.0.total - self.0.free.get()
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.borrow().len()
    }

    fn serve(&self) {
        loop {
            let next = {
                let mut waiting = self.0.waiting.borrow_mut();
                match waiting.front() {
                    Some(first) if first.amount <= self.0.free.get() => waiting.pop_front(),
                    _ => return,
                }
            };
            let Some(next) = next else { return };
            self.0.free.set(self.0.free.get() - next.amount);
            next.granted.set(true);
            if let Some(waker) = next.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let state = &self.budget.0;
        state.free.set(state.free.get() + self.amount);
        self.budget.serve();
    }
}

/// Future of [`Budget::take`]. Dropping it leaves the queue.
pub struct Take {
    budget: Budget,
    amount: usize,
    waiting: Option<Rc<Waiting>>,
}

impl Future for Take {
    type Output = Grant;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Grant> {
        if let Some(waiting) = &self.waiting {
            if waiting.granted.get() {
                self.waiting = None;
                return Poll::Ready(Grant { budget: self.budget.clone(), amount: self.amount });
            }
            *waiting.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(grant) = self.budget.try_take(self.amount) {
            return Poll::Ready(grant);
        }
        let waker = RefCell::new(Some(cx.waker().clone()));
        let waiting = Rc::new(Waiting { amount: self.amount, granted: Cell::new(false), waker });
        self.budget.0.waiting.borrow_mut().push_back(waiting.clone());
        self.waiting = Some(waiting);
        Poll::Pending
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        if waiting.granted.get() {
            // Granted between the wake-up and this drop: give it back.
            drop(Grant { budget: self.budget.clone(), amount: self.amount });
        } else {
            self.budget.0.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiting));
            self.budget.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{pin::pin, sync::Arc};

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A large request is not starved by small ones that come after it.
    #[test]
    fn budget_is_first_come_first_served() {
        let budget = Budget::new(4);
        let held = budget.try_take(3).unwrap();
        let mut large = pin!(budget.take(4));
        assert!(poll_once(large.as_mut()).is_pending());
        assert!(budget.try_take(1).is_none(), "one is free, but somebody waits");
        drop(held);
        assert!(poll_once(large.as_mut()).is_ready());
        assert_eq!(budget.used(), 0, "the grant was dropped with the result");
    }

    /// A waiter that goes away after it was granted loses nothing.
    #[test]
    fn a_dropped_waiter_gives_back() {
        let budget = Budget::new(2);
        let held = budget.try_take(2).unwrap();
        let mut gone = Box::pin(budget.take(2));
        assert!(poll_once(gone.as_mut()).is_pending());
        drop(held);
        assert_eq!(budget.used(), 2, "granted, not yet picked up");
        drop(gone);
        assert_eq!(budget.used(), 0);
    }

    struct Counted;

    impl std::task::Wake for Counted {
        fn wake(self: Arc<Self>) {}
    }

    /// A waiter that goes away is forgotten at once, for it may be a long time until anybody is notified, and its waker keeps the
    /// memory of its task.
    #[test]
    fn a_waiter_that_goes_away_is_forgotten() {
        let (signal, task) = (Signal::default(), Arc::new(Counted));
        let waker = Waker::from(task.clone());
        for _ in 0..3 {
            let mut wait = pin!(signal.wait(|| None::<()>));
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            assert_eq!(Arc::strong_count(&task), 3, "the waiter's waker, once");
        }
        assert_eq!(Arc::strong_count(&task), 2, "a waiter that is gone is still to be woken");
    }
}
