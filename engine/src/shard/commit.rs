//! Group commit: proposals are sequenced, batched, written, applied and acknowledged, in that order.
//!
//! Up to [`BATCHES_IN_FLIGHT_MAX`] log writes run at once. Each waits first, if its entries point at data zones, until
//! those are on stable storage: on a file system a log record can survive a power cut whose data reads as zeros, because
//! the conversion of unwritten extents is metadata of the file system's own journal. Results are taken in the order of
//! the batches, so that what is acknowledged is always a prefix of the log.

use super::{InFlight, Shard, State, ZoneStart, gather::Load};
use crate::{
    error::{DeviceError, DeviceOperation, Error, Region, Resource},
    index::footprint,
    layout::{Entry, LogPosition},
    log::{
        BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX, Proposal,
        build::{Forming, Stamp, payload_bytes},
    },
    memory::LOG_PENDING_BYTES_MAX,
    planted::{Bug, Point, planted, planted_once, reach, was_made},
    reactor::{Moment, Sleep},
};
use crossdock_transport::{operation::OsError, ring::Durability};
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

/// Proposals that may wait for the log before writers are told that it is busy.
const QUEUE_PROPOSALS_MAX: usize = 16 * 1024;

/// Names a sequenced proposal: all up to it are durable once as many are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

