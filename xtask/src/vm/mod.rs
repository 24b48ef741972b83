//! RDMA where there is no card: a virtual machine with the kernel's soft-RoCE, and the tests that need it.
//!
//! ```text
//!   this host: qemu, in software, two processors          the machine: Debian's kernel, never installed here
//!     its files, read only ───────── 9p ─────────►  /     under a layer in memory; programs that were built here run there
//!     a file under target/ ───────── NVMe ───────►  /dev/nvme0n1
//!                                    veth ── soft-RoCE ►  rxe0, 10.9.0.1
//! ```
//!
//! It proves correctness and no speed: one gigabit a second, in software.

mod machine;

use crate::cargo::{self, Build};
use crate::report::{Verdict, libtest_counts};
use crate::tree::Tree;
use machine::{Kernel, Machine, Show};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also on the older kernel
    #[arg(long)]
    long: bool,
    /// Run this in the machine instead of the tests, by bash
    #[arg(last = true)]
    command: Vec<String>,
}

/// Longest the tests may take in the machine, whose processors are slow, on a host that has other things to do: a few minutes alone.
const SECONDS_MAX: u64 = 1500;

/// Tests that run in the machine: package, target, which of it (all, if nothing is named), and which besides in long runs. With those of
/// RDMA there are some that look at the kernel, whose io_uring is older there than on most machines that build this.
const TESTS: &[(&str, &str, &str, &str)] = &[
    ("crossdock-transport", "it", "rings:: streams:: shm::", ""),
    ("crossdock-transport", "rdma", "", ""),
    ("crossdock-s3", "it", S3_TESTS, S3_TESTS_LONG),
    ("crossdock-s3", "rdma", "", ""),
];

/// Of S3, what hangs on sockets, sessions and the ring. What stalled clients hold is not looked at in the machine: its sockets have room
/// for whole lists, which then are with the kernel and not with the server.
const S3_TESTS: &str = "remote:: renewal:: steering:: client:: access_log::";
/// What takes its time there: faults of a simulated card, whose likes of the real one are among those of RDMA, what waits for a limit to pass, and
/// what stands above sockets.
const S3_TESTS_LONG: &str = "wire:: faults:: many_at_once:: http_front:: tls::";

/// What people run, and what is tried of it in the machine, where there are cards: choice of a card, files, the bench, mistakes.
const PROGRAMS: &[&str] = &["s3-server", "rdma-client", "crossdock"];
const SCRIPT: &str = include_str!("programs.sh");

/// Test targets that run nowhere else.
pub(crate) fn elsewhere() -> impl Iterator<Item = (&'static str, &'static str)> {
    let only_here = TESTS.iter().filter(|(_, target, ..)| *target == "rdma");
    only_here.map(|(package, target, ..)| (*package, *target))
}

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    let kernels = if options.long { vec![Kernel::Newer, Kernel::Older] } else { vec![Kernel::Newer] };
    if !options.command.is_empty() {
        let mut success = true;
        for kernel in kernels {
            let machine = Machine::prepare(tree, kernel)?;
            println!("on Linux {}", machine.release());
            success &= machine.run(&options.command.join(" "), SECONDS_MAX, Show::AsItComes)?.success;
        }
        return Ok(success);
    }
    let programs = commands(tree, options.long)?;
    let verdict = tests(tree, &kernels, &programs, Show::AsItComes)?.0;
    for note in &verdict.notes {
        println!("{note}");
    }
    println!("{}", verdict.counts);
    Ok(verdict.counts.failed == 0)
}

/// The stage of `cargo xtask test`, which goes on beside others: it waits more than it works, and its tests are patient. What is to be built is
/// built when this returns.
pub(crate) fn begin(tree: &Tree) -> Result<Beside, String> {
    let programs = commands(tree, false)?;
    let tree = tree.clone();
    #[allow(clippy::disallowed_methods, reason = "this is no core")]
    let work = std::thread::spawn(move || tests(&tree, &[Kernel::Newer], &programs, Show::AtTheEnd));
    Ok(Beside(work))
}

/// What goes on beside other stages: its verdict, and what it printed.
pub(crate) struct Beside(std::thread::JoinHandle<Result<(Verdict, String), String>>);

impl Beside {
    /// Waits for the end, and shows what was printed until then.
    pub(crate) fn end(self) -> Result<Verdict, String> {
        let (verdict, output) = self.0.join().map_err(|_| "it ended by a panic".to_owned())??;
        print!("{output}");
        Ok(verdict)
    }
}

/// Builds what is to be run: the programs of the tests, each with which of it, and those that people run, with a script.
fn commands(tree: &Tree, long: bool) -> Result<Vec<String>, String> {
    let of = |(package, target, which, besides): &(&str, &str, &str, &str)| {
        let which = if long { format!("{which} {besides}") } else { (*which).to_owned() };
        let program = cargo::test_program(tree, package, target)?;
        Ok(format!("{} --test-threads=1 --color=never {which}", machine::quoted(&program)))
    };
    let mut commands: Vec<String> = TESTS.iter().map(of).collect::<Result<_, String>>()?;
    if !Build::Tests.programs(tree, "crossdock-examples", PROGRAMS)? {
        return Err("the programs do not build".to_owned());
    }
    let place = Build::Tests.program(tree, "");
    commands.push(format!(
        "bash -c {} programs.sh {}",
        machine::quoted_text(SCRIPT),
        machine::quoted(&place)
    ));
    Ok(commands)
}

/// The verdict, and what was not shown.
fn tests(
    tree: &Tree,
    kernels: &[Kernel],
    commands: &[String],
    show: Show,
) -> Result<(Verdict, String), String> {
    let (mut verdict, mut output) = (Verdict::default(), String::new());
    for kernel in kernels {
        // One skipped test stands for all of them: how many there are is known in the machine only.
        let machine = match Machine::prepare(tree, *kernel) {
            Ok(machine) => machine,
            Err(reason) => {
                verdict.add(Verdict::skipped(1, format!("soft-RoCE on {kernel}: {reason}")));
                continue;
            }
        };
        println!("on Linux {}", machine.release());
        // One machine for all, each test after the other: there is one card. A failure does not keep the others away.
        let runs = commands.iter().map(|command| format!("{command} 2>&1 || failed=1\n"));
        let command = format!("failed=0\n{}exit $failed", runs.collect::<String>());
        let done = machine.run(&command, SECONDS_MAX, show)?;
        verdict.add(Verdict::of_runner(libtest_counts(&done.output), done.success));
        if show == Show::AtTheEnd {
            output.push_str(&done.output);
        }
    }
    Ok((verdict, output))
}
