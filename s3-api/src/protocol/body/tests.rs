//! Bodies of every mode, cut at every byte, damaged at every byte.

use proptest::prelude::*;

use super::super::auth::{Authentication, Signer, Verified, authenticate, verify};
use super::super::checksum::{Algorithm, Checksum, Hasher, RequestChecksum, request_checksum};
use super::super::http::{BodyFraming, Method, RequestHead, body_framing};
use super::*;

const NOW: u64 = 1_369_353_600;
const SIGNER: Signer<'_> = Signer {
    access_key: "AKIAIOSFODNN7EXAMPLE",
    secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    region: "us-east-1",
    session_token: None,
};

/// A request as it is sent: a signed head and the wire bytes behind it.
struct Request {
    head: RequestHead,
    wire: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    payload: PayloadMode,
    trailer: Option<Algorithm>,
    /// Data bytes in a chunk of the chunked transfer coding; `None` sends a Content-Length.
    http_chunk: Option<usize>,
    aws_chunk: usize,
}

fn shapes() -> impl Iterator<Item = Shape> {
    let modes = [
        (PayloadMode::Unsigned, None),
        (PayloadMode::SignedChunks, None),
        (PayloadMode::UnsignedTrailer, Some(Algorithm::Crc64Nvme)),
        (PayloadMode::UnsignedTrailer, None),
        (PayloadMode::SignedChunksTrailer, Some(Algorithm::Sha256)),
        (PayloadMode::SignedChunksTrailer, None),
    ];
    modes.into_iter().flat_map(|(payload, trailer)| {
        [None, Some(5), Some(4096)].map(|http_chunk| Shape { payload, trailer, http_chunk, aws_chunk: 7 })
    })
}

fn encode(payload: &[u8], shape: Shape) -> Request {
    let mut head = RequestHead::for_client(Method::Put, "/b/k", "", "s3");
    let trailer = shape.trailer.map(|algorithm| Hasher::checksum(algorithm, payload));
    if let Some(trailer) = &trailer {
        head.headers.push("x-amz-trailer", trailer.algorithm().header().as_bytes());
    }
    if shape.payload.is_aws_chunked() {
        head.headers.push("x-amz-decoded-content-length", payload.len().to_string().as_bytes());
    }
    let chain = SIGNER.sign_header(&mut head, &shape.payload, NOW);
    let mut wire = Vec::new();
    if shape.payload.is_aws_chunked() {
        let signed = shape.payload.has_signed_chunks();
        let mut encoder = AwsChunkedEncoder::new(signed.then_some(chain));
        for data in payload.chunks(shape.aws_chunk) {
            encoder.chunk_line(data, &mut wire);
            wire.extend_from_slice(data);
            wire.extend_from_slice(b"\r\n");
        }
        encoder.finish(trailer.as_ref(), &mut wire);
        let predicted = AwsChunkedEncoder::encoded_bytes(
            payload.len() as u64,
            shape.aws_chunk as u64,
            signed,
            shape.trailer,
        );
        assert_eq!(predicted, Some(wire.len() as u64));
    } else {
        wire.extend_from_slice(payload);
    }
    if let Some(chunk) = shape.http_chunk {
        head.headers.push("transfer-encoding", b"chunked");
        let mut outer = Vec::new();
        for data in wire.chunks(chunk) {
            outer.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            outer.extend_from_slice(data);
            outer.extend_from_slice(b"\r\n");
        }
        outer.extend_from_slice(b"0\r\n\r\n");
        wire = outer;
    } else {
        head.headers.push("content-length", wire.len().to_string().as_bytes());
    }
    Request { head, wire }
}

fn decoder(head: &RequestHead) -> Result<BodyDecoder, BodyError> {
    let verified = match authenticate(head).unwrap() {
        Authentication::Signed(claim) => verify(&claim, head, SIGNER.secret, NOW).unwrap(),
        Authentication::Anonymous { payload } => Verified::anonymous(payload),
    };
    let checksum = request_checksum(&head.headers).unwrap();
    BodyDecoder::new(&head.headers, body_framing(head).unwrap(), &verified, &checksum)
}

