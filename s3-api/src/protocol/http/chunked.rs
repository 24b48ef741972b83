//! The chunked transfer coding, decoded without I/O and without copying (RFC 9112 §7.1).
//!
//! ```text
//!   1a;ext=1 CR LF  26 bytes CR LF  0 CR LF  Name: value CR LF  CR LF
//!   └── framing ──┘└ payload ┘└────────────── framing ──────────────┘
//! ```
//!
//! The decoder looks at wire bytes and says which of them are framing and which are payload; moving them is the
//! caller's business. Trailer fields are counted against a limit and dropped: nothing in S3 uses the trailers of
//! this layer (`x-amz-trailer` fields travel inside `aws-chunked`).
#![deny(clippy::indexing_slicing)]

/// A chunk's size line may hold this many bytes, extensions included. Nobody uses extensions.
const LINE_BYTES_MAX: u32 = 1024;
/// The trailer section may hold this many bytes.
const TRAILER_BYTES_MAX: u32 = 16 * 1024;

/// What stands at the front of the input: bytes to skip, then bytes of payload.
///
/// Both are zero only if the input was empty or the body has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of framing, already digested by the decoder.
    pub framing: usize,
    /// Bytes of payload right behind them.
    pub payload: usize,
}

/// Why chunked framing was refused. The connection must be closed after the reply. S3: 400 `InvalidRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkedError {
    /// The size is missing, no hexadecimal number, or exceeds 64 bits.
    #[error("malformed chunk size")]
    Size,
    /// A size line or the data of a chunk does not end in CRLF.
    #[error("chunk without CRLF")]
    LineEnd,
    /// A size line exceeds 1 KiB.
    #[error("chunk size line too long")]
    LineTooLong,
    /// The trailer section exceeds 16 KiB.
    #[error("trailer section too long")]
    TrailerTooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size; `digits` were read.
    Size {
        digits: u8,
    },
    /// Behind the size, up to the CR.
    Extension,
    /// Expecting the LF of a size line.
    SizeLf,
    /// In the data of a chunk.
    Data,
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    TrailerLf,
    /// Expecting the last LF of the body.
    LastLf,
    Finished,
}

/// Tells framing from payload in a chunked body, over any split of the input.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// The size being read, then the data bytes of the chunk still to come.
    chunk_remaining: u64,
    /// Bytes of the size line or of the trailer section so far.
    line_bytes: u32,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub fn new() -> Self {
        ChunkedDecoder { state: State::Size { digits: 0 }, chunk_remaining: 0, line_bytes: 0 }
    }

    /// Whether the body has ended; bytes behind it belong to the next request.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Payload bytes that will come before the next framing byte.
    pub fn run_remaining(&self) -> u64 {
        if self.state == State::Data { self.chunk_remaining } else { 0 }
    }

    /// Digests framing at the front of `input` and reports the run of payload behind it, up to the end of the
    /// chunk or of the input. Call again with what is left until nothing is left or the body has ended.
    ///
    /// # Errors
    ///
    /// [`ChunkedError`]; the decoder must not be used afterwards.
    pub fn advance(&mut self, input: &[u8]) -> Result<Piece, ChunkedError> {
        let mut framing = 0;
        for &byte in input {
            if matches!(self.state, State::Data | State::Finished) {
                break;
            }
            self.digest(byte)?;
            framing += 1;
        }
        let mut payload = 0;
        if self.state == State::Data {
            let available = input.len() - framing;
            payload = usize::try_from(self.chunk_remaining).map_or(available, |rest| rest.min(available));
            self.chunk_remaining -= payload as u64;
            if self.chunk_remaining == 0 {
                self.state = State::DataCr;
            }
        }
        Ok(Piece { framing, payload })
    }

    fn digest(&mut self, byte: u8) -> Result<(), ChunkedError> {
        self.line_bytes = self.line_bytes.saturating_add(1);
        self.state = match self.state {
            State::Size { digits } => {
                self.limit_line()?;
                match (char::from(byte).to_digit(16), byte) {
                    (Some(digit), _) => {
                        if self.chunk_remaining >> 60 != 0 {
                            return Err(ChunkedError::Size);
                        }
                        self.chunk_remaining = self.chunk_remaining << 4 | u64::from(digit);
                        State::Size { digits: digits.saturating_add(1) }
                    }
                    (None, b'\r') if digits > 0 => State::SizeLf,
                    (None, b';' | b' ' | b'\t') if digits > 0 => State::Extension,
                    _ => return Err(ChunkedError::Size),
                }
            }
            State::Extension => {
                self.limit_line()?;
                match byte {
                    b'\r' => State::SizeLf,
                    b'\n' => return Err(ChunkedError::LineEnd),
                    _ => State::Extension,
                }
            }
            State::SizeLf => {
                expect(byte, b'\n')?;
                self.line_bytes = 0;
                if self.chunk_remaining == 0 { State::TrailerStart } else { State::Data }
            }
            State::DataCr => {
                expect(byte, b'\r')?;
                State::DataLf
            }
            State::DataLf => {
                expect(byte, b'\n')?;
                self.line_bytes = 0;
                State::Size { digits: 0 }
            }
            State::TrailerStart | State::Trailer => {
                if self.line_bytes > TRAILER_BYTES_MAX {
                    return Err(ChunkedError::TrailerTooLong);
                }
                match byte {
                    b'\r' if self.state == State::TrailerStart => State::LastLf,
                    b'\r' => State::TrailerLf,
                    b'\n' => return Err(ChunkedError::LineEnd),
                    _ => State::Trailer,
                }
            }
            State::TrailerLf => {
                expect(byte, b'\n')?;
                State::TrailerStart
            }
            State::LastLf => {
                expect(byte, b'\n')?;
                State::Finished
            }
            state @ (State::Data | State::Finished) => state,
        };
        Ok(())
    }

    fn limit_line(&self) -> Result<(), ChunkedError> {
        if self.line_bytes > LINE_BYTES_MAX { Err(ChunkedError::LineTooLong) } else { Ok(()) }
    }
}

