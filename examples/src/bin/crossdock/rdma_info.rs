//! `rdma-info`: which RDMA devices this host has, whether they can be used, and why not.

use super::{Failure, units};
use crossdock_transport::{
    memory::{Arena, ArenaOptions, PagePolicy},
    rdma::{DeviceInfo, GidKind, LinkLayer, PortInfo, Rdma, RdmaError, RdmaOptions, devices},
    remote::Transport,
};
use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use std::io::Write;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Memory to register with each device for a moment, to see whether it takes it
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = units::parse_size)]
    register: u64,
}

/// True if there is a port that sessions can be made on.
pub(crate) fn run(options: &Options, output: &mut dyn Write) -> Result<bool, Failure> {
    let (found, reason) = match devices() {
        Ok(found) if found.is_empty() => (found, Some(RdmaError::NoDevice.to_string())),
        Ok(found) => (found, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let registered: Vec<_> = found.iter().map(|device| register(device, options.register)).collect();
    let usable = |(device, registered): (&DeviceInfo, &Result<(), String>)| {
        registered.is_ok() && device.ports.iter().any(|port| port.active)
    };
    let any = found.iter().zip(&registered).any(usable);
    if options.json {
        let devices = found.iter().zip(&registered).map(|(device, registered)| as_json(device, registered));
        let devices: Vec<Value> = devices.collect();
        let value = json!({
            "usable": any,
            "reason": reason,
            "locked_bytes_max": locked_max(),
            "registered_bytes": options.register,
            "server_bytes": server_bytes(),
            "devices": devices,
        });
        writeln!(output, "{value:#}")?;
        return Ok(any);
    }
    if let Some(reason) = reason {
        writeln!(output, "no RDMA: {reason}")?;
    }
    for (device, registered) in found.iter().zip(&registered) {
        print(device, registered, options.register, output)?;
    }
    let limit = locked_max().map_or("no limit".to_owned(), units::size);
    writeln!(output, "memory that this user may lock: {limit}")?;
    Ok(any)
}

/// Bytes that a process may lock; none if there is no limit.
fn locked_max() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Memory that a server registers on this host if it is told nothing: see its `--memory`.
fn server_bytes() -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (processors as u64) << 27
}

/// Whether the device takes memory as a server's is.
fn register(device: &DeviceInfo, bytes: u64) -> Result<(), String> {
    let bytes = usize::try_from(bytes).map_err(|_| "more than there is".to_owned())?;
    let arena = ArenaOptions { bytes, pools: 1, pages: PagePolicy::Best, prefault: false };
    let arena = Arena::map(&arena).map_err(|error| error.to_string())?;
    let options = RdmaOptions { devices: vec![device.name.clone()], ..RdmaOptions::default() };
    let rdma = Rdma::open(&options).map_err(|error| error.to_string())?;
    rdma.register(&arena).map_err(|error| error.to_string())
}

fn print(
    device: &DeviceInfo,
    registered: &Result<(), String>,
    bytes: u64,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let limits = &device.limits;
    let (vendor, part) = limits.vendor;
    let firmware = if limits.firmware.is_empty() { "-" } else { &limits.firmware };
    writeln!(output, "{}: vendor {vendor:06x}, part {part}, firmware {firmware}", device.name)?;
    writeln!(
        output,
        "  {} queue pairs of {} work requests of {} pieces, {} completions in a queue",
        limits.queue_pairs_max, limits.queue_depth_max, limits.pieces_max, limits.completions_max
    )?;
    writeln!(
        output,
        "  {} regions of {} at most, {} windows; READs {} asked, {} answered at a time",
        limits.regions_max,
        units::size(limits.region_bytes_max),
        limits.windows_max,
        limits.reads_asked_max,
        limits.reads_answered_max
    )?;
    match registered {
        // A limit on locked memory lets little through and refuses a server's.
        Ok(()) if bytes < server_bytes() => writeln!(
            output,
            "  takes {}; s3-server takes {} here unless it is told otherwise, and --register {} tries that",
            units::size(bytes),
            units::size(server_bytes()),
            server_bytes()
        )?,
        Ok(()) => writeln!(output, "  takes {}", units::size(bytes))?,
        Err(reason) => writeln!(output, "  does not take {}: {reason}", units::size(bytes))?,
    }
    for port in &device.ports {
        writeln!(
            output,
            "  port {}: {}, {}, packets of {} bytes, messages of {} at most",
            port.number,
            if port.active { "up" } else { "no link" },
            link_layer(port),
            port.mtu.bytes(),
            units::size(port.message_bytes_max.into())
        )?;
        for entry in &port.gids {
            writeln!(output, "    GID {:3}  {:10}  {}", entry.index, kind(entry.kind), entry.gid.address())?;
        }
    }
    Ok(())
}

fn link_layer(port: &PortInfo) -> String {
    match port.link_layer {
        LinkLayer::InfiniBand => format!("InfiniBand, LID {}", port.lid),
        LinkLayer::Ethernet => "Ethernet".to_owned(),
        other => format!("{other:?}"),
    }
}

fn kind(kind: GidKind) -> &'static str {
    match kind {
        GidKind::InfiniBand => "InfiniBand",
        GidKind::RoceV1 => "RoCE v1",
        GidKind::RoceV2 => "RoCE v2",
        _ => "?",
    }
}

fn as_json(device: &DeviceInfo, registered: &Result<(), String>) -> Value {
    let limits = &device.limits;
    let ports = device.ports.iter().map(|port| {
        let gids = port.gids.iter().map(|entry| {
            json!({ "index": entry.index, "kind": kind(entry.kind), "address": entry.gid.address().to_string() })
        });
        json!({
            "number": port.number,
            "active": port.active,
            "link_layer": link_layer(port),
            "mtu": port.mtu.bytes(),
            "message_bytes_max": port.message_bytes_max,
            "gids": gids.collect::<Vec<_>>(),
        })
    });
    json!({
        "name": device.name,
        "vendor": limits.vendor.0,
        "part": limits.vendor.1,
        "firmware": limits.firmware,
        "queue_pairs_max": limits.queue_pairs_max,
        "queue_depth_max": limits.queue_depth_max,
        "pieces_max": limits.pieces_max,
        "completions_max": limits.completions_max,
        "regions_max": limits.regions_max,
        "region_bytes_max": limits.region_bytes_max,
        "windows_max": limits.windows_max,
        "reads_asked_max": limits.reads_asked_max,
        "reads_answered_max": limits.reads_answered_max,
        "refused": registered.as_ref().err(),
        "ports": ports.collect::<Vec<_>>(),
    })
}
