//! What a shard knows: buckets, versions, uploads. Changed by applying log entries, and by nothing else.
//!
//! The same [`Catalog::apply`] runs after a commit, at replay and when a checkpoint is loaded, so that there is one
//! meaning of every entry. Applying an entry again after later ones, as a fuzzy checkpoint makes replay do, ends in
//! the same state once the later ones are applied again too.

use super::space::Packed;
use crate::{
    index::{Index, MemoryIndex, footprint},
    layout::{
        BucketId, BucketRecord, ChecksumTable, Content, Entry, Extent, LogPosition, PackedOwner, Part,
        Record, ScrubRecord, UploadId, UploadRecord,
    },
    object::types::BucketUsage,
    planted::{Bug, planted_once},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

/// An upload and the parts it has.
pub(crate) struct Upload {
    pub(crate) record: UploadRecord,
    pub(crate) parts: BTreeMap<u16, Part>,
}

/// Where an upload is listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UploadPlace {
    pub(crate) bucket: BucketId,
    pub(crate) key: Box<[u8]>,
    pub(crate) created_ms: u64,
    pub(crate) upload: UploadId,
}

impl UploadPlace {
    /// At or before the first upload of the key.
    pub(crate) fn first(bucket: BucketId, key: &[u8]) -> UploadPlace {
        UploadPlace { bucket, key: key.into(), created_ms: 0, upload: UploadId(0) }
    }

    fn of(record: &UploadRecord) -> UploadPlace {
        let UploadRecord { upload, bucket, created_ms, .. } = *record;
        UploadPlace { bucket, key: record.key.clone(), created_ms, upload }
    }
}

/// A bucket as this shard sees it, and what of it lies here.
pub(crate) struct Bucket {
    pub(crate) record: BucketRecord,
    pub(crate) usage: BucketUsage,
}

/// Space that nothing in the catalog points to any more.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Freed {
    pub(crate) extents: Vec<Extent>,
}

#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) index: MemoryIndex,
    buckets: BTreeMap<BucketId, Bucket>,
    names: HashMap<Box<str>, BucketId>,
    uploads: BTreeMap<UploadId, Upload>,
    /// The same in the order in which they are listed.
    upload_places: BTreeSet<UploadPlace>,
    /// Packed bytes by log zone: a zone with none alive can be written over once the checkpoint covers it.
    packed: HashMap<u32, Packed>,
    /// How far the scrub is; none if there never was one.
    scrub: Option<ScrubRecord>,
    /// Bytes of the heap that all this takes at most.
    memory_bytes: u64,
}

