//! The way between two queue pairs: addresses, packets, links.

use crate::card::{Card, Connected, Side};
use crossdock_transport::{
    rdma::{Gid, Rdma, RdmaClient, RdmaClientOptions, RdmaError, RdmaOptions, devices},
    remote::{Access, ConnectError, Offer},
};
use std::{process::Command, rc::Rc};

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
fn each_card_serves_its_neighbours() {
    // Shows that the arena is registered with every card at once, that a client is served by the one that is nearest to it, with
    // packets of its size, and that a lease which came in by one card goes out by the other.
    let here = devices().unwrap();
    let [first, second, ..] = &here[..] else {
        println!("skipped: this host has one card");
        return;
    };
    let side = Side::new(Card::with_registrations());
    let connect = |device: &str| {
        let options =
            RdmaClientOptions { device: Some(device.to_owned()), ..side.card.default_options(1 << 20) };
        let client = RdmaClient::new(&options).unwrap();
        let answer = side.endpoint.connect(&side.principal, client.offer()).unwrap();
        client.connect(&answer).unwrap();
        let session = side.endpoint.session(answer.session, &side.principal).unwrap();
        assert!(session.rail().unwrap().starts_with(&format!("{device}/")));
        Connected { id: answer.session, session, client }
    };
    for (from, to) in [(first, second), (second, first)] {
        let (from, to) = (connect(&from.name), connect(&to.name));
        let content: Vec<u8> = (0..1 << 20).map(|place| (place / 7) as u8).collect();
        from.client.store(0, &content);
        let source = from.client.expose(0..1 << 20, Access::Read).unwrap();
        let target = to.client.expose(0..1 << 20, Access::Write).unwrap();
        let mut lease = side.filled(1 << 20, 1);
        lease.set_len(0);
        let (result, lease) = side.finish(from.read(source, lease)).into_lease();
        assert_eq!(result, Ok(1 << 20));
        assert_eq!(side.finish(to.write(lease, target)).result, Ok(1 << 20));
        assert!(to.load(0..1 << 20) == content);
    }
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
    let refused = open(&["nothing0"], &[]).unwrap_err();
    assert!(matches!(&refused, RdmaError::NotOpened { device, .. } if device == "nothing0"), "{refused}");
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
    let rail = pair.session.rail().unwrap();
    let usable = || {
        let rails = side.card.transport.rails();
        rails.iter().any(|(name, usable)| **name == *rail && *usable)
    };
    assert!(usable());
    link("down");
    side.drive("the rail is down", || !usable());
    let client_offer = pair.client.offer();
    let refused = side.endpoint.connect(&side.principal, client_offer);
    // Another card, if there is one, has an address of that family.
    let another =
        refused.as_ref().ok().and_then(|answer| side.endpoint.session(answer.session, &side.principal));
    match another {
        Some(session) => assert_ne!(session.rail(), Some(Rc::clone(&rail))),
        None => assert!(matches!(refused, Err(ConnectError::Unsupported(_))), "{refused:?}"),
    }
    link("up");
    side.drive("the rail is up", usable);
    side.endpoint.disconnect(pair.id, &side.principal);
    let pair = side.connect(4096);
    let target = pair.client.expose(0..4096, Access::Write).unwrap();
    assert_eq!(side.finish(pair.write(side.filled(4096, 9), target)).result, Ok(4096));
}
