//! Numbers of requests that exposed memory by themselves: each is good once.
//!
//! ```text
//!     too old: used, as far as anybody knows   │  a bit for each: used or not  │  not seen yet
//!   ───────────────────────────────────────────┼───────────────────────────────┼──────────────►
//!                                    highest − 4096                         highest
//! ```
//!
//! Requests of one client overtake each other by as many as it has under way, so the window is far wider than that. (The same as
//! RFC 4303, section 3.4.3, does for packets.)

/// How far behind the highest a number may come.
const WINDOW: u32 = 4096;
const WORDS: usize = WINDOW as usize / 64;

/// Which numbers were used: half a KiB, however many there were.
pub(super) struct Numbers {
    highest: u32,
    /// The bit of a number is that of its remainder by the window.
    used: Box<[u64; WORDS]>,
}

impl Numbers {
    pub(super) fn new() -> Numbers {
        Numbers { highest: 0, used: Box::new([0; WORDS]) }
    }

    /// Uses a number. False if it was used, is too old for anybody to know, or is 0.
    pub(super) fn take(&mut self, number: u32) -> bool {
        if number > self.highest {
            let new = number - self.highest;
            // Those in between were not seen; they had the bits of numbers that are too old now.
            (1..=new.min(WINDOW)).for_each(|step| self.set(number - (new.min(WINDOW) - step), false));
            self.highest = number;
        } else if number == 0 || self.highest - number >= WINDOW || self.is_used(number) {
            return false;
        }
        self.set(number, true);
        true
    }

    fn place(number: u32) -> (usize, u64) {
        let bit = number % WINDOW;
        (bit as usize / 64, 1 << (bit % 64))
    }

    fn is_used(&self, number: u32) -> bool {
        let (word, bit) = Numbers::place(number);
        self.used.get(word).is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, number: u32, used: bool) {
        let (word, bit) = Numbers::place(number);
        if let Some(word) = self.used.get_mut(word) {
            *word = if used { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// Shows, against a set of all numbers, that none is taken twice, and that those within the window are.
        #[test]
        fn each_is_good_once(steps in prop::collection::vec((0u32..6000, any::<bool>()), 0..300)) {
            let (mut numbers, mut seen, mut highest) = (Numbers::new(), HashSet::new(), 0u32);
            for (step, back) in steps {
                let number = if back { highest.saturating_sub(step) } else { highest + step % 70 };
                let good = number != 0 && !seen.contains(&number) && highest.saturating_sub(number) < WINDOW;
                prop_assert_eq!(numbers.take(number), good, "{} at {}", number, highest);
                if good {
                    seen.insert(number);
                    highest = highest.max(number);
                }
            }
            // A leap over more than the window.
            prop_assert!(numbers.take(highest + 3 * WINDOW));
            prop_assert!(!numbers.take(highest + 3 * WINDOW));
            prop_assert!(numbers.take(highest + 2 * WINDOW + 1));
            prop_assert!(!numbers.take(highest + 2 * WINDOW));
            prop_assert!(numbers.take(u32::MAX) && !numbers.take(u32::MAX));
        }
    }
}
