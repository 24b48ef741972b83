//! Serves a [`Disk`] to the kernel as one file, in the FUSE protocol, without libfuse.
//!
//! The root of the mount is the file itself, so there are no names to look up. The structures are those of
//! `include/uapi/linux/fuse.h`, protocol 7.31; a request is a header of 40 bytes and its arguments:
//!
//! ```text
//! in:  length u32 │ opcode u32 │ unique u64 │ node u64 │ uid u32 │ gid u32 │ pid u32 │ reserved u32 │ arguments
//! out: length u32 │ error  i32 │ unique u64 │ payload
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{Disk, SECTOR_BYTES};
use crate::clock;

const HEADER_BYTES: usize = 40;
/// Arguments of READ and WRITE: handle, offset, size, flags, owner, flags, padding.
const TRANSFER_BYTES: usize = 40;
/// The longest write the kernel is allowed to send; 256 pages are the most it can.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// A write with its head: the kernel demands room for a page more.
const REQUEST_BYTES_MAX: usize = WRITE_BYTES_MAX + 4096;

mod opcode {
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const WRITE: u32 = 16;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FSYNC: u32 = 20;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
}

/// INIT: reads may overtake each other; writes longer than a page; more than 32 pages in a request.
const INIT_FLAGS: u32 = 1 << 0 | 1 << 5 | 1 << 22;
/// OPEN: no page cache between the loop device and us, so that what it wrote has arrived here.
const OPEN_DIRECT: u32 = 1;
/// A regular file that its owner may read and write.
const MODE: u32 = 0o100_600;

/// A disk in service. It leaves the kernel's tree when dropped.
pub(crate) struct Served {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
    service: Option<JoinHandle<()>>,
}

impl Served {
    /// Mounts the disk on the regular file `path`.
    pub(crate) fn mount(disk: Disk, path: &Path) -> Result<Self, String> {
        File::create(path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        let kernel = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(|error| format!("cannot open /dev/fuse: {error}"))?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&kernel);
        let options = format!("fd={descriptor},rootmode={MODE:o},user_id=0,group_id=0");
        let options = std::ffi::CString::new(options).expect("the options hold no zero byte");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("crossdock-disk", path, "fuse", flags, options.as_c_str())
            .map_err(|error| format!("cannot mount on {}: {error}", path.display()))?;
        let disk = Arc::new(Mutex::new(disk));
        let served = Arc::clone(&disk);
        let service = clock::spawn(move || serve(kernel, &served));
        Ok(Self { disk, path: path.to_path_buf(), service: Some(service) })
    }

    /// The file that the loop device is set up on.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The disk. Nothing is read or written while it is held.
    pub(crate) fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("the service does not panic while it holds the disk")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A mount that is still busy goes away when its last user does; then the service ends.
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.path.display());
            return;
        }
        if let Some(service) = self.service.take() {
            let _ = service.join();
        }
    }
}

/// Answers requests until the kernel lets go of the mount.
fn serve(mut kernel: File, disk: &Mutex<Disk>) {
    let mut request = vec![0; REQUEST_BYTES_MAX];
    let mut reply = Vec::with_capacity(REQUEST_BYTES_MAX);
    loop {
        let length = match kernel.read(&mut request) {
            Ok(length) => length,
            // ENODEV: unmounted. The others ask to read again.
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
                _ => return,
            },
        };
        let Some(request) = request.get(..length).and_then(Request::parse) else { return };
        reply.clear();
        reply.extend([0; 16]);
        let answer = {
            let mut disk = disk.lock().expect("nobody panics while holding the disk");
            answer(&request, &mut disk, &mut reply)
        };
        let Some(outcome) = answer else { continue };
        let error = match outcome {
            Ok(()) => 0,
            Err(errno) => {
                reply.truncate(16);
                -errno.raw_os_error()
            }
        };
        let total = u32::try_from(reply.len()).expect("a reply is shorter than the longest request");
        let head = [&total.to_le_bytes()[..], &error.to_le_bytes(), &request.unique.to_le_bytes()].concat();
        reply.splice(..16, head);
        // A request that was interrupted has nobody waiting for its reply any more.
        if kernel.write_all(&reply).is_err() {
            continue;
        }
    }
}

