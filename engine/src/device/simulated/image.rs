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
use std::collections::{BTreeMap, BTreeSet};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Blocks by number; those that are missing are zeros.
#[derive(Clone, Default)]
struct Blocks(BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>);

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

    fn write_sector(&mut self, offset: u64, sector: &[u8]) {
        let block = self.0.entry(offset / BLOCK_BYTES as u64).or_insert_with(|| Box::new([0; BLOCK_BYTES]));
        block[offset as usize % BLOCK_BYTES..][..sector.len()].copy_from_slice(sector);
    }

    fn write(&mut self, offset: u64, source: &[u8]) {
        for (index, sector) in source.chunks(SECTOR_BYTES).enumerate() {
            self.write_sector(offset + (index * SECTOR_BYTES) as u64, sector);
        }
    }

    fn flip_bit(&mut self, offset: u64, bit: u8) {
        let block = self.0.entry(offset / BLOCK_BYTES as u64).or_insert_with(|| Box::new([0; BLOCK_BYTES]));
        block[offset as usize % BLOCK_BYTES] ^= 1 << bit;
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
    offset: u64,
    bytes: Vec<u8>,
    /// Sectors that a later durable write has replaced: a crash must not bring the older bytes back.
    replaced: Vec<bool>,
    /// A sync that should have covered it failed: no later sync does.
    orphaned: bool,
    /// The bytes themselves are safe, on a disk without a volatile cache: only conversions can be lost.
    on_medium: bool,
}

impl VolatileWrite {
    fn sectors(&self) -> impl Iterator<Item = (u64, &[u8], bool)> {
        let sectors = self.bytes.chunks(SECTOR_BYTES).zip(&self.replaced).enumerate();
        sectors
            .map(|(index, (bytes, replaced))| (self.offset + (index * SECTOR_BYTES) as u64, bytes, *replaced))
    }

