//! What the engine makes of a disk, beside fio on the same file system: large objects whole, small ones at random.
//!
//! ```text
//! cargo run --release --package crossdock-benches --bin engine_io [directory]
//! ```
//!
//! Each figure is a ratio of rates taken in turns, with the counts that explain it: system calls of the rings and bytes
//! that user space copied, for each object.

use crossdock::{CommitOptions, CoreEngine, Engine, Error, GetOptions, PutOptions};
use crossdock_benches::{
    fio::{Fio, Pattern},
    ratio::Ratio,
};
use crossdock_transport::memory::{CopyReason, copied_bytes};
use futures_lite::future::block_on;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;
const LARGE_BYTES: u64 = 64 * MIB;
const LARGE_OBJECTS: u64 = 16;
const SMALL_BYTES: u64 = 4096;
const SMALL_OBJECTS: u64 = 50_000;
/// Small operations in flight, on all cores together.
const SMALL_DEPTH: u64 = 64;
/// What one object's reads and writes have in flight.
const LARGE_DEPTH: u32 = 4;
const ROUNDS: usize = 4;
const SECONDS: u32 = 3;

fn main() -> ExitCode {
    let directory = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("crossdock-engine-io-{}", std::process::id()));
    let result = std::fs::create_dir_all(&directory).map_err(|error| error.to_string());
    let result = result.and_then(|()| measure(&directory));
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        eprintln!("engine_io: {} stays behind: {error}", directory.display());
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("engine_io: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure(directory: &Path) -> Result<(), String> {
    let engine = Engine::builder()
        .path(directory.join("store"))
        .admission_wait(Duration::from_secs(60))
        .open()
        .map_err(|error| error.to_string())?;
    let report = engine.report();
    println!("{} on {} cores, {:?} pages", report.driver, engine.core_count(), report.pages);
    let said = |error: Error| error.to_string();
    block_on(engine.create_bucket("bench", Vec::new().into())).map_err(said)?;
    let file = directory.join("yardstick");
    let bench = Bench { engine, file };

    bench.compare(
        "PUT of 64 MiB, durable, one at a time",
        Pattern::Write { sync_blocks: 64 },
        MIB as u32,
        LARGE_DEPTH,
        Work { object_bytes: LARGE_BYTES, depth: 1, run: put_large },
    )?;
    bench.compare(
        "GET of 64 MiB, verified, one at a time",
        Pattern::Read,
        MIB as u32,
        LARGE_DEPTH,
        Work { object_bytes: LARGE_BYTES, depth: 1, run: get_large },
    )?;
    bench.compare(
        "PUT of 4 KiB, durable, 64 in flight",
        Pattern::RandomDurableWrite,
        SMALL_BYTES as u32,
        SMALL_DEPTH as u32,
        Work { object_bytes: SMALL_BYTES, depth: SMALL_DEPTH, run: put_small },
    )?;
    bench.fill_small()?;
    bench.compare(
        "GET of 4 KiB, verified, at random, 64 in flight",
        Pattern::RandomRead,
        SMALL_BYTES as u32,
        SMALL_DEPTH as u32,
        Work { object_bytes: SMALL_BYTES, depth: SMALL_DEPTH, run: get_small },
    )?;
    bench.engine.close();
    Ok(())
}

/// One operation: which object, by number.
type Operation = fn(CoreEngine, u64) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>>>>;

#[derive(Clone, Copy)]
struct Work {
    object_bytes: u64,
    depth: u64,
    run: Operation,
}

struct Bench {
    engine: Engine,
    file: PathBuf,
}

/// What was counted while an engine worked.
#[derive(Default)]
struct Counts {
    operations: u64,
    system_calls: u64,
    copied_bytes: u64,
    processor: Duration,
    data_syncs: u64,
    batches: u64,
}

impl Bench {
    fn compare(
        &self,
        name: &str,
        pattern: Pattern,
        block_bytes: u32,
        depth: u32,
        work: Work,
    ) -> Result<(), String> {
        let fio = Fio {
            file: &self.file,
            file_bytes: LARGE_OBJECTS * LARGE_BYTES,
            pattern,
            block_bytes,
            depth,
            seconds: SECONDS,
        };
        let mut counts = Counts::default();
        let mut next = 0;
        // Lays the file out, and the objects that are read.
        fio.run()?;
        self.run(work, &mut next, &mut Counts::default())?;
        let ratio = Ratio::take(
            ROUNDS,
            || fio.run().map(|rates| rates.bytes),
            || self.run(work, &mut next, &mut counts),
        )?;
        let per = |count: u64| count as f64 / counts.operations as f64;
        println!("{name}: {ratio} of fio");
        println!(
            "    for each: {:.2} system calls, {:.0} bytes copied, {:.1} µs of processor time ({:.3} s for a GiB)",
            per(counts.system_calls),
            per(counts.copied_bytes),
            counts.processor.as_secs_f64() * 1e6 / counts.operations as f64,
            counts.processor.as_secs_f64() / (counts.operations * work.object_bytes) as f64
                * (1u64 << 30) as f64,
        );
        if counts.batches > 0 {
            println!(
                "    {:.1} for each log batch, {:.1} for each sync of data",
                counts.operations as f64 / counts.batches as f64,
                counts.operations as f64 / counts.data_syncs.max(1) as f64,
            );
        }
        Ok(())
    }

