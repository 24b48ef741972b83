//! Crash tests on the real server: its process is killed, at random and at named places, the power of its disk is cut under load, a bit rots,
//! the disk is full.
//!
//! What must hold afterwards: an acknowledged write is there, byte for byte; one that was not acknowledged is there
//! whole or not at all; the list and the objects agree; damage is reported and never served.
//!
//! Invariants:
//! * Every choice comes from a seed that is printed; timing is real, so a seed repeats a load, not a failure.
//! * The harness is tried on itself: the record's judge and the disk's cache are unit tests, and before power is
//!   cut under a server it is cut under a plain file, synced and not synced, to see that the disk does forget.

mod buckets;
mod client;
mod disk;
mod full;
mod kill;
mod load;
mod points;
mod power;
mod record;
mod rot;
mod server;
mod uploads;
mod verify;

use std::path::{Path, PathBuf};

use crate::cargo::{self, Build};
use crate::command::Line;
use crate::install;
use crate::report::Verdict;
use crate::tree::Tree;
use server::Program;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many times the process is killed
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// How many power cuts on each file system
    #[arg(long, default_value_t = 10)]
    cuts: u32,
    /// How many bits are flipped, one at a time
    #[arg(long, default_value_t = 50)]
    flips: u32,
    /// The seed of all choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Test this program instead of the s3-server of this tree
    #[arg(long)]
    server: Option<PathBuf>,
    /// How many times the process is killed with its store on each of these file systems
    #[arg(long, default_value_t = 10)]
    rounds_on_each: u32,
    /// How many times the process dies at each of its named places
    #[arg(long, default_value_t = 2)]
    deaths: u32,
    /// How many times it does with its store on each of these file systems
    #[arg(long, default_value_t = 1)]
    deaths_on_each: u32,
    /// Only the tests whose name contains this: kill, death, flip, full, ext4, xfs
    #[arg(long)]
    only: Option<String>,
    /// Passed on to the server as they are
    #[arg(last = true)]
    rest: Vec<String>,
}

/// What the stage of `cargo xtask test` runs: a few rounds each, so that it stays in minutes.
const STAGE: Options = Options {
    rounds: 10,
    rounds_on_each: 0,
    deaths: 1,
    deaths_on_each: 0,
    cuts: 4,
    flips: 12,
    seed: 1,
    server: None,
    only: None,
    rest: Vec::new(),
};

pub(crate) fn run(tree: &Tree, options: &Options) -> Result<bool, String> {
    for line in install::packages(tree) {
        println!("missing: {line}");
    }
    let verdict = all(tree, options, Build::Release)?;
    for note in &verdict.notes {
        println!("{note}");
    }
    println!("{}", verdict.counts);
    Ok(verdict.counts.failed == 0)
}

/// The stage of `cargo xtask test`.
pub(crate) fn stage(tree: &Tree) -> Result<Verdict, String> {
    all(tree, &STAGE, Build::Tests)
}

