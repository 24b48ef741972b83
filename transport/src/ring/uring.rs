//! The driver on io_uring (<https://man7.org/linux/man-pages/man7/io_uring.7.html>).
//!
//! Invariants:
//! * An entry's `user_data` is the request's key, or one of two names that no key has. A key is free again only when the
//!   kernel has sent the last completion of its request, notifications included.
//! * What the kernel was given addresses of (memory, pieces, message headers, socket addresses) is owned by the request,
//!   in heap memory that does not move when the table of requests grows.
//! * Entries reach the kernel in the order in which they were made: a cancellation never comes before its target.
//! * With deferred task work, completions appear only in an enter with GETEVENTS; the kernel raises a flag in shared
//!   memory when there is such work, so that a turn with nothing to do costs no system call.
#![allow(unsafe_code)]

use super::{
    Finished, SystemCalls,
    buffers::FixedBuffers,
    entries::{Abilities, Manner, entry},
    files::FIXED_FILES,
    request::{Action, Request, Step, queue_index},
    wake::{RingWaker, WakeState},
};
use crate::{memory::Arena, operation::OperationId};
use io_uring::{
    EnterFlags, IoUring, Probe, cqueue, opcode, squeue,
    types::{self, SubmitArgs, Timespec},
};
use slab::Slab;
use std::{
    collections::VecDeque,
    fmt::Write as _,
    io, mem,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

/// `user_data` of the read of the eventfd.
const WAKE: u64 = u64::MAX;
/// `user_data` of cancellations, whose own result says nothing that the target's does not.
const CANCEL: u64 = u64::MAX - 1;
/// `user_data` of polls of watched descriptors: this, less their place.
const WATCH: u64 = u64::MAX - 2;
/// Watched descriptors of a ring, at most.
const WATCHED_MAX: usize = 64;
/// `IORING_NOTIF_USAGE_ZC_COPIED` in linux/io_uring.h: a zero-copy send was copied after all.
const COPIED: u32 = 1 << 31;
/// Most entries of the submission queue: more than are posted between two turns.
const ENTRIES_MAX: u32 = 4096;
/// While closing: how long one wait is, and how many that bring nothing are enough.
const CLOSE_WAIT: Duration = Duration::from_millis(100);
const CLOSE_WAITS_MAX: u32 = 30;
/// Of these, after how many connections that keep zero-copy memory are reset.
const CLOSE_WAITS_BEFORE_RESET: u32 = 10;

/// io_uring as the driver of a core.
pub(super) struct Uring {
    /// First, so that it is closed before anything it may know of is dropped.
    ring: IoUring,
    mode: &'static str,
    abilities: Abilities,
    requests: Slab<InFlight>,
    /// The key of each socket operation in flight, by its index in the queue of sockets: for cancellations.
    socket_keys: Vec<usize>,
    /// Entries that found the submission queue full and the kernel unwilling.
    backlog: VecDeque<squeue::Entry>,
    /// Completions being worked through.
    reaped: Vec<(u64, i32, u32)>,
    /// Free places in the table of fixed files.
    free_files: Vec<u32>,
    fixed: Option<FixedBuffers>,
    wake: Arc<WakeState>,
    wake_armed: bool,
    /// Where the kernel puts what it reads from the eventfd. Boxed: it has its address.
    wake_counter: Box<u64>,
    /// What ends a sleep besides completions and wakes.
    watched: Vec<Watched>,
    /// Whether completions write to the signal.
    signalled: bool,
    /// The owner may be waiting for the signal.
    waiting: bool,
    /// Calls of `io_uring_enter`.
    enters: u64,
    /// All others.
    syscalls: u64,
}

struct Watched {
    descriptor: OwnedFd,
    /// Whether the kernel polls it.
    armed: bool,
}

struct InFlight {
    request: Request,
    manner: Manner,
    /// Notifications of zero-copy sends that are still to come: until then the network may read the memory.
    notifications: u32,
    answered: bool,
}

impl Uring {
    /// # Errors
    /// The kernel refuses io_uring, or lacks what the driver needs (Linux 5.11).
    pub(super) fn new(depth: usize) -> io::Result<Uring> {
        let entries = u32::try_from(depth).unwrap_or(ENTRIES_MAX).clamp(64, ENTRIES_MAX);
        let (ring, mode) = setup(entries)?;
        let params = ring.params();
        if !params.is_feature_ext_arg() || !params.is_feature_nodrop() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel's io_uring is too old"));
        }
        let mut probe = Probe::new();
        // A kernel that can not be asked (before 5.6) lacks what was required above anyway.
        ring.submitter().register_probe(&mut probe)?;
        let abilities = Abilities {
            write_vectored_fixed: probe.is_supported(opcode::WritevFixed::CODE),
            send_zero_copy: probe.is_supported(opcode::SendZc::CODE)
                && probe.is_supported(opcode::SendMsgZc::CODE),
        };
        let fixed_files = ring.submitter().register_files_sparse(FIXED_FILES).is_ok();
        let free_files = if fixed_files { (0..FIXED_FILES).rev().collect() } else { Vec::new() };
        Ok(Uring {
            ring,
            mode,
            abilities,
            requests: Slab::new(),
            socket_keys: Vec::new(),
            backlog: VecDeque::new(),
            reaped: Vec::new(),
            free_files,
            fixed: None,
            wake: WakeState::new(true)?,
            wake_armed: false,
            wake_counter: Box::new(0),
            watched: Vec::new(),
            signalled: false,
            waiting: false,
            enters: 0,
            syscalls: 0,
        })
    }

    pub(super) fn waker(&self) -> RingWaker {
        RingWaker::new(self.wake.clone())
    }

    pub(super) fn system_calls(&self) -> SystemCalls {
        SystemCalls { enters: self.enters, others: self.syscalls, wakes: self.wake.writes() }
    }

    pub(super) fn describe(&self) -> String {
        let mut text = format!("io_uring: {}", self.mode);
        let buffers = match &self.fixed {
            Some(fixed) if fixed.is_cloned() => "fixed buffers (cloned)",
            Some(_) => "fixed buffers",
            None => "no fixed buffers",
        };
        let vectored = if self.abilities.write_vectored_fixed { " also for vectored writes" } else { "" };
        let files = if self.free_files.is_empty() { "no free fixed files" } else { "fixed files" };
        let sends = if self.abilities.send_zero_copy { "zero-copy sends" } else { "no zero-copy sends" };
        let _ = write!(text, ", {files}, {buffers}{vectored}, {sends}");
        text
    }

    pub(super) fn register(&mut self, arena: &Arena) -> io::Result<()> {
        match &self.fixed {
            Some(fixed) if fixed.is_of(arena) => return Ok(()),
            Some(_) => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another arena is registered"));
            }
            None => {}
        }
        self.fixed = Some(FixedBuffers::register(&self.ring, arena)?);
        Ok(())
    }

    /// Enters a file in the table of fixed files, if there is room.
    pub(super) fn register_file(&mut self, fd: &OwnedFd) -> Option<u32> {
        let index = self.free_files.pop()?;
        self.syscalls += 1;
        match self.ring.submitter().register_files_update(index, &[fd.as_raw_fd()]) {
            Ok(_) => Some(index),
            Err(error) => {
                tracing::debug!(%error, "a file could not be registered");
                self.free_files.push(index);
                None
            }
        }
    }

    pub(super) fn forget_file(&mut self, index: u32) {
        self.syscalls += 1;
        match self.ring.submitter().register_files_update(index, &[-1]) {
            Ok(_) => self.free_files.push(index),
            // The place keeps the file open and is not used again.
            Err(error) => tracing::error!(%error, index, "a registered file could not be taken out"),
        }
    }

    pub(super) fn submit(&mut self, request: Request) {
        let (id, on_file) = (request.id, request.is_on_file());
        let in_flight = InFlight { request, manner: Manner::Plain, notifications: 0, answered: false };
        let key = self.requests.insert(in_flight);
        if !on_file {
            let index = queue_index(id);
            if self.socket_keys.len() <= index {
                self.socket_keys.resize(index + 1, usize::MAX);
            }
            self.socket_keys[index] = key;
        }
        self.push_request(key, false);
    }

    /// Asks the kernel to end a socket operation that nobody waits for any more.
    pub(super) fn cancel(&mut self, id: OperationId) {
        let Some(&key) = self.socket_keys.get(queue_index(id)) else { return };
        let Some(in_flight) = self.requests.get_mut(key) else { return };
        let request = &mut in_flight.request;
        if request.id == id && !request.is_on_file() && !in_flight.answered {
            request.cancelled = true;
            self.push_cancel(key as u64);
        }
    }

    pub(super) fn turn(&mut self, finished: &mut Finished) {
        self.end_wait();
        self.push_backlog();
        let submission = self.ring.submission();
        if !submission.is_empty() || submission.taskrun() || submission.cq_overflow() {
            drop(submission);
            self.enter(0, None);
        } else {
            drop(submission);
        }
        self.reap(finished);
    }

    pub(super) fn park(&mut self, limit: Option<Duration>, finished: &mut Finished) {
        self.end_wait();
        if limit.is_some_and(|limit| limit.is_zero()) || !self.wake.begin_park() {
            return self.turn(finished);
        }
        self.sleep(limit);
        self.wake.end_park();
        self.reap(finished);
    }

    /// # Errors
    /// There are too many.
    pub(super) fn watch(&mut self, descriptor: OwnedFd) -> io::Result<usize> {
        if self.watched.len() == WATCHED_MAX {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.watched.push(Watched { descriptor, armed: false });
        Ok(self.watched.len() - 1)
    }

    /// A poll that is in flight found nothing when it began, and nothing has come since. One that the kernel did not take yet found
    /// nothing out.
    pub(super) fn is_quiet(&mut self, place: usize) -> bool {
        let armed = self.watched.get(place).is_some_and(|watched| watched.armed);
        armed && self.backlog.is_empty() && self.ring.submission().is_empty()
    }

    /// The signal of wakes, which the kernel writes to for every completion too. The ring's own descriptor does not serve:
    /// with deferred task work it never becomes readable. Nor does a read of the other eventfd: where the kernel can not signal at
    /// once, as for a completion that is caused by a write to an eventfd or by a packet in the middle of something else, it does so once for
    /// each registration and then never again (Linux 6.12 and 6.18). So it is registered anew for each wait.
    pub(super) fn descriptor(&mut self) -> io::Result<OwnedFd> {
        let signal = self.wake.signal()?.try_clone_to_owned()?;
        if !self.signalled {
            self.ring.submitter().register_eventfd(signal.as_raw_fd())?;
            self.signalled = true;
        }
        Ok(signal)
    }

    pub(super) fn begin_wait(&mut self) -> bool {
        let Ok(signal) = self.wake.signal() else { return false };
        if !self.signalled {
            return false;
        }
        if !self.waiting {
            self.syscalls += 1;
            // Cleared before the flag says that the ring sleeps, and before the look: wakes and completions that come later
            // signal again. EAGAIN: there was no signal.
            let _ = rustix::io::read(signal, &mut [0; 8]);
            let descriptor = signal.as_raw_fd();
            self.waiting = self.wake.begin_wait();
            if !self.waiting {
                return false;
            }
            self.syscalls += 2;
            let submitter = self.ring.submitter();
            let registered =
                submitter.unregister_eventfd().and_then(|()| submitter.register_eventfd(descriptor));
            if let Err(error) = registered {
                tracing::error!(%error, "completions of a ring can not be waited for");
                self.end_wait();
                return false;
            }
        }
        // Also in a wait that goes on: something may have been posted since it began.
        self.arm_watched();
        self.push_backlog();
        self.enter(0, None);
        let submission = self.ring.submission();
        let pending = !submission.is_empty() || submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if pending || !self.backlog.is_empty() || !self.ring.completion().is_empty() {
            self.end_wait();
        }
        self.waiting
    }

    fn end_wait(&mut self) {
        if mem::take(&mut self.waiting) {
            self.wake.end_wait();
        }
    }

    /// Has the kernel poll what is watched. A poll is good for one event, so before each wait.
    fn arm_watched(&mut self) {
        for place in 0..self.watched.len() {
            let watched = &mut self.watched[place];
            if !mem::replace(&mut watched.armed, true) {
                let fd = types::Fd(watched.descriptor.as_raw_fd());
                let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32);
                self.push(poll.build().user_data(WATCH - place as u64));
            }
        }
    }

    /// Submits, and waits for a completion, of the eventfd's read at least.
    fn sleep(&mut self, limit: Option<Duration>) {
        if !self.wake_armed {
            self.wake_armed = true;
            let counter: *mut u64 = &mut *self.wake_counter;
            let fd = types::Fd(self.wake.eventfd().as_raw_fd());
            let read = opcode::Read::new(fd, counter.cast(), size_of::<u64>() as u32);
            self.push(read.build().user_data(WAKE));
        }
        self.arm_watched();
        self.push_backlog();
        // What could not even be queued must not wait for what sleeps.
        let want = usize::from(self.backlog.is_empty());
        self.enter(want, limit);
    }

    /// Cancels everything and waits for it, with a bound. What the kernel still has then is leaked.
    pub(super) fn close(&mut self, finished: &mut Finished) {
        let keys: Vec<usize> = self.requests.iter().map(|(key, _)| key).collect();
        for key in keys {
            let in_flight = &mut self.requests[key];
            in_flight.request.cancelled = true;
            if !in_flight.answered {
                self.push_cancel(key as u64);
            }
        }
        if self.wake_armed {
            self.push_cancel(WAKE);
        }
        let mut idle_waits = 0;
        while (!self.requests.is_empty() || self.wake_armed) && idle_waits < CLOSE_WAITS_MAX {
            self.push_backlog();
            self.enter(1, Some(CLOSE_WAIT));
            let progress = self.reap(finished);
            idle_waits += u32::from(!progress);
            if idle_waits == CLOSE_WAITS_BEFORE_RESET && !progress {
                self.reset_connections();
            }
        }
        if !self.requests.is_empty() || self.wake_armed {
            self.leak();
        }
    }

    /// A peer that takes nothing keeps the memory of zero-copy sends for as long as its connection lives.
    fn reset_connections(&self) {
        for (_, in_flight) in &self.requests {
            if let Action::Send { socket, .. } = &in_flight.request.action
                && let Err(error) = rustix::net::connect_unspec(socket.fd())
            {
                tracing::debug!(%error, "a connection could not be reset");
            }
        }
    }

    fn leak(&mut self) {
        let requests = mem::take(&mut self.requests);
        let count = requests.len();
        tracing::error!(
            count,
            "the kernel did not give back operations of a ring that closes; leaking their memory"
        );
        for (_, in_flight) in &requests {
            // The memory of all but sends is in the queue.
            mem::forget(in_flight.request.queue.clone());
        }
        mem::forget(requests);
        mem::forget(mem::take(&mut self.wake_counter));
    }

    fn push_request(&mut self, key: usize, background: bool) {
        let in_flight = &mut self.requests[key];
        in_flight.request.gather();
        let (entry, manner) = entry(&in_flight.request, background, self.abilities, self.fixed.as_ref());
        in_flight.manner = manner;
        self.push(entry.user_data(key as u64));
    }

    fn push_cancel(&mut self, target: u64) {
        self.push(opcode::AsyncCancel::new(target).build().user_data(CANCEL));
    }

    /// Queues an entry; if the queue is full, makes the kernel take what is in it.
    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() {
            return self.backlog.push_back(entry);
        }
        if self.try_push(&entry) {
            return;
        }
        self.flush();
        if !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what the entry points to is owned by its request (memory by the queue's table or by the request,
        // pieces, message and address by the request) or by `self` (`wake_counter`), at heap addresses that do not
        // change. Requests leave the table only with their last completion, or are leaked with all they own; queues
        // keep memory until `complete`, which is called only then.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    fn push_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn flush(&mut self) {
        self.enters += 1;
        let result = self.ring.submit();
        self.check(result);
    }

    /// One `io_uring_enter`: submits everything, runs deferred work, waits for `want` completions.
    fn enter(&mut self, want: usize, limit: Option<Duration>) {
        self.enters += 1;
        let result = if want > 0 {
            let timespec = limit.map(Timespec::from);
            let args = SubmitArgs::new();
            let args = match &timespec {
                Some(timespec) => args.timespec(timespec),
                None => args,
            };
            self.ring.submitter().submit_with_args(want, &args)
        } else {
            let count = self.ring.submission().len() as u32;
            let flags = EnterFlags::GETEVENTS.bits();
            // SAFETY: `count` entries have been pushed, each under the terms of `try_push`; there is no argument.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(count, 0, flags, None) }
        };
        self.check(result);
    }

    fn check(&self, result: io::Result<usize>) {
        let Err(error) = result else { return };
        match error.raw_os_error() {
            // A signal, the time limit, or a kernel short of memory or of room for completions: entries it did not take
            // are still queued, and the next turn, which first makes room, submits them.
            Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => {}
            _ => tracing::error!(%error, "io_uring_enter"),
        }
    }

    /// Works through the completions there are. True if there were some.
    fn reap(&mut self, finished: &mut Finished) -> bool {
        let mut reaped = mem::take(&mut self.reaped);
        reaped.extend(self.ring.completion().map(|c| (c.user_data(), c.result(), c.flags())));
        let progress = !reaped.is_empty();
        for (user_data, result, flags) in reaped.drain(..) {
            match user_data {
                WAKE => self.wake_armed = false,
                CANCEL => {}
                watch if watch > WATCH - WATCHED_MAX as u64 => {
                    // Readable, or closed: the next wait looks again.
                    if let Some(watched) = self.watched.get_mut((WATCH - watch) as usize) {
                        watched.armed = false;
                    }
                }
                key => self.handle(key as usize, result, flags, finished),
            }
        }
        self.reaped = reaped;
        progress
    }

    fn handle(&mut self, key: usize, result: i32, flags: u32, finished: &mut Finished) {
        let in_flight = self.requests.get_mut(key).expect("a key is in use until the last completion");
        if cqueue::notif(flags) {
            in_flight.notifications -= 1;
            if let Action::Send { socket, .. } = &in_flight.request.action
                && result as u32 & COPIED != 0
            {
                socket.stop_zero_copy();
            }
            return self.retire(key, finished);
        }
        in_flight.notifications += u32::from(cqueue::more(flags));
        let request = &mut in_flight.request;
        if let (Action::Accept { listener }, 0..) = (&request.action, result) {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
            listener.push_accepted(unsafe { OwnedFd::from_raw_fd(result) });
        }
        if let (Action::Send { socket, .. }, Manner::ZeroCopy) = (&request.action, in_flight.manner)
            && zero_copy_refused(result)
            && !request.cancelled
        {
            socket.stop_zero_copy();
            return self.push_request(key, false);
        }
        match request.progress(result) {
            Step::Again => self.push_request(key, false),
            Step::Wait => self.push_request(key, true),
            Step::Done(result) => {
                finished.answers.push((request.queue.clone(), request.id, result));
                in_flight.answered = true;
                self.retire(key, finished);
            }
        }
    }

    /// Takes a request out when the kernel has sent all it will send of it.
    fn retire(&mut self, key: usize, finished: &mut Finished) {
        let in_flight = &self.requests[key];
        if in_flight.answered && in_flight.notifications == 0 {
            finished.spent.push(self.requests.remove(key).request);
        }
    }
}

