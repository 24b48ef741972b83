//! A line of waiters on one core: first come, first served, and the first may not be overtaken.
//!
//! Room in a [`Queue`](crate::operation::Queue) and memory of a [`Pool`](crate::memory::Pool) are handed out over the
//! same line. Whoever owns the line grants to its head only, so somebody who wants much is never starved by a
//! stream of others who want little.
//!
//! Invariants
//! * A ticket is in the line exactly as long as it is `Waiting`.
//! * No waker is woken or dropped while the line or a ticket is borrowed: waking may run the waiter, and dropping
//!   the last waker of a task drops the task and everything it holds, both of which come back here.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// The waiters, oldest first. `Want` is what each asks for, `Grant` what it gets.
pub(crate) struct Line<Want, Grant> {
    tickets: VecDeque<Rc<Ticket<Want, Grant>>>,
}

/// A place in the line, held by the waiting future.
pub(crate) struct Ticket<Want, Grant> {
    want: Want,
    state: RefCell<State<Grant>>,
}

enum State<Grant> {
    Waiting(Option<Waker>),
    Granted(Grant),
    Taken,
}

impl<Want, Grant> Line<Want, Grant> {
    pub(crate) fn new() -> Self {
        Self { tickets: VecDeque::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// What the head of the line wants.
    pub(crate) fn head(&self) -> Option<&Want> {
        self.tickets.front().map(|ticket| &ticket.want)
    }

    /// Takes a place at the end.
    pub(crate) fn join(&mut self, want: Want) -> Rc<Ticket<Want, Grant>> {
        let ticket = Rc::new(Ticket { want, state: RefCell::new(State::Waiting(None)) });
        self.tickets.push_back(Rc::clone(&ticket));
        ticket
    }

    /// Gives the head what it wants and lets it go. The caller wakes the waker once it has let go of its borrows.
    ///
    /// # Panics
    /// When nobody waits.
    #[must_use]
    pub(crate) fn grant(&mut self, grant: Grant) -> Option<Waker> {
        let ticket = self.tickets.pop_front().expect("a grant needs somebody who waits");
        match ticket.state.replace(State::Granted(grant)) {
            State::Waiting(waker) => waker,
            State::Granted(_) | State::Taken => unreachable!("a ticket in the line waits"),
        }
    }

    /// Gives up a place. True if the ticket was still in the line. Cost grows with the length of the line, which
    /// only those who give up pay.
    pub(crate) fn leave(&mut self, ticket: &Rc<Ticket<Want, Grant>>) -> bool {
        let place = self.tickets.iter().position(|other| Rc::ptr_eq(other, ticket));
        place.and_then(|place| self.tickets.remove(place)).is_some()
    }
}

impl<Want, Grant> Ticket<Want, Grant> {
    /// Ready with the grant, once.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Grant> {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            State::Waiting(waker) => {
                let replaced = waker.replace(context.waker().clone());
                drop(state);
                drop(replaced);
                Poll::Pending
            }
            State::Granted(_) => match std::mem::replace(&mut *state, State::Taken) {
                State::Granted(grant) => Poll::Ready(grant),
                State::Waiting(_) | State::Taken => unreachable!("matched as granted above"),
            },
            State::Taken => panic!("polled again after it was ready"),
        }
    }

    /// The grant nobody came for, if there is one. Leaves the ticket spent.
    pub(crate) fn unclaimed(&self) -> Option<Grant> {
        match self.state.replace(State::Taken) {
            State::Granted(grant) => Some(grant),
            State::Waiting(_) | State::Taken => None,
        }
    }
}
