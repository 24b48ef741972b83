//! Operations: which one a request asks for, and what it asks.
//!
//! ```text
//!   RequestHead ─► Resource ─► route ─► Routed ─► (body, if the operation takes a document) ─► Request
//! ```
//!
//! Invariant: what is not understood and would change the outcome is refused, never ignored.

mod name;
mod resource;
mod route;

pub use name::OperationName;
pub use resource::Resource;
pub use route::{Routed, route};
