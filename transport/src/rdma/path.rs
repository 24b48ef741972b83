//! The way between two queue pairs: what either side says of itself, and the address of ours that fits the other's.

use super::info::{Gid, GidEntry, GidKind, LinkLayer, PathMtu, PortInfo};
use crate::{
    remote::{ConnectError, Offer, RemoteKey, RemoteSlice},
    token::{HipToken, HipTransport},
};
use std::{cmp::Reverse, net::IpAddr};

/// Names of parameters, as both sides send them.
pub(super) const SEQUENCE: &str = "psn";
pub(super) const MTU: &str = "mtu";
pub(super) const READS: &str = "rd-atomic";

/// READs that a queue pair has in flight at most, or answers: more than this fill no link.
pub(super) const READS_MAX: u8 = 16;

/// A queue pair, as its owner describes it to the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Side {
    pub(super) number: u32,
    pub(super) gid: Gid,
    pub(super) port: u8,
    pub(super) lid: u16,
    /// Of its first packet: 1 to ff'ffff.
    pub(super) sequence: u32,
    /// Payload of one packet, if it says so.
    pub(super) mtu: Option<PathMtu>,
    /// READs that it answers at a time.
    pub(super) reads: u8,
}

impl Side {
    /// What a client offers or a server answers.
    ///
    /// # Errors
    /// [`ConnectError::Malformed`], and [`ConnectError::Unsupported`] for queue pairs of other kinds.
    pub(super) fn parse(
        token: &str,
        parameter: impl Fn(&str) -> Option<String>,
    ) -> Result<Side, ConnectError> {
        let token: HipToken =
            token.parse().map_err(|_| ConnectError::Malformed("the token names no queue pair"))?;
        if token.transport != HipTransport::Rc {
            return Err(ConnectError::Unsupported("only Reliable Connections are made"));
        }
        let sequence = parameter(SEQUENCE).and_then(|text| sequence(&text));
        let sequence = sequence.ok_or(ConnectError::Malformed("no start sequence number of 6 hex digits"))?;
        let mtu = parameter(MTU).map(|text| {
            let bytes = text.parse().ok().filter(|_| !text.starts_with('+'));
            bytes.and_then(PathMtu::from_bytes).ok_or(ConnectError::Malformed("an MTU is 256 to 4096 bytes"))
        });
        let reads = parameter(READS).map(|text| {
            let reads = text.parse::<u8>().ok().filter(|reads| *reads > 0 && !text.starts_with('+'));
            reads.ok_or(ConnectError::Malformed("a queue pair answers 1 to 255 reads at a time"))
        });
        Ok(Side {
            number: token.queue_pair,
            gid: Gid(token.gid),
            port: token.port,
            lid: token.lid,
            sequence,
            mtu: mtu.transpose()?,
            reads: reads.transpose()?.unwrap_or(1),
        })
    }

    /// The token for [`parse`](Side::parse).
    pub(super) fn token(&self) -> String {
        let nothing = RemoteSlice::new(0, 0, RemoteKey(0)).expect("nothing ends somewhere");
        let token = HipToken {
            transport: HipTransport::Rc,
            queue_pair: self.number,
            gid: self.gid.0,
            slice: nothing,
            port: self.port,
            lid: self.lid,
        };
        token.to_string()
    }

    /// The parameters for [`parse`](Side::parse).
    pub(super) fn parameters(&self) -> Vec<(String, String)> {
        let mut parameters = vec![
            (SEQUENCE.to_owned(), format!("{:06x}", self.sequence)),
            (READS.to_owned(), self.reads.to_string()),
        ];
        if let Some(mtu) = self.mtu {
            parameters.push((MTU.to_owned(), mtu.bytes().to_string()));
        }
        parameters
    }

    pub(super) fn of_offer(offer: &Offer) -> Result<Side, ConnectError> {
        Side::parse(&offer.token, |name| offer.parameter(name).map(str::to_owned))
    }
}

/// 1 to 6 hex digits, and not 0.
fn sequence(text: &str) -> Option<u32> {
    let digits = (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()?;
    (number > 0).then_some(number)
}

/// Families of addresses: packets go between two of one family only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    LinkLocal,
    V6,
}

fn family(gid: &Gid) -> Family {
    match gid.address() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(address) if address.is_unicast_link_local() => Family::LinkLocal,
        IpAddr::V6(_) => Family::V6,
    }
}

/// How near `ours` is to the peer: the bits that both begin with. What identifies an interface is no network, so of addresses that end with
/// that no more counts than the network, but of the very same.
fn nearness(ours: &GidEntry, peer: &Gid) -> u32 {
    let (bits, of_interface) = (ours.gid.common_bits(peer), family(&ours.gid) == Family::LinkLocal);
    match of_interface || ours.kind == GidKind::InfiniBand {
        true if bits < 128 => bits.min(64),
        _ => bits,
    }
}

