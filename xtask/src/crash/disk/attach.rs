//! Makes a file system on a file and mounts it: loop device, mkfs, mount; undone in reverse when dropped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::SECTOR_BYTES;
use crate::clock;
use crate::command::Line;
use crate::install::{Administrator, administrator};
use crate::tree::Tree;

/// The file systems that stores are kept on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    fn maker(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }
}

/// Why the power of a disk can not be cut here, if it can not.
pub(crate) fn obstacle(tree: &Tree, system: FileSystem) -> Option<String> {
    if administrator(tree) != Some(Administrator::Root) {
        return Some("needs root, to mount".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(device).exists() {
            return Some(format!("there is no {device}"));
        }
    }
    let listed = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for wanted in [system.name(), "fuse"] {
        if !listed.lines().any(|line| line.split_whitespace().last() == Some(wanted)) {
            return Some(format!("the kernel does not list the file system {wanted}"));
        }
    }
    let missing = [system.maker(), "losetup"].into_iter().find(|name| Tree::program(name).is_none());
    missing.map(|name| format!("{name} is not installed"))
}

/// A loop device on a file. It is detached when dropped.
struct Loop {
    device: PathBuf,
}

impl Loop {
    fn attach(file: &Path) -> Result<Self, String> {
        let program = Tree::program("losetup").ok_or("losetup is not installed")?;
        let sector = SECTOR_BYTES.to_string();
        let done = Line::new(program, Path::new("/"))
            .args(["--find", "--show", "--sector-size", &sector])
            .args([file])
            .run_quiet()?;
        if !done.success {
            return Err(format!("losetup: {}", done.output.trim()));
        }
        Ok(Self { device: PathBuf::from(done.output.trim()) })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Tree::program("losetup").map(|program| {
            Line::new(program, Path::new("/")).args(["--detach"]).args([&self.device]).run_quiet()
        });
        if !matches!(detached, Some(Ok(ref done)) if done.success) {
            eprintln!("cannot detach {}", self.device.display());
        }
    }
}

/// A mounted file system on a file.
pub(crate) struct Mounted {
    directory: PathBuf,
    // Dropped after `Drop::drop` has unmounted.
    _device: Loop,
}

impl Mounted {
    /// Makes a new file system on `file` and mounts it on `directory`.
    pub(crate) fn format(file: &Path, directory: &Path, system: FileSystem) -> Result<Self, String> {
        let device = Loop::attach(file)?;
        let program =
            Tree::program(system.maker()).ok_or_else(|| format!("{} is missing", system.maker()))?;
        let quiet = ["-q"];
        let done = Line::new(program, Path::new("/")).args(quiet).args([&device.device]).run_quiet()?;
        if !done.success {
            return Err(format!("{}: {}", system.maker(), done.output.trim()));
        }
        Self::mount(device, directory, system)
    }

    /// Mounts the file system that is on `file`, which replays its journal.
    pub(crate) fn open(file: &Path, directory: &Path, system: FileSystem) -> Result<Self, String> {
        Self::mount(Loop::attach(file)?, directory, system)
    }

    fn mount(device: Loop, directory: &Path, system: FileSystem) -> Result<Self, String> {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        mount(&device.device, directory, system.name(), MountFlags::empty(), None)
            .map_err(|error| format!("cannot mount {} on {}: {error}", system.name(), directory.display()))?;
        Ok(Self { directory: directory.to_path_buf(), _device: device })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A process just killed may hold its files for a moment longer.
        for _ in 0..100 {
            if unmount(&self.directory, UnmountFlags::empty()).is_ok() {
                return;
            }
            clock::pause(Duration::from_millis(50));
        }
        eprintln!("{} stays busy; it is detached", self.directory.display());
        let _ = unmount(&self.directory, UnmountFlags::DETACH);
    }
}
