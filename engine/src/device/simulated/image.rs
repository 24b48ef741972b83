//! The bytes of one simulated file, as a read sees them and as a crash would leave them.
//!
//! ```text
//!  current   what a read sees: every completed write
//!  durable   what is certain to survive a crash
//!  volatile  the completed writes between the two, in the order they completed
//! ```
//!
//! Invariant: `current` is `durable` with `volatile` on top, but for bits flipped at rest in bytes that a volatile write
//! covers.

use super::{super::bounds, faults::FaultCounts};
use crate::layout::BLOCK_BYTES;
use crossdock_transport::operation::OsError;
use rustix::io::Errno;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    rc::Rc,
};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Sectors of a block, one bit each.
type SectorMask = u8;

const SECTORS: usize = BLOCK_BYTES / SECTOR_BYTES;
const ALL_SECTORS: SectorMask = SectorMask::MAX;
const _: () = assert!(SECTORS == SectorMask::BITS as usize);

/// The bytes of one block, shared between the states that hold the same; none: zeros.
pub(super) type Block = Option<Rc<[u8; BLOCK_BYTES]>>;

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

fn block_of(bytes: &[u8; BLOCK_BYTES]) -> Block {
    (*bytes != ZEROS).then(|| Rc::new(*bytes))
}

/// The blocks of pieces that lie one behind the other: whole blocks together, and cut anywhere.
pub(super) fn blocks_of_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Block> {
    let (mut blocks, mut cut) = (Vec::new(), Vec::new());
    for mut piece in pieces {
        if !cut.is_empty() {
            let (end, rest) = piece.split_at(piece.len().min(BLOCK_BYTES - cut.len()));
            cut.extend_from_slice(end);
            piece = rest;
            if let Ok(whole) = <&[u8; BLOCK_BYTES]>::try_from(&cut[..]) {
                blocks.push(block_of(whole));
                cut.clear();
            }
        }
        let (whole, rest) = piece.as_chunks::<BLOCK_BYTES>();
        blocks.extend(whole.iter().map(block_of));
        cut.extend_from_slice(rest);
    }
    assert!(cut.is_empty(), "writes are whole blocks");
    blocks
}

/// Blocks by number; those that are missing are zeros.
#[derive(Clone, Default)]
struct Blocks(BTreeMap<u64, Rc<[u8; BLOCK_BYTES]>>);

impl Blocks {
    fn read(&self, mut offset: u64, mut target: &mut [u8]) {
        while !target.is_empty() {
            let within = offset as usize % BLOCK_BYTES;
            let (part, rest) = target.split_at_mut(target.len().min(BLOCK_BYTES - within));
            match self.0.get(&(offset / BLOCK_BYTES as u64)) {
                Some(block) => part.copy_from_slice(&block[within..within + part.len()]),
                None => part.fill(0),
            }
            offset += part.len() as u64;
            target = rest;
        }
    }

    /// Replaces the sectors of a block that are in the mask.
    fn write(&mut self, number: u64, source: &Block, sectors: SectorMask) {
        if sectors == ALL_SECTORS {
            self.set(number, source.clone());
        } else if sectors != 0 {
            let source: &[u8] = source.as_ref().map_or(&ZEROS, |block| &block[..]);
            let block = Rc::make_mut(self.0.entry(number).or_insert_with(|| Rc::new(ZEROS)));
            for sector in (0..SECTORS).filter(|sector| sectors & 1 << sector != 0) {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                block[range.clone()].copy_from_slice(&source[range]);
            }
        }
    }

    fn set(&mut self, number: u64, block: Block) {
        match block {
            Some(block) => self.0.insert(number, block),
            None => self.0.remove(&number),
        };
    }

    fn flip_bit(&mut self, offset: u64, bit: u8) {
        let block = self.0.entry(offset / BLOCK_BYTES as u64).or_insert_with(|| Rc::new(ZEROS));
        Rc::make_mut(block)[offset as usize % BLOCK_BYTES] ^= 1 << bit;
    }

    /// Whether a reader sees the same in both.
    #[cfg(test)]
    fn is_like(&self, other: &Blocks) -> bool {
        let has_all = |one: &Blocks, other: &Blocks| {
            let there = |number: &u64| other.0.get(number).map_or(&ZEROS, |block| block);
            one.0.iter().all(|(number, block)| block[..] == there(number)[..])
        };
        has_all(self, other) && has_all(other, self)
    }

