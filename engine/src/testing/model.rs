//! What a store is, in as few lines as it takes: buckets of keys, and keys of versions.

use crate::layout::{Version, Versioning};
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

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its number, as far as anybody was told.
    pub number: Option<Version>,
    /// Whether it is the key's null version.
    pub null: bool,
    /// The object; none: a delete marker.
    pub value: Option<Value>,
}

/// The versions of a key, the newest first.
pub type Versions = Vec<Kept>;

/// What a reader of the key gets.
pub fn current(versions: &[Kept]) -> Option<&Value> {
    versions.first().and_then(|newest| newest.value.as_ref())
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Puts an object.
    Put(Value),
    /// Deletes the key, no version being named.
    Delete,
    /// Deletes the null version for good.
    RemoveNull,
    /// Deletes a version for good.
    Remove(Version),
    /// Gives an object other attributes.
    SetAttributes(Version, Vec<u8>),
}

impl Change {
    /// Whether it adds a version in a bucket like this.
    pub fn adds(&self, versioning: Versioning) -> bool {
        match self {
            Change::Put(_) => true,
            Change::Delete => versioning != Versioning::Never,
            Change::RemoveNull | Change::Remove(_) | Change::SetAttributes(..) => false,
        }
    }

    /// What the key has after the change, in a bucket that keeps versions or not.
    pub fn apply(&self, versions: &[Kept], versioning: Versioning) -> Versions {
        let null = versioning != Versioning::Enabled;
        let is_kept = |kept: &&Kept| match self {
            Change::Put(_) | Change::Delete => !(null && kept.null),
            Change::RemoveNull => !kept.null,
            Change::Remove(number) => kept.number != Some(*number),
            Change::SetAttributes(..) => true,
        };
        let with_attributes = |mut kept: Kept| {
            if let (Change::SetAttributes(number, attributes), Some(value)) = (self, &mut kept.value)
                && kept.number == Some(*number)
            {
                value.attributes.clone_from(attributes);
            }
            kept
        };
        let value = if let Change::Put(value) = self { Some(value.clone()) } else { None };
        let added = self.adds(versioning).then_some(Kept { number: None, null, value });
        added.into_iter().chain(versions.iter().filter(is_kept).cloned().map(with_attributes)).collect()
    }
}

/// Everything a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    buckets: BTreeMap<String, BTreeMap<Vec<u8>, Versions>>,
}

/// A line of a listing: a key or a version of it, or what several keys share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A key.
    Key(Vec<u8>),
    /// A version of a key: whether it is the null version, whether the newest, and its entity tag if it is no delete marker.
    Version(Vec<u8>, bool, bool, Option<Vec<u8>>),
    /// A common prefix.
    Prefix(Vec<u8>),
}

impl Model {
    /// Makes an empty bucket.
    pub fn create_bucket(&mut self, bucket: &str) {
        self.buckets.entry(bucket.into()).or_default();
    }

    /// The buckets' names.
    pub fn buckets(&self) -> Vec<String> {
        self.buckets.keys().cloned().collect()
    }

    /// Gives a key its versions.
    pub fn set(&mut self, bucket: &str, key: &[u8], versions: Versions) {
        if let Some(keys) = self.buckets.get_mut(bucket).filter(|_| !versions.is_empty()) {
            keys.insert(key.into(), versions);
        }
    }

    /// Takes in what another model holds.
    pub fn join(&mut self, other: Model) {
        for (bucket, keys) in other.buckets {
            self.buckets.entry(bucket).or_default().extend(keys);
        }
    }

    fn keys(&self, bucket: &str) -> impl Iterator<Item = (&Vec<u8>, &Versions)> {
        self.buckets.get(bucket).into_iter().flatten()
    }

