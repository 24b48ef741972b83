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

use super::{
    get::{Chunk, read_span},
    piece::{OpenPiece, Span},
    until::Until,
};
use crate::{
    core_engine::CoreEngine,
    error::{Error, Region, Resource},
    layout::{BLOCK_BYTES, RunningChecksum, checksum_combine},
};
use crossdock_transport::memory::{BufferLease, PeerLease, Target, TargetList};
use std::ops::Range;

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
    let (result, targets) = read.await.into_targets();
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
