//! Who may know whom: manifests and the lock file.
//!
//! ```text
//! examples, benches, fuzz  ─►  s3-api  ─►  engine  ─►  transport
//! ```

use super::{Finding, assert_clean, assert_found, root};

/// The packages of the workspace with their place in the chain: a package may know only lower numbers.
const CHAIN: &[(&str, &str, u8)] = &[
    ("transport", "crossdock-transport", 0),
    ("engine", "crossdock", 1),
    ("s3-api", "crossdock-s3", 2),
    ("examples", "crossdock-examples", 3),
    ("examples/custom_transport", "crossdock-custom-transport", 3),
    ("examples/hyper-frontend", "crossdock-hyper-frontend", 3),
    ("benches", "crossdock-benches", 3),
    ("fuzz", "crossdock-fuzz", 3),
    ("xtask", "xtask", 0),
];

/// The libraries, which embedders build into their own runtimes.
const LIBRARIES: &[&str] = &["crossdock-transport", "crossdock", "crossdock-s3"];

/// Runtimes and frameworks no library may bring along.
const RUNTIMES: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "hyper",
    "axum",
    "actix-web",
    "monoio",
    "glommio",
    "tokio-uring",
    "compio",
];

fn manifest(directory: &str) -> toml::Table {
    let path = root().join(directory).join("Cargo.toml");
    std::fs::read_to_string(&path).expect("a package has a manifest").parse().expect("a manifest is TOML")
}

/// The names in every dependency table of a manifest: normal, development, build, and of each target.
fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut tables: Vec<&toml::Table> = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let mut names = Vec::new();
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(listed) = table.get(kind).and_then(toml::Value::as_table) else { continue };
            for (name, value) in listed {
                // `alias = { package = "name" }` is still a dependency on `name`.
                let package = value.get("package").and_then(toml::Value::as_str);
                names.push(package.unwrap_or(name).to_owned());
            }
        }
    }
    names
}

fn back_edges(packages: &[(&str, toml::Table)]) -> Vec<Finding> {
    let level =
        |package: &str| CHAIN.iter().find(|(_, name, _)| *name == package).map(|(_, _, level)| *level);
    let mut findings = Vec::new();
    for (directory, manifest) in packages {
        let place = format!("{directory}/Cargo.toml");
        let name =
            manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
        let Some(own) = name.and_then(level) else {
            findings.push(Finding::new(place, "this package has no place in the chain: name it in CHAIN"));
            continue;
        };
        for dependency in dependencies(manifest) {
            if level(&dependency).is_some_and(|other| other >= own) {
                let message =
                    format!("depends on `{dependency}`, which stands beside or above it in the chain");
                findings.push(Finding::new(place.clone(), message));
            }
        }
    }
    findings
}

/// The packages that a library reaches through the lock file, and that it must not.
fn runtimes_reached(lock: &toml::Table) -> Vec<Finding> {
    let packages = lock.get("package").and_then(toml::Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |package: &toml::Value, key: &str| -> String {
        package.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_owned()
    };
    let mut findings = Vec::new();
    for library in LIBRARIES {
        let mut seen = vec![(*library).to_owned()];
        let mut next = 0;
        while let Some(name) = seen.get(next).cloned() {
            next += 1;
            if RUNTIMES.contains(&name.as_str()) {
                findings
                    .push(Finding::new("Cargo.lock", format!("the library `{library}` reaches `{name}`")));
            }
            for package in packages.iter().filter(|package| text(package, "name") == name) {
                let listed = package.get("dependencies").and_then(toml::Value::as_array);
                for dependency in listed.into_iter().flatten().filter_map(toml::Value::as_str) {
                    // An entry reads `name` or `name version`.
                    let name = dependency.split(' ').next().unwrap_or(dependency).to_owned();
                    if !seen.contains(&name) {
                        seen.push(name);
                    }
                }
            }
        }
    }
    findings
}

#[test]
fn packages_know_only_what_is_below_them() {
    // The chain has no back edge, in any dependency table of any member of the workspace.
    let workspace = manifest("");
    let members = workspace["workspace"]["members"].as_array().expect("the workspace lists its members");
    let packages: Vec<(&str, toml::Table)> =
        members.iter().filter_map(toml::Value::as_str).map(|member| (member, manifest(member))).collect();
    assert_eq!(packages.len(), CHAIN.len(), "a member of the workspace came or went: update CHAIN");
    assert_clean("A package may depend only on packages below it in the chain.", &back_edges(&packages));
}

#[test]
fn a_back_edge_is_found() {
    // Plain, renamed, development-only and per-target edges against the chain are all seen.
    let sample = |text: &str| text.parse::<toml::Table>().expect("the sample is TOML");
    let findings = back_edges(&[
        ("transport", sample("package.name = 'crossdock-transport'\n[dev-dependencies]\ncrossdock = '1'")),
        ("engine", sample("package.name = 'crossdock'\n[dependencies]\ns3 = { package = 'crossdock-s3' }")),
        (
            "s3-api",
            sample("package.name = 'crossdock-s3'\n[target.'cfg(unix)'.dependencies]\ncrossdock-fuzz = '1'"),
        ),
        ("examples", sample("package.name = 'crossdock-examples'\n[dependencies]\ncrossdock = '1'")),
        ("new", sample("package.name = 'new'")),
    ]);
    let places = ["transport/Cargo.toml", "engine/Cargo.toml", "s3-api/Cargo.toml", "new/Cargo.toml"];
    assert_found(&findings, &places);
}

#[test]
fn libraries_bring_no_runtime() {
    // Nothing a library reaches, at any depth, is an asynchronous runtime or a web framework.
    let text = std::fs::read_to_string(root().join("Cargo.lock")).expect("the lock file is part of the tree");
    let lock = text.parse().expect("the lock file is TOML");
    assert_clean("An embedder brings the runtime; the libraries bring none.", &runtimes_reached(&lock));
}

#[test]
fn a_runtime_two_steps_away_is_found() {
    // A dependency of a dependency counts as well.
    let lock = "[[package]]\nname = 'crossdock'\ndependencies = ['a 1.0.0']\n\
                [[package]]\nname = 'a'\ndependencies = ['tokio']\n[[package]]\nname = 'tokio'";
    assert_found(&runtimes_reached(&lock.parse().expect("the sample is TOML")), &["Cargo.lock"]);
}
