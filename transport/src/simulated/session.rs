//! One session of the card: the operations of a queue pair, moved step by step.
//!
//! Invariants
//! * An operation is in the line exactly as long as it is in flight in the queue, and only the head of the line moves.
//! * A session that is broken moves nothing, and still takes its time to let go of memory.
//! * The line is not borrowed while an operation completes: that wakes somebody, who may come back here.

use super::{CAPABILITIES, SimulatedFaults};
use crate::{
    dice::Dice,
    loopback::LoopbackPeer,
    memory::{BufferLease, ScatterList},
    operation::{Memory, OperationId, Pending, Queue, Slot},
    remote::{Access, RemoteMemory, RemoteSlice, TransferError, assert_postable, unsupported},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

pub(super) struct Session {
    credits: Queue,
    peer: LoopbackPeer,
    notifies: bool,
    faults: SimulatedFaults,
    /// The card's.
    dice: Rc<Dice>,
    /// In flight, oldest first.
    line: RefCell<VecDeque<Operation>>,
    /// Polls before the next step.
    wait: Cell<u32>,
    broken: Cell<bool>,
    /// No poll comes any more.
    closed: Cell<bool>,
    used: Cell<bool>,
}

#[derive(Clone, Copy)]
struct Operation {
    id: OperationId,
    access: Access,
    remote: RemoteSlice,
    /// What the peer is told behind it.
    notice: Option<u32>,
    /// Bytes that have arrived. None before the first step.
    moved: Option<u64>,
    /// Steps that were lost in a row.
    lost: u32,
    cancelled: bool,
}

impl Session {
    pub(super) fn new(
        peer: LoopbackPeer,
        notifies: bool,
        credits: usize,
        faults: SimulatedFaults,
        dice: Rc<Dice>,
    ) -> Rc<Session> {
        let session = Rc::new(Session {
            credits: Queue::new(credits),
            peer,
            notifies,
            faults,
            dice,
            line: RefCell::default(),
            wait: Cell::new(0),
            broken: Cell::new(false),
            closed: Cell::new(false),
            used: Cell::new(true),
        });
        let weak = Rc::downgrade(&session);
        session.credits.on_cancel(Rc::new(move |id| {
            let Some(session) = weak.upgrade() else { return };
            let mut line = session.line.borrow_mut();
            if let Some(operation) = line.iter_mut().find(|operation| operation.id == id) {
                operation.cancelled = true;
            }
        }));
        session
    }

    /// Nothing new moves; what is in flight is flushed by later polls.
    pub(super) fn break_off(&self) {
        self.broken.set(true);
    }

    /// Flushes everything now: there are no polls any more.
    pub(super) fn close(&self) {
        self.break_off();
        self.closed.set(true);
        loop {
            let Some(operation) = self.line.borrow_mut().pop_front() else { break };
            self.credits.complete(operation.id, Err(TransferError::Ended.into()));
        }
    }

    pub(super) fn is_drained(&self) -> bool {
        self.line.borrow().is_empty()
    }

    pub(super) fn take_used(&self) -> bool {
        self.used.replace(false) || self.credits.in_flight() > 0
    }

    /// One poll's worth. Returns how many operations it completed.
    pub(super) fn step(&self) -> usize {
        let Some(mut head) = self.line.borrow().front().copied() else { return 0 };
        if let Some(left) = self.wait.get().checked_sub(1) {
            self.wait.set(left);
            return 0;
        }
        self.wait.set(self.dice.draw(self.faults.delay_polls_max + 1));
        let Some(result) = self.advance(&mut head) else {
            // Cancelled or not since it was copied, it is the same operation.
            if let Some(kept) = self.line.borrow_mut().front_mut() {
                *kept = Operation { cancelled: kept.cancelled, ..head };
            }
            return 0;
        };
        if result.is_err_and(|error| error != TransferError::Cancelled) {
            self.broken.set(true);
        }
        self.line.borrow_mut().pop_front();
        self.credits.complete(head.id, result.map_err(Into::into));
        1
    }

    /// Moves the head on. Its result, once it is done.
    fn advance(&self, head: &mut Operation) -> Option<Result<u32, TransferError>> {
        if self.broken.get() {
            return Some(Err(TransferError::Ended));
        }
        let total = head.remote.bytes();
        let moved = match head.moved {
            None if head.cancelled => return Some(Err(TransferError::Cancelled)),
            None => {
                if let Err(error) = self.peer.check(&head.remote, head.access) {
                    return Some(Err(error));
                }
                head.moved = Some(0);
                0
            }
            Some(moved) => moved,
        };
        if moved == total {
            return Some(self.finish(head));
        }
        if self.dice.happens(self.faults.disconnect_per_1024) {
            return Some(Err(TransferError::Ended));
        }
        if self.peer.is_silent() || self.dice.happens(self.faults.drop_per_1024) {
            head.lost += 1;
            // As a card does, longer each time.
            self.wait.set(self.wait.get() + (1 << head.lost.min(6)));
            let given_up = head.lost > self.faults.retries_max;
            return given_up.then_some(Err(TransferError::TimedOut));
        }
        head.lost = 0;
        let step = 1 + u64::from(self.dice.draw(self.faults.step_bytes_max));
        let end = total.min(moved + step);
        if let Err(error) = self.transfer(head, moved, end) {
            return Some(Err(error));
        }
        head.moved = Some(end);
        // Its completion is one more step, which comes late like the others.
        None
    }

    fn finish(&self, head: &Operation) -> Result<u32, TransferError> {
        head.notice.map_or(Ok(()), |notice| self.peer.notify(notice))?;
        let bytes = head.remote.bytes() as usize;
        self.credits.with_memory(head.id, |memory| {
            if let Memory::Lease(target) = memory {
                target.set_len(target.len() + bytes);
            }
        });
        // At most `operation_bytes_max`, asserted at the post.
        Ok(bytes as u32)
    }

    /// Moves bytes `start..end` of an operation.
    fn transfer(&self, head: &Operation, start: u64, end: u64) -> Result<(), TransferError> {
        let remote = head.remote.slice(start..end).ok_or(TransferError::Refused)?;
        let (start, end) = (start as usize, end as usize);
        self.credits.with_memory(head.id, |memory| match memory {
            Memory::Lease(target) => {
                let before = target.len();
                self.peer.read(&remote, &mut target.full_mut()[before + start..before + end])
            }
            Memory::Scatter(source) => {
                let mut at = 0;
                let parts = source.pieces().iter().filter_map(|piece| {
                    let from = start.saturating_sub(at).min(piece.len());
                    let to = end.saturating_sub(at).min(piece.len());
                    at += piece.len();
                    piece.get(from..to)
                });
                self.peer.write(parts, &remote)
            }
            Memory::None | Memory::Targets(_) => unreachable!("every operation here moves payload"),
        })
    }

    fn post(&self, slot: Slot, access: Access, remote: RemoteSlice, memory: Memory) -> Pending {
        self.post_with_notice(slot, access, remote, memory, None)
    }

    fn post_with_notice(
        &self,
        slot: Slot,
        access: Access,
        remote: RemoteSlice,
        memory: Memory,
        notice: Option<u32>,
    ) -> Pending {
        self.used.set(true);
        let (id, pending) = self.credits.post(slot, memory);
        // Perhaps no poll gets here any more.
        if self.closed.get() || (!self.is_open() && self.is_drained()) {
            self.credits.complete(id, Err(TransferError::Ended.into()));
        } else {
            let operation = Operation { id, access, remote, notice, moved: None, lost: 0, cancelled: false };
            self.line.borrow_mut().push_back(operation);
        }
        pending
    }
}

impl RemoteMemory for Session {
    fn credits(&self) -> &Queue {
        &self.credits
    }

    fn read(&self, slot: Slot, source: RemoteSlice, target: BufferLease) -> Pending {
        let room = target.capacity() - target.len();
        assert_postable(&CAPABILITIES, source.bytes(), room as u64, 1);
        self.post(slot, Access::Read, source, Memory::Lease(target))
    }

    fn write(&self, slot: Slot, source: ScatterList, target: RemoteSlice) -> Pending {
        let bytes = source.bytes() as u64;
        assert_postable(&CAPABILITIES, bytes, target.bytes(), source.pieces().len());
        let target = target.slice(0..bytes).expect("asserted to fit");
        self.post(slot, Access::Write, target, Memory::Scatter(source))
    }

    fn notifies(&self) -> bool {
        self.notifies
    }

    fn write_notify(&self, slot: Slot, source: ScatterList, target: RemoteSlice, notice: u32) -> Pending {
        if !self.notifies {
            return unsupported(&self.credits, slot, Memory::Scatter(source));
        }
        let bytes = source.bytes() as u64;
        assert_postable(&CAPABILITIES, bytes, target.bytes(), source.pieces().len());
        let target = target.slice(0..bytes).expect("asserted to fit");
        self.post_with_notice(slot, Access::Write, target, Memory::Scatter(source), Some(notice))
    }

    fn flush(&self) {
        // What was posted is the card's already.
    }

    fn is_open(&self) -> bool {
        !self.broken.get() && !self.peer.is_gone()
    }
}
