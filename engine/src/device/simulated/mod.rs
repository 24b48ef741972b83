//! The simulated disk: completes operations when the simulator says, loses at a crash whatever a disk may lose, and
//! fails in every way a disk fails, all from one seed.
//!
//! [`SimulatedDisk`] is the hardware: it holds files (or stands for a raw block device), survives crashes, and is what
//! the simulator turns. [`SimulatedDevice`] is a core's handle of one file, and dies with the crash.
//!
//! ```text
//!   post ──► pending ── step / complete_one ──► completed ── sync, Durable ──► on stable storage
//!              │                                    │
//!              └───────────── crash ────────────────┴──► each kept, lost or torn by itself
//! ```
//!
//! What is modelled, and where it is harsher than a real disk:
//! * Pending operations complete in any order, and a crash may find any of them done, undone or half done.
//! * A completed write is in the volatile cache. A sync makes durable what completed before the sync was *posted*, and
//!   in its own file only. A durable write makes itself durable and nothing else.
//! * In a file, a block never written is *unwritten*: its first write converts it, and the conversion is metadata of the
//!   file system. Until a sync of that file, or a durable write of that block, completes after the write, a crash may
//!   leave zeros there, also on a disk without a volatile cache. A raw device has no unwritten blocks.
//! * A growth is lost at a crash unless a sync of that file was posted after it completed.
//! * After a failed sync, the writes it was for are never made durable by a later sync, as after a failed fsync.
//!
//! Not modelled: the loss of a file's name. Files are made with [`SimulatedDisk::create_file`], which is durable at once.

mod faults;
mod image;

pub use faults::{Fault, FaultCounts, FaultPlan, Times};

use super::{BlockDevice, DeviceGeometry, Durability, bounds};
use crate::layout::BLOCK_BYTES;
use crossdock_transport::{
    memory::{BufferLease, ScatterList},
    operation::{Memory, OperationId, OsError, Pending, Queue, Slot},
};
use faults::Faults;
pub use image::Loss;
use image::{Block, Fates, FileImage, Reach};
use rustix::io::Errno;
use std::{cell::RefCell, collections::BTreeSet, ops::Range, rc::Rc};

/// What a simulated disk is like.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// Room for the files together, bytes.
    pub bytes_max: u64,
    /// Whether completed writes may be lost at a crash also where blocks have been written and synced before.
    pub volatile_cache: bool,
    /// How it breaks the promises of [`BlockDevice`], if it does.
    pub lie: Option<Lie>,
}

/// A promise that a disk may break without a word. No engine can make that good: it is there to show that whoever checks
/// an engine would see an engine that does not keep its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A sync does nothing.
    IgnoresSync,
    /// A durable write is like any other: in the cache, until a sync.
    IgnoresDurable,
    /// One in so many writes is acknowledged and never made.
    DropsWrites(u32),
    /// One in so many reads has one bit wrong.
    FlipsReads(u32),
    /// One in so many completions never comes.
    LosesCompletions(u32),
}

impl Lie {
    fn one_in(self, wanted: fn(u32) -> Lie, rng: &mut fastrand::Rng) -> bool {
        let (Lie::DropsWrites(count) | Lie::FlipsReads(count) | Lie::LosesCompletions(count)) = self else {
            return false;
        };
        wanted(count) == self && rng.u32(0..count.max(1)) == 0
    }
}

/// A file of a simulated disk, or the whole of a raw one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(usize);

/// A simulated disk. `!Send`, cheap to clone.
#[derive(Clone)]
pub struct SimulatedDisk(Rc<RefCell<State>>);

struct State {
    options: DiskOptions,
    files: Vec<File>,
    operations: Vec<Operation>,
    /// Where writes are slow, and how often each is passed over.
    slow: Vec<(FileId, Range<u64>, u32)>,
    /// Where the next durable write lands elsewhere.
    misdirected: Option<(FileId, Range<u64>)>,
    /// Whether one of them did, or still may.
    misdirects: bool,
    /// Blocks that can not be read until they are written again.
    bad: BTreeSet<(FileId, u64)>,
    /// Files in which bits were flipped, blocks went bad or writes landed that were meant for elsewhere.
    damaged: BTreeSet<FileId>,
    faults: Faults,
    /// Counts operations posted and completed.
    moments: u64,
    /// Counts crashes: handles of an earlier life are dead.
    life: u64,
}

