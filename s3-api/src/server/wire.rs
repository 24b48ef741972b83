//! A connection's bytes: what came and is not used yet, and every wait bounded by a deadline.
//!
//! Invariants:
//! * Nothing waits for a peer without a deadline; a wait that was cut off ends the connection, because how much it moved
//!   is not known.
//! * Bytes behind the request in work stay in the input buffer for the next one.

use super::{early::Begun, stream::Stream};
use crossdock::reactor::{Core, Moment};
use crossdock_transport::memory::{BufferLease, CopyReason, ScatterList, copy_payload};
use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    task::Poll,
    time::Duration,
};

/// Input of a connection: most heads of real clients take 1 to 2 KiB.
pub(crate) const INPUT_BYTES: usize = 4 * 1024;

/// How often it is looked whether a peer is still there that waits for a transfer. Transfers that take no longer than this cost no
/// look.
const CLOSED_STEP: Duration = Duration::from_millis(20);

/// Why a connection can not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The peer closed its side, or the connection broke.
    Closed,
    /// The peer let a deadline pass.
    Late,
}

/// The socket, and what was received from it ahead of use.
pub(crate) struct Wire {
    pub(crate) core: Core,
    stream: Stream,
    input: Option<BufferLease>,
    start: usize,
    received: Moment,
    /// How the reply in work was begun, if it was.
    begun: Option<Begun>,
}

impl Wire {
    pub(super) async fn new(core: Core, stream: Stream) -> Wire {
        let mut input = core.pool().acquire(INPUT_BYTES).await;
        input.set_len(0);
        let received = core.now();
        Wire { core, stream, input: Some(input), start: 0, received, begun: None }
    }

    /// The same for a stream of which bytes were received elsewhere, the last at `received`, that are not used yet.
    pub(super) async fn resumed(core: Core, stream: Stream, pending: &[u8], received: Moment) -> Wire {
        let mut input = core.pool().acquire(pending.len().max(INPUT_BYTES)).await;
        input.set_len(pending.len());
        copy_payload(input.as_mut_slice(), pending, CopyReason::Edge);
        Wire { core, stream, input: Some(input), start: 0, received, begun: None }
    }

