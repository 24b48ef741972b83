//! What a store is, in as few lines as it takes: keys to bytes, per bucket.

use std::collections::{BTreeMap, BTreeSet};

/// An object's bytes and tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its entity tag.
    pub etag: Vec<u8>,
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

    /// Every key of a bucket.
    pub fn keys(&self, bucket: &str) -> Vec<Vec<u8>> {
        self.buckets.get(bucket).map(|keys| keys.keys().cloned().collect()).unwrap_or_default()
    }

    /// The whole listing of a bucket: keys with the prefix, those that share what lies up to the delimiter as one.
    pub fn list(&self, bucket: &str, prefix: &[u8], delimiter: &[u8]) -> Vec<Line> {
        let mut lines = BTreeSet::new();
        for key in self.keys(bucket) {
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
