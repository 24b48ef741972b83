//! Rails: the ports that sessions go over, and the devices they are on.

use super::{
    RdmaOptions,
    connector::Connector,
    device::{Context, Event, open},
    error::RdmaError,
    info::{DeviceInfo, GidEntry, PortInfo},
    library::Library,
    mailbox::Mailbox,
    verbs::{Domain, Region, RegionAccess},
};
use crate::memory::Arena;
use std::{
    collections::HashSet,
    fmt, io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// A device with its protection domain. One for the whole process, so that memory is pinned once for it.
pub(super) struct Device {
    domain: Arc<Domain>,
    info: DeviceInfo,
    /// The arena. Registered without any right for others: clients cannot reach the server's memory at all.
    arena: OnceLock<Region>,
    /// Counts what happened, so that endpoints see with one load that nothing did.
    events: AtomicU64,
    /// The device can not be used any more.
    fatal: AtomicBool,
    /// Queue pairs that can not be used any more.
    failed: Mutex<HashSet<u32>>,
}

impl Device {
    fn open(context: Context) -> Result<Device, RdmaError> {
        let info = context.info()?;
        Ok(Device {
            domain: Arc::new(Domain::new(Arc::new(context))?),
            info,
            arena: OnceLock::new(),
            events: AtomicU64::new(0),
            fatal: AtomicBool::new(false),
            failed: Mutex::default(),
        })
    }

    pub(super) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        self.domain.context()
    }

    pub(super) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Acquire)
    }

    pub(super) fn is_fatal(&self) -> bool {
        self.fatal.load(Ordering::Acquire)
    }

    fn failed(&self) -> MutexGuard<'_, HashSet<u32>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the queue pair failed. Told once: its number may be given to another one.
    pub(super) fn take_failed(&self, queue_pair: u32) -> bool {
        self.failed().remove(&queue_pair)
    }

    /// What work names the arena by. None if it could not be registered.
    pub(super) fn arena_key(&self) -> Option<u32> {
        self.arena.get().map(Region::local_key)
    }

    #[allow(unsafe_code)]
    fn register(&self, arena: &Arena) -> Result<(), RdmaError> {
        let (start, bytes) = (arena.base(), arena.bytes());
        // SAFETY: the arena spans `bytes` from its base and stays mapped as long as any handle of it, such as the one that is given
        // here (`Arena::base`).
        let region = unsafe {
            Region::new(Arc::clone(&self.domain), start, bytes, RegionAccess::Local, Arc::new(arena.clone()))
        };
        // The caller registers once.
        let _ = self.arena.set(region?);
        Ok(())
    }
}

/// A port.
pub(super) struct Rail {
    device: Arc<Device>,
    /// As it was when something last happened to it.
    port: Mutex<Arc<PortInfo>>,
    /// Of the server's addresses, those that may be used; all, if it is empty.
    addresses: Arc<[IpAddr]>,
    /// Queue pairs that all cores have on it.
    pairs: Arc<AtomicUsize>,
}

impl Rail {
    pub(super) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(super) fn port(&self) -> Arc<PortInfo> {
        Arc::clone(&self.port.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many queue pairs there are on it, counted by those who make them.
    pub(super) fn pairs(&self) -> &Arc<AtomicUsize> {
        &self.pairs
    }

    pub(super) fn allows(&self, entry: &GidEntry) -> bool {
        self.addresses.is_empty() || self.addresses.contains(&entry.gid.address())
    }

    /// Whether sessions can be made on it.
    pub(super) fn is_usable(&self) -> bool {
        self.why_not().is_none()
    }

    /// Why no sessions can be made on it, as a client is told; none if they can. What has to be done about it comes before what may pass.
    pub(super) fn why_not(&self) -> Option<&'static str> {
        if self.device.is_fatal() {
            return Some("the server's device failed");
        }
        if self.device.arena_key().is_none() {
            return Some("the server's device did not take the server's memory");
        }
        (!self.port().active).then_some("the server's port has no link")
    }

    fn ask_again(&self) {
        let number = self.port().number;
        match self.device.context().port(number) {
            Ok(port) => *self.port.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(port),
            Err(error) => tracing::warn!(rail = %self, %error, "a port does not say what it is"),
        }
    }
}

impl fmt::Display for Rail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.device.info.name, self.port().number)
    }
}

/// All rails of a transport.
pub(super) struct Rails {
    pub(super) devices: Vec<Arc<Device>>,
    pub(super) rails: Vec<Rail>,
    pub(super) connector: Connector,
    /// Of the endpoints, which are told that something happened.
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
}