#[derive(Debug, PartialEq)]
struct Decoded {
    payload: Vec<u8>,
    wire_bytes: usize,
    moved_bytes: usize,
    trailing: Option<Checksum>,
}

/// Receives `wire` into one buffer in pieces that end at `ends`, as a server does.
fn decode(head: &RequestHead, wire: &[u8], ends: &[usize]) -> Result<Decoded, BodyError> {
    let mut decoder = decoder(head)?;
    let mut buffer = vec![0; wire.len()];
    let (mut filled, mut received, mut moved_bytes) = (0, 0, 0);
    for &end in ends.iter().chain([&wire.len()]) {
        if decoder.is_finished() {
            break;
        }
        let piece = &wire[received..end];
        let run = decoder.payload_run();
        let region = &mut buffer[filled..filled + piece.len()];
        region.copy_from_slice(piece);
        let step = decoder.decode(region)?;
        assert!(step.payload_bytes <= step.wire_bytes && step.wire_bytes <= piece.len());
        assert_eq!(step.finished, decoder.is_finished());
        if !step.finished {
            assert_eq!(step.wire_bytes, piece.len());
        }
        if run >= piece.len() as u64 {
            assert_eq!(
                (step.payload_bytes, step.moved_bytes),
                (piece.len(), 0),
                "a payload run needs no move"
            );
        }
        assert_eq!(&region[step.wire_bytes..], &piece[step.wire_bytes..], "the next request is untouched");
        filled += step.payload_bytes;
        received += step.wire_bytes;
        moved_bytes += step.moved_bytes;
    }
    decoder.handle_end()?;
    buffer.truncate(filled);
    Ok(Decoded { payload: buffer, wire_bytes: received, moved_bytes, trailing: decoder.trailing_checksum() })
}

#[test]
fn every_mode_survives_every_cut() {
    // Each mode and outer framing, cut at every pair of bytes, gives the payload, the trailer, and leaves what follows.
    let payload = b"abcdefghijklmnopqrs";
    for shape in shapes() {
        let Request { head, mut wire } = encode(payload, shape);
        let body_bytes = wire.len();
        wire.extend_from_slice(b"GET / HTTP/1.1");
        let expected = |found: Decoded| {
            assert_eq!(found.payload, payload, "{shape:?}");
            assert_eq!(found.wire_bytes, body_bytes);
            assert_eq!(found.trailing, shape.trailer.map(|a| Hasher::checksum(a, payload)));
        };
        for first in 0..body_bytes {
            // Signed chunks are costly to check; one cut in each place and a coarser second one suffice there.
            let stride = if shape.payload.has_signed_chunks() { 61 } else { 1 };
            for second in (first..body_bytes).step_by(stride) {
                expected(decode(&head, &wire, &[first, second]).unwrap());
            }
        }
        let ends: Vec<usize> = (0..wire.len()).collect();
        expected(decode(&head, &wire, &ends).unwrap());
    }
}

#[test]
fn a_body_without_framing_is_never_moved() {
    // Content-Length and a plain payload cost nothing, however they are cut.
    let shape = Shape { payload: PayloadMode::Unsigned, trailer: None, http_chunk: None, aws_chunk: 0 };
    let Request { head, wire } = encode(b"0123456789", shape);
    let mut decoder = decoder(&head).unwrap();
    assert_eq!((decoder.declared_bytes(), decoder.wire_remaining()), (Some(10), Some(10)));
    assert!(!decoder.hashes_payload());
    let found = decode(&head, &wire, &[3, 3, 7]).unwrap();
    assert_eq!(found.moved_bytes, 0);
    let step = decoder.decode(&mut wire.clone()).unwrap();
    assert_eq!(step, Step { wire_bytes: 10, payload_bytes: 10, moved_bytes: 0, finished: true });
    assert_eq!(decoder.wire_remaining(), Some(0));
}

