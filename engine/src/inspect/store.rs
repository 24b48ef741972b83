//! A store's files, opened for reading alone, with a core on the caller's thread to read them.

use super::image::ShardImage;
use crate::{
    device::file::{self, StoreLock},
    error::{OpenError, Region},
    handle::builder::{Scaffold, check_together, shards_of},
    layout::{DecodeError, SecretKey, Superblock},
    shard::{ShardIdentity, reading::Reading},
    store::{Placement, directory::DataPath},
};
use crossdock_transport::ring::DriverChoice;
use std::{
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// Memory of the core that reads: a superpage for each class of buffer, and a few for what is read ahead.
const MEMORY_BYTES: usize = 40 << 20;
/// How often a shard in use is read until what is found is believed.
const ATTEMPTS: u32 = 6;
/// How long to wait before the second attempt; each wait is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(20);

/// Who else may have the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nobody: a store that is open is refused, and is not opened until the [`Store`] is dropped.
    Closed,
    /// Anybody. Whether it is open is tried for an instant, in which opening it would fail.
    Any,
}

/// A store that is looked at. Blocking; not `Send`.
pub struct Store {
    scaffold: Scaffold,
    paths: Vec<DataPath>,
    copies: Vec<Vec<Result<Superblock, DecodeError>>>,
    superblock: Superblock,
    placement: Placement,
    in_use: bool,
    access: Access,
}

impl Store {
    /// Finds the store that lies on these directories or devices, given in its own order.
    ///
    /// # Errors
    /// [`OpenError`]: no store, one of a newer format, one whose superblock is damaged, or, with [`Access::Closed`],
    /// one that is open.
    pub fn open(paths: &[impl AsRef<Path>], access: Access) -> Result<Store, OpenError> {
        if paths.is_empty() {
            return Err(OpenError::Options("no directory or device was given".into()));
        }
        let mut in_use = false;
        let mut found = Vec::new();
        for path in paths {
            let path = path.as_ref();
            if !path.exists() {
                return Err(OpenError::Missing { path: path.into() });
            }
            let lock = match StoreLock::share(path) {
                Ok(lock) => (access == Access::Closed).then_some(lock),
                Err(file::OpenError::Locked { .. }) if access == Access::Any => {
                    in_use = true;
                    None
                }
                Err(file::OpenError::Locked { path }) => return Err(OpenError::Locked { path }),
                Err(other) => return Err(OpenError::File(other)),
            };
            found.push(DataPath::look_at(path, lock)?);
        }
        let scaffold = Scaffold::new(DriverChoice::Best, MEMORY_BYTES)?;
        let (core, ring) = (&scaffold.core, scaffold.driver.ring());
        let (mut copies, mut superblocks) = (Vec::new(), Vec::new());
        for path in &found {
            if !path.is_formatted(core, ring)? {
                return Err(OpenError::Missing { path: path.path.clone() });
            }
            copies.push(path.superblock_copies(core, ring)?);
            superblocks.push(path.superblock(core, ring)?);
        }
        let superblock = check_together(&found, &superblocks)?;
        let placement = Placement::new(superblock.geometry, superblock.store, 1);
        Ok(Store { scaffold, paths: found, copies, superblock, placement, in_use, access })
    }

    /// Whether another process had it open.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// The superblock of its first device.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The superblock's copies on each device, each as it reads, with the file they lie in.
    pub fn superblock_copies(&self) -> impl Iterator<Item = (PathBuf, &[Result<Superblock, DecodeError>])> {
        self.paths.iter().zip(&self.copies).map(|(path, copies)| (path.superblock_file(), &copies[..]))
    }

    /// How many shards it has.
    pub fn shard_count(&self) -> u16 {
        self.superblock.geometry.shard_count
    }

    /// The file that a region of a shard lies in; the device, on a device.
    pub fn file(&self, shard: u16, region: Region) -> PathBuf {
        self.path_of(shard).0.shard_file(shard, region)
    }

    /// The shard that decides whether a bucket of this name exists.
    pub fn home_of(&self, bucket: &str) -> u16 {
        self.placement.home_of(bucket)
    }

    /// The shard that a key lies on.
    pub fn shard_of(&self, bucket: &str, key: &[u8]) -> u16 {
        self.placement.shard_of(bucket, key)
    }

    /// Reads a shard as recovery does: its anchor, checkpoint and log.
    ///
    /// With [`Access::Any`] a failure is believed only after it was seen several times: what is read may be written
    /// over meanwhile.
    ///
    /// # Errors
    /// What recovery would refuse, or a file that is missing.
    pub fn read_shard(&self, shard: u16) -> Result<Rc<ShardImage>, OpenError> {
        let reading = self.reading(shard)?;
        let (core, attempts) = (self.scaffold.core.clone(), self.attempts().max(1));
        let image = self.scaffold.core.block_on(async move { read_settled(&core, &reading, attempts).await });
        image.map(Rc::new)
    }

    pub(super) fn reading(&self, shard: u16) -> Result<Reading, OpenError> {
        let (path, index, count) = self.path_of(shard);
        let open = path.open_shard(&self.superblock.geometry, shard, index, count)?;
        let mut geometry = self.superblock.geometry;
        geometry.zones_max = open.zones.unwrap_or(geometry.zones_max);
        let files = open.on(self.scaffold.driver.ring()).map_err(|source| OpenError::Io {
            what: "open",
            path: path.path.clone(),
            source,
        })?;
        let (store, secret) = (self.superblock.store, SecretKey(self.superblock.secret));
        let identity = ShardIdentity { store, shard, geometry, secret };
        Ok(Reading { identity, core: self.scaffold.core.clone(), files, gate: None })
    }

    /// How often to look again at what seems wrong: never, where nobody can have changed it.
    pub(super) fn attempts(&self) -> u32 {
        if self.access == Access::Any { ATTEMPTS } else { 0 }
    }

    pub(super) fn core(&self) -> &crate::reactor::Core {
        &self.scaffold.core
    }

    pub(super) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Where a shard lies, as which of how many.
    fn path_of(&self, shard: u16) -> (&DataPath, u16, u16) {
        let (devices, shards) = (self.superblock.device_count, self.shard_count());
        let found = self.paths.iter().zip(0..).find_map(|(path, device)| {
            let range = shards_of(device, devices, shards);
            range.contains(&shard).then(|| (path, shard - range.start, range.end - range.start))
        });
        found.expect("every shard of the store lies on one of its devices")
    }
}

/// Reads a shard until it reads well, or as often as said.
pub(super) async fn read_settled(
    core: &crate::reactor::Core,
    reading: &Reading,
    attempts: u32,
) -> Result<ShardImage, OpenError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..attempts {
        match ShardImage::read(reading).await {
            Ok(image) if image.hole().is_none() => return Ok(image),
            _ => core.sleep(wait).await,
        }
        wait *= 2;
    }
    ShardImage::read(reading).await
}
