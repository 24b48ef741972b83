//! S3-FIFO: which entries to keep (<https://dl.acm.org/doi/10.1145/3600006.3613147>, section 4).
//!
//! ```text
//!            new ──► small, a tenth ──── looked up twice or more ──► main, the rest ──► looked up ──┐
//!                        │ else                                        │ ▲ ▲                        │
//!                        ▼                                        not  │ │ └────── once more ◄──────┘
//!                      ghost: names only ── new again ─────────────────┼─┘
//!                                                                      ▼ out
//! ```
//!
//! What is read once, as by a scan, leaves through the small queue without pushing out what is read often. A look-up changes one
//! number and moves nothing.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry as Place},
    hash::{BuildHasher, Hash, RandomState},
};

/// Look-ups beyond this make no difference.
const USES_MAX: u8 = 3;
/// Look-ups that lift an entry from the small queue to the main one.
const USES_TO_STAY: u8 = 2;
/// The small queue's share of the room, as a divisor.
const SMALL_SHARE: usize = 10;

/// Entries by name, each with a weight; together they weigh at most so much.
pub(super) struct S3Fifo<K, V> {
    entries: HashMap<K, Entry<V>>,
    small: VecDeque<K>,
    main: VecDeque<K>,
    /// Hashes of names that left the small queue, in their order; no more than there are entries.
    ghosts: VecDeque<u64>,
    ghost: HashSet<u64>,
    hasher: RandomState,
    weight_max: usize,
    small_weight: usize,
    main_weight: usize,
}

struct Entry<V> {
    value: V,
    weight: usize,
    uses: u8,
    is_main: bool,
}

impl<K: Copy + Eq + Hash, V> S3Fifo<K, V> {
    pub(super) fn new(weight_max: usize) -> S3Fifo<K, V> {
        S3Fifo {
            entries: HashMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            ghost: HashSet::new(),
            hasher: RandomState::new(),
            weight_max,
            small_weight: 0,
            main_weight: 0,
        }
    }

    /// What all entries weigh.
    pub(super) fn weight(&self) -> usize {
        self.small_weight + self.main_weight
    }

    #[cfg(any(test, feature = "testing"))]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Looks an entry up, which speaks for keeping it if it serves.
    pub(super) fn get(&mut self, key: &K, serves: impl FnOnce(&V) -> bool) -> Option<&V> {
        let entry = self.entries.get_mut(key).filter(|entry| serves(&entry.value))?;
        entry.uses = (entry.uses + 1).min(USES_MAX);
        Some(&entry.value)
    }

    /// Adds an entry, or gives the one there is another value. What must go for it goes; an entry that weighs more than all may is
    /// not taken.
    pub(super) fn insert(&mut self, key: K, value: V, weight: usize) {
        if weight > self.weight_max {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            let of_its_queue = if entry.is_main { &mut self.main_weight } else { &mut self.small_weight };
            *of_its_queue = *of_its_queue - entry.weight + weight;
            (entry.value, entry.weight) = (value, weight);
            while self.weight() > self.weight_max && self.evict() {}
            return;
        }
        // Before it is in, so that what is new is not what goes.
        while self.weight() + weight > self.weight_max && self.evict() {}
        let is_main = self.ghost.remove(&self.hasher.hash_one(key));
        self.entries.insert(key, Entry { value, weight, uses: 0, is_main });
        if is_main {
            self.main.push_front(key);
            self.main_weight += weight;
        } else {
            self.small.push_front(key);
            self.small_weight += weight;
        }
    }

    /// Drops the entry that is least worth keeping; false if there is none.
    pub(super) fn evict(&mut self) -> bool {
        // Entries are lifted at most once each, and in the main queue lose a use at each turn: this ends.
        loop {
            let from_small = self.small_weight * SMALL_SHARE >= self.weight_max || self.main.is_empty();
            let done = if from_small { self.leave_small() } else { self.leave_main() };
            match done {
                Some(true) => return true,
                Some(false) => {}
                None if self.entries.is_empty() => return false,
                None => {}
            }
        }
    }

    /// Whether the oldest of the small queue left the cache, or was lifted; none if there is none.
    fn leave_small(&mut self) -> Option<bool> {
        let key = self.small.pop_back()?;
        let Place::Occupied(mut there) = self.entries.entry(key) else { return Some(false) };
        let weight = there.get().weight;
        self.small_weight -= weight;
        if there.get().uses >= USES_TO_STAY {
            (there.get_mut().uses, there.get_mut().is_main) = (0, true);
            self.main.push_front(key);
            self.main_weight += weight;
            return Some(false);
        }
        there.remove();
        self.remember(key);
        Some(true)
    }

