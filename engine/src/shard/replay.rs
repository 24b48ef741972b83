//! How much of the log an open would have to replay, and that checkpoints bound it.
//!
//! ```text
//!   replay starts here           a checkpoint was begun here                    tail
//!          ├──────── before ─────────────┼──────── since ───────────────────────┤
//! ```
//!
//! A checkpoint is begun once so much log as [`Tuning::checkpoint_log_bytes`](super::Tuning) has been written since the last one was, and
//! the log goes on while it is taken. So with none under way replay is as long as that, or as what was logged while the last one was
//! taken, if that is more; and with one under way as much longer as has been logged meanwhile. To either comes what was in flight when
//! the checkpoint became due. What an open had to replay counts as logged since: a store that crashes again and again before it has
//! written much replays no more each time.
//!
//! It holds as long as checkpoints can be taken. Where one fails, for lack of room or of a device, the next is tried when an eighth as
//! much again was logged.

use crate::log::BATCHES_IN_FLIGHT_MAX;

/// Batches that may be written between the one with which a checkpoint becomes due and its beginning: those in flight, and as many
/// that go out while its task waits for its turn.
const LATE_BATCHES_MAX: u64 = 2 * BATCHES_IN_FLIGHT_MAX as u64;

pub(super) struct ReplayLength {
    /// A checkpoint is due after so many bytes.
    interval: u64,
    /// The same, or more after one that failed.
    due_at: u64,
    before: u64,
    since: u64,
    /// What `since` may be before a checkpoint is begun, and what `before` may.
    since_max: u64,
    before_max: u64,
    /// Batches written since a checkpoint became due.
    late_batches: u64,
    running: bool,
    failed: bool,
}

impl ReplayLength {
    /// After an open that replayed so many bytes.
    pub(super) fn new(interval: u64, replayed: u64) -> ReplayLength {
        ReplayLength {
            interval,
            due_at: interval,
            before: 0,
            since: replayed,
            since_max: interval.max(replayed),
            before_max: 0,
            late_batches: 0,
            running: false,
            failed: false,
        }
    }

    /// A batch of so many bytes is being written.
    pub(super) fn logged(&mut self, bytes: u64) {
        self.since += bytes;
        if self.running {
            self.since_max = self.since_max.max(self.since);
        } else if self.since > self.since_max && self.late_batches < LATE_BATCHES_MAX {
            self.late_batches += 1;
            self.since_max = self.since;
        }
    }

    /// Whether a checkpoint is to be taken.
    pub(super) fn is_due(&self) -> bool {
        self.since >= self.due_at
    }

    /// A checkpoint is begun, from which replay would start so many bytes before the tail.
    pub(super) fn begin(&mut self, in_flight: u64) {
        self.before = self.since.saturating_sub(in_flight);
        self.before_max = self.since_max;
        (self.since, self.since_max) = (in_flight, self.interval.max(in_flight));
        (self.running, self.late_batches) = (true, 0);
    }

    /// It is durable, and replay starts from it.
    pub(super) fn end(&mut self) {
        (self.before, self.before_max, self.due_at) = (0, 0, self.interval);
        (self.running, self.failed) = (false, false);
    }

    /// It was not taken: as much is to be replayed as before, and it is tried again before as much again is written, not with every batch.
    pub(super) fn fail(&mut self) {
        self.since += std::mem::take(&mut self.before);
        self.due_at = self.since.max(self.interval).saturating_add(self.interval / 8);
        (self.running, self.failed) = (false, true);
    }

    /// The most that an open now would have to replay, bytes; none after a checkpoint that could not be taken.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn bytes_max(&self) -> Option<u64> {
        let before = if self.running { self.before_max } else { 0 };
        (!self.failed).then_some(before + self.since_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes before a checkpoint is due, and while it is taken, is all that may have to be replayed.
    #[test]
    fn the_bound_is_what_was_let_in() {
        let mut replay = ReplayLength::new(100, 0);
        replay.logged(90);
        assert!(!replay.is_due() && replay.bytes_max() == Some(100));
        replay.logged(20);
        assert!(replay.is_due() && replay.bytes_max() == Some(110));
        replay.begin(20);
        assert!(!replay.is_due() && replay.bytes_max() == Some(210));
        replay.logged(200);
        assert_eq!(replay.bytes_max(), Some(110 + 220));
        replay.end();
        assert!(replay.is_due(), "the next one, for what was logged meanwhile");
        assert_eq!(replay.bytes_max(), Some(220));
    }

    /// One that is never begun leaves the bound where it was: what is logged behind it is seen to be too much.
    #[test]
    fn what_comes_too_late_does_not_count() {
        let mut replay = ReplayLength::new(100, 0);
        (0..1000).for_each(|_| replay.logged(10));
        assert_eq!(replay.bytes_max(), Some(100 + LATE_BATCHES_MAX * 10));
        assert!(replay.since > 100 + LATE_BATCHES_MAX * 10);
    }

    /// After an open, what it replayed counts; after a failure, the next attempt is a little later.
    #[test]
    fn what_was_replayed_counts() {
        let mut replay = ReplayLength::new(100, 250);
        assert!(replay.is_due() && replay.bytes_max() == Some(250));
        replay.begin(0);
        replay.fail();
        assert!(!replay.is_due() && replay.bytes_max().is_none());
        replay.logged(12);
        assert!(replay.is_due());
        replay.begin(12);
        replay.end();
        assert!(!replay.is_due() && replay.bytes_max() == Some(100));
    }
}
