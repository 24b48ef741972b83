//! Writing the bytes of an object or a part.
//!
//! ```text
//!   buffer() ─► filled by the caller ─► push() ─┬─ small: kept, goes into the log with the commit
//!   write() ──► copied into buffers ──────┘     └─ large: checksummed while warm, written to extents, window of 4
//!   finish() ─► the last writes, the checksum table ─► one hop to the shard: commit
//! ```
//!
//! The leases' sizes make every buffer but the last a whole number of checksum blocks, so that no byte is moved: what
//! the caller received into a buffer is what the device writes.

use super::{CHUNK_BYTES, OPERATION_BYTES_MAX, WINDOW, types::CommitOptions};
use crate::{
    core_engine::CoreEngine,
    error::{DeviceError, DeviceOperation, Error, Region, Resource},
    layout::{
        BLOCK_BYTES, ChecksumTable, EXTENT_CHECKSUM_BYTES, Extent, PACKED_CHECKSUM_BYTES, checksum,
        checksum_combine,
    },
    log::ENTRY_BYTES_MAX,
    object::types::{ATTRIBUTES_BYTES_MAX, ObjectInfo, PartInfo},
    planted::{Point, reach},
    reactor::{Grant, OwnTask},
    shard::{
        requests::{Body, PutRequest, Written},
        space::Reservation,
        uploads::PartRequest,
    },
};
use bytes::Bytes;
use crossdock_transport::{
    memory::{BufferLease, CopyReason, FrozenLease, LEASE_BYTES_MAX, ScatterList, copy_payload, lease_bytes},
    operation::OsError,
    ring::Durability,
};
use std::collections::VecDeque;

/// What a body is told whose push, or write, was given up before it was done.
const CUT_SHORT: Error = Error::InvalidArgument("bytes before these were handed over and never taken");

/// What whoever goes on after a part-filled buffer is told: there would be a hole in the object.
pub(super) const NOT_FILLED: Error = Error::InvalidArgument("only the last buffer may be partly filled");

const TOO_MANY: Error = Error::InvalidArgument("more bytes than declared");

/// Whether a body may have so many bytes.
pub(crate) fn check_body(bytes: u64) -> Result<(), Error> {
    if bytes > OBJECT_BYTES_MAX {
        return Err(Error::InvalidArgument("the body is longer than one object or part may be"));
    }
    Ok(())
}

/// Checksums up to this many lie in the record; more go to an extent of their own.
const CHECKSUMS_HERE_MAX: usize = 64;

/// The longest object or part: its checksums fit into one lease. S3's bound for one body is 5 GiB, and for an object of parts
/// the sum of 10 000 of these.
const OBJECT_BYTES_MAX: u64 = (LEASE_BYTES_MAX / size_of::<u64>() * EXTENT_CHECKSUM_BYTES) as u64;

/// Extents of one object or part, at most: its record fits a log entry with all else it may have, its key among that. Only
/// space in small pieces needs more than a few hundred.
const EXTENTS_MAX: usize = 8000;
const _: () =
    assert!(EXTENTS_MAX * 7 + CHECKSUMS_HERE_MAX * 8 + ATTRIBUTES_BYTES_MAX + 2048 <= ENTRY_BYTES_MAX);

/// What is being written.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Object { bucket: Box<str>, key: Box<[u8]> },
    Part { bucket: Box<str>, key: Box<[u8]>, upload: crate::layout::UploadId, number: u16 },
}

/// An object or part being written on this core. Dropping it before it is finished leaves nothing behind.
pub struct Put {
    engine: CoreEngine,
    shard: u16,
    target: Target,
    size: Option<u64>,
    received: u64,
    /// What was written by [`Put::write`] and does not fill a buffer yet: the end of the body, if no more comes.
    tail: Option<BufferLease>,
    /// The first buffer, while the object may still be small.
    held: Option<BufferLease>,
    extents: ExtentWriter,
    ended: bool,
    /// Why the body has a hole: bytes were handed over and not taken.
    broken: Option<Error>,
    _memory: Grant,
    /// An operation, unless it is a part of one that has it, and one of the writes among them.
    _operation: (Option<Grant>, Grant),
}

