//! Makes a shard, and opens one: anchor, checkpoint, log, then the space that nothing of these reaches.

use super::{
    Counts, Shard, ShardFiles, ShardIdentity, State, Tuning,
    catalog::Catalog,
    checkpoint::CHUNK_BYTES,
    overlay::Overlay,
    space::{Space, Zones},
};
use crate::{
    error::{Corruption, DeviceError, DeviceOperation, OpenError, Region},
    layout::{
        Anchor, BLOCK_BYTES, COPIES, CheckpointRoot, ChunkHeader, DecodeError, Entry, Extent, LogPosition,
        MetaHash, anchor_offset, disagreeing,
    },
    log::{
        memory::LogMemory,
        recover::{LogReader, Replayed},
        tail::Tail,
    },
    reactor::{Core, Signal},
};
use crossdock_transport::memory::BufferLease;
use std::{
    cell::{Cell, RefCell},
    collections::{HashSet, VecDeque},
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
    /// Metadata copies that were damaged and whose other copy stood in.
    pub mended: u64,
    /// Where the log has a hole, if it has one: the shard then takes no writes and answers only what it knows.
    pub hole: Option<Corruption>,
}

impl Shard {
    /// Writes an empty shard: its first log zone and its anchors. Everything is durable when it resolves.
    pub(crate) async fn format(
        identity: ShardIdentity,
        core: Core,
        files: ShardFiles,
        memory: LogMemory,
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
        shard.write_anchor(&anchor).await
    }

    fn assemble(
        identity: ShardIdentity,
        core: Core,
        files: ShardFiles,
        tuning: Tuning,
        memory: LogMemory,
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
            closing: Cell::new(false),
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
        memory: LogMemory,
    ) -> Result<(Rc<Shard>, RecoveryReport), OpenError> {
        let reading = Reading { identity, core: core.clone(), files: files.clone() };
        let (anchor, stale_copies) = reading.anchor().await?;
        let mut catalog = Catalog::default();
        let checkpoint_extents = match anchor.checkpoint {
            Some(root) => reading.checkpoint(root, &mut |entry| drop(catalog.apply(entry))).await?,
            None => Vec::new(),
        };
        let mut log = LogReader {
            device: files.log.clone(),
            pool: core.pool().clone(),
            secret: identity.secret,
            shard: identity.shard,
            zone_bytes: identity.geometry.zone_bytes,
            zones_at: files.log_zones_at,
            window: None,
        };
        let replayed = log.replay(&anchor, &mut |entry| drop(catalog.apply(entry))).await?;
        drop(log);

        let hole = replayed.hole.map(|place| reading.hole(place));
        let report = RecoveryReport {
            shard: identity.shard,
            versions: crate::index::Index::len(&catalog.index) as u64,
            checkpoint_entries: anchor.checkpoint.map_or(0, |root| root.entry_count),
            batches: replayed.batches,
            entries: replayed.entries,
            mended: replayed.mended,
            hole,
        };
        let next_zone_exists = replayed.tail.next_zone < reading.existing_zones(Region::Log);
        let state = reading.state(anchor, catalog, checkpoint_extents, replayed, hole)?;
        let next_zone = state.tail.next_zone;
        let shard = Shard::assemble(identity, core, files, tuning, memory, |_| state);
        if hole.is_none() {
            shard.begin_epoch(&stale_copies).await.map_err(OpenError::Device)?;
            if next_zone_exists {
                shard.state.borrow_mut().zones_ready.insert(next_zone);
            } else {
                shard.make_next_log_zone();
            }
            let running = shard.clone();
            shard.core.spawn(running.commit_loop()).detach();
        }
        Ok((shard, report))
    }

    /// Batches from here on carry a new epoch, so that what recovery discarded can never count again.
    async fn begin_epoch(&self, stale_copies: &[usize]) -> Result<(), DeviceError> {
        // Batches that were replayed without having been acknowledged are about to be shown: make them durable.
        self.sync(Region::Log).await?;
        // A crash may have left as few as two copies that agree. Writing a newer one over either would leave none, were
        // there another crash just then: first all four are made the same.
        let current = self.state.borrow().anchor.clone();
        for copy in stale_copies {
            self.write_anchor_copy(&current, *copy).await?;
        }
        let anchor = {
            let state = self.state.borrow();
            Anchor {
                generation: state.anchor.generation + 1,
                epoch: state.anchor.epoch + 1,
                epoch_start: state.tail.sequence,
                ..state.anchor.clone()
            }
        };
        self.write_anchor(&anchor).await?;
        let mut state = self.state.borrow_mut();
        state.epoch = anchor.epoch;
        state.anchor = anchor;
        Ok(())
    }

