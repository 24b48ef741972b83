//! One client's session: a queue pair, and the operations on it.
//!
//! ```text
//!   post ──► line:  [ posted │ posted in part │ waits … ]        work requests are numbered as they are posted
//!                      ▲            │ as room comes back
//!    completions in ───┘            ▼
//!    their order          one post for all that is due: one doorbell
//! ```
//!
//! Invariants
//! * An operation is in the line exactly as long as it is in flight in the queue, and leaves it at the front only.
//! * The memory of an operation of which something was posted stays in the queue's table until the device is known to be done with
//!   it: by the completion of its last work request, of a later one, or by the end of the queue pair, which comes a few seconds after the
//!   session's at the latest.
//! * The last work request of an operation is signalled, and every fourth. A session that ends posts one more behind
//!   everything, which comes back when the device is done with all of it. It says nothing of those before it: an operation succeeds
//!   only with a completion of its own, or a later successful one.
//! * Of an operation that is cancelled nothing is posted any more but, behind what is in the device, a request that moves nothing: its
//!   completion says that the device is done with the memory.
//! * Nothing is borrowed while an operation completes: that wakes somebody, who may come back here.

#![allow(unsafe_code)]

use super::{
    endpoint::Inner,
    error::RdmaError,
    inbox::Inbox,
    verbs::{Completed, QueuePair, WorkStatus},
    work::{Batch, Piece, Way},
};
use crate::{
    memory::{BufferLease, ScatterList},
    operation::{Memory, OperationId, OsError, Pending, Queue, Slot},
    remote::{
        Capabilities, RemoteKey, RemoteMemory, RemoteSlice, TransferError, assert_postable, assert_sendable,
        unsupported,
    },
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    mem,
    rc::{Rc, Weak},
    time::Duration,
};

/// How long a device may take to let go of what a session that ended has in it. A flush takes milliseconds.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What a session has to know of its rail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Its place among the endpoint's rails.
    pub(super) rail: usize,
    /// Work requests that may be posted and not done.
    pub(super) depth: u32,
    /// Pieces of one work request.
    pub(super) pieces_max: usize,
    /// Bytes of one work request.
    pub(super) message_bytes_max: u32,
    /// What the device knows the arena by.
    pub(super) arena_key: u32,
    /// The peer posts receives, to be told when bytes are there.
    pub(super) notifies: bool,
    /// Both sides send messages and receive them.
    pub(super) messages: bool,
}

pub(super) struct Session {
    terms: Terms,
    /// The name of its rail.
    rail_name: Rc<str>,
    capabilities: Capabilities,
    /// The number of its queue pair.
    number: u32,
    endpoint: Weak<Inner>,
    /// Itself, for the endpoint's list.
    own: Weak<Session>,
    /// Its place among those whose completions may come.
    place: Cell<u32>,
    credits: Queue,
    /// Where the peer's messages go, if there are any.
    inbox: Option<Inbox>,
    state: RefCell<State>,
    /// Whether it is in the endpoint's list of those to be run.
    due: Cell<bool>,
    /// Whether it was used since somebody last asked.
    used: Cell<bool>,
}

/// A session's queue pair.
enum Pair {
    /// Somebody connects it. Nothing was posted.
    Away,
    Here(QueuePair),
    /// Nothing of it can be in the device any more.
    Gone,
}

struct State {
    pair: Pair,
    /// Nothing new is posted.
    ended: bool,
    /// When it was first seen to have ended and to have something in the device still.
    draining_since: Option<Duration>,
    /// What operations come to of which nothing was posted when it ended.
    unposted: TransferError,
    /// The queue pair went before all its completions came: they may come still.
    stale: bool,
    line: VecDeque<Operation>,
    /// The number of the next work request, and of the first that is not known to be done. Numbers go round.
    next: u32,
    done: u32,
}

impl State {
    /// Fails the operations whose last work request is one of these numbers: from the first, up to the second.
    fn fail_between(&mut self, from: u32, to: u32) {
        let among = |last: u32| !precedes(last, from) && precedes(last, to);
        let lost = self.line.iter_mut().filter(|operation| operation.cursor.last.is_some_and(among));
        for operation in lost {
            operation.error.get_or_insert(TransferError::Ended);
        }
    }

