//! Receives of messages that never come.

use super::*;
use crate::remote::{MESSAGES, MESSAGES_SEND};

#[test]
fn receives_end_with_a_connection_that_is_not_made() {
    // Shows that a receive which was posted before its queue pair was connected completes when that fails, and one that is
    // cancelled meanwhile before that: neither keeps its lease.
    let host = Host::new(&[FIRST]);
    host.change(0, |card| (card.closed, card.connection) = (true, libc::ETIMEDOUT));
    let world = open(&host);
    let mut offer = offer(FIRST);
    offer.parameters.push((MESSAGES.to_owned(), MESSAGES_SEND.to_owned()));
    let lost = world.pair(world.endpoint.connect(&world.alice, offer).unwrap());
    let inbox = lost.session.inbox().expect("it asked for messages");
    let receive = || {
        let slot = inbox.try_slot().unwrap();
        lost.session.receive(slot, world.pool.try_acquire(BYTES).unwrap())
    };
    let (unwanted, mut wanted) = (receive(), receive());
    drop(unwanted);
    world.drive("a receive that nobody wants is over", || inbox.in_flight() == 1);
    assert_eq!(completed(&mut wanted), None);
    host.change(0, |card| card.closed = false);
    assert_eq!(world.result(&mut wanted), Err(TransferError::Ended));
    assert_eq!(inbox.in_flight(), 0);
    drop(wanted);
    world.end();
}