struct File {
    name: String,
    image: FileImage,
}

struct Operation {
    queue: Queue,
    id: OperationId,
    file: FileId,
    kind: Kind,
    /// How often it is passed over yet when it is chosen to complete.
    passed_over: u32,
    /// Set when it is chosen to complete and the plan lets it hang.
    stalled: bool,
    /// Its completion never comes.
    lost: bool,
}

impl Operation {
    fn is_ready(&self) -> bool {
        !self.stalled && !self.lost
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Read {
        offset: u64,
        at: usize,
        bytes: usize,
    },
    Write {
        offset: u64,
        durability: Durability,
    },
    /// Covers what had completed by this moment of the file.
    Sync {
        upto: u64,
    },
    Grow {
        bytes: u64,
    },
}

impl SimulatedDisk {
    /// A disk without files.
    pub fn new(options: DiskOptions) -> SimulatedDisk {
        SimulatedDisk(Rc::new(RefCell::new(State {
            options,
            files: Vec::new(),
            operations: Vec::new(),
            slow: Vec::new(),
            misdirected: None,
            misdirects: false,
            bad: BTreeSet::new(),
            damaged: BTreeSet::new(),
            faults: Faults::default(),
            moments: 0,
            life: 0,
        })))
    }

    /// Makes a file of `bytes`, all unwritten, which can grow. The file and its length are durable at once.
    ///
    /// # Panics
    /// If there is a file of this name, or no room.
    pub fn create_file(&self, name: &str, bytes: u64) -> FileId {
        self.create(name, bytes, true)
    }

    /// Makes a raw block device of `bytes`: it can not grow and has no unwritten blocks.
    ///
    /// # Panics
    /// As [`SimulatedDisk::create_file`].
    pub fn create_raw(&self, name: &str, bytes: u64) -> FileId {
        self.create(name, bytes, false)
    }

    fn create(&self, name: &str, bytes: u64, growable: bool) -> FileId {
        assert!(self.find(name).is_none(), "there is a file {name}");
        let mut state = self.0.borrow_mut();
        assert!(state.room() >= bytes, "no room for {bytes} bytes");
        let image = FileImage::new(bytes, growable, state.options.volatile_cache);
        state.files.push(File { name: name.into(), image });
        FileId(state.files.len() - 1)
    }

    /// The file of this name.
    pub fn find(&self, name: &str) -> Option<FileId> {
        self.0.borrow().files.iter().position(|file| file.name == name).map(FileId)
    }

    /// A core's handle of a file; completions are those of the queue. It lives until the next crash.
    pub fn open(&self, file: FileId, queue: &Queue) -> SimulatedDevice {
        let life = self.0.borrow().life;
        SimulatedDevice { disk: self.clone(), file, queue: queue.clone(), life }
    }

    /// How often what goes wrong from now on.
    pub fn set_plan(&self, plan: FaultPlan) {
        self.0.borrow_mut().faults.plan = plan;
    }

    /// Lets the next operations of a file fail in one way, once or from now on, on top of the plan.
    pub fn inject(&self, file: FileId, fault: Fault, times: Times) {
        self.0.borrow_mut().faults.inject(file, fault, times);
    }

    /// The next durable write that begins in this range of the file lands elsewhere in it, as with [`Fault::MisdirectedWrite`]; until
    /// [`SimulatedDisk::heal`].
    pub fn misdirect(&self, file: FileId, range: Range<u64>) {
        let mut state = self.0.borrow_mut();
        (state.misdirected, state.misdirects) = (Some((file, range)), true);
    }

    /// Whether since [`SimulatedDisk::forget_struck`] a write was to be misdirected.
    pub fn misdirects(&self) -> bool {
        self.0.borrow().misdirects
    }

    /// From now on the disk breaks this promise, or none.
    pub fn set_lie(&self, lie: Option<Lie>) {
        self.0.borrow_mut().options.lie = lie;
    }

    /// From now on writes that begin in this range of the file are slow: each is passed over so many times when it is chosen to
    /// complete, while others go on. Stays through crashes.
    pub fn slow_down(&self, file: FileId, range: Range<u64>, times: u32) {
        self.0.borrow_mut().slow.push((file, range, times));
    }

