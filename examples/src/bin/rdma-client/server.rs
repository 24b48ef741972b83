//! The server that is spoken to: where it is, and how it is known to be the one.

use crossdock_s3::client::TlsSettings;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

/// Where distributions keep the certificates that a host trusts: Debian and its kin, Fedora and its kin, openSUSE, Alpine.
const TRUSTED: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A server, as its address is written: `HOST:PORT`, `http://HOST[:PORT]` or `https://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Name or address, an address of the sixth version in brackets.
    host: String,
    port: u16,
    is_secure: bool,
}

impl Endpoint {
    /// The first address that it has.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        let wrong = |why: &dyn fmt::Display| format!("{self}: {why}");
        let found = self.to_string().to_socket_addrs().map_err(|error| wrong(&error))?.next();
        found.ok_or_else(|| wrong(&"it has no address"))
    }

    /// How it is known, if it is spoken to by HTTPS: by a certificate that somebody vouches for who is in `trusted`, or among those whom this
    /// host trusts.
    pub(crate) fn tls(&self, trusted: Option<&Path>) -> Result<Option<TlsSettings>, String> {
        // AWS_CA_BUNDLE is set for all that a user does, and is no mistake where nobody has to be vouched for.
        if !self.is_secure {
            return Ok(None);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(trusted)?)
            .with_no_client_auth();
        TlsSettings::new(config, &self.host).map(Some).map_err(|error| format!("{}: {error}", self.host))
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        let (rest, port, is_secure) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (rest, Some(443), true),
            (_, Some(rest)) => (rest, Some(80), false),
            _ => (text, None, false),
        };
        let rest = rest.strip_suffix('/').filter(|_| port.is_some()).unwrap_or(rest);
        // In an address of the sixth version colons are within the brackets.
        let (host, port) = match rest.rsplit_once(':').filter(|(_, after)| !after.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok()),
            None => (rest, port),
        };
        let is_host = !host.is_empty() && !host.contains(['/', '@', '?', '#']);
        let is_one =
            host.starts_with('[') == host.ends_with(']') && (host.starts_with('[') || !host.contains(':'));
        match port {
            Some(port) if is_host && is_one => Ok(Endpoint { host: host.into(), port, is_secure }),
            _ => Err("write it as HOST:PORT, http://HOST:PORT or https://HOST:PORT".into()),
        }
    }
}

/// As a request names it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Who is trusted to vouch for servers.
fn roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let own = || TRUSTED.map(PathBuf::from).into_iter().find(|path| path.exists());
    let path = file.map(Path::to_path_buf).or_else(own);
    let path =
        path.ok_or("nobody is trusted on this host to vouch for servers: name a file with --ca-file")?;
    let wrong = |why: &dyn fmt::Display| format!("{}: {why}", path.display());
    let all = CertificateDer::pem_file_iter(&path).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in all {
        let added = roots.add(certificate.map_err(|error| wrong(&error))?);
        // One that was named has to be good; of those that a host has some may be of a kind that is not known here.
        if let (Some(_), Err(error)) = (file, added) {
            return Err(wrong(&error));
        }
    }
    match roots.is_empty() {
        true => Err(wrong(&"no certificate in PEM is in it")),
        false => Ok(roots),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_others_write_them() {
        // Shows names and addresses with and without a scheme, the ports that schemes stand for, and what is no server.
        let read = |text: &str| {
            text.parse::<Endpoint>().map(|server| (server.to_string(), server.is_secure)).unwrap_or_default()
        };
        assert_eq!(read("127.0.0.1:9000"), ("127.0.0.1:9000".into(), false));
        assert_eq!(read("http://store"), ("store:80".into(), false));
        assert_eq!(read("https://store/"), ("store:443".into(), true));
        assert_eq!(read("https://[::1]:9443"), ("[::1]:9443".into(), true));
        assert_eq!(read("[::1]:9000"), ("[::1]:9000".into(), false));
        assert_eq!(read("https://[::1]"), ("[::1]:443".into(), true));
        let bad = [
            "",
            "store",
            ":9000",
            "store:http",
            "store:65536",
            "https://",
            "https://a/b",
            "https://u@a",
            "::1",
            "[::1:9",
        ];
        for text in bad {
            assert_eq!(read(text), Default::default(), "{text}");
        }
    }

    #[test]
    fn who_vouches_is_read_from_a_file() {
        // Shows a file with a certificate, files that are none, and that a server which is not spoken to by HTTPS needs none, whatever is set for others.
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let made = rcgen::generate_simple_self_signed(vec!["server.test".into()]).unwrap();
        let good = file("good.pem", &made.cert.pem());
        let secure: Endpoint = "https://server.test".parse().unwrap();
        assert!(secure.tls(Some(&good)).unwrap().is_some());
        let broken = "-----BEGIN CERTIFICATE-----\naGFsZg==\n-----END CERTIFICATE-----\n";
        for path in [file("empty.pem", ""), file("broken.pem", broken), directory.path().join("absent.pem")] {
            let why = secure.tls(Some(&path)).unwrap_err();
            assert!(why.contains(&*path.to_string_lossy()), "{why}");
        }
        let plain: Endpoint = "http://server.test".parse().unwrap();
        assert!(plain.tls(None).unwrap().is_none());
        assert!(plain.tls(Some(&good)).unwrap().is_none());
    }
}
