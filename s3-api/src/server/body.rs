//! A request's body on its way in: from the socket into the memory it is written from.
//!
//! ```text
//!   came with the head ──copy──┐
//!                              ├─► lease of the Put ─► decode in place ─► digests ─► push
//!   socket ────── receive ─────┘
//! ```
//!
//! Runs of payload are received where they stay. Only what came with the head, and the few bytes around framing, go
//! through the input buffer, so that bytes of the next request are never in the wrong place.

use super::{
    ServerLimits,
    digester::Member,
    early::Early,
    exchange::{Announced, Front},
    memory::{Document, Memory, PIECE_BYTES},
    source::Source,
    wire::{Ended, INPUT_BYTES, within},
};
use crate::protocol::{
    body::{BodyDecoder, BodyVerifier, Digests},
    checksum::Algorithm,
    error::{ErrorCode, S3Error},
    http::BodyFraming,
};
use crossdock_transport::memory::{BufferLease, CopyReason, copy_payload};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

/// Bytes received at a time where framing is expected: a chunk's head and a little payload, all of it to be moved.
const FRAMING_BYTES: usize = 1024;

/// The body of the request in work.
pub(crate) struct Body<'a> {
    source: Source<'a>,
    decoder: BodyDecoder,
    verifier: Option<BodyVerifier>,
    /// Where its payload is digested.
    digests: Member,
    limits: ServerLimits,
    memory: &'a Memory,
    framing: BodyFraming,
    awaits_continue: bool,
    /// How the reply begins if it has to before it is known.
    early: Option<Early<'a>>,
    has_begun: bool,
    received_bytes: u64,
    /// How long the peer was waited for. Waits for the engine are not its fault.
    waited: Duration,
    ended: Option<Ended>,
}