    /// Takes back the plan and everything injected, and lets what hangs go on: from now on nothing fails.
    pub fn heal(&self) {
        let mut state = self.0.borrow_mut();
        state.faults.plan = FaultPlan::default();
        state.faults.clear_injected();
        state.misdirected = None;
        state.operations.iter_mut().for_each(|operation| operation.stalled = false);
    }

    /// Flips one bit at rest, where it is on stable storage and where it would be read now.
    ///
    /// # Panics
    /// If the file is not so long.
    pub fn flip_bit(&self, file: FileId, offset: u64, bit: u8) {
        let mut state = self.0.borrow_mut();
        state.files[file.0].image.flip_bit(offset, bit);
        state.damaged.insert(file);
        state.faults.counts.bit_flips += 1;
    }

    /// The block that holds this byte can not be read from now on, through crashes too, until it is written again.
    pub fn make_bad(&self, file: FileId, offset: u64) {
        let mut state = self.0.borrow_mut();
        state.bad.insert((file, offset / BLOCK_BYTES as u64));
        state.damaged.insert(file);
        state.faults.counts.bad_blocks += 1;
    }

    /// Whether this has struck the file since [`SimulatedDisk::forget_struck`]. A block that can not be read counts as [`Fault::ReadError`]
    /// when somebody tries.
    pub fn has_struck(&self, file: FileId, fault: Fault) -> bool {
        self.0.borrow().faults.struck.contains(&(file, fault))
    }

    /// Begins anew to remember what strikes which file.
    pub fn forget_struck(&self) {
        let mut state = self.0.borrow_mut();
        state.faults.struck.clear();
        state.misdirects = false;
    }

    /// Whether something of what was written to the file was ever damaged at rest, or may lie under what was meant for elsewhere.
    pub fn is_damaged(&self, file: FileId) -> bool {
        self.0.borrow().damaged.contains(&file)
    }

    /// Blocks that can not be read.
    pub fn bad_blocks(&self) -> usize {
        self.0.borrow().bad.len()
    }

    /// The block that holds this byte, as it would be read now.
    pub fn block_at(&self, file: FileId, offset: u64) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        let start = offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        self.0.borrow().files[file.0].image.read(start, &mut block);
        block
    }

    /// Flips one bit somewhere in what was ever written. `None` if nothing was.
    pub fn flip_some_bit(&self, rng: &mut fastrand::Rng) -> Option<(FileId, u64, u8)> {
        let written: Vec<FileId> = {
            let state = self.0.borrow();
            let files = state.files.iter().enumerate();
            files.filter(|(_, file)| file.image.has_written()).map(|(index, _)| FileId(index)).collect()
        };
        let file = rng.choice(written)?;
        let offset = self.0.borrow().files[file.0].image.some_written_byte(rng)?;
        let bit = rng.u8(0..8);
        self.flip_bit(file, offset, bit);
        Some((file, offset, bit))
    }

    /// As [`SimulatedDisk::flip_some_bit`], within a range of one file.
    pub fn flip_some_bit_in(
        &self,
        file: FileId,
        range: Range<u64>,
        rng: &mut fastrand::Rng,
    ) -> Option<(FileId, u64, u8)> {
        let offset = self.0.borrow().files[file.0].image.some_written_byte_in(range, rng)?;
        let bit = rng.u8(0..8);
        self.flip_bit(file, offset, bit);
        Some((file, offset, bit))
    }

    /// Operations that `step` can complete.
    pub fn pending(&self) -> usize {
        self.0.borrow().operations.iter().filter(|operation| operation.is_ready()).count()
    }

    /// Operations that are not done: ready, hanging, or with a completion that never comes.
    pub fn in_flight(&self) -> usize {
        self.0.borrow().operations.len()
    }

    /// Operations that hang until `release_stalled` or a crash.
    pub fn stalled(&self) -> usize {
        self.0.borrow().operations.iter().filter(|operation| operation.stalled).count()
    }

    /// Lets what hangs go on.
    pub fn release_stalled(&self) {
        self.0.borrow_mut().operations.iter_mut().for_each(|operation| operation.stalled = false);
    }

