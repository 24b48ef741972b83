//! Listing: through the engine, and through S3's documents.

use crate::{Plan, engine::Store};
use crossdock::{CoreEngine, Error, ListOptions};
use crossdock_benches::{
    load::{self, Load, Operation, Pool},
    machine,
    report::{Report, Row, Target},
    server::Server,
};
use futures_lite::future::block_on;

/// Bytes of the objects that are listed: so few that they lie in the index.
const OBJECT_BYTES: usize = 1;

pub(crate) fn measure(plan: &Plan, report: &mut Report) -> Result<(), String> {
    report.section(
        "Listing",
        "Keys for a second of processor time: what one core lists. Warm; pages of 1000 keys, from the first to the last.",
    );
    let objects: u64 = if plan.full { 1_000_000 } else { 100_000 };
    let store = Store::open(&plan.directory.join("listing"), None)?;
    store.fill(objects, OBJECT_BYTES as u64, 512)?;
    let mut rates = Vec::new();
    for _ in 0..plan.rounds() {
        let before = machine::processor_time();
        let listing = store.on_core(0, move |engine| async move { list_all(engine).await });
        let keys = block_on(listing).map_err(|error| error.to_string())?;
        if keys != objects {
            return Err(format!("{keys} keys were listed instead of {objects}"));
        }
        rates.push(keys as f64 / (machine::processor_time() - before).as_secs_f64());
    }
    store.engine.close();
    let name = format!("LIST of {objects} keys, engine API");
    report.push(Row::figures(name, Target::AtLeast(500_000.0), &rates, "keys a CPU-second"));

    let server = Server::start(&plan.programs.join("s3-server"), &plan.directory.join("listing-http"), &[])?;
    load::create_bucket(&server)?;
    let pool = Pool::new(OBJECT_BYTES);
    let load = |operation, requests| Load {
        server: &server,
        pool: &pool,
        operation,
        object_bytes: OBJECT_BYTES,
        connections: 4,
        first: 0,
        requests,
        objects: requests,
        rate: None,
        time_max: None,
    };
    load(Operation::Put, 2_000).run()?;
    let pages = if plan.full { 2000 } else { 500 };
    let mut rates = Vec::new();
    for _ in 0..plan.rounds() {
        rates.push(load(Operation::List(1000), pages).run()?.requests_per_cpu_second() * 1000.0);
    }
    let name = "LIST through S3, pages of 1000 keys";
    report.push(Row::figures(name, Target::AtLeast(200_000.0), &rates, "keys a server CPU-second"));
    Ok(())
}

/// Lists every key, page by page; how many there are.
pub(crate) async fn list_all(engine: CoreEngine) -> Result<u64, Error> {
    let mut options = ListOptions { limit: 1000, ..ListOptions::default() };
    let mut keys = 0_u64;
    loop {
        let listing = engine.list("bench", &options).await?;
        keys += listing.items.len() as u64;
        match listing.next {
            Some(next) => options.start = next,
            None => return Ok(keys),
        }
    }
}
