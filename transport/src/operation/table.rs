//! The table of operations of one queue: a slab whose places carry generations.
//!
//! A place is free, in flight, or holds a finished operation nobody has taken yet. Only the second kind counts
//! against the depth; the table grows beyond the depth by the third kind only, that is by what its users let lie.

use super::{Completion, Memory, OperationId, OsError};
use std::task::Waker;

/// Places and what they hold. Knows nothing of rooms, lines or wake-ups.
pub(super) struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
    in_flight: usize,
}

struct Place {
    generation: u32,
    state: State,
}

enum State {
    Free,
    InFlight { memory: Memory, waker: Option<Waker>, abandoned: bool },
    Done(Completion),
}

/// What `complete` leaves to do once nothing is borrowed any more.
pub(super) enum Finished {
    /// Somebody waits, or will.
    Wake(Option<Waker>),
    /// Nobody wants the completion: drop it.
    Drop(Completion),
}

/// What a `Pending` finds when it is polled.
pub(super) enum Polled {
    Done(Completion),
    /// Still in flight; the waker that was there before, to be dropped with nothing borrowed.
    Waiting(Option<Waker>),
}

/// What a dropped `Pending` leaves to do once nothing is borrowed any more.
pub(super) enum Abandoned {
    InFlight(Option<Waker>),
    Done(Completion),
}

impl Table {
    pub(super) fn with_capacity(depth: usize) -> Self {
        Self { places: Vec::with_capacity(depth), free: Vec::with_capacity(depth), in_flight: 0 }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn is_in_flight(&self, id: OperationId) -> bool {
        let place = self.places.get(id.index()).filter(|place| place.generation == id.generation());
        place.is_some_and(|place| matches!(place.state, State::InFlight { .. }))
    }

    pub(super) fn enter(&mut self, memory: Memory) -> OperationId {
        let state = State::InFlight { memory, waker: None, abandoned: false };
        self.in_flight += 1;
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            debug_assert!(matches!(place.state, State::Free));
            place.state = state;
            return OperationId::new(index, place.generation);
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 operations");
        self.places.push(Place { generation: 0, state });
        OperationId::new(index, 0)
    }

    pub(super) fn memory(&mut self, id: OperationId) -> &mut Memory {
        match self.place(id).map(|place| &mut place.state) {
            Some(State::InFlight { memory, .. }) => memory,
            _ => panic!("operation {id:?} is not in flight"),
        }
    }

    /// # Panics
    /// If the operation is not in flight: completing twice would hand out memory a device may touch.
    pub(super) fn complete(&mut self, id: OperationId, result: Result<u32, OsError>) -> Finished {
        let Some(place) = self.place(id) else { panic!("operation {id:?} is not in flight") };
        let State::InFlight { memory, waker, abandoned } = std::mem::replace(&mut place.state, State::Free)
        else {
            panic!("operation {id:?} is completed twice");
        };
        let completion = Completion { result, memory };
        self.in_flight -= 1;
        if abandoned {
            self.release(id);
            return Finished::Drop(completion);
        }
        if let Some(place) = self.place(id) {
            place.state = State::Done(completion);
        }
        Finished::Wake(waker)
    }

    pub(super) fn poll(&mut self, id: OperationId, waker: &Waker) -> Polled {
        let place = self.place(id).expect("a pending operation has its place");
        match &mut place.state {
            State::InFlight { waker: slot, .. } => {
                if slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    return Polled::Waiting(None);
                }
                Polled::Waiting(slot.replace(waker.clone()))
            }
            State::Done(_) => Polled::Done(self.take_done(id)),
            State::Free => unreachable!("a pending operation holds its place"),
        }
    }

    pub(super) fn abandon(&mut self, id: OperationId) -> Abandoned {
        let place = self.place(id).expect("a pending operation has its place");
        match &mut place.state {
            State::InFlight { waker, abandoned, .. } => {
                *abandoned = true;
                Abandoned::InFlight(waker.take())
            }
            State::Done(_) => Abandoned::Done(self.take_done(id)),
            State::Free => unreachable!("a pending operation holds its place"),
        }
    }

    fn take_done(&mut self, id: OperationId) -> Completion {
        let place = self.place(id).expect("the caller found it");
        let State::Done(completion) = std::mem::replace(&mut place.state, State::Free) else {
            unreachable!("the caller found it done")
        };
        self.release(id);
        completion
    }

    fn release(&mut self, id: OperationId) {
        let place = &mut self.places[id.index()];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index() as u32);
    }

    fn place(&mut self, id: OperationId) -> Option<&mut Place> {
        self.places.get_mut(id.index()).filter(|place| place.generation == id.generation())
    }
}
