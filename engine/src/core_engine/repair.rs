//! What a layer with redundancy needs of this engine, which has none: the checksums by which a version is judged, and a way to write
//! damaged bytes anew.
//!
//! ```text
//!   here:   corruption event ─► export (checksums) ─► … the other layer finds good bytes … ─► repair
//!                                                                                               │ compared with the checksums on record
//!                                                       extents: written where they lie ◄──┴──► packed: moved by the log, as the cleaner does
//! ```
//!
//! Nothing is believed that comes from outside: bytes that are not those that were written once are refused, and what is sound is left
//! alone. So a repair can be repeated, cut short and done by two at once, and makes nothing worse.

use super::CoreEngine;
use crate::{
    error::{Corruption, DeviceError, DeviceOperation, Error, Region, Resource},
    layout::{
        BLOCK_BYTES, ChecksumTable, Content, EXTENT_CHECKSUM_BYTES, Extent, LogPosition,
        PACKED_CHECKSUM_BYTES, PackedOwner, Record, Version, checksum,
    },
    object::{
        get::{PinGuard, checksum_table, read},
        piece::Name,
        types::{ObjectInfo, Which},
    },
};
use bytes::Bytes;
use crossdock_transport::{
    memory::{BufferLease, CopyReason, ScatterList, copy_payload},
    operation::OsError,
    ring::Durability,
};

/// Most bytes of one [`CoreEngine::repair`].
pub const REPAIR_BYTES_MAX: usize = 1 << 20;

/// Why bytes are refused.
const NOT_THE_BYTES: Error = Error::InvalidArgument("the bytes are not those that were written");

/// A version with the checksums of all its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionExport {
    /// The version.
    pub info: ObjectInfo,
    /// Its bytes in order: one piece, or one for each part that it was completed from. None if it has no bytes.
    pub pieces: Vec<PieceExport>,
}

/// A stretch of a version with checksums of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PieceExport {
    /// The number that the part was uploaded under, if it was one.
    pub part: Option<u16>,
    /// Where it starts, in bytes of the version.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// CRC64NVME of all of it.
    pub crc64: u64,
    /// Bytes that each of the checksums covers; the last one may cover fewer.
    pub block_bytes: u64,
    /// CRC64NVME of each block, in order.
    pub checksums: Vec<u64>,
}

/// What a repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Blocks that were damaged and are sound now, durably.
    pub mended: u64,
    /// Blocks that were sound.
    pub sound: u64,
}

/// A stretch of a version as it lies.
struct Stretch {
    part: Option<u16>,
    offset: u64,
    bytes: u64,
    crc64: u64,
    content: Content,
}

impl CoreEngine {
    /// A version and the checksums of all its blocks: with its bytes, which [`CoreEngine::get`] gives, all that a copy of it elsewhere
    /// needs to be judged by, and later to mend this one.
    ///
    /// # Errors
    /// As [`CoreEngine::head`]; [`Error::Corrupt`] if a table of checksums is damaged: see [`CoreEngine::repair_checksums`].
    pub async fn export(&self, bucket: &str, key: &[u8], which: Which) -> Result<VersionExport, Error> {
        let _operation = self.admit().await?;
        let (record, info, shard, _pin) = self.held(bucket, key, which).await?;
        let mut pieces = Vec::new();
        for stretch in stretches(&record) {
            let (block_bytes, checksums) = match &stretch.content {
                Content::Inline(bytes) => (stretch.bytes, vec![checksum(bytes)]),
                Content::Packed { checksums, .. } => (PACKED_CHECKSUM_BYTES as u64, checksums.clone()),
                Content::Extents { checksums, .. } => {
                    let sums = checksum_table(self, shard, checksums.clone()).await?;
                    (EXTENT_CHECKSUM_BYTES as u64, sums)
                }
                Content::Empty | Content::Parts(_) => continue,
            };
            let Stretch { part, offset, bytes, crc64, .. } = stretch;
            pieces.push(PieceExport { part, offset, bytes, crc64, block_bytes, checksums });
        }
        Ok(VersionExport { info, pieces })
    }