impl Put {
    pub(crate) fn new(
        engine: CoreEngine,
        shard: u16,
        target: Target,
        size: Option<u64>,
        memory: Grant,
        operation: (Option<Grant>, Grant),
    ) -> Put {
        let extents = ExtentWriter::new(engine.clone(), shard, EXTENTS_MAX);
        Put {
            engine,
            shard,
            target,
            size,
            received: 0,
            tail: None,
            held: None,
            extents,
            ended: false,
            broken: None,
            _memory: memory,
            _operation: operation,
        }
    }

    /// Bytes of leases that writing an object of this size holds at most.
    pub(crate) fn memory_bytes(size: Option<u64>) -> usize {
        match size {
            Some(size) if size <= CHUNK_BYTES as u64 => lease_bytes(size as usize),
            _ => OPERATION_BYTES_MAX,
        }
    }

    /// Bytes of the body so far, pushed or written.
    pub fn received(&self) -> u64 {
        self.received + self.tail.as_ref().map_or(0, |tail| tail.len() as u64)
    }

    /// The next buffer to fill: empty, with room for [`Put::buffer_bytes`].
    ///
    /// # Errors
    /// [`Error::Busy`] with [`Resource::WriteMemory`] when for some seconds there was no memory, which all who were let in have: somebody
    /// keeps more of it than he was let in with. Nothing is lost: the next call waits again.
    pub async fn buffer(&mut self) -> Result<BufferLease, Error> {
        self.extents.make_room().await;
        let mut lease = self.engine.lease(self.buffer_bytes(), Resource::WriteMemory).await?;
        lease.set_len(0);
        Ok(lease)
    }

    /// How many bytes the next buffer must be filled with, unless the body ends before.
    pub fn buffer_bytes(&self) -> usize {
        let packed_max = self.engine.geometry().packed_bytes_max as u64;
        match self.size {
            Some(size) => {
                let left = size.saturating_sub(self.received).clamp(1, CHUNK_BYTES as u64);
                (left as usize).next_multiple_of(BLOCK_BYTES)
            }
            // Unknown: the first buffer holds what may be packed. If more follows it is the first of extents.
            None if self.received < packed_max => {
                (packed_max as usize).next_multiple_of(EXTENT_CHECKSUM_BYTES)
            }
            None => CHUNK_BYTES,
        }
    }

    /// Bytes to come, if the size was declared.
    pub(super) fn declared_left(&self) -> Option<u64> {
        self.size.map(|size| size.saturating_sub(self.received))
    }

    /// Waits for the oldest buffer that is being written.
    pub(super) async fn wait_for_write(&mut self) {
        self.extents.wait_oldest().await;
    }

    /// Buffers that are being written.
    pub(super) fn buffers_in_flight(&self) -> usize {
        self.extents.writes.len()
    }

    pub(super) fn engine(&self) -> &CoreEngine {
        &self.engine
    }

