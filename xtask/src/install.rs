//! What the stages need from outside cargo: parts of the toolchain and Debian packages. What the client tests need besides is
//! installed by `environments.rs`.
//!
//! Packages are installed when this user may (root, or sudo without a password); otherwise what is missing is
//! named, and the stages that need it count as skipped.

use std::path::Path;

use crate::command::Line;
use crate::environments;
use crate::tree::Tree;

/// A program the stages call, and the Debian package it comes in.
struct Needed {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

const NEEDED: &[Needed] = &[
    Needed { program: "rclone", package: "rclone", purpose: "client tests" },
    Needed { program: "restic", package: "restic", purpose: "client tests" },
    Needed { program: "fio", package: "fio", purpose: "benchmarks" },
    Needed { program: "valgrind", package: "valgrind", purpose: "counts of instructions" },
    Needed { program: "mkfs.ext4", package: "e2fsprogs", purpose: "power-loss tests" },
    Needed { program: "mkfs.xfs", package: "xfsprogs", purpose: "power-loss tests" },
    Needed { program: "losetup", package: "mount", purpose: "power-loss tests" },
    Needed { program: "python3", package: "python3", purpose: "client tests" },
    Needed { program: "s3fs", package: "s3fs", purpose: "client tests" },
    Needed { program: "node", package: "nodejs", purpose: "client tests" },
    Needed { program: "npm", package: "npm", purpose: "client tests" },
    Needed { program: "qemu-system-x86_64", package: "qemu-system-x86", purpose: "RDMA tests" },
    Needed { program: "busybox", package: "busybox-static", purpose: "RDMA tests" },
    Needed { program: "rdma", package: "iproute2", purpose: "RDMA tests" },
    Needed { program: "ibv_devinfo", package: "ibverbs-utils", purpose: "RDMA tests" },
    Needed { program: "pkg-config", package: "pkg-config", purpose: "RDMA tests" },
    Needed { program: "depmod", package: "kmod", purpose: "RDMA tests" },
    Needed { program: "cpio", package: "cpio", purpose: "RDMA tests" },
    Needed { program: "zstd", package: "zstd", purpose: "RDMA tests" },
    Needed { program: "xz", package: "xz-utils", purpose: "RDMA tests" },
];

/// Installs everything; true when nothing is missing afterwards.
pub(crate) fn run(tree: &Tree) -> bool {
    let missing = packages(tree);
    for line in &missing {
        println!("missing: {line}");
    }
    let mut complete = missing.is_empty();
    match environments::python(tree) {
        Ok(program) => println!("Python environment: {}", program.display()),
        Err(reason) => {
            println!("missing: {reason}");
            complete = false;
        }
    }
    for (name, value) in environments::apart(tree) {
        println!("{name}: {value}");
        complete &= !name.ends_with("_ABSENT");
    }
    complete
}

/// Installs the parts of the toolchain and the Debian packages that are not there; returns a line for each program
/// still missing.
pub(crate) fn packages(tree: &Tree) -> Vec<String> {
    let mut missing = components(tree);
    missing.extend(debian_packages(tree));
    missing
}

/// A toolchain of the minimal profile comes without these.
const COMPONENTS: &[(&str, &str)] = &[("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")];

fn components(tree: &Tree) -> Vec<String> {
    let absent = || COMPONENTS.iter().filter(|(program, _)| Tree::program(program).is_none());
    for (_, component) in absent() {
        println!("$ rustup component add {component}");
        match Line::new("rustup", tree.root()).args(["component", "add", component]).run_quiet() {
            Ok(done) if done.success => {}
            Ok(done) => println!("rustup failed: {}", done.output.trim()),
            Err(reason) => println!("{reason}"),
        }
    }
    absent().map(|(program, component)| format!("{program} (rustup component {component})")).collect()
}

fn debian_packages(tree: &Tree) -> Vec<String> {
    let absent = || NEEDED.iter().filter(|needed| Tree::program(needed.program).is_none());
    let mut wanted: Vec<&str> = absent().map(|needed| needed.package).collect();
    if Tree::program("python3").is_none() || !python_makes_environments(tree) {
        wanted.push("python3-venv");
    }
    if !library_is_there("libibverbs/librxe-rdmav34.so") {
        wanted.push("ibverbs-providers");
    }
    // Our declarations of the library are compared with it.
    if !Path::new("/usr/include/infiniband/verbs.h").exists() {
        wanted.push("libibverbs-dev");
    }
    if !Path::new("/usr/include/rdma/rdma_cma.h").exists() {
        wanted.push("librdmacm-dev");
    }
    if !crate::verbs::has_libclang() {
        wanted.push("libclang-dev");
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    if let Err(reason) = apt_install(tree, &wanted) {
        println!("{reason}");
    }
    absent()
        .map(|needed| {
            format!("{} (Debian package {}), needed by {}", needed.program, needed.package, needed.purpose)
        })
        .collect()
}

/// Whether a shared library is where Debian puts it.
fn library_is_there(name: &str) -> bool {
    let directory = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    Path::new(&directory).join(name).exists()
}

/// Asks for fresh lists of packages.
pub(crate) fn refresh_lists(tree: &Tree) -> Result<(), String> {
    let done = match administrator(tree).ok_or("the lists of packages can not be refreshed by this user")? {
        Administrator::Root => Line::new("apt-get", tree.root()),
        Administrator::Sudo => Line::new("sudo", tree.root()).args(["-n", "apt-get"]),
    };
    let done = done.args(["-qq", "update"]).run_quiet()?;
    if done.success { Ok(()) } else { Err(format!("apt-get update failed: {}", done.output.trim())) }
}

fn apt_install(tree: &Tree, packages: &[&str]) -> Result<(), String> {
    let apt = Tree::program("apt-get").ok_or("no apt-get here: install by hand what is named as missing")?;
    let prefix =
        administrator(tree).ok_or("neither root nor sudo without a password: nothing was installed")?;
    let apt_get = |arguments: &[&str]| {
        let line = match prefix {
            Administrator::Root => Line::new(&apt, tree.root()),
            Administrator::Sudo => Line::new("sudo", tree.root()).args(["-n", "apt-get"]),
        };
        line.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").run_quiet()
    };
    println!("$ apt-get install {}", packages.join(" "));
    // Without fresh lists an install fails on a machine just set up; a stale list is better than none.
    let update = apt_get(&["-qq", "update"])?;
    if !update.success {
        println!("apt-get update failed: {}", update.output.trim());
    }
    // One at a time: a package this release does not have must not keep the others away.
    for package in packages {
        let done = apt_get(&["-qq", "--yes", "--no-install-recommends", "install", package])?;
        if !done.success {
            println!("apt-get install {package} failed: {}", done.output.trim());
        }
    }
    Ok(())
}

/// How this user becomes the administrator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Administrator {
    Root,
    Sudo,
}

pub(crate) fn administrator(tree: &Tree) -> Option<Administrator> {
    let root = Line::new("id", tree.root()).args(["-u"]).run_quiet().is_ok_and(|id| id.output.trim() == "0");
    if root {
        return Some(Administrator::Root);
    }
    let sudo = Line::new("sudo", tree.root()).args(["-n", "true"]).run_quiet();
    sudo.is_ok_and(|done| done.success).then_some(Administrator::Sudo)
}

fn python_makes_environments(tree: &Tree) -> bool {
    let line = Line::new("python3", tree.root()).args(["-c", "import venv, ensurepip"]);
    line.run_quiet().is_ok_and(|done| done.success)
}
