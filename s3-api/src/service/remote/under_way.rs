//! The transfers that are under way on a core: whoever ends a session learns here when nothing of it moves any more.
//!
//! A session that was ended is in nobody's table, and may still have operations in a card, or a disk that fills its client's memory. All of
//! them are a transfer's, and a transfer does not return before they are done.

use crossdock::Until;
use crossdock_transport::remote::{Principal, SessionId};
use slab::Slab;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    task::{Poll, Waker},
};

/// The transfers of one core.
#[derive(Default)]
pub(super) struct UnderWay {
    all: RefCell<Slab<Transfer>>,
    /// Who waits for some of them.
    waiting: RefCell<Vec<Waker>>,
}

struct Transfer {
    session: SessionId,
    owner: Principal,
    until: Until,
}

impl UnderWay {
    /// A transfer begins; it is under way until the entry is dropped.
    pub(super) fn enter(&self, session: SessionId, owner: &Principal, until: &Until) -> Entry<'_> {
        let transfer = Transfer { session, owner: owner.clone(), until: until.clone() };
        Entry { of: self, place: self.all.borrow_mut().insert(transfer) }
    }

    /// The deadlines of what `owner` has under way on that session. Somebody else's is nothing.
    pub(super) fn of(&self, session: SessionId, owner: &Principal) -> Vec<Until> {
        let all = self.all.borrow();
        let of = all.iter().filter(|(_, transfer)| transfer.session == session && transfer.owner == *owner);
        of.map(|(_, transfer)| transfer.until.clone()).collect()
    }

    /// Resolves when `owner` has nothing under way on that session.
    pub(super) fn none_left(&self, session: SessionId, owner: &Principal) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            if self.of(session, owner).is_empty() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// A transfer that is under way.
pub(super) struct Entry<'a> {
    of: &'a UnderWay,
    place: usize,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let ended = self.of.all.borrow_mut().remove(self.place);
        drop(ended);
        let waiting = self.of.waiting.take();
        waiting.into_iter().for_each(Waker::wake);
    }
}