    #[allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
    /// Works for a while on every core and gives bytes a second.
    fn run(&self, work: Work, next: &mut u64, counts: &mut Counts) -> Result<f64, String> {
        let before = self.count()?;
        let begin = Instant::now();
        let limit = Duration::from_secs(SECONDS.into());
        let cores = self.engine.core_count() as u64;
        let lanes = (0..work.depth).map(|lane| {
            let first = *next + lane * 1_000_000;
            self.engine.on_core((lane % cores) as usize, move |engine| async move {
                let mut done = 0;
                while begin.elapsed() < limit {
                    (work.run)(engine.clone(), first + done).await?;
                    done += 1;
                }
                Ok(done)
            })
        });
        let lanes: Vec<_> = lanes.map(Box::pin).collect();
        let done = block_on(all(lanes)).map_err(|error| error.to_string())?;
        let elapsed = begin.elapsed().as_secs_f64();
        let after = self.count()?;
        *next += done;
        counts.operations += done;
        counts.system_calls += after.system_calls - before.system_calls;
        counts.copied_bytes += after.copied_bytes - before.copied_bytes;
        counts.processor += after.processor - before.processor;
        counts.batches += after.batches - before.batches;
        counts.data_syncs += after.data_syncs - before.data_syncs;
        Ok((done * work.object_bytes) as f64 / elapsed)
    }

    fn count(&self) -> Result<Counts, String> {
        let mut counts = Counts::default();
        for core in 0..self.engine.core_count() {
            let calls = self.engine.on_core(core, |engine| async move { Ok(engine.core().system_calls()) });
            counts.system_calls += block_on(calls).map_err(|error| error.to_string())?;
        }
        let reasons = [
            CopyReason::Inline,
            CopyReason::Packed,
            CopyReason::Framing,
            CopyReason::Edge,
            CopyReason::Foreign,
        ];
        counts.copied_bytes = reasons.into_iter().map(copied_bytes).sum();
        for shard in block_on(self.engine.statistics()).map_err(|error| error.to_string())? {
            counts.batches += shard.batches - shard.seals;
            counts.data_syncs += shard.data_syncs;
        }
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        counts.processor = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        Ok(counts)
    }

    fn fill_small(&self) -> Result<(), String> {
        let cores = self.engine.core_count() as u64;
        let lanes = (0..SMALL_DEPTH).map(|lane| {
            self.engine.on_core((lane % cores) as usize, move |engine| async move {
                for number in (lane..SMALL_OBJECTS).step_by(SMALL_DEPTH as usize) {
                    put(&engine, &small_key(number), SMALL_BYTES).await?;
                }
                Ok(0)
            })
        });
        let lanes: Vec<_> = lanes.map(Box::pin).collect();
        block_on(all(lanes)).map_err(|error| error.to_string()).map(drop)
    }
}

/// Drives every future to its end; the sum of what they give.
async fn all<F: Future<Output = Result<u64, Error>> + Unpin>(mut futures: Vec<F>) -> Result<u64, Error> {
    let mut sum = 0;
    futures_lite::future::poll_fn(move |cx| {
        let mut index = 0;
        while let Some(future) = futures.get_mut(index) {
            match std::pin::Pin::new(future).poll(cx) {
                std::task::Poll::Ready(Ok(count)) => {
                    sum += count;
                    drop(futures.swap_remove(index));
                }
                std::task::Poll::Ready(Err(error)) => return std::task::Poll::Ready(Err(error)),
                std::task::Poll::Pending => index += 1,
            }
        }
        if futures.is_empty() { std::task::Poll::Ready(Ok(sum)) } else { std::task::Poll::Pending }
    })
    .await
}

fn large_key(number: u64) -> Vec<u8> {
    format!("large-{:03}", number % LARGE_OBJECTS).into_bytes()
}

fn small_key(number: u64) -> Vec<u8> {
    format!("small-{number:06}").into_bytes()
}

fn put_large(engine: CoreEngine, number: u64) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move { put(&engine, &large_key(number), LARGE_BYTES).await })
}

fn get_large(engine: CoreEngine, number: u64) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move { get(&engine, &large_key(number)).await })
}

fn put_small(engine: CoreEngine, number: u64) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move { put(&engine, format!("new-{number}").as_bytes(), SMALL_BYTES).await })
}

fn get_small(engine: CoreEngine, _: u64) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move { get(&engine, &small_key(engine.core().random() % SMALL_OBJECTS)).await })
}

/// Stores an object whose bytes are in the leases already, as if a network card had put them there.
async fn put(engine: &CoreEngine, key: &[u8], bytes: u64) -> Result<(), Error> {
    let mut put = engine.put("bench", key, PutOptions { size: Some(bytes) }).await?;
    let mut left = bytes;
    while left > 0 {
        let mut lease = put.buffer().await;
        let now = left.min(put.buffer_bytes() as u64);
        fill_once(lease.full_mut(), engine.core().random());
        lease.set_len(now as usize);
        left -= now;
        put.push(lease).await?;
    }
    put.finish(CommitOptions::default()).await.map(drop)
}

/// Makes memory that was never used before random, so that no layer below can compress or deduplicate it.
fn fill_once(bytes: &mut [u8], seed: u64) {
    if bytes.iter().step_by(4096).all(|byte| *byte == 0) {
        fastrand::Rng::with_seed(seed).fill(bytes);
    }
}

async fn get(engine: &CoreEngine, key: &[u8]) -> Result<(), Error> {
    let mut get = engine.get("bench", key, GetOptions::default()).await?;
    while let Some(chunk) = get.next().await {
        drop(chunk?);
    }
    Ok(())
}