    /// Writes bytes of a version anew where what lies there is damaged; what is sound is left alone. They must be the bytes that were
    /// written once, which the checksums on record say, and whole blocks of one piece ([`PieceExport`]): at most
    /// [`REPAIR_BYTES_MAX`]. Durable, and read again, when it resolves.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if these are not the bytes, or no whole blocks: nothing was written. [`Error::Corrupt`] if the device
    /// does not keep them. [`Error::Changed`] if a packed object was moved meanwhile: it may be repeated. As
    /// [`CoreEngine::head`].
    ///
    /// # Cancellation
    /// It is done all the same.
    pub async fn repair(
        &self,
        bucket: &str,
        key: &[u8],
        version: Version,
        offset: u64,
        bytes: Bytes,
    ) -> Result<Repaired, Error> {
        let _operation = self.admit().await?;
        let (engine, bucket, key) = (self.clone(), Box::<str>::from(bucket), Box::<[u8]>::from(key));
        // To its end: what is pinned is not to be let go of while a device may still write there.
        let work = async move { engine.repair_here(&bucket, &key, version, offset, &bytes).await };
        self.core().run_through(work).await
    }

    async fn repair_here(
        &self,
        bucket: &str,
        key: &[u8],
        version: Version,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Repaired, Error> {
        if bytes.is_empty() || bytes.len() > REPAIR_BYTES_MAX {
            return Err(Error::InvalidArgument("length of a repair"));
        }
        let (record, _, shard, pin) = self.held(bucket, key, Which::Version(version)).await?;
        let stretch = stretches(&record)
            .into_iter()
            .find(|stretch| (stretch.offset..stretch.offset + stretch.bytes).contains(&offset))
            .ok_or(Error::InvalidArgument("the version has no such bytes"))?;
        let at = offset - stretch.offset;
        match &stretch.content {
            Content::Packed { place, bytes: length, checksums } => {
                let owner = PackedOwner::Version {
                    bucket: self.bucket(bucket).await?.bucket,
                    key: key.into(),
                    version,
                    part: stretch.part,
                };
                self.repair_packed(shard, owner, (*place, *length, checksums), at, bytes).await
            }
            Content::Extents { extents, checksums, .. } => {
                let sums = checksum_table(self, shard, checksums.clone()).await?;
                let blocks = Blocks { sums: &sums, block_bytes: EXTENT_CHECKSUM_BYTES, whole: stretch.bytes };
                let blocks = blocks.given(at, bytes)?;
                let repaired = self.repair_extents(shard, extents, &blocks).await;
                drop(pin);
                repaired
            }
            // They lie in the index, of which there are copies.
            _ => Err(Error::InvalidArgument("inline bytes can not be damaged alone")),
        }
    }

    /// Writes the table of checksums of a version, or of one part of it, anew: for large objects, whose table lies in an extent of its
    /// own. They must be those on record, of which there is a checksum.
    ///
    /// # Errors
    /// As [`CoreEngine::repair`].
    pub async fn repair_checksums(
        &self,
        bucket: &str,
        key: &[u8],
        version: Version,
        part: Option<u16>,
        checksums: Vec<u64>,
    ) -> Result<Repaired, Error> {
        let _operation = self.admit().await?;
        let (engine, bucket, key) = (self.clone(), Box::<str>::from(bucket), Box::<[u8]>::from(key));
        let work = async move { engine.repair_table(&bucket, &key, version, part, &checksums).await };
        self.core().run_through(work).await
    }

    async fn repair_table(
        &self,
        bucket: &str,
        key: &[u8],
        version: Version,
        part: Option<u16>,
        checksums: &[u64],
    ) -> Result<Repaired, Error> {
        let (record, _, shard, _pin) = self.held(bucket, key, Which::Version(version)).await?;
        let stretch = stretches(&record).into_iter().find(|stretch| stretch.part == part);
        let Some(Stretch { content: Content::Extents { checksums: table, .. }, .. }) = stretch else {
            return Err(Error::InvalidArgument("the version has no table of checksums"));
        };
        let ChecksumTable::Away { extent, bytes, checksum: expected } = table.clone() else {
            return Err(Error::InvalidArgument("the version has no table of checksums"));
        };
        let given: Vec<u8> = checksums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        if given.len() != bytes as usize || checksum(&given) != expected {
            return Err(NOT_THE_BYTES);
        }
        if checksum_table(self, shard, table).await.is_ok() {
            return Ok(Repaired { mended: 0, sound: 1 });
        }
        let lease = self.padded(&given).await?;
        let offset = self.data_offset(shard, extent);
        self.overwrite(shard, offset, lease).await?;
        self.make_durable(shard).await?;
        let found = self.sum_of(shard, offset, given.len()).await?;
        if found != expected {
            let (region, offset) = self.files(shard).locate(Region::Data, offset);
            return Err(Corruption { shard, region, offset, bytes, expected, found }.into());
        }
        Ok(Repaired { mended: 1, sound: 0 })
    }

    /// A version, with its space held against reuse.
    async fn held(
        &self,
        bucket: &str,
        key: &[u8],
        which: Which,
    ) -> Result<(Record, ObjectInfo, u16, PinGuard), Error> {
        let shard = self.shard_of(bucket, key);
        let name = Name::new(bucket, key);
        let opened = self.ask_and_hold(
            shard,
            move |shard| shard.open_object(name.bucket(), name.key(), which),
            |shard, (_, _, pin)| shard.close_object(pin),
        );
        let (record, versioning, pin) = opened.await?;
        let info = ObjectInfo::of(&record, versioning);
        Ok((record, info, shard, PinGuard::new(self.clone(), shard, pin)))
    }

    /// Overwrites, in place, the blocks that do not hold.
    async fn repair_extents(
        &self,
        shard: u16,
        extents: &[Extent],
        given: &[Given<'_>],
    ) -> Result<Repaired, Error> {
        let mut repaired = Repaired::default();
        let mut written = Vec::new();
        for block in given {
            let offset = self.place_in(shard, extents, block.at);
            if self.sum_of(shard, offset, block.bytes.len()).await.ok() == Some(block.sum) {
                repaired.sound += 1;
                continue;
            }
            let lease = self.padded(block.bytes).await?;
            self.overwrite(shard, offset, lease).await?;
            written.push((offset, block));
        }
        if written.is_empty() {
            return Ok(repaired);
        }
        self.make_durable(shard).await?;
        for (offset, block) in written {
            let found = self.sum_of(shard, offset, block.bytes.len()).await?;
            if found != block.sum {
                let (region, offset) = self.files(shard).locate(Region::Data, offset);
                let (bytes, expected) = (block.bytes.len() as u32, block.sum);
                return Err(Corruption { shard, region, offset, bytes, expected, found }.into());
            }
            repaired.mended += 1;
        }
        Ok(repaired)
    }

    /// Has the payload moved to another place of the log, made whole.
    async fn repair_packed(
        &self,
        shard: u16,
        owner: PackedOwner,
        (place, length, sums): (LogPosition, u32, &Vec<u64>),
        at: u64,
        bytes: &[u8],
    ) -> Result<Repaired, Error> {
        let blocks = Blocks { sums, block_bytes: PACKED_CHECKSUM_BYTES, whole: length.into() };
        let given = blocks.given(at, bytes)?;
        let zone_bytes = u64::from(self.geometry().zone_bytes);
        let start =
            self.files(shard).log_zones_at + u64::from(place.zone) * zone_bytes + u64::from(place.offset);
        let lead = (start % BLOCK_BYTES as u64) as usize;
        let whole = (lead + length as usize).next_multiple_of(BLOCK_BYTES);
        let lease = self.lease(whole, Resource::ReadMemory).await?;
        let here = read(self, shard, Region::Log, start - lead as u64, whole, lease).await;
        let mut payload =
            self.lease((length as usize).next_multiple_of(BLOCK_BYTES), Resource::WriteMemory).await?;
        payload.set_len(length as usize);
        payload.as_mut_slice().fill(0);
        if let Ok(here) = &here {
            let there = here.as_slice().get(lead..).unwrap_or_default();
            let count = there.len().min(length as usize);
            copy_payload(&mut payload.as_mut_slice()[..count], &there[..count], CopyReason::Foreign);
        }
        let mut repaired = Repaired::default();
        for block in &given {
            let range = block.at as usize..block.at as usize + block.bytes.len();
            match checksum(&payload.as_slice()[range.clone()]) == block.sum {
                true => repaired.sound += 1,
                false => {
                    repaired.mended += 1;
                    copy_payload(&mut payload.as_mut_slice()[range], block.bytes, CopyReason::Foreign);
                }
            }
        }
        if repaired.mended == 0 {
            return Ok(repaired);
        }
        let all = payload.as_slice().chunks(PACKED_CHECKSUM_BYTES).map(checksum);
        if !all.eq(sums.iter().copied()) {
            return Err(Error::InvalidArgument(
                "other blocks of a packed object are damaged too: give all of them",
            ));
        }
        let padded = (length as usize).next_multiple_of(BLOCK_BYTES);
        payload.zero_tail(padded);
        payload.set_len(padded);
        let payload = payload.freeze();
        self.on_shard(shard, move |shard| async move { shard.move_packed(owner, place, payload).await })
            .await?;
        Ok(repaired)
    }

    fn data_offset(&self, shard: u16, extent: Extent) -> u64 {
        let zone = u64::from(extent.zone) * u64::from(self.geometry().zone_bytes);
        self.files(shard).data_zones_at + zone + extent.offset()
    }

    /// Where a byte of a content in extents lies. Blocks do not straddle extents, which are of whole blocks.
    fn place_in(&self, shard: u16, extents: &[Extent], at: u64) -> u64 {
        let mut left = at;
        for extent in extents {
            if left < extent.bytes() {
                return self.data_offset(shard, *extent) + left;
            }
            left -= extent.bytes();
        }
        unreachable!("the extents hold all bytes of the content")
    }

    /// The bytes in a lease of whole device blocks; nobody's stale bytes behind them.
    async fn padded(&self, bytes: &[u8]) -> Result<BufferLease, Error> {
        let padded = bytes.len().next_multiple_of(BLOCK_BYTES);
        let mut lease = self.lease(padded, Resource::WriteMemory).await?;
        lease.set_len(bytes.len());
        copy_payload(lease.as_mut_slice(), bytes, CopyReason::Foreign);
        lease.zero_tail(padded);
        lease.set_len(padded);
        Ok(lease)
    }

    async fn sum_of(&self, shard: u16, offset: u64, bytes: usize) -> Result<u64, Error> {
        let padded = bytes.next_multiple_of(BLOCK_BYTES);
        let lease = self.lease(padded, Resource::ReadMemory).await?;
        let lease = read(self, shard, Region::Data, offset, padded, lease).await?;
        Ok(checksum(lease.as_slice().get(..bytes).unwrap_or_default()))
    }

    async fn overwrite(&self, shard: u16, offset: u64, lease: BufferLease) -> Result<(), Error> {
        let device = self.files(shard).data.clone();
        let bytes = lease.len() as u64;
        let slot = device.queue().slot().await;
        let scatter = ScatterList::from(lease.freeze());
        let written = device.write(slot, offset, scatter, Durability::Buffered).await.result;
        let (region, offset) = self.files(shard).locate(Region::Data, offset);
        let operation = DeviceOperation::Write;
        // The block was damaged before, and may be whole or damaged otherwise now.
        let fail = |source| {
            Error::from(DeviceError { shard, region, operation, offset, bytes, source }).in_the_midst()
        };
        match written {
            Ok(count) if u64::from(count) == bytes => Ok(()),
            Ok(_) => Err(fail(OsError(rustix::io::Errno::NOSPC.raw_os_error()))),
            Err(source) => Err(fail(source)),
        }
    }

    async fn make_durable(&self, shard: u16) -> Result<(), Error> {
        let made = self.on_shard(shard, move |shard| async move { shard.make_data_durable().await }).await;
        made.map_err(Error::in_the_midst)
    }
}

/// The checksums of a content.
struct Blocks<'a> {
    sums: &'a [u64],
    block_bytes: usize,
    whole: u64,
}

/// A block that somebody gives, which is the one that was written.
struct Given<'a> {
    /// Where it starts in its content.
    at: u64,
    bytes: &'a [u8],
    sum: u64,
}

