//! Makes a shard, and opens one: anchor, checkpoint, log, then the space that nothing of these reaches.

use super::acknowledge::Acknowledgements;
use super::{
    Counts, Shard, ShardFiles, ShardIdentity, State, Tuning,
    catalog::Catalog,
    gather::Gathering,
    overlay::Overlay,
    reading::{ReadCheckpoint, Reading},
    replay::ReplayLength,
    scrub::Scrub,
    space::{Space, Zoning},
    sync::Syncs,
};
use crate::{
    error::{Corruption, DeviceError, Error, OpenError, Region},
    layout::{Anchor, DecodeError, Extent, LogPosition, MetaHash},
    log::{
        memory::LogShare,
        recover::{Found, Replayed},
        tail::Tail,
    },
    planted::{Bug, Point, planted, reach, unmake},
    reactor::{Core, Moment, Signal},
};
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    rc::{Rc, Weak},
};

/// What opening a shard found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The shard.
    pub shard: u16,
    /// Versions it holds.
    pub versions: u64,
    /// Entries read from the checkpoint.
    pub checkpoint_entries: u64,
    /// Log batches replayed.
    pub batches: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of log that they take.
    pub log_bytes: u64,
    /// Metadata copies that were damaged and whose other copy stood in.
    pub mended: u64,
    /// Bytes of the heap that its index takes at most.
    pub index_bytes: u64,
    /// Where the log has a hole, if it has one: the shard then takes no writes and answers only what it knows.
    pub hole: Option<Corruption>,
}

impl Shard {
    /// Writes an empty shard: its first two log zones and its anchors. Everything is durable when it resolves.
    pub(crate) async fn format(
        identity: ShardIdentity,
        core: Core,
        files: ShardFiles,
        memory: LogShare,
    ) -> Result<(), DeviceError> {
        let anchor = Anchor {
            store: identity.store,
            shard: identity.shard,
            generation: 1,
            epoch: 1,
            epoch_start: 1,
            log_start: LogPosition { zone: 0, offset: 0 },
            log_sequence: 1,
            log_previous: MetaHash::default(),
            log_next_zone: 1,
            checkpoint: None,
        };
        let shard = Shard::assemble(identity, core, files, Tuning::default(), memory, |_| {
            initial_state(identity, anchor.clone())
        });
        shard.make_log_zone(0).await?;
        shard.make_log_zone(1).await?;
        shard.write_anchor(&anchor).await
    }

    fn assemble(
        identity: ShardIdentity,
        core: Core,
        files: ShardFiles,
        tuning: Tuning,
        memory: LogShare,
        state: impl FnOnce(&Weak<Shard>) -> State,
    ) -> Rc<Shard> {
        Rc::new_cyclic(|me| Shard {
            identity,
            core,
            files,
            tuning,
            memory,
            state: RefCell::new(state(me)),
            work: Signal::default(),
            progress: Signal::default(),
            acknowledgements: Acknowledgements::default(),
            log_syncs: Syncs::default(),
            data_syncs: Syncs::default(),
            closing: Cell::new(false),
            scrub: Scrub::default(),
            me: me.clone(),
        })
    }

    /// Opens a shard: what it acknowledged is there when this resolves, and it takes requests.
    ///
    /// # Errors
    /// A damaged anchor or checkpoint, or a device that fails. Nothing was changed unless only the last step, the
    /// new anchor, failed.
    pub(crate) async fn open(
        identity: ShardIdentity,
        core: Core,
        files: ShardFiles,
        tuning: Tuning,
        memory: LogShare,
    ) -> Result<(Rc<Shard>, RecoveryReport), OpenError> {
        unmake(Bug::StopsOthers);
        let reading = Reading { identity, core: core.clone(), files: files.clone(), gate: None };
        let (anchor, stale_copies) = reading.anchor().await?;
        let mut catalog = Catalog::default();
        let checkpoint = match anchor.checkpoint {
            Some(root) => reading.checkpoint(root, &mut |entry| drop(catalog.apply(entry))).await?,
            None => ReadCheckpoint::default(),
        };
        let mut log = reading.log_reader();
        let mut apply = |batch: Found| batch.entries.into_iter().for_each(|entry| drop(catalog.apply(entry)));
        let replayed = log.replay(&anchor, &mut apply).await.map_err(|error| reading.located(error))?;
        drop(log);

        let hole = replayed.hole.map(|place| reading.hole(place));
        let report = RecoveryReport {
            shard: identity.shard,
            versions: crate::index::Index::len(&catalog.index) as u64,
            checkpoint_entries: anchor.checkpoint.map_or(0, |root| root.entry_count),
            batches: replayed.batches,
            entries: replayed.entries,
            log_bytes: replayed.bytes,
            mended: replayed.mended + checkpoint.mended,
            index_bytes: catalog.memory_bytes(),
            hole,
        };
        if catalog.memory_bytes() > tuning.index_bytes_max {
            return Err(OpenError::Memory {
                shard: identity.shard,
                bytes: catalog.memory_bytes(),
                bytes_max: tuning.index_bytes_max,
            });
        }
        let replay = ReplayLength::new(tuning.checkpoint_log_bytes, replayed.bytes);
        let state = reading.state(anchor, catalog, checkpoint.extents(), replayed, hole)?;
        let state = State { replayed_bytes: report.log_bytes, replay, ..state };
        let next_zone = state.tail.next_zone;
        let shard = Shard::assemble(identity, core, files, tuning, memory, |_| state);
        reach(Point::Recovered);
        if hole.is_none() {
            shard.begin_epoch(&stale_copies).await.map_err(OpenError::Device)?;
            shard.state.borrow_mut().zones_ready.insert(next_zone);
            let running = shard.clone();
            shard.core.spawn_own(running.commit_loop()).detach();
            if checkpoint.mended > 0 {
                // The one there is has lost copies.
                shard.checkpoint_soon();
            }
        }
        Ok((shard, report))
    }

