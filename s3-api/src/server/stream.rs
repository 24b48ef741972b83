//! What a connection's bytes go through: nothing, or a layer of encryption.

#[cfg(feature = "tls")]
use super::tls::TlsStream;
use super::wire::Ended;
use crossdock_transport::{
    memory::{BufferLease, ScatterList},
    tcp::TcpStream,
};

/// The two ways to a peer.
pub(super) enum Stream {
    /// The socket itself: bytes are received where they stay, and sent from where they lie.
    Plain(TcpStream),
    /// Records of TLS.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Receives at least one and at most `limit` bytes behind those in `lease`.
    ///
    /// # Errors
    /// There will be no more.
    pub(super) async fn receive(
        &mut self,
        lease: BufferLease,
        limit: usize,
    ) -> Result<(BufferLease, usize), Ended> {
        match self {
            Stream::Plain(stream) => match stream.receive(lease, limit).await {
                (_, Ok(0) | Err(_)) => Err(Ended::Closed),
                (lease, Ok(bytes)) => Ok((lease, bytes)),
            },
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.receive(lease, limit).await,
        }
    }

    /// Sends every piece, in order.
    ///
    /// # Errors
    /// The peer is gone.
    pub(super) async fn send(&mut self, pieces: ScatterList) -> Result<(), Ended> {
        match self {
            Stream::Plain(stream) => stream.send_all(pieces).await.map_err(|_| Ended::Closed),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.send(pieces).await,
        }
    }

    /// Says that nothing more will be sent.
    pub(super) async fn close(&mut self) {
        match self {
            Stream::Plain(stream) => stream.shutdown_write(),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.close().await,
        }
    }

    /// Gives back what is not needed at rest.
    pub(super) async fn shrink(&mut self) {
        match self {
            Stream::Plain(_) => {}
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.shrink().await,
        }
    }

    /// Whether what comes now is the body of a request that was let in.
    pub(super) fn set_in_body(&mut self, in_body: bool) {
        match self {
            Stream::Plain(_) => {}
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.set_in_body(in_body),
        }
        // Without TLS nothing reads it.
        let _ = in_body;
    }

    /// The socket, to look at.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.socket(),
        }
    }

    /// Whether bytes are encrypted on the way.
    pub(super) fn is_encrypted(&self) -> bool {
        !matches!(self, Stream::Plain(_))
    }

    /// By which version of TLS, as policies call it.
    pub(super) fn tls_version(&self) -> Option<&'static str> {
        match self {
            Stream::Plain(_) => None,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Some(stream.version()),
        }
    }
}
