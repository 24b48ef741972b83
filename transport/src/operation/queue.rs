//! The queue of one core: rooms, the line for them, and the futures of operations in flight.

use super::{
    Completion, Memory, OperationId, OsError,
    table::{Abandoned, Finished, Polled, Table},
};
use crate::waiting::{Line, Ticket};
use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// Told of an operation that is not wanted any more: its [`Pending`] was dropped before its completion, or cancelled.
pub type OnCancel = Rc<dyn Fn(OperationId)>;

/// A bounded table of operations in flight on one device of one core. Cheap to clone; stays on its thread.
///
/// # Examples
/// ```
/// use crossdock_transport::operation::{Memory, Queue};
///
/// let queue = Queue::new(1);
/// let slot = queue.try_slot().expect("the queue is empty");
/// assert!(queue.try_slot().is_none(), "one room, one slot");
/// let (id, pending) = queue.post(slot, Memory::None);
/// assert_eq!(queue.in_flight(), 1);
/// queue.complete(id, Ok(7)); // what a driver does when the device answers
/// assert_eq!(queue.in_flight(), 0);
/// drop(pending); // or await it
/// ```
#[derive(Clone)]
pub struct Queue(Rc<Inner>);

struct Inner {
    depth: usize,
    state: RefCell<State>,
}

struct State {
    table: Table,
    /// Rooms neither held by a slot nor by an operation in flight.
    room: usize,
    line: Line<(), ()>,
    cancel: Option<OnCancel>,
}

impl Queue {
    /// A queue with room for `depth` operations.
    ///
    /// # Panics
    /// If `depth` is 0.
    pub fn new(depth: usize) -> Queue {
        assert!(depth > 0, "a queue needs room for one operation");
        let state =
            State { table: Table::with_capacity(depth), room: depth, line: Line::new(), cancel: None };
        Queue(Rc::new(Inner { depth, state: RefCell::new(state) }))
    }

    /// A slot, if there is room and nobody waits for it.
    pub fn try_slot(&self) -> Option<Slot> {
        let mut state = self.0.state.borrow_mut();
        if state.room == 0 || !state.line.is_empty() {
            return None;
        }
        state.room -= 1;
        Some(Slot { queue: Some(Rc::clone(&self.0)) })
    }

    /// Waits for room, first come first served (in the order of the first poll).
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in the line; a room that was already granted goes to the next.
    pub fn slot(&self) -> SlotFuture {
        SlotFuture { queue: Queue(Rc::clone(&self.0)), ticket: None }
    }

    /// Driver side: enters the operation. The memory stays in the table until [`complete`](Queue::complete).
    ///
    /// # Panics
    /// If the slot is of another queue.
    pub fn post(&self, mut slot: Slot, memory: Memory) -> (OperationId, Pending) {
        let home = slot.queue.take().expect("a slot holds its queue until it is posted");
        assert!(Rc::ptr_eq(&home, &self.0), "the slot is of another queue");
        let id = self.0.state.borrow_mut().table.enter(memory);
        (id, Pending { queue: Some(home), id })
    }

    /// Driver side: looks at the memory of an operation in flight. `look` must not come back to this queue.
    ///
    /// # Panics
    /// If the operation is not in flight.
    pub fn with_memory<R>(&self, id: OperationId, look: impl FnOnce(&mut Memory) -> R) -> R {
        look(self.0.state.borrow_mut().table.memory(id))
    }

    /// Driver side: whether the device may still touch the operation's memory.
    pub fn is_in_flight(&self, id: OperationId) -> bool {
        self.0.state.borrow().table.is_in_flight(id)
    }

    /// Driver side: the device is done with the memory. Wakes the waiter, or drops the memory if nobody waits any more.
    ///
    /// The room is free from here on, whether or not the completion has been taken.
    ///
    /// # Panics
    /// If the operation is not in flight.
    pub fn complete(&self, id: OperationId, result: Result<u32, OsError>) {
        let finished = self.0.state.borrow_mut().table.complete(id, result);
        self.0.release_room();
        match finished {
            Finished::Wake(Some(waker)) => waker.wake(),
            Finished::Wake(None) => {}
            Finished::Drop(completion) => drop(completion),
        }
    }

    /// Driver side: called when a [`Pending`] is dropped before its completion, or [cancelled](Pending::cancel), to ask the device to hurry.
    /// Perhaps more than once for an operation, always while it is in flight. The memory still waits for [`complete`](Queue::complete), which
    /// the hook may call itself. Replaces the hook before it.
    pub fn on_cancel(&self, cancel: OnCancel) {
        let replaced = self.0.state.borrow_mut().cancel.replace(cancel);
        drop(replaced);
    }

