//! Reading an object from outside the cores.

use crate::{
    core_engine::CoreEngine,
    error::{Error, Resource},
    object::{get::Get, types::ObjectInfo},
    reactor::panics::Failures,
};
use crossdock_transport::memory::FrozenLease;
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// Chunks that may wait for the caller besides the one that a channel always has room for, and those being read: with them it is a
/// window, which is what the read was let in with.
const CHUNKS_WAITING: usize = 0;

/// An object being read from any thread. Also a [`Stream`] of its chunks, each memory of the engine's: see [`GetStream::next`]. Dropping it
/// ends the reading.
pub struct GetStream {
    info: ObjectInfo,
    range: Range<u64>,
    chunks: mpsc::Receiver<Result<FrozenLease, Error>>,
    /// Bytes still to come; none after the end, or an error after which nothing comes.
    left: u64,
    /// Dropped when there is no more to take: what the read was let in with goes back then, and not while chunks wait here.
    taking: Option<oneshot::Sender<()>>,
    /// The core that reads, and where it is known whether it has failed.
    serving: (Arc<Failures>, usize),
}

/// Whether more comes after an error of [`Get::next`].
fn goes_on(error: &Error) -> bool {
    *error == Error::Busy(Resource::ReadMemory)
}

impl GetStream {
    /// Runs the reading on the core, no further ahead than the caller takes.
    pub(super) fn start(engine: &CoreEngine, mut get: Get) -> GetStream {
        let (mut sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        let (taking, taken) = oneshot::channel();
        let (info, range) = (get.info().clone(), get.range());
        engine
            .core()
            .spawn_own(async move {
                // Room first: a chunk that waited for it would be one more than there is memory for.
                while std::future::poll_fn(|cx| sender.poll_ready(cx)).await.is_ok() {
                    let Some(chunk) = get.next().await else { break };
                    let failed = matches!(&chunk, Err(error) if !goes_on(error));
                    if sender.start_send(chunk).is_err() || failed {
                        return;
                    }
                }
                drop(sender);
                // An error says that the other end is gone, or has taken all.
                let _ = taken.await;
            })
            .detach();
        let left = range.end - range.start;
        let serving = (engine.failures().clone(), engine.core().index());
        GetStream { info, range, chunks, left, taking: (left > 0).then_some(taking), serving }
    }

    /// The object.
    pub fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// Which bytes of it come.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The next bytes, verified; none after the last. The lease becomes [`bytes::Bytes`] without a copy.
    ///
    /// They are memory of the core that reads, which all its transfers share, until they are dropped: copy what you keep. Collecting a large
    /// object's chunks takes the memory that the next of them needs ([`Engine::get_bytes`](crate::Engine::get_bytes) copies).
    ///
    /// # Errors
    /// As [`Get::next`]. After [`Error::Busy`] nothing is lost, and the next call goes on: there was no memory for some seconds. Nothing comes
    /// after any other.
    ///
    /// # Cancellation
    /// Dropping the future loses nothing: the next call goes on.
    pub async fn next(&mut self) -> Option<Result<FrozenLease, Error>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FrozenLease, Error>>> {
        let chunk = std::task::ready!(Pin::new(&mut self.chunks).poll_next(cx));
        Poll::Ready(match chunk {
            Some(Ok(bytes)) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                if self.left == 0 {
                    self.taking = None;
                }
                Some(Ok(bytes))
            }
            Some(Err(error)) => {
                if !goes_on(&error) {
                    self.left = 0;
                }
                Some(Err(error))
            }
            // The core went away in the middle: an end that looked like the object's would be a lie.
            None if std::mem::take(&mut self.left) > 0 => Some(Err(self.serving.0.why_gone(self.serving.1))),
            None => None,
        })
    }
}

impl Stream for GetStream {
    type Item = Result<FrozenLease, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}
