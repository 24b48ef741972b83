//! Connects queue pairs on threads of its own: the kernel looks for the peer's hardware address meanwhile, which takes up to a second
//! if nobody has it, and a core has other things to do.
//!
//! Threads are made when there is something to connect, and end when there is nothing. A queue pair belongs to the connector
//! from [`connect`](Connector::connect) until `done` gets it back; nothing of it is in the device, since nothing was posted.

use super::{
    error::RdmaError,
    verbs::{Path, QueuePair},
};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Threads at most. They wait for the kernel, so they cost no processor; how many there are bounds what peers that nobody finds can
/// make others wait: each takes one for a second.
const THREADS_MAX: usize = 16;

/// Connects queue pairs. Cheap to clone; any thread.
#[derive(Clone, Default)]
pub(super) struct Connector(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
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
    /// Connects the queue pair to the other end of the path, first come first served. Does not wait.
    ///
    /// # Errors
    /// There is no thread to be had: the queue pair is gone, and `done` with it.
    pub(super) fn connect(&self, pair: QueuePair, path: Path, done: Done) -> io::Result<()> {
        let mut state = self.lock();
        state.waiting.push_back(Job { pair, path, done });
        if state.threads >= THREADS_MAX {
            return Ok(());
        }
        let own = self.clone();
        match thread::Builder::new().name("rdma-connect".to_owned()).spawn(move || own.work()) {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                let job = state.waiting.pop_back();
                drop(state);
                drop(job);
                return Err(error);
            }
            // Those there are get to it.
            Err(error) => tracing::debug!(%error, "one thread less connects queue pairs"),
        }
        Ok(())
    }

    fn work(&self) {
        loop {
            let job = {
                let mut state = self.lock();
                let Some(job) = state.waiting.pop_front() else {
                    state.threads -= 1;
                    return;
                };
                job
            };
            let Job { pair, path, done } = job;
            let result = pair.connect(&path, false);
            done(pair, result);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that panics is done with it locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