    fn truncate(&mut self, blocks: u64) {
        self.0.split_off(&blocks);
    }
}

/// How far a write got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Completed, and durable by itself.
    Durable,
    /// Completed.
    Completed,
    /// In flight when the power went: a crash may tear it on any disk.
    InFlight,
}

/// A completed write, or a run of its blocks, that a crash may lose.
struct VolatileWrite {
    completed: u64,
    /// The number of its first block.
    first: u64,
    blocks: Vec<Block>,
    /// Sectors that a later durable write has replaced: a crash must not bring the older bytes back.
    replaced: Vec<SectorMask>,
    /// A sync that should have covered it failed: no later sync does.
    orphaned: bool,
    /// The bytes themselves are safe, on a disk without a volatile cache: only conversions can be lost.
    on_medium: bool,
}

impl VolatileWrite {
    /// Each block with its number and the sectors that still count.
    fn blocks(&self) -> impl Iterator<Item = (u64, &Block, SectorMask)> {
        let blocks = self.blocks.iter().zip(&self.replaced).enumerate();
        blocks.map(|(index, (block, replaced))| (self.first + index as u64, block, !replaced))
    }

    fn numbers(&self) -> Range<u64> {
        self.first..self.first + self.blocks.len() as u64
    }
}

/// The bytes of one file.
pub(super) struct FileImage {
    growable: bool,
    volatile_cache: bool,
    bytes: u64,
    durable_bytes: u64,
    /// Growths not yet durable: when each completed, and the length it gave.
    growths: Vec<(u64, u64)>,
    current: Blocks,
    durable: Blocks,
    volatile: Vec<VolatileWrite>,
    /// Blocks whose conversion from unwritten is durable. Not kept for a raw device, which has no others.
    converted: BTreeSet<u64>,
    /// Counts completions that change the file.
    now: u64,
}

