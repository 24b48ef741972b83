//! Freed space that may not be used again yet.
//!
//! Space comes back when all of these hold:
//! * its last reference is gone (a copy inside a shard shares extents),
//! * every record that dropped a reference is durable: a recovery that does not see such a record would find the old
//!   object whole,
//! * no pin holds it: a reader that began before the overwrite still reads the old bytes.
//!
//! Generic in the kind of space: extents, and log zones that the cleaner has emptied.

use crate::{
    layout::Extent,
    planted::{Bug, Point, planted, reach},
};
use std::collections::BTreeMap;

/// A pin: see [`DeferredFree::pin`].
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "pinned space comes back only by `unpin`"]
pub struct PinId(u64);

/// Freed space that may not be used again yet.
pub struct DeferredFree<S = Extent> {
    /// Space about which there is more to say than that it has one reference.
    tracked: BTreeMap<S, Track>,
    /// Space that lost a reference, by the sequence of the record that dropped it, while that is not durable.
    waiting: BTreeMap<u64, Vec<S>>,
    /// What each pin holds.
    pins: BTreeMap<u64, Box<[S]>>,
    next_pin: u64,
    durable: u64,
    reusable: Vec<S>,
}

#[derive(Default)]
struct Track {
    /// References beyond the first.
    shares: u32,
    pins: u32,
    /// The newest record that dropped a reference.
    freed_upto: u64,
    state: State,
}

#[derive(Default, PartialEq, Eq, Debug)]
enum State {
    #[default]
    Referenced,
    /// The last reference is gone; records that are not durable, or pins, hold it.
    Freed,
}

impl<S: Copy + Ord + std::fmt::Debug> Default for DeferredFree<S> {
    fn default() -> DeferredFree<S> {
        DeferredFree::new()
    }
}

impl<S: Copy + Ord + std::fmt::Debug> DeferredFree<S> {
    /// With nothing in it, and no record durable.
    pub fn new() -> DeferredFree<S> {
        DeferredFree {
            tracked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            pins: BTreeMap::new(),
            next_pin: 0,
            durable: 0,
            reusable: Vec::new(),
        }
    }

    /// Adds a reference to space that has at least one: each needs a `free` of its own.
    ///
    /// # Panics
    /// If its last reference is gone.
    pub fn share(&mut self, space: S) {
        let track = self.tracked.entry(space).or_default();
        assert_eq!(track.state, State::Referenced, "{space:?} is shared after its last reference was freed");
        track.shares += 1;
    }

    /// References to space that has not been freed: 1 unless it is shared.
    pub fn references(&self, space: S) -> u32 {
        self.tracked
            .get(&space)
            .map_or(1, |track| if track.state == State::Referenced { track.shares + 1 } else { 0 })
    }

    /// Holds space until `unpin`, also when it is freed meanwhile. The same space may be pinned many times.
    pub fn pin(&mut self, spaces: &[S]) -> PinId {
        let spaces = if planted(Bug::ReusesExtents) { &[] } else { spaces };
        for space in spaces {
            self.tracked.entry(*space).or_default().pins += 1;
        }
        let pin = self.next_pin;
        self.next_pin += 1;
        self.pins.insert(pin, spaces.into());
        PinId(pin)
    }

    /// Gives up a pin.
    ///
    /// # Panics
    /// If the pin is not one of this table.
    pub fn unpin(&mut self, pin: PinId) {
        let spaces = self.pins.remove(&pin.0).expect("a pin is given up once, where it was made");
        for space in spaces {
            let track = self.tracked.get_mut(&space).expect("pinned space is tracked");
            track.pins -= 1;
            self.settle(space);
        }
    }

