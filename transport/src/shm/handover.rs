//! A memory file changes hands: how the client makes it, and what the server requires before it touches a byte.
//!
//! A server that touches a page which is not there dies of SIGBUS, and one that touches a page which was never allocated pays for
//! it. Both must be impossible whatever the client does, so the server puts the seals on itself and looks afterwards: what
//! it finds then stays so. (<https://man7.org/linux/man-pages/man2/F_ADD_SEALS.2const.html>,
//! <https://man7.org/linux/man-pages/man2/memfd_create.2.html>)
//!
//! ```text
//!   client   memfd_create ─ fallocate ─ mmap ─ send ─┐
//!   server                                          └─► size, cap ─ mmap ─ seal ─ cut ─ look: size, holes ─► Mapping
//! ```
//!
//! * `F_SEAL_SHRINK`: no page inside the mapping can be cut off.
//! * `F_SEAL_FUTURE_WRITE`: with it the kernel refuses to punch holes too, while the mappings that exist stay writable, ours and the
//!   client's. Without it a client could punch, and have the server's faults allocate in the server's name.
//! * `F_SEAL_GROW`, `F_SEAL_SEAL`: nothing about the file changes any more.
//! * No holes: every page was paid for by the client. Looked at after the seals, or it could be punched in between; and after
//!   whatever lies behind the end was cut off, since blocks there count as blocks, and would stand for holes. With `F_SEAL_GROW`
//!   there are none again.

use crate::mapping::Mapping;
use rustix::{
    fs::{
        FallocateFlags, MemfdFlags, SealFlags, Stat, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
        fstatfs, ftruncate, memfd_create,
    },
    io::Errno,
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Bytes of a block in `st_blocks` (<https://man7.org/linux/man-pages/man3/stat.3type.html>), whatever the block of the file
/// system.
const STAT_BLOCK_BYTES: u64 = 512;

/// Why a server does not take a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoverError {
    #[error("the descriptor is no memory file that can be sealed")]
    NoMemoryFile,
    #[error("the memory file is empty, or not of the size that was stated")]
    WrongSize,
    #[error("the memory file is larger than this server takes")]
    TooLarge,
    #[error("the memory file has holes")]
    Holes,
    #[error("the memory file could not be taken: {0}")]
    Kernel(#[from] io::Error),
}

/// Server: maps a client's file, which is then as it says above. Takes the descriptor's file as it is; `bytes` is the size that
/// the client stated, which must be true.
pub(super) fn take(file: BorrowedFd<'_>, bytes: u64, bytes_max: u64) -> Result<Mapping, HandoverError> {
    if bytes > bytes_max {
        return Err(HandoverError::TooLarge);
    }
    // Only files in memory have seals at all: this keeps out disks, devices, sockets and file systems that answer when they like,
    // before anything is mapped.
    let seals = fcntl_get_seals(file).map_err(|_| HandoverError::NoMemoryFile)?;
    if seals.intersects(SealFlags::SEAL | SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
        return Err(HandoverError::NoMemoryFile);
    }
    if bytes == 0 || size(file)? != bytes {
        return Err(HandoverError::WrongSize);
    }
    // Before the seals, because after `F_SEAL_FUTURE_WRITE` there is no new writable mapping. Nothing is touched yet.
    let mapping = Mapping::new(file, usize::try_from(bytes).map_err(|_| HandoverError::TooLarge)?)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
    fcntl_add_seals(file, seals).map_err(|error| match error {
        Errno::PERM | Errno::INVAL => HandoverError::NoMemoryFile,
        error => HandoverError::Kernel(error.into()),
    })?;
    // From here on it stays what it is, but for what lies behind the end: the last page may reach over it, by a huge page at most.
    // More was put there on purpose, and freeing it would take this thread's time.
    let stat = fstat(file).map_err(io::Error::from)?;
    let page = u64::try_from(stat.st_blksize).unwrap_or(0).max(HUGE_PAGE_BYTES);
    if u64::try_from(stat.st_size) != Ok(bytes) || allocated(&stat) > bytes.saturating_add(page) {
        return Err(HandoverError::WrongSize);
    }
    // No new size, so the seals allow it. A file of huge pages refuses it unless its size is whole pages (`EINVAL`).
    ftruncate(file, bytes).map_err(|error| match error {
        Errno::INVAL => HandoverError::WrongSize,
        error => HandoverError::Kernel(error.into()),
    })?;
    if allocated(&fstat(file).map_err(io::Error::from)?) < bytes {
        return Err(HandoverError::Holes);
    }
    Ok(mapping)
}

fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(STAT_BLOCK_BYTES)
}

/// What a memory file of huge pages says it is: `HUGETLBFS_MAGIC` in linux/magic.h.
const HUGE_PAGE_FILES: u64 = 0x9584_58f6;
const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// Whether the file is of huge pages.
pub(super) fn has_huge_pages(file: BorrowedFd<'_>) -> bool {
    fstatfs(file).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(HUGE_PAGE_FILES))
}

/// Client: memory that a server takes: zeros, all of it allocated. `bytes` is not 0. Of huge pages, if there are as many free ones as it
/// takes: disks then read straight into it.
pub(super) fn make(bytes: u64) -> io::Result<(OwnedFd, Mapping)> {
    let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    let make = |more: MemfdFlags| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | more;
        let file = memfd_create("crossdock-client", flags)?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        Ok::<_, io::Error>(file)
    };
    let huge =
        bytes.is_multiple_of(HUGE_PAGE_BYTES).then(|| make(MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB));
    let file = match huge {
        Some(Ok(file)) => file,
        _ => make(MemfdFlags::empty())?,
    };
    let mapping = Mapping::new(file.as_fd(), length)?;
    Ok((file, mapping))
}

