//! The driver of a core: disks and sockets on one io_uring, or on epoll and a few threads where io_uring is forbidden.
//!
//! ```text
//!   read, write, send, … ─► Queue (memory in flight) ─► driver ─► kernel
//!          Pending ◄── Queue::complete ◄── turn, park ◄──────────────┘
//! ```
//!
//! Invariants:
//! * Posting can not fail and makes no system call unless the submission queue is full; [`Ring::turn`] submits all that
//!   was posted and reaps what is done, with one system call at most and none when there is nothing to do.
//! * Memory in flight is the [`Queue`]'s, or the driver's for sends, until the kernel is done with it; if the ring is
//!   dropped and the kernel does not give it back, it is leaked, never freed.
//! * No foreign code (wakers, drops of files, of sockets, of memory) runs while the driver is borrowed, so that any of
//!   it may post, drop and cancel.
//! * Both drivers give the same answers: what a result means is decided in one place (`request`).

mod buffers;
mod entries;
mod files;
mod portable;
mod request;
mod socket;
mod uring;
mod wake;
mod workers;

use crate::{
    memory::{Arena, BufferLease, ScatterList, TargetList},
    operation::{Memory, OperationId, OsError, Pending, Queue, Slot},
};
use portable::Portable;
use request::{Action, Request};
use rustix::net::{SocketAddrAny, SocketFlags};
use std::{
    cell::{Cell, RefCell},
    fmt, io,
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};
use uring::Uring;

pub use files::RingFile;
pub(crate) use socket::Socket;
pub use wake::RingWaker;

/// System calls, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SystemCalls {
    /// `io_uring_enter`: what turns, parks and posts of an io_uring need. The portable driver has none.
    pub enters: u64,
    /// What else the ring's own thread called: all of the portable driver's, registrations, clearing a signal.
    pub others: u64,
    /// Writes by which the sleeping ring was woken, whichever thread made them.
    pub wakes: u64,
}

impl SystemCalls {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.enters + self.others + self.wakes
    }
}

/// Which driver to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DriverChoice {
    /// io_uring; where it is refused, the portable driver.
    #[default]
    Best,
    /// io_uring or an error.
    IoUring,
    /// epoll and a few threads.
    Portable,
}

/// How a ring is made.
#[derive(Clone, Debug, Default)]
pub struct RingOptions {
    /// Which driver to use.
    pub driver: DriverChoice,
    /// File operations in flight at once; 0 means [`DEPTH_DEFAULT`].
    pub depth: usize,
}

/// File operations in flight at once, unless asked otherwise.
pub const DEPTH_DEFAULT: usize = 256;

/// Socket operations in flight at once. An idle connection holds one (its receive), so this bounds connections per core;
/// they have a queue of their own so that idle connections take no room from the disks. 1.5 MiB of table.
pub const SOCKET_DEPTH: usize = 16384;

/// Whether a write is durable when it completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It may still be in caches.
    Buffered,
    /// The bytes, and the metadata needed to read them, are on stable storage (`RWF_DSYNC`,
    /// <https://man7.org/linux/man-pages/man2/pwritev2.2.html>).
    Durable,
}

/// The driver of one core. Not `Send`: it stays on the thread that made it. Cheap to clone.
///
/// # Drop
/// With the last clone, operations in flight are cancelled and waited for, for at most a few seconds; their futures
/// resolve. Memory that the kernel does not give back by then is leaked.
#[derive(Clone)]
pub struct Ring(Rc<Shared>);

/// A descriptor that a ring watches: see [`Ring::watch`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch(usize);

struct Shared {
    files: Queue,
    sockets: Queue,
    driver: RefCell<Driver>,
    /// Of the last turn, empty; kept for its capacity.
    finished: Cell<Finished>,
    waker: RingWaker,
}

#[expect(clippy::large_enum_variant, reason = "there is one for each core")]
enum Driver {
    Uring(Uring),
    Portable(Portable),
}

/// What a turn brought to an end, to be acted on when the driver is no longer borrowed.
#[derive(Default)]
struct Finished {
    answers: Vec<(Queue, OperationId, Result<u32, OsError>)>,
    /// Operations that the kernel is done with: they own files, sockets and memory.
    spent: Vec<Request>,
}

macro_rules! on_driver {
    ($driver:expr, $name:ident => $call:expr) => {
        match $driver {
            Driver::Uring($name) => $call,
            Driver::Portable($name) => $call,
        }
    };
}