    /// Whether one of the work requests that are not done will be told of.
    fn expects_completion(&self) -> bool {
        let count = self.next.wrapping_sub(self.done);
        let numbered = (0..count.min(SIGNALLED_EVERY)).any(|at| is_signalled(self.done.wrapping_add(at)));
        let ends = |operation: &Operation| {
            operation.cursor.complete && operation.cursor.last.is_some_and(|last| !precedes(last, self.done))
        };
        numbered || self.line.iter().any(ends)
    }
}

/// Of the work requests of a long operation every so many are signalled, or there would be no room again.
const SIGNALLED_EVERY: u32 = 4;

fn is_signalled(number: u32) -> bool {
    number % SIGNALLED_EVERY == SIGNALLED_EVERY - 1
}

struct Operation {
    id: OperationId,
    way: Way,
    remote: RemoteSlice,
    /// What the peer is told behind it.
    notice: Option<u32>,
    cursor: Cursor,
    error: Option<TransferError>,
    cancelled: bool,
}

impl Operation {
    /// If it was cancelled nothing more of it is posted; where nothing was, that is its end.
    fn heed_cancel(&mut self) {
        if self.cancelled && !self.cursor.complete {
            self.error.get_or_insert(TransferError::Cancelled);
            self.cursor.complete = self.cursor.last.is_none();
        }
    }
}

/// How far an operation has been posted.
#[derive(Clone, Copy, Default)]
struct Cursor {
    bytes: u64,
    /// The piece that is next, and how much of it has been posted.
    piece: usize,
    piece_bytes: usize,
    /// The number of its last work request.
    last: Option<u32>,
    /// There is nothing left to post.
    complete: bool,
}

/// What posts are made with; one for all sessions of an endpoint.
#[derive(Default)]
pub(super) struct Desk {
    batch: Batch,
    /// Of each request in the batch, whose it is, and how far that was before.
    before: Vec<(usize, Cursor)>,
}

/// `number` comes before `other`, where numbers go round and are never far apart.
fn precedes(number: u32, other: u32) -> bool {
    (number.wrapping_sub(other)).cast_signed() < 0
}

impl Session {
    /// The session of the queue pair of that number, which comes when it is connected.
    pub(super) fn new(
        terms: Terms,
        rail_name: Rc<str>,
        capabilities: Capabilities,
        endpoint: Weak<Inner>,
        number: u32,
        credits: usize,
    ) -> Rc<Session> {
        let state = State {
            pair: Pair::Away,
            ended: false,
            draining_since: None,
            unposted: TransferError::Ended,
            stale: false,
            line: VecDeque::new(),
            next: 0,
            done: 0,
        };
        let session = Rc::new_cyclic(|own: &Weak<Session>| Session {
            terms,
            rail_name,
            capabilities,
            number,
            endpoint,
            own: Weak::clone(own),
            place: Cell::new(0),
            credits: Queue::new(credits),
            inbox: terms.messages.then(Inbox::new),
            state: RefCell::new(state),
            due: Cell::new(false),
            used: Cell::new(true),
        });
        let weak = Rc::downgrade(&session);
        session.credits.on_cancel(Rc::new(move |id| {
            let Some(session) = weak.upgrade() else { return };
            let mut state = session.state.borrow_mut();
            let waiting =
                state.line.iter_mut().find(|operation| operation.id == id && !operation.cursor.complete);
            // What is in the device is left alone: taking it out would take the queue pair.
            if let Some(operation) = waiting {
                operation.cancelled = true;
                drop(state);
                session.become_due();
            }
        }));
        if let Some(inbox) = &session.inbox {
            let weak = Rc::downgrade(&session);
            inbox.queue().on_cancel(Rc::new(move |id| {
                let Some(session) = weak.upgrade() else { return };
                if let Some(inbox) = &session.inbox {
                    inbox.abandon(id);
                }
                session.become_due();
            }));
        }
        session
    }

    pub(super) fn rail(&self) -> usize {
        self.terms.rail
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn place(&self) -> u32 {
        self.place.get()
    }

    pub(super) fn set_place(&self, place: u32) {
        self.place.set(place);
    }

    /// Whether nothing of it can be in the device any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state.borrow().pair, Pair::Gone)
    }

    /// Whether completions may still come, although nothing is in the device any more.
    pub(super) fn is_stale(&self) -> bool {
        self.state.borrow().stale
    }

    /// Whether it was used since the last time this was asked, or has something in flight.
    pub(super) fn take_used(&self) -> bool {
        self.used.replace(false) || self.credits.in_flight() > 0
    }

