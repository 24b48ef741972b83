//! The transport by verbs, on whatever card this host has: soft-RoCE in the machine that `cargo xtask vm` makes.

#![allow(clippy::unwrap_used, reason = "a test that gets an error where it wants a value has failed")]

mod card;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../it/drive.rs"]
mod drive;
mod faults;
mod pages;
mod path;
mod pressure;
mod revocation;
mod through;

use card::Card;

// The cards of this host, one after the other: tests take turns by `--test-threads=1`.
crossdock_transport::conformance_suite!(registrations, Card::with_registrations());

// All but `what_is_not_exposed_is_not_touched`, which `revocation` has.
crossdock_transport::conformance_suite!(@ windows, Card::with_windows(),
    bytes_arrive_exactly,
    memory_is_reached_to_its_ends,
    pieces_arrive_in_order,
    one_lease_serves_both_directions,
    operations_complete_in_order,
    credits_bound_what_is_in_flight,
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