impl Ring {
    /// A ring for the calling thread.
    ///
    /// # Errors
    /// io_uring is refused and was asked for, or the process is out of descriptors, memory or threads.
    pub fn new(options: &RingOptions) -> io::Result<Ring> {
        let depth = if options.depth == 0 { DEPTH_DEFAULT } else { options.depth };
        let driver = match options.driver {
            DriverChoice::IoUring => Driver::Uring(Uring::new(depth)?),
            DriverChoice::Portable => Driver::Portable(Portable::new("asked for")?),
            DriverChoice::Best => match Uring::new(depth) {
                Ok(uring) => Driver::Uring(uring),
                Err(error) => {
                    tracing::warn!(%error, "io_uring is refused; using the portable driver");
                    Driver::Portable(Portable::new(&format!("io_uring is refused: {error}"))?)
                }
            },
        };
        let waker = on_driver!(&driver, d => d.waker());
        let (files, sockets) = (Queue::new(depth), Queue::new(SOCKET_DEPTH));
        let shared = Rc::new(Shared {
            files,
            sockets,
            driver: RefCell::new(driver),
            finished: Cell::default(),
            waker,
        });
        // Only socket operations are cancelled: a disk answers soon, a peer perhaps never.
        let weak = Rc::downgrade(&shared);
        shared.sockets.on_cancel(Rc::new(move |id| {
            if let Some(shared) = weak.upgrade() {
                on_driver!(&mut *shared.driver.borrow_mut(), d => d.cancel(id));
            }
        }));
        Ok(Ring(shared))
    }

    /// What runs: the driver and its features in use, for the start message and the metrics.
    pub fn describe(&self) -> String {
        on_driver!(&*self.0.driver.borrow(), d => d.describe())
    }

    /// System calls made by turns, parks, posts and wakes so far.
    pub fn system_calls(&self) -> SystemCalls {
        on_driver!(&*self.0.driver.borrow(), d => d.system_calls())
    }

    /// Registers the arena as fixed buffers, so that the kernel need not look up and pin its pages for each operation.
    /// The portable driver has nothing to register, and says so by succeeding.
    ///
    /// # Errors
    /// The kernel refuses, most often for `RLIMIT_MEMLOCK`. That is not fatal: operations go on unregistered.
    pub fn register(&self, arena: &Arena) -> io::Result<()> {
        match &mut *self.0.driver.borrow_mut() {
            Driver::Uring(uring) => uring.register(arena),
            Driver::Portable(_) => Ok(()),
        }
    }

    /// Makes a file known to this ring.
    pub fn file(&self, fd: OwnedFd) -> RingFile {
        let index = match &mut *self.0.driver.borrow_mut() {
            Driver::Uring(uring) => uring.register_file(&fd),
            Driver::Portable(_) => None,
        };
        RingFile::new(fd, index, Rc::downgrade(&self.0))
    }

    /// The queue of the file operations: slots come from here.
    pub fn queue(&self) -> &Queue {
        &self.0.files
    }

    /// The queue of the socket operations, [`SOCKET_DEPTH`] deep.
    pub fn socket_queue(&self) -> &Queue {
        &self.0.sockets
    }

    /// Reads `bytes` at byte `offset` of the file into the lease, from the lease's byte `at` (its `len` is left as it
    /// is). Completes with the count, which is less than asked only at the end of the file. With O_DIRECT, offset, bytes
    /// and address are aligned as the file system wants them.
    ///
    /// # Panics
    /// If the lease has no room, or the file is another ring's.
    pub fn read(
        &self,
        slot: Slot,
        file: &RingFile,
        offset: u64,
        lease: BufferLease,
        at: usize,
        bytes: usize,
    ) -> Pending {
        let room = lease.capacity().checked_sub(at);
        assert!(room.is_some_and(|room| bytes <= room), "{bytes} bytes at {at} of {}", lease.capacity());
        let file = self.own(file);
        self.post(&self.0.files, slot, Memory::Lease(lease), Action::Read { file, offset, at }, bytes)
    }

