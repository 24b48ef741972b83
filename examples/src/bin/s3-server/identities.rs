//! Who may use the server, and for what.
//!
//! ```toml
//! [[user]]
//! access-key = "reader"
//! secret-key = "…"
//! access = "read"         # or "full", which is the default
//! buckets = ["photos"]    # only these; left out: all
//! ```

use crate::options::Options;
use crossdock_s3::{
    protocol::operation::{OperationName, Resource},
    service::{Authorizer, Credentials, Principal, Secret},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The file in the store's first directory that holds the keys made at random.
const KEYS_FILE: &str = "credentials.toml";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Access {
    #[default]
    Full,
    Read,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct User {
    access_key: String,
    secret_key: String,
    #[serde(default)]
    access: Access,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    buckets: Option<Vec<String>>,
}

impl User {
    fn full(access_key: &str, secret_key: &str) -> User {
        let (access_key, secret_key) = (access_key.into(), secret_key.into());
        User { access_key, secret_key, access: Access::Full, buckets: None }
    }
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    user: Vec<User>,
}

/// Every identity, by access key.
pub(crate) struct Identities(HashMap<String, (Secret, User)>);

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
        let file = UsersFile { user: vec![User::full(&self.access_key, &self.secret_key)] };
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
            return Ok((Identities::new(read(path)?.user, path)?, None));
        }
        if let Some((access_key, secret_key)) = &options.keys {
            let users = vec![User::full(access_key, secret_key)];
            return Ok((Identities::new(users, Path::new("the command line"))?, None));
        }
        let directory = options.data.first().ok_or("no data path")?;
        let kept = directory.join(KEYS_FILE);
        if kept.exists() {
            let file = read(&kept)?;
            let shown = file.user.first().map(|user| Shown::of(user, None));
            return Ok((Identities::new(file.user, &kept)?, shown));
        }
        let made = User::full(&random_text(20)?.to_uppercase(), &random_text(40)?);
        // A block device has no place for them: they are new at each start.
        let has_place = !directory.exists() || directory.is_dir();
        let shown = Shown::of(&made, has_place.then(|| kept.clone()));
        Ok((Identities::new(vec![made], &kept)?, Some(shown)))
    }

    fn new(users: Vec<User>, source: &Path) -> Result<Identities, String> {
        let mut all = HashMap::new();
        for user in users {
            if user.access_key.is_empty() || user.secret_key.is_empty() {
                return Err(format!("{}: a user without a key", source.display()));
            }
            let secret = Secret::new(user.secret_key.as_str());
            if let Some((_, user)) = all.insert(user.access_key.clone(), (secret, user)) {
                return Err(format!("{}: the access key {} twice", source.display(), user.access_key));
            }
        }
        if all.is_empty() {
            return Err(format!("{}: no user", source.display()));
        }
        Ok(Identities(all))
    }
}

fn read(path: &Path) -> Result<UsersFile, String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
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
    fn lookup(&self, access_key: &str) -> Option<Secret> {
        self.0.get(access_key).map(|(secret, _)| secret.clone())
    }
}

impl Authorizer for Identities {
    fn authorize(&self, principal: &Principal, operation: OperationName, resource: &Resource) -> bool {
        let Principal::AccessKey(access_key) = principal else { return false };
        let Some((_, user)) = self.0.get(&**access_key) else { return false };
        let bucket_allowed = match (&user.buckets, resource.bucket()) {
            (Some(buckets), Some(bucket)) => buckets.iter().any(|allowed| allowed == bucket),
            // A list of all buckets would tell of those that are not allowed.
            (Some(_), None) => false,
            (None, _) => true,
        };
        bucket_allowed && (user.access == Access::Full || !operation.is_write())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities(text: &str) -> Result<Identities, String> {
        let file: UsersFile = toml::from_str(text).map_err(|error| error.to_string())?;
        Identities::new(file.user, Path::new("test"))
    }

    #[test]
    fn a_user_may_do_what_its_line_says() {
        // Reading only, some buckets only, everything; strangers nothing.
        let all = identities(
            "[[user]]\naccess-key = 'full'\nsecret-key = 's'\n\
             [[user]]\naccess-key = 'read'\nsecret-key = 's'\naccess = 'read'\nbuckets = ['b']",
        )
        .unwrap();
        let may = |key: &str, operation, bucket: &str| {
            let resource = match bucket {
                "" => Resource::Service,
                bucket => Resource::Bucket { bucket: bucket.into() },
            };
            all.authorize(&Principal::AccessKey(key.into()), operation, &resource)
        };
        assert!(may("full", OperationName::DeleteBucket, "x") && may("full", OperationName::ListBuckets, ""));
        assert!(may("read", OperationName::ListObjectsV2, "b"));
        assert!(!may("read", OperationName::PutObject, "b") && !may("read", OperationName::GetObject, "c"));
        assert!(
            !may("read", OperationName::ListBuckets, "") && !may("nobody", OperationName::GetObject, "b")
        );
        assert!(!all.authorize(&Principal::Anonymous, OperationName::GetObject, &Resource::Service));
        assert!(all.lookup("full").is_some() && all.lookup("nobody").is_none());
    }

    #[test]
    fn files_that_can_not_be_are_refused() {
        // No user, a key twice, an empty key, a word that is not known.
        let user = "[[user]]\naccess-key = 'a'\nsecret-key = 's'\n";
        assert!(identities("user = []").is_err());
        assert!(identities(&user.repeat(2)).is_err_and(|error| error.contains("twice")));
        assert!(identities(&user.replace("'s'", "''")).is_err());
        assert!(identities(&format!("{user}acess = 'read'")).is_err());
    }
}
