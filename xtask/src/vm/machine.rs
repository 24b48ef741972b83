//! The machine itself: made once, kept, booted for each run.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::command::{Finished, Line};
use crate::install;
use crate::tree::Tree;

/// Which kernel, by the packages of Debian that depend on the newest one of its line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// 6.12: rings can share the registration of the arena.
    Newer,
    /// 6.1, the oldest that is supported.
    Older,
}

impl Kernel {
    fn packages(self) -> &'static [&'static str] {
        match self {
            Kernel::Newer => &["linux-image-6.12-amd64", "linux-image-amd64"],
            Kernel::Older => &["linux-image-6.1-amd64", "linux-image-amd64"],
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kernel::Newer => "6.12",
            Kernel::Older => "6.1",
        })
    }
}

/// Whether what the machine prints is shown while it does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    AsItComes,
    /// By whoever has it run.
    AtTheEnd,
}

/// What runs on this host, and the Debian package it comes in. All of `NEEDED` in `install` that is for soft-RoCE.
const PROGRAMS: &[&str] = &["qemu-system-x86_64", "busybox", "rdma", "ip", "depmod", "cpio", "zstd", "xz"];

/// Gibibytes are few: the card's queues and the layer over the host's files are all that is in it.
const MEMORY_MIB: u32 = 3072;
const DISK_BYTES: u64 = 512 << 20;

/// What the guest prints when the command is done.
const STATUS: &str = "guest exit status: ";

const PREPARE: &str = include_str!("prepare.sh");
const GUEST: &str = include_str!("guest.sh");

pub(crate) struct Machine<'a> {
    tree: &'a Tree,
    kernel: PathBuf,
    initramfs: PathBuf,
    release: String,
}

impl<'a> Machine<'a> {
    /// Takes the machine that was made before, or makes it.
    ///
    /// # Errors
    /// Why it can not be had here.
    pub(crate) fn prepare(tree: &'a Tree, kernel: Kernel) -> Result<Machine<'a>, String> {
        if let Some(missing) = PROGRAMS.iter().find(|program| Tree::program(program).is_none()) {
            return Err(format!("{missing} is missing"));
        }
        let directory = cache()?.join(kernel.to_string());
        if !directory.join("vmlinuz").exists() {
            make(tree, &directory, kernel)?;
        }
        let release = std::fs::read_to_string(directory.join("release")).unwrap_or_default();
        Ok(Machine {
            tree,
            kernel: directory.join("vmlinuz"),
            initramfs: directory.join("initramfs.zst"),
            release: release.trim().to_owned(),
        })
    }

    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// Boots, runs the command with bash in the tree's directory, and ends. What it printed, and whether it succeeded.
    pub(crate) fn run(&self, command: &str, seconds: u64, show: Show) -> Result<Finished, String> {
        let work = self.tree.target().join(format!("vm-{}", std::process::id()));
        let done = self.run_in(&work, command, seconds, show);
        // It is under the target directory, where leftovers harm nobody.
        let _ = std::fs::remove_dir_all(&work);
        let Finished { output, .. } = done?;
        let status = output.lines().rev().find_map(|line| line.split_once(STATUS));
        let success = status.is_some_and(|(_, status)| status.trim() == "0");
        Ok(Finished { success, output })
    }

    fn run_in(&self, work: &Path, command: &str, seconds: u64, show: Show) -> Result<Finished, String> {
        let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
        std::fs::create_dir_all(work).map_err(|error| failed("no directory for the machine", error))?;
        let disk = work.join("disk");
        let made = File::create(&disk).and_then(|file| file.set_len(DISK_BYTES));
        made.map_err(|error| failed("no disk for the machine", error))?;
        let script = format!(
            "{GUEST}\ncd {}\n( {command}\n)\necho \"{STATUS}$?\"\nsync\necho o > /proc/sysrq-trigger\nwhile :; do :; done\n",
            quoted(self.tree.root()),
        );
        std::fs::write(work.join("guest"), script).map_err(|error| failed("no script", error))?;
        // The kernel takes several archives, one behind the other, for one.
        let join = format!(
            "cp {} initramfs && echo guest | cpio --quiet -o -H newc | zstd -q >> initramfs",
            quoted(&self.initramfs)
        );
        let joined = Line::new("bash", work).args(["-euo", "pipefail", "-c", &join]).run_quiet()?;
        if !joined.success {
            return Err(format!("no file system for the machine: {}", joined.output.trim()));
        }
        let drive = format!("file={},if=none,id=disk,format=raw", disk.display());
        let line = Line::new("timeout", work)
            .args(["--kill-after=5", &seconds.to_string(), "qemu-system-x86_64"])
            // The kernel's remarks would land in the middle of the tests' lines; that it died is said all the same.
            // Not KVM: it is rarely allowed inside of another machine, and where it is, it need not work.
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", &MEMORY_MIB.to_string()])
            .args(["-nographic", "-nic", "none", "-no-reboot", "-kernel"])
            .args([&self.kernel])
            .args([
                "-initrd",
                "initramfs",
                "-append",
                // On a host that is busy the kernel finds the timer broken, and gives up before anything has begun.
                "console=ttyS0 panic=-1 quiet loglevel=1 mitigations=off no_timer_check",
            ])
            .args(["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"])
            .args(["-drive", &drive, "-device", "nvme,serial=crossdock,drive=disk"]);
        match show {
            Show::AsItComes => line.run(),
            Show::AtTheEnd => line.run_quiet(),
        }
    }
}

/// Where machines are kept: they are of no tree, and cost a download.
fn cache() -> Result<PathBuf, String> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(base.ok_or("no directory to keep a kernel in: HOME is not set")?.join("crossdock-vm"))
}

fn make(tree: &Tree, directory: &Path, kernel: Kernel) -> Result<(), String> {
    println!("$ prepare.sh {kernel}: a kernel is downloaded and unpacked, for the virtual machine only");
    let prepare = || {
        let line = Line::new("bash", tree.root()).args(["-c", PREPARE, "prepare.sh"]).args([directory]);
        line.args(kernel.packages()).run_quiet()
    };
    let mut done = prepare()?;
    if !done.success {
        // Perhaps the lists of packages are old, or there are none yet.
        install::refresh_lists(tree)?;
        done = prepare()?;
    }
    if done.success { Ok(()) } else { Err(format!("no kernel for it: {}", done.output.trim())) }
}

/// As bash reads it.
pub(super) fn quoted(path: &Path) -> String {
    quoted_text(&path.display().to_string())
}

pub(super) fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_bash() {
        // A tree in a directory with a space or a quote in its name must not end as two words.
        assert_eq!(quoted(Path::new("/a b/c'd")), r"'/a b/c'\''d'");
    }
}
