//! The `aws-chunked` content coding, written: the client's side.

use sha2::{Digest, Sha256};

use super::super::auth::ChunkSigner;
use super::super::checksum::{Algorithm, Checksum};

/// Writes the framing of an aws-chunked body, with or without signatures. Data goes between, uncopied:
/// [`AwsChunkedEncoder::chunk_line`], the data, CRLF, …, [`AwsChunkedEncoder::finish`].
#[derive(Debug)]
pub struct AwsChunkedEncoder {
    signer: Option<ChunkSigner>,
}

impl AwsChunkedEncoder {
    /// An encoder; `signer` as [`super::super::auth::Signer::sign_header`] returned it, for signed chunks.
    pub fn new(signer: Option<ChunkSigner>) -> Self {
        AwsChunkedEncoder { signer }
    }

    /// Appends the line that stands before a chunk of `data` to `out`. `data` must not be empty, which would end the
    /// body; S3 itself refuses chunks under 8 KiB but for the last.
    pub fn chunk_line(&mut self, data: &[u8], out: &mut Vec<u8>) {
        debug_assert!(!data.is_empty(), "an empty chunk ends the body");
        self.push_line(data, out);
    }

    /// Appends the end of the body to `out`: the empty chunk, `trailer` if the payload mode has one, and its signature.
    pub fn finish(mut self, trailer: Option<&Checksum>, out: &mut Vec<u8>) {
        self.push_line(b"", out);
        if let Some(checksum) = trailer {
            let name = checksum.algorithm().header();
            out.extend_from_slice(format!("{name}:{checksum}\r\n").as_bytes());
            if let Some(signer) = &mut self.signer {
                let hash = Sha256::digest(format!("{name}:{checksum}\n")).into();
                let signature = signer.sign_trailer(&hash);
                out.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn push_line(&mut self, data: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{:x}", data.len()).as_bytes());
        if let Some(signer) = &mut self.signer {
            let signature = signer.sign_chunk(&Sha256::digest(data).into());
            out.extend_from_slice(format!(";chunk-signature={signature}").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// The `Content-Length` of a body of `payload_bytes` in chunks of `chunk_bytes` (at least 1), all full but the
    /// last. `None` if it exceeds 64 bits.
    pub fn encoded_bytes(
        payload_bytes: u64,
        chunk_bytes: u64,
        signed: bool,
        trailer: Option<Algorithm>,
    ) -> Option<u64> {
        let signature = if signed { ";chunk-signature=".len() as u64 + 64 } else { 0 };
        let line = |bytes: u64| u64::from(16 - (bytes | 1).leading_zeros() / 4) + signature + 2;
        let chunk_bytes = chunk_bytes.max(1);
        let (full, last) = (payload_bytes / chunk_bytes, payload_bytes % chunk_bytes);
        let mut total = full.checked_mul(line(chunk_bytes).checked_add(chunk_bytes)?.checked_add(2)?)?;
        if last > 0 {
            total = total.checked_add(line(last) + last + 2)?;
        }
        total = total.checked_add(line(0) + 2)?;
        if let Some(algorithm) = trailer {
            let value = algorithm.digest_bytes().div_ceil(3) * 4;
            total = total.checked_add((algorithm.header().len() + 1 + value + 2) as u64)?;
            if signed {
                total = total.checked_add("x-amz-trailer-signature:".len() as u64 + 64 + 2)?;
            }
        }
        Some(total)
    }
}
