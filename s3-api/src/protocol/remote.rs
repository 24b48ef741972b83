//! S3 over RDMA, the words: what a request proposes, and what a reply says became of it.
//!
//! ```text
//!   request   ordinary and signed, without a body, with x-amz-rdma-token: the client's memory
//!   reply     x-amz-rdma-reply: 200 or 206, x-amz-rdma-bytes-transferred: moved; the reply's own body is empty
//!             x-amz-rdma-reply: 501: declined; a GET's bytes are in the body, of a PUT nothing was stored
//! ```
//!
//! The server moves the bytes, the client is passive: a GET is written into its memory, a PUT read from it.
#![deny(clippy::indexing_slicing)]

use super::auth::PayloadMode;
use super::checksum::{Algorithm, Checksum, RequestChecksum, request_checksum};
use super::error::{ErrorCode, S3Error};
use super::http::{BodyFraming, Headers, Method};
use super::operation::OperationName;
use super::reply::{Reply, ReplyBody};
use core::time::Duration;

/// Names the client's memory, and makes a request one of these.
pub const TOKEN: &str = "x-amz-rdma-token";
/// What other servers of the field take a token from. They are not read here: nothing says that they are signed. But a PUT without a body that
/// has one of them means the bytes in its client's memory, and is refused, where an empty object would be stored otherwise.
pub const FOREIGN_TOKENS: [&str; 2] = ["x-rdma-info", "x-scal-rdma"];
/// What became of it: a status of its own.
pub const REPLY: &str = "x-amz-rdma-reply";
/// How many bytes were moved, in decimal.
pub const BYTES_TRANSFERRED: &str = "x-amz-rdma-bytes-transferred";
/// Of a GET without a range: how many bytes the object has. What was moved is all of it exactly if the count is the same.
pub const OBJECT_SIZE: &str = "x-amz-rdma-object-size";
/// CRC-64/NVME of the bytes that a GET moved, as `x-amz-checksum-crc64nvme` has it: also of a range, where S3 says nothing.
pub const BYTES_CHECKSUM: &str = "x-amz-rdma-checksum-crc64nvme";
/// How long after the head's first byte the server may begin to move bytes, in milliseconds.
pub const TIMEOUT: &str = "x-amz-rdma-timeout-ms";
/// The session of a connect, a bind or a disconnect, 32 hex digits.
pub const SESSION: &str = "x-amz-rdma-session";
/// What names of further values of a connect and its answer begin with.
pub const PARAMETER: &str = "x-amz-rdma-";
/// Says [`UNSUPPORTED`] where a dialect or a kind of token is not served, and [`NO_SESSION`].
pub const PROTOCOL_STATUS: &str = "x-amz-rdma-protocol-status";

/// With a reply about bytes that were moved: which of the server's rails they went over, as its list of transports has them. Absent where
/// there is one way only, which needs no name.
pub const RAIL: &str = "x-amz-rdma-rail";
/// With a reply: that the exposure which the request's token made by itself has ended.
pub const EXPOSURE: &str = "x-amz-rdma-exposure";
/// Its value.
pub const EXPOSURE_ENDED: &str = "ended";
/// [`PROTOCOL_STATUS`] of what is not served: not now, and not for another object.
pub const UNSUPPORTED: &str = "unsupported";
/// [`PROTOCOL_STATUS`] of a 404 that is about the session and not about the object.
pub const NO_SESSION: &str = "no-session";

/// How long after the head bytes may begin to move, unless the client says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest that a client may ask for.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// What the client offers: that its memory be used instead of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The client's memory, as its codec writes it; not looked at here.
    pub token: Redacted,
    /// How long after the head bytes may begin to move.
    pub timeout: Duration,
}

/// A token: whoever has it may reach the memory, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Redacted(pub Box<str>);

impl core::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Redacted({} bytes)", self.0.len())
    }
}

impl Proposal {
    /// What `headers` propose for `operation`; nothing for operations that move no object's bytes, whatever they carry.
    ///
    /// # Errors
    /// 400 `InvalidRDMAToken` for two tokens, or one that is no text; 400 `InvalidRequest` if the request brings a body or says
    /// that it does, or if it is a PUT that brings none and has a token of [`FOREIGN_TOKENS`] instead; 400 `InvalidArgument` for a timeout
    /// that is none.
    pub fn of(
        operation: OperationName,
        headers: &Headers,
        framing: BodyFraming,
        payload: &PayloadMode,
    ) -> Result<Option<Proposal>, S3Error> {
        use OperationName as O;
        if !matches!(operation, O::GetObject | O::PutObject | O::UploadPart) {
            return Ok(None);
        }
        let is_empty = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        let mut tokens = headers.all(TOKEN);
        let Some(token) = tokens.next() else {
            let foreign = FOREIGN_TOKENS.into_iter().find(|name| headers.contains(name));
            return match foreign.filter(|_| is_empty && operation != O::GetObject) {
                Some(name) => Err(foreign_token(name)),
                None => Ok(None),
            };
        };
        if tokens.next().is_some() {
            return Err(ErrorCode::InvalidRdmaToken.into());
        }
        let token = core::str::from_utf8(token).map_err(|_| ErrorCode::InvalidRdmaToken)?;
        let is_plain = matches!(payload, PayloadMode::Unsigned | PayloadMode::Sha256(_));
        if !is_empty || !is_plain || headers.contains("x-amz-trailer") {
            return Err(S3Error::with_message(
                ErrorCode::InvalidRequest,
                "A request with x-amz-rdma-token has no body: the token names the bytes.",
            ));
        }
        let timeout = match headers.text(TIMEOUT) {
            None if headers.contains(TIMEOUT) => return Err(invalid_timeout("")),
            None => TIMEOUT_DEFAULT,
            Some(text) => parse_timeout(text).ok_or_else(|| invalid_timeout(text))?,
        };
        Ok(Some(Proposal { token: Redacted(token.trim().into()), timeout }))
    }
}

