//! S3 over HTTP/1.1 without I/O: bytes in, typed operations and bytes out.
//!
//! Nothing here reads a socket, a clock or a source of randomness: the caller hands in bytes and the time,
//! and gets decisions and bytes back. The way of a request, and the module of each step:
//!
//! ```text
//!   bytes ─► http::HeadParser ─► ParsedHead (head, framing of the body)
//!                                    │
//!                 auth::authenticate ┤─► Anonymous, or a Claim ─► (the caller looks up the secret) ─► auth::verify ─► Verified
//!                                    │                            auth::adopt_parameters, if the query is signed
//!   operation::Resource::path_style ─┤   or virtual_hosted
//!                   operation::route ┴─► Routed: which operation, on what
//!                                            │
//!   body bytes ─► body::BodyDecoder ─► payload, out of its framing; body::BodyVerifier compares its digests
//!                                            │
//!               operation::Request::parse ◄──┴── headers, and the document of an operation that takes one
//!                        │
//!   (the caller does it) ┴─► reply::Reply::write ─► bytes
//! ```
//!
//! What every function here keeps:
//!
//! * No input panics, however long, cut or hostile. All of it can be called straight from a fuzzer, on one thread, in any process.
//! * The same bytes give the same result, in whatever pieces they come.
//! * Memory is bounded by what is handed in and by limits that are arguments ([`http::HeadLimits`],
//!   [`operation::OperationName::document_bytes_max`]); nothing is allocated by a length that a peer claims.
//! * What is not understood and would change the outcome is an error with the answer that S3 gives, never a guess.
//!
//! # Examples
//!
//! From the bytes of a signed request to what it asks:
//!
//! ```
//! use crossdock_s3::protocol::auth::{Authentication, Verified, adopt_parameters, authenticate, verify};
//! use crossdock_s3::protocol::body::{BodyDecoder, BodyVerifier, DigestPlan, Expectations};
//! use crossdock_s3::protocol::checksum::request_checksum;
//! use crossdock_s3::protocol::error::{ErrorCode, S3Error};
//! use crossdock_s3::protocol::http::{HeadLimits, HeadParser, HeadStatus};
//! use crossdock_s3::protocol::operation::{Request, Resource, route};
//!
//! /// `None`: the request is not all there yet.
//! fn understand(bytes: &[u8], now_seconds: u64) -> Result<Option<Request>, S3Error> {
//!     let mut parser = HeadParser::new(HeadLimits::default());
//!     let HeadStatus::Complete(mut parsed) = parser.parse(bytes)? else { return Ok(None) };
//!     let verified = match authenticate(&parsed.head)? {
//!         Authentication::Anonymous { payload } => Verified::anonymous(payload),
//!         Authentication::Signed(claim) => {
//!             let verified = match &*claim.access_key {
//!                 "AKIAIOSFODNN7EXAMPLE" => verify(&claim, &parsed.head, "its secret", now_seconds)?,
//!                 _ => return Err(ErrorCode::InvalidAccessKeyId.into()),
//!             };
//!             adopt_parameters(&claim, &mut parsed.head)?;
//!             verified
//!         }
//!     };
//!     let routed = route(&parsed.head, Resource::path_style(&parsed.head.path)?)?;
//!     let headers = &parsed.head.headers;
//!     let checksum = request_checksum(headers)?;
//!     let mut decoder = BodyDecoder::new(headers, parsed.framing, &verified, &checksum)?;
//!     let expected = Expectations::new(headers, &verified.payload, checksum)?;
//!     let mut verifier = BodyVerifier::new(expected, DigestPlan::default());
//!     // In place: what is payload moves to the front. A server does this for each piece as it comes.
//!     let mut body = bytes[parsed.head_bytes..].to_vec();
//!     let step = decoder.decode(&mut body)?;
//!     if !decoder.is_finished() {
//!         return Ok(None);
//!     }
//!     let payload = &body[..step.payload_bytes];
//!     verifier.update(payload);
//!     verifier.finish(decoder.trailing_checksum(), None)?;
//!     let document = match routed.operation.document_bytes_max() {
//!         Some(most) if payload.len() > most => return Err(ErrorCode::MalformedXml.into()),
//!         Some(_) => payload,
//!         None => &[],
//!     };
//!     Request::parse(&routed, headers, verified.payload, document).map(Some)
//! }
//!
//! let request = understand(b"GET /photos/cat.jpg HTTP/1.1\r\nHost: s3\r\nRange: bytes=0-99\r\n\r\n", 0)?;
//! let Some(Request::GetObject(get)) = request else { panic!("{request:?}") };
//! assert_eq!((get.bucket.as_str(), get.key.as_str()), ("photos", "cat.jpg"));
//! # Ok::<(), S3Error>(())
//! ```
//!
//! `fuzz/src/targets/whole_request.rs` is the same with the properties that hold on the way.

pub mod acl;
pub mod auth;
pub mod body;
#[cfg(test)]
mod captures;
pub mod checksum;
pub mod conditions;
pub mod cors;
pub mod error;
pub mod etag;
pub mod form;
pub mod http;
mod json;
pub mod lifecycle;
pub mod lock;
pub mod md5;
pub mod metadata;
pub mod names;
pub mod operation;
pub mod ownership;
pub mod policy;
pub mod range;
pub mod remote;
pub mod reply;
pub mod tagging;
pub mod time;
pub mod xml;
