//! What the engine makes of a disk, beside fio on the same file system: large objects whole, small ones at random.

use crate::{
    Plan,
    engine::{
        Counts, LARGE_BYTES, LARGE_OBJECTS, MIB, Operation, SMALL_BYTES, SMALL_OBJECTS, Store, Work,
        get_large, get_small, put_large, put_small,
    },
};
use crossdock_benches::{
    fio::{Fio, Pattern},
    ratio::Ratio,
    report::{Report, Row, Target},
};

/// Small operations in flight, on all cores together.
const SMALL_DEPTH: u64 = 64;
/// What one object's reads and writes have in flight.
const LARGE_DEPTH: u32 = 4;

struct Comparison {
    name: &'static str,
    target: f64,
    pattern: Pattern,
    block_bytes: u32,
    depth: u32,
    object_bytes: u64,
    in_flight: u64,
    run: Operation,
}

const COMPARISONS: [Comparison; 4] = [
    Comparison {
        name: "PUT of 64 MiB, durable, one at a time",
        target: 0.90,
        pattern: Pattern::Write { sync_blocks: 64 },
        block_bytes: MIB as u32,
        depth: LARGE_DEPTH,
        object_bytes: LARGE_BYTES,
        in_flight: 1,
        run: put_large,
    },
    Comparison {
        name: "GET of 64 MiB, cold, verified, one at a time",
        target: 0.92,
        pattern: Pattern::Read,
        block_bytes: MIB as u32,
        depth: LARGE_DEPTH,
        object_bytes: LARGE_BYTES,
        in_flight: 1,
        run: get_large,
    },
    Comparison {
        name: "PUT of 4 KiB, durable, 64 in flight",
        target: 0.5,
        pattern: Pattern::RandomDurableWrite,
        block_bytes: SMALL_BYTES as u32,
        depth: SMALL_DEPTH as u32,
        object_bytes: SMALL_BYTES,
        in_flight: SMALL_DEPTH,
        run: put_small,
    },
    Comparison {
        name: "GET of 4 KiB, cold, verified, at random, 64 in flight",
        target: 0.80,
        pattern: Pattern::RandomRead,
        block_bytes: SMALL_BYTES as u32,
        depth: SMALL_DEPTH as u32,
        object_bytes: SMALL_BYTES,
        in_flight: SMALL_DEPTH,
        run: get_small,
    },
];

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "The engine beside the device",
        &format!(
            "Rates of the engine's own API over those of fio: io_uring, the same file system, block size and depth, `O_DIRECT`, \
             registered buffers and files. The engine verifies every byte it reads, and what it writes is durable when it says \
             so. It reads and writes past the page cache; every read is of the device. {} The store's large objects are {} MiB \
             together, too; the small ones that are read at random are {} MiB, in log zones of a store of more.",
            plan.yardstick_text()?,
            (LARGE_OBJECTS * LARGE_BYTES) >> 20,
            (SMALL_OBJECTS * SMALL_BYTES) >> 20,
        ),
    );
    let store = Store::open(&plan.directory.join("disk-store"), None)?;
    let opened = store.engine.report();
    println!("{} on {} cores, {:?} pages", opened.driver, store.engine.core_count(), opened.pages);
    for one in COMPARISONS {
        let fio = Fio {
            yardstick: plan.yardstick()?,
            pattern: one.pattern,
            block_bytes: one.block_bytes,
            depth: one.depth,
            seconds: plan.seconds(),
            rate: None,
        };
        if one.pattern == Pattern::RandomRead {
            store.fill(SMALL_OBJECTS, SMALL_BYTES, SMALL_DEPTH)?;
        }
        let work = Work { depth: one.in_flight, run: one.run };
        if one.pattern == Pattern::Read {
            store.fill_large()?;
        }
        // What is made on first use is made then.
        store.run(work, plan.seconds())?;
        let mut counts = Counts::default();
        let mut batches = Vec::new();
        let ratio = Ratio::take(
            plan.rounds(),
            || fio.run().map(|rates| rates.bytes),
            || {
                let round = store.run(work, plan.seconds())?;
                counts.add(round);
                batches.push(round.operations as f64 / round.batches.max(1) as f64);
                Ok::<f64, String>(round.rate() * one.object_bytes as f64)
            },
        )?;
        let note = format!("{:.0} a second; {}", counts.rate(), counts.explain());
        report.push(Row::ratio(one.name, Target::AtLeast(one.target), &ratio, "fio").note(note));
        if one.pattern == Pattern::RandomDurableWrite {
            let target = Target::AtLeast(8.0);
            report.push(Row::figures("PUTs of 4 KiB for each flush", target, &batches, "PUTs"));
        }
    }
    store.engine.close();
    Ok(())
}
