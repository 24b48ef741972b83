//! What is bounded stays bounded, and whoever stays within the bounds does not notice those who do not.

#![allow(clippy::disallowed_methods, reason = "a test of the real engine measures real time")]

use super::{open, some_bytes};
use bytes::Bytes;
use crossdock::{
    CommitOptions, CoreEngine, Delete, Engine, Error, GetOptions, GetStream, ListOptions, OpenError,
    PutOptions, PutStream, Resource,
};
use futures_lite::future::block_on;
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Says to a test that it is the child that it started.
const CHILD: &str = "CROSSDOCK_LIMITS_CHILD";

/// Bytes of this process that are in memory now, and that ever were.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// The printed sum is what the process takes at most, measured by the kernel while the index is filled until it is refused more; then
/// reads and deletes go on, and what was deleted makes room.
#[test]
fn memory_is_what_the_sum_says() {
    if std::env::var_os(CHILD).is_some() {
        return fill_the_index(Path::new(&std::env::var_os(CHILD).unwrap()));
    }
    let directory = tempfile::tempdir().unwrap();
    // A process of its own: what other tests take must not be counted.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "limits::memory_is_what_the_sum_says", "--nocapture"])
        .env(CHILD, directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    println!("{said}");
}

fn fill_the_index(path: &Path) {
    let builder =
        || Engine::builder().path(path).cores(1).shards(2).memory_bytes(32 << 20).capacity_bytes(1 << 30);
    let fixed = {
        let engine = builder().open().unwrap();
        let fixed = engine.report().memory.fixed_bytes();
        engine.close();
        fixed
    };
    let most = fixed + (24 << 20);
    let (before, _) = resident();
    let engine = builder().memory_max(most).admission_wait(Duration::from_secs(30)).open().unwrap();
    println!("{}", engine.report().memory);
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    block_on(engine.put_bytes("b", b"large", some_bytes(12 << 20, 3))).unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    let fill = || {
        let attributes = Bytes::from(vec![7; 2000]);
        loop {
            let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let key = format!("some/key/of/a/usual/length/{number:08}");
            let put = async {
                let mut put = engine.put("b", key.as_bytes(), PutOptions { size: Some(700) }).await?;
                put.write(some_bytes(700, number.into())).await?;
                let options = CommitOptions { attributes: attributes.clone(), ..CommitOptions::default() };
                put.finish(options).await
            };
            match block_on(put) {
                Ok(_) => assert!(number < 100_000, "the index is not bounded"),
                Err(error) => return error,
            }
        }
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16).map(|_| scope.spawn(fill)).collect();
        for writer in writers {
            assert_eq!(writer.join().unwrap(), Error::Busy(Resource::Index));
        }
    });
    let statistics = block_on(engine.statistics()).unwrap();
    let (versions, index): (u64, u64) =
        statistics.iter().fold((0, 0), |sum, shard| (sum.0 + shard.versions, sum.1 + shard.index_bytes));
    let (now, ever) = resident();
    println!(
        "{versions} versions, index {index} B counted; resident {} B more than before, {} B at most, of {most} B",
        now - before,
        ever - before
    );
    assert!(
        ever - before <= most,
        "resident {ever} B, {before} B of it before; {most} B were to be the most"
    );
    // A bound that is never come near bounds nothing: what is counted is really there, within a factor.
    assert!(now - before > index / 3, "{now} B resident, {index} B of index counted");
    load(&engine);
    let (_, ever) = resident();
    println!("resident {} B at most under load, of {most} B", ever - before);
    assert!(
        ever - before <= most,
        "under load {ever} B, {before} B of it before; {most} B were to be the most"
    );
    let first = b"some/key/of/a/usual/length/00000000";
    assert_eq!(block_on(engine.get_bytes("b", first)).unwrap().len(), 700);
    for number in 0..64 {
        let key = format!("some/key/of/a/usual/length/{number:08}");
        block_on(engine.delete("b", Delete::current(key.as_bytes()))).unwrap();
    }
    block_on(engine.put_bytes("b", first, some_bytes(700, 1))).unwrap();
    engine.close();
    let too_little = builder().memory_max(fixed + (8 << 20)).open();
    assert!(matches!(too_little, Err(OpenError::Memory { .. })), "{:?}", too_little.err());
}