    fn blocks(&self) -> std::ops::Range<u64> {
        let first = self.offset / BLOCK_BYTES as u64;
        first..first + (self.bytes.len() / BLOCK_BYTES) as u64
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

    /// A write of whole blocks inside the file.
    pub(super) fn write(&mut self, offset: u64, source: &[u8], reach: Reach) {
        self.now += 1;
        self.current.write(offset, source);
        for (index, block) in source.chunks(BLOCK_BYTES).enumerate() {
            let place = offset + (index * BLOCK_BYTES) as u64;
            let number = place / BLOCK_BYTES as u64;
            let is_durable = match reach {
                Reach::Durable => true,
                Reach::Completed => !self.volatile_cache && self.is_converted(number),
                Reach::InFlight => false,
            };
            if is_durable {
                self.durable.write(place, block);
                self.convert([number]);
                self.replace(place, block.len(), self.now);
            } else {
                self.push_volatile(place, block, reach == Reach::Completed && !self.volatile_cache);
            }
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
    fn push_volatile(&mut self, offset: u64, block: &[u8], on_medium: bool) {
        let replaced = [false; BLOCK_BYTES / SECTOR_BYTES];
        if let Some(last) = self.volatile.last_mut()
            && last.completed == self.now
            && last.offset + last.bytes.len() as u64 == offset
        {
            last.bytes.extend_from_slice(block);
            last.replaced.extend(replaced);
            return;
        }
        self.volatile.push(VolatileWrite {
            completed: self.now,
            offset,
            bytes: block.into(),
            replaced: replaced.into(),
            orphaned: false,
            on_medium,
        });
    }

    /// Marks what volatile writes older than the moment `before` hold of a range that is durable now.
    fn replace(&mut self, offset: u64, bytes: usize, before: u64) {
        let range = offset..offset + bytes as u64;
        for write in self.volatile.iter_mut().filter(|write| write.completed < before) {
            let start = write.offset;
            for (index, replaced) in write.replaced.iter_mut().enumerate() {
                *replaced |= range.contains(&(start + (index * SECTOR_BYTES) as u64));
            }
        }
        self.volatile.retain(|write| write.replaced.contains(&false));
    }

    /// A sync posted at the moment `upto` completes.
    pub(super) fn sync(&mut self, upto: u64) {
        let all = std::mem::take(&mut self.volatile);
        let (covered, rest) = all.into_iter().partition(|write| write.completed <= upto && !write.orphaned);
        let covered: Vec<VolatileWrite> = covered;
        self.volatile = rest;
        for write in covered {
            for (place, sector, replaced) in write.sectors() {
                if !replaced {
                    self.durable.write_sector(place, sector);
                }
            }
            self.convert(write.blocks());
            // Older writes that a failed sync orphaned are still there, and must not come back over this one.
            self.replace(write.offset, write.bytes.len(), write.completed);
        }
        self.growths.retain(|(completed, bytes)| {
            let covered = *completed <= upto;
            if covered {
                self.durable_bytes = *bytes;
            }
            !covered
        });
    }

    /// A sync posted at the moment `upto` fails.
    pub(super) fn fail_sync(&mut self, upto: u64) {
        for write in &mut self.volatile {
            write.orphaned |= write.completed <= upto;
        }
        self.growths.retain(|(completed, _)| *completed > upto);
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

    /// Keeps, loses or tears each write that is not durable, and what is left is durable.
    pub(super) fn crash(&mut self, rng: &mut fastrand::Rng, counts: &mut FaultCounts) {
        counts.crashes += 1;
        for write in std::mem::take(&mut self.volatile) {
            let fate = if write.on_medium { Fate::Kept } else { Fate::choose(write.replaced.len(), rng) };
            match fate {
                Fate::Kept => counts.kept_writes += 1,
                Fate::Lost => counts.lost_writes += 1,
                Fate::Torn(_) => counts.torn_writes += 1,
            }
            // Whether the journal got to each block's conversion; drawn for all, so that draws do not depend on fates.
            let conversions: Vec<bool> = write.blocks().map(|_| rng.bool()).collect();
            let first = write.blocks().start;
            let mut lost = BTreeSet::new();
            for (index, (place, sector, replaced)) in write.sectors().enumerate() {
                let block = place / BLOCK_BYTES as u64;
                if replaced || !fate.keeps(index) {
                    continue;
                }
                if !self.is_converted(block) && !conversions[(block - first) as usize] {
                    lost.insert(block);
                    continue;
                }
                self.durable.write_sector(place, sector);
            }
            counts.lost_conversions += lost.len() as u64;
            // What the journal did convert stays so for the writes after, whatever became of the bytes.
            let converted =
                write.blocks().zip(&conversions).filter(|(_, done)| **done).map(|(block, _)| block);
            self.convert(converted.collect::<Vec<_>>());
        }
        if self.bytes > self.durable_bytes && rng.bool() {
            counts.lost_growths += 1;
            self.bytes = self.durable_bytes;
            let blocks = self.bytes / BLOCK_BYTES as u64;
            self.durable.truncate(blocks);
            self.converted.split_off(&blocks);
        }
        self.durable_bytes = self.bytes;
        self.growths.clear();
        self.current = self.durable.clone();
    }

    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        assert!(offset < self.bytes, "{offset} is past the end");
        self.current.flip_bit(offset, bit);
        self.durable.flip_bit(offset, bit);
    }

    pub(super) fn has_written(&self) -> bool {
        !self.current.0.is_empty()
    }

    pub(super) fn some_written_byte(&self, rng: &mut fastrand::Rng) -> Option<u64> {
        let block = rng.choice(self.current.0.keys())?;
        Some(block * BLOCK_BYTES as u64 + rng.u64(0..BLOCK_BYTES as u64))
    }
}

/// What a crash does to one write.
enum Fate {
    Kept,
    Lost,
    /// Which sectors are kept.
    Torn(Vec<bool>),
}

impl Fate {
    fn choose(sectors: usize, rng: &mut fastrand::Rng) -> Fate {
        match rng.u8(0..6) {
            0 | 1 => Fate::Kept,
            2 | 3 => Fate::Lost,
            4 => {
                // A front or a back, and not all of it.
                let cut = rng.usize(1..sectors.max(2));
                let front = rng.bool();
                Fate::Torn((0..sectors).map(|sector| (sector < cut) == front).collect())
            }
            _ => Fate::Torn((0..sectors).map(|_| rng.bool()).collect()),
        }
    }

    fn keeps(&self, sector: usize) -> bool {
        match self {
            Fate::Kept => true,
            Fate::Lost => false,
            Fate::Torn(kept) => kept[sector],
        }
    }
}
