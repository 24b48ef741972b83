//! HTTP/1.1 as S3 uses it: request heads in, reply heads out, and the framing of bodies (RFC 9112).

mod head;

pub use head::{Headers, Method, RequestHead};
