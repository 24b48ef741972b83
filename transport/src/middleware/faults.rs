//! Faults by seed.

use super::{Fate, Middleware, Observed};
use crate::remote::TransferError;
use std::cell::Cell;

/// Makes operations late or fail, each with its chance. The same seed makes the same faults for the same operations.
#[derive(Debug)]
pub struct Faults {
    state: Cell<u64>,
    /// Operations of 1024 that fail.
    pub fail_per_1024: u32,
    /// Operations of 1024 that are late, of those that do not fail.
    pub delay_per_1024: u32,
    /// How many polls late at most.
    pub delay_polls_max: u32,
}

impl Faults {
    /// No faults yet, with the dice of `seed`.
    pub fn new(seed: u64) -> Faults {
        Faults { state: Cell::new(seed), fail_per_1024: 0, delay_per_1024: 0, delay_polls_max: 1 }
    }

    /// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): one word of state, and any
    /// seed is a good one.
    fn draw(&self, below: u32) -> u32 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The upper half of a product of 32-bit numbers is below the second.
        (((mixed >> 32) * u64::from(below)) >> 32) as u32
    }
}

impl Middleware for Faults {
    fn before(&self, _operation: &Observed) -> Fate {
        // Always three draws, so that changing one chance leaves the other dice as they fell.
        let (fail, delay, polls) = (self.draw(1024), self.draw(1024), self.draw(self.delay_polls_max));
        if fail < self.fail_per_1024 {
            return Fate::Fail(TransferError::TimedOut);
        }
        if delay < self.delay_per_1024 { Fate::Delay(1 + polls) } else { Fate::Pass }
    }

    fn after(&self, _operation: &Observed, _result: Result<u32, TransferError>) {}
}