impl Catalog {
    /// Makes the entry's effect visible and says what space it freed.
    pub(crate) fn apply(&mut self, entry: Entry) -> Freed {
        let mut freed = Freed::default();
        match entry {
            Entry::PutObject { bucket, key, record } => self.put(bucket, &key, record, &mut freed),
            Entry::RemoveVersion { bucket, key, version } => {
                let was_shown = self.is_shown(bucket, &key);
                if let Some(record) = self.index.remove(bucket, &key, version) {
                    self.forget(bucket, &key, record, &mut freed);
                    self.count_object(bucket, was_shown, self.is_shown(bucket, &key));
                }
            }
            Entry::PutBucket(record) => {
                self.names.insert(record.name.clone(), record.bucket);
                self.memory_bytes += footprint::bucket_bytes(&record);
                let before = self.buckets.remove(&record.bucket);
                let usage = before.as_ref().map_or(BucketUsage::default(), |before| before.usage);
                self.memory_bytes -= before.map_or(0, |before| footprint::bucket_bytes(&before.record));
                self.buckets.insert(record.bucket, Bucket { record, usage });
            }
            Entry::RemoveBucket { bucket } => self.remove_bucket(bucket, &mut freed),
            Entry::CreateUpload(record) => {
                // Replay may meet an upload that the checkpoint already holds, with its parts. One of a bucket that is not known is dead,
                // or was begun, and its bucket made, while the checkpoint was taken: replay makes both again.
                if !self.uploads.contains_key(&record.upload) && self.buckets.contains_key(&record.bucket) {
                    self.memory_bytes += footprint::upload_bytes(&record);
                    self.count_upload(record.bucket, |usage| usage.uploads += 1);
                    self.upload_places.insert(UploadPlace::of(&record));
                    self.uploads.insert(record.upload, Upload { record, parts: BTreeMap::new() });
                }
            }
            Entry::PutPart { upload, part } => match self.uploads.get_mut(&upload) {
                Some(upload) => {
                    let (bucket, bytes) = (upload.record.bucket, part.bytes);
                    count_packed(&mut self.packed, &part.content, true);
                    self.memory_bytes += footprint::part_bytes(&part);
                    let mut bytes_before = 0;
                    if let Some(old) = upload.parts.insert(part.number, part) {
                        self.memory_bytes -= footprint::part_bytes(&old);
                        bytes_before = old.bytes;
                        release(&mut self.packed, old.content, &mut freed);
                    }
                    self.count_upload(bucket, |usage| {
                        usage.upload_bytes =
                            usage.upload_bytes.saturating_add(bytes).saturating_sub(bytes_before);
                    });
                }
                // Only at replay, where nothing is freed by hand: the checkpoint already holds what a later
                // entry made of this upload.
                None => free(part.content, &mut freed),
            },
            Entry::CompleteUpload { upload, record, parts } => {
                self.complete(upload, record, &parts, &mut freed)
            }
            Entry::AbortUpload { upload } => {
                if let Some(upload) = self.take_upload(upload) {
                    upload.parts.into_values().for_each(|p| release(&mut self.packed, p.content, &mut freed));
                }
            }
            Entry::MovePacked { owner, from, to } => self.move_packed(&owner, from, to),
            Entry::SetAttributes { bucket, key, version, attributes } => {
                if let Some(record) = self.index.version_mut(bucket, &key, version) {
                    self.memory_bytes -= footprint::version_bytes(&key, record);
                    record.attributes = attributes;
                    self.memory_bytes += footprint::version_bytes(&key, record);
                }
            }
            Entry::Scrub(record) => self.scrub = Some(record),
        }
        freed
    }

    fn put(&mut self, bucket: BucketId, key: &[u8], record: Record, freed: &mut Freed) {
        let Some(known) = self.buckets.get_mut(&bucket) else {
            // Records of an unknown bucket are dead: ids are never used again.
            free(record.content, freed);
            return;
        };
        known.usage.versions += 1;
        known.usage.bytes = known.usage.bytes.saturating_add(record.size);
        known.usage.delete_markers += u64::from(record.delete_marker);
        self.memory_bytes += footprint::version_bytes(key, &record);
        count_packed(&mut self.packed, &record.content, true);
        let put = self.index.put(bucket, key, record);
        for displaced in put.displaced.into_iter().flatten() {
            self.forget(bucket, key, displaced, freed);
        }
        self.count_object(bucket, put.was_shown, put.is_shown);
    }

    /// Whether a listing of keys shows this one: whether its newest version is an object.
    fn is_shown(&self, bucket: BucketId, key: &[u8]) -> bool {
        self.index.newest(bucket, key).is_some_and(|newest| !newest.delete_marker)
    }

    fn count_object(&mut self, bucket: BucketId, was_shown: bool, is_shown: bool) {
        if let Some(known) = self.buckets.get_mut(&bucket) {
            let with = known.usage.objects + u64::from(is_shown);
            known.usage.objects = with.saturating_sub(u64::from(was_shown));
        }
    }

    fn count_upload(&mut self, bucket: BucketId, count: impl FnOnce(&mut BucketUsage)) {
        if let Some(known) = self.buckets.get_mut(&bucket) {
            count(&mut known.usage);
        }
    }

    fn take_upload(&mut self, upload: UploadId) -> Option<Upload> {
        let upload = self.uploads.remove(&upload)?;
        self.upload_places.remove(&UploadPlace::of(&upload.record));
        let bytes: u64 = upload.parts.values().map(|part| part.bytes).sum();
        self.memory_bytes -= footprint::upload_bytes(&upload.record);
        self.memory_bytes -= upload.parts.values().map(footprint::part_bytes).sum::<u64>();
        self.count_upload(upload.record.bucket, |usage| {
            usage.uploads = usage.uploads.saturating_sub(1);
            usage.upload_bytes = usage.upload_bytes.saturating_sub(bytes);
        });
        Some(upload)
    }

