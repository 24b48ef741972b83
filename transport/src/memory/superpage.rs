//! Carves superpages into leases of one class each, and makes them whole again.
//!
//! Pure bookkeeping on granule numbers: no memory, no threads. A superpage belongs to no class until a class needs
//! room, and again when its last lease is back, so no class can keep room from another for longer than its leases live.
//! Low superpages and low places are used first: the high ones become whole sooner, and large leases need whole ones.
//!
//! Invariants
//! * `free` of a superpage holds exactly its free places; a place is given back once.
//! * The set of a class holds exactly its superpages with both taken and free places.
//! * `whole` holds exactly the superpages without taken places.

use super::{PAGE_BYTES, SUPERPAGE_BYTES, numbers::Numbers};

/// Granules (of the size of a page) in a superpage.
pub(super) const SUPERPAGE_GRANULES: u32 = (SUPERPAGE_BYTES / PAGE_BYTES) as u32;

const CLASS_COUNT: usize = 5;
const CLASS_BYTES: [usize; CLASS_COUNT] = [4 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

// A lease never straddles a slice of 1 GiB, which is what a ring registers.
const _: () = assert!((1_usize << 30).is_multiple_of(SUPERPAGE_BYTES));
const _: () = assert!(CLASS_BYTES[0] == PAGE_BYTES && CLASS_BYTES[CLASS_COUNT - 1] == SUPERPAGE_BYTES);

/// A size of lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class(u8);

impl Class {
    /// The smallest class that holds `bytes`.
    ///
    /// # Panics
    /// If `bytes` is more than a superpage.
    pub(super) fn of(bytes: usize) -> Class {
        let index = CLASS_BYTES.iter().position(|&class| bytes <= class);
        Class(index.expect("a lease is at most 4 MiB") as u8)
    }

    pub(super) fn bytes(self) -> usize {
        CLASS_BYTES[self.index()]
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }

    fn granules(self) -> u32 {
        (self.bytes() / PAGE_BYTES) as u32
    }

    fn places(self) -> u32 {
        SUPERPAGE_GRANULES / self.granules()
    }

    /// This class and the larger ones.
    fn and_larger(self) -> impl Iterator<Item = Class> {
        (self.0..CLASS_COUNT as u8).map(Class)
    }
}

/// The superpages of one pool. Granules are numbered from the start of the arena.
pub(super) struct Superpages {
    /// Number of the first superpage in the arena.
    first: u32,
    pages: Box<[Superpage]>,
    whole: Numbers,
    /// By class: superpages with both taken and free places.
    partial: [Numbers; CLASS_COUNT],
}

#[derive(Clone)]
struct Superpage {
    /// What it is carved into, or was when it became whole again; none if it never was.
    class: Option<Class>,
    taken: u32,
    free: Numbers,
}

impl Superpages {
    pub(super) fn new(first: u32, count: u32) -> Self {
        let page = Superpage { class: None, taken: 0, free: Numbers::below(SUPERPAGE_GRANULES) };
        let mut whole = Numbers::below(count);
        whole.fill(count);
        Self {
            first,
            pages: vec![page; count as usize].into(),
            whole,
            partial: std::array::from_fn(|_| Numbers::below(count)),
        }
    }

    pub(super) fn total_bytes(&self) -> usize {
        self.pages.len() * SUPERPAGE_BYTES
    }

    /// A free place of `class`, from a superpage in use if there is one, else from a whole one. When there is neither,
    /// a place of the next larger class that has one: a buffer that is too large beats waiting for one that fits.
    pub(super) fn take(&mut self, class: Class) -> Option<(u32, Class)> {
        if self.partial[class.index()].first().is_none()
            && let Some(index) = self.whole.first()
        {
            self.whole.remove(index);
            self.pages[index as usize].carve(class);
            self.partial[class.index()].insert(index);
        }
        let partial = |class: Class| self.partial[class.index()].first().map(|index| (index, class));
        let (index, class) = class.and_larger().find_map(partial)?;
        let page = &mut self.pages[index as usize];
        let place = page.free.first().expect("a superpage in the set of a class has a free place");
        page.free.remove(place);
        page.taken += 1;
        if page.taken == class.places() {
            self.partial[class.index()].remove(index);
        }
        Some(((self.first + index) * SUPERPAGE_GRANULES + place * class.granules(), class))
    }

    /// Gives a place back; says its class.
    ///
    /// # Panics
    /// If the place is not taken: memory given back twice would be leased twice.
    pub(super) fn give_back(&mut self, granule: u32) -> Class {
        let index = granule / SUPERPAGE_GRANULES - self.first;
        let page = &mut self.pages[index as usize];
        let class = page.class.expect("a lease comes from a carved superpage");
        let place = granule % SUPERPAGE_GRANULES / class.granules();
        assert!(page.taken > 0 && !page.free.contains(place), "a lease comes back once");
        page.free.insert(place);
        page.taken -= 1;
        if page.taken == 0 {
            self.partial[class.index()].remove(index);
            self.whole.insert(index);
        } else {
            self.partial[class.index()].insert(index);
        }
        class
    }
}

impl Superpage {
    fn carve(&mut self, class: Class) {
        debug_assert_eq!(self.taken, 0);
        // Whole again means that all places are free, so for the same class there is nothing to do.
        if self.class != Some(class) {
            self.class = Some(class);
            self.free.fill(class.places());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Shows that each class is the smallest that fits.
    #[test]
    fn class_is_the_smallest_that_fits() {
        let sizes =
            [(0, 4 << 10), (4096, 4 << 10), (4097, 64 << 10), (65_537, 256 << 10), (4 << 20, 4 << 20)];
        for (bytes, expected) in sizes {
            assert_eq!(Class::of(bytes).bytes(), expected);
        }
    }

    /// Shows that a class which used up all superpages gives them to another once its leases are back.
    #[test]
    fn superpages_move_between_classes() {
        let mut pages = Superpages::new(3, 2);
        let small: Vec<_> = std::iter::from_fn(|| pages.take(Class::of(4096))).collect();
        assert_eq!(small.len(), 2048);
        assert!(pages.take(Class::of(4 << 20)).is_none());
        for &(granule, _) in &small[..1024] {
            pages.give_back(granule);
        }
        assert_eq!(pages.take(Class::of(4 << 20)), Some((3 * SUPERPAGE_GRANULES, Class::of(4 << 20))));
    }

    /// Shows that a small lease comes from a larger class when no superpage is whole.
    #[test]
    fn larger_class_serves_when_the_own_is_empty() {
        let mut pages = Superpages::new(0, 1);
        pages.take(Class::of(1 << 20)).unwrap();
        let (granule, class) = pages.take(Class::of(1)).unwrap();
        assert_eq!((granule, class.bytes()), (256, 1 << 20));
    }

    /// Shows that giving back twice is caught, not leased twice.
    #[test]
    #[should_panic(expected = "a lease comes back once")]
    fn second_return_is_caught() {
        let mut pages = Superpages::new(0, 1);
        let (granule, _) = pages.take(Class::of(1)).unwrap();
        pages.take(Class::of(1)).unwrap();
        pages.give_back(granule);
        pages.give_back(granule);
    }

    proptest! {
        /// Shows, against a map of taken ranges, that places never overlap, never leave the pool, and that an emptied
        /// pool can give all of itself to the largest class.
        #[test]
        fn places_never_overlap(steps in prop::collection::vec((any::<bool>(), 0usize..5, any::<prop::sample::Index>()), 1..600)) {
            let (first, count) = (5, 4);
            let mut pages = Superpages::new(first, count);
            let mut taken: BTreeMap<u32, u32> = BTreeMap::new();
            for (acquire, class, pick) in steps {
                if acquire {
                    if let Some((granule, class)) = pages.take(Class(class as u8)) {
                        let end = granule + class.granules();
                        prop_assert!(granule >= first * SUPERPAGE_GRANULES && end <= (first + count) * SUPERPAGE_GRANULES);
                        prop_assert!(granule % class.granules() == 0);
                        prop_assert!(taken.range(..end).next_back().is_none_or(|(_, &other_end)| other_end <= granule));
                        taken.insert(granule, end);
                    }
                } else if !taken.is_empty() {
                    let granule = *taken.keys().nth(pick.index(taken.len())).unwrap();
                    pages.give_back(granule);
                    taken.remove(&granule);
                }
            }
            for granule in taken.into_keys() {
                pages.give_back(granule);
            }
            let largest = (0..count).filter_map(|_| pages.take(Class::of(SUPERPAGE_BYTES))).count();
            prop_assert_eq!(largest, count as usize);
        }
    }
}
