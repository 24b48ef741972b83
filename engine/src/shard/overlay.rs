//! What is sequenced but not yet applied: conditions are judged against it, readers never see it.

use super::catalog::Catalog;
use crate::{
    index::{Index, key::Place},
    layout::{BucketId, EntityTag, Entry, Record, UploadId, Version},
    object::types::{DeleteMarker, Which},
    planted::{Bug, planted},
};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// A version of a key, as far as conditions and deletes ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: Version,
    pub(crate) etag: EntityTag,
    pub(crate) null: bool,
    /// When it was made, if it says that the key is deleted.
    pub(crate) marker: Option<DeleteMarker>,
    pub(crate) attributes: Bytes,
}

impl Seen {
    fn of(record: &Record) -> Seen {
        Seen {
            version: record.version,
            etag: record.etag,
            null: record.null,
            marker: record.delete_marker.then(|| DeleteMarker::of(record)),
            attributes: record.attributes.clone(),
        }
    }

    /// The tag that conditions are judged by: what is deleted has none.
    pub(crate) fn tag(&self) -> Option<EntityTag> {
        self.marker.is_none().then_some(self.etag)
    }
}

/// What a sequenced entry does to its key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// Adds a version newer than all; a null one takes the place of the null version.
    Put(Seen),
    Remove(Version),
    /// Gives a version other attributes.
    Attributes(Version, Bytes),
}

/// The changes of one key, never none. Hardly ever is there more than one.
struct Changes {
    first: Change,
    more: VecDeque<Change>,
}

/// Sequenced changes by what they change. A count says when the last of them is applied and the entry can go.
#[derive(Default)]
pub(crate) struct Overlay {
    /// By the start of the key's encoding; in the order of the log, which they are applied in.
    keys: HashMap<Box<[u8]>, Changes>,
    buckets: HashMap<BucketId, u32>,
    uploads: HashMap<UploadId, u32>,
    /// Buckets of which it is being decided whether they go: changes wait for the outcome.
    pub(crate) deciding: HashSet<BucketId>,
    /// Names, on their home shard, whose bucket is being made, changed or deleted: one at a time.
    pub(crate) naming: HashSet<Box<str>>,
    /// Uploads being completed: they take no more parts.
    pub(crate) completing: HashSet<UploadId>,
}

impl Overlay {
    /// A version of a key once everything sequenced is applied, and whether something is still pending.
    pub(crate) fn version(
        &self,
        catalog: &Catalog,
        bucket: BucketId,
        key: &[u8],
        which: Which,
    ) -> (Option<Seen>, bool) {
        let place = Place::of(bucket, key);
        let Some(pending) = self.keys.get(place.start()).filter(|_| !planted(Bug::JudgesLate)) else {
            let index = &catalog.index;
            let applied = match which {
                Which::Current => index.newest(bucket, key),
                Which::Null => {
                    index.null_version(bucket, key).and_then(|version| index.version(bucket, key, version))
                }
                Which::Version(version) => index.version(bucket, key, version),
            };
            return (applied.map(Seen::of), false);
        };
        let is_wanted = |seen: &Seen| match which {
            Which::Current => true,
            Which::Null => seen.null,
            Which::Version(version) => seen.version == version,
        };
        // From the newest change to the oldest: what is known to go is known before what it would have been.
        let (mut removed, mut null_replaced) = (BTreeSet::new(), false);
        let mut attributes: HashMap<Version, &Bytes> = HashMap::new();
        let with = |seen: Seen, attributes: &HashMap<Version, &Bytes>| match attributes.get(&seen.version) {
            Some(&newest) => Seen { attributes: newest.clone(), ..seen },
            None => seen,
        };
        for change in std::iter::once(&pending.first).chain(&pending.more).rev() {
            match change {
                Change::Remove(version) => {
                    removed.insert(*version);
                }
                Change::Attributes(version, newest) => {
                    attributes.entry(*version).or_insert(newest);
                }
                Change::Put(seen) => {
                    let goes = removed.contains(&seen.version) || seen.null && null_replaced;
                    if !goes && is_wanted(seen) {
                        return (Some(with(seen.clone(), &attributes)), true);
                    }
                    null_replaced |= seen.null;
                }
            }
        }
        let stands = |record: &&Record| {
            let goes = removed.contains(&record.version) || record.null && null_replaced;
            !goes
        };
        let index = &catalog.index;
        let applied = match which {
            Which::Current => index.versions(bucket, key).find(stands),
            Which::Null => {
                let version = index.null_version(bucket, key);
                version.and_then(|version| index.version(bucket, key, version)).filter(stands)
            }
            Which::Version(version) => index.version(bucket, key, version).filter(stands),
        };
        (applied.map(|record| with(Seen::of(record), &attributes)), true)
    }

    pub(crate) fn upload_is_pending(&self, upload: UploadId) -> bool {
        self.uploads.contains_key(&upload)
    }

    pub(crate) fn bucket_is_pending(&self, bucket: BucketId) -> bool {
        self.buckets.contains_key(&bucket)
    }

