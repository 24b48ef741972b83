//! One module a target: `run` tries an input, `seeds` are inputs that get far.

pub mod bucket_policy;
#[cfg(feature = "engine")]
pub mod checkpoint_chunk;
pub mod chunked_body;
#[cfg(feature = "engine")]
pub mod client_reply;
pub mod header_values;
#[cfg(feature = "engine")]
pub mod log_batch;
#[cfg(feature = "engine")]
pub mod log_entry;
pub mod object_headers;
pub mod operation;
pub mod post_form;
pub mod presigned_query;
pub mod put_request;
#[cfg(feature = "engine")]
pub mod rdma_token;
pub mod request_documents;
pub mod request_head;
#[cfg(feature = "engine")]
pub mod shm_lines;
pub mod signature;
#[cfg(feature = "engine")]
pub mod store_vs_model;
pub mod structured_request;
#[cfg(feature = "engine")]
pub mod superblock;
pub mod typed_request;
pub mod whole_request;

#[cfg(feature = "engine")]
use crossdock::layout::SecretKey;

/// The key of every store that is fuzzed: without it no mutation of a keyed structure would be looked into.
#[cfg(feature = "engine")]
const KEY: SecretKey = SecretKey(*b"secret of a fuzz");
