//! Which versions a shard holds, in order.
//!
//! Stage 0: an ordered map in memory. The trait is what the rest of the engine may ask, so that a tree on disk can
//! take its place without the rest noticing.

pub(crate) mod footprint;
pub(crate) mod key;

use crate::layout::{BucketId, Record, Version};
pub use key::KEY_BYTES_MAX;
use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

/// Versions by bucket, key and age.
pub(crate) trait Index {
    /// Every version of a key, delete markers included, the newest first.
    fn versions(&self, bucket: BucketId, key: &[u8]) -> impl Iterator<Item = &Record>;
    /// The newest version of a key.
    fn newest(&self, bucket: BucketId, key: &[u8]) -> Option<&Record> {
        self.versions(bucket, key).next()
    }
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
    /// Null versions that have, or had, a newer one above them, by the start of their key: the only ones that are not found
    /// at once, and a key may have a million versions above its null version.
    buried: HashMap<Box<[u8]>, Version>,
}

impl Index for MemoryIndex {
    fn versions(&self, bucket: BucketId, key: &[u8]) -> impl Iterator<Item = &Record> {
        let (start, end) = (key::key_start(bucket, key), key::key_end(bucket, key));
        self.records
            .range::<[u8], _>((Bound::Included(&*start), Bound::Excluded(&*end)))
            .map(|(_, record)| record)
    }

    fn version(&self, bucket: BucketId, key: &[u8], version: Version) -> Option<&Record> {
        self.records.get(&key::encode(bucket, key, version))
    }

    fn version_mut(&mut self, bucket: BucketId, key: &[u8], version: Version) -> Option<&mut Record> {
        self.records.get_mut(&key::encode(bucket, key, version))
    }

    fn null_version(&self, bucket: BucketId, key: &[u8]) -> Option<Version> {
        match self.newest(bucket, key) {
            Some(newest) if newest.null => Some(newest.version),
            Some(_) => self.buried.get(&*key::key_start(bucket, key)).copied(),
            None => None,
        }
    }

    fn insert(&mut self, bucket: BucketId, key: &[u8], record: Record) -> Option<Record> {
        // Whichever of the two is now below the other: a checkpoint brings the newest first, the log the oldest.
        if let Some(newest) = self.newest(bucket, key).filter(|newest| newest.version != record.version) {
            let (below, is_null) = match newest.version < record.version {
                true => (newest.version, newest.null),
                false => (record.version, record.null),
            };
            if is_null {
                self.buried.insert(key::key_start(bucket, key).into(), below);
            }
        }
        self.records.insert(key::encode(bucket, key, record.version), record)
    }

    fn remove(&mut self, bucket: BucketId, key: &[u8], version: Version) -> Option<Record> {
        let removed = self.records.remove(&key::encode(bucket, key, version))?;
        if removed.null {
            let start = key::key_start(bucket, key);
            if self.buried.get(&*start) == Some(&version) {
                self.buried.remove(&*start);
            }
        }
        Some(removed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Content, EntityTag};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn record(version: u64, null: bool) -> Record {
        Record {
            version: Version(version),
            null,
            delete_marker: false,
            size: 0,
            modified_ms: 0,
            crc64: 0,
            etag: EntityTag::new(b"").unwrap(),
            attributes: Bytes::new(),
            content: Content::Empty,
            upload: None,
        }
    }

    proptest! {
        /// The null version is found wherever it stands, in whatever order versions came and went.
        #[test]
        fn the_null_version_is_found(changes in proptest::collection::vec((0u64..8, 0u8..4), 0..40)) {
            let (mut index, bucket) = (MemoryIndex::default(), BucketId(1));
            for (version, what) in changes {
                match what {
                    // There is one at a time: what puts another takes the first away.
                    0 => {
                        let before = index.null_version(bucket, b"k");
                        index.insert(bucket, b"k", record(version, true));
                        if let Some(before) = before.filter(|before| before.0 != version) {
                            index.remove(bucket, b"k", before);
                        }
                    }
                    1 => drop(index.remove(bucket, b"k", Version(version))),
                    _ if index.version(bucket, b"k", Version(version)).is_none() => {
                        index.insert(bucket, b"k", record(version, false));
                    }
                    _ => {}
                }
                let found = index.versions(bucket, b"k").find(|record| record.null).map(|r| r.version);
                prop_assert_eq!(index.null_version(bucket, b"k"), found);
                let all: Vec<u64> = index.versions(bucket, b"k").map(|record| record.version.0).collect();
                prop_assert!(all.is_sorted_by(|a, b| a > b));
            }
        }
    }
}
