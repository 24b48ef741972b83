//! A core's part of the card.

use super::{Shared, session::Session};
use crate::{
    dice::Dice,
    remote::{
        Answer, ConnectError, Endpoint, EndpointOptions, Entropy, NOTIFY, NOTIFY_IMMEDIATE, Offer, Principal,
        RemoteMemory, SessionId, SessionLimits, SessionTable,
    },
};
use std::{cell::RefCell, os::fd::BorrowedFd, rc::Rc, sync::Arc, time::Duration};

pub(super) struct SimulatedEndpoint {
    shared: Arc<Shared>,
    core: u16,
    dice: Rc<Dice>,
    entropy: RefCell<Entropy>,
    sessions: RefCell<SessionTable<Rc<Session>>>,
    /// Every session, in the order they were made: a table's own order would differ from run to run. Those that were disconnected stay
    /// until they are drained.
    all: RefCell<Vec<Listed>>,
}

struct Listed {
    id: SessionId,
    session: Rc<Session>,
    disconnected: bool,
}

impl Listed {
    fn is_done(&self) -> bool {
        self.disconnected && self.session.is_drained()
    }
}

impl SimulatedEndpoint {
    pub(super) fn new(shared: Arc<Shared>, options: EndpointOptions) -> SimulatedEndpoint {
        let seed = shared.faults.seed ^ u64::from(options.core).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        SimulatedEndpoint {
            shared,
            core: options.core,
            dice: Rc::new(Dice::new(seed)),
            entropy: RefCell::new(options.entropy),
            sessions: RefCell::new(SessionTable::new(options.limits)),
            all: RefCell::default(),
        }
    }

    fn listed(&self) -> Vec<Rc<Session>> {
        self.all.borrow().iter().map(|listed| Rc::clone(&listed.session)).collect()
    }
}

impl Endpoint for SimulatedEndpoint {
    fn connect(&self, principal: &Principal, offer: Offer) -> Result<Answer, ConnectError> {
        self.sessions.borrow().admit(principal)?;
        let peer = self.shared.clients.accept(&offer)?;
        let mut entropy = [0; 14];
        (self.entropy.borrow_mut())(&mut entropy);
        let id = SessionId::new(self.core, entropy);
        let credits = self.sessions.borrow().limits().credits;
        let notifies = offer.asks_for_notices();
        if notifies {
            peer.set_notified();
        }
        let session = Session::new(peer, notifies, credits, self.shared.faults, Rc::clone(&self.dice));
        self.sessions.borrow_mut().insert(id, principal, Rc::clone(&session));
        self.all.borrow_mut().push(Listed { id, session, disconnected: false });
        let granted = notifies.then(|| (NOTIFY.to_owned(), NOTIFY_IMMEDIATE.to_owned()));
        Ok(Answer { session: id, token: String::new(), parameters: granted.into_iter().collect() })
    }

    fn session(&self, id: SessionId, principal: &Principal) -> Option<Rc<dyn RemoteMemory>> {
        let session = Rc::clone(self.sessions.borrow().find(id, principal)?);
        Some(session)
    }

    fn disconnect(&self, id: SessionId, principal: &Principal) -> bool {
        let Some(session) = self.sessions.borrow_mut().remove(id, principal) else { return false };
        session.break_off();
        let mut all = self.all.borrow_mut();
        all.iter_mut().filter(|listed| listed.id == id).for_each(|listed| listed.disconnected = true);
        all.retain(|listed| !listed.is_done());
        true
    }

    fn expire_idle(&self, now: Duration) -> usize {
        let expired = self.sessions.borrow_mut().expired(now, |session| session.take_used());
        expired.iter().filter(|(id, principal)| self.disconnect(*id, principal)).count()
    }

    fn session_count(&self) -> usize {
        self.sessions.borrow().len()
    }

    fn limits(&self) -> SessionLimits {
        *self.sessions.borrow().limits()
    }

    fn poll(&self) -> usize {
        let mut waiting = self.listed();
        let mut completed = 0;
        // In another order each time, so that sessions overtake each other.
        while let Some(last) = waiting.len().checked_sub(1) {
            let place = self.dice.draw(last as u32 + 1) as usize;
            completed += waiting.swap_remove(place).step();
        }
        self.all.borrow_mut().retain(|listed| !listed.is_done());
        completed
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn begin_wait(&self) -> bool {
        self.listed().iter().all(|session| session.is_drained())
    }
}

impl Drop for SimulatedEndpoint {
    fn drop(&mut self) {
        for session in self.listed() {
            session.close();
        }
    }
}
