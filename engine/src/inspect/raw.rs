//! The bytes of a store where they lie, and who claims them: for tools that show structures as they are, also those
//! that recovery would refuse.

use super::{ShardImage, Store, check::name_of, finding::ObjectName};
use crate::{
    error::{OpenError, Region},
    layout::{Anchor, BLOCK_BYTES, Content, DecodeError, Extent, LogPosition, SecretKey, anchor_offset},
    shard::catalog::extents_of,
};

/// Most bytes read at once.
const READ_BYTES_MAX: usize = 1 << 20;

/// One of an anchor's copies.
#[derive(Clone, Debug)]
pub struct AnchorCopy {
    /// Where it lies, from the start of its file or device.
    pub offset: u64,
    /// As it reads.
    pub read: Result<Anchor, DecodeError>,
}

/// Who holds some bytes of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// The checkpoint that counts: one of its chunks.
    Checkpoint(Extent),
    /// A batch of the log since the checkpoint.
    Batch {
        /// Its sequence.
        sequence: u64,
    },
    /// An object, or a part of an upload.
    Object(ObjectName),
}

impl Store {
    /// Bytes of a shard's file as they lie, whatever they mean; fewer at its end. `offset` counts from the start of the
    /// file or device.
    ///
    /// # Errors
    /// A file that is missing, or a device that fails.
    pub fn read_bytes(
        &self,
        shard: u16,
        region: Region,
        offset: u64,
        bytes: usize,
    ) -> Result<Vec<u8>, OpenError> {
        let reading = self.reading(shard)?;
        let mut found = Vec::new();
        let (mut at, end) = (offset, offset.saturating_add(bytes as u64));
        while at < end {
            let block = BLOCK_BYTES as u64;
            let start = at / block * block;
            let wanted = (end.next_multiple_of(block) - start).min(READ_BYTES_MAX as u64) as usize;
            let work = reading.clone();
            let lease = self.core().block_on(async move {
                let lease = work.core.pool().acquire(wanted).await;
                work.read(region, start, wanted, lease).await
            })?;
            let here = lease.as_slice();
            let to = ((end - start) as usize).min(here.len());
            let Some(piece) = here.get((at - start) as usize..to).filter(|piece| !piece.is_empty()) else {
                break;
            };
            found.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        Ok(found)
    }

    /// The key of the store's metadata, to decode structures with.
    pub fn secret(&self) -> SecretKey {
        SecretKey(self.superblock().secret)
    }

    /// The anchor's copies.
    ///
    /// # Errors
    /// A file that is missing, or a device that fails.
    pub fn anchor_copies(&self, shard: u16) -> Result<Vec<AnchorCopy>, OpenError> {
        let reading = self.reading(shard)?;
        let base = reading.files.log_base;
        let copies = self.core().block_on(async move { reading.anchor_copies().await.0 });
        let place = |(copy, read)| AnchorCopy { offset: base + anchor_offset(copy), read };
        Ok(copies.into_iter().enumerate().map(place).collect())
    }

    /// Where a place in a shard's log lies: in which of its files, and from the start of that or of the device.
    ///
    /// # Errors
    /// A file that is missing.
    pub fn log_place(&self, shard: u16, place: LogPosition) -> Result<(Region, u64), OpenError> {
        let reading = self.reading(shard)?;
        Ok(reading.files.locate(Region::Log, reading.log_offset(place)))
    }

    /// Where an extent lies: in which of the shard's files, and from the start of that or of the device.
    ///
    /// # Errors
    /// A file that is missing.
    pub fn data_place(&self, shard: u16, extent: Extent) -> Result<(Region, u64), OpenError> {
        let reading = self.reading(shard)?;
        Ok(reading.files.locate(Region::Data, reading.data_offset(extent)))
    }

    /// Who holds the byte at an offset of a shard's file or device.
    ///
    /// # Errors
    /// A file that is missing.
    pub fn holders(&self, image: &ShardImage, region: Region, offset: u64) -> Result<Vec<Holder>, OpenError> {
        let reading = self.reading(image.shard())?;
        let mut holders = Vec::new();
        // A window of a device is one file, whatever lies there.
        let is_file = |of: Region| reading.files.shared || of == region;
        let covers = |of: Region, start: u64, bytes: u64| {
            let (of, start) = reading.files.locate(of, start);
            is_file(of) && start <= offset && offset - start < bytes
        };
        let is_extent = |extent: Extent| covers(Region::Data, reading.data_offset(extent), extent.bytes());
        let chunks = image.checkpoint_extents.iter().filter(|extent| is_extent(**extent));
        holders.extend(chunks.map(|extent| Holder::Checkpoint(*extent)));
        let batches = image.batches().filter(|batch| {
            let bytes = u64::from(batch.total_blocks()) * BLOCK_BYTES as u64;
            covers(Region::Log, reading.log_offset(batch.position), bytes)
        });
        holders.extend(batches.map(|batch| Holder::Batch { sequence: batch.sequence }));
        let holds = |content: &Content| {
            let mut holds = false;
            extents_of(content, &mut |extent| holds |= is_extent(extent));
            content.visit_packed(&mut |place, bytes| {
                holds |= covers(Region::Log, reading.log_offset(place), u64::from(bytes));
            });
            holds
        };
        for entry in image.objects().filter(|entry| holds(&entry.record.content)) {
            let part = match &entry.record.content {
                Content::Parts(parts) => {
                    parts.iter().find(|part| holds(&part.content)).map(|part| part.number)
                }
                _ => None,
            };
            let version = Some(entry.record.version);
            holders.push(Holder::Object(name_of(image, entry.bucket_id, &entry.key, version, part)));
        }
        for upload in image.uploads() {
            let record = upload.record;
            for part in upload.parts.into_iter().filter(|part| holds(&part.content)) {
                let name = name_of(image, record.bucket, &record.key, None, Some(part.number));
                holders.push(Holder::Object(name));
            }
        }
        Ok(holders)
    }
}
