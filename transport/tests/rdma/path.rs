//! The way between two queue pairs: addresses, packets, links.

use crate::card::{Card, Side};
use crossdock_transport::{
    rdma::{Gid, Rdma, RdmaError, RdmaOptions, devices},
    remote::{Access, ConnectError, Offer},
};
use std::process::Command;

/// The offer with another value of a parameter.
fn with(offer: Offer, name: &str, value: &str) -> Offer {
    let mut parameters = offer.parameters;
    parameters.retain(|(known, _)| known != name);
    parameters.push((name.to_owned(), value.to_owned()));
    Offer { parameters, ..offer }
}

#[test]
fn the_smaller_packets_of_both_count() {
    // Shows that a client with smaller packets is served, and is told which they are.
    let side = Side::new(Card::with_registrations());
    for (offered, agreed) in [("256", "256"), ("1024", "1024"), ("4096", "4096")] {
        let client = side.card.client(1 << 20);
        let answer = side.endpoint.connect(&side.principal, with(client.offer(), "mtu", offered)).unwrap();
        let mtu = answer.parameters.iter().find(|(name, _)| name == "mtu").map(|(_, value)| &**value);
        assert_eq!(mtu, Some(agreed));
        client.connect(&answer).unwrap();
        let target = client.expose(0..1 << 20, Access::Write).unwrap();
        let session = side.endpoint.session(answer.session, &side.principal).unwrap();
        let slot = session.credits().try_slot().unwrap();
        let write = session.write(slot, side.filled(1 << 20, 5).freeze().into(), target);
        assert_eq!(side.finish(write).result, Ok(1 << 20));
    }
}

#[test]
fn a_client_of_another_kind_of_address_is_refused() {
    // Shows that an address which no port of this host reaches is a typed error, and leaves no session.
    let side = Side::new(Card::with_registrations());
    let client = side.card.client(4096);
    let offer = client.offer();
    let foreign: String =
        Gid::from_address("fd00::1".parse().unwrap()).0.map(|byte| format!("{byte:02x}")).concat();
    let token = format!("{}{foreign}{}", &offer.token[..10], &offer.token[42..]);
    let refused = side.endpoint.connect(&side.principal, Offer { token, ..offer });
    assert!(matches!(refused, Err(ConnectError::Unsupported(_))), "{refused:?}");
    assert_eq!(side.endpoint.session_count(), 0);
}

#[test]
fn only_what_is_named_is_used() {
    // Shows the choice of devices and addresses, and that one that is not there is an error with its name.
    let open = |devices: &[&str], addresses: &[&str]| {
        Rdma::open(&RdmaOptions {
            devices: devices.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            optional: false,
        })
    };
    let here = devices().unwrap();
    let first = here.first().expect("this host has a card");
    assert!(open(&[&first.name], &[]).is_ok());
    assert!(matches!(open(&["nothing0"], &[]), Err(RdmaError::Device { .. })));
    let refused = open(&[], &["192.0.2.1"]).unwrap_err();
    assert!(matches!(&refused, RdmaError::NoRail(_)), "{refused}");
    assert!(refused.to_string().contains(&first.name), "{refused}");
    let port = first.ports.first().unwrap();
    let address = port.gids.iter().map(|entry| entry.gid.address()).find(std::net::IpAddr::is_ipv4).unwrap();
    assert!(open(&[], &[&address.to_string()]).is_ok());
}

#[test]
fn a_port_without_a_link_is_a_rail_that_is_down() {
    // Shows that new sessions are refused while the link is down, and made again when it is back, without a restart.
    if std::env::var_os("CROSSDOCK_TEST_INTERFACE").is_none() {
        println!("skipped: CROSSDOCK_TEST_INTERFACE names no network interface that may be taken down");
        return;
    }
    let interface = std::env::var("CROSSDOCK_TEST_INTERFACE").unwrap();
    let link = |state: &str| {
        let done = Command::new("ip").args(["link", "set", &interface, state]).status().unwrap();
        assert!(done.success());
    };
    let side = Side::new(Card::with_registrations());
    let pair = side.connect(4096);
    assert_eq!(side.card.transport.rails().iter().filter(|(_, usable)| *usable).count(), 1);
    link("down");
    side.drive("the rail is down", || side.card.transport.rails().iter().all(|(_, usable)| !usable));
    let client_offer = pair.client.offer();
    let refused = side.endpoint.connect(&side.principal, client_offer);
    assert!(matches!(refused, Err(ConnectError::Unsupported(_))), "{refused:?}");
    link("up");
    side.drive("the rail is up", || side.card.transport.rails().iter().any(|(_, usable)| *usable));
    side.endpoint.disconnect(pair.id, &side.principal);
    let pair = side.connect(4096);
    let target = pair.client.expose(0..4096, Access::Write).unwrap();
    assert_eq!(side.finish(pair.write(side.filled(4096, 9), target)).result, Ok(4096));
}
