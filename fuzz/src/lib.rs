//! Fuzz targets: a function of bytes for every decoder that sees bytes from a network or a disk.
//!
//! ```text
//!   cargo nextest run -p crossdock-fuzz   seeds, found inputs, and a bounded count of mutations of both
//!   cargo xtask fuzz log_entry            libFuzzer, for as long as you like
//! ```
//!
//! Invariants:
//! * A target panics when a property breaks, and only then; that no input panics is the least of them.
//! * A target is deterministic: the same bytes do the same thing, so a found input is a test.
//! * Each has seeds that its decoder accepts, or mutation would never get past the first check.
//!
//! What is found goes into `fuzz/seeds/<target>/` and stays there.

pub mod captures;
pub mod mutate;
pub mod targets;

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its program, its file and its directory of found inputs.
    pub name: &'static str,
    /// Tries one input; panics if a property does not hold.
    pub run: fn(&[u8]),
    /// Inputs that its decoder accepts.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "request_head", run: targets::request_head::run, seeds: targets::request_head::seeds },
    Target { name: "chunked_body", run: targets::chunked_body::run, seeds: targets::chunked_body::seeds },
    Target { name: "signature", run: targets::signature::run, seeds: targets::signature::seeds },
    Target { name: "header_values", run: targets::header_values::run, seeds: targets::header_values::seeds },
    Target { name: "operation", run: targets::operation::run, seeds: targets::operation::seeds },
    Target { name: "typed_request", run: targets::typed_request::run, seeds: targets::typed_request::seeds },
    Target {
        name: "presigned_query",
        run: targets::presigned_query::run,
        seeds: targets::presigned_query::seeds,
    },
    Target {
        name: "request_documents",
        run: targets::request_documents::run,
        seeds: targets::request_documents::seeds,
    },
    Target { name: "bucket_policy", run: targets::bucket_policy::run, seeds: targets::bucket_policy::seeds },
    Target { name: "post_form", run: targets::post_form::run, seeds: targets::post_form::seeds },
    Target {
        name: "object_headers",
        run: targets::object_headers::run,
        seeds: targets::object_headers::seeds,
    },
    Target { name: "rdma_token", run: targets::rdma_token::run, seeds: targets::rdma_token::seeds },
    Target { name: "put_request", run: targets::put_request::run, seeds: targets::put_request::seeds },
    Target { name: "log_batch", run: targets::log_batch::run, seeds: targets::log_batch::seeds },
    Target { name: "log_entry", run: targets::log_entry::run, seeds: targets::log_entry::seeds },
    Target { name: "superblock", run: targets::superblock::run, seeds: targets::superblock::seeds },
    Target {
        name: "checkpoint_chunk",
        run: targets::checkpoint_chunk::run,
        seeds: targets::checkpoint_chunk::seeds,
    },
];
