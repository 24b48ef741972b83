//! Reading an object's bytes.
//!
//! A window of chunk reads runs ahead of the caller. Each chunk is read as whole blocks, every checksum block in it is
//! verified while warm, and the exact slice is handed out: no byte leaves that was not checked, none is copied.

use super::{
    CHUNK_BYTES, WINDOW,
    piece::{Name, OpenPiece, Owner, Piece, Pieces, Place, Span},
    straight::{Into, read_straight},
    types::ObjectInfo,
    until::Until,
};
use crate::{
    cache::{BlockPlace, Found},
    core_engine::CoreEngine,
    error::{Corruption, DeviceError, DeviceOperation, Error, Region, Resource},
    events::FoundBy,
    inspect::{Finding, ObjectName, Problem, Severity},
    layout::{
        BLOCK_BYTES, ChecksumTable, Content, EXTENT_CHECKSUM_BYTES, Extent, PACKED_CHECKSUM_BYTES, Record,
        checksum, checksum_combine,
    },
    planted::{Bug, planted},
    reactor::{Grant, OwnTask},
    shard::space::Pin,
};
use crossdock_transport::memory::{BufferLease, CopyReason, FrozenLease, PeerLease, copy_payload};
use std::{
    collections::VecDeque,
    future::Future,
    ops::Range,
    rc::Rc,
    task::{Context, Poll},
};

/// An object being read on this core.
pub struct Get {
    engine: CoreEngine,
    shard: u16,
    owner: Owner,
    info: ObjectInfo,
    range: Range<u64>,
    pieces: Pieces,
    /// The next byte to be asked of a device, in bytes of the object.
    position: u64,
    /// The next byte to be handed out.
    handed_out: u64,
    current: Option<Rc<OpenPiece>>,
    window: VecDeque<Ahead>,
    /// Whether the read cache is used.
    cached: bool,
    /// Whether chunks come with their checksum.
    pub(super) with_checksums: bool,
    /// The memory that is left for what is still to be read, where a device can fill it itself.
    pub(super) straight: Option<PeerLease>,
    /// Until when a device may be told to; there where the memory is.
    pub(super) straight_until: Option<Until>,
    /// Until it is shared.
    pin: Option<PinGuard>,
    /// Also held by what reads straight into the peer's memory, until that is done.
    shared_pin: Option<Rc<PinGuard>>,
    _memory: Grant,
    _operation: Grant,
}

/// A chunk that is read ahead of the caller. As a future, it is the chunk.
enum Ahead {
    /// It was in memory; none once it was taken.
    Here(Option<Chunk>),
    Coming(OwnTask<Result<Chunk, Error>>),
}

impl Future for Ahead {
    type Output = Result<Chunk, Error>;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Ahead::Here(chunk) => Poll::Ready(Ok(chunk.take().expect("a chunk is taken once"))),
            Ahead::Coming(task) => std::pin::Pin::new(task).poll(cx),
        }
    }
}

/// A chunk that nothing runs ahead of, to be read by whoever wants it.
struct Alone {
    piece: Rc<OpenPiece>,
    span: Span,
    lease: BufferLease,
}

/// Verified bytes of the object.
pub(super) struct Chunk {
    /// Bytes that are in the peer's memory already; they come before those of the lease.
    pub(super) straight: u64,
    /// None if there are no others.
    pub(super) lease: Option<FrozenLease>,
    /// CRC-64/NVME of all of them; 0 unless it was asked for.
    pub(super) crc64: u64,
}

impl Chunk {
    pub(super) fn bytes(&self) -> u64 {
        self.straight + self.lease.as_ref().map_or(0, |lease| lease.len() as u64)
    }
}

/// Keeps the object's space from reuse; lets go of it on its shard when dropped.
pub(crate) struct PinGuard {
    engine: CoreEngine,
    shard: u16,
    pin: Pin,
}

impl PinGuard {
    pub(crate) fn new(engine: CoreEngine, shard: u16, pin: Pin) -> PinGuard {
        PinGuard { engine, shard, pin }
    }
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        let pin = self.pin;
        self.engine.send_to_shard(self.shard, move |shard| shard.close_object(pin));
    }
}

