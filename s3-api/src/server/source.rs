//! Where the bytes of a body come from.

#[cfg(feature = "http")]
use super::wire::within;
use super::{
    early::{BEAT, Begun, Early},
    wire::{Ended, Wire},
};
use crate::protocol::{http::CONTINUE, xml::DECLARATION};
use crossdock::reactor::Core;
use crossdock_transport::memory::BufferLease;
use std::{future::Future, net::IpAddr, pin::Pin, time::Duration};

/// The ways in.
pub(crate) enum Source<'a> {
    /// A connection of our own.
    Wire(&'a mut Wire),
    /// Another HTTP stack, which took the framing off and hands over pieces.
    #[cfg(feature = "http")]
    Pieces(&'a mut crate::http::Pieces),
}

impl Source<'_> {
    pub(super) fn core(&self) -> &Core {
        match self {
            Source::Wire(wire) => &wire.core,
            #[cfg(feature = "http")]
            Source::Pieces(pieces) => pieces.core(),
        }
    }

    /// What comes now is the body of a request that was let in.
    pub(super) fn begin(&mut self) {
        match self {
            Source::Wire(wire) => wire.set_in_body(true),
            #[cfg(feature = "http")]
            Source::Pieces(_) => {}
        }
    }

    /// The address of this host that the connection came to, if it is one of our own.
    pub(super) fn came_to(&self) -> Option<IpAddr> {
        match self {
            Source::Wire(wire) => wire.came_to(),
            #[cfg(feature = "http")]
            Source::Pieces(_) => None,
        }
    }

    /// Resolves once the client is gone that waits for the answer.
    pub(super) fn closed(&mut self) -> Pin<Box<dyn Future<Output = ()>>> {
        match self {
            Source::Wire(wire) => Box::pin(wire.closed()),
            #[cfg(feature = "http")]
            Source::Pieces(pieces) => Box::pin(pieces.closed()),
        }
    }

    /// What was received and not used.
    pub(super) fn pending(&self) -> &[u8] {
        match self {
            Source::Wire(wire) => wire.pending(),
            #[cfg(feature = "http")]
            Source::Pieces(pieces) => pieces.pending(),
        }
    }

    /// Marks the first `bytes` of what is pending as used.
    pub(super) fn consume(&mut self, bytes: usize) {
        match self {
            Source::Wire(wire) => wire.consume(bytes),
            #[cfg(feature = "http")]
            Source::Pieces(pieces) => pieces.consume(bytes),
        }
    }

    /// Whether long runs can be received where they stay.
    pub(super) fn receives_in_place(&self) -> bool {
        matches!(self, Source::Wire(_))
    }

    /// Waits for bytes to be pending, where none are: from a connection at most `limit`. False if there will be none.
    ///
    /// # Errors
    /// The peer is gone, or too slow.
    pub(super) async fn receive(&mut self, limit: usize, patience: Duration) -> Result<bool, Ended> {
        match self {
            Source::Wire(wire) => {
                wire.reserve(limit).await;
                wire.receive(limit, patience).await.map(|_| true)
            }
            #[cfg(feature = "http")]
            Source::Pieces(pieces) => {
                let core = pieces.core().clone();
                within(&core, patience, pieces.receive()).await.unwrap_or(Err(Ended::Late))
            }
        }
    }

    /// Receives at most `limit` bytes behind those in `lease`. For sources that receive in place.
    ///
    /// # Errors
    /// The peer is gone, or too slow.
    pub(super) async fn receive_into(
        &mut self,
        lease: BufferLease,
        limit: usize,
        patience: Duration,
    ) -> Result<(BufferLease, usize), Ended> {
        match self {
            Source::Wire(wire) => wire.receive_into(lease, limit, patience).await,
            #[cfg(feature = "http")]
            Source::Pieces(_) => Err(Ended::Closed),
        }
    }

    /// Tells a client that holds its body back to send it.
    ///
    /// # Errors
    /// The peer is gone, or takes nothing.
    pub(super) async fn permit(&mut self, patience: Duration) -> Result<(), Ended> {
        match self {
            Source::Wire(wire) => wire.send_bytes(CONTINUE, patience).await,
            // The other stack says so when the first piece is asked for.
            #[cfg(feature = "http")]
            Source::Pieces(_) => Ok(()),
        }
    }

    /// Begins the reply: 200, and the declaration of a document that is to come. With `can_go_on` another request may follow.
    ///
    /// # Errors
    /// The peer is gone, or takes nothing.
    pub(super) async fn begin_reply(
        &mut self,
        early: &Early<'_>,
        can_go_on: bool,
        patience: Duration,
    ) -> Result<(), Ended> {
        match self {
            Source::Wire(wire) => {
                let (is_chunked, keep_alive) = (early.is_chunked(), early.keeps_alive() && can_go_on);
                let begun = Begun { is_chunked, keep_alive };
                let mut head = Vec::with_capacity(512);
                early.reply(is_chunked).await.write(&early.context(keep_alive), &mut head);
                wire.begin_reply(head, begun, DECLARATION.as_bytes(), patience).await
            }
            #[cfg(feature = "http")]
            Source::Pieces(pieces) => {
                let reply = early.reply(false).await;
                pieces.begin_reply(reply, &early.context(true), DECLARATION.as_bytes(), patience).await
            }
        }
    }

    /// Shows a client whose reply was begun that it is still at work.
    ///
    /// # Errors
    /// The peer is gone, or takes nothing.
    pub(super) async fn beat(&mut self, patience: Duration) -> Result<(), Ended> {
        match self {
            Source::Wire(wire) => wire.go_on(BEAT, patience).await,
            #[cfg(feature = "http")]
            Source::Pieces(pieces) => pieces.go_on(BEAT, patience).await,
        }
    }
}
