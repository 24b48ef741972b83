//! A whole PUT: head, signature, and a body under every framing that S3 has, in any pieces.
//!
//! Whatever the pieces, a request that is accepted carries the same payload and ends at the same byte, and one that
//! is refused is refused. Payload never outgrows the wire bytes it came in.

use crossdock_s3::protocol::auth::{Authentication, Verified, authenticate, verify};
use crossdock_s3::protocol::body::{AwsChunkedEncoder, BodyDecoder, PayloadMode};
use crossdock_s3::protocol::checksum::{Algorithm, Hasher, request_checksum};
use crossdock_s3::protocol::http::{Method, ParsedHead, RequestHead};

use super::request_head::parse;
use super::signature::{NOW_SECONDS, SECRET, SIGNER, wire};

/// Tries one input: a byte that says how long the pieces are, then the request.
pub fn run(bytes: &[u8]) {
    let Some((&first, request)) = bytes.split_first() else { return };
    let Some(parsed) = parse(request) else { return };
    let body = request.get(parsed.head_bytes..).expect("a head ends inside its bytes");
    let Some(verified) = verified(&parsed.head) else { return };
    let whole = decode(&parsed, &verified, body, body.len().max(1));
    for pieces in [1, 2, 3, usize::from(first).max(1)] {
        assert_eq!(decode(&parsed, &verified, body, pieces), whole, "pieces of {pieces} bytes");
    }
}

/// The payload of a request that is accepted when it arrives at once.
pub fn accepted(bytes: &[u8]) -> Option<Vec<u8>> {
    let (_, request) = bytes.split_first()?;
    let parsed = parse(request)?;
    let body = request.get(parsed.head_bytes..)?;
    decode(&parsed, &verified(&parsed.head)?, body, body.len().max(1)).map(|(payload, _)| payload)
}

fn verified(head: &RequestHead) -> Option<Verified> {
    match authenticate(head).ok()? {
        Authentication::Signed(claim) => verify(&claim, head, SECRET, NOW_SECONDS).ok(),
        Authentication::Anonymous { payload } => Some(Verified::anonymous(payload)),
    }
}

/// The payload and the wire bytes it took; none for a request that is refused or does not end.
fn decode(parsed: &ParsedHead, verified: &Verified, body: &[u8], pieces: usize) -> Option<(Vec<u8>, usize)> {
    let checksum = request_checksum(&parsed.head.headers).ok()?;
    let mut decoder = BodyDecoder::new(&parsed.head.headers, parsed.framing, verified, &checksum).ok()?;
    let (mut payload, mut taken) = (Vec::new(), 0);
    for piece in body.chunks(pieces) {
        if decoder.is_finished() {
            break;
        }
        let mut piece = piece.to_vec();
        let step = decoder.decode(&mut piece).ok()?;
        assert!(
            step.payload_bytes <= step.wire_bytes && step.wire_bytes <= piece.len(),
            "a step lies in its input"
        );
        assert!(step.finished || step.wire_bytes == piece.len(), "an unfinished body takes all it is given");
        payload.extend(piece.get(..step.payload_bytes).expect("just compared"));
        taken += step.wire_bytes;
    }
    if !decoder.is_finished() {
        assert!(decoder.handle_end().is_err(), "an unfinished body is not whole");
        return None;
    }
    if let Some(declared) = decoder.declared_bytes() {
        assert_eq!(declared, payload.len() as u64, "an accepted body is as long as its head declares");
    }
    Some((payload, taken))
}

/// What every seed puts.
pub const PAYLOAD: &[u8] = b"what is put, in a few chunks of some bytes each";

/// Requests in every mode of payload, with a length and in chunks.
pub fn seeds() -> Vec<Vec<u8>> {
    let modes = [
        (PayloadMode::Unsigned, None),
        (PayloadMode::SignedChunks, None),
        (PayloadMode::UnsignedTrailer, Some(Algorithm::Crc64Nvme)),
        (PayloadMode::SignedChunksTrailer, Some(Algorithm::Sha256)),
    ];
    let mut seeds = Vec::new();
    for (mode, trailer) in modes {
        for is_chunked in [false, true] {
            seeds.push(request(mode, trailer, is_chunked));
        }
    }
    seeds
}

fn request(mode: PayloadMode, trailer: Option<Algorithm>, is_chunked: bool) -> Vec<u8> {
    let payload = PAYLOAD;
    let mut head = RequestHead::for_client(Method::Put, "/bucket/key", "", "s3");
    let checksum = trailer.map(|algorithm| Hasher::checksum(algorithm, payload));
    if let Some(checksum) = &checksum {
        head.headers.push("x-amz-trailer", checksum.algorithm().header().as_bytes());
    }
    if mode.is_aws_chunked() {
        head.headers.push("x-amz-decoded-content-length", payload.len().to_string().as_bytes());
    }
    let chain = SIGNER.sign_header(&mut head, &mode, NOW_SECONDS);
    let mut body = Vec::new();
    if mode.is_aws_chunked() {
        let mut encoder = AwsChunkedEncoder::new(mode.has_signed_chunks().then_some(chain));
        for data in payload.chunks(16) {
            encoder.chunk_line(data, &mut body);
            body.extend([data, b"\r\n"].concat());
        }
        encoder.finish(checksum.as_ref(), &mut body);
    } else {
        body.extend(payload);
    }
    if is_chunked {
        head.headers.push("transfer-encoding", b"chunked");
        let outer: Vec<Vec<u8>> = body
            .chunks(50)
            .map(|data| [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat())
            .collect();
        body = [outer.concat().as_slice(), b"0\r\n\r\n"].concat();
    } else {
        head.headers.push("content-length", body.len().to_string().as_bytes());
    }
    [&[7][..], &wire(&head), &body].concat()
}