    /// Posts what there is room for.
    pub(super) fn ring(&self, desk: &mut Desk) {
        let mut state = self.state.borrow_mut();
        if state.ended {
            return;
        }
        if let Pair::Away = state.pair {
            state.line.iter_mut().for_each(Operation::heed_cancel);
            self.inbox.iter().for_each(Inbox::heed_cancelled);
            return;
        }
        self.fill(&mut state, desk);
        let Pair::Here(pair) = &state.pair else { return };
        let received = self
            .inbox
            .as_ref()
            .map_or(Ok(()), |inbox| inbox.ring(pair, self.place.get(), self.terms.arena_key));
        // SAFETY: the pieces are of operations that are in the line, so their memory is in the queue's table, where nobody borrows
        // it; it stays there until `settle` takes the operation out of the line, which is after the completion of its last work
        // request or the end of the queue pair. They lie in the arena, whose region the endpoint's device keeps. No work request names a
        // window or region of this side.
        let (taken, refused) = unsafe { pair.post(&mut desk.batch) };
        let left = desk.before.split_off(taken);
        // Backwards, so that each operation ends as it was before the first of its requests that was refused.
        for (place, cursor) in left.iter().rev() {
            state.line[*place].cursor = *cursor;
        }
        state.next = state.next.wrapping_sub(left.len() as u32);
        match refused {
            None => {
                drop(state);
                if let Err(number) = received {
                    tracing::warn!(number, "a receive was refused");
                    self.end(desk);
                }
            }
            // The device's own queue is fuller than it had said: there will be room when something is done. Where nothing was left out it is
            // the doorbell that failed (soft-RoCE's is a call to the kernel), and nobody does what was taken.
            Some(libc::ENOMEM | libc::ENOSPC | libc::EAGAIN)
                if !left.is_empty() && state.expects_completion() => {}
            Some(number) => {
                let first = left.first().map(|(place, _)| *place);
                if let Some(operation) = first.and_then(|place| state.line.get_mut(place)) {
                    operation.error = Some(TransferError::Device(OsError(number)));
                }
                drop(state);
                self.end(desk);
            }
        }
    }

    /// Puts work requests into the batch for as long as there is room, in the order of the line.
    fn fill(&self, state: &mut State, desk: &mut Desk) {
        desk.batch.clear();
        desk.before.clear();
        let State { line, next, done, .. } = state;
        let first = line.iter().position(|operation| !operation.cursor.complete).unwrap_or(line.len());
        for (place, operation) in line.iter_mut().enumerate().skip(first) {
            operation.heed_cancel();
            // Nothing of nothing is exposed to everybody, and needs no device.
            operation.cursor.complete |=
                operation.remote.bytes() == 0 && operation.notice.is_none() && operation.way != Way::Send;
            while !operation.cursor.complete {
                if next.wrapping_sub(*done) >= self.terms.depth {
                    return;
                }
                desk.before.push((place, operation.cursor));
                operation.cursor.last = Some(*next);
                if operation.cancelled {
                    desk.batch.push_nothing(self.work_id(*next));
                    operation.cursor.complete = true;
                } else {
                    self.credits.with_memory(operation.id, |memory| {
                        self.push(
                            &mut desk.batch,
                            operation.way,
                            &operation.remote,
                            operation.notice,
                            &mut operation.cursor,
                            memory,
                        );
                    });
                }
                *next = next.wrapping_add(1);
            }
        }
    }

    /// Puts the next work request of one operation into the batch.
    fn push(
        &self,
        batch: &mut Batch,
        way: Way,
        remote: &RemoteSlice,
        notice: Option<u32>,
        cursor: &mut Cursor,
        memory: &mut Memory,
    ) {
        let number = cursor.last.expect("set by the caller");
        let room = (remote.bytes() - cursor.bytes).min(u64::from(self.terms.message_bytes_max));
        batch.begin_transfer(self.work_id(number), way, (remote.address() + cursor.bytes, remote.key().0));
        let (mut bytes, mut pieces) = (0, 0);
        match memory {
            Memory::Lease(lease) => {
                let at = lease.len() + cursor.bytes as usize;
                bytes = room;
                batch.add_piece(self.piece(lease.as_ptr().wrapping_add(at), bytes));
            }
            Memory::Scatter(source) => {
                while bytes < room && pieces < self.terms.pieces_max {
                    let Some(piece) = source.pieces().get(cursor.piece) else { break };
                    let rest = (piece.len() - cursor.piece_bytes) as u64;
                    let part = rest.min(room - bytes);
                    batch.add_piece(self.piece(piece.as_ptr().wrapping_add(cursor.piece_bytes), part));
                    (bytes, pieces) = (bytes + part, pieces + 1);
                    cursor.piece_bytes += part as usize;
                    if part == rest {
                        (cursor.piece, cursor.piece_bytes) = (cursor.piece + 1, 0);
                    }
                }
            }
            Memory::None | Memory::Targets(_) => unreachable!("every operation here moves payload"),
        }
        cursor.bytes += bytes;
        cursor.complete = cursor.bytes == remote.bytes();
        if let (true, Some(notice)) = (cursor.complete, notice) {
            batch.add_immediate(notice);
        }
        batch.finish_transfer(cursor.complete || is_signalled(number));
    }

