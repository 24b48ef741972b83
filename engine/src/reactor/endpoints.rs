//! The transports of a core: polled with its ring, and slept on together with it.
//!
//! Invariants
//! * A core without endpoints pays nothing for them: it sleeps in its ring, as if there were none.
//! * A core sleeps only when every endpoint and the ring said, in this order, that it may. An endpoint that is asked may complete
//!   something, which wakes a task that posts to the ring, so the ring is asked last; it does not post to endpoints.

use crossdock_transport::{remote::Endpoint, ring::Ring};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt, io,
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

/// How long a core sleeps in its ring when there is no sleeping on both: transports are late by that then.
const BLIND_SLEEP: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(super) struct Endpoints {
    /// In the order of their transports.
    all: RefCell<Vec<(&'static str, Rc<dyn Endpoint>)>>,
    /// The ring's, made when first needed. None if it cannot be had.
    ring: OnceCell<Option<OwnedFd>>,
    sleeps: Cell<u64>,
}

impl Endpoints {
    pub(super) fn attach(&self, name: &'static str, endpoint: Rc<dyn Endpoint>) {
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

    /// System calls made to sleep.
    pub(super) fn sleeps(&self) -> u64 {
        self.sleeps.get()
    }

    /// Polls all of them. Returns how many operations they completed.
    pub(super) fn turn(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.list().iter().map(|(_, endpoint)| endpoint.poll()).sum()
    }

    /// Sleeps until there is something to do for one of them or for the ring, or the limit. Does not turn them.
    pub(super) fn sleep(&self, ring: &Ring, limit: Option<Duration>) {
        let endpoints = self.list();
        if !endpoints.iter().all(|(_, endpoint)| endpoint.begin_wait()) {
            return;
        }
        let Some(descriptor) = self.ring_descriptor(ring) else {
            ring.park(Some(limit.map_or(BLIND_SLEEP, |limit| limit.min(BLIND_SLEEP))));
            return;
        };
        if !ring.begin_wait() {
            return;
        }
        let mut descriptors = vec![PollFd::new(descriptor, PollFlags::IN)];
        for (_, endpoint) in &endpoints {
            if let Some(descriptor) = endpoint.descriptor() {
                descriptors.push(PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
            }
        }
        self.sleeps.set(self.sleeps.get() + 1);
        // A limit too long for the kernel is as good as none.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        if let Err(error) = poll(&mut descriptors, limit.as_ref())
            && error != rustix::io::Errno::INTR
        {
            tracing::error!(%error, "a core could not sleep");
        }
    }

    fn ring_descriptor(&self, ring: &Ring) -> Option<&OwnedFd> {
        let descriptor = self.ring.get_or_init(|| {
            let made: io::Result<OwnedFd> = ring.descriptor();
            made.inspect_err(|error| tracing::warn!(%error, "transports will be polled by time")).ok()
        });
        descriptor.as_ref()
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.all.borrow().iter().map(|(name, _)| name)).finish()
    }
}
