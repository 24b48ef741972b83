//! Reads a shard's log from where its anchor points to its end, and decides where that end is.
//!
//! Let W be the highest `durable_upto` that any valid header states, or the last batch before the anchor's epoch, if that is higher:
//! an epoch begins once all that was found is durable.
//!
//! * A batch above W was never acknowledged. If its metadata or any payload of it does not hold, the log ends before
//!   it, even if a later batch is whole: acknowledgements go out in order, so that later one was not acknowledged
//!   either.
//! * A batch at or below W was acknowledged. A payload of it that does not hold is one damaged object, found when it
//!   is read. If the front copy of its metadata does not hold, the back copy stands in. If neither holds there is a
//!   hole: what the log said from here on is unknown, and the shard may answer only what it knows.
//!
//! * Of two batches that could both come next the one of the newer epoch counts. One that a recovery discarded stays where it
//!   is if what took its place did not fit there and went to the next zone; and once that has an older epoch too, only the
//!   two epochs tell which was discarded.
//!
//! * What holds and is not understood was written by a newer build. It is neither a tail nor damage: the shard is not opened, so that
//!   nothing of it is lost.
//!
//! * A block that the device can not read holds nothing. Where the other copy, or what lies around it, does not tell whether the log ends
//!   there, it is a hole: what can not be read ends no log.
//!
//! * A zone that the log is in, or that it names as its next, and that the device does not have, is no end either: the file was cut short.
//!
//! A header counts only if its keyed checksum holds and its shard, epoch, sequence, previous hash and position are
//! those expected, so that neither a client's payload nor what an earlier life of the store left behind can pass.

use super::{BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX, build::payload_range, tail::Tail};
use crate::shard::{
    ZoneStart,
    reading::{Gate, lease},
};
use crate::{
    device::BlockDevice,
    error::{DeviceError, DeviceOperation, OpenError, Region},
    layout::{
        Anchor, BLOCK_BYTES, BatchHeader, DecodeError, Entry, LogPosition, MetaHash, PACKED_CHECKSUM_BYTES,
        SecretKey, checksum,
    },
    planted::{Bug, planted},
};
use crossdock_transport::{
    memory::{BufferLease, Pool},
    operation::OsError,
};
use rustix::io::Errno;
use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
    rc::Rc,
};

/// Bytes read at a time: several batches per read, within the largest lease.
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// The same where others come first, who may have all large leases: as much as a lease of a size that is had more easily, or as a batch takes.
const WINDOW_BYTES_BESIDE: usize = 256 * 1024;

/// How often a read is tried that gives less than there is, and how often a block that can not be read.
const READ_ATTEMPTS: usize = 4;

/// Blocks that can not be read before the device is given up: each may take it seconds.
const UNREADABLE_BLOCKS_MAX: usize = 64;

/// A shard's log as recovery sees it.
pub(crate) struct LogReader {
    pub(crate) device: Rc<dyn BlockDevice>,
    pub(crate) pool: Pool,
    pub(crate) secret: SecretKey,
    pub(crate) shard: u16,
    pub(crate) zone_bytes: u32,
    /// Where zone 0 starts on the device.
    pub(crate) zones_at: u64,
    /// Zones that are known to be there in full.
    pub(crate) zones_there: BTreeSet<u32>,
    pub(crate) window: Option<Window>,
    /// What begins the zone that was looked at last as the next one.
    pub(crate) next_zone: Option<(u32, Option<BatchHeader>)>,
    /// What each read waits for first.
    pub(crate) gate: Option<Rc<dyn Gate>>,
    /// Where on the device blocks lie that it could not read.
    pub(crate) unreadable: BTreeSet<u64>,
}

pub(crate) struct Window {
    zone: u32,
    offset: u32,
    lease: BufferLease,
}

/// What replay came to.
#[derive(Debug)]
pub(crate) struct Replayed {
    /// Where the log goes on.
    pub(crate) tail: Tail,
    /// Batches and entries that count.
    pub(crate) batches: u64,
    pub(crate) entries: u64,
    /// Bytes of log that they take.
    pub(crate) bytes: u64,
    /// Log zones the replayed batches lie in, in order, with the first batch of each.
    pub(crate) zones: Vec<ZoneStart>,
    /// The highest batch that a header states to be durable.
    pub(crate) watermark: u64,
    /// Metadata copies that the other copy stood in for.
    pub(crate) mended: u64,
    /// The first batch that was acknowledged and can not be read.
    pub(crate) hole: Option<LogPosition>,
}

