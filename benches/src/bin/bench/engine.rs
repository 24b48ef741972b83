//! A store of our own engine in this process, and work for it.

use crossdock::{CommitOptions, CoreEngine, Engine, Error, GetOptions, PutOptions};
use crossdock_benches::machine;
use crossdock_transport::memory::{CopyReason, copied_bytes};
use futures_lite::future::block_on;
use std::{
    future::Future,
    path::Path,
    pin::Pin,
    time::{Duration, Instant},
};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const LARGE_BYTES: u64 = 64 * MIB;
pub(crate) const LARGE_OBJECTS: u64 = 16;
pub(crate) const SMALL_BYTES: u64 = 4096;
pub(crate) const SMALL_OBJECTS: u64 = 50_000;

/// One operation: which object, by number.
pub(crate) type Operation = fn(CoreEngine, u64) -> Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// What is done again and again.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    /// Operations in flight, on all cores together.
    pub(crate) depth: u64,
    pub(crate) run: Operation,
}

/// A store with a bucket.
pub(crate) struct Store {
    pub(crate) engine: Engine,
    next: std::cell::Cell<u64>,
}

/// What was counted while an engine worked.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) elapsed: Duration,
    /// Of the cores, wakes included.
    pub(crate) system_calls: u64,
    /// How often a sleeping core was woken by a write to its descriptor.
    pub(crate) wakes: u64,
    pub(crate) copied_bytes: u64,
    pub(crate) processor: Duration,
    pub(crate) data_syncs: u64,
    pub(crate) batches: u64,
}

impl Counts {
    /// What came between two counts.
    pub(crate) fn since(self, before: Counts) -> Counts {
        Counts {
            operations: self.operations - before.operations,
            elapsed: self.elapsed.saturating_sub(before.elapsed),
            system_calls: self.system_calls - before.system_calls,
            wakes: self.wakes - before.wakes,
            copied_bytes: self.copied_bytes - before.copied_bytes,
            processor: self.processor.saturating_sub(before.processor),
            data_syncs: self.data_syncs - before.data_syncs,
            batches: self.batches - before.batches,
        }
    }

    pub(crate) fn add(&mut self, other: Counts) {
        self.operations += other.operations;
        self.elapsed += other.elapsed;
        self.system_calls += other.system_calls;
        self.wakes += other.wakes;
        self.copied_bytes += other.copied_bytes;
        self.processor += other.processor;
        self.data_syncs += other.data_syncs;
        self.batches += other.batches;
    }

    /// Operations a second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor microseconds for each operation.
    pub(crate) fn processor_us(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.operations.max(1) as f64
    }

    /// A sentence.
    pub(crate) fn explain(&self) -> String {
        let per = |count: u64| count as f64 / self.operations.max(1) as f64;
        let mut text = format!(
            "for each {:.2} system calls, {:.0} bytes copied, {:.1} µs of processor time",
            per(self.system_calls),
            per(self.copied_bytes),
            self.processor_us()
        );
        if self.batches > 0 {
            text += &format!("; {:.1} for each log write", self.operations as f64 / self.batches as f64);
        }
        if self.data_syncs > 0 {
            text +=
                &format!(", {:.1} for each sync of data", self.operations as f64 / self.data_syncs as f64);
        }
        text
    }
}

