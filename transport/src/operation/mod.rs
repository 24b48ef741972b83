//! Slot, lease, completion: the one idiom at every asynchronous edge.
//!
//! ```text
//!   Slot  (there is room in the queue)  ┐
//!                                       ├─ post ─► in flight ─► Completion (the memory again, and the result)
//!   Memory (there are bytes to use)     ┘            │
//!                                                    └ Pending dropped: the memory stays here until the device is done
//! ```
//!
//! A [`Queue`] is one core's view of one device queue. Disks, sockets and the simulator's devices all use this table, so
//! that the rule which matters most is kept in one place: **memory that a device may touch belongs to the table** from
//! the post to [`Queue::complete`], whatever becomes of the future that waits for it.

mod waiting;

use crate::memory::{BufferLease, ScatterList};
use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};
use waiting::Waiting;

pub use waiting::SlotFuture;

/// What the operating system said: an errno. Small and `Copy`, for data paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct OsError(
    /// The errno, positive.
    pub i32,
);

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for OsError {}

impl From<OsError> for std::io::Error {
    fn from(error: OsError) -> std::io::Error {
        std::io::Error::from_raw_os_error(error.0)
    }
}

/// The memory of an operation.
#[derive(Debug)]
pub enum Memory {
    /// None: a sync, an accept.
    None,
    /// One buffer that the device reads or writes.
    Lease(BufferLease),
    /// Pieces that the device reads.
    Scatter(ScatterList),
}

/// Names an operation in flight. Never used twice by one queue, so that a late completion of an old operation can not be
/// taken for that of a new one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct OperationId(
    /// Index in the low half, generation in the high half.
    pub u64,
);

impl OperationId {
    fn new(index: usize, generation: u32) -> OperationId {
        OperationId(u64::from(generation) << 32 | index as u64)
    }

