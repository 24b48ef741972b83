//! Listing: every shard gives its share in order, and the shares are merged.
//!
//! Keys are spread evenly, so that of a page of n keys a shard holds about n/S. Each is asked for that and a few
//! standard deviations more; one that turns out to hold more of the page is asked again. Each shard answers from what it
//! holds when the question arrives, after the caller's request: whatever was acknowledged before is in the listing.
//! All versions of a key lie on one shard, and all its uploads, so that these are merged as keys are.

use super::types::{
    Line, ListItem, ListOptions, ListStart, Listing, UploadItem, UploadListing, VersionItem, VersionListing,
};
use crate::{
    core_engine::CoreEngine,
    error::Error,
    shard::{
        Shard,
        listing::{ListRequest, ShardPage},
    },
};
use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
};

/// Most items on a page.
pub const LIST_LIMIT_MAX: usize = 10_000;

/// How a shard is asked for its share.
type Ask<L> = fn(&Shard, &ListRequest) -> Result<ShardPage<L>, Error>;

/// One shard's share of the merge.
struct Share<L> {
    shard: u16,
    items: VecDeque<L>,
    next: Option<ListStart>,
}

/// The next item of a share; the heap gives the one with the least name.
struct Head<L> {
    item: L,
    share: usize,
}

impl<L: Line> Ord for Head<L> {
    fn cmp(&self, other: &Head<L>) -> Ordering {
        other.item.name().cmp(self.item.name()).then(other.share.cmp(&self.share))
    }
}

impl<L: Line> PartialOrd for Head<L> {
    fn partial_cmp(&self, other: &Head<L>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<L: Line> PartialEq for Head<L> {
    fn eq(&self, other: &Head<L>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<L: Line> Eq for Head<L> {}

/// A page of a bucket's keys.
pub(crate) async fn list(engine: &CoreEngine, bucket: &str, options: &ListOptions) -> Result<Listing, Error> {
    let (items, next) = page(engine, bucket, options, Shard::list as Ask<ListItem>).await?;
    Ok(Listing { items, next })
}

/// A page of a bucket's versions.
pub(crate) async fn list_versions(
    engine: &CoreEngine,
    bucket: &str,
    options: &ListOptions,
) -> Result<VersionListing, Error> {
    let (items, next) = page(engine, bucket, options, Shard::list_versions as Ask<VersionItem>).await?;
    Ok(VersionListing { items, next })
}

/// A page of a bucket's uploads.
pub(crate) async fn list_uploads(
    engine: &CoreEngine,
    bucket: &str,
    options: &ListOptions,
) -> Result<UploadListing, Error> {
    let (items, next) = page(engine, bucket, options, Shard::list_uploads as Ask<UploadItem>).await?;
    Ok(UploadListing { items, next })
}

async fn page<L: Line>(
    engine: &CoreEngine,
    bucket: &str,
    options: &ListOptions,
    ask: Ask<L>,
) -> Result<(Vec<L>, Option<ListStart>), Error> {
    let limit = options.limit.min(LIST_LIMIT_MAX);
    if limit == 0 {
        // A page of nothing leaves nothing to go on from, and would be taken for the last one.
        return Err(Error::InvalidArgument("a listing's limit is 0"));
    }
    let shards = engine.shard_count();
    let request = ListRequest {
        bucket: bucket.into(),
        prefix: options.prefix.clone(),
        delimiter: options.delimiter.clone(),
        start: options.start.clone(),
        limit: share_of(limit, shards as usize),
    };
    let pages: Vec<_> =
        (0..shards).map(|shard| (shard, ask_shard(engine, shard, request.clone(), ask))).collect();
    let mut shares = Vec::with_capacity(pages.len());
    for (shard, page) in pages {
        let page = page.await?;
        let mut share = Share { shard, items: page.items.into(), next: page.next };
        refill(engine, &mut share, &request, ask).await?;
        shares.push(share);
    }
    merge(engine, shares, request, limit, ask).await
}

/// Asks a shard; the question is on its way when this returns, so that all shards work at once.
fn ask_shard<L: Line>(
    engine: &CoreEngine,
    shard: u16,
    request: ListRequest,
    ask: Ask<L>,
) -> impl Future<Output = Result<ShardPage<L>, Error>> + use<L> {
    let engine = engine.clone();
    let core = engine.core().clone();

    core.spawn_own(async move { engine.ask_shard(shard, move |shard| ask(shard, &request)).await })
}

/// Asks a shard again until it gives something or has nothing more.
async fn refill<L: Line>(
    engine: &CoreEngine,
    share: &mut Share<L>,
    request: &ListRequest,
    ask: Ask<L>,
) -> Result<(), Error> {
    while share.items.is_empty()
        && let Some(start) = share.next.take()
    {
        let request = ListRequest { start, ..request.clone() };
        let page = ask_shard(engine, share.shard, request, ask).await?;
        (share.items, share.next) = (page.items.into(), page.next);
    }
    Ok(())
}

/// What to ask of each of `shards` for a page of `limit`: the mean and four standard deviations, and one to see
/// whether there is more.
fn share_of(limit: usize, shards: usize) -> usize {
    let mean = limit.div_ceil(shards);
    let share = mean + 4 * mean.isqrt() + 1;
    share.min(limit + 1)
}

async fn merge<L: Line>(
    engine: &CoreEngine,
    mut shares: Vec<Share<L>>,
    request: ListRequest,
    limit: usize,
    ask: Ask<L>,
) -> Result<(Vec<L>, Option<ListStart>), Error> {
    let mut heads: BinaryHeap<Head<L>> = BinaryHeap::with_capacity(shares.len());
    for (index, share) in shares.iter_mut().enumerate() {
        heads.extend(share.items.pop_front().map(|item| Head { item, share: index }));
    }
    let mut items: Vec<L> = Vec::with_capacity(limit.min(1024));
    while let Some(Head { item, share: index }) = heads.pop() {
        let share = &mut shares[index];
        refill(engine, share, &request, ask).await?;
        heads.extend(share.items.pop_front().map(|item| Head { item, share: index }));
        // Shards hold different keys, but the same common prefix.
        if items.last().is_some_and(|last| last.name() == item.name() && last.is_prefix()) {
            continue;
        }
        if items.len() == limit {
            let next = items.last().map(L::after);
            return Ok((items, next));
        }
        items.push(item);
    }
    Ok((items, None))
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
