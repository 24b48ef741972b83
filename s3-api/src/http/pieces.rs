//! A request's body on its way from the stack's thread to a core: one piece ahead, and never more.

use super::reply::{Made, Rest};
use crate::{
    protocol::reply::{Reply, ReplyContext},
    server::{Ended, within},
};
use bytes::{Buf, Bytes};
use crossdock::reactor::Core;
use futures_channel::{mpsc, oneshot};
use futures_core::Stream;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    time::Duration,
};

/// Pieces that may wait for the core besides the one it works on.
const WAITING: usize = 1;

/// Bytes, or the body's end. That nothing comes any more without it means that the client is gone.
enum Piece {
    Bytes(Bytes),
    End,
}

/// The core's end, on its way there.
pub(super) struct Receiver(mpsc::Receiver<Piece>, oneshot::Receiver<Infallible>);

/// Held by whoever waits for the answer.
pub(super) type Waiting = oneshot::Sender<Infallible>;

/// The stack's end.
pub(super) struct Feed(mpsc::Sender<Piece>);

impl Feed {
    pub(super) fn new() -> (Feed, Receiver, Waiting) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (waiting, gone) = oneshot::channel();
        (Feed(sender), Receiver(receiver, gone), waiting)
    }

    /// Moves a body over, as fast as it is taken. Ends early if nobody takes it: the answer is on its way then.
    pub(super) async fn pump<B: http_body::Body>(mut self, body: B) {
        let mut body = pin!(body);
        loop {
            // The body is asked for the next piece only when there is room for it: what waits for permission to be sent gets
            // it when the service asks.
            if poll_fn(|cx| self.0.poll_ready(cx)).await.is_err() {
                return;
            }
            let piece = match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) if data.has_remaining() => {
                        let bytes = data.remaining();
                        // `Bytes` gives itself, without a copy.
                        Piece::Bytes(data.copy_to_bytes(bytes))
                    }
                    // Trailers of HTTP: those of S3 are within the body.
                    _ => continue,
                },
                Some(Err(_)) => return,
                None => Piece::End,
            };
            let is_end = matches!(piece, Piece::End);
            if self.0.start_send(piece).is_err() || is_end {
                return;
            }
        }
    }
}

/// A body, as a core takes it in.
pub(crate) struct Pieces {
    core: Core,
    receiver: mpsc::Receiver<Piece>,
    gone: Option<oneshot::Receiver<Infallible>>,
    pending: Bytes,
    /// Where the answer goes, until it is begun.
    reply: Option<oneshot::Sender<Made>>,
    /// Where the rest of it goes, once it is.
    rest: Option<Rest>,
}

impl Pieces {
    pub(super) fn new(core: Core, receiver: Receiver, reply: oneshot::Sender<Made>) -> Pieces {
        let (Receiver(receiver, gone), reply) = (receiver, Some(reply));
        Pieces { core, receiver, gone: Some(gone), pending: Bytes::new(), reply, rest: None }
    }

    /// Where the answer goes; or, if it was begun, the rest of it.
    pub(super) fn into_reply(self) -> (Option<oneshot::Sender<Made>>, Option<Rest>) {
        (self.reply, self.rest)
    }

    /// Gives the stack an answer whose document, of which this is the first piece, is not known yet.
    ///
    /// # Errors
    /// Nobody waits for it.
    pub(crate) async fn begin_reply(
        &mut self,
        reply: Reply,
        context: &ReplyContext<'_>,
        first: &'static [u8],
        patience: Duration,
    ) -> Result<(), Ended> {
        let (made, rest) = Made::later(reply, context);
        let sender = self.reply.take().ok_or(Ended::Closed)?;
        sender.send(made).map_err(|_| Ended::Closed)?;
        self.rest = Some(rest);
        self.go_on(first, patience).await
    }

    /// Gives it the next piece of such a document.
    ///
    /// # Errors
    /// It takes none.
    pub(crate) async fn go_on(&mut self, piece: &'static [u8], patience: Duration) -> Result<(), Ended> {
        let rest = self.rest.as_mut().ok_or(Ended::Closed)?;
        let sent = within(&self.core, patience, rest.send(Bytes::from_static(piece))).await;
        if sent == Some(true) { Ok(()) } else { Err(Ended::Closed) }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// Resolves once nobody waits for the answer any more. For one caller.
    pub(crate) fn closed(&mut self) -> impl Future<Output = ()> + use<> {
        let gone = self.gone.take();
        async move {
            match gone {
                // Nothing is ever sent.
                Some(gone) => drop(gone.await),
                None => std::future::pending().await,
            }
        }
    }

    /// What has come and is not used.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.pending
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.pending.advance(bytes.min(self.pending.len()));
    }

    /// Waits for the next piece, where none is pending. False at the body's end.
    ///
    /// # Errors
    /// The client is gone.
    pub(crate) async fn receive(&mut self) -> Result<bool, Ended> {
        match poll_fn(|cx| Pin::new(&mut self.receiver).poll_next(cx)).await {
            Some(Piece::Bytes(bytes)) => {
                self.pending = bytes;
                Ok(true)
            }
            Some(Piece::End) => Ok(false),
            None => Err(Ended::Closed),
        }
    }
}