#[test]
fn a_short_body_is_incomplete() {
    // Every proper prefix of a body is refused when the connection ends there, and every Content-Length too short too.
    for shape in shapes() {
        let Request { head, wire } = encode(b"abcdefghijklm", shape);
        for end in 0..wire.len() {
            assert_eq!(decode(&head, &wire[..end], &[]), Err(BodyError::Incomplete), "{shape:?} {end}");
        }
        if shape.http_chunk.is_none() && shape.payload.is_aws_chunked() {
            for short in 0..wire.len() - 2 {
                // Content-Length is not signed here, so that only the body is wrong.
                let mut head = head.clone();
                head.headers.set("content-length", short.to_string().as_bytes());
                assert!(decode(&head, &wire, &[]).is_err(), "{shape:?} {short}");
            }
        }
    }
}

#[test]
fn no_damaged_byte_of_a_signed_body_passes() {
    // Any byte of a signed body changed: refused, or the payload and the checksum are what was signed.
    let payload = b"abcdefghijklm";
    for shape in shapes().filter(|shape| shape.payload.has_signed_chunks() && shape.http_chunk.is_none()) {
        let Request { head, wire } = encode(payload, shape);
        for at in 0..wire.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut wire = wire.clone();
                wire[at] ^= flip;
                if let Ok(found) = decode(&head, &wire, &[]) {
                    assert_eq!(found.payload, payload, "{shape:?} {at}");
                    assert_eq!(found.trailing, shape.trailer.map(|a| Hasher::checksum(a, payload)));
                }
            }
        }
    }
}

#[test]
fn signed_chunks_cannot_be_reordered_or_left_out() {
    // Each signature covers the one before: swapped, dropped and doubled chunks are all refused.
    let shape = Shape { payload: PayloadMode::SignedChunks, trailer: None, http_chunk: None, aws_chunk: 4 };
    let Request { head, wire } = encode(b"aaaabbbb", shape);
    let chunk = "4;chunk-signature=".len() + 64 + 2 + 4 + 2;
    let (a, b, end) = (&wire[..chunk], &wire[chunk..2 * chunk], &wire[2 * chunk..]);
    assert!(decode(&head, &[a, b, end].concat(), &[]).is_ok());
    for order in [[b, a, end].concat(), [a, a, end].concat()] {
        assert_eq!(decode(&head, &order, &[]), Err(BodyError::ChunkSignature));
    }
    let dropped = [a, end].concat();
    assert_eq!(decode(&head, &dropped, &[]), Err(BodyError::ChunkSignature));
}

