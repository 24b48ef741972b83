//! Who sends requests: accounts, their users, and the keys they sign with.

use crate::protocol::policy::{Policy, Subject};
use sha2::{Digest, Sha256};
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
    id: Box<str>,
}

/// Bytes of an identifier that is made of names, as those that AWS gives to users have.
const ID_BYTES: usize = 21;

impl Identity {
    /// The account itself.
    pub fn root(access_key: &str, account: Arc<Account>) -> Identity {
        let arn = format!("arn:aws:iam::{}:root", account.id).into();
        let (access_key, id) = (access_key.into(), account.id.clone());
        Identity { access_key, account, user: None, policies: Vec::new(), arn, id }
    }

    /// A user of it. Its identifier is made of its account and its name: see [`Identity::with_id`].
    pub fn user(access_key: &str, account: Arc<Account>, user: &str, policies: Vec<Policy>) -> Identity {
        let arn = format!("arn:aws:iam::{}:user/{user}", account.id).into();
        let (access_key, id) = (access_key.into(), made_id(&account.id, user));
        Identity { access_key, account, user: Some(user.into()), policies, arn, id }
    }

    /// The same, by another identifier: for users who keep theirs when their name changes. No two users may have the same, and none that of
    /// an account.
    pub fn with_id(self, id: &str) -> Identity {
        Identity { id: id.into(), ..self }
    }

    /// `arn:aws:iam::account:user/name`, or `…:root`.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// What policies call `aws:userid`: of an account itself its identifier; of a user one that no other user has, whatever it is called in
    /// another account. All keys of a user have the same.
    ///
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>, "Principal key values": the account's
    /// identifier of its root user, the "unique ID" of an IAM user.)
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// `AIDA` and 17 letters and digits, as AWS has them, of the account and the name: the same on every server, for as long as they are.
fn made_id(account: &str, user: &str) -> Box<str> {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    // The lengths divide: no other account and name together are the same bytes.
    let mut hash = Sha256::new();
    for name in [account, user] {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
    }
    let digits = hash.finalize().into_iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)]));
    "AIDA".chars().chain(digits).take(ID_BYTES).collect::<String>().into()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_of_one_user() {
        // Of the same user by each of its keys, of another name or account another; of an account itself its own. It is what it was, whatever
        // the server: policies name it.
        let account = |id: &str| Arc::new(Account { id: id.into(), display_name: id.into(), email: None });
        let of = |key: &str, id: &str, name: &str| Identity::user(key, account(id), name, Vec::new());
        let ann = of("k", "1", "ann");
        assert_eq!((ann.id(), ann.id().len()), ("AIDA5YIP7CFGVWFZ574L5", ID_BYTES));
        assert_eq!(of("other", "1", "ann").id(), ann.id());
        for other in [of("k", "1", "bob"), of("k", "2", "ann"), of("k", "1a", "nn"), of("k", "", "1ann")] {
            assert_ne!(other.id(), ann.id(), "{other:?}");
        }
        let renamed = of("k", "1", "anna").with_id(ann.id());
        assert_eq!((renamed.id(), renamed.arn()), (ann.id(), "arn:aws:iam::1:user/anna"));
        assert_eq!(Identity::root("k", account("1")).id(), "1");
    }
}
