//! The files of a store on real devices: how they are found, made and opened.
//!
//! A directory, which is itself locked, holds `superblock`, and for each of its shards `shard-000.log` and `shard-000.data`. A block device
//! holds the same structures in one piece (see the disk format). The superblock is written last and appears whole, by
//! a rename: a store without one was never finished, and `formatting` says so beyond doubt.

use crate::{
    device::{
        BlockDevice,
        file::{self, FileDevice, OpenFile, StoreLock, sync_directory},
    },
    error::OpenError,
    layout::{
        Anchor, BLOCK_BYTES, COPIES, DecodeError, Geometry, SecretKey, Superblock, anchor_offset,
        disagreeing,
        regions::{Region, SUPERBLOCK_FILE_BYTES, superblock_offset},
    },
    planted::{Point, reach},
    reactor::Core,
    shard::ShardFiles,
    store::vacant,
};
use crossdock_transport::{
    memory::{Pool, ScatterList},
    ring::{Durability, Ring},
};
use std::{
    fs, io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    rc::Rc,
};

const SUPERBLOCK: &str = "superblock";
const SUPERBLOCK_NEW: &str = "superblock.new";
const FORMATTING: &str = "formatting";

/// A directory or block device that holds shards of a store: locked, or only looked at.
pub(crate) struct DataPath {
    pub(crate) path: PathBuf,
    raw: Option<OpenFile>,
    read_only: bool,
    _lock: Option<StoreLock>,
}

/// The open files of one shard.
#[derive(Clone)]
pub(crate) struct OpenShard {
    log: OpenFile,
    data: OpenFile,
    log_region: Region,
    zone_bytes: u32,
    shared: bool,
    /// Zones of a window; files have as many as the format allows.
    pub(crate) zones: Option<u32>,
}

impl DataPath {
    /// Locks a directory, which is made if `create`, or a block device.
    pub(crate) fn lock(path: &Path, create: bool) -> Result<DataPath, OpenError> {
        let missing = !path.exists();
        if missing && !create {
            return Err(OpenError::Missing { path: path.into() });
        }
        if missing {
            fs::create_dir_all(path).map_err(io_error("create", path))?;
        }
        if path.is_dir() {
            let lock = StoreLock::acquire(path).map_err(open_error)?;
            return Ok(DataPath { path: path.into(), raw: None, read_only: false, _lock: Some(lock) });
        }
        let lock = StoreLock::acquire(path).map_err(open_error)?;
        let raw = OpenFile::open(path).map_err(open_error)?;
        Ok(DataPath { path: path.into(), raw: Some(raw), read_only: false, _lock: Some(lock) })
    }

    /// A directory or block device to look at: nothing there is changed. The lock, if given, keeps it as it is.
    pub(crate) fn look_at(path: &Path, lock: Option<StoreLock>) -> Result<DataPath, OpenError> {
        if !path.exists() {
            return Err(OpenError::Missing { path: path.into() });
        }
        let raw = match path.is_dir() {
            true => None,
            false => Some(OpenFile::open_read_only(path).map_err(open_error)?),
        };
        Ok(DataPath { path: path.into(), raw, read_only: true, _lock: lock })
    }

    fn open_file(&self, path: &Path) -> Result<OpenFile, OpenError> {
        let opened = if self.read_only { OpenFile::open_read_only(path) } else { OpenFile::open(path) };
        opened.map_err(open_error)
    }

    /// The file that holds a region of a shard.
    pub(crate) fn shard_file(&self, shard: u16, region: crate::error::Region) -> PathBuf {
        if self.raw.is_some() {
            return self.path.clone();
        }
        let [log, data] = shard_paths(&self.path, shard);
        match region {
            crate::error::Region::Log => log,
            crate::error::Region::Data => data,
        }
    }

    /// The file that holds the superblock.
    pub(crate) fn superblock_file(&self) -> PathBuf {
        if self.raw.is_some() { self.path.clone() } else { self.path.join(SUPERBLOCK) }
    }

