//! What a core runs on: a clock, and something that reaps completions and can sleep.
//!
//! There are two: the ring of a real core, below, and the simulator's, whose clock stands still until told.

use super::{Moment, WakeCore};
use crossdock_transport::ring::Ring;
use std::{sync::Arc, time::Duration};

/// The ground under one core.
pub trait Driver {
    /// Pushes out what was posted and reaps what is done, without waiting. Returns how much was reaped.
    fn turn(&self) -> usize;
    /// As [`Driver::turn`], but may sleep until a completion, a wake-up or the limit.
    fn park(&self, limit: Option<Duration>);
    /// Wakes this core from any thread.
    fn waker(&self) -> WakeCore;
    /// The monotonic clock.
    fn now(&self) -> Moment;
    /// The wall clock, in milliseconds since 1970 (UTC). May jump.
    fn wall_clock_ms(&self) -> u64;
    /// System calls made for turning, parking and waking so far.
    fn system_calls(&self) -> u64 {
        0
    }
}

/// A real core: io_uring or its portable stand-in, and the kernel's clocks.
pub struct RingDriver {
    ring: Ring,
}

impl RingDriver {
    /// Drives the core with `ring`.
    pub fn new(ring: Ring) -> RingDriver {
        RingDriver { ring }
    }

    /// The ring itself, to open files and sockets on.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }
}

impl Driver for RingDriver {
    fn turn(&self) -> usize {
        self.ring.turn()
    }

    fn park(&self, limit: Option<Duration>) {
        self.ring.park(limit);
    }

    fn waker(&self) -> WakeCore {
        let waker = self.ring.waker();
        Arc::new(move || waker.wake())
    }

    fn now(&self) -> Moment {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Moment(nanoseconds(time.tv_sec, time.tv_nsec))
    }

    fn wall_clock_ms(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        nanoseconds(time.tv_sec, time.tv_nsec) / 1_000_000
    }

    fn system_calls(&self) -> u64 {
        self.ring.syscalls()
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    // Both are non-negative for the clocks above until long after 2262, when the product would leave 64 bits.
    (seconds as u64).saturating_mul(1_000_000_000).saturating_add(nanoseconds as u64)
}