    /// Writes what was sequenced, takes a checkpoint so that the next open is quick, and stops.
    pub(crate) async fn close(self: &Rc<Self>) {
        if self.state.borrow().counts.entries > 0
            && let Err(error) = self.checkpoint().await
        {
            tracing::warn!(%error, shard = self.id(), "closing without a checkpoint");
        }
        self.closing.set(true);
        self.work.notify();
        self.progress.notify();
        self.progress
            .wait(|| {
                let state = self.state.borrow();
                let written = state.queue.is_empty()
                    && state.in_flight.is_empty()
                    && state.stated_upto >= state.acknowledged_upto;
                let stopped = state.failed.is_some() || state.hole.is_some() || state.log_full;
                ((written || stopped) && !state.checkpointing).then_some(())
            })
            .await;
    }
}

fn initial_state(identity: ShardIdentity, anchor: Anchor) -> State {
    let geometry = identity.geometry;
    State {
        catalog: Catalog::default(),
        overlay: Overlay::default(),
        space: Space::new(geometry.zone_bytes, geometry.zones_max, false),
        queue: VecDeque::new(),
        queue_bytes: 0,
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
        gather_over: false,
        version_counter: 0,
        anchor,
        checkpoint_extents: Vec::new(),
        log_bytes_since_checkpoint: 0,
        checkpointing: false,
        log_order: VecDeque::new(),
        zones_ready: HashSet::new(),
        growing: false,
        log_full: false,
        failed: None,
        hole: None,
        counts: Counts::default(),
    }
}

/// Reads the structures of a shard that is not running yet.
struct Reading {
    identity: ShardIdentity,
    core: Core,
    files: ShardFiles,
}

impl Reading {
    /// The anchor that counts, and which copies are not it.
    async fn anchor(&self) -> Result<(Anchor, Vec<usize>), OpenError> {
        let mut copies = Vec::with_capacity(COPIES);
        for copy in 0..COPIES {
            let lease = self.core.pool().acquire(BLOCK_BYTES).await;
            let offset = self.files.log_base + anchor_offset(copy);
            let lease = self.read(Region::Log, offset, BLOCK_BYTES, lease).await?;
            copies.push(match lease.len() {
                BLOCK_BYTES => Anchor::decode(lease.as_slice(), &self.identity.secret),
                _ => Err(DecodeError::Truncated),
            });
        }
        let damaged = |source| OpenError::Recovery { shard: self.identity.shard, what: "anchor", source };
        let anchor = Anchor::choose(&copies).map_err(damaged)?;
        if anchor.store != self.identity.store || anchor.shard != self.identity.shard {
            return Err(damaged(DecodeError::Identity));
        }
        let stale = disagreeing(&copies, &anchor);
        Ok((anchor, stale))
    }

    /// Hands the checkpoint's entries to `apply` and gives the extents of its chunks.
    async fn checkpoint(
        &self,
        root: CheckpointRoot,
        apply: &mut dyn FnMut(Entry),
    ) -> Result<Vec<Extent>, OpenError> {
        let damaged = |source| OpenError::Recovery { shard: self.identity.shard, what: "checkpoint", source };
        // The chain runs backwards, the entries forwards: first the places, then the bytes.
        let mut chain = vec![(root.last_chunk, root.last_chunk_hash)];
        let mut lease = self.core.pool().acquire(CHUNK_BYTES).await;
        for index in (0..root.chunk_count).rev() {
            let (extent, hash) = chain[chain.len() - 1];
            lease = self.read(Region::Data, self.data_offset(extent), self.chunk_bytes(), lease).await?;
            let header = self.open_chunk(&lease, root.id, index, hash).map_err(damaged)?.0;
            match (header.previous, index) {
                (Some(previous), 1..) => chain.push(previous),
                (None, 0) => {}
                _ => return Err(damaged(DecodeError::Bounds)),
            }
        }
        chain.reverse();
        let mut pending: Vec<u8> = Vec::new();
        let mut entries = 0;
        for (index, (extent, hash)) in chain.iter().enumerate() {
            lease = self.read(Region::Data, self.data_offset(*extent), self.chunk_bytes(), lease).await?;
            let (_, payload) = self.open_chunk(&lease, root.id, index as u32, *hash).map_err(damaged)?;
            pending.extend_from_slice(payload);
            let mut rest = &pending[..];
            loop {
                let mut next = rest;
                match Entry::decode(&mut next) {
                    Ok(entry) => apply(entry),
                    Err(DecodeError::Truncated) => break,
                    Err(error) => return Err(damaged(error)),
                }
                entries += 1;
                rest = next;
            }
            let used = pending.len() - rest.len();
            pending.drain(..used);
        }
        if entries != root.entry_count || !pending.is_empty() {
            return Err(damaged(DecodeError::Truncated));
        }
        Ok(chain.into_iter().map(|(extent, _)| extent).collect())
    }

