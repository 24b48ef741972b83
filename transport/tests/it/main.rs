//! The driver of a core and what runs on it, on the real kernel. Every test of a ring runs on both drivers.

#![allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]

mod drive;
mod exposure;
mod files;
mod loopback;
mod memory;
mod middleware;
mod operation;
mod polling;
mod rings;
mod shm;
mod simulated;
mod soak;
mod streams;
mod through;
mod unasked;
