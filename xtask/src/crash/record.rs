//! What the clients were told, and what a store may therefore hold after a crash.
//!
//! Each write of a key is an interval on one logical clock: it begins before the request is sent and ends when
//! the server's acknowledgement is read; without one it never ends. After a crash the store may hold
//!
//! * the value of any write that was *not* followed: no acknowledged write of that key began after it ended;
//! * nothing else: not a mix of two values, not a value that an acknowledged write has replaced.
//!
//! Absence is a value like any other: what a delete writes, and what every key begins with.

use std::collections::BTreeMap;
use std::fmt;

/// A moment on the logical clock.
pub(crate) type Moment = u64;

/// What a key holds: its size and SHA-256, or nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    Absent,
    Present { bytes: u64, sha256: [u8; 32] },
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(formatter, "nothing"),
            // The first bytes of the sum tell values apart; the whole of it only fills the screen.
            Self::Present { bytes, sha256: [a, b, c, d, ..] } => {
                write!(formatter, "{bytes} bytes {a:02x}{b:02x}{c:02x}{d:02x}")
            }
        }
    }
}

/// One write of a key.
#[derive(Clone, Copy, Debug)]
struct Write {
    begin: Moment,
    /// None: no acknowledgement was read.
    end: Option<Moment>,
    value: Value,
}

/// Names a write until its outcome is known.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    key: String,
    begin: Moment,
}

/// All writes of all keys.
#[derive(Clone, Default)]
pub(crate) struct Record {
    clock: Moment,
    keys: BTreeMap<String, Vec<Write>>,
}

impl Record {
    /// The next moment; every one is later than all before it.
    pub(crate) fn tick(&mut self) -> Moment {
        self.clock += 1;
        self.clock
    }

    /// A write is about to be sent.
    pub(crate) fn begin(&mut self, key: &str, value: Value) -> Ticket {
        let begin = self.tick();
        let absent = Write { begin: 0, end: Some(0), value: Value::Absent };
        let writes = self.keys.entry(key.to_owned()).or_insert_with(|| vec![absent]);
        writes.push(Write { begin, end: None, value });
        Ticket { key: key.to_owned(), begin }
    }

    /// The server acknowledged the write.
    pub(crate) fn acknowledge(&mut self, ticket: &Ticket) {
        let end = self.tick();
        let writes = self.keys.get_mut(&ticket.key).expect("a ticket names a key of this record");
        for write in writes.iter_mut().filter(|write| write.begin == ticket.begin) {
            write.end = Some(end);
        }
    }

    /// The server refused the write before it did anything.
    pub(crate) fn refuse(&mut self, ticket: &Ticket) {
        let writes = self.keys.get_mut(&ticket.key).expect("a ticket names a key of this record");
        writes.retain(|write| write.begin != ticket.begin);
    }