/// Readers of large objects, listings, uploads in parts and writers, all at once and each as fast as it can, for as long as one of them
/// takes. None keeps what it was given.
fn load(engine: &Engine) {
    let read = || {
        let mut get = block_on(engine.get("b", b"large", GetOptions::default())).unwrap();
        while let Some(chunk) = block_on(get.next()) {
            chunk.unwrap();
        }
    };
    let list = || {
        let options = ListOptions { limit: 1000, ..ListOptions::default() };
        assert_eq!(block_on(engine.list("b", options)).unwrap().items.len(), 1000);
    };
    let write = || {
        let put = async {
            let mut put = engine.put("b", b"other", PutOptions { size: Some(9 << 20) }).await.unwrap();
            for _ in 0..9 {
                put.write(some_bytes(1 << 20, 1)).await.unwrap();
            }
            put.finish(CommitOptions::default()).await
        };
        // There is room for it in the index, or there is not.
        let answer = block_on(put).map(drop);
        assert!(matches!(answer, Ok(()) | Err(Error::Busy(Resource::Index))), "{answer:?}");
    };
    let small = || {
        assert_eq!(
            block_on(engine.get_bytes("b", b"some/key/of/a/usual/length/00000001")).unwrap().len(),
            700
        )
    };
    std::thread::scope(|scope| {
        for work in [&read as &(dyn Fn() + Sync), &list, &write, &small] {
            for _ in 0..8 {
                scope.spawn(move || (0..6).for_each(|_| work()));
            }
        }
    });
}

/// Clients that stall hold what their budget has and are told so by its name beyond it; of two stores the one that has them serves others
/// as fast as the one that has none.
#[test]
fn stalled_clients_hold_their_budget_and_nothing_else() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let engines = directories.each_ref().map(|directory| {
        let builder = Engine::builder().path(directory.path()).cores(1).memory_bytes(128 << 20);
        let engine = builder.admission_wait(Duration::ZERO).capacity_bytes(4 << 30).open().unwrap();
        block_on(async {
            engine.create_bucket("b", Bytes::new()).await.unwrap();
            engine.put_bytes("b", b"small", some_bytes(4096, 1)).await.unwrap();
            engine.put_bytes("b", b"large", some_bytes(8 << 20, 2)).await.unwrap();
        });
        engine
    });
    let [stalled, quiet] = &engines;
    let (writers, refused) = stall_writers(stalled);
    assert!(writers.len() >= 8 && refused.len() >= 900, "{} writers hold memory", writers.len());
    assert!(refused.iter().all(|error| *error == Error::Busy(Resource::WriteMemory)), "{refused:?}");
    let (readers, refused) = stall_readers(stalled);
    assert!(readers.len() >= 3 && refused.len() >= 900, "{} readers hold memory", readers.len());
    assert!(refused.iter().all(|error| *error == Error::Busy(Resource::ReadMemory)), "{refused:?}");

    // A noisy machine makes one round wrong, a store that is held up all of them.
    let mut best = f64::MAX;
    for _ in 0..5 {
        let [with, without] = slowest_of([stalled, quiet]);
        best = best.min(with.as_secs_f64() / without.as_secs_f64());
        println!("p99 of small reads and writes: {with:?} with stalled clients, {without:?} without");
        if best <= 2.0 {
            break;
        }
    }
    assert!(best <= 2.0, "others are slowed down {best:.1} times");

    // Who comes back is let in as soon as somebody has gone.
    let patient = stalled.waiting_at_most(Duration::from_secs(60));
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(patient.put("b", b"late", PutOptions { size: Some(8 << 20) })));
        drop(writers);
        waiting.join().unwrap()
    });
    assert!(waiting.is_ok(), "{:?}", waiting.err());
    drop((waiting, readers));
    engines.into_iter().for_each(|engine| drop(engine.close()));
}