/// An unsigned aws-chunked body with a CRC32 trailer announced, of 5 declared bytes.
fn decode_unsigned(wire: &str) -> Result<Decoded, BodyError> {
    let mut head = RequestHead::for_client(Method::Put, "/b/k", "", "s3");
    head.headers.push("x-amz-trailer", b"x-amz-checksum-crc32");
    head.headers.push("x-amz-content-sha256", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    head.headers.push("x-amz-decoded-content-length", b"5");
    head.headers.push("content-length", wire.len().to_string().as_bytes());
    decode(&head, wire.as_bytes(), &[])
}

#[test]
fn the_ends_that_clients_write_are_all_read() {
    // LF or CRLF, one empty line or two or none, spaces and case in the trailer: one meaning.
    for end in [
        "x-amz-checksum-crc32:NhCmhg==\r\n\r\n",
        "x-amz-checksum-crc32:NhCmhg==\n\r\n\r\n",
        "X-Amz-Checksum-CRC32: NhCmhg== \r\n\r\n",
        "x-amz-checksum-crc32:NhCmhg==\r\n",
        "x-amz-checksum-crc32:NhCmhg==\r\n\r\n\r\n",
    ] {
        let found = decode_unsigned(&format!("5\r\nhello\r\n0\r\n{end}")).unwrap();
        assert_eq!(found.payload, b"hello");
        assert_eq!(found.trailing, Some(Hasher::checksum(Algorithm::Crc32, b"hello")), "{end:?}");
    }
}

#[test]
fn each_fault_of_the_framing_has_its_error() {
    // Sizes, line ends, lengths and trailers: refused by name.
    let trailer = "x-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let long = "x".repeat(2000);
    let table: &[(String, BodyError)] = &[
        (format!("6\r\nhello!\r\n0\r\n{trailer}"), BodyError::DecodedLength),
        (format!("4\r\nhell\r\n0\r\n{trailer}"), BodyError::DecodedLength),
        (format!("ffffffffffffffff\r\nhello\r\n0\r\n{trailer}"), BodyError::DecodedLength),
        (format!("5\nhello\r\n0\r\n{trailer}"), BodyError::MalformedChunk),
        (format!("5\r\nhello0\r\n{trailer}"), BodyError::MalformedChunk),
        (format!("\r\nhello\r\n0\r\n{trailer}"), BodyError::MalformedChunk),
        (format!("0x5\r\nhello\r\n0\r\n{trailer}"), BodyError::MalformedChunk),
        (format!("5;{long}\r\nhello\r\n0\r\n{trailer}"), BodyError::MalformedChunk),
        ("5\r\nhello\r\n".into(), BodyError::Incomplete),
        ("5\r\nhello\r\n0\r\n".into(), BodyError::MissingTrailer),
        ("5\r\nhello\r\n0\r\n\r\n".into(), BodyError::MissingTrailer),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==".into(), BodyError::Incomplete),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-sha1:NhCmhg==\r\n\r\n".into(), BodyError::UnannouncedTrailer),
        ("5\r\nhello\r\n0\r\nnonsense\r\n\r\n".into(), BodyError::MalformedTrailer),
        (format!("5\r\nhello\r\n0\r\nx-amz-trailer-signature:0\r\n{trailer}"), BodyError::UnannouncedTrailer),
        (format!("5\r\nhello\r\n0\r\n{}", &trailer[..31].repeat(2)), BodyError::MalformedTrailer),
        (format!("5\r\nhello\r\n0\r\n{}", " ".repeat(17_000)), BodyError::MalformedTrailer),
        (
            "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCm\r\n\r\n".into(),
            BodyError::InvalidTrailerValue(Algorithm::Crc32),
        ),
        (format!("5\r\nhello\r\n0\r\n{trailer}GET /"), BodyError::MalformedChunk),
        (format!("5\r\nhello\r\n0\r\n{trailer}{}", "\r\n".repeat(9)), BodyError::MalformedChunk),
    ];
    for (wire, error) in table {
        assert_eq!(decode_unsigned(wire), Err(*error), "{wire:?}");
    }
}

#[test]
fn amazons_trailer_example_is_decoded() {
    // The body of sigv4-streaming-trailers.html behind its published signatures, with an empty line before the trailer.
    let mut head =
        RequestHead::for_client(Method::Put, "/examplebucket/chunkObject.txt", "", "s3.amazonaws.com");
    for (name, value) in [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("x-amz-trailer", "x-amz-checksum-crc32c"),
    ] {
        head.headers.push(name, value.as_bytes());
    }
    SIGNER.sign_header(&mut head, &PayloadMode::SignedChunksTrailer, NOW);
    let wire = |empty_line: &str| {
        format!(
            "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n{}\r\n\
             400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n{}\r\n\
             0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n{empty_line}\
             x-amz-checksum-crc32c:sOO8/Q==\r\n{empty_line}\
             x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
            "a".repeat(65_536),
            "a".repeat(1024)
        )
    };
    for wire in [wire(""), wire("\r\n")] {
        head.headers.set("content-length", wire.len().to_string().as_bytes());
        let found = decode(&head, wire.as_bytes(), &[100, 66_000]).unwrap();
        assert_eq!(found.payload, vec![b'a'; 66_560]);
        assert_eq!(found.trailing, Some(Hasher::checksum(Algorithm::Crc32c, &found.payload)));
    }
    let unsigned = wire("").replace("x-amz-trailer-signature:d81f", "x-amz-trailer-signature:d81e");
    head.headers.set("content-length", unsigned.len().to_string().as_bytes());
    assert_eq!(decode(&head, unsigned.as_bytes(), &[]), Err(BodyError::TrailerSignature));
}

