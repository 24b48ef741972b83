//! Signing keys that were derived before: four HMACs saved for each request.

use super::Secret;
use crate::protocol::auth::{Scope, SigningKey};
use std::collections::HashMap;

/// Keys kept. A key is good for a day, so that there are about as many as access keys in use.
const KEYS_MAX: usize = 1024;

/// Derived keys by access key. Only of secrets that exist: a sender of bad requests can not fill it.
#[derive(Default)]
pub(super) struct KeyCache(HashMap<Box<str>, Derived>);

struct Derived {
    secret: Secret,
    scope: Scope,
    key: SigningKey,
}

impl KeyCache {
    /// The signing key of `secret`, which belongs to `access_key`, for `scope`.
    pub(super) fn key(&mut self, access_key: &str, secret: &Secret, scope: &Scope) -> &SigningKey {
        let known =
            self.0.get(access_key).is_some_and(|known| known.secret == *secret && known.scope == *scope);
        if !known {
            if self.0.len() >= KEYS_MAX {
                self.0.clear();
            }
            let key = SigningKey::derive(secret.reveal(), scope);
            let derived = Derived { secret: secret.clone(), scope: scope.clone(), key };
            self.0.insert(access_key.into(), derived);
        }
        &self.0.get(access_key).expect("known, or put there above").key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_follows_its_secret_and_its_day() {
        // Another secret or another day of the same access key gives another key, and the old one is gone.
        let scope = |day: &str| Scope { day: day.into(), region: "us-east-1".into() };
        let mut cache = KeyCache::default();
        let sign = |key: &SigningKey| key.sign(b"x").hex();
        let first = sign(cache.key("a", &Secret::new("s"), &scope("20260101")));
        assert_eq!(first, sign(cache.key("a", &Secret::new("s"), &scope("20260101"))));
        let day = sign(cache.key("a", &Secret::new("s"), &scope("20260102")));
        let secret = sign(cache.key("a", &Secret::new("t"), &scope("20260102")));
        assert!(first != day && day != secret);
        assert_eq!(secret, sign(&SigningKey::derive("t", &scope("20260102"))));
        assert_eq!(cache.0.len(), 1);
    }
}