    /// Batches from here on carry a new epoch, so that what recovery discarded can never count again.
    async fn begin_epoch(&self, stale_copies: &[usize]) -> Result<(), DeviceError> {
        // Batches that were replayed without having been acknowledged are about to be shown: make them durable. And so are the zones that
        // were found, in either file: the log may enter any.
        self.sync(Region::Log).await?;
        if Zoning::of(&self.identity.geometry, self.files.shared) == Zoning::Mixed {
            self.sync(Region::Data).await?;
        }
        // A crash may have left as few as two copies that agree. Writing a newer one over either would leave none, were
        // there another crash just then: first all four are made the same.
        let current = self.state.borrow().anchor.clone();
        for copy in stale_copies {
            self.write_anchor_copy(&current, *copy).await?;
            reach(Point::AnchorCopyMended);
        }
        let anchor = {
            let state = self.state.borrow();
            Anchor {
                generation: state.anchor.generation + 1,
                epoch: state.anchor.epoch + u64::from(!planted(Bug::KeepsEpoch)),
                epoch_start: state.tail.sequence,
                ..state.anchor.clone()
            }
        };
        self.write_anchor(&anchor).await?;
        let mut state = self.state.borrow_mut();
        state.epoch = anchor.epoch;
        state.anchor = anchor;
        reach(Point::EpochBegun);
        Ok(())
    }

    /// Writes what was sequenced, takes a checkpoint so that the next open is quick, and stops. What a log without room does not take is
    /// given up, and whoever waits for it told so.
    ///
    /// # Errors
    /// Why there is no checkpoint. It is closed all the same.
    pub(crate) async fn close(self: &Rc<Self>) -> Result<(), Error> {
        self.stop_scrub().await;
        let has_news = self.state.borrow().counts.entries > 0;
        let taken = if has_news { self.checkpoint().await } else { Ok(()) };
        if let Err(error) = &taken {
            tracing::warn!(%error, shard = self.id(), "closing without a checkpoint");
        }
        self.closing.set(true);
        self.work.notify();
        self.progressed();
        self.progress
            .wait(|| {
                let state = self.state.borrow();
                let written = state.queue.is_empty()
                    && state.in_flight.is_empty()
                    && state.stated_upto >= state.acknowledged_upto;
                let stopped = state.failed.is_some() || state.hole.is_some() || state.log_full;
                let at_work = state.checkpointing || state.cleaning || self.scrub.is_running();
                ((written || stopped) && !at_work).then_some(())
            })
            .await;
        taken
    }
}

fn initial_state(identity: ShardIdentity, anchor: Anchor) -> State {
    let geometry = identity.geometry;
    State {
        catalog: Catalog::default(),
        overlay: Overlay::default(),
        space: Space::new(&geometry, false),
        queue: VecDeque::new(),
        queue_bytes: 0,
        pending_bytes: 0,
        sequenced: 0,
        applied: 0,
        in_flight: VecDeque::new(),
        tail: Tail {
            position: anchor.log_start,
            sequence: anchor.log_sequence,
            previous: anchor.log_previous,
            next_zone: anchor.log_next_zone,
        },
        epoch: anchor.epoch,
        durable_upto: anchor.log_sequence - 1,
        acknowledged_upto: anchor.log_sequence - 1,
        stated_upto: anchor.log_sequence - 1,
        gathering: Gathering::default(),
        encoded: Vec::new(),
        idle_since: Moment(0),
        sealing: false,
        seal_due: false,
        version_counter: 0,
        anchor,
        checkpoint_extents: Vec::new(),
        replay: ReplayLength::new(u64::MAX, 0),
        replayed_bytes: 0,
        checkpointing: false,
        checkpoint_taking: 0,
        cleaning: false,
        stuck_zones: HashMap::new(),
        log_order: VecDeque::new(),
        zones_ready: HashSet::new(),
        growing: false,
        making_zones: false,
        zones_refused: None,
        data_refused: None,
        log_full: false,
        failed: None,
        written_last: None,
        hole: None,
        counts: Counts::default(),
    }
}