fn foreign_token(name: &'static str) -> S3Error {
    S3Error::with_message(
        ErrorCode::InvalidRequest,
        "The header that names the client's memory is x-amz-rdma-token here. Nothing was stored: send it, or the bytes in a body.",
    )
    .field("Header", name)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let timeout = Duration::from_millis(digits.then(|| text.parse().ok()).flatten()?);
    (!timeout.is_zero() && timeout <= TIMEOUT_MAX).then_some(timeout)
}

fn invalid_timeout(value: &str) -> S3Error {
    S3Error::invalid_argument(TIMEOUT, value, "The timeout is 1 to 600000 milliseconds.")
}

/// The checksum that a PUT without a body brings for the bytes in the client's memory.
///
/// # Errors
/// As [`request_checksum`]; 400 `InvalidRequest` for one in a trailer, because there is none.
pub fn memory_checksum(headers: &Headers) -> Result<RequestChecksum, S3Error> {
    match request_checksum(headers)? {
        RequestChecksum::Trailer(_) => Err(ErrorCode::InvalidRequest.into()),
        checksum => Ok(checksum),
    }
}

/// The reply to a GET whose bytes were moved, of an object of `size` bytes: `reply` is what would have gone before them in a body.
pub fn moved(mut reply: Reply, bytes: u64, size: u64, crc64: u64) -> Reply {
    reply.body = ReplyBody::Empty;
    let status = reply.status;
    // A range says the size by itself.
    let size = (status == 200).then(|| size.to_string());
    let checksum = Checksum::from_crc(Algorithm::Crc64Nvme, crc64);
    reply
        .header(REPLY, status.to_string())
        .header(BYTES_TRANSFERRED, bytes.to_string())
        .optional(OBJECT_SIZE, size)
        .optional(BYTES_CHECKSUM, checksum.map(|checksum| checksum.to_string()))
}

/// The reply to a PUT whose bytes were taken and stored.
pub fn taken(reply: Reply, bytes: u64) -> Reply {
    reply.header(REPLY, "200").header(BYTES_TRANSFERRED, bytes.to_string())
}

/// The reply to a GET that was declined: the bytes follow in its body.
pub fn declined(reply: Reply) -> Reply {
    reply.header(REPLY, "501")
}

/// Requests about sessions. Their paths begin with a dot, as no bucket's name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// `POST /.s3rdma-rc/connect`: connect a queue pair.
    Connect,
    /// `POST /.s3rdma-rc/disconnect`: end a session.
    Disconnect,
    /// `POST /.crossdock-shm/bind`: a session of shared memory becomes the sender's.
    Bind,
    /// `GET /.crossdock/transports`: what this server can move bytes by.
    Transports,
    /// `/.hipobj-rc/…`: another dialect, which is not spoken. Its clients sign as this one's do not, so that it is answered whoever asks.
    Foreign,
}

/// The answer to [`Control::Foreign`].
pub fn foreign() -> Reply {
    let mut reply = Reply::new(501).header(PROTOCOL_STATUS, UNSUPPORTED);
    reply.body = ReplyBody::Empty;
    reply
}

impl Control {
    /// The request of that path; none if it is about buckets and objects.
    ///
    /// # Errors
    /// 405 `MethodNotAllowed`.
    pub fn of(method: Method, path: &str) -> Result<Option<Control>, S3Error> {
        let (control, wanted) = match path {
            "/.s3rdma-rc/connect" => (Control::Connect, Method::Post),
            "/.s3rdma-rc/disconnect" => (Control::Disconnect, Method::Post),
            "/.crossdock-shm/bind" => (Control::Bind, Method::Post),
            "/.crossdock/transports" => (Control::Transports, Method::Get),
            _ if path.starts_with("/.hipobj-rc/") => return Ok(Some(Control::Foreign)),
            _ => return Ok(None),
        };
        if method == wanted { Ok(Some(control)) } else { Err(ErrorCode::MethodNotAllowed.into()) }
    }
}

/// A session's name as requests write it.
pub fn parse_session(text: &str) -> Option<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
    Some(number.to_be_bytes())
}

