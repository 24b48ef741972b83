//! One module a target: `run` tries an input, `seeds` are inputs that get far.

pub mod bucket_policy;
pub mod checkpoint_chunk;
pub mod chunked_body;
pub mod client_reply;
pub mod header_values;
pub mod log_batch;
pub mod log_entry;
pub mod object_headers;
pub mod operation;
pub mod post_form;
pub mod presigned_query;
pub mod put_request;
pub mod rdma_token;
pub mod request_documents;
pub mod request_head;
pub mod signature;
pub mod store_vs_model;
pub mod superblock;
pub mod typed_request;

use crossdock::layout::SecretKey;

/// The key of every store that is fuzzed: without it no mutation of a keyed structure would be looked into.
const KEY: SecretKey = SecretKey(*b"secret of a fuzz");
