//! What a request is about: the service, a bucket or an object.

use crate::protocol::error::S3Error;
use crate::protocol::names::{check_bucket_name, check_key, decode_path};
use core::fmt;

/// What a request is about, with names decoded but not checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// All buckets.
    Service,
    /// A bucket.
    Bucket {
        /// Its name.
        bucket: String,
    },
    /// An object, or where one may come to be.
    Object {
        /// Its bucket's name.
        bucket: String,
        /// Its key: never empty, never normalised.
        key: String,
    },
}

impl Resource {
    /// Reads a raw path as `/bucket/key`. An empty key means the bucket: `/bucket/` is `/bucket`.
    ///
    /// "`https://s3.region-code.amazonaws.com/bucket-name/key-name`"
    /// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>, "Path-style requests".)
    ///
    /// # Errors
    ///
    /// 400 `InvalidURI` if a name is not UTF-8.
    pub fn path_style(path: &str) -> Result<Resource, S3Error> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(Resource::Service);
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        Resource::of(decode_path(bucket)?, key)
    }

    /// Reads a request whose host may hold the bucket: `bucket.base/key` for a base in `base_domains`, and path style
    /// for every other host. Bases are compared without case; a port in `host` is ignored.
    ///
    /// "`https://bucket-name.s3.region-code.amazonaws.com/key-name`" (*Virtual hosting*, "Virtual-hosted–style requests".)
    ///
    /// # Errors
    ///
    /// 400 `InvalidURI` if a name is not UTF-8.
    pub fn virtual_hosted(host: &str, base_domains: &[&str], path: &str) -> Result<Resource, S3Error> {
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        // A name that is written out to the root of all names is the same name (RFC 3986 §3.2.2).
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // Of bases that lie in each other the longest counts, and a host that is a base itself has no bucket in it: what is
        // `s3` below `example.com` must not be taken for a bucket where `s3.example.com` is served too.
        let below = |base: &&str| {
            let before = host.strip_suffix(&base.to_ascii_lowercase())?;
            if before.is_empty() { Some(before) } else { before.strip_suffix('.') }
        };
        let bucket = base_domains
            .iter()
            .filter_map(|base| below(base).map(|bucket| (base.len(), bucket)))
            .max_by_key(|(length, _)| *length)
            .map(|(_, bucket)| bucket)
            .filter(|bucket| !bucket.is_empty());
        match bucket {
            Some(bucket) => Resource::of(bucket.to_owned(), path.strip_prefix('/').unwrap_or(path)),
            None => Resource::path_style(path),
        }
    }

    fn of(bucket: String, raw_key: &str) -> Result<Resource, S3Error> {
        match decode_path(raw_key)? {
            key if key.is_empty() => Ok(Resource::Bucket { bucket }),
            key => Ok(Resource::Object { bucket, key }),
        }
    }

    /// The bucket's name, if there is one.
    pub fn bucket(&self) -> Option<&str> {
        match self {
            Resource::Service => None,
            Resource::Bucket { bucket } | Resource::Object { bucket, .. } => Some(bucket),
        }
    }

    /// The object's key, if there is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Resource::Object { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Checks the names against the rules.
    ///
    /// # Errors
    ///
    /// 400 `InvalidBucketName`, `KeyTooLongError`.
    pub fn check(&self) -> Result<(), S3Error> {
        self.bucket().map_or(Ok(()), check_bucket_name)?;
        self.key().map_or(Ok(()), check_key)
    }
}

impl fmt::Display for Resource {
    /// `/`, `/bucket` or `/bucket/key`, decoded: the `Resource` of an error document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Service => f.write_str("/"),
            Resource::Bucket { bucket } => write!(f, "/{bucket}"),
            Resource::Object { bucket, key } => write!(f, "/{bucket}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_divided_once() {
        // The first slash divides bucket and key; all others, encoded or not, belong to the key.
        let text = |path: &str| Resource::path_style(path).unwrap();
        assert_eq!(text("/"), Resource::Service);
        assert_eq!(text("/b"), text("/b/"));
        assert_eq!(text("/b//a%2Fb/../+c").key(), Some("/a/b/../+c"));
        assert_eq!(text("/b%2Fc/k").bucket(), Some("b/c"));
        assert!(text("/b%2Fc/k").check().is_err());
        assert_eq!(text("/b/k%20k").to_string(), "/b/k k");
    }

    #[test]
    fn a_host_holds_a_bucket_only_under_a_base() {
        // Ports, case, dots in buckets, other hosts, and a host that merely ends alike.
        let of = |host: &str, path: &str| {
            Resource::virtual_hosted(host, &["s3.example.com"], path).unwrap().to_string()
        };
        assert_eq!(of("My.bucket.S3.example.com:9000", "/k/x"), "/my.bucket/k/x");
        assert_eq!(of("bucket.s3.example.com", "/"), "/bucket");
        assert_eq!(of("s3.example.com", "/b/k"), "/b/k");
        assert_eq!(of("news3.example.com", "/b/k"), "/b/k");
        assert_eq!(of("[::1]:9000", "/b/k"), "/b/k");
        assert_eq!(of("127.0.0.1", "/"), "/");
        assert_eq!(of("bucket.s3.example.com.", "/k"), "/bucket/k");
        assert_eq!(of(".s3.example.com", "/b/k"), "/b/k");
        let nested =
            |host: &str, bases: &[&str]| Resource::virtual_hosted(host, bases, "/k").unwrap().to_string();
        for bases in [["example.com", "s3.example.com"], ["s3.example.com", "example.com"]] {
            assert_eq!(nested("b.s3.example.com", &bases), "/b/k");
            assert_eq!(nested("s3.example.com", &bases), "/k");
            assert_eq!(nested("b.example.com", &bases), "/b/k");
        }
    }
}
