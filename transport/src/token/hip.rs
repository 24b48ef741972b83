//! Tokens that carry a queue pair: what Reliable Connections are set up with.
//!
//! ```text
//!   byte  0           1           5      21     25        33       41     42       44
//!         transport   queue pair  GID    rkey   address   length   port   LID
//!         0 DC, 1 RC  u32         16     u32    u64       u64      u8     u16        integers little endian, all in hex
//!   optionally followed by :<address hex>:<size hex>, which count instead
//! ```

use super::{
    Codec, Named, TokenError,
    hex::{self, Hex},
    without_end,
};
use crate::remote::{RemoteKey, RemoteSlice};
use std::{fmt, str::FromStr};

const BYTES: usize = 44;

/// Which kind of queue pair it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HipTransport {
    /// Dynamically Connected.
    Dc = 0,
    /// Reliable Connection.
    Rc = 1,
}

/// A queue pair, and memory (all zeros when a connection is set up).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HipToken {
    /// The kind of queue pair.
    pub transport: HipTransport,
    /// Its number, 24 bits.
    pub queue_pair: u32,
    /// The address of its port.
    pub gid: [u8; 16],
    /// The memory.
    pub slice: RemoteSlice,
    /// The number of the port, from 1.
    pub port: u8,
    /// The local identifier of the port; 0 on Ethernet.
    pub lid: u16,
}

impl FromStr for HipToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<HipToken, TokenError> {
        let text = without_end(text);
        let (main, behind) = match text.split_once(':') {
            Some((main, behind)) => (main, Some(behind)),
            None => (text, None),
        };
        // More fields than may follow are another codec's shape: seven of them are a Dynamically Connected target.
        let fields_behind = behind.map_or(0, |behind| behind.split(':').count());
        if main.len() != 2 * BYTES || !hex::is_hex(main) || fields_behind > 2 {
            return Err(TokenError::Unknown);
        }
        well_formed(main, behind).ok_or(TokenError::Malformed)
    }
}

/// Takes integers from the front of the bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, behind) = self.0.split_first_chunk()?;
        self.0 = behind;
        Some(*front)
    }
}

fn well_formed(main: &str, behind: Option<&str>) -> Option<HipToken> {
    let bytes = hex::bytes::<BYTES>(main)?;
    let mut reader = Reader(&bytes);
    let transport = match reader.take()? {
        [0] => HipTransport::Dc,
        [1] => HipTransport::Rc,
        _ => return None,
    };
    let queue_pair = u32::from_le_bytes(reader.take()?);
    let gid = reader.take()?;
    let key = RemoteKey(u32::from_le_bytes(reader.take()?));
    let (mut address, mut length) = (u64::from_le_bytes(reader.take()?), u64::from_le_bytes(reader.take()?));
    let [port] = reader.take()?;
    let lid = u16::from_le_bytes(reader.take()?);
    if let Some(behind) = behind {
        let (address_text, length_text) = behind.split_once(':')?;
        (address, length) = (any_width(address_text)?, any_width(length_text)?);
    }
    let slice = RemoteSlice::new(address, length, key)?;
    (queue_pair < 1 << 24).then_some(HipToken { transport, queue_pair, gid, slice, port, lid })
}

/// 1 to 16 hex digits.
fn any_width(text: &str) -> Option<u64> {
    if (1..=16).contains(&text.len()) { hex::number(text, text.len()) } else { None }
}

impl fmt::Display for HipToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, length) = (self.slice.address().to_le_bytes(), self.slice.bytes().to_le_bytes());
        write!(formatter, "{:02x}{}", self.transport as u8, Hex(&self.queue_pair.to_le_bytes()))?;
        write!(formatter, "{}{}", Hex(&self.gid), Hex(&self.slice.key().0.to_le_bytes()))?;
        write!(formatter, "{}{}", Hex(&address), Hex(&length))?;
        write!(formatter, "{:02x}{}", self.port, Hex(&self.lid.to_le_bytes()))
    }
}

pub(super) struct Hip;

impl Codec for Hip {
    fn name(&self) -> &'static str {
        "hip"
    }

    fn parse(&self, text: &str) -> Result<Named, TokenError> {
        let token: HipToken = text.parse()?;
        Ok(Named { codec: self.name(), session: None, slice: token.slice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_lie_where_the_picture_says() {
        // Shows the place and the byte order of every field, and that what is appended counts.
        let (gid, key, address, length) =
            ("ab".repeat(16), "04030201", "0010000000000000", "0020000000000000");
        let text = format!("0144332200{gid}{key}{address}{length}020701");
        let token: HipToken = text.parse().unwrap();
        assert_eq!((token.transport, token.queue_pair, token.gid), (HipTransport::Rc, 0x22_3344, [0xab; 16]));
        assert_eq!((token.slice.key(), token.slice.address()), (RemoteKey(0x0102_0304), 0x1000));
        assert_eq!((token.slice.bytes(), token.port, token.lid), (0x2000, 2, 0x0107));
        assert_eq!(token.to_string(), text);
        let moved: HipToken = format!("{text}:f000:1").parse().unwrap();
        assert_eq!((moved.slice.address(), moved.slice.bytes()), (0xf000, 1));
        for wrong in [":", ":1", ":1:", ":ffffffffffffffff:1", ":00000000000000001:1"] {
            assert_eq!(format!("{text}{wrong}").parse::<HipToken>(), Err(TokenError::Malformed), "{wrong}");
        }
        assert_eq!(format!("{text}:1:2:3").parse::<HipToken>(), Err(TokenError::Unknown));
        assert_eq!(text.replacen("01", "02", 1).parse::<HipToken>(), Err(TokenError::Malformed));
        assert_eq!(
            text.replacen("00", "01", 1).parse::<HipToken>(),
            Err(TokenError::Malformed),
            "a number of 25 bits"
        );
    }

    proptest! {
        /// Shows that every token is read back from its text.
        #[test]
        fn is_read_back(
            rc: bool, queue_pair in 0u32..1 << 24, gid: [u8; 16], key: u32,
            address in ..u64::MAX >> 1, bytes in ..u64::MAX >> 1, port: u8, lid: u16,
        ) {
            let transport = if rc { HipTransport::Rc } else { HipTransport::Dc };
            let slice = RemoteSlice::new(address, bytes, RemoteKey(key)).unwrap();
            let token = HipToken { transport, queue_pair, gid, slice, port, lid };
            let text = token.to_string();
            prop_assert_eq!(text.len(), 88);
            prop_assert_eq!(text.parse(), Ok(token));
        }
    }
}
