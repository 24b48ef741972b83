//! Percent-encoding as Signature Version 4 wants it, and hexadecimal.
//!
//! "URI encode every byte except the unreserved characters: 'A'-'Z', 'a'-'z', '0'-'9', '-', '.', '_', and '~'. …
//! Letters in the hexadecimal value must be uppercase. … Encode the forward slash character, '/', everywhere except
//! in the object key name." (*Signature Calculations for the Authorization Header*, `UriEncode`,
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.)
#![deny(clippy::indexing_slicing)]

const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn nibbles(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().unwrap_or(b'0');
    [digit(byte >> 4), digit(byte & 15)]
}

/// Appends `bytes` percent-encoded; slashes stay if `keep_slash`.
pub(super) fn push_encoded(out: &mut Vec<u8>, bytes: impl IntoIterator<Item = u8>, keep_slash: bool) {
    for byte in bytes {
        if is_unreserved(byte) || (keep_slash && byte == b'/') {
            out.push(byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(&nibbles(byte, UPPER));
        }
    }
}

/// Appends percent-encoded `text` decoded and encoded again by the rule; slashes stay if `keep_slash`, and `+` is a space if
/// `plus_is_space`.
pub(super) fn push_encoded_anew(out: &mut Vec<u8>, text: &[u8], keep_slash: bool, plus_is_space: bool) {
    // Nearly all text is what the rule makes of it: looked through, then taken at once.
    let is_plain = |&byte: &u8| is_unreserved(byte) || (keep_slash && byte == b'/');
    if text.iter().all(is_plain) {
        out.extend_from_slice(text);
    } else {
        push_encoded(out, decode_iter(text, plus_is_space), keep_slash);
    }
}

fn encoded(text: &str, keep_slash: bool) -> String {
    let mut out = Vec::with_capacity(text.len() + 16);
    push_encoded(&mut out, text.bytes(), keep_slash);
    out.into_iter().map(char::from).collect()
}

/// `path` (unencoded, slashes dividing) as it is sent and signed: every byte but the unreserved ones and `/` encoded.
pub fn encode_path(path: &str) -> String {
    encoded(path, true)
}

/// `text` as it is sent and signed in a query, as name or value: slashes are encoded too.
pub fn encode_query(text: &str) -> String {
    encoded(text, false)
}

/// The bytes behind percent-encoded `text`. A `%` that no two hexadecimal digits follow stands for itself.
pub fn percent_decode(text: &[u8]) -> Vec<u8> {
    decode_iter(text, false).collect()
}

/// [`percent_decode`] byte by byte; `+` becomes a space if `plus_is_space`.
pub(super) fn decode_iter(text: &[u8], plus_is_space: bool) -> impl Iterator<Item = u8> {
    let mut rest = text;
    core::iter::from_fn(move || {
        let (&byte, tail) = rest.split_first()?;
        if byte == b'%'
            && let Some((pair, behind)) = tail.split_first_chunk::<2>()
            && let Some(decoded) = hex_pair(*pair)
        {
            rest = behind;
            return Some(decoded);
        }
        rest = tail;
        Some(if byte == b'+' && plus_is_space { b' ' } else { byte })
    })
}

/// The parameters of a raw query, still encoded, in the order they came. A parameter without `=` has an empty value.
pub(super) fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn hex_pair([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// 64 hexadecimal digits, in either case, as 32 bytes.
pub(super) fn parse_hex32(text: &[u8]) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; 32] = pairs.try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = hex_pair(*pair)?;
    }
    Some(bytes)
}

/// 32 bytes as 64 hexadecimal digits in lower case.
pub(super) fn hex32(bytes: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    let (pairs, _) = text.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = nibbles(*byte, LOWER);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lone_percent_stands_for_itself() {
        // Broken escapes are data, as the rule gives them no other meaning; good ones decode in either case.
        assert_eq!(percent_decode(b"%41%zz%4%2f%"), b"A%zz%4/%");
        assert_eq!(decode_iter(b"a+b%2B", true).collect::<Vec<_>>(), b"a b+");
        assert_eq!(encode_path("/a b/\u{e9}+~"), "/a%20b/%C3%A9%2B~");
        assert_eq!(encode_query("a/b"), "a%2Fb");
        assert_eq!(query_pairs("&a=1&&b&c==").collect::<Vec<_>>(), [("a", "1"), ("b", ""), ("c", "=")]);
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(text in ".*", bytes in any::<[u8; 32]>()) {
            // Any text and any 32 bytes survive the round trip.
            prop_assert_eq!(percent_decode(encode_path(&text).as_bytes()), text.as_bytes());
            prop_assert_eq!(percent_decode(encode_query(&text).as_bytes()), text.as_bytes());
            prop_assert_eq!(parse_hex32(&hex32(&bytes)), Some(bytes));
        }

        #[test]
        fn encoding_anew_is_decoding_and_encoding(text in "[-a-c%/+0-9A-F é]{0,12}", slash: bool, plus: bool) {
            // Whatever is taken at once is what the long way makes of it.
            let (mut at_once, mut long) = (b"x".to_vec(), b"x".to_vec());
            push_encoded_anew(&mut at_once, text.as_bytes(), slash, plus);
            push_encoded(&mut long, decode_iter(text.as_bytes(), plus), slash);
            prop_assert_eq!(at_once, long);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            // Any bytes decode to no more bytes, and are or are not a hash.
            prop_assert!(percent_decode(&bytes).len() <= bytes.len());
            let _ = parse_hex32(&bytes);
        }
    }
}