impl Get {
    pub(crate) fn new(
        engine: CoreEngine,
        name: Name,
        (record, info): (Record, ObjectInfo),
        pin: PinGuard,
        range: Range<u64>,
        grants: (Grant, Grant),
    ) -> Get {
        let shard = pin.shard;
        let owner = Owner { name, version: record.version, part: None };
        let position = range.start;
        let pieces = Pieces::of(record, position);
        let (memory, operation) = grants;
        let cached = engine.cache().takes(range.end - range.start);
        Get {
            engine,
            shard,
            owner,
            info,
            range,
            pieces,
            position,
            handed_out: position,
            current: None,
            window: VecDeque::new(),
            cached,
            with_checksums: false,
            straight: None,
            straight_until: None,
            pin: Some(pin),
            shared_pin: None,
            _memory: memory,
            _operation: operation,
        }
    }

    /// Bytes that were not handed out yet.
    pub(super) fn left(&self) -> u64 {
        self.range.end - self.handed_out
    }

    /// Whether the device fills memory of clients by itself.
    pub(super) fn device_fills(&self) -> bool {
        self.engine.files(self.shard).data.fills_targets()
    }

    pub(super) fn engine(&self) -> &CoreEngine {
        &self.engine
    }

    /// The object.
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// Which bytes of it will come.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The next bytes, in order; none after the last. Whatever came before an error is good.
    ///
    /// They lie in the core's memory, which all its transfers share, until the lease and what was made of it are dropped: copy what you
    /// keep. Whoever keeps all he reads of a large object takes the memory that he is waiting for, and everybody else's.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when stored bytes are not what was written (they were read twice), [`Error::Device`] when
    /// they can not be read, [`Error::Busy`] with [`Resource::ReadMemory`] when for some seconds there was no memory to read to. Nothing is
    /// lost by the last: the next call goes on.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing: the next call goes on.
    pub async fn next(&mut self) -> Option<Result<FrozenLease, Error>> {
        let chunk = self.next_chunk().await?;
        Some(chunk.map(|chunk| chunk.lease.expect("only a peer's memory is filled otherwise")))
    }

    /// As [`Get::next`], with the checksum if those are wanted.
    pub(super) async fn next_chunk(&mut self) -> Option<Result<Chunk, Error>> {
        let alone = match self.fill().await {
            Ok(alone) => alone,
            Err(error) => return Some(Err(error)),
        };
        let chunk = match alone {
            Some(Alone { piece, span, lease }) => {
                let bytes = span.wanted.end - span.wanted.start;
                let (engine, with_checksum) = (&self.engine, self.with_checksums);
                let chunk = read_span(engine, self.shard, &piece, span, lease, with_checksum).await;
                // Not before: a caller that went away meanwhile has it read again.
                self.position += bytes;
                chunk
            }
            None => {
                let chunk = self.window.front_mut()?.await;
                self.window.pop_front();
                chunk
            }
        };
        if let Ok(chunk) = &chunk {
            self.handed_out += chunk.bytes();
        }
        Some(chunk)
    }

    /// Waits for what was started, so that no device writes the peer's memory any more.
    pub(super) async fn settle(&mut self) {
        while let Some(ahead) = self.window.front_mut() {
            // What it came to does not matter any more.
            drop(ahead.await);
            self.window.pop_front();
        }
    }