    /// Operations posted and not completed.
    pub fn in_flight(&self) -> usize {
        self.0.state.borrow().table.in_flight()
    }

    /// The largest number of operations in flight.
    pub fn depth(&self) -> usize {
        self.0.depth
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.borrow();
        formatter
            .debug_struct("Queue")
            .field("depth", &self.0.depth)
            .field("in_flight", &state.table.in_flight())
            .field("waiting", &state.line.len())
            .finish()
    }
}

impl Inner {
    /// A room is back: to the head of the line if there is one.
    fn release_room(&self) {
        let waker = {
            let mut state = self.state.borrow_mut();
            if state.line.is_empty() {
                state.room += 1;
                debug_assert!(state.room <= self.depth);
                return;
            }
            state.line.grant(())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Proof of room in a queue. Dropping it gives the room back.
#[must_use = "a slot that is dropped gives its room back"]
pub struct Slot {
    /// Empty only after `post` took it.
    queue: Option<Rc<Inner>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.release_room();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Slot")
    }
}

/// Resolves with a [`Slot`] when it is this caller's turn. Dropping it leaves the line.
pub struct SlotFuture {
    queue: Queue,
    ticket: Option<Rc<Ticket<(), ()>>>,
}

impl Future for SlotFuture {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Slot> {
        if let Some(ticket) = &self.ticket {
            return match ticket.poll(context) {
                Poll::Ready(()) => {
                    self.ticket = None;
                    Poll::Ready(Slot { queue: Some(Rc::clone(&self.queue.0)) })
                }
                Poll::Pending => Poll::Pending,
            };
        }
        if let Some(slot) = self.queue.try_slot() {
            return Poll::Ready(slot);
        }
        let ticket = self.queue.0.state.borrow_mut().line.join(());
        let waiting = ticket.poll(context);
        debug_assert!(waiting.is_pending());
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl Drop for SlotFuture {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let left = self.queue.0.state.borrow_mut().line.leave(&ticket);
        if !left && ticket.unclaimed().is_some() {
            self.queue.0.release_room();
        }
    }
}

/// An operation in flight. Dropping it never frees memory a device may touch: it asks the device to cancel, and the
/// memory goes home with the completion.
#[must_use = "an operation nobody awaits is cancelled"]
pub struct Pending {
    /// Empty once the completion is taken.
    queue: Option<Rc<Inner>>,
    id: OperationId,
}

impl Pending {
    /// The name of the operation on its queue.
    pub fn id(&self) -> OperationId {
        self.id
    }

    /// Whether the device may still touch the operation's memory. Once it may not, the completion is there to be taken.
    pub fn is_in_flight(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.state.borrow().table.is_in_flight(self.id))
    }

    /// Asks the device not to begin the operation, or not to go on with it. It is completed all the same, in its turn, with its memory: with
    /// `ECANCELED` if it was cancelled, and as ever if the device was ahead of the question, or knows no answer to it. Does nothing once it is
    /// complete.
    ///
    /// On a session of a [transport](crate::remote) nothing of the operation is begun from here on.
    ///
    /// # Examples
    /// ```
    /// use crossdock_transport::operation::{Memory, OsError, Queue};
    /// use std::rc::Rc;
    ///
    /// let queue = Queue::new(1);
    /// let driver = queue.clone(); // of a device that has not begun anything
    /// queue.on_cancel(Rc::new(move |id| driver.complete(id, Err(OsError(libc::ECANCELED)))));
    /// let (_, pending) = queue.post(queue.try_slot().unwrap(), Memory::None);
    /// pending.cancel();
    /// assert_eq!(queue.in_flight(), 0);
    /// # drop(pending);
    /// ```
    pub fn cancel(&self) {
        let Some(queue) = &self.queue else { return };
        let cancel = {
            let state = queue.state.borrow();
            if !state.table.is_in_flight(self.id) {
                return;
            }
            state.cancel.clone()
        };
        if let Some(cancel) = cancel {
            cancel(self.id);
        }
    }
}

impl Future for Pending {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Completion> {
        let queue = self.queue.as_ref().expect("polled again after it was ready");
        let polled = queue.state.borrow_mut().table.poll(self.id, context.waker());
        match polled {
            Polled::Done(completion) => {
                self.queue = None;
                Poll::Ready(completion)
            }
            Polled::Waiting(replaced) => {
                drop(replaced);
                Poll::Pending
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        let (abandoned, cancel) = {
            let mut state = queue.state.borrow_mut();
            (state.table.abandon(self.id), state.cancel.clone())
        };
        match abandoned {
            Abandoned::Done(completion) => drop(completion),
            Abandoned::InFlight(waker) => {
                drop(waker);
                if let Some(cancel) = cancel {
                    cancel(self.id);
                }
            }
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Pending").field(&self.id).finish()
    }
}
