//! Signatures that moved bytes: each does so once.
//!
//! What must be remembered is bounded by two things. A signature is good for a quarter of an hour around its date, and for one
//! session, whose name never comes again: with the session goes all that was remembered of it. Within a session the newest
//! [`SESSION_MAX`] are remembered, by the second they were signed in:
//!
//! ```text
//!     forgotten: all declined          remembered: declined if it is among them
//!   ───────────────────────────┤ 17:03:58 {…} │ 17:03:59 {…} │ 17:04:00 {…} ├──► date of the signature
//!                        forgotten up to here                       newest
//! ```
//!
//! Where there are more, the oldest second is forgotten, and what was signed by then is declined from then on, seen or not. So
//! nothing is ever served twice, and memory is bounded, without a bound on how many requests come: a session with ten thousand a
//! second declines those that took longer than six seconds to arrive, and those go on over HTTP. Who signs with a clock
//! ahead of the others, or floods, does so to its own session.
//!
//! Eight bytes of each signature are kept. One that has the same eight as another is taken for it, and declined; one that was
//! used is never taken for new.

use crate::protocol::auth::{SKEW_SECONDS_MAX, Signed};
use crossdock_transport::remote::SessionId;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Signatures that are remembered of one session: about a megabyte.
const SESSION_MAX: usize = 64 * 1024;
/// Signatures that a core remembers, of all its sessions: about 9 MiB. Beyond, the session that has the most forgets half.
const CORE_MAX: usize = 512 * 1024;

/// The signatures of one core. All requests that name a session come to its core, the same one sent twice above all.
#[derive(Default)]
pub(super) struct UsedSignatures {
    sessions: HashMap<SessionId, Session>,
    /// How many are remembered, in all.
    count: usize,
}

struct Session {
    /// Whether it is still there. Once it is not, what was remembered of it goes: nothing moves for its name any more.
    is_there: Box<dyn Fn() -> bool>,
    seconds: BTreeMap<u64, HashSet<u64>>,
    count: usize,
    /// What was signed in this second or before is declined.
    forgotten: u64,
}

/// What is known of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It was not used before, and is from now on.
    First,
    /// It was used.
    Again,
    /// It is older than what is remembered: nobody knows.
    TooOld,
}

impl UsedSignatures {
    /// Takes note that a request which is signed so is to move bytes of the session. `is_there` says whether there still is that
    /// session.
    pub(super) fn take(
        &mut self,
        session: SessionId,
        is_there: impl Fn() -> bool + 'static,
        signed: &Signed,
        now_seconds: u64,
    ) -> Use {
        if !self.sessions.contains_key(&session) {
            self.drop_ended();
            let is_there = Box::new(is_there);
            let new = Session { is_there, seconds: BTreeMap::new(), count: 0, forgotten: 0 };
            self.sessions.insert(session, new);
        }
        if self.count >= CORE_MAX
            && let Some(largest) = self.sessions.values_mut().max_by_key(|session| session.count)
        {
            self.count -= largest.forget(largest.count / 2);
        }
        let Some(session) = self.sessions.get_mut(&session) else { return Use::TooOld };
        let before = session.count;
        let taken = session.take(signed, now_seconds);
        self.count = self.count + session.count - before;
        taken
    }

    fn drop_ended(&mut self) {
        self.sessions.retain(|_, session| (session.is_there)());
        self.count = self.sessions.values().map(|session| session.count).sum();
    }
}

impl Session {
    fn take(&mut self, signed: &Signed, now_seconds: u64) -> Use {
        // No longer good by themselves.
        self.forget_before(now_seconds.saturating_sub(SKEW_SECONDS_MAX));
        if signed.at_seconds <= self.forgotten {
            return Use::TooOld;
        }
        if self.count >= SESSION_MAX {
            self.forget(SESSION_MAX / 16);
            if signed.at_seconds <= self.forgotten {
                return Use::TooOld;
            }
        }
        match self.seconds.entry(signed.at_seconds).or_default().insert(signed.signature.prefix()) {
            true => {
                self.count += 1;
                Use::First
            }
            false => Use::Again,
        }
    }

    fn forget_before(&mut self, seconds: u64) {
        while self.seconds.first_key_value().is_some_and(|(first, _)| *first < seconds) {
            self.forget(1);
        }
    }