/// A batch that counts.
pub(crate) struct Found {
    pub(crate) header: BatchHeader,
    pub(crate) entries: Vec<Entry>,
    hash: MetaHash,
    payloads_hold: bool,
    /// Some of its payload can not be read.
    unreadable: bool,
    /// Its front copy does not hold, and the back copy stood in.
    pub(crate) mended: bool,
}

/// What a batch must be to count.
struct Expected {
    sequence: u64,
    previous: MetaHash,
    epoch: Epoch,
}

#[derive(Clone, Copy)]
enum Epoch {
    Exactly(u64),
    Below(u64),
}

impl Epoch {
    fn admits(self, epoch: u64) -> bool {
        match self {
            Epoch::Exactly(wanted) => epoch == wanted,
            Epoch::Below(limit) => epoch < limit,
        }
    }
}

impl LogReader {
    /// Hands every batch that counts to `apply`, in order.
    pub(crate) async fn replay(
        &mut self,
        anchor: &Anchor,
        apply: &mut dyn FnMut(Found),
    ) -> Result<Replayed, OpenError> {
        let mut tail = Tail {
            position: anchor.log_start,
            sequence: anchor.log_sequence,
            previous: anchor.log_previous,
            next_zone: anchor.log_next_zone,
        };
        let mut replayed = Replayed {
            tail: tail.clone(),
            batches: 0,
            entries: 0,
            bytes: 0,
            zones: vec![ZoneStart { zone: tail.position.zone, sequence: tail.sequence }],
            watermark: 0,
            mended: 0,
            hole: None,
        };
        // What came before the epoch was made durable and shown when that began: it counts as acknowledged.
        let mut watermark = anchor.epoch_start.saturating_sub(1);
        // Batches whose acknowledgement is not known yet, with the tail before each.
        let mut uncertain: VecDeque<(Tail, Found)> = VecDeque::new();
        loop {
            for zone in [tail.position.zone, tail.next_zone] {
                if !self.is_there(zone) {
                    return Err(self.cut_short(zone));
                }
            }
            let sequence = tail.sequence;
            let epoch = if sequence >= anchor.epoch_start {
                Epoch::Exactly(anchor.epoch)
            } else {
                Epoch::Below(anchor.epoch)
            };
            let expected = Expected { sequence, previous: tail.previous, epoch };
            let before = tail.clone();
            let mut found = self.batch_at(tail.position, &expected).await?;
            let start = LogPosition { zone: tail.next_zone, offset: 0 };
            if tail.position.offset > 0 && self.is_newer_at(start, &expected, found.as_ref()).await? {
                found = self.batch_at(start, &expected).await?;
            }
            if found.is_none() {
                let evidence = self.look_ahead(&tail, &expected).await?;
                watermark = watermark.max(evidence.watermark);
                let acknowledged = watermark >= sequence;
                // A batch that is all there is taken: whether it was acknowledged does not matter.
                found = evidence.back_copy.filter(|copy| acknowledged || copy.payloads_hold);
                if found.is_none() && (acknowledged || self.may_hide(&tail, &expected).await?) {
                    replayed.hole = Some(tail.position);
                }
            }
            let Some(found) = found else { break };
            watermark = watermark.max(stated_upto(&found.header));
            tail.position = found.header.position;
            tail.next_zone = found.header.next_zone;
            tail.advance(found.header.total_blocks(), found.hash);
            uncertain.push_back((before, found));
            while uncertain.front().is_some_and(|(_, batch)| batch.header.sequence <= watermark) {
                if let Some((_, batch)) = uncertain.pop_front() {
                    replayed.take(batch, apply);
                }
            }
        }
        replayed.tail = tail;
        replayed.watermark = watermark;
        while let Some((before, batch)) = uncertain.pop_front() {
            // What was found behind the end may have said of it meanwhile that it was acknowledged.
            if batch.header.sequence > watermark && !batch.payloads_hold {
                replayed.tail = before;
                let is_hidden = batch.unreadable && !planted(Bug::EndsAtBadBlocks);
                replayed.hole = is_hidden.then_some(batch.header.position);
                break;
            }
            replayed.take(batch, apply);
        }
        Ok(replayed)
    }