    /// Starts reads until the window is full. Only the first may wait for memory: it holds nothing then, so that
    /// readers can not wait for each other in a circle.
    ///
    /// A chunk that is all there is left is not started but given back: nothing is to run ahead, so that it needs no task.
    async fn fill(&mut self) -> Result<Option<Alone>, Error> {
        while self.window.len() < WINDOW && self.position < self.range.end {
            let Some(piece) = self.open_piece().await? else { return Ok(None) };
            let zone_bytes = self.engine.geometry().zone_bytes;
            let Some(span) = piece.span(self.position, self.range.end, zone_bytes, self.straight.is_some())
            else {
                self.current = None;
                continue;
            };
            let until = self.straight_until.clone();
            let straight = self.straight.as_ref().is_some_and(|left| span.goes_straight(left, &piece));
            let kept = if straight { None } else { self.kept(&piece, &span) };
            if let Some(block) = kept {
                self.advance(&span);
                let chunk = chunk_of(&block, span.verified.start, &piece, &span, self.with_checksums);
                self.window.push_back(Ahead::Here(Some(chunk)));
                continue;
            }
            let lease_bytes = if straight { span.behind_blocks() } else { span.lease_bytes() };
            let lease = match lease_bytes {
                0 => None,
                bytes if self.window.is_empty() => {
                    Some(self.engine.lease(bytes, Resource::ReadMemory).await?)
                }
                bytes => match self.engine.core().pool().try_acquire(bytes) {
                    Some(lease) => Some(lease),
                    None => return Ok(None),
                },
            };
            let is_last = self.position + (span.wanted.end - span.wanted.start) == self.range.end;
            // In the cache others may wait for it, whatever becomes of this reader.
            if is_last && self.window.is_empty() && !self.cached && self.straight.is_none() {
                return Ok(Some(Alone { piece, span, lease: lease.expect("every span has bytes") }));
            }
            let target = self.advance(&span);
            let (engine, shard, with_checksum) = (self.engine.clone(), self.shard, self.with_checksums);
            let cached = self.cached;
            let task = match target.filter(|_| straight).zip(until) {
                Some((target, until)) => {
                    let into = Into { target, behind: lease, until, pin: self.shared_pin() };
                    self.engine.core().spawn_own(async move {
                        read_straight(&engine, shard, &piece, span, into, with_checksum).await
                    })
                }
                None => self.engine.core().spawn_own(async move {
                    let lease = lease.expect("every span has bytes");
                    // Now that there is memory, and in a task that runs whatever this reader does: others may wait for it.
                    let found = cached.then(|| look_up(&engine, shard, &piece, &span)).flatten();
                    read_shared(&engine, shard, &piece, span, lease, found, with_checksum).await
                }),
            };
            self.window.push_back(Ahead::Coming(task));
        }
        Ok(None)
    }

    /// The pin, for what may read when this is gone. It takes memory of its own only where there is such a read.
    fn shared_pin(&mut self) -> Rc<PinGuard> {
        if let Some(pin) = self.pin.take() {
            self.shared_pin = Some(Rc::new(pin));
        }
        self.shared_pin.clone().expect("the pin is one or the other")
    }

    /// Goes past a span; the part of the peer's memory that is for it.
    fn advance(&mut self, span: &Span) -> Option<PeerLease> {
        let bytes = span.wanted.end - span.wanted.start;
        self.position += bytes;
        let (target, left) = self.straight.take()?.split_at(bytes as usize);
        self.straight = Some(left);
        Some(target)
    }

    /// What the read cache has of a span, from its first verified byte on.
    fn kept(&self, piece: &OpenPiece, span: &Span) -> Option<FrozenLease> {
        if !self.cached || matches!(piece.place, Place::Inline(_)) {
            return None;
        }
        let cache = self.engine.cache();
        let first = span.verified.start;
        let chunk = first / CHUNK_BYTES as u64 * CHUNK_BYTES as u64;
        if chunk < first {
            // Whoever read all of the chunk left it under the name of its first byte.
            let name = piece.owner.block(self.shard, BlockPlace::Bytes(chunk));
            if let Some(block) = self.engine.core().section(|| cache.kept(name, span.wanted.end - chunk)) {
                return Some(block.slice((first - chunk) as usize..block.len()));
            }
        }
        let name = piece.owner.block(self.shard, BlockPlace::Bytes(first));
        self.engine.core().section(|| cache.kept(name, span.wanted.end - first))
    }

    /// The piece that holds the position, with its checksums; none if chunks are held and there is no memory to read them to.
    async fn open_piece(&mut self) -> Result<Option<Rc<OpenPiece>>, Error> {
        if let Some(piece) = &self.current
            && self.position < piece.start + piece.bytes
        {
            return Ok(Some(piece.clone()));
        }
        self.pieces.pass(self.position);
        let whole = "the range lies within the object, which its pieces make up";
        let piece = self.pieces.first.as_ref().expect(whole);
        let table = match &piece.content {
            Content::Extents { checksums: table @ ChecksumTable::Away { bytes, .. }, .. } => {
                let room = (*bytes as usize).next_multiple_of(BLOCK_BYTES);
                // Without chunks it waits for memory.
                let lease = match self.window.is_empty() {
                    true => None,
                    false => match self.engine.core().pool().try_acquire(room) {
                        Some(lease) => Some(lease),
                        None => return Ok(None),
                    },
                };
                let owner = Owner { part: piece.part, ..self.owner.clone() };
                self.checksum_table(&owner, table.clone(), lease).await?
            }
            _ => Vec::new(),
        };
        let piece = self.pieces.take().expect(whole);
        let open = Rc::new(self.open(piece, table));
        self.current = Some(open.clone());
        Ok(Some(open))
    }