    /// Keys shown of a bucket, its versions, the delete markers among them, and the bytes of all.
    pub fn usage(&self, bucket: &str) -> [u64; 4] {
        let shown = self.keys(bucket).filter(|(_, versions)| current(versions).is_some()).count() as u64;
        let versions = self.keys(bucket).flat_map(|(_, versions)| versions);
        let bytes = |kept: &Kept| kept.value.as_ref().map_or(0, |value| value.bytes.len() as u64);
        versions.fold([shown, 0, 0, 0], |[shown, count, markers, sum], kept| {
            [shown, count + 1, markers + u64::from(kept.value.is_none()), sum + bytes(kept)]
        })
    }

    /// The listing of a bucket's keys: those that are not deleted, with the prefix and after `after`; those that share what
    /// lies up to the delimiter as one.
    pub fn list(&self, bucket: &str, prefix: &[u8], delimiter: &[u8], after: &[u8]) -> Vec<Line> {
        let there = self.keys(bucket).filter(|(_, versions)| current(versions).is_some());
        let lines = |key: &Vec<u8>, _: &Versions| vec![Line::Key(key.clone())];
        lines_of(there, prefix, delimiter, after, lines)
    }

    /// The listing of a bucket's versions: in the order of keys, the newest of each first.
    pub fn list_versions(&self, bucket: &str, prefix: &[u8], delimiter: &[u8], after: &[u8]) -> Vec<Line> {
        let lines = |key: &Vec<u8>, versions: &Versions| {
            let tag = |kept: &Kept| kept.value.as_ref().map(|value| value.etag.clone());
            let line = |(at, kept): (usize, &Kept)| Line::Version(key.clone(), kept.null, at == 0, tag(kept));
            versions.iter().enumerate().map(line).collect()
        };
        lines_of(self.keys(bucket), prefix, delimiter, after, lines)
    }
}

fn lines_of<'a>(
    keys: impl Iterator<Item = (&'a Vec<u8>, &'a Versions)>,
    prefix: &[u8],
    delimiter: &[u8],
    after: &[u8],
    lines: impl Fn(&Vec<u8>, &Versions) -> Vec<Line>,
) -> Vec<Line> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (key, versions) in keys.filter(|(key, _)| &key[..] > after) {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        let at = rest.windows(delimiter.len().max(1)).position(|w| !delimiter.is_empty() && w == delimiter);
        match at.map(|at| key[..prefix.len() + at + delimiter.len()].to_vec()) {
            Some(group) if seen.insert(group.clone()) => found.push(Line::Prefix(group)),
            Some(_) => {}
            None => found.extend(lines(key, versions)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the changes do, one after the other, in each kind of bucket.
    #[test]
    fn changes_do_what_the_bucket_keeps() {
        let value =
            |tag: &str| Value { bytes: Rc::new(tag.into()), etag: tag.into(), attributes: Vec::new() };
        let text = |versions: &[Kept]| -> Vec<String> {
            let name = |kept: &Kept| {
                kept.value.as_ref().map_or("marker".into(), |v| v.etag.escape_ascii().to_string())
            };
            versions.iter().map(|kept| name(kept) + if kept.null { " null" } else { "" }).collect()
        };
        let (put, delete) = (|tag| Change::Put(value(tag)), Change::Delete);
        let (never, enabled, suspended) = (Versioning::Never, Versioning::Enabled, Versioning::Suspended);
        let one = put("b").apply(&put("a").apply(&[], never), never);
        assert_eq!(text(&one), ["b null"]);
        assert_eq!(delete.apply(&one, never), []);
        let three = delete.apply(&put("c").apply(&one, enabled), enabled);
        assert_eq!(text(&three), ["marker", "c", "b null"]);
        assert_eq!(text(&put("d").apply(&three, suspended)), ["d null", "marker", "c"]);
        assert_eq!(text(&delete.apply(&three, suspended)), ["marker null", "marker", "c"]);
        assert_eq!(text(&Change::RemoveNull.apply(&three, enabled)), ["marker", "c"]);
        let mut numbered = three;
        numbered[1].number = Some(Version(7));
        assert_eq!(text(&Change::Remove(Version(7)).apply(&numbered, enabled)), ["marker", "b null"]);
    }
}
