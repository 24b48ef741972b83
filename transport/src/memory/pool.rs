//! The free lists of one core, and the line of those who wait for memory.

use super::{
    LEASE_BYTES_MAX,
    arena::PoolShared,
    lease::BufferLease,
    superpage::{Class, Superpages},
};
use crate::waiting::{Line, Ticket};
use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// One core's part of the arena. Cheap to clone; stays on its thread. May be dropped before its leases.
#[derive(Clone)]
pub struct Pool(Rc<Inner>);

struct Inner {
    shared: Arc<PoolShared>,
    state: RefCell<State>,
    /// Whoever keeps leases that it can do without.
    hoard: RefCell<Option<Rc<dyn Fn() -> bool>>>,
}

struct State {
    superpages: Superpages,
    leased_bytes: usize,
    leases: usize,
    line: Line<usize, BufferLease>,
}

impl Pool {
    pub(super) fn new(shared: Arc<PoolShared>, superpages: Superpages) -> Self {
        let state = State { superpages, leased_bytes: 0, leases: 0, line: Line::new() };
        Self(Rc::new(Inner { shared, state: RefCell::new(state), hoard: RefCell::default() }))
    }

    /// A lease of at least `bytes`, from the smallest class that fits and has room. Empty, with undefined contents
    /// (what the last holder left). None when there is no room, or when others wait: nobody overtakes them.
    ///
    /// # Panics
    /// If `bytes` is more than 4 MiB ([`LEASE_BYTES_MAX`](super::LEASE_BYTES_MAX)).
    pub fn try_acquire(&self, bytes: usize) -> Option<BufferLease> {
        loop {
            if let Some(lease) = self.lease_of_free(bytes)? {
                return Some(lease);
            }
            // Not borrowed while it runs: it drops leases, and they may be anybody's.
            let hoard = self.0.hoard.borrow().clone();
            if !hoard.is_some_and(|give_back| give_back()) {
                return None;
            }
        }
    }

    /// A lease of memory that nobody holds. The outer none says that others wait.
    fn lease_of_free(&self, bytes: usize) -> Option<Option<BufferLease>> {
        let mut state = self.0.state.borrow_mut();
        if !state.line.is_empty() {
            return None;
        }
        let lease = state.lease(&self.0.shared, bytes);
        // What is on its way back counts as room.
        if lease.is_none() && state.take_returns(&self.0.shared) > 0 {
            return Some(state.lease(&self.0.shared, bytes));
        }
        Some(lease)
    }

    /// Sets who keeps leases that it can do without, as a cache does: memory that it holds counts as free. It is called when there is
    /// no room, drops one or several of them, and says whether it did; it is called again until there is room, or until it has
    /// none left. It must not take a lease for keeps while somebody waits ([`Pool::waiters`]), or they would wait for what it
    /// keeps.
    pub fn on_shortage(&self, give_back: Rc<dyn Fn() -> bool>) {
        *self.0.hoard.borrow_mut() = Some(give_back);
    }

    /// Waits for a lease as [`try_acquire`](Pool::try_acquire) gives it, first come first served in the order of the
    /// first poll. Served by [`drain_returns`](Pool::drain_returns).
    ///
    /// # Panics
    /// If `bytes` is more than 4 MiB.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in the line; a lease that was already granted goes back.
    pub fn acquire(&self, bytes: usize) -> Acquire {
        assert!(bytes <= LEASE_BYTES_MAX, "a lease is at most 4 MiB");
        Acquire { pool: self.clone(), bytes, ticket: None }
    }

    /// Takes back what holders on any thread dropped, and serves waiters. Called once per loop by the owner, and after
    /// every wake-up. Returns how many leases came back.
    pub fn drain_returns(&self) -> usize {
        let shared = &self.0.shared;
        let count = self.0.state.borrow_mut().take_returns(shared);
        loop {
            // One at a time: waking may run code that comes back here, so nothing is borrowed while it does.
            let waker = match self.0.state.borrow_mut().serve_head(shared) {
                Served::Granted(Some(waker)) => waker,
                Served::Granted(None) => continue,
                Served::Nothing => return count,
            };
            waker.wake();
        }
    }

