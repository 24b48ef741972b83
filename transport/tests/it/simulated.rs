//! The card that does not exist: the suite, and its faults.

use crate::loopback::LoopbackClient;
use crossdock_transport::{
    conformance::{Client, Subject},
    conformance_suite,
    loopback::LoopbackPeer,
    memory::{Arena, ArenaOptions, PagePolicy},
    middleware::{Recorded, Recorder, Wrapped},
    operation::Pending,
    remote::{
        Access, Endpoint, EndpointOptions, Principal, RemoteMemory, SessionLimits, TransferError, Transport,
    },
    simulated::{SimulatedFaults, SimulatedNic},
};
use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

struct Simulated(SimulatedNic);

impl Subject for Simulated {
    fn transport(&self) -> &dyn Transport {
        &self.0
    }

    fn client(&self, bytes: usize) -> Box<dyn Client> {
        let nic = self.0.clone();
        Box::new(LoopbackClient::new(LoopbackPeer::new(bytes), move |peer| nic.offer(peer)))
    }
}

fn subject(seed: u64, drop_per_1024: u32) -> Simulated {
    // Packets that are lost and sent again are nobody's business either.
    let faults = SimulatedFaults { drop_per_1024, retries_max: u32::MAX, ..SimulatedFaults::none(seed) };
    Simulated(SimulatedNic::new(faults))
}

conformance_suite!(conforms, subject(1, 0));
conformance_suite!(conforms_on_a_bad_wire, subject(2, 100));

const SESSIONS: usize = 5;
const BYTES: usize = 64 << 10;

/// What a run with faults came to.
#[derive(PartialEq, Debug)]
struct Run {
    /// Session and result of each write, in the order of completion.
    completions: Vec<(usize, Result<u32, TransferError>)>,
    /// How many bytes of each client were written.
    written: Vec<usize>,
    records: usize,
}

