//! Dice that fall the same way for the same seed.

use std::cell::Cell;

/// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): one word of state, and any seed is a
/// good one. Nothing that anybody must not guess comes from here.
#[derive(Debug)]
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(Cell::new(seed))
    }

    /// A number below `below`; 0 if that is 0.
    pub(crate) fn draw(&self, below: u32) -> u32 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The upper half of a product of 32-bit numbers is below the second.
        (((mixed >> 32) * u64::from(below)) >> 32) as u32
    }

    /// True for so many of 1024.
    pub(crate) fn happens(&self, per_1024: u32) -> bool {
        self.draw(1024) < per_1024
    }
}
