//! Transfers that take longer than a server lets them take which hears nothing of it.

use crate::{
    bench::{ALICE, Bench, pause},
    renewal::connected,
};
use crossdock_s3::{
    client::{Client, Pace, Policy, Way},
    protocol::http::Method,
};
use crossdock_transport::{
    middleware::{Fate, Middleware, Observed, Wrapped},
    remote::TransferError,
    simulated::{SimulatedFaults, SimulatedNic},
};
use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Eight operations of a MiB, each of which is begun this long behind the one before: the last one when six seconds are over.
const BYTES: usize = 8 << 20;
const OPERATION_MS: u64 = 900;

/// A card that takes so many milliseconds before it begins an operation, and so does its core.
struct Throttle(Arc<AtomicU64>);

impl Middleware for Throttle {
    fn before(&self, _: &Observed) -> Fate {
        pause(self.0.load(Ordering::Relaxed));
        Fate::Pass
    }

    fn after(&self, _: &Observed, _: Result<u32, TransferError>) {}
}

/// A server with such a card, a client that requires it, and what slows the card down.
fn throttled() -> (Bench, SimulatedNic, Client, Arc<AtomicU64>) {
    let (nic, milliseconds) = (SimulatedNic::new(SimulatedFaults::none(1)), Arc::<AtomicU64>::default());
    let throttle = milliseconds.clone();
    let transport = Wrapped::new(nic.clone(), move |_| Rc::new(Throttle(throttle.clone())) as _);
    let bench = Bench::with(Some(Arc::new(transport)));
    assert_eq!(bench.client(ALICE).call(Method::Put, "/bucket", &[], b"").status, 200);
    // A MiB a second.
    let pace = Pace { bytes_per_second: 1 << 20, ..Pace::default() };
    let client = crate::client::client(&bench.host(), Policy::Require).pace(pace);
    (bench, nic, client, milliseconds)
}

fn fill(buffer: &mut [u8]) {
    buffer.iter_mut().zip(0u32..).for_each(|(byte, at)| *byte = (at * 7 + 1 + (at >> 8)) as u8);
}

#[test]
fn what_takes_longer_than_the_default_is_told_and_moves() {
    // Shows a PUT and a GET of whole objects that need more than five seconds: they go over the transport, because the server is told.
    #[allow(clippy::disallowed_methods, reason = "two clients, so that the test takes half as long")]
    let put = thread::spawn(|| {
        let (_bench, nic, mut client, milliseconds) = throttled();
        let session = connected(&nic, &mut client);
        let mut buffer = session.buffer(BYTES).unwrap();
        fill(&mut buffer);
        milliseconds.store(OPERATION_MS, Ordering::Relaxed);
        let stored = client.put_from("bucket", "key", &[], buffer, BYTES).unwrap();
        assert_eq!(stored.way, Way::Transport);
    });
    let (_bench, nic, mut client, milliseconds) = throttled();
    let session = connected(&nic, &mut client);
    let mut buffer = session.buffer(BYTES).unwrap();
    fill(&mut buffer);
    let expected = buffer.to_vec();
    let mut buffer = client.put_from("bucket", "key", &[], buffer, BYTES).unwrap().buffer;
    buffer.fill(0);
    milliseconds.store(OPERATION_MS, Ordering::Relaxed);
    let got = client.get_into("bucket", "key", None, buffer).unwrap();
    assert_eq!((got.way, got.bytes), (Way::Transport, BYTES));
    assert!(got.buffer[..] == expected[..]);
    put.join().unwrap();
}

#[test]
fn the_time_is_the_servers_to_keep() {
    // Shows that a time which the caller makes short ends a transfer that takes longer, and that it is told as one that failed.
    let (_bench, nic, client, milliseconds) = throttled();
    let mut client = client.pace(Pace { base: Duration::from_millis(100), bytes_per_second: 1 << 30 });
    let session = connected(&nic, &mut client);
    let buffer = session.buffer(BYTES).unwrap();
    milliseconds.store(300, Ordering::Relaxed);
    let failed = client.put_from("bucket", "key", &[], buffer, BYTES).unwrap_err();
    assert!(failed.error.to_string().contains("RDMATransferFailed"), "{failed:?}");
    assert!(failed.buffer.is_some());
}
