//! Listening, accepting, draining.

use super::{
    ServerLimits, connection, digester::Digester, exchange::Front, memory::Memory, metrics::ServerMetrics,
    rules::act_on_rules, steering::Running, wire,
};
use crate::service::{RemoteOptions, Service, ServiceOptions};
use crossdock::{CoreEngine, reactor::RingDriver};
use crossdock_transport::{ring::Ring, tcp::TcpListener};
use rustix::{
    fd::OwnedFd,
    net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt},
};
use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// How long to wait when the process is out of descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// Connections that are being told that there are too many.
const TURNED_AWAY_MAX: usize = 128;
/// How often a draining core looks whether its connections have ended.
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// A server that is bound to its address and runs on every core it is told to.
pub struct Server {
    address: SocketAddr,
    /// Holds the port for the cores' listeners; is not listened on itself.
    _reserved: OwnedFd,
    service: Arc<ServiceOptions>,
    limits: ServerLimits,
    #[cfg(feature = "tls")]
    tls: Option<Arc<super::tls::TlsSettings>>,
    metrics: Vec<Arc<ServerMetrics>>,
    started: (Mutex<Started>, Condvar),
}

/// How many cores listen, and why one does not.
#[derive(Default)]
struct Started {
    listening: usize,
    failed: Option<io::Error>,
}

/// What the connections of one core share.
pub(super) struct Shared {
    pub(super) front: Front,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<super::tls::TlsShared>,
    pub(super) engine: CoreEngine,
    pub(super) ring: Ring,
    /// Where the server listens, on every core.
    pub(super) address: SocketAddr,
    pub(super) draining: Cell<bool>,
    turned_away: Rc<Cell<usize>>,
    open: Cell<usize>,
}