    /// What a work request is known by, of all on this endpoint.
    fn work_id(&self, number: u32) -> u64 {
        u64::from(self.place.get()) << 32 | u64::from(number)
    }

    fn piece(&self, start: *const u8, bytes: u64) -> Piece {
        // At most a lease.
        Piece { address: start.addr() as u64, bytes: bytes as u32, local_key: self.terms.arena_key }
    }

    /// Takes notice of a completion: of the work request of that number and of all before it.
    pub(super) fn completed(&self, number: u32, status: WorkStatus, desk: &mut Desk) {
        let mut state = self.state.borrow_mut();
        // None that was posted; a device that invents completions is not believed.
        if precedes(number, state.done) || !precedes(number, state.next) {
            return;
        }
        let before = mem::replace(&mut state.done, number.wrapping_add(1));
        let error = match status {
            WorkStatus::Done => None,
            WorkStatus::Flushed => Some(TransferError::Ended),
            WorkStatus::Refused => Some(TransferError::Refused),
            WorkStatus::TimedOut => Some(TransferError::TimedOut),
            WorkStatus::TooLong | WorkStatus::Other(_) => Some(TransferError::Device(OsError(libc::EIO))),
        };
        if let WorkStatus::Other(status) = status {
            tracing::warn!(status, "an RDMA operation failed");
        }
        let Some(error) = error else {
            let over = state.ended && self.is_drained(&state);
            drop(state);
            if over {
                self.destroy();
            }
            return;
        };
        // Each of those before it should have been told of by itself: what became of them is not known.
        state.fail_between(before, number);
        let whose = state
            .line
            .iter_mut()
            .find(|operation| operation.cursor.last.is_some_and(|last| !precedes(last, number)));
        if let Some(operation) = whose {
            operation.error.get_or_insert(error);
        }
        let (ended, over) = (state.ended, self.is_drained(&state));
        drop(state);
        if !ended {
            // A queue pair does nothing more after an error.
            self.end(desk);
        } else if over {
            self.destroy();
        }
    }

