//! Certificate and key of HTTPS: files in PEM, read again when they change.
//!
//! The cryptography is ring's: it needs a C compiler and nothing else to build, on every processor we run on.

use crate::reload::{Watched, warn_if_open};
use crossdock_s3::server::TlsSettings;
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The files, and what was made of them.
pub(crate) struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    settings: Arc<TlsSettings>,
}

impl Certificates {
    /// What is in the files now.
    ///
    /// # Errors
    /// A file that can not be read, or does not hold what it should; a key that is not the certificate's.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Certificates, String> {
        let settings = Arc::new(TlsSettings::new(config(certificate, key)?));
        Ok(Certificates { certificate: certificate.into(), key: key.into(), settings })
    }

    /// For the server.
    pub(crate) fn settings(&self) -> Arc<TlsSettings> {
        self.settings.clone()
    }
}

impl Watched for Certificates {
    fn name(&self) -> &'static str {
        "the certificate"
    }

    fn files(&self) -> Vec<&Path> {
        vec![&self.certificate, &self.key]
    }

    fn reload(&self) -> Result<(), String> {
        self.settings.replace(config(&self.certificate, &self.key)?);
        Ok(())
    }
}

fn config(certificate: &Path, key: &Path) -> Result<ServerConfig, String> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(certificate, &error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, &"no certificate in PEM is in it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    warn_if_open(key);
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| format!("{} and {}: {error}", certificate.display(), key.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(directory: &Path) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["server.test".into()]).unwrap();
        let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn a_pair_of_files_is_taken_and_what_is_none_is_named() {
        // A pair; files swapped, missing, empty; the key of another certificate. What is read again must be as good.
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (certificate, key) = write(one.path());
        let certificates = Certificates::read(&certificate, &key).unwrap();
        let (_, stranger) = write(other.path());
        let refused = |certificate: &Path, key: &Path| Certificates::read(certificate, key).err().unwrap();
        assert!(refused(&key, &certificate).contains("key.pem"));
        assert!(refused(Path::new("/absent.pem"), &key).contains("/absent.pem"));
        assert!(refused(&certificate, &stranger).contains("cert.pem"));
        fs::write(&stranger, "").unwrap();
        assert!(refused(&stranger, &key).contains("no certificate"));
        assert!(certificates.reload().is_ok());
        fs::write(&key, "half a key").unwrap();
        assert!(certificates.reload().is_err());
    }
}
