//! What a client exposes of its memory: windows, each for one direction, found by the address that tokens name; and windows that a
//! token opens by itself, for one request, found by their number.
//!
//! ```text
//!   addresses     ──────┤ window, read ├──────────┤ window, write ├─────      chosen by the client, no two overlap
//!                             │                          │
//!   memory file   ├───────────▼────────────┬─────────────▼──────────┤         windows may overlap here
//! ```
//!
//! Invariants
//! * A window lies inside the memory. Windows do not overlap in addresses, so an address is in one at most.
//! * A window that was withdrawn is found no more, and its client is told so only when nobody holds it: a device that was given a
//!   part of it before may still write there.
//! * A window with a number is there from the beginning of its request to its end, and none of that number is opened again.

#![allow(unsafe_code)]

use super::numbers::Numbers;
use crate::mapping::Mapping;
use crate::{
    memory::PeerLease,
    remote::{Access, RemoteKey, RemoteSlice, TransferError},
};
use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    },
};

/// Windows of one session at most. A client that wants more exposes larger ones.
const WINDOWS_MAX: usize = 1024;
/// What they take at most, in the tables where they are found and where their end waits to be told, each half empty; and the numbers that were used.
pub(super) const BYTES_MAX: u64 = (WINDOWS_MAX * WINDOW_BYTES + 1024) as u64;
const WINDOW_BYTES: usize = 2 * (size_of::<Window>() + size_of::<Withdrawn>() + 32);

/// A client's memory, and what it counts for as long as it is mapped.
pub(super) struct Region {
    pub(super) mapping: Mapping,
    /// Whether its pages are too small to be lent to disks.
    pub(super) small_pages: bool,
    /// Given back when the memory is unmapped.
    pub(super) _charge: Charge,
}

/// Bytes that count against a limit, until it is dropped.
pub(super) struct Charge {
    total: Arc<AtomicU64>,
    bytes: u64,
}

