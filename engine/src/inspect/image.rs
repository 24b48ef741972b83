//! A shard as recovery would find it now: read through the engine's own recovery, and kept in memory.

use crate::{
    error::{Corruption, OpenError},
    index::{Index, key},
    layout::{
        Anchor, BatchHeader, BucketId, BucketRecord, CheckpointRoot, ChunkPlace, Content, DecodeError, Entry,
        Extent, LogPosition, Part, Record, ScrubRecord, UploadRecord,
    },
    log::recover::{Found, Replayed},
    object::types::BucketUsage,
    shard::{
        catalog::{Bucket, Catalog, packed_of},
        reading::{ReadCheckpoint, Reading},
        space::{Zones, Zoning},
    },
};
use std::collections::BTreeSet;

/// What one shard held when it was read. It does not change while the store does.
pub struct ShardImage {
    pub(super) shard: u16,
    pub(super) copies: Vec<Result<Anchor, DecodeError>>,
    pub(super) anchor: Anchor,
    pub(super) catalog: Catalog,
    pub(super) chunks: Vec<ChunkPlace>,
    pub(super) checkpoint_extents: Vec<Extent>,
    pub(super) batches: Vec<ReadBatch>,
    pub(super) replayed: Replayed,
    pub(super) zones: Zones,
    pub(super) hole: Option<Corruption>,
    zone_bytes: u64,
    zones_max: u32,
    zoning: Zoning,
}

/// A batch of the log that counts.
pub(super) struct ReadBatch {
    pub(super) header: BatchHeader,
}

/// A version in a shard.
#[derive(Clone, Debug)]
pub struct ObjectEntry<'a> {
    /// Its bucket's record; none if the shard has none.
    pub bucket: Option<&'a BucketRecord>,
    /// Its bucket's number.
    pub bucket_id: BucketId,
    /// Its key.
    pub key: Vec<u8>,
    /// What is known of it.
    pub record: &'a Record,
    /// Its place in the shard's order: see [`ShardImage::objects_after`].
    pub place: &'a [u8],
}

/// A bucket in a shard.
#[derive(Clone, Copy, Debug)]
pub struct BucketEntry<'a> {
    /// Its record.
    pub record: &'a BucketRecord,
    /// What of it lies on this shard, as the engine keeps count of it.
    pub usage: BucketUsage,
}

/// An upload under way.
#[derive(Clone, Debug)]
pub struct UploadEntry<'a> {
    /// Its record.
    pub record: &'a UploadRecord,
    /// Its parts, by number.
    pub parts: Vec<&'a Part>,
}

/// How much of what a shard holds, in bytes unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardUsage {
    /// Versions, delete markers included.
    pub versions: u64,
    /// Delete markers among them.
    pub delete_markers: u64,
    /// Bytes of all versions.
    pub object_bytes: u64,
    /// Uploads under way.
    pub uploads: u64,
    /// Bytes of their parts.
    pub upload_bytes: u64,
    /// Bytes that lie in the index.
    pub inline_bytes: u64,
    /// Bytes that lie in log batches.
    pub packed_bytes: u64,
    /// Data zones' space that objects and parts hold.
    pub extent_bytes: u64,
    /// Data zones' space that the checkpoint holds.
    pub checkpoint_bytes: u64,
    /// Space free in zones that hold data.
    pub extent_bytes_free: u64,
    /// Space of zones in which nothing lies, and of those that could still be made. Where kinds are kept apart: of data zones that
    /// could still be made.
    pub bytes_unclaimed: u64,
    /// Count of zones that hold data. Where kinds are kept apart: of data zones that exist.
    pub data_zones: u32,
    /// Count of zones of the log's file, or of the window, whatever they are used for.
    pub log_zones: u32,
    /// Count of log zones that recovery would read.
    pub log_zones_replayed: u32,
    /// Count of log zones kept for the packed objects in them.
    pub log_zones_packed: u32,
    /// Log since the checkpoint.
    pub log_bytes: u64,
    /// Batches in it.
    pub log_batches: u64,
    /// Entries in it.
    pub log_entries: u64,
    /// Batches whose front copy does not hold.
    pub mended: u64,
}

