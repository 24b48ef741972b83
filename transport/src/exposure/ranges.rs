//! Parts of one block of memory, handed out and taken back.

use std::{cell::RefCell, ops::Range};

/// Parts begin on pages, so that disks can read into them directly.
const ALIGNMENT: usize = 4096;

/// What of a block is free. Parts are taken from the first free range that is large enough: a client has few at a time.
#[derive(Debug)]
pub(crate) struct FreeRanges(
    /// In their order; no two touch.
    RefCell<Vec<Range<usize>>>,
);

impl FreeRanges {
    /// All of `bytes` bytes, up to the last whole page.
    pub(crate) fn new(bytes: usize) -> FreeRanges {
        let whole = 0..bytes / ALIGNMENT * ALIGNMENT;
        FreeRanges(RefCell::new(if whole.is_empty() { Vec::new() } else { vec![whole] }))
    }

    /// Where a part of so many bytes begins, which is nobody else's until it is given back. None if there is no such room.
    pub(crate) fn take(&self, bytes: usize) -> Option<usize> {
        let taken = bytes.checked_next_multiple_of(ALIGNMENT)?;
        if taken == 0 {
            return Some(0);
        }
        let mut free = self.0.borrow_mut();
        let place = free.iter().position(|range| range.len() >= taken)?;
        let range = free.get_mut(place)?;
        let at = range.start;
        range.start += taken;
        if range.start == range.end {
            free.remove(place);
        }
        Some(at)
    }

    /// Takes back what was handed out.
    pub(crate) fn give(&self, at: usize, bytes: usize) {
        let bytes = bytes.next_multiple_of(ALIGNMENT);
        if bytes == 0 {
            return;
        }
        let mut free = self.0.borrow_mut();
        let place = free.partition_point(|range| range.start < at);
        free.insert(place, at..at + bytes);
        // With the one behind, then with the one before.
        for first in [Some(place), place.checked_sub(1)].into_iter().flatten() {
            if let Some([before, behind, ..]) = free.get_mut(first..)
                && before.end == behind.start
            {
                before.end = behind.end;
                free.remove(first + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Shows that parts never overlap, and that everything is one range again when all are back.
        #[test]
        fn parts_are_apart(asks in prop::collection::vec((0usize..20_000, any::<bool>()), 1..60)) {
            const BYTES: usize = 200_000;
            let free = FreeRanges::new(BYTES);
            let mut parts: Vec<(usize, usize)> = Vec::new();
            for (bytes, back) in asks {
                if back && !parts.is_empty() {
                    let (at, bytes) = parts.swap_remove(bytes % parts.len());
                    free.give(at, bytes);
                } else if let Some(at) = free.take(bytes) {
                    prop_assert!(at % ALIGNMENT == 0 && at + bytes <= BYTES);
                    let apart = |(other, others): &(usize, usize)| at + bytes <= *other || other + others <= at;
                    prop_assert!(bytes == 0 || parts.iter().filter(|part| part.1 > 0).all(apart));
                    parts.push((at, bytes));
                }
            }
            for (at, bytes) in parts {
                free.give(at, bytes);
            }
            prop_assert_eq!(free.take(BYTES / ALIGNMENT * ALIGNMENT), Some(0));
        }
    }
}
