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
//! * Nothing is posted after the deadline, nor after the first failure, and neither function returns before all it posted has
//!   completed: whoever answers the peer then knows that no byte moves any more. Bringing the deadline forward
//!   ([`Until::end`]) ends them early, and they still say when no byte moves.
//! * Dropping their futures cancels what has not begun; what has goes on, with memory of its own. Both take the operation with
//!   them, so that none is used of which nobody knows how far it came.

use super::{CHUNK_BYTES, WINDOW, get::Get, put::Put, until::Until};
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
use std::collections::VecDeque;

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
    /// The deadline passed before everything was posted.
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
        let mut writes = Window::default();
        let posted = self.post_writes(session, target, until, &mut writes).await;
        if self.straight.take().is_some() {
            self.settle().await;
        }
        let ended = writes.drain().await;
        let delivered = posted?;
        ended?;
        Ok(delivered)
    }

    async fn post_writes(
        &mut self,
        session: &dyn RemoteMemory,
        target: RemoteSlice,
        until: &Until,
        writes: &mut Window,
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
    /// See [`RemoteError`]; nothing is stored. `WrongSize` if the body's declared size is another.
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
        let want = self.declared_left().unwrap_or(source.bytes());
        if want != source.bytes() {
            return Err(RemoteError::WrongSize { have: source.bytes(), want });
        }
        let mut reads = Window::default();
        let taken = self.take_reads(session, source, until, &mut reads, &mut look).await;
        let ended = reads.drain().await;
        taken?;
        ended?;
        Ok(self)
    }

    async fn take_reads(
        &mut self,
        session: &dyn RemoteMemory,
        source: RemoteSlice,
        until: &Until,
        reads: &mut Window,
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), RemoteError> {
        let (mut asked, mut taken) = (0, 0);
        while taken < source.bytes() {
            // Reads ahead share the operation's memory with what is being written.
            let room = |ahead: usize, put: &Put| ahead == 0 || ahead + put.buffers_in_flight() < WINDOW;
            while asked < source.bytes() && room(reads.len(), self) {
                let bytes = (source.bytes() - asked).min(CHUNK_BYTES as u64);
                let padded = (bytes as usize).next_multiple_of(BLOCK_BYTES);
                // Only the first may wait for memory: it holds none then.
                let lease = match reads.len() + self.buffers_in_flight() {
                    0 => Some(self.engine().lease(padded, Resource::WriteMemory).await?),
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

/// Operations in flight on a session, oldest first, with the bytes that each must move.
#[derive(Default)]
struct Window(VecDeque<(Pending, u64)>);

impl Window {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn post(&mut self, pending: Pending, bytes: u64) {
        self.0.push_back((pending, bytes));
    }

    /// A credit for one more, once fewer than a window are in flight.
    async fn slot(
        &mut self,
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
    async fn next(&mut self) -> Option<Result<Completion, RemoteError>> {
        // Taken out only once it is done: a caller that goes away while waiting must not lose track of it.
        let (pending, bytes) = self.0.front_mut()?;
        let (completion, bytes) = (pending.await, *bytes);
        self.0.pop_front();
        Some(match completion.result {
            Ok(moved) if u64::from(moved) == bytes => Ok(completion),
            Ok(_) => Err(TransferError::Ended.into()),
            Err(error) => Err(TransferError::from(error).into()),
        })
    }

    /// Waits for all; the first failure, if there is one.
    async fn drain(&mut self) -> Result<(), RemoteError> {
        let mut result = Ok(());
        while let Some(completion) = self.next().await {
            result = result.and(completion.map(drop));
        }
        result
    }
}
