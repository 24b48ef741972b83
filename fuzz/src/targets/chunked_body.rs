//! The chunked transfer coding, in any pieces.
//!
//! Whatever the pieces, the payload is the same bytes, the body ends at the same place, and an error stays an error.

use crossdock_s3::protocol::http::{ChunkedDecoder, ChunkedError};

/// Tries one input: the body, split as its first byte says.
pub fn run(bytes: &[u8]) {
    let Some((&first, body)) = bytes.split_first() else { return };
    let whole = decode(body, body.len().max(1));
    for pieces in [1, 2, usize::from(first).max(1)] {
        assert_eq!(decode(body, pieces), whole, "pieces of {pieces} bytes");
    }
}

/// What a body decodes to.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    payload: Vec<u8>,
    /// Where the body ended, if it did.
    end: Option<usize>,
    error: Option<ChunkedError>,
}

fn decode(body: &[u8], pieces: usize) -> Decoded {
    let mut decoder = ChunkedDecoder::new();
    let mut decoded = Decoded { payload: Vec::new(), end: None, error: None };
    let mut consumed = 0;
    for piece in body.chunks(pieces) {
        let mut rest = piece;
        while !rest.is_empty() && !decoder.is_finished() {
            let step = match decoder.advance(rest) {
                Ok(step) => step,
                Err(error) => {
                    decoded.error = Some(error);
                    return decoded;
                }
            };
            let taken = step.framing + step.payload;
            assert!(taken > 0, "a decoder that is not finished takes something");
            decoded.payload.extend(rest.get(step.framing..taken).expect("a step lies inside its input"));
            rest = rest.get(taken..).expect("a step lies inside its input");
            consumed += taken;
        }
        if decoder.is_finished() {
            decoded.end = Some(consumed);
            return decoded;
        }
    }
    decoded
}

/// Bodies of one chunk and of several, with extensions and trailers.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "\x03".to_owned() + "0\r\n\r\n",
        "\x05".to_owned() + "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1",
        "\x07".to_owned() + "A;name=value\r\n0123456789\r\n001\r\nx\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\n",
        "\x40".to_owned() + "400;chunk-signature=00\r\n" + &"y".repeat(1024) + "\r\n0\r\n\r\n",
    ]
    .map(String::into_bytes)
    .to_vec()
}
