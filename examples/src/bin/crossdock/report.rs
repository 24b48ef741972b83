//! What several commands say about a store: its shards as far as they can be read, its buckets, what is wrong with it.

use super::{Failure, units};
use crossdock::{
    BucketUsage,
    inspect::{Finding, Severity, ShardImage, Store},
    layout::BucketRecord,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Write, path::PathBuf, rc::Rc};

/// Every shard that can be read, and why the others can not.
pub(crate) fn shards(store: &Store) -> (Vec<Rc<ShardImage>>, Vec<(u16, String)>) {
    let (mut images, mut unreadable) = (Vec::new(), Vec::new());
    for shard in 0..store.shard_count() {
        match store.read_shard(shard) {
            Ok(image) => images.push(image),
            Err(error) => unreadable.push((shard, Failure::Open(error).to_string())),
        }
    }
    (images, unreadable)
}

/// A bucket over all shards.
pub(crate) struct BucketTotal {
    pub(crate) record: BucketRecord,
    pub(crate) usage: BucketUsage,
    /// Whether the shard that decides knows it.
    pub(crate) at_home: bool,
}

/// The buckets that exist, by name. When the shard that decides about one can not be read, it counts as existing.
pub(crate) fn buckets<'a>(
    store: &Store,
    images: impl Iterator<Item = &'a Rc<ShardImage>>,
) -> Vec<BucketTotal> {
    let mut totals: BTreeMap<(Box<str>, u64), BucketTotal> = BTreeMap::new();
    let mut readable = Vec::new();
    for image in images {
        readable.push(image.shard());
        for bucket in image.buckets() {
            let key = (bucket.record.name.clone(), bucket.record.bucket.0);
            let total = totals.entry(key).or_insert_with(|| BucketTotal {
                record: bucket.record.clone(),
                usage: BucketUsage::default(),
                at_home: false,
            });
            if bucket.record.revision > total.record.revision {
                total.record = bucket.record.clone();
            }
            total.usage.add(bucket.usage);
            total.at_home |= store.home_of(&bucket.record.name) == image.shard();
        }
    }
    let exists =
        |bucket: &BucketTotal| bucket.at_home || !readable.contains(&store.home_of(&bucket.record.name));
    totals.into_values().filter(exists).collect()
}

/// Findings as they come, and their sum at the end.
pub(crate) struct Findings {
    json: bool,
    store: String,
    shards: u16,
    counts: BTreeMap<String, u64>,
    /// All that was said.
    pub(crate) lines: Vec<Value>,
    pub(crate) versions: u64,
    pub(crate) verified_bytes: u64,
    /// Whether a torn copy is no fault: after a crash it is not.
    pub(crate) tolerate_torn: bool,
}

impl Findings {
    pub(crate) fn new(store: &Store, json: bool) -> Findings {
        Findings {
            json,
            store: format!("{:032x}", store.superblock().store),
            shards: store.shard_count(),
            counts: BTreeMap::new(),
            lines: Vec::new(),
            versions: 0,
            verified_bytes: 0,
            tolerate_torn: false,
        }
    }

    pub(crate) fn add_superblocks(&mut self, store: &Store, output: &mut dyn Write) -> Result<(), Failure> {
        let files: Vec<PathBuf> = store.superblock_copies().map(|(file, _)| file).collect();
        for (device, finding) in store.check_superblocks() {
            self.say(&finding, files.get(device).cloned(), output)?;
        }
        Ok(())
    }

    pub(crate) fn add(
        &mut self,
        store: &Store,
        findings: impl IntoIterator<Item = Finding>,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        for finding in findings {
            let place = finding.shard.zip(finding.region);
            let file = place.map(|(shard, region)| store.file(shard, region));
            self.say(&finding, file, output)?;
        }
        Ok(())
    }

    fn say(
        &mut self,
        finding: &Finding,
        file: Option<PathBuf>,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        let object = finding.object.as_ref();
        let line = json!({
            "severity": finding.severity.to_string(),
            "shard": finding.shard,
            "file": file.map(|file| file.display().to_string()),
            "offset": finding.offset,
            "bucket": object.map(|object| &object.bucket),
            "key": object.map(|object| String::from_utf8_lossy(&object.key)),
            "version": object.and_then(|object| object.version).map(|version| format!("{:x}", version.0)),
            "part": object.and_then(|object| object.part),
            "object": object.map(ToString::to_string),
            "problem": finding.problem.to_string(),
        });
        self.repeat(&line, output)
    }

    /// Says one, in one line; also one that was said before by a run that this one goes on from.
    pub(crate) fn repeat(&mut self, line: &Value, output: &mut dyn Write) -> Result<(), Failure> {
        let text = |field: &str| line[field].as_str();
        *self.counts.entry(text("severity").unwrap_or("damage").to_owned()).or_default() += 1;
        if self.json {
            writeln!(output, "{line}")?;
        } else {
            let mut place = Vec::new();
            place.extend(line["shard"].as_u64().map(|shard| format!("shard {shard}")));
            place.extend(match (text("file"), line["offset"].as_u64()) {
                (Some(file), Some(offset)) => Some(format!("{file} offset {offset}")),
                (file, _) => file.map(str::to_owned),
            });
            place.extend(text("object").map(str::to_owned));
            let (severity, problem) = (text("severity").unwrap_or("damage"), text("problem").unwrap_or(""));
            writeln!(output, "{severity}: {}: {problem}", place.join(", "))?;
        }
        self.lines.push(line.clone());
        Ok(())
    }

    fn count(&self, severity: Severity) -> u64 {
        self.counts.get(&severity.to_string()).copied().unwrap_or(0)
    }

    /// Says the sum; whether there is nothing but notes.
    pub(crate) fn sum(&self, data: bool, output: &mut dyn Write) -> Result<bool, Failure> {
        let severities = [Severity::Damage, Severity::Degraded, Severity::Torn, Severity::Note];
        let [damage, degraded, torn, notes] = severities.map(|severity| self.count(severity));
        let clean = damage + degraded == 0 && (torn == 0 || self.tolerate_torn);
        if self.json {
            let line = json!({
                "clean": clean, "store": self.store, "shards": self.shards, "versions": self.versions,
                "verified_bytes": data.then_some(self.verified_bytes),
                "damage": damage, "degraded": degraded, "torn": torn, "notes": notes,
            });
            writeln!(output, "{line}")?;
            return Ok(clean);
        }
        let verified = match data {
            true => format!("{} verified", units::size(self.verified_bytes)),
            false => "data not read".to_owned(),
        };
        let word = if clean { "clean" } else { "not clean" };
        writeln!(
            output,
            "{word}: {} shards, {} versions, {verified}; {damage} damaged, {degraded} degraded, {torn} torn, {notes} notes",
            self.shards, self.versions
        )?;
        Ok(clean)
    }
}