    /// Whether the oldest of the main queue left the cache, or goes round again; none if there is none.
    fn leave_main(&mut self) -> Option<bool> {
        let key = self.main.pop_back()?;
        let Place::Occupied(mut there) = self.entries.entry(key) else { return Some(false) };
        if there.get().uses > 0 {
            there.get_mut().uses -= 1;
            self.main.push_front(key);
            return Some(false);
        }
        self.main_weight -= there.get().weight;
        there.remove();
        Some(true)
    }

    fn remember(&mut self, key: K) {
        let hash = self.hasher.hash_one(key);
        if self.ghost.insert(hash) {
            self.ghosts.push_front(hash);
        }
        while self.ghosts.len() > self.entries.len().max(1) {
            if let Some(oldest) = self.ghosts.pop_back() {
                self.ghost.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fifo(weight_max: usize, keys: impl IntoIterator<Item = u32>) -> S3Fifo<u32, u32> {
        let mut fifo = S3Fifo::new(weight_max);
        keys.into_iter().for_each(|key| fifo.insert(key, key, 1));
        fifo
    }

    /// A scan of ten times the room leaves what was used where it is.
    #[test]
    fn a_scan_pushes_nothing_out() {
        let mut fifo = fifo(100, 0..50);
        for _ in 0..2 {
            (0..50).for_each(|key| assert!(fifo.get(&key, |_| true).is_some()));
        }
        (1000..2000).for_each(|key| fifo.insert(key, key, 1));
        assert_eq!((0..50).filter(|key| fifo.get(key, |_| true).is_some()).count(), 50);
        assert_eq!(fifo.weight(), 100);
    }

    /// What left and is wanted again soon goes to the main queue at once; what comes for the first time does not.
    #[test]
    fn a_ghost_comes_back() {
        let mut fifo = fifo(10, 0..11);
        assert!(fifo.get(&0, |_| true).is_none());
        fifo.insert(0, 0, 1);
        assert!(fifo.entries[&0].is_main);
        assert!(!fifo.entries[&10].is_main);
    }

    /// What is no more used leaves the main queue as well.
    #[test]
    fn the_main_queue_ages() {
        let mut fifo = fifo(10, 0..5);
        for key in [0, 1, 2, 3, 4, 0, 1, 2, 3, 4] {
            fifo.get(&key, |_| true);
        }
        // Each is used twice and so lifted, and then never again.
        for key in 100..400 {
            fifo.insert(key, key, 1);
            fifo.get(&key, |_| true);
            fifo.get(&key, |_| true);
        }
        assert_eq!((0..5).filter(|key| fifo.get(key, |_| true).is_some()).count(), 0);
    }

    /// A request for an object of which one in a hundred is asked for as often as all others: more of them are found than in a cache
    /// that drops what is oldest.
    #[test]
    fn it_finds_more_than_first_in_first_out() {
        let (mut rng, room) = (fastrand::Rng::with_seed(7), 100);
        let (mut s3, mut s3_found) = (S3Fifo::new(room), 0);
        let (mut plain, mut order, mut plain_found) = (HashSet::new(), VecDeque::new(), 0);
        for _ in 0..50_000 {
            let key = if rng.bool() { rng.u32(0..80) } else { rng.u32(80..8000) };
            match s3.get(&key, |_| true) {
                Some(_) => s3_found += 1,
                None => s3.insert(key, key, 1),
            }
            if plain.contains(&key) {
                plain_found += 1;
            } else {
                plain.insert(key);
                order.push_back(key);
                if order.len() > room {
                    plain.remove(&order.pop_front().unwrap());
                }
            }
        }
        assert!(s3_found * 10 > plain_found * 13, "{s3_found} against {plain_found}");
    }

    proptest! {
        /// Whatever is done: no more than may be, what was taken last is what is found, and nothing is counted twice.
        #[test]
        fn it_holds_what_it_says(steps in prop::collection::vec((0..3u8, 0..40u32, 1..30usize), 0..400)) {
            let mut fifo = S3Fifo::new(100);
            let mut last = HashMap::new();
            for (number, (what, key, weight)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        fifo.insert(key, number, weight);
                        last.insert(key, number);
                    }
                    1 => if let Some(found) = fifo.get(&key, |_| true) {
                        prop_assert_eq!(Some(found), last.get(&key));
                    },
                    _ => {
                        let before = fifo.len();
                        prop_assert_eq!(fifo.evict(), before > 0);
                        prop_assert_eq!(fifo.len(), before.saturating_sub(1));
                    }
                }
                prop_assert!(fifo.weight() <= 100);
                prop_assert_eq!(fifo.weight(), fifo.entries.values().map(|entry| entry.weight).sum::<usize>());
                prop_assert_eq!(fifo.small.len() + fifo.main.len(), fifo.len());
                prop_assert!(fifo.ghosts.len() <= 101);
            }
        }
    }
}