    /// Completes one pending operation, any of them; false if there is none. An operation that the plan lets hang counts
    /// as a step too.
    pub fn step(&self, rng: &mut fastrand::Rng) -> bool {
        let pending = self.pending();
        if pending > 0 {
            self.complete_one(rng.usize(0..pending), rng);
        }
        pending > 0
    }

    /// Completes the pending operation of this index, in the order they were posted.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn complete_one(&self, choice: usize, rng: &mut fastrand::Rng) {
        let (operation, result) = {
            let mut state = self.0.borrow_mut();
            let mut pending =
                state.operations.iter().enumerate().filter(|(_, operation)| operation.is_ready());
            let (index, operation) =
                pending.nth(choice).expect("the choice is one of the pending operations");
            let (file, passed_over) = (operation.file, operation.passed_over);
            if passed_over > 0 {
                state.operations[index].passed_over -= 1;
                return;
            }
            if state.faults.strikes(file, Fault::Stall, rng) {
                state.operations[index].stalled = true;
                return;
            }
            let lie = state.options.lie;
            if lie.is_some_and(|lie| lie.one_in(Lie::LosesCompletions, rng)) {
                // It stays among the operations, so that a crash gives its memory back.
                state.operations[index].lost = true;
                return;
            }
            state.moments += 1;
            let operation = state.operations.remove(index);
            let result = state.perform(&operation, rng);
            (operation, result)
        };
        // Outside the borrow: completing wakes tasks and may drop leases.
        operation.queue.complete(operation.id, result);
    }

    /// The power goes. Each write in flight or not yet durable is kept, lost or torn by itself, growth likewise; then
    /// what is left is what the disk holds. Operations in flight complete with `EIO`, so that their memory comes back:
    /// drop the tasks of the engine first, none of them lives to see it. Handles opened before are dead.
    pub fn crash(&self, rng: &mut fastrand::Rng) {
        self.crash_with(Fates::Drawn, rng);
    }

    /// As [`SimulatedDisk::crash`], but every write is kept and only the one with this number suffers the loss: for
    /// going through all of them, one after the other. Numbers run from 0 to below [`SimulatedDisk::undecided`].
    pub fn crash_losing(&self, victim: usize, loss: Loss, rng: &mut fastrand::Rng) {
        self.crash_with(Fates::AllBut { victim, loss, seen: 0 }, rng);
    }

    /// How many operations were posted and how many completed, together: between two moments a crash finds the same.
    pub fn moments(&self) -> u64 {
        self.0.borrow().moments
    }

    /// Whether a write that begins in this range of the file is on its way.
    pub fn is_writing(&self, file: FileId, range: &Range<u64>) -> bool {
        let begins = |operation: &Operation| match operation.kind {
            Kind::Write { offset, .. } => operation.file == file && range.contains(&offset),
            _ => false,
        };
        self.0.borrow().operations.iter().any(begins)
    }

    /// Writes that a crash now would decide about: in flight, or completed and not durable.
    pub fn undecided(&self) -> usize {
        let state = self.0.borrow();
        let writes = state.operations.iter().filter(|operation| matches!(operation.kind, Kind::Write { .. }));
        writes.count() + state.files.iter().map(|file| file.image.undecided()).sum::<usize>()
    }

    fn crash_with(&self, mut fates: Fates, rng: &mut fastrand::Rng) {
        let operations = {
            let mut state = self.0.borrow_mut();
            let state = &mut *state;
            state.life += 1;
            let mut operations = std::mem::take(&mut state.operations);
            if matches!(fates, Fates::Drawn) {
                rng.shuffle(&mut operations);
            }
            for operation in &operations {
                let room = state.room();
                let image = &mut state.files[operation.file.0].image;
                match operation.kind {
                    Kind::Write { offset, .. } => {
                        if let Ok(source) = source_of(operation, offset, image.bytes()) {
                            image.write(offset, &source, Reach::InFlight);
                        }
                    }
                    Kind::Grow { bytes } if image.can_grow(bytes, room).is_ok() => image.grow(bytes),
                    Kind::Grow { .. } | Kind::Read { .. } | Kind::Sync { .. } => {}
                }
            }
            for file in &mut state.files {
                file.image.crash(&mut fates, rng, &mut state.faults.counts);
            }
            operations
        };
        for operation in operations {
            operation.queue.complete(operation.id, Err(bounds::os_error(Errno::IO)));
        }
    }

    /// What has gone wrong so far, by kind.
    pub fn counts(&self) -> FaultCounts {
        self.0.borrow().faults.counts
    }

    /// Bytes of the file as a read would see them now; for checks.
    pub fn peek(&self, file: FileId, offset: u64, bytes: usize) -> Vec<u8> {
        let mut target = vec![0; bytes];
        self.0.borrow().files[file.0].image.read(offset, &mut target);
        target
    }

    /// Length of the file now.
    pub fn file_bytes(&self, file: FileId) -> u64 {
        self.0.borrow().files[file.0].image.bytes()
    }
}

