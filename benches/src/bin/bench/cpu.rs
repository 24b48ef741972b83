//! What reading and verifying costs, over what verifying alone costs.

use crate::{
    Plan,
    engine::{LARGE_BYTES, Store, Work, get_large},
};
use crossdock::layout::{EXTENT_CHECKSUM_BYTES, checksum};
use crossdock_benches::{
    machine,
    ratio::Ratio,
    report::{Report, Row, Target},
};
use std::hint::black_box;

/// Larger than any cache: what is checked comes from memory, as what a device just wrote there does.
const BUFFER_BYTES: usize = 512 << 20;

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "Processor time of reading",
        "All processor time of the process, the kernel's for it included, while objects of 64 MiB are read through the engine \
         and verified, for a GiB; over that of CRC-64/NVME alone over as many bytes that no cache holds.",
    );
    let store = Store::open(&plan.directory.join("cpu-store"), None)?;
    let work = |depth, run| Work { depth, run };
    store.fill_large()?;
    let mut buffer = vec![0_u8; BUFFER_BYTES];
    fastrand::Rng::with_seed(3).fill(&mut buffer);
    let gib = |bytes: f64| bytes / f64::from(1 << 30);
    let mut alone = Vec::new();
    let mut engine = Vec::new();
    let ratio = Ratio::take(
        plan.rounds().max(5),
        || {
            let before = machine::processor_time();
            buffer.chunks(EXTENT_CHECKSUM_BYTES).for_each(|block| _ = black_box(checksum(block)));
            let seconds = (machine::processor_time() - before).as_secs_f64() / gib(BUFFER_BYTES as f64);
            alone.push(seconds);
            Ok::<f64, String>(seconds)
        },
        || {
            let counts = store.run(work(2, get_large), plan.seconds())?;
            let bytes = counts.operations as f64 * LARGE_BYTES as f64;
            let seconds = counts.processor.as_secs_f64() / gib(bytes);
            engine.push(seconds);
            Ok(seconds)
        },
    )?;
    store.engine.close();
    let name = "GET of 64 MiB, verified: processor time for a GiB";
    report.push(Row::ratio(name, Target::AtMost(1.3), &ratio, "CRC-64/NVME alone"));
    report.push(Row::figures("— the engine", Target::None, &engine, "CPU-s/GiB"));
    report.push(Row::figures("— CRC-64/NVME alone", Target::None, &alone, "CPU-s/GiB"));
    Ok(())
}
