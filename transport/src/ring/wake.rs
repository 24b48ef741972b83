//! Waking a parked ring from any thread.
//!
//! ```text
//!             park                     wake: one atomic, and a write to the eventfd
//!   Awake ──────────► Parked ──────────────────────────────┐
//!     ▲ ▲               │ completion or time limit         ▼
//!     │ └───────────────┘                              Notified
//!     └──── the next park (or the one that was woken) ─────┘
//!            takes the notice and returns at once
//! ```
//!
//! Invariants:
//! * No wake is lost: it is noticed by the park that sleeps, or makes the next one return at once.
//! * A wake is one atomic exchange unless the ring sleeps; only the first wake of a sleeping ring makes a system call.
//! * Only the beginning of a sleep takes a notice, or the end of a park. If a turn did, a wake between the caller's look at
//!   its mailbox and that turn would be gone before the caller looks again.
//! * A ring sleeps in one of two places: in its driver (a park) or in a loop of its owner's (a wait). A waker that finds it
//!   asleep signals the place where it sleeps.

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};
use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, OnceLock},
};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

const AWAKE: u8 = 0;
const PARKED: u8 = 1;
const NOTIFIED: u8 = 2;

/// Where a ring sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In its driver.
    Park,
    /// In a loop of the owner's.
    Wait,
}

/// The state alone. Loom's under `--cfg loom`; the test at the end says how to run it.
struct Flag {
    state: AtomicU8,
    /// Whether the sleep is a wait. Changed only while the ring is awake.
    waits: AtomicBool,
}

impl Flag {
    fn new() -> Flag {
        Flag { state: AtomicU8::new(AWAKE), waits: AtomicBool::new(false) }
    }

    /// Any thread. The place to signal, if the ring sleeps.
    fn notify(&self) -> Option<Place> {
        // Never skipped, even if there is a notice already: whoever takes the notice sees what every waker wrote,
        // because each exchange continues the release sequence of the one before.
        if self.state.swap(NOTIFIED, Ordering::AcqRel) != PARKED {
            return None;
        }
        // Relaxed: the exchange that wrote PARKED came after the place was written. If this waker is so late that the ring
        // sleeps again elsewhere, then that sleep has taken its notice, and a signal too many ends a sleep for nothing.
        Some(if self.waits.load(Ordering::Relaxed) { Place::Wait } else { Place::Park })
    }

    /// The ring. False if there was a notice, which is taken.
    fn begin(&self, place: Place) -> bool {
        self.waits.store(place == Place::Wait, Ordering::Relaxed);
        // Acquire pairs with the release of `notify`: who is woken sees what was written before the wake.
        let parked = self.state.compare_exchange(AWAKE, PARKED, Ordering::AcqRel, Ordering::Acquire);
        if parked.is_err() {
            self.end_park();
        }
        parked.is_ok()
    }

    /// The ring, which looks at its mailbox next: a notice is taken.
    fn end_park(&self) {
        // An exchange, not a store: a store would overwrite the notice of a waker that came a moment before without
        // seeing what it wrote, and (buffered by the processor) could do so after the caller's look at its mailbox.
        self.state.swap(AWAKE, Ordering::AcqRel);
    }

