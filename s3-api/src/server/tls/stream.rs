//! A TLS connection on the ring: the session, the socket, and the memory between them.
//!
//! What a connection holds is a page at rest. A record that does not fit there:
//! * in the body of a request that was let in, is received with others into a larger buffer, of which a core has a bounded
//!   number;
//! * elsewhere, and where there is none left, is gathered on the heap, as much as one record takes.
//!
//! Nobody waits for anybody, so that peers who send half of something keep nobody out, neither strangers nor users.
//!
//! A reply takes a buffer while it is sent.
//!
//! A receive or send that was dropped before its end leaves the stream good for one thing: telling the peer so.

use super::TlsSettings;
use crate::{
    server::wire::{Ended, INPUT_BYTES},
    tls::{Advance, RECORD_PAYLOAD_BYTES, Session, State, fitting_bytes, missing_bytes},
};
use crossdock::reactor::{Budget, Core, Grant};
use crossdock_transport::{
    memory::{BufferLease, CopyReason, ScatterList, count_copied},
    tcp::TcpStream,
};
use rustls::server::UnbufferedServerConnection;
use std::sync::Arc;

/// The larger buffer: three records of the largest kind, and some.
const LARGE_BYTES: usize = 64 << 10;
/// What larger buffers may take of a core's memory, in all.
const LARGE_DIVISOR: usize = 8;
/// What is gathered of a peer that was not let in: a record, and a hello that goes over two.
const GATHERED_BYTES_MAX: usize = 2 * RECORD_PAYLOAD_BYTES;

/// What the TLS connections of one core share.
pub(in crate::server) struct TlsShared {
    settings: Arc<TlsSettings>,
    larger: Budget,
}

impl TlsShared {
    pub(in crate::server) fn new(settings: Arc<TlsSettings>, core: &Core) -> TlsShared {
        let larger = Budget::new((core.pool().total_bytes() / LARGE_DIVISOR / LARGE_BYTES).max(1));
        TlsShared { settings, larger }
    }
}

/// What a peer turned out to want.
pub(in crate::server) enum Greeting {
    /// TLS, agreed upon.
    Tls(Box<TlsStream>),
    /// HTTP without TLS: it is told so, in its own language.
    Plain(TcpStream),
}

/// A connection whose bytes are encrypted on the way.
pub(in crate::server) struct TlsStream {
    core: Core,
    stream: TcpStream,
    session: Session<UnbufferedServerConnection>,
    /// Records that were received; none while, or after, a receive was cut off.
    input: Option<BufferLease>,
    start: usize,
    /// Records instead of those in `input`, from a peer that was not let in.
    gathered: Vec<u8>,
    large: Option<Grant>,
    larger: Budget,
    /// Whether the sender was let in.
    in_body: bool,
}

impl TlsStream {
    /// Agrees with the peer on keys. The caller sets the limit of time.
    ///
    /// # Errors
    /// The peer is gone, speaks neither TLS nor HTTP, or wants what is not offered; it was told why.
    pub(in crate::server) async fn accept(
        core: Core,
        stream: TcpStream,
        shared: &TlsShared,
    ) -> Result<Greeting, String> {
        let session = Session::server(shared.settings.current()).map_err(|error| error.to_string())?;
        let mut input = core.pool().acquire(INPUT_BYTES).await;
        input.set_len(0);
        let mut tls = TlsStream {
            core,
            stream,
            session,
            input: Some(input),
            start: 0,
            gathered: Vec::new(),
            large: None,
            larger: shared.larger.clone(),
            in_body: false,
        };
        tls.fill().await.map_err(|_| "gone before its first byte")?;
        // A record begins with its type, a small number; a request with its method.
        if tls.pending().first().is_some_and(u8::is_ascii_uppercase) {
            return Ok(Greeting::Plain(tls.stream));
        }
        loop {
            match tls.advance(&mut []).await.map_err(|failure| failure.to_string())?.state {
                State::Established => return Ok(Greeting::Tls(Box::new(tls))),
                State::PeerClosed => return Err("closed in the midst of the handshake".into()),
                State::Handshake => tls.fill().await.map_err(|_| "gone in the midst of the handshake")?,
            }
        }
    }

