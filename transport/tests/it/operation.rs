use crate::polling::Polled;
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy, Pool},
    operation::{Memory, OperationId, OsError, Queue},
};
use std::{cell::RefCell, rc::Rc};

fn pool() -> Pool {
    let options = ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    Arena::map(&options).unwrap().pool(0)
}

/// Shows that no more slots and operations exist than the depth, and that each way of ending one gives its room back.
#[test]
fn room_is_the_depth() {
    let queue = Queue::new(2);
    let first = queue.try_slot().unwrap();
    let second = queue.try_slot().unwrap();
    assert!(queue.try_slot().is_none());
    drop(first);
    let (id, pending) = queue.post(second, Memory::None);
    let third = queue.try_slot().unwrap();
    assert!(queue.try_slot().is_none());
    assert_eq!((queue.in_flight(), queue.depth()), (1, 2));
    queue.complete(id, Ok(0));
    assert_eq!(queue.in_flight(), 0);
    assert!(queue.try_slot().is_some(), "the room is back before the completion is taken");
    drop((pending, third));
}

/// Shows that the result and the memory come back, whether the waiter polls before or after the completion.
#[test]
fn completion_brings_result_and_memory() {
    let (queue, pool) = (Queue::new(1), pool());
    for poll_first in [false, true] {
        let mut lease = pool.try_acquire(10).unwrap();
        lease.set_len(3);
        let (id, pending) = queue.post(queue.try_slot().unwrap(), Memory::Lease(lease));
        let mut pending = Polled::new(pending);
        if poll_first {
            assert!(pending.poll().is_none());
        }
        queue.with_memory(id, |memory| match memory {
            Memory::Lease(lease) => lease.set_len(7),
            other => panic!("{other:?}"),
        });
        queue.complete(id, Err(OsError(5)));
        assert_eq!(pending.wakes(), usize::from(poll_first));
        let (result, lease) = pending.poll().unwrap().into_lease();
        assert_eq!((result, lease.len()), (Err(OsError(5)), 7));
    }
    pool.drain_returns();
    assert_eq!(pool.leases(), 0);
}

/// Shows that a dropped future asks the driver to cancel, and that its memory stays away from the pool until the driver
/// says that the device is done.
#[test]
fn dropped_future_keeps_memory_until_completion() {
    let (queue, pool) = (Queue::new(1), pool());
    let asked: Rc<RefCell<Vec<OperationId>>> = Rc::default();
    queue.on_cancel({
        let asked = Rc::clone(&asked);
        Rc::new(move |id| asked.borrow_mut().push(id))
    });
    let (id, pending) = queue.post(queue.try_slot().unwrap(), Memory::Lease(pool.try_acquire(1).unwrap()));
    drop(pending);
    assert_eq!(*asked.borrow(), [id]);
    pool.drain_returns();
    assert_eq!((pool.leases(), queue.in_flight()), (1, 1));
    assert!(queue.try_slot().is_none(), "the device still works for it");
    queue.complete(id, Ok(1));
    pool.drain_returns();
    assert_eq!((pool.leases(), queue.in_flight()), (0, 0));
    assert!(queue.try_slot().is_some());
}

/// Shows that a driver may complete an operation from inside the hook that tells it of a dropped future.
#[test]
fn hook_may_complete() {
    let queue = Queue::new(1);
    let target = queue.clone();
    queue.on_cancel(Rc::new(move |id| target.complete(id, Err(OsError(125)))));
    let (_, pending) = queue.post(queue.try_slot().unwrap(), Memory::None);
    drop(pending);
    assert_eq!(queue.in_flight(), 0);
}

/// Shows that the name of an operation never comes back, though its place in the table does.
#[test]
fn names_are_not_reused() {
    let queue = Queue::new(1);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let (id, pending) = queue.post(queue.try_slot().unwrap(), Memory::None);
        assert!(seen.insert(id));
        queue.complete(id, Ok(0));
        drop(pending);
    }
}

/// Shows that completing an operation that is gone is caught: it would complete its successor.
#[test]
#[should_panic(expected = "not in flight")]
fn stale_completion_is_caught() {
    let queue = Queue::new(1);
    let (stale, pending) = queue.post(queue.try_slot().unwrap(), Memory::None);
    queue.complete(stale, Ok(0));
    drop(pending);
    let (_, _pending) = queue.post(queue.try_slot().unwrap(), Memory::None);
    queue.complete(stale, Ok(0));
}

/// Shows that those who wait for room get it in their order, that nobody overtakes them, and that one who gives up,
/// before or after it was granted room, holds up nobody.
#[test]
fn waiters_for_room_are_served_in_order() {
    let queue = Queue::new(1);
    let held = queue.try_slot().unwrap();
    let mut first = Polled::waiting(queue.slot());
    let gives_up_early = Polled::waiting(queue.slot());
    let gives_up_late = Polled::waiting(queue.slot());
    let mut last = Polled::waiting(queue.slot());
    drop(gives_up_early);
    drop(held);
    assert!(queue.try_slot().is_none(), "the room is promised");
    assert_eq!((first.wakes(), gives_up_late.wakes()), (1, 0));
    let slot = first.poll().unwrap();
    drop(slot);
    assert_eq!((gives_up_late.wakes(), last.wakes()), (1, 0));
    drop(gives_up_late);
    assert_eq!(last.wakes(), 1);
    drop(last.poll().unwrap());
    assert!(queue.try_slot().is_some());
}

/// Shows that a task which holds finished operations and waits for room gets it.
#[test]
fn finished_operations_do_not_hold_room() {
    let queue = Queue::new(1);
    let mut kept = Vec::new();
    for _ in 0..5 {
        let slot = Polled::new(queue.slot()).poll().unwrap();
        let (id, pending) = queue.post(slot, Memory::None);
        queue.complete(id, Ok(9));
        kept.push(pending);
    }
    for pending in kept {
        assert_eq!(Polled::new(pending).poll().unwrap().result, Ok(9));
    }
}
