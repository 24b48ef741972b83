//! A checkpoint: the catalog as entries, written beside the log so that replay need not start at the beginning.
//!
//! It is fuzzy: the shard goes on while the index is walked. Replay starts at the first batch that was not applied when
//! the walk began, and applying an entry again is harmless, so that whatever the walk saw of later changes is made good.
//! Uploads are written before objects: parts that an upload hands to an object during the walk are then found with the
//! object, which the walk has not passed or replay makes again. Of an upload that is completed while its parts are walked the checkpoint has
//! some; replay completes it again, and where the object is there already leaves that as it is. If it is not, somebody has removed it
//! since, and replay does too.
//!
//! Chunks are chained backwards, each holding place and hash of the one before; the anchor names the last.

use super::{Shard, catalog::EntryPlace, checkpoint_id};
use crate::{
    error::{DeviceError, Error, Region},
    index::{Index, footprint, key::decode},
    layout::{
        Anchor, BLOCK_BYTES, CHUNK_COPIES, COPIES, CheckpointRoot, ChunkHeader, ChunkPlace, Content, Entry,
        Extent, LogPosition, MetaHash, PARTS_BYTES_MAX, Part, anchor_offset,
    },
    memory::WALK_BYTES,
    planted::{Bug, Point, planted, reach},
    reactor::yield_once,
    shard::space::Reservation,
};
use crossdock_transport::{
    memory::{BufferLease, ScatterList},
    ring::Durability,
};
use std::{ops::Bound, rc::Rc};

/// Bytes of a chunk, header included; an extent each.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Index entries walked before other tasks run.
const WALK_STEP: usize = 256;

/// Where replay would start: the first batch not yet applied.
struct ReplayStart {
    position: LogPosition,
    sequence: u64,
    previous: MetaHash,
    next_zone: u32,
}

impl Shard {
    /// Takes a checkpoint and frees the log below it. Does nothing if one is being taken.
    ///
    /// # Errors
    /// A full or failing device; the last checkpoint then still stands.
    pub(crate) async fn checkpoint(self: &Rc<Self>) -> Result<(), Error> {
        let start = {
            let mut state = self.state.borrow_mut();
            self.check_running(&state)?;
            if std::mem::replace(&mut state.checkpointing, true) {
                return Ok(());
            }
            let in_flight = state.in_flight.iter().map(|batch| batch.bytes).sum();
            state.replay.begin(in_flight);
            match state.in_flight.front() {
                Some(batch) => ReplayStart {
                    position: batch.position,
                    sequence: batch.sequence,
                    previous: batch.previous,
                    next_zone: batch.next_zone,
                },
                None => ReplayStart {
                    position: state.tail.position,
                    sequence: state.tail.sequence,
                    previous: state.tail.previous,
                    next_zone: state.tail.next_zone,
                },
            }
        };
        let mut writer = ChunkWriter::new(self.clone());
        let result = self.write_checkpoint(&mut writer, start).await;
        if result.is_err() {
            writer.give_back();
        }
        {
            let mut state = self.state.borrow_mut();
            state.checkpointing = false;
            state.checkpoint_taking = 0;
            match result {
                Ok(()) => state.replay.end(),
                Err(_) => state.replay.fail(),
            }
        }
        self.progressed();
        // Zones that it covers can be cleaned from now on.
        self.clean_soon();
        result
    }

    async fn write_checkpoint(&self, writer: &mut ChunkWriter, start: ReplayStart) -> Result<(), Error> {
        if planted(Bug::FreesCheckpointEarly) {
            self.free_checkpoint();
        }
        let mut place = EntryPlace::Start;
        loop {
            let entries = self.walk_uploads(&place);
            let Some((last, _)) = entries.last() else { break };
            place = *last;
            for (_, entry) in entries {
                writer.put(&entry).await?;
            }
            yield_once().await;
        }
        let mut after: Option<Box<[u8]>> = None;
        loop {
            let step = self.walk(after.as_deref());
            let Some((last, entries)) = step else { break };
            for entry in entries {
                writer.put(&entry).await?;
            }
            after = Some(last);
            yield_once().await;
        }
        let root = writer.finish().await?;
        self.sync_data().await?;
        reach(Point::CheckpointSynced);

        let anchor = {
            let state = self.state.borrow();
            Anchor {
                generation: state.anchor.generation + 1,
                log_start: start.position,
                log_sequence: start.sequence,
                log_previous: start.previous,
                log_next_zone: start.next_zone,
                checkpoint: Some(root),
                ..state.anchor.clone()
            }
        };
        if planted(Bug::FreesLogEarly) {
            self.cover_log_zones(start.sequence);
        }
        self.write_anchor(&anchor).await?;

        self.free_checkpoint();
        self.cover_log_zones(start.sequence);
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.counts.checkpoints += 1;
        state.anchor = anchor;
        state.checkpoint_extents = writer.keep(&mut state.space);
        state.keep_for_checkpoint(&self.identity.geometry);
        Ok(())
    }