/// The same, written.
pub fn format_session(session: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(session))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        pairs.iter().for_each(|(name, value)| headers.push(name, value.as_bytes()));
        headers
    }

    fn propose(operation: OperationName, pairs: &[(&str, &str)]) -> Result<Option<Proposal>, ErrorCode> {
        let proposal =
            Proposal::of(operation, &headers(pairs), BodyFraming::Length(0), &PayloadMode::Unsigned);
        proposal.map_err(|error| error.code)
    }

    #[test]
    fn a_token_makes_a_proposal_of_three_operations() {
        // Shows which operations heed the header, and that two tokens are refused.
        for operation in [OperationName::GetObject, OperationName::PutObject, OperationName::UploadPart] {
            let proposal = propose(operation, &[(TOKEN, " shm:1 ")]).unwrap().unwrap();
            assert_eq!((&*proposal.token.0, proposal.timeout), ("shm:1", TIMEOUT_DEFAULT));
            assert_eq!(propose(operation, &[]), Ok(None));
            assert_eq!(propose(operation, &[(TOKEN, "a"), (TOKEN, "a")]), Err(ErrorCode::InvalidRdmaToken));
        }
        assert_eq!(propose(OperationName::HeadObject, &[(TOKEN, "a"), (TOKEN, "a")]), Ok(None));
    }

    #[test]
    fn a_proposal_has_no_body() {
        // Shows that a body, chunks or a trailer beside a token are refused: whose bytes would be stored?
        let token = headers(&[(TOKEN, "a")]);
        let of = |framing, payload| Proposal::of(OperationName::PutObject, &token, framing, &payload);
        assert!(of(BodyFraming::None, PayloadMode::Unsigned).is_ok());
        for framing in [BodyFraming::Length(1), BodyFraming::Chunked] {
            assert_eq!(of(framing, PayloadMode::Unsigned).unwrap_err().code, ErrorCode::InvalidRequest);
        }
        let streaming = PayloadMode::parse(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER").unwrap();
        assert_eq!(of(BodyFraming::Length(0), streaming).unwrap_err().code, ErrorCode::InvalidRequest);
        let trailer = [(TOKEN, "a"), ("x-amz-trailer", "x-amz-checksum-crc32")];
        assert_eq!(propose(OperationName::PutObject, &trailer), Err(ErrorCode::InvalidRequest));
    }

    #[test]
    fn tokens_of_other_servers_store_nothing() {
        // Shows that a PUT whose bytes are in memory that nobody here reads is refused, and not taken for an empty object; that one with a
        // body is one as any other, and so is a GET, which answers in a body; and that our own header is what counts beside them.
        let propose_with = |operation, names: &[&str], framing| {
            let pairs: Vec<(&str, &str)> = names.iter().map(|name| (*name, "a")).collect();
            let proposal = Proposal::of(operation, &headers(&pairs), framing, &PayloadMode::Unsigned);
            proposal.map(|proposal| proposal.is_some()).map_err(|error| error.code)
        };
        for foreign in FOREIGN_TOKENS {
            for put in [OperationName::PutObject, OperationName::UploadPart] {
                for framing in [BodyFraming::None, BodyFraming::Length(0)] {
                    assert_eq!(propose_with(put, &[foreign], framing), Err(ErrorCode::InvalidRequest));
                    assert_eq!(propose_with(put, &[foreign, TOKEN], framing), Ok(true));
                }
                assert_eq!(propose_with(put, &[foreign], BodyFraming::Length(1)), Ok(false));
                assert_eq!(propose_with(put, &[foreign], BodyFraming::Chunked), Ok(false));
            }
            assert_eq!(propose_with(OperationName::GetObject, &[foreign], BodyFraming::None), Ok(false));
            assert_eq!(propose_with(OperationName::CopyObject, &[foreign], BodyFraming::None), Ok(false));
        }
    }

    #[test]
    fn timeouts_are_bounded() {
        // Shows what is read as a timeout, and that nothing else is taken for the default.
        let timeout = |text| propose(OperationName::GetObject, &[(TOKEN, "a"), (TIMEOUT, text)]);
        assert_eq!(timeout("1").unwrap().unwrap().timeout, Duration::from_millis(1));
        assert_eq!(timeout("600000").unwrap().unwrap().timeout, TIMEOUT_MAX);
        for bad in ["", "0", "-1", "+1", "1.5", "600001", "99999999999999999999", " 1"] {
            assert_eq!(timeout(bad), Err(ErrorCode::InvalidArgument), "{bad}");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        // Shows that no log line gives the memory away.
        let proposal = propose(OperationName::GetObject, &[(TOKEN, "rc:secret")]).unwrap();
        assert!(!format!("{proposal:?}").contains("secret"));
    }

    proptest! {
        /// Shows that sessions are read back, and that nothing else is a session.
        #[test]
        fn sessions_are_read_back(session: [u8; 16], other in "[0-9a-fg+ -]{0,40}") {
            prop_assert_eq!(parse_session(&format_session(session)), Some(session));
            let is_hex = other.len() == 32 && other.bytes().all(|byte| byte.is_ascii_hexdigit());
            prop_assert_eq!(parse_session(&other).is_some(), is_hex);
        }
    }
}