struct Request<'a> {
    opcode: u32,
    unique: u64,
    arguments: &'a [u8],
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, arguments) = bytes.split_at_checked(HEADER_BYTES)?;
        Some(Self { opcode: u32_at(head, 4)?, unique: u64_at(head, 8)?, arguments })
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// Carries out one request; none for requests that have no reply.
fn answer(request: &Request<'_>, disk: &mut Disk, reply: &mut Vec<u8>) -> Option<Result<(), Errno>> {
    Some(match request.opcode {
        opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return None,
        opcode::INIT => init(request.arguments, reply),
        opcode::GETATTR | opcode::SETATTR => {
            attributes(disk.size_bytes(), reply);
            Ok(())
        }
        opcode::OPEN => {
            reply.extend(0_u64.to_le_bytes());
            reply.extend(OPEN_DIRECT.to_le_bytes());
            reply.extend(0_u32.to_le_bytes());
            Ok(())
        }
        opcode::READ => read(request.arguments, disk, reply),
        opcode::WRITE => write(request.arguments, disk, reply),
        opcode::FSYNC => disk.flush().map_err(|_| Errno::IO),
        // The last close of a file is no flush of a disk.
        opcode::FLUSH | opcode::RELEASE | opcode::DESTROY => Ok(()),
        // Whatever else the kernel tries (extended attributes, holes) it can do without.
        _ => Err(Errno::NOSYS),
    })
}

fn init(arguments: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
    let read_ahead = u32_at(arguments, 8).ok_or(Errno::INVAL)?;
    for word in [7, 31, read_ahead, INIT_FLAGS] {
        reply.extend(u32::to_le_bytes(word));
    }
    reply.extend(64_u16.to_le_bytes()); // requests in the background
    reply.extend(48_u16.to_le_bytes()); // … from which on it is congested
    let write_bytes_max = u32::try_from(WRITE_BYTES_MAX).expect("a small constant");
    reply.extend(write_bytes_max.to_le_bytes());
    reply.extend(1_u32.to_le_bytes()); // granularity of times, ns
    reply.extend(256_u16.to_le_bytes()); // pages in a request
    reply.extend([0; 34]); // alignment of maps, more flags, unused
    Ok(())
}

fn attributes(size_bytes: u64, reply: &mut Vec<u8>) {
    reply.extend(3600_u64.to_le_bytes()); // seconds for which this holds
    reply.extend(0_u64.to_le_bytes()); // nanoseconds, padding
    for word in [1, size_bytes, size_bytes / 512, 0, 0, 0] {
        reply.extend(u64::to_le_bytes(word)); // inode, size, blocks, three times
    }
    let block = u32::try_from(SECTOR_BYTES).expect("a small constant");
    for word in [0, 0, 0, MODE, 1, 0, 0, 0, block, 0] {
        reply.extend(u32::to_le_bytes(word)); // three times' ns, mode, links, uid, gid, device, block size, flags
    }
}

/// The offset and the size of a transfer that lies inside the disk.
fn transfer(arguments: &[u8], disk: &Disk) -> Result<(u64, usize), Errno> {
    let offset = u64_at(arguments, 8).ok_or(Errno::INVAL)?;
    let size = u32_at(arguments, 16).ok_or(Errno::INVAL)?;
    let end = offset.checked_add(u64::from(size)).ok_or(Errno::INVAL)?;
    if end > disk.size_bytes() {
        return Err(Errno::NOSPC);
    }
    Ok((offset, usize::try_from(size).map_err(|_| Errno::INVAL)?))
}

fn read(arguments: &[u8], disk: &Disk, reply: &mut Vec<u8>) -> Result<(), Errno> {
    let (offset, size) = transfer(arguments, disk)?;
    let start = reply.len();
    reply.resize(start + size, 0);
    let buffer = reply.get_mut(start..).ok_or(Errno::INVAL)?;
    disk.read(offset, buffer).map_err(|_| Errno::IO)
}

fn write(arguments: &[u8], disk: &mut Disk, reply: &mut Vec<u8>) -> Result<(), Errno> {
    let (offset, size) = transfer(arguments, disk)?;
    let bytes = arguments.get(TRANSFER_BYTES..).and_then(|data| data.get(..size)).ok_or(Errno::INVAL)?;
    disk.write(offset, bytes).map_err(|_| Errno::IO)?;
    reply.extend(u32::try_from(size).map_err(|_| Errno::INVAL)?.to_le_bytes());
    reply.extend(0_u32.to_le_bytes());
    Ok(())
}