    /// `table`: the checksums, if they lie elsewhere.
    fn open(&self, piece: Piece, table: Vec<u64>) -> OpenPiece {
        let Piece { part, start, bytes, content } = piece;
        let owner = Owner { part, ..self.owner.clone() };
        let files = self.engine.files(self.shard);
        let zone_bytes = u64::from(self.engine.geometry().zone_bytes);
        let (place, checksums, block_bytes) = match content {
            Content::Inline(bytes) => (Place::Inline(bytes), Vec::new(), 1),
            Content::Packed { place, checksums, .. } => {
                let offset =
                    files.log_zones_at + u64::from(place.zone) * zone_bytes + u64::from(place.offset);
                (Place::Packed { offset }, checksums, PACKED_CHECKSUM_BYTES as u64)
            }
            Content::Extents { extents, checksums, .. } => {
                let checksums = match checksums {
                    ChecksumTable::Here(checksums) => checksums,
                    ChecksumTable::Away { .. } => table,
                };
                (Place::Extents(extents), checksums, EXTENT_CHECKSUM_BYTES as u64)
            }
            Content::Empty | Content::Parts(_) => {
                unreachable!("pieces have bytes, and parts were taken apart")
            }
        };
        OpenPiece { owner, start, bytes, place, checksums, block_bytes }
    }

    async fn checksum_table(
        &self,
        owner: &Owner,
        table: ChecksumTable,
        lease: Option<BufferLease>,
    ) -> Result<Vec<u64>, Error> {
        let (extent, bytes, checksum) = match table {
            ChecksumTable::Here(checksums) => return Ok(checksums),
            ChecksumTable::Away { extent, bytes, checksum } => (extent, bytes, checksum),
        };
        let name = owner.block(self.shard, BlockPlace::Checksums);
        let cache = self.engine.cache();
        if self.cached
            && let Some(kept) = self.engine.core().section(|| cache.kept(name, u64::from(bytes)))
        {
            return Ok(checksums_in(&kept));
        }
        match table_away(&self.engine, self.shard, (extent, bytes, checksum), lease).await {
            Ok(read) => {
                if self.cached {
                    self.engine.core().section(|| cache.keep(name, &read));
                }
                Ok(checksums_in(&read))
            }
            Err(Error::Corrupt(corruption)) => Err(tell(&self.engine, owner, corruption)),
            Err(error) => Err(error),
        }
    }
}

/// The checksums of a content in extents, wherever they lie.
pub(crate) async fn checksum_table(
    engine: &CoreEngine,
    shard: u16,
    table: ChecksumTable,
) -> Result<Vec<u64>, Error> {
    match table {
        ChecksumTable::Here(checksums) => Ok(checksums),
        ChecksumTable::Away { extent, bytes, checksum } => {
            let table = table_away(engine, shard, (extent, bytes, checksum), None).await?;
            Ok(checksums_in(&table))
        }
    }
}

fn checksums_in(table: &[u8]) -> Vec<u64> {
    table.as_chunks::<8>().0.iter().map(|sum| u64::from_le_bytes(*sum)).collect()
}

/// A table of checksums in an extent of its own (its bytes, and their checksum), verified: in `lease`, or one that is waited for.
async fn table_away(
    engine: &CoreEngine,
    shard: u16,
    (extent, bytes, expected): (Extent, u32, u64),
    lease: Option<BufferLease>,
) -> Result<FrozenLease, Error> {
    let bytes = bytes as usize;
    let offset = extent_offset(engine, shard, extent);
    let padded = bytes.next_multiple_of(BLOCK_BYTES);
    let mut again = false;
    let mut lease = match lease {
        Some(lease) => lease,
        None => engine.lease(padded, Resource::ReadMemory).await?,
    };
    loop {
        lease = read(engine, shard, Region::Data, offset, padded, lease).await?;
        let table = lease.as_slice().get(..bytes).unwrap_or_default();
        let found = checksum(table);
        if found == expected && table.len() == bytes {
            return Ok(lease.freeze().slice(0..bytes));
        }
        if again {
            let ((region, offset), bytes) = (engine.files(shard).locate(Region::Data, offset), bytes as u32);
            return Err(Corruption { shard, region, offset, bytes, expected, found }.into());
        }
        again = true;
    }
}