    /// Takes a filled buffer: its bytes in use are the next of the body. Only the body's last buffer may hold fewer
    /// than [`Put::buffer_bytes`] said.
    ///
    /// # Errors
    /// A device or a full store; [`Error::InvalidArgument`] if more comes than was declared, or a buffer follows one that was not
    /// full, or a [`Put::write`] that did not fill one. The object is then lost, and the `Put` good for nothing but to be dropped:
    /// whatever else it is asked answers the same.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves loses the object: [`Put::finish`] refuses it.
    pub async fn push(&mut self, lease: BufferLease) -> Result<(), Error> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        // Until it is taken whole, and if it never is, the body has a hole.
        self.broken = Some(CUT_SHORT);
        // What was written and fills no buffer lies before these bytes: here there is no room left for it.
        let taken = if self.tail.is_some() { Err(NOT_FILLED) } else { self.take(lease).await };
        self.broken = taken.as_ref().err().cloned();
        taken
    }

    async fn take(&mut self, lease: BufferLease) -> Result<(), Error> {
        if lease.is_empty() {
            return Ok(());
        }
        if self.ended {
            return Err(NOT_FILLED);
        }
        self.ended = !lease.len().is_multiple_of(EXTENT_CHECKSUM_BYTES);
        self.received += lease.len() as u64;
        check_body(self.received)?;
        if self.size.is_some_and(|size| self.received > size) {
            return Err(TOO_MANY);
        }
        let packed_max = u64::from(self.engine.geometry().packed_bytes_max);
        let is_large = self.size.unwrap_or(self.received) > packed_max;
        if !is_large && self.held.is_none() {
            self.held = Some(lease);
            return Ok(());
        }
        if let Some(first) = self.held.take() {
            self.extents.write(first, self.size).await?;
        }
        self.extents.write(lease, self.size).await
    }

    /// Copies `bytes` in, as the next of the body: for callers whose bytes are not in a lease. What does not fill a buffer is kept
    /// for the next call, or for the end of the body.
    ///
    /// # Errors
    /// As [`Put::push`] and [`Put::buffer`]; which of the bytes were taken is then not known, and the object lost.
    ///
    /// # Cancellation
    /// As [`Put::push`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        self.broken = Some(CUT_SHORT);
        let taken = self.copy_in(bytes).await;
        self.broken = taken.as_ref().err().cloned();
        taken
    }

    async fn copy_in(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if self.size.is_some_and(|size| self.received() + bytes.len() as u64 > size) {
            return Err(TOO_MANY);
        }
        while !bytes.is_empty() {
            let mut lease = match self.tail.take() {
                Some(lease) => lease,
                None => self.buffer().await?,
            };
            let (at, limit) = (lease.len(), self.buffer_bytes());
            let (now, later) = bytes.split_at(bytes.len().min(limit - at));
            lease.set_len(at + now.len());
            copy_payload(&mut lease.as_mut_slice()[at..], now, CopyReason::Foreign);
            bytes = later;
            if lease.len() == limit {
                self.take(lease).await?;
            } else {
                self.tail = Some(lease);
            }
        }
        Ok(())
    }

    /// Whether the next bytes begin a buffer.
    pub(super) fn is_between_buffers(&self) -> bool {
        self.tail.is_none()
    }

    /// Commits the object. Durable and visible when it resolves.
    ///
    /// # Errors
    /// The condition fails, the bucket is gone, or not as the caller decided by ([`Error::Changed`]), fewer bytes came than declared, the store is full or a device fails:
    /// nothing is visible then, nor ever. After [`Error::OutcomeUnknown`] and [`Error::Closed`] the object may be there after a restart.
    ///
    /// # Cancellation
    /// Dropping the future before it resolves leaves the object there or not, whole either way.
    pub async fn finish(mut self, options: CommitOptions) -> Result<ObjectInfo, Error> {
        // Before anything is taken out of this: what is set aside for it goes back when it is dropped.
        if matches!(self.target, Target::Part { .. }) {
            return Err(Error::InvalidArgument("a part is finished with finish_part"));
        }
        let written = self.written().await?;
        let Target::Object { bucket, key } = self.target else { unreachable!("it was looked at") };
        let CommitOptions { etag, attributes, condition, decided_by } = options;
        let request = PutRequest { bucket, key, written, etag, attributes, condition, decided_by };
        if let Some(shard) = self.engine.own_shard(self.shard)?
            && shard.is_ready_to_add()
        {
            // Once it has its place in the log nothing is lost with whoever waits for it, and it needs no task.
            let sequenced = self.engine.core().section(|| shard.sequence_put(request));
            return shard.acknowledged(sequenced).await;
        }
        // Boxed: it is large, and hardly ever made.
        let put = self.engine.on_shard(self.shard, move |shard| async move { shard.put(request).await });
        Box::pin(put).await
    }

    /// Commits the part. Durable when it resolves.
    ///
    /// # Errors
    /// As [`Put::finish`], and [`Error::NoSuchUpload`] if the upload was completed or aborted meanwhile.
    pub async fn finish_part(mut self, options: CommitOptions) -> Result<PartInfo, Error> {
        if matches!(self.target, Target::Object { .. }) {
            return Err(Error::InvalidArgument("an object is finished with finish"));
        }
        let written = self.written().await?;
        let Target::Part { bucket, key, upload, number } = self.target else {
            unreachable!("it was looked at")
        };
        let CommitOptions { etag, attributes, decided_by, .. } = options;
        let request = PartRequest { bucket, key, upload, number, written, etag, attributes, decided_by };
        self.engine.on_shard(self.shard, move |shard| async move { shard.put_part(request).await }).await
    }

    async fn written(&mut self) -> Result<Written, Error> {
        if let Some(why) = self.broken.take() {
            return Err(why);
        }
        if let Some(tail) = self.tail.take() {
            self.take(tail).await?;
        }
        if self.size.is_some_and(|size| size != self.received) {
            return Err(Error::InvalidArgument("fewer bytes than declared"));
        }
        if self.received == 0 {
            return Ok(Written { body: Body::Empty, size: 0, crc64: 0 });
        }
        let Some(lease) = self.held.take() else { return self.extents.finish(self.received).await };
        let geometry = self.engine.geometry();
        let size = lease.len();
        if size <= geometry.inline_bytes_max as usize {
            let mut bytes = vec![0; size];
            copy_payload(&mut bytes, lease.as_slice(), CopyReason::Inline);
            let crc64 = checksum(&bytes);
            return Ok(Written { body: Body::Inline(Bytes::from(bytes)), size: size as u64, crc64 });
        }
        Ok(packed(lease))
    }
}

