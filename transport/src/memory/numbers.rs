//! A set of small numbers that finds its lowest member at once.
//!
//! Two levels: a word of the upper one says which words of the lower one are not empty, so that 4096 numbers are one look at
//! each level.

/// A set of numbers below a bound.
#[derive(Clone)]
pub(super) struct Numbers {
    words: Box<[u64]>,
    /// A bit for each word that is not empty.
    summary: Box<[u64]>,
}

impl Numbers {
    /// An empty set of numbers below `bound`.
    pub(super) fn below(bound: u32) -> Self {
        let words = (bound as usize).div_ceil(64);
        Self { words: vec![0; words].into(), summary: vec![0; words.div_ceil(64)].into() }
    }

    /// Makes it the set of all numbers below `count`, which is at most the bound.
    pub(super) fn fill(&mut self, count: u32) {
        let (full, rest) = (count as usize / 64, count % 64);
        self.words.fill(0);
        self.words[..full].fill(u64::MAX);
        if rest > 0 {
            self.words[full] = (1 << rest) - 1;
        }
        self.summary.fill(0);
        let words = full + usize::from(rest > 0);
        (0..words).for_each(|word| self.summary[word / 64] |= 1 << (word % 64));
    }

    pub(super) fn contains(&self, number: u32) -> bool {
        self.words[number as usize / 64] & 1 << (number % 64) != 0
    }

    pub(super) fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        self.words[word] |= 1 << (number % 64);
        self.summary[word / 64] |= 1 << (word % 64);
    }

    pub(super) fn remove(&mut self, number: u32) {
        let word = number as usize / 64;
        self.words[word] &= !(1 << (number % 64));
        if self.words[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
    }

    /// The lowest member.
    pub(super) fn first(&self) -> Option<u32> {
        let upper = self.summary.iter().position(|&word| word != 0)?;
        let word = upper * 64 + self.summary[upper].trailing_zeros() as usize;
        Some(word as u32 * 64 + self.words[word].trailing_zeros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Shows that the set agrees with an ordered set after any insertions and removals.
        #[test]
        fn agrees_with_an_ordered_set(steps in prop::collection::vec((any::<bool>(), 0u32..10_000), 0..1000)) {
            let (mut numbers, mut model) = (Numbers::below(10_000), BTreeSet::new());
            for (insert, number) in steps {
                if number < 50 {
                    numbers.fill(number * 200);
                    model = (0..number * 200).collect();
                }
                if insert {
                    numbers.insert(number);
                    model.insert(number);
                } else {
                    numbers.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(numbers.first(), model.first().copied());
                prop_assert_eq!(numbers.contains(number), model.contains(&number));
            }
        }
    }
}
