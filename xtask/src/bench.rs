//! `cargo xtask bench`: Criterion's benchmarks, then the throughput ratios against fio.

use crate::command::Line;
use crate::install;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only benchmarks whose name contains this
    filter: Option<String>,
}

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    for line in install::packages(tree) {
        println!("missing: {line}");
    }
    let mut line = Line::new("cargo", tree.root()).args(["bench", "--package", "crossdock-benches"]);
    if let Some(filter) = &options.filter {
        line = line.args(["--", filter]);
    }
    let mut passed = line.run()?.success;
    if options.filter.is_none() {
        // On the disk that holds the tree: the temporary directory may be memory.
        let target = tree.path("target");
        let ratios = Line::new("cargo", tree.root())
            .args(["run", "--quiet", "--release", "--package", "crossdock-benches", "--bin", "engine_io"])
            .args(["--", &target.to_string_lossy()]);
        passed &= ratios.run()?.success;
    }
    Ok(passed)
}
