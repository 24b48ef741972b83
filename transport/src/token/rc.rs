//! Tokens for Reliable Connections that were set up before: `rc:<session:32>:<address:16>:<size:8 to 16>:<rkey:8>`.

use super::{
    Codec, Named, TokenError,
    hex::{self, Hex},
    without_end,
};
use crate::remote::{RemoteKey, RemoteSlice, SessionId};
use std::{fmt, str::FromStr};

/// Memory, and the connection that reaches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RcToken {
    /// The connection.
    pub session: SessionId,
    /// The memory.
    pub slice: RemoteSlice,
}

impl FromStr for RcToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<RcToken, TokenError> {
        let rest = without_end(text).strip_prefix("rc:").ok_or(TokenError::Unknown)?;
        well_formed(rest).ok_or(TokenError::Malformed)
    }
}

fn well_formed(rest: &str) -> Option<RcToken> {
    let mut fields = rest.split(':');
    let session = hex::bytes::<16>(fields.next()?)?;
    let address = hex::number(fields.next()?, 16)?;
    let size = fields.next()?;
    let bytes = if (8..=16).contains(&size.len()) { hex::number(size, size.len())? } else { return None };
    let key = hex::number(fields.next()?, 8)?;
    if fields.next().is_some() {
        return None;
    }
    let slice = RemoteSlice::new(address, bytes, RemoteKey(u32::try_from(key).ok()?))?;
    Some(RcToken { session: SessionId::from_bytes(session), slice })
}

impl fmt::Display for RcToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session = self.session.to_bytes();
        let (address, bytes, key) = (self.slice.address(), self.slice.bytes(), self.slice.key().0);
        write!(formatter, "rc:{}:{address:016x}:{bytes:08x}:{key:08x}", Hex(&session))
    }
}

pub(super) struct Rc;

impl Codec for Rc {
    fn name(&self) -> &'static str {
        "rc"
    }

    fn parse(&self, text: &str) -> Result<Named, TokenError> {
        let token: RcToken = text.parse()?;
        Ok(Named { codec: self.name(), session: Some(token.session), slice: token.slice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_have_8_to_16_digits() {
        // Shows which widths of a size are read, and that an end past the last address is refused.
        let text = |size: &str| format!("rc:{}:00000000000010ff:{size}:0000abcd", "1f".repeat(16));
        for size in ["00000010", "000000010", "0000000000000010"] {
            assert_eq!(text(size).parse::<RcToken>().unwrap().slice.bytes(), 16);
        }
        for size in ["", "0000010", "00000000000000010", "ffffffffffffffff"] {
            assert_eq!(text(size).parse::<RcToken>(), Err(TokenError::Malformed), "{size}");
        }
        let more = format!("{}:00", text("00000010"));
        assert_eq!(more.parse::<RcToken>(), Err(TokenError::Malformed));
    }

    proptest! {
        /// Shows that every token is read back from its text.
        #[test]
        fn is_read_back(session: [u8; 16], address in ..u64::MAX >> 1, bytes in ..u64::MAX >> 1, key: u32) {
            let slice = RemoteSlice::new(address, bytes, RemoteKey(key)).unwrap();
            let token = RcToken { session: SessionId::from_bytes(session), slice };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }
    }
}