    /// Whether the batch that begins a zone is the one expected, and of a newer epoch than what was found elsewhere.
    async fn is_newer_at(
        &mut self,
        start: LogPosition,
        expected: &Expected,
        found: Option<&Found>,
    ) -> Result<bool, OpenError> {
        let header = match &self.next_zone {
            Some((zone, header)) if *zone == start.zone => header.clone(),
            _ => {
                // Beside the window, which stays where the log is read.
                let lease = lease(&self.pool, self.gate.as_ref(), BLOCK_BYTES).await?;
                let block = self.read(start, BLOCK_BYTES, lease).await?;
                let header = match BatchHeader::peek(block.as_slice(), &self.secret) {
                    Ok((header, false)) => Some(header),
                    Err(error @ DecodeError::NewerVersion(_)) => {
                        return Err(self.not_understood(start, error));
                    }
                    _ => None,
                };
                self.next_zone = Some((start.zone, header.clone()));
                header
            }
        };
        let is_newer = |header: &BatchHeader| found.is_none_or(|found| header.epoch > found.header.epoch);
        let shard = self.shard;
        Ok(header.is_some_and(|header| is_expected(&header, shard, start, expected) && is_newer(&header)))
    }

    /// The batch at `position`, if its front copy, or with a readable front header its back copy, is the one expected.
    async fn batch_at(
        &mut self,
        position: LogPosition,
        expected: &Expected,
    ) -> Result<Option<Found>, OpenError> {
        let (secret, shard) = (self.secret, self.shard);
        let header = {
            let block = self.bytes(position, BLOCK_BYTES).await?;
            let Some(block) = block else { return Ok(None) };
            match BatchHeader::peek(block, &secret) {
                Ok((header, false)) if is_expected(&header, shard, position, expected) => header,
                // Whether it is the one expected only a newer build can tell.
                Err(error @ DecodeError::NewerVersion(_)) => return Err(self.not_understood(position, error)),
                _ => return Ok(None),
            }
        };
        let total = header.total_blocks() as usize * BLOCK_BYTES;
        if total > BATCH_BYTES_MAX || position.offset as usize + total > self.zone_bytes as usize {
            return Ok(None);
        }
        let Some(bytes) = self.bytes(position, total).await? else { return Ok(None) };
        let meta = header.meta_blocks as usize * BLOCK_BYTES;
        let (copy, mended) = match sound_copy(&bytes[..meta], &secret, false) {
            Some(copy) => (Some(copy), false),
            None => (sound_copy(&bytes[total - meta..], &secret, true), true),
        };
        let Some(copy) = copy.filter(|copy| is_expected(&copy.header, shard, position, expected)) else {
            return Ok(None);
        };
        let found = copy.understood().map(|mut found| {
            found.mended = mended;
            found.payloads_hold = payloads_hold(&found.entries, &found.header, bytes);
            found
        });
        let unreadable = self.is_unreadable(position, meta..total - meta);
        let found = found.map(|found| Found { unreadable, ..found });
        found.map(Some).map_err(|error| self.not_understood(position, error))
    }

    /// Whether the device has the zone in full.
    fn is_there(&mut self, zone: u32) -> bool {
        let (start, bytes) = (self.offset(LogPosition { zone, offset: 0 }), u64::from(self.zone_bytes));
        self.zones_there.contains(&zone)
            || self.device.bytes_from(start) >= bytes && self.zones_there.insert(zone)
    }

    /// The log enters and names only zones that exist, durably: if one is not there the file was cut short, and nobody knows what was
    /// in the rest.
    fn cut_short(&self, zone: u32) -> OpenError {
        let offset = self.zones_at + u64::from(zone) * u64::from(self.zone_bytes);
        let source = DecodeError::Truncated;
        OpenError::Recovery { shard: self.shard, what: "log zone", region: Region::Log, offset, source }
    }

    fn not_understood(&self, position: LogPosition, source: DecodeError) -> OpenError {
        let offset = self.offset(position);
        OpenError::Recovery { shard: self.shard, what: "log batch", region: Region::Log, offset, source }
    }

