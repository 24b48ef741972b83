//! What a core runs on: a clock, and something that reaps completions and can sleep.
//!
//! There are two: the ring of a real core, below, and the simulator's, whose clock stands still until told.

use super::{Moment, WakeCore, endpoints::Endpoints};
use crossdock_transport::{
    remote::Endpoint,
    ring::{Ring, SystemCalls},
};
use std::{rc::Rc, sync::Arc, time::Duration};

/// The ground under one core.
pub(crate) trait Driver {
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
    fn system_calls(&self) -> SystemCalls {
        SystemCalls::default()
    }
    /// This core's part of the transport of that name, if there is one.
    fn endpoint(&self, _transport: &str) -> Option<Rc<dyn Endpoint>> {
        None
    }
}

/// A real core: io_uring or its portable stand-in, and the kernel's clocks.
pub struct RingDriver {
    ring: Ring,
    endpoints: Endpoints,
}

impl RingDriver {
    /// Drives the core with `ring`.
    pub(crate) fn new(ring: Ring) -> RingDriver {
        RingDriver { ring, endpoints: Endpoints::default() }
    }

    /// Drives `endpoint`, too: this core's part of the transport of that name.
    pub(crate) fn attach(&self, name: &'static str, endpoint: Rc<dyn Endpoint>) {
        self.endpoints.attach(name, endpoint, &self.ring);
    }

    /// This core's part of the transport of that name, if the store was opened with one.
    pub fn endpoint(&self, name: &str) -> Option<Rc<dyn Endpoint>> {
        self.endpoints.find(name)
    }

    /// This core's part of each transport, by name, in the order they were given to the builder.
    pub fn endpoints(&self) -> Vec<(&'static str, Rc<dyn Endpoint>)> {
        self.endpoints.list()
    }

    /// Gets ready to sleep on the ring's descriptor, for as long as it says. None if there is something to do already.
    pub(crate) fn begin_wait(&self, limit: Option<Duration>) -> Option<Option<Duration>> {
        let limit = self.endpoints.sleep_limit(limit);
        (limit != Some(Duration::ZERO) && self.ring.begin_wait()).then_some(limit)
    }

    /// The ring itself, to open files and sockets on.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }
}

impl Driver for RingDriver {
    fn turn(&self) -> usize {
        self.ring.turn() + self.endpoints.turn(&self.ring)
    }

    fn park(&self, limit: Option<Duration>) {
        if self.endpoints.is_empty() {
            self.ring.park(limit);
        } else {
            self.ring.park(self.endpoints.sleep_limit(limit));
            self.endpoints.turn(&self.ring);
        }
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

    fn system_calls(&self) -> SystemCalls {
        self.ring.system_calls()
    }

    fn endpoint(&self, transport: &str) -> Option<Rc<dyn Endpoint>> {
        self.endpoints.find(transport)
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> u64 {
    // Both are non-negative for the clocks above until long after 2262, when the product would leave 64 bits.
    (seconds as u64).saturating_mul(1_000_000_000).saturating_add(nanoseconds as u64)
}
