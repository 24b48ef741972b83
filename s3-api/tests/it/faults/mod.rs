//! What goes wrong under way, and what becomes of it: the client is told what it can rely on, nothing is stored by half, every lease
//! comes home, and the server goes on.
//!
//! | fault | rows of `faults/table.rs`, here and in `tests/rdma/faults.rs` | and besides |
//! |---|---|---|
//! | queue pair killed in mid-GET and mid-PUT | `a_disconnect_in_the_middle` | here `a_connection_that_breaks_in_the_middle` |
//! | client killed | `a_client_that_vanishes_in_the_middle` | here `a_process_that_is_killed` |
//! | rkey revoked under way | `memory_that_is_revoked_in_the_middle` | there `memory_that_is_not_there_is_a_typed_failure` |
//! | range beyond the object | `ranges_beyond_the_object` | |
//! | token smaller than the object | | `remote::what_can_not_be_served_is_declined`, there `objects::objects_of_every_size_go_both_ways` |
//! | two requests on one buffer | `two_requests_on_one_buffer` | |
//! | connect storms | `a_storm_of_clients` | there `a_session_is_its_principals_and_sessions_are_bounded` |
//! | disconnect with transfers in flight | `a_disconnect_in_the_middle` | there `a_disconnect_ends_what_is_under_way` |
//! | HTTP connection closed in the middle | `a_connection_that_is_closed_cancels` | `cancelled::`, of HTTPS and of another stack |
//! | server restart between connect and PUT | `a_server_that_restarts` | here `a_server_that_restarts_without_its_card` |
//! | a server that ignores the token | `a_server_that_knows_nothing_is_not_believed` | |
//! | the same, and the PUT had conditions | | here `conditions_are_of_what_was_there_before` |
//! | a server that cuts the object to the token | `an_object_that_was_cut_is_not_taken_for_whole` | |
//! | replies lost, reordered, with a wrong count | `replies_that_are_lost_or_wrong_prove_nothing` | |
//! | a transfer that hangs | `a_transfer_that_hangs_is_ended` | here `a_completion_that_is_lost_is_not_waited_for` |
//! | a session that begins nothing in time | `what_has_not_begun_in_time_is_given_up` | |
//!
//! The card here is simulated: slow, so that there is a middle, and with the faults of a real one. There it is whatever the host has:
//! soft-RoCE in the machine that `cargo xtask vm` makes.

pub(crate) mod replies;
pub(crate) mod stage;
mod table;

use crate::bench::{ALICE, Bench};
use crossdock_s3::{client, protocol::http::Method};
use crossdock_transport::{
    loopback::LoopbackPeer,
    remote::{Access, RemoteSlice, SessionId, Transport},
    simulated::{SimulatedFaults, SimulatedNic},
};
use stage::{Fabric, Memory, REPLY, Stage, TOKEN, Watch, library, pattern};
use std::{cell::RefCell, ops::Range, sync::Arc};

/// Bytes of an object.
const BODY: usize = 3 << 20;

/// Simulated cards with those faults.
struct Simulated {
    faults: SimulatedFaults,
    /// The one that the server has.
    nic: RefCell<SimulatedNic>,
}

impl Simulated {
    fn new(faults: SimulatedFaults) -> Simulated {
        Simulated { faults, nic: RefCell::new(SimulatedNic::new(faults)) }
    }

    /// A transfer of an object takes about a second.
    fn slow() -> Simulated {
        Simulated::new(SimulatedFaults {
            delay_polls_max: 60,
            step_bytes_max: 1024,
            ..SimulatedFaults::none(1)
        })
    }

    fn plain(seed: u64) -> Simulated {
        Simulated::new(SimulatedFaults::none(seed))
    }
}

impl Fabric for Simulated {
    fn transport(&self, watch: &Arc<Watch>) -> Arc<dyn Transport> {
        // A transport is of one engine.
        self.nic.replace(SimulatedNic::new(self.faults));
        watch.over(self.nic.borrow().clone())
    }

    fn connect(
        &self,
        client: &mut client::Client,
        bytes: usize,
    ) -> Result<(Box<dyn Memory>, SessionId), client::ClientError> {
        let memory = LoopbackPeer::new(bytes);
        let answer = client.connect(&self.nic.borrow().offer(&memory))?;
        Ok((Box::new(SimulatedMemory(memory)), answer.session))
    }

    fn body_bytes(&self) -> usize {
        BODY
    }
}

struct SimulatedMemory(LoopbackPeer);

impl Memory for SimulatedMemory {
    fn expose(&self, range: Range<usize>, access: Access) -> RemoteSlice {
        self.0.expose(range, access)
    }

    fn revoke(&self, slice: &RemoteSlice) {
        self.0.revoke(slice);
    }

    fn load(&self, range: Range<usize>) -> Vec<u8> {
        self.0.with_bytes(|bytes| bytes[range].to_vec())
    }

    fn store(&self, at: usize, source: &[u8]) {
        self.0.with_bytes(|bytes| bytes[at..at + source.len()].copy_from_slice(source));
    }

    fn fall_silent(&self) {
        self.0.fall_silent();
    }
}

impl Drop for SimulatedMemory {
    fn drop(&mut self) {
        self.0.vanish();
    }
}

#[test]
fn a_client_that_vanishes_in_the_middle() {
    table::a_client_that_vanishes_in_the_middle(|| Stage::new(Simulated::slow()));
}

