//! The S3 protocol as a library.
//!
//! [`protocol`] is sans-IO: bytes in, typed operations and bytes out. It holds no socket, no clock and no
//! engine, and builds alone with `--no-default-features`.

#[cfg(feature = "client")]
pub mod client;
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod service;
