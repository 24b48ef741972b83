//! Signatures that moved bytes: each does so once.
//!
//! A signature in a header is good for a quarter of an hour around its time, so one that is remembered for twice that is never taken
//! for new. What can be remembered is bounded: beyond it requests are declined, and go on over HTTP.

use crate::protocol::auth::{SKEW_SECONDS_MAX, Signature};
use std::collections::{HashSet, VecDeque};

/// Signatures that a core remembers: 4 MiB of them.
const REMEMBERED_MAX: usize = 64 * 1024;
/// How long a signature is remembered.
const REMEMBERED_SECONDS: u64 = 2 * SKEW_SECONDS_MAX;

/// The signatures of one core. All requests that name a session come to its core, the same ones sent twice above all.
#[derive(Default)]
pub(super) struct UsedSignatures {
    known: HashSet<[u8; 64]>,
    /// When each may be forgotten, the oldest first.
    order: VecDeque<(u64, [u8; 64])>,
}

/// What is known of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It was not used before, and is from now on.
    First,
    /// It was used.
    Again,
    /// It can not be remembered, so it must not be used.
    Full,
}

impl UsedSignatures {
    pub(super) fn take(&mut self, signature: &Signature, now_seconds: u64) -> Use {
        while self.order.front().is_some_and(|(until, _)| *until < now_seconds) {
            if let Some((_, forgotten)) = self.order.pop_front() {
                self.known.remove(&forgotten);
            }
        }
        let signature = signature.hex();
        if self.known.contains(&signature) {
            return Use::Again;
        }
        if self.order.len() >= REMEMBERED_MAX {
            return Use::Full;
        }
        self.known.insert(signature);
        self.order.push_back((now_seconds + REMEMBERED_SECONDS, signature));
        Use::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(number: u64) -> Signature {
        Signature::parse(format!("{number:064x}").as_bytes()).unwrap()
    }

    #[test]
    fn a_signature_is_good_once_and_forgotten_when_it_is_good_no_more() {
        // Shows both, and that the bound declines instead of forgetting what could still be sent again.
        let mut used = UsedSignatures::default();
        assert_eq!(used.take(&signature(1), 1000), Use::First);
        assert_eq!(used.take(&signature(1), 1000 + REMEMBERED_SECONDS), Use::Again);
        assert_eq!(used.take(&signature(1), 1001 + REMEMBERED_SECONDS), Use::First);
        for number in 2..REMEMBERED_MAX as u64 + 2 {
            assert_eq!(used.take(&signature(number), 5000), Use::First);
        }
        assert_eq!(used.take(&signature(u64::MAX), 5000), Use::Full);
        assert_eq!(used.take(&signature(u64::MAX), 5001 + REMEMBERED_SECONDS), Use::First);
        assert!(used.known.len() == used.order.len());
    }
}
