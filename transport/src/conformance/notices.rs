//! Cases about notices: that they come behind what they speak of, and to those who asked.

use super::{
    Subject,
    world::{CLIENT_BYTES, Connected, World, assert_pattern, assert_untouched, limits},
};
use crate::{
    memory::{LEASE_BYTES_MAX, ScatterList},
    operation::{OsError, Pending},
    remote::{Access, NOTIFY, Offer, RemoteKey, RemoteSlice, TransferError},
};

impl Connected {
    fn write_notify(&self, source: impl Into<ScatterList>, target: RemoteSlice, notice: u32) -> Pending {
        self.session.write_notify(self.slot(), source.into(), target, notice)
    }

    /// The next notice, once it has come, without a look at any completion.
    fn notice(&mut self, world: &World<'_>) -> u32 {
        let mut notice = None;
        world.drive("a notice comes", || {
            notice = self.client.take_notice();
            notice.is_some()
        });
        notice.expect("it was driven until there is one")
    }
}

/// The session does not tell, and is as before when it was asked to.
fn assert_unsupported(world: &World<'_>, pair: &mut Connected) {
    assert!(!pair.session.notifies());
    let target = pair.client.expose(0..4096, Access::Write);
    let completion = world.finish(pair.write_notify(world.filled(4096, 1).freeze(), target, 1));
    assert_eq!(completion.result, Err(OsError(libc::EOPNOTSUPP)));
    drop(completion);
    assert_untouched(&pair.client.load(0..CLIENT_BYTES));
    pair.assert_works(world);
    world.assert_balanced();
}

/// When a notice has come, so have all bytes that were posted before it: of its own write, and of those in front of it. Each comes once,
/// with its number, in their order; a write that is refused gives none. A transport that has no notices says so.
pub fn notices_come_behind_their_bytes(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect();
    if !subject.transport().capabilities().notices {
        return assert_unsupported(&world, &mut pair);
    }
    assert!(pair.session.notifies());
    let sizes = [0, 1, 4095, 65537, (1 << 20) + 3, LEASE_BYTES_MAX];
    for (round, bytes) in sizes.into_iter().enumerate() {
        let (seed, number) = (round as u64, u32::MAX - round as u32);
        let target = pair.client.expose(5..5 + bytes, Access::Write);
        let pending = pair.write_notify(world.filled(bytes, seed).freeze(), target, number);
        pair.session.flush();
        assert_eq!(pair.notice(&world), number);
        assert_pattern(&pair.client.load(5..5 + bytes), seed);
        assert_eq!(world.finish(pending).result, Ok(bytes as u32));
        assert_eq!(pair.client.take_notice(), None, "one notice for one write");
    }
    assert_untouched(&pair.client.load(0..5));
    assert_untouched(&pair.client.load(5 + LEASE_BYTES_MAX..CLIENT_BYTES));

    // Writes without one, and a notice alone behind them, more often than a client may remember.
    let bytes = 65536;
    let whole = pair.client.expose(0..8 * bytes, Access::Write);
    let nothing = RemoteSlice::new(0, 0, RemoteKey(0)).expect("nothing ends somewhere");
    for round in 0..40 {
        let mut posted: Vec<_> = (0..3)
            .map(|part| {
                let start = (part * bytes) as u64;
                let target = whole.slice(start..start + bytes as u64).expect("inside");
                pair.write(world.filled(bytes, round * 10 + part as u64).freeze(), target)
            })
            .collect();
        posted.push(pair.write_notify(ScatterList::new(), nothing, round as u32));
        for more in 1..limits().credits as u32 - 3 {
            posted.push(pair.write_notify(ScatterList::new(), nothing, round as u32 + more));
        }
        pair.session.flush();
        assert_eq!(pair.notice(&world), round as u32);
        for part in 0..3 {
            assert_pattern(&pair.client.load(part * bytes..(part + 1) * bytes), round * 10 + part as u64);
        }
        for more in 1..limits().credits as u32 - 3 {
            assert_eq!(pair.notice(&world), round as u32 + more);
        }
        for pending in posted {
            assert!(world.finish(pending).result.is_ok());
        }
    }

    let wrong = pair.client.expose(0..4096, Access::Write);
    let wrong = RemoteSlice::new(wrong.address(), 4096, RemoteKey(wrong.key().0 ^ 0x5a5a_5a5a))
        .expect("the same bytes");
    let refused = world.finish(pair.write_notify(world.filled(4096, 9).freeze(), wrong, 77)).result;
    assert_eq!(refused.map_err(TransferError::from), Err(TransferError::Refused));
    assert_eq!(pair.client.take_notice(), None);
    world.assert_balanced();
}

/// A client that did not ask at connect gets no notice: it would not know what to do with one.
pub fn nobody_is_told_who_did_not_ask(subject: &dyn Subject) {
    let world = World::new(subject);
    let mut pair = world.connect_by(|offer| Offer {
        parameters: offer.parameters.into_iter().filter(|(name, _)| name != NOTIFY).collect(),
        ..offer
    });
    assert_unsupported(&world, &mut pair);
    let mut pair = world.connect_by(|mut offer| {
        offer.parameters.retain(|(name, _)| name != NOTIFY);
        offer.parameters.push((NOTIFY.to_owned(), "by pigeon".to_owned()));
        offer
    });
    assert_unsupported(&world, &mut pair);
}