#[test]
fn memory_that_is_revoked_in_the_middle() {
    table::memory_that_is_revoked_in_the_middle(|| Stage::new(Simulated::slow()));
}

#[test]
fn a_disconnect_in_the_middle() {
    table::a_disconnect_in_the_middle(|| Stage::new(Simulated::slow()));
}

#[test]
fn a_connection_that_is_closed_cancels() {
    table::a_connection_that_is_closed_cancels(|grace| Stage::patient(Simulated::slow(), grace));
}

#[test]
fn a_transfer_that_hangs_is_ended() {
    // A card that sends again and again, and never gives up.
    let faults = SimulatedFaults { retries_max: u32::MAX, ..SimulatedFaults::none(3) };
    table::a_transfer_that_hangs_is_ended(
        |grace| Stage::patient(Simulated::new(faults), grace),
        "2000",
        |_, peer| {
            peer.memory.fall_silent();
            Some(peer)
        },
    );
}

#[test]
fn a_completion_that_is_lost_is_not_waited_for() {
    // The bytes moved, and nobody is told: a deadline ends the session, which alone brings the memory back.
    table::a_transfer_that_hangs_is_ended(
        |grace| Stage::patient(Simulated::plain(3), grace),
        "500",
        |stage, peer| {
            stage.watch.lose(true);
            Some(peer)
        },
    );
}

#[test]
fn what_has_not_begun_in_time_is_given_up() {
    table::what_has_not_begun_in_time_is_given_up(|grace| Stage::patient(Simulated::plain(3), grace));
}

#[test]
fn ranges_beyond_the_object() {
    table::ranges_beyond_the_object(Stage::new(Simulated::plain(2)));
}

#[test]
fn two_requests_on_one_buffer() {
    let faults = SimulatedFaults { step_bytes_max: 4096, ..SimulatedFaults::none(4) };
    table::two_requests_on_one_buffer(Stage::new(Simulated::new(faults)));
}

#[test]
fn a_storm_of_clients() {
    table::a_storm_of_clients(Stage::new(Simulated::plain(5)));
}

#[test]
fn a_server_that_restarts() {
    table::a_server_that_restarts(Stage::new(Simulated::plain(6)));
}

#[test]
fn a_server_that_restarts_without_its_card() {
    // Shows that there is nothing to serve a token with then: nothing is stored.
    let stage = Stage::new(Simulated::plain(6));
    let peer = stage.peer();
    let (_, source) = peer.expose(Access::Read);
    let bench = stage.bench.restart(None);
    let mut http = bench.client(ALICE);
    let reply = http.call(Method::Put, "/bucket/new", &[(TOKEN, &source)], b"");
    assert_eq!((reply.status, reply.header(REPLY), reply.header("etag")), (200, Some("501"), None));
    assert_eq!(http.call(Method::Head, "/bucket/new", &[], b"").status, 404);
    assert!(http.call(Method::Get, "/bucket/key", &[], b"").body == pattern(BODY, 1));
}

#[test]
fn a_connection_that_breaks_in_the_middle() {
    // Shows a queue pair that goes to its error state under way, after some of the bytes.
    for method in [Method::Put, Method::Get] {
        let faults = SimulatedFaults {
            seed: 11,
            step_bytes_max: 4096,
            disconnect_per_1024: 8,
            ..SimulatedFaults::none(11)
        };
        let stage = Stage::new(Simulated::new(faults));
        let peer = stage.peer();
        let (path, access) = table::request(method);
        let (_, token) = peer.expose(access);
        table::assert_failed(&stage, method, &stage.call(method, path, &token).join().unwrap());
        peer.assert_untouched_outside(BODY);
        table::assert_session_is_over(&stage, method, &token);
        stage.assert_others_unharmed();
    }
}

#[test]
fn the_process_that_is_killed() {
    // Does nothing unless it is the other process.
    table::the_process_that_is_killed(BODY, |place, client| {
        let (_, socket) = place.split_once(' ').unwrap();
        replies::shm_session(std::path::Path::new(socket), client)
    });
}

#[test]
fn a_process_that_is_killed() {
    // Its memory is shared memory, since no other process has that of a simulated card.
    table::a_process_that_is_killed(Stage::new(Simulated::plain(7)), "faults::the_process_that_is_killed");
}

#[test]
fn a_server_that_knows_nothing_is_not_believed() {
    let bench = Bench::new();
    let session = replies::shm_session(bench.socket(), &mut library(&bench));
    replies::a_server_that_knows_nothing_is_not_believed(&session);
}

#[test]
fn conditions_are_of_what_was_there_before() {
    let bench = Bench::new();
    let session = replies::shm_session(bench.socket(), &mut library(&bench));
    replies::conditions_are_of_what_was_there_before(&session);
}

#[test]
fn replies_that_are_lost_or_wrong_prove_nothing() {
    let bench = Bench::new();
    let session = replies::shm_session(bench.socket(), &mut library(&bench));
    replies::replies_that_are_lost_or_wrong_prove_nothing(&session);
}

#[test]
fn an_object_that_was_cut_is_not_taken_for_whole() {
    let bench = Bench::new();
    let session = replies::shm_session(bench.socket(), &mut library(&bench));
    replies::an_object_that_was_cut_is_not_taken_for_whole(&session);
}