    /// Bytes that shards may take here: of the file system, or of the device.
    pub(crate) fn capacity_bytes(&self) -> Result<u64, OpenError> {
        if let Some(raw) = &self.raw {
            return Ok(raw.bytes());
        }
        let stat =
            rustix::fs::statvfs(&self.path).map_err(|errno| io_error("look at", &self.path)(errno.into()))?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    /// Whether a store was finished here.
    pub(crate) fn is_formatted(&self, core: &Core, ring: &Ring) -> Result<bool, OpenError> {
        match &self.raw {
            None => {
                let there = self.path.join(SUPERBLOCK).exists();
                let unfinished = self.path.join(FORMATTING).exists() && !self.was_opened()?;
                if !there && !unfinished && self.has_shard_files()? {
                    // Data without its superblock: never format over it.
                    return Err(OpenError::Damaged {
                        path: self.path.join(SUPERBLOCK),
                        what: "the superblock is missing, but shards are there:",
                        source: DecodeError::Truncated,
                    });
                }
                Ok(there)
            }
            Some(raw) => {
                let blocks = self.read_copies(core, ring, raw)?;
                // Nor over what can not be read.
                Ok(blocks
                    .iter()
                    .any(|block| block.as_ref().is_none_or(|block| block.iter().any(|byte| *byte != 0))))
            }
        }
    }

    fn has_shard_files(&self) -> Result<bool, OpenError> {
        let entries = fs::read_dir(&self.path).map_err(io_error("read", &self.path))?;
        Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("shard-")))
    }

    /// Whether a shard file says that a store was opened here: a mark that a format left must not let one be made over it.
    fn was_opened(&self) -> Result<bool, OpenError> {
        let entries = fs::read_dir(&self.path).map_err(io_error("read", &self.path))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with("shard-") || !name.ends_with(".log") {
                continue;
            }
            let file = fs::File::open(&path).map_err(io_error("open", &path))?;
            let mut block = vec![0; BLOCK_BYTES];
            for copy in 0..COPIES {
                let is_read = file.read_exact_at(&mut block, anchor_offset(copy)).is_ok();
                if is_read && Anchor::claimed_generation(&block).is_some_and(|generation| generation > 1) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether these shards lie here as the store of that superblock makes them, and were never opened.
    pub(crate) fn is_left_unnamed(
        &self,
        superblock: &Superblock,
        shards: Range<u16>,
    ) -> Result<bool, OpenError> {
        let (first, count, secret) = (shards.start, shards.len() as u16, SecretKey(superblock.secret));
        for shard in shards {
            let path = self.shard_file(shard, crate::error::Region::Log);
            if !path.exists() {
                return Ok(false);
            }
            let region = self.open_shard(&superblock.geometry, shard, shard - first, count)?.log_region;
            let file = fs::File::open(&path).map_err(io_error("open", &path))?;
            let mut block = vec![0; BLOCK_BYTES];
            let copies = (0..COPIES).map(|copy| {
                let read = file.read_exact_at(&mut block, region.anchor_offset(copy));
                read.map_err(|_| DecodeError::Unreadable).and_then(|()| Anchor::decode(&block, &secret))
            });
            let anchor = Anchor::choose(&copies.collect::<Vec<_>>());
            let is_new = |anchor: Anchor| {
                anchor.store == superblock.store && anchor.shard == shard && anchor.generation == 1
            };
            if !anchor.is_ok_and(is_new) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes away the mark of an unfinished store, durably.
    fn unmark(&self) -> Result<(), OpenError> {
        let marker = self.path.join(FORMATTING);
        match fs::remove_file(&marker) {
            Ok(()) => sync_directory(&self.path).map_err(open_error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &marker)(error)),
        }
    }

    /// The superblock on which the copies agree. Where it is found the store is finished, and a mark that says otherwise goes.
    pub(crate) fn superblock(&self, core: &Core, ring: &Ring) -> Result<Superblock, OpenError> {
        let copies = self.superblock_copies(core, ring)?;
        let damaged =
            |source| OpenError::Damaged { path: self.superblock_file(), what: "superblock", source };
        let superblock = Superblock::choose(&copies).map_err(damaged)?;
        if !self.read_only {
            self.mend(core, ring, &superblock, &disagreeing(&copies, &superblock));
        }
        if self.raw.is_none() && !self.read_only {
            self.unmark()?;
        }
        Ok(superblock)
    }

    /// Writes the copies anew that are not what the others agree on, so that one that rots is not joined by a second and a third. A
    /// device that does not take them keeps nobody from what it holds.
    fn mend(&self, core: &Core, ring: &Ring, superblock: &Superblock, differing: &[usize]) {
        if differing.is_empty() {
            return;
        }
        let path = self.superblock_file();
        tracing::warn!(path = %path.display(), copies = ?differing, "copies of the superblock are damaged");
        let file = match &self.raw {
            Some(raw) => Ok(raw.clone()),
            None => self.open_file(&path),
        };
        let written = file.and_then(|file| {
            let device = file.on(ring).map_err(io_error("open", &path))?;
            let (block, copies) = (superblock.encode(), differing.to_vec());
            core.block_on(write_copies(core.pool().clone(), device, path.clone(), block, copies))
        });
        match written {
            Ok(()) => tracing::info!(path = %path.display(), "they were written anew"),
            Err(error) => tracing::warn!(%error, "they could not be written anew"),
        }
    }

    /// The superblock's copies, each as it reads.
    pub(crate) fn superblock_copies(
        &self,
        core: &Core,
        ring: &Ring,
    ) -> Result<Vec<Result<Superblock, DecodeError>>, OpenError> {
        let file = match &self.raw {
            Some(raw) => raw.clone(),
            None => self.open_file(&self.superblock_file())?,
        };
        Ok(decode_copies(&self.read_copies(core, ring, &file)?))
    }

    /// As [`read_copies`], of this path.
    fn read_copies(
        &self,
        core: &Core,
        ring: &Ring,
        file: &OpenFile,
    ) -> Result<Vec<Option<Vec<u8>>>, OpenError> {
        let device = file.on(ring).map_err(io_error("open", &self.path))?;
        let (path, pool) = (self.path.clone(), core.pool().clone());
        core.block_on(async move { read_copies(&device, &pool, &path).await })
    }

    /// Refuses a device on which something lies. It is to have `count` shards; nothing of it is changed. A directory says by its
    /// names what is in it: see [`DataPath::is_formatted`].
    pub(crate) fn check_vacant(
        &self,
        core: &Core,
        ring: &Ring,
        geometry: &Geometry,
        count: u16,
    ) -> Result<(), OpenError> {
        let Some(raw) = &self.raw else { return Ok(()) };
        let device = raw.on(ring).map_err(io_error("open", &self.path))?;
        let block = BLOCK_BYTES as u64;
        // A file is read in whole blocks only; a device may end within one, and that end is where the second GPT lies.
        let bytes = if raw.is_growable() { raw.bytes() / block * block } else { raw.bytes() };
        let (path, pool) = (self.path.clone(), core.pool().clone());
        let offsets = vacant::pieces(bytes, geometry, count);
        core.block_on(async move {
            for offset in offsets {
                let there = vacant::PIECE_BYTES.min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
                let lease = pool.acquire(vacant::PIECE_BYTES).await;
                let slot = device.queue().slot().await;
                let asked = there.next_multiple_of(BLOCK_BYTES);
                let (result, mut lease) = device.read(slot, offset, lease, 0, asked).await.into_lease();
                let count = result.map_err(|error| io_error("read", &path)(error.into()))? as usize;
                if count < there {
                    // What was not read may be anything.
                    return Err(io_error("read", &path)(io::ErrorKind::UnexpectedEof.into()));
                }
                lease.set_len(there);
                if let Some(at) = lease.as_slice().iter().position(|byte| *byte != 0) {
                    return Err(OpenError::Occupied { path, offset: offset + at as u64 });
                }
            }
            Ok(())
        })
    }

    /// Makes the empty files of the shards `first..first + count`. What an unfinished format left is removed.
    pub(crate) fn create_shards(&self, first: u16, count: u16) -> Result<(), OpenError> {
        if self.raw.is_some() {
            return Ok(());
        }
        let marker = self.path.join(FORMATTING);
        fs::write(&marker, b"").map_err(io_error("create", &marker))?;
        sync_directory(&self.path).map_err(open_error)?;
        for shard in first..first + count {
            for path in shard_paths(&self.path, shard) {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(io_error("remove", &path)(error));
                    }
                    _ => {}
                }
                OpenFile::create(&path).map_err(open_error)?;
            }
        }
        sync_directory(&self.path).map_err(open_error)
    }

    /// Writes the superblock: from now on there is a store. Everything else must be durable.
    pub(crate) fn finish_format(
        &self,
        core: &Core,
        ring: &Ring,
        superblock: &Superblock,
    ) -> Result<(), OpenError> {
        let new = self.path.join(SUPERBLOCK_NEW);
        let file = match &self.raw {
            Some(raw) => raw.clone(),
            None => {
                let _ = fs::remove_file(&new);
                OpenFile::create(&new).map_err(open_error)?
            }
        };
        let device = file.on(ring).map_err(io_error("open", &self.path))?;
        let (block, pool, path) = (superblock.encode(), core.pool().clone(), self.path.clone());
        core.block_on(async move {
            if device.geometry().growable {
                let slot = device.queue().slot().await;
                let grown = device.grow(slot, SUPERBLOCK_FILE_BYTES).await.result;
                grown.map_err(|error| io_error("write the superblock of", &path)(error.into()))?;
            }
            write_copies(pool, device, path, block, (0..COPIES).collect()).await
        })?;
        reach(Point::SuperblockWritten);
        if self.raw.is_none() {
            let there = self.path.join(SUPERBLOCK);
            fs::rename(&new, &there).map_err(io_error("rename", &new))?;
            sync_directory(&self.path).map_err(open_error)?;
            reach(Point::SuperblockNamed);
            self.unmark()?;
        }
        Ok(())
    }

    /// Opens the files of the `index`-th of the `count` shards that live here.
    pub(crate) fn open_shard(
        &self,
        geometry: &Geometry,
        shard: u16,
        index: u16,
        count: u16,
    ) -> Result<OpenShard, OpenError> {
        if let Some(raw) = &self.raw {
            let window = Region::window(raw.bytes(), count, index, geometry.zone_bytes);
            let (region, zones) = window.ok_or_else(|| {
                OpenError::Options(format!("{} is too small for {count} shards", self.path.display()))
            })?;
            return Ok(OpenShard {
                log: raw.clone(),
                data: raw.clone(),
                log_region: region,
                zone_bytes: geometry.zone_bytes,
                shared: true,
                zones: Some(zones),
            });
        }
        let [log, data] = shard_paths(&self.path, shard);
        Ok(OpenShard {
            log: self.open_file(&log)?,
            data: self.open_file(&data)?,
            log_region: Region::log_file(geometry.zone_bytes),
            zone_bytes: geometry.zone_bytes,
            shared: false,
            zones: None,
        })
    }
}

