//! Environments under the target directory for the clients that are tested: Python's and Node's packages, in fixed versions.

use std::path::{Path, PathBuf};

use crate::command::Line;
use crate::tree::Tree;

/// The Python of the environment of `requirements.txt`, where the client tests run.
pub(crate) fn python(tree: &Tree) -> Result<PathBuf, String> {
    environment(tree, "client-environment", "requirements.txt")
}

/// A client that can not live beside the others, and the variable that says where it is.
struct Apart {
    variable: &'static str,
    install: fn(&Tree) -> Result<PathBuf, String>,
}

const APART: &[Apart] = &[
    // aiobotocore is bound to botocores of the weeks before it.
    Apart {
        variable: "CROSSDOCK_PYTHON_FSSPEC",
        install: |tree| environment(tree, "client-environment-fsspec", "requirements-fsspec.txt"),
    },
    // Where awscrt is, every boto3 signs with it.
    Apart {
        variable: "CROSSDOCK_PYTHON_CRT",
        install: |tree| environment(tree, "client-environment-crt", "requirements-crt.txt"),
    },
    Apart { variable: "CROSSDOCK_NODE_MODULES", install: node_modules },
];

/// Installs the clients that live apart: for each a variable with its place, or one that ends in `_ABSENT` with the
/// reason why it has none.
pub(crate) fn apart(tree: &Tree) -> Vec<(String, String)> {
    let place = |apart: &Apart| match (apart.install)(tree) {
        Ok(path) => (apart.variable.to_owned(), path.display().to_string()),
        Err(reason) => (format!("{}_ABSENT", apart.variable), reason),
    };
    APART.iter().map(place).collect()
}

fn client_file(tree: &Tree, name: &str) -> Result<(PathBuf, String), String> {
    let path = tree.path("examples/tests/clients").join(name);
    let text = std::fs::read_to_string(&path);
    text.map(|text| (path.clone(), text)).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// What the public suite needs besides what it asks for: a bound of time for each test, and what our own server is started with.
const SUITE_BESIDES: [&str; 2] = ["pytest-timeout", "trustme"];

/// The Python of an environment where the public suite runs that is checked out there.
pub(crate) fn suite(tree: &Tree, checkout: &Path) -> Result<PathBuf, String> {
    let requirements = checkout.join("requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .map_err(|error| format!("cannot read {}: {error}", requirements.display()))?;
    filled(tree, "suite-environment", &requirements, &wanted, &SUITE_BESIDES)
}

/// The Python of an environment under the target directory that holds what `requirements` lists, in fixed versions. It is
/// made anew when the list changes.
fn environment(tree: &Tree, name: &str, requirements: &str) -> Result<PathBuf, String> {
    let (requirements, wanted) = client_file(tree, requirements)?;
    filled(tree, name, &requirements, &wanted, &[])
}

fn filled(
    tree: &Tree,
    name: &str,
    requirements: &Path,
    wanted: &str,
    besides: &[&str],
) -> Result<PathBuf, String> {
    let environment = tree.target().join(name);
    let program = environment.join("bin/python");
    let stamp = environment.join("requirements.installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(program);
    }
    make_environment(tree, &environment)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    let done = Line::new(&program, tree.root()).args(pip).args([requirements]).args(besides).run()?;
    if !done.success {
        return Err(format!("pip cannot install {}", requirements.display()));
    }
    std::fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    Ok(program)
}

/// The oldest Node.js that the SDK for JavaScript runs on.
const NODE_MAJOR_MIN: u32 = 20;

/// A directory of Node.js modules under the target directory, as the lock file lists them.
fn node_modules(tree: &Tree) -> Result<PathBuf, String> {
    let version = Line::new("node", tree.root()).args(["--version"]).run_quiet();
    let version = version.map_err(|_| "there is no node (Debian package nodejs)".to_owned())?.output;
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u32| major < NODE_MAJOR_MIN) {
        return Err(format!(
            "the SDK for JavaScript needs node {NODE_MAJOR_MIN}, and here is {}",
            version.trim()
        ));
    }
    let directory = tree.target().join("client-javascript");
    let modules = directory.join("node_modules");
    let (_, wanted) = client_file(tree, "javascript/package-lock.json")?;
    let stamp = directory.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(modules);
    }
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    write("package.json", &client_file(tree, "javascript/package.json")?.1)?;
    write("package-lock.json", &wanted)?;
    // Packages only, and no program of theirs at installation.
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    let done = Line::new("npm", &directory).args(arguments).run()?;
    if !done.success {
        return Err("npm cannot install the SDK for JavaScript".to_owned());
    }
    write("installed", &wanted)?;
    Ok(modules)
}

fn make_environment(tree: &Tree, environment: &Path) -> Result<(), String> {
    let line = Line::new("python3", tree.root()).args(["-m", "venv", "--clear"]).args([environment]);
    let done = line.run_quiet()?;
    if done.success {
        return Ok(());
    }
    Err(format!("python3 cannot make an environment (Debian package python3-venv): {}", done.output.trim()))
}
