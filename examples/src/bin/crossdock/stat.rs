//! `crossdock stat`: how much of what a store holds, in all and by shard.

use super::{Failure, StorePath, report::shards, units};
use crossdock::inspect::{Access, ShardImage, ShardUsage, Store};
use serde_json::json;
use std::{io::Write, rc::Rc};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    store: StorePath,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options, output: &mut dyn Write) -> Result<bool, Failure> {
    let store = options.store.open(Access::Any)?;
    let (images, unreadable) = shards(&store);
    let usages: Vec<(&Rc<ShardImage>, ShardUsage)> =
        images.iter().map(|image| (image, image.usage())).collect();
    if options.json {
        writeln!(output, "{:#}", document(&store, &usages, &unreadable))?;
    } else {
        text(&store, &usages, output)?;
        for (shard, error) in &unreadable {
            writeln!(output, "shard {shard} can not be read: {error}")?;
        }
    }
    Ok(unreadable.is_empty())
}

fn total(usages: &[(&Rc<ShardImage>, ShardUsage)], of: impl Fn(&ShardUsage) -> u64) -> u64 {
    usages.iter().map(|(_, usage)| of(usage)).sum()
}

fn text(
    store: &Store,
    usages: &[(&Rc<ShardImage>, ShardUsage)],
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let superblock = store.superblock();
    let sum = |of: fn(&ShardUsage) -> u64| total(usages, of);
    let zone = u64::from(superblock.geometry.zone_bytes);
    let state = if store.is_in_use() { "open in another process" } else { "closed" };
    writeln!(
        output,
        "store      {:032x}, {state}, made {}",
        superblock.store,
        units::time(superblock.created_ms)
    )?;
    writeln!(
        output,
        "layout     {} shards on {} devices, zones of {}, inline up to {}, packed up to {}",
        store.shard_count(),
        superblock.device_count,
        units::size(zone),
        units::size(u64::from(superblock.geometry.inline_bytes_max)),
        units::size(u64::from(superblock.geometry.packed_bytes_max)),
    )?;
    let buckets = super::report::buckets(store, usages.iter().map(|(image, _)| *image));
    writeln!(
        output,
        "objects    {} versions ({} delete markers) of {}, in {} buckets; {} uploads of {}",
        sum(|u| u.versions),
        sum(|u| u.delete_markers),
        units::size(sum(|u| u.object_bytes)),
        buckets.len(),
        sum(|u| u.uploads),
        units::size(sum(|u| u.upload_bytes)),
    )?;
    writeln!(
        output,
        "space      {} in extents, {} packed in the log, {} inline, {} of checkpoints; {} free, {} not claimed yet",
        units::size(sum(|u| u.extent_bytes)),
        units::size(sum(|u| u.packed_bytes)),
        units::size(sum(|u| u.inline_bytes)),
        units::size(sum(|u| u.checkpoint_bytes)),
        units::size(sum(|u| u.extent_bytes_free)),
        units::size(sum(|u| u.bytes_unclaimed)),
    )?;
    writeln!(
        output,
        "log        {} zones of which {} are replayed and {} kept for packed objects; since the checkpoints {} in {} batches",
        sum(|u| u.log_zones.into()),
        sum(|u| u.log_zones_replayed.into()),
        sum(|u| u.log_zones_packed.into()),
        units::size(sum(|u| u.log_bytes)),
        sum(|u| u.log_batches),
    )?;
    writeln!(output)?;
    writeln!(
        output,
        "{:>5} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9} {:>10} {:>8} {:>10}",
        "shard",
        "versions",
        "bytes",
        "extents",
        "packed",
        "free",
        "log zones",
        "log",
        "batches",
        "checkpoint"
    )?;
    for (image, usage) in usages {
        let checkpoint = image.checkpoint().map_or("none".to_owned(), |root| format!("#{}", root.id));
        writeln!(
            output,
            "{:>5} {:>10} {:>10} {:>10} {:>10} {:>10} {:>9} {:>10} {:>8} {:>10}",
            image.shard(),
            usage.versions,
            units::size(usage.object_bytes),
            units::size(usage.extent_bytes),
            units::size(usage.packed_bytes),
            units::size(usage.extent_bytes_free),
            usage.log_zones,
            units::size(usage.log_bytes),
            usage.log_batches,
            checkpoint,
        )?;
        if let Some(hole) = image.hole() {
            writeln!(
                output,
                "      the log breaks off at offset {}: what came after is unknown",
                hole.offset
            )?;
        }
        if let Some(scrub) = image.scrub() {
            writeln!(output, "      {}", super::words::scrub(scrub))?;
        }
    }
    writeln!(output)?;
    writeln!(
        output,
        "{:>10} {:>10} {:>10} {:>8} {:>10}  bucket",
        "objects", "versions", "bytes", "uploads", "of uploads"
    )?;
    for bucket in &buckets {
        let usage = bucket.usage;
        writeln!(
            output,
            "{:>10} {:>10} {:>10} {:>8} {:>10}  {}",
            usage.objects,
            usage.versions,
            units::size(usage.bytes),
            usage.uploads,
            units::size(usage.upload_bytes),
            bucket.record.name,
        )?;
    }
    Ok(())
}

