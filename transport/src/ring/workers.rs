//! The threads that do the portable driver's file operations: the only place in this package that starts threads.
//!
//! ```text
//!   ring ─► jobs ─► worker: one blocking system call ─► done ─► wake ─► ring
//! ```
//!
//! A worker makes one system call per job and gives back its result; what the result means, and whether there is more to
//! do, is the ring's to decide.
#![allow(unsafe_code)]

use super::wake::RingWaker;
use std::{
    collections::VecDeque,
    io, mem,
    os::fd::RawFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Threads of one ring: enough to keep a disk busy while some wait for a sync; a ring that needs more needs io_uring.
const WORKERS: usize = 4;

/// One system call on a file.
pub(super) struct Job {
    pub(super) key: usize,
    /// Open until the job is done: its request owns the file.
    pub(super) fd: RawFd,
    pub(super) call: Call,
    pub(super) pieces: Vec<libc::iovec>,
}

#[derive(Clone, Copy)]
pub(super) enum Call {
    Read { offset: u64 },
    Write { offset: u64, durable: bool },
    Datasync,
    Allocate { offset: u64, bytes: u64 },
}

// SAFETY: the pieces point to memory that the job's request owns, or the queue for it, from before the job is handed out
// until after it has come back (or for ever, if it does not); the ring does not touch that memory in between.
unsafe impl Send for Job {}

/// A job that was done: a count or a negative errno.
pub(super) struct Done {
    pub(super) key: usize,
    pub(super) result: i32,
    pub(super) pieces: Vec<libc::iovec>,
}

// SAFETY: as for `Job`; the pieces come back only so that their allocation is used again.
unsafe impl Send for Done {}

/// The threads of one ring.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Handed out and not back.
    busy: usize,
}

struct Shared {
    jobs: Mutex<Jobs>,
    job: Condvar,
    done: Mutex<Vec<Done>>,
    done_any: AtomicBool,
    done_one: Condvar,
    waker: RingWaker,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    stop: bool,
}

impl Workers {
    pub(super) fn start(waker: RingWaker) -> io::Result<Workers> {
        let shared = Arc::new(Shared {
            jobs: Mutex::default(),
            job: Condvar::new(),
            done: Mutex::default(),
            done_any: AtomicBool::new(false),
            done_one: Condvar::new(),
            waker,
        });
        let mut workers = Workers { shared, threads: Vec::new(), busy: 0 };
        for _ in 0..WORKERS {
            let shared = workers.shared.clone();
            // If one can not be started, dropping `workers` stops the others.
            let thread = thread::Builder::new().name("crossdock-file".into()).spawn(move || shared.work())?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    pub(super) fn hand_out(&mut self, job: Job) {
        self.busy += 1;
        lock(&self.shared.jobs).waiting.push_back(job);
        self.shared.job.notify_one();
    }

    /// Whether there is something to take.
    pub(super) fn has_done(&self) -> bool {
        self.shared.done_any.load(Ordering::Acquire)
    }

    /// Moves what is done to `target`.
    pub(super) fn take_done(&mut self, target: &mut Vec<Done>) {
        // Acquire pairs with the release after the push; what is missed here wakes the ring.
        if self.shared.done_any.swap(false, Ordering::Acquire) {
            let before = target.len();
            target.append(&mut lock(&self.shared.done));
            self.busy -= target.len() - before;
        }
    }

    /// Takes back the jobs that no worker has begun.
    pub(super) fn take_back(&mut self) -> Vec<Job> {
        let jobs: Vec<Job> = mem::take(&mut lock(&self.shared.jobs).waiting).into();
        self.busy -= jobs.len();
        jobs
    }

    /// Waits until something is done, for at most `limit`.
    pub(super) fn wait(&self, limit: Duration) {
        let done = lock(&self.shared.done);
        let waited = self.shared.done_one.wait_timeout_while(done, limit, |done| done.is_empty());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        lock(&self.shared.jobs).stop = true;
        self.shared.job.notify_all();
        if self.busy > 0 {
            // A worker is stuck in the kernel. It ends by itself when it comes back.
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a file thread panicked");
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            let result = job.run();
            let done = Done { key: job.key, result, pieces: job.pieces };
            lock(&self.done).push(done);
            self.done_any.store(true, Ordering::Release);
            self.done_one.notify_one();
            self.waker.wake();
        }
    }

    fn next(&self) -> Option<Job> {
        let jobs = lock(&self.jobs);
        let idle = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.stop;
        let mut jobs = self.job.wait_while(jobs, idle).unwrap_or_else(PoisonError::into_inner);
        jobs.waiting.pop_front()
    }
}

/// No panic happens under these locks, so a poisoned one holds what it should.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Job {
    fn run(&self) -> i32 {
        let Job { fd, call, pieces, .. } = self;
        let (fd, start, count) = (*fd, pieces.as_ptr(), pieces.len() as i32);
        let (offset, bytes) = match *call {
            Call::Read { offset } | Call::Write { offset, .. } => (offset, 0),
            Call::Datasync => (0, 0),
            Call::Allocate { offset, bytes } => (offset, bytes),
        };
        let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else {
            return -libc::EINVAL;
        };
        let result = match *call {
            Call::Read { .. } => {
                // SAFETY: `start` and `count` are the pieces, each of which is memory of an operation in flight, which
                // the kernel may write; the descriptor is open (see `Job`).
                unsafe { libc::preadv(fd, start, count, offset) }
            }
            Call::Write { durable, .. } => {
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                // SAFETY: as above; the kernel only reads.
                unsafe { libc::pwritev2(fd, start, count, offset, flags) }
            }
            Call::Datasync => {
                // SAFETY: no memory is involved; the descriptor is open.
                unsafe { libc::fdatasync(fd) as isize }
            }
            Call::Allocate { .. } => {
                // SAFETY: no memory is involved; the descriptor is open.
                unsafe { libc::fallocate(fd, 0, offset, bytes) as isize }
            }
        };
        if result < 0 { last_error() } else { i32::try_from(result).unwrap_or(i32::MAX) }
    }
}

/// The calling thread's errno, negative.
pub(super) fn last_error() -> i32 {
    -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