    /// Counts an entry in when it is sequenced.
    pub(crate) fn sequence(&mut self, catalog: &Catalog, entry: &Entry) {
        match entry {
            Entry::PutObject { bucket, key, record } => {
                self.change_key(*bucket, key, Change::Put(Seen::of(record)));
            }
            Entry::RemoveVersion { bucket, key, version } => {
                self.change_key(*bucket, key, Change::Remove(*version));
            }
            Entry::SetAttributes { bucket, key, version, attributes } => {
                self.change_key(*bucket, key, Change::Attributes(*version, attributes.clone()));
            }
            Entry::CompleteUpload { upload, record, .. } => {
                *self.uploads.entry(*upload).or_default() += 1;
                if let Some(known) = catalog.upload(*upload) {
                    self.change_key(known.record.bucket, &known.record.key, Change::Put(Seen::of(record)));
                }
            }
            Entry::CreateUpload(record) => {
                *self.uploads.entry(record.upload).or_default() += 1;
                *self.buckets.entry(record.bucket).or_default() += 1;
            }
            Entry::PutPart { upload, .. } | Entry::AbortUpload { upload } => {
                *self.uploads.entry(*upload).or_default() += 1;
            }
            // Changes nothing that a condition can ask for.
            Entry::MovePacked { .. } | Entry::Scrub(_) => {}
            Entry::PutBucket(record) => *self.buckets.entry(record.bucket).or_default() += 1,
            Entry::RemoveBucket { bucket } => *self.buckets.entry(*bucket).or_default() += 1,
        }
    }

    fn change_key(&mut self, bucket: BucketId, key: &[u8], change: Change) {
        let place = Place::of(bucket, key);
        match self.keys.get_mut(place.start()) {
            Some(changes) => changes.more.push_back(change),
            None => {
                let changes = Changes { first: change, more: VecDeque::new() };
                self.keys.insert(place.start().into(), changes);
            }
        }
        *self.buckets.entry(bucket).or_default() += 1;
    }

    /// Counts an entry out just before it is applied: `catalog` does not hold it yet.
    pub(crate) fn settle(&mut self, catalog: &Catalog, entry: &Entry) {
        match entry {
            Entry::PutObject { bucket, key, .. }
            | Entry::RemoveVersion { bucket, key, .. }
            | Entry::SetAttributes { bucket, key, .. } => {
                self.settle_key(*bucket, key);
            }
            Entry::CompleteUpload { upload, .. } => {
                count_down(&mut self.uploads, upload);
                if let Some(known) = catalog.upload(*upload) {
                    self.settle_key(known.record.bucket, &known.record.key);
                }
            }
            Entry::CreateUpload(record) => {
                count_down(&mut self.uploads, &record.upload);
                count_down(&mut self.buckets, &record.bucket);
            }
            Entry::PutPart { upload, .. } | Entry::AbortUpload { upload } => {
                count_down(&mut self.uploads, upload);
            }
            Entry::MovePacked { .. } | Entry::Scrub(_) => {}
            Entry::PutBucket(record) => count_down(&mut self.buckets, &record.bucket),
            Entry::RemoveBucket { bucket } => count_down(&mut self.buckets, bucket),
        }
    }

    fn settle_key(&mut self, bucket: BucketId, key: &[u8]) {
        let place = Place::of(bucket, key);
        if let Some(changes) = self.keys.get_mut(place.start()) {
            match changes.more.pop_front() {
                Some(next) => changes.first = next,
                None => drop(self.keys.remove(place.start())),
            }
        }
        count_down(&mut self.buckets, &bucket);
    }
}

fn count_down<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{BucketRecord, Content, Versioning};
    use bytes::Bytes;
    use proptest::prelude::*;

    const BUCKET: BucketId = BucketId(1);

    fn entry(change: (u8, u64), version: u64) -> Entry {
        let (what, older) = change;
        if what == 0 {
            return Entry::RemoveVersion { bucket: BUCKET, key: (*b"k").into(), version: Version(older) };
        }
        let record = Record {
            version: Version(version),
            null: what == 1,
            delete_marker: what == 2,
            size: 0,
            modified_ms: 0,
            crc64: 0,
            etag: EntityTag::new(&version.to_le_bytes()).unwrap(),
            attributes: Bytes::new(),
            content: Content::Empty,
            upload: None,
        };
        Entry::PutObject { bucket: BUCKET, key: (*b"k").into(), record }
    }

    proptest! {
        /// What is pending over what is applied gives, for every version, what applying all of it gives.
        #[test]
        fn looking_ahead_is_applying(
            changes in proptest::collection::vec((0u8..4, 1u64..12), 0..12),
            applied in 0usize..12,
        ) {
            let record = BucketRecord {
                bucket: BUCKET,
                name: "b".into(),
                created_ms: 0,
                attributes: Bytes::new(),
                versioning: Versioning::Enabled,
                documents: Default::default(),
                revision: 1,
            };
            let (mut overlay, mut catalog, mut all) =
                (Overlay::default(), Catalog::default(), Catalog::default());
            catalog.apply(Entry::PutBucket(record.clone()));
            all.apply(Entry::PutBucket(record));
            let entries: Vec<Entry> = changes.iter().zip(1..).map(|(change, v)| entry(*change, v)).collect();
            for entry in &entries {
                overlay.sequence(&catalog, entry);
                all.apply(entry.clone());
            }
            for entry in entries.iter().take(applied) {
                overlay.settle(&catalog, entry);
                catalog.apply(entry.clone());
            }
            let versions = (1..13).map(|version| Which::Version(Version(version)));
            for which in versions.chain([Which::Current, Which::Null]) {
                let found = overlay.version(&catalog, BUCKET, b"k", which);
                let expected = Overlay::default().version(&all, BUCKET, b"k", which).0;
                prop_assert_eq!(found, (expected, applied < entries.len()), "{:?}", which);
            }
        }
    }
}