impl Charge {
    /// None if that would be more than `max` in all.
    pub(super) fn new(total: &Arc<AtomicU64>, bytes: u64, max: u64) -> Option<Charge> {
        let add = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= max);
        total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Charge { total: Arc::clone(total), bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One exposure.
pub(super) struct Window {
    /// Kept for whoever holds the window.
    _memory: Arc<Region>,
    slice: RemoteSlice,
    /// Of the window's first byte, in the memory.
    offset: usize,
    access: Access,
}

/// What a client waits to be told of.
struct Withdrawn {
    /// What it is told by: the address, or the number that is the key.
    slice: RemoteSlice,
    /// None if nothing ever reached it: a number that was abandoned and had no window.
    window: Option<Arc<Window>>,
}

impl Withdrawn {
    fn is_released(&self) -> bool {
        self.window.as_ref().is_none_or(is_released)
    }
}

/// The windows of one session.
pub(super) struct Windows {
    memory: Arc<Region>,
    open: BTreeMap<u64, Arc<Window>>,
    /// Of requests that are under way, by number.
    once: HashMap<u32, Arc<Window>>,
    numbers: Numbers,
    /// Withdrawn or abandoned, and the client was not told yet. In the order in which it asked.
    withdrawn: Vec<Withdrawn>,
    /// Of requests that ended while somebody held their window. The client has not asked, and is not told before it does.
    left: Vec<Arc<Window>>,
}

impl Windows {
    pub(super) fn new(memory: Region) -> Windows {
        Windows {
            memory: Arc::new(memory),
            open: BTreeMap::new(),
            once: HashMap::new(),
            numbers: Numbers::new(),
            withdrawn: Vec::new(),
            left: Vec::new(),
        }
    }

    /// The memory, when no window is of any use any more. What devices still have of it keeps it mapped.
    pub(super) fn into_memory(self) -> Arc<Region> {
        self.memory
    }

    /// Enters a window. None if it lies not in the memory, overlaps another, is empty, or is one too many.
    pub(super) fn expose(&mut self, slice: RemoteSlice, offset: u64, access: Access) -> Option<()> {
        if slice.bytes() == 0 || self.is_overlapped(&slice) {
            return None;
        }
        let window = self.window(slice, offset, access)?;
        self.open.insert(slice.address(), window);
        Some(())
    }

    fn window(&mut self, slice: RemoteSlice, offset: u64, access: Access) -> Option<Arc<Window>> {
        let end = offset.checked_add(slice.bytes())?;
        let inside = end <= self.memory.mapping.bytes() as u64;
        let others = self.open.len() + self.once.len() + self.withdrawn.len();
        if others + self.left.len() >= WINDOWS_MAX {
            // A client that asks for one of these later is told at once.
            self.left.retain(|window| !is_released(window));
        }
        let room = others + self.left.len() < WINDOWS_MAX;
        // Inside a mapping, so it fits.
        let offset = usize::try_from(offset).ok()?;
        let window = Window { _memory: Arc::clone(&self.memory), slice, offset, access };
        (inside && room).then(|| Arc::new(window))
    }

    /// Opens the window that `slice` is by itself, whose key is its number: until [`Windows::close`].
    ///
    /// # Errors
    /// [`TransferError::Refused`] if the number was used, it lies not in the memory, or there are too many.
    pub(super) fn open_once(&mut self, slice: &RemoteSlice, access: Access) -> Result<(), TransferError> {
        let RemoteKey(number) = slice.key();
        let window = self.window(*slice, slice.address(), access).ok_or(TransferError::Refused)?;
        if !self.numbers.take(number) {
            return Err(TransferError::Refused);
        }
        self.once.insert(number, window);
        Ok(())
    }

    /// Closes it again. True if nothing can reach its bytes any more.
    pub(super) fn close(&mut self, number: u32) -> bool {
        match self.once.remove(&number) {
            Some(window) if is_released(&window) => true,
            Some(window) => {
                // Somebody may ask for it.
                self.left.push(window);
                false
            }
            None => false,
        }
    }

    /// No request of that number begins any more, and one that has begun reaches nothing from here on. The client waits to be told.
    /// None if it waits for too much, or that is no number.
    pub(super) fn abandon(&mut self, number: u32) -> Option<()> {
        let slice = RemoteSlice::new(0, 0, RemoteKey(number)).filter(|_| number != 0)?;
        self.numbers.take(number);
        let of_number = |slice: &RemoteSlice| slice.key() == RemoteKey(number);
        if self.withdrawn.iter().any(|withdrawn| of_number(&withdrawn.slice)) {
            // Asked twice, and told once.
            return Some(());
        }
        let left = self.left.iter().position(|window| of_number(&window.slice));
        let left = left.map(|place| self.left.swap_remove(place));
        let window = self.once.remove(&number).or(left);
        // A window counts already.
        if window.is_none() && self.withdrawn.len() >= WINDOWS_MAX {
            return None;
        }
        self.withdrawn.push(Withdrawn { slice, window });
        Some(())
    }

    /// Whether an open window, or one that the client does not know to be withdrawn, has an address of the slice's.
    fn is_overlapped(&self, slice: &RemoteSlice) -> bool {
        let end = slice.address() + slice.bytes();
        // Windows do not overlap, so the last one that begins before the end reaches furthest.
        let before = self.open.range(..end).next_back().map(|(_, window)| &window.slice);
        let overlaps =
            |other: &RemoteSlice| other.address() < end && slice.address() < other.address() + other.bytes();
        // What a request exposed by itself has an offset, and no address.
        let withdrawn = self.withdrawn.iter().map(|withdrawn| &withdrawn.slice);
        before.is_some_and(overlaps) || withdrawn.filter(|other| other.key() == RemoteKey(0)).any(overlaps)
    }

    /// Nothing reaches the window of that address from here on. None if there is none.
    pub(super) fn withdraw(&mut self, address: u64) -> Option<()> {
        let window = self.open.remove(&address)?;
        self.withdrawn.push(Withdrawn { slice: window.slice, window: Some(window) });
        Some(())
    }

    /// Tells of everything that was withdrawn or abandoned and that no device can touch any more, in the order in which it was
    /// asked for. What could not be told, and all after it, is told another time.
    ///
    /// # Errors
    /// The first of `tell`'s.
    pub(super) fn tell_released<E>(
        &mut self,
        mut tell: impl FnMut(&RemoteSlice) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut result = Ok(());
        self.withdrawn.retain(|withdrawn| {
            if result.is_ok() && withdrawn.is_released() {
                result = tell(&withdrawn.slice);
                return result.is_err();
            }
            true
        });
        result
    }

    /// Whether a client is still to be told of a withdrawal.
    pub(super) fn is_withdrawing(&self) -> bool {
        !self.withdrawn.is_empty()
    }

    pub(super) fn has_released(&self) -> bool {
        self.withdrawn.iter().any(Withdrawn::is_released)
    }

    /// The part of a window that `slice` names: the window, and the part's offset in the memory.
    ///
    /// # Errors
    /// [`TransferError::Refused`] unless all of it is in one window, for that direction.
    pub(super) fn reach(
        &self,
        slice: &RemoteSlice,
        access: Access,
    ) -> Result<(&Arc<Window>, usize), TransferError> {
        let found = match slice.key() {
            RemoteKey(0) => self.open.range(..=slice.address()).next_back().map(|(_, window)| window),
            RemoteKey(number) => self.once.get(&number),
        };
        let window = found.filter(|window| window.access == access).ok_or(TransferError::Refused)?;
        let skipped = slice.address().checked_sub(window.slice.address()).ok_or(TransferError::Refused)?;
        // Neither sum overflows.
        let inside = slice.address() + slice.bytes() <= window.slice.address() + window.slice.bytes();
        if inside { Ok((window, window.offset + skipped as usize)) } else { Err(TransferError::Refused) }
    }

    /// What a device is given to write the part of a window that `target` names.
    ///
    /// # Errors
    /// As [`reach`](Windows::reach) for writing.
    pub(super) fn lease(&self, target: &RemoteSlice) -> Result<PeerLease, TransferError> {
        let (window, at) = self.reach(target, Access::Write)?;
        // In the window, which is in the mapping, so it fits.
        let bytes = target.bytes() as usize;
        let start = self.memory.mapping.at(at);
        // SAFETY: the range lies in the window and so in the mapping, which the window keeps alive. It is mapped to be
        // written, and its pages can not go away: they were all there when the file was sealed (see `handover`). The only ways
        // to the mapping's bytes are atomic copies and leases like this one; there are no references.
        let lease = unsafe { PeerLease::new(start, bytes, Arc::clone(window) as Arc<dyn Any + Send + Sync>) };
        Ok(lease.of_small_pages(self.memory.small_pages))
    }

    pub(super) fn memory(&self) -> &Mapping {
        &self.memory.mapping
    }
}

fn is_released(window: &Arc<Window>) -> bool {
    // Only holders of a window make more of them, and it is in no table any more: one that is alone stays alone.
    let alone = Arc::strong_count(window) == 1;
    // Pairs with the release of the last other holder's drop, which may have been on another thread.
    fence(Ordering::Acquire);
    alone
}

#[cfg(test)]
mod tests {
    use super::{super::handover, *};
    use proptest::prelude::*;

    const BYTES: u64 = 1 << 16;

    fn windows() -> Windows {
        let charge = Charge::new(&Arc::default(), BYTES, BYTES).unwrap();
        Windows::new(Region {
            mapping: handover::make(BYTES).unwrap().1,
            small_pages: false,
            _charge: charge,
        })
    }

    /// The name of the first that can be told, which is told.
    fn take_released(windows: &mut Windows) -> Option<(u64, RemoteKey)> {
        let mut first = None;
        let _ = windows.tell_released(|slice| match first {
            None => {
                first = Some((slice.address(), slice.key()));
                Ok(())
            }
            Some(_) => Err(()),
        });
        first
    }

    fn slice(address: u64, bytes: u64) -> RemoteSlice {
        RemoteSlice::new(address, bytes, RemoteKey(0)).unwrap()
    }

    proptest! {
        /// Shows, against a list that is searched byte by byte, that a slice is reached exactly if all of it is in one window of its
        /// direction, and at the right place.
        #[test]
        fn slices_reach_their_window_only(
            exposures in prop::collection::vec((0u64..64, 0u64..16, 0u64..BYTES + 8, any::<bool>()), 0..12),
            probes in prop::collection::vec((0u64..80, 0u64..20, any::<bool>()), 0..40),
        ) {
            let access = |read| if read { Access::Read } else { Access::Write };
            let mut windows = windows();
            let mut model: Vec<(u64, u64, u64, bool)> = Vec::new();
            for (address, bytes, offset, read) in exposures {
                let free = model.iter().all(|other| address >= other.0 + other.1 || other.0 >= address + bytes);
                let fits = bytes > 0 && offset + bytes <= BYTES && free;
                prop_assert_eq!(windows.expose(slice(address, bytes), offset, access(read)).is_some(), fits);
                if fits {
                    model.push((address, bytes, offset, read));
                }
            }
            for (address, bytes, read) in probes {
                let found = windows.reach(&slice(address, bytes), access(read)).map(|(_, offset)| offset as u64);
                let inside = |other: &&(u64, u64, u64, bool)| {
                    other.3 == read && other.0 <= address && address + bytes <= other.0 + other.1
                };
                // An empty slice at the end of one window and the beginning of the next belongs to the next.
                let expected = model.iter().filter(inside).max().map(|other| other.2 + address - other.0);
                if bytes > 0 {
                    prop_assert_eq!(found.ok(), expected);
                }
            }
        }
    }

    #[test]
    fn a_withdrawal_waits_for_whoever_holds_the_window() {
        // Shows that a withdrawn window is found no more at once, but told as withdrawn only when its last holder let go, and
        // that its addresses are free only then.
        let mut windows = windows();
        windows.expose(slice(100, 50), 0, Access::Write).unwrap();
        let held = Arc::clone(windows.reach(&slice(110, 10), Access::Write).unwrap().0);
        windows.withdraw(100).unwrap();
        assert!(windows.reach(&slice(110, 10), Access::Write).is_err());
        assert_eq!(take_released(&mut windows), None);
        assert!(windows.expose(slice(120, 1), 0, Access::Write).is_none());
        drop(held);
        assert!(windows.has_released());
        assert_eq!(take_released(&mut windows), Some((100, RemoteKey(0))));
        windows.expose(slice(120, 1), 0, Access::Write).unwrap();
        assert!(windows.withdraw(100).is_none());
    }

    #[test]
    fn a_request_has_its_window_once() {
        // Shows that a number opens one window, for one direction and not past the memory, that its end is told when nobody holds it,
        // and that a number which is abandoned is never opened, or reaches nothing from then on.
        let mut windows = windows();
        let once = |number, address, bytes| RemoteSlice::new(address, bytes, RemoteKey(number)).unwrap();
        let first = once(1, 4096, 100);
        assert!(windows.reach(&first, Access::Write).is_err(), "not begun");
        windows.open_once(&first, Access::Write).unwrap();
        assert_eq!(windows.reach(&once(1, 4100, 96), Access::Write).unwrap().1, 4100);
        for outside in [once(1, 4095, 1), once(1, 4096, 101), once(2, 4096, 1), slice(4096, 1)] {
            assert!(windows.reach(&outside, Access::Write).is_err());
        }
        assert!(windows.reach(&first, Access::Read).is_err());
        assert!(windows.open_once(&first, Access::Write).is_err(), "it is open");
        assert!(windows.close(1) && !windows.close(1));
        assert!(windows.open_once(&first, Access::Write).is_err(), "it was");
        assert!(windows.open_once(&once(2, BYTES - 1, 2), Access::Write).is_err());
        windows.abandon(3).unwrap();
        assert_eq!(take_released(&mut windows), Some((0, RemoteKey(3))));
        assert!(windows.open_once(&once(3, 0, 1), Access::Read).is_err());
        assert!(windows.abandon(0).is_none(), "no number");
        windows.open_once(&once(4, 0, 10), Access::Write).unwrap();
        let held = Arc::clone(windows.reach(&once(4, 0, 10), Access::Write).unwrap().0);
        windows.abandon(4).unwrap();
        assert!(windows.reach(&once(4, 0, 10), Access::Write).is_err());
        assert!(!windows.close(4) && !windows.has_released());
        drop(held);
        assert_eq!(take_released(&mut windows), Some((0, RemoteKey(4))));
        windows.abandon(4).unwrap();
        windows.abandon(4).unwrap();
        assert_eq!(take_released(&mut windows), Some((0, RemoteKey(4))));
        assert_eq!(take_released(&mut windows), None, "asked twice, told once");
    }

    #[test]
    fn what_nobody_asked_is_told_nobody() {
        // Shows that a request that ends while somebody holds its window is spoken of when the client asks, and not with the next
        // withdrawal; and that such windows do not fill the room for others once they are nobody's.
        let mut windows = windows();
        let once = |number| RemoteSlice::new(0, 1, RemoteKey(number)).unwrap();
        let hold = |windows: &mut Windows, number| {
            windows.open_once(&once(number), Access::Write).unwrap();
            let held = Arc::clone(windows.reach(&once(number), Access::Write).unwrap().0);
            assert!(!windows.close(number));
            held
        };
        let (first, second) = (hold(&mut windows, 1), hold(&mut windows, 2));
        drop(first);
        assert!(!windows.is_withdrawing() && !windows.has_released());
        assert_eq!(take_released(&mut windows), None);
        windows.abandon(2).unwrap();
        assert!(windows.is_withdrawing() && !windows.has_released());
        drop(second);
        assert_eq!(take_released(&mut windows), Some((0, RemoteKey(2))));
        windows.abandon(1).unwrap();
        assert_eq!(take_released(&mut windows), Some((0, RemoteKey(1))));
        for number in 3..=2 + WINDOWS_MAX as u32 {
            drop(hold(&mut windows, number));
        }
        windows.expose(slice(1 << 20, 1), 0, Access::Read).unwrap();
        windows.abandon(3).unwrap();
        assert_eq!(take_released(&mut windows), Some((0, RemoteKey(3))), "forgotten, and nobody's");
    }

    #[test]
    fn offsets_and_addresses_are_apart() {
        // Shows that a request's window that is not released yet, which has an offset and no address, is in no exposure's way.
        let mut windows = windows();
        let once = RemoteSlice::new(4096, 4096, RemoteKey(1)).unwrap();
        windows.open_once(&once, Access::Write).unwrap();
        let held = Arc::clone(windows.reach(&once, Access::Write).unwrap().0);
        windows.abandon(1).unwrap();
        assert!(windows.expose(slice(4096, 4096), 8192, Access::Read).is_some());
        drop(held);
    }

    #[test]
    fn windows_are_bounded() {
        // Shows that a client can make the server remember so much and no more.
        let mut windows = windows();
        for number in 0..WINDOWS_MAX as u64 {
            windows.expose(slice(number, 1), 0, Access::Read).unwrap();
        }
        assert!(windows.expose(slice(1 << 20, 1), 0, Access::Read).is_none());
        windows.withdraw(0).unwrap();
        assert!(windows.expose(slice(1 << 20, 1), 0, Access::Read).is_none(), "still remembered");
        take_released(&mut windows).unwrap();
        windows.expose(slice(1 << 20, 1), 0, Access::Read).unwrap();
        for number in 1..=WINDOWS_MAX as u32 {
            windows.abandon(number).unwrap();
        }
        assert!(windows.abandon(WINDOWS_MAX as u32 + 1).is_none(), "nobody listens to the answers");
    }

    #[test]
    fn what_could_not_be_told_is_told_later() {
        // Shows that withdrawals are told in their order, each once, also when the client does not listen in between.
        let mut windows = windows();
        for number in 0..4 {
            windows.expose(slice(number, 1), 0, Access::Read).unwrap();
            windows.withdraw(number).unwrap();
        }
        let mut told = Vec::new();
        for mut room in [1, 0, 2, 9] {
            let result = windows.tell_released(|slice| {
                room -= 1;
                (room >= 0).then(|| told.push(slice.address())).ok_or("no room")
            });
            assert_eq!(result.is_err(), told.len() < 4);
        }
        assert_eq!(told, [0, 1, 2, 3]);
        assert!(!windows.is_withdrawing());
    }
}
