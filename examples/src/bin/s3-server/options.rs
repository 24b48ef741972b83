//! Options: from the command line, the environment and a file, in this order.

use crate::local_users::LocalUsers;
use clap::{Parser, ValueEnum};
use crossdock_s3::{
    server::{ACCESS_LOG, ServerLimits},
    service::BucketDefaults,
};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// What new buckets are set to.
#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Defaults {
    Aws,
    #[serde(rename = "aws-before-2023")]
    #[value(name = "aws-before-2023")]
    AwsBefore2023,
}

/// An S3 server on the Crossdock storage engine
///
/// Serves the store of a directory, or makes one there; everything but the directory has a default:
///
///     s3-server --data ./data
#[derive(Parser, Debug, Default, Deserialize)]
#[command(version, verbatim_doc_comment, max_term_width = 110)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Given {
    /// TOML file with any of these options, under the same names; the command line wins
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,

    /// Directory or block device of the store, made if there is none; repeat for several, always in the same order. A device is taken
    /// for a new store only if it is not in use and reads as zeros where others leave their marks
    #[arg(long, value_name = "PATH", help_heading = "Store")]
    data: Vec<PathBuf>,
    /// Open a store that is there, and never make one: where a file system that is not mounted leaves an empty directory
    #[arg(long, help_heading = "Store")]
    must_exist: bool,
    /// Threads, each with a ring and its share of memory and shards [default: one for each processor]
    #[arg(long, value_name = "N", help_heading = "Store")]
    cores: Option<usize>,
    /// Shards of a new store, 1 to 256 [default: by cores and size]
    #[arg(long, value_name = "N", help_heading = "Store")]
    shards: Option<u16>,
    /// Memory for transfers, such as 512MiB [default: 128MiB for each core]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    memory: Option<String>,
    /// Memory for the whole engine, its index too, such as 4GiB: what does not fit is refused [default: no bound for the index]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    memory_max: Option<String>,
    /// How much of the memory for transfers may keep what was read, while nobody needs it, such as 256MiB: it is sent again without
    /// reading the device [default: 0]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    read_cache: Option<String>,
    /// Bytes a second at which the store reads itself through to find rot, when nothing else is to be done, such as 64MiB; 0: it
    /// does not [default: 32MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Store")]
    scrub_rate: Option<String>,
    /// How long a core without work goes on looking for some before it sleeps, such as 50us: quicker answers for a busier processor.
    /// Where cores have processors to themselves [default: 0]
    #[arg(long, value_name = "TIME", help_heading = "Store")]
    busy_poll: Option<String>,
    /// Do without io_uring
    #[arg(long, help_heading = "Store")]
    portable: bool,

    /// Address to listen on [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR", help_heading = "Network")]
    listen: Option<SocketAddr>,
    /// Certificate chain in PEM: with it the address speaks HTTPS. Read again when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE", help_heading = "Network", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", help_heading = "Network", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Domain below which a bucket may be the first label of the host (bucket.NAME/key); repeat for several
    #[arg(long = "domain", value_name = "NAME", help_heading = "Network")]
    #[serde(rename = "domain", alias = "domains")]
    domains: Vec<String>,
    /// The one region that signatures may name, and that buckets are in [default: any may be named, and buckets are in us-east-1]
    #[arg(long, value_name = "NAME", help_heading = "Network")]
    region: Option<String>,
    /// Socket where processes of this user and of root hand over memory that objects are moved to and from; others with --shm-users
    #[arg(long, value_name = "PATH", help_heading = "Network")]
    shm: Option<PathBuf>,
    /// Users of this host, by number or name, whose processes may hand memory over besides [default: none]
    #[arg(long, value_name = "any|USER,…", help_heading = "Network")]
    shm_users: Option<String>,
    /// RDMA: auto (any device that is there), off, or names of devices that have to be, with commas between [default: auto]
    #[arg(long, value_name = "auto|off|DEVICE,…", help_heading = "Network")]
    rdma: Option<String>,

    /// Access key of the one identity [default: made at random, kept in the store's directory]
    #[arg(
        long,
        value_name = "KEY",
        env = "CROSSDOCK_ACCESS_KEY",
        requires = "secret_key",
        help_heading = "Identities"
    )]
    access_key: Option<String>,
    /// Secret key of the one identity
    #[arg(
        long,
        value_name = "KEY",
        env = "CROSSDOCK_SECRET_KEY",
        requires = "access_key",
        hide_env_values = true,
        help_heading = "Identities"
    )]
    secret_key: Option<String>,
    /// TOML file with several accounts and users. Read again when it changes, and on SIGHUP
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["access_key", "secret_key"],
        help_heading = "Identities"
    )]
    users: Option<PathBuf>,
    /// DANGEROUS: serve requests without a signature, to everyone
    #[arg(long, help_heading = "Identities")]
    anonymous: bool,
    /// What new buckets are set to: aws (lists disabled, nothing public) or aws-before-2023 [default: aws]
    #[arg(long, value_name = "NAME", help_heading = "Identities")]
    bucket_defaults: Option<Defaults>,

    /// Connections on each core; one more is answered SlowDown and closed [default: 1024]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    max_connections: Option<usize>,
    /// Bytes of a request's head [default: 64KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    max_head: Option<String>,
    /// Bytes of lists and other documents that each core holds at once; beyond, clients are told to slow down [default: 32MiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    max_documents: Option<String>,
    /// How long a connection may rest between requests, such as 75s, 500ms or 2m [default: 75s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    idle_timeout: Option<String>,
    /// How long agreeing on TLS may take [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    handshake_timeout: Option<String>,
    /// How long a request's head may take, from its first byte to its last [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    head_timeout: Option<String>,
    /// How long a request's body may come to a halt [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    body_timeout: Option<String>,
    /// How much of a body has to come each second on the whole, such a halt aside [default: 4KiB]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    min_body_rate: Option<String>,
    /// How long a client may take nothing of a reply [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    send_timeout: Option<String>,
    /// How long a client waits for a copy or the completion of an upload before it is answered 200, and shown from time to time that
    /// somebody is at work; what fails after that is an error in the document, as with S3 [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    early_reply: Option<String>,
    /// How long requests in work may take to end after SIGTERM [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    drain_timeout: Option<String>,

    /// Address for /metrics (Prometheus) and /healthz
    #[arg(long, value_name = "ADDR", help_heading = "Watching it")]
    metrics: Option<SocketAddr>,
    /// What to log to standard error, such as info, debug, or crossdock=trace [default: info]
    #[arg(long, value_name = "FILTER", help_heading = "Watching it")]
    log: Option<String>,
    /// Log each request: who, what, and what became of it
    #[arg(long, help_heading = "Watching it")]
    access_log: bool,
}

