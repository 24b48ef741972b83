//! The `aws-chunked` content coding, decoded without I/O and without copying.
//!
//! ```text
//!   10000;chunk-signature=<64 hex> CR LF   <65536 bytes> CR LF          signed
//!   10000 CR LF                            <65536 bytes> CR LF          unsigned
//!   …
//!   0[;chunk-signature=<64 hex>] CR LF
//!   [x-amz-checksum-crc32c:sOO8/Q== CR LF                                with a trailer
//!   [x-amz-trailer-signature:<64 hex> CR LF]]                            signed
//!   CR LF
//! ```
//!
//! Signed chunks: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>, signed trailers:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html>, unsigned ones and the grammar of both:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>, "Using trailing checksums":
//! "The header name field for an upload request must match the value passed into the x-amz-trailer request header."
//!
//! Chunks and size lines are read strictly. The end is not written the same by all clients ("The usage of the linefeed
//! \\n at the end of the checksum value might vary across clients", as above): some end trailer lines in LF, put an empty
//! line before the trailer's signature, add an empty line, or leave the last one out. None of that is ambiguous, because
//! the outer framing says where the body ends, so it is accepted. So are chunks of less than 8,192 bytes in the midst,
//! which the page forbids: nothing is gained by refusing them.
#![deny(clippy::indexing_slicing)]

use sha2::{Digest, Sha256};

use super::super::auth::{ChunkSigner, Signature};
use super::super::checksum::{Algorithm, Checksum};
use super::super::http::Piece;
use super::error::BodyError;

/// A size line may hold this many bytes: 16 digits and a signature take 98.
const SIZE_LINE_BYTES_MAX: usize = 1024;
/// The trailer may hold this many bytes, empty lines included.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
/// Line ends that may follow the end of the body.
const EPILOGUE_BYTES_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a size line.
    SizeLine,
    /// In the data of a chunk.
    Data,
    DataCr,
    DataLf,
    /// In the lines behind the last chunk.
    Trailer,
    /// Behind the end; only line ends may come.
    Epilogue,
}

#[derive(Debug)]
pub(super) struct AwsChunkedDecoder {
    state: State,
    /// Data bytes of this chunk still to come.
    chunk_remaining: u64,
    /// Data bytes of the whole body still to come.
    decoded_remaining: u64,
    /// The line so far, in `SizeLine` and `Trailer`.
    line: Vec<u8>,
    /// Bytes of the trailer or of the epilogue so far.
    end_bytes: usize,
    signing: Option<Signing>,
    has_trailer: bool,
    announced: Option<Algorithm>,
    trailing: Option<Checksum>,
}

#[derive(Debug)]
struct Signing {
    chain: ChunkSigner,
    /// Over the data of this chunk so far.
    hash: Sha256,
    /// What this chunk claims.
    claimed: Option<Signature>,
    /// The trailer's fields as they are signed.
    fields: Vec<u8>,
    trailer_verified: bool,
}

impl AwsChunkedDecoder {
    /// `signer` for signed chunks; `announced` is the algorithm of `x-amz-trailer`.
    pub(super) fn new(
        decoded_bytes: u64,
        signer: Option<ChunkSigner>,
        has_trailer: bool,
        announced: Option<Algorithm>,
    ) -> Self {
        let signing = signer.map(|chain| Signing {
            chain,
            hash: Sha256::new(),
            claimed: None,
            fields: Vec::new(),
            trailer_verified: false,
        });
        AwsChunkedDecoder {
            state: State::SizeLine,
            chunk_remaining: 0,
            decoded_remaining: decoded_bytes,
            line: Vec::new(),
            end_bytes: 0,
            signing,
            has_trailer,
            announced,
            trailing: None,
        }
    }

    pub(super) fn trailing(&self) -> Option<Checksum> {
        self.trailing
    }

    pub(super) fn is_signed(&self) -> bool {
        self.signing.is_some()
    }

    /// Data bytes that will come before the next byte of framing.
    pub(super) fn run_remaining(&self) -> u64 {
        if self.state == State::Data { self.chunk_remaining } else { 0 }
    }

    /// Digests framing at the front of `input` and reports the run of data behind it. Both are zero only for empty
    /// input: bytes behind the end are framing if they are line ends, and an error else.
    pub(super) fn advance(&mut self, input: &[u8]) -> Result<Piece, BodyError> {
        let mut framing = 0;
        for &byte in input {
            if self.state == State::Data {
                break;
            }
            self.digest(byte)?;
            framing += 1;
        }
        let mut payload = 0;
        if self.state == State::Data {
            let data = input.get(framing..).unwrap_or_default();
            payload = usize::try_from(self.chunk_remaining).map_or(data.len(), |rest| rest.min(data.len()));
            if let Some(signing) = &mut self.signing {
                signing.hash.update(data.get(..payload).unwrap_or_default());
            }
            self.chunk_remaining -= payload as u64;
            if self.chunk_remaining == 0 {
                self.check_chunk()?;
                self.state = State::DataCr;
            }
        }
        Ok(Piece { framing, payload })
    }

