//! A request body, from wire bytes to payload bytes, in the caller's buffer.
#![deny(clippy::indexing_slicing)]

use super::super::auth::Verified;
use super::super::checksum::{Checksum, RequestChecksum};
use super::super::http::{BodyFraming, ChunkedDecoder, Headers, Piece, parse_decimal};
use super::aws_chunked::AwsChunkedDecoder;
use super::error::BodyError;

/// What [`BodyDecoder::decode`] did with the bytes it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes that belonged to this body. Fewer than given only if the body has ended: what follows is the next request.
    pub wire_bytes: usize,
    /// Bytes of payload, now at the front of the region. Never more than `wire_bytes`.
    pub payload_bytes: usize,
    /// Bytes that had to be moved because framing stood before them; 0 without framing.
    pub moved_bytes: usize,
    /// Whether the body is whole.
    pub finished: bool,
}

/// Takes the framing off a body, in place.
///
/// The caller keeps a buffer whose first `filled` bytes are payload, receives `n` wire bytes right behind them, and
/// calls [`BodyDecoder::decode`] on those `n` bytes: the payload among them is then contiguous with what was there.
///
/// ```text
///   before   │ payload so far │ size line │ data │ CR LF size line │ data │ next request │
///   after    │ payload so far │ data data │   (undefined)                │ next request │
///                             └ payload_bytes ┘
///                             └──────────── wire_bytes ─────────────────┘
/// ```
///
/// A body with `Content-Length` and no aws-chunked coding is never touched, only counted.
#[derive(Debug)]
pub struct BodyDecoder {
    outer: Outer,
    inner: Option<Box<AwsChunkedDecoder>>,
    declared_bytes: Option<u64>,
    finished: bool,
}

#[derive(Debug)]
enum Outer {
    Length { remaining: u64 },
    Chunked(ChunkedDecoder),
    Removed { ended: bool },
}

impl Outer {
    fn advance(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        match self {
            Outer::Length { remaining } => {
                let payload = usize::try_from(*remaining).map_or(input.len(), |rest| rest.min(input.len()));
                *remaining -= payload as u64;
                Ok(Piece { framing: 0, payload })
            }
            Outer::Chunked(decoder) => Ok(decoder.advance(input)?),
            Outer::Removed { .. } => Ok(Piece { framing: 0, payload: input.len() }),
        }
    }

    fn is_finished(&self) -> bool {
        match self {
            Outer::Length { remaining } => *remaining == 0,
            Outer::Chunked(decoder) => decoder.is_finished(),
            Outer::Removed { ended } => *ended,
        }
    }

    fn run_remaining(&self) -> u64 {
        match self {
            Outer::Length { remaining } => *remaining,
            Outer::Chunked(decoder) => decoder.run_remaining(),
            Outer::Removed { ended: false } => u64::MAX,
            Outer::Removed { ended: true } => 0,
        }
    }
}

impl BodyDecoder {
    /// A decoder for the body behind a head with `headers` and `framing`. `verified` says how the payload is framed
    /// and signed ([`Verified::anonymous`] for unsigned requests), `checksum` whether a trailer was announced.
    ///
    /// # Errors
    ///
    /// [`BodyError`] if the head already shows that no whole body can follow.
    pub fn new(
        headers: &Headers,
        framing: BodyFraming,
        verified: &Verified,
        checksum: &RequestChecksum,
    ) -> Result<Self, BodyError> {
        let payload = verified.payload;
        let announced = match checksum {
            RequestChecksum::Trailer(algorithm) => Some(*algorithm),
            RequestChecksum::None | RequestChecksum::Header(_) => None,
        };
        if announced.is_some() && !payload.has_trailer() {
            return Err(BodyError::TrailerWithoutMode);
        }
        let outer = match framing {
            BodyFraming::None if payload.is_aws_chunked() => return Err(BodyError::MissingLength),
            BodyFraming::None => Outer::Length { remaining: 0 },
            BodyFraming::Length(remaining) => Outer::Length { remaining },
            BodyFraming::Chunked => Outer::Chunked(ChunkedDecoder::new()),
            BodyFraming::Removed => Outer::Removed { ended: false },
        };
        let (inner, declared_bytes) = if payload.is_aws_chunked() {
            let mut lengths = headers.all("x-amz-decoded-content-length");
            let length = lengths.next().ok_or(BodyError::MissingDecodedLength)?;
            let decoded_bytes = parse_decimal(length).ok_or(BodyError::InvalidDecodedLength)?;
            if lengths.next().is_some() {
                return Err(BodyError::InvalidDecodedLength);
            }
            let signer = verified.chunk_signer.clone();
            // Signed chunks that cannot be checked are refused: better a broken caller than an unchecked body.
            if payload.has_signed_chunks() != signer.is_some() {
                return Err(BodyError::ChunkSignature);
            }
            let inner = AwsChunkedDecoder::new(decoded_bytes, signer, payload.has_trailer(), announced);
            (Some(Box::new(inner)), Some(decoded_bytes))
        } else {
            let declared_bytes = match outer {
                Outer::Length { remaining } => Some(remaining),
                Outer::Chunked(_) | Outer::Removed { .. } => None,
            };
            (None, declared_bytes)
        };
        let mut decoder = BodyDecoder { outer, inner, declared_bytes, finished: false };
        decoder.notice_end()?;
        Ok(decoder)
    }

