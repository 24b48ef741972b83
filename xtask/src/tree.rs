//! Where things are: the source tree, its target directory, and what this version of it can build.

use std::path::{Path, PathBuf};

/// The source tree this program was built from.
#[derive(Clone)]
pub(crate) struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Finds the tree through the manifest directory that cargo compiled in.
    pub(crate) fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("xtask/ lies one level below the root of the tree")
            .to_path_buf();
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Self { root, target }
    }

    /// The directory of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that builds and everything else made by a run goes to.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// A path inside the tree.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Where programs built with `--cfg planted` go, so that nobody takes one for another.
    pub(crate) fn planted_target(&self) -> PathBuf {
        self.target.join("planted")
    }

    /// The program a test asks for: an absolute path, or a name looked up along `PATH`.
    pub(crate) fn program(name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        // Debian keeps mkfs and losetup outside an ordinary user's PATH.
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
            .map(|directory| directory.join(name))
            .find(|candidate| candidate.is_file())
    }
}