fn packed(mut lease: BufferLease) -> Written {
    let size = lease.len();
    let checksums: Vec<u64> = lease.as_slice().chunks(PACKED_CHECKSUM_BYTES).map(checksum).collect();
    let crc64 = combine(&checksums, size as u64, PACKED_CHECKSUM_BYTES as u64);
    // What follows the payload in its last block reaches the disk: it must be nothing of anybody's.
    let padded = size.next_multiple_of(BLOCK_BYTES);
    lease.zero_tail(padded);
    lease.set_len(padded);
    let body = Body::Packed { lease: lease.freeze(), bytes: size as u32, checksums };
    Written { body, size: size as u64, crc64 }
}

/// The checksum of the whole from those of its blocks.
pub(crate) fn combine(checksums: &[u64], bytes: u64, block_bytes: u64) -> u64 {
    let mut left = bytes;
    let mut whole = 0;
    for (index, &block) in checksums.iter().enumerate() {
        let length = left.min(block_bytes);
        whole = if index == 0 { block } else { checksum_combine(whole, block, length) };
        left -= length;
    }
    whole
}

type Write = OwnTask<Result<(), DeviceError>>;

/// Writes buffers to extents, a window at a time.
struct ExtentWriter {
    engine: CoreEngine,
    shard: u16,
    /// Extents at most.
    extents_max: usize,
    reservations: Vec<Reservation>,
    extents: Vec<Extent>,
    /// Where the next byte goes: which extent, and how far into it.
    extent: usize,
    offset: u64,
    written: u64,
    checksums: Vec<u64>,
    writes: VecDeque<Write>,
    failed: Option<DeviceError>,
}

impl ExtentWriter {
    fn new(engine: CoreEngine, shard: u16, extents_max: usize) -> ExtentWriter {
        ExtentWriter {
            engine,
            shard,
            extents_max,
            reservations: Vec::new(),
            extents: Vec::new(),
            extent: 0,
            offset: 0,
            written: 0,
            checksums: Vec::new(),
            writes: VecDeque::new(),
            failed: None,
        }
    }

    /// Waits until fewer than a window of writes are in flight.
    async fn make_room(&mut self) {
        while self.writes.len() >= WINDOW {
            self.wait_oldest().await;
        }
    }

