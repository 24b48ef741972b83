//! What is damaged at rest: bits that flip, blocks that can not be read any more, and what a store that has such may say.

use super::{
    run::{Checked, Run},
    world::OpenFailure,
};
use crate::{device::simulated::FileId, error::OpenError, layout::BLOCK_BYTES};
use std::ops::Range;

/// A bit that was flipped, and the block as it was then.
pub(super) struct Flip {
    file: FileId,
    offset: u64,
    bit: u8,
    block: Vec<u8>,
}

impl Run {
    /// Opens the store; where damage has made that impossible, and said so, mends it as far as it is known. One flipped
    /// bit does not: of each structure there is another copy.
    pub(super) fn open(&mut self) -> Checked {
        let mut failure = match self.world.open() {
            Ok(()) => {
                self.world.check_replay()?;
                // Two bits, of different lives, may have met in both copies of one batch. That the shard then says that it does
                // not know is what was promised; what it still knows is for other tests.
                // And of blocks that can not be read nobody knows what was in them, if nothing behind them says.
                let several = self.flips.len() + self.world.disk.bad_blocks() > 1;
                let may_have_hole = several || self.may_have_hole || self.damaged;
                self.refused = may_have_hole && self.world.has_hole();
                return Ok(());
            }
            Err(failure) => failure,
        };
        if self.flips.len() == 1 && !self.damaged && !self.may_lack_anchor {
            return Err(format!("one flipped bit, and the store does not open: {failure}"));
        }
        while let (OpenFailure::Refused(OpenError::Recovery { .. }), Some(flip)) =
            (&failure, self.flips.pop())
        {
            self.world.crash();
            // Where other bytes lie by now, a repair or what came later, there is nothing to mend.
            if self.world.disk.block_at(flip.file, flip.offset) == flip.block {
                self.world.disk.flip_bit(flip.file, flip.offset, flip.bit);
            }
            failure = match self.world.open() {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
        }
        if self.damaged && matches!(failure, OpenFailure::Refused(OpenError::Recovery { .. })) {
            // More than bits is damaged, nobody knows where: a store that says so keeps its promise, and that was that.
            self.refused = true;
            return Ok(());
        }
        Err(format!("recovery failed: {failure}"))
    }

    /// Makes blocks of a log bad, near its end rather than elsewhere. With one block nothing is lost but, perhaps, the object that lies in it,
    /// if the log says what of it was acknowledged.
    pub(super) fn spoil(
        &mut self,
        read_by_recovery: Vec<(FileId, Range<u64>)>,
        is_uncertain: bool,
        seed: u64,
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let Some((file, range)) = rng.choice(read_by_recovery) else { return };
        let block = BLOCK_BYTES as u64;
        let blocks = if is_uncertain { rng.u64(1..4) } else { 1 };
        for _ in 0..blocks {
            // A batch without payload has two.
            let blocks_near = rng.choice([3, 8, u64::MAX / block]).unwrap_or(3);
            let from = range.end.saturating_sub(blocks_near * block).max(range.start);
            self.world.disk.make_bad(file, rng.u64(from..range.end));
        }
        self.may_have_hole |= is_uncertain;
    }

    /// One bit flips in a copy of a shard's anchor. If the power went while the copies were being replaced, or a write of one failed, the
    /// one that is left of two that agreed may be it: then nobody knows which of the others counts, and the shard is not opened.
    pub(super) fn rot_anchor(&mut self, may_differ: bool, seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let file = self.world.file(rng.u16(0..self.world.options().shards), true);
        let flipped = self.world.disk.flip_some_bit_in(file, self.world.anchors(), &mut rng);
        self.rotten_anchors += u64::from(flipped.is_some());
        self.may_lack_anchor = may_differ || self.world.harm().any_may_have_stopped();
        self.note_flip(flipped);
    }

    pub(super) fn note_flip(&mut self, flipped: Option<(FileId, u64, u8)>) {
        if let Some((file, offset, bit)) = flipped {
            let block = self.world.disk.block_at(file, offset);
            self.flips.push(Flip { file, offset, bit, block });
        }
    }
}
