//! Structures in words, field by field. Never the store's secret.

use super::units;
use crossdock::layout::{
    Anchor, BatchHeader, ChecksumTable, Content, Entry, Extent, PackedOwner, Part, Record, ScrubPosition,
    ScrubRecord, Superblock, Versioning,
};
use std::io::{self, Write};

pub(crate) fn superblock(superblock: &Superblock, output: &mut dyn Write) -> io::Result<()> {
    let geometry = &superblock.geometry;
    writeln!(output, "  store {:032x}, epoch {}", superblock.store, superblock.epoch)?;
    writeln!(output, "  made {}, features {:#x}", units::time(superblock.created_ms), superblock.features)?;
    writeln!(
        output,
        "  device {} of {}, its first shard {} of {}",
        superblock.device_index + 1,
        superblock.device_count,
        superblock.shard_first,
        geometry.shard_count
    )?;
    writeln!(
        output,
        "  zones of {} bytes, at most {} a shard{}; inline up to {}, packed up to {} bytes",
        geometry.zone_bytes,
        geometry.zones_max,
        if geometry.mixed { "" } else { " and file" },
        geometry.inline_bytes_max,
        geometry.packed_bytes_max
    )
}

pub(crate) fn anchor(anchor: &Anchor, output: &mut dyn Write) -> io::Result<()> {
    writeln!(output, "  shard {}, generation {}", anchor.shard, anchor.generation)?;
    writeln!(output, "  epoch {} from batch {}", anchor.epoch, anchor.epoch_start)?;
    writeln!(
        output,
        "  replay from batch {} at zone {} offset {}, after {:?}; then zone {}",
        anchor.log_sequence,
        anchor.log_start.zone,
        anchor.log_start.offset,
        anchor.log_previous,
        anchor.log_next_zone
    )?;
    match anchor.checkpoint {
        None => writeln!(output, "  no checkpoint"),
        Some(root) => writeln!(
            output,
            "  checkpoint {} of {} entries in {} chunks, the last at {}",
            root.id,
            root.entry_count,
            root.chunk_count,
            root.last_chunk.copies.each_ref().map(extent).join(" and ")
        ),
    }
}

pub(crate) fn batch(header: &BatchHeader, output: &mut dyn Write) -> io::Result<()> {
    writeln!(
        output,
        "  batch {} of epoch {}, at zone {} offset {}; then zone {}",
        header.sequence, header.epoch, header.position.zone, header.position.offset, header.next_zone
    )?;
    writeln!(
        output,
        "  {} entries; blocks: {} of metadata twice, {} of payload; durable up to {}; after {:?}",
        header.entry_count, header.meta_blocks, header.payload_blocks, header.durable_upto, header.previous
    )
}

pub(crate) fn entry(entry: &Entry, output: &mut dyn Write) -> io::Result<()> {
    match entry {
        Entry::PutObject { bucket, key, record: put } => {
            writeln!(output, "  put object, bucket {} key {}", bucket.0, units::key(key))?;
            record(put, output)
        }
        Entry::RemoveVersion { bucket, key, version } => {
            writeln!(output, "  remove version {:x}, bucket {} key {}", version.0, bucket.0, units::key(key))
        }
        Entry::PutBucket(record) => writeln!(
            output,
            "  put bucket {} {}, made {}, {} bytes of attributes, {} documents, versioning {}, revision {:x}",
            record.bucket.0,
            record.name,
            units::time(record.created_ms),
            record.attributes.len(),
            record.documents.len(),
            versioning(record.versioning),
            record.revision
        ),
        Entry::RemoveBucket { bucket } => writeln!(output, "  remove bucket {}", bucket.0),
        Entry::CreateUpload(record) => writeln!(
            output,
            "  create upload {:032x}, bucket {} key {}, made {}",
            record.upload.0,
            record.bucket.0,
            units::key(&record.key),
            units::time(record.created_ms)
        ),
        Entry::PutPart { upload, part: put } => {
            writeln!(output, "  put part of upload {:032x}", upload.0)?;
            part(put, output)
        }
        Entry::CompleteUpload { upload, record: made, parts } => {
            writeln!(output, "  complete upload {:032x} with parts {parts:?}", upload.0)?;
            record(made, output)
        }
        Entry::SetAttributes { bucket, key, version, attributes } => writeln!(
            output,
            "  set {} bytes of attributes of version {:x}, bucket {} key {}",
            attributes.len(),
            version.0,
            bucket.0,
            units::key(key)
        ),
        Entry::Scrub(record) => writeln!(output, "  {}", scrub(record)),
        Entry::AbortUpload { upload } => writeln!(output, "  abort upload {:032x}", upload.0),
        Entry::MovePacked { owner, from, to } => {
            write!(output, "  move from log zone {} offset {}: ", from.zone, from.offset)?;
            match owner {
                PackedOwner::Version { bucket, key, version, part } => {
                    let part = part.map_or(String::new(), |part| format!(" part {part}"));
                    let key = units::key(key);
                    writeln!(output, "version {:x}{part}, bucket {} key {key}", version.0, bucket.0)?;
                }
                PackedOwner::Part { upload, number } => {
                    writeln!(output, "part {number} of upload {:032x}", upload.0)?;
                }
            }
            content(to, output)
        }
    }
}