    /// Drops a reference, by the record with this sequence.
    ///
    /// # Panics
    /// If the last reference is gone already: a double free would hand the same space to two objects.
    pub fn free(&mut self, space: S, sequence: u64) {
        let track = self.tracked.entry(space).or_default();
        assert_eq!(track.state, State::Referenced, "{space:?} is freed twice");
        track.freed_upto = track.freed_upto.max(sequence);
        match track.shares.checked_sub(1) {
            Some(rest) => {
                track.shares = rest;
                reach(Point::ReferenceDropped);
            }
            None => track.state = State::Freed,
        }
        if sequence > self.durable {
            self.waiting.entry(sequence).or_default().push(space);
        }
        self.settle(space);
    }

    /// Every record up to this sequence is durable. Never goes back.
    pub fn advance_durable(&mut self, sequence: u64) {
        self.durable = self.durable.max(sequence);
        while let Some(first) = self.waiting.first_entry().filter(|first| *first.key() <= self.durable) {
            for space in first.remove() {
                self.settle(space);
            }
        }
    }

    /// What may be used again, each once.
    pub fn take_reusable(&mut self) -> Vec<S> {
        std::mem::take(&mut self.reusable)
    }

    /// Freed space that may not be used again yet, in order: the checker counts it with what is in use.
    pub fn waiting(&self) -> Vec<S> {
        self.tracked
            .iter()
            .filter(|(_, track)| track.state == State::Freed)
            .map(|(space, _)| *space)
            .collect()
    }

    /// Pins not given up yet.
    pub fn pin_count(&self) -> usize {
        self.pins.len()
    }