    /// Bytes of the arena this pool owns.
    pub fn total_bytes(&self) -> usize {
        self.0.state.borrow().superpages.total_bytes()
    }

    /// Bytes leased, by capacity. Leases that were dropped count until [`drain_returns`](Pool::drain_returns).
    pub fn leased_bytes(&self) -> usize {
        self.0.state.borrow().leased_bytes
    }

    /// Leases out. Leases that were dropped count until [`drain_returns`](Pool::drain_returns).
    pub fn leases(&self) -> usize {
        self.0.state.borrow().leases
    }

    /// Futures of [`acquire`](Pool::acquire) in the line.
    pub fn waiters(&self) -> usize {
        self.0.state.borrow().line.len()
    }

    /// Sets what is called, from whatever thread dropped it, when a lease comes back while somebody waits. It must not
    /// block or panic, and makes the owner call [`drain_returns`](Pool::drain_returns) soon; one call may stand for
    /// several leases. Costs nothing while nobody waits.
    ///
    /// # Panics
    /// If it was set before.
    pub fn on_return(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.0.shared.set_wake(wake);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.borrow();
        formatter
            .debug_struct("Pool")
            .field("total_bytes", &state.superpages.total_bytes())
            .field("leased_bytes", &state.leased_bytes)
            .field("leases", &state.leases)
            .field("waiters", &state.line.len())
            .finish()
    }
}

enum Served {
    Granted(Option<Waker>),
    Nothing,
}

impl State {
    fn lease(&mut self, shared: &Arc<PoolShared>, bytes: usize) -> Option<BufferLease> {
        let (granule, class) = self.superpages.take(Class::of(bytes))?;
        shared.header(granule).acquire();
        self.leases += 1;
        self.leased_bytes += class.bytes();
        Some(BufferLease::new(Arc::clone(shared), granule, class.bytes()))
    }

    fn take_returns(&mut self, shared: &PoolShared) -> usize {
        let State { superpages, leased_bytes, leases, line } = self;
        let take_back = |granule| {
            let class = superpages.give_back(granule);
            *leases -= 1;
            *leased_bytes -= class.bytes();
        };
        if line.is_empty() {
            return shared.returns().drain(shared.headers(), take_back);
        }
        // Armed before the drain, each time: a push between the last drain and now may have used up the wake-up.
        shared.returns().arm();
        shared.returns().drain_all(shared.headers(), take_back)
    }

    fn serve_head(&mut self, shared: &Arc<PoolShared>) -> Served {
        let Some(&bytes) = self.line.head() else { return Served::Nothing };
        let Some(lease) = self.lease(shared, bytes) else { return Served::Nothing };
        let waker = self.line.grant(lease);
        if self.line.is_empty() {
            shared.returns().disarm();
        }
        Served::Granted(waker)
    }
}

/// Future of [`Pool::acquire`]. Dropping it leaves the line.
pub struct Acquire {
    pool: Pool,
    bytes: usize,
    ticket: Option<Rc<Ticket<usize, BufferLease>>>,
}

impl Future for Acquire {
    type Output = BufferLease;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<BufferLease> {
        if let Some(ticket) = &self.ticket {
            let granted = ticket.poll(context);
            if granted.is_ready() {
                self.ticket = None;
            }
            return granted;
        }
        if let Some(lease) = self.pool.try_acquire(self.bytes) {
            return Poll::Ready(lease);
        }
        let ticket = {
            let mut state = self.pool.0.state.borrow_mut();
            let ticket = state.line.join(self.bytes);
            // Arms the wake-up, and sees what came back before it was armed.
            state.take_returns(&self.pool.0.shared);
            ticket
        };
        let waiting = ticket.poll(context);
        debug_assert!(waiting.is_pending());
        self.ticket = Some(ticket);
        // Serves the line if something did come back; this ticket may be the one.
        self.pool.drain_returns();
        self.poll(context)
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let left = self.pool.0.state.borrow_mut().line.leave(&ticket);
        drop(ticket.unclaimed());
        if left {
            // Those behind may want less than this one did.
            self.pool.drain_returns();
        }
    }
}
