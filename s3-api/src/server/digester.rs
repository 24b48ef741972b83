//! Where the bodies of a core's requests are digested, side by side when there are several.
//!
//! ```text
//!   body 0 ─ filled lease ─┐
//!   body 1 ─ filled lease ─┼─► waiting ─► a step of at most 64 KiB of each ─► the others' turn ─► the next step …
//!   body 2   (receiving)   ┘
//! ```
//!
//! Hashing eight bodies together costs hardly more than one of them alone (see [`crate::protocol::md5`]), so that a body
//! with a filled lease waits for those that are still receiving theirs, until all that may be expected are there or as many
//! as fit. Its sender does not notice: what it sends meanwhile waits in the socket. Who fills a lease slowly waits longer
//! than who is fast, and nobody is waited for who takes much longer than for the lease before.
//!
//! Invariants:
//! * A core's bodies meet on that core alone.
//! * A body that is alone waits for nobody, and no step keeps the core from its other tasks for long.
//! * The lease and the verifier belong to the work in hand, and come back with it; a body that goes away meanwhile leaves
//!   nothing behind but a step's work.

use super::wire::{within, yield_now};
use crate::protocol::{body::BodyVerifier, md5::lanes_max};
use crossdock::reactor::{Core, Moment};
use crossdock_transport::memory::BufferLease;
use slab::Slab;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

/// Payload of each body that is digested before other tasks get their turn: 100 µs of MD5 for one, not much more for as
/// many as fit.
const STEP_BYTES: usize = 64 * 1024;
/// The same where other digests are computed too, which cost for each body what they cost alone.
const STEP_BYTES_WITH_OTHERS: usize = 16 * 1024;
/// What MD5 takes for a body that is alone.
const NANOSECONDS_PER_KIB: u64 = 1536;
/// The longest a body waits for others. Within it lies, for each KiB, thrice what hashing it alone would take, and four times
/// what it took to come: with a wait of once, eight clients on the two cores they shared with the server filled three lanes of
/// the seven that met on one of them.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// What the first lease of a body is expected to take.
const FIRST: Duration = Duration::from_millis(4);

/// The bodies of one core.
pub(crate) struct Digester {
    core: Core,
    /// Those bodies that are better digested together, by number.
    members: RefCell<Slab<Seen>>,
    work: RefCell<Work>,
}

/// What is known of a body.
#[derive(Clone, Copy)]
struct Seen {
    /// Since when it does what it does.
    since: Moment,
    /// Whether that is waiting to be digested, or receiving.
    waits: bool,
    /// How long receiving took the last time.
    took: Duration,
}

impl Seen {
    /// Until when it may be expected to have received.
    fn expected(&self) -> Moment {
        self.since.after((2 * self.took).clamp(FIRST, 2 * WAIT_MAX))
    }
}

#[derive(Default)]
struct Work {
    waiting: Vec<Job>,
    /// Whether a task looks after them.
    running: bool,
    /// Whether a body came or went since that task looked.
    news: bool,
    /// Wakes it when it waits for that.
    gathering: Option<Waker>,
}

struct Job {
    verifier: BodyVerifier,
    lease: BufferLease,
    /// How much of it is digested.
    at: usize,
    /// Until when it waits for others.
    until: Moment,
    member: usize,
    done: Rc<Done>,
}

#[derive(Default)]
struct Done {
    result: Cell<Option<(BodyVerifier, BufferLease)>>,
    waiter: Cell<Option<Waker>>,
}

