//! Documents name only paths that exist.

use std::path::Path;

use super::{Finding, assert_clean, assert_found, root};

/// The documents at the root whose paths are checked.
const DOCUMENTS: &[&str] = &["ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "SECURITY.md"];

/// A path in a document begins with one of these.
const TOP: &[&str] =
    &["engine/", "transport/", "s3-api/", "examples/", "fuzz/", "benches/", "xtask/", "docs/", ".ci/"];

/// The paths a document names: words between backticks, and the targets of links.
fn paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2);
        let linked = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        for word in quoted.chain(linked) {
            let word = word.trim_start_matches("./");
            // A placeholder, a command line or a pattern names no file.
            let plain = !word.contains([' ', '*', '<', '{', '…', ':']);
            if plain && TOP.iter().any(|top| word.starts_with(top)) {
                found.push((index + 1, word.trim_end_matches('/').to_owned()));
            }
        }
    }
    found
}

fn missing_paths(document: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let missing = paths(text).into_iter().filter(|(_, path)| !exists(Path::new(path)));
    missing
        .map(|(line, path)| Finding::new(format!("{document}:{line}"), format!("there is no `{path}`")))
        .collect()
}

#[test]
fn documents_name_paths_that_exist() {
    // Every path of the code map and of the other documents at the root is there.
    for document in DOCUMENTS {
        // ARCHITECTURE.md may not be written yet; the others are part of every version.
        let Ok(text) = std::fs::read_to_string(root().join(document)) else {
            assert_eq!(*document, "ARCHITECTURE.md", "{document} is missing");
            continue;
        };
        let findings = missing_paths(document, &text, |path| root().join(path).exists());
        assert_clean("A document names only what exists.", &findings);
    }
}

#[test]
fn a_path_that_is_gone_is_found() {
    // A backticked path and a link to a missing file are found; existing ones, URLs and commands are not.
    let text = "`engine/src/lib.rs` and `engine/src/gone.rs`\n[x](docs/gone.md#part) [y](https://e.org/docs/a)\n\
                `xtask/ all of it` `examples/*.rs` `s3-api/`";
    let exists = |path: &Path| path == Path::new("engine/src/lib.rs") || path == Path::new("s3-api");
    assert_found(&missing_paths("A.md", text, exists), &["A.md:1", "A.md:2"]);
}