/// Which RDMA devices are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RdmaChoice {
    /// Those that are there, if any.
    Auto,
    /// None.
    Off,
    /// These, and it is an error if one cannot be.
    Devices(Vec<String>),
}

impl RdmaChoice {
    fn parse(text: &str) -> Result<RdmaChoice, String> {
        match text {
            "auto" => Ok(RdmaChoice::Auto),
            "off" => Ok(RdmaChoice::Off),
            names if names.split(',').all(|name| !name.is_empty() && name != "auto" && name != "off") => {
                Ok(RdmaChoice::Devices(names.split(',').map(str::to_owned).collect()))
            }
            _ => Err(format!("--rdma {text}: write auto, off, or names of devices with commas between")),
        }
    }
}

/// What the server is to do.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) data: Vec<PathBuf>,
    pub(crate) must_exist: bool,
    pub(crate) listen: SocketAddr,
    /// Certificate and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) limits: ServerLimits,
    pub(crate) keys: Option<(String, String)>,
    pub(crate) users: Option<PathBuf>,
    pub(crate) anonymous: bool,
    pub(crate) cores: Option<usize>,
    pub(crate) shards: Option<u16>,
    pub(crate) memory: Option<usize>,
    pub(crate) memory_max: Option<u64>,
    pub(crate) read_cache: usize,
    pub(crate) scrub_rate: Option<u64>,
    pub(crate) region: Option<String>,
    pub(crate) bucket_defaults: BucketDefaults,
    pub(crate) domains: Vec<String>,
    pub(crate) shm: Option<PathBuf>,
    /// None: processes of the server's own user and of root only.
    pub(crate) shm_users: Option<LocalUsers>,
    pub(crate) rdma: RdmaChoice,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) log: String,
    pub(crate) access_log: bool,
    pub(crate) busy_poll: Duration,
    pub(crate) portable: bool,
}