/// Writes copies of the superblock, each durable before the next.
async fn write_copies(
    pool: Pool,
    device: FileDevice,
    path: PathBuf,
    block: [u8; BLOCK_BYTES],
    copies: Vec<usize>,
) -> Result<(), OpenError> {
    let fail = |error: crossdock_transport::operation::OsError| {
        io_error("write the superblock of", &path)(error.into())
    };
    for copy in copies {
        let mut lease = pool.acquire(BLOCK_BYTES).await;
        lease.set_len(BLOCK_BYTES);
        lease.as_mut_slice().copy_from_slice(&block);
        let slot = device.queue().slot().await;
        let piece = ScatterList::from(lease.freeze());
        let written = device.write(slot, superblock_offset(copy), piece, Durability::Durable).await;
        written.result.map_err(fail)?;
    }
    let slot = device.queue().slot().await;
    device.sync(slot).await.result.map_err(fail).map(drop)
}

impl OpenShard {
    /// Whether reads and writes go past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.log.is_direct() && self.data.is_direct()
    }

    /// This core's handles of the files.
    pub(crate) fn on(&self, ring: &Ring) -> io::Result<ShardFiles> {
        let log: Rc<dyn BlockDevice> = Rc::new(self.log.on(ring)?);
        match self.shared {
            true => Ok(ShardFiles::of_window(log, self.log_region, self.zone_bytes)),
            false => Ok(ShardFiles::of_files(log, Rc::new(self.data.on(ring)?), self.zone_bytes)),
        }
    }
}