impl ShardUsage {
    /// Bytes that lie outside the index: what there is to read when all is verified.
    pub fn bytes_to_verify(&self) -> u64 {
        (self.object_bytes + self.upload_bytes).saturating_sub(self.inline_bytes)
    }
}

impl ShardImage {
    /// Reads the shard as recovery does. Nothing is changed.
    pub(crate) async fn read(reading: &Reading) -> Result<ShardImage, OpenError> {
        let mut catalog = Catalog::default();
        let mut image = ShardImage::read_through(reading, &mut |entry| drop(catalog.apply(entry))).await?;
        image.catalog = catalog;
        Ok(image)
    }

    /// Reads the shard's structures, but keeps nothing of what its entries say.
    pub(crate) async fn read_structures(reading: &Reading) -> Result<ShardImage, OpenError> {
        ShardImage::read_through(reading, &mut |_| ()).await
    }

    async fn read_through(reading: &Reading, take: &mut dyn FnMut(Entry)) -> Result<ShardImage, OpenError> {
        let (copies, failed) = reading.anchor_copies().await;
        let anchor = reading.choose_anchor(&copies, failed)?;
        let checkpoint = match anchor.checkpoint {
            Some(root) => reading.checkpoint(root, take).await?,
            None => ReadCheckpoint::default(),
        };
        let mut batches = Vec::new();
        let mut apply = |batch: Found| {
            batches.push(ReadBatch { header: batch.header });
            batch.entries.into_iter().for_each(&mut *take);
        };
        let replayed = reading.log_reader().replay(&anchor, &mut apply).await;
        let replayed = replayed.map_err(|error| reading.located(error))?;
        Ok(ShardImage {
            shard: reading.identity.shard,
            copies,
            anchor,
            catalog: Catalog::default(),
            checkpoint_extents: checkpoint.extents(),
            chunks: checkpoint.chunks,
            batches,
            zones: reading.zones(&replayed),
            hole: replayed.hole.map(|place| reading.hole(place)),
            replayed,
            zone_bytes: u64::from(reading.identity.geometry.zone_bytes),
            zones_max: reading.identity.geometry.zones_max,
            zoning: Zoning::of(&reading.identity.geometry, reading.files.shared),
        })
    }

    /// The shard.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// The anchor that counts.
    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// Its checkpoint, if there is one.
    pub fn checkpoint(&self) -> Option<CheckpointRoot> {
        self.anchor.checkpoint
    }

    /// The sequence that the next batch will have.
    pub fn next_sequence(&self) -> u64 {
        self.replayed.tail.sequence
    }

    /// Where the next batch would go, if it fits the zone.
    pub(crate) fn log_end(&self) -> LogPosition {
        self.replayed.tail.position
    }

    /// Where the log breaks off, if it does: the first batch that was acknowledged and can not be read.
    pub fn hole(&self) -> Option<Corruption> {
        self.hole
    }

    /// How far the shard's scrub is, if there ever was one.
    pub fn scrub(&self) -> Option<&ScrubRecord> {
        self.catalog.scrub()
    }

    /// The batches since the checkpoint, in order.
    pub fn batches(&self) -> impl Iterator<Item = &BatchHeader> {
        self.batches.iter().map(|batch| &batch.header)
    }

