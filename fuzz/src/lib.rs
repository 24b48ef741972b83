//! Fuzz targets: a function of bytes for every decoder that sees bytes from a network or a disk, and one for the whole engine
//! against the model of a store.
//!
//! ```text
//!   cargo test -p crossdock-fuzz      seeds, found inputs, and a bounded count of mutations of both
//!   cargo xtask fuzz whole_request    libFuzzer, for as long as you like
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
pub mod vocabulary;

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its program, its file and its directory of found inputs.
    pub name: &'static str,
    /// Tries one input; panics if a property does not hold.
    pub run: fn(&[u8]),
    /// Inputs that its decoder accepts.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How much longer it takes for an input than the others, about: so many times fewer are tried in a bounded run.
    pub cost: u64,
}

impl Target {
    const fn new(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
        Target { name, run, seeds, cost: 1 }
    }

    /// The same, of which so many times fewer inputs are tried.
    const fn costing(self, cost: u64) -> Target {
        Target { cost, ..self }
    }
}

/// The targets of the S3 protocol, which needs no engine.
pub const PROTOCOL: &[Target] = &[
    Target::new("request_head", targets::request_head::run, targets::request_head::seeds),
    Target::new("chunked_body", targets::chunked_body::run, targets::chunked_body::seeds),
    Target::new("signature", targets::signature::run, targets::signature::seeds),
    Target::new("header_values", targets::header_values::run, targets::header_values::seeds),
    Target::new("operation", targets::operation::run, targets::operation::seeds),
    Target::new("typed_request", targets::typed_request::run, targets::typed_request::seeds),
    Target::new("presigned_query", targets::presigned_query::run, targets::presigned_query::seeds),
    Target::new("request_documents", targets::request_documents::run, targets::request_documents::seeds),
    Target::new("bucket_policy", targets::bucket_policy::run, targets::bucket_policy::seeds),
    Target::new("post_form", targets::post_form::run, targets::post_form::seeds),
    Target::new("object_headers", targets::object_headers::run, targets::object_headers::seeds),
    Target::new("put_request", targets::put_request::run, targets::put_request::seeds),
    Target::new("whole_request", targets::whole_request::run, targets::whole_request::seeds).costing(4),
    Target::new("structured_request", targets::structured_request::run, targets::structured_request::seeds)
        .costing(4),
];

/// The targets of the engine, the transports and the client.
#[cfg(feature = "engine")]
pub const ENGINE: &[Target] = &[
    Target::new("rdma_token", targets::rdma_token::run, targets::rdma_token::seeds),
    // Memory is handed over for each input.
    Target::new("shm_lines", targets::shm_lines::run, targets::shm_lines::seeds).costing(100),
    Target::new("client_reply", targets::client_reply::run, targets::client_reply::seeds),
    Target::new("log_batch", targets::log_batch::run, targets::log_batch::seeds),
    Target::new("log_entry", targets::log_entry::run, targets::log_entry::seeds),
    Target::new("superblock", targets::superblock::run, targets::superblock::seeds),
    Target::new("checkpoint_chunk", targets::checkpoint_chunk::run, targets::checkpoint_chunk::seeds),
    // A whole engine runs for each input.
    Target::new("store_vs_model", targets::store_vs_model::run, targets::store_vs_model::seeds).costing(1000),
];

/// The targets of the engine: none in a build without it.
#[cfg(not(feature = "engine"))]
pub const ENGINE: &[Target] = &[];

/// Every target of this build.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    PROTOCOL.iter().chain(ENGINE)
}
