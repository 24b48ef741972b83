//! Checks everything about a shard but the bytes of its objects: that each structure holds in every copy, and that what
//! the records say fits together.
//!
//! Pure over the device trait: the simulator runs the same check on its disks.

use super::{
    finding::{Finding, ObjectName, Problem, Severity},
    image::ShardImage,
};
use crate::{
    error::{OpenError, Region},
    layout::{BLOCK_BYTES, BatchHeader, BucketId, BucketRecord, DecodeError, LogPosition, anchor_offset},
    log::recover::LogReader,
    shard::{catalog::Catalog, reading::Reading},
};
use std::{collections::BTreeMap, rc::Rc};

/// Checks the copies of the anchor and of the checkpoint's chunks, and header and entries of every batch since the
/// checkpoint in both copies. What the entries say was decoded when the image was read.
pub(crate) async fn check_structures(
    reading: &Reading,
    image: &ShardImage,
    found: &mut dyn FnMut(Finding),
) -> Result<(), OpenError> {
    check_anchors(reading, image, found);
    check_chunks(reading, image, found).await?;
    if let (Some(place), sequence) = (image.replayed.hole, image.next_sequence()) {
        let (severity, problem) = (Severity::Damage, Problem::Hole { sequence });
        found(log_finding(reading, image, place, severity, problem));
    }
    // Read as recovery does, in long stretches: a read for each copy would take a device's latency twice a batch.
    let mut log = reading.log_reader();
    for (index, batch) in image.batches.iter().enumerate() {
        check_batch(reading, &mut log, image, index, &batch.header, found).await?;
    }
    Ok(())
}

fn check_anchors(reading: &Reading, image: &ShardImage, found: &mut dyn FnMut(Finding)) {
    for (copy, error) in differing(&image.copies, &image.anchor) {
        found(Finding {
            shard: Some(image.shard),
            region: Some(Region::Log),
            offset: Some(reading.files.log_base + anchor_offset(copy)),
            object: None,
            severity: copy_severity(&image.copies, copy),
            problem: Problem::Copy { structure: "anchor", copy, error },
        });
    }
}

async fn check_chunks(
    reading: &Reading,
    image: &ShardImage,
    found: &mut dyn FnMut(Finding),
) -> Result<(), OpenError> {
    let Some(root) = image.anchor.checkpoint else { return Ok(()) };
    let mut lease = Some(reading.lease(reading.chunk_bytes()).await?);
    for (index, chunk) in image.chunks.iter().enumerate() {
        for (copy, extent) in chunk.copies.into_iter().enumerate() {
            let empty = match lease.take() {
                Some(lease) => lease,
                None => reading.lease(reading.chunk_bytes()).await?,
            };
            let read = reading.chunk_copy(root.id, index as u32, chunk.hash, extent, empty).await;
            match read.unwrap_or(Err(DecodeError::Unreadable)) {
                Ok((read, _)) => lease = Some(read),
                Err(error) => {
                    let (region, offset) = reading.files.locate(Region::Data, reading.data_offset(extent));
                    found(Finding {
                        shard: Some(image.shard),
                        region: Some(region),
                        offset: Some(offset),
                        object: None,
                        // Both were durable before the anchor named them.
                        severity: Severity::Degraded,
                        problem: Problem::Copy { structure: "checkpoint chunk", copy, error: Some(error) },
                    });
                }
            }
        }
    }
    Ok(())
}

/// The copies that are not the one that counts, each with what is wrong with it if it does not read.
pub(super) fn differing<T: PartialEq>(
    copies: &[Result<T, DecodeError>],
    chosen: &T,
) -> Vec<(usize, Option<DecodeError>)> {
    crate::layout::disagreeing(copies, chosen)
        .into_iter()
        .map(|copy| (copy, copies.get(copy).and_then(|copy| copy.as_ref().err().copied())))
        .collect()
}

/// A writer goes through the copies one after the other, each durable before the next. Where it was cut off, sound
/// copies of two values are left, and at most one that is torn.
pub(super) fn copy_severity<T: PartialEq>(copies: &[Result<T, DecodeError>], copy: usize) -> Severity {
    let mut values: Vec<&T> = copies.iter().flatten().collect();
    values.dedup();
    let torn_count = copies.iter().filter(|copy| copy.is_err()).count();
    let interrupted = values.len() == 2 && torn_count <= 1;
    match copies.get(copy) {
        Some(Ok(_)) if interrupted => Severity::Note,
        // Cut off between the two values, or in a copy that was being mended.
        Some(Err(_)) if torn_count == 1 => Severity::Torn,
        _ => Severity::Degraded,
    }
}

async fn check_batch(
    reading: &Reading,
    log: &mut LogReader,
    image: &ShardImage,
    index: usize,
    header: &BatchHeader,
    found: &mut dyn FnMut(Finding),
) -> Result<(), OpenError> {
    let meta = header.meta_blocks as usize * BLOCK_BYTES;
    let back_at = (header.total_blocks() - header.meta_blocks) * BLOCK_BYTES as u32;
    for (back, offset) in [(false, 0), (true, back_at)] {
        let place = LogPosition { offset: header.position.offset + offset, ..header.position };
        let copy = log.bytes(place, meta).await?.unwrap_or_default();
        let error = match BatchHeader::decode(copy, &reading.identity.secret) {
            Ok((read, _, _, is_back)) if read == *header && is_back == back => continue,
            Ok(_) => DecodeError::Identity,
            Err(error) => error,
        };
        let sequence = header.sequence;
        let severity = match was_known_durable(image, index) {
            true => Severity::Degraded,
            // In flight when the power went: its write may have come to the disk in part.
            false => Severity::Note,
        };
        let problem = Problem::BatchCopy { sequence, back, error };
        found(log_finding(reading, image, place, severity, problem));
    }
    Ok(())
}