fn size(file: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or(0))
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    const BYTES: u64 = 1 << 16;

    fn sparse(flags: MemfdFlags) -> OwnedFd {
        let file = memfd_create("crossdock-test", flags | MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, BYTES).unwrap();
        file
    }

    #[test]
    fn what_was_taken_cannot_be_taken_away() {
        // Shows that after the handover the client can neither shrink, grow, punch nor unseal, that both sides still see each other's
        // bytes, and that both mappings can be written.
        let (file, client) = make(BYTES).unwrap();
        let server = take(file.as_fd(), BYTES, BYTES).unwrap();
        assert_eq!(ftruncate(&file, 4096), Err(Errno::PERM));
        assert_eq!(ftruncate(&file, BYTES * 2), Err(Errno::PERM));
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(fallocate(&file, punch, 0, 4096), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&file, SealFlags::WRITE), Err(Errno::PERM));
        assert!(Mapping::new(file.as_fd(), 4096).is_err(), "a new writable mapping");
        // SAFETY: the range is the client's mapping, of which nobody has a reference; if it were taken away, it would read as zeros.
        let removed = unsafe {
            rustix::mm::madvise(client.at(0).cast(), BYTES as usize, rustix::mm::Advice::LinuxRemove)
        };
        assert_eq!(removed, Err(Errno::PERM), "a hole by way of the mapping");
        client.store(100, b"from the client");
        server.store(5000, b"from the server");
        let mut seen = [0; 15];
        server.load(100, &mut seen);
        assert_eq!(&seen, b"from the client");
        client.load(5000, &mut seen);
        assert_eq!(&seen, b"from the server");
        // Unmapped and closed by the client: the server's are still there.
        drop((client, file));
        server.load(100, &mut seen);
        assert_eq!(&seen, b"from the client");
        server.store(BYTES as usize - 1, &[7]);
    }

    #[test]
    fn nothing_stays_behind_the_end() {
        // Shows that a page behind the end, as huge pages may have, is no reason to refuse a file, and is not there afterwards; nor can
        // the client put one there again.
        let (file, client) = make(BYTES).unwrap();
        client.store(BYTES as usize - 4, b"last");
        fallocate(&file, FallocateFlags::KEEP_SIZE, BYTES, 4096).unwrap();
        assert!(allocated(&fstat(&file).unwrap()) > BYTES);
        let server = take(file.as_fd(), BYTES, BYTES).unwrap();
        assert_eq!(allocated(&fstat(&file).unwrap()), BYTES);
        assert_eq!(fallocate(&file, FallocateFlags::KEEP_SIZE, BYTES, 4096), Err(Errno::PERM));
        let mut seen = [0; 4];
        server.load(BYTES as usize - 4, &mut seen);
        assert_eq!(&seen, b"last");
    }

    #[test]
    fn other_files_are_not_taken() {
        // Shows that whatever is no whole, sealable memory file of the stated size is refused, each for its reason.
        let take = |file: &OwnedFd, bytes| take(file.as_fd(), bytes, 1 << 20).err();
        let good = || make(BYTES).unwrap().0;
        assert!(matches!(take(&good(), BYTES - 1), Some(HandoverError::WrongSize)));
        assert!(matches!(take(&good(), BYTES + 4096), Some(HandoverError::WrongSize)));
        assert!(matches!(take(&good(), u64::MAX), Some(HandoverError::TooLarge)));
        assert!(matches!(take(&good(), 0), Some(HandoverError::WrongSize)));
        let empty = memfd_create("crossdock-test", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(take(&empty, 0), Some(HandoverError::WrongSize)));
        let holes = sparse(MemfdFlags::ALLOW_SEALING);
        assert!(matches!(take(&holes, BYTES), Some(HandoverError::Holes)));
        fallocate(&holes, FallocateFlags::empty(), 0, BYTES - 4096).unwrap();
        assert!(take(&holes, BYTES).is_some(), "one page is missing");
        let behind = sparse(MemfdFlags::ALLOW_SEALING);
        fallocate(&behind, FallocateFlags::KEEP_SIZE, BYTES, BYTES).unwrap();
        assert!(matches!(take(&behind, BYTES), Some(HandoverError::Holes)), "all of it is behind the end");
        let much = good();
        fallocate(&much, FallocateFlags::KEEP_SIZE, BYTES, 4 << 20).unwrap();
        assert!(
            matches!(take(&much, BYTES), Some(HandoverError::WrongSize)),
            "more than a page behind the end"
        );
        assert!(matches!(take(&sparse(MemfdFlags::empty()), BYTES), Some(HandoverError::NoMemoryFile)));
        let sealed = good();
        fcntl_add_seals(&sealed, SealFlags::FUTURE_WRITE).unwrap();
        assert!(matches!(take(&sealed, BYTES), Some(HandoverError::NoMemoryFile)));
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        ftruncate(&file, BYTES).unwrap();
        assert!(matches!(take(&file, BYTES), Some(HandoverError::NoMemoryFile)));
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(take(&socket.into(), BYTES), Some(HandoverError::NoMemoryFile)));
    }
}