/// Tells whoever subscribed, and gives the error for the reader.
fn tell(engine: &CoreEngine, owner: &Owner, corruption: Corruption) -> Error {
    let Corruption { shard, region, offset, bytes, expected, found } = corruption;
    let object = ObjectName {
        bucket: owner.name.bucket().to_owned(),
        key: owner.name.key().to_vec(),
        version: Some(owner.version),
        part: owner.part,
    };
    let finding = Finding {
        shard: Some(shard),
        region: Some(region),
        offset: Some(offset),
        object: Some(object),
        severity: Severity::Damage,
        problem: Problem::Bytes { bytes, expected, found },
    };
    engine.tell(finding, FoundBy::Read);
    corruption.into()
}

/// What the read cache has of a span, or who reads it; none for bytes that lie in the record.
fn look_up(engine: &CoreEngine, shard: u16, piece: &OpenPiece, span: &Span) -> Option<Found> {
    if matches!(piece.place, Place::Inline(_)) {
        return None;
    }
    let name = piece.owner.block(shard, BlockPlace::Bytes(span.verified.start));
    let cache = engine.cache();
    Some(engine.core().section(|| cache.look_up(name, span.wanted.end - span.verified.start)))
}

/// As [`read_span`], by one for all who want the span now: `found` is what the read cache had, which was not the bytes.
async fn read_shared(
    engine: &CoreEngine,
    shard: u16,
    piece: &OpenPiece,
    span: Span,
    lease: BufferLease,
    found: Option<Found>,
    with_checksum: bool,
) -> Result<Chunk, Error> {
    let chunk = |block: &FrozenLease| chunk_of(block, span.verified.start, piece, &span, with_checksum);
    let mut found = found;
    let reader = loop {
        match found {
            Some(Found::Nothing(reader)) => break reader,
            Some(Found::Block(block)) => return Ok(chunk(&block)),
            Some(Found::Flight(flight)) => {
                if let Some(block) = flight.landed().await {
                    return Ok(chunk(&block));
                }
                // Whoever read it gave up. One of those who waited is the next.
                found = look_up(engine, shard, piece, &span);
            }
            None => return read_span(engine, shard, piece, span, lease, with_checksum).await,
        }
    };
    let block = read_verified(engine, shard, piece, &span, lease).await?;
    reader.land(&block);
    Ok(chunk(&block))
}

pub(super) async fn read_span(
    engine: &CoreEngine,
    shard: u16,
    piece: &OpenPiece,
    span: Span,
    mut lease: BufferLease,
    with_checksum: bool,
) -> Result<Chunk, Error> {
    if let Place::Inline(bytes) = &piece.place {
        let source = &bytes[span.wanted.start as usize..span.wanted.end as usize];
        lease.set_len(source.len());
        copy_payload(lease.as_mut_slice(), source, CopyReason::Inline);
        let crc64 = if with_checksum { checksum(source) } else { 0 };
        return Ok(Chunk { straight: 0, lease: Some(lease.freeze()), crc64 });
    }
    let block = read_verified(engine, shard, piece, &span, lease).await?;
    Ok(chunk_of(&block, span.verified.start, piece, &span, with_checksum))
}

/// What is wanted of a span, from verified bytes that begin at `start` of the piece and hold it.
fn chunk_of(block: &FrozenLease, start: u64, piece: &OpenPiece, span: &Span, with_checksum: bool) -> Chunk {
    let wanted = (span.wanted.start - start) as usize..(span.wanted.end - start) as usize;
    let lease = block.slice(wanted);
    let crc64 = if with_checksum { wanted_checksum(&lease, piece, span) } else { 0 };
    Chunk { straight: 0, lease: Some(lease), crc64 }
}