    /// Looks past a batch that does not hold for proof that it was acknowledged, and for its back copy.
    ///
    /// With so many in flight the first batch that can know it to be durable comes [`BATCHES_IN_FLIGHT_MAX`] behind it, each in a zone of
    /// its own if zones are small. So what is read is bounded by their bytes and what they left unused at the ends of zones.
    async fn look_ahead(&mut self, tail: &Tail, expected: &Expected) -> Result<Evidence, OpenError> {
        let secret = self.secret;
        let mut evidence = Evidence { watermark: 0, back_copy: None };
        let zone_bytes = self.zone_bytes as usize;
        let batch_bytes_max = BATCH_BYTES_MAX.min(zone_bytes);
        // Most bytes of batches that may yet lie before the header that is looked for.
        let mut reach = BATCHES_IN_FLIGHT_MAX * batch_bytes_max;
        let (mut start, mut next_zone) = (tail.position, Some(tail.next_zone));
        // Every zone that the log entered has a batch; the first may have none but those that were read.
        for _ in 0..BATCHES_IN_FLIGHT_MAX + 2 {
            let end = (start.offset as usize + reach + BLOCK_BYTES).min(zone_bytes);
            let mut newest = None;
            let mut offset = start.offset as usize;
            while offset + BLOCK_BYTES <= end {
                let position = LogPosition { zone: start.zone, offset: offset as u32 };
                let Some(block) = self.bytes(position, BLOCK_BYTES).await? else { break };
                let peeked = BatchHeader::peek(block, &secret);
                offset += BLOCK_BYTES;
                let (header, is_back) = match peeked {
                    Ok(copy) => copy,
                    Err(error @ DecodeError::NewerVersion(_)) => {
                        return Err(self.not_understood(position, error));
                    }
                    Err(_) => continue,
                };
                if header.shard != self.shard
                    || !expected.epoch.admits(header.epoch)
                    || header.sequence < expected.sequence
                {
                    continue;
                }
                evidence.watermark = evidence.watermark.max(stated_upto(&header));
                if !lies_at(&header, is_back, position) {
                    continue;
                }
                let age = (header.epoch, header.sequence);
                if newest.is_none_or(|(newest, _)| newest < age) {
                    newest = Some((age, header.next_zone));
                }
                if is_back && header.sequence == expected.sequence && header.previous == expected.previous {
                    self.read_back_copy(position, &header, &mut evidence).await?;
                }
            }
            if end < zone_bytes {
                break;
            }
            let unused_max = batch_bytes_max - BLOCK_BYTES;
            reach -= reach.min((zone_bytes - start.offset as usize).saturating_sub(unused_max));
            // After the first zone only what lies there can say where the log went on.
            let Some(zone) = next_zone.take().or(newest.map(|(_, next)| next)) else { break };
            start = LogPosition { zone, offset: 0 };
        }
        Ok(evidence)
    }

    async fn read_back_copy(
        &mut self,
        at: LogPosition,
        header: &BatchHeader,
        evidence: &mut Evidence,
    ) -> Result<(), OpenError> {
        let secret = self.secret;
        let meta = header.meta_blocks as usize * BLOCK_BYTES;
        let Some(bytes) = self.bytes(at, meta).await? else { return Ok(()) };
        let Some(copy) = sound_copy(bytes, &secret, true) else { return Ok(()) };
        if evidence.back_copy.as_ref().is_some_and(|known| known.header.epoch > copy.header.epoch) {
            return Ok(());
        }
        let found = copy.understood().map(|found| Found { mended: true, ..found });
        let mut found = found.map_err(|error| self.not_understood(at, error))?;
        let (position, total) = (found.header.position, found.header.total_blocks() as usize * BLOCK_BYTES);
        if total <= BATCH_BYTES_MAX
            && let Some(batch) = self.bytes(position, total).await?
        {
            found.payloads_hold = payloads_hold(&found.entries, &found.header, batch);
            found.unreadable = self.is_unreadable(position, meta..total - meta);
        }
        evidence.back_copy = Some(found);
        Ok(())
    }

