//! One shard's share of a listing.

use super::{Shard, State, catalog::UploadPlace, uploads::upload_info};
use crate::{
    error::Error,
    index::{
        Index,
        key::{bucket_end, decode, encode, end_key, key_end, prefix_start, successor},
    },
    layout::{BucketId, Record, Version, Versioning},
    object::types::{
        DeleteMarker, Line, ListItem, ListStart, ObjectInfo, UploadItem, VersionItem, VersionKind,
    },
};
use std::ops::Bound;

/// Most records looked at in one go. A bucket may hold a million keys that are all deleted: between stretches like this
/// the core does other work.
const VISITS_MAX: usize = 4096;
/// Records that are stepped over before what comes next is looked up: older versions of a key, names behind a delimiter.
const STEPS_MAX: usize = 8;

/// What a shard is asked for.
#[derive(Clone, Debug)]
pub(crate) struct ListRequest {
    pub(crate) bucket: Box<str>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) delimiter: Vec<u8>,
    pub(crate) start: ListStart,
    pub(crate) limit: usize,
}

/// A shard's answer: items in order, perhaps none, and where it goes on if more may follow.
pub(crate) struct ShardPage<L> {
    pub(crate) items: Vec<L>,
    pub(crate) next: Option<ListStart>,
}

/// A walk over one bucket's records from the start of a listing on.
struct Walk<'a> {
    state: &'a State,
    request: &'a ListRequest,
    bucket: BucketId,
    versioning: Versioning,
    /// The first encoded key that may come next, and the first that is not the bucket's any more.
    from: Vec<u8>,
    end: Vec<u8>,
    /// The records from `from` on, or from before it.
    ahead: Box<dyn Iterator<Item = (&'a [u8], &'a Record)> + 'a>,
    visits: usize,
}

/// What a walk comes to next.
enum Next<'a> {
    /// A record, its key, and how much of the key is a common prefix, if there is one.
    Record(Vec<u8>, &'a Record, Option<usize>),
    /// Nothing more.
    End,
    /// Enough for now: this version of this key comes next.
    Later(Vec<u8>, Version),
}

impl<'a> Walk<'a> {
    /// None if nothing can be in the listing.
    fn begin(shard: &Shard, state: &'a State, request: &'a ListRequest) -> Result<Option<Walk<'a>>, Error> {
        if let Some(hole) = state.hole {
            // A shortened page would be absence where there may be none.
            return Err(Error::Corrupt(hole));
        }
        let bucket = shard.bucket_id(state, &request.bucket)?;
        let versioning = state.catalog.bucket(bucket).map_or(Versioning::Never, |b| b.record.versioning);
        let Some(from) = start_of(bucket, request) else { return Ok(None) };
        let ahead = state.catalog.index.range(Bound::Included(&from));
        let end = bucket_end(bucket);
        Ok(Some(Walk { state, request, bucket, versioning, from, end, ahead, visits: 0 }))
    }

    /// The first record at or after `from`, none of another bucket. What is near is stepped to; what is not is looked up.
    fn seek(&mut self) -> Option<(&'a [u8], &'a Record)> {
        for _ in 0..STEPS_MAX {
            let found = self.ahead.next().filter(|(encoded, _)| **encoded < *self.end)?;
            if *found.0 >= *self.from {
                return Some(found);
            }
        }
        self.ahead = self.state.catalog.index.range(Bound::Included(&self.from));
        self.ahead.next().filter(|(encoded, _)| **encoded < *self.end)
    }

    fn next(&mut self) -> Next<'a> {
        let Some((encoded, record)) = self.seek() else { return Next::End };
        let (_, key, _) = decode(encoded);
        let Some(rest) = key.strip_prefix(&*self.request.prefix) else { return Next::End };
        let prefix_bytes = find(rest, &self.request.delimiter)
            .map(|at| self.request.prefix.len() + at + self.request.delimiter.len());
        self.visits += 1;
        if self.visits > VISITS_MAX {
            return Next::Later(key, record.version);
        }
        Next::Record(key, record, prefix_bytes)
    }

    fn pass_key(&mut self, key: &[u8]) {
        end_key(&mut self.from, self.bucket, key);
    }

    /// Passes every key of a group in one look-up, however many share it. False if nothing can come after.
    fn pass_prefix(&mut self, prefix: &[u8]) -> bool {
        match successor(prefix) {
            Some(past) => {
                self.from = prefix_start(self.bucket, &past);
                true
            }
            None => false,
        }
    }
}