    /// What the record was when a snapshot of the disk was taken between two moments: a write acknowledged before
    /// the first counts as acknowledged, one begun after the second never happened, any other may be there or not.
    pub(crate) fn into_cut(mut self, before: Moment, after: Moment) -> Self {
        for writes in self.keys.values_mut() {
            writes.retain(|write| write.begin < after);
            for write in writes.iter_mut() {
                write.end = write.end.filter(|&end| end < before);
            }
        }
        self
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    pub(crate) fn acknowledged_count(&self) -> usize {
        self.keys.values().filter(|writes| writes.iter().any(|w| w.end.is_some() && w.begin > 0)).count()
    }

    /// The values that `key` may have now.
    pub(crate) fn allowed(&self, key: &str) -> Vec<Value> {
        let Some(writes) = self.keys.get(key) else { return vec![Value::Absent] };
        let followed = |write: &Write| {
            let after = |end: Moment| writes.iter().any(|other| other.end.is_some() && other.begin > end);
            write.end.is_some_and(after)
        };
        writes.iter().filter(|write| !followed(write)).map(|write| write.value).collect()
    }

    /// The values that a read of `key` may give that was sent at `sent` and is answered now: of any write that was not followed, by
    /// the time the read was sent, by one that was acknowledged.
    pub(crate) fn readable(&self, key: &str, sent: Moment) -> Vec<Value> {
        let Some(writes) = self.keys.get(key) else { return vec![Value::Absent] };
        let is_done = |other: &Write| other.end.is_some_and(|end| end < sent);
        let followed = |write: &Write| {
            let after = |end: Moment| writes.iter().any(|other| is_done(other) && other.begin > end);
            write.end.is_some_and(after)
        };
        writes.iter().filter(|write| !followed(write)).map(|write| write.value).collect()
    }

    /// The crash is over and `observed` was found: doubts about `key` are settled, and what was found must stay.
    pub(crate) fn settle(&mut self, key: &str, observed: Value) {
        let moment = self.tick();
        self.keys.insert(key.to_owned(), vec![Write { begin: moment, end: Some(moment), value: observed }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(byte: u8) -> Value {
        Value::Present { bytes: 1, sha256: [byte; 32] }
    }

    #[test]
    fn an_acknowledged_write_must_be_there() {
        // After an acknowledgement neither absence nor the value before it is allowed.
        let mut record = Record::default();
        for byte in [1, 2] {
            let ticket = record.begin("k", value(byte));
            record.acknowledge(&ticket);
        }
        assert_eq!(record.allowed("k"), [value(2)]);
        assert_eq!(record.allowed("other"), [Value::Absent]);
    }

    #[test]
    fn an_unacknowledged_write_may_be_there() {
        // Without an acknowledgement the value before it and its own are both allowed, and nothing else.
        let mut record = Record::default();
        let first = record.begin("k", value(1));
        assert_eq!(record.allowed("k"), [Value::Absent, value(1)]);
        record.acknowledge(&first);
        let _lost = record.begin("k", Value::Absent);
        assert_eq!(record.allowed("k"), [value(1), Value::Absent]);
    }

    #[test]
    fn of_overlapping_writes_either_may_win() {
        // Two acknowledged writes that overlapped may have been ordered either way; a later one ends the doubt.
        let mut record = Record::default();
        let (first, second) = (record.begin("k", value(1)), record.begin("k", value(2)));
        record.acknowledge(&second);
        record.acknowledge(&first);
        assert_eq!(record.allowed("k"), [value(1), value(2)]);
        let third = record.begin("k", value(3));
        record.acknowledge(&third);
        assert_eq!(record.allowed("k"), [value(3)]);
    }

    #[test]
    fn a_write_in_doubt_stays_in_doubt_past_later_ones() {
        // A request without a reply may still arrive after a later one was acknowledged.
        let mut record = Record::default();
        let _lost = record.begin("k", value(1));
        let later = record.begin("k", value(2));
        record.acknowledge(&later);
        assert_eq!(record.allowed("k"), [value(1), value(2)]);
    }

    #[test]
    fn a_refused_write_must_not_be_there() {
        // A clear refusal promises that nothing was done.
        let mut record = Record::default();
        let ticket = record.begin("k", value(1));
        record.refuse(&ticket);
        assert_eq!(record.allowed("k"), [Value::Absent]);
    }

    #[test]
    fn a_snapshot_holds_what_was_acknowledged_before_it() {
        // Acknowledged before the cut: there. Around it: either. Begun after it: not.
        let mut record = Record::default();
        let early = record.begin("early", value(1));
        record.acknowledge(&early);
        let around = record.begin("around", value(2));
        let before = record.tick();
        let during = record.begin("during", value(3));
        record.acknowledge(&around);
        let after = record.tick();
        record.acknowledge(&during);
        let late = record.begin("late", value(4));
        record.acknowledge(&late);
        let cut = record.into_cut(before, after);
        assert_eq!(cut.allowed("early"), [value(1)]);
        assert_eq!(cut.allowed("around"), [Value::Absent, value(2)]);
        assert_eq!(cut.allowed("during"), [Value::Absent, value(3)]);
        assert_eq!(cut.allowed("late"), [Value::Absent]);
    }

    #[test]
    fn a_snapshot_holds_what_was_replaced_after_it() {
        // A value that an acknowledged write replaced only after the cut is the one that must be there.
        let mut record = Record::default();
        let old = record.begin("k", value(1));
        record.acknowledge(&old);
        let (before, after) = (record.tick(), record.tick());
        let new = record.begin("k", value(2));
        record.acknowledge(&new);
        assert_eq!(record.clone().into_cut(before, after).allowed("k"), [value(1)]);
        assert_eq!(record.allowed("k"), [value(2)]);
    }

    #[test]
    fn what_was_found_after_a_crash_must_stay() {
        // A value in doubt that was found once is no longer in doubt.
        let mut record = Record::default();
        let _lost = record.begin("k", value(1));
        record.settle("k", value(1));
        assert_eq!(record.allowed("k"), [value(1)]);
    }

    #[test]
    fn a_read_gives_what_was_not_replaced_when_it_was_sent() {
        // Neither a value that was replaced before, nor absence after an acknowledgement; of a write that came beside it, either.
        let mut record = Record::default();
        for byte in [1, 2] {
            let ticket = record.begin("k", value(byte));
            record.acknowledge(&ticket);
        }
        let sent = record.tick();
        assert_eq!(record.readable("k", sent), [value(2)]);
        let beside = record.begin("k", Value::Absent);
        record.acknowledge(&beside);
        assert_eq!(record.readable("k", sent), [value(2), Value::Absent]);
        let sent = record.tick();
        assert_eq!(record.readable("k", sent), [Value::Absent]);
        let _in_doubt = record.begin("k", value(3));
        assert_eq!(record.readable("k", sent), [Value::Absent, value(3)]);
        assert_eq!(record.readable("other", sent), [Value::Absent]);
    }
}