    fn open_chunk<'a>(
        &self,
        lease: &'a BufferLease,
        id: u64,
        index: u32,
        hash: MetaHash,
    ) -> Result<(ChunkHeader, &'a [u8]), DecodeError> {
        let (header, payload, found) = ChunkHeader::open(lease.as_slice(), &self.identity.secret)?;
        if found != hash {
            return Err(DecodeError::Checksum);
        }
        if header.shard != self.identity.shard || header.checkpoint != id || header.index != index {
            return Err(DecodeError::Identity);
        }
        Ok((header, payload))
    }

    fn chunk_bytes(&self) -> usize {
        CHUNK_BYTES.min(self.identity.geometry.zone_bytes as usize)
    }

    fn data_offset(&self, extent: Extent) -> u64 {
        let zone = u64::from(extent.zone) * u64::from(self.identity.geometry.zone_bytes);
        self.files.data_zones_at + zone + extent.offset()
    }

    async fn read(
        &self,
        region: Region,
        offset: u64,
        bytes: usize,
        lease: BufferLease,
    ) -> Result<BufferLease, OpenError> {
        let device = match region {
            Region::Log => &self.files.log,
            Region::Data => &self.files.data,
        };
        let slot = device.queue().slot().await;
        let (result, mut lease) = device.read(slot, offset, lease, 0, bytes).await.into_lease();
        match result {
            Ok(count) => {
                lease.set_len((count as usize).min(bytes));
                Ok(lease)
            }
            Err(source) => Err(OpenError::Device(DeviceError {
                shard: self.identity.shard,
                region,
                operation: DeviceOperation::Read,
                offset,
                bytes: bytes as u64,
                source,
            })),
        }
    }

    fn hole(&self, place: LogPosition) -> Corruption {
        let zone = u64::from(place.zone) * u64::from(self.identity.geometry.zone_bytes);
        Corruption {
            shard: self.identity.shard,
            region: Region::Log,
            offset: self.files.log_zones_at + zone + u64::from(place.offset),
            bytes: BLOCK_BYTES as u32,
            expected: 0,
            found: 0,
        }
    }

    /// Zones the device has room for now.
    fn existing_zones(&self, region: Region) -> u32 {
        let (device, at) = match region {
            Region::Log => (&self.files.log, self.files.log_zones_at),
            Region::Data => (&self.files.data, self.files.data_zones_at),
        };
        let bytes = device.geometry().bytes.saturating_sub(at);
        let zones = bytes / u64::from(self.identity.geometry.zone_bytes);
        u32::try_from(zones).unwrap_or(u32::MAX).min(self.identity.geometry.zones_max)
    }

    fn state(
        &self,
        anchor: Anchor,
        catalog: Catalog,
        checkpoint_extents: Vec<Extent>,
        replayed: Replayed,
        hole: Option<Corruption>,
    ) -> Result<State, OpenError> {
        let geometry = self.identity.geometry;
        let mut space = Space::new(geometry.zone_bytes, geometry.zones_max, self.files.shared);
        let mut log_in_use: Vec<u32> = replayed.zones.iter().map(|zone| zone.zone).collect();
        if log_in_use.last() != Some(&replayed.tail.position.zone) {
            log_in_use.push(replayed.tail.position.zone);
        }
        log_in_use.push(replayed.tail.next_zone);
        let zones = Zones {
            existing_data: self.existing_zones(Region::Data),
            existing_log: self.existing_zones(Region::Log),
            log_in_use,
        };
        let live = catalog.packed_live_by_zone();
        space.rebuild(zones, catalog.contents(), &checkpoint_extents, live).map_err(|overlap| {
            tracing::error!(?overlap, shard = self.identity.shard, "two records claim one extent");
            let source = DecodeError::Bounds;
            OpenError::Recovery { shard: self.identity.shard, what: "extents", source }
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
        state.gather_over = state.stated_upto < last;
        state.checkpoint_extents = checkpoint_extents;
        state.hole = hole;
        Ok(state)
    }
}
