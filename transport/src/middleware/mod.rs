//! What stands between a transport and its users: it looks at every operation, and may delay it or make it fail.
//!
//! ```text
//!   Wrapped<T>   is a transport itself, and passes the conformance suite if T does and nothing is made to fail
//!     operation ──► before: Pass ──► inner session ──► after ──► completion
//!                           Delay(polls) ──┘             ▲
//!                           Fail(error) ─────────────────┘   the inner session never sees it
//! ```
//!
//! There is no fate that drops an operation or lets it pass those before it. Operations of a session complete in the order of their posts, which
//! users of a session rely on and the conformance suite asks for: one that is overtaken is a transport with a fault, and none that users have to
//! bear. And one that never completes has its memory for as long as its session lives, which a wrapper can not end: it would take away what it
//! was lent. Both are what a card does inside: [`simulated`](crate::simulated) loses packets and sends them again, lets sessions
//! overtake each other, falls silent and breaks connections, by seed. A `Delay` of `u32::MAX` polls is an operation that hangs until its session ends.
//!
//! [`Tracer`] writes operations to the log and counts them. [`Recorder`] keeps the last of them. [`Faults`] delays and fails them by seed, the same way in every run.

mod faults;
mod recorder;
mod tracer;
mod wrapped;

pub use faults::Faults;
pub use recorder::{Recorded, Recorder};
pub use tracer::{Counts, Tracer};
pub use wrapped::Wrapped;

use crate::remote::{Access, SessionId, TransferError};

/// An operation that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observed {
    /// Its session.
    pub session: SessionId,
    /// What is done with the client's memory.
    pub access: Access,
    /// How many bytes it is to move.
    pub bytes: u64,
}

/// What becomes of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes on.
    Pass,
    /// It goes on after so many polls, and those behind it on its session wait with it: order is kept.
    Delay(u32),
    /// It does not go on, and completes with this error when those before it are done.
    Fail(TransferError),
}

/// A look at the operations of one core.
pub trait Middleware {
    /// Called at the post.
    fn before(&self, operation: &Observed) -> Fate;

    /// Called when the operation is done, before its completion.
    fn after(&self, operation: &Observed, result: Result<u32, TransferError>);
}