fn all(tree: &Tree, options: &Options, build: Build) -> Result<Verdict, String> {
    let work = tree.target().join("crash");
    if work.exists() {
        std::fs::remove_dir_all(&work)
            .map_err(|error| format!("cannot clear {}: {error}", work.display()))?;
    }
    std::fs::create_dir_all(&work).map_err(|error| format!("cannot make {}: {error}", work.display()))?;
    let program = match &options.server {
        Some(path) => path.clone(),
        None if !cargo::has_program(tree, "bin", "s3-server")? => {
            return Ok(Verdict::skipped(1, "crash tests: this version of the tree has no s3-server program"));
        }
        None if !build.programs(tree, "crossdock-examples", &["s3-server"])? => {
            return Ok(Verdict::check(false));
        }
        None => build.program(tree, "s3-server"),
    };
    let run = Run {
        program: Program {
            path: program,
            extra: options.rest.clone(),
            log: work.join("server.log"),
            dies_at: None,
        },
        tool: store_tool(tree, build)?,
        work,
        seed: options.seed,
    };
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut verdict = Verdict::default();
    if wanted("kill -9") {
        verdict.add(judged("kill -9", kill::rounds(&run, &run.work, options.rounds)));
    }
    for system in [disk::FileSystem::Ext4, disk::FileSystem::Xfs] {
        let on_it = format!("kill -9 on {}", system.name());
        if options.rounds_on_each > 0 && wanted(&on_it) {
            let kill = |directory: &Path| kill::rounds(&run, directory, options.rounds_on_each);
            verdict.add(on_a_disk(tree, &run, &on_it, system, kill));
        }
    }
    verdict.add(deaths(tree, &run, options, build)?);
    if wanted("flipped bits") {
        verdict.add(judged("flipped bits", rot::flips(&run, options.flips)));
    }
    if wanted("full disk") {
        match disk::obstacle(tree, disk::FileSystem::Ext4) {
            Some(obstacle) => verdict.add(Verdict::skipped(1, format!("full disk: {obstacle}"))),
            None => verdict.add(judged("full disk", full::fill(&run))),
        }
    }
    for system in [disk::FileSystem::Ext4, disk::FileSystem::Xfs] {
        let name = format!("power cuts on {}", system.name());
        if !wanted(&name) {
            continue;
        }
        match disk::obstacle(tree, system) {
            Some(obstacle) => verdict.add(Verdict::skipped(2, format!("{name}: {obstacle}"))),
            None => {
                let control = format!("control: {} forgets what was not synced", system.name());
                verdict.add(judged(&control, power::control(&run.work, system)));
                verdict.add(judged(&name, power::cuts(&run, system, options.cuts)));
            }
        }
    }
    Ok(verdict)
}

/// Deaths at named places: on the file system of the tree, and on those that can be made.
fn deaths(tree: &Tree, run: &Run, options: &Options, build: Build) -> Result<Verdict, String> {
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let systems = [disk::FileSystem::Ext4, disk::FileSystem::Xfs];
    let here = options.deaths > 0 && wanted("deaths at named places");
    let on = |system: &disk::FileSystem| format!("deaths at named places on {}", system.name());
    let there = systems.into_iter().filter(|system| options.deaths_on_each > 0 && wanted(&on(system)));
    let there: Vec<disk::FileSystem> = there.collect();
    let mut verdict = Verdict::default();
    if !here && there.is_empty() {
        return Ok(verdict);
    }
    if options.server.is_some() {
        return Ok(Verdict::skipped(
            1,
            "deaths at named places: only a server of this tree is built to die there",
        ));
    }
    if !build.planted_programs(tree, "crossdock-examples", &["s3-server"])? {
        return Ok(Verdict::check(false));
    }
    let program = Program { path: build.planted_program(tree, "s3-server"), ..run.program.clone() };
    if here {
        verdict.add(points::deaths(run, &program, &run.work, "", options.deaths));
    }
    for system in there {
        let name = on(&system);
        let (on, rounds) = (format!(", on {}", system.name()), options.deaths_on_each);
        match mounted(tree, run, &name, system) {
            Ok(mounted) => verdict.add(points::deaths(run, &program, mounted.directory(), &on, rounds)),
            Err(verdicts) => verdict.add(verdicts),
        }
    }
    Ok(verdict)
}

/// Small enough that log zones are, too, and are cleaned and used again within one test.
const SMALL_DISK_BYTES: u64 = 1 << 30;

/// Runs a test with its store on a file system of its own, on a loop device.
fn on_a_disk(
    tree: &Tree,
    run: &Run,
    name: &str,
    system: disk::FileSystem,
    test: impl FnOnce(&Path) -> Result<String, String>,
) -> Verdict {
    match mounted(tree, run, name, system) {
        Ok(mounted) => judged(name, test(mounted.directory())),
        Err(verdict) => verdict,
    }
}

