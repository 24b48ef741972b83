//! What devices and their ports are, and the addresses of those.

use super::sys::*;
use std::{
    ffi::c_int,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A device that was found. Nothing is open: it may be gone by now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// The kernel's name for it, as in `/sys/class/infiniband`.
    pub name: String,
    /// What it is.
    pub limits: DeviceLimits,
    /// Its ports, in their order, from number 1.
    pub ports: Vec<PortInfo>,
}

/// What a device can do, `ibv_query_device(3)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceLimits {
    /// The version of its firmware; empty where there is none.
    pub firmware: String,
    /// Who made it (an OUI), and what they call it.
    pub vendor: (u32, u32),
    /// Queue pairs.
    pub queue_pairs_max: usize,
    /// Work requests of one queue.
    pub queue_depth_max: usize,
    /// Pieces that one work request gathers or scatters.
    pub pieces_max: usize,
    /// Completion queues.
    pub completion_queues_max: usize,
    /// Entries of one completion queue.
    pub completions_max: usize,
    /// Memory regions.
    pub regions_max: usize,
    /// Bytes of one memory region.
    pub region_bytes_max: u64,
    /// RDMA READs that one queue pair may have in flight as the one who answers.
    pub reads_answered_max: u8,
    /// RDMA READs that one queue pair may have in flight as the one who asks.
    pub reads_asked_max: u8,
    /// Memory windows of type 2 (InfiniBand Architecture Specification 1.2.1, section 10.6.7.2.3), which one invalidates by a work
    /// request. 0 if it has none.
    pub windows_max: usize,
}

/// A port, `ibv_query_port(3)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortInfo {
    /// Its number on the device.
    pub number: u8,
    /// Whether it has a link and may be used.
    pub active: bool,
    /// What is below.
    pub link_layer: LinkLayer,
    /// Payload bytes of one packet at present.
    pub mtu: PathMtu,
    /// Bytes of one message at most.
    pub message_bytes_max: u32,
    /// Its local identifier; 0 on Ethernet.
    pub lid: u16,
    /// Its addresses, in the order of their indices.
    pub gids: Vec<GidEntry>,
}

/// What carries the packets of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinkLayer {
    /// InfiniBand.
    InfiniBand,
    /// Ethernet: RoCE, iWARP or an emulation.
    Ethernet,
    /// Something that is not known here.
    Other(u8),
}

/// Payload bytes of a packet: a power of two from 256 to 4096.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PathMtu {
    /// 256 bytes.
    Bytes256 = IBV_MTU_256 as isize,
    /// 512 bytes.
    Bytes512 = IBV_MTU_512 as isize,
    /// 1024 bytes.
    Bytes1024 = IBV_MTU_1024 as isize,
    /// 2048 bytes.
    Bytes2048 = IBV_MTU_2048 as isize,
    /// 4096 bytes.
    Bytes4096 = IBV_MTU_4096 as isize,
}

impl PathMtu {
    const ALL: [PathMtu; 5] =
        [PathMtu::Bytes256, PathMtu::Bytes512, PathMtu::Bytes1024, PathMtu::Bytes2048, PathMtu::Bytes4096];

    pub(super) fn from_verbs(value: c_int) -> Option<PathMtu> {
        PathMtu::ALL.into_iter().find(|mtu| *mtu as c_int == value)
    }

    /// The unit of that many bytes, if there is one.
    pub fn from_bytes(bytes: u32) -> Option<PathMtu> {
        PathMtu::ALL.into_iter().find(|mtu| mtu.bytes() == bytes)
    }

    /// How many bytes it is.
    pub fn bytes(self) -> u32 {
        128 << (self as u32)
    }
}

/// A global identifier: what a port is addressed by. On RoCE it is made from an address of the network interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gid(pub [u8; 16]);

impl Gid {
    /// The address it was made from: an IPv4 address where it is an IPv4-mapped one.
    pub fn address(&self) -> IpAddr {
        let address = Ipv6Addr::from(self.0);
        address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
    }

    /// The identifier that RoCE makes from an address: its own bytes, or `::ffff:a.b.c.d`
    /// (InfiniBand Architecture Specification, annex A17 (RoCEv2), section 17.4.2).
    pub fn from_address(address: IpAddr) -> Gid {
        let address = match address {
            IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address),
            IpAddr::V6(address) => address,
        };
        Gid(address.octets())
    }

    /// How many leading bits are the same: 128 if it is the same port, more the nearer it is.
    pub fn common_bits(&self, other: &Gid) -> u32 {
        (u128::from_be_bytes(self.0) ^ u128::from_be_bytes(other.0)).leading_zeros()
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ipv6Addr prints mapped addresses as people read them.
        fmt::Display::fmt(&Ipv6Addr::from(self.0), formatter)
    }
}

impl fmt::Debug for Gid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// One entry of a port's table of GIDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GidEntry {
    /// Its place in the table.
    pub index: u8,
    /// The identifier.
    pub gid: Gid,
    /// How packets to it look.
    pub kind: GidKind,
}

/// How packets that use a GID look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum GidKind {
    /// InfiniBand.
    InfiniBand,
    /// RoCE version 1: Ethernet frames of their own type, not routed.
    RoceV1,
    /// RoCE version 2: UDP, port 4791.
    RoceV2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_makes_a_gid_and_back() {
        // Shows the mapped form of IPv4 addresses, and that nearer ports have more bits in common.
        let address: IpAddr = "10.9.0.1".parse().unwrap();
        let gid = Gid::from_address(address);
        assert_eq!(gid.0, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 9, 0, 1]);
        assert_eq!(gid.address(), address);
        assert_eq!(gid.to_string(), "::ffff:10.9.0.1");
        let link_local: IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(Gid::from_address(link_local).address(), link_local);
        let neighbour = Gid::from_address("10.9.0.2".parse().unwrap());
        let stranger = Gid::from_address("10.8.0.1".parse().unwrap());
        assert_eq!(gid.common_bits(&gid), 128);
        assert!(gid.common_bits(&neighbour) > gid.common_bits(&stranger));
        assert!(gid.common_bits(&stranger) > gid.common_bits(&Gid::from_address(link_local)));
    }

    #[test]
    fn units_are_powers_of_two() {
        // Shows that each unit is read back from its bytes and from the number that verbs have for it.
        let bytes: Vec<_> = PathMtu::ALL.iter().map(|mtu| mtu.bytes()).collect();
        assert_eq!(bytes, [256, 512, 1024, 2048, 4096]);
        for mtu in PathMtu::ALL {
            assert_eq!(PathMtu::from_bytes(mtu.bytes()), Some(mtu));
            assert_eq!(PathMtu::from_verbs(mtu as c_int), Some(mtu));
        }
        assert_eq!(PathMtu::from_verbs(0), None);
        assert_eq!(PathMtu::from_bytes(1500), None);
    }
}
