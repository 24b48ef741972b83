//! `crossdock scrub`: reads all data of a store, in use or not, at the least priority, and goes on where it was stopped.

use super::{Failure, StorePath, clock, progress::Shown, report::Findings, units};
use crossdock::inspect::{Access, Progress, ScrubOptions, Store, unreadable};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

/// How often the state is written: what is read again after a stop.
const SAVE_EVERY: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    store: StorePath,
    /// Bytes to read a second at most: 50M, 1G
    #[arg(long, value_parser = units::parse_size)]
    rate: Option<u64>,
    /// Keep in this file how far it is, and go on from there; it is removed at the end
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// One JSON document a line: the findings, then the sum
    #[arg(long)]
    json: bool,
}

/// How far a scrub is. Findings are kept too: they are about what is not read again.
struct State {
    file: Option<PathBuf>,
    saved: Instant,
    store: String,
    shard: u16,
    after: Option<Vec<u8>>,
    bytes: u64,
    findings: Vec<Value>,
}

pub(crate) fn run(options: &Options, output: &mut dyn Write) -> Result<bool, Failure> {
    yield_to_others();
    let store = options.store.open(Access::Any)?;
    let state = Rc::new(RefCell::new(State::begin(&store, options.state.clone())?));
    let mut findings = Findings::new(&store, options.json);
    let first = {
        let state = state.borrow();
        for finding in &state.findings {
            findings.repeat(finding, output)?;
        }
        state.shard
    };
    // Sizes change while it runs; those of now are near enough for a bar.
    let sizes = (first..store.shard_count()).filter_map(|shard| store.read_shard(shard).ok());
    let total = sizes.map(|image| image.usage().bytes_to_verify()).sum();
    let shown = Rc::new(Shown::new(total));
    for shard in first..store.shard_count() {
        // Read anew: what was known of the last shards may be hours old by now.
        let found = match store.read_shard(shard) {
            Ok(image) => {
                findings.versions += image.objects().count() as u64;
                let after = state.borrow_mut().after.take();
                let options = ScrubOptions { rate: options.rate, after };
                let (bar, kept) = (shown.clone(), state.clone());
                let told = move |progress: Progress<'_>| {
                    kept.borrow_mut().tell(progress, &bar);
                    true
                };
                store.scrub_shard(&image, &options, told)?
            }
            Err(error) => vec![unreadable(shard, &error)],
        };
        let before = findings.lines.len();
        shown.suspend(|| findings.add(&store, found, output))?;
        let mut state = state.borrow_mut();
        state.findings.extend_from_slice(findings.lines.get(before..).unwrap_or_default());
        (state.shard, state.after) = (shard + 1, None);
        state.save()?;
    }
    shown.finish();
    let state = state.borrow();
    findings.verified_bytes = state.bytes;
    if let Some(file) = &state.file {
        fs::remove_file(file).map_err(|error| cannot("remove", file, &error))?;
    }
    findings.sum(true, output)
}

/// The least share of processor and disk: from the nice value the kernel takes the priority of reads too, where the
/// disk's scheduler knows priorities (Linux, Documentation/block/ioprio.rst). Without it the scrub still works.
fn yield_to_others() {
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        eprintln!("crossdock: running at normal priority: {error}");
    }
}

impl State {
    /// Where it was stopped, or the beginning.
    fn begin(store: &Store, file: Option<PathBuf>) -> Result<State, Failure> {
        let store = format!("{:032x}", store.superblock().store);
        let mut state =
            State { file, saved: clock::now(), store, shard: 0, after: None, bytes: 0, findings: Vec::new() };
        let Some(file) = state.file.clone() else { return Ok(state) };
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(state),
            Err(error) => return Err(cannot("read", &file, &error)),
        };
        let said = |what: &str| Failure::Said(format!("{}: {what}", file.display()));
        let kept: Value = serde_json::from_str(&text).map_err(|error| said(&error.to_string()))?;
        if kept["store"] != *state.store {
            return Err(said("is the state of another store"));
        }
        let shard = kept["shard"].as_u64().and_then(|shard| u16::try_from(shard).ok());
        state.shard = shard.ok_or_else(|| said("names no shard"))?;
        state.after = match &kept["after"] {
            Value::Null => None,
            Value::String(hex) => Some(from_hex(hex).ok_or_else(|| said("names no place"))?),
            _ => return Err(said("names no place")),
        };
        state.bytes = kept["bytes"].as_u64().unwrap_or(0);
        state.findings = kept["findings"].as_array().cloned().unwrap_or_default();
        Ok(state)
    }

    fn tell(&mut self, progress: Progress<'_>, bar: &Shown) {
        match progress {
            Progress::Bytes(count) => {
                self.bytes += count;
                bar.add(count);
            }
            Progress::Upto(place) => {
                self.after = Some(place.to_vec());
                if self.saved.elapsed() >= SAVE_EVERY
                    && let Err(failure) = self.save()
                {
                    bar.suspend(|| eprintln!("crossdock: {failure}"));
                }
            }
            _ => {}
        }
    }

    /// Writes it whole or not at all: a state cut off in the middle would lose all before it.
    fn save(&mut self) -> Result<(), Failure> {
        self.saved = clock::now();
        let Some(file) = &self.file else { return Ok(()) };
        let state = json!({
            "store": self.store, "shard": self.shard, "after": self.after.as_deref().map(hex),
            "bytes": self.bytes, "findings": self.findings,
        });
        let mut new = file.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        fs::write(&new, format!("{state}\n")).map_err(|error| cannot("write", &new, &error))?;
        fs::rename(&new, file).map_err(|error| cannot("rename", &new, &error))
    }
}

fn cannot(what: &str, file: &Path, error: &io::Error) -> Failure {
    Failure::Said(format!("cannot {what} {}: {error}", file.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place survives its text, and what is no text of a place is refused.
    #[test]
    fn places_are_kept_as_text() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&hex(&bytes)), Some(bytes));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
    }
}