/// Posts four writes of 64 KiB on each of five sessions, one behind the other in the client's memory, and polls until all are
/// complete. Checks what holds whatever the faults.
fn run(faults: SimulatedFaults) -> Run {
    thread_local! {
        static RECORDER: RefCell<Option<Rc<Recorder>>> = const { RefCell::new(None) };
    }
    let nic = SimulatedNic::new(faults);
    let transport = Wrapped::new(nic.clone(), |_core| {
        let recorder = Rc::new(Recorder::new(1000));
        RECORDER.set(Some(Rc::clone(&recorder)));
        recorder
    });
    let options = ArenaOptions { bytes: 16 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    let arena = Arena::map(&options).unwrap();
    transport.register(&arena).unwrap();
    let pool = arena.pool(0);
    let mut number = 0;
    let entropy = Box::new(move |bytes: &mut [u8]| {
        number += 1;
        bytes.fill(number);
    });
    let options = EndpointOptions { core: 0, limits: SessionLimits::default(), entropy };
    let endpoint = transport.open(options).unwrap();
    let principal = Principal::new("alice");
    let mut posted: Vec<(usize, Option<Pending>)> = Vec::new();
    let mut peers = Vec::new();
    let mut sessions: Vec<Rc<dyn RemoteMemory>> = Vec::new();
    for session in 0..SESSIONS {
        let peer = LoopbackPeer::new(4 * BYTES);
        let target = peer.expose(0..4 * BYTES, Access::Write);
        let answer = endpoint.connect(&principal, nic.offer(&peer)).unwrap();
        let remote = endpoint.session(answer.session, &principal).unwrap();
        for part in 0..4u64 {
            let mut lease = pool.try_acquire(BYTES).unwrap();
            lease.set_len(BYTES);
            lease.as_mut_slice().fill(1 + part as u8);
            let bytes = BYTES as u64;
            let slot = remote.credits().try_slot().unwrap();
            let part = target.slice(part * bytes..(part + 1) * bytes).unwrap();
            posted.push((session, Some(remote.write(slot, lease.freeze().into(), part))));
        }
        peers.push(peer);
        sessions.push(remote);
    }
    let completions = finish(&*endpoint, posted);
    let written = peers.iter().enumerate().map(|(session, peer)| {
        let own = completions.iter().filter(|(other, _)| *other == session);
        let whole = own.clone().take_while(|(_, result)| result.is_ok()).count();
        assert!(own.clone().skip(whole).all(|(_, result)| result.is_err()), "a success behind a failure");
        assert_eq!(sessions[session].is_open(), whole == 4);
        peer.with_bytes(|bytes| {
            let written = bytes.iter().take_while(|byte| **byte != 0).count();
            // A prefix of the payload, in its places, and nothing behind it.
            assert!(
                bytes.iter().take(written).enumerate().all(|(at, byte)| usize::from(*byte) == 1 + at / BYTES)
            );
            assert!(bytes.iter().skip(written).all(|byte| *byte == 0));
            assert!(written >= whole * BYTES, "said to be written, and is not");
            assert!(written < (whole + 1) * BYTES || whole == 4 || written == (whole + 1) * BYTES);
            written
        })
    });
    let written = written.collect();
    pool.drain_returns();
    assert_eq!(pool.leases(), 0, "leases that did not come back");
    let recorder = RECORDER.take().unwrap();
    let done = |recorded: &&Recorded| matches!(recorded, Recorded::Done(..));
    assert_eq!(recorder.records().iter().filter(done).count(), completions.len());
    Run { completions, written, records: recorder.records().len() }
}

fn finish(
    endpoint: &dyn Endpoint,
    mut posted: Vec<(usize, Option<Pending>)>,
) -> Vec<(usize, Result<u32, TransferError>)> {
    let mut completions = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100_000 {
        for (session, pending) in &mut posted {
            let polled = pending.as_mut().map(|pending| Pin::new(pending).poll(&mut context));
            if let Some(Poll::Ready(completion)) = polled {
                *pending = None;
                completions.push((*session, completion.result.map_err(TransferError::from)));
            }
        }
        if posted.iter().all(|(_, pending)| pending.is_none()) {
            return completions;
        }
        endpoint.poll();
    }
    panic!("operations that were never completed");
}

fn bad(seed: u64) -> SimulatedFaults {
    SimulatedFaults {
        drop_per_1024: 300,
        retries_max: 3,
        disconnect_per_1024: 12,
        step_bytes_max: 8 << 10,
        ..SimulatedFaults::none(seed)
    }
}

#[test]
fn faults_leave_what_they_should() {
    // Shows over many seeds that whatever happens each write completes once and gives its memory back, successes are whole, failures
    // a prefix, and sessions end with their first; and that every kind of fault does happen.
    let runs: Vec<Run> = (0..60).map(|seed| run(bad(seed))).collect();
    let results = || runs.iter().flat_map(|run| run.completions.iter());
    let count =
        |wanted: Result<u32, TransferError>| results().filter(|(_, result)| *result == wanted).count();
    assert!(count(Ok(BYTES as u32)) > 100);
    assert!(count(Err(TransferError::TimedOut)) > 10, "nothing was lost too often");
    assert!(count(Err(TransferError::Ended)) > 100, "no connection was lost");
    let torn =
        runs.iter().flat_map(|run| &run.written).filter(|written| !written.is_multiple_of(BYTES)).count();
    assert!(torn > 20, "no write failed in the middle");
    let overtaken = |run: &&Run| !run.completions.is_sorted_by_key(|(session, _)| *session);
    assert!(runs.iter().filter(overtaken).count() > 30, "sessions never overtake each other");
    assert!(runs.iter().all(|run| run.records == 2 * 4 * SESSIONS), "what the recorder saw");
}

#[test]
fn a_run_repeats_exactly() {
    // Shows that nothing but the seed decides what happens, and that it does.
    for seed in 0..10 {
        assert_eq!(run(bad(seed)), run(bad(seed)));
    }
    assert!((1..10).any(|seed| run(bad(seed)) != run(bad(0))));
}

#[test]
fn a_recorder_keeps_the_last() {
    // Shows that records are bounded, in order, and those before them counted.
    use crossdock_transport::{
        middleware::{Middleware, Observed},
        remote::SessionId,
    };
    let recorder = Recorder::new(3);
    let observed = |bytes| Observed { session: SessionId::from_bytes([0; 16]), access: Access::Read, bytes };
    for bytes in 0..5 {
        recorder.before(&observed(bytes));
    }
    recorder.after(&observed(4), Ok(4));
    let expected =
        [Recorded::Posted(observed(3)), Recorded::Posted(observed(4)), Recorded::Done(observed(4), Ok(4))];
    assert_eq!((recorder.records(), recorder.forgotten()), (expected.to_vec(), 3));
}