    /// The shard's records of buckets.
    pub fn buckets<'a>(&'a self) -> impl Iterator<Item = BucketEntry<'a>> {
        let entry = |bucket: &'a Bucket| BucketEntry { record: &bucket.record, usage: bucket.usage };
        self.catalog.buckets().map(entry)
    }

    /// Uploads under way.
    pub fn uploads(&self) -> impl Iterator<Item = UploadEntry<'_>> {
        self.catalog
            .uploads()
            .map(|upload| UploadEntry { record: &upload.record, parts: upload.parts.values().collect() })
    }

    /// Every version, by bucket number, key, and newest first.
    pub fn objects(&self) -> impl Iterator<Item = ObjectEntry<'_>> {
        self.objects_from(&[])
    }

    /// The versions behind a [`ObjectEntry::place`].
    pub fn objects_after<'a>(&'a self, place: &[u8]) -> impl Iterator<Item = ObjectEntry<'a>> + use<'a> {
        // The least that is greater.
        let mut from = place.to_vec();
        from.push(0);
        self.objects_from(&from)
    }

    /// The versions whose key starts with `prefix`, in order.
    pub fn objects_with_prefix<'a>(
        &'a self,
        bucket: BucketId,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = ObjectEntry<'a>> {
        self.objects_from(&key::prefix_start(bucket, prefix))
            .take_while(move |entry| entry.bucket_id == bucket && entry.key.starts_with(prefix))
    }

    fn objects_from<'a>(&'a self, from: &[u8]) -> impl Iterator<Item = ObjectEntry<'a>> + use<'a> {
        self.catalog.index.scan(from).map(|(place, record)| {
            let (bucket_id, key, _) = key::decode(place);
            let bucket = self.catalog.bucket(bucket_id).map(|bucket| &bucket.record);
            ObjectEntry { bucket, bucket_id, key, record, place }
        })
    }

    /// The record that lies at a place now, if any.
    pub(super) fn at(&self, place: &[u8]) -> Option<&Record> {
        let (bucket, key, version) = key::decode(place);
        self.catalog.index.version(bucket, &key, version)
    }

    /// How much of what it holds.
    pub fn usage(&self) -> ShardUsage {
        let mut usage = ShardUsage {
            log_batches: self.replayed.batches,
            log_entries: self.replayed.entries,
            mended: self.replayed.mended,
            log_zones: self.zones.existing_log,
            ..ShardUsage::default()
        };
        let (mut data_zones, mut extents) = (BTreeSet::new(), BTreeSet::new());
        for entry in self.objects() {
            usage.versions += 1;
            usage.delete_markers += u64::from(entry.record.delete_marker);
            usage.object_bytes += entry.record.size;
        }
        for upload in self.uploads() {
            usage.uploads += 1;
            usage.upload_bytes += upload.parts.iter().map(|part| part.bytes).sum::<u64>();
        }
        for content in self.catalog.contents() {
            add_content(&mut usage, content, &mut extents);
            content.visit_extents(&mut |extent| {
                data_zones.insert(extent.zone);
            });
        }
        for extent in &self.checkpoint_extents {
            usage.checkpoint_bytes += extent.bytes();
            data_zones.insert(extent.zone);
        }
        usage.data_zones = match self.zoning {
            Zoning::Window | Zoning::Mixed => data_zones.len() as u32,
            Zoning::Apart => self.zones.existing_data,
        };
        usage.extent_bytes = extents.iter().map(|extent| extent.bytes()).sum();
        let in_use = usage.extent_bytes + usage.checkpoint_bytes;
        usage.extent_bytes_free = (u64::from(usage.data_zones) * self.zone_bytes).saturating_sub(in_use);
        let replayed: BTreeSet<u32> = self.zones.log_in_use.iter().copied().collect();
        let packed = self.catalog.packed_live_by_zone();
        usage.log_zones_replayed = replayed.len() as u32;
        usage.log_zones_packed = packed.keys().filter(|zone| !replayed.contains(zone)).count() as u32;
        let taken = match self.zoning {
            Zoning::Window | Zoning::Mixed => {
                usage.data_zones + usage.log_zones_replayed + usage.log_zones_packed
            }
            Zoning::Apart => usage.data_zones,
        };
        usage.bytes_unclaimed = u64::from(self.zones_max.saturating_sub(taken)) * self.zone_bytes;
        let blocks: u64 = self.batches.iter().map(|batch| u64::from(batch.header.total_blocks())).sum();
        usage.log_bytes = blocks * crate::layout::BLOCK_BYTES as u64;
        usage
    }

    /// Where its zones are.
    pub(super) fn zoning(&self) -> Zoning {
        self.zoning
    }
}

fn add_content(usage: &mut ShardUsage, content: &Content, extents: &mut BTreeSet<Extent>) {
    match content {
        Content::Inline(bytes) => usage.inline_bytes += bytes.len() as u64,
        Content::Parts(parts) => {
            parts.iter().for_each(|part| add_content(usage, &part.content, extents));
            return;
        }
        _ => {}
    }
    // Copies share them.
    content.visit_extents(&mut |extent| {
        extents.insert(extent);
    });
    packed_of(content, &mut |_, bytes| usage.packed_bytes += u64::from(bytes));
}

impl std::fmt::Debug for ShardImage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ShardImage")
            .field("shard", &self.shard)
            .field("anchor", &self.anchor)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
