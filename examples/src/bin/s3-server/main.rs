//! An S3 server on the storage engine.
//!
//! ```text
//! s3-server --data ./data
//! ```
//!
//! It makes a store where there is none, listens on 127.0.0.1:9000, and prints its credentials and one line when it is
//! ready. SIGTERM and SIGINT let requests in work come to their end and close the store; a second one does not wait. SIGHUP
//! has the files of users and certificates read again, which also happens when they change.

mod identities;
mod local_users;
mod options;
mod reload;
mod tls;

use crossdock::{Engine, OpenReport, ScrubSchedule};
use crossdock_s3::{
    server::Server,
    service::{Policies, ServiceOptions},
};
use crossdock_transport::rdma::{Rdma, RdmaError, RdmaOptions, Unavailable};
use crossdock_transport::shm::{Admission, Shm, ShmOptions};
use identities::Identities;
use local_users::LocalUsers;
use options::{Options, RdmaChoice};
use reload::Watched;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
    iterator::Signals,
};
use std::{
    fs::{self, Permissions},
    io::{self, IsTerminal},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tls::Certificates;

/// How often lifecycle rules are acted on. They count in days, from midnight on.
const LIFECYCLE_INTERVAL: Duration = Duration::from_secs(3600);

/// Descriptors for what is no connection: the files of shards, rings, the log.
const OTHER_DESCRIPTORS: u64 = 4096;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("s3-server: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = Options::read()?;
    let filter = tracing_subscriber::EnvFilter::try_new(options.filter())
        .map_err(|error| format!("--log {}: {error}", options.log))?;
    // Colours are for terminals; a file or a journal would keep their codes.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("signals: {error}"))?;

    let (identities, shown) = Identities::of(&options)?;
    let identities = Arc::new(identities);
    let cores = match options.cores {
        Some(cores) => cores,
        None => std::thread::available_parallelism().map_or(1, |count| count.get()),
    };
    let service = ServiceOptions {
        credentials: identities.clone(),
        authorizer: Arc::new(Policies { anonymous: options.anonymous }),
        region: options.region.as_deref().map(Box::from),
        base_domains: options.domains.clone(),
        remote: Arc::default(),
        bucket_defaults: options.bucket_defaults,
        lifecycle_interval: Some(LIFECYCLE_INTERVAL),
    };
    let limits = options.limits;
    allow_descriptors(limits.connections.saturating_mul(cores));
    let mut server = Server::bind(options.listen, cores, service, limits)
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    let mut watched: Vec<Arc<dyn Watched>> = vec![identities];
    if let Some((certificate, key)) = &options.tls {
        let certificates = Arc::new(Certificates::read(certificate, key)?);
        server = server.with_tls(certificates.settings());
        watched.push(certificates);
    }
    let server = Arc::new(server);
    let engine = open(&options, cores, server.clone(), watched.clone())?;
    server.wait_until_listening().map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;

    if options.anonymous {
        println!(
            "DANGER: --anonymous lets everyone who reaches this port read, change and delete everything"
        );
    }
    if let Some(shown) = shown {
        shown.keep()?;
        println!("access key {}\nsecret key {}", shown.access_key, shown.secret_key);
    }
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    println!("ready {scheme}://{}", server.local_addr());

    let signal = loop {
        match signals.forever().next() {
            Some(SIGHUP) => reload::reload(&watched),
            signal => break signal,
        }
    };
    tracing::info!(signal, "closing");
    // From here on a signal ends the process at once: the log makes that safe.
    let impatient = Arc::new(AtomicBool::new(true));
    for signal in [SIGTERM, SIGINT] {
        flag::register_conditional_shutdown(signal, 1, impatient.clone())
            .map_err(|error| format!("signals: {error}"))?;
    }
    engine.close();
    Ok(())
}

/// Connections are descriptors. Most systems start programs with 1024 and let them take more.
fn allow_descriptors(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = (connections as u64).saturating_add(OTHER_DESCRIPTORS);
    let wanted = limit.maximum.map_or(wanted, |most| wanted.min(most));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) =
            setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
    {
        tracing::warn!(%error, wanted, "connections may run out of descriptors");
    }
}

