//! The storage engine inside a program of your own: no server, no runtime, no HTTP.
//!
//! ```text
//! cargo run --release --example embed -- ./embed-data
//! ```

use crossdock::{Engine, GetOptions, ListItem, ListOptions, Select, Which};
use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "embed-data".into());
    run(Path::new(&path))
}

fn run(path: &Path) -> Result<(), Box<dyn Error>> {
    // Opens the store in this directory, or makes one. One thread for each core; the store is open until `close`, and
    // what was acknowledged is safe even if the process is killed.
    let engine = Engine::builder().path(path).cores(1).open()?;

    // A shard that can not be opened takes no other with it, and one with a damaged log is read and not written. A program that wants
    // neither asks for `require_all_shards`, or looks:
    for (shard, reason) in &engine.report().unavailable {
        eprintln!("shard {shard} is not available: {reason}");
    }
    for shard in engine.report().shards.iter().filter(|shard| shard.hole.is_some()) {
        eprintln!("shard {} takes no writes", shard.shard);
    }

    // The handle's futures work on any runtime. This program has none and simply waits.
    crossdock::block_on(async {
        // Buckets separate names; a second run finds the one of the first.
        match engine.create_bucket("notes", bytes::Bytes::new()).await {
            Ok(_) | Err(crossdock::Error::BucketExists) => {}
            Err(error) => return Err(error),
        }

        // Durable when it returns: bytes and name, or nothing at all.
        let text = "What the log says is durable, is.";
        let info = engine.put_bytes("notes", b"2026/first", text.into()).await?;
        println!(
            "put {} bytes, CRC64NVME {:016x}, tag {}",
            info.size,
            info.crc64,
            show(info.etag.as_bytes())
        );

        // Bytes come as leases of the engine's own memory: verified, not copied.
        let select = Select::Between(5, 11);
        let mut stream =
            engine.get("notes", b"2026/first", GetOptions { select, version: Which::Current }).await?;
        while let Some(chunk) = stream.next().await {
            println!("got {:?}", show(&chunk?));
        }

        // Pages in bytewise order; what lies below a delimiter is one line, as in a directory.
        let options = ListOptions { delimiter: b"/".to_vec(), ..ListOptions::default() };
        for item in engine.list("notes", options).await?.items {
            match item {
                ListItem::Object { key, info } => println!("{} ({} bytes)", show(&key), info.size),
                ListItem::CommonPrefix(prefix) => println!("{}…", show(&prefix)),
            }
        }
        Ok(())
    })?;

    // Takes a checkpoint, so that the next open has nothing to replay.
    engine.close();
    Ok(())
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    /// The lesson works as it stands, on a new store and on the one it left behind.
    #[test]
    fn the_lesson_works() {
        let directory = tempfile::tempdir().unwrap();
        super::run(directory.path()).unwrap();
        super::run(directory.path()).unwrap();
    }
}