impl Shard {
    /// The first keys of this shard from the start on that are not deleted. Everything acknowledged before the call is in
    /// it.
    pub(crate) fn list(&self, request: &ListRequest) -> Result<ShardPage<ListItem>, Error> {
        let state = self.state.borrow();
        let mut items = Vec::new();
        let Some(mut walk) = Walk::begin(self, &state, request)? else {
            return Ok(ShardPage { items, next: None });
        };
        loop {
            let (key, record, prefix_bytes) = match walk.next() {
                Next::End => return Ok(ShardPage { items, next: None }),
                Next::Later(key, _) => {
                    // From the key's newest version on, which may be another by then.
                    return Ok(ShardPage {
                        items,
                        next: Some(ListStart::AfterVersion(key, Version(u64::MAX))),
                    });
                }
                Next::Record(key, record, prefix_bytes) => (key, record, prefix_bytes),
            };
            let begins_within = walk.visits == 1
                && state.catalog.index.newest(walk.bucket, &key).is_some_and(|r| r.version != record.version);
            if record.delete_marker || begins_within {
                walk.pass_key(&key);
                continue;
            }
            if items.len() == request.limit {
                return Ok(ShardPage { next: items.last().map(Line::after), items });
            }
            match prefix_bytes {
                Some(prefix_bytes) => {
                    let prefix = key[..prefix_bytes].to_vec();
                    let goes_on = walk.pass_prefix(&prefix);
                    items.push(ListItem::CommonPrefix(prefix));
                    if !goes_on {
                        return Ok(ShardPage { items, next: None });
                    }
                }
                None => {
                    walk.pass_key(&key);
                    let info = ObjectInfo::of(record, walk.versioning);
                    items.push(ListItem::Object { key, info });
                }
            }
        }
    }

