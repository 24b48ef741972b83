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
//! * Only a park takes a notice. If a turn did, a wake between the caller's look at its mailbox and that turn would be
//!   gone before the caller looks again.

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};
use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, Ordering};

const AWAKE: u8 = 0;
const PARKED: u8 = 1;
const NOTIFIED: u8 = 2;

/// The state alone. Loom's under `--cfg loom`; the test at the end says how to run it.
struct Flag(AtomicU8);

impl Flag {
    fn new() -> Flag {
        Flag(AtomicU8::new(AWAKE))
    }

    /// Any thread. True if the ring sleeps and must be signalled.
    fn notify(&self) -> bool {
        // Never skipped, even if there is a notice already: whoever takes the notice sees what every waker wrote,
        // because each exchange continues the release sequence of the one before.
        self.0.swap(NOTIFIED, Ordering::AcqRel) == PARKED
    }

    /// The ring. False if there was a notice, which is taken.
    fn begin_park(&self) -> bool {
        // Acquire pairs with the release of `notify`: who is woken sees what was written before the wake.
        let parked = self.0.compare_exchange(AWAKE, PARKED, Ordering::AcqRel, Ordering::Acquire);
        if parked.is_err() {
            self.end_park();
        }
        parked.is_ok()
    }

    /// The ring.
    fn end_park(&self) {
        // An exchange, not a store: a store would overwrite the notice of a waker that came a moment before without
        // seeing what it wrote, and (buffered by the processor) could do so after the caller's look at its mailbox.
        self.0.swap(AWAKE, Ordering::AcqRel);
    }
}

/// What a ring and its wakers share.
pub(super) struct WakeState {
    flag: Flag,
    /// Readable when a parked ring was woken.
    eventfd: OwnedFd,
}

impl WakeState {
    /// `blocking` is how the driver reads the eventfd: io_uring waits for a blocking descriptor by itself, and gives
    /// EAGAIN at once for one that is not.
    pub(super) fn new(blocking: bool) -> io::Result<Arc<WakeState>> {
        let mut flags = EventfdFlags::CLOEXEC;
        flags.set(EventfdFlags::NONBLOCK, !blocking);
        Ok(Arc::new(WakeState { flag: Flag::new(), eventfd: eventfd(0, flags)? }))
    }

    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Before a sleep. False if there was a wake: then it is taken, and there must be no sleep.
    pub(super) fn begin_park(&self) -> bool {
        self.flag.begin_park()
    }

    /// After a sleep, whatever ended it.
    pub(super) fn end_park(&self) {
        self.flag.end_park();
    }

    fn wake(&self) {
        if !self.flag.notify() {
            return;
        }
        loop {
            match rustix::io::write(&self.eventfd, &1u64.to_ne_bytes()) {
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

    /// A ring that looks at its mailbox, parks, and sleeps only if nobody signals it never sleeps on a message.
    #[test]
    fn loom_no_message_is_slept_on() {
        loom::model(|| {
            // Messages, and writes to the eventfd.
            let shared = Arc::new((Flag::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let shared = shared.clone();
                    thread::spawn(move || {
                        let (flag, messages, signals) = &*shared;
                        messages.fetch_add(1, Ordering::Relaxed);
                        if flag.notify() {
                            signals.fetch_add(1, Ordering::Release);
                        }
                    })
                })
                .collect();
            let (flag, messages, signals) = &*shared;
            let mut seen = messages.load(Ordering::Relaxed);
            while !flag.begin_park() {
                seen = messages.load(Ordering::Relaxed);
            }
            for sender in senders {
                sender.join().unwrap();
            }
            assert!(seen == 2 || signals.load(Ordering::Acquire) > 0, "slept on a message");
        });
    }
}