/// What decides between addresses that are equally near.
pub(super) struct Tie<'a, P> {
    /// The address of this host that the peer reached it by: that one and its port are known to be on the way.
    pub(super) came_to: Option<IpAddr>,
    /// How much each port has to do.
    pub(super) load: Option<&'a dyn Fn(P) -> usize>,
}

impl<P> Default for Tie<'_, P> {
    fn default() -> Self {
        Tie { came_to: None, load: None }
    }
}

/// Of the addresses of these ports the one to reach `peer` from: of its family, and the nearest of those; of several the one that the
/// peer came to, then one of that port, then one of the port with the least to do, and at last the first. `peer_lid` is 0 on
/// Ethernet. Packets are RoCE v2, which is routed; nobody makes new networks of v1.
pub(super) fn nearest<'a, P>(
    ports: impl Iterator<Item = (P, &'a PortInfo)>,
    peer: &Gid,
    peer_lid: u16,
    allowed: impl Fn(P, &GidEntry) -> bool,
    tie: &Tie<'_, P>,
) -> Option<(P, GidEntry)>
where
    P: Copy,
{
    let is_the_way = |entry: &GidEntry| tie.came_to == Some(entry.gid.address());
    let mut best = None;
    for (place, port) in ports {
        let is_on_the_way = port.gids.iter().any(is_the_way);
        let load = Reverse(tie.load.map_or(0, |load| load(place)));
        let fits = |entry: &&GidEntry| match port.link_layer {
            LinkLayer::InfiniBand => peer_lid != 0 && entry.kind == GidKind::InfiniBand,
            _ => peer_lid == 0 && entry.kind == GidKind::RoceV2 && family(&entry.gid) == family(peer),
        };
        for entry in port.gids.iter().filter(fits).filter(|entry| allowed(place, entry)) {
            let rank = (nearness(entry, peer), is_the_way(entry), is_on_the_way, load);
            if best.as_ref().is_none_or(|(known, _)| rank > *known) {
                best = Some((rank, (place, *entry)));
            }
        }
    }
    best.map(|(_, found)| found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gid(address: &str) -> Gid {
        Gid::from_address(address.parse().unwrap())
    }

    fn port(number: u8, link_layer: LinkLayer, addresses: &[(&str, GidKind)]) -> PortInfo {
        let entry = |(index, (address, kind)): (usize, &(&str, GidKind))| GidEntry {
            index: index as u8,
            gid: gid(address),
            kind: *kind,
        };
        PortInfo {
            number,
            active: true,
            link_layer,
            mtu: PathMtu::Bytes1024,
            message_bytes_max: 1 << 23,
            lid: 0,
            gids: addresses.iter().enumerate().map(entry).collect(),
        }
    }

    #[test]
    fn the_nearest_address_of_the_family_is_chosen() {
        // Shows the choice by family and subnet among two rails, and that v1 entries and other families are never taken.
        use GidKind::{RoceV1, RoceV2};
        let first = [("fe80::1", RoceV1), ("fe80::1", RoceV2), ("10.1.0.1", RoceV1), ("10.1.0.1", RoceV2)];
        let second = [("fe80::2", RoceV2), ("10.2.0.1", RoceV2), ("fd00::1", RoceV2)];
        let ports = [port(1, LinkLayer::Ethernet, &first), port(2, LinkLayer::Ethernet, &second)];
        let choose = |peer: &str| {
            let ports = ports.iter().map(|port| (port.number, port));
            nearest(ports, &gid(peer), 0, |_, _| true, &Tie::default())
                .map(|(port, entry)| (port, entry.index))
        };
        assert_eq!(choose("10.1.0.9"), Some((1, 3)));
        assert_eq!(choose("10.2.0.9"), Some((2, 1)));
        assert_eq!(choose("fe80::2"), Some((2, 0)), "itself");
        assert_eq!(choose("fd00::99"), Some((2, 2)));
        let only_v4 = [port(1, LinkLayer::Ethernet, &[("10.1.0.1", RoceV2)])];
        let none =
            nearest(only_v4.iter().map(|port| ((), port)), &gid("fd00::1"), 0, |_, _| true, &Tie::default());
        assert_eq!(none, None, "another family");
        let none =
            nearest(only_v4.iter().map(|port| ((), port)), &gid("10.1.0.2"), 7, |_, _| true, &Tie::default());
        assert_eq!(none, None, "a peer on InfiniBand");
        let none = nearest(
            only_v4.iter().map(|port| ((), port)),
            &gid("10.1.0.2"),
            0,
            |_, _| false,
            &Tie::default(),
        );
        assert_eq!(none, None, "nothing is allowed");
    }

    #[test]
    fn of_equally_near_ports_the_one_that_is_known_to_work_is_chosen() {
        // Shows two rails of one network: a client goes by the one whose address it came to, else by the one with less to do; that neither
        // outdoes a nearer network; and that interface ids, which are random, do not decide where the network is the same.
        use GidKind::{InfiniBand, RoceV2};
        let first = [("fe80::aaaa", RoceV2), ("10.0.0.1", RoceV2)];
        let second = [("fe80::bbbb", RoceV2), ("10.0.0.2", RoceV2), ("10.0.0.3", RoceV2)];
        let third = [("10.3.0.1", RoceV2)];
        let ports = [
            port(1, LinkLayer::Ethernet, &first),
            port(2, LinkLayer::Ethernet, &second),
            port(3, LinkLayer::Ethernet, &third),
        ];
        let choose = |peer: &str, came_to: Option<&str>, loads: [usize; 3]| {
            let load = |number: u8| loads[usize::from(number) - 1];
            let tie = Tie { came_to: came_to.map(|address| address.parse().unwrap()), load: Some(&load) };
            let ports = ports.iter().map(|port| (port.number, port));
            let (port, entry) = nearest(ports, &gid(peer), 0, |_, _| true, &tie).unwrap();
            (port, entry.gid.address().to_string())
        };
        let chosen = |port: u8, address: &str| (port, address.to_owned());
        assert_eq!(choose("10.0.0.10", None, [0, 0, 0]), chosen(1, "10.0.0.1"));
        assert_eq!(choose("10.0.0.10", None, [1, 0, 0]), chosen(2, "10.0.0.2"));
        assert_eq!(choose("10.0.0.10", Some("10.0.0.1"), [9, 0, 0]), chosen(1, "10.0.0.1"));
        assert_eq!(choose("10.0.0.10", Some("10.0.0.3"), [0, 9, 0]), chosen(2, "10.0.0.3"));
        assert_eq!(choose("10.0.0.10", Some("10.3.0.1"), [9, 9, 0]).0, 1, "another network");
        assert_eq!(choose("10.0.0.10", Some("192.0.2.1"), [1, 0, 0]).0, 2, "no card's address");
        assert_eq!(choose("fe80::bbba", None, [0, 0, 0]), chosen(1, "fe80::aaaa"));
        assert_eq!(choose("fe80::bbba", Some("10.0.0.2"), [0, 9, 0]), chosen(2, "fe80::bbbb"));
        assert_eq!(choose("fe80::bbbb", Some("10.0.0.1"), [0, 9, 0]), chosen(2, "fe80::bbbb"), "itself");

        let fabric = [
            port(1, LinkLayer::InfiniBand, &[("fe80::1:0", InfiniBand)]),
            port(2, LinkLayer::InfiniBand, &[("fe80::2:0", InfiniBand)]),
        ];
        let load = |number: u8| usize::from(number == 1);
        let tie = Tie { came_to: None, load: Some(&load) };
        let ports = fabric.iter().map(|port| (port.number, port));
        let found = nearest(ports, &gid("fe80::1:7"), 3, |_, _| true, &tie).unwrap();
        assert_eq!(found.0, 2);
    }

    #[test]
    fn bad_descriptions_are_refused() {
        // Shows which parameters are no numbers, and that absent ones have their defaults.
        let side = Side {
            number: 5,
            gid: gid("10.9.0.1"),
            port: 1,
            lid: 0,
            sequence: 0xab_cdef,
            mtu: None,
            reads: 1,
        };
        let parse = |name: &str, value: &str| {
            Side::parse(&side.token(), |asked| match asked {
                _ if asked == name => Some(value.to_owned()),
                SEQUENCE => Some("ABCDEF".to_owned()),
                _ => None,
            })
        };
        assert_eq!(parse("", "").unwrap(), side);
        for (name, bad) in [
            (SEQUENCE, "0"),
            (SEQUENCE, "1000000"),
            (SEQUENCE, ""),
            (SEQUENCE, "+1"),
            (MTU, "1500"),
            (MTU, "+1024"),
            (MTU, ""),
            (READS, "0"),
            (READS, "256"),
            (READS, "+1"),
        ] {
            let refused = parse(name, bad);
            assert!(matches!(refused, Err(ConnectError::Malformed(_))), "{name}={bad}: {refused:?}");
        }
        let none = Side::parse(&side.token(), |_| None);
        assert!(matches!(none, Err(ConnectError::Malformed(_))));
        let dynamic = side.token().replacen("01", "00", 1);
        let refused = Side::parse(&dynamic, |_| Some("1".to_owned()));
        assert!(matches!(refused, Err(ConnectError::Unsupported(_))));
    }

    proptest! {
        /// Shows that the other side reads what one side writes.
        #[test]
        fn is_read_back(
            number in 0u32..1 << 24, gid: [u8; 16], port: u8, lid: u16, sequence in 1u32..1 << 24, reads in 1u8..,
            mtu in prop::option::of(prop::sample::select(vec![256u32, 512, 1024, 2048, 4096])),
        ) {
            let mtu = mtu.and_then(PathMtu::from_bytes);
            let side = Side { number, gid: Gid(gid), port, lid, sequence, mtu, reads };
            let offer = Offer { token: side.token(), parameters: side.parameters(), ..Offer::default() };
            prop_assert_eq!(Side::of_offer(&offer).unwrap(), side);
        }
    }
}