    /// The outer framing has ended: is the body whole?
    pub(super) fn finish(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Epilogue => Ok(()),
            State::Trailer if self.line.is_empty() => self.check_trailer_complete(),
            _ => Err(BodyError::Incomplete),
        }
    }

    fn digest(&mut self, byte: u8) -> Result<(), BodyError> {
        match self.state {
            State::SizeLine => {
                if byte == b'\n' {
                    let mut line = core::mem::take(&mut self.line);
                    let result = self.read_size_line(&line);
                    line.clear();
                    self.line = line;
                    return result;
                }
                if self.line.len() >= SIZE_LINE_BYTES_MAX {
                    return Err(BodyError::MalformedChunk);
                }
                self.line.push(byte);
            }
            State::DataCr if byte == b'\r' => self.state = State::DataLf,
            State::DataLf if byte == b'\n' => self.state = State::SizeLine,
            State::DataCr | State::DataLf => return Err(BodyError::MalformedChunk),
            State::Trailer => {
                self.end_bytes += 1;
                if self.end_bytes > TRAILER_BYTES_MAX {
                    return Err(BodyError::MalformedTrailer);
                }
                if byte == b'\n' {
                    let mut line = core::mem::take(&mut self.line);
                    let result = self.read_trailer_line(line.trim_ascii());
                    line.clear();
                    self.line = line;
                    return result;
                }
                self.line.push(byte);
            }
            State::Epilogue => {
                self.end_bytes += 1;
                if !matches!(byte, b'\r' | b'\n') || self.end_bytes > EPILOGUE_BYTES_MAX {
                    return Err(BodyError::MalformedChunk);
                }
            }
            State::Data => {}
        }
        Ok(())
    }

    /// `line` is without its LF.
    fn read_size_line(&mut self, line: &[u8]) -> Result<(), BodyError> {
        let line = line.strip_suffix(b"\r").ok_or(BodyError::MalformedChunk)?;
        let mut parts = line.split(|&byte| byte == b';');
        let bytes = parts.next().and_then(parse_hex).ok_or(BodyError::MalformedChunk)?;
        self.decoded_remaining = self.decoded_remaining.checked_sub(bytes).ok_or(BodyError::DecodedLength)?;
        self.chunk_remaining = bytes;
        if let Some(signing) = &mut self.signing {
            let signature = parts.find_map(|part| part.trim_ascii().strip_prefix(b"chunk-signature="));
            let signature = signature.and_then(Signature::parse).ok_or(BodyError::ChunkSignature)?;
            signing.claimed = Some(signature);
        }
        if bytes > 0 {
            self.state = State::Data;
            return Ok(());
        }
        self.check_chunk()?;
        if self.decoded_remaining > 0 {
            return Err(BodyError::DecodedLength);
        }
        self.state = if self.has_trailer { State::Trailer } else { State::Epilogue };
        Ok(())
    }

    fn check_chunk(&mut self) -> Result<(), BodyError> {
        if let Some(signing) = &mut self.signing {
            let hash = signing.hash.finalize_reset().into();
            let holds =
                signing.claimed.take().is_some_and(|claimed| signing.chain.verify_chunk(&hash, &claimed));
            if !holds {
                return Err(BodyError::ChunkSignature);
            }
        }
        Ok(())
    }

    /// `line` is without its end.
    fn read_trailer_line(&mut self, line: &[u8]) -> Result<(), BodyError> {
        if line.is_empty() {
            // Before the signature of an announced field an empty line means nothing.
            let waiting = self.announced.is_some()
                && self.signing.as_ref().is_some_and(|signing| !signing.trailer_verified);
            if !waiting {
                self.check_trailer_complete()?;
                self.state = State::Epilogue;
                self.end_bytes = 0;
            }
            return Ok(());
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or(BodyError::MalformedTrailer)?;
        let (name, value) = line.split_at_checked(colon).ok_or(BodyError::MalformedTrailer)?;
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"x-amz-trailer-signature") {
            let signing = self.signing.as_mut().ok_or(BodyError::UnannouncedTrailer)?;
            if signing.trailer_verified {
                return Err(BodyError::MalformedTrailer);
            }
            let hash = Sha256::digest(&signing.fields).into();
            let claimed = Signature::parse(value).ok_or(BodyError::TrailerSignature)?;
            if !signing.chain.verify_trailer(&hash, &claimed) {
                return Err(BodyError::TrailerSignature);
            }
            signing.trailer_verified = true;
            return Ok(());
        }
        let algorithm = self
            .announced
            .filter(|algorithm| name.eq_ignore_ascii_case(algorithm.header().as_bytes()))
            .ok_or(BodyError::UnannouncedTrailer)?;
        if self.trailing.is_some() {
            return Err(BodyError::MalformedTrailer);
        }
        if let Some(signing) = &mut self.signing {
            // A field behind the signature would not be covered by it.
            if signing.trailer_verified {
                return Err(BodyError::MalformedTrailer);
            }
            signing.fields = [algorithm.header().as_bytes(), b":", value, b"\n"].concat();
        }
        let value = Checksum::parse(algorithm, value).ok_or(BodyError::InvalidTrailerValue(algorithm))?;
        self.trailing = Some(value);
        Ok(())
    }

    fn check_trailer_complete(&self) -> Result<(), BodyError> {
        if self.announced.is_some() {
            if self.trailing.is_none() {
                return Err(BodyError::MissingTrailer);
            }
            if self.signing.as_ref().is_some_and(|signing| !signing.trailer_verified) {
                return Err(BodyError::TrailerSignature);
            }
        }
        Ok(())
    }
}

/// 1 to 16 hexadecimal digits.
fn parse_hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |value, &digit| Some(value << 4 | u64::from(char::from(digit).to_digit(16)?)))
}

/// A `Content-Encoding` as it is stored: without `aws-chunked`, which describes the transfer and not the object.
/// `None` if nothing is left.
pub fn strip_aws_chunked(content_encoding: &str) -> Option<String> {
    let kept: Vec<&str> = content_encoding
        .split(',')
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(", "))
}
