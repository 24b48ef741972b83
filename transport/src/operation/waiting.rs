//! Waiting for room in a queue.

use super::{Queue, Slot};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// One who waits. The room is handed over by [`Waiting::grant`]; from then on it is theirs to use or to give back.
pub(super) struct Waiting {
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Waiting {
    pub(super) fn grant(&self) -> Option<Waker> {
        self.granted.set(true);
        self.waker.take()
    }
}

/// Resolves with a [`Slot`] when it is this caller's turn. Dropping it leaves the line.
pub struct SlotFuture {
    queue: Queue,
    waiting: Option<Rc<Waiting>>,
}

impl SlotFuture {
    pub(super) fn new(queue: Queue) -> SlotFuture {
        SlotFuture { queue, waiting: None }
    }
}

impl Future for SlotFuture {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        if let Some(waiting) = &self.waiting {
            if !waiting.granted.get() {
                *waiting.waker.borrow_mut() = Some(cx.waker().clone());
                return Poll::Pending;
            }
            self.waiting = None;
            return Poll::Ready(Slot { queue: Some(self.queue.clone()) });
        }
        if let Some(slot) = self.queue.try_slot() {
            return Poll::Ready(slot);
        }
        let waiting =
            Rc::new(Waiting { granted: Cell::new(false), waker: RefCell::new(Some(cx.waker().clone())) });
        self.queue.0.borrow_mut().waiting.push_back(waiting.clone());
        self.waiting = Some(waiting);
        Poll::Pending
    }
}

impl Drop for SlotFuture {
    fn drop(&mut self) {
        let Some(waiting) = self.waiting.take() else { return };
        if waiting.granted.get() {
            self.queue.give_room();
        } else {
            self.queue.0.borrow_mut().waiting.retain(|other| !Rc::ptr_eq(other, &waiting));
        }
    }
}
