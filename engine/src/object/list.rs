//! Listing: every shard gives its share in order, and the shares are merged.
//!
//! Keys are spread evenly, so that of a page of n keys a shard holds about n/S. Each is asked for that and a few
//! standard deviations more; one that turns out to hold more of the page is asked again. Each shard answers from what it
//! holds when the question arrives, after the caller's request: whatever was acknowledged before is in the listing.

use super::types::{ListItem, ListOptions, Listing};
use crate::{
    core_engine::CoreEngine,
    error::Error,
    shard::listing::{ListRequest, ShardPage},
};
use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
};

/// Most items on a page.
pub const LIST_LIMIT_MAX: usize = 10_000;

/// One shard's share of the merge.
struct Share {
    shard: u16,
    items: VecDeque<ListItem>,
    more: bool,
}

/// The next name of a share; the heap gives the least.
#[derive(PartialEq, Eq)]
struct Head {
    name: Vec<u8>,
    share: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> Ordering {
        other.name.cmp(&self.name).then(other.share.cmp(&self.share))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub(crate) async fn list(engine: &CoreEngine, bucket: &str, options: &ListOptions) -> Result<Listing, Error> {
    let limit = options.limit.min(LIST_LIMIT_MAX);
    if limit == 0 {
        // Nothing asked, nothing to go on from; the bucket must be there all the same.
        engine.bucket(bucket).await?;
        return Ok(Listing::default());
    }
    let shards = engine.shard_count();
    let request = ListRequest {
        bucket: bucket.into(),
        prefix: options.prefix.clone(),
        delimiter: options.delimiter.clone(),
        start: options.start.clone(),
        limit: share_of(limit, shards as usize),
    };
    let pages: Vec<_> = (0..shards).map(|shard| (shard, ask(engine, shard, request.clone()))).collect();
    let mut shares = Vec::with_capacity(pages.len());
    for (shard, page) in pages {
        let page = page.await?;
        shares.push(Share { shard, items: page.items.into(), more: page.more });
    }
    merge(engine, shares, request, limit).await
}

/// Asks a shard; the question is on its way when this returns, so that all shards work at once.
fn ask(
    engine: &CoreEngine,
    shard: u16,
    request: ListRequest,
) -> impl Future<Output = Result<ShardPage, Error>> + use<> {
    let engine = engine.clone();
    let core = engine.core().clone();

    core.spawn(async move { engine.on_shard(shard, move |shard| async move { shard.list(&request) }).await })
}

/// What to ask of each of `shards` for a page of `limit`: the mean and four standard deviations, and one to see
/// whether there is more.
fn share_of(limit: usize, shards: usize) -> usize {
    let mean = limit.div_ceil(shards);
    let share = mean + 4 * mean.isqrt() + 1;
    share.min(limit + 1)
}

async fn merge(
    engine: &CoreEngine,
    mut shares: Vec<Share>,
    request: ListRequest,
    limit: usize,
) -> Result<Listing, Error> {
    let mut heads: BinaryHeap<Head> = BinaryHeap::with_capacity(shares.len());
    for (index, share) in shares.iter().enumerate() {
        heads.extend(share.items.front().map(|item| Head { name: item.name().to_vec(), share: index }));
    }
    let mut items: Vec<ListItem> = Vec::with_capacity(limit.min(1024));
    while let Some(Head { name, share: index }) = heads.pop() {
        let share = &mut shares[index];
        let item = share.items.pop_front().expect("a head stands for the front of its share");
        if share.items.is_empty() && share.more {
            let request = ListRequest { start: item.after(), ..request.clone() };
            let page = ask(engine, share.shard, request).await?;
            (share.items, share.more) = (page.items.into(), page.more);
        }
        heads.extend(share.items.front().map(|item| Head { name: item.name().to_vec(), share: index }));
        // Shards hold different keys, but the same common prefix.
        if items.last().is_some_and(|last| last.name() == name && matches!(last, ListItem::CommonPrefix(_))) {
            continue;
        }
        if items.len() == limit {
            let next = items.last().map(ListItem::after);
            return Ok(Listing { items, next });
        }
        items.push(item);
    }
    Ok(Listing { items, next: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard is never asked for more than could be on the page, and one shard is asked for all of it.
    #[test]
    fn shares() {
        assert_eq!(share_of(1000, 1), 1001);
        assert_eq!(share_of(1, 16), 2);
        assert_eq!(share_of(1000, 16), 63 + 28 + 1);
    }
}