    fn complete(&mut self, upload: UploadId, mut record: Record, numbers: &[u16], freed: &mut Freed) {
        // Already completed: replay over a checkpoint that holds the object.
        let Some(mut upload) = self.take_upload(upload) else { return };
        let parts: Arc<[Part]> = numbers.iter().filter_map(|number| upload.parts.remove(number)).collect();
        for part in parts.iter() {
            // They are counted again with the object, and were written but once.
            packed_of(&part.content, &mut |place, bytes| {
                let zone = self.packed.entry(place.zone).or_default();
                zone.live = zone.live.saturating_sub(u64::from(bytes));
                zone.written = zone.written.saturating_sub(u64::from(bytes));
            });
        }
        upload.parts.into_values().for_each(|part| release(&mut self.packed, part.content, freed));
        if self.index.version(upload.record.bucket, &upload.record.key, record.version).is_some() {
            // Replay over a checkpoint that has both: it was completed while its parts were walked, and has only some of them. The
            // object has all.
            return;
        }
        record.content = Content::Parts(parts);
        self.put(upload.record.bucket, &upload.record.key, record, freed);
    }

    /// Whoever holds the payload may have gone, or have another content now: then nothing moved.
    fn move_packed(&mut self, owner: &PackedOwner, from: LogPosition, to: Content) {
        let content = match owner {
            PackedOwner::Version { bucket, key, version, part } => {
                let record = self.index.version_mut(*bucket, key, *version);
                record.and_then(|record| part_of(&mut record.content, *part))
            }
            PackedOwner::Part { upload, number } => {
                let upload = self.uploads.get_mut(upload);
                upload.and_then(|upload| upload.parts.get_mut(number)).map(|part| &mut part.content)
            }
        };
        if let Some(content) = content.filter(|content| is_packed_at(content, from)) {
            count_packed(&mut self.packed, content, false);
            count_packed(&mut self.packed, &to, true);
            if !planted_once(Bug::DropsRelocation) {
                *content = to;
            }
        }
    }

    /// The content of a packed payload, if it is at this place.
    pub(crate) fn packed(&self, owner: &PackedOwner, place: LogPosition) -> Option<&Content> {
        let content = match owner {
            PackedOwner::Version { bucket, key, version, part } => {
                match (&self.index.version(*bucket, key, *version)?.content, part) {
                    (Content::Parts(parts), Some(number)) => {
                        &parts.iter().find(|part| part.number == *number)?.content
                    }
                    (content, _) => content,
                }
            }
            PackedOwner::Part { upload, number } => &self.uploads.get(upload)?.parts.get(number)?.content,
        };
        is_packed_at(content, place).then_some(content)
    }

    fn remove_bucket(&mut self, bucket: BucketId, freed: &mut Freed) {
        let Some(known) = self.buckets.remove(&bucket) else { return };
        self.memory_bytes -= footprint::bucket_bytes(&known.record);
        if self.names.get(&known.record.name) == Some(&bucket) {
            self.names.remove(&known.record.name);
            // Where a bucket was half made there may be another record of the name.
            let other = self.buckets.values().rev().find(|other| other.record.name == known.record.name);
            if let Some(other) = other {
                self.names.insert(other.record.name.clone(), other.record.bucket);
            }
        }
        let first = Bound::Included(UploadPlace::first(bucket, b""));
        let gone: Vec<UploadId> =
            self.uploads_from(bucket, first).map(|upload| upload.record.upload).collect();
        for upload in gone.into_iter().filter_map(|id| self.take_upload(id)).collect::<Vec<_>>() {
            upload.parts.into_values().for_each(|part| release(&mut self.packed, part.content, freed));
        }
    }

