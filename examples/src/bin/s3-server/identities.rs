//! Who may use the server, and for what.
//!
//! ```toml
//! [[account]]                 # who owns buckets; left out: all users are of one account
//! id = "111122223333"
//! display-name = "Photos"
//! email = "photos@example.com"
//!
//! [[user]]                    # the account itself: it may do everything that is the account's
//! access-key = "owner"
//! secret-key = "…"
//! account = "111122223333"
//!
//! [[user]]
//! access-key = "reader"
//! secret-key = "…"
//! account = "111122223333"
//! name = "ann"                # how policies name it: arn:aws:iam::111122223333:user/ann
//! # id = "AIDAJQABLZS4A3QDU576Q"   # its aws:userid, for one that it keeps when its name changes; else made of account and name
//! access = "read"             # or "full"; for more than that, a policy:
//! buckets = ["photos"]        # only these; left out: all
//! # policy = '{"Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::photos/*"}}'
//! ```
//!
//! The file is read again when it changes, and on SIGHUP. One that can not be read then changes nothing.

use crate::{
    options::Options,
    reload::{Watched, warn_if_open},
};
use crossdock_s3::{
    protocol::policy::{Policy, PolicyPlace},
    service::{Account, Credential, Credentials, Identity, Secret},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The file in the store's first directory that holds the keys made at random.
const KEYS_FILE: &str = "credentials.toml";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Access {
    Full,
    Read,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct User {
    access_key: String,
    secret_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<Access>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buckets: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
}

impl User {
    fn full(access_key: &str, secret_key: &str) -> User {
        let (access_key, secret_key) = (access_key.into(), secret_key.into());
        User {
            access_key,
            secret_key,
            account: None,
            name: None,
            id: None,
            access: None,
            buckets: None,
            policy: None,
        }
    }

    fn identity(&self, account: Arc<Account>) -> Result<Identity, String> {
        let limited = self.access == Some(Access::Read) || self.buckets.is_some() || self.policy.is_some();
        if !limited && self.name.is_none() {
            return match &self.id {
                None => Ok(Identity::root(&self.access_key, account)),
                Some(_) => {
                    Err(format!("{}: an account itself has no other id than its own", self.access_key))
                }
            };
        }
        if self.policy.is_some() && (self.access.is_some() || self.buckets.is_some()) {
            return Err(format!("{}: a policy says it all, without access and buckets", self.access_key));
        }
        let text = self.policy.clone().unwrap_or_else(|| self.made_policy());
        let policy = Policy::parse(text.as_bytes(), PolicyPlace::User)
            .map_err(|error| format!("{}: the policy: {error}", self.access_key))?;
        let name = self.name.as_deref().unwrap_or(&self.access_key);
        let identity = Identity::user(&self.access_key, account, name, vec![policy]);
        match &self.id {
            None => Ok(identity),
            Some(id) if is_user_id(id) => Ok(identity.with_id(id)),
            Some(id) => Err(format!("{}: {id:?} is no id of a user", self.access_key)),
        }
    }

    /// The policy that access and buckets mean.
    fn made_policy(&self) -> String {
        let actions: &[&str] = match self.access {
            Some(Access::Read) => &["s3:Get*", "s3:List*"],
            Some(Access::Full) | None => &["s3:*"],
        };
        let resources: Vec<String> = match &self.buckets {
            None => vec!["*".into()],
            Some(buckets) => buckets
                .iter()
                .flat_map(|name| [format!("arn:aws:s3:::{name}"), format!("arn:aws:s3:::{name}/*")])
                .collect(),
        };
        serde_json::json!({
            "Statement": { "Effect": "Allow", "Action": actions, "Resource": resources }
        })
        .to_string()
    }
}

/// "Length Constraints: Minimum length of 16. Maximum length of 128. Pattern: [\w]+"
/// (<https://docs.aws.amazon.com/IAM/latest/APIReference/API_User.html>, UserId.)
fn is_user_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct AccountEntry {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    account: Vec<AccountEntry>,
    user: Vec<User>,
}

/// Every key and account, as one reading of the file has them.
struct Table {
    keys: HashMap<String, Credential>,
    accounts: HashMap<String, Arc<Account>>,
}

impl Table {
    fn new(file: UsersFile, source: &Path) -> Result<Table, String> {
        let wrong = |what: String| format!("{}: {what}", source.display());
        let default = Account::default_account();
        let mut accounts = HashMap::from([(default.id.to_string(), default)]);
        for AccountEntry { id, display_name, email } in file.account {
            if id.is_empty() || id.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':') {
                return Err(wrong(format!("{id:?} is no identifier of an account")));
            }
            let display_name = display_name.unwrap_or_else(|| id.clone()).into();
            let account = Account { id: id.as_str().into(), display_name, email: email.map(Into::into) };
            if accounts.insert(id.clone(), Arc::new(account)).is_some() {
                return Err(wrong(format!("the account {id} twice")));
            }
        }
        let mut keys = HashMap::new();
        let mut users = Users::default();
        for user in file.user {
            if user.access_key.is_empty() || user.secret_key.is_empty() {
                return Err(wrong("a user without a key".into()));
            }
            let name = user.account.as_deref().unwrap_or("crossdock");
            let account =
                accounts.get(name).cloned().ok_or_else(|| wrong(format!("there is no account {name}")))?;
            let identity = Arc::new(user.identity(account).map_err(wrong)?);
            users.add(&identity, &accounts).map_err(wrong)?;
            let secret = Secret::new(user.secret_key);
            if keys.insert(user.access_key.clone(), Credential { secret, identity }).is_some() {
                return Err(wrong(format!("the access key {} twice", user.access_key)));
            }
        }
        if keys.is_empty() {
            return Err(wrong("no user".into()));
        }
        Ok(Table { keys, accounts })
    }
}

/// Users by account and name, and by what policies tell them apart by.
#[derive(Default)]
struct Users {
    ids: HashMap<(Box<str>, Box<str>), Box<str>>,
    names: HashMap<Box<str>, (Box<str>, Box<str>)>,
}

impl Users {
    /// Refuses what would have two users be one for policies, or one be two.
    fn add(&mut self, identity: &Identity, accounts: &HashMap<String, Arc<Account>>) -> Result<(), String> {
        let Some(user) = &identity.user else { return Ok(()) };
        let (name, id) = ((identity.account.id.clone(), user.clone()), Box::<str>::from(identity.id()));
        if self.ids.insert(name.clone(), id.clone()).is_some_and(|other| other != id) {
            return Err(format!("the user {user} of {} with two ids", identity.account.id));
        }
        let is_other = |other: (Box<str>, Box<str>)| other != name;
        if accounts.contains_key(&*id) || self.names.insert(id.clone(), name.clone()).is_some_and(is_other) {
            return Err(format!("the id {id} twice"));
        }
        Ok(())
    }
}

/// Every identity. Written to when the file changes, which is next to never: a reader waits for nobody else.
pub(crate) struct Identities {
    table: RwLock<Arc<Table>>,
    /// How often it was read.
    generation: AtomicU64,
    file: Option<PathBuf>,
}

/// A pair of keys to show to whoever started the server.
pub(crate) struct Shown {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    /// Where they are to be kept.
    kept: Option<PathBuf>,
}

impl Shown {
    fn of(user: &User, kept: Option<PathBuf>) -> Shown {
        Shown { access_key: user.access_key.clone(), secret_key: user.secret_key.clone(), kept }
    }

    /// Keeps keys that were just made. Not before the store is open: a directory that is refused stays as it is.
    ///
    /// # Errors
    /// The file can not be written.
    pub(crate) fn keep(&self) -> Result<(), String> {
        let Some(path) = &self.kept else { return Ok(()) };
        let file =
            UsersFile { account: Vec::new(), user: vec![User::full(&self.access_key, &self.secret_key)] };
        write(path, &file).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

impl Identities {
    /// The identities that the options name; without any, one whose keys are made at random once and kept.
    ///
    /// # Errors
    /// A file that can not be read or says what can not be.
    pub(crate) fn of(options: &Options) -> Result<(Identities, Option<Shown>), String> {
        if let Some(path) = &options.users {
            return Ok((Identities::new(read(path)?, path, Some(path.clone()))?, None));
        }
        let alone = |user| UsersFile { account: Vec::new(), user: vec![user] };
        if let Some((access_key, secret_key)) = &options.keys {
            let user = User::full(access_key, secret_key);
            return Ok((Identities::new(alone(user), Path::new("the command line"), None)?, None));
        }
        let directory = options.data.first().ok_or("no data path")?;
        let kept = directory.join(KEYS_FILE);
        if kept.exists() {
            let file = read(&kept)?;
            let shown = file.user.first().map(|user| Shown::of(user, None));
            return Ok((Identities::new(file, &kept, Some(kept.clone()))?, shown));
        }
        let made = User::full(&random_text(20)?.to_uppercase(), &random_text(40)?);
        // A block device has no place for them: they are new at each start.
        let has_place = !directory.exists() || directory.is_dir();
        let shown = Shown::of(&made, has_place.then(|| kept.clone()));
        Ok((Identities::new(alone(made), &kept, None)?, Some(shown)))
    }

    fn new(file: UsersFile, source: &Path, watched: Option<PathBuf>) -> Result<Identities, String> {
        let table = RwLock::new(Arc::new(Table::new(file, source)?));
        Ok(Identities { table, generation: AtomicU64::new(1), file: watched })
    }

    fn now(&self) -> Arc<Table> {
        self.table.read().expect("nothing panics with the lock held").clone()
    }
}

impl Watched for Identities {
    fn name(&self) -> &'static str {
        "the file of users"
    }

    fn files(&self) -> Vec<&Path> {
        self.file.iter().map(PathBuf::as_path).collect()
    }

    fn reload(&self) -> Result<(), String> {
        let Some(path) = &self.file else { return Ok(()) };
        let table = Arc::new(Table::new(read(path)?, path)?);
        *self.table.write().expect("nothing panics with the lock held") = table;
        // Behind the table: who sees the number finds the table.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

fn read(path: &Path) -> Result<UsersFile, String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    warn_if_open(path);
    // The parser's own message would show the line, secret and all.
    toml::from_str(&text).map_err(|error| {
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.lines().count());
        format!("{}, line {line}: {}", path.display(), error.message())
    })
}

fn write(path: &Path, file: &UsersFile) -> io::Result<()> {
    let text = toml::to_string(file).map_err(io::Error::other)?;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Letters and digits from the kernel's randomness.
fn random_text(length: usize) -> Result<String, String> {
    // 32 letters: five bits of each byte, none more likely than another.
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

impl Credentials for Identities {
    fn lookup(&self, access_key: &str) -> Option<Credential> {
        self.now().keys.get(access_key).cloned()
    }

    fn generation(&self) -> Option<u64> {
        Some(self.generation.load(Ordering::Acquire))
    }

    fn account(&self, id: &str) -> Option<Arc<Account>> {
        self.now().accounts.get(id).cloned()
    }

    fn account_by_email(&self, email: &str) -> Option<Arc<Account>> {
        let table = self.now();
        table.accounts.values().find(|account| account.email.as_deref() == Some(email)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossdock_s3::protocol::policy::{Facts, Subject, Verdict};

    fn identities(text: &str) -> Result<Identities, String> {
        let file: UsersFile = toml::from_str(text).map_err(|error| error.to_string())?;
        Identities::new(file, Path::new("test"), None)
    }

    #[test]
    fn a_user_may_do_what_its_line_says() {
        // The account itself, reading only some buckets, a policy; accounts by identifier and address.
        let all = identities(
            "[[account]]\nid = '1'\ndisplay-name = 'One'\nemail = 'one@x'\n\
             [[user]]\naccess-key = 'full'\nsecret-key = 's'\n\
             [[user]]\naccess-key = 'read'\nsecret-key = 's'\naccess = 'read'\nbuckets = ['b']\naccount = '1'\nname = 'ann'\n\
             [[user]]\naccess-key = 'policy'\nsecret-key = 's'\n\
             policy = '{\"Statement\":{\"Effect\":\"Allow\",\"Action\":\"s3:PutObject\",\"Resource\":\"arn:aws:s3:::c/*\"}}'",
        )
        .unwrap();
        let full = all.lookup("full").unwrap().identity;
        assert!(full.user.is_none() && *full.account.id == *"crossdock");
        let may = |key: &str, action: &str, resource: &str| {
            let identity = all.lookup(key).unwrap().identity;
            let verdict = identity.policies[0].judge(Subject::Anonymous, action, resource, &Facts::default());
            verdict == Verdict::Allow
        };
        assert_eq!(all.lookup("read").unwrap().identity.arn(), "arn:aws:iam::1:user/ann");
        assert!(may("read", "s3:ListBucket", "b") && may("read", "s3:GetObject", "b/k"));
        assert!(!may("read", "s3:PutObject", "b/k") && !may("read", "s3:GetObject", "c/k"));
        assert!(!may("read", "s3:ListAllMyBuckets", ""));
        assert!(may("policy", "s3:PutObject", "c/k") && !may("policy", "s3:GetObject", "c/k"));
        assert!(all.lookup("nobody").is_none());
        assert_eq!(all.account("1").unwrap().display_name, "One".into());
        assert_eq!(all.account_by_email("one@x").unwrap().id, "1".into());
        assert!(all.account_by_email("two@x").is_none() && all.account("2").is_none());
    }

    #[test]
    fn files_that_can_not_be_are_refused() {
        // No user, a key twice, an empty key, a word that is not known, an account there is not, a policy that is none.
        let user = "[[user]]\naccess-key = 'a'\nsecret-key = 's'\n";
        assert!(identities("user = []").is_err());
        assert!(identities(&user.repeat(2)).is_err_and(|error| error.contains("twice")));
        assert!(identities(&user.replace("'s'", "''")).is_err());
        assert!(identities(&format!("{user}acess = 'read'")).is_err());
        assert!(identities(&format!("{user}account = 'x'")).is_err_and(|error| error.contains("no account")));
        assert!(identities(&format!("{user}policy = '{{}}'")).is_err_and(|error| error.contains("policy")));
        assert!(identities(&format!("{user}policy = '{{}}'\naccess = 'read'")).is_err());
        assert!(identities(&format!("[[account]]\nid = 'a:b'\n{user}")).is_err());
    }

    #[test]
    fn an_id_is_of_one_user() {
        // One that is given stays with another name, and is all keys' of the user; two users can not have one, nor one user two, nor an
        // account that of a user.
        let id = "AIDAJQABLZS4A3QDU576Q";
        let account = "[[account]]\nid = '111122223333'\n";
        let user = |key: &str, name: &str, rest: &str| {
            format!("[[user]]\naccess-key = '{key}'\nsecret-key = 's'\nname = '{name}'\n{rest}\n")
        };
        let (with_id, elsewhere) = (format!("id = '{id}'"), "account = '111122223333'");
        let id_of = |text: &str, key: &str| {
            identities(text).map(|all| all.lookup(key).unwrap().identity.id().to_owned())
        };
        for name in ["ann", "anna"] {
            let both = user("a", name, &with_id) + &user("b", name, &with_id);
            assert_eq!((id_of(&both, "a").unwrap(), id_of(&both, "b").unwrap()), (id.into(), id.into()));
        }
        let both = account.to_owned() + &user("a", "ann", "") + &user("b", "ann", elsewhere);
        let (here, there) = (id_of(&both, "a").unwrap(), id_of(&both, "b").unwrap());
        assert!(here != there && is_user_id(&here) && is_user_id(&there), "{here} {there}");
        for (text, error) in [
            (user("a", "ann", &with_id) + &user("b", "bob", &with_id), "twice"),
            (user("a", "ann", "") + &user("b", "bob", &format!("id = '{here}'")), "twice"),
            (user("a", "ann", &with_id) + &user("b", "ann", ""), "two ids"),
            (format!("[[account]]\nid = '{id}'\n{}", user("a", "ann", &with_id)), "twice"),
            (user("a", "ann", "id = 'anonymous'"), "no id"),
            (user("a", "ann", "id = 'AIDAJQABLZS4A3QDU57:Q'"), "no id"),
            (format!("[[user]]\naccess-key = 'a'\nsecret-key = 's'\n{with_id}\n"), "no other id"),
        ] {
            assert!(identities(&text).is_err_and(|found| found.contains(error)), "{text}");
        }
    }

    #[test]
    fn a_file_is_read_again() {
        // What it says then counts; what can not be changes nothing.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users.toml");
        let user = |key: &str| format!("[[user]]\naccess-key = '{key}'\nsecret-key = 's'\n");
        fs::write(&path, user("one")).unwrap();
        let all = Identities::new(read(&path).unwrap(), &path, Some(path.clone())).unwrap();
        fs::write(&path, user("two")).unwrap();
        all.reload().unwrap();
        assert!(all.lookup("one").is_none() && all.lookup("two").is_some());
        fs::write(&path, "[[user]]").unwrap();
        assert!(all.reload().is_err());
        assert!(all.lookup("two").is_some() && all.files() == [path.as_path()]);
    }
}
