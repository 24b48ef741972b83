//! What may stand in which source file.

use super::scan::{Source, lines_with, sources};
use super::{Finding, assert_clean, assert_found, root};

const LIBRARIES: &[&str] = &["transport", "engine", "s3-api"];
const EVERYTHING: &[&str] = &["transport", "engine", "s3-api", "examples", "benches", "fuzz", "xtask"];

/// Where `unsafe` may be written: below these directories, or in these files.
const UNSAFE: &[&str] = &[
    "transport/src/mapping.rs",
    "transport/src/memory/",
    "transport/src/ring/",
    "transport/src/rdma/",
    "transport/src/shm/",
    "s3-api/src/protocol/md5/vectors.rs",
];

/// Where clocks are read, threads started, and threads put to sleep. Everyone else is told the time.
const CLOCKS: &[&str] = &[
    "transport/src/rdma/connector.rs",
    "transport/src/rdma/watch.rs",
    "transport/src/ring/workers.rs",
    "transport/src/shm/closing.rs",
    "engine/src/reactor/",
    "engine/src/handle/threads.rs",
    "engine/examples/",
    "examples/src/",
    "examples/examples/",
    "benches/",
    "xtask/src/clock.rs",
    // The machine goes on beside other stages.
    "xtask/src/vm/mod.rs",
];

/// Ways to read a clock, sleep, or start a thread.
const CLOCK_WORDS: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "thread::sleep",
    "thread::spawn",
    "thread::Builder",
    "thread::scope",
    "clock_gettime",
    "nanosleep",
];

/// What the sans-IO protocol must not know.
const PROTOCOL_FORBIDS: &[&str] = &[
    "crossdock",
    "crossdock_transport",
    "std::net",
    "std::fs",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant",
    "SystemTime",
    "std::thread",
    "std::process",
    "std::env",
    "rustix",
    "getrandom",
    "fastrand",
];

/// A file is one idea: past this it is two.
const LINES_MAX: usize = 800;

fn allowed(path: &str, list: &[&str]) -> bool {
    list.iter().any(|entry| if entry.ends_with('/') { path.starts_with(entry) } else { path == *entry })
}

fn unsafe_outside(sources: &[Source], list: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        if !allowed(&source.path, list) {
            for line in lines_with(&source.code, "unsafe") {
                let message = "`unsafe` outside the modules that may hold it; look for a safe shape first";
                findings.push(Finding::new(format!("{}:{line}", source.path), message));
            }
        }
        for (line, module) in unsafe_allowances(source) {
            if !allowed(&module, list) {
                let message = format!("allows `unsafe_code` for {module}, which is not named in UNSAFE");
                findings.push(Finding::new(format!("{}:{line}", source.path), message));
            }
        }
    }
    findings
}

/// Each `allow(unsafe_code)` of a file, with the path it speaks for: the file itself, or, when it stands above
/// `mod name;`, the directory or file of that module.
fn unsafe_allowances(source: &Source) -> Vec<(usize, String)> {
    let lines: Vec<&str> = source.code.lines().collect();
    let mut found = Vec::new();
    for (index, text) in lines.iter().enumerate() {
        // `expect(unsafe_code)` silences the lint just as well.
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        if !(compact.contains("allow(unsafe_code") || compact.contains("expect(unsafe_code")) {
            continue;
        }
        let below = lines.get(index..).unwrap_or_default().iter();
        let module = below.clone().take(4).find_map(|line| {
            let line = line.rsplit(']').next().unwrap_or(line).trim();
            let name = line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
            name.strip_prefix("mod ").and_then(|name| name.strip_suffix(';'))
        });
        let inner = compact.starts_with("#![");
        let path = match module {
            Some(name) if !inner => {
                let directory = module_directory(&source.path);
                let is_directory = root().join(format!("{directory}{name}")).is_dir();
                if is_directory { format!("{directory}{name}/") } else { format!("{directory}{name}.rs") }
            }
            _ => source.path.clone(),
        };
        found.push((index + 1, path));
    }
    found
}

/// The directory in which the children of a module lie, with a `/` at its end.
fn module_directory(path: &str) -> String {
    for own in ["mod.rs", "lib.rs", "main.rs"] {
        if let Some(directory) = path.strip_suffix(own) {
            return directory.to_owned();
        }
    }
    format!("{}/", path.trim_end_matches(".rs"))
}

fn clocks_outside(sources: &[Source], list: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Integration tests drive real threads and are no part of what the simulator runs.
    let watched =
        |path: &str| !path.contains("/tests/") && !path.contains("/benches/") && !allowed(path, list);
    for source in sources.iter().filter(|source| watched(&source.path)) {
        let code = source.code_outside_tests();
        for word in CLOCK_WORDS {
            for line in lines_with(&code, word) {
                let message =
                    format!("`{word}`: time and threads come in as arguments, or this file is in CLOCKS");
                findings.push(Finding::new(format!("{}:{line}", source.path), message));
            }
        }
    }
    findings
}

fn impure_protocol(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("s3-api/src/protocol/")) {
        let code = source.code_outside_tests();
        for word in PROTOCOL_FORBIDS {
            for line in lines_with(&code, word) {
                let message =
                    format!("`{word}` in the sans-IO protocol: bytes and times come in as arguments");
                findings.push(Finding::new(format!("{}:{line}", source.path), message));
            }
        }
    }
    findings
}