/// The blocks where copies of the superblock lie, without those that can not be read.
///
/// # Errors
/// None of them can be read.
async fn read_copies(
    device: &dyn BlockDevice,
    pool: &Pool,
    path: &Path,
) -> Result<Vec<Option<Vec<u8>>>, OpenError> {
    let (mut blocks, mut failed) = (Vec::new(), None);
    for copy in 0..COPIES {
        let lease = pool.acquire(BLOCK_BYTES).await;
        let slot = device.queue().slot().await;
        let offset = superblock_offset(copy);
        let (result, mut lease) = device.read(slot, offset, lease, 0, BLOCK_BYTES).await.into_lease();
        match result {
            Ok(count) => {
                lease.set_len((count as usize).min(BLOCK_BYTES));
                blocks.push(Some(lease.as_slice().to_vec()));
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), copy, %error, "a copy of the superblock is unreadable");
                failed.get_or_insert(error);
                blocks.push(None);
            }
        }
    }
    match failed {
        Some(error) if blocks.iter().all(Option::is_none) => Err(io_error("read", path)(error.into())),
        _ => Ok(blocks),
    }
}

fn decode_copies(blocks: &[Option<Vec<u8>>]) -> Vec<Result<Superblock, DecodeError>> {
    let decode = |block: &Option<Vec<u8>>| match block {
        Some(block) => Superblock::decode(block),
        None => Err(DecodeError::Unreadable),
    };
    blocks.iter().map(decode).collect()
}

