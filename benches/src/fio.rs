//! The yardstick of disks: fio with io_uring and O_DIRECT on the same file system.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that was written once to its end, so that every yardstick reads and overwrites blocks that exist: a file system
/// answers a read of what was only set aside without asking the device, and gives what is first written a place.
#[derive(Debug)]
pub struct Yardstick {
    file: PathBuf,
    bytes: u64,
    /// Where the kernel counts what the file's device reads; none where a file system has no device of its own to ask.
    counters: Option<PathBuf>,
}

impl Yardstick {
    /// Writes a file of `bytes`, a multiple of 1 MiB, into `directory`: random bytes in blocks of 1 MiB, past the page cache, and synced.
    ///
    /// # Errors
    /// A sentence: fio is not installed or failed, or the file is not there afterwards.
    pub fn lay_out(directory: &Path, bytes: u64) -> Result<Yardstick, String> {
        let file = directory.join("yardstick");
        std::fs::File::create(&file).map_err(|error| format!("cannot make {}: {error}", file.display()))?;
        let metadata = std::fs::metadata(&file)
            .map_err(|error| format!("cannot look at {}: {error}", file.display()))?;
        let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
        let counters = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        let written = || Moved::of(&counters).map(|moved| moved.written);
        let before = written();
        let mut arguments = common(&file, bytes, "write", 1 << 20, 4);
        arguments.push("--end_fsync=1".to_owned());
        fio(&arguments)?;
        // A kernel can be told not to count: what does not see this write would see no read either.
        let counts = match (before, written()) {
            (Some(before), Some(after)) => reached(bytes as f64, after.saturating_sub(before) as f64).is_ok(),
            _ => false,
        };
        Ok(Yardstick { file, bytes, counters: counts.then_some(counters) })
    }

    /// How big it is, bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it can be told that reads reach the device.
    pub fn is_watched(&self) -> bool {
        self.counters.is_some()
    }

    /// What the device has read since the machine started, for whomever.
    fn device_bytes_read(&self) -> Option<u64> {
        Moved::of(self.counters.as_ref()?).map(|moved| moved.read)
    }
}

/// What a device has moved since the machine started, bytes.
#[derive(Debug, PartialEq, Eq)]
struct Moved {
    read: u64,
    written: u64,
}

impl Moved {
    fn of(counters: &Path) -> Option<Moved> {
        Moved::parse(&std::fs::read_to_string(counters).ok()?)
    }

    /// The third number of a block device's `stat` is of sectors read, the seventh of sectors written, whatever its blocks are: of 512 bytes.
    ///
    /// <https://docs.kernel.org/block/stat.html>
    fn parse(text: &str) -> Option<Moved> {
        let bytes = |index| Some(text.split_whitespace().nth(index)?.parse::<u64>().ok()? * 512);
        Some(Moved { read: bytes(2)?, written: bytes(6)? })
    }
}

/// The part of what fio moves that its device must have moved. Others that use it at the same time only add to that.
const REACHES_DEVICE: f64 = 0.95;

/// What fio is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Blocks one after the other are read.
    Read,
    /// Blocks at random places are read.
    RandomRead,
    /// Blocks one after the other are written; `fdatasync` after each `sync_blocks` of them.
    Write {
        /// How many blocks lie between two calls of `fdatasync`.
        sync_blocks: u32,
    },
    /// Blocks at random places are written, each durable before it counts (O_DSYNC).
    RandomDurableWrite,
}

/// A run of fio.
#[derive(Clone, Copy, Debug)]
pub struct Fio<'a> {
    /// The file that is read or overwritten, all of it.
    pub yardstick: &'a Yardstick,
    /// What is done.
    pub pattern: Pattern,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// How many blocks are in flight.
    pub depth: u32,
    /// How long it runs.
    pub seconds: u32,
    /// Operations a second, at times of their own; none: as many as it can.
    pub rate: Option<u32>,
}

/// What fio measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Bytes a second.
    pub bytes: f64,
    /// Operations a second.
    pub operations: f64,
    /// Bytes all together.
    pub total_bytes: f64,
    /// Microseconds that 50, 99 and 99.9 of a hundred operations did not exceed, from when fio began to submit them.
    pub latencies_us: [f64; 3],
}

impl Fio<'_> {
    /// Runs fio to its end.
    ///
    /// # Errors
    /// A sentence: fio is not installed, failed, printed something else than its terse format 3, or read what the device
    /// did not: then the figure would be the file system's or a cache's, and is no yardstick.
    pub fn run(&self) -> Result<Rates, String> {
        let before = self.yardstick.device_bytes_read();
        let text = fio(&self.arguments())?;
        let after = self.yardstick.device_bytes_read();
        let is_read = matches!(self.pattern, Pattern::Read | Pattern::RandomRead);
        let rates = parse(&text, is_read).ok_or_else(|| format!("fio printed no terse line: {text}"))?;
        if let (true, Some(before), Some(after)) = (is_read, before, after) {
            reached(rates.total_bytes, after.saturating_sub(before) as f64)?;
        }
        Ok(rates)
    }

    fn arguments(&self) -> Vec<String> {
        let (pattern, more) = match self.pattern {
            Pattern::Read => ("read", None),
            Pattern::RandomRead => ("randread", None),
            Pattern::Write { sync_blocks } => ("write", Some(format!("--fdatasync={sync_blocks}"))),
            Pattern::RandomDurableWrite => ("randwrite", Some("--sync=dsync".to_owned())),
        };
        let Yardstick { file, bytes, .. } = self.yardstick;
        let mut arguments = common(file, *bytes, pattern, self.block_bytes, self.depth);
        arguments.extend([format!("--runtime={}", self.seconds), "--time_based".to_owned()]);
        arguments.extend(more);
        if let Some(rate) = self.rate {
            arguments.extend([format!("--rate_iops={rate}"), "--rate_process=poisson".to_owned()]);
        }
        arguments
    }
}

