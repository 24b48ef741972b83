//! Connections that end in the middle of things.

use crate::card::{Card, Side};
use crossdock_transport::{
    memory::ScatterList,
    operation::Pending,
    remote::{Access, Offer, TransferError},
};

const LEASE: usize = 4 << 20;

#[test]
fn a_session_that_ends_in_the_middle_of_reads_gives_everything_back() {
    // Shows that reads and writes which are in the card come back when their session is ended, and that the next one works.
    let side = Side::new(Card::with_registrations());
    for round in 0..4 {
        let pair = side.connect(2 * LEASE);
        let source = pair.client.expose(0..LEASE, Access::Read).unwrap();
        let target = pair.client.expose(LEASE..2 * LEASE, Access::Write).unwrap();
        let mut posted = Vec::new();
        for number in 0..6u8 {
            if number % 2 == 0 {
                let mut lease = side.filled(LEASE, number);
                lease.set_len(0);
                posted.push(pair.read(source, lease));
            } else {
                posted.push(pair.write(side.filled(LEASE, number | 1), target));
            }
        }
        pair.session.flush();
        if round % 2 == 1 {
            side.drive("something moves", || pair.load(LEASE..LEASE + 600).iter().any(|byte| *byte != 0));
        }
        assert!(side.endpoint.disconnect(pair.id, &side.principal));
        for pending in posted {
            let result = side.finish(pending).result.map_err(TransferError::from);
            assert!(matches!(result, Ok(4_194_304) | Err(TransferError::Ended)), "{result:?}");
        }
        side.pool.drain_returns();
        assert_eq!(side.pool.leases(), 0);
    }
}

#[test]
fn a_client_with_a_false_queue_pair_is_only_its_own_problem() {
    // Shows that a session to a queue pair that there is not fails in bounded time, while another one goes on.
    let side = Side::new(Card::with_registrations());
    let good = side.connect(8192);
    let target = good.client.expose(0..8192, Access::Write).unwrap();
    let stranger = side.card.client(4096);
    let Offer { token, parameters, .. } = stranger.offer();
    // Another number: bytes 1 to 4 of the token, little endian.
    let false_token = format!("{}ffffff00{}", &token[..2], &token[10..]);
    let offer = Offer { token: false_token, parameters, ..Offer::default() };
    let answer = side.endpoint.connect(&side.principal, offer).expect("nobody knows yet");
    let session = side.endpoint.session(answer.session, &side.principal).unwrap();
    let slot = session.credits().try_slot().unwrap();
    let lost = session.write(slot, side.filled(4096, 1).freeze().into(), target);
    session.flush();
    for _ in 0..10 {
        assert_eq!(side.finish(good.write(side.filled(8192, 5), target)).result, Ok(8192));
    }
    assert_eq!(side.finish(lost).result.map_err(TransferError::from), Err(TransferError::TimedOut));
    assert!(!session.is_open() && good.session.is_open());
    assert!(side.endpoint.disconnect(answer.session, &side.principal));
}

#[test]
fn an_address_that_nobody_has_keeps_nobody_waiting() {
    // Shows that a session to a neighbour that is not there is made at once and fails later, while another one goes on: the kernel asks
    // for the neighbour's hardware address for about a second.
    let side = Side::new(Card::with_registrations());
    let good = side.connect(8192);
    let target = good.client.expose(0..8192, Access::Write).unwrap();
    let stranger = side.card.client(4096);
    let Offer { token, parameters, .. } = stranger.offer();
    // The last byte of its IPv4 address: bytes 5 to 20 of the token are its GID.
    let nobodys = format!("{}fb{}", &token[..40], &token[42..]);
    let offer = Offer { token: nobodys, parameters, ..Offer::default() };
    let answer = side.endpoint.connect(&side.principal, offer).expect("nobody knows yet");
    let session = side.endpoint.session(answer.session, &side.principal).unwrap();
    let slot = session.credits().try_slot().unwrap();
    let mut lost = session.write(slot, side.filled(4096, 1).freeze().into(), target);
    assert_eq!(side.finish(good.write(side.filled(8192, 5), target)).result, Ok(8192));
    assert!(crate::drive::poll_once(&mut lost).is_pending(), "the other one waited for it");
    let result = side.finish(lost).result.map_err(TransferError::from);
    assert!(matches!(result, Err(TransferError::TimedOut | TransferError::Device(_))), "{result:?}");
    assert!(!session.is_open() && good.session.is_open());
    assert_eq!(side.finish(good.write(side.filled(8192, 6), target)).result, Ok(8192));
}

#[test]
fn many_sessions_come_and_go() {
    // Shows that connects and disconnects leave nothing behind: more of them than an endpoint has room for at a time.
    let side = Side::new(Card::with_registrations());
    for round in 0..12 {
        let pairs: Vec<_> = (0..8).map(|_| side.connect(16384)).collect();
        let posted: Vec<_> = pairs
            .iter()
            .map(|pair| {
                let target = pair.client.expose(0..16384, Access::Write).unwrap();
                pair.write(side.filled(16384, round | 1), target)
            })
            .collect();
        for (number, pending) in posted.into_iter().enumerate() {
            if number % 3 == 0 {
                drop(pending);
            } else {
                assert_eq!(side.finish(pending).result, Ok(16384));
            }
        }
        for pair in pairs {
            assert!(side.endpoint.disconnect(pair.id, &side.principal));
        }
        assert_eq!(side.endpoint.session_count(), 0);
    }
    side.drive("leases come back", || {
        side.pool.drain_returns();
        side.pool.leases() == 0
    });
}