/// How far a shard's scrub is.
pub(crate) fn scrub(record: &ScrubRecord) -> String {
    let position = match &record.position {
        ScrubPosition::Over => format!("ended {}", units::time(record.finished_ms)),
        ScrubPosition::Start => "begins".to_owned(),
        ScrubPosition::Behind { bucket, key, version } => {
            format!("is behind bucket {} key {} version {:x}", bucket.0, units::key(key), version.0)
        }
        ScrubPosition::Versions => "is behind all versions".to_owned(),
    };
    let (tour, began) = (record.tour, units::time(record.started_ms));
    let (bytes, findings) = (units::size(record.bytes), record.findings);
    format!("scrub: tour {tour}, begun {began}, {position}; {bytes} verified, {findings} findings")
}

/// Whether a bucket keeps versions, in a word.
pub(crate) fn versioning(versioning: Versioning) -> &'static str {
    match versioning {
        Versioning::Never => "never",
        Versioning::Enabled => "enabled",
        Versioning::Suspended => "suspended",
    }
}

pub(crate) fn record(record: &Record, output: &mut dyn Write) -> io::Result<()> {
    let mut flags = String::new();
    for (set, name) in [(record.null, ", null version"), (record.delete_marker, ", delete marker")] {
        flags.push_str(if set { name } else { "" });
    }
    writeln!(
        output,
        "    version {:x}{flags}, {} bytes, {}, crc64nvme {:016x}, etag {:?}, {} bytes of attributes",
        record.version.0,
        record.size,
        units::time(record.modified_ms),
        record.crc64,
        record.etag,
        record.attributes.len()
    )?;
    if let Some(upload) = record.upload {
        writeln!(output, "    made by upload {:032x}", upload.0)?;
    }
    content(&record.content, output)
}

fn part(part: &Part, output: &mut dyn Write) -> io::Result<()> {
    writeln!(
        output,
        "    part {}, {} bytes, {}, crc64nvme {:016x}, etag {:?}",
        part.number,
        part.bytes,
        units::time(part.modified_ms),
        part.crc64,
        part.etag
    )?;
    content(&part.content, output)
}

fn content(content: &Content, output: &mut dyn Write) -> io::Result<()> {
    match content {
        Content::Empty => writeln!(output, "    no bytes"),
        Content::Inline(bytes) => writeln!(output, "    {} bytes inline", bytes.len()),
        Content::Packed { place, bytes, checksums } => {
            writeln!(output, "    {bytes} bytes packed at log zone {} offset {}", place.zone, place.offset)?;
            sums(checksums, 16_384, output)
        }
        Content::Extents { extents, bytes, checksums } => {
            let places: Vec<String> = extents.iter().map(extent).collect();
            writeln!(output, "    {bytes} bytes in extents: {}", places.join("; "))?;
            match checksums {
                ChecksumTable::Here(checksums) => sums(checksums, 65_536, output),
                ChecksumTable::Away { extent: at, bytes, checksum } => {
                    writeln!(
                        output,
                        "    {bytes} bytes of checksums at {}, crc64nvme {checksum:016x}",
                        extent(at)
                    )
                }
            }
        }
        Content::Parts(parts) => parts.iter().try_for_each(|each| part(each, output)),
    }
}

fn sums(checksums: &[u64], block: u32, output: &mut dyn Write) -> io::Result<()> {
    write!(output, "    crc64nvme of each {block} bytes:")?;
    checksums.iter().try_for_each(|sum| write!(output, " {sum:016x}"))?;
    writeln!(output)
}

fn extent(extent: &Extent) -> String {
    format!(
        "data zone {} unit {} order {} ({})",
        extent.zone,
        extent.unit,
        extent.order,
        units::size(extent.bytes())
    )
}
