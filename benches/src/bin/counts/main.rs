//! What one operation costs, in counts that a busy machine does not change: allocations, bytes copied, system calls, and,
//! when it is run under callgrind, instructions.
//!
//! ```text
//! counts                  prints each operation's name, a unit, and how many of it one operation took
//! counts NAME N           does the operation N times and says nothing: for callgrind, which counts the whole process, so that
//!                         the difference of two runs is that of their operations alone
//! counts connections N    prints system calls for each request of a server with N connections at work
//! ```
//!
//! `cargo xtask counts` does the first two, and compares with `benches/counts.tsv`. For allocations and instructions the engine
//! runs on disks in memory with a clock of its own: no kernel, no thread, no chance. Whole S3 requests, from the bytes of the
//! head to those of the reply, need sockets, and have no count of instructions.

mod operations;
mod requests;
mod system_calls;

use crossdock_transport::memory::{CopyReason, copied_bytes};
use std::{path::PathBuf, process::ExitCode};

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
                print_memory(name, &mut |times| operation.repeat(times));
            }
            let store = store();
            if let Err(error) = store.and_then(|store| requests::count(&store, print_memory)) {
                eprintln!("counts: requests: {error}");
                return ExitCode::FAILURE;
            }
            print_system_calls(&[])
        }
        [connections, count] if connections == "connections" => match count.parse() {
            Ok(count) => print_system_calls(&[count]),
            Err(_) => {
                eprintln!("counts: `{count}` is no number");
                ExitCode::FAILURE
            }
        },
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

/// What one operation takes of the heap, and copies.
fn print_memory(name: &str, repeat: &mut dyn FnMut(u64)) {
    repeat(WARM_UP);
    let copied = all_copied();
    let allocations = allocation_counter::measure(|| repeat(COUNTED));
    let per = |count: u64| count as f64 / COUNTED as f64;
    println!("{name}\tallocations\t{:.2}", per(allocations.count_total));
    println!("{name}\tallocated-bytes\t{:.0}", per(allocations.bytes_total));
    println!("{name}\tcopied-bytes\t{:.0}", per(all_copied() - copied));
}

/// Beside the program, where there is a file system that files are opened on without its cache.
fn store() -> Result<PathBuf, String> {
    Ok(std::env::current_exe().map_err(|error| error.to_string())?.with_extension("store"))
}

/// Of the engine, and of a server with one connection and with each of those counts of them.
fn print_system_calls(connections: &[usize]) -> ExitCode {
    let counts = store().and_then(|store| system_calls::count(&store, connections));
    match counts {
        Ok(counts) => {
            for (name, each) in &counts {
                println!("{name}\tring-enters\t{:.2}", each.enters);
                println!("{name}\tsystem-calls\t{:.2}", each.all);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("counts: system calls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn all_copied() -> u64 {
    let reasons =
        [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge, CopyReason::Foreign];
    reasons.into_iter().map(copied_bytes).sum()
}
