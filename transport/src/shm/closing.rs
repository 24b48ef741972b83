//! Letting go of what a client had a hand in, where it may take as long as it likes: not on a core.
//!
//! close(2) is not always quick. The last close of a TCP socket with `SO_LINGER` waits for the time that its owner set
//! (<https://man7.org/linux/man-pages/man7/socket.7.html>), also where the socket does not block; that of a file waits for the file system it is
//! of, which may be a process of the client's (FUSE). A descriptor that was sent and is still unread in a Unix socket is closed
//! with that socket. And memory is unmapped page by page: half a millisecond for each 24 MiB of small pages.
//!
//! ```text
//!   core ── Parcel ──► queue ──► one of at most THREADS_MAX threads, which ends when the queue is empty
//! ```
//!
//! A client may keep a thread for ever. Then the others go on, and when all are kept so, clients are not accepted any more
//! ([`Closer::is_full`]): those who have a session keep it.

use super::windows::Region;
use std::{
    collections::VecDeque,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

/// So many closes may go on at a time.
const THREADS_MAX: usize = 4;

/// So many may wait for those before nobody is accepted: each is a descriptor of this process.
const WAITING_MAX: usize = 32;

/// What a core unmaps itself: a third of a millisecond.
const UNMAPPED_HERE_BYTES: usize = 16 << 20;

/// Closes what it is given on threads of its own. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Closer(Arc<Mutex<Work>>);

#[derive(Default)]
struct Work {
    waiting: VecDeque<Parcel>,
    threads: usize,
}

/// What is to be dropped.
enum Parcel {
    Descriptor { _closed: OwnedFd },
    Memory { _unmapped: Arc<Region> },
}

/// A descriptor whose close may take long. Dropped, it is closed by the [`Closer`].
pub(super) struct ClientDescriptor {
    /// None only while it is dropped.
    descriptor: Option<OwnedFd>,
    closer: Closer,
}

impl Closer {
    /// A descriptor that a client had a hand in.
    pub(super) fn guard(&self, descriptor: OwnedFd) -> ClientDescriptor {
        ClientDescriptor { descriptor: Some(descriptor), closer: self.clone() }
    }

    /// Lets go of memory, which is unmapped there if nobody else has it; here if it is little, so that its place is free at once.
    pub(super) fn unmap(&self, memory: Arc<Region>) {
        if memory.mapping.bytes() > UNMAPPED_HERE_BYTES {
            self.drop_later(Parcel::Memory { _unmapped: memory });
        }
    }

    /// Whether so much waits that nothing more should be let in.
    pub(super) fn is_full(&self) -> bool {
        self.work().waiting.len() >= WAITING_MAX
    }

    fn drop_later(&self, parcel: Parcel) {
        let mut work = self.work();
        work.waiting.push_back(parcel);
        if work.threads == THREADS_MAX {
            return;
        }
        let closer = self.clone();
        let started = std::thread::Builder::new().name("crossdock-close".into()).spawn(move || closer.run());
        match started {
            Ok(_) => work.threads += 1,
            // It waits for the next, or for a thread that is there.
            Err(error) => tracing::warn!(%error, "shared memory: no thread to close a client's descriptor"),
        }
    }

    fn run(&self) {
        loop {
            let parcel = {
                let mut work = self.work();
                let Some(parcel) = work.waiting.pop_front() else {
                    work.threads -= 1;
                    return;
                };
                parcel
            };
            drop(parcel);
        }
    }

    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        // Nothing panics while it is locked; what is there is whole all the same.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientDescriptor {
    /// It turned out to be one that is closed at once, such as a memory file.
    pub(super) fn into_trusted(mut self) -> OwnedFd {
        self.descriptor.take().expect("it is there until it is dropped")
    }
}

impl AsFd for ClientDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect("it is there until it is dropped").as_fd()
    }
}

impl Drop for ClientDescriptor {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            self.closer.drop_later(Parcel::Descriptor { _closed: descriptor });
        }
    }
}
