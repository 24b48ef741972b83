//! The server dies at each of its named places in turn, under a mixed load, while it makes a store, and while it opens one.
//!
//! A kill at random rarely falls between two steps that take microseconds. So the engine names these places
//! (`engine/src/planted.rs`), and a build of its own ends there as `kill -9` ends it. A place that is not reached in time is a
//! failure: what is not tried shows nothing.

use std::ops::RangeInclusive;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use super::load::{Journal, Load};
use super::server::{Program, Server, Started};
use super::verify::{Outcome, verify_all};
use super::{Run, faults_error, judged, make_bucket};
use crate::clock;
use crate::report::Verdict;

/// How long a place may take to be reached.
const REACH_LIMIT: Duration = Duration::from_secs(60);
/// How long the load runs before a kill that is only to leave something to recover.
const LOAD_BEFORE: Duration = Duration::from_millis(400);
/// What the counts below are made for: anchors are written for each shard, buckets recorded on each.
const SHARDS: u32 = 4;
/// Copies of its anchor that each shard writes when it is opened.
const ANCHORS: u32 = 4 * SHARDS;

/// A place to die at.
struct Place {
    point: &'static str,
    /// The how-manieth time it is reached: drawn from these.
    times: RangeInclusive<u32>,
    on: Way,
}

/// How it is come to.
enum Way {
    /// While a store is made.
    Making,
    /// Under load.
    Load,
    /// Under the first load of a new store, while it still grows.
    FirstLoad,
    /// While a store is opened that a kill under load has left.
    Opening,
    /// While a store is opened that a death at this place has left.
    OpeningAfter(&'static Place),
}

use Way::{FirstLoad, Load as Loaded, Making, Opening, OpeningAfter};

const fn place(point: &'static str, times: RangeInclusive<u32>, on: Way) -> Place {
    Place { point, times, on }
}

/// Every place, most of them where they are reached in more ways than one.
static PLACES: &[Place] = &[
    place("ShardMade", 1..=SHARDS, Making),
    place("AnchorCopyWritten", 1..=ANCHORS, Making),
    place("ZoneGrown", 1..=2 * SHARDS, Making),
    place("SuperblockWritten", 1..=1, Making),
    place("SuperblockNamed", 1..=1, Making),
    place("DataWritten", 1..=60, Loaded),
    place("DataSynced", 1..=60, Loaded),
    place("LogWritten", 1..=400, Loaded),
    place("Applied", 1..=400, Loaded),
    place("ZoneGrown", 1..=8, FirstLoad),
    place("ZoneMade", 1..=8, FirstLoad),
    place("DataZoneMade", 1..=8, FirstLoad),
    place("ZoneEntered", 1..=40, Loaded),
    place("ChunkWritten", 1..=12, Loaded),
    place("CheckpointSynced", 1..=12, Loaded),
    // Under load those of the opening come first.
    place("AnchorCopyWritten", ANCHORS + 1..=ANCHORS + 40, Loaded),
    place("Relocating", 1..=4, Loaded),
    place("Relocated", 1..=4, Loaded),
    place("UploadCompleting", 1..=8, Loaded),
    place("UploadCompleted", 1..=8, Loaded),
    place("ExtentsShared", 1..=4, Loaded),
    place("ReferenceDropped", 1..=4, Loaded),
    place("BucketHalfMade", 1..=4 * SHARDS, Loaded),
    place("BucketHalfGone", 1..=2, Loaded),
    place("Recovered", 1..=SHARDS, Opening),
    place("AnchorCopyWritten", 1..=ANCHORS - 1, Opening),
    place("AnchorCopyMended", 1..=1, OpeningAfter(&HALF_ANCHOR)),
    place("EpochBegun", 1..=SHARDS, Opening),
    place("BucketSettling", 1..=1, OpeningAfter(&HALF_MADE)),
    place("BucketSettling", 1..=1, OpeningAfter(&HALF_GONE)),
];

/// One copy of a shard's anchor is new.
static HALF_ANCHOR: Place = place("AnchorCopyWritten", 1..=1, Opening);
/// A bucket is recorded on some shards and not on its home.
static HALF_MADE: Place = place("BucketHalfMade", 1..=SHARDS - 1, Loaded);
/// A bucket is gone from its home and from no other shard.
static HALF_GONE: Place = place("BucketHalfGone", 1..=1, Loaded);

/// Has the server of this program die `rounds` times at each place, its store in this directory. A verdict for each.
pub(super) fn deaths(run: &Run, program: &Program, directory: &Path, on: &str, rounds: u32) -> Verdict {
    let mut verdict = Verdict::default();
    let mut scene = Scene::new(run, program, directory);
    for (index, place) in PLACES.iter().enumerate() {
        for round in 1..=rounds {
            let name = match rounds {
                1 => format!("death at {}{on}", place.title()),
                _ => format!("death {round} at {}{on}", place.title()),
            };
            let result = scene.death(place, index);
            if result.is_err() {
                // What is left is for whoever looks into it; the next begin anew.
                scene.begin_anew();
            }
            verdict.add(judged(&name, result));
        }
    }
    verdict.add(judged(&format!("store after all deaths{on}"), scene.close()));
    verdict
}

impl Place {
    fn title(&self) -> String {
        let on = match &self.on {
            Making => " while a store is made".to_owned(),
            Loaded => String::new(),
            FirstLoad => " in a new store".to_owned(),
            Opening => " while a store is opened".to_owned(),
            OpeningAfter(before) => format!(" while a store is opened, after {}", before.point),
        };
        format!("{}{on}", self.point)
    }
}

/// A store and what its clients know of it.
struct Scene<'a> {
    run: &'a Run,
    program: Program,
    directory: &'a Path,
    rng: Rng,
    /// Stores so far.
    stores: u32,
    data: PathBuf,
    journal: Arc<Journal>,
}