impl Store {
    /// Opens a store in `directory` with `cores` cores; none: as many as there are.
    pub(crate) fn open(directory: &Path, cores: Option<usize>) -> Result<Store, String> {
        let mut builder = Engine::builder().path(directory).admission_wait(Duration::from_secs(60));
        if let Some(cores) = cores {
            builder = builder.cores(cores);
        }
        let engine = builder.open().map_err(|error| error.to_string())?;
        let made = block_on(engine.create_bucket("bench", Vec::new().into()));
        match made {
            Ok(_) | Err(Error::BucketExists) => Ok(Store { engine, next: std::cell::Cell::new(0) }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Runs work that may fail on a core.
    pub(crate) async fn on_core<T, F>(
        &self,
        core: usize,
        work: impl FnOnce(CoreEngine) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + 'static,
    {
        self.engine.on_core(core, work).await?
    }

    /// Works for a while on every core.
    #[allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]
    pub(crate) fn run(&self, work: Work, seconds: u32) -> Result<Counts, String> {
        let before = self.count()?;
        let begin = Instant::now();
        let limit = Duration::from_secs(seconds.into());
        let cores = self.engine.core_count() as u64;
        let lanes = (0..work.depth).map(|lane| {
            let first = self.next.get() + lane * 1_000_000;
            self.on_core((lane % cores) as usize, move |engine| async move {
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
        let elapsed = begin.elapsed();
        self.next.set(self.next.get() + done);
        let counts = self.count()?.since(before);
        Ok(Counts { operations: done, elapsed, ..counts })
    }

    fn count(&self) -> Result<Counts, String> {
        let mut counts = Counts::default();
        for core in 0..self.engine.core_count() {
            let calls = self.engine.on_core(core, |engine| async move { engine.core().system_calls() });
            let calls = block_on(calls).map_err(|error| error.to_string())?;
            counts.system_calls += calls.total();
            counts.wakes += calls.wakes;
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
        counts.processor = machine::processor_time();
        Ok(counts)
    }

    /// Stores every object that [`get_large`] reads.
    pub(crate) fn fill_large(&self) -> Result<(), String> {
        let stored = self.on_core(0, |engine| async move {
            for number in 0..LARGE_OBJECTS {
                put(&engine, &large_key(number), LARGE_BYTES).await?;
            }
            Ok(())
        });
        block_on(stored).map_err(|error| error.to_string())
    }

    /// Stores `objects` of `bytes` under [`small_key`], many at a time.
    pub(crate) fn fill(&self, objects: u64, bytes: u64, depth: u64) -> Result<(), String> {
        let cores = self.engine.core_count() as u64;
        let lanes = (0..depth).map(|lane| {
            self.on_core((lane % cores) as usize, move |engine| async move {
                for number in (lane..objects).step_by(depth as usize) {
                    put(&engine, &small_key(number), bytes).await?;
                }
                Ok(0)
            })
        });
        let lanes: Vec<_> = lanes.map(Box::pin).collect();
        block_on(all(lanes)).map_err(|error| error.to_string()).map(drop)
    }
}

/// Drives every future to its end; the sum of what they give.
pub(crate) async fn all<F: Future<Output = Result<u64, Error>> + Unpin>(
    mut futures: Vec<F>,
) -> Result<u64, Error> {
    let mut sum = 0;
    futures_lite::future::poll_fn(move |cx| {
        let mut index = 0;
        while let Some(future) = futures.get_mut(index) {
            match Pin::new(future).poll(cx) {
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

pub(crate) fn large_key(number: u64) -> Vec<u8> {
    format!("large-{:03}", number % LARGE_OBJECTS).into_bytes()
}

pub(crate) fn small_key(number: u64) -> Vec<u8> {
    format!("small-{number:09}").into_bytes()
}

pub(crate) fn put_large(engine: CoreEngine, number: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move { put(&engine, &large_key(number), LARGE_BYTES).await })
}

pub(crate) fn get_large(engine: CoreEngine, number: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move { get(&engine, &large_key(number)).await })
}

pub(crate) fn put_small(engine: CoreEngine, number: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move { put(&engine, format!("new-{number}").as_bytes(), SMALL_BYTES).await })
}

pub(crate) fn get_small(engine: CoreEngine, _: u64) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move { get(&engine, &small_key(engine.core().random() % SMALL_OBJECTS)).await })
}

/// Stores an object whose bytes are in the leases already, as if a network card had put them there.
pub(crate) async fn put(engine: &CoreEngine, key: &[u8], bytes: u64) -> Result<(), Error> {
    let mut put = engine.put("bench", key, PutOptions { size: Some(bytes) }).await?;
    let mut left = bytes;
    while left > 0 {
        let mut lease = put.buffer().await?;
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

pub(crate) async fn get(engine: &CoreEngine, key: &[u8]) -> Result<(), Error> {
    let mut get = engine.get("bench", key, GetOptions::default()).await?;
    while let Some(chunk) = get.next().await {
        drop(chunk?);
    }
    Ok(())
}
