//! What client and server say to each other: packets of one line each, over a Unix socket of type `SOCK_SEQPACKET`.
//!
//! ```text
//!   client                                              server
//!   hello 1 <size:16>            and the memory file ─►
//!                                                    ◄─ session <id:32>              and again, of a session that was not used for long
//!   expose <address:16> <size:16> <offset:16> read   ─►            the server may read it from now on (a PUT's source)
//!   expose <address:16> <size:16> <offset:16> write  ─►            it may write it (a GET's target)
//!   withdraw <address:16>                            ─►
//!                                                    ◄─ withdrawn <address:16>       and no later byte moves
//!   abandon <number:8>                               ─►            a request whose reply did not come: it is not to begin any more
//!                                                    ◄─ abandoned <number:8>         and no later byte moves
//!                                                    ◄─ refused <why>                then the server hangs up
//! ```
//!
//! Numbers are lower-case hex with leading zeros. The address is how tokens name what is exposed; the offset is where it lies
//! in the memory file. A token with a number exposes a place of the file by itself, for one request, and needs no line; the request's
//! reply says that it has ended. A client chooses addresses as it likes and uses none twice, so that a token which outlives its
//! exposure names nothing. The session lives as long as the connection.

use crate::remote::{Access, RemoteKey, RemoteSlice, SessionId};
use std::fmt;

/// Bytes of the longest line there is. A longer packet is cut by the kernel, and then malformed.
pub(super) const LINE_BYTES_MAX: usize = 128;

/// The version of all this.
const VERSION: &str = "1";

/// What a client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ClientLine {
    Hello { bytes: u64 },
    Expose { slice: RemoteSlice, offset: u64, access: Access },
    Withdraw { address: u64 },
    Abandon { number: u32 },
}

/// What a server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ServerLine<'a> {
    Session(SessionId),
    Withdrawn { address: u64 },
    Abandoned { number: u32 },
    Refused(&'a str),
}

impl ClientLine {
    /// The line of that text, if it is one. Never panics.
    pub(super) fn parse(text: &[u8]) -> Option<ClientLine> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let line = match words.next()? {
            "hello" => {
                let version = words.next()?;
                let bytes = number(words.next()?)?;
                (version == VERSION).then_some(ClientLine::Hello { bytes })?
            }
            "expose" => {
                let (address, bytes) = (number(words.next()?)?, number(words.next()?)?);
                let offset = number(words.next()?)?;
                let access = match words.next()? {
                    "read" => Access::Read,
                    "write" => Access::Write,
                    _ => return None,
                };
                ClientLine::Expose { slice: RemoteSlice::new(address, bytes, RemoteKey(0))?, offset, access }
            }
            "withdraw" => ClientLine::Withdraw { address: number(words.next()?)? },
            "abandon" => ClientLine::Abandon { number: short_number(words.next()?)? },
            _ => return None,
        };
        words.next().is_none().then_some(line)
    }
}

impl<'a> ServerLine<'a> {
    /// As [`ClientLine::parse`].
    pub(super) fn parse(text: &'a [u8]) -> Option<ServerLine<'a>> {
        let (word, rest) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        match word {
            "session" => {
                let (high, low) = (rest.get(..16)?, rest.get(16..)?);
                let id = u128::from(number(high)?) << 64 | u128::from(number(low)?);
                Some(ServerLine::Session(SessionId::from_bytes(id.to_be_bytes())))
            }
            "withdrawn" => Some(ServerLine::Withdrawn { address: number(rest)? }),
            "abandoned" => Some(ServerLine::Abandoned { number: short_number(rest)? }),
            "refused" => Some(ServerLine::Refused(rest)),
            _ => None,
        }
    }
}

impl fmt::Display for ClientLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientLine::Hello { bytes } => write!(formatter, "hello {VERSION} {bytes:016x}"),
            ClientLine::Expose { slice, offset, access } => {
                let access = match access {
                    Access::Read => "read",
                    Access::Write => "write",
                };
                let (address, bytes) = (slice.address(), slice.bytes());
                write!(formatter, "expose {address:016x} {bytes:016x} {offset:016x} {access}")
            }
            ClientLine::Withdraw { address } => write!(formatter, "withdraw {address:016x}"),
            ClientLine::Abandon { number } => write!(formatter, "abandon {number:08x}"),
        }
    }
}

