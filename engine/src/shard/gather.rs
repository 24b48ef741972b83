//! When a batch goes that could still gather.
//!
//! An idle log is written to at once, so that whoever is alone waits for nothing. Under load a write costs the device a
//! flush and the core a batch, whatever it carries, so what comes meanwhile gathers, until it is
//!
//! * as much as is in flight: of writers that each wait for their own, half are then in flight and half gather, and a log
//!   with 64 writers writes 32 at a time, whatever a write takes; or
//! * enough bytes for a write of its own; or
//! * a quarter of a write's usual time old: nobody waits longer for company than that adds.

use crate::reactor::Moment;
use std::time::Duration;

/// Bytes that are worth a write, whatever else is in flight.
const ENOUGH_BYTES: usize = 256 * 1024;
/// Of a write's usual time, the part that a proposal may gather.
const WAIT_SHARE: u64 = 4;
/// The longest that a proposal gathers, whatever writes take: a device that stalls is not the measure.
const WAIT_NS_MAX: u64 = 500_000;
/// What a write is taken to last before one has: 400 µs, a flash device with a volatile cache.
const FIRST_WRITE_NS: u64 = 400_000;
/// Of the usual time, the part that each write replaces with its own.
const SMOOTHING: u64 = 8;

/// What waits for a log, and what it is writing.
pub(super) struct Load {
    pub(super) queued: u64,
    pub(super) queued_bytes: usize,
    pub(super) in_flight: u64,
}

/// How long the proposals that wait now have gathered, and how long they should.
#[derive(Debug)]
pub(super) struct Gathering {
    write_ns: u64,
    until: Option<Moment>,
}

impl Default for Gathering {
    fn default() -> Gathering {
        Gathering { write_ns: FIRST_WRITE_NS, until: None }
    }
}

impl Gathering {
    /// The oldest proposal that waits came now.
    pub(super) fn begin(&mut self, now: Moment) {
        let wait = (self.write_ns / WAIT_SHARE).min(WAIT_NS_MAX);
        self.until = Some(now.after(Duration::from_nanos(wait)));
    }

    /// Nothing waits.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    /// When what waits goes at the latest; none if nothing does.
    pub(super) fn until(&self) -> Option<Moment> {
        self.until
    }

    /// Whether what waits is to go now.
    pub(super) fn is_enough(&self, load: &Load, now: impl FnOnce() -> Moment) -> bool {
        load.queued >= load.in_flight
            || load.queued_bytes >= ENOUGH_BYTES
            || self.until.is_some_and(|until| until <= now())
    }

    /// A write took so long.
    pub(super) fn note(&mut self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.write_ns = self.write_ns - self.write_ns / SMOOTHING + took / SMOOTHING;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever comes to an idle log goes; beside others, with as many as they are, or with enough bytes, or in time.
    #[test]
    fn what_is_enough() {
        let mut gathering = Gathering::default();
        let enough = |gathering: &Gathering, queued, queued_bytes, in_flight, now| {
            gathering.is_enough(&Load { queued, queued_bytes, in_flight }, || Moment(now))
        };
        assert!(enough(&gathering, 1, 0, 0, 0));
        assert!(enough(&gathering, 1, 0, 1, 0));
        gathering.begin(Moment(0));
        assert!(!enough(&gathering, 31, 31 * 4096, 33, 99_999));
        assert!(enough(&gathering, 32, 32 * 4096, 32, 0));
        assert!(enough(&gathering, 2, ENOUGH_BYTES, 33, 0));
        assert!(enough(&gathering, 1, 0, 33, 100_000));
        gathering.end();
        assert_eq!(gathering.until(), None);
    }

    /// The wait follows what writes take, and one that stalls does not make the next wait for long.
    #[test]
    fn the_wait_follows_the_device() {
        let mut gathering = Gathering::default();
        let wait = |gathering: &mut Gathering| {
            gathering.begin(Moment(0));
            gathering.until().map_or(0, |until| until.0)
        };
        assert_eq!(wait(&mut gathering), 100_000);
        (0..100).for_each(|_| gathering.note(Duration::from_micros(20)));
        assert!((4_000..6_000).contains(&wait(&mut gathering)), "{gathering:?}");
        gathering.note(Duration::MAX);
        assert_eq!(wait(&mut gathering), WAIT_NS_MAX);
    }
}
