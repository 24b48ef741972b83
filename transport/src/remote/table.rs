//! The sessions of one endpoint: bounded, and each to be found by its principal only.

use super::{ConnectError, Principal, SessionId};
use std::{collections::HashMap, io, time::Duration};

/// How many sessions an endpoint has at most, and how much each may have in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Sessions of the endpoint.
    pub sessions_max: usize,
    /// Sessions of one principal on it.
    pub principal_sessions_max: usize,
    /// Credits of a session: slots, that is operations posted and not completed. At least 1.
    pub credits: usize,
    /// How long a session may go without an operation before it is ended ([`Endpoint::expire_idle`](super::Endpoint::expire_idle)).
    pub idle_max: Duration,
}

/// What a session takes by itself: its entry, its queue, what a backend keeps of it.
const SESSION_BYTES: u64 = 4 << 10;
/// What an operation takes: its slot, its place in the session's line, the pieces of its memory.
const OPERATION_BYTES: u64 = 512;

impl SessionLimits {
    /// For backends, when an endpoint is opened.
    ///
    /// # Errors
    /// `InvalidInput`: sessions without credits could move nothing.
    pub fn check(&self) -> io::Result<()> {
        match self.credits {
            0 => Err(io::Error::new(io::ErrorKind::InvalidInput, "a session needs a credit at least")),
            _ => Ok(()),
        }
    }

    /// What as many sessions as there may be take of memory at most, each with all its credits in use, and with `session_bytes` of the backend's own.
    pub fn bytes_max(&self, session_bytes: u64) -> u64 {
        let operations = (self.credits as u64).saturating_mul(OPERATION_BYTES);
        let session = SESSION_BYTES.saturating_add(operations).saturating_add(session_bytes);
        (self.sessions_max as u64).saturating_mul(session)
    }
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        let idle_max = Duration::from_secs(300);
        SessionLimits { sessions_max: 1024, principal_sessions_max: 64, credits: 64, idle_max }
    }
}

/// The sessions of one endpoint, for backends.
#[derive(Debug)]
pub struct SessionTable<S> {
    limits: SessionLimits,
    sessions: HashMap<SessionId, Entry<S>>,
    /// How many each principal has; no entry is 0.
    counts: HashMap<Principal, usize>,
}

#[derive(Debug)]
struct Entry<S> {
    owner: Principal,
    session: S,
    /// When it was first seen to be idle.
    idle_since: Option<Duration>,
}

impl<S> SessionTable<S> {
    /// No sessions.
    pub fn new(limits: SessionLimits) -> SessionTable<S> {
        SessionTable { limits, sessions: HashMap::new(), counts: HashMap::new() }
    }

    /// The limits it was made with.
    pub fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    /// Whether `principal` may have one more. To be asked before a session is set up at any cost.
    ///
    /// # Errors
    /// [`ConnectError::TooMany`] if not.
    pub fn admit(&self, principal: &Principal) -> Result<(), ConnectError> {
        let full = self.sessions.len() >= self.limits.sessions_max
            || self.count_of(principal) >= self.limits.principal_sessions_max;
        if full { Err(ConnectError::TooMany) } else { Ok(()) }
    }

    /// How many are a principal's.
    pub fn count_of(&self, principal: &Principal) -> usize {
        self.counts.get(principal).copied().unwrap_or(0)
    }

    /// Enters a session that was admitted.
    ///
    /// # Panics
    /// If there is one of that name: names are not guessed, so the entropy is broken.
    pub fn insert(&mut self, id: SessionId, principal: &Principal, session: S) {
        let entry = Entry { owner: principal.clone(), session, idle_since: None };
        let replaced = self.sessions.insert(id, entry);
        assert!(replaced.is_none(), "two sessions of one name");
        *self.counts.entry(principal.clone()).or_default() += 1;
    }

    /// The session, if there is one of that name and it is `principal`'s. Somebody else's is not there.
    pub fn find(&self, id: SessionId, principal: &Principal) -> Option<&S> {
        self.sessions.get(&id).filter(|entry| entry.owner == *principal).map(|entry| &entry.session)
    }

    /// Takes the session out, under the terms of [`find`](SessionTable::find).
    pub fn remove(&mut self, id: SessionId, principal: &Principal) -> Option<S> {
        self.find(id, principal)?;
        let Entry { session, .. } = self.sessions.remove(&id)?;
        if let Some(count) = self.counts.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                // Or principals that come and go would stay for ever.
                self.counts.remove(principal);
            }
        }
        Some(session)
    }

    /// Takes out the sessions of which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&S) -> bool) {
        let gone = self.sessions.iter().filter(|(_, entry)| !keep(&entry.session));
        let gone: Vec<_> = gone.map(|(id, entry)| (*id, entry.owner.clone())).collect();
        for (id, owner) in gone {
            self.remove(id, &owner);
        }
    }

    /// All sessions, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &S> {
        self.sessions.values().map(|entry| &entry.session)
    }

    /// The sessions that have been idle for longer than they may, and whose they are: to be ended as a disconnect does, which takes
    /// them out. `was_used` says of a session whether it has something in flight or was used since it was last asked; no
    /// operation has to know the time that way.
    pub fn expired(&mut self, now: Duration, was_used: impl Fn(&S) -> bool) -> Vec<(SessionId, Principal)> {
        let idle_max = self.limits.idle_max;
        let mut expired = Vec::new();
        for (id, entry) in &mut self.sessions {
            if was_used(&entry.session) {
                entry.idle_since = None;
            }
            let since = *entry.idle_since.get_or_insert(now);
            if now.saturating_sub(since) >= idle_max {
                expired.push((*id, entry.owner.clone()));
            }
        }
        expired
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Shows that limits hold after any inserts and removals, and that nobody finds or removes another's session.
        #[test]
        fn limits_hold(steps in prop::collection::vec((any::<bool>(), 0u8..4, 0u8..12), 0..200)) {
            let limits = SessionLimits { sessions_max: 6, principal_sessions_max: 3, credits: 1, ..SessionLimits::default() };
            let mut table = SessionTable::new(limits);
            let mut model: Vec<(u8, u8)> = Vec::new();
            let principal = |who: u8| Principal::new(&format!("principal-{who}"));
            for (insert, who, name) in steps {
                let id = SessionId::new(0, [name; 14]);
                if insert {
                    let own = model.iter().filter(|(owner, _)| *owner == who).count();
                    let admitted = table.admit(&principal(who)).is_ok();
                    prop_assert_eq!(admitted, own < 3 && model.len() < 6);
                    if admitted && model.iter().all(|(_, known)| *known != name) {
                        table.insert(id, &principal(who), name);
                        model.push((who, name));
                    }
                } else {
                    let place = model.iter().position(|known| *known == (who, name));
                    prop_assert_eq!(table.find(id, &principal(who)).is_some(), place.is_some());
                    prop_assert_eq!(table.remove(id, &principal(who)).is_some(), place.is_some());
                    place.map(|place| model.remove(place));
                }
                prop_assert_eq!(table.len(), model.len());
                let principals: std::collections::BTreeSet<u8> = model.iter().map(|(owner, _)| *owner).collect();
                prop_assert_eq!(table.counts.len(), principals.len());
            }
        }
    }
}
