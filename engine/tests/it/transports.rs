//! Transports beside the disks: given to the builder, driven by the cores.

use bytes::Bytes;
use crossdock::{Builder, Engine, OpenError};
use crossdock_transport::{
    loopback::Loopback,
    memory::{Arena, ArenaOptions, PagePolicy},
    remote::{Access, Offer, Principal, RemoteSlice, SessionId, SessionLimits, Transport},
    ring::DriverChoice,
    shm::{Event, Shm, ShmClient, ShmOptions, same_user_or_root},
};
use futures_lite::future::block_on;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

const BYTES: usize = 1 << 20;

fn builder(path: &Path) -> Builder {
    Engine::builder().path(path).cores(2).memory_bytes(64 << 20).capacity_bytes(1 << 30)
}

fn shm(path: &Path) -> Arc<dyn Transport> {
    Arc::new(Shm::listen(path, ShmOptions::default()).unwrap())
}

fn client(path: &Path) -> ShmClient {
    ShmClient::connect(path, BYTES as u64, same_user_or_root).unwrap()
}

/// What the client hears within ten seconds.
fn hear(client: &ShmClient) -> Event {
    for _ in 0..10 {
        if let Some(event) = client.poll() {
            return event;
        }
        let limit = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::new(&client.descriptor(), PollFlags::IN)], Some(&limit)).unwrap();
    }
    panic!("the cores sleep");
}

#[test]
fn a_sleeping_core_hears_its_transports() {
    // Shows, on both drivers, that a core with nothing to do is woken by a client of a transport and by a caller of the engine,
    // one after the other, and that a session nobody uses is ended by the core's own clock.
    for driver in [DriverChoice::Best, DriverChoice::Portable] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let limits = SessionLimits { idle_max: Duration::from_millis(200), ..SessionLimits::default() };
        let builder = builder(directory.path()).driver(driver).session_limits(limits);
        let engine = builder.transport(shm(&socket)).transport(Arc::new(Loopback::new())).open().unwrap();
        for round in 0..3 {
            let client = client(&socket);
            assert!(matches!(hear(&client), Event::Session(_)));
            block_on(engine.create_bucket(&format!("bucket-{round}"), Bytes::new())).unwrap();
            assert_eq!(hear(&client), Event::Gone, "nobody named it in time");
        }
        engine.close();
    }
}

/// What a test asks of a core, and what came of it.
#[derive(Default)]
struct Exchange {
    asked: Mutex<Option<(SessionId, RemoteSlice)>>,
    answered: Mutex<Option<Result<u32, String>>>,
}

#[test]
fn a_front_end_moves_bytes_on_the_core_of_the_session() {
    // Shows that a front end finds the endpoints of its core, by name and in order, and that an operation it awaits is completed by
    // the core's loop.
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let exchange = Arc::new(Exchange::default());
    let on_core = Arc::clone(&exchange);
    let front_end = move |engine: crossdock::CoreEngine,
                          driver: std::rc::Rc<crossdock::reactor::RingDriver>| {
        let exchange = Arc::clone(&on_core);
        async move {
            let names: Vec<_> = driver.endpoints().iter().map(|(name, _)| *name).collect();
            assert_eq!(names, ["shm", "loopback"]);
            assert!(driver.endpoint("rdma").is_none());
            let endpoint = driver.endpoint("shm").expect("it was given to the builder");
            let core = engine.core();
            let (session, target) = loop {
                let asked = *exchange.asked.lock().unwrap();
                match asked {
                    Some((session, target)) if usize::from(session.core()) == core.index() => {
                        break (session, target);
                    }
                    // The other core has it.
                    Some(_) => return,
                    None => core.sleep(Duration::from_millis(1)).await,
                }
            };
            let principal = Principal::new("alice");
            let token = format!("{:032x}", u128::from_be_bytes(session.to_bytes()));
            endpoint.connect(&principal, Offer { token, ..Offer::default() }).unwrap();
            let remote = endpoint.session(session, &principal).unwrap();
            let mut lease = core.pool().acquire(BYTES).await;
            lease.set_len(BYTES);
            lease.as_mut_slice().fill(9);
            let slot = remote.credits().slot().await;
            let completion = remote.write(slot, lease.freeze().into(), target).await;
            let answer = completion.result.map_err(|error| error.to_string());
            *exchange.answered.lock().unwrap() = Some(answer);
            endpoint.disconnect(session, &principal);
        }
    };
    let builder = builder(directory.path()).transport(shm(&socket)).transport(Arc::new(Loopback::new()));
    let engine = builder.on_each_core(front_end).open().unwrap();
    let client = client(&socket);
    let Event::Session(session) = hear(&client) else { panic!("no session") };
    let target = client.expose(0..BYTES, Access::Write).unwrap();
    *exchange.asked.lock().unwrap() = Some((session, target));
    assert_eq!(hear(&client), Event::Gone);
    assert_eq!(*exchange.answered.lock().unwrap(), Some(Ok(BYTES as u32)));
    let mut written = vec![0; BYTES];
    client.load(0, &mut written);
    assert!(written.iter().all(|byte| *byte == 9));
    engine.close();
}

#[test]
fn transports_that_cannot_be_had_are_told() {
    // Shows that two transports of one name, and one that has an arena already, are typed errors of opening.
    let directory = tempfile::tempdir().unwrap();
    let twice =
        builder(directory.path()).transport(Arc::new(Loopback::new())).transport(Arc::new(Loopback::new()));
    assert!(matches!(twice.open(), Err(OpenError::Options(why)) if why.contains("loopback")));
    let taken = Loopback::new();
    let options = ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    taken.register(&Arena::map(&options).unwrap()).unwrap();
    let result = builder(directory.path()).transport(Arc::new(taken)).open();
    assert!(matches!(result, Err(OpenError::Options(why)) if why.contains("arena")));
    builder(directory.path()).open().unwrap().close();
}
