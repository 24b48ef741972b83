//! What the transport believes about libibverbs, tried where that takes more than the workspace: its declarations beside those that
//! rdma-sys reads from the header, and a static program, which can have no library at all.

use std::path::{Path, PathBuf};

use crate::cargo;
use crate::command::Line;
use crate::report::{Verdict, libtest_counts};
use crate::tree::Tree;

/// Static by default, and of everything this host runs on the only such target.
const STATIC_TARGET: &str = "x86_64-unknown-linux-musl";

pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    let mut verdict = oracle(tree)?;
    verdict.add(static_program(tree)?);
    Ok(verdict)
}

/// The declarations of the transport and those of rdma-sys.
fn oracle(tree: &Tree) -> Result<Verdict, String> {
    if let Some(reason) = missing() {
        return Ok(Verdict::skipped(
            1,
            format!("declarations of libibverbs beside those of rdma-sys: {reason}"),
        ));
    }
    let manifest = tree.path("transport/abi-oracle/Cargo.toml");
    let line = cargo::cargo(tree).args(["test", "--quiet", "--locked", "--manifest-path"]).args([manifest]);
    // A directory of its own: other features of the same packages would be built again and again.
    let done = line.args(["--lib", "--target-dir"]).args([tree.target().join("abi-oracle")]).run()?;
    Ok(Verdict::of_runner(libtest_counts(&done.output), done.success))
}

/// What rdma-sys needs and is not here.
fn missing() -> Option<&'static str> {
    if Tree::program("pkg-config").is_none() {
        return Some("pkg-config is missing");
    }
    if !Path::new("/usr/include/infiniband/verbs.h").exists() {
        return Some("<infiniband/verbs.h> is missing (Debian package libibverbs-dev)");
    }
    if !Path::new("/usr/include/rdma/rdma_cma.h").exists() {
        return Some("<rdma/rdma_cma.h> is missing (Debian package librdmacm-dev)");
    }
    (!has_libclang()).then_some("libclang is missing (Debian package libclang-dev)")
}

/// Whether bindgen would find libclang, with the headers that are its own.
pub(crate) fn has_libclang() -> bool {
    let installed = |directory: PathBuf| {
        let entries = std::fs::read_dir(directory.join("lib")).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.into_iter().any(|name| name.starts_with("libclang") && name.contains(".so"))
            && directory.join("lib/clang").exists()
    };
    let versions = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let versions = versions.filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"));
    std::env::var_os("LIBCLANG_PATH").is_some() || versions.map(|entry| entry.path()).any(installed)
}

/// The transport's unit tests in a program that is linked statically: it has no RDMA, and says why; all else works.
fn static_program(tree: &Tree) -> Result<Verdict, String> {
    if !has_static_target(tree) {
        let reason = format!("the Rust target {STATIC_TARGET} is not installed, and can not be");
        return Ok(Verdict::skipped(1, format!("a static program: {reason}")));
    }
    let line = cargo::cargo(tree).args(["test", "--quiet", "--package", "crossdock-transport", "--lib"]);
    let done = line.args(["--target", STATIC_TARGET]).run()?;
    Ok(Verdict::of_runner(libtest_counts(&done.output), done.success))
}

fn has_static_target(tree: &Tree) -> bool {
    let is_there = || {
        let libraries =
            Line::new("rustc", tree.root()).args(["--print", "target-libdir", "--target", STATIC_TARGET]);
        libraries.run_quiet().is_ok_and(|done| done.success && Path::new(done.output.trim()).is_dir())
    };
    if is_there() {
        return true;
    }
    println!("$ rustup target add {STATIC_TARGET}");
    match Line::new("rustup", tree.root()).args(["target", "add", STATIC_TARGET]).run_quiet() {
        Ok(done) if done.success => is_there(),
        Ok(done) => {
            println!("rustup failed: {}", done.output.trim());
            false
        }
        Err(reason) => {
            println!("{reason}");
            false
        }
    }
}
