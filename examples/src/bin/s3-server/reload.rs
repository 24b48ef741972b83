//! Files that are read again when they change, or when SIGHUP says so, while requests go on.

use crossdock::reactor::Core;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Something made of files.
pub(crate) trait Watched: Send + Sync {
    /// What it is, for the log.
    fn name(&self) -> &'static str;

    /// The files.
    fn files(&self) -> Vec<&Path>;

    /// Reads them again.
    ///
    /// # Errors
    /// They can not be read, or say what can not be: everything stays as it was.
    fn reload(&self) -> Result<(), String>;
}

/// Reads everything again, and says what came of it.
pub(crate) fn reload(all: &[Arc<dyn Watched>]) {
    for watched in all.iter().filter(|watched| !watched.files().is_empty()) {
        let name = watched.name();
        match watched.reload() {
            Ok(()) => tracing::info!("{name}: read again"),
            Err(error) => tracing::error!(error, "{name}: not as it must be, and stays as it was"),
        }
    }
}

/// Reads again what changes: on a core, as a look at some files of a few kilobytes every other second is no work.
pub(crate) async fn watch(all: Vec<Arc<dyn Watched>>, core: Core) {
    let mut seen: Vec<_> = all.iter().map(|watched| stamps(&**watched)).collect();
    loop {
        core.sleep(INTERVAL).await;
        for (watched, seen) in all.iter().zip(&mut seen) {
            let now = stamps(&**watched);
            if now != *seen {
                *seen = now;
                reload(std::slice::from_ref(watched));
            }
        }
    }
}

/// Says so if every user of this machine may read or write `secret`.
pub(crate) fn warn_if_open(secret: &Path) {
    if is_open(secret) {
        tracing::warn!(file = %secret.display(), "a secret that every user of this machine may read: chmod o-rwx");
    }
}

/// A group may be meant to read a key; everybody never is.
fn is_open(secret: &Path) -> bool {
    fs::metadata(secret).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
}

/// When each file was changed last, and how long it is.
fn stamps(watched: &dyn Watched) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |path: &&Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    };
    watched.files().iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_open_when_everybody_may_have_it() {
        // Its owner and a group may; a file that is not there is nobody's.
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("key.pem");
        assert!(!is_open(&secret));
        fs::write(&secret, "key").unwrap();
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open(&secret), open, "{mode:o}");
        }
    }
}
