//! Damage as it is found, told to whoever subscribed: what a layer with redundancy needs to mend it from elsewhere.
//!
//! Never waited for: a subscriber that does not keep up loses events, and is told how many. What it then does not know of
//! the next scrub finds again.

use crate::inspect::Finding;
use futures_channel::mpsc::{self, Receiver, Sender};
use futures_core::Stream;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Events that wait for one subscriber.
const EVENTS_WAITING_MAX: usize = 1024;

/// Who met the damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoundBy {
    /// Somebody who read the object, and was told [`crate::Error::Corrupt`].
    Read,
    /// The scrub.
    Scrub,
    /// The cleaner, which left the payload where it is.
    Cleaner,
}

/// Stored bytes that are not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CorruptionEvent {
    /// What is wrong, with its shard, file, offset and object.
    pub finding: Finding,
    /// Who met it.
    pub found_by: FoundBy,
}

/// A subscription: see [`crate::Engine::corruption_events`].
pub struct CorruptionEvents {
    waiting: Receiver<CorruptionEvent>,
    lost: Arc<AtomicU64>,
}

impl CorruptionEvents {
    /// The next event; none once the engine has closed. Works on any runtime.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<CorruptionEvent> {
        std::future::poll_fn(|context| Pin::new(&mut self.waiting).poll_next(context)).await
    }

    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<CorruptionEvent> {
        self.waiting.try_recv().ok()
    }

    /// Events that found no room because those before them were not taken.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

struct Subscriber {
    sender: Sender<CorruptionEvent>,
    lost: Arc<AtomicU64>,
}

/// Where a store's cores tell of damage. The lock is taken when damage is found, and never on the way of sound bytes.
#[derive(Default)]
pub(crate) struct EventHub(Mutex<Vec<Subscriber>>);

impl EventHub {
    pub(crate) fn subscribe(&self) -> CorruptionEvents {
        let (sender, waiting) = mpsc::channel(EVENTS_WAITING_MAX);
        let lost = Arc::<AtomicU64>::default();
        let subscriber = Subscriber { sender, lost: lost.clone() };
        self.0.lock().expect("nothing panics with the lock held").push(subscriber);
        CorruptionEvents { waiting, lost }
    }

    pub(crate) fn tell(&self, event: &CorruptionEvent) {
        let mut subscribers = self.0.lock().expect("nothing panics with the lock held");
        subscribers.retain_mut(|subscriber| match subscriber.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(refused) => {
                subscriber.lost.fetch_add(1, Ordering::Relaxed);
                refused.is_full()
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Problem, Severity};

    fn event(offset: u64) -> CorruptionEvent {
        let problem = Problem::Bytes { bytes: 1, expected: 2, found: 3 };
        let (shard, region, offset) = (Some(0), None, Some(offset));
        let finding = Finding { shard, region, offset, object: None, severity: Severity::Damage, problem };
        CorruptionEvent { finding, found_by: FoundBy::Read }
    }

    /// Each subscriber gets every event in order; one that does not look loses the newest and knows how many; one that has
    /// gone is forgotten.
    #[test]
    fn subscribers_do_not_hold_anybody_up() {
        let hub = EventHub::default();
        let (mut one, other) = (hub.subscribe(), hub.subscribe());
        drop(other);
        // A channel has room for one more for each sender.
        let count = EVENTS_WAITING_MAX as u64 + 5;
        (0..count).for_each(|offset| hub.tell(&event(offset)));
        assert_eq!(hub.0.lock().unwrap().len(), 1);
        let taken: Vec<_> =
            std::iter::from_fn(|| one.try_next()).map(|e| e.finding.offset.unwrap()).collect();
        assert_eq!(taken, (0..EVENTS_WAITING_MAX as u64 + 1).collect::<Vec<_>>());
        assert_eq!(one.lost(), 4);
        drop(hub);
        assert_eq!(one.try_next(), None);
    }
}