fn shard_paths(directory: &Path, shard: u16) -> [PathBuf; 2] {
    [directory.join(format!("shard-{shard:03}.log")), directory.join(format!("shard-{shard:03}.data"))]
}

fn open_error(error: file::OpenError) -> OpenError {
    match error {
        file::OpenError::Locked { path } => OpenError::Locked { path },
        other => OpenError::File(other),
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_path_buf();
    move |source| OpenError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world::{World, WorldOptions};
    use crossdock_transport::operation::Queue;
    use std::collections::BTreeSet;

    /// The superblock is found with any two of its copies; one that is left alone is damage, and of none that can be read the device's
    /// error is told. Which of them can not be read makes no difference.
    #[test]
    fn superblock_copies_that_can_not_be_read_are_done_without() {
        for unreadable in 0u32..1 << COPIES {
            let is_bad = |copy: &usize| unreadable & 1 << copy != 0;
            let bad: BTreeSet<usize> = (0..COPIES).filter(is_bad).collect();
            let mut world = World::new(1, WorldOptions { cores: 1, shards: 1, ..WorldOptions::default() });
            world.open().unwrap();
            let geometry = world.engine(0).geometry();
            let superblock = Superblock {
                store: 1,
                epoch: 1,
                device_index: 0,
                device_count: 1,
                shard_first: 0,
                geometry,
                secret: [2; 16],
                features: 0,
                created_ms: 3,
            };
            let (disk, queue) = (world.disk.clone(), Queue::new(8));
            let file = disk.create_file("superblock", SUPERBLOCK_FILE_BYTES);
            let device = disk.open(file, &queue);
            let pool = world.engine(0).core().pool().clone();
            let block = superblock.encode();
            let copies = world.run(async move {
                for copy in 0..COPIES {
                    let mut lease = pool.acquire(BLOCK_BYTES).await;
                    lease.set_len(BLOCK_BYTES);
                    lease.as_mut_slice().copy_from_slice(&block);
                    let (slot, piece) = (device.queue().slot().await, ScatterList::from(lease.freeze()));
                    let written = device.write(slot, superblock_offset(copy), piece, Durability::Durable);
                    assert_eq!(written.await.result.ok(), Some(BLOCK_BYTES as u32));
                }
                bad.iter().for_each(|copy| disk.make_bad(file, superblock_offset(*copy)));
                read_copies(&device, &pool, Path::new("superblock")).await
            });
            let chosen = copies.map(|blocks| Superblock::choose(&decode_copies(&blocks)));
            match COPIES - unreadable.count_ones() as usize {
                0 => assert!(matches!(chosen, Err(OpenError::Io { .. })), "{:?}", chosen.err()),
                1 => assert_eq!(chosen.ok(), Some(Err(DecodeError::Disagreement))),
                _ => assert_eq!(chosen.ok(), Some(Ok(superblock))),
            }
        }
    }
}
