//! Who sends requests: accounts, their users, and the keys they sign with.

use crate::protocol::policy::{Policy, Subject};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

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

/// Who owns buckets and objects, and is answerable for its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The identifier: of policies, lists and owners.
    pub id: Box<str>,
    /// The name for people.
    pub display_name: Box<str>,
    /// An address that grants may name it by.
    pub email: Option<Box<str>>,
}

/// The account of those who name none, and of buckets made before there were others.
static DEFAULT: LazyLock<Arc<Account>> = LazyLock::new(|| {
    Arc::new(Account { id: "crossdock".into(), display_name: "crossdock".into(), email: None })
});

impl Account {
    /// The account of those who name none.
    pub fn default_account() -> Arc<Account> {
        DEFAULT.clone()
    }
}

/// Whom a key belongs to.
#[derive(Debug, PartialEq)]
pub struct Identity {
    /// The key's public half.
    pub access_key: Box<str>,
    /// The account.
    pub account: Arc<Account>,
    /// The user's name; none: the account itself, which may do everything that is the account's.
    pub user: Option<Box<str>>,
    /// What the user may do: nothing without.
    pub policies: Vec<Policy>,
    arn: Box<str>,
}

impl Identity {
    /// The account itself.
    pub fn root(access_key: &str, account: Arc<Account>) -> Identity {
        let arn = format!("arn:aws:iam::{}:root", account.id).into();
        Identity { access_key: access_key.into(), account, user: None, policies: Vec::new(), arn }
    }

    /// A user of it.
    pub fn user(access_key: &str, account: Arc<Account>, user: &str, policies: Vec<Policy>) -> Identity {
        let arn = format!("arn:aws:iam::{}:user/{user}", account.id).into();
        Identity { access_key: access_key.into(), account, user: Some(user.into()), policies, arn }
    }

    /// `arn:aws:iam::account:user/name`, or `…:root`.
    pub fn arn(&self) -> &str {
        &self.arn
    }
}

/// A key: its secret, and whose it is.
#[derive(Clone, Debug)]
pub struct Credential {
    /// What requests are signed with.
    pub secret: Secret,
    /// Whose it is.
    pub identity: Arc<Identity>,
}

/// Knows keys and accounts. Asked for each request, on the core that serves it: it must not block.
///
/// A request that has a body is asked about twice: when its head is there, and before anything is done. One whose key is gone by then, or
/// has another secret, is refused, and one whose key has another identity is decided about again.
pub trait Credentials: Send + Sync {
    /// The key of that name; none if there is no such key.
    fn lookup(&self, access_key: &str) -> Option<Credential>;

    /// A number that becomes another, and never again the same, when a key, what belongs to it or what it may do changes: as long as it is
    /// the same, a key is looked up once for each request. It must not change before [`Credentials::lookup`] answers by what is new.
    /// Default: none, and keys are looked up again.
    fn generation(&self) -> Option<u64> {
        None
    }

    /// The account of this identifier. Default: the default account only.
    fn account(&self, id: &str) -> Option<Arc<Account>> {
        (*id == *DEFAULT.id).then(|| DEFAULT.clone())
    }

    /// The account that grants to `email` mean. Default: none.
    fn account_by_email(&self, email: &str) -> Option<Arc<Account>> {
        let _ = email;
        None
    }
}

/// Every key is the default account's own, for as long as there is the map.
impl Credentials for HashMap<String, Secret> {
    fn lookup(&self, access_key: &str) -> Option<Credential> {
        let secret = self.get(access_key)?.clone();
        Some(Credential { secret, identity: Arc::new(Identity::root(access_key, DEFAULT.clone())) })
    }

    fn generation(&self) -> Option<u64> {
        Some(0)
    }
}

/// Who sent a request.
#[derive(Clone, Debug)]
pub enum Principal {
    /// The request was not signed.
    Anonymous,
    /// The request was signed with this identity's key.
    Identity(Arc<Identity>),
}

impl Principal {
    /// Whose it is; none if it was not signed.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Principal::Anonymous => None,
            Principal::Identity(identity) => Some(identity),
        }
    }

    /// The account's identifier.
    pub fn account_id(&self) -> Option<&str> {
        self.identity().map(|identity| &*identity.account.id)
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self, Principal::Anonymous)
    }

    /// As policies name it.
    pub fn subject(&self) -> Subject<'_> {
        match self {
            Principal::Anonymous => Subject::Anonymous,
            Principal::Identity(identity) => {
                Subject::User { account: &identity.account.id, arn: &identity.arn }
            }
        }
    }
}