    /// Forgets whole seconds, the oldest first, until so many signatures are forgotten. How many were.
    fn forget(&mut self, wanted: usize) -> usize {
        let mut done = 0;
        while done < wanted {
            let Some((second, signatures)) = self.seconds.pop_first() else { break };
            self.forgotten = self.forgotten.max(second);
            done += signatures.len();
        }
        self.count -= done;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::auth::{Signature, SignaturePlace};
    use std::{cell::Cell, rc::Rc};

    fn always() -> bool {
        true
    }

    fn name(number: u8) -> SessionId {
        SessionId::new(0, [number; 14])
    }

    fn signed(number: u64, at_seconds: u64) -> Signed {
        let signature = Signature::parse(format!("{number:016x}{number:048x}").as_bytes()).unwrap();
        Signed { signature, place: SignaturePlace::Header, at_seconds, covers_payload: true }
    }

    #[test]
    fn a_signature_is_good_once() {
        // Shows that a second use is told from a first, for as long as the signature is good at all, and of each session apart.
        let mut used = UsedSignatures::default();
        let now = 100_000;
        assert_eq!(used.take(name(1), always, &signed(1, now), now), Use::First);
        assert_eq!(used.take(name(1), always, &signed(2, now), now), Use::First);
        for later in [0, 1, SKEW_SECONDS_MAX] {
            assert_eq!(used.take(name(1), always, &signed(1, now), now + later), Use::Again);
        }
        assert_eq!(used.take(name(2), always, &signed(1, now), now), Use::First, "another session's");
        // A signature from the future is good until a quarter of an hour behind that.
        let ahead = now + SKEW_SECONDS_MAX;
        assert_eq!(used.take(name(1), always, &signed(3, ahead), now), Use::First);
        let last = ahead + SKEW_SECONDS_MAX;
        assert_eq!(used.take(name(1), always, &signed(3, ahead), last), Use::Again);
        assert_eq!(used.count, 2, "what is no longer good is not kept");
    }

    #[test]
    fn what_is_forgotten_is_declined() {
        // Shows that a session takes any number of requests, and that none of those it can not remember is taken twice.
        let mut used = UsedSignatures::default();
        let per_second = SESSION_MAX as u64 / 3;
        let number = |second: u64, index: u64| second * per_second + index;
        for second in 1..=30 {
            for index in 0..per_second {
                let now = 5_000 + second;
                assert_eq!(used.take(name(1), always, &signed(number(second, index), now), now), Use::First);
            }
            assert!(used.count <= SESSION_MAX);
        }
        for second in 1..=30 {
            for index in [0, per_second / 2, per_second - 1] {
                let again = used.take(name(1), always, &signed(number(second, index), 5_000 + second), 5_030);
                assert_ne!(again, Use::First, "second {second}");
            }
        }
        // One that comes late is declined, one of now is not.
        assert_eq!(used.take(name(1), always, &signed(u64::MAX, 5_020), 5_030), Use::TooOld);
        assert_eq!(used.take(name(1), always, &signed(u64::MAX, 5_030), 5_030), Use::First);
    }

    #[test]
    fn a_flood_is_its_own_sessions() {
        // Shows that a core's memory is bounded whatever its sessions do, that the one with the most pays, and that what was
        // remembered of a session goes with it.
        let mut used = UsedSignatures::default();
        let now = 7_000;
        let there = Rc::new(Cell::new(true));
        let is_there = {
            let there = there.clone();
            move || there.get()
        };
        assert_eq!(used.take(name(0), is_there, &signed(1, now), now), Use::First);
        for session in 1..=10 {
            for index in 0..SESSION_MAX as u64 {
                used.take(name(session), always, &signed(index, now + index / 1000), now);
            }
            assert!(used.count <= CORE_MAX);
        }
        assert_eq!(used.take(name(0), always, &signed(1, now), now), Use::Again);
        assert_eq!(used.take(name(0), always, &signed(2, now), now), Use::First);
        there.set(false);
        used.take(name(99), always, &signed(1, now), now);
        assert!(!used.sessions.contains_key(&name(0)));
        assert_eq!(used.count, used.sessions.values().map(|session| session.count).sum::<usize>());
    }
}