    /// Gives back the extents of the checkpoint that no anchor names any more.
    fn free_checkpoint(&self) {
        let mut state = self.state.borrow_mut();
        let old = std::mem::take(&mut state.checkpoint_extents);
        old.into_iter().for_each(|extent| state.space.release_extent(extent));
    }

    /// Log zones of which replay needs nothing, since it starts at this batch, are kept only for the payloads in them.
    fn cover_log_zones(&self, start: u64) {
        let mut state = self.state.borrow_mut();
        while state.log_order.get(1).is_some_and(|next| next.sequence <= start) {
            if let Some(covered) = state.log_order.pop_front() {
                state.space.cover_log_zone(covered.zone, covered.sequence);
            }
        }
    }

    /// The next stretch of buckets and uploads as entries, each with its place.
    fn walk_uploads(&self, after: &EntryPlace) -> Vec<(EntryPlace, Entry)> {
        let state = self.state.borrow();
        let mut bytes = 0;
        let within = |(_, entry): &(EntryPlace, Entry)| {
            let room = bytes < WALK_BYTES;
            bytes += footprint::entry_bytes(entry);
            room
        };
        state.catalog.entries_after(after).take(WALK_STEP).take_while(within).collect()
    }

    /// The next stretch of the index as entries, and the key it ends with.
    fn walk(&self, after: Option<&[u8]>) -> Option<(Box<[u8]>, Vec<Entry>)> {
        let state = self.state.borrow();
        let mut from = match after {
            None => Bound::Unbounded,
            Some(key) => Bound::Excluded(key),
        };
        let mut entries = Vec::with_capacity(WALK_STEP);
        let mut last: Option<&[u8]> = None;
        let mut bytes = 0;
        while entries.len() < WALK_STEP && bytes < WALK_BYTES {
            let Some((encoded, record)) = state.catalog.index.seek(from) else { break };
            let (bucket, key, _) = decode(encoded);
            bytes += footprint::version_bytes(&key, record);
            entries.push(Entry::PutObject { bucket, key: key.into(), record: record.clone() });
            last = Some(encoded);
            from = Bound::Excluded(encoded);
        }
        last.map(|last| (last.into(), entries))
    }