/// The blocks of a file that hold some of these bytes.
fn blocks_of(file: FileId, offset: u64, bytes: usize) -> Range<(FileId, u64)> {
    let block = BLOCK_BYTES as u64;
    (file, offset / block)..(file, (offset + bytes as u64).div_ceil(block))
}

/// The blocks of a write in flight, which there are if it may be made to a device of so many bytes.
fn source_of(operation: &Operation, offset: u64, device_bytes: u64) -> Result<Vec<Block>, OsError> {
    operation.queue.with_memory(operation.id, |memory| {
        let Memory::Scatter(source) = memory else { unreachable!("a write carries pieces") };
        bounds::check_write(offset, source.bytes(), device_bytes)?;
        Ok(image::blocks_of_pieces(source.pieces().iter().map(|piece| &piece[..])))
    })
}

impl State {
    fn room(&self) -> u64 {
        let used: u64 = self.files.iter().map(|file| file.image.bytes()).sum();
        self.options.bytes_max.saturating_sub(used)
    }

    /// How often an operation is passed over before it is done.
    fn slowness(&self, file: FileId, kind: Kind) -> u32 {
        let Kind::Write { offset, .. } = kind else { return 0 };
        let is_there = |(at, range, _): &&(FileId, Range<u64>, u32)| *at == file && range.contains(&offset);
        self.slow.iter().find(is_there).map_or(0, |(_, _, times)| *times)
    }

    fn perform(&mut self, operation: &Operation, rng: &mut fastrand::Rng) -> Result<u32, OsError> {
        let file = operation.file;
        match operation.kind {
            Kind::Read { offset, at, bytes } => {
                let image = &self.files[file.0].image;
                let mut count = bounds::check_read(offset, bytes, image.bytes())?;
                let bad = self.bad.range(blocks_of(file, offset, count)).next().is_some();
                if self.faults.strikes(file, Fault::ReadError, rng) || bad {
                    self.faults.struck.insert((file, Fault::ReadError));
                    return Err(bounds::os_error(Errno::IO));
                }
                if count > 0 && self.faults.strikes(file, Fault::ShortRead, rng) {
                    count = rng.usize(0..count / BLOCK_BYTES) * BLOCK_BYTES;
                }
                let flips = self.options.lie.is_some_and(|lie| lie.one_in(Lie::FlipsReads, rng));
                operation.queue.with_memory(operation.id, |memory| {
                    let Memory::Lease(lease) = memory else { unreachable!("a read carries a lease") };
                    let target = &mut lease.full_mut()[at..at + count];
                    image.read(offset, target);
                    if flips && !target.is_empty() {
                        target[rng.usize(..count)] ^= 1 << rng.u8(0..8);
                    }
                });
                Ok(count as u32)
            }
            Kind::Write { offset, durability } => {
                let image = &mut self.files[file.0].image;
                let source = source_of(operation, offset, image.bytes())?;
                let bytes = source.len() * BLOCK_BYTES;
                if self.faults.strikes(file, Fault::NoSpace, rng) {
                    return Err(bounds::os_error(Errno::NOSPC));
                }
                if self.faults.strikes(file, Fault::WriteError, rng) {
                    // A failed write may have left any front of itself behind.
                    let blocks = rng.usize(0..=source.len());
                    image.write(offset, &source[..blocks], Reach::Completed);
                    return Err(bounds::os_error(Errno::IO));
                }
                if bytes > BLOCK_BYTES && self.faults.strikes(file, Fault::ShortWrite, rng) {
                    let blocks = rng.usize(1..source.len());
                    image.write(offset, &source[..blocks], Reach::Completed);
                    return Ok((blocks * BLOCK_BYTES) as u32);
                }
                let mut place = offset;
                let is_aimed_at = |(at, range): &mut (FileId, Range<u64>)| {
                    *at == file && range.contains(&offset) && durability == Durability::Durable
                };
                if self.misdirected.take_if(is_aimed_at).is_some() {
                    self.faults.inject(file, Fault::MisdirectedWrite, Times::Once);
                }
                if self.faults.strikes(file, Fault::MisdirectedWrite, rng) {
                    let blocks = (image.bytes() - bytes as u64) / BLOCK_BYTES as u64;
                    place = rng.u64(0..=blocks) * BLOCK_BYTES as u64;
                    self.damaged.insert(file);
                }
                let reach = match durability {
                    Durability::Durable if self.options.lie != Some(Lie::IgnoresDurable) => Reach::Durable,
                    Durability::Durable | Durability::Buffered => Reach::Completed,
                };
                if self.options.lie.is_some_and(|lie| lie.one_in(Lie::DropsWrites, rng)) {
                    return Ok(bytes as u32);
                }
                image.write(place, &source, reach);
                let written: Vec<_> = self.bad.range(blocks_of(file, place, bytes)).copied().collect();
                written.iter().for_each(|block| {
                    self.bad.remove(block);
                });
                Ok(bytes as u32)
            }
            Kind::Sync { upto } => {
                let failed = self.faults.strikes(file, Fault::SyncError, rng);
                let image = &mut self.files[file.0].image;
                if failed {
                    image.fail_sync(upto);
                    return Err(bounds::os_error(Errno::IO));
                }
                if self.options.lie != Some(Lie::IgnoresSync) {
                    image.sync(upto);
                }
                Ok(0)
            }
            Kind::Grow { bytes } => {
                let room = self.room();
                self.files[file.0].image.can_grow(bytes, room)?;
                if self.faults.strikes(file, Fault::NoSpace, rng) {
                    return Err(bounds::os_error(Errno::NOSPC));
                }
                self.files[file.0].image.grow(bytes);
                Ok(0)
            }
        }
    }
}

