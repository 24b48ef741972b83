use super::*;
use crate::memory::{Arena, ArenaOptions, PagePolicy};
use std::{
    cell::Cell,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
};

struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn arena() -> Arena {
    Arena::map(&ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false }).unwrap()
}

/// A completed operation gives result and lease to its waiter, and wakes it once.
#[test]
fn completes() {
    let pool = arena().pool(0);
    let queue = Queue::new(1);
    let slot = queue.try_slot().unwrap();
    assert!(queue.try_slot().is_none(), "the only room is taken");
    let (id, pending) = queue.post(slot, Memory::Lease(pool.try_acquire(4096).unwrap()));
    let mut pending = pin!(pending);
    let wakes = Arc::new(CountWakes(AtomicUsize::new(0)));
    let waker = Waker::from(wakes.clone());
    assert!(pending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    queue.complete(id, Ok(7));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    let Poll::Ready(completion) = poll(pending.as_mut()) else { panic!("completed") };
    let (result, lease) = completion.into_lease();
    assert_eq!((result, lease.capacity()), (Ok(7), 4096));
    assert_eq!(queue.in_flight(), 0);
    assert!(queue.try_slot().is_some(), "the room is back");
}

/// Memory of a dropped operation stays with the queue until the device is done with it, and the driver is told.
#[test]
fn a_dropped_operation_keeps_its_memory() {
    let pool = arena().pool(0);
    let queue = Queue::new(1);
    let told = Rc::new(Cell::new(None));
    let tell = told.clone();
    queue.on_abandon(Rc::new(move |id| tell.set(Some(id))));
    let (id, pending) = queue.post(queue.try_slot().unwrap(), Memory::Lease(pool.try_acquire(4096).unwrap()));
    drop(pending);
    assert_eq!(told.get(), Some(id));
    pool.drain_returns();
    assert_eq!(pool.leases(), 1, "the device may still write there");
    assert!(queue.try_slot().is_none(), "and its place in the queue is taken");
    queue.complete(id, Err(OsError(125)));
    pool.drain_returns();
    assert_eq!(pool.leases(), 0);
    assert!(queue.try_slot().is_some());
}

/// An operation that is done but never looked at gives memory and room back when it is dropped.
#[test]
fn a_result_nobody_wants() {
    let pool = arena().pool(0);
    let queue = Queue::new(1);
    let (id, pending) = queue.post(queue.try_slot().unwrap(), Memory::Lease(pool.try_acquire(4096).unwrap()));
    queue.complete(id, Ok(0));
    drop(pending);
    pool.drain_returns();
    assert_eq!(pool.leases(), 0);
    assert!(queue.try_slot().is_some());
}

/// A completion for an operation that is over is refused, also once its entry is in use again.
#[test]
#[should_panic(expected = "not in flight")]
fn a_second_completion_is_a_bug() {
    let queue = Queue::new(1);
    let (old, pending) = queue.post(queue.try_slot().unwrap(), Memory::None);
    queue.complete(old, Ok(0));
    drop(pending);
    let (_new, _pending) = queue.post(queue.try_slot().unwrap(), Memory::None);
    queue.complete(old, Ok(0));
}

/// Room goes to whoever waits longest, past those who left, and never to somebody who comes later.
#[test]
fn room_is_first_come_first_served() {
    let queue = Queue::new(1);
    let held = queue.try_slot().unwrap();
    let mut gone = Box::pin(queue.slot());
    let mut first = Box::pin(queue.slot());
    let mut second = Box::pin(queue.slot());
    assert!(poll(gone.as_mut()).is_pending());
    assert!(poll(first.as_mut()).is_pending());
    assert!(poll(second.as_mut()).is_pending());
    drop(gone);
    drop(held);
    assert!(queue.try_slot().is_none(), "the room is promised");
    let Poll::Ready(slot) = poll(first.as_mut()) else { panic!("first in line") };
    assert!(poll(second.as_mut()).is_pending());
    drop(slot);
    drop(second);
    assert!(queue.try_slot().is_some(), "a granted waiter that leaves gives the room back");
}