    /// Writes the four copies, one after the other, each durable before the next: from four that agree to four that
    /// agree, there are at any instant two that do.
    ///
    /// # Errors
    /// The shard takes no more writes then: how many copies are new is unknown.
    pub(super) async fn write_anchor(&self, anchor: &Anchor) -> Result<(), DeviceError> {
        for copy in 0..COPIES {
            if let Err(error) = self.write_anchor_copy(anchor, copy).await {
                self.state.borrow_mut().failed.get_or_insert(error);
                self.work.notify();
                self.progressed();
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) async fn write_anchor_copy(&self, anchor: &Anchor, copy: usize) -> Result<(), DeviceError> {
        let mut lease = self.core.pool().acquire(BLOCK_BYTES).await;
        lease.set_len(BLOCK_BYTES);
        lease.as_mut_slice().copy_from_slice(&anchor.encode(&self.identity.secret));
        let offset = self.files.log_base + anchor_offset(copy);
        let scatter = ScatterList::from(lease.freeze());
        self.write(Region::Log, offset, scatter, Durability::Durable, BLOCK_BYTES as u64).await?;
        reach(Point::AnchorCopyWritten);
        Ok(())
    }
}

struct ChunkWriter {
    shard: Rc<Shard>,
    id: u64,
    chunk_bytes: usize,
    lease: Option<BufferLease>,
    filled: usize,
    index: u32,
    entries: u64,
    previous: Option<ChunkPlace>,
    reserved: Vec<(Reservation, Extent)>,
    scratch: Vec<u8>,
}

impl ChunkWriter {
    fn new(shard: Rc<Shard>) -> ChunkWriter {
        let id = checkpoint_id(shard.state.borrow().anchor.checkpoint) + 1;
        let chunk_bytes = CHUNK_BYTES.min(shard.identity.geometry.zone_bytes as usize);
        ChunkWriter {
            shard,
            id,
            chunk_bytes,
            lease: None,
            filled: 0,
            index: 0,
            entries: 0,
            previous: None,
            reserved: Vec::new(),
            scratch: Vec::new(),
        }
    }

    async fn put(&mut self, entry: &Entry) -> Result<(), Error> {
        check_length(entry)?;
        let mut encoded = std::mem::take(&mut self.scratch);
        encoded.clear();
        entry.encode(&mut encoded);
        self.entries += 1;
        let mut rest = &encoded[..];
        while !rest.is_empty() {
            let mut lease = self.lease().await;
            let room = self.chunk_bytes - ChunkHeader::BYTES - self.filled;
            let (now, later) = rest.split_at(rest.len().min(room));
            let at = ChunkHeader::BYTES + self.filled;
            lease.full_mut()[at..at + now.len()].copy_from_slice(now);
            self.filled += now.len();
            rest = later;
            self.lease = Some(lease);
            if self.filled == self.chunk_bytes - ChunkHeader::BYTES {
                self.flush().await?;
            }
        }
        self.scratch = encoded;
        Ok(())
    }

    async fn lease(&mut self) -> BufferLease {
        match self.lease.take() {
            Some(lease) => lease,
            None => self.shard.core.pool().acquire(self.chunk_bytes).await,
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let mut lease = self.lease().await;
        let mut copies = [Extent { zone: 0, unit: 0, order: 0 }; CHUNK_COPIES];
        for copy in &mut copies {
            let (reservation, extent) = self.shard.reserve_one(self.chunk_bytes as u64).await?;
            self.reserved.push((reservation, extent));
            self.shard.state.borrow_mut().checkpoint_taking += extent.bytes();
            *copy = extent;
        }
        let header = ChunkHeader {
            shard: self.shard.id(),
            epoch: self.shard.state.borrow().epoch,
            checkpoint: self.id,
            index: self.index,
            previous: self.previous,
            bytes: self.filled as u32,
        };
        let end = (ChunkHeader::BYTES + self.filled).next_multiple_of(BLOCK_BYTES);
        lease.full_mut()[ChunkHeader::BYTES + self.filled..end].fill(0);
        let hash = header.seal(&self.shard.identity.secret, &mut lease.full_mut()[..end]);
        lease.set_len(end);
        let chunk = lease.freeze();
        for copy in copies {
            let (offset, scatter) = (self.shard.data_offset(copy), ScatterList::from(chunk.clone()));
            self.shard.write(Region::Data, offset, scatter, Durability::Buffered, end as u64).await?;
        }
        reach(Point::ChunkWritten);
        self.previous = Some(ChunkPlace { copies, hash });
        self.index += 1;
        self.filled = 0;
        Ok(())
    }

    async fn finish(&mut self) -> Result<CheckpointRoot, Error> {
        if self.filled > 0 || self.index == 0 {
            self.flush().await?;
        }
        Ok(CheckpointRoot {
            id: self.id,
            last_chunk: self.previous.expect("at least one chunk was written"),
            chunk_count: self.index,
            entry_count: self.entries,
        })
    }

    /// The chunks' extents now belong to the checkpoint.
    fn keep(&mut self, space: &mut super::space::Space) -> Vec<Extent> {
        let reserved = std::mem::take(&mut self.reserved);
        reserved.iter().for_each(|(reservation, extent)| space.consume(*reservation, &[*extent]));
        reserved.into_iter().map(|(_, extent)| extent).collect()
    }

    fn give_back(&mut self) {
        for (reservation, _) in std::mem::take(&mut self.reserved) {
            self.shard.release(reservation);
        }
    }
}

/// No upload becomes an object of which this is an error. But whatever the catalog has, what comes of it must not be the end of the core.
fn check_length(entry: &Entry) -> Result<(), Error> {
    let Entry::PutObject { bucket, key, record } = entry else { return Ok(()) };
    let Content::Parts(parts) = &record.content else { return Ok(()) };
    if parts.iter().map(Part::encoded_bytes).sum::<usize>() > PARTS_BYTES_MAX {
        let (version, parts) = (record.version, parts.len());
        tracing::error!(
            ?bucket,
            ?key,
            ?version,
            parts,
            "the record of an object is too long for a checkpoint"
        );
        return Err(Error::InvalidArgument("attributes and extents of all parts, length"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core_engine::CompleteOptions,
        layout::{Record, Version},
        object::types::{ATTRIBUTES_BYTES_MAX, CommitOptions, NamedPart, PutOptions, Which},
        testing::bare::Bare,
    };
    use bytes::Bytes;

    /// Parts whose records are longer together than an entry may be do not become an object; if they have become one all the same, no
    /// checkpoint is taken, and that is all.
    #[test]
    fn an_object_longer_than_an_entry_is_not_made() {
        let bare = Bare::open();
        let engine = bare.engine();
        bare.run(async move {
            engine.create_bucket("b", Bytes::new()).await.unwrap();
            let upload = engine.create_upload("b", b"k", Bytes::new()).await.unwrap().upload;
            let attributes = Bytes::from(vec![1; ATTRIBUTES_BYTES_MAX]);
            let mut parts = Vec::new();
            for number in 1..=2100 {
                let options = PutOptions { size: Some(0) };
                let put = engine.put_part("b", b"k", upload, number, options).await.unwrap();
                let options = CommitOptions { attributes: attributes.clone(), ..CommitOptions::default() };
                let part = put.finish_part(options).await.unwrap();
                parts.push(NamedPart { number, etag: Some(part.etag) });
            }
            let refused = engine.complete_upload("b", b"k", upload, parts, CompleteOptions::default()).await;
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
            let shard = engine.own_shards().next().expect("it has one").clone();
            shard.checkpoint().await.unwrap();
            let before = shard.statistics().checkpoints;

            let one = engine.put("b", b"k", PutOptions { size: Some(0) }).await.unwrap();
            one.finish(CommitOptions::default()).await.unwrap();
            let (like, _, pin) = shard.open_object("b", b"k", Which::Current).unwrap();
            shard.close_object(pin);
            let version = Version(like.version.0 + 1);
            let record = Record { version, content: Content::Empty, ..like };
            let made = Entry::CompleteUpload { upload, record, parts: (1..=2100).collect() };
            shard.log_entry(made).await.unwrap();
            let taken = shard.checkpoint().await;
            assert!(matches!(taken, Err(Error::InvalidArgument(_))), "{taken:?}");
            assert_eq!(shard.statistics().checkpoints, before);
            shard.check_space().unwrap();
        });
    }

    /// What a checkpoint copies of uploads at a time is bounded, however many parts there are.
    #[test]
    fn open_uploads_are_walked_a_few_at_a_time() {
        let bare = Bare::open();
        let engine = bare.engine();
        bare.run({
            let engine = engine.clone();
            async move {
                engine.create_bucket("b", Bytes::new()).await.unwrap();
                for key in 0..5u8 {
                    let upload = engine.create_upload("b", &[key], Bytes::new()).await.unwrap().upload;
                    for number in 1..=6000 {
                        let options = PutOptions { size: Some(0) };
                        let put = engine.put_part("b", &[key], upload, number, options).await.unwrap();
                        put.finish_part(CommitOptions::default()).await.unwrap();
                    }
                }
            }
        });
        let mut takes = std::iter::repeat_with(|| {
            let engine = engine.clone();
            allocation_counter::measure(|| bare.run(async move { engine.checkpoint().await.unwrap() }))
        });
        // The disk takes memory where it is written for the first time: one that writes where others have is judged.
        let at_rest = |taken: &allocation_counter::AllocationInfo| taken.bytes_current < 1 << 19;
        let taken = takes.by_ref().take(8).find(at_rest).expect("extents come back");
        assert!(taken.bytes_max < 3 * WALK_BYTES, "{taken:?}");
    }
}
