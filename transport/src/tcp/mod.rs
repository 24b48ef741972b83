//! Byte streams on the ring of a core.
//!
//! ```text
//!   receive: socket ─► the free end of a lease          send: pieces of leases ─► socket, in one call
//! ```
//!
//! Invariants:
//! * A lease that is received into, or sent from, belongs to the kernel's operation until that is done; dropping the
//!   future only asks the kernel to hurry. That is how callers set time limits.
//! * A socket is closed when its last clone and its last operation are gone.
//! * Bytes wait for nothing: `TCP_NODELAY` is always set, because a reply is given to the kernel as a whole.

mod listener;
mod stream;

pub use listener::TcpListener;
pub use stream::{Detached, TcpStream};
