//! The tests that every transport passes: what [`remote`](crate::remote) promises, tried from both ends.
//!
//! ```text
//!   Subject ── transport ──► the backend                      conformance_suite!(name, MySubject::new());
//!      └────── client ─────► a client of it: memory, offers      makes a #[test] of every case
//! ```
//!
//! A backend's author implements [`Subject`] and [`Client`] in a test and names them to
//! [`conformance_suite!`](crate::conformance_suite). The cases know nothing of the backend: what it cannot do it says in its
//! [`Capabilities`](crate::remote::Capabilities), and the case expects the refusal instead. A case panics when a promise is
//! broken. Each is a function too, for a harness of one's own.
//!
//! No case reads a clock: a transport that has a descriptor is slept on, others are polled, and either ends a case that
//! makes no progress in a bounded number of rounds.

mod data;
mod life;
mod messages;
mod notices;
mod world;

pub use data::{
    bytes_arrive_exactly, credits_bound_what_is_in_flight, memory_is_reached_to_its_ends,
    one_lease_serves_both_directions, operations_complete_in_order, peer_leases_are_for_devices,
    pieces_arrive_in_order, what_is_not_exposed_is_not_touched, what_is_revoked_is_not_touched,
};
pub use life::{
    a_client_that_vanishes_harms_nobody, a_dropped_future_gives_its_lease_back, an_arena_is_registered_once,
    an_idle_core_sleeps, bad_offers_are_refused, disconnect_completes_everything, ends_come_in_any_order,
    foreign_memory_is_a_capability, idle_sessions_end, nothing_is_posted_after_the_end, sessions_are_bounded,
    sessions_belong_to_their_principal, what_is_cancelled_never_begins,
};

pub use messages::messages_go_both_ways;
pub use notices::{nobody_is_told_who_did_not_ask, notices_come_behind_their_bytes};

use crate::remote::{Access, Answer, Offer, RemoteSlice, Transport};
use std::ops::Range;

/// A backend under test. Made anew for each case, with no arena registered.
pub trait Subject {
    /// The backend.
    fn transport(&self) -> &dyn Transport;

    /// A client with `bytes` zeros of memory.
    fn client(&self, bytes: usize) -> Box<dyn Client>;
}

/// The other side of a session. Nothing is asked of it between an operation's post and its completion.
pub trait Client {
    /// An offer to connect.
    fn offer(&mut self) -> Offer;

    /// The answer to the last offer.
    fn answered(&mut self, answer: &Answer);

    /// Exposes a range of its memory, for one direction.
    fn expose(&mut self, range: Range<usize>, access: Access) -> RemoteSlice;

    /// Withdraws an exposure. Only called where [`Capabilities::revocable`](crate::remote::Capabilities::revocable) is set.
    fn revoke(&mut self, slice: &RemoteSlice);

    /// The bytes of a range of its memory, as they are now.
    fn load(&self, range: Range<usize>) -> Vec<u8>;

    /// Changes its memory.
    fn store(&mut self, at: usize, source: &[u8]);

    /// The next notice that has come, once. None if none has for now. Only called where
    /// [`Capabilities::notices`](crate::remote::Capabilities::notices) is set, of clients whose offer asks for them by
    /// [`NOTIFY`](crate::remote::NOTIFY), as offers have it then: the case takes it out where it is to be without.
    fn take_notice(&mut self) -> Option<u32> {
        None
    }

    /// Sends a message, and says whether it is on its way. Only called where
    /// [`Capabilities::message_bytes_max`](crate::remote::Capabilities::message_bytes_max) is not 0, of clients whose offer asks for messages by
    /// [`MESSAGES`](crate::remote::MESSAGES), as offers have it then.
    fn send(&mut self, _message: &[u8]) -> bool {
        false
    }

    /// The next message that has come, once. None if none has for now. Only called as [`send`](Client::send) is.
    fn take_message(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Goes away without a word, memory and all.
    fn vanish(&mut self);
}

/// Makes a module of tests: every case of [`conformance`](crate::conformance), each with a subject made by the expression.
#[macro_export]
macro_rules! conformance_suite {
    ($module:ident, $subject:expr) => {
        $crate::conformance_suite!(@ $module, $subject,
            bytes_arrive_exactly,
            memory_is_reached_to_its_ends,
            pieces_arrive_in_order,
            one_lease_serves_both_directions,
            operations_complete_in_order,
            credits_bound_what_is_in_flight,
            what_is_not_exposed_is_not_touched,
            what_is_revoked_is_not_touched,
            peer_leases_are_for_devices,
            notices_come_behind_their_bytes,
            nobody_is_told_who_did_not_ask,
            messages_go_both_ways,
            disconnect_completes_everything,
            a_dropped_future_gives_its_lease_back,
            what_is_cancelled_never_begins,
            ends_come_in_any_order,
            nothing_is_posted_after_the_end,
            sessions_belong_to_their_principal,
            sessions_are_bounded,
            idle_sessions_end,
            bad_offers_are_refused,
            a_client_that_vanishes_harms_nobody,
            an_arena_is_registered_once,
            foreign_memory_is_a_capability,
            an_idle_core_sleeps,
        );
    };
    (@ $module:ident, $subject:expr, $($case:ident),* $(,)?) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $case() {
                // Shows what the case of this name says.
                $crate::conformance::$case(&$subject);
            })*
        }
    };
}
