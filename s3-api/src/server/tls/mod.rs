//! HTTPS: a layer of encryption between a socket and its connection.
//!
//! ```text
//!   socket ── records ─► TlsStream ── plaintext ─► Wire          without TLS:  socket ─► Wire
//!                            │
//!                            └ Session (`crate::tls`): no I/O, no clock
//! ```
//!
//! The connection above does not know which it has: both receive into leases and send from them. Cryptography is what the
//! embedder puts into the configuration (<https://docs.rs/rustls/latest/rustls/crypto/struct.CryptoProvider.html>).

mod stream;

pub(super) use stream::{Greeting, TlsShared, TlsStream};

use crate::tls::PROTOCOL;
use rustls::ServerConfig;
use std::{
    fmt,
    sync::{Arc, RwLock},
};

/// What a server shows of itself to those who connect by HTTPS: certificates, keys and rules.
///
/// It can be replaced at any time: connections that come later get the new one, those that live keep theirs.
pub struct TlsSettings {
    current: RwLock<Arc<ServerConfig>>,
}

impl TlsSettings {
    /// Settings of `config`, which is told to speak HTTP/1.1 and nothing else.
    pub fn new(config: ServerConfig) -> TlsSettings {
        TlsSettings { current: RwLock::new(prepare(config)) }
    }

    /// Shows `config` to those who connect from now on.
    pub fn replace(&self, config: ServerConfig) {
        *self.current.write().expect("nothing panics with the lock held") = prepare(config);
    }

    /// Read once for each connection, and written when a certificate is renewed: nobody waits here.
    fn current(&self) -> Arc<ServerConfig> {
        self.current.read().expect("nothing panics with the lock held").clone()
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSettings(…)")
    }
}

fn prepare(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // A request may not come before its sender is known to be there now: who listens could send it again.
    config.max_early_data_size = 0;
    Arc::new(config)
}