impl Options {
    /// Reads the command line, the environment, and the file if one is named. Ends the process for `--help` and mistakes.
    ///
    /// # Errors
    /// A sentence that names the option or the file.
    pub(crate) fn read() -> Result<Options, String> {
        let given = Given::parse();
        let file = match &given.config {
            Some(path) => read_file(path)?,
            None => Given::default(),
        };
        merge(given, file)
    }

    /// What is logged, as a filter.
    pub(crate) fn filter(&self) -> String {
        // A line for each request is more than most want, and no less than some must have.
        match (self.access_log, self.log.contains(ACCESS_LOG)) {
            (true, _) => format!("{},{ACCESS_LOG}=info", self.log),
            (false, true) => self.log.clone(),
            (false, false) => format!("{},{ACCESS_LOG}=off", self.log),
        }
    }
}

fn read_file(path: &Path) -> Result<Given, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn merge(given: Given, file: Given) -> Result<Options, String> {
    fn list<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
        if first.is_empty() { second } else { first }
    }
    let data = list(given.data, file.data);
    if data.is_empty() {
        return Err("name a directory or block device with --data PATH".into());
    }
    // Identities come whole from one place: half of a pair from each would be nobody's.
    let named = given.access_key.is_some() || given.users.is_some();
    let (access_key, secret_key, users) = match named {
        true => (given.access_key, given.secret_key, given.users),
        false => (file.access_key, file.secret_key, file.users),
    };
    let keys = match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) if access_key.is_empty() || secret_key.is_empty() => {
            return Err("the access key and the secret key must not be empty".into());
        }
        (Some(access_key), Some(secret_key)) => Some((access_key, secret_key)),
        (None, None) => None,
        _ => return Err("an access key needs a secret key, and the other way round".into()),
    };
    if keys.is_some() && users.is_some() {
        return Err("give one identity or a file of users, not both".into());
    }
    // As do certificate and key.
    let pair = match given.tls_cert.is_some() {
        true => (given.tls_cert, given.tls_key),
        false => (file.tls_cert, file.tls_key),
    };
    let tls = match pair {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("a certificate (tls-cert) needs its key (tls-key), and the other way round".into()),
    };
    let mut limits = ServerLimits::default();
    let time = |target: &mut Duration, given: Option<String>, file: Option<String>| {
        given.or(file).map_or(Ok(()), |text| parse_time(&text).map(|time| *target = time))
    };
    time(&mut limits.idle, given.idle_timeout, file.idle_timeout)?;
    time(&mut limits.handshake, given.handshake_timeout, file.handshake_timeout)?;
    time(&mut limits.head, given.head_timeout, file.head_timeout)?;
    time(&mut limits.body_idle, given.body_timeout, file.body_timeout)?;
    time(&mut limits.send, given.send_timeout, file.send_timeout)?;
    time(&mut limits.quiet, given.early_reply, file.early_reply)?;
    time(&mut limits.drain, given.drain_timeout, file.drain_timeout)?;
    if let Some(connections) = given.max_connections.or(file.max_connections) {
        limits.connections = connections;
    }
    if let Some(text) = given.max_head.or(file.max_head) {
        limits.head_bytes = parse_size(&text)?;
        if !(4096..=1 << 20).contains(&limits.head_bytes) {
            return Err(format!("max-head {text}: between 4KiB and 1MiB"));
        }
    }
    if let Some(text) = given.max_documents.or(file.max_documents) {
        limits.documents_bytes = parse_size(&text)?;
    }
    if let Some(text) = given.min_body_rate.or(file.min_body_rate) {
        limits.body_bytes_per_second = parse_size(&text)? as u64;
    }
    let memory = given.memory.or(file.memory).map(|text| parse_size(&text)).transpose()?;
    let memory_max = given.memory_max.or(file.memory_max).map(|text| parse_size(&text)).transpose()?;
    let read_cache = given.read_cache.or(file.read_cache).map(|text| parse_size(&text)).transpose()?;
    let scrub_rate = given.scrub_rate.or(file.scrub_rate).map(|text| parse_size(&text)).transpose()?;
    let shm_users = given
        .shm_users
        .or(file.shm_users)
        .map(|text| LocalUsers::parse(&text).map_err(|error| format!("--shm-users {error}")));
    let shm_users = shm_users.transpose()?;
    Ok(Options {
        data,
        must_exist: given.must_exist || file.must_exist,
        listen: given.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9000))),
        tls,
        limits,
        keys,
        users,
        anonymous: given.anonymous || file.anonymous,
        cores: given.cores.or(file.cores),
        shards: given.shards.or(file.shards),
        memory,
        memory_max: memory_max.map(|bytes| bytes as u64),
        read_cache: read_cache.unwrap_or(0),
        scrub_rate: scrub_rate.map(|rate| rate as u64),
        region: given.region.or(file.region),
        bucket_defaults: match given.bucket_defaults.or(file.bucket_defaults) {
            None | Some(Defaults::Aws) => BucketDefaults::default(),
            Some(Defaults::AwsBefore2023) => BucketDefaults::BEFORE_2023,
        },
        domains: list(given.domains, file.domains),
        shm: given.shm.or(file.shm),
        shm_users,
        rdma: RdmaChoice::parse(given.rdma.or(file.rdma).as_deref().unwrap_or("auto"))?,
        metrics: given.metrics.or(file.metrics),
        log: given.log.or(file.log).unwrap_or_else(|| "info".into()),
        access_log: given.access_log || file.access_log,
        busy_poll: given.busy_poll.or(file.busy_poll).map_or(Ok(Duration::ZERO), |text| parse_time(&text))?,
        portable: given.portable || file.portable,
    })
}