fn expect(byte: u8, wanted: u8) -> Result<(), ChunkedError> {
    if byte == wanted { Ok(()) } else { Err(ChunkedError::LineEnd) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    /// Decodes `wire` given in pieces that end at `ends`; yields the payload and how many bytes were used.
    fn decode(wire: &[u8], ends: &[usize]) -> Result<(Vec<u8>, usize, bool), ChunkedError> {
        let (mut decoder, mut payload, mut at) = (ChunkedDecoder::new(), Vec::new(), 0);
        for &end in ends.iter().chain([&wire.len()]) {
            while at < end && !decoder.is_finished() {
                let piece = decoder.advance(&wire[at..end])?;
                assert!(piece.framing + piece.payload > 0);
                payload.extend_from_slice(&wire[at + piece.framing..][..piece.payload]);
                at += piece.framing + piece.payload;
            }
        }
        Ok((payload, at, decoder.is_finished()))
    }

    #[test]
    fn every_split_gives_the_same_payload() {
        // Extensions, trailers and upper-case sizes, cut at every pair of positions; what follows is left alone.
        let wire = b"5;a=b\r\nhello\r\n0A \r\n0123456789\r\n000\r\nT: x\r\nU: y\r\n\r\nGET /";
        for first in 0..wire.len() {
            for second in first..wire.len() {
                let (payload, used, finished) = decode(wire, &[first, second]).unwrap();
                assert_eq!(payload, b"hello0123456789");
                assert!(finished);
                assert_eq!(&wire[used..], b"GET /");
            }
        }
    }

    #[test]
    fn malformed_framing_is_refused() {
        // Every shape that smuggling uses is an error of its kind.
        let table: &[(&[u8], ChunkedError)] = &[
            (b"\r\n", ChunkedError::Size),
            (b";x\r\n", ChunkedError::Size),
            (b"0x5\r\n", ChunkedError::Size),
            (b"-1\r\n", ChunkedError::Size),
            (b"10000000000000000\r\n", ChunkedError::Size),
            (b"5\nhello", ChunkedError::Size),
            (b"5;\nhello", ChunkedError::LineEnd),
            (b"5\r\nhelloX", ChunkedError::LineEnd),
            (b"5\r\nhello\rX", ChunkedError::LineEnd),
            (b"0\r\nA: b\n", ChunkedError::LineEnd),
            (b"0\r\n\rX", ChunkedError::LineEnd),
        ];
        for (wire, error) in table {
            assert_eq!(decode(wire, &[]), Err(*error), "{:?}", wire.escape_ascii().to_string());
        }
        let long = [&b"5;"[..], &[b'x'; 2000]].concat();
        assert_eq!(decode(&long, &[]), Err(ChunkedError::LineTooLong));
        let long = [&b"0\r\n"[..], &b"a: b\r\n".repeat(4000)].concat();
        assert_eq!(decode(&long, &[]), Err(ChunkedError::TrailerTooLong));
        let zeros = [b'0'; 2000];
        assert_eq!(decode(&zeros, &[]), Err(ChunkedError::LineTooLong));
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
                                 cuts in proptest::collection::vec(0usize..400, 0..8)) {
            // Any chunks, written and cut anywhere, come back as their concatenation.
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let mut ends: Vec<usize> = cuts.iter().map(|c| c % wire.len()).collect();
            ends.sort_unstable();
            prop_assert_eq!(decode(&wire, &ends), Ok((chunks.concat(), wire.len(), true)));
        }

        #[test]
        fn no_bytes_panic(wire in proptest::collection::vec(any::<u8>(), 0..200)) {
            // Any bytes give payload or an error.
            let _ = decode(&wire, &[]);
            let _ = decode(&[b"ffffffffffffffff\r\n", &wire[..]].concat(), &[]);
        }
    }
}
