//! What this machine is, so that nobody compares figures of two.

use std::path::Path;
use std::time::Duration;

/// A sentence for each thing that matters.
pub fn describe(directory: &Path) -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let kib = read("/proc/meminfo").split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let hypervisor = cpu.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    vec![
        format!(
            "{processors} cores of {} (family {}, model {}){}",
            field("model name"),
            field("cpu family"),
            field("model\t"),
            if hypervisor { ", in a virtual machine" } else { "" }
        ),
        format!("{} GiB of memory", kib.unwrap_or(0) >> 20),
        format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("store and yardsticks on {}", file_system(directory)),
    ]
}

/// The mount that holds `directory`: type and device.
fn file_system(directory: &Path) -> String {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut best: Option<(usize, String)> = None;
    for line in mounts.lines() {
        let mut fields = line.split_whitespace();
        let (Some(device), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if directory.starts_with(point) && best.as_ref().is_none_or(|(length, _)| point.len() >= *length) {
            best = Some((point.len(), format!("{kind} ({device})")));
        }
    }
    best.map_or_else(|| "an unknown file system".to_owned(), |(_, text)| text)
}

/// The run queue's average of the last minute: what else the machine does.
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

/// Processor time this process has used, user and system, of all its threads.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Memory that this process has in use, and the most that it ever had, bytes.
///
/// # Panics
/// Where `/proc` does not tell: nothing is measured there, and 0 bytes would be within every bound.
pub fn resident_bytes() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.expect("the kernel counts pages of a process") << 10
    };
    (of("VmRSS:"), of("VmHWM:"))
}