    /// The stream, without what is pending.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    fn lease(&self) -> &BufferLease {
        self.input.as_ref().expect("the lease is away only during a receive, which holds the wire")
    }

    /// What was received and not used.
    pub(crate) fn pending(&self) -> &[u8] {
        self.lease().as_slice().get(self.start..).unwrap_or_default()
    }

    /// Marks the first `bytes` of [`Wire::pending`] as used.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.lease().len());
    }

    /// Makes room for at least `bytes` of pending input, and moves what is there to the front.
    pub(crate) async fn reserve(&mut self, bytes: usize) {
        let (pending, capacity) = (self.pending().len(), self.lease().capacity());
        if pending == 0 && bytes <= capacity {
            self.start = 0;
            self.input.as_mut().expect("not in a receive").set_len(0);
            return;
        }
        if capacity - self.start >= bytes {
            return;
        }
        let mut lease = self.core.pool().acquire(bytes.max(INPUT_BYTES)).await;
        lease.set_len(pending);
        copy_payload(lease.as_mut_slice(), self.pending(), CopyReason::Edge);
        self.input = Some(lease);
        self.start = 0;
    }

    /// Whether the input takes more than a connection at rest may hold.
    pub(crate) fn is_large(&self) -> bool {
        self.lease().capacity() > INPUT_BYTES
    }

    /// Goes back to the input of a connection at rest, unless too much is pending.
    pub(crate) async fn shrink(&mut self) {
        self.stream.shrink().await;
        let pending = self.pending().len();
        if !self.is_large() || pending > INPUT_BYTES {
            return;
        }
        let mut lease = self.core.pool().acquire(INPUT_BYTES).await;
        lease.set_len(pending);
        copy_payload(lease.as_mut_slice(), self.pending(), CopyReason::Edge);
        (self.input, self.start) = (Some(lease), 0);
    }

    /// When the last input came.
    pub(crate) fn received(&self) -> Moment {
        self.received
    }

    /// Receives at most `limit` bytes behind the pending ones. There must be room: see [`Wire::reserve`].
    pub(crate) async fn receive(&mut self, limit: usize, deadline: Duration) -> Result<usize, Ended> {
        let lease = self.input.take().expect("one receive at a time");
        let result = self.receive_into(lease, limit, deadline).await;
        match result {
            Ok((lease, bytes)) => {
                self.input = Some(lease);
                self.received = self.core.now();
                Ok(bytes)
            }
            Err(ended) => {
                // The connection is over; what is left of it reads no input, but may still look at it.
                let mut lease = self.core.pool().acquire(INPUT_BYTES).await;
                lease.set_len(0);
                (self.input, self.start) = (Some(lease), 0);
                Err(ended)
            }
        }
    }

    /// Receives at most `limit` bytes behind those in `lease`.
    pub(crate) async fn receive_into(
        &mut self,
        lease: BufferLease,
        limit: usize,
        deadline: Duration,
    ) -> Result<(BufferLease, usize), Ended> {
        within(&self.core, deadline, self.stream.receive(lease, limit)).await.unwrap_or(Err(Ended::Late))
    }

    /// Sends every piece, in order.
    pub(crate) async fn send(&mut self, pieces: ScatterList, deadline: Duration) -> Result<(), Ended> {
        let sent = within(&self.core, deadline, self.stream.send(pieces)).await.unwrap_or(Err(Ended::Late));
        if sent == Err(Ended::Late) {
            // What the peer does not take must not be kept for it.
            self.stream.socket().abort();
        }
        sent
    }

    /// Sends bytes that are in no lease yet: a page at a time, so that a peer which takes nothing holds no more.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8], deadline: Duration) -> Result<(), Ended> {
        for piece in bytes.chunks(SEND_PIECE_BYTES) {
            let lease = lease_of(&self.core, piece).await;
            self.send(ScatterList::from(lease.freeze()), deadline).await?;
        }
        Ok(())
    }

    /// As [`Wire::send_bytes`], in such pieces. The peer may come to a halt for `patience`; besides it must take so many bytes in
    /// each second.
    pub(super) async fn send_document(
        &mut self,
        bytes: &[u8],
        piece_bytes: usize,
        patience: Duration,
        bytes_per_second: u64,
    ) -> Result<(), Ended> {
        let earned = Duration::from_secs(bytes.len() as u64 / bytes_per_second.max(1));
        let deadline = self.core.now().after(patience.saturating_add(earned));
        for piece in bytes.chunks(piece_bytes) {
            let lease = lease_of(&self.core, piece).await;
            let left = deadline.since(self.core.now());
            self.send(ScatterList::from(lease.freeze()), patience.min(left)).await?;
        }
        Ok(())
    }

    /// Begins a reply whose document is not known yet.
    pub(super) async fn begin_reply(
        &mut self,
        mut head: Vec<u8>,
        begun: Begun,
        first: &[u8],
        deadline: Duration,
    ) -> Result<(), Ended> {
        begun.frame(first, &mut head);
        self.begun = Some(begun);
        self.send_bytes(&head, deadline).await
    }

    /// Sends a piece of the document of a reply that was begun.
    pub(super) async fn go_on(&mut self, piece: &[u8], deadline: Duration) -> Result<(), Ended> {
        let mut framed = Vec::with_capacity(piece.len() + 32);
        self.begun.ok_or(Ended::Closed)?.frame(piece, &mut framed);
        self.send_bytes(&framed, deadline).await
    }

    /// How the reply in work was begun, if it was; for whoever ends it.
    pub(super) fn take_begun(&mut self) -> Option<Begun> {
        self.begun.take()
    }

    /// Resolves once the peer has closed its side. Reads nothing.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + use<> {
        let (core, stream) = (self.core.clone(), self.stream.socket().clone());
        async move {
            loop {
                core.sleep(CLOSED_STEP).await;
                if stream.is_closed_by_peer() {
                    return;
                }
            }
        }
    }

    /// The address of this host that the peer connected to. Asks the kernel.
    pub(crate) fn came_to(&self) -> Option<IpAddr> {
        self.stream.socket().local_addr().map(|address| address.ip())
    }

    /// Says that nothing more will be sent, within `deadline`.
    pub(crate) async fn close(&mut self, deadline: Duration) {
        let _ = within(&self.core, deadline, self.stream.close()).await;
    }

    /// A request's body begins, or is over.
    pub(crate) fn set_in_body(&mut self, in_body: bool) {
        self.stream.set_in_body(in_body);
    }

    /// Whether bytes are encrypted on the way.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// By which version of TLS.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        self.stream.tls_version()
    }
}

/// What is put into a page to be sent: TLS needs a part of one.
pub(super) const SEND_PIECE_BYTES: usize = INPUT_BYTES * 2 / 3;

/// A lease that holds `bytes`.
pub(super) async fn lease_of(core: &Core, bytes: &[u8]) -> BufferLease {
    let mut lease = core.pool().acquire(bytes.len().max(1)).await;
    lease.set_len(bytes.len());
    lease.as_mut_slice().copy_from_slice(bytes);
    lease
}

/// Waits for `future`, but no longer than `limit`.
pub(crate) async fn within<T>(core: &Core, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut deadline = pin!(core.sleep(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => deadline.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Waits for `future`, unless `other` is there first.
pub(crate) async fn unless<T>(other: impl Future<Output = ()>, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut other) = (pin!(future), pin!(other));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => other.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Lets every other task that is ready run first.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