/// A body among those that are digested here.
pub(super) struct Member {
    digester: Rc<Digester>,
    /// None: it gains nothing by the others, or has left.
    number: Option<usize>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Digester {
    pub(crate) fn new(core: Core) -> Rc<Digester> {
        Rc::new(Digester { core, members: RefCell::default(), work: RefCell::default() })
    }

    /// A body is to be received and digested by `verifier`.
    pub(super) fn join(self: &Rc<Self>, verifier: &BodyVerifier) -> Member {
        let seen = || Seen { since: self.core.now(), waits: false, took: FIRST };
        let number = verifier.is_better_together().then(|| self.members.borrow_mut().insert(seen()));
        Member { digester: self.clone(), number }
    }

    fn submit(self: &Rc<Self>, member: usize, verifier: BodyVerifier, lease: BufferLease) -> Rc<Done> {
        let done = Rc::new(Done::default());
        let now = self.core.now();
        let took = self.members.borrow_mut().get_mut(member).map_or(FIRST, |seen| {
            let took = now.since(seen.since);
            *seen = Seen { since: now, waits: true, took };
            took
        });
        // What is done in a step meets whoever is there and waits for nobody: a timer would cost more than it brings.
        let until = if lease.len() <= STEP_BYTES {
            now
        } else {
            let alone = Duration::from_nanos(lease.len() as u64 / 1024 * NANOSECONDS_PER_KIB);
            now.after((4 * took).max(3 * alone).min(WAIT_MAX))
        };
        let mut work = self.work.borrow_mut();
        work.waiting.push(Job { verifier, lease, at: 0, until, member, done: done.clone() });
        if !std::mem::replace(&mut work.running, true) {
            self.core.spawn(self.clone().run()).detach();
        }
        work.wake();
        done
    }

    async fn run(self: Rc<Self>) {
        loop {
            // Whoever became ready in the same turn comes along for nothing.
            yield_now().await;
            self.gather().await;
            let mut work = self.work.borrow_mut();
            for job in work.step() {
                self.note_digested(job.member);
                job.done.result.set(Some((job.verifier, job.lease)));
                if let Some(waiter) = job.done.waiter.take() {
                    waiter.wake();
                }
            }
            if work.waiting.is_empty() {
                work.running = false;
                return;
            }
        }
    }

    /// A member, if it has not left, receives again.
    fn note_digested(&self, member: usize) {
        if let Some(seen) = self.members.borrow_mut().get_mut(member) {
            (seen.since, seen.waits) = (self.core.now(), false);
        }
    }

    /// Waits until it is no use, or no longer fair, to wait for more bodies.
    async fn gather(&self) {
        while let Some(until) = self.worth_waiting_until() {
            let news = poll_fn(|cx| {
                let mut work = self.work.borrow_mut();
                if std::mem::take(&mut work.news) {
                    return Poll::Ready(());
                }
                work.gathering = Some(cx.waker().clone());
                Poll::Pending
            });
            // When the time is over nothing is worth waiting for any more.
            let _ = within(&self.core, until.since(self.core.now()), news).await;
        }
    }

    /// None: what waits is to be digested now.
    fn worth_waiting_until(&self) -> Option<Moment> {
        let mut work = self.work.borrow_mut();
        work.news = false;
        let lanes = lanes_max();
        if work.waiting.len() >= lanes {
            return None;
        }
        let now = self.core.now();
        let fair = work.waiting.iter().map(|job| job.until).min().filter(|until| *until > now)?;
        let members = self.members.borrow();
        let receiving = members.iter().filter(|(_, seen)| !seen.waits).map(|(_, seen)| seen.expected());
        // The last of them that may still come in time.
        receiving.filter(|expected| *expected > now).max().map(|expected| expected.min(fair))
    }
}

impl Work {
    fn wake(&mut self) {
        self.news = true;
        if let Some(waker) = self.gathering.take() {
            waker.wake();
        }
    }

    /// Digests the next piece of as many bodies as fit side by side; gives those that are done.
    fn step(&mut self) -> Vec<Job> {
        self.waiting.retain(|job| Rc::strong_count(&job.done) > 1);
        let count = self.waiting.len().min(lanes_max().max(1));
        let jobs = self.waiting.get_mut(..count).unwrap_or_default();
        let with_others = jobs.iter().any(|job| job.verifier.is_computing_others());
        let step = if with_others { STEP_BYTES_WITH_OTHERS } else { STEP_BYTES };
        BodyVerifier::update_many(jobs.iter_mut().map(|job| {
            let end = job.lease.len().min(job.at + step);
            let piece = job.lease.as_slice().get(job.at..end).unwrap_or_default();
            job.at = end;
            (&mut job.verifier, piece)
        }));
        self.waiting.extract_if(..count, |job| job.at == job.lease.len()).collect()
    }
}

impl Member {
    /// Takes the lease's bytes into the verifier, which both come back.
    ///
    /// # Cancellation
    /// Dropping the future drops both.
    pub(super) async fn digest(
        &self,
        mut verifier: BodyVerifier,
        lease: BufferLease,
    ) -> (BodyVerifier, BufferLease) {
        let others = || self.digester.members.borrow().len() > 1;
        let Some(number) = self.number.filter(|_| others() && !lease.is_empty()) else {
            for (index, piece) in lease.as_slice().chunks(STEP_BYTES).enumerate() {
                if index > 0 && verifier.is_computing() {
                    yield_now().await;
                }
                verifier.update(piece);
            }
            return (verifier, lease);
        };
        let done = self.digester.submit(number, verifier, lease);
        poll_fn(|cx| match done.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                done.waiter.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }

    /// Nothing more comes of this body: nobody waits for it any more.
    pub(super) fn leave(&mut self) {
        if let Some(number) = self.number.take() {
            self.digester.members.borrow_mut().remove(number);
            self.digester.work.borrow_mut().wake();
        }
    }
}
