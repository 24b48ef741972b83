//! The transports of a core: polled with its ring, and slept on together with it.
//!
//! Invariants
//! * A core without endpoints pays nothing for them.
//! * A core sleeps only when every endpoint said that it may, and their descriptors end the sleep of its ring.

use crossdock_transport::{remote::Endpoint, ring::Ring};
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
    all: RefCell<Vec<(&'static str, Rc<dyn Endpoint>)>>,
    /// Whether there is one that can not wake the core.
    blind: Cell<bool>,
}

impl Endpoints {
    pub(super) fn attach(&self, name: &'static str, endpoint: Rc<dyn Endpoint>, ring: &Ring) {
        let watched =
            endpoint.descriptor().map_or(Ok(()), |descriptor| ring.watch(descriptor.try_clone_to_owned()?));
        if let Err(error) = watched {
            tracing::warn!(transport = name, %error, "a transport is polled by time");
            self.blind.set(true);
        }
        self.all.borrow_mut().push((name, endpoint));
    }

    pub(super) fn find(&self, name: &str) -> Option<Rc<dyn Endpoint>> {
        let all = self.all.borrow();
        all.iter().find(|(known, _)| *known == name).map(|(_, endpoint)| Rc::clone(endpoint))
    }

    pub(super) fn list(&self) -> Vec<(&'static str, Rc<dyn Endpoint>)> {
        self.all.borrow().clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Polls all of them. Returns how many operations they completed.
    pub(super) fn turn(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.list().iter().map(|(_, endpoint)| endpoint.poll()).sum()
    }

    /// How long the core may sleep if it would for `limit`: not at all if one of them has something to do.
    pub(super) fn sleep_limit(&self, limit: Option<Duration>) -> Option<Duration> {
        // Asked all, since each gets ready to wake the core.
        let idle = self.list().iter().filter(|(_, endpoint)| !endpoint.begin_wait()).count() == 0;
        match (idle, self.blind.get()) {
            (false, _) => Some(Duration::ZERO),
            (true, false) => limit,
            (true, true) => Some(limit.map_or(BLIND_SLEEP, |limit| limit.min(BLIND_SLEEP))),
        }
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.all.borrow().iter().map(|(name, _)| name)).finish()
    }
}
