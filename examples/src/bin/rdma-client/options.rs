//! Options.

use crate::{local_users::LocalUsers, server::Endpoint};
use crossdock_s3::client::Policy;
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// An S3 client whose bytes go past HTTP: by RDMA, or over memory shared with a server on this host
#[derive(clap::Parser, Clone, Debug)]
#[command(version)]
pub(crate) struct Options {
    /// Address or name of the server, and its port: HOST:PORT or http://HOST:PORT, or https://HOST:PORT for HTTPS
    #[arg(long, value_name = "SERVER", default_value = "127.0.0.1:9000")]
    pub(crate) server: Endpoint,
    /// Certificates in PEM of those who may vouch for a server of HTTPS, instead of those that this host trusts
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Go over shared memory, by the socket where the server takes it: its own --shm
    #[arg(long, value_name = "PATH")]
    pub(crate) shm: Option<PathBuf>,
    /// A user of this host, by number or name, whose server may be trusted with the memory besides one of this user or root
    #[arg(long, value_name = "USER", requires = "shm", value_parser = LocalUsers::parse)]
    pub(crate) shm_server_user: Option<LocalUsers>,
    /// Go by RDMA, over the device of that name, or over the one that is nearest to the server
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, require_equals = true)]
    rdma: Option<Option<String>>,
    /// Access key
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    pub(crate) access_key: String,
    /// Secret key
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub(crate) secret_key: String,
    /// Region that signatures name [env: AWS_REGION, else AWS_DEFAULT_REGION] [default: us-east-1]
    #[arg(long)]
    region: Option<String>,
    /// Fail rather than go over HTTP: also if there is no session to be had
    #[arg(long)]
    pub(crate) require: bool,
    /// Memory for the bytes, in MiB, divided by those who move them
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    pub(crate) memory: usize,
    /// Pieces of a file that are moved at a time, each over a session of its own with at least 8 MiB of the memory
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) jobs: usize,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Command {
    /// Stores a file
    Put {
        /// The file
        file: PathBuf,
        /// Where to, as s3://bucket/key
        target: Location,
    },
    /// Fetches an object into a file
    Get {
        /// Where from, as s3://bucket/key
        source: Location,
        /// The file
        file: PathBuf,
    },
    /// Measures PUT and GET by RDMA, over shared memory (of those, what is named) and over HTTP, side by side
    Bench(Bench),
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Bench {
    /// A bucket, and what keys begin with, as s3://bucket/prefix. It is made if it is not there; objects are deleted again
    pub(crate) target: Location,
    /// Sizes of objects in KiB
    #[arg(long, value_delimiter = ',', default_values_t = [4, 64, 1024, 16 * 1024, 64 * 1024])]
    pub(crate) sizes: Vec<usize>,
    /// Seconds for each size and way
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Objects that are moved at a time by each way, each over a session of its own with its part of the memory
    #[arg(long, default_value_t = 1)]
    pub(crate) depth: usize,
    /// Draw what was measured, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// The server's process, to count its processor time
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
}

/// How to go by RDMA.
#[derive(Clone, Debug)]
pub(crate) struct RdmaOption {
    /// The device; none: the nearest.
    pub(crate) device: Option<String>,
}

/// The region, as other clients find it: `AWS_REGION` goes before `AWS_DEFAULT_REGION`, and what is empty says nothing.
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html>)
fn region(named: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> String {
    let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().filter_map(variable);
    let found = named.map(str::to_owned).into_iter().chain(variables).find(|region| !region.is_empty());
    found.unwrap_or_else(|| "us-east-1".to_owned())
}

impl Options {
    pub(crate) fn region(&self) -> String {
        region(self.region.as_deref(), |name| std::env::var(name).ok())
    }

    pub(crate) fn rdma(&self) -> Option<RdmaOption> {
        self.rdma.clone().map(|device| RdmaOption { device })
    }

    pub(crate) fn policy(&self) -> Policy {
        if self.require { Policy::Require } else { Policy::Prefer }
    }

    pub(crate) fn memory_bytes(&self) -> Result<usize, String> {
        let bytes = self.memory.checked_mul(1 << 20).filter(|bytes| *bytes > 0);
        bytes.ok_or_else(|| format!("--memory {}: no such amount", self.memory))
    }
}

/// A bucket and a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) bucket: String,
    pub(crate) key: String,
}

impl Location {
    /// Where the file goes: below what ends with a slash it keeps its name.
    pub(crate) fn for_file(&self, file: &Path) -> Result<Location, String> {
        let mut location = self.clone();
        if location.key.is_empty() || location.key.ends_with('/') {
            let name = file.file_name().and_then(|name| name.to_str());
            location.key += name.ok_or_else(|| format!("{}: no name for an object", file.display()))?;
        }
        Ok(location)
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        let rest = text.strip_prefix("s3://").ok_or("write it as s3://bucket/key")?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err("write it as s3://bucket/key".into());
        }
        Ok(Location { bucket: bucket.into(), key: key.into() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// A time that can be waited for: more than none, and a day at most.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("seconds, more than 0 and at most 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_found_as_others_find_them() {
        // Shows which of option and variables goes before which, and that an empty one says nothing.
        let found = |named, all: &[(&str, &str)]| {
            let variable =
                |name: &str| all.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
            region(named, variable)
        };
        let both = [("AWS_DEFAULT_REGION", "default"), ("AWS_REGION", "region")];
        assert_eq!(found(Some("named"), &both), "named");
        assert_eq!(found(None, &both), "region");
        assert_eq!(found(None, &both[..1]), "default");
        assert_eq!(found(None, &[("AWS_DEFAULT_REGION", "default"), ("AWS_REGION", "")]), "default");
        assert_eq!(found(None, &[]), "us-east-1");
    }

    #[test]
    fn locations_are_read_as_others_write_them() {
        // Keys keep every slash; what has no bucket is none.
        let location = Location { bucket: "b".into(), key: "a//k/".into() };
        assert_eq!("s3://b/a//k/".parse(), Ok(location.clone()));
        assert_eq!(location.to_string(), "s3://b/a//k/");
        assert_eq!("s3://b".parse(), Ok(Location { bucket: "b".into(), key: String::new() }));
        let into = |text: &str| text.parse::<Location>().unwrap().for_file(Path::new("/x/f")).unwrap().key;
        assert_eq!(
            (into("s3://b"), into("s3://b/d/"), into("s3://b/d")),
            ("f".into(), "d/f".into(), "d".into())
        );
        for bad in ["", "b/k", "s3://", "s3:///k", "http://b/k"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }
}
