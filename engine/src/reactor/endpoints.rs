//! The transports of a core: polled with its ring, and slept on together with it.
//!
//! Invariants
//! * A core without endpoints pays nothing for them.
//! * A core sleeps only when every endpoint said that it may, and their descriptors end the sleep of its ring.

use crossdock_transport::{
    remote::Endpoint,
    ring::{Ring, Watch},
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

/// How long a core sleeps when there is no waiting for all of them: transports are late by that then.
const BLIND_SLEEP: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(super) struct Endpoints {
    /// In the order of their transports.
    all: RefCell<Vec<Attached>>,
    /// Whether there is one that can not wake the core.
    blind: Cell<bool>,
}

#[derive(Clone)]
struct Attached {
    name: &'static str,
    endpoint: Rc<dyn Endpoint>,
    /// What the ring watches of it, if it does.
    watch: Option<Watch>,
}

impl Endpoints {
    pub(super) fn attach(&self, name: &'static str, endpoint: Rc<dyn Endpoint>, ring: &Ring) {
        let watched = endpoint.descriptor().map(|descriptor| ring.watch(descriptor.try_clone_to_owned()?));
        let watch = watched.transpose().unwrap_or_else(|error| {
            tracing::warn!(transport = name, %error, "a transport is polled by time");
            self.blind.set(true);
            None
        });
        self.all.borrow_mut().push(Attached { name, endpoint, watch });
    }

    pub(super) fn find(&self, name: &str) -> Option<Rc<dyn Endpoint>> {
        let all = self.all.borrow();
        all.iter().find(|known| known.name == name).map(|known| Rc::clone(&known.endpoint))
    }

    pub(super) fn list(&self) -> Vec<(&'static str, Rc<dyn Endpoint>)> {
        self.all.borrow().iter().map(|known| (known.name, Rc::clone(&known.endpoint))).collect()
    }

    /// All of them, one after the other: none is borrowed while it is at work, since it may wake whoever attaches another.
    fn each(&self) -> impl Iterator<Item = Attached> {
        (0..).map_while(|place| self.all.borrow().get(place).cloned())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Polls all of them; those of which `ring`, which was just turned or parked, knows that nothing came for them need not look for it.
    /// Returns how many operations they completed.
    pub(super) fn turn(&self, ring: &Ring) -> usize {
        let poll = |known: Attached| match known.watch.is_some_and(|watch| ring.is_quiet(watch)) {
            true => known.endpoint.poll_quiet(),
            false => known.endpoint.poll(),
        };
        self.each().map(poll).sum()
    }

    /// How long the core may sleep if it would for `limit`: not at all if one of them has something to do.
    pub(super) fn sleep_limit(&self, limit: Option<Duration>) -> Option<Duration> {
        // Asked all, since each gets ready to wake the core.
        let idle = self.each().filter(|known| !known.endpoint.begin_wait()).count() == 0;
        match (idle, self.blind.get()) {
            (false, _) => Some(Duration::ZERO),
            (true, false) => limit,
            (true, true) => Some(limit.map_or(BLIND_SLEEP, |limit| limit.min(BLIND_SLEEP))),
        }
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.all.borrow().iter().map(|known| known.name)).finish()
    }
}