impl<'a> Scene<'a> {
    fn new(run: &'a Run, program: &Program, directory: &'a Path) -> Self {
        let mut program = program.clone();
        program.extra.extend(["--cores", "2", "--shards", &SHARDS.to_string()].map(str::to_owned));
        let rng = Rng::with_seed(run.seed);
        let (data, journal) = (PathBuf::new(), Arc::default());
        let mut scene = Self { run, program, directory, rng, stores: 0, data, journal };
        scene.begin_anew();
        scene
    }

    fn begin_anew(&mut self) {
        self.stores += 1;
        self.data = self.directory.join(format!("deaths-{}", self.stores));
        self.journal = Arc::default();
    }

    /// One death, and all that must hold after it.
    fn death(&mut self, place: &Place, index: usize) -> Result<String, String> {
        let is_made = matches!(place.on, Making);
        if is_made || matches!(place.on, FirstLoad) {
            self.remove()?;
            self.begin_anew();
        }
        if !is_made && !self.data.exists() {
            self.make()?;
        }
        let before = self.journal.operation_count();
        let times = self.die(place)?;
        if !is_made {
            self.run.check_left_store(&self.data, "as the death left it")?;
        }
        let server = Server::start(&self.program, &self.data)?;
        if is_made {
            make_bucket(server.address())?;
            let load = Load::start(server.address(), &self.journal, index as u64, Some(&self.data), false);
            clock::pause(LOAD_BEFORE);
            load.join();
            faults_error("after the restart", &self.journal.take_faults())?;
        }
        let Outcome { checked_count, faults } = verify_all(server.address(), &self.journal)?;
        faults_error("after the restart", &faults)?;
        let opened_in = server.opened_in;
        // The next open finds a store that was not closed either.
        server.kill()?;
        let operations = self.journal.operation_count() - before;
        Ok(format!(
            "reached {times} times, {operations} operations, {checked_count} values compared, 0 lost, 0 wrong, \
             opened in {opened_in:.0?}"
        ))
    }

