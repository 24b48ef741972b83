//! What stands between a transport and its users: it looks at every operation, and may delay it or make it fail.
//!
//! ```text
//!   Wrapped<T>   is a transport itself, and passes the conformance suite if T does and nothing is made to fail
//!     operation ──► before: Pass ──► inner session ──► after ──► completion
//!                           Delay(polls) ──┘             ▲    ▲ Late(polls), Lost: done, and told so later, or with the session's end
//!                           Fail(error) ─────────────────┘      the inner session never sees it
//! ```
//!
//! Operations of a session complete in the order of their posts, which users of a session rely on and the conformance suite asks for: one
//! that is overtaken on its own session is a transport with a fault, and none that users have to bear. So what reorders here does it
//! between sessions, of which nothing is promised: the bytes of a [`Fate::Late`] operation are moved at once, and other sessions' that were
//! posted after it complete before. And what is lost is the completion alone ([`Fate::Lost`]): its memory is the operation's until the session
//! ends, as it is of a card that never says that it is done. Who waits has to have a deadline, and to end the session then.
//!
//! What happens to packets is a card's affair: [`simulated`](crate::simulated) loses them and sends them again, falls silent and breaks
//! connections, by seed.
//!
//! [`Tracer`] writes operations to the log and counts them. [`Recorder`] keeps the last of them. [`Faults`] makes all of these happen by seed, the same way in every run.

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
    /// It goes on, and so many polls after it was done it completes. Those behind it on its session wait with it; those of other sessions
    /// overtake it.
    Late(u32),
    /// It goes on, and its completion does not come before its session has ended: it says [`TransferError::Ended`] then, whatever was
    /// moved. Those behind it on its session wait with it.
    Lost,
}

/// A look at the operations of one core.
pub trait Middleware {
    /// Called at the post.
    fn before(&self, operation: &Observed) -> Fate;

    /// Called when the operation is done, before its completion.
    fn after(&self, operation: &Observed, result: Result<u32, TransferError>);
}
