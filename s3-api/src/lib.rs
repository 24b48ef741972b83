//! The S3 protocol as a library.
//!
//! [`protocol`] is sans-IO: bytes in, typed operations and bytes out. It holds no socket, no clock and no
//! engine, and builds alone with `--no-default-features`.
//!
//! | feature | what |
//! |---|---|
//! | `server` | the service on the engine, and an HTTP/1.1 server on the engine's cores |
//! | `tls` | HTTPS for that server and for the client, with rustls and the cryptography of your choice |
//! | `http` | the service behind another HTTP stack, such as hyper or axum |
//! | `client` | a client that moves bytes over a transport where it can |
//!
//! All are on by default.

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "http")]
pub mod http;
pub mod protocol;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod service;
#[cfg(all(feature = "tls", any(feature = "server", feature = "client")))]
mod tls;
