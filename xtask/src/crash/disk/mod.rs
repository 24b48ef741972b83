//! A disk with a volatile write cache, whose power can be cut.
//!
//! The kernel sees an ordinary block device (a loop device) on a file; the file is served over FUSE by
//! [`service`], and every write and every flush that the file system sends to its disk arrives here, in order:
//!
//! ```text
//! server ── ext4/XFS ── loop device ── FUSE file ── this program
//!                         flush    ──►  fsync   ──►  the cache becomes durable
//! ```
//!
//! Invariants:
//! * A read returns what was written last, cached or not.
//! * After a flush everything written before it is durable.
//! * A power cut keeps what is durable. Of the cached writes each is kept, lost, or torn at a sector, by the seed.
//!   That is all a disk with a volatile cache promises, and what NVMe's Flush command is defined to give.

mod attach;
mod service;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fastrand::Rng;

pub(crate) use attach::{FileSystem, Mounted, obstacle};
pub(crate) use service::Served;

/// What the device writes as a whole.
pub(crate) const SECTOR_BYTES: usize = 4096;

/// The cache: past this the oldest writes become durable by themselves, as they do in a real disk.
const CACHE_BYTES_MAX: usize = 256 << 20;

/// What a power cut does to the writes that were not flushed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// All of them are lost: the disk that waits longest.
    LoseAll,
    /// Each is kept, lost or torn, by this seed.
    Mixed(u64),
}

struct CachedWrite {
    offset: u64,
    bytes: Vec<u8>,
}

/// The disk.
pub(crate) struct Disk {
    /// What reads see.
    current: File,
    /// What survives a power cut whatever happens.
    durable: File,
    durable_path: PathBuf,
    cache: Vec<CachedWrite>,
    cached_bytes: usize,
    size_bytes: u64,
}

impl Disk {
    /// A disk full of zeros; its files are made in `directory`.
    pub(crate) fn new(directory: &Path, size_bytes: u64) -> io::Result<Self> {
        let make = |name: &str| {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(directory.join(name))?;
            file.set_len(size_bytes)?;
            io::Result::Ok(file)
        };
        let durable_path = directory.join("durable.img");
        Ok(Self {
            current: make("current.img")?,
            durable: make("durable.img")?,
            durable_path,
            cache: Vec::new(),
            cached_bytes: 0,
            size_bytes,
        })
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.current.read_exact_at(buffer, offset)
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.current.write_all_at(bytes, offset)?;
        self.cached_bytes += bytes.len();
        self.cache.push(CachedWrite { offset, bytes: bytes.to_vec() });
        if self.cached_bytes > CACHE_BYTES_MAX {
            self.write_back(CACHE_BYTES_MAX / 2)?;
        }
        Ok(())
    }

    /// Everything written so far becomes durable.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.write_back(0)
    }

    /// Makes the oldest writes durable until at most `keep` bytes are cached.
    fn write_back(&mut self, keep: usize) -> io::Result<()> {
        let mut count = 0;
        for write in &self.cache {
            if self.cached_bytes <= keep {
                break;
            }
            self.durable.write_all_at(&write.bytes, write.offset)?;
            self.cached_bytes -= write.bytes.len();
            count += 1;
        }
        self.cache.drain(..count);
        Ok(())
    }

    /// Writes to `image` what the disk would hold if its power failed now. The disk itself goes on.
    /// Returns how many cached writes there were.
    pub(crate) fn cut(&self, image: &Path, cut: Cut) -> io::Result<usize> {
        let copied = std::process::Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([self.durable_path.as_path(), image])
            .status()?;
        if !copied.success() {
            return Err(io::Error::other("cp failed"));
        }
        let Cut::Mixed(seed) = cut else { return Ok(self.cache.len()) };
        let target = File::options().write(true).open(image)?;
        let mut rng = Rng::with_seed(seed);
        // Now and then a whole cache is lost or kept: the extremes find what mixtures hide.
        let bias = rng.u32(0..4);
        for write in &self.cache {
            let kept = match (bias, rng.u32(0..8)) {
                (0, 0..7) => 0,
                (1, 0..7) | (_, 0..4) => write.bytes.len(),
                (_, 4..6) => 0,
                _ => torn_at(&mut rng, write),
            };
            let bytes = write.bytes.get(..kept).expect("no more is kept than was written");
            target.write_all_at(bytes, write.offset)?;
        }
        Ok(self.cache.len())
    }
}

/// How many bytes of a torn write reach the disk: whole sectors.
fn torn_at(rng: &mut Rng, write: &CachedWrite) -> usize {
    rng.usize(0..=write.bytes.len() / SECTOR_BYTES) * SECTOR_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTOR: u64 = SECTOR_BYTES as u64;

    fn sector(byte: u8) -> Vec<u8> {
        vec![byte; SECTOR_BYTES]
    }

    fn after_cut(disk: &Disk, directory: &Path, cut: Cut) -> Vec<u8> {
        let image = directory.join("image");
        disk.cut(&image, cut).unwrap();
        std::fs::read(image).unwrap()
    }

    #[test]
    fn a_flush_is_what_survives() {
        // Flushed sectors are in every image; a sector written after the flush is lost when all cached ones are.
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::new(directory.path(), 4 * SECTOR).unwrap();
        disk.write(0, &sector(1)).unwrap();
        disk.flush().unwrap();
        disk.write(0, &sector(2)).unwrap();
        disk.write(SECTOR, &sector(3)).unwrap();
        let mut seen = sector(0);
        disk.read(0, &mut seen).unwrap();
        assert_eq!(seen, sector(2), "a read returns the last write");
        let image = after_cut(&disk, directory.path(), Cut::LoseAll);
        assert_eq!(image, [sector(1), sector(0), sector(0), sector(0)].concat());
    }

    #[test]
    fn unflushed_writes_are_kept_lost_and_torn() {
        // Over many seeds one long write is seen whole, absent, and cut at a sector, and never otherwise.
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::new(directory.path(), 3 * SECTOR).unwrap();
        disk.write(0, &[sector(7), sector(7), sector(7)].concat()).unwrap();
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let image = after_cut(&disk, directory.path(), Cut::Mixed(seed));
            let kept = image.iter().take_while(|&&byte| byte == 7).count();
            assert!(kept.is_multiple_of(SECTOR_BYTES) && image.iter().skip(kept).all(|&byte| byte == 0));
            lengths.insert(kept / SECTOR_BYTES);
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_cut_is_repeated_by_its_seed() {
        // The same cache and the same seed give the same image.
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Disk::new(directory.path(), 64 * SECTOR).unwrap();
        for index in 0..64 {
            disk.write(index * SECTOR, &sector(9)).unwrap();
        }
        let first = after_cut(&disk, directory.path(), Cut::Mixed(5));
        assert_eq!(first, after_cut(&disk, directory.path(), Cut::Mixed(5)));
        assert_ne!(first, after_cut(&disk, directory.path(), Cut::Mixed(6)));
    }
}
