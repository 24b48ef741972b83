//! What one operation costs, in counts that a busy machine does not change: allocations, bytes copied, and, when it is run
//! under callgrind, instructions.
//!
//! ```text
//! counts            prints each operation's name, its allocations, their bytes, and bytes of payload copied, for one
//! counts NAME N     does the operation N times and says nothing: for callgrind, which counts the whole process, so that
//!                   the difference of two runs is that of their operations alone
//! ```
//!
//! `cargo xtask counts` does both, and compares with `benches/counts.tsv`. The engine runs on disks in memory with
//! a clock of its own: no kernel, no thread, no chance.

mod operations;

use crossdock_transport::memory::{CopyReason, copied_bytes};
use std::process::ExitCode;

/// Operations before anything is counted: what is made on first use is made then.
const WARM_UP: u64 = 100;
/// Operations that are counted. What happens now and then, as when a table grows, is spread over them.
const COUNTED: u64 = 400;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            for (name, make) in operations::ALL {
                let mut operation = make();
                operation.repeat(WARM_UP);
                let copied = all_copied();
                let allocations = allocation_counter::measure(|| operation.repeat(COUNTED));
                let per = |count: u64| count as f64 / COUNTED as f64;
                let (count, bytes) = (per(allocations.count_total), per(allocations.bytes_total));
                println!("{name}\t{count:.2}\t{bytes:.0}\t{:.0}", per(all_copied() - copied));
            }
            ExitCode::SUCCESS
        }
        [name, times] => {
            let found = operations::ALL.iter().find(|(known, _)| known == name);
            let (Some((_, make)), Ok(times)) = (found, times.parse()) else {
                eprintln!("counts: no operation `{name}`, or `{times}` is no number");
                return ExitCode::FAILURE;
            };
            make().repeat(times);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: counts [NAME TIMES]");
            ExitCode::FAILURE
        }
    }
}

fn all_copied() -> u64 {
    let reasons =
        [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge, CopyReason::Foreign];
    reasons.into_iter().map(copied_bytes).sum()
}