/// One core's handle of a file of a simulated disk.
pub struct SimulatedDevice {
    disk: SimulatedDisk,
    file: FileId,
    queue: Queue,
    life: u64,
}

impl SimulatedDevice {
    fn post(&self, slot: Slot, memory: Memory, kind: impl FnOnce(&FileImage) -> Kind) -> Pending {
        let (id, pending) = self.queue.post(slot, memory);
        let mut state = self.disk.0.borrow_mut();
        if state.life != self.life {
            drop(state);
            self.queue.complete(id, Err(bounds::os_error(Errno::NODEV)));
            return pending;
        }
        let kind = kind(&state.files[self.file.0].image);
        let passed_over = state.slowness(self.file, kind);
        state.moments += 1;
        state.operations.push(Operation {
            queue: self.queue.clone(),
            id,
            file: self.file,
            kind,
            passed_over,
            stalled: false,
            lost: false,
        });
        pending
    }
}

impl BlockDevice for SimulatedDevice {
    fn geometry(&self) -> DeviceGeometry {
        let state = self.disk.0.borrow();
        let image = &state.files[self.file.0].image;
        DeviceGeometry {
            block_bytes: BLOCK_BYTES as u32,
            bytes: image.bytes(),
            growable: image.is_growable(),
            volatile_cache: state.options.volatile_cache,
            direct: true,
        }
    }

    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn read(&self, slot: Slot, offset: u64, lease: BufferLease, at: usize, bytes: usize) -> Pending {
        assert!(at + bytes <= lease.capacity(), "the read fits in the lease");
        self.post(slot, Memory::Lease(lease), |_| Kind::Read { offset, at, bytes })
    }

    fn write(&self, slot: Slot, offset: u64, source: ScatterList, durability: Durability) -> Pending {
        self.post(slot, Memory::Scatter(source), |_| Kind::Write { offset, durability })
    }

    fn sync(&self, slot: Slot) -> Pending {
        self.post(slot, Memory::None, |image| Kind::Sync { upto: image.now() })
    }

    fn grow(&self, slot: Slot, bytes: u64) -> Pending {
        self.post(slot, Memory::None, |_| Kind::Grow { bytes })
    }
}

#[cfg(test)]
mod tests;
