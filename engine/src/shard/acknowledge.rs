//! Who waits for a change to be durable, woken in the order of the log and not before it is.
//!
//! A signal that wakes all to look again costs each write of the log a look of everyone: with 1000 writers in flight that is
//! 1000 looks for the few that are done.

use std::{cell::RefCell, collections::VecDeque, task::Waker};

/// The waiters of one shard, the lowest ticket first.
#[derive(Default)]
pub(super) struct Acknowledgements(RefCell<VecDeque<(u64, Waker)>>);

impl Acknowledgements {
    /// Wakes `waker` when all up to `ticket` are durable. One that does not wait any more is woken in vain.
    pub(super) fn wait(&self, ticket: u64, waker: Waker) {
        let mut waiting = self.0.borrow_mut();
        // Tickets are waited for as they are given out, so that nearly always this is the end.
        let behind = waiting.iter().rev().take_while(|(other, _)| *other > ticket).count();
        let at = waiting.len() - behind;
        waiting.insert(at, (ticket, waker));
    }

    /// All up to `ticket` are durable, or the shard has failed and the ticket is the last there can be.
    pub(super) fn release(&self, ticket: u64) {
        loop {
            // Not borrowed while it wakes: a waker may run code that waits here.
            let next = {
                let mut waiting = self.0.borrow_mut();
                let is_due = waiting.front().is_some_and(|(first, _)| *first <= ticket);
                if is_due { waiting.pop_front() } else { None }
            };
            let Some((_, waker)) = next else { return };
            waker.wake();
        }
    }

    /// What comes after `ticket` will never be written.
    pub(super) fn release_above(&self, ticket: u64) {
        let above = {
            let mut waiting = self.0.borrow_mut();
            let upto = waiting.partition_point(|(other, _)| *other <= ticket);
            waiting.split_off(upto)
        };
        above.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    struct Noted(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Noted {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn each_is_woken_once_and_in_order() {
        // Out of the order they came in, those up to the ticket are woken in order, and the others when all fails.
        let (waiting, woken) = (Acknowledgements::default(), Arc::new(Mutex::new(Vec::new())));
        for ticket in [1, 2, 5, 3, 4, 3] {
            waiting.wait(ticket, Arc::new(Noted(ticket, woken.clone())).into());
        }
        waiting.release(3);
        assert_eq!(*woken.lock().unwrap(), [1, 2, 3, 3]);
        waiting.release(3);
        waiting.release(u64::MAX);
        assert_eq!(*woken.lock().unwrap(), [1, 2, 3, 3, 4, 5]);
        for ticket in [8, 6, 9, 7] {
            waiting.wait(ticket, Arc::new(Noted(ticket, woken.clone())).into());
        }
        waiting.release_above(7);
        assert_eq!(woken.lock().unwrap()[6..], [8, 9]);
        waiting.release(7);
        assert_eq!(woken.lock().unwrap()[6..], [8, 9, 6, 7]);
    }
}