    /// Its queue pair is away, and will be nobody's.
    fn renounce(&self) {
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.renounce_pair(self.terms.rail);
        }
    }

    /// Takes its queue pair, which is connected now, or could not be. Gives it back if it has no use for it.
    pub(super) fn connected(&self, pair: QueuePair, result: Result<(), RdmaError>) -> Result<(), QueuePair> {
        let mut state = self.state.borrow_mut();
        let Pair::Away = state.pair else { return Err(pair) };
        let taken = match result {
            Ok(()) => {
                state.pair = Pair::Here(pair);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "a queue pair could not be connected");
                (state.pair, state.ended) = (Pair::Gone, true);
                self.renounce();
                self.receive_nothing_more();
                state.unposted = error.into();
                Err(pair)
            }
        };
        drop(state);
        self.become_due();
        taken
    }

    /// Takes notice of the completion of a receive.
    pub(super) fn received(&self, entry: &Completed, desk: &mut Desk) {
        let Some(inbox) = &self.inbox else { return };
        let good = inbox.completed(entry);
        let state = self.state.borrow();
        let (ended, over) = (state.ended, self.is_drained(&state));
        drop(state);
        match ended {
            true if over => self.destroy(),
            false if !good => self.end(desk),
            _ => {}
        }
    }

    /// Nothing is in the device, as far as completions say.
    fn is_drained(&self, state: &State) -> bool {
        state.done == state.next && !self.inbox.as_ref().is_some_and(Inbox::is_in_device)
    }

    /// Nothing new moves; what is in the device is flushed, and completes.
    pub(super) fn end(&self, desk: &mut Desk) {
        let mut state = self.state.borrow_mut();
        if mem::replace(&mut state.ended, true) {
            return;
        }
        if let Some(inbox) = &self.inbox {
            inbox.end();
        }
        let flushed = !self.is_drained(&state) && self.flush_device(&mut state, desk);
        drop(state);
        if !flushed {
            self.destroy();
        }
        self.become_due();
    }

    /// Has everything that is in the device come back. False if it will not.
    fn flush_device(&self, state: &mut State, desk: &mut Desk) -> bool {
        let Pair::Here(pair) = &state.pair else { return false };
        if let Err(error) = pair.fail() {
            tracing::warn!(%error, "a queue pair could not be ended in order");
            return false;
        }
        // Unsignalled ones that were done are not heard of: one more behind them is.
        desk.batch.clear();
        desk.batch.push_nothing(self.work_id(state.next));
        // SAFETY: it has no pieces.
        let (taken, refused) = unsafe { pair.post(&mut desk.batch) };
        state.next = state.next.wrapping_add(taken as u32);
        taken == 1 && refused.is_none()
    }

    /// Ends the queue pair of a session that ended, if the device has not let go of what is in it for [`DRAIN_MAX`]: a driver that loses a
    /// completion would have it for ever. To be called now and then. Whether it did.
    pub(super) fn end_drain(&self, now: Duration) -> bool {
        let mut state = self.state.borrow_mut();
        if !state.ended || matches!(state.pair, Pair::Gone) {
            return false;
        }
        let since = *state.draining_since.get_or_insert(now);
        if now.saturating_sub(since) < DRAIN_MAX {
            return false;
        }
        drop(state);
        tracing::error!(
            rail = &*self.rail_name,
            "a device does not let go of a session: its queue pair is destroyed"
        );
        self.destroy();
        self.become_due();
        true
    }

    /// Ends the queue pair, so that nothing of it is in the device any more.
    pub(super) fn destroy(&self) {
        let mut state = self.state.borrow_mut();
        state.ended = true;
        let pair = match mem::replace(&mut state.pair, Pair::Gone) {
            Pair::Here(pair) => pair,
            // Not wanted any more when it comes back.
            Pair::Away => {
                self.receive_nothing_more();
                return self.renounce();
            }
            Pair::Gone => return,
        };
        state.stale = !self.is_drained(&state);
        let destroyed = pair.destroy();
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.forget_pair(self.terms.rail, self.number);
        }
        let State { line, next, done, .. } = &mut *state;
        match destroyed {
            Ok(()) => {
                let (from, to) = (*done, *next);
                *done = to;
                // Gone without a word: whether their bytes moved is not known.
                state.fail_between(from, to);
                self.receive_nothing_more();
            }
            Err(error) => {
                // The device may touch the memory of what is in flight for ever. It stays in the queue's table, which is not
                // dropped any more; those operations are never completed. The others are.
                tracing::error!(%error, "a queue pair is leaked, and the memory of its operations");
                line.retain(|operation| operation.cursor.last.is_none_or(|last| precedes(last, *done)));
                *done = *next;
                if let Some(inbox) = &self.inbox {
                    inbox.pair_is_leaked();
                }
                mem::forget(self.own.upgrade());
            }
        }
    }

    fn receive_nothing_more(&self) {
        if let Some(inbox) = &self.inbox {
            inbox.pair_is_gone();
        }
    }

    /// Completes what is done, from the front of the line. Returns how many that are.
    pub(super) fn settle(&self) -> usize {
        let mut completed = self.inbox.as_ref().map_or(0, Inbox::settle);
        while let Some((id, result)) = self.take_settled() {
            self.credits.complete(id, result.map_err(Into::into));
            completed += 1;
        }
        completed
    }

    fn take_settled(&self) -> Option<(OperationId, Result<u32, TransferError>)> {
        let mut state = self.state.borrow_mut();
        let front = state.line.front()?;
        let in_device = front.cursor.last.is_some_and(|last| !precedes(last, state.done));
        if in_device || !(front.cursor.complete || state.ended) {
            return None;
        }
        let operation = state.line.pop_front()?;
        let ended = state.unposted;
        drop(state);
        let unposted = !operation.cursor.complete;
        let error = operation.error.or(unposted.then_some(ended));
        // At most `operation_bytes_max`, asserted at the post.
        let bytes = operation.remote.bytes() as u32;
        if error.is_none() {
            self.credits.with_memory(operation.id, |memory| {
                if let Memory::Lease(lease) = memory {
                    lease.set_len(lease.len() + bytes as usize);
                }
            });
        }
        Some((operation.id, error.map_or(Ok(bytes), Err)))
    }

    /// Leaves the list of those that are due, and completes what is done.
    pub(super) fn run_due(&self) -> usize {
        self.due.set(false);
        self.settle()
    }

    /// Whether a poll would complete something.
    pub(super) fn has_settled(&self) -> bool {
        if self.inbox.as_ref().is_some_and(Inbox::has_settled) {
            return true;
        }
        let state = self.state.borrow();
        state.line.front().is_some_and(|front| {
            let in_device = front.cursor.last.is_some_and(|last| !precedes(last, state.done));
            !in_device && (front.cursor.complete || state.ended)
        })
    }

    fn post(
        &self,
        slot: Slot,
        way: Way,
        remote: RemoteSlice,
        memory: Memory,
        notice: Option<u32>,
    ) -> Pending {
        self.used.set(true);
        let (id, pending) = self.credits.post(slot, memory);
        let cursor = Cursor::default();
        let operation = Operation { id, way, remote, notice, cursor, error: None, cancelled: false };
        self.state.borrow_mut().line.push_back(operation);
        self.become_due();
        pending
    }

    fn post_write(
        &self,
        slot: Slot,
        source: ScatterList,
        target: RemoteSlice,
        notice: Option<u32>,
    ) -> Pending {
        let bytes = source.bytes() as u64;
        assert_postable(&self.capabilities, bytes, target.bytes(), source.pieces().len());
        let target = target.slice(0..bytes).expect("asserted to fit");
        self.post(slot, Way::Write, target, Memory::Scatter(source), notice)
    }

    /// Enters the list of those that the next poll runs. If no poll comes any more, what is in the line completes now.
    pub(super) fn become_due(&self) {
        match (self.endpoint.upgrade(), self.own.upgrade()) {
            (Some(endpoint), Some(own)) if endpoint.is_open() => {
                if !self.due.replace(true) {
                    endpoint.run_later(own);
                }
            }
            _ => {
                self.destroy();
                self.settle();
            }
        }
    }
}

