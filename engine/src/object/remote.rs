//! Objects to and from memory of somebody else: the same objects, over a session of a transport instead of in leases.
//!
//! ```text
//!   write_to    device ─► lease, verified ─► session.write ─► completion: the lease goes home        up to four at once
//!               device ─► the peer's memory, verified there: where that is mapped here ([`straight`](super::straight))
//!   read_from   session.read ─► lease ─► looked at by the caller ─► push: checksum, device           up to four at once
//! ```
//!
//! Invariants
//! * The leases that a transport moves are those that the device filled or takes: no byte is copied here.
//! * While a device may fill the peer's memory a lease on it is held, also when the future is dropped.
//! * Nothing is posted after the deadline, nor after the first failure; what was posted before and waits in its session, for room or for a
//!   connection, is cancelled then, in the turn of the core's loop that finds the deadline past. Neither function returns before all it
//!   posted has completed: whoever answers the peer then knows that no byte moves any more. Bringing the deadline forward
//!   ([`Until::end`]) ends them early, and they still say when no byte moves.
//! * Dropping their futures cancels what has not begun; what has goes on, with memory of its own. Both take the operation with
//!   them, so that none is used of which nobody knows how far it came.

use super::{
    CHUNK_BYTES, WINDOW,
    get::Get,
    put::{NOT_FILLED, Put},
    until::{TransferProgress, Until},
};
use crate::{
    error::{Error, Resource},
    layout::{BLOCK_BYTES, checksum_combine},
    reactor::{Core, yield_once},
};
use crossdock_transport::{
    memory::ScatterList,
    operation::{Completion, Pending, Slot},
    remote::{RemoteMemory, RemoteSlice, TransferError},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Poll, ready},
};

/// Bytes the caller looks at before other tasks run.
const LOOK_BYTES: usize = 64 * 1024;

/// What was written to a peer's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// How many bytes, from the front of its slice.
    pub bytes: u64,
    /// CRC-64/NVME of them: of what was read and verified, combined from the stored checksums of whole blocks.
    pub crc64: u64,
}

