//! `crossdock dump`: any structure in words, also one that recovery would refuse.

use super::{Failure, StorePath, words};
use crossdock::{
    error::Region,
    inspect::{Access, Holder, Store},
    layout::{
        Anchor, BLOCK_BYTES, BatchHeader, ChunkHeader, DecodeError, Entry, LogPosition, ZONE_BYTES_MAX,
        superblock_offset,
    },
};
use std::io::Write;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    store: StorePath,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The superblock's copies on every device
    Superblock,
    /// The anchor's copies of a shard
    Anchor {
        /// The shard
        shard: u16,
    },
    /// Log batches, from where replay starts
    Log {
        /// The shard
        shard: u16,
        /// How many batches
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        count: u64,
        /// Begin with this batch
        #[arg(long, value_name = "SEQUENCE", default_value_t = 0, hide_default_value = true)]
        from: u64,
        /// Headers alone, no entries
        #[arg(long)]
        headers: bool,
    },
    /// The checkpoint of a shard: its chunks and entries
    Checkpoint {
        /// The shard
        shard: u16,
        /// Chunks alone, no entries
        #[arg(long)]
        headers: bool,
    },
    /// All that is known of an object
    Object {
        /// `bucket/key`
        #[arg(value_name = "BUCKET/KEY")]
        name: String,
    },
    /// What lies at an offset of a shard's log or data file, and who holds it
    At {
        /// The shard
        shard: u16,
        /// `log` or `data`
        #[arg(value_parser = region)]
        region: Region,
        /// Bytes from the start of the file, or of the device
        offset: u64,
    },
}

fn region(text: &str) -> Result<Region, String> {
    match text {
        "log" => Ok(Region::Log),
        "data" => Ok(Region::Data),
        other => Err(format!("{other:?} is neither log nor data")),
    }
}

pub(crate) fn run(options: &Options, output: &mut dyn Write) -> Result<bool, Failure> {
    let store = options.store.open(Access::Any)?;
    let check = |shard: u16| match shard < store.shard_count() {
        true => Ok(()),
        false => Err(Failure::Said(format!("the store has {} shards, from 0", store.shard_count()))),
    };
    match &options.what {
        What::Superblock => superblock(&store, output)?,
        What::Anchor { shard } => {
            check(*shard)?;
            anchor(&store, *shard, output)?;
        }
        What::Log { shard, count, from, headers } => {
            check(*shard)?;
            log(&store, *shard, *from, *count, !headers, output)?;
        }
        What::Checkpoint { shard, headers } => {
            check(*shard)?;
            checkpoint(&store, *shard, !headers, output)?;
        }
        What::Object { name } => object(&store, name, output)?,
        What::At { shard, region, offset } => {
            check(*shard)?;
            at(&store, *shard, *region, *offset, output)?;
        }
    }
    Ok(true)
}

fn superblock(store: &Store, output: &mut dyn Write) -> Result<(), Failure> {
    for (file, copies) in store.superblock_copies() {
        for (index, copy) in copies.iter().enumerate() {
            writeln!(output, "{} offset {}: copy {index}", file.display(), superblock_offset(index))?;
            match copy {
                Ok(superblock) => words::superblock(superblock, output)?,
                Err(error) => writeln!(output, "  {error}")?,
            }
        }
    }
    Ok(())
}

fn anchor(store: &Store, shard: u16, output: &mut dyn Write) -> Result<(), Failure> {
    let file = store.file(shard, Region::Log);
    for (index, copy) in store.anchor_copies(shard)?.into_iter().enumerate() {
        writeln!(output, "{} offset {}: copy {index}", file.display(), copy.offset)?;
        match copy.read {
            Ok(anchor) => words::anchor(&anchor, output)?,
            Err(error) => writeln!(output, "  {error}")?,
        }
    }
    Ok(())
}

/// The anchor that counts, or why none does.
fn chosen_anchor(store: &Store, shard: u16) -> Result<Anchor, Failure> {
    let copies: Vec<_> = store.anchor_copies(shard)?.into_iter().map(|copy| copy.read).collect();
    Anchor::choose(&copies).map_err(|error| {
        Failure::Said(format!("{}: the anchor: {error}", store.file(shard, Region::Log).display()))
    })
}