/// Reads `30s`, `500ms`, `50us`, `2m` or `1h`. More than a year is a mistake.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no time: write it like 30s, 500ms or 2m");
    let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let microseconds = match text.trim().get(digits.len()..).unwrap_or_default() {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| wrong())?;
    let time = number.checked_mul(microseconds).map(Duration::from_micros).ok_or_else(wrong)?;
    if time.is_zero() || time > Duration::from_secs(366 * 86_400) {
        return Err(wrong());
    }
    Ok(time)
}

/// Reads `512MiB`, `512M`, `1G` or a number of bytes. Units are powers of 1024.
fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim().trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.trim().get(digits.len()..).unwrap_or_default();
    let shift = match unit.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err(format!("{text} is no size: write it like 512MiB")),
    };
    let number: usize =
        digits.trim().parse().map_err(|_| format!("{text} is no size: write it like 512MiB"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], file: &str) -> Result<Options, String> {
        let given = Given::try_parse_from([&["s3-server"], arguments].concat()).map_err(|e| e.to_string())?;
        merge(given, toml::from_str(file).map_err(|error| error.to_string())?)
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        // Each option may stand in either; what is on the command line is not mixed with what is in the file.
        let file = "data = ['/a']\nlisten = '127.0.0.1:1'\nregion = 'x'\naccess-key = 'k'\nsecret-key = 's'";
        let options = parse(&["--listen", "127.0.0.1:2"], file).unwrap();
        assert_eq!((options.listen.port(), options.region.as_deref()), (2, Some("x")));
        assert_eq!(options.data, [PathBuf::from("/a")]);
        assert_eq!(options.keys, Some(("k".into(), "s".into())));
        let options = parse(&["--users", "u", "--data", "/b"], file).unwrap();
        assert_eq!((options.keys, options.data), (None, vec![PathBuf::from("/b")]));
    }

    #[test]
    fn a_store_can_be_demanded() {
        // On the command line, in the file, and not unless it is said.
        assert!(parse(&["--data", "x", "--must-exist"], "").unwrap().must_exist);
        assert!(parse(&["--data", "x"], "must-exist = true").unwrap().must_exist);
        assert!(!parse(&["--data", "x"], "").unwrap().must_exist);
    }

    #[test]
    fn mistakes_are_named() {
        // No data, half a pair of keys, an unknown option in the file, a size that is none.
        assert!(parse(&[], "").unwrap_err().contains("--data"));
        assert!(parse(&["--data", "x", "--access-key", "k"], "").is_err());
        assert!(parse(&["--data", "x"], "access-key = 'k'").is_err());
        assert!(parse(&["--data", "x"], "acces-key = 'k'").unwrap_err().contains("acces-key"));
        assert!(parse(&["--data", "x", "--memory", "many"], "").unwrap_err().contains("many"));
        assert!(
            parse(&["--data", "x", "--shm-users", "no such user"], "").unwrap_err().contains("--shm-users")
        );
    }

    #[test]
    fn limits_stand_in_either() {
        // Times and sizes, from the command line before the file; what can not be is refused.
        let file = "data = ['/a']\nhead-timeout = '2m'\nidle-timeout = '9s'\nmin-body-rate = '1KiB'\nmax-documents = '1M'\ntls-cert = 'c'\ntls-key = 'k'";
        let options =
            parse(&["--idle-timeout", "500ms", "--max-connections", "7", "--max-head", "8K"], file).unwrap();
        let limits = options.limits;
        assert_eq!((limits.head, limits.idle), (Duration::from_secs(120), Duration::from_millis(500)));
        assert_eq!((limits.connections, limits.head_bytes, limits.body_bytes_per_second), (7, 8192, 1024));
        assert_eq!(limits.documents_bytes, 1 << 20);
        assert_eq!(options.tls, Some(("c".into(), "k".into())));
        for wrong in ["30", "0s", "s", "-1s", "1d", "99999999999h", "1 s s"] {
            assert!(parse(&["--data", "x", "--idle-timeout", wrong], "").is_err(), "{wrong}");
        }
        assert!(parse(&["--data", "x", "--max-head", "1"], "").is_err());
        assert!(parse(&["--data", "x", "--tls-cert", "c"], "").is_err());
        assert!(parse(&["--data", "x"], "tls-cert = 'c'").is_err());
    }

    #[test]
    fn requests_are_logged_when_that_is_asked_for() {
        // By the option, or by a filter that names them.
        let filter =
            |arguments: &[&str]| parse(&[&["--data", "x"], arguments].concat(), "").unwrap().filter();
        assert_eq!(filter(&[]), "info,crossdock_s3::access=off");
        assert_eq!(filter(&["--log", "warn", "--access-log"]), "warn,crossdock_s3::access=info");
        assert_eq!(filter(&["--log", "crossdock_s3::access=info"]), "crossdock_s3::access=info");
    }

    #[test]
    fn sizes_have_units_of_1024() {
        // With and without the i and the B, in either case.
        for text in ["512MiB", "512M", "512mb", " 524288K ", "536870912"] {
            assert_eq!(parse_size(text), Ok(512 << 20), "{text}");
        }
        assert!(parse_size("99999999999G").is_err());
    }
}
