//! Writes the seeds of one target to a directory, and the words of S3 beside it (`DIRECTORY.dict`), for a fuzzer that starts from
//! files.

use std::path::Path;
use std::process::ExitCode;

use crossdock_fuzz::{Target, vocabulary};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, directory] = arguments.as_slice() else {
        eprintln!("usage: write_seeds TARGET DIRECTORY");
        return ExitCode::FAILURE;
    };
    let Some(target) = crossdock_fuzz::targets().find(|target| target.name == name) else {
        let names: Vec<&str> = crossdock_fuzz::targets().map(|target| target.name).collect();
        eprintln!("there is no target {name}; there are: {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    match write(target, Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write to {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(target: &Target, directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (index, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{index}")), seed)?;
    }
    std::fs::write(directory.with_extension("dict"), vocabulary::dictionary())
}
