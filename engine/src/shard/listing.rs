//! One shard's share of a listing.

use super::Shard;
use crate::{
    error::Error,
    index::{
        Index,
        key::{bucket_end, decode, key_end, prefix_start, successor},
    },
    layout::BucketId,
    object::types::{ListItem, ListStart, ObjectInfo},
};
use std::ops::Bound;

/// What a shard is asked for.
#[derive(Clone, Debug)]
pub(crate) struct ListRequest {
    pub(crate) bucket: Box<str>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) delimiter: Vec<u8>,
    pub(crate) start: ListStart,
    pub(crate) limit: usize,
}

/// A shard's answer: items in order, and whether more may follow.
pub(crate) struct ShardPage {
    pub(crate) items: Vec<ListItem>,
    pub(crate) more: bool,
}

impl Shard {
    /// The first items of this shard from the start on. Everything acknowledged before the call is in it.
    pub(crate) fn list(&self, request: &ListRequest) -> Result<ShardPage, Error> {
        let state = self.state.borrow();
        if let Some(hole) = state.hole {
            // A shortened page would be absence where there may be none.
            return Err(Error::Corrupt(hole));
        }
        let bucket = self.bucket_id(&state, &request.bucket)?;
        let end = bucket_end(bucket);
        let mut items = Vec::new();
        let Some(mut from) = start_of(bucket, request) else {
            return Ok(ShardPage { items, more: false });
        };
        loop {
            let next = state.catalog.index.seek(Bound::Included(&from));
            let Some((encoded, record)) = next.filter(|(encoded, _)| *encoded < &*end) else {
                return Ok(ShardPage { items, more: false });
            };
            let (_, key, _) = decode(encoded);
            let Some(rest) = key.strip_prefix(&*request.prefix) else {
                return Ok(ShardPage { items, more: false });
            };
            if items.len() == request.limit {
                return Ok(ShardPage { items, more: true });
            }
            match find(rest, &request.delimiter) {
                Some(at) => {
                    // One look-up past the whole group, however many keys share it.
                    let group = key[..request.prefix.len() + at + request.delimiter.len()].to_vec();
                    let past = successor(&group);
                    items.push(ListItem::CommonPrefix(group));
                    match past {
                        Some(past) => from = prefix_start(bucket, &past),
                        None => return Ok(ShardPage { items, more: false }),
                    }
                }
                None => {
                    from = key_end(bucket, &key);
                    if !record.delete_marker {
                        items.push(ListItem::Object { key, info: ObjectInfo::of(record) });
                    }
                }
            }
        }
    }
}

/// The first encoded key that may be in the listing.
fn start_of(bucket: BucketId, request: &ListRequest) -> Option<Vec<u8>> {
    let first = prefix_start(bucket, &request.prefix);
    let start = match &request.start {
        ListStart::First => first.clone(),
        ListStart::After(key) => key_end(bucket, key),
        ListStart::AfterPrefix(prefix) => prefix_start(bucket, &successor(prefix)?),
    };
    Some(start.max(first))
}

/// Where the delimiter first occurs; nowhere if it is empty.
fn find(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    if delimiter.is_empty() {
        return None;
    }
    bytes.windows(delimiter.len()).position(|window| window == delimiter)
}
