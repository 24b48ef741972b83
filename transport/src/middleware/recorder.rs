//! The last operations of a core, as they went.

use super::{Fate, Middleware, Observed};
use crate::remote::TransferError;
use std::{cell::RefCell, collections::VecDeque};

/// Something that happened to an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// It was posted.
    Posted(Observed),
    /// It was done, with that result.
    Done(Observed, Result<u32, TransferError>),
}

/// Keeps what happened last, in its order: to be compared between runs, or looked at when something went wrong.
///
/// A record is some 56 bytes, and nothing of payload, addresses or keys.
#[derive(Debug)]
pub struct Recorder {
    records_max: usize,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    records: VecDeque<Recorded>,
    /// How many there were before those that are kept.
    forgotten: u64,
}

impl Recorder {
    /// Keeps `records_max` records, the last ones.
    pub fn new(records_max: usize) -> Recorder {
        Recorder { records_max, state: RefCell::default() }
    }

    /// The records, oldest first.
    pub fn records(&self) -> Vec<Recorded> {
        self.state.borrow().records.iter().copied().collect()
    }

    /// How many there were before the oldest that is kept.
    pub fn forgotten(&self) -> u64 {
        self.state.borrow().forgotten
    }

    fn record(&self, recorded: Recorded) {
        let mut state = self.state.borrow_mut();
        state.records.push_back(recorded);
        if state.records.len() > self.records_max {
            state.records.pop_front();
            state.forgotten += 1;
        }
    }
}

impl Middleware for Recorder {
    fn before(&self, operation: &Observed) -> Fate {
        self.record(Recorded::Posted(*operation));
        Fate::Pass
    }

    fn after(&self, operation: &Observed, result: Result<u32, TransferError>) {
        self.record(Recorded::Done(*operation, result));
    }
}
