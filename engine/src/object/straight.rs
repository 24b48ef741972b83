//! Reading straight into the memory of a client: the device fills its pages, and nothing stands in between.
//!
//! ```text
//!   extent    │ whole blocks ………………………………………… │ the last, in part │
//!                        one read                        ▼
//!   client    │ ◄── its own pages                 lease ─┴─► session.write
//! ```
//!
//! Only spans that are whole checksum blocks go this way. They are verified where they lie, by one look at each byte. The client can
//! change its memory at any time, so a checksum that is wrong there says nothing of the object: the span is read again, into memory of
//! our own, and judged there.
//!
//! A read that was begun goes on when nobody waits for it any more, and then nobody verifies what it brings. So it holds the object's space
//! until it is done: what comes into the client's memory is never what somebody else has written there since.

use super::{
    get::{Chunk, PinGuard, read_span},
    piece::{OpenPiece, Span},
    until::Until,
};
use crate::{
    core_engine::CoreEngine,
    error::{Error, Region, Resource},
    layout::{BLOCK_BYTES, RunningChecksum, checksum_combine},
    reactor::Core,
};
use crossdock_transport::{
    memory::{BufferLease, PeerLease, Target, TargetList},
    operation::{Completion, Pending},
};
use std::{ops::Range, rc::Rc};

/// What a client's memory has to be aligned to for a device to fill it: the logical blocks of disks. One that wants more refuses,
/// and the span goes the other way.
const ALIGNMENT: usize = 512;

impl Span {
    /// Whether it can be read into `target`, which begins with its first byte.
    pub(super) fn goes_straight(&self, target: &PeerLease, piece: &OpenPiece) -> bool {
        self.region == Region::Data
            && self.wanted == self.verified
            && self.wanted.end - self.wanted.start >= BLOCK_BYTES as u64
            && target.misalignment(ALIGNMENT) == 0
            && self.device_offset.is_multiple_of(BLOCK_BYTES as u64)
            && piece.block_bytes.is_multiple_of(BLOCK_BYTES as u64)
    }

    /// Bytes of whole device blocks: those that go straight.
    fn blocks(&self) -> usize {
        (self.wanted.end - self.wanted.start) as usize / BLOCK_BYTES * BLOCK_BYTES
    }

    /// Bytes of the lease for the block that is wanted in part; none if there is no such block.
    pub(super) fn behind_blocks(&self) -> usize {
        if self.blocks() as u64 == self.wanted.end - self.wanted.start { 0 } else { BLOCK_BYTES }
    }
}

/// Where a span goes.
pub(super) struct Into {
    /// Memory for all of it.
    pub(super) target: PeerLease,
    /// Memory of ours for the block behind its whole blocks, if there is one.
    pub(super) behind: Option<BufferLease>,
    /// When nothing is begun there any more.
    pub(super) until: Until,
    /// Keeps the space that is read from reuse.
    pub(super) pin: Rc<PinGuard>,
}

/// Waits for a read that has begun. It has the pin until it is done, also when nobody waits for it any more.
async fn pinned(core: &Core, read: Pending, pin: Rc<PinGuard>) -> Completion {
    let whole = async move {
        let completion = read.await;
        drop(pin);
        completion
    };
    core.run_through(whole).await
}

/// Reads a span of which [`Span::goes_straight`] is true into the client's memory, and what is behind its blocks into ours.
pub(super) async fn read_straight(
    engine: &CoreEngine,
    shard: u16,
    piece: &OpenPiece,
    span: Span,
    into: Into,
    with_checksum: bool,
) -> Result<Chunk, Error> {
    let files = engine.files(shard);
    let (blocks, wanted) = (span.blocks(), (span.wanted.end - span.wanted.start) as usize);
    let mut targets = TargetList::new();
    targets.push_peer(into.target.split_at(blocks).0);
    if let Some(mut lease) = into.behind {
        lease.set_len(BLOCK_BYTES);
        targets.push_lease(lease);
    }
    let bytes = targets.bytes();
    let slot = files.data.queue().slot().await;
    if into.until.has_come(engine.core()) {
        // It goes nowhere, which whoever waits for it finds out.
        drop((slot, targets));
        let lease = engine.lease(span.lease_bytes(), Resource::ReadMemory).await?;
        return read_span(engine, shard, piece, span, lease, with_checksum).await;
    }
    let read = files.data.read_targets(slot, files.data_zones_at + span.device_offset, targets);
    let (result, targets) = pinned(engine.core(), read, into.pin).await.into_targets();
    let (peer, behind) = parts(targets);
    if result.is_ok_and(|count| count as usize == bytes)
        && let Some(crc64) = verify(piece, &span, &peer, behind.as_ref())
    {
        let lease = behind.map(|lease| lease.freeze().slice(0..wanted - blocks));
        return Ok(Chunk { straight: blocks as u64, lease, crc64: if with_checksum { crc64 } else { 0 } });
    }
    drop((peer, behind));
    let lease = engine.lease(span.lease_bytes(), Resource::ReadMemory).await?;
    read_span(engine, shard, piece, span, lease, with_checksum).await
}