impl Blocks<'_> {
    /// Takes whole blocks apart and compares each with the record.
    fn given<'a>(&self, at: u64, bytes: &'a [u8]) -> Result<Vec<Given<'a>>, Error> {
        let end = at + bytes.len() as u64;
        let block = self.block_bytes as u64;
        if !at.is_multiple_of(block) || end > self.whole || (!end.is_multiple_of(block) && end != self.whole)
        {
            return Err(Error::InvalidArgument("a repair is of whole blocks"));
        }
        let first = (at / block) as usize;
        let sums = self.sums.get(first..).unwrap_or_default();
        let given = bytes.chunks(self.block_bytes).zip(sums).enumerate().map(|(index, (bytes, sum))| {
            let is_it = checksum(bytes) == *sum;
            let at = at + index as u64 * block;
            if is_it { Ok(Given { at, bytes, sum: *sum }) } else { Err(NOT_THE_BYTES) }
        });
        given.collect()
    }
}

fn stretches(record: &Record) -> Vec<Stretch> {
    match &record.content {
        Content::Empty => Vec::new(),
        Content::Parts(parts) => {
            let mut next = 0;
            let one = |part: &crate::layout::Part| {
                let offset = next;
                next += part.bytes;
                let (bytes, crc64, content) = (part.bytes, part.crc64, part.content.clone());
                Stretch { part: Some(part.number), offset, bytes, crc64, content }
            };
            parts.iter().map(one).collect()
        }
        content => {
            let (bytes, crc64, content) = (record.size, record.crc64, content.clone());
            vec![Stretch { part: None, offset: 0, bytes, crc64, content }]
        }
    }
}