impl FileImage {
    pub(super) fn new(bytes: u64, growable: bool, volatile_cache: bool) -> FileImage {
        FileImage {
            growable,
            volatile_cache,
            bytes,
            durable_bytes: bytes,
            growths: Vec::new(),
            current: Blocks::default(),
            durable: Blocks::default(),
            volatile: Vec::new(),
            converted: BTreeSet::new(),
            now: 0,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_growable(&self) -> bool {
        self.growable
    }

    /// This moment: everything that has completed.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn read(&self, offset: u64, target: &mut [u8]) {
        self.current.read(offset, target);
    }

    /// A write of these blocks inside the file.
    pub(super) fn write(&mut self, offset: u64, source: &[Block], reach: Reach) {
        self.now += 1;
        let first = offset / BLOCK_BYTES as u64;
        let mut durable: Option<Range<u64>> = None;
        for (number, block) in (first..).zip(source) {
            let block = block.clone();
            self.current.write(number, &block, ALL_SECTORS);
            let is_durable = match reach {
                Reach::Durable => true,
                Reach::Completed => !self.volatile_cache && self.is_converted(number),
                Reach::InFlight => false,
            };
            if !is_durable {
                self.push_volatile(number, block, reach == Reach::Completed && !self.volatile_cache);
                continue;
            }
            self.durable.write(number, &block, ALL_SECTORS);
            self.convert([number]);
            durable = match durable {
                Some(run) if run.end == number => Some(run.start..number + 1),
                Some(run) => {
                    self.replace(run, self.now);
                    Some(number..number + 1)
                }
                None => Some(number..number + 1),
            };
        }
        if let Some(run) = durable {
            self.replace(run, self.now);
        }
    }

    fn convert(&mut self, blocks: impl IntoIterator<Item = u64>) {
        if self.growable {
            self.converted.extend(blocks);
        }
    }

    fn is_converted(&self, block: u64) -> bool {
        !self.growable || self.converted.contains(&block)
    }

    /// Adds a block to the volatile write of this moment, so that a crash decides about the write as a whole.
    fn push_volatile(&mut self, number: u64, block: Block, on_medium: bool) {
        if let Some(last) = self.volatile.last_mut()
            && last.completed == self.now
            && last.numbers().end == number
        {
            last.blocks.push(block);
            last.replaced.push(0);
            return;
        }
        self.volatile.push(VolatileWrite {
            completed: self.now,
            first: number,
            blocks: vec![block],
            replaced: vec![0],
            orphaned: false,
            on_medium,
        });
    }

    /// Marks what volatile writes older than the moment `before` hold of blocks that are durable now.
    fn replace(&mut self, blocks: Range<u64>, before: u64) {
        self.volatile.retain_mut(|write| {
            let own = write.numbers();
            let (start, end) = (own.start.max(blocks.start), own.end.min(blocks.end));
            if write.completed >= before || start >= end {
                return true;
            }
            let (start, end) = ((start - own.start) as usize, (end - own.start) as usize);
            write.replaced[start..end].fill(ALL_SECTORS);
            write.replaced.iter().any(|replaced| *replaced != ALL_SECTORS)
        });
    }

    /// A sync posted at the moment `upto` completes.
    pub(super) fn sync(&mut self, upto: u64) {
        let all = std::mem::take(&mut self.volatile);
        let (covered, rest) = all.into_iter().partition(|write| write.completed <= upto && !write.orphaned);
        let covered: Vec<VolatileWrite> = covered;
        self.volatile = rest;
        for write in covered {
            for (number, block, sectors) in write.blocks() {
                self.durable.write(number, block, sectors);
            }
            self.convert(write.numbers());
            // Older writes that a failed sync orphaned are still there, and must not come back over this one.
            self.replace(write.numbers(), write.completed);
        }
        self.growths.retain(|(completed, bytes)| {
            let covered = *completed <= upto;
            if covered {
                self.durable_bytes = *bytes;
            }
            !covered
        });
    }

    /// A sync posted at the moment `upto` fails: what was written before is not made durable by a later one. A file's
    /// length is: it goes through the file system's journal, which tries again, or takes nothing more at all.
    pub(super) fn fail_sync(&mut self, upto: u64) {
        for write in &mut self.volatile {
            write.orphaned |= write.completed <= upto;
        }
    }

    /// Whether the file can become so long when the disk has so much room.
    pub(super) fn can_grow(&self, bytes: u64, room: u64) -> Result<(), OsError> {
        if !self.growable {
            return Err(bounds::os_error(Errno::OPNOTSUPP));
        }
        if bytes.saturating_sub(self.bytes) > room {
            return Err(bounds::os_error(Errno::NOSPC));
        }
        Ok(())
    }

    pub(super) fn grow(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.now += 1;
            self.growths.push((self.now, bytes));
            self.bytes = bytes;
        }
    }

    /// How many writes a crash would decide about.
    pub(super) fn undecided(&self) -> usize {
        self.volatile.len()
    }

