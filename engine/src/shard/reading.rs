//! Reads the structures of a shard that is not running: its anchor, its checkpoint, its log.
//!
//! Nothing is changed: recovery begins with it, and so does looking at a store.

use super::{ShardFiles, ShardIdentity, checkpoint::CHUNK_BYTES, space::Zones};
use crate::{
    error::{Corruption, DeviceError, DeviceOperation, OpenError, Region},
    layout::{
        Anchor, BLOCK_BYTES, COPIES, CheckpointRoot, ChunkHeader, ChunkPlace, DecodeError, Entry, Extent,
        LogPosition, MetaHash, anchor_offset, disagreeing,
    },
    log::recover::{LogReader, Replayed},
    reactor::Core,
};
use crossdock_transport::memory::{BufferLease, Pool};
use std::{collections::BTreeSet, future::Future, pin::Pin, rc::Rc};

/// Reads the structures of a shard that is not running yet, or of one that is, with a gate.
#[derive(Clone)]
pub(crate) struct Reading {
    pub(crate) identity: ShardIdentity,
    pub(crate) core: Core,
    pub(crate) files: ShardFiles,
    /// What each read of structures waits for first.
    pub(crate) gate: Option<Rc<dyn Gate>>,
}

/// Lets reads of structures through where others come first.
pub(crate) trait Gate {
    /// Resolves when so many bytes may be read.
    fn pass(&self, bytes: usize) -> Pin<Box<dyn Future<Output = ()> + '_>>;

    /// Memory for so many bytes when some is free; none: there is to be no more reading.
    fn memory(&self, bytes: usize) -> Pin<Box<dyn Future<Output = Option<BufferLease>> + '_>>;
}

/// A lease to read structures to.
///
/// # Errors
/// The gate lets nothing through any more.
pub(crate) async fn lease(
    pool: &Pool,
    gate: Option<&Rc<dyn Gate>>,
    bytes: usize,
) -> Result<BufferLease, OpenError> {
    match gate {
        None => Ok(pool.acquire(bytes).await),
        Some(gate) => {
            let ended = || OpenError::Options("there is to be no more reading".into());
            gate.memory(bytes).await.ok_or_else(ended)
        }
    }
}

/// A checkpoint that was read.
#[derive(Default)]
pub(crate) struct ReadCheckpoint {
    /// Its chunks, from the first.
    pub(crate) chunks: Vec<ChunkPlace>,
    /// Chunks whose other copy stood in.
    pub(crate) mended: u64,
}

impl ReadCheckpoint {
    /// The extents of all copies.
    pub(crate) fn extents(&self) -> Vec<Extent> {
        self.chunks.iter().flat_map(|chunk| chunk.copies).collect()
    }
}

impl Reading {
    /// The anchor's copies, each as it reads, and what the device said of the first that it could not read.
    pub(crate) async fn anchor_copies(&self) -> (Vec<Result<Anchor, DecodeError>>, Option<OpenError>) {
        let (mut copies, mut failed) = (Vec::with_capacity(COPIES), None);
        for copy in 0..COPIES {
            let offset = self.files.log_base + anchor_offset(copy);
            let read = match self.lease(BLOCK_BYTES).await {
                Ok(lease) => self.read(Region::Log, offset, BLOCK_BYTES, lease).await,
                Err(error) => Err(error),
            };
            copies.push(match read {
                Ok(lease) if lease.len() == BLOCK_BYTES => {
                    Anchor::decode(lease.as_slice(), &self.identity.secret)
                }
                Ok(_) => Err(DecodeError::Truncated),
                Err(error) => {
                    tracing::warn!(%error, copy, "a copy of the anchor is unreadable");
                    failed.get_or_insert(error);
                    Err(DecodeError::Unreadable)
                }
            });
        }
        (copies, failed)
    }

    /// The anchor that counts, and which copies are not it.
    pub(crate) async fn anchor(&self) -> Result<(Anchor, Vec<usize>), OpenError> {
        let (copies, failed) = self.anchor_copies().await;
        let anchor = self.choose_anchor(&copies, failed)?;
        let stale = disagreeing(&copies, &anchor);
        Ok((anchor, stale))
    }