fn unfinished(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for word in ["todo!", "unimplemented!"] {
            for line in lines_with(&source.code, word) {
                let message = format!("`{word}`: finish it, or leave it out and say so in the documents");
                findings.push(Finding::new(format!("{}:{line}", source.path), message));
            }
        }
    }
    findings
}

fn too_long(sources: &[Source]) -> Vec<Finding> {
    let long = sources.iter().filter(|source| source.line_count > LINES_MAX);
    long.map(|source| {
        let message = format!("{} lines: more than one idea; split it by phase", source.line_count);
        Finding::new(source.path.clone(), message)
    })
    .collect()
}

#[test]
fn unsafe_stays_in_its_modules() {
    // The keyword and the allowance of its lint appear only where a proof is expected.
    let findings = unsafe_outside(&sources(root(), EVERYTHING), UNSAFE);
    assert_clean("`unsafe` lives in the modules named in UNSAFE and nowhere else.", &findings);
}

#[test]
fn stray_unsafe_is_found() {
    // A block in a wrong file, an allowance in a wrong file and one for a wrong module are found; the right ones,
    // comments and lint names are not.
    let samples = [
        Source::new("transport/src/memory/arena.rs", "unsafe { x() }"),
        Source::new(
            "transport/src/lib.rs",
            "#[allow(unsafe_code)]\npub mod memory;\n// unsafe\n#![deny(unsafe_code)]",
        ),
        Source::new("engine/src/log.rs", "//! unsafe\nfn f() {\n    unsafe { x() }\n}"),
        Source::new("engine/src/lib.rs", "#[allow(unsafe_code)]\nmod speed;"),
        Source::new("engine/src/index/mod.rs", "#![allow(unsafe_code)]"),
    ];
    let list = ["transport/src/memory/", "transport/src/memory.rs"];
    let found = unsafe_outside(&samples, &list);
    assert_found(&found, &["engine/src/log.rs:3", "engine/src/lib.rs:1", "engine/src/index/mod.rs:1"]);
}

#[test]
fn clocks_sleeps_and_spawns_stay_in_their_files() {
    // What the simulator must own is reached through arguments everywhere else.
    let findings = clocks_outside(&sources(root(), EVERYTHING), CLOCKS);
    assert_clean("Time, sleep and threads come in from outside.", &findings);
}

#[test]
fn a_stray_clock_is_found() {
    // Reading a clock in a library is found with its line; tests and the named files are left alone.
    let samples = [
        Source::new(
            "engine/src/log.rs",
            "\nlet t = std::time::Instant::now();\nrustix::time::clock_gettime(x);",
        ),
        Source::new("engine/src/index.rs", "#[cfg(test)]\nmod tests { fn f() { std::thread::spawn(g); } }"),
        Source::new("engine/src/reactor/clock.rs", "Instant::now()"),
        Source::new("engine/tests/it/main.rs", "Instant::now()"),
    ];
    assert_found(&clocks_outside(&samples, CLOCKS), &["engine/src/log.rs:2", "engine/src/log.rs:3"]);
}

#[test]
fn the_protocol_is_sans_io() {
    // Sockets, files, clocks, randomness and the engine are unknown to the protocol.
    let findings = impure_protocol(&sources(root(), LIBRARIES));
    assert_clean(
        "s3-api/src/protocol turns bytes into operations and back, and does nothing else.",
        &findings,
    );
}

#[test]
fn an_impure_protocol_is_found() {
    // An import of the engine and of the clock is found; the service beside it may have both.
    let samples = [
        Source::new(
            "s3-api/src/protocol/xml.rs",
            "use crossdock::Engine;\nuse std::time::{Duration, SystemTime};",
        ),
        Source::new(
            "s3-api/src/protocol/time.rs",
            "use std::time::Duration; // SystemTime\nfn crossdock_s3() {}",
        ),
        Source::new("s3-api/src/service/mod.rs", "use crossdock::Engine;"),
    ];
    let places = ["s3-api/src/protocol/xml.rs:1", "s3-api/src/protocol/xml.rs:2"];
    assert_found(&impure_protocol(&samples), &places);
}

#[test]
fn nothing_is_left_unfinished() {
    // No placeholder macro is in the tree.
    assert_clean("No placeholder panics.", &unfinished(&sources(root(), EVERYTHING)));
}

#[test]
fn a_placeholder_is_found() {
    // Both macros are seen in code, and neither in a comment.
    let sample = [Source::new("engine/src/a.rs", "// todo!()\ntodo!()\nfn f() { unimplemented!(\"x\") }")];
    assert_found(&unfinished(&sample), &["engine/src/a.rs:2", "engine/src/a.rs:3"]);
}

#[test]
fn files_are_one_idea_long() {
    // No source file grows past the limit.
    assert_clean("A file is one idea.", &too_long(&sources(root(), EVERYTHING)));
}

#[test]
fn a_long_file_is_found() {
    // One line more than the limit is too long; the limit itself is not.
    let file = |count: usize| "x\n".repeat(count);
    let samples = [Source::new("a.rs", &file(LINES_MAX)), Source::new("b.rs", &file(LINES_MAX + 1))];
    assert_found(&too_long(&samples), &["b.rs"]);
}