    /// As [`Shard::list`], but every version of each key, the newest first.
    pub(crate) fn list_versions(&self, request: &ListRequest) -> Result<ShardPage<VersionItem>, Error> {
        let state = self.state.borrow();
        let mut items = Vec::new();
        let Some(mut walk) = Walk::begin(self, &state, request)? else {
            return Ok(ShardPage { items, next: None });
        };
        loop {
            let (key, record, prefix_bytes) = match walk.next() {
                Next::End => return Ok(ShardPage { items, next: None }),
                Next::Later(key, version) => {
                    // Just above it: versions that are newer have been passed.
                    let start = ListStart::AfterVersion(key, Version(version.0.saturating_add(1)));
                    return Ok(ShardPage { items, next: Some(start) });
                }
                Next::Record(key, record, prefix_bytes) => (key, record, prefix_bytes),
            };
            if items.len() == request.limit {
                return Ok(ShardPage { next: items.last().map(Line::after), items });
            }
            if let Some(prefix_bytes) = prefix_bytes {
                let prefix = key[..prefix_bytes].to_vec();
                let goes_on = walk.pass_prefix(&prefix);
                items.push(VersionItem::CommonPrefix(prefix));
                if !goes_on {
                    return Ok(ShardPage { items, next: None });
                }
                continue;
            }
            walk.from = after_version(walk.bucket, &key, record.version);
            let newest = state.catalog.index.newest(walk.bucket, &key);
            let is_current = newest.is_some_and(|newest| newest.version == record.version);
            let kind = match record.delete_marker {
                true => VersionKind::DeleteMarker(DeleteMarker::of(record)),
                false => VersionKind::Object(ObjectInfo::of(record, walk.versioning)),
            };
            items.push(VersionItem::Version { key, is_current, kind });
        }
    }
    /// As [`Shard::list`], of uploads that were begun and are not over. However many there are, no more are looked at than are given.
    pub(crate) fn list_uploads(&self, request: &ListRequest) -> Result<ShardPage<UploadItem>, Error> {
        let state = self.state.borrow();
        let bucket = self.bucket_id(&state, &request.bucket)?;
        if let Some(hole) = state.hole {
            return Err(Error::Corrupt(hole));
        }
        let mut items = Vec::new();
        let mut from = first_upload(bucket, request);
        'groups: while let Some(first) = from.take() {
            for upload in state.catalog.uploads_from(bucket, first) {
                let key = &*upload.record.key;
                let Some(rest) = key.strip_prefix(&*request.prefix) else { break };
                if items.len() == request.limit {
                    return Ok(ShardPage { next: items.last().map(Line::after), items });
                }
                let Some(at) = find(rest, &request.delimiter) else {
                    items.push(UploadItem::Upload(upload_info(&upload.record)));
                    continue;
                };
                // One look-up passes all of the group.
                let prefix = &key[..request.prefix.len() + at + request.delimiter.len()];
                items.push(UploadItem::CommonPrefix(prefix.to_vec()));
                from = successor(prefix).map(|past| Bound::Included(UploadPlace::first(bucket, &past)));
                continue 'groups;
            }
        }
        Ok(ShardPage { items, next: None })
    }
}

/// The first place at which an upload of the listing may be; what is at an excluded one was listed.
fn first_upload(bucket: BucketId, request: &ListRequest) -> Option<Bound<UploadPlace>> {
    let place = |key: &[u8]| UploadPlace::first(bucket, key);
    let first = place(&request.prefix);
    let start = match &request.start {
        ListStart::First => return Some(Bound::Included(first)),
        // The least key above this one.
        ListStart::After(key) | ListStart::AfterVersion(key, _) => {
            Bound::Included(place(&[key, &[0][..]].concat()))
        }
        ListStart::AfterPrefix(prefix) => Bound::Included(place(&successor(prefix)?)),
        ListStart::AfterUpload { key, created_ms, upload } => {
            Bound::Excluded(UploadPlace { created_ms: *created_ms, upload: *upload, ..place(key) })
        }
    };
    Some(match start {
        Bound::Included(start) | Bound::Excluded(start) if start < first => Bound::Included(first),
        start => start,
    })
}

/// The encoding after this version of the key and before every older one.
fn after_version(bucket: BucketId, key: &[u8], version: Version) -> Vec<u8> {
    match version.0.checked_sub(1) {
        Some(older) => encode(bucket, key, Version(older)).into(),
        None => key_end(bucket, key),
    }
}

/// The first encoded key that may be in the listing.
fn start_of(bucket: BucketId, request: &ListRequest) -> Option<Vec<u8>> {
    let first = prefix_start(bucket, &request.prefix);
    let start = match &request.start {
        ListStart::First => first.clone(),
        ListStart::After(key) | ListStart::AfterUpload { key, .. } => key_end(bucket, key),
        ListStart::AfterPrefix(prefix) => prefix_start(bucket, &successor(prefix)?),
        ListStart::AfterVersion(key, version) => after_version(bucket, key, *version),
    };
    Some(start.max(first))
}

/// Where the delimiter first occurs; nowhere if it is empty.
fn find(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    if delimiter.is_empty() {
        return None;
    }
    if let [delimiter] = delimiter {
        return bytes.iter().position(|byte| byte == delimiter);
    }
    bytes.windows(delimiter.len()).position(|window| window == delimiter)
}