    fn forget(&mut self, bucket: BucketId, key: &[u8], record: Record, freed: &mut Freed) {
        self.memory_bytes -= footprint::version_bytes(key, &record);
        if let Some(Bucket { usage, .. }) = self.buckets.get_mut(&bucket) {
            usage.versions = usage.versions.saturating_sub(1);
            usage.bytes = usage.bytes.saturating_sub(record.size);
            usage.delete_markers = usage.delete_markers.saturating_sub(record.delete_marker.into());
        }
        release(&mut self.packed, record.content, freed);
    }

    /// The content of the version that an entry removes, as far as it is applied.
    pub(crate) fn removed_by(&self, entry: &Entry) -> Option<&Content> {
        let (bucket, key, version) = match entry {
            Entry::RemoveVersion { bucket, key, version } => (*bucket, key, *version),
            Entry::PutObject { bucket, key, record } if record.null => {
                (*bucket, key, self.index.null_version(*bucket, key)?)
            }
            _ => return None,
        };
        self.index.version(bucket, key, version).map(|record| &record.content)
    }

    /// Bytes of the heap that the catalog takes at most.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// How far the scrub is, if there ever was one.
    pub(crate) fn scrub(&self) -> Option<&ScrubRecord> {
        self.scrub.as_ref()
    }

    pub(crate) fn bucket(&self, id: BucketId) -> Option<&Bucket> {
        self.buckets.get(&id)
    }

    pub(crate) fn bucket_named(&self, name: &str) -> Option<&Bucket> {
        self.buckets.get(self.names.get(name)?)
    }

    pub(crate) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.buckets.values()
    }

    pub(crate) fn upload(&self, id: UploadId) -> Option<&Upload> {
        self.uploads.get(&id)
    }

    pub(crate) fn uploads(&self) -> impl Iterator<Item = &Upload> {
        self.uploads.values()
    }

    /// A bucket's uploads from a place on, in order of key, then of beginning, then of id.
    pub(crate) fn uploads_from(
        &self,
        bucket: BucketId,
        first: Bound<UploadPlace>,
    ) -> impl Iterator<Item = &Upload> {
        let places = self.upload_places.range((first, Bound::Unbounded));
        places
            .take_while(move |place| place.bucket == bucket)
            .filter_map(|place| self.uploads.get(&place.upload))
    }

    /// Live packed bytes of a log zone.
    pub(crate) fn packed_live(&self, zone: u32) -> u64 {
        self.packed_in(zone).live
    }

    /// Packed bytes of a log zone.
    pub(crate) fn packed_in(&self, zone: u32) -> Packed {
        self.packed.get(&zone).copied().unwrap_or_default()
    }

    /// Begins a zone anew, in which nothing lives.
    pub(crate) fn begin_zone(&mut self, zone: u32) {
        self.packed.remove(&zone);
    }

    /// Live packed bytes of every log zone that has any.
    pub(crate) fn packed_live_by_zone(&self) -> BTreeMap<u32, u64> {
        self.packed.iter().map(|(zone, packed)| (*zone, packed.live)).filter(|(_, live)| *live > 0).collect()
    }

    /// Every content that is reachable.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &Content> {
        let objects = self.index.scan(&[]).map(|(_, record)| &record.content);
        objects
            .chain(self.uploads.values().flat_map(|upload| upload.parts.values().map(|part| &part.content)))
    }

    /// All but the versions as entries that make it again, from a place on, in order, each with its place. To go on behind one, in a catalog
    /// that has changed since, is to miss only what replay makes good.
    pub(crate) fn entries_after(&self, after: &EntryPlace) -> impl Iterator<Item = (EntryPlace, Entry)> {
        let (bucket, upload, number) = match *after {
            EntryPlace::Start => (Bound::Unbounded, Bound::Unbounded, None),
            EntryPlace::Bucket(bucket) => (Bound::Excluded(bucket), Bound::Unbounded, None),
            EntryPlace::Buckets => (Bound::Excluded(BucketId(u64::MAX)), Bound::Unbounded, None),
            EntryPlace::Upload(upload, number) => {
                (Bound::Excluded(BucketId(u64::MAX)), Bound::Excluded(upload), Some((upload, number)))
            }
        };
        let buckets = self.buckets.range((bucket, Bound::Unbounded));
        let buckets =
            buckets.map(|(id, bucket)| (EntryPlace::Bucket(*id), Entry::PutBucket(bucket.record.clone())));
        let scrub = self.scrub.iter().filter(|_| matches!(after, EntryPlace::Start | EntryPlace::Bucket(_)));
        let scrub = scrub.map(|scrub| (EntryPlace::Buckets, Entry::Scrub(scrub.clone())));
        let begun = number.and_then(|(upload, number)| Some((self.uploads.get(&upload)?, number)));
        let rest = begun.into_iter().flat_map(|(upload, number)| parts_after(upload, Some(number)));
        let uploads = self.uploads.range((upload, Bound::Unbounded)).flat_map(|(id, upload)| {
            let head = (EntryPlace::Upload(*id, 0), Entry::CreateUpload(upload.record.clone()));
            std::iter::once(head).chain(parts_after(upload, None))
        });
        buckets.chain(scrub).chain(rest).chain(uploads)
    }
}