    /// Reads at byte `offset` of the file into all places, one behind the other. Completes with the count, which is less than
    /// their bytes only at the end of the file; nothing behind it is touched. With O_DIRECT, each place's address and bytes are aligned
    /// as the file system wants them. Memory of a client ([`PeerLease`](crate::memory::PeerLease)) is written by the device
    /// itself: there is no buffer in between.
    ///
    /// # Panics
    /// If there are 4 GiB or more, or the file is another ring's.
    pub fn read_targets(&self, slot: Slot, file: &RingFile, offset: u64, targets: TargetList) -> Pending {
        let bytes = targets.bytes();
        let action = Action::ReadTargets { file: self.own(file), offset };
        self.post(&self.0.files, slot, Memory::Targets(targets), action, bytes)
    }

    /// Writes all pieces at byte `offset`. Short writes are continued; the count is less than asked only if the device
    /// takes no more.
    ///
    /// # Panics
    /// If there are 4 GiB or more, or the file is another ring's.
    pub fn write(
        &self,
        slot: Slot,
        file: &RingFile,
        offset: u64,
        source: ScatterList,
        durability: Durability,
    ) -> Pending {
        let bytes = source.bytes();
        let action = Action::Write { file: self.own(file), offset, durability };
        self.post(&self.0.files, slot, Memory::Scatter(source), action, bytes)
    }

    /// Makes durable what was written to the file by operations that are complete, and the metadata needed to read it
    /// (`fdatasync`).
    ///
    /// # Panics
    /// If the file is another ring's.
    pub fn datasync(&self, slot: Slot, file: &RingFile) -> Pending {
        let action = Action::Datasync { file: self.own(file) };
        self.post(&self.0.files, slot, Memory::None, action, 0)
    }

    /// Allocates space without changing bytes that exist (`fallocate` mode 0: the file grows to hold the range).
    ///
    /// # Panics
    /// If the file is another ring's.
    pub fn allocate(&self, slot: Slot, file: &RingFile, offset: u64, bytes: u64) -> Pending {
        let action = Action::Allocate { file: self.own(file), offset, bytes };
        self.post(&self.0.files, slot, Memory::None, action, 0)
    }

    /// Submits what was posted and reaps what is done, without waiting. Returns how many operations were answered.
    pub fn turn(&self) -> usize {
        self.finish(|driver, finished| on_driver!(driver, d => d.turn(finished)))
    }

    /// As [`Ring::turn`], but sleeps until a completion, a wake, or the time limit (rounded up to the driver's unit). May
    /// also return early for no reason.
    pub fn park(&self, limit: Option<Duration>) -> usize {
        self.finish(|driver, finished| on_driver!(driver, d => d.park(limit, finished)))
    }

    /// From now on a park also ends, early and with nothing to show, while `descriptor` is readable: its owner looks after it, and makes it
    /// unreadable before the next park. The ring keeps it open. Up to 64 of them.
    ///
    /// # Errors
    /// There are too many, or the kernel does not poll it.
    pub fn watch(&self, descriptor: OwnedFd) -> io::Result<Watch> {
        on_driver!(&mut *self.0.driver.borrow_mut(), d => d.watch(descriptor)).map(Watch)
    }

    /// Whether it is known that nothing made the descriptor readable since a park found it not to be: then its owner has nothing to look
    /// after. As of the last turn or park; of a driver that can not tell, never. Makes no system call.
    pub fn is_quiet(&self, watch: Watch) -> bool {
        on_driver!(&mut *self.0.driver.borrow_mut(), d => d.is_quiet(watch.0))
    }

