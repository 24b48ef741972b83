//! Options: from the command line, the environment and a file, in this order.

use clap::{Parser, ValueEnum};
use crossdock_s3::service::BucketDefaults;
use serde::Deserialize;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
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
#[derive(Parser, Debug, Default, Deserialize)]
#[command(version)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Given {
    /// Directory or block device of the store; repeat for several, always in the same order
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Access key of the one identity [default: made at random, kept in the store's directory]
    #[arg(long, env = "CROSSDOCK_ACCESS_KEY", requires = "secret_key")]
    access_key: Option<String>,
    /// Secret key of the one identity
    #[arg(long, env = "CROSSDOCK_SECRET_KEY", requires = "access_key", hide_env_values = true)]
    secret_key: Option<String>,
    /// TOML file with several identities
    #[arg(long, value_name = "FILE", conflicts_with_all = ["access_key", "secret_key"])]
    users: Option<PathBuf>,
    /// DANGEROUS: serve requests without a signature, to everyone
    #[arg(long)]
    anonymous: bool,
    /// Threads, each with a ring and its share of memory and shards [default: one for each processor]
    #[arg(long, value_name = "N")]
    cores: Option<usize>,
    /// Shards of a new store, 1 to 256
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Memory for transfers, such as 512MiB [default: 128MiB for each core]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory for the whole engine, its index too, such as 4GiB: what does not fit is refused [default: no bound for the index]
    #[arg(long, value_name = "SIZE")]
    memory_max: Option<String>,
    /// Bytes a second at which the store reads itself through to find rot, when nothing else is to be done, such as 64MiB; 0: it
    /// does not [default: 32MiB]
    #[arg(long, value_name = "SIZE")]
    scrub_rate: Option<String>,
    /// Region that signatures name [default: us-east-1]
    #[arg(long)]
    region: Option<String>,
    /// What new buckets are set to: aws (lists disabled, nothing public) or aws-before-2023 [default: aws]
    #[arg(long, value_name = "NAME")]
    bucket_defaults: Option<Defaults>,
    /// Domain below which a bucket may be the first label of the host; repeat for several
    #[arg(long = "domain", value_name = "NAME")]
    domains: Vec<String>,
    /// Socket where clients of this host hand over memory that objects are moved to and from
    #[arg(long, value_name = "PATH")]
    shm: Option<PathBuf>,
    /// RDMA: auto (any device that is there), off, or names of devices that have to be, with commas between [default: auto]
    #[arg(long, value_name = "auto|off|DEVICE,…")]
    rdma: Option<String>,
    /// Address for /metrics (Prometheus) and /healthz
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// What to log to standard error, such as info, debug, or crossdock=trace [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Do without io_uring
    #[arg(long)]
    portable: bool,
    /// TOML file with any of these options; the command line wins
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
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
    pub(crate) listen: SocketAddr,
    pub(crate) keys: Option<(String, String)>,
    pub(crate) users: Option<PathBuf>,
    pub(crate) anonymous: bool,
    pub(crate) cores: Option<usize>,
    pub(crate) shards: Option<u16>,
    pub(crate) memory: Option<usize>,
    pub(crate) memory_max: Option<u64>,
    pub(crate) scrub_rate: Option<u64>,
    pub(crate) region: String,
    pub(crate) bucket_defaults: BucketDefaults,
    pub(crate) domains: Vec<String>,
    pub(crate) shm: Option<PathBuf>,
    pub(crate) rdma: RdmaChoice,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) log: String,
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
    let memory = given.memory.or(file.memory).map(|text| parse_size(&text)).transpose()?;
    let memory_max = given.memory_max.or(file.memory_max).map(|text| parse_size(&text)).transpose()?;
    let scrub_rate = given.scrub_rate.or(file.scrub_rate).map(|text| parse_size(&text)).transpose()?;
    Ok(Options {
        data,
        listen: given.listen.or(file.listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9000))),
        keys,
        users,
        anonymous: given.anonymous || file.anonymous,
        cores: given.cores.or(file.cores),
        shards: given.shards.or(file.shards),
        memory,
        memory_max: memory_max.map(|bytes| bytes as u64),
        scrub_rate: scrub_rate.map(|rate| rate as u64),
        region: given.region.or(file.region).unwrap_or_else(|| "us-east-1".into()),
        bucket_defaults: match given.bucket_defaults.or(file.bucket_defaults) {
            None | Some(Defaults::Aws) => BucketDefaults::default(),
            Some(Defaults::AwsBefore2023) => BucketDefaults::BEFORE_2023,
        },
        domains: list(given.domains, file.domains),
        shm: given.shm.or(file.shm),
        rdma: RdmaChoice::parse(given.rdma.or(file.rdma).as_deref().unwrap_or("auto"))?,
        metrics: given.metrics.or(file.metrics),
        log: given.log.or(file.log).unwrap_or_else(|| "info".into()),
        portable: given.portable || file.portable,
    })
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
        assert_eq!((options.listen.port(), options.region.as_str()), (2, "x"));
        assert_eq!(options.data, [PathBuf::from("/a")]);
        assert_eq!(options.keys, Some(("k".into(), "s".into())));
        let options = parse(&["--users", "u", "--data", "/b"], file).unwrap();
        assert_eq!((options.keys, options.data), (None, vec![PathBuf::from("/b")]));
    }

    #[test]
    fn mistakes_are_named() {
        // No data, half a pair of keys, an unknown option in the file, a size that is none.
        assert!(parse(&[], "").unwrap_err().contains("--data"));
        assert!(parse(&["--data", "x", "--access-key", "k"], "").is_err());
        assert!(parse(&["--data", "x"], "access-key = 'k'").is_err());
        assert!(parse(&["--data", "x"], "acces-key = 'k'").unwrap_err().contains("acces-key"));
        assert!(parse(&["--data", "x", "--memory", "many"], "").unwrap_err().contains("many"));
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
