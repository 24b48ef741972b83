//! Which versions a shard holds, in order.
//!
//! Stage 0: an ordered map in memory. The trait is what the rest of the engine may ask, so that a tree on disk can
//! take its place without the rest noticing.

pub(crate) mod key;

use crate::layout::{BucketId, Record, Version};
pub use key::KEY_BYTES_MAX;
use std::{collections::BTreeMap, ops::Bound};

/// Versions by bucket, key and age.
pub(crate) trait Index {
    /// The newest version of a key, delete markers included.
    fn newest(&self, bucket: BucketId, key: &[u8]) -> Option<&Record>;
    /// One version of a key.
    fn version(&self, bucket: BucketId, key: &[u8], version: Version) -> Option<&Record>;
    /// The same, to change what does not decide its place: all but the version.
    fn version_mut(&mut self, bucket: BucketId, key: &[u8], version: Version) -> Option<&mut Record>;
    /// The key's null version, if it has one.
    fn null_version(&self, bucket: BucketId, key: &[u8]) -> Option<Version>;
    /// Puts a version; gives what stood in its place.
    fn insert(&mut self, bucket: BucketId, key: &[u8], record: Record) -> Option<Record>;
    /// Takes a version out.
    fn remove(&mut self, bucket: BucketId, key: &[u8], version: Version) -> Option<Record>;
    /// The first encoded key (see [`key`]) at or after `from`, or after it, with its record.
    fn seek(&self, from: Bound<&[u8]>) -> Option<(&[u8], &Record)>;
    /// Everything at or after `from`, in order.
    fn scan(&self, from: &[u8]) -> Box<dyn Iterator<Item = (&[u8], &Record)> + '_>;
    /// Everything from a bound on, in order.
    fn range(&self, from: Bound<&[u8]>) -> Box<dyn Iterator<Item = (&[u8], &Record)> + '_>;
    /// How many versions there are.
    fn len(&self) -> usize;
}

/// The index of stage 0: everything in memory.
#[derive(Default)]
pub(crate) struct MemoryIndex {
    records: BTreeMap<Box<[u8]>, Record>,
}

impl Index for MemoryIndex {
    fn newest(&self, bucket: BucketId, key: &[u8]) -> Option<&Record> {
        let (start, end) = (key::key_start(bucket, key), key::key_end(bucket, key));
        self.records
            .range::<[u8], _>((Bound::Included(&*start), Bound::Excluded(&*end)))
            .next()
            .map(|(_, r)| r)
    }

    fn version(&self, bucket: BucketId, key: &[u8], version: Version) -> Option<&Record> {
        self.records.get(&key::encode(bucket, key, version))
    }

    fn version_mut(&mut self, bucket: BucketId, key: &[u8], version: Version) -> Option<&mut Record> {
        self.records.get_mut(&key::encode(bucket, key, version))
    }

    fn null_version(&self, bucket: BucketId, key: &[u8]) -> Option<Version> {
        let (start, end) = (key::key_start(bucket, key), key::key_end(bucket, key));
        let mut versions = self.records.range::<[u8], _>((Bound::Included(&*start), Bound::Excluded(&*end)));
        versions.find(|(_, record)| record.null).map(|(_, record)| record.version)
    }

    fn insert(&mut self, bucket: BucketId, key: &[u8], record: Record) -> Option<Record> {
        self.records.insert(key::encode(bucket, key, record.version), record)
    }

    fn remove(&mut self, bucket: BucketId, key: &[u8], version: Version) -> Option<Record> {
        self.records.remove(&key::encode(bucket, key, version))
    }

    fn seek(&self, from: Bound<&[u8]>) -> Option<(&[u8], &Record)> {
        self.records.range::<[u8], _>((from, Bound::Unbounded)).next().map(|(k, r)| (&**k, r))
    }

    fn scan(&self, from: &[u8]) -> Box<dyn Iterator<Item = (&[u8], &Record)> + '_> {
        self.range(Bound::Included(from))
    }

    fn range(&self, from: Bound<&[u8]>) -> Box<dyn Iterator<Item = (&[u8], &Record)> + '_> {
        let range = self.records.range::<[u8], _>((from, Bound::Unbounded));
        Box::new(range.map(|(k, r)| (&**k, r)))
    }

    fn len(&self) -> usize {
        self.records.len()
    }
}