impl<'a> Body<'a> {
    pub(crate) fn new(
        mut source: Source<'a>,
        decoder: BodyDecoder,
        verifier: BodyVerifier,
        announced: Announced,
        front: &'a Front,
        early: Option<Early<'a>>,
    ) -> Body<'a> {
        source.begin();
        Body {
            source,
            decoder,
            digests: front.digester.join(&verifier),
            verifier: Some(verifier),
            limits: front.limits,
            memory: &front.memory,
            framing: announced.framing,
            awaits_continue: announced.held_back,
            early,
            has_begun: false,
            received_bytes: 0,
            waited: Duration::ZERO,
            ended: None,
        }
    }

    /// The payload's size as the head declares it; none if the head announces no body at all.
    pub(crate) fn declared_bytes(&self) -> Option<u64> {
        match self.framing {
            BodyFraming::None => None,
            BodyFraming::Length(_) | BodyFraming::Chunked | BodyFraming::Removed => {
                self.decoder.declared_bytes()
            }
        }
    }

    /// Payload taken in so far.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Whether every byte of it was taken from the wire, so that the next request can be read.
    pub(crate) fn is_finished(&self) -> bool {
        self.decoder.is_finished() && self.ended.is_none()
    }

    /// Bytes still to come, framing included, if that is known.
    pub(crate) fn remaining_bytes(&self) -> Option<u64> {
        self.decoder.wire_remaining()
    }

    /// Whether the client still holds the body back.
    pub(crate) fn is_held_back(&self) -> bool {
        self.awaits_continue
    }

    /// Whether the peer is gone or too slow: no reply would reach it.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Computes a checksum by `algorithm` as well, if the client named none. Before any of the payload is taken in.
    pub(crate) fn compute(&mut self, algorithm: Algorithm) {
        if let Some(verifier) = &mut self.verifier {
            verifier.compute(algorithm);
        }
    }

    /// Fills an empty lease with up to `bytes` of payload; less only at the body's end.
    ///
    /// # Errors
    /// The body is malformed, breaks off, or stands still for too long.
    ///
    /// # Cancellation
    /// After a future that was dropped the body can not be gone on with.
    pub(crate) async fn fill(
        &mut self,
        mut lease: BufferLease,
        bytes: usize,
    ) -> Result<BufferLease, S3Error> {
        self.permit().await?;
        let bytes = bytes.min(lease.capacity());
        let mut filled = 0;
        while filled < bytes && !self.decoder.is_finished() {
            let room = bytes - filled;
            let run = usize::try_from(self.decoder.payload_run()).unwrap_or(usize::MAX);
            let pending = self.source.pending().len();
            let received;
            let from_input = pending > 0 || run < FRAMING_BYTES || !self.source.receives_in_place();
            lease.set_len(filled);
            if from_input {
                if pending == 0 {
                    let limit = self.decoder.wire_remaining().unwrap_or(u64::MAX);
                    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(FRAMING_BYTES);
                    self.receive(limit).await?;
                }
                let pending = self.source.pending();
                received = pending.len().min(room);
                lease.set_len(filled + received);
                let (_, target) = lease.as_mut_slice().split_at_mut(filled);
                let (source, _) = pending.split_at(received);
                copy_payload(target, source, CopyReason::Edge);
            } else {
                let (patience, begun) = (self.patience(), self.source.core().now());
                let result = self.source.receive_into(lease, run.min(room), patience).await;
                self.waited += self.source.core().now().since(begun);
                (lease, received) = result.map_err(|ended| self.note(ended))?;
            }
            let (_, wire) = lease.as_mut_slice().split_at_mut(filled);
            let step = self.decoder.decode(wire)?;
            if from_input {
                self.source.consume(step.wire_bytes);
            }
            debug_assert!(step.wire_bytes == received || (from_input && step.finished));
            filled += step.payload_bytes;
            self.received_bytes += step.payload_bytes as u64;
        }
        // The end of the framing may follow the last byte of payload: without it the body is not whole.
        lease.set_len(filled);
        let Some(verifier) = self.verifier.take() else { return Ok(lease) };
        let (verifier, lease) = self.digests.digest(verifier, lease).await;
        self.verifier = Some(verifier);
        Ok(lease)
    }

    /// Takes in what framing follows the payload.
    async fn end(&mut self) -> Result<(), S3Error> {
        self.permit().await?;
        while !self.decoder.is_finished() {
            if self.source.pending().is_empty() {
                self.receive(FRAMING_BYTES).await?;
            }
            let mut bytes = self.source.pending().to_vec();
            let step = self.decoder.decode(&mut bytes)?;
            self.source.consume(step.wire_bytes);
            if step.payload_bytes > 0 {
                return Err(ErrorCode::IncompleteBody.into());
            }
        }
        Ok(())
    }

    /// The body was taken in whole: its digests, compared with what the client said.
    ///
    /// # Errors
    /// They differ, or the body goes on.
    pub(crate) async fn finish(&mut self) -> Result<Digests, S3Error> {
        self.end().await?;
        self.digests.leave();
        let verifier = self.verifier.take().expect("a body is finished once");
        Ok(verifier.finish(self.decoder.trailing_checksum(), None)?)
    }

    /// The whole body of at most `limit` bytes, digests compared: a document.
    ///
    /// # Errors
    /// It is longer, malformed or another; or there is no room for it beside those of others.
    pub(crate) async fn document(&mut self, limit: usize) -> Result<Document, S3Error> {
        let too_long = || S3Error::from(ErrorCode::MaxMessageLengthExceeded);
        let declared = self.declared_bytes().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if declared.is_some_and(|bytes| bytes > limit) {
            return Err(too_long());
        }
        let mut document = Document::new();
        while !self.decoder.is_finished() {
            // A page: most documents fit, and one that does not come holds no more while it is waited for.
            let lease = self.source.core().pool().acquire(INPUT_BYTES).await;
            let bytes = lease.capacity();
            let lease = self.fill(lease, bytes).await?;
            if document.bytes.len() + lease.len() > limit {
                return Err(too_long());
            }
            document.extend(self.memory, lease.as_slice())?;
        }
        self.finish().await?;
        Ok(document)
    }

    /// Appends up to a page of payload to `target`, or with `in_pieces` up to [`PIECE_BYTES`] if there is room for that; false if
    /// there is no more.
    ///
    /// # Errors
    /// As [`Body::fill`].
    pub(crate) async fn append(&mut self, target: &mut Vec<u8>, in_pieces: bool) -> Result<bool, S3Error> {
        if self.decoder.is_finished() {
            return Ok(false);
        }
        let piece = if in_pieces { self.memory.piece(PIECE_BYTES) } else { None };
        let bytes = if piece.is_some() { PIECE_BYTES } else { INPUT_BYTES };
        let lease = self.source.core().pool().acquire(bytes).await;
        let lease = self.fill(lease, bytes).await?;
        target.extend_from_slice(lease.as_slice());
        Ok(!lease.is_empty())
    }

    /// Takes in what follows the part of the payload that counts, and compares the digests over all of it.
    ///
    /// # Errors
    /// They differ, or the peer is gone.
    pub(crate) async fn finish_ignored(&mut self) -> Result<(), S3Error> {
        let mut ignored = Vec::new();
        while self.append(&mut ignored, false).await? {
            ignored.clear();
        }
        self.finish().await.map(drop)
    }

    /// Takes the rest in and throws it away, so that the next request can be read.
    ///
    /// # Errors
    /// It is malformed, or the peer is gone: there is no next request.
    pub(crate) async fn discard(&mut self) -> Result<(), S3Error> {
        while !self.decoder.is_finished() {
            if self.source.pending().is_empty() {
                self.receive(INPUT_BYTES).await?;
            }
            let mut bytes = self.source.pending().to_vec();
            let step = self.decoder.decode(&mut bytes)?;
            self.source.consume(step.wire_bytes);
        }
        Ok(())
    }

    /// Receives at most `limit` bytes into the input, where nothing is pending.
    async fn receive(&mut self, limit: usize) -> Result<(), S3Error> {
        let (patience, begun) = (self.patience(), self.source.core().now());
        let result = self.source.receive(limit, patience).await;
        self.waited += self.source.core().now().since(begun);
        match result {
            Ok(true) => Ok(()),
            Ok(false) => Ok(self.decoder.handle_end()?),
            Err(ended) => Err(self.note(ended)),
        }
    }

    /// How long the peer may let itself be waited for now.
    fn patience(&self) -> Duration {
        patience(&self.limits, self.received_bytes, self.waited)
    }

    /// Lets the client send the body, if it still holds it back.
    pub(crate) async fn permit(&mut self) -> Result<(), S3Error> {
        if !std::mem::take(&mut self.awaits_continue) || !self.source.pending().is_empty() {
            return Ok(());
        }
        let patience = self.limits.body_idle;
        self.source.permit(patience).await.map_err(|ended| self.note(ended))
    }

    /// Waits for `work`, which needs no more of the body. If it takes long the reply is begun meanwhile, and the client shown now and then
    /// that it is still at work: see [`OperationName::may_take_long`](crate::protocol::operation::OperationName::may_take_long).
    ///
    /// The work goes on while that is sent, and goes on to its end if the client is gone by then: it may be done already.
    pub(crate) async fn while_at_work<T>(&mut self, work: impl Future<Output = T>) -> T {
        if self.early.is_none() {
            return work.await;
        }
        let (core, quiet) = (self.source.core().clone(), self.limits.quiet);
        let mut work = pin!(work);
        loop {
            if let Some(done) = within(&core, quiet, work.as_mut()).await {
                return done;
            }
            let mut done = None;
            let mut telling = pin!(self.tell());
            let told = poll_fn(|cx| {
                if done.is_none()
                    && let Poll::Ready(value) = work.as_mut().poll(cx)
                {
                    done = Some(value);
                }
                // What is half sent when the work is done has to be sent all the same.
                telling.as_mut().poll(cx)
            })
            .await;
            match (done, told) {
                (Some(done), _) => return done,
                (None, Ok(())) => {}
                (None, Err(_)) => return work.await,
            }
        }
    }

    /// Begins the reply, or shows that it is still to come.
    async fn tell(&mut self) -> Result<(), Ended> {
        let patience = self.limits.send;
        let told = match &self.early {
            Some(early) if !self.has_begun => {
                self.has_begun = true;
                // Who still waits to be told to send the body may send it or not, now that this is the answer.
                let is_held_back = std::mem::take(&mut self.awaits_continue);
                let can_go_on = self.decoder.is_finished() && !is_held_back;
                self.source.begin_reply(early, can_go_on, patience).await
            }
            _ => self.source.beat(patience).await,
        };
        told.inspect_err(|_| self.ended = Some(Ended::Closed))
    }

    /// Whether the reply was begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    fn note(&mut self, ended: Ended) -> S3Error {
        self.ended = Some(ended);
        match ended {
            Ended::Closed => ErrorCode::IncompleteBody.into(),
            Ended::Late => ErrorCode::RequestTimeout.into(),
        }
    }
}

/// How long a peer that has sent `received_bytes` and was waited for `waited` in all may be waited for once more.
fn patience(limits: &ServerLimits, received_bytes: u64, waited: Duration) -> Duration {
    let earned = Duration::from_secs(received_bytes / limits.body_bytes_per_second.max(1));
    limits.body_idle.saturating_add(earned).saturating_sub(waited).min(limits.body_idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One halt is granted to everyone; a peer that drips runs out of patience, one that sends steadily never does.
    #[test]
    fn patience_is_earned_by_sending() {
        let (seconds, limits) = (Duration::from_secs, ServerLimits::default());
        let patience = |received_bytes, waited| patience(&limits, received_bytes, waited);
        assert_eq!(patience(0, Duration::ZERO), limits.body_idle);
        assert_eq!(patience(10, seconds(29)), seconds(1));
        assert_eq!(patience(10, seconds(31)), Duration::ZERO);
        assert_eq!(patience(4096 * 3600, seconds(3600)), limits.body_idle);
        assert_eq!(patience(u64::MAX, seconds(0)), limits.body_idle);
    }
}