/// The best mode that the kernel takes. EINVAL means that it does not know a flag; anything else is a refusal.
fn setup(entries: u32) -> io::Result<(IoUring, &'static str)> {
    // Room for the completions of sockets too; beyond, the kernel keeps them and says so (IORING_FEAT_NODROP).
    let completions = (entries * 2).max(4096);
    let mut last = io::Error::from_raw_os_error(libc::EINVAL);
    for step in 0..4 {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(completions).dontfork();
        let mode = match step {
            // Linux 6.1: completions are worked on when this thread asks for them, never by interrupting it.
            0 => {
                builder.setup_submit_all().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
                "single issuer, deferred task work"
            }
            // 6.0
            1 => {
                builder.setup_submit_all().setup_single_issuer().setup_coop_taskrun().setup_taskrun_flag();
                "single issuer, cooperative task work"
            }
            // 5.19
            2 => {
                builder.setup_submit_all().setup_coop_taskrun().setup_taskrun_flag();
                "cooperative task work"
            }
            _ => "plain",
        };
        match builder.build(entries) {
            Ok(ring) => return Ok((ring, mode)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Whether a plain send may do what a zero-copy one could not: no memory to be pinned, or no such send.
fn zero_copy_refused(result: i32) -> bool {
    matches!(-i64::from(result) as i32, libc::ENOMEM | libc::ENOBUFS | libc::EOPNOTSUPP | libc::EINVAL)
}

/// What happens where io_uring is forbidden: a thread forbids it to itself, as the seccomp filters of containers do.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{DriverChoice, Ring, RingOptions};

    /// A filter that makes `io_uring_setup` fail with EPERM and allows everything else
    /// (<https://man7.org/linux/man-pages/man2/seccomp.2.html>). It holds for the calling thread until that ends.
    fn forbid_io_uring() {
        const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut filter = [
            step(LOAD, 0, 0, 0), // seccomp_data.nr
            step(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: this option takes a flag and no memory.
        let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(result, 0);
        let program: *const libc::sock_fprog = &program;
        // SAFETY: `program` and the filter it points to live until the call returns, which copies them.
        let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, program) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    #[test]
    fn the_portable_driver_takes_over_and_says_why() {
        // Shows that a ring is made where io_uring is forbidden, that it says so, and that who insists gets the error.
        let thread = std::thread::Builder::new().spawn(|| {
            forbid_io_uring();
            let options = |driver| RingOptions { driver, depth: 4 };
            let insisted = Ring::new(&options(DriverChoice::IoUring)).map(drop).unwrap_err();
            assert_eq!(insisted.raw_os_error(), Some(libc::EPERM));
            Ring::new(&options(DriverChoice::Best)).unwrap().describe()
        });
        let description = thread.unwrap().join().unwrap();
        assert!(
            description.starts_with("portable (io_uring is refused: Operation not permitted"),
            "{description}"
        );
    }
}