    /// Whether the batch that would come next may be there and have both its copies where they can not be read.
    async fn may_hide(&mut self, tail: &Tail, expected: &Expected) -> Result<bool, OpenError> {
        let rest = (self.zone_bytes - tail.position.offset) as usize;
        let next = LogPosition { zone: tail.next_zone, offset: 0 };
        // Only what does not fit the zone goes to the next one.
        let starts = [(rest > 0).then_some(tail.position), (rest < BATCH_BYTES_MAX).then_some(next)];
        let (secret, shard) = (self.secret, self.shard);
        for start in starts.into_iter().flatten() {
            let most = BATCH_BYTES_MAX.min((self.zone_bytes - start.offset) as usize);
            let block = self.bytes(start, BLOCK_BYTES).await?;
            let header = block.and_then(|block| BatchHeader::peek(block, &secret).ok());
            let (front, back) = match header {
                // Where they lie it says itself.
                Some((header, false)) if is_expected(&header, shard, start, expected) => {
                    let meta = header.meta_blocks as usize * BLOCK_BYTES;
                    let total = (header.total_blocks() as usize * BLOCK_BYTES).min(most);
                    (0..meta.min(total), total.saturating_sub(meta)..total)
                }
                _ => (0..BLOCK_BYTES, BLOCK_BYTES..most),
            };
            let is_hidden = self.is_unreadable(start, front) && self.is_unreadable(start, back);
            if is_hidden && !planted(Bug::EndsAtBadBlocks) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the device could not read some of this, counted from `start`, when it was asked for it.
    fn is_unreadable(&self, start: LogPosition, bytes: Range<usize>) -> bool {
        let at = self.offset(start);
        self.unreadable.range(at + bytes.start as u64..at + bytes.end as u64).next().is_some()
    }

    /// Where a place in the log lies on the device.
    fn offset(&self, place: LogPosition) -> u64 {
        self.zones_at + u64::from(place.zone) * u64::from(self.zone_bytes) + u64::from(place.offset)
    }

    /// `bytes` from `position`, all in one zone, with zeros for what the device can not read; none if it ends before.
    pub(crate) async fn bytes(
        &mut self,
        position: LogPosition,
        bytes: usize,
    ) -> Result<Option<&[u8]>, OpenError> {
        let inside = |window: &Window| {
            window.zone == position.zone
                && window.offset <= position.offset
                && position.offset as usize + bytes <= window.offset as usize + window.lease.len()
        };
        if !self.window.as_ref().is_some_and(inside) {
            let least = if self.gate.is_some() { WINDOW_BYTES_BESIDE } else { WINDOW_BYTES };
            let window_bytes = least.max(bytes);
            let large_enough = |window: &Window| window.lease.capacity() >= window_bytes;
            let lease = match self.window.take().filter(large_enough) {
                Some(window) => window.lease,
                None => lease(&self.pool, self.gate.as_ref(), window_bytes).await?,
            };
            let left = (self.zone_bytes - position.offset.min(self.zone_bytes)) as usize;
            if bytes > left {
                self.window = Some(Window { zone: u32::MAX, offset: 0, lease });
                return Ok(None);
            }
            let lease = self.read(position, left.min(window_bytes), lease).await?;
            self.window = Some(Window { zone: position.zone, offset: position.offset, lease });
        }
        let Some(window) = self.window.as_ref().filter(|window| inside(window)) else { return Ok(None) };
        let start = (position.offset - window.offset) as usize;
        Ok(window.lease.as_slice().get(start..start + bytes))
    }

    /// Reads as much of this as the device has; what it can not read, block by block, is zeros and noted.
    async fn read(
        &mut self,
        position: LogPosition,
        bytes: usize,
        mut lease: BufferLease,
    ) -> Result<BufferLease, OpenError> {
        let offset = self.offset(position);
        if let Some(gate) = &self.gate {
            gate.pass(bytes).await;
        }
        let there = self.device.bytes_from(offset).min(bytes as u64) as usize;
        let whole;
        (lease, whole) = self.try_read(offset, lease, 0..there).await;
        self.unreadable.retain(|block| !(offset..offset + there as u64).contains(block));
        if whole.is_err() {
            for at in (0..there).step_by(BLOCK_BYTES) {
                let (range, block) = (at..(at + BLOCK_BYTES).min(there), offset + at as u64);
                let mut result = Ok(());
                for _ in 0..READ_ATTEMPTS {
                    (lease, result) = self.try_read(block, lease, range.clone()).await;
                    if result.is_ok() {
                        break;
                    }
                }
                if let Err(source) = result {
                    lease.full_mut()[range].fill(0);
                    self.unreadable.insert(block);
                    if self.unreadable.len() > UNREADABLE_BLOCKS_MAX {
                        return Err(self.device_error(block, source));
                    }
                    tracing::warn!(shard = self.shard, offset = block, error = %source, "a block of the log is unreadable");
                }
            }
        }
        lease.set_len(there);
        Ok(lease)
    }

    /// Reads this much to its place in the lease. A device may give less than is asked for at any time, and where the log seems to
    /// end it is cut off: a read that gives too little is repeated, and one that stays short has failed.
    async fn try_read(
        &self,
        offset: u64,
        mut lease: BufferLease,
        range: Range<usize>,
    ) -> (BufferLease, Result<(), OsError>) {
        for _ in 0..READ_ATTEMPTS {
            let slot = self.device.queue().slot().await;
            let read = self.device.read(slot, offset, lease, range.start, range.len()).await.into_lease();
            let result = read.0;
            lease = read.1;
            match result {
                Ok(count) if count as usize >= range.len() => return (lease, Ok(())),
                Ok(_) => {}
                Err(error) => return (lease, Err(error)),
            }
        }
        (lease, Err(OsError(Errno::IO.raw_os_error())))
    }

    fn device_error(&self, offset: u64, source: OsError) -> OpenError {
        OpenError::Device(DeviceError {
            shard: self.shard,
            region: Region::Log,
            operation: DeviceOperation::Read,
            offset,
            bytes: BLOCK_BYTES as u64,
            source,
        })
    }
}

struct Evidence {
    watermark: u64,
    back_copy: Option<Found>,
}

impl Replayed {
    fn take(&mut self, batch: Found, apply: &mut dyn FnMut(Found)) {
        self.batches += 1;
        self.entries += batch.entries.len() as u64;
        self.bytes += u64::from(batch.header.total_blocks()) * BLOCK_BYTES as u64;
        self.mended += u64::from(batch.mended);
        let zone = batch.header.position.zone;
        if self.zones.last().is_none_or(|last| last.zone != zone) {
            // Of the zone where replay starts nothing may be needed, if the first batch did not fit there any more. The checkpoint
            // has covered it, and by now the log may have come back to it, further on in this list or as the next.
            self.zones.pop_if(|last| last.sequence == batch.header.sequence);
            self.zones.push(ZoneStart { zone, sequence: batch.header.sequence });
        }
        apply(batch);
    }
}

/// Up to where everything was durable when the batch was laid out.
fn stated_upto(header: &BatchHeader) -> u64 {
    if planted(Bug::IgnoresDurableUpto) { 0 } else { header.durable_upto }
}

fn is_expected(header: &BatchHeader, shard: u16, position: LogPosition, expected: &Expected) -> bool {
    header.shard == shard
        && header.position == position
        && header.sequence == expected.sequence
        && header.previous == expected.previous
        && expected.epoch.admits(header.epoch)
}

/// Whether the copy found at `place` is where its header says.
fn lies_at(header: &BatchHeader, is_back: bool, place: LogPosition) -> bool {
    let back_blocks = if is_back { header.total_blocks() - header.meta_blocks } else { 0 };
    let offset = u64::from(header.position.offset) + u64::from(back_blocks) * BLOCK_BYTES as u64;
    header.position.zone == place.zone && offset == u64::from(place.offset)
}

/// A copy of a batch's metadata that holds, whatever its entries say.
struct SoundCopy<'a> {
    header: BatchHeader,
    entries: &'a [u8],
    hash: MetaHash,
}

fn sound_copy<'a>(copy: &'a [u8], secret: &SecretKey, want_back: bool) -> Option<SoundCopy<'a>> {
    let (header, entries, hash, is_back) = BatchHeader::decode(copy, secret).ok()?;
    (is_back == want_back).then_some(SoundCopy { header, entries, hash })
}