    async fn wait_oldest(&mut self) {
        // Taken out only once it is done: a caller that goes away while waiting must not lose track of a write.
        let Some(oldest) = self.writes.front_mut() else { return };
        let result = oldest.await;
        self.writes.pop_front();
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }

    /// Writes a buffer behind the last. `size`: the whole body's, if it is known.
    async fn write(&mut self, mut lease: BufferLease, size: Option<u64>) -> Result<(), Error> {
        self.make_room().await;
        if let Some(error) = self.failed {
            return Err(Error::Device(error));
        }
        let bytes = lease.len();
        self.checksums.extend(lease.as_slice().chunks(EXTENT_CHECKSUM_BYTES).map(checksum));
        let padded = bytes.next_multiple_of(BLOCK_BYTES);
        lease.zero_tail(padded);
        lease.set_len(padded);
        let frozen = lease.freeze();
        let mut at = 0;
        while at < padded {
            self.reserve(bytes as u64, size).await?;
            let extent = self.extents[self.extent];
            let room = (extent.bytes() - self.offset) as usize;
            let now = room.min(padded - at);
            self.post(frozen.slice(at..at + now), extent);
            at += now;
            self.offset += now as u64;
        }
        self.written += bytes as u64;
        Ok(())
    }

    /// Makes sure that the next byte has a place.
    async fn reserve(&mut self, bytes: u64, size: Option<u64>) -> Result<(), Error> {
        if self.extents.get(self.extent).is_some_and(|extent| self.offset == extent.bytes()) {
            self.extent += 1;
            self.offset = 0;
        }
        if self.extent < self.extents.len() {
            return Ok(());
        }
        let wanted = match size {
            Some(size) => size - self.written,
            // As much again as there is: few extents whatever the length, and at most half of the space unused
            // until the body ends.
            None => {
                let zone = u64::from(self.engine.geometry().zone_bytes);
                self.written.max(bytes).next_power_of_two().clamp(CHUNK_BYTES.min(zone as usize) as u64, zone)
            }
        };
        let extents_max = self.extents_max - self.extents.len();
        if extents_max == 0 {
            // No zone that is made for it would help.
            return Err(Error::Full { shard: self.shard });
        }
        let reserved = self.engine.hold(
            self.shard,
            move |shard| async move { shard.reserve(wanted, extents_max).await },
            |shard, (reservation, _)| shard.release(reservation),
        );
        let (reservation, extents) = reserved.await?;
        self.reservations.push(reservation);
        self.extents.extend(extents);
        Ok(())
    }

    fn post(&mut self, piece: FrozenLease, extent: Extent) {
        let files = self.engine.files(self.shard);
        let zone = u64::from(extent.zone) * u64::from(self.engine.geometry().zone_bytes);
        let offset = files.data_zones_at + zone + extent.offset() + self.offset;
        let (device, shard) = (files.data.clone(), self.shard);
        let (region, place) = files.locate(Region::Data, offset);
        self.writes.push_back(self.engine.core().spawn_own(async move {
            let bytes = piece.len() as u64;
            let fail = |source| DeviceError {
                shard,
                region,
                operation: DeviceOperation::Write,
                offset: place,
                bytes,
                source,
            };
            let slot = device.queue().slot().await;
            let scatter = ScatterList::from(piece);
            let completion = device.write(slot, offset, scatter, Durability::Buffered).await;
            match completion.result {
                Ok(count) if u64::from(count) == bytes => Ok(()),
                Ok(_) => Err(fail(OsError(rustix::io::Errno::NOSPC.raw_os_error()))),
                Err(source) => Err(fail(source)),
            }
        }));
    }

