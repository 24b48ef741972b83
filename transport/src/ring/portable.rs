//! The driver where io_uring is forbidden (a container's seccomp filter, `kernel.io_uring_disabled`): epoll for sockets, a
//! few threads for files (see `workers`).
//!
//! ```text
//!   socket request ─► try ─┬─► answered
//!             ▲            └─► EAGAIN: waits for an edge of its descriptor ─► try …
//!             └── new, or cancelled
//!   file request ─► worker ─► answered, or the rest to a worker again
//! ```
//!
//! Invariants:
//! * Nothing is tried while posting, so that an operation is never answered before its future is there.
//! * A descriptor enters the epoll set, edge-triggered in both directions, when it first gives EAGAIN. Adding reports what
//!   is ready already, and from then on every edge comes after the EAGAIN that waits for it: none is missed. Closing the
//!   descriptor takes it out.
#![allow(unsafe_code)]

use super::{
    Durability, Finished, SystemCalls,
    request::{Action, Request, Step, queue_index},
    socket::{Socket, socket_flags},
    wake::{RingWaker, WakeState},
    workers::{Call, Done, Job, Workers, last_error},
};
use crate::operation::{OperationId, OsError};
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};
use slab::Slab;
use std::{
    collections::HashMap,
    io, mem,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::Duration,
};

/// The eventfd's name in the epoll set; others are named by their descriptor.
const WAKE: u64 = u64::MAX;
/// The name of watched descriptors in the epoll set: nothing is to be done for them.
const WATCH: u64 = u64::MAX - 1;
/// Events taken in one system call.
const EVENTS_MAX: usize = 256;
/// While closing: how long one wait is, and how many that bring nothing are enough.
const CLOSE_WAIT: Duration = Duration::from_millis(100);
const CLOSE_WAITS_MAX: u32 = 30;

/// epoll and threads as the driver of a core.
pub(super) struct Portable {
    reason: String,
    epoll: OwnedFd,
    workers: Workers,
    requests: Slab<Request>,
    /// The key of each socket operation in flight, by its index in the queue of sockets: for cancellations.
    socket_keys: Vec<usize>,
    /// Socket requests to be tried in the next turn.
    ready: Vec<usize>,
    /// Socket requests that wait for their descriptor.
    waiting: HashMap<RawFd, Vec<usize>>,
    events: Vec<epoll::Event>,
    done: Vec<Done>,
    /// What ends a sleep besides events and wakes. Held so that it stays in the epoll set.
    watched: Vec<OwnedFd>,
    wake: Arc<WakeState>,
    /// The owner may be waiting for the epoll set.
    waiting_outside: bool,
    syscalls: u64,
}

impl Portable {
    /// `reason` is why it is not io_uring, for the description.
    pub(super) fn new(reason: &str) -> io::Result<Portable> {
        let wake = WakeState::new(false)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, wake.eventfd(), epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        Ok(Portable {
            reason: reason.to_owned(),
            epoll,
            workers: Workers::start(RingWaker::new(wake.clone()))?,
            requests: Slab::new(),
            socket_keys: Vec::new(),
            ready: Vec::new(),
            waiting: HashMap::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            done: Vec::new(),
            watched: Vec::new(),
            wake,
            waiting_outside: false,
            syscalls: 0,
        })
    }

    pub(super) fn waker(&self) -> RingWaker {
        RingWaker::new(self.wake.clone())
    }

    pub(super) fn system_calls(&self) -> SystemCalls {
        SystemCalls { enters: 0, others: self.syscalls, wakes: self.wake.writes() }
    }

    pub(super) fn describe(&self) -> String {
        format!("portable ({}): epoll, {} file threads", self.reason, self.workers.count())
    }

    pub(super) fn submit(&mut self, request: Request) {
        let (id, on_file) = (request.id, request.is_on_file());
        let key = self.requests.insert(request);
        if on_file {
            return self.hand_out(key, Vec::new());
        }
        let index = queue_index(id);
        if self.socket_keys.len() <= index {
            self.socket_keys.resize(index + 1, usize::MAX);
        }
        self.socket_keys[index] = key;
        self.ready.push(key);
    }

    /// The socket goes to another ring: no edge of it is to wake this one.
    pub(super) fn forget_socket(&mut self, socket: &Socket) {
        if socket.is_polled()
            && let Err(error) = epoll::delete(&self.epoll, socket.fd())
        {
            tracing::warn!(%error, "a socket stays in the epoll set");
        }
    }

    /// Ends a socket operation that nobody waits for any more, in the next turn.
    pub(super) fn cancel(&mut self, id: OperationId) {
        let Some(&key) = self.socket_keys.get(queue_index(id)) else { return };
        let Some(request) = self.requests.get_mut(key) else { return };
        if request.id == id && !request.is_on_file() {
            request.cancelled = true;
            let fd = request.fd().as_raw_fd();
            // If it does not wait it is to be tried in the next turn anyway.
            if self.stop_waiting(fd, key) {
                self.ready.push(key);
            }
        }
    }

