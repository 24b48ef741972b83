//! Cases about messages: that they arrive, in order, in the leases that wait for them, and that those come back.

use super::{
    Subject,
    world::{Connected, World, assert_pattern, assert_untouched, pattern},
};
use crate::{
    memory::{BufferLease, ScatterList},
    operation::{OsError, Pending},
    remote::{Access, MESSAGES, Offer, TransferError},
};

impl Connected {
    fn send(&self, message: impl Into<ScatterList>) -> Pending {
        self.session.send(self.slot(), message.into())
    }

    fn receive(&self, target: BufferLease) -> Pending {
        let slot = self.session.inbox().and_then(|inbox| inbox.try_slot());
        self.session.receive(slot.expect("the case keeps within the inbox"), target)
    }

    /// The next message at the client.
    fn message(&mut self, world: &World<'_>) -> Vec<u8> {
        let mut message = None;
        world.drive("a message comes", || {
            message = self.client.take_message();
            message.is_some()
        });
        message.expect("it was driven until there is one")
    }
}

fn assert_unsupported(world: &World<'_>, pair: &mut Connected) {
    assert!(pair.session.inbox().is_none());
    let completion = world.finish(pair.send(world.filled(10, 1).freeze()));
    assert_eq!(completion.result, Err(OsError(libc::EOPNOTSUPP)));
    drop(completion);
    pair.assert_works(world);
    world.assert_balanced();
}

/// Messages of every size arrive whole and in order, both ways, in front of nothing that was written before them. Leases that wait for
/// messages come back when there is one, when it is too long for its lease, and when the session ends. A transport that has no
/// messages says so, and so does a session whose peer did not ask.
pub fn messages_go_both_ways(subject: &dyn Subject) {
    let world = World::new(subject);
    let max = subject.transport().capabilities().message_bytes_max as usize;
    if max == 0 {
        return assert_unsupported(&world, &mut world.connect());
    }
    assert_unsupported(
        &world,
        &mut world.connect_by(|offer| Offer {
            parameters: offer.parameters.into_iter().filter(|(name, _)| name != MESSAGES).collect(),
            ..offer
        }),
    );
    let mut pair = world.connect();
    let depth = pair.session.inbox().expect("the peer asked").depth();

    // From the client, into leases that hold something already.
    for round in 0..3 {
        let sizes: Vec<usize> = [0, 1, 100, max - 1, max].into_iter().cycle().take(depth).collect();
        let posted: Vec<_> = sizes
            .iter()
            .map(|_| {
                let mut lease = world.lease(3 + max);
                lease.set_len(3);
                pair.receive(lease)
            })
            .collect();
        assert!(pair.session.inbox().is_some_and(|inbox| inbox.try_slot().is_none()), "more than the inbox");
        // Posted by a poll, and before anything is sent.
        world.endpoint.poll();
        pair.assert_works(&world);
        for (number, bytes) in sizes.iter().enumerate() {
            let message: Vec<u8> = pattern(round * 100 + number as u64).take(*bytes).collect();
            assert!(pair.client.send(&message), "message {number} is not sent");
        }
        for (number, (pending, bytes)) in posted.into_iter().zip(sizes).enumerate() {
            let (result, mut lease) = world.finish(pending).into_lease();
            assert_eq!((result, lease.len()), (Ok(bytes as u32), 3 + bytes));
            let (front, behind) = lease.full_mut().split_at(3 + bytes);
            assert_untouched(&front[..3]);
            assert_pattern(&front[3..], round * 100 + number as u64);
            assert_untouched(behind);
        }
    }

    // To the client, behind what was written, and in pieces.
    let target = pair.client.expose(0..65536, Access::Write);
    for round in 0..40 {
        let written = pair.write(world.filled(65536, round).freeze(), target);
        let whole = world.filled(max, round + 1).freeze();
        let mut pieces = ScatterList::new();
        (0..4).for_each(|piece| pieces.push(whole.slice(piece * max / 4..(piece + 1) * max / 4)));
        let posted = [pair.send(pieces), pair.send(ScatterList::new())];
        pair.session.flush();
        let message = pair.message(&world);
        assert_eq!(message.len(), max);
        assert_pattern(&message, round + 1);
        assert_pattern(&pair.client.load(0..65536), round);
        assert_eq!(pair.message(&world).len(), 0);
        assert_eq!(world.finish(written).result, Ok(65536));
        assert_eq!(posted.map(|pending| world.finish(pending).result), [Ok(max as u32), Ok(0)]);
    }

    // What is dropped, and what waits when the session ends.
    let mut waiting: Vec<_> = (0..4).map(|_| pair.receive(world.lease(max))).collect();
    world.endpoint.poll();
    pair.assert_works(&world);
    drop(waiting.pop());
    assert!(world.endpoint.disconnect(pair.id, &world.principal));
    for pending in waiting {
        let result = world.finish(pending).result.map_err(TransferError::from);
        assert_eq!(result, Err(TransferError::Ended));
    }
    let late = pair.session.inbox().and_then(|inbox| inbox.try_slot()).expect("all are back");
    let late = world.finish(pair.session.receive(late, world.lease(max)));
    assert_eq!(late.result.map_err(TransferError::from), Err(TransferError::Ended));
    drop(late);
    world.drive("everything comes back", || world.pool.leases() == 0);

    // A message that is too long for its lease ends its session, and no byte is behind the lease's room.
    let mut pair = world.connect();
    let mut short = world.lease(max);
    let room = short.capacity() - max / 2;
    short.set_len(room);
    let short = pair.receive(short);
    world.endpoint.poll();
    pair.assert_works(&world);
    assert!(pair.client.send(&vec![7; max]));
    let result = world.finish(short).result.map_err(TransferError::from);
    assert!(matches!(result, Err(TransferError::Device(_))), "{result:?}");
    assert!(!pair.session.is_open());
    world.connect().assert_works(&world);
    world.assert_balanced();
}
