//! How long one small operation takes while there is little else to do, beside the device's own latency.
//!
//! Operations are begun at times drawn beforehand, whatever became of those before, and their time counts from then: a
//! store that stands still for a while is late for all that fell into that while, not for one.

use crate::{
    Plan,
    engine::{Operation, SMALL_BYTES, Store, get_small, put_small},
};
use crossdock::{CoreEngine, Error};
use crossdock_benches::{
    fio::{Fio, Pattern},
    load::{self, Load, Operation as Request, Pool},
    report::{Report, Row, Target},
    server::Server,
};
use futures_lite::future::block_on;
use std::time::Duration;

/// Operations a second.
const RATE: u32 = 200;
const OBJECTS: u64 = 50_000;
/// Of each of the two operations.
const BUDGET: Duration = Duration::from_secs(120);
const PERCENTILES: [&str; 3] = ["p50", "p99", "p99.9"];

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    let seconds = if plan.full { 8 } else { 4 };
    let requests = u64::from(RATE * seconds);
    report.section(
        "Latency at low load",
        &format!(
            "{RATE} operations of 4 KiB a second at the times of a Poisson process, drawn beforehand, each timed from when it was \
             due until it is done (for a request: until its answer is whole). The device: fio at the same rate and kind of times, \
             `O_DIRECT`, writes `O_DSYNC`, each timed from the beginning of its submission until it is done; what it begins late \
             is not in its figures. Microseconds; a round has {requests} operations of each, of which the slowest one or two are p99.9. {}",
            plan.yardstick_text()?
        ),
    );
    let store = Store::open(&plan.directory.join("latency"), None)?;
    store.fill(OBJECTS, SMALL_BYTES, 64)?;
    let server = Server::start(&plan.programs.join("s3-server"), &plan.directory.join("latency-http"), &[])?;
    load::create_bucket(&server)?;
    let pool = Pool::new(SMALL_BYTES as usize);
    let request = |operation| Load {
        server: &server,
        pool: &pool,
        operation,
        object_bytes: SMALL_BYTES as usize,
        connections: 8,
        first: 0,
        requests,
        objects: requests,
        rate: Some(f64::from(RATE)),
        time_max: None,
    };
    for (what, pattern, operation, asked) in [
        ("PUT", Pattern::RandomDurableWrite, put_small as Operation, Request::Put),
        ("GET", Pattern::RandomRead, get_small as Operation, Request::Get),
    ] {
        let fio = Fio {
            yardstick: plan.yardstick()?,
            pattern,
            block_bytes: SMALL_BYTES as u32,
            depth: 8,
            seconds,
            rate: Some(RATE),
        };
        let mut figures: [[Vec<f64>; 3]; 3] = Default::default();
        for _ in plan.rounds_within(plan.rounds(), BUDGET) {
            let device = fio.run()?.latencies_us;
            let engine = paced(&store, operation, requests)?;
            let served = request(asked).run()?;
            let http = [50.0, 99.0, 99.9].map(|percent| served.percentile(percent).as_secs_f64() * 1e6);
            for (all, round) in figures.iter_mut().zip([device, engine, http]) {
                all.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
            }
        }
        for (who, figures) in ["the device", "the engine", "S3 over HTTP"].iter().zip(&figures) {
            for (percentile, figures) in PERCENTILES.iter().zip(figures) {
                let name = format!("{what} of 4 KiB, {who}, {percentile}");
                report.push(Row::figures(name, Target::None, figures, "µs"));
            }
        }
    }
    store.engine.close();
    Ok(())
}

/// Begins operations at random times on the first core; percentiles of how long they took, in microseconds.
fn paced(store: &Store, operation: Operation, count: u64) -> Result<[f64; 3], String> {
    let run = store.on_core(0, move |engine| async move { pace(engine, operation, count).await });
    let mut latencies = block_on(run).map_err(|error| error.to_string())?;
    latencies.sort_unstable();
    Ok([50.0, 99.0, 99.9].map(|percent| {
        let place = (latencies.len() as f64 * percent / 100.0).ceil() as usize;
        latencies.get(place.saturating_sub(1)).copied().unwrap_or_default().as_secs_f64() * 1e6
    }))
}

async fn pace(engine: CoreEngine, operation: Operation, count: u64) -> Result<Vec<Duration>, Error> {
    let core = engine.core().clone();
    let mut due = core.now();
    let mut running = Vec::new();
    for number in 0..count {
        // Gaps of a Poisson process: exponential, with the rate's mean.
        let chance = (core.random() >> 11) as f64 / (1_u64 << 53) as f64;
        due = due.after(Duration::from_secs_f64(-(1.0 - chance).ln() / f64::from(RATE)));
        let wait = due.since(core.now());
        if !wait.is_zero() {
            core.sleep(wait).await;
        }
        let (engine, after) = (engine.clone(), core.clone());
        running.push(core.spawn(async move {
            operation(engine, 900_000_000 + number).await?;
            Ok::<Duration, Error>(after.now().since(due))
        }));
    }
    let mut latencies = Vec::with_capacity(running.len());
    for one in running {
        latencies.push(one.await?);
    }
    Ok(latencies)
}