impl Reading {
    fn state(
        &self,
        anchor: Anchor,
        catalog: Catalog,
        checkpoint_extents: Vec<Extent>,
        replayed: Replayed,
        hole: Option<Corruption>,
    ) -> Result<State, OpenError> {
        let geometry = self.identity.geometry;
        let mut space = Space::new(&geometry, self.files.shared);
        let zones = self.zones(&replayed);
        let live = catalog.packed_live_by_zone();
        space.rebuild(zones, catalog.contents(), &checkpoint_extents, &live).map_err(|overlap| {
            tracing::error!(?overlap, shard = self.identity.shard, "two records claim one extent");
            self.damaged("extents", Region::Data, self.data_offset(overlap.0), DecodeError::Bounds)
        })?;
        let last = replayed.tail.sequence - 1;
        let mut state = initial_state(self.identity, anchor);
        state.log_order = replayed.zones.into_iter().collect();
        state.tail = replayed.tail;
        state.catalog = catalog;
        state.space = space;
        (state.durable_upto, state.acknowledged_upto) = (last, last);
        // What was replayed without proof of its acknowledgement counts from now on: state that at once.
        state.stated_upto = replayed.watermark.min(last);
        state.seal_due = state.stated_upto < last;
        state.checkpoint_extents = checkpoint_extents;
        state.keep_for_checkpoint(&geometry);
        state.space.take_kept();
        state.hole = hole;
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        error::Error,
        layout::Entry,
        log::Proposal,
        object::types::{CommitOptions, PutOptions, Which},
        testing::world::{World, WorldOptions},
    };
    use bytes::Bytes;

    const PAYLOAD_BYTES: usize = 60_000;

    /// A shard is closed though its log is full: cleaner and scrub, which wait for what they logged, are told that it will not be written.
    #[test]
    fn a_full_log_is_closed() {
        let options = WorldOptions { cores: 1, shards: 1, zones_max: 8, ..WorldOptions::default() };
        let mut world = World::new(1, options);
        world.open().unwrap();
        let engine = world.engine(0);
        let shard = engine.own_shards().next().expect("it has one").clone();
        let sequenced = shard.clone();
        let last = world.run(async move {
            let bucket = engine.create_bucket("b", Bytes::new()).await.unwrap().bucket;
            let size = Some(PAYLOAD_BYTES as u64);
            let mut put = engine.put("b", b"k", PutOptions { size }).await.unwrap();
            put.write(&[7; PAYLOAD_BYTES]).await.unwrap();
            put.finish(CommitOptions::default()).await.unwrap();
            let (record, _, pin) = sequenced.open_object("b", b"k", Which::Current).unwrap();
            sequenced.close_object(pin);
            let mut last = None;
            // More than all zones hold, and each of them is to stay.
            for number in 0..100u32 {
                let mut lease = sequenced.core.pool().acquire(PAYLOAD_BYTES).await;
                lease.set_len(lease.capacity());
                lease.as_mut_slice().fill(7);
                let (key, record) = (number.to_be_bytes().into(), record.clone());
                let entry = Entry::PutObject { bucket, key, record };
                let proposal = Proposal { entry, payload: Some(lease.freeze()), touches_data: false };
                last = Some(sequenced.sequence(&mut sequenced.state.borrow_mut(), proposal));
            }
            last.expect("some were sequenced")
        });
        world.run_until(|| shard.state.borrow().log_full).unwrap();
        let leases = shard.core.pool().leases();
        shard.state.borrow_mut().cleaning = true;
        shard.scrub.set_running(true);
        let waiting = shard.clone();
        let told = shard.core.spawn_own(async move {
            let told = waiting.durable(last).await;
            waiting.state.borrow_mut().cleaning = false;
            waiting.scrub.set_running(false);
            waiting.progressed();
            told
        });
        let closed = shard.clone();
        let told = world.try_run(async move {
            closed.close().await.unwrap_err();
            told.await
        });
        assert_eq!(told, Ok(Err(Error::Closed)));
        shard.core.pool().drain_returns();
        assert!(shard.core.pool().leases() < leases - 20, "what will not be written keeps no memory");
    }
}