    /// The size of the payload as the head declares it: the object's size. `None` only for a plain chunked body; S3
    /// answers a PUT of that kind with 411 `MissingContentLength`.
    pub fn declared_bytes(&self) -> Option<u64> {
        self.declared_bytes
    }

    /// Wire bytes still to come, if the outer framing tells. A server that receives no more than this never reads
    /// into the next request.
    pub fn wire_remaining(&self) -> Option<u64> {
        match (self.finished, &self.outer) {
            (true, _) => Some(0),
            (false, Outer::Length { remaining }) => Some(*remaining),
            (false, Outer::Chunked(_) | Outer::Removed { .. }) => None,
        }
    }

    /// Bytes that are certainly payload, before the next byte of framing. Received by themselves they need no move.
    pub fn payload_run(&self) -> u64 {
        let outer = self.outer.run_remaining();
        self.inner.as_ref().map_or(outer, |inner| inner.run_remaining().min(outer))
    }

    /// Whether [`BodyDecoder::decode`] hashes the payload (signed chunks), so that a caller may want to run it
    /// elsewhere than on a reactor.
    pub fn hashes_payload(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.is_signed())
    }

    /// Whether the body is whole, its framing closed, and every signature in it verified.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The checksum that came in the trailer. `Some` once the body is finished if one was announced.
    pub fn trailing_checksum(&self) -> Option<Checksum> {
        self.inner.as_ref().and_then(|inner| inner.trailing())
    }

    /// Takes the framing off `wire`, the bytes received since the last call, and moves the payload among them to its
    /// front. Between the payload and [`Step::wire_bytes`] the contents are undefined; behind, they are untouched.
    ///
    /// # Errors
    ///
    /// [`BodyError`]. The decoder must not be used afterwards, and payload handed out before must be thrown away.
    pub fn decode(&mut self, wire: &mut [u8]) -> Result<Step, BodyError> {
        let mut step = Step::default();
        // One turn for each run of payload or end of the input; each turn uses at least one byte.
        while step.wire_bytes < wire.len() && !self.outer.is_finished() {
            let piece = self.outer.advance(wire.get(step.wire_bytes..).unwrap_or_default())?;
            let start = step.wire_bytes + piece.framing;
            let end = start + piece.payload;
            match &mut self.inner {
                None => keep(wire, start, piece.payload, &mut step),
                Some(inner) => {
                    let mut at = start;
                    while at < end {
                        let piece = inner.advance(wire.get(at..end).unwrap_or_default())?;
                        keep(wire, at + piece.framing, piece.payload, &mut step);
                        at += piece.framing + piece.payload;
                    }
                }
            }
            step.wire_bytes = end;
        }
        self.notice_end()?;
        step.finished = self.finished;
        Ok(step)
    }

    /// Nothing more will come: the peer closed the connection, or whoever took the framing off says so. Was the body whole?
    ///
    /// # Errors
    ///
    /// [`BodyError::Incomplete`] if it was not.
    pub fn handle_end(&mut self) -> Result<(), BodyError> {
        if let Outer::Removed { ended } = &mut self.outer {
            *ended = true;
            self.notice_end()?;
        }
        if self.finished { Ok(()) } else { Err(BodyError::Incomplete) }
    }

    fn notice_end(&mut self) -> Result<(), BodyError> {
        if !self.finished && self.outer.is_finished() {
            if let Some(inner) = &mut self.inner {
                inner.finish()?;
            }
            self.finished = true;
        }
        Ok(())
    }
}

/// Moves the `bytes` of payload at `from` behind the payload at the front, unless they stand there already.
fn keep(wire: &mut [u8], from: usize, bytes: usize, step: &mut Step) {
    if from != step.payload_bytes && bytes > 0 {
        wire.copy_within(from..from + bytes, step.payload_bytes);
        step.moved_bytes += bytes;
    }
    step.payload_bytes += bytes;
}