    async fn finish(&mut self, size: u64) -> Result<Written, Error> {
        let crc64 = combine(&self.checksums, size, EXTENT_CHECKSUM_BYTES as u64);
        let checksums = std::mem::take(&mut self.checksums);
        let table = if checksums.len() <= CHECKSUMS_HERE_MAX {
            ChecksumTable::Here(checksums)
        } else {
            self.write_table(&checksums).await?
        };
        while !self.writes.is_empty() {
            self.wait_oldest().await;
        }
        if let Some(error) = self.failed {
            return Err(Error::Device(error));
        }
        reach(Point::DataWritten);
        let used = self.extent + usize::from(self.offset > 0);
        let mut extents = std::mem::take(&mut self.extents);
        extents.truncate(used);
        let reservations = std::mem::take(&mut self.reservations);
        let body = Body::Extents { reservations, extents, bytes: size, checksums: table };
        Ok(Written { body, size, crc64 })
    }

    async fn write_table(&mut self, checksums: &[u64]) -> Result<ChecksumTable, Error> {
        let bytes = std::mem::size_of_val(checksums);
        let padded = bytes.next_multiple_of(BLOCK_BYTES);
        let reserved = self.engine.hold(
            self.shard,
            move |shard| async move { shard.reserve_one(padded as u64).await },
            |shard, (reservation, _)| shard.release(reservation),
        );
        let (reservation, extent) = reserved.await?;
        self.reservations.push(reservation);
        let mut lease = self.engine.lease(padded, Resource::WriteMemory).await?;
        for (target, sum) in lease.full_mut().chunks_exact_mut(size_of::<u64>()).zip(checksums) {
            target.copy_from_slice(&sum.to_le_bytes());
        }
        lease.set_len(bytes);
        let sum = checksum(lease.as_slice());
        lease.zero_tail(padded);
        lease.set_len(padded);
        // The table's own extent has an offset of its own.
        let body_offset = std::mem::replace(&mut self.offset, 0);
        self.post(lease.freeze(), extent);
        self.offset = body_offset;
        Ok(ChecksumTable::Away { extent, bytes: bytes as u32, checksum: sum })
    }
}

impl Drop for ExtentWriter {
    fn drop(&mut self) {
        if self.reservations.is_empty() {
            return;
        }
        // The device may still be writing to this space: it goes back only when the last write is done.
        let (engine, shard) = (self.engine.clone(), self.shard);
        let reservations = std::mem::take(&mut self.reservations);
        let writes = std::mem::take(&mut self.writes);
        let core = engine.core().clone();
        core.spawn_own(async move {
            for write in writes {
                // Whether it succeeded is of no interest any more.
                let _ = write.await;
            }
            engine.send_to_shard(shard, move |shard| {
                reservations.into_iter().for_each(|reservation| shard.release(reservation));
            });
        })
        .detach();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world::{World, WorldOptions};

    /// Writes so many bytes of a body of unknown length.
    async fn write(writer: &mut ExtentWriter, bytes: u64) -> Result<(), Error> {
        let mut lease = writer.engine.lease(bytes as usize, Resource::WriteMemory).await?;
        lease.set_len(bytes as usize);
        lease.as_mut_slice().fill(7);
        writer.write(lease, None).await
    }

    /// A body that has all the extents it may have, and more bytes, is refused, with no zone made for it; its space comes back.
    #[test]
    fn a_body_that_has_all_its_extents_is_refused() {
        let mut world = World::new(1, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
        world.open().unwrap();
        let engine = world.engine(0);
        let shard = engine.own_shards().next().expect("it has one").clone();
        let zone = u64::from(shard.identity.geometry.zone_bytes);
        world.run(async move {
            let mut writer = ExtentWriter::new(engine, 0, 2);
            for _ in 0..2 {
                write(&mut writer, zone).await.unwrap();
            }
            assert_eq!(writer.extents.len(), 2);
            let there_are = || {
                let now = shard.statistics();
                now.extent_bytes_used + now.extent_bytes_free
            };
            let before = there_are();
            assert_eq!(write(&mut writer, 1).await, Err(Error::Full { shard: 0 }));
            assert_eq!(there_are(), before);
        });
        while world.step() {}
        world.check_at_rest().unwrap();
    }
}