    /// # Errors
    /// The kernel does not poll it.
    pub(super) fn watch(&mut self, descriptor: OwnedFd) -> io::Result<usize> {
        epoll::add(&self.epoll, &descriptor, epoll::EventData::new_u64(WATCH), epoll::EventFlags::IN)?;
        self.watched.push(descriptor);
        Ok(self.watched.len() - 1)
    }

    /// What is readable is told with each look at the set, and a turn has no need for one: nothing is known.
    #[allow(clippy::unused_self, reason = "as the other driver")]
    pub(super) fn is_quiet(&mut self, _: usize) -> bool {
        false
    }

    /// The epoll set is readable when something in it is: a socket, or the eventfd of a wake.
    pub(super) fn descriptor(&mut self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    pub(super) fn begin_wait(&mut self) -> bool {
        // Looked at before the flag says that the ring sleeps: a worker that is done later wakes.
        let idle = self.ready.is_empty() && !self.workers.has_done();
        if !idle {
            self.end_wait();
            return false;
        }
        // In a wait that goes on, the flag stays as it is: the wake of it has signalled.
        self.waiting_outside = self.waiting_outside || self.wake.begin_wait();
        self.waiting_outside
    }

    fn end_wait(&mut self) -> bool {
        let waited = mem::take(&mut self.waiting_outside);
        if waited {
            self.wake.end_wait();
        }
        waited
    }

    pub(super) fn turn(&mut self, finished: &mut Finished) {
        let waited = self.end_wait();
        self.try_ready(finished);
        // After a wait the eventfd may have to be emptied.
        if waited || !self.waiting.is_empty() {
            self.poll(Some(Duration::ZERO));
            self.try_ready(finished);
        }
        self.finish_done(finished);
    }

    pub(super) fn park(&mut self, limit: Option<Duration>, finished: &mut Finished) {
        self.end_wait();
        let answers = finished.answers.len();
        self.try_ready(finished);
        self.finish_done(finished);
        let idle = finished.answers.len() == answers && self.ready.is_empty();
        if !idle || limit.is_some_and(|limit| limit.is_zero()) || !self.wake.begin_park() {
            return self.turn(finished);
        }
        self.poll(limit);
        self.wake.end_park();
        self.try_ready(finished);
        self.finish_done(finished);
    }

    /// Ends everything. What a file thread does not come back with is leaked.
    pub(super) fn close(&mut self, finished: &mut Finished) {
        for job in self.workers.take_back() {
            self.answer(job.key, Err(OsError(libc::ECANCELED)), finished);
        }
        let sockets: Vec<usize> =
            self.requests.iter().filter(|(_, r)| !r.is_on_file()).map(|(key, _)| key).collect();
        for key in sockets {
            self.answer(key, Err(OsError(libc::ECANCELED)), finished);
        }
        self.ready.clear();
        self.waiting.clear();
        for (_, request) in &mut self.requests {
            request.cancelled = true;
        }
        let mut idle_waits = 0;
        while self.workers.busy() > 0 && idle_waits < CLOSE_WAITS_MAX {
            self.workers.wait(CLOSE_WAIT);
            idle_waits += u32::from(!self.finish_done(finished));
        }
        if !self.requests.is_empty() {
            self.leak();
        }
    }

    fn leak(&mut self) {
        let requests = mem::take(&mut self.requests);
        let count = requests.len();
        tracing::error!(
            count,
            "file threads of a ring that closes are stuck in the kernel; leaking their memory"
        );
        for (_, request) in &requests {
            mem::forget(request.queue.clone());
        }
        mem::forget(requests);
    }

    /// Waits for edges, and makes ready whoever waits for them.
    fn poll(&mut self, limit: Option<Duration>) {
        self.syscalls += 1;
        self.events.clear();
        // A limit too long for the kernel is as good as none.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => tracing::error!(%error, "epoll_wait"),
        }
        for event in &self.events {
            match event.data.u64() {
                WAKE => {
                    self.syscalls += 1;
                    // EAGAIN is the only error there can be, and means that there is nothing to take.
                    let _ = rustix::io::read(self.wake.eventfd(), &mut [0; 8]);
                }
                WATCH => {}
                fd => {
                    if let Some(keys) = self.waiting.remove(&(fd as RawFd)) {
                        self.ready.extend(keys);
                    }
                }
            }
        }
    }

    fn try_ready(&mut self, finished: &mut Finished) {
        let mut ready = mem::take(&mut self.ready);
        for key in ready.drain(..) {
            self.try_socket(key, finished);
        }
        // What was made ready meanwhile, if anything, was pushed on the new list.
        ready.append(&mut self.ready);
        self.ready = ready;
    }

