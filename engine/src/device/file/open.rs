//! Opening a file or block device: what it can do, and whether someone else has it.

use super::super::{DeviceGeometry, bounds};
use crate::layout::BLOCK_BYTES;
use crossdock_transport::operation::OsError;
use rustix::{
    fs::{AtFlags, FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, StatxFlags},
    io::Errno,
};
use std::{
    io,
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused.
    #[error("{action} {}", path.display())]
    System {
        /// What was tried: "open", "lock", …
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process has it, or another store of this one, or one that is still closing.
    #[error("{} is locked by another process, or by a store of this process that is still closing", path.display())]
    Locked {
        /// The file that is locked.
        path: PathBuf,
    },
    /// A block device that somebody holds: it is mounted, or a part of an array or a volume, or another program has it to itself.
    #[error("{} is in use: it is mounted, or part of an array or a volume, or another program has it", path.display())]
    InUse {
        /// The device.
        path: PathBuf,
    },
    /// Neither a regular file nor a block device.
    #[error("{} is neither a file nor a block device", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// It wants offsets or memory aligned to more than a block.
    #[error("{} needs accesses aligned to {alignment} bytes, more than the {BLOCK_BYTES} of the format", path.display())]
    Alignment {
        /// The file.
        path: PathBuf,
        /// What it wants, bytes.
        alignment: u32,
    },
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> OpenError {
    let path = path.to_owned();
    move |errno| OpenError::System { action, path, source: errno.into() }
}

/// A file or block device, open for reading and writing. `Send + Sync`, cheap to clone; closed with the last clone and
/// the last handle.
#[derive(Clone, Debug)]
pub struct OpenFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fd: OwnedFd,
    is_block_device: bool,
    volatile_cache: bool,
    direct: bool,
    allocates: bool,
    bytes: AtomicU64,
}

impl OpenFile {
    /// Opens what is there: a regular file or a block device. A device is taken exclusively until it is closed: it can not be mounted
    /// meanwhile, nor opened so again, and one that is mounted or in use otherwise is not opened.
    ///
    /// # Errors
    /// [`OpenError::InUse`] for such a device; otherwise [`OpenError`], with the path.
    pub fn open(path: &Path) -> Result<OpenFile, OpenError> {
        OpenFile::with_flags(path, OFlags::RDWR)
    }

    /// Opens what is there to look at it: nothing is changed, and every write is refused by the system.
    ///
    /// # Errors
    /// [`OpenError`], with the path.
    pub fn open_read_only(path: &Path) -> Result<OpenFile, OpenError> {
        OpenFile::with_flags(path, OFlags::RDONLY)
    }

    /// Makes a file that is not there yet, of no bytes. Its name is durable after [`sync_directory`].
    ///
    /// # Errors
    /// [`OpenError`], with the path; also when there is such a file.
    pub fn create(path: &Path) -> Result<OpenFile, OpenError> {
        OpenFile::with_flags(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn with_flags(path: &Path, flags: OFlags) -> Result<OpenFile, OpenError> {
        let is_writable = flags.contains(OFlags::RDWR);
        let flags = flags | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        // Plain first: what the file can do is asked of the open file, not of a name that may change its meaning.
        // open(2): without O_CREAT, O_EXCL is for block devices, and refused with EBUSY while the system uses one. It can not be had
        // later on, so here the name is asked first.
        let is_device = || std::fs::metadata(path).is_ok_and(|status| status.file_type().is_block_device());
        let flags = if is_writable && is_device() { flags | OFlags::EXCL } else { flags };
        let plain = rustix::fs::open(path, flags, mode).map_err(|errno| match errno {
            Errno::BUSY => OpenError::InUse { path: path.into() },
            errno => system("open", path)(errno),
        })?;
        let status = rustix::fs::fstat(&plain).map_err(system("inspect", path))?;
        let (is_block_device, device) = match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => (false, status.st_dev),
            FileType::BlockDevice => (true, status.st_rdev),
            _ => return Err(OpenError::Kind { path: path.into() }),
        };
        let direct = set_direct(&plain, path)?;
        if !direct {
            tracing::warn!(
                path = %path.display(),
                "the file system refuses O_DIRECT: reads and writes go through the page cache, with a copy each"
            );
        }
        // Without changing the length: allocating the first block that a store writes anyway.
        let probe = || rustix::fs::fallocate(&plain, FallocateFlags::KEEP_SIZE, 0, BLOCK_BYTES as u64);
        let allocates = is_writable && !is_block_device && probe() != Err(Errno::OPNOTSUPP);
        let file = OpenFile(Arc::new(Inner {
            fd: plain,
            is_block_device,
            volatile_cache: has_volatile_cache(rustix::fs::major(device), rustix::fs::minor(device)),
            direct,
            allocates,
            bytes: AtomicU64::new(0),
        }));
        file.refresh_bytes().map_err(system("measure", path))?;
        Ok(file)
    }

    /// Bytes it has now. Asks the operating system.
    pub fn bytes(&self) -> u64 {
        // A file that can not be asked keeps the length it had; the operation that follows will say what is wrong.
        self.refresh_bytes().unwrap_or_else(|_| self.bytes_at_least())
    }

    /// Bytes it had when last asked: files only grow, so it has no fewer.
    fn bytes_at_least(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// The length to check an access with that ends at `end`: asks only when the access would be past what is known,
    /// which happens once after a growth. So the data path has no system call here, and a core learns of another's
    /// growth when it needs it.
    pub(super) fn bytes_for(&self, end: u64) -> u64 {
        let known = self.bytes_at_least();
        if end <= known { known } else { self.bytes() }
    }

    pub(super) fn geometry(&self) -> DeviceGeometry {
        DeviceGeometry {
            block_bytes: BLOCK_BYTES as u32,
            bytes: self.bytes(),
            growable: self.is_growable(),
            volatile_cache: self.0.volatile_cache,
            direct: self.0.direct,
        }
    }

    /// Whether reads and writes go past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.0.direct
    }

    pub(crate) fn is_growable(&self) -> bool {
        !self.0.is_block_device
    }

    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.fd.try_clone()
    }

    /// Whether the file system can allocate ahead.
    pub(super) fn allocates(&self) -> bool {
        self.0.allocates
    }

    pub(super) fn truncate(&self, bytes: u64) -> Result<(), OsError> {
        rustix::fs::ftruncate(&self.0.fd, bytes).map_err(bounds::os_error)?;
        self.0.bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn refresh_bytes(&self) -> Result<u64, Errno> {
        let bytes = if self.0.is_block_device {
            rustix::fs::seek(&self.0.fd, SeekFrom::End(0))?
        } else {
            rustix::fs::fstat(&self.0.fd)?.st_size.unsigned_abs()
        };
        self.0.bytes.fetch_max(bytes, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// Turns O_DIRECT on, on the open file. False if the file system has no such thing.
fn set_direct(file: &OwnedFd, path: &Path) -> Result<bool, OpenError> {
    // statx(2), STATX_DIOALIGN, since Linux 6.1: alignments of 0 mean that direct I/O is not supported on this file.
    if let Ok(status) = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        && StatxFlags::from_bits_retain(status.stx_mask).contains(StatxFlags::DIOALIGN)
    {
        let alignment = status.stx_dio_offset_align.max(status.stx_dio_mem_align);
        if alignment == 0 {
            return Ok(false);
        }
        if alignment > BLOCK_BYTES as u32 {
            return Err(OpenError::Alignment { path: path.into(), alignment });
        }
    }
    let flags = rustix::fs::fcntl_getfl(file).map_err(system("inspect", path))?;
    match rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(errno) => Err(system("open for direct access", path)(errno)),
    }
}

/// Whether the block device may lose completed writes with the power. When nobody says, it is taken to be so.
///
/// Linux, Documentation/ABI/stable/sysfs-block, `queue/write_cache`: "write back" or "write through". A partition has no
/// queue of its own; its parent directory is the disk. File systems without a block device (tmpfs, overlays, networks)
/// have none at all.
fn has_volatile_cache(major: u32, minor: u32) -> bool {
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let of_disk = std::fs::read_to_string(device.join("queue/write_cache"));
    let kind = of_disk.or_else(|_| std::fs::read_to_string(device.join("../queue/write_cache")));
    !kind.is_ok_and(|kind| kind.trim() == "write through")
}

/// Makes names in a directory durable.
///
/// # Errors
/// [`OpenError::System`], with the path.
pub fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).map_err(system("open", path))?;
    rustix::fs::fsync(&directory).map_err(system("sync", path))
}

/// Ownership of a store, exclusive or shared with others who only look, as long as it lives: an advisory lock on a file, which the kernel drops with the
/// process, however it ends.
#[derive(Debug)]
pub struct StoreLock {
    _file: OwnedFd,
}

impl StoreLock {
    /// Locks a directory, file or block device that is there.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if someone else has it, also in this process; [`OpenError::System`] otherwise.
    pub fn acquire(path: &Path) -> Result<StoreLock, OpenError> {
        StoreLock::lock(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Locks it for those who only look: they may be many, and no store is opened for writing meanwhile.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if the store is open, also in this process; [`OpenError::System`] otherwise.
    pub fn share(path: &Path) -> Result<StoreLock, OpenError> {
        StoreLock::lock(path, FlockOperation::NonBlockingLockShared)
    }

    fn lock(path: &Path, operation: FlockOperation) -> Result<StoreLock, OpenError> {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(system("open", path))?;
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(StoreLock { _file: file }),
            Err(Errno::WOULDBLOCK) => Err(OpenError::Locked { path: path.into() }),
            Err(errno) => Err(system("lock", path)(errno)),
        }
    }
}