    /// The socket, to look at.
    pub(in crate::server) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// The version of TLS that was agreed on, as policies call it.
    pub(in crate::server) fn version(&self) -> &'static str {
        self.session.version()
    }

    /// What was received and not used.
    fn pending(&self) -> &[u8] {
        if !self.gathered.is_empty() {
            return &self.gathered;
        }
        self.input.as_ref().and_then(|lease| lease.as_slice().get(self.start..)).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        if self.gathered.is_empty() {
            self.start += bytes;
        } else if bytes >= self.gathered.len() {
            self.gathered = Vec::new();
        } else {
            self.gathered.drain(..bytes);
        }
    }

    /// Takes records off the input, and sends what the session has to say.
    async fn advance(&mut self, target: &mut [u8]) -> Result<Advance, Failure> {
        let mut outgoing = Vec::new();
        let records = records(&mut self.gathered, &mut self.input, self.start);
        let advanced = self.session.advance(records, target, &mut outgoing);
        if let Ok(advance) = &advanced {
            self.consume(advance.consumed_bytes);
        }
        for piece in outgoing.chunks(LARGE_BYTES) {
            let mut lease = self.core.pool().acquire(piece.len()).await;
            lease.set_len(piece.len());
            lease.as_mut_slice().copy_from_slice(piece);
            self.stream.send_all(ScatterList::from(lease.freeze())).await.map_err(|_| Failure::Gone)?;
        }
        Ok(advanced?)
    }

    /// Receives more records behind those that are there.
    async fn fill(&mut self) -> Result<(), Ended> {
        let pending = self.pending().len();
        let missing = missing_bytes(self.pending());
        let lease = self.input.as_mut().ok_or(Ended::Closed)?;
        if pending == 0 || !self.gathered.is_empty() {
            lease.set_len(0);
            self.start = 0;
        }
        let wanted = pending + missing.unwrap_or(1);
        if !self.gathered.is_empty() {
            return self.gather(missing).await;
        }
        if wanted > lease.capacity() {
            // No record is longer than this.
            if lease.capacity() >= LARGE_BYTES {
                return Err(Ended::Closed);
            }
            let Some(large) = self.in_body.then(|| self.larger.try_take(1)).flatten() else {
                return self.gather(missing).await;
            };
            self.large = Some(large);
            self.exchange(LARGE_BYTES).await;
        } else if wanted > lease.capacity() - self.start {
            lease.as_mut_slice().copy_within(self.start.., 0);
            lease.set_len(pending);
            self.start = 0;
        }
        self.receive_records(usize::MAX).await
    }

    /// Receives a page of the record that is begun, and puts it where the rest of it is.
    async fn gather(&mut self, missing: Option<usize>) -> Result<(), Ended> {
        if self.gathered.is_empty() {
            let pending = self.pending();
            self.gathered = Vec::with_capacity(pending.len() + missing.unwrap_or(0));
            let pending = self.input.as_ref().and_then(|lease| lease.as_slice().get(self.start..));
            self.gathered.extend_from_slice(pending.unwrap_or_default());
            self.input.as_mut().ok_or(Ended::Closed)?.set_len(0);
            self.start = 0;
        }
        if self.gathered.len() + missing.unwrap_or(1) > GATHERED_BYTES_MAX {
            return Err(Ended::Closed);
        }
        // Not beyond the record: what follows is received where it belongs.
        self.receive_records(missing.unwrap_or(1)).await?;
        let lease = self.input.as_mut().ok_or(Ended::Closed)?;
        self.gathered.extend_from_slice(lease.as_slice());
        count_copied(lease.len(), CopyReason::Record);
        lease.set_len(0);
        Ok(())
    }

    async fn receive_records(&mut self, limit: usize) -> Result<(), Ended> {
        let lease = self.input.take().ok_or(Ended::Closed)?;
        let (lease, result) = self.stream.receive(lease, limit).await;
        self.input = Some(lease);
        match result {
            Ok(0) | Err(_) => Err(Ended::Closed),
            Ok(_) => Ok(()),
        }
    }

    /// Goes on with a buffer of another size.
    async fn exchange(&mut self, bytes: usize) {
        let mut lease = self.core.pool().acquire(bytes).await;
        let pending = self.input.as_ref().and_then(|lease| lease.as_slice().get(self.start..));
        let pending = pending.unwrap_or_default();
        lease.set_len(pending.len());
        lease.as_mut_slice().copy_from_slice(pending);
        (self.input, self.start) = (Some(lease), 0);
    }

    /// A request in work has, or has no more, a body that its sender was allowed to send.
    pub(in crate::server) fn set_in_body(&mut self, in_body: bool) {
        self.in_body = in_body;
    }

    /// Goes back to the memory of a connection at rest, unless more is pending.
    pub(in crate::server) async fn shrink(&mut self) {
        let pending = self.input.as_ref().map(|lease| lease.len() - self.start);
        if self.large.is_some() && pending.is_some_and(|bytes| bytes <= INPUT_BYTES) {
            self.exchange(INPUT_BYTES).await;
            self.large = None;
        }
    }

    /// Receives at least one and at most `limit` bytes of plaintext behind those in `target`.
    ///
    /// # Errors
    /// The peer has said that nothing more will come, is gone, or breaks the rules.
    pub(in crate::server) async fn receive(
        &mut self,
        mut target: BufferLease,
        limit: usize,
    ) -> Result<(BufferLease, usize), Ended> {
        let at = target.len();
        let end = at.saturating_add(limit).min(target.capacity());
        if at == end {
            return Err(Ended::Closed);
        }
        loop {
            let room = target.full_mut().get_mut(at..end).unwrap_or_default();
            let advance = match self.advance(room).await {
                Ok(advance) => advance,
                Err(failure) => {
                    tracing::debug!(peer = %self.stream.peer_addr(), %failure, "TLS");
                    return Err(Ended::Closed);
                }
            };
            if advance.plaintext_bytes > 0 {
                target.set_len(at + advance.plaintext_bytes);
                return Ok((target, advance.plaintext_bytes));
            }
            if advance.state == State::PeerClosed {
                return Err(Ended::Closed);
            }
            self.fill().await?;
        }
    }

    /// Encrypts and sends every piece, in order.
    ///
    /// # Errors
    /// The peer is gone.
    pub(in crate::server) async fn send(&mut self, pieces: ScatterList) -> Result<(), Ended> {
        let mut left = pieces.bytes();
        let mut out: Option<BufferLease> = None;
        for piece in pieces.pieces() {
            let mut rest = piece.as_ref();
            while !rest.is_empty() {
                let mut lease = match out.take() {
                    Some(lease) => lease,
                    None => self.buffer(left).await,
                };
                let used = lease.len();
                let (now, later) = rest.split_at(rest.len().min(fitting_bytes(lease.capacity() - used)));
                if now.is_empty() {
                    self.put_on_the_wire(lease).await?;
                    continue;
                }
                let records = records(&mut self.gathered, &mut self.input, self.start);
                let target = lease.full_mut().get_mut(used..).unwrap_or_default();
                let bytes = self.session.encrypt(records, now, target).map_err(|_| Ended::Closed)?;
                lease.set_len(used + bytes);
                left -= now.len();
                rest = later;
                out = Some(lease);
            }
        }
        match out {
            Some(lease) => self.put_on_the_wire(lease).await,
            None => Ok(()),
        }
    }

    /// A buffer for records of `plaintext_bytes`, or of as much of that as is sent at once.
    async fn buffer(&self, plaintext_bytes: usize) -> BufferLease {
        let is_small = plaintext_bytes <= fitting_bytes(INPUT_BYTES);
        let mut lease = self.core.pool().acquire(if is_small { INPUT_BYTES } else { LARGE_BYTES }).await;
        lease.set_len(0);
        lease
    }

    async fn put_on_the_wire(&self, lease: BufferLease) -> Result<(), Ended> {
        self.stream.send_all(ScatterList::from(lease.freeze())).await.map_err(|_| Ended::Closed)
    }

    /// Says that nothing more will be sent.
    pub(in crate::server) async fn close(&mut self) {
        let mut lease = self.buffer(0).await;
        let records = records(&mut self.gathered, &mut self.input, self.start);
        if let Ok(bytes) = self.session.close(records, lease.full_mut()) {
            lease.set_len(bytes);
            // Who is gone need not know.
            let _ = self.put_on_the_wire(lease).await;
        }
        self.stream.shutdown_write();
    }
}

/// What was received and not used, to be decrypted where it is.
fn records<'a>(gathered: &'a mut [u8], input: &'a mut Option<BufferLease>, start: usize) -> &'a mut [u8] {
    if !gathered.is_empty() {
        return gathered;
    }
    input.as_mut().and_then(|lease| lease.as_mut_slice().get_mut(start..)).unwrap_or_default()
}

/// Why a session can not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("the peer is gone")]
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::wire::SEND_PIECE_BYTES;

    #[test]
    fn a_piece_that_is_sent_fits_into_a_page() {
        // A peer that takes nothing of a reply holds a page, with TLS as well.
        assert!(fitting_bytes(INPUT_BYTES) >= SEND_PIECE_BYTES);
    }
}
