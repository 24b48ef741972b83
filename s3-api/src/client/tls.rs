//! HTTPS: a layer of encryption between a connection and its socket.
//!
//! ```text
//!   Connection ── plaintext ─► TlsStream ── records ─► socket of the runtime
//!                                  └ Session (crate::tls): no I/O, no clock; the same as the server's
//! ```
//!
//! Nothing here waits by itself: what the socket has no room for, or has not got yet, is asked for again by whoever polls.

use super::runtime::Runtime;
use crate::tls::{PROTOCOL, Session, State, fitting_bytes};
use futures_io::{AsyncRead, AsyncWrite};
use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    pki_types::{InvalidDnsNameError, ServerName},
};
use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Records that are received at a time: four of the largest kind, less a few bytes.
const INPUT_BYTES: usize = 64 << 10;
/// Records that are sent at a time.
const OUTPUT_BYTES: usize = 64 << 10;

/// Whom a client takes for its server, and how it encrypts what it says to it.
#[derive(Clone)]
pub struct TlsSettings {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsSettings {
    /// A server that has a certificate for `name`, which `config` trusts. The name is that of a host or an address, without a port. The
    /// configuration brings its cryptography (<https://docs.rs/rustls/latest/rustls/crypto/struct.CryptoProvider.html>); it is told to
    /// speak HTTP/1.1 and nothing else.
    ///
    /// # Errors
    /// The name can be nobody's.
    pub fn new(mut config: ClientConfig, name: &str) -> Result<TlsSettings, InvalidDnsNameError> {
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // What is sent before the server has answered could be sent again by whoever listens.
        config.enable_early_data = false;
        // As in an address of the web: an address of the sixth version has brackets there.
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        Ok(TlsSettings { config: Arc::new(config), name: ServerName::try_from(bare)?.to_owned() })
    }

    /// Encrypts what goes over `socket`. Nothing is said before the first poll.
    ///
    /// # Errors
    /// The configuration can not be used.
    pub(super) fn over<S>(&self, socket: S) -> io::Result<TlsStream<S>> {
        let session = Session::client(Arc::clone(&self.config), self.name.clone()).map_err(broken)?;
        let input = vec![0; INPUT_BYTES].into_boxed_slice();
        Ok(TlsStream { socket, session, input, start: 0, end: 0, outgoing: Vec::new(), sent: 0 })
    }
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A connection whose bytes are encrypted on the way.
pub(super) struct TlsStream<S> {
    socket: S,
    session: Session<UnbufferedClientConnection>,
    /// Records that were received lie from `start` to `end`.
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// Records that are to be sent, and how many bytes of them were.
    outgoing: Vec<u8>,
    sent: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    pub(super) fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Resolves when keys are agreed upon, and the server has shown who it is.
    pub(super) fn poll_agreed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match ready!(self.poll_advance(cx, &mut []))?.1 {
                State::Handshake => ready!(self.poll_receive(cx))?,
                State::Established => return Poll::Ready(Ok(())),
                State::PeerClosed => return Poll::Ready(Err(cut_off())),
            }
        }
    }

    /// Whether nothing has come that was not used: neither in the socket nor here.
    pub(super) fn is_quiet<R: Runtime<Stream = S>>(&mut self, runtime: &R) -> bool {
        self.start == self.end && !self.session.has_plaintext() && runtime.is_quiet(&mut self.socket)
    }

    /// Plaintext that is there, if there is any, and what the session waits for otherwise. What it has to say is sent first.
    fn poll_advance(&mut self, cx: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<(usize, State)>> {
        loop {
            ready!(self.poll_sent(cx))?;
            let records = self.input.get_mut(self.start..self.end).unwrap_or_default();
            match self.session.advance(records, target, &mut self.outgoing) {
                Ok(advance) => {
                    self.start += advance.consumed_bytes;
                    if self.outgoing.is_empty() || advance.plaintext_bytes > 0 {
                        return Poll::Ready(Ok((advance.plaintext_bytes, advance.state)));
                    }
                }
                Err(error) => {
                    // The server is told why, as far as it listens.
                    let _ = self.poll_sent(cx);
                    return Poll::Ready(Err(broken(error)));
                }
            }
        }
    }

    /// Receives records behind those that are there.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.input.get_mut(self.end..).unwrap_or_default();
        if room.is_empty() {
            // No record is so long, and no message of the handshake that anybody needs.
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a record that is too long")));
        }
        match ready!(Pin::new(&mut self.socket).poll_read(cx, room))? {
            // Who cuts the connection off is not the server: it says when it has said all.
            0 => Poll::Ready(Err(cut_off())),
            received => {
                self.end += received;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Sends what is to be sent.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// As that of [`AsyncRead`]: 0 is the server's word that nothing more will come.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match ready!(self.poll_advance(cx, target))? {
                (0, State::PeerClosed) => return Poll::Ready(Ok(0)),
                (0, _) if !target.is_empty() => ready!(self.poll_receive(cx))?,
                (bytes, _) => return Poll::Ready(Ok(bytes)),
            }
        }
    }

    /// As that of [`AsyncWrite`]: what was taken is encrypted, and is sent by the time it has been flushed.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(cx))?;
        let now = bytes.get(..fitting_bytes(OUTPUT_BYTES)).unwrap_or(bytes);
        let records = self.input.get_mut(self.start..self.end).unwrap_or_default();
        self.outgoing.resize(OUTPUT_BYTES, 0);
        let written = self.session.encrypt(records, now, &mut self.outgoing);
        self.outgoing.truncate(*written.as_ref().unwrap_or(&0));
        written.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        // As much as there is room for; the rest goes with the next call.
        match self.poll_sent(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(now.len())),
        }
    }

    /// As that of [`AsyncWrite`].
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// As that of [`AsyncWrite`]. The server is not told that nothing more comes: nobody here closes before the last reply, and whoever
    /// drops a connection in the midst of a request wants it to be cut off.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Not `UnexpectedEof`, by which a body may end that has no length: with TLS only the server's word ends it.
fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hosts_and_addresses() {
        // Shows what a certificate may be asked to name, and that what can be nobody's name is refused.
        let config = || {
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth()
        };
        for name in ["s3.example.com", "127.0.0.1", "::1", "[::1]"] {
            let settings = TlsSettings::new(config(), name).unwrap();
            assert_eq!(settings.config.alpn_protocols, [b"http/1.1"], "{name}");
        }
        for name in ["", "a b", "host:443", "[::1", "http://host"] {
            assert!(TlsSettings::new(config(), name).is_err(), "{name}");
        }
    }
}