impl SoundCopy<'_> {
    /// The batch, of whose payloads nothing is known.
    ///
    /// # Errors
    /// The entries are those that were written, and this build does not know them.
    fn understood(self) -> Result<Found, DecodeError> {
        let SoundCopy { header, entries: mut bytes, hash } = self;
        let mut entries = Vec::new();
        for _ in 0..header.entry_count {
            entries.push(Entry::decode(&mut bytes)?);
        }
        if !bytes.is_empty() {
            return Err(DecodeError::Bounds);
        }
        Ok(Found { header, entries, hash, payloads_hold: false, unreadable: false, mended: false })
    }
}

/// Whether every payload that the batch carries is what its entry says.
fn payloads_hold(entries: &[Entry], header: &BatchHeader, batch: &[u8]) -> bool {
    let start = header.position.offset as usize;
    entries.iter().filter_map(payload_range).all(|(place, range, checksums)| {
        if place.zone != header.position.zone || range.start < start || range.end > start + batch.len() {
            // Carried by another batch: not this one's to judge.
            return true;
        }
        let payload = &batch[range.start - start..range.end - start];
        let blocks = payload.chunks(PACKED_CHECKSUM_BYTES);
        blocks.len() == checksums.len()
            && blocks.zip(checksums).all(|(block, expected)| checksum(block) == *expected)
    })
}

#[cfg(test)]
mod tests;
