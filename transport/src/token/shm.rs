//! Tokens for shared memory: `shm:<session:32>:<address:16>:<size:16>` for what was exposed under that address, and
//! `shm:<session:32>:<offset:16>:<size:16>:<number:8>` for a place in the memory file that the token itself exposes, for one request.

use super::{
    Codec, Named, TokenError,
    hex::{self, Hex},
    without_end,
};
use crate::remote::{RemoteKey, RemoteSlice, SessionId};
use std::{fmt, str::FromStr};

/// A range of the memory that a session shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShmToken {
    session: SessionId,
    slice: RemoteSlice,
}

impl ShmToken {
    /// A token. None if the end is past 2⁶⁴ − 1. Whether the session shares as much is decided when it is used.
    pub fn new(session: SessionId, offset: u64, bytes: u64) -> Option<ShmToken> {
        // The session is the key.
        Some(ShmToken { session, slice: RemoteSlice::new(offset, bytes, RemoteKey(0))? })
    }

    /// A token that exposes the bytes at `offset` of the memory file by itself, for the one request that names it. No number, from 1
    /// on, is used twice in a session. None for the number 0, and as for [`new`](ShmToken::new).
    pub fn once(session: SessionId, offset: u64, bytes: u64, number: u32) -> Option<ShmToken> {
        let slice = RemoteSlice::new(offset, bytes, RemoteKey(number))?;
        (number != 0).then_some(ShmToken { session, slice })
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The memory. Its key is 0, or the number under which it is exposed for one request; its address is the offset then.
    pub fn slice(&self) -> RemoteSlice {
        self.slice
    }
}

impl FromStr for ShmToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<ShmToken, TokenError> {
        let rest = without_end(text).strip_prefix("shm:").ok_or(TokenError::Unknown)?;
        well_formed(rest).ok_or(TokenError::Malformed)
    }
}

fn well_formed(rest: &str) -> Option<ShmToken> {
    let mut fields = rest.split(':');
    let session = SessionId::from_bytes(hex::bytes::<16>(fields.next()?)?);
    let (offset, bytes) = (hex::number(fields.next()?, 16)?, hex::number(fields.next()?, 16)?);
    match (fields.next(), fields.next()) {
        (None, _) => ShmToken::new(session, offset, bytes),
        (Some(number), None) => {
            ShmToken::once(session, offset, bytes, u32::try_from(hex::number(number, 8)?).ok()?)
        }
        _ => None,
    }
}

impl fmt::Display for ShmToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.session.to_bytes();
        write!(formatter, "shm:{}:{:016x}:{:016x}", Hex(&session), self.slice.address(), self.slice.bytes())?;
        match self.slice.key() {
            RemoteKey(0) => Ok(()),
            RemoteKey(number) => write!(formatter, ":{number:08x}"),
        }
    }
}

pub(super) struct Shm;

impl Codec for Shm {
    fn name(&self) -> &'static str {
        "shm"
    }

    fn parse(&self, text: &str) -> Result<Named, TokenError> {
        let token: ShmToken = text.parse()?;
        Ok(Named { codec: self.name(), session: Some(token.session), slice: token.slice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Shows that every token is read back from its text, and that those past the end are refused.
        #[test]
        fn is_read_back(session: [u8; 16], offset: u64, bytes: u64, number: u32) {
            let session = SessionId::from_bytes(session);
            if let Some(token) = ShmToken::once(session, offset, bytes, number) {
                prop_assert_eq!(token.to_string().parse(), Ok(token));
                prop_assert_eq!(token.slice().key(), RemoteKey(number));
            }
            match ShmToken::new(session, offset, bytes) {
                Some(token) => prop_assert_eq!(token.to_string().parse(), Ok(token)),
                None => {
                    let text = format!("shm:{}:{offset:016x}:{bytes:016x}", Hex(&session.to_bytes()));
                    prop_assert_eq!(text.parse::<ShmToken>(), Err(TokenError::Malformed));
                }
            }
        }
    }
}