fn reached(read: f64, by_device: f64) -> Result<(), String> {
    if by_device >= REACHES_DEVICE * read {
        return Ok(());
    }
    Err(format!(
        "fio read {read:.0} bytes, its device only {by_device:.0}: what a cache answers is no yardstick"
    ))
}

/// What every run of fio has in common.
fn common(file: &Path, bytes: u64, pattern: &str, block_bytes: u32, depth: u32) -> Vec<String> {
    vec![
        "--name=yardstick".to_owned(),
        format!("--filename={}", file.display()),
        format!("--size={bytes}"),
        format!("--rw={pattern}"),
        format!("--bs={block_bytes}"),
        format!("--iodepth={depth}"),
        "--ioengine=io_uring".to_owned(),
        "--direct=1".to_owned(),
        // What the engine uses, so that the yardstick is not handicapped. Its buffers hold random bytes, made once.
        "--fixedbufs=1".to_owned(),
        "--registerfiles=1".to_owned(),
        // Of the whole operation and not from the end of its submission, which for writes is most of it.
        "--lat_percentiles=1".to_owned(),
        "--clat_percentiles=0".to_owned(),
        "--output-format=terse".to_owned(),
        "--terse-version=3".to_owned(),
    ]
}

fn fio(arguments: &[String]) -> Result<String, String> {
    let done = Command::new("fio")
        .args(arguments)
        .output()
        .map_err(|error| format!("cannot start fio (Debian package fio): {error}"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        return Err(format!("fio failed: {text}{}", String::from_utf8_lossy(&done.stderr)));
    }
    Ok(text)
}

/// Reads the terse format 3: fields between semicolons; the read side's KiB, its bandwidth in KiB/s and its operations a
/// second are fields 6 to 8, the write side's 47 to 49, counted from 1. Twenty percentiles of the latency, each as
/// `99.000000%=123`, are fields 18 to 37 and 59 to 78.
///
/// <https://fio.readthedocs.io/en/latest/fio_doc.html#terse-output>
fn parse(text: &str, is_read: bool) -> Option<Rates> {
    let line = text.lines().find(|line| line.starts_with("3;fio-"))?;
    let fields: Vec<&str> = line.split(';').collect();
    let first = if is_read { 6 } else { 47 };
    let field = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let percentiles = fields.get(first + 11..first + 31)?;
    let latency = |name: &str| {
        let value = percentiles.iter().find_map(|field| field.strip_prefix(name)?.strip_prefix("%="));
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    };
    Some(Rates {
        total_bytes: field(first - 1)? * 1024.0,
        bytes: field(first)? * 1024.0,
        operations: field(first + 1)?,
        latencies_us: [latency("50.000000"), latency("99.000000"), latency("99.900000")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terse_line_is_read() {
        // The read and the write side are told apart, and KiB become bytes.
        let mut fields = vec!["0"; 100];
        fields[0] = "3";
        fields[1] = "fio-3.33";
        (fields[5], fields[6], fields[7]) = ("5000", "1000", "250");
        (fields[46], fields[47], fields[48]) = ("9000", "2000", "500");
        (fields[20], fields[30], fields[60]) = ("50.000000%=11", "99.900000%=33", "99.000000%=44");
        let text = format!("a note\n{}\n", fields.join(";"));
        let rates = |total_bytes, bytes, operations, latencies_us| {
            Some(Rates { bytes, operations, total_bytes, latencies_us })
        };
        assert_eq!(parse(&text, true), rates(5_120_000.0, 1_024_000.0, 250.0, [11.0, 0.0, 33.0]));
        assert_eq!(parse(&text, false), rates(9_216_000.0, 2_048_000.0, 500.0, [0.0, 44.0, 0.0]));
        assert_eq!(parse("fio: failed", true), None);
    }

    #[test]
    fn reads_that_reach_no_device_are_no_yardstick() {
        // As much as fio read, and what others read besides, is right; a small part of it, as of a file that was never written, is not.
        let stat = "  184034    12  8388608   90 1 2 3 4 5 6 7\n";
        assert_eq!(Moved::parse(stat), Some(Moved { read: 8_388_608 * 512, written: 3 * 512 }));
        assert_eq!(Moved::parse("1 2 3"), None);
        assert!(reached(1000.0, 1000.0).is_ok() && reached(1000.0, 5000.0).is_ok());
        assert!(reached(767_942_656.0, 2829.0 * 4096.0).is_err());
    }
}