fn document(
    store: &Store,
    usages: &[(&Rc<ShardImage>, ShardUsage)],
    unreadable: &[(u16, String)],
) -> serde_json::Value {
    let superblock = store.superblock();
    let buckets: Vec<_> = super::report::buckets(store, usages.iter().map(|(image, _)| *image))
        .into_iter()
        .map(|bucket| {
            let usage = bucket.usage;
            json!({
                "name": bucket.record.name, "objects": usage.objects, "versions": usage.versions,
                "delete_markers": usage.delete_markers, "bytes": usage.bytes,
                "uploads": usage.uploads, "upload_bytes": usage.upload_bytes,
            })
        })
        .collect();
    json!({
        "store": format!("{:032x}", superblock.store),
        "in_use": store.is_in_use(),
        "created": units::time(superblock.created_ms),
        "devices": superblock.device_count,
        "zone_bytes": superblock.geometry.zone_bytes,
        "zones_max": superblock.geometry.zones_max,
        "mixed": superblock.geometry.mixed,
        "inline_bytes_max": superblock.geometry.inline_bytes_max,
        "packed_bytes_max": superblock.geometry.packed_bytes_max,
        "buckets": buckets,
        "total": usage_document(&usages.iter().fold(Vec::new(), |mut all, (_, usage)| { all.push(*usage); all })),
        "shards": usages.iter().map(|(image, usage)| {
            let mut shard = usage_document(&[*usage]);
            shard["shard"] = image.shard().into();
            shard["epoch"] = image.anchor().epoch.into();
            shard["next_sequence"] = image.next_sequence().into();
            shard["checkpoint"] = image.checkpoint().map(|root| json!({
                "id": root.id, "entries": root.entry_count, "chunks": root.chunk_count,
            })).into();
            shard["scrub"] = image.scrub().map(super::words::scrub).into();
            shard["hole"] = image.hole().map(|hole| hole.offset).into();
            shard
        }).collect::<Vec<_>>(),
        "unreadable": unreadable.iter().map(|(shard, error)| json!({ "shard": shard, "error": error })).collect::<Vec<_>>(),
    })
}

fn usage_document(usages: &[ShardUsage]) -> serde_json::Value {
    let sum = |of: fn(&ShardUsage) -> u64| usages.iter().map(of).sum::<u64>();
    json!({
        "versions": sum(|u| u.versions),
        "delete_markers": sum(|u| u.delete_markers),
        "object_bytes": sum(|u| u.object_bytes),
        "uploads": sum(|u| u.uploads),
        "upload_bytes": sum(|u| u.upload_bytes),
        "inline_bytes": sum(|u| u.inline_bytes),
        "packed_bytes": sum(|u| u.packed_bytes),
        "extent_bytes": sum(|u| u.extent_bytes),
        "checkpoint_bytes": sum(|u| u.checkpoint_bytes),
        "extent_bytes_free": sum(|u| u.extent_bytes_free),
        "bytes_unclaimed": sum(|u| u.bytes_unclaimed),
        "data_zones": sum(|u| u.data_zones.into()),
        "log_zones": sum(|u| u.log_zones.into()),
        "log_zones_replayed": sum(|u| u.log_zones_replayed.into()),
        "log_zones_packed": sum(|u| u.log_zones_packed.into()),
        "log_bytes": sum(|u| u.log_bytes),
        "log_batches": sum(|u| u.log_batches),
        "log_entries": sum(|u| u.log_entries),
        "mended": sum(|u| u.mended),
    })
}
