//! `cargo xtask fuzz TARGET`: one fuzz target under libFuzzer.
//!
//! The coverage counters come from LLVM's pass, which the stable compiler can run; with `--address-sanitizer` the
//! compiler is asked for AddressSanitizer as well, which needs its unstable flags.

use crate::cargo;
use crate::command::Line;
use crate::report::Verdict;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A target of fuzz/fuzz_targets
    target: String,
    /// Stop after this many seconds; 0 runs until something is found
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Build with AddressSanitizer (asks the compiler for unstable flags)
    #[arg(long)]
    address_sanitizer: bool,
    /// Passed on to libFuzzer as they are
    #[arg(last = true)]
    rest: Vec<String>,
}

/// What cargo-fuzz passes too: counters in every block, comparisons traced, assertions on.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Coverflow-checks \
    -Ccodegen-units=1";

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    let corpus = tree.path("fuzz/corpus").join(&options.target);
    let artifacts = tree.path("fuzz/artifacts").join(&options.target);
    let dictionary = corpus.with_extension("dict");
    for directory in [&corpus, &artifacts] {
        std::fs::create_dir_all(directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    }
    // A target of the protocol is built without the engine, which takes a fraction of the time.
    let features: &[&str] =
        if needs_engine(tree, &options.target)? { &[] } else { &["--no-default-features"] };
    // The seeds are values in the source, so that they follow the format; libFuzzer wants files.
    let seeds = Line::new("cargo", tree.root())
        .args(["run", "--quiet", "--package", "crossdock-fuzz"])
        .args(features)
        .args(["--bin", "write_seeds", "--", &options.target])
        .args([&corpus])
        .run()?;
    if !seeds.success {
        return Ok(false);
    }
    let mut flags = COVERAGE.to_owned();
    if options.address_sanitizer {
        flags.push_str(" -Zsanitizer=address");
    }
    // An explicit target triple keeps the flags away from build scripts and procedural macros.
    let mut line = Line::new("cargo", tree.root())
        .args(["run", "--quiet", "--release", "--package", "crossdock-fuzz", "--features", "libfuzzer"])
        .args(features)
        .args(["--target", host_triple(), "--target-dir"])
        .args([tree.target().join("fuzz")])
        .args(["--bin", &options.target, "--"])
        .args([&corpus]);
    // What was found before; a target of which nothing was found has no such directory.
    let found = tree.path("fuzz/seeds").join(&options.target);
    if found.is_dir() {
        line = line.args([&found]);
    }
    line = line
        .args([format!("-artifact_prefix={}/", artifacts.display())])
        .args([format!("-max_total_time={}", options.seconds)])
        .args([format!("-dict={}", dictionary.display())])
        .args(&options.rest)
        .env("RUSTFLAGS", flags);
    if options.address_sanitizer {
        line = line.env("RUSTC_BOOTSTRAP", "1");
    }
    Ok(line.run()?.success)
}

/// Whether a target is one of the engine's, as its `[[bin]]` in `fuzz/Cargo.toml` says.
fn needs_engine(tree: &Tree, target: &str) -> Result<bool, String> {
    let path = tree.path("fuzz/Cargo.toml");
    let unread = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| unread(&error))?;
    let manifest: toml::Table = text.parse().map_err(|error| unread(&error))?;
    let programs =
        manifest.get("bin").and_then(toml::Value::as_array).ok_or_else(|| unread(&"no [[bin]]"))?;
    let is_it = |program: &&toml::Value| program.get("name").and_then(toml::Value::as_str) == Some(target);
    let Some(program) = programs.iter().find(is_it) else {
        let names = programs.iter().filter_map(|program| program.get("name")?.as_str());
        return Err(format!(
            "there is no target {target}; there are: {}",
            names.collect::<Vec<_>>().join(", ")
        ));
    };
    let features = program.get("required-features").and_then(toml::Value::as_array);
    Ok(features.is_some_and(|features| features.iter().any(|feature| feature.as_str() == Some("engine"))))
}

/// How many mutations each target gets in the stage: seconds in all.
const STAGE_INPUTS: &str = "500000";

/// The stage of `cargo xtask test`: every target over mutations that are the same in every run, with the build
/// that the tests share.
pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    cargo::run_tests_of(tree, "crossdock-fuzz", &[("CROSSDOCK_FUZZ_INPUTS", STAGE_INPUTS)])
}

/// The triple of the machine this program was built for, which is where the target runs.
fn host_triple() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" }
}