/// A file system of its own for a test, on a loop device; a verdict if that can not be.
fn mounted(tree: &Tree, run: &Run, name: &str, system: disk::FileSystem) -> Result<disk::Mounted, Verdict> {
    if let Some(obstacle) = disk::obstacle(tree, system) {
        return Err(Verdict::skipped(1, format!("{name}: {obstacle}")));
    }
    let directory = run.work.join(name.replace(' ', "-"));
    let image = directory.join("disk.img");
    std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::File::create(&image)?.set_len(SMALL_DISK_BYTES))
        .map_err(|error| format!("cannot make {}: {error}", image.display()))
        .and_then(|()| disk::Mounted::format(&image, &directory.join("mounted"), system))
        .map_err(|error| judged(name, Err(error)))
}

/// What every crash test is given.
struct Run {
    program: Program,
    /// The store tool, when this version of the tree has it.
    tool: Option<PathBuf>,
    work: PathBuf,
    seed: u64,
}

impl Run {
    /// Checks a store that was closed in order with `crossdock fsck`, every byte of it.
    fn check_store(&self, data: &Path, when: &str) -> Result<(), String> {
        self.fsck(data, when, &["fsck", "--data"])
    }

    /// Checks a store as a crash left it, before recovery has changed anything.
    fn check_left_store(&self, data: &Path, when: &str) -> Result<(), String> {
        self.fsck(data, when, &["fsck", "--data", "--after-crash"])
    }

    /// Whether `crossdock fsck` finds something wrong, or can not read the store at all; none without the tool.
    fn finds_fault(&self, data: &Path) -> Result<Option<bool>, String> {
        let Some(tool) = &self.tool else { return Ok(None) };
        let done = Line::new(tool, &self.work).args(["fsck", "--data"]).args([data]).run_quiet()?;
        Ok(Some(!done.success))
    }

    fn fsck(&self, data: &Path, when: &str, arguments: &[&str]) -> Result<(), String> {
        let Some(tool) = &self.tool else { return Ok(()) };
        let done = Line::new(tool, &self.work).args(arguments).args([data]).run_quiet()?;
        if done.success {
            Ok(())
        } else {
            Err(format!("{when}: crossdock fsck found faults:\n{}", done.output))
        }
    }
}

fn store_tool(tree: &Tree, build: Build) -> Result<Option<PathBuf>, String> {
    if !cargo::has_program(tree, "bin", "crossdock")? {
        println!("crossdock fsck is not part of this version of the tree: closed stores are not checked");
        return Ok(None);
    }
    if !build.programs(tree, "crossdock-examples", &["crossdock"])? {
        return Err("cannot build the crossdock tool".to_owned());
    }
    Ok(Some(build.program(tree, "crossdock")))
}

/// One test: what it says about itself, and its verdict.
fn judged(name: &str, result: Result<String, String>) -> Verdict {
    match result {
        Ok(summary) => {
            println!("PASS {name}: {summary}");
            Verdict::check(true)
        }
        Err(fault) => {
            println!("FAIL {name}: {fault}");
            let mut verdict = Verdict::check(false);
            verdict.notes.push(format!("{name}: {}", fault.lines().next().unwrap_or_default()));
            verdict
        }
    }
}

/// At most this many faults of a round are printed; the first ones tell.
const FAULTS_SHOWN: usize = 10;

fn faults_error(when: &str, faults: &[String]) -> Result<(), String> {
    if faults.is_empty() {
        return Ok(());
    }
    let shown: Vec<&str> = faults.iter().take(FAULTS_SHOWN).map(String::as_str).collect();
    Err(format!("{when}: {} faults\n  {}", faults.len(), shown.join("\n  ")))
}

/// Makes the bucket of the load; it must then be there after any crash.
fn make_bucket(address: std::net::SocketAddr) -> Result<(), String> {
    let reply = client::Client::connect(address)
        .and_then(|mut client| client.call("PUT", &format!("/{}", load::BUCKET), "", &[]))
        .map_err(|error| format!("cannot make a bucket: {error}"))?;
    match reply.status {
        200 => Ok(()),
        status => {
            let said = String::from_utf8_lossy(&reply.body);
            Err(format!("cannot make a bucket: status {status}: {said}"))
        }
    }
}
