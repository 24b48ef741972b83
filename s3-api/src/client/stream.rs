//! What a connection is made of: a socket of the runtime's, as it is or with TLS between.

use super::runtime::Runtime;
#[cfg(feature = "tls")]
use super::tls::TlsStream;
use futures_io::{AsyncRead, AsyncWrite};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// A socket, and what is between it and its connection.
pub(super) enum Stream<S> {
    /// Nothing.
    Plain(S),
    /// TLS, agreed upon.
    #[cfg(feature = "tls")]
    Secure(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// See [`Runtime::is_quiet`].
    pub(super) fn is_quiet<R: Runtime<Stream = S>>(&mut self, runtime: &R) -> bool {
        match self {
            Stream::Plain(socket) => runtime.is_quiet(socket),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => stream.is_quiet(runtime),
        }
    }

    /// See [`Runtime::allow_silence`].
    pub(super) fn allow_silence<R: Runtime<Stream = S>>(
        &mut self,
        runtime: &R,
        time: Duration,
    ) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => runtime.allow_silence(socket, time),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => runtime.allow_silence(stream.socket(), time),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, target),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => stream.poll_read(cx, target),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => stream.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_close(cx),
            #[cfg(feature = "tls")]
            Stream::Secure(stream) => stream.poll_close(cx),
        }
    }
}
