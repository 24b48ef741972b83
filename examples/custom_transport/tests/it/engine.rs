//! An engine with the transport, and an object that goes through it both ways.

use crate::unix_pair;
use crossdock::{CommitOptions, CoreEngine, Engine, GetOptions, PutOptions, reactor::RingDriver};
use crossdock_custom_transport::{Agent, Streams};
use crossdock_transport::{
    memory::{CopyReason, copied_bytes},
    remote::{Access, Offer, Principal, RemoteMemory, RemoteSlice},
};
use std::{
    error::Error,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

/// More than a chunk, and no whole number of blocks.
const BYTES: usize = (5 << 20) + 777;

/// A request, as a front end would have it from the network.
struct Asked {
    stream: OwnedFd,
    source: RemoteSlice,
    target: RemoteSlice,
}

/// Stores what the client's memory holds, as it comes: each buffer that the engine gives is read into, and pushed.
async fn put(
    engine: &CoreEngine,
    remote: &Rc<dyn RemoteMemory>,
    source: RemoteSlice,
) -> Result<(), Box<dyn Error>> {
    let size = source.bytes();
    let mut put = engine.put("bucket", b"key", PutOptions { size: Some(size) }).await?;
    while put.received() < size {
        let lease = put.buffer().await?;
        let end = size.min(put.received() + put.buffer_bytes() as u64);
        let part = source.slice(put.received()..end).ok_or("the source is shorter than it was")?;
        let (result, lease) = remote.read(remote.credits().slot().await, part, lease).await.into_lease();
        result?;
        put.push(lease).await?;
    }
    put.finish(CommitOptions::default()).await?;
    Ok(())
}

/// Writes an object to the client's memory, as it comes from the disk.
async fn get(
    engine: &CoreEngine,
    remote: &Rc<dyn RemoteMemory>,
    target: RemoteSlice,
) -> Result<(), Box<dyn Error>> {
    let mut get = engine.get("bucket", b"key", GetOptions::default()).await?;
    let mut at = 0;
    while let Some(chunk) = get.next().await {
        let chunk = chunk?;
        let end = at + chunk.len() as u64;
        let part = target.slice(at..end).ok_or("the object is longer than the target")?;
        remote.write(remote.credits().slot().await, chunk.into(), part).await.result?;
        at = end;
    }
    Ok(())
}

async fn serve(engine: &CoreEngine, driver: &RingDriver, asked: Asked) -> Result<(), Box<dyn Error>> {
    let endpoint = driver.endpoint("streams").ok_or("the builder was given it")?;
    let principal = Principal::new("alice");
    let offer = Offer { descriptor: Some(asked.stream), ..Offer::default() };
    let session = endpoint.connect(&principal, offer)?.session;
    let remote = endpoint.session(session, &principal).ok_or("just made")?;
    engine.create_bucket("bucket", Default::default()).await?;
    put(engine, &remote, asked.source).await?;
    get(engine, &remote, asked.target).await?;
    endpoint.disconnect(session, &principal);
    Ok(())
}

#[test]
fn an_object_goes_both_ways() {
    // Shows that an engine takes a transport it has never heard of, and that an object goes from a client's memory to disk and back,
    // in the engine's own leases: nothing in this process copies the payload.
    let directory = tempfile::tempdir().unwrap();
    let (inbox, answers) = (Arc::new(Mutex::new(None::<Asked>)), mpsc::channel());
    let on_core = Arc::clone(&inbox);
    let front_end = move |engine: CoreEngine, driver: Rc<RingDriver>| {
        let (inbox, answer) = (Arc::clone(&on_core), answers.0.clone());
        async move {
            let asked = loop {
                let next = inbox.lock().unwrap().take();
                match next {
                    Some(asked) => break asked,
                    None => engine.core().sleep(Duration::from_millis(1)).await,
                }
            };
            let served = serve(&engine, &driver, asked).await;
            answer.send(served.map_err(|error| error.to_string())).unwrap();
        }
    };
    let builder = Engine::builder().path(directory.path()).cores(1).capacity_bytes(1 << 30);
    let engine = builder.transport(Arc::new(Streams::new())).on_each_core(front_end).open().unwrap();

    let agent = Agent::new(2 * BYTES);
    let byte = |at: usize| (at % 251) as u8;
    agent.with_bytes(|bytes| bytes.iter_mut().take(BYTES).enumerate().for_each(|(at, to)| *to = byte(at)));
    let (source, target) =
        (agent.expose(0..BYTES, Access::Read), agent.expose(BYTES..2 * BYTES, Access::Write));
    let (stream, _hang_up) = unix_pair(agent.clone());
    let reasons =
        [CopyReason::Inline, CopyReason::Packed, CopyReason::Framing, CopyReason::Edge, CopyReason::Foreign];
    let copied = || reasons.into_iter().map(copied_bytes).sum::<u64>();
    let before = copied();
    *inbox.lock().unwrap() = Some(Asked { stream, source, target });
    assert_eq!(answers.1.recv_timeout(Duration::from_secs(60)), Ok(Ok(())));
    assert_eq!(copied(), before);
    agent.with_bytes(|bytes| assert!(bytes[BYTES..].iter().enumerate().all(|(at, got)| *got == byte(at))));
    engine.close();
}
