//! Tokens: how a client names its memory in the text of a request.
//!
//! | codec | text | moves bytes over |
//! |---|---|---|
//! | [`dc`](DcToken) | 81 characters, seven fields of hex | Dynamically Connected queue pairs |
//! | [`rc`](RcToken) | `rc:` session, address, size, key | Reliable Connections |
//! | [`hip`](HipToken) | 88 characters of hex, 44 bytes | names a queue pair when connecting |
//! | [`shm`](ShmToken) | `shm:` session, offset, size | shared memory |
//!
//! Invariants
//! * What a codec writes it reads back as the same token, and in lower case. It reads upper case too, and one `;` at the
//!   end, because there are clients that send them.
//! * A text belongs to at most one codec by its prefix or shape. One that does and is not well formed is
//!   [`TokenError::Malformed`]; one that belongs to none is [`TokenError::Unknown`], and is declined, never guessed at.
//! * No token names memory past the last address.

mod dc;
mod hex;
mod hip;
mod rc;
mod shm;

pub use dc::DcToken;
pub use hip::{HipToken, HipTransport};
pub use rc::RcToken;
pub use shm::ShmToken;

use crate::remote::{RemoteSlice, SessionId};
use std::fmt;

/// Longest text that is looked at, in bytes. The longest standard token has 123.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// Why a text is no token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// It has the prefix or the shape of a codec, and is not well formed.
    #[error("malformed token")]
    Malformed,
    /// It belongs to no codec.
    #[error("unknown kind of token")]
    Unknown,
}

/// Memory that a token names, and over what it is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Named {
    /// The codec's name.
    pub codec: &'static str,
    /// The session that reaches the memory; none for codecs that carry the whole address of their queue pair, which this
    /// crate does not move bytes for.
    pub session: Option<SessionId>,
    /// The memory.
    pub slice: RemoteSlice,
}

/// One way of writing a token.
pub trait Codec: Send + Sync {
    /// A short name, for metrics and messages.
    fn name(&self) -> &'static str;

    /// The memory that `text` names, which is at most [`TOKEN_BYTES_MAX`] long.
    ///
    /// # Errors
    /// [`TokenError::Unknown`] if the text is not of this codec's prefix or shape.
    fn parse(&self, text: &str) -> Result<Named, TokenError>;
}

/// The codecs that a server reads.
pub struct Codecs(Vec<Box<dyn Codec>>);

impl Codecs {
    /// The standard ones.
    pub fn standard() -> Codecs {
        Codecs(vec![Box::new(dc::Dc), Box::new(rc::Rc), Box::new(hip::Hip), Box::new(shm::Shm)])
    }

    /// Adds one, which is asked after those before it.
    pub fn register(&mut self, codec: Box<dyn Codec>) {
        self.0.push(codec);
    }

    /// The memory that `text` names.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn parse(&self, text: &str) -> Result<Named, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Unknown);
        }
        for codec in &self.0 {
            match codec.parse(text) {
                Err(TokenError::Unknown) => {}
                known => return known,
            }
        }
        Err(TokenError::Unknown)
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|codec| codec.name())).finish()
    }
}

/// The text without the `;` that some clients put at its end.
fn without_end(text: &str) -> &str {
    text.strip_suffix(';').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::RemoteKey;
    use proptest::prelude::*;

    fn samples() -> [(&'static str, String); 4] {
        let slice = RemoteSlice::new(0x7f12_3456_7000, 0x10_0000, RemoteKey(0x1234)).unwrap();
        let session = SessionId::from_bytes([0xab; 16]);
        let gid = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        let dc = DcToken::new(slice, 0x11, 0x0a_bcde, Some(gid)).unwrap();
        let hip = HipToken { transport: HipTransport::Rc, queue_pair: 0x11, gid, slice, port: 1, lid: 0 };
        [
            ("dc", dc.to_string()),
            ("rc", RcToken { session, slice }.to_string()),
            ("hip", hip.to_string()),
            ("shm", ShmToken::new(session, 4096, 8192).unwrap().to_string()),
        ]
    }

    #[test]
    fn each_text_has_its_codec() {
        // Shows that every codec's text is read by that codec, in upper case (but for the prefix) and with a `;` too.
        let codecs = Codecs::standard();
        for (codec, text) in samples() {
            let named = codecs.parse(&text).unwrap();
            assert_eq!(named.codec, codec);
            assert_eq!(codecs.parse(&format!("{text};")), Ok(named));
            let (prefix, rest) = match text.split_once(':') {
                Some((prefix @ ("rc" | "shm"), rest)) => (format!("{prefix}:"), rest),
                _ => (String::new(), &text[..]),
            };
            assert_eq!(codecs.parse(&format!("{prefix}{}", rest.to_uppercase())), Ok(named));
            assert!(codecs.parse(&format!("{text};;")).is_err());
        }
    }

    #[test]
    fn a_text_cut_or_changed_anywhere_is_no_other_token() {
        // Shows that no cut and no byte that is not hex gives a token, and that nothing panics on them.
        let codecs = Codecs::standard();
        for (_, text) in samples() {
            for end in 0..text.len() {
                assert!(codecs.parse(&text[..end]).is_err(), "{end} bytes of {text}");
            }
            for at in 0..text.len() {
                for wrong in ["g", "+", " ", "-", "\u{0}"] {
                    let changed = format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
                    assert!(codecs.parse(&changed).is_err(), "{changed}");
                }
            }
        }
    }

    #[test]
    fn what_belongs_to_nobody_is_unknown_and_what_is_broken_malformed() {
        // Shows the difference that decides between declining a request and refusing it.
        let codecs = Codecs::standard();
        let long = "0".repeat(TOKEN_BYTES_MAX + 1);
        let shape = "0:0:0:0:0:0:0";
        let provider = "10000:1000:ofi1:verbs:00ff:1234";
        for unknown in ["", ";", "x", "RC:00", "0:0", "aaaaaaaa", provider, &long] {
            assert_eq!(codecs.parse(unknown), Err(TokenError::Unknown), "{unknown}");
        }
        for malformed in ["rc:", "shm:", "rc:0:0:0:0", shape, "shm:00:11:22"] {
            assert_eq!(codecs.parse(malformed), Err(TokenError::Malformed), "{malformed}");
        }
    }

    proptest! {
        /// Shows that nothing panics, and that whatever is read lies below the last address.
        #[test]
        fn any_text_is_answered(text in "\\PC*|(rc:|shm:)?[0-9a-fA-F:;]{0,130}") {
            if let Ok(named) = Codecs::standard().parse(&text) {
                prop_assert!(named.slice.address().checked_add(named.slice.bytes()).is_some());
            }
        }
    }
}