fn parts(targets: TargetList) -> (Option<PeerLease>, Option<BufferLease>) {
    let (mut peer, mut behind) = (None, None);
    for target in targets.into_pieces() {
        match target {
            Target::Peer(lease) => peer = Some(lease),
            Target::Lease(lease) => behind = Some(lease),
        }
    }
    (peer, behind)
}

/// The checksum of the span if every block of it is what was stored.
fn verify(
    piece: &OpenPiece,
    span: &Span,
    peer: &Option<PeerLease>,
    behind: Option<&BufferLease>,
) -> Option<u64> {
    let peer = peer.as_ref()?;
    let mut start = span.verified.start;
    let mut whole = None;
    while start < span.verified.end {
        let bytes = piece.block_bytes.min(span.verified.end - start);
        let at = (start - span.verified.start) as usize;
        let own = (bytes as usize).min(peer.len().saturating_sub(at));
        let expected = *piece.checksums.get((start / piece.block_bytes) as usize)?;
        if checksum_of(peer, at..at + own, behind, bytes as usize - own)? != expected {
            return None;
        }
        whole = Some(whole.map_or(expected, |whole| checksum_combine(whole, expected, bytes)));
        start += bytes;
    }
    whole
}

/// Bytes of the client's memory that are looked at at a time: they stay in the first cache from the look to the checksum.
const LOOK_BYTES: usize = 8 << 10;

/// The checksum of bytes of the client's memory, and of those of the lease behind them.
fn checksum_of(
    peer: &PeerLease,
    range: Range<usize>,
    behind: Option<&BufferLease>,
    behind_bytes: usize,
) -> Option<u64> {
    let mut digest = RunningChecksum::new();
    let mut looked_at = [0; LOOK_BYTES];
    let mut at = range.start;
    while at < range.end {
        let piece = looked_at.get_mut(..LOOK_BYTES.min(range.end - at))?;
        peer.load(at, piece);
        digest.update(piece);
        at += piece.len();
    }
    if behind_bytes > 0 {
        digest.update(behind?.as_slice().get(..behind_bytes)?);
    }
    Some(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::types::{CommitOptions, Delete, PutOptions, Which},
        testing::world::{World, WorldOptions},
    };
    use bytes::Bytes;
    use crossdock_transport::operation::{Memory, Queue};
    use futures_lite::future::poll_once;

    /// Whoever began a read goes away, and the object is deleted: as long as the device has not done the read, nobody is given the space.
    #[test]
    fn a_read_that_nobody_waits_for_keeps_its_space() {
        let mut world = World::new(1, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
        world.open().unwrap();
        let engine = world.engine(0);
        let shard = engine.own_shards().next().expect("it has one").clone();
        // The device: it does what it is asked to when this test says so.
        let queue = Queue::new(1);
        let (work, posted) = (engine.clone(), queue.clone());
        let read = world.run(async move {
            work.create_bucket("b", Bytes::new()).await.unwrap();
            let mut put = work.put("b", b"k", PutOptions { size: Some(300_000) }).await.unwrap();
            put.write(&vec![7; 300_000]).await.unwrap();
            put.finish(CommitOptions::default()).await.unwrap();
            let own = work.own_shards().next().expect("it has one").clone();
            let (_, _, pin) = own.open_object("b", b"k", Which::Current).unwrap();
            let pin = Rc::new(PinGuard::new(work.clone(), 0, pin));
            let (read, pending) = posted.post(posted.try_slot().expect("it is new"), Memory::None);
            let mut waits = Box::pin(pinned(work.core(), pending, pin));
            assert!(poll_once(&mut waits).await.is_none());
            drop(waits);
            work.delete("b", Delete::current(b"k")).await.unwrap();
            read
        });
        while world.step() {}
        assert!(shard.statistics().extent_bytes_used >= 300_000, "the space was given up during the read");
        queue.complete(read, Ok(0));
        while world.step() {}
        assert!(shard.statistics().extent_bytes_used < 300_000);
        world.check_at_rest().unwrap();
    }
}
