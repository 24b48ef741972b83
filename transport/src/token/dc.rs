//! Tokens for Dynamically Connected queue pairs.
//!
//! ```text
//!   address:16 size:8 rkey:8 lid:4 dctn:6 has_gid:1 gid:32      hex digits, separated by colons: 81 characters
//!   ... :address:16 :size:16                                    some clients append these, which count instead: 115
//! ```
//!
//! The first form has 32 bits for a size, so it names at most 4 GiB − 1.

use super::{
    Codec, Named, TokenError,
    hex::{self, Hex},
    without_end,
};
use crate::remote::{RemoteKey, RemoteSlice};
use std::{fmt, str::FromStr};

/// A 128-bit address of a port.
type Gid = [u8; 16];

/// Memory, and the whole address of the queue pair to reach it by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DcToken {
    slice: RemoteSlice,
    lid: u16,
    target: u32,
    gid: Option<Gid>,
}

impl DcToken {
    /// A token. None if `slice` has 4 GiB or more, or the target's number more than 24 bits.
    pub fn new(slice: RemoteSlice, lid: u16, target: u32, gid: Option<Gid>) -> Option<DcToken> {
        let fits = slice.bytes() <= u64::from(u32::MAX) && target < 1 << 24;
        fits.then_some(DcToken { slice, lid, target, gid })
    }

    /// The memory.
    pub fn slice(&self) -> RemoteSlice {
        self.slice
    }

    /// The local identifier of the port; 0 on Ethernet.
    pub fn lid(&self) -> u16 {
        self.lid
    }

    /// The number of the target, 24 bits.
    pub fn target(&self) -> u32 {
        self.target
    }

    /// The address of the port, if there is one.
    pub fn gid(&self) -> Option<Gid> {
        self.gid
    }
}

impl FromStr for DcToken {
    type Err = TokenError;

    /// Reads both forms.
    fn from_str(text: &str) -> Result<DcToken, TokenError> {
        let text = without_end(text);
        let fields = text.split(':').count();
        if !matches!(fields, 7 | 9) || !text.split(':').all(|field| !field.is_empty() && hex::is_hex(field)) {
            return Err(TokenError::Unknown);
        }
        well_formed(text).ok_or(TokenError::Malformed)
    }
}

fn well_formed(text: &str) -> Option<DcToken> {
    let mut fields = text.split(':');
    let mut number = |digits| hex::number(fields.next()?, digits);
    let (address, bytes, key) = (number(16)?, number(8)?, number(8)?);
    let (lid, target, has_gid) = (number(4)?, number(6)?, number(1)?);
    let gid = hex::bytes::<16>(fields.next()?)?;
    let gid = match has_gid {
        0 => None,
        1 => Some(gid),
        _ => return None,
    };
    let (address, bytes) = match fields.next() {
        Some(address) => (hex::number(address, 16)?, hex::number(fields.next()?, 16)?),
        None => (address, bytes),
    };
    let slice = RemoteSlice::new(address, bytes, RemoteKey(u32::try_from(key).ok()?))?;
    Some(DcToken { slice, lid: u16::try_from(lid).ok()?, target: u32::try_from(target).ok()?, gid })
}

impl fmt::Display for DcToken {
    /// The short form; of a token that was read from a long one and does not fit in it, the long form.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, bytes, key) = (self.slice.address(), self.slice.bytes(), self.slice.key().0);
        let short = bytes.min(u64::from(u32::MAX));
        write!(formatter, "{address:016x}:{short:08x}:{key:08x}:{:04x}:{:06x}:", self.lid, self.target)?;
        write!(formatter, "{}:{}", u8::from(self.gid.is_some()), Hex(&self.gid.unwrap_or_default()))?;
        if bytes > short {
            write!(formatter, ":{address:016x}:{bytes:016x}")?;
        }
        Ok(())
    }
}

pub(super) struct Dc;

impl Codec for Dc {
    fn name(&self) -> &'static str {
        "dc"
    }

    fn parse(&self, text: &str) -> Result<Named, TokenError> {
        let token: DcToken = text.parse()?;
        Ok(Named { codec: self.name(), session: None, slice: token.slice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_long_form_counts() {
        // Shows that what is appended replaces address and size, and that the text is as long as clients write it.
        let short = "0000000000001000:00002000:000000aa:0000:0abcde:1:00000000000000000000ffff0a000001";
        assert_eq!(short.len(), 81);
        let token: DcToken = short.parse().unwrap();
        assert_eq!((token.slice.address(), token.slice.bytes(), token.target), (0x1000, 0x2000, 0xabcde));
        assert_eq!(token.to_string(), short);
        let long = format!("{short}:00000000000f0000:0000000200000000");
        assert_eq!(long.len(), 115);
        let token: DcToken = long.parse().unwrap();
        assert_eq!((token.slice.address(), token.slice.bytes()), (0xf0000, 0x2_0000_0000));
        assert_eq!(token.to_string().parse(), Ok(token));
        let has_gid_2 = short.replace(":1:", ":2:");
        assert_eq!(has_gid_2.parse::<DcToken>(), Err(TokenError::Malformed));
        let overflows = format!("{short}:ffffffffffffffff:0000000000000001");
        assert_eq!(overflows.parse::<DcToken>(), Err(TokenError::Malformed));
    }

    proptest! {
        /// Shows that every token is read back from its text.
        #[test]
        fn is_read_back(address in ..u64::MAX >> 1, bytes: u32, key: u32, lid: u16, target in 0u32..1 << 24, gid: Option<Gid>) {
            let slice = RemoteSlice::new(address, bytes.into(), RemoteKey(key)).unwrap();
            let token = DcToken::new(slice, lid, target, gid).unwrap();
            let text = token.to_string();
            prop_assert_eq!(text.len(), 81);
            prop_assert_eq!(text.parse(), Ok(token));
        }
    }
}