/// Why an object did not go to a peer's memory, or come from there.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The peer's slice is shorter than what is to be moved, or longer than what was announced. Nothing was moved.
    #[error("the peer's memory has {have} bytes where {want} are to be moved")]
    WrongSize {
        /// Bytes of the peer's slice.
        have: u64,
        /// Bytes to be moved.
        want: u64,
    },
    /// The deadline passed before everything had begun.
    #[error("the deadline passed")]
    Late,
    /// The transport failed. How many bytes arrived is unknown.
    #[error("the transfer failed: {0}")]
    Transfer(#[from] TransferError),
    /// The object could not be read or written.
    #[error(transparent)]
    Object(#[from] Error),
}

impl Get {
    /// Writes what is left of the selected bytes to the front of `target`, which the peer exposes to be written, and resolves
    /// when the last of it has arrived there. No byte leaves that was not verified, none goes past the object's. A peer that asked for
    /// notices gets one behind the last byte, with the number of the slice's key; if there is no byte, it gets none.
    ///
    /// # Errors
    /// See [`RemoteError`]; after any but `WrongSize` an unknown part of the bytes may have arrived.
    ///
    /// # Cancellation
    /// Dropping the future begins nothing more. What is in flight goes on, with memory of its own, and nobody is told when it
    /// has ended: where that matters, end `until` instead and wait.
    ///
    /// # Examples
    /// A `Get` is used up by it, because after a failure, or a future that was dropped, nobody knows how far it came:
    /// ```compile_fail,E0382
    /// use crossdock::{Get, Until};
    /// use crossdock_transport::remote::{RemoteMemory, RemoteSlice};
    /// async fn wrong(get: Get, session: &dyn RemoteMemory, target: RemoteSlice, until: Until) {
    ///     drop(get.write_to(session, target, &until));
    ///     get.write_to(session, target, &until).await.unwrap(); // of which byte on?
    /// }
    /// ```
    pub async fn write_to(
        mut self,
        session: &dyn RemoteMemory,
        target: RemoteSlice,
        until: &Until,
    ) -> Result<Delivered, RemoteError> {
        let want = self.left();
        if target.bytes() < want {
            return Err(RemoteError::WrongSize { have: target.bytes(), want });
        }
        self.with_checksums = true;
        // Where the transport has none the bytes go through leases.
        let target_left = target.slice(0..want).filter(|_| self.device_fills());
        let lease = target_left.and_then(|target| session.peer_lease(&target).ok());
        self.straight = lease.filter(|lease| !lease.has_small_pages());
        self.straight_until = Some(until.clone());
        let (writes, core) = (Window::default(), self.engine().core().clone());
        let transfer = async {
            let posted = self.post_writes(session, target, until, &writes).await;
            if posted.is_err() {
                writes.cancel();
            }
            if self.straight.take().is_some() {
                self.settle().await;
            }
            let ended = writes.drain().await;
            posted.and_then(|delivered| ended.map(|()| delivered))
        };
        writes.watch(&core, until, transfer).await
    }

    async fn post_writes(
        &mut self,
        session: &dyn RemoteMemory,
        target: RemoteSlice,
        until: &Until,
        writes: &Window,
    ) -> Result<Delivered, RemoteError> {
        let want = self.left();
        let mut delivered = Delivered { bytes: 0, crc64: 0 };
        loop {
            if self.straight.is_some() && until.has_come(self.engine().core()) {
                return Err(RemoteError::Late);
            }
            let Some(chunk) = self.next_chunk().await else { break };
            let chunk = chunk?;
            let bytes = chunk.bytes();
            if let Some(lease) = chunk.lease {
                let slot = writes.slot(session, self.engine().core(), until).await?;
                let place = delivered.bytes + chunk.straight..delivered.bytes + bytes;
                let (count, place) = (lease.len() as u64, target.slice(place).expect("no longer than asked"));
                let source = ScatterList::from(lease);
                // The reply takes another way than the bytes, and may be there first: who asked for it is told by the last of them.
                let pending = match delivered.bytes + bytes == want && session.notifies() {
                    true => session.write_notify(slot, source, place, target.key().0),
                    false => session.write(slot, source, place),
                };
                writes.post(pending, count);
                session.flush();
            }
            delivered.crc64 = match delivered.bytes {
                0 => chunk.crc64,
                _ => checksum_combine(delivered.crc64, chunk.crc64, bytes),
            };
            delivered.bytes += bytes;
        }
        Ok(delivered)
    }
}

impl Put {
    /// Takes the rest of the body from `source`, which the peer exposes to be read. Each byte is read once, and the bytes that
    /// `look` is shown, in order and in pieces, are those that are stored.
    ///
    /// # Errors
    /// See [`RemoteError`]; nothing is stored. `WrongSize` if the body's declared size is another. As [`Put::push`] if something was
    /// written before that does not fill a buffer.
    ///
    /// # Cancellation
    /// As for [`Get::write_to`]: the `Put` goes with the future, and nothing is stored.
    pub async fn read_from(
        mut self,
        session: &dyn RemoteMemory,
        source: RemoteSlice,
        until: &Until,
        mut look: impl FnMut(&[u8]),
    ) -> Result<Put, RemoteError> {
        if !self.is_between_buffers() {
            return Err(NOT_FILLED.into());
        }
        let want = self.declared_left().unwrap_or(source.bytes());
        if want != source.bytes() {
            return Err(RemoteError::WrongSize { have: source.bytes(), want });
        }
        let (reads, core) = (Window::default(), self.engine().core().clone());
        let transfer = async {
            let taken = self.take_reads(session, source, until, &reads, &mut look).await;
            if taken.is_err() {
                reads.cancel();
            }
            let ended = reads.drain().await;
            taken.and(ended)
        };
        reads.watch(&core, until, transfer).await?;
        Ok(self)
    }

    async fn take_reads(
        &mut self,
        session: &dyn RemoteMemory,
        source: RemoteSlice,
        until: &Until,
        reads: &Window,
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), RemoteError> {
        let (mut asked, mut taken) = (0, 0);
        while taken < source.bytes() {
            // Reads ahead share the operation's memory with what is being written.
            let room = |ahead: usize, put: &Put| ahead == 0 || ahead + put.buffers_in_flight() < WINDOW;
            while asked < source.bytes() && room(reads.len(), self) {
                let bytes = (source.bytes() - asked).min(CHUNK_BYTES as u64);
                let padded = (bytes as usize).next_multiple_of(BLOCK_BYTES);
                // Only the first may wait for memory: it holds none then. No longer than there is a use for it.
                let lease = match reads.len() + self.buffers_in_flight() {
                    0 => {
                        let lease = self.engine().lease(padded, Resource::WriteMemory);
                        Some(until.limit(self.engine().core(), lease).await.ok_or(RemoteError::Late)??)
                    }
                    _ => self.engine().core().pool().try_acquire(padded),
                };
                let Some(mut lease) = lease else { break };
                lease.set_len(0);
                let slot = reads.slot(session, self.engine().core(), until).await?;
                let place = source.slice(asked..asked + bytes).expect("inside");
                reads.post(session.read(slot, place, lease), bytes);
                session.flush();
                asked += bytes;
            }
            let Some(completion) = reads.next().await else {
                // No memory for a read beside the writes: one of them must end first.
                self.wait_for_write().await;
                continue;
            };
            let (_, lease) = completion?.into_lease();
            taken += lease.len() as u64;
            for (index, piece) in lease.as_slice().chunks(LOOK_BYTES).enumerate() {
                if index > 0 {
                    yield_once().await;
                }
                look(piece);
            }
            self.push(lease).await?;
        }
        Ok(())
    }
}

/// Operations on a session of which the completions were not taken, oldest first, with the bytes that each must move.
#[derive(Default)]
struct Window {
    line: RefCell<VecDeque<(Pending, u64)>>,
    /// How many were ever posted.
    posted: Cell<u64>,
}

impl Window {
    fn len(&self) -> usize {
        self.line.borrow().len()
    }

    fn post(&self, pending: Pending, bytes: u64) {
        self.line.borrow_mut().push_back((pending, bytes));
        self.posted.set(self.posted.get() + 1);
    }

    /// What has not begun never will. All complete as before.
    fn cancel(&self) {
        self.line.borrow().iter().for_each(|(pending, _)| pending.cancel());
    }

    fn progress(&self) -> TransferProgress {
        let in_flight = self.line.borrow().iter().filter(|(pending, _)| pending.is_in_flight()).count();
        TransferProgress { in_flight, completed: self.posted.get() - in_flight as u64 }
    }

    /// Waits for the transfer whose operations these are. Those that have not begun when its deadline comes are cancelled, whatever the
    /// transfer itself waits for then: a disk, say.
    async fn watch<T>(&self, core: &Core, until: &Until, transfer: impl Future<Output = T>) -> T {
        let (mut transfer, mut come) = (pin!(transfer), pin!(until.come(core)));
        let (mut told, mut has_come) = (Told { until, progress: TransferProgress::default() }, false);
        poll_fn(|cx| {
            let polled = transfer.as_mut().poll(cx);
            told.tell(self.progress());
            if polled.is_ready() {
                return polled;
            }
            // No timer for those whose operations are done as they are posted. After the deadline none is posted.
            if !has_come && self.len() > 0 && come.as_mut().poll(cx).is_ready() {
                has_come = true;
                self.cancel();
            }
            Poll::Pending
        })
        .await
    }

    /// A credit for one more, once fewer than a window are in flight.
    async fn slot(
        &self,
        session: &dyn RemoteMemory,
        core: &Core,
        until: &Until,
    ) -> Result<Slot, RemoteError> {
        while self.len() >= WINDOW {
            if let Some(completion) = self.next().await {
                completion?;
            }
        }
        let slot = until.limit(core, session.credits().slot()).await;
        slot.filter(|_| !until.has_come(core)).ok_or(RemoteError::Late)
    }

    /// The oldest, once it is complete.
    async fn next(&self) -> Option<Result<Completion, RemoteError>> {
        // Taken out only once it is done: a caller that goes away while waiting must not lose track of it.
        let (completion, bytes) = poll_fn(|cx| {
            let mut all = self.line.borrow_mut();
            let Some((pending, bytes)) = all.front_mut() else { return Poll::Ready(None) };
            let done = (ready!(Pin::new(pending).poll(cx)), *bytes);
            all.pop_front();
            Poll::Ready(Some(done))
        })
        .await?;
        Some(match completion.result.map_err(TransferError::from) {
            Ok(moved) if u64::from(moved) == bytes => Ok(completion),
            Ok(_) => Err(TransferError::Ended.into()),
            // By the deadline, or because of another's failure, which is told instead.
            Err(TransferError::Cancelled) => Err(RemoteError::Late),
            Err(error) => Err(error.into()),
        })
    }

    /// Waits for all; the first failure, if there is one.
    async fn drain(&self) -> Result<(), RemoteError> {
        let mut result = Ok(());
        while let Some(completion) = self.next().await {
            result = result.and(completion.map(drop));
        }
        result
    }
}

/// What was said of one transfer's progress.
struct Told<'a> {
    until: &'a Until,
    progress: TransferProgress,
}

impl Told<'_> {
    fn tell(&mut self, progress: TransferProgress) {
        self.until.note_progress(self.progress, progress);
        self.progress = progress;
    }
}

impl Drop for Told<'_> {
    /// Nobody waits any more for what a dropped future leaves in the session.
    fn drop(&mut self) {
        self.tell(TransferProgress { in_flight: 0, ..self.progress });
    }
}
