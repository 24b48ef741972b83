//! HTTP/1.1 as S3 uses it: request heads in, reply heads out, and the framing of bodies (RFC 9112).
//!
//! ```text
//!   bytes ─► HeadParser ─► RequestHead ─┬─► body_framing      None | Length(n) | Chunked ─► ChunkedDecoder
//!                                       ├─► keep_alive        does the connection live on?
//!                                       └─► expects_continue  is the client waiting for 100 Continue?
//!   ReplyHead ─► bytes
//! ```
//!
//! Invariants: a head that two readers could frame differently is refused, never guessed (request smuggling,
//! RFC 9112 §11.2); no input panics; memory is bounded by [`HeadLimits`].

mod chunked;
mod framing;
mod head;
mod parser;
mod reply;

pub use chunked::{ChunkedDecoder, ChunkedError, Piece};
pub(crate) use framing::parse_decimal;
pub use framing::{BodyFraming, FramingError, body_framing, expects_continue, keep_alive};
pub use head::{Headers, Method, RequestHead, is_field_name, is_field_value};
pub use parser::{HeadError, HeadLimits, HeadParser, HeadStatus, ParsedHead};
pub(crate) use reply::decimal;
pub use reply::{CONTINUE, InvalidHeader, ReplyHead, reason_phrase};