/// What is counted of small bodies is what their leases take, which is up to sixteen times their bytes: writers who stall after their
/// first byte leave memory to those who come after them.
#[test]
fn small_bodies_count_by_their_leases() {
    let directory = tempfile::tempdir().unwrap();
    let builder = Engine::builder().path(directory.path()).cores(1).memory_bytes(32 << 20);
    let engine = builder.admission_wait(Duration::ZERO).capacity_bytes(1 << 30).open().unwrap();
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    block_on(engine.put_bytes("b", b"small", some_bytes(4096, 1))).unwrap();
    let leased = || {
        let look = |engine: CoreEngine| async move {
            let pool = engine.core().pool().clone();
            (pool.leased_bytes(), pool.leases(), pool.total_bytes())
        };
        block_on(engine.on_core(0, look)).unwrap()
    };
    // The lease of what was put is on its way back.
    std::thread::sleep(Duration::from_millis(100));
    let (_, at_rest, _) = leased();
    for bytes in [5_000, 70_000, 300_000] {
        let (mut held, mut refused) = (Vec::new(), 0);
        for number in 0..1000u32 {
            let options = PutOptions { size: Some(bytes) };
            match block_on(engine.put("b", &number.to_le_bytes(), options)) {
                Ok(put) => held.push(put),
                Err(Error::Busy(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 0, "{bytes}: all of them were let in");
        for put in &mut held {
            block_on(put.write(Bytes::from_static(b"the first bytes, and no more"))).unwrap();
        }
        let started = Instant::now();
        while leased().1 < at_rest + held.len() && started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (now, leases, whole) = leased();
        println!("{} writers of {bytes} B hold {now} B of {whole} B in {leases} leases", held.len());
        assert_eq!(leases, at_rest + held.len(), "{bytes}: writers who were let in wait for memory");
        assert!(now <= whole * 3 / 4, "{bytes}: {now} B of {whole} B are leased");
        assert_eq!(block_on(engine.get_bytes("b", b"small")).unwrap().len(), 4096);
        drop(held);
        while leased().1 > at_rest {
            assert!(started.elapsed() < Duration::from_secs(60), "leases of writers that are gone are out");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    engine.close();
}

fn stall_writers(engine: &Engine) -> (Vec<PutStream>, Vec<Error>) {
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for number in 0..1000u32 {
        let key = number.to_le_bytes();
        match block_on(engine.put("b", &key, PutOptions { size: Some(8 << 20) })) {
            Ok(put) => held.push(put),
            Err(error) => refused.push(error),
        }
    }
    (held, refused)
}

/// They take no byte of what they asked for.
fn stall_readers(engine: &Engine) -> (Vec<GetStream>, Vec<Error>) {
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        match block_on(engine.get("b", b"large", GetOptions::default())) {
            Ok(get) => held.push(get),
            Err(error) => refused.push(error),
        }
    }
    (held, refused)
}

/// The 99th percentile of small reads and writes of each, asked in turns.
fn slowest_of(engines: [&Engine; 2]) -> [Duration; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..200u64 {
        for (engine, times) in engines.iter().zip(&mut times) {
            let started = Instant::now();
            block_on(async {
                engine.put_bytes("b", b"other", some_bytes(4096, number)).await.unwrap();
                engine.get_bytes("b", b"small").await.unwrap();
            });
            times.push(started.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort();
        times[times.len() * 99 / 100]
    })
}

/// Whoever may not wait is told at once, whoever may waits so long and no longer.
#[test]
fn a_deadline_bounds_the_wait() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    block_on(engine.create_bucket("b", Bytes::new())).unwrap();
    let mut held = Vec::new();
    // Until both cores have given all.
    let mut in_a_row = 0;
    for number in 0..10_000u32 {
        let hasty = engine.waiting_at_most(Duration::ZERO);
        match block_on(hasty.put("b", &number.to_le_bytes(), PutOptions { size: Some(8 << 20) })) {
            Ok(put) => (in_a_row, _) = (0, held.push(put)),
            Err(error) => {
                assert_eq!(error, Error::Busy(Resource::WriteMemory));
                in_a_row += 1;
            }
        }
        if in_a_row == 64 {
            break;
        }
    }
    let wait = Duration::from_millis(300);
    let started = Instant::now();
    let refused = block_on(engine.waiting_at_most(wait).put("b", b"k", PutOptions { size: Some(8 << 20) }));
    assert_eq!(refused.err(), Some(Error::Busy(Resource::WriteMemory)));
    assert!(started.elapsed() >= wait);
    drop(held);
    engine.close();
}
