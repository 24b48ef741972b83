//! Writes the seeds of one target to a directory, for a fuzzer that starts from files.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, directory] = arguments.as_slice() else {
        eprintln!("usage: write_seeds TARGET DIRECTORY");
        return ExitCode::FAILURE;
    };
    let Some(target) = crossdock_fuzz::TARGETS.iter().find(|target| target.name == name) else {
        let names: Vec<&str> = crossdock_fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("there is no target {name}; there are: {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    for (index, seed) in (target.seeds)().iter().enumerate() {
        let path = std::path::Path::new(directory).join(format!("seed-{index}"));
        if let Err(error) = std::fs::write(&path, seed) {
            eprintln!("cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