    /// Keeps, loses or tears each write that is not durable, and what is left is durable.
    pub(super) fn crash(&mut self, fates: &mut Fates, rng: &mut fastrand::Rng, counts: &mut FaultCounts) {
        counts.crashes += 1;
        let undecided = std::mem::take(&mut self.volatile);
        let numbers: Vec<Range<u64>> = undecided.iter().map(VolatileWrite::numbers).collect();
        for write in undecided {
            let fate = fates.next(write.blocks.len() * SECTORS, rng);
            let fate = if write.on_medium && matches!(fates, Fates::Drawn) { Fate::Kept } else { fate };
            match fate {
                Fate::Kept => counts.kept_writes += 1,
                Fate::Lost => counts.lost_writes += 1,
                Fate::Torn(_) => counts.torn_writes += 1,
            }
            // Whether the journal got to each block's conversion; drawn for all, so that draws do not depend on fates.
            let conversions: Vec<bool> =
                write.blocks.iter().map(|_| rng.bool() || !matches!(fates, Fates::Drawn)).collect();
            for (index, (number, block, live)) in write.blocks().enumerate() {
                let kept = live & fate.kept(index);
                if kept != 0 && !self.is_converted(number) && !conversions[index] {
                    counts.lost_conversions += 1;
                    continue;
                }
                self.durable.write(number, block, kept);
            }
            // What the journal did convert stays so for the writes after, whatever became of the bytes.
            let converted =
                write.numbers().zip(&conversions).filter(|(_, done)| **done).map(|(block, _)| block);
            self.convert(converted.collect::<Vec<_>>());
        }
        if self.bytes > self.durable_bytes && rng.bool() && matches!(fates, Fates::Drawn) {
            counts.lost_growths += 1;
            self.bytes = self.durable_bytes;
            let blocks = self.bytes / BLOCK_BYTES as u64;
            self.durable.truncate(blocks);
            self.converted.split_off(&blocks);
        }
        self.durable_bytes = self.bytes;
        self.growths.clear();
        // All else is the same in both: see the invariant.
        for number in numbers.iter().cloned().flatten() {
            self.current.set(number, self.durable.0.get(&number).cloned());
        }
        let end = self.bytes / BLOCK_BYTES as u64;
        self.current.truncate(end);
        #[cfg(test)]
        assert!(self.current.is_like(&self.durable), "{:?} were undecided", numbers);
    }

    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        assert!(offset < self.bytes, "{offset} is past the end");
        self.current.flip_bit(offset, bit);
        self.durable.flip_bit(offset, bit);
    }

    pub(super) fn has_written(&self) -> bool {
        !self.current.0.is_empty()
    }

    pub(super) fn some_written_byte_in(&self, range: Range<u64>, rng: &mut fastrand::Rng) -> Option<u64> {
        let blocks = range.start / BLOCK_BYTES as u64..range.end / BLOCK_BYTES as u64;
        let written: Vec<u64> = self.current.0.range(blocks).map(|(block, _)| *block).collect();
        Some(rng.choice(written)? * BLOCK_BYTES as u64 + rng.u64(0..BLOCK_BYTES as u64))
    }

    pub(super) fn some_written_byte(&self, rng: &mut fastrand::Rng) -> Option<u64> {
        let block = rng.choice(self.current.0.keys())?;
        Some(block * BLOCK_BYTES as u64 + rng.u64(0..BLOCK_BYTES as u64))
    }
}

/// How a crash decides about the writes that are not durable.
#[derive(Clone, Debug)]
pub(super) enum Fates {
    /// Each by itself, by chance.
    Drawn,
    /// All are kept, but the one with this number among all that are not durable.
    AllBut { victim: usize, loss: Loss, seen: usize },
}

/// What a crash does to the one write that it does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing of it is kept.
    Whole,
    /// So many sectors at its front are kept, at least one and not all.
    AfterFront(usize),
    /// So many sectors at its front are lost, at least one and not all.
    OfFront(usize),
}

impl Fates {
    fn next(&mut self, sectors: usize, rng: &mut fastrand::Rng) -> Fate {
        match self {
            Fates::Drawn => Fate::choose(sectors, rng),
            Fates::AllBut { victim, loss, seen } => {
                *seen += 1;
                let cut = |count: usize| count.clamp(1, sectors - 1);
                match loss {
                    _ if *seen - 1 != *victim => Fate::Kept,
                    Loss::Whole => Fate::Lost,
                    Loss::AfterFront(count) => Fate::cut(sectors, cut(*count), true),
                    Loss::OfFront(count) => Fate::cut(sectors, cut(*count), false),
                }
            }
        }
    }
}

/// What a crash does to one write.
enum Fate {
    Kept,
    Lost,
    /// Which sectors of each block are kept.
    Torn(Vec<SectorMask>),
}

impl Fate {
    fn choose(sectors: usize, rng: &mut fastrand::Rng) -> Fate {
        match rng.u8(0..6) {
            0 | 1 => Fate::Kept,
            2 | 3 => Fate::Lost,
            // A front or a back, and not all of it.
            4 => Fate::cut(sectors, rng.usize(1..sectors), rng.bool()),
            _ => Fate::Torn((0..sectors / SECTORS).map(|_| rng.u8(..)).collect()),
        }
    }

    /// Keeps the first `count` sectors, or all but those.
    fn cut(sectors: usize, count: usize, keep_front: bool) -> Fate {
        let front = |block: usize| match count.saturating_sub(block * SECTORS) {
            all if all >= SECTORS => ALL_SECTORS,
            some => (1 << some) - 1,
        };
        let blocks = 0..sectors / SECTORS;
        Fate::Torn(blocks.map(|block| if keep_front { front(block) } else { !front(block) }).collect())
    }

    fn kept(&self, block: usize) -> SectorMask {
        match self {
            Fate::Kept => ALL_SECTORS,
            Fate::Lost => 0,
            Fate::Torn(kept) => kept[block],
        }
    }
}
