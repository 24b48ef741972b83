//! How a client names its memory, in every codec.

use crossdock_transport::token::{Codecs, DcToken, HipToken, RcToken, ShmToken, TokenError};
use std::{fmt::Debug, fmt::Display, str::FromStr};

/// Tries one input as a token.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let known = [is_read_back::<DcToken>(text), is_read_back::<RcToken>(text)];
    let known = known.into_iter().chain([is_read_back::<HipToken>(text), is_read_back::<ShmToken>(text)]);
    let known: Vec<bool> = known.flatten().collect();
    assert!(known.len() <= 1, "a text belongs to one codec at most");
    let named = Codecs::standard().parse(text);
    if text.len() <= crossdock_transport::token::TOKEN_BYTES_MAX {
        let expected = known.first().copied();
        assert_eq!(
            expected,
            named
                .as_ref()
                .map_or_else(|error| (*error == TokenError::Malformed).then_some(false), |_| Some(true))
        );
    }
    if let Ok(named) = named {
        assert!(named.slice.address().checked_add(named.slice.bytes()).is_some(), "memory ends below 2^64");
    }
}

/// None if the text is not of this kind, else whether it is well formed.
fn is_read_back<T: FromStr<Err = TokenError> + Display + PartialEq + Debug>(text: &str) -> Option<bool> {
    match text.parse::<T>() {
        Ok(token) => {
            assert_eq!(token.to_string().parse(), Ok(token), "a token is read as it is written");
            Some(true)
        }
        Err(TokenError::Malformed) => Some(false),
        Err(TokenError::Unknown) => None,
    }
}

/// A token of each codec.
pub fn seeds() -> Vec<Vec<u8>> {
    let session = "0123456789abcdef".repeat(2);
    let dc = "0000000000001000:00002000:000000aa:0000:0abcde:1:00000000000000000000ffff0a000001";
    let hip = format!("0144332200{}04030201{:0<16}{:0<16}020000", "ab".repeat(16), "001", "002");
    [
        dc.to_owned(),
        format!("{dc}:00000000000f0000:0000000200000000"),
        format!("rc:{session}:00007f0000001000:00100000:0000abcd"),
        format!("{hip};"),
        format!("{hip}:1000:20"),
        format!("shm:{session}:0000000000001000:0000000000100000"),
    ]
    .map(String::into_bytes)
    .to_vec()
}