    /// What was found to be in order need not be kept.
    fn remove(&self) -> Result<(), String> {
        match std::fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", self.data.display()))
            }
            _ => Ok(()),
        }
    }

    /// A store with the bucket of the load.
    fn make(&self) -> Result<(), String> {
        let server = Server::start(&self.program, &self.data)?;
        make_bucket(server.address())?;
        server.kill()
    }

    /// Gets the server to the place, where it dies. Says the how-manieth time it was there.
    fn die(&mut self, place: &Place) -> Result<u32, String> {
        match &place.on {
            Making | Loaded | FirstLoad => {}
            Opening => self.leave_something()?,
            OpeningAfter(before) => {
                self.die(before)?;
            }
        }
        let times = self.rng.u32(place.times.clone());
        let program = Program { dies_at: Some(format!("{}:{times}", place.point)), ..self.program.clone() };
        let log_before = std::fs::read_to_string(&program.log).unwrap_or_default().len();
        let status = match (Server::launch(&program, &self.data)?, &place.on) {
            (Started::Ended(status), _) => Some(status),
            (Started::Ready(mut server), Loaded | FirstLoad) => self.end_of(&mut server)?,
            (Started::Ready(_), _) => None,
        };
        let said = std::fs::read_to_string(&program.log).unwrap_or_default();
        let line = format!("dies at {}", place.point);
        let said_so = said.get(log_before..).unwrap_or_default().lines().any(|said| said == line);
        match status {
            Some(status) if said_so && status.signal() == Some(Signal::KILL.as_raw()) => Ok(times),
            Some(status) => Err(format!("it ended, but not at the place: {status}")),
            None => Err(format!("it was not reached {times} times within {REACH_LIMIT:?}")),
        }
    }

    /// Puts a load on the server until it ends.
    fn end_of(&mut self, server: &mut Server) -> Result<Option<std::process::ExitStatus>, String> {
        let load = Load::start(server.address(), &self.journal, self.rng.u64(..), Some(&self.data), true);
        let status = server.ends_within(REACH_LIMIT);
        load.join();
        faults_error("before the death", &self.journal.take_faults())?;
        status
    }

    /// A kill under load, so that the next open has something to recover.
    fn leave_something(&mut self) -> Result<(), String> {
        let server = Server::start(&self.program, &self.data)?;
        let load = Load::start(server.address(), &self.journal, self.rng.u64(..), Some(&self.data), false);
        clock::pause(LOAD_BEFORE);
        load.expect_the_end();
        server.kill()?;
        load.join();
        faults_error("before the kill", &self.journal.take_faults())
    }

    /// Opens the store once more, closes it in order, and checks every byte of it, and that no space is lost.
    fn close(&self) -> Result<String, String> {
        let server = Server::start(&self.program, &self.data)?;
        let Outcome { checked_count, faults } = verify_all(server.address(), &self.journal)?;
        faults_error("at the end", &faults)?;
        server.stop()?;
        self.run.check_store(&self.data, "closed at the end")?;
        let operations = self.journal.operation_count();
        Ok(format!("{operations} operations, {checked_count} values compared, closed and checked, 0 leaked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_server_dies_at_every_place_that_has_a_name() {
        // The places of the engine, those that are tried, and those that its documents tell of are the same.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = std::fs::read_to_string(root.join("engine/src/planted.rs")).unwrap();
        let (_, list) = text.split_once("\npoints! {").unwrap();
        let (list, _) = list.split_once("\n}").unwrap();
        let named: BTreeSet<&str> = list.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
        let tried: BTreeSet<&str> = PLACES.iter().map(|place| place.point).collect();
        assert_eq!(named, tried);
        let told = std::fs::read_to_string(root.join("engine/docs/recovery.md")).unwrap();
        let untold: Vec<_> = named.iter().filter(|name| !told.contains(&format!("(`{name}`)"))).collect();
        assert!(untold.is_empty(), "recovery.md does not say what survives a death at {untold:?}");
    }
}