    /// The ring, whose owner may have looked at its mailbox already: a notice is left for the next sleep to take.
    fn end_wait(&self) {
        // Acquire on failure: it is a look at what the waker wrote too.
        let _ = self.state.compare_exchange(PARKED, AWAKE, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// What a ring and its wakers share.
pub(super) struct WakeState {
    flag: Flag,
    /// Readable when a parked ring was woken.
    eventfd: OwnedFd,
    /// The same for a ring whose owner waits in a loop of its own, for this descriptor.
    signal: OnceLock<OwnedFd>,
    /// System calls made by wakers, of whichever thread. Not loom's: nothing depends on it.
    writes: std::sync::atomic::AtomicU64,
}

impl WakeState {
    /// `blocking` is how the driver reads the eventfd: io_uring waits for a blocking descriptor by itself, and gives
    /// EAGAIN at once for one that is not.
    pub(super) fn new(blocking: bool) -> io::Result<Arc<WakeState>> {
        let mut flags = EventfdFlags::CLOEXEC;
        flags.set(EventfdFlags::NONBLOCK, !blocking);
        Ok(Arc::new(WakeState {
            flag: Flag::new(),
            eventfd: eventfd(0, flags)?,
            signal: OnceLock::new(),
            writes: 0.into(),
        }))
    }

    /// The descriptor for a loop of the owner's, made when first asked for.
    pub(super) fn signal(&self) -> io::Result<BorrowedFd<'_>> {
        if self.signal.get().is_none() {
            // Only the ring's thread gets here, so nobody sets it in between.
            let _ = self.signal.set(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        }
        Ok(self.signal.get().expect("set above").as_fd())
    }

    /// As [`WakeState::begin_park`], for a sleep on the signal, which exists then.
    pub(super) fn begin_wait(&self) -> bool {
        self.flag.begin(Place::Wait)
    }

    /// As [`WakeState::end_park`], but a wake that came meanwhile makes the next sleep return at once, too: the owner is
    /// free to look at its mailbox before it turns the ring.
    pub(super) fn end_wait(&self) {
        self.flag.end_wait();
    }

    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Before a sleep. False if there was a wake: then it is taken, and there must be no sleep.
    pub(super) fn begin_park(&self) -> bool {
        self.flag.begin(Place::Park)
    }

    /// After a sleep, whatever ended it.
    pub(super) fn end_park(&self) {
        self.flag.end_park();
    }

    /// How often a waker wrote to a descriptor so far.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn wake(&self) {
        let Some(place) = self.flag.notify() else { return };
        let target = match (place, self.signal.get()) {
            (Place::Wait, Some(signal)) => signal,
            // A driver that waits for its eventfd in both places has no signal.
            (Place::Park, _) | (Place::Wait, None) => &self.eventfd,
        };
        self.writes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        loop {
            match rustix::io::write(target, &1u64.to_ne_bytes()) {
                Err(Errno::INTR) => {}
                // EAGAIN: the counter is full, so the descriptor is readable, which is all that is wanted.
                Ok(_) | Err(Errno::AGAIN) => return,
                Err(error) => {
                    tracing::error!(%error, "a parked ring could not be woken");
                    return;
                }
            }
        }
    }
}

/// Wakes a parked ring from any thread. Cheap to clone; free while the ring is awake; harmless when the ring is gone.
#[derive(Clone)]
pub struct RingWaker(Arc<WakeState>);

impl RingWaker {
    pub(super) fn new(state: Arc<WakeState>) -> RingWaker {
        RingWaker(state)
    }

    /// Makes the park that sleeps, or else the next one, return.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl fmt::Debug for RingWaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingWaker")
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn counter(state: &WakeState) -> Option<u64> {
        let mut bytes = [0; 8];
        rustix::io::read(state.eventfd(), &mut bytes).ok().map(|_| u64::from_ne_bytes(bytes))
    }

    #[test]
    fn only_the_first_wake_of_a_sleeper_is_a_system_call() {
        // Shows that wakes are free while the ring is awake, and that a sleeper is written to once.
        let state = WakeState::new(false).unwrap();
        let waker = RingWaker::new(state.clone());
        waker.wake();
        waker.wake();
        assert_eq!(counter(&state), None);
        assert!(!state.begin_park(), "the wake makes this park return at once");
        assert!(state.begin_park(), "and is then taken");
        waker.wake();
        waker.wake();
        assert_eq!(counter(&state), Some(1));
        state.end_park();
        assert!(state.begin_park(), "the park that slept took the notice");
    }

    #[test]
    fn a_wake_after_the_sleep_ended_is_kept_for_the_next() {
        // Shows that a wake between two parks is noticed by the second, without a system call.
        let state = WakeState::new(false).unwrap();
        assert!(state.begin_park());
        state.end_park();
        RingWaker::new(state.clone()).wake();
        assert_eq!(counter(&state), None);
        assert!(!state.begin_park());
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test -p crossdock-transport --release --lib loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{
        sync::{Arc, atomic::AtomicUsize},
        thread,
    };

    /// Two threads that send a message each, and a ring that has seen `seen` of them when it sleeps at `place`.
    fn never_sleeps_on_a_message(
        ring: impl Fn(&Flag, &dyn Fn() -> usize) -> (usize, Place) + Sync + Send + 'static,
    ) {
        let mut model = loom::model::Builder::new();
        // Three switches against a thread's will are enough for a waker that is late by a whole sleep; all interleavings of
        // two sleeps and two wakers would take hours.
        model.preemption_bound = Some(3);
        model.check(move || {
            // Messages, and writes to the descriptors of the two places.
            let shared =
                Arc::new((Flag::new(), AtomicUsize::new(0), [AtomicUsize::new(0), AtomicUsize::new(0)]));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let (flag, messages, signals) = &*shared;
                        messages.fetch_add(1, Ordering::Relaxed);
                        if let Some(place) = flag.notify() {
                            signals[place as usize].fetch_add(1, Ordering::Release);
                        }
                    })
                })
                .collect();
            let (flag, messages, signals) = &*shared;
            let (seen, place) = ring(flag, &|| messages.load(Ordering::Relaxed));
            for sender in senders {
                sender.join().unwrap();
            }
            assert!(seen == 2 || signals[place as usize].load(Ordering::Acquire) > 0, "slept on a message");
        });
    }

    /// A ring that looks at its mailbox, parks, and sleeps only if nobody signals it never sleeps on a message.
    #[test]
    fn loom_no_message_is_slept_on() {
        never_sleeps_on_a_message(|flag, look| {
            let mut seen = look();
            while !flag.begin(Place::Park) {
                seen = look();
            }
            (seen, Place::Park)
        });
    }

    /// The same for a wait that comes after a wait, whose owner looks at its mailbox before it turns the ring. The ring
    /// takes the signals of the second wait for its own only: those of the first are cleared, which this model has as a
    /// wait that ends in between.
    #[test]
    fn loom_no_message_is_slept_on_after_a_wait() {
        never_sleeps_on_a_message(|flag, look| {
            let mut seen = look();
            if flag.begin(Place::Wait) {
                seen = look();
                flag.end_wait();
            } else {
                seen = seen.max(look());
            }
            while !flag.begin(Place::Park) {
                seen = look();
            }
            (seen, Place::Park)
        });
    }

    /// And for a wait after a park: the signal goes to where the ring sleeps now.
    #[test]
    fn loom_no_message_is_slept_on_after_a_park() {
        never_sleeps_on_a_message(|flag, look| {
            if flag.begin(Place::Park) {
                flag.end_park();
            }
            let mut seen = look();
            while !flag.begin(Place::Wait) {
                seen = look();
            }
            (seen, Place::Wait)
        });
    }
}
