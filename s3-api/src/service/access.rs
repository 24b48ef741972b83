//! Who may do what: what an embedder decides.

use crate::protocol::operation::{OperationName, Resource};
use std::{collections::HashMap, fmt};

/// A secret access key. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<Box<str>>) -> Secret {
        Secret(secret.into())
    }

    /// The secret itself, to make or check a signature with.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Knows the secrets of access keys. Asked once for each signed request, on the core that serves it: it must not block.
pub trait Credentials: Send + Sync {
    /// The secret of `access_key`; none if there is no such key.
    fn lookup(&self, access_key: &str) -> Option<Secret>;
}

impl Credentials for HashMap<String, Secret> {
    fn lookup(&self, access_key: &str) -> Option<Secret> {
        self.get(access_key).cloned()
    }
}

/// Who sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The request was not signed.
    Anonymous,
    /// The request was signed with the secret of this access key.
    AccessKey(Box<str>),
}

/// Decides about each operation, once, before anything is looked at. A copy is asked about twice: as GetObject of its
/// source, and as itself.
pub trait Authorizer: Send + Sync {
    /// Whether `principal` may perform `operation` on `resource`.
    fn authorize(&self, principal: &Principal, operation: OperationName, resource: &Resource) -> bool;

    /// Whether `principal` may have sessions of a transport, over which the bytes of its other requests then go: each of
    /// those is decided about by itself. Default: whoever may list buckets.
    fn authorize_sessions(&self, principal: &Principal) -> bool {
        self.authorize(principal, OperationName::ListBuckets, &Resource::Service)
    }
}

/// Everyone who signs may do everything; those who do not may do nothing, unless the server was opened to all.
#[derive(Clone, Copy, Debug, Default)]
pub struct SignedOnly {
    /// Whether requests without a signature are let in, to do everything: for networks without strangers.
    pub anonymous: bool,
}

impl Authorizer for SignedOnly {
    fn authorize(&self, principal: &Principal, _: OperationName, _: &Resource) -> bool {
        self.anonymous || *principal != Principal::Anonymous
    }
}