impl Shard {
    /// Whether the shard writes at all. What is asked of work that makes room: it must not be kept from that by a queue that is full
    /// because there is none.
    pub(super) fn check_running(&self, state: &State) -> Result<(), Error> {
        if state.failed.is_some() || state.hole.is_some() || was_made(Bug::StopsOthers) {
            return Err(Error::ReadOnly { shard: self.id() });
        }
        if self.closing.get() {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Whether the shard takes changes.
    pub(super) fn check_writable(&self, state: &State) -> Result<(), Error> {
        self.check_running(state)?;
        if state.queue.len() >= QUEUE_PROPOSALS_MAX || state.pending_bytes >= LOG_PENDING_BYTES_MAX {
            return Err(self.busy(Resource::Log));
        }
        Ok(())
    }

    /// Puts a change in the order of the log. From here on conditions see it; readers do once it is durable.
    pub(super) fn sequence(&self, state: &mut State, proposal: Proposal) -> Ticket {
        debug_assert!({
            let mut encoded = Vec::new();
            proposal.entry.encode(&mut encoded);
            encoded.len() <= ENTRY_BYTES_MAX
        });
        state.overlay.sequence(&state.catalog, &proposal.entry);
        if planted(Bug::FreesExtentsEarly)
            && let Some(removed) = state.catalog.removed_by(&proposal.entry)
        {
            state.space.free_early(removed);
        }
        if state.queue.is_empty() {
            state.seal_due = false;
            state.gathering.begin(self.core.now());
        }
        state.queue_bytes += payload_bytes(&proposal.entry).unwrap_or(0);
        state.pending_bytes += footprint::entry_bytes(&proposal.entry);
        state.queue.push_back(proposal);
        state.sequenced += 1;
        self.work.notify();
        Ticket(state.sequenced)
    }

    /// The ticket of the newest proposal: waiting for it waits for everything sequenced so far.
    pub(super) fn newest_ticket(state: &State) -> Ticket {
        Ticket(state.sequenced)
    }

    /// Resolves once the proposal, which is the caller's own, is durable and applied.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`]: some of what was written may be on the device, and be found by the next open.
    pub(super) async fn durable(&self, ticket: Ticket) -> Result<(), Error> {
        self.applied(ticket).await.map_err(Error::in_the_midst)
    }

    /// Why the caller is refused, once what he is refused for is durable: whoever hears of the refusal must find that there, also after a
    /// crash. Nothing of the caller's own was sequenced.
    pub(super) async fn refused(&self, error: Error, because_of: Option<Ticket>) -> Error {
        match because_of {
            Some(ticket) => self.applied(ticket).await.map_or_else(|failure| failure, |()| error),
            None => error,
        }
    }

    /// Resolves once all up to this proposal is durable and applied.
    ///
    /// # Errors
    /// [`Error::Device`], and [`Error::Closed`] for what was not written when the shard was closed.
    pub(super) async fn applied(&self, ticket: Ticket) -> Result<(), Error> {
        let mut waits_by: Option<Waker> = None;
        poll_fn(|cx| {
            let state = self.state.borrow();
            if state.applied >= ticket.0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = state.failed {
                return Poll::Ready(Err(error.into()));
            }
            if state.written_last.is_some_and(|last| last < ticket.0) {
                return Poll::Ready(Err(Error::Closed));
            }
            if !waits_by.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                waits_by = Some(cx.waker().clone());
                self.acknowledgements.wait(ticket.0, cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Lets everyone look again who waits for something that may have come about.
    pub(super) fn progressed(&self) {
        let (applied, written_last) = {
            let state = self.state.borrow();
            let applied = if state.failed.is_some() { u64::MAX } else { state.applied };
            (applied, state.written_last)
        };
        self.acknowledgements.release(applied);
        if let Some(last) = written_last {
            self.acknowledgements.release_above(last);
        }
        self.progress.notify();
    }

    /// Writes batches until the shard is closed and everything sequenced is durable, or the log has no room for it, or a device fails.
    pub(super) async fn commit_loop(self: Rc<Self>) {
        self.write_batches().await;
        let given_up = {
            let mut state = self.state.borrow_mut();
            let given_up = std::mem::take(&mut state.queue);
            state.queue_bytes = 0;
            state.written_last = Some(state.sequenced - given_up.len() as u64);
            given_up
        };
        // It keeps the memory of payloads, which others may wait for.
        drop(given_up);
        self.progressed();
    }

    async fn write_batches(self: &Rc<Self>) {
        loop {
            let finished = self.step().await;
            if finished {
                return;
            }
            let Some(forming) = self.next_batch().await else { return };
            // Only now: a shard that waits for a zone keeps no buffer from the core's others.
            let buffer = self.memory.buffer().await;
            if self.state.borrow().failed.is_some() {
                self.memory.give_back(buffer.freeze());
                return;
            }
            let batch = {
                let mut state = self.state.borrow_mut();
                let state = &mut *state;
                let stamp = Stamp {
                    shard: self.id(),
                    epoch: state.epoch,
                    durable_upto: state.durable_upto,
                    secret: &self.identity.secret,
                };
                let (previous, next_zone) = (state.tail.previous, state.tail.next_zone);
                let (queue, tail, encoded) = (&mut state.queue, &mut state.tail, &mut state.encoded);
                let batch = forming.build(queue, buffer, tail, &stamp, encoded);
                let taken = batch.entries.iter().filter_map(payload_bytes).sum::<usize>();
                state.queue_bytes -= taken;
                state.seal_due = false;
                match state.queue.is_empty() {
                    true => state.gathering.end(),
                    false => state.gathering.begin(self.core.now()),
                }
                state.stated_upto = state.durable_upto;
                state.counts.batches += 1;
                state.counts.seals += u64::from(batch.entries.is_empty());
                state.counts.entries += batch.entries.len() as u64;
                state.counts.log_bytes += batch.scatter.bytes() as u64;
                state.replay.logged(batch.scatter.bytes() as u64);
                state.in_flight.push_back(InFlight {
                    sequence: batch.sequence,
                    position: batch.position,
                    previous,
                    next_zone,
                    bytes: batch.scatter.bytes() as u64,
                    entries: batch.entries,
                    result: None,
                });
                (batch.sequence, batch.position, batch.scatter, batch.touches_data, batch.buffer)
            };
            let shard = self.clone();
            self.core
                .spawn_own(async move {
                    let (sequence, position, scatter, touches_data, buffer) = batch;
                    if planted(Bug::AcknowledgesEarly) {
                        shard.finish_batch(sequence, Ok(()));
                    }
                    let result = shard.write_batch(position, scatter, touches_data).await;
                    shard.memory.give_back(buffer);
                    shard.finish_batch(sequence, result);
                })
                .detach();
        }
    }

    /// Waits for what [`Shard::next_step`] says. What gathers is looked at again when it has gathered long enough.
    async fn step(&self) -> bool {
        let (mut work, mut timer) = (self.work.waiter(), None::<(Moment, Sleep)>);
        poll_fn(|cx| {
            let step = work.poll(cx, || self.next_step());
            if step.is_ready() {
                return step;
            }
            // With all flights in the air it is one of them that is waited for.
            let full = self.state.borrow().in_flight.len() >= BATCHES_IN_FLIGHT_MAX;
            let Some(until) = self.state.borrow().gathering.until().filter(|_| !full) else {
                timer = None;
                return Poll::Pending;
            };
            let (_, sleep) = match timer.take() {
                Some(timer_set) if timer_set.0 == until => timer.insert(timer_set),
                _ => timer.insert((until, self.core.sleep_until(until))),
            };
            match Pin::new(sleep).poll(cx) {
                Poll::Ready(()) => work.poll(cx, || self.next_step()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Whether a batch is to be written now (false), the loop is over (true), or neither.
    fn next_step(&self) -> Option<bool> {
        let state = self.state.borrow();
        if state.failed.is_some() {
            return Some(true);
        }
        let closing = self.closing.get();
        if state.queue.is_empty() {
            if (state.seal_due || closing) && state.wants_seal() {
                return Some(false);
            }
            return (closing && state.in_flight.is_empty()).then_some(true);
        }
        let queued = state.queue.len() as u64;
        let in_flight = state.sequenced - state.applied - queued;
        let load = Load { queued, queued_bytes: state.queue_bytes, in_flight };
        let room = state.in_flight.len() < BATCHES_IN_FLIGHT_MAX;
        (room && (closing || state.gathering.is_enough(&load, || self.core.now()))).then_some(false)
    }

    /// What goes in the next batch, with the tail moved to where it fits. None if the shard failed meanwhile.
    async fn next_batch(&self) -> Option<Forming> {
        let zone_bytes = self.identity.geometry.zone_bytes;
        let (forming, fits) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let room = (zone_bytes as usize).min(BATCH_BYTES_MAX);
            let forming = Forming::of(&state.queue, room, &mut state.encoded);
            (forming, state.tail.fits(forming.blocks(), zone_bytes))
        };
        if !fits {
            self.enter_next_zone().await.ok()?;
        }
        self.state.borrow().failed.is_none().then_some(forming)
    }

    async fn enter_next_zone(&self) -> Result<(), Error> {
        let zone = self.state.borrow().tail.next_zone;
        self.zone_ready(zone).await?;
        let after = self.claim_log_zone().await?;
        let mut state = self.state.borrow_mut();
        state.tail.enter_next_zone(after);
        let sequence = state.tail.sequence;
        state.log_order.push_back(ZoneStart { zone, sequence });
        reach(Point::ZoneEntered);
        Ok(())
    }

    async fn write_batch(
        &self,
        position: LogPosition,
        scatter: crossdock_transport::memory::ScatterList,
        touches_data: bool,
    ) -> Result<(), DeviceError> {
        if touches_data && !planted(Bug::SkipsDataSync) {
            self.state.borrow_mut().counts.data_syncs += 1;
            self.sync_data().await?;
            reach(Point::DataSynced);
        }
        let (offset, bytes) = (self.log_offset(position), scatter.bytes());
        let durability = if planted(Bug::BuffersLog) { Durability::Buffered } else { Durability::Durable };
        let began = self.core.now();
        self.write(Region::Log, offset, scatter, durability, bytes as u64).await?;
        self.state.borrow_mut().gathering.note(self.core.now().since(began));
        reach(Point::LogWritten);
        Ok(())
    }

    /// Takes a batch's result; applies and acknowledges every batch that is next in order.
    fn finish_batch(self: &Rc<Self>, sequence: u64, result: Result<(), DeviceError>) {
        {
            let mut state = self.state.borrow_mut();
            if let Some(batch) = state.in_flight.iter_mut().find(|batch| batch.sequence == sequence) {
                batch.result = Some(result);
            }
            if planted(Bug::TakesOutOfOrder) {
                state.in_flight.make_contiguous().sort_by_key(|batch| batch.result.is_none());
            }
        }
        loop {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            // After a failure nothing is applied, not even a batch that is on the device: one before it is not.
            if state.failed.is_some() || state.in_flight.front().is_none_or(|batch| batch.result.is_none()) {
                break;
            }
            let Some(batch) = state.in_flight.pop_front() else { break };
            match batch.result {
                Some(Ok(())) => {
                    state.apply_batch(batch);
                    reach(Point::Applied);
                }
                Some(Err(error)) => {
                    // What the device holds now is unknown: nothing after this may be acknowledged, ever.
                    tracing::error!(%error, "shard stops writing");
                    state.failed.get_or_insert(error);
                    let _ = planted_once(Bug::StopsOthers);
                }
                None => {}
            }
        }
        self.after_progress();
    }

    fn after_progress(self: &Rc<Self>) {
        let (checkpoint, short) = {
            let mut state = self.state.borrow_mut();
            if state.wants_seal() {
                self.seal_later(&mut state);
            }
            let short = self.is_short(&state);
            let due = state.replay.is_due() && !planted(Bug::PutsOffCheckpoints)
                || short && state.log_order.len() > 1;
            (due && !state.checkpointing && state.failed.is_none(), short)
        };
        if checkpoint {
            self.checkpoint_soon();
        }
        if short {
            self.clean_soon();
        }
        self.work.notify();
        self.progressed();
    }

    /// Has the log sealed once it has been idle for a while from now on.
    fn seal_later(self: &Rc<Self>, state: &mut State) {
        state.idle_since = self.core.now();
        if std::mem::replace(&mut state.sealing, true) {
            return;
        }
        let shard = self.clone();
        self.core.spawn_own(async move { shard.seal_when_idle().await }).detach();
    }

    async fn seal_when_idle(&self) {
        let wait = Duration::from_micros(self.tuning.seal_us);
        loop {
            let due = self.state.borrow().idle_since.after(wait);
            if due <= self.core.now() {
                break;
            }
            self.core.sleep_until(due).await;
        }
        let mut state = self.state.borrow_mut();
        state.sealing = false;
        // If it is not idle now, whatever makes it so has it sealed later.
        state.seal_due = state.wants_seal();
        drop(state);
        self.work.notify();
    }

    /// Takes a checkpoint in the background, unless one is being taken.
    pub(super) fn checkpoint_soon(&self) {
        let Some(shard) = self.strong().filter(|shard| !shard.state.borrow().checkpointing) else { return };
        self.core.spawn_own(shard.checkpoint_and_log()).detach();
    }

    async fn checkpoint_and_log(self: Rc<Self>) {
        if let Err(error) = self.checkpoint().await {
            tracing::warn!(%error, shard = self.id(), "no checkpoint was taken");
        }
    }

    // ── the shard's own I/O ──

    pub(super) async fn write(
        &self,
        region: Region,
        offset: u64,
        scatter: crossdock_transport::memory::ScatterList,
        durability: Durability,
        bytes: u64,
    ) -> Result<(), DeviceError> {
        let device = self.device(region);
        let slot = device.queue().slot().await;
        let completion = device.write(slot, offset, scatter, durability).await;
        let fail = |source| self.device_error(region, DeviceOperation::Write, offset, bytes, source);
        match completion.result {
            Ok(count) if u64::from(count) == bytes => Ok(()),
            // A short write without an error: the device ended before the bytes did.
            Ok(_) => Err(fail(OsError(rustix::io::Errno::NOSPC.raw_os_error()))),
            Err(source) => Err(fail(source)),
        }
    }

    pub(super) fn device(&self, region: Region) -> &dyn crate::device::BlockDevice {
        match region {
            Region::Log => &*self.files.log,
            Region::Data => &*self.files.data,
        }
    }

    pub(super) fn device_error(
        &self,
        region: Region,
        operation: DeviceOperation,
        offset: u64,
        bytes: u64,
        source: OsError,
    ) -> DeviceError {
        let (region, offset) = self.files.locate(region, offset);
        DeviceError { shard: self.id(), region, operation, offset, bytes, source }
    }
}

impl State {
    /// Whether the log rests, and does not say yet that all that was acknowledged is durable.
    fn wants_seal(&self) -> bool {
        let idle = self.queue.is_empty() && self.in_flight.is_empty() && self.failed.is_none();
        idle && self.stated_upto < self.acknowledged_upto
    }

    fn apply_batch(&mut self, batch: InFlight) {
        self.applied += batch.entries.len() as u64;
        if !batch.entries.is_empty() {
            self.acknowledged_upto = batch.sequence;
        }
        for entry in batch.entries {
            self.apply_entry(entry, batch.sequence);
        }
        self.durable_upto = batch.sequence;
    }

    fn apply_entry(&mut self, entry: Entry, sequence: u64) {
        self.pending_bytes = self.pending_bytes.saturating_sub(footprint::entry_bytes(&entry));
        self.overlay.settle(&self.catalog, &entry);
        let freed = self.catalog.apply(entry);
        if !freed.extents.is_empty() {
            self.space.free(freed, sequence);
        }
    }
}