    /// A descriptor for an owner that sleeps in a loop of its own, with this ring as one of several things to wait for. It
    /// becomes readable when there is something for [`Ring::turn`] to do; it means something only after
    /// [`Ring::begin_wait`] and is not to be read from.
    ///
    /// ```text
    ///   loop { turn, run tasks, if begin_wait { poll the descriptor and others } }
    /// ```
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        on_driver!(&mut *self.0.driver.borrow_mut(), d => d.descriptor())
    }

    /// Submits what was posted, and says whether the owner may sleep on the [`Ring::descriptor`]. False if there is
    /// something for a turn to do already, a wake for instance, or if there is no descriptor. The next turn or park ends
    /// the wait, and the owner looks at whatever wakes stand for (its mailbox) before it begins the next one. A wait that was
    /// begun may be begun again, to submit what was posted since. Never blocks.
    pub fn begin_wait(&self) -> bool {
        on_driver!(&mut *self.0.driver.borrow_mut(), d => d.begin_wait())
    }

    /// Wakes this ring from any thread.
    pub fn waker(&self) -> RingWaker {
        self.0.waker.clone()
    }

    fn own(&self, file: &RingFile) -> RingFile {
        assert!(file.is_of(&self.0), "a file is used on the ring that it was made known to");
        file.clone()
    }

    fn post(&self, queue: &Queue, slot: Slot, memory: Memory, action: Action, bytes: usize) -> Pending {
        assert!(u32::try_from(bytes).is_ok(), "an operation moves less than 4 GiB");
        let (id, pending) = queue.post(slot, memory);
        let request = Request::new(queue.clone(), id, action, bytes);
        on_driver!(&mut *self.0.driver.borrow_mut(), d => d.submit(request));
        pending
    }

    fn finish(&self, drive: impl FnOnce(&mut Driver, &mut Finished)) -> usize {
        let mut finished = self.0.finished.take();
        drive(&mut self.0.driver.borrow_mut(), &mut finished);
        let answered = finished.settle();
        self.0.finished.set(finished);
        answered
    }
}

/// For `tcp`.
impl Ring {
    /// Flags for a socket of this ring.
    pub(crate) fn socket_flags(&self) -> SocketFlags {
        socket::socket_flags(matches!(&*self.0.driver.borrow(), Driver::Uring(_)))
    }

    /// Makes a socket known to this ring; made with [`Ring::socket_flags`].
    pub(crate) fn socket(&self, fd: OwnedFd) -> Rc<Socket> {
        Rc::new(Socket::new(fd))
    }

    /// Lets go of a socket that no operation uses and nobody else has.
    ///
    /// # Errors
    /// With the socket, which is in use: bytes of a send without a copy may still be the network's.
    pub(crate) fn release(&self, socket: Rc<Socket>) -> Result<OwnedFd, Rc<Socket>> {
        let socket = Rc::try_unwrap(socket)?;
        if let Driver::Portable(portable) = &mut *self.0.driver.borrow_mut() {
            portable.forget_socket(&socket);
        }
        Ok(socket.into_fd())
    }

    /// Accepts one connection; it is then with the listener ([`Socket::take_accepted`]).
    pub(crate) fn accept(&self, slot: Slot, listener: &Rc<Socket>) -> Pending {
        let action = Action::Accept { listener: listener.clone() };
        self.post(&self.0.sockets, slot, Memory::None, action, 0)
    }

    pub(crate) fn connect(&self, slot: Slot, socket: &Rc<Socket>, address: SocketAddrAny) -> Pending {
        let action = Action::Connect { socket: socket.clone(), address: Box::new(address) };
        self.post(&self.0.sockets, slot, Memory::None, action, 0)
    }

    /// Receives 1 to `bytes` bytes into the lease, from its byte `at`; completes with the count, 0 for the end.
    pub(crate) fn receive(
        &self,
        slot: Slot,
        socket: &Rc<Socket>,
        lease: BufferLease,
        at: usize,
        bytes: usize,
    ) -> Pending {
        let room = lease.capacity().checked_sub(at);
        assert!(room.is_some_and(|room| bytes <= room), "{bytes} bytes at {at} of {}", lease.capacity());
        let action = Action::Receive { socket: socket.clone(), at };
        self.post(&self.0.sockets, slot, Memory::Lease(lease), action, bytes)
    }

    /// Sends all of it. Completes when the socket has taken the bytes; the pieces are dropped when the network has let
    /// go of them.
    pub(crate) fn send(&self, slot: Slot, socket: &Rc<Socket>, source: ScatterList) -> Pending {
        let bytes = source.bytes();
        let action = Action::Send { socket: socket.clone(), source };
        self.post(&self.0.sockets, slot, Memory::None, action, bytes)
    }
}

impl Shared {
    fn forget_file(&self, index: u32) {
        if let Driver::Uring(uring) = &mut *self.driver.borrow_mut() {
            uring.forget_file(index);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut finished = Finished::default();
        on_driver!(self.driver.get_mut(), d => d.close(&mut finished));
        finished.settle();
    }
}

impl Finished {
    /// Acts on everything; returns how many operations were answered.
    fn settle(&mut self) -> usize {
        self.spent.clear();
        let answered = self.answers.len();
        for (queue, id, result) in self.answers.drain(..) {
            queue.complete(id, result);
        }
        answered
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({})", self.describe())
    }
}