    /// The anchor that counts among these copies. If none does, the device's error says more than what could be read.
    pub(crate) fn choose_anchor(
        &self,
        copies: &[Result<Anchor, DecodeError>],
        failed: Option<OpenError>,
    ) -> Result<Anchor, OpenError> {
        let damaged = |source| self.damaged("anchor", Region::Log, self.files.log_base, source);
        let anchor = match (Anchor::choose(copies), failed) {
            (Ok(anchor), _) => anchor,
            (Err(source @ (DecodeError::NewerVersion(_) | DecodeError::UnknownFeatures(_))), _)
            | (Err(source), None) => return Err(damaged(source)),
            (Err(_), Some(error)) => return Err(error),
        };
        if anchor.store != self.identity.store || anchor.shard != self.identity.shard {
            return Err(damaged(DecodeError::Identity));
        }
        Ok(anchor)
    }

    /// Hands the checkpoint's entries to `apply`. A chunk of which one copy is damaged is read from the other.
    pub(crate) async fn checkpoint(
        &self,
        root: CheckpointRoot,
        apply: &mut dyn FnMut(Entry),
    ) -> Result<ReadCheckpoint, OpenError> {
        // The chain runs backwards, the entries forwards: first the places, then the bytes.
        let mut chain = vec![root.last_chunk];
        let mut lease = self.lease(CHUNK_BYTES).await?;
        let mut mended = 0;
        for index in (0..root.chunk_count).rev() {
            let place = chain[chain.len() - 1];
            let header;
            (lease, header) = self.chunk(root.id, index, place, lease, &mut mended).await?;
            match (header.previous, index) {
                (Some(previous), 1..) => chain.push(previous),
                (None, 0) => {}
                _ => return Err(self.damaged_chunk(place, DecodeError::Bounds)),
            }
        }
        chain.reverse();
        let mut pending: Vec<u8> = Vec::new();
        let mut entries = 0;
        for (index, place) in chain.iter().enumerate() {
            let header;
            (lease, header) = self.chunk(root.id, index as u32, *place, lease, &mut 0).await?;
            pending.extend_from_slice(&lease.as_slice()[ChunkHeader::BYTES..][..header.bytes as usize]);
            let mut rest = &pending[..];
            loop {
                let mut next = rest;
                match Entry::decode(&mut next) {
                    Ok(entry) => apply(entry),
                    Err(DecodeError::Truncated) => break,
                    Err(error) => return Err(self.damaged_chunk(*place, error)),
                }
                entries += 1;
                rest = next;
            }
            let used = pending.len() - rest.len();
            pending.drain(..used);
        }
        if entries != root.entry_count || !pending.is_empty() {
            return Err(self.damaged_chunk(root.last_chunk, DecodeError::Truncated));
        }
        Ok(ReadCheckpoint { chunks: chain, mended })
    }

    /// Reads a chunk: the first of its copies that holds. Counts those that did not.
    async fn chunk(
        &self,
        id: u64,
        index: u32,
        place: ChunkPlace,
        mut lease: BufferLease,
        mended: &mut u64,
    ) -> Result<(BufferLease, ChunkHeader), OpenError> {
        let mut first_error = None;
        for extent in place.copies {
            let error = match self.chunk_copy(id, index, place.hash, extent, lease).await {
                Ok(Ok((lease, header))) => {
                    *mended += u64::from(first_error.is_some());
                    return Ok((lease, header));
                }
                Ok(Err(error)) => self.damaged("checkpoint", Region::Data, self.data_offset(extent), error),
                Err(error) => error,
            };
            tracing::warn!(%error, shard = self.identity.shard, index, "a checkpoint chunk's copy is unreadable");
            first_error.get_or_insert(error);
            lease = self.lease(CHUNK_BYTES).await?;
        }
        Err(first_error.unwrap_or_else(|| self.damaged_chunk(place, DecodeError::Truncated)))
    }

    /// Reads one copy of a chunk. The inner error says that it is not the chunk it should be.
    pub(crate) async fn chunk_copy(
        &self,
        id: u64,
        index: u32,
        hash: MetaHash,
        extent: Extent,
        lease: BufferLease,
    ) -> Result<Result<(BufferLease, ChunkHeader), DecodeError>, OpenError> {
        let lease = self.read(Region::Data, self.data_offset(extent), self.chunk_bytes(), lease).await?;
        let (header, found) = match ChunkHeader::open(lease.as_slice(), &self.identity.secret) {
            Ok((header, _, found)) => (header, found),
            Err(error) => return Ok(Err(error)),
        };
        if found != hash {
            return Ok(Err(DecodeError::Checksum));
        }
        if header.shard != self.identity.shard || header.checkpoint != id || header.index != index {
            return Ok(Err(DecodeError::Identity));
        }
        Ok(Ok((lease, header)))
    }