/// Goes from batch to batch by what each front copy says, and shows where that ends and why. What counts is for
/// recovery to say: see `fsck`.
fn log(
    store: &Store,
    shard: u16,
    from: u64,
    count: u64,
    entries: bool,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let anchor = chosen_anchor(store, shard)?;
    let (mut place, mut next_zone) = (anchor.log_start, anchor.log_next_zone);
    let (mut shown, mut sequence) = (0, anchor.log_sequence);
    while shown < count {
        let mut read = batch(store, shard, place)?;
        let follows = |read: &Result<(BatchHeader, Vec<u8>), DecodeError>| {
            read.as_ref().is_ok_and(|(header, _)| header.position == place && header.sequence == sequence)
        };
        if !follows(&read) && place.offset > 0 {
            place = LogPosition { zone: next_zone, offset: 0 };
            let next = batch(store, shard, place)?;
            if next.as_ref().is_ok_and(|(header, _)| header.position == place && header.sequence == sequence)
            {
                read = next;
            }
        }
        let (region, offset) = store.log_place(shard, place)?;
        let file = store.file(shard, region);
        let (header, bytes) = match read {
            Ok((header, bytes)) if header.position == place && header.sequence == sequence => (header, bytes),
            Ok((header, _)) => {
                writeln!(
                    output,
                    "ends before batch {sequence}: an older batch {} lies there",
                    header.sequence
                )?;
                break;
            }
            Err(error) => {
                writeln!(
                    output,
                    "ends before batch {sequence}, {} offset {offset}: {error}",
                    file.display()
                )?;
                break;
            }
        };
        if sequence >= from {
            shown += 1;
            writeln!(output, "{} offset {offset}", file.display())?;
            words::batch(&header, output)?;
            if entries {
                all_entries(&bytes, output)?;
            }
        }
        sequence += 1;
        next_zone = header.next_zone;
        place = LogPosition {
            zone: place.zone,
            offset: place.offset.saturating_add(header.total_blocks().saturating_mul(BLOCK_BYTES as u32)),
        };
    }
    Ok(())
}

/// The front copy of the batch that starts at a place, with its entries.
fn batch(
    store: &Store,
    shard: u16,
    place: LogPosition,
) -> Result<Result<(BatchHeader, Vec<u8>), DecodeError>, Failure> {
    if place.offset >= ZONE_BYTES_MAX {
        return Ok(Err(DecodeError::Truncated));
    }
    let (region, offset) = store.log_place(shard, place)?;
    let block = store.read_bytes(shard, region, offset, BLOCK_BYTES)?;
    let header = match BatchHeader::peek(&block, &store.secret()) {
        Ok((header, _)) => header,
        Err(error) => return Ok(Err(error)),
    };
    let copy = store.read_bytes(shard, region, offset, header.meta_blocks as usize * BLOCK_BYTES)?;
    let decoded = BatchHeader::decode(&copy, &store.secret());
    Ok(decoded.map(|(header, entries, _, _)| (header, entries.to_vec())))
}

fn all_entries(mut bytes: &[u8], output: &mut dyn Write) -> Result<(), Failure> {
    while !bytes.is_empty() {
        match Entry::decode(&mut bytes) {
            Ok(entry) => words::entry(&entry, output)?,
            Err(error) => {
                writeln!(output, "  an entry that does not read: {error}")?;
                break;
            }
        }
    }
    Ok(())
}