/// Whether a header of the batch's own epoch says that it was durable. What a later epoch says of it counts for
/// nothing here: recovery takes what it finds, even if its write was cut off behind what it needs.
fn was_known_durable(image: &ShardImage, index: usize) -> bool {
    let Some(batch) = image.batches.get(index).map(|batch| &batch.header) else { return false };
    image
        .batches
        .iter()
        .skip(index)
        .take_while(|later| later.header.epoch == batch.epoch)
        .any(|later| later.header.durable_upto >= batch.sequence)
}

fn log_finding(
    reading: &Reading,
    image: &ShardImage,
    place: LogPosition,
    severity: Severity,
    problem: Problem,
) -> Finding {
    let (region, offset) = reading.files.locate(Region::Log, reading.log_offset(place));
    let (region, offset) = (Some(region), Some(offset));
    Finding { shard: Some(image.shard), region, offset, object: None, severity, problem }
}

/// Compares the shards' records of buckets: a bucket exists when its home shard knows it, and then all others do.
pub(crate) fn check_buckets(
    images: &[Rc<ShardImage>],
    home_of: impl Fn(&str) -> u16,
    found: &mut dyn FnMut(Finding),
) {
    // What a log that breaks off would have said of buckets is unknown; that it breaks off has been said.
    let images: Vec<&Rc<ShardImage>> = images.iter().filter(|image| image.hole.is_none()).collect();
    let mut records: BTreeMap<BucketId, &BucketRecord> = BTreeMap::new();
    images.iter().flat_map(|image| image.buckets()).for_each(|bucket| {
        records.entry(bucket.record.bucket).or_insert(bucket.record);
    });
    for (id, any) in records {
        let home = home_of(&any.name);
        // A shard that could not be read has a finding of its own; without it nothing can be compared.
        let Some(decides) = images.iter().find(|image| image.shard == home) else { continue };
        let decides = decides.catalog.bucket(id).map(|bucket| &bucket.record);
        for image in images.iter().filter(|image| image.shard != home) {
            let here = image.catalog.bucket(id);
            let bucket = any.name.to_string();
            let (severity, problem) = match (decides, here) {
                (Some(_), None) => (Severity::Damage, Problem::BucketMissing { bucket }),
                (Some(decides), Some(here)) if here.record != *decides => {
                    // Records are changed on one shard after the other; the newest then goes everywhere at the next open.
                    let renamed = here.record.name != decides.name;
                    let severity = if renamed { Severity::Damage } else { Severity::Note };
                    (severity, Problem::BucketDiffers { bucket, home })
                }
                (None, Some(here)) => {
                    // Making and removing begin and end with the others; a bucket has objects only in between.
                    let severity = if here.usage.versions == 0 { Severity::Note } else { Severity::Damage };
                    (severity, Problem::BucketLeftOver { bucket, versions: here.usage.versions })
                }
                _ => continue,
            };
            let shard = Some(image.shard);
            found(Finding { shard, region: None, offset: None, object: None, severity, problem });
        }
    }
}

/// The name of an object or of a part of an upload, for a finding.
pub(super) fn name_of(
    image: &ShardImage,
    bucket: BucketId,
    key: &[u8],
    version: Option<crate::layout::Version>,
    part: Option<u16>,
) -> ObjectName {
    name_in(&image.catalog, bucket, key, version, part)
}

/// As [`name_of`], where the catalog is at hand.
pub(crate) fn name_in(
    catalog: &Catalog,
    bucket: BucketId,
    key: &[u8],
    version: Option<crate::layout::Version>,
    part: Option<u16>,
) -> ObjectName {
    let bucket = match catalog.bucket(bucket) {
        Some(known) => known.record.name.to_string(),
        None => format!("#{}", bucket.0),
    };
    ObjectName { bucket, key: key.into(), version, part }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an interrupted writer leaves is told from damage.
    #[test]
    fn torn_is_not_rotten() {
        let torn = || Err(DecodeError::Checksum);
        let of = |copies: [Result<u64, DecodeError>; 4]| -> Vec<Severity> {
            let chosen = crate::layout::disagreeing(&copies, &1);
            chosen.into_iter().map(|copy| copy_severity(&copies, copy)).collect()
        };
        assert_eq!(of([Ok(1), Ok(1), Ok(1), Ok(1)]), []);
        assert_eq!(of([Ok(2), Ok(1), Ok(1), Ok(1)]), [Severity::Note]);
        assert_eq!(of([Ok(2), torn(), Ok(1), Ok(1)]), [Severity::Note, Severity::Torn]);
        assert_eq!(of([Ok(1), Ok(1), torn(), Ok(0)]), [Severity::Torn, Severity::Note]);
        assert_eq!(of([Ok(1), torn(), Ok(1), Ok(1)]), [Severity::Torn]);
        assert_eq!(of([Ok(1), Ok(0), Ok(1), Ok(2)]), [Severity::Degraded; 2]);
        assert_eq!(of([Ok(1), torn(), torn(), Ok(1)]), [Severity::Degraded; 2]);
    }
}
