//! What is sequenced but not yet applied: conditions are judged against it, readers never see it.

use super::catalog::Catalog;
use crate::{
    index::Index,
    layout::{BucketId, EntityTag, Entry, Record, UploadId, Version},
};
use std::collections::{HashMap, HashSet};

/// The current version of a key, as far as a condition asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) version: Version,
    pub(crate) etag: EntityTag,
    pub(crate) delete_marker: bool,
}

impl Current {
    fn of(record: &Record) -> Current {
        Current { version: record.version, etag: record.etag, delete_marker: record.delete_marker }
    }
}

type Key = (BucketId, Box<[u8]>);

/// Sequenced changes by what they change. A count says when the last of them is applied and the entry can go.
#[derive(Default)]
pub(crate) struct Overlay {
    keys: HashMap<Key, (Option<Current>, u32)>,
    buckets: HashMap<BucketId, u32>,
    uploads: HashMap<UploadId, u32>,
    /// Buckets of which it is being decided whether they go: changes wait for the outcome.
    pub(crate) deciding: HashSet<BucketId>,
    /// Names, on their home shard, whose bucket is being made or deleted: one at a time.
    pub(crate) naming: HashSet<Box<str>>,
    /// Uploads being completed: they take no more parts.
    pub(crate) completing: HashSet<UploadId>,
}

impl Overlay {
    /// The key's current version once everything sequenced is applied, and whether something is still pending.
    pub(crate) fn current(&self, catalog: &Catalog, bucket: BucketId, key: &[u8]) -> (Option<Current>, bool) {
        match self.keys.get(&(bucket, key.into())) {
            Some((current, _)) => (*current, true),
            None => (catalog.index.newest(bucket, key).map(Current::of), false),
        }
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
                self.put_key(*bucket, key, Some(Current::of(record)));
            }
            Entry::RemoveVersion { bucket, key, version } => {
                let (current, _) = self.current(catalog, *bucket, key);
                let left = current.filter(|current| current.version != *version);
                self.put_key(*bucket, key, left);
            }
            Entry::CompleteUpload { upload, record, .. } => {
                *self.uploads.entry(*upload).or_default() += 1;
                if let Some(known) = catalog.upload(*upload) {
                    self.put_key(known.record.bucket, &known.record.key, Some(Current::of(record)));
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
            Entry::MovePacked { .. } => {}
            Entry::PutBucket(record) => *self.buckets.entry(record.bucket).or_default() += 1,
            Entry::RemoveBucket { bucket } => *self.buckets.entry(*bucket).or_default() += 1,
        }
    }

    fn put_key(&mut self, bucket: BucketId, key: &[u8], current: Option<Current>) {
        let pending = self.keys.entry((bucket, key.into())).or_insert((None, 0));
        *pending = (current, pending.1 + 1);
        *self.buckets.entry(bucket).or_default() += 1;
    }

    /// Counts an entry out just before it is applied: `catalog` does not hold it yet.
    pub(crate) fn settle(&mut self, catalog: &Catalog, entry: &Entry) {
        match entry {
            Entry::PutObject { bucket, key, .. } | Entry::RemoveVersion { bucket, key, .. } => {
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
            Entry::MovePacked { .. } => {}
            Entry::PutBucket(record) => count_down(&mut self.buckets, &record.bucket),
            Entry::RemoveBucket { bucket } => count_down(&mut self.buckets, bucket),
        }
    }

    fn settle_key(&mut self, bucket: BucketId, key: &[u8]) {
        let key = (bucket, key.into());
        if let Some((_, count)) = self.keys.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
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
