//! Which versions a shard holds, in order.
//!
//! Stage 0: an ordered map in memory. The trait is what the rest of the engine may ask, so that a tree on disk can
//! take its place without the rest noticing.

pub(crate) mod footprint;
pub(crate) mod key;

use crate::layout::{BucketId, Record, Version};
pub use key::KEY_BYTES_MAX;
use key::Place;
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
    /// Puts a version. A null one takes the place of the null version.
    fn put(&mut self, bucket: BucketId, key: &[u8], record: Record) -> Put;
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

/// What came of putting a version.
#[derive(Debug)]
pub(crate) struct Put {
    /// What had the same version, and what was the null version.
    pub(crate) displaced: [Option<Record>; 2],
    /// Whether the newest version of the key was an object, and whether it is one.
    pub(crate) was_shown: bool,
    pub(crate) is_shown: bool,
}

/// The index of stage 0: everything in memory.
#[derive(Default)]
pub(crate) struct MemoryIndex {
    records: BTreeMap<Box<[u8]>, Record>,
    /// Null versions that have, or had, a newer one above them, by the start of their key: the only ones that are not found
    /// at once, and a key may have a million versions above its null version.
    buried: HashMap<Box<[u8]>, Version>,
}

impl MemoryIndex {
    fn newest_at(&self, place: &Place) -> Option<&Record> {
        let mut from = self.records.range::<[u8], _>((Bound::Included(place.start()), Bound::Unbounded));
        from.next().filter(|(encoded, _)| encoded.starts_with(place.start())).map(|(_, record)| record)
    }

    fn null_version_at(&self, place: &Place, newest: Option<&Record>) -> Option<Version> {
        match newest? {
            newest if newest.null => Some(newest.version),
            _ => self.buried.get(place.start()).copied(),
        }
    }

    /// Takes a version out, and what it was kept by.
    fn remove_at(&mut self, place: &mut Place, version: Version) -> Option<(Box<[u8]>, Record)> {
        let removed = self.records.remove_entry(place.version(version))?;
        if removed.1.null && self.buried.get(place.start()) == Some(&version) {
            self.buried.remove(place.start());
        }
        Some(removed)
    }
}

impl Index for MemoryIndex {
    fn versions(&self, bucket: BucketId, key: &[u8]) -> impl Iterator<Item = &Record> {
        let place = Place::of(bucket, key);
        self.records
            .range::<[u8], _>((Bound::Included(place.start()), Bound::Unbounded))
            .take_while(move |(encoded, _)| encoded.starts_with(place.start()))
            .map(|(_, record)| record)
    }

    fn newest(&self, bucket: BucketId, key: &[u8]) -> Option<&Record> {
        self.newest_at(&Place::of(bucket, key))
    }

    fn version(&self, bucket: BucketId, key: &[u8], version: Version) -> Option<&Record> {
        self.records.get(Place::of(bucket, key).version(version))
    }

    fn version_mut(&mut self, bucket: BucketId, key: &[u8], version: Version) -> Option<&mut Record> {
        self.records.get_mut(Place::of(bucket, key).version(version))
    }

    fn null_version(&self, bucket: BucketId, key: &[u8]) -> Option<Version> {
        let place = Place::of(bucket, key);
        self.null_version_at(&place, self.newest_at(&place))
    }

    fn put(&mut self, bucket: BucketId, key: &[u8], record: Record) -> Put {
        let mut place = Place::of(bucket, key);
        let version = record.version;
        let newest = self.newest_at(&place);
        let was_shown = newest.is_some_and(|newest| !newest.delete_marker);
        let replaced = if record.null { self.null_version_at(&place, newest) } else { None };
        let replaced = replaced.filter(|replaced| *replaced != version);
        // Whichever of the two is now below the other: a checkpoint brings the newest first, the log the oldest.
        let buried = match newest {
            Some(newest) if newest.version < version && newest.null => Some(newest.version),
            Some(newest) if newest.version > version && record.null => Some(version),
            _ => None,
        };
        let is_newest = newest.is_none_or(|newest| newest.version <= version);
        let mut is_shown = !record.delete_marker;
        // What is overwritten leaves the memory of its place to what takes it.
        let (encoded, replaced) = match replaced.and_then(|replaced| self.remove_at(&mut place, replaced)) {
            Some((mut encoded, record)) => {
                key::set_version(&mut encoded, version);
                (Some(encoded), Some(record))
            }
            None => (None, None),
        };
        if let Some(buried) = buried.filter(|buried| replaced.as_ref().is_none_or(|r| r.version != *buried)) {
            self.buried.insert(place.start().into(), buried);
        }
        let encoded = encoded.unwrap_or_else(|| place.version(version).into());
        let same = self.records.insert(encoded, record);
        if !is_newest {
            is_shown = self.newest_at(&place).is_some_and(|newest| !newest.delete_marker);
        }
        Put { displaced: [same, replaced], was_shown, is_shown }
    }

    fn remove(&mut self, bucket: BucketId, key: &[u8], version: Version) -> Option<Record> {
        self.remove_at(&mut Place::of(bucket, key), version).map(|(_, record)| record)
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
                        let shown = index.newest(bucket, b"k").is_some();
                        let before = index.null_version(bucket, b"k").filter(|before| before.0 != version);
                        let put = index.put(bucket, b"k", record(version, true));
                        prop_assert_eq!(put.displaced[1].as_ref().map(|record| record.version), before);
                        prop_assert_eq!((put.was_shown, put.is_shown), (shown, true));
                    }
                    1 => drop(index.remove(bucket, b"k", Version(version))),
                    _ if index.version(bucket, b"k", Version(version)).is_none() => {
                        index.put(bucket, b"k", record(version, false));
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