    fn index(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What an operation came to. The memory comes back whatever the result.
#[derive(Debug)]
pub struct Completion {
    /// The device's count, or its error.
    pub result: Result<u32, OsError>,
    /// What was given at the post.
    pub memory: Memory,
}

impl Completion {
    /// Result and lease of an operation on one buffer.
    ///
    /// # Panics
    /// If the operation was not given a lease.
    pub fn into_lease(self) -> (Result<u32, OsError>, BufferLease) {
        match self.memory {
            Memory::Lease(lease) => (self.result, lease),
            other => panic!("the operation was posted with {other:?}, not with a lease"),
        }
    }
}

/// Told of an operation whose [`Pending`] was dropped before its completion.
pub type OnAbandon = Rc<dyn Fn(OperationId)>;

/// A bounded table of operations in flight on one queue of one core. Not `Send`, cheap to clone.
#[derive(Clone)]
pub struct Queue(Rc<RefCell<Table>>);

struct Table {
    entries: Vec<Entry>,
    free: Vec<usize>,
    /// Slots that may still be handed out: fewer than `free` while slots are out and not yet posted.
    room: usize,
    in_flight: usize,
    waiting: VecDeque<Rc<Waiting>>,
    on_abandon: Option<OnAbandon>,
}

struct Entry {
    generation: u32,
    state: State,
}

enum State {
    Free,
    /// The device may touch the memory.
    InFlight {
        memory: Memory,
        waker: Option<Waker>,
        abandoned: bool,
    },
    /// Done, not yet picked up.
    Done(Completion),
}

impl Queue {
    /// A queue with room for `depth` operations.
    ///
    /// # Panics
    /// If `depth` is zero or above 2³².
    pub fn new(depth: usize) -> Queue {
        assert!(depth > 0 && u32::try_from(depth).is_ok(), "a queue has room for 1 to 2^32 operations");
        let entries = (0..depth).map(|_| Entry { generation: 0, state: State::Free }).collect();
        let free = (0..depth).rev().collect();
        Queue(Rc::new(RefCell::new(Table {
            entries,
            free,
            room: depth,
            in_flight: 0,
            waiting: VecDeque::new(),
            on_abandon: None,
        })))
    }

    /// Room for one operation, if there is some and nobody waits for it.
    pub fn try_slot(&self) -> Option<Slot> {
        let mut table = self.0.borrow_mut();
        if table.room == 0 || !table.waiting.is_empty() {
            return None;
        }
        table.room -= 1;
        Some(Slot { queue: Some(self.clone()) })
    }

    /// Room for one operation, first come, first served.
    pub fn slot(&self) -> SlotFuture {
        SlotFuture::new(self.clone())
    }

    /// Driver side: enters an operation. Its memory stays in the table until [`Queue::complete`].
    pub fn post(&self, mut slot: Slot, memory: Memory) -> (OperationId, Pending) {
        let own = slot.queue.take().is_some_and(|queue| Rc::ptr_eq(&queue.0, &self.0));
        assert!(own, "a slot proves room in its own queue");
        // The room is now the entry's: it comes back when the entry is free again.
        let mut table = self.0.borrow_mut();
        let index = table.free.pop().expect("a slot proves that an entry is free");
        let entry = &mut table.entries[index];
        debug_assert!(matches!(entry.state, State::Free));
        entry.state = State::InFlight { memory, waker: None, abandoned: false };
        let id = OperationId::new(index, entry.generation);
        table.in_flight += 1;
        drop(table);
        (id, Pending { queue: Queue(self.0.clone()), id, taken: false })
    }

    /// Driver side: looks at the memory of an operation in flight.
    ///
    /// # Panics
    /// If the operation is not in flight.
    pub fn with_memory<R>(&self, id: OperationId, look: impl FnOnce(&mut Memory) -> R) -> R {
        let mut table = self.0.borrow_mut();
        match table.in_flight_mut(id) {
            Some(State::InFlight { memory, .. }) => look(memory),
            _ => panic!("operation {id:?} is not in flight"),
        }
    }

    /// Driver side: whether the device may still touch the operation's memory.
    pub fn is_in_flight(&self, id: OperationId) -> bool {
        self.0.borrow_mut().in_flight_mut(id).is_some()
    }

    /// Driver side: the device is done with the memory. Wakes who waits; if nobody does any more, the memory goes back
    /// to where it came from.
    ///
    /// # Panics
    /// If the operation is not in flight: a second completion would hand out memory twice.
    pub fn complete(&self, id: OperationId, result: Result<u32, OsError>) {
        let mut table = self.0.borrow_mut();
        let state = table.in_flight_mut(id).unwrap_or_else(|| panic!("operation {id:?} is not in flight"));
        let State::InFlight { memory, waker, abandoned } = std::mem::replace(state, State::Free) else {
            unreachable!("in_flight_mut gives operations in flight");
        };
        table.in_flight -= 1;
        let completion = Completion { result, memory };
        if abandoned {
            let next = table.release(id.index());
            drop(table);
            drop(completion);
            wake(next);
            return;
        }
        table.entries[id.index()].state = State::Done(completion);
        drop(table);
        wake(waker);
    }

    /// Driver side: `cancel` is called with an operation whose [`Pending`] was dropped, to ask the device to hurry. The
    /// memory still waits for [`Queue::complete`].
    pub fn on_abandon(&self, cancel: OnAbandon) {
        self.0.borrow_mut().on_abandon = Some(cancel);
    }

    /// Operations whose memory the device may touch.
    pub fn in_flight(&self) -> usize {
        self.0.borrow().in_flight
    }

    /// Most operations at once.
    pub fn depth(&self) -> usize {
        self.0.borrow().entries.len()
    }

    fn give_room(&self) {
        let next = self.0.borrow_mut().give_room();
        wake(next);
    }
}

impl Table {
    fn in_flight_mut(&mut self, id: OperationId) -> Option<&mut State> {
        let entry = self.entries.get_mut(id.index())?;
        let current = entry.generation == id.generation() && matches!(entry.state, State::InFlight { .. });
        current.then_some(&mut entry.state)
    }

    /// Frees an entry and its room. The caller wakes who is returned, outside the borrow.
    fn release(&mut self, index: usize) -> Option<Waker> {
        let entry = &mut self.entries[index];
        entry.state = State::Free;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        self.give_room()
    }

    fn give_room(&mut self) -> Option<Waker> {
        match self.waiting.pop_front() {
            // The room goes straight to whoever waits longest: nobody can come between.
            Some(first) => first.grant(),
            None => {
                self.room += 1;
                None
            }
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Proof of room in a queue. Dropping it gives the room back.
pub struct Slot {
    /// None once posted: the room went to the operation.
    queue: Option<Queue>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.give_room();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

/// An operation in flight; resolves with its [`Completion`].
///
/// # Cancellation
/// Dropping it never frees memory that a device may touch: the memory stays with the queue until the device is done.
#[must_use = "dropping it abandons the operation's result"]
pub struct Pending {
    queue: Queue,
    id: OperationId,
    taken: bool,
}

impl Pending {
    /// The operation.
    pub fn id(&self) -> OperationId {
        self.id
    }
}

impl Future for Pending {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Completion> {
        assert!(!self.taken, "polled after it was ready");
        let mut table = self.queue.0.borrow_mut();
        let entry = &mut table.entries[self.id.index()];
        debug_assert_eq!(entry.generation, self.id.generation());
        match &mut entry.state {
            State::InFlight { waker, .. } => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            }
            State::Done(_) => {}
            State::Free => unreachable!("the entry is kept until this future took its completion"),
        }
        let State::Done(completion) = std::mem::replace(&mut entry.state, State::Free) else {
            unreachable!("matched above");
        };
        let next = table.release(self.id.index());
        drop(table);
        self.taken = true;
        wake(next);
        Poll::Ready(completion)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        let mut table = self.queue.0.borrow_mut();
        let entry = &mut table.entries[self.id.index()];
        match &mut entry.state {
            State::InFlight { abandoned, waker, .. } => {
                *abandoned = true;
                let waker = waker.take();
                let cancel = table.on_abandon.clone();
                drop(table);
                drop(waker);
                if let Some(cancel) = cancel {
                    cancel(self.id);
                }
            }
            State::Done(_) => {
                let State::Done(completion) = std::mem::replace(&mut entry.state, State::Free) else {
                    unreachable!("matched above");
                };
                let next = table.release(self.id.index());
                drop(table);
                drop(completion);
                wake(next);
            }
            State::Free => unreachable!("the entry is kept until this future took its completion"),
        }
    }
}

#[cfg(test)]
mod tests;