#[test]
fn a_head_that_promises_no_whole_body_is_refused_at_once() {
    // Missing lengths, a trailer where none can be, and signed chunks that nobody can check.
    let plain = RequestChecksum::None;
    let new = |fields: &[(&str, &str)], framing, payload, checksum: &RequestChecksum| {
        let mut head = RequestHead::for_client(Method::Put, "/", "", "h");
        for (name, value) in fields {
            head.headers.push(name, value.as_bytes());
        }
        BodyDecoder::new(&head.headers, framing, &Verified::anonymous(payload), checksum).map(drop)
    };
    let length = BodyFraming::Length(20);
    let trailer = PayloadMode::UnsignedTrailer;
    assert_eq!(new(&[], BodyFraming::None, trailer, &plain), Err(BodyError::MissingLength));
    assert_eq!(new(&[], length, trailer, &plain), Err(BodyError::MissingDecodedLength));
    let field = ("x-amz-decoded-content-length", "x");
    assert_eq!(new(&[field], length, trailer, &plain), Err(BodyError::InvalidDecodedLength));
    let field = ("x-amz-decoded-content-length", "5");
    assert_eq!(new(&[field, field], length, trailer, &plain), Err(BodyError::InvalidDecodedLength));
    assert_eq!(new(&[field], BodyFraming::Length(0), trailer, &plain), Err(BodyError::Incomplete));
    assert_eq!(new(&[field], length, PayloadMode::SignedChunks, &plain), Err(BodyError::ChunkSignature));
    let announced = RequestChecksum::Trailer(Algorithm::Crc32);
    assert_eq!(new(&[], length, PayloadMode::Unsigned, &announced), Err(BodyError::TrailerWithoutMode));
}

#[test]
fn an_empty_body_is_finished_at_once() {
    // No body and Content-Length: 0 need no byte; a chunked one needs its last chunk.
    let verified = Verified::anonymous(PayloadMode::Unsigned);
    let headers = Default::default();
    let new = |framing| BodyDecoder::new(&headers, framing, &verified, &RequestChecksum::None).unwrap();
    for framing in [BodyFraming::None, BodyFraming::Length(0)] {
        assert!(new(framing).is_finished());
    }
    let mut decoder = new(BodyFraming::Chunked);
    assert_eq!((decoder.is_finished(), decoder.declared_bytes()), (false, None));
    let step = decoder.decode(&mut b"0\r\n\r\nGET".to_vec()).unwrap();
    assert_eq!(step, Step { wire_bytes: 5, payload_bytes: 0, moved_bytes: 0, finished: true });
}

#[test]
fn the_stored_encoding_is_without_aws_chunked() {
    // What describes the transfer goes, what describes the object stays.
    assert_eq!(strip_aws_chunked("aws-chunked"), None);
    assert_eq!(strip_aws_chunked("AWS-Chunked, gzip").as_deref(), Some("gzip"));
    assert_eq!(strip_aws_chunked("gzip,aws-chunked , br").as_deref(), Some("gzip, br"));
}

proptest! {
    #[test]
    fn decode_inverts_encode(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        aws_chunk in 1usize..120,
        http_chunk in proptest::option::of(1usize..200),
        mode in 0usize..6,
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        // Any payload in any chunks cut anywhere comes back whole.
        let shape = Shape { http_chunk, aws_chunk, ..shapes().nth(mode * 3).unwrap() };
        let Request { head, wire } = encode(&payload, shape);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        ends.sort_unstable();
        let found = decode(&head, &wire, &ends).unwrap();
        prop_assert_eq!(found.payload, payload);
        prop_assert_eq!(found.wire_bytes, wire.len());
    }

    #[test]
    fn no_bytes_panic(
        wire in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'5'), Just(b';'), Just(b':'), any::<u8>()], 0..120),
        http_chunk in any::<bool>(),
        declared in 0u64..12,
    ) {
        // Any bytes give payload or an error, in every framing.
        for payload in ["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "UNSIGNED-PAYLOAD"] {
            let mut head = RequestHead::for_client(Method::Put, "/", "", "h");
            head.headers.push("x-amz-content-sha256", payload.as_bytes());
            head.headers.push("x-amz-decoded-content-length", declared.to_string().as_bytes());
            match http_chunk {
                true => head.headers.push("transfer-encoding", b"chunked"),
                false => head.headers.push("content-length", wire.len().to_string().as_bytes()),
            }
            let whole = decode(&head, &wire, &[]);
            let ends: Vec<usize> = (0..wire.len()).collect();
            prop_assert_eq!(whole.map(|d| d.payload), decode(&head, &wire, &ends).map(|d| d.payload));
        }
    }
}
