//! `cargo xtask bench`: builds the programs in release, and runs `benches/src/bin/bench`, which measures, prints a table,
//! and writes `benches/RESULTS.md` with its plots.

use std::path::PathBuf;

use crate::cargo::Build;
use crate::command::Line;
use crate::install;
use crate::tree::Tree;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// All sizes, more rounds and five million objects: about fifty minutes on two cores (with peers), instead of some minutes
    #[arg(long)]
    full: bool,
    /// Install other S3 servers below target/peers, and measure them beside ours (the first time that takes ten minutes)
    #[arg(long)]
    peers: bool,
    /// Only these parts: digests, cpu, disk, shared, http, shapes, listing, latency, scaling. Writes no results
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where stores and yardsticks lie, instead of target/: on a disk, not in memory
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Instead of all that, Criterion's benchmarks whose name contains this
    #[arg(long, value_name = "FILTER")]
    micro: Option<String>,
}

/// Peers: name of the package, version, and what `cargo install` needs beside.
const PEERS: [(&str, &str, &[&str]); 2] =
    [("s3s-fs", "0.14.1", &["--features", "binary"]), ("garage", "2.5.0", &[])];

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    for line in install::packages(tree) {
        println!("missing: {line}");
    }
    if let Some(filter) = &options.micro {
        let line =
            Line::new("cargo", tree.root()).args(["bench", "--package", "crossdock-benches", "--", filter]);
        return Ok(line.run()?.success);
    }
    if !Build::Release.programs(tree, "crossdock-examples", &["s3-server", "rdma-client"])? {
        return Err("the programs do not build".to_owned());
    }
    let build = ["build", "--quiet", "--release", "--package", "crossdock-benches", "--bin", "bench"];
    if !Line::new("cargo", tree.root()).args(build).run()?.success {
        return Err("benches/src/bin/bench does not build".to_owned());
    }
    let directory = options.directory.clone().unwrap_or_else(|| tree.target().to_path_buf());
    let mut line = Line::new(Build::Release.program(tree, "bench"), tree.root())
        .args(["--directory".as_ref(), directory.as_os_str()]);
    if options.full {
        line = line.args(["--full"]);
    }
    if options.peers {
        let installed = tree.target().join("peers");
        install_peers(tree, &installed)?;
        line = line.args(["--peers".as_ref(), installed.as_os_str()]);
    }
    line = match options.only.as_slice() {
        [] => line.args(["--results".as_ref(), tree.path("benches").as_os_str()]),
        only => line.args(["--only", &only.join(",")]),
    };
    Ok(line.run()?.success)
}

fn install_peers(tree: &Tree, directory: &std::path::Path) -> Result<(), String> {
    for (name, version, more) in PEERS {
        // A build below the one of our own would take its profile and its lock.
        let line = Line::new("cargo", tree.root())
            .args(["install", "--quiet", "--locked", name, "--version", version, "--root"])
            .args([directory])
            .args(["--target-dir".as_ref(), directory.join("build").as_os_str()])
            .args(more);
        if !line.run()?.success {
            return Err(format!("{name} {version} can not be installed"));
        }
    }
    // Gigabytes that nobody needs any more.
    let build = directory.join("build");
    if build.exists() {
        std::fs::remove_dir_all(&build)
            .map_err(|error| format!("cannot remove {}: {error}", build.display()))?;
    }
    Ok(())
}
