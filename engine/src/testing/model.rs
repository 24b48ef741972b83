//! What a store is, in as few lines as it takes: keys to values, per bucket.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// An object.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// Its bytes.
    pub bytes: Rc<Vec<u8>>,
    /// Its entity tag.
    pub etag: Vec<u8>,
    /// Its attributes.
    pub attributes: Vec<u8>,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes tagged {}", self.bytes.len(), self.etag.escape_ascii())
    }
}

/// Everything a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    buckets: BTreeMap<String, BTreeMap<Vec<u8>, Value>>,
}

/// A line of a listing: a key, or what several share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// A key.
    Key(Vec<u8>),
    /// A common prefix.
    Prefix(Vec<u8>),
}

impl Model {
    /// Makes an empty bucket.
    pub fn create_bucket(&mut self, bucket: &str) {
        self.buckets.entry(bucket.into()).or_default();
    }

    /// Takes a bucket away.
    pub fn delete_bucket(&mut self, bucket: &str) {
        self.buckets.remove(bucket);
    }

    /// The buckets' names.
    pub fn buckets(&self) -> Vec<String> {
        self.buckets.keys().cloned().collect()
    }

    /// Sets a key to a value, or takes it away.
    pub fn set(&mut self, bucket: &str, key: &[u8], value: Option<Value>) {
        let Some(keys) = self.buckets.get_mut(bucket) else { return };
        match value {
            Some(value) => keys.insert(key.into(), value),
            None => keys.remove(key),
        };
    }

    /// The value of a key.
    pub fn get(&self, bucket: &str, key: &[u8]) -> Option<&Value> {
        self.buckets.get(bucket)?.get(key)
    }

    /// Takes in what another model holds.
    pub fn join(&mut self, other: Model) {
        for (bucket, keys) in other.buckets {
            self.buckets.entry(bucket).or_default().extend(keys);
        }
    }

    /// Objects in a bucket, and their bytes together.
    pub fn usage(&self, bucket: &str) -> (u64, u64) {
        let values = self.buckets.get(bucket).into_iter().flat_map(BTreeMap::values);
        values.fold((0, 0), |(count, bytes), value| (count + 1, bytes + value.bytes.len() as u64))
    }

    /// Every key of a bucket.
    pub fn keys(&self, bucket: &str) -> Vec<Vec<u8>> {
        self.buckets.get(bucket).map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
    }

    /// The listing of a bucket: keys with the prefix and after `after`, those that share what lies up to the delimiter as
    /// one.
    pub fn list(&self, bucket: &str, prefix: &[u8], delimiter: &[u8], after: &[u8]) -> Vec<Line> {
        let mut lines = BTreeSet::new();
        for key in self.keys(bucket).into_iter().filter(|key| &key[..] > after) {
            let Some(rest) = key.strip_prefix(prefix) else { continue };
            let at =
                rest.windows(delimiter.len().max(1)).position(|w| !delimiter.is_empty() && w == delimiter);
            lines.insert(match at {
                Some(at) => (key[..prefix.len() + at + delimiter.len()].to_vec(), true),
                None => (key, false),
            });
        }
        lines
            .into_iter()
            .map(|(name, is_prefix)| if is_prefix { Line::Prefix(name) } else { Line::Key(name) })
            .collect()
    }
}
