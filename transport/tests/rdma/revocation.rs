//! What a client takes back is out of reach, also in the middle of a transfer.

use crate::card::{Card, Connected, Side};
use crossdock_transport::{
    conformance,
    operation::Pending,
    rdma::devices,
    remote::{Access, TransferError},
};

const LEASE: usize = 4 << 20;
const LEASES: usize = 8;
const BYTES: usize = LEASE * LEASES;

/// Posts a write of the whole of the client's memory.
fn post(side: &Side, pair: &Connected) -> Vec<Pending> {
    let target = pair.client.expose(0..BYTES, Access::Write).unwrap();
    let posted = (0..LEASES).map(|number| {
        let start = (number * LEASE) as u64;
        let part = target.slice(start..start + LEASE as u64).unwrap();
        pair.write(side.filled(LEASE, number as u8 | 1), part)
    });
    let posted = posted.collect();
    pair.session.flush();
    posted
}

fn revoked_in_the_middle(card: Card) {
    let side = Side::new(card);
    let pair = side.connect(BYTES);
    let target = pair.client.expose(0..BYTES, Access::Write).unwrap();
    let posted: Vec<_> = (0..LEASES)
        .map(|number| {
            let start = (number * LEASE) as u64;
            let part = target.slice(start..start + LEASE as u64).unwrap();
            pair.write(side.filled(LEASE, number as u8 | 1), part)
        })
        .collect();
    pair.session.flush();
    // Somewhere in the third of eight: the pattern is zero in one byte of 256 only.
    let begun = || pair.load(2 * LEASE + LEASE / 2..2 * LEASE + LEASE / 2 + 64).iter().any(|byte| *byte != 0);
    side.drive("bytes arrive", begun);
    pair.client.withdraw(&target);
    let mut proven = false;
    for _ in 0..100_000 {
        proven = pair.client.poll() == Some(target);
        if proven {
            break;
        }
        std::thread::yield_now();
    }
    assert!(proven, "the withdrawal is never proven");
    let at_the_proof = pair.load(0..BYTES);
    assert!(at_the_proof[BYTES - 64..].iter().all(|byte| *byte == 0), "it was over before it was revoked");

    let results: Vec<_> = posted.into_iter().map(|pending| side.finish(pending).result).collect();
    assert!(results.first().is_some_and(Result::is_ok), "{results:?}");
    let refused = results.iter().filter_map(|result| result.err()).map(TransferError::from);
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.first(), Some(&TransferError::Refused), "{results:?}");
    assert!(refused.iter().skip(1).all(|error| *error == TransferError::Ended), "{results:?}");
    assert!(pair.load(0..BYTES) == at_the_proof, "bytes landed after the proof");
    assert!(!pair.session.is_open());
    side.endpoint.disconnect(pair.id, &side.principal);
    side.drive("leases come back", || {
        side.pool.drain_returns();
        side.pool.leases() == 0
    });
}

#[test]
fn a_window_that_is_invalidated_lets_nothing_more_through() {
    // Shows that no byte of a transfer that is under way lands after the completion of the invalidation.
    revoked_in_the_middle(Card::with_windows());
}

#[test]
fn a_region_that_is_deregistered_lets_nothing_more_through() {
    // Shows the same of exposures that are registrations.
    revoked_in_the_middle(Card::with_registrations());
}

#[test]
fn the_end_of_the_client_lets_nothing_more_through() {
    // Shows that a transfer into a client that is dropped fails, and that its memory is not needed for it.
    let side = Side::new(Card::with_windows());
    let pair = side.connect(BYTES);
    let posted = post(&side, &pair);
    drop(pair.client);
    for pending in posted {
        let result = side.finish(pending).result.map_err(TransferError::from);
        let expected = [Err(TransferError::TimedOut), Err(TransferError::Ended), Err(TransferError::Refused)];
        assert!(result.is_ok() || expected.contains(&result), "{result:?}");
    }
}

#[test]
fn a_window_has_a_new_key_each_time() {
    // Shows that 600 exposures of the same bytes have names of their own, over the end of a window's keys.
    let side = Side::new(Card::with_windows());
    let pair = side.connect(8192);
    let mut names = Vec::new();
    for round in 0..600u32 {
        let slice = pair.client.expose(0..4096, Access::Write).unwrap();
        assert!(!names.iter().rev().take(255).any(|name| *name == slice.key()), "round {round}");
        names.push(slice.key());
        if round % 100 == 99 {
            let completion = side.finish(pair.write(side.filled(4096, 3), slice));
            assert_eq!(completion.result, Ok(4096));
        }
        pair.client.withdraw(&slice);
        while pair.client.poll() != Some(slice) {
            std::thread::yield_now();
        }
    }
    assert!(pair.client.is_open());
}

#[test]
fn a_window_is_as_wide_as_it_says() {
    // Shows that names around a window are refused. Soft-RoCE does not, which is why a client does not use windows there.
    let software = devices().unwrap().iter().all(|device| device.limits.vendor.0 == 0xff_ffff);
    if software {
        let side = Side::new(Card::with_windows());
        let client = crossdock_transport::rdma::RdmaClient::new(&side.card.default_options(4096)).unwrap();
        assert_eq!(client.revocation(), crossdock_transport::rdma::Revocation::Registrations);
    } else {
        conformance::what_is_not_exposed_is_not_touched(&Card::with_windows());
    }
}
