//! What goes over the stream, all numbers little endian.
//!
//! ```text
//!   request   0      1          9         17     21              answer   0        1
//!             kind   address    bytes     key    (write: bytes)           status   (read, done: bytes)
//!             1 read, 2 write                                             0 done, 1 refused
//! ```
//!
//! Answers come in the order of the requests.

use crossdock_transport::remote::{Access, RemoteKey, RemoteSlice};

pub(crate) const REQUEST_BYTES: usize = 21;

/// A request, without the bytes that follow a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    pub(crate) access: Access,
    pub(crate) slice: RemoteSlice,
}

impl Request {
    pub(crate) fn to_bytes(self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        let kind = [if self.access == Access::Read { 1 } else { 2 }];
        let fields = [
            &kind[..],
            &self.slice.address().to_le_bytes(),
            &self.slice.bytes().to_le_bytes(),
            &self.slice.key().0.to_le_bytes(),
        ];
        bytes.iter_mut().zip(fields.concat()).for_each(|(byte, field)| *byte = field);
        bytes
    }

    /// None if the kind is none, or the slice ends past the last address.
    pub(crate) fn parse(bytes: &[u8; REQUEST_BYTES]) -> Option<Request> {
        let (kind, rest) = bytes.split_first()?;
        let (address, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let key = RemoteKey(u32::from_le_bytes(*rest.first_chunk()?));
        let access = match kind {
            1 => Access::Read,
            2 => Access::Write,
            _ => return None,
        };
        let slice = RemoteSlice::new(u64::from_le_bytes(*address), u64::from_le_bytes(*length), key)?;
        Some(Request { access, slice })
    }
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Done,
    Refused,
}

impl Status {
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Refused => 1,
        }
    }

    pub(crate) fn parse(byte: u8) -> Option<Status> {
        match byte {
            0 => Some(Status::Done),
            1 => Some(Status::Refused),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_back() {
        // Shows that requests survive the stream, and that broken ones are none.
        for (access, address, bytes, key) in [
            (Access::Read, 0, 0, 0),
            (Access::Write, u64::MAX - 7, 7, u32::MAX),
            (Access::Read, 258, 1 << 30, 9),
        ] {
            let request =
                Request { access, slice: RemoteSlice::new(address, bytes, RemoteKey(key)).unwrap() };
            assert_eq!(Request::parse(&request.to_bytes()), Some(request));
        }
        assert_eq!(Request::parse(&[3; REQUEST_BYTES]), None, "a kind that is none");
        let mut past = [0xff; REQUEST_BYTES];
        past[0] = 1;
        assert_eq!(Request::parse(&past), None, "past the last address");
        assert_eq!((0..=255).filter(|byte| Status::parse(*byte).is_some()).count(), 2);
    }
}