/// One of a bounded number, for as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    /// One more, if that makes at most `most`.
    fn below(count: &Rc<Cell<usize>>, most: usize) -> Option<Counted> {
        (count.get() < most).then(|| {
            count.set(count.get() + 1);
            Counted(count.clone())
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Shared {
    /// Whether another connection may come.
    pub(super) fn has_room(&self) -> bool {
        self.open.get() < self.front.limits.connections
    }
}

/// Counts a connection for as long as its task lives.
pub(super) struct Open(Rc<Shared>);

impl Open {
    pub(super) fn new(shared: &Rc<Shared>) -> Open {
        shared.open.set(shared.open.get() + 1);
        shared.front.metrics.connections_open.set(shared.open.get() as u64);
        Open(shared.clone())
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.front.metrics.connections_open.set(self.0.open.get() as u64);
    }
}

impl Server {
    pub(super) fn remote_options(&self) -> &RemoteOptions {
        &self.service.remote
    }

    /// Reserves `address` for `cores` cores. Port 0 takes any free one: see [`Server::local_addr`].
    ///
    /// # Errors
    /// The address is taken (also by a server that would share it), not ours, or not permitted.
    pub fn bind(
        address: SocketAddr,
        cores: usize,
        service: ServiceOptions,
        limits: ServerLimits,
    ) -> io::Result<Server> {
        // Cores share the port by SO_REUSEPORT, and so could another process of this user, unnoticed. Without that option
        // a bind fails if anybody listens there.
        drop(reserve(address, false)?);
        let reserved = reserve(address, true)?;
        let address =
            SocketAddr::try_from(getsockname(&reserved)?).map_err(|_| io::ErrorKind::AddrNotAvailable)?;
        let metrics = (0..cores).map(|_| Arc::default()).collect();
        let (service, started) = (Arc::new(service), Default::default());
        Ok(Server {
            address,
            _reserved: reserved,
            service,
            limits,
            #[cfg(feature = "tls")]
            tls: None,
            metrics,
            started,
        })
    }

    /// Allows clients what `limits` say, instead of what it was bound with.
    #[must_use]
    pub fn with_limits(mut self, limits: ServerLimits) -> Server {
        self.limits = limits;
        self
    }

    /// Speaks HTTPS, as `settings` say, instead of HTTP.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, settings: Arc<super::tls::TlsSettings>) -> Server {
        self.tls = Some(settings);
        self
    }

    /// Blocks until every core listens. Not for the cores' own threads.
    ///
    /// # Errors
    /// A core can not.
    pub fn wait_until_listening(&self) -> io::Result<()> {
        let (started, changed) = &self.started;
        let waiting =
            |started: &mut Started| started.listening < self.metrics.len() && started.failed.is_none();
        let started = started.lock().expect("nothing panics with the lock held");
        let mut started = changed.wait_while(started, waiting).expect("nothing panics with the lock held");
        started.failed.take().map_or(Ok(()), Err)
    }

    fn say_started(&self, result: io::Result<()>) {
        let (started, changed) = &self.started;
        let mut started = started.lock().expect("nothing panics with the lock held");
        match result {
            Ok(()) => started.listening += 1,
            Err(error) => started.failed = Some(error),
        }
        changed.notify_all();
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Each core's counters, by core.
    pub fn metrics(&self) -> &[Arc<ServerMetrics>] {
        &self.metrics
    }

    /// Serves on this core until the engine closes, then lets requests in work come to their end. For
    /// [`crossdock::Builder::on_each_core`]. Whether it could listen tells [`Server::wait_until_listening`].
    pub async fn run(&self, engine: CoreEngine, driver: Rc<RingDriver>) {
        let core = engine.core().clone();
        let listener = match TcpListener::bind(driver.ring(), self.address, true) {
            Ok(listener) => listener,
            Err(error) => return self.say_started(Err(error)),
        };
        self.say_started(Ok(()));
        let metrics = self.metrics.get(core.index()).cloned().unwrap_or_default();
        let shared = Rc::new(Shared {
            front: Front {
                core: core.clone(),
                service: Service::new(self.service.clone(), engine.clone()),
                limits: self.limits,
                memory: Memory::new(&core, &self.limits),
                metrics,
                digester: Digester::new(core.clone()),
            },
            #[cfg(feature = "tls")]
            tls: self.tls.clone().map(|settings| super::tls::TlsShared::new(settings, &core)),
            engine: engine.clone(),
            ring: driver.ring().clone(),
            address: self.address,
            draining: Cell::new(false),
            turned_away: Rc::default(),
            open: Cell::new(0),
        });
        let running = Running::new(&shared);
        if let Some(interval) = self.service.lifecycle_interval.filter(|_| core.index() == 0) {
            core.spawn(act_on_rules(engine.clone(), interval, || true)).detach();
        }
        while let Some(accepted) = wire::unless(engine.closing(), listener.accept()).await {
            match accepted {
                Ok((stream, peer)) if shared.has_room() => {
                    // Bytes that were taken over by the kernel, and the memory they lie in, are not waited for either.
                    stream.give_up_after(self.limits.send);
                    shared.front.metrics.connections_accepted.add(1);
                    let open = Open::new(&shared);
                    core.spawn(async move {
                        connection::serve(open.shared().clone(), stream, peer).await;
                        drop(open);
                    })
                    .detach();
                }
                Ok((stream, peer)) => {
                    shared.front.metrics.connections_refused.add(1);
                    // Where even those who are told so become too many, they are closed without a word.
                    if let Some(counted) = Counted::below(&shared.turned_away, TURNED_AWAY_MAX) {
                        let shared = shared.clone();
                        core.spawn(async move {
                            connection::turn_away(shared, stream, peer).await;
                            drop(counted);
                        })
                        .detach();
                    }
                }
                // A connection that was reset while it waited, or no descriptors: in both cases the next may do.
                Err(_) => core.sleep(EXHAUSTED).await,
            }
        }
        drop((listener, running));
        shared.draining.set(true);
        let deadline = core.now().after(self.limits.drain);
        while shared.open.get() > 0 && core.now() < deadline {
            core.sleep(DRAIN_STEP).await;
        }
    }
}

/// A socket that holds the address. With `share` it lets the cores' listeners in beside it, and keeps everybody out who
/// asks for the address alone; it does not listen itself.
fn reserve(address: SocketAddr, share: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if share {
        sockopt::set_socket_reuseport(&socket, true)?;
    } else {
        // Connections of an earlier server that linger in TIME_WAIT are no obstacle.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    if !share {
        // With SO_REUSEADDR it is the listening that fails beside another listener.
        rustix::net::listen(&socket, 1)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_served_by_one_server() {
        // A second reservation fails, whether the first has begun to listen or not; the cores' listeners do not.
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = reserve(any, true).unwrap();
        let address = SocketAddr::try_from(getsockname(&first).unwrap()).unwrap();
        assert!(reserve(address, false).is_err());
        let listener = reserve(address, true).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        assert!(reserve(address, false).is_err());
        drop((first, listener));
        reserve(address, false).unwrap();
    }
}