/// How far a walk through all but the versions has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryPlace {
    /// Nowhere.
    Start,
    /// Behind a bucket.
    Bucket(BucketId),
    /// Behind all buckets, and the place of the scrub.
    Buckets,
    /// Behind a part of an upload, or, with 0, which no part has, behind what begins it.
    Upload(UploadId, u16),
}

fn parts_after(upload: &Upload, number: Option<u16>) -> impl Iterator<Item = (EntryPlace, Entry)> {
    let id = upload.record.upload;
    let first = number.map_or(Bound::Unbounded, Bound::Excluded);
    upload.parts.range((first, Bound::Unbounded)).map(move |(number, part)| {
        (EntryPlace::Upload(id, *number), Entry::PutPart { upload: id, part: part.clone() })
    })
}

/// The extents a content lies in, in no particular order.
pub(crate) fn extents_of(content: &Content, visit: &mut dyn FnMut(Extent)) {
    match content {
        Content::Empty | Content::Inline(_) | Content::Packed { .. } => {}
        Content::Extents { extents, checksums, .. } => {
            extents.iter().copied().for_each(&mut *visit);
            if let ChecksumTable::Away { extent, .. } = checksums {
                visit(*extent);
            }
        }
        Content::Parts(parts) => parts.iter().for_each(|part| extents_of(&part.content, visit)),
    }
}

/// The packed payloads of a content: where, and how many bytes.
pub(crate) fn packed_of(content: &Content, visit: &mut dyn FnMut(LogPosition, u32)) {
    match content {
        Content::Packed { place, bytes, .. } => visit(*place, *bytes),
        Content::Parts(parts) => parts.iter().for_each(|part| packed_of(&part.content, visit)),
        Content::Empty | Content::Inline(_) | Content::Extents { .. } => {}
    }
}

fn part_of(content: &mut Content, part: Option<u16>) -> Option<&mut Content> {
    match (content, part) {
        (Content::Parts(parts), Some(number)) => {
            let index = parts.iter().position(|part| part.number == number)?;
            // Where somebody reads them still, he keeps those that he has.
            Arc::make_mut(parts).get_mut(index).map(|part| &mut part.content)
        }
        (content, _) => Some(content),
    }
}

fn is_packed_at(content: &Content, at: LogPosition) -> bool {
    matches!(content, Content::Packed { place, .. } if *place == at)
}

fn count_packed(packed: &mut HashMap<u32, Packed>, content: &Content, add: bool) {
    packed_of(content, &mut |place, bytes| {
        let zone = packed.entry(place.zone).or_default();
        if add {
            zone.live += u64::from(bytes);
            zone.written += u64::from(bytes);
        } else {
            zone.live = zone.live.saturating_sub(u64::from(bytes));
        }
    });
}

fn release(packed: &mut HashMap<u32, Packed>, content: Content, freed: &mut Freed) {
    count_packed(packed, &content, false);
    free(content, freed);
}

fn free(content: Content, freed: &mut Freed) {
    extents_of(&content, &mut |extent| freed.extents.push(extent));
}