#[test]
fn what_was_posted_is_more_than_the_card_takes_at_a_time() {
    // Shows that writes of many pieces, of more work requests than a queue pair has room for, are posted as room comes back.
    let side = Side::new(Card::with_registrations());
    let pair = side.connect(4 << 20);
    let whole = side.filled(1 << 20, 7).freeze();
    let bytes = 256 * 1000;
    let target = pair.client.expose(0..16 * bytes, Access::Write).unwrap();
    let posted: Vec<_> = (0..16)
        .map(|number| {
            let mut pieces = crossdock_transport::memory::ScatterList::new();
            (0..256).for_each(|piece| pieces.push(whole.slice(piece * 1000..piece * 1000 + 1000)));
            let part = target.slice((number * bytes) as u64..((number + 1) * bytes) as u64).unwrap();
            let slot = pair.session.credits().try_slot().unwrap();
            pair.session.write(slot, pieces, part)
        })
        .collect();
    for pending in posted {
        assert_eq!(side.finish(pending).result, Ok(bytes as u32));
    }
    for number in 0..16 {
        assert!(pair.load(number * bytes..(number + 1) * bytes) == whole[..bytes], "write {number}");
    }
}

#[test]
fn one_write_may_be_more_than_a_queue_pair_takes() {
    // Shows that an operation of more work requests than there is room for goes on as they are done.
    let arena = crate::drive::arena(64 << 20);
    let pool = arena.pool(0);
    let side = Side::with_credits(Card::with_registrations(), arena, pool, 1);
    let pair = side.connect(4 << 20);
    let whole = side.filled(1 << 20, 7).freeze();
    let target = pair.client.expose(0..256 * 1000, Access::Write).unwrap();
    for round in 0..3 {
        let mut pieces = crossdock_transport::memory::ScatterList::new();
        (0..256).for_each(|piece| pieces.push(whole.slice(piece * 1000 + round..(piece + 1) * 1000 + round)));
        let slot = pair.session.credits().try_slot().unwrap();
        let write = pair.session.write(slot, pieces, target);
        assert_eq!(side.finish(write).result, Ok(256_000));
        assert!(pair.load(0..256_000) == whole[round..256_000 + round], "round {round}");
    }
}

#[test]
fn sessions_that_failed_make_room_for_others() {
    // Shows that a client whose sessions end by errors is not shut out by them.
    let side = Side::new(Card::with_registrations());
    for _ in 0..40 {
        let pair = side.connect(4096);
        let target = pair.client.expose(0..4096, Access::Write).unwrap();
        let past = crossdock_transport::remote::RemoteSlice::new(target.address() + 1, 4096, target.key());
        let refused = side.finish(pair.write(side.filled(4096, 1), past.unwrap())).result;
        assert_eq!(refused.map_err(TransferError::from), Err(TransferError::Refused));
    }
}

#[test]
fn what_is_cancelled_in_part_moves_no_further() {
    // Shows that more than the queue of the card takes is given up where it stands: what is in the card is done, and of the operation that is
    // in it in part, and of those behind it, not a byte moves any more; the session goes on. The request that moves nothing, by which the end is
    // known, is one that the card takes.
    // At 16 to a work request, thirteen of those: three such operations are more than the 32 that a session of 16 credits has in the card.
    const PIECES: usize = 200;
    let side = Side::new(Card::with_registrations());
    let pair = side.connect(1 << 20);
    let target = pair.client.expose(0..1 << 20, Access::Write).unwrap();
    // The queue pair is connected then.
    assert_eq!(side.finish(pair.write(side.filled(4096, 1), target)).result, Ok(4096));
    let place = |number: usize| 8192 + number * 4096;
    for _ in 0..3 {
        pair.client.store(0, &vec![0; 1 << 20]);
        let posted: Vec<_> = (0..16)
            .map(|number| {
                let lease = side.filled(PIECES, 7).freeze();
                let mut source = ScatterList::new();
                (0..PIECES).for_each(|piece| source.push(lease.slice(piece..piece + 1)));
                let slot = pair.session.credits().try_slot().unwrap();
                let part = target.slice(place(number) as u64..place(number + 1) as u64).unwrap();
                pair.session.write(slot, source, part)
            })
            .collect();
        pair.session.flush();
        posted.iter().for_each(Pending::cancel);
        let results =
            posted.into_iter().map(|pending| side.finish(pending).result.map_err(TransferError::from));
        let results: Vec<_> = results.collect();
        let done = results.iter().take_while(|result| **result == Ok(PIECES as u32)).count();
        let (rest, mut bytes) = (&results[done..], vec![0; PIECES]);
        assert!(
            !rest.is_empty() && rest.iter().all(|result| *result == Err(TransferError::Cancelled)),
            "{results:?}"
        );
        crate::drive::fill(&mut bytes, 7);
        for number in 0..16 {
            let there = pair.load(place(number)..place(number) + PIECES);
            let zeros = there.iter().rev().take_while(|byte| **byte == 0).count();
            match number {
                _ if number < done => assert!(there == bytes, "operation {number}"),
                // A piece of the pattern may be zero, more than one of the last are not.
                _ if number == done => {
                    assert!((2..PIECES).contains(&zeros) && there.starts_with(&bytes[..PIECES - zeros]));
                }
                _ => assert_eq!(zeros, PIECES, "operation {number}"),
            }
        }
        assert!(pair.session.is_open());
    }
    assert_eq!(side.finish(pair.write(side.filled(4096, 9), target)).result, Ok(4096));
}
