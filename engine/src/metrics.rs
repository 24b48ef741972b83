//! Counters of a core: written by its own thread, read by any.

use crate::error::Resource;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread adds to and others may read at any time. Costs a load and a store, no locked instruction.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the thread that owns the counter may.
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// The number so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that one thread sets and others may read at any time.
#[derive(Default, Debug)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a core has done since it was started.
#[derive(Default, Debug)]
#[non_exhaustive]
pub struct CoreMetrics {
    /// Objects and parts begun.
    pub puts: Counter,
    /// Objects opened for reading.
    pub gets: Counter,
    /// Deletes asked for.
    pub deletes: Counter,
    /// Listings asked for.
    pub lists: Counter,
    /// Blocks that were not what was written.
    pub corruptions: Counter,
    /// Refusals by [`Resource`]: see [`CoreMetrics::refused`].
    pub(crate) refusals: [Counter; Resource::ALL.len()],
    /// Panics in work of front ends on this core, which ended that work and nothing else.
    pub panics: Counter,
    /// Stretches of objects that were in the read cache.
    pub cache_hits: Counter,
    /// Stretches that were not, and were read from a device.
    pub cache_misses: Counter,
    /// Stretches that somebody else was just reading: one read served all.
    pub cache_shared: Counter,
    /// Bytes that the read cache keeps. They count as free memory.
    pub cache_bytes: Gauge,
}

impl CoreMetrics {
    /// How often something was refused for want of this ([`crate::Error::Busy`]): by this core, or by a shard that it owns.
    pub fn refused(&self, resource: Resource) -> u64 {
        self.refusals[resource as usize].value()
    }

    pub(crate) fn count_refusal(&self, resource: Resource) {
        self.refusals[resource as usize].add(1);
    }
}