    /// Forgets space about which there is nothing more to say; when that is because nothing holds it, it is reusable.
    fn settle(&mut self, space: S) {
        let Some(track) = self.tracked.get(&space) else { return };
        // An older record may drop the last reference: all that dropped one must be durable.
        if track.pins > 0 || track.shares > 0 || track.freed_upto > self.durable {
            return;
        }
        if track.state == State::Freed {
            self.reusable.push(space);
        }
        self.tracked.remove(&space);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn freed_space_waits_for_its_record() {
        // Shows that space comes back when its record is durable, once, in the order it was freed.
        let mut deferred = DeferredFree::new();
        deferred.free('a', 2);
        deferred.free('b', 1);
        assert_eq!(deferred.take_reusable(), []);
        deferred.advance_durable(1);
        assert_eq!(deferred.take_reusable(), ['b']);
        deferred.advance_durable(5);
        assert_eq!(deferred.take_reusable(), ['a']);
        deferred.free('c', 5);
        assert_eq!(deferred.take_reusable(), ['c']);
        assert_eq!(deferred.take_reusable(), []);
    }

    #[test]
    fn freed_space_waits_for_its_readers() {
        // Shows that each of two pins holds it, that a pin from before the free counts, and that pins alone free nothing.
        let mut deferred = DeferredFree::new();
        let first = deferred.pin(&['a', 'b']);
        let second = deferred.pin(&['a']);
        deferred.free('a', 1);
        deferred.advance_durable(1);
        deferred.unpin(first);
        assert_eq!(deferred.take_reusable(), []);
        assert_eq!(deferred.waiting(), ['a']);
        deferred.unpin(second);
        assert_eq!(deferred.take_reusable(), ['a']);
        assert_eq!((deferred.pin_count(), deferred.tracked.len()), (0, 0));
    }

    #[test]
    fn shared_space_waits_for_every_reference_and_every_record() {
        // Shows that the last free decides, and that an older last record does not overtake a newer first one.
        let mut deferred = DeferredFree::new();
        deferred.share('a');
        assert_eq!(deferred.references('a'), 2);
        deferred.free('a', 9);
        assert_eq!(deferred.references('a'), 1);
        deferred.free('a', 3);
        assert_eq!(deferred.references('a'), 0);
        deferred.advance_durable(8);
        assert_eq!(deferred.take_reusable(), []);
        deferred.advance_durable(9);
        assert_eq!(deferred.take_reusable(), ['a']);
    }

    #[test]
    #[should_panic(expected = "freed twice")]
    fn a_double_free_stops() {
        // Shows that the second free of one reference is caught.
        let mut deferred = DeferredFree::new();
        deferred.free('a', 1);
        deferred.free('a', 2);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Use,
        Share(prop::sample::Index),
        Free(prop::sample::Index),
        Pin(Vec<prop::sample::Index>),
        Unpin(prop::sample::Index),
        Advance,
    }

    fn step() -> impl Strategy<Value = Step> {
        let index = || any::<prop::sample::Index>();
        prop_oneof![
            2 => Just(Step::Use),
            1 => index().prop_map(Step::Share),
            3 => index().prop_map(Step::Free),
            1 => proptest::collection::vec(index(), 0..3).prop_map(Step::Pin),
            1 => index().prop_map(Step::Unpin),
            1 => Just(Step::Advance),
        ]
    }

    /// Each reference and each pin by itself; a space is free when none is left.
    #[derive(Default)]
    struct Model {
        /// Live references of each space in use.
        references: BTreeMap<u32, u32>,
        /// Records that dropped a reference and are not durable.
        records: BTreeSet<(u64, u32)>,
        pins: Vec<Vec<u32>>,
    }

    impl Model {
        fn is_held(&self, space: u32) -> bool {
            self.references.get(&space).is_some_and(|count| *count > 0)
                || self.records.iter().any(|(_, freed)| *freed == space)
                || self.pins.iter().flatten().any(|pinned| *pinned == space)
        }
    }

    proptest! {
        #[test]
        fn space_comes_back_when_nothing_holds_it(steps in proptest::collection::vec(step(), 1..200)) {
            // Shows agreement with counting every reference, record and pin by itself, and that nothing is tracked for ever.
            let mut deferred = DeferredFree::new();
            let mut model = Model::default();
            let mut ids = Vec::new();
            let (mut sequence, mut next) = (0, 0);
            for step in steps {
                let live: Vec<u32> = model.references.iter().filter(|(_, count)| **count > 0).map(|(s, _)| *s).collect();
                match step {
                    Step::Use => {
                        model.references.insert(next, 1);
                        next += 1;
                    }
                    Step::Share(which) if !live.is_empty() => {
                        deferred.share(*which.get(&live));
                        *model.references.get_mut(which.get(&live)).unwrap() += 1;
                    }
                    Step::Free(which) if !live.is_empty() => {
                        sequence += 1;
                        deferred.free(*which.get(&live), sequence);
                        *model.references.get_mut(which.get(&live)).unwrap() -= 1;
                        model.records.insert((sequence, *which.get(&live)));
                    }
                    Step::Pin(which) if !live.is_empty() => {
                        let spaces: Vec<u32> = which.iter().map(|which| *which.get(&live)).collect();
                        ids.push(deferred.pin(&spaces));
                        model.pins.push(spaces);
                    }
                    Step::Unpin(which) if !ids.is_empty() => {
                        let at = which.index(ids.len());
                        deferred.unpin(ids.swap_remove(at));
                        model.pins.swap_remove(at);
                    }
                    Step::Advance => {
                        deferred.advance_durable(sequence);
                        model.records.clear();
                    }
                    _ => {}
                }
                let free: BTreeSet<u32> =
                    model.references.keys().copied().filter(|space| !model.is_held(*space)).collect();
                let reusable = deferred.take_reusable();
                prop_assert_eq!(reusable.len(), free.len());
                prop_assert_eq!(reusable.into_iter().collect::<BTreeSet<_>>(), free.clone());
                free.iter().for_each(|space| { model.references.remove(space); });
                let held = model.references.iter().filter(|(_, count)| **count == 0).map(|(space, _)| *space);
                prop_assert_eq!(deferred.waiting(), held.collect::<Vec<_>>());
                for (space, count) in &model.references {
                    prop_assert_eq!(deferred.references(*space), *count);
                }
            }
            ids.into_iter().for_each(|pin| deferred.unpin(pin));
            deferred.advance_durable(sequence);
            let shared = model.references.values().filter(|count| **count > 1).count();
            prop_assert_eq!(deferred.tracked.len(), shared);
        }
    }
}
