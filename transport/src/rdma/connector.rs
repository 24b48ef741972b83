//! Connects queue pairs on threads of its own: the kernel looks for the peer's hardware address meanwhile, which takes up to a second
//! if nobody has it, and a core has other things to do.
//!
//! Threads are made when there is something to connect, and end when there is nothing. A queue pair belongs to the connector
//! from [`connect`](Connector::connect) until `done` gets it back; nothing of it is in the device, since nothing was posted.
//!
//! Principals take turns, and none has more than its share of the threads: one that connects to peers which nobody finds waits
//! for itself.

use super::{
    error::RdmaError,
    verbs::{Path, QueuePair},
};
use crate::remote::Principal;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Threads at most. They wait for the kernel, so they cost no processor.
const THREADS_MAX: usize = 16;

/// Threads that connect for one principal at most.
const SHARE: usize = THREADS_MAX / 2;

/// Connects queue pairs. Cheap to clone; any thread.
#[derive(Clone, Default)]
pub(super) struct Connector(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: Turns<Job>,
    threads: usize,
}

struct Job {
    pair: QueuePair,
    path: Path,
    done: Done,
}

/// Gets the queue pair back, and what came of it. On another thread.
pub(super) type Done = Box<dyn FnOnce(QueuePair, Result<(), RdmaError>) + Send>;

impl Connector {
    /// Connects the queue pair to the other end of the path, in its principal's turn. Does not wait.
    ///
    /// # Errors
    /// There is no thread to be had: the queue pair is gone, and `done` with it.
    pub(super) fn connect(
        &self,
        principal: &Principal,
        pair: QueuePair,
        path: Path,
        done: Done,
    ) -> io::Result<()> {
        let job = Job { pair, path, done };
        let mut state = self.lock();
        if state.threads < THREADS_MAX {
            let own = self.clone();
            // It waits for the lock, and then finds the job.
            match thread::Builder::new().name("rdma-connect".to_owned()).spawn(move || own.work()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    drop(state);
                    drop(job);
                    return Err(error);
                }
                // Those there are get to it.
                Err(error) => tracing::debug!(%error, "one thread less connects queue pairs"),
            }
        }
        state.waiting.push(principal, job);
        Ok(())
    }

    fn work(&self) {
        let mut state = self.lock();
        // Whoever has its share by now is served by the threads that it has: each comes back here.
        while let Some((principal, job)) = state.waiting.take() {
            drop(state);
            let Job { pair, path, done } = job;
            let result = pair.connect(&path, false);
            done(pair, result);
            state = self.lock();
            state.waiting.done(&principal);
        }
        state.threads -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics is done with it locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be done, in which principals take turns.
struct Turns<J> {
    /// Whoever had a turn goes to the back. One that has nothing waiting and nothing in work is not here.
    lines: VecDeque<Line<J>>,
}

struct Line<J> {
    principal: Principal,
    /// First come, first served.
    waiting: VecDeque<J>,
    working: usize,
}

impl<J> Default for Turns<J> {
    fn default() -> Self {
        Turns { lines: VecDeque::new() }
    }
}

impl<J> Turns<J> {
    fn line(&mut self, principal: &Principal) -> Option<usize> {
        self.lines.iter().position(|line| line.principal == *principal)
    }

    fn push(&mut self, principal: &Principal, job: J) {
        match self.line(principal) {
            Some(place) => self.lines[place].waiting.push_back(job),
            None => {
                let waiting = VecDeque::from([job]);
                self.lines.push_back(Line { principal: principal.clone(), waiting, working: 0 });
            }
        }
    }

    /// The next, and whose it is: to be told [`done`](Turns::done). None if nothing waits but for principals that have their share.
    fn take(&mut self) -> Option<(Principal, J)> {
        let place = self.lines.iter().position(|line| !line.waiting.is_empty() && line.working < SHARE)?;
        let mut line = self.lines.remove(place)?;
        let job = line.waiting.pop_front()?;
        line.working += 1;
        let principal = line.principal.clone();
        self.lines.push_back(line);
        Some((principal, job))
    }

    fn done(&mut self, principal: &Principal) {
        let Some(place) = self.line(principal) else { return };
        let line = &mut self.lines[place];
        line.working -= 1;
        if line.working == 0 && line.waiting.is_empty() {
            self.lines.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_take_turns() {
        // Shows that whoever has much to be connected keeps nobody else from it, and has no more than its share at once.
        let [mallory, alice, bob] = ["mallory", "alice", "bob"].map(Principal::new);
        let mut turns = Turns::default();
        (0..100).for_each(|number| turns.push(&mallory, number));
        let take = |turns: &mut Turns<u32>| {
            turns.take().map(|(principal, number)| (principal.name().to_owned(), number))
        };
        for number in 0..SHARE as u32 {
            assert_eq!(take(&mut turns), Some(("mallory".to_owned(), number)));
        }
        assert_eq!(take(&mut turns), None, "it has its share");
        (200..203).for_each(|number| turns.push(&alice, number));
        turns.push(&bob, 300);
        turns.done(&mallory);
        let order: Vec<_> = std::iter::from_fn(|| take(&mut turns).map(|(_, number)| number)).collect();
        assert_eq!(order, [SHARE as u32, 200, 300, 201, 202]);
        (0..3).for_each(|_| turns.done(&alice));
        turns.done(&bob);
        assert_eq!(turns.lines.len(), 1, "who has nothing is not remembered");
        for _ in SHARE + 1..100 {
            turns.done(&mallory);
            assert!(take(&mut turns).is_some_and(|(principal, _)| principal == "mallory"));
        }
        (0..SHARE).for_each(|_| turns.done(&mallory));
        assert!(turns.lines.is_empty() && take(&mut turns).is_none());
    }
}
