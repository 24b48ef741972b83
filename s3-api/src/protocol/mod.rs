//! S3 over HTTP/1.1 without I/O: bytes in, typed operations and bytes out.
//!
//! Nothing here reads a socket, a clock or a source of randomness: the caller hands in bytes and the time,
//! and gets decisions and bytes back.

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
