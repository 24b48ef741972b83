//! S3 over RDMA, from a client's memory to the store and back, on whatever card this host has: soft-RoCE in the machine that
//! `cargo xtask vm` makes.

#![allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../it/bench.rs"]
mod bench;
mod faults;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../it/log.rs"]
mod log;
mod objects;
mod peer;