/// The chunks are chained backwards: they are read from the last, and shown from the first.
fn checkpoint(store: &Store, shard: u16, entries: bool, output: &mut dyn Write) -> Result<(), Failure> {
    let Some(root) = chosen_anchor(store, shard)?.checkpoint else {
        writeln!(output, "shard {shard} has no checkpoint yet")?;
        return Ok(());
    };
    let mut chunks = Vec::new();
    let mut next = Some(root.last_chunk);
    while let Some(place) = next {
        let (mut sound, mut wrong) = (None, Vec::new());
        for extent in place.copies {
            let (region, offset) = store.data_place(shard, extent)?;
            let file = store.file(shard, region);
            let bytes = store.read_bytes(shard, region, offset, extent.bytes() as usize)?;
            let what = match ChunkHeader::open(&bytes, &store.secret()) {
                Ok((header, stream, hash)) if hash == place.hash => {
                    sound.get_or_insert_with(|| ((file, offset), header, stream.to_vec()));
                    continue;
                }
                Ok(_) => "another chunk than the one that is named".to_owned(),
                Err(error) => error.to_string(),
            };
            wrong.push(format!("{} offset {offset}: {what}", file.display()));
        }
        let Some(chunk) = sound else { return Err(Failure::Said(wrong.join("\n"))) };
        wrong.iter().try_for_each(|line| writeln!(output, "damaged copy: {line}"))?;
        next = chunk.1.previous;
        chunks.push(chunk);
    }
    writeln!(output, "checkpoint {}: {} chunks, {} entries", root.id, root.chunk_count, root.entry_count)?;
    chunks.reverse();
    for ((file, offset), header, _) in &chunks {
        writeln!(
            output,
            "  {} offset {offset}: chunk {} of epoch {}, {} bytes",
            file.display(),
            header.index,
            header.epoch,
            header.bytes
        )?;
    }
    if entries {
        let stream: Vec<u8> = chunks.into_iter().flat_map(|(_, _, stream)| stream).collect();
        all_entries(&stream, output)?;
    }
    Ok(())
}

fn object(store: &Store, name: &str, output: &mut dyn Write) -> Result<(), Failure> {
    let absent = || Failure::Said(format!("there is no object {name:?}"));
    let (bucket, key) = name.split_once('/').ok_or_else(absent)?;
    let image = store.read_shard(store.shard_of(bucket, key.as_bytes()))?;
    let known = image.buckets().find(|known| *known.record.name == *bucket).ok_or_else(absent)?;
    let versions = image.objects_with_prefix(known.record.bucket, key.as_bytes());
    let mut found = false;
    for entry in versions.filter(|entry| entry.key == key.as_bytes()) {
        found = true;
        writeln!(output, "{name}, shard {}", image.shard())?;
        words::record(entry.record, output)?;
    }
    if found { Ok(()) } else { Err(absent()) }
}

/// What the bytes at an offset read as, and who holds them.
fn at(store: &Store, shard: u16, region: Region, offset: u64, output: &mut dyn Write) -> Result<(), Failure> {
    let file = store.file(shard, region);
    let start = offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
    let block = store.read_bytes(shard, region, start, BLOCK_BYTES)?;
    if block.is_empty() {
        return Err(Failure::Said(format!("{} ends before offset {offset}", file.display())));
    }
    writeln!(output, "{} offset {offset}, in the block at {start}", file.display())?;
    let secret = store.secret();
    if let Ok(anchor) = Anchor::decode(&block, &secret) {
        words::anchor(&anchor, output)?;
    } else if let Ok((header, is_back)) = BatchHeader::peek(&block, &secret) {
        writeln!(output, "  {} copy of a log batch", if is_back { "back" } else { "front" })?;
        words::batch(&header, output)?;
    } else if block.starts_with(b"XDKCHUNK") {
        let bytes =
            store.read_bytes(shard, region, start, store.superblock().geometry.zone_bytes as usize)?;
        match ChunkHeader::open(&bytes, &secret) {
            Ok((header, ..)) => writeln!(
                output,
                "  chunk {} of checkpoint {}, epoch {}, {} bytes",
                header.index, header.checkpoint, header.epoch, header.bytes
            )?,
            Err(error) => writeln!(output, "  looks like a chunk of a checkpoint: {error}")?,
        }
    } else if block.iter().all(|byte| *byte == 0) {
        writeln!(output, "  zeros")?;
    } else {
        writeln!(output, "  no metadata")?;
    }
    let image = match store.read_shard(shard) {
        Ok(image) => image,
        Err(error) => {
            writeln!(output, "  who holds it is not known: {}", Failure::Open(error))?;
            return Ok(());
        }
    };
    let holders = store.holders(&image, region, offset)?;
    for holder in &holders {
        match holder {
            Holder::Checkpoint(_) => writeln!(output, "  held by the checkpoint")?,
            Holder::Batch { sequence } => writeln!(output, "  held by log batch {sequence}")?,
            Holder::Object(name) => writeln!(output, "  held by {name}")?,
            other => writeln!(output, "  held by {other:?}")?,
        }
    }
    if holders.is_empty() {
        writeln!(output, "  held by nothing that counts")?;
    }
    Ok(())
}
