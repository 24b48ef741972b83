//! One connection: a request, and its reply as it comes.

use super::{
    ClientError, ReplyHead,
    http::{Framing, HEAD_BYTES_MAX},
    runtime::{Runtime, SILENCE, in_silence},
    stream::Stream,
};
use crate::protocol::http::ChunkedDecoder;
use futures_io::{AsyncRead, AsyncWrite};
use std::{future::poll_fn, io, pin::Pin, time::Duration};

/// The longest document that is read.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes asked for at a time, of what goes to no buffer.
const PIECE_BYTES: usize = 4096;

pub(super) struct Connection<S> {
    stream: Stream<S>,
    /// Received and not used.
    pending: Vec<u8>,
    keeps_alive: bool,
    /// How long the server may say nothing, as the request in work needs it.
    silence: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: Stream<S>) -> Connection<S> {
        Connection { stream, pending: Vec::new(), keeps_alive: true, silence: SILENCE }
    }

    /// Whether it can take another request.
    pub(super) fn is_good<R: Runtime<Stream = S>>(&mut self, runtime: &R) -> bool {
        self.keeps_alive && self.pending.is_empty() && self.stream.is_quiet(runtime)
    }

    /// Sends a request; gives the head of its reply, whose body is to be read next. The server may do something for `time` before it answers.
    pub(super) async fn call<R: Runtime<Stream = S>>(
        &mut self,
        runtime: &R,
        head: &[u8],
        body: &[u8],
        time: Duration,
    ) -> Result<ReplyHead, ClientError> {
        self.silence = SILENCE + time;
        self.stream.allow_silence(runtime, self.silence)?;
        self.send(runtime, head).await?;
        self.send(runtime, body).await?;
        loop {
            match ReplyHead::parse(&self.pending)? {
                Some((head, length)) => {
                    self.pending.drain(..length);
                    // Interim replies may come before the reply.
                    if head.status >= 200 {
                        self.keeps_alive = head.keeps_alive();
                        return Ok(head);
                    }
                }
                None => self.receive(runtime).await?,
            }
        }
    }

    async fn send<R: Runtime<Stream = S>>(
        &mut self,
        runtime: &R,
        mut bytes: &[u8],
    ) -> Result<(), ClientError> {
        while !bytes.is_empty() {
            let write = poll_fn(|cx| Pin::new(&mut self.stream).poll_write(cx, bytes));
            match in_silence(runtime, self.silence, write).await? {
                0 => return Err(ClientError::Connection(io::ErrorKind::WriteZero.into())),
                sent => bytes = bytes.get(sent..).unwrap_or_default(),
            }
        }
        in_silence(runtime, self.silence, poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx))).await
    }

    async fn receive<R: Runtime<Stream = S>>(&mut self, runtime: &R) -> Result<(), ClientError> {
        let mut piece = [0; PIECE_BYTES];
        let received = self.receive_into(runtime, &mut piece).await?;
        self.pending.extend_from_slice(piece.get(..received).unwrap_or_default());
        Ok(())
    }

    /// At least one byte.
    async fn receive_into<R: Runtime<Stream = S>>(
        &mut self,
        runtime: &R,
        target: &mut [u8],
    ) -> Result<usize, ClientError> {
        let read = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, target));
        match in_silence(runtime, self.silence, read).await? {
            0 => Err(ClientError::Connection(io::ErrorKind::UnexpectedEof.into())),
            received => Ok(received),
        }
    }

    /// Fills `target` with the next bytes of a body.
    pub(super) async fn fill<R: Runtime<Stream = S>>(
        &mut self,
        runtime: &R,
        target: &mut [u8],
    ) -> Result<(), ClientError> {
        let here = target.len().min(self.pending.len());
        let (front, mut rest) = target.split_at_mut(here);
        front.copy_from_slice(self.pending.get(..here).unwrap_or_default());
        self.pending.drain(..here);
        while !rest.is_empty() {
            let received = self.receive_into(runtime, rest).await?;
            rest = rest.get_mut(received..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads a short body to its end. Whether the connection goes on then is known ([`Connection::is_good`]).
    pub(super) async fn document<R: Runtime<Stream = S>>(
        &mut self,
        runtime: &R,
        head: &ReplyHead,
    ) -> Result<Vec<u8>, ClientError> {
        let too_long = || ClientError::Malformed("the document is too long");
        let mut document = Vec::new();
        match head.framing()? {
            Framing::Length(bytes) => {
                let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= DOCUMENT_BYTES_MAX);
                document.resize(bytes.ok_or_else(too_long)?, 0);
                self.fill(runtime, &mut document).await?;
            }
            Framing::Chunked => {
                let mut decoder = ChunkedDecoder::new();
                while !decoder.is_finished() {
                    let piece = decoder
                        .advance(&self.pending)
                        .map_err(|_| ClientError::Malformed("the chunks of a body"))?;
                    let used = piece.framing + piece.payload;
                    document.extend_from_slice(self.pending.get(piece.framing..used).unwrap_or_default());
                    self.pending.drain(..used);
                    if document.len() > DOCUMENT_BYTES_MAX {
                        return Err(too_long());
                    }
                    if used == 0 && !decoder.is_finished() {
                        self.receive(runtime).await?;
                    }
                }
            }
            Framing::Close => {
                self.keeps_alive = false;
                loop {
                    document.append(&mut self.pending);
                    if document.len() > DOCUMENT_BYTES_MAX {
                        return Err(too_long());
                    }
                    match self.receive(runtime).await {
                        Ok(()) => {}
                        Err(ClientError::Connection(error))
                            if error.kind() == io::ErrorKind::UnexpectedEof =>
                        {
                            break;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(document)
    }
}

// A head fits in memory whoever sends it.
const _: () = assert!(HEAD_BYTES_MAX <= 1 << 20);
