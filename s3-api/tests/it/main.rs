//! The service and its server, asked over sockets.

#![allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]

mod access_log;
mod bench;
mod cancelled;
mod client;
mod conditions;
mod configurations;
mod copies;
mod coverage;
mod facts;
mod faults;
mod fences;
mod hostile;
mod http_front;
mod identities;
mod log;
mod long_work;
mod many_at_once;
mod multipart;
mod pace;
mod poison;
mod pressure;
mod remote;
mod renewal;
mod revoked;
mod rights;
mod steering;
mod tls;
mod tls_client;
mod together;
mod unsigned;
mod uploads;
mod vectors;
mod wire;
mod withheld;