    fn try_socket(&mut self, key: usize, finished: &mut Finished) {
        loop {
            let request = &mut self.requests[key];
            let step = if request.cancelled {
                Step::Done(Err(OsError(libc::ECANCELED)))
            } else {
                self.syscalls += 1;
                let result = attempt(request);
                request.progress(result)
            };
            match step {
                Step::Again => {}
                Step::Wait => return self.wait_for(key, finished),
                Step::Done(result) => return self.answer(key, result, finished),
            }
        }
    }

    fn wait_for(&mut self, key: usize, finished: &mut Finished) {
        let Some(socket) = self.requests[key].socket() else { unreachable!("only sockets wait") };
        let fd = socket.fd().as_raw_fd();
        if !socket.is_polled() {
            use epoll::EventFlags as E;
            let data = epoll::EventData::new_u64(fd as u64);
            self.syscalls += 1;
            if let Err(error) = epoll::add(&self.epoll, socket.fd(), data, E::IN | E::OUT | E::RDHUP | E::ET)
            {
                return self.answer(key, Err(OsError(error.raw_os_error())), finished);
            }
            socket.set_polled();
        }
        self.waiting.entry(fd).or_default().push(key);
    }

    fn stop_waiting(&mut self, fd: RawFd, key: usize) -> bool {
        let Some(keys) = self.waiting.get_mut(&fd) else { return false };
        let before = keys.len();
        keys.retain(|other| *other != key);
        let waited = keys.len() < before;
        if keys.is_empty() {
            self.waiting.remove(&fd);
        }
        waited
    }

    fn hand_out(&mut self, key: usize, pieces: Vec<libc::iovec>) {
        let request = &mut self.requests[key];
        request.pieces = pieces;
        request.gather();
        let at = request.done as u64;
        let call = match &request.action {
            Action::Read { offset, .. } | Action::ReadTargets { offset, .. } => {
                Call::Read { offset: offset + at }
            }
            Action::Write { offset, durability, .. } => {
                Call::Write { offset: offset + at, durable: *durability == Durability::Durable }
            }
            Action::Datasync { .. } => Call::Datasync,
            Action::Allocate { offset, bytes, .. } => Call::Allocate { offset: *offset, bytes: *bytes },
            _ => unreachable!("only file requests are handed out"),
        };
        let fd = request.fd().as_raw_fd();
        let pieces = mem::take(&mut request.pieces);
        self.workers.hand_out(Job { key, fd, call, pieces });
    }

    /// Takes what the workers have done. True if there was something.
    fn finish_done(&mut self, finished: &mut Finished) -> bool {
        let mut done = mem::take(&mut self.done);
        self.workers.take_done(&mut done);
        let any = !done.is_empty();
        for Done { key, result, pieces } in done.drain(..) {
            match self.requests[key].progress(result) {
                Step::Again | Step::Wait => self.hand_out(key, pieces),
                Step::Done(result) => self.answer(key, result, finished),
            }
        }
        self.done = done;
        any
    }

    fn answer(&mut self, key: usize, result: Result<u32, OsError>, finished: &mut Finished) {
        let request = self.requests.remove(key);
        finished.answers.push((request.queue.clone(), request.id, result));
        finished.spent.push(request);
    }
}

/// Tries a socket operation without waiting: a count or a negative errno.
fn attempt(request: &mut Request) -> i32 {
    request.gather();
    let result = match &request.action {
        Action::Accept { listener } => {
            rustix::net::accept_with(listener.fd(), socket_flags(false)).map(|fd| listener.push_accepted(fd))
        }
        Action::Connect { socket, address } => connect(socket, address),
        Action::Receive { socket, .. } => {
            let piece = &request.pieces[0];
            // SAFETY: the piece is memory of this operation, in flight, which nobody else touches until it is answered.
            let count = unsafe {
                libc::recv(socket.fd().as_raw_fd(), piece.iov_base, piece.iov_len, libc::MSG_DONTWAIT)
            };
            return counted(count);
        }
        Action::Send { socket, .. } => {
            let message: *const libc::msghdr = &**request.message.as_ref().expect("gathered");
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the header is the request's, and points to the request's pieces, which are memory that the
            // request owns and nobody writes.
            let count = unsafe { libc::sendmsg(socket.fd().as_raw_fd(), message, flags) };
            return counted(count);
        }
        _ => unreachable!("file requests go to the workers"),
    };
    match result {
        Ok(()) => 0,
        Err(error) => -error.raw_os_error(),
    }
}

/// Begins to connect, or asks how it went: asked again, the kernel says "in progress", "connected", or the error.
fn connect(socket: &Socket, address: &rustix::net::SocketAddrAny) -> Result<(), Errno> {
    match rustix::net::connect(socket.fd(), address) {
        Err(Errno::INPROGRESS | Errno::ALREADY) => Err(Errno::AGAIN),
        result => result,
    }
}

fn counted(count: isize) -> i32 {
    if count < 0 { last_error() } else { i32::try_from(count).unwrap_or(i32::MAX) }
}