fn open(
    options: &Options,
    cores: usize,
    server: Arc<Server>,
    watched: Vec<Arc<dyn Watched>>,
) -> Result<Engine, String> {
    let metrics = options.metrics;
    let mut builder =
        Engine::builder().cores(cores).create(!options.must_exist).on_each_core(move |engine, driver| {
            let (server, watched) = (server.clone(), watched.clone());
            async move {
                if engine.core().index() == 0 {
                    let core = engine.core().clone();
                    core.spawn(reload::watch(watched, core.clone())).detach();
                }
                if let Some(address) = metrics.filter(|_| engine.core().index() == 0) {
                    let (observer, engine, driver) = (server.clone(), engine.clone(), driver.clone());
                    let core = engine.core().clone();
                    core.spawn(async move {
                        if let Err(error) = observer.observe(engine, driver, address).await {
                            tracing::error!(%error, %address, "no metrics");
                        }
                    })
                    .detach();
                }
                server.run(engine, driver).await;
            }
        });
    for path in &options.data {
        builder = builder.path(path);
    }
    if let Some(bytes) = options.memory {
        builder = builder.memory_bytes(bytes);
    }
    builder = builder.read_cache_bytes(options.read_cache);
    if let Some(bytes) = options.memory_max {
        builder = builder.memory_max(bytes);
    }
    let usual = ScrubSchedule::default();
    let scrub =
        ScrubSchedule { bytes_per_second: options.scrub_rate.unwrap_or(usual.bytes_per_second), ..usual };
    if scrub.bytes_per_second > 0 {
        builder = builder.scrub(scrub);
    }
    if let Some(count) = options.shards {
        builder = builder.shards(count);
    }
    if let Some(path) = &options.shm {
        let shm = open_shm(path, options.shm_users.as_ref())
            .map_err(|error| format!("cannot listen on {}: {error}", path.display()))?;
        builder = builder.transport(Arc::new(shm));
    }
    if let Some(rdma) = open_rdma(&options.rdma)? {
        builder = builder.transport(Arc::new(rdma));
    }
    builder = builder.busy_poll(options.busy_poll);
    if options.portable {
        builder = builder.driver(crossdock_transport::ring::DriverChoice::Portable);
    }
    let engine = builder.open().map_err(|error| error.to_string())?;
    tell(engine.report(), cores);
    Ok(engine)
}

/// The socket for memory of clients. Whoever connects is known by the kernel's word, and what it may do with objects by its signature.
fn open_shm(path: &Path, users: Option<&LocalUsers>) -> io::Result<Shm> {
    let mut options = ShmOptions::default();
    if let Some(users) = users.cloned() {
        let usual = options.admit;
        options.admit = Arc::new(move |peer| match users.has(peer.user) {
            true => Admission::Wait,
            false => usual(peer),
        });
    }
    let shm = Shm::listen(path, options)?;
    if users.is_some() {
        // To connect is to write, which the mask that most processes have keeps from others.
        fs::set_permissions(path, Permissions::from_mode(0o666))?;
    }
    Ok(shm)
}

/// The cards. With `auto` a host without any is nothing to talk about, but with the log at `debug`; one whose cards can not be used is.
fn open_rdma(choice: &RdmaChoice) -> Result<Option<Rdma>, String> {
    let options = match choice {
        RdmaChoice::Off => return Ok(None),
        RdmaChoice::Auto => RdmaOptions { optional: true, ..RdmaOptions::default() },
        RdmaChoice::Devices(names) => RdmaOptions { devices: names.clone(), ..RdmaOptions::default() },
    };
    match Rdma::open(&options) {
        Ok(rdma) => Ok(Some(rdma)),
        Err(
            error @ (RdmaError::Unavailable(Unavailable::Static | Unavailable::NotFound(_))
            | RdmaError::NoKernel { .. }
            | RdmaError::NoDevice),
        ) if *choice == RdmaChoice::Auto => {
            tracing::debug!(%error, "no RDMA");
            Ok(None)
        }
        Err(error) if *choice == RdmaChoice::Auto => {
            tracing::warn!(%error, "no RDMA, though this host has it");
            Ok(None)
        }
        Err(error) => Err(format!("--rdma: {error}")),
    }
}

fn tell(report: &OpenReport, cores: usize) {
    let versions: u64 = report.shards.iter().map(|shard| shard.versions).sum();
    let replayed: u64 = report.shards.iter().map(|shard| shard.entries).sum();
    tracing::info!(
        created = report.created,
        cores,
        shards = report.shards.len(),
        versions,
        replayed,
        memory_mib = report.arena_bytes >> 20,
        pages = ?report.pages,
        pages_lacking = report.pages_lacking.as_deref().unwrap_or("nothing"),
        driver = report.driver,
        "store open"
    );
    tracing::info!("memory of the engine, at most:\n{}", report.memory);
    if let Some(reason) = &report.unregistered {
        tracing::warn!(reason, "memory is not registered with the kernel: every transfer costs more");
    }
    for (shard, reason) in &report.unavailable {
        tracing::error!(shard, %reason, "a shard is not available");
    }
    for shard in report.shards.iter().filter(|shard| shard.hole.is_some()) {
        tracing::error!(shard = shard.shard, hole = ?shard.hole, "a shard's log is damaged: it takes no writes");
    }
}