impl Rails {
    /// Opens what the options name.
    ///
    /// # Errors
    /// There is no RDMA here; a device that is named is not there; all ports have a link and none of the addresses.
    pub(super) fn open(library: &'static Library, options: &RdmaOptions) -> Result<Rails, RdmaError> {
        let addresses: Arc<[IpAddr]> = options.addresses.as_slice().into();
        let (mut devices, mut rails) = (Vec::new(), Vec::new());
        for context in open(library, &options.devices)? {
            let device = Arc::new(Device::open(context)?);
            rails.extend(device.info.ports.iter().map(|port| Rail {
                device: Arc::clone(&device),
                port: Mutex::new(Arc::new(port.clone())),
                addresses: Arc::clone(&addresses),
                pairs: Arc::default(),
            }));
            devices.push(device);
        }
        if devices.is_empty() {
            return Err(RdmaError::NoDevice);
        }
        // A port without a link may have an address once it has one: at a host's start links are often seconds late.
        let hopeless = |rail: &Rail| {
            let port = rail.port();
            port.active && !port.gids.iter().any(|entry| rail.allows(entry))
        };
        if rails.iter().all(hopeless) {
            let names: Vec<_> =
                rails.iter().map(|rail| format!("{rail} has none of the addresses")).collect();
            return Err(RdmaError::NoRail(names.join(", ")));
        }
        for rail in rails.iter().filter(|rail| !rail.port().active) {
            tracing::warn!(%rail, "an RDMA port has no link yet: sessions are made on it when it has");
        }
        Ok(Rails { devices, rails, connector: Connector::default(), mailboxes: Mutex::default() })
    }

    /// Registers the arena with every device. One that refuses is not used.
    ///
    /// # Errors
    /// None took it; what the last one said.
    pub(super) fn register(&self, arena: &Arena) -> io::Result<()> {
        let mut refused = None;
        for device in &self.devices {
            if let Err(error) = device.register(arena) {
                let (device, bytes) = (&device.info.name, arena.bytes());
                tracing::warn!(device, bytes, %error, "an RDMA device did not take the arena and is not used");
                refused = Some(error);
            }
        }
        match refused {
            Some(error) if self.devices.iter().all(|device| device.arena_key().is_none()) => {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    /// Whoever has that mailbox is told when something happened to a device.
    pub(super) fn tell(&self, mailbox: &Arc<Mailbox>) {
        let mut mailboxes = self.mailboxes();
        mailboxes.retain(|known| known.strong_count() > 0);
        mailboxes.push(Arc::downgrade(mailbox));
    }

    fn mailboxes(&self) -> MutexGuard<'_, Vec<Weak<Mailbox>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes notice of what happened to a device, and tells all endpoints. False if nothing more will be heard of it.
    pub(super) fn take_events(&self, device: &Arc<Device>) -> bool {
        let mut heard = false;
        let goes_on = loop {
            match device.context().take_event(|event| self.happened(device, event)) {
                Ok(true) => heard = true,
                Ok(false) => break true,
                Err(error) => {
                    tracing::error!(device = device.info.name, %error, "an RDMA device tells nothing any more");
                    self.happened(device, Event::Fatal);
                    heard = true;
                    break false;
                }
            }
        };
        if heard {
            // Behind what it counts, so that whoever sees the count sees that; and before the bell, which makes them look.
            device.events.fetch_add(1, Ordering::Release);
            self.mailboxes().iter().filter_map(Weak::upgrade).for_each(|mailbox| mailbox.ring());
        }
        goes_on
    }

    fn happened(&self, device: &Arc<Device>, event: Event) {
        let name = &device.info.name;
        match event {
            Event::QueuePair(number) => {
                tracing::debug!(device = name, number, "a queue pair failed");
                device.failed().insert(number);
            }
            Event::Fatal => {
                tracing::error!(device = name, "an RDMA device failed, and its sessions end");
                device.fatal.store(true, Ordering::Release);
            }
            Event::PortDown(_) | Event::PortUp(_) | Event::Other => {
                let rails = self.rails.iter().filter(|rail| Arc::ptr_eq(&rail.device, device));
                for rail in rails {
                    let before = rail.port().active;
                    rail.ask_again();
                    let after = rail.port().active;
                    if before != after {
                        tracing::warn!(%rail, active = after, "the link of an RDMA port changed");
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Rails {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.rails.iter().map(|rail| rail.to_string())).finish()
    }
}
