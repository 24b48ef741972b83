//! Receives of one session: leases that the peer's messages fill, in the order in which both were posted.
//!
//! Invariants
//! * A receive is in the line exactly as long as it is in flight in the queue, and leaves it at the front only.
//! * The memory of a receive that was posted stays in the queue's table until its completion or the end of the queue pair.
//! * Nothing is borrowed while a receive completes.

#![allow(unsafe_code)]

use super::{
    verbs::{Completed, QueuePair, WorkStatus},
    work::Piece,
};
use crate::{
    memory::BufferLease,
    operation::{Memory, OperationId, OsError, Pending, Queue, Slot},
    remote::TransferError,
};
use std::{cell::RefCell, collections::VecDeque, ffi::c_int};

/// Marks the numbers of receives, which are of another queue than what is sent.
pub(super) const RECEIVE: u64 = 1 << 63;

/// Receives of one session that may be posted.
pub(super) const INBOX_DEPTH: usize = 16;

pub(super) struct Inbox {
    queue: Queue,
    line: RefCell<VecDeque<Receive>>,
}

struct Receive {
    id: OperationId,
    posted: bool,
    cancelled: bool,
    result: Option<Result<u32, TransferError>>,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { queue: Queue::new(INBOX_DEPTH), line: RefCell::default() }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) fn enter(&self, slot: Slot, target: BufferLease) -> Pending {
        let (id, pending) = self.queue.post(slot, Memory::Lease(target));
        self.line.borrow_mut().push_back(Receive { id, posted: false, cancelled: false, result: None });
        pending
    }

    /// It is not wanted any more. One that is in the device stays there, and so does its lease.
    pub(super) fn abandon(&self, id: OperationId) {
        let mut line = self.line.borrow_mut();
        line.iter_mut().filter(|receive| receive.id == id).for_each(|receive| receive.cancelled = true);
    }

    /// Ends what is not wanted any more and was not posted.
    pub(super) fn heed_cancelled(&self) {
        let mut line = self.line.borrow_mut();
        line.iter_mut().filter(|receive| receive.is_waiting() && receive.cancelled).for_each(Receive::cancel);
    }

    /// Posts what is not posted. The line goes round in the numbers of the queue's own operations.
    ///
    /// # Errors
    /// The error number that one was refused with.
    pub(super) fn ring(&self, pair: &QueuePair, place: u32, arena_key: u32) -> Result<(), c_int> {
        self.heed_cancelled();
        for receive in self.line.borrow_mut().iter_mut().filter(|receive| receive.is_waiting()) {
            let piece = self.queue.with_memory(receive.id, |memory| {
                let Memory::Lease(target) = memory else { unreachable!("receives have leases") };
                let room = target.capacity() - target.len();
                let start = target.as_ptr().wrapping_add(target.len());
                // A lease is at most some megabytes.
                Piece { address: start.addr() as u64, bytes: room as u32, local_key: arena_key }
            });
            let id = RECEIVE | u64::from(place) << 32;
            // SAFETY: the lease is in the queue's table, where nobody borrows it, until `settle` takes the receive out of the line, which
            // is after its completion or the end of the queue pair. It lies in the arena, whose region the device keeps.
            unsafe { pair.post_receive(id, Some(piece)) }?;
            receive.posted = true;
        }
        Ok(())
    }

    /// Takes notice of a completion: of the oldest receive in the device, since they are used in their order. False if the queue pair
    /// is in error.
    pub(super) fn completed(&self, entry: &Completed) -> bool {
        let mut line = self.line.borrow_mut();
        // A device that invents completions is not believed.
        let Some(oldest) = line.iter_mut().find(|receive| receive.is_in_device()) else { return true };
        let result = match entry.status {
            WorkStatus::Done => self.queue.with_memory(oldest.id, |memory| {
                let Memory::Lease(target) = memory else { unreachable!("receives have leases") };
                let len = target.len() + entry.bytes as usize;
                if len > target.capacity() {
                    return Err(TransferError::Device(OsError(libc::EIO)));
                }
                target.set_len(len);
                Ok(entry.bytes)
            }),
            WorkStatus::Flushed => Err(TransferError::Ended),
            // Soft-RoCE (Linux 6.12) has another number for it, which stands for anything.
            WorkStatus::TooLong => Err(TransferError::Device(OsError(libc::EMSGSIZE))),
            _ => Err(TransferError::Device(OsError(libc::EIO))),
        };
        oldest.result = Some(result);
        result.is_ok()
    }

    pub(super) fn is_in_device(&self) -> bool {
        self.line.borrow().iter().any(Receive::is_in_device)
    }

    /// The session ended: what is not posted will not be.
    pub(super) fn end(&self) {
        let mut line = self.line.borrow_mut();
        line.iter_mut().filter(|receive| receive.is_waiting()).for_each(Receive::fail);
    }

    /// The queue pair is gone, and with it whatever was in it.
    pub(super) fn pair_is_gone(&self) {
        let mut line = self.line.borrow_mut();
        line.iter_mut().filter(|receive| receive.result.is_none()).for_each(Receive::fail);
    }

    /// The queue pair can not be ended: the device may write those leases for ever. They are not completed.
    pub(super) fn pair_is_leaked(&self) {
        self.line.borrow_mut().retain(|receive| !receive.is_in_device());
        self.end();
    }

    /// Completes what is done, from the front of the line.
    pub(super) fn settle(&self) -> usize {
        let mut completed = 0;
        while let Some((id, result)) = self.take_settled() {
            self.queue.complete(id, result.map_err(Into::into));
            completed += 1;
        }
        completed
    }

    fn take_settled(&self) -> Option<(OperationId, Result<u32, TransferError>)> {
        let mut line = self.line.borrow_mut();
        let result = line.front()?.result?;
        line.pop_front().map(|receive| (receive.id, result))
    }

    pub(super) fn has_settled(&self) -> bool {
        self.line.borrow().front().is_some_and(|receive| receive.result.is_some())
    }
}

impl Receive {
    fn is_waiting(&self) -> bool {
        !self.posted && self.result.is_none()
    }

    fn is_in_device(&self) -> bool {
        self.posted && self.result.is_none()
    }

    fn cancel(&mut self) {
        self.result = Some(Err(TransferError::Cancelled));
    }

    fn fail(&mut self) {
        self.result = Some(Err(TransferError::Ended));
    }
}
