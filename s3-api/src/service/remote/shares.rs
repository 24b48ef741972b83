//! What each principal has under way on a core, and that it is no more than its share.
//!
//! Without it one principal, by the sessions and the operations that it may have, takes every operation of a core and every place in the
//! line for memory, and whoever else comes is told that the core is busy for as long as that goes on.

use crossdock_transport::remote::Principal;
use std::{cell::RefCell, collections::HashMap, rc::Rc};

/// The transfers of one core, by principal: those that move bytes, and those that wait to be let in.
#[derive(Default)]
pub(super) struct Shares(Rc<RefCell<HashMap<Principal, usize>>>);

impl Shares {
    /// One more of `principal`'s, until what comes back is dropped; none if that is more than `max`.
    pub(super) fn take(&self, principal: &Principal, max: usize) -> Option<Share> {
        let mut counts = self.0.borrow_mut();
        match counts.get_mut(principal) {
            Some(count) if *count >= max => return None,
            Some(count) => *count += 1,
            None if max == 0 => return None,
            None => {
                counts.insert(principal.clone(), 1);
            }
        }
        Some(Share { of: Rc::clone(&self.0), principal: principal.clone() })
    }
}

/// One transfer's place in the share of its principal.
pub(super) struct Share {
    of: Rc<RefCell<HashMap<Principal, usize>>>,
    principal: Principal,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.of.borrow_mut();
        if let Some(count) = counts.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                // Or principals that come and go would stay for ever.
                counts.remove(&self.principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_a_share() {
        // Shows that one principal's share is nobody else's affair, that what ends makes room, and that nothing is kept of whoever has nothing.
        let (shares, alice, bob) = (Shares::default(), Principal::new("alice"), Principal::new("bob"));
        let mut taken: Vec<_> = (0..3).map(|_| shares.take(&alice, 3).unwrap()).collect();
        assert!(shares.take(&alice, 3).is_none());
        let other = shares.take(&bob, 3).unwrap();
        taken.pop();
        assert!(shares.take(&alice, 3).is_some() && shares.take(&alice, 2).is_none());
        drop((taken, other));
        assert!(shares.0.borrow().is_empty() && shares.take(&alice, 0).is_none());
    }
}
