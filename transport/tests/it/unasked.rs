//! RDMA that nobody asks for: this very test program, started again to look at itself.

use crossdock_transport::{
    loopback::Loopback,
    memory::{Arena, ArenaOptions, PagePolicy},
    rdma::devices,
    remote::{EndpointOptions, SessionLimits, Transport},
};
use std::process::Command;

/// Set for the child: whether it asks.
const MARK: &str = "CROSSDOCK_ASKS_FOR_RDMA";

/// Files that are mapped into this process because of RDMA: the library, what it depends on, drivers.
fn mapped() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| ["libibverbs", "libnl", "rdmav"].iter().any(|name| line.contains(name)))
        .count()
}

#[test]
fn rdma_that_nobody_asks_for_is_not_there() {
    // Shows that a program with RDMA compiled in that uses other transports has neither the library nor a driver in it, and says nothing; and
    // that for one which asks the library is opened once. With the library on this host, or without.
    for asks in ["no", "yes"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["unasked::looks_at_itself", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(MARK, asks)
            .output()
            .unwrap();
        let (output, errors) =
            (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
        let looked = child.status.success() && output.contains("1 passed");
        assert!(looked, "asks: {asks}\n{output}\n{errors}");
        // The library itself may have something to say of a host's cards.
        assert!(asks == "yes" || errors.is_empty(), "{errors}");
    }
}

#[test]
#[ignore = "what the child of another test does"]
fn looks_at_itself() {
    let Ok(asks) = std::env::var(MARK) else { return };
    let transport = Loopback::new();
    let options = ArenaOptions { bytes: 4 << 20, pools: 1, pages: PagePolicy::Plain, prefault: false };
    transport.register(&Arena::map(&options).unwrap()).unwrap();
    let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(1));
    let options = EndpointOptions { core: 0, limits: SessionLimits::default(), entropy };
    let endpoint = transport.open(options).unwrap();
    endpoint.poll();
    assert_eq!(mapped(), 0);
    if asks == "yes" {
        let first = devices().map_err(|error| error.to_string());
        let after = mapped();
        assert_eq!(
            devices().map_err(|error| error.to_string()).map(|found| found.len()),
            first.map(|found| found.len())
        );
        assert_eq!(mapped(), after, "it was opened once");
    }
}