    fn damaged_chunk(&self, place: ChunkPlace, source: DecodeError) -> OpenError {
        let [first, ..] = place.copies;
        self.damaged("checkpoint", Region::Data, self.data_offset(first), source)
    }

    /// A lease to read to.
    pub(crate) async fn lease(&self, bytes: usize) -> Result<BufferLease, OpenError> {
        lease(self.core.pool(), self.gate.as_ref(), bytes).await
    }

    pub(crate) fn chunk_bytes(&self) -> usize {
        CHUNK_BYTES.min(self.identity.geometry.zone_bytes as usize)
    }

    pub(crate) fn data_offset(&self, extent: Extent) -> u64 {
        let zone = u64::from(extent.zone) * u64::from(self.identity.geometry.zone_bytes);
        self.files.data_zones_at + zone + extent.offset()
    }

    pub(crate) async fn read(
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
        if let Some(gate) = &self.gate {
            gate.pass(bytes).await;
        }
        let slot = device.queue().slot().await;
        let (result, mut lease) = device.read(slot, offset, lease, 0, bytes).await.into_lease();
        match result {
            Ok(count) => {
                lease.set_len((count as usize).min(bytes));
                Ok(lease)
            }
            Err(source) => {
                let (region, offset) = self.files.locate(region, offset);
                Err(OpenError::Device(DeviceError {
                    shard: self.identity.shard,
                    region,
                    operation: DeviceOperation::Read,
                    offset,
                    bytes: bytes as u64,
                    source,
                }))
            }
        }
    }

    /// What the log's reader says of a place, with the file in which that lies.
    pub(crate) fn located(&self, mut error: OpenError) -> OpenError {
        if let OpenError::Recovery { region, offset, .. }
        | OpenError::Device(DeviceError { region, offset, .. }) = &mut error
        {
            (*region, *offset) = self.files.locate(*region, *offset);
        }
        error
    }

    /// Reads the log of the shard as recovery does.
    pub(crate) fn log_reader(&self) -> LogReader {
        LogReader {
            device: self.files.log.clone(),
            pool: self.core.pool().clone(),
            secret: self.identity.secret,
            shard: self.identity.shard,
            zone_bytes: self.identity.geometry.zone_bytes,
            zones_at: self.files.log_zones_at,
            zones_there: BTreeSet::new(),
            window: None,
            next_zone: None,
            gate: self.gate.clone(),
            unreadable: BTreeSet::new(),
        }
    }

    /// Where a place in the log lies on its device.
    pub(crate) fn log_offset(&self, place: LogPosition) -> u64 {
        let zone = u64::from(place.zone) * u64::from(self.identity.geometry.zone_bytes);
        self.files.log_zones_at + zone + u64::from(place.offset)
    }

    pub(crate) fn damaged(
        &self,
        what: &'static str,
        region: Region,
        offset: u64,
        source: DecodeError,
    ) -> OpenError {
        let (region, offset) = self.files.locate(region, offset);
        OpenError::Recovery { shard: self.identity.shard, what, region, offset, source }
    }

    pub(crate) fn hole(&self, place: LogPosition) -> Corruption {
        let (region, offset) = self.files.locate(Region::Log, self.log_offset(place));
        Corruption {
            shard: self.identity.shard,
            region,
            offset,
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

    /// The zones there are, and those that hold the log from the checkpoint on.
    pub(crate) fn zones(&self, replayed: &Replayed) -> Zones {
        let mut log_in_use: Vec<u32> = replayed.zones.iter().map(|zone| zone.zone).collect();
        if log_in_use.last() != Some(&replayed.tail.position.zone) {
            log_in_use.push(replayed.tail.position.zone);
        }
        log_in_use.push(replayed.tail.next_zone);
        Zones {
            existing_data: self.existing_zones(Region::Data),
            existing_log: self.existing_zones(Region::Log),
            log_in_use,
        }
    }
}
