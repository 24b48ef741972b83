//! The yardstick of disks: fio with io_uring and O_DIRECT on the same file system.

use std::path::Path;
use std::process::Command;

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
    /// The file that is read or written. It is made first if it is shorter than `file_bytes`.
    pub file: &'a Path,
    /// How much of the file is used.
    pub file_bytes: u64,
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
    /// Microseconds that 50, 99 and 99.9 of a hundred operations did not exceed.
    pub latencies_us: [f64; 3],
}

impl Fio<'_> {
    /// Runs fio to its end.
    ///
    /// # Errors
    /// A sentence: fio is not installed, failed, or printed something else than its terse format 3.
    pub fn run(&self) -> Result<Rates, String> {
        let done = Command::new("fio")
            .args(self.arguments())
            .output()
            .map_err(|error| format!("cannot start fio (Debian package fio): {error}"))?;
        let text = String::from_utf8_lossy(&done.stdout);
        if !done.status.success() {
            return Err(format!("fio failed: {text}{}", String::from_utf8_lossy(&done.stderr)));
        }
        let is_read = matches!(self.pattern, Pattern::Read | Pattern::RandomRead);
        parse(&text, is_read).ok_or_else(|| format!("fio printed no terse line: {text}"))
    }

    fn arguments(&self) -> Vec<String> {
        let (pattern, more) = match self.pattern {
            Pattern::Read => ("read", None),
            Pattern::RandomRead => ("randread", None),
            Pattern::Write { sync_blocks } => ("write", Some(format!("--fdatasync={sync_blocks}"))),
            Pattern::RandomDurableWrite => ("randwrite", Some("--sync=dsync".to_owned())),
        };
        let mut arguments = vec![
            "--name=yardstick".to_owned(),
            format!("--filename={}", self.file.display()),
            format!("--size={}", self.file_bytes),
            format!("--rw={pattern}"),
            format!("--bs={}", self.block_bytes),
            format!("--iodepth={}", self.depth),
            format!("--runtime={}", self.seconds),
            "--time_based".to_owned(),
            "--ioengine=io_uring".to_owned(),
            "--direct=1".to_owned(),
            // What the engine uses, so that the yardstick is not handicapped. Its buffers hold random bytes, made once.
            "--fixedbufs=1".to_owned(),
            "--registerfiles=1".to_owned(),
            "--output-format=terse".to_owned(),
            "--terse-version=3".to_owned(),
        ];
        arguments.extend(more);
        if let Some(rate) = self.rate {
            arguments.extend([format!("--rate_iops={rate}"), "--rate_process=poisson".to_owned()]);
        }
        arguments
    }
}

/// Reads the terse format 3: fields between semicolons; the read side's bandwidth in KiB/s and its operations a
/// second are fields 7 and 8, the write side's 48 and 49, counted from 1. Twenty percentiles of the latency, each as
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
        (fields[6], fields[7], fields[47], fields[48]) = ("1000", "250", "2000", "500");
        (fields[20], fields[30], fields[60]) = ("50.000000%=11", "99.900000%=33", "99.000000%=44");
        let text = format!("a note\n{}\n", fields.join(";"));
        let rates = |bytes, operations, latencies_us| Some(Rates { bytes, operations, latencies_us });
        assert_eq!(parse(&text, true), rates(1_024_000.0, 250.0, [11.0, 0.0, 33.0]));
        assert_eq!(parse(&text, false), rates(2_048_000.0, 500.0, [0.0, 44.0, 0.0]));
        assert_eq!(parse("fio: failed", true), None);
    }
}
