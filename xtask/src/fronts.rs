//! The core of the client tests once more: over HTTPS, and with the service behind hyper.

use crate::cargo::Build;
use crate::command::Line;
use crate::environments;
use crate::report::{Verdict, pytest_counts};
use crate::tree::Tree;

/// What is put, listed, read, copied, uploaded in parts and refused by whichever way in.
const MARKS: &str = "(basic or conditions or multipart or copy or presigned) and not libraries";

/// Clients that send bodies otherwise over TLS, or bring a TLS of their own.
const OTHERS: &str = "libraries or fsspec or crt or javascript or s3fs";

/// What else is asked for behind hyper: everything that the SDK for Python can ask for and everything that has to be refused.
///
/// Left out are tests of our own server's sockets and options (hostile), sessions of memory, which `s3-api/tests/it/http_front.rs` has
/// (rdma_client), and programs that ask, on the wire, for nothing that those here do not: the service behind both front ends is one, and
/// each of them would cost again what it costs in the stage of the clients.
const BEHIND_HYPER: &str = "refusals or versions or configurations or operations";

/// The stage of `cargo xtask test`.
pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    let build = Build::Tests;
    let built = build.programs(tree, "crossdock-examples", &["s3-server"])?
        && build.programs(tree, "crossdock-hyper-frontend", &["hyper-frontend"])?;
    if !built {
        return Ok(Verdict::check(false));
    }
    let python = match environments::python(tree) {
        Ok(python) => python,
        Err(reason) => return Ok(Verdict::skipped(2, format!("client tests: {reason}"))),
    };
    let mut whole = Verdict::default();
    for (program, front, marks) in [
        ("s3-server", "https", format!("{MARKS} or awscli or {OTHERS}")),
        ("hyper-frontend", "hyper", format!("{MARKS} and not awscli or {BEHIND_HYPER}")),
    ] {
        let mut line = Line::new(&python, &tree.path("examples/tests/clients"))
            .args(["-m", "pytest", "-rsfE", "--tb=short", "-q", "-p", "no:cacheprovider", "-m", &marks])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CROSSDOCK_FRONT", front)
            .env("CROSSDOCK_SERVER", build.program(tree, program));
        for (name, value) in environments::apart(tree) {
            line = line.env(&name, value);
        }
        let done = line.run()?;
        let verdict = Verdict::of_runner(pytest_counts(&done.output), done.success);
        whole.counts.add(verdict.counts);
        whole.notes.extend(verdict.notes.into_iter().map(|note| format!("{front}: {note}")));
    }
    Ok(whole)
}