impl RemoteMemory for Session {
    fn credits(&self) -> &Queue {
        &self.credits
    }

    fn read(&self, slot: Slot, source: RemoteSlice, target: BufferLease) -> Pending {
        let room = target.capacity() - target.len();
        assert_postable(&self.capabilities, source.bytes(), room as u64, 1);
        self.post(slot, Way::Read, source, Memory::Lease(target), None)
    }

    fn write(&self, slot: Slot, source: ScatterList, target: RemoteSlice) -> Pending {
        self.post_write(slot, source, target, None)
    }

    fn notifies(&self) -> bool {
        self.terms.notifies
    }

    fn write_notify(&self, slot: Slot, source: ScatterList, target: RemoteSlice, notice: u32) -> Pending {
        if !self.terms.notifies {
            // It would find no receive, and end the session.
            return unsupported(&self.credits, slot, Memory::Scatter(source));
        }
        self.post_write(slot, source, target, Some(notice))
    }

    fn inbox(&self) -> Option<&Queue> {
        self.inbox.as_ref().map(Inbox::queue)
    }

    fn send(&self, slot: Slot, message: ScatterList) -> Pending {
        assert_sendable(&self.capabilities, &message);
        if self.inbox.is_none() {
            return unsupported(&self.credits, slot, Memory::Scatter(message));
        }
        self.used.set(true);
        let bytes = message.bytes() as u64;
        let nowhere = RemoteSlice::new(0, bytes, RemoteKey(0)).expect("a lease ends somewhere");
        self.post(slot, Way::Send, nowhere, Memory::Scatter(message), None)
    }

    fn receive(&self, slot: Slot, target: BufferLease) -> Pending {
        let inbox = self.inbox.as_ref().expect("a slot of this session's inbox");
        let pending = inbox.enter(slot, target);
        if self.state.borrow().ended {
            inbox.end();
        }
        self.become_due();
        pending
    }

    fn rail(&self) -> Option<Rc<str>> {
        Some(Rc::clone(&self.rail_name))
    }

    fn flush(&self) {
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.with_desk(|desk| self.ring(desk));
        }
    }

    fn is_open(&self) -> bool {
        !self.state.borrow().ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round() {
        // Shows the order of numbers over the end of 32 bits.
        assert!(precedes(1, 2) && !precedes(2, 1) && !precedes(2, 2));
        assert!(precedes(u32::MAX, 0) && precedes(u32::MAX - 5, 3) && !precedes(3, u32::MAX));
    }
}