/// Reads the blocks of a span and verifies each.
async fn read_verified(
    engine: &CoreEngine,
    shard: u16,
    piece: &OpenPiece,
    span: &Span,
    mut lease: BufferLease,
) -> Result<FrozenLease, Error> {
    let base = match span.region {
        Region::Data => engine.files(shard).data_zones_at,
        Region::Log => 0,
    };
    let (lead, bytes) = (span.lead(), span.lease_bytes());
    let offset = base + span.device_offset - lead as u64;
    let mut again = false;
    loop {
        lease = read(engine, shard, span.region, offset, bytes, lease).await?;
        match verify(&lease, lead, piece, span) {
            Ok(()) => break,
            Err((block, expected, found)) if again => {
                let at = base + span.device_offset + (block.start - span.verified.start);
                let bytes = (block.end - block.start) as u32;
                let (region, at) = engine.files(shard).locate(span.region, at);
                let corruption = Corruption { shard, region, offset: at, bytes, expected, found };
                return Err(tell(engine, &piece.owner, corruption));
            }
            // Once more: what was wrong may have been the way and not the medium.
            Err(_) => again = true,
        }
    }
    let verified = (span.verified.end - span.verified.start) as usize;
    Ok(lease.freeze().slice(lead..lead + verified))
}

/// The checksum of what is wanted of a verified span: combined from those of whole blocks; only the two at the edges of
/// a range are computed.
fn wanted_checksum(wanted: &[u8], piece: &OpenPiece, span: &Span) -> u64 {
    let mut whole = 0;
    let mut start = span.wanted.start;
    while start < span.wanted.end {
        let block = start / piece.block_bytes;
        let block_end = ((block + 1) * piece.block_bytes).min(piece.bytes);
        let end = block_end.min(span.wanted.end);
        let is_whole = start == block * piece.block_bytes && end == block_end;
        let known = piece.checksums.get(block as usize).filter(|_| is_whole);
        let part = known.copied().unwrap_or_else(|| {
            let at = (start - span.wanted.start) as usize;
            checksum(wanted.get(at..at + (end - start) as usize).unwrap_or_default())
        });
        whole = if start == span.wanted.start { part } else { checksum_combine(whole, part, end - start) };
        start = end;
    }
    whole
}

/// Checks every checksum block of the span; gives the first that is wrong with what was expected and found.
fn verify(
    lease: &BufferLease,
    lead: usize,
    piece: &OpenPiece,
    span: &Span,
) -> Result<(), (Range<u64>, u64, u64)> {
    let mut start = span.verified.start;
    while start < span.verified.end {
        let end = (start + piece.block_bytes).min(span.verified.end);
        let at = lead + (start - span.verified.start) as usize;
        let bytes = lease.as_slice().get(at..at + (end - start) as usize).unwrap_or_default();
        let expected = piece.checksums.get((start / piece.block_bytes) as usize).copied().unwrap_or_default();
        let found = checksum(bytes);
        if found != expected && !planted(Bug::TrustsReads) || bytes.is_empty() {
            return Err((start..end, expected, found));
        }
        start = end;
    }
    Ok(())
}

/// Reads whole blocks; the lease's length says how many bytes came.
pub(crate) async fn read(
    engine: &CoreEngine,
    shard: u16,
    region: Region,
    offset: u64,
    bytes: usize,
    lease: BufferLease,
) -> Result<BufferLease, Error> {
    let files = engine.files(shard);
    let device = match region {
        Region::Log => files.log.clone(),
        Region::Data => files.data.clone(),
    };
    let slot = device.queue().slot().await;
    let (result, mut lease) = device.read(slot, offset, lease, 0, bytes).await.into_lease();
    match result {
        Ok(count) => {
            lease.set_len((count as usize).min(bytes));
            Ok(lease)
        }
        Err(source) => {
            let (operation, bytes) = (DeviceOperation::Read, bytes as u64);
            let (region, offset) = files.locate(region, offset);
            Err(DeviceError { shard, region, operation, offset, bytes, source }.into())
        }
    }
}

fn extent_offset(engine: &CoreEngine, shard: u16, extent: Extent) -> u64 {
    let zone = u64::from(extent.zone) * u64::from(engine.geometry().zone_bytes);
    engine.files(shard).data_zones_at + zone + extent.offset()
}
