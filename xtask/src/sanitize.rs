//! `cargo xtask sanitize`: unit tests under AddressSanitizer, which sees a read or write past what was allocated, one of what
//! was given back, and what nobody gives back.
//!
//! Run are those of the packages that have unsafe code, and of the engine, which has none and does to the transport's what no
//! test of the transport does: cores, disks and a network card for whole histories. The compiler is the one of the tree,
//! asked for its unstable flag.
//! <https://doc.rust-lang.org/beta/unstable-book/compiler-flags/sanitizer.html>

use std::path::Path;

use crate::cargo;
use crate::command::Line;
use crate::report::{Verdict, libtest_counts};
use crate::tree::Tree;

/// A test that leaks on purpose, and is therefore not looked at for leaks.
struct Leaks {
    package: &'static str,
    test: &'static str,
}

/// Of these the point is that something is never given back.
const ON_PURPOSE: &[Leaks] = &[
    // Memory that a device may still write to: the transport lets go of it for good rather than use it again.
    Leaks {
        package: "crossdock-transport",
        test: "rdma::paper::tests::a_device_that_does_not_let_go_keeps_the_memory",
    },
];

/// The packages, and which of their unit tests. The first has nearly all of the unsafe code.
const RUNS: &[(&str, &str)] =
    &[("crossdock-transport", ""), ("crossdock", ""), ("crossdock-s3", "protocol::md5")];

/// The one host whose runtime comes with the compiler that is asked for here.
const TARGET: &str = "x86_64-unknown-linux-gnu";

pub(crate) fn run(tree: &Tree) -> Result<bool, String> {
    let verdict = packages(tree, RUNS)?;
    verdict.notes.iter().for_each(|note| println!("{note}"));
    println!("{}", verdict.counts);
    Ok(verdict.counts.failed == 0)
}

/// The stage of `cargo xtask test`: a minute with its build. The others take several to build.
pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    packages(tree, RUNS.get(..1).unwrap_or_default())
}

fn packages(tree: &Tree, runs: &[(&str, &str)]) -> Result<Verdict, String> {
    if !has_runtime(tree) {
        let reason = format!("AddressSanitizer: this compiler has no runtime of it for {TARGET}");
        return Ok(Verdict::skipped(1, reason));
    }
    let mut verdict = Verdict::default();
    for (package, filter) in runs {
        let leaks: Vec<&str> =
            ON_PURPOSE.iter().filter(|leaks| leaks.package == *package).map(|leaks| leaks.test).collect();
        let mut all = vec![*filter];
        all.extend(leaks.iter().flat_map(|test| ["--skip", *test]));
        verdict.add(tests(tree, package, &all, true)?);
        for test in leaks {
            verdict.add(tests(tree, package, &["--exact", test], false)?);
        }
    }
    Ok(verdict)
}

fn tests(tree: &Tree, package: &str, arguments: &[&str], leaks: bool) -> Result<Verdict, String> {
    let arguments = arguments.iter().filter(|argument| !argument.is_empty());
    // The target is named so that the flags stay away from build scripts and procedural macros.
    let line = cargo::cargo(tree)
        .args(["test", "--quiet", "--lib", "--package", package, "--target", TARGET, "--target-dir"])
        .args([tree.target().join("sanitized")])
        .args(["--"])
        .args(arguments)
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("ASAN_OPTIONS", if leaks { "detect_leaks=1" } else { "detect_leaks=0" });
    let done = line.run()?;
    Ok(Verdict::of_runner(libtest_counts(&done.output), done.success))
}

fn has_runtime(tree: &Tree) -> bool {
    let line = Line::new("rustc", tree.root()).args(["--print", "target-libdir", "--target", TARGET]);
    let Ok(done) = line.run_quiet() else { return false };
    let files = std::fs::read_dir(Path::new(done.output.trim())).into_iter().flatten().flatten();
    let mut names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    cfg!(target_arch = "x86_64") && done.success && names.any(|name| name.ends_with("_rt.asan.a"))
}
