//! `crossdock ls`: buckets, and the objects of one.

use super::{Failure, StorePath, report, units, words};
use crossdock::inspect::{Access, ObjectEntry};
use serde_json::json;
use std::io::Write;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    store: StorePath,
    /// `bucket` or `bucket/prefix`; without it, the buckets
    #[arg(value_name = "BUCKET[/PREFIX]")]
    name: Option<String>,
    /// Every version, delete markers and what they hide included
    #[arg(long)]
    versions: bool,
    /// One JSON document a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options, output: &mut dyn Write) -> Result<bool, Failure> {
    let store = options.store.open(Access::Any)?;
    let (images, unreadable) = report::shards(&store);
    let buckets = report::buckets(&store, images.iter());
    match &options.name {
        None => {
            for bucket in buckets {
                let created = units::time(bucket.record.created_ms);
                if options.json {
                    let line = json!({
                        "bucket": bucket.record.name, "created": created,
                        "objects": bucket.usage.objects, "versions": bucket.usage.versions, "bytes": bucket.usage.bytes,
                        "versioning": words::versioning(bucket.record.versioning),
                    });
                    writeln!(output, "{line}")?;
                } else {
                    let size = units::size(bucket.usage.bytes);
                    writeln!(
                        output,
                        "{created} {:>10} {size:>10}  {}",
                        bucket.usage.versions, bucket.record.name
                    )?;
                }
            }
        }
        Some(name) => {
            let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
            let found = buckets.iter().find(|found| *found.record.name == *bucket);
            let found = found.ok_or_else(|| Failure::Said(format!("there is no bucket {bucket:?}")))?;
            let shards = images.iter();
            let mut entries: Vec<ObjectEntry<'_>> = shards
                .flat_map(|image| image.objects_with_prefix(found.record.bucket, prefix.as_bytes()))
                .collect();
            // Each shard's are sorted, newest version first: a merge of runs, which this sort makes use of.
            entries.sort_by(|a, b| a.key.cmp(&b.key).then(b.record.version.cmp(&a.record.version)));
            list(&entries, options, output)?;
        }
    }
    if let Some((shard, error)) = unreadable.first() {
        // A list that lacks keys must not look whole.
        let count = unreadable.len();
        return Err(Failure::Said(format!(
            "the list is not whole: {count} shards can not be read; shard {shard}: {error}"
        )));
    }
    Ok(true)
}

fn list(entries: &[ObjectEntry<'_>], options: &Options, output: &mut dyn Write) -> Result<(), Failure> {
    let mut previous: Option<&[u8]> = None;
    for entry in entries {
        let is_latest = previous != Some(&entry.key);
        previous = Some(&entry.key);
        let record = entry.record;
        if !options.versions && (!is_latest || record.delete_marker) {
            continue;
        }
        let modified = units::time(record.modified_ms);
        let etag = String::from_utf8_lossy(record.etag.as_bytes()).into_owned();
        if options.json {
            let mut line = json!({
                "size": record.size, "modified": modified, "etag": etag,
                "crc64nvme": format!("{:016x}", record.crc64),
                "version": format!("{:x}", record.version.0),
                "latest": is_latest, "delete_marker": record.delete_marker, "null_version": record.null,
            });
            match std::str::from_utf8(&entry.key) {
                Ok(key) => line["key"] = key.into(),
                // What is no text is given as bytes, so that nothing is lost.
                Err(_) => line["key_bytes"] = entry.key.clone().into(),
            }
            writeln!(output, "{line}")?;
        } else {
            let size = if record.delete_marker { "deleted".to_owned() } else { units::size(record.size) };
            let version = match options.versions {
                true => format!("{:016x} ", record.version.0),
                false => String::new(),
            };
            writeln!(output, "{modified} {size:>10} {etag:<34} {version}{}", units::key(&entry.key))?;
        }
    }
    Ok(())
}