impl fmt::Display for ServerLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerLine::Session(id) => {
                write!(formatter, "session {:032x}", u128::from_be_bytes(id.to_bytes()))
            }
            ServerLine::Withdrawn { address } => write!(formatter, "withdrawn {address:016x}"),
            ServerLine::Abandoned { number } => write!(formatter, "abandoned {number:08x}"),
            ServerLine::Refused(why) => write!(formatter, "refused {why}"),
        }
    }
}

/// The number of exactly 16 lower-case digits of hex: one number has one text.
fn number(text: &str) -> Option<u64> {
    digits(text, 16)
}

/// The same of 8.
fn short_number(text: &str) -> Option<u32> {
    digits(text, 8)?.try_into().ok()
}

fn digits(text: &str, count: usize) -> Option<u64> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    // The standard parser alone would let a sign through.
    let digits = text.len() == count && text.bytes().all(digit);
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client_line() -> impl Strategy<Value = ClientLine> {
        let slice = (any::<u64>(), any::<u64>()).prop_filter_map("past the end", |(address, bytes)| {
            RemoteSlice::new(address, bytes, RemoteKey(0))
        });
        prop_oneof![
            any::<u64>().prop_map(|bytes| ClientLine::Hello { bytes }),
            any::<u64>().prop_map(|address| ClientLine::Withdraw { address }),
            any::<u32>().prop_map(|number| ClientLine::Abandon { number }),
            (slice, any::<u64>(), prop_oneof![Just(Access::Read), Just(Access::Write)])
                .prop_map(|(slice, offset, access)| ClientLine::Expose { slice, offset, access }),
        ]
    }

    #[test]
    fn lines_are_those_of_the_vectors() {
        // Shows that what outsiders test their own code with is what is spoken here, and what is no line.
        let text = include_str!("../../../docs/protocol/lines.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let lines = |list: &str| -> Vec<String> {
            let list = vectors.get(list).and_then(serde_json::Value::as_array).unwrap();
            list.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
        };
        for text in lines("client") {
            let line = ClientLine::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(line.to_string(), text);
        }
        for text in lines("server") {
            let line = ServerLine::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(line.to_string(), text);
        }
        for text in lines("bad") {
            assert_eq!(ClientLine::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        /// Shows that every line is read back from its text, fits a packet, and is no line when cut anywhere or longer.
        #[test]
        fn client_lines_are_read_back(line in client_line()) {
            let text = line.to_string();
            prop_assert!(text.len() < LINE_BYTES_MAX);
            prop_assert_eq!(ClientLine::parse(text.as_bytes()), Some(line));
            for end in 0..text.len() {
                prop_assert_eq!(ClientLine::parse(&text.as_bytes()[..end]), None);
            }
            prop_assert_eq!(ClientLine::parse(format!("{text} ").as_bytes()), None);
            prop_assert_eq!(ClientLine::parse(text.to_uppercase().as_bytes()), None);
        }

        /// The same for the server's.
        #[test]
        fn server_lines_are_read_back(id: [u8; 16], address: u64, number: u32) {
            let id = SessionId::from_bytes(id);
            for line in [
                ServerLine::Session(id),
                ServerLine::Withdrawn { address },
                ServerLine::Abandoned { number },
                ServerLine::Refused("holes in it"),
            ] {
                let text = line.to_string();
                prop_assert!(text.len() < LINE_BYTES_MAX);
                prop_assert_eq!(ServerLine::parse(text.as_bytes()), Some(line));
            }
        }

        /// Shows that no bytes make either side panic.
        #[test]
        fn any_bytes_are_answered(text: Vec<u8>, near in "(hello 1|expose|withdraw|abandon|session|withdrawn|abandoned|refused)[ 0-9a-f]{0,80}") {
            for text in [&text[..], near.as_bytes()] {
                let _ = (ClientLine::parse(text), ServerLine::parse(text));
            }
        }
    }
}
